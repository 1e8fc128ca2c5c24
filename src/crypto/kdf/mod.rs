//! Key derivation: Argon2id for passwords, HKDF-SHA-512 for subkeys; Argon2i and PBKDF2 for foreign formats.

mod calibrate;
mod cost;
mod pbkdf2;

use argon2::{Algorithm, Argon2, Params, Version};
use hkdf::Hkdf;
use sha2::{Sha256, Sha512};

pub(in crate::crypto) use self::pbkdf2::Block;
pub use self::{
    calibrate::{calibrate, calibrate_iterations},
    cost::{Argon2Cost, CostError, KdfCost, KdfKind, KdfLimits, Quantity, WorkLimit, show_seconds},
    pbkdf2::{BETWEEN_QUESTIONS, pbkdf2, pbkdf2_blocks},
};
use crate::{
    Error, ErrorKind,
    crypto::secret::DerivedKey,
    sys::memory::{LockedBytes, WipedSlice},
};

/// Derives `len` bytes from a password by Argon2id, version 0x13 (RFC 9106), one thread a lane.
///
/// Takes `cost` as it is: a cost that comes from a container goes through [`KdfLimits::check`] first.
///
/// # Errors
/// [`ErrorKind::OutOfMemory`] where the memory cannot be had; [`ErrorKind::Usage`] for a cost, a salt (8 bytes at
/// least) or a length (4 bytes at least) that RFC 9106 does not allow.
pub fn argon2id(password: &[u8], salt: &[u8], cost: &Argon2Cost, len: usize) -> crate::Result<DerivedKey> {
    argon2(Algorithm::Argon2id, password, salt, cost, len)
}

/// Derives `len` bytes from a password by Argon2i, version 0x13 (RFC 9106). Containers of cryptsetup 2.0 have it.
///
/// # Errors
/// As [`argon2id`].
pub fn argon2i(password: &[u8], salt: &[u8], cost: &Argon2Cost, len: usize) -> crate::Result<DerivedKey> {
    argon2(Algorithm::Argon2i, password, salt, cost, len)
}

fn argon2(
    algorithm: Algorithm,
    password: &[u8],
    salt: &[u8],
    cost: &Argon2Cost,
    len: usize,
) -> crate::Result<DerivedKey> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(len)).map_err(refused)?;
    let mut key = LockedBytes::zeroed(len)?;
    // Not `hash_password_into`, which frees its blocks unwiped.
    let mut memory = WipedSlice::<argon2::Block>::zeroed(params.block_count())?;
    Argon2::new(algorithm, Version::V0x13, params)
        .hash_password_into_with_memory(password, salt, key.as_mut_slice(), memory.as_mut_slice())
        .map_err(refused)?;
    Ok(key.into())
}

/// Derives `len` bytes from a password as `cost` says, which is taken as it is.
///
/// # Errors
/// As [`argon2id`] and [`pbkdf2()`].
pub fn derive(cost: &KdfCost, password: &[u8], salt: &[u8], len: usize) -> crate::Result<DerivedKey> {
    match cost {
        KdfCost::Argon2id(cost) => argon2id(password, salt, cost, len),
        KdfCost::Argon2i(cost) => argon2i(password, salt, cost, len),
        KdfCost::Pbkdf2 { hash, iterations } => pbkdf2(*hash, password, salt, *iterations, len),
    }
}

/// Derives `len` bytes from key material by HKDF-SHA-512 (RFC 5869): extract with `salt`, expand with `info`.
///
/// # Errors
/// [`ErrorKind::Usage`] where `len` exceeds 255 digests (16320 bytes).
pub fn hkdf_sha512(ikm: &[u8], salt: &[u8], info: &[u8], len: usize) -> crate::Result<DerivedKey> {
    let mut key = LockedBytes::zeroed(len)?;
    Hkdf::<Sha512>::new(Some(salt), ikm)
        .expand(info, key.as_mut_slice())
        .map_err(|_| Error::new(ErrorKind::Usage, format!("{len} bytes are too many for one HKDF key")))?;
    Ok(key.into())
}

/// The same by HKDF-SHA-256.
///
/// # Errors
/// [`ErrorKind::Usage`] where `len` exceeds 255 digests (8160 bytes).
pub fn hkdf_sha256(ikm: &[u8], salt: &[u8], info: &[u8], len: usize) -> crate::Result<DerivedKey> {
    let mut key = LockedBytes::zeroed(len)?;
    Hkdf::<Sha256>::new(Some(salt), ikm)
        .expand(info, key.as_mut_slice())
        .map_err(|_| Error::new(ErrorKind::Usage, format!("{len} bytes are too many for one HKDF key")))?;
    Ok(key.into())
}

fn refused(error: argon2::Error) -> Error {
    let kind = if error == argon2::Error::OutOfMemory { ErrorKind::OutOfMemory } else { ErrorKind::Usage };
    Error::caused_by(kind, error).during("cannot derive the key by Argon2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argon2id_refuses_a_short_salt() {
        let cost = Argon2Cost { memory_kib: 32, passes: 1, lanes: 1 };
        assert_eq!(argon2id(b"password", b"short", &cost, 32).unwrap_err().kind(), ErrorKind::Usage);
    }

    #[test]
    fn argon2id_refuses_less_than_eight_blocks_a_lane() {
        let cost = Argon2Cost { memory_kib: 31, passes: 1, lanes: 4 };
        assert_eq!(argon2id(b"password", &[0; 32], &cost, 32).unwrap_err().kind(), ErrorKind::Usage);
    }

    #[test]
    fn hkdf_refuses_more_than_255_digests() {
        assert_eq!(hkdf_sha512(b"k", b"s", b"i", 255 * 64).unwrap().len(), 255 * 64);
        assert_eq!(hkdf_sha512(b"k", b"s", b"i", 255 * 64 + 1).unwrap_err().kind(), ErrorKind::Usage);
    }
}
