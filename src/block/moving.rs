use std::{
    fmt, io,
    ops::Range,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use super::{
    BlockDevice, BlockError, ByteDevice, CryptDevice, Geometry, byte_count,
    range_lock::{RangeGuard, RangeLocks},
};
use crate::{
    mapping::{Journaled, Mapping, Moving},
    storage::Storage,
    units::{Sector, SectorSize},
};

/// A volume whose container is re-encrypted while it is used: new up to a border, old behind it.
///
/// A request locks its bytes first and looks at the border then. Whoever moves the border over some bytes has them locked
/// exclusively, so no request sees it move over what it touches. The sector size that is shown stays the one that the
/// device was made with, whatever those of the two mappings are.
#[derive(Debug)]
pub struct MovingDevice {
    storage: Arc<dyn Storage>,
    old: ByteDevice,
    new: ByteDevice,
    locks: Arc<RangeLocks>,
    view: RwLock<View>,
    sector_size: SectorSize,
    /// Whether a sync has failed, ever. Held while one runs.
    sync: Mutex<bool>,
    /// The storage's size at the start, in bytes.
    storage_len: u64,
}

/// Which bytes are to be found where.
#[derive(Debug, Clone)]
struct View {
    border: u64,
    journal: Option<Journal>,
    /// What must not be written until the container has been opened anew: a journal may be copied over it then.
    frozen: Vec<Range<u64>>,
}

/// Bytes that are read from elsewhere.
#[derive(Debug, Clone)]
struct Journal {
    range: Range<u64>,
    /// `None` where they are lost.
    device: Option<Arc<ByteDevice>>,
}

/// Where some bytes of a request are found.
enum Side {
    Old,
    New,
    Journal(Journal),
}

impl MovingDevice {
    /// The volume on `storage`, shown with sectors of `sector_size`.
    pub fn new(storage: Arc<dyn Storage>, moving: Moving, sector_size: SectorSize) -> Self {
        let device = |mapping| ByteDevice::new(Arc::new(CryptDevice::new(Arc::clone(&storage), mapping)));
        let (old, new) = (device(moving.old), device(moving.new));
        let journal = moving.journaled.map(|Journaled { range, mapping }| Journal {
            range,
            device: mapping.map(|mapping| Arc::new(device(mapping))),
        });
        let frozen = journal.iter().map(|journal| journal.range.clone()).collect();
        let view = RwLock::new(View { border: moving.border, journal, frozen });
        let storage_len = storage.size().unwrap_or(0);
        let (locks, sync) = (Arc::default(), Mutex::new(false));
        Self { storage, old, new, locks, view, sector_size, sync, storage_len }
    }

    /// The bytes of the volume that are new.
    pub fn border(&self) -> u64 {
        self.view().border
    }

    /// Keeps writers out of `range`, bytes of the volume, until the fence is lifted. Readers are let in.
    pub fn fence(self: &Arc<Self>, range: Range<u64>) -> Fence {
        let guard = RangeGuard::acquire(Arc::clone(&self.locks), range.clone(), false);
        Fence { device: Arc::clone(self), guard, range, is_lifted: false }
    }

    /// Syncs the storage. Fails for ever once a sync has failed, be it by [`BlockDevice::flush`] or by this.
    ///
    /// The kernel tells of a lost write once, to whoever syncs first. Were it told to a program that flushes, the next sync
    /// would succeed and say nothing of what the first one covered.
    pub fn sync(&self) -> io::Result<()> {
        let mut has_failed = self.sync.lock().unwrap_or_else(PoisonError::into_inner);
        if *has_failed {
            return Err(io::Error::other("an earlier write was lost"));
        }
        self.storage.sync_data().inspect_err(|_| *has_failed = true)
    }

    fn view(&self) -> View {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change_view(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn bytes_of(&self, sectors: &Range<Sector>) -> Result<Range<u64>, BlockError> {
        let Geometry { sector_size, sectors: end, .. } = self.geometry();
        if sectors.start > sectors.end || sectors.end.0 > end {
            let count = sectors.end.0.saturating_sub(sectors.start.0);
            return Err(BlockError::OutOfRange { first: sectors.start.0, sectors: count, end });
        }
        Ok(sectors.start.0 << sector_size.shift()..sectors.end.0 << sector_size.shift())
    }

    fn bytes_of_buffer(&self, len: usize, first: Sector) -> Result<Range<u64>, BlockError> {
        let sectors =
            self.sector_size.sectors_in(byte_count(len)).ok_or(BlockError::PartialSector { len })?;
        self.bytes_of(&(first..Sector(first.0.saturating_add(sectors))))
    }

    /// Runs `write` for each part of locked bytes, unless they must not be written.
    fn write_parts(
        &self,
        range: &Range<u64>,
        mut write: impl FnMut(&ByteDevice, Range<u64>) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        if self.geometry().read_only {
            return Err(BlockError::ReadOnly);
        }
        let view = self.view();
        if view.frozen.iter().any(|frozen| overlap(frozen, range)) {
            return Err(
                io::Error::other("the re-encryption stopped within these sectors; mount again").into()
            );
        }
        for (part, side) in view.parts(range) {
            match side {
                Side::Old => write(&self.old, part)?,
                Side::New => write(&self.new, part)?,
                // Journaled bytes are frozen.
                Side::Journal(_) => return Err(BlockError::ReadOnly),
            }
        }
        Ok(())
    }
}

impl View {
    /// Splits `range` where the side changes, in order.
    fn parts(&self, range: &Range<u64>) -> Vec<(Range<u64>, Side)> {
        let journal = self.journal.as_ref().map_or(0..0, |journal| journal.range.clone());
        let mut ends = vec![self.border, journal.start, journal.end, range.end];
        ends.retain(|end| *end > range.start && *end <= range.end);
        ends.sort_unstable();
        ends.dedup();
        let mut parts = Vec::with_capacity(ends.len());
        let mut start = range.start;
        for end in ends {
            let side = match &self.journal {
                Some(journal) if journal.range.contains(&start) => Side::Journal(journal.clone()),
                _ if start < self.border => Side::New,
                _ => Side::Old,
            };
            parts.push((start..end, side));
            start = end;
        }
        parts
    }
}

impl Journal {
    fn read(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        let lost = || io::Error::other("the journal of an interrupted re-encryption is lost");
        self.device.as_ref().ok_or_else(lost)?.read_at(buf, offset - self.range.start)
    }
}

impl BlockDevice for MovingDevice {
    fn geometry(&self) -> Geometry {
        let (old, new) = (self.old.geometry(), self.new.geometry());
        Geometry {
            sector_size: self.sector_size,
            sectors: new.bytes() >> self.sector_size.shift(),
            read_only: new.read_only,
            can_discard: old.can_discard && new.can_discard,
        }
    }

    fn read(&self, buf: &mut [u8], first: Sector) -> Result<(), BlockError> {
        let range = self.bytes_of_buffer(buf.len(), first)?;
        let _held = self.locks.shared(range.clone());
        let mut rest = buf;
        for (part, side) in self.view().parts(&range) {
            let len = usize::try_from(part.end - part.start).unwrap_or(usize::MAX);
            let (data, after) = rest.split_at_mut(len);
            match side {
                Side::Old => self.old.read_at(data, part.start)?,
                Side::New => self.new.read_at(data, part.start)?,
                Side::Journal(journal) => journal.read(data, part.start)?,
            }
            rest = after;
        }
        Ok(())
    }

    fn write(&self, buf: &[u8], first: Sector) -> Result<(), BlockError> {
        let range = self.bytes_of_buffer(buf.len(), first)?;
        let _held = self.locks.exclusive(range.clone());
        let mut rest = buf;
        self.write_parts(&range, |device, part| {
            let len = usize::try_from(part.end - part.start).unwrap_or(usize::MAX);
            let (data, after) = rest.split_at(len);
            rest = after;
            device.write_at(data, part.start)
        })
    }

    fn flush(&self) -> Result<(), BlockError> {
        if self.geometry().read_only {
            return Ok(());
        }
        self.sync()?;
        // A container that was cut off under us grows again with the next write, and is not whole for all that.
        if self.storage.size()? < self.storage_len {
            let reason = "the container has been cut off";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason).into());
        }
        Ok(())
    }

    fn write_zeroes(&self, range: Range<Sector>) -> Result<(), BlockError> {
        let range = self.bytes_of(&range)?;
        let _held = self.locks.exclusive(range.clone());
        self.write_parts(&range, ByteDevice::zero_range)
    }

    fn discard(&self, range: Range<Sector>) -> Result<(), BlockError> {
        if self.geometry().can_discard {
            return self.write_zeroes(range);
        }
        if self.geometry().read_only {
            return Err(BlockError::ReadOnly);
        }
        self.bytes_of(&range).map(drop)
    }
}

/// Some bytes of a [`MovingDevice`] that its users cannot write for now.
///
/// Dropped without [`lift`](Self::lift), it leaves them so until the container is opened anew: whoever forgets to say that
/// no journal will be copied over them must be taken to mean that one will.
pub struct Fence {
    device: Arc<MovingDevice>,
    guard: RangeGuard<Arc<RangeLocks>>,
    range: Range<u64>,
    is_lifted: bool,
}

impl Fence {
    /// The bytes.
    pub const fn range(&self) -> &Range<u64> {
        &self.range
    }

    /// Runs `write`, which puts new ciphertext in the place of the old, while nobody reads there; then the border is behind
    /// these bytes. Where it fails, they are read from `journal` (which counts them from 0) from now on.
    pub fn replace(&mut self, journal: Mapping, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.guard.upgrade();
        // Before the first byte, so that even a panic leaves readers with the journal.
        self.divert(journal);
        let written = write();
        if written.is_ok() {
            self.device.change_view(|view| (view.journal, view.border) = (None, self.range.end));
        }
        self.guard.downgrade();
        written
    }

    /// Moves the border behind these bytes, which are holes: the same under either key.
    pub fn pass_holes(&mut self) {
        self.device.change_view(|view| view.border = self.range.end);
    }

    /// Has these bytes read from `journal`, which counts them from 0.
    pub fn divert(&mut self, journal: Mapping) {
        let device = CryptDevice::new(Arc::clone(&self.device.storage), journal);
        let device = Some(Arc::new(ByteDevice::new(Arc::new(device))));
        let journal = Journal { range: self.range.clone(), device };
        self.device.change_view(|view| view.journal = Some(journal));
    }

    /// Lets writers in: no journal will be copied over these bytes.
    pub fn lift(mut self) {
        self.is_lifted = true;
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        if !self.is_lifted {
            // Before the guard goes.
            self.device.change_view(|view| view.frozen.push(self.range.clone()));
        }
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fence({:?})", self.range)
    }
}

const fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}
