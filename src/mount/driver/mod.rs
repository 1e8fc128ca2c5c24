//! Drivers: who makes the file system in a volume visible.

mod builtin;
mod e2fsck;
mod kernel;
mod ownership;
mod source;
mod udisks;

use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    fs::{OFlags, syncfs},
    mount::{UnmountFlags, unmount},
};
use serde::{Deserialize, Serialize};

use super::{
    bystanders::Bystanders,
    filesystem::{Contents, Superblock},
    holders::{Holder, holders_elsewhere, holders_of_mount, holds_mount_without_place, other_mounts},
    mountinfo::{Mount, MountId, MountTable},
    mountpoint::MountPoint,
    options::MountOptions,
    program,
    session::Session,
    ways::{Means, has_loop_devices},
};
use crate::{
    error::{Error, ErrorKind, Fact, Result},
    export::{Owners, unmount_fuse},
    sys::{
        fuse_mount::{abort_connection, has_user, is_connected},
        loopdev,
        process::{can_mount, is_root, shield},
        user::User,
    },
    volume::{ShadowDevice, free_space::Condition, while_moving},
};

pub(super) use builtin::{Builtin, View};
pub(super) use e2fsck::{
    finding as e2fsck_finding, program as e2fsck_program, repair_in_memory, repair_unasked,
};

/// What the user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriverChoice {
    /// The kernel for root who has loop devices, else the server itself.
    Auto,
    /// A loop device and the kernel's file system. Root only.
    Kernel,
    /// The server itself: FAT, exFAT, ext2, ext3 and ext4; NTFS, ISO 9660 and UDF to read.
    Builtin,
    /// The kernel's file system, as udisks mounts it for an ordinary user.
    Udisks,
}

/// A driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// A loop device and the kernel's file system.
    Kernel,
    /// The server itself, which takes no privileges.
    Builtin,
    /// A loop device and the kernel's file system, which udisks makes and mounts.
    Udisks,
}

impl DriverChoice {
    /// The driver for the calling user.
    ///
    /// # Errors
    /// `Permission` where an ordinary user asks for the kernel's.
    pub fn resolve(self) -> Result<Driver> {
        match self {
            Self::Kernel if is_root() => Ok(Driver::Kernel),
            Self::Auto if has_loop_devices() => Ok(Driver::Kernel),
            Self::Auto | Self::Builtin => Ok(Driver::Builtin),
            Self::Udisks => Ok(Driver::Udisks),
            Self::Kernel => Err(Error::new(ErrorKind::Permission, "only root may use the kernel driver")
                .with_hint("leave out --driver (or driver in config.toml), or run it as root; or use --driver udisks")),
        }
    }
}

impl Driver {
    /// The name that `--driver` takes and `list` shows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Builtin => "builtin",
            Self::Udisks => "udisks",
        }
    }

    /// Whether what it works with is installed.
    ///
    /// # Errors
    /// `Missing`, naming the package or the module.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Kernel => kernel::check(),
            Self::Builtin => Ok(()),
            Self::Udisks => super::udisks::check(),
        }
    }

    /// Mounts the file system in `block` at `place`, and puts what must be undone on the session's stack.
    ///
    /// # Errors
    /// `Missing` where a tool or the kernel's file system is, `Unsupported`, `Io` where the file system is damaged,
    /// `Damaged` where its end is missing, `Permission`, `Interrupted`.
    pub fn mount(volume: Volume<'_>, place: Spot<'_>, session: &mut Session) -> Result<()> {
        let action = || match place {
            Spot::On(mountpoint, _) => format!("cannot mount on {}", mountpoint.path().display()),
            Spot::Anywhere { .. } => "cannot mount by way of udisks".to_owned(),
        };
        let owned = ownership::check(volume.superblock.contents, volume.owners, Means::Kernel);
        owned.map_err(|error| error.during(action()))?;
        let mounted = match (volume.missing_end, place) {
            // No repair brings it back, and each would write.
            (Some(missing), _) if !volume.read_only => Err(cut_off(missing)),
            (_, Spot::Anywhere { asks_password }) => udisks::mount(volume, asks_password, session),
            (_, Spot::On(mountpoint, Self::Kernel)) => kernel::mount(volume, mountpoint, session),
            // What it can mount was left to it before.
            (_, Spot::On(..)) => Err(unmountable(&volume.superblock)),
        };
        let mounted = mounted.map_err(|error| match (volume.missing_end, error.kind()) {
            (Some(missing), ErrorKind::Io) => cut_off(missing),
            _ => error,
        });
        if let (Some(missing), Ok(())) = (volume.missing_end, &mounted) {
            session.warnings.push(format!("{missing}; files stored there cannot be read"));
        }
        mounted.map_err(|error| error.during(action()))
    }
}

