//! Which blocks a file has: by extents (ext4), or by lists of blocks (ext2, ext3).

use super::{
    super::{
        Fault, Result,
        bytes::{index, long, u16_at, u32_at},
    },
    checksum::crc32c,
    inode::{EXTENTS, Inode},
    volume::Volume,
};

/// Where blocks of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// From this block of the volume on.
    Data(u64),
    /// From this block on, where they were never written: they read as zeros.
    Unwritten(u64),
    /// Nowhere: they read as zeros.
    Hole,
}

/// Blocks of a file that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) place: Place,
    /// At least one.
    pub(super) blocks: u64,
}

impl Volume {
    /// Where a file's block is, and how many follow it there. Always gets on: a run has one block at least.
    pub(super) fn map(&self, inode: &Inode, block: u64) -> Result<Run> {
        let Ok(logical) = u32::try_from(block) else {
            return Ok(Run { place: Place::Hole, blocks: u64::MAX - block });
        };
        if inode.has(EXTENTS) { self.map_extents(inode, logical) } else { self.map_list(inode, logical) }
    }

    fn map_extents(&self, inode: &Inode, logical: u32) -> Result<Run> {
        let root = Node::parse(inode.root())?;
        let mut depth = root.depth;
        // Where the node that is looked at ends, as those above it say.
        let mut end = PAST;
        if depth > DEEPEST {
            return Err(Fault::Damaged);
        }
        let mut step = root.step(logical, &mut end)?;
        while depth > 0 {
            let Some(child) = step else { return Ok(hole(logical, end)) };
            let child = child.child;
            if !self.superblock.has_blocks(child, 1) {
                return Err(Fault::Damaged);
            }
            let block = self.store.block(child)?;
            let seed = self.seed_of(inode);
            block.checked(|bytes| is_node_right(seed, bytes))?;
            let node = Node::parse(&block.bytes)?;
            depth -= 1;
            if node.depth != depth {
                return Err(Fault::Damaged);
            }
            step = node.step(logical, &mut end)?;
        }
        let Some(found) = step else { return Ok(hole(logical, end)) };
        let skipped = u64::from(logical).saturating_sub(found.first);
        match found.blocks.checked_sub(skipped).filter(|left| *left > 0) {
            Some(left) => {
                let left = left.min(end.saturating_sub(u64::from(logical)).max(1));
                let first = found.child.saturating_add(skipped);
                if !self.superblock.has_blocks(first, left) {
                    return Err(Fault::Damaged);
                }
                let place = if found.is_written { Place::Data(first) } else { Place::Unwritten(first) };
                Ok(Run { place, blocks: left })
            }
            None => Ok(hole(logical, end)),
        }
    }

    fn map_list(&self, inode: &Inode, logical: u32) -> Result<Run> {
        let fan = u64::from(self.superblock.block_len / 4);
        let logical = u64::from(logical);
        if logical < DIRECT {
            let list = inode.root().get(..index(DIRECT * 4)).unwrap_or_default();
            return self.run_in(list, logical);
        }
        // The block within its tree, the tree's height, and how many blocks it has.
        let (mut within, mut height, mut span) = (logical - DIRECT, 1_u32, fan);
        while within >= span {
            within -= span;
            height += 1;
            span = span.saturating_mul(fan);
            if height > HIGHEST {
                return Ok(Run { place: Place::Hole, blocks: PAST.saturating_sub(logical).max(1) });
            }
        }
        let top = index(DIRECT).saturating_add(index(height)).saturating_sub(1);
        let mut pointer = u32_at(inode.root(), top.saturating_mul(4));
        loop {
            if pointer == 0 {
                return Ok(Run { place: Place::Hole, blocks: span.saturating_sub(within).max(1) });
            }
            if !self.superblock.has_blocks(pointer.into(), 1) {
                return Err(Fault::Damaged);
            }
            let block = self.store.block(pointer.into())?;
            span /= fan;
            if span <= 1 {
                return self.run_in(&block.bytes, within);
            }
            pointer = u32_at(&block.bytes, index((within / span).saturating_mul(4)));
            within %= span;
        }
    }

