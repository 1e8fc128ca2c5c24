//! Re-encryption in place: another volume key, and if wanted another cipher and sector size, while the volume may be in use.
//!
//! # How it is used
//!
//! 1. `native::StartHeader::new` draws the new volume key and seals a keyslot for each of the credentials that shall open
//!    the volume from now on. It writes nothing.
//! 2. Offline: [`Reencryption::start`], then [`Reencryption::run`] until it is [`Outcome::Finished`]. Stopped in between, by
//!    the progress callback or a power cut, [`Reencryption::resume`] goes on, in this process or another.
//!    Online: [`LiveReencryption`], which runs the same in a thread beside the users of a [`Volume`](super::Volume).
//! 3. A container that is opened meanwhile is served with both keys. Nothing goes on by itself: only these calls do it.
//!
//! # Why no write is lost
//!
//! The order of writes is that of `spec/native-v1.md`, section 8.3; its rules are cited at each. Two ideas carry it:
//!
//! - Record *k* is on the medium before the first byte of chunk *k* is overwritten, and its journal before the record. So
//!   whatever a power cut leaves of the chunk, the journal has all of it.
//! - While record *k* is the newest, opening the container copies its journal over the chunk. A user's write there would be
//!   undone by that. So writers are kept out of the chunk (a [`Fence`]) until a newer record is on the medium. The worker
//!   never sleeps or stops before it has written one (it *retires*).
//!
//! # Why it is fast
//!
//! Between record *k* and the sync before the next one nothing has to wait for anything else: chunk *k* is written in its place
//! by one thread while others read, transcode, hash and journal chunk *k* + 1. So a step leaves its chunk *pending*, journaled
//! and still old in its place, for the next step or for [`Reencryption::retire`] to write.

mod live;
mod pace;
mod parallel;
#[cfg(test)]
mod tests;

pub use live::{LiveReencryption, LiveState, LiveStatus, Work};
pub use pace::Pace;

use std::{io, ops::Range, sync::Arc};

use crate::{
    block::{AlignedBytes, Fence, MovingDevice, Transcoder},
    crypto::{rng::OsRng, secret::VolumeKey},
    error::{Error, ErrorKind, Result},
    format::native::{BLOCK_LEN, ChunkKey, Entry, StartHeader, Trace, UnderWay},
    mapping::{Holes, Mapping},
    storage::Storage,
    units::SectorSize,
};

use self::parallel::{Pieces, Team};
use super::Progress;

/// How the work is cut up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// The most bytes a chunk; less where the work areas hold less. A multiple of 4096.
    pub chunk_len: u64,
    /// How many threads share a chunk. With one, everything happens on the caller's thread, in one order.
    pub threads: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        Self { chunk_len: MAX_CHUNK_LEN, threads }
    }
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// One chunk, or a run of holes, is new.
    Moved,
    /// There is nothing left to move.
    AtTheEnd,
}

/// How a run ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All is new, and the old key is gone from the header.
    Finished,
    /// The progress callback broke it off; the container is safe, and the rest is for another run.
    Paused,
}

/// A chunk of which a record speaks.
#[derive(Debug)]
struct Chunk {
    fence: Fence,
    /// Its new ciphertext, until that is in its place. Until then the old is there.
    pending: Option<AlignedBytes>,
}

/// A re-encryption that is under way, in the hands of the one worker that moves its border.
///
/// Dropped before it was paused or finished, it leaves the last chunk closed to writers: the container is as after a power
/// cut, and opening it again heals that.
#[derive(Debug)]
pub struct Reencryption {
    storage: Arc<dyn Storage>,
    device: Arc<MovingDevice>,
    under_way: UnderWay,
    transcoder: Transcoder,
    new: Mapping,
    tuning: Tuning,
    team: Team,
    /// The chunk of the newest record, until that is no more the newest.
    last: Option<Chunk>,
    /// What the next chunk is read into.
    spare: Option<AlignedBytes>,
    trace: Trace,
    /// Whether a record may be the newest or not: nothing more can be done before the container is opened anew.
    is_stuck: bool,
}

