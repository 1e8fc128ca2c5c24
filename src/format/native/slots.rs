//! What stands in the work areas' slots, before any of it is authentic (sections 8.2 and 8.4).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::fmt;

use zerocopy::FromBytes;

use super::{
    layout::{ALIGNMENT, RECORD_LEN, RECORD_MAGIC, RawRecord},
    ledger::WorkAreas,
    record::NO_CHECKSUM,
    superblock::{Geometry, Superblock},
};
use crate::{
    crypto::hash,
    error::{Error, ErrorKind, Result},
    storage::Storage,
};

/// The records that stand in the work areas, unchecked: nothing in them is believed before their MAC was checked, but for one
/// thing, which can only keep us from writing: that a header is an old one.
#[derive(Clone)]
pub(super) struct Slots {
    areas: WorkAreas,
    /// For each area, both slots.
    bytes: [Vec<u8>; 2],
    /// The chunks of which a record has the checksum, where they were found whole.
    chunks: Vec<WholeChunk>,
}

/// A chunk's new ciphertext as its record's checksum says that it is.
#[derive(Debug, Clone, Copy)]
struct WholeChunk {
    checksum: [u8; 32],
    len: u64,
    /// Where it lies in the container: in its journal, or in its place already.
    offset: u64,
}

impl Slots {
    /// Reads all four. What cannot be read does not count. `None` where the container has no room for them.
    pub(super) fn read(storage: &dyn Storage, geometry: &Geometry) -> Option<Self> {
        let mut slots = Self::read_once(storage, geometry)?;
        for _ in 0..READINGS {
            if slots.has_newest_chunk() {
                break;
            }
            // Somebody who re-encrypts it may have gone on between the reading of a record and that of its journal.
            let before = std::mem::replace(&mut slots, Self::read_once(storage, geometry)?);
            if before.bytes == slots.bytes {
                break;
            }
        }
        Some(slots)
    }

    fn read_once(storage: &dyn Storage, geometry: &Geometry) -> Option<Self> {
        let areas = WorkAreas::of(geometry)?;
        let bytes = areas.starts.map(|start| {
            let mut slots = vec![0; RECORD_LEN.saturating_mul(2)];
            match storage.read_exact_at(&mut slots, start) {
                Ok(()) => slots,
                Err(_) => Vec::new(),
            }
        });
        let mut slots = Self { areas, bytes, chunks: Vec::new() };
        slots.chunks = slots.raw().filter_map(|raw| whole_chunk(&raw, storage, geometry, &areas)).collect();
        Some(slots)
    }

    /// Whether the chunk of the newest record was found, if it has one.
    fn has_newest_chunk(&self) -> bool {
        let newest = self.raw().max_by_key(|raw| raw.counter.get());
        newest.is_none_or(|raw| {
            raw.chunk_len.get() == 0
                || raw.checksum == NO_CHECKSUM
                || self.find_chunk(&raw.checksum, raw.chunk_len.get()).is_some()
        })
    }

    /// Where they were read.
    pub(super) const fn areas(&self) -> &WorkAreas {
        &self.areas
    }

    /// The bytes of an area's slot, where they could be read.
    pub(super) fn slot(&self, area: usize, slot: u64) -> Option<&[u8]> {
        self.bytes.get(area)?.get(usize::try_from(slot_offset(slot)).ok()?..)?.get(..RECORD_LEN)
    }

    /// Where the chunk with this checksum was found whole.
    pub(super) fn find_chunk(&self, checksum: &[u8; 32], len: u64) -> Option<u64> {
        let found = self.chunks.iter().find(|chunk| chunk.checksum == *checksum && chunk.len == len)?;
        Some(found.offset)
    }

    /// The highest counter that a record of this generation names, unchecked.
    pub(super) fn newest_counter(&self, superblock: &Superblock) -> Option<u64> {
        let ours = self
            .raw()
            .filter(|raw| raw.uuid == superblock.uuid && raw.generation.get() == superblock.generation);
        ours.map(|raw| raw.counter.get()).max()
    }

    /// Whether an area begins with the closing record of this header (NAT-REENC-20), unchecked.
    pub(super) fn is_closed(&self, area: usize, superblock: &Superblock) -> bool {
        let raw = self.slot(area, 0).and_then(|bytes| RawRecord::read_from_bytes(bytes).ok());
        raw.is_some_and(|raw| {
            raw.magic == RECORD_MAGIC
                && raw.uuid == superblock.uuid
                && raw.generation.get() == superblock.generation
        })
    }

    /// NAT-UPD-11: another container's uuid that a record bears.
    pub(super) fn foreign(&self, superblock: &Superblock) -> Option<[u8; 16]> {
        self.raw().map(|raw| raw.uuid).find(|uuid| *uuid != superblock.uuid)
    }

    /// NAT-REENC-17: the generation of a record that makes `superblock` an old one.
    ///
    /// The first record of a re-encryption is written before its header: alone it tells of none.
    pub(super) fn newer_generation(&self, superblock: &Superblock) -> Option<u32> {
        let own = superblock.generation;
        let is_newer = |raw: &RawRecord| {
            let is_only_prepared = own.checked_add(1) == Some(raw.generation.get())
                && raw.generation.get() % 2 == 1
                && (raw.counter.get(), raw.border.get(), raw.chunk_len.get()) == (1, 0, 0);
            raw.uuid == superblock.uuid && raw.generation.get() > own && !is_only_prepared
        };
        self.raw().filter(is_newer).map(|raw| raw.generation.get()).max()
    }

