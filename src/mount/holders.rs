//! Who uses a mount or a file: what `/proc` shows of the processes that the caller may look into.

use std::{
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, OFlags, StatxFlags, makedev, statvfs, statx};

use super::{
    look::{self, Wanted},
    mountinfo::{Mount, MountId, MountTable},
    namespaces,
    registry::file_id,
    stacked::{Stack, loop_devices_on},
};
use crate::{
    sys::{fuse_mount::device_number, mount_table::unescaped},
    text::in_one_line,
};

/// Somebody who uses a mount.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A process: its number and its command's name.
    Process {
        /// The process number.
        pid: i32,
        /// Its command, as `ps` shows it.
        command: String,
    },
    /// Another mount: one below, one of the same file system elsewhere, an overlay that shows a folder of it, or a file system
    /// that lies in a file of it.
    Mount(PathBuf),
    /// Swap space in a file of it.
    Swap(PathBuf),
    /// An overlay of whose folders nobody knows where they lie.
    Overlay(PathBuf),
    /// A loop device on a file in it, or what is made of one.
    Device(PathBuf),
    /// Another mount namespace, told by a process in it.
    Namespace {
        /// The process number.
        pid: i32,
        /// Its command, as `ps` shows it.
        command: String,
    },
    /// A process that hangs in the kernel, so that nobody can tell what it uses.
    Hanging {
        /// The process number.
        pid: i32,
        /// Its command, as `ps` shows it.
        command: String,
    },
    /// More processes than there was time for.
    Unseen,
}

impl Holder {
    /// Whether it is known to use what was asked for, and not only unseen.
    pub const fn is_certain(&self) -> bool {
        !matches!(self, Self::Hanging { .. } | Self::Unseen | Self::Overlay(_))
    }

    /// The mount namespace of the process `pid`.
    pub(super) fn namespace(pid: i32) -> Self {
        Self::Namespace { pid, command: command(pid) }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, command } => write!(f, "process {pid} ({command})"),
            Self::Mount(path) => write!(f, "the mount on {}", path.display()),
            Self::Swap(path) => write!(f, "the swap file {}", path.display()),
            Self::Overlay(path) => {
                write!(
                    f,
                    "perhaps the overlay on {}, which does not tell where its folders lie",
                    path.display()
                )
            }
            Self::Device(path) if is_loop_device(path) => write!(f, "the loop device {}", path.display()),
            Self::Device(path) => write!(f, "the device {}", path.display()),
            Self::Namespace { pid, command } => {
                write!(f, "the mount namespace of process {pid} ({command})")
            }
            Self::Hanging { pid, command } => {
                write!(f, "perhaps process {pid} ({command}), which hangs and cannot be looked into")
            }
            Self::Unseen => f.write_str("perhaps processes that could not be looked into in time"),
        }
    }
}

/// Who uses the file system of the mount `id`: open files, working directories, programs, mapped files, mounts below it and
/// mounts of it elsewhere. Where it does not show here any more, also other mount namespaces.
///
/// Processes of other users stay unseen, except for root.
pub(super) fn holders_of_mount(id: MountId) -> Vec<Holder> {
    let mut holders = processes(Wanted::FileSystem(id.major, id.minor));
    let Ok(table) = MountTable::read() else { return holders };
    // The files of btrfs have other device numbers than its mount, each subvolume's another; where the mount is gone, nobody can tell
    // whether it was one.
    let of_files = table.find(id).and_then(|mount| device_number(&mount.mountpoint).ok());
    match (id.unique(), of_files) {
        (_, Some(number)) if number == (id.major, id.minor) => {}
        // By its other number another mount is known, soon after it is gone.
        (Some(unique), _) => holders.extend(processes(Wanted::Mount(unique))),
        (None, Some((major, minor))) => holders.extend(processes(Wanted::FileSystem(major, minor))),
        (None, None) => {}
    }
    holders.extend(other_mounts(&table, id));
    if let Some(mount) = table.find(id) {
        holders.extend(table.below(&mount.mountpoint).map(|inner| Holder::Mount(inner.mountpoint.clone())));
        holders.extend(Stack::on(&mount.mountpoint, &table).holders());
        holders.extend(swap_below(&mount.mountpoint));
    } else {
        holders.extend(holders_elsewhere(id));
        holders.extend(Stack::left_on(id, &table).holders());
    }
    holders.sort();
    holders.dedup();
    holders
}

