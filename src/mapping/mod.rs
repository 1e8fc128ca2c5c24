//! The narrow waist: how the sectors of a volume lie in its container, and under which key.
//!
//! Every format unlocks to a [`Mapping`]; every device reads through one. It is a dm-crypt table with types: validated
//! once, then trusted.

use std::{ops::Range, sync::Arc};

use crate::{
    crypto::SectorCipher,
    units::{Sector, SectorSize},
};

/// A run of volume sectors under one key.
#[derive(Debug, Clone)]
pub struct Segment {
    /// The first sector, as the volume counts.
    pub first: Sector,
    /// How many sectors.
    pub sectors: u64,
    /// Where the first sector lies in the container, in bytes.
    pub storage_offset: u64,
    /// The tweak's sector number of the first sector.
    pub first_tweak: Sector,
    /// The keyed cipher.
    pub cipher: Arc<dyn SectorCipher>,
}

/// The whole volume: segments from sector 0 on, without gap or overlap.
#[derive(Debug, Clone)]
pub struct Mapping {
    sector_size: SectorSize,
    segments: Vec<Segment>,
    sectors: u64,
    holes: Holes,
    protected: Option<Range<Sector>>,
}

/// What a sector whose ciphertext is all zeros means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holes {
    /// Ciphertext like any other (thick).
    AreCiphertext,
    /// Never written, or discarded: reads as zeros (thin).
    ReadAsZeros,
}

/// How a volume lies in its container: one mapping, or two while the container is re-encrypted.
#[derive(Debug, Clone)]
pub enum Layout {
    /// All of it under one mapping.
    Fixed(Mapping),
    /// Some of it under another mapping already.
    Moving(Moving),
}

/// Two mappings of the same bytes and the border between what is under the one and what is under the other.
#[derive(Debug, Clone)]
pub struct Moving {
    /// From the border on.
    pub old: Mapping,
    /// Up to the border.
    pub new: Mapping,
    /// In bytes of the volume; a multiple of both sector sizes.
    pub border: u64,
    /// Bytes that are to be read from elsewhere, as nothing can be said of what stands in their place.
    pub journaled: Option<Journaled>,
}

/// Bytes of the volume whose ciphertext lies in a journal.
#[derive(Debug, Clone)]
pub struct Journaled {
    /// In bytes of the volume.
    pub range: Range<u64>,
    /// The mapping of these bytes alone, counted from 0; `None` where the journal was lost.
    pub mapping: Option<Mapping>,
}

impl Layout {
    /// Where it begins in the container, in bytes, and with which tweak. `None` where two mappings are in use, or nothing is in it.
    pub fn start(&self) -> Option<(u64, Sector)> {
        let Self::Fixed(mapping) = self else { return None };
        mapping.segments.first().map(|segment| (segment.storage_offset, segment.first_tweak))
    }

    /// The mapping under which new data is; the only one, where there is one.
    pub const fn current(&self) -> &Mapping {
        match self {
            Self::Fixed(mapping) => mapping,
            Self::Moving(moving) => &moving.new,
        }
    }
}

/// Why segments make no mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// No segment, or one without sectors.
    #[error("segment {index} is empty")]
    Empty {
        /// The segment's place in the list.
        index: usize,
    },
    /// A segment that does not start where the one before ended.
    #[error("segment {index} starts at sector {found}, not {expected}")]
    Gap {
        /// The segment's place in the list.
        index: usize,
        /// Where it had to start.
        expected: u64,
        /// Where it starts.
        found: u64,
    },
    /// Sector numbers or byte offsets that leave 64 bits.
    #[error("segment {index} ends beyond 2^63 bytes")]
    Overflow {
        /// The segment's place in the list.
        index: usize,
    },
}

impl Mapping {
    /// A mapping of `segments`, in volume order.
    pub fn new(sector_size: SectorSize, segments: Vec<Segment>, holes: Holes) -> Result<Self, MappingError> {
        if segments.is_empty() {
            return Err(MappingError::Empty { index: 0 });
        }
        let mut sectors = 0_u64;
        for (index, segment) in segments.iter().enumerate() {
            if segment.sectors == 0 {
                return Err(MappingError::Empty { index });
            }
            if segment.first.0 != sectors {
                return Err(MappingError::Gap { index, expected: sectors, found: segment.first.0 });
            }
            sectors = segment.end(sector_size).ok_or(MappingError::Overflow { index })?;
        }
        Ok(Self { sector_size, segments, sectors, holes, protected: None })
    }

    /// The same mapping with `range` protected: its sectors are another volume's and must not be written.
    #[must_use]
    pub fn protecting(self, range: Range<Sector>) -> Self {
        Self { protected: Some(range), ..self }
    }

    /// The sectors that must not be written.
    pub fn protected(&self) -> Option<&Range<Sector>> {
        self.protected.as_ref()
    }

    /// The size of one sector.
    pub const fn sector_size(&self) -> SectorSize {
        self.sector_size
    }

    /// The number of sectors in the volume.
    pub const fn sectors(&self) -> u64 {
        self.sectors
    }

