//! The kernel's requests, each handed to the file system.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::OsStrExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};
use rustix::process::{getegid, geteuid};

use super::{
    attributes::{ALIAS_TTL, Owners, TTL, errno, kind, moment, node, shown},
    pace::Pace,
};
use crate::{
    export::{LogSink, negotiate::negotiate},
    filesystem::{Attributes, Changes, Fault, FileSystem, Found, Kind, NodeId, Seek, Space},
    sys::fuse_mount::MAX_READ,
};

/// One value, many threads.
pub(super) struct Server {
    files: Arc<Served>,
    pace: Arc<Pace>,
    owners: Owners,
    log: LogSink,
    has_panicked: AtomicBool,
}

/// What all threads share, and what [`FilesExport`](super::FilesExport) can take away from under them: the device below it has keys.
pub(super) struct Served(RwLock<Option<Arc<dyn FileSystem>>>);

impl Served {
    pub(super) fn new(files: Arc<dyn FileSystem>) -> Self {
        Self(RwLock::new(Some(files)))
    }

    fn files(&self) -> Option<Arc<dyn FileSystem>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From here on every request fails.
    pub(super) fn retire(&self) -> Option<Arc<dyn FileSystem>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// An entry of a directory, kept while its request is answered.
struct Shown {
    name: OsString,
    node: NodeId,
    kind: Kind,
    next: u64,
}

impl Server {
    pub(super) fn new(files: Arc<Served>, pace: Arc<Pace>, owners: Owners, log: LogSink) -> Self {
        Self { files, pace, owners, log, has_panicked: AtomicBool::new(false) }
    }

    /// Has the file system do something. A panic there ends neither the thread nor the process, which has the keys; the file
    /// system changes nothing after it.
    fn ask<T>(&self, work: impl FnOnce(&dyn FileSystem) -> Result<T, Fault>) -> Result<T, Errno> {
        let files = self.files.files().ok_or(Errno::EIO)?;
        match catch_unwind(AssertUnwindSafe(|| work(&*files))) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(fault)) => Err(errno(fault)),
            Err(_) => {
                if !self.has_panicked.swap(true, Ordering::Relaxed) {
                    (self.log)("the file system's driver failed: nothing is written any more");
                }
                Err(Errno::EIO)
            }
        }
    }

    /// The same for what changes something: it reaches the medium within a moment.
    fn change<T>(&self, work: impl FnOnce(&dyn FileSystem) -> Result<T, Fault>) -> Result<T, Errno> {
        let changed = self.ask(work);
        // Also where it failed on the way.
        self.pace.note();
        changed
    }

    /// The same for a change of names: the first one after a pause is on the medium when it is answered.
    fn settle<T>(&self, work: impl FnOnce(&dyn FileSystem) -> Result<T, Fault>) -> Result<T, Errno> {
        let changed = self.change(work)?;
        self.ask(|files| self.pace.commit_if_due(files))?;
        Ok(changed)
    }

    fn answer_settled(&self, reply: ReplyEmpty, work: impl FnOnce(&dyn FileSystem) -> Result<(), Fault>) {
        finish(reply, self.settle(work));
    }

    fn answer(&self, reply: ReplyEmpty, work: impl FnOnce(&dyn FileSystem) -> Result<(), Fault>) {
        finish(reply, self.ask(work));
    }

    fn release_name(&self, node: NodeId, count: u64) {
        let _nothing_to_answer = self.ask(|files| {
            files.forget(node, count);
            Ok(())
        });
    }

    fn shown(&self, attributes: &Attributes) -> FileAttr {
        shown(attributes, self.owners)
    }

    fn entry(&self, reply: ReplyEntry, found: Result<Found, Errno>) {
        match found {
            Ok(found) => {
                let names = if found.is_exact { TTL } else { ALIAS_TTL };
                reply.entry_with_ttls(&TTL, &names, &self.shown(&found.attributes), Generation(0));
            }
            Err(errno) => reply.error(errno),
        }
    }

    /// The entries from the request's offset on, no more than an answer holds. `.` and `..` come before those of the medium.
    fn entries(&self, inode: INodeNo, offset: u64) -> Result<Vec<Shown>, Errno> {
        let mut entries = Vec::new();
        if offset < 2 {
            let dots = [(".", 1), ("..", 2)].into_iter().filter(|(_, next)| *next > offset);
            let (node, kind) = (node(inode), Kind::Directory);
            entries.extend(dots.map(|(name, next)| Shown { name: name.into(), node, kind, next }));
        }
        let cursor = offset.saturating_sub(2);
        self.ask(|files| {
            files.list(node(inode), cursor, &mut |listed| {
                let (name, node, kind) = (listed.name.to_owned(), listed.node, listed.kind);
                entries.push(Shown { name, node, kind, next: listed.next + 2 });
                entries.len() < AT_A_TIME
            })
        })?;
        Ok(entries)
    }

    /// What `chmod` and `chown` may ask: there is a mark against writing, and no owner.
    fn read_only(mode: Option<u32>, uid: Option<u32>, gid: Option<u32>) -> Result<Option<bool>, Errno> {
        let is_other = uid.is_some_and(|uid| uid != geteuid().as_raw())
            || gid.is_some_and(|gid| gid != getegid().as_raw());
        if is_other { Err(Errno::EPERM) } else { Ok(mode.map(|mode| mode & 0o200 == 0)) }
    }
}

