//! Volumes written at random, against a model; e2fsck and the kernel judge what comes of it.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use strongroom::filesystem::{Changes, ExtFileSystem, FileSystem, Journal, Kind, New, NodeId};

use super::{Image, can_judge, model::Run, tree};
use crate::{disk::Disk, fill_free_space, number};

/// Name, size, and what mke2fs is told.
pub(super) const KINDS: &[(&str, &str, &str)] = &[
    ("as Debian 12 makes it", "24M", "-t ext4 -b 4096 -J size=4"),
    ("as Debian 13 makes it", "24M", "-t ext4 -b 4096 -J size=4 -O orphan_file,metadata_csum_seed"),
    ("1 KiB blocks", "12M", "-t ext4 -b 1024 -J size=1"),
    ("2 KiB blocks", "16M", "-t ext4 -b 2048 -J size=2"),
    ("without extents", "12M", "-t ext4 -b 1024 -O ^extent,^64bit -J size=1"),
    ("ext3", "12M", "-t ext3 -b 1024 -J size=1"),
    ("small inodes", "12M", "-t ext3 -b 1024 -I 128 -J size=1"),
    ("checksums of groups", "12M", "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg -J size=1"),
    ("no checksums", "12M", "-t ext4 -b 1024 -O ^metadata_csum,^uninit_bg -J size=1"),
    ("meta groups", "20M", "-t ext4 -O meta_bg,^resize_inode -b 1024 -J size=1"),
    ("without an index", "12M", "-t ext4 -b 1024 -O ^dir_index -J size=1"),
    ("as create made it for users", "12M", "-t ext4 -b 1024 -O ^extent,^64bit,^ext_attr -J size=1"),
    ("without kinds", "12M", "-t ext4 -b 1024 -O ^filetype -J size=1"),
    ("large directories", "12M", "-t ext4 -b 1024 -O large_dir -J size=1"),
    ("many small groups", "32M", "-t ext4 -b 1024 -g 1024 -J size=1"),
    (
        "many small groups, 16 bits",
        "32M",
        "-t ext4 -b 1024 -g 1024 -O ^metadata_csum,uninit_bg,^flex_bg -J size=1",
    ),
    ("ext2", "12M", "-t ext2 -b 1024"),
    ("no journal", "12M", "-t ext4 -b 1024 -O ^has_journal"),
    ("almost full", "4M", "-t ext4 -b 1024 -J size=1 -m 0 -N 200"),
    ("almost full lists", "4M", "-t ext3 -b 1024 -J size=1 -m 5 -N 200"),
];

/// A kind with its number.
pub(super) type Numbered = (u64, &'static (&'static str, &'static str, &'static str));

/// Each kind with one seed after the other, until all are through or the time is up. Gives how many there were.
pub(super) fn each_kind(mut run: impl FnMut(u64, Numbered)) -> u64 {
    let only = std::env::var("KIND").ok();
    let (start, budget) = (Instant::now(), Duration::from_secs(number("SECONDS", 1 << 32)));
    let (first, mut done) = (number("SEED", 0), 0);
    for seed in first..first + number("SEEDS", 1) {
        for (nth, kind) in (0..).zip(KINDS) {
            if only.as_deref().is_some_and(|only| only != kind.0) {
                continue;
            }
            if start.elapsed() >= budget {
                return done;
            }
            run(seed, (nth, kind));
            done += 1;
        }
    }
    done
}

pub(super) fn open(disk: &Disk) -> ExtFileSystem {
    let (files, _, unwritten) = ExtFileSystem::open_to_write(&disk.device()).unwrap();
    assert_eq!(unwritten, None);
    files
}

