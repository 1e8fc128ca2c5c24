//! A container whose header is to be changed, mounted or not: the one place that decides how to get at it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use strongroom::{
    error::{Error, ErrorKind, Result},
    format::{Format, Header},
    mount,
    storage::Storage,
    unlock::{HeaderFile, Part},
    volume::{Access, Container},
};

use super::{
    args::UnlockOptions,
    interrupt,
    mounting::name_holder,
    output::Console,
    unlock::{attach, cannot_open, check_kind, open_to_look, read_header, settle_format},
};

/// A container whose header a command changes. Open it before asking for secrets, write at the very end.
///
/// Where it is not mounted, it is locked from the first moment to the last. Where it is, its server has the lock: the header
/// is read beside it, and only for writing the server's descriptor is borrowed. What is written must therefore refuse a
/// header that has changed since it was read, as [`Editor::commit`](strongroom::format::Editor::commit) does.
#[derive(Debug)]
pub(crate) struct Editable {
    path: PathBuf,
    header: Option<PathBuf>,
    format: Option<&'static dyn Format>,
    part: Part,
    container: Container,
    is_mounted: bool,
}

impl Editable {
    /// Opens the container at `path`, with its header file and as the format that the options name.
    ///
    /// # Errors
    /// `Busy` where somebody has it who does not lend it: another program, a mount that is read-only. As [`Container::open`].
    pub(crate) fn open(console: Console, path: &Path, options: &UnlockOptions) -> Result<Self> {
        check_kind(path)?;
        let header = options.header_file();
        let open = || -> Result<Self> {
            let (mut container, is_mounted) = match Self::lock(path, header) {
                Ok(container) => (container, false),
                Err(error) if error.kind() == ErrorKind::Busy => {
                    let container = open_to_look(path, header)?;
                    if !mount::can_borrow(path, container.section().as_ref())? {
                        return Err(name_holder(error, path));
                    }
                    (container, true)
                }
                Err(error) => return Err(error),
            };
            settle_format(console, &mut container, options)?;
            Ok(Self {
                path: path.to_path_buf(),
                header: options.header.clone(),
                format: header.format,
                part: header.part,
                container,
                is_mounted,
            })
        };
        open().map_err(|error| cannot_open(error, path))
    }

    /// Where the container lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The header as it is now.
    pub(crate) fn header(&self) -> Result<Box<dyn Header>> {
        read_header(&self.container)
    }

    /// The container's bytes, to be read.
    pub(crate) fn storage(&self) -> Arc<dyn Storage> {
        self.container.storage()
    }

    /// Runs `work` on the container, open for writing and locked.
    ///
    /// # Errors
    /// `Busy` where it is mounted and cannot be borrowed now; those of `work`.
    pub(crate) fn write<T>(&self, work: impl FnOnce(&dyn Storage) -> Result<T>) -> Result<T> {
        if !self.is_mounted {
            return work(&*self.container.storage());
        }
        match mount::borrow(&self.path, self.container.section().as_ref())? {
            Some(loan) => work(&*loan.container().storage()),
            // It was unmounted while a password was typed.
            None => work(&*self.reopen()?.storage()),
        }
    }

    fn reopen(&self) -> Result<Container> {
        let header = HeaderFile { path: self.header.as_deref(), format: self.format, part: self.part };
        Self::lock(&self.path, header).map_err(|error: Error| match error.kind() {
            ErrorKind::Busy => name_holder(error, &self.path),
            _ => error,
        })
    }

    /// Opens and locks the container, and its header file.
    fn lock(path: &Path, header: HeaderFile<'_>) -> Result<Container> {
        interrupt::asking_at_liberty(path, || {
            let mut container = Container::open(path, Access::ReadWrite)?;
            attach(&mut container, header, |header| Container::open(header, Access::ReadWrite))?;
            Ok(container)
        })
    }
}
