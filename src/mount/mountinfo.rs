//! The kernel's table of mounts (`proc_pid_mountinfo(5)`): the only witness of what is mounted.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, fs::FileExt},
    },
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde::{Deserialize, Serialize};

use super::session::SOURCE;
use crate::{
    error::{Error, ErrorKind, Result},
    sys::{
        mount_number::{is_gone, unique_number},
        mount_table::{Line, folders},
    },
    text::path::command_word,
};

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Which mount it is.
    pub id: MountId,
    /// The number of the mount that it lies in.
    parent: u64,
    /// The part of the file system that it shows: all of it (`/`), or a folder in it.
    root: PathBuf,
    /// Where it shows.
    pub mountpoint: PathBuf,
    /// The file system's type: `ext4`, `fuse.ext4`.
    pub kind: String,
    /// What is mounted: a device, or the name that the file system gave itself.
    pub source: OsString,
    /// The file system's own options, between commas.
    options: OsString,
    /// How mounts in it spread to other places.
    spread: Spread,
}

impl Mount {
    /// Whether it is the trigger of an automount (systemd's, or a direct one of autofs), which is there to be mounted over.
    pub(super) fn is_trigger(&self) -> bool {
        let mut options = self.options.as_bytes().split(|byte| *byte == b',');
        self.kind == "autofs" && options.any(|option| option == b"direct")
    }

    /// Whether it shows the files of a volume of ours, by its server: no other has such a source.
    pub(super) fn is_driver(&self) -> bool {
        let subtype = self.kind.strip_prefix("fuse.");
        subtype.is_some_and(|subtype| subtype != "strongroom") && Path::new(&self.source).starts_with(SOURCE)
    }

    /// The user who mounted it, which the options of a FUSE file system tell.
    pub(super) fn fuse_user(&self) -> Option<u32> {
        self.options.to_str()?.split(',').find_map(|option| option.strip_prefix("user_id=")?.parse().ok())
    }

    /// Whether its file system cannot be written, wherever it is mounted.
    pub(super) fn is_read_only(&self) -> bool {
        self.options.as_bytes().split(|&byte| byte == b',').next() == Some(b"ro")
    }

    /// The path in its own file system of what shows at `path`.
    fn inner_path(&self, path: &Path) -> Option<PathBuf> {
        Some(self.root.join(path.strip_prefix(&self.mountpoint).ok()?))
    }

    /// The folders that an overlay is made of, as they were named when it was mounted.
    pub(super) fn layers(&self) -> impl Iterator<Item = PathBuf> {
        folders(&self.options, &["lowerdir=", "lowerdir+=", "upperdir=", "workdir="])
    }

    /// Those of them that it writes to.
    pub(super) fn upper_layers(&self) -> impl Iterator<Item = PathBuf> {
        folders(&self.options, &["upperdir=", "workdir="])
    }
}

/// The groups by which mounting and unmounting in one mount shows in others (`mount_namespaces(7)`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Spread {
    /// It gives to all others of this group, and takes from them.
    shared: Option<u64>,
    /// It takes from those of this group.
    master: Option<u64>,
}

/// A mount. The kernel uses both numbers again, often together; the last one it does not, where it has that.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct MountId {
    /// The mount's number.
    pub number: u64,
    /// The file system's device number, major part.
    pub major: u32,
    /// The file system's device number, minor part.
    pub minor: u32,
    /// Its number for good, where it was asked for; the table does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unique: Option<u64>,
}

/// Equal are those that the table shows alike.
impl PartialEq for MountId {
    fn eq(&self, other: &Self) -> bool {
        (self.number, self.major, self.minor) == (other.number, other.major, other.minor)
    }
}

impl Eq for MountId {}

impl MountId {
    /// As the table of mounts shows it.
    pub(super) const fn new(number: u64, major: u32, minor: u32) -> Self {
        Self { number, major, minor, unique: None }
    }

    /// The same for good: the mount is at `place` now.
    pub(super) fn for_good(self, place: &Path) -> Self {
        Self { unique: unique_number(place, self.number), ..self }
    }

    /// Its number for good, where that was asked for and the kernel has one.
    pub(super) const fn unique(self) -> Option<u64> {
        self.unique
    }

