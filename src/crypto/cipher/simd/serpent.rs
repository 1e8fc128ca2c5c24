//! Serpent, eight blocks in a register of AVX2 and sixteen in one of AVX-512, two registers' worth in flight.

use super::{Avx2, Avx512, kernel::backend};
use crate::crypto::cipher::serpent::{
    RoundKeys,
    rounds::{backwards, rounds, step, substitute, substitutions, two_ways},
};

/// Makes a module with `encrypt_with` and `decrypt_with` out of a vector type and its intrinsics.
macro_rules! serpent {
    (
        $(#[$doc:meta])*
        $name:ident, $proof:ident, $features:literal, $vector:ident of $lanes:literal blocks, $group:ident blocks in flight,
        use { $($intrinsic:path as $alias:ident),* $(,)? },
        $rotate:item
    ) => {
        $(#[$doc])*
        pub(in crate::crypto::cipher) mod $name {
            use std::arch::x86_64::{self, $vector};

            use aes::cipher::{consts::$group as GroupSize, typenum::Unsigned};

            $(use $intrinsic as $alias;)*

            use super::*;
            use crate::crypto::xts::vector::{load, store};

            /// Vectors in flight for each of a block's four words.
            const GROUPS: usize = GroupSize::USIZE / 4 / LANES;
            /// Blocks of a vector.
            const LANES: usize = $lanes;


            backend! { $proof, $features, RoundKeys, alone up to 2 }
            substitutions! { $vector, #[target_feature(enable = $features)] }
            rounds! { $vector, #[target_feature(enable = $features)] }

            #[inline(never)]
            #[target_feature(enable = $features)]
            fn encrypt(keys: &RoundKeys, group: &mut Group) {
                let mut state = load_group(group);
                encrypt_words(keys, &mut state);
                store_group(group, &state);
            }

            #[inline(never)]
            #[target_feature(enable = $features)]
            fn decrypt(keys: &RoundKeys, group: &mut Group) {
                let mut state = load_group(group);
                decrypt_words(keys, &mut state);
                store_group(group, &state);
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn load_group(group: &Group) -> State {
                let mut state = [[broadcast(0); 4]; GROUPS];
                let vectors = group.as_slice().as_chunks().0.as_chunks().0;
                for (words, [a, b, c, d]) in state.iter_mut().zip(vectors) {
                    *words = transposed([load(a), load(b), load(c), load(d)]);
                }
                state
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn store_group(group: &mut Group, state: &State) {
                let vectors = group.as_mut_slice().as_chunks_mut().0.as_chunks_mut().0;
                for ([a, b, c, d], words) in vectors.iter_mut().zip(state) {
                    let words = transposed(*words);
                    store(a, words[0]);
                    store(b, words[1]);
                    store(c, words[2]);
                    store(d, words[3]);
                }
            }

            /// Four blocks' words to four words' blocks, in each 128 bits, and back.
            #[inline]
            #[target_feature(enable = $features)]
            fn transposed([a, b, c, d]: [$vector; 4]) -> [$vector; 4] {
                let (low_ab, high_ab) = (low_words(a, b), high_words(a, b));
                let (low_cd, high_cd) = (low_words(c, d), high_words(c, d));
                [
                    low_pairs(low_ab, low_cd), high_pairs(low_ab, low_cd),
                    low_pairs(high_ab, high_cd), high_pairs(high_ab, high_cd),
                ]
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn broadcast(word: u32) -> $vector {
                repeat(word.cast_signed())
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn not(a: $vector) -> $vector {
                xor(a, repeat(-1))
            }

            /// `a` where `b` is not.
            #[inline]
            #[target_feature(enable = $features)]
            fn and_not(a: $vector, b: $vector) -> $vector {
                not_and(b, a)
            }

            $rotate
        }
    };
}

serpent! {
    /// 512-bit vectors.
    avx512, Avx512, "avx512f,avx512bw,avx512vbmi,gfni", __m512i of 4 blocks, U32 blocks in flight,
    use {
        x86_64::_mm512_and_si512 as and, x86_64::_mm512_andnot_si512 as not_and, x86_64::_mm512_or_si512 as or,
        x86_64::_mm512_xor_si512 as xor, x86_64::_mm512_set1_epi32 as repeat,
        x86_64::_mm512_unpacklo_epi32 as low_words, x86_64::_mm512_unpackhi_epi32 as high_words,
        x86_64::_mm512_unpacklo_epi64 as low_pairs, x86_64::_mm512_unpackhi_epi64 as high_pairs,
        x86_64::_mm512_rol_epi32 as rotate, x86_64::_mm512_slli_epi32 as shift,
    },
    const _: () = ();
}

serpent! {
    /// 256-bit vectors.
    avx2, Avx2, "avx2,aes", __m256i of 2 blocks, U16 blocks in flight,
    use {
        x86_64::_mm256_and_si256 as and, x86_64::_mm256_andnot_si256 as not_and, x86_64::_mm256_or_si256 as or,
        x86_64::_mm256_xor_si256 as xor, x86_64::_mm256_set1_epi32 as repeat,
        x86_64::_mm256_unpacklo_epi32 as low_words, x86_64::_mm256_unpackhi_epi32 as high_words,
        x86_64::_mm256_unpacklo_epi64 as low_pairs, x86_64::_mm256_unpackhi_epi64 as high_pairs,
        x86_64::_mm256_slli_epi32 as shift,
    },
    #[inline]
    #[target_feature(enable = "avx2,aes")]
    fn rotate<const LEFT: i32>(a: __m256i) -> __m256i {
        let left = x86_64::_mm256_sll_epi32(a, x86_64::_mm_cvtsi32_si128(LEFT));
        or(left, x86_64::_mm256_srl_epi32(a, x86_64::_mm_cvtsi32_si128(32 - LEFT)))
    }
}
