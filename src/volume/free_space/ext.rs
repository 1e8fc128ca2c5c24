//! ext2, ext3, ext4 (Linux, `Documentation/filesystems/ext4`).

use super::{
    Condition,
    bitmap::last_set,
    bytes::{Bytes, Fields},
    damaged, unclean, unsupported,
};
use crate::error::Result;

/// How its last use ended.
pub(super) fn condition(start: &Fields<'_>) -> Result<Condition> {
    let superblock = start.bytes(SUPERBLOCK, 1024)?;
    state(&Fields(superblock))
}

/// `s_feature_incompat` tells of a journal to replay, `s_state` of the rest: bit 0 "left clean", bit 1 "has errors".
fn state(superblock: &Fields<'_>) -> Result<Condition> {
    let state = superblock.u16(58)?;
    Ok(match superblock.u32(96)? & RECOVER != 0 {
        true => Condition::Journal,
        false if state & 1 == 0 || state & 2 != 0 => Condition::Unclean,
        false => Condition::Clean,
    })
}

pub(super) fn free_tail(bytes: &Bytes<'_>, start: &Fields<'_>, limit: u64) -> Result<u64> {
    let superblock = start.bytes(SUPERBLOCK, 1024)?;
    let layout = Layout::parse(&Fields(superblock), bytes.len())?;
    let mut free = layout.block_len.saturating_mul(layout.first_block.saturating_add(1));
    let mut bitmaps = Vec::new();
    for group in 0..layout.groups {
        let descriptor = layout.descriptor(bytes, group)?;
        // A group's own structures may lie in another group, whose bitmap was never written.
        for (block, blocks) in descriptor.structures(&layout) {
            let end = layout.end_of(block, blocks)?;
            if block.saturating_mul(layout.block_len) < limit {
                free = free.max(end);
            }
        }
        if let Some(end) = layout.super_end(group, limit) {
            free = free.max(end);
        }
        bitmaps.push((group, (!descriptor.is_uninit).then_some(descriptor.bitmap)));
        if bitmaps.len() > KEPT {
            return Err(unsupported("it has too many block groups"));
        }
    }
    for (group, bitmap) in bitmaps.into_iter().rev() {
        if let Some(end) = layout.last_used(bytes, group, bitmap, limit)? {
            free = free.max(end);
            break;
        }
    }
    Ok(free.min(limit))
}

/// What the superblock says.
#[derive(Debug)]
struct Layout {
    block_len: u64,
    blocks: u64,
    first_block: u64,
    groups: u64,
    blocks_per_group: u64,
    clusters_per_group: u64,
    /// Blocks in a cluster: the unit of the bitmaps.
    cluster_ratio: u64,
    inode_table_blocks: u64,
    descriptor_len: u64,
    has_checksums: bool,
    backups: Backups,
    /// What a backup of superblock and descriptors takes at the start of its group, in blocks.
    super_blocks: u64,
    /// From this meta group on, descriptors lie within their groups.
    first_meta_group: u64,
}

/// Which groups have a backup of the superblock.
#[derive(Debug)]
enum Backups {
    All,
    Sparse,
    Two([u32; 2]),
}

/// One group's descriptor.
#[derive(Debug)]
struct Descriptor {
    bitmap: u64,
    inode_bitmap: u64,
    inode_table: u64,
    is_uninit: bool,
}

impl Descriptor {
    /// First block and number of blocks of what belongs to the group.
    fn structures(&self, layout: &Layout) -> [(u64, u64); 3] {
        [(self.bitmap, 1), (self.inode_bitmap, 1), (self.inode_table, layout.inode_table_blocks)]
    }
}

