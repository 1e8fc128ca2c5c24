//! Whether the pieces of a container in pieces are what they were: which to look at is told by the kernel, of the whole folder at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    io::Errno,
};

use crate::{
    mount::whereabouts::{Lost, LostPieces},
    sys::{available, writers::FolderWriters},
    volume::{Container, Pieces, Standing, piece_name},
};

/// Which pieces were lost, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loss {
    /// All that became of them in one word.
    pub lost: Lost,
    /// Which they are.
    pub pieces: LostPieces,
    /// Whether what was in one of them is gone: it lost its name while it was not open.
    pub is_gone: bool,
}

/// The pieces of one container, as far as anybody has looked.
#[derive(Debug)]
pub(super) struct FolderWatch {
    pieces: Arc<Pieces>,
    /// What comes to the folder and goes; `None` where the kernel gives this user no more of that.
    names: Option<OwnedFd>,
    writers: Option<FolderWriters>,
    /// Pieces whose names were given away or taken.
    suspects: BTreeSet<u32>,
    lost: BTreeMap<u32, Standing>,
    overwritten: BTreeSet<u32>,
    /// Where the next look at all of them begins.
    next: u32,
    /// How many are still to be looked at.
    left: u32,
}

impl FolderWatch {
    /// Begins to watch the folder of a container; `None` where it is none, and where nothing is written to it: what is missing in it may
    /// have been missing before, and nothing more can be lost.
    pub(super) fn start(container: &Container) -> Option<Self> {
        let pieces = Arc::clone(container.pieces().filter(|_| !container.is_read_only())?);
        let folder = container.folder_descriptor()?;
        // Each write asks for a little of the kernel's memory then, which must not be where that is short.
        let is_told = !available::is_limited();
        let writers = is_told.then(|| FolderWriters::watch(folder).ok()).flatten();
        let (suspects, overwritten) = (BTreeSet::new(), BTreeSet::new());
        let (names, lost) = (subscribe(folder), BTreeMap::new());
        Some(Self { pieces, names, writers, suspects, lost, overwritten, next: 0, left: 0 })
    }

    /// What becomes readable when names come and go.
    pub(super) fn names(&self) -> Option<BorrowedFd<'_>> {
        self.names.as_ref().map(AsFd::as_fd)
    }

    /// What becomes readable when somebody writes.
    pub(super) fn writers(&self) -> Option<BorrowedFd<'_>> {
        self.writers.as_ref().map(AsFd::as_fd)
    }

    /// Takes what the kernel tells, and looks at the pieces that it names, or for a while at `all`. True where there is news.
    pub(super) fn look(&mut self, all: Option<Duration>) -> bool {
        let before = self.loss();
        self.take_names();
        self.take_writes();
        if all.is_some() {
            self.pieces.hold();
            self.left = self.pieces.geometry().pieces();
        }
        self.look_at_more(all.unwrap_or(MOST));
        let mut looked = self.suspects.clone();
        looked.extend(self.lost.keys());
        if all.is_some() && self.left > 0 {
            // Those first that can still be read whatever happens.
            looked.extend(self.pieces.open_ones());
        }
        for index in looked {
            self.look_at(index);
        }
        before != self.loss()
    }

    /// What was lost.
    pub(super) fn loss(&self) -> Option<Loss> {
        let all: BTreeSet<_> = self.lost.keys().chain(&self.overwritten).copied().collect();
        let first = piece_name(*all.first()?);
        let has = |wanted: &dyn Fn(&Standing) -> bool| self.lost.values().any(wanted);
        let nameless = if has(&|standing| matches!(standing, Standing::Missing { .. })) {
            Some(Lost::Deleted)
        } else {
            has(&|standing| matches!(standing, Standing::Replaced { .. })).then_some(Lost::Replaced)
        };
        let is_overwritten =
            !self.overwritten.is_empty() || has(&|standing| matches!(standing, Standing::Cut));
        let lost = match nameless {
            Some(lost) if is_overwritten => lost.and_overwritten(),
            Some(lost) => lost,
            None => Lost::Overwritten,
        };
        let is_gone = has(&|standing| {
            matches!(standing, Standing::Missing { is_held: false } | Standing::Replaced { is_held: false })
        });
        Some(Loss { lost, pieces: LostPieces { first, count: all.len() }, is_gone })
    }

    fn take_names(&mut self) {
        let Some(names) = &self.names else { return };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(names, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let index = event.file_name().and_then(|name| self.pieces.number_of(name.to_bytes()));
                    self.suspects.extend(index);
                    if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                        self.left = self.pieces.geometry().pieces();
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    fn take_writes(&mut self) {
        let Some(writers) = &self.writers else { return };
        let (pieces, overwritten) = (&self.pieces, &mut self.overwritten);
        writers.each_written_by_others(|name| {
            overwritten.extend(name.and_then(|name| pieces.number_of(name)));
        });
    }

    /// Looks at those that are still to be looked at, for a while.
    fn look_at_more(&mut self, most: Duration) {
        let (begun, count) = (Instant::now(), self.pieces.geometry().pieces());
        while self.left > 0 && begun.elapsed() < most {
            self.left -= 1;
            let index = self.next;
            self.next = (index + 1) % count;
            if self.pieces.has_made(index) {
                self.look_at(index);
            }
        }
    }

    fn look_at(&mut self, index: u32) {
        let is_suspect = self.suspects.contains(&index);
        match self.pieces.standing(index, is_suspect) {
            Ok(Standing::Right) => {
                self.lost.remove(&index);
                self.suspects.remove(&index);
            }
            Ok(standing) => {
                self.lost.insert(index, standing);
            }
            // What cannot be asked now is asked the next time.
            Err(_) => {}
        }
    }
}

/// The events of names in a folder.
fn subscribe(folder: BorrowedFd<'_>) -> Option<OwnedFd> {
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
    let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
    let flags = WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::ONLYDIR;
    inotify::add_watch(&events, path, flags).ok()?;
    Some(events)
}

/// How long a look at all pieces takes at most.
pub(super) const MOST: Duration = Duration::from_secs(1);
