//! `convert`: one file becomes a folder of pieces, and the other way round.

use std::path::Path;

use serde::Serialize;
use strongroom::{
    crypto::rng::OsRng,
    error::{Error, ErrorKind, Result},
    format::{Format, native::Native},
    volume::{Access, Form, convert, glance},
};

use super::{
    args::{ConvertOptions, Split},
    interrupt,
    mounting::open,
    output::Console,
    plan::cannot_make,
    progress::ByteProgress,
    unlock::{cannot_open, read_header, settle_format, unlock},
};

/// Makes a container of another form with the same bytes.
pub(crate) fn run(console: Console, options: &ConvertOptions) -> Result<()> {
    copy(console, options).map_err(|error| {
        let error = match error.kind() {
            ErrorKind::Interrupted | ErrorKind::NoSpace => {
                error.with_hint("what was copied is kept beside it, hidden; the same command goes on")
            }
            _ => error,
        };
        cannot_make(error, "make", &options.new)
    })
}

#[derive(Debug, Serialize)]
struct Converted<'a> {
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    container: &'a Path,
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    new: &'a Path,
    container_size: u64,
    piece_size: Option<u64>,
}

fn copy(console: Console, options: &ConvertOptions) -> Result<()> {
    let path = options.container.as_path();
    let mut container = open(path, options.unlock.header_file(), Access::ReadOnly)?;
    settle_format(console, &mut container, &options.unlock)?;
    let header = read_header(&container)?;
    let info = header.describe();
    let cannot = |reason: &str| {
        Error::new(ErrorKind::Usage, reason).during(format!("cannot convert {}", path.display()))
    };
    if info.format != Native.name() {
        return Err(cannot("only containers of strongroom's own format can be folders of pieces"));
    }
    if container.header_file().is_some() || container.section().is_some() {
        return Err(cannot("its header is elsewhere, or it is only a part of a file"));
    }
    if info.reencryption {
        return Err(cannot("a re-encryption is under way").with_hint("strongroom reencrypt ends it"));
    }
    let (form, piece_size) = match options.split {
        Split::None if container.pieces().is_none() => {
            return Err(cannot("it is one file already").with_hint("--split 8M makes a folder of pieces"));
        }
        Split::None => (Form::File, None),
        Split::Of(piece_len) => (Form::Pieces(piece_len), Some(piece_len)),
    };
    if options.new.symlink_metadata().is_ok() {
        return Err(Error::new(ErrorKind::Exists, "it already exists").with_hint("choose another name"));
    }
    if container.pieces().is_some_and(|pieces| !pieces.is_complete()) {
        options.unlock.check_source_for(&*header)?;
        let unlocked = unlock(console, path, &*header, &options.unlock, options.keyslot.slot)?;
        container.unlock_pieces(&info, &unlocked).map_err(|error| cannot_open(error, path))?;
    }
    interrupt::asking_at_liberty(path, || glance(&container)).map_err(|error| cannot_open(error, path))?;

    let progress = ByteProgress::start(console, "copying");
    convert(&container, &info, (&options.new, form), &OsRng, &mut |done, total| progress.step(done, total))?;
    drop(progress);
    let converted =
        Converted { container: path, new: &options.new, container_size: info.container_size, piece_size };
    console.done(&converted, |made| {
        format!("made {} of {}, which stays as it is", made.new.display(), made.container.display())
    });
    if !console.is_json() {
        console.note("both open with the same passwords: remove the old one when the new one opens");
    }
    Ok(())
}
