//! File systems without privileges, by the server itself, which serves the files by FUSE: FAT and exFAT, ext2, ext3 and ext4; and NTFS,
//! ISO 9660 and UDF for reading. There is no block file.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, atomic::AtomicBool},
};

use rustix::process::geteuid;

use super::{
    Driver, DriverChoice, cut_off, detach_files, e2fsck, find_mount, ownership, source::source_of,
    unmount_files,
};
use crate::{
    error::{Error, ErrorKind, Fact, Result},
    export::{FilesExport, FilesMount, Owners, Promptness, Share},
    filesystem::{
        ExtFileSystem, FatFileSystem, Fault, FileSystem, IsoFileSystem, Journal, NodeId, NtfsFileSystem,
        Rights, UdfFileSystem, Unreadable, Unwritten,
    },
    mount::{
        filesystem::Contents,
        idle::Sign,
        mountinfo::MountId,
        mountpoint::MountPoint,
        options::MountOptions,
        replay::{self, Below},
        session::Session,
        undo::{Log, Part, Undo},
        ways::Means,
    },
    sys::process::is_root,
    volume::{BlockDevice, ByteDevice, free_space::Condition, signature},
};

/// A file system that the server reads by itself.
#[derive(Debug)]
pub(in crate::mount) struct Builtin {
    device: Arc<ByteDevice>,
    contents: Contents,
    /// Whether it is repaired before it is read, in memory.
    is_repaired: bool,
}

/// How it is to be shown.
#[derive(Debug, Clone, Copy)]
pub(in crate::mount) struct View<'a> {
    /// Whether writes are refused.
    pub read_only: bool,
    /// What is missing of the volume where the container was cut short.
    pub missing_end: Option<&'a str>,
    /// Whose the files are to be, where that was said.
    pub owners: Option<Owners>,
    /// With whom it is shared.
    pub share: Option<&'a Share>,
    /// What else it is told.
    pub options: &'a MountOptions,
}

impl Builtin {
    /// What the device holds, where it is left to the server: `driver` is what the user's `choice` came to.
    pub(in crate::mount) fn of(
        device: &Arc<dyn BlockDevice>,
        (choice, driver): (DriverChoice, Driver),
    ) -> Option<Self> {
        let device = Arc::new(ByteDevice::new(Arc::clone(device)));
        // What cannot be read the driver will tell.
        let contents = Contents::of(&device).ok()?;
        contents.is_builtin(choice, driver).then_some(Self { device, contents, is_repaired: false })
    }

    /// The same on what lies above the volume for this mount.
    pub(in crate::mount) fn over(&self, below: &Below) -> Self {
        let device = Arc::new(ByteDevice::new(Arc::clone(&below.device)));
        Self { device, contents: self.contents, is_repaired: below.shadow.is_some() }
    }

    /// Whether it replays a journal by itself, if there is one. What else a crash leaves there is for e2fsck.
    pub(in crate::mount) const fn replays_journals(&self) -> bool {
        matches!(self.contents, Contents::Ext { .. })
    }

    /// Whether it writes none of these, whatever was asked for.
    pub(in crate::mount) const fn only_reads(&self) -> bool {
        matches!(self.contents, Contents::Ntfs | Contents::Iso | Contents::Udf)
    }

    /// Mounts it, and puts what must be undone on the session's stack. Gives what tells of its end. Where it takes a repair first, and
    /// the program is there, `repair` has that made.
    ///
    /// # Errors
    /// `Io` where the file system is damaged, `Damaged` where its end is missing, `Unsupported` for a feature that is not known
    /// and owners that cannot be shown, or what mounting FUSE gave.
    pub(in crate::mount) fn mount(
        &self,
        view: View<'_>,
        mountpoint: &MountPoint,
        session: &mut Session,
        log: &Log,
        repair: Repair<'_>,
    ) -> Result<OwnedFd> {
        let mounted = self.raise(view, mountpoint, session, log, repair);
        let end = mounted
            .map_err(|error| error.during(format!("cannot mount on {}", mountpoint.path().display())))?;
        if let Some(missing) = view.missing_end {
            session.warnings.push(format!("{missing}; files that lie there cannot be read"));
        }
        Ok(end)
    }

