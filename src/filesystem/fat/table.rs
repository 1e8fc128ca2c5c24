//! The allocation table: what follows each cluster.

use super::{
    super::{
        Fault, Result,
        bytes::{index, u16_at, u32_at},
        cache::{Cache, Phase},
    },
    layout::{Layout, Width},
};

/// What the table says of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Free,
    Next(u32),
    End,
    /// Bad, or a number that is none of this volume.
    Bad,
}

/// Reads an entry.
pub(super) fn link(cache: &mut Cache, layout: &Layout, cluster: u32) -> Result<Link> {
    if !layout.has(cluster) {
        return Err(Fault::Damaged);
    }
    let value = value(cache, layout, layout.active.unwrap_or(0), cluster)?;
    Ok(meaning(layout, value))
}

/// What the raw value of an entry means.
pub(super) fn meaning(layout: &Layout, value: u32) -> Link {
    let (bad, end) = match layout.width {
        Width::Bits12 => (0xff7, 0xff8),
        Width::Bits16 => (0xfff7, 0xfff8),
        Width::Bits32 => (0x0fff_fff7, 0x0fff_fff8),
        Width::Exfat => (0xffff_fff7, 0xffff_fff8),
    };
    match value {
        0 => Link::Free,
        next if layout.has(next) && next < bad => Link::Next(next),
        last if last >= end => Link::End,
        _ => Link::Bad,
    }
}

/// The raw value of an entry in one copy.
pub(super) fn value(cache: &mut Cache, layout: &Layout, copy: u32, cluster: u32) -> Result<u32> {
    let place = place(layout, copy, cluster);
    let mut bytes = [0; 4];
    Ok(match layout.width {
        Width::Bits12 => {
            cache.read(&mut bytes[..2], place)?;
            let pair = u32::from(u16_at(&bytes, 0));
            if cluster.is_multiple_of(2) { pair & 0xfff } else { pair >> 4 }
        }
        Width::Bits16 => {
            cache.read(&mut bytes[..2], place)?;
            u16_at(&bytes, 0).into()
        }
        Width::Bits32 => {
            cache.read(&mut bytes, place)?;
            u32_at(&bytes, 0) & 0x0fff_ffff
        }
        Width::Exfat => {
            cache.read(&mut bytes, place)?;
            u32_at(&bytes, 0)
        }
    })
}

/// Writes an entry, in each copy that counts.
pub(super) fn set(cache: &mut Cache, layout: &Layout, phase: Phase, cluster: u32, link: Link) -> Result<()> {
    if !layout.has(cluster) {
        return Err(Fault::Damaged);
    }
    let value = match link {
        Link::Free => 0,
        Link::Next(next) => next,
        Link::End | Link::Bad => u32::MAX,
    };
    for copy in layout.active.map_or(0..layout.copies, |active| active..active + 1) {
        set_value(cache, layout, phase, (copy, cluster), value)?;
    }
    Ok(())
}

/// Writes the raw value of an entry in one copy; bits that are none of its stay.
pub(super) fn set_value(
    cache: &mut Cache,
    layout: &Layout,
    phase: Phase,
    (copy, cluster): (u32, u32),
    value: u32,
) -> Result<()> {
    let place = place(layout, copy, cluster);
    let mut bytes = [0; 4];
    match layout.width {
        Width::Bits12 => {
            // Each entry shares a byte with its neighbour, which may have another phase.
            let (shift, mask) = if cluster.is_multiple_of(2) { (0, 0x0fff) } else { (4, 0xfff0) };
            let new = ((value & 0xfff) << shift).to_le_bytes();
            let mask: [u8; 4] = u32::to_le_bytes(mask);
            for (offset, (new, mask)) in (place..).zip(new.into_iter().zip(mask)).take(2) {
                cache.change(phase, offset, &|old| old & !mask | new)?;
            }
            Ok(())
        }
        Width::Bits16 => cache.write(phase, place, &value.to_le_bytes()[..2]),
        Width::Bits32 => {
            cache.read(&mut bytes, place)?;
            let new = u32_at(&bytes, 0) & 0xf000_0000 | value & 0x0fff_ffff;
            cache.write(phase, place, &new.to_le_bytes())
        }
        Width::Exfat => cache.write(phase, place, &value.to_le_bytes()),
    }
}

/// Whether an entry's bytes lie in two sectors, so that a power cut may leave half of it: such clusters are not handed out.
pub(super) fn is_split(layout: &Layout, cluster: u32) -> bool {
    layout.width == Width::Bits12 && (u64::from(cluster) * 3 / 2) % 512 == 511
}

fn place(layout: &Layout, copy: u32, cluster: u32) -> u64 {
    let within = match layout.width {
        Width::Bits12 => u64::from(cluster) * 3 / 2,
        width => width.offset(cluster.into()),
    };
    layout.table + layout.table_len * u64::from(copy) + within
}

/// The clusters of a file, in runs. The position in the file is counted in clusters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extents {
    runs: Vec<Extent>,
}

/// Clusters that follow each other in the file and on the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) position: u32,
    pub(super) cluster: u32,
    pub(super) count: u32,
}

