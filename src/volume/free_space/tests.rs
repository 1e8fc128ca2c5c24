//! File systems that the system's own tools make and fill.

#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test that panics has failed")]

mod ntfs;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use super::*;
use crate::{
    block::CryptDevice,
    crypto::SectorCipher,
    mapping::{Holes, Mapping, Segment},
    storage::MemoryStorage,
    units::{Sector, SectorSize},
};

#[derive(Debug)]
struct NoCipher;

impl SectorCipher for NoCipher {
    fn encrypt(&self, _: &mut [u8], _: SectorSize, _: Sector) {}
    fn decrypt(&self, _: &mut [u8], _: SectorSize, _: Sector) {}
}

pub(super) fn device(bytes: Vec<u8>) -> CryptDevice {
    let sectors = u64::try_from(bytes.len()).unwrap() / 512;
    let segment = Segment {
        first: Sector(0),
        sectors,
        storage_offset: 0,
        first_tweak: Sector(0),
        cipher: Arc::new(NoCipher),
    };
    let mapping = Mapping::new(SectorSize::B512, vec![segment], Holes::AreCiphertext).unwrap();
    CryptDevice::new(Arc::new(MemoryStorage::new(bytes)), mapping)
}

fn tail(bytes: &[u8], limit: u64) -> Result<FreeTail> {
    free_tail(&device(bytes.to_vec()), limit)
}

/// Runs a tool; false, and a line that says so, where it is not installed.
fn run(tool: &str, arguments: &[&str]) -> bool {
    run_with(tool, arguments, "")
}

fn run_with(tool: &str, arguments: &[&str], input: &str) -> bool {
    let path = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(|folder| PathBuf::from(folder).join(tool));
    let Some(path) = path.iter().find(|path| path.exists()) else {
        let is_required = std::env::var_os("STRONGROOM_REQUIRE").is_some_and(|value| value == "1");
        assert!(!is_required, "{tool} is not installed");
        println!("skipped: free space: {tool} is not installed");
        return false;
    };
    let mut child = Command::new(path)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    true
}

/// An empty image of so many bytes, full of what no tool may take for zeros that it wrote.
fn image(folder: &Path, len: usize) -> PathBuf {
    let path = folder.join("image");
    fs::write(&path, vec![0; len]).unwrap();
    path
}

/// An ext file system with files of a known last byte; its used blocks according to `dumpe2fs`-like listing by debugfs.
fn ext(len: usize, options: &[&str], fill: &[(&str, usize)]) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path(), len);
    let name = path.to_str().unwrap();
    let arguments: Vec<&str> =
        ["-q", "-F"].into_iter().chain(options.iter().copied()).chain([name]).collect();
    if !run("mke2fs", &arguments) {
        return None;
    }
    let mut commands = String::new();
    for (file, len) in fill {
        let source = folder.path().join(file);
        fs::write(&source, vec![0xa5; *len]).unwrap();
        commands.extend(["write ", source.to_str().unwrap(), " ", file, "\n"]);
    }
    run_with("debugfs", &["-w", name], &commands);
    Some(fs::read(&path).unwrap())
}

/// The end of the last block in use before `limit`, as `dumpe2fs` lists the free ones.
///
/// Where its units are clusters, it names the last one by its first block.
fn ext_oracle(bytes: &[u8], block_len: u64, cluster_len: u64, limit: u64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    fs::write(&path, bytes).unwrap();
    let output = Command::new("/usr/sbin/dumpe2fs").arg(&path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lists = text.lines().filter_map(|line| line.strip_prefix("  Free blocks: "));
    let mut free = std::collections::HashSet::new();
    for range in lists.flat_map(|list| list.split(", ")).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        free.extend(first.parse::<u64>().unwrap()..last.parse::<u64>().unwrap() + cluster_len / block_len);
    }
    assert!(text.contains("\n  Free blocks:"), "dumpe2fs lists no group");
    let blocks = u64::try_from(bytes.len()).unwrap() / block_len;
    let last = (0..blocks.min(limit.div_ceil(block_len))).rev().find(|block| !free.contains(block));
    (last.unwrap() + 1) * block_len
}

const MIB: usize = 1 << 20;

