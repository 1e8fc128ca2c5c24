//! Names: made, removed, changed.

use std::time::SystemTime;

use super::{
    super::{Fault, Found, Kind, NodeId, Result, bytes::short, cache::Phase},
    directory::{Item, Place},
    entry::{self, ARCHIVE, Meta, SLOT},
    layout::Root,
    names::{self, as_short, short_for},
    table::Extents,
    volume::Volume,
};

impl Volume {
    pub(super) fn create(&mut self, parent: NodeId, name: &str, kind: Kind) -> Result<Found> {
        let name = names::valid(name, self.layout.is_exfat())?;
        match self.find(parent, &name) {
            Ok(_) => return Err(Fault::Exists),
            Err(Fault::NotFound) => {}
            Err(other) => return Err(other),
        }
        self.check_alive(parent)?;
        self.begin()?;
        let slots = self.room(parent, &name)?;
        let mut meta = Meta::new(kind, SystemTime::now());
        if kind == Kind::Directory {
            self.make_directory(parent, &mut meta)?;
        }
        let id = self.number();
        let slot = self.add(parent, slots, (name, meta, id))?;
        self.touch(parent)?;
        self.enter(parent, slot)?;
        self.found(id, true)
    }

    /// The first cluster of a new directory.
    fn make_directory(&mut self, parent: NodeId, meta: &mut Meta) -> Result<()> {
        let mut extents = Extents::default();
        self.lengthen(&mut extents, meta, 1, Phase::Take)?;
        let cluster_len = u64::from(self.layout.cluster_len);
        self.cache.zero_data(self.layout.offset(meta.first), cluster_len)?;
        if self.layout.is_exfat() {
            meta.size = cluster_len;
            meta.valid = cluster_len;
            return Ok(());
        }
        let parent = self.dot_dot(parent)?;
        let dots = entry::dots(meta.first, parent, meta, &self.layout);
        Place::Clusters(extents).write(&mut self.cache, &self.layout, Phase::Take, 0, &dots)
    }

    /// What `..` names: the root as nothing.
    fn dot_dot(&self, parent: NodeId) -> Result<u32> {
        Ok(if parent == NodeId::ROOT { 0 } else { self.node(parent)?.meta.first })
    }

    /// A directory whose name was removed takes nothing new.
    fn check_alive(&self, id: NodeId) -> Result<()> {
        let is_alive = id == NodeId::ROOT || self.node(id)?.slot.is_some();
        if is_alive { Ok(()) } else { Err(Fault::NotFound) }
    }

    /// Has room for an entry: the number of its slots, and its short name.
    fn room(&mut self, parent: NodeId, name: &[u16]) -> Result<(u32, [u8; 11])> {
        self.directory(parent)?;
        let short_name = if self.layout.is_exfat() {
            [0; 11]
        } else {
            let shorts = self.directory(parent)?.shorts();
            match as_short(name).filter(|short| !shorts.contains(short)) {
                Some(short) => short,
                None => short_for(name, shorts)?,
            }
        };
        let count = entry::slots_for(name, short_name, &self.layout);
        let layout = self.layout.clone();
        if let Err(lacking) = self.directory(parent)?.room(count, &layout) {
            if self.directory(parent)?.is_pending() && self.layout.root_is_fixed(parent) {
                self.commit()?;
            } else {
                self.widen(parent, lacking)?;
            }
        }
        let found = self.directory(parent)?.room(count, &layout);
        found.map(|_| (count, short_name)).map_err(|_| Fault::NoSpace)
    }

    /// Gives a directory the clusters for so many more slots.
    fn widen(&mut self, id: NodeId, slots: u32) -> Result<()> {
        let cluster_len = u64::from(self.layout.cluster_len);
        let Place::Clusters(mut extents) = self.directory(id)?.place.clone() else {
            return Err(Fault::NoSpace);
        };
        let more = short((u64::from(slots) * 32).div_ceil(cluster_len));
        let wanted = extents.count().saturating_add(more);
        if u64::from(wanted) * cluster_len > self.layout.largest_directory() {
            return Err(Fault::NoSpace);
        }
        let before = extents.count();
        let mut meta = self.node(id)?.meta;
        let has_length = self.layout.is_exfat() && id != NodeId::ROOT;
        let phase = if has_length { Phase::Take } else { Phase::Add };
        self.lengthen(&mut extents, &mut meta, wanted, phase)?;
        for position in before..wanted {
            let (cluster, _) = extents.at(position).ok_or(Fault::Damaged)?;
            self.cache.zero_data(self.layout.offset(cluster), cluster_len)?;
        }
        self.directory(id)?.place = Place::Clusters(extents);
        let is_exfat = self.layout.is_exfat();
        self.change(id, |node| {
            node.first = meta.first;
            node.contiguous = meta.contiguous;
            if is_exfat {
                node.size = u64::from(wanted) * cluster_len;
                node.valid = node.size;
            }
        })
    }

