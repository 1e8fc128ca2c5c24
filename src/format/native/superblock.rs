//! The first 4 KiB of a header copy as a value that cannot be wrong.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::fmt;

use super::{
    error::HeaderError,
    layout::{
        ALIGNMENT, COPY_LEN, FEATURE_REENCRYPTION, KEYSLOTS, LABEL_LEN, MAGIC, MAX_DATA_LEN, RawCopy,
        RawSuperblock, TAIL_LEN, VERSION,
    },
    ledger::WorkAreas,
    reencryption::{OldVolume, native_sector_size},
    suite::Suite,
};
use crate::{
    format::{Extent, Provision},
    text::is_clear,
    units::SectorSize,
};
use zerocopy::FromZeros;

/// Which of the two copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyIndex {
    /// At offset 0.
    A,
    /// In the last 1 MiB.
    B,
}

impl CopyIndex {
    /// The number in the superblock.
    pub const fn number(self) -> u32 {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Where the copy belongs in a container.
    pub const fn offset_in(self, geometry: &Geometry) -> u64 {
        match self {
            Self::A => 0,
            Self::B => geometry.backup_offset,
        }
    }
}

impl fmt::Display for CopyIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

const fn provision_number(provision: Provision) -> u32 {
    match provision {
        Provision::Thick => 0,
        Provision::Quick => 1,
        Provision::Thin => 2,
    }
}

const fn provision_from_number(number: u32) -> Option<Provision> {
    match number {
        0 => Some(Provision::Thick),
        1 => Some(Provision::Quick),
        2 => Some(Provision::Thin),
        _ => None,
    }
}

/// Where everything lies, in bytes. Each value was checked against the others (NAT-GEO-01 to -05).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Where the data area starts.
    pub data_offset: u64,
    /// The data area's size.
    pub data_len: u64,
    /// The container's size.
    pub container_len: u64,
    /// Where copy B lies.
    pub backup_offset: u64,
}

impl From<&Geometry> for Extent {
    fn from(geometry: &Geometry) -> Self {
        let data = geometry.data_offset..geometry.data_offset.saturating_add(geometry.data_len);
        Self { container_len: geometry.container_len, data }
    }
}

/// A text of at most 64 bytes that shows as what it is: no control, direction or invisible characters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Label(String);

impl Label {
    /// The label `text`; `None` where it is too long or holds a character that may not be in it.
    pub fn new(text: &str) -> Option<Self> {
        let is_clean = text.len() <= LABEL_LEN && !text.chars().any(is_treacherous);
        is_clean.then(|| Self(text.to_owned()))
    }

    /// The label `text` for something new: besides, all of it can be seen, and passes for nothing else (NAT-SB-11).
    pub fn chosen(text: &str) -> Option<Self> {
        text.chars().all(is_clear).then(|| Self::new(text))?
    }

    /// NAT-SB-06: clean UTF-8, padded with zeros.
    pub fn parse(field: &[u8; LABEL_LEN], place: &'static str) -> Result<Self, HeaderError> {
        let end = field.iter().rposition(|&byte| byte != 0).map_or(0, |last| last.saturating_add(1));
        let text = field.get(..end).and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.and_then(Self::new).ok_or(HeaderError::Label { place })
    }

    /// The bytes of the field.
    pub fn to_field(&self) -> [u8; LABEL_LEN] {
        let mut field = [0; LABEL_LEN];
        for (place, byte) in field.iter_mut().zip(self.0.bytes()) {
            *place = byte;
        }
        field
    }

    /// The text; `None` where it is empty.
    pub fn text(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(self.0.as_str())
    }
}

/// A superblock, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Which copy it stands in.
    pub index: CopyIndex,
    /// The container's identity.
    pub uuid: [u8; 16],
    /// The user's name for it.
    pub label: Label,
    /// Counts the updates of the header.
    pub sequence: u64,
    /// How sectors are encrypted.
    pub suite: Suite,
    /// The size of one sector: 512 or 4096.
    pub sector_size: SectorSize,
    /// How the data area came to be.
    pub provision: Provision,
    /// Where everything lies.
    pub geometry: Geometry,
    /// Counts the starts and the ends of re-encryptions: a header of another generation is of another volume key.
    pub generation: u32,
    /// What a re-encryption that is under way leaves behind.
    pub reencryption: Option<OldVolume>,
    /// Features that a writer must understand and this one does not.
    pub unknown_writing_features: u64,
}

