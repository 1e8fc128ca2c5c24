//! What speaks against the authentic header copy, or against what stands beside it: then nothing is written under it.

use std::ops::Range;

use super::{
    copy::HeaderCopy,
    data,
    header::{FORGED, NativeHeader, name_of},
    ledger::Ledger,
    slots::outdated,
    superblock::Superblock,
};
use crate::{
    crypto::secret::VolumeKey,
    error::{Error, ErrorKind, Result},
    format::{Header, hyphenated},
};

/// How a container opens, as far as its header shows without the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayIn {
    /// For reading and writing.
    Writable,
    /// For reading; for writing only if records belong to the header, which only the key tells.
    ByRecords,
    /// For reading.
    ReadOnly,
    /// For reading, if at all.
    ReadOnlyAtMost,
    /// Not at all.
    Closed,
}

impl NativeHeader {
    /// NAT-UPD-10: the whole copies of this container that nothing links to `good`, the authentic one under `key`.
    pub(super) fn unlinked_to(&self, good: &HeaderCopy, key: &VolumeKey) -> Vec<HeaderCopy> {
        let all = self.copies.whole().cloned().chain(self.copies.as_they_were(good));
        all.filter(|copy| copy.is_of_same_container(good) && !copy.is_linked_to(good, key)).collect()
    }

    /// What is said of the first of them.
    pub(super) fn unlinked_beside(&self, good: &HeaderCopy, key: &VolumeKey) -> Option<String> {
        let unlinked = self.unlinked_to(good, key).into_iter().next()?;
        let name = |copy: &HeaderCopy| {
            let Superblock { index, sequence, generation, .. } = &copy.superblock;
            format!("copy {index} (offset {}, sequence {sequence}, generation {generation})", copy.offset())
        };
        Some(format!(
            "its header copies do not belong together: {} was made under another volume key than {}, or changed by \
             someone without the key",
            name(&unlinked),
            name(good)
        ))
    }

    /// NAT-UPD-11: where the slots lie that hold records of this container's past or present that are not this header's.
    pub(super) fn alien_slots(&self, good: &HeaderCopy, key: &VolumeKey) -> Vec<Range<u64>> {
        let superblock = &good.superblock;
        let former = || Ledger::new(superblock, &data::old_key(superblock, key).ok()?).ok();
        let ledger = Ledger::new(superblock, key).ok();
        let found = ledger.zip(self.slots_of(superblock));
        found.map(|(ledger, slots)| ledger.alien_slots(former().as_ref(), slots)).unwrap_or_default()
    }

    /// The same with what to say of them; `None` where there are none.
    pub(super) fn alien_records(
        &self,
        good: &HeaderCopy,
        key: &VolumeKey,
    ) -> Option<(Vec<Range<u64>>, String)> {
        let alien = self.alien_slots(good, key);
        let superblock = &good.superblock;
        let (at, own) = (alien.first()?.start, superblock.generation);
        let slots = self.slots_of(superblock)?;
        let said = if let Some(foreign) = slots.foreign(superblock) {
            format!(
                "the records in the work area at offset {at} are of container {}, and the header is of {}: its data may be under \
                 another key",
                hyphenated(&foreign),
                name_of(good)
            )
        } else if let Some(earlier) = slots.earlier_generation(superblock) {
            format!(
                "the records in the work area at offset {at} do not belong to this header: they are of generation {earlier}, and it is \
                 of generation {own}, but no re-encryption under its key has written over them; it is newer than the data, or a copy of \
                 the container that was re-encrypted on its own has it"
            )
        } else {
            format!(
                "the records in the work area at offset {at} do not belong to this header: they are of its generation ({own}), but \
                 were made under another volume key, or changed by someone without the key"
            )
        };
        Some((alien, said))
    }

    /// NAT-REENC-17: where records lie that make `copy` an old header, where it is from the middle of a re-encryption.
    pub(super) fn newer_slots(&self, copy: &HeaderCopy) -> Vec<u64> {
        let superblock = &copy.superblock;
        let slots = self.slots_of(superblock).filter(|_| superblock.reencryption.is_some());
        slots.map(|slots| slots.newer_slots(superblock)).unwrap_or_default()
    }

    /// NAT-REENC-17: the generation of a record in its work areas that makes `superblock` an old one.
    pub(super) fn newer_generation(&self, superblock: &Superblock) -> Option<u32> {
        let slots = self.slots_of(superblock).into_iter().chain(&self.behind);
        slots.filter_map(|slots| slots.newer_generation(superblock)).max()
    }

    /// What to say of a superblock that is an old one, with its volume key where that is known.
    pub(super) fn caution(&self, superblock: &Superblock, key: Option<&VolumeKey>) -> Option<String> {
        let error = outdated(superblock.generation, self.newer_generation(superblock)?);
        let slots = self.slots_of(superblock);
        let is_all_known = key.is_some_and(|key| {
            data::has_ended(superblock, key, slots) || self.resized_since(superblock, key).is_some()
        });
        let what = if is_all_known {
            "the volume reads as it is"
        } else {
            "what was re-encrypted since reads as noise, and what it has grown by does not show"
        };
        Some(format!("{}; {what}", error.reason()))
    }