/// The other mount namespaces that show the file system of the mount `id`.
pub(super) fn holders_elsewhere(id: MountId) -> Vec<Holder> {
    namespaces::processes_that_see(id).into_iter().map(Holder::namespace).collect()
}

/// The mounts in `table` that keep the file system in use when the mount `id` goes.
pub(super) fn other_mounts(table: &MountTable, id: MountId) -> impl Iterator<Item = Holder> {
    let others = table.copies(id).chain(overlays_on(table, id));
    others.map(|mount| Holder::Mount(mount.mountpoint.clone()))
}

/// The overlays that show folders of the file system of the mount `id`.
pub(super) fn overlays_on(table: &MountTable, id: MountId) -> impl Iterator<Item = &Mount> {
    let own = table.find(id);
    let shows_folder_of = move |overlay: &&Mount| {
        let device = makedev(id.major, id.minor);
        let device_of = |layer: &PathBuf| file_id(layer).filter(|_| layer.is_absolute());
        let layers: Vec<_> = overlay.layers().collect();
        let devices: Vec<_> = layers.iter().map(|layer| device_of(layer).map(|(device, _)| device)).collect();
        // A layer may be named from a folder that is not known, and in btrfs each subvolume has a number of its own.
        let is_unknown = devices.contains(&None) || own.is_some_and(|own| own.kind == "btrfs");
        let is_named = |own: &Mount| {
            let mut names = layers.iter().filter_map(|layer| relative_to(&own.mountpoint, layer));
            names.any(|layer| file_id(&layer).is_some_and(|(found, _)| found == device))
        };
        devices.contains(&Some(device))
            || is_unknown
                && own.is_some_and(|own| are_one(&own.mountpoint, &overlay.mountpoint) || is_named(own))
    };
    table.overlays().filter(shows_folder_of)
}

/// Where `layer`, a relative path, leads if it goes through the last folders of `place`: `/a/m` and `m/docs` give `/a/m/docs`.
fn relative_to(place: &Path, layer: &Path) -> Option<PathBuf> {
    let first = layer.components().next().filter(|_| layer.is_relative())?;
    let bases = place.ancestors().filter(|above| above.file_name() == Some(first.as_os_str()));
    let leads = bases.filter_map(|above| Some(above.parent()?.join(layer)));
    leads.into_iter().find(|path| path.starts_with(place))
}

/// The overlays that show folders of what was mounted on `place`, or may do so. They keep it in use when it has gone from there, and
/// only the names of their folders still tell of it.
pub(super) fn overlays_left(place: &Path) -> Vec<Holder> {
    let table = MountTable::read().unwrap_or_default();
    let left = table.overlays().filter_map(|overlay| {
        let mountpoint = overlay.mountpoint.clone();
        let mut layers = overlay.layers();
        if overlay.layers().any(|layer| layer.starts_with(place) || relative_to(place, &layer).is_some()) {
            Some(Holder::Mount(mountpoint))
        } else {
            layers.any(|layer| layer.is_relative()).then_some(Holder::Overlay(mountpoint))
        }
    });
    left.collect()
}

/// Whether a process holds a mount of the file system of the mount `id` that was put into no tree (`open_tree(2)`): by a descriptor of
/// its root, which is good for nothing but paths and whose path begins nowhere.
pub(super) fn holds_mount_without_place(pid: i32, id: MountId) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let is_root = |link: &Path| fs::read_link(link).is_ok_and(|path| path == Path::new("/"));
    let is_path = |number: &OsStr| {
        let told = fs::read_to_string(process.join("fdinfo").join(number)).unwrap_or_default();
        let flags = told.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        flags.is_some_and(|flags| flags & OFlags::PATH.bits() != 0)
    };
    // Without a question to a server, which may be gone.
    let device_of = |link: &Path| {
        let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
        statx(CWD, link, flags, StatxFlags::empty())
            .ok()
            .map(|found| (found.stx_dev_major, found.stx_dev_minor))
    };
    let is_its = |link: &Path| device_of(link) == Some((id.major, id.minor));
    let mut links = descriptors.map(|descriptor| (descriptor.path(), descriptor.file_name()));
    links.any(|(link, number)| is_root(&link) && is_path(&number) && is_its(&link))
}

