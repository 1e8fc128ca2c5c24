//! AES-XTS (IEEE 1619-2018), batched over the `aes` crate.

#![allow(
    clippy::inline_always,
    reason = "what is not inlined is not compiled for the cipher's vector instructions"
)]

mod batch;
mod tweak;

pub(super) use self::batch::Block;

use std::{fmt, io};

use aes::{
    Aes128, Aes128Enc, Aes192, Aes192Enc, Aes256, Aes256Enc,
    cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit, consts::U16},
};

use self::batch::{Batch, Decrypt, Encrypt};
use crate::{
    Error, ErrorKind,
    crypto::{SectorCipher, hash},
    sys::memory::LockedBox,
    units::{Sector, SectorSize},
};

/// AES-XTS under one key; its key schedules lie in locked memory. Vector instructions are chosen at run time.
///
/// ```
/// use strongroom::crypto::{SectorCipher, xts::AesXts};
/// use strongroom::units::{Sector, SectorSize};
///
/// let key: Vec<u8> = (0..64).collect();
/// let xts = AesXts::aes256(&key)?;
/// let mut data = vec![7; 8192];
/// xts.encrypt(&mut data, SectorSize::B4096, Sector(100));
/// assert_ne!(data[..4096], data[4096..]);
/// xts.decrypt(&mut data, SectorSize::B4096, Sector(100));
/// assert_eq!(data, vec![7; 8192]);
/// # Ok::<(), strongroom::crypto::xts::XtsKeyError>(())
/// ```
pub struct AesXts(Schedules);

enum Schedules {
    Aes128(LockedBox<Pair<Aes128, Aes128Enc>>),
    Aes192(LockedBox<Pair<Aes192, Aes192Enc>>),
    Aes256(LockedBox<Pair<Aes256, Aes256Enc>>),
}

/// The key that the data is under, and the one that the tweaks are under.
pub(super) struct Pair<D, T> {
    pub(super) data: D,
    pub(super) tweak: T,
}

/// Why bytes make no XTS key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum XtsKeyError {
    /// Another length than the cipher's.
    #[error("an XTS key of {found} bytes, not {expected}")]
    Length {
        /// The length found.
        found: usize,
        /// The length of this cipher's key, both halves.
        expected: usize,
    },
    /// Both halves alike, which takes XTS its proof (FIPS 140-2 IG A.9).
    #[error("the two halves of the XTS key are equal")]
    EqualHalves,
    /// No memory for the key schedules.
    #[error("no memory for the key schedules")]
    Memory(#[from] io::Error),
}

impl From<XtsKeyError> for Error {
    fn from(error: XtsKeyError) -> Self {
        let kind = match error {
            XtsKeyError::Length { .. } => ErrorKind::Usage,
            XtsKeyError::EqualHalves => ErrorKind::Unsupported,
            XtsKeyError::Memory(_) => ErrorKind::OutOfMemory,
        };
        Self::caused_by(kind, error)
    }
}

impl AesXts {
    /// AES-128 under a key of 32 bytes: data key, then tweak key.
    pub fn aes128(key: &[u8]) -> Result<Self, XtsKeyError> {
        let (data, tweak) = halves::<16>(key)?;
        let pair = || Pair { data: Aes128::new(data.into()), tweak: Aes128Enc::new(tweak.into()) };
        Ok(Self(Schedules::Aes128(LockedBox::new(pair)?)))
    }

    /// AES-192 under a key of 48 bytes: data key, then tweak key. IEEE 1619 does not name it; LUKS allows it.
    pub fn aes192(key: &[u8]) -> Result<Self, XtsKeyError> {
        let (data, tweak) = halves::<24>(key)?;
        let pair = || Pair { data: Aes192::new(data.into()), tweak: Aes192Enc::new(tweak.into()) };
        Ok(Self(Schedules::Aes192(LockedBox::new(pair)?)))
    }

    /// AES-256 under a key of 64 bytes: data key, then tweak key.
    pub fn aes256(key: &[u8]) -> Result<Self, XtsKeyError> {
        let (data, tweak) = halves::<32>(key)?;
        let pair = || Pair { data: Aes256::new(data.into()), tweak: Aes256Enc::new(tweak.into()) };
        Ok(Self(Schedules::Aes256(LockedBox::new(pair)?)))
    }

    /// Encrypts one data unit in place; the last block of an uneven one by ciphertext stealing. (IEEE 1619-2018, 5.3)
    ///
    /// # Panics
    /// Where `data` is shorter than one block (16 bytes): the caller's bug.
    pub fn encrypt_unit(&self, data: &mut [u8], tweak: u128) {
        match &self.0 {
            Schedules::Aes128(pair) => pair.encrypt_unit(data, tweak),
            Schedules::Aes192(pair) => pair.encrypt_unit(data, tweak),
            Schedules::Aes256(pair) => pair.encrypt_unit(data, tweak),
        }
    }

