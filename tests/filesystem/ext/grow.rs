//! Volumes that become larger: e2fsck, resize2fs and the kernel judge them.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use strongroom::{
    block::ByteDevice,
    filesystem::{ExtFileSystem, FileSystem, Journal, Ungrown},
};

use super::{
    Image, can_judge,
    make::Sparse,
    model::{Run, shape_of},
    tree,
    write::has_extents,
};
use crate::{
    Random,
    disk::{Disk, Event, cut_units},
    number,
};

const M: u64 = 1 << 20;

/// Sizes in MiB, one after the other, and what mke2fs is told.
const KINDS: &[(&[u64], &str)] = &[
    (&[24, 31, 300, 1100], "-t ext4 -b 4096"),
    (&[24, 31, 300], "-t ext4 -b 1024"),
    (&[24, 26, 200], "-t ext4 -b 2048"),
    (&[24, 200, 900], "-t ext4 -O orphan_file,metadata_csum_seed"),
    (&[24, 30, 300], "-t ext4 -b 1024 -O ^64bit"),
    (&[24, 30, 300], "-t ext4 -b 1024 -O ^flex_bg"),
    (&[24, 30, 300], "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg"),
    (&[24, 30, 300], "-t ext4 -b 1024 -O ^metadata_csum,^uninit_bg"),
    (&[24, 30, 300], "-t ext4 -b 1024 -O meta_bg,^resize_inode"),
    (&[200, 400], "-t ext4 -b 1024 -O meta_bg,^resize_inode,^flex_bg"),
    (&[24, 100], "-t ext4 -b 1024 -O sparse_super2"),
    (&[100, 120], "-t ext4 -b 1024 -O ^resize_inode"),
    (&[100, 125], "-t ext4 -b 1024 -O ^sparse_super,^resize_inode"),
    (&[24, 300], "-t ext4 -b 1024 -G 4"),
    (&[24, 300], "-t ext4 -b 1024 -m 5"),
    (&[24, 300], "-t ext4 -b 1024 -O ^has_journal"),
    (&[24, 30, 300], "-t ext3 -b 1024"),
    (&[24, 300], "-t ext3 -b 4096"),
    (&[24, 30, 300], "-t ext2 -b 1024"),
    (&[24, 300], "-t ext2 -b 4096 -I 128"),
    (&[24, 100], "-t ext2 -b 1024 -r 0"),
];

/// Our driver, on a file that is as long as the volume is to be.
fn grow(image: &Image, name: &str) -> Result<(), Ungrown> {
    let file = File::options().read(true).write(true).open(image.path(name)).unwrap();
    let len = file.metadata().unwrap().len();
    let device = Arc::new(ByteDevice::new(Arc::new(Sparse(file, len))));
    let (files, _, unwritten) = ExtFileSystem::open_to_write(&device).unwrap();
    assert_eq!(unwritten, None);
    let grown = files.grow(&|| false);
    files.close().unwrap();
    grown
}

/// Sizes and what is free, as dumpe2fs tells them.
fn counted(image: &Image, name: &str) -> Vec<String> {
    let counts = ["Inode count", "lock count", "Free", "Reserved GDT", "per group", "features:"];
    let said = image.shell(&format!("dumpe2fs -h {name} 2> said"));
    let is_wanted = |line: &&str| counts.iter().any(|word| line.contains(word)) && !line.contains("Journal");
    said.lines().filter(is_wanted).map(str::to_owned).collect()
}

/// Of each group, how much is free, and what kinds of blocks it has.
fn groups(image: &Image, name: &str) -> Vec<String> {
    let said = image.shell(&format!("dumpe2fs {name} 2> said"));
    let is_wanted = |line: &&str| line.starts_with("Group ") || line.contains("superblock at");
    said.lines().filter(is_wanted).map(|line| line.split(" csum").next().unwrap().to_owned()).collect()
}

