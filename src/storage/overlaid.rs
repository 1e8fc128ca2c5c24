//! The same bytes under two names: a file that an overlay shows, and the file of its layer. A lock on one is none on the other.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{OFlags, major, minor, statfs};

use crate::sys::mount_table::Line;

/// The file of a layer that shows at `path`, where that is on an overlay: the one that is written, or else the one that would be
/// copied to be written. `None` where it cannot be found, as its layers were named by relative paths or lie out of reach.
pub fn file_of_layer(path: &Path) -> Option<(PathBuf, File)> {
    statfs(path).ok().filter(|found| found.f_type == OVERLAYFS)?;
    let path = fs::canonicalize(path).ok()?;
    let table = fs::read("/proc/thread-self/mountinfo").ok()?;
    let mut files = names_in_layers(&table, &path).into_iter();
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC).bits().cast_signed();
    files.find_map(|file| {
        let kind = fs::symlink_metadata(&file).ok()?.file_type();
        if kind.is_char_device() {
            // It was deleted in this layer, and shows no more.
            return None;
        }
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(&file).ok()?;
        kind.is_file().then_some((file, opened))
    })
}

/// Whether somebody else has locked what may be the same file under another name: an overlay gives its files the numbers of those in
/// its layers, also where these were named by relative paths.
pub fn is_locked_in_layer(file: &File) -> bool {
    let Ok(found) = file.metadata() else { return false };
    let own = (major(found.dev()), minor(found.dev()), found.ino());
    let overlays = || {
        let table = fs::read("/proc/thread-self/mountinfo").unwrap_or_default();
        let lines = table.split(|&byte| byte == b'\n').filter_map(Line::parse);
        lines.filter(|line| line.kind == "overlay").map(|line| line.device).collect::<Vec<_>>()
    };
    // Who may not see them is not told.
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let others = locked_elsewhere(&locks, own, std::process::id());
    !others.is_empty() && {
        let overlays = overlays();
        others.into_iter().any(|other| overlays.contains(&other) || overlays.contains(&(own.0, own.1)))
    }
}

/// The devices of files of the same number that other processes have locked as containers are.
fn locked_elsewhere(locks: &str, own: (u32, u32, u64), process: u32) -> Vec<(u32, u32)> {
    let locked = |line: &str| {
        // `1: FLOCK  ADVISORY  WRITE 708 fd:01:2359475 0 EOF`; `->` where it is waited for.
        let mut fields = line.split_whitespace().skip(1);
        let (kind, _, access) = (fields.next()?, fields.next()?, fields.next()?);
        let (holder, file) = (fields.next()?, fields.next()?);
        let mut numbers = file.split(':');
        let mut part = || u32::from_str_radix(numbers.next()?, 16).ok();
        let device = (part()?, part()?);
        let inode: u64 = numbers.next()?.parse().ok()?;
        let is_other = holder.parse() != Ok(process) && device != (own.0, own.1);
        (kind == "FLOCK" && access == "WRITE" && inode == own.2 && is_other).then_some(device)
    };
    locks.lines().filter_map(locked).collect()
}

/// What `path` is called in each layer of the overlay that shows it, the uppermost first.
fn names_in_layers(table: &[u8], path: &Path) -> Vec<PathBuf> {
    let lines = table.split(|&byte| byte == b'\n').filter_map(Line::parse);
    let shown = lines.filter(|line| line.kind == "overlay" && path.starts_with(&line.place));
    // The innermost; of several in one place the last, which lies on top.
    let Some(overlay) = shown.max_by_key(|overlay| overlay.place.as_os_str().len()) else {
        return Vec::new();
    };
    let inner = path.strip_prefix(&overlay.place).unwrap_or(path);
    let root = overlay.root.strip_prefix("/").unwrap_or(&overlay.root);
    let layers = overlay.folders(&["upperdir="]).chain(overlay.folders(&["lowerdir=", "lowerdir+="]));
    layers.filter(|layer| layer.is_absolute()).map(|layer| layer.join(root).join(inner)).collect()
}

/// `linux/magic.h`.
const OVERLAYFS: i64 = 0x794c_7630;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_name_in_each_layer_of_the_innermost_overlay() {
        let table = b"1 0 0:1 / / rw - ext4 /dev/vda rw\n\
            2 1 0:30 / /m rw - overlay o rw,lowerdir=/a\\040b:/c,upperdir=/u,workdir=/w\n\
            3 2 0:31 /sub /m/in rw - overlay o ro,lowerdir+=/x,lowerdir+=rel\n";
        let names = |path: &str| names_in_layers(table, Path::new(path));
        assert_eq!(names("/m/d/v"), ["/u/d/v", "/a b/d/v", "/c/d/v"].map(PathBuf::from));
        assert_eq!(names("/m/in/v"), [PathBuf::from("/x/sub/v")]);
        assert!(names("/other/v").is_empty());
    }

    #[test]
    fn a_lock_on_a_file_of_the_same_number_on_another_device_is_found() {
        let locks = "1: FLOCK  ADVISORY  WRITE 708 fd:01:77 0 EOF\n\
            2: POSIX  ADVISORY  WRITE 709 00:1f:77 0 EOF\n\
            3: FLOCK  ADVISORY  READ  710 00:20:77 0 EOF\n\
            3: -> FLOCK  ADVISORY  WRITE 711 00:21:77 0 EOF\n\
            4: FLOCK  ADVISORY  WRITE 712 00:22:78 0 EOF\n\
            5: FLOCK  ADVISORY  WRITE 713 <none>:0 EOF\n";
        let found = |device: (u32, u32), process| locked_elsewhere(locks, (device.0, device.1, 77), process);
        assert_eq!(found((0, 0x1f), 1), [(0xfd, 1)]);
        assert_eq!(found((0, 0x1f), 708), []);
        assert_eq!(found((0xfd, 1), 1), []);
    }

    #[test]
    fn a_file_on_no_overlay_has_no_layer() {
        assert!(file_of_layer(Path::new("/proc/version")).is_none());
    }
}
