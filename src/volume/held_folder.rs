//! A copy of a folder of pieces, of the files that are held open: the way out where some of them were deleted or replaced.

use std::{
    fs::{self, DirBuilder, File},
    io,
    ops::ControlFlow,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::Path,
    sync::Arc,
};

use rustix::fs::{fsync, statvfs};

use super::{Container, duplicate_to, room::has_room};
use crate::{
    error::{Error, ErrorKind, Result},
    storage::{
        FileStorage,
        pieces::{COPY_NAME, HEADER_NAME, Pieces, piece_name},
    },
};

/// The open files of a folder of pieces.
#[derive(Debug, Clone)]
pub struct HeldFolder {
    pieces: Arc<Pieces>,
    header: Arc<FileStorage>,
    copy: Arc<FileStorage>,
}

impl HeldFolder {
    /// Those of a container; `None` where it is no folder.
    pub fn of(container: &Container) -> Option<Self> {
        let folder = container.folder()?;
        let (pieces, header, copy) = (folder.pieces(), folder.header(), folder.copy());
        Some(Self { pieces: Arc::clone(pieces), header: Arc::clone(header), copy: Arc::clone(copy) })
    }

    /// The bytes that a copy takes.
    ///
    /// # Errors
    /// What asking for them gave.
    pub fn takes(&self) -> io::Result<u64> {
        let around = |file: &File| file.metadata().map(|found| found.blocks().saturating_mul(512));
        let mut takes = around(self.header.file())?.saturating_add(around(self.copy.file())?);
        for index in self.made() {
            takes = takes.saturating_add(self.pieces.takes(index)?);
        }
        Ok(takes)
    }

    /// Whether a copy fits into the folder `directory` now, and a little more.
    ///
    /// # Errors
    /// What asking gave.
    pub fn has_room_in(&self, directory: &Path) -> io::Result<bool> {
        Ok(has_room(&statvfs(directory)?, self.takes()?))
    }

    /// Copies what is held, and of the rest what bears its name, to the new folder `target`. A piece that is lost is not in it.
    ///
    /// # Errors
    /// `Exists`; what copying gave. Nothing stays then.
    pub fn duplicate_to(&self, target: &Path) -> Result<()> {
        DirBuilder::new().mode(0o700).create(target).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::new(ErrorKind::Exists, "it already exists"),
            _ => Error::from(error),
        })?;
        self.fill(target).inspect_err(|_| {
            // The first error is told.
            let _ = fs::remove_dir_all(target);
        })
    }

    fn fill(&self, target: &Path) -> Result<()> {
        for index in self.made() {
            let piece = self.pieces.to_copy(index)?;
            if let Some(file) = piece.as_ref().and_then(|piece| piece.descriptor()) {
                duplicate_to(file, &target.join(piece_name(index)), &mut |_, _| ControlFlow::Continue(()))?;
            }
        }
        // Last: without them it is no container.
        for (name, file) in [(COPY_NAME, self.copy.file()), (HEADER_NAME, self.header.file())] {
            duplicate_to(file, &target.join(name), &mut |_, _| ControlFlow::Continue(()))?;
        }
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        for folder in [target, parent.unwrap_or(Path::new("."))] {
            fsync(File::open(folder)?).map_err(io::Error::from)?;
        }
        Ok(())
    }

    fn made(&self) -> impl Iterator<Item = u32> {
        (0..self.pieces.geometry().pieces()).filter(|index| self.pieces.has_made(*index))
    }
}
