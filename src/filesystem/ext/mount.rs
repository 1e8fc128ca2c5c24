//! Volumes opened to be written: the journal brought to its places, and what was begun when the volume was left ended.

use std::{collections::HashMap, sync::Arc};

use super::{
    super::{Fault, Result, bytes::index},
    features::{HAS_JOURNAL, RECOVER},
    journal::Journal,
    log::Log,
    volume::{Unreadable, Unwritten, Volume},
};
use crate::block::ByteDevice;

impl Volume {
    /// Opens a volume to be written. What keeps it from that is told; it is as it was then.
    pub(super) fn open_to_write(
        device: &Arc<ByteDevice>,
    ) -> Result<(Self, Journal, Option<Unwritten>), Unreadable> {
        let (mut volume, journal) = Self::open(device, device.size())?;
        if let Some(why) = volume.unwritten(journal) {
            return Ok((volume, journal, Some(why)));
        }
        if volume.superblock.features.has(HAS_JOURNAL) {
            let mut log = match Log::open(&volume) {
                Ok(log) => log,
                Err(why) => return Ok((volume, journal, Some(Unwritten::Foreign(why.to_owned())))),
            };
            if volume.superblock.features.has(RECOVER) {
                volume.copy_journal()?;
                // What it held is at its places.
                log.put_start(&volume.store.medium, false)?;
                volume = Self::with(device, device.size(), HashMap::new())?;
                volume.is_marked = true;
            }
            (volume.has_log, volume.room) = (true, log.room(volume.superblock.block_len));
            volume.log = Some(log);
        }
        volume.recount();
        match volume.finish_orphans() {
            Ok(()) => Ok((volume, journal, None)),
            Err(Fault::Io | Fault::ReadOnly) => Err(Fault::Io.into()),
            Err(_) => {
                let why = Unwritten::Damaged("the files that were being removed are damaged");
                Ok((volume, journal, Some(why)))
            }
        }
    }

    /// What keeps a volume from being written.
    fn unwritten(&self, journal: Journal) -> Option<Unwritten> {
        let superblock = &self.superblock;
        if let Some(feature) = superblock.features.unwritten() {
            return Some(Unwritten::Foreign(format!("it has the feature {feature}")));
        }
        let is_elsewhere = superblock.features.has(HAS_JOURNAL) && superblock.journal_inode == 0;
        let foreign = |why: &str| Some(Unwritten::Foreign(why.to_owned()));
        match journal {
            _ if is_elsewhere => foreign("its journal is on another device"),
            _ if superblock.blocks_per_group < SMALLEST_GROUP
                || !superblock.blocks_per_group.is_multiple_of(8)
                || !superblock.inodes_per_group.is_multiple_of(8) =>
            {
                foreign("its groups are too small")
            }
            _ if superblock.block_len > LARGEST_BLOCK => foreign("its blocks are too large"),
            Journal::Unread(why) => Some(Unwritten::Damaged(why)),
            Journal::Missing => Some(Unwritten::Damaged("it was not unmounted cleanly")),
            _ if superblock.has_errors => Some(Unwritten::Damaged("it is marked as damaged")),
            _ => None,
        }
    }

    /// Writes what the journal has to its places, the superblock last. A power cut within it leaves the journal, and it is done again.
    fn copy_journal(&mut self) -> Result<()> {
        let block_len = u64::from(self.superblock.block_len);
        let mut bytes = vec![0; index(block_len)];
        let (head, rest): (Vec<_>, Vec<_>) =
            self.store.replayed().into_iter().partition(|number| *number == self.head_block());
        for part in [rest, head] {
            for number in part {
                self.store.read(&mut bytes, number, 0)?;
                self.store.medium.write(&bytes, number.saturating_mul(block_len))?;
            }
            self.store.medium.flush()?;
        }
        Ok(())
    }

    /// Counts what is free, as the groups have it: a volume that was not unmounted cleanly says so of the groups alone.
    fn recount(&mut self) {
        let (mut blocks, mut inodes) = (0_u64, 0_u64);
        for number in 0..self.superblock.groups {
            let Ok(group) = self.group(number) else { continue };
            blocks = blocks.saturating_add(group.free_blocks.into());
            inodes = inodes.saturating_add(group.free_inodes.into());
        }
        self.superblock.free_blocks = blocks.min(self.superblock.blocks);
        let most = u64::from(self.superblock.inodes);
        self.superblock.free_inodes = u32::try_from(inodes.min(most)).unwrap_or(u32::MAX);
    }
}

/// Blocks of the smallest groups that mke2fs makes.
const SMALLEST_GROUP: u64 = 256;
/// The largest blocks that the kernel mounts everywhere.
const LARGEST_BLOCK: u32 = 4096;
