//! Blocks to vectors and back, for the kernels of XTS and those of the other ciphers.
#![allow(clippy::inline_always, reason = "a call would pass vectors through memory")]

use std::{
    arch::x86_64::{__m128i, __m256i, __m512i},
    ptr,
};

use crate::crypto::xts::batch::Block;

/// A vector that blocks fill.
///
/// # Safety
/// `Self` and `Blocks` have as many bytes, and any bytes make a value of either.
pub(in crate::crypto) unsafe trait Vector: Copy {
    /// The blocks.
    type Blocks;
}

// SAFETY: 128 bits, each of which may be either, and a block is 16 bytes.
unsafe impl Vector for __m128i {
    type Blocks = [Block; 1];
}

// SAFETY: 256 bits, likewise.
unsafe impl Vector for __m256i {
    type Blocks = [Block; 2];
}

// SAFETY: 512 bits, likewise.
unsafe impl Vector for __m512i {
    type Blocks = [Block; 4];
}

/// The vector of these blocks.
#[inline(always)]
pub(in crate::crypto) fn load<V: Vector>(blocks: &V::Blocks) -> V {
    // SAFETY: behind the reference are as many bytes as the vector has; any bytes make one, at any address.
    unsafe { ptr::from_ref(blocks).cast::<V>().read_unaligned() }
}

/// Puts the blocks of a vector in the place of these.
#[inline(always)]
pub(in crate::crypto) fn store<V: Vector>(blocks: &mut V::Blocks, vector: V) {
    // SAFETY: behind the reference are as many bytes as the vector has; any bytes make blocks, at any address.
    unsafe { ptr::from_mut(blocks).cast::<V>().write_unaligned(vector) };
}
