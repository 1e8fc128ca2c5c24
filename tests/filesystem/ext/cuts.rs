//! Power cuts while a volume is written: at any write, in order, and with the medium's own order between two flushes.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use strongroom::filesystem::{ExtFileSystem, Fault, FileSystem, Journal, Kind, New, NodeId};

use super::{
    Image, can_judge,
    model::{Model, Run, Shape, assert_same, shape_of},
    open, tree,
    write::{each_kind, has_extents, open as open_to_write},
};
use crate::{
    Random,
    disk::{Disk, Event, cut_units},
    number,
};

/// A superblock of 1024 bytes has its checksum at its end, and the kernel counts on its being written in whole as well.
fn cut(blank: &[u8], log: &[Event], at: usize, reorders: Option<&mut Random>) -> Vec<u8> {
    cut_units(blank, log, at, reorders, 1024)
}

/// What was there after an operation.
struct Moment {
    /// How much was written when it ended.
    position: usize,
    is_synced: bool,
    model: Model,
    shape: Shape,
}

/// A run that is logged, and what the model was after each operation. In every other one commits are written all the time, beside
/// the operations. The volume grows to each of `sizes` but the first, which it has.
fn logged(
    image: &[u8],
    (seed, steps): (u64, u64),
    has_extents: bool,
    sizes: &[usize],
) -> (Vec<Event>, Vec<Moment>) {
    let disk = Disk::logged(image.to_vec());
    if let Some(size) = sizes.first() {
        disk.show(*size);
    }
    let every = steps / sizes.len().max(1) as u64;
    let is_busy = (seed >> 8).is_multiple_of(2);
    let mut run = Run::new(open_to_write(&disk), seed, has_extents);
    run.reach = 60_000;
    if seed.is_multiple_of(3) {
        run.crowd();
    }
    let moment = |run: &Run, is_synced| Moment {
        position: disk.position(),
        is_synced,
        model: run.model.clone(),
        shape: run.model.shape(),
    };
    let mut moments = vec![moment(&run, true)];
    let (files, is_over) = (Arc::clone(&run.files), AtomicBool::new(false));
    thread::scope(|scope| {
        if is_busy {
            disk.slow_down();
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    files.sync().unwrap();
                }
            });
        }
        for step in 0..steps {
            if let Some(size) = sizes.get((step / every) as usize).filter(|_| step > 0 && step % every == 0) {
                disk.show(*size);
                run.files.grow(&|| false).unwrap();
                // All that was done before is synced then, and nothing else has changed.
                let last = moments.last_mut().unwrap();
                (last.is_synced, last.position) = (true, disk.position());
            }
            run.step();
            let is_synced = run.random.below(12) == 0;
            if is_synced {
                run.files.sync().unwrap();
            }
            moments.push(moment(&run, is_synced));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    (disk.log(), moments)
}

/// After a cut at `at`: a state between two operations, none older than the last sync.
fn check(files: &ExtFileSystem, moments: &[Moment], at: usize, what: &str) {
    let synced = moments.iter().rposition(|moment| moment.is_synced && moment.position <= at).unwrap();
    let begun =
        moments.iter().position(|moment| moment.position >= at).unwrap_or(moments.len() - 1).max(synced);
    let shape = shape_of(files);
    let found = moments[synced..=begun].iter().rposition(|moment| moment.shape == shape);
    let Some(found) = found else {
        let mut least = (usize::MAX, String::new());
        for (step, moment) in moments[synced..=begun].iter().enumerate() {
            let differs = |path: &&Vec<u8>| shape.get(*path) != moment.shape.get(*path);
            let paths: Vec<_> = shape.keys().chain(moment.shape.keys()).filter(differs).collect();
            if paths.len() < least.0 {
                let shown = |path: &Vec<u8>| {
                    let name = String::from_utf8_lossy(path).into_owned();
                    format!("{name}: {:?} {:?}\n", shape.get(path), moment.shape.get(path))
                };
                least = (
                    paths.len(),
                    format!("{} {}", synced + step, paths.into_iter().map(shown).collect::<String>()),
                );
            }
        }
        panic!("{what}: no state between {synced} and {begun}; the nearest is {}", least.1);
    };
    // What was written after the sync may be there or not.
    let nodes = moments[synced..=begun].iter().flat_map(|moment| &moment.model.nodes);
    let stirred = nodes.filter(|(_, node)| node.touched > synced).map(|(number, _)| *number).collect();
    assert_same(files, &moments[synced + found].model, &stirred, what);
}

