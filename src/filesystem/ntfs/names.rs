//! Names: UTF-16 on the volume, here in UTF-8. A surrogate without its other half stands as the three bytes that UTF-8 would have for
//! it (WTF-8), so that every name leads back to itself.

use std::cmp::Ordering;

use super::super::bytes::u16_at;

/// How a volume tells upper from lower case: one UTF-16 unit for each.
#[derive(Debug)]
pub(super) struct UpCase(Box<[u16]>);

impl UpCase {
    /// That of the volume. What it leaves out stays as it is.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        Self(units(bytes).collect())
    }

    /// That of Unicode, where it maps one unit to one.
    pub(super) fn usual() -> Self {
        let upper = |unit: u16| {
            let mut upper = char::from_u32(unit.into())?.to_uppercase();
            let only = upper.next().filter(|_| upper.next().is_none())?;
            u16::try_from(u32::from(only)).ok()
        };
        Self((0..=u16::MAX).map(|unit| upper(unit).unwrap_or(unit)).collect())
    }

    fn unit(&self, unit: u16) -> u16 {
        self.0.get(usize::from(unit)).copied().unwrap_or(unit)
    }

    /// Compares without regard to case.
    pub(super) fn folded(&self, one: &[u16], other: &[u8]) -> Ordering {
        let one = one.iter().map(|unit| self.unit(*unit));
        one.cmp(units(other).map(|unit| self.unit(unit)))
    }

    /// Compares as directories are sorted: names that differ by case only stand beside each other.
    pub(super) fn sorted(&self, one: &[u16], other: &[u8]) -> Ordering {
        self.folded(one, other).then_with(|| one.iter().copied().cmp(units(other)))
    }
}

/// The units of a name on the volume.
pub(super) fn units(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.chunks_exact(2).map(|unit| u16_at(unit, 0))
}

/// A name as it is shown.
pub(in crate::filesystem) fn text(units: impl Iterator<Item = u16>) -> Vec<u8> {
    let mut shown = Vec::new();
    for letter in char::decode_utf16(units) {
        match letter {
            Ok(letter) => shown.extend(letter.encode_utf8(&mut [0; 4]).bytes()),
            Err(lone) => {
                let [high, low] = lone.unpaired_surrogate().to_be_bytes();
                shown.extend([0xed, 0x80 | (high & 0xf) << 2 | low >> 6, 0x80 | low & 0x3f]);
            }
        }
    }
    shown
}

/// The name on the volume that is shown like this; `None` where there can be none.
pub(super) fn wanted(shown: &[u8]) -> Option<Vec<u16>> {
    let (mut rest, mut name) = (shown, Vec::new());
    while !rest.is_empty() {
        let is_lone = |bytes: &[u8]| matches!(bytes, [0xed, 0xa0..=0xbf, 0x80..=0xbf]);
        let at = rest.windows(3).position(is_lone).unwrap_or(rest.len());
        let (letters, lone) = rest.split_at_checked(at)?;
        name.extend(str::from_utf8(letters).ok()?.encode_utf16());
        rest = lone;
        if let [_, second, third, behind @ ..] = lone {
            name.push(0xd000 | u16::from(second & 0x3f) << 6 | u16::from(third & 0x3f));
            rest = behind;
        }
    }
    // Two halves of a pair have one form only.
    (text(name.iter().copied()) == shown).then_some(name)
}

/// Whether a name can be shown at all. Others exist in damaged volumes only.
pub(super) fn is_possible(shown: &[u8]) -> bool {
    !matches!(shown, [] | b"." | b"..") && !shown.iter().any(|byte| matches!(byte, 0 | b'/'))
}

/// In UTF-16.
pub(super) const LONGEST: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_itself() {
        let names: [&[u16]; 6] = [
            &[0x61, 0xe4, 0x20ac],
            &[0xd83d, 0xde00],
            &[0xd83d],
            &[0xde00, 0xd83d],
            &[0x61, 0xdfff, 0x62, 0xd800, 0x63],
            &[0xd83d, 0xd83d, 0xde00, 0xde00],
        ];
        for name in names {
            let shown = text(name.iter().copied());
            assert_eq!(wanted(&shown).unwrap(), name, "{shown:x?}");
        }
        assert_eq!(text([0xd83d_u16, 0xde00].into_iter()), "😀".as_bytes());
        assert_eq!(text([0xd800_u16].into_iter()), [0xed, 0xa0, 0x80]);
        // A pair in six bytes would be a second form of one name.
        assert_eq!(wanted(&[0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80]), None);
        assert_eq!(wanted(&[0xff]), None);
        assert_eq!(wanted(&[0xed, 0xa0]), None);
    }

    #[test]
    fn names_are_sorted_by_upper_case_first() {
        let bytes = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let name = |text: &str| text.encode_utf16().collect::<Vec<u16>>();
        let table: Vec<u8> =
            (0..=255_u8).flat_map(|unit| u16::from(unit.to_ascii_uppercase()).to_le_bytes()).collect();
        let case = UpCase::parse(&table);
        assert_eq!(case.sorted(&name("b"), &bytes("A")), Ordering::Greater);
        assert_eq!(case.sorted(&name("a"), &bytes("B")), Ordering::Less);
        assert_eq!(case.sorted(&name("A"), &bytes("a")), Ordering::Less);
        assert_eq!(case.folded(&name("A"), &bytes("a")), Ordering::Equal);
        assert_eq!(case.sorted(&name("ab"), &bytes("A")), Ordering::Greater);
        assert_eq!(case.sorted(&name("Ж"), &bytes("Ж")), Ordering::Equal);
    }
}
