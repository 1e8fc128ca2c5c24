//! Adiantum (Crowley and Biggers, 2018): XChaCha over all but the last 16 bytes of a sector, one block of AES-256 over a hash
//! of the whole.

use aes::{
    Aes256,
    cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit},
};
use chacha20::{
    XChaCha12, XChaCha20,
    cipher::{KeyIvInit, StreamCipher},
};
use poly1305::{Poly1305, universal_hash::UniversalHash};
use zeroize::{Zeroize, Zeroizing};

use super::{KeyError, Rounds, wide::WideBlock};
use crate::sys::memory::LockedBox;

/// Adiantum under a key; all that is made of it lies in locked memory.
pub(super) struct Adiantum {
    keys: LockedBox<Keys>,
    rounds: Rounds,
}

struct Keys {
    stream: [u8; KEY_LEN],
    /// Of the hash over lengths and tweak.
    header: [u8; 16],
    /// Of the hash over what NH gives.
    message: [u8; 16],
    nh: [u32; NH_KEY_WORDS],
    block: Aes256,
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.stream.zeroize();
        self.header.zeroize();
        self.message.zeroize();
        self.nh.zeroize();
    }
}

impl Adiantum {
    pub(super) fn new(key: &[u8], rounds: Rounds) -> Result<Self, KeyError> {
        let key: &[u8; KEY_LEN] = key.try_into().map_err(|_| KeyError::Length { len: key.len() })?;
        Ok(Self { keys: LockedBox::new(|| Keys::of(key, rounds))?, rounds })
    }

    fn hash(&self, tweak: &[u8], bulk: &[u8]) -> u128 {
        self.keys.header_hash(tweak, bulk.len()).wrapping_add(self.keys.message_hash(bulk))
    }

    fn stream(&self, nonce: [u8; 16], bulk: &mut [u8]) {
        let mut long = [0; NONCE_LEN];
        long[..16].copy_from_slice(&nonce);
        long[16] = 1;
        self.rounds.apply(&self.keys.stream, &long, bulk);
    }
}

impl WideBlock for Adiantum {
    fn encrypt(&self, tweak: &[u8], block: &mut [u8]) {
        let Some((bulk, last)) = block.split_last_chunk_mut::<16>() else { return };
        let sum = u128::from_le_bytes(*last).wrapping_add(self.hash(tweak, bulk));
        let mut middle = Array(sum.to_le_bytes());
        self.keys.block.encrypt_block(&mut middle);
        self.stream(middle.0, bulk);
        *last = u128::from_le_bytes(middle.0).wrapping_sub(self.hash(tweak, bulk)).to_le_bytes();
    }

    fn decrypt(&self, tweak: &[u8], block: &mut [u8]) {
        let Some((bulk, last)) = block.split_last_chunk_mut::<16>() else { return };
        let middle = u128::from_le_bytes(*last).wrapping_add(self.hash(tweak, bulk)).to_le_bytes();
        self.stream(middle, bulk);
        let mut sum = Array(middle);
        self.keys.block.decrypt_block(&mut sum);
        *last = u128::from_le_bytes(sum.0).wrapping_sub(self.hash(tweak, bulk)).to_le_bytes();
    }
}

