//! Where everything lies in a new volume: the groups as `layout` has them, a journal in the middle.

use std::ops::Range;

use super::{
    super::{
        super::bytes::short,
        extents::IN_ROOT,
        group::INODES_UNWRITTEN,
        layout::{FLEX, Layout},
        mapping::LONGEST,
        superblock::Superblock,
        taken::Taken,
    },
    sizes::{FIRST_INODE, Sizes},
};

/// Places, in blocks.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) layout: Layout,
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
        let mut layout = Layout::of(superblock, 0)?;
        let taken = &mut layout.taken;
        let goal = superblock.first_of(0);
        let root = taken.take(goal, 1)?;
        let lost_and_found = taken.take(goal, lost_and_found_blocks(sizes.block_len))?;
        let reserved = if sizes.has_resize_inode() { Some(taken.take(goal, 1)?.start) } else { None };
        let (journal, journal_leaf) = journal(superblock, sizes, taken)?;
        let files = 1 + (lost_and_found.end - lost_and_found.start);
        let files = files + u64::from(reserved.is_some()) + u64::from(journal_leaf.is_some());
        let overhead = sizes.first_block + taken.count(&(0..sizes.blocks)) - files;
        layout.count(superblock, has_zeroed_tables);
        if let Some(group) = layout.groups.first_mut() {
            let free = short(sizes.inodes_per_group - FIRST_INODE);
            group.flags &= !INODES_UNWRITTEN;
            (group.free_inodes, group.unused_inodes) = (free, free);
            // The root and lost+found.
            group.directories = 2;
        }
        Some(Self { layout, root, lost_and_found, reserved, journal, journal_leaf, overhead })
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

/// Blocks of lost+found: 16 KiB, of blocks that an inode without extents could have.
fn lost_and_found_blocks(block_len: u32) -> u64 {
    u64::from((16 << 10) / block_len).min(12)
}
