//! Directories: a tree of names, sorted without regard to case, whose root lies in the record.

use std::{cmp::Ordering, sync::Arc};

use super::{
    super::{
        Fault, Kind, Listed, Result,
        bytes::{index, long, u8_at, u16_at, u32_at, u64_at},
    },
    file::{DOS, File, NAMESPACE, is_users, node},
    names,
    record::{self, BITMAP, INDEX_ALLOCATION, INDEX_ROOT, number_of, sequence_of},
    stream::Stream,
    volume::{Piece, Volume},
};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

/// The names of a directory.
#[derive(Debug)]
pub(super) struct Index {
    directory: u64,
    root: Box<[u8]>,
    /// The other nodes, where there are any, and which of them are in use.
    blocks: Option<(Stream, Stream)>,
    block_len: u64,
    /// What numbers of nodes count, in bytes.
    step: u64,
}

impl Index {
    /// The index of a directory, whose parts are in these pieces.
    pub(super) fn open(
        volume: &Volume,
        directory: u64,
        (root, blocks, bitmap): (Vec<Piece>, Vec<Piece>, Vec<Piece>),
    ) -> Result<Self> {
        let root = Stream::open(volume, directory, INDEX_ROOT, root)?.ok_or(Fault::Damaged)?;
        let root: Box<[u8]> = root.inside().ok_or(Fault::Damaged)?.into();
        let block_len = u64::from(u32_at(&root, 8));
        if !block_len.is_power_of_two() || !(512..=LONGEST_BLOCK).contains(&block_len) {
            return Err(Fault::Damaged);
        }
        let cluster_len = volume.geometry.cluster_len;
        let step = if cluster_len <= block_len { cluster_len } else { SMALL_STEP };
        let blocks = Stream::open(volume, directory, INDEX_ALLOCATION, blocks)?;
        let bitmap = Stream::open(volume, directory, BITMAP, bitmap)?;
        let blocks = match (blocks, bitmap) {
            (Some(blocks), Some(bitmap)) => Some((blocks, bitmap)),
            (None, _) => None,
            (Some(_), None) => return Err(Fault::Damaged),
        };
        Ok(Self { directory, root, blocks, block_len, step })
    }

    /// In bytes, and on the medium.
    pub(super) fn sizes(&self) -> (u64, u64) {
        let inside = long(self.root.len());
        self.blocks.as_ref().map_or((inside, 0), |(blocks, _)| (blocks.size(), blocks.allocated()))
    }

    pub(super) fn weight(&self) -> usize {
        let blocks = self
            .blocks
            .as_ref()
            .map_or(0, |(blocks, bitmap)| blocks.weight().saturating_add(bitmap.weight()));
        self.root.len().saturating_add(blocks)
    }
}

/// An entry of a node.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    /// The file, as a record and how often that was used.
    reference: u64,
    /// The node with what is sorted before it.
    child: Option<u64>,
    /// Empty for the end of a node, which stands for no name.
    key: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The name in UTF-16; empty where the key has none.
    fn name(&self) -> &'a [u8] {
        let len = usize::from(u8_at(self.key, NAMESPACE.saturating_sub(1))).saturating_mul(2);
        let start = NAMESPACE.saturating_add(1);
        self.key.get(start..start.saturating_add(len)).unwrap_or_default()
    }

    /// Whether it shows: not the file system's own files, nor a second name for DOS.
    fn is_shown(&self) -> bool {
        is_users(number_of(self.reference)) && u8_at(self.key, NAMESPACE) != DOS
    }
}

/// The entries of a node, whose header stands at `start`.
fn entries(node: &[u8], start: usize) -> impl Iterator<Item = Result<Entry<'_>>> {
    let end = start.saturating_add(index(u32_at(node, start.saturating_add(4))));
    let mut at = start.saturating_add(index(u32_at(node, start)));
    let mut is_over = false;
    std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let entry = node.get(at..end).and_then(split);
        is_over = entry.is_none_or(|(entry, _)| entry.key.is_empty());
        let Some((entry, len)) = entry else { return Some(Err(Fault::Damaged)) };
        at = at.saturating_add(len);
        Some(Ok(entry))
    })
}

