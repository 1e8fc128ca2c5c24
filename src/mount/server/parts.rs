//! The lowest parts of a session: the folder that it was given, and the block file.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::{
    error::{Error, ErrorKind, Result},
    export::FuseExport,
    mount::{
        driver::last_place_of,
        mountinfo::{MountId, MountTable},
        mountpoint::remove_made,
        undo::{Part, Undo},
        whereabouts::current_name,
    },
};

/// The folder that was made to mount on.
#[derive(Debug)]
pub(super) struct MadeMountPoint {
    path: PathBuf,
    /// The folder itself, which a folder above it may be renamed with.
    folder: Option<File>,
}

impl MadeMountPoint {
    /// The folder at `path`, on which nothing is mounted yet.
    pub(super) fn new(path: &Path) -> Self {
        let flags = (OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW).bits().cast_signed();
        let folder = OpenOptions::new().read(true).custom_flags(flags).open(path).ok();
        Self { path: path.to_path_buf(), folder }
    }
}

impl Part for MadeMountPoint {
    fn name(&self) -> &'static str {
        "folder"
    }

    fn undo(&mut self, _how: Undo) -> Result<()> {
        let now = self.folder.take().as_ref().and_then(current_name);
        remove_made(now.as_ref().unwrap_or(&self.path));
        Ok(())
    }
}

/// The block file: above it the drivers, below it the keys.
#[derive(Debug)]
pub(super) struct Export {
    /// The mount.
    pub block: FuseExport,
    /// Which mount it is.
    pub id: MountId,
    /// Whether nothing is to be flushed.
    pub read_only: bool,
    /// Whether it is for the driver or for this program alone: nobody else counts, wherever its mount was copied to.
    pub is_internal: bool,
}

impl Part for Export {
    fn name(&self) -> &'static str {
        "block file"
    }

    fn undo(&mut self, how: Undo) -> Result<()> {
        let place = match how {
            Undo::Clean if !self.is_internal => last_place_of(self.id)?,
            _ => MountTable::read()?.find(self.id).map(|mount| mount.mountpoint.clone()),
        };
        if let Some(place) = &place {
            self.block.follow(place);
        }
        if how == Undo::Clean && !self.read_only && self.block.is_alive() && self.block.is_mounted() {
            // What the kernel's cache still holds goes to the container now, while a failure can be told.
            let file = self.block.path();
            File::open(&file)
                .and_then(|file| file.sync_all())
                .map_err(|error| Error::from(error).during("cannot flush the volume"))?;
        }
        match self.block.stop(how == Undo::Forced) {
            Err(error) if error.kind() == ErrorKind::Busy && self.is_internal => self.block.stop(true),
            stopped => stopped,
        }
    }
}
