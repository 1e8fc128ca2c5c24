//! The anti-forensic splitter: a key spread over thousands of stripes, all of which are needed to have it back.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use crate::{
    crypto::{
        hash::HashKind,
        secret::{LockedBytes, VolumeKey},
    },
    error::Result,
};

/// The stripes of every keyslot that any LUKS has.
pub(in crate::format) const STRIPES: usize = 4000;

/// Joins the stripes of `material`, each as long as the key. Bytes after the last stripe do not count.
///
/// (LUKS on-disk format 1.2.3, 2.4: the running block starts as zeros; each stripe but the last is added to it, as an
/// XOR, and the whole goes through the diffuser; the last is added only.)
pub(in crate::format) fn merge(material: &[u8], key_len: usize, hash: HashKind) -> Result<VolumeKey> {
    let mut block = LockedBytes::zeroed(key_len)?;
    let mut stripes = material.chunks_exact(key_len.max(1)).take(STRIPES).peekable();
    while let Some(stripe) = stripes.next() {
        for (byte, other) in block.as_mut_slice().iter_mut().zip(stripe) {
            *byte ^= other;
        }
        if stripes.peek().is_some() {
            diffuse(block.as_mut_slice(), hash);
        }
    }
    Ok(block.into())
}

/// Replaces each digest-sized piece by its hash, its number put before it; the last one's is cut to what is left.
fn diffuse(block: &mut [u8], hash: HashKind) {
    for (piece, number) in block.chunks_mut(hash.digest_len()).zip(0_u32..) {
        let digest = hash.digest(&[&number.to_be_bytes(), piece]);
        for (byte, hashed) in piece.iter_mut().zip(&*digest) {
            *byte = *hashed;
        }
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may stop anywhere")]
mod tests {
    use super::*;

    /// Splits as the specification says, from fixed stripes: the last one makes the sum come out as the key.
    fn split(key: &[u8], hash: HashKind) -> Vec<u8> {
        let mut material: Vec<u8> =
            (0..key.len() * (STRIPES - 1)).map(|n| (n * 7 + n / 251).to_le_bytes()[0]).collect();
        let mut block = vec![0; key.len()];
        for stripe in material.chunks(key.len()) {
            block.iter_mut().zip(stripe).for_each(|(byte, other)| *byte ^= other);
            diffuse(&mut block, hash);
        }
        material.extend(block.iter().zip(key).map(|(a, b)| a ^ b));
        material
    }

    #[test]
    fn stripes_give_the_key_back_and_padding_does_not_count() {
        let key: Vec<u8> = (0..64).collect();
        for hash in HashKind::ALL {
            let mut material = split(&key, hash);
            material.extend([0x55; 300]);
            assert_eq!(merge(&material, 64, hash).unwrap().expose(), key, "{hash:?}");
        }
    }

    #[test]
    fn one_changed_bit_in_the_first_stripe_changes_the_whole_key() {
        let key: Vec<u8> = (0..32).collect();
        let mut material = split(&key, HashKind::Sha256);
        material[0] ^= 1;
        let other = merge(&material, 32, HashKind::Sha256).unwrap();
        let same = other.expose().iter().zip(&key).filter(|(a, b)| a == b).count();
        assert!(same < 8, "{same} bytes are the same");
    }
}
