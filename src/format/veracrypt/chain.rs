//! Ciphers and cascades: which there are, and how a key area is divided among them.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{Family, VolumeHeader, layout::PLAIN_LEN};
use crate::crypto::{
    SectorCipher,
    sector::{
        BlockCipher, Cascade, IvMode, KeyError, Mode as CipherMode, SectorSpec, SmallCipher, WhitenedCbc,
        Whitening,
    },
};

/// A cipher, or several one upon the other.
#[derive(Debug, PartialEq, Eq)]
pub struct Chain {
    /// The names in encryption order, as `aes-twofish-serpent`. VeraCrypt's window shows them the other way round.
    pub name: &'static str,
    /// In encryption order.
    pub ciphers: &'static [BlockCipher],
    /// Whether TrueCrypt had it too.
    in_truecrypt: bool,
}

/// How a chain encrypts sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// XTS, each cipher by itself. (TrueCrypt 5 and later, VeraCrypt)
    Xts,
    /// LRW, all ciphers under one tweak key. (TrueCrypt 4.1 to 4.3)
    Lrw,
    /// CBC around the whole chain, whitened. (TrueCrypt 1 to 4.0)
    Cbc,
}

/// A chain and its mode: a cipher that lacks only its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encryption {
    /// The ciphers.
    pub chain: &'static Chain,
    /// The mode.
    pub mode: Mode,
}

/// What a cipher is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// The header's encrypted bytes, one data unit.
    Header,
    /// The data.
    Data,
}

impl Chain {
    /// The chain of this name.
    pub fn from_name(name: &str) -> Option<&'static Self> {
        CHAINS.iter().find(|chain| chain.name == name)
    }

    /// The chain of this name, where programs of this family have it.
    pub fn of_family(name: &str, family: Family) -> Option<&'static Self> {
        Self::from_name(name).filter(|chain| chain.in_truecrypt || family == Family::VeraCrypt)
    }

    /// Its place in the list.
    pub(super) fn index(&self) -> Option<u8> {
        CHAINS.iter().position(|chain| chain == self).and_then(|index| u8::try_from(index).ok())
    }
}

impl Mode {
    /// The name, as cryptsetup has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xts => "xts-plain64",
            Self::Lrw => "lrw-benbi",
            Self::Cbc => "cbc-tcw",
        }
    }
}

impl Encryption {
    /// All that a program of this family has written, the likeliest first.
    pub(super) fn all(family: Family) -> impl Iterator<Item = Self> {
        let modes: &[Mode] = match family {
            Family::VeraCrypt => &[Mode::Xts],
            Family::TrueCrypt => &[Mode::Xts, Mode::Lrw, Mode::Cbc],
        };
        let chains = CHAINS.iter().filter(move |chain| chain.in_truecrypt || family == Family::VeraCrypt);
        modes.iter().flat_map(move |&mode| chains.clone().map(move |chain| Self { chain, mode }))
    }

    /// The bytes of key that it takes.
    pub fn key_len(self) -> usize {
        let keys = KEY_LEN.saturating_mul(self.chain.ciphers.len());
        match self.mode {
            Mode::Xts => keys.saturating_mul(2),
            Mode::Lrw | Mode::Cbc => keys.saturating_add(SEEDS_LEN),
        }
    }

    /// `aes-twofish-xts-plain64`.
    pub fn name(self) -> String {
        format!("{}-{}", self.chain.name, self.mode.name())
    }

    /// The cipher under the keys that stand at the start of `area` (VC-KEY-01, -02, -03). Units of 512 bytes.
    ///
    /// # Errors
    /// `Length` where the area is too short, `EqualHalves`, `Memory`.
    pub(super) fn keyed(self, area: &[u8], purpose: Use) -> Result<Arc<dyn SectorCipher>, KeyError> {
        let wrong_length = || KeyError::Length { len: area.len() };
        let area = area.get(..self.key_len()).ok_or_else(wrong_length)?;
        match self.mode {
            Mode::Xts => self.xts(area).ok_or_else(wrong_length)?,
            Mode::Lrw => self.lrw(area).ok_or_else(wrong_length)?,
            Mode::Cbc => self.cbc(area, purpose).ok_or_else(wrong_length)?,
        }
    }

    fn xts(self, area: &[u8]) -> Option<Result<Arc<dyn SectorCipher>, KeyError>> {
        let (primary, secondary) = area.split_at_checked(area.len() / 2)?;
        let keys = primary.chunks_exact(KEY_LEN).zip(secondary.chunks_exact(KEY_LEN));
        Some(self.cascade(CipherMode::Xts(IvMode::Plain64), keys))
    }

    /// The number of the block, from 1 on at the start of the header and of the data alike.
    fn lrw(self, area: &[u8]) -> Option<Result<Arc<dyn SectorCipher>, KeyError>> {
        let (seeds, keys) = area.split_at_checked(SEEDS_LEN)?;
        let tweak_key = seeds.get(..LRW_TWEAK_LEN)?;
        let keys = keys.chunks_exact(KEY_LEN).map(|key| (key, tweak_key));
        Some(self.cascade(CipherMode::Lrw(IvMode::Benbi), keys))
    }

    /// Sectors are numbered from 0 in the header and from 1 in the data.
    fn cbc(self, area: &[u8], purpose: Use) -> Option<Result<Arc<dyn SectorCipher>, KeyError>> {
        let (seeds, keys) = area.split_at_checked(SEEDS_LEN)?;
        let keyed: Vec<_> = self.chain.ciphers.iter().copied().zip(keys.chunks_exact(KEY_LEN)).collect();
        let (whitening, first) = match purpose {
            Use::Header => (Whitening::Constant, 0),
            Use::Data => (Whitening::BySector, 1),
        };
        let cipher = WhitenedCbc::new(&keyed, seeds, whitening, first);
        Some(cipher.map(|cipher| -> Arc<dyn SectorCipher> { Arc::new(cipher) }))
    }

