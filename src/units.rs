//! Quantities that must not be confused: sector numbers, sector sizes, bytes.

use std::fmt;

/// A sector's number, counted from the start of whatever is addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sector(pub u64);

/// The size of a sector in bytes: a power of two from 512 to 4096.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SectorSize {
    /// 512 bytes.
    B512,
    /// 1024 bytes.
    B1024,
    /// 2048 bytes.
    B2048,
    /// 4096 bytes.
    B4096,
}

impl SectorSize {
    /// The size in bytes.
    pub const fn bytes(self) -> usize {
        1 << self.shift()
    }

    /// The size in bytes, as a 64-bit quantity.
    pub const fn bytes_u64(self) -> u64 {
        1 << self.shift()
    }

    /// The base-two logarithm of the size.
    pub const fn shift(self) -> u32 {
        match self {
            Self::B512 => 9,
            Self::B1024 => 10,
            Self::B2048 => 11,
            Self::B4096 => 12,
        }
    }

    /// How many whole sectors `bytes` holds; `None` where it is not a whole number.
    pub const fn sectors_in(self, bytes: u64) -> Option<u64> {
        if bytes.is_multiple_of(self.bytes_u64()) { Some(bytes >> self.shift()) } else { None }
    }
}

impl TryFrom<u32> for SectorSize {
    type Error = BadSectorSize;

    fn try_from(bytes: u32) -> Result<Self, BadSectorSize> {
        match bytes {
            512 => Ok(Self::B512),
            1024 => Ok(Self::B1024),
            2048 => Ok(Self::B2048),
            4096 => Ok(Self::B4096),
            _ => Err(BadSectorSize { bytes }),
        }
    }
}

impl fmt::Display for SectorSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bytes())
    }
}

/// Not a sector size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sector size {bytes} is not 512, 1024, 2048 or 4096")]
pub struct BadSectorSize {
    /// The value refused.
    pub bytes: u32,
}
