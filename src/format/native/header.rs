//! The header as a whole: describing, unlocking, healing.

use std::sync::Arc;

use super::{
    check::{check_macs, check_records},
    copies::{Copies, Found, Place},
    copy::HeaderCopy,
    data,
    editor::{self, NativeEditor},
    error::HeaderError,
    header_file::HeaderFile,
    keyslot::{self, Budget, Keyslot, Opened, SlotKind},
    layout::VERSION,
    ledger::{Ledger, Slots, WorkAreas},
    repair::CopyFault,
    superblock::{CopyIndex, Superblock},
    transition::Target,
};
use crate::{
    crypto::{
        secret::{Credentials, VolumeKey},
        security_key::Challenge,
    },
    error::{Error, ErrorKind, Result},
    format::{
        Attempt, Change, CopyInfo, CopyState, Editor, Finding, Fingerprint, Header, HeaderInfo, KdfBounds,
        Unlocked, empty_keyslot, hyphenated, no_keyslot_left,
    },
    storage::Storage,
};

/// The header of a native container: at least one copy of it is whole.
#[derive(Debug)]
pub struct NativeHeader {
    pub(super) copies: Copies,
    /// The records of a re-encryption that a whole copy says is under way, for each place where they may stand.
    slots: Vec<Slots>,
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
        Self::with_records(Copies::read(storage)?, storage)
    }

    /// Reads the records of a re-encryption that any of `copies` names.
    fn with_records(copies: Copies, storage: &dyn Storage) -> Result<Self> {
        let mut slots: Vec<Slots> = Vec::new();
        for copy in copies.whole().filter(|copy| copy.superblock.reencryption.is_some()) {
            let areas = WorkAreas::of(&copy.superblock.geometry);
            if let Some(areas) = areas.filter(|areas| slots.iter().all(|slots| slots.areas() != areas)) {
                slots.push(Slots::read(storage, areas));
            }
        }
        Ok(Self { copies, slots, actual_len: storage.size()? })
    }

    /// The records that stand where this superblock has its work areas.
    fn slots_of(&self, superblock: &Superblock) -> Option<&Slots> {
        let areas = WorkAreas::of(&superblock.geometry)?;
        self.slots.iter().find(|slots| *slots.areas() == areas)
    }

    /// Reads the copies in a header file, without the container.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of_header_file(file: &HeaderFile, storage: &dyn Storage) -> Result<Self> {
        let copies = Copies::of_header_file(file, storage)?;
        Ok(Self { copies, slots: Vec::new(), actual_len: file.geometry.container_len })
    }

    /// The header of a single copy that was found somewhere in `container`.
    pub(super) fn of_copy(copy: HeaderCopy, container: &dyn Storage) -> Result<Self> {
        Self::with_records(Copies::of_one(copy), container)
    }

    /// The copy in use.
    pub(super) fn copy_in_use(&self) -> &HeaderCopy {
        self.copies.current()
    }

    /// How the data area is encrypted now, or will be at the end of the re-encryption that is under way.
    pub fn target(&self) -> Target {
        Target { suite: self.current().suite, sector_size: self.current().sector_size }
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
    pub(super) fn authentic(&self, key: &VolumeKey) -> Result<&HeaderCopy> {
        let Err(error) = self.copies.current().check_mac(key) else { return Ok(self.copies.current()) };
        self.copies.whole().find(|copy| copy.check_mac(key).is_ok()).ok_or(error)
    }

    /// The authentic copy under `key`, where the container may be written.
    pub(super) fn authentic_for_writing(&self, key: &VolumeKey) -> Result<&HeaderCopy> {
        let good = self.authentic(key)?;
        self.check_writable(good)?;
        Ok(good)
    }

    /// Writes both copies of the authentic header again, so that the medium has them, whatever the kernel's cache shows
    /// since a sync failed. A copy of another container is left alone.
    pub(super) fn renew(&self, storage: &dyn Storage, key: &VolumeKey) -> Result<()> {
        let good = self.authentic_for_writing(key)?;
        for index in [CopyIndex::B, CopyIndex::A] {
            if self.found(index, good).is_none_or(|copy| copy.is_of_same_container(good)) {
                good.for_index(index, key)?.write(storage)?;
            }
        }
        Ok(())
    }

    /// Checks the header against the volume key and lays out the volume.
    fn accept(&self, key: VolumeKey, keyslot: Option<u32>) -> Result<Unlocked> {
        let superblock = &self.authentic(&key)?.superblock;
        let layout = data::layout(superblock, &key, self.slots_of(superblock))?;
        Ok(Unlocked { layout, volume_key: Arc::new(key), keyslot })
    }

    /// Whether the container may be written, `good` being the authentic copy.
    fn check_writable(&self, good: &HeaderCopy) -> Result<()> {
        self.check_complete(good)?;
        if self.copies.whole().any(|copy| copy.is_update_of(good)) {
            let reason = "the newer header copy was changed by someone without the key";
            let hint =
                "--read-only opens it; strongroom header repair makes the older one count, after asking";
            return Err(Error::new(ErrorKind::Tampered, reason).with_hint(hint)); // NAT-RD-06
        }
        Ok(())
    }

    /// Whether everything is there and known that writing needs, `good` being the authentic copy.
    pub(super) fn check_complete(&self, good: &HeaderCopy) -> Result<()> {
        let read_only = "--read-only opens it";
        if let Some(error) = self.copies.unsupported() {
            return Err(Error::from(error.clone()).with_hint(read_only)); // NAT-RD-04
        }
        let bits = good.superblock.unknown_writing_features;
        if bits != 0 {
            let reason = format!("writing needs features that this strongroom does not know ({bits:#x})");
            return Err(Error::new(ErrorKind::Unsupported, reason).with_hint(read_only)); // NAT-SB-04
        }
        let (expected, actual) = (good.superblock.geometry.container_len, self.actual_len);
        if actual < expected {
            let reason = format!("the container is cut off: {actual} of {expected} bytes are there");
            let hint = "bring the missing end back; --read-only opens what is left";
            return Err(Error::new(ErrorKind::Damaged, reason).with_hint(hint)); // NAT-GEO-06
        }
        Ok(())
    }

    /// The whole copy that stands where `good` has its copy of this index.
    pub(super) fn found(&self, index: CopyIndex, good: &HeaderCopy) -> Option<&HeaderCopy> {
        match index {
            CopyIndex::A => self.copies.a.found.as_ref().ok(),
            CopyIndex::B => self.copies.backup_at(good.superblock.geometry.backup_offset),
        }
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
            cipher: superblock.suite.cipher_name().to_owned(),
            key_bits: superblock.suite.key_bits(),
            sector_size: u32::try_from(superblock.sector_size.bytes()).unwrap_or_default(),
            container_size: superblock.geometry.container_len,
            data_offset: superblock.geometry.data_offset,
            data_size: superblock.geometry.data_len,
            provision: Some(superblock.provision.name()),
            generation: Some(superblock.generation),
            reencryption: superblock.reencryption.is_some(),
            authenticated_header: true,
            headers: vec![self.describe_place(&self.copies.a), self.describe_place(&self.copies.b)],
            keyslots: self.copies.current().keyslots.iter().map(Keyslot::describe).collect(),
            details: Vec::new(),
        }
    }

    /// The header is authentic or does not open; only that it is an old one cannot be told from itself.
    fn fingerprint(&self) -> Option<Fingerprint> {
        let superblock = self.current();
        let fingerprint = Fingerprint::of(Some(hyphenated(&superblock.uuid)), "native")?;
        Some(fingerprint.with_sequence(superblock.sequence))
    }

    fn challenges(&self, attempt: &Attempt) -> Vec<Challenge> {
        let mut challenges = Vec::new();
        for copy in std::iter::once(self.copies.current()).chain(self.copies.rivals()) {
            let slots = slots_to_try(copy, SlotKind::Fido2, attempt);
            for challenge in slots.into_iter().filter_map(|slot| slot.challenge.clone()) {
                if !challenges.contains(&challenge) {
                    challenges.push(challenge);
                }
            }
        }
        challenges
    }

    fn check_openable(&self) -> Result<()> {
        let mut copies = std::iter::once(self.copies.current()).chain(self.copies.rivals());
        if copies.all(|copy| copy.keyslots.is_empty()) { Err(no_keyslot_left()) } else { Ok(()) }
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

    fn check_unlocked(&self, unlocked: &Unlocked) -> Vec<Finding> {
        let key = &unlocked.volume_key;
        let mut findings = check_macs(&self.copies, self.actual_len, key);
        if let Ok(good) = self.authentic(key)
            && good.superblock.reencryption.is_some()
        {
            let slots = self.slots_of(&good.superblock);
            findings.push(check_records(&Ledger::open(&good.superblock, key, slots)));
        }
        findings
    }

    fn prepare_writing(&self, storage: &dyn Storage, unlocked: &Unlocked) -> Result<Vec<String>> {
        let key = &unlocked.volume_key;
        let good = self.authentic(key)?;
        self.check_writable(good)?;
        storage.sync_data()?; // NAT-UPD-07, also where nothing is to be healed
        let (foreign, faults): (Vec<_>, Vec<_>) =
            self.faults_beside(good, key).into_iter().partition(CopyFault::needs_consent);
        let mut done = self.rewrite(storage, good, key, &faults)?;
        done.extend(foreign.iter().map(|copy| {
            format!("header copy {} belongs to another container and was left alone", copy.index)
        }));
        if good.superblock.reencryption.is_some() {
            // Read anew: between reading the header and asking for a password another process may have gone on.
            let slots = WorkAreas::of(&good.superblock.geometry).map(|areas| Slots::read(storage, areas));
            done.extend(Ledger::open(&good.superblock, key, slots.as_ref())?.recover(storage)?);
        }
        Ok(done)
    }

    fn kdf_bounds(&self) -> Option<KdfBounds> {
        Some(keyslot::kdf_bounds())
    }

    fn check_change(&self, change: &Change<'_>) -> Result<()> {
        editor::check_change(&self.copies.current().keyslots, change)
    }

    fn editor(&self, unlocked: &Unlocked) -> Result<Box<dyn Editor>> {
        let good = self.authentic(&unlocked.volume_key)?;
        self.check_writable(good)?;
        Ok(Box::new(NativeEditor::new(good, Arc::clone(&unlocked.volume_key))))
    }
}

