//! Sees to it that a server which was told to end does so, whatever its medium does.
//!
//! The server's own threads wait in the kernel for a medium that hangs, with the keys in use. A thread that touches no file looks
//! at the pulse of the medium. It says what is waited for, and where that was asked for, it wipes the keys and ends the process. One
//! that is only slow is waited for whatever was asked: another thread looks how the kernel comes forward with what it was given.

use std::{
    fs::File,
    mem,
    ops::ControlFlow,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, sleep},
    time::{Duration, Instant},
};

use crate::{
    error::{Error, ErrorKind},
    mount::{
        protocol::{self, Failure, Outcome},
        session::locked,
        undo::Log,
    },
    sys::{memory::wipe_all_secrets, process::end_at_once},
    volume::{Pulse, Shortage, Stillness, follow_writeback, seal},
};

/// When a medium that stands still is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Once the server is told to hurry.
    Endless,
    /// After a minute: a signal ends the server, and whoever sent it may kill it before.
    Long,
    /// At once: that is what force is for.
    None,
}

/// What a warden knows of its server.
pub(super) struct Charge {
    /// Who asked for the end, to be told.
    pub asked: Option<UnixStream>,
    pub patience: Patience,
    /// Set where the server shall wait for nobody any more.
    pub stop: Arc<AtomicBool>,
    pub log: Log,
    /// The writes that its medium does not take: they wait no longer once the server is told to hurry.
    pub shortage: Arc<Shortage>,
    /// The container, to be named.
    pub container: PathBuf,
    /// What it lies in, to see how the kernel comes forward with it.
    pub files: Vec<File>,
}

/// A warden at work. It stops when this is dropped.
#[derive(Debug)]
pub(super) struct Warden {
    is_done: Arc<Mutex<bool>>,
}

impl Warden {
    pub(super) fn watch(charge: Charge) -> Self {
        let is_done = Arc::default();
        let seen = Arc::clone(&is_done);
        // Without a thread a medium that hangs is waited for.
        let _refused = thread::Builder::new().name("warden".to_owned()).spawn(move || charge.watch(&seen));
        Self { is_done }
    }

    /// Has it go on until the process has ended.
    pub(super) fn stay(self) {
        std::mem::forget(self);
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        *locked(&self.is_done) = true;
    }
}

impl Charge {
    fn watch(mut self, is_done: &Arc<Mutex<bool>>) {
        let mut stillness = Stillness::watch();
        let mut beat = (Pulse::now(), Instant::now());
        if self.patience == Patience::Long {
            self.shortage.give_up_after(LAST_ROOM);
        }
        loop {
            sleep(TICK);
            // Held to the end where it gives up: nobody else answers then.
            let is_over = locked(is_done);
            if *is_over {
                return;
            }
            if self.stop.load(Ordering::Relaxed) {
                self.shortage.give_up();
            }
            self.show_life(&mut beat);
            let Some(waited) = stillness.look(|| self.tell()) else { continue };
            if waited >= A_MOMENT && !self.files.is_empty() {
                follow(mem::take(&mut self.files), Arc::clone(is_done));
            }
            let patience = match self.patience {
                Patience::None => Some(Stillness::TOLD),
                _ if self.stop.load(Ordering::Relaxed) => Some(Stillness::TOLD),
                Patience::Long => Some(LONG),
                Patience::Endless => None,
            };
            if patience.is_some_and(|patience| waited >= patience) {
                self.give_up();
            }
        }
    }

    /// Tells whoever asked now and then that the medium takes what it is given, however slowly.
    fn show_life(&self, (last, told): &mut (Pulse, Instant)) {
        if told.elapsed() < BEAT {
            return;
        }
        let now = Pulse::now();
        if now.has_moved_since(*last) {
            self.answer(&Outcome::Writing);
        }
        (*last, *told) = (now, Instant::now());
    }

    fn tell(&self) {
        let what = self.what();
        (self.log)(&what);
        self.answer(&Outcome::Waiting(what));
    }

    fn what(&self) -> String {
        format!(
            "the medium of {} has not answered for {} seconds",
            self.container.display(),
            Stillness::TOLD.as_secs()
        )
    }

    fn give_up(&self) -> ! {
        seal();
        wipe_all_secrets();
        (self.log)("the medium is given up, and the keys are wiped");
        let reason = format!("{}: what was not written yet is lost", self.what());
        self.answer(&Outcome::GivenUp(Failure::from(&Error::new(ErrorKind::Io, reason))));
        end_at_once(1)
    }

    /// Whoever asked may have gone, or does not read.
    fn answer(&self, outcome: &Outcome) {
        if let Some(stream) = &self.asked {
            let _gone = stream.set_write_timeout(Some(TICK)).and_then(|()| protocol::send(stream, outcome));
        }
    }
}

/// Begins to follow what the kernel writes of the container. Where no thread can be had, the disk's own counts must do.
fn follow(files: Vec<File>, is_done: Arc<Mutex<bool>>) {
    let go_on = move || if *locked(&is_done) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let work = move || follow_writeback(&files, go_on);
    let _refused = thread::Builder::new().name("writeback".to_owned()).spawn(work);
}

const TICK: Duration = Duration::from_millis(100);
/// How soon after nothing comes back it is looked at more closely.
const A_MOMENT: Duration = Duration::from_secs(1);
/// How often whoever asked hears that it goes on.
const BEAT: Duration = Duration::from_secs(5);
/// How long a server that was told to end by a signal waits for its medium to take what it has.
const LAST_ROOM: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);
