//! NTFS 3.0 and 3.1 (Microsoft, *Master File Table* in the developer notes of Win32; the Linux-NTFS project's documentation).
//!
//! Files are records of one table, whose first sixteen are the file system's own. The bitmap of clusters is one of them, and
//! may lie anywhere.

use super::{
    bitmap::last_set,
    bytes::{Bytes, Fields},
    damaged, unclean, unsupported,
};
use crate::error::Result;
use record::Table;

mod log;
mod record;

/// Whether it was left clean, and nothing in its log has to be done again.
pub(super) fn is_clean(bytes: &Bytes<'_>, start: &Fields<'_>) -> Result<bool> {
    let layout = Layout::parse(start, bytes.len())?;
    let table = Table::open(bytes, &layout)?;
    Ok(flags(&table)? & DIRTY == 0 && log::is_clean(&table)?)
}

pub(super) fn free_tail(bytes: &Bytes<'_>, start: &Fields<'_>, limit: u64) -> Result<u64> {
    let layout = Layout::parse(start, bytes.len())?;
    let table = Table::open(bytes, &layout)?;
    check_state(&table)?;
    let bitmap = table.record(BITMAP)?.data(&layout)?;
    bitmap.check_len(layout.clusters.div_ceil(8))?;
    let before = limit.div_ceil(layout.cluster_len.max(1)).min(layout.clusters);
    let last = last_set(before, &mut |range| bitmap.read(bytes, &layout, range))?;
    let mut free = last.map_or(0, |last| last.saturating_add(1).saturating_mul(layout.cluster_len));
    for (first, end) in layout.fixed() {
        if first < limit {
            free = free.max(end);
        }
    }
    Ok(free.min(limit))
}

/// Refuses what was not unmounted cleanly: changes may be in the log only, and not in the bitmap.
fn check_state(table: &Table<'_>) -> Result<()> {
    let flags = flags(table)? & !HARMLESS_FLAGS;
    let hint = "mount it once under Windows and eject it, or run chkdsk";
    if flags & DIRTY != 0 || !log::is_clean(table)? {
        return Err(unclean(hint));
    }
    if flags != 0 {
        let reason = format!("its file system waits for work that is not understood ({flags:#x})");
        return Err(unsupported(reason).with_hint(hint));
    }
    Ok(())
}

/// What the volume says of its state.
fn flags(table: &Table<'_>) -> Result<u16> {
    let volume = table.record(VOLUME)?;
    let information = volume.value(VOLUME_INFORMATION)?;
    let information = Fields(&information);
    let version = (information.u8(8)?, information.u8(9)?);
    if !matches!(version, (3, 0 | 1)) {
        let (major, minor) = version;
        return Err(unsupported(format!("NTFS {major}.{minor} is not understood")));
    }
    information.u16(10)
}

/// What the boot sector says, in bytes of the volume or in clusters.
#[derive(Debug)]
struct Layout {
    sector_len: u64,
    cluster_len: u64,
    clusters: u64,
    /// Where the file system ends; the copy of the boot sector follows.
    len: u64,
    /// The first cluster of the table of records, and of the copy of its first four.
    table: u64,
    mirror: u64,
    record_len: usize,
}

impl Layout {
    fn parse(boot: &Fields<'_>, volume_len: u64) -> Result<Self> {
        let no = |what: &str| damaged(format!("its boot sector names {what}"));
        let sector_len = u64::from(boot.u16(11)?);
        if !matches!(sector_len, 512 | 1024 | 2048 | 4096) || boot.bytes(510, 2)? != [0x55, 0xaa] {
            return Err(no("no possible size of sectors"));
        }
        let per_cluster = sectors_per_cluster(boot.u8(13)?);
        let cluster_len = per_cluster.and_then(|count| count.checked_mul(sector_len));
        let cluster_len = cluster_len.filter(|&len| len <= MAX_CLUSTER);
        let cluster_len = cluster_len.ok_or_else(|| no("no possible size of clusters"))?;
        let len = boot.u64(40)?.checked_mul(sector_len).filter(|&len| len <= volume_len);
        let len = len.ok_or_else(|| damaged("its file system is larger than the volume"))?;
        let clusters = len.checked_div(cluster_len).filter(|clusters| (1..=MAX_CLUSTERS).contains(clusters));
        let clusters = clusters.ok_or_else(|| no("no possible number of clusters"))?;
        let (table, mirror) = (boot.u64(48)?, boot.u64(56)?);
        if table >= clusters || mirror >= clusters {
            return Err(no("records in clusters that are not there"));
        }
        let record_len =
            record_len(boot.u8(64)?, cluster_len).ok_or_else(|| no("no possible size of records"))?;
        Ok(Self { sector_len, cluster_len, clusters, len, table, mirror, record_len })
    }

    /// First byte and end of what lies where it lies whatever the bitmap says (VC-HID-04).
    ///
    /// The copy of the boot sector is in the sector behind the clusters. That is the volume's last sector, behind every hidden
    /// volume (VC-HID-01), but not where the file system is smaller than the volume.
    fn fixed(&self) -> [(u64, u64); 3] {
        let records = u64::try_from(self.record_len).unwrap_or(u64::MAX).saturating_mul(MIRRORED);
        let records_at = |cluster: u64| {
            let first = cluster.saturating_mul(self.cluster_len);
            (first, first.saturating_add(records.next_multiple_of(self.cluster_len.max(1))))
        };
        let copy = (self.len, self.len.saturating_add(self.sector_len));
        [records_at(self.table), records_at(self.mirror), copy]
    }
}

/// Up to 128 it is the number; of the largest values, the power of two that is the number, negated.
fn sectors_per_cluster(field: u8) -> Option<u64> {
    match field {
        1 | 2 | 4 | 8 | 16 | 32 | 64 | 128 => Some(field.into()),
        0xf4..=0xf8 => 1_u64.checked_shl(u32::from(field.wrapping_neg())),
        _ => None,
    }
}

/// A number of clusters, or the power of two that is the number of bytes, negated.
fn record_len(field: u8, cluster_len: u64) -> Option<usize> {
    let len = match field {
        1..=8 => u64::from(field).checked_mul(cluster_len)?,
        0xf4..=0xf6 => 1_u64.checked_shl(u32::from(field.wrapping_neg()))?,
        _ => return None,
    };
    usize::try_from(len).ok().filter(|len| matches!(len, 1024 | 2048 | 4096))
}

/// Numbers of records, and types of attributes.
const LOG_FILE: u64 = 2;
const VOLUME: u64 = 3;
const BITMAP: u64 = 6;
const ATTRIBUTE_LIST: u32 = 0x20;
const VOLUME_INFORMATION: u32 = 0x70;
const DATA: u32 = 0x80;
const END: u32 = 0xffff_ffff;

/// Records that have a copy.
const MIRRORED: u64 = 4;
/// Windows makes them of up to 2 MiB, and up to 2³² - 1 of them.
const MAX_CLUSTER: u64 = 2 << 20;
const MAX_CLUSTERS: u64 = 0xffff_ffff;

/// Of the volume's flags.
const DIRTY: u16 = 0x1;
/// It was once mounted by Windows NT 4; its change journal is being deleted; it has no short names.
const HARMLESS_FLAGS: u16 = 0x8 | 0x10 | 0x80;
