//! What unlocking asks of a front end: secrets, patience, and somebody who is told.

use std::{
    cell::Cell,
    fmt,
    path::{Path, PathBuf},
};

use super::Oddity;
use crate::{
    crypto::{recovery::RecoveryError, secret::Password},
    error::{Error, ErrorKind, Result},
    format::{
        Fingerprint, HeaderInfo, KeyfileRole, KeyslotInfo, Monitor,
        veracrypt::{Place, Prf},
    },
    token::TokenError,
};

/// Whoever a container is unlocked for: a terminal, a window, a service. It puts into words what it is handed as types.
pub trait FrontEnd {
    /// How often `secret` may be asked for: once where it comes from a source that says the same each time.
    fn tries(&self, secret: &Secret<'_>) -> u32;

    /// Fails early where `secret` is to be asked for and there is nobody to ask.
    ///
    /// # Errors
    /// `Usage`.
    fn check_source(&self, secret: &Secret<'_>) -> Result<()>;

    /// Asks for a secret. What [may be left out](Secret::may_be_empty) is empty then.
    ///
    /// # Errors
    /// `Interrupted` where the user wants no more of it, which ends the matter; `Usage` where nothing was given.
    fn ask(&self, wanted: &Wanted<'_>) -> Result<Password>;

    /// Asks a question whose safe answer is no. False also where there is nobody to ask.
    ///
    /// # Errors
    /// `Interrupted`.
    fn agrees(&self, question: &Question<'_>) -> Result<bool>;

    /// Says that the token called `token` waits for a touch.
    fn touch(&self, token: &str);

    /// Says what happened, or what the owner should know.
    fn tell(&self, news: &News<'_>);

    /// The way out, in the words of this front end; `None` where it has none.
    fn advise(&self, advice: &Advice<'_>) -> Option<String>;

    /// Does `work`, once, which leaves nothing behind: so it may be broken off, or given up for good, at any moment.
    ///
    /// # Errors
    /// `Interrupted` where the user wants no more of it, before or after.
    fn work(&self, task: Task<'_>, work: &mut dyn FnMut()) -> Result<()>;

    /// Is told how a long attempt goes, and whether it is cancelled.
    fn monitor(&self) -> &dyn Monitor;
}

/// A secret, by what it is for.
#[derive(Debug, Clone, Copy)]
pub enum Secret<'a> {
    /// What opens the container.
    Password {
        /// Keyfiles are given too, which may be all that it takes.
        with_keyfiles: bool,
    },
    /// The recovery key, as its digits.
    RecoveryKey,
    /// What opens the hidden volume, which is to be protected.
    Hidden,
    /// What opens one keyslot more, which is to be kept: a password or a recovery key.
    Kept(&'a KeyslotInfo),
    /// The PIN of a FIDO2 token of this name.
    TokenPin(&'a str),
}

impl Secret<'_> {
    /// Whether nothing is an answer too.
    pub const fn may_be_empty(&self) -> bool {
        matches!(self, Self::Password { with_keyfiles: true } | Self::Kept(_))
    }
}

/// One question for a secret.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What it is for.
    pub secret: Secret<'a>,
    /// The container, as the user calls it.
    pub container: &'a Path,
    /// What was wrong with the answer before this one.
    pub refusal: Option<Refusal<'a>>,
}

/// What was wrong with a secret. Displays as the fact, in lower case and without a full stop.
#[derive(Debug, Clone, Copy)]
pub enum Refusal<'a> {
    /// It opens nothing.
    Wrong(&'a Error),
    /// It is no recovery key, as its digits tell.
    NoRecoveryKey(&'a RecoveryError),
    /// The token did not take the PIN.
    Pin(&'a TokenError),
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(error) => f.write_str(error.reason()),
            Self::NoRecoveryKey(error) => error.fmt(f),
            Self::Pin(error) => error.fmt(f),
        }
    }
}

/// A question that is answered by yes or no.
#[derive(Debug, Clone, Copy)]
pub enum Question<'a> {
    /// Nothing in this container says what it is: shall it be tried as one of TrueCrypt or VeraCrypt?
    TryOpaque(&'a Path),
}

/// What is told while a container is unlocked.
#[derive(Debug)]
pub enum News<'a> {
    /// This partition alone shows a container, so it is the one that is opened.
    OnlyPartition {
        /// The file or device.
        path: &'a Path,
        /// Its number.
        number: u32,
    },
    /// Keys may reach swap: no more memory can be locked.
    MayReachSwap,
    /// This keyslot opened.
    Keyslot(u32),
    /// What a container turned out to be that said nothing of itself.
    Found(Found),
    /// The header at the start did not open, but the copy at the end did.
    OnlyBackupOpened,
    /// Something speaks against the header, which lets the container be read all the same.
    Flaw {
        /// The container.
        path: &'a Path,
        /// What.
        flaw: &'a str,
    },
    /// The header is pinned from now on.
    Pinned {
        /// The container.
        path: &'a Path,
        /// The header.
        header: &'a Fingerprint,
        /// The pin.
        file: PathBuf,
    },
    /// What was to be added to a pin is lost; the header is as pinned.
    PinNotKept(&'a Error),
    /// The password that the user's keyring remembers has opened it.
    Remembered {
        /// The container.
        path: &'a Path,
    },
    /// It does not open it.
    RememberedWrong {
        /// The container.
        path: &'a Path,
    },
    /// Whether the keyring remembers a password is not known.
    NotTaken {
        /// The container.
        path: &'a Path,
        /// Why.
        error: &'a Error,
    },
    /// The keyring remembers the password from now on.
    Kept {
        /// The container.
        path: &'a Path,
    },
    /// It does not, which was wanted.
    NotKept {
        /// The container.
        path: &'a Path,
        /// Why.
        error: &'a Error,
    },
}

/// What a trial found.
#[derive(Debug)]
pub struct Found {
    /// What the container is.
    pub info: HeaderInfo,
    /// By which header and which function it opened, where it is one of TrueCrypt or VeraCrypt.
    pub by: Option<(Place, Prf)>,
    /// Whether the user could have named the format.
    pub format_is_news: bool,
    /// Whether the user could have named the function, and saved time by that.
    pub prf_is_news: bool,
}

/// What may help after a failure.
#[derive(Debug, Clone, Copy)]
pub enum Advice<'a> {
    /// The keyslots take more memory than allowed.
    AllowMemory,
    /// A keyslot takes so many minutes here, longer than allowed.
    AllowMinutes(u64),
    /// A keyslot takes more iterations than allowed.
    AllowTime,
    /// A token that another program can use opens this keyslot.
    ForeignToken {
        /// The container.
        path: &'a Path,
        /// The keyslot.
        slot: u32,
        /// The token's type.
        token: &'a str,
    },
    /// The container has no recovery key.
    NoRecoveryKey,
    /// What was given is no recovery key.
    RecoveryKeyForm,
    /// The password did not open it.
    Wrong {
        /// What a keyfile is to it.
        role: KeyfileRole,
        /// What may be wrong with its bytes.
        oddity: Option<Oddity>,
    },
    /// The header is not the one that was pinned. Somebody may have restored a backup of it, or have used cryptsetup.
    Changed {
        /// Whether the container is a native one.
        is_native: bool,
    },
    /// A pin is demanded, and there is none.
    NotPinned,
    /// No keyslot takes a FIDO2 token.
    NoTokenKeyslot,
}

/// What takes its time.
#[derive(Debug, Clone, Copy)]
pub enum Task<'a> {
    /// A key is derived.
    Derive,
    /// The key of the hidden volume is derived.
    DeriveHidden,
    /// The file at this path is read, which may be a pipe that never ends.
    Read(&'a Path),
    /// What lies at this path is asked for, on a medium that may not answer.
    Look(&'a Path),
    /// A token is talked to.
    Token,
    /// The user's keyring is talked to, which may have the user asked to unlock it.
    Keyring,
}

/// Does `work` as `front` does it, and gives what it gave.
pub(super) fn at<T>(front: &dyn FrontEnd, task: Task<'_>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let (work, done) = (Cell::new(Some(work)), Cell::new(None));
    front.work(task, &mut || done.set(work.take().map(|work| work())))?;
    done.take().unwrap_or_else(|| Err(Error::new(ErrorKind::Interrupted, "interrupted")))
}
