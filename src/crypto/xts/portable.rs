//! AES-XTS over the `aes` crate, without `unsafe`: for processors without AES instructions and all that are not x86-64.
//!
//! `encrypt_with_backend` calls the closure in a function compiled for the processor's vector instructions (NEON, AES-NI, VAES);
//! all that is inlined there, tweaks and XORs included, is compiled for them too. Hence `inline(always)`.
#![allow(
    clippy::inline_always,
    reason = "what is not inlined is not compiled for the cipher's vector instructions"
)]

use std::io;

use aes::{
    Aes128, Aes128Enc, Aes192, Aes192Enc, Aes256, Aes256Enc,
    cipher::{
        BlockCipherDecBackend, BlockCipherDecClosure, BlockCipherDecrypt, BlockCipherEncBackend,
        BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, KeyInit, consts::U16, inout::InOutBuf,
    },
};

use super::{
    batch::{Batch, Block},
    each_run,
    tweak::{LANES, Lanes},
};
use crate::{sys::memory::LockedBox, units::SectorSize};
use zeroize::zeroize_stack;

/// An XTS key expanded by the `aes` crate, which wipes it on drop.
pub(super) enum Keys {
    Aes128(LockedBox<Pair<Aes128, Aes128Enc>>),
    Aes192(LockedBox<Pair<Aes192, Aes192Enc>>),
    Aes256(LockedBox<Pair<Aes256, Aes256Enc>>),
}

/// The key that the data is under, and the one that the tweaks are under.
pub(in crate::crypto) struct Pair<D, T> {
    pub(in crate::crypto) data: D,
    pub(in crate::crypto) tweak: T,
}

impl<D, T> Pair<D, T>
where
    D: BlockCipherEncrypt<BlockSize = U16> + BlockCipherDecrypt,
    T: BlockCipherEncrypt<BlockSize = U16>,
{
    /// Encrypts whole sectors; `tweaks` gives one tweak for each, in order.
    pub(in crate::crypto) fn encrypt_under(
        &self,
        blocks: InOutBuf<'_, '_, Block>,
        size: SectorSize,
        tweaks: impl FnMut() -> [u8; 16],
    ) {
        let starts = |starts: &mut [Block]| self.tweak.encrypt_blocks(starts);
        let work = |batch: Batch<'_>| self.data.encrypt_with_backend(Encrypt(batch));
        each_run(blocks, size, tweaks, starts, work);
        wipe_wide_stack();
    }

    /// Decrypts whole sectors; `tweaks` gives one tweak for each, in order.
    pub(in crate::crypto) fn decrypt_under(
        &self,
        blocks: InOutBuf<'_, '_, Block>,
        size: SectorSize,
        tweaks: impl FnMut() -> [u8; 16],
    ) {
        let starts = |starts: &mut [Block]| self.tweak.encrypt_blocks(starts);
        let work = |batch: Batch<'_>| self.data.decrypt_with_backend(Decrypt(batch));
        each_run(blocks, size, tweaks, starts, work);
        wipe_wide_stack();
    }
}

/// As [`xts::wipe_stack`](super::wipe_stack), for ciphers whose kernels hold more: up to 64 blocks apart, and a copy of them.
pub(in crate::crypto) fn wipe_wide_stack() {
    zeroize_stack::<{ 8 << 10 }>();
    super::wipe_registers();
}

impl Keys {
    pub(super) fn aes128(data: &[u8; 16], tweak: &[u8; 16]) -> io::Result<Self> {
        let pair = || Pair { data: Aes128::new(data.into()), tweak: Aes128Enc::new(tweak.into()) };
        Ok(Self::Aes128(LockedBox::new(pair)?))
    }

    pub(super) fn aes192(data: &[u8; 24], tweak: &[u8; 24]) -> io::Result<Self> {
        let pair = || Pair { data: Aes192::new(data.into()), tweak: Aes192Enc::new(tweak.into()) };
        Ok(Self::Aes192(LockedBox::new(pair)?))
    }

    pub(super) fn aes256(data: &[u8; 32], tweak: &[u8; 32]) -> io::Result<Self> {
        let pair = || Pair { data: Aes256::new(data.into()), tweak: Aes256Enc::new(tweak.into()) };
        Ok(Self::Aes256(LockedBox::new(pair)?))
    }

    pub(super) fn encrypt(&self, batch: Batch<'_>) {
        match self {
            Self::Aes128(pair) => pair.data.encrypt_with_backend(Encrypt(batch)),
            Self::Aes192(pair) => pair.data.encrypt_with_backend(Encrypt(batch)),
            Self::Aes256(pair) => pair.data.encrypt_with_backend(Encrypt(batch)),
        }
    }

    pub(super) fn decrypt(&self, batch: Batch<'_>) {
        match self {
            Self::Aes128(pair) => pair.data.decrypt_with_backend(Decrypt(batch)),
            Self::Aes192(pair) => pair.data.decrypt_with_backend(Decrypt(batch)),
            Self::Aes256(pair) => pair.data.decrypt_with_backend(Decrypt(batch)),
        }
    }

    /// Encrypts start tweaks under the tweak key.
    pub(super) fn encrypt_starts(&self, starts: &mut [Block]) {
        match self {
            Self::Aes128(pair) => pair.tweak.encrypt_blocks(starts),
            Self::Aes192(pair) => pair.tweak.encrypt_blocks(starts),
            Self::Aes256(pair) => pair.tweak.encrypt_blocks(starts),
        }
    }
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
        let mut rest = self.blocks;
        while !rest.is_empty() {
            let len = rest.len().min(BATCH);
            let (batch, after) = rest.split_at(len);
            rest = after;
            // Source and target may be the same memory, which keeps compilers from vectorising; the target alone cannot.
            let batch = batch.into_out_with_copied_in();
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
struct Encrypt<'a>(Batch<'a>);

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
struct Decrypt<'a>(Batch<'a>);

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