// proves: VC-HID-02
#[test]
fn the_tail_of_ext_starts_behind_the_last_block_in_use() {
    let cases: [(usize, u64, &[&str]); 8] = [
        (20 * MIB, 1024, &["-t", "ext2", "-b", "1024"]),
        (20 * MIB, 1024, &["-t", "ext3", "-b", "1024", "-O", "^resize_inode"]),
        (20 * MIB, 1024, &["-t", "ext4", "-b", "1024"]),
        (24 * MIB, 4096, &["-t", "ext4", "-b", "4096", "-O", "64bit"]),
        (
            60 * MIB,
            4096,
            &["-t", "ext4", "-b", "4096", "-O", "^flex_bg,^64bit,^metadata_csum,uninit_bg", "-g", "1024"],
        ),
        (24 * MIB, 4096, &["-t", "ext4", "-b", "4096", "-O", "sparse_super2,^resize_inode", "-g", "2048"]),
        (24 * MIB, 1024, &["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"]),
        (24 * MIB, 4096, &["-t", "ext4", "-b", "4096", "-O", "bigalloc", "-C", "16384"]),
    ];
    for (len, block_len, options) in cases {
        for fill in
            [&[][..], &[("a", 3 * MIB), ("b", 700)], &[("a", 9 * MIB), ("b", 5 * MIB), ("c", 5 * MIB)]]
        {
            let Some(bytes) = ext(len, options, fill) else { return };
            let all = u64::try_from(len).unwrap();
            let device = device(bytes.clone());
            for limit in [all, all - 131_072, all / 2] {
                let found = free_tail(&device, limit).unwrap();
                assert_eq!(found.file_system, FileSystem::Ext);
                let cluster_len = if options.contains(&"bigalloc") { 16384 } else { block_len };
                let used = ext_oracle(&bytes, block_len, cluster_len, limit).min(limit);
                assert!(found.start >= used, "{options:?}: {} free, in use to {used}", found.start);
                // With meta groups, and where a backup may stand, more may be spared; never a whole file system.
                let slack = if options.contains(&"meta_bg,^resize_inode") { 9 << 20 } else { 1 << 20 };
                assert!(found.start - used <= slack, "{options:?}: {} is far from {used}", found.start);
            }
        }
    }
}