    /// Whether it is gone, so that what bears its numbers now is another one.
    fn is_gone(self) -> bool {
        self.unique.is_some_and(is_gone)
    }
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

/// Has this process read its table through one descriptor from now on: also where `/proc` is hidden later, or no file can be opened.
///
/// # Errors
/// What opening it gave.
pub(super) fn keep() -> io::Result<()> {
    let table = File::open(PATH)?;
    KEPT.get_or_init(|| table);
    Ok(())
}

fn read_kept(table: &File) -> io::Result<Vec<u8>> {
    let (mut bytes, mut filled) = (vec![0; 1 << 16], 0);
    loop {
        // Without the descriptor's own place, which other threads would move.
        let rest = bytes.get_mut(filled..).unwrap_or_default();
        match table.read_at(rest, u64::try_from(filled).map_err(io::Error::other)?)? {
            0 => break,
            count => filled += count,
        }
        bytes.resize(bytes.len().max(filled + (1 << 16)), 0);
    }
    bytes.truncate(filled);
    Ok(bytes)
}

static KEPT: OnceLock<File> = OnceLock::new();

/// The mounts of one moment, in the kernel's order: what lies on top comes last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MountTable(Vec<Mount>);

impl MountTable {
    /// Reads the table of the calling process's mount namespace.
    pub(super) fn read() -> io::Result<Self> {
        Ok(Self::parse(&KEPT.get().map_or_else(|| fs::read(PATH), read_kept)?))
    }

    /// Reads that of the mount namespace of another process.
    pub(super) fn of_process(pid: i32) -> io::Result<Self> {
        Ok(Self::parse(&fs::read(format!("/proc/{pid}/mountinfo"))?))
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
        self.0.iter().find(|mount| mount.id == id).filter(|_| !id.is_gone())
    }

    /// Whether what is in the mount with this number can be reached by path.
    pub(super) fn shows(&self, number: u64) -> bool {
        self.numbered(number).is_some_and(|mount| self.over(mount).is_none())
    }

    /// Where the file system with this device number shows.
    pub(super) fn places_of(&self, device: (u32, u32)) -> impl Iterator<Item = &Path> {
        let mounts = self.0.iter().filter(move |mount| (mount.id.major, mount.id.minor) == device);
        mounts.map(|mount| mount.mountpoint.as_path())
    }

    /// All of them.
    pub(super) fn mounts(&self) -> &[Mount] {
        &self.0
    }

    /// Where the mount `id` shows now, whatever folder above it was renamed; `None` where it does not.
    ///
    /// # Errors
    /// `Busy` where another mount lies over it: unmounting by path would hit that one.
    pub(super) fn place_of(&self, id: MountId) -> Result<Option<&Path>> {
        let Some(mount) = self.find(id) else { return Ok(None) };
        let Some(cover) = self.over(mount) else { return Ok(Some(&mount.mountpoint)) };
        let place = &cover.mountpoint;
        Err(Error::new(ErrorKind::Busy, format!("something else is mounted over {}", place.display()))
            .with_hint(format!("first: umount {}", command_word(place))))
    }

    /// What shows in the place of `mount`: what lies on it, or over a folder above it.
    fn over(&self, mount: &Mount) -> Option<&Mount> {
        let own = self.at(&mount.mountpoint).filter(|top| top.id != mount.id);
        own.or_else(|| {
            let mut child = mount;
            // Each mount has fewer above it than there are.
            for _ in &self.0 {
                let parent = self.numbered(child.parent).filter(|parent| parent.id != child.id)?;
                let hides = |other: &&Mount| {
                    other.parent == parent.id.number
                        && other.id != child.id
                        && child.mountpoint.starts_with(&other.mountpoint)
                };
                if let Some(cover) = self.0.iter().rev().find(hides) {
                    return Some(cover);
                }
                child = parent;
            }
            None
        })
    }

    /// What was mounted on the mount `id` itself and hides it, the topmost.
    pub(super) fn cover_of(&self, id: MountId) -> Option<&Mount> {
        let mount = self.find(id)?;
        self.at(&mount.mountpoint).filter(|top| top.id != id && self.over(top).is_none())
    }

    /// The other mounts of the same file system, bound elsewhere: it stays in use when the mount `id` goes. Those that go with
    /// it are left out.
    pub(super) fn copies(&self, id: MountId) -> impl Iterator<Item = &Mount> {
        let own = self.find(id);
        self.0.iter().filter(move |mount| {
            mount.id != id
                && (mount.id.major, mount.id.minor) == (id.major, id.minor)
                && !own.is_some_and(|own| self.go_together(own, mount))
        })
    }

