//! LUKS1, as `spec/profiles/luks1.md` says; the code cites its rules (`L1-...`).

mod create;
mod editor;
mod header;
mod layout;
mod parse;
#[cfg(test)]
mod tests;
mod unopened;

use std::ops::Range;

pub use self::parse::HeaderError;
use self::{header::Luks1Header, parse::Parsed, unopened::UnopenedHeader};
use crate::{
    error::{Error, Result},
    format::{
        Header,
        luks::{MAGIC, MAGIC_IN_REENCRYPTION, header_of, is_partitioned_over, magic_at, version::Version},
    },
    storage::Storage,
};

/// LUKS, version 1.
#[derive(Debug, Clone, Copy)]
pub struct Luks1;

impl Version for Luks1 {
    const NAME: &'static str = "luks1";
    /// They end where those of eight keyslots for the longest key do.
    const USUAL_AREAS: Range<u64> = layout::FIRST_AREA..2 << 20;
    const OTHER_COPIES: &'static [u64] = &[];

    type Header = Luks1Header;

    fn has_magic(header: &dyn Storage) -> Result<bool> {
        let is_ours = |start: &[u8; 8]| {
            let mut magics = [MAGIC, MAGIC_IN_REENCRYPTION].iter();
            magics.any(|magic| start.starts_with(magic)) && start.ends_with(&layout::VERSION)
        };
        Ok(magic_at(header, 0)?.as_ref().is_some_and(is_ours) && !is_partitioned_over(header)?)
    }

    fn read_unopened(container: &dyn Storage, error: Error) -> Result<Box<dyn Header>> {
        let mut bytes = [0; HEADER_LEN];
        if header_of(container).read_exact_at(&mut bytes, 0).is_err() {
            return Err(error);
        }
        let len = container.size()?;
        let reason = Parsed::parse(&bytes, len, container.header().is_some()).err();
        match reason.and_then(|reason| UnopenedHeader::new(&bytes, len, reason)) {
            Some(header) => Ok(Box::new(header)),
            None => Err(error),
        }
    }
}

/// Whether the keyslots in the first sector of a header are in one of their two states, whatever else stands there.
pub(in crate::format) fn has_keyslots(sector: &[u8]) -> bool {
    let state =
        |slot: usize| sector.get(slot.saturating_mul(48).saturating_add(208)..)?.first_chunk().copied();
    let is_state = |slot| {
        let state = state(slot).map(u32::from_be_bytes);
        state.is_some_and(|state| matches!(state, layout::ACTIVE | layout::FREE))
    };
    (0..7).all(is_state)
}

/// Parses a header's bytes, as a fuzz target does. `Ok` where they make a header.
///
/// # Errors
/// What [`Format::read_header`](super::Format::read_header) would say.
pub fn check(bytes: &[u8; HEADER_LEN], container_len: u64) -> Result<(), HeaderError> {
    Parsed::parse(bytes, container_len, false).map(drop)
}

/// The size of the header in bytes, without the keyslots' areas.
pub const HEADER_LEN: usize = layout::HEADER_LEN;
