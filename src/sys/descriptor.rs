//! Open files that the caller of this program handed down by number.

#![allow(unsafe_code, reason = "a descriptor known by its number only; each block states its invariant")]

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
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
