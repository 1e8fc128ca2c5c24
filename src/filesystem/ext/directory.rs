//! Directories: blocks of entries, or a few entries in the inode.

use std::ops::ControlFlow;

use super::{
    super::{
        Fault, Kind, Result,
        bytes::{index, long, u8_at, u16_at, u32_at},
    },
    attribute::inline_rest,
    checksum::crc32c_of,
    features::{DIR_INDEX, FILETYPE},
    hashed::Search,
    inode::{INDEXED, Inode, is_nameable},
    mapping::Place,
    volume::{Volume, is_right},
};

/// A name in a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) inode: u32,
    /// What it is, where the directory says so.
    pub(super) kind: Option<Kind>,
    /// Where it begins in its block.
    pub(super) at: usize,
}

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Located {
    /// The block of the volume; none in an inode.
    pub(super) block: u64,
    pub(super) at: usize,
    /// To which inode it leads.
    pub(super) inode: u32,
}

impl Volume {
    /// The inode that a name leads to.
    pub(super) fn find(&self, directory: &Inode, name: &[u8]) -> Result<u32> {
        self.locate(directory, name)?.map(|located| located.inode).ok_or(Fault::NotFound)
    }

    /// Where the entry with a name stands.
    pub(super) fn locate(&self, directory: &Inode, name: &[u8]) -> Result<Option<Located>> {
        check_directory(directory)?;
        if name.len() > LONGEST_NAME {
            return Err(Fault::NameTooLong);
        }
        if self.is_indexed(directory) {
            match self.find_indexed(directory, name)? {
                Search::Found(located) => return Ok(Some(located)),
                Search::NotFound => return Ok(None),
                Search::Senseless => {}
            }
        }
        let mut found = None;
        self.walk_entries(directory, 0, &mut |entry, block, _| {
            let is_it = entry.name == name;
            if is_it {
                found = Some(Located { block, at: entry.at, inode: entry.inode });
            }
            !is_it
        })?;
        Ok(found)
    }

    pub(super) fn is_indexed(&self, directory: &Inode) -> bool {
        directory.has(INDEXED) && self.superblock.features.has(DIR_INDEX) && !self.is_inline(directory)
    }

