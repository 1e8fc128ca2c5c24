//! What stands in the place of a header copy that is not whole: nothing, what is left of it, or something else (L2-HDR-08, -09).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use zerocopy::FromBytes;

use super::{
    copy::{CopyIndex, HeaderCopy},
    layout::{BINARY_LEN, RawHeader, VERSION},
};
use crate::{error::Result, format::luks::Place};

/// What is there in the place of the other copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remains {
    /// Zeros, or the end of the medium.
    Nothing,
    /// A damaged copy of the header of the same container.
    Own,
    /// The same, and it says that it is newer, and something else than the copy that counts.
    Newer {
        /// Its sequence id.
        sequence: u64,
        /// It is whole but for its first eight bytes.
        is_whole: bool,
    },
    /// Bytes that are none of this header's.
    Foreign,
}

impl Remains {
    /// What stands where the copy `index` belongs beside `good`.
    ///
    /// # Errors
    /// What reading gave.
    pub(super) fn read(place: Place<'_>, index: CopyIndex, good: &HeaderCopy) -> Result<Self> {
        let offset = index.offset(good.header_len);
        let len = place.storage.size()?.saturating_sub(offset).min(good.header_len);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
        place.storage.read_exact_at(&mut bytes, offset)?;
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(Self::Nothing);
        }
        // What the medium does not have is missing as zeros are.
        bytes.resize(usize::try_from(good.header_len).unwrap_or_default(), 0);
        Ok(Self::of(&bytes, index, good, place.is_detached))
    }

    fn of(bytes: &[u8], index: CopyIndex, good: &HeaderCopy, is_detached: bool) -> Self {
        let Some((binary, json)) = bytes.split_at_checked(BINARY_LEN) else { return Self::Foreign };
        let Ok(raw) = RawHeader::read_from_bytes(binary) else { return Self::Foreign };
        let is_padded = raw.padding_to_4096.iter().all(|&byte| byte == 0);
        let own_json = good.json();
        if !is_padded {
            return Self::Foreign;
        }
        if is_empty(&raw.uuid) || differing(&raw.uuid, &good.raw().uuid) > MOST_SPOILT {
            // Nothing says whose it is: then all that is left must be the same.
            let is_left = |(there, own): (&[u8], &[u8])| there == own || is_empty(there);
            let is_own = is_empty(binary) && blocks(json).zip(blocks(own_json)).all(is_left);
            return if is_own { Self::Own } else { Self::Foreign };
        }
        if !blocks(json).all(is_text) {
            return Self::Foreign;
        }
        let sequence = raw.sequence.get();
        let is_same = blocks(json).zip(blocks(own_json)).all(|(there, own)| there == own || is_empty(there));
        if sequence <= good.sequence || (is_same && raw.label == good.raw().label) {
            return Self::Own;
        }
        let mut marked = Box::new(raw);
        (marked.magic, marked.version) = (index.magic(), VERSION);
        let whole = HeaderCopy::of_bytes(marked, json.to_vec(), index, is_detached);
        Self::Newer { sequence, is_whole: whole.is_ok() }
    }
}

fn blocks(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.chunks(BLOCK)
}

fn is_empty(block: &[u8]) -> bool {
    block.iter().all(|&byte| byte == 0)
}

/// Whether it can be of a JSON area, some bytes of it spoilt.
fn is_text(block: &[u8]) -> bool {
    let is_none = |byte: &&u8| !matches!(**byte, 0 | b'\t' | b'\n' | b'\r' | b' '..=b'~');
    block.iter().filter(is_none).count() <= MOST_SPOILT
}

/// In how many bytes two fields differ.
fn differing(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).filter(|(one, other)| one != other).count()
}

/// What a medium loses or keeps whole, in bytes.
const BLOCK: usize = 512;
/// So many bytes of a block may have been spoilt, and it is still known for what it was.
const MOST_SPOILT: usize = 8;
