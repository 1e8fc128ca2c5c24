use std::fmt;

use zeroize::Zeroizing;

use super::{Encrypts, IvMode, KeyError};
use crate::{
    crypto::hash::HashKind,
    units::{Sector, SectorSize},
};

/// Makes the IVs of sectors.
pub(super) struct IvSource {
    kind: IvKind,
    first: u64,
    /// Added (XOR) to each.
    mask: [u8; 16],
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
    Essiv(Box<dyn Encrypts>),
    Benbi,
    Null,
    Hashed32(HashKind),
    Hashed64(HashKind),
}

impl IvSource {
    /// The IVs of volumes under `key`, sector 0 having the number `first`. `cipher` is what ESSIV encrypts with, under the key
    /// that it is given.
    pub(super) fn new(
        mode: IvMode,
        key: &[u8],
        first: u64,
        cipher: impl Fn(&[u8]) -> Result<Box<dyn Encrypts>, KeyError>,
    ) -> Result<Self, KeyError> {
        let kind = match mode {
            IvMode::Plain => IvKind::Plain,
            IvMode::Plain64 => IvKind::Plain64,
            IvMode::Plain64Be => IvKind::Plain64Be,
            IvMode::Benbi => IvKind::Benbi,
            IvMode::Null => IvKind::Null,
            IvMode::Hashed32(hash) => IvKind::Hashed32(hash),
            IvMode::Hashed64(hash) => IvKind::Hashed64(hash),
            IvMode::Essiv(hash) => {
                let digest = hash.digest(&[key]);
                let keyed = cipher(digest.get(..hash.digest_len()).unwrap_or_default());
                IvKind::Essiv(keyed.map_err(|error| match error {
                    KeyError::Length { .. } => KeyError::EssivHash(hash),
                    other => other,
                })?)
            }
            IvMode::FittedEssiv(hash) => {
                let mut fitted = Zeroizing::new(vec![0; key.len()]);
                for (byte, digest) in fitted.iter_mut().zip(hash.digest(&[key]).iter()) {
                    *byte = *digest;
                }
                IvKind::Essiv(cipher(&fitted)?)
            }
        };
        Ok(Self { kind, first, mask: [0; 16] })
    }

    /// The same with the first bytes of `mask`, as many as there are, added (XOR) to each IV.
    #[must_use]
    pub(super) fn masked(mut self, mask: &[u8]) -> Self {
        for (byte, &value) in self.mask.iter_mut().zip(mask) {
            *byte = value;
        }
        self
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
        let iv = u128::from_le_bytes(self.unmasked(number)) ^ u128::from_le_bytes(self.mask);
        iv.to_le_bytes()
    }

    fn unmasked(&self, number: u64) -> [u8; 16] {
        match &self.kind {
            IvKind::Plain => u128::from(low(number)).to_le_bytes(),
            IvKind::Plain64 => u128::from(number).to_le_bytes(),
            IvKind::Plain64Be => u128::from(number).to_be_bytes(),
            IvKind::Essiv(blocks) => blocks.encrypt(u128::from(number).to_le_bytes()),
            IvKind::Benbi => u128::from(number.wrapping_mul(BLOCKS_PER_UNIT).wrapping_add(1)).to_be_bytes(),
            IvKind::Null => [0; 16],
            IvKind::Hashed32(hash) => first_bytes(*hash, &low(number).to_le_bytes()),
            IvKind::Hashed64(hash) => first_bytes(*hash, &number.to_le_bytes()),
        }
    }

    /// Whether the number stands at the end of the IV.
    pub(super) const fn is_big_endian(&self) -> bool {
        matches!(self.kind, IvKind::Plain64Be | IvKind::Benbi)
    }
}

/// The low 32 bits.
fn low(number: u64) -> u32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The first 16 bytes of a digest, which is never shorter.
fn first_bytes(hash: HashKind, number: &[u8]) -> [u8; 16] {
    hash.digest(&[number]).first_chunk().copied().unwrap_or_default()
}

/// Numbers count units of this many bytes.
const UNIT: u64 = 512;
/// Blocks of 16 bytes in a unit.
const BLOCKS_PER_UNIT: u64 = 32;
