use std::sync::{
    Arc, OnceLock, PoisonError, RwLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use fuser::{
    AccessFlags, Errno, FileAttr, FileHandle, FopenFlags, INodeNo, OpenAccMode, OpenFlags, ReplyData,
};
use rustix::fs::FallocateFlags;

use super::{
    Client, LogSink,
    attributes::{Attributes, VOLUME},
};
use crate::{
    block::{BlockError, BufferPool, ByteDevice, Geometry},
    export::Uses,
};

/// What all threads of the server share, and what [`FuseExport`](super::FuseExport) can take away from under them.
pub(super) struct Served {
    geometry: Geometry,
    /// In bytes.
    size: AtomicU64,
    device: RwLock<Option<Arc<ByteDevice>>>,
    buffers: BufferPool,
    log: LogSink,
    reading: Action,
    writing: Action,
    flushing: Action,
    /// The first failure that may have cost data: programs may have been told, or only the kernel's cache was.
    lost: OnceLock<String>,
}

impl Served {
    pub(super) fn new(device: ByteDevice, log: LogSink) -> Self {
        Self {
            geometry: device.geometry(),
            size: AtomicU64::new(device.size()),
            device: RwLock::new(Some(Arc::new(device))),
            buffers: BufferPool::new(MAX_REQUEST),
            log,
            reading: Action::new("reading"),
            writing: Action::new("writing"),
            flushing: Action::new("flushing"),
            lost: OnceLock::new(),
        }
    }

    /// The size of the block file, in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Takes the size that the device has by now.
    pub(super) fn follow_size(&self) -> Option<u64> {
        let size = self.device()?.size();
        self.size.store(size, Ordering::Release);
        Some(size)
    }

    /// Takes up now the memory that so many threads need: a server that waits for memory while the kernel waits for it to write
    /// waits for ever.
    pub(super) fn reserve(&self, threads: usize) {
        self.buffers.reserve(threads);
        if let Some(device) = self.device() {
            device.reserve(threads);
        }
    }

    /// Why not all that was written is in the container; `None` where it is.
    pub(super) fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    /// Lets go of the device and wipes the buffers; from here on every request fails.
    pub(super) fn retire(&self) {
        self.device.write().unwrap_or_else(PoisonError::into_inner).take();
        self.buffers.wipe();
    }

    /// The device, until it is retired.
    pub(super) fn device(&self) -> Option<Arc<ByteDevice>> {
        self.device.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The errno of a device's failure. The first of each action is logged; a dead medium does not flood the log.
    fn failed(&self, action: &Action, error: &BlockError) -> Errno {
        if !action.has_failed.swap(true, Ordering::Relaxed) {
            (self.log)(&format!("{} the volume failed: {error}", action.name));
        }
        if matches!(error, BlockError::Io(_) | BlockError::Protected) && action.name != self.reading.name {
            self.lost.get_or_init(|| error.to_string());
        }
        match error {
            BlockError::ReadOnly => Errno::EROFS,
            BlockError::OutOfRange { .. } | BlockError::PartialSector { .. } => Errno::EINVAL,
            BlockError::Full => Errno::ENOSPC,
            BlockError::Io(_) | BlockError::Protected => Errno::EIO,
        }
    }
}

/// What may fail, and whether it has.
struct Action {
    name: &'static str,
    has_failed: AtomicBool,
}

impl Action {
    const fn new(name: &'static str) -> Self {
        Self { name, has_failed: AtomicBool::new(false) }
    }
}

/// What a block device would answer. One value, many threads; `requests` translates for the kernel.
pub(super) struct Server {
    served: Arc<Served>,
    attributes: Attributes,
    read_only: bool,
    can_discard: bool,
    pub(super) client: Client,
    uses: Uses,
}

impl Server {
    pub(super) fn new(served: Arc<Served>, client: Client, uses: Uses) -> Self {
        let geometry = served.geometry;
        Self {
            attributes: Attributes::new(geometry.read_only),
            served,
            read_only: geometry.read_only,
            can_discard: geometry.can_discard,
            client,
            uses,
        }
    }

    /// The size of the block file, in bytes.
    pub(super) fn size(&self) -> u64 {
        self.served.size()
    }

    /// The attributes of `inode`, where there is such a one.
    pub(super) fn attributes_of(&self, inode: INodeNo) -> Option<FileAttr> {
        self.attributes.of(inode, self.size())
    }

    /// The device for a request of a program.
    fn device(&self) -> Result<Arc<ByteDevice>, Errno> {
        self.uses.note();
        self.served.device().ok_or(Errno::EIO)
    }

    /// The device for a change. Not after one was lost that a program takes for written: were a file system marked as clean
    /// afterwards, nobody would look for the damage.
    fn device_to_change(&self) -> Result<Arc<ByteDevice>, Errno> {
        let is_lost = self.client.is_cached() && self.served.lost().is_some();
        if is_lost { Err(Errno::EIO) } else { self.device() }
    }

    /// Passes what is read at `offset` to `reply`: short at the end, as a block device reads.
    pub(super) fn read_volume(&self, offset: u64, size: u32, reply: ReplyData) {
        let mut buffer = self.served.buffers.take();
        let len =
            usize::try_from(self.size().saturating_sub(offset).min(u64::from(size))).unwrap_or(usize::MAX);
        // The kernel keeps to `max_read`; a short answer instead would look like the end of the volume.
        let Some(data) = buffer.get_mut(..len) else { return reply.error(Errno::EINVAL) };
        let done = self.device().and_then(|device| {
            device.read_at(data, offset).map_err(|error| self.served.failed(&self.served.reading, &error))
        });
        match done {
            Ok(()) => reply.data(data),
            Err(errno) => reply.error(errno),
        }
    }

    /// Writes what lies before the end and says how much that was. At the end a block device is full.
    pub(super) fn write_volume(&self, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        let room = self.size().saturating_sub(offset).min(u64::from(u32::MAX));
        if room == 0 && !data.is_empty() {
            return Err(Errno::ENOSPC);
        }
        let len = usize::try_from(room).map_or(data.len(), |room| room.min(data.len()));
        let device = self.device_to_change()?;
        device
            .write_at(&data[..len], offset)
            .map_err(|error| self.served.failed(&self.served.writing, &error))?;
        u32::try_from(len).map_err(|_| Errno::EINVAL)
    }

    pub(super) fn flush_volume(&self) -> Result<(), Errno> {
        self.device()?.flush().map_err(|error| self.served.failed(&self.served.flushing, &error))
    }

    /// As a block device: nobody changes the size from here, holes are zeros.
    pub(super) fn allocate(&self, offset: u64, length: u64, mode: i32) -> Result<(), Errno> {
        let end = offset.checked_add(length).ok_or(Errno::EFBIG)?;
        if end > self.size() {
            return Err(Errno::ENOSPC);
        }
        let mode = u32::try_from(mode).ok().and_then(FallocateFlags::from_bits).ok_or(Errno::EOPNOTSUPP)?;
        let change = mode - FallocateFlags::KEEP_SIZE;
        if change.is_empty() {
            return Ok(());
        }
        // A punched range must read as zeros (fallocate(2), and loop turns REQ_OP_WRITE_ZEROES into it). Where that gives
        // no space back it is refused: the caller then skips its discard, or writes the zeros that it needs.
        let is_hole = change == FallocateFlags::PUNCH_HOLE && self.can_discard;
        if !is_hole && change != FallocateFlags::ZERO_RANGE {
            return Err(Errno::EOPNOTSUPP);
        }
        let device = self.device_to_change()?;
        device.zero_range(offset..end).map_err(|error| self.served.failed(&self.served.writing, &error))
    }

    /// What a changed attribute answers; times are accepted and forgotten, since the kernel sends them unasked.
    pub(super) fn check_setattr(
        &self,
        owner_or_mode: bool,
        size: Option<u64>,
        fh: Option<FileHandle>,
    ) -> Result<(), Errno> {
        if owner_or_mode {
            return Err(Errno::EPERM);
        }
        match size {
            // Without a handle this is what open(O_TRUNC) looks like, and block devices ignore that.
            Some(0) if fh.is_none() => Ok(()),
            Some(size) if size != self.size() => Err(Errno::EINVAL),
            _ => Ok(()),
        }
    }

    pub(super) fn open_volume(&self, flags: OpenFlags) -> Result<FopenFlags, Errno> {
        if self.read_only && flags.acc_mode() != OpenAccMode::O_RDONLY {
            return Err(Errno::EROFS);
        }
        Ok(if self.client.is_cached() {
            FopenFlags::FOPEN_KEEP_CACHE
        } else {
            FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES | FopenFlags::FOPEN_NOFLUSH
        })
    }

    pub(super) fn access_to(&self, inode: INodeNo, mask: AccessFlags) -> Result<(), Errno> {
        if mask.contains(AccessFlags::W_OK) && self.read_only {
            return Err(Errno::EROFS);
        }
        if mask.contains(AccessFlags::X_OK) && inode == VOLUME {
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    pub(super) const fn refusal(&self) -> Errno {
        if self.read_only { Errno::EROFS } else { Errno::EPERM }
    }
}

/// The largest read that the kernel asks for, in bytes: what the mount's `max_read` says.
const MAX_REQUEST: usize = 1 << 20;
