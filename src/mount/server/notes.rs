//! What a server notes of its volume for `list`, and tells whoever can be reached.

use super::{Server, files::Found, loss::Loss};
use crate::{
    error::{Error, ErrorKind},
    mount::registry::{Protection, Record, Unwritten},
};

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
            Some(Unwritten::Lost) => format!(
                "{full} was full too long: not everything is in the container; copy what you need to another disk before you unmount"
            ),
            None => format!("{full} has room again: everything was written"),
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
            Unwritten::Lost => Error::new(
                ErrorKind::Busy,
                format!("{full} was full: not everything that was written is saved"),
            )
            .with_hint("copy what you need to another disk first, then unmount with --force"),
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
