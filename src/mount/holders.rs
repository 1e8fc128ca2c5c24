//! Who uses a mount or a file: what `/proc` shows of the processes that the caller may look into.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::mountinfo::{MountId, MountTable};
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
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, command } => write!(f, "process {pid} ({command})"),
            Self::Mount(path) => write!(f, "the mount on {}", path.display()),
            Self::Device(path) => write!(f, "the loop device {}", path.display()),
        }
    }
}

/// Who uses the mount `id` on `path`: open files, working directories, programs, mapped files, mounts below it.
///
/// Processes of other users stay unseen, except for root.
pub(super) fn holders_of_mount(id: MountId, path: &Path) -> Vec<Holder> {
    let mut holders = processes(|file| (file.major, file.minor) == (id.major, id.minor));
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
    let Some(wanted) = FileId::of(path) else { return Vec::new() };
    let mut holders = processes(|file| file == wanted);
    if let Ok(path) = path.canonicalize() {
        holders.extend(loop_devices_on(&path).map(Holder::Device));
    }
    holders
}

/// A file's place: device and inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    major: u32,
    minor: u32,
    inode: u64,
}

impl FileId {
    /// Follows links, and asks no server: a dead or busy FUSE mount must not hold us up.
    fn of(path: &Path) -> Option<Self> {
        let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
        let stat = statx(CWD, path, flags, StatxFlags::INO).ok()?;
        Some(Self { major: stat.stx_dev_major, minor: stat.stx_dev_minor, inode: stat.stx_ino })
    }
}

/// The processes, this one aside, that use some file that `is_wanted`.
fn processes(is_wanted: impl Fn(FileId) -> bool) -> Vec<Holder> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let own = i32::try_from(std::process::id()).ok();
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut holders: Vec<_> = pids
        .filter(|&pid| Some(pid) != own && uses(pid, &is_wanted))
        .map(|pid| Holder::Process { pid, command: command(pid) })
        .collect();
    holders.sort();
    holders
}

fn uses(pid: i32, is_wanted: &impl Fn(FileId) -> bool) -> bool {
    let directory = PathBuf::from(format!("/proc/{pid}"));
    let links = ["cwd", "root", "exe"].into_iter().map(|name| directory.join(name));
    let descriptors = fs::read_dir(directory.join("fd")).into_iter().flatten().flatten().map(|fd| fd.path());
    if links.chain(descriptors).filter_map(|link| FileId::of(&link)).any(is_wanted) {
        return true;
    }
    let maps = fs::read(directory.join("maps")).unwrap_or_default();
    maps.split(|&byte| byte == b'\n').filter_map(mapped_file).any(is_wanted)
}

/// The file of a line of `maps`: `address perms offset dev inode path`, the device as two hexadecimal numbers.
fn mapped_file(line: &[u8]) -> Option<FileId> {
    let mut fields = line.split(|&byte| byte == b' ').filter_map(|field| std::str::from_utf8(field).ok());
    let (major, minor) = fields.nth(3)?.split_once(':')?;
    let inode = fields.next()?.parse().ok().filter(|&inode| inode != 0)?;
    Some(FileId {
        major: u32::from_str_radix(major, 16).ok()?,
        minor: u32::from_str_radix(minor, 16).ok()?,
        inode,
    })
}

fn command(pid: i32) -> String {
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = in_one_line(String::from_utf8_lossy(&name).trim_end());
    if name.is_empty() { "?".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_with_the_file_open_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut child = Command::new("/bin/sleep")
            .arg("10000")
            .stdin(Stdio::from(file.reopen().unwrap()))
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let expected = [Holder::Process { pid, command: "sleep".to_owned() }];
        // What another test starts holds it too, until it is another program.
        let mut holders = holders_of_file(file.path());
        for _ in 0..1000 {
            if holders == expected {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            holders = holders_of_file(file.path());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(holders, expected);
    }

    #[test]
    fn a_mapped_file_is_read_from_its_line() {
        let line = b"7f00-7f01 r--p 00000000 fe:0a 4711    /mnt/v/lib with blank.so";
        assert_eq!(mapped_file(line), Some(FileId { major: 0xfe, minor: 10, inode: 4711 }));
        assert_eq!(mapped_file(b"7f00-7f01 rw-p 00000000 00:00 0 [heap]"), None);
    }

    #[test]
    fn holders_read_as_a_user_would_say_it() {
        let holder = Holder::Process { pid: 42, command: "bash".to_owned() };
        assert_eq!(holder.to_string(), "process 42 (bash)");
    }
}
