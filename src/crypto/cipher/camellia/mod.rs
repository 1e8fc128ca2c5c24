//! Camellia (RFC 3713). Without vectors of x86-64 it is the `camellia` crate's.

#[cfg(target_arch = "x86_64")]
pub(super) mod schedule;

use ::camellia::{Camellia128, Camellia192, Camellia256};
use aes::cipher::{
    BlockCipherDecClosure, BlockCipherDecrypt, BlockCipherEncClosure, BlockCipherEncrypt, KeyInit,
};

#[cfg(target_arch = "x86_64")]
use self::schedule::RoundKeys;
#[cfg(target_arch = "x86_64")]
use super::simd::{self, Avx2, Avx512};
use super::{Cipher, Kernels, backend::Kernel};

/// Camellia under a key. Its schedule is wiped on drop.
pub(in crate::crypto) struct Camellia(Keyed);

#[allow(clippy::large_enum_variant, reason = "lies in locked pages of its own")]
enum Keyed {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512, RoundKeys),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2, RoundKeys),
    Crate128(Camellia128),
    Crate192(Camellia192),
    Crate256(Camellia256),
}

impl Kernels for Camellia {
    const CIPHER: Cipher = Cipher::Camellia;

    fn expand(kernel: Kernel, key: &[u8]) -> Self {
        Self(match kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512(proof) => Keyed::Avx512(proof, RoundKeys::of(key)),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2(proof) => Keyed::Avx2(proof, RoundKeys::of(key)),
            Kernel::Portable => Keyed::by_crate(key),
        })
    }
}

impl Keyed {
    fn by_crate(key: &[u8]) -> Self {
        let mut padded = [0; 32];
        padded[..key.len()].copy_from_slice(key);
        match key.len() {
            16 => Self::Crate128(Camellia128::new(padded.first_chunk::<16>().unwrap_or(&[0; 16]).into())),
            24 => Self::Crate192(Camellia192::new(padded.first_chunk::<24>().unwrap_or(&[0; 24]).into())),
            _ => Self::Crate256(Camellia256::new((&padded).into())),
        }
    }
}

impl BlockCipherEncrypt for Camellia {
    fn encrypt_with_backend(&self, work: impl BlockCipherEncClosure<BlockSize = Self::BlockSize>) {
        match &self.0 {
            #[cfg(target_arch = "x86_64")]
            Keyed::Avx512(proof, keys) => simd::camellia::avx512::encrypt_with(*proof, keys, work),
            #[cfg(target_arch = "x86_64")]
            Keyed::Avx2(proof, keys) => simd::camellia::avx2::encrypt_with(*proof, keys, work),
            Keyed::Crate128(cipher) => cipher.encrypt_with_backend(work),
            Keyed::Crate192(cipher) => cipher.encrypt_with_backend(work),
            Keyed::Crate256(cipher) => cipher.encrypt_with_backend(work),
        }
    }
}

impl BlockCipherDecrypt for Camellia {
    fn decrypt_with_backend(&self, work: impl BlockCipherDecClosure<BlockSize = Self::BlockSize>) {
        match &self.0 {
            #[cfg(target_arch = "x86_64")]
            Keyed::Avx512(proof, keys) => simd::camellia::avx512::decrypt_with(*proof, keys, work),
            #[cfg(target_arch = "x86_64")]
            Keyed::Avx2(proof, keys) => simd::camellia::avx2::decrypt_with(*proof, keys, work),
            Keyed::Crate128(cipher) => cipher.decrypt_with_backend(work),
            Keyed::Crate192(cipher) => cipher.decrypt_with_backend(work),
            Keyed::Crate256(cipher) => cipher.decrypt_with_backend(work),
        }
    }
}
