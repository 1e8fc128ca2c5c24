//! The index of a directory, made and changed.
//!
//! A leaf that is full is split where its names, in the order of their hashes, have half of their bytes; a block of the index that is
//! full is split in its middle; a root that is full gets a level below it.

use super::{
    super::{
        Fault, Result,
        bytes::{index, put, u8_at, u16_at, u32_at},
    },
    features::METADATA_CSUM,
    hash::Hash,
    hashed::Level,
    inode::{INDEXED, Inode},
    names::{Named, Slots, fill, insert, parent_entry},
    volume::Volume,
};

/// A block of an index on the way down, and the entry that is followed.
#[derive(Debug, Clone, Copy)]
struct Step {
    number: u64,
    start: usize,
    at: usize,
}

impl From<&Level> for Step {
    fn from(level: &Level) -> Self {
        Self { number: level.number, start: level.start, at: level.at }
    }
}

/// From which hash on, and the block of the directory. The hash of the first one says nothing.
type Pointer = (u32, u32);

impl Volume {
    /// Puts a name into a directory with an index.
    pub(super) fn add_indexed(&mut self, directory: &mut Inode, new: &Named<'_>) -> Result<()> {
        let end = self.entries_end();
        let version = self.hash_of(directory)?.ok_or(Fault::Damaged)?;
        let hash = version.of(new.name, self.superblock.hash_seed);
        for _ in 0..MOST_SPLITS {
            let path = self.path_by(directory, hash)?.ok_or(Fault::Damaged)?;
            let leaf = path.last().map(Level::child).ok_or(Fault::Damaged)?;
            let (number, block) = self.directory_block(directory, leaf)?.ok_or(Fault::Damaged)?;
            let mut bytes = block.bytes.clone();
            drop(block);
            if insert(&mut bytes, end, new)? {
                self.store.change(number)?.copy_from_slice(&bytes);
                return self.seal_names(directory, number, false);
            }
            let mut path = path.iter().map(Step::from).collect();
            self.split_leaf(directory, &mut path, (number, &bytes), version)?;
        }
        Err(Fault::NoSpace)
    }

    /// Moves the names of a leaf whose hashes are the higher ones to a new block.
    fn split_leaf(
        &mut self,
        directory: &mut Inode,
        path: &mut Vec<Step>,
        (number, bytes): (u64, &[u8]),
        version: Hash,
    ) -> Result<()> {
        let end = self.entries_end();
        let seed = self.superblock.hash_seed;
        let mut entries = Vec::new();
        for slot in Slots::new(bytes, end) {
            let (_, _, entry) = slot?;
            if entry.inode != 0 {
                entries.push((version.of(entry.name, seed), entry));
            }
        }
        entries.sort_by_key(|(hash, _)| *hash);
        let mut taken = 0;
        let behind = entries.iter().rev().take_while(|(_, entry)| {
            taken += entry.len();
            taken <= end / 2
        });
        let split = entries.len().saturating_sub(behind.count().max(1)).max(1);
        let (Some((hash, _)), Some((before, _))) = (entries.get(split), entries.get(split - 1)) else {
            return Err(Fault::NoSpace);
        };
        // The lowest bit says that names of this hash are in the block before as well.
        let hash = hash | u32::from(hash == before);
        let (at, new) = self.append_block(directory)?;
        let names: Vec<Named<'_>> = entries.iter().map(|(_, entry)| *entry).collect();
        let (low, high) = names.split_at(split.min(names.len()));
        fill(self.store.change(number)?, end, low);
        fill(self.store.change(new)?, end, high);
        self.seal_names(directory, number, false)?;
        self.seal_names(directory, new, false)?;
        let at = u32::try_from(at).map_err(|_| Fault::NoSpace)?;
        self.add_pointer(directory, path, (hash, at))
    }

    /// Puts a block behind the one that is followed in the lowest level of an index.
    fn add_pointer(&mut self, directory: &mut Inode, path: &mut Vec<Step>, pointer: Pointer) -> Result<()> {
        let mut pointer = pointer;
        let mut level = path.len().checked_sub(1).ok_or(Fault::Damaged)?;
        loop {
            let step = path.get(level).copied().ok_or(Fault::Damaged)?;
            let mut pointers = self.pointers(step)?;
            if pointers.len() < self.most_pointers(step.start) {
                pointers.insert(step.at.saturating_add(1).min(pointers.len()), pointer);
                return self.put_pointers(directory, step, &pointers, level == 0);
            }
            if level == 0 {
                self.add_level(directory, path, &pointers)?;
                level = 1;
                continue;
            }
            let half = pointers.len() / 2;
            let mut high = pointers.split_off(half);
            let first = high.first().map(|(hash, _)| *hash).ok_or(Fault::Damaged)?;
            let at = step.at.saturating_add(1);
            if at > half {
                high.insert((at - half).min(high.len()), pointer);
            } else {
                pointers.insert(at.min(pointers.len()), pointer);
            }
            let (block, number) = self.new_inner(directory)?;
            self.put_pointers(directory, step, &pointers, false)?;
            self.put_pointers(directory, Step { number, start: INNER, at: 0 }, &high, false)?;
            pointer = (first, block);
            level -= 1;
        }
    }

