use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{Errno, FileAttr, FileType, INodeNo, Request, TimeOrNow};
use rustix::process::{getegid, geteuid};
use serde::{Deserialize, Serialize};

use crate::filesystem::{Attributes, Changes, Fault, Kind, New, NodeId, Rights};

/// How long the kernel may trust attributes and exact names: nobody else changes them.
pub(super) const TTL: Duration = Duration::from_secs(60 * 60);

/// A name that differs by case is another name of a file that may go without the kernel's noticing.
pub(super) const ALIAS_TTL: Duration = Duration::ZERO;

/// What a name stands for that does not exist: no inode.
pub(super) const NOTHING: FileAttr = FileAttr {
    ino: INodeNo(0),
    size: 0,
    blocks: 0,
    atime: UNIX_EPOCH,
    mtime: UNIX_EPOCH,
    ctime: UNIX_EPOCH,
    crtime: UNIX_EPOCH,
    kind: FileType::RegularFile,
    perm: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    rdev: 0,
    blksize: BLOCK_SIZE,
    flags: 0,
};

/// Whose the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owners {
    /// Those that the file system names.
    Real,
    /// Whoever mounts owns all, whatever it names.
    Me,
}

/// Whoever mounts: user and group.
pub(super) fn whoever_mounts() -> (u32, u32) {
    (geteuid().as_raw(), getegid().as_raw())
}

/// Attributes as the kernel takes them. Where there are no owners, `me` owns all, and nobody else may do anything.
pub(super) fn shown(attributes: &Attributes, owners: Owners, me: (u32, u32)) -> FileAttr {
    let (mode, (uid, gid)) = match (attributes.rights, owners) {
        (Rights::Mark { read_only: true }, _) => (0o500, me),
        (Rights::Mark { read_only: false }, _) => (0o700, me),
        (Rights::Posix { mode, .. }, Owners::Me) => (mode, me),
        (Rights::Posix { mode, uid, gid }, Owners::Real) => (mode, (uid, gid)),
    };
    FileAttr {
        ino: INodeNo(attributes.node.0),
        size: attributes.size,
        blocks: attributes.allocated.div_ceil(512),
        atime: attributes.accessed,
        mtime: attributes.modified,
        ctime: attributes.changed,
        crtime: attributes.created,
        kind: kind(attributes.kind),
        perm: mode,
        nlink: attributes.links,
        uid,
        gid,
        rdev: attributes.device,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// Modes and owners that a request wants for a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

impl Wanted {
    /// Puts them among other changes, as far as the file's owners go. Nobody gives away what is shown as theirs.
    pub(super) fn put(self, changes: &mut Changes, rights: Rights, owners: Owners) -> Result<(), Errno> {
        let Self { mode, uid, gid } = self;
        if matches!((rights, owners), (Rights::Posix { .. }, Owners::Real)) {
            (changes.uid, changes.gid) = (uid, gid);
        } else if uid.is_some_and(|uid| uid != geteuid().as_raw())
            || gid.is_some_and(|gid| gid != getegid().as_raw())
        {
            return Err(Errno::EPERM);
        }
        match rights {
            // There is a mark against writing, and no more.
            Rights::Mark { .. } => changes.read_only = mode.map(|mode| mode & 0o200 == 0),
            Rights::Posix { .. } => changes.mode = mode.map(permissions),
        }
        Ok(())
    }
}

/// The twelve bits that `chmod` sets.
fn permissions(mode: u32) -> u16 {
    u16::try_from(mode & 0o7777).unwrap_or_default()
}

/// A file that is to be made, of whoever asks for it.
pub(super) fn new_file<'a>(request: &Request, kind: Kind, (mode, umask): (u32, u32)) -> New<'a> {
    let (uid, gid) = (request.uid(), request.gid());
    New { kind, mode: permissions(mode), umask: permissions(umask), uid, gid, device: 0, target: &[] }
}

/// What a mode says that a file is to be.
pub(super) const fn kind_of(mode: u32) -> Option<Kind> {
    Some(match mode & libc::S_IFMT {
        libc::S_IFREG => Kind::File,
        libc::S_IFIFO => Kind::Pipe,
        libc::S_IFSOCK => Kind::Socket,
        libc::S_IFCHR => Kind::CharacterDevice,
        libc::S_IFBLK => Kind::BlockDevice,
        _ => return None,
    })
}

pub(super) const fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Link => FileType::Symlink,
        Kind::Pipe => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharacterDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

pub(super) const fn node(inode: INodeNo) -> NodeId {
    NodeId(inode.0)
}

/// The time that the kernel asks for. Before 1970 it adds a fraction to whole seconds, which `fuser` 0.18 takes off.
pub(super) fn moment(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => match time.duration_since(UNIX_EPOCH) {
            Ok(_) => time,
            Err(before) => {
                let fraction = Duration::from_nanos(before.duration().subsec_nanos().into());
                time.checked_add(fraction * 2).unwrap_or(time)
            }
        },
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
        Fault::TooManyLinks => Errno::EMLINK,
        Fault::NotPermitted => Errno::EPERM,
        Fault::Absent => Errno::ENOSYS,
        Fault::Unsupported => Errno::EOPNOTSUPP,
        Fault::NoAttribute => Errno::NO_XATTR,
        Fault::PastEnd => Errno::ENXIO,
        Fault::Io | Fault::Damaged => Errno::EIO,
    }
}

const BLOCK_SIZE: u32 = 4096;
