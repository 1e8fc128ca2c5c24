//! The superblock: sizes, features, and where the rest is.

use std::ops::Range;

use super::{
    super::{
        Fault,
        bytes::{put, u8_at, u16_at, u32_at},
    },
    checksum::crc32c,
    features::{
        BIGALLOC, CSUM_SEED, Features, GDT_CSUM, META_BG, METADATA_CSUM, SPARSE_SUPER, SPARSE_SUPER2, WIDE,
    },
    volume::Unreadable,
};

/// What is known of a volume before anything else is read.
#[derive(Debug, Clone)]
pub(super) struct Superblock {
    pub(super) features: Features,
    pub(super) block_len: u32,
    pub(super) blocks: u64,
    pub(super) first_block: u64,
    pub(super) blocks_per_group: u64,
    pub(super) groups: u64,
    pub(super) descriptor_len: u64,
    /// From this meta group on, descriptors lie within their groups.
    pub(super) first_meta_group: u64,
    backups: Backups,
    pub(super) inodes: u32,
    pub(super) inodes_per_group: u32,
    pub(super) inode_len: u32,
    pub(super) first_inode: u32,
    pub(super) checksums: Checksums,
    pub(super) uuid: [u8; 16],
    pub(super) hash_seed: [u32; 4],
    /// How the names of new directories are hashed.
    pub(super) hash_version: u8,
    /// Whether names are hashed as unsigned bytes.
    pub(super) has_unsigned_hash: bool,
    pub(super) journal_inode: u32,
    pub(super) orphan_inode: u32,
    pub(super) is_clean: bool,
    /// Whether somebody found it to be damaged.
    pub(super) has_errors: bool,
    pub(super) free_blocks: u64,
    pub(super) reserved_blocks: u64,
    pub(super) free_inodes: u32,
    /// What the file system itself takes, where it says so.
    pub(super) overhead: u64,
    pub(super) reserved_descriptors: u64,
}

/// How metadata is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksums {
    None,
    /// The descriptors only.
    Descriptors,
    /// Everything, from this register on.
    All(u32),
}

/// Which groups have a backup of the superblock.
#[derive(Debug, Clone)]
enum Backups {
    All,
    Sparse,
    Two([u32; 2]),
}

impl Superblock {
    /// Reads it from its 1024 bytes. `volume_len` bounds what it may claim.
    pub(super) fn parse(raw: &[u8], volume_len: u64) -> Result<Self, Unreadable> {
        if u16_at(raw, 0x38) != MAGIC {
            return Err(Unreadable::Fault(Fault::Damaged));
        }
        let features = Features::parse(raw);
        if let Some(name) = features.refused() {
            return Err(Unreadable::Feature(name));
        }
        let checksums = checksums(raw, &features)?;
        let parsed = Self::sizes(raw, features, checksums).filter(|parsed| {
            parsed.blocks.checked_mul(u64::from(parsed.block_len)).is_some_and(|len| len <= volume_len)
        });
        parsed.ok_or(Unreadable::Fault(Fault::Damaged))
    }