impl Layout {
    fn parse(superblock: &Fields<'_>, volume_len: u64) -> Result<Self> {
        let features = Features::parse(superblock)?;
        let (block_shift, cluster_shift) = (superblock.u32(24)?, superblock.u32(28)?);
        if block_shift > 6 || cluster_shift > 30 {
            return Err(no("no possible size of blocks"));
        }
        let block_len = 1024_u64 << block_shift;
        let high = if features.is_64bit { u64::from(superblock.u32(0x150)?) << 32 } else { 0 };
        let blocks = high | u64::from(superblock.u32(4)?);
        let first_block = u64::from(superblock.u32(20)?);
        let blocks_per_group = u64::from(superblock.u32(32)?);
        let is_larger = blocks.checked_mul(block_len).is_none_or(|len| len > volume_len);
        if is_larger {
            return Err(damaged("its file system is larger than the volume"));
        }
        let cluster_ratio = if features.has_clusters {
            1_u64
                << cluster_shift.checked_sub(block_shift).ok_or_else(|| no("clusters smaller than blocks"))?
        } else {
            1
        };
        let clusters_per_group = blocks_per_group.checked_div(cluster_ratio).unwrap_or(0);
        let most = block_len.saturating_mul(8);
        let is_possible = (256..=most).contains(&clusters_per_group)
            && clusters_per_group.is_multiple_of(8)
            && clusters_per_group.checked_mul(cluster_ratio) == Some(blocks_per_group)
            && first_block <= 1;
        if !is_possible {
            return Err(no("no possible size of groups"));
        }
        let in_groups = blocks.checked_sub(first_block).filter(|&blocks| blocks > 0);
        let in_groups = in_groups.ok_or_else(|| no("no blocks"))?;
        let groups = in_groups.div_ceil(blocks_per_group);
        let descriptor_len = if features.is_64bit { u64::from(superblock.u16(254)?) } else { 32 };
        if !matches!(descriptor_len, 32 | 64 | 128 | 256 | 512 | 1024)
            || features.is_64bit && descriptor_len < 64
        {
            return Err(no("no possible size of descriptors"));
        }
        let inode_len = if superblock.u32(76)? == 0 { 128 } else { u64::from(superblock.u16(88)?) };
        let inodes = u64::from(superblock.u32(40)?);
        if inodes == 0
            || inodes > most
            || !inode_len.is_power_of_two()
            || !(128..=block_len).contains(&inode_len)
        {
            return Err(no("no possible number of inodes"));
        }
        let descriptors = groups.saturating_mul(descriptor_len).div_ceil(block_len);
        let reserved = u64::from(superblock.u16(206)?);
        let first_meta_group = if features.has_meta_groups { superblock.u32(260)?.into() } else { u64::MAX };
        Ok(Self {
            block_len,
            blocks,
            first_block,
            groups,
            blocks_per_group,
            clusters_per_group,
            cluster_ratio,
            inode_table_blocks: inodes.saturating_mul(inode_len).div_ceil(block_len),
            descriptor_len,
            has_checksums: features.has_checksums,
            backups: features.backups,
            super_blocks: descriptors.min(first_meta_group).saturating_add(reserved).saturating_add(2),
            first_meta_group,
        })
    }

    /// The first block of a group.
    fn first_of(&self, group: u64) -> u64 {
        group.saturating_mul(self.blocks_per_group).saturating_add(self.first_block)
    }

    /// The byte after some blocks.
    fn end_of(&self, block: u64, blocks: u64) -> Result<u64> {
        let end = block.checked_add(blocks).filter(|&end| end <= self.blocks && block >= self.first_block);
        let end = end.ok_or_else(|| damaged("it names blocks that are not there"))?;
        Ok(end.saturating_mul(self.block_len))
    }

    fn has_super(&self, group: u64) -> bool {
        match self.backups {
            Backups::All => true,
            Backups::Two(groups) => group == 0 || groups.map(u64::from).contains(&group),
            Backups::Sparse => group <= 1 || [3, 5, 7].into_iter().any(|base| is_power_of(group, base)),
        }
    }

    /// The end of the superblock's backup at the start of a group, where there may be one that begins before `limit`. With
    /// meta groups, any group may have a block of descriptors there.
    fn super_end(&self, group: u64, limit: u64) -> Option<u64> {
        let may_be = self.has_super(group) || self.first_meta_group != u64::MAX;
        let first = self.first_of(group);
        if !may_be || first.saturating_mul(self.block_len) >= limit {
            return None;
        }
        let end = first.saturating_add(self.super_blocks).min(self.blocks);
        Some(end.saturating_mul(self.block_len))
    }

    /// Reads the descriptor of a group.
    fn descriptor(&self, bytes: &Bytes<'_>, group: u64) -> Result<Descriptor> {
        let per_block = self.block_len.checked_div(self.descriptor_len).unwrap_or(1).max(1);
        let (meta_group, within) =
            (group.checked_div(per_block).unwrap_or(0), group.checked_rem(per_block).unwrap_or(0));
        let block = if meta_group < self.first_meta_group {
            // Behind the superblock, which stands 1024 bytes from the start.
            let after = if self.block_len == 1024 { 2 } else { 1 };
            meta_group.saturating_add(after)
        } else {
            let group = meta_group.saturating_mul(per_block);
            let first = self.first_of(group).saturating_add(u64::from(self.has_super(group)));
            let is_shifted = group == 0 && self.block_len == 1024 && self.first_block == 0;
            first.saturating_add(u64::from(is_shifted))
        };
        self.end_of(block, 1)?;
        let offset =
            block.saturating_mul(self.block_len).saturating_add(within.saturating_mul(self.descriptor_len));
        let raw = bytes.read(offset, usize::try_from(self.descriptor_len).unwrap_or(32))?;
        let raw = Fields(&raw);
        let block_at = |low: usize, high: usize| -> Result<u64> {
            let high = if self.descriptor_len >= 64 { u64::from(raw.u32(high)?) << 32 } else { 0 };
            Ok(high | u64::from(raw.u32(low)?))
        };
        let is_uninit = self.has_checksums && raw.u16(18)? & BLOCK_UNINIT != 0;
        Ok(Descriptor {
            bitmap: block_at(0, 32)?,
            inode_bitmap: block_at(4, 36)?,
            inode_table: block_at(8, 40)?,
            is_uninit,
        })
    }

