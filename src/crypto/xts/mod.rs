//! AES-XTS (IEEE 1619-2018): the mode here, its arithmetic in backends for what processors offer, one of which is chosen at
//! run time and tested before its first use.

mod backend;
mod batch;
mod portable;
#[cfg(target_arch = "x86_64")]
mod simd;
mod tweak;

use std::{fmt, io};

use aes::cipher::{Array, inout::InOutBuf};

pub use self::backend::{Backend, Selection, Why, selection};
use self::batch::Batch;
#[cfg(target_arch = "x86_64")]
pub(super) use self::simd::vector;
pub(super) use self::{
    batch::Block,
    portable::{Pair, wipe_wide_stack},
};
#[cfg(target_arch = "x86_64")]
use crate::sys::memory::LockedBox;
use crate::{
    Error, ErrorKind,
    crypto::{SectorCipher, hash},
    units::{Sector, SectorSize},
};
use zeroize::zeroize_stack;

/// AES-XTS under one key, whose schedules lie in locked memory and are wiped on drop.
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
pub struct AesXts {
    backend: Backend,
    key_len: usize,
    keys: Keys,
}

/// A key in the form that its backend works with.
enum Keys {
    Portable(portable::Keys),
    #[cfg(target_arch = "x86_64")]
    Simd(LockedBox<simd::Keys>),
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
    /// A backend that needs another processor.
    #[error("this processor cannot run the XTS backend {0}")]
    Backend(Backend),
    /// No backend gives right answers.
    #[error("AES-XTS gives wrong results on this machine")]
    SelfTest,
}

impl From<XtsKeyError> for Error {
    fn from(error: XtsKeyError) -> Self {
        let kind = match error {
            XtsKeyError::Length { .. } => ErrorKind::Usage,
            XtsKeyError::EqualHalves | XtsKeyError::Backend(_) | XtsKeyError::SelfTest => {
                ErrorKind::Unsupported
            }
            XtsKeyError::Memory(_) => ErrorKind::OutOfMemory,
        };
        Self::caused_by(kind, error)
    }
}

impl AesXts {
    /// AES-128 under a key of 32 bytes: data key, then tweak key.
    pub fn aes128(key: &[u8]) -> Result<Self, XtsKeyError> {
        Self::selected(key, 32)
    }

    /// AES-192 under a key of 48 bytes: data key, then tweak key. IEEE 1619 does not name it; LUKS allows it.
    pub fn aes192(key: &[u8]) -> Result<Self, XtsKeyError> {
        Self::selected(key, 48)
    }

    /// AES-256 under a key of 64 bytes: data key, then tweak key.
    pub fn aes256(key: &[u8]) -> Result<Self, XtsKeyError> {
        Self::selected(key, 64)
    }

    /// AES under a key of 32, 48 or 64 bytes with a backend of one's own choice, for tests and measurements.
    pub fn with_backend(backend: Backend, key: &[u8]) -> Result<Self, XtsKeyError> {
        let keys = match key.len() {
            32 => {
                let (data, tweak) = halves::<16>(key)?;
                Keys::new(backend, data, tweak, portable::Keys::aes128)
            }
            48 => {
                let (data, tweak) = halves::<24>(key)?;
                Keys::new(backend, data, tweak, portable::Keys::aes192)
            }
            _ => {
                let (data, tweak) = halves::<32>(key)?;
                Keys::new(backend, data, tweak, portable::Keys::aes256)
            }
        };
        Ok(Self { backend, key_len: key.len(), keys: keys? })
    }

    fn selected(key: &[u8], expected: usize) -> Result<Self, XtsKeyError> {
        if key.len() != expected {
            return Err(XtsKeyError::Length { found: key.len(), expected });
        }
        Self::with_backend(selection()?.backend, key)
    }

    /// The backend that this key was made for.
    pub const fn backend(&self) -> Backend {
        self.backend
    }

    /// Encrypts one data unit in place; the last block of an uneven one by ciphertext stealing. (IEEE 1619-2018, 5.3)
    ///
    /// # Panics
    /// Where `data` is shorter than one block (16 bytes): the caller's bug.
    pub fn encrypt_unit(&self, data: &mut [u8], tweak: u128) {
        assert!(data.len() >= BLOCK, "XTS over less than one block");
        let start = self.start(tweak);
        let (blocks, partial) = blocks_of(data);
        let whole = blocks.len();
        self.keys.encrypt(unit(blocks, &start));
        if let (Some(last), false) = (blocks.last_mut(), partial.is_empty()) {
            swap_front(last, partial);
            let tweak = [Array(tweak::advanced(start[0].0, whole))];
            self.keys.encrypt(unit(std::slice::from_mut(last), &tweak));
        }
        wipe_stack();
    }

