//! The label of what lies on a medium: what its owner knows it by.
//!
//! Every byte may be anything: a label that cannot be found is none, and no error.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use crate::{
    format::signature::{FileSystem, Owner, Signature},
    storage::Storage,
    text::excerpt,
};

/// The label that belongs to the signature `found` in the first bytes of `storage`, in one line.
pub(super) fn label(storage: &dyn Storage, head: &[u8], found: &Signature) -> Option<String> {
    let label = match found.owner {
        Owner::FileSystem(FileSystem::Ext) => utf8(head.get(1024 + 0x78..)?.get(..16)?),
        Owner::FileSystem(FileSystem::Xfs) => utf8(head.get(108..120)?),
        Owner::FileSystem(FileSystem::Btrfs) => utf8(head.get(0x1_012b..)?.get(..256)?),
        Owner::FileSystem(FileSystem::Fat) => fat(storage, head)?,
        Owner::FileSystem(FileSystem::Exfat) => exfat(storage, head)?,
        Owner::FileSystem(FileSystem::Ntfs) => ntfs(storage, head)?,
        Owner::FileSystem(FileSystem::Iso) => utf8(head.get(0x8028..)?.get(..32)?),
        Owner::FileSystem(FileSystem::Udf) | Owner::Native | Owner::Luks | Owner::Image | Owner::Other => {
            return None;
        }
    };
    Some(excerpt(label.trim_end())).filter(|label| !label.is_empty())
}

/// The root directory's entry with only the attribute of a label (Microsoft's FAT specification, section 6). The boot sector has a
/// copy, which Windows leaves as `NO NAME`.
fn fat(storage: &dyn Storage, head: &[u8]) -> Option<String> {
    let sector = u64::from(u16_at(head, 11)?);
    let reserved = u64::from(u16_at(head, 14)?);
    let copies = u64::from(*head.get(16)?);
    let is_wide = u16_at(head, 22)? == 0;
    let fat_sectors = if is_wide { u32_at(head, 36)?.into() } else { u64::from(u16_at(head, 22)?) };
    let mut root = reserved.checked_add(copies.checked_mul(fat_sectors)?)?;
    if is_wide {
        let clusters = u64::from(u32_at(head, 44)?.checked_sub(2)?);
        root = root.checked_add(clusters.checked_mul(u64::from(*head.get(13)?))?)?;
    }
    let entries = read(storage, root.checked_mul(sector)?)?;
    let entry = entries.as_chunks::<32>().0.iter().find(|entry| {
        // Neither a deleted one nor a part of a long name.
        entry.first() != Some(&0xe5) && entry.get(11).is_some_and(|attributes| attributes & 0x3f == 0x08)
    })?;
    Some(utf8(entry.get(..11)?))
}

/// The entry of type 0x83 in the root directory (exFAT specification, section 7.3).
fn exfat(storage: &dyn Storage, head: &[u8]) -> Option<String> {
    let (sector, cluster) = (u32::from(*head.get(108)?), u32::from(*head.get(109)?));
    let clusters = u64::from(u32_at(head, 96)?.checked_sub(2)?);
    let root =
        u64::from(u32_at(head, 88)?).checked_add(clusters.checked_mul(1_u64.checked_shl(cluster)?)?)?;
    let entries = read(storage, root.checked_mul(1_u64.checked_shl(sector)?)?)?;
    let entry = entries.as_chunks::<32>().0.iter().find(|entry| entry.first() == Some(&0x83))?;
    let len = usize::from(*entry.get(1)?).min(11).checked_mul(2)?;
    Some(utf16(entry.get(2..)?.get(..len)?))
}

