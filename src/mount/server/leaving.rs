//! The way to a server's end: asked for by a command, or by itself; and what becomes of a container that was lost meanwhile.

use std::{os::unix::net::UnixStream, path::Path, sync::atomic::Ordering, time::Duration};

use super::{
    Next, Server,
    ending::{Cause, Ending, Remainder, Waiting},
    files::FileWatch,
    loss::{Loss, ending, tell_of_copies},
    probe::Refusal,
    rescue::{Rescue, save_folder},
    warden::Patience,
};
use crate::{
    error::{Error, ErrorKind, Result},
    mount::{
        protocol::{self, Failure, Outcome, Rescued, Save},
        registry::Unwritten,
        session::DIRECTORY_PART,
        sync::flush,
    },
    text::path::command_word,
    volume::{nameless_copy, while_moving},
};

impl Server {
    /// Takes the volume down for a command.
    pub(super) fn unmount(&mut self, stream: UnixStream, force: bool, save: Option<Save>) -> Next {
        let refused = match &save {
            Some(save) => {
                let spoiled = if force { None } else { self.loss().and_then(|loss| loss.refusal_to_save()) };
                let spoiled = spoiled.map(|refusal| Outcome::Kept(Failure::from(&refusal)));
                let failed = save.check(&self.container).err();
                spoiled.or_else(|| failed.map(|error| Outcome::Failed(Failure::from(&error)))).or_else(|| {
                    let frozen = if force { None } else { self.frozen().or_else(|| self.frozen_medium()) };
                    frozen.map(|refusal| Outcome::Kept(Failure::from(&refusal)))
                })
            }
            None if force => None,
            None => self.refusal().map(|refusal| Outcome::Kept(Failure::from(&refusal))),
        };
        if let Some(refusal) = refused {
            // Whoever asked may have gone; the volume is as it was.
            let _ = protocol::send(&stream, &refusal);
            return Next::Serve;
        }
        if let Some(save) = &save
            && let Err(error) = self.move_if_refused(save, force)
        {
            let _ = protocol::send(&stream, &Outcome::Kept(Failure::from(&error)));
            return Next::Serve;
        }
        if force {
            self.shortage.give_up();
        }
        // What is lost with the end is copied first, where nobody has asked for that.
        let mut loss = if force || save.is_some() { self.loss() } else { None };
        let overwritten = loss.as_ref().and_then(Loss::damage);
        loss = loss.filter(|loss| save.is_none() && loss.is_nameless());
        let kept = if save.is_some() || loss.is_some() { DIRECTORY_PART } else { 0 };
        let patience = if force { Patience::None } else { Patience::Endless };
        let warden = self.warden(stream.try_clone().ok(), patience);
        let lossy = match if force { self.end_by_force(kept) } else { self.end_cleanly(kept) } {
            Ending::Whole => overwritten,
            // Where others wrote to the container, other errors come of that.
            Ending::Lossy(error) => Some(overwritten.unwrap_or(error)),
            Ending::None(error) => {
                let _ = protocol::send(&stream, &Outcome::Failed(Failure::from(&error)));
                return Next::Serve;
            }
            Ending::Held(error) => {
                if let Some(Save { target: Some(target), .. }) = save {
                    self.contact.wanted = Some(target);
                }
                let _ = protocol::send(&stream, &Outcome::Failed(Failure::from(&error)));
                self.watch.linger();
                return Next::Serve;
            }
        };
        if let Some(save) = save.as_ref().filter(|_| self.container.pieces().is_some()) {
            drop(warden);
            return self.save_folder((stream, save), lossy);
        }
        if save.is_some() {
            return Next::Hold { saver: Some(stream), lossy };
        }
        if let Some(loss) = loss {
            drop(warden);
            self.note_held();
            let answer =
                loss.rescue_for(&self.container, &self.contact, (&stream, &self.log), lossy.as_ref());
            let _ = protocol::send(&stream, &answer);
            let is_saved = matches!(answer, Outcome::Rescued(_));
            let mut asked = self.waiting();
            if !is_saved && let Some(saver) = self.take_saver(&mut asked) {
                // Whoever asked first may have been interrupted, and somebody knows where there is room.
                return Next::Hold { saver: Some(saver), lossy };
            }
            self.end_by_force(0);
            asked.extend(self.waiting());
            for waiting in asked {
                waiting.answer(&answer);
            }
            return Next::End(if is_saved { Remainder::after(lossy.as_ref()) } else { Remainder::NotAll });
        }
        warden.stay();
        // Whoever asked may have gone; the volume is down all the same. Others may have asked meanwhile.
        let _ = protocol::send(&stream, &ending(lossy.as_ref()));
        self.answer_waiting(lossy.as_ref());
        Next::End(Remainder::after(lossy.as_ref()))
    }

