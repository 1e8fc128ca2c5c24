//! Trees of extents, changed.
//!
//! Every change is one of a range: what it had goes, and what comes in its stead goes in. A leaf is read, changed and written; where it
//! becomes too large it is split, where it becomes empty it goes, and what that means for the nodes above follows by the same rule.

use std::ops::Range;

use super::{
    super::{
        Fault, Result,
        bytes::{four_and_two, index, put, short, u16_at, u32_at},
    },
    checksum::crc32c,
    inode::Inode,
    mapping::{DEEPEST, ENTRY, LONGEST, MAGIC, Node, PAST, is_node_right},
    space::Held,
    volume::Volume,
};

/// Blocks of a file that lie together on the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Of the file.
    pub(super) first: u64,
    pub(super) blocks: u64,
    /// Of the volume.
    pub(super) place: u64,
    pub(super) is_written: bool,
}

impl Extent {
    const fn end(&self) -> u64 {
        self.first.saturating_add(self.blocks)
    }

    /// The part of it within a range.
    fn within(&self, range: &Range<u64>) -> Option<Self> {
        let (first, end) = (self.first.max(range.start), self.end().min(range.end));
        let skipped = first.saturating_sub(self.first);
        let blocks = end.checked_sub(first).filter(|blocks| *blocks > 0)?;
        Some(Self { first, blocks, place: self.place.saturating_add(skipped), ..*self })
    }

    /// Whether another one goes on where it ends, and both can be one.
    const fn goes_on(&self, next: &Self) -> bool {
        let longest = if self.is_written { LONGEST as u64 } else { LONGEST as u64 - 1 };
        self.end() == next.first
            && self.place.saturating_add(self.blocks) == next.place
            && self.is_written == next.is_written
            && self.blocks.saturating_add(next.blocks) <= longest
    }
}

/// An entry of a node that is no leaf: from which block on, and the node below.
type Branch = (u64, u64);

/// The entries of a node.
#[derive(Debug)]
enum Entries {
    Leaf(Vec<Extent>),
    Inner(Vec<Branch>),
}

/// A node on the way to a leaf, and the entry that is followed.
struct Step {
    /// Its block; the root is in the inode.
    place: Option<u64>,
    branches: Vec<Branch>,
    at: usize,
}

/// A leaf, with the way to it and the range that is its.
struct Leaf {
    path: Vec<Step>,
    place: Option<u64>,
    extents: Vec<Extent>,
    bounds: Range<u64>,
}

impl Entries {
    fn parse(node: &Node<'_>, bounds: &Range<u64>) -> Result<Self> {
        let raw = node.entries.chunks_exact(ENTRY);
        let mut next = bounds.start;
        let mut is_ordered = true;
        let mut see = |first: u64, end: u64| {
            is_ordered &= first >= next && end > first && end <= bounds.end;
            next = end;
        };
        let entries = if node.depth > 0 {
            Self::Inner(
                raw.map(|entry| {
                    let first = u64::from(u32_at(entry, 0));
                    see(first, first.saturating_add(1));
                    (first, u64::from(u16_at(entry, 8)) << 32 | u64::from(u32_at(entry, 4)))
                })
                .collect(),
            )
        } else {
            Self::Leaf(
                raw.map(|entry| {
                    let (first, len) = (u64::from(u32_at(entry, 0)), u16_at(entry, 4));
                    let is_written = len <= LONGEST;
                    let blocks = u64::from(if is_written { len } else { len - LONGEST });
                    let place = u64::from(u16_at(entry, 6)) << 32 | u64::from(u32_at(entry, 8));
                    see(first, first.saturating_add(blocks));
                    Extent { first, blocks, place, is_written }
                })
                .collect(),
            )
        };
        if is_ordered { Ok(entries) } else { Err(Fault::Damaged) }
    }

    fn len(&self) -> usize {
        match self {
            Self::Leaf(extents) => extents.len(),
            Self::Inner(branches) => branches.len(),
        }
    }

    fn first(&self) -> Option<u64> {
        match self {
            Self::Leaf(extents) => extents.first().map(|extent| extent.first),
            Self::Inner(branches) => branches.first().map(|(first, _)| *first),
        }
    }

