//! What each `mkfs` leaves of a file system that was there before: the newer one is what is recognised.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first thing that is not as it must be, and says what it skips"
)]

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use strongroom::format::signature::{FileSystem, HEAD_LEN, recognise};

/// Program and options, and what it makes. Nothing is discarded first: a volume cannot.
const MAKERS: [(&str, &[&str], FileSystem); 8] = [
    ("mkfs.ext4", &["-q", "-F", "-E", "nodiscard"], FileSystem::Ext),
    ("mkfs.ext2", &["-q", "-F", "-b", "1024", "-E", "nodiscard"], FileSystem::Ext),
    ("mkfs.xfs", &["-q", "-f", "-K"], FileSystem::Xfs),
    ("mkfs.btrfs", &["-q", "-f", "-K"], FileSystem::Btrfs),
    ("mkfs.vfat", &["-F", "16"], FileSystem::Fat),
    ("mkfs.vfat", &["-F", "32"], FileSystem::Fat),
    ("mkfs.exfat", &[], FileSystem::Exfat),
    ("mkfs.ntfs", &["-F", "-Q", "-q", "-c", "512"], FileSystem::Ntfs),
];

/// Enough for each of them.
const LEN: u64 = 320 << 20;

fn program(name: &str) -> Option<PathBuf> {
    let found =
        ["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).join(name)).into_iter().find(|it| it.exists());
    if found.is_none() {
        assert!(std::env::var_os("STRONGROOM_REQUIRE").is_none_or(|value| value != "1"), "{name} is missing");
        println!("skipped: what {name} leaves: it is missing");
    }
    found
}

fn make(program: &Path, options: &[&str], image: &Path) {
    let output = Command::new(program).args(options).arg(image).output().unwrap();
    assert!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
}

/// The first bytes of an image.
fn start(image: &Path, len: usize) -> Vec<u8> {
    let mut start = vec![0; len];
    fs::File::open(image).unwrap().read_exact(&mut start).unwrap();
    start
}

/// An image that is empty but for its first bytes.
fn empty(image: &Path, start: &[u8]) {
    fs::write(image, start).unwrap();
    fs::File::options().write(true).open(image).unwrap().set_len(LEN).unwrap();
}

#[test]
fn of_two_file_systems_made_in_one_place_the_second_is_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    let makers: Vec<_> =
        MAKERS.iter().filter_map(|(name, options, made)| Some((program(name)?, options, made))).collect();
    let btrfs_magic = b"_BHRfS_M";
    let mut stale = 0;
    for (older, old_options, _) in &makers {
        empty(&image, &[]);
        make(older, old_options, &image);
        let before = start(&image, 1 << 20);
        for (newer, options, made) in &makers {
            empty(&image, &before);
            make(newer, options, &image);
            let head = start(&image, HEAD_LEN);
            let found = recognise(&head).unwrap_or_else(|| panic!("{newer:?} over {older:?}: nothing"));
            assert_eq!(found.file_system(), Some(**made), "{newer:?} over {older:?}");
            let is_stale = head[0x1_0040..].starts_with(btrfs_magic) && **made != FileSystem::Btrfs;
            stale += usize::from(is_stale);
        }
    }
    // Otherwise the order would not be tried.
    let has_both = ["mkfs.btrfs", "mkfs.ntfs"].iter().all(|name| program(name).is_some());
    assert!(!has_both || stale > 0, "nobody leaves anything");
}
