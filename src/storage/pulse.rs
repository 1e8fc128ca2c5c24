//! The pulse of the media: whether they still answer this process, and the end of all writing.
//!
//! A medium that is slow is not one that hangs: one request to a stick may take minutes, while the kernel writes what it holds. So what
//! the disks below have done counts too, and what the kernel was seen to write ([`follow_writeback`]).

use std::{
    cell::Cell,
    fs::File,
    io,
    ops::ControlFlow,
    os::unix::fs::FileExt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
    },
    time::{Duration, Instant},
};

use crate::sys::writeback::write_back;

static BEGUN: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);
static WRITTEN: AtomicU64 = AtomicU64::new(0);
static DISKS: Mutex<Vec<File>> = Mutex::new(Vec::new());
static SEALED: AtomicBool = AtomicBool::new(false);

/// How many requests to files and block devices this process has made, how many of them have come back, and how far the disks below
/// have come meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    begun: u64,
    ended: u64,
    moved: u64,
}

impl Pulse {
    /// The pulse of this moment.
    pub fn now() -> Self {
        // In this order: one that ends in between is not taken for one that waits.
        let begun = BEGUN.load(Ordering::Acquire);
        let ended = ENDED.load(Ordering::Acquire);
        Self { begun, ended, moved: WRITTEN.load(Ordering::Relaxed).wrapping_add(done_by_disks()) }
    }

    /// Whether some request waits for its answer, and none has had one since `earlier`, nor has a disk done anything.
    pub const fn has_stopped_since(self, earlier: Self) -> bool {
        !self.has_moved_since(earlier) && self.begun > self.ended
    }

    /// Whether something has come back, or a disk has done something.
    pub const fn has_moved_since(self, earlier: Self) -> bool {
        self.ended != earlier.ended || self.moved != earlier.moved
    }
}

/// Has the pulse count what these disks do. Each file is what the kernel shows of one: its `stat` in sysfs.
pub fn watch_disks(shown: Vec<File>) {
    *DISKS.lock().unwrap_or_else(PoisonError::into_inner) = shown;
}

fn done_by_disks() -> u64 {
    let disks = DISKS.lock().unwrap_or_else(PoisonError::into_inner);
    disks.iter().map(requests_done).fold(0, u64::wrapping_add)
}

/// How many requests a disk has done (`Documentation/block/stat.rst` of the kernel); none of one that is gone.
fn requests_done(shown: &File) -> u64 {
    let mut line = [0; 512];
    let len = shown.read_at(&mut line, 0).unwrap_or_default();
    let line = String::from_utf8_lossy(line.get(..len).unwrap_or_default());
    let numbers: Vec<u64> = line.split_ascii_whitespace().map_while(|number| number.parse().ok()).collect();
    let done = DONE.iter().filter_map(|index| numbers.get(*index));
    done.copied().fold(0, u64::wrapping_add)
}