/// The resident attribute 0x60 of the fourth record of the master file table, `$Volume`.
fn ntfs(storage: &dyn Storage, head: &[u8]) -> Option<String> {
    let cluster = u64::from(u16_at(head, 11)?).checked_mul(u64::from(*head.get(13)?))?;
    let record = match *head.get(64)? {
        // From here on it is the exponent of a power of two, negated.
        size @ 0xe1.. => 1_u64.checked_shl(u32::from(size.wrapping_neg()))?,
        clusters => cluster.checked_mul(u64::from(clusters))?,
    };
    let table = u64::from_le_bytes(*head.get(48..)?.first_chunk()?).checked_mul(cluster)?;
    let bytes = read(storage, table.checked_add(record.checked_mul(3)?)?)?;
    let mut rest = bytes.get(usize::from(u16_at(&bytes, 20)?)..)?;
    loop {
        let len = usize::try_from(u32_at(rest, 4)?).ok().filter(|&len| len >= 24)?;
        match u32_at(rest, 0)? {
            0x60 => break,
            kind if kind > 0x60 => return None,
            _ => rest = rest.get(len..)?,
        }
    }
    let value = rest.get(usize::from(u16_at(rest, 20)?)..)?;
    Some(utf16(value.get(..usize::try_from(u32_at(rest, 16)?).ok()?.min(256))?))
}

/// Some bytes: as many as a directory's beginning or a record has.
fn read(storage: &dyn Storage, offset: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 1024];
    storage.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().copied().map(u32::from_le_bytes)
}

/// Up to the first zero.
fn utf8(bytes: &[u8]) -> String {
    let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

fn utf16(bytes: &[u8]) -> String {
    let units = bytes.as_chunks().0.iter().copied().map(u16::from_le_bytes);
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test that panics has failed")]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::{format::signature, storage::MemoryStorage};

    fn of(bytes: Vec<u8>) -> Option<String> {
        let storage = MemoryStorage::new(bytes);
        let head = signature::read_head(&storage).unwrap();
        label(&storage, &head, signature::recognise(&head)?)
    }

    /// What a `mkfs` makes of a file of `size` MiB.
    fn made(program: &str, arguments: &[&str], size: u64) -> Option<Vec<u8>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size << 20).unwrap();
        let mut command = Command::new(program);
        command.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
        let Ok(output) = command.args(arguments).arg(file.path()).output() else {
            println!("skipped: {program} is not installed");
            return None;
        };
        assert!(output.status.success(), "{program}: {output:?}");
        Some(std::fs::read(file.path()).unwrap())
    }

    #[test]
    fn each_file_system_is_known_by_the_label_that_it_was_given() {
        for (program, arguments, size) in [
            ("mkfs.ext4", &["-q", "-F", "-L", "STICK"][..], 4),
            ("mkfs.xfs", &["-q", "-f", "-L", "STICK"], 300),
            ("mkfs.btrfs", &["-q", "-f", "-L", "STICK"], 114),
            ("mkfs.vfat", &["-F", "12", "-n", "STICK"], 4),
            ("mkfs.vfat", &["-F", "16", "-n", "STICK"], 20),
            ("mkfs.vfat", &["-F", "32", "-n", "STICK"], 40),
            ("mkfs.exfat", &["-L", "STICK"], 8),
            ("mkfs.ntfs", &["-q", "-F", "-Q", "-L", "STICK"], 8),
        ] {
            let Some(bytes) = made(program, arguments, size) else { continue };
            assert_eq!(of(bytes.clone()).as_deref(), Some("STICK"), "{program} {arguments:?}");
            // Cut off anywhere, or with any byte of its first sector changed, it has a label, another one, or none.
            for len in [0, 511, 1100, 4096, 70_000, bytes.len() / 2] {
                of(bytes[..len].to_vec());
            }
            for place in 0..512 {
                for value in [0, 0xff] {
                    let mut head = bytes[..1 << 20].to_vec();
                    head[place] = value;
                    of(head);
                }
            }
        }
    }

    #[test]
    fn without_a_label_there_is_none() {
        for (program, arguments) in
            [("mkfs.ext4", &["-q", "-F"][..]), ("mkfs.vfat", &[]), ("mkfs.exfat", &[])]
        {
            let Some(bytes) = made(program, arguments, 8) else { continue };
            assert_eq!(of(bytes), None, "{program}");
        }
    }

    #[test]
    fn a_label_cannot_steer_a_terminal() {
        let mut bytes = vec![0; 4096];
        bytes[..4].copy_from_slice(b"XFSB");
        bytes[108..114].copy_from_slice(b"a\x1b[2Jb");
        assert_eq!(of(bytes).unwrap(), r"a\u{1b}[2Jb");
    }
}
