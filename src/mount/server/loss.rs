//! The end of a volume whose container has lost its name: what was written must not go with the last descriptor.
//!
//! A command is refused until it says what is to become of the container. Where nobody can be asked (SIGTERM, a logout, an
//! unmount from outside), the container is copied to where it was. Where even that fails, it is held.

use std::{
    fs::File,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use super::{
    Server,
    contact::Contact,
    events::{self, HoldEvent, Signals},
    files::{FileWatch, Found, Place},
    move_home,
    rescue::{LostFile, LostFolder, Rescue, save_folder, standing},
};
use crate::{
    error::{Error, ErrorKind, Result},
    mount::{
        protocol::{self, Command, Failure, Outcome, Rescued},
        save::header_of,
        session::Session,
        undo::{Log, Undo},
        whereabouts::{Body, COPY_FIRST, Lost},
    },
    text::path::command_word,
    volume::{Container, HeldFolder, has_room_for},
};

/// What is lost with the end of the session, and can still be read.
#[derive(Debug)]
pub(super) struct Loss {
    found: Found,
}

impl Loss {
    /// `None` where nothing is: every file bears its name, or has given it to a newer one without being written.
    pub(super) fn of(found: Found, read_only: bool) -> Option<Self> {
        let is_lost = |lost: Option<Lost>, is_linked: bool| match lost {
            Some(Lost::Deleted | Lost::OverwrittenAndDeleted) => true,
            Some(Lost::Replaced | Lost::Overwritten | Lost::OverwrittenAndReplaced) => !read_only,
            Some(Lost::Unreachable | Lost::OverwrittenAndUnreachable) => !read_only || !is_linked,
            None => false,
        };
        let files = [Some(&found.container), found.header.as_ref()].into_iter().flatten();
        let has_lost_files = files.into_iter().any(|place| is_lost(place.lost, place.is_linked));
        let lost = has_lost_files || is_lost(found.pieces.as_ref().map(|pieces| pieces.lost), false);
        lost.then_some(Self { found })
    }

    /// Whether a file goes with its last descriptor; otherwise it stays, and others have written to it, or nobody can reach it.
    pub(super) fn is_nameless(&self) -> bool {
        self.places().any(Place::is_nameless) || self.has_nameless_pieces()
    }

    fn has_nameless_pieces(&self) -> bool {
        self.found.pieces.as_ref().is_some_and(|pieces| pieces.lost.is_nameless())
    }

    /// Whether all stays that was written, on a medium that nobody can reach for now.
    pub(super) fn is_out_of_reach(&self) -> bool {
        !self.is_nameless() && !self.is_damaged()
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        [Some(&self.found.container), self.found.header.as_ref()].into_iter().flatten()
    }

    /// What has become of a file that others have written to.
    pub(super) fn damage(&self) -> Option<Error> {
        self.is_damaged().then(|| {
            let what = if self.is_gone() { GONE } else { "it may be damaged, and not open again" };
            Error::new(ErrorKind::Io, format!("{}: {what}", self.told()))
        })
    }

    fn is_damaged(&self) -> bool {
        self.found.state().is_some_and(Lost::is_overwritten)
            || self.places().any(|place| place.lost.is_some_and(Lost::is_overwritten))
            || self.is_gone()
    }

    /// Whether what was in a piece cannot be read any more.
    fn is_gone(&self) -> bool {
        self.found.pieces.as_ref().is_some_and(|pieces| pieces.is_gone)
    }

    /// What was lost, in words: `its container /a/v was deleted`.
    pub(super) fn told(&self) -> String {
        let told = |what: &str, place: &Place| {
            let by = place.device.as_ref().map(|device| format!(", which {} shows,", device.display()));
            let (path, by) = (place.path.display(), by.unwrap_or_default());
            Some(format!("its {what} {path}{by} {}", place.lost?.told()))
        };
        let header = self.found.header.as_ref().and_then(|place| told("header file", place));
        let what = if self.is_in_pieces() { "header file" } else { "container" };
        let pieces = self.found.pieces.as_ref().map(|loss| {
            let header = &self.found.container.path;
            let folder = header.parent().unwrap_or(header);
            format!("{} {}", loss.pieces.told("its", folder), loss.lost.told())
        });
        let told: Vec<_> =
            told(what, &self.found.container).into_iter().chain(header).chain(pieces).collect();
        told.join(", and ")
    }

    /// Why a volume is not taken down by a command that does not say what is to become of it.
    pub(super) fn refusal(&self, read_only: bool) -> Error {
        if self.is_out_of_reach() {
            return Error::new(ErrorKind::Busy, self.told()).with_hint(
                "bring that file system back first, or keep a copy with --save-as FILE; --force unmounts all the same: what was synced is on it",
            );
        }
        if self.is_damaged() {
            let what = if self.is_gone() { GONE } else { "it may not open again" };
            let reason = format!("{}: {what}", self.told());
            return Error::new(ErrorKind::Busy, reason)
                .with_hint(format!("{COPY_FIRST}; then unmount with --force"));
        }
        if self.has_nameless_pieces() {
            let reason = format!("{}: what was written to it would be lost", self.told());
            return Error::new(ErrorKind::Busy, reason).with_hint(
                "--save-as DIR keeps a copy of the whole folder, which opens with the same password; --force keeps one only where there is room beside it",
            );
        }
        if self.is_in_pieces() {
            let reason = format!("{}, and the pieces open only with what it holds", self.told());
            return Error::new(ErrorKind::Busy, reason).with_hint(
                "--force unmounts, and keeps a copy of that file beside where it was: put that in its place again",
            );
        }
        if self.is_linked() {
            let reason = format!("{}, but the file has another name, which you must know", self.told());
            return Error::new(ErrorKind::Busy, reason).with_hint(
                "--save-as FILE keeps a copy that opens with the same password; --force keeps one as well where there is room",
            );
        }
        let stake = if read_only { "what is in it" } else { "what was written to it" };
        Error::new(ErrorKind::Busy, format!("{}: {stake} would be lost", self.told())).with_hint(
            "--save-as FILE keeps a copy that opens with the same password; --force keeps one only where there is room beside it",
        )
    }

    /// The same where all but the container is down already.
    fn refusal_while_held(&self, read_only: bool) -> Error {
        if !self.is_damaged() {
            return self.refusal(read_only);
        }
        let reason = format!("{}: it may not open again", self.told());
        Error::new(ErrorKind::Busy, reason)
            .with_hint("it is unmounted, and still held: --save-as FILE keeps a copy of it as it is")
    }

    /// Why a copy is not taken for what is in the volume: others have written to what would be copied, and the only view of it ends
    /// with the copy.
    pub(super) fn refusal_to_save(&self) -> Option<Error> {
        let reason = format!("{}: a copy of it may not open either", self.told());
        let hint = format!("{COPY_FIRST}; --save-as FILE --force then unmounts and copies all the same");
        self.damage().map(|_| Error::new(ErrorKind::Busy, reason).with_hint(hint))
    }

    /// What whoever can be reached is told.
    pub(super) fn notice(&self, shown: &Path) -> String {
        let (place, shown) = (command_word(shown), shown.display());
        let told = self.told();
        if self.is_damaged() {
            format!("{shown} is mounted, but {told}: {COPY_FIRST}")
        } else if self.has_nameless_pieces() {
            format!(
                "{shown} is mounted, but {told}: strongroom unmount {place} --save-as DIR keeps what is in it"
            )
        } else if self.is_in_pieces() {
            format!("{shown} is mounted, but {told}: strongroom unmount {place} --force keeps a copy of it")
        } else {
            format!(
                "{shown} is mounted, but {told}: strongroom unmount {place} --save-as FILE keeps what is in it"
            )
        }
    }

    /// Whether only the header file of a folder of pieces is lost.
    const fn is_in_pieces(&self) -> bool {
        matches!(self.found.container.body, Body::Pieces)
    }

    /// Whether each lost file has another name, under which it stays.
    fn is_linked(&self) -> bool {
        self.places().filter(|place| place.lost.is_some()).all(|place| place.is_linked)
    }

    /// The lost files, each with the name that it had.
    fn files<'a>(&'a self, container: &'a Container) -> Vec<(&'a File, &'a Path)> {
        let header = self.found.header.as_ref().zip(container.header_file());
        [(&self.found.container, container.file())]
            .into_iter()
            .chain(header)
            .filter(|(place, _)| place.is_nameless())
            .map(|(place, file)| (file, place.path.as_path()))
            .collect()
    }

    /// Where each lost file can be copied to: under the name that was asked for, else in the folder in which it was, or in the
    /// user's home.
    ///
    /// # Errors
    /// `NoSpace` where there is no room in either.
    pub(super) fn rescue(&self, container: &Container, contact: &Contact) -> Result<Rescue> {
        if let Some(held) = HeldFolder::of(container).filter(|_| self.has_nameless_pieces()) {
            let folder = LostFolder::find(held, &self.found.container.path, contact)?;
            return Ok(Rescue { targets: Vec::new(), folder: Some(folder) });
        }
        let mut targets = Vec::new();
        for (file, path) in self.files(container) {
            let is_container = path == self.found.container.path;
            let wanted = contact.wanted.clone();
            let wanted = wanted.map(|wanted| if is_container { wanted } else { header_of(&wanted) });
            let there = wanted.as_deref().and_then(Path::parent);
            let wanted =
                there.is_some_and(|there| has_room_for(file, there).unwrap_or_default()).then_some(wanted);
            let folder = standing(path);
            let fitting = [Some(folder), contact.home.as_deref()].into_iter().flatten();
            let fitting = fitting.filter(|folder| has_room_for(file, folder).unwrap_or_default());
            let folders: Vec<_> = fitting.map(Path::to_path_buf).collect();
            if folders.is_empty() && wanted.is_none() {
                let reason = format!("there is no room for a copy in {}", folder.display());
                return Err(Error::new(ErrorKind::NoSpace, reason));
            }
            let name = path.file_name().unwrap_or_default().to_owned();
            targets.push(LostFile { file: file.try_clone()?, wanted: wanted.flatten(), folders, name });
        }
        Ok(Rescue { targets, folder: None })
    }
}

