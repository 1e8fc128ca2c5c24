//! Primitives and secrets. No I/O, no clock, no globals; randomness is a parameter.

pub mod aead;
pub mod hash;
pub mod kdf;
pub mod recovery;
pub mod rng;
pub mod secret;
pub mod sector;
pub mod xts;

use std::fmt;

use crate::units::{Sector, SectorSize};

/// A length-preserving cipher over numbered sectors, keyed. The shape behind which every cipher, mode and cascade lives.
pub trait SectorCipher: fmt::Debug + Send + Sync {
    /// Encrypts whole sectors in place. `first` is the tweak's sector number of the first; each next one counts up.
    ///
    /// # Panics
    /// Where `data` is not a whole number of sectors: the caller's bug.
    fn encrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector);

    /// Decrypts whole sectors in place; the inverse of [`encrypt`](Self::encrypt).
    ///
    /// # Panics
    /// As [`encrypt`](Self::encrypt).
    fn decrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector);
}
