//! Serpent (Anderson, Biham, Knudsen: "Serpent: A Proposal for the Advanced Encryption Standard", 1998).

mod portable;
pub(super) mod rounds;

use aes::cipher::{BlockCipherDecClosure, BlockCipherDecrypt, BlockCipherEncClosure, BlockCipherEncrypt};
use zeroize::Zeroize;

#[cfg(target_arch = "x86_64")]
use super::simd;
use super::{Cipher, Kernels, backend::Kernel};

/// Serpent under a key. Its schedule is wiped on drop.
pub(in crate::crypto) struct Serpent {
    kernel: Kernel,
    keys: RoundKeys,
}

impl Kernels for Serpent {
    const CIPHER: Cipher = Cipher::Serpent;

    fn expand(kernel: Kernel, key: &[u8]) -> Self {
        Self { kernel, keys: RoundKeys::of(key) }
    }
}

impl BlockCipherEncrypt for Serpent {
    fn encrypt_with_backend(&self, work: impl BlockCipherEncClosure<BlockSize = Self::BlockSize>) {
        match self.kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512(proof) => simd::serpent::avx512::encrypt_with(proof, &self.keys, work),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2(proof) => simd::serpent::avx2::encrypt_with(proof, &self.keys, work),
            Kernel::Portable => work.call(&portable::Portable(&self.keys)),
        }
    }
}

impl BlockCipherDecrypt for Serpent {
    fn decrypt_with_backend(&self, work: impl BlockCipherDecClosure<BlockSize = Self::BlockSize>) {
        match self.kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512(proof) => simd::serpent::avx512::decrypt_with(proof, &self.keys, work),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2(proof) => simd::serpent::avx2::decrypt_with(proof, &self.keys, work),
            Kernel::Portable => work.call(&portable::Portable(&self.keys)),
        }
    }
}

/// The keys between the rounds, four words each. Wiped on drop.
pub(super) struct RoundKeys(pub(super) [[u32; 4]; 33]);

impl RoundKeys {
    /// The schedule of a key of at most 32 bytes; a shorter one is padded by a single bit.
    fn of(key: &[u8]) -> Self {
        let mut padded = [0; 32];
        padded[..key.len()].copy_from_slice(key);
        if let Some(after) = padded.get_mut(key.len()) {
            *after = 1;
        }
        // The eight words before the first, then each from those 8, 5, 3 and 1 before it.
        let mut words = [0; 8 + 132];
        for (word, bytes) in words.iter_mut().zip(padded.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        for (number, index) in (0_u32..).zip(8..words.len()) {
            let mixed = words[index - 8] ^ words[index - 5] ^ words[index - 3] ^ words[index - 1];
            words[index] = (mixed ^ GOLDEN_RATIO ^ number).rotate_left(11);
        }
        let mut keys = Self([[0; 4]; 33]);
        for (index, (key, words)) in keys.0.iter_mut().zip(words[8..].as_chunks().0).enumerate() {
            // The S-boxes count down from the fourth.
            let sbox = single::SBOXES[(35 - index) % 8];
            *key = sbox(*words);
        }
        padded.zeroize();
        words.zeroize();
        keys
    }
}

impl Drop for RoundKeys {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The cipher over one block, and the S-boxes, for the key schedule.
mod single {
    use super::{
        RoundKeys,
        rounds::{backwards, rounds, step, substitute, substitutions, two_ways},
    };
    use crate::crypto::xts::Block;

    /// One block.
    const GROUPS: usize = 1;

    /// By number.
    pub(super) const SBOXES: [fn([u32; 4]) -> [u32; 4]; 8] =
        [sbox0, sbox1, sbox2, sbox3, sbox4, sbox5, sbox6, sbox7];

    #[cfg(test)]
    pub(super) const INVERSES: [fn([u32; 4]) -> [u32; 4]; 8] =
        [inverse0, inverse1, inverse2, inverse3, inverse4, inverse5, inverse6, inverse7];

    substitutions! { u32 }
    rounds! { u32 }

    impl RoundKeys {
        /// Encrypts one block: what is best for so few that a vector would be nearly empty.
        #[inline(never)]
        pub(in crate::crypto::cipher) fn encrypt_alone(&self, block: &mut Block) {
            let mut state = [load(block)];
            encrypt_words(self, &mut state);
            store(block, state[0]);
        }

        /// The inverse of [`encrypt_alone`](Self::encrypt_alone).
        #[inline(never)]
        pub(in crate::crypto::cipher) fn decrypt_alone(&self, block: &mut Block) {
            let mut state = [load(block)];
            decrypt_words(self, &mut state);
            store(block, state[0]);
        }
    }

    fn load(block: &Block) -> [u32; 4] {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(block.0.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        words
    }

    fn store(block: &mut Block, words: [u32; 4]) {
        for (bytes, word) in block.0.as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
    }

    const fn broadcast(word: u32) -> u32 {
        word
    }

    const fn rotate<const LEFT: u32>(a: u32) -> u32 {
        a.rotate_left(LEFT)
    }

    const fn shift<const LEFT: u32>(a: u32) -> u32 {
        a << LEFT
    }

    const fn and(a: u32, b: u32) -> u32 {
        a & b
    }

    const fn and_not(a: u32, b: u32) -> u32 {
        a & !b
    }

    const fn or(a: u32, b: u32) -> u32 {
        a | b
    }

    const fn xor(a: u32, b: u32) -> u32 {
        a ^ b
    }

    const fn not(a: u32) -> u32 {
        !a
    }
}

/// The fraction of the golden ratio.
const GOLDEN_RATIO: u32 = 0x9e37_79b9;

#[cfg(test)]
mod tests {
    use super::single::{INVERSES, SBOXES};

    /// The specification's table, S0 to S7.
    const TABLE: [[u32; 16]; 8] = [
        [3, 8, 15, 1, 10, 6, 5, 11, 14, 13, 4, 2, 7, 0, 9, 12],
        [15, 12, 2, 7, 9, 0, 5, 10, 1, 11, 14, 8, 6, 13, 3, 4],
        [8, 6, 7, 9, 3, 12, 10, 15, 13, 1, 14, 4, 0, 11, 5, 2],
        [0, 15, 11, 8, 12, 9, 6, 3, 13, 1, 2, 4, 10, 7, 5, 14],
        [1, 15, 8, 3, 12, 0, 11, 6, 2, 5, 4, 10, 9, 14, 7, 13],
        [15, 5, 2, 11, 4, 10, 9, 12, 0, 3, 14, 8, 13, 6, 7, 1],
        [7, 2, 12, 5, 8, 4, 6, 11, 14, 9, 1, 15, 13, 3, 10, 0],
        [1, 13, 15, 0, 14, 8, 2, 11, 7, 4, 12, 10, 9, 3, 5, 6],
    ];

    /// Bit `n` of a number, in all bits of a word.
    fn spread(number: u32) -> [u32; 4] {
        [0, 1, 2, 3].map(|bit| 0_u32.wrapping_sub((number >> bit) & 1))
    }

    #[test]
    fn each_circuit_and_its_inverse_is_the_specifications_table() {
        for (index, table) in TABLE.iter().enumerate() {
            for (input, output) in (0..).zip(table) {
                assert_eq!(SBOXES[index](spread(input)), spread(*output), "S{index}({input})");
                assert_eq!(INVERSES[index](spread(*output)), spread(input), "inverse S{index}({output})");
            }
        }
    }
}