/// Nothing to repair, and to the kernel it is the same, whatever lies in its free space.
pub(super) fn judge(image: &Image, written: &[u8], what: &str) {
    let disk = Disk::new(written.to_vec());
    let files = open(&disk);
    fill_free_space(&files, &disk, what);
    files.close().unwrap();
    fs::write(image.path("ours"), disk.image()).unwrap();
    let said = image.try_shell("e2fsck -fn ours 2>&1");
    if let Err(said) = said {
        panic!("{what}: e2fsck says of {}: {said}", image.kept("ours").display());
    }
    let mounted = image.mount("ours", "ro");
    let (files, journal) = image.open("ours");
    assert_eq!(journal, Journal::Empty, "{what}");
    tree::assert_same(&files, &mounted.place, what);
}

pub(super) fn has_extents(options: &str) -> bool {
    options.contains("ext4") && !options.contains("^extent")
}

/// Ten thousand names and more, through two levels of an index: found, listed while they come and go, removed.
#[test]
fn large_directories_are_what_the_kernel_makes_of_them() {
    if !can_judge() {
        return;
    }
    for (options, names) in [
        ("-t ext4 -b 1024 -J size=1 -N 14000", 12_000_u32),
        ("-t ext4 -b 1024 -J size=1 -N 14000 -O large_dir", 4_000),
        ("-t ext3 -b 4096 -J size=4 -N 8000", 3_000),
    ] {
        let image = Image::new("48M", options);
        let disk = Disk::new(fs::read(image.path("image")).unwrap());
        let files = open(&disk);
        let folder =
            files.make(NodeId::ROOT, "many".as_ref(), &New::empty(Kind::Directory)).unwrap().attributes.node;
        let name = |number: u32| format!("{number}{}", "n".repeat(number as usize * 7 % 60));
        let make = |number| {
            let made = files.make(folder, name(number).as_ref(), &New::empty(Kind::File)).unwrap();
            files.forget(made.attributes.node, 1);
        };
        (0..names / 2).for_each(make);
        // Each that was there from the start is listed once, whatever comes and goes meanwhile.
        let (mut seen, mut cursor, mut more) = (Vec::new(), 0, names / 2);
        loop {
            let before = seen.len();
            files
                .list(folder, cursor, &mut |entry| {
                    seen.push(entry.name.to_str().unwrap().to_owned());
                    cursor = entry.next;
                    seen.len() < before + 100
                })
                .unwrap();
            if seen.len() == before {
                break;
            }
            (more..(more + 100).min(names)).for_each(make);
            more = (more + 100).min(names);
        }
        let first: BTreeSet<String> = (0..names / 2).map(name).collect();
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len(), "{options}");
        assert_eq!(seen.iter().filter(|name| first.contains(*name)).count(), first.len(), "{options}");
        (more..names).for_each(make);
        files.sync().unwrap();
        for number in (0..names).filter(|number| number % 3 > 0) {
            files.remove(folder, name(number).as_ref(), Kind::File).unwrap();
        }
        for number in 0..names {
            assert_eq!(files.lookup(folder, name(number).as_ref()).is_ok(), number % 3 == 0);
        }
        files.close().unwrap();
        judge(&image, &disk.image(), options);
        // The kernel goes on where we ended, and we where it does.
        let mounted = image.mount("ours", "rw");
        for number in names..names + 1000 {
            fs::write(mounted.place.join("many").join(name(number)), "").unwrap();
        }
        drop(mounted);
        let disk = Disk::new(fs::read(image.path("ours")).unwrap());
        let files = open(&disk);
        let folder = files.lookup(NodeId::ROOT, "many".as_ref()).unwrap().attributes.node;
        for number in (0..names + 1000).filter(|number| *number >= names || number % 3 == 0) {
            files.remove(folder, name(number).as_ref(), Kind::File).unwrap();
        }
        files.remove(NodeId::ROOT, "many".as_ref(), Kind::Directory).unwrap();
        files.close().unwrap();
        fs::write(image.path("ours"), disk.image()).unwrap();
        image.shell("e2fsck -fn ours 2>&1");
    }
}

