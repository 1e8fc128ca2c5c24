//! What stands at the start of a medium or of a volume, told by its signature: one table for all who ask.
//!
//! Whoever makes a file system leaves signatures of older ones that lie where it writes nothing. So several may be there, and the
//! order of the table says which one is the last that was written. We tried each `mkfs` that Debian has over what each other
//! one had made (`tests/stale_signatures.rs`): everybody clears what lies *before* a superblock of his own, nobody all that
//! lies behind it. Hence the nearer to the start, the newer. Those that leave the first sector as it was, for a boot loader,
//! come before all: partition tables, LVM, RAID; no `mkfs` leaves one of these behind.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

mod far;
mod table;

use std::{io, ops::Range};

pub use table::{ENCRYPTED_SYSTEM, GPT, PARTITION_TABLE, SECOND_LUKS};
use table::{FILES, LAST, ON_MEDIA};

use crate::storage::Storage;

/// A signature that is known.
#[derive(Debug)]
pub struct Signature {
    test: Test,
    /// Whose it is.
    pub owner: Owner,
    /// What it is, in words that follow "this is".
    pub name: &'static str,
    /// What opens it, where strongroom does not: a sentence in which FILE stands for its path.
    pub way_in: Option<&'static str>,
}

/// Who puts a signature there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A file system that is told apart from the others further on.
    FileSystem(FileSystem),
    /// Our own format.
    Native,
    /// LUKS of a version beyond the first, or none that is known.
    Luks,
    /// A disk image that does not hold the sectors of its disk one after another.
    Image,
    /// Anybody else.
    Other,
}

/// File systems that are read or mounted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// ext2, ext3 or ext4.
    Ext,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// FAT12, FAT16 or FAT32.
    Fat,
    /// exFAT.
    Exfat,
    /// NTFS.
    Ntfs,
    /// ISO 9660, and with it perhaps UDF.
    Iso,
    /// UDF.
    Udf,
}

impl FileSystem {
    /// What messages call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext => "ext2/3/4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Fat => "vfat",
            Self::Exfat => "exfat",
            Self::Ntfs => "ntfs",
            Self::Iso => "iso9660",
            Self::Udf => "udf",
        }
    }
}

/// How a signature is told.
#[derive(Debug, Clone, Copy)]
enum Test {
    /// These bytes, at this offset.
    Magic(usize, &'static [u8]),
    /// The bytes are too few to be believed without another look.
    Look(fn(&[u8]) -> bool),
}

impl Signature {
    fn is_in(&self, head: &[u8]) -> bool {
        match self.test {
            Test::Magic(offset, magic) => has(head, offset, magic),
            Test::Look(is_there) => is_there(head),
        }
    }

    /// The file system, where it is one that is told apart.
    pub const fn file_system(&self) -> Option<FileSystem> {
        match self.owner {
            Owner::FileSystem(found) => Some(found),
            _ => None,
        }
    }
}

/// The signature in the first bytes of a medium or volume, [`HEAD_LEN`] of them, or all where there are fewer. `None` for
/// what could be random bytes.
pub fn recognise(head: &[u8]) -> Option<&'static Signature> {
    ON_MEDIA.iter().chain(FILES).chain(LAST).find(|known| known.is_in(head))
}

/// The same, without what is in files alone: what takes up a medium or a part of one, wherever on it that begins.
pub fn recognise_on_medium(head: &[u8]) -> Option<&'static Signature> {
    ON_MEDIA.iter().chain(LAST).find(|known| known.is_in(head))
}

/// The signature of a whole medium: in its first bytes, or else farther on, where some stand that leave the start as it is.
///
/// # Errors
/// What reading gave.
pub fn find(storage: &dyn Storage) -> io::Result<Option<&'static Signature>> {
    match recognise(&read_head(storage)?) {
        Some(found) => Ok(Some(found)),
        None => far::recognise(storage),
    }
}

