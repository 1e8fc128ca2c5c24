//! Directories with an index: names found by their hash, through one to three levels of blocks.

use std::sync::Arc;

use super::{
    super::{
        Result,
        bytes::{index, u8_at, u16_at, u32_at},
    },
    directory::index_start,
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
    /// The inode that it leads to.
    Found(u32),
    /// There is none of that name.
    NotFound,
    /// The index makes no sense: the directory is read from its start.
    Senseless,
}

/// A block of an index, and the entry in it that is followed.
struct Level {
    block: Arc<Block>,
    start: usize,
    count: usize,
    at: usize,
}

impl Level {
    /// Reads a block of an index, at the last entry that is not behind `hash`. `None` where it makes no sense.
    fn parse(block: Arc<Block>, is_first: bool, hash: u32) -> Option<Self> {
        let start = index_start(&block.bytes, is_first)?;
        let (limit, count) =
            (index(u16_at(&block.bytes, start)), index(u16_at(&block.bytes, start.checked_add(2)?)));
        let end = start.checked_add(limit.checked_mul(ENTRY)?)?;
        if count == 0 || count > limit || end > block.bytes.len() {
            return None;
        }
        let mut level = Self { block, start, count, at: 0 };
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

    fn child(&self) -> u64 {
        let at = self.start.saturating_add(self.at.saturating_mul(ENTRY)).saturating_add(4);
        // The highest bits are kept for something that nobody has made.
        u64::from(u32_at(&self.block.bytes, at) & 0x0fff_ffff)
    }
}

impl Volume {
    /// The inode that a name leads to.
    pub(super) fn find_indexed(&self, directory: &Inode, name: &[u8]) -> Result<Search> {
        let Some((hash, mut path)) = self.path_to(directory, name)? else { return Ok(Search::Senseless) };
        for _ in 0..MOST_LEAVES {
            let Some(leaf) = path.last().map(Level::child) else { return Ok(Search::Senseless) };
            let Some(block) = self.directory_block(directory, leaf)? else { return Ok(Search::Senseless) };
            let mut found = None;
            let _whole = self.block_entries(&block.bytes, 0, 0, &mut |entry, _| {
                if entry.name == name {
                    found = Some(entry.inode);
                }
                found.is_none()
            })?;
            if let Some(inode) = found {
                return Ok(Search::Found(inode));
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
        let Some(root) = self.directory_block(directory, 0)? else { return Ok(None) };
        let version = Hash::parse(u8_at(&root.bytes, 28), self.superblock.has_unsigned_hash);
        let levels = usize::from(u8_at(&root.bytes, 30)).saturating_add(1);
        let most = if self.superblock.features.has(LARGE_DIR) { 3 } else { 2 };
        let is_plain = u32_at(&root.bytes, 24) == 0 && u8_at(&root.bytes, 29) == 8;
        let Some(version) = version.filter(|_| is_plain && levels <= most) else { return Ok(None) };
        let hash = version.of(name, self.superblock.hash_seed);
        let mut path: Vec<Level> = Vec::new();
        while path.len() < levels {
            let block = match path.last() {
                Some(above) => self.directory_block(directory, above.child())?,
                None => Some(Arc::clone(&root)),
            };
            let Some(level) = block.and_then(|block| Level::parse(block, path.is_empty(), hash)) else {
                return Ok(None);
            };
            path.push(level);
        }
        Ok(Some((hash, path)))
    }

    /// Goes on to the next leaf where names of this hash go on there, of which the lowest bit of its entry's hash tells.
    fn next_leaf(&self, directory: &Inode, path: &mut Vec<Level>, hash: u32) -> Result<Option<bool>> {
        let levels = path.len();
        while let Some(level) = path.last_mut() {
            level.at = level.at.saturating_add(1);
            if level.at < level.count {
                break;
            }
            path.pop();
        }
        match path.last() {
            Some(level) if level.hash(level.at) == hash | 1 => {}
            _ => return Ok(Some(false)),
        }
        while path.len() < levels {
            let Some(child) = path.last().map(Level::child) else { return Ok(None) };
            let block = self.directory_block(directory, child)?;
            let Some(mut level) = block.and_then(|block| Level::parse(block, false, 0)) else {
                return Ok(None);
            };
            level.at = 0;
            path.push(level);
        }
        Ok(Some(true))
    }

    /// A block of a directory; `None` for a hole, or one behind the end.
    fn directory_block(&self, directory: &Inode, at: u64) -> Result<Option<Arc<Block>>> {
        if at >= directory.size.div_ceil(self.superblock.block_len.into()) {
            return Ok(None);
        }
        let Place::Data(number) = self.map(directory, at)?.place else { return Ok(None) };
        let block = self.store.block(number)?;
        self.check_block(directory, &block, at == 0)?;
        Ok(Some(block))
    }
}

/// Bytes of an entry of an index: a hash and a block.
const ENTRY: usize = 8;
/// Leaves that are searched for one name.
const MOST_LEAVES: u32 = 1 << 12;
