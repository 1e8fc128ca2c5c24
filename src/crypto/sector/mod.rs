//! Sector ciphers as dm-crypt has them: a block cipher, a mode, and a way to make the IV of a sector from its number.
//!
//! AES-XTS with plain 64-bit numbers, which is most of the world, is [`AesXts`](crate::crypto::xts::AesXts) with another counter.

mod adiantum;
mod cascade;
mod catalogue;
mod cbc;
mod ecb;
mod hctr2;
mod iv;
mod lrw;
mod small;
mod whitened;
mod wide;
mod xts;

use std::{io, sync::Arc};

use aes::{
    Aes128, Aes192, Aes256,
    cipher::{
        BlockCipherDecrypt, BlockCipherEncrypt, KeyInit,
        consts::{U16, U20, U24, U32, U128},
    },
};
use aria::{Aria128, Aria192, Aria256};
use cast6::Cast6;
use kuznyechik::Kuznyechik;
use rc6::RC6;
use sm4::Sm4;

use self::{
    adiantum::Adiantum,
    cbc::Cbc,
    ecb::Ecb,
    hctr2::Hctr2,
    iv::IvSource,
    lrw::Lrw,
    wide::Wide,
    xts::{AesSectors, Xts},
};
pub use self::{
    cascade::Cascade,
    catalogue::NamedCipher,
    small::SmallCipher,
    whitened::{WhitenedCbc, Whitening},
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
    /// ARIA (RFC 5794).
    Aria,
    /// SM4 (GB/T 32907-2016).
    Sm4,
    /// CAST-256 (RFC 2612).
    Cast6,
    /// RC6 with words of 32 bits and 20 rounds.
    Rc6,
}

impl BlockCipher {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Aes,
        Self::Serpent,
        Self::Twofish,
        Self::Camellia,
        Self::Kuznyechik,
        Self::Aria,
        Self::Sm4,
        Self::Cast6,
        Self::Rc6,
    ];

    /// The name, as the kernel and cryptsetup write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes => "aes",
            Self::Serpent => "serpent",
            Self::Twofish => "twofish",
            Self::Camellia => "camellia",
            Self::Kuznyechik => "kuznyechik",
            Self::Aria => "aria",
            Self::Sm4 => "sm4",
            Self::Cast6 => "cast6",
            Self::Rc6 => "rc6",
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
    /// LRW; the IV is the number of a sector's first 16-byte block.
    Lrw(IvMode),
    /// Every block by itself: equal blocks of plaintext show as equal blocks of ciphertext.
    Ecb,
    /// Adiantum: the whole sector is one block; the IV is its tweak.
    Adiantum(Rounds, IvMode),
    /// HCTR2: the same, made of AES alone.
    Hctr2(IvMode),
}

/// The rounds of Adiantum's `XChaCha`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounds {
    /// 12.
    Twelve,
    /// 20.
    Twenty,
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
    /// Zeros for every sector.
    Null,
    /// The first bytes of the hash of the low 32 bits, little-endian.
    Hashed32(HashKind),
    /// The first bytes of the hash of 64 bits, little-endian.
    Hashed64(HashKind),
    /// As [`Essiv`](Self::Essiv), with the digest cut, or filled up with zeros, to the size of the key.
    FittedEssiv(HashKind),
}

impl IvMode {
    /// The name, as cryptsetup writes it where it has one.
    pub fn name(self) -> String {
        match self {
            Self::Plain => "plain".to_owned(),
            Self::Plain64 => "plain64".to_owned(),
            Self::Plain64Be => "plain64be".to_owned(),
            Self::Benbi => "benbi".to_owned(),
            Self::Null => "null".to_owned(),
            Self::Essiv(hash) | Self::FittedEssiv(hash) => format!("essiv:{}", hash.name()),
            Self::Hashed32(hash) => format!("plain:{}", hash.name()),
            Self::Hashed64(hash) => format!("plain64:{}", hash.name()),
        }
    }
}

/// A cipher over sectors that lacks only its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectorSpec {
    /// The block cipher.
    pub cipher: BlockCipher,
    /// The mode and its IV.
    pub mode: Mode,
}

