//! A header after decryption: bytes in, types out, and back.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{fmt, ops::Range};

use zerocopy::{
    FromBytes, IntoBytes,
    big_endian::{U16, U32, U64},
};

use super::{
    Family, Place,
    layout::{CHECKED_LEN, KEYS_LEN, OLD_DATA_OFFSET, OLD_HIDDEN_FROM_END, PLAIN_LEN, RawHeader, UNIT},
};
use crate::{
    crypto::{crc::crc32, hash, secret::LockedBytes},
    error::{Error, ErrorKind},
    units::SectorSize,
};

/// What a header says.
pub struct VolumeHeader {
    /// Whose header it is.
    pub family: Family,
    /// The layout's version, 1 to 5.
    pub version: u16,
    /// The oldest program that opens it, as `0x010b` for 1.11.
    pub minimum: u16,
    /// When volume and header were made, in programs' own units; zero from version 4 on.
    pub times: [u64; 2],
    /// The size of the hidden volume in bytes; not zero in the header of one.
    pub hidden_size: u64,
    /// The size of the volume in bytes; zero up to version 3.
    pub volume_size: u64,
    /// Where the encrypted area starts, in bytes of the container; zero where the version does not say.
    pub area_start: u64,
    /// Its size in bytes; zero where the version does not say.
    pub area_len: u64,
    /// [`SYSTEM`], [`IN_PLACE`].
    pub flags: u32,
    /// The size of a sector.
    pub sector_size: SectorSize,
    /// The place for the master keys, 256 bytes.
    pub keys: LockedBytes,
}

/// Where a volume lies in its container, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data {
    /// The first byte.
    pub start: u64,
    /// How many there are, in whole sectors: fewer than there should be where the container is cut off.
    pub len: u64,
    /// One past the last byte that there should be.
    pub end: u64,
}

impl Data {
    /// Whether the container ends before the volume does.
    pub const fn is_cut_off(self) -> bool {
        self.end.saturating_sub(self.start) != self.len
    }
}

/// The flag of an encrypted system.
pub const SYSTEM: u32 = 1;
/// The flag of a volume that was encrypted in place.
pub const IN_PLACE: u32 = 2;

/// What can be wrong with a header that the password decrypts. The first found is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Everything else is as it should be, so the password is right.
    #[error("the password is right, but the start of the header is damaged")]
    Start,
    /// The keys are not those that were written.
    #[error("the password is right, but the keys in the header are damaged")]
    Keys,
    /// The fields are not those that were written.
    #[error("the password is right, but the fields of the header are damaged")]
    Fields,
    /// A cipher with blocks of 64 bits (VC-CIPHER-03).
    #[error("the container is encrypted with {0}, whose small blocks are not supported")]
    SmallBlocks(&'static str),
    /// A layout that is not known.
    #[error("the header has version {0}")]
    Version(u16),
    /// A program that does not exist yet.
    #[error("the container asks for version {}.{:02x} of its program", .0 >> 8, .0 & 0xff)]
    Minimum(u16),
    /// A size that no sector has.
    #[error("the header's sector size is {0}")]
    SectorSize(u32),
    /// Data that do not consist of whole units.
    #[error("the header's data start at byte {start} and have {len} bytes: no whole sectors")]
    Unaligned {
        /// The first byte.
        start: u64,
        /// The number of bytes.
        len: u64,
    },
    /// Data beyond the container's end.
    #[error(
        "the end of the container is missing, {} bytes of data: they end at byte {end}, the container has {container_len}",
        .end.saturating_sub(*.container_len)
    )]
    CutOff {
        /// One past the last byte.
        end: u64,
        /// The container's size.
        container_len: u64,
    },
    /// A copy that stands at the end of another container than the one that was looked at.
    #[error("the container whose backup header stands at the end begins at byte {at}, not here")]
    Elsewhere {
        /// In bytes of the file or device.
        at: u64,
    },
    /// A copy at the end of a container whose start is not there.
    #[error("the first {missing} bytes of the container are missing: only its backup header opens")]
    Headless {
        /// How many.
        missing: u64,
    },
    /// Data where headers stand.
    #[error("the data start at byte {start}, within the header")]
    InHeader {
        /// The first byte.
        start: u64,
    },
}