    /// Decrypts one data unit in place; the inverse of [`encrypt_unit`](Self::encrypt_unit). (IEEE 1619-2018, 5.4)
    ///
    /// # Panics
    /// As [`encrypt_unit`](Self::encrypt_unit).
    pub fn decrypt_unit(&self, data: &mut [u8], tweak: u128) {
        assert!(data.len() >= BLOCK, "XTS over less than one block");
        let start = self.start(tweak);
        let (blocks, partial) = blocks_of(data);
        let stolen_from = usize::from(!partial.is_empty());
        let (regular, last) = blocks.split_at_mut(blocks.len() - stolen_from);
        let regular_len = regular.len();
        self.keys.decrypt(unit(regular, &start));
        if let Some(block) = last.first_mut() {
            // The block was encrypted twice: first as the last whole one, then under the tweak after it.
            let after = [Array(tweak::advanced(start[0].0, regular_len + 1))];
            self.keys.decrypt(unit(std::slice::from_mut(block), &after));
            swap_front(block, partial);
            let own = [Array(tweak::advanced(start[0].0, regular_len))];
            self.keys.decrypt(unit(std::slice::from_mut(block), &own));
        }
        wipe_stack();
    }

    /// The encrypted start tweak of one unit.
    fn start(&self, tweak: u128) -> [Block; 1] {
        let mut start = [Array(tweak.to_le_bytes())];
        self.keys.encrypt_starts(&mut start);
        start
    }

    /// Encrypts whole sectors in place; `tweaks` gives one tweak for each, in order.
    pub(super) fn encrypt_under(&self, data: &mut [u8], size: SectorSize, tweaks: impl FnMut() -> [u8; 16]) {
        let starts = |starts: &mut [Block]| self.keys.encrypt_starts(starts);
        each_run(in_place(data), size, tweaks, starts, |batch| self.keys.encrypt(batch));
        wipe_stack();
    }

    /// Decrypts whole sectors in place; `tweaks` gives one tweak for each, in order.
    pub(super) fn decrypt_under(&self, data: &mut [u8], size: SectorSize, tweaks: impl FnMut() -> [u8; 16]) {
        let starts = |starts: &mut [Block]| self.keys.encrypt_starts(starts);
        each_run(in_place(data), size, tweaks, starts, |batch| self.keys.decrypt(batch));
        wipe_stack();
    }

    /// Works on sectors whose tweaks are their numbers, little-endian (IEEE 1619-2018, 5.1).
    fn each_run(
        &self,
        blocks: InOutBuf<'_, '_, Block>,
        size: SectorSize,
        first: Sector,
        work: impl Fn(Batch<'_>),
    ) {
        let mut next = u128::from(first.0);
        let number = || {
            let tweak = next.to_le_bytes();
            next += 1;
            tweak
        };
        each_run(blocks, size, number, |starts| self.keys.encrypt_starts(starts), work);
        wipe_stack();
    }
}

/// Cuts whole sectors into runs whose start tweaks are encrypted together.
#[inline(never)] // See `wipe_stack`.
fn each_run(
    blocks: InOutBuf<'_, '_, Block>,
    size: SectorSize,
    mut tweaks: impl FnMut() -> [u8; 16],
    encrypt_starts: impl Fn(&mut [Block]),
    work: impl Fn(Batch<'_>),
) {
    let blocks_per_unit = size.bytes() / BLOCK;
    assert!(blocks.len().is_multiple_of(blocks_per_unit), "XTS over a part of a sector");

    let mut rest = blocks;
    while !rest.is_empty() {
        let len = rest.len().min(RUN * blocks_per_unit);
        let (run, after) = rest.split_at(len);
        let mut starts = [Block::default(); RUN];
        let starts = &mut starts[..len / blocks_per_unit];
        for start in &mut *starts {
            *start = Array(tweaks());
        }
        encrypt_starts(starts);
        work(Batch { blocks: run, blocks_per_unit, starts });
        rest = after;
    }
}

impl SectorCipher for AesXts {
    fn backend(&self) -> &'static str {
        self.backend.name()
    }

    fn encrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        self.each_run(in_place(data), sector_size, first, |batch| self.keys.encrypt(batch));
    }

