//! The kernel's own file systems, over a loop device on the block file. For root.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags, openat},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, fsconfig_create, fsconfig_set_flag,
        fsconfig_set_string, fsmount, fsopen,
    },
};

use super::{
    Volume, check_discard, cut_users_off, detach_copies, find_mount, flush_device, last_place_of, ownership,
    place_of, sync_and_unmount, sync_file_system, sync_open, tell_of_unseen, uncover, unmount_apart,
    unmount_directly,
};
use crate::{
    error::{Error, ErrorKind, Result},
    mount::{
        bystanders::Bystanders,
        filesystem::{Contents, REPAIR_NTFS},
        idle::Sign,
        mountinfo::MountId,
        mountpoint::MountPoint,
        server::probe::soon,
        session::Session,
        undo::{Part, Undo},
        ways::Means,
    },
    sys::{
        file_uses::FileUses,
        freeze,
        loopdev::{self, LoopDevice, LoopOptions, backing_file},
        user::User,
    },
    volume::ShadowDevice,
};

pub(super) fn mount(volume: Volume<'_>, mountpoint: &MountPoint, session: &mut Session) -> Result<()> {
    let Some(kind) = volume.superblock.contents.kernel_name() else {
        return Err(volume.superblock.unmountable());
    };
    volume.options.check(volume.superblock.contents, Means::Kernel)?;
    check_discard(volume)?;
    volume.repair(mountpoint.path(), session)?;
    let device = attach(volume, session)?;
    session.check_stop()?;
    let is_refused_writing = mount_device(&device, kind, volume, mountpoint)?;
    let path = mountpoint.path().to_path_buf();
    // The mount is there: if it cannot be found in the table, it must still go.
    let Some(mount) = find_mount(&path, kind)? else {
        unmount_directly(&path, true)?;
        return Err(Error::new(ErrorKind::Io, "the mount does not show in the table of mounts"));
    };
    // Without it there are the reads and writes of the block file, and those of the kernel among them.
    if let Ok(uses) = FileUses::watch(&path) {
        session.sign = Some(Sign::Told(uses));
    }
    let shadow = volume.shadow.cloned();
    seal(shadow.as_ref(), true);
    let stop = Arc::clone(session.stop());
    let below = mountpoint.try_clone().ok();
    let errors = noted_errors(&device);
    if errors > 0 && !volume.read_only {
        session.warnings.push(format!(
            "the kernel noted errors in this {} file system: files may be damaged; unmount it, then use mount --block and e2fsck -f",
            volume.superblock.contents
        ));
    }
    session.parts.push(FileSystem {
        id: mount.id,
        kind,
        below,
        shadow,
        device,
        stop,
        is_flushed: false,
        errors,
    });
    if is_refused_writing {
        session.warnings.push(format!(
            "this NTFS was not unmounted cleanly, so the kernel mounts it read-only: {REPAIR_NTFS}"
        ));
    }
    session.note(|record| {
        record.mount = Some(mount.id);
        record.entry.read_only |= is_refused_writing || kind == "iso9660";
    })
}

/// Whether the kernel offers loop devices. (Whether it knows the file system shows only when the volume is open.)
///
/// # Errors
/// `Missing`, or what opening their control device gave.
pub(super) fn check() -> Result<()> {
    loopdev::check().map_err(no_loop_device)
}

/// Makes the block file a loop device.
fn attach(volume: Volume<'_>, session: &mut Session) -> Result<PathBuf> {
    let (backing, read_only) = volume.open_for_loop()?;
    let options = LoopOptions { sector_size: loop_sector_size(volume), read_only };
    let device = LoopDevice::attach(&backing, options).map_err(no_loop_device)?;
    let path = device.path().to_path_buf();
    let has_direct_io = device.has_direct_io();
    session.parts.push(Loop {
        device: Some(device),
        path: path.clone(),
        block: volume.block.to_path_buf(),
        told: None,
    });
    session.note(|record| record.loop_device = Some(path.clone()))?;
    if !has_direct_io? {
        session.warnings.push("the loop device refused direct I/O: reads and writes are slower".to_owned());
    }
    Ok(path)
}