    /// The end of the last block in use of a group, of those that begin before `limit`. A group whose bitmap was never
    /// written holds structures only.
    fn last_used(
        &self,
        bytes: &Bytes<'_>,
        group: u64,
        bitmap: Option<u64>,
        limit: u64,
    ) -> Result<Option<u64>> {
        let Some(bitmap) = bitmap else { return Ok(None) };
        let first = self.first_of(group);
        let before = limit.div_ceil(self.block_len).min(self.blocks).saturating_sub(first);
        let clusters = before.div_ceil(self.cluster_ratio.max(1)).min(self.clusters_per_group);
        let offset = bitmap.saturating_mul(self.block_len);
        let last = last_set(clusters, &mut |range| {
            let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
            bytes.read(offset.saturating_add(range.start), len)
        })?;
        Ok(last.map(|last| {
            let blocks = last.saturating_add(1).saturating_mul(self.cluster_ratio).saturating_add(first);
            blocks.min(self.blocks).saturating_mul(self.block_len)
        }))
    }
}

/// What is to be known of a file system's features.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each stands for one bit of the superblock")]
struct Features {
    is_64bit: bool,
    has_meta_groups: bool,
    has_clusters: bool,
    has_checksums: bool,
    backups: Backups,
}

impl Features {
    fn parse(superblock: &Fields<'_>) -> Result<Self> {
        let compatible = superblock.u32(92)?;
        let incompatible = superblock.u32(96)?;
        let read_only = superblock.u32(100)?;
        let unknown = incompatible & !KNOWN_INCOMPATIBLE | read_only & !KNOWN_READ_ONLY;
        if state(superblock)? != Condition::Clean {
            return Err(unclean("mount and unmount it once, or run e2fsck on its block file"));
        }
        if unknown != 0 {
            return Err(unsupported(format!(
                "its file system has features that are not understood ({unknown:#x})"
            )));
        }
        let backups = if compatible & SPARSE_SUPER2 != 0 {
            Backups::Two([superblock.u32(0x24c)?, superblock.u32(0x250)?])
        } else if read_only & SPARSE_SUPER != 0 {
            Backups::Sparse
        } else {
            Backups::All
        };
        Ok(Self {
            is_64bit: incompatible & BITS64 != 0,
            has_meta_groups: incompatible & META_BG != 0,
            has_clusters: read_only & BIGALLOC != 0,
            has_checksums: read_only & (GDT_CHECKSUM | METADATA_CHECKSUM) != 0,
            backups,
        })
    }
}

fn is_power_of(number: u64, base: u64) -> bool {
    let mut power = base;
    while power < number {
        power = power.saturating_mul(base);
    }
    power == number
}

fn no(what: &str) -> crate::Error {
    damaged(format!("its superblock names {what}"))
}

/// Where the superblock stands.
pub(super) const SUPERBLOCK: usize = 1024;
/// Groups in all; 512 TiB of 128 MiB each.
const KEPT: usize = 1 << 22;

const SPARSE_SUPER2: u32 = 0x200;
const RECOVER: u32 = 0x4;
const META_BG: u32 = 0x10;
const BITS64: u32 = 0x80;
// filetype, meta_bg, extents, 64bit, mmp, flex_bg, ea_inode, dirdata, csum_seed, largedir, inline_data, encrypt, casefold; and
// recover, which is told apart before.
const KNOWN_INCOMPATIBLE: u32 = 0x2
    | RECOVER
    | META_BG
    | 0x40
    | BITS64
    | 0x100
    | 0x200
    | 0x400
    | 0x1000
    | 0x2000
    | 0x4000
    | 0x8000
    | 0x1_0000
    | 0x2_0000;
const SPARSE_SUPER: u32 = 0x1;
const GDT_CHECKSUM: u32 = 0x10;
const BIGALLOC: u32 = 0x200;
const METADATA_CHECKSUM: u32 = 0x400;
// sparse_super, large_file, btree_dir, huge_file, uninit_bg, dir_nlink, extra_isize, quota, bigalloc, metadata_csum,
// read-only, project, verity, orphan_present.
const KNOWN_READ_ONLY: u32 = 0x7
    | 0x8
    | GDT_CHECKSUM
    | 0x20
    | 0x40
    | 0x100
    | BIGALLOC
    | METADATA_CHECKSUM
    | 0x1000
    | 0x2000
    | 0x8000
    | 0x1_0000;
/// Of a descriptor's flags.
const BLOCK_UNINIT: u16 = 0x2;
