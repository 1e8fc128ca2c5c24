//! HCTR2 (Crowley, Huckleberry and Biggers, 2021): AES in counter mode over all but the first 16 bytes of a sector, one block
//! over a hash of the whole, POLYVAL.

use aes::cipher::Array;
use polyval::{Polyval, universal_hash::UniversalHash};

use super::{Engine, KeyError, ecb::keyed, wide::WideBlock};
use crate::sys::memory::LockedBox;

/// HCTR2 under a key; all that is made of it lies in locked memory.
pub(super) struct Hctr2<C> {
    cipher: LockedBox<C>,
    keys: LockedBox<Keys>,
}

struct Keys {
    hash: Polyval,
    mask: u128,
}

impl<C: Engine> Hctr2<C> {
    pub(super) fn new(key: &[u8]) -> Result<Self, KeyError> {
        let cipher: LockedBox<C> = keyed(key)?;
        let numbered = |number: u128| {
            let mut block = Array(number.to_le_bytes());
            cipher.encrypt_block(&mut block);
            block
        };
        let keys = LockedBox::new(|| Keys {
            hash: Polyval::new(&numbered(0)),
            mask: u128::from_le_bytes(numbered(1).0),
        })?;
        Ok(Self { cipher, keys })
    }

    /// The hash of tweak and message, whose length is a multiple of a block's.
    fn hash(&self, tweak: &[u8], message: &[u8]) -> u128 {
        let tweak_bits = u128::try_from(tweak.len()).unwrap_or_default() << 3;
        let mut hash = self.keys.hash.clone();
        hash.update(&[Array((2 * tweak_bits + 2).to_le_bytes())]);
        hash.update(Array::cast_slice_from_core(tweak.as_chunks().0));
        hash.update(Array::cast_slice_from_core(message.as_chunks().0));
        u128::from_le_bytes(hash.finalize().0)
    }

    /// Counter mode: block number n, from 1, under n XOR `start`.
    fn count(&self, start: u128, message: &mut [u8]) {
        let mut number = 1;
        for run in message.chunks_mut(16 * LANES) {
            let mut stream = [Array([0; 16]); LANES];
            for block in &mut stream {
                *block = Array((start ^ number).to_le_bytes());
                number += 1;
            }
            let stream = &mut stream[..run.len().div_ceil(16)];
            self.cipher.encrypt_blocks(stream);
            for (byte, other) in run.iter_mut().zip(stream.iter().flat_map(|block| &block.0)) {
                *byte ^= other;
            }
        }
    }
}

impl<C: Engine> WideBlock for Hctr2<C> {
    fn encrypt(&self, tweak: &[u8], block: &mut [u8]) {
        let Some((first, message)) = block.split_first_chunk_mut::<16>() else { return };
        let before = u128::from_le_bytes(*first) ^ self.hash(tweak, message);
        let mut after = Array(before.to_le_bytes());
        self.cipher.encrypt_block(&mut after);
        let after = u128::from_le_bytes(after.0);
        self.count(before ^ after ^ self.keys.mask, message);
        *first = (after ^ self.hash(tweak, message)).to_le_bytes();
    }

    fn decrypt(&self, tweak: &[u8], block: &mut [u8]) {
        let Some((first, message)) = block.split_first_chunk_mut::<16>() else { return };
        let after = u128::from_le_bytes(*first) ^ self.hash(tweak, message);
        let mut before = Array(after.to_le_bytes());
        self.cipher.decrypt_block(&mut before);
        let before = u128::from_le_bytes(before.0);
        self.count(before ^ after ^ self.keys.mask, message);
        *first = (before ^ self.hash(tweak, message)).to_le_bytes();
    }
}

/// Blocks that the cipher is given at once.
const LANES: usize = 32;

#[cfg(test)]
mod tests {
    use aes::{Aes128, Aes256};

    use super::*;
    use crate::crypto::sector::wide::assert_published;

