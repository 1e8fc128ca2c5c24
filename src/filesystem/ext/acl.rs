//! Access control lists: shorter on the medium than in the system's calls.

use super::super::bytes::{u16_at, u32_at};

/// Whether the value of an attribute with this prefix is a list.
pub(super) const fn is_list(prefix: u8) -> bool {
    matches!(prefix, ACCESS | DEFAULT)
}

/// A list as the system's calls have it (`linux/posix_acl_xattr.h`), of one on the medium.
pub(super) fn shown(stored: &[u8]) -> Option<Vec<u8>> {
    if u32_at(stored, 0) != STORED_VERSION {
        return None;
    }
    let mut shown = SHOWN_VERSION.to_le_bytes().to_vec();
    let mut rest = stored.get(4..)?;
    while !rest.is_empty() {
        let tag = u16_at(rest, 0);
        let has_id = matches!(tag, USER | GROUP);
        let (entry, after) = rest.split_at_checked(if has_id { 8 } else { 4 })?;
        shown.extend_from_slice(entry.get(..4)?);
        shown.extend_from_slice(&if has_id { u32_at(entry, 4) } else { NOBODY }.to_le_bytes());
        rest = after;
    }
    Some(shown)
}

/// One entry of a list: who, what they may, and for some of them the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u16,
    may: u16,
    id: u32,
}

/// A list, as the system's calls have it, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct List(Vec<Entry>);

impl List {
    /// Reads one. `None` where it makes no sense.
    pub(super) fn parse(shown: &[u8]) -> Option<Self> {
        let rest = shown.get(4..).filter(|rest| u32_at(shown, 0) == SHOWN_VERSION && rest.len() % 8 == 0)?;
        let entry = |raw: &[u8]| Entry { tag: u16_at(raw, 0), may: u16_at(raw, 2), id: u32_at(raw, 4) };
        let list = Self(rest.chunks_exact(8).map(entry).collect());
        let count = |tag| list.0.iter().filter(|entry| entry.tag == tag).count();
        let has_named = count(USER) + count(GROUP) > 0;
        let is_possible = list
            .0
            .iter()
            .all(|entry| entry.may <= 7 && matches!(entry.tag, OWNER | USER | OWNING | GROUP | MASK | OTHER));
        let is_whole = [OWNER, OWNING, OTHER].into_iter().all(|tag| count(tag) == 1);
        let is_masked = if has_named { count(MASK) == 1 } else { count(MASK) <= 1 };
        (is_possible && is_whole && is_masked).then_some(list)
    }

    /// The list as the medium has it.
    pub(super) fn stored(&self) -> Vec<u8> {
        let mut bytes = STORED_VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            bytes.extend_from_slice(&entry.tag.to_le_bytes());
            bytes.extend_from_slice(&entry.may.to_le_bytes());
            if matches!(entry.tag, USER | GROUP) {
                bytes.extend_from_slice(&entry.id.to_le_bytes());
            }
        }
        bytes
    }

    /// Whether it says no more than the bits of a mode can.
    pub(super) fn is_plain(&self) -> bool {
        self.0.iter().all(|entry| matches!(entry.tag, OWNER | OWNING | OTHER))
    }

    /// The entry that stands for the bits of the group.
    fn grouped(&self) -> u16 {
        if self.0.iter().any(|entry| entry.tag == MASK) { MASK } else { OWNING }
    }

    /// The bits of a mode that say the same.
    pub(super) fn mode(&self) -> u16 {
        let may = |tag| self.0.iter().find(|entry| entry.tag == tag).map_or(0, |entry| entry.may & 7);
        may(OWNER) << 6 | may(self.grouped()) << 3 | may(OTHER)
    }

    /// Has it say what the bits of a mode say.
    pub(super) fn set_mode(&mut self, mode: u16) {
        let grouped = self.grouped();
        for entry in &mut self.0 {
            match entry.tag {
                OWNER => entry.may = mode >> 6 & 7,
                tag if tag == grouped => entry.may = mode >> 3 & 7,
                OTHER => entry.may = mode & 7,
                _ => {}
            }
        }
    }
}

/// Entries without an id: the owner, their group, everybody else, and what the named ones and the group may at most.
const OWNER: u16 = 0x1;
const OWNING: u16 = 0x4;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
pub(super) const ACCESS: u8 = 2;
pub(super) const DEFAULT: u8 = 3;
const STORED_VERSION: u32 = 1;
const SHOWN_VERSION: u32 = 2;
/// A named user, and a named group: these entries have an id.
const USER: u16 = 0x2;
const GROUP: u16 = 0x8;
const NOBODY: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_gets_an_id() {
        let stored = [1, 0, 0, 0, 1, 0, 6, 0, 2, 0, 4, 0, 0xe8, 3, 0, 0, 0x20, 0, 4, 0];
        let nobody = [0xff; 4];
        let parts: [&[u8]; 6] = [
            &[2, 0, 0, 0, 1, 0, 6, 0],
            &nobody,
            &[2, 0, 4, 0, 0xe8, 3, 0, 0],
            &[0x20, 0, 4, 0],
            &nobody,
            &[],
        ];
        assert_eq!(shown(&stored).unwrap(), parts.concat());
        assert_eq!(shown(&stored[..14]), None);
        assert_eq!(shown(&[2, 0, 0, 0]), None);
    }

    #[test]
    fn a_list_comes_back_from_the_medium_and_keeps_to_the_mode() {
        let all = u32::MAX;
        let raw = |entries: &[(u16, u16, u32)]| {
            let mut bytes = SHOWN_VERSION.to_le_bytes().to_vec();
            for (tag, may, id) in entries {
                bytes.extend([&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat());
            }
            bytes
        };
        let whole = raw(&[(1, 6, all), (2, 7, 1000), (4, 4, all), (0x10, 5, all), (0x20, 4, all)]);
        let mut list = List::parse(&whole).unwrap();
        assert_eq!(shown(&list.stored()).unwrap(), whole);
        assert!(!list.is_plain());
        assert_eq!(list.mode(), 0o654);
        list.set_mode(0o711);
        assert_eq!(list.mode(), 0o711);
        assert_eq!(List::parse(&raw(&[(1, 6, all), (2, 7, 1000), (4, 4, all), (0x20, 4, all)])), None);
        assert_eq!(List::parse(&raw(&[(1, 6, all), (4, 4, all)])), None);
        assert!(List::parse(&raw(&[(1, 6, all), (4, 4, all), (0x20, 0, all)])).unwrap().is_plain());
    }
}
