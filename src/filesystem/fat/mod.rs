//! FAT12, FAT16, FAT32 and exFAT, which are one thing: clusters, chained by a table or by following each other, and directories
//! of 32-byte slots.
//!
//! What was synced survives a power cut, and no cluster comes to be in two files. There is no journal; the order does it (see
//! [`Phase`](super::cache::Phase)): space is taken, then names come, then names go, then space is given back; and neither clusters
//! nor slots that were given back are taken again before the medium knows. Between these steps the volume is marked as in use,
//! and [`repair`] brings it to one of the states between which it was.

mod change;
mod clock;
mod directory;
mod entry;
mod file;
mod layout;
mod make;
mod names;
mod repair;
mod space;
mod table;
mod volume;

use std::{
    ffi::OsStr,
    ops::Range,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
};

pub use make::NewFat;
pub use repair::Repair;

use self::{
    entry::READ_ONLY,
    layout::{Layout, Width},
    volume::Volume,
};
use super::{
    Attributes, Changes, Fault, FileSystem, Found, Kind, Listed, New, NodeId, Result, Seek, Space,
    bytes::short,
};
use crate::block::ByteDevice;

/// Whether the first sector of a volume is one of these.
pub fn is_known(boot: &[u8], volume_len: u64) -> bool {
    Layout::parse(boot, volume_len).is_ok()
}

/// A mounted volume. One writer at a time, readers beside each other.
#[derive(Debug)]
pub struct FatFileSystem {
    volume: RwLock<Volume>,
    name: &'static str,
    largest_file: u64,
    /// The volume's: whoever asks for it waits for nobody.
    has_failed: Arc<AtomicBool>,
}

impl FatFileSystem {
    /// Opens the volume on `device`. One that was not unmounted cleanly is repaired first, and how is told; where it may not be
    /// written, it is shown as it is.
    pub fn open(device: &Arc<ByteDevice>, read_only: bool) -> Result<(Self, Repair)> {
        let mut volume = Volume::open(device, read_only)?;
        let mut repair = Repair::default();
        if !read_only && !volume.is_clean()? {
            volume.take_over_mark();
            repair = volume.repair()?;
            volume.commit()?;
            volume = Volume::open(device, read_only)?;
            volume.take_over_mark();
        }
        let name = match volume.layout.width {
            Width::Bits12 => "FAT12",
            Width::Bits16 => "FAT16",
            Width::Bits32 => "FAT32",
            Width::Exfat => "exFAT",
        };
        let largest_file = volume.layout.largest_file();
        let has_failed = volume.cache.failure();
        Ok((Self { has_failed, volume: RwLock::new(volume), name, largest_file }, repair))
    }

    /// What a repair would do, without writing.
    pub fn examine(device: &Arc<ByteDevice>) -> Result<Repair> {
        Volume::open(device, true)?.repair()
    }

    /// The largest file that it can hold.
    pub const fn largest_file(&self) -> u64 {
        self.largest_file
    }

    /// A thread that panicked in the midst of a change leaves nothing to go on with.
    fn changing(&self) -> Result<RwLockWriteGuard<'_, Volume>> {
        self.volume.write().map_err(|_| Fault::Io)
    }

    fn reading(&self) -> Result<RwLockReadGuard<'_, Volume>> {
        self.volume.read().map_err(|_| Fault::Io)
    }

    /// One change, and what it lets wait.
    fn change<T>(&self, change: impl FnOnce(&mut Volume) -> Result<T>) -> Result<T> {
        let mut volume = self.changing()?;
        let done = change(&mut volume)?;
        volume.relieve()?;
        Ok(done)
    }
}

