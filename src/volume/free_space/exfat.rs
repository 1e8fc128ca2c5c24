//! exFAT (Microsoft, *exFAT file system specification*, revision 1.00).

use super::{
    bitmap::last_set,
    bytes::{Bytes, Fields},
    damaged, unclean,
};
use crate::error::Result;

/// Whether it was left clean.
pub(super) fn is_clean(start: &Fields<'_>) -> Result<bool> {
    Ok(start.u16(106)? & (VOLUME_DIRTY | MEDIA_FAILURE) == 0)
}

pub(super) fn free_tail(bytes: &Bytes<'_>, start: &Fields<'_>, limit: u64) -> Result<u64> {
    let layout = Layout::parse(start, bytes.len())?;
    if !is_clean(start)? {
        return Err(unclean("run fsck.exfat on its block file, or chkdsk"));
    }
    let bitmap = layout.bitmap(bytes)?;
    let before = limit.saturating_sub(layout.heap).div_ceil(layout.cluster_len.max(1)).min(layout.clusters);
    let last = last_set(before, &mut |range| {
        let mut found = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let (index, skipped) =
                (at.checked_div(layout.cluster_len), at.checked_rem(layout.cluster_len).unwrap_or(0));
            let index = index.and_then(|index| usize::try_from(index).ok());
            let cluster =
                index.and_then(|index| bitmap.get(index)).ok_or_else(|| damaged("its bitmap is cut off"))?;
            let len = layout.cluster_len.saturating_sub(skipped).min(range.end.saturating_sub(at));
            let offset = layout.offset_of(*cluster)?.saturating_add(skipped);
            found.extend(bytes.read(offset, usize::try_from(len).unwrap_or(usize::MAX))?);
            at = at.saturating_add(len);
        }
        Ok(found)
    })?;
    let used = last.map_or(0, |last| last.saturating_add(1).saturating_mul(layout.cluster_len));
    Ok(layout.heap.saturating_add(used).min(limit))
}

/// Where everything lies, in bytes of the volume.
#[derive(Debug)]
struct Layout {
    fat: u64,
    fat_len: u64,
    heap: u64,
    cluster_len: u64,
    clusters: u64,
    root: u32,
}

impl Layout {
    fn parse(boot: &Fields<'_>, volume_len: u64) -> Result<Self> {
        let no = |what: &str| damaged(format!("its boot sector names {what}"));
        let (sector_shift, cluster_shift) = (u32::from(boot.u8(108)?), u32::from(boot.u8(109)?));
        if !(9..=12).contains(&sector_shift) || sector_shift.saturating_add(cluster_shift) > 25 {
            return Err(no("no possible sizes of sectors and clusters"));
        }
        let bytes_of =
            |sectors: u64| sectors.checked_shl(sector_shift).filter(|it| it >> sector_shift == sectors);
        let len = bytes_of(boot.u64(72)?).filter(|&len| len <= volume_len);
        let len = len.ok_or_else(|| damaged("its file system is larger than the volume"))?;
        // 32 bits shifted by at most 12.
        let place = |sectors: u32| u64::from(sectors) << sector_shift;
        let (fat, fat_len, heap) = (place(boot.u32(80)?), place(boot.u32(84)?), place(boot.u32(88)?));
        let clusters = u64::from(boot.u32(92)?);
        let cluster_len = 1_u64 << sector_shift.saturating_add(cluster_shift);
        let heap_end = heap.saturating_add(clusters.saturating_mul(cluster_len));
        if heap_end > len || fat.saturating_add(fat_len) > heap || clusters == 0 {
            return Err(no("areas that do not fit"));
        }
        if clusters.saturating_add(2).saturating_mul(4) > fat_len {
            return Err(no("too short an allocation table"));
        }
        if boot.u8(110)? != 1 {
            return Err(super::unsupported("exFAT with two allocation tables is not understood"));
        }
        Ok(Self { fat, fat_len, heap, cluster_len, clusters, root: boot.u32(96)? })
    }

    /// Where a cluster starts.
    fn offset_of(&self, cluster: u32) -> Result<u64> {
        let index = u64::from(cluster).checked_sub(2).filter(|&index| index < self.clusters);
        let index = index.ok_or_else(|| damaged("it names a cluster that is not there"))?;
        Ok(self.heap.saturating_add(index.saturating_mul(self.cluster_len)))
    }

    /// The cluster that follows in a chain; `None` at its end.
    fn next(&self, bytes: &Bytes<'_>, cluster: u32) -> Result<Option<u32>> {
        self.offset_of(cluster)?;
        let at = u64::from(cluster).saturating_mul(4).min(self.fat_len);
        let next = Fields(&bytes.read(self.fat.saturating_add(at), 4)?).u32(0)?;
        Ok((next != END_OF_CHAIN).then_some(next))
    }

    /// The clusters of the allocation bitmap, in order.
    fn bitmap(&self, bytes: &Bytes<'_>) -> Result<Vec<u32>> {
        let (first, len) = self.find_bitmap(bytes)?;
        if len < self.clusters.div_ceil(8) {
            return Err(damaged("its bitmap is too short"));
        }
        let needed = self.clusters.div_ceil(8).div_ceil(self.cluster_len.max(1));
        let mut clusters = Vec::new();
        let mut next = Some(first);
        while u64::try_from(clusters.len()).is_ok_and(|count| count < needed) {
            let cluster = next.ok_or_else(|| damaged("its bitmap is cut off"))?;
            clusters.push(cluster);
            next = self.next(bytes, cluster)?;
        }
        Ok(clusters)
    }

    /// The bitmap's first cluster and its length, as its entry in the root directory says.
    fn find_bitmap(&self, bytes: &Bytes<'_>) -> Result<(u32, u64)> {
        let mut cluster = self.root;
        let mut seen = 0_u64;
        while seen < MAX_ROOT {
            let offset = self.offset_of(cluster)?;
            let piece = usize::try_from(self.cluster_len.min(PIECE)).unwrap_or(512);
            for at in (0..self.cluster_len).step_by(piece) {
                let entries = bytes.read(offset.saturating_add(at), piece)?;
                for entry in entries.chunks_exact(32).map(Fields) {
                    match entry.u8(0)? {
                        0 => return Err(damaged("it has no allocation bitmap")),
                        0x81 => return Ok((entry.u32(20)?, entry.u64(24)?)),
                        _ => {}
                    }
                }
                seen = seen.saturating_add(self.cluster_len.min(PIECE));
                if seen >= MAX_ROOT {
                    break;
                }
            }
            let Some(next) = self.next(bytes, cluster)? else { break };
            cluster = next;
        }
        Err(damaged("it has no allocation bitmap"))
    }
}

/// Of the volume's flags.
const VOLUME_DIRTY: u16 = 0x2;
/// Clusters failed, and the bitmap may not have them all.
const MEDIA_FAILURE: u16 = 0x4;
const END_OF_CHAIN: u32 = 0xffff_ffff;
/// So many bytes of the root directory are looked at. The entry of the bitmap is among the first three.
const MAX_ROOT: u64 = 4 << 20;
const PIECE: u64 = 64 << 10;
