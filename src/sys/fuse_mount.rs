//! Mounting a FUSE connection and taking the mount away, as root by `mount(2)`, else through `fusermount3`.

#![allow(unsafe_code, reason = "one ioctl that rustix has no wrapper for; its block states the invariant")]

use std::{
    ffi::CString,
    fs::{File, OpenOptions},
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use rustix::{
    fs::{AtFlags, CWD, FsWord, StatxFlags, statfs, statx},
    ioctl,
    mount::{MountFlags, UnmountFlags},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    process::{getegid, geteuid},
};

use crate::error::{Error, ErrorKind, Fact, Result};

/// The largest read that the kernel may ask of the server, in bytes.
pub const MAX_READ: u32 = 1 << 20;

/// Whether this user has what [`mount`] needs, for a word before the work.
///
/// # Errors
/// `Missing` where `/dev/fuse` cannot be opened (`fusermount3` opens it as its caller) or there is no `fusermount3`.
pub fn check() -> Result<()> {
    open_device()?;
    if geteuid().is_root() { Ok(()) } else { helper().map(|_| ()) }
}

/// Whether this user may let others into what he mounts, for a word before the work.
///
/// # Errors
/// `Permission`, with what the administrator would have to allow.
pub fn check_sharing() -> Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    // Where it cannot be read, `fusermount3` will tell.
    let Ok(rules) = std::fs::read_to_string(RULES) else { return Ok(()) };
    if rules.lines().any(|line| line.trim() == "user_allow_other") { Ok(()) } else { Err(no_sharing()) }
}

fn no_sharing() -> Error {
    let reason = format!("this machine lets users share no mounts: {RULES} has no line user_allow_other");
    Error::new(ErrorKind::Permission, reason).with_hint(format!("as root: echo user_allow_other >> {RULES}"))
}

/// Mounts a new FUSE connection on `dir` and returns its descriptor. Nothing answers on it yet.
///
/// Root mounts by itself, others through `fusermount3` with an empty environment. Only processes of this user get in,
/// unless it is shared; the kernel enforces it.
///
/// # Errors
/// `Missing` where there is no usable `/dev/fuse` or no `fusermount3`, `Permission`, `Busy`, or what the kernel gave.
pub fn mount(dir: &Path, appearance: &Appearance<'_>) -> Result<OwnedFd> {
    if !geteuid().is_root() {
        return mount_by_helper(dir, appearance);
    }
    let device = open_device()?;
    mount_directly(&device, dir, appearance)?;
    Ok(device.into())
}

/// Whom the kernel lets into a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Whoever mounts, whatever the modes of files say.
    Own,
    /// Whoever mounts, as far as modes and access lists let him.
    OwnByModes,
    /// Everybody whom modes and access lists let in.
    AllByModes,
}

/// What a mount is to the kernel, and to whoever reads its table.
#[derive(Debug, Clone, Copy)]
pub struct Appearance<'a> {
    /// What `df` shows as the device. Without commas.
    pub source: &'a str,
    /// What follows `fuse.` in the type.
    pub subtype: &'a str,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whom the kernel lets in.
    pub admission: Admission,
    /// Whether files may be run as programs, where their modes say so.
    pub runs_programs: bool,
}

impl Appearance<'_> {
    /// A block file.
    pub const fn block_file(read_only: bool) -> Self {
        Self {
            source: "strongroom",
            subtype: "strongroom",
            read_only,
            runs_programs: false,
            admission: Admission::Own,
        }
    }

    const fn modes(&self) -> &'static str {
        match self.admission {
            Admission::Own => "",
            Admission::OwnByModes => ",default_permissions",
            // Without the first the second would let everybody do everything.
            Admission::AllByModes => ",default_permissions,allow_other",
        }
    }
}

/// Takes the FUSE mount on `dir` away; also one whose server is dead.
///
/// `lazy` detaches it even if it is in use. By root that also ends the connection: who still has files open gets
/// errors. By others it ends when the last user lets go, or with [`abort_connection`].
///
/// # Errors
/// `Busy` where it is in use, `NotFound` where nothing is mounted there, `Permission`, `Missing`.
pub fn unmount(dir: &Path, lazy: bool) -> Result<()> {
    if !geteuid().is_root() {
        return unmount_by_helper(dir, lazy);
    }
    // FORCE ends the connection, so that nobody goes on working on a volume that is gone from the tree.
    let how = if lazy { UnmountFlags::DETACH | UnmountFlags::FORCE } else { UnmountFlags::empty() };
    let flags = how | UnmountFlags::NOFOLLOW;
    rustix::mount::unmount(dir, flags).map_err(|errno| match errno {
        rustix::io::Errno::INVAL => Error::new(ErrorKind::NotFound, "nothing is mounted there"),
        other => io::Error::from(other).into(),
    })
}

