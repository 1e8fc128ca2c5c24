use std::fmt;

use super::{BlockCipher, Blocks, Family, KeyError, ecb::whole_blocks};
use crate::{
    crypto::{SectorCipher, crc::crc32_register},
    sys::memory::LockedBytes,
    units::{Sector, SectorSize},
};

/// CBC as TrueCrypt had it up to version 4.0: one chain around all ciphers of a cascade ("outer CBC"). Its IV, and what the
/// ciphertext is whitened with, are made of seeds and the sector's number. (dm-crypt's `tcw` is the same for one cipher.)
///
/// A sector is 512 bytes; larger ones take the number of their first 512.
pub struct WhitenedCbc {
    /// In encryption order.
    ciphers: Vec<Box<dyn Blocks>>,
    seeds: LockedBytes,
    whitening: Whitening,
    first: u64,
}

/// What is added (XOR) to the ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whitening {
    /// Eight bytes of the seeds, as they are: the header's.
    Constant,
    /// Another value for each sector: the data's.
    BySector,
}

impl WhitenedCbc {
    /// Ciphers with their keys in encryption order; the IV's seed and then the whitening's, 16 bytes each. Sector 0 has
    /// the number `first`.
    ///
    /// # Errors
    /// `Length`, `Memory`.
    pub fn new(
        ciphers: &[(BlockCipher, &[u8])],
        seeds: &[u8],
        whitening: Whitening,
        first: u64,
    ) -> Result<Self, KeyError> {
        if seeds.len() != SEEDS_LEN {
            return Err(KeyError::Length { len: seeds.len() });
        }
        let mut locked = LockedBytes::zeroed(SEEDS_LEN)?;
        locked.as_mut_slice().copy_from_slice(seeds);
        let keyed = ciphers.iter().map(|(cipher, key)| {
            let family = Family::of(*cipher, key.len()).ok_or(KeyError::Length { len: key.len() })?;
            (family.blocks)(key)
        });
        Ok(Self { ciphers: keyed.collect::<Result<_, _>>()?, seeds: locked, whitening, first })
    }

    fn iv_seed(&self) -> [u8; 16] {
        self.seeds.as_slice().first_chunk().copied().unwrap_or_default()
    }

    /// The IV of the sector with this number, and what is added (XOR) to each half of a block of its ciphertext.
    fn values_of(&self, number: u64) -> ([u8; 16], [u8; 8]) {
        let seed = self.iv_seed();
        let iv = xor(seed, doubled(number));
        if self.whitening == Whitening::Constant {
            return (iv, seed.last_chunk().copied().unwrap_or_default());
        }
        let seed: [u8; 16] = self.seeds.as_slice().last_chunk().copied().unwrap_or_default();
        let words = xor(seed, doubled(number));
        let mut checksums = [0; 4];
        for (checksum, word) in checksums.iter_mut().zip(words.chunks_exact(4)) {
            *checksum = crc32_register(0, word);
        }
        let [first, second, third, last] = checksums;
        let (low, high) = ((first ^ last).to_le_bytes(), (second ^ third).to_le_bytes());
        let mut value = [0; 8];
        value[..4].copy_from_slice(&low);
        value[4..].copy_from_slice(&high);
        (iv, value)
    }

    /// The numbers of consecutive sectors.
    fn numbers(&self, size: SectorSize, first: Sector) -> impl Iterator<Item = u64> {
        let units = size.bytes_u64() / 512;
        let mut next = self.first.wrapping_add(first.0.wrapping_mul(units));
        std::iter::from_fn(move || {
            let number = next;
            next = next.wrapping_add(units);
            Some(number)
        })
    }
}

impl SectorCipher for WhitenedCbc {
    fn encrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        let sectors = whole_blocks(data, sector_size).chunks_mut(sector_size.bytes() / 16);
        for (sector, number) in sectors.zip(self.numbers(sector_size, first)) {
            let (mut before, whitening) = self.values_of(number);
            for block in sector {
                *block = xor(*block, before);
                for cipher in &self.ciphers {
                    *block = cipher.encrypt(*block);
                }
                before = *block;
                *block = xor(*block, twice(whitening));
            }
        }
    }

    fn decrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        let sectors = whole_blocks(data, sector_size).chunks_mut(sector_size.bytes() / 16);
        for (sector, number) in sectors.zip(self.numbers(sector_size, first)) {
            let (iv, whitening) = self.values_of(number);
            for block in &mut *sector {
                *block = xor(*block, twice(whitening));
            }
            let ciphertext = sector.to_vec();
            for cipher in self.ciphers.iter().rev() {
                cipher.decrypt_all(sector);
            }
            let before = std::iter::once(&iv).chain(&ciphertext);
            for (block, before) in sector.iter_mut().zip(before) {
                *block = xor(*block, *before);
            }
        }
    }
}

impl fmt::Debug for WhitenedCbc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WhitenedCbc")
    }
}

fn xor(block: [u8; 16], other: [u8; 16]) -> [u8; 16] {
    (u128::from_le_bytes(block) ^ u128::from_le_bytes(other)).to_le_bytes()
}

/// A number, little-endian, in both halves of a block.
fn doubled(number: u64) -> [u8; 16] {
    twice(number.to_le_bytes())
}

fn twice(half: [u8; 8]) -> [u8; 16] {
    let half = u128::from(u64::from_le_bytes(half));
    (half | half << 64).to_le_bytes()
}

/// The seeds' size in bytes.
const SEEDS_LEN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decryption_undoes_encryption_around_a_chain_of_ciphers() {
        let keys: Vec<u8> = (0..64).collect();
        let ciphers = [(BlockCipher::Twofish, &keys[..32]), (BlockCipher::Aes, &keys[32..])];
        for whitening in [Whitening::Constant, Whitening::BySector] {
            let cbc = WhitenedCbc::new(&ciphers, &keys[16..48], whitening, 1).unwrap();
            let mut data = [5; 2048];
            cbc.encrypt(&mut data, SectorSize::B512, Sector(3));
            assert_ne!(data[..512], data[512..1024]);
            cbc.decrypt(&mut data, SectorSize::B512, Sector(3));
            assert_eq!(data, [5; 2048]);
        }
    }

    #[test]
    fn seeds_of_another_length_are_refused() {
        let error = WhitenedCbc::new(&[(BlockCipher::Aes, &[0; 32])], &[0; 16], Whitening::Constant, 0);
        assert!(matches!(error, Err(KeyError::Length { len: 16 })));
    }
}