/// The volume's sector size, or the file system's own unit where that is smaller: the kernel refuses to mount a file
/// system that writes less than a sector, and the block file takes any size.
fn loop_sector_size(volume: Volume<'_>) -> u32 {
    volume.superblock.block_size.map_or(volume.sector_size, |block| block.min(volume.sector_size))
}

fn no_loop_device(error: io::Error) -> Error {
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => {
            Error::new(ErrorKind::Missing, "the kernel has no loop devices")
                .with_hint("load the module: modprobe loop; or use --driver builtin")
        }
        Some(Errno::PERM | Errno::ACCESS) => {
            Error::from(error).during("cannot attach a loop device").with_hint("--driver builtin needs none")
        }
        _ => Error::from(error).during("cannot attach a loop device"),
    }
}

/// Mounts the device. Gives whether it was for reading only because the kernel refused to write.
fn mount_device(device: &Path, kind: &str, volume: Volume<'_>, mountpoint: &MountPoint) -> Result<bool> {
    let contents = volume.superblock.contents;
    // By descriptor: what was checked is what is mounted on.
    let target = mountpoint.by_descriptor();
    let owner = volume.owner.map_or_else(|| mountpoint.owner(), Ok)?;
    let options = options(volume, owner)?;
    let mount = |access| {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | volume.options.flags() | access;
        rustix::mount::mount(device, &target, kind, flags, options.as_deref())
    };
    if volume.read_only || contents == Contents::Iso {
        mount(MountFlags::RDONLY).map_err(|error| refused(error, contents))?;
        return Ok(false);
    }
    match mount(MountFlags::empty()) {
        Ok(()) => Ok(false),
        Err(error) if is_unclean_ntfs(error, contents) && mount(MountFlags::RDONLY).is_ok() => Ok(true),
        Err(error) => Err(refused(error, contents)),
    }
}

/// Whether the kernel may refuse no more than to write: `ntfs3` does where the volume is marked dirty or its log has something to
/// replay, as after a write that met a hidden volume.
fn is_unclean_ntfs(error: Errno, contents: Contents) -> bool {
    contents == Contents::Ntfs && matches!(error, Errno::INVAL | Errno::UCLEAN | Errno::IO | Errno::ROFS)
}

/// What the file system's driver is told.
fn options(volume: Volume<'_>, owner: User) -> Result<Option<CString>> {
    let contents = volume.superblock.contents;
    let ownership = ownership::options(contents, owner);
    let journal = journal_options(contents, volume.leaves_journal()).map(str::to_owned);
    // Those that were asked for come last: the kernel takes the last word on each.
    let asked = volume.options.particular().iter().cloned();
    let options: Vec<_> = ownership.into_iter().chain(journal).chain(asked).collect();
    if options.is_empty() {
        return Ok(None);
    }
    Ok(Some(CString::new(options.join(",")).map_err(io::Error::from)?))
}

/// Replaying a journal writes: where that cannot be, the kernel must be told to leave it. And XFS mounts no copy beside its
/// original unless it is told not to compare their UUIDs.
fn journal_options(contents: Contents, leaves_journal: bool) -> Option<&'static str> {
    match contents {
        Contents::Ext { needs_recovery: true, .. } if leaves_journal => Some("noload"),
        Contents::Xfs if leaves_journal => Some("norecovery,nouuid"),
        Contents::Xfs => Some("nouuid"),
        Contents::Btrfs if leaves_journal => Some("rescue=nologreplay"),
        _ => None,
    }
}