    fn raise(
        &self,
        view: View<'_>,
        mountpoint: &MountPoint,
        session: &mut Session,
        log: &Log,
        repair: Repair<'_>,
    ) -> Result<OwnedFd> {
        if let Some(missing) = view.missing_end.filter(|_| !view.read_only) {
            // No repair brings it back, and each would write.
            return Err(cut_off(missing));
        }
        ownership::check(self.contents, view.owners, Means::Builtin)?;
        view.options.check(self.contents, Means::Builtin)?;
        let (files, is_written) = match self.contents {
            Contents::Ext { .. } if view.read_only => {
                if self.is_repaired {
                    repair(session)?;
                }
                (self.open_ext(view, session)?, false)
            }
            Contents::Ext { .. } => self.open_ext_to_write(view, session, repair)?,
            Contents::Ntfs => (self.open_ntfs(view, session)?, false),
            Contents::Iso | Contents::Udf => (self.open_optical(view, session)?, false),
            _ => (self.open_fat(view, session)?, !view.read_only),
        };
        let read_only = !is_written;
        let owners = view.owners.unwrap_or_else(|| usual_owners(&*files));
        let path = mountpoint.path();
        let source = source_of(session);
        let subtype = self.contents.kernel_name().unwrap_or("vfat");
        let (names, content) = view.options.promptness();
        let how = FilesMount {
            source: &source.to_string_lossy(),
            subtype,
            read_only,
            owners,
            share: view.share,
            forbids_programs: view.options.forbids_programs(),
            promptness: Promptness { names, content },
        };
        session.files = Some(Arc::downgrade(&files));
        let export = FilesExport::start(files, path, how, log)?;
        let end = export.end().try_clone_to_owned();
        let mount = find_mount(path, "fuse.");
        let id = mount.as_ref().ok().and_then(|mount| mount.as_ref().map(|mount| mount.id));
        session.sign = Some(Sign::Asked(export.uses()));
        session.refusals = Some(export.refusals());
        session.parts.push(Files { export, id, stop: Arc::clone(session.stop()), is_held: false });
        if mount?.is_none() {
            return Err(Error::new(ErrorKind::Io, "the mount does not show"));
        }
        session.note(|record| {
            record.mount = id;
            "builtin".clone_into(&mut record.entry.driver);
            record.entry.read_only = read_only;
            record.entry.block = None;
        })?;
        session.check_stop()?;
        Ok(end?)
    }

    fn open_fat(&self, view: View<'_>, session: &mut Session) -> Result<Arc<dyn FileSystem>> {
        let (files, repair) = FatFileSystem::open(&self.device, view.read_only)
            .map_err(|fault| self.unusable(view, &Unreadable::Fault(fault)))?;
        if !repair.is_empty() {
            let name = files.name();
            session.warnings.push(format!(
                "the {name} file system was not unmounted cleanly, and was repaired: {repair}"
            ));
        }
        Ok(Arc::new(files))
    }

    /// Repairs what another driver would write to as it was left, where the server knows how: FAT and exFAT.
    ///
    /// # Errors
    /// `Io` where it is beyond repair, or cannot be read or written.
    pub(in crate::mount) fn repair_for_others(
        below: &Below,
        view: View<'_>,
        session: &mut Session,
    ) -> Result<()> {
        if view.read_only || view.missing_end.is_some() || below.condition != Some(Condition::Unclean) {
            return Ok(());
        }
        let device = Arc::new(ByteDevice::new(Arc::clone(&below.device)));
        let contents = Contents::of(&device)?;
        if !matches!(contents, Contents::Fat | Contents::Exfat) {
            return Ok(());
        }
        let volume = Self { device, contents, is_repaired: false };
        let files = volume.open_fat(view, session)?;
        files.close().map_err(|fault| contents.failure(fault))
    }

