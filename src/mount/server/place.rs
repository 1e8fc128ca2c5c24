//! Where a volume is to show, and the record of a session that begins.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    error::Result,
    export::Client,
    mount::{
        driver::Driver,
        mountinfo::{Mount, MountTable},
        mountpoint::MountPoint,
        namespaces,
        protocol::{Order, Target},
        registry::{Entry, Protection, Record, now},
        session::BLOCK,
        whereabouts::Body,
    },
    sys::process::{ProcessId, boot_id, is_root},
    volume::{Container, Volume},
};

/// The target of an order, checked.
pub(super) enum Place {
    Private,
    Block(MountPoint),
    FileSystem(MountPoint, Driver),
    Desktop,
}

/// Whether it is to be mounted on the trigger of an automount.
pub(super) fn is_on_trigger(target: &Target) -> bool {
    let Target::FileSystem { mountpoint, .. } = target else { return false };
    MountTable::read().is_ok_and(|table| table.at(mountpoint).is_some_and(Mount::is_trigger))
}

impl Place {
    pub(super) fn check(target: &Target) -> Result<Self> {
        Ok(match target {
            Target::Private => Self::Private,
            Target::Desktop { .. } => Self::Desktop,
            Target::Block { directory } => Self::Block(MountPoint::open(directory)?),
            Target::FileSystem { mountpoint, driver, made, .. } => {
                let driver = driver.resolve()?;
                let open = if *made { MountPoint::open_made } else { MountPoint::open };
                Self::FileSystem(open(mountpoint)?, driver)
            }
        })
    }

    /// A loop device has the file system's cache above it. Everything else reads and writes in small pieces, which the
    /// kernel shall gather; but root may put a loop device of its own on `--block`.
    pub(super) fn client(&self) -> Client {
        match self {
            Self::FileSystem(_, Driver::Kernel) | Self::Desktop => Client::LoopDevice,
            Self::Block(_) if is_root() => Client::Direct,
            _ => Client::Cached,
        }
    }

    /// Whether the kernel's file system writes to the block file.
    pub(super) const fn is_below_a_driver(&self) -> bool {
        matches!(self, Self::FileSystem(_, Driver::Kernel) | Self::Desktop)
    }

    pub(super) fn mountpoint(&self) -> Option<PathBuf> {
        match self {
            Self::FileSystem(mountpoint, _) => Some(mountpoint.path().to_path_buf()),
            _ => None,
        }
    }

    pub(super) fn driver(&self) -> &'static str {
        match self {
            Self::FileSystem(_, driver) => driver.name(),
            Self::Desktop => Driver::Udisks.name(),
            _ => "none",
        }
    }

    pub(super) fn block_directory(&self, session: &Path) -> PathBuf {
        match self {
            Self::Block(directory) => directory.path().to_path_buf(),
            _ => session.join(BLOCK),
        }
    }
}

/// What a session leaves behind while nothing is mounted yet.
pub(super) fn record(
    order: &Order,
    place: &Place,
    directory: &Path,
    container: &Container,
    volume: &Volume,
    server: ProcessId,
) -> Result<Record> {
    let file = container.file().metadata()?;
    let block_directory = place.block_directory(directory);
    let entry = Entry {
        container: order.container.clone(),
        container_state: None,
        lost_pieces: None,
        header: None,
        header_state: None,
        mountpoint: place.mountpoint(),
        block: Some(block_directory.join(crate::export::VOLUME_FILE)),
        driver: place.driver().to_owned(),
        format: volume.info().format.to_owned(),
        read_only: order.read_only,
        protection: volume.is_protected().then_some(Protection::Active),
        unwritten: None,
        full: None,
        lost_at: None,
        pid: server.pid,
        uuid: volume.info().uuid.clone(),
        mounted_at: now(),
        idle: order.closing.idle.map(|idle| idle.as_secs()),
        close_at: order.closing.at.clone(),
        silent: false,
        unheard: false,
        when_busy: order.closing.when_busy,
        shared_with: order.target.share().cloned(),
        offset: order.section.as_ref().map(|section| section.start),
        dead: false,
    };
    Ok(Record {
        entry,
        ready: false,
        boot_id: boot_id()?,
        namespace: namespaces::own(),
        server,
        container_file: (file.dev(), file.ino()),
        section: order.section.clone(),
        body: Body::of(container),
        former_names: Vec::new(),
        is_held: false,
        made_mountpoint: false,
        block_directory,
        block_mount: None,
        mount: None,
        bookmark: None,
        loop_device: None,
    })
}
