//! `--pin`: headers are compared with what was remembered of them, before a password is asked for.

use std::path::{Path, PathBuf};

use serde::Serialize;
use strongroom::{
    crypto::secret::VolumeKey,
    error::{Error, ErrorKind, Result},
    format::{Finding, Format, Header, Unlocked, native::Native},
    storage::Storage,
    volume::pin::{Pins, Standing},
};

use super::{args::PinChoice, folders, output::Console};

/// A header that is as pinned, or may be pinned once it was opened.
#[derive(Debug)]
pub(crate) struct Pinned<'a> {
    path: &'a Path,
    /// Where there is, or will be, a pin.
    pins: Option<Pins>,
    /// What is to be done with it after a successful unlock.
    task: Task,
}

/// What is to be done with a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// Compare once more, now that it is known which header is authentic; let it move on.
    Compare,
    /// Make it, or make it anew: the user asked for it.
    Store,
}

/// Compares the header of the container at `path` with its pin, where there is one: also without `--pin`.
///
/// # Errors
/// `Tampered` where it is another one, `NotFound` where a pin is demanded and there is none, `Usage` where the format cannot
/// be pinned.
pub(crate) fn check<'a>(
    path: &'a Path,
    header: &dyn Header,
    choice: Option<PinChoice>,
) -> Result<Pinned<'a>> {
    compare(path, header, choice).map_err(|error| error.during(format!("cannot open {}", path.display())))
}