    /// Where records of a higher generation of the same container lie.
    pub(super) fn newer_slots(&self, superblock: &Superblock) -> Vec<u64> {
        let places = [0, 1].into_iter().flat_map(|area| [(area, 0), (area, 1)]);
        let newer = places.filter_map(|(area, slot)| {
            let raw = RawRecord::read_from_bytes(self.slot(area, slot)?).ok()?;
            let is_newer = raw.magic == RECORD_MAGIC
                && raw.uuid == superblock.uuid
                && raw.generation.get() > superblock.generation;
            is_newer.then_some(self.areas.starts.get(area)?.saturating_add(slot_offset(slot)))
        });
        newer.collect()
    }

    /// Every slot that has a record's magic.
    fn raw(&self) -> impl Iterator<Item = RawRecord> {
        [0, 1].into_iter().flat_map(|area| self.raw_in(area))
    }

    /// The same in one area.
    pub(super) fn raw_in(&self, area: usize) -> impl Iterator<Item = RawRecord> {
        let records = [0, 1]
            .into_iter()
            .filter_map(move |slot| RawRecord::read_from_bytes(self.slot(area, slot)?).ok());
        records.filter(|raw| raw.magic == RECORD_MAGIC)
    }

    /// Whether a record bears the uuid of `superblock`, unchecked.
    pub(super) fn has_records_of(&self, superblock: &Superblock) -> bool {
        self.raw().any(|raw| raw.uuid == superblock.uuid)
    }

    /// Whether a record stands here that may forbid writing under `superblock`: any but those of a re-encryption that is under way
    /// in it, or the closing record of the last.
    pub(super) fn are_doubtful(&self, superblock: &Superblock) -> bool {
        let is_closing = |raw: &RawRecord| {
            (raw.border.get(), raw.chunk_len.get(), raw.counter.get() % 2)
                == (superblock.geometry.data_len, 0, 0)
        };
        self.raw().any(|raw| {
            raw.uuid != superblock.uuid
                || raw.generation.get() < superblock.generation
                || raw.generation.get() == superblock.generation
                    && superblock.reencryption.is_none()
                    && !is_closing(&raw)
        })
    }

    /// Whether no slot holds a record, of whichever container.
    pub(super) fn is_empty(&self) -> bool {
        self.raw().next().is_none()
    }

    /// The highest generation before that of `superblock` which a record of its container names, unchecked.
    pub(super) fn earlier_generation(&self, superblock: &Superblock) -> Option<u32> {
        let ours = self.raw().filter(|raw| raw.uuid == superblock.uuid);
        ours.map(|raw| raw.generation.get()).filter(|&generation| generation < superblock.generation).max()
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").field("areas", &self.areas).finish_non_exhaustive()
    }
}

/// NAT-REENC-19: looks for a record's chunk in its journal and, where it is not whole there, in its place.
fn whole_chunk(
    raw: &RawRecord,
    storage: &dyn Storage,
    geometry: &Geometry,
    areas: &WorkAreas,
) -> Option<WholeChunk> {
    let (checksum, border, len) = (raw.checksum, raw.border.get(), raw.chunk_len.get());
    let is_inside = border.checked_add(len).is_some_and(|end| end <= geometry.data_len);
    if checksum == NO_CHECKSUM || len == 0 || len > areas.journal_len() || !is_inside {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    let places = [areas.journal_offset(raw.counter.get()), geometry.data_offset.saturating_add(border)];
    let offset = places.into_iter().find(|&offset| {
        storage.read_exact_at(&mut bytes, offset).is_ok() && hash::sha256(&[bytes.as_slice()]) == checksum
    })?;
    Some(WholeChunk { checksum, len, offset })
}

/// A header that records of its own container show to be an old one.
pub(super) fn outdated(own: u32, newer: u32) -> Error {
    Error::new(ErrorKind::Damaged, since(own, newer)).with_hint(format!(
        "use a header backup or header file of generation {newer} (made after the re-encryption), or try strongroom header repair --scan; \
         --read-only shows what this one fits"
    ))
}

/// The same from the middle of a re-encryption: it does not open read-only either.
pub(super) fn left_behind(own: u32, newer: u32) -> Error {
    let reason = format!("{}; which part of the volume it fits is not known", since(own, newer));
    Error::new(ErrorKind::Damaged, reason).with_hint(format!(
        "use a header backup or header file of generation {newer} (made after the re-encryption), or try strongroom header repair --scan"
    ))
}

fn since(own: u32, newer: u32) -> String {
    let what = if own % 2 == 1 && newer == own.saturating_add(1) {
        "the re-encryption that was under way in it has ended since"
    } else if newer % 2 == 1 {
        "a re-encryption has begun since"
    } else {
        "the container was re-encrypted since"
    };
    format!("its header is out of date: {what} (generation {own}, and {newer} in the work areas)")
}

/// NAT-REENC-17: refuses a header that the work areas of `container` show to be an old one.
///
/// # Errors
/// `Damaged`.
pub(super) fn refuse_outdated(container: &dyn Storage, superblock: &Superblock) -> Result<()> {
    let slots = Slots::read(container, &superblock.geometry);
    match slots.and_then(|slots| slots.newer_generation(superblock)) {
        Some(newer) => Err(outdated(superblock.generation, newer)),
        None => Ok(()),
    }
}

/// Where record `counter` stands within its area.
pub(super) const fn slot_offset(counter: u64) -> u64 {
    if counter.is_multiple_of(2) { 0 } else { ALIGNMENT }
}

/// Both slots of an area.
pub(super) const SLOTS_LEN: u64 = 2 * ALIGNMENT;
/// How often they are read anew, where they change from one reading to the next.
const READINGS: usize = 8;