    fn open_ntfs(&self, view: View<'_>, session: &mut Session) -> Result<Arc<dyn FileSystem>> {
        let files = NtfsFileSystem::open(&self.device, view.missing_end.is_some())
            .map_err(|fault| self.unusable(view, &Unreadable::Fault(fault)))?;
        if !view.read_only {
            session.warnings.push(
                "mounted read-only, as strongroom does not write NTFS; see strongroom doctor".to_owned(),
            );
        }
        if files.is_hibernated() {
            session.warnings.push(
                "Windows is hibernated on this NTFS: what it still has in memory does not show; start it, and shut it down"
                    .to_owned(),
            );
        }
        Ok(Arc::new(files))
    }

    /// A volume may be both: with the same files, of which Rock Ridge tells most; or with a note in ISO 9660 that they are in UDF.
    fn open_optical(&self, view: View<'_>, session: &mut Session) -> Result<Arc<dyn FileSystem>> {
        if self.contents == Contents::Iso {
            let iso = IsoFileSystem::open(&self.device);
            let is_all = iso.as_ref().is_ok_and(IsoFileSystem::has_rock_ridge);
            if !is_all
                && UdfFileSystem::is_there(&self.device)
                && let Ok(files) = UdfFileSystem::open(&self.device)
            {
                return Ok(Arc::new(files));
            }
            return Ok(Arc::new(iso.map_err(|fault| self.unusable(view, &Unreadable::Fault(fault)))?));
        }
        let files = match UdfFileSystem::open(&self.device) {
            Err(Fault::Unsupported) => return Err(session_by_session()),
            opened => opened.map_err(|fault| self.unusable(view, &Unreadable::Fault(fault)))?,
        };
        if !view.read_only {
            session.warnings.push("mounted read-only, as strongroom does not write UDF".to_owned());
        }
        Ok(Arc::new(files))
    }

    fn open_ext(&self, view: View<'_>, session: &mut Session) -> Result<Arc<dyn FileSystem>> {
        let (files, journal) = ExtFileSystem::open(&self.device, view.missing_end.is_some())
            .map_err(|why| self.unusable(view, &why))?;
        if !self.is_repaired {
            session.warnings.extend(left(journal));
        }
        Ok(Arc::new(files))
    }

    /// Opens it to be written, and tells whether it is: it may be made in a way that only others write, or take a repair that
    /// nobody here makes.
    fn open_ext_to_write(
        &self,
        view: View<'_>,
        session: &mut Session,
        repair: Repair<'_>,
    ) -> Result<(Arc<dyn FileSystem>, bool)> {
        let mut opened = ExtFileSystem::open_to_write(&self.device);
        let mut repairer = "e2fsck does not help: the kernel's driver may write it, as root";
        if takes_repair(&opened) {
            if e2fsck::program().is_err() {
                repairer = "e2fsck is not installed: install the package e2fsprogs";
            } else {
                drop(opened);
                match repair(session) {
                    Err(error) if error.fact() == Some(Fact::ProgramTooOld) => {
                        repairer = "e2fsck is too old for it";
                    }
                    done => done?,
                }
                opened = ExtFileSystem::open_to_write(&self.device);
            }
        }
        let (files, journal, unwritten) = opened.map_err(|why| self.unusable(view, &why))?;
        match &unwritten {
            Some(why) => {
                session.warnings.push(read_only_as(why, repairer));
                session.warnings.extend(left(journal));
            }
            None if !files.has_journal() => session.warnings.push(NO_JOURNAL.to_owned()),
            None => {}
        }
        Ok((Arc::new(files), unwritten.is_none()))
    }

