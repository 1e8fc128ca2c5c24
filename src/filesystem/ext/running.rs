//! The running transaction: which blocks of metadata were changed, and what takes one operation back.
//!
//! A block has up to three contents: at its place, in the log (committed), and in memory (running). Readers see the newest. An
//! operation that fails leaves none of its changes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
};

use super::{
    super::{
        Fault, Result,
        bytes::{index, long},
    },
    store::{Block, Store},
};
use crate::block::BlockError;

/// What is not at its place yet.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// Changed, and not in the log.
    pub(super) blocks: HashMap<u64, Arc<Block>>,
    /// In the log, and not at their place.
    pub(super) committed: BTreeMap<u64, Arc<Block>>,
    /// Metadata no longer, though the log has them.
    pub(super) revoked: BTreeSet<u64>,
    /// Content of files was written since the last flush.
    pub(super) has_data: bool,
    /// A write was lost: nothing is written from then on.
    pub(super) has_failed: bool,
    /// What the operation found, of each block that it changed.
    before: HashMap<u64, Option<Arc<Block>>>,
    newly_revoked: Vec<u64>,
}

impl Running {
    pub(super) fn newest(&self, number: u64) -> Option<Arc<Block>> {
        self.blocks.get(&number).or_else(|| self.committed.get(&number)).map(Arc::clone)
    }

    fn remember(&mut self, number: u64) {
        if let Entry::Vacant(entry) = self.before.entry(number) {
            entry.insert(self.blocks.get(&number).cloned());
        }
    }
}

impl Store {
    /// An operation begins: what was changed before stays.
    pub(super) fn begin(&mut self) {
        self.running.before.clear();
        self.running.newly_revoked.clear();
    }

    /// Takes back what was changed since [`begin`](Self::begin).
    pub(super) fn take_back(&mut self) {
        let running = &mut self.running;
        for (number, before) in running.before.drain() {
            match before {
                Some(block) => running.blocks.insert(number, block),
                None => running.blocks.remove(&number),
            };
        }
        for number in running.newly_revoked.drain(..) {
            running.revoked.remove(&number);
        }
    }

    /// A block of metadata, to be changed. Whoever asks has checked what it holds.
    pub(super) fn change(&mut self, number: u64) -> Result<&mut [u8]> {
        let now = self.block(number)?;
        self.running.remember(number);
        let block = match self.running.blocks.entry(number) {
            Entry::Occupied(entry) => {
                drop(now);
                entry.into_mut()
            }
            Entry::Vacant(entry) => entry.insert(now),
        };
        Ok(&mut Arc::make_mut(block).bytes)
    }

    /// A block that was just taken for metadata: zeros.
    pub(super) fn fresh(&mut self, number: u64) -> &mut [u8] {
        self.running.remember(number);
        let zeros = Arc::new(Block::new(vec![0; index(self.block_len)].into_boxed_slice()));
        let block = self.running.blocks.entry(number).insert_entry(zeros).into_mut();
        &mut Arc::make_mut(block).bytes
    }

    /// A block is metadata no longer. What the log has of it is not to be replayed over what comes there.
    pub(super) fn revoke(&mut self, number: u64) {
        self.running.remember(number);
        self.running.blocks.remove(&number);
        self.drop_cached(number);
        if self.running.committed.contains_key(&number) && self.running.revoked.insert(number) {
            self.running.newly_revoked.push(number);
        }
    }

    /// Writes content of files, from byte `skip` of block `first` on.
    pub(super) fn write_content(&mut self, bytes: &[u8], first: u64, skip: u64) -> Result<()> {
        let offset = first.checked_mul(self.block_len.into()).and_then(|start| start.checked_add(skip));
        self.running.has_data = true;
        self.check()?;
        match self.device.write_at(bytes, offset.ok_or(Fault::Damaged)?) {
            // The container cannot grow: whoever writes is told, and what the journal has is whole.
            Err(BlockError::Full) => Err(Fault::NoSpace),
            done => self.noted(done),
        }
    }

    /// Writes past everything.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        self.check()?;
        let written = self.device.write_at(bytes, offset);
        self.noted(written)
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.check()?;
        let flushed = self.device.flush();
        self.noted(flushed)?;
        self.running.has_data = false;
        Ok(())
    }

    /// Whether something waits for a commit.
    pub(super) fn is_changed(&self) -> bool {
        let running = &self.running;
        running.has_data || !running.blocks.is_empty() || !running.revoked.is_empty()
    }

    /// Nothing is written after a write that was lost.
    pub(super) fn check(&self) -> Result<()> {
        if self.running.has_failed { Err(Fault::ReadOnly) } else { Ok(()) }
    }

    fn noted(&mut self, done: Result<(), BlockError>) -> Result<()> {
        self.running.has_failed |= done.is_err();
        Ok(done?)
    }

    /// Writes blocks to where they belong, neighbours in one go.
    pub(super) fn write_blocks(&mut self, blocks: &BTreeMap<u64, Arc<Block>>) -> Result<()> {
        let mut run = Run::default();
        for (number, block) in blocks {
            run.add(self, *number, &block.bytes)?;
        }
        run.write(self)
    }

    /// The blocks in the log are at their place.
    pub(super) fn settle(&mut self) {
        for (number, block) in std::mem::take(&mut self.running.committed) {
            self.keep(number, block);
        }
    }
}

/// Blocks that lie together, and wait to be written in one go.
#[derive(Default)]
pub(super) struct Run {
    start: u64,
    bytes: Vec<u8>,
}

impl Run {
    /// Adds what belongs at this place. What does not go on there is written first.
    pub(super) fn add(&mut self, store: &mut Store, place: u64, block: &[u8]) -> Result<()> {
        let next = self.start.saturating_add(long(self.bytes.len()) / u64::from(store.block_len.max(1)));
        if !self.bytes.is_empty() && (next != place || self.bytes.len() >= LARGEST_RUN) {
            self.write(store)?;
        }
        if self.bytes.is_empty() {
            self.start = place;
        }
        self.bytes.extend_from_slice(block);
        Ok(())
    }

    /// Writes what waits.
    pub(super) fn write(&mut self, store: &mut Store) -> Result<()> {
        if !self.bytes.is_empty() {
            store.write(&self.bytes, self.start.saturating_mul(store.block_len.into()))?;
        }
        self.bytes.clear();
        Ok(())
    }
}

/// Bytes written at once.
const LARGEST_RUN: usize = 1 << 20;
