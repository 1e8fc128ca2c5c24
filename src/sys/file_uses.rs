//! Whether programs use the files of a mounted file system: fanotify(7) tells of what they do, and not of what the kernel does by
//! itself (a journal's commits, tables that are filled in later, times of access). For root.

#![allow(unsafe_code, reason = "fanotify has no safe wrapper; each block states its invariant")]

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::io::Errno;

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
        let flags = libc::FAN_CLASS_NOTIF | libc::FAN_REPORT_FID | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK;
        // SAFETY: takes no pointers.
        let events = unsafe { libc::fanotify_init(flags, libc::O_RDONLY.unsigned_abs()) };
        if events < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else's.
        let events = unsafe { OwnedFd::from_raw_fd(events) };
        let name = CString::new(path.as_os_str().as_bytes())?;
        let mark = libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM;
        // SAFETY: the descriptor is open for this call, and the name ends with NUL and lives as long.
        let marked =
            unsafe { libc::fanotify_mark(events.as_raw_fd(), mark, USES, libc::AT_FDCWD, name.as_ptr()) };
        if marked < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { events })
    }

    /// Whether there were any since the last call. Does not wait.
    pub fn have_been(&self) -> bool {
        let mut buffer = [0; 4096];
        let mut were_there = false;
        loop {
            match rustix::io::read(&self.events, &mut buffer) {
                Ok(0) => return were_there,
                // With file handles no descriptor comes with an event.
                Ok(_) => were_there = true,
                Err(Errno::INTR) => {}
                Err(_) => return were_there,
            }
        }
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
