//! Open files: those that the caller of this program handed down by number, and what is told when one is closed.

#![allow(unsafe_code, reason = "a descriptor known by its number only; each block states its invariant")]

use std::{
    fs::File,
    io,
    os::fd::{BorrowedFd, IntoRawFd, OwnedFd},
};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd};

/// A duplicate of the descriptor `number`, which the program must have been started with.
///
/// # Errors
/// `EBADF` where it is not open, or was opened by this process: what we open is close-on-exec, what was handed down is not.
pub fn inherited(number: i32) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(rustix::io::Errno::BADF.into());
    }
    // SAFETY: not negative, as `BorrowedFd` asks for. Nobody owns it here, so nobody closes it within this call; where
    // it is not open, the calls below answer EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    if fcntl_getfd(borrowed)?.contains(FdFlags::CLOEXEC) {
        return Err(rustix::io::Errno::BADF.into());
    }
    Ok(fcntl_dupfd_cloexec(borrowed, 3)?)
}

/// Closes a duplicate of `file`: some file systems on servers say only then that what was written did not get there. Where no descriptor is
/// left for one, nothing is said.
///
/// # Errors
/// What closing gave.
pub fn close_once(file: &File) -> io::Result<()> {
    let Ok(duplicate) = file.try_clone() else { return Ok(()) };
    // SAFETY: the number is that of the duplicate, which nobody else has.
    match unsafe { libc::close(duplicate.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn errno_of(number: i32) -> Option<i32> {
        inherited(number).unwrap_err().raw_os_error()
    }

    #[test]
    fn a_descriptor_of_our_own_is_not_inherited() {
        let own = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(errno_of(own.as_raw_fd()), Some(rustix::io::Errno::BADF.raw_os_error()));
    }

    #[test]
    fn a_number_that_is_not_open_is_refused() {
        let bad = Some(rustix::io::Errno::BADF.raw_os_error());
        assert_eq!(errno_of(-1), bad);
        assert_eq!(errno_of(i32::MAX), bad);
    }
}
