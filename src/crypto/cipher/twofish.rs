//! Twofish (Schneier and others: "Twofish: A 128-Bit Block Cipher", 1998), four blocks in flight.
//!
//! Its S-boxes depend on the key. They are worked out once, together with the matrix behind them, into tables of 4 KiB that every
//! round reads: where depends on the data, so the time may too. The `twofish` crate reads tables as well, smaller ones and more often.

use std::{array, slice};

use aes::cipher::{
    Array, BlockCipherDecBackend, BlockCipherDecClosure, BlockCipherDecrypt, BlockCipherEncBackend,
    BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, InvalidLength, Key, KeyInit, KeySizeUser,
    ParBlocksSizeUser,
    consts::{U4, U16, U32},
    inout::{InOut, InOutBuf},
};
use zeroize::Zeroize;

use crate::crypto::xts::Block;

/// Twofish under a key of 128, 192 or 256 bits. Tables and schedule are wiped on drop.
pub(in crate::crypto) struct Twofish {
    /// For each byte of a word: what it comes to behind S-box and matrix.
    tables: [[u32; 256]; 4],
    /// Before the first round and behind the last.
    whitening: [[u32; 4]; 2],
    /// Two each round.
    rounds: [[u32; 2]; ROUNDS],
}

impl Twofish {
    /// Under a key of 16, 24 or 32 bytes.
    fn of(key: &[u8]) -> Self {
        let words = key.as_chunks::<4>().0;
        // What the S-boxes take up, in the order in which they do: words of the key, from the last, or of its code.
        let (mut even, mut odd, mut coded) = ([[0; 4]; 4], [[0; 4]; 4], [[0; 4]; 4]);
        let pairs = words.as_chunks::<2>().0;
        for (index, [first, second]) in pairs.iter().rev().enumerate() {
            (even[index], odd[index]) = (*first, *second);
        }
        for (coded, eight) in coded.iter_mut().zip(key.as_chunks::<8>().0) {
            *coded = reed_solomon(*eight);
        }
        let taken = pairs.len();
        let mut subkeys = [[0; 2]; 20];
        for (pair, number) in subkeys.iter_mut().zip((0_u8..).step_by(2)) {
            let a = word(number, &even[..taken]);
            let b = word(number + 1, &odd[..taken]).rotate_left(8);
            let sum = a.wrapping_add(b);
            *pair = [sum, sum.wrapping_add(b).rotate_left(9)];
        }
        let [w0, w1, w2, w3, rounds @ ..] = subkeys;
        let tables = array::from_fn(|position| {
            array::from_fn(|byte| column(position, substituted(position, TO_U8[byte], &coded[..taken])))
        });
        [&mut even, &mut odd, &mut coded].into_iter().for_each(Zeroize::zeroize);
        subkeys.zeroize();
        Self { tables, whitening: [[w0[0], w0[1], w1[0], w1[1]], [w2[0], w2[1], w3[0], w3[1]]], rounds }
    }

    /// The function g.
    #[inline]
    fn g(&self, word: u32) -> u32 {
        let [a, b, c, d] = word.to_le_bytes().map(usize::from);
        self.tables[0][a] ^ self.tables[1][b] ^ self.tables[2][c] ^ self.tables[3][d]
    }

    #[inline(never)] // No compiler lifts round keys out of the loop around it.
    fn encrypt(&self, group: &mut Group) {
        let [before, behind] = &self.whitening;
        let mut states = load(group, before);
        for [[k0, k1], [k2, k3]] in self.rounds.as_chunks::<2>().0 {
            for [a, b, c, d] in &mut states {
                let (sum, double) = self.f(*a, *b);
                *c = (*c ^ sum.wrapping_add(*k0)).rotate_right(1);
                *d = d.rotate_left(1) ^ double.wrapping_add(*k1);
            }
            for [a, b, c, d] in &mut states {
                let (sum, double) = self.f(*c, *d);
                *a = (*a ^ sum.wrapping_add(*k2)).rotate_right(1);
                *b = b.rotate_left(1) ^ double.wrapping_add(*k3);
            }
        }
        store(group, &states, behind);
    }

    #[inline(never)] // As above.
    fn decrypt(&self, group: &mut Group) {
        let [before, behind] = &self.whitening;
        let mut states = load(group, behind);
        for [[k0, k1], [k2, k3]] in self.rounds.as_chunks::<2>().0.iter().rev() {
            for [a, b, c, d] in &mut states {
                let (sum, double) = self.f(*a, *b);
                *c = c.rotate_left(1) ^ sum.wrapping_add(*k2);
                *d = (*d ^ double.wrapping_add(*k3)).rotate_right(1);
            }
            for [a, b, c, d] in &mut states {
                let (sum, double) = self.f(*c, *d);
                *a = a.rotate_left(1) ^ sum.wrapping_add(*k0);
                *b = (*b ^ double.wrapping_add(*k1)).rotate_right(1);
            }
        }
        store(group, &states, before);
    }