impl From<HeaderError> for Error {
    fn from(error: HeaderError) -> Self {
        let kind = match error {
            HeaderError::Version(_) | HeaderError::Minimum(_) | HeaderError::SmallBlocks(_) => {
                ErrorKind::Unsupported
            }
            HeaderError::Elsewhere { .. } | HeaderError::Headless { .. } => ErrorKind::NotAContainer,
            _ => ErrorKind::Damaged,
        };
        let way = match error {
            HeaderError::SmallBlocks(_) => Some(SMALL_BLOCKS_WAY),
            HeaderError::Version(_) | HeaderError::Minimum(_) => Some(NEWER_WAY),
            _ => None,
        };
        let error = Self::caused_by(kind, error);
        match way {
            Some(way) => error.with_hint(way),
            None => error,
        }
    }
}

impl VolumeHeader {
    /// Parses what a decrypted header holds behind its salt. `None` where this is no header at all: another password, or
    /// another cipher.
    ///
    /// # Errors
    /// Where it is one, but damaged, or not to be used.
    pub fn parse(plain: &[u8; PLAIN_LEN]) -> Result<Option<Self>, HeaderError> {
        let Ok(raw) = RawHeader::ref_from_bytes(plain) else { return Ok(None) };
        let family = Family::ALL.into_iter().find(|family| family.magic() == raw.magic); // VC-HDR-01
        let Some(family) = family else {
            return if has_empty_middle(plain) { Err(HeaderError::Start) } else { Ok(None) }; // VC-HDR-07
        };
        if crc32(&raw.keys) != raw.key_checksum.get() {
            return Err(HeaderError::Keys); // VC-HDR-02
        }
        let version = raw.version.get();
        if !(1..=5).contains(&version) {
            return Err(HeaderError::Version(version)); // VC-HDR-04
        }
        let checked = plain.get(..CHECKED_LEN).unwrap_or_default();
        if version >= 4 && crc32(checked) != raw.checksum.get() {
            return Err(HeaderError::Fields); // VC-HDR-03
        }
        if raw.minimum.get() > family.newest() {
            return Err(HeaderError::Minimum(raw.minimum.get())); // VC-HDR-05
        }
        Ok(Some(Self {
            family,
            version,
            minimum: raw.minimum.get(),
            times: [raw.created.get(), raw.modified.get()],
            hidden_size: raw.hidden_size.get(),
            volume_size: raw.volume_size.get(),
            area_start: raw.area_start.get(),
            area_len: raw.area_len.get(),
            flags: raw.flags.get(),
            sector_size: sector_size(version, raw.sector_size.get())?,
            keys: locked(&raw.keys).ok_or(HeaderError::Keys)?,
        }))
    }

    /// The same bytes that [`parse`](Self::parse) takes, with both checksums, to be encrypted. `None` without memory for
    /// them.
    pub fn to_bytes(&self) -> Option<LockedBytes> {
        let mut keys = [0; KEYS_LEN];
        keys.copy_from_slice(self.keys.as_slice().get(..KEYS_LEN)?);
        let mut raw = RawHeader {
            magic: self.family.magic(),
            version: U16::new(self.version),
            minimum: U16::new(self.minimum),
            key_checksum: U32::new(crc32(&keys)),
            created: U64::new(self.times.first().copied()?),
            modified: U64::new(self.times.last().copied()?),
            hidden_size: U64::new(self.hidden_size),
            volume_size: U64::new(self.volume_size),
            area_start: U64::new(self.area_start),
            area_len: U64::new(self.area_len),
            flags: U32::new(self.flags),
            sector_size: U32::new(if self.version < 5 { 0 } else { self.sector_size_field() }),
            reserved: [0; 120],
            checksum: U32::ZERO,
            keys,
        };
        zeroize::Zeroize::zeroize(&mut keys);
        if self.version >= 4 {
            let checksum = crc32(raw.as_bytes().get(..CHECKED_LEN)?);
            raw.checksum = U32::new(checksum);
        }
        let bytes = locked(raw.as_bytes());
        zeroize::Zeroize::zeroize(&mut raw.keys);
        bytes
    }

