//! The header as a whole: describing, unlocking, healing.

use std::sync::Arc;

use super::{
    copies::{Copies, Found, Place},
    copy::HeaderCopy,
    editor::NativeEditor,
    error::HeaderError,
    keys,
    keyslot::{Budget, Keyslot, Opened, SlotKind},
    layout::{REGION_LEN, VERSION},
    superblock::{CopyIndex, Provision, Superblock},
};
use crate::{
    crypto::{
        SectorCipher,
        secret::{Credentials, VolumeKey},
        xts::AesXts,
    },
    error::{Error, ErrorKind, Result},
    format::{Attempt, CopyInfo, CopyState, Editor, Header, HeaderInfo, Unlocked},
    mapping::{Holes, Mapping, Segment},
    storage::Storage,
    units::Sector,
};

/// The header of a native container: at least one copy of it is whole.
#[derive(Debug)]
pub struct NativeHeader {
    copies: Copies,
    /// The container's size as it is, which may be less than the header says.
    actual_len: u64,
}

impl NativeHeader {
    /// Reads both copies.
    ///
    /// # Errors
    /// `NotAContainer` where there is no trace of one, `Damaged` where no copy is whole, `Unsupported` where the whole ones
    /// ask for what this version does not know.
    pub fn read(storage: &dyn Storage) -> Result<Self> {
        Ok(Self { copies: Copies::read(storage)?, actual_len: storage.size()? })
    }

    /// What the copy in use says, before anything is unlocked.
    fn current(&self) -> &Superblock {
        &self.copies.current().superblock
    }

    fn state(&self, found: &Found) -> CopyState {
        match found {
            Ok(copy) if !copy.is_of_same_container(self.copies.current()) => CopyState::Damaged,
            Ok(copy) if copy.superblock.sequence == self.current().sequence => CopyState::Current,
            Ok(_) => CopyState::Stale,
            Err(HeaderError::NoMagic | HeaderError::CutOff) => CopyState::Missing,
            Err(_) => CopyState::Damaged,
        }
    }

    fn describe_place(&self, place: &Place) -> CopyInfo {
        let sequence = place.found.as_ref().ok().map(|copy| copy.superblock.sequence);
        CopyInfo { offset: place.offset, state: self.state(&place.found), sequence }
    }

    /// The first whole copy that is authentic under `key` (NAT-RD-06).
    fn authentic(&self, key: &VolumeKey) -> Result<&HeaderCopy> {
        let Err(error) = self.copies.current().check_mac(key) else { return Ok(self.copies.current()) };
        self.copies.whole().find(|copy| copy.check_mac(key).is_ok()).ok_or(error)
    }

    /// Checks the header against the volume key and lays out the volume.
    fn accept(&self, key: VolumeKey, keyslot: Option<u32>) -> Result<Unlocked> {
        let mapping = mapping(&self.authentic(&key)?.superblock, &key)?;
        Ok(Unlocked { mapping, volume_key: Arc::new(key), keyslot })
    }

    /// Whether the container may be written, `good` being the authentic copy.
    fn check_writable(&self, good: &HeaderCopy) -> Result<()> {
        let read_only = "--read-only opens it";
        if let Some(error) = self.copies.unsupported() {
            return Err(Error::from(error.clone()).with_hint(read_only)); // NAT-RD-04
        }
        let bits = good.superblock.unknown_writing_features;
        if bits != 0 {
            let reason = format!("writing needs features that this strongroom does not know ({bits:#x})");
            return Err(Error::new(ErrorKind::Unsupported, reason).with_hint(read_only)); // NAT-SB-04
        }
        if self.copies.whole().any(|copy| copy.is_update_of(good)) {
            let reason = "the newer header copy was changed by someone without the key";
            return Err(Error::new(ErrorKind::Tampered, reason).with_hint(read_only)); // NAT-RD-06
        }
        let (expected, actual) = (good.superblock.geometry.container_len, self.actual_len);
        if actual < expected {
            let reason = format!("the container is cut off: {actual} of {expected} bytes are there");
            let hint = "bring the missing end back; --read-only opens what is left";
            return Err(Error::new(ErrorKind::Damaged, reason).with_hint(hint)); // NAT-GEO-06
        }
        Ok(())
    }

