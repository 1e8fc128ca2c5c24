//! The bytes of a header, big-endian, no padding (VeraCrypt's Volume Format Specification; VC-HDR).

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    big_endian::{U16, U32, U64},
};

/// The size of a header, salt and all, in bytes.
pub(super) const HEADER_LEN: usize = 512;
/// The salt's size in bytes.
pub(super) const SALT_LEN: usize = 64;
/// The size of what is encrypted, in bytes.
pub(super) const PLAIN_LEN: usize = HEADER_LEN - SALT_LEN;
/// The size of the place for the master keys in bytes.
pub(super) const KEYS_LEN: usize = 256;
/// The room that each header has at the start and at the end of a container.
pub(super) const SLOT_LEN: u64 = 65_536;
/// Where the header of a TrueCrypt hidden volume up to version 5 stands, counted from the end.
pub(super) const OLD_HIDDEN_FROM_END: u64 = 1536;
/// Where the header of an encrypted system stands: sector 62 of the drive.
pub(super) const SYSTEM_OFFSET: u64 = 31_744;
/// The start of the data in volumes whose header does not say it.
pub(super) const OLD_DATA_OFFSET: u64 = 512;
/// Data units are numbered in this many bytes, whatever the sector size.
pub(super) const UNIT: u64 = 512;

/// What follows the salt, decrypted.
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawHeader {
    pub magic: [u8; 4],
    pub version: U16,
    /// Of the program that can open it.
    pub minimum: U16,
    /// Of `keys`.
    pub key_checksum: U32,
    pub created: U64,
    pub modified: U64,
    pub hidden_size: U64,
    pub volume_size: U64,
    pub area_start: U64,
    pub area_len: U64,
    pub flags: U32,
    pub sector_size: U32,
    pub reserved: [u8; 120],
    /// Of all before it, from version 4 on.
    pub checksum: U32,
    pub keys: [u8; KEYS_LEN],
}

/// The size of what [`RawHeader::checksum`] is of.
pub(super) const CHECKED_LEN: usize = 188;

const _: () = assert!(size_of::<RawHeader>() == PLAIN_LEN, "no padding");
