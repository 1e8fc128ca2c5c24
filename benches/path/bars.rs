//! What is to be reached, and what came out.

use std::{collections::HashMap, time::Duration};

use super::{
    jobs::Job,
    targets::{Target, Who, Workshop},
};

/// Targets that take turns on the same jobs. Ours is the first.
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) targets: fn(&Workshop) -> Vec<Target>,
    pub(super) jobs: &'static [Job],
    pub(super) bars: &'static [Bar],
    /// No round begins after this time, so that a slow peer or a busy machine does not take for ever.
    pub(super) limit: Duration,
    /// The most memory that our server may have, in MiB.
    pub(super) memory: Option<f64>,
}

impl Group {
    /// Whether a job is to be done on a target: ours does all, a peer what a bar is about.
    pub(super) fn asks(&self, name: &str, job: Job) -> bool {
        let mut asked = self.bars.iter().filter(|bar| bar.peer == name).peekable();
        asked.peek().is_none() || asked.any(|bar| bar.job == job)
    }
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bar {
    pub(super) what: &'static str,
    pub(super) job: Job,
    pub(super) peer: &'static str,
    pub(super) threshold: Threshold,
}

/// Ours divided by theirs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Threshold {
    AtLeast(f64),
    AtMost(f64),
}

/// What was measured of each target, round by round.
pub(super) type Samples = HashMap<(&'static str, Job), Vec<f64>>;

/// A bar with what was measured for it.
pub(super) struct Outcome {
    pub(super) what: &'static str,
    pub(super) peer: &'static str,
    pub(super) unit: &'static str,
    /// Medians.
    pub(super) ours: f64,
    pub(super) theirs: f64,
    /// Quartiles of the ratios of single rounds.
    pub(super) ratio: [f64; 3],
    pub(super) threshold: Threshold,
    pub(super) rounds: usize,
}

impl Outcome {
    pub(super) fn new(bar: &Bar, ours: &[f64], theirs: &[f64]) -> Self {
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        Self {
            what: bar.what,
            peer: bar.peer,
            unit: bar.job.unit(),
            ours: median(ours),
            theirs: median(theirs),
            ratio: quartiles(ratios),
            threshold: bar.threshold,
            rounds: ours.len(),
        }
    }

    /// How far the median is: 1 is at the bar, more is better.
    pub(super) fn score(&self) -> f64 {
        match self.threshold {
            Threshold::AtLeast(bar) => self.ratio[1] / bar,
            Threshold::AtMost(bar) => bar / self.ratio[1],
        }
    }

    pub(super) fn verdict(&self) -> String {
        if self.score() >= 1.0 {
            "reached".to_owned()
        } else {
            format!("MISSED by {:.0} %", 100.0 * (1.0 - self.score()))
        }
    }

    pub(super) fn bar(&self) -> String {
        match self.threshold {
            Threshold::AtLeast(bar) => format!("≥ {bar:.2}"),
            Threshold::AtMost(bar) => format!("≤ {bar:.2}"),
        }
    }
}

pub(super) fn median(values: &[f64]) -> f64 {
    quartiles(values.to_vec())[1]
}

/// Lower quartile, median, upper quartile.
pub(super) fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[values.len() * quarter / 4])
}

const fn least(what: &'static str, job: Job, peer: &'static str, bar: f64) -> Bar {
    Bar { what, job, peer, threshold: Threshold::AtLeast(bar) }
}

const fn most(what: &'static str, job: Job, peer: &'static str, bar: f64) -> Bar {
    Bar { what, job, peer, threshold: Threshold::AtMost(bar) }
}

const READ: &str = "1 MiB sequential read";
const WRITE: &str = "1 MiB sequential write";
const RANDOM: &str = "4 KiB random read, 32 in flight";
const SINGLE: &str = "4 KiB random read, one at a time";
const UNTAR: &str = "untar of 130 MB, time";
const GOCRYPTFS: &str = "gocryptfs";
const QEMU: &str = "qemu-storage-daemon";
const NULL: &str = "null server";
const PLAIN: &str = "plain loop, ext4";
const FUSE2FS: &str = "plain image, fuse2fs";
const KERNEL: &str = "strongroom, ext4";
/// What memory is held against.
pub(super) const LIMIT: &str = "the limit";
const MEMORY_MIB: f64 = 128.0;

