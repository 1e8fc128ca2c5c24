//! Lists of blocks (ext2, ext3), changed: twelve in the inode, then trees of one, two and three levels.

use std::ops::Range;

use super::{
    super::{
        Fault, Result,
        bytes::{index, long, put, u32_at},
    },
    inode::Inode,
    mapping::{DIRECT, HIGHEST, PAST},
    space::Held,
    volume::Volume,
};

/// The way to a block's entry: the field in the inode, and in each list below it the position.
#[derive(Debug)]
struct Way {
    top: usize,
    within: Vec<usize>,
    /// Blocks that the last list has from there on.
    left: u64,
    /// The first block of the file behind the whole tree, or behind the twelve.
    end: u64,
}

impl Volume {
    /// The way to a block; `None` where no list reaches.
    fn way_to(&self, block: u64) -> Option<Way> {
        let fan = u64::from(self.superblock.block_len / 4);
        if block < DIRECT {
            return Some(Way { top: index(block), within: Vec::new(), left: DIRECT - block, end: DIRECT });
        }
        let (mut within, mut span, mut height) = (block - DIRECT, fan, 1);
        let mut end = DIRECT.saturating_add(fan);
        while within >= span {
            within -= span;
            span = span.checked_mul(fan)?;
            height += 1;
            end = end.saturating_add(span);
            if height > HIGHEST {
                return None;
            }
        }
        let top = index(DIRECT).saturating_add(index(height)).saturating_sub(1);
        let mut positions = Vec::new();
        for _ in 0..height {
            span = (span / fan).max(1);
            positions.push(index(within / span));
            within %= span;
        }
        let last = positions.last().map_or(0, |last| u64::try_from(*last).unwrap_or_default());
        Some(Way { top, within: positions, left: fan.saturating_sub(last), end: end.min(PAST) })
    }

    /// The end of the longest file with lists, in blocks.
    pub(super) fn longest_list(&self) -> u64 {
        let fan = u64::from(self.superblock.block_len / 4);
        let two = fan.saturating_mul(fan);
        DIRECT.saturating_add(fan).saturating_add(two).saturating_add(two.saturating_mul(fan)).min(PAST - 1)
    }

    fn list_field(inode: &Inode, at: usize) -> u32 {
        u32_at(inode.root(), at.saturating_mul(4))
    }

    fn put_list_field(inode: &mut Inode, at: usize, value: u64) -> Result<()> {
        let value = u32::try_from(value).map_err(|_| Fault::TooLarge)?;
        let mut root = inode.root().to_vec();
        put(&mut root, at.saturating_mul(4), &value.to_le_bytes());
        inode.set_root(&root);
        Ok(())
    }

    fn check_list(&self, number: u32) -> Result<u64> {
        if self.superblock.has_blocks(number.into(), 1) { Ok(number.into()) } else { Err(Fault::Damaged) }
    }

    /// Has blocks of a file be those from `place` on: as many as one list holds, at most `count`. Gives how many.
    pub(super) fn put_in_list(
        &mut self,
        inode: &mut Inode,
        first: u64,
        place: u64,
        count: u64,
    ) -> Result<u64> {
        let way = self.way_to(first).ok_or(Fault::TooLarge)?;
        let count = count.min(way.left);
        let Some((lowest, upper)) = way.within.split_last() else {
            for more in 0..count {
                Self::put_list_field(inode, way.top.saturating_add(index(more)), place.saturating_add(more))?;
            }
            return Ok(count);
        };
        let mut list = match Self::list_field(inode, way.top) {
            0 => {
                let made = self.new_list(inode, place)?;
                Self::put_list_field(inode, way.top, made)?;
                made
            }
            number => self.check_list(number)?,
        };
        for position in upper {
            let at = position.saturating_mul(4);
            list = match u32_at(&self.store.block(list)?.bytes, at) {
                0 => {
                    let new = self.new_list(inode, place)?;
                    let field = u32::try_from(new).map_err(|_| Fault::TooLarge)?;
                    put(self.store.change(list)?, at, &field.to_le_bytes());
                    new
                }
                number => self.check_list(number)?,
            };
        }
        let bytes = self.store.change(list)?;
        for more in 0..count {
            let field = u32::try_from(place.saturating_add(more)).map_err(|_| Fault::TooLarge)?;
            put(bytes, lowest.saturating_add(index(more)).saturating_mul(4), &field.to_le_bytes());
        }
        Ok(count)
    }

    fn new_list(&mut self, inode: &mut Inode, goal: u64) -> Result<u64> {
        let (number, _) = self.take_blocks(goal, 1)?;
        self.store.fresh(number);
        self.count(inode, 1, true)?;
        Ok(number)
    }

