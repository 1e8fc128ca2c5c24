//! Whether the header opens whose copy has opened.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::{
    Hints, Opened, Place,
    place::Slot,
    trial::{self, Passwords},
};
use crate::{
    crypto::hash,
    error::{ErrorKind, Result},
    format::{Attempt, CopyInfo, CopyState, Finding},
};

/// Where a header was opened that is a copy, tries the original with the function that opened the copy (VC-TRIAL-07).
/// The original itself is given where it opens and the user has not asked for the copy.
///
/// # Errors
/// `Interrupted`, and what keeps the derivation from being carried out.
pub(super) fn tried(
    copy: Opened,
    slots: &[Slot],
    passwords: &Passwords,
    attempt: &Attempt<'_>,
) -> Result<Opened> {
    let Some(place) = copy.place.original() else { return Ok(copy) };
    let Some(slot) = slots.iter().find(|slot| slot.place == place) else { return Ok(copy) };
    let Some(password) = passwords.iter().position(|(family, _)| *family == copy.family()) else {
        return Ok(copy);
    };
    let hints =
        Hints { prf: Some(copy.prf), hidden: place.is_hidden(), backup_header: false, ..attempt.hints };
    let attempt_again = Attempt { hints, ..*attempt };
    let passwords = passwords.get(password..=password).unwrap_or_default();
    match trial::run_once(std::slice::from_ref(slot), passwords, &attempt_again) {
        Ok(original) if !attempt.hints.backup_header => Ok(original),
        // Two containers with one password may lie behind each other.
        Ok(original) => Ok(Opened { original_is_lost: !copy.has_same_keys(&original), ..copy }),
        Err(error) => match error.kind() {
            ErrorKind::Credentials | ErrorKind::Damaged | ErrorKind::Unsupported => {
                Ok(Opened { original_is_lost: true, ..copy })
            }
            _ => Err(error),
        },
    }
}

impl Opened {
    /// Whether what is under the one is under the other.
    pub fn has_same_keys(&self, other: &Self) -> bool {
        self.encryption == other.encryption
            && hash::equal(self.header.keys.as_slice(), other.header.keys.as_slice())
    }

    /// What `info` shows of the header and, where it is a copy that opens alone, of its original.
    pub(super) fn copies(&self, container_len: u64) -> Vec<CopyInfo> {
        let own = CopyInfo { offset: self.offset, state: CopyState::Current, sequence: None };
        let lost = self.lost_original().and_then(|place| {
            let offset = place.offset(container_len)?;
            Some(CopyInfo { offset, state: CopyState::Damaged, sequence: None })
        });
        lost.into_iter().chain([own]).collect()
    }

    /// What `check` tells of an original that does not open.
    pub(super) fn finding_of_original(&self) -> Option<Finding> {
        let place = self.lost_original()?;
        let message = "does not open with what opens its copy: it is damaged, or has another password; header repair writes it anew";
        Some(Finding::warning(place.name(), message))
    }

    fn lost_original(&self) -> Option<Place> {
        self.place.original().filter(|_| self.original_is_lost)
    }
}
