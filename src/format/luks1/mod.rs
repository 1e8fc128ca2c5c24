//! LUKS1, as `spec/profiles/luks1.md` says; the code cites its rules (`L1-...`).

mod header;
mod layout;
mod parse;
#[cfg(test)]
mod tests;

pub use self::parse::HeaderError;
use self::{header::Luks1Header, parse::Parsed};
use crate::{
    error::Result,
    format::{Format, Header, Probe, luks},
    storage::Storage,
};

/// LUKS, version 1.
#[derive(Debug, Clone, Copy)]
pub struct Luks1;

impl Format for Luks1 {
    fn name(&self) -> &'static str {
        "luks1"
    }

    fn probe(&self, storage: &dyn Storage) -> Result<Probe> {
        let mut start = [0; 8];
        match storage.read_exact_at(&mut start, 0) {
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
}

/// Parses a header's bytes, as a fuzz target does. `Ok` where they make a header.
///
/// # Errors
/// What [`Luks1::read_header`] would say.
pub fn check(bytes: &[u8; HEADER_LEN], container_len: u64) -> Result<(), HeaderError> {
    Parsed::parse(bytes, container_len).map(drop)
}

/// The size of the header in bytes, without the keyslots' areas.
pub const HEADER_LEN: usize = layout::HEADER_LEN;
