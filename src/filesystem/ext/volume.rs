//! A volume that was opened: its superblock, its blocks, its groups.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    super::{Fault, Result, bytes::index},
    checksum::{crc32c, crc32c_of},
    commit::Outcome,
    inode::Inode,
    journal::{self, Journal, Replayed},
    log::{Log, MOST_KEPT},
    space::Freed,
    store::Store,
    superblock::{self, Checksums, Superblock},
};
use crate::block::ByteDevice;

/// Why a volume is not shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It has a feature that is not understood: its name, or its bit.
    #[error("the file system has the feature {0}, which strongroom cannot read")]
    Feature(String),
    /// It cannot be read, or makes no sense.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why a volume that can be read is not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritten {
    /// It is made in a way that is not written here.
    #[error("{0}")]
    Foreign(String),
    /// It takes a repair first.
    #[error("{0}")]
    Damaged(&'static str),
}

/// A volume, as its journal left it.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) superblock: Superblock,
    pub(super) store: Store,
    /// Whether changes go through a log.
    pub(super) has_log: bool,
    /// Blocks that may wait for their places.
    pub(super) room: u32,
    /// The log, where that is so, and nobody is writing it.
    pub(super) log: Option<Log>,
    /// The transaction that is on its way to the medium.
    pub(super) commit: Option<Arc<Outcome>>,
    /// How many transactions were begun, and how many have arrived.
    pub(super) begun: u64,
    pub(super) arrived: u64,
    /// Blocks that were given back, and are not to be taken yet.
    pub(super) space: Freed,
    /// Whether the medium says that the volume is in use.
    pub(super) is_marked: bool,
    /// Files that nothing names, in the order of the list on the medium, from its end.
    pub(super) orphans: Vec<u32>,
    /// What the next new file is told apart by from those that had its number.
    pub(super) generation: u32,
}

impl Volume {
    /// Opens the volume, which has `most` bytes, and replays its journal in memory where it has one that was not emptied.
    pub(super) fn open(device: &Arc<ByteDevice>, most: u64) -> Result<(Self, Journal), Unreadable> {
        let left = Self::with(device, most, HashMap::new())?;
        let (replayed, journal) = journal::replay(&left)?;
        if replayed.is_empty() {
            return Ok((left, journal));
        }
        Ok((Self::with(device, most, replayed)?, journal))
    }

    pub(super) fn with(device: &Arc<ByteDevice>, most: u64, replayed: Replayed) -> Result<Self, Unreadable> {
        let mut raw = vec![0; superblock::LEN];
        device.read_at(&mut raw, superblock::PLACE).map_err(Fault::from)?;
        let superblock = Superblock::parse(&raw, most)?;
        let store = Store::new(Arc::clone(device), superblock.block_len, replayed);
        // The superblock is in the journal as well.
        let block_len = u64::from(superblock.block_len);
        store.read(&mut raw, superblock::PLACE / block_len, superblock::PLACE % block_len)?;
        let replayed = Superblock::parse(&raw, most)?;
        if replayed.block_len != superblock.block_len {
            return Err(Unreadable::Fault(Fault::Damaged));
        }
        let room = MOST_KEPT / replayed.block_len.max(1);
        Ok(Self {
            superblock: replayed,
            store,
            has_log: false,
            room,
            log: None,
            commit: None,
            begun: 0,
            arrived: 0,
            space: Freed::default(),
            is_marked: false,
            orphans: Vec::new(),
            generation: seed(),
        })
    }

    /// Reads an inode, also one that nothing names.
    pub(super) fn inode(&self, number: u32) -> Result<Inode> {
        let superblock = &self.superblock;
        let (block, start) = self.inode_place(number)?;
        let block = self.store.block(block)?;
        let raw = start.checked_add(index(superblock.inode_len)).and_then(|end| block.bytes.get(start..end));
        Inode::parse(superblock, number, raw.ok_or(Fault::Damaged)?)
    }

    /// The block of an inode, and where in it.
    pub(super) fn inode_place(&self, number: u32) -> Result<(u64, usize)> {
        let superblock = &self.superblock;
        let at = number.checked_sub(1).filter(|_| number <= superblock.inodes).ok_or(Fault::Stale)?;
        let (group, within) =
            (at.checked_div(superblock.inodes_per_group), at.checked_rem(superblock.inodes_per_group));
        let (group, within) = group.zip(within).ok_or(Fault::Damaged)?;
        let table = self.inode_table(group.into())?;
        let offset = u64::from(within).saturating_mul(superblock.inode_len.into());
        let block_len = u64::from(superblock.block_len);
        Ok((table.saturating_add(offset / block_len), index(offset % block_len)))
    }

    /// The register with which the checksums of what belongs to an inode begin.
    pub(super) fn seed_of(&self, inode: &Inode) -> Option<u32> {
        match self.superblock.checksums {
            Checksums::All(seed) => {
                Some(crc32c_of(seed, &[&inode.number.to_le_bytes(), &inode.generation.to_le_bytes()]))
            }
            _ => None,
        }
    }

    /// The register with which the other checksums begin.
    pub(super) const fn seed(&self) -> Option<u32> {
        match self.superblock.checksums {
            Checksums::All(seed) => Some(seed),
            _ => None,
        }
    }

    /// What the file system itself takes, in blocks, as the kernel counts it.
    pub(super) fn overhead(&self) -> u64 {
        let superblock = &self.superblock;
        if superblock.overhead != 0 {
            return superblock.overhead;
        }
        let per_block = u64::from(superblock.block_len) / superblock.descriptor_len.max(1);
        let descriptors = superblock.groups.div_ceil(per_block.max(1)).min(superblock.first_meta_group);
        let table_len =
            u64::from(superblock.inodes_per_group).saturating_mul(u64::from(superblock.inode_len));
        let own = table_len.div_ceil(u64::from(superblock.block_len)).saturating_add(2);
        let copies = match superblock.groups {
            groups if groups > MOST_COUNTED => 0,
            groups => (0..groups).filter(|group| superblock.has_super(*group)).count(),
        };
        let copy = descriptors.saturating_add(superblock.reserved_descriptors).saturating_add(1);
        let copies = u64::try_from(copies).unwrap_or_default().saturating_mul(copy);
        let journal = match superblock.journal_inode {
            0 => 0,
            number => self.inode(number).map_or(0, |inode| inode.size / u64::from(superblock.block_len)),
        };
        let all = superblock.first_block.saturating_add(superblock.groups.saturating_mul(own));
        all.saturating_add(copies).saturating_add(journal).min(superblock.blocks)
    }
}

fn seed() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let [a, b, c, d, ..] = now.as_nanos().to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Whether a checksum at the end of a node of metadata is right.
pub(super) fn is_right(seed: Option<u32>, covered: Option<&[u8]>, found: u32) -> bool {
    seed.is_none_or(|seed| covered.is_some_and(|covered| crc32c(seed, covered) == found))
}

/// Groups that are looked at one by one for a sum.
const MOST_COUNTED: u64 = 1 << 20;