    fn decrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        self.each_run(in_place(data), sector_size, first, |batch| self.keys.decrypt(batch));
    }

    fn encrypt_into(&self, plaintext: &[u8], ciphertext: &mut [u8], sector_size: SectorSize, first: Sector) {
        let blocks = from_to(plaintext, ciphertext);
        self.each_run(blocks, sector_size, first, |batch| self.keys.encrypt(batch));
    }

    fn decrypt_into(&self, ciphertext: &[u8], plaintext: &mut [u8], sector_size: SectorSize, first: Sector) {
        let blocks = from_to(ciphertext, plaintext);
        self.each_run(blocks, sector_size, first, |batch| self.keys.decrypt(batch));
    }
}

impl fmt::Debug for AesXts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AesXts(aes-{})", self.key_len * 4)
    }
}

impl Keys {
    fn new<const HALF: usize>(
        backend: Backend,
        data: &[u8; HALF],
        tweak: &[u8; HALF],
        portable: fn(&[u8; HALF], &[u8; HALF]) -> io::Result<portable::Keys>,
    ) -> Result<Self, XtsKeyError> {
        #[cfg(target_arch = "x86_64")]
        if let Some(kernel) = backend.kernel() {
            let kernel = kernel.supported().ok_or(XtsKeyError::Backend(backend))?;
            return Ok(Self::Simd(LockedBox::new(|| simd::Keys::new(kernel, data, tweak))?));
        }
        if !backend.is_supported() {
            return Err(XtsKeyError::Backend(backend));
        }
        Ok(Self::Portable(portable(data, tweak)?))
    }

    #[inline(never)] // See `wipe_stack`.
    fn encrypt(&self, batch: Batch<'_>) {
        match self {
            Self::Portable(keys) => keys.encrypt(batch),
            #[cfg(target_arch = "x86_64")]
            Self::Simd(keys) => keys.encrypt(batch),
        }
    }

    #[inline(never)] // See `wipe_stack`.
    fn decrypt(&self, batch: Batch<'_>) {
        match self {
            Self::Portable(keys) => keys.decrypt(batch),
            #[cfg(target_arch = "x86_64")]
            Self::Simd(keys) => keys.decrypt(batch),
        }
    }

    #[inline(never)] // See `wipe_stack`.
    fn encrypt_starts(&self, starts: &mut [Block]) {
        match self {
            Self::Portable(keys) => keys.encrypt_starts(starts),
            #[cfg(target_arch = "x86_64")]
            Self::Simd(keys) => keys.encrypt_starts(starts),
        }
    }
}

/// Wipes what the cipher left on the stack: there are more round keys than registers, so some stand there while it works.
/// What calls this has left the work to a function with a frame of its own. The registers go as well.
fn wipe_stack() {
    zeroize_stack::<STACK_WIPED>();
    wipe_registers();
}

/// Clears what round keys and plaintext are in while a cipher works, where that is known.
fn wipe_registers() {
    #[cfg(target_arch = "x86_64")]
    simd::wipe_registers();
}

/// One unit's whole blocks.
fn unit<'a>(blocks: &'a mut [Block], start: &'a [Block; 1]) -> Batch<'a> {
    let blocks_per_unit = blocks.len();
    Batch { blocks: blocks.into(), blocks_per_unit, starts: start }
}

/// The whole blocks of `data`, and the bytes after them.
fn blocks_of(data: &mut [u8]) -> (&mut [Block], &mut [u8]) {
    let (blocks, rest) = data.as_chunks_mut::<BLOCK>();
    (Array::cast_slice_from_core_mut(blocks), rest)
}

/// Sectors to work on where they lie.
pub(super) fn in_place(data: &mut [u8]) -> InOutBuf<'_, '_, Block> {
    let (blocks, rest) = blocks_of(data);
    assert!(rest.is_empty(), "XTS over a part of a sector");
    blocks.into()
}

/// Sectors to read in one place and to write in another.
pub(super) fn from_to<'a>(from: &'a [u8], to: &'a mut [u8]) -> InOutBuf<'a, 'a, Block> {
    let ((from, from_rest), (to, to_rest)) = (from.as_chunks::<BLOCK>(), blocks_of(to));
    assert!(from_rest.is_empty() && to_rest.is_empty(), "XTS over a part of a sector");
    assert_eq!(from.len(), to.len(), "XTS between buffers of different sizes");
    InOutBuf::new(Array::cast_slice_from_core(from), to).unwrap_or((&mut [][..]).into())
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

/// More than the cipher takes: 1 KiB each for tweaks and round keys, and what lies between.
const STACK_WIPED: usize = 4 << 10;
/// Bytes of a block.
const BLOCK: usize = 16;
/// Sectors of one run: as many start tweaks as fill every backend's pipeline.
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
