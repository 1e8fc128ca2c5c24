//! XTS over many blocks, run inside the cipher's backend.
//!
//! `encrypt_with_backend` calls the closure in a function compiled for the processor's vector instructions (AES-NI, VAES);
//! all that is inlined here, tweaks and XORs included, is compiled for them too. Hence `inline(always)`.

use aes::cipher::{
    Array, BlockCipherDecBackend, BlockCipherDecClosure, BlockCipherEncBackend, BlockCipherEncClosure,
    BlockSizeUser, InOutBuf, consts::U16,
};

use super::tweak::{LANES, Lanes};

/// A cipher block.
pub(in crate::crypto) type Block = Array<u8, U16>;

/// Whole blocks of consecutive data units, with the encrypted start tweak of each.
pub(super) struct Batch<'a> {
    /// The blocks: `blocks_per_unit` of each unit, in place.
    pub(super) blocks: &'a mut [Block],
    /// Blocks of one unit. A multiple of [`LANES`] where there is more than one unit.
    pub(super) blocks_per_unit: usize,
    /// One start a unit.
    pub(super) starts: &'a [Block],
}

/// Blocks between two XORs: what VAES-512 takes at once, and little enough to stay in the first cache.
const BATCH: usize = 64;

impl Batch<'_> {
    /// XORs tweaks to the blocks, lets `cipher` work on them, XORs again; a few dozen blocks at a time.
    #[inline(always)]
    fn whiten_around(self, mut cipher: impl FnMut(&mut [Block])) {
        let mut starts = self.starts.iter();
        let mut lanes = Lanes::EMPTY;
        let mut until_next_unit = 0;
        let mut tweaks = [0; BATCH / LANES * 2 * LANES];
        for batch in self.blocks.chunks_mut(BATCH) {
            let groups = batch.len().div_ceil(LANES);
            for words in tweaks.as_chunks_mut().0.iter_mut().take(groups) {
                if until_next_unit == 0 {
                    lanes = starts.next().map_or(Lanes::EMPTY, |start| Lanes::starting_at(start.0));
                    until_next_unit = self.blocks_per_unit.div_ceil(LANES);
                } else {
                    lanes.step();
                }
                lanes.write_to(words);
                until_next_unit -= 1;
            }
            xor(batch, &tweaks);
            cipher(batch);
            xor(batch, &tweaks);
        }
    }
}

/// XORs to each block its two words.
#[inline(always)]
fn xor(blocks: &mut [Block], tweaks: &[u64; 2 * BATCH]) {
    for (block, tweak) in blocks.iter_mut().zip(tweaks.as_chunks::<2>().0) {
        for (bytes, word) in block.0.as_chunks_mut::<8>().0.iter_mut().zip(tweak) {
            *bytes = (u64::from_le_bytes(*bytes) ^ word).to_le_bytes();
        }
    }
}

/// [`Batch`] as the closure that encrypts.
pub(super) struct Encrypt<'a>(pub(super) Batch<'a>);

impl BlockSizeUser for Encrypt<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Encrypt<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        self.0.whiten_around(|blocks| {
            let (whole, tail) = InOutBuf::from(blocks).into_chunks::<B::ParBlocksSize>();
            for chunk in whole {
                backend.encrypt_par_blocks(chunk);
            }
            backend.encrypt_tail_blocks(tail);
        });
    }
}

/// [`Batch`] as the closure that decrypts.
pub(super) struct Decrypt<'a>(pub(super) Batch<'a>);

impl BlockSizeUser for Decrypt<'_> {
    type BlockSize = U16;
}

impl BlockCipherDecClosure for Decrypt<'_> {
    #[inline(always)]
    fn call<B: BlockCipherDecBackend<BlockSize = U16>>(self, backend: &B) {
        self.0.whiten_around(|blocks| {
            let (whole, tail) = InOutBuf::from(blocks).into_chunks::<B::ParBlocksSize>();
            for chunk in whole {
                backend.decrypt_par_blocks(chunk);
            }
            backend.decrypt_tail_blocks(tail);
        });
    }
}
