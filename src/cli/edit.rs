//! A container whose header is to be changed, mounted or not: the one place that decides how to get at it.

use std::path::{Path, PathBuf};

use strongroom::{
    error::Result,
    format::Header,
    storage::Storage,
    volume::{Access, Container},
};

use super::{mounting, unlock::cannot_open};

/// A container whose header a command changes. Open it before asking for secrets, write at the very end.
#[derive(Debug)]
pub(crate) struct Editable {
    path: PathBuf,
    container: Container,
}

impl Editable {
    /// Opens and locks the container at `path`.
    ///
    /// # Errors
    /// `Busy` where somebody has it who does not lend it; as [`Container::open`].
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let container = mounting::open(path, Access::ReadWrite)?;
        Ok(Self { path: path.to_path_buf(), container })
    }

    /// The header as it is now.
    pub(crate) fn header(&self) -> Result<Box<dyn Header>> {
        self.container.header().map_err(|error| cannot_open(error, &self.path))
    }

    /// Runs `work` on the container, open for writing and locked.
    pub(crate) fn write<T>(&self, work: impl FnOnce(&dyn Storage) -> Result<T>) -> Result<T> {
        work(&*self.container.storage())
    }
}