/// The first entry, and its length.
fn split(rest: &[u8]) -> Option<(Entry<'_>, usize)> {
    let (len, key_len, flags) =
        (usize::from(u16_at(rest, 8)), usize::from(u16_at(rest, 10)), u16_at(rest, 12));
    let raw = rest.get(..len).filter(|_| len >= ENTRY && len.is_multiple_of(8))?;
    let has_child = flags & HAS_CHILD != 0;
    let end = if has_child { len.checked_sub(8).filter(|end| *end >= ENTRY)? } else { len };
    let child = has_child.then(|| u64_at(raw, end));
    let key = if flags & IS_END == 0 { raw.get(ENTRY..ENTRY.checked_add(key_len)?)? } else { &[] };
    if flags & IS_END == 0 && key.len() <= NAMESPACE {
        return None;
    }
    Some((Entry { reference: u64_at(raw, 0), child, key }, len))
}

impl Volume {
    /// The file that a name leads to, found by an order; with the name as it stands in the directory.
    pub(super) fn find(
        &self,
        index: &Index,
        order: &dyn Fn(&[u8]) -> Ordering,
    ) -> Result<(Arc<File>, Vec<u8>)> {
        let (mut place, mut block) = (ROOT_HEADER, None::<Arc<[u8]>>);
        for _ in 0..MOST_LEVELS {
            let bytes = block.as_deref().unwrap_or(&index.root);
            let mut child = None;
            for entry in entries(bytes, place) {
                let entry = entry?;
                let order = if entry.key.is_empty() { Ordering::Less } else { order(entry.name()) };
                match order {
                    Ordering::Greater => {}
                    Ordering::Less => {
                        child = entry.child;
                        break;
                    }
                    Ordering::Equal if entry.is_shown() => {
                        return Ok((self.referenced(entry.reference)?, entry.name().to_vec()));
                    }
                    Ordering::Equal => return Err(Fault::NotFound),
                }
            }
            let number = child.ok_or(Fault::NotFound)?.checked_mul(index.step).ok_or(Fault::Damaged)?;
            let number = number.checked_div(index.block_len).ok_or(Fault::Damaged)?;
            block = Some(self.directory_block(index, number)?);
            place = BLOCK_HEADER;
        }
        Err(Fault::Damaged)
    }

    /// The file that an entry leads to.
    fn referenced(&self, reference: u64) -> Result<Arc<File>> {
        let file = self.file(number_of(reference)).map_err(|fault| match fault {
            Fault::Stale => Fault::Damaged,
            other => other,
        })?;
        let sequence = sequence_of(reference);
        if sequence == 0 || sequence == file.sequence { Ok(file) } else { Err(Fault::Damaged) }
    }

