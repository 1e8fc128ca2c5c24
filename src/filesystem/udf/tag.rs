//! Descriptors begin with a tag that tells what they are, and where (ECMA-167, 3/7.2); and addresses within a volume.

use super::super::{
    Fault, Result,
    bytes::{u8_at, u16_at, u32_at},
};

/// What a descriptor is. Those that are read here.
pub(super) const ANCHOR: u16 = 2;
pub(super) const POINTER: u16 = 3;
pub(super) const PARTITION: u16 = 5;
pub(super) const LOGICAL_VOLUME: u16 = 6;
pub(super) const TERMINATOR: u16 = 8;
pub(super) const FILE_SET: u16 = 256;
pub(super) const FILE_IDENTIFIER: u16 = 257;
pub(super) const ALLOCATION: u16 = 258;
pub(super) const FILE: u16 = 261;
pub(super) const EXTENDED_FILE: u16 = 266;

/// What a descriptor is, if its tag is whole and says that it belongs at `location`.
pub(super) fn kind(bytes: &[u8], location: u32) -> Option<u16> {
    let tag = bytes.get(..16)?;
    let sum = tag
        .iter()
        .zip(0_u32..)
        .filter(|(_, at)| *at != 4)
        .fold(0_u8, |sum, (byte, _)| sum.wrapping_add(*byte));
    let kind = u16_at(tag, 0);
    (sum == u8_at(tag, 4) && kind != 0 && u32_at(tag, 12) == location).then_some(kind)
}

/// The same for one of which this is expected.
pub(super) fn expect(bytes: &[u8], location: u32, wanted: u16) -> Result<()> {
    if kind(bytes, location) == Some(wanted) { Ok(()) } else { Err(Fault::Damaged) }
}

/// A block of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) block: u32,
    /// Which of the volume's partitions.
    pub(super) partition: u16,
}

/// An address with a length, `long_ad` (4/14.14.2).
pub(super) fn long_address(bytes: &[u8], at: usize) -> (u32, Place) {
    let of = |offset: usize| at.saturating_add(offset);
    (u32_at(bytes, at), Place { block: u32_at(bytes, of(4)), partition: u16_at(bytes, of(8)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_believed_with_its_sum_and_place() {
        let mut tag = vec![0; 16];
        (tag[0], tag[1], tag[12]) = (5, 1, 33);
        tag[4] = 5_u8.wrapping_add(1).wrapping_add(33);
        assert_eq!(kind(&tag, 33), Some(261));
        assert_eq!(kind(&tag, 34), None);
        tag[6] = 1;
        assert_eq!(kind(&tag, 33), None);
        assert_eq!(kind(&tag[..15], 33), None);
        assert_eq!(kind(&[0; 16], 0), None);
    }
}
