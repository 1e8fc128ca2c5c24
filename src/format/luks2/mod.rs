//! LUKS2, as `spec/profiles/luks2.md` says; the code cites its rules (`L2-...`).

mod backup;
mod copies;
mod copy;
mod create;
mod edit;
mod editor;
mod error;
mod fingerprint;
mod foreign;
mod header;
mod json;
mod keyslot;
mod layout;
mod limited;
mod metadata;
mod segment;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use self::error::HeaderError;
use self::{copies::has_magic, create::Luks2Blueprint, header::Luks2Header, metadata::Metadata};
use crate::{
    crypto::rng::Rng,
    error::Result,
    format::{
        Blueprint, Erasure, Finding, Format, Header, HeaderBackup, HeaderRestore, Probe, Room, Wishes, luks,
    },
    storage::Storage,
};

/// LUKS, version 2.
#[derive(Debug, Clone, Copy)]
pub struct Luks2;

impl Format for Luks2 {
    fn name(&self) -> &'static str {
        "luks2"
    }

    fn plan(&self, room: Room, wishes: &Wishes<'_>, rng: &dyn Rng) -> Result<Box<dyn Blueprint>> {
        Ok(Box::new(Luks2Blueprint::new(room, wishes, rng)?))
    }

    fn probe(&self, storage: &dyn Storage) -> Result<Probe> {
        Ok(if has_magic(luks::header_of(storage))? { Probe::Match } else { Probe::NoMatch })
    }

    fn read_header(&self, storage: &dyn Storage) -> Result<Box<dyn Header>> {
        Ok(Box::new(Luks2Header::read(storage)?))
    }

    fn attach(
        &self,
        container: Arc<dyn Storage>,
        file: Arc<dyn Storage>,
    ) -> Result<Option<Arc<dyn Storage>>> {
        luks::attach(self, &container, file)
    }

    fn take_backup(&self, container: &dyn Storage) -> Result<Box<dyn HeaderBackup>> {
        Ok(Box::new(backup::take(container)?))
    }

    fn restore(&self, container: &dyn Storage, file: &dyn Storage) -> Result<Option<Box<dyn HeaderRestore>>> {
        if self.probe(file)? != Probe::Match {
            return Ok(None);
        }
        Ok(Some(Box::new(backup::Luks2Restore::new(container, file)?)))
    }

    /// Areas of a header that cannot be read are taken to end where cryptsetup lets data begin.
    fn erasure(&self, storage: &dyn Storage) -> Result<Erasure> {
        let header = Luks2Header::read(storage).ok();
        let areas = header.map_or(layout::USUAL_AREAS, |header| header.areas());
        luks::erasure(storage, &areas)
    }

    fn check(&self, storage: &dyn Storage) -> Result<Vec<Finding>> {
        match Luks2Header::read(storage) {
            Ok(header) => Ok(header.examine()),
            Err(error) => luks::finding_of(error),
        }
    }
}

/// Parses the text of a JSON area, as a fuzz target does. `Ok` where it makes metadata of a header of `header_len` bytes.
///
/// # Errors
/// What [`Luks2::read_header`] would say.
pub fn check_json(text: &[u8], header_len: u64) -> Result<(), HeaderError> {
    Metadata::parse(text, header_len, false).map(drop)
}