    /// Decrypts one data unit in place; the inverse of [`encrypt_unit`](Self::encrypt_unit). (IEEE 1619-2018, 5.4)
    ///
    /// # Panics
    /// As [`encrypt_unit`](Self::encrypt_unit).
    pub fn decrypt_unit(&self, data: &mut [u8], tweak: u128) {
        match &self.0 {
            Schedules::Aes128(pair) => pair.decrypt_unit(data, tweak),
            Schedules::Aes192(pair) => pair.decrypt_unit(data, tweak),
            Schedules::Aes256(pair) => pair.decrypt_unit(data, tweak),
        }
    }
}

impl SectorCipher for AesXts {
    fn encrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        match &self.0 {
            Schedules::Aes128(pair) => pair.encrypt_sectors(data, sector_size, counter(first)),
            Schedules::Aes192(pair) => pair.encrypt_sectors(data, sector_size, counter(first)),
            Schedules::Aes256(pair) => pair.encrypt_sectors(data, sector_size, counter(first)),
        }
    }

    fn decrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        match &self.0 {
            Schedules::Aes128(pair) => pair.decrypt_sectors(data, sector_size, counter(first)),
            Schedules::Aes192(pair) => pair.decrypt_sectors(data, sector_size, counter(first)),
            Schedules::Aes256(pair) => pair.decrypt_sectors(data, sector_size, counter(first)),
        }
    }
}

impl fmt::Debug for AesXts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Schedules::Aes128(_) => "AesXts(aes-128)",
            Schedules::Aes192(_) => "AesXts(aes-192)",
            Schedules::Aes256(_) => "AesXts(aes-256)",
        })
    }
}

