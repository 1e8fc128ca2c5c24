//! What a server notes of its volume for `list`, and tells whoever can be reached.

use std::path::Path;

use super::{
    Server,
    files::Found,
    loss::Loss,
    probe::{Refusal, soon},
};
use crate::{
    error::{Error, ErrorKind},
    mount::{
        mountinfo::MountTable,
        registry::{Protection, Record, Unwritten},
    },
    sys::freeze,
};

fn forbidden(container: &Path) -> Error {
    let reason =
        format!("{} cannot be written any more: what was written last is not saved yet", container.display());
    Error::new(ErrorKind::Busy, reason)
        .with_hint(format!("{ALLOW}, and unmount again; or keep all of it with --save-as FILE"))
}

/// The ways out where a write is forbidden.
const ALLOW: &str = "make it writable again (chattr -i, mount -o remount,rw)";

impl Server {
    /// Has `list` show where the container and its header file are now, and tells whoever can be reached if one is lost.
    pub(super) fn note_files(&mut self) {
        let found = self.files.found();
        let was_lost = {
            let entry = &self.session.record().entry;
            entry.container_state.or(entry.header_state).is_some()
        };
        self.note_found(&found);
        let read_only = self.session.record().entry.read_only;
        let is_new = !was_lost && !self.is_private;
        let Some(loss) = Loss::of(found, read_only).filter(|_| is_new) else { return };
        let record = self.session.record();
        let line = loss.notice(record.entry.mountpoint.as_deref().unwrap_or(&record.block_directory));
        self.tell(&line);
    }

    fn note_found(&mut self, found: &Found) {
        self.note(|record| {
            record.follow(found.container.shown(), found.container.lost);
            record.entry.header = found.header.as_ref().map(|header| header.path.clone());
            record.entry.header_state = found.header.as_ref().and_then(|header| header.lost);
        });
    }

    /// What is lost if the session ends now. Looks.
    pub(super) fn loss(&mut self) -> Option<Loss> {
        if self.is_private {
            // A container in the making, which whoever makes it may give up.
            return None;
        }
        let found = self.files.look();
        self.note_found(&found);
        Loss::of(found, self.session.record().entry.read_only)
    }

    /// Has `list` show that nothing is written any more: a write would have touched the protected hidden volume.
    pub(super) fn note_refusal(&mut self) {
        (self.log)(
            "a write would have touched the protected hidden volume: every write is refused from now on",
        );
        self.note(|record| {
            record.entry.read_only = true;
            record.entry.protection = Some(Protection::Triggered);
        });
    }

    /// Has `list` show that the medium is full, or that it is no longer, and tells whoever can be reached.
    pub(super) fn note_room(&mut self) {
        let unwritten = Unwritten::of(&self.shortage);
        let record = self.session.record();
        if record.entry.unwritten == unwritten {
            return;
        }
        let container = record.entry.container.display();
        let shown = record.entry.mountpoint.as_deref().unwrap_or(&record.block_directory).display();
        let full = format!("{shown}: the disk that holds {container}");
        let line = match unwritten {
            Some(Unwritten::Waiting) => {
                format!("{full} is full: make room there within a minute, or what was written last is lost")
            }
            Some(Unwritten::Forbidden) => {
                format!(
                    "{shown}: {container} cannot be written any more: {ALLOW}, or what was written last is lost"
                )
            }
            Some(Unwritten::Lost) => format!(
                "{shown}: {container} could not be written for too long: not everything is in it; copy what you need to another disk before you unmount"
            ),
            None => format!("{shown}: {container} can be written again: everything is in it"),
        };
        self.tell(&line);
        self.note(|record| record.entry.unwritten = unwritten);
    }

    /// Why a volume is not taken down by a gentle command while its medium is full.
    pub(super) fn lack(&mut self) -> Option<Error> {
        self.note_room();
        let entry = &self.session.record().entry;
        let full = format!("the disk that holds {}", entry.container.display());
        Some(match entry.unwritten? {
            Unwritten::Waiting => {
                Error::new(ErrorKind::Busy, format!("{full} is full: what was written last is not saved yet"))
                    .with_hint("make room there, and unmount again")
            }
            Unwritten::Forbidden => forbidden(&entry.container),
            Unwritten::Lost => Error::new(
                ErrorKind::Busy,
                format!("not everything that was written is in {}", entry.container.display()),
            )
            .with_hint("copy what you need to another disk first, then unmount with --force"),
        })
    }

    /// Why a volume is not taken down by a gentle command while nothing can be written to its medium. Asks it.
    pub(super) fn refusing_medium(&mut self) -> Option<Error> {
        let container = self.session.record().entry.container.clone();
        let is_regular = self.container.file().metadata().is_ok_and(|found| found.is_file());
        if self.session.record().entry.read_only || !is_regular || self.is_private {
            return None;
        }
        match self.probe.ask(self.container.file())? {
            Refusal::Frozen(place) => {
                let reason = format!("the file system that holds {} is frozen", container.display());
                let error = Error::new(ErrorKind::Busy, reason);
                Some(match place {
                    Some(place) => error.with_hint(format!("first: fsfreeze -u '{}'", place.display())),
                    None => error.with_hint("thaw it first: fsfreeze -u"),
                })
            }
            Refusal::Forbidden => Some(forbidden(&container)),
        }
    }

    /// Why a volume is not taken down by a gentle command while its own file system is frozen: nobody could thaw it any more.
    pub(super) fn frozen(&mut self) -> Option<Error> {
        let record = self.session.record();
        if record.entry.driver != "kernel" || record.entry.read_only {
            return None;
        }
        let place = MountTable::read().ok()?.place_of(record.mount?).ok()??.to_path_buf();
        let asked = place.clone();
        let is_frozen = soon(move || Ok(freeze::is_frozen(&asked)?))?.ok()?;
        is_frozen.then(|| {
            Error::new(ErrorKind::Busy, "its file system is frozen")
                .with_hint(format!("first: fsfreeze -u '{}'", place.display()))
        })
    }

    fn note(&mut self, change: impl FnOnce(&mut Record)) {
        if let Err(error) = self.session.note(change) {
            (self.log)(&format!("cannot note it for list: {error}"));
        }
    }

    /// Tells whoever can be reached.
    pub(super) fn tell(&self, line: &str) {
        (self.log)(line);
        if let Some(terminal) = &self.contact.terminal {
            terminal.tell(line);
        }
    }
}
