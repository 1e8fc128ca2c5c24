//! Operations on one file: what it holds, and what is known of it.

use std::{ops::Range, time::SystemTime};

use super::{
    super::{
        Changes, Existing, Fault, Kind, Result,
        bytes::{index, long},
    },
    change::{IMMUTABLE, check_changeable},
    content::Emptied,
    inode::{EXTENTS, Inode},
    mapping::Place,
    stamp::Time,
    volume::Volume,
};

impl Volume {
    /// Writes a part of a file.
    pub(super) fn write(&mut self, number: u32, offset: u64, data: &[u8]) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            let part = rest.get(..rest.len().min(PART)).unwrap_or_default();
            let at = offset.checked_add(long(done)).ok_or(Fault::TooLarge)?;
            self.operation(|volume| {
                let mut inode = volume.changing_file(number)?;
                volume.write_part(&mut inode, at, part)?;
                let now = SystemTime::now();
                inode.set_time(Time::Modified, now);
                inode.set_time(Time::Changed, now);
                volume.put_inode(&inode)
            })?;
            done = done.saturating_add(part.len());
        }
        Ok(())
    }

    /// Writes a part of a file that has its blocks already, which changes nothing else of the volume: others read, and do the same,
    /// meanwhile. False where it is not so; nothing is written then.
    pub(super) fn write_over(&self, inode: &Inode, offset: u64, data: &[u8]) -> Result<bool> {
        let is_within = offset.checked_add(long(data.len())).is_some_and(|end| end <= inode.size);
        if !is_within || data.is_empty() || inode.has(IMMUTABLE) || self.is_inline(inode) {
            return Ok(false);
        }
        let block_len = u64::from(self.superblock.block_len);
        let mut parts = Vec::new();
        let mut rest = data;
        while !rest.is_empty() {
            let at = offset.saturating_add(long(data.len().saturating_sub(rest.len())));
            let run = self.map(inode, at / block_len)?;
            let Place::Data(place) = run.place else { return Ok(false) };
            let here = run.blocks.saturating_mul(block_len).saturating_sub(at % block_len);
            let (part, behind) = rest.split_at(rest.len().min(index(here)));
            parts.push((part, place, at % block_len));
            rest = behind;
        }
        for (part, place, within) in parts {
            self.store.write_content(part, place, within)?;
        }
        Ok(true)
    }

    /// Notes that a part of a file was written over.
    pub(super) fn note_write(&mut self, number: u32) -> Result<()> {
        self.operation(|volume| {
            let mut inode = volume.changing_file(number)?;
            let now = SystemTime::now();
            inode.set_time(Time::Modified, now);
            inode.set_time(Time::Changed, now);
            volume.put_inode(&inode)
        })
    }

    fn changing_file(&self, number: u32) -> Result<Inode> {
        let inode = self.inode(number)?;
        match inode.kind()? {
            Kind::File => {}
            Kind::Directory => return Err(Fault::IsDirectory),
            _ => return Err(Fault::Invalid),
        }
        if inode.has(IMMUTABLE) { Err(Fault::NotPermitted) } else { Ok(inode) }
    }

    /// Changes what is known of a file.
    pub(super) fn set(&mut self, number: u32, changes: &Changes) -> Result<()> {
        if let Some(size) = changes.size {
            self.resize(number, size)?;
        }
        self.operation(|volume| {
            let mut inode = volume.inode(number)?;
            if inode.has(IMMUTABLE) {
                return Err(Fault::NotPermitted);
            }
            if let Some(mode) = changes.mode {
                volume.set_mode_bits(&mut inode, mode)?;
            }
            inode.set_owner(changes.uid.unwrap_or(inode.uid));
            inode.set_group(changes.gid.unwrap_or(inode.gid));
            let last = changes.changed.unwrap_or_else(SystemTime::now);
            for (time, new) in [
                (Time::Modified, changes.modified),
                (Time::Accessed, changes.accessed),
                (Time::Created, changes.created),
                (Time::Changed, Some(last)),
            ] {
                if let Some(new) = new {
                    inode.set_time(time, new);
                }
            }
            volume.put_inode(&inode)
        })
    }

    /// Sets an extended attribute of a file, or takes it away.
    pub(super) fn set_named(
        &mut self,
        number: u32,
        name: &[u8],
        value: Option<&[u8]>,
        existing: Existing,
    ) -> Result<()> {
        let mut inode = self.inode(number)?;
        check_changeable(&inode)?;
        self.set_attribute(&mut inode, name, value, existing)?;
        inode.set_time(Time::Changed, SystemTime::now());
        self.put_inode(&inode)
    }

    fn resize(&mut self, number: u32, size: u64) -> Result<()> {
        let is_cut = self.operation(|volume| {
            let mut inode = volume.changing_file(number)?;
            let now = SystemTime::now();
            inode.set_time(Time::Modified, now);
            inode.set_time(Time::Changed, now);
            let is_shorter = size < inode.size;
            let mut is_done = true;
            if is_shorter {
                inode.set_size(size);
                volume.clear_tail(&mut inode)?;
            } else {
                volume.clear_tail(&mut inode)?;
                volume.grow(&mut inode, size)?;
            }
            if is_shorter || size == inode.size {
                is_done = volume.cut_step(&mut inode)?;
                if !is_done {
                    volume.add_orphan(&mut inode)?;
                }
            }
            volume.put_inode(&inode)?;
            Ok(!is_done)
        })?;
        if is_cut { self.finish_cut(number) } else { Ok(()) }
    }

    /// Has a range of a file be empty, as a hole or as blocks that are kept for it; the file longer where `size` says so.
    pub(super) fn empty(
        &mut self,
        number: u32,
        range: &Range<u64>,
        what: Emptied,
        grows: bool,
    ) -> Result<()> {
        if what == Emptied::Reserved && !self.changing_file(number)?.has(EXTENTS) {
            return Err(Fault::Unsupported);
        }
        let mut done = Some(0);
        while let Some(from) = done {
            done = self.operation(|volume| {
                let mut inode = volume.changing_file(number)?;
                let block_len = u64::from(volume.superblock.block_len);
                // What is behind the end is not content.
                let range = match what {
                    Emptied::Hole => range.start..range.end.min(inode.size.next_multiple_of(block_len)),
                    Emptied::Reserved => range.clone(),
                };
                let next = if range.is_empty() {
                    None
                } else {
                    volume.empty_step(&mut inode, &range, from, what)?
                };
                if grows && next.is_none() && range.end > inode.size {
                    volume.grow(&mut inode, range.end)?;
                }
                let now = SystemTime::now();
                inode.set_time(Time::Modified, now);
                inode.set_time(Time::Changed, now);
                volume.put_inode(&inode)?;
                Ok(next)
            })?;
        }
        Ok(())
    }

    /// Has blocks stand for a range of a file.
    pub(super) fn allocate(&mut self, number: u32, range: &Range<u64>, grows: bool) -> Result<()> {
        let inode = self.changing_file(number)?;
        if range.end > self.largest_file(&inode) {
            return Err(Fault::TooLarge);
        }
        let block_len = u64::from(self.superblock.block_len);
        let (mut next, end) = (range.start / block_len, range.end.div_ceil(block_len));
        let (free, wanted) = (self.superblock.free_blocks, end.saturating_sub(next));
        let had = inode.allocated / block_len;
        if wanted.saturating_sub(had) > free.saturating_sub(self.superblock.reserved_blocks) {
            return Err(Fault::NoSpace);
        }
        while next < end {
            next = self.operation(|volume| {
                let mut inode = volume.changing_file(number)?;
                if range.end > inode.size && grows && inode.size < range.start {
                    volume.clear_tail(&mut inode)?;
                }
                let after = volume.reserve(&mut inode, next, end, false)?;
                let reached = after.saturating_mul(block_len).min(range.end);
                if grows && reached > inode.size {
                    volume.grow(&mut inode, reached)?;
                }
                inode.set_time(Time::Changed, SystemTime::now());
                volume.put_inode(&inode)?;
                Ok(after)
            })?;
        }
        Ok(())
    }
}

/// Bytes that are written in one operation.
const PART: usize = 1 << 20;