/// Where a file system is to show.
#[derive(Debug, Clone, Copy)]
pub enum Spot<'a> {
    /// Here, by this driver.
    On(&'a MountPoint, Driver),
    /// Where udisks likes.
    Anywhere {
        /// Whether polkit may have the user asked for a password.
        asks_password: bool,
    },
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
    /// Whose they are to be, where that was said.
    pub owners: Option<Owners>,
    /// What else it is told.
    pub options: &'a MountOptions,
    /// Whether the container takes space back.
    pub can_discard: bool,
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

    /// Opens the block file for a loop device. True where that is for reading only.
    fn open_for_loop(&self) -> io::Result<(File, bool)> {
        let read_only = self.read_only && self.shadow.is_none();
        let flags = (OFlags::DIRECT | OFlags::CLOEXEC).bits().cast_signed();
        let file = OpenOptions::new().read(true).write(!read_only).custom_flags(flags).open(self.block)?;
        Ok((file, read_only))
    }

    /// Repairs ext that no journal makes whole before the kernel writes on it: that would do so as it is, and what is half done there
    /// would take what was whole. Who has to repair it by hand is told to mount it on `mountpoint`.
    fn repair(&self, mountpoint: &Path, session: &mut Session) -> Result<()> {
        let is_ext = matches!(self.superblock.contents, Contents::Ext { .. });
        if !is_ext || self.read_only || self.condition != Some(Condition::Unclean) {
            return Ok(());
        }
        let block = self.block.strip_prefix(&session.directory).unwrap_or(self.block);
        let block = block.to_string_lossy().into_owned();
        e2fsck::repair_unasked(session, &block, mountpoint)
    }
}

fn unmountable(superblock: &Superblock) -> Error {
    match superblock.contents {
        Contents::Unknown => superblock.unmountable(),
        other => Error::new(ErrorKind::Missing, format!("no driver mounts {other} here without root"))
            .with_hint("leave out the mount point, and udisks mounts it where it likes; or mount it as root; or use mount --block to see the volume as a file"),
    }
}

/// Whether the container takes back the space that is to be given back.
fn check_discard(volume: Volume<'_>) -> Result<()> {
    if !volume.options.discards() || volume.can_discard || volume.read_only {
        return Ok(());
    }
    let reason = "-o discard: this container takes no space back, as it is not thin";
    Err(Error::new(ErrorKind::Unsupported, reason).with_hint("leave it out"))
}

fn cut_off(missing: &str) -> Error {
    Error::new(ErrorKind::Damaged, missing)
        .with_hint("restore it from a backup; strongroom mount --block --read-only shows what is left")
}

/// The mount on `path` that was just made there: of a type that starts with `kind`.
fn find_mount(path: &Path, kind: &str) -> Result<Option<Mount>> {
    let table = MountTable::read()?;
    let found = table.at(path).filter(|mount| mount.kind.starts_with(kind)).cloned();
    Ok(found.map(|mut mount| {
        mount.id = mount.id.for_good(path);
        mount
    }))
}

/// Where the mount `id` shows now, to be unmounted; `None` where it has gone.
///
/// # Errors
/// `Busy` where another mount lies over it.
fn place_of(id: MountId) -> Result<Option<PathBuf>> {
    Ok(MountTable::read()?.place_of(id)?.map(Path::to_path_buf))
}

/// The same for a mount that shall end its file system.
///
/// # Errors
/// `Busy` also where that is mounted elsewhere too: it would stay in use, and unsynced.
pub(super) fn last_place_of(id: MountId) -> Result<Option<PathBuf>> {
    let table = MountTable::read()?;
    let Some(place) = table.place_of(id)? else { return Ok(None) };
    match other_mounts(&table, id).next() {
        None => Ok(Some(place.to_path_buf())),
        Some(other) => Err(Error::new(ErrorKind::Busy, format!("in use by {other}"))),
    }
}

/// Takes away what was mounted on the mount `id` itself, from the top, whoever uses it.
fn uncover(id: MountId) -> Result<()> {
    for _ in 0..MOST_COVERS {
        let table = MountTable::read()?;
        let Some(cover) = table.cover_of(id) else { return Ok(()) };
        if unmount_apart(&cover.mountpoint, false, || true).is_err() {
            unmount_apart(&cover.mountpoint, true, || true)?;
        }
    }
    Ok(())
}

