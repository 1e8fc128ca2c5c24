//! The hashes of names by which directories are indexed: three functions, each over signed or unsigned bytes.

/// A way of hashing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash {
    function: Function,
    is_unsigned: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Legacy,
    HalfMd4,
    Tea,
}

impl Hash {
    /// That of an index; `None` for one that is not known. The plain numbers leave the sign to the superblock.
    pub(super) const fn parse(version: u8, is_unsigned: bool) -> Option<Self> {
        let function = match version {
            0 | 3 => Function::Legacy,
            1 | 4 => Function::HalfMd4,
            2 | 5 => Function::Tea,
            _ => return None,
        };
        Some(Self { function, is_unsigned: is_unsigned || version >= 3 })
    }

    /// The hash of a name. Its lowest bit is never set: in an index that one tells of names that go on in the next block.
    pub(super) fn of(self, name: &[u8], seed: [u32; 4]) -> u32 {
        self.both(name, seed).0
    }

    /// The same, and another one that tells names apart that have the first in common.
    pub(super) fn both(self, name: &[u8], seed: [u32; 4]) -> (u32, u32) {
        let mut state = if seed == [0; 4] { START } else { seed };
        let (hash, other) = match self.function {
            Function::Legacy => (self.legacy(name), 0),
            Function::HalfMd4 => {
                for rest in rounds(name, 32) {
                    half_md4(&mut state, self.words(rest));
                }
                (state[1], state[2])
            }
            Function::Tea => {
                for rest in rounds(name, 16) {
                    tea(&mut state, self.words(rest));
                }
                (state[0], state[1])
            }
        };
        // The highest one is the end of a directory to whoever reads it.
        (if hash & !1 == END { END - 2 } else { hash & !1 }, other)
    }

    fn legacy(self, name: &[u8]) -> u32 {
        let (mut hash, mut before) = (0x12a3_fe2d_u32, 0x37ab_e8f9_u32);
        for &byte in name {
            let mixed = before.wrapping_add(hash ^ self.widened(byte).wrapping_mul(7_152_373));
            before = hash;
            hash = if mixed >> 31 == 1 { mixed.wrapping_sub(0x7fff_ffff) } else { mixed };
        }
        hash << 1
    }

    /// The first `N` words of what is left of a name, filled up with its length.
    fn words<const N: usize>(self, rest: &[u8]) -> [u32; N] {
        let [len, ..] = rest.len().to_le_bytes();
        let pad = u32::from_le_bytes([len; 4]);
        let mut words = [pad; N];
        for (word, bytes) in words.iter_mut().zip(rest.chunks(4)) {
            *word = bytes.iter().fold(pad, |word, &byte| (word << 8).wrapping_add(self.widened(byte)));
        }
        words
    }

    fn widened(self, byte: u8) -> u32 {
        if self.is_unsigned { byte.into() } else { i32::from(byte.cast_signed()).cast_unsigned() }
    }
}

/// What is left of a name before each round, which takes so many bytes.
fn rounds(name: &[u8], len: usize) -> impl Iterator<Item = &[u8]> {
    (0..name.len()).step_by(len).filter_map(|at| name.get(at..))
}

/// MD4 (RFC 1320) with eight words for each block, in an order of its own, and three rounds of eight steps.
fn half_md4(state: &mut [u32; 4], words: [u32; 8]) {
    type Mix = fn(u32, u32, u32) -> u32;
    let select: Mix = |x, y, z| z ^ (x & (y ^ z));
    let majority: Mix = |x, y, z| (x & y).wrapping_add((x ^ y) & z);
    let parity: Mix = |x, y, z| x ^ y ^ z;
    let rounds: [(Mix, u32, [usize; 8], [u32; 4]); 3] = [
        (select, 0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
        (majority, 0x5a82_7999, [1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13]),
        (parity, 0x6ed9_eba1, [3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15]),
    ];
    let [mut a, mut b, mut c, mut d] = *state;
    for (mix, constant, order, shifts) in rounds {
        for (word, shift) in order.into_iter().zip(shifts.into_iter().cycle()) {
            let sum = a.wrapping_add(mix(b, c, d)).wrapping_add(words[word]).wrapping_add(constant);
            (a, b, c, d) = (d, sum.rotate_left(shift), b, c);
        }
    }
    for (word, more) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(more);
    }
}

/// The Tiny Encryption Algorithm, sixteen rounds, over the first two words of the state.
fn tea(state: &mut [u32; 4], key: [u32; 4]) {
    let ([mut left, mut right, ..], [a, b, c, d]) = (*state, key);
    let mix = |word: u32, sum: u32, first: u32, second: u32| {
        (word << 4).wrapping_add(first) ^ word.wrapping_add(sum) ^ (word >> 5).wrapping_add(second)
    };
    let mut sum = 0_u32;
    for _ in 0..16 {
        sum = sum.wrapping_add(0x9e37_79b9);
        left = left.wrapping_add(mix(right, sum, a, b));
        right = right.wrapping_add(mix(left, sum, c, d));
    }
    state[0] = state[0].wrapping_add(left);
    state[1] = state[1].wrapping_add(right);
}

const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
const END: u32 = 0xffff_fffe;

#[cfg(test)]
mod tests {
    use super::*;

    /// By `debugfs -R "dx_hash -h KIND NAME"`.
    #[test]
    fn hashes_are_those_of_debugfs() {
        for (version, hashes) in DEBUGFS {
            let of = |name: &str| Hash::parse(version, false).unwrap().of(name.as_bytes(), [0; 4]);
            assert_eq!(["a", LONG, "Name.txt", "\u{e4}\u{f6}"].map(of), hashes, "{version}");
        }
        assert_eq!(Hash::parse(6, false), None);
    }

    const LONG: &str = "a name of more than thirty-two bytes, with \u{e4}\u{f6}\u{fc} in it";
    const DEBUGFS: [(u8, [u32; 4]); 3] = [
        (0, [0xe74b_53e2, 0x6a58_6afc, 0xd2d9_f4e4, 0x12b0_2e38]),
        (1, [0xd5fa_7d7a, 0xc004_3554, 0xc841_44cc, 0x34bc_b028]),
        (2, [0x6d0e_a4c0, 0xef52_db04, 0x96c8_aacc, 0x009d_ee46]),
    ];
}
