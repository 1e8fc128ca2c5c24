//! File systems read and written in this process: files by inode, above plaintext bytes. Knows no key and no FUSE.
//!
//! A driver implements [`FileSystem`]; a cache brings its metadata to the medium in an order in which a power cut
//! loses nothing that was synced. Every byte of a volume is hostile: all walks end, all memory is bounded.

mod bytes;
mod cache;
mod civil;
mod ext;
mod fat;
mod iso;
mod kept;
mod ntfs;
mod udf;

use std::{ffi::OsStr, fmt, ops::Range, time::SystemTime};

pub use ext::{ExtFileSystem, Journal, NewExt, Tables, Unmade, Unreadable, Unwritten};
pub use fat::{FatFileSystem, NewFat, Repair, is_known};
pub use iso::IsoFileSystem;
pub use ntfs::NtfsFileSystem;
pub use udf::UdfFileSystem;

use crate::block::BlockError;

/// A file system, by inode. Shared between threads. One that is only read leaves out what changes it.
pub trait FileSystem: fmt::Debug + Send + Sync {
    /// Its name, for messages.
    fn name(&self) -> &'static str;

    /// Finds `name` in a directory, and counts one reference to what it found, until [`forget`](Self::forget).
    fn lookup(&self, parent: NodeId, name: &OsStr) -> Result<Found>;

    /// Takes back `count` references.
    fn forget(&self, node: NodeId, count: u64);

    /// What is known of a file.
    fn attributes(&self, node: NodeId) -> Result<Attributes>;

    /// Changes some of it.
    fn set_attributes(&self, _node: NodeId, _changes: &Changes) -> Result<Attributes> {
        Err(Fault::ReadOnly)
    }

    /// Keeps a file's content until [`release`](Self::release), also where its name is removed.
    fn open(&self, node: NodeId) -> Result<()>;

    /// The end of an [`open`](Self::open).
    fn release(&self, node: NodeId);

