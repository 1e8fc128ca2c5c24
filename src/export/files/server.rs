//! What stands between the kernel's requests and the file system: it is asked so that its failure ends nobody, and what it changes
//! reaches the medium in time.

use std::{
    ffi::OsString,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fuser::{Errno, FileAttr, Generation, INodeNo, ReplyEmpty, ReplyEntry, Request};

use super::{
    attributes::{ALIAS_TTL, Owners, TTL, errno, node, shown, whoever_mounts},
    callers::Callers,
    pace::Pace,
    share::{ACCESS_LIST, DEFAULT_LIST, Share},
};
use crate::{
    block::BufferPool,
    export::{LogSink, Refusals, Uses},
    filesystem::{Attributes, Fault, FileSystem, Found, Kind, NodeId, Rights},
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
    share: Option<Share>,
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
        (owners, share): (Owners, Option<Share>),
        log: LogSink,
    ) -> Self {
        let me = whoever_mounts();
        let has_panicked = AtomicBool::new(false);
        Self { files, pace, uses, refusals, callers, owners, share, me, log, has_panicked }
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
        let mut shown = shown(attributes, self.owners, self.me);
        if self.is_shown_alike(attributes) {
            shown.perm = Share::mode(shown.perm);
            (shown.uid, shown.gid) = self.me;
        }
        shown
    }

    /// Whether those with whom it is shared see this file as if it were theirs: the top directory, through which all must, and
    /// everything where the volume's own owners and modes do not count.
    fn is_shown_alike(&self, attributes: &Attributes) -> bool {
        let is_modeless = self.owners == Owners::Me || matches!(attributes.rights, Rights::Mark { .. });
        self.share.is_some() && (is_modeless || attributes.node == NodeId::ROOT)
    }

    /// How long the kernel may trust a name. Where it is shared it asks each time, as it lets root through without a look at the list.
    pub(super) const fn names_last(&self) -> Duration {
        if self.share.is_some() { Duration::ZERO } else { TTL }
    }

    /// Whether it is shared: then the kernel must go by the access lists.
    pub(super) const fn is_shared(&self) -> bool {
        self.share.is_some()
    }

    /// Whether whoever asks may ask.
    pub(super) fn admits(&self, request: &Request) -> bool {
        self.share.as_ref().is_none_or(|share| share.admits(request.uid(), self.me.0))
    }

    /// What an extended attribute is that the share takes the place of; `None` where the volume's own one counts. The kernel asks for
    /// the lists in the name of anybody, before it decides.
    pub(super) fn shared_list(&self, node: NodeId, name: &[u8]) -> Option<Result<Vec<u8>, Errno>> {
        let share = self.share.as_ref().filter(|_| [ACCESS_LIST, DEFAULT_LIST].contains(&name))?;
        let attributes = match self.ask(|files| files.attributes(node)) {
            Ok(attributes) => attributes,
            Err(errno) => return Some(Err(errno)),
        };
        let own = shown(&attributes, self.owners, self.me);
        match (self.is_shown_alike(&attributes), name == ACCESS_LIST) {
            (true, true) => Some(Ok(share.access_list(own.perm))),
            (true, false) if attributes.node != NodeId::ROOT => Some(Err(Errno::NO_XATTR)),
            _ => None,
        }
    }

    pub(super) fn entry(&self, reply: ReplyEntry, found: Result<Found, Errno>) {
        match found {
            Ok(found) => {
                let names = if found.is_exact { self.names_last() } else { ALIAS_TTL };
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
