//! How a server comes to its end: whole, with a loss that it tells, or not yet.

use std::{
    fs::File,
    os::unix::net::UnixStream,
    path::Path,
    sync::{Arc, atomic::Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    Server,
    events::receive_command,
    loss::ending,
    warden::{Charge, Patience, Warden},
};
use crate::{
    error::{Error, ErrorKind},
    mount::{
        bystanders::Bystanders,
        mountinfo::MountTable,
        protocol::{self, Command, Failure, Outcome, Save},
        registry::{self, Protection, Record},
        sync::flush,
        undo::Undo,
    },
    sys::descriptor::close_once,
    volume::{BlockError, Lack, while_moving},
};

/// How an attempt to take a volume down went.
#[derive(Debug)]
pub(super) enum Ending {
    /// It is down, and all that was written is in the container.
    Whole,
    /// It is down, but not all could be written.
    Lossy(Error),
    /// It stays as it was.
    None(Error),
    /// It does not show here any more, but somebody uses it elsewhere: it is served until they let go.
    Held(Error),
}

impl Ending {
    /// What went wrong, once it is down.
    pub(super) fn lossy(self) -> Option<Error> {
        match self {
            Self::Whole => None,
            Self::Lossy(error) | Self::None(error) | Self::Held(error) => Some(error),
        }
    }
}

/// What is kept of a volume that is down, which the server's exit status tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remainder {
    /// All that was written.
    All,
    /// The same, but somebody who uses the volume elsewhere can write there no longer.
    AllUntilNow,
    /// Not all that was written.
    NotAll,
}

impl Remainder {
    /// After what went wrong on the way down.
    pub(super) fn after(lossy: Option<&Error>) -> Self {
        match lossy {
            None => Self::All,
            Some(error) if error.kind() == ErrorKind::Busy => Self::AllUntilNow,
            Some(_) => Self::NotAll,
        }
    }
}

/// Somebody who asked for the end while it came by itself.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The connection.
    pub stream: UnixStream,
    /// What is to be saved first.
    pub save: Option<Save>,
}

impl Waiting {
    /// Answers. Whoever asked may have gone.
    pub(super) fn answer(&self, outcome: &Outcome) {
        let _gone = protocol::send(&self.stream, outcome);
    }

    /// Tells that all is down, and that the container is where it was: there is no more to save.
    fn tell_end(&self, lossy: Option<&Error>, container: &Path) {
        if self.save.is_none() {
            return self.answer(&ending(lossy));
        }
        let reason = "it was unmounted meanwhile, and no copy was made";
        let error = Error::new(ErrorKind::Exists, reason)
            .with_hint(format!("its container is {}", container.display()));
        self.answer(&Outcome::Failed(Failure::from(&error)));
    }
}

/// Why a session ends without a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The server was told to end.
    Signal,
    /// A part was taken away from outside, or a volume that was is not in use elsewhere any more.
    Gone,
}

impl Server {
    /// Ends but for the lowest `kept` parts. `None` where the volume is served on.
    pub(super) fn end_for(&mut self, cause: Cause, kept: usize) -> Option<Ending> {
        match cause {
            Cause::Signal => Some(self.end_by_signal(kept)),
            Cause::Gone => self.end_or_linger(kept),
        }
    }

    /// Tells those who asked for the end meanwhile how it went.
    pub(super) fn answer_waiting(&self, lossy: Option<&Error>) {
        for waiting in self.waiting() {
            waiting.tell_end(lossy, self.session.record().container_named());
        }
    }

    /// Those who asked for the end while it came. Nobody looks at the control socket any more: who is not answered would not know
    /// whether all was written.
    pub(super) fn waiting(&self) -> Vec<Waiting> {
        let mut waiting = Vec::new();
        if self.control.set_nonblocking(true).is_err() {
            return waiting;
        }
        while let Ok((stream, _)) = self.control.accept() {
            if let Ok(Command::Unmount { save, .. }) = receive_command(&stream) {
                waiting.push(Waiting { stream, save });
            }
        }
        // It is looked at again where a lost container is held.
        let _ = self.control.set_nonblocking(false);
        waiting
    }

    /// Takes everything down in order but for the lowest `kept` parts, or leaves a volume that is in use as it is.
    pub(super) fn end_cleanly(&mut self, kept: usize) -> Ending {
        // From here on the next signal means: no more waiting.
        self.session.stop().store(false, Ordering::Relaxed);
        self.try_to_end(kept)
    }

    fn try_to_end(&mut self, kept: usize) -> Ending {
        let _told_so_far = self.unwritten();
        let Err(error) = self.session.parts.undo_down_to(kept, Undo::Clean) else {
            self.reencryption.pause();
            return self.whole();
        };
        if self.is_visible() {
            let could_not_write = error.kind() == ErrorKind::Io;
            return Ending::None(if could_not_write { error.with_hint(NOT_WRITTEN) } else { error });
        }
        if error.kind() == ErrorKind::Busy && !self.is_private {
            return Ending::Held(error);
        }
        // The user's file system is gone already; what hangs on below it must not keep the keys alive.
        (self.log)(&format!("{error}; going on by force"));
        match self.end_by_force(kept) {
            // What a lower part remembers is the cause: a file system that met it only says that it is read-only now.
            Ending::Lossy(cause) => Ending::Lossy(cause),
            ending if error.kind() == ErrorKind::Busy => ending,
            _ => Ending::Lossy(self.protection_or(error)),
        }
    }

