//! The running transaction: which blocks of metadata were changed, and what takes one operation back.
//!
//! A block has up to four contents: at its place, in the log (committed), on its way there (committing), and in memory (running).
//! Readers see the newest. An operation that fails leaves none of its changes. What is on its way is shared with whoever writes it,
//! and copied by the operation that changes it again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    super::{Fault, Result, bytes::index},
    group::Bitmap,
    store::{Block, Store},
};

/// What is not at its place yet.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// Changed, and not in the log.
    pub(super) blocks: HashMap<u64, Arc<Block>>,
    /// Changed before, and on the way to the log.
    committing: Arc<BTreeMap<u64, Arc<Block>>>,
    /// In the log, and not at their place.
    pub(super) committed: BTreeMap<u64, Arc<Block>>,
    /// Metadata no longer, though the log has them.
    pub(super) revoked: BTreeSet<u64>,
    /// The same of what is on the way there.
    revoking: Arc<BTreeSet<u64>>,
    /// Content of files was written that no commit had flushed.
    pub(super) has_data: AtomicBool,
    /// Blocks that get their checksum before they go to the log.
    unsealed: HashMap<u64, Seal>,
    /// What the operation found, of each block that it changed.
    before: HashMap<u64, Option<Arc<Block>>>,
    newly_revoked: Vec<u64>,
    seals_before: Vec<(u64, Option<Seal>)>,
}

/// A checksum that is put in its place once, at the commit, and not at every change.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seal {
    /// That of a block of names, from this register on.
    Names(u32),
    /// That of a group's bitmap, which stands in the descriptor.
    Bitmap(u64, Bitmap),
}

/// The blocks of a transaction that is on its way to the log, and those that it revokes.
#[derive(Debug, Clone)]
pub(super) struct Transaction {
    pub(super) blocks: Arc<BTreeMap<u64, Arc<Block>>>,
    pub(super) revoked: Arc<BTreeSet<u64>>,
}

impl Transaction {
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.revoked.is_empty()
    }
}

impl Running {
    pub(super) fn newest(&self, number: u64) -> Option<Arc<Block>> {
        let older = || self.committing.get(&number).or_else(|| self.committed.get(&number));
        self.blocks.get(&number).or_else(older).map(Arc::clone)
    }

    fn remember(&mut self, number: u64) {
        if let Entry::Vacant(entry) = self.before.entry(number) {
            entry.insert(self.blocks.get(&number).cloned());
        }
    }

    /// Whether there is nothing that the log would have to get.
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.revoked.is_empty()
    }

    /// The transaction ends here; the next one begins.
    pub(super) fn freeze(&mut self) -> Transaction {
        self.committing = Arc::new(self.blocks.drain().collect());
        self.revoking = Arc::new(mem::take(&mut self.revoked));
        *self.has_data.get_mut() = false;
        Transaction { blocks: Arc::clone(&self.committing), revoked: Arc::clone(&self.revoking) }
    }

    /// What was on the way is in the log.
    pub(super) fn arrive(&mut self) {
        let blocks = mem::take(&mut self.committing);
        self.committed.extend(blocks.iter().map(|(number, block)| (*number, Arc::clone(block))));
        for number in mem::take(&mut self.revoking).iter() {
            self.committed.remove(number);
        }
    }

    /// The checksums that are to be put in their places.
    pub(super) fn take_seals(&mut self) -> HashMap<u64, Seal> {
        mem::take(&mut self.unsealed)
    }

    /// They could not be put there yet.
    pub(super) fn put_seals(&mut self, seals: HashMap<u64, Seal>) {
        self.unsealed = seals;
    }
}

impl Store {
    /// An operation begins: what was changed before stays.
    pub(super) fn begin(&mut self) {
        self.running.before.clear();
        self.running.newly_revoked.clear();
        self.running.seals_before.clear();
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
        for (number, before) in running.seals_before.drain(..).rev() {
            match before {
                Some(seal) => running.unsealed.insert(number, seal),
                None => running.unsealed.remove(&number),
            };
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
        self.no_seal(number);
        self.drop_cached(number);
        let running = &mut self.running;
        let is_logged = running.committed.contains_key(&number) || running.committing.contains_key(&number);
        if is_logged && running.revoked.insert(number) {
            running.newly_revoked.push(number);
        }
    }

    /// A block that was changed gets its checksum at the commit.
    pub(super) fn seal_later(&mut self, number: u64, seal: Seal) {
        let before = self.running.unsealed.insert(number, seal);
        self.running.seals_before.push((number, before));
    }

    /// A block has its checksum, or is gone.
    pub(super) fn no_seal(&mut self, number: u64) {
        if let Some(before) = self.running.unsealed.remove(&number) {
            self.running.seals_before.push((number, Some(before)));
        }
    }

    /// Writes content of files, from byte `skip` of block `first` on.
    pub(super) fn write_content(&self, bytes: &[u8], first: u64, skip: u64) -> Result<()> {
        let offset = first.checked_mul(self.block_len.into()).and_then(|start| start.checked_add(skip));
        // The commit that clears it has the volume to itself, so none begins in between.
        self.running.has_data.store(true, Ordering::Relaxed);
        self.medium.write_content(bytes, offset.ok_or(Fault::Damaged)?)
    }

    /// Whether something waits for the next commit.
    pub(super) fn is_waiting(&self) -> bool {
        self.running.has_data.load(Ordering::Relaxed) || !self.running.is_empty()
    }

    /// Whether something is not on the medium, as far as is known.
    pub(super) fn is_changed(&self) -> bool {
        self.is_waiting() || !self.running.committing.is_empty()
    }

    /// The blocks in the log are at their place.
    pub(super) fn settle(&mut self) {
        for (number, block) in mem::take(&mut self.running.committed) {
            self.keep(number, block);
        }
    }
}
