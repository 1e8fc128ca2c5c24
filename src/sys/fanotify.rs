//! Groups of fanotify(7) that tell what happens to files by their handles, and open nothing for that.

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

/// A group that tells of `events` of what is at `path`: of that file, or with `FAN_MARK_FILESYSTEM` in `scope` of all in its file
/// system. Reading from it does not wait.
///
/// # Errors
/// `ENOSYS`, `EPERM` where the kernel does not let this user; `ENODEV`, `EXDEV`, `EOPNOTSUPP` where the file system knows no file
/// handles, as FUSE does not.
pub(super) fn watch(path: &Path, scope: u32, events: u64) -> io::Result<OwnedFd> {
    watch_with(libc::FAN_REPORT_FID, path, scope, events)
}

/// The same of each file in the folder at `path`, with its name there.
///
/// # Errors
/// As [`watch`].
pub(super) fn watch_in(path: &Path, events: u64) -> io::Result<OwnedFd> {
    let scope = libc::FAN_MARK_ONLYDIR;
    watch_with(libc::FAN_REPORT_DFID_NAME, path, scope, events | libc::FAN_EVENT_ON_CHILD)
}

fn watch_with(report: u32, path: &Path, scope: u32, events: u64) -> io::Result<OwnedFd> {
    let flags = libc::FAN_CLASS_NOTIF | report | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK;
    // SAFETY: takes no pointers.
    let group = unsafe { libc::fanotify_init(flags, libc::O_RDONLY.unsigned_abs()) };
    if group < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    let group = unsafe { OwnedFd::from_raw_fd(group) };
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mark = libc::FAN_MARK_ADD | scope;
    // SAFETY: the group is open for this call, and the name ends with NUL and lives as long.
    let marked =
        unsafe { libc::fanotify_mark(group.as_raw_fd(), mark, events, libc::AT_FDCWD, name.as_ptr()) };
    if marked < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(group)
}

/// Takes all events that a group has for now, some at a time.
pub(super) fn take(group: &OwnedFd, mut events: impl FnMut(&[u8])) {
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(group, &mut buffer) {
            Ok(0) => return,
            Ok(len) => events(buffer.get(..len).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