#[test]
fn a_power_cut_leaves_a_state_that_was_and_nothing_that_was_synced_is_lost() {
    if !can_judge() {
        return;
    }
    let done = each_kind(|seed, (nth, (name, size, options))| {
        let is_journalled = !options.contains("ext2") && !options.contains("^has_journal");
        if !is_journalled {
            return;
        }
        let image = Image::new(size, options);
        let blank = fs::read(image.path("image")).unwrap();
        let steps = number("OPS", 200);
        let (log, moments) = logged(&blank, (seed << 8 | nth, steps), has_extents(options), &[]);
        let mut random = Random(seed << 8 | nth);
        for round in 0..number("CUTS", 6) {
            let at = somewhere(&log, &mut random);
            let reorders = if round % 2 == 0 { None } else { Some(&mut random) };
            let left = cut(&blank, &log, at, reorders);
            judge_cut(&image, &left, &moments, at, &format!("{name}, seed {seed}, cut {at}"), round % 4 < 2);
        }
    });
    println!("{done} runs, each cut several times");
}

/// The same of one that grows meanwhile, twice.
#[test]
fn a_power_cut_while_a_volume_in_use_grows_leaves_a_state_that_was() {
    if !can_judge() {
        return;
    }
    for (nth, (sizes, options)) in [
        ([12, 20, 48], "-t ext4 -b 1024 -J size=1"),
        ([12, 13, 160], "-t ext4 -b 1024 -J size=1 -O ^64bit,^metadata_csum,uninit_bg"),
        ([12, 20, 48], "-t ext4 -b 1024 -J size=1 -O meta_bg,^resize_inode,orphan_file"),
        ([12, 20, 48], "-t ext3 -b 1024 -J size=1"),
        ([16, 17, 200], "-t ext4 -b 4096 -J size=4"),
    ]
    .into_iter()
    .enumerate()
    {
        let sizes = sizes.map(|size| size << 20);
        let image = Image::new(&sizes[0].to_string(), options);
        let mut blank = fs::read(image.path("image")).unwrap();
        blank.resize(sizes[2], 0xa5);
        for seed in 0..number("SEEDS", 2) {
            let run = (seed << 8 | nth as u64, 120);
            let (log, moments) = logged(&blank, run, has_extents(options), &sizes);
            let mut random = Random(seed << 8 | nth as u64);
            for round in 0..number("CUTS", 12) {
                let at = somewhere(&log, &mut random);
                let reorders = if round % 2 == 0 { None } else { Some(&mut random) };
                let left = cut(&blank, &log, at, reorders);
                let what = format!("{options}, seed {seed}, cut {at} of {}", log.len());
                // The kernel counts groups before it replays a journal.
                let inodes = u32::from_le_bytes(left[1024..1028].try_into().unwrap());
                let is_counted = open(left.clone()).unwrap().0.space().nodes == u64::from(inodes);
                judge_cut(&image, &left, &moments, at, &what, round % 4 < 2 && is_counted);
            }
        }
    }
}

/// A commit takes less than a sector; the rest of its block may hold anything that was there.
#[test]
fn a_commit_of_which_only_the_first_sector_was_written_counts() {
    if !can_judge() {
        return;
    }
    for options in ["-t ext4 -b 4096 -J size=4", "-t ext4 -b 4096 -J size=4 -O ^metadata_csum"] {
        let image = Image::new("24M", options);
        let blank = fs::read(image.path("image")).unwrap();
        let disk = Disk::logged(blank.clone());
        let files = open_to_write(&disk);
        // More than once around the log.
        for step in 0..250_u64 {
            let name = format!("n{step}");
            let found = files.make(NodeId::ROOT, name.as_ref(), &New::empty(Kind::File)).unwrap();
            files.write(found.attributes.node, 0, &[7; 3000]).unwrap();
            files.sync().unwrap();
        }
        let log = disk.log();
        let is_commit = |event: &Event| matches!(event, Event::Write(_, bytes) if bytes.starts_with(&[0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 2]));
        let last = log.iter().rposition(is_commit).unwrap();
        let before = cut(&blank, &log, last, None);
        let Event::Write(at, bytes) = &log[last] else { unreachable!() };
        assert!(before[*at..at + bytes.len()].iter().all(|byte| *byte == 0), "{options}");
        let has_last = |left: Vec<u8>| {
            let (files, journal) = open(left).unwrap();
            assert_eq!(journal, Journal::Replayed, "{options}");
            files.lookup(NodeId::ROOT, "n249".as_ref()).is_ok()
        };
        assert!(!has_last(before.clone()), "{options}");
        for rest in [0, 0xa5] {
            let mut left = before.clone();
            left[*at..at + bytes.len()].fill(rest);
            left[*at..at + 512].copy_from_slice(&bytes[..512]);
            assert!(has_last(left), "{options}, {rest}");
        }
        let mut left = before;
        left[at + 512..at + bytes.len()].copy_from_slice(&bytes[512..]);
        assert!(!has_last(left), "{options}");
    }
}

