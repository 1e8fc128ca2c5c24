//! Directories with an index: names found by their hash, through one to three levels of blocks.

use std::sync::Arc;

use super::{
    super::{
        Result,
        bytes::{index, u8_at, u16_at, u32_at},
    },
    directory::{Located, index_start},
    features::LARGE_DIR,
    hash::Hash,
    inode::Inode,
    mapping::Place,
    store::Block,
    volume::Volume,
};

/// What an index says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    /// Where it stands.
    Found(Located),
    /// There is none of that name.
    NotFound,
    /// The index makes no sense: the directory is read from its start.
    Senseless,
}

/// What comes behind a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Another one, which begins with this hash.
    Leaf(u32),
    End,
    /// The index makes no sense.
    Senseless,
}

/// A block of an index, and the entry in it that is followed.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) number: u64,
    block: Arc<Block>,
    pub(super) start: usize,
    count: usize,
    pub(super) at: usize,
}

impl Level {
    /// Reads a block of an index, at the last entry that is not behind `hash`. `None` where it makes no sense.
    fn parse((number, block): (u64, Arc<Block>), is_first: bool, hash: u32) -> Option<Self> {
        let start = index_start(&block.bytes, is_first)?;
        let (limit, count) =
            (index(u16_at(&block.bytes, start)), index(u16_at(&block.bytes, start.checked_add(2)?)));
        let end = start.checked_add(limit.checked_mul(ENTRY)?)?;
        if count == 0 || count > limit || end > block.bytes.len() {
            return None;
        }
        let mut level = Self { number, block, start, count, at: 0 };
        // The first entry has no hash: it is for all that come before the second.
        let (mut low, mut high) = (1, count);
        while low < high {
            let middle = usize::midpoint(low, high);
            if level.hash(middle) <= hash { low = middle + 1 } else { high = middle }
        }
        level.at = low - 1;
        Some(level)
    }

    fn hash(&self, at: usize) -> u32 {
        u32_at(&self.block.bytes, self.start.saturating_add(at.saturating_mul(ENTRY)))
    }

    pub(super) fn child(&self) -> u64 {
        let at = self.start.saturating_add(self.at.saturating_mul(ENTRY)).saturating_add(4);
        // The highest bits are kept for something that nobody has made.
        u64::from(u32_at(&self.block.bytes, at) & 0x0fff_ffff)
    }
}

impl Volume {
    /// Where a name stands.
    pub(super) fn find_indexed(&self, directory: &Inode, name: &[u8]) -> Result<Search> {
        let Some((hash, mut path)) = self.path_to(directory, name)? else { return Ok(Search::Senseless) };
        for _ in 0..MOST_LEAVES {
            let Some(leaf) = path.last().map(Level::child) else { return Ok(Search::Senseless) };
            let Some((number, block)) = self.directory_block(directory, leaf)? else {
                return Ok(Search::Senseless);
            };
            let mut found = None;
            let _whole = self.block_entries(&block.bytes, 0, 0, &mut |entry, _| {
                if entry.name == name {
                    found = Some(Located { block: number, at: entry.at, inode: entry.inode });
                }
                found.is_none()
            })?;
            if let Some(located) = found {
                return Ok(Search::Found(located));
            }
            match self.next_leaf(directory, &mut path, hash)? {
                Some(true) => {}
                Some(false) => return Ok(Search::NotFound),
                None => return Ok(Search::Senseless),
            }
        }
        Ok(Search::Senseless)
    }

    /// The hash of a name, and the way through the index to the block that should have it.
    fn path_to(&self, directory: &Inode, name: &[u8]) -> Result<Option<(u32, Vec<Level>)>> {
        let Some(version) = self.hash_of(directory)? else { return Ok(None) };
        let hash = version.of(name, self.superblock.hash_seed);
        Ok(self.path_by(directory, hash)?.map(|path| (hash, path)))
    }

    /// How the names of a directory with an index are hashed. `None` where that makes no sense.
    pub(super) fn hash_of(&self, directory: &Inode) -> Result<Option<Hash>> {
        let Some((_, root)) = self.directory_block(directory, 0)? else { return Ok(None) };
        let is_plain = u32_at(&root.bytes, 24) == 0 && u8_at(&root.bytes, 29) == 8;
        let version = Hash::parse(u8_at(&root.bytes, 28), self.superblock.has_unsigned_hash);
        Ok(version.filter(|_| is_plain))
    }

    /// How many levels of blocks an index may have.
    pub(super) const fn most_levels(&self) -> usize {
        if self.superblock.features.has(LARGE_DIR) { 3 } else { 2 }
    }

    /// The way through the index to the block where a hash falls.
    pub(super) fn path_by(&self, directory: &Inode, hash: u32) -> Result<Option<Vec<Level>>> {
        let Some((number, root)) = self.directory_block(directory, 0)? else { return Ok(None) };
        let levels = usize::from(u8_at(&root.bytes, 30)).saturating_add(1);
        if levels > self.most_levels() {
            return Ok(None);
        }
        let mut path: Vec<Level> = Vec::new();
        while path.len() < levels {
            let block = match path.last() {
                Some(above) => self.directory_block(directory, above.child())?,
                None => Some((number, Arc::clone(&root))),
            };
            let Some(level) = block.and_then(|block| Level::parse(block, path.is_empty(), hash)) else {
                return Ok(None);
            };
            path.push(level);
        }
        Ok(Some(path))
    }

    /// Goes on to the next leaf where names of this hash go on there, of which the lowest bit of its entry's hash tells.
    fn next_leaf(&self, directory: &Inode, path: &mut Vec<Level>, hash: u32) -> Result<Option<bool>> {
        Ok(match self.next_hash(directory, path)? {
            Next::Leaf(next) => Some(next == hash | 1),
            Next::End => Some(false),
            Next::Senseless => None,
        })
    }

    /// Goes on to the next leaf.
    pub(super) fn next_hash(&self, directory: &Inode, path: &mut Vec<Level>) -> Result<Next> {
        let levels = path.len();
        while let Some(level) = path.last_mut() {
            level.at = level.at.saturating_add(1);
            if level.at < level.count {
                break;
            }
            path.pop();
        }
        let Some(hash) = path.last().map(|level| level.hash(level.at)) else { return Ok(Next::End) };
        while path.len() < levels {
            let Some(child) = path.last().map(Level::child) else { return Ok(Next::Senseless) };
            let block = self.directory_block(directory, child)?;
            let Some(mut level) = block.and_then(|block| Level::parse(block, false, 0)) else {
                return Ok(Next::Senseless);
            };
            level.at = 0;
            path.push(level);
        }
        Ok(Next::Leaf(hash))
    }

    /// A block of a directory, with its number; `None` for a hole, or one behind the end.
    pub(super) fn directory_block(&self, directory: &Inode, at: u64) -> Result<Option<(u64, Arc<Block>)>> {
        if at >= directory.size.div_ceil(self.superblock.block_len.into()) {
            return Ok(None);
        }
        let Place::Data(number) = self.map(directory, at)?.place else { return Ok(None) };
        let block = self.store.block(number)?;
        self.check_block(directory, &block, at == 0)?;
        Ok(Some((number, block)))
    }
}

/// Bytes of an entry of an index: a hash and a block.
const ENTRY: usize = 8;
/// Leaves that are searched for one name.
const MOST_LEAVES: u32 = 1 << 12;