fn refused(error: Errno, contents: Contents) -> Error {
    match error {
        Errno::NODEV => {
            let way = match contents {
                Contents::Ntfs => {
                    "load the module ntfs3, or use mount --block, then ntfs-3g on the block file"
                }
                _ => "install or load the kernel's module for it, or use mount --block",
            };
            Error::new(ErrorKind::Missing, format!("this kernel cannot read {contents}")).with_hint(way)
        }
        Errno::EXIST if contents == Contents::Btrfs => {
            let reason =
                "a btrfs with the same UUID is mounted, and this kernel mounts no copy beside its original";
            Error::new(ErrorKind::Busy, reason).with_hint("unmount the other one first")
        }
        Errno::INVAL | Errno::UCLEAN | Errno::BADMSG | Errno::IO => {
            let way = match contents {
                Contents::Ntfs => REPAIR_NTFS,
                _ => "use mount --block, then the file system's own check on the block file",
            };
            let refused = format!("the kernel refuses the {contents} file system");
            if error != Errno::INVAL {
                return Error::new(ErrorKind::Io, format!("{refused} (damaged?)")).with_hint(way);
            }
            Error::new(
                ErrorKind::Io,
                format!("{refused} (damaged, or made with a feature that this kernel lacks?)"),
            )
            .with_hint(format!("dmesg says which; --driver builtin may show it; if it is damaged: {way}"))
        }
        other => io::Error::from(other).into(),
    }
}

