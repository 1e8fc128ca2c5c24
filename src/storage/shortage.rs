//! A medium that takes no writes for now: it has run full, or somebody has forbidden them. They wait before they fail.
//!
//! Who wrote has long been told that it is done, as a rule: the kernel writes back later. A write that fails then is lost, and no
//! program hears of it. A minute is what device-mapper's thin pools wait for room, too. Nothing waits longer, as everybody's `sync`
//! waits along.

use std::{
    io::{self, ErrorKind, PipeReader, PipeWriter, Write, pipe},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::io::Errno;

/// What came of writes that the medium did not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// They wait for room.
    Waiting,
    /// They wait to be allowed: the file is immutable, its file system read-only, or a limit lower, on file sizes or open files.
    Forbidden,
    /// They wait for the device to have its length again.
    Short,
    /// At least one has failed.
    Refused,
    /// The same, and each program whose write it was has heard of it: nothing is lost.
    Told,
}

/// The room on a medium: shared by the storage that waits for it, and by whoever tells people.
#[derive(Debug)]
pub struct Shortage {
    limit: Duration,
    state: Mutex<State>,
    changed: Condvar,
    /// Whether a write has met it since the last one that went through.
    is_met: AtomicBool,
    /// Whether no write begins for now.
    is_paused: AtomicBool,
    news: PipeWriter,
}

#[derive(Debug, Default)]
struct State {
    /// Since when the medium takes no writes, and why it took none last.
    since: Option<(Instant, Cause)>,
    /// When it did not take one last.
    last: Option<Instant>,
    /// How many wait.
    waiting: usize,
    /// When nobody waits any more.
    end: Option<Instant>,
    is_refused: bool,
    /// Whether those that were refused had somebody who heard of it.
    is_told: bool,
}

/// Why a medium takes no writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Full,
    Forbidden,
    Short,
}

