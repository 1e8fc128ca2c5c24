//! What lies in a file that is no container: so that whoever takes it for one is told.

use std::{path::Path, sync::Arc};

use super::{
    Container, PartitionContents,
    label::label,
    partitions::{SCAN, lost_table},
    partitions_of,
};
use crate::{
    error::{Error, ErrorKind, Fact, Result},
    format::{
        Format,
        luks2::Luks2,
        native::left_behind,
        signature::{self, Owner, is_boot_sector},
    },
    storage::Storage,
    text::{excerpt, path::command_word},
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
    if let Some(found) = signature::find(storage)? {
        return Ok(Some(lost_table(storage)?.unwrap_or(found.name)));
    }
    if head.first_chunk() == Some(&[0; 512]) {
        return Ok(Some(ZEROS));
    }
    let is_text = |byte: u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    let start: Option<&[u8; 32]> = head.first_chunk();
    Ok(start.is_some_and(|start| start.iter().copied().all(is_text)).then_some("a text file"))
}

/// What opens it, where that is another program: a sentence with the path in it. Of bytes that could be random too, where they
/// may be the work of one that leaves hardly a trace.
///
/// # Errors
/// What reading gave.
pub fn way_in(storage: &Arc<dyn Storage>, path: &Path) -> Result<Option<String>> {
    let head = signature::read_head(&**storage)?;
    let with_path = |text: &str| text.replace("FILE", &command_word(path));
    if let Some(remains) = remains(storage, path)? {
        return Ok(Some(remains));
    }
    if let Some(found) = signature::recognise(&head) {
        return match found.way_in {
            Some(way) => Ok(Some(with_path(way))),
            None if lost_table(&**storage)?.is_some() => Ok(Some(SCAN.to_owned())),
            None => Ok(partition_hint(storage)?.map(|hint| with_path(&hint))),
        };
    }
    if let Some(way) = signature::find(&**storage)?.and_then(|found| found.way_in) {
        return Ok(Some(with_path(way)));
    }
    let file_vault = || {
        let way = with_path(signature::FILE_VAULT);
        format!("it may be a FileVault volume of macOS: {way}; if it is VeraCrypt's: --format veracrypt")
    };
    Ok(signature::may_be_file_vault(&head).then(file_vault))
}

/// Which partitions hold something that is encrypted, or could be, and what opens the first of them: one that holds a container,
/// if there is any.
fn partition_hint(storage: &Arc<dyn Storage>) -> Result<Option<String>> {
    let found = partitions_of(storage)?;
    let is_told = |partition: &&PartitionContents| !partition.is_file_system;
    let told: Vec<_> =
        found.iter().filter(is_told).take(MOST_TOLD).map(PartitionContents::describe).collect();
    let container = found.iter().find(|partition| partition.format.is_some());
    let Some(first) = container.or_else(|| found.iter().find(is_told)) else { return Ok(None) };
    let number = first.partition.number;
    let way = match (first.format, first.contents) {
        (Some(_), _) => format!("--partition {number} opens it"),
        (None, None) => format!("if it is VeraCrypt's: --partition {number} --format veracrypt"),
        (None, Some(_)) => {
            "as root, losetup -fP --show FILE gives each partition of a file a device".to_owned()
        }
    };
    Ok(Some(format!("{}; {way}", told.join(", "))))
}

/// What lies on a medium, as its owner would name it: `FAT file system "STICK"`. `None` for what could be random bytes.
///
/// # Errors
/// What reading gave.
pub(super) fn recognise_with_label(container: &Container) -> Result<Option<String>> {
    let storage = container.storage();
    let head = signature::read_head(&*storage)?;
    let Some(found) = signature::recognise(&head) else { return Ok(None) };
    let of_header = || Some(excerpt(&container.header().ok()?.describe().label?));
    let label = label(&*storage, &head, found).or_else(of_header);
    let name = found.name.split(',').next().unwrap_or_default();
    let name = name.strip_prefix("a ").or_else(|| name.strip_prefix("an ")).unwrap_or(name);
    Ok(Some(label.map_or_else(|| name.to_owned(), |label| format!("{name} \"{label}\""))))
}

/// What is told of something else in a container's place, by what [`recognise`] says.
pub(super) fn not_a_container(contents: &str) -> Error {
    let fact = match contents {
        EMPTY => Fact::NoContent,
        ZEROS => Fact::Zeros,
        _ => Fact::OtherContent,
    };
    Error::new(ErrorKind::NotAContainer, format!("not a container; this is {contents}")).with_fact(fact)
}

/// As [`recognise`], without what is nothing to lose: a file that is empty or starts with zeros, as one whose header was wiped.
///
/// # Errors
/// What reading gave.
pub fn recognise_data(storage: &dyn Storage) -> Result<Option<&'static str>> {
    Ok(recognise(storage)?.filter(|found| *found != ZEROS && *found != EMPTY))
}

