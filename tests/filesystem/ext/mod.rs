//! ext2, ext3 and ext4, read: what the kernel wrote, what it makes of a journal, and damage. Written: `write`.

mod cuts;
mod grow;
mod make;
mod model;
mod tree;
mod write;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::geteuid;
use strongroom::{
    block::ByteDevice,
    filesystem::{ExtFileSystem, FileSystem, Journal, NodeId, Unreadable},
};
use tempfile::TempDir;

use crate::{Random, disk::Disk, number};

/// An image, and a place to mount it on.
struct Image {
    folder: TempDir,
}

/// A mount that goes with it.
struct Mounted {
    place: PathBuf,
    device: String,
}

impl Image {
    /// One made with these options; `None` where it cannot be.
    fn new(size: &str, options: &str) -> Self {
        let image = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(image.path("m")).unwrap();
        let script = format!("truncate -s {size} image && mke2fs -q -F {options} image 2> said");
        image.shell(&script);
        image
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn shell(&self, script: &str) -> String {
        self.try_shell(script).unwrap_or_else(|said| panic!("{script}: {said}"))
    }

    /// What a script said, and whether all of it went well.
    fn try_shell(&self, script: &str) -> Result<String, String> {
        let path = format!("PATH=$PATH:/sbin:/usr/sbin; set -e; {script}");
        let output = Command::new("sh").args(["-c", &path]).current_dir(&self.folder).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(said) } else { Err(said + &String::from_utf8_lossy(&output.stderr)) }
    }

    /// A file of the folder, kept to be looked at.
    fn kept(&self, name: &str) -> PathBuf {
        let (_, kept) = tempfile::NamedTempFile::new().unwrap().keep().unwrap();
        fs::copy(self.path(name), &kept).unwrap();
        kept
    }

    /// Mounts a file of the folder over a loop device, which is writable also where the mount is not: a journal is replayed then.
    fn mount(&self, name: &str, options: &str) -> Mounted {
        let device = self.shell(&format!("losetup -f --show {name}")).trim().to_owned();
        let mounted = Mounted { place: self.path("m"), device };
        self.shell(&format!("mount -t ext4 -o {options} {} m", mounted.device));
        mounted
    }

    fn open(&self, name: &str) -> (ExtFileSystem, Journal) {
        open(fs::read(self.path(name)).unwrap()).unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let mut unmount = Command::new("umount");
        if !unmount.arg(&self.place).status().is_ok_and(|status| status.success()) {
            let _ = Command::new("umount").arg("-l").arg(&self.place).status();
        }
        let _ = Command::new("losetup").args(["-d", &self.device]).status();
    }
}

fn open(image: Vec<u8>) -> Result<(ExtFileSystem, Journal), Unreadable> {
    ExtFileSystem::open(&device(image), false)
}

fn device(image: Vec<u8>) -> Arc<ByteDevice> {
    Disk::new(image).device()
}

/// Whether the kernel judges here: root, loop devices, mke2fs.
fn can_judge() -> bool {
    let has = |name: &str| ["/sbin", "/usr/sbin"].iter().any(|folder| Path::new(folder).join(name).exists());
    let missing = if !geteuid().is_root() {
        "only root mounts loop devices"
    } else if !Path::new("/dev/loop-control").exists() {
        "there are no loop devices"
    } else if !has("mke2fs") || !has("losetup") {
        "mke2fs or losetup is missing"
    } else {
        return true;
    };
    assert!(std::env::var_os("STRONGROOM_REQUIRE").is_none_or(|value| value != "1"), "{missing}");
    println!("skipped: {missing}");
    false
}

const MIB64: &str = "64M";
/// Name, size, what mke2fs is told, and names in one directory.
const KINDS: &[(&str, &str, &str, usize)] = &[
    ("as Debian 12 makes it", MIB64, "-t ext4", 1000),
    ("as Debian 13 makes it", MIB64, "-t ext4 -O orphan_file,metadata_csum_seed", 1000),
    ("ten thousand names", MIB64, "-t ext4 -b 1024", 10_000),
    ("2 KiB blocks", MIB64, "-t ext4 -b 2048", 1000),
    ("4 KiB blocks", MIB64, "-t ext4 -b 4096", 1000),
    ("ext2", MIB64, "-t ext2 -b 4096", 1000),
    ("ext2, 1 KiB", MIB64, "-t ext2 -b 1024", 2000),
    ("ext3", MIB64, "-t ext3", 1000),
    ("the first inodes", MIB64, "-t ext3 -b 1024 -I 128", 1000),
    ("revision 0", MIB64, "-t ext2 -r 0 -b 1024", 500),
    ("without extents", MIB64, "-t ext4 -O ^extent,^64bit", 1000),
    ("with 32 bits", MIB64, "-t ext4 -O ^64bit", 1000),
    ("checksums of groups", MIB64, "-t ext4 -O ^metadata_csum,uninit_bg", 1000),
    ("no checksums", MIB64, "-t ext4 -O ^metadata_csum,^uninit_bg", 1000),
    ("inline data", MIB64, "-t ext4 -O inline_data", 1000),
    ("inline data in large inodes", MIB64, "-t ext4 -O inline_data -b 1024 -I 1024", 500),
    ("meta groups", MIB64, "-t ext4 -O meta_bg,^resize_inode -b 1024", 500),
    ("two backups", MIB64, "-t ext4 -O sparse_super2 -b 1024", 500),
    ("without an index", MIB64, "-t ext4 -O ^dir_index", 500),
    ("without kinds in directories", MIB64, "-t ext4 -O ^filetype", 500),
    ("clusters", "128M", "-t ext4 -O bigalloc", 500),
    ("large attributes", MIB64, "-t ext4 -O ea_inode", 500),
    ("large directories", MIB64, "-t ext4 -O large_dir -b 1024", 2000),
    ("watched by others", MIB64, "-t ext4 -O mmp", 100),
    ("without the newer fields", MIB64, "-t ext4 -O ^huge_file,^dir_nlink,^extra_isize", 500),
    ("without a journal", MIB64, "-t ext4 -O ^has_journal", 500),
    ("the oldest hash", MIB64, "-t ext4 -b 1024 -E hash_alg=legacy", 2000),
    ("the hash tea", MIB64, "-t ext4 -b 1024 -E hash_alg=tea", 2000),
];