/// Any place in a log, behind its first part, in which there is little yet.
fn somewhere(log: &[Event], random: &mut Random) -> usize {
    let few = log.len() / 5;
    1 + few + random.below((log.len() - few) as u64) as usize
}

fn judge_cut(image: &Image, left: &[u8], moments: &[Moment], at: usize, what: &str, by_the_kernel: bool) {
    let (files, journal) = open(left.to_vec()).unwrap();
    assert!(!matches!(journal, Journal::Unread(_)), "{what}: {journal:?}");
    check(&files, moments, at, what);
    let disk = Disk::new(left.to_vec());
    let files = open_to_write(&disk);
    check(&files, moments, at, what);
    files.close().unwrap();
    fs::write(image.path("ours"), disk.image()).unwrap();
    if let Err(said) = image.try_shell("e2fsck -fn ours 2>&1") {
        fs::write(image.path("left"), left).unwrap();
        let kept = [image.kept("ours"), image.kept("left")];
        panic!("{what}: e2fsck says of {kept:?}: {said}");
    }
    fs::write(image.path("theirs"), left).unwrap();
    if !by_the_kernel {
        // What e2fsck makes of the journal, without a question.
        let said = image.try_shell("e2fsck -fp theirs 2>&1 || [ $? = 1 ]");
        said.unwrap_or_else(|said| panic!("{what}: e2fsck: {said}"));
        return assert_eq!(
            shape_of(&image.open("theirs").0),
            shape_of(&open(left.to_vec()).unwrap().0),
            "{what}"
        );
    }
    let mounted = image.mount("theirs", "ro");
    // Before the kernel does the same to its copy.
    tree::assert_same(&open(left.to_vec()).unwrap().0, &mounted.place, what);
    drop(mounted);
    drop(image.mount("theirs", "rw"));
    image.try_shell("e2fsck -fn theirs 2>&1").unwrap_or_else(|said| panic!("{what}: the kernel's: {said}"));
}

/// A cut within the replay of a journal, or in what ends the removal of files.
#[test]
fn a_power_cut_within_a_replay_is_replayed() {
    if !can_judge() {
        return;
    }
    for (nth, options) in ["-t ext4 -b 1024 -J size=1", "-t ext3 -b 1024 -J size=1"].into_iter().enumerate() {
        let image = Image::new("12M", options);
        let blank = fs::read(image.path("image")).unwrap();
        for seed in 0..number("SEEDS", 2) {
            let (log, moments) = logged(&blank, (seed << 8 | nth as u64, 250), has_extents(options), &[]);
            let mut random = Random(seed);
            for _ in 0..number("CUTS", 4) {
                let at = somewhere(&log, &mut random);
                let left = cut(&blank, &log, at, Some(&mut random));
                let disk = Disk::logged(left.clone());
                open_to_write(&disk);
                let replay = disk.log();
                for _ in 0..3 {
                    let within = random.below(replay.len() as u64 + 1) as usize;
                    let again = cut(&left, &replay, within, Some(&mut random));
                    judge_cut(
                        &image,
                        &again,
                        &moments,
                        at,
                        &format!("{options}, seed {seed}, {at}, {within}"),
                        false,
                    );
                }
            }
        }
    }
}

