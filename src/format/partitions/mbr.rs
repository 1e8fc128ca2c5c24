//! The table in the first sector, and the chain of those that an extended partition holds.

use std::collections::BTreeSet;

use super::{Partition, PartitionTable, Scheme, read_at, u32_at};
use crate::{
    error::Result,
    format::signature::{is_boot_sector, is_partition_table},
    storage::Storage,
    units::SectorSize,
};

pub(super) fn read(
    storage: &dyn Storage,
    size: u64,
    sector_size: SectorSize,
) -> Result<Option<PartitionTable>> {
    let Some(first) = read_at(storage, size, 0, TABLE_LEN)? else { return Ok(None) };
    if !is_partition_table(&first) {
        return Ok(None);
    }
    let mut partitions = Vec::new();
    let mut flaw = None;
    for (entry, number) in entries(&first).into_iter().zip(1..) {
        if entry.is_extended() {
            let chain = Chain { storage, size, sector_size, start: u64::from(entry.start) };
            flaw = chain.walk(&mut partitions)?.or(flaw);
        } else if entry.kind != PROTECTIVE {
            partitions.extend(entry.partition(number, 0, sector_size));
        }
    }
    partitions.sort_by_key(|partition: &Partition| partition.number);
    let table = PartitionTable { scheme: Scheme::Mbr, sector_size, partitions, flaw };
    Ok((!table.partitions.is_empty()).then_some(table))
}

/// The tables within an extended partition. Each has one logical partition, and tells where the next table is.
#[derive(Debug)]
struct Chain<'a> {
    storage: &'a dyn Storage,
    size: u64,
    sector_size: SectorSize,
    /// Where the extended partition starts, in sectors: all links count from here.
    start: u64,
}

impl Chain<'_> {
    /// Adds the logical partitions, from number 5 on. Says where the chain broke off.
    fn walk(&self, partitions: &mut Vec<Partition>) -> Result<Option<&'static str>> {
        let (mut at, mut seen) = (self.start, BTreeSet::new());
        for number in FIRST_LOGICAL..FIRST_LOGICAL.saturating_add(MOST_LOGICAL) {
            if !seen.insert(at) {
                break;
            }
            let offset = at.checked_mul(self.sector_size.bytes_u64());
            let table =
                offset.map(|offset| read_at(self.storage, self.size, offset, TABLE_LEN)).transpose()?;
            let Some(table) = table.flatten().filter(|table| is_boot_sector(table)) else {
                return Ok(Some("the chain of logical partitions breaks off"));
            };
            let [logical, link, ..] = entries(&table);
            if !logical.is_extended() {
                partitions.extend(logical.partition(number, at, self.sector_size));
            }
            if !link.is_extended() || link.start == 0 {
                return Ok(None);
            }
            at = self.start.saturating_add(link.start.into());
        }
        Ok(Some("the chain of logical partitions has no end"))
    }
}

/// An entry of a table; numbers in sectors.
#[derive(Debug, Clone, Copy)]
struct Entry {
    kind: u8,
    start: u32,
    sectors: u32,
}

impl Entry {
    const fn is_extended(self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    fn partition(self, number: u32, from: u64, sector_size: SectorSize) -> Option<Partition> {
        if self.kind == 0 || self.sectors == 0 {
            return None;
        }
        let bytes = |sectors: u64| sectors.checked_mul(sector_size.bytes_u64());
        let start = bytes(from.checked_add(self.start.into())?)?;
        let len = bytes(self.sectors.into())?;
        start.checked_add(len)?;
        Some(Partition { number, start, len, kind: kind_name(self.kind), name: None })
    }
}

fn entries(table: &[u8]) -> [Entry; 4] {
    [446, 462, 478, 494].map(|at: usize| {
        let entry = table.get(at..).unwrap_or_default();
        Entry {
            kind: entry.get(4).copied().unwrap_or(0),
            start: u32_at(entry, 8).unwrap_or(0),
            sectors: u32_at(entry, 12).unwrap_or(0),
        }
    })
}

fn kind_name(kind: u8) -> String {
    let name = match kind {
        0x01 | 0x04 | 0x06 | 0x0e => "FAT16",
        0x07 => "NTFS or exFAT",
        0x0b | 0x0c => "FAT32",
        0x27 => "Windows recovery",
        0x82 => "Linux swap",
        0x83 => "Linux",
        0x8e => "Linux LVM",
        0xaf => "Apple HFS+",
        0xe8 => "LUKS",
        0xef => "EFI system",
        0xfd => "Linux RAID",
        _ => return format!("0x{kind:02x}"),
    };
    name.to_owned()
}

const TABLE_LEN: usize = 512;
/// Stands for a GPT, and for all of the medium.
const PROTECTIVE: u8 = 0xee;
const FIRST_LOGICAL: u32 = 5;
/// Linux itself stops after some 250.
const MOST_LOGICAL: u32 = 256;