impl Loss {
    /// Copies what is lost where that goes, for a command that hears so first. Gives its answer, which also tells of what is gone.
    pub(super) fn rescue_for(
        &self,
        container: &Container,
        contact: &Contact,
        (stream, log): (&UnixStream, &Log),
        lossy: Option<&Error>,
    ) -> Outcome {
        // Whoever asked may have gone.
        let _ = protocol::send(stream, &Outcome::Rescuing(self.told()));
        match self.rescue(container, contact).and_then(|rescue| rescue.make()) {
            Ok(copies) => {
                tell_of_copies(contact, log, &copies);
                Outcome::Rescued(Rescued { copies, lossy: lossy.map(Failure::from) })
            }
            Err(error) => {
                let reason =
                    format!("{}, and what was written to it is gone: {}", self.told(), error.reason());
                Outcome::Lossy(Failure::from(&Error::new(error.kind(), reason)))
            }
        }
    }
}

/// What is said of a piece that lost its name while it was not open.
const GONE: &str = "what was in it is gone";

/// What is left of a session when all but the ciphertext is down: the container, held open until it is saved or given up.
pub(super) struct Held {
    session: Session,
    log: Log,
    signals: Signals,
    control: UnixListener,
    container: Container,
    files: FileWatch,
    contact: Contact,
    /// Who is copying the container.
    saver: Option<UnixStream>,
    /// What went wrong on the way down.
    lossy: Option<Error>,
    /// Whether it went without a copy.
    is_given_up: bool,
}

