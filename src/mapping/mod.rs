//! The narrow waist: how the sectors of a volume lie in its container, and under which key.
//!
//! Every format unlocks to a [`Mapping`]; every device reads through one. It is a dm-crypt table with types: validated
//! once, then trusted.

use std::sync::Arc;

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
}

/// What a sector whose ciphertext is all zeros means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holes {
    /// Ciphertext like any other (thick).
    AreCiphertext,
    /// Never written, or discarded: reads as zeros (thin).
    ReadAsZeros,
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
        Ok(Self { sector_size, segments, sectors, holes })
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
    fn each_sector_is_found_in_its_segment() {
        let mapping = build(vec![segment(0, 8, 0), segment(8, 2, 1 << 20)]).unwrap();
        assert_eq!(mapping.sectors(), 10);
        assert_eq!(mapping.segment_of(Sector(7)).unwrap().first, Sector(0));
        assert_eq!(mapping.segment_of(Sector(8)).unwrap().first, Sector(8));
        assert!(mapping.segment_of(Sector(10)).is_none());
    }
}
