//! ext2, ext3 and ext4 (Linux, `Documentation/filesystems/ext4`).
//!
//! A volume that was not unmounted cleanly shows as its journal has it: that is replayed in memory, or to its places where the volume is
//! written. Checksums are checked where the volume has them; what does not match its own is damage, and only the file that it belongs
//! to cannot be read.
//!
//! Operations gather in a running transaction, which goes through the journal as a whole (`running`, `log`): after a power cut the
//! volume is as after some operation, none older than the last sync. What files hold is written past the journal, before the commit
//! that makes it theirs.

mod acl;
mod alter;
mod attach;
mod attribute;
mod change;
mod checksum;
mod commit;
mod content;
mod copies;
mod directory;
mod extents;
mod features;
mod file;
mod group;
mod grow;
mod hash;
mod hashed;
mod indexing;
mod inode;
mod journal;
mod layout;
mod listing;
mod lists;
mod log;
mod make;
mod mapping;
mod medium;
mod mount;
mod names;
mod orphans;
mod reserved;
mod running;
mod space;
mod stamp;
mod store;
mod superblock;
mod taken;
mod volume;

use std::{
    collections::HashMap,
    ffi::OsStr,
    ops::Range,
    os::unix::ffi::OsStrExt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

pub use journal::Journal;
pub use make::{NewExt, Tables, Unmade};
pub use volume::{Unreadable, Unwritten};

use self::{
    content::Emptied,
    features::Features,
    inode::{INLINE, Inode, ROOT, is_nameable},
    medium::Medium,
    volume::Volume,
};
use super::{
    Attributes, Changes, Existing, Fault, FileSystem, Found, Kind, Listed, New, NodeId, Result, Rights, Seek,
    Space, Ungrown, bytes::short,
};
use crate::block::ByteDevice;

/// A mounted volume. One writer at a time, readers beside each other.
#[derive(Debug)]
pub struct ExtFileSystem {
    volume: RwLock<Volume>,
    /// What the kernel knows, by inode.
    known: Mutex<HashMap<u32, Known>>,
    overhead: AtomicU64,
    /// Held by whoever makes it larger.
    growing: Mutex<()>,
    is_closing: AtomicBool,
    read_only: bool,
    /// The same as the volume's: whoever asks it waits for nobody.
    medium: Medium,
}

/// How often somebody has a file.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    lookups: u64,
    opens: u64,
}

impl ExtFileSystem {
    /// Opens the volume on `device`, and tells what became of its journal. Nothing is written.
    ///
    /// The volume may be longer than the device where that `is_cut_short`: what lies behind the end cannot be read then.
    pub fn open(device: &Arc<ByteDevice>, is_cut_short: bool) -> Result<(Self, Journal), Unreadable> {
        let (volume, journal) = Volume::open(device, if is_cut_short { u64::MAX } else { device.size() })?;
        Ok((Self::new(volume, true)?, journal))
    }

    /// Opens it to be written. A journal is replayed first, and what was begun when the volume was left is ended. What keeps it from
    /// being written is told; it is read then.
    pub fn open_to_write(device: &Arc<ByteDevice>) -> Result<(Self, Journal, Option<Unwritten>), Unreadable> {
        let (volume, journal, unwritten) = Volume::open_to_write(device)?;
        Ok((Self::new(volume, unwritten.is_some())?, journal, unwritten))
    }

    fn new(volume: Volume, read_only: bool) -> Result<Self> {
        let root = volume.inode(ROOT)?;
        directory::check_directory(&root)?;
        let overhead = AtomicU64::new(volume.overhead());
        let medium = volume.store.medium.clone();
        Ok(Self {
            volume: RwLock::new(volume),
            known: Mutex::default(),
            overhead,
            growing: Mutex::default(),
            is_closing: AtomicBool::new(false),
            read_only,
            medium,
        })
    }

    /// The feature for which a volume cannot be read, where the first bytes of it name such a one.
    pub fn unreadable_feature(head: &[u8]) -> Option<String> {
        Features::parse(head.get(superblock::START..)?).refused()
    }

    /// Whether changes go through a journal, so that a power cut leaves nothing half done.
    pub fn has_journal(&self) -> bool {
        self.volume.read().is_ok_and(|volume| volume.has_log)
    }

