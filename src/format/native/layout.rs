//! The bytes of a header copy, as in `spec/native-v1.md`, section 4. Little-endian, no padding.

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U32, U64},
};

/// NAT-SB-01: a byte above 127, the name, and line ends that a text-mode transfer would change.
pub(super) const MAGIC: [u8; 16] = *b"\x89STRONGROOM\r\n\x1a\n\0";
/// The version of the format described here.
pub(super) const VERSION: u32 = 1;

/// The size of a header copy in bytes.
pub const COPY_LEN: usize = 65_536;
/// The same, as an offset.
pub(super) const COPY_LEN_U64: u64 = 65_536;
/// The size of the superblock in bytes.
pub(super) const SUPERBLOCK_LEN: usize = 4_096;
/// The same, as an offset.
pub(super) const SUPERBLOCK_LEN_U64: u64 = 4_096;
/// The size of a keyslot in bytes.
pub(super) const KEYSLOT_LEN: usize = 2_048;
/// The number of keyslots.
pub(super) const KEYSLOTS: usize = 30;
/// The unit to which all offsets are aligned, in bytes.
pub(super) const ALIGNMENT: u64 = 4_096;
/// The size of the tail that holds copy B, in bytes.
pub(super) const TAIL_LEN: u64 = 1 << 20;
/// Where the data area of a new container starts, in bytes.
pub(super) const DATA_OFFSET: u64 = 1 << 20;
/// The largest data area, in bytes: 4096 regions.
pub(super) const MAX_DATA_LEN: u64 = 1 << 52;
/// The data under one data key, in bytes.
pub(super) const REGION_LEN: u64 = 1 << 40;

/// The size of the volume key in bytes.
pub(super) const VOLUME_KEY_LEN: usize = 64;
/// The size of a label in bytes.
pub(super) const LABEL_LEN: usize = 64;

/// *Features, required*, bit 0: a re-encryption is under way.
pub(super) const FEATURE_REENCRYPTION: u64 = 1;
/// KDF 1: Argon2id, version 0x13.
pub(super) const KDF_ARGON2ID: u32 = 1;
/// KDF 2: HKDF-SHA-512, for keys that nobody can guess.
pub(super) const KDF_HKDF: u32 = 2;

/// Section 4.1.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawSuperblock {
    /// [`MAGIC`].
    pub magic: [u8; 16],
    /// [`VERSION`].
    pub version: U32,
    /// [`COPY_LEN`].
    pub header_len: U32,
    /// Features a reader must understand.
    pub features_required: U64,
    /// Features a writer must understand.
    pub features_writing: U64,
    /// Features that may be ignored.
    pub features_ignorable: U64,
    /// The container's identity, RFC 9562 byte order.
    pub uuid: [u8; 16],
    /// UTF-8, padded with zeros.
    pub label: [u8; LABEL_LEN],
    /// Counts the updates of the header.
    pub sequence: U64,
    /// 0 for copy A, 1 for copy B.
    pub copy_index: U32,
    /// The cipher suite.
    pub suite: U32,
    /// Bytes a sector.
    pub sector_size: U32,
    /// 0 thick, 1 quick, 2 thin.
    pub provision: U32,
    /// Where the data area starts.
    pub data_offset: U64,
    /// The data area's size.
    pub data_len: U64,
    /// The container's size.
    pub container_len: U64,
    /// Where copy B lies.
    pub backup_offset: U64,
    /// Counts the starts and the ends of re-encryptions.
    pub generation: U32,
    /// Zero.
    pub reserved_a: [u8; 4],
    /// What is being left behind, while a re-encryption is under way.
    pub reencryption: RawReencryption,
    /// Zero.
    pub reserved_b: [u8; 3_696],
    /// SHA-256 of the copy.
    pub checksum: [u8; 32],
    /// HMAC-SHA-512 of the copy.
    pub mac: [u8; 64],
}

