//! Sizes as people write them: exact, in powers of 1024 or of 1000.

use strongroom::error::{Error, ErrorKind, Result};

pub(crate) use strongroom::text::size as show_size;

/// A size that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SizeError {
    /// Not digits, then perhaps a unit.
    #[error("not a whole number with a unit, such as 10G")]
    NotANumber,
    /// A unit that is none.
    #[error("unknown unit {unit:?} (K, M, G, T, P: powers of 1024; KB, MB, GB, TB, PB: powers of 1000)")]
    UnknownUnit {
        /// What stood after the digits.
        unit: String,
    },
    /// Nothing.
    #[error("the size is zero")]
    Zero,
    /// More than 64 bits.
    #[error("too large")]
    Overflow,
}

/// Reads a size into bytes: `10G` and `10GiB` are 10·2^30, `10GB` is 10·10^9, a bare number is bytes.
///
/// The unit's first letter may be lower case. Fractions are refused: a size is exact.
pub(crate) fn parse_size(text: &str) -> Result<u64, SizeError> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if digits.is_empty() || unit.starts_with(['.', ',']) {
        return Err(SizeError::NotANumber);
    }
    let factor = unit_factor(unit).ok_or_else(|| SizeError::UnknownUnit { unit: unit.to_owned() })?;
    // Only digits stand there, so the one failure left is a number too large.
    let count: u64 = digits.parse().map_err(|_| SizeError::Overflow)?;
    match count.checked_mul(factor) {
        Some(0) => Err(SizeError::Zero),
        Some(bytes) => Ok(bytes),
        None => Err(SizeError::Overflow),
    }
}

/// A size as `resize` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NewSize {
    /// So many bytes.
    To(u64),
    /// So many more than now.
    By(u64),
    /// As many as there is room for.
    Max,
}

/// Reads a new size: a size, `+` and a size, or `max`.
pub(crate) fn parse_new_size(text: &str) -> Result<NewSize, SizeError> {
    match text.strip_prefix('+') {
        _ if text == "max" => Ok(NewSize::Max),
        Some(more) => parse_size(more).map(NewSize::By),
        None => parse_size(text).map(NewSize::To),
    }
}

/// The size of a vault on a stick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StickSize {
    /// So many bytes.
    Of(u64),
    /// As many as there is room for.
    Max,
}

/// Reads the size of a vault on a stick: a size, or `max`.
pub(crate) fn parse_stick_size(text: &str) -> Result<StickSize, SizeError> {
    if text == "max" { Ok(StickSize::Max) } else { parse_size(text).map(StickSize::Of) }
}

/// What of the free bytes of a file system `max` takes. Others write there too, and the file system needs some of it to keep account
/// of the file. `free` as [`free_bytes`](strongroom::volume::free_bytes) gives it.
///
/// # Errors
/// `Usage` where the file system does not say.
pub(crate) fn nearly_all(free: Option<u64>) -> Result<u64> {
    let free = free.ok_or_else(|| {
        Error::new(ErrorKind::Usage, "the file system there does not say how much room it has")
            .with_hint("give a size instead of max")
    })?;
    Ok(free.saturating_sub((free / 20).max(LEAST_LEFT)))
}

/// Bytes that `max` leaves at least.
const LEAST_LEFT: u64 = 16 << 20;
/// The unit of `max`.
pub(crate) const ROUNDED: u64 = 1 << 20;
/// No file of FAT is larger; exFAT has another number.
pub(crate) const FAT_LARGEST: u64 = (4 << 30) - 1;
/// What statfs(2) calls FAT.
pub(crate) const MSDOS_SUPER_MAGIC: rustix::fs::FsWord = 0x4d44;

/// The bytes of one unit; `None` where there is no such unit.
fn unit_factor(unit: &str) -> Option<u64> {
    if unit.is_empty() || unit == "B" {
        return Some(1);
    }
    let mut letters = unit.chars();
    let letter = letters.next()?.to_ascii_uppercase();
    let known = UNITS.iter().find(|unit| unit.letter == letter)?;
    match letters.as_str() {
        "" | "iB" => Some(known.binary),
        "B" => Some(known.decimal),
        _ => None,
    }
}

struct Unit {
    letter: char,
    binary: u64,
    decimal: u64,
}

/// From small to large.
const UNITS: [Unit; 6] = [
    Unit { letter: 'K', binary: 1 << 10, decimal: 1000 },
    Unit { letter: 'M', binary: 1 << 20, decimal: 1000_u64.pow(2) },
    Unit { letter: 'G', binary: 1 << 30, decimal: 1000_u64.pow(3) },
    Unit { letter: 'T', binary: 1 << 40, decimal: 1000_u64.pow(4) },
    Unit { letter: 'P', binary: 1 << 50, decimal: 1000_u64.pow(5) },
    Unit { letter: 'E', binary: 1 << 60, decimal: 1000_u64.pow(6) },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_bytes() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("4096B"), Ok(4096));
    }

    #[test]
    fn a_letter_alone_and_ib_are_powers_of_1024() {
        assert_eq!(parse_size("10G"), Ok(10 << 30));
        assert_eq!(parse_size("10GiB"), Ok(10 << 30));
        assert_eq!(parse_size("3k"), Ok(3 << 10));
        assert_eq!(parse_size("15E"), Ok(15 << 60));
    }

    #[test]
    fn b_after_the_letter_is_a_power_of_1000() {
        assert_eq!(parse_size("10GB"), Ok(10_000_000_000));
        assert_eq!(parse_size("1PB"), Ok(1_000_000_000_000_000));
    }

    #[test]
    fn zero_is_refused_with_any_unit() {
        assert_eq!(parse_size("0"), Err(SizeError::Zero));
        assert_eq!(parse_size("0G"), Err(SizeError::Zero));
    }

    #[test]
    fn more_than_64_bits_is_refused() {
        assert_eq!(parse_size("16E"), Err(SizeError::Overflow));
        assert_eq!(parse_size("18446744073709551616"), Err(SizeError::Overflow));
        assert_eq!(parse_size("18446744073709551615"), Ok(u64::MAX));
    }

    #[test]
    fn fractions_signs_and_words_are_refused() {
        for text in ["", "G", "1.5G", "1,5G", "-1G", "+1G", " 1G", "ten"] {
            assert_eq!(parse_size(text), Err(SizeError::NotANumber), "{text:?}");
        }
    }

    #[test]
    fn an_unknown_unit_is_named() {
        for unit in ["X", "Gb", "gb", "GIB", "GiBs", " G", "Ki"] {
            let refused = Err(SizeError::UnknownUnit { unit: unit.to_owned() });
            assert_eq!(parse_size(&format!("1{unit}")), refused);
        }
    }
}