    fn sector_size_field(&self) -> u32 {
        1_u32.checked_shl(self.sector_size.shift()).unwrap_or_default()
    }

    /// Which bytes of a container of `container_len` bytes hold the volume (VC-DATA-01 to -04), and whether the container
    /// ends before they do. The header stood in `place`.
    ///
    /// # Errors
    /// `Unaligned`, `InHeader`; `CutOff` where not even the first sector is there.
    pub fn data(&self, place: Place, container_len: u64) -> Result<Data, HeaderError> {
        let (start, len) = self
            .area(place, container_len)
            .ok_or(HeaderError::CutOff { end: self.hidden_size, container_len })?;
        let end = start.checked_add(len).ok_or(HeaderError::CutOff { end: u64::MAX, container_len })?;
        if len == 0 || !start.is_multiple_of(UNIT) || !len.is_multiple_of(self.sector_size.bytes_u64()) {
            return Err(HeaderError::Unaligned { start, len });
        }
        if start < OLD_DATA_OFFSET {
            return Err(HeaderError::InHeader { start });
        }
        let there = end.min(container_len);
        let sectors = there.checked_sub(start).and_then(|len| len.checked_div(self.sector_size.bytes_u64()));
        match sectors.and_then(|sectors| sectors.checked_mul(self.sector_size.bytes_u64())) {
            None | Some(0) => Err(HeaderError::CutOff { end, container_len }),
            Some(len) => Ok(Data { start, len, end }),
        }
    }

    /// Start and size of the data as the header has it, or as its version leaves it to be known.
    fn area(&self, place: Place, container_len: u64) -> Option<(u64, u64)> {
        if self.version >= 4 || place == Place::System {
            // A drive's header can name more than the volume has.
            let most = if self.volume_size == 0 { u64::MAX } else { self.volume_size };
            return Some((self.area_start, self.area_len.min(most)));
        }
        if place.is_hidden() {
            let behind = container_len.checked_sub(OLD_HIDDEN_FROM_END)?;
            return Some((behind.checked_sub(self.hidden_size)?, self.hidden_size));
        }
        // A last part of a sector belongs to nobody.
        let len = container_len.checked_sub(OLD_DATA_OFFSET)?;
        Some((OLD_DATA_OFFSET, len.checked_sub(len.checked_rem(UNIT)?)?))
    }

    /// Whether encrypting the volume in place was begun and not ended.
    pub const fn is_half_encrypted(&self) -> bool {
        self.flags & (IN_PLACE | SYSTEM) != 0 && self.area_len < self.volume_size
    }
}

impl fmt::Debug for VolumeHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VolumeHeader({}, version {})", self.family.name(), self.version)
    }
}

/// VC-HDR-06. Before version 5 sectors have 512 bytes, and zero says the same.
const fn sector_size(version: u16, field: u32) -> Result<SectorSize, HeaderError> {
    match field {
        _ if version < 5 => Ok(SectorSize::B512),
        0 | 512 => Ok(SectorSize::B512),
        1024 => Ok(SectorSize::B1024),
        2048 => Ok(SectorSize::B2048),
        4096 => Ok(SectorSize::B4096),
        other => Err(HeaderError::SectorSize(other)),
    }
}

/// Whether the blocks that are zero in every header are: no wrong password does that.
fn has_empty_middle(plain: &[u8; PLAIN_LEN]) -> bool {
    plain.get(EMPTY).is_some_and(|middle| hash::equal(middle, &[0; EMPTY_LEN]))
}

fn locked(bytes: &[u8]) -> Option<LockedBytes> {
    let mut locked = LockedBytes::zeroed(bytes.len()).ok()?;
    locked.as_mut_slice().copy_from_slice(bytes);
    Some(locked)
}

const SMALL_BLOCKS_WAY: &str = "as root, cryptsetup open --type tcrypt CONTAINER NAME opens it, if the kernel has the cipher: copy its files to a new container";
const NEWER_WAY: &str = "a newer VeraCrypt may open it";
/// Whole cipher blocks within the reserved bytes.
const EMPTY: Range<usize> = 80..176;
const EMPTY_LEN: usize = 96;
