//! Who uses a mount or a file: what `/proc` shows of the processes that the caller may look into.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use rustix::fs::{makedev, statvfs};

use super::{
    look::{self, Wanted},
    mountinfo::{Mount, MountId, MountTable},
    namespaces,
    registry::file_id,
};
use crate::{
    sys::{fuse_mount::device_number, loopdev::backing_file},
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
    /// Another mount: one below, one of the same file system elsewhere, or an overlay that shows a folder of it.
    Mount(PathBuf),
    /// A loop device on the block file.
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
        !matches!(self, Self::Hanging { .. } | Self::Unseen)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, command } => write!(f, "process {pid} ({command})"),
            Self::Mount(path) => write!(f, "the mount on {}", path.display()),
            Self::Device(path) => write!(f, "the loop device {}", path.display()),
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
    // The files of btrfs have another device number than its mount.
    let of_files = table.find(id).and_then(|mount| device_number(&mount.mountpoint).ok());
    if let Some((major, minor)) = of_files.filter(|number| *number != (id.major, id.minor)) {
        holders.extend(processes(Wanted::FileSystem(major, minor)));
    }
    holders.extend(other_mounts(&table, id));
    match table.find(id) {
        Some(mount) => {
            holders
                .extend(table.below(&mount.mountpoint).map(|inner| Holder::Mount(inner.mountpoint.clone())));
            holders.extend(loop_devices_on(&mount.mountpoint).map(Holder::Device));
        }
        None => holders.extend(holders_elsewhere(id)),
    }
    holders.sort();
    holders.dedup();
    holders
}

/// The other mount namespaces that show the file system of the mount `id`.
pub(super) fn holders_elsewhere(id: MountId) -> Vec<Holder> {
    let processes = namespaces::processes_that_see(id).into_iter();
    processes.map(|pid| Holder::Namespace { pid, command: command(pid) }).collect()
}

/// The mounts in `table` that keep the file system in use when the mount `id` goes.
pub(super) fn other_mounts(table: &MountTable, id: MountId) -> impl Iterator<Item = Holder> {
    let own = table.find(id);
    let shows_folder_of = move |overlay: &&Mount| {
        let layers: Vec<_> = overlay.layers().collect();
        let devices = layers.iter().map(|layer| file_id(layer).filter(|_| layer.is_absolute()));
        let devices: Vec<_> = devices.map(|file| file.map(|(device, _)| device)).collect();
        // A layer may be named from a folder that is not known, and in btrfs each subvolume has a number of its own.
        let is_unknown = devices.contains(&None) || own.is_some_and(|own| own.kind == "btrfs");
        devices.contains(&Some(makedev(id.major, id.minor)))
            || is_unknown && own.is_some_and(|own| are_one(&own.mountpoint, &overlay.mountpoint))
    };
    let others = table.copies(id).chain(table.overlays().filter(shows_folder_of));
    others.map(|mount| Holder::Mount(mount.mountpoint.clone()))
}

/// The overlays that show folders of what was mounted on `place`. They keep it in use when it has gone from there, and only the names of
/// their folders still tell of it.
pub(super) fn overlays_left(place: &Path) -> Vec<Holder> {
    let table = MountTable::read().unwrap_or_default();
    let left = table.overlays().filter(|overlay| overlay.layers().any(|layer| layer.starts_with(place)));
    left.map(|overlay| Holder::Mount(overlay.mountpoint.clone())).collect()
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

/// The loop devices whose file lies below `path`.
fn loop_devices_on(path: &Path) -> impl Iterator<Item = PathBuf> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    devices
        .filter(|device| device.file_name().as_encoded_bytes().starts_with(b"loop"))
        .map(|device| Path::new("/dev").join(device.file_name()))
        .filter(move |device| backing_file(device).is_some_and(|file| file.starts_with(path)))
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
    }
}
