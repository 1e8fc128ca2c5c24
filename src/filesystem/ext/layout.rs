//! Where the bitmaps and the tables of new groups lie: those of sixteen groups together with `flex_bg`, else each in its group.

use std::{collections::BTreeMap, ops::Range};

use super::{
    super::bytes::{index, short},
    features::FLEX_BG,
    group::{BLOCKS_UNWRITTEN, Bitmap, Group, INODES_UNWRITTEN, TABLE_ZEROED, set},
    make::Unmade,
    medium::Medium,
    superblock::{Checksums, Superblock},
    taken::Taken,
};

/// The groups from one on to the end of a volume, in which there is nothing yet.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) taken: Taken,
    /// The number of the first.
    first: u64,
    /// Each group's descriptor, but for its checksums.
    pub(super) groups: Vec<Group>,
    /// The tables of inodes that follow each other, as runs of blocks.
    pub(super) tables: Vec<Range<u64>>,
}

impl Layout {
    /// That of the groups from `first` on. `None` where there is no room.
    pub(super) fn of(superblock: &Superblock, first: u64) -> Option<Self> {
        let mut taken = Taken::new(superblock.first_of(first)..superblock.blocks);
        for group in first..superblock.groups {
            let (start, own) = (superblock.first_of(group), superblock.own_blocks(group));
            if own > superblock.blocks_in(group) {
                return None;
            }
            if own > 0 {
                taken.add(&(start..start.saturating_add(own)));
            }
        }
        let mut layout = Self { taken, first, groups: Vec::new(), tables: Vec::new() };
        let together = if superblock.features.has(FLEX_BG) { FLEX } else { 1 };
        let mut next = first;
        while next < superblock.groups {
            let end = (next - next % together).saturating_add(together).min(superblock.groups);
            layout.lay_out(superblock, next..end)?;
            next = end;
        }
        let is_within = |(number, group): (u64, &Group)| {
            let here = superblock.first_of(number)..superblock.first_of(number.saturating_add(1));
            let last = group.inode_table.saturating_add(superblock.inode_table_blocks()).saturating_sub(1);
            [group.block_bitmap, group.inode_bitmap, group.inode_table, last]
                .iter()
                .all(|at| here.contains(at))
        };
        (together > 1 || (first..).zip(&layout.groups).all(is_within)).then_some(layout)
    }

    /// Finds room for what some groups have together.
    fn lay_out(&mut self, superblock: &Superblock, groups: Range<u64>) -> Option<()> {
        let (mut goal, count) = (superblock.first_of(groups.start), groups.end.saturating_sub(groups.start));
        let mut take = |len| {
            let run = self.taken.take(goal, len)?;
            goal = run.end;
            Some(run)
        };
        let (blocks, inodes) = (take(count)?, take(count)?);
        let flags = if superblock.checksums == Checksums::None { 0 } else { INODES_UNWRITTEN };
        for (block_bitmap, inode_bitmap) in blocks.zip(inodes) {
            let table = take(superblock.inode_table_blocks())?;
            self.groups.push(Group::new(block_bitmap, inode_bitmap, table.start, flags));
            merge(&mut self.tables, table);
        }
        Some(())
    }

    /// Has each descriptor tell what is free, and what was never written.
    pub(super) fn count(&mut self, superblock: &Superblock, has_zeroed_tables: bool) {
        let (inodes, table) = (superblock.inodes_per_group, superblock.inode_table_blocks());
        let has_flags = superblock.checksums != Checksums::None;
        for (number, group) in (self.first..).zip(&mut self.groups) {
            let first = superblock.first_of(number);
            let blocks = superblock.blocks_in(number);
            let here = first..first.saturating_add(blocks);
            let taken = self.taken.count(&here);
            let own = [(group.block_bitmap, 1), (group.inode_bitmap, 1), (group.inode_table, table)];
            let own = own.iter().filter(|(place, _)| here.contains(place)).map(|(_, len)| len).sum::<u64>();
            group.free_blocks = short(blocks.saturating_sub(taken));
            group.free_inodes = inodes;
            if !has_flags {
                continue;
            }
            group.unused_inodes = inodes;
            if has_zeroed_tables {
                group.flags |= TABLE_ZEROED;
            }
            // A bitmap that was never written says that a group has its own blocks and no others.
            let is_last = number.saturating_add(1) == superblock.groups;
            if taken == own.saturating_add(superblock.own_blocks(number)) && !is_last {
                group.flags |= BLOCKS_UNWRITTEN;
            }
        }
    }

    /// Makes the bitmaps that are written, and has the descriptors tell their checksums.
    pub(super) fn fill_bitmaps(&mut self, superblock: &Superblock, blocks: &mut BTreeMap<u64, Vec<u8>>) {
        let block_len = index(superblock.block_len);
        for (number, group) in (self.first..).zip(&mut self.groups) {
            if !group.has(BLOCKS_UNWRITTEN) {
                let (first, count) = (superblock.first_of(number), superblock.blocks_in(number));
                let mut bits = vec![0; block_len];
                for run in self.taken.within(&(first..first.saturating_add(count))) {
                    set(&mut bits, run.start.saturating_sub(first), run.end.saturating_sub(first));
                }
                set(&mut bits, count, u64::from(superblock.block_len).saturating_mul(8));
                group.seal(superblock, Bitmap::Blocks, &bits);
                blocks.insert(group.block_bitmap, bits);
            }
            if !group.has(INODES_UNWRITTEN) {
                let taken = u64::from(superblock.inodes_per_group.saturating_sub(group.free_inodes));
                let mut bits = vec![0; block_len];
                set(&mut bits, 0, taken);
                let all = u64::from(superblock.block_len).saturating_mul(8);
                set(&mut bits, superblock.inodes_per_group.into(), all);
                group.seal(superblock, Bitmap::Inodes, &bits);
                blocks.insert(group.inode_bitmap, bits);
            }
        }
    }
}

fn merge(runs: &mut Vec<Range<u64>>, run: Range<u64>) {
    match runs.last_mut() {
        Some(last) if last.end == run.start => last.end = run.end,
        _ => runs.push(run),
    }
}

/// Writes zeros to runs of blocks, in steps between which `stop` is asked whether it is not wanted any more.
pub(super) fn zero<'a>(
    medium: &Medium,
    runs: impl IntoIterator<Item = &'a Range<u64>>,
    stop: &dyn Fn() -> bool,
) -> Result<(), Unmade> {
    let block_len = u64::from(medium.block_len);
    runs.into_iter().try_for_each(|run| {
        let (mut start, end_of_run) =
            (run.start.saturating_mul(block_len), run.end.saturating_mul(block_len));
        while start < end_of_run {
            if stop() {
                return Err(Unmade::Interrupted);
            }
            let end = end_of_run.min(start.saturating_add(ZEROED_AT_ONCE));
            medium.zero(start..end)?;
            start = end;
        }
        Ok(())
    })
}

/// Groups whose bitmaps and tables lie together: two to the power of `s_log_groups_per_flex`.
pub(super) const FLEX: u64 = 1 << FLEX_SHIFT;
pub(super) const FLEX_SHIFT: u8 = 4;
/// Bytes that are zeroed before somebody is asked whether to go on.
const ZEROED_AT_ONCE: u64 = 16 << 20;
