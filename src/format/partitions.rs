//! Partition tables: MBR with logical partitions, GPT with both its copies, on sectors of 512 and of 4096 bytes.
//!
//! A table is only read, and says where containers may lie: [`read`], then [`Partition::range`] and
//! [`Section`](crate::storage::Section). Numbers are those that Linux gives to the partitions.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

mod gpt;
mod mbr;

use std::ops::Range;

use serde::Serialize;

use super::signature;
use crate::{error::Result, storage::Storage, units::SectorSize};

/// A partition table that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionTable {
    /// Which kind it is.
    pub scheme: Scheme,
    /// The unit in which it counts.
    pub sector_size: SectorSize,
    /// The partitions, by number. Those that hold others (extended ones) are not among them.
    pub partitions: Vec<Partition>,
    /// What is wrong with it, in words that follow "its partition table: ". Its partitions hold in spite of that.
    pub flaw: Option<&'static str>,
}

/// The two kinds of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// The table of PCs before UEFI, in the first sector.
    Mbr,
    /// The table of UEFI.
    Gpt,
}

/// One partition, as its table describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Its number, as in `sda1`.
    pub number: u32,
    /// Where it starts, in bytes.
    pub start: u64,
    /// Its length in bytes, never zero. The medium may end before it does.
    pub len: u64,
    /// What the table says that it is for: a name, or the code that the table has.
    pub kind: String,
    /// The name that a GPT gives it.
    pub name: Option<String>,
}

impl PartitionTable {
    /// The partition with this number.
    pub fn partition(&self, number: u32) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.number == number)
    }
}

impl Partition {
    /// Its bytes, as far as a medium of `size` bytes has them; `None` where it starts behind the end.
    pub fn range(&self, size: u64) -> Option<Range<u64>> {
        let end = self.start.saturating_add(self.len).min(size);
        (self.start < end).then_some(self.start..end)
    }

    /// Whether the medium of `size` bytes ends before it does.
    pub fn is_cut_off(&self, size: u64) -> bool {
        self.start.saturating_add(self.len) > size
    }
}

/// Reads the partition table of a medium: that of GPT, from the copy at the end where the first one is damaged, or else that of
/// MBR. `None` where there is none, or a file system has its boot sector there.
///
/// Reads some hundred sectors at most, and no more than 1 MiB at a time.
///
/// # Errors
/// What reading gave.
pub fn read(storage: &dyn Storage) -> Result<Option<PartitionTable>> {
    let size = storage.size()?;
    for sector_size in SECTOR_SIZES {
        if let Some(table) = gpt::read(storage, size, sector_size)? {
            return Ok(Some(table));
        }
    }
    let [small, large] = SECTOR_SIZES;
    let Some(table) = mbr::read(storage, size, small)? else { return Ok(None) };
    // Nothing in it says in which unit it counts: what lies where it points does.
    if holds_something_known(storage, size, &table)? {
        return Ok(Some(table));
    }
    match mbr::read(storage, size, large)? {
        Some(other)
            if other.partitions.iter().all(|partition| !partition.is_cut_off(size))
                && holds_something_known(storage, size, &other)? =>
        {
            Ok(Some(other))
        }
        _ => Ok(Some(table)),
    }
}

fn holds_something_known(storage: &dyn Storage, size: u64, table: &PartitionTable) -> Result<bool> {
    for range in table.partitions.iter().filter_map(|partition| partition.range(size)) {
        let head = signature::read_head_of(storage, range)?;
        if signature::recognise(&head).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A sector, or fewer bytes at the end; none where it is not there.
fn read_at(storage: &dyn Storage, size: u64, offset: u64, len: usize) -> Result<Option<Vec<u8>>> {
    let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
    if end.is_none_or(|end| end > size) {
        return Ok(None);
    }
    let mut bytes = vec![0; len];
    storage.read_exact_at(&mut bytes, offset)?;
    Ok(Some(bytes))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().copied().map(u64::from_le_bytes)
}

const SECTOR_SIZES: [SectorSize; 2] = [SectorSize::B512, SectorSize::B4096];

#[cfg(test)]
mod tests;
