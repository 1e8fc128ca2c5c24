//! What the kernel still has to write of a file.

#![allow(unsafe_code, reason = "a system call that rustix does not have; the block states its invariant")]

use std::{fs::File, io, ops::Range, os::fd::AsRawFd};

/// Has the kernel write what it holds of these bytes, and waits for it. That is no sync: the disk may keep it in its own memory, and
/// the file system may not find it again (`sync_file_range(2)`).
pub fn write_back(file: &File, range: Range<u64>) -> io::Result<()> {
    let start = i64::try_from(range.start).map_err(io::Error::other)?;
    let len = i64::try_from(range.end.saturating_sub(range.start)).map_err(io::Error::other)?;
    let how =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: it takes numbers alone, and the file is open for the whole call.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), start, len, how) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