/// Brings all that was written to the file system on `path` to the volume. Given up once it `may_run` no longer.
fn sync_file_system(path: &Path, may_run: impl Fn() -> bool) -> Result<()> {
    let prepare = |sync: &mut Command| {
        sync.args(["-f", "--"]).arg(path);
    };
    let directly = || {
        let root = File::open(path).map_err(program::not_started)?;
        Ok(syncfs(root).map_err(io::Error::from)?)
    };
    run_or("sync", prepare, may_run, directly)
        .map_err(|error| error.during(format!("cannot sync {}", path.display())))
}

/// The same for the file system that has `root` open; `again` opens it once more. Another process closes the last descriptor, as
/// [`unmount_apart`] does.
fn sync_open(root: OwnedFd, again: impl FnOnce() -> io::Result<OwnedFd>) -> Result<()> {
    let prepare = |sync: &mut Command| {
        sync.args(["-f", "--", "/proc/self/fd/0"]).stdin(root);
    };
    run_or("sync", prepare, || true, || Ok(syncfs(again()?).map_err(io::Error::from)?))
        .map_err(|error| error.during("cannot sync the file system"))
}

/// Brings all that was written to the file system on a loop device to the volume, wherever that is mounted by now.
fn flush_device(device: &Path) -> Result<()> {
    let prepare = |blockdev: &mut Command| {
        blockdev.arg("--flushbufs").arg(device);
    };
    run_or("blockdev", prepare, || true, || Ok(loopdev::flush(device)?))
}

/// Syncs the file system on `path`, then unmounts it. Unmounting alone neither tells what could not be written nor writes, where
/// the file system stays in use.
///
/// # Errors
/// `Interrupted` where it may not go on, what `unmount` gave, or else what the sync gave: it is unmounted then all the same, as no
/// later sync would bring back what the kernel could not write.
fn sync_and_unmount(
    path: &Path,
    may_run: impl Fn() -> bool,
    unmount: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let synced = sync_file_system(path, may_run);
    if let Err(error) = &synced
        && error.kind() == ErrorKind::Interrupted
    {
        return synced;
    }
    unmount()?;
    match synced {
        // To unmount it has written all, and the device knows what failed.
        Err(error) if error.fact() == Some(Fact::NotStarted) => Ok(()),
        synced => synced,
    }
}

/// Syncs and unmounts a FUSE file system that shows the files of a volume, where it still is.
///
/// # Errors
/// `Busy` where it is in use or mounted elsewhere too, or as [`sync_and_unmount`].
fn unmount_files(id: MountId, stop: &AtomicBool) -> Result<()> {
    let Some(place) = last_place_of(id)? else { return Ok(()) };
    let may_run = || !stop.load(Ordering::Relaxed);
    sync_and_unmount(&place, may_run, || {
        if can_mount() { unmount_apart(&place, false, may_run) } else { unmount_fuse(&place, false) }
    })
}

/// Takes a FUSE file system out of the tree and ends its connection, whoever uses it.
fn detach_files(id: MountId) -> Result<()> {
    let device = (id.major, id.minor);
    let end_connection =
        || if is_connected(device) == Some(true) { Ok(abort_connection(device)?) } else { Ok(()) };
    if can_mount() {
        // Where something stays over it, that is told below.
        let _as_far_as_it_goes = uncover(id);
    }
    let is_stood_on = Bystanders::stand_on(id);
    let place = match place_of(id) {
        Ok(Some(place)) => place,
        Ok(None) => return cut_users_off(id, end_connection),
        Err(covered) => return cut_users_off(id, end_connection).and(Err(covered)),
    };
    // For what the kernel holds: the rest its server has.
    let _as_well_as_it_goes = sync_file_system(&place, while_moving(FORCED_SYNC));
    cut_users_off(id, || {
        let copies = if can_mount() { detach_copies(id) } else { Ok(()) };
        unmount_fuse(&place, true)?;
        end_connection().and(copies)
    })?;
    if is_stood_on { Ok(()) } else { tell_of_unseen(id, || has_user(device)) }
}

