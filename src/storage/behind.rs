//! The same bytes under two names: a file, and a loop device that shows it. A lock on one is none on the other.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::PathBuf,
};

use rustix::fs::OFlags;

use super::{disk_of, folder_of};
use crate::sys::loopdev::{backing_file, devices_on_device, devices_on_file, is_behind, is_claimed};

/// The file that a loop device shows, or the one that a partition is on. `None` for all that is no loop device, and where the
/// file has no name any more that leads to it.
pub fn file_behind(device: &File) -> Option<(PathBuf, File)> {
    let metadata = device.metadata().ok().filter(|found| found.file_type().is_block_device())?;
    let number = metadata.rdev();
    let node = folder_of(number).ok()?;
    // A partition lies in the folder of its disk.
    let path = [node.as_path(), node.parent()?].into_iter().find_map(backing_file)?;
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(&path).ok()?;
    // Another file may bear that name by now.
    is_behind(device, &file.metadata().ok()?).then_some((path, file))
}

/// A loop device that shows this file or block device, or what that loop device shows, and that something claims for itself: a file
/// system, or another device.
pub fn claimed_loop_device(file: &File) -> Option<PathBuf> {
    let own = file.metadata().ok()?;
    let is_claimed = |device: &PathBuf| is_claimed(device).unwrap_or(false);
    if own.is_file() {
        return devices_on_file((own.dev(), own.ino())).find(is_claimed);
    }
    let number = Some(own.rdev()).filter(|_| own.file_type().is_block_device())?;
    if let Some(over) = devices_on_device(number).find(is_claimed) {
        return Some(over);
    }
    // A partition of a loop device claims the whole.
    let is_whole = disk_of(&folder_of(number).ok()?).is_none();
    let behind = file_behind(file).filter(|_| is_whole);
    let found = behind?.1.metadata().ok()?;
    let is_other = |device: &PathBuf| fs::metadata(device).is_ok_and(|other| other.rdev() != number);
    devices_on_file((found.dev(), found.ino())).filter(is_other).find(is_claimed)
}
