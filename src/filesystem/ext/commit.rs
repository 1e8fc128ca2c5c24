//! Commits, and what the superblock says of a volume that is written.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    super::{
        Fault, Result,
        bytes::{index, put, short, u32_at},
    },
    features::{Feature, HAS_JOURNAL, RECOVER},
    log::Log,
    medium::Medium,
    names::seal_block,
    running::{Seal, Transaction},
    store::Block,
    superblock::{self, Checksums},
    volume::Volume,
};

/// A transaction that leaves for the medium. What is written here needs no lock: operations go on beside it in the next one.
#[derive(Debug)]
pub(super) struct Commit {
    medium: Medium,
    log: Option<Log>,
    transaction: Transaction,
    /// What must be brought to its places first.
    committed: Option<BTreeMap<u64, Arc<Block>>>,
    outcome: Arc<Outcome>,
}

/// What became of a commit, for whoever waits for it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    arrival: Mutex<Option<Arrival>>,
    news: Condvar,
}

#[derive(Debug)]
struct Arrival {
    done: Result<()>,
    log: Option<Log>,
    /// Whether what was committed before is at its places.
    is_settled: bool,
}

impl Commit {
    /// Brings it to the medium.
    pub(super) fn write(mut self) -> Arc<Outcome> {
        let done = self.bring();
        self.arrive(done);
        Arc::clone(&self.outcome)
    }

    fn bring(&mut self) -> Result<()> {
        if self.transaction.is_empty() {
            // Content that lies where it lay.
            return self.medium.flush();
        }
        let Some(log) = &mut self.log else {
            // Without a journal: content first, then all metadata. A power cut among those takes e2fsck.
            self.medium.flush()?;
            self.medium.write_blocks(&self.transaction.blocks)?;
            return self.medium.flush();
        };
        if let Some(committed) = &self.committed {
            log.checkpoint(&self.medium, committed, false)?;
        }
        log.commit(&self.medium, &self.transaction)
    }

    fn arrive(&mut self, done: Result<()>) {
        if done.is_err() {
            self.medium.fail();
        }
        let arrival = Arrival { done, log: self.log.take(), is_settled: self.committed.is_some() };
        self.outcome.arrival().get_or_insert(arrival);
        self.outcome.news.notify_all();
    }
}

impl Drop for Commit {
    /// One that was not brought to its end is lost.
    fn drop(&mut self) {
        if self.outcome.arrival().is_none() {
            self.arrive(Err(Fault::Io));
        }
    }
}

impl Outcome {
    fn arrival(&self) -> MutexGuard<'_, Option<Arrival>> {
        self.arrival.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_arrived(&self) -> bool {
        self.arrival().is_some()
    }

