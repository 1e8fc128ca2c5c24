//! Changes to the keyslots. There is one header only, and each area is its keyslot's for ever: so what is new is whole on the
//! medium before the header names it, and what replaces something stands elsewhere first.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{ops::Range, sync::Arc};

use zerocopy::{FromBytes, FromZeros};

use super::{
    Luks1,
    create::write_header,
    header::Luks1Header,
    layout::{ACTIVE, FREE, HEADER_LEN, KEYSLOTS, RawHeader, RawKeyslot},
    parse::Parsed,
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
            UNIT,
            cipher::Encryption,
            create::{Creation, new_secret, write_area},
            editor::{
                Occupancy, OpenedBy, changed_meanwhile, in_place_risk, not_in_force, refuse_label, wipe,
            },
            header_of,
            keyslot::{Keyslot, NewArea, material_len},
        },
    },
    storage::Storage,
};

/// The keyslots of a header, being changed.
#[derive(Debug)]
pub(super) struct Luks1Editor {
    base: RawHeader,
    /// The keyslots as they will be.
    slots: Vec<KeyslotInfo>,
    steps: Vec<Step>,
    encryption: Encryption,
    hash: HashKind,
    volume_key: Arc<VolumeKey>,
}

/// One change, in the order in which they were asked for.
#[derive(Debug)]
enum Step {
    Add(Keyslot),
    /// Puts the keyslot in the place of the one of its number, by way of an empty one where there is one.
    Replace {
        new: Keyslot,
        by_way_of: Option<u32>,
    },
    Remove(u32),
}

/// What can be said of the keyslots without secrets.
pub(super) fn occupancy(slots: &[KeyslotInfo]) -> Occupancy {
    let opened_by = |slot: &KeyslotInfo| if slot.is_unknown() { OpenedBy::Nobody } else { OpenedBy::People };
    Occupancy { count: COUNT, used: slots.iter().map(|slot| (slot.slot, opened_by(slot))).collect() }
}

impl Luks1Editor {
    /// Starts from the header as it was read.
    pub(super) fn new(header: &Luks1Header, parsed: &Parsed, volume_key: Arc<VolumeKey>) -> Self {
        Self {
            base: header.raw().clone(),
            slots: parsed.describe_keyslots(),
            steps: Vec::new(),
            encryption: parsed.encryption.clone(),
            hash: parsed.hash,
            volume_key,
        }
    }

    fn occupancy(&self) -> Occupancy {
        occupancy(&self.slots)
    }

    fn seal(&self, slot: u32, new: &NewKeyslot<'_>, rng: &dyn Rng) -> Result<Keyslot> {
        refuse_label(new.label)?;
        if new.priority != Priority::Normal {
            return Err(Error::new(ErrorKind::Usage, "LUKS1 keyslots have no priorities"));
        }
        Luks1::checked_cost(new.cost, self.hash)?;
        let offset = area_offset(raw_slot(&self.base, slot)?);
        let area = NewArea { offset, encryption: &self.encryption, hash: self.hash, priority: None };
        Keyslot::seal(slot, area, new.cost, new_secret(new.credentials)?, &self.volume_key, rng)
    }

    fn area(&self, header: &RawHeader, slot: u32) -> Result<Range<u64>> {
        let start = area_offset(raw_slot(header, slot)?);
        let len = material_len(self.encryption.key_len).unwrap_or_default();
        Ok(start..start.saturating_add(len))
    }

    /// Carries out one step on the medium. `header` is what stands there, before and after.
    fn carry_out(&self, step: &Step, header: &mut RawHeader, storage: &dyn Storage) -> Result<()> {
        match step {
            Step::Add(slot) => {
                // L1-EDIT-01
                write_area(storage, slot).map_err(|error| not_in_force(&error))?;
                activate(header, storage, slot.index, slot)
            }
            Step::Replace { new, by_way_of: None } => {
                // L1-EDIT-05: as cryptsetup does it where all are in use.
                write_area(storage, new)?;
                describe(header, new.index, new)?;
                write_header(storage, header)
            }
            Step::Replace { new, by_way_of: Some(by_way_of) } => {
                // L1-EDIT-03: first beside the old one, then in its place, then no more beside it.
                let beside = self.area(header, *by_way_of)?;
                let twin = new.at(beside.start);
                write_area(storage, &twin).map_err(|error| not_in_force(&error))?;
                activate(header, storage, *by_way_of, new)?;
                write_area(storage, new)?;
                describe(header, new.index, new)?;
                write_header(storage, header)?;
                self.remove_from(storage, header, *by_way_of)
            }
            Step::Remove(slot) => self.remove_from(storage, header, *slot),
        }
    }

