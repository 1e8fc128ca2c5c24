//! Whether programs use the files of a mounted file system: fanotify(7) tells of what they do, and not of what the kernel does by
//! itself (a journal's commits, tables that are filled in later, times of access). For root.

use std::{io, os::fd::OwnedFd, path::Path};

use super::fanotify;

/// Tells of what is opened, closed, made, renamed and removed in one file system, wherever that is mounted.
///
/// What is held open between the two is to be seen elsewhere. Reads and writes are not told one by one: that would cost each of them.
#[derive(Debug)]
pub struct FileUses {
    events: OwnedFd,
}

impl FileUses {
    /// Watches the file system on `path` from now on. It keeps nothing of it in use.
    ///
    /// # Errors
    /// `EPERM` without root's rights, `ENODEV`, `EXDEV`, `EOPNOTSUPP` where the file system knows no file handles, `ENOSYS`.
    pub fn watch(path: &Path) -> io::Result<Self> {
        Ok(Self { events: fanotify::watch(path, libc::FAN_MARK_FILESYSTEM, USES)? })
    }

    /// Whether there were any since the last call. Does not wait.
    pub fn have_been(&self) -> bool {
        let mut were_there = false;
        // With file handles no descriptor comes with an event.
        fanotify::take(&self.events, |_| were_there = true);
        were_there
    }
}

const USES: u64 = libc::FAN_OPEN
    | libc::FAN_CLOSE_WRITE
    | libc::FAN_CLOSE_NOWRITE
    | libc::FAN_CREATE
    | libc::FAN_DELETE
    | libc::FAN_MOVED_FROM
    | libc::FAN_MOVED_TO
    | libc::FAN_ATTRIB
    | libc::FAN_ONDIR;
