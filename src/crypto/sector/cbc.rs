use std::fmt;

use aes::cipher::Array;

use super::{
    Engine, IvSource, KeyError,
    ecb::{keyed, whole_blocks},
};
use crate::{
    crypto::{
        SectorCipher,
        xts::{Block, wipe_wide_stack},
    },
    sys::memory::LockedBox,
    units::{Sector, SectorSize},
};

/// CBC, a chain a sector; the key schedule lies in locked memory.
pub(super) struct Cbc<C> {
    cipher: LockedBox<C>,
    iv: IvSource,
}

impl<C: Engine> Cbc<C> {
    pub(super) fn new(key: &[u8], iv: IvSource) -> Result<Self, KeyError> {
        Ok(Self { cipher: keyed(key)?, iv })
    }

    /// One sector: the ciphertext of each block goes into the next one.
    #[inline(never)] // What it leaves on the stack is wiped.
    fn decrypt_sector(&self, blocks: &mut [[u8; 16]], iv: [u8; 16]) {
        let mut before = iv;
        for batch in blocks.chunks_mut(LANES) {
            let mut decrypted = [Block::default(); LANES];
            for (copy, block) in decrypted.iter_mut().zip(&*batch) {
                copy.0 = *block;
            }
            self.cipher.decrypt_blocks(&mut decrypted[..batch.len()]);
            for (block, mut plain) in batch.iter_mut().zip(decrypted) {
                xor(&mut plain, &before);
                before = std::mem::replace(block, plain.0);
            }
        }
    }
}

impl<C: Engine> SectorCipher for Cbc<C> {
    /// A chain is serial, so several sectors go side by side.
    fn encrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        let mut ivs = self.iv.from(first, sector_size);
        let blocks_per_sector = sector_size.bytes() / 16;
        for run in whole_blocks(data, sector_size).chunks_mut(LANES * blocks_per_sector) {
            let mut chains = [Block::default(); LANES];
            let chains = &mut chains[..run.len() / blocks_per_sector];
            for chain in &mut *chains {
                *chain = Array(ivs());
            }
            for position in 0..blocks_per_sector {
                let column = run.iter().skip(position).step_by(blocks_per_sector);
                for (chain, block) in chains.iter_mut().zip(column) {
                    xor(chain, block);
                }
                self.cipher.encrypt_blocks(chains);
                let column = run.iter_mut().skip(position).step_by(blocks_per_sector);
                for (chain, block) in chains.iter().zip(column) {
                    *block = chain.0;
                }
            }
        }
        wipe_wide_stack();
    }

    fn decrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        let mut ivs = self.iv.from(first, sector_size);
        for sector in whole_blocks(data, sector_size).chunks_mut(sector_size.bytes() / 16) {
            self.decrypt_sector(sector, ivs());
        }
        wipe_wide_stack();
    }
}

impl<C> fmt::Debug for Cbc<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cbc")
    }
}

fn xor(block: &mut Block, other: &[u8; 16]) {
    let both = u128::from_le_bytes(block.0) ^ u128::from_le_bytes(*other);
    block.0 = both.to_le_bytes();
}

/// Blocks that the cipher is given at once: what the widest kernels take.
const LANES: usize = 64;
