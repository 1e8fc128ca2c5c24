//! What the kernel does with a file that no lock on it shows.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::loopdev::devices_on_file;

/// How the kernel uses a regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelUse {
    /// Behind this loop device.
    Loop(PathBuf),
    /// As swap space.
    Swap,
}

/// How the kernel uses the file with this device and inode number; `None` where it does not, or does not tell.
pub fn kernel_use_of(file: (u64, u64)) -> Option<KernelUse> {
    let is_it = |path: &Path| fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == file);
    if let Some(device) = devices_on_file(file).next() {
        return Some(KernelUse::Loop(device));
    }
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let mut names = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    names.any(|name| is_it(Path::new(name))).then_some(KernelUse::Swap)
}
