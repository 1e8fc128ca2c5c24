//! Metadata in memory, written in phases.
//!
//! A change names the phase in which it may reach the medium. A commit writes phase by phase, with a flush after each, so
//! that a power cut shows every change of the phases before and any part of one phase, whatever order the medium keeps.
//! Where changes of several phases meet in one block, the block has an image for each.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    Fault, Result,
    bytes::{index, long},
};
use crate::block::ByteDevice;

/// When a change may reach the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Space is taken; with it goes the content of files.
    Take,
    /// Names come, and point to what was taken.
    Add,
    /// Names go.
    Remove,
    /// Space is given back.
    Free,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Take, Self::Add, Self::Remove, Self::Free];
}

/// A block: what the medium has, and what it will have after each phase that changes it.
#[derive(Debug)]
struct Block {
    stored: Box<[u8]>,
    images: Vec<(Phase, Box<[u8]>)>,
}

impl Block {
    /// What the medium will have once `phase` is over.
    fn after(&self, phase: Phase) -> &[u8] {
        let image = self.images.iter().rfind(|(other, _)| *other <= phase);
        image.map_or(&self.stored, |(_, image)| image)
    }

    /// Has an image for `phase`, and gives its place.
    fn image(&mut self, phase: Phase) -> usize {
        let position = self.images.partition_point(|(other, _)| *other < phase);
        if self.images.get(position).is_none_or(|(other, _)| *other != phase) {
            let before = position.checked_sub(1).and_then(|before| self.images.get(before));
            let image = before.map_or(&self.stored, |(_, image)| image).clone();
            self.images.insert(position, (phase, image));
        }
        position
    }

    fn change(&mut self, phase: Phase, at: usize, bytes: &[u8]) {
        let position = self.image(phase);
        for (_, image) in self.images.iter_mut().skip(position) {
            super::bytes::put(image, at, bytes);
        }
    }
}

/// The metadata of a volume, and the way to its data.
#[derive(Debug)]
pub(super) struct Cache {
    device: Arc<ByteDevice>,
    block_len: usize,
    /// Blocks before it are read ahead; behind it there is data among them.
    heap: u64,
    blocks: HashMap<u64, Block>,
    changed: BTreeSet<u64>,
    has_data: AtomicBool,
    has_failed: Arc<AtomicBool>,
}

impl Cache {
    /// `block_len` divides the place of everything that is read and written here.
    pub(super) fn new(device: Arc<ByteDevice>, block_len: usize, heap: u64) -> Self {
        Self {
            device,
            block_len,
            heap,
            blocks: HashMap::new(),
            changed: BTreeSet::new(),
            has_data: AtomicBool::new(false),
            has_failed: Arc::default(),
        }
    }

    /// Whether something is not on the medium yet.
    pub(super) fn is_changed(&self) -> bool {
        !self.changed.is_empty() || self.has_data.load(Ordering::Relaxed)
    }

    /// How many blocks wait for a commit.
    pub(super) fn changed(&self) -> usize {
        self.changed.len()
    }