impl FileSystem for FatFileSystem {
    fn name(&self) -> &'static str {
        self.name
    }

    fn lookup(&self, parent: NodeId, name: &OsStr) -> Result<Found> {
        let name = names::wanted(text(name)?)?;
        let mut volume = self.changing()?;
        let (slot, is_exact) = volume.find(parent, &name)?;
        let id = volume.enter(parent, slot)?;
        volume.found(id, is_exact)
    }

    fn forget(&self, node: NodeId, count: u64) {
        let Ok(mut volume) = self.changing() else { return };
        volume.forget(node, count);
    }

    fn attributes(&self, node: NodeId) -> Result<Attributes> {
        self.reading()?.attributes(node)
    }

    fn set_attributes(&self, node: NodeId, changes: &Changes) -> Result<Attributes> {
        self.change(|volume| {
            volume.node(node)?;
            if let Some(size) = changes.size {
                volume.resize(node, size)?;
            }
            let Changes { read_only, modified, accessed, created, .. } = *changes;
            if read_only.is_some() || modified.is_some() || accessed.is_some() || created.is_some() {
                volume.begin()?;
                volume.change(node, |meta| {
                    match read_only {
                        Some(true) => meta.flags |= READ_ONLY,
                        Some(false) => meta.flags &= !READ_ONLY,
                        None => {}
                    }
                    meta.modified = modified.unwrap_or(meta.modified);
                    meta.accessed = accessed.unwrap_or(meta.accessed);
                    meta.created = created.unwrap_or(meta.created);
                })?;
            }
            volume.attributes(node)
        })
    }

    fn open(&self, node: NodeId) -> Result<()> {
        self.changing()?.node_mut(node)?.opens += 1;
        Ok(())
    }

    fn release(&self, node: NodeId) {
        let _the_next_repair_frees_it = self.change(|volume| {
            let known = volume.node_mut(node)?;
            known.opens = known.opens.saturating_sub(1);
            let freed = volume.free_if_closed(node);
            volume.drop_unused(node);
            freed
        });
    }

    fn read(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        if let Some(count) = self.reading()?.read(node, offset, buf)? {
            return Ok(count);
        }
        let mut volume = self.changing()?;
        volume.load_extents(node)?;
        volume.read(node, offset, buf)?.ok_or(Fault::Io)
    }

    fn write(&self, node: NodeId, offset: u64, data: &[u8]) -> Result<()> {
        let is_written = self.reading()?.write_over(node, offset, data)?;
        self.change(
            |volume| if is_written { volume.note_write(node) } else { volume.write(node, offset, data) },
        )
    }

    fn make(&self, parent: NodeId, name: &OsStr, new: &New<'_>) -> Result<Found> {
        if !matches!(new.kind, Kind::File | Kind::Directory) {
            return Err(Fault::NotPermitted);
        }
        self.change(|volume| volume.create(parent, text(name)?, new.kind))
    }

    fn remove(&self, parent: NodeId, name: &OsStr, kind: Kind) -> Result<()> {
        self.change(|volume| volume.remove(parent, text(name)?, kind))
    }

    fn rename(&self, from: (NodeId, &OsStr), to: (NodeId, &OsStr), replace: bool) -> Result<()> {
        self.change(|volume| volume.rename((from.0, text(from.1)?), (to.0, text(to.1)?), replace))
    }

    fn list(&self, node: NodeId, cursor: u64, take: &mut dyn FnMut(&Listed<'_>) -> bool) -> Result<()> {
        let start = u32::try_from(cursor).unwrap_or(u32::MAX);
        self.changing()?.directory(node)?;
        let volume = self.reading()?;
        let directory = volume.node(node)?.directory.as_ref().ok_or(Fault::Stale)?;
        for (slot, item) in directory.items.range(start..) {
            let name = names::text(&item.name);
            let listed = Listed {
                name: OsStr::new(&name),
                node: item.id,
                kind: item.meta.kind(),
                next: u64::from(*slot) + 1,
            };
            if !take(&listed) {
                break;
            }
        }
        Ok(())
    }

    fn reserve(&self, node: NodeId, range: Range<u64>, grows: bool) -> Result<()> {
        if !grows {
            // A file has no clusters behind its end.
            return Err(Fault::Unsupported);
        }
        self.change(|volume| {
            if range.end > volume.node(node)?.meta.size { volume.resize(node, range.end) } else { Ok(()) }
        })
    }

    fn seek(&self, node: NodeId, offset: u64, what: Seek) -> Result<u64> {
        let volume = self.reading()?;
        let meta = volume.node(node)?.meta;
        if offset >= meta.size {
            return Err(Fault::PastEnd);
        }
        match what {
            Seek::Data if offset < meta.valid => Ok(offset),
            Seek::Data => Err(Fault::PastEnd),
            Seek::Hole => Ok(offset.max(meta.valid)),
        }
    }

    fn sync(&self) -> Result<()> {
        self.changing()?.commit()
    }

    fn is_unsynced(&self) -> bool {
        self.reading().is_ok_and(|volume| volume.cache.is_changed())
    }

    fn is_whole(&self) -> bool {
        !self.volume.is_poisoned() && !self.has_failed.load(Ordering::Relaxed)
    }

    fn space(&self) -> Space {
        let volume = self.volume.read().unwrap_or_else(PoisonError::into_inner);
        Space {
            unit: volume.layout.cluster_len,
            total: volume.layout.clusters.into(),
            free: volume.clusters.free().into(),
            available: volume.clusters.free().into(),
            nodes: 0,
            free_nodes: 0,
            name_max: short(names::LONGEST),
        }
    }

    fn free_space(&self, each: &mut dyn FnMut(Range<u64>) -> Result<()>) -> Result<()> {
        let mut volume = self.changing()?;
        if volume.read_only {
            return Ok(());
        }
        volume.commit()?;
        let layout = &volume.layout;
        volume.clusters.free_runs(|first, end| each(layout.offset(first)..layout.offset(end)))
    }

    fn close(&self) -> Result<()> {
        let mut volume = self.changing()?;
        let nameless: Vec<NodeId> = volume.nodes.keys().copied().collect();
        for id in nameless {
            if let Ok(node) = volume.node_mut(id) {
                node.opens = 0;
            }
            if !volume.read_only {
                volume.free_if_closed(id)?;
            }
        }
        volume.close()
    }
}

/// A name that can be in UTF-16.
fn text(name: &OsStr) -> Result<&str> {
    name.to_str().ok_or(Fault::Invalid)
}
