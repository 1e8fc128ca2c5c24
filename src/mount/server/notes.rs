//! What a server notes of its volume for `list`, and tells whoever can be reached.

use std::{
    path::{Path, PathBuf},
    sync::Weak,
    thread,
    time::Duration,
};

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
        registry::{Protection, Record, Unwritten, now},
    },
    sys::freeze,
    text::path::command_word,
};

/// Whether `--save-as` is a way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Save {
    Goes,
    Never,
}

fn forbidden(container: &Path, save: Save) -> Error {
    let container = container.display();
    let reason = format!("{container} cannot be written any more: what was written last is not saved yet");
    let or = if save == Save::Goes { "; or keep all of it with --save-as FILE" } else { "" };
    Error::new(ErrorKind::Busy, reason).with_hint(format!("{ALLOW}, and unmount again{or}"))
}

fn frozen_below(container: &Path, place: Option<PathBuf>) -> Error {
    let reason = format!("the file system that holds {} is frozen", container.display());
    let way_out = match place {
        Some(place) => format!("first: fsfreeze -u {}", command_word(&place)),
        None => "thaw it first: fsfreeze -u".to_owned(),
    };
    Error::new(ErrorKind::Busy, reason).with_hint(way_out)
}

/// How long a failed write takes from the container to the file system.
const MOMENT: Duration = Duration::from_millis(20);
const LENGTHEN: &str = "make it as long as it was (lvextend, or truncate and losetup -c)";
/// The ways out where a write is forbidden.
const ALLOW: &str =
    "make it writable again (chattr -i, mount -o remount,rw, blockdev --setrw, prlimit --fsize or --nofile)";

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
        // Of a disk that is gone more is told.
        let is_new = !was_lost && !self.is_private && !self.medium.is_gone();
        let Some(loss) = Loss::of(found, read_only).filter(|_| is_new) else { return };
        let record = self.session.record();
        let line = loss.notice(record.entry.mountpoint.as_deref().unwrap_or(&record.block_directory));
        self.tell(&line);
    }

    /// Has `list` show whether the medium answers.
    pub(super) fn note_silence(&mut self) {
        let silent = self.files.is_behind();
        if self.session.record().entry.silent != silent {
            self.note(|record| record.entry.silent = silent);
        }
    }

    fn note_found(&mut self, found: &Found) {
        self.note(|record| {
            record.follow(found.container.shown(), found.state());
            record.entry.lost_pieces = found.pieces.as_ref().map(|lost| lost.pieces.clone());
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
        // What was protected is nobody's business who sees the screen.
        let place = self.session.record().place().display();
        self.tell(&format!("{place} is read-only from now on: see strongroom list"));
        self.note(|record| {
            record.entry.read_only = true;
            record.entry.protection = Some(Protection::Triggered);
        });
    }

    /// What came of writes that the medium did not take. Where the file system is served here, programs hear of it, and what they heard
    /// is no loss.
    pub(super) fn unwritten(&self) -> Option<Unwritten> {
        let unwritten = Unwritten::of(&self.shortage);
        let Some(files) = self.session.files.as_ref().and_then(Weak::upgrade) else { return unwritten };
        if unwritten == Some(Unwritten::Lost) && files.is_whole() {
            // It is told of a failure before the file system has heard of that.
            thread::sleep(MOMENT);
        }
        // What a protected hidden volume keeps out is another thing, and told as that.
        let is_kept_out = self.session.record().entry.protection == Some(Protection::Triggered);
        if !files.is_whole() && !is_kept_out {
            // The medium, or the driver itself, failed: nothing is written any more.
            return Some(Unwritten::Lost);
        }
        self.shortage.forgive();
        Unwritten::of(&self.shortage)
    }

    /// Has `list` show that the medium is full, or that it is no longer, and tells whoever can be reached.
    pub(super) fn note_room(&mut self) {
        let unwritten = self.unwritten();
        let record = self.session.record();
        if record.entry.unwritten == unwritten {
            return;
        }
        let container = record.container_named().display();
        let shown = record.entry.mountpoint.as_deref().unwrap_or(&record.block_directory).display();
        let full = format!("{shown}: the disk that holds {container}");
        let line = match unwritten {
            Some(Unwritten::Waiting) => {
                format!("{full} is full: make room there within a minute, or what was written last is lost")
            }
            Some(Unwritten::Forbidden) => {
                format!(
                    "{shown}: {container} cannot be written any more: {ALLOW} within a minute, or what was written last is lost"
                )
            }
            Some(Unwritten::Short) => {
                format!(
                    "{shown}: {container} is shorter than it was: {LENGTHEN} within a minute, or what was written last is lost"
                )
            }
            Some(Unwritten::Lost) => format!(
                "{shown}: {container} could not be written: not everything is in it; copy what you need to another disk, then unmount with --force and mount it again once it can be written"
            ),
            Some(Unwritten::Told) => {
                format!("{full} is full: programs are told so when they write, until there is room again")
            }
            None => format!("{shown}: {container} can be written again: everything is in it"),
        };
        self.tell(&line);
        self.note(|record| {
            let is_lost = unwritten == Some(Unwritten::Lost);
            record.entry.lost_at = is_lost.then(|| record.entry.lost_at.take().unwrap_or_else(now));
            record.entry.unwritten = unwritten;
        });
    }

    /// Why a volume is not taken down by a gentle command while its medium is full.
    pub(super) fn lack(&mut self) -> Option<Error> {
        self.note_room();
        let record = self.session.record();
        let container = record.container_named();
        let full = format!("the disk that holds {}", container.display());
        let is_file = self.container.file().metadata().is_ok_and(|found| found.is_file());
        let is_copied = is_file && self.container.pieces().is_none();
        Some(match record.entry.unwritten? {
            Unwritten::Waiting => {
                Error::new(ErrorKind::Busy, format!("{full} is full: what was written last is not saved yet"))
                    .with_hint(if is_copied {
                        "make room there, and unmount again; or keep all of it on another disk with --save-as FILE"
                    } else {
                        "make room there, and unmount again"
                    })
            }
            Unwritten::Forbidden => forbidden(container, if is_copied { Save::Goes } else { Save::Never }),
            Unwritten::Short => {
                let reason = format!(
                    "{} is shorter than the container needs: what was written last is not saved yet",
                    container.display()
                );
                Error::new(ErrorKind::Busy, reason).with_hint(format!("{LENGTHEN}, and unmount again"))
            }
            Unwritten::Lost => Error::new(
                ErrorKind::Busy,
                format!("not everything that was written is in {}", container.display()),
            )
            .with_hint(
                "copy what you need to another disk first, then unmount with --force and mount it again once it can be written",
            ),
            Unwritten::Told => return None,
        })
    }

    /// Why a volume is not taken down by a gentle command while nothing can be written to its medium. Asks it.
    pub(super) fn refusing_medium(&mut self) -> Option<Error> {
        if self.session.record().entry.read_only || self.is_private {
            return None;
        }
        let container = self.session.record().container_named().to_path_buf();
        if self.container.is_read_only_device() {
            return Some(forbidden(&container, Save::Never));
        }
        match self.ask_medium()? {
            Refusal::Frozen(place) => Some(frozen_below(&container, place)),
            Refusal::Forbidden if self.container.pieces().is_some() => {
                Some(forbidden(&container, Save::Never))
            }
            Refusal::Forbidden => Some(forbidden(&container, Save::Goes)),
        }
    }

    /// The same for a command that saves the container first: what is only forbidden goes to the copy.
    pub(super) fn frozen_medium(&mut self) -> Option<Error> {
        match self.ask_medium()? {
            Refusal::Frozen(place) => Some(frozen_below(self.session.record().container_named(), place)),
            Refusal::Forbidden => None,
        }
    }

    /// Whether a write to the container's file would go. `None` where it would, or where the container is no file.
    pub(super) fn ask_medium(&mut self) -> Option<Refusal> {
        let is_regular = self.container.file().metadata().is_ok_and(|found| found.is_file());
        let is_asked = is_regular && !self.session.record().entry.read_only;
        if is_asked { self.probe.ask(self.container.file()) } else { None }
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
                .with_hint(format!("first: fsfreeze -u {}", command_word(&place)))
        })
    }

    pub(super) fn note(&mut self, change: impl FnOnce(&mut Record)) {
        if let Err(error) = self.session.note(change) {
            (self.log)(&format!("cannot note it for list: {error}"));
        }
    }

    /// Warns whoever can be reached.
    pub(super) fn tell(&self, line: &str) {
        self.contact.tell(&self.log, line);
    }

    /// The same of a volume that is to close by itself.
    pub(super) fn tell_of_closing(&self, line: &str) {
        self.contact.tell_of_closing(&self.log, line);
    }

    /// Tells the desktop what is no warning.
    pub(super) fn inform(&self, line: &str) {
        self.contact.inform(&self.log, line);
    }
}
