//! What a pin holds of keyslots and digests, the same for LUKS1 and LUKS2.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::{digest::KeyDigest, kdf::Kdf, keyslot::Keyslot};
use crate::{
    crypto::kdf::KdfCost,
    format::{Fingerprint, Subject},
};

/// Adds what tells the volume key.
pub(in crate::format) fn add_digest(fingerprint: &mut Fingerprint, object: &str, digest: &KeyDigest) {
    let (iterations, key_len) = (digest.iterations.to_le_bytes(), number(digest.key_len));
    let hash = digest.hash.name().as_bytes();
    fingerprint.add(object, "digest", &[hash, &iterations, &digest.salt, &digest.digest]);
    fingerprint.add(object, "key length", &[&key_len]);
}

/// Adds a keyslot: costs and salt of its key derivation, its area, and the ciphertext in it.
///
/// The ciphertext counts, as who once knew the volume key can put it under a password of his own without touching the salt.
pub(in crate::format) fn add_keyslot(fingerprint: &mut Fingerprint, slot: &Keyslot) {
    let object = Subject::Keyslot.object(slot.index);
    let area = &slot.area;
    add_kdf(fingerprint, &object, &slot.kdf);
    let (offset, key_len) = (area.offset.to_le_bytes(), number(area.key_len));
    let (cipher_key_len, hash) = (number(area.encryption.key_len), area.hash.name().as_bytes());
    let parts = [&offset[..], &key_len, area.encryption.name.as_bytes(), &cipher_key_len, hash];
    fingerprint.add(&object, "area", &parts);
    fingerprint.add(&object, "key material", &[&area.material]);
}

fn add_kdf(fingerprint: &mut Fingerprint, object: &str, kdf: &Kdf) {
    let (name, hash, costs) = match kdf.cost {
        KdfCost::Pbkdf2 { hash, iterations } => ("pbkdf2", hash.name(), [iterations, 0, 0]),
        KdfCost::Argon2i(cost) => ("argon2i", "", [cost.memory_kib, cost.passes, cost.lanes]),
        KdfCost::Argon2id(cost) => ("argon2id", "", [cost.memory_kib, cost.passes, cost.lanes]),
    };
    let [a, b, c] = costs.map(u32::to_le_bytes);
    fingerprint.add(object, "key derivation", &[name.as_bytes(), hash.as_bytes(), &a, &b, &c]);
    fingerprint.add(object, "salt", &[&kdf.salt]);
}

/// A length as a value of a fact.
pub(in crate::format) fn number(len: usize) -> [u8; 8] {
    u64::try_from(len).unwrap_or(u64::MAX).to_le_bytes()
}
