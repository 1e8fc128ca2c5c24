//! Quantities that must not be confused: sector numbers, sector sizes, bytes. And the calendar.

use std::{fmt, time::Duration};

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

/// A time as it is typed: `90s`, `15m`, `2h`.
pub fn typed_time(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds > 0 && seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        seconds if seconds > 0 && seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// Year, month and day (from 1) in UTC, of a day counted from 1970-01-01 (Howard Hinnant, *chrono-compatible low-level date
/// algorithms*, with years that start in March).
pub(crate) const fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400;
    (if month <= 2 { year + 1 } else { year }, month, day)
}
