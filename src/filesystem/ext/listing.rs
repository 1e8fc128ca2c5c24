//! Directories shown in an order that changes keep: that of the hashes of names.
//!
//! A cursor is the hash of a name, so that splitting a block moves nothing over it. Directories of several blocks without an index are
//! shown as they stand: nothing moves in those.

use super::{
    super::{Fault, Kind, Result},
    features::DIR_INDEX,
    hash::Hash,
    hashed::{Level, Next},
    inode::Inode,
    store::Block,
    volume::Volume,
};

/// An entry, kept to be sorted.
#[derive(Debug)]
struct Kept {
    key: u64,
    name: Vec<u8>,
    inode: u32,
    kind: Option<Kind>,
}

/// What is done with each: its name, inode and kind, and the cursor behind it. False to stop.
pub(super) type Take<'a> = dyn FnMut(&[u8], u32, Option<Kind>, u64) -> bool + 'a;

impl Volume {
    /// Shows the entries of a directory from a cursor on.
    pub(super) fn list(&self, directory: &Inode, cursor: u64, take: &mut Take<'_>) -> Result<()> {
        if let Some(done) = self.list_hashed(directory, cursor, take)? {
            return Ok(done);
        }
        self.entries(directory, cursor, &mut |entry, next| take(entry.name, entry.inode, entry.kind, next))
    }

    /// The same in the order of hashes; `None` where it has none.
    fn list_hashed(&self, directory: &Inode, cursor: u64, take: &mut Take<'_>) -> Result<Option<()>> {
        super::directory::check_directory(directory)?;
        let is_small = directory.size <= self.superblock.block_len.into();
        if !self.superblock.features.has(DIR_INDEX) || self.is_inline(directory) {
            return Ok(None);
        }
        if !self.is_indexed(directory) {
            let version = Hash::parse(self.superblock.hash_version, self.superblock.has_unsigned_hash);
            let Some(version) = version.filter(|_| is_small) else { return Ok(None) };
            let mut kept = Vec::new();
            self.entries(directory, 0, &mut |entry, _| {
                kept.push(self.kept(version, entry));
                true
            })?;
            show(kept, cursor, take);
            return Ok(Some(()));
        }
        let Some(version) = self.hash_of(directory)? else { return Ok(None) };
        let first = u32::try_from(cursor >> 32).unwrap_or(u32::MAX).saturating_mul(2);
        let Some(mut path) = self.path_by(directory, first)? else { return Ok(None) };
        let (mut kept, mut steps) = (Vec::new(), 0_u64);
        loop {
            let leaf = path.last().map(Level::child);
            let Some(leaf) = leaf else { return Ok(Some(())) };
            if let Some((_, block)) = self.directory_block(directory, leaf)? {
                self.keep(version, &block, &mut kept)?;
            }
            if kept.len() > MOST_KEPT {
                return Err(Fault::Damaged);
            }
            steps = steps.saturating_add(1);
            let next = self.next_hash(directory, &mut path)?;
            // Names of one hash can go on in the next block.
            let is_last = steps > directory.size / u64::from(self.superblock.block_len.max(1));
            match next {
                Next::Leaf(hash) if !is_last => {
                    if hash & 1 == 0 && !show(std::mem::take(&mut kept), cursor, take) {
                        return Ok(Some(()));
                    }
                }
                _ => {
                    show(kept, cursor, take);
                    return Ok(Some(()));
                }
            }
        }
    }

    fn keep(&self, version: Hash, block: &Block, kept: &mut Vec<Kept>) -> Result<()> {
        let _whole = self.block_entries(&block.bytes, 0, 0, &mut |entry, _| {
            kept.push(self.kept(version, entry));
            true
        })?;
        Ok(())
    }

    fn kept(&self, version: Hash, entry: super::directory::Entry<'_>) -> Kept {
        let (major, minor) = version.both(entry.name, self.superblock.hash_seed);
        // 31 bits of the hash, 22 of the other one, ten for names that have both in common.
        let key = u64::from(major >> 1) << 32 | u64::from(minor >> 10) << 10;
        Kept { key, name: entry.name.to_vec(), inode: entry.inode, kind: entry.kind }
    }
}

/// Shows what is not before the cursor. Whether all of it was wanted.
fn show(mut kept: Vec<Kept>, cursor: u64, take: &mut Take<'_>) -> bool {
    kept.sort_by(|one, other| one.key.cmp(&other.key).then_with(|| one.name.cmp(&other.name)));
    let (mut before, mut twins) = (None, 0);
    kept.iter().all(|entry| {
        twins = if before == Some(entry.key) { (twins + 1).min(1023) } else { 0 };
        before = Some(entry.key);
        let key = entry.key | twins;
        key < cursor || take(&entry.name, entry.inode, entry.kind, key + 1)
    })
}

/// Names that may have one hash.
const MOST_KEPT: usize = 1 << 16;