/// Waits, piece by piece, for what the kernel still has to write of `files`, again and again until `go_on` breaks off: so a request
/// that waits for all of it is seen to come forward, on file systems too that are on no one disk.
pub fn follow_writeback(files: &[File], mut go_on: impl FnMut() -> ControlFlow<()>) {
    loop {
        for file in files {
            let size = file.metadata().map_or(0, |found| found.len());
            for start in (0..size).step_by(PIECE) {
                if go_on().is_break() {
                    return;
                }
                let begun = Instant::now();
                let end = start.saturating_add(PIECE_LEN);
                if write_back(file, start..end).is_err() {
                    return;
                }
                if begun.elapsed() > AT_ONCE {
                    WRITTEN.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        if go_on().is_break() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Says of something that is written below whether to go on waiting for it: until the media have stood still for `limit`.
pub fn while_moving(limit: Duration) -> impl Fn() -> bool {
    let begun = Instant::now();
    let moved = Cell::new((Pulse::now(), begun));
    move || {
        let (last, since) = moved.get();
        let now = Pulse::now();
        if now.has_moved_since(last) {
            moved.set((now, Instant::now()));
            return begun.elapsed() < MOST;
        }
        since.elapsed() < limit
    }
}

/// How long the media have stood still, for whoever looks again and again.
#[derive(Debug)]
pub struct Stillness {
    last: Pulse,
    since: Instant,
    is_told: bool,
}

impl Stillness {
    /// How long a medium takes to answer before people are told.
    pub const TOLD: Duration = Duration::from_secs(5);

    /// From this moment on.
    pub fn watch() -> Self {
        Self { last: Pulse::now(), since: Instant::now(), is_told: false }
    }

    /// For how long nothing has come forward; `None` where nothing waits, or something has since the last look. Calls
    /// `tell` once it is [`TOLD`](Self::TOLD).
    pub fn look(&mut self, tell: impl FnOnce()) -> Option<Duration> {
        let now = Pulse::now();
        if !now.has_stopped_since(self.last) {
            *self = Self { last: now, since: Instant::now(), is_told: false };
            return None;
        }
        let waited = self.since.elapsed();
        if waited >= Self::TOLD && !self.is_told {
            self.is_told = true;
            tell();
        }
        Some(waited)
    }
}

/// Has every write of this process fail from now on: those that it has not handed to the kernel yet.
///
/// What was enciphered before this is called may still go; what is enciphered afterwards never does. So keys may be wiped under
/// the threads that use them.
pub fn seal() {
    SEALED.store(true, Ordering::SeqCst);
    fence(Ordering::SeqCst);
}

/// A request to a medium; dropped when it has come back.
#[derive(Debug)]
#[must_use = "it has come back when this is dropped"]
pub struct Request;

impl Request {
    /// To be called just before the kernel is asked.
    pub fn begin() -> Self {
        BEGUN.fetch_add(1, Ordering::AcqRel);
        Self
    }

    /// The same for what changes the medium, and after the last use of a key for it.
    ///
    /// # Errors
    /// Once the media are sealed.
    pub(super) fn to_change() -> io::Result<Self> {
        // The keys were read before this, and are wiped after the seal was set: who sees no seal here has used whole ones.
        fence(Ordering::SeqCst);
        if SEALED.load(Ordering::SeqCst) {
            return Err(io::Error::other("the keys are wiped"));
        }
        Ok(Self::begin())
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        ENDED.fetch_add(1, Ordering::AcqRel);
    }
}

/// The numbers of a disk's line that count requests: reads, writes, discards, flushes.
const DONE: [usize; 4] = [0, 4, 11, 15];
/// In bytes: a slow stick takes less than a second for it.
const PIECE_LEN: u64 = 1 << 20;
const PIECE: usize = 1 << 20;
/// Longer than the kernel takes for a piece of which there is nothing to write.
const AT_ONCE: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_millis(200);
/// How long something is waited for that does not come to its end, while other things do.
const MOST: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_does_something_does_not_stand_still() {
        let pulse = |moved| Pulse { begun: 5, ended: 4, moved };
        assert!(!pulse(8).has_stopped_since(pulse(7)));
        assert!(pulse(8).has_stopped_since(pulse(8)));
        assert!(pulse(8).has_moved_since(pulse(7)));
        assert!(!Pulse { begun: 6, ..pulse(8) }.has_moved_since(pulse(8)), "a question is no answer");
    }

    #[test]
    fn what_a_disk_has_done_is_counted_from_its_line() {
        let shown = tempfile::tempfile().unwrap();
        assert_eq!(requests_done(&shown), 0);
        let line = "  1  9  9  9  20  9  9  9  9  9  9  300  9  9  9  4000  9\n";
        shown.write_all_at(line.as_bytes(), 0).unwrap();
        assert_eq!(requests_done(&shown), 4321);
        // Before Linux 4.18 and 5.5 there were fewer.
        shown.set_len(0).unwrap();
        shown.write_all_at(b"1 9 9 9 20 9 9 9 9 9 9", 0).unwrap();
        assert_eq!(requests_done(&shown), 21);
    }

    #[test]
    fn what_is_written_is_waited_for_piece_by_piece() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 3000], 2 * PIECE_LEN).unwrap();
        let mut looks = 0;
        follow_writeback(&[file], || {
            looks += 1;
            if looks > 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(looks, 5, "three pieces, the end of a round, and once more");
    }

    #[test]
    fn a_medium_stands_still_only_while_a_request_waits() {
        let pulse = |begun, ended| Pulse { begun, ended, moved: 7 };
        assert!(pulse(5, 4).has_stopped_since(pulse(5, 4)));
        assert!(pulse(7, 4).has_stopped_since(pulse(5, 4)), "more requests are no answer");
        assert!(!pulse(7, 5).has_stopped_since(pulse(7, 4)));
        assert!(!pulse(5, 5).has_stopped_since(pulse(5, 5)), "nothing is waited for");
    }

    #[test]
    fn a_request_is_counted_until_it_is_dropped() {
        let before = Pulse::now();
        let request = Request::begin();
        assert!(Pulse::now().begun > before.begun);
        drop(request);
        assert!(Pulse::now().ended > before.ended);
    }
}
