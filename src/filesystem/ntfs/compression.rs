//! LZNT1 (Microsoft, [MS-XCA] 2.5): chunks of 4096 bytes, each packed by references to what came before in it.

use super::super::{Fault, Result, bytes::u16_at};

/// Unpacks chunks into `unpacked`, which is zeros so far, and stays so behind the last chunk.
pub(super) fn unpack(mut packed: &[u8], unpacked: &mut [u8]) -> Result<()> {
    for chunk in unpacked.chunks_mut(CHUNK) {
        let header = u16_at(packed, 0);
        if header == 0 {
            break;
        }
        let len = usize::from(header & 0xfff).saturating_add(3);
        let (whole, rest) = packed.split_at_checked(len).ok_or(Fault::Damaged)?;
        let body = whole.get(2..).unwrap_or_default();
        if header & IS_PACKED == 0 {
            chunk.get_mut(..body.len()).ok_or(Fault::Damaged)?.copy_from_slice(body);
        } else {
            unpack_chunk(body, chunk)?;
        }
        packed = rest;
    }
    Ok(())
}

/// A byte of tags, one bit for each of eight tokens: a byte as it is, or two bytes with a distance and a length.
fn unpack_chunk(mut packed: &[u8], chunk: &mut [u8]) -> Result<()> {
    let mut at = 0_usize;
    while let Some((&tags, tokens)) = packed.split_first() {
        packed = tokens;
        for bit in 0..8_u8 {
            let Some((&byte, rest)) = packed.split_first() else { return Ok(()) };
            if tags >> bit & 1 == 0 {
                *chunk.get_mut(at).ok_or(Fault::Damaged)? = byte;
                at = at.saturating_add(1);
                packed = rest;
                continue;
            }
            let (&high, rest) = rest.split_first().ok_or(Fault::Damaged)?;
            packed = rest;
            at = copy(chunk, at, u16::from_le_bytes([byte, high]))?;
        }
    }
    Ok(())
}

/// Copies what a token refers to. Gives the end of the copy.
fn copy(chunk: &mut [u8], at: usize, token: u16) -> Result<usize> {
    // The farther in, the more bits has the distance, and the fewer the length.
    let mut len_bits = 12_u32;
    let mut reach = at.checked_sub(1).ok_or(Fault::Damaged)? >> 4;
    while reach > 0 {
        (len_bits, reach) = (len_bits.saturating_sub(1), reach >> 1);
    }
    let distance = usize::from(token.checked_shr(len_bits).unwrap_or_default()).saturating_add(1);
    let mask = 1_u16.checked_shl(len_bits).unwrap_or_default().saturating_sub(1);
    let len = usize::from(token & mask).saturating_add(3);
    let start = at.checked_sub(distance).ok_or(Fault::Damaged)?;
    let end = at.saturating_add(len);
    if end > chunk.len() {
        return Err(Fault::Damaged);
    }
    if distance >= len {
        chunk.copy_within(start..start.saturating_add(len), at);
        return Ok(end);
    }
    // What is copied may be a part of the copy.
    for (from, to) in (start..).zip(at..end) {
        let byte = chunk.get(from).copied().ok_or(Fault::Damaged)?;
        *chunk.get_mut(to).ok_or(Fault::Damaged)? = byte;
    }
    Ok(end)
}

const CHUNK: usize = 4096;
const IS_PACKED: u16 = 0x8000;

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(packed: &[u8], len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        unpack(packed, &mut bytes).map(|()| bytes)
    }

    /// The example of [MS-XCA] 3.3.
    #[test]
    fn the_published_example_is_unpacked() {
        let packed = [
            0x38, 0xb0, 0x88, 0x46, 0x23, 0x20, 0x00, 0x20, 0x47, 0x20, 0x41, 0x00, 0x10, 0xa2, 0x47, 0x01,
            0xa0, 0x45, 0x20, 0x44, 0x00, 0x08, 0x45, 0x01, 0x50, 0x79, 0x00, 0xc0, 0x45, 0x20, 0x05, 0x24,
            0x13, 0x88, 0x05, 0xb4, 0x02, 0x4a, 0x44, 0xef, 0x03, 0x58, 0x02, 0x8c, 0x09, 0x16, 0x01, 0x48,
            0x45, 0x00, 0xbe, 0x00, 0x9e, 0x00, 0x04, 0x01, 0x18, 0x90, 0x00,
        ];
        let wanted = b"F# F# G A A G F# E D D E F# F# E E F# F# G A A G F# E D D E F# E D D E E F# D E F# G F# D E F# G F# E D E A F# F# G A A G F# E D D E F# E D D\0";
        assert_eq!(unpacked(&packed, wanted.len()).unwrap(), wanted);
    }

    #[test]
    fn each_chunk_begins_at_its_own_place() {
        let packed = [0x02, 0x30, b'a', b'b', b'c', 0x03, 0xb0, 0x02, b'x', 0xfc, 0x0f, 0, 0];
        let bytes = unpacked(&packed, 3 * CHUNK).unwrap();
        assert_eq!(bytes[..4], *b"abc\0");
        assert!(bytes[CHUNK..2 * CHUNK].iter().all(|byte| *byte == b'x'));
        assert!(bytes[2 * CHUNK..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn references_out_of_a_chunk_and_lengths_past_it_are_damage() {
        assert_eq!(unpacked(&[0x02, 0xb0, 0x01, 0, 0, 0, 0], CHUNK), Err(Fault::Damaged));
        assert_eq!(unpacked(&[0x03, 0xb0, 0x02, b'x', 0, 0x10, 0, 0], CHUNK), Err(Fault::Damaged));
        assert_eq!(unpacked(&[0x03, 0xb0, 0x02, b'x', 0xff, 0x0f, 0, 0], 100), Err(Fault::Damaged));
        assert_eq!(unpacked(&[0xff, 0xbf, 0], CHUNK), Err(Fault::Damaged));
    }
}