impl Extents {
    /// A single run; none where `count` is zero.
    pub(super) fn contiguous(cluster: u32, count: u32) -> Self {
        let mut extents = Self::default();
        if count > 0 {
            extents.push(cluster, count);
        }
        extents
    }

    /// Follows a chain to its end, or until `most` clusters are known.
    pub(super) fn follow(cache: &mut Cache, layout: &Layout, first: u32, most: u64) -> Result<Self> {
        let mut extents = Self::default();
        let most = most.min(layout.clusters.into());
        let mut cluster = first;
        while u64::from(extents.count()) < most {
            if !layout.has(cluster) {
                return Err(Fault::Damaged);
            }
            extents.push(cluster, 1);
            if extents.runs.len() > MAX_RUNS {
                return Err(Fault::TooLarge);
            }
            match link(cache, layout, cluster)? {
                Link::Next(next) => cluster = next,
                Link::End => return Ok(extents),
                Link::Free | Link::Bad => return Err(Fault::Damaged),
            }
        }
        Ok(extents)
    }

    /// The same as far as the chain makes sense.
    pub(super) fn follow_sound(cache: &mut Cache, layout: &Layout, first: u32, most: u64) -> Result<Self> {
        let mut extents = Self::default();
        let mut cluster = first;
        while u64::from(extents.count()) < most {
            let link = link(cache, layout, cluster)?;
            if matches!(link, Link::Free | Link::Bad) && extents.count() > 0 {
                break;
            }
            extents.push(cluster, 1);
            let Link::Next(next) = link else { break };
            cluster = next;
        }
        Ok(extents)
    }

    pub(super) fn runs(&self) -> &[Extent] {
        &self.runs
    }

    /// How many clusters there are.
    pub(super) fn count(&self) -> u32 {
        self.runs.last().map_or(0, |run| run.position.saturating_add(run.count))
    }

    pub(super) fn last(&self) -> Option<u32> {
        self.runs.last().map(|run| run.cluster.saturating_add(run.count).saturating_sub(1))
    }

    /// Adds clusters at the end.
    pub(super) fn push(&mut self, cluster: u32, count: u32) {
        let position = self.count();
        match self.runs.last_mut() {
            Some(run) if run.cluster.checked_add(run.count) == Some(cluster) => {
                run.count = run.count.saturating_add(count);
            }
            _ => self.runs.push(Extent { position, cluster, count }),
        }
    }

    /// Cuts off all but the first `count` clusters, and gives what was cut off.
    pub(super) fn cut(&mut self, count: u32) -> Vec<Extent> {
        let keep = self.runs.partition_point(|run| run.position < count);
        let mut gone = self.runs.split_off(keep);
        if let Some(last) = self.runs.last_mut() {
            let kept = count - last.position;
            if kept < last.count {
                let cluster = last.cluster + kept;
                gone.insert(0, Extent { position: count, cluster, count: last.count - kept });
                last.count = kept;
            }
        }
        gone
    }

    /// The cluster at `position`, and how many follow it without a gap, itself counted.
    pub(super) fn at(&self, position: u32) -> Option<(u32, u32)> {
        let run = self.runs.get(self.runs.partition_point(|run| run.position <= position).checked_sub(1)?)?;
        let within = position - run.position;
        (within < run.count).then(|| (run.cluster + within, run.count - within))
    }

    /// Where the bytes `offset..offset + len` lie: place and length of each piece.
    pub(super) fn pieces(&self, layout: &Layout, offset: u64, len: usize) -> Result<Vec<(u64, usize)>> {
        let cluster_len = u64::from(layout.cluster_len);
        let (mut at, mut left) = (offset, len);
        let mut pieces = Vec::new();
        while left > 0 {
            let position = u32::try_from(at / cluster_len).map_err(|_| Fault::Damaged)?;
            let (cluster, count) = self.at(position).ok_or(Fault::Damaged)?;
            let within = at % cluster_len;
            let room = index(u64::from(count) * cluster_len - within);
            let piece = room.min(left);
            pieces.push((layout.offset(cluster) + within, piece));
            left -= piece;
            at += super::super::bytes::long(piece);
        }
        Ok(pieces)
    }
}

/// Of one file: 48 MiB.
const MAX_RUNS: usize = 1 << 22;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_cut_and_found() {
        let mut extents = Extents::default();
        extents.push(10, 1);
        extents.push(11, 3);
        extents.push(30, 2);
        assert_eq!(extents.runs().len(), 2);
        assert_eq!(extents.at(3), Some((13, 1)));
        assert_eq!(extents.at(4), Some((30, 2)));
        assert_eq!(extents.at(6), None);
        let gone = extents.cut(2);
        assert_eq!(gone.iter().map(|run| (run.cluster, run.count)).collect::<Vec<_>>(), [(12, 2), (30, 2)]);
        assert_eq!((extents.count(), extents.last()), (2, Some(11)));
        assert_eq!(extents.cut(0).len(), 1);
        assert_eq!(extents.last(), None);
    }
}