/// A read that fails is told to whoever asked, and nothing else comes of it: neither a loss nor a volume that is read-only.
#[test]
fn a_read_that_fails_fails_one_operation_and_changes_nothing() {
    if !can_judge() {
        return;
    }
    for options in ["-t ext4 -b 1024 -J size=1", "-t ext3 -b 1024 -J size=1", "-t ext2 -b 1024"] {
        let image = Image::new("12M", options);
        let disk = Disk::new(fs::read(image.path("image")).unwrap());
        let mut run = Run::new(open_to_write(&disk), 7, has_extents(options));
        (0..300).for_each(|_| run.step());
        run.let_all_go();
        run.files.close().unwrap();
        let aged = disk.image();
        for reads in 0..number("CUTS", 60) {
            let disk = Disk::new(aged.clone());
            disk.fail_one_read_after(reads);
            // A volume that cannot be read is not opened, and nothing was written.
            let Ok((files, _, unwritten)) = ExtFileSystem::open_to_write(&disk.device()) else {
                assert!(disk.image() == aged, "{options}, read {reads}");
                continue;
            };
            if unwritten.is_some() {
                files.close().unwrap();
                assert!(disk.image() == aged, "{options}, read {reads}");
                continue;
            }
            let mut failed = churn(&files, reads);
            if files.close().is_err() {
                failed += 1;
                files.close().unwrap();
            }
            // The others go as if nothing had been.
            assert!(failed <= 1, "{options}, read {reads}: {failed} operations failed");
            fs::write(image.path("ours"), disk.image()).unwrap();
            let said = image.try_shell("e2fsck -fn ours 2>&1");
            said.unwrap_or_else(|said| panic!("{options}, read {reads}: {said}"));
        }
    }
}

/// Makes, writes, renames and removes things all over the volume. How many operations failed for the medium.
fn churn(files: &ExtFileSystem, seed: u64) -> usize {
    let mut failed = 0;
    let mut did = |done: Result<(), Fault>| match done {
        Err(Fault::Io) => failed += 1,
        done => done.unwrap(),
    };
    let mut names = Vec::new();
    did(files.list(NodeId::ROOT, 0, &mut |entry| {
        names.push((entry.name.to_owned(), entry.kind));
        true
    }));
    for (nth, (name, kind)) in names.iter().enumerate().filter(|(_, (name, _))| name != "lost+found") {
        let new = format!("new{seed}-{nth}");
        did(files.make(NodeId::ROOT, new.as_ref(), &New::empty(Kind::File)).and_then(|found| {
            let node = found.attributes.node;
            let done = files.write(node, 500, &[9; 5000]);
            files.forget(node, 1);
            done
        }));
        match (nth % 3, *kind) {
            (0, Kind::File) => did(files.remove(NodeId::ROOT, name, Kind::File)),
            (1, _) => {
                let moved = format!("moved{nth}");
                did(files.rename((NodeId::ROOT, name), (NodeId::ROOT, moved.as_ref()), true));
            }
            _ => {}
        }
    }
    failed
}

/// After a write that fails nothing is written, and what was synced is there.
#[test]
fn a_write_that_fails_turns_the_volume_read_only() {
    if !can_judge() {
        return;
    }
    let image = Image::new("12M", "-t ext4 -b 1024 -J size=1");
    let blank = fs::read(image.path("image")).unwrap();
    for writes in 0..number("CUTS", 40) {
        let disk = Disk::new(blank.clone());
        let files = open_to_write(&disk);
        files.make(NodeId::ROOT, "first".as_ref(), &New::empty(Kind::File)).unwrap();
        files.sync().unwrap();
        disk.fail_after(writes);
        let mut failed = None;
        for step in 0..200_u64 {
            let name = format!("n{step}");
            let done = files.make(NodeId::ROOT, name.as_ref(), &New::empty(Kind::File)).and_then(|found| {
                files.write(found.attributes.node, 0, &vec![7; 3000])?;
                if step % 5 == 4 { files.sync() } else { Ok(()) }
            });
            match (done, failed) {
                (Ok(()), None) => {}
                (Err(fault), None) => {
                    assert_eq!(fault, Fault::Io);
                    failed = Some(step);
                }
                (done, Some(_)) => assert_eq!(done, Err(Fault::ReadOnly)),
            }
        }
        assert!(failed.is_some());
        assert!(files.sync().is_err() && files.close().is_err());
        files.lookup(NodeId::ROOT, "first".as_ref()).unwrap();
        drop(files);
        let disk = Disk::new(disk.image());
        let files = open_to_write(&disk);
        files.lookup(NodeId::ROOT, "first".as_ref()).unwrap();
        files.close().unwrap();
        fs::write(image.path("ours"), disk.image()).unwrap();
        image.shell("e2fsck -fn ours 2>&1");
    }
}
