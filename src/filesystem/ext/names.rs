//! Names put into directories and taken out of them.

use super::{
    super::{
        Fault, Kind, Result,
        bytes::{index, put, u8_at, u16_at, u32_at},
    },
    checksum::crc32c,
    directory::{HEADER, LONGEST_NAME, Located, TAIL, TAIL_KIND, check_directory, index_start, index_sum},
    extents::Extent,
    features::{DIR_INDEX, FILETYPE, METADATA_CSUM},
    inode::Inode,
    mapping::Place,
    running::Seal,
    volume::Volume,
};

/// A name to be put into a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) name: &'a [u8],
    pub(super) inode: u32,
    /// What it is, as an entry says it.
    pub(super) code: u8,
}

impl Named<'_> {
    pub(super) const fn len(&self) -> usize {
        (HEADER + self.name.len()).next_multiple_of(4)
    }

    /// Writes it as an entry of so many bytes.
    pub(super) fn put(&self, block: &mut [u8], at: usize, len: usize) {
        put(block, at, &self.inode.to_le_bytes());
        put_len(block, at, len);
        let name_len = u8::try_from(self.name.len()).unwrap_or(u8::MAX);
        put(block, at.saturating_add(6), &[name_len, self.code]);
        put(block, at.saturating_add(HEADER), self.name);
    }
}

/// The entries of a block, each with its place and its length: also those that stand for nothing.
#[derive(Debug)]
pub(super) struct Slots<'a> {
    block: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Slots<'a> {
    pub(super) const fn new(block: &'a [u8], end: usize) -> Self {
        Self { block, at: 0, end }
    }
}

impl<'a> Iterator for Slots<'a> {
    type Item = Result<(usize, usize, Named<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let head = self.block.get(self.at..self.end).filter(|rest| !rest.is_empty())?;
        let (len, name_len) = (index(u16_at(head, 4)), index(u8_at(head, 6)));
        let name = head.get(HEADER..len).and_then(|rest| rest.get(..name_len));
        let is_possible = len >= HEADER && len.is_multiple_of(4) && len <= head.len();
        let Some(name) = name.filter(|_| is_possible) else {
            self.at = self.end;
            return Some(Err(Fault::Damaged));
        };
        let at = self.at;
        self.at = at.saturating_add(len);
        Some(Ok((at, len, Named { name, inode: u32_at(head, 0), code: u8_at(head, 7) })))
    }
}

fn put_len(block: &mut [u8], at: usize, len: usize) {
    put(block, at.saturating_add(4), &u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes());
}

/// Puts an entry where there is room for it. Whether there was.
pub(super) fn insert(block: &mut [u8], end: usize, new: &Named<'_>) -> Result<bool> {
    let mut place = None;
    for slot in Slots::new(block, end) {
        let (at, len, entry) = slot?;
        let used = if entry.inode == 0 { 0 } else { entry.len() };
        if len.checked_sub(used).is_some_and(|left| left >= new.len()) {
            place = Some((at, used, len));
            break;
        }
    }
    let Some((at, used, len)) = place else { return Ok(false) };
    if used > 0 {
        put_len(block, at, used);
    }
    new.put(block, at.saturating_add(used), len.saturating_sub(used));
    Ok(true)
}

