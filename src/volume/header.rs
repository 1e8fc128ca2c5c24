//! Headers outside their containers: backups, and new detached ones.

use std::{
    ffi::OsStr,
    ops::Range,
    path::{Path, PathBuf},
};

use super::{Access, Container, Draft, within::luks_elsewhere};
use crate::{
    crypto::rng::Rng,
    error::{Error, ErrorKind, Result},
    format::{FORMATS, Format, Header, HeaderBackup, HeaderRestore, NewHeader, Probe, freeotfe},
    storage::Storage,
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
        return Err(Error::new(ErrorKind::Exists, "it already exists").with_hint("choose another name"));
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

/// Compares a header file with the container that it is to be restored to. `is_forced` lets it take the place of another
/// format's header.
///
/// # Errors
/// `NotAContainer` where it is not a header file, and as [`Format::restore`](crate::format::Format::restore).
pub fn plan_restore(
    container: &Container,
    file: &Container,
    is_forced: bool,
) -> Result<Box<dyn HeaderRestore>> {
    let file_shows_nothing = file.shows_nothing()?;
    let (storage, file) = (container.storage(), file.storage());
    for format in FORMATS {
        // What bears another format's header says so, and not what this format finds wrong with that.
        if !is_forced && format.probe(&*file)? == Probe::Match {
            container.refuse_other_format(*format).map_err(|error| {
                let header = format.read_header_file(&*file).ok().flatten();
                let uuid = header.and_then(|header| header.describe().uuid);
                match uuid.and_then(|uuid| luks_elsewhere(&storage, &uuid).ok().flatten()) {
                    Some(start) => error.with_hint(format!(
                        "the container that it belongs to begins at byte {start}: --offset {start}"
                    )),
                    None => error.with_hint(OTHER_FORMAT),
                }
            })?;
        }
        if let Some(restore) = format.restore(&*storage, &*file)? {
            return Ok(restore);
        }
    }
    let error = Error::new(ErrorKind::NotAContainer, "it is not a header file");
    Err(match container.assumed().map(Format::name) {
        Some(freeotfe::NAME) => {
            Error::new(ErrorKind::Unsupported, "strongroom does not restore FreeOTFE headers")
                .with_hint("LibreCrypt does it on Windows; they are the first 512 bytes of a volume")
        }
        _ if file_shows_nothing => error.with_hint(
            "strongroom header backup makes one; one of VeraCrypt or TrueCrypt takes --format veracrypt or truecrypt",
        ),
        _ => error.with_hint("strongroom header backup makes one"),
    })
}

const OTHER_FORMAT: &str = "strongroom info on both says which is which; if the backup is right: --force, which keeps what was there in a file";

/// What stood where a header was put, kept in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The file, mode 0600.
    pub file: PathBuf,
    /// Where its bytes were; `None` where the file is a backup of a whole header.
    pub offset: Option<u64>,
    /// In what: the container, or its header file.
    pub of: PathBuf,
}

/// Keeps what `restore` is about to overwrite: as a backup where it is a whole header, or else byte for byte what is not
/// zeros. The files get the container's name and an ending, in the first of `folders` that takes them.
///
/// # Errors
/// What reading gave; what writing in the last of `folders` gave.
pub fn keep_replaced(
    container: &Container,
    restore: &dyn HeaderRestore,
    folders: &[PathBuf],
    rng: &dyn Rng,
) -> Result<Vec<Kept>> {
    let storage = container.storage();
    // In the place of a copy that is not whole something else may stand, which no backup has.
    if restore.present().is_some()
        && let Ok(backup) = container.format().and_then(|format| format.take_backup(&*storage))
        && backup.left_out().is_empty()
    {
        let file = keep_in(folders, container, "replaced", rng, |file| backup.write(file))?;
        return Ok(vec![Kept { file, offset: None, of: container.path().to_path_buf() }]);
    }
    keep_bytes(container, &restore.places(), folders, rng)
}

