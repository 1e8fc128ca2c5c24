//! Sector ciphers as dm-crypt has them: a block cipher, a mode, and a way to make the IV of a sector from its number.
//!
//! AES-XTS with plain 64-bit numbers, which is most of the world, is [`AesXts`](crate::crypto::xts::AesXts) with another counter.

mod cascade;
mod catalogue;
mod cbc;
mod ecb;
mod iv;
mod lrw;
mod small;
mod whitened;
mod xts;

use std::{io, sync::Arc};

use aes::{
    Aes128, Aes192, Aes256,
    cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit, consts::U16},
};
use kuznyechik::Kuznyechik;

pub use self::{
    cascade::Cascade,
    catalogue::NamedCipher,
    small::SmallCipher,
    whitened::{WhitenedCbc, Whitening},
};
use self::{
    cbc::Cbc,
    ecb::Ecb,
    iv::IvSource,
    lrw::Lrw,
    xts::{AesSectors, Xts},
};
use crate::{
    Error, ErrorKind,
    crypto::{
        SectorCipher,
        cipher::{self, Camellia, Serpent, Twofish},
        hash::HashKind,
        xts::XtsKeyError,
    },
};

/// A block cipher of 128-bit blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockCipher {
    /// AES (FIPS 197).
    Aes,
    /// Serpent.
    Serpent,
    /// Twofish.
    Twofish,
    /// Camellia (RFC 3713).
    Camellia,
    /// Kuznyechik (GOST R 34.12-2015, RFC 7801).
    Kuznyechik,
}

impl BlockCipher {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Aes, Self::Serpent, Self::Twofish, Self::Camellia, Self::Kuznyechik];

    /// The name, as the kernel and cryptsetup write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes => "aes",
            Self::Serpent => "serpent",
            Self::Twofish => "twofish",
            Self::Camellia => "camellia",
            Self::Kuznyechik => "kuznyechik",
        }
    }
}

/// How a sector's blocks are chained, and what makes each sector's encryption another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// XTS (IEEE 1619); the IV is the tweak.
    Xts(IvMode),
    /// CBC, a chain a sector.
    Cbc(IvMode),
    /// LRW with the number of the 16-byte block, counted from 1 (dm-crypt's `lrw-benbi`).
    LrwBenbi,
    /// Every block by itself: equal blocks of plaintext show as equal blocks of ciphertext.
    Ecb,
}

/// How the IV of a sector comes from its number, which counts 512-byte units whatever the size of a sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IvMode {
    /// The low 32 bits, little-endian.
    Plain,
    /// 64 bits, little-endian.
    Plain64,
    /// 64 bits, big-endian, in the last 8 bytes.
    Plain64Be,
    /// [`Plain64`](Self::Plain64), encrypted under the hash of the key.
    Essiv(HashKind),
    /// The number of the 16-byte block, counted from 1, 64 bits, big-endian, in the last 8 bytes.
    Benbi,
}

/// A cipher over sectors that lacks only its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectorSpec {
    /// The block cipher.
    pub cipher: BlockCipher,
    /// The mode and its IV.
    pub mode: Mode,
}

/// Why a key makes no sector cipher.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A length that the cipher does not have.
    #[error("a key of {len} bytes does not fit the cipher")]
    Length {
        /// The length found.
        len: usize,
    },
    /// An ESSIV hash whose digest is no key of the cipher.
    #[error("the digests of {hash} do not fit the cipher as ESSIV keys", hash = .0.name())]
    EssivHash(HashKind),
    /// Both halves of an XTS key alike, which takes XTS its proof (FIPS 140-2 IG A.9).
    #[error("the two halves of the XTS key are equal")]
    EqualHalves,
    /// No memory for the key schedules.
    #[error("no memory for the key schedules")]
    Memory(#[from] io::Error),
    /// The backend of AES-XTS that was asked for does not run here.
    #[error(transparent)]
    Backend(XtsKeyError),
    /// No backend gives right answers.
    #[error("the cipher gives wrong results on this machine")]
    SelfTest,
}