    fn split_off(&mut self, at: usize) -> Self {
        match self {
            Self::Leaf(extents) => Self::Leaf(extents.split_off(at.min(extents.len()))),
            Self::Inner(branches) => Self::Inner(branches.split_off(at.min(branches.len()))),
        }
    }

    /// Writes them into a block, with its checksum.
    fn put_sealed(&self, bytes: &mut [u8], depth: u16, most: usize, seed: Option<u32>) {
        self.put(bytes, depth, most);
        let tail = most.saturating_add(1).saturating_mul(ENTRY);
        if let Some(seed) = seed {
            let sum = crc32c(seed, bytes.get(..tail).unwrap_or_default());
            put(bytes, tail, &sum.to_le_bytes());
        }
    }

    /// Writes them into a node that has room for `most`.
    fn put(&self, bytes: &mut [u8], depth: u16, most: usize) {
        let count = u16::try_from(self.len()).unwrap_or(u16::MAX);
        let most = u16::try_from(most).unwrap_or(u16::MAX);
        for (at, field) in [MAGIC, count, most, depth].into_iter().enumerate() {
            put(bytes, at * 2, &field.to_le_bytes());
        }
        let places = (ENTRY..).step_by(ENTRY);
        match self {
            Self::Leaf(extents) => {
                for (at, extent) in places.zip(extents) {
                    let len = u16::try_from(extent.blocks).unwrap_or(u16::MAX);
                    let len = if extent.is_written { len } else { len.saturating_add(LONGEST) };
                    let (low, high) = four_and_two(extent.place);
                    put(bytes, at, &short(extent.first).to_le_bytes());
                    put(bytes, at + 4, &len.to_le_bytes());
                    put(bytes, at + 6, &high);
                    put(bytes, at + 8, &low);
                }
            }
            Self::Inner(branches) => {
                for (at, (first, child)) in places.zip(branches) {
                    let (low, high) = four_and_two(*child);
                    put(bytes, at, &short(*first).to_le_bytes());
                    put(bytes, at + 4, &low);
                    put(bytes, at + 8, &high);
                    put(bytes, at + 10, &[0; 2]);
                }
            }
        }
    }
}

fn in_node(block_len: usize) -> usize {
    // Where nothing is left behind them there is no room for the checksum, and blocks are powers of two.
    block_len.saturating_sub(ENTRY) / ENTRY
}

/// A tree that is made at once: its root, and its leaf, in the block at `place`, where the root has no room for all.
pub(super) fn tree(
    extents: Vec<Extent>,
    place: u64,
    block_len: usize,
    seed: Option<u32>,
) -> Result<([u8; ROOT_LEN], Option<Vec<u8>>)> {
    let most = in_node(block_len);
    if extents.len() > most {
        return Err(Fault::TooLarge);
    }
    let (mut root, mut leaf) = ([0; ROOT_LEN], None);
    let (mut entries, mut depth) = (Entries::Leaf(extents), 0);
    if entries.len() > IN_ROOT {
        let bytes = leaf.insert(vec![0; block_len]);
        entries.put_sealed(bytes, depth, most, seed);
        (entries, depth) = (Entries::Inner(vec![(0, place)]), 1);
    }
    entries.put(&mut root, depth, IN_ROOT);
    Ok((root, leaf))
}

/// An empty tree, as a new inode has it.
pub(super) fn empty_root() -> [u8; ROOT_LEN] {
    let mut root = [0; ROOT_LEN];
    Entries::Leaf(Vec::new()).put(&mut root, 0, IN_ROOT);
    root
}

impl Volume {
    /// Has `range` of a file be `new` (which covers it) or a hole, as far as one leaf reaches and a number of extents goes. Gives the
    /// end of what was done. What was there is given back, but for blocks that stay where they are.
    pub(super) fn change_extents(
        &mut self,
        inode: &mut Inode,
        range: Range<u64>,
        new: Option<Extent>,
        held: Held,
    ) -> Result<u64> {
        let Leaf { mut path, place, mut extents, bounds } = self.leaf_of(inode, range.start)?;
        let mut range = range.start..range.end.min(bounds.end);
        let gone: Vec<Extent> =
            extents.iter().filter_map(|extent| extent.within(&range)).take(MOST_AT_ONCE).collect();
        if let Some(last) = gone.last().filter(|_| gone.len() == MOST_AT_ONCE) {
            range.end = last.end();
        }
        let new = new.and_then(|new| new.within(&range));
        if new.is_none() && gone.is_empty() {
            return Ok(range.end);
        }
        extents = replaced(&extents, &range, new);
        for extent in gone {
            let stays = new.is_some_and(|new| {
                extent.place.checked_sub(new.place) == extent.first.checked_sub(new.first)
            });
            if !stays {
                self.free_blocks(extent.place, extent.blocks, held)?;
                self.count(inode, extent.blocks, false)?;
            }
        }
        self.put_up(inode, &mut path, place, Entries::Leaf(extents))?;
        Ok(range.end)
    }

