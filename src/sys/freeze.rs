//! File systems that are frozen (`fsfreeze(8)`): everybody who writes there waits until somebody thaws them.

#![allow(unsafe_code, reason = "an ioctl; the block states its invariant")]

use std::{fs::File, io, path::Path};

use rustix::{
    io::Errno,
    ioctl::{Opcode, Updater, ioctl},
    mount::{FsPickFlags, fsconfig_reconfigure, fspick},
};

/// Whether the file system that is mounted at `root`, for writing, is frozen. For root.
///
/// The kernel changes no option of a frozen one, not even if none is to be changed.
pub fn is_frozen(root: &Path) -> io::Result<bool> {
    let context = fspick(rustix::fs::CWD, root, FsPickFlags::FSPICK_CLOEXEC)?;
    match fsconfig_reconfigure(&context) {
        Err(Errno::BUSY) => Ok(true),
        done => Ok(done.map(|()| false)?),
    }
}

/// Thaws the file system that has `root` open. True where it was frozen.
pub fn thaw(root: &File) -> io::Result<bool> {
    let mut unused = 0;
    // SAFETY: FITHAW takes an integer, which it does not look at.
    let request = unsafe { Updater::<FITHAW, i32>::new(&mut unused) };
    // SAFETY: the file is open for the whole call.
    match unsafe { ioctl(root, request) } {
        Ok(()) => Ok(true),
        Err(Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// `_IOWR('X', 120, int)` of `linux/fs.h`.
const FITHAW: Opcode = rustix::ioctl::opcode::read_write::<i32>(b'X', 120);
