//! The kernel's requests, each handed to the file system.

use std::{ffi::OsStr, io, os::unix::ffi::OsStrExt, path::Path, time::SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::{
    attributes::{NOTHING, TTL, Wanted, kind, kind_of, moment, new_file, node},
    server::{Server, finish},
};
use crate::{
    export::negotiate::negotiate,
    filesystem::{Changes, Existing, Fault, Kind, New, NodeId, Rights, Seek, Space},
};

/// Whether whoever asks may write to a file that may have a mark against that. The kernel looks where there are modes.
fn check_mark(request: &Request, rights: Rights) -> Result<(), Errno> {
    let is_marked = rights == (Rights::Mark { read_only: true });
    if is_marked && request.uid() != 0 { Err(Errno::EACCES) } else { Ok(()) }
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
        // No writeback cache: the kernel would take what the volume has no room for, and tell of it when nobody listens any more.
        // Where a link leads does not change.
        let wanted = [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_CACHE_SYMLINKS,
        ];
        negotiate(config, &wanted)?;
        if self.is_shared() && config.add_capabilities(InitFlags::FUSE_POSIX_ACL).is_err() {
            // By modes alone it would let in the group of whoever mounts.
            return Err(io::Error::other(
                "this kernel's FUSE knows no access lists, so nothing can be shared",
            ));
        }
        if self.ask(|files| Ok(files.has_access_lists())).unwrap_or_default() {
            // A default list of the directory stands in the place of the umask, which only the file system can tell.
            let _unknown_here = config.add_capabilities(InitFlags::FUSE_POSIX_ACL);
            let _unknown_here = config.add_capabilities(InitFlags::FUSE_DONT_MASK);
        }
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, wanted: &OsStr, reply: ReplyEntry) {
        if !self.admits(request) {
            return reply.error(Errno::EACCES);
        }
        let found = self.ask(|files| match files.lookup(node(parent), wanted) {
            // Only the kernel makes names, so it may remember that there is none.
            Err(Fault::NotFound) if files.tells_case() => Ok(None),
            found => found.map(Some),
        });
        match found {
            Ok(None) => reply.entry(&TTL, &NOTHING, Generation(0)),
            Ok(Some(found)) => self.entry(reply, Ok(found)),
            Err(errno) => self.entry(reply, Err(errno)),
        }
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        self.release_name(node(ino), count);
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        if !self.admits(request) {
            return reply.error(Errno::EACCES);
        }
        match self.ask(|files| files.attributes(node(ino))) {
            Ok(attributes) => reply.attr(&TTL, &self.shown(&attributes)),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        last_change: Option<SystemTime>,
        opened: Option<FileHandle>,
        created: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if !self.admits(request) {
            return reply.error(Errno::EACCES);
        }
        let (accessed, modified) = (accessed.map(moment), modified.map(moment));
        let mut changes =
            Changes { size, modified, changed: last_change, accessed, created, ..Changes::default() };
        let rights = self.ask(|files| files.attributes(node(ino))).map(|attributes| attributes.rights);
        let is_cut_by_name = size.is_some() && opened.is_none();
        let done =
            rights
                .and_then(|rights| {
                    if is_cut_by_name { check_mark(request, rights).map(|()| rights) } else { Ok(rights) }
                })
                .and_then(|rights| Wanted { mode, uid, gid }.put(&mut changes, rights, self.owners))
                .and_then(|()| self.change(|files| files.set_attributes(node(ino), &changes)));
        match done {
            Ok(attributes) => reply.attr(&TTL, &self.shown(&attributes)),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        if !self.admits(request) {
            return reply.error(Errno::EACCES);
        }
        let Some(kind) = kind_of(mode) else { return reply.error(Errno::EINVAL) };
        let new = New { device, ..new_file(request, kind, (mode, umask)) };
        self.entry(reply, self.settle(|files| files.make(node(parent), name, &new)));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        if !self.admits(request) {
            return reply.error(Errno::EACCES);
        }
        let new = new_file(request, Kind::Directory, (mode, umask));
        self.entry(reply, self.settle(|files| files.make(node(parent), name, &new)));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        if !self.admits(request) {
            return reply.error(Errno::EACCES);
        }
        let new = new_file(request, Kind::File, (mode, umask));
        let opened = self.change(|files| {
            let found = files.make(node(parent), name, &new)?;
            files.open(found.attributes.node)?;
            Ok(found.attributes)
        });
        match opened {
            Ok(attributes) => {
                let flags = FopenFlags::FOPEN_KEEP_CACHE;
                reply.created(
                    &self.names_last(),
                    &self.shown(&attributes),
                    Generation(0),
                    FOR_WRITING,
                    flags,
                );
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        if !self.admits(request) {
            return reply.error(Errno::EACCES);
        }
        let target = target.as_os_str().as_bytes();
        let new = New { target, ..new_file(request, Kind::Link, (0o777, 0)) };
        self.entry(reply, self.settle(|files| files.make(node(parent), name, &new)));
    }

    fn link(&self, request: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if !self.admits(request) {
            return reply.error(Errno::EACCES);
        }
        self.entry(reply, self.settle(|files| files.link(node(ino), node(parent), name)));
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        if !self.admits(request) {
            return reply.error(Errno::EACCES);
        }
        match self.ask(|files| files.target(node(ino))) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn getxattr(&self, request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if is_for_root(name.as_bytes()) && request.uid() != 0 {
            return reply.error(Errno::NO_XATTR);
        }
        if let Some(list) = self.shared_list(node(ino), name.as_bytes()) {
            return answer_sized(reply, size, list);
        }
        let value = self.ask(|files| files.extended(node(ino), name));
        // Told once that there are none, the kernel would ask for no access list any more, and go by modes alone.
        let is_unheard = |errno: &Errno| self.is_shared() && *errno == Errno::ENOSYS;
        answer_sized(
            reply,
            size,
            value.map_err(|errno| if is_unheard(&errno) { Errno::NO_XATTR } else { errno }),
        );
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        if !self.admits(request) {
            return reply.error(Errno::EACCES);
        }
        let names = self.ask(|files| files.extended_names(node(ino)));
        let may_see = |name: &&[u8]| request.uid() == 0 || !is_for_root(name);
        let seen = names.map(|names| {
            names.split_inclusive(|byte| *byte == 0).filter(may_see).collect::<Vec<_>>().concat()
        });
        answer_sized(reply, size, seen);
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        if !self.admits(request) {
            return reply.error(Errno::EACCES);
        }
        if is_for_root(name.as_bytes()) && request.uid() != 0 {
            return reply.error(Errno::EPERM);
        }
        if self.shared_list(node(ino), name.as_bytes()).is_some() {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let existing = match flags {
            libc::XATTR_CREATE => Existing::Refused,
            libc::XATTR_REPLACE => Existing::Needed,
            _ => Existing::Any,
        };
        self.answer_settled(reply, |files| files.set_extended(node(ino), name, Some(value), existing));
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if !self.admits(request) {
            return reply.error(Errno::EACCES);
        }
        if is_for_root(name.as_bytes()) && request.uid() != 0 {
            return reply.error(Errno::EPERM);
        }
        if self.shared_list(node(ino), name.as_bytes()).is_some() {
            return reply.error(Errno::EOPNOTSUPP);
        }
        self.answer_settled(reply, |files| files.set_extended(node(ino), name, None, Existing::Needed));
    }

    fn unlink(&self, request: &Request, parent: INodeNo, gone: &OsStr, reply: ReplyEmpty) {
        if !self.admits(request) {
            return reply.error(Errno::EACCES);
        }
        self.answer_settled(reply, |files| files.remove(node(parent), gone, Kind::File));
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, gone: &OsStr, reply: ReplyEmpty) {
        if !self.admits(request) {
            return reply.error(Errno::EACCES);
        }
        self.answer_settled(reply, |files| files.remove(node(parent), gone, Kind::Directory));
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        old: &OsStr,
        to: INodeNo,
        new: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !self.admits(request) {
            return reply.error(Errno::EACCES);
        }
        let (from, to) = ((node(parent), old), (node(to), new));
        if flags == RenameFlags::RENAME_EXCHANGE {
            return self.answer_settled(reply, |files| files.exchange(from, to));
        }
        let replace = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(Errno::EINVAL);
        }
        self.answer_settled(reply, |files| files.rename(from, to, replace));
    }

    fn access(&self, request: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        if !self.admits(request) {
            return reply.error(Errno::EACCES);
        }
        let rights = self.ask(|files| files.attributes(node(ino))).map(|attributes| attributes.rights);
        finish(
            reply,
            rights.and_then(|rights| {
                if mask.contains(AccessFlags::W_OK) { check_mark(request, rights) } else { Ok(()) }
            }),
        );
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if !self.admits(request) {
            return reply.error(Errno::EACCES);
        }
        self.uses.note();
        let is_read = flags.acc_mode() == OpenAccMode::O_RDONLY;
        let may_open = if is_read {
            Ok(())
        } else {
            let rights = self.ask(|files| files.attributes(node(ino))).map(|attributes| attributes.rights);
            rights.and_then(|rights| check_mark(request, rights))
        };
        match may_open.and_then(|()| self.ask(|files| files.open(node(ino)))) {
            Ok(()) => {
                // Who only read must not hear that something else could not be written: nobody asks at the end.
                let (handle, flags) = if is_read {
                    (FOR_READING, FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH)
                } else {
                    (FOR_WRITING, FopenFlags::FOPEN_KEEP_CACHE)
                };
                reply.opened(handle, flags);
            }
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
        self.uses.note();
        let mut buffer = self.files.buffers.take();
        let len = buffer.len().min(usize::try_from(size).unwrap_or(usize::MAX));
        let buffer = buffer.get_mut(..len).unwrap_or_default();
        match self.ask(|files| files.read(node(ino), offset, buffer)) {
            Ok(count) => reply.data(buffer.get(..count).unwrap_or_default()),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.callers.attend(request, reply, || {
            self.change(|files| files.write(node(ino), offset, data))?;
            self.ask(|files| self.pace.commit_content(files))
        });
        match written {
            Some((reply, Ok(()))) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Some((reply, Err(errno))) => reply.error(errno),
            None => {}
        }
    }

    /// The kernel has passed on what the file holds: a file that is closed is whole.
    fn flush(&self, request: &Request, _: INodeNo, handle: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        if handle == FOR_READING {
            // A kernel before 5.16 asks all the same.
            return reply.ok();
        }
        self.answer_caller(request, reply, |files| self.pace.commit_if_due(files));
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

    fn fsync(&self, request: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.answer_caller(request, reply, |files| self.pace.commit(files));
    }

    fn fsyncdir(&self, request: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.answer_caller(request, reply, |files| self.pace.commit(files));
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if !self.admits(request) {
            return reply.error(Errno::EACCES);
        }
        self.uses.note();
        match self.ask(|files| files.open(node(ino))) {
            Ok(()) => reply.opened(FOR_READING, FopenFlags::FOPEN_KEEP_CACHE),
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
            if reply.add(
                attributes.ino,
                entry.next,
                &entry.name,
                &self.names_last(),
                &attributes,
                Generation(0),
            ) {
                if !is_dot {
                    self.release_name(NodeId(attributes.ino.0), 1);
                }
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, request: &Request, _: INodeNo, reply: ReplyStatfs) {
        if !self.admits(request) {
            return reply.error(Errno::EACCES);
        }
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
        let Some(end) = offset.checked_add(length) else { return reply.error(Errno::EFBIG) };
        let (file, range, grows) = (node(ino), offset..end, mode & libc::FALLOC_FL_KEEP_SIZE == 0);
        match mode & !libc::FALLOC_FL_KEEP_SIZE {
            0 => self.answer_settled(reply, |files| files.reserve(file, range, grows)),
            libc::FALLOC_FL_PUNCH_HOLE if !grows => {
                self.answer_settled(reply, |files| files.clear(file, range, false, false));
            }
            libc::FALLOC_FL_ZERO_RANGE => {
                self.answer_settled(reply, |files| files.clear(file, range, true, grows));
            }
            _ => reply.error(Errno::EOPNOTSUPP),
        }
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

/// The handles of files that are open: what is done with them is by their inodes.
const FOR_READING: FileHandle = FileHandle(0);
const FOR_WRITING: FileHandle = FileHandle(1);