/// Where the file system of the mount `id`, which is gone from here, still `is_used` and nobody is to be seen who does, says so: a
/// mount namespace that only a descriptor holds, or a mount that was never put into a tree. A process with files open there was
/// named before.
///
/// # Errors
/// `Io`.
fn tell_of_unseen(id: MountId, is_used: impl Fn() -> bool) -> Result<()> {
    for patience in LETTING_GO {
        let start = Instant::now();
        while start.elapsed() < patience {
            if !is_used() {
                return Ok(());
            }
            sleep(TICK);
        }
        let holders = holders_of_mount(id);
        let processes = || {
            holders.iter().filter_map(|holder| match holder {
                Holder::Process { pid, .. } => Some(*pid),
                _ => None,
            })
        };
        if processes().any(|pid| holds_mount_without_place(pid, id)) {
            break;
        }
        if processes().next().is_some() {
            return Ok(());
        }
    }
    Err(used_unseen())
}

fn used_unseen() -> Error {
    let reason = "something that cannot be seen from here still uses it, and can no longer write to it (a mount namespace that only an open descriptor holds, or a mount without a place)";
    Error::new(ErrorKind::Io, reason)
}

/// Has `detach` take the file system of the mount `id` out of the tree here.
///
/// # Errors
/// What that gave, or `Busy` where other mount namespaces still show it, naming them: all that was written until now will be in the
/// volume, but its users there have not been told.
fn cut_users_off(id: MountId, detach: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = holders_elsewhere(id);
    detach()?;
    // Only those that had it before: once it is gone, its device number may be another's.
    let left = holders_elsewhere(id).into_iter().filter(|holder| before.contains(holder));
    let names: Vec<_> = left.map(|holder| holder.to_string()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let names = names.join(", ");
    Err(Error::new(ErrorKind::Busy, format!("it still shows in {names}, but can no longer be written there")))
}

/// Unmounts what the kernel mounted. Given up once it `may_run` no longer.
///
/// The caller's own threads serve the block file that this waits for. So it is another process that waits: a server that
/// is killed meanwhile could not go otherwise, and would hold its keys and its container for ever.
fn unmount_apart(path: &Path, lazy: bool, may_run: impl Fn() -> bool) -> Result<()> {
    let prepare = |umount: &mut Command| {
        umount.args(lazy.then_some("-l")).arg("--").arg(path);
    };
    run_or("umount", prepare, may_run, || unmount_directly(path, lazy))
        .map_err(|error| error.during(format!("cannot unmount {}", path.display())))
}

/// Takes each other mount of the file system of the mount `id` out of the tree of this namespace, whoever uses it. For root, and
/// only while the file system is in use: afterwards its device number may be another's.
fn detach_copies(id: MountId) -> Result<()> {
    let table = MountTable::read()?;
    let detached = table.copies(id).map(|copy| unmount_apart(&copy.mountpoint, true, || true));
    // Each is tried.
    detached.fold(Ok(()), Result::and)
}

/// Runs a program of the system; where it is not there, or there is no process or descriptor left for it, what it does is done
/// `directly`. A server that is killed while it waits there is kept by that, but what was written does not go with it.
fn run_or(
    name: &str,
    prepare: impl FnOnce(&mut Command),
    may_run: impl Fn() -> bool,
    directly: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let Some(path) = program::find(name) else { return directly() };
    let mut command = program::command(path);
    prepare(&mut command);
    match run_apart(&mut command, may_run) {
        Err(error) if error.fact() == Some(Fact::NotStarted) => directly(),
        ran => ran,
    }
}

/// Runs a program to its end, whoever else is told to end meanwhile.
fn run_apart(command: &mut Command, may_run: impl Fn() -> bool) -> Result<()> {
    let finished = program::run_while(shield(command), may_run)?;
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

/// How long a file system may take to go that nobody uses, until somebody is looked for, and looked for again.
const LETTING_GO: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(2)];
const TICK: Duration = Duration::from_millis(10);
/// How long a forced end waits for what the kernel holds, where nothing comes forward.
const FORCED_SYNC: Duration = Duration::from_secs(3);
/// So many mounts on top of one another are taken away at most.
const MOST_COVERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_file_systems_need_root() {
        let error = unmountable(&Superblock { contents: Contents::Xfs, block_size: None, other: None });
        assert_eq!(error.kind(), ErrorKind::Missing);
        assert!(error.hint().unwrap().contains("as root"));
    }

    #[test]
    fn an_unknown_file_system_needs_other_tools_and_not_root() {
        let error = unmountable(&Superblock { contents: Contents::Unknown, block_size: None, other: None });
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(!error.hint().unwrap().contains("root"));
    }
}