/// The first bytes of a medium, as [`recognise`] wants them.
///
/// # Errors
/// What reading gave.
pub fn read_head(storage: &dyn Storage) -> io::Result<Vec<u8>> {
    let size = storage.size()?;
    read_head_of(storage, 0..size)
}

/// The same of a part of a medium.
///
/// # Errors
/// What reading gave.
pub fn read_head_of(storage: &dyn Storage, range: Range<u64>) -> io::Result<Vec<u8>> {
    let len = range.end.saturating_sub(range.start);
    let mut head = vec![0; usize::try_from(len).unwrap_or(HEAD_LEN).min(HEAD_LEN)];
    storage.read_exact_at(&mut head, range.start)?;
    Ok(head)
}

/// Whether a table of up to four partitions stands in the first sector, and no file system's or container's signature does.
pub fn is_partition_table(head: &[u8]) -> bool {
    let is_taken = |known: &Signature| match known.test {
        Test::Magic(offset, magic) => offset < 512 && has(head, offset, magic),
        Test::Look(_) => false,
    };
    is_partitioned(head) && !is_fat(head) && !is_native(head) && !ON_MEDIA.iter().chain(FILES).any(is_taken)
}

/// Whether the first sector ends as those do that a computer starts from. File systems have it, partition tables, boot loaders.
pub fn is_boot_sector(head: &[u8]) -> bool {
    has(head, 510, &[0x55, 0xaa])
}

fn has(head: &[u8], offset: usize, magic: &[u8]) -> bool {
    head.get(offset..).is_some_and(|rest| rest.starts_with(magic))
}