/// The keyslots of one copy that an attempt tries, those with the highest priority first (NAT-SLOT-03, -05).
fn slots_to_try<'a>(copy: &'a HeaderCopy, kind: SlotKind, attempt: &Attempt) -> Vec<&'a Keyslot> {
    let may_try = |slot: &Keyslot| match attempt.keyslot {
        Some(number) => slot.index == number,
        None => slot.priority > 0,
    };
    let mut slots: Vec<_> = copy.keyslots.iter().filter(|slot| slot.kind == kind && may_try(slot)).collect();
    slots.sort_by_key(|slot| std::cmp::Reverse(slot.priority));
    slots
}

/// Tries the keyslots of one copy.
fn open_keyslot(
    copy: &HeaderCopy,
    credentials: &Credentials,
    attempt: &Attempt,
    budget: &mut Budget,
) -> Result<(VolumeKey, u32)> {
    let kind = SlotKind::of(credentials);
    let slots = slots_to_try(copy, kind, attempt);
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
        SlotKind::Keyfile => "wrong password or keyfile",
        SlotKind::Recovery => "no keyslot opens with this recovery key",
        SlotKind::Fido2 => "no keyslot opens with this FIDO2 token",
        SlotKind::Password | SlotKind::Other(_) => "wrong password",
    }
}

