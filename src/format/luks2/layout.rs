//! The bytes of a binary header, big-endian, no padding (LUKS2 on-disk format 1.1.4, section 2.1).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, big_endian::U64};

/// The size of the binary header in bytes; the JSON area follows.
pub(super) const BINARY_LEN: usize = 4096;
/// The sizes that a header copy may have in bytes, JSON area included.
pub(in crate::format) const HEADER_LENS: [u64; 9] =
    [16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20];
/// The magic of the second copy.
pub(in crate::format) const SECOND_MAGIC: [u8; 6] = *b"SKUL\xba\xbe";
/// The version, as it stands behind the magic.
pub(super) const VERSION: [u8; 2] = [0, 2];

/// A binary header.
#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawHeader {
    pub magic: [u8; 6],
    pub version: [u8; 2],
    /// JSON area included.
    pub header_len: U64,
    pub sequence: U64,
    pub label: [u8; 48],
    /// The name of the checksum's hash.
    pub checksum_hash: [u8; 32],
    pub salt: [u8; 64],
    pub uuid: [u8; 40],
    pub subsystem: [u8; 48],
    /// Where this copy stands.
    pub offset: U64,
    pub padding: [u8; 184],
    /// Over the binary header, this field zero, and the JSON area.
    pub checksum: [u8; 64],
    pub padding_to_4096: [u8; 3584],
}

const _: () = assert!(size_of::<RawHeader>() == BINARY_LEN, "no padding");