    /// The blocks that follow each other from entry `at` of a list on.
    fn run_in(&self, list: &[u8], at: u64) -> Result<Run> {
        let entries = list.get(index(at.saturating_mul(4))..).unwrap_or_default();
        let mut numbers = entries.chunks_exact(4).map(|entry| u64::from(u32_at(entry, 0)));
        let first = numbers.next().ok_or(Fault::Damaged)?;
        if first == 0 {
            let more = numbers.take_while(|number| *number == 0).count();
            return Ok(Run { place: Place::Hole, blocks: long(more).saturating_add(1) });
        }
        let mut next = first;
        let more = numbers.take_while(|number| {
            next = next.saturating_add(1);
            *number == next
        });
        let blocks = long(more.count()).saturating_add(1);
        if !self.superblock.has_blocks(first, blocks) {
            return Err(Fault::Damaged);
        }
        Ok(Run { place: Place::Data(first), blocks })
    }
}

/// What is at most left of a hole.
fn hole(logical: u32, end: u64) -> Run {
    Run { place: Place::Hole, blocks: end.saturating_sub(u64::from(logical)).max(1) }
}

/// A node of a tree of extents.
pub(super) struct Node<'a> {
    pub(super) depth: u16,
    pub(super) entries: &'a [u8],
}

/// The entry of a node under which a block falls.
struct Step {
    first: u64,
    /// Blocks, of an extent.
    blocks: u64,
    is_written: bool,
    /// The node below, or the first block of the extent.
    child: u64,
}

impl<'a> Node<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (count, most) = (index(u16_at(bytes, 2)), index(u16_at(bytes, 4)));
        let entries = bytes.get(ENTRY..).and_then(|rest| rest.get(..count.saturating_mul(ENTRY)));
        let is_possible = u16_at(bytes, 0) == MAGIC && count <= most;
        entries
            .filter(|_| is_possible)
            .map(|entries| Self { depth: u16_at(bytes, 6), entries })
            .ok_or(Fault::Damaged)
    }

    /// The last entry that does not begin behind `logical`. `end` comes down to where the next one begins.
    fn step(&self, logical: u32, end: &mut u64) -> Result<Option<Step>> {
        let (mut low, mut high) = (0, self.entries.len() / ENTRY);
        while low < high {
            let middle = usize::midpoint(low, high);
            if u32_at(self.entries, middle.saturating_mul(ENTRY)) <= logical {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if let Some(next) = self.entries.get(low.saturating_mul(ENTRY)..).filter(|rest| !rest.is_empty()) {
            *end = (*end).min(u32_at(next, 0).into());
        }
        let Some(entry) = low.checked_sub(1).and_then(|at| self.entries.get(at.saturating_mul(ENTRY)..))
        else {
            return Ok(None);
        };
        let first = u64::from(u32_at(entry, 0));
        if self.depth > 0 {
            let child = u64::from(u16_at(entry, 8)) << 32 | u64::from(u32_at(entry, 4));
            return Ok(Some(Step { first, blocks: 0, is_written: false, child }));
        }
        let len = u16_at(entry, 4);
        if len == 0 {
            return Err(Fault::Damaged);
        }
        let is_written = len <= LONGEST;
        let blocks = u64::from(if is_written { len } else { len - LONGEST });
        let child = u64::from(u16_at(entry, 6)) << 32 | u64::from(u32_at(entry, 8));
        Ok(Some(Step { first, blocks, is_written, child }))
    }
}

/// Whether the checksum behind a node's last possible entry is right.
pub(super) fn is_node_right(seed: Option<u32>, bytes: &[u8]) -> bool {
    let Some(seed) = seed else { return true };
    let at = index(u16_at(bytes, 4)).saturating_add(1).saturating_mul(ENTRY);
    let covered = bytes.get(..at).filter(|_| at.saturating_add(4) <= bytes.len());
    covered.is_some_and(|covered| crc32c(seed, covered) == u32_at(bytes, at))
}

pub(super) const MAGIC: u16 = 0xf30a;
/// Bytes of an entry, and of the header before them.
pub(super) const ENTRY: usize = 12;
pub(super) const DEEPEST: u16 = 5;
/// Blocks of the longest extent; longer ones are such as were not written.
pub(super) const LONGEST: u16 = 0x8000;
/// The end of the longest file, in blocks.
pub(super) const PAST: u64 = 1 << 32;
/// Blocks that an inode names itself.
pub(super) const DIRECT: u64 = 12;
/// The highest tree of lists.
pub(super) const HIGHEST: u32 = 3;