    /// Reads from `offset` on. Fewer bytes than asked for only at the end of the file; all that are counted are written to `buf`, which
    /// may hold what somebody else read.
    fn read(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize>;

    /// Writes all of `data`, or fails; what lies between the end of the file and `offset` reads as zeros.
    fn write(&self, _node: NodeId, _offset: u64, _data: &[u8]) -> Result<()> {
        Err(Fault::ReadOnly)
    }

    /// Makes a file, and counts one reference to it.
    fn make(&self, _parent: NodeId, _name: &OsStr, _new: &New<'_>) -> Result<Found> {
        Err(Fault::ReadOnly)
    }

    /// Gives a file one more name, and counts one reference to it.
    fn link(&self, _node: NodeId, _parent: NodeId, _name: &OsStr) -> Result<Found> {
        Err(Fault::NotPermitted)
    }

    /// Has two names lead to each other's files.
    fn exchange(&self, _one: (NodeId, &OsStr), _other: (NodeId, &OsStr)) -> Result<()> {
        Err(Fault::Invalid)
    }

    /// Removes a name: of a directory where `kind` says so, which must be empty, else of a file.
    fn remove(&self, _parent: NodeId, _name: &OsStr, _kind: Kind) -> Result<()> {
        Err(Fault::ReadOnly)
    }

    /// Gives a file another name and place. What has that name goes where `replace` allows it.
    fn rename(&self, _from: (NodeId, &OsStr), _to: (NodeId, &OsStr), _replace: bool) -> Result<()> {
        Err(Fault::ReadOnly)
    }

    /// Where a symbolic link leads. Others have no such thing.
    fn target(&self, _node: NodeId) -> Result<Vec<u8>> {
        Err(Fault::Invalid)
    }

    /// The value of an extended attribute, by its whole name (`user.comment`), as the system's calls give it.
    fn extended(&self, _node: NodeId, _name: &OsStr) -> Result<Vec<u8>> {
        Err(Fault::Absent)
    }

    /// The names of all of them, each with a zero behind it.
    fn extended_names(&self, _node: NodeId) -> Result<Vec<u8>> {
        Err(Fault::Absent)
    }

    /// Sets an extended attribute, or takes it away where there is no value.
    fn set_extended(&self, _: NodeId, _name: &OsStr, _value: Option<&[u8]>, _: Existing) -> Result<()> {
        Err(Fault::Absent)
    }

    /// Whether files may have access control lists, which the kernel is to check.
    fn has_access_lists(&self) -> bool {
        false
    }

    /// Whether names that differ by case only are different ones, so that a name that is not there stays so until it is made.
    fn tells_case(&self) -> bool {
        false
    }

    /// Shows the entries of a directory from `cursor` on (0 is the first), until `take` answers false.
    fn list(&self, node: NodeId, cursor: u64, take: &mut dyn FnMut(&Listed<'_>) -> bool) -> Result<()>;

    /// Sees to it that writes to a range will find space; the file becomes longer only where it `grows`.
    fn reserve(&self, _node: NodeId, _range: Range<u64>, _grows: bool) -> Result<()> {
        Err(Fault::ReadOnly)
    }

    /// Has a range of a file read as zeros: as a hole, or with blocks that are kept for it. The file becomes longer only where it
    /// `grows`.
    fn clear(&self, _node: NodeId, _range: Range<u64>, _is_kept: bool, _grows: bool) -> Result<()> {
        Err(Fault::Unsupported)
    }

    /// Where data or a hole begins at or after `offset`.
    fn seek(&self, node: NodeId, offset: u64, what: Seek) -> Result<u64>;

    /// Returns once all that was done before survives a power cut.
    fn sync(&self) -> Result<()> {
        Ok(())
    }

    /// Whether anything waits for a [`sync`](Self::sync).
    fn is_unsynced(&self) -> bool {
        false
    }

    /// Whether nothing was lost of what programs were told is done. What they were told has failed is no loss.
    fn is_whole(&self) -> bool {
        true
    }

    /// How much room there is.
    fn space(&self) -> Space;

    /// Calls `each` with every run of the volume's bytes that holds nothing, also after a power cut. Nothing is put there meanwhile.
    /// Those that are never written tell of none.
    fn free_space(&self, _each: &mut dyn FnMut(Range<u64>) -> Result<()>) -> Result<()> {
        Ok(())
    }

    /// Makes the volume as large as its device, while it is used. `stop` is asked now and then whether that is not wanted any more.
    /// Where it was stopped, by whatever, the volume is whole, and the same ends it.
    ///
    /// # Errors
    /// `Unfit` where it can be made larger only in another way; `Interrupted`; what reading and writing gave.
    fn grow(&self, _stop: &dyn Fn() -> bool) -> Result<(), Ungrown> {
        Err(Fault::Unsupported.into())
    }

    /// Syncs, and notes on the volume that it was left clean. Nothing can be changed afterwards.
    fn close(&self) -> Result<()> {
        Ok(())
    }
}

/// A file's number while the file system is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root directory.
    pub const ROOT: Self = Self(1);
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
}

/// Who may do what with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// No owners: there is a mark against writing at most.
    Mark {
        /// Whether it is set.
        read_only: bool,
    },
    /// As POSIX has it.
    Posix {
        /// The twelve bits that `chmod` sets.
        mode: u16,
        /// The owner.
        uid: u32,
        /// The group.
        gid: u32,
    },
}

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Its number.
    pub node: NodeId,
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Bytes on the medium.
    pub allocated: u64,
    /// Names that it has.
    pub links: u32,
    /// For a device, its number as the kernel's `new_encode_dev` packs it.
    pub device: u32,
    /// Who may do what with it.
    pub rights: Rights,
    /// Last change of the content.
    pub modified: SystemTime,
    /// Last change of anything.
    pub changed: SystemTime,
    /// Last reading.
    pub accessed: SystemTime,
    /// Creation.
    pub created: SystemTime,
}

/// What a lookup found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub attributes: Attributes,
    /// Whether it has exactly this name: not one that differs by case.
    pub is_exact: bool,
}

/// A file that is to be made.
#[derive(Debug, Clone, Copy)]
pub struct New<'a> {
    /// What it is.
    pub kind: Kind,
    /// The twelve bits that `chmod` sets.
    pub mode: u16,
    /// Those of them that go where the directory does not say otherwise.
    pub umask: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Of a device, its number as the kernel's `new_encode_dev` packs it.
    pub device: u32,
    /// Of a link, where it leads.
    pub target: &'a [u8],
}

