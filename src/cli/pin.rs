//! Where a user's pins are, and what is told of them: unlocking compares headers with them.

use std::path::{Path, PathBuf};

use serde::Serialize;
use strongroom::{
    crypto::secret::VolumeKey,
    error::Result,
    format::{Finding, Header},
    storage::Storage,
    unlock::pin::some,
    volume::pin::{Pins, Standing},
};

use super::{folders, output::Console};

/// Lets the pin of a container follow a change of its keyslots that was just written.
///
/// # Errors
/// `Tampered` where more has changed than that.
pub(crate) fn follow(path: &Path, before: &dyn Header, after: &dyn Header) -> Result<()> {
    let (Some(pins), Some(before), Some(after)) = (pins(), before.fingerprint(), after.fingerprint()) else {
        return Ok(());
    };
    pins.follow(&before, &after, path)
        .map_err(|error| error.during(format!("cannot renew the pin of {}", path.display())))
}

/// Lets the pin of a native container move on to what this program has just written to it, `key` being its volume key. A pin
/// that cannot be written costs no more than a word: it moves on when the container is opened the next time.
pub(crate) fn advance(console: Console, storage: &dyn Storage, key: &VolumeKey) {
    let Some(pins) = pins() else { return };
    if let Err(error) = pins.advance_to(storage, key) {
        console.warn(&error.to_string());
    }
}

/// Forgets which container lay at `path`, where the user has just made a new one.
pub(crate) fn leave(console: Console, path: &Path) {
    if let Some(Err(error)) = pins().map(|pins| pins.leave(path)) {
        console.warn(&error.to_string());
    }
}

/// Where the user's pins are, for a server that is to let them move on.
pub(crate) fn folder() -> Option<PathBuf> {
    pins().map(|pins| pins.folder().to_path_buf())
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
        let (fingerprint, pins) = (header.fingerprint()?, pins()?);
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

/// The user's pins; `None` where the user has no home.
pub(crate) fn pins() -> Option<Pins> {
    let data = folders::of_user("XDG_DATA_HOME", ".local/share")?;
    Some(Pins::new(data.join("strongroom/pins")))
}
