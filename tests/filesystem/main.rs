//! File systems of our own: random operations against a model, power cuts at any write, damage, and what others say of the volumes:
//! the kernel where it has the file system, `fsck` where there is one.
//!
//! `SEEDS`, `OPS`, `CUTS`, `SEED` and `KIND` in the environment ask for more, or for one that failed; `SECONDS` ends the runs of ext.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it skips, and fails where it cannot go on"
)]
#![allow(clippy::cast_possible_truncation, reason = "small numbers out of a generator")]

mod disk;
mod ext;
mod fat;
mod ntfs;
mod optical;

use std::{env, ops::Range, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use strongroom::filesystem::{FileSystem, Kind, NodeId, Seek};

use self::disk::Disk;

/// Numbers that a seed gives again.
pub(crate) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 ^ (self.0 >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11
    }

    /// A number from 0 to `n` - 1.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// What the environment says for `name`.
fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Writes noise where the file system says that nothing lies.
fn fill_free_space(files: &dyn FileSystem, disk: &Disk, what: &str) {
    let (device, mut filled) = (disk.device(), 0);
    let fill = &mut |free: Range<u64>| {
        let len = usize::try_from(free.end - free.start).unwrap();
        device.write_at(&vec![0xa5; len], free.start).unwrap();
        filled += free.end - free.start;
        Ok(())
    };
    files.free_space(fill).unwrap();
    let space = files.space();
    assert_eq!(filled, space.free * u64::from(space.unit), "{what}");
}

/// Looks at all that a volume shows, up to a number of files.
fn look(files: &dyn FileSystem) -> usize {
    let (mut folders, mut seen) = (vec![NodeId::ROOT], 0);
    let mut buffer = vec![0; 1 << 16];
    while let Some(folder) = folders.pop() {
        let mut entries = Vec::new();
        let _damaged = files.list(folder, 0, &mut |listed| {
            entries.push(listed.name.to_owned());
            entries.len() < 1000
        });
        for name in entries {
            seen += 1;
            let Ok(found) = files.lookup(folder, &name) else { continue };
            let about = found.attributes;
            if about.kind == Kind::Directory && seen < 2000 {
                folders.push(about.node);
            }
            for offset in [0, about.size / 2, about.size.saturating_sub(3000)] {
                let _damaged = files.read(about.node, offset, &mut buffer);
            }
            let _anything = (files.target(about.node), files.seek(about.node, 0, Seek::Hole));
        }
    }
    seen
}

/// What this thread has had of a processor: others may be busy.
fn worked() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}
