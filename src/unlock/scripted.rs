//! A front end that answers from a script, and notes what it was asked and told.

use std::{cell::RefCell, collections::VecDeque};

use super::{Advice, FrontEnd, News, Question, Secret, Task, Wanted};
use crate::{
    crypto::secret::Password,
    error::{Error, ErrorKind, Result},
    format::Monitor,
};

/// How it behaves.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Script<'a> {
    /// How often it may be asked for one secret.
    pub(super) tries: u32,
    /// What it answers, in order; after the last one it cancels.
    pub(super) answers: &'a [&'a str],
    /// Whether it says yes.
    pub(super) agrees: bool,
}

pub(super) struct Scripted {
    tries: u32,
    agrees: bool,
    answers: RefCell<VecDeque<String>>,
    seen: RefCell<Vec<String>>,
    watch: Watch,
}

/// A front end that nobody cancels.
#[derive(Debug)]
struct Watch;

impl Monitor for Watch {
    fn derives(&self, _: &'static str, _: usize, _: usize) {}

    fn is_over(&self) -> bool {
        false
    }
}

impl Scripted {
    pub(super) fn new(script: Script<'_>) -> Self {
        let answers = script.answers.iter().map(|answer| (*answer).to_owned()).collect();
        Self {
            tries: script.tries,
            agrees: script.agrees,
            answers: RefCell::new(answers),
            seen: RefCell::default(),
            watch: Watch,
        }
    }

    /// One that is asked three times, as people are.
    pub(super) fn answering<const N: usize>(answers: [&str; N]) -> Self {
        Self::new(Script { tries: 3, answers: &answers, ..Script::default() })
    }

    /// All that it was asked and told since the last time.
    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.take()
    }

    fn note(&self, what: String) {
        self.seen.borrow_mut().push(what);
    }
}

impl FrontEnd for Scripted {
    fn tries(&self, _: &Secret<'_>) -> u32 {
        self.tries
    }

    fn check_source(&self, _: &Secret<'_>) -> Result<()> {
        Ok(())
    }

    fn ask(&self, wanted: &Wanted<'_>) -> Result<Password> {
        let what = match wanted.secret {
            Secret::Password { with_keyfiles: false } => "password".to_owned(),
            Secret::Password { with_keyfiles: true } => "password beside keyfiles".to_owned(),
            Secret::RecoveryKey => "recovery key".to_owned(),
            Secret::Hidden => "hidden".to_owned(),
            Secret::Kept(slot) => slot.name(),
            Secret::TokenPin(token) => format!("PIN of {token}"),
        };
        let refusal = wanted.refusal.map(|refusal| format!(": {refusal}")).unwrap_or_default();
        self.note(format!("{what}{refusal}"));
        let answer = self.answers.borrow_mut().pop_front();
        let answer = answer.ok_or_else(|| Error::new(ErrorKind::Interrupted, "cancelled"))?;
        Ok(Password::copy_of(answer.as_bytes())?)
    }

    fn agrees(&self, question: &Question<'_>) -> Result<bool> {
        self.note(format!("{question:?}"));
        Ok(self.agrees)
    }

    fn touch(&self, token: &str) {
        self.note(format!("touch {token}"));
    }

    fn tell(&self, news: &News<'_>) {
        match news {
            // Whether it does depends on the machine.
            News::MayReachSwap => {}
            News::Keyslot(slot) => self.note(format!("keyslot {slot}")),
            News::Found(found) => self.note(format!(
                "found {} by {:?}, format {}, function {}",
                found.info.format, found.by, found.format_is_news, found.prf_is_news
            )),
            News::OnlyBackupOpened => self.note("only the backup".to_owned()),
            news => self.note(format!("{news:?}")),
        }
    }

    fn advise(&self, advice: &Advice<'_>) -> Option<String> {
        Some(format!("{advice:?}"))
    }

    fn work(&self, _: Task<'_>, work: &mut dyn FnMut()) -> Result<()> {
        work();
        Ok(())
    }

    fn monitor(&self) -> &dyn Monitor {
        &self.watch
    }
}