#[test]
fn a_file_system_that_was_not_left_clean_is_refused() {
    let Some(mut bytes) = ext(40 * MIB, &["-t", "ext4"], &[]) else { return };
    bytes[1024 + 96] |= 4;
    assert_eq!(tail(&bytes, 1 << 40).unwrap_err().kind(), ErrorKind::Unsupported);
    bytes[1024 + 96] &= !4;
    bytes[1024 + 58] = 0;
    assert_eq!(tail(&bytes, 1 << 40).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn what_was_not_left_clean_is_told_from_what_has_a_journal_to_replay() {
    let found = |bytes: &[u8]| condition(&device(bytes.to_vec())).unwrap().map(|(_, condition)| condition);
    assert_eq!(found(&vec![0; 1 << 20]), None);
    if let Some(mut bytes) = ext(40 * MIB, &["-t", "ext4"], &[]) {
        assert_eq!(found(&bytes), Some(Condition::Clean));
        bytes[1024 + 58] = 0;
        assert_eq!(found(&bytes), Some(Condition::Unclean));
        bytes[1024 + 96] |= 4;
        assert_eq!(found(&bytes), Some(Condition::Journal));
    }
    if let Some(mut bytes) = fat(40 * MIB, &["-F", "32", "-s", "1"]) {
        assert_eq!(found(&bytes), Some(Condition::Clean));
        bytes[65] |= 1;
        assert_eq!(found(&bytes), Some(Condition::Unclean));
    }
    if let Some(mut bytes) = exfat(8 * MIB, &[]) {
        assert_eq!(found(&bytes), Some(Condition::Clean));
        bytes[106] = 2;
        assert_eq!(found(&bytes), Some(Condition::Unclean));
    }
    let mut btrfs = vec![0; 1 << 20];
    btrfs[0x1_0040..0x1_0048].copy_from_slice(b"_BHRfS_M");
    assert_eq!(found(&btrfs), Some(Condition::Clean));
    btrfs[0x1_0063] = 1;
    assert_eq!(found(&btrfs), Some(Condition::Journal));
}

// proves: VC-HID-02
#[test]
fn fat_and_exfat_that_were_not_left_clean_are_refused() {
    let refuses = |bytes: &[u8]| {
        let error = tail(bytes, 1 << 40).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.reason().contains("not unmounted cleanly") && error.hint().is_some(), "{error}");
    };
    // The state's place, and that of the bit of each table's second entry.
    let cases: [(usize, &[&str], usize, Option<usize>); 3] = [
        (3 * MIB, &["-F", "12"], 37, None),
        (20 * MIB, &["-F", "16"], 37, Some(3)),
        (40 * MIB, &["-F", "32", "-s", "1"], 65, Some(7)),
    ];
    for (len, options, state, entry) in cases {
        let Some(clean) = fat(len, options) else { return };
        tail(&clean, 1 << 40).unwrap();
        let with = |at: usize, change: &dyn Fn(&mut u8)| {
            let mut bytes = clean.clone();
            change(&mut bytes[at]);
            bytes
        };
        refuses(&with(state, &|byte| *byte |= 1));
        let oracle = FatOracle::of(&clean);
        let bit = if oracle.width == 32 { 0x08 } else { 0x80 };
        for copy in 0..2 {
            let Some(entry) = entry else { continue };
            refuses(&with(oracle.fat + copy * oracle.fat_len + entry, &|byte| *byte &= !bit));
        }
    }
    let Some(clean) = exfat(8 * MIB, &[]) else { return };
    for (flags, is_clean) in [(1, true), (2, false), (4, false), (6, false), (8, true)] {
        let mut bytes = clean.clone();
        bytes[106] = flags;
        if is_clean { assert!(tail(&bytes, 1 << 40).is_ok(), "{flags}") } else { refuses(&bytes) }
    }
}

#[test]
fn a_feature_that_is_not_known_is_refused() {
    let Some(mut bytes) = ext(40 * MIB, &["-t", "ext4"], &[]) else { return };
    bytes[1024 + 96 + 3] |= 0x40;
    let error = tail(&bytes, 1 << 40).unwrap_err();
    assert!(error.reason().contains("0x40000000"), "{error}");
}

/// The layout of a FAT image, read the plain way.
struct FatOracle {
    width: usize,
    fat: usize,
    fat_len: usize,
    heap: usize,
    cluster: usize,
    clusters: usize,
}

impl FatOracle {
    fn of(bytes: &[u8]) -> Self {
        let at16 = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let at32 = |at: usize| at16(at) + (at16(at + 2) << 16);
        let sector = at16(11);
        let sectors = if at16(19) == 0 { at32(32) } else { at16(19) };
        let fat_len = if at16(22) == 0 { at32(36) } else { at16(22) };
        let heap = at16(14) + usize::from(bytes[16]) * fat_len + (at16(17) * 32).div_ceil(sector);
        let per_cluster = usize::from(bytes[13]);
        let clusters = (sectors - heap) / per_cluster;
        let width = if at16(22) == 0 {
            32
        } else if clusters < 4085 {
            12
        } else if clusters < 65525 {
            16
        } else {
            panic!("{clusters} clusters are too many")
        };
        Self {
            width,
            fat: at16(14) * sector,
            fat_len: fat_len * sector,
            heap: heap * sector,
            cluster: per_cluster * sector,
            clusters,
        }
    }

    /// Puts a cluster in use, as a file's last one.
    fn take(&self, bytes: &mut [u8], cluster: usize) {
        match self.width {
            12 => {
                let at = self.fat + cluster * 3 / 2;
                if cluster.is_multiple_of(2) {
                    (bytes[at], bytes[at + 1]) = (0xff, bytes[at + 1] | 0x0f);
                } else {
                    (bytes[at], bytes[at + 1]) = (bytes[at] | 0xf0, 0xff);
                }
            }
            16 => bytes[self.fat + cluster * 2..][..2].fill(0xff),
            _ => bytes[self.fat + cluster * 4..][..4].copy_from_slice(&[0xff, 0xff, 0xff, 0x0f]),
        }
    }
}

fn fat(len: usize, options: &[&str]) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path(), len);
    let arguments: Vec<&str> = options.iter().copied().chain([path.to_str().unwrap()]).collect();
    run("mkfs.vfat", &arguments).then(|| fs::read(&path).unwrap())
}

