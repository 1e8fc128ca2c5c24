//! What files hold, changed: written, cut off, punched, reserved.

use std::ops::Range;

use super::{
    super::{
        Fault, Kind, Result,
        bytes::{index, long, put},
    },
    extents::Extent,
    features::LARGE_FILE,
    inode::{EXTENTS, Inode},
    mapping::{LONGEST, PAST, Place},
    space::Held,
    volume::Volume,
};

/// What a range of a file becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Emptied {
    /// A hole.
    Hole,
    /// Blocks that were never written.
    Reserved,
}

impl Volume {
    /// The most bytes that a file can have.
    pub(super) fn largest_file(&self, inode: &Inode) -> u64 {
        let blocks = if inode.has(EXTENTS) { PAST - 1 } else { self.longest_list() };
        blocks.saturating_mul(self.superblock.block_len.into()).min(i64::MAX.cast_unsigned())
    }

    fn block_of(&self, offset: u64) -> u64 {
        offset / u64::from(self.superblock.block_len.max(1))
    }

    fn blocks_for(&self, len: u64) -> u64 {
        len.div_ceil(u64::from(self.superblock.block_len.max(1)))
    }

    /// Writes a part of a file that reaches over a few blocks at most, and makes it longer where it ends behind its end.
    pub(super) fn write_part(&mut self, inode: &mut Inode, offset: u64, data: &[u8]) -> Result<()> {
        let end = offset.checked_add(long(data.len())).filter(|end| *end <= self.largest_file(inode));
        let end = end.ok_or(Fault::TooLarge)?;
        if offset > inode.size {
            self.clear_tail(inode)?;
        }
        let block_len = u64::from(self.superblock.block_len);
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(long(done));
            let (block, within) = (at / block_len, at % block_len);
            let run = self.map(inode, block)?;
            let here = run.blocks.saturating_mul(block_len).saturating_sub(within);
            let count = match run.place {
                Place::Data(place) => {
                    let part = rest.get(..rest.len().min(index(here))).unwrap_or_default();
                    self.store.write_content(part, place, within)?;
                    part.len()
                }
                Place::Unwritten(_) | Place::Hole => {
                    let part = rest.get(..rest.len().min(index(here))).unwrap_or_default();
                    self.write_new(inode, block, run.place, within, part)?
                }
            };
            done = done.saturating_add(count.max(1));
        }
        if end > inode.size {
            self.grow(inode, end)?;
        }
        Ok(())
    }

    /// Writes into blocks that are a hole so far, or were never written: whole ones, with zeros around. Gives how much.
    fn write_new(
        &mut self,
        inode: &mut Inode,
        block: u64,
        now: Place,
        within: u64,
        part: &[u8],
    ) -> Result<usize> {
        let blocks = self.blocks_for(within.saturating_add(long(part.len())));
        let (place, blocks) = if let Place::Unwritten(place) = now {
            (place, blocks)
        } else {
            let taken = self.take_blocks(self.goal_for(inode, block)?, blocks.min(MOST_AT_ONCE))?;
            self.count(inode, taken.1, true)?;
            taken
        };
        let len = index(blocks.saturating_mul(self.superblock.block_len.into()));
        let part = part.get(..part.len().min(len.saturating_sub(index(within)))).unwrap_or_default();
        if part.len() == len {
            self.store.write_content(part, place, 0)?;
        } else {
            let mut bytes = vec![0; len];
            put(&mut bytes, index(within), part);
            self.store.write_content(&bytes, place, 0)?;
        }
        self.assign(inode, Extent { first: block, blocks, place, is_written: true })?;
        Ok(part.len())
    }

    /// Where a block may well lie: behind the one before it.
    fn goal_for(&self, inode: &Inode, block: u64) -> Result<u64> {
        if let Some(before) = block.checked_sub(1)
            && let Place::Data(place) | Place::Unwritten(place) = self.map(inode, before)?.place
        {
            return Ok(place.saturating_add(1));
        }
        Ok(self.home_of(inode))
    }

    /// Has blocks of a file be those of an extent.
    pub(super) fn assign(&mut self, inode: &mut Inode, extent: Extent) -> Result<()> {
        let end = extent.first.saturating_add(extent.blocks);
        let mut next = extent.first;
        while next < end {
            if inode.has(EXTENTS) {
                next = self.change_extents(inode, next..end, Some(extent), Held::Content)?;
            } else {
                let place = extent.place.saturating_add(next.saturating_sub(extent.first));
                next = next.saturating_add(self.put_in_list(inode, next, place, end.saturating_sub(next))?);
            }
        }
        Ok(())
    }

    /// Takes away blocks of a file in a range, a number of them at once. Gives the end of what was done.
    pub(super) fn cut_out(&mut self, inode: &mut Inode, range: Range<u64>) -> Result<u64> {
        let held = if inode.kind()? == Kind::Directory { Held::Metadata } else { Held::Content };
        if inode.has(EXTENTS) {
            self.change_extents(inode, range, None, held)
        } else {
            self.cut_list(inode, range, held)
        }
    }

    /// Has a file be longer, without anything in it.
    pub(super) fn grow(&mut self, inode: &mut Inode, size: u64) -> Result<()> {
        if size > self.largest_file(inode) {
            return Err(Fault::TooLarge);
        }
        inode.set_size(size);
        if i32::try_from(size).is_err() { self.need(LARGE_FILE) } else { Ok(()) }
    }

    /// Has zeros stand between the end of a file and that of its last block.
    pub(super) fn clear_tail(&mut self, inode: &mut Inode) -> Result<()> {
        let block_len = u64::from(self.superblock.block_len);
        let within = inode.size % block_len;
        if within == 0 {
            return Ok(());
        }
        self.clear_within(inode, inode.size, block_len.saturating_sub(within))
    }

    /// Writes zeros to a part of one block, where that has content.
    fn clear_within(&mut self, inode: &Inode, offset: u64, len: u64) -> Result<()> {
        let block_len = u64::from(self.superblock.block_len);
        if let Place::Data(place) = self.map(inode, offset / block_len)?.place {
            self.store.write_content(&vec![0; index(len.min(block_len))], place, offset % block_len)?;
        }
        Ok(())
    }

    /// One step of emptying a range of bytes: `done` is where the last one ended. `None` once it is empty.
    pub(super) fn empty_step(
        &mut self,
        inode: &mut Inode,
        range: &Range<u64>,
        done: u64,
        what: Emptied,
    ) -> Result<Option<u64>> {
        let block_len = u64::from(self.superblock.block_len);
        let (first, end) = (self.blocks_for(range.start), self.block_of(range.end));
        if done == 0 {
            self.clear_edges(inode, range)?;
        }
        let next = done.max(first);
        if next >= end {
            return Ok(None);
        }
        let after = match what {
            Emptied::Hole => self.cut_out(inode, next..end)?,
            Emptied::Reserved => self.reserve(inode, next, end, true)?,
        };
        debug_assert!(after > next, "a step gets on");
        Ok((after < end && after.checked_mul(block_len).is_some()).then_some(after))
    }

    /// The parts of blocks at both ends of a range.
    fn clear_edges(&mut self, inode: &Inode, range: &Range<u64>) -> Result<()> {
        let block_len = u64::from(self.superblock.block_len);
        let (head, tail) = (range.start % block_len, range.end % block_len);
        if self.block_of(range.start) == self.block_of(range.end) {
            return self.clear_within(inode, range.start, range.end.saturating_sub(range.start));
        }
        if head != 0 {
            self.clear_within(inode, range.start, block_len.saturating_sub(head))?;
        }
        if tail != 0 {
            self.clear_within(inode, range.end.saturating_sub(tail), tail)?;
        }
        Ok(())
    }

    /// Has blocks stand for a part of a file that were never written: where there is a hole, and also where there is content, if
    /// that `is_emptied`. Gives the end of what was done.
    pub(super) fn reserve(
        &mut self,
        inode: &mut Inode,
        block: u64,
        end: u64,
        is_emptied: bool,
    ) -> Result<u64> {
        if !inode.has(EXTENTS) {
            return Err(Fault::Unsupported);
        }
        let run = self.map(inode, block)?;
        let most = run.blocks.min(end.saturating_sub(block)).min(u64::from(LONGEST) - 1);
        let (place, blocks) = match run.place {
            Place::Unwritten(_) => return Ok(block.saturating_add(most)),
            Place::Data(_) if !is_emptied => return Ok(block.saturating_add(most)),
            Place::Data(place) => (place, most),
            Place::Hole => {
                let taken = self.take_blocks(self.goal_for(inode, block)?, most)?;
                self.count(inode, taken.1, true)?;
                taken
            }
        };
        self.assign(inode, Extent { first: block, blocks, place, is_written: false })?;
        Ok(block.saturating_add(blocks))
    }
}

/// Blocks that are taken for one part of a file.
const MOST_AT_ONCE: u64 = 1 << 11;
