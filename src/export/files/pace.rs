use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::filesystem::{Fault, FileSystem};

/// When changes reach the medium: soon, and many at once.
///
/// The kernel tells a FUSE server of a file's end (`close`), and not of `sync` or of its own unmount. So once in [`WINDOW`] a file
/// that is closed is on the medium when `close` returns, and all else within that. On a slow medium there are pauses, or there would
/// be nothing else than commits.
#[derive(Debug, Default)]
pub(super) struct Pace {
    promptness: Promptness,
    state: Mutex<State>,
    news: Condvar,
}

/// What is on the medium when a program is answered, whatever that takes: what mount(8) calls `dirsync` and `sync`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Promptness {
    /// Every change of names.
    pub names: bool,
    /// Every write.
    pub content: bool,
}

#[derive(Debug, Default)]
struct State {
    /// Since when something waits.
    changed: Option<Instant>,
    /// Until when there is no commit, as the last one took long.
    pause: Option<Instant>,
    /// When somebody last waited for one that nobody had asked for.
    waited: Option<Instant>,
    is_ended: bool,
}

impl State {
    /// How long what waits may go on waiting; `None` where nothing does.
    fn left(&self, now: Instant) -> Option<Duration> {
        let due = (self.changed? + WINDOW).max(self.pause.unwrap_or(now));
        Some(due.saturating_duration_since(now))
    }

    /// Whether somebody may wait for a commit now.
    fn is_due(&self, now: Instant) -> bool {
        self.pause.is_none_or(|end| end <= now) && self.waited.is_none_or(|last| last + WINDOW <= now)
    }

    /// Takes note of a commit.
    fn end(&mut self, start: Instant, end: Instant) {
        let pause = (end - start).saturating_mul(SLOWNESS).min(LONGEST);
        self.pause = (pause > WINDOW).then(|| end + pause);
    }
}

impl Pace {
    pub(super) fn new(promptness: Promptness) -> Self {
        Self { promptness, ..Self::default() }
    }

    /// After a write.
    pub(super) fn commit_content(&self, files: &dyn FileSystem) -> Result<(), Fault> {
        if self.promptness.content { self.commit(files) } else { Ok(()) }
    }

    /// Takes note of a change.
    pub(super) fn note(&self) {
        let mut state = self.state();
        if state.changed.is_none() {
            state.changed = Some(Instant::now());
            self.news.notify_all();
        }
    }

    /// Commits all that was changed before.
    pub(super) fn commit(&self, files: &dyn FileSystem) -> Result<(), Fault> {
        self.state().changed = None;
        let start = Instant::now();
        let done = files.sync();
        self.state().end(start, Instant::now());
        done
    }

    /// The same, where something waits and nobody has waited for that within the last moment; else it is left to the next one.
    pub(super) fn commit_if_due(&self, files: &dyn FileSystem) -> Result<(), Fault> {
        let is_due = self.promptness.names || self.state().is_due(Instant::now());
        if !is_due || !files.is_unsynced() {
            return Ok(());
        }
        let done = self.commit(files);
        self.state().waited = Some(Instant::now());
        done
    }

    /// Waits until something has waited long enough. False where there is an end to it.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.state();
        loop {
            if state.is_ended {
                return false;
            }
            state = match state.left(Instant::now()) {
                Some(Duration::ZERO) => return true,
                Some(left) => self.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.news.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Has nobody wait any more.
    pub(super) fn end(&self) {
        self.state().is_ended = true;
        self.news.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a change waits on a medium that is not slow.
const WINDOW: Duration = Duration::from_secs(1);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(5);
/// So many times as long as a commit is the pause after it, where that is longer than [`WINDOW`].
const SLOWNESS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_waits_for_a_second_and_longer_on_a_slow_medium() {
        let now = Instant::now();
        let mut state = State::default();
        assert_eq!(state.left(now), None);
        state.changed = Some(now);
        assert_eq!(state.left(now), Some(WINDOW));
        assert_eq!(state.left(now + WINDOW), Some(Duration::ZERO));
        state.end(now, now + WINDOW);
        assert_eq!(state.left(now + WINDOW), Some(4 * WINDOW));
        state.end(now, now + WINDOW / 10);
        assert_eq!(state.left(now + WINDOW), Some(Duration::ZERO));
    }

    #[test]
    fn once_a_second_somebody_waits_for_a_commit() {
        let now = Instant::now();
        let mut state = State::default();
        assert!(state.is_due(now));
        state.waited = Some(now);
        assert!(!state.is_due(now + WINDOW / 2) && state.is_due(now + WINDOW));
        state.end(now, now + WINDOW);
        assert!(!state.is_due(now + WINDOW) && state.is_due(now + 5 * WINDOW));
    }
}