/// Has entries be all that a block holds.
pub(super) fn fill(block: &mut [u8], end: usize, entries: &[Named<'_>]) {
    block.fill(0);
    let mut at = 0;
    for (nth, entry) in entries.iter().enumerate() {
        let len = if nth + 1 == entries.len() { end.saturating_sub(at) } else { entry.len() };
        entry.put(block, at, len);
        at = at.saturating_add(len);
    }
    if entries.is_empty() {
        put_len(block, 0, end);
    }
}

/// Has a block of names end with the entry that holds its checksum.
pub(super) fn put_tail(block: &mut [u8]) {
    let at = block.len().saturating_sub(TAIL);
    put(block, at, &[0; 4]);
    put_len(block, at, TAIL);
    put(block, at.saturating_add(6), &TAIL_KIND.to_le_bytes());
}

/// Puts the checksum of a block of names behind them.
pub(super) fn seal_block(seed: u32, block: &mut [u8]) {
    let at = block.len().saturating_sub(TAIL);
    let sum = crc32c(seed, block.get(..at).unwrap_or_default());
    put(block, at.saturating_add(8), &sum.to_le_bytes());
}

impl Volume {
    /// Bytes of a block that entries may take.
    pub(super) fn entries_end(&self) -> usize {
        let tail = if self.superblock.features.has(METADATA_CSUM) { TAIL } else { 0 };
        index(self.superblock.block_len).saturating_sub(tail)
    }

    /// What an entry says of a file's kind.
    pub(super) fn code(&self, kind: Kind) -> u8 {
        if !self.superblock.features.has(FILETYPE) {
            return 0;
        }
        match kind {
            Kind::File => 1,
            Kind::Directory => 2,
            Kind::CharacterDevice => 3,
            Kind::BlockDevice => 4,
            Kind::Pipe => 5,
            Kind::Socket => 6,
            Kind::Link => 7,
        }
    }

    /// Puts the checksum of a directory's block in its place: that of an index at once, that of names at the commit.
    pub(super) fn seal_names(&mut self, directory: &Inode, number: u64, is_first: bool) -> Result<()> {
        let Some(seed) = self.seed_of(directory) else { return Ok(()) };
        let is_indexed = self.is_indexed(directory);
        let block = self.store.change(number)?;
        if is_indexed && let Some(start) = index_start(block, is_first) {
            let (at, sum) = index_sum(seed, block, start).ok_or(Fault::Damaged)?;
            put(block, at, &sum.to_le_bytes());
            self.store.no_seal(number);
            return Ok(());
        }
        put_tail(block);
        self.store.seal_later(number, Seal::Names(seed));
        Ok(())
    }

    /// Adds a block to the end of a directory: its place in the directory, and on the volume.
    pub(super) fn append_block(&mut self, directory: &mut Inode) -> Result<(u64, u64)> {
        let block_len = u64::from(self.superblock.block_len);
        let first = directory.size.div_ceil(block_len);
        let goal = match first.checked_sub(1).map(|before| self.map(directory, before)).transpose()? {
            Some(run) => match run.place {
                Place::Data(place) => place.saturating_add(1),
                _ => self.home_of(directory),
            },
            None => self.home_of(directory),
        };
        let (place, _) = self.take_blocks(goal, 1)?;
        self.store.fresh(place);
        self.count(directory, 1, true)?;
        self.assign(directory, Extent { first, blocks: 1, place, is_written: true })?;
        let size = first.saturating_add(1).saturating_mul(block_len);
        if size > LARGEST {
            return Err(Fault::NoSpace);
        }
        directory.set_size(size);
        Ok((first, place))
    }

    /// Puts a name that is not there into a directory, whose inode is for the caller to write.
    pub(super) fn add_name(&mut self, directory: &mut Inode, new: &Named<'_>) -> Result<()> {
        check_directory(directory)?;
        if new.name.len() > LONGEST_NAME {
            return Err(Fault::NameTooLong);
        }
        if self.is_indexed(directory) {
            return self.add_indexed(directory, new);
        }
        let end = self.entries_end();
        let blocks = directory.size.div_ceil(self.superblock.block_len.into());
        for at in 0..blocks {
            let Some((number, block)) = self.directory_block(directory, at)? else { continue };
            let mut bytes = block.bytes.clone();
            drop(block);
            if insert(&mut bytes, end, new)? {
                self.store.change(number)?.copy_from_slice(&bytes);
                return self.seal_names(directory, number, at == 0);
            }
        }
        if blocks == 1 && self.superblock.features.has(DIR_INDEX) {
            self.make_index(directory)?;
            return self.add_indexed(directory, new);
        }
        let (_, number) = self.append_block(directory)?;
        fill(self.store.change(number)?, end, &[*new]);
        self.seal_names(directory, number, false)
    }

    /// Takes an entry out of a directory.
    pub(super) fn remove_name(&mut self, directory: &Inode, located: Located) -> Result<()> {
        let block = self.store.block(located.block)?;
        let (mut before, mut found) = (None, None);
        for slot in Slots::new(&block.bytes, self.entries_end()) {
            let (at, len, _) = slot?;
            if at == located.at {
                found = Some(len);
                break;
            }
            before = Some((at, len));
        }
        let len = found.ok_or(Fault::Damaged)?;
        drop(block);
        let bytes = self.store.change(located.block)?;
        put(bytes, located.at, &[0; 4]);
        if let Some((at, before)) = before {
            put_len(bytes, at, before.saturating_add(len));
        }
        self.seal_names(directory, located.block, false)
    }

    /// Has an entry lead to another file.
    pub(super) fn redirect(
        &mut self,
        directory: &Inode,
        located: Located,
        inode: u32,
        kind: Kind,
    ) -> Result<()> {
        let code = self.code(kind);
        let bytes = self.store.change(located.block)?;
        put(bytes, located.at, &inode.to_le_bytes());
        put(bytes, located.at.saturating_add(7), &[code]);
        self.seal_names(directory, located.block, false)
    }

    /// The directory that a directory says it lies in.
    pub(super) fn parent_of(&self, directory: &Inode) -> Result<u32> {
        let (_, block) = self.directory_block(directory, 0)?.ok_or(Fault::Damaged)?;
        match parent_entry(&block.bytes) {
            Some(at) => Ok(u32_at(&block.bytes, at)),
            None => Err(Fault::Damaged),
        }
    }

    /// Has it lie in another one.
    pub(super) fn set_parent(&mut self, directory: &Inode, parent: u32) -> Result<()> {
        let (number, block) = self.directory_block(directory, 0)?.ok_or(Fault::Damaged)?;
        let at = parent_entry(&block.bytes).ok_or(Fault::Damaged)?;
        drop(block);
        put(self.store.change(number)?, at, &parent.to_le_bytes());
        self.seal_names(directory, number, true)
    }

    /// The first block of a new directory: the two entries that each has.
    pub(super) fn begin_directory(&mut self, directory: &mut Inode, parent: u32) -> Result<()> {
        let (_, number) = self.append_block(directory)?;
        let (end, code) = (self.entries_end(), self.code(Kind::Directory));
        let own = Named { name: b".", inode: directory.number, code };
        let up = Named { name: b"..", inode: parent, code };
        fill(self.store.change(number)?, end, &[own, up]);
        self.seal_names(directory, number, true)
    }

    /// Whether nothing is in a directory.
    pub(super) fn is_empty(&self, directory: &Inode) -> Result<bool> {
        let mut is_empty = true;
        self.entries(directory, 0, &mut |_, _| {
            is_empty = false;
            false
        })?;
        Ok(is_empty)
    }
}

/// Where the entry `..` stands: behind `.`, which is the first.
pub(super) fn parent_entry(block: &[u8]) -> Option<usize> {
    let mut slots = Slots::new(block, block.len());
    let (_, _, own) = slots.next()?.ok()?;
    let (at, _, up) = slots.next()?.ok()?;
    (own.name == b"." && up.name == b"..").then_some(at)
}

/// The largest directory that others read as well.
const LARGEST: u64 = 1 << 31;