impl Reencryption {
    /// Starts a re-encryption with a header that was made for it. Writes the header; moves no data yet.
    ///
    /// # Errors
    /// `Busy` where the header has changed since.
    pub fn start(storage: Arc<dyn Storage>, header: &StartHeader, tuning: Tuning) -> Result<Self> {
        header.write(&*storage)?;
        Self::resume(storage, Arc::clone(header.volume_key()), tuning)
    }

    /// Takes up a re-encryption that was started before. `key` is the new volume key.
    ///
    /// # Errors
    /// `NotFound` where none is under way, `Damaged` where its records were lost.
    pub fn resume(storage: Arc<dyn Storage>, key: Arc<VolumeKey>, tuning: Tuning) -> Result<Self> {
        let under_way = UnderWay::read(&*storage, key)?;
        let sector_size = under_way.moving.new.sector_size();
        Self::with(storage, under_way, tuning, sector_size)
    }

    /// The worker over what was read; its device shows sectors of `sector_size`.
    fn with(
        storage: Arc<dyn Storage>,
        under_way: UnderWay,
        tuning: Tuning,
        sector_size: SectorSize,
    ) -> Result<Self> {
        let moving = under_way.moving.clone();
        let new = moving.new.clone();
        let transcoder = Transcoder::new(moving.old.clone(), moving.new.clone());
        let chunk_len = tuning.chunk_len.min(under_way.ledger.journal_len()) / ALIGNMENT * ALIGNMENT;
        if chunk_len == 0 {
            return Err(Error::new(ErrorKind::Usage, "a chunk has at least 4096 bytes"));
        }
        let tuning = Tuning { chunk_len, threads: tuning.threads.max(1) };
        let device = Arc::new(MovingDevice::new(Arc::clone(&storage), moving, sector_size));
        Ok(Self {
            storage,
            device,
            under_way,
            transcoder,
            new,
            tuning,
            team: Team::new(tuning.threads),
            last: None,
            spare: None,
            trace: Trace::default(),
            is_stuck: false,
        })
    }

    /// Says what is to be left in the work areas at the end.
    pub const fn leave(&mut self, trace: Trace) {
        self.trace = trace;
    }

    /// The volume, usable while the border moves.
    pub fn device(&self) -> Arc<MovingDevice> {
        Arc::clone(&self.device)
    }

    /// The bytes of the volume that are new, be it in the journal.
    pub fn done(&self) -> u64 {
        let pending = self.last.as_ref().filter(|last| last.pending.is_some());
        pending.map_or_else(|| self.device.border(), |last| last.fence.range().end)
    }

    /// The new volume key.
    pub fn volume_key(&self) -> Arc<VolumeKey> {
        self.under_way.volume_key()
    }

    /// The bytes of the volume.
    pub const fn total(&self) -> u64 {
        self.under_way.data_len
    }

    /// Runs to the end, as fast as `pace` allows, unless `progress` breaks it off. It is called after each chunk, and now
    /// and then while nothing may be done.
    ///
    /// # Errors
    /// What reading, writing or syncing gave. The container is safe then, but may have to be opened anew before it goes on.
    pub fn run(&mut self, pace: &mut Pace, progress: Progress<'_>) -> Result<Outcome> {
        let result = self.run_until_told(pace, progress);
        // The first error is the one to tell. After it, what can still be made safe is.
        let rested = self.rest();
        let outcome = result?;
        rested?;
        if outcome == Outcome::Finished {
            self.finish()?;
        }
        Ok(outcome)
    }

    fn run_until_told(&mut self, pace: &mut Pace, progress: Progress<'_>) -> Result<Outcome> {
        loop {
            let before = self.done();
            if progress(before, self.total()).is_break() {
                return Ok(Outcome::Paused);
            }
            if self.step()? == Step::AtTheEnd {
                return Ok(Outcome::Finished);
            }
            pace.spend(self.done() - before);
            while let Some(wait) = pace.wait() {
                // Nobody knows how long writers of the last chunk would have to wait otherwise.
                self.retire()?;
                std::thread::sleep(wait);
                if progress(self.done(), self.total()).is_break() {
                    return Ok(Outcome::Paused);
                }
            }
        }
    }