    fn sizes(raw: &[u8], features: Features, checksums: Checksums) -> Option<Self> {
        let (block_shift, cluster_shift) = (u32_at(raw, 0x18), u32_at(raw, 0x1c));
        if block_shift > 6 {
            return None;
        }
        let block_len = 1024 << block_shift;
        let cluster_ratio = if features.has(BIGALLOC) {
            1_u64.checked_shl(cluster_shift.checked_sub(block_shift)?)?
        } else {
            1
        };
        let (blocks_per_group, first_block) = (u64::from(u32_at(raw, 0x20)), u64::from(u32_at(raw, 0x14)));
        let high = |at: usize| if features.has(WIDE) { u64::from(u32_at(raw, at)) << 32 } else { 0 };
        let wide = |low: usize, at: usize| high(at) | u64::from(u32_at(raw, low));
        let blocks = wide(0x4, 0x150);
        let in_group = u64::from(block_len) * 8;
        if blocks_per_group == 0
            || blocks_per_group > in_group.checked_mul(cluster_ratio)?
            || first_block > 1
            || blocks <= first_block
        {
            return None;
        }
        let groups = (blocks - first_block).div_ceil(blocks_per_group);
        let descriptor_len = if features.has(WIDE) { u64::from(u16_at(raw, 0xfe)) } else { 32 };
        if !matches!(descriptor_len, 32 | 64 | 128 | 256 | 512 | 1024)
            || features.has(WIDE) && descriptor_len < 64
        {
            return None;
        }
        let is_dynamic = u32_at(raw, 0x4c) != 0;
        let (inode_len, first_inode) =
            if is_dynamic { (u32::from(u16_at(raw, 0x58)), u32_at(raw, 0x54)) } else { (128, 11) };
        let (inodes, inodes_per_group) = (u32_at(raw, 0), u32_at(raw, 0x28));
        let is_possible = inode_len.is_power_of_two()
            && (128..=block_len).contains(&inode_len)
            && (1..=in_group).contains(&u64::from(inodes_per_group))
            && u64::from(inodes) <= groups.checked_mul(u64::from(inodes_per_group))?
            && first_inode >= 11;
        let backups = if features.has(SPARSE_SUPER2) {
            Backups::Two([u32_at(raw, 0x24c), u32_at(raw, 0x250)])
        } else if features.has(SPARSE_SUPER) {
            Backups::Sparse
        } else {
            Backups::All
        };
        let state = u16_at(raw, 0x3a);
        is_possible.then(|| Self {
            features,
            block_len,
            blocks,
            first_block,
            blocks_per_group,
            groups,
            descriptor_len,
            first_meta_group: if features.has(META_BG) { u32_at(raw, 0x104).into() } else { u64::MAX },
            backups,
            inodes,
            inodes_per_group,
            inode_len,
            first_inode,
            checksums,
            uuid: uuid(raw),
            hash_seed: [0xec, 0xf0, 0xf4, 0xf8].map(|at| u32_at(raw, at)),
            hash_version: u8_at(raw, 0xfc),
            has_unsigned_hash: u32_at(raw, 0x160) & UNSIGNED_HASH != 0,
            journal_inode: u32_at(raw, 0xe0),
            orphan_inode: u32_at(raw, 0x280),
            has_errors: state & 2 != 0,
            is_clean: state & 1 != 0 && state & 2 == 0,
            free_blocks: wide(0xc, 0x158).min(blocks),
            reserved_blocks: wide(0x8, 0x154).min(blocks),
            free_inodes: u32_at(raw, 0x10).min(inodes),
            overhead: u64::from(u32_at(raw, 0x248)).saturating_mul(cluster_ratio).min(blocks),
            reserved_descriptors: u64::from(u16_at(raw, 0xce)),
        })
    }

    /// The first block of a group.
    pub(super) const fn first_of(&self, group: u64) -> u64 {
        group.saturating_mul(self.blocks_per_group).saturating_add(self.first_block)
    }

    /// How many blocks it has.
    pub(super) const fn blocks_in(&self, group: u64) -> u64 {
        let left = self.blocks.saturating_sub(self.first_of(group));
        if left < self.blocks_per_group { left } else { self.blocks_per_group }
    }

    /// The group of a block.
    pub(super) const fn group_of(&self, block: u64) -> u64 {
        // Checked when it was read: it is not zero.
        match block.saturating_sub(self.first_block).checked_div(self.blocks_per_group) {
            Some(group) => group,
            None => 0,
        }
    }

    pub(super) const fn descriptors_per_block(&self) -> u64 {
        let count = self.block_len as u64 / if self.descriptor_len == 0 { 1 } else { self.descriptor_len };
        if count == 0 { 1 } else { count }
    }

    /// Blocks of a group's table of inodes.
    pub(super) const fn inode_table_blocks(&self) -> u64 {
        let len = (self.inodes_per_group as u64).saturating_mul(self.inode_len as u64);
        len.div_ceil(self.block_len as u64)
    }

    /// Whether a group begins with a copy of the superblock.
    pub(super) fn has_super(&self, group: u64) -> bool {
        match self.backups {
            Backups::All => true,
            Backups::Two(groups) => group == 0 || groups.map(u64::from).contains(&group),
            Backups::Sparse => is_sparse_backup(group),
        }
    }

    /// Blocks at the start of a group that hold copies of the superblock and of descriptors.
    pub(super) fn own_blocks(&self, number: u64) -> u64 {
        let copy = u64::from(self.has_super(number));
        let descriptors = self.descriptors_in(number);
        let reserved = if copy == 0 || self.has_meta_group(number) { 0 } else { self.reserved_descriptors };
        (descriptors.end.saturating_sub(descriptors.start)).saturating_add(reserved).saturating_add(copy)
    }