impl Keys {
    /// The key stream under the key and the nonce 1: keys of AES, of the two Poly1305, of NH.
    fn of(key: &[u8; KEY_LEN], rounds: Rounds) -> Self {
        let mut derived = Zeroizing::new([0; 32 + 16 + 16 + 4 * NH_KEY_WORDS]);
        let mut nonce = [0; NONCE_LEN];
        nonce[0] = 1;
        rounds.apply(key, &nonce, &mut *derived);
        let (block, rest) = derived.split_at(32);
        let (header, rest) = rest.split_at(16);
        let (message, rest) = rest.split_at(16);
        let mut keys = Self {
            stream: *key,
            header: [0; 16],
            message: [0; 16],
            nh: [0; NH_KEY_WORDS],
            block: Aes256::new(&Array::try_from(block).unwrap_or_default()),
        };
        keys.header.copy_from_slice(header);
        keys.message.copy_from_slice(message);
        for (word, bytes) in keys.nh.iter_mut().zip(rest.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        keys
    }

    fn header_hash(&self, tweak: &[u8], bulk_len: usize) -> u128 {
        let bits = u128::try_from(bulk_len).unwrap_or_default() << 3;
        let mut poly = poly(&self.header);
        poly.update(&[Array(bits.to_le_bytes())]);
        poly.update(Array::cast_slice_from_core(tweak.as_chunks().0));
        u128::from_le_bytes(poly.finalize().0)
    }

    fn message_hash(&self, bulk: &[u8]) -> u128 {
        let mut poly = poly(&self.message);
        for unit in bulk.chunks(NH_UNIT) {
            let sums = self.nh(unit);
            for pair in sums.as_chunks::<2>().0 {
                let both = u128::from(pair[0]) | u128::from(pair[1]) << 64;
                poly.update(&[Array(both.to_le_bytes())]);
            }
        }
        u128::from_le_bytes(poly.finalize().0)
    }

    /// NH, in four passes: each over the key from four words further on.
    fn nh(&self, unit: &[u8]) -> [u64; NH_PASSES] {
        let mut sums = [0_u64; NH_PASSES];
        let (pieces, rest) = unit.as_chunks::<16>();
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        let last = (!rest.is_empty()).then_some(&last);
        for (position, piece) in pieces.iter().chain(last).enumerate() {
            let mut words = [0; 4];
            for (word, bytes) in words.iter_mut().zip(piece.as_chunks().0) {
                *word = u32::from_le_bytes(*bytes);
            }
            for (pass, sum) in sums.iter_mut().enumerate() {
                let key = &self.nh[4 * (position + pass)..][..4];
                let plus = |at: usize| u64::from(words[at].wrapping_add(key[at]));
                let products = (plus(0) * plus(2)).wrapping_add(plus(1) * plus(3));
                *sum = sum.wrapping_add(products);
            }
        }
        sums
    }
}

/// Poly1305 without what is added at the end.
fn poly(key: &[u8; 16]) -> Poly1305 {
    let mut whole = Zeroizing::new([0; 32]);
    whole[..16].copy_from_slice(key);
    Poly1305::new(Array::cast_from_core(&whole))
}

impl Rounds {
    fn apply(self, key: &[u8; KEY_LEN], nonce: &[u8; NONCE_LEN], bytes: &mut [u8]) {
        match self {
            Self::Twelve => XChaCha12::new(key.into(), nonce.into()).apply_keystream(bytes),
            Self::Twenty => XChaCha20::new(key.into(), nonce.into()).apply_keystream(bytes),
        }
    }
}

pub(super) const KEY_LEN: usize = 32;
const NONCE_LEN: usize = 24;
/// What one run of NH takes, in bytes.
const NH_UNIT: usize = 1024;
const NH_PASSES: usize = 4;
const NH_KEY_WORDS: usize = NH_UNIT / 4 + 4 * (NH_PASSES - 1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sector::wide::assert_published;

    #[test]
    fn it_has_its_published_values() {
        // Test vectors of its authors: with an empty tweak.
        for (rounds, key, plaintext, ciphertext) in [
            (
                Rounds::Twelve,
                "7fc7152ae1f5fda4176769aec92bba82a314e7cfadfd8540da7b7d24bdf17d07",
                "9be382c65ac19fad4659b80bacc857a0",
                "820ae44477dd9a186f80288b25070e85",
            ),
            (
                Rounds::Twelve,
                "9ff6e84bbad280cc49422b42195853821933646a5aad93ac95ee31fb53165600",
                "3bedc0f0c90bbf8aebe68f68a05e8a03",
                "d7bf412a04cc875c6b43b5aee732ec7a",
            ),
            (
                Rounds::Twenty,
                "7fc7152ae1f5fda4176769aec92bba82a314e7cfadfd8540da7b7d24bdf17d07",
                "9be382c65ac19fad4659b80bacc857a0",
                "8899bb928f2bf9264eafdee237d431aa",
            ),
            (
                Rounds::Twelve,
                "4260244fcf1dc13d3132cb3fb7a49c7b88e575bd726d052a6a5cd7264ad24a7a",
                "7912c8f77406549a2d23df49a163046a3f7990b3da30b94395043a8a8fba19",
                "76167e759696c2c6db5e215ebc398f722813fe8a39d5ea56d5b9f290753f04",
            ),
            (
                Rounds::Twelve,
                "c63b18f92d502a01fe0969d6555b8ba6364b87a5a2387ce8a7a4dfa3b993e4ab",
                "c067ab6f4f6b5797ac86b1ab0fd965d2677c82ff6d879a588f2e8cfc36ccd0",
                "c870bd5c5329bf7cb95134a0ca8eabdaad5c999fd23f586bdfef15f9a3caf1",
            ),
            (
                Rounds::Twenty,
                "4260244fcf1dc13d3132cb3fb7a49c7b88e575bd726d052a6a5cd7264ad24a7a",
                "7912c8f77406549a2d23df49a163046a3f7990b3da30b94395043a8a8fba19",
                "ac39a4c2b4dec2399a825ff4d079c4386ab3d87a6979839a3332be807b2263",
            ),
            (
                Rounds::Twenty,
                "9ff6e84bbad280cc49422b42195853821933646a5aad93ac95ee31fb53165600",
                "3bedc0f0c90bbf8aebe68f68a05e8a03",
                "320623ff80426b767dfede57c9e610eb",
            ),
        ] {
            let cipher = Adiantum::new(&hex::decode(key).unwrap(), rounds).unwrap();
            assert_published(&cipher, "", plaintext, ciphertext);
        }
    }

    #[test]
    fn it_has_its_published_values_with_tweaks_as_long_as_those_of_disks() {
        const KEYS: [&str; 2] = [
            "9eebb2493c1cf5f46a99c2c4dfb1f4dd752057ea2c4fcdb2a53d7b491eabfd0f",
            "362b5797f85dcd995f1a5a441d920f27cc16d72b856399d3ba96a1dbd26068da",
        ];
        const TWEAKS: [&str; 2] = [
            "df63d4abd249f3d8338137607dfa7308d8496d80e82f6254eb0ea9395b457f8a",
            "ef5869b12c5e9a4724c1b169e112938f433d6d00db5ed8d9129afed9ff2daac4",
        ];
        const PLAINTEXTS: [&str; 2] = [
            "67c9f23084418e43fbf3b33e79367fe8",
            "5ea8681985981223260accdb0a04b9df4db3487bb0e3c819435a4606942df2",
        ];
        for (number, rounds, ciphertext) in [
            (0, Rounds::Twelve, "6d32861867860f3f967c9d280d53ec9f"),
            (1, Rounds::Twelve, "c7c6f1738fc4ff4a39be78be8d28c8894663e70c7d87e84ec9187bbe186050"),
            (0, Rounds::Twenty, "f67897d6aa9401272e4d83e06e649adf"),
            (1, Rounds::Twenty, "4bb89010df7f64080e14425f007409365772b5fdb55db8280c04911491e937"),
        ] {
            let cipher = Adiantum::new(&hex::decode(KEYS[number]).unwrap(), rounds).unwrap();
            assert_published(&cipher, TWEAKS[number], PLAINTEXTS[number], ciphertext);
        }
    }
}
