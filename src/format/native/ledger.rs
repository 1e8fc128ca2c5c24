//! The two work areas of a re-encryption: the records that say how far it is, and the journals (sections 8.2 and 8.3).
//!
//! Record *k* stands in slot *k* mod 2 of both areas; its journal is in the front area where *k* is even, in the tail
//! where it is odd. So neither a torn record nor a torn journal touches what the record before it relies on.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{fmt, ops::Range};

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::{
    keys,
    layout::{ALIGNMENT, COPY_LEN, RECORD_LEN, RECORD_MAGIC, RECORD_VERSION, RawRecord},
    superblock::{Geometry, Superblock},
};
use crate::{
    crypto::{
        hash,
        secret::{DerivedKey, VolumeKey},
    },
    error::{Error, ErrorKind, Result},
    format::Provision,
    storage::Storage,
};

/// Where the work areas lie, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkAreas {
    /// The front and the tail.
    starts: [u64; 2],
    /// What both can hold of ciphertext.
    journal_len: u64,
}

impl WorkAreas {
    /// NAT-REENC-04: the work areas of a container; `None` where one is too small for two records and 4 KiB of journal.
    pub fn of(geometry: &Geometry) -> Option<Self> {
        let copy_len = u64::try_from(COPY_LEN).ok()?;
        let tail = geometry.backup_offset.checked_add(copy_len)?;
        let front_len = geometry.data_offset.checked_sub(copy_len)?;
        let tail_len = geometry.container_len.checked_sub(tail)?;
        let journal_len = front_len.min(tail_len).checked_sub(SLOTS_LEN).filter(|&len| len >= ALIGNMENT)?;
        Some(Self { starts: [copy_len, tail], journal_len })
    }

    /// The most bytes that one record can journal.
    pub const fn journal_len(&self) -> u64 {
        self.journal_len
    }

    /// Where the journal of record `counter` starts.
    const fn journal_offset(&self, counter: u64) -> u64 {
        self.start_for(counter).saturating_add(SLOTS_LEN)
    }

    /// The area in which the journal of record `counter` lies.
    const fn start_for(&self, counter: u64) -> u64 {
        let [front, tail] = self.starts;
        if counter.is_multiple_of(2) { front } else { tail }
    }

    /// Both areas, each as one range.
    pub fn ranges(&self) -> [Range<u64>; 2] {
        let len = self.journal_len.saturating_add(SLOTS_LEN);
        self.starts.map(|start| start..start.saturating_add(len))
    }
}

/// The records that stand in the work areas, unchecked: nothing counts before its MAC was checked.
#[derive(Clone)]
pub(super) struct Slots {
    areas: WorkAreas,
    /// For each area, both slots.
    bytes: [Vec<u8>; 2],
}

impl Slots {
    /// Reads all four. What cannot be read does not count.
    pub(super) fn read(storage: &dyn Storage, areas: WorkAreas) -> Self {
        let bytes = areas.starts.map(|start| {
            let mut slots = vec![0; RECORD_LEN.saturating_mul(2)];
            match storage.read_exact_at(&mut slots, start) {
                Ok(()) => slots,
                Err(_) => Vec::new(),
            }
        });
        Self { areas, bytes }
    }

    /// Where they were read.
    pub(super) const fn areas(&self) -> &WorkAreas {
        &self.areas
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").field("areas", &self.areas).finish_non_exhaustive()
    }
}

/// How far a re-encryption is: the first `border` bytes of the data area are new, the next `chunk_len` bytes have their
/// new ciphertext in the journal, whatever stands in their place, and the rest is old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Counts up by one from record to record.
    pub counter: u64,
    /// Bytes of the data area.
    pub border: u64,
    /// Bytes of the data area; 0 where no chunk is journaled.
    pub chunk_len: u64,
}

/// The newest record's chunk.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    /// What it holds, in bytes of the data area.
    pub(super) range: Range<u64>,
    /// Where it lies in the container; `None` where the work area was lost.
    pub(super) offset: Option<u64>,
}

/// The records of one re-encryption: reads the newest, writes the next.
#[derive(Debug)]
pub struct Ledger {
    areas: WorkAreas,
    key: DerivedKey,
    uuid: [u8; 16],
    generation: u32,
    data_offset: u64,
    data_len: u64,
    is_thin: bool,
    newest: Record,
    /// Whether the newest record stands in both areas.
    is_doubled: bool,
    /// Whether the area of the newest record's journal is as its records left it.
    has_journal: bool,
}

impl Ledger {
    /// The ledger of a re-encryption that is about to start: nothing is written, and record 1 comes next.
    ///
    /// # Errors
    /// `Unsupported` where the work areas are too small (NAT-REENC-04).
    pub(super) fn new(superblock: &Superblock, key: &VolumeKey) -> Result<Self> {
        let areas = WorkAreas::of(&superblock.geometry).ok_or_else(|| {
            let reason = "the container has no room to re-encrypt in place: its work areas are too small";
            Error::new(ErrorKind::Unsupported, reason).with_hint("make a new container and copy the files")
        })?;
        Ok(Self {
            areas,
            key: keys::record_key(key, &superblock.uuid)?,
            uuid: superblock.uuid,
            generation: superblock.generation,
            data_offset: superblock.geometry.data_offset,
            data_len: superblock.geometry.data_len,
            is_thin: superblock.provision == Provision::Thin,
            newest: Record { counter: 0, border: 0, chunk_len: 0 },
            is_doubled: true,
            has_journal: true,
        })
    }

