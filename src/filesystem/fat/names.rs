//! Names: UTF-16, without regard to case; and the short ones of FAT.

use std::collections::HashSet;

use super::super::{
    Fault, Result,
    bytes::{long, u16_at},
};

/// How a volume tells upper from lower case: one UTF-16 unit for each.
#[derive(Debug)]
pub(super) struct UpCase(Vec<u16>);

/// What names of a directory are compared by.
pub(super) type Key = Box<[u16]>;

impl UpCase {
    /// Unicode's own, where it maps one unit to one: for FAT, which keeps no table.
    pub(super) fn unicode() -> Self {
        let upper = |unit: u16| {
            let Some(letter) = char::from_u32(unit.into()) else { return unit };
            let mut upper = letter.to_uppercase();
            match (upper.next(), upper.next()) {
                (Some(one), None) => u16::try_from(u32::from(one)).unwrap_or(unit),
                _ => unit,
            }
        };
        Self((0..=u16::MAX).map(upper).collect())
    }

    /// That of an exFAT volume, from the bytes that it keeps: `0xffff` and a count stand for units that stay as they are.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut table = Vec::with_capacity(UNITS);
        let mut units = (0..bytes.len() / 2).map(|index| u16_at(bytes, index * 2));
        while let Some(unit) = units.next() {
            if table.len() >= UNITS {
                break;
            }
            if unit == 0xffff && table.len() < UNITS - 1 {
                let Some(count) = units.next() else { break };
                for _ in 0..count {
                    table.push(next_unit(&table));
                }
            } else {
                table.push(unit);
            }
        }
        table.truncate(UNITS);
        while table.len() < UNITS {
            table.push(next_unit(&table));
        }
        Self(table)
    }

    /// Unicode's own in the form that exFAT keeps, for a new volume. No letter beyond ASCII becomes one of it: other programs do not
    /// expect that.
    pub(super) fn for_new_volume() -> Vec<u8> {
        let upper = |unit: u16, upper: u16| if unit > 0x7f && upper <= 0x7f { unit } else { upper };
        let units: Vec<u16> =
            (0..=u16::MAX).zip(Self::unicode().0).map(|(unit, its)| upper(unit, its)).collect();
        let mut kept = Vec::new();
        let mut unit = 0;
        while unit < units.len() {
            let run =
                units.iter().enumerate().skip(unit).take_while(|(at, to)| *at == usize::from(**to)).count();
            // The mandatory first part is written out.
            if run > 2 && unit >= 0x80 {
                kept.extend([0xffff, u16::try_from(run).unwrap_or(u16::MAX)]);
                unit += run;
            } else {
                kept.extend(units.get(unit));
                unit += 1;
            }
        }
        kept.into_iter().flat_map(u16::to_le_bytes).collect()
    }

    /// The key of a name.
    pub(super) fn key(&self, name: &[u16]) -> Key {
        name.iter().map(|&unit| self.0.get(usize::from(unit)).copied().unwrap_or(unit)).collect()
    }

    /// exFAT's hash of a name.
    pub(super) fn hash(&self, name: &[u16]) -> u16 {
        let bytes = self.key(name);
        bytes
            .iter()
            .flat_map(|unit| unit.to_le_bytes())
            .fold(0_u16, |hash, byte| hash.rotate_right(1).wrapping_add(byte.into()))
    }
}

/// exFAT's checksum over a table of upper case.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0_u32, |sum, &byte| sum.rotate_right(1).wrapping_add(byte.into()))
}

fn next_unit(table: &[u16]) -> u16 {
    u16::try_from(table.len()).unwrap_or(u16::MAX)
}

/// A name that is asked for: as UTF-16, without the dots at its end, which these file systems do not keep.
pub(super) fn wanted(name: &str) -> Result<Vec<u16>> {
    let units: Vec<u16> = name.trim_end_matches('.').encode_utf16().collect();
    if units.len() > LONGEST { Err(Fault::NameTooLong) } else { Ok(units) }
}

