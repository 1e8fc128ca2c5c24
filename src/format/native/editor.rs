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
    format::{Editor, KeyslotInfo, NewKeyslot},
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

    fn is_in_use(&self, slot: u32) -> bool {
        self.in_use().iter().any(|used| used.index == slot)
    }

    fn put(&mut self, slot: u32, raw: &RawKeyslot) -> Result<()> {
        let place = usize::try_from(slot).ok().and_then(|index| self.keyslots.get_mut(index));
        *place.ok_or_else(|| no_such_slot(slot))? = *raw;
        Ok(())
    }

    fn seal(&mut self, slot: u32, new: &NewKeyslot<'_>, rng: &dyn Rng) -> Result<()> {
        let raw = keyslot::seal(slot, new, &self.base.superblock.uuid, &self.volume_key, rng)?;
        self.put(slot, &raw)
    }

    /// The number that a new keyslot gets.
    fn place_for(&self, wanted: Option<u32>) -> Result<u32> {
        let used = self.in_use();
        let is_free = |slot: u32| used.iter().all(|other| other.index != slot);
        match wanted {
            Some(slot) if usize::try_from(slot).is_ok_and(|index| index >= KEYSLOTS) => {
                Err(no_such_slot(slot))
            }
            Some(slot) if !is_free(slot) => {
                Err(Error::new(ErrorKind::Exists, format!("keyslot {slot} is in use"))
                    .with_hint("strongroom key change replaces it"))
            }
            Some(slot) => Ok(slot),
            None => {
                (0..).zip(self.keyslots.iter()).map(|(slot, _)| slot).find(|&slot| is_free(slot)).ok_or_else(
                    || {
                        Error::new(ErrorKind::NoSpace, format!("all {KEYSLOTS} keyslots are in use"))
                            .with_hint("strongroom key remove makes room")
                    },
                )
            }
        }
    }
}

impl Editor for NativeEditor {
    fn keyslots(&self) -> Vec<KeyslotInfo> {
        self.in_use().iter().map(Keyslot::describe).collect()
    }

    fn add(&mut self, new: &NewKeyslot<'_>, rng: &dyn Rng) -> Result<u32> {
        let slot = self.place_for(new.slot)?;
        self.seal(slot, new, rng)?;
        Ok(slot)
    }

    fn replace(&mut self, slot: u32, new: &NewKeyslot<'_>, rng: &dyn Rng) -> Result<()> {
        if !self.is_in_use(slot) {
            return Err(empty_slot(slot));
        }
        self.seal(slot, new, rng)
    }

    fn remove(&mut self, slot: u32, lock_out: bool) -> Result<()> {
        let used = self.in_use();
        let Some(doomed) = used.iter().find(|used| used.index == slot) else { return Err(empty_slot(slot)) };
        let remains = used.iter().any(|other| other.index != slot && other.kind.is_known());
        if doomed.kind.is_known() && !remains && !lock_out {
            let reason = format!("keyslot {slot} is the last one: without it nobody opens the container");
            return Err(Error::new(ErrorKind::Usage, reason)
                .with_hint("add another one first; --force removes it all the same"));
        }
        let mut empty = RawKeyslot::new_zeroed();
        empty.index = slot.into(); // NAT-SLOT-02
        self.put(slot, &empty)
    }

    fn commit(&self, storage: &dyn Storage) -> Result<()> {
        let new = self.base.updated(|raw| raw.keyslots = *self.keyslots, &self.volume_key)?;
        write_update(storage, &self.base, &new, &self.volume_key)
    }
}

fn no_such_slot(slot: u32) -> Error {
    Error::new(ErrorKind::Usage, format!("there is no keyslot {slot}: they are numbered 0 to 29"))
}

fn empty_slot(slot: u32) -> Error {
    Error::new(ErrorKind::NotFound, format!("keyslot {slot} is empty"))
}