    /// All is down and nothing has failed on the way, which says little: the kernel tells of a write that failed once, and whoever heard
    /// of it then may have been interrupted.
    fn whole(&self) -> Ending {
        let was_closed = if self.is_private { Ok(()) } else { close_once(self.container.file()) };
        if self.shortage.lack() != Some(Lack::Refused) && was_closed.is_ok() {
            return Ending::Whole;
        }
        let reason = "not all that was written is in the container: the medium failed";
        Ending::Lossy(self.protection_or(Error::new(ErrorKind::Io, reason)))
    }

    /// Why not all was written: a protected hidden volume, where that stood in the way, or `error`, which came of it.
    fn protection_or(&self, error: Error) -> Error {
        if self.session.record().entry.protection != Some(Protection::Triggered) {
            return error;
        }
        let reason = format!("not all that was written is in the container: {}", BlockError::Protected);
        Error::new(ErrorKind::Io, reason)
    }

    /// The same now. Failures on the way are logged.
    pub(super) fn end_by_force(&mut self, kept: usize) -> Ending {
        let record = self.session.record();
        if !record.entry.read_only {
            self.sync_inner_sessions();
            Bystanders::of(record).sync();
        }
        let _told_so_far = self.unwritten();
        let undone = self.session.parts.undo_down_to(kept, Undo::Forced);
        self.reencryption.pause();
        undone.map_or_else(|error| Ending::Lossy(self.protection_or(error)), |()| self.whole())
    }

    /// After somebody else has unmounted a part, and again later while the volume is in use elsewhere. `None` where it stays so.
    fn end_or_linger(&mut self, kept: usize) -> Option<Ending> {
        let warden = self.warden(None, Patience::Endless);
        match self.end_cleanly(kept) {
            ended @ (Ending::Whole | Ending::Lossy(_)) => {
                warden.stay();
                Some(ended)
            }
            Ending::Held(error) => {
                if !self.watch.is_lingering() {
                    (self.log)(&format!("{error}; it is served until that lets go"));
                    self.watch.linger();
                }
                None
            }
            Ending::None(error) => {
                (self.log)(&format!("{error}; detaching"));
                Some(self.end_by_force(kept))
            }
        }
    }

    /// One that watches over an attempt to end.
    pub(super) fn warden(&self, asked: Option<UnixStream>, patience: Patience) -> Warden {
        let record = self.session.record();
        Warden::watch(Charge {
            asked,
            patience,
            stop: Arc::clone(self.session.stop()),
            log: Arc::clone(&self.log),
            shortage: Arc::clone(&self.shortage),
            container: record.entry.container.clone(),
            files: self.container_files(),
        })
    }

    /// What the container lies in, once more, as far as descriptors can be had. A folder of pieces lies in too many.
    fn container_files(&self) -> Vec<File> {
        if self.container.pieces().is_some() {
            return Vec::new();
        }
        let files = [Some(self.container.file()), self.container.file_behind()];
        files.into_iter().flatten().filter_map(|file| file.try_clone().ok()).collect()
    }

    /// For signals: a logout must not hang on an open file. But whoever uses the volume may just be told to end too.
    fn end_by_signal(&mut self, kept: usize) -> Ending {
        self.session.stop().store(false, Ordering::Relaxed);
        self.warden(None, Patience::Long).stay();
        let start = Instant::now();
        loop {
            let error = match self.try_to_end(kept) {
                Ending::None(error) | Ending::Held(error) => error,
                ended => return ended,
            };
            let patience = if self.has_inner_sessions() { INNER } else { OTHERS };
            let is_hurried = self.session.stop().load(Ordering::Relaxed);
            if is_hurried || error.kind() != ErrorKind::Busy || start.elapsed() >= patience {
                (self.log)(&format!("{error}; detaching"));
                return self.end_by_force(kept);
            }
            sleep(TICK);
        }
    }

    /// As a signal does, without waiting for anybody.
    pub(super) fn end_at_any_rate(&mut self, kept: usize) {
        if let Ending::None(error) | Ending::Held(error) = self.end_cleanly(kept) {
            (self.log)(&format!("{error}; detaching"));
            self.end_by_force(kept);
        }
    }

    /// Whether the container of another session lies in this volume: that one writes into it until it has ended.
    pub(super) fn has_inner_sessions(&self) -> bool {
        !self.inner_sessions().is_empty()
    }

    fn inner_sessions(&self) -> Vec<Record> {
        let Some(runtime) = self.session.directory.parent() else { return Vec::new() };
        registry::inner_ones(self.session.record(), registry::sessions_in(&[runtime.to_path_buf()]))
    }

    /// Has those sessions write what the kernel holds for them, as later they find nothing to write to.
    fn sync_inner_sessions(&self) {
        let may_run = while_moving(INNER_SYNC);
        for inner in self.inner_sessions().iter().filter(|inner| !inner.entry.read_only) {
            // What does not get there in time is told of by its own server.
            flush(&inner.entry, &may_run);
        }
    }

    /// Whether what the user was given is still there.
    pub(super) fn is_visible(&self) -> bool {
        let record = self.session.record();
        let visible = record.mount.or(record.block_mount);
        MountTable::read().is_ok_and(|table| visible.is_some_and(|id| table.find(id).is_some()))
    }
}

const NOT_WRITTEN: &str = "it is still mounted: make room for it and try again, or unmount it with --force and lose what was not written";
/// How long a volume waits, told to end, for those whose containers lie in it.
const INNER: Duration = Duration::from_secs(20);
/// The same for everybody else who uses it.
const OTHERS: Duration = Duration::from_secs(3);
/// How long a forced end waits for what the kernel holds of those volumes, where nothing comes forward.
const INNER_SYNC: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(200);
