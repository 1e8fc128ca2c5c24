//! Repair of a volume that was not unmounted cleanly: the tree of names decides, and the rest is made from it.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use super::{
    super::{
        Kind, NodeId, Result,
        bytes::{index, long, short},
        cache::Phase,
    },
    directory::Place,
    entry::{self, ARCHIVE, Entry, Meta, SLOT},
    layout::{Root, Width},
    names::text,
    space::Clusters,
    table::{self, Extents, Link},
    volume::Volume,
};

/// What was repaired.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Repair {
    /// A sentence each, with names from within the volume; of many only the first.
    pub findings: Vec<String>,
    /// Slots of directories that made no sense.
    pub garbage: u64,
    /// Entries that went: their file has another, or begins nowhere.
    pub dropped: u64,
    /// Files and directories whose clusters ended early, or went on behind the end.
    pub cut: u64,
    /// Clusters that nothing used.
    pub freed: u64,
}

impl Repair {
    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn note(&mut self, finding: impl FnOnce() -> String) {
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(finding());
        }
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.dropped, "entries removed"),
            (self.cut, "files cut to what is left of them"),
            (self.garbage, "damaged directory slots cleared"),
            (self.freed, "lost clusters freed"),
        ];
        let told: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if told.is_empty() { f.write_str("nothing was lost") } else { f.write_str(&told.join(", ")) }
    }
}

/// A directory to look at.
struct Branch {
    place: Place,
    /// The first cluster of its parent, as `..` names it.
    parent: u32,
    first: u32,
    meta: Option<Meta>,
}

/// An entry that has a first cluster.
#[derive(Debug, Clone)]
struct Owner {
    place: Place,
    slot: u32,
    slots: u32,
    is_marked: bool,
    is_file: bool,
    claimed: Extents,
}

struct Walk {
    used: Clusters,
    owners: HashMap<u32, Owner>,
    branches: Vec<Branch>,
    repair: Repair,
}

impl Volume {
    /// Repairs. What it writes is not committed; the caller opens the volume anew after that.
    pub(super) fn repair(&mut self) -> Result<Repair> {
        let mut walk = Walk {
            used: Clusters::new(self.layout.clusters, None),
            owners: HashMap::new(),
            branches: Vec::new(),
            repair: Repair::default(),
        };
        self.even_out_tables()?;
        let place = self.node(NodeId::ROOT)?.directory.as_ref().map(|directory| directory.place.clone());
        let place = place.ok_or(super::Fault::Stale)?;
        if let Place::Clusters(extents) = &place {
            walk.claim(extents);
            let meta = self.node(NodeId::ROOT)?.meta;
            self.end_chain(&mut walk, &meta, extents)?;
        }
        self.claim_system(&mut walk)?;
        let first = match self.layout.root {
            Root::Chain(first) => first,
            Root::Fixed { .. } => 0,
        };
        walk.branches.push(Branch { place, parent: 0, first, meta: None });
        while let Some(branch) = walk.branches.pop() {
            self.repair_directory(&mut walk, &branch)?;
        }
        self.rebuild_map(walk)
    }

    /// Has all copies of FAT's table say what the first one says.
    fn even_out_tables(&mut self) -> Result<()> {
        if self.layout.active.is_some() {
            return Ok(());
        }
        let mut at = 0;
        while at < self.layout.table_len {
            let len = index((self.layout.table_len - at).min(CHUNK));
            let mut right = vec![0; len];
            self.cache.read(&mut right, self.layout.table + at)?;
            for copy in 1..self.layout.copies {
                let place = self.layout.table + self.layout.table_len * u64::from(copy) + at;
                let mut other = vec![0; len];
                self.cache.read(&mut other, place)?;
                if right != other {
                    self.cache.write(Phase::Take, place, &right)?;
                }
            }
            at += long(len);
        }
        Ok(())
    }

    /// What belongs to the volume itself.
    fn claim_system(&mut self, walk: &mut Walk) -> Result<()> {
        if !self.layout.is_exfat() {
            return Ok(());
        }
        if let Some(bitmap) = self.clusters.bitmap() {
            walk.claim(bitmap);
        }
        let place = self.node(NodeId::ROOT)?.directory.as_ref().map(|directory| directory.place.clone());
        let Some(place) = place else { return Ok(()) };
        let slots = short(place.len(&self.layout) / 32);
        let contents = place.read(&mut self.cache, &self.layout, 0, slots)?;
        let scan = entry::scan(&contents, &self.layout, &self.up_case);
        if let Some((first, len, _)) = scan.up_case {
            let count = self.layout.clusters_for(len);
            walk.claim(&Extents::follow(&mut self.cache, &self.layout, first, count)?);
        }
        Ok(())
    }

