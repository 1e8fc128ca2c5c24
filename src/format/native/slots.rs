//! What stands in the work areas' slots, before any of it is authentic (sections 8.2 and 8.4).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::fmt;

use zerocopy::FromBytes;

use super::{
    layout::{ALIGNMENT, RECORD_LEN, RECORD_MAGIC, RawRecord},
    ledger::WorkAreas,
    record::{NO_CHECKSUM, Record},
    superblock::{Geometry, Superblock},
};
use crate::{
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
    /// The chunks of which records have the checksum, as they were read beside them.
    chunks: Vec<ReadChunk>,
}

/// Where a record says that a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ChunkPlace {
    counter: u64,
    border: u64,
    len: u64,
}

/// A chunk's new ciphertext, or not: only the volume key tells.
#[derive(Clone)]
struct ReadChunk {
    place: ChunkPlace,
    /// Where it lies in the container: in its journal, or in its place already.
    offset: u64,
    bytes: Vec<u8>,
}

impl Slots {
    /// Reads all four. What cannot be read does not count. `None` where the container has no room for them.
    pub(super) fn read(storage: &dyn Storage, geometry: &Geometry) -> Option<Self> {
        let areas = WorkAreas::of(geometry)?;
        let mut slots = Self { areas, bytes: read_slots(storage, &areas), chunks: Vec::new() };
        for _ in 0..READINGS {
            slots.chunks = slots.read_chunks(storage, geometry);
            if slots.chunks.is_empty() {
                break;
            }
            // Somebody who re-encrypts it may have gone on since. A journal is written over only once a newer record stands.
            let since = std::mem::replace(&mut slots.bytes, read_slots(storage, &areas));
            if since == slots.bytes {
                break;
            }
        }
        Some(slots)
    }

    /// NAT-REENC-19: for each record with a checksum, what is in its journal and, second, in the place of its chunk. That is
    /// less than 8 MiB, whatever the records say (NAT-GEO-04).
    fn read_chunks(&self, storage: &dyn Storage, geometry: &Geometry) -> Vec<ReadChunk> {
        let mut places: Vec<ChunkPlace> = Vec::new();
        for raw in self.raw() {
            let (border, len) = (raw.border.get(), raw.chunk_len.get());
            let place = ChunkPlace { counter: raw.counter.get(), border, len };
            let is_inside = border.checked_add(len).is_some_and(|end| end <= geometry.data_len);
            let has_chunk = len > 0 && len <= self.areas.journal_len() && raw.checksum != NO_CHECKSUM;
            if is_inside && has_chunk && !places.contains(&place) {
                places.push(place);
            }
        }
        // The newest first: what is read later may be of another moment.
        places.sort_unstable_by_key(|place| std::cmp::Reverse(place.counter));
        let read = |place: ChunkPlace| {
            let journal = self.areas.journal_offset(place.counter);
            [journal, geometry.data_offset.saturating_add(place.border)].into_iter().filter_map(
                move |offset| {
                    let mut bytes = vec![0; usize::try_from(place.len).ok()?];
                    storage.read_exact_at(&mut bytes, offset).ok()?;
                    Some(ReadChunk { place, offset, bytes })
                },
            )
        };
        places.into_iter().flat_map(read).collect()
    }

    /// Where they were read.
    pub(super) const fn areas(&self) -> &WorkAreas {
        &self.areas
    }

    /// The bytes of an area's slot, where they could be read.
    pub(super) fn slot(&self, area: usize, slot: u64) -> Option<&[u8]> {
        self.bytes.get(area)?.get(usize::try_from(slot_offset(slot)).ok()?..)?.get(..RECORD_LEN)
    }

    /// Where the chunk of a record was read of which `fits` is true.
    pub(super) fn find_chunk(&self, record: &Record, fits: impl Fn(&[u8]) -> bool) -> Option<u64> {
        let place = ChunkPlace { counter: record.counter, border: record.border, len: record.chunk_len() };
        let found = self.chunks.iter().find(|chunk| chunk.place == place && fits(&chunk.bytes))?;
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

/// The bytes of both slots of each area, where they can be read.
fn read_slots(storage: &dyn Storage, areas: &WorkAreas) -> [Vec<u8>; 2] {
    areas.starts.map(|start| {
        let mut slots = vec![0; RECORD_LEN.saturating_mul(2)];
        match storage.read_exact_at(&mut slots, start) {
            Ok(()) => slots,
            Err(_) => Vec::new(),
        }
    })
}

/// A header that records of its own container show to be an old one.
pub(super) fn outdated(own: u32, newer: u32) -> Error {
    Error::new(ErrorKind::Damaged, since(own, newer)).with_hint(format!(
        "use a header backup or header file of generation {newer} (made since), or try strongroom header repair --scan; if only the \
         size was changed, header restore puts an older backup back as well; --read-only shows what this one fits"
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
        "the container was re-encrypted since, or given another size"
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
const READINGS: usize = 32;
