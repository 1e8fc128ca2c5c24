//! The kernel's own file systems for an ordinary user, by way of udisks: a loop device on the block file, and a mount point that udisks
//! chooses.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    Volume, check_discard, cut_users_off,
    kernel::{check_noted, noted_errors, seal},
    last_place_of, place_of, sync_and_unmount, sync_file_system, tell_of_unseen,
};
use crate::{
    error::{Error, ErrorKind, Result},
    mount::{
        filesystem::Contents,
        mountinfo::{Mount, MountId, MountTable},
        session::Session,
        udisks::{self, Manner},
        undo::{Part, Undo},
        ways::{Means, SHOW_TO_ROOT},
    },
    sys::loopdev::backing_file,
    volume::{ShadowDevice, while_moving},
};

/// Mounts the block file's file system, and puts what must be undone on the session's stack. With `asks_password` polkit may have the
/// user asked for one.
pub(super) fn mount(volume: Volume<'_>, asks_password: bool, session: &mut Session) -> Result<()> {
    volume.options.check(volume.superblock.contents, Means::Udisks)?;
    check_discard(volume)?;
    let stop = Arc::clone(session.stop());
    let may_wait = || !stop.load(Ordering::Relaxed);
    let manner = Manner { asks_password, may_wait: &may_wait };
    volume.repair(Path::new("DIR"), session)?;
    let device = attach(volume, manner, session)?;
    session.check_stop()?;
    if is_empty(&device) {
        let reason = "this kernel does not show the block file of a user to udisks";
        return Err(
            Error::new(ErrorKind::Unsupported, reason).with_hint(format!("once, as root: {SHOW_TO_ROOT}"))
        );
    }
    let mount = raise(&device, volume, manner)?;
    let shadow = volume.shadow.cloned();
    seal(shadow.as_ref(), true);
    let errors = noted_errors(&device);
    session.parts.push(FileSystem {
        id: mount.id,
        shadow,
        device: device.clone(),
        stop: Arc::clone(&stop),
        errors,
    });
    if mount.is_read_only() && !volume.read_only {
        session
            .warnings
            .push("it is mounted read-only: the kernel or udisks did not take it for writing".to_owned());
    }
    session.note(|record| {
        record.mount = Some(mount.id);
        record.made_mountpoint = false;
        record.entry.mountpoint = Some(mount.mountpoint.clone());
        "udisks".clone_into(&mut record.entry.driver);
        record.entry.read_only |= mount.is_read_only();
    })?;
    if let Err(error) = udisks::let_go_at_unmount(&device, manner) {
        // Whoever unmounts it elsewhere leaves the device to this server's end.
        session
            .details
            .push(format!("{} does not go with an unmount from outside: {error}", device.display()));
    }
    session.check_stop()
}

/// Makes the block file a loop device.
fn attach(volume: Volume<'_>, manner: Manner<'_>, session: &mut Session) -> Result<PathBuf> {
    let (backing, read_only) = volume.open_for_loop()?;
    let device = udisks::attach(backing.into(), read_only, manner)?;
    session.parts.push(Loop { device: device.clone(), block: volume.block.to_path_buf(), told: None });
    session.note(|record| record.loop_device = Some(device.clone()))?;
    Ok(device)
}

/// Whether a loop device has no bytes: the kernel asks for the file's size as root, whom FUSE does not answer.
fn is_empty(device: &Path) -> bool {
    let size = Path::new("/sys/block").join(device.file_name().unwrap_or_default()).join("size");
    fs::read_to_string(size).is_ok_and(|size| size.trim() == "0")
}

/// Mounts the device. A desktop that mounts whatever appears may have done so already.
fn raise(device: &Path, volume: Volume<'_>, manner: Manner<'_>) -> Result<Mount> {
    let place = match udisks::mount(device, &options(volume), manner) {
        Err(error) if error.kind() == ErrorKind::Exists => None,
        Err(error) if error.kind() == ErrorKind::Io => return Err(error.with_hint(udisks::NOT_MOUNTED)),
        mounted => Some(mounted?),
    };
    let table = MountTable::read()?;
    let is_its = |mount: &&Mount| Path::new(&mount.source) == device;
    let found = match &place {
        Some(place) => table.at(place).filter(is_its),
        None => table.mounts().iter().find(is_its),
    };
    if let Some(found) = found {
        let mut mount = found.clone();
        mount.id = mount.id.for_good(&mount.mountpoint);
        return Ok(mount);
    }
    // It is there, somewhere, and must go.
    udisks::unmount(device, true, manner.may_wait)?;
    let place = place.as_deref().unwrap_or(device).display();
    Err(Error::new(ErrorKind::Io, format!("udisks mounted it on {place}, where it does not show")))
}

