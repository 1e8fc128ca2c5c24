//! The way to the device for what is written past the blocks in memory.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    super::{Fault, Result, bytes::long},
    store::Block,
};
use crate::block::{BlockError, ByteDevice};

/// The device. Nothing is written to it after a write that was lost. Clones share that.
#[derive(Debug, Clone)]
pub(super) struct Medium {
    device: Arc<ByteDevice>,
    pub(super) block_len: u32,
    has_failed: Arc<AtomicBool>,
}

impl Medium {
    pub(super) fn new(device: Arc<ByteDevice>, block_len: u32) -> Self {
        Self { device, block_len, has_failed: Arc::default() }
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        Ok(self.device.read_at(buf, offset)?)
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.check()?;
        self.noted(self.device.write_at(bytes, offset))
    }

    /// Has bytes read as zeros.
    pub(super) fn zero(&self, bytes: Range<u64>) -> Result<()> {
        self.check()?;
        self.noted(self.device.zero_range(bytes))
    }

    /// Writes content of files. A container that cannot grow loses nothing: whoever writes is told.
    pub(super) fn write_content(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.check()?;
        match self.device.write_at(bytes, offset) {
            Err(error) if error.is_full() => Err(Fault::NoSpace),
            done => self.noted(done),
        }
    }

    pub(super) fn flush(&self) -> Result<()> {
        self.check()?;
        self.noted(self.device.flush())
    }

    /// Writes blocks to where they belong, neighbours in one go.
    pub(super) fn write_blocks(&self, blocks: &BTreeMap<u64, Arc<Block>>) -> Result<()> {
        let mut run = Run::default();
        for (number, block) in blocks {
            run.add(self, *number, &block.bytes)?;
        }
        run.write(self)
    }

    /// Bytes that there are by now.
    pub(super) fn size(&self) -> u64 {
        self.device.size()
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.has_failed.load(Ordering::Relaxed) { Err(Fault::ReadOnly) } else { Ok(()) }
    }

    /// Something was lost.
    pub(super) fn fail(&self) {
        self.has_failed.store(true, Ordering::Relaxed);
    }

    fn noted(&self, done: Result<(), BlockError>) -> Result<()> {
        if done.is_err() {
            self.fail();
        }
        Ok(done?)
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
    pub(super) fn add(&mut self, medium: &Medium, place: u64, block: &[u8]) -> Result<()> {
        let next = self.start.saturating_add(long(self.bytes.len()) / u64::from(medium.block_len.max(1)));
        if !self.bytes.is_empty() && (next != place || self.bytes.len() >= LARGEST_RUN) {
            self.write(medium)?;
        }
        if self.bytes.is_empty() {
            self.start = place;
        }
        self.bytes.extend_from_slice(block);
        Ok(())
    }

    /// Writes what waits.
    pub(super) fn write(&mut self, medium: &Medium) -> Result<()> {
        if !self.bytes.is_empty() {
            medium.write(&self.bytes, self.start.saturating_mul(medium.block_len.into()))?;
        }
        self.bytes.clear();
        Ok(())
    }
}

/// Bytes written at once.
const LARGEST_RUN: usize = 1 << 20;