impl Mode {
    /// How its IVs are made, where it has any.
    pub const fn iv(self) -> Option<IvMode> {
        match self {
            Self::Xts(iv) | Self::Cbc(iv) | Self::Lrw(iv) | Self::Adiantum(_, iv) | Self::Hctr2(iv) => {
                Some(iv)
            }
            Self::Ecb => None,
        }
    }
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
        if let Some(IvMode::Essiv(hash)) = self.mode.iv() {
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
        self.keyed_masked(key, first_iv, &[])
    }

    /// The same with the bytes of `mask`, as many as there are, added (XOR) to each IV.
    ///
    /// # Errors
    /// As [`keyed`](Self::keyed).
    pub fn keyed_masked(
        self,
        key: &[u8],
        first_iv: u64,
        mask: &[u8],
    ) -> Result<Arc<dyn SectorCipher>, KeyError> {
        let family = self.family(key.len())?;
        if self.cipher.batched().is_some_and(|cipher| cipher::selection(cipher).is_none()) {
            return Err(KeyError::SelfTest);
        }
        let essiv = |key: &[u8]| -> Result<Box<dyn Encrypts>, KeyError> {
            let family = Family::of(self.cipher, key.len()).ok_or(KeyError::Length { len: key.len() })?;
            Ok((family.blocks)(key)?)
        };
        let iv = |mode| Ok::<_, KeyError>(IvSource::new(mode, key, first_iv, essiv)?.masked(mask));
        match self.mode {
            Mode::Xts(mode) if self.cipher == BlockCipher::Aes => {
                Ok(Arc::new(AesSectors::new(key, iv(mode)?)?))
            }
            Mode::Xts(mode) => (family.xts)(key, iv(mode)?),
            Mode::Cbc(mode) => (family.cbc)(key, iv(mode)?),
            Mode::Lrw(mode) => (family.lrw)(key, iv(mode)?),
            Mode::Ecb => (family.ecb)(key),
            Mode::Adiantum(rounds, mode) => Ok(Arc::new(Wide::new(Adiantum::new(key, rounds)?, iv(mode)?))),
            Mode::Hctr2(mode) => (family.hctr2)(key, iv(mode)?),
        }
    }

    /// What of a key of `len` bytes is the block cipher's, in bytes: of XTS one half.
    pub const fn cipher_len(self, len: usize) -> Option<usize> {
        match self.mode {
            Mode::Xts(_) if len.is_multiple_of(2) => Some(len / 2),
            Mode::Lrw(_) => len.checked_sub(lrw::TWEAK_KEY_LEN),
            Mode::Cbc(_) | Mode::Ecb | Mode::Hctr2(_) => Some(len),
            Mode::Adiantum(..) if len == adiantum::KEY_LEN => Some(len),
            Mode::Xts(_) | Mode::Adiantum(..) => None,
        }
    }

    /// The code for the block cipher with the key length that is left of `len` bytes.
    fn family(self, len: usize) -> Result<Family, KeyError> {
        self.cipher_len(len).and_then(|len| Family::of(self.cipher, len)).ok_or(KeyError::Length { len })
    }
}

impl BlockCipher {
    /// Its name among those with kernels of our own.
    const fn batched(self) -> Option<cipher::Cipher> {
        match self {
            Self::Serpent => Some(cipher::Cipher::Serpent),
            Self::Camellia => Some(cipher::Cipher::Camellia),
            Self::Aes
            | Self::Twofish
            | Self::Kuznyechik
            | Self::Aria
            | Self::Sm4
            | Self::Cast6
            | Self::Rc6 => None,
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

/// A block cipher under a key, one way: what ESSIV needs. Of a cipher with smaller blocks the first bytes count.
trait Encrypts: Send + Sync {
    fn encrypt(&self, block: [u8; 16]) -> [u8; 16];
}

/// A block cipher under a key: what CBC around a chain of ciphers needs.
trait Blocks: Encrypts {
    fn decrypt_all(&self, blocks: &mut [[u8; 16]]);
}

/// The modes over one block cipher with one key length.
#[derive(Clone, Copy)]
struct Family {
    xts: fn(&[u8], IvSource) -> Keyed,
    cbc: fn(&[u8], IvSource) -> Keyed,
    lrw: fn(&[u8], IvSource) -> Keyed,
    ecb: fn(&[u8]) -> Keyed,
    hctr2: fn(&[u8], IvSource) -> Keyed,
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
            (BlockCipher::Aria, 16) => Self::over::<Aria128>(),
            (BlockCipher::Aria, 24) => Self::over::<Aria192>(),
            (BlockCipher::Aria, 32) => Self::over::<Aria256>(),
            (BlockCipher::Sm4, 16) => Self::over::<Sm4>(),
            (BlockCipher::Cast6, 16 | 20 | 24 | 28 | 32) => Self::over::<Cast6>(),
            (BlockCipher::Rc6, 16) => Self::over::<RC6<u32, U20, U16>>(),
            (BlockCipher::Rc6, 24) => Self::over::<RC6<u32, U20, U24>>(),
            (BlockCipher::Rc6, 32) => Self::over::<RC6<u32, U20, U32>>(),
            (BlockCipher::Rc6, 128) => Self::over::<RC6<u32, U20, U128>>(),
            _ => return None,
        })
    }

