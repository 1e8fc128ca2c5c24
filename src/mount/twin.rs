//! One file that two paths lead to, each under a number of its own: through a mount by FUSE that shows a folder once more, or a server.
//! No lock is seen on both sides.

use std::{fs::File, os::fd::AsFd};

use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, major, makedev, statx};

use super::{
    mountinfo::MountTable,
    registry::{Entry, Record, sessions_anywhere},
};

/// The session that writes to the open `file` by another path, as far as that shows: the container has the same UUID, as copies have,
/// and was changed in the same moment, as no copy is.
///
/// Asks the file systems of both, which may not answer.
pub fn twin_of(file: &File, uuid: Option<&str>) -> Option<Entry> {
    let own = Seen::of_open(file)?;
    let records = sessions_anywhere().into_iter().filter_map(|session| session.record);
    let mut others = records.filter(|record| {
        record.container_file != own.file
            && !record.entry.read_only
            && record.entry.uuid.as_deref() == uuid
            && (uuid.is_some() || is_on_disk(record))
            && record.is_alive()
    });
    let found = others.find(|record| is_same(file, record))?;
    Some(found.shown(&MountTable::read().unwrap_or_default()))
}

/// Whether the container lies on a disk of this machine, which answers: without a UUID to tell many are asked.
fn is_on_disk(record: &Record) -> bool {
    major(record.container_file.0) != 0
}

/// Whether both show the same, while the other one may be written to.
fn is_same(file: &File, record: &Record) -> bool {
    for _ in 0..ROUNDS {
        let (Some(before), Some(own)) = (Seen::of_container(record), Seen::of_open(file)) else {
            return false;
        };
        let Some(after) = Seen::of_container(record) else { return false };
        if own.may_be(&before) || own.may_be(&after) {
            return true;
        }
        if before == after {
            return false;
        }
    }
    false
}

/// What a file system says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    file: (u64, u64),
    len: u64,
    /// In seconds and nanoseconds: when the content was changed, and when anything was.
    written: (i64, u32),
    changed: (i64, u32),
}

impl Seen {
    fn of_open(file: &File) -> Option<Self> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
        statx(file.as_fd(), "", flags, StatxFlags::BASIC_STATS).ok().map(Self::of)
    }

    /// That of the container, if its path still leads there.
    fn of_container(record: &Record) -> Option<Self> {
        let flags = AtFlags::STATX_FORCE_SYNC | AtFlags::NO_AUTOMOUNT;
        let found = statx(CWD, &record.entry.container, flags, StatxFlags::BASIC_STATS).ok()?;
        Some(Self::of(found)).filter(|seen| seen.file == record.container_file)
    }

    fn of(stat: Statx) -> Self {
        Self {
            file: (makedev(stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino),
            len: stat.stx_size,
            written: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        }
    }

    /// Some file systems tell whole seconds, and one moment for both.
    fn may_be(&self, other: &Self) -> bool {
        let is_coarse = [self, other].iter().any(|seen| seen.written.1 == 0);
        let is_as_changed = if is_coarse {
            self.written.0 == other.written.0
        } else {
            (self.written, self.changed) == (other.written, other.changed)
        };
        self.len == other.len && is_as_changed
    }
}

/// A file that is written to all the time is looked at so often.
const ROUNDS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_in_another_moment_is_another_file() {
        let seen = Seen { file: (1, 2), len: 10, written: (7, 5), changed: (7, 6) };
        let elsewhere = Seen { file: (3, 4), ..seen };
        assert!(seen.may_be(&elsewhere));
        for other in [
            Seen { len: 11, ..elsewhere },
            Seen { written: (7, 4), ..elsewhere },
            Seen { changed: (7, 7), ..elsewhere },
            Seen { written: (8, 0), ..elsewhere },
        ] {
            assert!(!seen.may_be(&other) && !other.may_be(&seen), "{other:?}");
        }
        assert!(seen.may_be(&Seen { written: (7, 0), changed: (7, 0), ..elsewhere }));
    }
}
