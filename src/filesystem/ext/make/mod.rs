//! New volumes: ext4 as mke2fs makes it by default.
//!
//! Nothing is written that reads as zeros already: a bitmap of a group in which nothing is, a table of inodes, an empty journal. The
//! superblock comes last, behind a flush: a power cut before leaves no volume that only seems to be one.

mod inodes;
mod places;
mod sizes;
mod superblock;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use self::{places::Places, sizes::Sizes};
use super::{
    super::{Fault, Result, bytes::index},
    copies::put_copies,
    group::put_descriptor,
    layout::zero,
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
        let mut writer = Writer { superblock: &parsed, places, blocks: BTreeMap::new() };
        let journal = inodes::fill_files(self, &parsed, &sizes, &writer.places, &mut writer.blocks)?;
        writer.places.layout.fill_bitmaps(&parsed, &mut writer.blocks);
        superblock::note_counts(&mut head, &writer.places);
        if let Some(journal) = journal {
            superblock::note_journal(&mut head, journal.root(), journal.size);
        }
        // Nothing of what was there is taken for this volume, whatever comes of it.
        let medium = Medium::new(Arc::clone(device), self.block_len);
        medium.zero(0..FIRST_ZEROED)?;
        if self.tables != Tables::ReadZeros {
            writer.zero(&medium, self.tables == Tables::Zeroed, interrupted)?;
        }
        writer.write(&medium, &head)?;
        medium.flush()?;
        medium.write(&head, PLACE)?;
        Ok(medium.flush()?)
    }
}

/// What is written of a volume.
struct Writer<'a> {
    superblock: &'a Superblock,
    places: Places,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Writer<'_> {
    /// Writes zeros where there may be something else: to the journal, and to the tables where they `are_zeroed`. Of those the first
    /// has inodes in it.
    fn zero(&self, medium: &Medium, are_zeroed: bool, interrupted: &AtomicBool) -> Result<(), Unmade> {
        let layout = &self.places.layout;
        let table = self.superblock.inode_table_blocks();
        let first = layout.groups.first().map(|group| group.inode_table..group.inode_table + table);
        let tables = if are_zeroed { &layout.tables[..] } else { &[] };
        let runs = self.places.journal.iter().chain(first.as_ref()).chain(tables);
        zero(medium, runs, &|| interrupted.load(Ordering::Relaxed))
    }

    /// Writes all but the superblock, with its copies and those of the descriptors.
    fn write(&self, medium: &Medium, head: &[u8]) -> Result<()> {
        let descriptors = self.descriptors();
        let mut run = Run::default();
        for group in 0..self.superblock.groups {
            put_copies((medium, &mut run), self.superblock, group, head, &mut |meta_group, _| {
                Ok(descriptors.get(index(meta_group)).cloned())
            })?;
        }
        for (place, block) in &self.blocks {
            run.add(medium, *place, block)?;
        }
        run.write(medium)
    }

    /// The blocks of all descriptors.
    fn descriptors(&self) -> Vec<Vec<u8>> {
        let (len, superblock) = (index(self.superblock.descriptor_len), self.superblock);
        let mut blocks = vec![vec![0; index(superblock.block_len)]; index(superblock.descriptors())];
        let places = blocks.iter_mut().flat_map(|block| block.chunks_mut(len));
        for ((number, group), raw) in (0..).zip(&self.places.layout.groups).zip(places) {
            put_descriptor(superblock, number, group, raw);
        }
        blocks
    }
}

/// Bytes at the start: the boot sectors, and an older superblock.
const FIRST_ZEROED: u64 = 4096;