#[test]
fn volumes_grow_to_what_resize2fs_makes_of_them() {
    if !can_judge() {
        return;
    }
    for (sizes, options) in KINDS {
        let image = Image::new(&format!("{}M", sizes[0]), options);
        let mounted = image.mount("image", "rw");
        tree::fill(&mounted.place, 300);
        drop(mounted);
        for size in &sizes[1..] {
            let what = format!("{options}, {size} MiB");
            let before = image.open("image").0;
            image.shell(&format!(
                "truncate -s {size}M image; cp --sparse=always image theirs
                 e2fsck -fp theirs > said 2>&1; resize2fs theirs > said 2>&1"
            ));
            // Nothing there reads as zeros by chance.
            let (file, noise) =
                (File::options().write(true).open(image.path("image")).unwrap(), [0xa5; 4096]);
            let from =
                image.shell("dumpe2fs -h image 2> said | sed -n 's/Block count: *//p; s/Block size: *//p'");
            let from: u64 = from.lines().map(|line| line.parse::<u64>().unwrap()).product();
            for at in (from..size * M).step_by(4096) {
                file.write_all_at(&noise[..noise.len().min((size * M - at) as usize)], at).unwrap();
            }
            grow(&image, "image").unwrap_or_else(|why| panic!("{what}: {why}"));
            let checked = image.try_shell("e2fsck -fn image 2>&1");
            checked.unwrap_or_else(|said| panic!("{what}: {said}"));
            let (ours, theirs) = (counted(&image, "image"), counted(&image, "theirs"));
            // It has moved the second copy to the new end, and has lost count of what is taken.
            let is_alike =
                |line: &&String| !options.contains("sparse_super2") || line.contains("Block count");
            let (ours, theirs): (Vec<_>, Vec<_>) =
                (ours.iter().filter(is_alike).collect(), theirs.iter().filter(is_alike).collect());
            assert_eq!(ours, theirs, "{what}");
            if !options.contains("sparse_super2") {
                assert_eq!(groups(&image, "image"), groups(&image, "theirs"), "{what}");
            }
            // The copies tell of the same volume.
            let block_len = image.shell("dumpe2fs -h image 2> said | sed -n 's/Block size: *//p'");
            let copy = image.shell(
                "dumpe2fs image 2> said | sed -n 's/.*Backup superblock at \\([0-9]*\\).*/\\1/p' | tail -1",
            );
            if !copy.trim().is_empty() {
                let checked = image.try_shell(&format!(
                    "cp --sparse=always image copy; e2fsck -fn -b {} -B {} copy 2>&1 || [ $? -le 4 ]; 
                     dumpe2fs -o superblock={} -o blocksize={} image 2> said | grep '^Block count' > one
                     dumpe2fs -h image 2> said | grep '^Block count' | cmp - one",
                    copy.trim(),
                    block_len.trim(),
                    copy.trim(),
                    block_len.trim()
                ));
                checked.unwrap_or_else(|said| panic!("{what}: {said}"));
            }
            let (files, journal) = image.open("image");
            assert!(matches!(journal, Journal::Empty), "{what}");
            assert_eq!(shape_of(&files), shape_of(&before), "{what}");
            let mounted = image.mount("image", "rw,noatime");
            tree::assert_same(&files, &mounted.place, &what);
            // The new room is room: also for the kernel.
            image.shell("d=m/grown-$(stat -fc %b m); mkdir $d; for i in 1 2 3 4 5 6 7 8 9; do head -c 1M /dev/urandom > $d/$i; mkdir $d/d$i; done; sha256sum $d/? > sums; sync -f m; sha256sum --quiet -c sums");
            image.shell("rm -r m/grown-*");
            drop(mounted);
            // Whoever has copied the table of mounts meanwhile has it mounted a moment longer.
            let checked = image.try_shell(
                "i=0; until e2fsck -fn image > said 2>&1; do [ $i -lt 50 ] || { cat said; exit 1; }; i=$((i + 1)); sleep 0.1; done",
            );
            checked.unwrap_or_else(|said| panic!("{what}: the kernel's: {said}"));
        }
    }
}

