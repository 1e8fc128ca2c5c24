//! Programs that are killed while they wait for an answer.
//!
//! The kernel lets a killed program go only when its request was answered, and a write that waits for room on the container's disk is
//! answered in a minute. So what takes long is answered as soon as nobody is left to hear how it went; the work goes on.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use fuser::{Errno, ReplyEmpty, ReplyWrite, Request};

use crate::sys::process::is_being_killed;

/// An answer that can be an error.
pub(super) trait Refuse: Send + 'static {
    fn refuse(self, errno: Errno);
}

impl Refuse for ReplyEmpty {
    fn refuse(self, errno: Errno) {
        self.error(errno);
    }
}

impl Refuse for ReplyWrite {
    fn refuse(self, errno: Errno) {
        self.error(errno);
    }
}

/// Who waits for an answer, as the thread sees it that looks after them.
trait Waiting: Send + Sync {
    /// Whether nobody is left to hear it.
    fn is_over(&self) -> bool;

    fn let_go(&self);
}

struct Caller<R> {
    process: u32,
    since: Instant,
    reply: Mutex<Option<R>>,
}

impl<R> Caller<R> {
    fn take(&self) -> Option<R> {
        self.reply.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<R: Refuse> Waiting for Caller<R> {
    fn is_over(&self) -> bool {
        self.since.elapsed() >= PATIENCE && is_being_killed(self.process)
    }

    fn let_go(&self) {
        if let Some(reply) = self.take() {
            reply.refuse(Errno::EINTR);
        }
    }
}

/// All who wait.
#[derive(Default)]
pub(super) struct Callers {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<Arc<dyn Waiting>>,
    /// Whether the thread that looks after them sleeps until somebody waits.
    is_asleep: bool,
    is_ended: bool,
}

impl Callers {
    /// Does `work` for a request, and gives its outcome with the reply, unless that was used for a program that is no more.
    pub(super) fn attend<R: Refuse, T>(
        &self,
        request: &Request,
        reply: R,
        work: impl FnOnce() -> T,
    ) -> Option<(R, T)> {
        self.attend_for(request.pid(), reply, work)
    }

    fn attend_for<R: Refuse, T>(&self, process: u32, reply: R, work: impl FnOnce() -> T) -> Option<(R, T)> {
        let caller = Arc::new(Caller { process, since: Instant::now(), reply: Mutex::new(Some(reply)) });
        let waiting: Arc<dyn Waiting> = Arc::<Caller<R>>::clone(&caller);
        self.add(Arc::clone(&waiting));
        let done = work();
        self.remove(&waiting);
        caller.take().map(|reply| (reply, done))
    }

    /// Looks after them in a thread of its own, until the [end](Self::end).
    ///
    /// # Errors
    /// Where no thread can be had.
    pub(super) fn look_after(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let callers = Arc::clone(self);
        thread::Builder::new().name("callers".to_owned()).spawn(move || callers.run())
    }

    pub(super) fn end(&self) {
        self.state().is_ended = true;
        self.news.notify_all();
    }

    fn run(&self) {
        let mut state = self.state();
        while !state.is_ended {
            if state.waiting.is_empty() {
                state.is_asleep = true;
                state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            // Those who are answered at once wake nobody once more.
            let is_ended = |state: &mut State| !state.is_ended;
            let waited = self.news.wait_timeout_while(state, TICK, is_ended);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            let waiting = state.waiting.clone();
            drop(state);
            waiting.iter().filter(|caller| caller.is_over()).for_each(|caller| caller.let_go());
            state = self.state();
        }
    }

    fn add(&self, caller: Arc<dyn Waiting>) {
        let mut state = self.state();
        state.waiting.push(caller);
        if std::mem::take(&mut state.is_asleep) {
            self.news.notify_all();
        }
    }

    fn remove(&self, caller: &Arc<dyn Waiting>) {
        self.state().waiting.retain(|waiting| !Arc::ptr_eq(waiting, caller));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Callers({})", self.state().waiting.len())
    }
}

/// What is answered sooner is not looked at.
const PATIENCE: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    struct Answered(Arc<Mutex<Option<i32>>>);

    impl Refuse for Answered {
        fn refuse(self, errno: Errno) {
            *self.0.lock().unwrap() = Some(errno.code());
        }
    }

    #[test]
    fn who_is_let_go_is_answered_once_and_the_work_goes_on() {
        let heard = Arc::new(Mutex::new(None));
        let callers = Callers::default();
        let reply = Answered(Arc::clone(&heard));
        let mut is_done = false;
        let left = callers.attend_for(1, reply, || {
            let waiting = callers.state().waiting.clone();
            for caller in waiting.iter().chain(&waiting) {
                caller.let_go();
            }
            is_done = true;
        });
        assert!(is_done && left.is_none() && callers.state().waiting.is_empty());
        assert_eq!(*heard.lock().unwrap(), Some(libc::EINTR));
    }

    #[test]
    fn who_lives_hears_how_it_went() {
        let callers = Arc::new(Callers::default());
        let thread = callers.look_after().unwrap();
        let heard = Arc::new(Mutex::new(None));
        let reply = Answered(Arc::clone(&heard));
        let answered = callers.attend_for(std::process::id(), reply, || {
            thread::sleep(3 * TICK);
            7
        });
        let (_, done) = answered.unwrap();
        assert_eq!((done, *heard.lock().unwrap()), (7, None));
        callers.end();
        thread.join().unwrap();
    }
}
