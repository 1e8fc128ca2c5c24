//! Groups of blocks: their descriptors and their bitmaps.

use std::{ops::Range, sync::Arc};

use super::{
    super::{
        Fault, Result,
        bytes::{index, put, u16_at, u32_at},
    },
    checksum::{crc16, crc32c, crc32c_of},
    running::Seal,
    store::Block,
    superblock::{Checksums, Superblock},
    volume::Volume,
};

/// What a descriptor says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) block_bitmap: u64,
    pub(super) inode_bitmap: u64,
    pub(super) inode_table: u64,
    pub(super) free_blocks: u32,
    pub(super) free_inodes: u32,
    pub(super) directories: u32,
    /// Inodes at the end of the table that were never used.
    pub(super) unused_inodes: u32,
    pub(super) flags: u16,
    block_sum: u32,
    inode_sum: u32,
}

/// One of the two bitmaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bitmap {
    Blocks,
    Inodes,
}

impl Group {
    fn parse(raw: &[u8]) -> Self {
        let is_wide = raw.len() >= 64;
        let short = |low: usize, high: usize| {
            let high = if is_wide { u32::from(u16_at(raw, high)) << 16 } else { 0 };
            high | u32::from(u16_at(raw, low))
        };
        let long = |low: usize, high: usize| {
            let high = if is_wide { u64::from(u32_at(raw, high)) << 32 } else { 0 };
            high | u64::from(u32_at(raw, low))
        };
        Self {
            block_bitmap: long(0, 0x20),
            inode_bitmap: long(0x4, 0x24),
            inode_table: long(0x8, 0x28),
            free_blocks: short(0xc, 0x2c),
            free_inodes: short(0xe, 0x2e),
            directories: short(0x10, 0x30),
            unused_inodes: short(0x1c, 0x32),
            flags: u16_at(raw, 0x12),
            block_sum: short(0x18, 0x38),
            inode_sum: short(0x1a, 0x3a),
        }
    }

    /// One of which nothing is in use.
    pub(super) const fn new(block_bitmap: u64, inode_bitmap: u64, inode_table: u64, flags: u16) -> Self {
        Self {
            block_bitmap,
            inode_bitmap,
            inode_table,
            free_blocks: 0,
            free_inodes: 0,
            directories: 0,
            unused_inodes: 0,
            flags,
            block_sum: 0,
            inode_sum: 0,
        }
    }

    fn put(&self, raw: &mut [u8]) {
        let is_wide = raw.len() >= 64;
        for (place, low, high) in
            [(self.block_bitmap, 0, 0x20), (self.inode_bitmap, 0x4, 0x24), (self.inode_table, 0x8, 0x28)]
        {
            let [a, b, c, d, above @ ..] = place.to_le_bytes();
            put(raw, low, &[a, b, c, d]);
            if is_wide {
                put(raw, high, &above);
            }
        }
        put(raw, 0x12, &self.flags.to_le_bytes());
        for (value, low, high) in [
            (self.free_blocks, 0xc, 0x2c),
            (self.free_inodes, 0xe, 0x2e),
            (self.directories, 0x10, 0x30),
            (self.unused_inodes, 0x1c, 0x32),
            (self.block_sum, 0x18, 0x38),
            (self.inode_sum, 0x1a, 0x3a),
        ] {
            let [a, b, c, d] = value.to_le_bytes();
            put(raw, low, &[a, b]);
            if is_wide {
                put(raw, high, &[c, d]);
            }
        }
    }

    pub(super) const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Has it tell the checksum of a bitmap, where it has one.
    pub(super) fn seal(&mut self, superblock: &Superblock, which: Bitmap, bits: &[u8]) {
        let Some(sum) = bitmap_sum(superblock, bits, which) else { return };
        match which {
            Bitmap::Blocks => self.block_sum = sum,
            Bitmap::Inodes => self.inode_sum = sum,
        }
    }
}

/// Writes a descriptor, with its checksum where it has one.
pub(super) fn put_descriptor(superblock: &Superblock, number: u64, group: &Group, raw: &mut [u8]) {
    group.put(raw);
    if let Some(sum) = descriptor_sum(superblock, number, raw) {
        put(raw, 0x1e, &sum.to_le_bytes());
    }
}

impl Volume {
    /// What is known of a group.
    pub(super) fn group(&self, group: u64) -> Result<Group> {
        let superblock = &self.superblock;
        let (block, start) = self.descriptor_place(group)?;
        let block = self.store.block(block)?;
        let raw =
            start.checked_add(index(superblock.descriptor_len)).and_then(|end| block.bytes.get(start..end));
        let raw = raw.ok_or(Fault::Damaged)?;
        if descriptor_sum(superblock, group, raw).is_some_and(|sum| sum != u16_at(raw, 0x1e)) {
            return Err(Fault::Damaged);
        }
        Ok(Group::parse(raw))
    }