    /// What all-zero ciphertext means.
    pub const fn holes(&self) -> Holes {
        self.holes
    }

    /// The segments, in volume order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The mapping of `bytes` of this volume alone, counted from 0, whose ciphertext stands at `storage_offset`: what was
    /// encrypted for its place in the volume, kept elsewhere.
    ///
    /// # Errors
    /// `Empty` where the bytes hold no whole sector of the volume.
    pub fn relocated(&self, bytes: &Range<u64>, storage_offset: u64) -> Result<Self, MappingError> {
        let shift = self.sector_size.shift();
        let (start, end) = (bytes.start >> shift, bytes.end >> shift);
        let mut segments = Vec::new();
        let mut next = start;
        while let Some(segment) = self.segment_of(Sector(next)).filter(|_| next < end) {
            let sectors = (segment.first.0 + segment.sectors).min(end) - next;
            segments.push(Segment {
                first: Sector(next - start),
                sectors,
                storage_offset: storage_offset.saturating_add((next - start) << shift),
                first_tweak: Sector(segment.first_tweak.0 + (next - segment.first.0)),
                cipher: Arc::clone(&segment.cipher),
            });
            next += sectors;
        }
        Self::new(self.sector_size, segments, self.holes)
    }

    /// The segment that holds `sector`; `None` past the end.
    pub fn segment_of(&self, sector: Sector) -> Option<&Segment> {
        let after = self.segments.partition_point(|segment| segment.first <= sector);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        (sector.0 - segment.first.0 < segment.sectors).then_some(segment)
    }
}

impl Segment {
    /// One past the last sector, where neither it, its tweak, nor the bytes it stands for leave 63 bits.
    fn end(&self, sector_size: SectorSize) -> Option<u64> {
        const LIMIT: u64 = i64::MAX as u64;
        let end = self.first.0.checked_add(self.sectors)?;
        let volume_end = end.checked_mul(sector_size.bytes_u64())?;
        let bytes = self.sectors.checked_mul(sector_size.bytes_u64())?;
        let storage_end = self.storage_offset.checked_add(bytes)?;
        self.first_tweak.0.checked_add(self.sectors)?;
        (volume_end <= LIMIT && storage_end <= LIMIT).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct NoCipher;
    impl SectorCipher for NoCipher {
        fn encrypt(&self, _: &mut [u8], _: SectorSize, _: Sector) {}
        fn decrypt(&self, _: &mut [u8], _: SectorSize, _: Sector) {}
    }

    fn segment(first: u64, sectors: u64, storage_offset: u64) -> Segment {
        let (first, first_tweak) = (Sector(first), Sector(first));
        Segment { first, sectors, storage_offset, first_tweak, cipher: Arc::new(NoCipher) }
    }

    fn build(segments: Vec<Segment>) -> Result<Mapping, MappingError> {
        Mapping::new(SectorSize::B4096, segments, Holes::AreCiphertext)
    }

    #[test]
    fn a_gap_between_segments_is_refused() {
        let error = build(vec![segment(0, 8, 0), segment(9, 1, 1 << 20)]).unwrap_err();
        assert_eq!(error, MappingError::Gap { index: 1, expected: 8, found: 9 });
    }

    #[test]
    fn bytes_beyond_63_bits_are_refused() {
        let error = build(vec![segment(0, 1 << 51, 0)]).unwrap_err();
        assert_eq!(error, MappingError::Overflow { index: 0 });
        let error = build(vec![segment(0, 1, u64::MAX - 100)]).unwrap_err();
        assert_eq!(error, MappingError::Overflow { index: 0 });
    }

    #[test]
    fn no_segment_is_refused() {
        assert_eq!(build(vec![]).unwrap_err(), MappingError::Empty { index: 0 });
    }

    #[test]
    fn relocated_sectors_keep_their_tweaks_and_stand_one_after_another() {
        let mapping = build(vec![segment(0, 8, 0), segment(8, 4, 1 << 20)]).unwrap();
        let part = mapping.relocated(&(6 * 4096..10 * 4096), 512).unwrap();
        let places: Vec<_> = part
            .segments()
            .iter()
            .map(|part| (part.first.0, part.sectors, part.storage_offset, part.first_tweak.0))
            .collect();
        assert_eq!(places, [(0, 2, 512, 6), (2, 2, 512 + 8192, 8)]);
        let nothing = mapping.relocated(&(12 * 4096..13 * 4096), 512).unwrap_err();
        assert_eq!(nothing, MappingError::Empty { index: 0 });
    }

    #[test]
    fn each_sector_is_found_in_its_segment() {
        let mapping = build(vec![segment(0, 8, 0), segment(8, 2, 1 << 20)]).unwrap();
        assert_eq!(mapping.sectors(), 10);
        assert_eq!(mapping.segment_of(Sector(7)).unwrap().first, Sector(0));
        assert_eq!(mapping.segment_of(Sector(8)).unwrap().first, Sector(8));
        assert!(mapping.segment_of(Sector(10)).is_none());
    }
}
