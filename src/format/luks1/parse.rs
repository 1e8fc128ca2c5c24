//! Bytes in, types out.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::ops::Range;

use zerocopy::FromBytes;

use super::layout::{ACTIVE, FIRST_AREA, FREE, HEADER_LEN, LEAST_AREA, RawHeader, RawKeyslot, VERSION};
use crate::{
    crypto::{hash::HashKind, kdf::KdfCost},
    error::{Error, ErrorKind, Fact},
    format::KeyslotInfo,
    format::luks::{
        MAGIC, MAGIC_IN_REENCRYPTION, UNIT, af,
        cipher::{CipherError, Encryption},
        digest::KeyDigest,
        kdf::Kdf,
        keyslot::{Area, Keyslot, material_len},
        way_in,
    },
};

/// What can be wrong with a header, found without a secret. The first found is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No magic, or another version.
    #[error("no LUKS1 header")]
    NoMagic,
    /// An old tool was interrupted while it worked in place.
    #[error("a re-encryption by cryptsetup-reencrypt was interrupted")]
    InReencryption,
    /// A name that is no clean text.
    #[error("the header's {field} is no clean text")]
    Text {
        /// The field's name in the specification.
        field: &'static str,
    },
    /// A cipher that is not used.
    #[error(transparent)]
    Cipher(#[from] CipherError),
    /// A hash that is not on the list.
    #[error("hash {name} is not supported")]
    Hash {
        /// As the header has it.
        name: String,
    },
    /// A field with a value that it cannot have.
    #[error("the header's {field} is {value}")]
    Field {
        /// The field's name in the specification.
        field: &'static str,
        /// The value found.
        value: u64,
    },
    /// A keyslot field with a value that it cannot have.
    #[error("keyslot {slot}: {field} is {value}")]
    Keyslot {
        /// The keyslot.
        slot: u32,
        /// The field's name in the specification.
        field: &'static str,
        /// The value found.
        value: u64,
    },
    /// Two areas that share bytes.
    #[error("keyslot {slot} overlaps keyslot {other}")]
    Overlap {
        /// The one that starts later.
        slot: u32,
        /// The one that reaches into it.
        other: u32,
    },
    /// An area that reaches into the data.
    #[error("keyslot {slot} overlaps the data")]
    OverlapsData {
        /// The keyslot.
        slot: u32,
    },
    /// The container ends within the header.
    #[error("it is cut off in its header: {len} bytes are there, the header takes {HEADER_LEN}")]
    HeaderCutOff {
        /// The container's size.
        len: u64,
    },
    /// The container ends before the data begin.
    #[error("the data start at byte {offset}, the container has {len}")]
    CutOff {
        /// Where the data start.
        offset: u64,
        /// The container's size.
        len: u64,
    },
}

impl From<HeaderError> for Error {
    fn from(error: HeaderError) -> Self {
        let kind = match error {
            HeaderError::NoMagic => ErrorKind::NotAContainer,
            HeaderError::InReencryption | HeaderError::Cipher(_) | HeaderError::Hash { .. } => {
                ErrorKind::Unsupported
            }
            _ => ErrorKind::Damaged,
        };
        match error {
            HeaderError::NoMagic => Self::caused_by(kind, error).with_fact(Fact::NoSignature),
            HeaderError::Cipher(error) => error.into(),
            HeaderError::InReencryption => Self::caused_by(kind, error).with_hint(way_in::OLD_REENCRYPTION),
            HeaderError::Hash { .. } => Self::caused_by(kind, error).with_hint(way_in::KERNEL),
            _ => Self::caused_by(kind, error).with_hint(way_in::HEADER_ALONE),
        }
    }
}

/// A header that is well-formed; the keyslots' areas are not read yet.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) encryption: Encryption,
    pub(super) hash: HashKind,
    pub(super) digest: KeyDigest,
    pub(super) uuid: Option<String>,
    /// Where the data start, in bytes. Lies within the container.
    pub(super) data_offset: u64,
    /// Those in use.
    pub(super) keyslots: Vec<Keyslot>,
    /// Those in a state that is none, by number and state. They are neither tried nor filled.
    pub(super) odd: Vec<(u32, u32)>,
}

impl Parsed {
    /// All that are not free.
    pub(super) fn describe_keyslots(&self) -> Vec<KeyslotInfo> {
        let odd = self.odd.iter().map(|(slot, _)| KeyslotInfo::unknown(*slot, None));
        let mut slots: Vec<_> = self.keyslots.iter().map(Keyslot::describe).chain(odd).collect();
        slots.sort_by_key(|info| info.slot);
        slots
    }