    /// Whether unmounting `own` unmounts `other`: it is its image in a mount that takes part in what happens in the one below.
    fn go_together(&self, own: &Mount, other: &Mount) -> bool {
        let (Some(below), Some(others)) = (self.numbered(own.parent), self.numbered(other.parent)) else {
            return false;
        };
        let Some(group) = below.spread.shared else { return false };
        below.id.number != others.id.number
            && [others.spread.shared, others.spread.master].contains(&Some(group))
            && below.inner_path(&own.mountpoint) == others.inner_path(&other.mountpoint)
            && own.root == other.root
    }

    fn numbered(&self, number: u64) -> Option<&Mount> {
        self.0.iter().find(|mount| mount.id.number == number)
    }

    /// The overlays: file systems that show folders of others, and keep these in use without a mount of their own.
    pub(super) fn overlays(&self) -> impl Iterator<Item = &Mount> {
        self.0.iter().filter(|mount| mount.kind == "overlay")
    }

    /// What is mounted somewhere below `path`.
    pub(super) fn below(&self, path: &Path) -> impl Iterator<Item = &Mount> {
        self.0.iter().filter(move |mount| mount.mountpoint != path && mount.mountpoint.starts_with(path))
    }
}

/// The number of the mount through which a file was opened.
pub(super) fn mount_of(file: &File) -> Option<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

/// The file that [`MountTable::read`] reads. Polling it for `POLLPRI` tells of changes.
pub(super) const PATH: &str = "/proc/self/mountinfo";

fn parse_line(line: &[u8]) -> Option<Mount> {
    let Line { number, parent, device: (major, minor), root, place, shared, master, kind, source, options } =
        Line::parse(line)?;
    let (id, spread) = (MountId::new(number, major, minor), Spread { shared, master });
    Some(Mount { id, parent, root, mountpoint: place, kind, source, options, spread })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 28 0:20 / /proc rw,nosuid - proc proc rw\n\
        64 43 0:39 / /home/a/my\\040vault rw,nosuid,nodev shared:3 master:1 - fuse.ext4 strongroom/photos.vault rw,user_id=1000\n\
        65 64 7:1 / /home/a/my\\040vault rw - ext4 /dev/loop1 rw\n\
        66 65 0:40 / /home/a/my\\040vault/in\\134side rw - tmpfs tmpfs rw\n";

    #[test]
    fn fields_are_found_whatever_optional_fields_stand_between() {
        let table = MountTable::parse(TABLE);
        let fuse = table.find(MountId::new(64, 0, 39)).unwrap();
        assert_eq!(fuse.mountpoint, Path::new("/home/a/my vault"));
        assert_eq!(
            (fuse.kind.as_str(), fuse.source.to_str()),
            ("fuse.ext4", Some("strongroom/photos.vault"))
        );
        assert_eq!((fuse.is_driver(), fuse.fuse_user()), (true, Some(1000)));
    }

    #[test]
    fn only_a_direct_automount_is_there_to_be_mounted_over() {
        let of = |options: &str| {
            let line =
                format!("70 28 0:41 / /srv/a rw - autofs systemd-1 rw,fd=51,pgrp=1,timeout=0,{options}\n");
            MountTable::parse(line.as_bytes()).at(Path::new("/srv/a")).unwrap().is_trigger()
        };
        assert!(of("minproto=5,maxproto=5,direct") && !of("indirect"));
        assert!(!MountTable::parse(TABLE).at(Path::new("/proc")).unwrap().is_trigger());
    }

    #[test]
    fn the_topmost_mount_answers_for_a_path() {
        let table = MountTable::parse(TABLE);
        assert_eq!(table.at(Path::new("/home/a/my vault")).unwrap().id.number, 65);
        assert_eq!(table.at(Path::new("/home/a")), None);
    }

    #[test]
    fn a_reused_number_with_another_device_is_another_mount() {
        assert_eq!(MountTable::parse(TABLE).find(MountId::new(64, 0, 40)), None);
    }

    #[test]
    fn a_mount_that_is_gone_is_not_the_one_that_bears_its_numbers_now() {
        let known = MountId { unique: Some(u64::MAX - 1), ..MountId::new(64, 0, 39) };
        if !known.is_gone() {
            return println!("skipped: this kernel numbers no mount for good");
        }
        assert_eq!(MountTable::parse(TABLE).find(known), None);
    }

    #[test]
    fn mounts_below_a_path_are_listed_unescaped() {
        let table = MountTable::parse(TABLE);
        let below: Vec<_> =
            table.below(Path::new("/home/a/my vault")).map(|mount| &mount.mountpoint).collect();
        assert_eq!(below, [Path::new("/home/a/my vault/in\\side")]);
    }

    fn numbers<'a>(mounts: impl Iterator<Item = &'a Mount>) -> Vec<u64> {
        mounts.map(|mount| mount.id.number).collect()
    }

