//! Headers copied out of containers and put back, whatever their format.

use std::{fmt, iter, ops::Range};

use super::{Header, HeaderInfo, Unlocked};
use crate::{
    error::{Error, Result},
    storage::Storage,
};

/// What restoring an older header of the same volume means.
pub(super) const OLDER_PASSWORDS: &str =
    "passwords that were changed or removed since open it again, and newer ones do not";

/// The header of a container, to be kept elsewhere. Taking it needed no secret.
pub trait HeaderBackup: fmt::Debug {
    /// The container's identity, where the format has one.
    fn uuid(&self) -> Option<String>;

    /// The copies of the header that are not whole, by name; the backup does without them.
    fn left_out(&self) -> Vec<String>;

    /// Why it may not be the container's newest header.
    fn doubt(&self) -> Option<&str> {
        None
    }

    /// Why no password opens it, where that shows without one.
    fn closed(&self) -> Option<&str> {
        None
    }

    /// Whether all copies are there and say the same. Else the header may just be being changed.
    fn is_settled(&self) -> bool;

    /// Writes the backup into an empty file, syncs it and reads it back.
    ///
    /// # Errors
    /// What writing gave; `Io` where something else is read back.
    fn write(&self, file: &dyn Storage) -> Result<()>;
}

/// A header about to be put in the place of what a container has. What both say was compared: they may belong together.
pub trait HeaderRestore: fmt::Debug {
    /// The header to be restored, to be described and unlocked.
    fn source(&self) -> &dyn Header;

    /// What the container's present header says of itself; `None` where none is whole.
    fn present(&self) -> Option<HeaderInfo>;

    /// Whether the restored header must be unlocked before it is written. Else nobody needs to know a password of it.
    fn takes_secret(&self) -> bool;

    /// Whether what is left in the container shows that the header belongs here, where none is whole that counts.
    fn is_recognised(&self) -> bool {
        false
    }

    /// The bytes at the start of the header's place that are overwritten.
    fn overwritten(&self) -> usize;

    /// What would be lost, where the header that is there belongs to another volume. `unlocked` as for
    /// [`warnings`](Self::warnings).
    fn loses(&self, unlocked: Option<&Unlocked>) -> Option<String> {
        let _ = unlocked;
        None
    }

    /// Why it is refused but at its user's explicit word: the header that is there is another container's, or of another time.
    fn refusal(&self) -> Option<&Error> {
        None
    }

    /// The bytes of the header's place that are overwritten.
    fn places(&self) -> Vec<Range<u64>> {
        let all = 0..u64::try_from(self.overwritten()).unwrap_or(u64::MAX);
        iter::once(all).collect()
    }

    /// What speaks against it, a line each. `unlocked` is what [`source`](Self::source) gave, where it was unlocked.
    fn warnings(&self, unlocked: Option<&Unlocked>) -> Vec<String>;

    /// Whether [`write`](Self::write) would refuse it as it stands: asked before anything is kept or written.
    ///
    /// # Errors
    /// Why it cannot be restored.
    fn check(&self, unlocked: Option<&Unlocked>) -> Result<()> {
        let _ = unlocked;
        Ok(())
    }

    /// Puts it in place; a stop before the end is mended by doing it again. `unlocked` is there where
    /// [`takes_secret`](Self::takes_secret) says so.
    ///
    /// # Errors
    /// What writing gave; the error says whether the restored header is in force.
    fn write(&self, container: &dyn Storage, unlocked: Option<&Unlocked>) -> Result<()>;
}
