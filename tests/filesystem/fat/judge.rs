//! The volumes that are tested, made by `mkfs`, and what `fsck` says of them.

use std::{env, fs, path::Path, process::Command};

use strongroom::filesystem::FatFileSystem;

use crate::disk::Disk;

/// A kind of volume.
#[derive(Clone, Copy)]
pub(super) struct Case {
    /// What `KIND` in the environment asks for.
    pub(super) name: &'static str,
    mkfs: &'static [&'static str],
    /// In bytes.
    pub(super) size: u64,
}

impl Case {
    /// An empty volume.
    pub(super) fn format(&self) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(self.size).unwrap();
        let made = Command::new(self.mkfs[0]).args(&self.mkfs[1..]).arg(file.path()).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        fs::read(file.path()).unwrap()
    }

    /// The file system on a disk on which nothing is to be repaired.
    pub(super) fn open(disk: &Disk) -> FatFileSystem {
        let (files, repair) = FatFileSystem::open(&disk.device(), false).unwrap();
        assert!(repair.is_empty(), "{repair}");
        files
    }

    /// `fsck` finds nothing to repair on the disk. Keeps an image on which it does.
    pub(super) fn assert_clean(&self, disk: &Disk, what: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), disk.image()).unwrap();
        if let Err(said) = fsck(file.path(), self.mkfs[0] == "mkfs.exfat") {
            let (_, kept) = file.keep().unwrap();
            panic!("{what}, kept in {}: {said}", kept.display());
        }
    }
}

/// Asks `fsck`, which changes nothing. What it printed, where it is not content.
pub(super) fn fsck(path: &Path, is_exfat: bool) -> Result<(), String> {
    let program = if is_exfat { "fsck.exfat" } else { "fsck.vfat" };
    let output = Command::new(program).arg("-n").arg(path).output().unwrap();
    let [said, complained] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {said}{complained}")) }
}

/// The kinds that were asked for, or all.
pub(super) fn cases() -> Vec<Case> {
    let only = env::var("KIND").unwrap_or_default();
    CASES.iter().filter(|case| only.is_empty() || case.name == only).copied().collect()
}

/// Whether the programs that judge are installed.
pub(super) fn can_judge() -> bool {
    let is_installed =
        |name: &str| ["/sbin", "/usr/sbin"].iter().any(|folder| Path::new(folder).join(name).exists());
    let Some(missing) = ["mkfs.vfat", "mkfs.exfat"].into_iter().find(|name| !is_installed(name)) else {
        return true;
    };
    assert!(env::var_os("STRONGROOM_REQUIRE").is_none_or(|value| value != "1"), "{missing} is missing");
    println!("skipped: {missing} is not installed");
    false
}

/// Each width of the table with small and large clusters, and two that are soon full.
const CASES: &[Case] = &[
    Case { name: "fat12", mkfs: &["mkfs.vfat", "-F", "12", "-s", "1"], size: 1 << 20 },
    Case { name: "fat12s8", mkfs: &["mkfs.vfat", "-F", "12", "-s", "8"], size: 12 << 20 },
    Case { name: "fat16", mkfs: &["mkfs.vfat", "-F", "16", "-s", "1"], size: 4 << 20 },
    Case { name: "fat16s8", mkfs: &["mkfs.vfat", "-F", "16", "-s", "8"], size: 20 << 20 },
    Case { name: "fat32", mkfs: &["mkfs.vfat", "-F", "32", "-s", "1"], size: 36 << 20 },
    Case { name: "fat32small", mkfs: &["mkfs.vfat", "-F", "32", "-s", "2"], size: 3 << 20 },
    Case { name: "exfat", mkfs: &["mkfs.exfat", "-c", "4K"], size: 16 << 20 },
    Case { name: "exfat1k", mkfs: &["mkfs.exfat", "-c", "1K"], size: 8 << 20 },
    Case { name: "exfat32k", mkfs: &["mkfs.exfat", "-c", "32K"], size: 24 << 20 },
    Case { name: "fat12full", mkfs: &["mkfs.vfat", "-F", "12", "-s", "1"], size: 160 << 10 },
    Case { name: "exfatfull", mkfs: &["mkfs.exfat", "-c", "4K", "-b", "4K"], size: 1 << 20 },
];
