//! The same bytes under two names: a file that an overlay shows, and the file of its layer. A lock on one is none on the other.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    os::unix::{
        ffi::OsStringExt,
        fs::{FileTypeExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{OFlags, statfs};

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
    let overlays = table.split(|&byte| byte == b'\n').filter_map(Overlay::parse);
    let shown = overlays.filter(|overlay| path.starts_with(&overlay.place));
    // The innermost; of several in one place the last, which lies on top.
    let Some(overlay) = shown.max_by_key(|overlay| overlay.place.as_os_str().len()) else {
        return Vec::new();
    };
    let inner = path.strip_prefix(&overlay.place).unwrap_or(path);
    let root = overlay.root.strip_prefix("/").unwrap_or(&overlay.root);
    overlay
        .layers
        .iter()
        .filter(|layer| layer.is_absolute())
        .map(|layer| layer.join(root).join(inner))
        .collect()
}

struct Overlay {
    root: PathBuf,
    place: PathBuf,
    layers: Vec<PathBuf>,
}

impl Overlay {
    /// A line of the table of mounts (`proc_pid_mountinfo(5)`).
    fn parse(line: &[u8]) -> Option<Self> {
        let fields: Vec<_> = line.split(|&byte| byte == b' ').collect();
        let dash = fields.iter().position(|field| *field == b"-")?;
        let (kind, options) = (fields.get(dash + 1)?, fields.get(dash + 3)?);
        if *kind != b"overlay" {
            return None;
        }
        let values = |name: &'static [u8]| {
            options.split(|&byte| byte == b',').filter_map(move |option| option.strip_prefix(name))
        };
        let lower = values(b"lowerdir=").flat_map(|value| value.split(|&byte| byte == b':'));
        let layers = values(b"upperdir=").chain(lower).chain(values(b"lowerdir+="));
        Some(Self {
            root: unescaped(fields.get(3)?),
            place: unescaped(fields.get(4)?),
            layers: layers.map(unescaped).collect(),
        })
    }
}

/// `\040` is a blank.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut rest = field;
    let mut bytes = Vec::new();
    while let Some((&first, behind)) = rest.split_first() {
        let octal = behind.get(..3).filter(|_| first == b'\\');
        let octal = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(first));
        rest = if octal.is_some() { behind.get(3..).unwrap_or_default() } else { behind };
    }
    PathBuf::from(OsString::from_vec(bytes))
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