/// Section 8.1: the section of the superblock that a re-encryption needs.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawReencryption {
    /// The cipher suite of what is not re-encrypted yet.
    pub old_suite: U32,
    /// The sector size of what is not re-encrypted yet.
    pub old_sector_size: U32,
    /// XChaCha20 nonce.
    pub nonce: [u8; 24],
    /// The old volume key, encrypted under the new one.
    pub wrapped_key: [u8; VOLUME_KEY_LEN],
    /// Poly1305 tag.
    pub tag: [u8; 16],
}

/// Section 8.2: how far a re-encryption is.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawRecord {
    /// [`RECORD_MAGIC`].
    pub magic: [u8; 16],
    /// [`RECORD_VERSION`].
    pub version: U32,
    /// The generation of the header that it belongs to.
    pub generation: U32,
    /// The container's identity.
    pub uuid: [u8; 16],
    /// Counts the records of one re-encryption; even ones stand in slot 0.
    pub counter: U64,
    /// The bytes of the data area that are new.
    pub border: U64,
    /// The bytes behind the border that are in the journal; 0 for none.
    pub chunk_len: U64,
    /// SHA-256 of these bytes as the journal has them; zeros in a record at rest.
    pub checksum: [u8; 32],
    /// Zero.
    pub reserved: [u8; 3_936],
    /// HMAC-SHA-512 of what stands before it.
    pub mac: [u8; 64],
}

/// The first bytes of a record.
pub(super) const RECORD_MAGIC: [u8; 16] = *b"SR re-encryption";
/// The version of the record described here.
pub(super) const RECORD_VERSION: u32 = 1;
/// The size of a record in bytes.
pub(super) const RECORD_LEN: usize = 4_096;

/// Section 4.2. The first [`KEYSLOT_AAD_LEN`] bytes are associated data of the wrapped key.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawKeyslot {
    /// What opens it.
    pub kind: U32,
    /// The slot's number.
    pub index: U32,
    /// 0 only by number, 1 normal, 2 first.
    pub priority: U32,
    /// The key derivation.
    pub kdf: U32,
    /// Argon2id memory in KiB.
    pub memory_kib: U32,
    /// Argon2id passes.
    pub passes: U32,
    /// Argon2id lanes.
    pub lanes: U32,
    /// Zero.
    pub reserved_a: [u8; 4],
    /// Argon2id salt.
    pub salt: [u8; 32],
    /// UTF-8, padded with zeros.
    pub label: [u8; LABEL_LEN],
    /// XChaCha20 nonce.
    pub nonce: [u8; 24],
    /// The volume key, encrypted.
    pub wrapped_key: [u8; VOLUME_KEY_LEN],
    /// Poly1305 tag.
    pub tag: [u8; 16],
    /// Of kind 4: [`super::fido2`]. Else zero.
    pub extra: [u8; KEYSLOT_EXTRA_LEN],
}

/// The bytes of a keyslot before the nonce.
pub(super) const KEYSLOT_AAD_LEN: usize = 128;
/// The bytes of a keyslot behind the tag.
pub(super) const KEYSLOT_EXTRA_LEN: usize = 1_816;

/// A whole header copy.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawCopy {
    /// The first 4 KiB.
    pub superblock: RawSuperblock,
    /// The rest.
    pub keyslots: [RawKeyslot; KEYSLOTS],
}

const _: () = assert!(size_of::<RawSuperblock>() == SUPERBLOCK_LEN);
const _: () = assert!(size_of::<RawRecord>() == RECORD_LEN);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, reencryption) == 192);
const _: () = assert!(size_of::<RawKeyslot>() == KEYSLOT_LEN);
const _: () = assert!(size_of::<RawCopy>() == COPY_LEN);
const _: () = assert!(COPY_LEN == 65_536 && COPY_LEN_U64 == 65_536);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, checksum) == 4_000);
const _: () = assert!(std::mem::offset_of!(RawKeyslot, nonce) == KEYSLOT_AAD_LEN);
