//! What lies in a file that is no container: so that whoever takes it for one is told.

use crate::{
    error::Result,
    format::signature::{self, Owner, is_boot_sector},
    storage::Storage,
};

/// What is recognised, in words that complete "this is ...". `None` for what could be random bytes, as containers of
/// TrueCrypt and VeraCrypt are.
///
/// # Errors
/// What reading gave.
pub fn recognise(storage: &dyn Storage) -> Result<Option<&'static str>> {
    let head = signature::read_head(storage)?;
    if head.is_empty() {
        return Ok(Some(EMPTY));
    }
    if let Some(found) = signature::recognise(&head) {
        return Ok(Some(found.name));
    }
    if head.first_chunk() == Some(&[0; 512]) {
        return Ok(Some(ZEROS));
    }
    let is_text = |byte: u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    let start: Option<&[u8; 32]> = head.first_chunk();
    Ok(start.is_some_and(|start| start.iter().copied().all(is_text)).then_some("a text file"))
}

/// As [`recognise`], without what is nothing to lose: a file that is empty or starts with zeros, as one whose header was wiped.
///
/// # Errors
/// What reading gave.
pub fn recognise_data(storage: &dyn Storage) -> Result<Option<&'static str>> {
    Ok(recognise(storage)?.filter(|found| *found != ZEROS && *found != EMPTY))
}

/// What the first bytes of `storage` look like, where they look like the work of another program that took the place of a
/// header for its own.
pub fn trace_at_start(storage: &dyn Storage) -> Option<&'static str> {
    let head = signature::read_head(storage).ok()?;
    match signature::recognise(&head) {
        Some(found) if found.owner == Owner::Native => None,
        Some(found) => Some(found.name),
        None => is_boot_sector(&head).then_some("a partition table or boot sector"),
    }
}

const EMPTY: &str = "an empty file";
const ZEROS: &str = "a file that starts with zeros";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    #[test]
    fn short_and_empty_files_are_looked_at_as_far_as_they_go() {
        let of = |bytes: &[u8]| recognise(&MemoryStorage::new(bytes.to_vec())).unwrap();
        assert_eq!(of(b""), Some("an empty file"));
        assert_eq!(of(b"PK\x03\x04"), Some("a zip archive"));
        assert_eq!(of(b"x"), None);
        assert_eq!(of(&[0; 512]), Some("a file that starts with zeros"));
        assert_eq!(of(b"Dear diary, today nothing happened. "), Some("a text file"));
        assert_eq!(recognise_data(&MemoryStorage::new(vec![0; 512])).unwrap(), None);
    }

    #[test]
    fn what_another_program_left_is_told_and_our_own_is_not() {
        let of = |patches: &[(usize, &[u8])]| {
            let mut bytes = vec![0; 70_000];
            for (at, patch) in patches {
                bytes[*at..*at + patch.len()].copy_from_slice(patch);
            }
            trace_at_start(&MemoryStorage::new(bytes))
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(0, b"\x89STRONGROOM")]), None);
        assert_eq!(of(&[(4086, b"SWAPSPACE2")]), Some("swap space"));
        assert_eq!(of(&[(510, &[0x55, 0xaa])]), Some("a partition table or boot sector"));
        assert_eq!(of(&[(510, &[0x55, 0xaa]), (3, b"NTFS    ")]), Some("an NTFS file system"));
        assert_eq!(trace_at_start(&MemoryStorage::new(vec![0x55; 100])), None);
    }
}