impl From<XtsKeyError> for KeyError {
    fn from(error: XtsKeyError) -> Self {
        match error {
            XtsKeyError::Length { found, .. } => Self::Length { len: found },
            XtsKeyError::EqualHalves => Self::EqualHalves,
            XtsKeyError::Memory(error) => Self::Memory(error),
            other => Self::Backend(other),
        }
    }
}

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Self {
        let kind = match error {
            KeyError::Memory(_) => ErrorKind::OutOfMemory,
            _ => ErrorKind::Unsupported,
        };
        Self::caused_by(kind, error)
    }
}

impl SectorSpec {
    /// Whether keys of `len` bytes fit, and ESSIV's digests where there are any.
    ///
    /// # Errors
    /// `Length` or `EssivHash`.
    pub fn check(self, len: usize) -> Result<(), KeyError> {
        self.family(len)?;
        if let Mode::Xts(IvMode::Essiv(hash)) | Mode::Cbc(IvMode::Essiv(hash)) = self.mode {
            Family::of(self.cipher, hash.digest_len()).ok_or(KeyError::EssivHash(hash))?;
        }
        Ok(())
    }

    /// The cipher under `key`. The IV of its sector 0 is made from the number `first_iv`; each next sector's number is
    /// higher by the 512-byte units of a sector, and wraps at 64 bits.
    ///
    /// # Errors
    /// `Length`, `EssivHash`, `EqualHalves`, `Memory`, `SelfTest`.
    pub fn keyed(self, key: &[u8], first_iv: u64) -> Result<Arc<dyn SectorCipher>, KeyError> {
        let family = self.family(key.len())?;
        if self.cipher.batched().is_some_and(|cipher| cipher::selection(cipher).is_none()) {
            return Err(KeyError::SelfTest);
        }
        let iv = |mode| IvSource::new(self.cipher, mode, key, first_iv);
        match self.mode {
            Mode::Xts(mode) if self.cipher == BlockCipher::Aes => {
                Ok(Arc::new(AesSectors::new(key, iv(mode)?)?))
            }
            Mode::Xts(mode) => (family.xts)(key, iv(mode)?),
            Mode::Cbc(mode) => (family.cbc)(key, iv(mode)?),
            Mode::LrwBenbi => (family.lrw)(key, iv(IvMode::Benbi)?),
            Mode::Ecb => (family.ecb)(key),
        }
    }

    /// The code for the block cipher with the key length that is left of `len` bytes.
    fn family(self, len: usize) -> Result<Family, KeyError> {
        let cipher_len = match self.mode {
            Mode::Xts(_) if len.is_multiple_of(2) => Some(len / 2),
            Mode::Xts(_) => None,
            Mode::LrwBenbi => len.checked_sub(lrw::TWEAK_KEY_LEN),
            Mode::Cbc(_) | Mode::Ecb => Some(len),
        };
        cipher_len.and_then(|len| Family::of(self.cipher, len)).ok_or(KeyError::Length { len })
    }
}

impl BlockCipher {
    /// Its name among those with kernels of our own.
    const fn batched(self) -> Option<cipher::Cipher> {
        match self {
            Self::Serpent => Some(cipher::Cipher::Serpent),
            Self::Camellia => Some(cipher::Cipher::Camellia),
            Self::Aes | Self::Twofish | Self::Kuznyechik => None,
        }
    }
}

/// A block cipher that the modes can be built on.
trait Engine: BlockCipherEncrypt<BlockSize = U16> + BlockCipherDecrypt + KeyInit + Send + Sync + 'static {}
impl<C: BlockCipherEncrypt<BlockSize = U16> + BlockCipherDecrypt + KeyInit + Send + Sync + 'static> Engine
    for C
{
}

