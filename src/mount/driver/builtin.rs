//! FAT and exFAT without privileges: read and written by the server itself, which serves the files by FUSE. There is no block file.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, atomic::AtomicBool},
};

use super::{Driver, DriverChoice, cut_off, detach_files, find_mount, unmount_files, userspace::source_of};
use crate::{
    error::{Error, ErrorKind, Result},
    export::{FilesExport, FilesMount},
    filesystem::{FatFileSystem, Fault, FileSystem},
    mount::{
        filesystem::{Contents, Superblock},
        mountinfo::MountId,
        mountpoint::MountPoint,
        session::Session,
        undo::{Log, Part, Undo},
    },
    sys::fuse_mount::is_connected,
    volume::{BlockDevice, ByteDevice, signature},
};

/// A file system that the server reads by itself.
#[derive(Debug)]
pub(in crate::mount) struct Builtin {
    device: Arc<ByteDevice>,
    contents: Contents,
}

impl Builtin {
    /// What the device holds, where it is left to the server: `driver` is what the user's `choice` came to.
    pub(in crate::mount) fn of(
        device: &Arc<dyn BlockDevice>,
        choice: DriverChoice,
        driver: Driver,
    ) -> Option<Self> {
        let device = Arc::new(ByteDevice::new(Arc::clone(device)));
        let len = usize::try_from(device.size()).unwrap_or(usize::MAX).min(signature::HEAD_LEN);
        let mut head = vec![0; len];
        // What cannot be read the driver will tell.
        if device.read_at(&mut head, 0).is_err() {
            return None;
        }
        let contents = Superblock::parse(&head).contents;
        contents.is_builtin(choice, driver).then_some(Self { device, contents })
    }

    /// Mounts it, and puts what must be undone on the session's stack. Gives what tells of its end.
    ///
    /// # Errors
    /// `Io` where the file system is damaged, `Damaged` where its end is missing, or what mounting FUSE gave.
    pub(in crate::mount) fn mount(
        self,
        (read_only, missing_end): (bool, Option<&str>),
        mountpoint: &MountPoint,
        session: &mut Session,
        log: &Log,
    ) -> Result<OwnedFd> {
        let mounted = self.raise((read_only, missing_end), mountpoint, session, log);
        let end = mounted
            .map_err(|error| error.during(format!("cannot mount on {}", mountpoint.path().display())))?;
        if let Some(missing) = missing_end {
            session.warnings.push(format!("{missing}; files that lie there cannot be read"));
        }
        Ok(end)
    }

    fn raise(
        self,
        (read_only, missing_end): (bool, Option<&str>),
        mountpoint: &MountPoint,
        session: &mut Session,
        log: &Log,
    ) -> Result<OwnedFd> {
        if let Some(missing) = missing_end.filter(|_| !read_only) {
            // No repair brings it back, and each would write.
            return Err(cut_off(missing));
        }
        let (files, repair) =
            FatFileSystem::open(&self.device, read_only).map_err(|fault| match missing_end {
                Some(missing) => cut_off(missing),
                None => unusable(self.contents, fault),
            })?;
        if !repair.is_empty() {
            let name = files.name();
            session
                .warnings
                .push(format!("the {name} file system was not left clean, and was repaired: {repair}"));
        }
        let path = mountpoint.path();
        let source = source_of(session);
        let subtype = self.contents.kernel_name().unwrap_or("vfat");
        let how = FilesMount { source: &source.to_string_lossy(), subtype, read_only };
        let export = FilesExport::start(Arc::new(files), path, how, log)?;
        let end = export.end().try_clone_to_owned();
        let mount = find_mount(path, "fuse.");
        let id = mount.as_ref().ok().and_then(|mount| mount.as_ref().map(|mount| mount.id));
        session.parts.push(Files { export, id, stop: Arc::clone(session.stop()), is_held: false });
        if mount?.is_none() {
            return Err(Error::new(ErrorKind::Io, "the mount does not show"));
        }
        session.note(|record| {
            record.mount = id;
            "builtin".clone_into(&mut record.entry.driver);
            record.entry.block = None;
        })?;
        session.check_stop()?;
        Ok(end?)
    }
}

fn unusable(contents: Contents, fault: Fault) -> Error {
    match fault {
        Fault::Damaged => Error::new(ErrorKind::Io, format!("the {contents} file system is damaged"))
            .with_hint("mount the volume with --block, and run fsck on DIR/volume"),
        other => Error::new(ErrorKind::Io, other.to_string()),
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
