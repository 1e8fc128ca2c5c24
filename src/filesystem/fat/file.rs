//! The content of files.

use std::time::SystemTime;

use super::{
    super::{
        Fault, Kind, NodeId, Result,
        bytes::{index, long},
        cache::Phase,
    },
    entry::{ARCHIVE, Meta},
    table::{self, Extent, Extents, Link},
    volume::Volume,
};

impl Volume {
    /// Reads, where the extents of the file are at hand; else `None`.
    pub(super) fn read(&self, id: NodeId, offset: u64, buf: &mut [u8]) -> Result<Option<usize>> {
        let node = self.node(id)?;
        let Meta { size, valid, .. } = node.meta;
        if node.meta.kind() == Kind::Directory {
            return Err(Fault::IsDirectory);
        }
        let count = index(size.saturating_sub(offset)).min(buf.len());
        let written = index(valid.saturating_sub(offset)).min(count);
        let Some(buf) = buf.get_mut(..count) else { return Ok(Some(0)) };
        let (mut data, zeros) = buf.split_at_mut(written);
        zeros.fill(0);
        if data.is_empty() {
            return Ok(Some(count));
        }
        let Some(extents) = &node.extents else { return Ok(None) };
        for (place, len) in extents.pieces(&self.layout, offset, written)? {
            let (piece, after) = data.split_at_mut(len);
            self.cache.read_data(piece, place)?;
            data = after;
        }
        Ok(Some(count))
    }

    /// Writes over what was written before, which changes nothing else of the volume: others read, and do the same, meanwhile. False
    /// where it is not so; nothing is written then.
    pub(super) fn write_over(&self, id: NodeId, offset: u64, data: &[u8]) -> Result<bool> {
        let node = self.node(id)?;
        let is_within = offset.checked_add(long(data.len())).is_some_and(|end| end <= node.meta.valid);
        let Some(extents) = node.extents.as_ref().filter(|_| is_within && self.is_marked()) else {
            return Ok(false);
        };
        if data.is_empty() || node.meta.kind() == Kind::Directory {
            return Ok(false);
        }
        let mut rest = data;
        for (place, len) in extents.pieces(&self.layout, offset, data.len())? {
            let (piece, after) = rest.split_at(len);
            self.cache.write_data(piece, place)?;
            rest = after;
        }
        Ok(true)
    }

    /// Notes that a part of a file was written over.
    pub(super) fn note_write(&mut self, id: NodeId) -> Result<()> {
        self.begin()?;
        self.change(id, |meta| {
            meta.modified = SystemTime::now();
            meta.flags |= ARCHIVE;
        })
    }

    pub(super) fn write(&mut self, id: NodeId, offset: u64, data: &[u8]) -> Result<()> {
        if self.node(id)?.meta.kind() == Kind::Directory {
            return Err(Fault::IsDirectory);
        }
        let end = offset.checked_add(long(data.len())).ok_or(Fault::TooLarge)?;
        self.begin()?;
        self.grow(id, end)?;
        let valid = self.node(id)?.meta.valid;
        if offset > valid {
            self.zero(id, valid, offset)?;
        }
        let mut rest = data;
        for (place, len) in self.extents(id)?.pieces(&self.layout, offset, data.len())? {
            let (piece, after) = rest.split_at(len);
            self.cache.write_data(piece, place)?;
            rest = after;
        }
        self.change(id, |meta| {
            meta.size = meta.size.max(end);
            meta.valid = meta.valid.max(end);
            meta.modified = SystemTime::now();
            meta.flags |= ARCHIVE;
        })
    }

    /// Cuts a file off, or extends it by zeros.
    pub(super) fn resize(&mut self, id: NodeId, size: u64) -> Result<()> {
        let meta = self.node(id)?.meta;
        if meta.kind() == Kind::Directory {
            return Err(Fault::IsDirectory);
        }
        if size == meta.size {
            return Ok(());
        }
        self.begin()?;
        if size > meta.size {
            self.grow(id, size)?;
            if !self.layout.is_exfat() {
                self.zero(id, meta.size, size)?;
            }
        } else {
            self.load_extents(id)?;
        }
        let keep = self.layout.clusters_for(size);
        let is_exfat = self.layout.is_exfat();
        self.change(id, |meta| {
            meta.valid = if is_exfat { meta.valid.min(size) } else { size };
            meta.size = size;
            meta.modified = SystemTime::now();
            meta.flags |= ARCHIVE;
            if size == 0 {
                meta.first = 0;
            }
        })?;
        if size < meta.size { self.shrink(id, keep, meta.contiguous) } else { Ok(()) }
    }

    fn extents(&self, id: NodeId) -> Result<&Extents> {
        self.node(id)?.extents.as_ref().ok_or(Fault::Stale)
    }