// proves: VC-HID-02
#[test]
fn the_tail_of_fat_starts_behind_the_last_cluster_in_use() {
    let cases: [(usize, usize, &[&str]); 6] = [
        (12, 3 * MIB, &["-F", "12"]),
        (12, 8 * MIB, &["-F", "12", "-s", "8", "-f", "1"]),
        (16, 20 * MIB, &["-F", "16"]),
        (32, 40 * MIB, &["-F", "32", "-s", "1"]),
        (32, 40 * MIB, &["-F", "32", "-s", "1", "-f", "1"]),
        (32, 20 * MIB, &["-F", "32", "-s", "1"]),
    ];
    for (width, len, options) in cases {
        let Some(empty) = fat(len, options) else { return };
        let oracle = FatOracle::of(&empty);
        assert_eq!(oracle.width, width);
        let all = u64::try_from(len).unwrap();
        let first = usize::from(width == 32);
        let start = u64::try_from(oracle.heap + first * oracle.cluster).unwrap();
        assert_eq!(
            tail(&empty, all).unwrap(),
            FreeTail { file_system: FileSystem::Fat, start },
            "{options:?}"
        );
        for cluster in
            [4, 5, oracle.clusters / 2, oracle.clusters / 2 + 1, oracle.clusters, oracle.clusters + 1]
        {
            let mut bytes = empty.clone();
            oracle.take(&mut bytes, cluster);
            let end = u64::try_from(oracle.heap + (cluster - 1) * oracle.cluster).unwrap();
            assert_eq!(tail(&bytes, all).unwrap().start, end, "{options:?}, cluster {cluster}");
            // A cluster that begins behind the limit does not count; one that straddles it does.
            let begin = end - u64::try_from(oracle.cluster).unwrap();
            assert_eq!(tail(&bytes, begin).unwrap().start, start.min(begin));
            assert_eq!(tail(&bytes, begin + 1).unwrap().start, begin + 1);
        }
    }
}

#[test]
fn a_second_copy_of_the_allocation_table_is_believed_too() {
    let Some(mut bytes) = fat(20 * MIB, &["-F", "16"]) else { return };
    let oracle = FatOracle::of(&bytes);
    let fat_len = usize::from(u16::from_le_bytes([bytes[22], bytes[23]])) * 512;
    bytes[oracle.fat + fat_len + 100 * 2] = 1;
    let end = u64::try_from(oracle.heap + 99 * oracle.cluster).unwrap();
    assert_eq!(tail(&bytes, 1 << 40).unwrap().start, end);
}

fn exfat(len: usize, options: &[&str]) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path(), len);
    let arguments: Vec<&str> = options.iter().copied().chain([path.to_str().unwrap()]).collect();
    run("mkfs.exfat", &arguments).then(|| fs::read(&path).unwrap())
}

// proves: VC-HID-02
#[test]
fn the_tail_of_exfat_starts_behind_the_last_cluster_in_use() {
    for (len, options) in
        [(8 * MIB, &["-c", "512"][..]), (40 * MIB, &["-c", "4K"]), (64 * MIB, &["-c", "128K"])]
    {
        let Some(empty) = exfat(len, options) else { return };
        let at32 =
            |at: usize| usize::try_from(u32::from_le_bytes(empty[at..at + 4].try_into().unwrap())).unwrap();
        let cluster = 1_usize << (empty[108] + empty[109]);
        let (heap, clusters, root) = (at32(88) << empty[108], at32(92), at32(96));
        let entries = &empty[heap + (root - 2) * cluster..][..96];
        let entry = entries.chunks(32).find(|entry| entry[0] == 0x81).unwrap();
        let bitmap = heap + (usize::from(entry[20]) + (usize::from(entry[21]) << 8) - 2) * cluster;
        let all = u64::try_from(len).unwrap();
        let found = tail(&empty, all).unwrap();
        // Bitmap, upcase table and root directory, in this order.
        assert_eq!(found.start, u64::try_from(heap + (root - 1) * cluster).unwrap(), "{options:?}");
        for index in [root + 3, clusters / 2, clusters - 1] {
            let mut bytes = empty.clone();
            bytes[bitmap + index / 8] |= 1 << (index % 8);
            let end = u64::try_from(heap + (index + 1) * cluster).unwrap();
            assert_eq!(tail(&bytes, all).unwrap().start, end, "{options:?}, cluster {index}");
        }
    }
}