impl Superblock {
    /// Reads the superblock of a copy whose magic and checksum are right.
    pub(super) fn parse(raw: &RawSuperblock) -> Result<Self, HeaderError> {
        if raw.version.get() != VERSION {
            return Err(HeaderError::Version { version: raw.version.get() }); // NAT-SB-02
        }
        let unknown = raw.features_required.get() & !FEATURE_REENCRYPTION;
        if unknown != 0 {
            return Err(HeaderError::Features { bits: unknown }); // NAT-SB-03
        }
        let suite = raw.suite.get();
        let suite = Suite::from_number(suite).ok_or(HeaderError::Suite { suite })?; // NAT-SB-08
        if u32::try_from(COPY_LEN) != Ok(raw.header_len.get()) {
            return Err(field("header length", raw.header_len.get())); // NAT-SB-02
        }
        if raw.reserved_a.iter().chain(&raw.reserved_b).any(|&byte| byte != 0) {
            return Err(HeaderError::Reserved { place: "superblock" }); // NAT-SB-10
        }
        let is_under_way = raw.features_required.get() & FEATURE_REENCRYPTION != 0;
        let reencryption = OldVolume::parse(&raw.reencryption, is_under_way)?;
        if raw.generation.get().is_multiple_of(2) == is_under_way {
            return Err(field("generation", raw.generation.get())); // NAT-REENC-01
        }
        let geometry = Geometry::parse(raw)?;
        if is_under_way && WorkAreas::of(&geometry).is_none() {
            return Err(HeaderError::Field { field: "data offset", value: geometry.data_offset }); // NAT-REENC-04
        }
        Ok(Self {
            index: match raw.copy_index.get() {
                0 => CopyIndex::A,
                1 => CopyIndex::B,
                other => return Err(field("copy index", other)), // NAT-SB-07
            },
            uuid: raw.uuid,
            label: Label::parse(&raw.label, "container")?,
            sequence: raw.sequence.get(),
            suite,
            sector_size: sector_size(raw.sector_size.get())?,
            provision: provision_from_number(raw.provision.get())
                .ok_or_else(|| field("provision", raw.provision.get()))?, // NAT-SB-09
            geometry,
            generation: raw.generation.get(),
            reencryption,
            unknown_writing_features: raw.features_writing.get(), // NAT-SB-04
        })
    }

    /// Whether data written under the other superblock lies where this one says, in the same form.
    pub fn lays_out_as(&self, other: &Self) -> bool {
        self.geometry == other.geometry
            && (self.suite, self.sector_size) == (other.suite, other.sector_size)
            && (self.provision, self.generation) == (other.provision, other.generation)
    }

    /// The copy that this superblock starts, its keyslots empty, checksum and MAC still zero.
    pub(super) fn to_raw(&self) -> RawCopy {
        let mut copy = RawCopy::new_zeroed();
        let raw = &mut copy.superblock;
        raw.magic = MAGIC;
        raw.version = VERSION.into();
        raw.header_len = u32::try_from(COPY_LEN).unwrap_or_default().into();
        raw.features_writing = self.unknown_writing_features.into();
        raw.uuid = self.uuid;
        raw.label = self.label.to_field();
        raw.sequence = self.sequence.into();
        raw.copy_index = self.index.number().into();
        raw.suite = self.suite.number().into();
        raw.sector_size = u32::try_from(self.sector_size.bytes()).unwrap_or_default().into();
        raw.provision = provision_number(self.provision).into();
        raw.data_offset = self.geometry.data_offset.into();
        raw.data_len = self.geometry.data_len.into();
        raw.container_len = self.geometry.container_len.into();
        raw.backup_offset = self.geometry.backup_offset.into();
        raw.generation = self.generation.into();
        if self.reencryption.is_some() {
            raw.features_required = FEATURE_REENCRYPTION.into();
        }
        raw.reencryption = OldVolume::to_raw(self.reencryption.as_ref());
        for (slot, index) in copy.keyslots.iter_mut().zip(0_u32..) {
            slot.index = index.into();
        }
        debug_assert_eq!(copy.keyslots.len(), KEYSLOTS);
        copy
    }
}

impl Geometry {
    fn parse(raw: &RawSuperblock) -> Result<Self, HeaderError> {
        let geometry = Self {
            data_offset: raw.data_offset.get(),
            data_len: raw.data_len.get(),
            container_len: raw.container_len.get(),
            backup_offset: raw.backup_offset.get(),
        };
        geometry.checked()
    }

    /// The same geometry, where it satisfies NAT-GEO-01 to -05.
    pub(super) fn checked(self) -> Result<Self, HeaderError> {
        self.check().map_err(|(name, value)| HeaderError::Field { field: name, value })?;
        Ok(self)
    }

    /// The first value that does not fit, by its name in the specification.
    fn check(&self) -> Result<(), (&'static str, u64)> {
        let copy_len = u64::try_from(COPY_LEN).unwrap_or(u64::MAX);
        let is_aligned = |value: u64| value.is_multiple_of(ALIGNMENT);
        // NAT-GEO-01
        if self.container_len > i64::MAX.unsigned_abs() || !is_aligned(self.container_len) {
            return Err(("container length", self.container_len));
        }
        // NAT-GEO-02
        if self.data_offset < copy_len || !is_aligned(self.data_offset) {
            return Err(("data offset", self.data_offset));
        }
        // NAT-GEO-03
        if self.data_len == 0 || self.data_len > MAX_DATA_LEN || !is_aligned(self.data_len) {
            return Err(("data length", self.data_len));
        }
        let data_end =
            self.data_offset.checked_add(self.data_len).ok_or(("data offset", self.data_offset))?;
        let copy_end =
            self.backup_offset.checked_add(copy_len).ok_or(("backup offset", self.backup_offset))?;
        // NAT-GEO-04
        let is_in_tail = self.container_len.saturating_sub(self.backup_offset) <= TAIL_LEN;
        if !is_aligned(self.backup_offset) || copy_end > self.container_len || !is_in_tail {
            return Err(("backup offset", self.backup_offset));
        }
        // NAT-GEO-05
        if data_end > self.backup_offset {
            return Err(("data length", self.data_len));
        }
        Ok(())
    }
}

/// NAT-SB-06: what would let a label rewrite the terminal, or show as another than it is.
const fn is_treacherous(character: char) -> bool {
    matches!(character,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// NAT-SB-08: 512 or 4096.
fn sector_size(bytes: u32) -> Result<SectorSize, HeaderError> {
    native_sector_size(bytes).ok_or_else(|| field("sector size", bytes))
}

fn field(name: &'static str, value: u32) -> HeaderError {
    HeaderError::Field { field: name, value: u64::from(value) }
}
