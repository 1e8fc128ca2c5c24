//! Hashes that are another one's digest, cut or turned.

use hmac::digest::{
    Digest, FixedOutput, HashMarker, Output, OutputSizeUser, Update,
    array::ArraySize,
    block_api::BlockSizeUser,
    consts::{U16, U20, U24, U40},
};

/// The first bytes of a digest.
#[derive(Clone, Default)]
pub(super) struct Cut<D, N>(D, std::marker::PhantomData<N>);

impl<D, N> HashMarker for Cut<D, N> {}

impl<D: BlockSizeUser, N> BlockSizeUser for Cut<D, N> {
    type BlockSize = D::BlockSize;
}

impl<D: Update, N> Update for Cut<D, N> {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
}

impl<D, N: ArraySize> OutputSizeUser for Cut<D, N> {
    type OutputSize = N;
}

impl<D: FixedOutput, N: ArraySize> FixedOutput for Cut<D, N> {
    fn finalize_into(self, out: &mut Output<Self>) {
        for (byte, digest) in out.iter_mut().zip(self.0.finalize_fixed()) {
            *byte = digest;
        }
    }
}

/// Tiger as Linux has it, and libgcrypt under the name of TIGER192: each word of its digest with the last byte first.
#[derive(Clone, Default)]
pub(super) struct TurnedTiger(tiger::Tiger);

/// The same with 160 bits.
pub(super) type TurnedTiger160 = Cut<TurnedTiger, U20>;
/// The same with 128 bits.
pub(super) type TurnedTiger128 = Cut<TurnedTiger, U16>;

impl HashMarker for TurnedTiger {}

impl BlockSizeUser for TurnedTiger {
    type BlockSize = <tiger::Tiger as BlockSizeUser>::BlockSize;
}

impl Update for TurnedTiger {
    fn update(&mut self, data: &[u8]) {
        Digest::update(&mut self.0, data);
    }
}

impl OutputSizeUser for TurnedTiger {
    type OutputSize = U24;
}

impl FixedOutput for TurnedTiger {
    fn finalize_into(self, out: &mut Output<Self>) {
        FixedOutput::finalize_into(self.0, out);
        for word in out.chunks_mut(8) {
            word.reverse();
        }
    }
}

/// RIPEMD-160 and, behind it, RIPEMD-160 of the same with the letter A before it, of which 129 bytes count: so early programs
/// for Linux made long keys of passwords, and FreeOTFE has it among its hashes.
#[derive(Clone)]
pub(super) struct TwiceRipemd160 {
    once: ripemd::Ripemd160,
    again: ripemd::Ripemd160,
    left: usize,
}

impl Default for TwiceRipemd160 {
    fn default() -> Self {
        let again = <ripemd::Ripemd160 as Digest>::new_with_prefix(b"A");
        Self { once: Digest::new(), again, left: 129 }
    }
}

impl HashMarker for TwiceRipemd160 {}

impl BlockSizeUser for TwiceRipemd160 {
    type BlockSize = <ripemd::Ripemd160 as BlockSizeUser>::BlockSize;
}

impl Update for TwiceRipemd160 {
    fn update(&mut self, data: &[u8]) {
        Digest::update(&mut self.once, data);
        let counted = data.get(..self.left).unwrap_or(data);
        Digest::update(&mut self.again, counted);
        self.left = self.left.saturating_sub(counted.len());
    }
}

impl OutputSizeUser for TwiceRipemd160 {
    type OutputSize = U40;
}

impl FixedOutput for TwiceRipemd160 {
    fn finalize_into(self, out: &mut Output<Self>) {
        let digests = self.once.finalize_fixed().into_iter().chain(self.again.finalize_fixed());
        for (byte, digest) in out.iter_mut().zip(digests) {
            *byte = digest;
        }
    }
}