    /// Writes an entry where there is room for it.
    fn add(
        &mut self,
        parent: NodeId,
        (slots, short): (u32, [u8; 11]),
        (name, meta, id): (Vec<u16>, Meta, NodeId),
    ) -> Result<u32> {
        let set = entry::encode(&name, short, &meta, &self.layout, &self.up_case);
        self.directory(parent)?;
        let Self { nodes, cache, layout, up_case, .. } = self;
        let directory = nodes.get_mut(&parent).and_then(|node| node.directory.as_deref_mut());
        let directory = directory.ok_or(Fault::Stale)?;
        // A commit since room was made may have moved it.
        let start = directory.room(slots, layout).map_err(|_| Fault::NoSpace)?;
        directory.place.write(cache, layout, Phase::Add, start, &set)?;
        directory.occupy(start, slots);
        let end = directory.end();
        if end == start + slots && u64::from(end) * 32 < directory.place.len(layout) {
            // What lies behind it was never used, and must go on saying so.
            let next = directory.place.read(cache, layout, end, 1)?;
            if next.iter().any(|&byte| byte != 0) {
                directory.place.write(cache, layout, Phase::Add, end, &[0; SLOT])?;
            }
        }
        directory.insert(start, Item { id, slots, name, short, meta }, up_case);
        Ok(start)
    }

    /// Takes an entry out, here and on the medium.
    fn take_out(&mut self, parent: NodeId, slot: u32) -> Result<Item> {
        self.directory(parent)?;
        let Self { nodes, cache, layout, up_case, .. } = self;
        let directory = nodes.get_mut(&parent).and_then(|node| node.directory.as_deref_mut());
        let directory = directory.ok_or(Fault::Stale)?;
        let slots = directory.item(slot)?.slots;
        directory.place.erase(cache, layout, Phase::Remove, slot..slot + slots)?;
        let item = directory.remove(slot, up_case).ok_or(Fault::Stale)?;
        self.unsettled.push(parent);
        Ok(item)
    }

    pub(super) fn remove(&mut self, parent: NodeId, name: &str, kind: Kind) -> Result<()> {
        let name = names::wanted(name)?;
        let (slot, _) = self.find(parent, &name)?;
        let id = self.enter(parent, slot)?;
        let removed = self.check_removable(id, kind).and_then(|()| {
            self.begin()?;
            self.take_out(parent, slot)?;
            self.touch(parent)?;
            self.unlinked(id)
        });
        self.drop_unused(id);
        removed
    }

    fn check_removable(&mut self, id: NodeId, kind: Kind) -> Result<()> {
        match (self.node(id)?.meta.kind(), kind) {
            (Kind::Directory, Kind::Directory) => {
                if self.directory(id)?.items.is_empty() {
                    Ok(())
                } else {
                    Err(Fault::NotEmpty)
                }
            }
            (Kind::Directory, _) => Err(Fault::IsDirectory),
            (_, Kind::Directory) => Err(Fault::NotDirectory),
            _ => Ok(()),
        }
    }

    /// A file has lost its name: its clusters go now, or once nobody has it open.
    fn unlinked(&mut self, id: NodeId) -> Result<()> {
        self.node_mut(id)?.slot = None;
        self.free_if_closed(id)
    }

    /// Gives back the clusters of a file without a name that nobody has open.
    pub(super) fn free_if_closed(&mut self, id: NodeId) -> Result<()> {
        let node = self.node(id)?;
        if node.opens > 0 || node.slot.is_some() || id == NodeId::ROOT {
            return Ok(());
        }
        if node.meta.kind() == Kind::File {
            return self.free_content(id);
        }
        if node.meta.first == 0 {
            return Ok(());
        }
        let Place::Clusters(mut extents) = self.directory(id)?.place.clone() else { return Ok(()) };
        self.directory(id)?.place = Place::Clusters(Extents::default());
        let node = self.node_mut(id)?;
        node.meta = Meta { first: 0, size: 0, valid: 0, contiguous: false, ..node.meta };
        let gone = extents.cut(0);
        self.give_back(&gone, true)
    }

    pub(super) fn rename(
        &mut self,
        (from, name): (NodeId, &str),
        (to, new): (NodeId, &str),
        replace: bool,
    ) -> Result<()> {
        let name = names::wanted(name)?;
        let new = names::valid(new, self.layout.is_exfat())?;
        let (slot, _) = self.find(from, &name)?;
        self.check_alive(to)?;
        let target = match self.find(to, &new) {
            Ok((slot, _)) => Some(slot),
            Err(Fault::NotFound) => None,
            Err(other) => return Err(other),
        };
        let id = self.enter(from, slot)?;
        // A commit on the way lets go of what nobody knows.
        self.node_mut(id)?.lookups += 1;
        let renamed = match target {
            Some(target) if (from, slot) == (to, target) => self.respell((from, slot), new),
            Some(_) if !replace => Err(Fault::Exists),
            Some(target) => self.replace(id, (from, slot), (to, target)),
            None => self.relocate(id, (from, slot), (to, new)),
        };
        self.forget(id, 1);
        renamed
    }

