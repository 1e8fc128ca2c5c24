//! File systems without privileges, by the server itself, which serves the files by FUSE: FAT and exFAT, ext2, ext3 and ext4, and NTFS
//! for reading. There is no block file.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, atomic::AtomicBool},
};

use rustix::process::geteuid;

use super::{
    Driver, DriverChoice, cut_off, detach_files, find_mount, kernel::REPAIR_NTFS, ownership, unmount_files,
    userspace, userspace::source_of,
};
use crate::{
    error::{Error, ErrorKind, Result},
    export::{FilesExport, FilesMount, Owners, Promptness},
    filesystem::{
        ExtFileSystem, FatFileSystem, Fault, FileSystem, Journal, NodeId, NtfsFileSystem, Rights, Unreadable,
    },
    mount::{
        filesystem::{Contents, Superblock},
        idle::Sign,
        mountinfo::MountId,
        mountpoint::MountPoint,
        options::MountOptions,
        replay,
        session::Session,
        undo::{Log, Part, Undo},
        ways::Means,
    },
    sys::fuse_mount::is_connected,
    volume::{
        BlockDevice, ByteDevice,
        free_space::{Condition, condition},
        signature,
    },
};

/// A file system that the server reads by itself.
#[derive(Debug)]
pub(in crate::mount) struct Builtin {
    device: Arc<ByteDevice>,
    contents: Contents,
    /// Why it is only read where it was to be written.
    unwritten: Option<String>,
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
    /// What else it is told.
    pub options: &'a MountOptions,
}

impl Builtin {
    /// What the device holds, where it is left to the server: `driver` is what the user's `choice` came to.
    pub(in crate::mount) fn of(
        device: &Arc<dyn BlockDevice>,
        (choice, driver): (DriverChoice, Driver),
        read_only: bool,
    ) -> Option<Self> {
        let (found, head) = Self::on(device)?;
        if !found.contents.is_builtin(choice, driver) {
            return None;
        }
        if !matches!(found.contents, Contents::Ext { .. }) {
            return Some(found);
        }
        let other = match driver {
            Driver::Kernel => Err("this kernel has no ext4".to_owned()),
            Driver::Userspace => userspace::check().map_err(|error| error.to_string()),
        };
        // Who asks for it gets what is written here. The others wait until more people have.
        let is_written = choice == DriverChoice::Builtin && ExtFileSystem::unwritten_feature(&head).is_none();
        let needs_repair =
            || condition(&**device).ok().flatten().is_some_and(|(_, found)| found == Condition::Unclean);
        match (read_only, other) {
            (true, Err(_)) => Some(found),
            (false, other) if is_written && (other.is_err() || !needs_repair()) => Some(found),
            // e2fsck repairs what no journal tells of, and perhaps knows a feature that is not known here.
            (true, Ok(())) => {
                (!needs_repair() && ExtFileSystem::unreadable_feature(&head).is_none()).then_some(found)
            }
            (false, Err(why)) => Some(Self { unwritten: Some(why), ..found }),
            (false, Ok(())) => None,
        }
    }

    /// What is left where the programs that would write ext4 refuse a feature of it: that it is read.
    pub(in crate::mount) fn instead_of_refusal(
        device: &Arc<dyn BlockDevice>,
        driver: Driver,
        refusal: &Error,
    ) -> Option<Self> {
        let why = match refusal.reason() {
            why if why.contains("newer version of e2fsck") => "e2fsck is too old for it",
            why if why.contains("unsupported feature") => why,
            _ => return None,
        };
        if driver != Driver::Userspace {
            return None;
        }
        let (found, head) = Self::on(device)?;
        let is_readable = matches!(found.contents, Contents::Ext { .. })
            && ExtFileSystem::unreadable_feature(&head).is_none();
        is_readable.then(|| Self { unwritten: Some(why.to_owned()), ..found })
    }

    /// What the device holds, with its first bytes.
    fn on(device: &Arc<dyn BlockDevice>) -> Option<(Self, Vec<u8>)> {
        let device = Arc::new(ByteDevice::new(Arc::clone(device)));
        let len = usize::try_from(device.size()).unwrap_or(usize::MAX).min(signature::HEAD_LEN);
        let mut head = vec![0; len];
        // What cannot be read the driver will tell.
        if device.read_at(&mut head, 0).is_err() {
            return None;
        }
        let contents = Superblock::parse(&head).contents;
        Some((Self { device, contents, unwritten: None }, head))
    }

    /// Whether it replays a journal by itself, if there is one.
    pub(in crate::mount) const fn replays_journals(&self) -> bool {
        matches!(self.contents, Contents::Ext { .. })
    }

    /// Whether it writes none of these, whatever was asked for.
    pub(in crate::mount) const fn only_reads(&self) -> bool {
        matches!(self.contents, Contents::Ntfs)
    }