impl Held {
    /// Takes over from `server`, whose parts are down but for its directory. Its keys go here.
    pub(super) fn new(server: Server, saver: Option<UnixStream>, lossy: Option<Error>) -> Self {
        let Server { session, log, signals, control, container, files, contact, .. } = server;
        Self { session, log, signals, control, container, files, contact, saver, lossy, is_given_up: false }
    }

    /// Lends the container to the command that copies it.
    pub(super) fn lend(&mut self) {
        let Some(stream) = &self.saver else { return };
        let lent = protocol::send(stream, &Outcome::Lent)
            .and_then(|()| protocol::send_container(stream, &self.container));
        if lent.is_err() {
            self.saver = None;
        }
    }

    /// Waits until the container is saved, given up, or has its name again. Says whether all that was written is kept.
    pub(super) fn serve(mut self) -> bool {
        // A record that cannot be written still shows the volume's container as lost.
        let _as_far_as_it_goes = self.session.note(|record| record.is_held = true);
        loop {
            if self.saver.is_none() && self.loss().is_none() {
                break;
            }
            match events::next_while_held(&self.signals, &self.control, self.saver.as_ref()) {
                Ok(HoldEvent::Signal) => {
                    if self.rescue() {
                        break;
                    }
                }
                Ok(HoldEvent::Command(stream)) => {
                    if self.obey(stream) {
                        break;
                    }
                }
                Ok(HoldEvent::Saver) => {
                    if self.is_saved() {
                        break;
                    }
                }
                Ok(HoldEvent::Look) => {
                    if !self.session.is_reachable() {
                        // The next look tries again.
                        let _ = move_home(&mut self.session).map(|control| self.control = control);
                    }
                }
                Err(error) => {
                    (self.log)(&format!("cannot wait for events: {error}"));
                    events::pause();
                }
            }
        }
        // Only the session's directory is left, and the process ends.
        let _ = self.session.parts.undo(Undo::Forced);
        if let Some(saver) = &self.saver {
            // Whoever asked may have gone.
            let _ = protocol::send(saver, &ending(self.lossy.as_ref()));
        }
        self.lossy.is_none() && !self.is_given_up
    }