/// The root of the file system of this `kind` that is already mounted from `device`, through a mount of its own that shows
/// nowhere and goes with the descriptor.
fn once_more(device: &Path, kind: &str) -> io::Result<OwnedFd> {
    let open = |read_only: bool| {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(context.as_fd(), "source", device)?;
        if read_only {
            fsconfig_set_flag(context.as_fd(), "ro")?;
        }
        fsconfig_create(context.as_fd())?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    // It is found only by who wants to do with it what the others may.
    Ok(open(false).or_else(|_| open(true))?)
}

/// The same, opened: what [`once_more`] gives is a place only.
fn root_of(device: &Path, kind: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(File::from(openat(once_more(device, kind)?, ".", flags, Mode::empty())?))
}

/// The mounted file system.
#[derive(Debug)]
struct FileSystem {
    id: MountId,
    /// What the kernel calls it.
    kind: &'static str,
    /// The directory under the mount, by which that is found whatever lies over a folder above it.
    below: Option<MountPoint>,
    /// Sealed as long as it is mounted: mounted again for writing, it would take what is lost at the end.
    shadow: Option<Arc<ShadowDevice>>,
    device: PathBuf,
    stop: Arc<AtomicBool>,
    is_flushed: bool,
    /// The errors that it had noted before this mount.
    errors: u64,
}

/// How many errors the kernel has noted in the ext file system on a device, over all times that it was mounted since it was last
/// repaired.
pub(super) fn noted_errors(device: &Path) -> u64 {
    let name = device.file_name().unwrap_or_default();
    let count = std::fs::read_to_string(Path::new("/sys/fs/ext4").join(name).join("errors_count"));
    count.ok().and_then(|count| count.trim().parse().ok()).unwrap_or_default()
}

/// Whether the kernel has noted more errors than there were before.
///
/// # Errors
/// `Io` where it has.
pub(super) fn check_noted(errors: u64, before: u64) -> Result<()> {
    if errors <= before {
        return Ok(());
    }
    let reason = "the kernel noted an error in the file system: files or folders may be damaged or missing";
    Err(Error::new(ErrorKind::Io, reason))
}

/// While it is mounted and unmounted, a file system that is read only may write.
pub(super) fn seal(shadow: Option<&Arc<ShadowDevice>>, is_sealed: bool) {
    if let Some(shadow) = shadow {
        shadow.seal(is_sealed);
    }
}

impl FileSystem {
    /// Waits until no file system claims the device. One that is mounted elsewhere, or detached with files open, still does;
    /// it is brought to the volume, since nobody here can reach it by path.
    fn wait_until_unclaimed(&mut self) -> Result<()> {
        let mut deadline = Instant::now() + if self.is_flushed { Duration::ZERO } else { CLAIMED };
        while loopdev::is_claimed(&self.device)? {
            if Instant::now() >= deadline {
                if !self.is_flushed {
                    // Who froze it can no longer thaw it by its path.
                    let was_frozen = self.thaw(None);
                    self.sync_by_device()?;
                    self.is_flushed = true;
                    if was_frozen {
                        deadline = Instant::now() + CLAIMED;
                        continue;
                    }
                }
                return Err(Error::new(ErrorKind::Busy, format!("{} is in use", self.device.display())));
            }
            sleep(TICK);
        }
        Ok(())
    }

    fn take_away(&mut self, how: Undo) -> Result<()> {
        if how == Undo::Clean {
            if let Some(place) = last_place_of(self.id)? {
                let may_run = || !self.stop.load(Ordering::Relaxed);
                sync_and_unmount(&place, may_run, || unmount_apart(&place, false, may_run))?;
            }
            return self.wait_until_unclaimed();
        }
        let is_stood_on = Bystanders::stand_on(self.id);
        let place = place_of(self.id);
        self.thaw(place.as_ref().ok().and_then(Option::as_deref));
        // What was written reaches the disk even though its writers are cut off.
        let synced = match place {
            Ok(Some(place)) => sync_file_system(&place, || true),
            Ok(None) => Ok(()),
            Err(_) => self.sync_by_device(),
        };
        let detached = cut_users_off(self.id, || {
            let copies = detach_copies(self.id);
            self.detach().and(copies)
        });
        // By those who use it elsewhere, or have files open, until now.
        let flushed = if loopdev::is_claimed(&self.device)? { self.cut_writers_off() } else { Ok(()) };
        let is_used = || loopdev::is_claimed(&self.device).unwrap_or_default();
        synced.and(flushed).and(detached)?;
        if is_stood_on { Ok(()) } else { tell_of_unseen(self.id, is_used) }
    }

    /// Takes it out of the tree here, with what was mounted on it.
    fn detach(&self) -> Result<()> {
        let uncovered = uncover(self.id);
        match place_of(self.id) {
            Ok(Some(place)) => unmount_apart(&place, true, || true),
            Ok(None) => Ok(()),
            Err(covered) => match self.below.as_ref().map(|below| below.detach(self.id)) {
                Some(Ok(())) => Ok(()),
                _ => Err(uncovered.err().unwrap_or(covered)),
            },
        }
    }

    /// Thaws it where it was frozen (`fsfreeze`), by its place or wherever it is mounted: it would stay with its device for ever. True
    /// where it was.
    fn thaw(&self, place: Option<&Path>) -> bool {
        let (place, device, kind) = (place.map(Path::to_path_buf), self.device.clone(), self.kind);
        let thaw = move || {
            let root = if let Some(place) = place { File::open(place)? } else { root_of(&device, kind)? };
            Ok(freeze::thaw(&root)?)
        };
        // Where its medium does not answer, this waits no longer than for a moment.
        soon(thaw).is_some_and(Result::unwrap_or_default)
    }

    /// The same, and has those who use it elsewhere hear at once that nothing they write is kept any more. Without the device below
    /// it, their writes would go on for a while, and be lost.
    fn cut_writers_off(&self) -> Result<()> {
        let synced = self.sync_by_device();
        let (device, kind) = (self.device.clone(), self.kind);
        // What does not know of it finds out by itself.
        let _where_possible = soon(move || Ok(freeze::shut_down(&root_of(&device, kind)?)?));
        synced
    }

    /// Brings all that was written to the volume, wherever the file system is mounted by now, and whatever lies over it.
    ///
    /// A descriptor in the file system itself, held from the start, would be in the way of every `umount`.
    fn sync_by_device(&self) -> Result<()> {
        match once_more(&self.device, self.kind) {
            Ok(root) => sync_open(root, || once_more(&self.device, self.kind)),
            Err(_) => flush_device(&self.device),
        }
    }
}

impl Part for FileSystem {
    fn name(&self) -> &'static str {
        "file system"
    }

    fn undo(&mut self, how: Undo) -> Result<()> {
        seal(self.shadow.as_ref(), false);
        let errors = noted_errors(&self.device);
        self.take_away(how).inspect_err(|_| seal(self.shadow.as_ref(), true))?;
        check_noted(errors, self.errors)
    }
}

/// The loop device.
#[derive(Debug)]
struct Loop {
    device: Option<LoopDevice>,
    path: PathBuf,
    block: PathBuf,
    /// When it was told to go.
    told: Option<Instant>,
}