/// The same for a new name, which must be one that the volume can hold.
pub(super) fn valid(name: &str, is_exfat: bool) -> Result<Vec<u16>> {
    let units = wanted(name)?;
    let is_bad = |unit: &u16| *unit < 0x20 || b"\"*/:<>?\\|".iter().any(|bad| u16::from(*bad) == *unit);
    let ends_in_space = !is_exfat && units.last() == Some(&0x20);
    if units.is_empty() || units.iter().any(is_bad) || ends_in_space {
        return Err(Fault::Invalid);
    }
    Ok(units)
}

/// A name in UTF-8. What is no UTF-16 shows as a replacement character.
pub(super) fn text(units: &[u16]) -> String {
    String::from_utf16_lossy(units)
}

/// The short name, where `name` is one: upper case only, so that it needs no long one.
pub(super) fn as_short(name: &[u16]) -> Option<[u8; 11]> {
    let bytes: Vec<u8> = name.iter().map(|&unit| u8::try_from(unit).ok()).collect::<Option<_>>()?;
    let dot = bytes.iter().rposition(|&byte| byte == b'.');
    let (base, extension) = dot.map_or((&*bytes, &[][..]), |dot| (&bytes[..dot], &bytes[dot + 1..]));
    let fits = (1..=8).contains(&base.len())
        && extension.len() <= 3
        && (dot.is_none() || !extension.is_empty())
        && base.iter().chain(extension).all(|&byte| is_short(byte));
    fits.then(|| joined(base, extension))
}

/// A short name for a long one, that none in `taken` has.
pub(super) fn short_for(name: &[u16], taken: &HashSet<[u8; 11]>) -> Result<[u8; 11]> {
    let dot = name.iter().rposition(|&unit| unit == u16::from(b'.')).filter(|&dot| dot > 0);
    let reduced = |units: &[u16], most: usize| -> Vec<u8> {
        let bytes = units.iter().filter(|&&unit| unit != 0x20 && unit != u16::from(b'.'));
        let byte = |&unit: &u16| u8::try_from(unit).ok().map(|byte| byte.to_ascii_uppercase());
        bytes.map(|unit| byte(unit).filter(|&byte| is_short(byte)).unwrap_or(b'_')).take(most).collect()
    };
    let base = reduced(dot.map_or(name, |dot| &name[..dot]), 6);
    let extension = reduced(dot.map_or(&[][..], |dot| &name[dot + 1..]), 3);
    for number in 1..=4 {
        let short = joined(&[&base, format!("~{number}").as_bytes()].concat(), &extension);
        if !taken.contains(&short) {
            return Ok(short);
        }
    }
    let mut hash = name
        .iter()
        .fold(long(name.len()), |hash, &unit| (hash ^ u64::from(unit)).wrapping_mul(0x0000_0100_0000_01b3));
    let start: Vec<u8> = base.iter().copied().take(2).collect();
    for _ in 0..MOST_TRIES {
        hash = hash.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let tail = format!("{:04X}~{}", hash >> 48, hash >> 40 & 7);
        let short = joined(&[&start, tail.as_bytes()].concat(), &extension);
        if !taken.contains(&short) {
            return Ok(short);
        }
    }
    Err(Fault::NoSpace)
}

/// What a short name shows as: in code page 437, in lower case where a flag of Windows NT says so.
pub(super) fn show_short(short: &[u8], flags: u8) -> Vec<u16> {
    let (base, extension) = short.split_at(8.min(short.len()));
    let part = |bytes: &[u8], is_lower: bool| -> String {
        let end = bytes.iter().rposition(|&byte| byte != b' ').map_or(0, |last| last + 1);
        let shown = |&byte: &u8| -> char {
            let letter = match byte {
                0x80.. => HIGH.chars().nth(usize::from(byte - 0x80)).unwrap_or('_'),
                low => char::from(low),
            };
            if is_lower { letter.to_lowercase().next().unwrap_or(letter) } else { letter }
        };
        bytes.iter().take(end).map(shown).collect()
    };
    let (mut name, extension) = (part(base, flags & 0x08 != 0), part(extension, flags & 0x10 != 0));
    if !extension.is_empty() {
        name.push('.');
        name.push_str(&extension);
    }
    name.encode_utf16().collect()
}