#[test]
fn what_is_not_understood_is_named() {
    assert_eq!(tail(&[0; 4096], 4096).unwrap_err().kind(), ErrorKind::Unsupported);
    let mut bytes = vec![0; MIB];
    bytes[..4].copy_from_slice(b"XFSB");
    assert!(tail(&bytes, 4096).unwrap_err().reason().contains("an XFS file system"));
    assert_eq!(tail(&[0; 512], 0).unwrap_err().kind(), ErrorKind::Unsupported);
}

/// Every number of the structures that are read, made large, small and odd: an answer or an error, at once.
#[test]
fn hostile_numbers_are_answered_and_end_soon() {
    let images = [
        ext(8 * MIB, &["-t", "ext4", "-b", "1024"], &[]),
        fat(20 * MIB, &["-F", "16"]),
        exfat(8 * MIB, &["-c", "512"]),
        ntfs::made(8 * MIB, &["-c", "4096"], "", &[]),
    ];
    for bytes in images.into_iter().flatten() {
        each_value_is_answered(bytes, (0..128).chain(1024..1024 + 0x260).chain(2048..2048 + 64));
    }
}

/// Puts odd values at each of `places`, one at a time.
fn each_value_is_answered(bytes: Vec<u8>, places: impl IntoIterator<Item = usize>) {
    let limit = u64::try_from(bytes.len()).unwrap();
    let device = device(bytes);
    for at in places {
        let (sector, within) = (Sector(u64::try_from(at / 512).unwrap()), at % 512);
        let mut old = [0; 512];
        device.read(&mut old, sector).unwrap();
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut new = old;
            new[within] = value;
            device.write(&new, sector).unwrap();
            if let Ok(tail) = free_tail(&device, limit) {
                assert!(tail.start <= limit);
            }
        }
        device.write(&old, sector).unwrap();
    }
}

#[test]
fn each_file_system_says_how_large_it_is() {
    let made = [
        (FileSystem::Ext, ext(20 * MIB, &["-t", "ext2", "-b", "1024"], &[])),
        (FileSystem::Ext, ext(24 * MIB, &["-t", "ext4", "-b", "4096", "-O", "64bit"], &[])),
        (FileSystem::Fat, fat(4 * MIB, &[])),
        (FileSystem::Fat, fat(40 * MIB, &["-F", "32"])),
        (FileSystem::Exfat, exfat(8 * MIB, &[])),
    ];
    for (file_system, bytes) in made.into_iter().filter_map(|(name, bytes)| Some((name, bytes?))) {
        let len = u64::try_from(bytes.len()).unwrap();
        // Also where its end is not there any more, which is what it is asked for.
        for there in [bytes.len(), bytes.len() / 2] {
            let found = extent(&device(bytes[..there].to_vec())).unwrap();
            assert_eq!(found, Some(Extent { file_system, len }));
        }
    }
}

#[test]
fn superblocks_of_large_file_systems_say_how_large_they_are() {
    let with = |patches: &[(usize, &[u8])]| {
        let mut bytes = vec![0; 128 << 10];
        for (at, patch) in patches {
            bytes[*at..*at + patch.len()].copy_from_slice(patch);
        }
        extent(&device(bytes)).unwrap().map(|found| (found.file_system, found.len))
    };
    let len = 5_u64 << 40;
    let xfs = [(0, &b"XFSB"[..]), (4, &4096_u32.to_be_bytes()), (8, &(len / 4096).to_be_bytes())];
    assert_eq!(with(&xfs), Some((FileSystem::Xfs, len)));
    let btrfs = [(0x1_0040, &b"_BHRfS_M"[..]), (0x1_0070, &[0xff; 8]), (0x1_00d1, &len.to_le_bytes())];
    assert_eq!(with(&btrfs), Some((FileSystem::Btrfs, len)));
    let ntfs = [(3, &b"NTFS    "[..]), (11, &512_u16.to_le_bytes()), (40, &(len / 512).to_le_bytes())];
    assert_eq!(with(&ntfs), Some((FileSystem::Ntfs, len)));
    // Sizes that pass 64 bits, and no file system at all.
    assert_eq!(with(&[(0, b"XFSB"), (4, &[0xff; 12])]), None);
    assert_eq!(with(&[(3, b"EXFAT   "), (72, &[0xff; 8]), (108, &[9])]), None);
    assert_eq!(with(&[]), None);
}
