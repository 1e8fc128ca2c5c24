//! The bytes of the header, big-endian, no padding (LUKS on-disk format 1.2.3, figure 1).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, big_endian::U32};

/// The header's size in bytes.
pub(super) const HEADER_LEN: usize = 592;
/// The size of the volume key's digest in bytes.
pub(super) const DIGEST_LEN: usize = 20;
/// The version, as it stands behind the magic.
pub(super) const VERSION: [u8; 2] = [0, 1];
/// The number of keyslots.
pub(super) const KEYSLOTS: usize = 8;
/// A keyslot in use.
pub(super) const ACTIVE: u32 = 0x00ac_71f3;
/// A keyslot that holds nothing.
pub(super) const FREE: u32 = 0x0000_dead;
/// The first byte where a keyslot's area may lie: behind the header, where the first cryptsetups put it.
pub(super) const LEAST_AREA: u64 = 1024;
/// Where the first keyslot's area of a new container lies.
pub(super) const FIRST_AREA: u64 = 4096;

/// The header.
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(in crate::format) struct RawHeader {
    pub magic: [u8; 6],
    pub version: [u8; 2],
    pub cipher_name: [u8; 32],
    pub cipher_mode: [u8; 32],
    pub hash: [u8; 32],
    /// In units of 512 bytes.
    pub payload_offset: U32,
    /// In bytes.
    pub key_len: U32,
    pub digest: [u8; DIGEST_LEN],
    pub digest_salt: [u8; 32],
    pub digest_iterations: U32,
    pub uuid: [u8; 40],
    pub keyslots: [RawKeyslot; KEYSLOTS],
}

/// One keyslot.
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(in crate::format) struct RawKeyslot {
    pub state: U32,
    pub iterations: U32,
    pub salt: [u8; 32],
    /// In units of 512 bytes.
    pub area_offset: U32,
    pub stripes: U32,
}

const _: () = assert!(size_of::<RawHeader>() == HEADER_LEN, "no padding");
