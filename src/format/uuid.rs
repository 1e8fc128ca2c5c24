//! Identities of containers (RFC 9562).

use crate::{crypto::rng::Rng, error::Result};

/// Sixteen random bytes with version and variant set (RFC 9562, 5.4).
pub fn new_uuid(rng: &dyn Rng) -> Result<[u8; 16]> {
    let mut uuid = [0; 16];
    rng.fill(&mut uuid)?;
    Ok(uuid_of(uuid))
}

/// These bytes with version and variant set.
pub fn uuid_of(mut bytes: [u8; 16]) -> [u8; 16] {
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    bytes
}

/// Reads a UUID as RFC 9562 writes it; `None` for anything else.
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> =
        text.chars().filter(|c| *c != '-').map(|c| c.to_digit(16)?.try_into().ok()).collect::<Option<_>>()?;
    let mut uuid = [0; 16];
    for (byte, pair) in uuid.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair.iter().fold(0, |value, digit| value << 4 | digit);
    }
    (digits.len() == 32 && hyphenated(&uuid).eq_ignore_ascii_case(text)).then_some(uuid)
}

/// A UUID as RFC 9562 writes it.
pub fn hyphenated(uuid: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.extend(
            [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or_default()),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_reads_as_it_was_written_and_nothing_else_does() {
        let uuid = *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
        assert_eq!(parse_uuid(&hyphenated(&uuid)), Some(uuid));
        assert_eq!(parse_uuid("00112233-4455-6677-8899-AABBCCDDEEFF"), Some(uuid));
        for text in ["", "00112233445566778899aabbccddeeff", "0011223-34455-6677-8899-aabbccddeeff", "g"] {
            assert_eq!(parse_uuid(text), None, "{text}");
        }
    }
}
