//! Changes to the keyslots: of the JSON tree only what must change, of the areas only places that nothing else uses.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{ops::Range, sync::Arc};

use serde_json::Value;

use super::{
    Luks2,
    copies::Copies,
    copy::HeaderCopy,
    edit::{add_keyslot, keyslot_json, remove_keyslot, replace_keyslot},
    header::describe_slots,
    json::MAX_KEYSLOTS,
    keyslot::Slot,
    metadata::Metadata,
};
use crate::{
    crypto::{
        hash::HashKind,
        kdf::KdfCost,
        rng::{OsRng, Rng},
        secret::VolumeKey,
    },
    error::{Error, ErrorKind, Result},
    format::{
        Editor, KeyslotInfo, NewKeyslot, Priority,
        luks::{
            Place,
            cipher::Encryption,
            cost::checked_cost,
            create::{Creation, new_secret, write_area},
            editor::{Occupancy, OpenedBy, in_place_risk, not_in_force, refuse_label, wipe},
            keyslot::{Keyslot, NewArea, new_area_len},
        },
    },
    storage::Storage,
};

/// The keyslots of a header, being changed.
#[derive(Debug)]
pub(super) struct Luks2Editor {
    base: HeaderCopy,
    json: Value,
    /// What [`Self::json`] says.
    metadata: Metadata,
    encryption: Encryption,
    /// The digest of the volume key.
    digest: u32,
    /// Keyslots whose areas are not written yet.
    new: Vec<Keyslot>,
    /// Areas of keyslots that are removed: no key is to be left in them where the header calls them free.
    removed: Vec<Range<u64>>,
    /// Areas of keyslots that others take the place of: they open until the header names these.
    replaced: Vec<Range<u64>>,
    /// Keyslots that are written over the ones that they replace (L2-EDIT-07).
    in_place: Vec<u32>,
    volume_key: Arc<VolumeKey>,
}

/// What can be said of the keyslots without secrets.
pub(super) fn occupancy(metadata: &Metadata, digest: Option<u32>) -> Occupancy {
    let bound = digest.and_then(|digest| metadata.digests.get(&digest));
    let is_way_in = |slot: u32| bound.is_none_or(|digest| digest.slots.contains(&slot));
    let opened_by = |slot: &Slot| match metadata.doubtful_token_of(slot.index) {
        _ if metadata.is_unbound(slot.index) => OpenedBy::OtherKey,
        _ if slot.usable.is_err() || !is_way_in(slot.index) => OpenedBy::Nobody,
        Some(token) => OpenedBy::Token(token.kind.clone()),
        None if slot.priority == Priority::Ignore => OpenedBy::PeopleByNumber,
        None => OpenedBy::People,
    };
    let used = metadata.slots.iter().map(|slot| (slot.index, opened_by(slot)));
    Occupancy { count: MAX_KEYSLOTS, used: used.collect() }
}

impl Luks2Editor {
    /// Starts from the copy that counts; new areas get the cipher of the data.
    pub(super) fn new(
        base: &HeaderCopy,
        encryption: Encryption,
        digest: u32,
        volume_key: Arc<VolumeKey>,
    ) -> Result<Self> {
        let json = base.json_tree()?;
        let metadata = base.reparsed(&json)?;
        let base = base.duplicate()?;
        let (new, removed, replaced, in_place) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Self { base, json, metadata, encryption, digest, new, removed, replaced, in_place, volume_key })
    }

    fn occupancy(&self) -> Occupancy {
        occupancy(&self.metadata, Some(self.digest))
    }

    /// The first place for an area that no keyslot uses, nor did before this change (L2-EDIT-01).
    fn free_area(&self, len: u64) -> Result<u64> {
        let in_use = self.metadata.slots.iter().filter_map(|slot| slot.place.clone());
        let mut in_use: Vec<_> =
            in_use.chain(self.removed.iter().cloned()).chain(self.replaced.iter().cloned()).collect();
        in_use.sort_by_key(|place| place.start);
        let areas = &self.metadata.areas;
        let mut start = areas.start;
        for place in in_use {
            if place.start.saturating_sub(start) >= len && place.start >= start {
                break;
            }
            start = start.max(place.end).next_multiple_of(4096);
        }
        if areas.end.saturating_sub(start) >= len && start <= areas.end {
            return Ok(start);
        }
        let error = Error::new(ErrorKind::NoSpace, "there is no room for another keyslot's area");
        let people = |(_, opened_by): &&(u32, OpenedBy)| *opened_by == OpenedBy::People;
        let hint = if self.occupancy().used.iter().filter(people).count() > 1 {
            "strongroom key remove makes room"
        } else {
            "its header was made for so few keyslots; strongroom key change gives one another secret"
        };
        Err(error.with_hint(hint))
    }

    /// The place for the area of what replaces keyslot `slot`: beside it, or else, as cryptsetup does it, where it is now
    /// (L2-EDIT-07). True for the latter.
    fn area_of_successor(&self, slot: u32, len: u64) -> Result<(u64, bool)> {
        match (self.free_area(len), self.place_of(slot)) {
            (Err(error), Some(place))
                if error.kind() == ErrorKind::NoSpace && place.end.saturating_sub(place.start) >= len =>
            {
                Ok((place.start, true))
            }
            (area, _) => area.map(|start| (start, false)),
        }
    }

    fn seal(&self, slot: u32, offset: u64, new: &NewKeyslot<'_>, rng: &dyn Rng) -> Result<(Keyslot, Value)> {
        refuse_label(new.label)?;
        let cost = checked_cost(new.cost, Luks2::KDF_KINDS)?;
        let hash = match cost {
            KdfCost::Pbkdf2 { hash, .. } => hash,
            KdfCost::Argon2i(_) | KdfCost::Argon2id(_) => HashKind::Sha256,
        };
        let len = new_area_len(self.volume_key.len())?;
        let area = NewArea { offset, encryption: &self.encryption, hash, priority: Some(new.priority) };
        let keyslot = Keyslot::seal(slot, area, cost, new_secret(new.credentials)?, &self.volume_key, rng)?;
        let json = keyslot_json(&keyslot, len);
        Ok((keyslot, json))
    }

    /// Takes over a changed tree, once it is known to be read again.
    fn accept(&mut self, json: Value) -> Result<()> {
        self.metadata = self.base.reparsed(&json)?;
        self.json = json;
        Ok(())
    }

    fn place_of(&self, slot: u32) -> Option<Range<u64>> {
        self.metadata.slots.iter().find(|found| found.index == slot)?.place.clone()
    }
}