/// What udisks is to tell the file system's driver. It gives the files of FAT, exFAT and NTFS to the user by itself, and passes on what
/// is in its own list.
fn options(volume: Volume<'_>) -> String {
    let access = volume.read_only.then(|| "ro".to_owned());
    let leaves_journal = volume.leaves_journal()
        && matches!(volume.superblock.contents, Contents::Ext { needs_recovery: true });
    let journal = leaves_journal.then(|| "noload".to_owned());
    let options: Vec<_> = access.into_iter().chain(journal).chain(volume.options.asked()).collect();
    options.join(",")
}

/// The mounted file system.
#[derive(Debug)]
struct FileSystem {
    id: MountId,
    /// Sealed as long as it is mounted: mounted again for writing, it would take what is lost at the end.
    shadow: Option<Arc<ShadowDevice>>,
    device: PathBuf,
    stop: Arc<AtomicBool>,
    /// The errors that it had noted before this mount.
    errors: u64,
}

impl FileSystem {
    fn take_away(&self, how: Undo) -> Result<()> {
        if how == Undo::Clean {
            let Some(place) = last_place_of(self.id)? else { return Ok(()) };
            let may_run = || !self.stop.load(Ordering::Relaxed);
            return sync_and_unmount(&place, may_run, || udisks::unmount(&self.device, false, &may_run));
        }
        let synced = match place_of(self.id) {
            // What was written reaches the disk even though its writers are cut off.
            Ok(Some(place)) => sync_file_system(&place, while_moving(FORCED)),
            _ => Ok(()),
        };
        let may_wait = while_moving(FORCED);
        let detach = || match place_of(self.id) {
            Ok(None) => Ok(()),
            _ => udisks::unmount(&self.device, true, &may_wait),
        };
        let detached = cut_users_off(self.id, detach);
        let is_used = || backing_file(&self.device).is_some();
        synced.and(detached).and_then(|()| tell_of_unseen(self.id, is_used))
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
    device: PathBuf,
    block: PathBuf,
    /// When it was told to go.
    told: Option<Instant>,
}

impl Loop {
    fn is_there(&self) -> bool {
        backing_file(&self.device).as_deref() == Some(&*self.block)
    }

    fn is_gone_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_there() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(TICK);
        }
        true
    }
}

impl Part for Loop {
    fn name(&self) -> &'static str {
        "loop device"
    }

    /// It goes with the unmount by itself, if nobody else uses it. Whoever has files of a detached file system open keeps it; it ends
    /// with them.
    fn undo(&mut self, how: Undo) -> Result<()> {
        if self.is_gone_within(A_MOMENT) {
            return Ok(());
        }
        let deleted = if self.told.is_none() {
            let is_moving = while_moving(FORCED);
            udisks::delete(&self.device, &|| how == Undo::Clean || is_moving())
        } else {
            Ok(())
        };
        if deleted.is_ok() {
            self.told.get_or_insert_with(Instant::now);
        }
        let waited = self.told.map(|told| told.elapsed()).unwrap_or_default();
        let limit = if how == Undo::Clean { PATIENCE.saturating_sub(waited) } else { HASTE };
        if self.is_gone_within(limit) {
            return Ok(());
        }
        deleted?;
        if how == Undo::Clean {
            return Err(Error::new(ErrorKind::Busy, format!("{} is in use", self.device.display())));
        }
        Ok(())
    }
}

/// How long a device may take to go by itself.
const A_MOMENT: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(5);
const HASTE: Duration = Duration::from_millis(500);
/// How long each step of a forced end waits for udisks, and for what the kernel holds.
const FORCED: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::{filesystem::Superblock, options::MountOptions};

    #[test]
    fn udisks_is_told_what_was_asked_for_and_no_more() {
        let asked = MountOptions::parse("noatime,discard").unwrap();
        let told = |contents, read_only| {
            options(Volume {
                block: Path::new("/nowhere"),
                superblock: Superblock { contents, block_size: None, other: None },
                missing_end: None,
                sector_size: 512,
                read_only,
                owner: None,
                owners: None,
                options: &asked,
                can_discard: true,
                shadow: None,
                condition: None,
            })
        };
        assert_eq!(told(Contents::Xfs, false), "noatime,discard");
        assert_eq!(told(Contents::Btrfs, true), "ro,noatime,discard");
        let ext = |needs_recovery| Contents::Ext { needs_recovery };
        assert_eq!(told(ext(true), true), "ro,noload,noatime,discard");
        assert_eq!(told(ext(true), false), "noatime,discard");
        assert_eq!(told(ext(false), true), "ro,noatime,discard");
    }
}