    /// Finds the newest record (NAT-REENC-06).
    ///
    /// # Errors
    /// `Damaged` where no record counts.
    pub(super) fn open(superblock: &Superblock, key: &VolumeKey, slots: Option<&Slots>) -> Result<Self> {
        let mut ledger = Self::new(superblock, key)?;
        let found = slots.map(|slots| ledger.parse_all(slots)).unwrap_or_default();
        let newest = found.iter().flatten().flatten().max_by_key(|record| record.counter);
        ledger.newest = *newest.ok_or_else(lost)?;
        let counter = ledger.newest.counter;
        let holds = |area: &[Option<Record>; 2], least: u64| {
            area.iter().flatten().any(|record| record.counter >= least)
        };
        ledger.is_doubled = found.iter().all(|area| holds(area, counter));
        // NAT-REENC-07: a power cut while record k is written leaves record k - 1 beside its journal. Where neither is
        // there, something else has written over the area.
        let [front, tail] = &found;
        let area = if counter.is_multiple_of(2) { front } else { tail };
        ledger.has_journal = holds(area, counter.saturating_sub(1));
        Ok(ledger)
    }

    /// The newest record.
    pub const fn newest(&self) -> Record {
        self.newest
    }

    /// Whether the newest record stands in both areas, and its journal is there.
    pub(super) const fn is_intact(&self) -> bool {
        self.is_doubled && self.has_journal
    }

    /// The most bytes that one record can journal.
    pub const fn journal_len(&self) -> u64 {
        self.areas.journal_len
    }

    /// Where the journal of the newest record lies in the container.
    pub const fn journal_offset(&self) -> u64 {
        self.areas.journal_offset(self.newest.counter)
    }

    /// The newest record's chunk; `None` where it has none.
    pub(super) fn journal(&self) -> Option<Journal> {
        let Record { counter, border, chunk_len } = self.newest;
        (chunk_len > 0).then(|| Journal {
            range: border..border.saturating_add(chunk_len),
            offset: self.has_journal.then(|| self.areas.journal_offset(counter)),
        })
    }

    /// Where the journal of the record after the newest lies in the container.
    pub const fn next_journal_offset(&self) -> u64 {
        self.areas.journal_offset(self.newest.counter.saturating_add(1))
    }

