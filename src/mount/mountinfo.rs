//! The kernel's table of mounts (`proc_pid_mountinfo(5)`): the only witness of what is mounted.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Which mount it is.
    pub id: MountId,
    /// Where it shows.
    pub mountpoint: PathBuf,
    /// The file system's type: `ext4`, `fuse.ext4`.
    pub kind: String,
    /// What is mounted: a device, or the name that the file system gave itself.
    pub source: OsString,
    /// The file system's own options, between commas.
    options: OsString,
}

impl Mount {
    /// Whether `fuse2fs` mounted a block file of ours, which is the only one with that source.
    pub(super) fn is_driver(&self) -> bool {
        self.kind == "fuse.ext4" && self.source == "block/volume"
    }

    /// The user who mounted it, which the options of a FUSE file system tell.
    pub(super) fn fuse_user(&self) -> Option<u32> {
        self.options.to_str()?.split(',').find_map(|option| option.strip_prefix("user_id=")?.parse().ok())
    }
}

/// A mount for good: mount numbers are reused, but hardly together with the device number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountId {
    /// The mount's number.
    pub number: u64,
    /// The file system's device number, major part.
    pub major: u32,
    /// The file system's device number, minor part.
    pub minor: u32,
}

/// Whether `/proc` is there, without which nobody can tell what is mounted, or which process lives.
///
/// # Errors
/// `Missing`.
pub fn check_proc() -> crate::error::Result<()> {
    if fs::exists(PATH).unwrap_or_default() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Missing, "/proc is not mounted").with_hint("as root: mount -t proc proc /proc"))
}

/// The mounts of one moment, in the kernel's order: what lies on top comes last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MountTable(Vec<Mount>);

impl MountTable {
    /// Reads the table of the calling process's mount namespace.
    pub(super) fn read() -> io::Result<Self> {
        Ok(Self::parse(&fs::read(PATH)?))
    }

    /// Parses the table's bytes. Lines that no kernel writes are passed over.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        Self(bytes.split(|&byte| byte == b'\n').filter_map(parse_line).collect())
    }

    /// The mount that shows at exactly `path`, the topmost where there are several.
    pub(super) fn at(&self, path: &Path) -> Option<&Mount> {
        self.0.iter().rev().find(|mount| mount.mountpoint == path)
    }

    /// The mount `id`, while it is there.
    pub(super) fn find(&self, id: MountId) -> Option<&Mount> {
        self.0.iter().find(|mount| mount.id == id)
    }

    /// All of them.
    pub(super) fn mounts(&self) -> &[Mount] {
        &self.0
    }

    /// What is mounted somewhere below `path`.
    pub(super) fn below(&self, path: &Path) -> impl Iterator<Item = &Mount> {
        self.0.iter().filter(move |mount| mount.mountpoint != path && mount.mountpoint.starts_with(path))
    }
}

/// The file that [`MountTable::read`] reads. Polling it for `POLLPRI` tells of changes.
pub(super) const PATH: &str = "/proc/self/mountinfo";

/// `36 35 98:0 /root /mnt rw,noatime shared:1 - ext3 /dev/root rw`, with any number of optional fields before the `-`.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let number = text(fields.next()?)?.parse().ok()?;
    let _parent = fields.next()?;
    let (major, minor) = text(fields.next()?)?.split_once(':')?;
    let id = MountId { number, major: major.parse().ok()?, minor: minor.parse().ok()? };
    let _root = fields.next()?;
    let mountpoint = PathBuf::from(unescape(fields.next()?));
    let _options = fields.next()?;
    fields.find(|&field| field == b"-")?;
    let kind = text(fields.next()?)?.to_owned();
    let source = unescape(fields.next()?);
    let options = unescape(fields.next()?);
    Some(Mount { id, mountpoint, kind, source, options })
}

fn text(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok()
}

/// Undoes the kernel's octal escapes: `\040` for a blank, `\011` tab, `\012` line feed, `\134` backslash.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = if first == b'\\' { tail.first_chunk::<3>().copied().and_then(octal) } else { None };
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    OsString::from_vec(bytes)
}

fn octal(digits: [u8; 3]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 28 0:20 / /proc rw,nosuid - proc proc rw\n\
        64 43 0:39 / /home/a/my\\040vault rw,nosuid,nodev shared:3 master:1 - fuse.ext4 block/volume rw,user_id=1000\n\
        65 64 7:1 / /home/a/my\\040vault rw - ext4 /dev/loop1 rw\n\
        66 65 0:40 / /home/a/my\\040vault/in\\134side rw - tmpfs tmpfs rw\n";

    #[test]
    fn fields_are_found_whatever_optional_fields_stand_between() {
        let table = MountTable::parse(TABLE);
        let fuse = table.find(MountId { number: 64, major: 0, minor: 39 }).unwrap();
        assert_eq!(fuse.mountpoint, Path::new("/home/a/my vault"));
        assert_eq!((fuse.kind.as_str(), fuse.source.to_str()), ("fuse.ext4", Some("block/volume")));
        assert_eq!((fuse.is_driver(), fuse.fuse_user()), (true, Some(1000)));
    }

    #[test]
    fn the_topmost_mount_answers_for_a_path() {
        let table = MountTable::parse(TABLE);
        assert_eq!(table.at(Path::new("/home/a/my vault")).unwrap().id.number, 65);
        assert_eq!(table.at(Path::new("/home/a")), None);
    }

    #[test]
    fn a_reused_number_with_another_device_is_another_mount() {
        assert_eq!(MountTable::parse(TABLE).find(MountId { number: 64, major: 0, minor: 40 }), None);
    }

    #[test]
    fn mounts_below_a_path_are_listed_unescaped() {
        let table = MountTable::parse(TABLE);
        let below: Vec<_> =
            table.below(Path::new("/home/a/my vault")).map(|mount| &mount.mountpoint).collect();
        assert_eq!(below, [Path::new("/home/a/my vault/in\\side")]);
    }

    #[test]
    fn a_cut_line_is_passed_over() {
        assert_eq!(MountTable::parse(b"64 43 0:39 / /mnt rw - fuse\n12 nonsense"), MountTable(Vec::new()));
    }

    #[test]
    fn the_running_system_has_proc() {
        assert_eq!(MountTable::read().unwrap().at(Path::new("/proc")).unwrap().kind, "proc");
    }
}
