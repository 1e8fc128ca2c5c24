//! What stands between the kernel's requests and the file system: it is asked so that its failure ends nobody, and what it changes
//! reaches the medium in time.

use std::{
    ffi::OsString,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use fuser::{Errno, FileAttr, Generation, INodeNo, ReplyEmpty, ReplyEntry, Request};

use super::{
    attributes::{ALIAS_TTL, Owners, TTL, errno, node, shown, whoever_mounts},
    callers::Callers,
    pace::Pace,
};
use crate::{
    block::BufferPool,
    export::{LogSink, Refusals, Uses},
    filesystem::{Attributes, Fault, FileSystem, Found, Kind, NodeId},
    sys::fuse_mount::MAX_READ,
};

/// One value, many threads.
pub(super) struct Server {
    pub files: Arc<Served>,
    pub pace: Arc<Pace>,
    pub uses: Uses,
    pub refusals: Refusals,
    pub callers: Arc<Callers>,
    pub owners: Owners,
    /// Whoever mounts.
    me: (u32, u32),
    log: LogSink,
    has_panicked: AtomicBool,
}

/// What all threads share, and what [`FilesExport`](super::FilesExport) can take away from under them: the device below it has keys.
pub(super) struct Served {
    files: RwLock<Option<Arc<dyn FileSystem>>>,
    /// For what is read: a buffer of its own for each request would have to be zeroed before, and wiped after.
    pub buffers: BufferPool,
}

impl Served {
    pub(super) fn new(files: Arc<dyn FileSystem>) -> Self {
        let buffers = BufferPool::new(usize::try_from(MAX_READ).unwrap_or_default());
        Self { files: RwLock::new(Some(files)), buffers }
    }

    fn files(&self) -> Option<Arc<dyn FileSystem>> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From here on every request fails, and nothing is left of what was read.
    pub(super) fn retire(&self) {
        self.files.write().unwrap_or_else(PoisonError::into_inner).take();
        self.buffers.wipe();
    }
}

/// An entry of a directory, kept while its request is answered.
pub(super) struct Shown {
    pub name: OsString,
    pub node: NodeId,
    pub kind: Kind,
    pub next: u64,
}

impl Server {
    pub(super) fn new(
        (files, pace, callers): (Arc<Served>, Arc<Pace>, Arc<Callers>),
        (uses, refusals): (Uses, Refusals),
        owners: Owners,
        log: LogSink,
    ) -> Self {
        let me = whoever_mounts();
        Self { files, pace, uses, refusals, callers, owners, me, log, has_panicked: AtomicBool::new(false) }
    }

    /// Has the file system do something. A panic there ends neither the thread nor the process, which has the keys; the file
    /// system changes nothing after it.
    pub(super) fn ask<T>(&self, work: impl FnOnce(&dyn FileSystem) -> Result<T, Fault>) -> Result<T, Errno> {
        let files = self.files.files().ok_or(Errno::EIO)?;
        match catch_unwind(AssertUnwindSafe(|| work(&*files))) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(fault)) => {
                if fault == Fault::NoSpace {
                    self.refusals.note();
                }
                Err(errno(fault))
            }
            Err(_) => {
                if !self.has_panicked.swap(true, Ordering::Relaxed) {
                    (self.log)("the file system's driver failed: nothing is written any more");
                }
                Err(Errno::EIO)
            }
        }
    }

    /// The same for what changes something: it reaches the medium within a moment.
    pub(super) fn change<T>(
        &self,
        work: impl FnOnce(&dyn FileSystem) -> Result<T, Fault>,
    ) -> Result<T, Errno> {
        self.uses.note();
        let changed = self.ask(work);
        // Also where it failed on the way.
        self.pace.note();
        changed
    }

    /// The same for a change of names: the first one after a pause is on the medium when it is answered.
    pub(super) fn settle<T>(
        &self,
        work: impl FnOnce(&dyn FileSystem) -> Result<T, Fault>,
    ) -> Result<T, Errno> {
        let changed = self.change(work)?;
        self.ask(|files| self.pace.commit_if_due(files))?;
        Ok(changed)
    }

    pub(super) fn answer_settled(
        &self,
        reply: ReplyEmpty,
        work: impl FnOnce(&dyn FileSystem) -> Result<(), Fault>,
    ) {
        finish(reply, self.settle(work));
    }

    pub(super) fn answer(&self, reply: ReplyEmpty, work: impl FnOnce(&dyn FileSystem) -> Result<(), Fault>) {
        finish(reply, self.ask(work));
    }

    /// The same for what may wait for room on the container's disk.
    pub(super) fn answer_caller(
        &self,
        request: &Request,
        reply: ReplyEmpty,
        work: impl FnOnce(&dyn FileSystem) -> Result<(), Fault>,
    ) {
        if let Some((reply, done)) = self.callers.attend(request, reply, || self.ask(work)) {
            finish(reply, done);
        }
    }

    pub(super) fn release_name(&self, node: NodeId, count: u64) {
        let _nothing_to_answer = self.ask(|files| {
            files.forget(node, count);
            Ok(())
        });
    }

    pub(super) fn shown(&self, attributes: &Attributes) -> FileAttr {
        shown(attributes, self.owners, self.me)
    }

    pub(super) fn entry(&self, reply: ReplyEntry, found: Result<Found, Errno>) {
        match found {
            Ok(found) => {
                let names = if found.is_exact { TTL } else { ALIAS_TTL };
                reply.entry_with_ttls(&TTL, &names, &self.shown(&found.attributes), Generation(0));
            }
            Err(errno) => reply.error(errno),
        }
    }

    /// The entries from the request's offset on, no more than an answer holds. `.` and `..` come before those of the medium.
    pub(super) fn entries(&self, inode: INodeNo, offset: u64) -> Result<Vec<Shown>, Errno> {
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
}

pub(super) fn finish(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// Entries that are looked at for one answer.
const AT_A_TIME: usize = 128;
