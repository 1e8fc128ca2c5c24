//! The header as a whole: describing, unlocking, healing.

use std::sync::Arc;

use super::{
    check::{check_macs, check_records},
    copies::{Copies, Found, Place},
    copy::HeaderCopy,
    data,
    editor::{self, NativeEditor},
    error::HeaderError,
    front::finish_closing,
    header_file::{HeaderFile, Rival, own_header},
    keyslot::{self, Budget, Keyslot, Opened, SlotKind},
    layout::VERSION,
    ledger::{Ledger, WorkAreas},
    resize::{NativeGrowth, check_growth, grown_to},
    shrink::NativeShrinkage,
    slots::Slots,
    superblock::{CopyIndex, Superblock},
    transition::Target,
};
use crate::{
    crypto::{
        rng::Rng,
        secret::{Credentials, VolumeKey},
        security_key::Challenge,
    },
    error::{Error, ErrorKind, Result},
    format::{
        Attempt, Change, CopyInfo, CopyState, Detail, Editor, Finding, Fingerprint, Growth, Header,
        HeaderInfo, KdfBounds, Shrinkage, State, Unlocked, empty_keyslot, hyphenated, no_keyslot_left,
        tried_by_number,
    },
    storage::Storage,
    text::in_quotes,
};

/// The header of a native container: at least one copy of it is whole.
#[derive(Debug)]
pub struct NativeHeader {
    pub(super) copies: Copies,
    /// What stands in the work areas, for each place where a whole copy has them.
    slots: Vec<Slots>,
    /// The same where the container would have them if it ended where the file does (NAT-SIZE-05).
    pub(super) behind: Option<Slots>,
    /// The container's size as it is, which may be less than the header says.
    pub(super) actual_len: u64,
    /// Where the header lies in a file: why nothing may be written under it (NAT-HF-12).
    own: Option<Rival>,
    /// Whether the header lies in a file.
    pub(super) is_detached: bool,
}

impl NativeHeader {
    /// Reads both copies.
    ///
    /// # Errors
    /// `NotAContainer` where there is no trace of one, `Damaged` where no copy is whole, `Unsupported` where the whole ones
    /// ask for what this version does not know.
    pub fn read(storage: &dyn Storage) -> Result<Self> {
        let header = Self::with_records(Copies::read(storage)?, storage)?;
        if header.newer_generation(header.current()).is_none() {
            return Ok(header);
        }
        // Somebody who has it open for writing may have started or ended a re-encryption between the two readings.
        Self::with_records(Copies::read(storage)?, storage)
    }

    /// Reads what stands in the work areas of `copies`, whether or not one says that a re-encryption is under way: it may
    /// be an old one (NAT-REENC-17).
    fn with_records(copies: Copies, storage: &dyn Storage) -> Result<Self> {
        let mut slots: Vec<Slots> = Vec::new();
        for copy in copies.whole() {
            let geometry = &copy.superblock.geometry;
            let areas = WorkAreas::of(geometry);
            if areas.is_some_and(|areas| slots.iter().all(|slots| *slots.areas() != areas)) {
                slots.extend(Slots::read(storage, geometry));
            }
        }
        let own = own_header(storage, copies.current())?;
        let is_detached = !storage.windows().is_empty();
        let actual_len = storage.size()?;
        let behind = grown_to(&copies.current().superblock, actual_len);
        let behind = behind.and_then(|geometry| Slots::read(storage, &geometry));
        Ok(Self { copies, slots, behind, actual_len, own, is_detached })
    }

    /// NAT-REENC-06, -07, -19: refuses a header in which a re-encryption is under way that cannot be brought to rest, `good` being
    /// authentic.
    ///
    /// # Errors
    /// `Damaged`.
    pub(super) fn check_work(&self, good: &HeaderCopy, key: &VolumeKey) -> Result<()> {
        let superblock = &good.superblock;
        if superblock.reencryption.is_none() {
            return Ok(());
        }
        Ledger::open(superblock, key, self.slots_of(superblock))?.check_recoverable()
    }