    /// Shows the entries of a directory from a cursor on: those in the record, then node by node as these lie.
    pub(super) fn list(
        &self,
        index: &Index,
        cursor: u64,
        take: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> Result<()> {
        let (mut stage, mut first) = (cursor >> PLACE_BITS, cursor & PLACES);
        if stage == 0 {
            if !self.list_node(&index.root, ROOT_HEADER, (0, first), take)? {
                return Ok(());
            }
            (stage, first) = (1, 0);
        }
        let Some((blocks, bitmap)) = &index.blocks else { return Ok(()) };
        let most = blocks.size().min(self.geometry.bytes(self.geometry.clusters));
        let count = most.checked_div(index.block_len).unwrap_or_default();
        let mut used = [0; 512];
        let mut number = stage.saturating_sub(1);
        while number < count {
            let start = number / BITS_AT_ONCE;
            let read = self.read(bitmap, start.saturating_mul(long(used.len())), &mut used)?;
            let bits = used.get(..read).unwrap_or_default();
            let end = start.saturating_add(1).saturating_mul(BITS_AT_ONCE).min(count);
            while number < end {
                let within = number % BITS_AT_ONCE;
                let byte = bits.get(index_of(within / 8)).copied().unwrap_or_default();
                if byte >> (within % 8) & 1 != 0 {
                    let block = self.directory_block(index, number)?;
                    let stage = number.saturating_add(1);
                    if !self.list_node(&block, BLOCK_HEADER, (stage, first), take)? {
                        return Ok(());
                    }
                }
                (number, first) = (number.saturating_add(1), 0);
            }
            if read == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Shows the entries of a node from a place on. Whether all of it was wanted.
    fn list_node(
        &self,
        bytes: &[u8],
        start: usize,
        (stage, first): (u64, u64),
        take: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> Result<bool> {
        for (place, entry) in (0_u64..).zip(entries(bytes, start)) {
            let entry = entry?;
            if place < first || entry.key.is_empty() || !entry.is_shown() {
                continue;
            }
            let name = names::text(names::units(entry.name()));
            if !names::is_possible(&name) {
                continue;
            }
            let number = number_of(entry.reference);
            let next = stage << PLACE_BITS | place.saturating_add(1);
            let kind = self.kind_of(number, u32_at(entry.key, KEY_FLAGS));
            if !take(&Listed { name: OsStr::from_bytes(&name), node: node(number), kind, next }) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What a file is, by what its entry says of it where that is enough.
    fn kind_of(&self, number: u64, flags: u32) -> Kind {
        let is_directory = flags & IS_DIRECTORY != 0;
        let usual = if is_directory { Kind::Directory } else { Kind::File };
        let may_be_special = flags & IS_REPARSE_POINT != 0 || flags & IS_SYSTEM != 0 && !is_directory;
        if may_be_special { self.file(number).map_or(usual, |file| file.kind()) } else { usual }
    }

    /// A node that does not lie in the record.
    fn directory_block(&self, index: &Index, number: u64) -> Result<Arc<[u8]>> {
        let key = (index.directory, number);
        if let Some(found) = self.blocks.find(key) {
            return Ok(found);
        }
        let (blocks, _) = index.blocks.as_ref().ok_or(Fault::Damaged)?;
        let start = number.checked_mul(index.block_len).ok_or(Fault::Damaged)?;
        let mut bytes = vec![0; index_of(index.block_len)];
        let read = self.read(blocks, start, &mut bytes)?;
        if read < bytes.len() || !bytes.starts_with(b"INDX") {
            return Err(Fault::Damaged);
        }
        record::put_back(&mut bytes)?;
        if start.checked_div(index.step) != Some(u64_at(&bytes, 16)) {
            return Err(Fault::Damaged);
        }
        let block: Arc<[u8]> = bytes.into();
        self.blocks.keep(key, Arc::clone(&block), block.len());
        Ok(block)
    }
}

fn index_of(number: u64) -> usize {
    index(number)
}

/// Headers of nodes, within a root and within a block.
const ROOT_HEADER: usize = 16;
const BLOCK_HEADER: usize = 24;
/// The header of an entry.
const ENTRY: usize = 16;
/// Of an entry's flags.
const HAS_CHILD: u16 = 1;
const IS_END: u16 = 2;
/// In a key: the file's flags, and of these.
const KEY_FLAGS: usize = 56;
const IS_SYSTEM: u32 = 0x4;
const IS_REPARSE_POINT: u32 = 0x400;
const IS_DIRECTORY: u32 = 0x1000_0000;

/// Where clusters are larger than nodes, these are counted in sectors.
const SMALL_STEP: u64 = 512;
const LONGEST_BLOCK: u64 = 64 << 10;
/// A node has room for two entries at least.
const MOST_LEVELS: u32 = 32;
/// Of a cursor: which entry of a node.
const PLACE_BITS: u32 = 20;
const PLACES: u64 = (1 << PLACE_BITS) - 1;
const BITS_AT_ONCE: u64 = 512 * 8;