    /// The function F without its keys: both words of the pseudo-Hadamard transform.
    #[inline]
    fn f(&self, first: u32, second: u32) -> (u32, u32) {
        let second = self.g(second.rotate_left(8));
        let sum = self.g(first).wrapping_add(second);
        (sum, sum.wrapping_add(second))
    }
}

impl Drop for Twofish {
    fn drop(&mut self) {
        self.tables.zeroize();
        self.whitening.zeroize();
        self.rounds.zeroize();
    }
}

impl BlockSizeUser for Twofish {
    type BlockSize = U16;
}

impl KeySizeUser for Twofish {
    type KeySize = U32;
}

impl KeyInit for Twofish {
    fn new(key: &Key<Self>) -> Self {
        Self::of(key)
    }

    fn new_from_slice(key: &[u8]) -> Result<Self, InvalidLength> {
        if matches!(key.len(), 16 | 24 | 32) { Ok(Self::of(key)) } else { Err(InvalidLength) }
    }
}

impl BlockCipherEncrypt for Twofish {
    fn encrypt_with_backend(&self, work: impl BlockCipherEncClosure<BlockSize = U16>) {
        work.call(self);
    }
}

impl BlockCipherDecrypt for Twofish {
    fn decrypt_with_backend(&self, work: impl BlockCipherDecClosure<BlockSize = U16>) {
        work.call(self);
    }
}

type Group = Array<Block, U4>;

impl ParBlocksSizeUser for Twofish {
    type ParBlocksSize = U4;
}

impl BlockCipherEncBackend for Twofish {
    #[inline]
    fn encrypt_block(&self, block: InOut<'_, '_, Block>) {
        self.encrypt_tail_blocks(slice::from_mut(block.into_out_with_copied_in()).into());
    }

    #[inline]
    fn encrypt_par_blocks(&self, group: InOut<'_, '_, Group>) {
        self.encrypt(group.into_out_with_copied_in());
    }

    #[inline]
    fn encrypt_tail_blocks(&self, blocks: InOutBuf<'_, '_, Block>) {
        padded(blocks.into_out_with_copied_in(), |group| self.encrypt(group));
    }
}

impl BlockCipherDecBackend for Twofish {
    #[inline]
    fn decrypt_block(&self, block: InOut<'_, '_, Block>) {
        self.decrypt_tail_blocks(slice::from_mut(block.into_out_with_copied_in()).into());
    }

    #[inline]
    fn decrypt_par_blocks(&self, group: InOut<'_, '_, Group>) {
        self.decrypt(group.into_out_with_copied_in());
    }

    #[inline]
    fn decrypt_tail_blocks(&self, blocks: InOutBuf<'_, '_, Block>) {
        padded(blocks.into_out_with_copied_in(), |group| self.decrypt(group));
    }
}

fn padded(blocks: &mut [Block], work: impl FnOnce(&mut Group)) {
    let mut group = Group::default();
    group[..blocks.len()].copy_from_slice(blocks);
    work(&mut group);
    blocks.copy_from_slice(&group[..blocks.len()]);
}

/// The words of each block, whitened.
#[inline]
fn load(group: &Group, whitening: &[u32; 4]) -> [[u32; 4]; 4] {
    array::from_fn(|lane| {
        let words = group[lane].0.as_chunks::<4>().0;
        array::from_fn(|index| u32::from_le_bytes(words[index]) ^ whitening[index])
    })
}

/// The halves of each block exchanged and whitened.
#[inline]
fn store(group: &mut Group, states: &[[u32; 4]; 4], whitening: &[u32; 4]) {
    for (block, [a, b, c, d]) in group.iter_mut().zip(states) {
        for ((bytes, word), key) in block.0.as_chunks_mut().0.iter_mut().zip([c, d, a, b]).zip(whitening) {
            *bytes = (word ^ key).to_le_bytes();
        }
    }
}

/// The function h of a word of equal bytes, which is all that the key schedule asks for.
fn word(byte: u8, taken: &[[u8; 4]]) -> u32 {
    (0..4).fold(0, |sum, position| sum ^ column(position, substituted(position, byte, taken)))
}

/// A byte of a word through its S-box: permutations in turn with what is taken up from the key.
fn substituted(position: usize, byte: u8, taken: &[[u8; 4]]) -> u8 {
    let order = &ORDER[position][4 - taken.len()..];
    let permuted = |which: usize, byte: u8| Q[which][usize::from(byte)];
    let rest = order[1..].iter().zip(taken);
    rest.fold(permuted(order[0], byte), |byte, (&which, taken)| permuted(which, byte ^ taken[position]))
}