impl Editor for Luks2Editor {
    fn keyslots(&self) -> Vec<KeyslotInfo> {
        describe_slots(&self.metadata)
    }

    fn add(&mut self, new: &NewKeyslot<'_>, rng: &dyn Rng) -> Result<u32> {
        let slot = self.occupancy().place(new.slot)?;
        let offset = self.free_area(new_area_len(self.volume_key.len())?)?;
        let (keyslot, object) = self.seal(slot, offset, new, rng)?;
        let mut json = self.json.clone();
        add_keyslot(&mut json, slot, object, self.digest)?;
        self.accept(json)?;
        self.new.push(keyslot);
        Ok(slot)
    }

    fn replace(&mut self, slot: u32, new: &NewKeyslot<'_>, rng: &dyn Rng) -> Result<()> {
        self.occupancy().check_in_use(slot)?;
        if !self.metadata.digests.get(&self.digest).is_some_and(|digest| digest.slots.contains(&slot)) {
            let reason = format!("keyslot {slot} holds another key than that of the volume");
            return Err(Error::new(ErrorKind::Usage, reason));
        }
        let (offset, in_place) = self.area_of_successor(slot, new_area_len(self.volume_key.len())?)?;
        let (keyslot, object) = self.seal(slot, offset, new, rng)?;
        let mut json = self.json.clone();
        replace_keyslot(&mut json, slot, object)?;
        if in_place {
            self.in_place.push(slot);
        } else {
            self.replaced.extend(self.place_of(slot));
        }
        self.new.retain(|other| other.index != slot);
        self.accept(json)?;
        self.new.push(keyslot);
        Ok(())
    }

    fn remove(&mut self, slot: u32, lock_out: bool) -> Result<()> {
        self.occupancy().check_removal(slot, lock_out)?;
        let mut json = self.json.clone();
        remove_keyslot(&mut json, slot)?;
        self.removed.extend(self.place_of(slot));
        self.new.retain(|other| other.index != slot);
        self.accept(json)
    }

    fn risks(&self) -> Vec<String> {
        self.in_place.iter().copied().map(in_place_risk).collect()
    }

    fn commit(&self, storage: &dyn Storage) -> Result<()> {
        let place = Place::of(storage);
        let copies = Copies::read(place)?;
        copies.check_unchanged(&self.base, place.storage)?; // L2-EDIT-05
        let new = self.base.updated(&self.json, &OsRng)?;
        for slot in &self.new {
            let is_beside = !self.in_place.contains(&slot.index);
            let written = write_area(place.storage, slot); // L2-EDIT-02
            written.map_err(|error| if is_beside { not_in_force(&error) } else { error })?;
        }
        // L2-EDIT-03: nothing is left of a key where the header calls its area free.
        self.removed.iter().try_for_each(|area| wipe(place.storage, area, &OsRng))?;
        copies.make_durable(place.storage)?;
        let (first, second) = (copies.index().other(), copies.index());
        // L2-EDIT-04
        new.write_as(first, place.storage).map_err(|error| {
            let reason = format!("a header copy cannot be written: {}", error.reason());
            Error::new(error.kind(), reason).with_hint(
                "the old keyslots are still there, and the new ones too if the medium kept the write",
            )
        })?;
        new.write_as(second, place.storage)
            .and_then(|()| self.replaced.iter().try_for_each(|area| wipe(place.storage, area, &OsRng)))
            .map_err(|error| {
                let reason =
                    format!("the change is in force, but not all of it is written: {}", error.reason());
                Error::new(error.kind(), reason)
                    .with_hint("what you removed may still be there: do it again once the medium works")
            })
    }
}