#[test]
fn what_the_kernel_wrote_reads_the_same() {
    if !can_judge() {
        return;
    }
    for &(name, size, options, names) in KINDS {
        let (options, tuned) = options.split_once(" -E ").unwrap_or((options, ""));
        let image = Image::new(size, options);
        if !tuned.is_empty() {
            image.shell(&format!("tune2fs -E {tuned} image"));
        }
        let mounted = image.mount("image", "rw");
        tree::fill(&mounted.place, names);
        drop(mounted);
        let mounted = image.mount("image", "ro");
        let (files, journal) = image.open("image");
        assert_eq!(journal, Journal::Empty, "{name}");
        tree::assert_same(&files, &mounted.place, name);
        drop(mounted);
        image.shell("e2fsck -fn image > said 2>&1");
    }
}

#[test]
fn bytes_of_names_may_be_hashed_without_their_sign() {
    if !can_judge() {
        return;
    }
    for hash in ["half_md4", "tea", "legacy"] {
        let image = Image::new(MIB64, "-t ext4 -b 1024");
        image.shell(&format!("tune2fs -E hash_alg={hash} image; debugfs -w -R 'ssv flags 2' image 2> said"));
        let mounted = image.mount("image", "rw");
        tree::fill(&mounted.place, 2000);
        drop(mounted);
        let mounted = image.mount("image", "ro");
        tree::assert_same(&image.open("image").0, &mounted.place, hash);
        drop(mounted);
    }
}

/// How a journal is written: what mke2fs and mount are told.
const JOURNALS: &[(&str, &str)] = &[
    ("-t ext4 -b 1024", "rw"),
    ("-t ext4 -b 4096", "rw"),
    ("-t ext4 -b 1024", "rw,data=journal"),
    ("-t ext3 -b 1024", "rw"),
    ("-t ext3 -b 4096", "rw,data=journal"),
    ("-t ext4 -O ^metadata_csum -b 1024", "rw,journal_checksum"),
    ("-t ext4 -O ^metadata_csum,^64bit -b 1024", "rw,journal_checksum,data=journal"),
    ("-t ext4 -b 1024", "rw,journal_async_commit,data=writeback"),
    ("-t ext4 -O orphan_file,metadata_csum_seed", "rw"),
    ("-t ext4 -O inline_data", "rw"),
    ("-t ext4 -b 1024 -J size=1", "rw"),
];

#[test]
fn a_journal_shows_what_the_kernel_makes_of_it() {
    if !can_judge() {
        return;
    }
    for (seed, (made, mounted_with)) in JOURNALS.iter().enumerate() {
        let image = Image::new(MIB64, made);
        let mounted = image.mount("image", mounted_with);
        let held = tree::stir(&mounted.place, seed as u64, number("OPS", 600) as usize);
        // The log is written, and nothing else stirs.
        fs::File::open(&mounted.place).unwrap().sync_all().unwrap();
        image.shell("cp --sparse=always image ours; cp --sparse=always image theirs");
        drop(held);
        drop(mounted);
        let (files, journal) = image.open("ours");
        assert_eq!(journal, Journal::Replayed, "{made}");
        let mounted = image.mount("theirs", "ro");
        tree::assert_same(&files, &mounted.place, &format!("{made} {mounted_with}"));
        drop(mounted);
    }
}

