//! A mounted volume: its nodes, its commits, and the mark that it is in use.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::SystemTime,
};

use super::{
    super::{
        Attributes, Fault, Found, Kind, NodeId, Result, Rights,
        bytes::{put, u8_at, u32_at},
        cache::{Cache, Phase},
    },
    directory::{Directory, Place},
    entry::{self, Meta, READ_ONLY},
    layout::{Layout, Root, Width},
    names::{UpCase, checksum},
    space::Clusters,
    table::{self, Extents},
};
use crate::block::ByteDevice;

/// A file that is known to somebody.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) parent: NodeId,
    /// Its entry's place in the parent; `None` of the root, and once the name was removed.
    pub(super) slot: Option<u32>,
    pub(super) meta: Meta,
    pub(super) extents: Option<Extents>,
    pub(super) directory: Option<Box<Directory>>,
    pub(super) lookups: u64,
    pub(super) opens: u64,
    pub(super) children: u64,
}

#[derive(Debug)]
pub(super) struct Volume {
    pub(super) layout: Layout,
    pub(super) cache: Cache,
    pub(super) clusters: Clusters,
    pub(super) up_case: UpCase,
    pub(super) nodes: HashMap<NodeId, Node>,
    next_id: u64,
    pub(super) read_only: bool,
    is_marked: bool,
    /// Directories with slots that wait for a commit.
    pub(super) unsettled: Vec<NodeId>,
}

impl Volume {
    /// Reads what a volume says of itself.
    pub(super) fn open(device: &Arc<ByteDevice>, read_only: bool) -> Result<Self> {
        let mut boot = vec![0; 512];
        device.read_at(&mut boot, 0)?;
        let layout = Layout::parse(&boot, device.size())?;
        let block = usize::try_from(layout.sector).map_err(|_| Fault::Damaged)?;
        let mut cache = Cache::new(Arc::clone(device), block, layout.heap);
        let (place, contents) = root(&mut cache, &layout)?;
        let plain = if layout.is_exfat() { UpCase::parse(&[]) } else { UpCase::unicode() };
        let scan = entry::scan(&contents, &layout, &plain);
        let (clusters, up_case) = if layout.is_exfat() {
            let (first, len) = scan.bitmap.ok_or(Fault::Damaged)?;
            let clusters = Clusters::of_bitmap(&mut cache, &layout, first, len)?;
            (clusters, up_case(&mut cache, &layout, scan.up_case)?)
        } else {
            (Clusters::of_table(&mut cache, &layout)?, plain)
        };
        let first = match layout.root {
            Root::Chain(first) => first,
            Root::Fixed { .. } => 0,
        };
        let meta = Meta { first, ..Meta::new(Kind::Directory, SystemTime::UNIX_EPOCH) };
        let root = Node {
            parent: NodeId::ROOT,
            slot: None,
            meta,
            extents: None,
            directory: None,
            lookups: 1,
            opens: 0,
            children: 0,
        };
        let mut volume = Self {
            layout,
            cache,
            clusters,
            up_case,
            nodes: HashMap::from([(NodeId::ROOT, root)]),
            next_id: NodeId::ROOT.0,
            read_only,
            is_marked: false,
            unsettled: Vec::new(),
        };
        let directory = volume.directory_of(place, &contents)?;
        volume.node_mut(NodeId::ROOT)?.directory = Some(Box::new(directory));
        Ok(volume)
    }