    /// L1-EDIT-02: the area first, so that nothing is left of the key where the header calls it free.
    fn remove_from(&self, storage: &dyn Storage, header: &mut RawHeader, slot: u32) -> Result<()> {
        wipe(storage, &self.area(header, slot)?, &OsRng)?;
        raw_slot_mut(header, slot)?.state.set(FREE);
        write_header(storage, header)?;
        let place = raw_slot_mut(header, slot)?;
        place.iterations.set(0);
        place.salt.zero();
        write_header(storage, header)
    }
}

impl Editor for Luks1Editor {
    fn keyslots(&self) -> Vec<KeyslotInfo> {
        self.slots.clone()
    }

    fn add(&mut self, new: &NewKeyslot<'_>, rng: &dyn Rng) -> Result<u32> {
        let slot = self.occupancy().place(new.slot)?;
        let keyslot = self.seal(slot, new, rng)?;
        self.slots.push(keyslot.describe());
        self.slots.sort_by_key(|info| info.slot);
        self.steps.push(Step::Add(keyslot));
        Ok(slot)
    }

    fn replace(&mut self, slot: u32, new: &NewKeyslot<'_>, rng: &dyn Rng) -> Result<()> {
        let occupancy = self.occupancy();
        occupancy.check_in_use(slot)?;
        let by_way_of = occupancy.place(None).ok();
        let keyslot = self.seal(slot, new, rng)?;
        if let Some(info) = self.slots.iter_mut().find(|info| info.slot == slot) {
            *info = keyslot.describe();
        }
        self.steps.push(Step::Replace { new: keyslot, by_way_of });
        Ok(())
    }

    fn remove(&mut self, slot: u32, lock_out: bool) -> Result<()> {
        self.occupancy().check_removal(slot, lock_out)?;
        self.slots.retain(|info| info.slot != slot);
        self.steps.push(Step::Remove(slot));
        Ok(())
    }

    fn risks(&self) -> Vec<String> {
        let in_place = self.steps.iter().filter_map(|step| match step {
            Step::Replace { new, by_way_of: None } => Some(new.index),
            _ => None,
        });
        in_place.map(in_place_risk).collect()
    }

    fn commit(&self, storage: &dyn Storage) -> Result<()> {
        let storage = header_of(storage);
        let mut found = [0; HEADER_LEN];
        storage.read_exact_at(&mut found, 0)?;
        let mut header = RawHeader::read_from_bytes(&found).map_err(|_| changed_meanwhile())?;
        if header != self.base {
            return Err(changed_meanwhile()); // L1-EDIT-04
        }
        // What was read may be in a cache only: its writer may have been killed before it was synced.
        storage.sync_data()?;
        self.steps.iter().try_for_each(|step| self.carry_out(step, &mut header, storage))
    }
}

/// Makes the header name `new` as the keyslot `slot`, which is free. Its state comes last, alone: keyslot 6 lies across two
/// sectors, of which a power cut may leave one old and one new (L1-EDIT-01).
fn activate(header: &mut RawHeader, storage: &dyn Storage, slot: u32, new: &Keyslot) -> Result<()> {
    describe(header, slot, new)?;
    write_header(storage, header)?;
    raw_slot_mut(header, slot)?.state.set(ACTIVE);
    write_header(storage, header)
}

/// Puts salt and iterations of `new` into the keyslot `slot`.
///
/// # Errors
/// `Usage` where there is no such keyslot.
pub(super) fn describe(header: &mut RawHeader, slot: u32, new: &Keyslot) -> Result<()> {
    let KdfCost::Pbkdf2 { iterations, .. } = new.kdf.cost else { return Err(no_such_slot(slot)) };
    let place = raw_slot_mut(header, slot)?;
    place.iterations.set(iterations);
    place.salt.zero();
    for (byte, salt) in place.salt.iter_mut().zip(&new.kdf.salt) {
        *byte = *salt;
    }
    Ok(())
}

fn raw_slot(header: &RawHeader, slot: u32) -> Result<&RawKeyslot> {
    let found = usize::try_from(slot).ok().and_then(|index| header.keyslots.get(index));
    found.ok_or_else(|| no_such_slot(slot))
}

pub(super) fn raw_slot_mut(header: &mut RawHeader, slot: u32) -> Result<&mut RawKeyslot> {
    let found = usize::try_from(slot).ok().and_then(|index| header.keyslots.get_mut(index));
    found.ok_or_else(|| no_such_slot(slot))
}

fn area_offset(slot: &RawKeyslot) -> u64 {
    u64::from(slot.area_offset.get()).saturating_mul(UNIT)
}

fn no_such_slot(slot: u32) -> Error {
    Error::new(ErrorKind::Usage, format!("there is no keyslot {slot}"))
}

const COUNT: u32 = 8;
const _: () = assert!(KEYSLOTS == 8, "the two agree");
