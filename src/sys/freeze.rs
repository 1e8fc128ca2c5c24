//! File systems that are frozen (`fsfreeze(8)`), where everybody who writes waits until somebody thaws them; or shut down, where every
//! write fails.

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

/// Brings all that was written to the file system that has `root` open to its device, and has everything fail there from then on,
/// wherever it is mounted. For root.
///
/// # Errors
/// `ENOTTY` where the file system does not know it: ext4, XFS and F2FS do.
pub fn shut_down(root: &File) -> io::Result<()> {
    // `EXT4_GOING_FLAGS_DEFAULT`, `XFS_FSOP_GOING_FLAGS_DEFAULT`: with a sync.
    let mut flags = 0;
    // SAFETY: the request takes a pointer to an integer of 32 bits, which it reads.
    let request = unsafe { Updater::<SHUTDOWN, u32>::new(&mut flags) };
    // SAFETY: the file is open for the whole call.
    Ok(unsafe { ioctl(root, request) }?)
}

/// `_IOR('X', 125, __u32)`: `EXT4_IOC_SHUTDOWN`, `XFS_IOC_GOINGDOWN`.
const SHUTDOWN: Opcode = rustix::ioctl::opcode::read::<u32>(b'X', 125);
/// `_IOWR('X', 120, int)` of `linux/fs.h`.
const FITHAW: Opcode = rustix::ioctl::opcode::read_write::<i32>(b'X', 120);
