use std::{fmt, sync::Arc};

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser, KeyInit, consts::U8};
use blowfish::{Blowfish, BlowfishLE};
use cast5::Cast5;
use des::{Des, TdesEde3};

use super::{Encrypts, IvMode, IvSource, KeyError};
use crate::{
    crypto::{SectorCipher, xts::wipe_wide_stack},
    sys::memory::LockedBox,
    units::{Sector, SectorSize},
};

/// A cipher with blocks of 64 bits, which repeat within one disk (Sweet32): for what was written long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmallCipher {
    /// Blowfish.
    Blowfish,
    /// Blowfish with little-endian words, as TrueCrypt had it.
    TurnedBlowfish,
    /// CAST-128 (RFC 2144).
    Cast5,
    /// DES (FIPS 46-3), whose 56 bits anybody guesses.
    Des,
    /// Triple DES with three keys.
    TripleDes,
}

impl SmallCipher {
    /// Those of TrueCrypt 1 to 4.
    pub const OF_TRUECRYPT: [Self; 3] = [Self::TurnedBlowfish, Self::Cast5, Self::TripleDes];

    /// What to call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blowfish | Self::TurnedBlowfish => "Blowfish",
            Self::Cast5 => "CAST5",
            Self::Des => "DES",
            Self::TripleDes => "Triple DES",
        }
    }

    /// The size of its key in TrueCrypt, in bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Blowfish | Self::TurnedBlowfish => 56,
            Self::Cast5 => 16,
            Self::Des => 8,
            Self::TripleDes => 24,
        }
    }

    /// Decrypts whole blocks in one chain (CBC).
    ///
    /// # Errors
    /// `Length` for a key of another size, `Memory`.
    pub fn decrypt_chain(self, key: &[u8], iv: [u8; 8], blocks: &mut [[u8; 8]]) -> Result<(), KeyError> {
        match self {
            Self::Blowfish => decrypt(&*keyed::<Blowfish>(key)?, iv, blocks),
            Self::TurnedBlowfish => decrypt(&*keyed::<BlowfishLE>(key)?, iv, blocks),
            Self::Cast5 => decrypt(&*keyed::<Cast5>(key)?, iv, blocks),
            Self::Des => decrypt(&*keyed::<Des>(key)?, iv, blocks),
            Self::TripleDes => decrypt(&*keyed::<TdesEde3>(key)?, iv, blocks),
        }
        Ok(())
    }

    /// CBC under `key`, a chain a sector. The IVs are the first halves of those that `iv` says; the bytes of `mask`, as many as
    /// there are, are added (XOR) to each.
    ///
    /// # Errors
    /// `Length`, `EssivHash`, `Memory`.
    pub fn keyed(self, key: &[u8], iv: IvMode, mask: &[u8]) -> Result<Arc<dyn SectorCipher>, KeyError> {
        match self {
            Self::Blowfish => SmallCbc::<Blowfish>::keyed(key, iv, mask),
            Self::TurnedBlowfish => SmallCbc::<BlowfishLE>::keyed(key, iv, mask),
            Self::Cast5 => SmallCbc::<Cast5>::keyed(key, iv, mask),
            Self::Des => SmallCbc::<Des>::keyed(key, iv, mask),
            Self::TripleDes => SmallCbc::<TdesEde3>::keyed(key, iv, mask),
        }
    }
}

/// A cipher of blocks of 64 bits that CBC can be built on.
trait SmallEngine:
    BlockCipherEncrypt + BlockCipherDecrypt + BlockSizeUser<BlockSize = U8> + KeyInit + Send + Sync + 'static
{
}
impl<C> SmallEngine for C where
    C: BlockCipherEncrypt
        + BlockCipherDecrypt
        + BlockSizeUser<BlockSize = U8>
        + KeyInit
        + Send
        + Sync
        + 'static
{
}

/// CBC, a chain a sector; the key schedule lies in locked memory.
struct SmallCbc<C> {
    cipher: LockedBox<C>,
    iv: IvSource,
}

impl<C: SmallEngine> SmallCbc<C> {
    fn keyed(key: &[u8], iv: IvMode, mask: &[u8]) -> Result<Arc<dyn SectorCipher>, KeyError> {
        let essiv = |key: &[u8]| Ok(Box::new(OneBlock(keyed::<C>(key)?)) as Box<dyn Encrypts>);
        let iv = IvSource::new(iv, key, 0, essiv)?.masked(mask);
        Ok(Arc::new(Self { cipher: keyed(key)?, iv }))
    }

    /// Lets `work` go over the blocks of each sector, with its IV.
    fn each_sector(
        &self,
        data: &mut [u8],
        size: SectorSize,
        first: Sector,
        work: impl Fn(&C, [u8; 8], &mut [[u8; 8]]),
    ) {
        assert!(data.len().is_multiple_of(size.bytes()), "a cipher over a part of a sector");
        let mut ivs = self.iv.from(first, size);
        for sector in data.chunks_mut(size.bytes()) {
            work(&self.cipher, first_half(ivs()), sector.as_chunks_mut().0);
        }
        wipe_wide_stack();
    }
}

impl<C: SmallEngine> SectorCipher for SmallCbc<C> {
    fn encrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        self.each_sector(data, sector_size, first, encrypt);
    }

    fn decrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        self.each_sector(data, sector_size, first, decrypt);
    }
}

impl<C> fmt::Debug for SmallCbc<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SmallCbc")
    }
}

/// The cipher by itself, for ESSIV.
struct OneBlock<C>(LockedBox<C>);

impl<C: SmallEngine> Encrypts for OneBlock<C> {
    fn encrypt(&self, block: [u8; 16]) -> [u8; 16] {
        let mut small = Array(first_half(block));
        self.0.encrypt_block(&mut small);
        wipe_wide_stack();
        u128::from(u64::from_le_bytes(small.0)).to_le_bytes()
    }
}

fn first_half(block: [u8; 16]) -> [u8; 8] {
    block.first_chunk().copied().unwrap_or_default()
}

/// The cipher under `key`, in locked memory.
fn keyed<C: KeyInit>(key: &[u8]) -> Result<LockedBox<C>, KeyError> {
    LockedBox::try_new(|| C::new_from_slice(key))?.map_err(|_| KeyError::Length { len: key.len() })
}

#[inline(never)] // What it leaves on the stack is wiped.
fn decrypt<C: SmallEngine>(cipher: &C, iv: [u8; 8], blocks: &mut [[u8; 8]]) {
    let mut before = iv;
    for block in blocks {
        let mut plain = Array(*block);
        cipher.decrypt_block(&mut plain);
        before = std::mem::replace(block, xor(plain.0, before));
    }
}

#[inline(never)] // The same.
fn encrypt<C: SmallEngine>(cipher: &C, iv: [u8; 8], blocks: &mut [[u8; 8]]) {
    let mut before = iv;
    for block in blocks {
        let mut chained = Array(xor(*block, before));
        cipher.encrypt_block(&mut chained);
        before = chained.0;
        *block = before;
    }
}

fn xor(a: [u8; 8], b: [u8; 8]) -> [u8; 8] {
    (u64::from_le_bytes(a) ^ u64::from_le_bytes(b)).to_le_bytes()
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
        let blowfish = decrypted(SmallCipher::TurnedBlowfish, "0000000000000000", "4597f94e78dd9861");
        assert_eq!(blowfish, "0000000000000000");
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        let error = SmallCipher::TripleDes.decrypt_chain(&[1; 23], [0; 8], &mut []).unwrap_err();
        assert!(matches!(error, KeyError::Length { len: 23 }));
    }
}
