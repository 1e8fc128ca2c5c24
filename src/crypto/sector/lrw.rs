use std::fmt;

use aes::cipher::Array;

use super::{
    Engine, IvSource, KeyError,
    ecb::{keyed, whole_blocks},
};
use crate::{
    crypto::{
        SectorCipher,
        xts::{Block, wipe_wide_stack},
    },
    sys::memory::LockedBox,
    units::{Sector, SectorSize},
};

/// LRW (IEEE P1619, draft of 2005): a block's tweak is its number times the tweak key, in GF(2^128) with the first bit
/// the highest. Schedule and products lie in locked memory.
pub(super) struct Lrw<C> {
    cipher: LockedBox<C>,
    products: LockedBox<Products>,
    iv: IvSource,
}

/// Products of the tweak key.
struct Products {
    /// With x to the power of the index.
    powers: [u128; 128],
    /// With the sum of all powers up to the index: what the tweak changes by when as many bits of the number flip.
    carries: [u128; 128],
}

impl Products {
    fn of(tweak_key: u128) -> Self {
        let mut products = Self { powers: [0; 128], carries: [0; 128] };
        let (mut power, mut sum) = (tweak_key, 0);
        for (at_power, at_carry) in products.powers.iter_mut().zip(&mut products.carries) {
            sum ^= power;
            (*at_power, *at_carry) = (power, sum);
            power = (power << 1) ^ ((power >> 127) * POLYNOMIAL);
        }
        products
    }

    /// The tweak of the block with this number.
    fn tweak(&self, number: u128) -> u128 {
        let bits = self.powers.iter().enumerate().filter(|(bit, _)| (number >> bit) & 1 == 1);
        bits.fold(0, |sum, (_, power)| sum ^ power)
    }

    /// What the tweak changes by from this number to the next. Past 2^128 the number starts again at zero.
    fn step(&self, number: u128) -> u128 {
        let flipped = usize::try_from(number.trailing_ones()).unwrap_or(127);
        self.carries[flipped.min(127)]
    }
}

impl<C: Engine> Lrw<C> {
    /// Under a cipher key and then a tweak key of [`TWEAK_KEY_LEN`] bytes. `iv` gives the number of a sector's first block.
    pub(super) fn new(key: &[u8], iv: IvSource) -> Result<Self, KeyError> {
        let (key, tweak_key) = key.split_last_chunk().ok_or(KeyError::Length { len: key.len() })?;
        let products = LockedBox::new(|| Products::of(u128::from_be_bytes(*tweak_key)))?;
        Ok(Self { cipher: keyed(key)?, products, iv })
    }

    /// XORs tweaks to the blocks of each sector, lets `cipher` work on them, XORs again.
    #[inline(never)] // What it leaves on the stack is wiped.
    fn whiten_around(&self, data: &mut [u8], size: SectorSize, first: Sector, cipher: impl Fn(&mut [Block])) {
        let mut ivs = self.iv.from(first, size);
        for sector in whole_blocks(data, size).chunks_mut(size.bytes() / 16) {
            let mut number = u128::from_be_bytes(ivs());
            let mut tweak = self.products.tweak(number);
            for batch in sector.chunks_mut(LANES) {
                let mut tweaks = [0; LANES];
                for at in &mut tweaks {
                    *at = tweak;
                    tweak ^= self.products.step(number);
                    number = number.wrapping_add(1);
                }
                xor(batch, &tweaks);
                cipher(Array::cast_slice_from_core_mut(batch));
                xor(batch, &tweaks);
            }
        }
    }
}

impl<C: Engine> SectorCipher for Lrw<C> {
    fn encrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        self.whiten_around(data, sector_size, first, |blocks| self.cipher.encrypt_blocks(blocks));
        wipe_wide_stack();
    }

    fn decrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        self.whiten_around(data, sector_size, first, |blocks| self.cipher.decrypt_blocks(blocks));
        wipe_wide_stack();
    }
}

impl<C> fmt::Debug for Lrw<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lrw")
    }
}

fn xor(blocks: &mut [[u8; 16]], tweaks: &[u128; LANES]) {
    for (block, tweak) in blocks.iter_mut().zip(tweaks) {
        *block = (u128::from_be_bytes(*block) ^ tweak).to_be_bytes();
    }
}

/// The size of the tweak key in bytes.
pub(super) const TWEAK_KEY_LEN: usize = 16;
/// Blocks that the cipher is given at once: what the widest kernels take, and a whole number of the smallest sectors.
const LANES: usize = 64;
/// x^7 + x^2 + x + 1, what x^128 comes to.
const POLYNOMIAL: u128 = 0x87;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stepping_from_number_to_number_gives_the_tweak_of_each() {
        let products = Products::of(0x8000_0000_0000_0000_0123_4567_89ab_cdef);
        for number in [0, 1, 0x7f, 0xffff_ffff, u128::from(u64::MAX), u128::MAX - 1] {
            assert_eq!(
                products.tweak(number) ^ products.step(number),
                products.tweak(number + 1),
                "{number:x}"
            );
        }
    }

    #[test]
    fn the_top_power_comes_back_as_the_polynomial() {
        let products = Products::of(1 << 127);
        assert_eq!(products.powers[1], POLYNOMIAL);
    }
}
