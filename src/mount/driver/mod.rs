//! Drivers: who makes the file system in a volume visible.

mod e2fsck;
mod kernel;
mod ownership;
mod userspace;

use std::{
    fs::File,
    io,
    path::Path,
    process::Command,
    sync::{Arc, atomic::AtomicBool},
};

use rustix::{
    fs::syncfs,
    mount::{UnmountFlags, unmount},
};
use serde::{Deserialize, Serialize};

use super::{
    filesystem::Superblock,
    mountinfo::{Mount, MountId, MountTable},
    mountpoint::MountPoint,
    program,
    session::Session,
};
use crate::{
    error::{Error, ErrorKind, Result},
    sys::{loopdev, process::is_root, user::User},
    volume::{Access, ShadowDevice, free_space::Condition},
};

/// What the user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriverChoice {
    /// The kernel for root who has loop devices, else userspace.
    Auto,
    /// A loop device and the kernel's file system. Root only.
    Kernel,
    /// `fuse2fs`: ext4 without privileges.
    Userspace,
}

/// A driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// A loop device and the kernel's file system.
    Kernel,
    /// `fuse2fs`.
    Userspace,
}

impl DriverChoice {
    /// The driver for the calling user.
    ///
    /// # Errors
    /// `Permission` where an ordinary user asks for the kernel's.
    pub fn resolve(self) -> Result<Driver> {
        match self {
            Self::Kernel if is_root() => Ok(Driver::Kernel),
            Self::Auto if is_root() && loopdev::check().is_ok() => Ok(Driver::Kernel),
            Self::Auto | Self::Userspace => Ok(Driver::Userspace),
            Self::Kernel => Err(Error::new(ErrorKind::Permission, "only root may use the kernel driver")
                .with_hint("leave out --driver, or run it as root")),
        }
    }
}

impl Driver {
    /// The name that `--driver` takes and `list` shows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Userspace => "userspace",
        }
    }

    /// Whether what it works with is installed.
    ///
    /// # Errors
    /// `Missing`, naming the package or the module.
    pub fn check(self, access: Access) -> Result<()> {
        match self {
            Self::Kernel => kernel::check(),
            Self::Userspace => userspace::check(access),
        }
    }

    /// Whether it replays journals where the block file can be written: what `fuse2fs` makes of them is not enough.
    pub fn replays_journals(self) -> bool {
        self == Self::Kernel || e2fsck::program().is_ok()
    }

    /// Mounts the file system in `block` on `mountpoint`, and puts what must be undone on the session's stack.
    ///
    /// # Errors
    /// `Missing` where a tool or the kernel's file system is, `Unsupported`, `Io` where the file system is damaged,
    /// `Damaged` where its end is missing, `Interrupted`.
    pub fn mount(self, volume: Volume<'_>, mountpoint: &MountPoint, session: &mut Session) -> Result<()> {
        let mounted = match (volume.missing_end, self) {
            // No repair brings it back, and each would write.
            (Some(missing), _) if !volume.read_only => Err(cut_off(missing)),
            (_, Self::Kernel) => kernel::mount(volume, mountpoint, session),
            (_, Self::Userspace) => userspace::mount(volume, mountpoint, session),
        };
        let mounted = mounted.map_err(|error| match (volume.missing_end, error.kind()) {
            (Some(missing), ErrorKind::Io) => cut_off(missing),
            _ => error,
        });
        if let (Some(missing), Ok(())) = (volume.missing_end, &mounted) {
            session.warnings.push(format!("{missing}; files that lie there cannot be read"));
        }
        mounted.map_err(|error| error.during(format!("cannot mount on {}", mountpoint.path().display())))
    }
}

/// The block file as a driver sees it.
#[derive(Debug, Clone, Copy)]
pub struct Volume<'a> {
    /// The block file.
    pub block: &'a Path,
    /// What it holds.
    pub superblock: Superblock,
    /// What is missing of it where the container was cut short.
    pub missing_end: Option<&'a str>,
    /// The volume's sector size in bytes.
    pub sector_size: u32,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whose the files are where the file system knows no owners; the mount point's owner where this is nobody.
    pub owner: Option<User>,
    /// What keeps in memory what is written to the block file all the same: then a journal can be replayed.
    pub shadow: Option<&'a Arc<ShadowDevice>>,
    /// How the last use of what it holds ended, where that is known.
    pub condition: Option<Condition>,
}

impl Volume<'_> {
    /// Whether a journal stays as it is, because the block file cannot be written.
    fn leaves_journal(&self) -> bool {
        self.read_only && self.shadow.is_none() && self.condition != Some(Condition::Clean)
    }
}

fn cut_off(missing: &str) -> Error {
    Error::new(ErrorKind::Damaged, missing)
        .with_hint("take it from a backup; strongroom mount --block --read-only gives what is left")
}

/// The mount on `path` that was just made there: of a type that starts with `kind`.
fn find_mount(path: &Path, kind: &str) -> Result<Option<Mount>> {
    let table = MountTable::read()?;
    Ok(table.at(path).filter(|mount| mount.kind.starts_with(kind)).cloned())
}

/// Whether the mount `id` on `path` is to be unmounted: it is there, and on top.
///
/// # Errors
/// `Busy` where another mount lies over it: unmounting by path would hit that one.
fn is_on_top(path: &Path, id: MountId) -> Result<bool> {
    let table = MountTable::read()?;
    if table.find(id).is_none() {
        return Ok(false);
    }
    match table.at(path) {
        Some(top) if top.id == id => Ok(true),
        _ => Err(Error::new(ErrorKind::Busy, format!("something else is mounted over {}", path.display()))),
    }
}

/// Brings all that was written to the file system on `path` to the volume.
fn sync_file_system(path: &Path) -> Result<()> {
    let Some(sync) = program::find("sync") else {
        return Ok(syncfs(File::open(path)?).map_err(io::Error::from)?);
    };
    run_apart(program::command(sync).arg("-f"), path)
}

/// Unmounts what the kernel mounted.
///
/// The caller's own threads serve the block file that this waits for. So it is another process that waits: a server that
/// is killed meanwhile could not go otherwise, and would hold its keys and its container for ever.
fn unmount_apart(path: &Path) -> Result<()> {
    let Some(umount) = program::find("umount") else { return unmount_directly(path, false) };
    let unmounted = run_apart(&mut program::command(umount), path);
    unmounted.map_err(|error| error.during(format!("cannot unmount {}", path.display())))
}

/// Runs a program on `path` to its end.
fn run_apart(command: &mut Command, path: &Path) -> Result<()> {
    let finished = program::run(command.arg("--").arg(path), &AtomicBool::new(false))?;
    if finished.status == Some(0) {
        return Ok(());
    }
    if finished.errors.contains("busy") {
        return Err(Error::new(ErrorKind::Busy, "it is in use"));
    }
    Err(Error::new(ErrorKind::Io, finished.reason()))
}

/// Unmounts by the system call, for root.
fn unmount_directly(path: &Path, lazy: bool) -> Result<()> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    unmount(path, flags | UnmountFlags::NOFOLLOW).map_err(|error| {
        let action = format!("cannot unmount {}", path.display());
        match error {
            rustix::io::Errno::BUSY => Error::new(ErrorKind::Busy, "it is in use"),
            other => io::Error::from(other).into(),
        }
        .during(action)
    })
}
