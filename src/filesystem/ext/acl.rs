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
}