/// The checksum of a short name that its long ones bear.
pub(super) fn short_checksum(short: &[u8]) -> u8 {
    short.iter().fold(0_u8, |sum, &byte| sum.rotate_right(1).wrapping_add(byte))
}

/// Whether a byte may stand in a short name that is made here.
fn is_short(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"!#$%&'()-@^_`{}~".contains(&byte)
}

fn joined(base: &[u8], extension: &[u8]) -> [u8; 11] {
    let mut short = [b' '; 11];
    for (place, byte) in short.iter_mut().zip(base.iter().take(8)) {
        *place = *byte;
    }
    for (place, byte) in short.iter_mut().skip(8).zip(extension) {
        *place = *byte;
    }
    short
}

/// UTF-16 units of a name.
pub(super) const LONGEST: usize = 255;
const UNITS: usize = 1 << 16;
const MOST_TRIES: usize = 1 << 16;
/// Code page 437 from 0x80 on.
const HIGH: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

#[cfg(test)]
mod tests {
    use super::*;

    /// exFAT file system specification, 7.2.5: the first 128 are as in ASCII.
    #[test]
    fn the_table_of_a_new_volume_is_unicodes_without_new_ascii_letters() {
        let table = UpCase::parse(&UpCase::for_new_volume());
        for (unit, (its, unicode)) in table.0.iter().zip(UpCase::unicode().0).enumerate() {
            let expected = if unit > 0x7f && unicode <= 0x7f { unit } else { usize::from(unicode) };
            assert_eq!(usize::from(*its), expected, "{unit:#x}");
        }
        assert!(UpCase::for_new_volume().len() < 8192);
    }

    fn units(name: &str) -> Vec<u16> {
        name.encode_utf16().collect()
    }

    #[test]
    fn upper_case_is_one_unit_for_one() {
        assert_eq!(UpCase::unicode().key(&units("straße é")), units("STRAßE É").into());
        // A run of units that stay as they are, then two that do not.
        let table = UpCase::parse(&[0xff, 0xff, 0x61, 0, 0x41, 0, 0x42, 0]);
        assert_eq!(table.key(&units("abc")), units("ABc").into());
    }

    #[test]
    fn hostile_tables_have_every_unit() {
        for bytes in
            [&[][..], &[0xff; 3], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], &vec![1; 200_000]]
        {
            assert_eq!(UpCase::parse(bytes).0.len(), UNITS);
        }
    }

    #[test]
    fn short_names_are_those_of_windows() {
        assert_eq!(as_short(&units("README.TXT")), Some(*b"README  TXT"));
        assert_eq!(as_short(&units("readme.txt")), None);
        assert_eq!(as_short(&units(".profile")), None);
        assert_eq!(as_short(&units("A.B.C")), None);
        let mut taken = HashSet::new();
        assert_eq!(short_for(&units("my long photo.jpeg"), &taken).unwrap(), *b"MYLONG~1JPE");
        for _ in 0..200 {
            let short = short_for(&units("my long photo.jpeg"), &taken).unwrap();
            assert!(taken.insert(short));
        }
        assert_eq!(show_short(b"README  TXT", 0x18), units("readme.txt"));
    }

    #[test]
    fn names_that_no_volume_holds_are_refused() {
        assert_eq!(valid("a:b", false), Err(Fault::Invalid));
        assert_eq!(valid("...", true), Err(Fault::Invalid));
        assert_eq!(valid("a ", false), Err(Fault::Invalid));
        assert_eq!(valid("a...", false).unwrap(), units("a"));
        assert_eq!(valid(&"😀".repeat(128), true), Err(Fault::NameTooLong));
        assert_eq!(valid(&"😀".repeat(127), true).unwrap().len(), 254);
    }
}