/// What is left of a container's header where something else that is known was put over it, and what gets at it.
///
/// # Errors
/// What reading gave.
pub fn remains(storage: &Arc<dyn Storage>, path: &Path) -> Result<Option<String>> {
    let path = command_word(path);
    if let Some(left) = left_behind(&**storage)? {
        return Ok(Some(format!(
            "{left} is left from before; if that container is still wanted: strongroom header repair --scan {path} asks before it puts it back"
        )));
    }
    let head = signature::read_head(&**storage)?;
    if signature::recognise(&head).is_none() {
        return Ok(None);
    }
    if Luks2.read_header(&**storage).is_ok() {
        return Ok(Some(format!(
            "a whole copy of a LUKS2 header stands behind it: --format luks2 --read-only opens that; header repair --scan {path} tells more"
        )));
    }
    let is_luks1 = head.starts_with(b"LUKS\xba\xbe\0\x01") && signature::is_partition_table(&head);
    Ok(is_luks1.then(|| "it was put over a LUKS1 header, of which only a backup is whole".to_owned()))
}

/// What `storage` is, where that is a disk image that does not hold its sectors one after another, and what makes a raw one of it: what
/// stands at an offset in it is a part of something, in an order that only the image knows.
///
/// # Errors
/// What reading gave.
pub fn scattered_image(storage: &dyn Storage, path: &Path) -> Result<Option<(&'static str, String)>> {
    let found = signature::recognise(&signature::read_head(storage)?);
    let image = found.filter(|found| found.owner == Owner::Image);
    Ok(image.map(|image| {
        let way = image.way_in.unwrap_or_default().replace("FILE", &command_word(path));
        (image.name, way)
    }))
}

/// What the first bytes of `storage` look like, where they look like the work of another program that took the place of a
/// header for its own.
pub fn trace_at_start(storage: &dyn Storage) -> Option<&'static str> {
    let head = signature::read_head(storage).ok()?;
    match signature::recognise(&head) {
        // What is left of a header of ours is no other program's work.
        Some(found) if found.owner == Owner::Native || found.name == signature::SECOND_LUKS => None,
        Some(found) => Some(found.name),
        None => is_boot_sector(&head).then_some("a partition table or boot sector"),
    }
}

/// Partitions in one line.
const MOST_TOLD: usize = 4;
/// What [`recognise`] says of a file without bytes.
pub const EMPTY: &str = "an empty file";
/// What [`recognise`] says of a file that starts with zeros.
pub const ZEROS: &str = "a file or device that starts with zeros";

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
        assert_eq!(of(&[0; 512]), Some(ZEROS));
        assert_eq!(of(b"Dear diary, today nothing happened. "), Some("a text file"));
        assert_eq!(recognise_data(&MemoryStorage::new(vec![0; 512])).unwrap(), None);
    }

    #[test]
    fn what_is_something_else_is_named_with_what_opens_it() {
        for (at, magic, name, way) in [
            (3, &b"-FVE-FS-"[..], Some("a BitLocker volume"), "cryptsetup open --type bitlk x NAME"),
            (0, b"\x03\xd9\xa2\x9a\x67\xfb\x4b\xb5", Some("a KeePass database"), "KeePassXC"),
            (0, b"encrcdsa", Some("an encrypted disk image of macOS (DMG)"), "hdiutil"),
            (0, b"Salted__", Some("a file encrypted by openssl enc"), "openssl enc -d"),
            (88, b"CS", None, "cryptsetup open --type fvault2 x NAME"),
            (0, b"conectix", Some("a VHD disk image, which must be converted to a raw one"), "qemu-img"),
        ] {
            let mut bytes = vec![0xf7; 70_000];
            bytes[at..at + magic.len()].copy_from_slice(magic);
            let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new(bytes));
            assert_eq!(recognise(&*storage).unwrap(), name);
            let found = way_in(&storage, Path::new("x")).unwrap().unwrap();
            assert!(found.contains(way) && !found.contains("FILE"), "{found}");
        }
        let random: Arc<dyn Storage> = Arc::new(MemoryStorage::new(vec![0xf7; 70_000]));
        assert_eq!(way_in(&random, Path::new("x")).unwrap(), None);
    }

    #[test]
    fn the_partition_that_holds_a_container_is_named() {
        let mut bytes = vec![0; 200_000];
        bytes[446 + 4] = 0x83;
        bytes[446 + 8] = 8;
        bytes[446 + 12] = 200;
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        bytes[4096..4104].copy_from_slice(b"LUKS\xba\xbe\0\x02");
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new(bytes));
        let hint = way_in(&storage, Path::new("disk")).unwrap().unwrap();
        assert_eq!(hint, "partition 1 at byte 4096 holds a LUKS2 header; --partition 1 opens it");
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