/// Keeps bytes of a container, or of its header file, that are about to be overwritten, where they are not all zeros: a file
/// for each range, as [`keep_replaced`]. What the medium does not give counts as zeros.
///
/// # Errors
/// As [`keep_replaced`].
pub fn keep_bytes(
    container: &Container,
    ranges: &[Range<u64>],
    folders: &[PathBuf],
    rng: &dyn Rng,
) -> Result<Vec<Kept>> {
    let storage = container.storage();
    let place = storage.header().unwrap_or(&*storage);
    let size = place.size()?;
    let of = container.header_path().unwrap_or(container.file_path());
    let mut kept = Vec::new();
    for range in ranges {
        let lent = place.windows().iter().find(|window| window.shown.contains(&range.start));
        let end = range.end.min(lent.map_or(size, |window| window.shown.end));
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(range.start)).unwrap_or(0)];
        read_what_is_given(place, &mut bytes, range.start);
        if bytes.iter().all(|byte| *byte == 0) {
            continue;
        }
        let ending = format!("replaced-at-{}", range.start);
        let file = keep_in(folders, container, &ending, rng, |file| {
            file.write_all_at(&bytes, 0)?;
            Ok(file.sync_data()?)
        })?;
        // What stands in a header file does not move with the container's section.
        let section =
            container.section().filter(|_| storage.header().is_none()).map_or(0, |section| section.start);
        let offset = lent.map_or(section.saturating_add(range.start), |window| {
            window.source + (range.start - window.shown.start)
        });
        // Each header file of a folder of pieces has its own bytes.
        let in_folder = container.pieces().and_then(|pieces| pieces.place_in_header(range.start));
        let (of, offset) = match in_folder {
            Some((name, at)) => (of.with_file_name(name), at),
            None => (of.to_path_buf(), offset),
        };
        kept.push(Kept { file, offset: Some(offset), of });
    }
    Ok(kept)
}

/// Fills `bytes` from `offset`; blocks that the medium does not give stay zeros.
fn read_what_is_given(place: &dyn Storage, bytes: &mut [u8], offset: u64) {
    if place.read_exact_at(bytes, offset).is_ok() {
        return;
    }
    for (block, offset) in bytes.chunks_mut(BLOCK_LEN).zip((offset..).step_by(BLOCK_LEN)) {
        if place.read_exact_at(block, offset).is_err() {
            block.fill(0);
        }
    }
}

/// Makes a new file with the container's name and this ending, and a number where there is one already.
fn keep_in(
    folders: &[PathBuf],
    container: &Container,
    ending: &str,
    rng: &dyn Rng,
    write: impl Fn(&dyn Storage) -> Result<()>,
) -> Result<PathBuf> {
    let name = container.path().file_name().unwrap_or(OsStr::new("container"));
    let mut failure = Error::new(ErrorKind::Io, "there is no folder for it");
    for folder in folders {
        for number in 1..=MOST_KEPT {
            let mut name = name.to_owned();
            name.push(format!(".{ending}"));
            if number > 1 {
                name.push(format!("-{number}"));
            }
            let target = folder.join(name);
            if target.symlink_metadata().is_ok() {
                continue;
            }
            let made = Draft::new(&target, false, rng).and_then(|draft| {
                write(&*draft.container().storage())?;
                draft.commit(rng)
            });
            match made {
                Ok(()) => return Ok(target),
                Err(error) => failure = error,
            }
            break;
        }
    }
    Err(failure)
}

/// So many headers of one container are kept in a folder.
const MOST_KEPT: u32 = 1000;
/// What a medium fails to give is a block of this size, or several.
const BLOCK_LEN: usize = 4096;

/// Starts a header file at `target` with the header of a new container in it.
///
/// # Errors
/// As [`Draft::new`].
pub fn new_header_file(target: &Path, header: &dyn NewHeader, rng: &dyn Rng) -> Result<Draft> {
    if target.symlink_metadata().is_ok() {
        return Err(Error::new(ErrorKind::Exists, "it already exists").with_hint("choose another name"));
    }
    let draft = Draft::new(target, false, rng)?;
    header.write_file(&*draft.container().storage())?;
    Ok(draft)
}

/// The header in what was opened, where that is a header without its container: a backup, or a detached header.
///
/// # Errors
/// `Damaged` where the file is, `Unsupported` for one of another version.
pub fn header_without_container(opened: &Container) -> Result<Option<Box<dyn Header>>> {
    if opened.header_file().is_some() || opened.pieces().is_some() {
        return Ok(None);
    }
    let storage = opened.storage();
    if let Some(format) = opened.assumed() {
        return format.read_header_file(&*storage);
    }
    for format in FORMATS {
        if let Some(header) = format.read_header_file(&*storage)? {
            return Ok(Some(header));
        }
    }
    Ok(None)
}
