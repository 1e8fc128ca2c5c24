//! Files that nothing names, or that are being cut off: a list on the medium, by which a power cut leaves nothing lost.

use std::collections::HashSet;

use super::{
    super::{
        Fault, Kind, Result,
        bytes::{index, put, u32_at},
    },
    checksum::crc32c_of,
    features::{ORPHAN_FILE, ORPHAN_PRESENT},
    inode::{EXTENTS, Inode},
    mapping::{PAST, Place},
    stamp::Time,
    volume::Volume,
};

impl Volume {
    /// Puts a file at the head of the list.
    pub(super) fn add_orphan(&mut self, inode: &mut Inode) -> Result<()> {
        if self.orphans.contains(&inode.number) {
            return Ok(());
        }
        inode.set_deleted(self.orphans.last().copied().unwrap_or(0));
        let number = inode.number;
        self.edit_superblock(|raw| put(raw, HEAD, &number.to_le_bytes()))?;
        self.orphans.push(number);
        Ok(())
    }

    /// Takes it off the list.
    pub(super) fn remove_orphan(&mut self, inode: &mut Inode) -> Result<()> {
        let Some(at) = self.orphans.iter().rposition(|number| *number == inode.number) else { return Ok(()) };
        let next = at.checked_sub(1).and_then(|at| self.orphans.get(at)).copied().unwrap_or(0);
        match self.orphans.get(at.saturating_add(1)).copied() {
            None => self.edit_superblock(|raw| put(raw, HEAD, &next.to_le_bytes()))?,
            Some(before) => {
                let mut before = self.inode(before)?;
                before.set_deleted(next);
                self.put_inode(&before)?;
            }
        }
        inode.set_deleted(0);
        self.orphans.remove(at);
        Ok(())
    }

    /// Reads the list.
    pub(super) fn load_orphans(&mut self) -> Result<()> {
        let block_len = u64::from(self.superblock.block_len);
        let within = index(super::superblock::PLACE % block_len);
        let block = self.store.block(super::superblock::PLACE / block_len)?;
        let mut next = u32_at(&block.bytes, within.saturating_add(HEAD));
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        while next != 0 {
            if found.len() >= MOST || !seen.insert(next) {
                return Err(Fault::Damaged);
            }
            found.push(next);
            next = self.inode(next)?.deleted();
        }
        found.reverse();
        self.orphans = found;
        Ok(())
    }

    /// Ends what was begun with the files of the list, and those of the file of orphans, when the volume was left.
    pub(super) fn finish_orphans(&mut self) -> Result<()> {
        self.load_orphans()?;
        for number in self.orphans.clone() {
            self.finish_orphan(number)?;
        }
        if self.superblock.features.has(ORPHAN_PRESENT) {
            self.finish_orphan_file()?;
        }
        Ok(())
    }

    fn finish_orphan(&mut self, number: u32) -> Result<()> {
        match self.inode(number)?.links {
            0 => self.free_file(number),
            _ => self.finish_cut(number),
        }
    }

    /// Ends the cutting off of a file at its size.
    pub(super) fn finish_cut(&mut self, number: u32) -> Result<()> {
        while !self.operation(|volume| {
            let mut inode = volume.inode(number)?;
            let is_done = volume.cut_step(&mut inode)?;
            // One that nothing names stays there until it goes itself.
            if is_done && inode.links > 0 {
                volume.remove_orphan(&mut inode)?;
            }
            volume.put_inode(&inode)?;
            Ok(is_done)
        })? {}
        Ok(())
    }

    /// Takes away some of the blocks behind a file's end. Whether there are no more.
    pub(super) fn cut_step(&mut self, inode: &mut Inode) -> Result<bool> {
        if !self.has_blocks(inode)? {
            return Ok(true);
        }
        let mut next = inode.size.div_ceil(self.superblock.block_len.into());
        let end = if inode.has(EXTENTS) { PAST } else { self.longest_list() };
        // Steps that find nothing do not count: what is there may be far behind.
        let most = self.space.len().saturating_add(MOST_RUNS);
        while next < end && self.space.len() < most {
            next = self.cut_out(inode, next..end)?;
        }
        Ok(next >= end)
    }