impl<D, T> Pair<D, T>
where
    D: BlockCipherEncrypt<BlockSize = U16> + BlockCipherDecrypt,
    T: BlockCipherEncrypt<BlockSize = U16>,
{
    /// Encrypts whole sectors; `tweaks` gives one tweak for each, in order.
    pub(super) fn encrypt_sectors(
        &self,
        data: &mut [u8],
        size: SectorSize,
        tweaks: impl FnMut() -> [u8; 16],
    ) {
        self.each_run(data, size, tweaks, |batch| self.data.encrypt_with_backend(Encrypt(batch)));
    }

    /// Decrypts whole sectors; `tweaks` gives one tweak for each, in order.
    pub(super) fn decrypt_sectors(
        &self,
        data: &mut [u8],
        size: SectorSize,
        tweaks: impl FnMut() -> [u8; 16],
    ) {
        self.each_run(data, size, tweaks, |batch| self.data.decrypt_with_backend(Decrypt(batch)));
    }

    /// Cuts `data` into runs of sectors whose start tweaks are encrypted together.
    fn each_run(
        &self,
        data: &mut [u8],
        size: SectorSize,
        mut tweaks: impl FnMut() -> [u8; 16],
        cipher: impl Fn(Batch<'_>),
    ) {
        let (blocks, rest) = blocks_of(data);
        let blocks_per_unit = size.bytes() / BLOCK;
        let whole = rest.is_empty() && blocks.len().is_multiple_of(blocks_per_unit);
        assert!(whole, "XTS over a part of a sector");

        for run in blocks.chunks_mut(RUN * blocks_per_unit) {
            let mut starts = [Block::default(); RUN];
            let starts = &mut starts[..run.len() / blocks_per_unit];
            for start in &mut *starts {
                *start = Array(tweaks());
            }
            self.tweak.encrypt_blocks(starts);
            cipher(Batch { blocks: run, blocks_per_unit, starts });
        }
    }

    fn encrypt_unit(&self, data: &mut [u8], tweak: u128) {
        assert!(data.len() >= BLOCK, "XTS over less than one block");
        let start = self.start(tweak);
        let (blocks, partial) = blocks_of(data);
        let whole = blocks.len();
        self.data.encrypt_with_backend(Encrypt(unit(blocks, &start)));
        if let (Some(last), false) = (blocks.last_mut(), partial.is_empty()) {
            swap_front(last, partial);
            let tweak = [Array(tweak::advanced(start[0].0, whole))];
            self.data.encrypt_with_backend(Encrypt(unit(std::slice::from_mut(last), &tweak)));
        }
    }

    fn decrypt_unit(&self, data: &mut [u8], tweak: u128) {
        assert!(data.len() >= BLOCK, "XTS over less than one block");
        let start = self.start(tweak);
        let (blocks, partial) = blocks_of(data);
        let stolen_from = usize::from(!partial.is_empty());
        let (regular, last) = blocks.split_at_mut(blocks.len() - stolen_from);
        let regular_len = regular.len();
        self.data.decrypt_with_backend(Decrypt(unit(regular, &start)));
        if let Some(block) = last.first_mut() {
            // The block was encrypted twice: first as the last whole one, then under the tweak after it.
            let after = [Array(tweak::advanced(start[0].0, regular_len + 1))];
            self.data.decrypt_with_backend(Decrypt(unit(std::slice::from_mut(block), &after)));
            swap_front(block, partial);
            let own = [Array(tweak::advanced(start[0].0, regular_len))];
            self.data.decrypt_with_backend(Decrypt(unit(std::slice::from_mut(block), &own)));
        }
    }

    /// The encrypted start tweak of one unit.
    fn start(&self, tweak: u128) -> [Block; 1] {
        let mut start = [Array(tweak.to_le_bytes())];
        self.tweak.encrypt_blocks(&mut start);
        start
    }
}

/// The tweaks of consecutive sectors: their numbers, little-endian (IEEE 1619-2018, 5.1).
fn counter(first: Sector) -> impl FnMut() -> [u8; 16] {
    let mut next = u128::from(first.0);
    move || {
        let tweak = next.to_le_bytes();
        next += 1;
        tweak
    }
}

/// One unit's whole blocks.
fn unit<'a>(blocks: &'a mut [Block], start: &'a [Block; 1]) -> Batch<'a> {
    let blocks_per_unit = blocks.len();
    Batch { blocks, blocks_per_unit, starts: start }
}

/// The whole blocks of `data`, and the bytes after them.
fn blocks_of(data: &mut [u8]) -> (&mut [Block], &mut [u8]) {
    let (blocks, rest) = data.as_chunks_mut::<BLOCK>();
    (Array::cast_slice_from_core_mut(blocks), rest)
}

/// Exchanges the front of a block with a shorter partial one.
fn swap_front(block: &mut Block, partial: &mut [u8]) {
    block[..partial.len()].swap_with_slice(partial);
}

/// The two halves of a key of twice `HALF` bytes.
fn halves<const HALF: usize>(key: &[u8]) -> Result<(&[u8; HALF], &[u8; HALF]), XtsKeyError> {
    let (halves, rest) = key.as_chunks::<HALF>();
    let ([data, tweak], []) = (halves, rest) else {
        return Err(XtsKeyError::Length { found: key.len(), expected: 2 * HALF });
    };
    if hash::equal(data, tweak) {
        return Err(XtsKeyError::EqualHalves);
    }
    Ok((data, tweak))
}

/// Bytes of a block.
const BLOCK: usize = 16;
/// Sectors of one run: as many start tweaks as VAES-512 encrypts at once.
const RUN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_halves_are_refused() {
        assert!(matches!(AesXts::aes256(&[7; 64]), Err(XtsKeyError::EqualHalves)));
        assert!(matches!(AesXts::aes128(&[7; 32]), Err(XtsKeyError::EqualHalves)));
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        for len in [0, 32, 63, 65, 128] {
            let refused = AesXts::aes256(&vec![7; len]).unwrap_err();
            assert!(matches!(refused, XtsKeyError::Length { found, expected: 64 } if found == len), "{len}");
        }
    }

    #[test]
    fn a_unit_of_sector_length_and_a_sector_are_the_same_bytes() {
        let key: Vec<u8> = (0..64).collect();
        let xts = AesXts::aes256(&key).unwrap();
        let plain: Vec<u8> = (0..4096_u32).map(|n| (n % 251).to_le_bytes()[0]).collect();
        let (mut unit, mut sector) = (plain.clone(), plain.clone());
        xts.encrypt_unit(&mut unit, 77);
        xts.encrypt(&mut sector, SectorSize::B4096, Sector(77));
        assert_eq!(unit, sector);
        xts.decrypt_unit(&mut unit, 77);
        assert_eq!(unit, plain);
    }

    #[test]
    #[should_panic(expected = "a part of a sector")]
    fn a_part_of_a_sector_is_a_bug_of_the_caller() {
        let xts = AesXts::aes128(&core::array::from_fn::<u8, 32, _>(|n| u8::try_from(n).unwrap())).unwrap();
        xts.encrypt(&mut [0; 520], SectorSize::B512, Sector(0));
    }

    #[test]
    fn debug_names_the_cipher_only() {
        let key: Vec<u8> = (0..64).collect();
        assert_eq!(format!("{:?}", AesXts::aes256(&key).unwrap()), "AesXts(aes-256)");
    }
}