/// `debugfs` writes a block of each of two files into the journal, and revokes the second. No kernel writes checksums of the second
/// kind any more.
#[test]
fn a_journal_of_debugfs_is_replayed_with_each_kind_of_checksum() {
    if !can_judge() {
        return;
    }
    for (made, kind) in [("-O ^metadata_csum", ""), ("", "-c -v 2"), ("", "-c -v 3")] {
        let image = Image::new("16M", &format!("-t ext4 -b 1024 {made}"));
        image.shell(&format!(
            "yes old | head -c 1024 > old; yes new | head -c 2048 > new
             printf 'write old f\nwrite old g\n' > script; debugfs -w -f script image > said 2>&1
             f=$(debugfs -R 'bmap f 0' image 2> said); g=$(debugfs -R 'bmap g 0' image 2> said)
             printf \"jo {kind}\njw -b $f,$g new\njw -r $g\njc\n\" > script
             debugfs -w -f script image > said 2>&1"
        ));
        let (files, journal) = image.open("image");
        assert_eq!(journal, Journal::Replayed, "{kind}");
        for (name, start) in [("f", b"new"), ("g", b"old")] {
            let node = files.lookup(NodeId::ROOT, name.as_ref()).unwrap().attributes.node;
            let mut content = vec![0; 2000];
            assert_eq!(files.read(node, 0, &mut content).unwrap(), 1024);
            assert!(content.starts_with(start), "{kind} {name}");
        }
    }
}

/// They are not replayed: whoever looks is told that something is missing.
#[test]
fn fast_commits_in_a_journal_are_told() {
    if !can_judge() {
        return;
    }
    let image = Image::new(MIB64, "-t ext4 -O fast_commit");
    let mounted = image.mount("image", "rw");
    image.shell("echo first > m/f; sync -f m; echo second >> m/f; sync m/f; cp --sparse=always image ours");
    drop(mounted);
    let (files, journal) = image.open("ours");
    assert_eq!(journal, Journal::Unread("it has fast commits"));
    let found = files.lookup(NodeId::ROOT, "f".as_ref()).unwrap();
    assert_eq!(found.attributes.size, 6);
}

#[test]
fn a_volume_with_a_feature_that_is_not_known_is_refused_by_its_name() {
    if !can_judge() {
        return;
    }
    for feature in ["encrypt", "casefold"] {
        let image = Image::new("16M", &format!("-t ext4 -O {feature}"));
        let refused = open(fs::read(image.path("image")).unwrap()).unwrap_err();
        assert_eq!(refused, Unreadable::Feature(feature.to_owned()));
    }
}

/// Damage anywhere, most of it where metadata are: nothing panics, nothing goes on for ever.
#[test]
fn damage_neither_panics_nor_hangs() {
    if !can_judge() {
        return;
    }
    let kinds = [
        "-t ext4 -b 1024 -O ^metadata_csum",
        "-t ext4 -b 1024",
        "-t ext4 -O ^metadata_csum,inline_data",
        "-t ext2 -b 1024",
    ];
    for (at, options) in kinds.into_iter().enumerate() {
        let image = Image::new("8M", &format!("-N 1500 {options}"));
        let mounted = image.mount("image", "rw");
        tree::fill(&mounted.place, 300);
        fs::File::open(&mounted.place).unwrap().sync_all().unwrap();
        let whole = fs::read(image.path("image")).unwrap();
        drop(mounted);
        for seed in 0..number("SEEDS", 40) {
            let mut random = Random((seed << 8) + at as u64);
            let mut damaged = whole.clone();
            tree::damage(&mut damaged, &mut random);
            let start = Instant::now();
            if let Ok((files, _, None)) = ExtFileSystem::open_to_write(&device(damaged.clone())) {
                tree::change(&files, &mut random);
            }
            let opening = Instant::now();
            let opened = open(damaged);
            assert!(opening.elapsed() < Duration::from_secs(1), "{options} {seed}");
            if let Ok((files, _)) = opened {
                tree::walk(&files);
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{options} {seed}");
        }
    }
}

/// A copy of the image while it is written is what a power cut leaves: much of it is in no order, and all of it is read or refused.
#[test]
fn an_image_that_is_copied_while_it_is_mounted_is_shown_as_the_kernel_shows_it() {
    if !can_judge() {
        return;
    }
    for (seed, options) in ["-t ext4 -b 1024", "-t ext4 -O orphan_file"].into_iter().enumerate() {
        let image = Image::new(MIB64, options);
        let mounted = image.mount("image", "rw");
        for (round, copy) in ["c1", "c2", "c3", "c4"].into_iter().enumerate() {
            let place = mounted.place.join(copy);
            fs::create_dir(&place).unwrap();
            drop(tree::stir(&place, (seed + round) as u64, 200));
            // All of it is in the journal, and nothing is written meanwhile: the copy is of one moment.
            fs::File::open(&place).unwrap().sync_all().unwrap();
            image.shell(&format!("cp --sparse=always image {copy}"));
        }
        drop(mounted);
        for copy in ["c1", "c2", "c3", "c4"] {
            image.shell(&format!("cp --sparse=always {copy} theirs"));
            let (files, journal) = image.open(copy);
            assert_eq!(journal, Journal::Replayed, "{options}");
            let mounted = image.mount("theirs", "ro");
            tree::assert_same(&files, &mounted.place, &format!("{options} {copy}"));
            drop(mounted);
        }
    }
}