    /// Counts blocks that a file takes, or no longer.
    pub(super) fn count(&self, inode: &mut Inode, blocks: u64, is_more: bool) -> Result<()> {
        let bytes = blocks.saturating_mul(self.superblock.block_len.into());
        let all = if is_more {
            inode.allocated.checked_add(bytes)
        } else {
            Some(inode.allocated.saturating_sub(bytes))
        };
        inode.set_allocated(&self.superblock, all.ok_or(Fault::TooLarge)?)
    }

    /// The leaf in which a block stands or would stand.
    fn leaf_of(&self, inode: &Inode, block: u64) -> Result<Leaf> {
        let mut bounds = 0..PAST;
        let (mut path, mut place, mut above): (Vec<Step>, _, Option<u16>) = (Vec::new(), None, None);
        loop {
            let entries = match place {
                None => {
                    let node = Node::parse(inode.root())?;
                    above = Some(node.depth).filter(|depth| *depth <= DEEPEST);
                    above.ok_or(Fault::Damaged)?;
                    Entries::parse(&node, &bounds)?
                }
                Some(number) => self.child(inode, number, &mut above, &bounds)?,
            };
            let branches = match entries {
                Entries::Leaf(extents) => return Ok(Leaf { path, place, extents, bounds }),
                Entries::Inner(branches) => branches,
            };
            let at = branches.partition_point(|(first, _)| *first <= block).saturating_sub(1);
            let Some((first, child)) = branches.get(at).copied() else { return Err(Fault::Damaged) };
            if let Some((next, _)) = branches.get(at + 1) {
                bounds.end = *next;
            }
            // What is before the first one may come to it.
            bounds.start = if at == 0 { bounds.start } else { first };
            path.push(Step { place, branches, at });
            place = Some(child);
        }
    }

    fn child(
        &self,
        inode: &Inode,
        number: u64,
        above: &mut Option<u16>,
        bounds: &Range<u64>,
    ) -> Result<Entries> {
        if !self.superblock.has_blocks(number, 1) {
            return Err(Fault::Damaged);
        }
        let block = self.store.block(number)?;
        let seed = self.seed_of(inode);
        block.checked(|bytes| is_node_right(seed, bytes))?;
        let node = Node::parse(&block.bytes)?;
        if above.and_then(|above| above.checked_sub(1)) != Some(node.depth) || node.entries.is_empty() {
            return Err(Fault::Damaged);
        }
        *above = Some(node.depth);
        Entries::parse(&node, bounds)
    }

    /// Writes a node, and what follows from that into those above it.
    fn put_up(
        &mut self,
        inode: &mut Inode,
        path: &mut Vec<Step>,
        place: Option<u64>,
        entries: Entries,
    ) -> Result<()> {
        let (mut place, mut entries, mut depth) = (place, entries, 0_u16);
        while let Some(number) = place {
            let Some(Step { place: above, mut branches, at }) = path.pop() else {
                return Err(Fault::Damaged);
            };
            let nodes = self.put_node(inode, number, entries, depth)?;
            if branches.get(at..=at) == Some(&nodes[..]) {
                return Ok(());
            }
            branches.splice(at..=at, nodes);
            (place, entries, depth) = (above, Entries::Inner(branches), depth + 1);
        }
        self.put_root(inode, entries, depth)
    }

