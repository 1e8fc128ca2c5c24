//! A medium that has run full: writes to a thin container wait for room before they fail.
//!
//! Who wrote has long been told that it is done, as a rule: the kernel writes back later. A write that fails then is lost, and no
//! program hears of it. A minute is what device-mapper's thin pools wait, too.

use std::{
    io::{self, ErrorKind, PipeReader, PipeWriter, Write, pipe},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// What came of writes for which there was no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// They wait.
    Waiting,
    /// At least one has failed.
    Refused,
}

/// The room on a medium: shared by the storage that waits for it, and by whoever tells people.
#[derive(Debug)]
pub struct Shortage {
    limit: Duration,
    state: Mutex<State>,
    changed: Condvar,
    /// Whether a write has met it since the last one that went through.
    is_met: AtomicBool,
    news: PipeWriter,
}

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    is_given_up: bool,
    is_refused: bool,
}

impl Shortage {
    /// One for which nobody waits longer than a minute, and a descriptor that has a byte for each change of [`lack`](Self::lack).
    ///
    /// # Errors
    /// Where there is no descriptor left.
    pub fn watch() -> io::Result<(Arc<Self>, PipeReader)> {
        Self::with_limit(PATIENCE)
    }

    fn with_limit(limit: Duration) -> io::Result<(Arc<Self>, PipeReader)> {
        let (reader, news) = pipe()?;
        let (state, changed, is_met) = (Mutex::default(), Condvar::new(), AtomicBool::new(false));
        Ok((Arc::new(Self { limit, state, changed, is_met, news }), reader))
    }

    /// How it stands; `None` where everything was written.
    pub fn lack(&self) -> Option<Lack> {
        let state = self.state();
        if state.is_refused { Some(Lack::Refused) } else { state.since.map(|_| Lack::Waiting) }
    }

    /// Has no write wait any more, now and later.
    pub fn give_up(&self) {
        self.state().is_given_up = true;
        self.changed.notify_all();
    }

    /// Does `write`, again and again while there is no room, as long as that is worth waiting for.
    pub(super) fn endure(&self, mut write: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        loop {
            let done = write();
            if !done.as_ref().is_err_and(is_full) {
                if done.is_ok() && self.is_met.load(Ordering::Relaxed) {
                    self.end();
                }
                return done;
            }
            self.is_met.store(true, Ordering::Relaxed);
            if !self.wait() {
                return done;
            }
        }
    }

    /// Waits a moment. False where that has lasted long enough.
    fn wait(&self) -> bool {
        let mut state = self.state();
        let since = *state.since.get_or_insert_with(|| {
            self.tell();
            Instant::now()
        });
        if state.is_given_up || since.elapsed() >= self.limit {
            if !state.is_refused {
                state.is_refused = true;
                self.tell();
            }
            return false;
        }
        let waited = self.changed.wait_timeout(state, MOMENT);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        true
    }

    /// There is room again.
    fn end(&self) {
        self.is_met.store(false, Ordering::Relaxed);
        if self.state().since.take().is_some() {
            self.tell();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        // Whoever listened may be gone.
        let _ = (&self.news).write_all(&[0]);
    }
}

/// Whether what an error tells of ends when somebody makes room.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

const PATIENCE: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::{io::Read, thread};

    use super::*;

    fn full() -> io::Result<()> {
        Err(ErrorKind::StorageFull.into())
    }

    #[test]
    fn a_write_waits_until_there_is_room() {
        let (shortage, mut news) = Shortage::with_limit(Duration::from_secs(3600)).unwrap();
        let mut left = 3;
        let ended = shortage.endure(|| {
            left -= 1;
            if left > 0 { full() } else { Ok(()) }
        });
        ended.unwrap();
        assert_eq!((left, shortage.lack()), (0, None));
        // It began, and it ended.
        news.read_exact(&mut [0; 2]).unwrap();
    }

    #[test]
    fn a_write_for_which_nobody_makes_room_fails_and_the_next_ones_at_once() {
        let (shortage, mut news) = Shortage::with_limit(Duration::from_millis(300)).unwrap();
        assert_eq!(shortage.endure(full).unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(shortage.lack(), Some(Lack::Refused));
        let mut tries = 0;
        let again = shortage.endure(|| {
            tries += 1;
            full()
        });
        assert_eq!((again.unwrap_err().kind(), tries), (ErrorKind::StorageFull, 1));
        news.read_exact(&mut [0; 2]).unwrap();
        // What was lost stays lost, and the next shortage is waited for.
        shortage.endure(|| Ok(())).unwrap();
        assert_eq!(shortage.lack(), Some(Lack::Refused));
        let began = Instant::now();
        shortage.endure(full).unwrap_err();
        assert!(began.elapsed() >= Duration::from_millis(300));
    }

    #[test]
    fn whoever_waits_is_told_that_nobody_will_make_room() {
        let (shortage, mut news) = Shortage::with_limit(Duration::from_secs(3600)).unwrap();
        let waiting = Arc::clone(&shortage);
        let writer = thread::spawn(move || waiting.endure(full));
        news.read_exact(&mut [0]).unwrap();
        assert_eq!(shortage.lack(), Some(Lack::Waiting));
        shortage.give_up();
        assert_eq!(writer.join().unwrap().unwrap_err().kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn other_failures_are_not_waited_for() {
        let (shortage, _news) = Shortage::with_limit(Duration::from_secs(3600)).unwrap();
        let failed = shortage.endure(|| Err(ErrorKind::PermissionDenied.into()));
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(shortage.lack(), None);
    }
}