#[test]
fn a_volume_that_is_as_large_stays_as_it_is() {
    if !can_judge() {
        return;
    }
    let image = Image::new("40M", "-t ext4 -b 1024");
    let before = fs::read(image.path("image")).unwrap();
    grow(&image, "image").unwrap();
    assert!(fs::read(image.path("image")).unwrap() == before);
    // A last group with next to no room is left out, and so is a part of a page.
    image.shell("truncate -s +3K image");
    grow(&image, "image").unwrap();
    assert!(fs::read(image.path("image")).unwrap()[..before.len()] == before[..]);
}

#[test]
fn what_cannot_grow_is_told_by_name() {
    if !can_judge() {
        return;
    }
    for (size, more, options, why) in [
        (
            "100M",
            "400M",
            "-t ext4 -b 1024 -O ^resize_inode",
            "there is no room for the descriptors of so many groups",
        ),
        ("24M", "64G", "-t ext4 -b 1024", "there is no room for the descriptors of so many groups"),
        ("100M", "17T", "-t ext4 -b 4096 -O ^64bit,meta_bg,^resize_inode", "its block numbers have 32 bits"),
        (
            "100M",
            "300M",
            "-t ext4 -b 1024 -N 120000000",
            "it would have more inodes than there are numbers for",
        ),
    ] {
        let Ok(made) = std::panic::catch_unwind(|| Image::new(size, options)) else { continue };
        made.shell("sha256sum image > before");
        let file = File::options().read(true).write(true).open(made.path("image")).unwrap();
        let len: u64 = match more {
            "17T" => 17 << 40,
            "64G" => 64 << 30,
            _ => more.trim_end_matches('M').parse::<u64>().unwrap() * M,
        };
        let device = Arc::new(ByteDevice::new(Arc::new(Sparse(file, len))));
        let (files, ..) = ExtFileSystem::open_to_write(&device).unwrap();
        assert_eq!(files.check_growth(len), Err(Ungrown::Unfit(why)), "{options}");
        assert_eq!(files.grow(&|| false), Err(Ungrown::Unfit(why)), "{options}");
        files.close().unwrap();
        made.shell("sha256sum --quiet -c before");
    }
}

/// A power cut at each write, in order and with the medium's own order: the files are there, nothing takes a repair where there is a
/// journal, and the same growth ends it.
#[test]
fn a_power_cut_while_a_volume_grows_loses_nothing() {
    if !can_judge() {
        return;
    }
    for (nth, (size, more, options)) in [
        (12, 40, "-t ext4 -b 1024 -J size=1"),
        (12, 160, "-t ext4 -b 1024 -J size=1"),
        (12, 40, "-t ext3 -b 1024 -J size=1"),
        (12, 40, "-t ext4 -b 1024 -J size=1 -O meta_bg,^resize_inode"),
        (12, 40, "-t ext2 -b 1024"),
    ]
    .into_iter()
    .enumerate()
    {
        let image = Image::new(&format!("{size}M"), options);
        let disk = Disk::new(fs::read(image.path("image")).unwrap());
        let mut run = Run::new(super::write::open(&disk), nth as u64, has_extents(options));
        (0..200).for_each(|_| run.step());
        run.let_all_go();
        run.files.close().unwrap();
        let shape = run.model.shape();
        let mut blank = disk.image();
        blank.resize(more << 20, 0xa5);
        let disk = Disk::logged(blank.clone());
        let files = super::write::open(&disk);
        files.grow(&|| false).unwrap();
        files.close().unwrap();
        let log = disk.log();
        let mut random = Random(nth as u64 + 1);
        let cuts = log.len() as u64;
        for at in 0..log.len() {
            // Those of zeros are many, and alike.
            if matches!(&log[at], Event::Write(_, bytes) if bytes.iter().all(|byte| *byte == 0))
                && random.below(8) > 0
            {
                continue;
            }
            for reorders in [false, true] {
                if random.below(cuts) >= number("CUTS", 60) {
                    continue;
                }
                let what = format!("{options}, {more} MiB, cut {at} of {cuts}, {reorders}");
                let left = cut_units(&blank, &log, at, if reorders { Some(&mut random) } else { None }, 1024);
                end_growth(&image, &left, options.contains("ext2"), &what, |files| {
                    assert!(shape_of(files) == shape, "{what}");
                });
            }
        }
    }
}