    /// Shows each entry from byte `cursor` of the directory on, with the cursor behind it, until `take` answers false.
    pub(super) fn entries(
        &self,
        directory: &Inode,
        cursor: u64,
        take: &mut dyn FnMut(Entry<'_>, u64) -> bool,
    ) -> Result<()> {
        self.walk_entries(directory, cursor, &mut |entry, _, next| take(entry, next))
    }

    /// The same, with the block of the volume in which an entry stands.
    fn walk_entries(
        &self,
        directory: &Inode,
        cursor: u64,
        take: &mut dyn FnMut(Entry<'_>, u64, u64) -> bool,
    ) -> Result<()> {
        check_directory(directory)?;
        if self.is_inline(directory) {
            return self.inline_entries(directory, cursor, &mut |entry, next| take(entry, 0, next));
        }
        let block_len = u64::from(self.superblock.block_len);
        let blocks = directory.size.div_ceil(block_len);
        let mut at = cursor / block_len;
        let mut seen = 0_u32;
        while at < blocks {
            let run = self.map(directory, at)?;
            let Place::Data(first) = run.place else {
                at = at.saturating_add(run.blocks);
                continue;
            };
            for physical in (first..).take(index(run.blocks.min(blocks - at))) {
                seen = seen.checked_add(1).filter(|seen| *seen <= MOST_BLOCKS).ok_or(Fault::Damaged)?;
                let block = self.store.block(physical)?;
                self.check_block(directory, &block, at == 0)?;
                let start = at.saturating_mul(block_len);
                let from = index(cursor.saturating_sub(start));
                if self
                    .block_entries(&block.bytes, 0, from, &mut |entry, end| {
                        take(entry, physical, start.saturating_add(end))
                    })?
                    .is_break()
                {
                    return Ok(());
                }
                at = at.saturating_add(1);
            }
        }
        Ok(())
    }

    /// The entries in an inode: behind the number of the parent in the first sixty bytes, and in the rest.
    fn inline_entries(
        &self,
        directory: &Inode,
        cursor: u64,
        take: &mut dyn FnMut(Entry<'_>, u64) -> bool,
    ) -> Result<()> {
        let (root, rest) = (directory.root(), inline_rest(directory)?);
        let shown = self.block_entries(root, INLINE_PARENT, index(cursor), take)?;
        if shown.is_break() {
            return Ok(());
        }
        let behind = long(root.len());
        let from = index(cursor.saturating_sub(behind));
        let _all =
            self.block_entries(rest, 0, from, &mut |entry, end| take(entry, behind.saturating_add(end)))?;
        Ok(())
    }

    /// Shows the entries of one block that begin at `from` or behind; the first stands at `start`.
    pub(super) fn block_entries(
        &self,
        block: &[u8],
        start: usize,
        from: usize,
        take: &mut dyn FnMut(Entry<'_>, u64) -> bool,
    ) -> Result<ControlFlow<()>> {
        let has_kinds = self.superblock.features.has(FILETYPE);
        let mut at = start;
        while let Some(head) = block.get(at..).filter(|rest| rest.len() >= HEADER) {
            let len = entry_len(u16_at(head, 4), block.len());
            let name_len = index(u8_at(head, 6));
            let inode = u32_at(head, 0);
            if len < HEADER || !len.is_multiple_of(4) || len > head.len() {
                return Err(Fault::Damaged);
            }
            let end = at.saturating_add(len);
            if inode != 0 && at >= from {
                let name =
                    head.get(HEADER..len).and_then(|rest| rest.get(..name_len)).ok_or(Fault::Damaged)?;
                let kind = if has_kinds { kind(u8_at(head, 7)) } else { None };
                let is_shown = is_possible(name) && is_nameable(&self.superblock, inode);
                if is_shown && !take(Entry { name, inode, kind, at }, long(end)) {
                    return Ok(ControlFlow::Break(()));
                }
            }
            at = end;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Whether the checksum of a directory's block is right: at the end of entries, or behind those of an index.
    pub(super) fn check_block(
        &self,
        directory: &Inode,
        block: &super::store::Block,
        is_first: bool,
    ) -> Result<()> {
        let Some(seed) = self.seed_of(directory) else { return Ok(()) };
        let is_indexed = self.is_indexed(directory);
        block.checked(|bytes| {
            if let Some(start) = index_start(bytes, is_first).filter(|_| is_indexed) {
                return is_index_right(seed, bytes, start);
            }
            let at = bytes.len().saturating_sub(TAIL);
            let tail = bytes.get(at..).unwrap_or_default();
            let is_tail =
                u32_at(tail, 0) == 0 && index(u16_at(tail, 4)) == TAIL && u16_at(tail, 6) == TAIL_KIND;
            is_tail && is_right(Some(seed), bytes.get(..at), u32_at(tail, 8))
        })
    }
}

/// Where the entries of an index begin in a block that holds some: in the first, behind the two entries that each directory has and
/// the description of the index; in others behind one empty entry as long as the block.
pub(super) fn index_start(block: &[u8], is_first: bool) -> Option<usize> {
    let first = entry_len(u16_at(block, 4), block.len());
    if is_first {
        let second = entry_len(u16_at(block, 12 + 4), block.len());
        return (first == 12 && second == block.len().saturating_sub(12)).then_some(32);
    }
    (first == block.len() && u32_at(block, 0) == 0).then_some(8)
}

fn is_index_right(seed: u32, block: &[u8], start: usize) -> bool {
    index_sum(seed, block, start).is_some_and(|(at, sum)| u32_at(block, at) == sum)
}

/// Where the checksum of an index stands, and what it is.
pub(super) fn index_sum(seed: u32, block: &[u8], start: usize) -> Option<(usize, u32)> {
    let (limit, count) = (index(u16_at(block, start)), index(u16_at(block, start.saturating_add(2))));
    let tail = start.saturating_add(limit.saturating_mul(8));
    let covered = block.get(..start.saturating_add(count.saturating_mul(8)))?;
    let reserved = block.get(tail..).filter(|tail| tail.len() >= 8)?.get(..4)?;
    (count <= limit).then(|| (tail.saturating_add(4), crc32c_of(seed, &[covered, reserved, &[0; 4]])))
}

pub(super) fn check_directory(inode: &Inode) -> Result<()> {
    if inode.kind()? == Kind::Directory { Ok(()) } else { Err(Fault::NotDirectory) }
}

/// The length of an entry, which in blocks of 64 KiB does not fit its field.
pub(super) fn entry_len(field: u16, block_len: usize) -> usize {
    let field = index(field);
    if block_len < 1 << 16 {
        return field;
    }
    if field == 0xffff || field == 0 { block_len } else { field & 0xfffc | (field & 3) << 16 }
}

/// Whether a name can be shown. `.` and `..` are none of a directory's own.
pub(super) fn is_possible(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

pub(super) const fn kind(code: u8) -> Option<Kind> {
    Some(match code {
        1 => Kind::File,
        2 => Kind::Directory,
        3 => Kind::CharacterDevice,
        4 => Kind::BlockDevice,
        5 => Kind::Pipe,
        6 => Kind::Socket,
        7 => Kind::Link,
        _ => return None,
    })
}

pub(super) const LONGEST_NAME: usize = 255;
/// Bytes of an entry before its name.
pub(super) const HEADER: usize = 8;
/// The entry at the end of a block that holds the checksum.
pub(super) const TAIL: usize = 12;
pub(super) const TAIL_KIND: u16 = 0xde00;
/// The number of the parent, before the entries in an inode.
const INLINE_PARENT: usize = 4;
/// Blocks of a directory that are looked at for one answer.
const MOST_BLOCKS: u32 = 1 << 18;
