//! New volumes: ext4 as mke2fs makes it by default.
//!
//! Nothing is written that reads as zeros already: a bitmap of a group in which nothing is, a table of inodes, an empty journal. The
//! superblock comes last, behind a flush: a power cut before leaves no volume that only seems to be one.

mod inodes;
mod places;
mod sizes;
mod superblock;
mod taken;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use self::{places::Places, sizes::Sizes};
use super::{
    super::{Fault, Result, bytes::index},
    group::{BLOCKS_UNWRITTEN, Bitmap, put_descriptor, set},
    medium::{Medium, Run},
    superblock::{PLACE, Superblock},
};
use crate::block::ByteDevice;

/// What to make.
#[derive(Debug, Clone, Copy)]
pub struct NewExt<'a> {
    /// Bytes of a block: 1024, 2048 or 4096.
    pub block_len: u32,
    /// The user and the group that get the root directory.
    pub owner: (u32, u32),
    /// The volume's name, cut to sixteen bytes.
    pub label: Option<&'a str>,
    /// Numbers that tell volumes apart.
    pub uuid: [u8; 16],
    /// Secret numbers with which names are hashed, so that nobody makes many that hash alike.
    pub hash_seed: [u8; 16],
    /// When it is made.
    pub now: SystemTime,
    /// What becomes of what is to read as zeros.
    pub tables: Tables,
}

/// What becomes of tables of inodes and of the journal, which are to read as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tables {
    /// They do: nothing was written to the device.
    ReadZeros,
    /// Zeros are written.
    Zeroed,
    /// The tables are left to the kernel, which zeroes them once it has mounted the volume.
    Left,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unmade {
    /// Somebody said that it is not wanted any more.
    #[error("interrupted")]
    Interrupted,
    /// It does not fit, or could not be written.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl NewExt<'_> {
    /// Whether there can be one with such blocks on a device of `len` bytes.
    pub fn fits(block_len: u32, len: u64) -> bool {
        Sizes::of(len, block_len).is_some()
    }

    /// Makes an empty file system that fills the device. What was there is lost.
    ///
    /// # Errors
    /// `TooLarge` where the device is too large or too small for it; what writing gave.
    pub fn make(&self, device: &Arc<ByteDevice>, interrupted: &AtomicBool) -> Result<(), Unmade> {
        let sizes = Sizes::of(device.size(), self.block_len).ok_or(Fault::TooLarge)?;
        let mut head = superblock::new(self, &sizes);
        // It must be one that we would open.
        let parsed = Superblock::parse(&head, device.size()).map_err(|_| Fault::Damaged)?;
        let places = Places::of(&parsed, &sizes, self.tables != Tables::Left).ok_or(Fault::TooLarge)?;
        let mut writer = Writer { superblock: &parsed, sizes: &sizes, places, blocks: BTreeMap::new() };
        let journal = inodes::fill_files(self, &parsed, &sizes, &writer.places, &mut writer.blocks)?;
        writer.fill_bitmaps();
        superblock::note_counts(&mut head, &writer.places);
        if let Some(journal) = journal {
            superblock::note_journal(&mut head, journal.root(), journal.size);
        }
        // Nothing of what was there is taken for this volume, whatever comes of it.
        device.zero_range(0..FIRST_ZEROED).map_err(Fault::from)?;
        if self.tables != Tables::ReadZeros {
            writer.zero(device, self.tables == Tables::Zeroed, interrupted)?;
        }
        let medium = Medium::new(Arc::clone(device), self.block_len);
        writer.write(&medium, &head)?;
        medium.flush()?;
        medium.write(&head, PLACE)?;
        Ok(medium.flush()?)
    }
}

/// What is written of a volume.
struct Writer<'a> {
    superblock: &'a Superblock,
    sizes: &'a Sizes,
    places: Places,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Writer<'_> {
    /// Makes the bitmaps that are written, and has the descriptors tell their checksums.
    fn fill_bitmaps(&mut self) {
        let block_len = index(self.sizes.block_len);
        for (number, group) in (0..).zip(&mut self.places.groups) {
            if group.has(BLOCKS_UNWRITTEN) {
                continue;
            }
            let (first, count) = (self.superblock.first_of(number), self.superblock.blocks_in(number));
            let mut bits = vec![0; block_len];
            for run in self.places.taken.within(&(first..first + count)) {
                set(&mut bits, run.start - first, run.end - first);
            }
            set(&mut bits, count, self.sizes.blocks_per_group);
            group.seal(self.superblock, Bitmap::Blocks, &bits);
            self.blocks.insert(group.block_bitmap, bits);
        }
        if let Some(group) = self.places.groups.first_mut() {
            let mut bits = vec![0; block_len];
            set(&mut bits, 0, sizes::FIRST_INODE);
            set(&mut bits, self.sizes.inodes_per_group, u64::from(self.sizes.block_len) * 8);
            group.seal(self.superblock, Bitmap::Inodes, &bits);
            self.blocks.insert(group.inode_bitmap, bits);
        }
    }

    /// Writes zeros where there may be something else: to the journal, and to the tables where they `are_zeroed`. Of those the first
    /// has inodes in it.
    fn zero(&self, device: &ByteDevice, are_zeroed: bool, interrupted: &AtomicBool) -> Result<(), Unmade> {
        let first =
            self.places.groups.first().map(|group| group.inode_table..group.inode_table + self.sizes.table);
        let tables = if are_zeroed { &self.places.tables[..] } else { &[] };
        let runs = self.places.journal.iter().chain(first.as_ref()).chain(tables);
        runs.map(|run| self.bytes_of(run)).try_for_each(|bytes| {
            let mut start = bytes.start;
            while start < bytes.end {
                if interrupted.load(Ordering::Relaxed) {
                    return Err(Unmade::Interrupted);
                }
                let end = bytes.end.min(start + ZEROED_AT_ONCE);
                device.zero_range(start..end).map_err(Fault::from)?;
                start = end;
            }
            Ok(())
        })
    }

    /// Writes all but the superblock, with its copies and those of the descriptors.
    fn write(&self, medium: &Medium, head: &[u8]) -> Result<()> {
        let descriptors = self.descriptors();
        let block_len = index(self.sizes.block_len);
        let mut run = Run::default();
        let copies = (0..self.sizes.groups).filter(|group| self.superblock.has_super(*group));
        for group in copies {
            let first = self.superblock.first_of(group);
            if group > 0 {
                let mut block = superblock::copy_for(head, group);
                block.resize(block_len, 0);
                run.add(medium, first, &block)?;
            }
            for (place, block) in (first + 1..).zip(descriptors.chunks(block_len)) {
                run.add(medium, place, block)?;
            }
        }
        for (place, block) in &self.blocks {
            run.add(medium, *place, block)?;
        }
        run.write(medium)
    }

    fn descriptors(&self) -> Vec<u8> {
        let len = index(self.superblock.descriptor_len);
        let mut bytes = vec![0; index(self.sizes.descriptors) * index(self.sizes.block_len)];
        let places = bytes.chunks_mut(len);
        for ((number, group), raw) in (0..).zip(&self.places.groups).zip(places) {
            put_descriptor(self.superblock, number, group, raw);
        }
        bytes
    }

    fn bytes_of(&self, run: &Range<u64>) -> Range<u64> {
        let block_len = u64::from(self.sizes.block_len);
        run.start * block_len..run.end * block_len
    }
}

/// Bytes at the start: the boot sectors, and an older superblock.
const FIRST_ZEROED: u64 = 4096;
/// Bytes that are zeroed before somebody is asked whether to go on.
const ZEROED_AT_ONCE: u64 = 16 << 20;
