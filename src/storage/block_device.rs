//! Block devices as sysfs shows them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::fs::{major, minor};

/// The folder of the device with this number: of a partition it lies in that of its disk.
///
/// # Errors
/// What resolving gave, as where there is no /sys.
pub fn folder_of(number: u64) -> io::Result<PathBuf> {
    fs::canonicalize(format!("/sys/dev/block/{}:{}", major(number), minor(number)))
}

/// The folder of the disk whose partition has this folder; `None` for a whole device.
pub fn disk_of(folder: &Path) -> Option<&Path> {
    folder.parent().filter(|_| folder.join("partition").exists())
}
