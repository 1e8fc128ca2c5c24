//! Camellia's key schedule (RFC 3713, 2.2 and 2.3), and its S-boxes as inversions in the field of AES between linear maps.

use std::array;

use subtle::{ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroize;

/// The subkeys in the order in which they are used, big-endian: two for whitening; six rounds and two for the functions FL and
/// its inverse, again and again; six rounds; two for whitening. Wiped on drop.
pub(in crate::crypto::cipher) struct RoundKeys {
    encrypt: [[u8; 8]; MAX_KEYS],
    decrypt: [[u8; 8]; MAX_KEYS],
    len: usize,
}

impl RoundKeys {
    /// The schedule of a key of 16, 24 or 32 bytes.
    pub(in crate::crypto::cipher) fn of(key: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes[..key.len()].copy_from_slice(key);
        if key.len() == 24 {
            let (known, complement) = bytes.split_at_mut(24);
            for (complement, byte) in complement.iter_mut().zip(&known[16..]) {
                *complement = !byte;
            }
        }
        let [mut left, mut right] = [0, 1].map(|half| u128::from_be_bytes(bytes.as_chunks().0[half]));
        let mut a = four_rounds(left, right);
        let mut b = two_rounds(a ^ right, [SIGMA[4], SIGMA[5]]);
        let keys =
            if key.len() == 16 { keys_of_128_bits(left, a) } else { keys_of_256_bits(left, right, a, b) };
        bytes.zeroize();
        [&mut left, &mut right, &mut a, &mut b].into_iter().for_each(Zeroize::zeroize);
        keys
    }

    fn in_order(keys: &[u64]) -> Self {
        let mut ordered = Self { encrypt: [[0; 8]; MAX_KEYS], decrypt: [[0; 8]; MAX_KEYS], len: keys.len() };
        for (bytes, key) in ordered.encrypt.iter_mut().zip(keys) {
            *bytes = key.to_be_bytes();
        }
        // Decryption is encryption with the subkeys from the last to the first, but each pair for whitening as it was.
        for (bytes, key) in ordered.decrypt.iter_mut().zip(keys.iter().rev()) {
            *bytes = key.to_be_bytes();
        }
        ordered.decrypt.swap(0, 1);
        ordered.decrypt.swap(keys.len() - 2, keys.len() - 1);
        ordered
    }

    /// The subkeys that encrypt.
    pub(in crate::crypto::cipher) fn encrypting(&self) -> &[[u8; 8]] {
        &self.encrypt[..self.len]
    }

    /// The subkeys that decrypt.
    pub(in crate::crypto::cipher) fn decrypting(&self) -> &[[u8; 8]] {
        &self.decrypt[..self.len]
    }
}

impl Drop for RoundKeys {
    fn drop(&mut self) {
        self.encrypt.zeroize();
        self.decrypt.zeroize();
    }
}

/// KA.
fn four_rounds(left: u128, right: u128) -> u128 {
    two_rounds(two_rounds(left ^ right, [SIGMA[0], SIGMA[1]]) ^ left, [SIGMA[2], SIGMA[3]])
}

fn two_rounds(block: u128, keys: [u64; 2]) -> u128 {
    let [mut high, mut low] = halves(block);
    low ^= f(high, keys[0]);
    high ^= f(low, keys[1]);
    (u128::from(high) << 64) | u128::from(low)
}

fn halves(block: u128) -> [u64; 2] {
    block.to_be_bytes().as_chunks().0.first_chunk().map_or([0; 2], |halves| halves.map(u64::from_be_bytes))
}

fn keys_of_128_bits(left: u128, a: u128) -> RoundKeys {
    let pairs = [
        (left, 0),
        (a, 0),
        (left, 15),
        (a, 15),
        (a, 30),
        (left, 45),
        (a, 45),
        (a, 60),
        (left, 77),
        (left, 94),
        (a, 94),
        (left, 111),
        (a, 111),
    ];
    let mut keys = pairs.map(|(source, rotation): (u128, u32)| halves(source.rotate_left(rotation)));
    // The tenth round has the one key that is not the second half of a pair.
    keys[6][1] = halves(left.rotate_left(60))[1];
    let ordered = RoundKeys::in_order(keys.as_flattened());
    keys.zeroize();
    ordered
}

fn keys_of_256_bits(left: u128, right: u128, a: u128, b: u128) -> RoundKeys {
    let mut keys = [
        (left, 0),
        (b, 0),
        (right, 15),
        (a, 15),
        (right, 30),
        (b, 30),
        (left, 45),
        (a, 45),
        (left, 60),
        (right, 60),
        (b, 60),
        (left, 77),
        (a, 77),
        (right, 94),
        (a, 94),
        (left, 111),
        (b, 111),
    ]
    .map(|(source, rotation): (u128, u32)| halves(source.rotate_left(rotation)));
    let ordered = RoundKeys::in_order(keys.as_flattened());
    keys.zeroize();
    ordered
}

/// The round function, in a time that depends on nothing.
fn f(input: u64, key: u64) -> u64 {
    let bytes = (input ^ key).to_be_bytes();
    let z: [u8; 8] = array::from_fn(|position| match position {
        0 | 7 => substituted(bytes[position]),
        1 | 4 => substituted(bytes[position]).rotate_left(1),
        2 | 5 => substituted(bytes[position]).rotate_left(7),
        _ => substituted(bytes[position].rotate_left(1)),
    });
    let all = |positions: [usize; 6]| positions.iter().fold(0, |sum, &position| sum ^ z[position]);
    let five = |positions: [usize; 5]| positions.iter().fold(0, |sum, &position| sum ^ z[position]);
    u64::from_be_bytes([
        all([0, 2, 3, 5, 6, 7]),
        all([0, 1, 3, 4, 6, 7]),
        all([0, 1, 2, 4, 5, 7]),
        all([1, 2, 3, 4, 5, 6]),
        five([0, 1, 5, 6, 7]),
        five([1, 2, 4, 6, 7]),
        five([2, 3, 4, 5, 7]),
        five([0, 3, 4, 5, 6]),
    ])
}

/// The first S-box: all of the table is read.
fn substituted(byte: u8) -> u8 {
    let mut found = 0;
    for (index, entry) in (0..=u8::MAX).zip(&SBOX) {
        found.conditional_assign(entry, index.ct_eq(&byte));
    }
    found
}

/// A linear map of bytes: what becomes of each bit, from the lowest.
#[derive(Clone, Copy)]
pub(in crate::crypto::cipher) struct Map([u8; 8]);

impl Map {
    /// The map of one byte.
    pub(in crate::crypto::cipher) const fn of(self, byte: u8) -> u8 {
        let (mut sum, mut bit) = (0, 0);
        while bit < 8 {
            sum ^= self.0[bit] * ((byte >> bit) & 1);
            bit += 1;
        }
        sum
    }

    /// The map, and then a rotation to the left.
    const fn then_rotated(mut self, left: u32) -> Self {
        let mut bit = 0;
        while bit < 8 {
            self.0[bit] = self.0[bit].rotate_left(left);
            bit += 1;
        }
        self
    }

    /// A rotation to the left by one, and then the map.
    const fn after_rotation(self) -> Self {
        let (mut rotated, mut bit) = (self, 0);
        while bit < 8 {
            rotated.0[bit] = self.0[(bit + 1) % 8];
            bit += 1;
        }
        rotated
    }

    /// As a matrix for GFNI: a row for each bit of the result, the highest in the lowest byte.
    pub(in crate::crypto::cipher) const fn matrix(self) -> i64 {
        let (mut rows, mut bit) = ([0_u8; 8], 0);
        while bit < 8 {
            let mut column = 0;
            while column < 8 {
                rows[7 - bit] |= ((self.0[column] >> bit) & 1) << column;
                column += 1;
            }
            bit += 1;
        }
        i64::from_le_bytes(rows)
    }
}

/// The S-boxes are `BEHIND[n](1 / (BEFORE[n](x) ^ BEFORE_ADDED)) ^ BEHIND_ADDED[n]`, with the inversion in the field of AES, where the
/// inverse of 0 is 0. The specification says so of another field; the maps that carry over to this one were computed. (2.4.1, and
/// "Specification of Camellia", section 4)
pub(in crate::crypto::cipher) const BEFORE: [Map; 4] =
    [FIRST_BEFORE, FIRST_BEFORE, FIRST_BEFORE, FIRST_BEFORE.after_rotation()];
pub(in crate::crypto::cipher) const BEFORE_ADDED: u8 = FIRST_BEFORE.of(0xc5);
pub(in crate::crypto::cipher) const BEHIND: [Map; 4] =
    [FIRST_BEHIND, FIRST_BEHIND.then_rotated(1), FIRST_BEHIND.then_rotated(7), FIRST_BEHIND];
pub(in crate::crypto::cipher) const BEHIND_ADDED: [u8; 4] = [0x6e, 0xdc, 0x37, 0x6e];

const FIRST_BEFORE: Map = Map([0x01, 0x19, 0xb1, 0xab, 0xa7, 0x93, 0x61, 0xd9]);
const FIRST_BEHIND: Map = Map([0xf1, 0xbb, 0x8e, 0x09, 0xfa, 0xd7, 0x21, 0xe1]);

/// The first S-box as a table.
static SBOX: [u8; 256] = {
    let (mut table, mut byte) = ([0; 256], 0_u8);
    loop {
        table[byte as usize] =
            FIRST_BEHIND.of(inverse(FIRST_BEFORE.of(byte) ^ BEFORE_ADDED)) ^ BEHIND_ADDED[0];
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

/// The inverse in the field of AES: the power of 254.
const fn inverse(byte: u8) -> u8 {
    let (mut power, mut times) = (byte, 0);
    while times < 6 {
        power = product(product(power, power), byte);
        times += 1;
    }
    product(power, power)
}

/// The product in the field of AES. (FIPS 197, 4.2)
const fn product(mut a: u8, mut b: u8) -> u8 {
    let mut sum = 0;
    while b != 0 {
        sum ^= a * (b & 1);
        a = (a << 1) ^ ((a >> 7) * 0x1b);
        b >>= 1;
    }
    sum
}

/// Subkeys of the longest keys.
const MAX_KEYS: usize = 34;

/// The constants of the key schedule: digits of the square roots of the first primes. (2.2)
const SIGMA: [u64; 6] = [
    0xa09e_667f_3bcc_908b,
    0xb67a_e858_4caa_73b2,
    0xc6ef_372f_e94f_82be,
    0x54ff_53a5_f1d3_6f1c,
    0x10e5_27fa_de68_2d1d,
    0xb056_88c2_b3e6_c1fd,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_s_boxes_are_the_tables_of_rfc_3713() {
        let tables: [fn(u8) -> u8; 4] = [
            |byte| SBOX1[usize::from(byte)],
            |byte| SBOX1[usize::from(byte)].rotate_left(1),
            |byte| SBOX1[usize::from(byte)].rotate_left(7),
            |byte| SBOX1[usize::from(byte.rotate_left(1))],
        ];
        for byte in 0..=u8::MAX {
            assert_eq!(substituted(byte), SBOX1[usize::from(byte)], "{byte}");
            // As the kernels have them.
            for (number, table) in tables.iter().enumerate() {
                let inverted = inverse(BEFORE[number].of(byte) ^ BEFORE_ADDED);
                let found = BEHIND[number].of(inverted) ^ BEHIND_ADDED[number];
                assert_eq!(found, table(byte), "S-box {} of {byte}", number + 1);
            }
        }
    }

    /// The table of section 2.4.1; the other three are made of it there.
    #[rustfmt::skip]
    const SBOX1: [u8; 256] = [
        112, 130, 44, 236, 179, 39, 192, 229, 228, 133, 87, 53, 234, 12, 174, 65,
        35, 239, 107, 147, 69, 25, 165, 33, 237, 14, 79, 78, 29, 101, 146, 189,
        134, 184, 175, 143, 124, 235, 31, 206, 62, 48, 220, 95, 94, 197, 11, 26,
        166, 225, 57, 202, 213, 71, 93, 61, 217, 1, 90, 214, 81, 86, 108, 77,
        139, 13, 154, 102, 251, 204, 176, 45, 116, 18, 43, 32, 240, 177, 132, 153,
        223, 76, 203, 194, 52, 126, 118, 5, 109, 183, 169, 49, 209, 23, 4, 215,
        20, 88, 58, 97, 222, 27, 17, 28, 50, 15, 156, 22, 83, 24, 242, 34,
        254, 68, 207, 178, 195, 181, 122, 145, 36, 8, 232, 168, 96, 252, 105, 80,
        170, 208, 160, 125, 161, 137, 98, 151, 84, 91, 30, 149, 224, 255, 100, 210,
        16, 196, 0, 72, 163, 247, 117, 219, 138, 3, 230, 218, 9, 63, 221, 148,
        135, 92, 131, 2, 205, 74, 144, 51, 115, 103, 246, 243, 157, 127, 191, 226,
        82, 155, 216, 38, 200, 55, 198, 59, 129, 150, 111, 75, 19, 190, 99, 46,
        233, 121, 167, 140, 159, 110, 188, 142, 41, 245, 249, 182, 47, 253, 180, 89,
        120, 152, 6, 106, 231, 70, 113, 186, 212, 37, 171, 66, 136, 162, 141, 250,
        114, 7, 185, 85, 248, 238, 172, 10, 54, 73, 42, 104, 60, 56, 241, 164,
        64, 40, 211, 123, 187, 201, 67, 193, 21, 227, 173, 244, 119, 199, 128, 158,
    ];
}
