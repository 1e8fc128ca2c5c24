use std::fmt;

use aes::cipher::Array;

use super::{Blocks, Encrypts, Engine, KeyError};
use crate::{
    crypto::{SectorCipher, xts::wipe_wide_stack},
    sys::memory::LockedBox,
    units::{Sector, SectorSize},
};

/// Every block by itself; the key schedule lies in locked memory.
pub(super) struct Ecb<C>(LockedBox<C>);

impl<C: Engine> Ecb<C> {
    pub(super) fn new(key: &[u8]) -> Result<Self, KeyError> {
        keyed(key).map(Self)
    }
}

/// The cipher under `key`, in locked memory.
pub(super) fn keyed<C: Engine>(key: &[u8]) -> Result<LockedBox<C>, KeyError> {
    LockedBox::try_new(|| C::new_from_slice(key))?.map_err(|_| KeyError::Length { len: key.len() })
}

impl<C: Engine> SectorCipher for Ecb<C> {
    fn encrypt(&self, data: &mut [u8], sector_size: SectorSize, _: Sector) {
        self.0.encrypt_blocks(Array::cast_slice_from_core_mut(whole_blocks(data, sector_size)));
        wipe_wide_stack();
    }

    fn decrypt(&self, data: &mut [u8], sector_size: SectorSize, _: Sector) {
        self.0.decrypt_blocks(Array::cast_slice_from_core_mut(whole_blocks(data, sector_size)));
        wipe_wide_stack();
    }
}

impl<C: Engine> Encrypts for Ecb<C> {
    fn encrypt(&self, block: [u8; 16]) -> [u8; 16] {
        let mut block = Array(block);
        self.0.encrypt_block(&mut block);
        wipe_wide_stack();
        block.0
    }
}

impl<C: Engine> Blocks for Ecb<C> {
    fn decrypt_all(&self, blocks: &mut [[u8; 16]]) {
        self.0.decrypt_blocks(Array::cast_slice_from_core_mut(blocks));
    }
}

impl<C> fmt::Debug for Ecb<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ecb")
    }
}

/// The blocks of whole sectors.
///
/// # Panics
/// Where `data` is not a whole number of sectors.
pub(super) fn whole_blocks(data: &mut [u8], sector_size: SectorSize) -> &mut [[u8; 16]] {
    assert!(data.len().is_multiple_of(sector_size.bytes()), "a cipher over a part of a sector");
    data.as_chunks_mut().0
}