fn finish(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// Whether an attribute is for the eyes of root alone (xattr(7)).
fn is_for_root(name: &[u8]) -> bool {
    name.starts_with(b"trusted.")
}

/// Answers whoever asked for a value with `size` bytes of room; none asks how long it is.
fn answer_sized(reply: ReplyXattr, size: u32, value: Result<Vec<u8>, Errno>) {
    match value.map(|value| (u32::try_from(value.len()), value)) {
        Ok((Ok(len), _)) if size == 0 => reply.size(len),
        Ok((Ok(len), value)) if len <= size => reply.data(&value),
        Ok((Ok(_), _)) => reply.error(Errno::ERANGE),
        Ok((Err(_), _)) => reply.error(Errno::E2BIG),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_WRITEBACK_CACHE,
        ];
        negotiate(config, &wanted)?;
        if self.ask(|files| Ok(files.has_access_lists())).unwrap_or_default() {
            let _unknown_here = config.add_capabilities(InitFlags::FUSE_POSIX_ACL);
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, wanted: &OsStr, reply: ReplyEntry) {
        self.entry(reply, self.ask(|files| files.lookup(node(parent), wanted)));
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        self.release_name(node(ino), count);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.ask(|files| files.attributes(node(ino))) {
            Ok(attributes) => reply.attr(&TTL, &self.shown(&attributes)),
            Err(errno) => reply.error(errno),
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
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        created: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changed = Self::read_only(mode, uid, gid).and_then(|read_only| {
            let (accessed, modified) = (accessed.map(moment), modified.map(moment));
            let changes = Changes { size, read_only, modified, accessed, created };
            self.change(|files| files.set_attributes(node(ino), &changes))
        });
        match changed {
            Ok(attributes) => reply.attr(&TTL, &self.shown(&attributes)),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(&self, _: &Request, parent: INodeNo, new: &OsStr, mode: u32, _: u32, _: u32, reply: ReplyEntry) {
        if mode & libc::S_IFMT != libc::S_IFREG {
            return reply.error(Errno::EPERM);
        }
        self.entry(reply, self.settle(|files| files.create(node(parent), new, Kind::File)));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, new: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        self.entry(reply, self.settle(|files| files.create(node(parent), new, Kind::Directory)));
    }

    fn create(&self, _: &Request, parent: INodeNo, new: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        let made = self.change(|files| {
            let found = files.create(node(parent), new, Kind::File)?;
            files.open(found.attributes.node)?;
            Ok(found.attributes)
        });
        match made {
            Ok(made) => {
                let flags = FopenFlags::FOPEN_KEEP_CACHE;
                reply.created(&TTL, &self.shown(&made), Generation(0), FileHandle(0), flags);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.ask(|files| files.target(node(ino))) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn getxattr(&self, request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if is_for_root(name.as_bytes()) && request.uid() != 0 {
            return reply.error(Errno::NO_XATTR);
        }
        answer_sized(reply, size, self.ask(|files| files.extended(node(ino), name)));
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let names = self.ask(|files| files.extended_names(node(ino)));
        let may_see = |name: &&[u8]| request.uid() == 0 || !is_for_root(name);
        let seen = names.map(|names| {
            names.split_inclusive(|byte| *byte == 0).filter(may_see).collect::<Vec<_>>().concat()
        });
        answer_sized(reply, size, seen);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, gone: &OsStr, reply: ReplyEmpty) {
        self.answer_settled(reply, |files| files.remove(node(parent), gone, Kind::File));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, gone: &OsStr, reply: ReplyEmpty) {
        self.answer_settled(reply, |files| files.remove(node(parent), gone, Kind::Directory));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        old: &OsStr,
        to: INodeNo,
        new: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let replace = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(Errno::EINVAL);
        }
        self.answer_settled(reply, |files| files.rename((node(parent), old), (node(to), new), replace));
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.ask(|files| files.open(node(ino))) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut buffer = vec![0; usize::try_from(size.min(MAX_READ)).unwrap_or_default()];
        match self.ask(|files| files.read(node(ino), offset, &mut buffer)) {
            Ok(count) => reply.data(buffer.get(..count).unwrap_or_default()),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.change(|files| files.write(node(ino), offset, data)) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(errno),
        }
    }

    /// The kernel has passed on what the file holds: a file that is closed is whole.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.answer(reply, |files| self.pace.commit_if_due(files));
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let released = self.change(|files| {
            files.release(node(ino));
            Ok(())
        });
        finish(reply, released);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.answer(reply, |files| self.pace.commit(files));
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.answer(reply, |files| self.pace.commit(files));
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.ask(|files| files.open(node(ino))) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(errno) => reply.error(errno),
        }
    }

    fn releasedir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.answer(reply, |files| {
            files.release(node(ino));
            Ok(())
        });
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let entries = match self.entries(ino, offset) {
            Ok(entries) => entries,
            Err(errno) => return reply.error(errno),
        };
        for shown in &entries {
            if reply.add(INodeNo(shown.node.0), shown.next, kind(shown.kind), &shown.name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let entries = match self.entries(ino, offset) {
            Ok(entries) => entries,
            Err(errno) => return reply.error(errno),
        };
        for entry in &entries {
            // The kernel counts a reference to each that it is told, but for the first two.
            let is_dot = entry.next <= 2;
            let found = if is_dot {
                self.ask(|files| files.attributes(entry.node))
            } else {
                self.ask(|files| files.lookup(node(ino), &entry.name)).map(|found| found.attributes)
            };
            let attributes: FileAttr = match found {
                Ok(attributes) => self.shown(&attributes),
                // Its name was removed meanwhile.
                Err(_) => continue,
            };
            if reply.add(attributes.ino, entry.next, &entry.name, &TTL, &attributes, Generation(0)) {
                if !is_dot {
                    self.release_name(NodeId(attributes.ino.0), 1);
                }
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match self.ask(|files| Ok(files.space())) {
            Ok(Space { unit, total, free, available, nodes, free_nodes, name_max }) => {
                reply.statfs(total, free, available, nodes, free_nodes, unit, name_max, unit);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode != 0 {
            // A file has neither holes nor clusters behind its end.
            return reply.error(Errno::EOPNOTSUPP);
        }
        let Some(end) = offset.checked_add(length) else { return reply.error(Errno::EFBIG) };
        self.answer_settled(reply, |files| files.allocate(node(ino), end));
    }

    fn lseek(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let what = match whence {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        match self.ask(|files| files.seek(node(ino), offset, what)) {
            Ok(found) => reply.offset(i64::try_from(found).unwrap_or(i64::MAX)),
            Err(errno) => reply.error(errno),
        }
    }
}

/// Entries that are looked at for one answer.
const AT_A_TIME: usize = 128;
