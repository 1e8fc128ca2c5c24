//! The digest that tells the volume key from any other.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use crate::{
    crypto::{
        hash::{self, HashKind},
        kdf::{KdfLimits, pbkdf2},
        rng::Rng,
        secret::VolumeKey,
    },
    error::{Error, ErrorKind, Result},
};

/// PBKDF2 of the volume key, with the length that the key must have.
#[derive(Debug, Clone)]
pub(in crate::format) struct KeyDigest {
    pub(in crate::format) hash: HashKind,
    pub(in crate::format) iterations: u32,
    pub(in crate::format) salt: Vec<u8>,
    pub(in crate::format) digest: Vec<u8>,
    /// The size of the volume key in bytes.
    pub(in crate::format) key_len: usize,
}

impl KeyDigest {
    /// The digest of a new volume key, `len` bytes of it, with a fresh salt.
    ///
    /// The key is random: no number of iterations makes it harder to guess, and each one is waited for at every unlocking.
    pub(in crate::format) fn new(key: &VolumeKey, hash: HashKind, len: usize, rng: &dyn Rng) -> Result<Self> {
        let mut salt = vec![0; SALT_LEN];
        rng.fill(&mut salt)?;
        let digest = pbkdf2(hash, key.expose(), &salt, ITERATIONS, len)?.expose().to_vec();
        Ok(Self { hash, iterations: ITERATIONS, salt, digest, key_len: key.len() })
    }

    /// Whether `key` is the volume key.
    ///
    /// The length is compared as well: HMAC pads its key with zeros, so a key without its last zero bytes has the same
    /// digest.
    ///
    /// # Errors
    /// `Unsupported` where the iterations pass `limits`.
    pub(in crate::format) fn matches(&self, key: &VolumeKey, limits: &KdfLimits) -> Result<bool> {
        self.check_cost(limits)?;
        if key.len() != self.key_len {
            return Ok(false);
        }
        let digest = pbkdf2(self.hash, key.expose(), &self.salt, self.iterations, self.digest.len())?;
        Ok(hash::equal(digest.expose(), &self.digest))
    }

    /// Refuses iterations that are not run, whatever the key is.
    ///
    /// # Errors
    /// `Unsupported` where they pass `limits`.
    pub(in crate::format) fn check_cost(&self, limits: &KdfLimits) -> Result<()> {
        limits.check_iterations(self.iterations).map_err(|error| {
            Error::new(ErrorKind::Unsupported, format!("the digest of the volume key {error}"))
        })
    }

    /// Refuses a key that a keyslot gave earlier where the header is not its any more.
    ///
    /// # Errors
    /// `Tampered`; as [`Self::matches`].
    pub(in crate::format) fn check(&self, key: &VolumeKey) -> Result<()> {
        if self.matches(key, &KdfLimits::default())? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Tampered, "the header belongs to another volume key"))
    }
}

/// The least that cryptsetup writes.
const ITERATIONS: u32 = 1000;
const SALT_LEN: usize = 32;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may stop anywhere")]
mod tests {
    use super::*;

    #[test]
    fn a_key_without_its_last_zero_has_the_same_digest_and_is_another_key() {
        // proves: L1-KEY-04
        let mut key = vec![7; 32];
        key[31] = 0;
        let digest = pbkdf2(HashKind::Sha256, &key[..31], b"salt", 1000, 32).unwrap();
        let expected = KeyDigest {
            hash: HashKind::Sha256,
            iterations: 1000,
            salt: b"salt".to_vec(),
            digest: digest.expose().to_vec(),
            key_len: 32,
        };
        let matches =
            |key: &[u8]| expected.matches(&VolumeKey::copy_of(key).unwrap(), &KdfLimits::default()).unwrap();
        assert!(matches(&key));
        assert!(!matches(&key[..31]));
    }

    #[test]
    fn more_iterations_than_the_limit_are_refused_before_they_run() {
        // proves: L1-KEY-05
        let costly = KeyDigest {
            hash: HashKind::Sha1,
            iterations: u32::MAX,
            salt: vec![0; 32],
            digest: vec![0; 20],
            key_len: 32,
        };
        let key = VolumeKey::copy_of(&[0; 32]).unwrap();
        let refused = costly.matches(&key, &KdfLimits::default()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
    }
}