/// A byte of a word times its column of the MDS matrix.
fn column(position: usize, byte: u8) -> u32 {
    u32::from_le_bytes(MDS.map(|row| product(byte, row[position], 0x69)))
}

/// Eight bytes of the key times the RS matrix.
fn reed_solomon(eight: [u8; 8]) -> [u8; 4] {
    RS.map(|row| row.iter().zip(eight).fold(0, |sum, (factor, byte)| sum ^ product(byte, *factor, 0x4d)))
}

/// The product in a field of 256 elements whose polynomial has these low bits. Its time does not depend on `a`.
const fn product(mut a: u8, mut b: u8, polynomial: u8) -> u8 {
    let mut sum = 0;
    while b != 0 {
        sum ^= a * (b & 1);
        a = (a << 1) ^ ((a >> 7) * polynomial);
        b >>= 1;
    }
    sum
}

/// One of the two permutations, from its four of half a byte. (4.3.5)
const fn permutation(t: [[u8; 16]; 4]) -> [u8; 256] {
    let (mut table, mut byte) = ([0; 256], 0_u8);
    loop {
        let (mut a, mut b) = (byte >> 4, byte & 15);
        let mut step = 0;
        while step < 4 {
            let mixed = (a ^ (b >> 1) ^ (b << 3) ^ (a << 3)) & 15;
            a = t[step][(a ^ b) as usize];
            b = t[step + 1][mixed as usize];
            step += 2;
        }
        table[byte as usize] = (b << 4) | a;
        if byte == u8::MAX {
            return table;
        }
        byte += 1;
    }
}

/// The permutations.
static Q: [[u8; 256]; 2] = [
    permutation([
        [0x8, 0x1, 0x7, 0xd, 0x6, 0xf, 0x3, 0x2, 0x0, 0xb, 0x5, 0x9, 0xe, 0xc, 0xa, 0x4],
        [0xe, 0xc, 0xb, 0x8, 0x1, 0x2, 0x3, 0x5, 0xf, 0x4, 0xa, 0x6, 0x7, 0x0, 0x9, 0xd],
        [0xb, 0xa, 0x5, 0xe, 0x6, 0xd, 0x9, 0x0, 0xc, 0x8, 0xf, 0x3, 0x2, 0x4, 0x7, 0x1],
        [0xd, 0x7, 0xf, 0x4, 0x1, 0x2, 0x6, 0xe, 0x9, 0xb, 0x3, 0x0, 0x8, 0x5, 0xc, 0xa],
    ]),
    permutation([
        [0x2, 0x8, 0xb, 0xd, 0xf, 0x7, 0x6, 0xe, 0x3, 0x1, 0x9, 0x4, 0x0, 0xa, 0xc, 0x5],
        [0x1, 0xe, 0x2, 0xb, 0x4, 0xc, 0x3, 0x7, 0x6, 0xd, 0xa, 0x5, 0xf, 0x9, 0x0, 0x8],
        [0x4, 0xc, 0x7, 0x5, 0x1, 0x6, 0x9, 0xa, 0x0, 0xe, 0xd, 0x8, 0x2, 0xb, 0x3, 0xf],
        [0xb, 0x9, 0x5, 0x1, 0xc, 0x3, 0xd, 0xe, 0x6, 0x4, 0x7, 0xf, 0x2, 0x0, 0x8, 0xa],
    ]),
];

/// Which permutations each byte of a word goes through; a shorter key skips the first ones. (4.3.2)
const ORDER: [[usize; 5]; 4] = [[1, 1, 0, 0, 1], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1], [1, 0, 1, 1, 0]];

/// Rows. (4.3.2)
const MDS: [[u8; 4]; 4] =
    [[0x01, 0xef, 0x5b, 0x5b], [0x5b, 0xef, 0xef, 0x01], [0xef, 0x5b, 0x01, 0xef], [0xef, 0x01, 0xef, 0x5b]];

/// Rows. (4.3)
const RS: [[u8; 8]; 4] = [
    [0x01, 0xa4, 0x55, 0x87, 0x5a, 0x58, 0xdb, 0x9e],
    [0xa4, 0x56, 0x82, 0xf3, 0x1e, 0xc6, 0x68, 0xe5],
    [0x02, 0xa1, 0xfc, 0xc1, 0x47, 0xae, 0x3d, 0x19],
    [0xa4, 0x55, 0x87, 0x5a, 0x58, 0xdb, 0x9e, 0x03],
];

const ROUNDS: usize = 16;

/// The bytes in order, for an index to become one.
const TO_U8: [u8; 256] = {
    let (mut bytes, mut byte) = ([0; 256], 0_u8);
    while byte < u8::MAX {
        byte += 1;
        bytes[byte as usize] = byte;
    }
    bytes
};
