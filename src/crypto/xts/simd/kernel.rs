//! The XTS loop over one width of vectors: written once, compiled three times.
//!
//! It is a macro because intrinsics are safe only within a function that names their target features, and neither a trait's
//! methods nor generics can. What differs between the widths stands at the end of this file.

/// Makes a module with `encrypt`, `decrypt` and `encrypt_starts` out of a vector type and its intrinsics.
macro_rules! kernel {
    (
        $(#[$doc:meta])*
        $name:ident, $features:literal, $vector:ident of $lanes:literal blocks, $group:ident blocks in flight,
        use { $($intrinsic:path as $alias:ident),* $(,)? }
    ) => {
        $(#[$doc])*
        pub(in crate::crypto::xts::simd) mod $name {
            use std::arch::x86_64::{self, $vector};

            $(use $intrinsic as $alias;)*

            use aes::cipher::{Array, consts::$group, inout::{InOut, InOutBuf}, typenum::Unsigned};
            use zeroize::Zeroize;

            use super::super::{CARRY_SHIFTS, POLYNOMIAL, POWER_SHIFTS, ZERO, load_block, vector::{load, store}};
            use crate::crypto::xts::batch::{Batch, Block};

            type Group = Array<Block, $group>;

            /// Blocks of a vector.
            const LANES: usize = $lanes;
            /// Vectors in flight.
            const VECTORS: usize = $group::USIZE / LANES;
            /// Bytes by which a shift multiplies with x^[`GROUP`].
            const STEP: i32 = $group::I32 / 8;

            #[target_feature(enable = $features)]
            pub(in crate::crypto::xts::simd) fn encrypt(keys: &[Block], batch: Batch<'_>) {
                crypt::<true>(keys, batch);
            }

            #[target_feature(enable = $features)]
            pub(in crate::crypto::xts::simd) fn decrypt(keys: &[Block], batch: Batch<'_>) {
                crypt::<false>(keys, batch);
            }

            /// AES alone, without tweaks.
            #[target_feature(enable = $features)]
            pub(in crate::crypto::xts::simd) fn encrypt_starts(keys: &[Block], starts: &mut [Block]) {
                for starts in starts.chunks_mut($group::USIZE) {
                    let mut padded = Group::default();
                    padded[..starts.len()].copy_from_slice(starts);
                    let mut state = load_group(&padded);
                    rounds::<true>(keys, &mut state);
                    store_group(&mut padded, &state);
                    starts.copy_from_slice(&padded[..starts.len()]);
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn crypt<const ENCRYPT: bool>(keys: &[Block], batch: Batch<'_>) {
                let mut rest = batch.blocks;
                for start in batch.starts {
                    let (unit, after) = rest.split_at(batch.blocks_per_unit);
                    crypt_unit::<ENCRYPT>(keys, unit, start);
                    rest = after;
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn crypt_unit<const ENCRYPT: bool>(keys: &[Block], unit: InOutBuf<'_, '_, Block>, start: &Block) {
                let mut tweaks = tweaks_from(start);
                let (groups, mut rest) = unit.into_chunks::<$group>();
                let last = groups.len().wrapping_sub(usize::from(rest.is_empty()));
                for (index, group) in groups.into_iter().enumerate() {
                    crypt_group::<ENCRYPT>(keys, group, &tweaks);
                    if index != last {
                        step(&mut tweaks);
                    }
                }
                if !rest.is_empty() {
                    let mut padded = Group::default();
                    let len = rest.len();
                    padded[..len].copy_from_slice(rest.get_in());
                    crypt_group::<ENCRYPT>(keys, InOut::from(&mut padded), &tweaks);
                    rest.get_out().copy_from_slice(&padded[..len]);
                    // Headers come here with the keys that they hold.
                    padded.iter_mut().for_each(|block| block.0.zeroize());
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn crypt_group<const ENCRYPT: bool>(
                keys: &[Block],
                mut group: InOut<'_, '_, Group>,
                tweaks: &[$vector; VECTORS],
            ) {
                let mut state = load_group(group.get_in());
                whiten(&mut state, tweaks);
                rounds::<ENCRYPT>(keys, &mut state);
                whiten(&mut state, tweaks);
                store_group(group.get_out(), &state);
            }

            /// The cipher's rounds. Keys are read from memory in each, so that none is spilled to the stack.
            #[inline]
            #[target_feature(enable = $features)]
            fn rounds<const ENCRYPT: bool>(keys: &[Block], state: &mut [$vector; VECTORS]) {
                let [first, middle @ .., last] = keys else { return };
                let first = in_all_lanes(load_block(first));
                for vector in &mut *state {
                    *vector = xor(*vector, first);
                }
                for key in middle {
                    let key = in_all_lanes(load_block(key));
                    for vector in &mut *state {
                        *vector = if ENCRYPT { aesenc(*vector, key) } else { aesdec(*vector, key) };
                    }
                }
                let last = in_all_lanes(load_block(last));
                for vector in state {
                    *vector = if ENCRYPT { aesenclast(*vector, last) } else { aesdeclast(*vector, last) };
                }
            }

            /// The tweaks of a unit's first blocks: its encrypted start times x^0, x^1, ...
            #[inline]
            #[target_feature(enable = $features)]
            fn tweaks_from(start: &Block) -> [$vector; VECTORS] {
                let start = in_all_lanes(load_block(start));
                let polynomial = in_all_lanes(load_block(&POLYNOMIAL));
                let mut tweaks = [start; VECTORS];
                let shifts = POWER_SHIFTS.as_chunks::<LANES>().0.iter().zip(CARRY_SHIFTS.as_chunks::<LANES>().0);
                for (tweak, (left, right)) in tweaks.iter_mut().zip(shifts) {
                    // Each half of 64 bits is shifted alone. What leaves the low one enters the high one; what leaves the high
                    // one comes back as a multiple of the polynomial.
                    let carries = shift_right(start, load(right));
                    let shifted = xor(shift_left(start, load(left)), shift_bytes_left::<8>(carries));
                    *tweak = xor(shifted, multiply::<HIGH_BY_LOW>(carries, polynomial));
                }
                tweaks
            }

            /// The tweaks of the next blocks: each times x to the power of the blocks in flight, a number of whole bytes.
            #[inline]
            #[target_feature(enable = $features)]
            fn step(tweaks: &mut [$vector; VECTORS]) {
                let polynomial = in_all_lanes(load_block(&POLYNOMIAL));
                for tweak in tweaks {
                    let carry = shift_bytes_right::<{ 16 - STEP }>(*tweak);
                    let shifted = shift_bytes_left::<STEP>(*tweak);
                    *tweak = xor(shifted, multiply::<LOW_BY_LOW>(carry, polynomial));
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn whiten(state: &mut [$vector; VECTORS], tweaks: &[$vector; VECTORS]) {
                for (vector, tweak) in state.iter_mut().zip(tweaks) {
                    *vector = xor(*vector, *tweak);
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn load_group(group: &Group) -> [$vector; VECTORS] {
                let mut vectors = [in_all_lanes(load_block(&ZERO)); VECTORS];
                for (vector, blocks) in vectors.iter_mut().zip(group.as_slice().as_chunks().0) {
                    *vector = load(blocks);
                }
                vectors
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn store_group(group: &mut Group, vectors: &[$vector; VECTORS]) {
                for (blocks, vector) in group.as_mut_slice().as_chunks_mut().0.iter_mut().zip(vectors) {
                    store(blocks, *vector);
                }
            }

            /// `multiply`: which halves of the two, without carries.
            const LOW_BY_LOW: i32 = 0x00;
            const HIGH_BY_LOW: i32 = 0x01;
        }
    };
}

kernel! {
    /// 512-bit vectors, with their own AES and carry-less multiplication: Intel since Ice Lake, AMD since Zen 4.
    vaes512, "avx512f,avx512bw,vaes,vpclmulqdq,aes", __m512i of 4 blocks, U32 blocks in flight,
    use {
        x86_64::_mm512_aesdec_epi128 as aesdec, x86_64::_mm512_aesdeclast_epi128 as aesdeclast,
        x86_64::_mm512_aesenc_epi128 as aesenc, x86_64::_mm512_aesenclast_epi128 as aesenclast,
        x86_64::_mm512_broadcast_i32x4 as in_all_lanes, x86_64::_mm512_clmulepi64_epi128 as multiply, x86_64::_mm512_xor_si512 as xor,
        x86_64::_mm512_sllv_epi64 as shift_left, x86_64::_mm512_srlv_epi64 as shift_right,
        x86_64::_mm512_bslli_epi128 as shift_bytes_left, x86_64::_mm512_bsrli_epi128 as shift_bytes_right,
    }
}

kernel! {
    /// 256-bit vectors, with their own AES and carry-less multiplication: AMD Zen 3, Intel's hybrid processors.
    vaes256, "avx2,vaes,vpclmulqdq,aes", __m256i of 2 blocks, U16 blocks in flight,
    use {
        x86_64::_mm256_aesdec_epi128 as aesdec, x86_64::_mm256_aesdeclast_epi128 as aesdeclast,
        x86_64::_mm256_aesenc_epi128 as aesenc, x86_64::_mm256_aesenclast_epi128 as aesenclast,
        x86_64::_mm256_broadcastsi128_si256 as in_all_lanes, x86_64::_mm256_clmulepi64_epi128 as multiply, x86_64::_mm256_xor_si256 as xor,
        x86_64::_mm256_sllv_epi64 as shift_left, x86_64::_mm256_srlv_epi64 as shift_right,
        x86_64::_mm256_bslli_epi128 as shift_bytes_left, x86_64::_mm256_bsrli_epi128 as shift_bytes_right,
    }
}

kernel! {
    /// One block at a time, eight in flight: every processor with AES-NI.
    aesni, "aes,pclmulqdq", __m128i of 1 blocks, U8 blocks in flight,
    use {
        x86_64::_mm_aesdec_si128 as aesdec, x86_64::_mm_aesdeclast_si128 as aesdeclast,
        x86_64::_mm_aesenc_si128 as aesenc, x86_64::_mm_aesenclast_si128 as aesenclast,
        std::convert::identity as in_all_lanes, x86_64::_mm_clmulepi64_si128 as multiply, x86_64::_mm_xor_si128 as xor,
        x86_64::_mm_sll_epi64 as shift_left, x86_64::_mm_srl_epi64 as shift_right,
        x86_64::_mm_bslli_si128 as shift_bytes_left, x86_64::_mm_bsrli_si128 as shift_bytes_right,
    }
}
