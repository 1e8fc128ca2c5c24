//! A container in another form, with the same bytes: one file, or a folder of pieces. Goes on where it was broken off.

use std::{
    ffi::OsString,
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::OFlags;

use super::{
    Container, Progress,
    draft::{directory_of, rename},
    pieces::{NewPieces, PieceFolder},
};
use crate::{
    crypto::rng::Rng,
    error::{Error, ErrorKind, Result},
    format::{Extent, HeaderInfo, parse_uuid},
    storage::{Storage, give_to_owner, pieces::HEADER_NAME},
};

/// What a container becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One file.
    File,
    /// A folder of pieces of so many bytes, all of them made.
    Pieces(u64),
}

/// Makes `target`, where nothing stands, of the bytes of `container`, whose pieces are unlocked where some were never made, and
/// compares what came to the medium. Until it is whole it has a hidden name. Broken off, it stays there, and is gone on with.
///
/// # Errors
/// `Exists`, also where the hidden name belongs to something else; `Busy` where another command makes it; `Damaged` where the container
/// is cut off; `Io` where what was written reads back differently; `Interrupted` where `progress` breaks off.
pub fn convert(
    container: &Container,
    info: &HeaderInfo,
    (target, form): (&Path, Form),
    rng: &dyn Rng,
    progress: Progress<'_>,
) -> Result<()> {
    let from = container.storage();
    if from.size()? < info.container_size {
        return Err(Error::new(ErrorKind::Damaged, "the container is cut off"));
    }
    let parent = directory_of(target);
    let name = parent.join(hidden_name(target)?);
    let to = match form {
        Form::File => begin_file(&name, target, info.container_size)?,
        Form::Pieces(piece_len) => begin_folder(&name, target, info, piece_len, rng)?,
    };
    if let Some(pieces) = to.pieces() {
        pieces.make_all(false, &mut |_| {
            if progress(0, 2 * info.container_size).is_break() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            Ok(())
        })?;
    }
    copy(&*from, &to, info.container_size, progress)?;
    to.file().sync_all()?;
    if to.pieces().is_some() {
        File::open(&name)?.sync_all()?;
    }
    rename(&name, target, false)?;
    Ok(File::open(parent)?.sync_all()?)
}

/// The name that it has until it is whole: the same each time.
fn hidden_name(target: &Path) -> Result<OsString> {
    let name = target.file_name().ok_or_else(|| Error::usage("that is no name of a file"))?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".strongroom-convert");
    Ok(hidden)
}

fn begin_file(name: &Path, target: &Path, len: u64) -> Result<Container> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(flags)
        .mode(0o600)
        .open(name)
        .map_err(|error| in_the_way(error.into(), name))?;
    give_to_owner(&file, target, &directory_of(target));
    let container = Container::adopt(file, name)?;
    container.file().set_len(len)?;
    Ok(container)
}

fn begin_folder(
    name: &Path,
    target: &Path,
    info: &HeaderInfo,
    piece_len: u64,
    rng: &dyn Rng,
) -> Result<Container> {
    let uuid = info.uuid.as_deref().and_then(parse_uuid);
    let uuid = uuid.ok_or_else(|| Error::new(ErrorKind::Damaged, "it has no UUID"))?;
    let data = info.data_offset..info.data_offset.saturating_add(info.data_size);
    let extent = Extent { container_len: info.container_size, data };
    let mut set = [0; 16];
    rng.fill(&mut set)?;
    let new = NewPieces { uuid, set, extent: &extent, piece_len };
    // What cannot be is refused before anything is made.
    new.geometry()?;
    let parent = directory_of(target);
    match DirBuilder::new().mode(0o700).create(name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && name.is_dir() => {}
        made => made.map_err(|error| in_the_way(error.into(), name))?,
    }
    give_to_owner(&File::open(name)?, target, &parent);
    let folder = PieceFolder::take_up(name, &new, &|file| give_to_owner(file, target, &parent))
        .map_err(|error| in_the_way(error, name))?;
    Container::adopt_folder(folder, &name.join(HEADER_NAME))
}

fn in_the_way(error: Error, name: &Path) -> Error {
    match error.kind() {
        ErrorKind::Exists => error.with_hint(format!("what was begun is in {}: remove it", name.display())),
        _ => error,
    }
}

/// Writes what is not the same yet, and compares all of it once it is on the medium.
fn copy(from: &dyn Storage, to: &Container, len: u64, progress: Progress<'_>) -> Result<()> {
    let storage = to.storage();
    let total = len.saturating_mul(2);
    let mut each = |offset: u64, ours: &[u8], theirs: &[u8]| {
        if ours == theirs { Ok(()) } else { Ok(storage.write_all_at(ours, offset)?) }
    };
    compare(from, &*storage, len, &mut each, &mut |done| progress(done, total))?;
    storage.sync_data()?;
    to.forget_cached();
    let mut each = |_, ours: &[u8], theirs: &[u8]| {
        if ours == theirs {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Io, "what was written reads back differently")
            .with_hint("the medium may be failing"))
    };
    compare(from, &*storage, len, &mut each, &mut |done| progress(len.saturating_add(done), total))
}

/// Is called with an offset, and the bytes there in the one and the other.
type Each<'a> = &'a mut dyn FnMut(u64, &[u8], &[u8]) -> Result<()>;

/// Calls `each` with the bytes of both, from the first to the last.
fn compare(
    from: &dyn Storage,
    to: &dyn Storage,
    len: u64,
    each: Each<'_>,
    progress: &mut dyn FnMut(u64) -> std::ops::ControlFlow<()>,
) -> Result<()> {
    let (mut ours, mut theirs) = (vec![0; CHUNK_LEN], vec![0; CHUNK_LEN]);
    for offset in (0..len).step_by(CHUNK_LEN) {
        let part = usize::try_from(len - offset).map_or(CHUNK_LEN, |left| left.min(CHUNK_LEN));
        let (ours, theirs) = (&mut ours[..part], &mut theirs[..part]);
        from.read_exact_at(ours, offset)?;
        to.read_exact_at(theirs, offset)?;
        each(offset, ours, theirs)?;
        if progress(offset).is_break() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
    }
    Ok(())
}

const CHUNK_LEN: usize = 1 << 20;