/// Why no slot of this kind is there to be tried.
fn no_slot_of(kind: SlotKind, copy: &HeaderCopy, asked_for: Option<u32>) -> Error {
    if let Some(number) = asked_for {
        return match copy.keyslots.iter().find(|slot| slot.index == number) {
            None => empty_keyslot(number),
            Some(slot) => {
                let reason = format!("keyslot {number} takes a {}", slot.kind.takes());
                Error::new(ErrorKind::Credentials, reason)
            }
        };
    }
    let has = |kind| copy.keyslots.iter().any(|slot| slot.kind == kind && slot.priority > 0);
    if let Some(ignored) = copy.keyslots.iter().find(|slot| slot.kind == kind && slot.priority == 0) {
        let number = ignored.index;
        return Error::new(ErrorKind::Credentials, format!("keyslot {number} is tried only by its number"))
            .with_hint(format!(
                "--slot {number} names it, or --unlock-slot {number} where keyslots are changed"
            ));
    }
    match kind {
        SlotKind::Keyfile if has(SlotKind::Password) => {
            Error::new(ErrorKind::Credentials, "no keyslot takes a keyfile").with_hint("leave --keyfile out")
        }
        SlotKind::Password if has(SlotKind::Keyfile) => {
            Error::new(ErrorKind::Credentials, "every keyslot needs a keyfile")
                .with_hint("add --keyfile FILE")
        }
        SlotKind::Password if has(SlotKind::Recovery) => {
            Error::new(ErrorKind::Credentials, "no keyslot takes a password").with_hint("add --recovery-key")
        }
        SlotKind::Password if has(SlotKind::Fido2) => {
            Error::new(ErrorKind::Credentials, "no keyslot takes a password").with_hint("add --security-key")
        }
        SlotKind::Recovery => Error::new(ErrorKind::Credentials, "no keyslot takes a recovery key"),
        SlotKind::Fido2 => Error::new(ErrorKind::Credentials, "no keyslot takes a FIDO2 token"),
        _ => Error::new(ErrorKind::Credentials, "no keyslot can be opened by this strongroom"),
    }
}