fn compare<'a>(path: &'a Path, header: &dyn Header, choice: Option<PinChoice>) -> Result<Pinned<'a>> {
    let fingerprint = header.fingerprint();
    if choice.is_some() && fingerprint.is_none() {
        let format = header.describe().format;
        let reason = format!("it has no UUID to pin it by ({format})");
        return Err(Error::new(ErrorKind::Usage, reason));
    }
    let nothing = Pinned { path, pins: None, task: Task::Compare };
    let pins = match (pins(), choice) {
        (Ok(pins), _) => pins,
        // Who has no home has no pins.
        (Err(_), None) => return Ok(nothing),
        (Err(error), Some(_)) => return Err(error),
    };
    if choice == Some(PinChoice::Renew) {
        return Ok(Pinned { pins: Some(pins), task: Task::Store, ..nothing });
    }
    match (pins.compare(fingerprint.as_ref(), path)?, choice) {
        (Standing::Changed(changes), _) => Err(changed(&changes, header.describe().format)),
        (Standing::Unknown, Some(PinChoice::Require)) => {
            let reason = "its header is not pinned";
            Err(Error::new(ErrorKind::NotFound, reason)
                .with_hint("--pin pins it; be sure that it is the right one"))
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
    pub(crate) fn keep(self, console: Console, header: &dyn Header, unlocked: &Unlocked) -> Result<()> {
        let (Some(pins), Some(fingerprint)) = (self.pins, header.fingerprint_unlocked(unlocked)) else {
            return Ok(());
        };
        if self.task == Task::Compare {
            if let Standing::Changed(changes) = pins.compare(Some(&fingerprint), self.path)? {
                let error = changed(&changes, header.describe().format);
                return Err(error.during(format!("cannot open {}", self.path.display())));
            }
            // Another copy of the container, or a header that its MAC lets move on.
            let pin = pins.find(fingerprint.uuid())?;
            if pin.is_some_and(|pin| !pin.knows(self.path) || pin.is_older_than(&fingerprint)) {
                // The header is as pinned; only what was to be added to the pin is lost.
                let stored = pins.store(&fingerprint, self.path);
                stored.map_or_else(|error| console.warn(&error.to_string()), drop);
            }
            return Ok(());
        }
        let file = pins.store(&fingerprint, self.path)?;
        console.note(&format!("pinned the header of {}: {}", self.path.display(), fingerprint.digest()));
        console.detail(&format!("strongroom: the pin is {}", file.display()));
        Ok(())
    }
}

/// Lets the pin of a container follow a change of its keyslots that was just written.
///
/// # Errors
/// `Tampered` where more has changed than that.
pub(crate) fn follow(path: &Path, before: &dyn Header, after: &dyn Header) -> Result<()> {
    let (Ok(pins), Some(before), Some(after)) = (pins(), before.fingerprint(), after.fingerprint()) else {
        return Ok(());
    };
    pins.follow(&before, &after, path)
        .map_err(|error| error.during(format!("cannot renew the pin of {}", path.display())))
}

/// Lets the pin of a native container move on to what this program has just written to it, `key` being its volume key. A pin
/// that cannot be written costs no more than a word: it moves on when the container is opened the next time.
pub(crate) fn advance(console: Console, storage: &dyn Storage, key: &VolumeKey) {
    let Ok(pins) = pins() else { return };
    if let Err(error) = pins.advance_to(storage, key) {
        console.warn(&error.to_string());
    }
}

/// Forgets which container lay at `path`, where the user has just made a new one.
pub(crate) fn leave(console: Console, path: &Path) {
    let left = pins().and_then(|pins| pins.leave(path));
    if let Err(error) = left
        && error.kind() != ErrorKind::Usage
    {
        console.warn(&error.to_string());
    }
}

/// Where the user's pins are, for a server that is to let them move on.
pub(crate) fn folder() -> Option<PathBuf> {
    pins().ok().map(|pins| pins.folder().to_path_buf())
}

/// What `info` tells of a container's pin.
#[derive(Debug, Serialize)]
pub(crate) struct PinInfo {
    /// `same`, `changed` or `none`.
    state: &'static str,
    /// What a pin of the header as it is now would hold; `None` where a MAC lets the header move on.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    /// What has changed since.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<String>,
    /// The pin's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(serialize_with = "strongroom::text::path::optional::serialize")]
    file: Option<PathBuf>,
}

impl PinInfo {
    /// Of the header of the container at `path`. `None` where it could not be pinned.
    pub(crate) fn of(path: &Path, header: &dyn Header) -> Option<Self> {
        let (fingerprint, pins) = (header.fingerprint()?, pins().ok()?);
        let standing = pins.compare(Some(&fingerprint), path);
        let standing = standing.unwrap_or_else(|error| Standing::Changed(vec![error.to_string()]));
        let (state, changes) = match standing {
            Standing::Unknown => ("none", Vec::new()),
            Standing::Same => ("same", Vec::new()),
            Standing::Changed(changes) => ("changed", changes),
        };
        let file = Some(pins.file(fingerprint.uuid())).filter(|file| file.exists());
        let digest = fingerprint.state().is_none().then(|| fingerprint.digest());
        Some(Self { state, digest, changes, file })
    }

    /// What `check` tells.
    pub(crate) fn finding(&self) -> Option<Finding> {
        let message = self.show()?;
        Some(if self.changes.is_empty() {
            Finding::info("pin", message)
        } else {
            Finding::error("pin", message)
        })
    }

    /// A word for people; `None` where there is nothing to tell.
    pub(crate) fn show(&self) -> Option<String> {
        match self.state {
            "none" => None,
            "same" => Some("the header matches its pin".to_owned()),
            _ => Some(format!("CHANGED since it was pinned: {}", some(&self.changes))),
        }
    }
}

fn changed(changes: &[String], format: &str) -> Error {
    let reason = format!("its header is not the one that was pinned: {}", some(changes));
    let whom = if format == Native.name() { "you, with a backup of it?" } else { "you, with cryptsetup?" };
    Error::new(ErrorKind::Tampered, reason).with_hint(format!(
        "enter no password unless you know who changed it ({whom}); --pin=renew accepts the change"
    ))
}

/// The first few of a list.
fn some(changes: &[String]) -> String {
    let shown = changes.iter().take(MOST_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match changes.len().saturating_sub(MOST_SHOWN) {
        0 => shown,
        more => format!("{shown}, and {more} more"),
    }
}

/// The user's pins.
fn pins() -> Result<Pins> {
    let data = folders::of_user("XDG_DATA_HOME", ".local/share");
    let none = || Error::new(ErrorKind::Usage, "there is nowhere to keep pins: HOME is not set");
    Ok(Pins::new(data.ok_or_else(none)?.join("strongroom/pins")))
}

/// Changes that are named in a message.
const MOST_SHOWN: usize = 5;