type Keyed = Result<Arc<dyn SectorCipher>, KeyError>;
type KeyedBlocks = Result<Box<dyn Blocks>, KeyError>;

/// A block cipher under a key: what ESSIV needs, and CBC around a chain of ciphers.
trait Blocks: Send + Sync {
    fn encrypt(&self, block: [u8; 16]) -> [u8; 16];
    fn decrypt_all(&self, blocks: &mut [[u8; 16]]);
}

/// The modes over one block cipher with one key length.
#[derive(Clone, Copy)]
struct Family {
    xts: fn(&[u8], IvSource) -> Keyed,
    cbc: fn(&[u8], IvSource) -> Keyed,
    lrw: fn(&[u8], IvSource) -> Keyed,
    ecb: fn(&[u8]) -> Keyed,
    blocks: fn(&[u8]) -> KeyedBlocks,
}

impl Family {
    /// `None` where the cipher has no such key length (in bytes).
    fn of(cipher: BlockCipher, key_len: usize) -> Option<Self> {
        Some(match (cipher, key_len) {
            (BlockCipher::Aes, 16) => Self::over::<Aes128>(),
            (BlockCipher::Aes, 24) => Self::over::<Aes192>(),
            (BlockCipher::Aes, 32) => Self::over::<Aes256>(),
            (BlockCipher::Camellia, 16 | 24 | 32) => Self::over::<Camellia>(),
            (BlockCipher::Serpent, 16 | 24 | 32) => Self::over::<Serpent>(),
            (BlockCipher::Twofish, 16 | 24 | 32) => Self::over::<Twofish>(),
            (BlockCipher::Kuznyechik, 32) => Self::over::<Kuznyechik>(),
            _ => return None,
        })
    }

    fn over<C: Engine>() -> Self {
        Self {
            xts: |key, iv| Ok(Arc::new(Xts::<C>::new(key, iv)?)),
            cbc: |key, iv| Ok(Arc::new(Cbc::<C>::new(key, iv)?)),
            lrw: |key, iv| Ok(Arc::new(Lrw::<C>::new(key, iv)?)),
            ecb: |key| Ok(Arc::new(Ecb::<C>::new(key)?)),
            blocks: |key| Ok(Box::new(Ecb::<C>::new(key)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(cipher: BlockCipher, mode: Mode, len: usize) -> KeyError {
        let spec = SectorSpec { cipher, mode };
        let checked = spec.check(len).unwrap_err();
        let key: Vec<u8> = (0..=255).cycle().take(len).collect();
        let keyed = spec.keyed(&key, 0).unwrap_err();
        assert_eq!(checked.to_string(), keyed.to_string());
        keyed
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        for (mode, len) in [
            (Mode::Xts(IvMode::Plain64), 33),
            (Mode::Xts(IvMode::Plain64), 16),
            (Mode::Cbc(IvMode::Plain), 64),
            (Mode::LrwBenbi, 15),
            (Mode::LrwBenbi, 16),
            (Mode::Ecb, 0),
        ] {
            for cipher in
                [BlockCipher::Aes, BlockCipher::Serpent, BlockCipher::Twofish, BlockCipher::Camellia]
            {
                let error = refusal(cipher, mode, len);
                assert!(matches!(error, KeyError::Length { len: found } if found == len), "{error}");
            }
        }
    }

    #[test]
    fn an_essiv_hash_whose_digest_is_no_key_is_refused() {
        let error = refusal(BlockCipher::Aes, Mode::Cbc(IvMode::Essiv(HashKind::Sha1)), 16);
        assert!(matches!(error, KeyError::EssivHash(HashKind::Sha1)), "{error}");
    }

    #[test]
    fn equal_halves_of_an_xts_key_are_refused() {
        let spec = SectorSpec { cipher: BlockCipher::Serpent, mode: Mode::Xts(IvMode::Plain64) };
        assert!(matches!(spec.keyed(&[7; 64], 0), Err(KeyError::EqualHalves)));
    }
}
