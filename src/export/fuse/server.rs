use std::{
    ffi::OsStr,
    io,
    path::Path,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::FallocateFlags;

use super::{
    CacheMode, LogSink,
    attributes::{Attributes, BLOCK_SIZE, TTL, VOLUME},
};
use crate::{
    block::{BlockError, BufferPool, ByteDevice, Geometry},
    export::VOLUME_FILE,
    sys::fuse_mount::MAX_READ,
};

/// What all threads of the server share, and what [`FuseExport`](super::FuseExport) can take away from under them.
pub(super) struct Served {
    geometry: Geometry,
    device: RwLock<Option<Arc<ByteDevice>>>,
    buffers: BufferPool,
    log: LogSink,
    logged: [AtomicBool; 3],
}

impl Served {
    pub(super) fn new(device: ByteDevice, log: LogSink) -> Self {
        Self {
            geometry: device.geometry(),
            device: RwLock::new(Some(Arc::new(device))),
            buffers: BufferPool::new(MAX_READ as usize),
            log,
            logged: Default::default(),
        }
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

    /// The errno of a device's failure. The first of each kind of action is logged, so that a dead medium does not
    /// flood the log.
    fn failed(&self, action: Action, error: &BlockError) -> Errno {
        if !self.logged[action as usize].swap(true, Ordering::Relaxed) {
            (self.log)(&format!("{} the volume failed: {error}", action.name()));
        }
        match error {
            BlockError::ReadOnly => Errno::EROFS,
            BlockError::OutOfRange { .. } | BlockError::PartialSector { .. } => Errno::EINVAL,
            BlockError::Io(_) => Errno::EIO,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Read,
    Write,
    Flush,
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::Read => "reading",
            Self::Write => "writing",
            Self::Flush => "flushing",
        }
    }
}

/// Answers the kernel's requests. One value, many threads.
pub(super) struct Server {
    served: Arc<Served>,
    attributes: Attributes,
    size: u64,
    read_only: bool,
    can_discard: bool,
    cache: CacheMode,
}

impl Server {
    pub(super) fn new(served: Arc<Served>, cache: CacheMode) -> Self {
        let geometry = served.geometry;
        let size = geometry.bytes();
        Self {
            served,
            attributes: Attributes::new(size, geometry.read_only),
            size,
            read_only: geometry.read_only,
            can_discard: geometry.can_discard,
            cache,
        }
    }

    fn device(&self) -> Result<Arc<ByteDevice>, Errno> {
        self.served.device().ok_or(Errno::EIO)
    }

    /// Passes what is read at `offset` to `reply`: short at the end, as a block device reads.
    fn read_volume(&self, offset: u64, size: u32, reply: ReplyData) {
        let mut buffer = self.served.buffers.take();
        let len =
            usize::try_from(self.size.saturating_sub(offset).min(u64::from(size))).unwrap_or(usize::MAX);
        // The kernel keeps to `max_read`; a short answer instead would look like the end of the volume.
        let Some(data) = buffer.get_mut(..len) else { return reply.error(Errno::EINVAL) };
        let done = self.device().and_then(|device| {
            device.read_at(data, offset).map_err(|error| self.served.failed(Action::Read, &error))
        });
        match done {
            Ok(()) => reply.data(data),
            Err(errno) => reply.error(errno),
        }
    }

    /// Writes what lies before the end and says how much that was. At the end a block device is full.
    fn write_volume(&self, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        let room = self.size.saturating_sub(offset).min(u64::from(u32::MAX));
        if room == 0 && !data.is_empty() {
            return Err(Errno::ENOSPC);
        }
        let len = usize::try_from(room).map_or(data.len(), |room| room.min(data.len()));
        let device = self.device()?;
        device.write_at(&data[..len], offset).map_err(|error| self.served.failed(Action::Write, &error))?;
        u32::try_from(len).map_err(|_| Errno::EINVAL)
    }

    fn flush_volume(&self) -> Result<(), Errno> {
        self.device()?.flush().map_err(|error| self.served.failed(Action::Flush, &error))
    }

    /// As a block device: the size is fixed, holes are zeros.
    fn allocate(&self, offset: u64, length: u64, mode: i32) -> Result<(), Errno> {
        let end = offset.checked_add(length).ok_or(Errno::EFBIG)?;
        if end > self.size {
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
        let device = self.device()?;
        device.zero_range(offset..end).map_err(|error| self.served.failed(Action::Write, &error))
    }

    /// What a changed attribute answers; times are accepted and forgotten, since the kernel sends them unasked.
    fn check_setattr(
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
            Some(size) if size != self.size => Err(Errno::EINVAL),
            _ => Ok(()),
        }
    }

    fn open_volume(&self, flags: OpenFlags) -> Result<FopenFlags, Errno> {
        if self.read_only && flags.acc_mode() != OpenAccMode::O_RDONLY {
            return Err(Errno::EROFS);
        }
        Ok(match self.cache {
            CacheMode::Direct => {
                FopenFlags::FOPEN_DIRECT_IO
                    | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES
                    | FopenFlags::FOPEN_NOFLUSH
            }
            CacheMode::Writeback => FopenFlags::FOPEN_KEEP_CACHE,
        })
    }

    fn access_to(&self, inode: INodeNo, mask: AccessFlags) -> Result<(), Errno> {
        if mask.contains(AccessFlags::W_OK) && self.read_only {
            return Err(Errno::EROFS);
        }
        if mask.contains(AccessFlags::X_OK) && inode == VOLUME {
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    const fn refusal(&self) -> Errno {
        if self.read_only { Errno::EROFS } else { Errno::EPERM }
    }
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let mut wanted = vec![
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_BIG_WRITES,
            InitFlags::FUSE_MAX_PAGES,
            InitFlags::FUSE_PARALLEL_DIROPS,
        ];
        wanted.push(match self.cache {
            CacheMode::Direct => InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
            CacheMode::Writeback => InitFlags::FUSE_WRITEBACK_CACHE,
        });
        for flag in wanted {
            // An older kernel knows fewer; each of them only makes things faster.
            let _unknown_here = config.add_capabilities(flag);
        }
        config.set_max_write(MAX_READ).map_err(|most| limit(most.into()))?;
        if let Err(most) = config.set_max_readahead(MAX_READ) {
            config.set_max_readahead(most).map_err(|most| limit(most.into()))?;
        }
        config.set_max_background(MAX_BACKGROUND).map_err(|least| limit(least.into()))?;
        config.set_congestion_threshold(MAX_BACKGROUND).map_err(|least| limit(least.into()))?;
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == INodeNo::ROOT && name == VOLUME_FILE {
            reply.entry(&TTL, &self.attributes.volume, Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes.of(ino) {
            Some(attributes) => reply.attr(&TTL, attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        fh: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let owner_or_mode = mode.is_some() || uid.is_some() || gid.is_some();
        let Some(attributes) = self.attributes.of(ino) else { return reply.error(Errno::ENOENT) };
        match self.check_setattr(owner_or_mode, size, fh) {
            Ok(()) => reply.attr(&TTL, attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if ino != VOLUME {
            return reply.error(Errno::EISDIR);
        }
        match self.open_volume(flags) {
            Ok(flags) => reply.opened(FileHandle(0), flags),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.read_volume(offset, size, reply);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.write_volume(offset, data) {
            Ok(written) => reply.written(written),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        answer(reply, self.flush_volume());
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.flush_volume());
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.flush_volume());
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        answer(reply, self.allocate(offset, length, mode));
    }

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let inside = u64::try_from(offset).is_ok_and(|offset| offset < self.size);
        match (whence, i64::try_from(self.size)) {
            (libc::SEEK_DATA, _) if inside => reply.offset(offset),
            (libc::SEEK_HOLE, Ok(size)) if inside => reply.offset(size),
            (libc::SEEK_DATA | libc::SEEK_HOLE, _) => reply.error(Errno::ENXIO),
            _ => reply.error(Errno::EINVAL),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        if ino != INodeNo::ROOT {
            return reply.error(Errno::ENOTDIR);
        }
        let entries = [
            (1, INodeNo::ROOT, FileType::Directory, "."),
            (2, INodeNo::ROOT, FileType::Directory, ".."),
            (3, VOLUME, FileType::RegularFile, VOLUME_FILE),
        ];
        for (next, inode, kind, name) in entries.into_iter().filter(|entry| entry.0 > offset) {
            if reply.add(inode, next, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let blocks = self.size.div_ceil(u64::from(BLOCK_SIZE));
        reply.statfs(blocks, 0, 0, 1, 0, BLOCK_SIZE, 255, BLOCK_SIZE);
    }

    fn access(&self, _: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        answer(reply, self.access_to(ino, mask));
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(self.refusal());
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(self.refusal());
    }

    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        reply.error(self.refusal());
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(self.refusal());
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(self.refusal());
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(self.refusal());
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(self.refusal());
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(self.refusal());
    }
}

fn answer(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn limit(nearest: u64) -> io::Error {
    io::Error::other(format!("the FUSE library's limit is {nearest}"))
}

/// Requests that the kernel may have on their way in the background (read-ahead, asynchronous direct I/O).
const MAX_BACKGROUND: u16 = 64;