    /// Rewrites the copy at one place from the authentic one where it is not as good (NAT-UPD-04). Says what was done.
    fn heal(
        &self,
        index: CopyIndex,
        good: &HeaderCopy,
        key: &VolumeKey,
        storage: &dyn Storage,
    ) -> Result<Option<String>> {
        let (name, found) = match index {
            CopyIndex::A => ("A", self.copies.a.found.as_ref().ok()),
            CopyIndex::B => ("B", self.copies.backup_at(good.superblock.geometry.backup_offset)),
        };
        let state = match found {
            Some(copy) if !copy.is_of_same_container(good) => {
                return Ok(Some(format!(
                    "header copy {name} belongs to another container and was left alone"
                )));
            }
            Some(copy) if copy.says_the_same_as(good) && copy.check_mac(key).is_ok() => return Ok(None),
            Some(copy) if good.is_update_of(copy) => "stale",
            Some(_) => "changed",
            None if index == CopyIndex::A => self.lost_state(&self.copies.a),
            None => self.lost_state(&self.copies.b),
        };
        good.for_index(index, key)?.write(storage)?;
        Ok(Some(format!("header copy {name} was {state} and has been rewritten from the other")))
    }

    fn lost_state(&self, place: &Place) -> &'static str {
        if self.state(&place.found) == CopyState::Missing { "missing" } else { "damaged" }
    }
}

impl Header for NativeHeader {
    fn describe(&self) -> HeaderInfo {
        let superblock = self.current();
        HeaderInfo {
            format: "native",
            version: VERSION,
            uuid: Some(hyphenated(&superblock.uuid)),
            label: superblock.label.text().map(str::to_owned),
            cipher: "aes-xts-plain64".to_owned(),
            key_bits: 512,
            sector_size: u32::try_from(superblock.sector_size.bytes()).unwrap_or_default(),
            container_size: superblock.geometry.container_len,
            data_offset: superblock.geometry.data_offset,
            data_size: superblock.geometry.data_len,
            provision: Some(superblock.provision.name()),
            authenticated_header: true,
            headers: vec![self.describe_place(&self.copies.a), self.describe_place(&self.copies.b)],
            keyslots: self.copies.current().keyslots.iter().map(Keyslot::describe).collect(),
            details: Vec::new(),
        }
    }

    fn unlock(&self, credentials: &Credentials, attempt: &Attempt) -> Result<Unlocked> {
        let mut budget = Budget::new(&attempt.limits);
        let first_error = match open_keyslot(self.copies.current(), credentials, attempt, &mut budget) {
            Ok((key, slot)) => return self.accept(key, Some(slot)),
            Err(error) => error,
        };
        // NAT-RD-05: an older copy is never tried beside a whole newer one: a password removed since would open it.
        for rival in self.copies.rivals() {
            if let Ok((key, slot)) = open_keyslot(rival, credentials, attempt, &mut budget) {
                return self.accept(key, Some(slot));
            }
        }
        Err(first_error)
    }

    fn unlock_with_key(&self, key: VolumeKey) -> Result<Unlocked> {
        self.accept(key, None)
    }

    fn prepare_writing(&self, storage: &dyn Storage, unlocked: &Unlocked) -> Result<Vec<String>> {
        let key = &unlocked.volume_key;
        let good = self.authentic(key)?;
        self.check_writable(good)?;
        let mut done = Vec::new();
        for index in [CopyIndex::A, CopyIndex::B] {
            done.extend(self.heal(index, good, key, storage)?);
        }
        Ok(done)
    }

    fn editor(&self, unlocked: &Unlocked) -> Result<Box<dyn Editor>> {
        let good = self.authentic(&unlocked.volume_key)?;
        self.check_writable(good)?;
        Ok(Box::new(NativeEditor::new(good, Arc::clone(&unlocked.volume_key))))
    }
}

