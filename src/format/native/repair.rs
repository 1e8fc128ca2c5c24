//! Bringing header copies up to the authentic one (NAT-UPD-04).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{fmt, ops::Range};

use super::{
    backup::ForeignCopy,
    copy::HeaderCopy,
    error::HeaderError,
    header::{NativeHeader, name_of},
    header_file::HeaderFile,
    layout::COPY_LEN_U64,
    ledger::Ledger,
    remains::DamagedOther,
    resize::finish_begun,
    slots::Slots,
    superblock::CopyIndex,
    update::make_durable,
};
use crate::{crypto::secret::VolumeKey, error::Result, format::Unlocked, storage::Storage};

/// A header copy that is not as good as the authentic one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyFault {
    /// Which copy.
    pub index: CopyIndex,
    /// What is wrong with it.
    pub fault: Fault,
    /// Where it belongs.
    pub offset: u64,
}

/// What is wrong with a header copy, seen from the authentic one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// There is none.
    Missing,
    /// It is not whole.
    Damaged,
    /// It is not whole, and was of another state, as far as it can be read: it may have been newer (NAT-UPD-08).
    DamagedOther(DamagedOther),
    /// It is the authentic one, or as good, and lacks its magic yet (NAT-RD-08).
    Unfinished,
    /// It is older.
    Stale,
    /// It is authentic and as new, and says something else.
    Changed,
    /// The same, and it passes for newer: it may stand where a newer authentic one stood.
    Newer,
    /// It is whole, and nothing links it to the authentic one: it may hold the container's only key (NAT-UPD-10).
    Unlinked,
    /// It is whole and belongs to another container.
    Foreign(ForeignCopy),
}

impl CopyFault {
    /// Whether only the owner can say that this copy may go: it may be the last trace of something.
    pub const fn needs_consent(&self) -> bool {
        matches!(self.fault, Fault::Newer | Fault::Unlinked | Fault::DamagedOther(_) | Fault::Foreign(_))
    }

    /// The bytes that are lost when it is rewritten. `None` where the authentic copy has all that was in it.
    pub const fn lost(&self) -> Option<Range<u64>> {
        match self.fault {
            Fault::Missing | Fault::Unfinished | Fault::Stale => None,
            _ => Some(self.offset..self.offset.saturating_add(COPY_LEN_U64)),
        }
    }
}

impl Fault {
    fn name(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::DamagedOther(other) if other.foreign.is_some() => "damaged (and that of another container)",
            Self::DamagedOther(other) if other.is_newer() => "damaged (and newer)",
            Self::DamagedOther(_) => "damaged (and perhaps newer)",
            Self::Unfinished => "not finished",
            Self::Stale => "stale",
            Self::Changed => "changed",
            Self::Newer => "changed, and passed for newer",
            Self::Unlinked => "under another volume key, or changed",
            Self::Foreign(_) => "that of another container",
        }
    }
}

impl fmt::Display for CopyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.fault.name())
    }
}

impl NativeHeader {
    /// What is wrong with the copies, seen from the authentic one.
    ///
    /// # Errors
    /// As [`Header::prepare_writing`](crate::format::Header::prepare_writing), but not for [`Fault::Newer`].
    pub fn faults(&self, unlocked: &Unlocked) -> Result<Vec<CopyFault>> {
        let good = self.authentic(&unlocked.volume_key)?;
        self.check_complete(good)?;
        self.check_finished(good, &unlocked.volume_key)?;
        Ok(self.faults_beside(good, &unlocked.volume_key))
    }

    /// Whole copies of other containers, and of other volume keys, that lie where no copy of this one belongs, one line each:
    /// while they are there, it is not certain whose the data are (NAT-UPD-09, -10).
    ///
    /// # Errors
    /// `Tampered` where no copy is authentic.
    pub fn strays(&self, unlocked: &Unlocked) -> Result<Vec<String>> {
        let good = self.authentic(&unlocked.volume_key)?;
        let places = [CopyIndex::A, CopyIndex::B].map(|index| index.offset_in(&good.superblock.geometry));
        let is_astray = |copy: &HeaderCopy| !places.contains(&copy.offset());
        let unlinked =
            self.unlinked_to(good, &unlocked.volume_key).into_iter().filter(|copy| is_astray(copy));
        let unlinked = unlinked.map(|copy| {
            format!("a header copy at offset {} was made under another volume key, or changed", copy.offset())
        });
        let foreign = self.foreign_to(good).into_iter().filter(|copy| is_astray(copy));
        let damaged = self.copies.damaged_elsewhere(good).into_iter().map(|damaged| damaged.to_string());
        Ok(foreign
            .map(|copy| {
                format!("a header copy of container {} lies at offset {}", name_of(copy), copy.offset())
            })
            .chain(unlinked)
            .chain(damaged)
            .collect())
    }

    /// Where records lie that were made under another key than this header, and what to say of them (NAT-UPD-11).
    ///
    /// # Errors
    /// `Tampered` where no copy is authentic.
    pub fn alien_work(&self, unlocked: &Unlocked) -> Result<Option<(Vec<Range<u64>>, String)>> {
        let good = self.authentic(&unlocked.volume_key)?;
        Ok(self.alien_records(good, &unlocked.volume_key))
    }