    fn repair_directory(&mut self, walk: &mut Walk, branch: &Branch) -> Result<()> {
        let place = &branch.place;
        let slots = short(place.len(&self.layout) / 32);
        let contents = place.read(&mut self.cache, &self.layout, 0, slots)?;
        let scan = entry::scan(&contents, &self.layout, &self.up_case);
        for slot in &scan.garbage {
            walk.repair.garbage += 1;
            place.erase(&mut self.cache, &self.layout, Phase::Remove, *slot..slot + 1)?;
        }
        self.repair_dots(branch, &contents, scan.dots)?;
        self.repair_end(place, &contents, scan.end)?;
        let mut names = HashSet::new();
        let mut shorts = HashSet::new();
        for entry in scan.entries {
            let key =
                if self.layout.is_exfat() { self.up_case.key(&entry.name) } else { entry.name[..].into() };
            let is_double = !names.insert(key) || !self.layout.is_exfat() && !shorts.insert(entry.short);
            if is_double {
                walk.repair.note(|| format!("{}: a second entry of that name", text(&entry.name)));
                self.drop_entry(walk, place, entry.slot, entry.slots)?;
            } else {
                self.repair_entry(walk, branch, &entry)?;
            }
        }
        Ok(())
    }

    /// `.` and `..` of a FAT directory, which name its first cluster and its parent's.
    fn repair_dots(&mut self, branch: &Branch, contents: &[u8], found: [Option<u32>; 2]) -> Result<()> {
        let Some(meta) = branch.meta.filter(|_| !self.layout.is_exfat()) else { return Ok(()) };
        let slot = |number: usize| contents.get(number * SLOT..(number + 1) * SLOT).unwrap_or_default();
        let is_free = |number: usize| matches!(slot(number).first(), None | Some(0 | 0xe5));
        let is_there = found == [Some(0), Some(1)];
        // Elsewhere, or in place of entries that mean something, they are nobody's to make.
        if !(is_there || is_free(0) && is_free(1)) {
            return Ok(());
        }
        let dots = entry::dots(branch.first, branch.parent, &meta, &self.layout);
        let first_of =
            |slot: &[u8]| (slot.get(20..22).map(<[u8]>::to_vec), slot.get(26..28).map(<[u8]>::to_vec));
        let is_right = is_there
            && (0..2).all(|number| {
                let wanted = dots.get(number * SLOT..(number + 1) * SLOT).unwrap_or_default();
                first_of(slot(number)).1 == first_of(wanted).1
                    && (self.layout.width != Width::Bits32 || first_of(slot(number)).0 == first_of(wanted).0)
            });
        if is_right {
            return Ok(());
        }
        branch.place.write(&mut self.cache, &self.layout, Phase::Add, 0, &dots)
    }

    /// After the end of a directory nothing follows.
    fn repair_end(&mut self, place: &Place, contents: &[u8], end: u32) -> Result<()> {
        let rest = contents.get(index(end).saturating_mul(SLOT)..).unwrap_or_default();
        for (slot, raw) in (end..).zip(rest.chunks_exact(SLOT)) {
            if raw.first() != Some(&0) {
                place.write(&mut self.cache, &self.layout, Phase::Add, slot, &[0; SLOT])?;
            }
        }
        Ok(())
    }

    fn drop_entry(&mut self, walk: &mut Walk, place: &Place, slot: u32, slots: u32) -> Result<()> {
        walk.repair.dropped += 1;
        place.erase(&mut self.cache, &self.layout, Phase::Remove, slot..slot + slots)
    }

    /// How many clusters an entry's file should have; of FAT directories as many as there are.
    fn wanted(&self, meta: &Meta) -> u64 {
        match meta.kind() {
            Kind::Directory if !self.layout.is_exfat() => {
                self.layout.clusters_for(self.layout.largest_directory())
            }
            Kind::Directory => self.layout.clusters_for(meta.size.min(self.layout.largest_directory())),
            _ => self.layout.clusters_for(meta.size.min(self.layout.largest_file())),
        }
    }

    fn repair_entry(&mut self, walk: &mut Walk, branch: &Branch, entry: &Entry) -> Result<()> {
        let place = &branch.place;
        let mut meta = entry.meta;
        let wanted = self.wanted(&meta);
        let is_marked = meta.flags & ARCHIVE != 0;
        if let Some(owner) = walk.owners.get(&meta.first).cloned()
            && meta.first != 0
            && wanted > 0
        {
            // A rename on its way: the old name bears no mark, if one of them does.
            let new_stays = is_marked && !owner.is_marked && owner.is_file && meta.kind() == Kind::File;
            walk.repair.note(|| format!("{}: the file has another name", text(&entry.name)));
            if !new_stays {
                return self.drop_entry(walk, place, entry.slot, entry.slots);
            }
            walk.owners.remove(&meta.first);
            walk.unclaim(&owner.claimed);
            self.drop_entry(walk, &owner.place, owner.slot, owner.slots)?;
        }
        let claimed = self.claim_chain(walk, &meta, wanted)?;
        let count = u64::from(claimed.count());
        if meta.kind() == Kind::Directory && count == 0 && !(self.layout.is_exfat() && meta.size == 0) {
            walk.repair.note(|| format!("{}: a directory that is nowhere", text(&entry.name)));
            return self.drop_entry(walk, place, entry.slot, entry.slots);
        }
        self.end_chain(walk, &meta, &claimed)?;
        let kept = count * u64::from(self.layout.cluster_len);
        let before = meta;
        if count == 0 {
            meta.first = 0;
            meta.contiguous = false;
        }
        let is_sized = meta.kind() == Kind::File || self.layout.is_exfat();
        if is_sized {
            meta.size = if meta.kind() == Kind::File { meta.size.min(kept) } else { kept };
            meta.valid = if meta.kind() == Kind::File { meta.valid.min(meta.size) } else { kept };
        }
        if meta != before || !entry.is_whole {
            walk.repair.cut += 1;
            walk.repair.note(|| format!("{}: cut to {} bytes", text(&entry.name), meta.size));
            let mut set = place.read(&mut self.cache, &self.layout, entry.slot, entry.slots)?;
            entry::update(&mut set, &meta, &self.layout);
            place.write(&mut self.cache, &self.layout, Phase::Add, entry.slot, &set)?;
        }
        if count > 0 {
            let owner = Owner {
                place: place.clone(),
                slot: entry.slot,
                slots: entry.slots,
                is_marked,
                is_file: meta.kind() == Kind::File,
                claimed: claimed.clone(),
            };
            walk.owners.insert(meta.first, owner);
        }
        if meta.kind() == Kind::Directory {
            let parent = if branch.meta.is_none() { 0 } else { branch.first };
            let place = Place::Clusters(claimed);
            walk.branches.push(Branch { place, parent, first: meta.first, meta: Some(meta) });
        }
        Ok(())
    }

