//! A volume that is told of its new groups.

use super::{
    super::{
        super::{
            Fault, Result,
            bytes::{index, put, short, u32_at},
        },
        copies::{is_copy, put_copies},
        features::{RESIZE_INODE as HAS_RESERVED, WIDE},
        group::{Bitmap, clear},
        medium::Run,
        reserved::{DOUBLE, RESIZE_INODE, Reserved},
        superblock::{self, Superblock, put_wide},
        volume::Volume,
    },
    Growth,
};

impl Superblock {
    fn take_sizes_of(&mut self, after: &Self) {
        self.blocks = after.blocks;
        self.groups = after.groups;
        self.inodes = after.inodes;
        self.reserved_blocks = after.reserved_blocks;
        self.reserved_descriptors = after.reserved_descriptors;
    }
}

impl Volume {
    /// Has the volume be what `growth` makes of it, from the next commit on.
    ///
    /// # Errors
    /// `Damaged` where what is reserved for descriptors is not what it should be. Nothing was changed then.
    pub(in crate::filesystem::ext) fn extend(&mut self, growth: &Growth) -> Result<()> {
        if self.superblock.blocks != growth.before {
            return Err(Fault::Invalid);
        }
        if !self.has_log {
            // No journal keeps the superblock from being written before what it tells of.
            self.operation(|volume| {
                let before = volume.superblock.clone();
                volume.superblock.take_sizes_of(&growth.after);
                let done = volume.put_descriptors(&before, growth);
                volume.superblock = before;
                done
            })?;
            self.commit()?;
        }
        self.operation(|volume| {
            let before = volume.superblock.clone();
            let done = volume.extend_from(&before, growth);
            if done.is_err() {
                volume.superblock = before;
            }
            done
        })
    }

    fn extend_from(&mut self, before: &Superblock, growth: &Growth) -> Result<()> {
        let gained = self.extend_last_group(growth)?;
        let free = growth.groups().map(|(_, group)| u64::from(group.free_blocks)).sum::<u64>();
        let after = &growth.after;
        let superblock = &mut self.superblock;
        superblock.take_sizes_of(after);
        superblock.free_blocks = superblock.free_blocks.saturating_add(gained).saturating_add(free);
        superblock.free_inodes =
            superblock.free_inodes.saturating_add(after.inodes.saturating_sub(before.inodes));
        if superblock.overhead > 0 {
            superblock.overhead = superblock.overhead.saturating_add(growth.taken());
        }
        self.put_descriptors(before, growth)?;
        self.put_reserved(before)?;
        self.put_sizes()
    }

    /// Frees what the last group has more. How many blocks that is.
    fn extend_last_group(&mut self, growth: &Growth) -> Result<u64> {
        let last = self.superblock.groups.saturating_sub(1);
        let (from, to) = (self.superblock.blocks_in(last), growth.after.blocks_in(last));
        let gained = to.saturating_sub(from);
        if gained > 0 {
            let mut group = self.group(last)?;
            self.change_bitmap(last, &mut group, Bitmap::Blocks, |bits| clear(bits, from, to))?;
            group.free_blocks = group.free_blocks.saturating_add(short(gained));
            self.put_group(last, &group)?;
        }
        Ok(gained)
    }

    /// The descriptors of the new groups.
    fn put_descriptors(&mut self, before: &Superblock, growth: &Growth) -> Result<()> {
        for meta_group in before.descriptors()..growth.after.descriptors() {
            let block = self.descriptor_block(meta_group)?;
            self.store.fresh(block);
        }
        growth.groups().try_for_each(|(number, group)| self.put_group(number, group))
    }

    /// Has the inode with what is reserved for descriptors give up those that are descriptors now, and have the copies of the others in
    /// new groups.
    fn put_reserved(&mut self, before: &Superblock) -> Result<()> {
        if !self.superblock.features.has(HAS_RESERVED) {
            return Ok(());
        }
        let after = self.superblock.clone();
        let (Some(old), Some(new)) = (Reserved::of(before), Reserved::of(&after)) else {
            return Err(Fault::Damaged);
        };
        let mut inode = self.inode(RESIZE_INODE)?;
        let top = u64::from(u32_at(inode.root(), DOUBLE * 4));
        if !before.has_blocks(top, 1) || *self.store.block(top)?.bytes != old.list()[..] {
            return Err(Fault::Damaged);
        }
        self.store.change(top)?.copy_from_slice(&new.list());
        if old.copies() != new.copies() {
            for place in new.places() {
                if *self.store.block(place)?.bytes != old.copies_of(place)[..] {
                    return Err(Fault::Damaged);
                }
                self.store.change(place)?.copy_from_slice(&new.copies_of(place));
            }
        }
        inode.set_allocated(&after, new.allocated())?;
        self.put_inode(&inode)
    }

    /// Has the superblock tell of the new sizes.
    fn put_sizes(&mut self) -> Result<()> {
        let superblock = self.superblock.clone();
        self.edit_superblock(|raw| {
            if superblock.features.has(WIDE) {
                put_wide(raw, 0x4, 0x150, superblock.blocks);
                put_wide(raw, 0x8, 0x154, superblock.reserved_blocks);
            } else {
                put(raw, 0x4, &short(superblock.blocks).to_le_bytes());
                put(raw, 0x8, &short(superblock.reserved_blocks).to_le_bytes());
            }
            put(raw, 0, &superblock.inodes.to_le_bytes());
            put(raw, 0x248, &short(superblock.overhead).to_le_bytes());
            let [low, high, ..] = superblock.reserved_descriptors.to_le_bytes();
            put(raw, 0xce, &[low, high]);
        })
    }

    /// Whether the copies of the superblock and of the descriptors are of this size: the last of them, which is written last.
    pub(in crate::filesystem::ext) fn has_right_copies(&self) -> Result<bool> {
        let Some(last) = self.last_copy() else { return Ok(true) };
        let mut copy = vec![0; superblock::LEN];
        let place = self.superblock.first_of(last).saturating_mul(self.superblock.block_len.into());
        self.store.medium.read(&mut copy, place)?;
        Ok(is_copy(&copy, &self.head()?, last))
    }

    /// Writes the copies.
    pub(in crate::filesystem::ext) fn put_copies(&self) -> Result<()> {
        let (superblock, medium, head) = (&self.superblock, &self.store.medium, self.head()?);
        let last = self.last_copy();
        let mut put = |group: u64| {
            let mut run = Run::default();
            put_copies((medium, &mut run), superblock, group, &head, &mut |meta_group, place| {
                let first = self.descriptor_block(meta_group)?;
                Ok(if first == place { None } else { Some(self.store.block(first)?.bytes.to_vec()) })
            })?;
            run.write(medium)
        };
        (1..superblock.groups).filter(|group| Some(*group) != last).try_for_each(&mut put)?;
        medium.flush()?;
        last.map_or(Ok(()), &mut put)?;
        medium.flush()
    }

    /// The last group with a copy of the superblock.
    fn last_copy(&self) -> Option<u64> {
        (1..self.superblock.groups).rev().find(|group| self.superblock.has_super(*group))
    }

    /// The superblock, as it is now.
    fn head(&self) -> Result<Vec<u8>> {
        let block = self.store.block(self.head_block())?;
        let within = index(superblock::PLACE % u64::from(self.superblock.block_len));
        let raw = block.bytes.get(within..).and_then(|rest| rest.get(..superblock::LEN));
        raw.map(<[u8]>::to_vec).ok_or(Fault::Damaged)
    }
}