    /// The same, in words.
    pub fn lost_work(&self, unlocked: &Unlocked) -> Option<String> {
        let good = self.authentic(&unlocked.volume_key).ok()?;
        self.newer_generation(&good.superblock).is_none().then_some(())?;
        self.check_work(good, &unlocked.volume_key).err().map(|error| error.reason().to_owned())
    }

    /// The fingerprint of the copy that is authentic under `key`, with the record that is.
    ///
    /// # Errors
    /// `Tampered` where no copy is authentic.
    pub fn authentic_fingerprint(&self, key: &VolumeKey) -> Result<Option<Fingerprint>> {
        let superblock = &self.authentic(key)?.superblock;
        let ledger = superblock.reencryption.as_ref().map(|_| {
            Ledger::open(superblock, key, self.slots_of(superblock)).map(|ledger| ledger.newest().counter)
        });
        Ok(fingerprint(superblock, ledger.transpose().ok().flatten()))
    }

    /// The records that stand where this superblock has its work areas.
    pub(super) fn slots_of(&self, superblock: &Superblock) -> Option<&Slots> {
        let areas = WorkAreas::of(&superblock.geometry)?;
        self.slots.iter().find(|slots| *slots.areas() == areas)
    }

    /// Reads the copies in a header file, without the container.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of_header_file(file: &HeaderFile, storage: &dyn Storage) -> Result<Self> {
        let copies = Copies::of_header_file(file, storage)?;
        let actual_len = file.geometry.container_len;
        Ok(Self { copies, slots: Vec::new(), behind: None, actual_len, own: None, is_detached: true })
    }

    /// The header of a single copy that was found somewhere in `container`.
    pub(super) fn of_copy(copy: HeaderCopy, container: &dyn Storage) -> Result<Self> {
        Self::with_records(Copies::of_one(copy), container)
    }

    /// The same header, with what stands in the work areas of `container`.
    pub(super) fn beside(self, container: &dyn Storage) -> Result<Self> {
        Self::with_records(self.copies, container)
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
    pub(super) fn current(&self) -> &Superblock {
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
        let current = self.copies.current();
        let damaged = || place.wreck.as_ref()?.sequence(current).filter(|sequence| *sequence > 0);
        let sequence = place.found.as_ref().ok().map(|copy| copy.superblock.sequence).or_else(damaged);
        let state = match self.state(&place.found) {
            // Only its magic is damaged.
            CopyState::Missing if sequence.is_some() => CopyState::Damaged,
            _ if place.is_unfinished => CopyState::Damaged,
            state => state,
        };
        CopyInfo { offset: place.offset, state, sequence }
    }

    /// Whose the whole copies are that do not belong to the container of the copy in use.
    fn describe_foreign(&self) -> Vec<Detail> {
        let foreign = self.foreign_to(self.copies.current());
        let detail = |copy: &HeaderCopy| {
            Detail::new(
                format!("At {}", copy.offset()),
                format!("a header copy of container {}", name_of(copy)),
            )
        };
        foreign.into_iter().map(detail).collect()
    }

    /// The whole copies of other containers than that of `good`.
    pub(super) fn foreign_to(&self, good: &HeaderCopy) -> Vec<&HeaderCopy> {
        self.copies.whole().filter(|copy| !copy.is_of_same_container(good)).collect()
    }

    /// The first whole copy that is authentic under `key` (NAT-RD-06).
    pub(super) fn authentic(&self, key: &VolumeKey) -> Result<&HeaderCopy> {
        let Err(error) = self.copies.current().check_mac(key) else { return Ok(self.copies.current()) };
        self.copies.whole().find(|copy| copy.check_mac(key).is_ok()).ok_or(error)
    }

    /// The authentic copy under `key`, where the container may be written.
    pub(super) fn authentic_for_writing(&self, key: &VolumeKey) -> Result<&HeaderCopy> {
        let good = self.authentic(key)?;
        self.check_writable(good, key)?;
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

    /// Tries the keyslots of one copy. One that opens to a key under which no copy is authentic does not count (NAT-RD-06).
    fn open_copy(
        &self,
        copy: &HeaderCopy,
        credentials: &Credentials,
        attempt: &Attempt,
        budget: &mut Budget,
    ) -> Result<Unlocked> {
        let kind = SlotKind::of(credentials);
        let slots = slots_to_try(copy, kind, attempt);
        if slots.is_empty() {
            return Err(no_slot_of(kind, copy, attempt.keyslot));
        }
        let (mut failure, mut tampered) = (None, None);
        for slot in slots {
            match slot.open(&copy.superblock.uuid, credentials, &attempt.limits, budget) {
                Ok(Opened::Key(key)) => match self.authentic(&key) {
                    Ok(_) => return self.accept(key, Some(slot.index)),
                    Err(error) => tampered = Some(error),
                },
                Ok(Opened::WrongCredentials) => {}
                Err(error) => failure = Some(error),
            }
        }
        let wrong = || Error::new(ErrorKind::Credentials, wrong_credentials(kind));
        Err(tampered.or(failure).unwrap_or_else(wrong))
    }

    /// What is said where nothing opened, `error` so far: a lower copy that opens does not, but it is named (NAT-RD-05).
    fn name_lower(
        &self,
        error: Error,
        credentials: &Credentials,
        attempt: &Attempt,
        budget: &mut Budget,
    ) -> Error {
        let mut opening = self.copies.lower().filter_map(|copy| {
            let unlocked = self.open_copy(copy, credentials, attempt, budget).ok()?;
            copy.check_mac(&unlocked.volume_key).ok().map(|()| (copy, unlocked))
        });
        let Some((copy, unlocked)) = opening.next() else { return error };
        let (index, offset) = (copy.superblock.index, copy.offset());
        let opens = format!(
            "{} for the header in use; it opens only header copy {index} at offset {offset}",
            error.reason()
        );
        if !copy.is_of_same_container(self.copies.current()) {
            let (its, ours) = (name_of(copy), name_of(self.copies.current()));
            let reason = format!("{opens}, which belongs to another container: {its}, and not {ours}");
            return Error::new(error.kind(), reason).with_hint(format!(
                "strongroom header repair --scan --offset {offset} puts that one's header back, after asking"
            ));
        }
        let (old, new) = (copy.superblock.sequence, self.current().sequence);
        let told = Error::new(
            error.kind(),
            format!("{opens}, which is older (sequence {old}, the one in use has {new})"),
        );
        if self.copies.current().check_mac(&unlocked.volume_key).is_ok() {
            return told.with_hint("somebody who could open the container changed or removed it since");
        }
        told.with_hint(format!(
            "the newer copy was forged, or the container was re-encrypted since; if you know that it was not: strongroom \
             header repair --scan --offset {offset} makes the older one count, after asking"
        ))
    }

    /// Checks the header against the volume key and lays out the volume.
    fn accept(&self, key: VolumeKey, keyslot: Option<u32>) -> Result<Unlocked> {
        let superblock = &self.authentic(&key)?.superblock;
        let slots = self.slots_of(superblock);
        let layout = match self.resized_since(superblock, &key) {
            // It opens read-only, and shows all that the volume has.
            Some((_, geometry)) => data::layout(&Superblock { geometry, ..superblock.clone() }, &key, slots)?,
            None => data::layout(superblock, &key, slots)?,
        };
        Ok(Unlocked { layout, volume_key: Arc::new(key), keyslot })
    }

    /// Whether the container may be written, `good` being the authentic copy.
    fn check_writable(&self, good: &HeaderCopy, key: &VolumeKey) -> Result<()> {
        self.check_complete(good)?;
        self.check_finished(good, key)?;
        if self.copies.whole().any(|copy| copy.is_update_of(good)) {
            let hint =
                "--read-only opens it; strongroom header repair makes the older one count, after asking";
            return Err(Error::new(ErrorKind::Tampered, FORGED).with_hint(hint)); // NAT-RD-06
        }
        if let Some(doubt) = self.doubt(good).or_else(|| self.unlinked_beside(good, key)) {
            let hint = "--read-only opens it; strongroom header repair says what there is, and asks";
            return Err(Error::new(ErrorKind::Damaged, doubt).with_hint(hint));
        }
        if let Some((_, said)) = self.alien_records(good, key) {
            let hint = "look with --read-only: if the files read as noise, another header or backup fits them; if they read, \
                        strongroom header repair replaces the records, after asking";
            return Err(Error::new(ErrorKind::Damaged, said).with_hint(hint));
        }
        self.check_work(good, key)
    }

    /// Whether everything is there and known that writing needs, `good` being the authentic copy.
    pub(super) fn check_complete(&self, good: &HeaderCopy) -> Result<()> {
        self.refuse_outdated(&good.superblock)?; // NAT-REENC-17
        self.check_own()?;
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
            let hint = "restore the missing part from a backup; --read-only opens what is left";
            return Err(Error::new(ErrorKind::Damaged, reason).with_hint(hint)); // NAT-GEO-06
        }
        self.check_surplus(good)
    }

    /// NAT-HF-12: refuses to write under a header in a file, where the container's own one counts.
    pub(super) fn check_own(&self) -> Result<()> {
        let Some(own) = &self.own else { return Ok(()) };
        Err(Error::new(ErrorKind::Usage, own.said.clone()).with_hint(own.hint))
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
            details: {
                let old = self.caution(superblock, None).map(|caution| Detail::new("Old header", caution));
                let other = self.copies.damaged_other(self.copies.current());
                let other = other.map(|other| Detail::new("Damaged copy", other.to_string()));
                self.describe_foreign().into_iter().chain(other).chain(old).collect()
            },
        }
    }

    /// The header is authentic or does not open; only that it is an old one cannot be told from itself.
    fn fingerprint(&self) -> Option<Fingerprint> {
        let superblock = self.current();
        let claimed = || self.slots_of(superblock)?.newest_counter(superblock);
        fingerprint(superblock, superblock.reencryption.as_ref().and_then(|_| claimed()))
    }

    fn fingerprint_unlocked(&self, unlocked: &Unlocked) -> Option<Fingerprint> {
        self.authentic_fingerprint(&unlocked.volume_key).ok()?
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

    fn check_takes_password(&self, with_keyfiles: bool, keyslot: Option<u32>) -> Result<()> {
        let kind = if with_keyfiles { SlotKind::Keyfile } else { SlotKind::Password };
        let attempt = Attempt { keyslot, ..Attempt::default() };
        let mut copies = std::iter::once(self.copies.current()).chain(self.copies.rivals());
        if copies.any(|copy| !slots_to_try(copy, kind, &attempt).is_empty()) {
            return Ok(());
        }
        Err(no_slot_of(kind, self.copies.current(), keyslot))
    }

    fn unlock(&self, credentials: &Credentials, attempt: &Attempt) -> Result<Unlocked> {
        let mut budget = Budget::new(&attempt.limits);
        let mut tried: Vec<&HeaderCopy> = Vec::new();
        let mut first_error: Option<Error> = None;
        // NAT-RD-05: an older copy is never tried beside a whole newer one: a password removed since would open it.
        for copy in std::iter::once(self.copies.current()).chain(self.copies.rivals()) {
            if tried.iter().any(|before| before.has_keyslots_of(copy)) {
                continue;
            }
            match self.open_copy(copy, credentials, attempt, &mut budget) {
                Ok(unlocked) => return Ok(unlocked),
                Err(error) if error.kind() == ErrorKind::Tampered => first_error = Some(error),
                Err(error) => drop(first_error.get_or_insert(error)),
            }
            tried.push(copy);
        }
        let error = first_error.unwrap_or_else(no_keyslot_left);
        Err(self.name_lower(error, credentials, attempt, &mut budget))
    }

    fn unlock_with_key(&self, key: VolumeKey) -> Result<Unlocked> {
        self.accept(key, None)
    }

    fn told_by_key(&self) -> Option<&'static str> {
        let slots = self.slots_of(self.current()).filter(|slots| !slots.is_empty());
        slots.map(|_| "whether the records in its work areas are its own, without which it opens read-only")
    }

    fn check_unlocked(&self, _: &dyn Storage, unlocked: &Unlocked) -> Vec<Finding> {
        let key = &unlocked.volume_key;
        let mut findings = check_macs(&self.copies, self.actual_len, key);
        if let Ok(good) = self.authentic(key)
            && good.superblock.reencryption.is_some()
            && self.newer_generation(&good.superblock).is_none()
        {
            let slots = self.slots_of(&good.superblock);
            findings.push(check_records(&Ledger::open(&good.superblock, key, slots)));
        }
        let against = self.authentic(key).ok().and_then(|good| self.records_against(good, key));
        findings.extend(against.map(|said| Finding::error("re-encryption records", said)));
        findings
    }

    fn prepare_writing(&self, storage: &dyn Storage, unlocked: &Unlocked) -> Result<Vec<String>> {
        let key = &unlocked.volume_key;
        let good = self.authentic(key)?;
        self.check_writable(good, key)?;
        storage.sync_data()?; // NAT-UPD-07, also where nothing is to be healed
        let faults = self.faults_beside(good, key);
        let mut done = self.rewrite(storage, good, key, &faults)?;
        done.extend(HeaderFile::heal(storage, good)?);
        if good.superblock.reencryption.is_some() {
            // Read anew: between reading the header and asking for a password another process may have gone on.
            let slots = Slots::read(storage, &good.superblock.geometry);
            done.extend(Ledger::open(&good.superblock, key, slots.as_ref())?.recover(storage)?);
        }
        done.extend(finish_closing(storage, good, key));
        Ok(done)
    }

    fn warnings(&self, unlocked: &Unlocked) -> Vec<String> {
        let Ok(good) = self.authentic(&unlocked.volume_key) else { return Vec::new() };
        let key = &unlocked.volume_key;
        let forged = self.forged_beside(good, key).into_iter().chain(self.doubt(good));
        forged.chain(self.caution(&good.superblock, Some(key))).chain(self.lost_work(unlocked)).collect()
    }

    fn check_growth(&self, new_len: u64) -> Result<()> {
        check_growth(self.current(), new_len, self.actual_len).map(drop)
    }

    fn can_grow(&self, _: &Unlocked) -> bool {
        true
    }

    fn growth(
        &self,
        unlocked: &Unlocked,
        _: &Credentials,
        new_len: u64,
        _: &dyn Rng,
    ) -> Result<Box<dyn Growth>> {
        let good = self.authentic_for_writing(&unlocked.volume_key)?;
        Ok(Box::new(NativeGrowth::new(good, &unlocked.volume_key, new_len, self.actual_len)?))
    }

    fn shrinkage(&self, unlocked: &Unlocked, new_len: u64) -> Result<Box<dyn Shrinkage>> {
        let good = self.authentic_for_writing(&unlocked.volume_key)?;
        Ok(Box::new(NativeShrinkage::new(good, &unlocked.volume_key, new_len)?))
    }

    fn kdf_bounds(&self) -> Option<KdfBounds> {
        Some(keyslot::kdf_bounds())
    }

    fn check_change(&self, change: &Change<'_>) -> Result<()> {
        editor::check_change(&self.copies.current().keyslots, change)
    }

    fn editor(&self, unlocked: &Unlocked) -> Result<Box<dyn Editor>> {
        let good = self.authentic(&unlocked.volume_key)?;
        self.check_writable(good, &unlocked.volume_key)?;
        Ok(Box::new(NativeEditor::new(good, Arc::clone(&unlocked.volume_key))))
    }
}

/// NAT-RD-06: what passes for newer.
pub(super) const FORGED: &str = "the newer header copy was changed by someone without the key";

/// What a pin remembers of this superblock, and of the newest record where a re-encryption is under way.
fn fingerprint(superblock: &Superblock, record: Option<u64>) -> Option<Fingerprint> {
    let fingerprint = Fingerprint::of(Some(hyphenated(&superblock.uuid)), "native")?;
    let Superblock { sequence, generation, .. } = *superblock;
    Some(fingerprint.with_state(State { sequence, generation, record: record.unwrap_or(0) }))
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

/// A container as messages name it: its uuid, and its label where it has one.
pub(super) fn name_of(copy: &HeaderCopy) -> String {
    let superblock = &copy.superblock;
    let label = superblock.label.text().map(|label| format!(" (label {})", in_quotes(label)));
    hyphenated(&superblock.uuid) + &label.unwrap_or_default()
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
        return tried_by_number(ignored.index);
    }
    match kind {
        SlotKind::Keyfile if has(SlotKind::Password) => {
            Error::new(ErrorKind::Credentials, "no keyslot takes a keyfile").with_hint("omit --keyfile")
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