    /// Mounts it, and puts what must be undone on the session's stack. Gives what tells of its end.
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
    ) -> Result<OwnedFd> {
        let mounted = self.raise(view, mountpoint, session, log);
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
    ) -> Result<OwnedFd> {
        if let Some(missing) = view.missing_end.filter(|_| !view.read_only) {
            // No repair brings it back, and each would write.
            return Err(cut_off(missing));
        }
        ownership::check(self.contents, view.owners, Means::Builtin)?;
        view.options.check(self.contents, Means::Builtin)?;
        let (files, is_written) = match self.contents {
            Contents::Ext { .. } if view.read_only || self.unwritten.is_some() => {
                (self.open_ext(view, session)?, false)
            }
            Contents::Ext { .. } => self.open_ext_to_write(view, session)?,
            Contents::Ntfs => (self.open_ntfs(view, session)?, false),
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
            forbids_programs: view.options.forbids_programs(),
            promptness: Promptness { names, content },
        };
        let export = FilesExport::start(files, path, how, log)?;
        let end = export.end().try_clone_to_owned();
        let mount = find_mount(path, "fuse.");
        let id = mount.as_ref().ok().and_then(|mount| mount.as_ref().map(|mount| mount.id));
        session.sign = Some(Sign::Asked(export.uses()));
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

    fn open_ext(&self, view: View<'_>, session: &mut Session) -> Result<Arc<dyn FileSystem>> {
        let (files, journal) = ExtFileSystem::open(&self.device, view.missing_end.is_some())
            .map_err(|why| self.unusable(view, &why))?;
        if let Some(why) = &self.unwritten {
            session.warnings.push(format!(
                "mounted read-only, as writing this file system takes fuse2fs or the kernel ({why}); \
                 see strongroom doctor"
            ));
        }
        session.warnings.extend(match journal {
            Journal::Replayed => Some(replay::made_whole(Some(Condition::Journal))),
            other => left(other),
        });
        Ok(Arc::new(files))
    }

    /// Opens it to be written, and tells whether it is: there may be something that only others repair.
    fn open_ext_to_write(
        &self,
        view: View<'_>,
        session: &mut Session,
    ) -> Result<(Arc<dyn FileSystem>, bool)> {
        let (files, journal, unwritten) =
            ExtFileSystem::open_to_write(&self.device).map_err(|why| self.unusable(view, &why))?;
        match &unwritten {
            Some(why) => {
                session.warnings.push(format!(
                    "mounted read-only, as strongroom does not write this file system ({why}); see strongroom doctor"
                ));
                session.warnings.extend(match journal {
                    Journal::Replayed => Some(replay::made_whole(Some(Condition::Journal))),
                    other => left(other),
                });
            }
            None if !files.has_journal() => session.warnings.push(
                "this file system has no journal: after a power cut, run e2fsck before you use it again"
                    .to_owned(),
            ),
            None => {}
        }
        Ok((Arc::new(files), unwritten.is_none()))
    }

    fn unusable(&self, view: View<'_>, why: &Unreadable) -> Error {
        match (why, view.missing_end) {
            (Unreadable::Fault(_), Some(missing)) => cut_off(missing),
            (Unreadable::Fault(Fault::Damaged), None) => {
                let reason = format!("the {} file system is damaged", self.contents);
                let error = Error::new(ErrorKind::Io, reason);
                match self.contents {
                    Contents::Ntfs => error.with_hint(REPAIR_NTFS),
                    _ => error.with_hint("mount the volume with --block, and run fsck on DIR/volume"),
                }
            }
            (Unreadable::Fault(other), None) => Error::new(ErrorKind::Io, other.to_string()),
            (Unreadable::Feature(_), _) => Error::new(ErrorKind::Unsupported, why.to_string())
                .with_hint("mount it as root; or use mount --block to see the volume as a file"),
        }
    }
}

/// What is to be said of a volume that shows as it was left.
fn left(journal: Journal) -> Option<String> {
    match journal {
        Journal::Empty | Journal::Replayed => None,
        Journal::Unread(why) => Some(replay::not_replayed(why)),
        Journal::Missing => replay::left_as_it_is((signature::FileSystem::Ext, Condition::Unclean)),
    }
}

/// Whose the files are where nobody said: root, and the owner of the root directory, see those that the volume names. Anybody else
/// who has the key would only be kept out by numbers that mean other people here.
fn usual_owners(files: &dyn FileSystem) -> Owners {
    let me = geteuid();
    match files.attributes(NodeId::ROOT).map(|root| root.rights) {
        Ok(Rights::Posix { uid, .. }) if me.is_root() || uid == me.as_raw() => Owners::Real,
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
            unmount_files(id, &self.stop)?;
            if self.is_held && is_connected((id.major, id.minor)) == Some(true) {
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