    /// A thread that panicked in the midst of a change leaves nothing to go on with.
    fn reading(&self) -> Result<RwLockReadGuard<'_, Volume>> {
        self.volume.read().map_err(|_| Fault::Io)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Volume) -> Result<T>) -> Result<T> {
        if self.read_only {
            return Err(Fault::ReadOnly);
        }
        let mut volume = self.writing()?;
        if let Some(commit) = volume.begin_early()? {
            drop(volume);
            commit.write();
            volume = self.writing()?;
        }
        volume.note_end()?;
        change(&mut volume)
    }

    fn writing(&self) -> Result<RwLockWriteGuard<'_, Volume>> {
        self.volume.write().map_err(|_| Fault::Io)
    }

    /// Commits all that was done before; others go on meanwhile.
    fn commit(&self) -> Result<()> {
        let mut volume = self.writing()?;
        let wanted = volume.begun.saturating_add(volume.store.is_waiting().into());
        loop {
            let done = if let Some(commit) = volume.commit_under_way() {
                drop(volume);
                commit.wait()
            } else if volume.begun < wanted {
                let Some(commit) = volume.begin_commit()? else { return Ok(()) };
                drop(volume);
                commit.write().wait()
            } else {
                return volume.end_commit();
            };
            volume = self.writing()?;
            if done.is_err() {
                let _told_already = volume.note_end();
                return done;
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u32, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file behind a node that the kernel knows, which has it also where no name leads to it any more.
    fn inode(&self, volume: &Volume, node: NodeId) -> Result<Inode> {
        let number = number(node)?;
        match named(volume, number) {
            Err(Fault::Stale) if self.known().contains_key(&number) => volume.inode(number),
            found => found,
        }
    }

    fn file(&self, volume: &Volume, node: NodeId) -> Result<Inode> {
        let inode = self.inode(volume, node)?;
        match inode.kind()? {
            Kind::File => Ok(inode),
            Kind::Directory => Err(Fault::IsDirectory),
            _ => Err(Fault::Invalid),
        }
    }

    /// A file that somebody has from now on.
    fn found(&self, volume: &Volume, number: u32) -> Result<Found> {
        let attributes = described(&named(volume, number)?)?;
        let mut known = self.known();
        let entry = known.entry(number).or_default();
        entry.lookups = entry.lookups.saturating_add(1);
        Ok(Found { attributes, is_exact: true })
    }

    /// Somebody has a file less often. One that nothing names goes with the last of them.
    fn let_go(&self, number: u32, change: impl FnOnce(&mut Known)) {
        let mut known = self.known();
        if let Some(entry) = known.get_mut(&number) {
            change(entry);
            if entry.lookups > 0 || entry.opens > 0 {
                return;
            }
            known.remove(&number);
        }
        drop(known);
        if !self.read_only && self.reading().is_ok_and(|volume| volume.orphans.contains(&number)) {
            let _the_next_mount_frees_it = self.change(|volume| self.free_unused(volume, number));
        }
    }

    /// Gives back what a file has that nothing names and nobody has.
    fn free_unused(&self, volume: &mut Volume, number: u32) -> Result<()> {
        let is_unused = !self.known().contains_key(&number) && volume.orphans.contains(&number);
        if is_unused && volume.inode(number)?.links == 0 { volume.free_file(number) } else { Ok(()) }
    }

    fn free_gone(&self, volume: &mut Volume, gone: Option<u32>) -> Result<()> {
        gone.map_or(Ok(()), |number| self.free_unused(volume, number))
    }
}

fn number(node: NodeId) -> Result<u32> {
    if node == NodeId::ROOT { Ok(ROOT) } else { u32::try_from(node.0).map_err(|_| Fault::Stale) }
}

/// The file that a name leads to.
fn named(volume: &Volume, number: u32) -> Result<Inode> {
    if !is_nameable(&volume.superblock, number) {
        return Err(Fault::Stale);
    }
    let inode = volume.inode(number)?;
    if inode.links == 0 { Err(Fault::Stale) } else { Ok(inode) }
}

fn described(inode: &Inode) -> Result<Attributes> {
    let kind = inode.kind()?;
    let times = inode.times;
    // A file within its inode takes no block, and would count as a hole to programs that look for such.
    let is_inline = inode.has(INLINE) && kind == Kind::File;
    let own = if is_inline { inode.size.next_multiple_of(512) } else { 0 };
    Ok(Attributes {
        node: node(inode.number),
        kind,
        size: inode.size,
        allocated: inode.allocated.saturating_add(own),
        links: inode.links.into(),
        device: if matches!(kind, Kind::CharacterDevice | Kind::BlockDevice) { inode.device() } else { 0 },
        rights: Rights::Posix { mode: inode.mode & 0o7777, uid: inode.uid, gid: inode.gid },
        modified: times.modified,
        changed: times.changed,
        accessed: times.accessed,
        created: times.created,
    })
}

fn node(number: u32) -> NodeId {
    if number == ROOT { NodeId::ROOT } else { NodeId(number.into()) }
}

impl FileSystem for ExtFileSystem {
    fn name(&self) -> &'static str {
        "ext4"
    }

    fn lookup(&self, parent: NodeId, name: &OsStr) -> Result<Found> {
        let volume = self.reading()?;
        let number = volume.find(&self.inode(&volume, parent)?, name.as_bytes())?;
        self.found(&volume, number)
    }

    fn forget(&self, node: NodeId, count: u64) {
        if let Ok(number) = number(node) {
            self.let_go(number, |known| known.lookups = known.lookups.saturating_sub(count));
        }
    }

    fn attributes(&self, node: NodeId) -> Result<Attributes> {
        described(&self.inode(&*self.reading()?, node)?)
    }

    fn set_attributes(&self, node: NodeId, changes: &Changes) -> Result<Attributes> {
        self.change(|volume| {
            let inode = self.inode(volume, node)?;
            volume.set(inode.number, changes)?;
            described(&volume.inode(inode.number)?)
        })
    }

    fn open(&self, node: NodeId) -> Result<()> {
        let number = number(node)?;
        if !self.known().contains_key(&number) {
            self.inode(&*self.reading()?, node)?;
        }
        let mut known = self.known();
        let entry = known.entry(number).or_default();
        entry.opens = entry.opens.saturating_add(1);
        Ok(())
    }

    fn release(&self, node: NodeId) {
        if let Ok(number) = number(node) {
            self.let_go(number, |known| known.opens = known.opens.saturating_sub(1));
        }
    }

    fn read(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let volume = self.reading()?;
        volume.read(&self.file(&volume, node)?, offset, buf)
    }

    fn write(&self, node: NodeId, offset: u64, data: &[u8]) -> Result<()> {
        if self.read_only {
            return Err(Fault::ReadOnly);
        }
        let (number, is_written) = {
            let volume = self.reading()?;
            let inode = self.file(&volume, node)?;
            (inode.number, volume.write_over(&inode, offset, data)?)
        };
        self.change(
            |volume| {
                if is_written { volume.note_write(number) } else { volume.write(number, offset, data) }
            },
        )
    }

    fn make(&self, parent: NodeId, name: &OsStr, new: &New<'_>) -> Result<Found> {
        self.change(|volume| {
            let parent = self.inode(volume, parent)?.number;
            let number = volume.operation(|volume| volume.make(parent, name.as_bytes(), new))?;
            self.found(volume, number)
        })
    }

    fn link(&self, node: NodeId, parent: NodeId, name: &OsStr) -> Result<Found> {
        self.change(|volume| {
            let (inode, parent) = (self.inode(volume, node)?.number, self.inode(volume, parent)?.number);
            volume.operation(|volume| volume.link(inode, parent, name.as_bytes()))?;
            self.found(volume, inode)
        })
    }

    fn exchange(&self, one: (NodeId, &OsStr), other: (NodeId, &OsStr)) -> Result<()> {
        self.change(|volume| {
            let (from, to) = (self.inode(volume, one.0)?.number, self.inode(volume, other.0)?.number);
            volume.operation(|volume| volume.exchange((from, one.1.as_bytes()), (to, other.1.as_bytes())))
        })
    }

    fn remove(&self, parent: NodeId, name: &OsStr, kind: Kind) -> Result<()> {
        self.change(|volume| {
            let parent = self.inode(volume, parent)?.number;
            let gone = volume.operation(|volume| volume.unlink(parent, name.as_bytes(), kind))?;
            self.free_gone(volume, gone)
        })
    }

    fn rename(&self, from: (NodeId, &OsStr), to: (NodeId, &OsStr), replace: bool) -> Result<()> {
        self.change(|volume| {
            let (source, target) = (self.inode(volume, from.0)?.number, self.inode(volume, to.0)?.number);
            let names = ((source, from.1.as_bytes()), (target, to.1.as_bytes()));
            let gone = volume.operation(|volume| volume.rename(names.0, names.1, replace))?;
            self.free_gone(volume, gone)
        })
    }

    fn target(&self, node: NodeId) -> Result<Vec<u8>> {
        let volume = self.reading()?;
        volume.target(&self.inode(&volume, node)?)
    }

    fn extended(&self, node: NodeId, name: &OsStr) -> Result<Vec<u8>> {
        let volume = self.reading()?;
        volume.attribute(&self.inode(&volume, node)?, name.as_bytes())
    }

    fn extended_names(&self, node: NodeId) -> Result<Vec<u8>> {
        let volume = self.reading()?;
        volume.attribute_names(&self.inode(&volume, node)?)
    }

    fn set_extended(
        &self,
        node: NodeId,
        name: &OsStr,
        value: Option<&[u8]>,
        existing: Existing,
    ) -> Result<()> {
        self.change(|volume| {
            let number = self.inode(volume, node)?.number;
            volume.operation(|volume| volume.set_named(number, name.as_bytes(), value, existing))
        })
    }

    fn has_access_lists(&self) -> bool {
        true
    }

    fn tells_case(&self) -> bool {
        true
    }

    fn list(&self, parent: NodeId, cursor: u64, take: &mut dyn FnMut(&Listed<'_>) -> bool) -> Result<()> {
        let volume = self.reading()?;
        let directory = self.inode(&volume, parent)?;
        volume.list(&directory, cursor, &mut |name, inode, kind, next| {
            let known = kind.or_else(|| named(&volume, inode).ok()?.kind().ok());
            let Some(kind) = known else { return true };
            take(&Listed { name: OsStr::from_bytes(name), node: node(inode), kind, next })
        })
    }

    fn reserve(&self, node: NodeId, range: Range<u64>, grows: bool) -> Result<()> {
        self.change(|volume| {
            let inode = self.file(volume, node)?;
            volume.allocate(inode.number, &range, grows)
        })
    }

    fn clear(&self, node: NodeId, range: Range<u64>, is_kept: bool, grows: bool) -> Result<()> {
        self.change(|volume| {
            let inode = self.file(volume, node)?;
            let what = if is_kept { Emptied::Reserved } else { Emptied::Hole };
            volume.empty(inode.number, &range, what, grows)
        })
    }

    fn seek(&self, node: NodeId, offset: u64, what: Seek) -> Result<u64> {
        let volume = self.reading()?;
        volume.seek(&self.file(&volume, node)?, offset, what)
    }

    fn sync(&self) -> Result<()> {
        if self.read_only { Ok(()) } else { self.commit() }
    }

    fn is_unsynced(&self) -> bool {
        self.reading().is_ok_and(|volume| volume.store.is_changed())
    }

    fn is_whole(&self) -> bool {
        !self.volume.is_poisoned() && self.medium.check().is_ok()
    }

    fn space(&self) -> Space {
        let volume = self.volume.read().unwrap_or_else(PoisonError::into_inner);
        let superblock = &volume.superblock;
        let free = superblock.free_blocks;
        Space {
            unit: superblock.block_len,
            total: superblock.blocks.saturating_sub(self.overhead.load(Ordering::Relaxed)),
            free,
            available: free.saturating_sub(superblock.reserved_blocks),
            nodes: superblock.inodes.into(),
            free_nodes: superblock.free_inodes.into(),
            name_max: short(directory::LONGEST_NAME),
        }
    }

    fn free_space(&self, each: &mut dyn FnMut(Range<u64>) -> Result<()>) -> Result<()> {
        if self.read_only {
            return Ok(());
        }
        self.commit()?;
        // Nobody takes any meanwhile.
        self.writing()?.free_runs(each)
    }

    fn grow(&self, stop: &dyn Fn() -> bool) -> Result<(), Ungrown> {
        self.grow_to_device(stop)
    }

    fn close(&self) -> Result<()> {
        if self.read_only {
            return Ok(());
        }
        self.is_closing.store(true, Ordering::Relaxed);
        let _nobody_grows_it = self.growing();
        self.known().clear();
        self.change(|volume| {
            for number in volume.orphans.clone() {
                self.free_unused(volume, number)?;
            }
            volume.close()
        })
    }
}