fn end_growth(image: &Image, left: &[u8], takes_repair: bool, what: &str, check: impl Fn(&ExtFileSystem)) {
    fs::write(image.path("left"), left).unwrap();
    if takes_repair {
        let said = image.try_shell("e2fsck -fy left 2>&1 || [ $? -le 2 ]");
        said.unwrap_or_else(|said| panic!("{what}: {said}"));
    } else {
        // As the kernel and e2fsck have it.
        let said =
            image.try_shell("cp left theirs; e2fsck -fp theirs 2>&1 || [ $? = 1 ]; e2fsck -fn theirs 2>&1");
        said.unwrap_or_else(|said| panic!("{what}: {said}"));
    }
    let disk = Disk::new(fs::read(image.path("left")).unwrap());
    let files = super::write::open(&disk);
    check(&files);
    files.grow(&|| false).unwrap_or_else(|why| panic!("{what}: {why}"));
    files.close().unwrap();
    fs::write(image.path("ours"), disk.image()).unwrap();
    image.try_shell("e2fsck -fn ours 2>&1").unwrap_or_else(|said| panic!("{what}: {said}"));
    let files = image.open("ours").0;
    check(&files);
    let blocks = files.space().total * u64::from(files.space().unit);
    assert!(blocks > left.len() as u64 / 2, "{what}: {blocks}");
}

/// Many write at once, and the volume grows under them, again and again.
#[test]
fn a_volume_in_use_grows() {
    if !can_judge() {
        return;
    }
    for (nth, options) in [
        "-t ext4 -b 1024 -J size=1",
        "-t ext4 -b 4096 -J size=4",
        "-t ext3 -b 1024 -J size=1",
        "-t ext4 -b 1024 -J size=1 -O meta_bg,^resize_inode",
        "-t ext2 -b 1024",
    ]
    .into_iter()
    .enumerate()
    {
        let image = Image::new("16M", options);
        let mut blank = fs::read(image.path("image")).unwrap();
        blank.resize(300 << 20, 0xa5);
        let disk = Disk::new(blank);
        disk.show(16 << 20);
        let mut run = Run::new(super::write::open(&disk), nth as u64, has_extents(options));
        let (files, is_over) = (Arc::clone(&run.files), AtomicBool::new(false));
        let before = files.space();
        thread::scope(|scope| {
            scope.spawn(|| {
                for size in [17, 18, 24, 25, 33, 60, 61, 120, 299, 300] {
                    thread::sleep(Duration::from_millis(20));
                    disk.show(size << 20);
                    files.grow(&|| false).unwrap();
                }
                is_over.store(true, Ordering::Relaxed);
            });
            while !is_over.load(Ordering::Relaxed) {
                run.step();
            }
        });
        (0..100).for_each(|_| run.step());
        run.check(options);
        let after = files.space();
        assert!(after.total * u64::from(after.unit) > 270 << 20 && after.nodes > before.nodes, "{options}");
        run.let_all_go();
        run.files.close().unwrap();
        fs::write(image.path("image"), disk.image()).unwrap();
        image.try_shell("e2fsck -fn image 2>&1").unwrap_or_else(|said| panic!("{options}: {said}"));
        let mounted = image.mount("image", "ro");
        tree::assert_same(&image.open("image").0, &mounted.place, options);
    }
}

#[test]
fn growth_that_is_not_wanted_any_more_leaves_the_volume_as_it_was() {
    if !can_judge() {
        return;
    }
    let image = Image::new("16M", "-t ext4 -b 1024");
    let mut blank = fs::read(image.path("image")).unwrap();
    let len = blank.len();
    blank.resize(160 << 20, 0xa5);
    let disk = Disk::new(blank.clone());
    let files = super::write::open(&disk);
    assert_eq!(files.grow(&|| true), Err(Ungrown::Interrupted));
    files.close().unwrap();
    assert!(disk.image()[..len] == blank[..len]);
    assert_eq!(files.grow(&|| false), Err(Ungrown::Interrupted));
    assert!(disk.image()[..len] == blank[..len]);
}
