use std::fmt;

use super::{BlockCipher, Blocks, Family, IvMode, KeyError};
use crate::units::{Sector, SectorSize};

/// Makes the IVs of sectors.
pub(super) struct IvSource {
    kind: IvKind,
    first: u64,
}

impl fmt::Debug for IvSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IvSource")
    }
}

enum IvKind {
    Plain,
    Plain64,
    Plain64Be,
    Essiv(Box<dyn Blocks>),
    Benbi,
    Null,
}

impl IvSource {
    /// The IVs of volumes under `key`, sector 0 having the number `first`.
    pub(super) fn new(cipher: BlockCipher, mode: IvMode, key: &[u8], first: u64) -> Result<Self, KeyError> {
        let kind = match mode {
            IvMode::Plain => IvKind::Plain,
            IvMode::Plain64 => IvKind::Plain64,
            IvMode::Plain64Be => IvKind::Plain64Be,
            IvMode::Benbi => IvKind::Benbi,
            IvMode::Null => IvKind::Null,
            IvMode::Essiv(hash) => {
                let family = Family::of(cipher, hash.digest_len()).ok_or(KeyError::EssivHash(hash))?;
                let digest = hash.digest(&[key]);
                IvKind::Essiv((family.blocks)(digest.get(..hash.digest_len()).unwrap_or_default())?)
            }
        };
        Ok(Self { kind, first })
    }

    /// The IVs of consecutive sectors from `first` on, one a call.
    pub(super) fn from(&self, first: Sector, size: SectorSize) -> impl FnMut() -> [u8; 16] {
        let units = size.bytes_u64() / UNIT;
        let mut number = self.first.wrapping_add(first.0.wrapping_mul(units));
        move || {
            let iv = self.iv(number);
            number = number.wrapping_add(units);
            iv
        }
    }

    fn iv(&self, number: u64) -> [u8; 16] {
        match &self.kind {
            IvKind::Plain => u128::from(number & u64::from(u32::MAX)).to_le_bytes(),
            IvKind::Plain64 => u128::from(number).to_le_bytes(),
            IvKind::Plain64Be => u128::from(number).to_be_bytes(),
            IvKind::Essiv(blocks) => blocks.encrypt(u128::from(number).to_le_bytes()),
            IvKind::Benbi => u128::from(number.wrapping_mul(BLOCKS_PER_UNIT).wrapping_add(1)).to_be_bytes(),
            IvKind::Null => [0; 16],
        }
    }

    /// Whether the number stands at the end of the IV.
    pub(super) const fn is_big_endian(&self) -> bool {
        matches!(self.kind, IvKind::Plain64Be | IvKind::Benbi)
    }
}

/// Numbers count units of this many bytes.
const UNIT: u64 = 512;
/// Blocks of 16 bytes in a unit.
const BLOCKS_PER_UNIT: u64 = 32;
