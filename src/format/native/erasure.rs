//! Where a container's keys lie, for good or for now (`spec/native-v1.md`, section 6).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::ops::Range;

use super::{
    copies::{Copies, SEARCH_LEN},
    copy::HeaderCopy,
    layout::{ALIGNMENT, COPY_LEN, DATA_OFFSET, SUPERBLOCK_LEN},
    remains::Remains,
    superblock::CopyIndex,
};
use crate::{error::Result, format::Erasure, storage::Storage};

/// Everything in which a reader looks for a header copy, and the work areas beside them (NAT-ERASE-01).
///
/// A header that cannot be read, or is not whole, is taken to lie where a new container has it.
pub(super) fn erasure(storage: &dyn Storage) -> Result<Erasure> {
    let len = storage.size()?;
    let tail = len.saturating_sub(SEARCH_LEN)..len;
    let mut rest = vec![0..DATA_OFFSET.min(len), tail.clone()];
    // A medium that cannot be read is overwritten all the same.
    let copies = Copies::read(storage).ok();
    let whole: Vec<&HeaderCopy> = copies.iter().flat_map(Copies::whole).collect();
    for copy in &whole {
        let geometry = &copy.superblock.geometry;
        rest.push(0..geometry.data_offset.min(len));
        rest.push(geometry.backup_offset.min(len)..geometry.container_len.min(len));
    }
    let in_use = place_of_copy(whole.first().map_or(0, |copy| copy.offset()), len);
    // Beside a whole copy the others have their places; without one anything at the end may be the remains of one, and no
    // data can be lost any more.
    let mut spare = if whole.is_empty() { vec![tail] } else { places_beside(&in_use, &whole, len) };
    if let Some(in_use) = whole.first().filter(|copy| copy.superblock.index == CopyIndex::B) {
        // NAT-RD-07: what is left of copy A has copy B show while its keyslots are there.
        let is_legible = Remains::read(storage).is_ok_and(|there| there.has_uuid(&in_use.superblock.uuid));
        let a = place_of_copy(0, len);
        spare.retain(|place| *place != a);
        spare.extend(is_legible.then(|| keyslots_of(&a)));
    }
    Ok(Erasure { spare: joined(spare), last: keyslots_of(&in_use), rest: joined(rest) })
}

/// Where a reader finds header copies: copy A, and all of the end that it searches (NAT-UPD-01).
pub(super) fn traces(len: u64) -> Vec<Range<u64>> {
    vec![place_of_copy(0, len), len.saturating_sub(SEARCH_LEN.saturating_add(ALIGNMENT))..len]
}

/// The places of all copies but the one in use, whatever stands there.
fn places_beside(in_use: &Range<u64>, whole: &[&HeaderCopy], len: u64) -> Vec<Range<u64>> {
    let named = whole.iter().flat_map(|copy| [0, copy.offset(), copy.superblock.geometry.backup_offset]);
    named.map(|offset| place_of_copy(offset, len)).filter(|place| place != in_use).collect()
}

/// A copy's bytes after its superblock.
fn keyslots_of(copy: &Range<u64>) -> Range<u64> {
    let superblock_len = u64::try_from(SUPERBLOCK_LEN).unwrap_or(u64::MAX);
    copy.start.saturating_add(superblock_len).min(copy.end)..copy.end
}

/// The bytes of a header copy, as far as they are there.
fn place_of_copy(offset: u64, len: u64) -> Range<u64> {
    let copy_len = u64::try_from(COPY_LEN).unwrap_or(u64::MAX);
    offset.min(len)..offset.saturating_add(copy_len).min(len)
}

/// The same bytes in ranges that neither touch nor overlap.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(before) if range.start <= before.end => before.end = before.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        assert_eq!(joined(vec![8..9, 0..4, 4..6, 1..2]), [0..6, 8..9]);
    }
}