    /// Moves over one chunk, or over a run of holes. The chunk may be in its place only after the next step, or after
    /// [`Self::retire`]; nobody can tell.
    ///
    /// # Errors
    /// As [`Self::run`]; the caller retires then.
    pub fn step(&mut self) -> Result<Step> {
        self.check_not_stuck()?;
        let (start, end) = (self.done(), self.total());
        if start >= end {
            return Ok(Step::AtTheEnd);
        }
        self.take_up()?;
        let fence = self.device.fence(start..end.min(start + self.tuning.chunk_len));
        let mut chunk = self.spare.take().unwrap_or_else(|| {
            AlignedBytes::zeroed(usize::try_from(self.tuning.chunk_len).unwrap_or(usize::MAX))
        });
        if self.is_thin() {
            let bytes = &mut chunk.as_mut_slice()[..len_of(fence.range())];
            if let Err(error) = self.read(bytes, &fence) {
                fence.lift(); // no record speaks of it
                return Err(error.into());
            }
            if self.transcoder.is_hole(bytes) {
                self.pass_holes(fence, chunk.as_mut_slice())?;
                self.spare = Some(chunk);
                return Ok(Step::Moved);
            }
        }
        self.replace(fence, chunk)?;
        Ok(Step::Moved)
    }

    /// Leaves no chunk journaled, nor any in the record before the newest: opening the container now copies nothing, and
    /// every byte may be written (NAT-REENC-12).
    ///
    /// # Errors
    /// What syncing or writing gave; the last chunk stays closed to writers then.
    pub fn retire(&mut self) -> Result<()> {
        self.check_not_stuck()?;
        if self.last.is_none() && self.under_way.ledger.is_retired() {
            return Ok(());
        }
        self.settle()?;
        let fence = self.make_durable()?;
        while !self.under_way.ledger.is_retired() {
            self.record(self.device.border(), Entry::Work)?; // two at most: one for each slot
        }
        if let Some(fence) = fence {
            fence.lift();
        }
        Ok(())
    }

    /// The same for somebody who stops: any program that knows the format may go on from here.
    ///
    /// # Errors
    /// As [`Self::retire`].
    pub fn rest(&mut self) -> Result<()> {
        self.retire()?;
        while !self.under_way.ledger.is_at_rest() {
            self.record(self.device.border(), Entry::Rest)?;
        }
        Ok(())
    }

    /// NAT-REENC-18: before the first chunk, no slot holds a record that a program from before there were checksums would
    /// take for the newest.
    fn take_up(&mut self) -> Result<()> {
        while !self.under_way.ledger.is_at_work() {
            self.record(self.device.border(), Entry::Work)?;
        }
        Ok(())
    }

    /// Ends a re-encryption whose border is at the end: the header forgets the old key.
    ///
    /// # Errors
    /// `Usage` where the border is elsewhere. What writing gave; [`Self::resume`] and this may then be tried again.
    pub fn finish(&mut self) -> Result<()> {
        self.rest()?;
        self.under_way.finish(&*self.storage, self.trace, &OsRng)
    }

    /// Reads the chunk's ciphertext.
    fn read(&self, chunk: &mut [u8], fence: &Fence) -> io::Result<()> {
        let place = self.place(fence.range().start);
        let pieces = Pieces::new(chunk.chunks_mut(PIECE_LEN).zip(offsets()), |(part, offset)| {
            self.storage.read_exact_at(part, place + offset)
        });
        self.team.run(&pieces, &nothing());
        pieces.finish()
    }

    /// Steps 1 to 4 of NAT-REENC-11, and step 5 of the chunk before. In a thin container `chunk` has the old ciphertext; else
    /// it is still to be read.
    fn replace(&mut self, fence: Fence, mut chunk: AlignedBytes) -> Result<()> {
        let range = fence.range().clone();
        let bytes = &mut chunk.as_mut_slice()[..len_of(&range)];
        // No record speaks of the new chunk before it is journaled and the one before is in its place. Then the journal is
        // made durable before a record speaks of it, and so is the chunk before, of which no record will speak any more.
        let before = self.journal(&range, bytes).and_then(|checksum| Ok((checksum, self.make_durable()?)));
        let (checksum, before) = match before {
            Ok(before) => before,
            Err(error) => {
                fence.lift();
                return Err(error);
            }
        };
        // Steps 3 and 4. Failing, either record may be found by whoever opens the container: both fences stay.
        let entry = Entry::Chunk { len: range.end - range.start, checksum: Some(checksum) };
        self.record(range.start, entry)?;
        if let Some(before) = before {
            before.lift();
        }
        self.last = Some(Chunk { fence, pending: Some(chunk) });
        Ok(())
    }