#[test]
fn what_is_written_at_random_is_what_the_kernel_and_e2fsck_find() {
    if !can_judge() {
        return;
    }
    let steps = number("OPS", 250);
    let done = each_kind(|seed, (nth, (name, size, options))| {
        let what = format!("{name}, seed {seed}");
        let image = Image::new(size, options);
        // The kernel was there first, and takes turns with us.
        let has_turns = seed % 2 == 0;
        if has_turns {
            let mounted = image.mount("image", "rw");
            fs::create_dir(mounted.place.join("kernel")).unwrap();
            drop(tree::stir(&mounted.place.join("kernel"), seed, 100));
        }
        let mut disk = Disk::new(fs::read(image.path("image")).unwrap());
        let mut run = Run::new(open(&disk), seed << 8 | nth, has_extents(options));
        if seed % 4 == 1 {
            run.crowd();
        }
        for step in 0..steps {
            run.step();
            match run.random.below(60) {
                0 => run.files.sync().unwrap(),
                1 if step > 50 => {
                    run.let_all_go();
                    run.check(&what);
                    run.files.close().unwrap();
                    judge(&image, &disk.image(), &format!("{what}, step {step}"));
                    if has_turns {
                        let mounted = image.mount("ours", "rw");
                        let folder = tempfile::tempdir_in(mounted.place.join("kernel")).unwrap();
                        drop(tree::stir(folder.path(), step, 60));
                        let _kept = (step % 2 == 0).then(|| folder.keep());
                        drop(mounted);
                        disk = Disk::new(fs::read(image.path("ours")).unwrap());
                    }
                    run.files = open(&disk).into();
                }
                _ => {}
            }
        }
        run.let_all_go();
        run.check(&what);
        run.files.close().unwrap();
        judge(&image, &disk.image(), &what);
        run.files = open(&disk).into();
        run.check(&what);
    });
    println!("{done} runs of {steps} operations");
}

/// Blocks far behind one another: through every height of the lists, and many leaves of extents.
#[test]
fn sparse_and_fragmented_files_come_and_go() {
    if !can_judge() {
        return;
    }
    for options in ["-t ext4 -b 1024 -J size=1", "-t ext3 -b 1024 -J size=1", "-t ext3 -b 4096 -J size=4"] {
        let image = Image::new("24M", options);
        let disk = Disk::new(fs::read(image.path("image")).unwrap());
        let files = open(&disk);
        let free = files.space().free;
        let make = |name: &str| {
            files.make(NodeId::ROOT, name.as_ref(), &New::empty(Kind::File)).unwrap().attributes.node
        };
        let (far, torn, other) = (make("far"), make("torn"), make("other"));
        for shift in [0, 13, 14, 19, 20, 25, 26, 27, 29, 30, 32, 33] {
            files.write(far, 1 << shift, b"far").unwrap();
        }
        for piece in 0..1500 {
            files.write(torn, piece * 10_000, &[piece as u8; 700]).unwrap();
            files.write(other, piece * 4096, &[1; 100]).unwrap();
        }
        files.sync().unwrap();
        let mut content = [0; 3];
        assert_eq!(files.read(far, 1 << 32, &mut content), Ok(3));
        assert_eq!(&content, b"far");
        files.clear(torn, 2_000_000..9_000_000, false, false).unwrap();
        files.set_attributes(far, &Changes { size: Some((1 << 29) + 1), ..Changes::default() }).unwrap();
        files.set_attributes(other, &Changes { size: Some(5000), ..Changes::default() }).unwrap();
        for node in [far, torn, other] {
            files.forget(node, 1);
        }
        files.close().unwrap();
        judge(&image, &disk.image(), options);
        let files = open(&disk);
        for name in ["far", "torn", "other"] {
            files.remove(NodeId::ROOT, name.as_ref(), Kind::File).unwrap();
        }
        files.close().unwrap();
        judge(&image, &disk.image(), options);
        assert_eq!(open(&disk).space().free, free, "{options}");
    }
}
