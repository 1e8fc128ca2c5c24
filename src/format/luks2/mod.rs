//! LUKS2, as `spec/profiles/luks2.md` says; the code cites its rules (`L2-...`).

mod copies;
mod copy;
mod create;
mod details;
mod edit;
mod editor;
mod error;
mod fault;
mod fingerprint;
mod header;
mod json;
mod keyslot;
mod layout;
mod limited;
mod metadata;
mod orphan;
mod remains;
mod segment;
#[cfg(test)]
mod tests;
mod volume;

use std::ops::Range;

pub use self::error::HeaderError;
use self::{header::Luks2Header, metadata::Metadata};
pub(in crate::format) use self::{
    layout::{HEADER_LENS, SECOND_MAGIC},
    orphan::Orphan,
};
use crate::{error::Result, format::luks::version::Version, storage::Storage};

/// LUKS, version 2.
#[derive(Debug, Clone, Copy)]
pub struct Luks2;

impl Version for Luks2 {
    const NAME: &'static str = "luks2";
    /// They end where cryptsetup lets data begin.
    const USUAL_AREAS: Range<u64> = 32 << 10..16 << 20;
    const OTHER_COPIES: &'static [u64] = &layout::HEADER_LENS;

    type Header = Luks2Header;

    fn has_magic(header: &dyn Storage) -> Result<bool> {
        copies::has_magic(header)
    }
}

/// Parses the text of a JSON area, as a fuzz target does. `Ok` where it makes metadata of a header of `header_len` bytes.
///
/// # Errors
/// What [`Format::read_header`](super::Format::read_header) would say.
pub fn check_json(text: &[u8], header_len: u64) -> Result<(), HeaderError> {
    Metadata::parse(text, header_len, false).map(drop)
}