    /// Writes the next record into both areas. It counts from the next sync on, and may count before.
    ///
    /// # Errors
    /// What writing gave; either record may be the newest on the medium then.
    pub fn write_next(&mut self, storage: &dyn Storage, border: u64, chunk_len: u64) -> Result<()> {
        let counter = self.newest.counter.checked_add(1).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "the records of the re-encryption have run out of numbers")
        })?;
        let record = Record { counter, border, chunk_len };
        let bytes = self.seal(&record);
        for start in self.areas.starts {
            storage.write_all_at(bytes.as_bytes(), start.saturating_add(slot_offset(counter)))?;
        }
        (self.newest, self.is_doubled, self.has_journal) = (record, true, true);
        Ok(())
    }

    /// Brings the container out of what a power cut or a failed sync left: puts the journaled chunk in its place, and an
    /// idle record into both areas. Says what it did, where there was something to do.
    ///
    /// # Errors
    /// `Damaged` where the journal was lost.
    pub(super) fn recover(&mut self, storage: &dyn Storage) -> Result<Option<String>> {
        let Record { border, chunk_len, .. } = self.newest;
        let journal = self.journal();
        if journal.as_ref().is_some_and(|journal| journal.offset.is_none()) {
            let reason = format!(
                "an interrupted re-encryption lost its journal: {chunk_len} bytes of the volume from byte {border} on"
            );
            return Err(Error::new(ErrorKind::Damaged, reason)
                .with_hint("--read-only opens the rest; copy the files off"));
        }
        // NAT-REENC-08: after a failed sync the kernel's cache shows a record that the medium may not have, and the next
        // one goes over the last that it has for sure. One area after the other, so that a torn write leaves it in one.
        let is_whole = self.is_doubled;
        let bytes = self.seal(&self.newest);
        for start in self.areas.starts {
            storage.write_all_at(bytes.as_bytes(), start.saturating_add(slot_offset(self.newest.counter)))?;
            storage.sync_data()?;
        }
        self.is_doubled = true;
        let Some((range, offset)) = journal.and_then(|journal| Some((journal.range, journal.offset?))) else {
            let done = "a record of the re-encryption was damaged and has been written anew";
            return Ok((!is_whole).then(|| done.to_owned()));
        };
        // Chunk, sync, record, sync: until the idle record is on the medium, doing all of it again does no harm.
        self.replay(storage, &range, offset)?;
        storage.sync_data()?;
        self.write_next(storage, range.end, 0)?;
        storage.sync_data()?;
        Ok(Some(format!("an interrupted re-encryption was brought to a safe state ({chunk_len} bytes)")))
    }

    /// Copies the journal to its place; all of it, also what reads the same there already: after a failed sync the kernel's
    /// cache holds what the medium does not. Only holes of a thin container, which nobody has written, stay holes.
    fn replay(&self, storage: &dyn Storage, range: &Range<u64>, journal: u64) -> Result<()> {
        let (mut new, mut old) = (vec![0; RECORD_LEN], vec![0; RECORD_LEN]);
        let mut done = 0;
        while done < range.end.saturating_sub(range.start) {
            let place = self.data_offset.saturating_add(range.start).saturating_add(done);
            storage.read_exact_at(&mut new, journal.saturating_add(done))?;
            let is_zero = |block: &[u8]| block.iter().all(|&byte| byte == 0);
            let is_hole = self.is_thin
                && is_zero(&new)
                && storage.read_exact_at(&mut old, place).is_ok()
                && is_zero(&old);
            if !is_hole {
                storage.write_all_at(&new, place)?;
            }
            done = done.saturating_add(ALIGNMENT);
        }
        Ok(())
    }

    /// Overwrites both work areas with zeros, once no header needs them any more.
    pub(super) fn erase(&self, storage: &dyn Storage) -> Result<()> {
        let zeros = vec![0; ERASE_LEN];
        for range in self.areas.ranges() {
            let mut offset = range.start;
            while offset < range.end {
                let left = usize::try_from(range.end.saturating_sub(offset)).unwrap_or(ERASE_LEN);
                let piece = zeros.get(..left.min(ERASE_LEN)).unwrap_or(&zeros);
                storage.write_all_at(piece, offset)?;
                offset = offset.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            }
        }
        Ok(storage.sync_data()?)
    }

    /// Every slot's record where it counts, area by area.
    fn parse_all(&self, slots: &Slots) -> [[Option<Record>; 2]; 2] {
        let parse = |area: &Vec<u8>, slot: u64| {
            let bytes = area.get(usize::try_from(slot_offset(slot)).ok()?..)?.get(..RECORD_LEN)?;
            self.parse(bytes).filter(|record| record.counter.is_multiple_of(2) == (slot == 0))
        };
        let [front, tail] = &slots.bytes;
        [front, tail].map(|area| [parse(area, 0), parse(area, 1)])
    }

    /// NAT-REENC-05: a record that counts.
    fn parse(&self, bytes: &[u8]) -> Option<Record> {
        let raw = RawRecord::read_from_bytes(bytes).ok()?;
        let is_ours = raw.magic == RECORD_MAGIC
            && raw.version.get() == RECORD_VERSION
            && raw.uuid == self.uuid
            && raw.generation.get() == self.generation;
        if !is_ours || !hash::equal(&self.mac(&raw), &raw.mac) {
            return None;
        }
        let record =
            Record { counter: raw.counter.get(), border: raw.border.get(), chunk_len: raw.chunk_len.get() };
        let is_aligned =
            record.border.is_multiple_of(ALIGNMENT) && record.chunk_len.is_multiple_of(ALIGNMENT);
        let is_inside = record.border.checked_add(record.chunk_len).is_some_and(|end| end <= self.data_len);
        let fits = record.chunk_len <= self.areas.journal_len && record.counter > 0;
        let is_clean = raw.reserved.iter().all(|&byte| byte == 0);
        (is_aligned && is_inside && fits && is_clean).then_some(record)
    }

    fn seal(&self, record: &Record) -> RawRecord {
        let mut raw = RawRecord::new_zeroed();
        raw.magic = RECORD_MAGIC;
        raw.version = RECORD_VERSION.into();
        raw.generation = self.generation.into();
        raw.uuid = self.uuid;
        raw.counter = record.counter.into();
        raw.border = record.border.into();
        raw.chunk_len = record.chunk_len.into();
        raw.mac = self.mac(&raw);
        raw
    }

    fn mac(&self, raw: &RawRecord) -> [u8; 64] {
        let covered = raw.as_bytes().get(..std::mem::offset_of!(RawRecord, mac)).unwrap_or_default();
        hash::hmac_sha512(self.key.expose(), &[covered])
    }
}

/// Where record `counter` stands within its area.
const fn slot_offset(counter: u64) -> u64 {
    if counter.is_multiple_of(2) { 0 } else { ALIGNMENT }
}

fn lost() -> Error {
    let reason = "a re-encryption is under way, and no record of how far it is can be read: which part of the volume is \
                  under the old key is lost";
    Error::new(ErrorKind::Damaged, reason).with_hint("restore the container from a backup")
}

/// Both slots of an area.
const SLOTS_LEN: u64 = 2 * ALIGNMENT;
const ERASE_LEN: usize = 1 << 20;
