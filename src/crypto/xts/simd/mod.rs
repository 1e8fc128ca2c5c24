//! AES-XTS with the AES instructions of x86-64 processors, from two to three times as fast as through the `aes` crate.
//!
//! With `sys` the only place for `unsafe`, of two kinds. A function compiled for instructions that not every processor has is
//! called where [`Supported`] proves that this one has them; and vectors are read and written through references to just as
//! many bytes. There is no pointer arithmetic: buffers are cut up by slices, and by `inout`, which the `aes` crate uses too.
#![allow(unsafe_code, reason = "vector instructions; the argument stands above and at each block")]

mod kernel;
pub(in crate::crypto) mod vector;

use std::{
    arch::{
        asm,
        x86_64::{__m128i, _mm_aesimc_si128, _mm_aeskeygenassist_si128, _mm_cvtsi128_si32, _mm_set1_epi32},
    },
    array, fmt,
};

use aes::cipher::Array;
use zeroize::Zeroize;

use self::{
    kernel::{aesni, vaes256, vaes512},
    vector::{load, store},
};
use super::batch::{Batch, Block};

/// Clears the vector registers. What comes next may save them as it found them: libc's loader does so on the stack where it
/// resolves a function at its first call, a signal does too.
pub(super) fn wipe_registers() {
    // SAFETY: it changes vector registers alone, which `clobber_abi` has as changed, and asks for the instructions first.
    unsafe {
        if is_x86_feature_detected!("avx512f") {
            asm!(
                ".irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
                "vpxord zmm\\n, zmm\\n, zmm\\n",
                ".endr",
                clobber_abi("C"),
                options(nomem, nostack, preserves_flags)
            );
        }
        if is_x86_feature_detected!("avx") {
            asm!("vzeroall", clobber_abi("C"), options(nomem, nostack, preserves_flags));
        } else {
            asm!(
                ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
                "pxor xmm\\n, xmm\\n",
                ".endr",
                clobber_abi("C"),
                options(nomem, nostack, preserves_flags)
            );
        }
    }
}

