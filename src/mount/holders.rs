//! Who uses a mount or a file: what `/proc` shows of the processes that the caller may look into.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use super::{
    look::{self, Wanted},
    mountinfo::{MountId, MountTable},
};
use crate::{sys::loopdev::backing_file, text::in_one_line};

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
    /// Another mount below.
    Mount(PathBuf),
    /// A loop device on the block file.
    Device(PathBuf),
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
            Self::Hanging { pid, command } => {
                write!(f, "perhaps process {pid} ({command}), which hangs and cannot be looked into")
            }
            Self::Unseen => f.write_str("perhaps processes that could not be looked into in time"),
        }
    }
}

/// Who uses the mount `id` on `path`: open files, working directories, programs, mapped files, mounts below it.
///
/// Processes of other users stay unseen, except for root.
pub(super) fn holders_of_mount(id: MountId, path: &Path) -> Vec<Holder> {
    let mut holders = processes(Wanted::FileSystem(id.major, id.minor));
    if let Ok(table) = MountTable::read() {
        holders.extend(table.below(path).map(|mount| Holder::Mount(mount.mountpoint.clone())));
    }
    holders.extend(loop_devices_on(path).map(Holder::Device));
    holders
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
