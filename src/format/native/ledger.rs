//! The two work areas of a re-encryption: the records that say how far it is, and the journals (sections 8.2 and 8.3).
//!
//! Record *k* stands in slot *k* mod 2 of both areas; its journal is in the front area where *k* is even, in the tail
//! where it is odd. So neither a torn record nor a torn journal touches what the record before it relies on.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::ops::Range;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::{
    checksum::ChunkKey,
    keys,
    layout::{ALIGNMENT, COPY_LEN, RECORD_LEN, RECORD_MAGIC, RECORD_VERSION, RawRecord},
    record::{Entry, NO_CHECKSUM, Record, Trace},
    slots::{SLOTS_LEN, Slots, slot_offset},
    superblock::{Geometry, Superblock},
    wipe::overwrite,
};
use crate::{
    crypto::{
        hash,
        rng::Rng,
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
    pub(super) starts: [u64; 2],
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
    pub(super) const fn journal_offset(&self, counter: u64) -> u64 {
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

/// The newest record's chunk.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    /// What it holds, in bytes of the data area.
    pub(super) range: Range<u64>,
    /// Where its new ciphertext lies in the container; `None` where that was lost.
    pub(super) offset: Option<u64>,
}

/// The records of one re-encryption: reads the newest, writes the next.
#[derive(Debug)]
pub struct Ledger {
    pub(super) areas: WorkAreas,
    key: DerivedKey,
    chunk_key: ChunkKey,
    pub(super) uuid: [u8; 16],
    pub(super) generation: u32,
    data_offset: u64,
    pub(super) data_len: u64,
    provision: Provision,
    newest: Record,
    /// Every record that counts, whichever slot it stands in.
    counting: Vec<Record>,
    /// Whether the newest record stands in both areas.
    is_doubled: bool,
    /// Where the newest record's chunk lies, if it has one and that is whole.
    journal_at: Option<u64>,
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
            chunk_key: ChunkKey::new(key, &superblock.uuid)?,
            uuid: superblock.uuid,
            generation: superblock.generation,
            data_offset: superblock.geometry.data_offset,
            data_len: superblock.geometry.data_len,
            provision: superblock.provision,
            newest: Record { counter: 0, border: 0, entry: Entry::Rest },
            counting: Vec::new(),
            is_doubled: true,
            journal_at: None,
        })
    }

    /// Finds the newest record (NAT-REENC-06).
    ///
    /// # Errors
    /// `Damaged` where no record counts.
    pub(super) fn open(superblock: &Superblock, key: &VolumeKey, slots: Option<&Slots>) -> Result<Self> {
        let mut ledger = Self::new(superblock, key)?;
        let found = slots.map(|slots| ledger.parse_all(ledger.generation, slots)).unwrap_or_default();
        ledger.counting = found.iter().flatten().flatten().copied().collect();
        // The last of those with the highest counter: from behind, that of the front.
        let newest = ledger.counting.iter().rev().max_by_key(|record| record.counter);
        ledger.newest = *newest.ok_or_else(lost)?;
        let counter = ledger.newest.counter;
        let holds = |area: &[Option<Record>; 2], least: u64| {
            area.iter().flatten().any(|record| record.counter >= least)
        };
        ledger.is_doubled = found.iter().all(|area| holds(area, counter));
        let [front, tail] = &found;
        let area = if counter.is_multiple_of(2) { front } else { tail };
        ledger.journal_at = match ledger.newest.entry {
            Entry::Rest | Entry::Work => None,
            Entry::Chunk { checksum: Some(checksum), .. } => {
                let fits = |chunk: &[u8]| ledger.chunk_key.fits(chunk, &checksum);
                slots.and_then(|slots| slots.find_chunk(&ledger.newest, fits)) // NAT-REENC-19
            }
            // NAT-REENC-07: a power cut while record k is written leaves record k - 1 beside its journal. Where neither
            // is there, something else has written over the area.
            Entry::Chunk { checksum: None, .. } => {
                holds(area, counter.saturating_sub(1)).then(|| ledger.areas.journal_offset(counter))
            }
        };
        Ok(ledger)
    }

    /// NAT-UPD-11: where the slots lie of each work area that holds a record which this header's writers did not leave there:
    /// another container's, or one of this generation or of a lower one under another key. `former` is the ledger under the
    /// old volume key, where a re-encryption is under way: what stood there before it started is under that one.
    ///
    /// A record that a power cut tore stands beside one that is under this key.
    pub(super) fn alien_slots(&self, former: Option<&Self>, slots: &Slots) -> Vec<Range<u64>> {
        let is_alien = |raw: &RawRecord| {
            raw.uuid != self.uuid
                || raw.generation.get() == self.generation
                || (raw.generation.get() < self.generation
                    && !is_half_erased(raw)
                    && !former.is_some_and(|former| former.is_authentic(raw)))
        };
        let is_ours = |raw: &RawRecord| raw.uuid == self.uuid && self.is_authentic(raw);
        let areas = self.areas.starts.into_iter().enumerate();
        let alien = areas.filter(|(area, _)| {
            let records = || slots.raw_in(*area);
            records().any(|raw| is_alien(&raw)) && !records().any(|raw| is_ours(&raw))
        });
        alien.map(|(_, start)| start..start.saturating_add(SLOTS_LEN)).collect()
    }

    /// NAT-REENC-21: how far the re-encryption was that this header says is finished, where the newest record of it says less.
    pub(super) fn unfinished(&self, slots: &Slots) -> Option<u64> {
        let before = self.generation.checked_sub(1).filter(|before| before % 2 == 1)?;
        let found = self.parse_all(before, slots);
        let newest = found.iter().flatten().flatten().max_by_key(|record| record.counter)?;
        let is_done = newest.border == self.data_len && newest.chunk_len() == 0;
        (!is_done).then_some(newest.border)
    }

    /// NAT-REENC-20: whether the closing record of this re-encryption stands in an area.
    pub(super) fn is_closed_in(&self, slots: &Slots) -> bool {
        [0, 1].into_iter().filter_map(|area| RawRecord::read_from_bytes(slots.slot(area, 0)?).ok()).any(
            |raw| {
                raw.magic == RECORD_MAGIC
                    && raw.uuid == self.uuid
                    && Some(raw.generation.get()) == self.generation.checked_add(1)
                    && self.is_authentic(&raw)
            },
        )
    }

    /// NAT-REENC-20: whether an area begins with the closing record of this generation.
    pub(super) fn is_closed(&self, area: usize, slots: &Slots) -> bool {
        let record = slots.slot(area, 0).and_then(|bytes| self.parse(self.generation, bytes));
        record.is_some_and(|record| record.entry == Entry::Rest && record.border == self.data_len)
    }

    /// Clears slots that hold records under another key (NAT-HF-10). Where no re-encryption is under way, what it left is
    /// there afterwards, under this key; else [`Self::recover`] writes the newest record there.
    pub(super) fn replace_alien(&self, storage: &dyn Storage, slots: &[Range<u64>]) -> Result<()> {
        let mut bytes = vec![0; RECORD_LEN.saturating_mul(2)];
        if self.generation > 0 && self.generation.is_multiple_of(2) {
            let record = Record { counter: 2, border: self.data_len, entry: Entry::Rest };
            let closing = self.seal(&record, self.generation);
            bytes.splice(..RECORD_LEN, closing.as_bytes().iter().copied());
        }
        for range in slots {
            storage.write_all_at(&bytes, range.start)?;
        }
        Ok(storage.sync_data()?)
    }

    /// The newest record.
    pub const fn newest(&self) -> Record {
        self.newest
    }

    /// Whether the newest record stands in both areas, and its chunk is whole.
    pub(super) fn is_intact(&self) -> bool {
        let is_whole = self.newest.chunk_len() == 0 || self.journal_at.is_some();
        self.is_doubled && is_whole && !self.is_contradictory()
    }

    /// NAT-REENC-06: whether two records have the newest's counter and say different things.
    fn is_contradictory(&self) -> bool {
        self.counting.iter().any(|other| other.counter == self.newest.counter && *other != self.newest)
    }

    /// Whether no record that counts has a chunk or another border than the newest: without the newest, the one before
    /// would say the same (NAT-REENC-12).
    pub fn is_retired(&self) -> bool {
        self.counting.iter().all(|record| record.chunk_len() == 0 && record.border == self.newest.border)
    }

    /// The same, and every one of them is a record at rest.
    pub fn is_at_rest(&self) -> bool {
        self.is_retired() && self.counting.iter().all(|record| record.entry == Entry::Rest)
    }

    /// Whether no record counts to a program from before there were checksums (NAT-REENC-18).
    pub fn is_at_work(&self) -> bool {
        self.counting.iter().all(|record| record.entry.checksum() != NO_CHECKSUM)
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
        let (border, len) = (self.newest.border, self.newest.chunk_len());
        (len > 0).then(|| Journal { range: border..border.saturating_add(len), offset: self.journal_at })
    }

    /// Where the journal of the record after the newest lies in the container.
    pub const fn next_journal_offset(&self) -> u64 {
        self.areas.journal_offset(self.newest.counter.saturating_add(1))
    }

    /// What makes the checksums of its chunks.
    pub const fn chunk_key(&self) -> &ChunkKey {
        &self.chunk_key
    }

    /// Writes the next record into both areas. It counts from the next sync on, and may count before.
    ///
    /// # Errors
    /// What writing gave; either record may be the newest on the medium then.
    pub fn write_next(&mut self, storage: &dyn Storage, border: u64, entry: Entry) -> Result<()> {
        let counter = self.newest.counter.checked_add(1).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "the records of the re-encryption have run out of numbers")
        })?;
        let record = Record { counter, border, entry };
        let bytes = self.seal(&record, self.generation);
        for start in self.areas.starts {
            storage.write_all_at(bytes.as_bytes(), start.saturating_add(slot_offset(counter)))?;
        }
        (self.newest, self.is_doubled) = (record, true);
        self.journal_at = (record.chunk_len() > 0).then(|| self.areas.journal_offset(counter));
        // It has taken the place of those in the same slot.
        self.counting.retain(|other| other.counter.is_multiple_of(2) != counter.is_multiple_of(2));
        self.counting.push(record);
        Ok(())
    }

    /// Takes their magic from all records that the first one of the next re-encryption could be mistaken beside, where a power cut
    /// tears it. Only one that says that all is done stays, in slot 0 (NAT-REENC-10).
    ///
    /// # Errors
    /// What writing gave.
    pub(super) fn make_room(&self, storage: &dyn Storage, slots: &Slots) -> Result<()> {
        let is_ours = |raw: &RawRecord| raw.uuid == self.uuid && self.is_authentic(raw);
        let is_done =
            |raw: &RawRecord| (raw.border.get(), raw.chunk_len.get()) == (self.data_len, 0) && is_ours(raw);
        // In this order each area has a record of ours as long as it has any, and the newest goes last.
        let step_of = |slot: u64, raw: &RawRecord| match slot {
            _ if !is_ours(raw) => Some(0),
            0 => (!is_done(raw)).then_some(1),
            _ => Some(2),
        };
        let places = [0, 1].into_iter().flat_map(|area| [(area, 0), (area, 1)]);
        let marked: Vec<_> = places
            .filter_map(|(area, slot)| {
                let raw = RawRecord::read_from_bytes(slots.slot(area, slot)?).ok()?;
                let start = self.areas.starts.get(area)?.saturating_add(slot_offset(slot));
                (raw.magic == RECORD_MAGIC).then_some((start, slot, raw))
            })
            .collect();
        for step in 0..3 {
            let mut is_changed = false;
            for (start, _, _) in marked.iter().filter(|(_, slot, raw)| step_of(*slot, raw) == Some(step)) {
                storage.write_all_at(&[0; RECORD_MAGIC.len()], *start)?;
                is_changed = true;
            }
            if is_changed {
                storage.sync_data()?;
            }
        }
        Ok(())
    }

    /// Writes record 1 into both areas, its magic last: a power cut leaves it whole, or none. It counts from the next sync on.
    ///
    /// # Errors
    /// What writing gave.
    pub(super) fn write_first(&mut self, storage: &dyn Storage) -> Result<()> {
        let first = Record { counter: 1, border: 0, entry: Entry::Rest };
        let mut bytes = self.seal(&first, self.generation);
        bytes.magic = [0; RECORD_MAGIC.len()];
        for start in self.areas.starts {
            storage.write_all_at(bytes.as_bytes(), start.saturating_add(slot_offset(first.counter)))?;
        }
        storage.sync_data()?;
        self.write_next(storage, first.border, first.entry)
    }

    /// Brings the container out of what a power cut or a failed sync left: puts the journaled chunk in its place, and idle
    /// records into all slots. Says what it did, where there was something to do.
    ///
    /// # Errors
    /// `Damaged` where the journal was lost, or the records contradict each other.
    pub(super) fn recover(&mut self, storage: &dyn Storage) -> Result<Option<String>> {
        self.check_recoverable()?;
        // NAT-REENC-08: after a failed sync the kernel's cache shows a record that the medium may not have, and the next
        // one goes over the last that it has for sure. One area after the other, so that a torn write leaves it in one.
        let is_whole = self.is_doubled;
        let bytes = self.seal(&self.newest, self.generation);
        for start in self.areas.starts {
            storage.write_all_at(bytes.as_bytes(), start.saturating_add(slot_offset(self.newest.counter)))?;
            storage.sync_data()?;
        }
        self.is_doubled = true;
        let journal = self.journal().and_then(|journal| Some((journal.range, journal.offset?)));
        let Some((range, offset)) = journal else {
            self.write_rest(storage, self.newest.border)?;
            let done = "a record of the re-encryption was damaged and has been written anew";
            return Ok((!is_whole).then(|| done.to_owned()));
        };
        // Chunk, sync, records, sync: until the idle record is on the medium, doing all of it again does no harm.
        self.replay(storage, &range, offset)?;
        storage.sync_data()?;
        let moved = range.end.saturating_sub(range.start);
        self.write_rest(storage, range.end)?;
        Ok(Some(format!("an interrupted re-encryption was brought to a safe state ({moved} bytes)")))
    }

    /// Whether [`Self::recover`] can bring the container to rest.
    ///
    /// # Errors
    /// `Damaged` where the journal was lost, or the records contradict each other.
    pub(super) fn check_recoverable(&self) -> Result<()> {
        if self.is_contradictory() {
            let reason = "the records of the re-encryption contradict each other"; // NAT-REENC-06
            return Err(
                Error::new(ErrorKind::Damaged, reason).with_hint("--read-only opens it; copy the files off")
            );
        }
        if self.journal().is_some_and(|journal| journal.offset.is_none()) {
            let (border, len) = (self.newest.border, self.newest.chunk_len());
            let reason = format!(
                "an interrupted re-encryption lost its journal: {len} bytes of the volume from byte {border} on"
            );
            return Err(Error::new(ErrorKind::Damaged, reason)
                .with_hint("--read-only opens the rest; copy the files off"));
        }
        Ok(())
    }

    /// Writes idle records until every slot has one with this border (NAT-REENC-12): two at most.
    fn write_rest(&mut self, storage: &dyn Storage, border: u64) -> Result<()> {
        while !(self.is_at_rest() && self.newest.border == border) {
            self.write_next(storage, border, Entry::Rest)?;
            storage.sync_data()?;
        }
        Ok(())
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
            let is_hole = self.provision == Provision::Thin
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

    /// Ends the records, once no header needs them any more: leaves the closing record of `generation` in both areas, and
    /// nothing else (NAT-REENC-20).
    ///
    /// # Errors
    /// What writing gave.
    pub(super) fn close(
        &self,
        storage: &dyn Storage,
        generation: u32,
        trace: Trace,
        rng: &dyn Rng,
    ) -> Result<()> {
        let mut kept = 0;
        // Zeros where there were none would tell of a re-encryption as well.
        let is_random = trace == Trace::Remove && self.provision == Provision::Thick;
        if trace == Trace::Remove {
            self.unmark(storage, is_random.then_some(rng))?;
        }
        if trace == Trace::Leave {
            // The next re-encryption's first record goes to the other slot.
            let counter = self.newest.counter.saturating_add(2) & !1;
            let record = Record { counter, border: self.data_len, entry: Entry::Rest };
            let bytes = self.seal(&record, generation);
            for start in self.areas.starts {
                storage.write_all_at(bytes.as_bytes(), start)?;
            }
            storage.sync_data()?;
            kept = ALIGNMENT;
        }
        for range in self.areas.ranges() {
            overwrite(storage, range.start.saturating_add(kept)..range.end, is_random.then_some(rng))?;
        }
        Ok(storage.sync_data()?)
    }

    /// Takes the magic from every slot first: a record that a power cut tears without it is none, and does not pass for one
    /// under another key (NAT-UPD-11).
    fn unmark(&self, storage: &dyn Storage, rng: Option<&dyn Rng>) -> Result<()> {
        for start in self.areas.starts {
            for slot in [0, 1] {
                let mut filling = [0; RECORD_MAGIC.len()];
                if let Some(rng) = rng {
                    rng.fill(&mut filling)?;
                }
                storage.write_all_at(&filling, start.saturating_add(slot_offset(slot)))?;
            }
        }
        Ok(storage.sync_data()?)
    }

    /// Every slot's record where it counts, area by area.
    fn parse_all(&self, generation: u32, slots: &Slots) -> [[Option<Record>; 2]; 2] {
        let parse = |area: usize, slot: u64| {
            let record = self.parse(generation, slots.slot(area, slot)?)?;
            Some(record).filter(|record| record.counter.is_multiple_of(2) == (slot == 0))
        };
        [0, 1].map(|area| [parse(area, 0), parse(area, 1)])
    }

    /// NAT-REENC-05: a record that counts.
    fn parse(&self, generation: u32, bytes: &[u8]) -> Option<Record> {
        let raw = RawRecord::read_from_bytes(bytes).ok()?;
        let is_ours = raw.magic == RECORD_MAGIC
            && raw.version.get() == RECORD_VERSION
            && raw.uuid == self.uuid
            && raw.generation.get() == generation;
        if !is_ours || !self.is_authentic(&raw) {
            return None;
        }
        let (border, chunk_len) = (raw.border.get(), raw.chunk_len.get());
        let entry = Entry::of(chunk_len, raw.checksum)?;
        let record = Record { counter: raw.counter.get(), border, entry };
        let is_aligned = border.is_multiple_of(ALIGNMENT) && chunk_len.is_multiple_of(ALIGNMENT);
        let is_inside = border.checked_add(chunk_len).is_some_and(|end| end <= self.data_len);
        let fits = chunk_len <= self.areas.journal_len && record.counter > 0;
        let is_clean = raw.reserved.iter().all(|&byte| byte == 0);
        (is_aligned && is_inside && fits && is_clean).then_some(record)
    }

    /// Whether a record was made under this volume key.
    pub(super) fn is_authentic(&self, raw: &RawRecord) -> bool {
        hash::equal(&self.mac(raw), &raw.mac)
    }

    pub(super) fn seal(&self, record: &Record, generation: u32) -> RawRecord {
        let mut raw = RawRecord::new_zeroed();
        raw.magic = RECORD_MAGIC;
        raw.version = RECORD_VERSION.into();
        raw.generation = generation.into();
        raw.uuid = self.uuid;
        raw.counter = record.counter.into();
        raw.border = record.border.into();
        raw.chunk_len = record.chunk_len().into();
        raw.checksum = record.entry.checksum();
        raw.mac = self.mac(&raw);
        raw
    }

    fn mac(&self, raw: &RawRecord) -> [u8; 64] {
        let covered = raw.as_bytes().get(..std::mem::offset_of!(RawRecord, mac)).unwrap_or_default();
        hash::hmac_sha512(self.key.expose(), &[covered])
    }
}

/// Whether a power cut left it when the areas were overwritten with zeros, as programs from before NAT-REENC-20 did in one go.
fn is_half_erased(raw: &RawRecord) -> bool {
    raw.mac.iter().all(|&byte| byte == 0)
}

fn lost() -> Error {
    let reason = "a re-encryption is under way, and no record of how far it is can be read: which part of the volume is \
                  under the old key is lost";
    Error::new(ErrorKind::Damaged, reason).with_hint("restore the container from a backup")
}