fn u32_at(head: &[u8], offset: usize) -> Option<u32> {
    head.get(offset..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn u16_at(head: &[u8], offset: usize) -> Option<u16> {
    head.get(offset..)?.first_chunk().copied().map(u16::from_le_bytes)
}

/// A tool that partitions may leave the first bytes as they are, for a boot loader. No header has what it writes behind them.
fn is_native(head: &[u8]) -> bool {
    has(head, 0, b"\x89STRONGROOM") && !is_boot_sector(head)
}

/// No header that is whole has a table of partitions at its end: LUKS1 has keyslots there, LUKS2 zeros and a checksum.
fn is_luks(head: &[u8]) -> bool {
    has(head, 0, b"LUKS\xba\xbe") && !is_partitioned(head)
}

fn is_luks1(head: &[u8]) -> bool {
    is_luks(head) && has(head, 6, &[0, 1])
}

/// `s_magic`, of two bytes; `s_log_block_size` and `s_rev_level` have few values.
fn is_ext(head: &[u8]) -> bool {
    let is_small = |at, most| u32_at(head, at).is_some_and(|value| value <= most);
    has(head, 1024 + 0x38, &[0x53, 0xef]) && is_small(1024 + 0x18, 6) && is_small(1024 + 0x4c, 1)
}

/// What only ext4 has, of `s_feature_incompat`: extents, 64bit, `flex_bg`.
fn is_ext4(head: &[u8]) -> bool {
    is_ext(head) && u32_at(head, 1024 + 0x60).is_some_and(|incompat| incompat & 0x2c0 != 0)
}

/// A journal, of `s_feature_compat`.
fn is_ext3(head: &[u8]) -> bool {
    is_ext(head) && u32_at(head, 1024 + 0x5c).is_some_and(|compat| compat & 0x4 != 0)
}

/// By the name that is there for people, or by numbers that fit together: the specification has no signature.
fn is_fat(head: &[u8]) -> bool {
    let has_name = has(head, 54, b"FAT12") || has(head, 54, b"FAT16") || has(head, 82, b"FAT32");
    is_boot_sector(head) && (has_name || has_fat_numbers(head).unwrap_or(false))
}

fn has_fat_numbers(head: &[u8]) -> Option<bool> {
    let byte = |at: usize| head.get(at).copied();
    let fat_sectors = u16_at(head, 22).filter(|&count| count > 0).map(u32::from).or(u32_at(head, 36))?;
    Some(
        matches!(byte(0)?, 0xeb | 0xe9)
            && matches!(u16_at(head, 11)?, 512 | 1024 | 2048 | 4096)
            && byte(13)?.is_power_of_two()
            && u16_at(head, 14)? > 0
            && matches!(byte(16)?, 1..=4)
            && fat_sectors > 0,
    )
}

/// A table of up to four partitions in the first sector, whatever stands before it there.
pub(in crate::format) fn is_partitioned(head: &[u8]) -> bool {
    let Some(table) = head.get(446..510) else { return false };
    let entries = table.as_chunks::<16>().0;
    let is_status = |entry: &[u8; 16]| matches!(entry, [0 | 0x80, ..]);
    let is_used = |entry: &[u8; 16]| matches!(entry, [_, _, _, _, kind, ..] if *kind != 0);
    is_boot_sector(head) && entries.iter().all(is_status) && entries.iter().any(is_used)
}

/// The boot loader that asks for the password of an encrypted Windows: it tells its name to who starts it.
fn is_encrypted_system(head: &[u8]) -> bool {
    let sector = head.get(..440).unwrap_or_default();
    let says = |name: &[u8]| sector.windows(name.len()).any(|part| part == name);
    is_boot_sector(head) && (says(b"VeraCrypt Boot Loader") || says(b"TrueCrypt Boot Loader"))
}

/// A qcow2 image whose content is encrypted with LUKS (`crypt_method` 2).
fn is_encrypted_qcow2(head: &[u8]) -> bool {
    has(head, 0, b"QFI\xfb") && has(head, 32, &[0, 0, 0, 2])
}

/// A message of `GnuPG`: for a password (packet 3, version 4, salted and iterated), or for a key (packet 1, version 3) of RSA or
/// ECDH. The first bytes are too few for a name each.
fn is_openpgp(head: &[u8]) -> bool {
    let is_symmetric =
        has(head, 0, &[0x8c, 0x0d, 0x04]) && matches!(head.get(3..6), Some([1..=13, 3, 1..=14]));
    let is_rsa = matches!(head.get(..4), Some([0x85, 1..=2, 0x0c, 3]));
    let is_ecdh = has(head, 0, &[0x84, 0x5e, 3]) && head.get(11) == Some(&18);
    is_symmetric || is_rsa || is_ecdh
}

/// A file of eCryptfs: its length, a random word and, behind it, the same word changed in a way that is known.
fn is_ecryptfs(head: &[u8]) -> bool {
    let word = |at: usize| head.get(at..)?.first_chunk().copied().map(u32::from_be_bytes);
    let marker = word(8).zip(word(12)).map(|(word, changed)| word ^ changed);
    has(head, 0, &[0, 0]) && marker == Some(0x3c81_b7f5)
}

/// The start of a JSON object, or of XML, in which `words` stand.
fn is_text_with(head: &[u8], words: &[u8]) -> bool {
    let text = head.trim_ascii_start();
    let start = text.get(..text.len().min(512)).unwrap_or_default();
    matches!(start.first(), Some(b'{' | b'<')) && start.windows(words.len()).any(|part| part == words)
}

fn is_gocryptfs(head: &[u8]) -> bool {
    is_text_with(head, b"\"gocryptfs")
}

fn is_encfs(head: &[u8]) -> bool {
    is_text_with(head, b"EncFS")
}

fn is_cryptomator(head: &[u8]) -> bool {
    is_text_with(head, b"\"scryptSalt\"")
}

/// Whether bytes stand at this offset, and nothing but zeros before them. Random bytes are not so.
fn is_alone(head: &[u8], offset: usize, magic: &[u8]) -> bool {
    has(head, offset, magic) && head.get(..offset).is_some_and(|before| before.iter().all(|&byte| byte == 0))
}

/// `s_magic` of the superblock at 1024, of two bytes; a boot block of zeros, or `s_rev_level` 2, is before it.
fn is_nilfs2(head: &[u8]) -> bool {
    is_alone(head, 1030, b"\x34\x34")
        || has(head, 1030, b"\x34\x34") && u32_at(head, 1024) == Some(2) && is_zero(head, 512..1024)
}

/// `s_magic` of the superblock at 1024 behind a boot block of zeros: versions 1 and 2 at 16, version 3 at 24.
fn is_minix(head: &[u8]) -> bool {
    let early = [b"\x7f\x13", b"\x8f\x13", b"\x68\x24", b"\x78\x24"];
    is_zero(head, 0..1024)
        && (early.iter().any(|magic| has(head, 1040, *magic)) || has(head, 1048, b"\x5a\x4d"))
}

fn is_zero(head: &[u8], range: Range<usize>) -> bool {
    head.get(range).is_some_and(|bytes| bytes.iter().all(|&byte| byte == 0))
}

/// The magic number at the end of the first sector, and a checksum that makes the exclusive or of its words zero.
fn is_sun(head: &[u8]) -> bool {
    let words = || head.get(..512).into_iter().flat_map(|sector| sector.as_chunks::<2>().0);
    let sum = words().fold([0; 2], |sum, word| [sum[0] ^ word[0], sum[1] ^ word[1]]);
    has(head, 508, b"\xda\xbe") && sum == [0; 2] || is_alone(head, 508, b"\xda\xbe")
}

/// The first entry of the map, behind a driver map or nothing.
fn is_apple(head: &[u8]) -> bool {
    has(head, 512, b"PM\0\0") && has(head, 0, b"ER") || is_alone(head, 512, b"PM")
}

/// Its name behind a checksum, in one of the first sectors.
fn is_stratis(head: &[u8]) -> bool {
    [516, 520, 4612, 4616].into_iter().any(|offset| has(head, offset, b"!Stra0tis"))
}

/// Other swap space than today's, or a suspended machine's, at the end of the first page, of whichever size.
fn is_swap(head: &[u8]) -> bool {
    let names: [&[u8]; 5] = [b"SWAP-SPACE", b"SWAPSPACE2", b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND"];
    [4086, 8182, 16_374, 32_758, 65_526]
        .into_iter()
        .any(|offset| names.iter().any(|name| has(head, offset, name)))
}

/// The name, the size of the blocks, and the start of the first one or of an empty archive's end.
fn is_bzip2(head: &[u8]) -> bool {
    let is_block = has(head, 4, b"\x31\x41\x59\x26\x53\x59") || has(head, 4, b"\x17\x72\x45\x38\x50\x90");
    has(head, 0, b"BZh") && matches!(head.get(3), Some(b'1'..=b'9')) && is_block
}

/// Two bytes only, so this is told as what may be: a container of VeraCrypt has them by chance, too.
pub fn may_be_file_vault(head: &[u8]) -> bool {
    has(head, 88, b"CS")
}

/// What opens a `FileVault` volume.
pub const FILE_VAULT: &str = "cryptsetup open --type fvault2 FILE NAME (2.6 and later)";

/// So many bytes from the start hold every signature; the farthest is that of btrfs.
pub const HEAD_LEN: usize = 68 * 1024;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    /// Bytes with some others in them.
    fn patched(mut bytes: Vec<u8>, patches: &[(usize, &[u8])]) -> Vec<u8> {
        for (offset, patch) in patches {
            bytes[*offset..*offset + patch.len()].copy_from_slice(patch);
        }
        bytes
    }

    fn name(head: &[u8]) -> Option<&'static str> {
        recognise(head).map(|found| found.name)
    }

    /// Random as far as this goes.
    fn noise(patches: &[(usize, &[u8])]) -> Option<&'static str> {
        let bytes =
            (1_u32..=70_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
        name(&patched(bytes, patches))
    }

    #[test]
    fn random_bytes_are_nothing_that_is_known() {
        // proves: VC-PROBE-02
        assert_eq!(noise(&[]), None);
        assert_eq!(name(&[0; 4096]), None);
        assert_eq!(name(b"XFS"), None);
    }

    #[test]
    fn each_signature_is_found_in_its_place_and_nowhere_else() {
        // proves: VC-PROBE-02
        let mut magics = 0;
        for known in ON_MEDIA.iter().chain(FILES).chain(LAST) {
            let Test::Magic(offset, magic) = known.test else { continue };
            magics += 1;
            assert_eq!(noise(&[(offset, magic)]), Some(known.name));
            assert_eq!(noise(&[(offset + 1, magic)]), None, "{}", known.name);
            assert!(offset + magic.len() <= HEAD_LEN);
        }
        assert!(magics > 40);
    }

    #[test]
    fn a_message_of_gnupg_and_an_encrypted_qcow2_are_told_by_several_fields() {
        let gnupg = Some("a file encrypted by GnuPG");
        assert_eq!(noise(&[(0, &[0x8c, 0x0d, 0x04, 0x09, 0x03, 0x0a])]), gnupg);
        assert_eq!(noise(&[(0, &[0x85, 0x01, 0x0c, 0x03])]), gnupg);
        assert_eq!(noise(&[(0, &[0x84, 0x5e, 0x03]), (11, &[18])]), gnupg);
        assert_eq!(noise(&[(0, &[0x8c, 0x0d, 0x04, 0x09, 0x02, 0x0a])]), None);
        assert_eq!(noise(&[(0, &[0x84, 0x5e, 0x03]), (11, &[17])]), None);
        let ecryptfs: (usize, &[u8]) = (12, &[0x2f, 0xb5, 0x81, 0x8d]);
        let word: (usize, &[u8]) = (8, &[0x13, 0x34, 0x36, 0x78]);
        assert_eq!(noise(&[(0, &[0; 8]), word, ecryptfs]), Some("a file encrypted by eCryptfs"));
        assert_eq!(noise(&[(0, &[0; 8]), word]), None);
        let luks = noise(&[(0, b"QFI\xfb"), (32, &[0, 0, 0, 2])]);
        assert_eq!(luks, Some("a qcow2 disk image, encrypted with LUKS"));
    }

    #[test]
    fn the_boot_loader_of_an_encrypted_system_is_told_from_a_partition_table() {
        let mut table = [0; 64];
        table[4] = 7;
        let mbr = [(446, &table[..]), (510, &[0x55, 0xaa][..])];
        let named = |name: &'static [u8]| noise(&[(6, name), mbr[0], mbr[1]]);
        assert_eq!(named(b" VeraCrypt Boot Loader\r\n"), Some(ENCRYPTED_SYSTEM));
        assert_eq!(named(b" TrueCrypt Boot Loader\r\n"), Some(ENCRYPTED_SYSTEM));
        assert_eq!(named(b" GRUB "), Some(PARTITION_TABLE));
        assert_eq!(noise(&[(6, b" VeraCrypt Boot Loader\r\n")]), None);
    }

    #[test]
    fn what_belongs_to_an_encrypted_folder_is_named_and_other_text_is_not() {
        for (text, expected) in [
            (&b"{\n\t\"Creator\": \"gocryptfs v2.3\","[..], Some("the configuration of a gocryptfs folder")),
            (b"<?xml version=\"1.0\"?><creator>EncFS 1.9.5", Some("the configuration of an EncFS folder")),
            (b"cryfs.config;1;scrypt\0", Some("the configuration of a CryFS folder")),
            (b"{ \"version\": 999, \"scryptSalt\": \"x\"", Some("the key file of a Cryptomator vault")),
            (b"{ \"version\": 999 }", None),
            (b"all about EncFS and \"gocryptfs", None),
        ] {
            assert_eq!(name(text), expected);
        }
    }

    #[test]
    fn ext_is_told_by_its_features_and_not_by_two_bytes_alone() {
        let magic: (usize, &[u8]) = (1024 + 0x38, &[0x53, 0xef]);
        assert_eq!(noise(&[magic]), None);
        for (compat, incompat, expected) in [
            (0, 0x2, "an ext2 file system"),
            (0x4, 0x2, "an ext3 file system"),
            (0x4, 0x42, "an ext4 file system"),
        ] {
            let found = noise(&[
                magic,
                (1024 + 0x18, &[2, 0, 0, 0]),
                (1024 + 0x4c, &[1, 0, 0, 0]),
                (1024 + 0x5c, &[compat, 0, 0, 0, incompat, 0, 0, 0]),
            ]);
            assert_eq!(found, Some(expected));
        }
    }

    #[test]
    fn fat_and_partitions_take_the_boot_signature() {
        let signature: (usize, &[u8]) = (510, &[0x55, 0xaa]);
        assert_eq!(noise(&[(54, b"FAT12   ")]), None);
        assert_eq!(noise(&[(54, b"FAT12   "), signature]), Some("a FAT file system"));
        assert_eq!(noise(&[(82, b"FAT32   "), signature]), Some("a FAT file system"));
        let mut table = [0; 64];
        assert_eq!(noise(&[(446, &table), signature]), None);
        table[4] = 0x83;
        assert_eq!(noise(&[(446, &table), signature]), Some("a partition table"));
        assert_eq!(noise(&[signature]), None);
    }

    /// The name is there for people: not every FAT has one.
    #[test]
    fn fat_without_its_name_is_told_by_its_numbers() {
        let numbers: [(usize, &[u8]); 4] =
            [(0, &[0xeb, 0x3c]), (11, &[0, 2, 4, 1, 0, 2, 0, 2]), (22, &[9, 0]), (510, &[0x55, 0xaa])];
        assert_eq!(name(&patched(vec![0; 4096], &numbers)), Some("a FAT file system"));
        for (at, value) in [(0, 0), (12, 3), (13, 3), (14, 0), (16, 0), (22, 0), (510, 0)] {
            let head = patched(vec![0; 4096], &numbers);
            assert_ne!(name(&patched(head, &[(at, &[value])])), Some("a FAT file system"), "byte {at}");
        }
    }

    /// The order of the table, pair by pair: what is nearer to the start is newer, but for what leaves the first sector be.
    #[test]
    fn of_two_signatures_the_newer_one_counts() {
        let ext: &[(usize, &[u8])] = &[(1024 + 0x38, &[0x53, 0xef])];
        let btrfs: &[(usize, &[u8])] = &[(0x1_0040, b"_BHRfS_M")];
        let xfs: &[(usize, &[u8])] = &[(0, b"XFSB")];
        let ntfs: &[(usize, &[u8])] = &[(3, b"NTFS    "), (510, &[0x55, 0xaa])];
        let fat: &[(usize, &[u8])] = &[(82, b"FAT32   "), (510, &[0x55, 0xaa])];
        let gpt: &[(usize, &[u8])] = &[(512, b"EFI PART")];
        let iso: &[(usize, &[u8])] = &[(0x8001, b"CD001")];
        for (newer, older, expected) in [
            (ntfs, btrfs, "an NTFS file system"),
            (fat, ext, "a FAT file system"),
            (ntfs, ext, "an NTFS file system"),
            (xfs, ext, "an XFS file system"),
            (ext, btrfs, "an ext2 file system"),
            (ext, iso, "an ext2 file system"),
            (iso, btrfs, "an ISO 9660 file system"),
            (gpt, xfs, "a GPT partition table"),
            (gpt, ntfs, "a GPT partition table"),
        ] {
            let head = patched(patched(vec![0; HEAD_LEN], older), newer);
            assert_eq!(name(&head), Some(expected));
        }
    }
}