    /// Writes what changed of it.
    pub(super) fn put_group(&mut self, number: u64, group: &Group) -> Result<()> {
        let (block, start) = self.descriptor_place(number)?;
        let len = index(self.superblock.descriptor_len);
        let bytes = self.store.change(block)?;
        let raw = bytes.get_mut(start..start.saturating_add(len)).ok_or(Fault::Damaged)?;
        put_descriptor(&self.superblock, number, group, raw);
        Ok(())
    }

    /// Where a group's table of inodes begins.
    pub(super) fn inode_table(&self, group: u64) -> Result<u64> {
        let superblock = &self.superblock;
        let first = self.group(group)?.inode_table;
        if superblock.has_blocks(first, superblock.inode_table_blocks()) {
            Ok(first)
        } else {
            Err(Fault::Damaged)
        }
    }

    fn descriptor_place(&self, group: u64) -> Result<(u64, usize)> {
        let len = self.superblock.descriptor_len;
        let per_block = self.superblock.descriptors_per_block();
        let block = self.descriptor_block(group / per_block)?;
        Ok((block, index((group % per_block).saturating_mul(len))))
    }

    /// The block of a meta group's descriptors.
    pub(super) fn descriptor_block(&self, meta_group: u64) -> Result<u64> {
        let superblock = &self.superblock;
        let block = if meta_group < superblock.first_meta_group {
            // Behind the superblock, which stands 1024 bytes from the start.
            let after = if superblock.block_len == 1024 { 2 } else { 1 };
            meta_group.saturating_add(after)
        } else {
            let group = meta_group.saturating_mul(superblock.descriptors_per_block());
            let is_shifted = group == 0 && superblock.block_len == 1024 && superblock.first_block == 0;
            let behind = u64::from(superblock.has_super(group)) + u64::from(is_shifted);
            superblock.first_of(group).saturating_add(behind)
        };
        if superblock.has_blocks(block, 1) { Ok(block) } else { Err(Fault::Damaged) }
    }

    /// A bitmap as it is; one that was never written is made here.
    pub(super) fn bitmap(&self, number: u64, group: &Group, which: Bitmap) -> Result<Arc<Block>> {
        if group.has(which.unwritten()) && self.superblock.checksums != Checksums::None {
            return Ok(Arc::new(Block::new(self.new_bitmap(number, group, which).into_boxed_slice())));
        }
        let place = which.place(group);
        if !self.superblock.has_blocks(place, 1) {
            return Err(Fault::Damaged);
        }
        let block = self.store.block(place)?;
        let found = which.sum(group);
        block.checked(|bytes| bitmap_sum(&self.superblock, bytes, which).is_none_or(|sum| sum == found))?;
        Ok(block)
    }

    /// Changes a bitmap; the descriptor, in `group`, is for the caller to write.
    pub(super) fn change_bitmap(
        &mut self,
        number: u64,
        group: &mut Group,
        which: Bitmap,
        change: impl FnOnce(&mut [u8]),
    ) -> Result<()> {
        let now = self.bitmap(number, group, which)?;
        let place = which.place(group);
        if !self.superblock.has_blocks(place, 1) {
            return Err(Fault::Damaged);
        }
        let bytes = if group.has(which.unwritten()) && self.superblock.checksums != Checksums::None {
            group.flags &= !which.unwritten();
            let bytes = self.store.fresh(place);
            bytes.copy_from_slice(now.bytes.get(..bytes.len()).unwrap_or_default());
            bytes
        } else {
            drop(now);
            self.store.change(place)?
        };
        change(bytes);
        if self.seed().is_some() {
            self.store.seal_later(place, Seal::Bitmap(number, which));
        }
        Ok(())
    }

    /// Has a group's descriptor tell the checksum of a bitmap that was changed.
    pub(super) fn seal_bitmap(&mut self, number: u64, which: Bitmap) -> Result<()> {
        let mut group = self.group(number)?;
        let bits = self.store.block(which.place(&group))?;
        group.seal(&self.superblock, which, &bits.bytes);
        self.put_group(number, &group)
    }

