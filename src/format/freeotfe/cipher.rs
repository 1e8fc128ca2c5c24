//! The ciphers that FreeOTFE's drivers have, each with a mode and a key length.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::sync::Arc;

use super::{SectorIv, details::VolumeIv};
use crate::crypto::{
    SectorCipher,
    hash::HashKind,
    sector::{BlockCipher, IvMode, KeyError, Mode as SectorMode, SectorSpec, SmallCipher},
};

/// A block cipher in a mode, with the length of its own key (FO-CIPHER-01).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cipher {
    block: Block,
    mode: Mode,
    /// In bytes; of XTS one half.
    len: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Large(BlockCipher),
    Small(SmallCipher),
}

/// How a cipher goes over a sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// XTS; the tweak is the sector's number.
    Xts,
    /// LRW, with blocks numbered from 1.
    Lrw,
    /// CBC, with IVs as the header says.
    Cbc,
}

impl Cipher {
    /// Every one, the likeliest first.
    pub fn all() -> impl Iterator<Item = Self> {
        let large = LARGE.iter().flat_map(|(mode, ciphers)| {
            ciphers.iter().flat_map(|(cipher, lens)| {
                lens.iter().map(|&len| Self { block: Block::Large(*cipher), mode: *mode, len })
            })
        });
        let small = SMALL.iter().flat_map(|(cipher, lens)| {
            lens.iter().map(|&len| Self { block: Block::Small(*cipher), mode: Mode::Cbc, len })
        });
        large.chain(small)
    }

    /// The bytes of key that it takes (FO-CIPHER-02).
    pub const fn key_len(self) -> usize {
        match self.mode {
            Mode::Xts => self.len.saturating_mul(2),
            Mode::Lrw => self.len.saturating_add(LRW_TWEAK_LEN),
            Mode::Cbc => self.len,
        }
    }

    /// The size of its blocks in bytes.
    pub const fn block_len(self) -> usize {
        match self.block {
            Block::Large(_) => 16,
            Block::Small(_) => 8,
        }
    }

    /// Its mode.
    pub const fn mode(self) -> Mode {
        self.mode
    }

    /// Whether its blocks are so short that they repeat within one disk.
    pub const fn has_small_blocks(self) -> bool {
        matches!(self.block, Block::Small(_))
    }

    /// Whether anybody can find the key by trying.
    pub const fn is_broken(self) -> bool {
        matches!(self.block, Block::Small(SmallCipher::Des))
    }

    /// The name, as cryptsetup writes it: `aes-xts-plain64`.
    pub(super) fn name(self, iv: SectorIv, hash: HashKind) -> String {
        let cipher = match self.block {
            Block::Large(cipher) => cipher.name(),
            Block::Small(SmallCipher::Blowfish | SmallCipher::TurnedBlowfish) => "blowfish",
            Block::Small(SmallCipher::Cast5) => "cast5",
            Block::Small(SmallCipher::Des) => "des",
            Block::Small(SmallCipher::TripleDes) => "des3_ede",
        };
        match self.mode {
            Mode::Xts => format!("{cipher}-xts-plain64"),
            Mode::Lrw => format!("{cipher}-lrw-benbi"),
            Mode::Cbc => format!("{cipher}-cbc-{}", iv_mode(iv, hash).name()),
        }
    }

    /// What header blocks are encrypted with: one unit, numbered 0, in CBC under an IV of zeros (FO-CDB-03).
    ///
    /// # Errors
    /// `Length`, `EqualHalves`, `Memory`.
    pub(super) fn for_header(self, key: &[u8]) -> Result<Arc<dyn SectorCipher>, KeyError> {
        self.keyed(key, IvMode::Null, &[])
    }

    /// What the data are encrypted with (FO-DATA-03 to -05).
    ///
    /// # Errors
    /// As [`for_header`](Self::for_header).
    pub(super) fn for_data(
        self,
        key: &[u8],
        iv: SectorIv,
        hash: HashKind,
        volume_iv: &VolumeIv,
    ) -> Result<Arc<dyn SectorCipher>, KeyError> {
        self.keyed(key, iv_mode(iv, hash), volume_iv.as_slice())
    }