impl Part for Loop {
    fn name(&self) -> &'static str {
        "loop device"
    }

    /// udev may look at the device for a moment. Who has it open keeps it, and may write to it; whoever has files of a detached file
    /// system open keeps it as well. Autoclear ends it with them, and what the file system wrote is in the volume by now.
    fn undo(&mut self, how: Undo) -> Result<()> {
        if let Some(device) = self.device.take() {
            device.detach()?;
        }
        let is_there = || backing_file(&self.path).as_deref() == Some(&*self.block);
        let told = *self.told.get_or_insert_with(Instant::now);
        let deadline = if how == Undo::Clean { told + PATIENCE } else { Instant::now() + HASTE };
        while is_there() && Instant::now() < deadline {
            sleep(TICK);
        }
        if how == Undo::Clean && is_there() {
            return Err(Error::new(ErrorKind::Busy, format!("{} is in use", self.path.display())));
        }
        Ok(())
    }
}

/// How long a file system may take to let go of its device after it was unmounted.
const CLAIMED: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);
const HASTE: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mount::filesystem::Superblock, volume::free_space::Condition};

    fn volume(contents: Contents, block_size: Option<u32>) -> Volume<'static> {
        let superblock = Superblock { contents, block_size, other: None };
        Volume {
            block: Path::new("/nowhere"),
            superblock,
            missing_end: None,
            sector_size: 4096,
            read_only: true,
            owner: None,
            owners: None,
            options: Box::leak(Box::default()),
            can_discard: false,
            shadow: None,
            condition: None,
        }
    }

    #[test]
    fn a_file_system_of_small_blocks_makes_the_loop_sectors_small() {
        assert_eq!(loop_sector_size(volume(Contents::Exfat, Some(512))), 512);
        assert_eq!(loop_sector_size(volume(Contents::Btrfs, Some(65536))), 4096);
        assert_eq!(loop_sector_size(volume(Contents::Xfs, None)), 4096);
    }

    #[test]
    fn what_the_driver_is_told_depends_on_the_file_system() {
        let told = |contents| {
            let options = options(volume(contents, None), User { uid: 1000, gid: 100 }).unwrap();
            options.map(|options| options.into_string().unwrap())
        };
        assert_eq!(told(Contents::Exfat).unwrap(), "uid=1000,gid=100,umask=077,iocharset=utf8");
        let ext = |needs_recovery| Contents::Ext { needs_recovery };
        assert_eq!(told(ext(true)).unwrap(), "noload");
        assert_eq!(told(Contents::Btrfs).unwrap(), "rescue=nologreplay");
        assert_eq!(told(ext(false)), None);
    }

    #[test]
    fn an_ntfs_that_is_not_clean_can_still_be_read_and_names_its_repair() {
        for error in [Errno::INVAL, Errno::IO] {
            assert!(is_unclean_ntfs(error, Contents::Ntfs));
            assert!(!is_unclean_ntfs(error, Contents::Xfs));
            assert!(refused(error, Contents::Ntfs).hint().unwrap().contains("ntfsfix"));
            assert!(!refused(error, Contents::Xfs).hint().unwrap().contains("ntfsfix"));
        }
        assert!(!is_unclean_ntfs(Errno::NODEV, Contents::Ntfs));
    }

    #[test]
    fn a_journal_is_left_only_where_there_is_one_and_it_cannot_be_replayed() {
        let ext = |needs_recovery| Contents::Ext { needs_recovery };
        for (contents, leaves_journal, expected) in [
            (ext(true), true, Some("noload")),
            (ext(true), false, None),
            (ext(false), true, None),
            (Contents::Xfs, true, Some("norecovery,nouuid")),
            (Contents::Xfs, false, Some("nouuid")),
            (Contents::Btrfs, true, Some("rescue=nologreplay")),
            (Contents::Btrfs, false, None),
            (Contents::Fat, true, None),
        ] {
            assert_eq!(journal_options(contents, leaves_journal), expected, "{contents} {leaves_journal}");
        }
        let journal = Volume { condition: Some(Condition::Journal), ..volume(Contents::Xfs, None) };
        let leaves = |volume: Volume<'_>| volume.leaves_journal();
        assert!(leaves(journal) && leaves(Volume { condition: None, ..journal }));
        assert!(!leaves(Volume { read_only: false, ..journal }));
        assert!(!leaves(Volume { condition: Some(Condition::Clean), ..journal }));
    }
}
