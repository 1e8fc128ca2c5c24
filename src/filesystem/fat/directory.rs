//! Directories in memory: their entries by place and by name, and their free slots.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
};

use super::{
    super::{
        Fault, NodeId, Result,
        bytes::{index, long, short},
        cache::{Cache, Phase},
    },
    entry::{DELETED, Entry, IN_USE, Meta, SLOT, Scan},
    layout::Layout,
    names::{Key, UpCase},
    table::Extents,
};

/// Where the slots of a directory lie.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Fixed { offset: u64, len: u32 },
    Clusters(Extents),
}

impl Place {
    pub(super) fn len(&self, layout: &Layout) -> u64 {
        match self {
            Self::Fixed { len, .. } => (*len).into(),
            Self::Clusters(extents) => u64::from(extents.count()) * u64::from(layout.cluster_len),
        }
    }

    fn pieces(&self, layout: &Layout, slot: u32, len: usize) -> Result<Vec<(u64, usize)>> {
        let at = u64::from(slot) * 32;
        match self {
            Self::Fixed { offset, .. } => Ok(vec![(offset + at, len)]),
            Self::Clusters(extents) => extents.pieces(layout, at, len),
        }
    }

    pub(super) fn read(&self, cache: &mut Cache, layout: &Layout, slot: u32, count: u32) -> Result<Vec<u8>> {
        self.read_after(cache, layout, Phase::Free, slot..slot.saturating_add(count))
    }

    /// Reads slots as the medium will have them once `phase` of the next commit is over.
    pub(super) fn read_after(
        &self,
        cache: &mut Cache,
        layout: &Layout,
        phase: Phase,
        slots: Range<u32>,
    ) -> Result<Vec<u8>> {
        let (slot, count) = (slots.start, slots.end.saturating_sub(slots.start));
        let mut bytes = vec![0; index(count) * SLOT];
        let mut rest = &mut bytes[..];
        for (place, len) in self.pieces(layout, slot, rest.len())? {
            let (piece, after) = rest.split_at_mut(len);
            cache.read_after(phase, piece, place)?;
            rest = after;
        }
        Ok(bytes)
    }

    pub(super) fn write(
        &self,
        cache: &mut Cache,
        layout: &Layout,
        phase: Phase,
        slot: u32,
        bytes: &[u8],
    ) -> Result<()> {
        let mut rest = bytes;
        for (place, len) in self.pieces(layout, slot, bytes.len())? {
            let (piece, after) = rest.split_at(len);
            cache.write(phase, place, piece)?;
            rest = after;
        }
        Ok(())
    }

    /// Writes from the byte `at` on, counted from the start of `slot`; all of it in one slot.
    pub(super) fn write_within(
        &self,
        cache: &mut Cache,
        layout: &Layout,
        phase: Phase,
        (slot, at): (u32, usize),
        bytes: &[u8],
    ) -> Result<()> {
        let slot = slot.saturating_add(short(at / SLOT));
        let place =
            self.pieces(layout, slot, SLOT)?.first().map(|(place, _)| *place).ok_or(Fault::Damaged)?;
        cache.write(phase, place + long(at % SLOT), bytes)
    }

    /// Marks slots as free.
    pub(super) fn erase(
        &self,
        cache: &mut Cache,
        layout: &Layout,
        phase: Phase,
        slots: Range<u32>,
    ) -> Result<()> {
        for slot in slots {
            let kind = self.read(cache, layout, slot, 1)?.first().copied().unwrap_or_default();
            let free = if layout.is_exfat() { kind & !IN_USE } else { DELETED };
            self.write(cache, layout, phase, slot, &[free])?;
        }
        Ok(())
    }
}

/// An entry, and the number of its file.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) id: NodeId,
    pub(super) slots: u32,
    pub(super) name: Vec<u16>,
    pub(super) short: [u8; 11],
    /// While the file has no node; where it has one, that knows.
    pub(super) meta: Meta,
}