    /// Puts records of this header's own in the place of those.
    ///
    /// # Errors
    /// What writing gave.
    pub fn replace_alien_work(&self, storage: &dyn Storage, unlocked: &Unlocked) -> Result<Vec<String>> {
        let key = &unlocked.volume_key;
        let good = self.authentic(key)?;
        self.check_complete(good)?;
        let alien = self.alien_slots(good, key);
        let ledger = Ledger::new(&good.superblock, key)?;
        ledger.replace_alien(storage, &alien)?;
        if good.superblock.reencryption.is_some() {
            let slots = Slots::read(storage, &good.superblock.geometry);
            Ledger::open(&good.superblock, key, slots.as_ref())?.recover(storage)?;
        }
        let line = |slots: Range<u64>| {
            format!(
                "the records in the work area at offset {} were not of this header and have been replaced",
                slots.start
            )
        };
        Ok(alien.into_iter().map(line).collect())
    }

    /// What rewriting this copy does, as a question names it: whose it is and how new, and the same of the authentic one.
    ///
    /// # Errors
    /// `Tampered` where no copy is authentic.
    pub fn describe_rewriting(&self, unlocked: &Unlocked, fault: &CopyFault) -> Result<String> {
        let good = self.authentic(&unlocked.volume_key)?;
        let whole = good.superblock.sequence;
        let what = match (&fault.fault, self.found(fault.index, good)) {
            (Fault::DamagedOther(other), _) if other.foreign.is_some() => {
                format!("damaged, of container {}", other.containers().unwrap_or_default())
            }
            (Fault::DamagedOther(DamagedOther { sequence: Some(sequence), .. }), _) => {
                format!("damaged, sequence {sequence}")
            }
            (Fault::Foreign(_), Some(copy)) => {
                format!("container {}, sequence {}", name_of(copy), copy.superblock.sequence)
            }
            (other, Some(copy)) => format!("{}, sequence {}", other.name(), copy.superblock.sequence),
            (other, None) => other.name().to_owned(),
        };
        let index = fault.index;
        Ok(format!("header copy {index} ({what}) with that of container {}, sequence {whole}", name_of(good)))
    }

    /// Rewrites these copies from the authentic one; says what it did, a line each.
    pub fn repair(
        &self,
        storage: &dyn Storage,
        unlocked: &Unlocked,
        faults: &[CopyFault],
    ) -> Result<Vec<String>> {
        let good = self.authentic(&unlocked.volume_key)?;
        self.check_complete(good)?;
        let mut done = self.rewrite(storage, good, &unlocked.volume_key, faults)?;
        done.extend(HeaderFile::heal(storage, good)?);
        Ok(done)
    }

    pub(super) fn faults_beside(&self, good: &HeaderCopy, key: &VolumeKey) -> Vec<CopyFault> {
        let fault = |index: CopyIndex| {
            let offset = index.offset_in(&good.superblock.geometry);
            Some(CopyFault { index, fault: self.fault(index, good, key)?, offset })
        };
        [CopyIndex::A, CopyIndex::B].into_iter().filter_map(fault).collect()
    }

    pub(super) fn rewrite(
        &self,
        storage: &dyn Storage,
        good: &HeaderCopy,
        key: &VolumeKey,
        faults: &[CopyFault],
    ) -> Result<Vec<String>> {
        let mut done = Vec::new();
        for fault in faults {
            make_durable(storage, &self.copies, good)?;
            if fault.index == CopyIndex::A {
                finish_begun(storage, &self.copies.a.found, good, key)?;
            }
            good.for_index(fault.index, key)?.write(storage)?;
            let how = if fault.fault == Fault::Unfinished { "completed" } else { "rewritten from the other" };
            done.push(format!("header copy {} was {fault} and has been {how}", fault.index));
        }
        Ok(done)
    }

    fn fault(&self, index: CopyIndex, good: &HeaderCopy, key: &VolumeKey) -> Option<Fault> {
        let place = match index {
            CopyIndex::A => &self.copies.a,
            CopyIndex::B => &self.copies.b,
        };
        match self.found(index, good) {
            Some(copy) if !copy.is_of_same_container(good) => {
                Some(Fault::Foreign(ForeignCopy::new(index, copy)))
            }
            Some(copy) if copy.says_the_same_as(good) && copy.check_mac(key).is_ok() => {
                place.is_unfinished.then_some(Fault::Unfinished)
            }
            Some(copy) if copy.is_update_of(good) => Some(Fault::Newer),
            Some(copy) if !copy.is_linked_to(good, key) => Some(Fault::Unlinked),
            Some(copy) if good.is_update_of(copy) => Some(Fault::Stale),
            Some(_) => Some(Fault::Changed),
            None => Some(match (place.damaged_other(good, index), &place.found) {
                (Some(other), _) => Fault::DamagedOther(other),
                _ if place.as_it_was(good, index).is_some_and(|copy| !copy.is_linked_to(good, key)) => {
                    Fault::Unlinked
                }
                (None, Err(HeaderError::NoMagic | HeaderError::CutOff)) => Fault::Missing,
                _ => Fault::Damaged,
            }),
        }
    }
}