impl New<'_> {
    /// An empty one of root's, with the usual mode.
    pub const fn empty(kind: Kind) -> Self {
        let mode = if matches!(kind, Kind::Directory) { 0o755 } else { 0o644 };
        Self { kind, mode, umask: 0, uid: 0, gid: 0, device: 0, target: &[] }
    }
}

/// Which extended attribute may be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// One of this name, or none.
    Any,
    /// One must be.
    Needed,
    /// None must be.
    Refused,
}

/// What shall change.
#[derive(Debug, Clone, Copy, Default)]
pub struct Changes {
    /// Cut off or extended by zeros to so many bytes.
    pub size: Option<u64>,
    /// The mark against writing.
    pub read_only: Option<bool>,
    /// The twelve bits that `chmod` sets.
    pub mode: Option<u16>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// Last change of the content.
    pub modified: Option<SystemTime>,
    /// Last change of anything.
    pub changed: Option<SystemTime>,
    /// Last reading.
    pub accessed: Option<SystemTime>,
    /// Creation.
    pub created: Option<SystemTime>,
}

/// An entry of a directory.
#[derive(Debug)]
pub struct Listed<'a> {
    /// The name.
    pub name: &'a OsStr,
    /// The file.
    pub node: NodeId,
    /// What it is.
    pub kind: Kind,
    /// Where to go on behind it.
    pub next: u64,
}

/// What to look for in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// Data.
    Data,
    /// A hole, as which the end of the file counts.
    Hole,
}

/// The room in a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// The unit of allocation, in bytes.
    pub unit: u32,
    /// How many there are.
    pub total: u64,
    /// How many are free.
    pub free: u64,
    /// How many of those anybody may take.
    pub available: u64,
    /// How many files there can be; 0 where space is the only limit.
    pub nodes: u64,
    /// How many more.
    pub free_nodes: u64,
    /// The longest name, in its own units.
    pub name_max: u32,
}

/// Why a volume did not become as large as its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ungrown {
    /// Somebody said that it is not wanted any more.
    #[error("interrupted")]
    Interrupted,
    /// It is made in a way that does not let it; nothing was changed.
    #[error("{0}")]
    Unfit(&'static str),
    /// It is damaged, or could not be read or written.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// `std::result::Result` with [`Fault`].
pub type Result<T, E = Fault> = std::result::Result<T, E>;

/// Why a request is refused or fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No such name.
    #[error("no such file")]
    NotFound,
    /// No such inode.
    #[error("the file has gone")]
    Stale,
    /// The name is taken.
    #[error("the name is taken")]
    Exists,
    /// A file where a directory is wanted.
    #[error("not a directory")]
    NotDirectory,
    /// A directory where a file is wanted.
    #[error("a directory")]
    IsDirectory,
    /// A directory with entries.
    #[error("the directory is not empty")]
    NotEmpty,
    /// The volume, or a directory of limited size, is full.
    #[error("no space left")]
    NoSpace,
    /// Larger than this file system's files can be.
    #[error("the file would be too large")]
    TooLarge,
    /// Nothing may be changed.
    #[error("the volume is read-only")]
    ReadOnly,
    /// A name that this file system cannot hold, or a request without sense.
    #[error("not possible here")]
    Invalid,
    /// Too long a name.
    #[error("the name is too long")]
    NameTooLong,
    /// A file that has as many names as it can.
    #[error("the file has too many names")]
    TooManyLinks,
    /// Something that nobody may do here.
    #[error("not permitted here")]
    NotPermitted,
    /// Something that no file of this file system has, so that nobody need ask again.
    #[error("this file system has no such thing")]
    Absent,
    /// Something that this file system does not take.
    #[error("not supported here")]
    Unsupported,
    /// No such extended attribute.
    #[error("no such attribute")]
    NoAttribute,
    /// Past the end, for [`FileSystem::seek`].
    #[error("past the end of the file")]
    PastEnd,
    /// The medium failed.
    #[error("the volume could not be read or written")]
    Io,
    /// What is on the medium makes no sense.
    #[error("the file system is damaged")]
    Damaged,
}

impl From<BlockError> for Fault {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::ReadOnly => Self::ReadOnly,
            error if error.is_full() => Self::NoSpace,
            BlockError::OutOfRange { .. } => Self::Damaged,
            _ => Self::Io,
        }
    }
}
