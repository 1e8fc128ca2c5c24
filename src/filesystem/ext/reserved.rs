//! The inode that has what is reserved for descriptors: the blocks behind these, and those behind their copies. It begins in a block of
//! blocks of blocks, as those behind the descriptors list their copies.

use std::ops::Range;

use super::{
    super::bytes::{index, long, put, short},
    superblock::Superblock,
};

/// Its blocks, as the superblock has them.
pub(super) struct Reserved<'a> {
    superblock: &'a Superblock,
    copies: Vec<u64>,
}

impl<'a> Reserved<'a> {
    /// `None` where there are more copies than a block lists.
    pub(super) fn of(superblock: &'a Superblock) -> Option<Self> {
        let most = index(superblock.block_len) / 4;
        let copies: Vec<u64> = (1..superblock.groups)
            .filter(|group| superblock.has_super(*group))
            .take(most.saturating_add(1))
            .collect();
        (copies.len() <= most).then_some(Self { superblock, copies })
    }

    /// The groups that have copies of the descriptors.
    pub(super) fn copies(&self) -> &[u64] {
        &self.copies
    }

    /// The blocks behind the descriptors.
    pub(super) fn places(&self) -> Range<u64> {
        let superblock = self.superblock;
        let first = superblock.first_block.saturating_add(1).saturating_add(superblock.descriptors());
        first..first.saturating_add(superblock.reserved_descriptors)
    }

    /// The block that lists them, each at the place of the descriptors that it is for.
    pub(super) fn list(&self) -> Vec<u8> {
        let block_len = index(self.superblock.block_len);
        let mut list = vec![0; block_len];
        for (at, place) in (index(self.superblock.descriptors())..).zip(self.places()) {
            put(&mut list, at.saturating_mul(4) % block_len, &short(place).to_le_bytes());
        }
        list
    }

    /// One of them, which lists its copies.
    pub(super) fn copies_of(&self, place: u64) -> Vec<u8> {
        let mut block = vec![0; index(self.superblock.block_len)];
        for (at, group) in self.copies.iter().enumerate() {
            let copy = place.saturating_add(group.saturating_mul(self.superblock.blocks_per_group));
            put(&mut block, at.saturating_mul(4), &short(copy).to_le_bytes());
        }
        block
    }

    /// Bytes that it takes, with the block that lists them.
    pub(super) fn allocated(&self) -> u64 {
        let each = long(self.copies.len()).saturating_add(1);
        let blocks = self.superblock.reserved_descriptors.saturating_mul(each).saturating_add(1);
        blocks.saturating_mul(self.superblock.block_len.into())
    }
}

/// Its number.
pub(super) const RESIZE_INODE: u32 = 7;
/// Where an inode without extents has its block of blocks of blocks.
pub(super) const DOUBLE: usize = 13;
