//! Block ciphers with the vector instructions of x86-64 processors.
//!
//! The rules are those of `crypto::xts::simd`, whose `vector` reads and writes vectors. There is `unsafe` of one kind: a function
//! compiled for instructions that not every processor has is called where [`Avx512`] or [`Avx2`] proves that this one has them.
//!
//! Kernels are not inlined into the loops around them, so that no compiler lifts round keys out of those onto the stack.
#![allow(unsafe_code, reason = "vector instructions; the argument stands above and at each block")]

pub(super) mod camellia;
mod kernel;
pub(super) mod serpent;

/// Proof that this processor, and its operating system, have AVX-512 as it came with Ice Lake and Zen 4.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let is_supported = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("gfni");
        is_supported.then_some(Self(()))
    }
}

/// Proof that this processor, and its operating system, have AVX2, and AES-NI with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let is_supported = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("aes");
        is_supported.then_some(Self(()))
    }
}