    /// Takes away a file's blocks in a range, as far as one list reaches. Gives the end of what was done.
    pub(super) fn cut_list(&mut self, inode: &mut Inode, range: Range<u64>, held: Held) -> Result<u64> {
        let Some(way) = self.way_to(range.start) else { return Ok(range.end) };
        if way.within.is_empty() {
            let end = range.end.min(DIRECT);
            let numbers: Vec<u32> =
                (range.start..end).map(|block| Self::list_field(inode, index(block))).collect();
            for block in range.start..end {
                Self::put_list_field(inode, index(block), 0)?;
            }
            self.free_listed(inode, &numbers, held)?;
            return Ok(end);
        }
        let fan = u64::from(self.superblock.block_len / 4);
        // The lists on the way, and the position in each; and how far it is to the end of a subtree that is not there.
        let mut lists: Vec<(u64, usize)> = Vec::new();
        let mut number = Self::list_field(inode, way.top);
        let mut skipped = way.end;
        for (level, position) in way.within.iter().enumerate() {
            if number == 0 {
                return Ok(skipped.min(range.end));
            }
            let list = self.check_list(number)?;
            lists.push((list, *position));
            let block = self.store.block(list)?;
            let entries = block.bytes.get(position.saturating_mul(4)..).unwrap_or_default();
            number = u32_at(entries, 0);
            // All that are empty, and at least one.
            let empty = entries.chunks_exact(4).take_while(|entry| u32_at(entry, 0) == 0).count().max(1);
            let below = power(fan, way.within.len().saturating_sub(level).saturating_sub(1));
            let before = self.before_tree(way.within.len()).saturating_add(DIRECT);
            let first = range.start.saturating_sub(before).checked_div(below).unwrap_or(0);
            skipped = first.saturating_add(long(empty)).saturating_mul(below).saturating_add(before);
        }
        let count = index(way.left.min(range.end.saturating_sub(range.start))).min(MOST_AT_ONCE);
        let Some(&(leaf, position)) = lists.last() else { return Err(Fault::Damaged) };
        let start = position.saturating_mul(4);
        let end = start.saturating_add(count.saturating_mul(4));
        let bytes = self.store.change(leaf)?;
        let field = bytes.get_mut(start..end).ok_or(Fault::Damaged)?;
        let numbers: Vec<u32> = field.chunks_exact(4).map(|entry| u32_at(entry, 0)).collect();
        field.fill(0);
        self.free_listed(inode, &numbers, held)?;
        self.drop_empty(inode, way.top, &lists)?;
        Ok(range.start.saturating_add(u64::try_from(count).unwrap_or_default()))
    }

    /// Blocks behind the twelve that lie before a tree of this height.
    fn before_tree(&self, height: usize) -> u64 {
        let fan = u64::from(self.superblock.block_len / 4);
        (1..height).fold(0, |all, height| all.saturating_add(power(fan, height)))
    }

    /// Gives back lists in which nothing is left, from the lowest up.
    fn drop_empty(&mut self, inode: &mut Inode, top: usize, lists: &[(u64, usize)]) -> Result<()> {
        for (nth, (list, _)) in lists.iter().enumerate().rev() {
            if self.store.block(*list)?.bytes.iter().any(|byte| *byte != 0) {
                return Ok(());
            }
            self.free_blocks(*list, 1, Held::Metadata)?;
            self.count(inode, 1, false)?;
            match nth.checked_sub(1).and_then(|above| lists.get(above)) {
                Some((above, position)) => {
                    put(self.store.change(*above)?, position.saturating_mul(4), &[0; 4]);
                }
                None => Self::put_list_field(inode, top, 0)?,
            }
        }
        Ok(())
    }

    fn free_listed(&mut self, inode: &mut Inode, numbers: &[u32], held: Held) -> Result<()> {
        let mut run: Option<(u64, u64)> = None;
        let ends = numbers.iter().copied().map(u64::from).filter(|number| *number != 0).chain([0]);
        for number in ends {
            match &mut run {
                Some((first, count)) if first.saturating_add(*count) == number => *count += 1,
                _ => {
                    if let Some((first, count)) = run {
                        self.free_blocks(first, count, held)?;
                        self.count(inode, count, false)?;
                    }
                    run = (number != 0).then_some((number, 1));
                }
            }
        }
        Ok(())
    }
}

fn power(base: u64, exponent: usize) -> u64 {
    (0..exponent).fold(1, |power: u64, _| power.saturating_mul(base))
}

/// Entries of a list that go in one step.
const MOST_AT_ONCE: usize = 128;