    /// Parses a header of a container of `container_len` bytes, in which it lies itself, or not.
    pub(super) fn parse(
        bytes: &[u8; HEADER_LEN],
        container_len: u64,
        is_detached: bool,
    ) -> Result<Self, HeaderError> {
        let raw = RawHeader::ref_from_bytes(bytes).map_err(|_| HeaderError::NoMagic)?;
        if raw.magic == MAGIC_IN_REENCRYPTION {
            return Err(HeaderError::InReencryption); // L1-HDR-07
        }
        if raw.magic != MAGIC || raw.version != VERSION {
            return Err(HeaderError::NoMagic); // L1-HDR-01
        }
        let key_len = usize::try_from(raw.key_len.get()).unwrap_or(usize::MAX);
        let encryption = encryption(raw, key_len)?;
        let hash_name = text(&raw.hash, "hash")?;
        let hash = HashKind::from_name(&hash_name).ok_or(HeaderError::Hash { name: hash_name })?;
        let data_offset = data_offset(raw);
        // Where the data lie in another file, no area reaches into them.
        check_slots(raw, key_len, if is_detached { 0 } else { data_offset })?;
        if container_len < data_offset && container_len != areas(raw, key_len).end {
            return Err(HeaderError::CutOff { offset: data_offset, len: container_len }); // L1-HDR-05
        }
        let iterations = raw.digest_iterations.get();
        if iterations == 0 {
            return Err(HeaderError::Field { field: "digest iterations", value: 0 }); // L1-HDR-03
        }
        let (salt, digest) = (raw.digest_salt.to_vec(), raw.digest.to_vec());
        let digest = KeyDigest { hash, iterations, salt, digest, key_len };
        let keyslots = raw.keyslots.iter().zip(0_u32..).filter(|(slot, _)| slot.state.get() == ACTIVE);
        let keyslots = keyslots.map(|(slot, index)| keyslot(slot, index, hash, &encryption)).collect();
        let states = raw.keyslots.iter().zip(0_u32..).map(|(slot, index)| (index, slot.state.get()));
        let odd = states.filter(|(_, state)| !matches!(*state, ACTIVE | FREE)).collect();
        let uuid = Some(text(&raw.uuid, "UUID")?).filter(|uuid| !uuid.is_empty());
        Ok(Self { encryption, hash, digest, uuid, data_offset, keyslots, odd })
    }
}

/// Where the areas lie, in bytes: up to whole 4096, as cryptsetup counts, but not into the data, which the first cryptsetups
/// put right behind them. So long is a backup.
pub(super) fn areas(raw: &RawHeader, key_len: usize) -> Range<u64> {
    let area_len = material_len(key_len).unwrap_or_default();
    let start = raw.keyslots.iter().map(area_offset).min().unwrap_or(FIRST_AREA);
    let ends = raw.keyslots.iter().map(|slot| area_offset(slot).saturating_add(area_len));
    let end = ends.max().unwrap_or(FIRST_AREA);
    let (rounded, data) = (end.next_multiple_of(4096), data_offset(raw));
    start..if data >= end { rounded.min(data) } else { rounded }
}

pub(super) fn data_offset(raw: &RawHeader) -> u64 {
    u64::from(raw.payload_offset.get()).saturating_mul(UNIT)
}

/// L1-HDR-02, L1-CIPHER-01, -02.
fn encryption(raw: &RawHeader, key_len: usize) -> Result<Encryption, HeaderError> {
    let (name, mode) = (text(&raw.cipher_name, "cipher name")?, text(&raw.cipher_mode, "cipher mode")?);
    let name = if mode.is_empty() { name } else { format!("{name}-{mode}") };
    Ok(Encryption::parse(&name, key_len)?)
}

fn keyslot(raw: &RawKeyslot, index: u32, hash: HashKind, encryption: &Encryption) -> Keyslot {
    let cost = KdfCost::Pbkdf2 { hash, iterations: raw.iterations.get() };
    Keyslot {
        index,
        priority: None,
        kdf: Kdf { cost, salt: raw.salt.to_vec() },
        area: Area {
            offset: area_offset(raw),
            encryption: encryption.clone(),
            hash,
            key_len: encryption.key_len,
            material: Vec::new(),
        },
    }
}

fn area_offset(raw: &RawKeyslot) -> u64 {
    u64::from(raw.area_offset.get()).saturating_mul(UNIT)
}

/// Checks all keyslots, free ones too: a tool that fills a free one later would write over what its area reaches into.
fn check_slots(raw: &RawHeader, key_len: usize, data_offset: u64) -> Result<(), HeaderError> {
    let wrong_len = || HeaderError::Field { field: "key length", value: raw.key_len.get().into() };
    let area_len = material_len(key_len).ok_or_else(wrong_len)?;
    let is_none_active = raw.keyslots.iter().all(|slot| slot.state.get() != ACTIVE);
    let mut areas = Vec::new();
    for (slot, index) in raw.keyslots.iter().zip(0_u32..) {
        let wrong = |field, value: u32| HeaderError::Keyslot { slot: index, field, value: value.into() };
        if !matches!(slot.state.get(), ACTIVE | FREE) && is_none_active {
            return Err(wrong("state", slot.state.get())); // L1-SLOT-01
        }
        if slot.state.get() == ACTIVE && slot.iterations.get() == 0 {
            return Err(wrong("iterations", 0)); // L1-SLOT-02
        }
        if usize::try_from(slot.stripes.get()) != Ok(af::STRIPES) {
            return Err(wrong("stripes", slot.stripes.get())); // L1-SLOT-03
        }
        let start = area_offset(slot);
        let end = start.saturating_add(area_len);
        if start < LEAST_AREA {
            return Err(wrong("area offset", slot.area_offset.get())); // L1-SLOT-04
        }
        if data_offset != 0 && end > data_offset {
            return Err(HeaderError::OverlapsData { slot: index }); // L1-SLOT-05
        }
        areas.push((start, end, index));
    }
    areas.sort_unstable();
    for ((_, end, other), (start, _, slot)) in areas.iter().zip(areas.iter().skip(1)) {
        if start < end {
            return Err(HeaderError::Overlap { slot: *slot, other: *other }); // L1-SLOT-06
        }
    }
    Ok(())
}

/// Printable ASCII up to the first zero byte, which must be there.
fn text(bytes: &[u8], field: &'static str) -> Result<String, HeaderError> {
    let end = bytes.iter().position(|&byte| byte == 0);
    let text = end.and_then(|end| bytes.get(..end)).filter(|text| text.iter().all(u8::is_ascii_graphic));
    let text = text.and_then(|text| std::str::from_utf8(text).ok());
    text.map(str::to_owned).ok_or(HeaderError::Text { field }) // L1-HDR-02
}