    #[test]
    fn it_has_its_published_values() {
        // Test vectors of its authors: with an empty tweak.
        for (key, plaintext, ciphertext) in [
            (
                "7fc7152ae1f5fda4176769aec92bba82a314e7cfadfd8540da7b7d24bdf17d07",
                "9be382c65ac19fad4659b80bacc857a0",
                "596a76ff906fbe9b792767778fed2361",
            ),
            (
                "9ff6e84bbad280cc49422b42195853821933646a5aad93ac95ee31fb53165600",
                "3bedc0f0c90bbf8aebe68f68a05e8a03",
                "caf791cb070203c3e9f7340eb743a197",
            ),
            (
                "8696690bbe1bfad425654b8d41395490432d36ba3e9947c590af2696b11f85bc",
                "c2fbd9cfb35397b50a81e32cd0899d619006d815154c8acd465f50f3f22c11d8fe64c21df69904d41fddc0cfcab22d62\
                 228cda91b184ecc2a214eb962c339715bd7ef2a28efeaed05ccc3416683025cf223c5a7cc813dfe6bbb14baa5cfb457e\
                 5d57087f97116eabb9d668522ac922547a68ee5fcfbb061165d81fdea0cacb8a8cda7fad24f917232dc009916b3e51cc\
                 6bcf7312060a7d1cf6fffc71dba348ad307aa0edd902690a15d290e0c70bf76bb3f225c84b31ee5f592f5e1f6489ea84\
                 eaff1172571d586d6cac98078fa1c04f759d336357e6747ec4cf47b8ac4c6c291ec62f32f81f0cbeaf52a65f2c6c2695\
                 f4c24f3da4b52d6dac2e2ba2eeed238682b325749dc462aa2356d60c5f395b0b21034efb52bb11712bd28c150e183ce1\
                 be98d7b854ef1a3fe5bb0a08ebe76fc2f6cec6ffed1e241a19f787c2e16c860d1459c257facca62f605c1d894b104679\
                 e8a22e02e8d35530deac951e2197570944d2571de3701955ddf2be98d3ccdb72b7c894b8dc5d7500cf33663c3d7a0e20\
                 e667ffedb65b9b7dfc15e9b23aa88db4a65c7cb3a7846bafb912f3dd34423fd9c09a4bde636b6d297a471eb11293c64c\
                 b2a3e68ecdb661642c002893e33741329672bcf75f26ac231c06f5328d2979e881fe3fc22b09c1ef20c73703fa880f0c\
                 c5c23158766dbfd0906e531b457f8b5f6adbe5ac58f888dc5ec86aab3a08fd73",
                "4f114c12b996c9c9237798ab1b616260bce1601d14c01ae468699c463a8c99e17ca4f778143766af520217e222449d4f\
                 676d68d93bdaa3e4fbc2c64e6d03308fe47b4d60955d7e47b2703de0e298a8559babfac3ccb0f5d4be1b97ae48df4ada\
                 f88b065382e0c684d43e3f895044e0ddcd8e54977f46edfcef725ddb73c6e35d39f23511a221e5da60bb70c22db7b9c7\
                 f700de3be3c90ad81b2588e42ce2de41af4250c3dac88d4321731df0a1f6dfb33113f7728d6956ab88067f9cf62c5689\
                 a3192b48d4843329a692727f0d9c7d0ae84139dc75aa7a6c3766cdeace987894ff98c6aa35a735fe85d8b80ff135c4d1\
                 cd5c73790287b841c451ccf20831489d23d9825974d3f38412d9c72fd1a79159901cde9f29ef298863220b1f252f91f0\
                 e568cfb8efbab9642519a36e286cd794e8a625d0ad32e873f7fddf98d01a71d34a20993912fdb1b0bf8e26c956f1e986\
                 7083b569d1689af82c5d05764ea22251dbf41d2ffd9491aea85bffa1f94955dec7091b4073b6107a3e077333d31a7dde\
                 6889143b1f4aeb7be1a6608b7ea077b535c993505677cd7c7b646bff1f3f3656c8514ee07a25e86a73807a05ff4c8c4a\
                 8a7835f3869dde893c5780b9ab7d7ab5a8d04e17f3db188b3e86ebc80b8f6bdbc4eb12730bdb12c29bb758cc7c57aeec\
                 2fac4f1e94370503f8107d382958855ec5d555c3fb0f6a04f0ab8fde0463b08e",
            ),
        ] {
            let cipher = Hctr2::<Aes256>::new(&hex::decode(key).unwrap()).unwrap();
            assert_published(&cipher, "", plaintext, ciphertext);
        }
    }

    #[test]
    fn it_has_its_published_values_with_tweaks_as_long_as_those_of_disks() {
        for (key, tweak, plaintext, ciphertext) in [
            (
                "e115663c8dc63affef41d747a2cc8aba",
                "c3be2acbb53986f191ad6cf4de7445635c7ad5cc8b76ef0ecf2c606937fd0796",
                "6575aed3e2bc435cb31ad805c3d05629",
                "1191ea7458ccd5a2d0559e3dfe7fc8fe",
            ),
            (
                "50cc285caf62a24e02f0c05ec12980ca",
                "64a5d5f9f46826eacebb6cdda5ef39b55c93df1b9321be49ff9e864f7c4d5115",
                "34c1083e9c280acf33db3f0d0527a4ed",
                "7caebb374a55945bc66f8f9f685fc762",
            ),
        ] {
            let cipher = Hctr2::<Aes128>::new(&hex::decode(key).unwrap()).unwrap();
            assert_published(&cipher, tweak, plaintext, ciphertext);
        }
    }
}
