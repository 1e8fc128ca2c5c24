//! FAT12, FAT16, FAT32 (Microsoft, *FAT32 File System Specification*, 1.03).

use super::{
    bytes::{Bytes, Fields},
    damaged, unclean,
};
use crate::error::Result;

/// The bytes that it takes, by its boot sector.
pub(super) fn len(start: &Fields<'_>) -> Option<u64> {
    Layout::parse(start, u64::MAX).ok().map(|layout| layout.len)
}

/// Whether it was left clean.
pub(super) fn is_clean(bytes: &Bytes<'_>, start: &Fields<'_>) -> Result<bool> {
    Layout::parse(start, bytes.len())?.is_clean(bytes, start)
}

pub(super) fn free_tail(bytes: &Bytes<'_>, start: &Fields<'_>, limit: u64) -> Result<u64> {
    let layout = Layout::parse(start, bytes.len())?;
    if !layout.is_clean(bytes, start)? {
        return Err(unclean("run fsck.vfat on its block file, or chkdsk"));
    }
    let mut free = layout.heap.min(limit);
    // One copy may be behind the other: what any of them calls used is used.
    for copy in 0..layout.copies {
        if let Some(cluster) = layout.last_used(bytes, copy, limit)? {
            let end =
                layout.heap.saturating_add(cluster.saturating_add(1).saturating_mul(layout.cluster_len));
            free = free.max(end.min(limit));
        }
    }
    Ok(free)
}

/// Where everything lies, in bytes of the volume.
#[derive(Debug)]
struct Layout {
    len: u64,
    fat: u64,
    fat_len: u64,
    copies: u64,
    heap: u64,
    cluster_len: u64,
    clusters: u64,
    width: Width,
}

/// The bits of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Bits12,
    Bits16,
    Bits32,
}

impl Layout {
    fn parse(boot: &Fields<'_>, volume_len: u64) -> Result<Self> {
        let no = || damaged("its boot sector is not a FAT one");
        let sector = u64::from(boot.u16(11)?);
        let per_cluster = u64::from(boot.u8(13)?);
        let reserved = u64::from(boot.u16(14)?);
        let copies = u64::from(boot.u8(16)?);
        let root_entries = u64::from(boot.u16(17)?);
        let sectors = either(boot.u16(19)?.into(), boot.u32(32)?.into());
        let fat_sectors = either(boot.u16(22)?.into(), boot.u32(36)?.into());
        let is_right = boot.bytes(510, 2)? == [0x55, 0xaa]
            && matches!(sector, 512 | 1024 | 2048 | 4096)
            && per_cluster.is_power_of_two()
            && reserved > 0
            && matches!(copies, 1..=4)
            && matches!(boot.u8(0)?, 0xeb | 0xe9)
            && fat_sectors > 0;
        if !is_right {
            return Err(no());
        }
        // All factors have at most 32 bits but `sector`, which has 13: nothing below leaves 64.
        let root = root_entries.saturating_mul(32).div_ceil(sector);
        let heap = fat_sectors.saturating_mul(copies).saturating_add(reserved).saturating_add(root);
        let heap_sectors = sectors.checked_sub(heap).ok_or_else(no)?;
        let clusters = heap_sectors.checked_div(per_cluster).ok_or_else(no)?;
        let width = match clusters {
            // However few clusters it has: all drivers take it so.
            ..=0x0fff_fff5 if boot.u16(22)? == 0 => Width::Bits32,
            ..4085 => Width::Bits12,
            4085..65525 => Width::Bits16,
            65525..=0x0fff_fff5 => Width::Bits32,
            _ => return Err(no()),
        };
        let fat_len = fat_sectors.saturating_mul(sector);
        let len = sectors.saturating_mul(sector);
        if len > volume_len {
            return Err(damaged("its file system is larger than the volume"));
        }
        if width.offset(clusters.saturating_add(2)) > fat_len || clusters == 0 {
            return Err(damaged("its allocation table is too short"));
        }
        Ok(Self {
            len,
            fat: reserved.saturating_mul(sector),
            fat_len,
            copies,
            heap: heap.saturating_mul(sector),
            cluster_len: per_cluster.saturating_mul(sector),
            clusters,
            width,
        })
    }

