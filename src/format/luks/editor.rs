//! What can be said of a change of keyslots without secrets, the same for LUKS1 and LUKS2.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::ops::Range;

use crate::{
    crypto::rng::Rng,
    error::{Error, ErrorKind, Result},
    format::{Change, empty_keyslot, last_tried},
    storage::Storage,
};

/// The keyslots of a header, as far as a change of one depends on the others.
#[derive(Debug, Clone)]
pub(in crate::format) struct Occupancy {
    /// How many there may be.
    pub(in crate::format) count: u32,
    /// Those in use, and what opens them.
    pub(in crate::format) used: Vec<(u32, OpenedBy)>,
}

/// What opens a keyslot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::format) enum OpenedBy {
    /// A password or a keyfile.
    People,
    /// The same, but it is tried only by its number.
    PeopleByNumber,
    /// A token of this type alone.
    Token(String),
    /// Something that is not known here.
    Nobody,
    /// Whatever it is, the key in it is not the volume's.
    OtherKey,
}

impl Occupancy {
    /// Refuses a change that the editor would refuse whatever the secrets are.
    ///
    /// # Errors
    /// As the methods of [`Editor`](crate::format::Editor).
    pub(in crate::format) fn check(&self, change: &Change<'_>) -> Result<()> {
        match *change {
            Change::Add { slot, label } => {
                refuse_label(label)?;
                self.place(slot).map(drop)
            }
            Change::Replace { slot, label } => {
                refuse_label(label)?;
                self.check_in_use(slot)?;
                if self.opened_by(slot) == Some(&OpenedBy::OtherKey) {
                    return Err(unbound(ErrorKind::Usage, slot));
                }
                Ok(())
            }
            // Who comes with the secret of a token may do without a password.
            Change::Remove { slot, lock_out } => self.check_left(slot, lock_out, false),
        }
    }

    /// The number that a new keyslot gets.
    pub(in crate::format) fn place(&self, wanted: Option<u32>) -> Result<u32> {
        let Some(slot) = wanted else {
            let full = || {
                Error::new(ErrorKind::NoSpace, format!("all {} keyslots are in use", self.count))
                    .with_hint("strongroom key remove makes room")
            };
            return (0..self.count).find(|&slot| self.is_free(slot)).ok_or_else(full);
        };
        self.check_exists(slot)?;
        if self.is_free(slot) {
            return Ok(slot);
        }
        if self.opened_by(slot) == Some(&OpenedBy::OtherKey) {
            return Err(unbound(ErrorKind::Exists, slot));
        }
        Err(Error::new(ErrorKind::Exists, format!("keyslot {slot} is in use"))
            .with_hint("strongroom key change replaces it"))
    }

    /// Refuses a keyslot that holds nothing.
    pub(in crate::format) fn check_in_use(&self, slot: u32) -> Result<()> {
        self.check_exists(slot)?;
        if !self.is_free(slot) {
            return Ok(());
        }
        Err(empty_keyslot(slot))
    }

    /// The last keyslot that can be opened, and the last one that people can open, go only where `lock_out` is true.
    pub(in crate::format) fn check_removal(&self, slot: u32, lock_out: bool) -> Result<()> {
        self.check_left(slot, lock_out, true)
    }

    /// As [`Self::check_removal`]; a token is enough to be left where `for_people` is false.
    fn check_left(&self, slot: u32, lock_out: bool, for_people: bool) -> Result<()> {
        self.check_in_use(slot)?;
        let is_way_in = |opened_by: &OpenedBy| !matches!(opened_by, OpenedBy::Nobody | OpenedBy::OtherKey);
        let goes = self.opened_by(slot).filter(|opened_by| is_way_in(opened_by));
        if lock_out || goes.is_none() {
            return Ok(());
        }
        let others = || self.used.iter().filter(|(used, _)| *used != slot);
        let is_last_of_people =
            goes == Some(&OpenedBy::People) && !others().any(|(_, by)| *by == OpenedBy::People);
        // What people can open is worth more than a token.
        let left = others().filter(|(_, by)| is_way_in(by));
        let left = left.max_by_key(|(_, by)| *by == OpenedBy::PeopleByNumber);
        let reason = match left {
            None => format!("keyslot {slot} is the last one: without it nobody can open the container"),
            Some(_) if !for_people || !is_last_of_people => return Ok(()),
            Some((_, OpenedBy::Token(token))) => format!(
                "keyslot {slot} is the last one that people can open: without it a token alone opens the container ({token})"
            ),
            Some((other, _)) => last_tried(slot, *other),
        };
        Err(Error::new(ErrorKind::Usage, reason)
            .with_hint("add another one first; --force removes it anyway"))
    }

    fn opened_by(&self, slot: u32) -> Option<&OpenedBy> {
        self.used.iter().find(|(used, _)| *used == slot).map(|(_, opened_by)| opened_by)
    }

    fn is_free(&self, slot: u32) -> bool {
        self.used.iter().all(|(used, _)| *used != slot)
    }

    fn check_exists(&self, slot: u32) -> Result<()> {
        if slot < self.count {
            return Ok(());
        }
        let last = self.count.saturating_sub(1);
        let reason = format!("there is no keyslot {slot}: they are numbered 0 to {last}");
        Err(Error::new(ErrorKind::Usage, reason))
    }
}

/// A keyslot that holds another key than that of the volume.
pub(in crate::format) fn unbound(kind: ErrorKind, slot: u32) -> Error {
    Error::new(kind, format!("keyslot {slot} is unbound: the key in it is not the volume's"))
        .with_hint("strongroom key list shows the keyslots")
}

/// What a change in place may cost.
pub(in crate::format) fn in_place_risk(slot: u32) -> String {
    format!(
        "there is no room beside keyslot {slot} for the new one, so it is overwritten: a power cut meanwhile leaves neither; a header backup made now would help"
    )
}

/// LUKS has no names for keyslots.
pub(in crate::format) fn refuse_label(label: Option<&str>) -> Result<()> {
    if label.is_none_or(str::is_empty) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Usage, "LUKS keyslots have no labels"))
}

/// Overwrites all of an area with random bytes, syncs and reads back.
///
/// # Errors
/// What writing gave; `Io` where the medium does not hold what was written.
pub(in crate::format) fn wipe(storage: &dyn Storage, area: &Range<u64>, rng: &dyn Rng) -> Result<()> {
    let len = area.end.saturating_sub(area.start);
    let len = usize::try_from(len).map_err(|error| Error::caused_by(ErrorKind::Unsupported, error))?;
    let mut noise = vec![0; len];
    rng.fill(&mut noise)?;
    storage.write_all_at(&noise, area.start)?;
    storage.sync_data()?;
    let mut found = vec![0; len];
    storage.read_exact_at(&mut found, area.start)?;
    if found == noise {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Io, "the medium does not hold what was written"))
}

/// Says that a failure left the header as it was.
pub(in crate::format) fn not_in_force(error: &Error) -> Error {
    let reason = format!("nothing was changed: {}", error.reason());
    Error::new(error.kind(), reason)
}

/// Somebody else was quicker.
pub(in crate::format) fn changed_meanwhile() -> Error {
    Error::new(ErrorKind::Busy, "somebody else changed the header in the meantime").with_hint("try again")
}
