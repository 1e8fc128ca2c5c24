//! The pieces that are open: not more than some at a time.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::folder::Identity;
use crate::{storage::Storage, sys::limits};

/// How many pieces may be open at a time in this process.
pub fn most_open() -> usize {
    if limits::allow_open_files(MANY_FILES) { MANY } else { FEW }
}

/// What a server has open besides fits as well.
const MANY_FILES: u64 = 512;
const MANY: usize = 256;
const FEW: usize = 24;

/// A piece that is open.
#[derive(Debug)]
pub(super) struct OpenPiece {
    storage: Arc<dyn Storage>,
    /// Whether it may have been written since it was synced last.
    is_dirty: AtomicBool,
    /// When it was used last.
    used: AtomicU64,
    /// Whether no name leads to its file any more: what is in it is lost with the descriptor.
    is_nameless: AtomicBool,
}

impl OpenPiece {
    /// Its file.
    pub(super) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// The same, for somebody who keeps it.
    pub(super) fn shared(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage)
    }

    /// Changes its file by `change`. A sync that begins later covers it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&dyn Storage) -> T) -> T {
        let changed = change(&*self.storage);
        self.is_dirty.store(true, Ordering::SeqCst);
        changed
    }

    /// Notes whether a name leads to its file.
    pub(super) fn note_name(&self, is_nameless: bool) {
        self.is_nameless.store(is_nameless, Ordering::SeqCst);
    }

    /// Whether its file goes with the descriptor. What cannot be asked has its name.
    fn is_nameless(&self) -> bool {
        let is_unlinked = |file| Identity::of(file).is_ok_and(|found| found.links == 0);
        self.is_nameless.load(Ordering::SeqCst) || self.storage.descriptor().is_some_and(is_unlinked)
    }

    fn sync(&self) -> io::Result<()> {
        if !self.is_dirty.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        self.storage.sync_data().inspect_err(|_| self.is_dirty.store(true, Ordering::SeqCst))
    }
}

/// The open pieces. The one that was not used for the longest time is closed for the next, once it is synced.
#[derive(Debug)]
pub(super) struct OpenPieces {
    most: usize,
    clock: AtomicU64,
    open: RwLock<BTreeMap<u32, Arc<OpenPiece>>>,
    /// Held while a piece is synced to be closed; what that gave, for the next sync of all.
    closing: Mutex<Option<io::Error>>,
}

impl OpenPieces {
    /// None yet, and never more than `most`, but for those in use.
    pub(super) fn new(most: usize) -> Self {
        Self { most, clock: AtomicU64::new(0), open: RwLock::default(), closing: Mutex::default() }
    }

    /// The piece of this number, where it is open.
    pub(super) fn get(&self, index: u32) -> Option<Arc<OpenPiece>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let piece = open.get(&index)?;
        piece.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(Arc::clone(piece))
    }

    /// Takes in a piece that was opened; gives the one that was open already, where another thread was faster.
    pub(super) fn insert(&self, index: u32, storage: Arc<dyn Storage>) -> Arc<OpenPiece> {
        let used = AtomicU64::new(self.clock.fetch_add(1, Ordering::Relaxed));
        let (is_dirty, is_nameless) = (AtomicBool::new(false), AtomicBool::new(false));
        let new = Arc::new(OpenPiece { storage, is_dirty, used, is_nameless });
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let piece = Arc::clone(open.entry(index).or_insert(new));
        let is_over = open.len() > self.most;
        drop(open);
        if is_over {
            self.close_one();
        }
        piece
    }

    /// The piece of this number, where it is open, for somebody who does not use it.
    pub(super) fn look_at(&self, index: u32) -> Option<Arc<OpenPiece>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(&index).map(Arc::clone)
    }

    /// Closes a piece whose file is taken away. What was written to it is of no use any more.
    pub(super) fn forget(&self, index: u32) {
        self.open.write().unwrap_or_else(PoisonError::into_inner).remove(&index);
    }

    /// So many may be open.
    pub(super) const fn most(&self) -> usize {
        self.most
    }

    /// Whether the next one that is opened has another one be closed.
    pub(super) fn is_full(&self) -> bool {
        self.open.read().unwrap_or_else(PoisonError::into_inner).len() >= self.most
    }

    /// The numbers of all open pieces.
    pub(super) fn numbers(&self) -> Vec<u32> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Closes a piece that nobody uses: one without changes, or else one that is synced first. One without a name stays.
    fn close_one(&self) {
        let mut failed = self.closing();
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        // Whoever has it takes it under this lock, so what is counted once is used by nobody, and is as it will stay.
        let idle = open.iter().filter(|(_, piece)| Arc::strong_count(piece) == 1);
        let order =
            |piece: &OpenPiece| (piece.is_dirty.load(Ordering::SeqCst), piece.used.load(Ordering::Relaxed));
        let mut idle: Vec<_> = idle.map(|(index, piece)| (order(piece), *index, piece)).collect();
        idle.sort_by_key(|(order, ..)| *order);
        let closed = idle.iter().find(|(.., piece)| !piece.is_nameless()).map(|(_, index, _)| *index);
        let Some(piece) = closed.and_then(|index| open.remove(&index)) else { return };
        drop(open);
        // The kernel tells of a write that was lost only those who have the file open.
        if let Err(error) = piece.sync() {
            *failed = Some(error);
        }
    }

    /// Syncs all pieces that were changed, those that were closed since the last time as well.
    pub(super) fn sync(&self) -> io::Result<()> {
        let mut failed = self.closing();
        let earlier = failed.take().map_or(Ok(()), Err);
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let pieces: Vec<_> = open.values().map(Arc::clone).collect();
        drop(open);
        drop(failed);
        let mut synced = Ok(());
        for piece in &pieces {
            // All of them, whatever one says.
            synced = synced.and(piece.sync());
        }
        // What was being closed meanwhile is among them, and is waited for here.
        let closed = self.closing().take().map_or(Ok(()), Err);
        earlier.and(synced).and(closed)
    }

    fn closing(&self) -> MutexGuard<'_, Option<io::Error>> {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}
