//! The same bytes under two names: a file that an overlay shows, and the file of its layer. A lock on one is none on the other.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{OFlags, statfs};

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
    fn a_file_on_no_overlay_has_no_layer() {
        assert!(file_of_layer(Path::new("/proc/version")).is_none());
    }
}