    /// Waits for the end of it.
    pub(super) fn wait(&self) -> Result<()> {
        let mut arrival = self.arrival();
        loop {
            if let Some(arrival) = &*arrival {
                return arrival.done;
            }
            arrival = self.news.wait(arrival).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Volume {
    /// Ends the running transaction, and has the next one begin. `None` where there was nothing in it.
    pub(super) fn begin_commit(&mut self) -> Result<Option<Commit>> {
        self.end_commit()?;
        self.store.begin();
        if self.store.running.is_empty() {
            if !*self.store.running.has_data.get_mut() {
                return Ok(None);
            }
        } else {
            self.prepare()?;
        }
        let transaction = self.store.running.freeze();
        self.space.freeze();
        let log = self.log.take();
        let is_full = log.as_ref().is_some_and(|log| log.is_full(&transaction, self.superblock.block_len));
        let committed = is_full.then(|| self.store.running.committed.clone());
        let outcome = Arc::<Outcome>::default();
        self.commit = Some(Arc::clone(&outcome));
        self.begun = self.begun.saturating_add(1);
        Ok(Some(Commit { medium: self.store.medium.clone(), log, transaction, committed, outcome }))
    }

    /// Puts in their places what is counted and summed once for all operations. Where that fails it can be done again.
    fn prepare(&mut self) -> Result<()> {
        self.note_counts()?;
        let seals = self.store.running.take_seals();
        for (number, seal) in &seals {
            if let Err(fault) = self.seal(*number, *seal) {
                self.store.running.put_seals(seals);
                return Err(fault);
            }
        }
        self.store.begin();
        self.mark_in_use()
    }

    fn seal(&mut self, number: u64, seal: Seal) -> Result<()> {
        match seal {
            Seal::Names(seed) if self.store.running.blocks.contains_key(&number) => {
                seal_block(seed, self.store.change(number)?);
                Ok(())
            }
            Seal::Names(_) => Ok(()),
            Seal::Bitmap(group, which) => self.seal_bitmap(group, which),
        }
    }

    /// The commit that nobody has waited for, where one is still being written.
    pub(super) fn commit_under_way(&self) -> Option<Arc<Outcome>> {
        self.commit.as_ref().filter(|outcome| !outcome.has_arrived()).map(Arc::clone)
    }

    /// Waits for a commit that is being written, and takes note of its end.
    pub(super) fn end_commit(&mut self) -> Result<()> {
        let Some(outcome) = self.commit.take() else { return self.store.medium.check() };
        let done = outcome.wait();
        let mut arrival = outcome.arrival();
        let arrival = arrival.as_mut().ok_or(Fault::Io)?;
        self.log = arrival.log.take();
        done?;
        if arrival.is_settled {
            self.store.settle();
        }
        self.store.running.arrive();
        if !self.has_log {
            self.store.settle();
        }
        self.space.arrive();
        self.arrived = self.begun;
        Ok(())
    }

    /// Takes note of the end of a commit, without waiting for it.
    pub(super) fn note_end(&mut self) -> Result<()> {
        if self.commit.is_none() || self.commit_under_way().is_some() { Ok(()) } else { self.end_commit() }
    }

    /// Brings everything that was done to the medium, and lets nobody in meanwhile.
    pub(super) fn commit(&mut self) -> Result<()> {
        match self.begin_commit()? {
            Some(commit) => {
                commit.write();
                self.end_commit()
            }
            None => Ok(()),
        }
    }

    /// Commits where much waits, so that no transaction comes to be longer than the log.
    pub(super) fn relieve(&mut self) -> Result<()> {
        if self.waiting() < self.most_waiting() { Ok(()) } else { self.commit() }
    }

    /// A commit that is better begun soon, as much waits.
    pub(super) fn begin_early(&mut self) -> Result<Option<Commit>> {
        if self.waiting() < self.most_waiting() / 2 || self.commit_under_way().is_some() {
            return Ok(None);
        }
        self.begin_commit()
    }

    fn waiting(&self) -> u32 {
        let running = &self.store.running;
        short(running.blocks.len().saturating_add(running.revoked.len() / 64))
    }

    fn most_waiting(&self) -> u32 {
        self.room / 4
    }

    /// What the volume says of itself while it is written.
    fn mark_in_use(&mut self) -> Result<()> {
        if self.is_marked {
            return Ok(());
        }
        let has_journal = self.superblock.features.has(HAS_JOURNAL);
        let mark = |raw: &mut [u8]| set_mark(raw, has_journal, true);
        // e2fsck asks what to do about a journal that has a start where the mark is missing.
        self.write_superblock(&mark)?;
        self.edit_superblock(mark)?;
        if let Some(log) = &mut self.log {
            log.put_start(&self.store.medium, false)?;
        }
        self.is_marked = true;
        Ok(())
    }

    /// Commits, brings everything to its place, and marks the volume as left in order.
    pub(super) fn close(&mut self) -> Result<()> {
        self.commit()?;
        if !self.is_marked {
            return Ok(());
        }
        self.checkpoint(true)?;
        let has_journal = self.superblock.features.has(HAS_JOURNAL);
        self.write_superblock(&|raw| set_mark(raw, has_journal, false))?;
        self.is_marked = false;
        Ok(())
    }

    /// Brings everything that was committed to its place. The journal is empty then, or closed.
    ///
    /// The superblock comes last: the kernel looks at the descriptors that it counts before it replays a journal.
    pub(super) fn checkpoint(&mut self, is_closed: bool) -> Result<()> {
        let (medium, head) = (&self.store.medium, self.head_block());
        if let Some(log) = &mut self.log {
            let mut rest = self.store.running.committed.clone();
            let head = rest.remove_entry(&head);
            medium.write_blocks(&rest)?;
            medium.flush()?;
            log.checkpoint(medium, &head.into_iter().collect(), is_closed)?;
            self.store.settle();
        }
        Ok(())
    }

    /// The block of the superblock.
    pub(super) fn head_block(&self) -> u64 {
        superblock::PLACE / u64::from(self.superblock.block_len)
    }

    /// Changes the superblock past the journal.
    fn write_superblock(&mut self, change: &dyn Fn(&mut [u8])) -> Result<()> {
        let mut raw = vec![0; superblock::LEN];
        self.store.medium.read(&mut raw, superblock::PLACE)?;
        change(&mut raw);
        self.superblock.seal(&mut raw);
        self.store.medium.write(&raw, superblock::PLACE)?;
        self.store.medium.flush()?;
        self.store.drop_cached(self.head_block());
        Ok(())
    }

    /// Changes the superblock.
    pub(super) fn edit_superblock(&mut self, change: impl FnOnce(&mut [u8])) -> Result<()> {
        let within = index(superblock::PLACE % u64::from(self.superblock.block_len));
        let bytes = self.store.change(self.head_block())?;
        let raw =
            bytes.get_mut(within..).and_then(|rest| rest.get_mut(..superblock::LEN)).ok_or(Fault::Damaged)?;
        change(raw);
        self.superblock.seal(raw);
        Ok(())
    }

    /// Has the volume have a feature that something new takes.
    pub(super) fn need(&mut self, feature: Feature) -> Result<()> {
        if self.superblock.features.has(feature) {
            return Ok(());
        }
        let at = self.superblock.features.add(feature);
        self.edit_superblock(|raw| {
            let field = u32_at(raw, at) | feature.bit();
            put(raw, at, &field.to_le_bytes());
        })
    }

    /// Has the superblock tell what is free.
    fn note_counts(&mut self) -> Result<()> {
        let (blocks, inodes) = (self.superblock.free_blocks, self.superblock.free_inodes);
        let is_wide = self.superblock.descriptor_len >= 64;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.edit_superblock(|raw| {
            let [a, b, c, d, high @ ..] = blocks.to_le_bytes();
            put(raw, 0xc, &[a, b, c, d]);
            if is_wide {
                put(raw, 0x158, &high);
            }
            put(raw, 0x10, &inodes.to_le_bytes());
            let [a, b, c, d, ..] = now.to_le_bytes();
            put(raw, 0x30, &[a, b, c, d]);
        })
    }
}

impl superblock::Superblock {
    /// Puts its checksum in place.
    pub(super) fn seal(&self, raw: &mut [u8]) {
        if let Checksums::All(_) = self.checksums {
            superblock::put_checksum(raw);
        }
    }
}

/// With a journal, that there may be something in it; without, that the volume is not in order.
fn set_mark(raw: &mut [u8], has_journal: bool, is_in_use: bool) {
    let (at, bit, is_set) =
        if has_journal { (0x60, RECOVER.bit(), is_in_use) } else { (0x3a, VALID, !is_in_use) };
    let field = u32_at(raw, at);
    put(raw, at, &(if is_set { field | bit } else { field & !bit }).to_le_bytes());
}

/// The state of a volume that was left in order.
const VALID: u32 = 0x1;