    /// Whether the volume was left clean: Linux notes in the boot sector that it was not, Windows in the table's second entry.
    fn is_clean(&self, bytes: &Bytes<'_>, boot: &Fields<'_>) -> Result<bool> {
        let state = boot.u8(if self.width == Width::Bits32 { 65 } else { 37 })?;
        if state & DIRTY != 0 {
            return Ok(false);
        }
        let offset = self.width.offset(1);
        for copy in 0..self.copies {
            let fat = self.fat.saturating_add(self.fat_len.saturating_mul(copy));
            let entry = bytes.read(fat.saturating_add(offset), 4)?;
            let entry = Fields(&entry);
            let is_clean = match self.width {
                Width::Bits12 => true,
                Width::Bits16 => entry.u16(0)? & CLEAN_16 != 0,
                Width::Bits32 => entry.u32(0)? & CLEAN_32 != 0,
            };
            if !is_clean {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The last cluster in use that begins before `limit`, counted from the heap's first.
    fn last_used(&self, bytes: &Bytes<'_>, copy: u64, limit: u64) -> Result<Option<u64>> {
        let before = limit.saturating_sub(self.heap).div_ceil(self.cluster_len.max(1)).min(self.clusters);
        let fat = self.fat.saturating_add(self.fat_len.saturating_mul(copy));
        // The first two entries stand for no cluster.
        let mut end = before.saturating_add(2);
        while end > 2 {
            // Even, so that pairs of 12-bit entries stay together.
            let start = end.saturating_sub(CHUNK) & !1;
            let offset = self.width.offset(start);
            let len = self.width.offset(end).saturating_sub(offset);
            let chunk = bytes.read(fat.saturating_add(offset), usize::try_from(len).unwrap_or(usize::MAX))?;
            let chunk = Fields(&chunk);
            for entry in (start.max(2)..end).rev() {
                if self.width.is_used(&chunk, entry.saturating_sub(start))? {
                    return Ok(Some(entry.saturating_sub(2)));
                }
            }
            end = start.max(2);
        }
        Ok(None)
    }
}

impl Width {
    /// Where the entries before number `entry` end in the table, in bytes.
    const fn offset(self, entry: u64) -> u64 {
        match self {
            Self::Bits12 => entry.saturating_mul(3).div_ceil(2),
            Self::Bits16 => entry.saturating_mul(2),
            Self::Bits32 => entry.saturating_mul(4),
        }
    }

    /// Whether an entry of `chunk`, which starts with an even one, says that its cluster is in use: also where it is bad.
    fn is_used(self, chunk: &Fields<'_>, entry: u64) -> Result<bool> {
        let entry = usize::try_from(entry).unwrap_or(usize::MAX);
        Ok(match self {
            Self::Bits12 => {
                let at = entry.saturating_mul(3) / 2;
                let [low, high] = [chunk.u8(at)?, chunk.u8(at.saturating_add(1))?];
                if entry.is_multiple_of(2) {
                    low != 0 || high & 0x0f != 0
                } else {
                    low & 0xf0 != 0 || high != 0
                }
            }
            Self::Bits16 => chunk.u16(entry.saturating_mul(2))? != 0,
            Self::Bits32 => chunk.u32(entry.saturating_mul(4))? & 0x0fff_ffff != 0,
        })
    }
}

/// A field of 16 bits, or where that is zero, the one of 32 bits that came later.
const fn either(short: u64, long: u64) -> u64 {
    if short == 0 { long } else { short }
}

/// Of the state in the boot sector.
const DIRTY: u8 = 0x1;
/// Of the table's second entry, which has none in 12 bits.
const CLEAN_16: u16 = 0x8000;
const CLEAN_32: u32 = 0x0800_0000;
/// Entries read at a time.
const CHUNK: u64 = 1 << 16;
