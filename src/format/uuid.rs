//! Identities of containers (RFC 9562).

use crate::{crypto::rng::Rng, error::Result};

/// Sixteen random bytes with version and variant set (RFC 9562, 5.4).
pub fn new_uuid(rng: &dyn Rng) -> Result<[u8; 16]> {
    let mut uuid = [0; 16];
    rng.fill(&mut uuid)?;
    uuid[6] = (uuid[6] & 0x0f) | 0x40;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
    Ok(uuid)
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