    /// Has so many bytes of clusters. The size stays.
    fn grow(&mut self, id: NodeId, bytes: u64) -> Result<()> {
        if bytes > self.layout.largest_file() {
            // What exFAT limits is the volume.
            return Err(if self.layout.is_exfat() { Fault::NoSpace } else { Fault::TooLarge });
        }
        self.load_extents(id)?;
        let wanted = u32::try_from(self.layout.clusters_for(bytes)).map_err(|_| Fault::TooLarge)?;
        if self.extents(id)?.count() >= wanted {
            return Ok(());
        }
        let mut meta = self.node(id)?.meta;
        let mut extents = self.node_mut(id)?.extents.take().unwrap_or_default();
        let lengthened = self.lengthen(&mut extents, &mut meta, wanted, Phase::Take);
        let node = self.node_mut(id)?;
        node.extents = Some(extents);
        lengthened?;
        node.meta.first = meta.first;
        node.meta.contiguous = meta.contiguous;
        // The entry, which may lack its first cluster, is written with the size.
        Ok(())
    }

    /// Adds clusters until there are so many, which the chain shows from `phase` on. On an error nothing was added.
    ///
    /// Whose entry names its length takes them in first, and shows them with that. What ends where its chain ends, as directories
    /// of FAT do, shows what was in them before unless they are zeroed on the medium by then.
    pub(super) fn lengthen(
        &mut self,
        extents: &mut Extents,
        meta: &mut Meta,
        wanted: u32,
        phase: Phase,
    ) -> Result<()> {
        let lacking = wanted.saturating_sub(extents.count());
        if self.clusters.ready() < lacking && self.clusters.free() >= lacking {
            self.commit()?;
        }
        if self.clusters.ready() < lacking {
            return Err(Fault::NoSpace);
        }
        while extents.count() < wanted {
            let last = extents.last();
            let goal = last.and_then(|last| last.checked_add(1));
            let want = wanted - extents.count();
            let (start, count) = self.clusters.take(&mut self.cache, &self.layout, goal, want)?;
            let follows = last.is_none() || goal == Some(start);
            if self.layout.is_exfat() && (last.is_none() || meta.contiguous) {
                if last.is_none() {
                    meta.contiguous = true;
                } else if !follows {
                    for run in extents.runs().to_vec() {
                        self.chain(run.cluster, run.count, Link::End)?;
                    }
                    meta.contiguous = false;
                }
            }
            if !meta.contiguous {
                self.chain(start, count, Link::End)?;
                if let Some(last) = last {
                    table::set(&mut self.cache, &self.layout, phase, last, Link::Next(start))?;
                }
            }
            if last.is_none() {
                meta.first = start;
            }
            extents.push(start, count);
        }
        Ok(())
    }

    /// Has each cluster of a run point to the next one, and the last to `end`.
    fn chain(&mut self, start: u32, count: u32, end: Link) -> Result<()> {
        for cluster in start..start.saturating_add(count) {
            let link = if cluster + 1 < start + count { Link::Next(cluster + 1) } else { end };
            table::set(&mut self.cache, &self.layout, Phase::Take, cluster, link)?;
        }
        Ok(())
    }

    /// Gives back all but the first `keep` clusters.
    fn shrink(&mut self, id: NodeId, keep: u64, contiguous: bool) -> Result<()> {
        let keep = u32::try_from(keep).unwrap_or(u32::MAX);
        let node = self.node_mut(id)?;
        let Some(extents) = node.extents.as_mut() else { return Ok(()) };
        let gone = extents.cut(keep);
        let last = extents.last();
        if keep == 0 {
            node.meta.contiguous = false;
        }
        if let (Some(last), false, false) = (last, contiguous, gone.is_empty()) {
            table::set(&mut self.cache, &self.layout, Phase::Free, last, Link::End)?;
        }
        self.give_back(&gone, false)
    }

    pub(super) fn give_back(&mut self, gone: &[Extent], is_metadata: bool) -> Result<()> {
        for run in gone {
            if !self.layout.is_exfat() {
                for cluster in run.cluster..run.cluster.saturating_add(run.count) {
                    table::set(&mut self.cache, &self.layout, Phase::Free, cluster, Link::Free)?;
                }
            }
            let range = (run.cluster, run.count);
            self.clusters.give_back(&mut self.cache, &self.layout, range, is_metadata)?;
        }
        Ok(())
    }

    /// Writes zeros over bytes that have clusters.
    fn zero(&self, id: NodeId, start: u64, end: u64) -> Result<()> {
        let mut at = start;
        while at < end {
            let len = (end - at).min(LARGEST_ZERO);
            for (place, len) in self.extents(id)?.pieces(&self.layout, at, index(len))? {
                self.cache.zero_data(place, long(len))?;
            }
            at += len;
        }
        Ok(())
    }

    /// Gives back all that a file without a name has.
    pub(super) fn free_content(&mut self, id: NodeId) -> Result<()> {
        if self.node(id)?.meta.first == 0 {
            return Ok(());
        }
        self.load_extents(id)?;
        let node = self.node_mut(id)?;
        let gone = node.extents.as_mut().map(|extents| extents.cut(0)).unwrap_or_default();
        node.meta = Meta { first: 0, size: 0, valid: 0, contiguous: false, ..node.meta };
        self.give_back(&gone, false)
    }
}

/// Bytes zeroed between two looks at the extents.
const LARGEST_ZERO: u64 = 1 << 30;