    /// The same file in the same place: only the case of its name may differ.
    fn respell(&mut self, (parent, slot): (NodeId, u32), new: Vec<u16>) -> Result<()> {
        if self.directory(parent)?.item(slot)?.name == new {
            return Ok(());
        }
        let id = self.directory(parent)?.item(slot)?.id;
        self.relocate(id, (parent, slot), (parent, new))
    }

    fn relocate(&mut self, id: NodeId, old: (NodeId, u32), (to, new): (NodeId, Vec<u16>)) -> Result<()> {
        self.check_not_within(id, to)?;
        self.begin()?;
        let room = self.room(to, &new)?;
        self.yield_to_new(old)?;
        let mut meta = self.node(id)?.meta;
        if meta.kind() == Kind::File {
            meta.flags |= ARCHIVE;
        }
        let slot = self.add(to, room, (new, meta, id))?;
        self.node_mut(id)?.meta = meta;
        self.moved(id, old, (to, slot))
    }

    /// The old name goes; the file is in its new place.
    fn moved(&mut self, id: NodeId, (from, old): (NodeId, u32), (to, slot): (NodeId, u32)) -> Result<()> {
        self.take_out(from, old)?;
        let node = self.node_mut(id)?;
        node.parent = to;
        node.slot = Some(slot);
        let is_directory = node.meta.kind() == Kind::Directory;
        if from != to {
            self.node_mut(to)?.children += 1;
            let node = self.node_mut(from)?;
            node.children = node.children.saturating_sub(1);
            if is_directory && !self.layout.is_exfat() {
                self.point_up(id, to)?;
            }
        }
        self.touch(from)?;
        self.touch(to)
    }

    /// Has `..` of a FAT directory name its new parent.
    fn point_up(&mut self, id: NodeId, parent: NodeId) -> Result<()> {
        let parent = self.dot_dot(parent)?;
        let (own, meta) = (self.node(id)?.meta.first, self.node(id)?.meta);
        let dots = entry::dots(own, parent, &meta, &self.layout);
        let place = self.directory(id)?.place.clone();
        let second = dots.get(SLOT..).unwrap_or_default();
        place.write(&mut self.cache, &self.layout, Phase::Add, 1, second)
    }

    /// The entry of what is replaced becomes that of the file: at no time is there none of that name.
    fn replace(&mut self, id: NodeId, old: (NodeId, u32), (to, target): (NodeId, u32)) -> Result<()> {
        let kind = self.node(id)?.meta.kind();
        let victim = self.enter(to, target)?;
        let checked = match (kind, self.node(victim)?.meta.kind()) {
            (Kind::Directory, Kind::File) => Err(Fault::NotDirectory),
            (Kind::File, Kind::Directory) => Err(Fault::IsDirectory),
            _ => self.check_removable(victim, kind),
        };
        let replaced = checked.and_then(|()| {
            self.check_not_within(id, to)?;
            self.begin()?;
            self.yield_to_new(old)?;
            let node = self.node_mut(id)?;
            if kind == Kind::File {
                node.meta.flags |= ARCHIVE;
            }
            let item = self.directory(to)?.items.get_mut(&target).ok_or(Fault::Stale)?;
            item.id = id;
            self.node_mut(victim)?.slot = None;
            self.moved(id, old, (to, target))?;
            self.store(id)?;
            self.unlinked(victim)
        });
        self.drop_unused(victim);
        replaced
    }

    /// While a file has two names, after a power cut, the one that lacks the mark goes: see `repair`. So the old one loses it before
    /// there is a new one, or comes without it where it is not on the medium yet.
    fn yield_to_new(&mut self, (parent, slot): (NodeId, u32)) -> Result<()> {
        let slots = slot..slot.saturating_add(self.directory(parent)?.item(slot)?.slots);
        let Self { nodes, cache, layout, .. } = self;
        let directory = nodes.get(&parent).and_then(|node| node.directory.as_deref());
        let place = &directory.ok_or(Fault::Stale)?.place;
        for phase in [Phase::Take, Phase::Add] {
            let mut set = place.read_after(cache, layout, phase, slots.clone())?;
            if phase == Phase::Take && entry::is_free(&set, layout) {
                continue;
            }
            // Each as the entry is then: exFAT has a sum of it.
            for (at, bytes) in entry::unmark(&mut set, layout) {
                place.write_within(cache, layout, phase, (slot, at), &bytes)?;
            }
        }
        Ok(())
    }

    fn check_not_within(&self, id: NodeId, to: NodeId) -> Result<()> {
        let mut above = to;
        while above != NodeId::ROOT {
            if above == id {
                return Err(Fault::Invalid);
            }
            above = self.node(above)?.parent;
        }
        Ok(())
    }

    /// A directory's own time.
    fn touch(&mut self, id: NodeId) -> Result<()> {
        if id == NodeId::ROOT || self.node(id)?.slot.is_none() {
            return Ok(());
        }
        self.change(id, |meta| meta.modified = SystemTime::now())
    }
}

impl super::layout::Layout {
    fn root_is_fixed(&self, id: NodeId) -> bool {
        id == NodeId::ROOT && matches!(self.root, Root::Fixed { .. })
    }
}