/// The swap files below `place`.
pub(super) fn swap_below(place: &Path) -> Vec<Holder> {
    swap_in(&fs::read("/proc/swaps").unwrap_or_default(), place)
}

fn swap_in(swaps: &[u8], place: &Path) -> Vec<Holder> {
    let lines = swaps.split(|&byte| byte == b'\n').skip(1);
    let names = lines.filter_map(|line| line.split(|&byte| byte == b' ' || byte == b'\t').next());
    let files = names.map(|name| PathBuf::from(unescaped(name)));
    files.filter(|file| file.starts_with(place)).map(Holder::Swap).collect()
}

/// Whether an overlay's upper folder (or its uppermost, where it is only read) lies in the file system on `path`: the overlay
/// passes on what that tells of its size and of what is free.
fn are_one(path: &Path, overlay: &Path) -> bool {
    let told = |path: &Path| {
        let told = statvfs(path).ok()?;
        Some((told.f_frsize, told.f_blocks, told.f_bfree, told.f_files, told.f_ffree))
    };
    told(path).is_some_and(|own| told(overlay) == Some(own))
}

fn is_loop_device(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"loop"))
}

/// Which processes have the file at `path` open, say a container that is locked, and which loop devices show it. A server of this program is not among
/// them for its own user, since it lets nobody look at its descriptors: see [`holding`](super::holding).
pub fn holders_of_file(path: &Path) -> Vec<Holder> {
    let Some(wanted) = Wanted::file(path) else { return Vec::new() };
    let mut holders = processes(wanted);
    if let Ok(path) = path.canonicalize() {
        holders.extend(loop_devices_on(&path).map(Holder::Device));
    }
    holders
}

/// The processes, this one aside, that use what is wanted, and those that do not let themselves be looked into.
fn processes(wanted: Wanted) -> Vec<Holder> {
    let seen = look::processes(wanted);
    let users = seen.users.into_iter().map(|pid| Holder::Process { pid, command: command(pid) });
    let hanging = seen.hanging.into_iter().filter(|&pid| pid > 0);
    let hanging = hanging.map(|pid| Holder::Hanging { pid, command: command(pid) });
    users.chain(hanging).chain(seen.is_cut_short.then_some(Holder::Unseen)).collect()
}

fn command(pid: i32) -> String {
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = in_one_line(String::from_utf8_lossy(&name).trim_end());
    if name.is_empty() { "?".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_read_as_a_user_would_say_it() {
        let holder = Holder::Process { pid: 42, command: "bash".to_owned() };
        assert_eq!(holder.to_string(), "process 42 (bash)");
        let holder = Holder::Hanging { pid: 42, command: "cat".to_owned() };
        assert_eq!(holder.to_string(), "perhaps process 42 (cat), which hangs and cannot be looked into");
        assert!(!holder.is_certain());
        let devices = ["/dev/loop3", "/dev/mapper/vg-lv"].map(|path| Holder::Device(path.into()).to_string());
        assert_eq!(devices, ["the loop device /dev/loop3", "the device /dev/mapper/vg-lv"]);
    }

    #[test]
    fn swap_files_are_found_by_their_folder() {
        let swaps = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/sda2                               partition\t9\t0\t-2\n/v/m\\040y/swap                          file\t\t9\t\t0\t\t-3\n";
        assert_eq!(swap_in(swaps, Path::new("/v/m y")), [Holder::Swap("/v/m y/swap".into())]);
        assert_eq!(swap_in(swaps, Path::new("/v/m")), []);
    }

    #[test]
    fn a_relative_layer_is_followed_through_the_folder_that_it_names() {
        let lead = |layer| relative_to(Path::new("/a/m"), Path::new(layer));
        assert_eq!(lead("m/docs"), Some("/a/m/docs".into()));
        assert_eq!(lead("a/m/docs"), Some("/a/m/docs".into()));
        assert_eq!([lead("docs"), lead("/a/m/docs"), lead("a/docs"), lead(".")], [None, None, None, None]);
    }
}
