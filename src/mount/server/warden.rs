//! Sees to it that a server which was told to end does so, whatever its medium does.
//!
//! The server's own threads wait in the kernel for a medium that hangs, with the keys in use. A thread that touches no file looks
//! at the pulse of the medium. It says what is waited for, and where that was asked for, it wipes the keys and ends the process.

use std::{
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, sleep},
    time::Duration,
};

use crate::{
    error::{Error, ErrorKind},
    mount::{
        protocol::{self, Failure, Outcome},
        undo::Log,
    },
    sys::{memory::wipe_all_secrets, process::end_at_once},
    volume::{Shortage, Stillness, seal},
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
        *self.is_done.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

impl Charge {
    fn watch(self, is_done: &Mutex<bool>) {
        let mut stillness = Stillness::watch();
        if self.patience == Patience::Long {
            self.shortage.give_up_after(LAST_ROOM);
        }
        loop {
            sleep(TICK);
            // Held to the end where it gives up: nobody else answers then.
            let is_done = is_done.lock().unwrap_or_else(PoisonError::into_inner);
            if *is_done {
                return;
            }
            if self.stop.load(Ordering::Relaxed) {
                self.shortage.give_up();
            }
            let Some(waited) = stillness.look(|| self.tell()) else { continue };
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

const TICK: Duration = Duration::from_millis(100);
/// How long a server that was told to end by a signal waits for its medium to take what it has.
const LAST_ROOM: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);
