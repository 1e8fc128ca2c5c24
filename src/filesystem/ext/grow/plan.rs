//! What a volume is to become, and what keeps it from that.

use std::collections::BTreeMap;

use super::super::{
    super::{Fault, Ungrown},
    features::{META_BG, RESIZE_INODE, WIDE},
    group::Group,
    layout::{Layout, zero},
    medium::{Medium, Run},
    reserved::Reserved,
    superblock::Superblock,
};

/// One step.
#[derive(Debug)]
pub(in crate::filesystem::ext) struct Growth {
    /// The volume afterwards, as far as sizes go. What is free it does not know.
    pub(super) after: Superblock,
    /// Blocks that there were.
    pub(super) before: u64,
    layout: Layout,
    first: u64,
}

impl Growth {
    /// The next step on the way to `len` bytes; `None` where there is no more to gain. A transaction takes `room` blocks.
    ///
    /// # Errors
    /// `Unfit` where the volume cannot become as large as that.
    pub(in crate::filesystem::ext) fn next(
        superblock: &Superblock,
        len: u64,
        room: u32,
    ) -> Result<Option<Self>, Ungrown> {
        let Some(all) = largest(superblock, len)? else { return Ok(None) };
        let fixed = superblock.reserved_descriptors.saturating_add(FIXED);
        let descriptors = u64::from(room / 2).saturating_sub(fixed);
        let most = descriptors.saturating_mul(superblock.descriptors_per_block()).min(MOST_GROUPS);
        let groups = superblock.groups.saturating_add(most);
        let after = if all.groups > groups { grown(superblock, superblock.first_of(groups))? } else { all };
        if after.blocks <= superblock.blocks {
            return Err(Ungrown::Unfit("its journal is too short"));
        }
        let no_room = Ungrown::Unfit("its groups have no room for their tables");
        let mut layout = Layout::of(&after, superblock.groups).ok_or(no_room)?;
        layout.count(&after, true);
        Ok(Some(Self { after, before: superblock.blocks, layout, first: superblock.groups }))
    }

    /// Writes what the new groups have of their own, which is nothing to the volume as it is.
    ///
    /// # Errors
    /// `Interrupted`; what writing gave.
    pub(in crate::filesystem::ext) fn write_groups(
        &mut self,
        medium: &Medium,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Ungrown> {
        zero(medium, &self.layout.tables, stop)?;
        let mut blocks = BTreeMap::new();
        self.layout.fill_bitmaps(&self.after, &mut blocks);
        let mut run = Run::default();
        for (place, block) in &blocks {
            run.add(medium, *place, block)?;
        }
        run.write(medium)?;
        Ok(medium.flush()?)
    }

    /// The new groups, with their numbers.
    pub(super) fn groups(&self) -> impl Iterator<Item = (u64, &Group)> {
        (self.first..).zip(&self.layout.groups)
    }

    /// Blocks that the new groups take.
    pub(super) fn taken(&self) -> u64 {
        self.layout.taken.count(&(0..self.after.blocks))
    }
}

/// The largest volume that a device has room for; `None` where it is no larger than the one that is there.
fn largest(superblock: &Superblock, len: u64) -> Result<Option<Superblock>, Ungrown> {
    // Whole pages, as the kernel reads them.
    let blocks = (len / PAGE).saturating_mul(PAGE / u64::from(superblock.block_len).max(1));
    if blocks <= superblock.blocks {
        return Ok(None);
    }
    let after = grown(superblock, blocks)?;
    let last = after.groups.saturating_sub(1);
    if last < superblock.groups || !after.is_too_short(last) {
        return Ok(Some(after));
    }
    let blocks = after.first_of(last);
    if blocks <= superblock.blocks { Ok(None) } else { grown(superblock, blocks).map(Some) }
}

/// A volume of so many blocks more.
fn grown(superblock: &Superblock, blocks: u64) -> Result<Superblock, Ungrown> {
    let unfit = |why| Err(Ungrown::Unfit(why));
    let features = superblock.features;
    let per_group = u64::from(superblock.inodes_per_group);
    if u64::from(superblock.inodes) != superblock.groups.saturating_mul(per_group)
        || superblock.first_block != u64::from(superblock.block_len == 1024)
    {
        return Err(Fault::Damaged.into());
    }
    if blocks > u32::MAX.into() && (!features.has(WIDE) || features.has(RESIZE_INODE)) {
        return unfit("its block numbers have 32 bits");
    }
    let groups = blocks.saturating_sub(superblock.first_block).div_ceil(superblock.blocks_per_group.max(1));
    let Ok(inodes) = u32::try_from(groups.saturating_mul(per_group)) else {
        return unfit("it would have more inodes than there are numbers for");
    };
    let mut after = superblock.clone();
    (after.blocks, after.groups, after.inodes) = (blocks, groups, inodes);
    let more = after.descriptors().saturating_sub(superblock.descriptors());
    if features.has(META_BG) {
        let is_usual = superblock.descriptors() >= superblock.first_meta_group;
        if !is_usual || features.has(RESIZE_INODE) || superblock.reserved_descriptors > 0 {
            return unfit("its group descriptors lie in an unusual way");
        }
    } else if more > 0 {
        let room = if features.has(RESIZE_INODE) { superblock.reserved_descriptors } else { 0 };
        let Some(left) = room.checked_sub(more) else {
            return unfit("there is no room for the descriptors of so many groups");
        };
        after.reserved_descriptors = left;
    }
    if features.has(RESIZE_INODE) && Reserved::of(&after).is_none() {
        return unfit("it has too many copies of its superblock");
    }
    let reserved = u128::from(superblock.reserved_blocks).saturating_mul(blocks.into());
    let reserved = reserved.checked_div(superblock.blocks.into()).unwrap_or_default();
    after.reserved_blocks = u64::try_from(reserved).unwrap_or_default();
    Ok(after)
}

/// Bytes.
const PAGE: u64 = 4096;
/// Blocks of a transaction beside descriptors, and the lists of those that are reserved.
const FIXED: u64 = 16;
/// Groups of one step: what is known of them stays below 4 MiB.
const MOST_GROUPS: u64 = 1 << 14;