    /// Each cipher under its two keys joined.
    fn cascade<'a>(
        self,
        mode: CipherMode,
        keys: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Arc<dyn SectorCipher>, KeyError> {
        let ciphers = self.chain.ciphers.iter().zip(keys).map(|(&cipher, (data, tweak))| {
            let key = Zeroizing::new([data, tweak].concat());
            SectorSpec { cipher, mode }.keyed(&key, 0)
        });
        Ok(Cascade::of(ciphers.collect::<Result<_, _>>()?))
    }
}

/// The header behind `ciphertext` where it was encrypted by a cipher with small blocks, whitened as [`Mode::Cbc`] is, and that
/// cipher's name. `key` is the whole of a derivation.
pub(super) fn with_small_blocks(key: &[u8], ciphertext: &[u8; PLAIN_LEN]) -> Option<&'static str> {
    let (seeds, keys) = key.split_at_checked(SEEDS_LEN)?;
    let (iv, rest) = seeds.split_first_chunk::<8>()?;
    let whitening = rest.first_chunk::<8>()?;
    let is_header = |cipher: &SmallCipher| {
        let mut plain = Zeroizing::new(*ciphertext);
        for block in plain.as_chunks_mut::<8>().0 {
            *block = (u64::from_le_bytes(*block) ^ u64::from_le_bytes(*whitening)).to_le_bytes();
        }
        let Some(key) = keys.get(..cipher.key_len()) else { return false };
        let done = cipher.decrypt_chain(key, *iv, plain.as_chunks_mut().0);
        done.is_ok() && matches!(VolumeHeader::parse(&plain), Ok(Some(_)))
    };
    SmallCipher::OF_TRUECRYPT.iter().find(|cipher| is_header(cipher)).map(|cipher| cipher.name())
}

/// The chain with this place in the list.
pub(super) fn chain_at(index: u8) -> Option<&'static Chain> {
    CHAINS.get(usize::from(index))
}

const fn old(name: &'static str, ciphers: &'static [BlockCipher]) -> Chain {
    Chain { name, ciphers, in_truecrypt: true }
}

const fn new(name: &'static str, ciphers: &'static [BlockCipher]) -> Chain {
    Chain { name, ciphers, in_truecrypt: false }
}

use BlockCipher::{Aes, Camellia, Kuznyechik, Serpent, Twofish};

/// Every chain, the likeliest first. Their places stand in volume keys handed to a server: new ones go to the end.
static CHAINS: [Chain; 15] = [
    old("aes", &[Aes]),
    old("serpent", &[Serpent]),
    old("twofish", &[Twofish]),
    new("camellia", &[Camellia]),
    new("kuznyechik", &[Kuznyechik]),
    old("twofish-aes", &[Twofish, Aes]),
    old("serpent-twofish-aes", &[Serpent, Twofish, Aes]),
    old("aes-serpent", &[Aes, Serpent]),
    old("aes-twofish-serpent", &[Aes, Twofish, Serpent]),
    old("serpent-twofish", &[Serpent, Twofish]),
    new("kuznyechik-camellia", &[Kuznyechik, Camellia]),
    new("serpent-camellia", &[Serpent, Camellia]),
    new("aes-kuznyechik", &[Aes, Kuznyechik]),
    new("camellia-serpent-kuznyechik", &[Camellia, Serpent, Kuznyechik]),
    new("twofish-kuznyechik", &[Twofish, Kuznyechik]),
];

/// The most bytes of key that a chain takes: what a derivation gives at most.
pub(super) const MAX_KEY_LEN: usize = 192;
/// The key of one cipher, in bytes.
const KEY_LEN: usize = 32;
/// What stands before the keys in the modes before XTS, in bytes.
const SEEDS_LEN: usize = 32;
/// LRW's tweak key, in bytes.
const LRW_TWEAK_LEN: usize = 16;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_names_of_the_ciphers_in_encryption_order() {
        // proves: VC-CIPHER-01
        for chain in &CHAINS {
            let names: Vec<_> = chain.ciphers.iter().map(|cipher| cipher.name()).collect();
            assert_eq!(chain.name, names.join("-"));
            assert_eq!(Chain::from_name(chain.name), Some(chain));
            assert_eq!(chain.index().and_then(chain_at), Some(chain));
        }
    }

    #[test]
    fn truecrypt_had_no_camellia_and_no_kuznyechik() {
        // proves: VC-CIPHER-02
        assert_eq!(Encryption::all(Family::VeraCrypt).count(), 15);
        let of_truecrypt: Vec<_> = Encryption::all(Family::TrueCrypt).collect();
        assert_eq!(of_truecrypt.len(), 3 * 8);
        let is_new = |cipher: &BlockCipher| matches!(cipher, Camellia | Kuznyechik);
        assert!(!of_truecrypt.iter().any(|encryption| encryption.chain.ciphers.iter().any(is_new)));
    }

    #[test]
    fn no_chain_takes_more_key_than_a_derivation_gives() {
        for family in [Family::TrueCrypt, Family::VeraCrypt] {
            for encryption in Encryption::all(family) {
                assert!(encryption.key_len() <= MAX_KEY_LEN);
                let area: Vec<u8> = (0..=255).collect();
                assert!(encryption.keyed(&area, Use::Data).is_ok());
                let short = area.get(..encryption.key_len() - 1).unwrap();
                assert!(matches!(encryption.keyed(short, Use::Data), Err(KeyError::Length { .. })));
            }
        }
    }
}