/// Tries the keyslots of one copy, those with the highest priority first (NAT-SLOT-03, -05).
fn open_keyslot(
    copy: &HeaderCopy,
    credentials: &Credentials,
    attempt: &Attempt,
    budget: &mut Budget,
) -> Result<(VolumeKey, u32)> {
    let kind = SlotKind::of(credentials);
    let may_try = |slot: &Keyslot| match attempt.keyslot {
        Some(number) => slot.index == number,
        None => slot.priority > 0,
    };
    let mut slots: Vec<_> = copy.keyslots.iter().filter(|slot| slot.kind == kind && may_try(slot)).collect();
    slots.sort_by_key(|slot| std::cmp::Reverse(slot.priority));
    if slots.is_empty() {
        return Err(no_slot_of(kind, copy, attempt.keyslot));
    }
    let mut failure = None;
    for slot in slots {
        match slot.open(&copy.superblock.uuid, credentials, &attempt.limits, budget) {
            Ok(Opened::Key(key)) => return Ok((key, slot.index)),
            Ok(Opened::WrongCredentials) => {}
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| Error::new(ErrorKind::Credentials, wrong_credentials(kind))))
}

const fn wrong_credentials(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::Keyfile => "no keyslot opens with this password and these keyfiles",
        SlotKind::Recovery => "no keyslot opens with this recovery key",
        SlotKind::Password | SlotKind::Other(_) => "no keyslot opens with this password",
    }
}

/// Why no slot of this kind is there to be tried.
fn no_slot_of(kind: SlotKind, copy: &HeaderCopy, asked_for: Option<u32>) -> Error {
    if let Some(number) = asked_for {
        let reason = match copy.keyslots.iter().find(|slot| slot.index == number) {
            None => format!("keyslot {number} is empty"),
            Some(slot) => format!("keyslot {number} takes a {}", slot.kind.takes()),
        };
        return Error::new(ErrorKind::Credentials, reason);
    }
    let has = |kind| copy.keyslots.iter().any(|slot| slot.kind == kind && slot.priority > 0);
    match kind {
        SlotKind::Keyfile if has(SlotKind::Password) => {
            Error::new(ErrorKind::Credentials, "no keyslot takes a keyfile").with_hint("leave --keyfile out")
        }
        SlotKind::Password if has(SlotKind::Keyfile) => {
            Error::new(ErrorKind::Credentials, "every keyslot needs a keyfile")
                .with_hint("add --keyfile FILE")
        }
        SlotKind::Password if has(SlotKind::Recovery) => {
            Error::new(ErrorKind::Credentials, "no keyslot takes a password").with_hint("add --recovery")
        }
        SlotKind::Recovery => Error::new(ErrorKind::Credentials, "no keyslot takes a recovery key"),
        _ => Error::new(ErrorKind::Credentials, "no keyslot can be opened by this strongroom"),
    }
}

/// The mapping of the data area: one segment, one key, for each region (NAT-DATA-01 to -03).
pub(super) fn mapping(superblock: &Superblock, volume_key: &VolumeKey) -> Result<Mapping> {
    let geometry = &superblock.geometry;
    let mut segments = Vec::new();
    for region in 0..geometry.data_len.div_ceil(REGION_LEN) {
        let start = region * REGION_LEN;
        let bytes = REGION_LEN.min(geometry.data_len - start);
        let key = keys::data_key(volume_key, &superblock.uuid, region)?;
        let cipher =
            AesXts::aes256(key.expose()).map_err(|error| Error::caused_by(ErrorKind::Damaged, error))?;
        let first = Sector(start >> superblock.sector_size.shift());
        segments.push(Segment {
            first,
            sectors: bytes >> superblock.sector_size.shift(),
            storage_offset: geometry.data_offset + start,
            first_tweak: first,
            cipher: Arc::new(cipher) as Arc<dyn SectorCipher>,
        });
    }
    let holes = match superblock.provision {
        Provision::Thin => Holes::ReadAsZeros,
        Provision::Thick | Provision::Quick => Holes::AreCiphertext,
    };
    Mapping::new(superblock.sector_size, segments, holes)
        .map_err(|error| Error::caused_by(ErrorKind::Damaged, error))
}

/// A UUID as RFC 9562 writes it.
pub fn hyphenated(uuid: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.extend(
            [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or_default()),
        );
    }
    text
}
