//! Taking a copy of the header, and putting it back.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::{copies::Copies, copy::CopyIndex, header::Luks2Header};
use crate::{
    crypto::rng::OsRng,
    error::{Error, ErrorKind, Result},
    format::{
        CopyState, Header, HeaderInfo, HeaderRestore, Unlocked,
        luks::{
            Place,
            backup::{LuksBackup, compare, read_front, write_checked},
        },
    },
    storage::Storage,
};

/// Copies both header copies and the areas (L2-BACKUP-01).
///
/// # Errors
/// As reading the header; `Busy` during a re-encryption.
pub(super) fn take(container: &dyn Storage) -> Result<LuksBackup> {
    let header = Luks2Header::read(container)?;
    header.refuse_reencryption()?;
    let info = header.describe();
    let states = ["first", "second"].into_iter().zip(&info.headers);
    let broken = states.filter(|(_, copy)| matches!(copy.state, CopyState::Damaged | CopyState::Missing));
    let left_out: Vec<String> = broken.map(|(name, _)| name.to_owned()).collect();
    let is_settled = info.headers.iter().all(|copy| copy.state == CopyState::Current);
    let bytes = read_front(Place::of(container).storage, header.areas().end)?;
    Ok(LuksBackup { uuid: info.uuid, left_out, is_settled, bytes })
}

/// A header about to be put in the place of what a container has.
#[derive(Debug)]
pub(super) struct Luks2Restore {
    source: Luks2Header,
    present: Option<Luks2Header>,
    warnings: Vec<String>,
    bytes: Vec<u8>,
}

impl Luks2Restore {
    /// Compares `file` with the container (L2-BACKUP-02).
    ///
    /// # Errors
    /// As [`compare`]; `Usage` where the areas have another size, `Busy` where a re-encryption is under way; those of reading
    /// the header in `file`.
    pub(super) fn new(container: &dyn Storage, file: &dyn Storage) -> Result<Self> {
        let source = Luks2Header::read_file(file)?;
        let present = match Luks2Header::read(container) {
            Ok(header) => Some(header),
            Err(error) if matches!(error.kind(), ErrorKind::NotAContainer | ErrorKind::Damaged) => None,
            Err(error) => return Err(error),
        };
        for header in present.iter().chain([&source]) {
            header.refuse_reencryption()?;
        }
        if present.as_ref().is_some_and(|present| present.areas() != source.areas()) {
            let reason = "header and areas have other sizes than in the header to be restored";
            return Err(Error::new(ErrorKind::Usage, reason));
        }
        let is_same_key = present.as_ref().is_some_and(|present| present.has_same_key(&source));
        let there = present.as_ref().map(|header| -> &dyn Header { header });
        let warnings = compare(&source, there, container.size()?, is_same_key)?;
        let bytes = read_front(file, source.areas().end)?;
        Ok(Self { source, present, warnings, bytes })
    }
}

impl HeaderRestore for Luks2Restore {
    fn source(&self) -> &dyn Header {
        &self.source
    }

    fn present(&self) -> Option<HeaderInfo> {
        self.present.as_ref().map(Header::describe)
    }

    fn takes_secret(&self) -> bool {
        false
    }

    fn overwritten(&self) -> usize {
        self.bytes.len()
    }

    fn warnings(&self, _: Option<&Unlocked>) -> Vec<String> {
        self.warnings.clone()
    }

    /// L2-BACKUP-03: the areas, then both copies, under a sequence id above those that are there: with its own the restored
    /// header would be taken for the stale one after a stop half-way.
    fn write(&self, container: &dyn Storage, _: Option<&Unlocked>) -> Result<()> {
        let storage = Place::of(container).storage;
        let start = self.source.areas().start;
        let areas = usize::try_from(start).ok().and_then(|start| self.bytes.get(start..));
        let areas =
            areas.ok_or_else(|| Error::new(ErrorKind::Damaged, "the header to be restored is cut off"))?;
        let (there, kept) = match Copies::read(Place::of(container)) {
            Ok(copies) => (copies.newest_sequence(), copies.index()),
            Err(_) => (0, CopyIndex::First),
        };
        let new = self.source.copy().after(there, &OsRng)?;
        write_checked(storage, areas, start)?;
        new.write_as(kept.other(), storage)?;
        new.write_as(kept, storage)
    }
}
