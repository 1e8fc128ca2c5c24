//! The anti-forensic splitter: a key spread over thousands of stripes, all of which are needed to have it back.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use crate::{
    crypto::{
        hash::HashKind,
        rng::Rng,
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

/// Spreads `key` over [`STRIPES`] stripes and pads them with zeros to `len` bytes, which is at least what they take. All
/// stripes but the last are fresh random bytes; that makes the sum come out as the key.
pub(in crate::format) fn split(
    key: &VolumeKey,
    hash: HashKind,
    len: usize,
    rng: &dyn Rng,
) -> Result<LockedBytes> {
    let mut material = LockedBytes::zeroed(len)?;
    let mut block = LockedBytes::zeroed(key.len())?;
    let mut stripes = material.as_mut_slice().chunks_exact_mut(key.len().max(1)).take(STRIPES).peekable();
    while let Some(stripe) = stripes.next() {
        if stripes.peek().is_none() {
            for ((byte, sum), key) in stripe.iter_mut().zip(block.as_slice()).zip(key.expose()) {
                *byte = sum ^ key;
            }
            break;
        }
        rng.fill(stripe)?;
        for (byte, other) in block.as_mut_slice().iter_mut().zip(&*stripe) {
            *byte ^= other;
        }
        diffuse(block.as_mut_slice(), hash);
    }
    Ok(material)
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
    use crate::crypto::rng::OsRng;

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
        for &hash in HashKind::ALL {
            let mut material = split(&key, hash);
            material.extend([0x55; 300]);
            assert_eq!(merge(&material, 64, hash).unwrap().expose(), key, "{hash:?}");
        }
    }

    #[test]
    fn what_is_split_here_merges_to_the_key_and_its_stripes_are_random() {
        // proves: L1-WRITE-03
        let key: Vec<u8> = (0..64).collect();
        for &hash in HashKind::ALL {
            for len in [16, 24, 32, 64] {
                let volume_key = VolumeKey::copy_of(&key[..len]).unwrap();
                let split =
                    |rng: &dyn Rng| super::split(&volume_key, hash, len * STRIPES + 100, rng).unwrap();
                let (one, other) = (split(&OsRng), split(&OsRng));
                assert_ne!(one.as_slice()[..len], other.as_slice()[..len]);
                assert_eq!(merge(one.as_slice(), len, hash).unwrap().expose(), &key[..len], "{hash:?}");
                assert!(one.as_slice()[len * STRIPES..].iter().all(|&byte| byte == 0));
            }
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