    fn unusable(&self, view: View<'_>, why: &Unreadable) -> Error {
        match (why, view.missing_end) {
            (Unreadable::Fault(_), Some(missing)) => cut_off(missing),
            (Unreadable::Fault(fault), None) => self.contents.failure(*fault),
            (Unreadable::Feature(_), _) => Error::new(ErrorKind::Unsupported, why.to_string())
                .with_hint("mount it as root; or use mount --block to see the volume as a file"),
        }
    }
}

fn session_by_session() -> Error {
    let reason = "strongroom does not read a UDF that was written session by session, as on a CD-R";
    Error::new(ErrorKind::Unsupported, reason)
        .with_hint("mount it as root; or use mount --block to see the volume as a file")
}

/// Whether a file system that was to be written takes a repair first.
const fn takes_repair(
    opened: &std::result::Result<(ExtFileSystem, Journal, Option<Unwritten>), Unreadable>,
) -> bool {
    matches!(opened, Ok((_, _, Some(Unwritten::Damaged(_)))) | Err(Unreadable::Fault(Fault::Damaged)))
}

/// What is to be said of one that is read, and was to be written.
fn read_only_as(why: &Unwritten, repairer: &str) -> String {
    match why {
        Unwritten::Damaged(why) => {
            format!("mounted read-only, as this file system takes a repair ({why}), and {repairer}")
        }
        Unwritten::Foreign(why) => format!(
            "mounted read-only, as strongroom does not write this file system ({why}); the kernel's driver may, as root"
        ),
    }
}

/// What is to be said of a volume that is only read, and was not unmounted cleanly.
fn left(journal: Journal) -> Option<String> {
    match journal {
        Journal::Empty => None,
        Journal::Replayed => Some(replay::made_whole(Some(Condition::Journal))),
        Journal::Unread(why) => Some(replay::not_replayed(why)),
        Journal::Missing => replay::left_as_it_is((signature::FileSystem::Ext, Condition::Unclean)),
    }
}

/// Has the volume repaired by other programs, which see it as a file.
type Repair<'a> = &'a mut dyn FnMut(&mut Session) -> Result<()>;

/// Whose the files are where nobody said: root, and the owner of the root directory, see those that the volume names. Anybody else
/// who has the key would only be kept out by numbers that mean other people here, root of a user namespace above all.
fn usual_owners(files: &dyn FileSystem) -> Owners {
    match files.attributes(NodeId::ROOT).map(|root| root.rights) {
        Ok(Rights::Posix { uid, .. }) if is_root() || uid == geteuid().as_raw() => Owners::Real,
        _ => Owners::Me,
    }
}

/// The mounted file system.
#[derive(Debug)]
struct Files {
    export: FilesExport,
    id: Option<MountId>,
    stop: Arc<AtomicBool>,
    /// Whether it was found to be in use elsewhere after it had gone from here.
    is_held: bool,
}

impl Part for Files {
    fn name(&self) -> &'static str {
        "file system"
    }

    fn undo(&mut self, how: Undo) -> Result<()> {
        let Some(id) = self.id else { return self.export.finish(true) };
        if how == Undo::Clean {
            // The kernel does not ask for it: what cannot be written would be lost with the mount.
            self.export.sync()?;
            unmount_files(id, &self.stop)?;
            if self.is_held && self.export.is_alive() {
                // It is looked at twice a second: nobody who asks meanwhile shall wait for it.
                return Err(Error::new(ErrorKind::Busy, "it is still in use elsewhere"));
            }
            let finished = self.export.finish(false);
            self.is_held = finished.as_ref().is_err_and(|error| error.kind() == ErrorKind::Busy);
            return finished;
        }
        let detached = detach_files(id);
        self.export.finish(true).and(detached)
    }
}

const NO_JOURNAL: &str = "this file system has no journal: after a power cut it takes a repair by e2fsck, and files may be damaged";
