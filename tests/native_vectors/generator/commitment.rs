//! A keyslot that two passwords open: what XChaCha20-Poly1305 allows, and the MAC of the header does not (NAT-KEY-11).
//!
//! For two slot keys, the tag of four blocks of ciphertext is two linear equations modulo 2^130 - 5. Two of the blocks solve
//! them; each must fit in 16 bytes, which takes some tries with the others.

use super::{COPY, Fixed, Made, PASSWORD, Suite, cipher, credentials, put, slot_key, superblock, with_index};

const OTHER_PASSWORD: &str = "an entirely different one";

/// A number modulo 2^130 - 5: its upper two bits, and the rest.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Field(u8, u128);

impl Field {
    const ZERO: Self = Self(0, 0);
    /// The modulus.
    const P: Self = Self(3, u128::MAX - 4);

    fn reduced(high: u16, low: u128) -> Self {
        let is_above = high > 3 || (high == 3 && low >= Self::P.1);
        if !is_above {
            return Self(high as u8, low);
        }
        let (low, borrow) = low.overflowing_sub(Self::P.1);
        Self::reduced(high - 3 - u16::from(borrow), low)
    }

    fn plus(self, other: Self) -> Self {
        let (low, carry) = self.1.overflowing_add(other.1);
        Self::reduced(u16::from(self.0) + u16::from(other.0) + u16::from(carry), low)
    }

    fn minus(self, other: Self) -> Self {
        let (low, borrow) = Self::P.1.overflowing_sub(other.1);
        self.plus(Self::reduced(u16::from(Self::P.0 - other.0 - u8::from(borrow)), low))
    }

    fn times(self, other: Self) -> Self {
        let bit = |index: u32| {
            if index < 128 { other.1 >> index & 1 } else { u128::from(other.0) >> (index - 128) & 1 }
        };
        (0..130).rev().fold(Self::ZERO, |sum, index| {
            let doubled = sum.plus(sum);
            if bit(index) == 1 { doubled.plus(self) } else { doubled }
        })
    }

    fn power(self, exponent: u32) -> Self {
        (0..exponent).fold(Self(0, 1), |product, _| product.times(self))
    }

    /// By Fermat: the power of p - 2 = 2^130 - 7, whose bits are 1 but for the second and the third.
    fn inverse(self) -> Self {
        (0..130).rev().fold(Self(0, 1), |power, index| {
            let squared = power.times(power);
            if index == 1 || index == 2 { squared } else { squared.times(self) }
        })
    }
}

/// A block of Poly1305's message, all of whose blocks are full here: 2^128 more than its 16 bytes.
fn block(bytes: &[u8]) -> Field {
    Field(1, u128::from_le_bytes(bytes.try_into().unwrap()))
}

fn quarter(state: &mut [u32; 16], [a, b, c, d]: [usize; 4]) {
    for (x, y, z, by) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        state[x] = state[x].wrapping_add(state[y]);
        state[z] = (state[z] ^ state[x]).rotate_left(by);
    }
}

/// `ChaCha20`'s 20 rounds over constants, key and the last 16 bytes of input.
fn rounds(key: &[u8; 32], input: &[u8; 16]) -> ([u32; 16], [u32; 16]) {
    let bytes = [b"expand 32-byte k".as_slice(), key, input].concat();
    let mut start = [0; 16];
    for (word, bytes) in start.iter_mut().zip(bytes.chunks(4)) {
        *word = u32::from_le_bytes(bytes.try_into().unwrap());
    }
    let mut state = start;
    for _ in 0..10 {
        for column in 0..4 {
            quarter(&mut state, [column, column + 4, column + 8, column + 12]);
        }
        for diagonal in [[0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]] {
            quarter(&mut state, diagonal);
        }
    }
    (start, state)
}

/// Block `counter` of `XChaCha20`'s key stream.
fn key_stream(key: &[u8; 32], nonce: &[u8; 24], counter: u32) -> [u8; 64] {
    let (_, state) = rounds(key, nonce[..16].try_into().unwrap());
    let mut subkey = [0; 32];
    for (bytes, word) in subkey.chunks_mut(4).zip(state[..4].iter().chain(&state[12..])) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let mut input = [0; 16];
    put(&mut input, 0, &counter.to_le_bytes());
    put(&mut input, 8, &nonce[16..]);
    let (start, state) = rounds(&subkey, &input);
    let mut stream = [0; 64];
    for (index, bytes) in stream.chunks_mut(4).enumerate() {
        bytes.copy_from_slice(&state[index].wrapping_add(start[index]).to_le_bytes());
    }
    stream
}

/// The one-time key of Poly1305: r, with the bits cleared that it clears, and s.
fn one_time_key(key: &[u8; 32], nonce: &[u8; 24]) -> (Field, u128) {
    let stream = key_stream(key, nonce, 0);
    let number = |bytes: &[u8]| u128::from_le_bytes(bytes.try_into().unwrap());
    (Field(0, number(&stream[..16]) & 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff), number(&stream[16..32]))
}

