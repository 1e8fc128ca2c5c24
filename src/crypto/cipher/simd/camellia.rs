//! Camellia, byte-sliced: a vector holds the same byte of 64 blocks (AVX-512) or 32 (AVX2), so S-boxes and key bytes are the same
//! for all of it. No table in memory, so no time that depends on keys or data.
#![allow(clippy::many_single_char_names, reason = "the bytes of a block have no other names")]

use super::{Avx2, Avx512, kernel::backend};
use crate::crypto::cipher::camellia::schedule::{BEFORE, BEFORE_ADDED, BEHIND, BEHIND_ADDED, Map, RoundKeys};

/// Makes a module with `encrypt_with` and `decrypt_with` out of a vector type, its intrinsics and `substitute`.
macro_rules! camellia {
    (
        $(#[$doc:meta])*
        $name:ident, $proof:ident, $features:literal, $vector:ident of $lanes:literal blocks, $group:ident blocks in flight,
        use { $($intrinsic:path as $alias:ident),* $(,)? },
        $($substitute:item)*
    ) => {
        $(#[$doc])*
        pub(in crate::crypto::cipher) mod $name {
            use std::arch::x86_64::{self, $vector};

            use aes::cipher::{consts::$group as GroupSize, typenum::Unsigned};

            $(use $intrinsic as $alias;)*

            use super::*;
            use crate::crypto::xts::vector::{load, store};

            /// Half a block: eight bytes of many blocks.
            type Half = [$vector; 8];
            /// A key's bytes.
            type Key = [u8; 8];

            /// Blocks of a vector, where they lie one behind the other.
            const LANES: usize = $lanes;

            const _: () = assert!(GroupSize::USIZE == 16 * LANES);

            backend! { $proof, $features, RoundKeys }

            #[inline(never)]
            #[target_feature(enable = $features)]
            fn encrypt(keys: &RoundKeys, group: &mut Group) {
                crypt(keys.encrypting(), group);
            }

            #[inline(never)]
            #[target_feature(enable = $features)]
            fn decrypt(keys: &RoundKeys, group: &mut Group) {
                crypt(keys.decrypting(), group);
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn crypt(keys: &[Key], group: &mut Group) {
                let [white0, white1, rounds @ .., white2, white3] = keys else { return };
                let (mut left, mut right) = load_group(group);
                add(&mut left, white0);
                add(&mut right, white1);
                for keys in rounds.chunks(8) {
                    for keys in keys.as_chunks::<2>().0.iter().take(3) {
                        round(&mut right, &left, &keys[0]);
                        round(&mut left, &right, &keys[1]);
                    }
                    if let [.., key, inverse_key] = keys && keys.len() == 8 {
                        mix(&mut left, key);
                        unmix(&mut right, inverse_key);
                    }
                }
                add(&mut right, white2);
                add(&mut left, white3);
                store_group(group, &right, &left);
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn add(half: &mut Half, key: &Key) {
                for (bytes, key) in half.iter_mut().zip(key) {
                    *bytes = xor(*bytes, broadcast(*key));
                }
            }

            /// The round function, added to the other half. (RFC 3713, 2.4.1)
            #[inline]
            #[target_feature(enable = $features)]
            fn round(target: &mut Half, source: &Half, key: &Key) {
                let mut z = *source;
                add(&mut z, key);
                let mut a = substitute::<0>(z[0]);
                let mut b = substitute::<1>(z[1]);
                let mut c = substitute::<2>(z[2]);
                let mut d = substitute::<3>(z[3]);
                let mut e = substitute::<1>(z[4]);
                let mut f = substitute::<2>(z[5]);
                let mut g = substitute::<3>(z[6]);
                let mut h = substitute::<0>(z[7]);
                (a, b, c, d) = (xor(a, f), xor(b, g), xor(c, h), xor(d, e));
                (e, f, g, h) = (xor(e, c), xor(f, d), xor(g, a), xor(h, b));
                (a, b, c, d) = (xor(a, h), xor(b, e), xor(c, f), xor(d, g));
                (e, f, g, h) = (xor(e, d), xor(f, a), xor(g, b), xor(h, c));
                for (bytes, added) in target.iter_mut().zip([e, f, g, h, a, b, c, d]) {
                    *bytes = xor(*bytes, added);
                }
            }

            /// The function FL. (2.4.2)
            #[inline]
            #[target_feature(enable = $features)]
            fn mix(half: &mut Half, key: &Key) {
                rotate_into_low(half, key);
                merge_into_high(half, key);
            }

            /// The inverse of FL. (2.4.3)
            #[inline]
            #[target_feature(enable = $features)]
            fn unmix(half: &mut Half, key: &Key) {
                merge_into_high(half, key);
                rotate_into_low(half, key);
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn rotate_into_low(half: &mut Half, key: &Key) {
                let mut masked = [half[0]; 4];
                for (position, masked) in masked.iter_mut().enumerate() {
                    *masked = and(half[position], broadcast(key[position]));
                }
                for position in 0..4 {
                    // A vector's bytes shift among themselves; the bit that leaves comes in at the byte before.
                    let shifted = add_bytes(masked[position], masked[position]);
                    let carried = and(shift_right::<7>(masked[(position + 1) % 4]), broadcast(1));
                    half[position + 4] = xor(half[position + 4], or(shifted, carried));
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn merge_into_high(half: &mut Half, key: &Key) {
                for position in 0..4 {
                    let merged = or(half[position + 4], broadcast(key[position + 4]));
                    half[position] = xor(half[position], merged);
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn load_group(group: &Group) -> (Half, Half) {
                let mut vectors = [broadcast(0); 16];
                for (vector, blocks) in vectors.iter_mut().zip(group.as_slice().as_chunks().0) {
                    *vector = load(blocks);
                }
                let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = transposed(vectors);
                ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p])
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn store_group(group: &mut Group, left: &Half, right: &Half) {
                let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = (*left, *right);
                let vectors = transposed([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]);
                for (blocks, vector) in group.as_mut_slice().as_chunks_mut().0.iter_mut().zip(vectors) {
                    store(blocks, vector);
                }
            }

            /// Blocks' bytes to bytes' blocks, in each 128 bits, and back: eight bits number a byte among 256, and each of four steps
            /// rotates them by one.
            #[inline]
            #[target_feature(enable = $features)]
            fn transposed(mut vectors: [$vector; 16]) -> [$vector; 16] {
                for _ in 0..4 {
                    let before = vectors;
                    for (index, pair) in vectors.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                        let (a, b) = (before[index], before[index + 8]);
                        *pair = [low_bytes(a, b), high_bytes(a, b)];
                    }
                }
                vectors
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn broadcast(byte: u8) -> $vector {
                repeat(byte.cast_signed())
            }

            $($substitute)*
        }
    };
}

camellia! {
    /// 512-bit vectors, with GFNI for the S-boxes.
    avx512, Avx512, "avx512f,avx512bw,avx512vbmi,gfni", __m512i of 4 blocks, U64 blocks in flight,
    use {
        x86_64::_mm512_and_si512 as and, x86_64::_mm512_or_si512 as or, x86_64::_mm512_xor_si512 as xor,
        x86_64::_mm512_set1_epi8 as repeat, x86_64::_mm512_add_epi8 as add_bytes, x86_64::_mm512_srli_epi16 as shift_right,
        x86_64::_mm512_unpacklo_epi8 as low_bytes, x86_64::_mm512_unpackhi_epi8 as high_bytes,
    },
    /// One of the S-boxes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,gfni")]
    fn substitute<const INDEX: usize>(bytes: __m512i) -> __m512i {
        const ADDED: [i32; 4] = added();
        let before = x86_64::_mm512_set1_epi64(BEFORE[INDEX].matrix());
        let behind = x86_64::_mm512_set1_epi64(BEHIND[INDEX].matrix());
        let mapped = x86_64::_mm512_gf2p8affine_epi64_epi8::<{ BEFORE_ADDED as i32 }>(bytes, before);
        match INDEX {
            1 => x86_64::_mm512_gf2p8affineinv_epi64_epi8::<{ ADDED[1] }>(mapped, behind),
            2 => x86_64::_mm512_gf2p8affineinv_epi64_epi8::<{ ADDED[2] }>(mapped, behind),
            _ => x86_64::_mm512_gf2p8affineinv_epi64_epi8::<{ ADDED[0] }>(mapped, behind),
        }
    }

    /// What GFNI adds behind the S-boxes' maps.
    const fn added() -> [i32; 4] {
        let [a, b, c, d] = BEHIND_ADDED;
        [a as i32, b as i32, c as i32, d as i32]
    }
}

camellia! {
    /// 256-bit vectors, with AES-NI for the inversion and shuffles for the maps.
    avx2, Avx2, "avx2,aes", __m256i of 2 blocks, U32 blocks in flight,
    use {
        x86_64::_mm256_and_si256 as and, x86_64::_mm256_or_si256 as or, x86_64::_mm256_xor_si256 as xor,
        x86_64::_mm256_set1_epi8 as repeat, x86_64::_mm256_add_epi8 as add_bytes, x86_64::_mm256_srli_epi16 as shift_right,
        x86_64::_mm256_unpacklo_epi8 as low_bytes, x86_64::_mm256_unpackhi_epi8 as high_bytes,
    },
    /// One of the S-boxes: the processor's last round of AES is its S-box and an order of the bytes, which is undone before.
    #[inline]
    #[target_feature(enable = "avx2,aes")]
    fn substitute<const INDEX: usize>(bytes: __m256i) -> __m256i {
        let mapped = x86_64::_mm256_shuffle_epi8(through(bytes, &BEFORE_TABLES[INDEX]), table(&ORDER));
        let no_key = x86_64::_mm_setzero_si128();
        let low = x86_64::_mm_aesenclast_si128(x86_64::_mm256_castsi256_si128(mapped), no_key);
        let high = x86_64::_mm_aesenclast_si128(x86_64::_mm256_extracti128_si256::<1>(mapped), no_key);
        through(x86_64::_mm256_set_m128i(high, low), &BEHIND_TABLES[INDEX])
    }

    /// Each byte through a map, of which there is a table for either half of a byte.
    #[inline]
    #[target_feature(enable = "avx2,aes")]
    fn through(bytes: __m256i, tables: &[Block; 2]) -> __m256i {
        let low = and(bytes, broadcast(0x0f));
        let high = and(shift_right::<4>(bytes), broadcast(0x0f));
        let [of_low, of_high] = tables;
        xor(x86_64::_mm256_shuffle_epi8(table(of_low), low), x86_64::_mm256_shuffle_epi8(table(of_high), high))
    }

    #[inline]
    #[target_feature(enable = "avx2,aes")]
    fn table(table: &Block) -> __m256i {
        load(&[*table; 2])
    }

    /// The maps before the inversion.
    static BEFORE_TABLES: [[Block; 2]; 4] = {
        let (mut tables, mut index) = ([[Array([0; 16]); 2]; 4], 0);
        while index < 4 {
            tables[index] = tables_of(BEFORE[index], BEFORE_ADDED, false);
            index += 1;
        }
        tables
    };

    /// The maps behind it, which take back what the S-box of AES does after its own inversion.
    static BEHIND_TABLES: [[Block; 2]; 4] = {
        let (mut tables, mut index) = ([[Array([0; 16]); 2]; 4], 0);
        while index < 4 {
            tables[index] = tables_of(BEHIND[index], BEHIND_ADDED[index], true);
            index += 1;
        }
        tables
    };

    const fn tables_of(map: Map, added: u8, behind_aes: bool) -> [Block; 2] {
        let (mut low, mut high, mut half) = ([0; 16], [0; 16], 0_u8);
        while half < 16 {
            low[half as usize] = map.of(inverse_affine(half, behind_aes)) ^ added;
            let whole = map.of(inverse_affine(half << 4, behind_aes)) ^ added;
            high[half as usize] = whole ^ low[0];
            half += 1;
        }
        [Array(low), Array(high)]
    }

    /// The inverse of the map in the S-box of AES. (FIPS 197, 5.3.2)
    const fn inverse_affine(byte: u8, behind_aes: bool) -> u8 {
        if !behind_aes {
            return byte;
        }
        let byte = byte ^ 0x63;
        byte.rotate_left(1) ^ byte.rotate_left(3) ^ byte.rotate_left(6)
    }

    /// What the last round of AES puts in order. (FIPS 197, 5.3.1)
    static ORDER: Block = Array([0, 13, 10, 7, 4, 1, 14, 11, 8, 5, 2, 15, 12, 9, 6, 3]);
}