/// One way to compute XTS, and what the processor must have for it.
pub(super) struct Kernel {
    is_supported: fn() -> bool,
    encrypt: unsafe fn(&[Block], Batch<'_>),
    decrypt: unsafe fn(&[Block], Batch<'_>),
    encrypt_starts: unsafe fn(&[Block], &mut [Block]),
}

/// 32 blocks in flight.
pub(super) static VAES512: Kernel = Kernel {
    is_supported: || {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("vpclmulqdq")
            && is_x86_feature_detected!("aes")
    },
    encrypt: vaes512::encrypt,
    decrypt: vaes512::decrypt,
    encrypt_starts: vaes512::encrypt_starts,
};

/// 16 blocks in flight.
pub(super) static VAES256: Kernel = Kernel {
    is_supported: || {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("vpclmulqdq")
            && is_x86_feature_detected!("aes")
    },
    encrypt: vaes256::encrypt,
    decrypt: vaes256::decrypt,
    encrypt_starts: vaes256::encrypt_starts,
};

/// 8 blocks in flight.
pub(super) static AESNI: Kernel = Kernel {
    is_supported: || is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq"),
    encrypt: aesni::encrypt,
    decrypt: aesni::decrypt,
    encrypt_starts: aesni::encrypt_starts,
};

impl Kernel {
    /// Proof that this processor, and its operating system, have what the kernel needs.
    pub(super) fn supported(&'static self) -> Option<Supported> {
        (self.is_supported)().then_some(Supported(self))
    }
}

/// A [`Kernel`] that runs here. Only [`Kernel::supported`] makes one.
#[derive(Clone, Copy)]
pub(super) struct Supported(&'static Kernel);

/// An XTS key expanded for a kernel. Wiped on drop.
pub(super) struct Keys {
    kernel: Supported,
    rounds: usize,
    encrypt: [Block; MAX_KEYS],
    decrypt: [Block; MAX_KEYS],
    tweak: [Block; MAX_KEYS],
}

impl Keys {
    /// Expands both halves of an XTS key, each of `SIZE` bytes: 16, 24 or 32.
    ///
    /// To be called where what it leaves on the stack is wiped.
    pub(super) fn new<const SIZE: usize>(kernel: Supported, data: &[u8; SIZE], tweak: &[u8; SIZE]) -> Self {
        const { assert!(matches!(SIZE, 16 | 24 | 32), "AES keys are of 128, 192 or 256 bits") };
        // SAFETY: `kernel` is proof of AES instructions, which every kernel needs.
        let (encrypt, tweak) = unsafe { (expand(data), expand(tweak)) };
        let rounds = SIZE / 4 + 6;
        // SAFETY: as above.
        let decrypt = unsafe { inverse(&encrypt, rounds) };
        Self { kernel, rounds, encrypt, decrypt, tweak }
    }

    /// The cipher's key size in bits.
    pub(super) const fn bits(&self) -> usize {
        (self.rounds - 6) * 32
    }

    pub(super) fn encrypt(&self, batch: Batch<'_>) {
        // SAFETY: `self.kernel` is proof that the processor has the instructions.
        unsafe { (self.kernel.0.encrypt)(&self.encrypt[..=self.rounds], batch) }
    }

    pub(super) fn decrypt(&self, batch: Batch<'_>) {
        // SAFETY: `self.kernel` is proof that the processor has the instructions.
        unsafe { (self.kernel.0.decrypt)(&self.decrypt[..=self.rounds], batch) }
    }

    /// Encrypts start tweaks under the tweak key.
    pub(super) fn encrypt_starts(&self, starts: &mut [Block]) {
        // SAFETY: `self.kernel` is proof that the processor has the instructions.
        unsafe { (self.kernel.0.encrypt_starts)(&self.tweak[..=self.rounds], starts) }
    }
}

impl Zeroize for Keys {
    fn zeroize(&mut self) {
        for key in self.encrypt.iter_mut().chain(&mut self.decrypt).chain(&mut self.tweak) {
            key.0.zeroize();
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys(aes-{})", self.bits())
    }
}

/// The round keys of the cipher. (FIPS 197, 5.2)
///
/// The `aes` crate does not hand its own out. The S-box is the processor's: no table, so no time that depends on the key.
#[target_feature(enable = "aes")]
fn expand<const SIZE: usize>(key: &[u8; SIZE]) -> [Block; MAX_KEYS] {
    let key_words = SIZE / 4;
    let mut words = [0_u32; 4 * MAX_KEYS];
    for (word, bytes) in words.iter_mut().zip(key.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    let mut round_constant = 1;
    for index in key_words..4 * (key_words + 7) {
        let mut word = words[index - 1];
        if index % key_words == 0 {
            // To rotate bytes to the left is to rotate a little-endian word to the right.
            word = substituted(word).rotate_right(8) ^ round_constant;
            round_constant = if round_constant == 0x80 { 0x1b } else { round_constant << 1 };
        } else if key_words == 8 && index % key_words == 4 {
            word = substituted(word);
        }
        words[index] = words[index - key_words] ^ word;
    }
    let mut words = words.as_chunks::<4>().0.iter();
    array::from_fn(|_| {
        let mut block = Block::default();
        for (bytes, word) in block.0.as_chunks_mut().0.iter_mut().zip(words.next().into_iter().flatten()) {
            *bytes = word.to_le_bytes();
        }
        block
    })
}

/// Each byte of the word through the S-box.
#[target_feature(enable = "aes")]
fn substituted(word: u32) -> u32 {
    let words = _mm_aeskeygenassist_si128::<0>(_mm_set1_epi32(word.cast_signed()));
    _mm_cvtsi128_si32(words).cast_unsigned()
}

/// The round keys of the equivalent inverse cipher. (FIPS 197, 5.3.5)
#[target_feature(enable = "aes")]
fn inverse(keys: &[Block; MAX_KEYS], rounds: usize) -> [Block; MAX_KEYS] {
    let mut inverse = [ZERO; MAX_KEYS];
    for (round, (inverse, key)) in inverse.iter_mut().zip(keys[..=rounds].iter().rev()).enumerate() {
        let is_outer = round == 0 || round == rounds;
        if is_outer {
            *inverse = *key;
        } else {
            store(array::from_mut(inverse), _mm_aesimc_si128(load_block(key)));
        }
    }
    inverse
}

fn load_block(block: &Block) -> __m128i {
    load(array::from_ref(block))
}

/// Round keys of AES-256: one before the first of 14 rounds, one after each.
const MAX_KEYS: usize = 15;

const ZERO: Block = Array([0; 16]);

/// What x^128 is in the field: x^7 + x^2 + x + 1.
const POLYNOMIAL: Block = Array(0x87_u128.to_le_bytes());

/// For the tweaks of 32 blocks, how far each half of the start goes to the left to be multiplied with x^0, x^1, ...
static POWER_SHIFTS: [Block; 32] = both_halves(false);
/// How far each half goes to the right to leave what was shifted out. A shift by 64 leaves nothing.
static CARRY_SHIFTS: [Block; 32] = both_halves(true);

/// The numbers from 0, or from 64 downwards, each in both halves of a block.
const fn both_halves(downwards: bool) -> [Block; 32] {
    let mut blocks = [ZERO; 32];
    let mut power = 0_u8;
    while power < 32 {
        let shift = if downwards { 64 - power } else { power };
        blocks[power as usize].0[0] = shift;
        blocks[power as usize].0[8] = shift;
        power += 1;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last round key: each word before it has gone into it.
    fn assert_expands<const SIZE: usize>(key: &str, last: &str) {
        let Some(kernel) = AESNI.supported() else { return };
        let key: [u8; SIZE] = hex::decode(key).unwrap().try_into().unwrap();
        let keys = Keys::new(kernel, &key, &key);
        assert_eq!(hex::encode(keys.encrypt[keys.rounds]), last);
        assert_eq!(keys.decrypt[0], keys.encrypt[keys.rounds]);
    }

    #[test]
    fn round_keys_are_those_of_fips_197_appendix_a() {
        assert_expands::<16>("2b7e151628aed2a6abf7158809cf4f3c", "d014f9a8c9ee2589e13f0cc8b6630ca6");
        assert_expands::<24>(
            "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
            "e98ba06f448c773c8ecc720401002202",
        );
        assert_expands::<32>(
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "fe4890d1e6188d0b046df344706c631e",
        );
    }

    #[test]
    fn wiped_keys_are_zeros() {
        let Some(kernel) = AESNI.supported() else { return };
        let mut keys = Keys::new(kernel, &[1; 32], &[2; 32]);
        assert!([&keys.encrypt, &keys.decrypt, &keys.tweak].iter().all(|keys| keys[14] != ZERO));
        keys.zeroize();
        let mut wiped = [keys.encrypt, keys.decrypt, keys.tweak].into_iter().flatten();
        assert!(wiped.all(|key| key == ZERO));
    }
}