    fn over<C: Engine>() -> Self {
        Self {
            xts: |key, iv| Ok(Arc::new(Xts::<C>::new(key, iv)?)),
            cbc: |key, iv| Ok(Arc::new(Cbc::<C>::new(key, iv)?)),
            lrw: |key, iv| Ok(Arc::new(Lrw::<C>::new(key, iv)?)),
            ecb: |key| Ok(Arc::new(Ecb::<C>::new(key)?)),
            hctr2: |key, iv| Ok(Arc::new(Wide::new(Hctr2::<C>::new(key)?, iv))),
            blocks: |key| Ok(Box::new(Ecb::<C>::new(key)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Sector, SectorSize};

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
            (Mode::Lrw(IvMode::Benbi), 15),
            (Mode::Lrw(IvMode::Benbi), 16),
            (Mode::Ecb, 0),
            (Mode::Adiantum(Rounds::Twelve, IvMode::Plain64), 16),
            (Mode::Hctr2(IvMode::Plain64), 64),
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

    #[test]
    fn ciphers_without_another_oracle_have_their_published_values() {
        // RFC 2612, appendix A; the RC6 submission to NIST, zeros under zeros.
        for (cipher, key, expected) in [
            (BlockCipher::Cast6, "2342bb9efa38542c0af75647f29f615d", "c842a08972b43d20836c91d1b7530f6b"),
            (
                BlockCipher::Cast6,
                "2342bb9efa38542cbed0ac83940ac298bac77a7717942863",
                "1b386c0210dcadcbdd0e41aa08a7a7e8",
            ),
            (
                BlockCipher::Cast6,
                "2342bb9efa38542cbed0ac83940ac2988d7c47ce264908461cc1b5137ae6b604",
                "4f6a2038286897b9c9870136553317fa",
            ),
            (BlockCipher::Rc6, &"00".repeat(16), "8fc3a53656b1f778c129df4e9848a41e"),
            (BlockCipher::Rc6, &"00".repeat(24), "6cd61bcb190b30384e8a3f168690ae82"),
            (BlockCipher::Rc6, &"00".repeat(32), "8f5fbd0510d15fa893fa3fda6e857ec2"),
        ] {
            let key = hex::decode(key).unwrap();
            let cipher = SectorSpec { cipher, mode: Mode::Ecb }.keyed(&key, 0).unwrap();
            let mut sector = [0; 512];
            cipher.encrypt(&mut sector, SectorSize::B512, Sector(0));
            assert_eq!(hex::encode(&sector[..16]), expected);
        }
    }

    #[test]
    fn a_mask_is_added_to_each_iv() {
        let spec = SectorSpec { cipher: BlockCipher::Aes, mode: Mode::Cbc(IvMode::Plain64) };
        let encrypted = |mask: &[u8], number| {
            let mut sector = [0; 512];
            let cipher = spec.keyed_masked(&[7; 32], 0, mask).unwrap();
            cipher.encrypt(&mut sector, SectorSize::B512, Sector(number));
            sector
        };
        assert_eq!(encrypted(&[1], 4), encrypted(&[], 5));
        assert_eq!(encrypted(&[0; 16], 4), encrypted(&[], 4));
        assert_ne!(encrypted(&[0, 0, 0, 0, 0, 0, 0, 0, 1], 4), encrypted(&[], 4));
    }
}