/// Ciphertext and tag that are right under both keys.
fn collide(keys: [[u8; 32]; 2], nonce: &[u8; 24], aad: &[u8]) -> ([u8; 64], [u8; 16]) {
    let mut padded = aad.to_vec();
    padded.resize(aad.len().next_multiple_of(16), 0);
    let lengths = [(aad.len() as u64).to_le_bytes(), 64_u64.to_le_bytes()].concat();
    let tag = 0x0123_4567_89ab_cdef_u128;
    for first in 0_u128.. {
        let mut ciphertext = [0; 64];
        put(&mut ciphertext, 0, &first.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834).to_le_bytes());
        // What the two open blocks, the third and fourth of the ciphertext, have to add to the sum.
        let missing = keys.map(|key| {
            let (r, s) = one_time_key(&key, nonce);
            let known = [&padded[..], &ciphertext[..32]].concat();
            let sum = known.chunks(16).fold(Field::ZERO, |sum, bytes| sum.plus(block(bytes)).times(r));
            let sum = sum.times(r).times(r).plus(block(&lengths)).times(r);
            (r, Field(0, tag.wrapping_sub(s)).minus(sum))
        });
        let [(one, sum_of_one), (other, sum_of_other)] = missing;
        // third one^3 + fourth one^2 = sum_of_one, third other^3 + fourth other^2 = sum_of_other
        let determinant = one.power(3).times(other.power(2)).minus(other.power(3).times(one.power(2)));
        let third = sum_of_one.times(other.power(2)).minus(sum_of_other.times(one.power(2)));
        let third = third.times(determinant.inverse());
        let fourth = sum_of_other.times(one.power(3)).minus(sum_of_one.times(other.power(3)));
        let fourth = fourth.times(determinant.inverse());
        if third.0 == 1 && fourth.0 == 1 {
            put(&mut ciphertext, 32, &third.1.to_le_bytes());
            put(&mut ciphertext, 48, &fourth.1.to_le_bytes());
            return (ciphertext, tag.to_le_bytes());
        }
    }
    unreachable!("one of sixteen tries fits")
}

/// A container whose keyslot 0 opens with both passwords, and that is whole under the key that [`PASSWORD`] gives.
pub(super) fn base() -> Made {
    let mut random = Fixed("two-passwords".to_owned(), 0);
    let mut uuid = random.take::<16>();
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    let (salt, nonce) = (random.take::<32>(), random.take::<24>());
    let mut slot = [0; 2048];
    for (place, value) in [1_u32, 0, 1, 1, 64, 1, 1].into_iter().enumerate() {
        put(&mut slot, 4 * place, &value.to_le_bytes());
    }
    put(&mut slot, 32, &salt);
    put(&mut slot, 128, &nonce);
    let aad = [b"strongroom/v1/keyslot".as_slice(), &uuid, &slot[..128]].concat();
    let keys = [PASSWORD, OTHER_PASSWORD].map(|password| slot_key(&credentials(password, &[]), &salt));
    let (ciphertext, tag) = collide(keys, &nonce, &aad);
    put(&mut slot, 152, &ciphertext);
    put(&mut slot, 216, &tag);

    let stream = key_stream(&keys[0], &nonce, 1);
    let volume_key: [u8; 64] = std::array::from_fn(|index| ciphertext[index] ^ stream[index]);
    let mut copy = superblock(&uuid, 4096, 0, "two passwords");
    put(&mut copy, 4096, &slot);
    let plaintext: Vec<u8> = (0..super::DATA).map(|index| (index * 11 + index / 4096) as u8).collect();
    let mut data = plaintext.clone();
    let xts = cipher(&volume_key, &uuid);
    for (sector, bytes) in data.chunks_mut(4096).enumerate() {
        xts.encrypt_sector(bytes, (sector as u128).to_le_bytes().into());
    }
    let sealed = (volume_key, uuid);
    let bytes = [with_index(&copy, 0, &sealed), data, with_index(&copy, 1, &sealed)].concat();
    debug_assert_eq!(bytes.len(), 2 * COPY + super::DATA);
    Made { bytes, uuid, volume_key, plaintext }
}

pub(super) fn vectors(suite: &mut Suite) {
    let comment =
        "a keyslot made to open with two passwords; the header is whole under the key that this one gives";
    suite.success("two-passwords", "two-passwords.img", &["NAT-KEY-11"], comment);
    let comment =
        "the other password: the keyslot opens, and no copy's MAC is right under the key that it gives";
    let vector = suite.failure("two-passwords-other", &["NAT-KEY-11"], "digest failure", comment);
    (vector.base, vector.password) = ("two-passwords.img".to_owned(), OTHER_PASSWORD.to_owned());

    // Keyslot 0 opens with the password to a key of somebody else's; keyslot 1 is the owner's.
    let mut random = Fixed("another key".to_owned(), 0);
    let uuid = suite.bases["password.img"].uuid;
    let other_key = random.take::<64>();
    let slot = super::Slot { index: 0, priority: 1, label: "", opens: super::Opens::Password(PASSWORD) };
    let other = super::keyslot(&slot, &uuid, &other_key, &mut random);
    let own_key = suite.bases["password.img"].volume_key;
    let slot = super::Slot { index: 1, ..slot };
    let own = super::keyslot(&slot, &uuid, &own_key, &mut random);
    let edits = [0, 1].map(|copy| {
        suite.resealed(copy, |bytes| {
            put(bytes, 4096, &other);
            put(bytes, 6144, &own);
        })
    });
    let comment =
        "keyslot 0 opens to a key under which no copy is authentic; keyslot 1 is tried all the same";
    let rules = ["NAT-RD-06", "NAT-KEY-11"];
    let vector = suite.success("keyslot-of-another-key-first", "password.img", &rules, comment);
    (vector.edit, vector.after) = (edits.to_vec(), "unchanged".to_owned());
}
