//! LUKS1, as `spec/profiles/luks1.md` says; the code cites its rules (`L1-...`).

mod backup;
mod create;
mod editor;
mod header;
mod layout;
mod parse;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use self::parse::HeaderError;
use self::{create::Luks1Blueprint, header::Luks1Header, parse::Parsed};
use crate::{
    crypto::rng::Rng,
    error::Result,
    format::{
        Blueprint, Erasure, Finding, Format, Header, HeaderBackup, HeaderRestore, Probe, Room, Wishes, luks,
    },
    storage::Storage,
};

/// LUKS, version 1.
#[derive(Debug, Clone, Copy)]
pub struct Luks1;

impl Format for Luks1 {
    fn name(&self) -> &'static str {
        "luks1"
    }

    fn plan(&self, room: Room, wishes: &Wishes<'_>, rng: &dyn Rng) -> Result<Box<dyn Blueprint>> {
        Ok(Box::new(Luks1Blueprint::new(room, wishes, rng)?))
    }

    fn probe(&self, storage: &dyn Storage) -> Result<Probe> {
        let mut start = [0; 8];
        match luks::header_of(storage).read_exact_at(&mut start, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(Probe::NoMatch),
            Err(error) => return Err(error.into()),
        }
        let is_ours = [luks::MAGIC, luks::MAGIC_IN_REENCRYPTION].iter().any(|magic| start.starts_with(magic));
        Ok(if is_ours && start.ends_with(&layout::VERSION) { Probe::Match } else { Probe::NoMatch })
    }

    fn read_header(&self, storage: &dyn Storage) -> Result<Box<dyn Header>> {
        Ok(Box::new(Luks1Header::read(storage)?))
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
        Ok(Some(Box::new(backup::Luks1Restore::new(container, file)?)))
    }

    /// Areas of a header that cannot be read are taken to end where those of the longest key do.
    fn erasure(&self, storage: &dyn Storage) -> Result<Erasure> {
        let header = Luks1Header::read(storage).ok();
        let end = header.map_or(USUAL_DATA_OFFSET, |header| header.areas_end());
        luks::erasure(storage, &(layout::FIRST_AREA..end))
    }

    fn check(&self, storage: &dyn Storage) -> Result<Vec<Finding>> {
        match Luks1Header::read(storage) {
            Ok(header) => {
                let findings = vec![Finding::info("header", "whole"), luks::not_authenticated()];
                Ok(findings.into_iter().chain(header.overwritten()).collect())
            }
            Err(error) => luks::finding_of(error),
        }
    }
}

/// Parses a header's bytes, as a fuzz target does. `Ok` where they make a header.
///
/// # Errors
/// What [`Luks1::read_header`] would say.
pub fn check(bytes: &[u8; HEADER_LEN], container_len: u64) -> Result<(), HeaderError> {
    Parsed::parse(bytes, container_len, false).map(drop)
}

/// The size of the header in bytes, without the keyslots' areas.
pub const HEADER_LEN: usize = layout::HEADER_LEN;
/// Where the data begin behind eight keyslots for 512-bit keys, in bytes.
const USUAL_DATA_OFFSET: u64 = 2 << 20;