    /// Whether a write was lost: nothing is written from then on.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// What says that, for those who do not have the cache.
    pub(super) fn failure(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.has_failed)
    }

    /// Reads metadata as it is now.
    pub(super) fn read(&mut self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.read_after(Phase::Free, buf, offset)
    }

    /// Reads metadata as the medium will have it once `phase` of the next commit is over.
    pub(super) fn read_after(&mut self, phase: Phase, buf: &mut [u8], offset: u64) -> Result<()> {
        if buf.is_empty() {
            return Ok(());
        }
        self.load(offset, long(buf.len()))?;
        let block_len = long(self.block_len);
        let mut done = 0;
        while done < buf.len() {
            let at = offset.checked_add(long(done)).ok_or(Fault::Damaged)?;
            let within = index(at % block_len);
            let block = self.blocks.get(&(at / block_len)).ok_or(Fault::Io)?;
            let source = block.after(phase).get(within..).ok_or(Fault::Damaged)?;
            let count = source.len().min(buf.len() - done);
            buf[done..done + count].copy_from_slice(&source[..count]);
            done += count;
        }
        Ok(())
    }

    /// Changes metadata.
    pub(super) fn write(&mut self, phase: Phase, offset: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.load(offset, long(bytes.len()))?;
        let block_len = long(self.block_len);
        let mut done = 0;
        while done < bytes.len() {
            let at = offset.checked_add(long(done)).ok_or(Fault::Damaged)?;
            let within = index(at % block_len);
            let count = (self.block_len - within).min(bytes.len() - done);
            let block = self.blocks.get_mut(&(at / block_len)).ok_or(Fault::Io)?;
            block.change(phase, within, &bytes[done..done + count]);
            self.changed.insert(at / block_len);
            done += count;
        }
        Ok(())
    }

    /// Changes a byte that is shared, in the image of the phase and of each later one.
    pub(super) fn change(&mut self, phase: Phase, offset: u64, change: &dyn Fn(u8) -> u8) -> Result<()> {
        self.load(offset, 1)?;
        let (number, at) = (offset / long(self.block_len), index(offset % long(self.block_len)));
        let block = self.blocks.get_mut(&number).ok_or(Fault::Io)?;
        let position = block.image(phase);
        for (_, image) in block.images.iter_mut().skip(position) {
            if let Some(byte) = image.get_mut(at) {
                *byte = change(*byte);
            }
        }
        self.changed.insert(number);
        Ok(())
    }

    /// Reads content of files.
    pub(super) fn read_data(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        Ok(self.device.read_at(buf, offset)?)
    }

    /// Writes content of files, which is not kept here.
    pub(super) fn write_data(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.check()?;
        self.has_data.store(true, Ordering::Relaxed);
        self.noted_content(self.device.write_at(bytes, offset))
    }

    /// Has it read as zeros.
    pub(super) fn zero_data(&self, offset: u64, len: u64) -> Result<()> {
        self.check()?;
        self.has_data.store(true, Ordering::Relaxed);
        self.noted_content(self.device.zero_range(offset..offset.saturating_add(len)))
    }

    /// Lets go of blocks that hold metadata no longer.
    pub(super) fn forget(&mut self, offset: u64, len: u64) {
        let block_len = long(self.block_len);
        for number in offset / block_len..offset.saturating_add(len).div_ceil(block_len) {
            self.blocks.remove(&number);
            self.changed.remove(&number);
        }
    }

    /// Writes past all phases, to the medium and here, and flushes: for the mark that the volume is in use.
    pub(super) fn write_through(&mut self, changes: &[(u64, Vec<u8>)]) -> Result<()> {
        self.check()?;
        for (offset, bytes) in changes {
            self.load(*offset, long(bytes.len()))?;
            let written = self.device.write_at(bytes, *offset);
            self.noted(written)?;
            let block_len = long(self.block_len);
            for (at, byte) in (*offset..).zip(bytes) {
                if let Some(block) = self.blocks.get_mut(&(at / block_len)) {
                    let images = block.images.iter_mut().map(|(_, image)| image);
                    for image in std::iter::once(&mut block.stored).chain(images) {
                        super::bytes::put(image, index(at % block_len), &[*byte]);
                    }
                }
            }
        }
        let flushed = self.device.flush();
        self.noted(flushed)
    }

    /// Brings everything to the medium.
    pub(super) fn commit(&mut self) -> Result<()> {
        self.check()?;
        let mut is_unflushed = self.has_data.swap(false, Ordering::Relaxed);
        for phase in Phase::ALL {
            is_unflushed |= self.write_phase(phase)?;
            if std::mem::take(&mut is_unflushed) {
                let flushed = self.device.flush();
                self.noted(flushed)?;
            }
        }
        self.changed.clear();
        if self.blocks.len() > MAX_BLOCKS {
            self.blocks.clear();
        }
        Ok(())
    }

    /// Writes what has an image of `phase`, neighbours in one go. Whether there was any.
    fn write_phase(&mut self, phase: Phase) -> Result<bool> {
        let mut run: Vec<u8> = Vec::new();
        let mut start = 0;
        let mut next = None;
        let mut any = false;
        let numbers: Vec<u64> = self.changed.iter().copied().collect();
        for number in numbers {
            let Some(block) = self.blocks.get_mut(&number) else { continue };
            if block.images.first().is_none_or(|(first, _)| *first != phase) {
                continue;
            }
            let (_, image) = block.images.remove(0);
            if image == block.stored {
                continue;
            }
            if next != Some(number) || run.len() >= LARGEST_RUN {
                any |= self.write_run(&mut run, start)?;
                start = number;
            }
            run.extend_from_slice(&image);
            next = number.checked_add(1);
            if let Some(block) = self.blocks.get_mut(&number) {
                block.stored = image;
            }
        }
        any |= self.write_run(&mut run, start)?;
        Ok(any)
    }

    fn write_run(&self, run: &mut Vec<u8>, start: u64) -> Result<bool> {
        if run.is_empty() {
            return Ok(false);
        }
        self.noted(self.device.write_at(run, start * long(self.block_len)))?;
        run.clear();
        Ok(true)
    }

    fn check(&self) -> Result<()> {
        if self.has_failed() { Err(Fault::Io) } else { Ok(()) }
    }

    /// What was lost once could be needed by what is written later.
    fn noted(&self, done: Result<(), crate::block::BlockError>) -> Result<()> {
        if done.is_err() {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        Ok(done?)
    }

    /// The same of content: a container that cannot grow loses nothing, as whoever writes is told.
    fn noted_content(&self, done: Result<(), crate::block::BlockError>) -> Result<()> {
        match done {
            Err(error) if error.is_full() => Err(Fault::NoSpace),
            done => self.noted(done),
        }
    }

    /// Has the blocks of a range in memory.
    fn load(&mut self, offset: u64, len: u64) -> Result<()> {
        let block_len = long(self.block_len);
        let end = offset.checked_add(len).filter(|end| *end <= self.device.size()).ok_or(Fault::Damaged)?;
        if self.blocks.len() > MAX_BLOCKS + index(len / block_len) {
            let changed = &self.changed;
            self.blocks.retain(|number, _| changed.contains(number));
        }
        let mut number = offset / block_len;
        let end = end.div_ceil(block_len);
        while number < end {
            if self.blocks.contains_key(&number) {
                number += 1;
                continue;
            }
            let most = if number * block_len < self.heap {
                (number + READ_AHEAD).min(self.heap / block_len).max(end.min(self.heap.div_ceil(block_len)))
            } else {
                end
            };
            let mut last = number + 1;
            while last < most && last - number < LARGEST_READ && !self.blocks.contains_key(&last) {
                last += 1;
            }
            let mut bytes = vec![0; index((last - number) * block_len)];
            self.device.read_at(&mut bytes, number * block_len)?;
            for stored in bytes.chunks(self.block_len) {
                self.blocks.insert(number, Block { stored: stored.into(), images: Vec::new() });
                number += 1;
            }
        }
        Ok(())
    }
}

/// Blocks read at once from a table.
const READ_AHEAD: u64 = 16;
/// Blocks read at once at most.
const LARGEST_READ: u64 = 1 << 11;
/// Blocks that did not change and are kept.
const MAX_BLOCKS: usize = 1 << 15;
/// Bytes written at once.
const LARGEST_RUN: usize = 1 << 20;
