//! Which clusters are free.

use super::{
    super::{
        Fault, Result,
        bytes::{index, long, short},
        cache::{Cache, Phase},
    },
    layout::Layout,
    table::{Extents, Link, is_split, meaning, value},
};

/// A map of the clusters, kept in memory; of exFAT also on the medium.
#[derive(Debug)]
pub(super) struct Clusters {
    used: Vec<u64>,
    count: u32,
    free: u32,
    next: u32,
    /// Given back, but not to be taken before the medium knows: first, count, and whether they held metadata.
    pending: Vec<(u32, u32, bool)>,
    waiting: u32,
    /// exFAT: where the map lies.
    bitmap: Option<Extents>,
}

impl Clusters {
    /// Reads FAT's table.
    pub(super) fn of_table(cache: &mut Cache, layout: &Layout) -> Result<Self> {
        let mut map = Self::new(layout.clusters, None);
        let copy = layout.active.unwrap_or(0);
        for cluster in 2..layout.clusters.saturating_add(2) {
            let is_free = meaning(layout, value(cache, layout, copy, cluster)?) == Link::Free;
            if !is_free || is_split(layout, cluster) {
                map.mark(cluster);
            }
        }
        map.recount();
        Ok(map)
    }

    /// Reads exFAT's map.
    pub(super) fn of_bitmap(cache: &mut Cache, layout: &Layout, first: u32, len: u64) -> Result<Self> {
        let needed = u64::from(layout.clusters).div_ceil(8);
        if len < needed {
            return Err(Fault::Damaged);
        }
        let most = layout.clusters_for(needed);
        let extents = Extents::follow(cache, layout, first, most)?;
        if u64::from(extents.count()) < most {
            return Err(Fault::Damaged);
        }
        let mut map = Self::new(layout.clusters, None);
        let mut bytes = vec![0; index(needed)];
        let mut rest = &mut bytes[..];
        for (place, count) in extents.pieces(layout, 0, rest.len())? {
            let (piece, after) = rest.split_at_mut(count);
            cache.read(piece, place)?;
            rest = after;
        }
        for (word, bytes) in map.used.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word |= u64::from_le_bytes(whole);
        }
        map.bitmap = Some(extents);
        map.recount();
        Ok(map)
    }

    /// None in use.
    pub(super) fn new(count: u32, bitmap: Option<Extents>) -> Self {
        let words = index(u64::from(count).div_ceil(64));
        let mut map = Self {
            used: vec![0; words],
            count,
            free: count,
            next: 0,
            pending: Vec::new(),
            waiting: 0,
            bitmap,
        };
        let rest = count % 64;
        if rest > 0
            && let Some(last) = map.used.last_mut()
        {
            *last = u64::MAX << rest;
        }
        map
    }

    /// Takes over where the map of `other` lies on the medium.
    pub(super) fn replaced_by_map_of(&mut self, other: &mut Self) {
        self.bitmap = other.bitmap.take();
        self.recount();
    }

    pub(super) fn bitmap(&self) -> Option<&Extents> {
        self.bitmap.as_ref()
    }

    /// How many can be taken, those included that wait for a commit.
    pub(super) fn free(&self) -> u32 {
        self.free.saturating_add(self.waiting)
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// How many can be taken now.
    pub(super) fn ready(&self) -> u32 {
        self.free
    }

    pub(super) fn is_used(&self, cluster: u32) -> bool {
        let number = cluster.saturating_sub(2);
        self.used.get(index(number / 64)).is_none_or(|word| word >> (number % 64) & 1 == 1)
    }

    /// Calls `each` with the first cluster of every run that is free, and the one behind its last.
    pub(super) fn free_runs(&self, mut each: impl FnMut(u32, u32) -> Result<()>) -> Result<()> {
        let end = self.count.saturating_add(2);
        let mut next = 2;
        while let Some(first) = (next..end).find(|&cluster| !self.is_used(cluster)) {
            next = (first..end).find(|&cluster| self.is_used(cluster)).unwrap_or(end);
            each(first, next)?;
        }
        Ok(())
    }

    /// Marks it as used in memory. Whether it was free.
    pub(super) fn mark(&mut self, cluster: u32) -> bool {
        let number = cluster.saturating_sub(2);
        let Some(word) = self.used.get_mut(index(number / 64)) else { return false };
        let was_free = *word >> (number % 64) & 1 == 0;
        *word |= 1 << (number % 64);
        was_free
    }

    pub(super) fn unmark(&mut self, cluster: u32) {
        let number = cluster.saturating_sub(2);
        if let Some(word) = self.used.get_mut(index(number / 64)) {
            *word &= !(1 << (number % 64));
        }
    }

    /// The next to look at, for FAT32's hint.
    pub(super) fn hint(&self) -> u32 {
        self.next.saturating_add(2)
    }

    fn recount(&mut self) {
        let padding = short(self.used.len() * 64).saturating_sub(self.count);
        let used: u32 = self.used.iter().map(|word| word.count_ones()).sum();
        self.free = self.count.saturating_sub(used.saturating_sub(padding));
    }

    /// Takes up to `want` that follow each other, at `goal` where that is free. Marks them in memory, and exFAT's on the medium.
    pub(super) fn take(
        &mut self,
        cache: &mut Cache,
        layout: &Layout,
        goal: Option<u32>,
        want: u32,
    ) -> Result<(u32, u32)> {
        let goal = goal.filter(|&goal| layout.has(goal) && !self.is_used(goal));
        let start = match goal {
            Some(goal) => goal,
            None => self.find(self.next).or_else(|| self.find(0)).ok_or(Fault::NoSpace)?,
        };
        let mut taken = 0;
        while taken < want && layout.has(start + taken) && self.mark(start + taken) {
            taken += 1;
        }
        self.free = self.free.saturating_sub(taken);
        self.next = (start - 2).saturating_add(taken);
        self.note(cache, layout, Phase::Take, (start, taken), true)?;
        Ok((start, taken))
    }

    /// The first free cluster whose number, counted from zero, is not less than `from`.
    fn find(&self, from: u32) -> Option<u32> {
        let skipped = index(from / 64);
        for (number, word) in self.used.iter().enumerate().skip(skipped) {
            let word = if number == skipped { word | ((1 << (from % 64)) - 1) } else { *word };
            if word != u64::MAX {
                return u32::try_from(number * 64).ok()?.checked_add(word.trailing_ones() + 2);
            }
        }
        None
    }

    /// Gives clusters back: they can be taken once that is on the medium.
    pub(super) fn give_back(
        &mut self,
        cache: &mut Cache,
        layout: &Layout,
        (start, count): (u32, u32),
        is_metadata: bool,
    ) -> Result<()> {
        self.note(cache, layout, Phase::Free, (start, count), false)?;
        self.pending.push((start, count, is_metadata));
        self.waiting = self.waiting.saturating_add(count);
        Ok(())
    }

    /// After a commit.
    pub(super) fn settle(&mut self, cache: &mut Cache, layout: &Layout) {
        for (start, count, is_metadata) in std::mem::take(&mut self.pending) {
            for cluster in start..start.saturating_add(count) {
                if is_split(layout, cluster) {
                    continue;
                }
                self.unmark(cluster);
                self.free = self.free.saturating_add(1);
            }
            if is_metadata {
                let len = u64::from(count) * u64::from(layout.cluster_len);
                cache.forget(layout.offset(start), len);
            }
        }
        self.waiting = 0;
    }

    /// Puts bits into exFAT's map on the medium.
    fn note(
        &mut self,
        cache: &mut Cache,
        layout: &Layout,
        phase: Phase,
        (start, count): (u32, u32),
        is_used: bool,
    ) -> Result<()> {
        let Some(bitmap) = &self.bitmap else { return Ok(()) };
        let (first, end) = (u64::from(start - 2), u64::from(start - 2) + u64::from(count));
        let bytes = first / 8..end.div_ceil(8);
        let mut at = bytes.start;
        for (place, len) in bitmap.pieces(layout, bytes.start, index(bytes.end - bytes.start))? {
            for (offset, number) in (place..).zip(at..at + long(len)) {
                let bits = (0..8).filter(|bit| (first..end).contains(&(number * 8 + bit)));
                let mask = bits.fold(0_u8, |mask, bit| mask | 1 << bit);
                // Each image by itself: they differ in the bits of others.
                cache.change(phase, offset, &|old| if is_used { old | mask } else { old & !mask })?;
            }
            at += long(len);
        }
        Ok(())
    }

    /// Writes the whole map, in memory's state, to the medium.
    pub(super) fn write_map(&self, cache: &mut Cache, layout: &Layout) -> Result<()> {
        let Some(bitmap) = &self.bitmap else { return Ok(()) };
        let mut bytes: Vec<u8> = self.used.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate(index(u64::from(self.count).div_ceil(8)));
        if let (Some(last), rest @ 1..) = (bytes.last_mut(), self.count % 8) {
            *last &= (1 << rest) - 1;
        }
        let mut rest = &bytes[..];
        for (place, len) in bitmap.pieces(layout, 0, bytes.len())? {
            let (piece, after) = rest.split_at(len);
            cache.write(Phase::Free, place, piece)?;
            rest = after;
        }
        Ok(())
    }
}