    /// Takes the clusters of a file, up to one that is another's or none at all.
    fn claim_chain(&mut self, walk: &mut Walk, meta: &Meta, wanted: u64) -> Result<Extents> {
        let mut claimed = Extents::default();
        let mut cluster = meta.first;
        while u64::from(claimed.count()) < wanted && self.layout.has(cluster) {
            let link = if meta.contiguous {
                Link::Next(cluster.saturating_add(1))
            } else {
                table::link(&mut self.cache, &self.layout, cluster)?
            };
            if matches!(link, Link::Free | Link::Bad) || !walk.used.mark(cluster) {
                break;
            }
            claimed.push(cluster, 1);
            match link {
                Link::Next(next) => cluster = next,
                _ => break,
            }
        }
        Ok(claimed)
    }

    /// Has the table end a chain where its file ends.
    fn end_chain(&mut self, walk: &mut Walk, meta: &Meta, claimed: &Extents) -> Result<()> {
        let Some(last) = claimed.last().filter(|_| !meta.contiguous) else { return Ok(()) };
        if table::link(&mut self.cache, &self.layout, last)? != Link::End {
            walk.repair.cut += 1;
            table::set(&mut self.cache, &self.layout, Phase::Add, last, Link::End)?;
        }
        Ok(())
    }

    /// Has the volume call free what nothing uses, and used what something does.
    fn rebuild_map(&mut self, walk: Walk) -> Result<Repair> {
        let Walk { mut used, mut repair, .. } = walk;
        for cluster in 2..self.layout.clusters.saturating_add(2) {
            let (is_used, was_used) = (used.is_used(cluster), self.clusters.is_used(cluster));
            if self.layout.is_exfat() {
                if was_used && !is_used {
                    if self.is_bad(cluster)? {
                        used.mark(cluster);
                    } else {
                        repair.freed += 1;
                    }
                }
                continue;
            }
            if is_used || !was_used {
                continue;
            }
            match table::link(&mut self.cache, &self.layout, cluster)? {
                Link::Free => {}
                Link::Bad if self.is_bad(cluster)? => {}
                _ => {
                    repair.freed += 1;
                    table::set(&mut self.cache, &self.layout, Phase::Free, cluster, Link::Free)?;
                }
            }
        }
        if self.layout.is_exfat() {
            std::mem::swap(&mut used, &mut self.clusters);
            self.clusters.replaced_by_map_of(&mut used);
            self.clusters.write_map(&mut self.cache, &self.layout)?;
        }
        Ok(repair)
    }

    /// Whether the table calls a cluster bad: that is never free.
    fn is_bad(&mut self, cluster: u32) -> Result<bool> {
        let value = table::value(&mut self.cache, &self.layout, self.layout.active.unwrap_or(0), cluster)?;
        Ok(matches!(
            (self.layout.width, value),
            (Width::Exfat, 0xffff_fff7)
                | (Width::Bits12, 0xff7)
                | (Width::Bits16, 0xfff7)
                | (Width::Bits32, 0x0fff_fff7)
        ))
    }
}

impl Walk {
    fn claim(&mut self, extents: &Extents) {
        for run in extents.runs() {
            for cluster in run.cluster..run.cluster.saturating_add(run.count) {
                self.used.mark(cluster);
            }
        }
    }

    fn unclaim(&mut self, extents: &Extents) {
        for run in extents.runs() {
            for cluster in run.cluster..run.cluster.saturating_add(run.count) {
                self.used.unmark(cluster);
            }
        }
    }
}

/// Sentences kept.
const MOST_FINDINGS: usize = 100;
/// Bytes of a table compared at once.
const CHUNK: u64 = 1 << 16;
