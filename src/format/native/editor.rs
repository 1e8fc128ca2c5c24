//! Changes to the keyslots.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::sync::Arc;

use zerocopy::FromZeros;

use super::{
    copy::HeaderCopy,
    keyslot::{self, Keyslot},
    layout::{KEYSLOTS, RawKeyslot},
    update::write_update,
};
use crate::{
    crypto::{rng::Rng, secret::VolumeKey},
    error::{Error, ErrorKind, Result},
    format::{Change, Editor, KeyslotInfo, NewKeyslot, empty_keyslot, last_tried},
    storage::Storage,
};

/// The keyslots of a header, being changed.
#[derive(Debug)]
pub(super) struct NativeEditor {
    base: HeaderCopy,
    keyslots: Box<[RawKeyslot; KEYSLOTS]>,
    volume_key: Arc<VolumeKey>,
}

impl NativeEditor {
    /// Starts from the authentic copy of the header.
    pub(super) fn new(base: &HeaderCopy, volume_key: Arc<VolumeKey>) -> Self {
        Self { base: base.clone(), keyslots: Box::new(*base.raw_keyslots()), volume_key }
    }

    /// The keyslots in use. Each was parsed or sealed here, so parsing gives them all.
    fn in_use(&self) -> Vec<Keyslot> {
        let parsed = self.keyslots.iter().zip(0_u32..).map(|(raw, index)| Keyslot::parse(raw, index));
        parsed.filter_map(|slot| slot.ok().flatten()).collect()
    }

    fn put(&mut self, slot: u32, raw: &RawKeyslot) -> Result<()> {
        check_exists(slot)?;
        if let Some(place) = usize::try_from(slot).ok().and_then(|index| self.keyslots.get_mut(index)) {
            *place = *raw;
        }
        Ok(())
    }

    fn seal(&mut self, slot: u32, new: &NewKeyslot<'_>, rng: &dyn Rng) -> Result<()> {
        let raw = keyslot::seal(slot, new, &self.base.superblock.uuid, &self.volume_key, rng)?;
        self.put(slot, &raw)
    }
}

impl Editor for NativeEditor {
    fn keyslots(&self) -> Vec<KeyslotInfo> {
        self.in_use().iter().map(Keyslot::describe).collect()
    }

    fn add(&mut self, new: &NewKeyslot<'_>, rng: &dyn Rng) -> Result<u32> {
        let slot = place(&self.in_use(), new.slot)?;
        keyslot::checked_label(new.label)?;
        self.seal(slot, new, rng)?;
        Ok(slot)
    }

    fn replace(&mut self, slot: u32, new: &NewKeyslot<'_>, rng: &dyn Rng) -> Result<()> {
        let in_use = self.in_use();
        check_in_use(&in_use, slot)?;
        let before = in_use.iter().find(|used| used.index == slot).and_then(|used| used.label.text());
        if new.label != before {
            keyslot::checked_label(new.label)?;
        }
        self.seal(slot, new, rng)
    }

    fn remove(&mut self, slot: u32, lock_out: bool) -> Result<()> {
        check_removal(&self.in_use(), slot, lock_out, true)?;
        let mut empty = RawKeyslot::new_zeroed();
        empty.index = slot.into(); // NAT-SLOT-02
        self.put(slot, &empty)
    }

    fn commit(&self, storage: &dyn Storage) -> Result<()> {
        let new = self.base.updated(|raw| raw.keyslots = *self.keyslots, &self.volume_key)?;
        write_update(storage, &self.base, &self.volume_key, &new, &self.volume_key)
    }
}

/// What can be said of a change without secrets, `used` being the keyslots in use.
pub(super) fn check_change(used: &[Keyslot], change: &Change<'_>) -> Result<()> {
    match *change {
        Change::Add { slot, label } => {
            place(used, slot)?;
            keyslot::checked_label(label).map(drop)
        }
        Change::Replace { slot, label } => {
            check_in_use(used, slot)?;
            keyslot::checked_label(label).map(drop)
        }
        // Who comes with the secret of one that is tried only by its number may do with that.
        Change::Remove { slot, lock_out } => check_removal(used, slot, lock_out, false),
    }
}

/// The number that a new keyslot gets.
fn place(used: &[Keyslot], wanted: Option<u32>) -> Result<u32> {
    let is_free = |slot: u32| used.iter().all(|other| other.index != slot);
    let Some(slot) = wanted else {
        let full = || {
            Error::new(ErrorKind::NoSpace, format!("all {KEYSLOTS} keyslots are in use"))
                .with_hint("strongroom key remove makes room")
        };
        return (0..).take(KEYSLOTS).find(|&slot| is_free(slot)).ok_or_else(full);
    };
    check_exists(slot)?;
    if !is_free(slot) {
        return Err(Error::new(ErrorKind::Exists, format!("keyslot {slot} is in use"))
            .with_hint("strongroom key change replaces it"));
    }
    Ok(slot)
}

fn check_in_use(used: &[Keyslot], slot: u32) -> Result<()> {
    check_exists(slot)?;
    if used.iter().any(|used| used.index == slot) {
        return Ok(());
    }
    Err(empty_keyslot(slot))
}

/// The last keyslot that can be opened goes only where `lock_out` is true; so does the last one that is tried by itself, where that is
/// `wanted`.
fn check_removal(used: &[Keyslot], slot: u32, lock_out: bool, wanted: bool) -> Result<()> {
    check_in_use(used, slot)?;
    let is_way_in = |keyslot: &&Keyslot| keyslot.kind.is_known();
    let goes = used.iter().filter(is_way_in).find(|used| used.index == slot);
    let others = || used.iter().filter(is_way_in).filter(|used| used.index != slot);
    let Some(goes) = goes.filter(|_| !lock_out) else { return Ok(()) };
    let reason = match others().max_by_key(|other| other.priority) {
        None => format!("keyslot {slot} is the last one: without it nobody can open the container"),
        Some(other) if wanted && other.priority == 0 && goes.priority > 0 => last_tried(slot, other.index),
        Some(_) => return Ok(()),
    };
    Err(Error::new(ErrorKind::Usage, reason).with_hint("add another one first; --force removes it anyway"))
}

fn check_exists(slot: u32) -> Result<()> {
    if usize::try_from(slot).is_ok_and(|index| index < KEYSLOTS) {
        return Ok(());
    }
    let last = KEYSLOTS.saturating_sub(1);
    Err(Error::new(ErrorKind::Usage, format!("there is no keyslot {slot}: they are numbered 0 to {last}")))
}
