//! The pulse of the media: whether they still answer this process, and the end of all writing.

use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering, fence},
    time::{Duration, Instant},
};

static BEGUN: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);
static SEALED: AtomicBool = AtomicBool::new(false);

/// How many requests to files and block devices this process has made, and how many of them have come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    begun: u64,
    ended: u64,
}

impl Pulse {
    /// The pulse of this moment.
    pub fn now() -> Self {
        // In this order: one that ends in between is not taken for one that waits.
        let begun = BEGUN.load(Ordering::Acquire);
        Self { begun, ended: ENDED.load(Ordering::Acquire) }
    }

    /// Whether some request waits for its answer, and none has had one since `earlier`.
    pub const fn has_stopped_since(self, earlier: Self) -> bool {
        self.ended == earlier.ended && self.begun > self.ended
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

    /// For how long nothing has been answered; `None` where nothing waits, or something was answered since the last look. Calls
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_medium_stands_still_only_while_a_request_waits() {
        let pulse = |begun, ended| Pulse { begun, ended };
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