/// A directory.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) place: Place,
    pub(super) items: BTreeMap<u32, Item>,
    names: HashMap<Key, Vec<u32>>,
    shorts: HashSet<[u8; 11]>,
    /// Free slots before `end`: start and count.
    free: BTreeMap<u32, u32>,
    /// Free once that is on the medium.
    pending: Vec<(u32, u32)>,
    end: u32,
}

impl Directory {
    pub(super) fn new(
        place: Place,
        scan: Scan,
        up_case: &UpCase,
        mut number: impl FnMut() -> NodeId,
    ) -> Self {
        let mut directory = Self {
            place,
            items: BTreeMap::new(),
            names: HashMap::new(),
            shorts: HashSet::new(),
            free: scan.free.into_iter().collect(),
            pending: Vec::new(),
            end: scan.end,
        };
        for entry in scan.entries {
            let Entry { slot, slots, name, short, meta, .. } = entry;
            directory.insert(slot, Item { id: number(), slots, name, short, meta }, up_case);
        }
        directory
    }

    pub(super) fn insert(&mut self, slot: u32, item: Item, up_case: &UpCase) {
        self.names.entry(up_case.key(&item.name)).or_default().push(slot);
        self.shorts.insert(item.short);
        self.items.insert(slot, item);
    }

    /// Takes an entry out. Its slots are free after the next commit.
    pub(super) fn remove(&mut self, slot: u32, up_case: &UpCase) -> Option<Item> {
        let item = self.items.remove(&slot)?;
        let key = up_case.key(&item.name);
        if let Some(slots) = self.names.get_mut(&key) {
            slots.retain(|other| *other != slot);
            if slots.is_empty() {
                self.names.remove(&key);
            }
        }
        self.shorts.remove(&item.short);
        self.pending.push((slot, item.slots));
        Some(item)
    }

    /// The slot of a name: the very one where there is, else one that differs by case. Whether it is the very one.
    pub(super) fn find(&self, name: &[u16], up_case: &UpCase) -> Option<(u32, bool)> {
        let slots = self.names.get(&up_case.key(name))?;
        let is_exact = |slot: &&u32| self.items.get(slot).is_some_and(|item| item.name == name);
        slots.iter().find(is_exact).map(|&slot| (slot, true)).or_else(|| Some((*slots.first()?, false)))
    }

    pub(super) fn shorts(&self) -> &HashSet<[u8; 11]> {
        &self.shorts
    }

    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// After a commit.
    pub(super) fn settle(&mut self) {
        for (start, count) in std::mem::take(&mut self.pending) {
            let mut run = (start, count);
            if let Some((&before, &len)) = self.free.range(..start).next_back()
                && before + len == start
            {
                self.free.remove(&before);
                run = (before, len + count);
            }
            if let Some(len) = self.free.remove(&(run.0 + run.1)) {
                run.1 += len;
            }
            self.free.insert(run.0, run.1);
        }
    }

    /// Room for so many slots: its start, or how many slots are lacking at the end.
    pub(super) fn room(&self, count: u32, layout: &Layout) -> Result<u32, u32> {
        let found = self.free.iter().take(LOOK).find(|(_, len)| **len >= count);
        if let Some((&start, _)) = found {
            return Ok(start);
        }
        let capacity = short(self.place.len(layout) / 32);
        let end = self.end.saturating_add(count);
        if end <= capacity { Ok(self.end) } else { Err(end - capacity) }
    }

    /// Takes the room that was found.
    pub(super) fn occupy(&mut self, start: u32, count: u32) {
        if start == self.end {
            self.end += count;
        } else if let Some(len) = self.free.remove(&start)
            && len > count
        {
            self.free.insert(start + count, len - count);
        }
    }

    pub(super) fn end(&self) -> u32 {
        self.end
    }

    pub(super) fn item(&self, slot: u32) -> Result<&Item> {
        self.items.get(&slot).ok_or(Fault::Stale)
    }
}

/// Gaps that are looked at for room.
const LOOK: usize = 256;