    /// Whether a file may have blocks of its own: links that stand in their inodes have none, nor have devices.
    fn has_blocks(&self, inode: &Inode) -> Result<bool> {
        Ok(match inode.kind()? {
            Kind::File | Kind::Directory => !self.is_inline(inode),
            Kind::Link => !self.is_inline(inode) && !self.is_in_root(inode),
            _ => false,
        })
    }

    /// Gives back all that a file without a name has, and the file.
    pub(super) fn free_file(&mut self, number: u32) -> Result<()> {
        while !self.operation(|volume| volume.free_step(number))? {}
        Ok(())
    }

    fn free_step(&mut self, number: u32) -> Result<bool> {
        let mut inode = self.inode(number)?;
        let is_directory = inode.kind()? == Kind::Directory;
        if self.has_blocks(&inode)? {
            inode.set_size(0);
            if !self.cut_step(&mut inode)? {
                self.put_inode(&inode)?;
                return Ok(false);
            }
        }
        self.drop_attribute_block(&mut inode)?;
        self.remove_orphan(&mut inode)?;
        self.free_inode(number, is_directory)?;
        let now = std::time::SystemTime::now();
        inode.set_time(Time::Changed, now);
        let seconds = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        inode.set_deleted(u32::try_from(seconds).unwrap_or(u32::MAX).max(1));
        inode.set_mode(0);
        inode.set_flags(0);
        inode.set_size(0);
        inode.set_root(&[0; 60]);
        self.put_inode(&inode)?;
        Ok(true)
    }

    /// The same for the files that stand in a file of their own, as newer volumes have it. What comes here goes on the list.
    fn finish_orphan_file(&mut self) -> Result<()> {
        if !self.superblock.features.has(ORPHAN_FILE) {
            return Err(Fault::Damaged);
        }
        let file = self.inode(self.superblock.orphan_inode)?;
        let blocks = file.size / u64::from(self.superblock.block_len);
        let per_block = index(self.superblock.block_len).saturating_sub(TAIL) / 4;
        for at in 0..blocks.min(MOST_BLOCKS) {
            let Place::Data(number) = self.map(&file, at)?.place else { return Err(Fault::Damaged) };
            let block = self.store.block(number)?;
            let sum = |bytes: &[u8], seed| {
                crc32c_of(seed, &[&number.to_le_bytes(), bytes.get(..per_block * 4).unwrap_or_default()])
            };
            let (tail, seed) = (block.bytes.len().saturating_sub(TAIL), self.seed_of(&file));
            let is_right = u32_at(&block.bytes, tail) == MAGIC
                && seed.is_none_or(|seed| sum(&block.bytes, seed) == u32_at(&block.bytes, tail + 4));
            if !is_right {
                return Err(Fault::Damaged);
            }
            let numbers: Vec<u32> =
                block.bytes.chunks_exact(4).take(per_block).map(|raw| u32_at(raw, 0)).collect();
            drop(block);
            for (slot, orphan) in numbers.into_iter().enumerate().filter(|(_, orphan)| *orphan != 0) {
                if !super::inode::is_nameable(&self.superblock, orphan) {
                    return Err(Fault::Damaged);
                }
                // From the file to the list, in one step; then it is as any other.
                self.operation(|volume| {
                    let mut inode = volume.inode(orphan)?;
                    volume.add_orphan(&mut inode)?;
                    volume.put_inode(&inode)?;
                    let bytes = volume.store.change(number)?;
                    put(bytes, slot.saturating_mul(4), &[0; 4]);
                    if let Some(seed) = seed {
                        let sum = sum(bytes, seed);
                        put(bytes, tail.saturating_add(4), &sum.to_le_bytes());
                    }
                    Ok(())
                })?;
                self.finish_orphan(orphan)?;
            }
        }
        self.operation(|volume| {
            volume.edit_superblock(|raw| {
                let field = u32_at(raw, 0x64) & !ORPHAN_PRESENT.bit();
                put(raw, 0x64, &field.to_le_bytes());
            })
        })
    }
}

/// The field of the superblock that begins the list.
const HEAD: usize = 0xe8;
/// Files on it at most.
const MOST: usize = 1 << 16;
/// Blocks of the file of orphans.
const MOST_BLOCKS: u64 = 1 << 12;
const MAGIC: u32 = 0x0b10_ca04;
const TAIL: usize = 8;
/// Runs of blocks that are given back in one operation, but for those of its last step.
const MOST_RUNS: usize = 128;
