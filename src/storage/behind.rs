//! The same bytes under two names: a file, and a loop device that shows it. A lock on one is none on the other.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::PathBuf,
};

use rustix::fs::{OFlags, major, minor};

use crate::sys::loopdev::{backing_file, devices_on_file, is_behind, is_claimed};

/// The file that a loop device shows, or the one that a partition is on. `None` for all that is no loop device, and where the
/// file has no name any more that leads to it.
pub fn file_behind(device: &File) -> Option<(PathBuf, File)> {
    let metadata = device.metadata().ok().filter(|found| found.file_type().is_block_device())?;
    let number = metadata.rdev();
    let node = fs::canonicalize(format!("/sys/dev/block/{}:{}", major(number), minor(number))).ok()?;
    // A partition lies in the folder of its disk.
    let path = [node.as_path(), node.parent()?].into_iter().find_map(backing_file)?;
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(&path).ok()?;
    // Another file may bear that name by now.
    is_behind(device, &file.metadata().ok()?).then_some((path, file))
}

/// A loop device that shows this file, and that something claims for itself: a file system, or another device.
pub fn claimed_loop_device(file: &File) -> Option<PathBuf> {
    let own = file.metadata().ok().filter(fs::Metadata::is_file)?;
    devices_on_file((own.dev(), own.ino())).find(|device| is_claimed(device).unwrap_or(false))
}
