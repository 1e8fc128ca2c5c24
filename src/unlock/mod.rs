//! Unlocking for whoever asks: which secret it takes, how often it may be wrong, what is said on the way.
//!
//! [`Unlocking`] decides and knows no words; a [`FrontEnd`] asks, shows and has them. The command line is one, a window or a service would
//! be others.

mod asking;
mod front;
pub mod keyfiles;
pub mod limits;
mod oddity;
pub mod opening;
pub mod pin;
mod remembered;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod tests;
pub mod token;

pub use asking::credentials;
pub use front::{Advice, Found, FrontEnd, News, Question, Refusal, Secret, Task, Wanted};
pub use limits::Most;
pub use oddity::Oddity;
pub use opening::{HeaderFile, Known, Part};
pub use pin::{PinChoice, PinWish};
pub use remembered::{Remembering, name_in_keyring};

use std::path::{Path, PathBuf};

use crate::{
    crypto::{recovery, secret::Credentials},
    error::{Error, ErrorKind, Result},
    format::{
        Attempt, Header, KeyfileRole, KeyslotInfo, Unlocked,
        native::SlotKind,
        veracrypt::{self, Family},
    },
    sys::memory::is_any_secret_unlocked,
};
use asking::Asking;
use front::at;

/// What opens a container.
#[derive(Debug, Clone, Copy)]
pub enum Means<'a> {
    /// A password, keyfiles, or both.
    Password {
        /// The keyfiles, in the order given.
        keyfiles: &'a [PathBuf],
        /// Whether the user named a source for the password: beside a keyfile that is all of the secret there is none.
        is_named: bool,
    },
    /// A recovery key.
    RecoveryKey,
    /// A FIDO2 token.
    Token,
}

impl Means<'_> {
    /// The secret that opens a container to which a keyfile is `role`; `None` where a keyfile is all of it, and for a token, of which it
    /// shows later whether it has a PIN.
    pub fn secret(&self, role: KeyfileRole) -> Option<Secret<'static>> {
        match self {
            Self::Token => None,
            Self::RecoveryKey => Some(Secret::RecoveryKey),
            Self::Password { keyfiles, .. } if keyfiles::is_all(role, keyfiles) => None,
            Self::Password { keyfiles, .. } => Some(Secret::Password { with_keyfiles: !keyfiles.is_empty() }),
        }
    }
}

/// What the user said of a container and of what opens it.
#[derive(Debug)]
pub struct Wish<'a> {
    /// What opens it.
    pub means: Means<'a>,
    /// The only keyslot to try.
    pub keyslot: Option<u32>,
    /// How far to go.
    pub most: Most,
    /// What is known of the container.
    pub known: Known<'a>,
    /// What is wanted of pins.
    pub pin: PinWish,
    /// What is wanted of the user's keyring.
    pub remembering: Remembering<'a>,
}

/// A container that is to be unlocked for a front end.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "a front end has none")]
pub struct Unlocking<'a> {
    /// Who is asked and told.
    pub front: &'a dyn FrontEnd,
    /// The container, as the user calls it.
    pub path: &'a Path,
    /// Its header.
    pub header: &'a dyn Header,
    /// What the user said.
    pub wish: &'a Wish<'a>,
}

