use std::fmt;

use super::{Engine, IvSource, KeyError};
use crate::{
    crypto::{
        SectorCipher, hash,
        xts::{AesXts, Pair, from_to, in_place},
    },
    sys::memory::LockedBox,
    units::{Sector, SectorSize},
};

/// XTS over any cipher and any IVs; its key schedules lie in locked memory.
pub(super) struct Xts<C> {
    pair: LockedBox<Pair<C, C>>,
    iv: IvSource,
}

impl<C: Engine> Xts<C> {
    /// Under a data key and a tweak key of the same length, joined.
    pub(super) fn new(key: &[u8], iv: IvSource) -> Result<Self, KeyError> {
        let wrong_length = KeyError::Length { len: key.len() };
        let (data, tweak) = key.split_at(key.len() / 2);
        if hash::equal(data, tweak) {
            return Err(KeyError::EqualHalves);
        }
        let pair = LockedBox::try_new(|| {
            Ok(Pair { data: C::new_from_slice(data)?, tweak: C::new_from_slice(tweak)? })
        })?;
        Ok(Self { pair: pair.map_err(|_: aes::cipher::InvalidLength| wrong_length)?, iv })
    }
}

impl<C: Engine> SectorCipher for Xts<C> {
    fn encrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        self.pair.encrypt_under(in_place(data), sector_size, self.iv.from(first, sector_size));
    }

    fn decrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        self.pair.decrypt_under(in_place(data), sector_size, self.iv.from(first, sector_size));
    }

    fn encrypt_into(&self, plaintext: &[u8], ciphertext: &mut [u8], sector_size: SectorSize, first: Sector) {
        let blocks = from_to(plaintext, ciphertext);
        self.pair.encrypt_under(blocks, sector_size, self.iv.from(first, sector_size));
    }

    fn decrypt_into(&self, ciphertext: &[u8], plaintext: &mut [u8], sector_size: SectorSize, first: Sector) {
        let blocks = from_to(ciphertext, plaintext);
        self.pair.decrypt_under(blocks, sector_size, self.iv.from(first, sector_size));
    }
}

impl<C> fmt::Debug for Xts<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Xts")
    }
}

/// XTS over AES and any IVs, by the backend chosen for this machine.
#[derive(Debug)]
pub(super) struct AesSectors {
    xts: AesXts,
    iv: IvSource,
}

impl AesSectors {
    /// As [`Xts::new`].
    pub(super) fn new(key: &[u8], iv: IvSource) -> Result<Self, KeyError> {
        let xts = match key.len() {
            32 => AesXts::aes128(key),
            48 => AesXts::aes192(key),
            _ => AesXts::aes256(key),
        };
        Ok(Self { xts: xts?, iv })
    }
}

impl SectorCipher for AesSectors {
    fn backend(&self) -> &'static str {
        self.xts.backend().name()
    }

    fn encrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        self.xts.encrypt_under(data, sector_size, self.iv.from(first, sector_size));
    }

    fn decrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        self.xts.decrypt_under(data, sector_size, self.iv.from(first, sector_size));
    }
}