    /// The volume is down: copies the folder of its pieces for a command, and ends. Where that fails, what was lost is held.
    fn save_folder(&mut self, (stream, save): (UnixStream, &Save), lossy: Option<Error>) -> Next {
        self.note_held();
        let answer = save_folder(&self.container, save, lossy.as_ref());
        // Whoever asked may have gone.
        let _ = protocol::send(&stream, &answer);
        let is_saved = matches!(answer, Outcome::Rescued(_));
        if !is_saved && self.loss().is_some_and(|loss| loss.is_nameless()) {
            return Next::Hold { saver: None, lossy };
        }
        self.end_by_force(0);
        self.answer_waiting(lossy.as_ref());
        Next::End(Remainder::after(lossy.as_ref()))
    }

    /// Why the volume is not taken down now: something would be lost, or cannot be written.
    pub(super) fn refusal(&mut self) -> Option<Error> {
        let read_only = self.session.record().entry.read_only;
        let lost = self.loss().map(|loss| loss.refusal(read_only));
        let refused = lost.or_else(|| self.lack()).or_else(|| self.refusing_medium());
        refused.or_else(|| self.frozen())
    }

    /// Where the container cannot be written any more, or its disk is full, has what was written go to a copy of it that has no name,
    /// in the folder of the copy that was asked for.
    fn move_if_refused(&mut self, save: &Save, force: bool) -> Result<()> {
        self.note_room();
        let unwritten = self.session.record().entry.unwritten;
        if self.container.pieces().is_some() {
            // What waits to be written is not moved to a copy of all pieces.
            let waits = unwritten.is_some_and(Unwritten::waits) && !force;
            let lack = if waits { self.lack() } else { None };
            return lack.or_else(|| self.refusing_medium()).map_or(Ok(()), Err);
        }
        let is_refused =
            unwritten.is_some_and(Unwritten::goes_to_a_copy) || self.ask_medium() == Some(Refusal::Forbidden);
        let Some(folder) = save.target.as_deref().and_then(Path::parent).filter(|_| is_refused) else {
            return Ok(());
        };
        self.shortage.pause(true);
        let copied = nameless_copy(self.container.file(), folder);
        let moved = copied.and_then(|copy| {
            self.container.move_to(copy);
            // From here on the volume ends only with a copy that has a name.
            let shown = self.session.record().entry.container.clone();
            self.files = FileWatch::start_moved(&self.container, &shown)?;
            self.watch.follow(self.files.news().try_clone_to_owned()?);
            Ok(())
        });
        self.shortage.pause(false);
        self.note_files();
        moved
    }

    /// The end without a command. A container that lost its name is copied to where it was; where that cannot be, a volume
    /// that still shows stays, and the ciphertext of one that does not is held.
    pub(super) fn end_by_itself(&mut self, cause: Cause) -> Next {
        if let Some(lack) = self.unsaved(cause) {
            self.session.stop().store(false, Ordering::Relaxed);
            self.tell(&format!("a volume stays mounted: {}", lack.reason()));
            return Next::Serve;
        }
        // One that others wrote to stays where it is.
        let loss = self.loss();
        let overwritten = loss.as_ref().and_then(Loss::damage);
        let Some(loss) = loss.filter(Loss::is_nameless) else {
            let Some(ended) = self.end_for(cause, 0) else { return Next::Serve };
            if let Some(damage) = &overwritten {
                self.tell(&format!("a volume was unmounted: {}", damage.reason()));
            }
            let lossy = ended.lossy().or(overwritten);
            self.answer_waiting(lossy.as_ref());
            if let Some(error) = &lossy {
                (self.log)(&format!("unmounted, but not cleanly: {error}"));
            }
            return Next::End(Remainder::after(lossy.as_ref()));
        };
        let rescue = loss.rescue(&self.container, &self.contact);
        if let (Err(error), true) = (&rescue, self.is_visible()) {
            self.session.stop().store(false, Ordering::Relaxed);
            self.tell(&format!("a volume whose container was lost stays mounted: {error}"));
            return Next::Serve;
        }
        let Some(ended) = self.end_for(cause, DIRECTORY_PART) else { return Next::Serve };
        if let Some(damage) = &overwritten {
            self.tell(&format!("a volume was unmounted: {}", damage.reason()));
        }
        self.save_lost((&loss, rescue), ended.lossy().or(overwritten))
    }