impl Unlocking<'_> {
    /// The secret that it takes.
    fn secret(&self) -> Option<Secret<'static>> {
        self.wish.means.secret(self.header.keyfile_role())
    }

    /// Unlocks it, and tells what speaks against the header.
    ///
    /// # Errors
    /// As [`Self::unlock_to_write`].
    pub fn unlock(&self) -> Result<Unlocked> {
        let (unlocked, _) = self.unlock_to_write()?;
        for flaw in self.header.warnings(&unlocked) {
            self.front.tell(&News::Flaw { path: self.path, flaw: &flaw });
        }
        Ok(unlocked)
    }

    /// The same for those who go on to write: what speaks against the header makes them refuse, so nothing is said of it here.
    /// Gives the credentials as well, to be used again.
    ///
    /// # Errors
    /// `Tampered` where the header is not as it was pinned, before anything is asked for; `Credentials` after the last try;
    /// `Interrupted` where the user wants no more; what [`Header::unlock`] gives.
    pub fn unlock_to_write(&self) -> Result<(Unlocked, Credentials)> {
        let pinned = pin::check(self.front, self.path, self.header, &self.wish.pin)?;
        self.header.check_openable().map_err(|error| self.cannot(error))?;
        let opened = self.open()?;
        pinned.keep(self.front, self.header, &opened.0)?;
        Ok(opened)
    }

    /// Opens the hidden volume in a container whose outer one is open, with a secret of its own.
    ///
    /// # Errors
    /// `Credentials` after the last try, `Interrupted`, what [`Header::unlock`] gives.
    pub fn unlock_hidden(&self, hints: veracrypt::Hints, keyfiles: &[PathBuf]) -> Result<Unlocked> {
        let limits = limits::limits(self.wish.most, self.header)?;
        let attempt = Attempt { limits, hints, ..Attempt::default() };
        let keyfiles = keyfiles::digests(self.front, KeyfileRole::Pool, keyfiles, keyfiles::Use::Old)?;
        let mut credentials =
            Credentials::Password { password: self.asking().ask(Secret::Hidden, None)?, keyfiles };
        let opened = self.try_until_open(Some(Secret::Hidden), &attempt, &mut credentials);
        opened.map_err(|error| error.during("cannot open the hidden volume to protect it"))
    }

    /// Asks for what opens a keyslot that is to be kept. `None` where the user has nothing to give.
    ///
    /// # Errors
    /// `Credentials` after the last try, `Interrupted`, what [`Header::unlock`] gives.
    pub fn unlock_kept(&self, slot: &KeyslotInfo) -> Result<Option<Credentials>> {
        let limits = limits::limits(self.wish.most, self.header)?;
        let attempt = Attempt { limits, keyslot: Some(slot.slot), ..Attempt::default() };
        let is_recovery = slot.kind == SlotKind::Recovery.name();
        let secret = Secret::Kept(slot);
        let mut failure = None;
        for _ in 0..self.front.tries(&secret) {
            let answer = self.asking().ask(secret, failure.as_ref().map(Refusal::Wrong))?;
            if answer.is_empty() {
                return Ok(None);
            }
            let credentials = if is_recovery {
                recovery::decode(answer.expose())
                    .map(Credentials::Recovery)
                    .map_err(|error| self.asking().no_key(error))
            } else {
                Ok(Credentials::Password { password: answer, keyfiles: Vec::new() })
            };
            let opened = credentials.and_then(|credentials| {
                at(self.front, Task::Derive, || self.header.unlock(&credentials, &attempt))
                    .map(|_| credentials)
            });
            match opened {
                Ok(credentials) => return Ok(Some(credentials)),
                Err(error) if error.kind() == ErrorKind::Credentials => failure = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Credentials, format!("{} does not open", slot.name())))
    }

    fn open(&self) -> Result<(Unlocked, Credentials)> {
        let Self { front, header, wish, .. } = self;
        let attempt = Attempt {
            limits: limits::limits(wish.most, *header)?,
            keyslot: wish.keyslot,
            hints: wish.known.hints,
            freeotfe: wish.known.freeotfe.unwrap_or_default(),
            monitor: Some(front.monitor()),
        };
        let role = header.keyfile_role();
        match wish.means {
            Means::Token => {
                let opened = token::unlock(*front, self.path, *header, &attempt);
                let opened = opened.map_err(|error| self.cannot(error))?;
                self.tell_keyslot(&opened.0);
                return Ok(opened);
            }
            Means::RecoveryKey => self.expect_recovery_key()?,
            Means::Password { keyfiles, .. } => {
                let checked = header.check_takes_password(!keyfiles.is_empty(), wish.keyslot);
                checked.map_err(|error| self.explain(error, &attempt))?;
            }
        }
        if let Some(opened) = self.open_remembered(&attempt)? {
            return Ok(opened);
        }
        let secret = self.secret();
        let mut credentials = credentials(*front, self.path, &wish.means, role)?;
        let opened = self.try_until_open(secret, &attempt, &mut credentials).map_err(|error| {
            let is_typed_wrongly = error.kind() == ErrorKind::Credentials && secret.is_some();
            let error = self.explain(error, &attempt);
            let advice = Advice::Wrong { role, oddity: Oddity::of(&credentials, role) };
            match front.advise(&advice).filter(|_| is_typed_wrongly) {
                Some(way) => error.with_first_hint(way),
                None => error,
            }
        })?;
        self.tell_opened(&opened);
        self.remember(&credentials);
        Ok((opened, credentials))
    }

    /// Tries what was given, and asks again for the secret that was wrong. Keyfiles stay: one may be a pipe, and where one is all of
    /// it there is nothing to ask.
    fn try_until_open(
        &self,
        secret: Option<Secret<'_>>,
        attempt: &Attempt<'_>,
        credentials: &mut Credentials,
    ) -> Result<Unlocked> {
        let task = if matches!(secret, Some(Secret::Hidden)) { Task::DeriveHidden } else { Task::Derive };
        let mut tries_left = secret.map_or(1, |secret| self.front.tries(&secret));
        loop {
            if is_any_secret_unlocked() {
                self.front.tell(&News::MayReachSwap);
            }
            let unlocked = at(self.front, task, || self.header.unlock(credentials, attempt));
            tries_left = tries_left.saturating_sub(1);
            let (refusal, secret) = match (unlocked, secret) {
                (Err(error), Some(secret)) if error.kind() == ErrorKind::Credentials && tries_left > 0 => {
                    (error, secret)
                }
                (done, _) => return done,
            };
            self.asking().again(secret, Refusal::Wrong(&refusal), credentials)?;
        }
    }

    fn asking(&self) -> Asking<'_> {
        Asking { front: self.front, path: self.path }
    }

    /// Seventeen groups of digits are typed only where they can open something.
    fn expect_recovery_key(&self) -> Result<()> {
        let keyslots = self.header.describe().keyslots;
        if keyslots.is_empty() || keyslots.iter().any(|keyslot| keyslot.kind == SlotKind::Recovery.name()) {
            return Ok(());
        }
        let error = self.cannot(Error::new(ErrorKind::Credentials, "it has no recovery key"));
        Err(advised(self.front, error, &Advice::NoRecoveryKey))
    }

    /// Says which container it was, and what may help.
    fn explain(&self, error: Error, attempt: &Attempt<'_>) -> Error {
        let error = self.cannot(error);
        let keyslots = self.header.describe().keyslots;
        let foreign = keyslots.iter().find_map(|slot| Some((slot.slot, slot.token.as_deref()?)));
        if let (ErrorKind::Credentials, Some((slot, token))) = (error.kind(), foreign) {
            return advised(self.front, error, &Advice::ForeignToken { path: self.path, slot, token });
        }
        match limits::advice(error.kind(), self.header, &attempt.limits) {
            Some(advice) => advised(self.front, error, &advice),
            None => error,
        }
    }

    fn cannot(&self, error: Error) -> Error {
        // Who wants no more of it knows of what.
        if error.kind() == ErrorKind::Interrupted {
            return error;
        }
        error.during(format!("cannot unlock {}", self.path.display()))
    }

    fn tell_keyslot(&self, unlocked: &Unlocked) {
        if let Some(slot) = unlocked.keyslot {
            self.front.tell(&News::Keyslot(slot));
        }
    }

    /// Tells what opened, what a trial found, and how to have it faster next time.
    fn tell_opened(&self, unlocked: &Unlocked) {
        self.tell_keyslot(unlocked);
        if !self.header.is_opaque() {
            return;
        }
        let (known, info) = (&self.wish.known, self.header.describe_unlocked(unlocked));
        let is_pool = self.header.keyfile_role() == KeyfileRole::Pool;
        let by = is_pool.then(|| veracrypt::Opened::of_key(&unlocked.volume_key).ok()).flatten();
        let by = by.map(|opened| (opened.place, opened.prf));
        // All of TrueCrypt's functions together take no time.
        let prf_is_news = known.hints.prf.is_none() && info.format != Family::TrueCrypt.name();
        let format_is_news = known.file.format.is_none() && known.hints == veracrypt::Hints::NONE;
        self.front.tell(&News::Found(Found { info, by, format_is_news, prf_is_news }));
        if by.is_some_and(|(place, _)| place.is_backup()) && !known.hints.backup_header {
            self.front.tell(&News::OnlyBackupOpened);
        }
    }
}

/// The error with the way out, in the front end's words.
fn advised(front: &dyn FrontEnd, error: Error, advice: &Advice<'_>) -> Error {
    match front.advise(advice) {
        Some(way) => error.with_hint(way),
        None => error,
    }
}

/// How often a person is asked for a secret, where nothing else is said. A token takes eight PINs before it locks itself.
pub const TRIES: u32 = 3;