impl Cause {
    /// `None` where what an error tells of does not end by itself, or by what a person does.
    fn of(error: &io::Error) -> Option<Self> {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(Self::Full),
            // The limit on file sizes, which somebody lowered.
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::FileTooLarge => {
                Some(Self::Forbidden)
            }
            ErrorKind::UnexpectedEof => Some(Self::Short),
            // No piece can be opened: the limit of the process, or of the system.
            _ if matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE)) => {
                Some(Self::Forbidden)
            }
            _ => None,
        }
    }
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
        let (is_met, is_paused) = (AtomicBool::new(false), AtomicBool::new(false));
        let (state, changed) = (Mutex::default(), Condvar::new());
        Ok((Arc::new(Self { limit, state, changed, is_met, is_paused, news }), reader))
    }

    /// How it stands; `None` where everything was written.
    pub fn lack(&self) -> Option<Lack> {
        let state = self.state();
        match state.since {
            _ if state.is_refused => Some(Lack::Refused),
            Some(_) if state.is_told => Some(Lack::Told),
            Some((_, Cause::Forbidden)) => Some(Lack::Forbidden),
            Some((_, Cause::Short)) => Some(Lack::Short),
            since => since.map(|_| Lack::Waiting),
        }
    }

    /// Whether the medium takes no writes now, whatever came of those before.
    pub fn lasts(&self) -> bool {
        self.state().since.is_some()
    }

    /// Takes note that whoever made a write that has failed was told of it, so that nothing is missing which anybody takes for written.
    pub fn forgive(&self) {
        let mut state = self.state();
        if std::mem::take(&mut state.is_refused) {
            state.is_told = state.since.is_some();
        }
    }

    /// Takes note that the medium has failed: what was written may not be there, and who asks later is not told any more by the kernel.
    pub(super) fn fail(&self) {
        let mut state = self.state();
        if !std::mem::replace(&mut state.is_refused, true) {
            self.tell();
        }
    }

    /// Has no write wait any more, now and later.
    pub fn give_up(&self) {
        self.give_up_after(Duration::ZERO);
    }

    /// The same in a while. An earlier end stays.
    pub fn give_up_after(&self, while_: Duration) {
        let end = Instant::now() + while_;
        let mut state = self.state();
        state.end = Some(state.end.map_or(end, |earlier| earlier.min(end)));
        drop(state);
        self.changed.notify_all();
    }

    /// Has writes wait from now on, or no longer, whatever the medium takes.
    pub fn pause(&self, is_paused: bool) {
        self.is_paused.store(is_paused, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// Does `write`, again and again while the medium does not take it, as long as that is worth waiting for.
    pub(super) fn endure(&self, mut write: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        let mut met = None;
        loop {
            while self.is_paused.load(Ordering::SeqCst) {
                drop(self.changed.wait_timeout(self.state(), MOMENT));
            }
            let done = write();
            let Some(cause) = done.as_ref().err().and_then(Cause::of) else {
                match done {
                    Err(_) => self.fail(),
                    Ok(()) if self.is_met.load(Ordering::Relaxed) => self.end(met.is_some()),
                    Ok(()) => {}
                }
                return done;
            };
            self.is_met.store(true, Ordering::Relaxed);
            if !self.wait(cause, *met.get_or_insert_with(Instant::now)) {
                return done;
            }
        }
    }

    /// Waits a moment for a write that the medium has not taken since it first `met` that. False where it has lasted long enough.
    fn wait(&self, cause: Cause, met: Instant) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        if state.since.is_none_or(|(_, told)| told != cause) {
            self.tell();
        }
        let since = state.since.map_or(now, |(since, _)| since);
        (state.since, state.last) = (Some((since, cause)), Some(now));
        let has_ended = state.end.is_some_and(|end| now >= end);
        // Others may be taken meanwhile, such as those to places where the file has blocks.
        let is_long = [since, met].into_iter().any(|begun| now.duration_since(begun) >= self.limit);
        if has_ended || is_long {
            if !state.is_refused {
                state.is_refused = true;
                self.tell();
            }
            return false;
        }
        state.waiting = state.waiting.saturating_add(1);
        let waited = self.changed.wait_timeout(state, MOMENT);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.waiting = state.waiting.saturating_sub(1);
        true
    }

    /// A write went through, which was one that `waited` or not: if no other waits, there is room again.
    ///
    /// Where some were refused, those that go through at once tell nothing: they may go to places where the file has blocks.
    fn end(&self, waited: bool) {
        let mut state = self.state();
        let is_over = |last: Instant| !state.is_refused || last.elapsed() >= self.limit;
        if !waited && (state.waiting > 0 || !state.last.is_none_or(is_over)) {
            return;
        }
        self.is_met.store(false, Ordering::Relaxed);
        state.is_told = false;
        if state.since.take().is_some() {
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
        // What was lost stays lost. A write elsewhere is no sign of room.
        shortage.endure(|| Ok(())).unwrap();
        assert_eq!(shortage.lack(), Some(Lack::Refused));
        let mut tries = 0;
        shortage
            .endure(|| {
                tries += 1;
                full()
            })
            .unwrap_err();
        assert_eq!(tries, 1);
        // The next shortage is waited for.
        thread::sleep(Duration::from_millis(300));
        shortage.endure(|| Ok(())).unwrap();
        let began = Instant::now();
        shortage.endure(full).unwrap_err();
        assert!(began.elapsed() >= Duration::from_millis(300));
    }

    #[test]
    fn a_medium_that_fails_is_waited_for_by_nobody_and_what_it_lost_stays_lost() {
        let (shortage, mut news) = Shortage::with_limit(Duration::from_secs(3600)).unwrap();
        let mut tries = 0;
        let failed = shortage.endure(|| {
            tries += 1;
            Err(rustix::io::Errno::IO.into())
        });
        assert!(failed.is_err() && tries == 1);
        assert_eq!(shortage.lack(), Some(Lack::Refused));
        news.read_exact(&mut [0]).unwrap();
        shortage.endure(|| Ok(())).unwrap();
        assert_eq!(shortage.lack(), Some(Lack::Refused));
        // Whoever was told lacks nothing, and the next shortage is one.
        shortage.forgive();
        assert_eq!(shortage.lack(), None);
        let waiting = Arc::clone(&shortage);
        let writer = thread::spawn(move || waiting.endure(full));
        news.read_exact(&mut [0]).unwrap();
        assert_eq!(shortage.lack(), Some(Lack::Waiting));
        shortage.give_up();
        writer.join().unwrap().unwrap_err();
    }

    #[test]
    fn where_everybody_was_told_of_what_failed_it_is_over_when_there_is_room() {
        let (shortage, _news) = Shortage::with_limit(Duration::from_millis(300)).unwrap();
        shortage.endure(full).unwrap_err();
        shortage.forgive();
        assert_eq!(shortage.lack(), Some(Lack::Told));
        // Still full: the next one is not waited for, and counts anew.
        let mut tries = 0;
        let again = shortage.endure(|| {
            tries += 1;
            full()
        });
        assert_eq!((again.unwrap_err().kind(), tries), (ErrorKind::StorageFull, 1));
        assert_eq!(shortage.lack(), Some(Lack::Refused));
        shortage.forgive();
        shortage.endure(|| Ok(())).unwrap();
        assert_eq!(shortage.lack(), None);
        let began = Instant::now();
        shortage.endure(full).unwrap_err();
        assert!(began.elapsed() >= Duration::from_millis(300));
    }

    #[test]
    fn writes_that_go_through_elsewhere_prolong_no_wait() {
        let (shortage, _news) = Shortage::with_limit(Duration::from_millis(500)).unwrap();
        let waiting = Arc::clone(&shortage);
        let writer = thread::spawn(move || waiting.endure(full));
        let began = Instant::now();
        while !writer.is_finished() && began.elapsed() < Duration::from_secs(20) {
            shortage.endure(|| Ok(())).unwrap();
            thread::sleep(Duration::from_millis(5));
        }
        assert!(began.elapsed() < Duration::from_secs(20));
        assert_eq!(writer.join().unwrap().unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(shortage.lack(), Some(Lack::Refused));
    }

    #[test]
    fn a_wait_does_not_begin_anew_where_the_cause_changes() {
        let (shortage, _news) = Shortage::with_limit(Duration::from_millis(500)).unwrap();
        let mut causes = [ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem].into_iter().cycle();
        let began = Instant::now();
        shortage.endure(|| Err(causes.next().unwrap().into())).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(20));
        assert_eq!(shortage.lack(), Some(Lack::Refused));
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
        let failed = shortage.endure(|| Err(ErrorKind::InvalidInput.into()));
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(shortage.lack(), Some(Lack::Refused), "and are lost");
    }

    #[test]
    fn a_write_that_is_forbidden_waits_until_it_is_allowed_or_given_up() {
        for kind in [
            ErrorKind::PermissionDenied,
            ErrorKind::ReadOnlyFilesystem,
            ErrorKind::FileTooLarge,
            ErrorKind::UnexpectedEof,
        ] {
            let (limited, _news) = Shortage::with_limit(Duration::from_millis(300)).unwrap();
            assert_eq!(limited.endure(|| Err(kind.into())).unwrap_err().kind(), kind);
            assert_eq!(limited.lack(), Some(Lack::Refused));

            let (shortage, mut news) = Shortage::with_limit(Duration::from_secs(3600)).unwrap();
            let mut left = 3;
            let ended = shortage.endure(|| {
                left -= 1;
                if left > 0 { Err(kind.into()) } else { Ok(()) }
            });
            ended.unwrap();
            assert_eq!((left, shortage.lack()), (0, None));
            news.read_exact(&mut [0; 2]).unwrap();

            let waiting = Arc::clone(&shortage);
            let writer = thread::spawn(move || waiting.endure(|| Err(kind.into())));
            news.read_exact(&mut [0]).unwrap();
            let lack = if kind == ErrorKind::UnexpectedEof { Lack::Short } else { Lack::Forbidden };
            assert_eq!(shortage.lack(), Some(lack));
            shortage.give_up_after(Duration::from_millis(1));
            assert_eq!(writer.join().unwrap().unwrap_err().kind(), kind);
            assert_eq!(shortage.lack(), Some(Lack::Refused));
        }
    }

    #[test]
    fn no_write_begins_during_a_pause() {
        let (shortage, _news) = Shortage::with_limit(Duration::ZERO).unwrap();
        let has_begun = Arc::new(AtomicBool::new(false));
        shortage.pause(true);
        let (waiting, begun) = (Arc::clone(&shortage), Arc::clone(&has_begun));
        let writer = thread::spawn(move || {
            waiting.endure(|| {
                begun.store(true, Ordering::SeqCst);
                Ok(())
            })
        });
        thread::sleep(Duration::from_millis(300));
        assert!(!has_begun.load(Ordering::SeqCst));
        shortage.pause(false);
        writer.join().unwrap().unwrap();
        assert!(has_begun.load(Ordering::SeqCst));
    }
}