    /// Writes a node: in its block, in more where that is too small, in none where nothing is left. Gives what stands for it above.
    fn put_node(
        &mut self,
        inode: &mut Inode,
        number: u64,
        entries: Entries,
        depth: u16,
    ) -> Result<Vec<Branch>> {
        let Some(first) = entries.first() else {
            self.free_blocks(number, 1, Held::Metadata)?;
            self.count(inode, 1, false)?;
            return Ok(Vec::new());
        };
        let most = self.in_node();
        let mut entries = entries;
        let rest = (entries.len() > most).then(|| {
            // Files are mostly written from the start to the end: what is behind will not grow.
            entries.split_off(entries.len() - entries.len() / 4)
        });
        self.write_node(inode, number, &entries, depth)?;
        let mut nodes = vec![(first, number)];
        if let Some(rest) = rest.filter(|rest| rest.len() > 0) {
            nodes.extend(self.new_node(inode, number, &rest, depth)?);
        }
        Ok(nodes)
    }

    fn new_node(
        &mut self,
        inode: &mut Inode,
        goal: u64,
        entries: &Entries,
        depth: u16,
    ) -> Result<Option<Branch>> {
        let (number, _) = self.take_blocks(goal.saturating_add(1), 1)?;
        self.store.fresh(number);
        self.count(inode, 1, true)?;
        self.write_node(inode, number, entries, depth)?;
        Ok(entries.first().map(|first| (first, number)))
    }

    fn write_node(&mut self, inode: &Inode, number: u64, entries: &Entries, depth: u16) -> Result<()> {
        let (most, seed) = (self.in_node(), self.seed_of(inode));
        let bytes = self.store.change(number)?;
        entries.put_sealed(bytes, depth, most, seed);
        Ok(())
    }

    /// Writes the root, which is pushed down where it is too small, and takes up the only node below it where that fits.
    fn put_root(&mut self, inode: &mut Inode, entries: Entries, depth: u16) -> Result<()> {
        let (mut entries, mut depth) = (entries, depth);
        if entries.len() > IN_ROOT {
            if depth >= DEEPEST {
                return Err(Fault::NoSpace);
            }
            let goal = self.home_of(inode);
            let node = self.new_node(inode, goal, &entries, depth)?;
            (entries, depth) = (Entries::Inner(node.into_iter().collect()), depth + 1);
        }
        while let Entries::Inner(branches) = &entries {
            let &[(_, number)] = &branches[..] else { break };
            let mut above = Some(depth);
            let below = self.child(inode, number, &mut above, &(0..PAST))?;
            if below.len() > IN_ROOT {
                break;
            }
            self.free_blocks(number, 1, Held::Metadata)?;
            self.count(inode, 1, false)?;
            (entries, depth) = (below, depth.saturating_sub(1));
        }
        if entries.len() == 0 {
            (entries, depth) = (Entries::Leaf(Vec::new()), 0);
        }
        let mut root = [0; ROOT_LEN];
        entries.put(&mut root, depth, IN_ROOT);
        inode.set_root(&root);
        Ok(())
    }

    /// Entries for which a node in a block has room: the checksum comes behind them.
    fn in_node(&self) -> usize {
        in_node(index(self.superblock.block_len))
    }

    /// Where a file's blocks may well begin.
    pub(super) fn home_of(&self, inode: &Inode) -> u64 {
        let group = inode.number.saturating_sub(1).checked_div(self.superblock.inodes_per_group).unwrap_or(0);
        self.superblock.first_of(group.into())
    }
}

/// The extents of a leaf with `new` in a range, neighbours made one.
fn replaced(extents: &[Extent], range: &Range<u64>, new: Option<Extent>) -> Vec<Extent> {
    let (before, behind) = (0..range.start, range.end..PAST);
    let kept = extents.iter().filter_map(|extent| extent.within(&before));
    let rest = extents.iter().filter_map(|extent| extent.within(&behind));
    let mut merged: Vec<Extent> = Vec::with_capacity(extents.len().saturating_add(2));
    for extent in kept.chain(new).chain(rest) {
        match merged.last_mut() {
            Some(last) if last.goes_on(&extent) => last.blocks = last.blocks.saturating_add(extent.blocks),
            _ => merged.push(extent),
        }
    }
    merged
}

/// Bytes of the root of a tree, and entries in it.
const ROOT_LEN: usize = 60;
pub(super) const IN_ROOT: usize = 4;
/// Extents that go in one step, so that a transaction stays short.
const MOST_AT_ONCE: usize = 64;
