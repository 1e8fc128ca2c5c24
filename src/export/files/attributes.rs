use std::time::{Duration, SystemTime};

use fuser::{Errno, FileAttr, FileType, INodeNo, TimeOrNow};
use rustix::process::{getegid, geteuid};

use crate::filesystem::{Attributes, Fault, Kind, NodeId};

/// How long the kernel may trust attributes and exact names: nobody else changes them.
pub(super) const TTL: Duration = Duration::from_secs(60 * 60);

/// A name that differs by case is another name of a file that may go without the kernel's noticing.
pub(super) const ALIAS_TTL: Duration = Duration::ZERO;

/// Attributes as the kernel takes them. These file systems know no owners: whoever mounts owns all, and nobody else.
pub(super) fn shown(attributes: &Attributes) -> FileAttr {
    let mode = if attributes.read_only { 0o500 } else { 0o700 };
    FileAttr {
        ino: INodeNo(attributes.node.0),
        size: attributes.size,
        blocks: attributes.allocated.div_ceil(512),
        atime: attributes.accessed,
        mtime: attributes.modified,
        ctime: attributes.modified,
        crtime: attributes.created,
        kind: kind(attributes.kind),
        perm: mode,
        nlink: if attributes.kind == Kind::Directory { 2 } else { 1 },
        uid: geteuid().as_raw(),
        gid: getegid().as_raw(),
        rdev: 0,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

pub(super) const fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
    }
}

pub(super) const fn node(inode: INodeNo) -> NodeId {
    NodeId(inode.0)
}

pub(super) fn moment(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    }
}

/// What the kernel's own drivers answer.
pub(super) const fn errno(fault: Fault) -> Errno {
    match fault {
        Fault::NotFound => Errno::ENOENT,
        Fault::Stale => Errno::ESTALE,
        Fault::Exists => Errno::EEXIST,
        Fault::NotDirectory => Errno::ENOTDIR,
        Fault::IsDirectory => Errno::EISDIR,
        Fault::NotEmpty => Errno::ENOTEMPTY,
        Fault::NoSpace => Errno::ENOSPC,
        Fault::TooLarge => Errno::EFBIG,
        Fault::ReadOnly => Errno::EROFS,
        Fault::Invalid => Errno::EINVAL,
        Fault::NameTooLong => Errno::ENAMETOOLONG,
        Fault::PastEnd => Errno::ENXIO,
        Fault::Io | Fault::Damaged => Errno::EIO,
    }
}

const BLOCK_SIZE: u32 = 4096;