/// The device number of the file system at `path`, without asking its server: also of a dead mount.
pub fn device_number(path: &Path) -> io::Result<(u32, u32)> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let found = statx(CWD, path, flags, StatxFlags::TYPE)?;
    Ok((found.stx_dev_major, found.stx_dev_minor))
}

/// Ends the connection behind a FUSE mount at once: every request in flight and to come fails.
///
/// Works for the mount's owner where the `fusectl` file system is mounted (everywhere but in bare containers).
pub fn abort_connection(device: (u32, u32)) -> io::Result<()> {
    std::fs::write(control_of(device).join("abort"), "1")
}

/// Whether some mount still needs the connection of a FUSE file system, in whatever namespace that is. `None` where the
/// `fusectl` file system is not mounted.
pub fn is_connected(device: (u32, u32)) -> Option<bool> {
    // Without it this is an empty directory of sysfs.
    statfs(CONTROL).ok().filter(|found| found.f_type == FUSE_CTL_MAGIC)?;
    Some(control_of(device).exists())
}

/// Whether the FUSE file system with this device number is there, mounted or not.
pub fn has_user(device: (u32, u32)) -> bool {
    Path::new("/sys/class/bdi").join(format!("{}:{}", device.0, device.1)).exists()
}

/// The kernel names a connection by its device number in its own layout (fs/fuse/control.c).
fn control_of(device: (u32, u32)) -> PathBuf {
    let number = (u64::from(device.0) << 20) | u64::from(device.1);
    Path::new(CONTROL).join(number.to_string())
}

/// Lets the kernel read ahead up to `bytes` in files of this mount; only root may raise it.
pub fn set_read_ahead(device: (u32, u32), bytes: u32) -> io::Result<()> {
    let path = format!("/sys/class/bdi/{}:{}/read_ahead_kb", device.0, device.1);
    std::fs::write(path, (bytes >> 10).to_string())
}

/// Whether more descriptors for the connection `fuse` can be had, one a thread.
///
/// It takes write access to `/dev/fuse`, which somebody who mounted through `fusermount3` may lack.
pub fn can_clone(fuse: &OwnedFd) -> bool {
    /// `FUSE_DEV_IOC_CLONE` (linux/fuse.h).
    const CLONE: ioctl::Opcode = ioctl::opcode::read::<u32>(229, 0);
    let (Ok(device), Ok(source)) = (open_device(), u32::try_from(fuse.as_raw_fd())) else { return false };
    // SAFETY: the opcode is FUSE_DEV_IOC_CLONE, and what it takes is a pointer to one u32, a descriptor.
    let clone = unsafe { ioctl::Setter::<CLONE, u32>::new(source) };
    // SAFETY: `device` is open for this call; the kernel only reads the u32 that lives in `clone`.
    unsafe { ioctl::ioctl(&device, clone) }.is_ok()
}

fn open_device() -> Result<File> {
    OpenOptions::new().read(true).write(true).open(DEVICE).map_err(|error| no_device(error.kind()))
}

fn no_device(why: io::ErrorKind) -> Error {
    match why {
        io::ErrorKind::PermissionDenied => {
            Error::new(ErrorKind::Missing, format!("no permission to open {DEVICE}"))
                .with_hint(format!("as root: chmod 0666 {DEVICE} (udev does so where fuse3 is installed)"))
        }
        _ => Error::new(ErrorKind::Missing, format!("{DEVICE} cannot be opened: FUSE is not there"))
            .with_hint(format!("as root: modprobe fuse; a container needs --device {DEVICE}")),
    }
}

fn mount_directly(device: &File, dir: &Path, appearance: &Appearance<'_>) -> Result<()> {
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    flags.set(MountFlags::NOEXEC, !appearance.runs_programs);
    flags.set(MountFlags::RDONLY, appearance.read_only);
    let options = format!(
        "fd={},rootmode=40000,user_id={},group_id={},max_read={MAX_READ}{}",
        device.as_raw_fd(),
        geteuid().as_raw(),
        getegid().as_raw(),
        appearance.modes(),
    );
    let options = CString::new(options).map_err(io::Error::from)?;
    let kind = format!("fuse.{}", appearance.subtype);
    let mounted = rustix::mount::mount(appearance.source, dir, kind.as_str(), flags, options.as_c_str());
    mounted.map_err(|errno| match errno {
        rustix::io::Errno::NODEV => {
            Error::new(ErrorKind::Missing, "the kernel has no FUSE").with_hint("as root: modprobe fuse")
        }
        other => io::Error::from(other).into(),
    })
}

