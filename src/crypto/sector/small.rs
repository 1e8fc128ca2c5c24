use aes::cipher::{Array, BlockCipherDecrypt, BlockSizeUser, KeyInit, consts::U8};
use blowfish::BlowfishLE;
use cast5::Cast5;
use des::TdesEde3;

use super::KeyError;
use crate::sys::memory::LockedBox;

/// A cipher with blocks of 64 bits, which repeat within one disk (Sweet32). Nothing is read or written with one here: they
/// decrypt headers of TrueCrypt 1 to 4, to tell that a container has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmallCipher {
    /// Blowfish, with little-endian words.
    Blowfish,
    /// CAST-128 (RFC 2144).
    Cast5,
    /// Triple DES with three keys.
    TripleDes,
}

impl SmallCipher {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Blowfish, Self::Cast5, Self::TripleDes];

    /// What to call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blowfish => "Blowfish",
            Self::Cast5 => "CAST5",
            Self::TripleDes => "Triple DES",
        }
    }

    /// The size of its key in TrueCrypt, in bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Blowfish => 56,
            Self::Cast5 => 16,
            Self::TripleDes => 24,
        }
    }

    /// Decrypts whole blocks in one chain (CBC).
    ///
    /// # Errors
    /// `Length` for a key of another size, `Memory`.
    pub fn decrypt_chain(self, key: &[u8], iv: [u8; 8], blocks: &mut [[u8; 8]]) -> Result<(), KeyError> {
        match self {
            Self::Blowfish => chain::<BlowfishLE>(key, iv, blocks),
            Self::Cast5 => chain::<Cast5>(key, iv, blocks),
            Self::TripleDes => chain::<TdesEde3>(key, iv, blocks),
        }
    }
}

fn chain<C>(key: &[u8], iv: [u8; 8], blocks: &mut [[u8; 8]]) -> Result<(), KeyError>
where
    C: BlockCipherDecrypt + BlockSizeUser<BlockSize = U8> + KeyInit,
{
    let cipher = LockedBox::try_new(|| C::new_from_slice(key))?;
    let cipher = cipher.map_err(|_| KeyError::Length { len: key.len() })?;
    let mut before = iv;
    for block in blocks {
        let ciphertext = *block;
        let mut plain = Array(ciphertext);
        cipher.decrypt_block(&mut plain);
        *block = (u64::from_le_bytes(plain.0) ^ u64::from_le_bytes(before)).to_le_bytes();
        before = ciphertext;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decrypted(cipher: SmallCipher, key: &str, block: &str) -> String {
        let key = hex::decode(key).unwrap();
        let mut blocks = [hex::decode(block).unwrap().try_into().unwrap(); 2];
        cipher.decrypt_chain(&key, [0; 8], &mut blocks).unwrap();
        let (first, second) = (u64::from_be_bytes(blocks[0]), u64::from_be_bytes(blocks[1]));
        assert_eq!(second ^ first, u64::from_str_radix(block, 16).unwrap(), "the chain");
        hex::encode(blocks[0])
    }

    #[test]
    fn each_cipher_has_its_published_values() {
        // RFC 2144, B.1.
        let cast5 = decrypted(SmallCipher::Cast5, "0123456712345678234567893456789a", "238b4fe5847e44b2");
        assert_eq!(cast5, "0123456789abcdef");
        // NIST SP 800-67, B.1: the first block of its example in ECB.
        let key = "0123456789abcdef23456789abcdef01456789abcdef0123";
        assert_eq!(decrypted(SmallCipher::TripleDes, key, "a826fd8ce53b855f"), hex::encode("The qufc"));
        // Eric Young's list of values for Blowfish, words turned round.
        let blowfish = decrypted(SmallCipher::Blowfish, "0000000000000000", "4597f94e78dd9861");
        assert_eq!(blowfish, "0000000000000000");
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        let error = SmallCipher::TripleDes.decrypt_chain(&[1; 23], [0; 8], &mut []).unwrap_err();
        assert!(matches!(error, KeyError::Length { len: 23 }));
    }
}
