//! What LUKS1 and LUKS2 share: all but their headers' bytes, what these name, and how keyslots change.

pub(super) mod af;
pub(super) mod backup;
pub(super) mod cipher;
pub(super) mod cost;
pub(super) mod create;
pub(super) mod digest;
pub(super) mod editor;
pub(super) mod fingerprint;
pub(super) mod kdf;
pub(super) mod keyslot;
pub(super) mod scan;
pub(super) mod unlock;
pub(super) mod version;
pub(super) mod way_in;

use std::{io, sync::Arc};

use crate::{
    error::{Error, ErrorKind, Result},
    format::{
        Finding, Format, Object, Probe,
        signature::{is_partitioned, read_head},
    },
    storage::{Apart, Storage},
};

/// The magic of a LUKS header, version behind it.
pub(super) const MAGIC: [u8; 6] = *b"LUKS\xba\xbe";
/// What `cryptsetup-reencrypt`, a program of old, made of the magic while it worked on a container.
pub(super) const MAGIC_IN_REENCRYPTION: [u8; 6] = *b"LUKS\xde\xad";

/// The sector of LUKS's own counting, in bytes: IVs, keyslot areas, the payload offset of LUKS1.
pub(super) const UNIT: u64 = 512;

/// Where a header is read from and written to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) storage: &'a dyn Storage,
    /// The data lie elsewhere, and may begin at offset 0 there.
    pub(super) is_detached: bool,
}

impl<'a> Place<'a> {
    /// The place of the header of this container.
    pub(super) fn of(container: &'a dyn Storage) -> Self {
        Self { storage: header_of(container), is_detached: container.header().is_some() }
    }
}

/// Where the header of this container lies: in it, or in a file of its own.
pub(super) fn header_of(container: &dyn Storage) -> &dyn Storage {
    container.header().unwrap_or(container)
}

/// The eight bytes at `offset`, magic and version; `None` where the storage ends before.
///
/// # Errors
/// What reading gave.
pub(super) fn magic_at(storage: &dyn Storage, offset: u64) -> Result<Option<[u8; 8]>> {
    let mut start = [0; 8];
    match storage.read_exact_at(&mut start, offset) {
        Ok(()) => Ok(Some(start)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a table of partitions was written over the first header: the tools that write one leave the magic before it.
///
/// # Errors
/// What reading gave.
pub(super) fn is_partitioned_over(storage: &dyn Storage) -> Result<bool> {
    Ok(is_partitioned(&read_head(storage)?))
}

/// A container beside its header file, where `format` finds a header in that. A container that bears one of its own must be
/// the same (L1-HDR-06, L2-OPEN-06).
pub(super) fn attach(
    format: &dyn Format,
    container: &Arc<dyn Storage>,
    file: Arc<dyn Storage>,
) -> Result<Option<Arc<dyn Storage>>> {
    if format.probe(&*file)? != Probe::Match {
        return Ok(None);
    }
    let apart = Apart::new(Arc::clone(container), file);
    let header = format.read_header(&apart)?.describe();
    if format.probe(&**container)? == Probe::Match {
        let own = format.read_header(&**container).map(|own| own.describe());
        // One that is damaged is why its backup is wanted.
        if let Some(own) =
            own.ok().filter(|own| (&own.uuid, own.data_offset) != (&header.uuid, header.data_offset))
        {
            let name = |uuid: Option<String>| uuid.unwrap_or_else(|| "without a UUID".to_owned());
            let (other, own) = (name(header.uuid), name(own.uuid));
            let reason = format!("the header file belongs to container {other}, and this one is {own}");
            return Err(Error::new(ErrorKind::Usage, reason));
        }
    }
    Ok(Some(Arc::new(apart)))
}

/// A header whose data lie in another file, opened without that.
pub(super) fn detached() -> Error {
    Error::new(ErrorKind::Unsupported, "the header is detached: its data lie in another file")
        .with_hint("name the container, and this file with --header")
}

/// What is to be said of data from `offset` on that end where the container does, wherever that is.
pub(super) fn open_end(container_len: u64, offset: u64, sector_len: u64) -> Finding {
    match container_len.saturating_sub(offset).checked_rem(sector_len) {
        None | Some(0) => Finding::info(
            Object::Data,
            "the header does not say where they end: whether all are there, only their content tells",
        ),
        Some(rest) => Finding::warning(
            Object::Data,
            format!(
                "the container ends {rest} bytes into a sector of {sector_len}: it may have been cut short"
            ),
        ),
    }
}

/// What is to be said of every LUKS header.
pub(super) fn not_authenticated() -> Finding {
    Finding::info("header", "not authenticated: who can write to the container can change it")
}
