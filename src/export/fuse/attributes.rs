use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, INodeNo};
use rustix::process::{getegid, geteuid};

/// The inode of the block file.
pub(super) const VOLUME: INodeNo = INodeNo(2);

/// How long the kernel may trust attributes and names: nothing here changes, but for a size, and that by its own hand.
pub(super) const TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// The block size told to `stat` and `statfs`; a loop device takes it as its discard grain.
pub(super) const BLOCK_SIZE: u32 = 4096;

/// The attributes of the directory and of the block file, made once.
#[derive(Debug)]
pub(super) struct Attributes {
    directory: FileAttr,
    /// Without its size.
    volume: FileAttr,
}

impl Attributes {
    /// Attributes for a block file, owned by this process's user and for its eyes only.
    pub(super) fn new(read_only: bool) -> Self {
        let now = SystemTime::now();
        let directory = FileAttr {
            ino: INodeNo::ROOT,
            size: 0,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
            crtime: now,
            kind: FileType::Directory,
            perm: if read_only { 0o500 } else { 0o700 },
            nlink: 2,
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            rdev: 0,
            blksize: BLOCK_SIZE,
            flags: 0,
        };
        let volume = FileAttr {
            ino: VOLUME,
            kind: FileType::RegularFile,
            perm: if read_only { 0o400 } else { 0o600 },
            nlink: 1,
            ..directory
        };
        Self { directory, volume }
    }

    /// The attributes of `inode`, where there is such a one; the block file has `size` bytes.
    pub(super) fn of(&self, inode: INodeNo, size: u64) -> Option<FileAttr> {
        match inode {
            INodeNo::ROOT => Some(self.directory),
            VOLUME => Some(FileAttr { size, blocks: size.div_ceil(512), ..self.volume }),
            _ => None,
        }
    }
}
