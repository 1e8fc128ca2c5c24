//! The tweak sequence of a data unit: its start, times x, times x squared, ... in GF(2^128) (IEEE 1619-2018, 5.2).

#![allow(
    clippy::inline_always,
    reason = "these few instructions must become part of functions compiled for more features than theirs"
)]

/// Blocks of one [`Lanes`] step: as many as the smallest sector has.
pub(super) const LANES: usize = 32;

/// The low byte of the field's polynomial, x^128 + x^7 + x^2 + x + 1.
const POLYNOMIAL: u128 = 0x87;

/// The tweaks of 32 consecutive blocks, low and high halves apart, so that one step is the same arithmetic in every lane.
///
/// Compilers turn that into vector instructions; with one `u128` a lane they do not.
#[derive(Clone, Copy)]
pub(super) struct Lanes {
    low: [u64; LANES],
    high: [u64; LANES],
}

impl Lanes {
    /// No tweaks yet.
    pub(super) const EMPTY: Self = Self { low: [0; LANES], high: [0; LANES] };

    /// The tweaks of a unit's first 32 blocks, from its encrypted start.
    #[inline(always)]
    pub(super) fn starting_at(start: [u8; 16]) -> Self {
        let start = u128::from_le_bytes(start);
        let (start_low, start_high) = halves(start);
        let mut lanes = Self::EMPTY;
        for (power, (low, high)) in (0_u32..).zip(lanes.low.iter_mut().zip(&mut lanes.high)) {
            // Two shifts, as one by 64 is not defined and the first lane shifts by nothing.
            let carry = (start_high >> 1) >> (63 - power);
            *low = (start_low << power) ^ reduced(carry);
            *high = (start_high << power) | ((start_low >> 1) >> (63 - power));
        }
        lanes
    }

    /// The tweaks of the next 32 blocks: every lane times x^32.
    #[inline(always)]
    pub(super) fn step(&mut self) {
        for (low, high) in self.low.iter_mut().zip(&mut self.high) {
            let carry = *high >> 32;
            *high = (*high << 32) | (*low >> 32);
            *low = (*low << 32) ^ reduced(carry);
        }
    }

    /// Writes the tweaks in the order in which blocks take them: low half, high half, lane by lane.
    #[inline(always)]
    pub(super) fn write_to(&self, words: &mut [u64; 2 * LANES]) {
        for (pair, (low, high)) in
            words.as_chunks_mut::<2>().0.iter_mut().zip(self.low.iter().zip(&self.high))
        {
            *pair = [*low, *high];
        }
    }
}

/// `tweak` times x to the power of `blocks`: the tweak so many blocks further on. One step a block.
pub(super) fn advanced(tweak: [u8; 16], blocks: usize) -> [u8; 16] {
    let times_x = |tweak: u128| (tweak << 1) ^ ((tweak >> 127) * POLYNOMIAL);
    (0..blocks).fold(u128::from_le_bytes(tweak), |tweak, _| times_x(tweak)).to_le_bytes()
}

/// What bits carried over x^127 become at the bottom: `carry` times the polynomial, without carries.
#[inline(always)]
const fn reduced(carry: u64) -> u64 {
    carry ^ (carry << 1) ^ (carry << 2) ^ (carry << 7)
}

#[inline(always)]
fn halves(value: u128) -> (u64, u64) {
    let low = value & u128::from(u64::MAX);
    // Both fit: one is masked, the other shifted.
    (u64::try_from(low).unwrap_or_default(), u64::try_from(value >> 64).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_and_single_steps_agree_over_a_whole_unit() {
        let start = [0xff, 0x81, 3, 0, 0, 0, 0, 0x80, 9, 0, 0, 0, 0xaa, 0x55, 0, 0xc3];
        let mut lanes = Lanes::starting_at(start);
        for group in 0..16 {
            let mut words = [0; 2 * LANES];
            lanes.write_to(&mut words);
            for (lane, pair) in words.as_chunks::<2>().0.iter().enumerate() {
                let single = u128::from_le_bytes(advanced(start, group * LANES + lane));
                assert_eq!(u128::from(pair[0]) | (u128::from(pair[1]) << 64), single, "{group} {lane}");
            }
            lanes.step();
        }
    }

    #[test]
    fn the_top_bit_comes_back_as_the_polynomial() {
        let top = (1_u128 << 127).to_le_bytes();
        assert_eq!(u128::from_le_bytes(advanced(top, 1)), 0x87);
        assert_eq!(u128::from_le_bytes(advanced(top, 0)), 1 << 127);
    }
}
