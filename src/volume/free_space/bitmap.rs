use std::ops::Range;

use crate::error::Result;

/// The highest of the first `bits` bits that is set, where `read` gives bytes of the bitmap, at most [`CHUNK`] at a time. Bits
/// count from the lowest of byte 0. Reads from the end, and no more than it takes.
pub(super) fn last_set(
    bits: u64,
    read: &mut dyn FnMut(Range<u64>) -> Result<Vec<u8>>,
) -> Result<Option<u64>> {
    let mut end = bits.div_ceil(8);
    // The last byte may hold bits that are not asked for.
    let mut last_mask = match bits % 8 {
        0 => 0xff,
        rest => (1_u8 << rest).wrapping_sub(1),
    };
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        let mut chunk = read(start..end)?;
        if let Some(last) = chunk.last_mut() {
            *last &= last_mask;
        }
        last_mask = 0xff;
        let found = chunk.iter().rposition(|&byte| byte != 0);
        if let Some((index, byte)) = found.and_then(|index| Some((index, *chunk.get(index)?))) {
            let byte_number = start.saturating_add(u64::try_from(index).unwrap_or(u64::MAX));
            let bit = u64::from(7_u32.saturating_sub(byte.leading_zeros()));
            return Ok(Some(byte_number.saturating_mul(8).saturating_add(bit)));
        }
        end = start;
    }
    Ok(None)
}

/// In bytes.
const CHUNK: u64 = 64 << 10;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn the_last_bit_is_found_wherever_it_is() {
        let len = 3 * usize::try_from(CHUNK).unwrap() + 5;
        for bit in [None, Some(0), Some(7), Some(8 * CHUNK), Some(8 * CHUNK - 1), Some(24 * CHUNK + 30)] {
            let mut bitmap = vec![0_u8; len];
            // Beyond what is asked for.
            bitmap[len - 1] = 0x80;
            if let Some(bit) = bit {
                bitmap[usize::try_from(bit / 8).unwrap()] |= 1 << (bit % 8);
            }
            let mut read = |range: Range<u64>| {
                let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).unwrap());
                Ok(bitmap[start..end].to_vec())
            };
            assert_eq!(last_set(24 * CHUNK + 39, &mut read).unwrap(), bit);
        }
    }
}
