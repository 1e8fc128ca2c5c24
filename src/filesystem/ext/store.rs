//! Blocks as they are now: metadata that was changed, metadata from a small cache, content from the device.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    super::{
        Fault, Result,
        bytes::{index, long},
    },
    medium::Medium,
    running::Running,
};
use crate::block::ByteDevice;

/// The device, where the journal has something newer, and what was changed since.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) medium: Medium,
    pub(super) block_len: u32,
    replayed: HashMap<u64, Copied>,
    cache: Mutex<Cache>,
    pub(super) running: Running,
}

/// Where the journal keeps a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Copied {
    /// The block of the volume that holds the copy, below 2^48, and the highest bit where its first bytes were the journal's own
    /// mark and stand as zeros.
    packed: u64,
}

impl Copied {
    pub(super) const fn new(place: u64, is_escaped: bool) -> Self {
        Self { packed: place & !ESCAPED | if is_escaped { ESCAPED } else { 0 } }
    }

    const fn place(self) -> u64 {
        self.packed & !ESCAPED
    }

    const fn is_escaped(self) -> bool {
        self.packed & ESCAPED != 0
    }
}

/// A block of metadata.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) bytes: Box<[u8]>,
    is_checked: AtomicBool,
}

impl Clone for Block {
    fn clone(&self) -> Self {
        let is_checked = AtomicBool::new(self.is_checked.load(Ordering::Relaxed));
        Self { bytes: self.bytes.clone(), is_checked }
    }
}

impl Block {
    /// One that is made here, and need not be checked.
    pub(super) fn new(bytes: Box<[u8]>) -> Self {
        Self { bytes, is_checked: AtomicBool::new(true) }
    }

    /// Has `check` look at it, once.
    pub(super) fn checked(&self, check: impl FnOnce(&[u8]) -> bool) -> Result<()> {
        if self.is_checked.load(Ordering::Relaxed) {
            return Ok(());
        }
        if !check(&self.bytes) {
            return Err(Fault::Damaged);
        }
        self.is_checked.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Blocks that were read lately: those since the last turn, and those of the turn before.
#[derive(Debug, Default)]
struct Cache {
    young: HashMap<u64, Arc<Block>>,
    old: HashMap<u64, Arc<Block>>,
}

impl Store {
    pub(super) fn new(device: Arc<ByteDevice>, block_len: u32, replayed: HashMap<u64, Copied>) -> Self {
        let (medium, cache) = (Medium::new(device, block_len), Mutex::default());
        Self { medium, block_len, replayed, cache, running: Running::default() }
    }

    /// A block of metadata. Its number was checked.
    pub(super) fn block(&self, number: u64) -> Result<Arc<Block>> {
        if let Some(block) = self.running.newest(number) {
            return Ok(block);
        }
        if let Some(block) = self.cached(number) {
            return Ok(block);
        }
        let mut bytes = vec![0; index(self.block_len)].into_boxed_slice();
        self.read(&mut bytes, number, 0)?;
        let block = Arc::new(Block { bytes, is_checked: AtomicBool::new(false) });
        self.keep(number, Arc::clone(&block));
        Ok(block)
    }

    /// Has a block in the cache, as it is on the medium.
    pub(super) fn keep(&self, number: u64, block: Arc<Block>) {
        let most = CACHED / 2 / index(self.block_len);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.young.len() >= most {
            cache.old = mem::take(&mut cache.young);
        }
        cache.young.insert(number, block);
    }

    /// Lets go of a block that is not what the cache has.
    pub(super) fn drop_cached(&self, number: u64) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.young.remove(&number);
        cache.old.remove(&number);
    }

    /// The blocks of which the journal has newer copies.
    pub(super) fn replayed(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.replayed.keys().copied().collect();
        numbers.sort_unstable();
        numbers
    }

    fn cached(&self, number: u64) -> Option<Arc<Block>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = cache.young.get(&number) {
            return Some(Arc::clone(block));
        }
        let block = cache.old.remove(&number)?;
        cache.young.insert(number, Arc::clone(&block));
        Some(block)
    }

    /// Fills `buf` from byte `skip` of block `first` on.
    pub(super) fn read(&self, buf: &mut [u8], first: u64, skip: u64) -> Result<()> {
        let block_len = u64::from(self.block_len);
        let offset =
            first.checked_mul(block_len).and_then(|start| start.checked_add(skip)).ok_or(Fault::Damaged)?;
        self.medium.read(buf, offset)?;
        if self.replayed.is_empty() {
            return Ok(());
        }
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(long(done));
            let within = at % block_len;
            let count = rest.len().min(index(block_len - within));
            if let Some(copied) = self.replayed.get(&(at / block_len)) {
                self.read_copy(rest.get_mut(..count).unwrap_or_default(), *copied, within)?;
            }
            done = done.saturating_add(count);
        }
        Ok(())
    }

    /// A part of one block, as the journal has it.
    fn read_copy(&self, buf: &mut [u8], copied: Copied, within: u64) -> Result<()> {
        let start = copied.place().checked_mul(u64::from(self.block_len)).ok_or(Fault::Damaged)?;
        self.medium.read(buf, start.saturating_add(within))?;
        if copied.is_escaped() {
            for (at, byte) in (within..).zip(buf.iter_mut()).take(MARK.len()) {
                if let Some(mark) = MARK.get(index(at)) {
                    *byte = *mark;
                }
            }
        }
        Ok(())
    }
}

/// What each block of a journal begins with.
pub(super) const MARK: [u8; 4] = [0xc0, 0x3b, 0x39, 0x98];
const ESCAPED: u64 = 1 << 63;
/// Bytes of metadata kept.
const CACHED: usize = 16 << 20;
