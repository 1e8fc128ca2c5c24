use std::fmt;

use super::IvSource;
use crate::{
    crypto::{SectorCipher, xts::wipe_wide_stack},
    units::{Sector, SectorSize},
};

/// A cipher whose one block is the whole sector: a change of any bit changes all of it. Under a key, in locked memory.
pub(super) trait WideBlock: Send + Sync + 'static {
    /// Encrypts `block`, at least 16 bytes, in place.
    fn encrypt(&self, tweak: &[u8], block: &mut [u8]);

    /// The inverse of [`encrypt`](Self::encrypt).
    fn decrypt(&self, tweak: &[u8], block: &mut [u8]);
}

/// A wide-block cipher over sectors. Its tweak is the IV as dm-crypt fills the 32 bytes of one: little-endian numbers at the
/// beginning, big-endian ones at the end.
pub(super) struct Wide<C> {
    cipher: C,
    iv: IvSource,
}

impl<C: WideBlock> Wide<C> {
    pub(super) const fn new(cipher: C, iv: IvSource) -> Self {
        Self { cipher, iv }
    }

    fn for_each(
        &self,
        data: &mut [u8],
        size: SectorSize,
        first: Sector,
        work: impl Fn(&C, &[u8], &mut [u8]),
    ) {
        assert!(data.len().is_multiple_of(size.bytes()), "a cipher over a part of a sector");
        let mut ivs = self.iv.from(first, size);
        for sector in data.chunks_mut(size.bytes()) {
            let mut tweak = [0; TWEAK_LEN];
            let place = if self.iv.is_big_endian() { TWEAK_LEN - 16 } else { 0 };
            tweak[place..place + 16].copy_from_slice(&ivs());
            work(&self.cipher, &tweak, sector);
        }
        wipe_wide_stack();
    }
}

impl<C: WideBlock> SectorCipher for Wide<C> {
    fn encrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        self.for_each(data, sector_size, first, C::encrypt);
    }

    fn decrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        self.for_each(data, sector_size, first, C::decrypt);
    }
}

impl<C> fmt::Debug for Wide<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wide")
    }
}

/// Holds a cipher to one published value, both ways; all in hexadecimal digits.
#[cfg(test)]
#[track_caller]
pub(super) fn assert_published(cipher: &impl WideBlock, tweak: &str, plaintext: &str, ciphertext: &str) {
    let tweak = hex::decode(tweak).unwrap();
    let mut block = hex::decode(plaintext).unwrap();
    cipher.encrypt(&tweak, &mut block);
    assert_eq!(hex::encode(&block), ciphertext);
    cipher.decrypt(&tweak, &mut block);
    assert_eq!(hex::encode(&block), plaintext);
}

/// In bytes.
const TWEAK_LEN: usize = 32;