    /// The meta groups whose descriptors stand at the start of a group, behind its copy of the superblock.
    pub(super) fn descriptors_in(&self, number: u64) -> Range<u64> {
        let per_block = self.descriptors_per_block();
        let meta_group = number / per_block;
        if self.has_meta_group(number) {
            let within = number % per_block;
            let has_one = within <= 1 || within == per_block.saturating_sub(1);
            return meta_group..meta_group.saturating_add(has_one.into());
        }
        if self.has_super(number) { 0..self.descriptors().min(self.first_meta_group) } else { 0..0 }
    }

    /// Whether the descriptor of a group lies within its meta group.
    fn has_meta_group(&self, number: u64) -> bool {
        self.features.has(META_BG) && number / self.descriptors_per_block() >= self.first_meta_group
    }

    /// Blocks that all descriptors take.
    pub(super) const fn descriptors(&self) -> u64 {
        self.groups.div_ceil(self.descriptors_per_block())
    }

    /// Blocks that a group takes for itself where its bitmaps and its table lie within it.
    fn taken_in(&self, number: u64) -> u64 {
        self.own_blocks(number).saturating_add(2).saturating_add(self.inode_table_blocks())
    }

    /// Whether a last group of so many blocks has little more room than it takes, and is better left out.
    pub(super) fn is_too_short(&self, number: u64) -> bool {
        self.blocks_in(number) < self.taken_in(number).saturating_add(WORTHWHILE)
    }

    /// Whether blocks from `first` on are within the volume.
    pub(super) fn has_blocks(&self, first: u64, count: u64) -> bool {
        first >= self.first_block && first.checked_add(count).is_some_and(|end| end <= self.blocks)
    }
}

/// Puts the checksum of a superblock in place, as `metadata_csum` has it.
pub(super) fn put_checksum(raw: &mut [u8]) {
    let sum = checksum_of(raw);
    put(raw, CHECKSUM, &sum.to_le_bytes());
}

/// It covers what stands before it.
fn checksum_of(raw: &[u8]) -> u32 {
    crc32c(!0, raw.get(..CHECKSUM).unwrap_or_default())
}

/// Puts a number in its two places.
pub(super) fn put_wide(raw: &mut [u8], low: usize, high: usize, number: u64) {
    let [a, b, c, d, above @ ..] = number.to_le_bytes();
    put(raw, low, &[a, b, c, d]);
    put(raw, high, &above);
}

/// `s_checksum`.
const CHECKSUM: usize = 0x3fc;

/// The way that metadata is checked, and whether the superblock itself is right.
fn checksums(raw: &[u8], features: &Features) -> Result<Checksums, Unreadable> {
    if !features.has(METADATA_CSUM) {
        return Ok(if features.has(GDT_CSUM) { Checksums::Descriptors } else { Checksums::None });
    }
    if u8_at(raw, 0x175) != 1 || checksum_of(raw) != u32_at(raw, CHECKSUM) {
        return Err(Unreadable::Fault(Fault::Damaged));
    }
    let seed = if features.has(CSUM_SEED) { u32_at(raw, 0x270) } else { crc32c(!0, &uuid(raw)) };
    Ok(Checksums::All(seed))
}

fn uuid(raw: &[u8]) -> [u8; 16] {
    raw.get(0x68..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default()
}

/// Whether a group has a backup with `sparse_super`.
pub(super) fn is_sparse_backup(group: u64) -> bool {
    group <= 1 || [3, 5, 7].into_iter().any(|base| is_power_of(group, base))
}

fn is_power_of(number: u64, base: u64) -> bool {
    let mut power = base;
    while power < number {
        power = power.saturating_mul(base);
    }
    power == number
}

/// Where it stands, and how long it is.
pub(super) const PLACE: u64 = 1024;
pub(super) const START: usize = 1024;
pub(super) const LEN: usize = 1024;
pub(super) const MAGIC: u16 = 0xef53;
const UNSIGNED_HASH: u32 = 0x2;
/// Blocks that a last group must have to be used, beside those that it takes.
pub(super) const WORTHWHILE: u64 = 50;
