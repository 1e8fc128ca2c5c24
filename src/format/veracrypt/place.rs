//! Where headers stand in a container.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::io;

use super::{
    Family, Hints,
    layout::{HEADER_LEN, OLD_HIDDEN_FROM_END, PLAIN_LEN, SALT_LEN, SLOT_LEN, SYSTEM_OFFSET},
};
use crate::{
    error::{Error, Result},
    storage::Storage,
};

/// A place where a header can stand (VC-PLACE-01 to -04).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At the start.
    Normal,
    /// Behind the normal one: a hidden volume's.
    Hidden,
    /// Before the end: that of a hidden volume of TrueCrypt 5 and before.
    OldHidden,
    /// At the end: the copy of the normal one.
    Backup,
    /// At the end: the copy of the hidden one.
    HiddenBackup,
    /// In the first track of a drive: that of an encrypted system.
    System,
}

impl Place {
    /// Every place, in the order of [`code`](Self::code).
    pub(super) const ALL: [Self; 6] =
        [Self::Normal, Self::Hidden, Self::OldHidden, Self::Backup, Self::HiddenBackup, Self::System];

    /// Its offset in a container of `len` bytes; `None` where that has no room for it.
    pub fn offset(self, len: u64) -> Option<u64> {
        let from_end = |bytes| len.checked_sub(bytes).filter(|&offset| offset >= SLOT_LEN);
        let offset = match self {
            Self::Normal => 0,
            Self::Hidden => SLOT_LEN,
            Self::OldHidden => len.checked_sub(OLD_HIDDEN_FROM_END).filter(|&offset| offset >= HEADER)?,
            Self::Backup => from_end(SLOT_LEN.saturating_mul(2))?,
            Self::HiddenBackup => from_end(SLOT_LEN)?,
            Self::System => SYSTEM_OFFSET,
        };
        (offset.checked_add(HEADER)? <= len).then_some(offset)
    }

    /// Whether a hidden volume's header stands there.
    pub const fn is_hidden(self) -> bool {
        matches!(self, Self::Hidden | Self::OldHidden | Self::HiddenBackup)
    }

    /// Whether it is a copy of another one.
    pub const fn is_backup(self) -> bool {
        matches!(self, Self::Backup | Self::HiddenBackup)
    }

    /// What it is the copy of.
    pub(super) const fn original(self) -> Option<Self> {
        match self {
            Self::Backup => Some(Self::Normal),
            Self::HiddenBackup => Some(Self::Hidden),
            _ => None,
        }
    }

    /// What to call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "header",
            Self::Hidden | Self::OldHidden => "header of the hidden volume",
            Self::Backup => "backup header",
            Self::HiddenBackup => "backup header of the hidden volume",
            Self::System => "header of the encrypted system",
        }
    }

    /// A number that stands for it.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Normal => 0,
            Self::Hidden => 1,
            Self::OldHidden => 2,
            Self::Backup => 3,
            Self::HiddenBackup => 4,
            Self::System => 5,
        }
    }

    /// Whether programs of this family put headers there.
    pub(super) const fn is_of(self, family: Family) -> bool {
        !matches!((self, family), (Self::OldHidden, Family::VeraCrypt))
    }

    /// The places to look at, in this order, as the user's hints say.
    pub(super) fn to_try(hints: Hints) -> &'static [Self] {
        match hints {
            Hints { system: true, .. } => &[Self::System],
            Hints { backup_header: true, hidden: true, .. } => &[Self::HiddenBackup],
            Hints { backup_header: true, .. } => &[Self::Backup, Self::HiddenBackup],
            // One function is quick, so the copies are tried as well.
            Hints { hidden: true, prf: Some(_), .. } => &[Self::Hidden, Self::OldHidden, Self::HiddenBackup],
            Hints { hidden: true, .. } => &[Self::Hidden, Self::OldHidden],
            Hints { prf: Some(_), .. } => {
                &[Self::Normal, Self::Hidden, Self::OldHidden, Self::Backup, Self::HiddenBackup]
            }
            _ => &[Self::Normal, Self::Hidden, Self::OldHidden],
        }
    }
}

