//! What lies in a file that is no container: so that whoever takes it for one is told.

use std::io;

use crate::{error::Result, storage::Storage};

/// What is recognised, in words that complete "this is ...". `None` for what could be random bytes, as containers of
/// TrueCrypt and VeraCrypt are. Reads a few hundred bytes.
///
/// # Errors
/// What reading gave.
pub fn recognise(storage: &dyn Storage) -> Result<Option<&'static str>> {
    let size = storage.size()?;
    if size == 0 {
        return Ok(Some(EMPTY));
    }
    if let Some(found) = file_system(storage)? {
        return Ok(Some(found));
    }
    for (offset, magic, name) in SIGNATURES {
        if has(storage, *offset, magic)? {
            return Ok(Some(name));
        }
    }
    if is_partitioned(storage)? {
        return Ok(Some("a drive with a partition table"));
    }
    if read(storage, 0)? == Some([0; 512]) {
        return Ok(Some(ZEROS));
    }
    let is_text = |byte: u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    let start: Option<[u8; 32]> = read(storage, 0)?;
    Ok(start.is_some_and(|start| start.into_iter().all(is_text)).then_some("a text file"))
}

/// As [`recognise`], without what is nothing to lose: a file that is empty or starts with zeros, as one whose header was wiped.
///
/// # Errors
/// What reading gave.
pub fn recognise_data(storage: &dyn Storage) -> Result<Option<&'static str>> {
    Ok(recognise(storage)?.filter(|found| *found != ZEROS && *found != EMPTY))
}

/// Those whose signature is too short to be believed without another look.
fn file_system(storage: &dyn Storage) -> Result<Option<&'static str>> {
    let ext: [u8; 100] = read(storage, 1024)?.unwrap_or([0; 100]);
    let word = |at: usize| ext.get(at..).and_then(|rest| rest.first_chunk()).copied().map(u32::from_le_bytes);
    let is_small = |at, most| word(at).is_some_and(|value| value <= most);
    // s_magic; s_log_block_size and s_rev_level have few values.
    if ext[0x38..0x3a] == [0x53, 0xef] && is_small(0x18, 6) && is_small(0x4c, 1) {
        let (compat, incompat) = (word(0x5c).unwrap_or_default(), word(0x60).unwrap_or_default());
        return Ok(Some(match (incompat & 0x2c0 != 0, compat & 0x4 != 0) {
            (true, _) => "an unencrypted ext4 image",
            (false, true) => "an unencrypted ext3 image",
            (false, false) => "an unencrypted ext2 image",
        }));
    }
    let boot: [u8; 512] = read(storage, 0)?.unwrap_or([0; 512]);
    let names_fat = boot[54..59] == *b"FAT12" || boot[54..59] == *b"FAT16" || boot[82..87] == *b"FAT32";
    Ok((boot[510..] == [0x55, 0xaa] && names_fat).then_some("an unencrypted FAT image"))
}

/// A GPT, or a table of up to four partitions in the first sector.
fn is_partitioned(storage: &dyn Storage) -> Result<bool> {
    for sector_size in [512, 4096] {
        if has(storage, sector_size, b"EFI PART")? {
            return Ok(true);
        }
    }
    let boot: [u8; 512] = read(storage, 0)?.unwrap_or([0; 512]);
    let entries = boot[446..510].as_chunks::<16>().0;
    let is_status = |entry: &[u8; 16]| matches!(entry[0], 0 | 0x80);
    let is_used = |entry: &[u8; 16]| entry[4] != 0;
    Ok(boot[510..] == [0x55, 0xaa] && entries.iter().all(is_status) && entries.iter().any(is_used))
}

fn has(storage: &dyn Storage, offset: u64, magic: &[u8]) -> Result<bool> {
    let mut found = vec![0; magic.len()];
    match storage.read_exact_at(&mut found, offset) {
        Ok(()) => Ok(found == magic),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Bytes at an offset; `None` where the file ends before.
fn read<const N: usize>(storage: &dyn Storage, offset: u64) -> Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    match storage.read_exact_at(&mut bytes, offset) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error.into()),
    }
}

const EMPTY: &str = "an empty file";
const ZEROS: &str = "a file that starts with zeros";