    /// Step 1: the new ciphertext of `range` goes to the journal that the newest record does not rely on. Gives its checksum.
    ///
    /// Meanwhile the chunk of the newest record, if it has one, is put in its place (step 5). The syncs that stand before
    /// both and after both are the same.
    fn journal(&mut self, range: &Range<u64>, chunk: &mut [u8]) -> Result<[u8; 32]> {
        let mut last = self.last.take();
        let pending = last.as_mut().and_then(|last| Some((last.pending.take()?, &mut last.fence)));
        let journal = self.under_way.ledger.next_journal_offset();
        let (place, is_read) = (self.place(range.start), self.is_thin());
        let key = self.under_way.ledger.chunk_key();
        let mut hashes = ChunkKey::room(chunk.len());
        let pieces = chunk.chunks_mut(PIECE_LEN).zip(hashes.chunks_mut(PIECE_LEN / BLOCK_LEN)).zip(offsets());
        let pieces = Pieces::new(pieces, |((part, hashes), offset)| {
            if !is_read {
                self.storage.read_exact_at(part, place + offset)?;
            }
            self.transcoder.transcode(part, range.start + offset);
            key.hash(part, hashes);
            self.storage.write_all_at(part, journal + offset)
        });
        let placed = match pending {
            None => {
                self.team.run(&nothing(), &pieces);
                Ok(())
            }
            Some((bytes, fence)) => {
                self.put_in_place(fence, &bytes, &pieces).map(|()| self.spare = Some(bytes))
            }
        };
        let journaled = pieces.finish();
        match placed {
            Ok(()) => self.last = last,
            // The fence is dropped unlifted: read from the journal, and not written, until the container is opened anew.
            Err(_) => self.is_stuck = true,
        }
        placed?;
        journaled?;
        Ok(key.checksum(&hashes))
    }

    /// Step 5 for the newest record's chunk, where it is still to be done.
    fn settle(&mut self) -> Result<()> {
        let Some(mut last) = self.last.take() else { return Ok(()) };
        if let Some(bytes) = last.pending.take() {
            if let Err(error) = self.put_in_place(&mut last.fence, &bytes, &nothing()) {
                self.is_stuck = true; // and the fence stays, as above
                return Err(error);
            }
            self.spare = Some(bytes);
        }
        self.last = Some(last);
        Ok(())
    }

    /// Writes the newest record's chunk in its place, and does `others` meanwhile. Whatever happens here, the journal makes it
    /// good.
    fn put_in_place(
        &self,
        fence: &mut Fence,
        chunk: &AlignedBytes,
        others: &dyn parallel::Shared,
    ) -> Result<()> {
        let range = fence.range().clone();
        let place = self.place(range.start);
        let bytes = &chunk.as_slice()[..len_of(&range)];
        let written = fence.replace(self.journaled(&range)?, || {
            let pieces = Pieces::new(bytes.chunks(PIECE_LEN).zip(offsets()), |(part, offset)| {
                self.write_in_place(part, place + offset)
            });
            self.team.run(&pieces, others);
            pieces.finish()
        });
        Ok(written?)
    }

    /// Writes new ciphertext over old, except holes, which the same place has.
    fn write_in_place(&self, part: &[u8], place: u64) -> io::Result<()> {
        for run in self.transcoder.written_runs(part) {
            let offset = place + u64::try_from(run.start).map_err(io::Error::other)?;
            self.storage.write_all_at(part.get(run).ok_or(io::ErrorKind::InvalidInput)?, offset)?;
        }
        Ok(())
    }