/// What stands in one place: perhaps a header, still encrypted.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) place: Place,
    pub(super) offset: u64,
    pub(super) salt: [u8; SALT_LEN],
    pub(super) ciphertext: [u8; PLAIN_LEN],
}

impl Slot {
    /// Reads what stands in each place that the container has.
    pub(super) fn read_all(storage: &dyn Storage, len: u64) -> Result<Vec<Self>> {
        let places = Place::ALL.into_iter().filter_map(|place| Some((place, place.offset(len)?)));
        places.map(|(place, offset)| Self::read(storage, place, offset)).collect()
    }

    /// Reads what stands at `offset`, as in `place`.
    pub(super) fn read(storage: &dyn Storage, place: Place, offset: u64) -> Result<Self> {
        let mut slot = Self { place, offset, salt: [0; SALT_LEN], ciphertext: [0; PLAIN_LEN] };
        let behind_salt =
            offset.checked_add(SALT).ok_or(io::ErrorKind::UnexpectedEof).map_err(io::Error::from)?;
        storage
            .read_exact_at(&mut slot.salt, offset)
            .and_then(|()| storage.read_exact_at(&mut slot.ciphertext, behind_salt))
            .map_err(|error| Error::from(error).during(format!("cannot read the {}", place.name())))?;
        Ok(slot)
    }
}

impl Slot {
    /// All of it, as it stands on the medium.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.salt.iter().chain(&self.ciphertext).copied().collect()
    }
}

/// [`HEADER_LEN`] and [`SALT_LEN`] as offsets.
const HEADER: u64 = 512;
const SALT: u64 = 64;
const _: () = assert!(HEADER_LEN == 512 && SALT_LEN == 64, "the same number twice");

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test that panics has failed")]
mod tests {
    use super::*;
    use crate::format::veracrypt::Prf;

    #[test]
    fn each_place_is_where_the_programs_look() {
        // proves: VC-PLACE-01
        let len = 10 << 20;
        let offsets = Place::ALL.map(|place| place.offset(len).unwrap());
        assert_eq!(offsets, [0, 65_536, len - 1536, len - 131_072, len - 65_536, 31_744]);
        for (code, place) in (0..).zip(Place::ALL) {
            assert_eq!(place.code(), code);
        }
    }

    #[test]
    fn a_place_that_the_container_has_no_room_for_is_none() {
        // proves: VC-PLACE-02
        let places =
            |len| Place::ALL.into_iter().filter(|place| place.offset(len).is_some()).collect::<Vec<_>>();
        assert_eq!(places(511), []);
        assert_eq!(places(512), [Place::Normal]);
        assert_eq!(places(2048), [Place::Normal, Place::OldHidden]);
        assert_eq!(places(32_256), [Place::Normal, Place::OldHidden, Place::System]);
        assert_eq!(places(262_144), Place::ALL);
    }

    #[test]
    fn hints_say_where_to_look() {
        // proves: VC-PLACE-03
        let usual = Hints::default();
        assert_eq!(Place::to_try(usual), [Place::Normal, Place::Hidden, Place::OldHidden]);
        let hidden = Hints { hidden: true, ..usual };
        assert_eq!(Place::to_try(hidden), [Place::Hidden, Place::OldHidden]);
        let backup = Hints { backup_header: true, ..hidden };
        assert_eq!(Place::to_try(backup), [Place::HiddenBackup]);
        assert_eq!(Place::to_try(Hints { system: true, ..usual }), [Place::System]);
        let quick = Hints { prf: Some(Prf::Sha512), ..usual };
        assert!(Place::to_try(quick).contains(&Place::Backup));
        let quick = Hints { hidden: true, ..quick };
        assert_eq!(Place::to_try(quick), [Place::Hidden, Place::OldHidden, Place::HiddenBackup]);
    }
}
