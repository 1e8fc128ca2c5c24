//! How large everything is in a new volume: what mke2fs 1.47 makes by default for its size.

use super::super::superblock::{WORTHWHILE, is_sparse_backup};

/// Sizes and counts, in blocks where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Bytes.
    pub(super) block_len: u32,
    pub(super) blocks: u64,
    pub(super) first_block: u64,
    pub(super) blocks_per_group: u64,
    pub(super) groups: u64,
    pub(super) inodes_per_group: u64,
    pub(super) table: u64,
    pub(super) descriptors: u64,
    /// `s_reserved_gdt_blocks`: room for the descriptors of groups to come.
    pub(super) reserved: u64,
    /// None where the volume is too small for one.
    pub(super) journal: u64,
}

impl Sizes {
    /// Those of a volume of `len` bytes. `None` where it is too small, or too large for descriptors that lie together.
    pub(super) fn of(len: u64, block_len: u32) -> Option<Self> {
        if !matches!(block_len, 1024 | 2048 | 4096) || len > LONGEST {
            return None;
        }
        let unit = u64::from(block_len);
        // Whole pages, as the kernel reads them.
        let blocks = (len / PAGE) * (PAGE / unit);
        let inodes = (blocks * unit / bytes_per_inode(len)).max(FIRST_INODE + 1);
        let mut sizes = Self::with(blocks, block_len, inodes)?;
        // A last group that has little more room than it takes is left out.
        let rest = (sizes.blocks - sizes.first_block) % sizes.blocks_per_group;
        if rest > 0 && rest < sizes.taken_in(sizes.groups - 1) + WORTHWHILE {
            if sizes.groups == 1 {
                return (rest >= sizes.taken_in(0)).then_some(sizes);
            }
            sizes = Self::with(sizes.blocks - rest, block_len, inodes)?;
        }
        Some(sizes)
    }

    fn with(blocks: u64, block_len: u32, inodes: u64) -> Option<Self> {
        let unit = u64::from(block_len);
        let first_block = u64::from(block_len == 1024);
        let blocks_per_group = unit * 8;
        let groups = blocks.checked_sub(first_block).filter(|left| *left > 0)?.div_ceil(blocks_per_group);
        let per_block = unit / DESCRIPTOR_LEN;
        let descriptors = groups.div_ceil(per_block);
        let inodes_per_block = unit / INODE_LEN;
        // A bitmap has no bits for more than a group has blocks. (mke2fs makes the groups smaller, by eight blocks and again eight.)
        let table = inodes.div_ceil(groups).clamp(16, blocks_per_group).div_ceil(inodes_per_block);
        let inodes_per_group = (table * inodes_per_block) & !7;
        u32::try_from(inodes_per_group * groups).ok()?;
        if descriptors > blocks_per_group / 2 {
            return None;
        }
        let sizes = Self {
            block_len,
            blocks,
            first_block,
            blocks_per_group,
            groups,
            inodes_per_group,
            table: inodes_per_group.div_ceil(inodes_per_block),
            descriptors,
            reserved: 0,
            journal: journal(blocks),
        };
        Some(Self { reserved: sizes.reserve_for_growth(), ..sizes })
    }

    /// Room to become 1024 times as large, as far as block numbers of 32 bits and one block of them go.
    fn reserve_for_growth(&self) -> u64 {
        if !self.has_resize_inode() {
            return 0;
        }
        let unit = u64::from(self.block_len);
        let most = (self.blocks * 1024).min(u32::MAX.into());
        let groups = most.saturating_sub(self.first_block).div_ceil(self.blocks_per_group);
        groups.div_ceil(unit / DESCRIPTOR_LEN).saturating_sub(self.descriptors).min(unit / 4)
    }

    /// Whether what is reserved can be an inode's, which has block numbers of 32 bits.
    pub(super) fn has_resize_inode(&self) -> bool {
        u32::try_from(self.blocks).is_ok()
    }

    /// What a group takes for itself.
    fn taken_in(&self, group: u64) -> u64 {
        let copies = if is_sparse_backup(group) { 1 + self.descriptors + self.reserved } else { 0 };
        copies + 2 + self.table
    }
}

/// The usage types of `mke2fs.conf`: floppy, small, the default, big, huge.
const fn bytes_per_inode(len: u64) -> u64 {
    match len >> 20 {
        0..3 => 8192,
        3..512 => 4096,
        512..0x40_0000 => 16384,
        0x40_0000..0x100_0000 => 32768,
        _ => 65536,
    }
}

/// Blocks of a journal.
const fn journal(blocks: u64) -> u64 {
    const K: u64 = 1024;
    match blocks {
        0..2048 => 0,
        2048..32768 => K,
        32768..0x4_0000 => 4 * K,
        0x4_0000..0x8_0000 => 8 * K,
        0x8_0000..0x40_0000 => 16 * K,
        0x40_0000..0x80_0000 => 32 * K,
        0x80_0000..0x100_0000 => 64 * K,
        0x100_0000..0x200_0000 => 128 * K,
        _ => 256 * K,
    }
}

/// Bytes of a descriptor with `64bit`.
pub(super) const DESCRIPTOR_LEN: u64 = 64;
/// Bytes of an inode.
pub(super) const INODE_LEN: u64 = 256;
/// The first inode that is not the file system's own.
pub(super) const FIRST_INODE: u64 = 11;
/// Bytes.
const PAGE: u64 = 4096;
/// No volume is longer: sums of what is in it stay far from 2^64.
const LONGEST: u64 = 1 << 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_mke2fs() {
        let of = |len, block_len| {
            let sizes = Sizes::of(len, block_len).unwrap();
            (sizes.blocks, sizes.inodes_per_group * sizes.groups, sizes.reserved, sizes.journal)
        };
        // `mke2fs -t ext4 -b`, 1.47.0.
        assert_eq!(of(64 << 20, 4096), (16384, 16384, 7, 1024));
        assert_eq!(of(1 << 30, 4096), (262_144, 65536, 127, 8192));
        assert_eq!(of((16 << 40) - 4096, 4096), (u32::MAX.into(), 536_870_912, 0, 262_144));
    }

    #[test]
    fn a_volume_that_has_no_room_for_its_tables_is_refused() {
        assert_eq!(Sizes::of(0, 4096), None);
        assert_eq!(Sizes::of(8192, 4096), None);
        assert_eq!(Sizes::of(u64::MAX, 4096), None);
    }
}