/// Offset, signature, name.
static SIGNATURES: &[(u64, &[u8], &str)] = &[
    (0, b"LUKS\xba\xbe", "a LUKS container of a version that is not known"),
    (0, b"XFSB", "an unencrypted XFS image"),
    (0x1_0040, b"_BHRfS_M", "an unencrypted btrfs image"),
    (3, b"EXFAT   ", "an unencrypted exFAT image"),
    (3, b"NTFS    ", "an unencrypted NTFS image"),
    (3, b"-FVE-FS-", "a BitLocker volume, which strongroom does not open"),
    (1024, b"\x10\x20\xf5\xf2", "an unencrypted F2FS image"),
    (1024, b"H+\0\x04", "an unencrypted HFS+ image"),
    (1024, b"HX\0\x05", "an unencrypted HFS+ image"),
    (1024, b"\xe2\xe1\xf5\xe0", "an unencrypted EROFS image"),
    (32, b"NXSB", "an APFS container, which strongroom does not open"),
    (0, b"hsqs", "an unencrypted SquashFS image"),
    (0x8001, b"CD001", "an unencrypted ISO 9660 image"),
    (0x8001, b"BEA01", "an unencrypted UDF image"),
    (4086, b"SWAPSPACE2", "unencrypted swap space"),
    (65_526, b"SWAPSPACE2", "unencrypted swap space"),
    (0, b"LABELONE", "an LVM physical volume"),
    (512, b"LABELONE", "an LVM physical volume"),
    (1024, b"LABELONE", "an LVM physical volume"),
    (4096, b"\xfc\x4e\x2b\xa9", "a member of a RAID"),
    (0, b"QFI\xfb", "a qcow2 disk image, which must be converted to a raw one"),
    (0, b"KDMV", "a VMDK disk image, which must be converted to a raw one"),
    (0, b"vhdxfile", "a VHDX disk image, which must be converted to a raw one"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a rar archive"),
    (0, b"\xfd7zXZ\0", "an xz archive"),
    (0, b"\x1f\x8b\x08\0", "a gzip archive"),
    (0, b"\x1f\x8b\x08\x08", "a gzip archive"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"age-encryption.org/", "a file encrypted by age"),
    (0, b"-----BEGIN ", "a text file"),
    (0, b"\x7fELF", "a program"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"\x89PNG", "a picture"),
    (0, b"\xff\xd8\xff\xe0", "a picture"),
    (0, b"\xff\xd8\xff\xe1", "a picture"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    /// Random as far as this goes, with some bytes in it.
    fn noise(patches: &[(usize, &[u8])]) -> Option<&'static str> {
        let mut bytes: Vec<u8> =
            (1_u32..=70_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
        for (offset, patch) in patches {
            bytes[*offset..*offset + patch.len()].copy_from_slice(patch);
        }
        recognise(&MemoryStorage::new(bytes)).unwrap()
    }

    #[test]
    fn random_bytes_are_nothing_that_is_known() {
        // proves: VC-PROBE-02
        assert_eq!(noise(&[]), None);
    }

    #[test]
    fn each_signature_is_found_in_its_place_and_nowhere_else() {
        // proves: VC-PROBE-02
        for (offset, magic, name) in SIGNATURES {
            let offset = usize::try_from(*offset).unwrap();
            assert_eq!(noise(&[(offset, magic)]), Some(*name));
            assert_eq!(noise(&[(offset + 1, magic)]), None, "{name}");
        }
    }

    #[test]
    fn ext_is_told_by_its_features_and_not_by_two_bytes_alone() {
        let magic: (usize, &[u8]) = (1024 + 0x38, &[0x53, 0xef]);
        assert_eq!(noise(&[magic]), None);
        for (compat, incompat, name) in [
            (0, 0x2, "an unencrypted ext2 image"),
            (0x4, 0x2, "an unencrypted ext3 image"),
            (0x4, 0x42, "an unencrypted ext4 image"),
        ] {
            let found = noise(&[
                magic,
                (1024 + 0x18, &[2, 0, 0, 0]),
                (1024 + 0x4c, &[1, 0, 0, 0]),
                (1024 + 0x5c, &[compat, 0, 0, 0, incompat, 0, 0, 0]),
            ]);
            assert_eq!(found, Some(name));
        }
    }

    #[test]
    fn fat_and_partitions_take_the_boot_signature() {
        let signature: (usize, &[u8]) = (510, &[0x55, 0xaa]);
        assert_eq!(noise(&[(54, b"FAT12   ")]), None);
        assert_eq!(noise(&[(54, b"FAT12   "), signature]), Some("an unencrypted FAT image"));
        let mut table = [0; 64];
        assert_eq!(noise(&[(446, &table), signature]), None);
        table[4] = 0x83;
        assert_eq!(noise(&[(446, &table), signature]), Some("a drive with a partition table"));
        assert_eq!(noise(&[signature]), None);
        assert_eq!(noise(&[(512, b"EFI PART")]), Some("a drive with a partition table"));
    }

    #[test]
    fn short_and_empty_files_are_looked_at_as_far_as_they_go() {
        let of = |bytes: &[u8]| recognise(&MemoryStorage::new(bytes.to_vec())).unwrap();
        assert_eq!(of(b""), Some("an empty file"));
        assert_eq!(of(b"PK\x03\x04"), Some("a zip archive"));
        assert_eq!(of(b"x"), None);
        assert_eq!(of(&[0; 512]), Some("a file that starts with zeros"));
        assert_eq!(of(b"Dear diary, today nothing happened. "), Some("a text file"));
    }
}