    /// Why what was written cannot be saved yet, and would be lost where a signal ended the volume. What there is no room for shows only
    /// once it is written.
    fn unsaved(&mut self, cause: Cause) -> Option<Error> {
        let entry = self.session.record().entry.clone();
        if cause != Cause::Signal || entry.read_only || !self.is_visible() {
            return None;
        }
        let is_moving = while_moving(LAST_SYNC);
        flush(&entry, || self.unwritten().is_none() && is_moving());
        let lack = self.lack()?;
        let unwritten = self.session.record().entry.unwritten;
        // What was given up may still be read in the volume, and its user makes a copy of that.
        let is_kept = |unwritten: Unwritten| unwritten.waits() || self.shortage.lasts();
        unwritten.is_some_and(is_kept).then_some(lack)
    }

    /// The volume is down, and its container lost: saved as one of those asks who wait for the end, or else where that goes. They are
    /// answered only then.
    fn save_lost(&mut self, (loss, rescue): (&Loss, Result<Rescue>), lossy: Option<Error>) -> Next {
        let mut asked = self.waiting();
        if let Some(saver) = self.take_saver(&mut asked) {
            let busy = Error::new(ErrorKind::Busy, "another command is saving it");
            for waiting in asked {
                waiting.answer(&Outcome::Kept(Failure::from(&busy)));
            }
            return Next::Hold { saver: Some(saver), lossy };
        }
        for waiting in &asked {
            waiting.answer(&Outcome::Rescuing(loss.told()));
        }
        self.note_held();
        let saved = rescue.and_then(|rescue| rescue.make());
        let is_saved = saved.is_ok();
        if let Ok(copies) = &saved {
            tell_of_copies(&self.contact, &self.log, copies);
            self.end_by_force(0);
            asked.extend(self.waiting());
        }
        let kept = Remainder::after(lossy.as_ref());
        let outcome = match saved {
            Ok(copies) => Outcome::Rescued(Rescued { copies, lossy: lossy.as_ref().map(Failure::from) }),
            Err(error) => {
                self.tell(&format!(
                    "a volume whose container was lost was unmounted and could not be saved: {error}"
                ));
                let container = command_word(self.session.record().container_named());
                let reason = format!("{}, and could not be saved: {}", loss.told(), error.reason());
                let error = Error::new(error.kind(), reason).with_hint(format!(
                    "it is unmounted, and still held: strongroom unmount {container} --save-as FILE"
                ));
                Outcome::Kept(Failure::from(&error))
            }
        };
        for waiting in asked {
            waiting.answer(&outcome);
        }
        if is_saved { Next::End(kept) } else { Next::Hold { saver: None, lossy } }
    }

    /// The first of those who asked that can save the container.
    fn take_saver(&self, asked: &mut Vec<Waiting>) -> Option<UnixStream> {
        let fits =
            |waiting: &Waiting| waiting.save.as_ref().is_some_and(|save| save.check(&self.container).is_ok());
        if self.container.pieces().is_some() {
            // The server copies a folder by itself, and they hear where to.
            return None;
        }
        let saver = asked.iter().position(fits)?;
        Some(asked.swap_remove(saver).stream)
    }

    /// Has no impatient command kill what alone holds the container.
    pub(super) fn note_held(&mut self) {
        if let Err(error) = self.session.note(|record| record.is_held = true) {
            (self.log)(&format!("cannot note that the container is held: {error}"));
        }
    }
}

/// How long what the kernel holds may stand still before a signal ends the volume without it.
const LAST_SYNC: Duration = Duration::from_secs(3);