    /// Moves the border over holes, which are the same under every key (NAT-REENC-13). The first chunk of them is fenced.
    ///
    /// Writers are kept out until a record says that what they write there is new.
    fn pass_holes(&mut self, fence: Fence, chunk: &mut [u8]) -> Result<()> {
        let mut passed = vec![fence];
        let limit = self.total().min(self.done().saturating_add(MAX_HOLE_LEN));
        while let Some(start) = passed.last().map(|fence| fence.range().end).filter(|&start| start < limit) {
            let fence = self.device.fence(start..limit.min(start + self.tuning.chunk_len));
            // The first chunk was a whole one, unless it was the last.
            let chunk = &mut chunk[..len_of(fence.range())];
            if self.read(chunk, &fence).is_err() || !self.transcoder.is_hole(chunk) {
                fence.lift(); // looked at again, as a chunk
                break;
            }
            passed.push(fence);
        }
        let before = match self.settle().and_then(|()| self.make_durable()) {
            Ok(before) => before,
            Err(error) => {
                passed.into_iter().for_each(Fence::lift); // no record speaks of them
                return Err(error);
            }
        };
        let end = passed.last().map_or(self.device.border(), |fence| fence.range().end);
        self.record(end, Entry::Work)?;
        for mut fence in passed {
            fence.pass_holes();
            fence.lift();
        }
        if let Some(before) = before {
            before.lift();
        }
        Ok(())
    }

    /// Syncs, and gives back the fence around the newest record's chunk, which is durable in its place now.
    ///
    /// Where that fails, nobody knows what is in place on the medium, whatever the kernel's cache shows: the chunk is read
    /// from the journal from now on, and not written until the container is opened anew.
    fn make_durable(&mut self) -> Result<Option<Fence>> {
        let fence = self.last.take().map(|last| last.fence);
        let Err(error) = self.device.sync() else { return Ok(fence) };
        self.is_stuck = true;
        if let Some(mut fence) = fence {
            let journal = self.journaled(&fence.range().clone())?;
            fence.divert(journal);
        }
        Err(error.into())
    }

    /// Writes the next record and syncs.
    fn record(&mut self, border: u64, entry: Entry) -> Result<()> {
        let written = self.under_way.ledger.write_next(&*self.storage, border, entry);
        let result = written.and_then(|()| Ok(self.device.sync()?));
        self.is_stuck |= result.is_err();
        result
    }

    /// The mapping of the newest record's chunk in its journal.
    fn journaled(&self, range: &Range<u64>) -> Result<Mapping> {
        self.new
            .relocated(range, self.under_way.ledger.journal_offset())
            .map_err(|error| Error::caused_by(ErrorKind::Damaged, error))
    }

    fn check_not_stuck(&self) -> Result<()> {
        if self.is_stuck {
            let reason = "the re-encryption stopped at an error, and the container has to be opened anew";
            return Err(Error::new(ErrorKind::Io, reason).with_hint("unmount, then resume"));
        }
        Ok(())
    }

    /// Whether the container may have holes.
    fn is_thin(&self) -> bool {
        self.new.holes() == Holes::ReadAsZeros
    }

    /// Where a byte of the volume lies in the container.
    const fn place(&self, byte: u64) -> u64 {
        self.under_way.data_offset + byte
    }
}

/// A chunk's length, which fits: its buffer was allocated.
fn len_of(range: &Range<u64>) -> usize {
    usize::try_from(range.end - range.start).unwrap_or(usize::MAX)
}

/// Where each piece of a chunk begins in it.
fn offsets() -> impl Iterator<Item = u64> {
    (0..).step_by(PIECE_LEN)
}

/// No pieces.
fn nothing() -> impl parallel::Shared {
    Pieces::new(std::iter::empty::<()>(), |()| Ok(()))
}

/// All offsets of a container are multiples of this.
const ALIGNMENT: u64 = 4096;
/// More bytes a chunk make nothing faster, and writers would wait longer.
const MAX_CHUNK_LEN: u64 = 1 << 20;
/// Read, decrypted, encrypted, hashed and written, this stays in a core's own cache; a chunk has enough of them to be
/// shared evenly.
const PIECE_LEN: usize = 64 << 10;
/// More threads than this wait for memory, not for the cipher.
const MAX_THREADS: usize = 4;
/// The longest run of holes that is passed in one step: looking at it keeps writers out.
const MAX_HOLE_LEN: u64 = 64 << 20;