    /// What a bitmap would be that was never written.
    fn new_bitmap(&self, number: u64, group: &Group, which: Bitmap) -> Vec<u8> {
        let superblock = &self.superblock;
        let mut bits = vec![0; index(superblock.block_len)];
        let all = u64::from(superblock.block_len) * 8;
        match which {
            Bitmap::Inodes => set(&mut bits, superblock.inodes_per_group.into(), all),
            Bitmap::Blocks => {
                let first = superblock.first_of(number);
                set(&mut bits, superblock.blocks_in(number), all);
                set(&mut bits, 0, superblock.own_blocks(number));
                for (place, len) in [
                    (group.block_bitmap, 1),
                    (group.inode_bitmap, 1),
                    (group.inode_table, superblock.inode_table_blocks()),
                ] {
                    if let Some(at) = place.checked_sub(first).filter(|at| *at < superblock.blocks_in(number))
                    {
                        set(&mut bits, at, at.saturating_add(len).min(all));
                    }
                }
            }
        }
        bits
    }
}

impl Bitmap {
    const fn place(self, group: &Group) -> u64 {
        match self {
            Self::Blocks => group.block_bitmap,
            Self::Inodes => group.inode_bitmap,
        }
    }

    const fn sum(self, group: &Group) -> u32 {
        match self {
            Self::Blocks => group.block_sum,
            Self::Inodes => group.inode_sum,
        }
    }

    /// The flag of a bitmap that was never written.
    const fn unwritten(self) -> u16 {
        match self {
            Self::Inodes => INODES_UNWRITTEN,
            Self::Blocks => BLOCKS_UNWRITTEN,
        }
    }
}

/// Bytes of a bitmap that its checksum covers.
fn bitmap_len(superblock: &Superblock, which: Bitmap) -> usize {
    index(match which {
        Bitmap::Blocks => superblock.blocks_per_group / 8,
        Bitmap::Inodes => u64::from(superblock.inodes_per_group / 8),
    })
}

/// The checksum of a bitmap, as its descriptor has room for it; where it has one.
fn bitmap_sum(superblock: &Superblock, bytes: &[u8], which: Bitmap) -> Option<u32> {
    let Checksums::All(seed) = superblock.checksums else { return None };
    let sum = crc32c(seed, bytes.get(..bitmap_len(superblock, which)).unwrap_or_default());
    Some(if superblock.descriptor_len >= 64 { sum } else { sum & 0xffff })
}

/// The checksum of a descriptor, where it has one.
fn descriptor_sum(superblock: &Superblock, group: u64, raw: &[u8]) -> Option<u16> {
    let number = u32::try_from(group).unwrap_or(u32::MAX).to_le_bytes();
    let (before, after) = (raw.get(..0x1e).unwrap_or_default(), raw.get(0x20..).unwrap_or_default());
    match superblock.checksums {
        Checksums::None => None,
        Checksums::Descriptors => {
            let parts = [&superblock.uuid[..], &number, before, after];
            Some(parts.iter().fold(!0, |sum, part| crc16(sum, part)))
        }
        Checksums::All(seed) => {
            let [low, high, ..] = crc32c_of(seed, &[&number, before, &[0; 2], after]).to_le_bytes();
            Some(u16::from_le_bytes([low, high]))
        }
    }
}

/// Sets the bits from `from` to the one before `to`.
pub(super) fn set(bits: &mut [u8], from: u64, to: u64) {
    each_byte(bits, from..to, |byte, mask| *byte |= mask);
}

/// Clears them.
pub(super) fn clear(bits: &mut [u8], from: u64, to: u64) {
    each_byte(bits, from..to, |byte, mask| *byte &= !mask);
}

/// Calls `change` with each byte that has bits of a range, and with these bits.
fn each_byte(bits: &mut [u8], range: Range<u64>, change: impl Fn(&mut u8, u8)) {
    let touched = bits.get_mut(index(range.start / 8)..).unwrap_or_default();
    for (at, byte) in (range.start / 8..range.end.div_ceil(8)).zip(touched) {
        let first = at.saturating_mul(8);
        let from = range.start.saturating_sub(first).min(8);
        let to = range.end.saturating_sub(first).min(8);
        let [mask, _] = (0xff_u16 << from & 0xff_u16 >> 8_u64.saturating_sub(to)).to_le_bytes();
        change(byte, mask);
    }
}

/// Whether a bit is set; those past the end are.
pub(super) fn is_set(bits: &[u8], at: u64) -> bool {
    bits.get(index(at / 8)).is_none_or(|byte| byte >> (at % 8) & 1 == 1)
}

/// The bitmap of inodes was never written, and nothing of the table is in use.
pub(super) const INODES_UNWRITTEN: u16 = 0x1;
/// The same of blocks.
pub(super) const BLOCKS_UNWRITTEN: u16 = 0x2;
/// The table of inodes reads as zeros where nothing was written.
pub(super) const TABLE_ZEROED: u16 = 0x4;
