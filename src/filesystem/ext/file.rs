//! What files hold.

use super::{
    super::{
        Fault, Kind, Result, Seek,
        bytes::{index, long},
    },
    attribute::inline_rest,
    features::INLINE_DATA,
    inode::{EXTENTS, INLINE, Inode},
    mapping::Place,
    volume::Volume,
};

impl Volume {
    /// Reads from `offset` on: less than `buf` only at the end of the file.
    pub(super) fn read(&self, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let left = inode.size.saturating_sub(offset);
        let len = buf.len().min(index(left));
        let buf = buf.get_mut(..len).unwrap_or_default();
        if self.is_inline(inode) {
            let content = Self::inline_content(inode)?;
            let content = content.get(index(offset)..).unwrap_or_default();
            for (at, byte) in buf.iter_mut().enumerate() {
                *byte = content.get(at).copied().unwrap_or_default();
            }
            return Ok(len);
        }
        let block_len = u64::from(self.superblock.block_len);
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(long(done));
            let run = self.map(inode, at / block_len)?;
            let here = run.blocks.saturating_mul(block_len).saturating_sub(at % block_len);
            let count = rest.len().min(index(here)).max(1);
            let part = rest.get_mut(..count).unwrap_or_default();
            match run.place {
                Place::Hole | Place::Unwritten(_) => part.fill(0),
                Place::Data(first) => self.store.read(part, first, at % block_len)?,
            }
            done = done.saturating_add(count);
        }
        Ok(len)
    }

    /// Where data or a hole begins at or after `offset`. What takes too long to find is told as data.
    pub(super) fn seek(&self, inode: &Inode, offset: u64, what: Seek) -> Result<u64> {
        if offset >= inode.size {
            return Err(Fault::PastEnd);
        }
        if self.is_inline(inode) {
            return Ok(if what == Seek::Data { offset } else { inode.size });
        }
        let block_len = u64::from(self.superblock.block_len);
        let mut at = offset;
        for _ in 0..MOST_RUNS {
            let run = self.map(inode, at / block_len)?;
            if (what == Seek::Data) == matches!(run.place, Place::Data(_)) {
                return Ok(at);
            }
            let next = (at / block_len).saturating_add(run.blocks).saturating_mul(block_len);
            if next >= inode.size {
                return if what == Seek::Data { Err(Fault::PastEnd) } else { Ok(inode.size) };
            }
            at = next;
        }
        Ok(if what == Seek::Data { at } else { inode.size })
    }

    /// Where a symbolic link leads.
    pub(super) fn target(&self, inode: &Inode) -> Result<Vec<u8>> {
        if inode.kind()? != Kind::Link {
            return Err(Fault::Invalid);
        }
        let len = index(inode.size);
        if len == 0 || len > LONGEST_LINK {
            return Err(Fault::Damaged);
        }
        if self.is_in_root(inode) {
            return inode.root().get(..len).map(<[u8]>::to_vec).ok_or(Fault::Damaged);
        }
        let mut target = vec![0; len];
        self.read(inode, 0, &mut target)?;
        Ok(target)
    }

    /// Whether a link's target stands where other files name their blocks: it has none but that of its attributes.
    pub(super) fn is_in_root(&self, inode: &Inode) -> bool {
        let attributes = if inode.attribute_block == 0 { 0 } else { u64::from(self.superblock.block_len) };
        !self.is_inline(inode)
            && !inode.has(EXTENTS)
            && inode.size < long(inode.root().len())
            && inode.allocated <= attributes
    }

    pub(super) fn is_inline(&self, inode: &Inode) -> bool {
        inode.has(INLINE) && self.superblock.features.has(INLINE_DATA)
    }

    /// What a file holds that is in its inode: there, and behind that in an extended attribute.
    pub(super) fn inline_content(inode: &Inode) -> Result<Vec<u8>> {
        let mut content = inode.root().to_vec();
        content.extend_from_slice(inline_rest(inode)?);
        Ok(content)
    }
}

/// The longest target, with its end.
const LONGEST_LINK: usize = 4096;
/// Runs that are looked at for one answer.
const MOST_RUNS: u32 = 1 << 16;
