//! Signatures of what may have taken the place of a header: over such a place nothing is repaired, and a second copy alone
//! does not make the container LUKS2 any more (L2-HDR-07).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use crate::{error::Result, storage::Storage};

/// Where a signature stands, what it is, and whose it is.
const SIGNATURES: [(u64, &[u8], &str); 14] = [
    (0, b"LUKS\xba\xbe\0\x01", "LUKS1"),
    (0, b"\x89STRONGROOM", "a strongroom container"),
    (0, b"XFSB", "XFS"),
    (0x0003, b"NTFS    ", "NTFS"),
    (0x0003, b"EXFAT   ", "exFAT"),
    (0x0003, b"-FVE-FS-", "BitLocker"),
    (0x0036, b"FAT", "FAT"),
    (0x0052, b"FAT32", "FAT"),
    (0x0200, b"EFI PART", "a partition table"),
    (0x0200, b"LABELONE", "LVM"),
    (0x0438, b"\x53\xef", "ext2, ext3 or ext4"),
    (0x0ff6, b"SWAPSPACE2", "swap"),
    (0x8001, b"CD001", "ISO 9660"),
    (0x1_0040, b"_BHRfS_M", "btrfs"),
];

/// Whose signature stands at the container's start, if another format's does.
pub(super) fn occupant(storage: &dyn Storage) -> Result<Option<&'static str>> {
    let size = storage.size()?;
    for (offset, signature, name) in SIGNATURES {
        let mut found = [0; 16];
        let Some(found) = found.get_mut(..signature.len()) else { continue };
        let len = u64::try_from(found.len()).unwrap_or(u64::MAX);
        if offset.checked_add(len).is_some_and(|end| end <= size) {
            storage.read_exact_at(found, offset)?;
            if found == signature {
                return Ok(Some(name));
            }
        }
    }
    Ok(None)
}