pub(super) const GROUPS: [Group; 5] = [
    Group {
        name: "block file",
        limit: Duration::from_secs(180),
        memory: None,
        targets: |workshop| {
            vec![
                workshop.our_block_file(),
                workshop.null_server(),
                workshop.gocryptfs(Who::Root),
                workshop.qemu(),
            ]
        },
        jobs: &[Job::Write, Job::Read, Job::RandomRead32],
        bars: &[
            least(READ, Job::Read, NULL, 0.5),
            least(WRITE, Job::Write, NULL, 0.45),
            least(RANDOM, Job::RandomRead32, NULL, 0.8),
            least(READ, Job::Read, GOCRYPTFS, 4.0),
            least(WRITE, Job::Write, GOCRYPTFS, 5.0),
            least(RANDOM, Job::RandomRead32, GOCRYPTFS, 7.0),
            least(READ, Job::Read, QEMU, 8.0),
            least(WRITE, Job::Write, QEMU, 7.0),
            least(RANDOM, Job::RandomRead32, QEMU, 7.0),
        ],
    },
    Group {
        name: "ext4 on loop",
        limit: Duration::from_secs(240),
        memory: None,
        targets: |workshop| vec![workshop.our_ext4(), workshop.plain_ext4(), workshop.gocryptfs(Who::Root)],
        jobs: &[Job::Write, Job::Read, Job::Untar, Job::RandomRead1],
        bars: &[
            least("ext4: 1 MiB sequential read", Job::Read, PLAIN, 0.8),
            least("ext4: 1 MiB sequential write", Job::Write, PLAIN, 0.7),
            most(UNTAR, Job::Untar, PLAIN, 1.15),
            least(SINGLE, Job::RandomRead1, PLAIN, 0.7),
            most(UNTAR, Job::Untar, GOCRYPTFS, 0.1),
            least(SINGLE, Job::RandomRead1, GOCRYPTFS, 1.0),
        ],
    },
    Group {
        name: "ext4 without root",
        limit: Duration::from_secs(240),
        memory: Some(MEMORY_MIB),
        targets: |workshop| {
            vec![
                workshop.our_files(),
                workshop.our_ext4(),
                workshop.gocryptfs(Who::User),
                workshop.plain_fuse2fs(),
            ]
        },
        jobs: &[
            Job::Write,
            Job::Read,
            Job::RandomRead1,
            Job::RandomRead32,
            Job::Untar,
            Job::BufferedWrite,
            Job::BufferedRead,
        ],
        bars: &[
            least("ext4 without root: 1 MiB sequential read", Job::Read, KERNEL, 0.6),
            least("ext4 without root: 1 MiB sequential write", Job::Write, KERNEL, 0.5),
            least("ext4 without root: 1 MiB sequential read", Job::Read, FUSE2FS, 4.0),
            least("ext4 without root: 1 MiB sequential write", Job::Write, FUSE2FS, 4.0),
            least("ext4 without root: 1 GiB read through the cache", Job::BufferedRead, FUSE2FS, 1.0),
            least("ext4 without root: 1 GiB written through the cache", Job::BufferedWrite, FUSE2FS, 1.0),
            most("ext4 without root: untar of 130 MB, time", Job::Untar, GOCRYPTFS, 0.35),
            most("ext4 without root: untar of 130 MB, time", Job::Untar, FUSE2FS, 0.1),
            least("ext4 without root: 4 KiB random read, one at a time", Job::RandomRead1, GOCRYPTFS, 1.2),
            least("ext4 without root: 4 KiB random read, 32 in flight", Job::RandomRead32, GOCRYPTFS, 4.0),
            most("ext4 without root: memory of the server", Job::Memory, LIMIT, 1.0),
        ],
    },
    Group {
        name: "ext4 without root, on disk",
        limit: Duration::from_secs(120),
        memory: None,
        targets: |workshop| vec![workshop.our_files_on_disk(), workshop.our_ext4_on_disk()],
        jobs: &[Job::Creates],
        bars: &[most("ext4 without root: 20,000 creates on a disk, time", Job::Creates, KERNEL, 1.5)],
    },
    Group {
        name: "exFAT without root",
        limit: Duration::from_secs(240),
        memory: Some(MEMORY_MIB),
        targets: |workshop| {
            vec![workshop.our_exfat(), workshop.gocryptfs(Who::User), workshop.plain_fuse2fs()]
        },
        jobs: &[Job::Write, Job::Read, Job::RandomRead1, Job::RandomRead32, Job::SmallFiles],
        bars: &[
            least("exFAT without root: 1 MiB sequential read", Job::Read, FUSE2FS, 3.0),
            least("exFAT without root: 1 MiB sequential write", Job::Write, FUSE2FS, 3.0),
            least("exFAT without root: 1 MiB sequential read", Job::Read, GOCRYPTFS, 1.5),
            least("exFAT without root: 1 MiB sequential write", Job::Write, GOCRYPTFS, 1.5),
            least("exFAT without root: 4 KiB random read, one at a time", Job::RandomRead1, GOCRYPTFS, 1.0),
            least("exFAT without root: 4 KiB random read, 32 in flight", Job::RandomRead32, GOCRYPTFS, 3.0),
            most("exFAT without root: 20,000 small files, time", Job::SmallFiles, GOCRYPTFS, 0.6),
            most("exFAT without root: memory of the server", Job::Memory, LIMIT, 1.0),
        ],
    },
];

/// As [`Group::limit`].
pub(super) const ARGON2ID_LIMIT: Duration = Duration::from_secs(120);

/// The last line of the table. It has no target: both are measured in [`super::argon2id`].
pub(super) const ARGON2ID: Bar = Bar {
    what: "Argon2id, 1 GiB, 4 passes, 4 lanes, time",
    job: Job::Untar,
    peer: "libargon2, a thread a lane",
    threshold: Threshold::AtMost(0.9),
};
