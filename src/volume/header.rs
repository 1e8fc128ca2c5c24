//! Headers outside their containers: backups, and new detached ones.

use std::path::Path;

use super::{Access, Container, Draft};
use crate::{
    crypto::rng::Rng,
    error::{Error, ErrorKind, Result},
    format::{
        FORMATS, Header, HeaderBackup, HeaderInfo, HeaderRestore, NewHeader,
        native::{HeaderFile, NativeHeader},
    },
};

/// Writes the header of `container` to a new file at `target`, mode 0600. Needs no secret.
///
/// `is_shared` says that `container` is not locked, since somebody else has it open for writing: its two header copies must
/// agree then, or they are being changed just now.
///
/// # Errors
/// `Exists` where anything stands at `target`, `Busy` for a header that is being changed, and as [`Format::take_backup`](crate::format::Format::take_backup).
pub fn backup_header(
    container: &Container,
    is_shared: bool,
    target: &Path,
    rng: &dyn Rng,
) -> Result<Box<dyn HeaderBackup>> {
    if target.symlink_metadata().is_ok() {
        return Err(Error::new(ErrorKind::Exists, "it exists").with_hint("choose another name"));
    }
    let backup = container.format()?.take_backup(&*container.storage())?;
    if is_shared && !backup.is_settled() {
        return Err(Error::new(
            ErrorKind::Busy,
            "its header copies are not the same while it is open for writing",
        )
        .with_hint("try again, or unmount it first"));
    }
    let draft = Draft::new(target, false, rng)?;
    backup.write(&*draft.container().storage())?;
    draft.commit(rng)?;
    Ok(backup)
}

/// Opens a container to copy its header: with a lock where nobody writes to it, else without one. True in the latter case.
///
/// # Errors
/// `NotFound`, `Permission`.
pub fn open_for_backup(path: &Path) -> Result<(Container, bool)> {
    match Container::open(path, Access::ReadOnly) {
        Ok(container) => Ok((container, false)),
        Err(error) if error.kind() == ErrorKind::Busy => Ok((Container::peek(path)?, true)),
        Err(error) => Err(error),
    }
}

/// Compares a header file with the container that it is to be restored to.
///
/// # Errors
/// `NotAContainer` where it is no header file, and as [`Format::restore`](crate::format::Format::restore).
pub fn plan_restore(container: &Container, file: &Container) -> Result<Box<dyn HeaderRestore>> {
    let (storage, file) = (container.storage(), file.storage());
    for format in FORMATS {
        if let Some(restore) = format.restore(&*storage, &*file)? {
            container.refuse_other_format(*format)?;
            return Ok(restore);
        }
    }
    Err(Error::new(ErrorKind::NotAContainer, "it is no header file")
        .with_hint("strongroom header backup makes one"))
}

/// Starts a header file at `target` with the header of a new container in it.
///
/// # Errors
/// As [`Draft::new`].
pub fn new_header_file(target: &Path, header: &dyn NewHeader, rng: &dyn Rng) -> Result<Draft> {
    if target.symlink_metadata().is_ok() {
        return Err(Error::new(ErrorKind::Exists, "it exists").with_hint("choose another name"));
    }
    let draft = Draft::new(target, false, rng)?;
    header.write_file(&*draft.container().storage())?;
    Ok(draft)
}

/// Whether what was opened is a header file.
pub fn is_header_file(opened: &Container) -> Result<bool> {
    HeaderFile::is_one(&*opened.storage())
}

/// What a header file says of the container whose header it holds.
///
/// # Errors
/// `Damaged` where the file is, `Unsupported` for one of another version.
pub fn describe_header_file(file: &Container) -> Result<HeaderInfo> {
    let storage = file.storage();
    let header = NativeHeader::of_header_file(&HeaderFile::read(&*storage)?, &*storage)?;
    Ok(header.describe())
}
