//! What something else has left at the start of a medium.

use crate::storage::Storage;

/// The bytes looked at.
const HEAD_LEN: u64 = 68 * 1024;

/// A signature: what it says, where it stands, what it is.
const SIGNATURES: &[(&str, usize, &[u8])] = &[
    ("a GPT partition table", 512, b"EFI PART"),
    ("a GPT partition table", 4096, b"EFI PART"),
    ("an ext2, ext3 or ext4 file system", 1080, &[0x53, 0xef]),
    ("an XFS file system", 0, b"XFSB"),
    ("a btrfs file system", 65_600, b"_BHRfS_M"),
    ("an exFAT file system", 3, b"EXFAT   "),
    ("an NTFS file system", 3, b"NTFS    "),
    ("a FAT file system", 82, b"FAT32   "),
    ("a FAT file system", 54, b"FAT16   "),
    ("a FAT file system", 54, b"FAT12   "),
    ("an ISO 9660 file system", 32_769, b"CD001"),
    ("a LUKS header", 0, b"LUKS\xba\xbe"),
    ("swap space", 4086, b"SWAPSPACE2"),
    ("an LVM label", 512, b"LABELONE"),
    // Last: file systems and boot loaders have it too.
    ("a partition table or boot sector", 510, &[0x55, 0xaa]),
];

/// What the first bytes of `storage` look like, where they look like anything known: the work of another program that took
/// the place for its own.
pub fn trace_at_start(storage: &dyn Storage) -> Option<&'static str> {
    let len = usize::try_from(storage.size().ok()?.min(HEAD_LEN)).ok()?;
    let mut head = vec![0; len];
    storage.read_exact_at(&mut head, 0).ok()?;
    let found = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    SIGNATURES.iter().find(|(_, offset, magic)| found(*offset, magic)).map(|(name, ..)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    #[test]
    fn each_signature_is_recognised_and_zeros_are_nothing() {
        for &(name, offset, magic) in SIGNATURES {
            let mut bytes = vec![0; 70_000];
            bytes[offset..offset + magic.len()].copy_from_slice(magic);
            assert_eq!(trace_at_start(&MemoryStorage::new(bytes)), Some(name));
        }
        assert_eq!(trace_at_start(&MemoryStorage::new(vec![0; 70_000])), None);
        assert_eq!(trace_at_start(&MemoryStorage::new(vec![0x55; 100])), None);
    }
}