    fn loss(&mut self) -> Option<Loss> {
        let loss = Loss::of(self.files.look(), self.session.record().entry.read_only);
        loss.filter(|loss| loss.is_nameless() || loss.is_out_of_reach())
    }

    /// Copies what is lost to where it was. True where nothing is lost any more.
    fn rescue(&mut self) -> bool {
        self.session.stop().store(false, Ordering::Relaxed);
        let Some(loss) = self.loss() else { return true };
        let made = loss.rescue(&self.container, &self.contact);
        match made.and_then(|rescue| rescue.make()) {
            Ok(copies) => {
                tell_of_copies(&self.contact, &self.log, &copies);
                true
            }
            Err(error) => {
                (self.log)(&format!("{}, and cannot be saved: {error}", loss.told()));
                false
            }
        }
    }

    /// For a command that will not wait: copied where that goes, or else given up with a word.
    fn give_up(&mut self, stream: UnixStream) {
        if let Some(loss) = self.loss() {
            let answer =
                loss.rescue_for(&self.container, &self.contact, (&stream, &self.log), self.lossy.as_ref());
            // Whoever asked may have gone.
            let _ = protocol::send(&stream, &answer);
            self.is_given_up = !matches!(answer, Outcome::Rescued(_));
            self.saver = None;
        } else {
            self.saver = Some(stream);
        }
    }

    /// Carries out one command. True where the container is given up.
    fn obey(&mut self, stream: UnixStream) -> bool {
        let answer = match events::receive_command(&stream) {
            Ok(Command::Unmount { save: Some(_), .. }) if self.saver.is_some() => {
                Error::new(ErrorKind::Busy, "another command is saving it")
            }
            Ok(Command::Unmount { save: Some(save), .. }) => match save.check(&self.container) {
                Ok(()) if self.container.pieces().is_some() => {
                    let saved = save_folder(&self.container, &save, self.lossy.as_ref());
                    let is_saved = matches!(saved, Outcome::Rescued(_));
                    let _ = protocol::send(&stream, &saved);
                    return is_saved;
                }
                Ok(()) => {
                    self.saver = Some(stream);
                    self.lend();
                    return false;
                }
                Err(error) => error,
            },
            Ok(Command::Unmount { force: true, .. }) => {
                self.give_up(stream);
                return true;
            }
            Ok(Command::Unmount { .. }) => {
                if let Some(loss) = self.loss() {
                    let refusal = loss.refusal_while_held(self.session.record().entry.read_only);
                    let _ = protocol::send(&stream, &Outcome::Kept(Failure::from(&refusal)));
                    return false;
                }
                self.saver = Some(stream);
                return true;
            }
            Ok(Command::Look) => {
                let _ = protocol::send(&stream, &Outcome::Looked);
                return false;
            }
            Ok(_) => {
                Error::new(ErrorKind::Busy, "it is not mounted any more; its container is held to be saved")
            }
            Err(error) => {
                (self.log)(&format!("a command was not understood: {error}"));
                return false;
            }
        };
        let _ = protocol::send(&stream, &Outcome::Failed(Failure::from(&answer)));
        false
    }