    /// NAT-REENC-17: refuses a header that records show to be an old one.
    ///
    /// # Errors
    /// `Damaged`.
    pub(super) fn refuse_outdated(&self, superblock: &Superblock) -> Result<()> {
        let newer = self.newer_generation(superblock);
        newer.map_or(Ok(()), |newer| Err(outdated(superblock.generation, newer)))
    }

    /// Whether a record with the uuid of `copy` stands in its work areas; its MAC is not checked.
    pub(super) fn has_records_of(&self, copy: &HeaderCopy) -> bool {
        let superblock = &copy.superblock;
        self.slots_of(superblock).is_some_and(|slots| slots.has_records_of(superblock))
    }

    /// What is said of copies and records that nothing links to `good`.
    pub(super) fn unlinked(&self, good: &HeaderCopy, key: &VolumeKey) -> Option<String> {
        self.unlinked_beside(good, key).or_else(|| self.alien_records(good, key).map(|(_, said)| said))
    }

    /// What the records in the work areas say against `good` (NAT-UPD-11, NAT-REENC-21).
    pub(super) fn records_against(&self, good: &HeaderCopy, key: &VolumeKey) -> Option<String> {
        self.alien_records(good, key).map(|(_, said)| said).or_else(|| self.unfinished(good, key))
    }

    /// How a container with this header opens, as far as that shows without the key.
    pub fn way_in(&self) -> WayIn {
        let current = self.current();
        let newer = self.newer_generation(current);
        if self.copies.current().keyslots.is_empty() && self.check_openable().is_err() {
            return WayIn::Closed;
        }
        if newer.is_some() && current.reencryption.is_some() {
            // NAT-REENC-06: only the key tells whether that one has ended.
            return WayIn::ReadOnlyAtMost;
        }
        let is_too_far = |copy: &HeaderCopy| !copy.is_near(self.copies.current());
        if self.check_complete(self.copies.current()).is_err()
            || self.doubt_in_use().is_some()
            || self.copies.whole().any(is_too_far)
        {
            return WayIn::ReadOnly;
        }
        let has_doubtful_records = self.slots_of(current).is_some_and(|slots| slots.are_doubtful(current));
        if has_doubtful_records { WayIn::ByRecords } else { WayIn::Writable }
    }

    /// What speaks against the copy in use, as far as that shows without the key.
    pub fn doubt_in_use(&self) -> Option<String> {
        self.caution(self.current(), None).or_else(|| self.doubt(self.copies.current()))
    }

    /// What somebody without the key has made of another copy, `good` being the authentic one.
    pub(super) fn forged_beside(&self, good: &HeaderCopy, key: &VolumeKey) -> Option<String> {
        let of_this = || self.copies.whole().filter(|copy| copy.is_of_same_container(good));
        if of_this().any(|copy| copy.is_update_of(good)) {
            return Some(FORGED.to_owned()); // NAT-RD-06
        }
        self.unlinked(good, key).or_else(|| self.unfinished(good, key))
    }

    /// Why it is not certain that the authentic copy `good` is the container's present header: only its owner may say so.
    pub(super) fn doubt(&self, good: &HeaderCopy) -> Option<String> {
        let place = |copy: &HeaderCopy| format!("the one at offset {} to {}", copy.offset(), name_of(copy));
        if let Some(foreign) = self.foreign_to(good).first() {
            let (this, other) = (place(good), place(foreign));
            return Some(format!("its header copies belong to two containers: {this}, {other}")); // NAT-UPD-09
        }
        self.copies.damaged_other(good).map(|damaged| damaged.to_string()) // NAT-UPD-08
    }

    /// Whether the data are as far as this header says (NAT-REENC-21): a header from after the end of a re-encryption may stand
    /// beside data, and records, from the middle of it.
    pub(super) fn check_finished(&self, good: &HeaderCopy, key: &VolumeKey) -> Result<()> {
        self.unfinished(good, key).map_or(Ok(()), |said| {
            let wanted = good.superblock.generation.saturating_sub(1);
            let way = if self.is_detached {
                "name a header file of that time with --header"
            } else {
                "strongroom header repair --scan shows it if it is left here, else a copy of it from that time helps"
            };
            Err(Error::new(ErrorKind::Damaged, said).with_hint(format!(
                "only a header from the middle of it fits (generation {wanted}): {way}; --read-only opens this one"
            )))
        })
    }

    fn unfinished(&self, good: &HeaderCopy, key: &VolumeKey) -> Option<String> {
        let ledger = Ledger::new(&good.superblock, key).ok()?;
        let border = ledger.unfinished(self.slots_of(&good.superblock)?)?;
        Some(format!(
            "this header is from after a re-encryption of which the container has only the first {border} bytes: the rest is still under \
             the old key"
        ))
    }
}
