//! Long ranges, a chunk at a time.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{io, ops::Range};

use super::Storage;

/// Offset and length of each chunk of `range`: [`CHUNK_LEN`] bytes, fewer at its end.
pub fn chunks(range: Range<u64>) -> impl Iterator<Item = (u64, usize)> {
    let end = range.end;
    range.step_by(CHUNK_LEN).map(move |offset| {
        let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(CHUNK_LEN);
        (offset, left.min(CHUNK_LEN))
    })
}

/// Writes zeros over `range`.
///
/// # Errors
/// What writing gave.
pub fn write_zeros(storage: &dyn Storage, range: Range<u64>) -> io::Result<()> {
    let zeros = vec![0; CHUNK_LEN];
    chunks(range)
        .try_for_each(|(offset, len)| storage.write_all_at(zeros.get(..len).unwrap_or_default(), offset))
}

/// Whether `range` holds zeros alone.
///
/// # Errors
/// What reading gave.
pub fn holds_zeros(storage: &dyn Storage, range: Range<u64>) -> io::Result<bool> {
    let mut bytes = vec![0; CHUNK_LEN];
    for (offset, len) in chunks(range) {
        let chunk = bytes.get_mut(..len).unwrap_or_default();
        storage.read_exact_at(chunk, offset)?;
        if chunk.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// In bytes.
pub const CHUNK_LEN: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    #[test]
    fn a_range_is_gone_through_to_its_end_and_no_farther() {
        let long = 1_u64 << 20;
        let found: Vec<_> = chunks(5..2 * long + 6).collect();
        assert_eq!(found, [(5, CHUNK_LEN), (long + 5, CHUNK_LEN), (2 * long + 5, 1)]);
        assert_eq!(chunks(7..7).count(), 0);
    }

    #[test]
    fn zeros_are_written_and_found_where_they_are() {
        let storage = MemoryStorage::new(vec![7; CHUNK_LEN + 9]);
        let end = storage.size().unwrap() - 1;
        write_zeros(&storage, 1..end).unwrap();
        assert!(holds_zeros(&storage, 1..end).unwrap());
        assert!(!holds_zeros(&storage, 0..end).unwrap());
        assert!(!holds_zeros(&storage, 1..end + 1).unwrap());
    }
}
