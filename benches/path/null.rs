//! A FUSE server with the settings of the product's block file (direct I/O, threads, scheduling) that answers from one constant buffer: what the
//! transport alone costs. No cipher, no container, no locks.

use std::{
    ffi::OsStr,
    io,
    path::Path,
    thread,
    time::{Duration, SystemTime},
};

use fuser::{
    Config, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite,
    Request, Session, SessionACL, WriteFlags,
};
use strongroom::sys::{
    fuse_mount::{self, Appearance, MAX_READ},
    process,
};

/// Mounts a file of `size` bytes on `directory` and serves it until somebody unmounts it.
pub(super) fn serve(directory: &Path, size: u64) {
    let descriptor = fuse_mount::mount(directory, &Appearance::block_file(false)).unwrap();
    let device = fuse_mount::device_number(directory).unwrap();
    let mut config = Config::default();
    config.n_threads = Some(thread::available_parallelism().map_or(1, usize::from).min(4));
    config.clone_fd = fuse_mount::can_clone(&descriptor);
    let server = Null { answer: vec![7; usize::try_from(MAX_READ).unwrap()], size };
    let session = Session::from_fd(server, descriptor, SessionACL::All, config).unwrap();
    fuse_mount::set_read_ahead(device, MAX_READ).ok();
    process::let_clients_run();
    session.run().unwrap();
}

struct Null {
    answer: Vec<u8>,
    size: u64,
}

impl Null {
    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let is_volume = inode == VOLUME;
        let time = SystemTime::UNIX_EPOCH;
        FileAttr {
            ino: inode,
            size: if is_volume { self.size } else { 0 },
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: if is_volume { FileType::RegularFile } else { FileType::Directory },
            perm: if is_volume { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Null {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for flag in [
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_BIG_WRITES,
            InitFlags::FUSE_MAX_PAGES,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
        ] {
            config.add_capabilities(flag).ok();
        }
        config.set_max_write(MAX_READ).unwrap();
        config.set_max_readahead(MAX_READ).ok();
        config.set_max_background(64).unwrap();
        config.set_congestion_threshold(64).unwrap();
        Ok(())
    }

    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == "volume" {
            reply.entry(&TTL, &self.attributes(VOLUME), Generation(0));
        } else {
            reply.error(fuser::Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attributes(inode));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let flags = FopenFlags::FOPEN_DIRECT_IO
            | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES
            | FopenFlags::FOPEN_NOFLUSH;
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        reply.data(&self.answer[..usize::try_from(size).unwrap()]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.written(u32::try_from(data.len()).unwrap());
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }
}

const VOLUME: INodeNo = INodeNo(2);
const TTL: Duration = Duration::from_secs(24 * 60 * 60);