/// Has `fusermount3` mount, and receives the descriptor over its standard input, which is a socket.
fn mount_by_helper(dir: &Path, appearance: &Appearance<'_>) -> Result<OwnedFd> {
    if !Path::new(DEVICE).exists() {
        return Err(no_device(io::ErrorKind::NotFound));
    }
    let (ours, theirs) = UnixStream::pair()?;
    let read_only = if appearance.read_only { ",ro" } else { "" };
    let programs = if appearance.runs_programs { "" } else { ",noexec" };
    let options = format!(
        "fsname={},subtype={},nosuid,nodev{programs},max_read={MAX_READ}{}{read_only}",
        appearance.source,
        appearance.subtype,
        appearance.modes(),
    );
    let mut helper = helper()?;
    helper.env("_FUSE_COMMFD", "0").arg("-o").arg(options).arg("--").arg(dir);
    let child = helper.stdin(OwnedFd::from(theirs)).stderr(Stdio::piped()).spawn().map_err(unstarted)?;
    // The parent's copy of the child's end goes with `helper`: an early death then reads as end of file, not as a wait.
    drop(helper);
    let received = receive_descriptor(&ours);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(refusal(&output));
    }
    received
}

fn receive_descriptor(socket: &UnixStream) -> Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::io::retry_on_intr(|| {
        recvmsg(socket.as_fd(), &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })
    .map_err(io::Error::from)?;
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let first = descriptors.next().and_then(|mut received| received.next());
    first.ok_or_else(|| Error::new(ErrorKind::Io, "fusermount3 handed over no descriptor"))
}

fn unmount_by_helper(dir: &Path, lazy: bool) -> Result<()> {
    let mut helper = helper()?;
    helper.arg("-u");
    if lazy {
        helper.arg("-z");
    }
    let output = helper.arg("--").arg(dir).stdin(Stdio::null()).output().map_err(unstarted)?;
    if output.status.success() { Ok(()) } else { Err(refusal(&output)) }
}

/// `fusermount3` by absolute path, with nothing of our environment (CVE-2015-3202).
fn helper() -> Result<Command> {
    let Some(path) = HELPERS.iter().find(|path| Path::new(path).is_file()) else {
        return Err(Error::new(ErrorKind::Missing, "fusermount3 is not installed")
            .with_fact(Fact::NotInstalled("fuse3"))
            .with_hint("install the package fuse3 (Debian's name)"));
    };
    let mut command = Command::new(path);
    command.env_clear().current_dir("/").stdout(Stdio::null());
    Ok(command)
}

fn unstarted(error: io::Error) -> Error {
    let error = Error::from(error);
    let reason = format!("fusermount3 cannot be started: {}", error.reason());
    let started = Error::new(error.kind(), reason);
    match error.hint() {
        Some(hint) => started.with_hint(hint),
        None => started,
    }
}

/// What `fusermount3` says, as an error. Its messages are not translated.
fn refusal(output: &Output) -> Error {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().next().unwrap_or("fusermount3 failed").trim();
    if line.contains(DEVICE) && line.contains("denied") {
        return no_device(io::ErrorKind::PermissionDenied);
    }
    if text.contains("allow_other") {
        return no_sharing();
    }
    let reason = line.rsplit_once(": ").map_or(line, |(_, reason)| reason);
    let kind = match reason {
        "Device or resource busy" => ErrorKind::Busy,
        "Permission denied" | "Operation not permitted" => ErrorKind::Permission,
        "No such file or directory" | "Invalid argument" => ErrorKind::NotFound,
        _ if line.contains("not found in") => ErrorKind::NotFound,
        _ => ErrorKind::Io,
    };
    Error::new(kind, line.to_owned())
}

const RULES: &str = "/etc/fuse.conf";
const CONTROL: &str = "/sys/fs/fuse/connections";
/// `FUSE_CTL_SUPER_MAGIC` (fs/fuse/control.c).
const FUSE_CTL_MAGIC: FsWord = 0x6573_5543;
const DEVICE: &str = "/dev/fuse";
const HELPERS: [&str; 4] =
    ["/usr/bin/fusermount3", "/bin/fusermount3", "/usr/sbin/fusermount3", "/usr/local/bin/fusermount3"];