    #[test]
    fn a_mount_is_where_the_table_shows_it_unless_something_lies_over_it() {
        let table = MountTable::parse(TABLE);
        let on_top = table.place_of(MountId::new(65, 7, 1)).unwrap();
        assert_eq!(on_top, Some(Path::new("/home/a/my vault")));
        assert_eq!(table.place_of(MountId::new(99, 7, 1)).unwrap(), None);
        let hidden = table.place_of(MountId::new(64, 0, 39)).unwrap_err();
        assert_eq!(hidden.kind(), ErrorKind::Busy);
        assert_eq!(hidden.reason(), "something else is mounted over /home/a/my vault");
    }

    #[test]
    fn a_mount_over_a_folder_above_hides_as_well() {
        let table = MountTable::parse(
            b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
            5 1 7:1 / /p/v rw - ext4 /dev/loop1 rw\n\
            6 1 7:2 / /q/v rw - ext4 /dev/loop2 rw\n\
            7 1 0:50 / /p rw - tmpfs x rw\n\
            8 6 0:51 / /q/v/in rw - tmpfs x rw\n\
            9 6 0:52 / /q/v rw - tmpfs x rw\n",
        );
        let [p, q, over_q] = [(5, 7, 1), (6, 7, 2), (9, 0, 52)]
            .map(|(number, major, minor)| MountId::new(number, major, minor));
        let hidden = table.place_of(p).unwrap_err();
        assert_eq!(hidden.reason(), "something else is mounted over /p");
        assert_eq!(hidden.hint(), Some("first: umount /p"));
        assert_eq!(table.cover_of(p), None);
        assert_eq!(table.place_of(q).unwrap_err().hint(), Some("first: umount /q/v"));
        assert_eq!(table.cover_of(q).map(|cover| cover.id), Some(over_q));
        assert_eq!(table.place_of(over_q).unwrap(), Some(Path::new("/q/v")));
    }

    #[test]
    fn a_folder_of_the_volume_bound_elsewhere_is_a_copy() {
        let table = MountTable::parse(
            b"1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
            5 1 7:1 / /v rw shared:9 - ext4 /dev/loop1 rw\n\
            6 1 7:1 /docs /b rw shared:9 - ext4 /dev/loop1 rw\n\
            7 1 7:2 / /other rw - ext4 /dev/loop2 rw\n",
        );
        assert_eq!(numbers(table.copies(MountId::new(5, 7, 1))), [6]);
        // Also where the mount itself has gone already.
        assert_eq!(numbers(table.copies(MountId::new(4, 7, 1))), [5, 6]);
    }

    #[test]
    fn an_image_in_a_shared_mount_goes_with_its_original() {
        let table = MountTable::parse(
            b"1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
            2 1 8:1 /home /srv/home rw shared:1 - ext4 /dev/sda1 rw\n\
            3 1 8:1 /home /jail/home rw master:1 - ext4 /dev/sda1 rw\n\
            4 1 8:1 /home /apart/home rw - ext4 /dev/sda1 rw\n\
            5 1 7:1 / /home/a/v rw shared:9 - ext4 /dev/loop1 rw\n\
            6 2 7:1 / /srv/home/a/v rw shared:9 - ext4 /dev/loop1 rw\n\
            7 3 7:1 / /jail/home/a/v rw master:9 - ext4 /dev/loop1 rw\n\
            8 4 7:1 / /apart/home/a/v rw - ext4 /dev/loop1 rw\n\
            9 2 7:1 / /srv/home/a/w rw shared:9 - ext4 /dev/loop1 rw\n",
        );
        assert_eq!(numbers(table.copies(MountId::new(5, 7, 1))), [8, 9]);
    }

    #[test]
    fn an_overlay_names_its_layers() {
        let table = MountTable::parse(
            b"9 1 0:50 / /merged rw - overlay overlay rw,lowerdir=/a:/v/my\\040low,upperdir=/v/up,workdir=/v/w,xino=off\n",
        );
        let layers: Vec<_> = table.overlays().flat_map(Mount::layers).collect();
        assert_eq!(layers, ["/a", "/v/my low", "/v/up", "/v/w"].map(PathBuf::from));
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