    /// Whether the volume says that its last use came to a good end.
    pub(super) fn is_clean(&mut self) -> Result<bool> {
        let mut boot = [0; 128];
        self.cache.read(&mut boot, 0)?;
        if self.layout.is_exfat() {
            return Ok(u8_at(&boot, EXFAT_FLAGS) & EXFAT_DIRTY == 0);
        }
        if u8_at(&boot, self.state_place()) & FAT_DIRTY != 0 {
            return Ok(false);
        }
        // A power cut in the midst of the mark may have left it in one copy.
        for copy in self.layout.active.map_or(0..self.layout.copies, |active| active..active + 1) {
            let value = table::value(&mut self.cache, &self.layout, copy, 1)?;
            let is_clean = match self.layout.width {
                Width::Bits16 => value & CLEAN_16 != 0,
                Width::Bits32 => value & CLEAN_32 != 0,
                Width::Bits12 | Width::Exfat => true,
            };
            if !is_clean {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn state_place(&self) -> usize {
        if self.layout.width == Width::Bits32 { 65 } else { 37 }
    }

    /// Before the first change: has the volume say that it is in use.
    pub(super) fn begin(&mut self) -> Result<()> {
        if self.read_only {
            return Err(Fault::ReadOnly);
        }
        if self.cache.has_failed() {
            return Err(Fault::Io);
        }
        if !self.is_marked {
            self.mark(true)?;
            self.is_marked = true;
        }
        Ok(())
    }

    /// Whether the volume says that it is in use.
    pub(super) const fn is_marked(&self) -> bool {
        self.is_marked
    }

    /// The last write: has the volume say that it was left clean.
    pub(super) fn close(&mut self) -> Result<()> {
        if self.read_only {
            return Ok(());
        }
        self.commit()?;
        if self.is_marked {
            self.mark(false)?;
            self.is_marked = false;
        }
        self.read_only = true;
        Ok(())
    }

    /// That the mark is on the volume already, and is to be taken away at the end.
    pub(super) fn take_over_mark(&mut self) {
        self.is_marked = true;
    }

    fn mark(&mut self, is_in_use: bool) -> Result<()> {
        let (place, bit) = match self.layout.width {
            Width::Exfat => (EXFAT_FLAGS, EXFAT_DIRTY),
            _ => (self.state_place(), FAT_DIRTY),
        };
        let mut boot = vec![0; place + 1];
        self.cache.read(&mut boot, 0)?;
        let state = u8_at(&boot, place);
        let state = if is_in_use { state | bit } else { state & !bit };
        let mut changes = vec![(u64::try_from(place).unwrap_or_default(), vec![state])];
        let clean = match self.layout.width {
            Width::Bits16 => CLEAN_16,
            Width::Bits32 => CLEAN_32,
            Width::Bits12 | Width::Exfat => 0,
        };
        for copy in 0..self.layout.copies {
            let (Width::Bits16 | Width::Bits32) = self.layout.width else { break };
            let value = table::value(&mut self.cache, &self.layout, copy, 1)?;
            let value = if is_in_use { value & !clean } else { value | clean };
            let offset =
                self.layout.table + self.layout.table_len * u64::from(copy) + self.layout.width.offset(1);
            let len = if self.layout.width == Width::Bits16 { 2 } else { 4 };
            changes.push((offset, value.to_le_bytes().into_iter().take(len).collect()));
        }
        if let Some(info) = self.layout.info {
            let mut sector = vec![0; 512];
            self.cache.read(&mut sector, info)?;
            if u32_at(&sector, 0) == INFO_LEAD && u32_at(&sector, 484) == INFO {
                let free = if is_in_use { u32::MAX } else { self.clusters.free() };
                put(&mut sector, 488, &free.to_le_bytes());
                put(&mut sector, 492, &self.clusters.hint().to_le_bytes());
                changes.push((info + 488, sector.get(488..496).unwrap_or_default().to_vec()));
            }
        }
        self.cache.write_through(&changes)
    }

    /// Brings all that was done to the medium.
    pub(super) fn commit(&mut self) -> Result<()> {
        if !self.cache.is_changed() && !self.clusters.is_waiting() {
            return if self.cache.has_failed() { Err(Fault::Io) } else { Ok(()) };
        }
        self.cache.commit()?;
        self.clusters.settle(&mut self.cache, &self.layout);
        for id in std::mem::take(&mut self.unsettled) {
            if let Some(directory) = self.nodes.get_mut(&id).and_then(|node| node.directory.as_mut()) {
                directory.settle();
            }
            self.drop_unused(id);
        }
        Ok(())
    }

    /// After an operation: commits where much waits.
    pub(super) fn relieve(&mut self) -> Result<()> {
        if self.cache.changed() > MOST_CHANGED { self.commit() } else { Ok(()) }
    }

    pub(super) fn node(&self, id: NodeId) -> Result<&Node> {
        self.nodes.get(&id).ok_or(Fault::Stale)
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> Result<&mut Node> {
        self.nodes.get_mut(&id).ok_or(Fault::Stale)
    }

    fn directory_of(&mut self, place: Place, contents: &[u8]) -> Result<Directory> {
        let scan = entry::scan(contents, &self.layout, &self.up_case);
        if scan.entries.len() > MOST_ENTRIES {
            return Err(Fault::TooLarge);
        }
        let next = &mut self.next_id;
        Ok(Directory::new(place, scan, &self.up_case, || {
            *next += 1;
            NodeId(*next)
        }))
    }

    /// A number for a new file.
    pub(super) fn number(&mut self) -> NodeId {
        self.next_id += 1;
        NodeId(self.next_id)
    }

    /// The directory of a node, read where it was not.
    pub(super) fn directory(&mut self, id: NodeId) -> Result<&mut Directory> {
        let node = self.node(id)?;
        if node.meta.kind() != Kind::Directory {
            return Err(Fault::NotDirectory);
        }
        if node.directory.is_none() {
            let place = self.directory_place(id)?;
            let len = place.len(&self.layout);
            if len > self.layout.largest_directory() {
                return Err(Fault::Damaged);
            }
            let slots = super::super::bytes::short(len / 32);
            let contents = place.read(&mut self.cache, &self.layout, 0, slots)?;
            let directory = self.directory_of(place, &contents)?;
            self.node_mut(id)?.directory = Some(Box::new(directory));
        }
        self.node_mut(id)?.directory.as_deref_mut().ok_or(Fault::Stale)
    }

    fn directory_place(&mut self, id: NodeId) -> Result<Place> {
        let meta = self.node(id)?.meta;
        if !self.layout.has(meta.first) {
            // exFAT: an empty directory need not have clusters. FAT's always has.
            let is_empty = self.layout.is_exfat() && meta.first == 0 && meta.size == 0;
            return if is_empty { Ok(Place::Clusters(Extents::default())) } else { Err(Fault::Damaged) };
        }
        let most = self.layout.clusters_for(self.layout.largest_directory());
        let wanted = if self.layout.is_exfat() { self.layout.clusters_for(meta.size) } else { most + 1 };
        Ok(Place::Clusters(self.extents_of(&meta, wanted.min(most + 1))?))
    }

    /// The first `wanted` clusters that an entry names.
    fn extents_of(&mut self, meta: &Meta, wanted: u64) -> Result<Extents> {
        if wanted == 0 {
            return Ok(Extents::default());
        }
        if !self.layout.has(meta.first) {
            return Err(Fault::Damaged);
        }
        if meta.contiguous {
            let count = u32::try_from(wanted).map_err(|_| Fault::Damaged)?;
            let last = meta.first.checked_add(count - 1).filter(|&last| self.layout.has(last));
            return last.map(|_| Extents::contiguous(meta.first, count)).ok_or(Fault::Damaged);
        }
        Extents::follow(&mut self.cache, &self.layout, meta.first, wanted)
    }

    /// Has the extents of a file at hand.
    pub(super) fn load_extents(&mut self, id: NodeId) -> Result<()> {
        let node = self.node(id)?;
        if node.extents.is_some() {
            return Ok(());
        }
        let meta = node.meta;
        let wanted = self.layout.clusters_for(meta.size);
        let extents = self.extents_of(&meta, wanted)?;
        if u64::from(extents.count()) < wanted {
            return Err(Fault::Damaged);
        }
        self.node_mut(id)?.extents = Some(extents);
        Ok(())
    }

    /// Writes a node's entry as the node is now.
    pub(super) fn store(&mut self, id: NodeId) -> Result<()> {
        let node = self.node(id)?;
        let (parent, meta) = (node.parent, node.meta);
        let Some(slot) = node.slot else { return Ok(()) };
        self.directory(parent)?;
        let Self { nodes, cache, layout, .. } = self;
        let directory = nodes.get_mut(&parent).and_then(|node| node.directory.as_deref_mut());
        let directory = directory.ok_or(Fault::Stale)?;
        let item = directory.items.get_mut(&slot).ok_or(Fault::Stale)?;
        item.meta = meta;
        // Of FAT's, the names before the last slot stay as they are.
        let (first, count) = if layout.is_exfat() { (slot, item.slots) } else { (slot + item.slots - 1, 1) };
        let mut set = directory.place.read(cache, layout, first, count)?;
        entry::update(&mut set, &meta, layout);
        directory.place.write(cache, layout, Phase::Add, first, &set)
    }

    /// Changes what is known of a file, here and in its entry.
    pub(super) fn change(&mut self, id: NodeId, change: impl FnOnce(&mut Meta)) -> Result<()> {
        let node = self.node_mut(id)?;
        let before = node.meta;
        change(&mut node.meta);
        if node.meta == before { Ok(()) } else { self.store(id) }
    }

    /// The file of an entry, which from now on has a node.
    pub(super) fn enter(&mut self, parent: NodeId, slot: u32) -> Result<NodeId> {
        let item = self.directory(parent)?.item(slot)?;
        let (id, meta) = (item.id, item.meta);
        if let Entry::Vacant(place) = self.nodes.entry(id) {
            let node = Node {
                parent,
                slot: Some(slot),
                meta,
                extents: None,
                directory: None,
                lookups: 0,
                opens: 0,
                children: 0,
            };
            place.insert(node);
            self.node_mut(parent)?.children += 1;
        }
        Ok(id)
    }

    /// The same, and a reference to it.
    pub(super) fn find(&mut self, parent: NodeId, name: &[u16]) -> Result<(u32, bool)> {
        self.directory(parent)?;
        let directory = self.node(parent)?.directory.as_ref().ok_or(Fault::Stale)?;
        directory.find(name, &self.up_case).ok_or(Fault::NotFound)
    }

    pub(super) fn found(&mut self, id: NodeId, is_exact: bool) -> Result<Found> {
        self.node_mut(id)?.lookups += 1;
        Ok(Found { attributes: self.attributes(id)?, is_exact })
    }

    pub(super) fn attributes(&self, id: NodeId) -> Result<Attributes> {
        let node = self.node(id)?;
        let known = node.directory.as_ref().map(|directory| directory.place.len(&self.layout));
        Ok(self.describe(id, &node.meta, known))
    }

    fn describe(&self, node: NodeId, meta: &Meta, directory_len: Option<u64>) -> Attributes {
        let kind = meta.kind();
        let size = match kind {
            Kind::Directory => directory_len.unwrap_or(meta.size).max(self.layout.cluster_len.into()),
            _ => meta.size,
        };
        let allocated = self.layout.clusters_for(size) * u64::from(self.layout.cluster_len);
        Attributes {
            node,
            kind,
            size,
            allocated,
            links: if kind == Kind::Directory { 2 } else { 1 },
            device: 0,
            rights: Rights::Mark { read_only: kind == Kind::File && meta.flags & READ_ONLY != 0 },
            modified: meta.modified,
            changed: meta.modified,
            accessed: meta.accessed,
            created: meta.created,
        }
    }

    /// Takes back so many references to a node.
    pub(super) fn forget(&mut self, id: NodeId, count: u64) {
        if let Ok(known) = self.node_mut(id) {
            known.lookups = known.lookups.saturating_sub(count);
        }
        self.drop_unused(id);
    }

    /// Lets go of a node, and of those above it, that nobody knows any more.
    pub(super) fn drop_unused(&mut self, id: NodeId) {
        let mut id = id;
        while let Some(node) = self.nodes.get(&id) {
            let is_pending = node.directory.as_ref().is_some_and(|directory| directory.is_pending());
            let is_used = node.lookups > 0 || node.opens > 0 || node.children > 0 || is_pending;
            if is_used || id == NodeId::ROOT {
                return;
            }
            let parent = node.parent;
            self.nodes.remove(&id);
            if let Some(node) = self.nodes.get_mut(&parent) {
                node.children = node.children.saturating_sub(1);
            }
            id = parent;
        }
    }
}

fn root(cache: &mut Cache, layout: &Layout) -> Result<(Place, Vec<u8>)> {
    let place = match layout.root {
        Root::Fixed { offset, len } => Place::Fixed { offset, len },
        Root::Chain(first) => {
            let most = layout.clusters_for(layout.largest_directory());
            // One that is broken is repaired; it must open for that.
            let extents = Extents::follow_sound(cache, layout, first, most + 1)?;
            if u64::from(extents.count()) > most {
                return Err(Fault::Damaged);
            }
            Place::Clusters(extents)
        }
    };
    let slots = super::super::bytes::short(place.len(layout) / 32);
    let contents = place.read(cache, layout, 0, slots)?;
    Ok((place, contents))
}

fn up_case(cache: &mut Cache, layout: &Layout, found: Option<(u32, u64, u32)>) -> Result<UpCase> {
    let (first, len, sum) = found.ok_or(Fault::Damaged)?;
    // 65,536 units, all of them written as runs.
    let len = usize::try_from(len).ok().filter(|len| (2..=1 << 18).contains(len)).ok_or(Fault::Damaged)?;
    let clusters = layout.clusters_for(super::super::bytes::long(len));
    let extents = Extents::follow(cache, layout, first, clusters)?;
    let mut bytes = vec![0; len];
    let mut rest = &mut bytes[..];
    for (place, count) in extents.pieces(layout, 0, rest.len())? {
        let (piece, after) = rest.split_at_mut(count);
        cache.read(piece, place)?;
        rest = after;
    }
    if checksum(&bytes) == sum { Ok(UpCase::parse(&bytes)) } else { Err(Fault::Damaged) }
}

const EXFAT_FLAGS: usize = 106;
const EXFAT_DIRTY: u8 = 2;
const FAT_DIRTY: u8 = 1;
const CLEAN_16: u32 = 0x8000;
const CLEAN_32: u32 = 0x0800_0000;
const INFO_LEAD: u32 = 0x4161_5252;
const INFO: u32 = 0x6141_7272;
/// Entries of one directory.
const MOST_ENTRIES: usize = 1 << 20;
/// Blocks that may wait for a commit.
const MOST_CHANGED: usize = 1 << 13;
