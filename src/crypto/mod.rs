//! Primitives and secrets. No I/O, no clock; randomness is a parameter. No globals but
//! these: which backends run here.

pub mod aead;
pub mod benchmark;
pub mod cipher;
pub mod crc;
pub mod hash;
pub mod kdf;
pub mod recovery;
pub mod rng;
pub mod secret;
pub mod sector;
pub mod security_key;
mod selection;
pub mod transport;
pub mod xts;

use std::fmt;

use crate::units::{Sector, SectorSize};

/// A length-preserving cipher over numbered sectors, keyed. The shape behind which every cipher, mode and cascade lives.
pub trait SectorCipher: fmt::Debug + Send + Sync {
    /// What computes it, as `benchmark` shows it: the name of an XTS backend, or `portable` for code without vectors of ours.
    fn backend(&self) -> &'static str {
        "portable"
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds the sector's number to each byte; copies as the trait does.
    #[derive(Debug)]
    struct Adding;

    impl SectorCipher for Adding {
        fn encrypt(&self, data: &mut [u8], _: SectorSize, first: Sector) {
            for byte in data {
                *byte = byte.wrapping_add(first.0.to_le_bytes()[0]);
            }
        }

        fn decrypt(&self, data: &mut [u8], _: SectorSize, first: Sector) {
            for byte in data {
                *byte = byte.wrapping_sub(first.0.to_le_bytes()[0]);
            }
        }
    }

    #[test]
    fn a_cipher_that_works_in_place_works_out_of_place() {
        let (mut ciphertext, mut plaintext) = ([0; 512], [0; 512]);
        Adding.encrypt_into(&[5; 512], &mut ciphertext, SectorSize::B512, Sector(3));
        assert_eq!(ciphertext, [8; 512]);
        Adding.decrypt_into(&ciphertext, &mut plaintext, SectorSize::B512, Sector(3));
        assert_eq!(plaintext, [5; 512]);
    }
}