    /// Has the root lead to one block that holds what it held.
    fn add_level(&mut self, directory: &mut Inode, path: &mut Vec<Step>, pointers: &[Pointer]) -> Result<()> {
        if path.len() >= self.most_levels() {
            return Err(Fault::NoSpace);
        }
        let Some(root) = path.first_mut() else { return Err(Fault::Damaged) };
        let at = std::mem::take(&mut root.at);
        let root = *root;
        let (block, number) = self.new_inner(directory)?;
        let below = Step { number, start: INNER, at };
        self.put_pointers(directory, below, pointers, false)?;
        let levels = u8::try_from(path.len()).unwrap_or(u8::MAX);
        put(self.store.change(root.number)?, LEVELS, &[levels]);
        self.put_pointers(directory, root, &[(0, block)], true)?;
        path.insert(1, below);
        Ok(())
    }

    /// A new block of the index: its place in the directory, and on the volume.
    fn new_inner(&mut self, directory: &mut Inode) -> Result<(u32, u64)> {
        let (at, number) = self.append_block(directory)?;
        let len = self.superblock.block_len;
        let bytes = self.store.change(number)?;
        put(bytes, 4, &u16::try_from(len).map_err(|_| Fault::Unsupported)?.to_le_bytes());
        Ok((u32::try_from(at).map_err(|_| Fault::NoSpace)?, number))
    }

    fn pointers(&self, step: Step) -> Result<Vec<Pointer>> {
        let block = self.store.block(step.number)?;
        let count = index(u16_at(&block.bytes, step.start.saturating_add(2)));
        let end = step.start.saturating_add(count.saturating_mul(8));
        let raw = block.bytes.get(step.start..end).ok_or(Fault::Damaged)?;
        Ok(raw.chunks_exact(8).map(|entry| (u32_at(entry, 0), u32_at(entry, 4))).collect())
    }

    fn put_pointers(
        &mut self,
        directory: &Inode,
        step: Step,
        pointers: &[Pointer],
        is_root: bool,
    ) -> Result<()> {
        let most = u16::try_from(self.most_pointers(step.start)).unwrap_or(u16::MAX);
        let count = u16::try_from(pointers.len()).map_err(|_| Fault::Damaged)?;
        let bytes = self.store.change(step.number)?;
        for (at, (hash, block)) in (step.start..).step_by(8).zip(pointers) {
            put(bytes, at, &hash.to_le_bytes());
            put(bytes, at.saturating_add(4), &block.to_le_bytes());
        }
        put(bytes, step.start, &most.to_le_bytes());
        put(bytes, step.start.saturating_add(2), &count.to_le_bytes());
        self.seal_names(directory, step.number, is_root)
    }

    /// How many a block has room for whose index begins there.
    fn most_pointers(&self, start: usize) -> usize {
        let tail = if self.superblock.features.has(METADATA_CSUM) { 8 } else { 0 };
        index(self.superblock.block_len).saturating_sub(start).saturating_sub(tail) / 8
    }

    /// Has a directory of one block, which is full, have an index and one leaf.
    pub(super) fn make_index(&mut self, directory: &mut Inode) -> Result<()> {
        let (number, block) = self.directory_block(directory, 0)?.ok_or(Fault::Damaged)?;
        let bytes = block.bytes.clone();
        drop(block);
        let end = self.entries_end();
        let up = parent_entry(&bytes).ok_or(Fault::Damaged)?;
        let (parent, code) = (u32_at(&bytes, up), u8_at(&bytes, up.saturating_add(7)));
        let mut entries = Vec::new();
        for slot in Slots::new(&bytes, end) {
            let (at, _, entry) = slot?;
            if at > up && entry.inode != 0 {
                entries.push(entry);
            }
        }
        let version = self.superblock.hash_version;
        if Hash::parse(version, false).is_none() {
            return Err(Fault::Unsupported);
        }
        let (leaf, new) = self.append_block(directory)?;
        fill(self.store.change(new)?, end, &entries);
        directory.set_flags(directory.flags | INDEXED);
        self.seal_names(directory, new, false)?;
        let len = index(self.superblock.block_len);
        let root = self.store.change(number)?;
        root.fill(0);
        Named { name: b".", inode: directory.number, code }.put(root, 0, 12);
        Named { name: b"..", inode: parent, code }.put(root, 12, len.saturating_sub(12));
        put(root, 28, &[version, 8]);
        let leaf = u32::try_from(leaf).map_err(|_| Fault::NoSpace)?;
        self.put_pointers(directory, Step { number, start: ROOT, at: 0 }, &[(0, leaf)], true)
    }
}

/// Where the entries of an index begin: in its root, and in the blocks below.
const ROOT: usize = 32;
const INNER: usize = 8;
/// The field that counts the levels below the root.
const LEVELS: usize = 30;
/// How often blocks are split for one name.
const MOST_SPLITS: u32 = 4;