    /// Whether the command that copied the container says that it is saved. Otherwise it has gone.
    fn is_saved(&mut self) -> bool {
        let said = self.saver.as_ref().map(protocol::receive::<Command>);
        if matches!(said, Some(Ok(Command::Saved))) {
            return true;
        }
        self.saver = None;
        false
    }
}

/// How a session ended.
pub(super) fn ending(lossy: Option<&Error>) -> Outcome {
    lossy.map_or(Outcome::Done, |error| Outcome::Lossy(Failure::from(error)))
}

/// Says where the copies are that were made unasked.
pub(super) fn tell_of_copies(contact: &Contact, log: &Log, copies: &[PathBuf]) {
    for copy in copies {
        let line =
            format!("a volume whose container was lost was unmounted; a copy of it is in {}", copy.display());
        contact.tell(log, &line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(container: Option<Lost>, header: Option<Lost>) -> Found {
        let place = |path: &str, lost| Place {
            path: path.into(),
            lost,
            is_linked: false,
            device: None,
            body: Body::Itself,
        };
        Found { container: place("/a/v", container), header: Some(place("/a/h", header)), pieces: None }
    }

    #[test]
    fn each_lost_file_is_told() {
        let loss = Loss::of(found(Some(Lost::Deleted), Some(Lost::Replaced)), false).unwrap();
        assert_eq!(loss.told(), "its container /a/v was deleted, and its header file /a/h was replaced");
        let loss = Loss::of(found(None, Some(Lost::Deleted)), true).unwrap();
        assert_eq!(loss.told(), "its header file /a/h was deleted");
    }

    #[test]
    fn a_file_that_others_wrote_to_is_told_and_stays() {
        let loss = Loss::of(found(Some(Lost::Overwritten), None), false).unwrap();
        assert_eq!(loss.told(), "its container /a/v was written to by another program");
        assert!(!loss.is_nameless());
        assert!(Loss::of(found(Some(Lost::Overwritten), None), true).is_none());
        let both = Loss::of(found(Some(Lost::Overwritten), Some(Lost::Deleted)), false).unwrap();
        assert!(both.is_nameless());
    }

    #[test]
    fn a_file_that_others_wrote_to_and_that_lost_its_name_is_both() {
        for lost in
            [Lost::OverwrittenAndDeleted, Lost::OverwrittenAndReplaced, Lost::OverwrittenAndUnreachable]
        {
            let loss = Loss::of(found(Some(lost), None), false).unwrap();
            assert!(loss.is_nameless() && loss.damage().is_some() && loss.refusal_to_save().is_some());
            assert!(!loss.refusal(false).hint().unwrap().contains("opens with"), "{lost:?}");
            assert!(!loss.refusal_while_held(false).hint().unwrap().contains("opens with"), "{lost:?}");
            assert!(!loss.notice(Path::new("/m")).contains("--save-as"), "{lost:?}");
        }
    }

    #[test]
    fn a_container_that_cannot_be_reached_is_lost_with_a_file_system_in_memory_only() {
        let mut found = found(Some(Lost::Unreachable), None);
        let of = |found: &Found, read_only| Loss::of(found.clone(), read_only);
        let told = of(&found, true).unwrap();
        assert!(told.is_nameless() && !told.is_out_of_reach());
        found.container.is_linked = true;
        assert!(of(&found, true).is_none());
        let kept = of(&found, false).unwrap();
        assert!(!kept.is_nameless() && kept.is_out_of_reach());
        assert!(kept.refusal(false).hint().unwrap().contains("--save-as FILE"));
    }

    #[test]
    fn a_file_behind_a_loop_device_is_told_with_the_device() {
        let mut found = found(Some(Lost::Deleted), None);
        found.container.device = Some("/dev/loop7".into());
        assert_eq!(found.container.shown(), Path::new("/dev/loop7"));
        let told = Loss::of(found, false).unwrap().told();
        assert_eq!(told, "its container /a/v, which /dev/loop7 shows, was deleted");
    }

    #[test]
    fn a_newer_file_takes_nothing_from_a_volume_that_was_only_read() {
        assert!(Loss::of(found(Some(Lost::Replaced), None), true).is_none());
        assert!(Loss::of(found(Some(Lost::Replaced), None), false).is_some());
        assert!(Loss::of(found(None, None), false).is_none());
    }
}