    fn keyed(self, key: &[u8], iv: IvMode, mask: &[u8]) -> Result<Arc<dyn SectorCipher>, KeyError> {
        let cipher = match self.block {
            Block::Small(cipher) => return cipher.keyed(key, iv, mask),
            Block::Large(cipher) => cipher,
        };
        match self.mode {
            Mode::Xts => SectorSpec { cipher, mode: SectorMode::Xts(IvMode::Plain64) }.keyed(key, 0),
            Mode::Lrw => SectorSpec { cipher, mode: SectorMode::Lrw(IvMode::Benbi) }.keyed(key, 0),
            Mode::Cbc => SectorSpec { cipher, mode: SectorMode::Cbc(iv) }.keyed_masked(key, 0, mask),
        }
    }
}

const fn iv_mode(iv: SectorIv, hash: HashKind) -> IvMode {
    match iv {
        SectorIv::None => IvMode::Null,
        SectorIv::Number32 => IvMode::Plain,
        SectorIv::Number64 => IvMode::Plain64,
        SectorIv::Hashed32 => IvMode::Hashed32(hash),
        SectorIv::Hashed64 => IvMode::Hashed64(hash),
        SectorIv::Essiv => IvMode::FittedEssiv(hash),
    }
}

use BlockCipher::{Aes, Cast6, Rc6, Serpent, Twofish};

type KeyLens = &'static [usize];

/// Their places stand in volume keys handed to a server, which is the same program.
const LARGE: [(Mode, &[(BlockCipher, KeyLens)]); 3] = [
    (Mode::Xts, &[(Aes, USUAL), (Twofish, USUAL), (Serpent, USUAL), (Rc6, OF_RC6)]),
    (Mode::Cbc, &[(Aes, USUAL), (Twofish, USUAL), (Serpent, USUAL), (Rc6, OF_RC6), (Cast6, OF_CAST6)]),
    (Mode::Lrw, &[(Aes, USUAL), (Twofish, USUAL), (Rc6, OF_RC6)]),
];
const SMALL: [(SmallCipher, KeyLens); 4] = [
    (SmallCipher::Blowfish, &[56, 32, 24, 20, 16]),
    (SmallCipher::Cast5, &[16]),
    (SmallCipher::TripleDes, &[24]),
    (SmallCipher::Des, &[8]),
];
const USUAL: KeyLens = &[32, 24, 16];
const OF_RC6: KeyLens = &[32, 24, 16, 128];
const OF_CAST6: KeyLens = &[32, 28, 24, 20, 16];

/// LRW's tweak key, in bytes.
const LRW_TWEAK_LEN: usize = 16;
/// The most bytes of key that any of them takes.
pub(super) const MAX_KEY_LEN: usize = 256;

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn every_cipher_takes_keys_of_its_length_and_of_no_other() {
        // proves: FO-CIPHER-01
        // proves: FO-CIPHER-02
        let key: Vec<u8> = (0..=255).collect();
        let all: Vec<_> = Cipher::all().collect();
        assert_eq!(all.len(), 13 + 18 + 10 + 8);
        for cipher in &all {
            let len = cipher.key_len();
            assert!(len <= MAX_KEY_LEN, "{cipher:?}");
            assert!(cipher.for_header(&key[..len]).is_ok(), "{cipher:?}");
            // Blowfish and CAST5 take shorter ones as well, which the programs do not give them.
            let takes_shorter = cipher.has_small_blocks();
            assert!(takes_shorter || cipher.for_header(&key[..len - 1]).is_err(), "{cipher:?}");
        }
    }

    #[test]
    fn no_cipher_is_there_twice() {
        let all: Vec<_> = Cipher::all().collect();
        for (index, cipher) in all.iter().enumerate() {
            assert!(!all[..index].contains(cipher), "{cipher:?}");
        }
    }
}
