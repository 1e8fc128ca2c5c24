//! Primitives and secrets. No I/O, no clock; randomness is a parameter. No globals but one: which XTS backend runs here.

pub mod aead;
pub mod hash;
pub mod kdf;
pub mod recovery;
pub mod rng;
pub mod secret;
pub mod sector;
pub mod security_key;
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

    /// Encrypts whole sectors from one buffer into another, both of the same size; else as [`encrypt`](Self::encrypt).
    ///
    /// # Panics
    /// As [`encrypt`](Self::encrypt), and where the sizes differ.
    fn encrypt_into(&self, plaintext: &[u8], ciphertext: &mut [u8], sector_size: SectorSize, first: Sector) {
        ciphertext.copy_from_slice(plaintext);
        self.encrypt(ciphertext, sector_size, first);
    }

    /// Decrypts whole sectors from one buffer into another, both of the same size; else as [`decrypt`](Self::decrypt).
    ///
    /// # Panics
    /// As [`encrypt_into`](Self::encrypt_into).
    fn decrypt_into(&self, ciphertext: &[u8], plaintext: &mut [u8], sector_size: SectorSize, first: Sector) {
        plaintext.copy_from_slice(ciphertext);
        self.decrypt(plaintext, sector_size, first);
    }
}
