//! Headers are compared with what was remembered of them, before a password is asked for.

use std::path::Path;

use super::{Advice, FrontEnd, News};
use crate::{
    error::{Error, ErrorKind, Result},
    format::{Format, Header, Unlocked, native::Native},
    volume::pin::{Pins, Standing},
};

/// When a header is pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinChoice {
    /// When it is opened for the first time.
    FirstUse,
    /// It must be pinned already.
    Require,
    /// Now, whatever it was pinned as.
    Renew,
}

/// What the user wants of pins, and where they are kept.
#[derive(Debug, Clone, Default)]
pub struct PinWish {
    /// What was asked for; what is pinned already is compared without it, too.
    pub choice: Option<PinChoice>,
    /// Nowhere where the user has no home.
    pub pins: Option<Pins>,
}

/// A header that is as pinned, or may be pinned once it was opened.
#[derive(Debug)]
pub(super) struct Pinned<'a> {
    path: &'a Path,
    /// Where there is, or will be, a pin.
    pins: Option<&'a Pins>,
    task: Task,
}

/// What is to be done with a pin after a successful unlock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// Compare once more, now that it is known which header is authentic; let it move on.
    Compare,
    /// Make it, or make it anew: the user asked for it.
    Store,
}

/// Compares the header of the container at `path` with its pin, where there is one.
///
/// # Errors
/// `Tampered` where it is another one, `NotFound` where a pin is demanded and there is none, `Usage` where the format cannot
/// be pinned.
pub(super) fn check<'a>(
    front: &dyn FrontEnd,
    path: &'a Path,
    header: &dyn Header,
    wish: &'a PinWish,
) -> Result<Pinned<'a>> {
    compare(front, path, header, wish)
        .map_err(|error| error.during(format!("cannot open {}", path.display())))
}

fn compare<'a>(
    front: &dyn FrontEnd,
    path: &'a Path,
    header: &dyn Header,
    wish: &'a PinWish,
) -> Result<Pinned<'a>> {
    let (fingerprint, choice) = (header.fingerprint(), wish.choice);
    if choice.is_some() && fingerprint.is_none() {
        let format = header.describe().format;
        let reason = format!("it has no UUID to pin it by ({format})");
        return Err(Error::new(ErrorKind::Usage, reason));
    }
    let nothing = Pinned { path, pins: None, task: Task::Compare };
    let pins = match (&wish.pins, choice) {
        (Some(pins), _) => pins,
        // Who has no home has no pins.
        (None, None) => return Ok(nothing),
        (None, Some(_)) => return Err(nowhere()),
    };
    if choice == Some(PinChoice::Renew) {
        return Ok(Pinned { pins: Some(pins), task: Task::Store, ..nothing });
    }
    match (pins.compare(fingerprint.as_ref(), path)?, choice) {
        (Standing::Changed(changes), _) => Err(changed(front, &changes, header)),
        (Standing::Unknown, Some(PinChoice::Require)) => {
            let error = Error::new(ErrorKind::NotFound, "its header is not pinned");
            Err(super::advised(front, error, &Advice::NotPinned))
        }
        (Standing::Unknown, Some(_)) => Ok(Pinned { pins: Some(pins), task: Task::Store, ..nothing }),
        (Standing::Same, _) => Ok(Pinned { pins: Some(pins), ..nothing }),
        (Standing::Unknown, None) => Ok(nothing),
    }
}

impl Pinned<'_> {
    /// Compares and remembers the header after it was unlocked: only now it is known which copy of it is authentic, and how
    /// far it is.
    ///
    /// # Errors
    /// `Tampered` where the authentic header is not the one that was pinned.
    pub(super) fn keep(self, front: &dyn FrontEnd, header: &dyn Header, unlocked: &Unlocked) -> Result<()> {
        let (Some(pins), Some(fingerprint)) = (self.pins, header.fingerprint_unlocked(unlocked)) else {
            return Ok(());
        };
        if self.task == Task::Compare {
            if let Standing::Changed(changes) = pins.compare(Some(&fingerprint), self.path)? {
                let error = changed(front, &changes, header);
                return Err(error.during(format!("cannot open {}", self.path.display())));
            }
            // Another copy of the container, or a header that its MAC lets move on.
            let pin = pins.find(fingerprint.uuid())?;
            if pin.is_some_and(|pin| !pin.knows(self.path) || pin.is_older_than(&fingerprint))
                && let Err(error) = pins.store(&fingerprint, self.path)
            {
                front.tell(&News::PinNotKept(&error));
            }
            return Ok(());
        }
        let file = pins.store(&fingerprint, self.path)?;
        front.tell(&News::Pinned { path: self.path, header: &fingerprint, file });
        Ok(())
    }
}

fn changed(front: &dyn FrontEnd, changes: &[String], header: &dyn Header) -> Error {
    let reason = format!("its header is not the one that was pinned: {}", some(changes));
    let is_native = header.describe().format == Native.name();
    super::advised(front, Error::new(ErrorKind::Tampered, reason), &Advice::Changed { is_native })
}

/// That a user without a home asks for a pin.
pub fn nowhere() -> Error {
    Error::new(ErrorKind::Usage, "there is nowhere to keep pins: HOME is not set")
}

/// The first few of a list.
pub fn some(changes: &[String]) -> String {
    let shown = changes.iter().take(MOST_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match changes.len().saturating_sub(MOST_SHOWN) {
        0 => shown,
        more => format!("{shown}, and {more} more"),
    }
}

/// Changes that are named in a message.
const MOST_SHOWN: usize = 5;
