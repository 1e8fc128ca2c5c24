//! Where everything lies in a new volume: the bitmaps and tables of sixteen groups together (`flex_bg`), a journal in the middle.

use std::ops::Range;

use super::{
    super::{
        super::bytes::{index, short},
        extents::IN_ROOT,
        group::{BLOCKS_UNWRITTEN, Group, INODES_UNWRITTEN, TABLE_ZEROED},
        mapping::LONGEST,
        superblock::Superblock,
    },
    sizes::{FIRST_INODE, Sizes},
    taken::Taken,
};

/// Places, in blocks.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) taken: Taken,
    /// Each group's descriptor, but for its checksums.
    pub(super) groups: Vec<Group>,
    /// The tables of inodes that follow each other, as runs.
    pub(super) tables: Vec<Range<u64>>,
    /// The root directory's only block.
    pub(super) root: Range<u64>,
    pub(super) lost_and_found: Range<u64>,
    /// The block with which what is reserved for descriptors begins.
    pub(super) reserved: Option<u64>,
    pub(super) journal: Vec<Range<u64>>,
    /// The leaf of the journal's extents, where its inode has no room for them.
    pub(super) journal_leaf: Option<u64>,
    /// Blocks that no file can have.
    pub(super) overhead: u64,
}

impl Places {
    /// Those in a volume of these sizes. `None` where there is no room.
    pub(super) fn of(superblock: &Superblock, sizes: &Sizes, has_zeroed_tables: bool) -> Option<Self> {
        let mut taken = Taken::new(sizes.first_block..sizes.blocks);
        for group in 0..sizes.groups {
            let own = superblock.own_blocks(group);
            if own > 0 {
                let first = superblock.first_of(group);
                taken.add(&(first..first + own));
            }
        }
        let (mut groups, mut tables) = (Vec::new(), Vec::new());
        for first in (0..sizes.groups).step_by(index(FLEX)) {
            let count = (sizes.groups - first).min(FLEX);
            let mut goal = superblock.first_of(first);
            let mut take = |len| {
                let run = taken.take(goal, len)?;
                goal = run.end;
                Some(run)
            };
            let (blocks, inodes) = (take(count)?, take(count)?);
            for (block_bitmap, inode_bitmap) in blocks.zip(inodes) {
                let table = take(sizes.table)?;
                groups.push(Group::new(block_bitmap, inode_bitmap, table.start, INODES_UNWRITTEN));
                merge(&mut tables, table);
            }
        }
        let goal = superblock.first_of(0);
        let root = taken.take(goal, 1)?;
        let lost_and_found = taken.take(goal, lost_and_found_blocks(sizes.block_len))?;
        let reserved = if sizes.has_resize_inode() { Some(taken.take(goal, 1)?.start) } else { None };
        let (journal, journal_leaf) = journal(superblock, sizes, &mut taken)?;
        let files = 1 + (lost_and_found.end - lost_and_found.start);
        let files = files + u64::from(reserved.is_some()) + u64::from(journal_leaf.is_some());
        let overhead = sizes.first_block + taken.count(&(0..sizes.blocks)) - files;
        let mut places =
            Self { taken, groups, tables, root, lost_and_found, reserved, journal, journal_leaf, overhead };
        places.count(superblock, sizes, has_zeroed_tables);
        Some(places)
    }

    /// Has each descriptor tell what is free, and what was never written.
    fn count(&mut self, superblock: &Superblock, sizes: &Sizes, has_zeroed_tables: bool) {
        let inodes = short(sizes.inodes_per_group);
        for (number, group) in (0..).zip(&mut self.groups) {
            let first = superblock.first_of(number);
            let blocks = superblock.blocks_in(number);
            let here = first..first + blocks;
            let taken = self.taken.count(&here);
            let own = [(group.block_bitmap, 1), (group.inode_bitmap, 1), (group.inode_table, sizes.table)];
            let own = own.iter().filter(|(place, _)| here.contains(place)).map(|(_, len)| len).sum::<u64>();
            group.free_blocks = short(blocks - taken);
            (group.free_inodes, group.unused_inodes) = (inodes, inodes);
            if has_zeroed_tables {
                group.flags |= TABLE_ZEROED;
            }
            // A bitmap that was never written says that a group has its own blocks and no others.
            if taken == own + superblock.own_blocks(number) && number + 1 < sizes.groups {
                group.flags |= BLOCKS_UNWRITTEN;
            }
        }
        if let Some(group) = self.groups.first_mut() {
            let free = short(sizes.inodes_per_group - FIRST_INODE);
            group.flags &= !INODES_UNWRITTEN;
            (group.free_inodes, group.unused_inodes) = (free, free);
            // The root and lost+found.
            group.directories = 2;
        }
    }
}

/// The blocks of the journal, from the middle of the volume on, and that of the leaf which lists them where there must be one.
fn journal(
    superblock: &Superblock,
    sizes: &Sizes,
    taken: &mut Taken,
) -> Option<(Vec<Range<u64>>, Option<u64>)> {
    let middle = sizes.groups / 2;
    let middle = if sizes.groups > FLEX { middle - middle % FLEX } else { middle };
    let goal = superblock.first_of(middle);
    let runs = taken.take_runs(goal, sizes.journal, LONGEST.into())?;
    let leaf = if runs.len() > IN_ROOT {
        Some(taken.take(goal, 1).or_else(|| taken.take(superblock.first_block, 1))?.start)
    } else {
        None
    };
    Some((runs, leaf))
}

fn merge(runs: &mut Vec<Range<u64>>, run: Range<u64>) {
    match runs.last_mut() {
        Some(last) if last.end == run.start => last.end = run.end,
        _ => runs.push(run),
    }
}

/// Blocks of lost+found: 16 KiB, of blocks that an inode without extents could have.
fn lost_and_found_blocks(block_len: u32) -> u64 {
    u64::from((16 << 10) / block_len).min(12)
}

/// Groups whose bitmaps and tables lie together: two to the power of `s_log_groups_per_flex`.
const FLEX: u64 = 1 << FLEX_SHIFT;
pub(super) const FLEX_SHIFT: u8 = 4;
