//! The header as a whole: describing, unlocking, healing.

use std::{ops::Range, sync::Arc};

use super::{
    Luks2,
    copies::Copies,
    copy::CopyIndex,
    details::details,
    editor::{Luks2Editor, occupancy},
    fingerprint,
    keyslot::Slot,
    metadata::{Digest, Metadata},
    segment::{Crypt, Kind, Plan, Segment},
    volume::{self, Piece},
};
use crate::{
    crypto::{
        hash::HashKind,
        kdf::KdfLimits,
        rng::{OsRng, Rng},
        secret::{Credentials, VolumeKey},
    },
    error::{Error, ErrorKind, Result},
    format::{
        Attempt, Change, CopyState, CutEnd, Editor, Finding, Fingerprint, Growth, Header, HeaderInfo,
        KdfBounds, KeyfileRole, KeyslotInfo, Object, OpenEnd, Shrinkage, Unlocked,
        luks::{
            Place,
            backup::write_checked,
            cipher::Encryption,
            cost::kdf_bounds,
            create::Creation,
            editor::unbound,
            header_of,
            keyslot::{Keyslot, findings_of_costs},
            not_authenticated, open_end,
            unlock::open_any,
            version::{LuksHeader, Version},
            way_in,
        },
    },
    mapping::{self, Holes, Layout, Mapping},
    storage::Storage,
    text::excerpt,
    units::Sector,
};

/// The header of a LUKS2 container, with the ciphertext of the keyslots that can be opened.
#[derive(Debug)]
pub(in crate::format) struct Luks2Header {
    copies: Copies,
    container_len: u64,
}

impl Luks2Header {
    /// The digest of the volume key, with its number.
    fn digest_in_use(&self) -> Option<(u32, &Digest)> {
        let (segment, _) = self.first_crypt()?;
        let mut digests = self.metadata().digests.iter();
        digests
            .find(|(_, digest)| digest.segments.contains(&segment.index))
            .map(|(number, digest)| (*number, digest))
    }

    fn metadata(&self) -> &Metadata {
        &self.copies.current.metadata
    }

    /// What makes the volume, where something can open it; else what part of the header is against it, and why.
    fn openable(&self) -> std::result::Result<Vec<Piece<'_>>, (Object, Error)> {
        let object = if self.metadata().slots.is_empty() { "keyslots".into() } else { Object::Data };
        let plan = self.metadata().plan().map_err(|error| (object, error))?;
        let pieces = volume::pieces(&plan, self.container_len).map_err(|error| (Object::Data, error))?;
        self.usable_slots(&plan, None).map_err(|error| ("keyslots".into(), error))?;
        plan.key.check_cost(&KdfLimits::default()).map_err(|error| ("header".into(), error))?;
        Ok(pieces)
    }

    /// The keyslots that may give the volume key, or the one that was asked for.
    ///
    /// # Errors
    /// `Unsupported` where none of them is understood (L2-SLOT-06).
    fn usable_slots(&self, plan: &Plan<'_>, asked_for: Option<u32>) -> Result<Vec<&Keyslot>> {
        let is_meant = |slot: &&Slot| {
            plan.digest.slots.contains(&slot.index) && asked_for.is_none_or(|number| number == slot.index)
        };
        let slots = self.metadata().slots.iter().filter(is_meant);
        let usable: Vec<_> = slots.clone().filter_map(|slot| slot.usable.as_ref().ok()).collect();
        let mut unusable = slots.filter_map(|slot| Some((slot.index, slot.usable.as_ref().err()?)));
        match unusable.next() {
            Some((index, reason)) if usable.is_empty() => {
                let reason = format!("keyslot {index} cannot be opened: {reason}");
                Err(Error::new(ErrorKind::Unsupported, reason).with_hint(way_in::NEWER))
            }
            _ => Ok(usable),
        }
    }

    fn accept(&self, plan: &Plan<'_>, key: VolumeKey, keyslot: Option<u32>) -> Result<Unlocked> {
        let pieces = volume::pieces(plan, self.container_len)?;
        let sector_size = pieces.first().map(|piece| piece.sector_size);
        let sector_size = sector_size.ok_or_else(no_data)?;
        let mut segments = Vec::new();
        for piece in pieces {
            segments.push(mapping::Segment {
                first: Sector(piece.first),
                sectors: piece.sectors,
                storage_offset: piece.segment.offset,
                first_tweak: Sector(0),
                cipher: piece.encryption.spec.keyed(key.expose(), piece.iv_tweak)?,
            });
        }
        let mapping = Mapping::new(sector_size, segments, Holes::AreCiphertext)
            .map_err(|error| Error::caused_by(ErrorKind::Damaged, error))?;
        Ok(Unlocked { layout: Layout::Fixed(mapping), volume_key: Arc::new(key), keyslot })
    }

    /// What an examination says of the keyslots.
    fn findings_of_slots(&self) -> Vec<Finding> {
        let slots = &self.metadata().slots;
        let mut findings = Vec::new();
        for slot in slots {
            if let Err(reason) = &slot.usable {
                let message = format!("cannot be opened: {reason}");
                findings.push(Finding::warning(format!("keyslot {}", slot.index), message));
            }
        }
        findings.extend(slots.iter().filter_map(|slot| slot.usable.as_ref().ok()?.finding()));
        if let Ok(usable) = self.metadata().plan().and_then(|plan| self.usable_slots(&plan, None)) {
            findings.extend(findings_of_costs(&usable));
        }
        findings
    }

    /// The first segment in use that is encrypted, whatever keeps it from being opened.
    fn first_crypt(&self) -> Option<(&Segment, &Crypt)> {
        let in_use = self.metadata().segments.iter().filter(|segment| !segment.is_backup());
        in_use.into_iter().find_map(|segment| match &segment.kind {
            Kind::Crypt(crypt) => Some((segment, crypt)),
            Kind::Other(_) => None,
        })
    }

    /// Where the data begin that end where the container does, and the size of their sectors, in bytes.
    fn data_to_the_end(&self) -> Result<(u64, u64)> {
        match self.metadata().plan()?.segments.as_slice() {
            [(segment, crypt)] if segment.size.is_none() => {
                Ok((segment.offset, crypt.sector_size.bytes_u64()))
            }
            _ => Err(Error::new(ErrorKind::Unsupported, "the header gives its data a fixed size")),
        }
    }

    /// The size of the volume key of a segment in bytes; 0 where nothing tells.
    fn key_len(&self, segment: u32) -> usize {
        let digest = self.metadata().digests.values().find(|digest| digest.segments.contains(&segment));
        digest.and_then(|digest| digest.key.as_ref().ok()).map_or(0, |key| key.key_len)
    }

    fn data_size(&self) -> u64 {
        let in_use = self.metadata().segments.iter().filter(|segment| !segment.is_backup());
        let size = |segment: &Segment| {
            segment.size.unwrap_or_else(|| self.container_len.saturating_sub(segment.offset))
        };
        in_use.map(size).fold(0, u64::saturating_add)
    }
}

impl LuksHeader for Luks2Header {
    fn read_from(place: Place<'_>, container_len: u64) -> Result<Self> {
        let mut copies = Copies::read(place)?;
        for slot in &mut copies.current.metadata.slots {
            if let Ok(slot) = &mut slot.usable {
                slot.area.load(place.storage)?;
            }
        }
        Ok(Self { copies, container_len })
    }

    fn areas(&self) -> Range<u64> {
        self.metadata().areas.clone()
    }

    fn has_same_key(&self, other: &Self) -> bool {
        let digest = |header: &Self| {
            let (_, digest) = header.digest_in_use()?;
            let key = digest.key.as_ref().ok()?;
            Some((key.salt.clone(), key.iterations, key.digest.clone()))
        };
        digest(self).is_some_and(|own| Some(own) == digest(other))
    }

    /// What is not understood may be opened by others.
    fn closed(&self) -> Option<String> {
        let (_, digest) = self.digest_in_use()?;
        let slots = self.metadata().slots.iter().filter(|slot| digest.slots.contains(&slot.index));
        let usable: Vec<_> =
            slots.map(|slot| slot.usable.as_ref()).collect::<std::result::Result<_, _>>().ok()?;
        Keyslot::closed(usable)
    }

    fn stranger(&self) -> Option<String> {
        self.copies.stranger().map(|(_, uuid)| uuid.to_owned())
    }

    fn examine(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let pieces = self.openable();
        let is_renewed = pieces
            .as_ref()
            .is_ok_and(|pieces| pieces.iter().all(|piece| piece.encryption.check_writable().is_ok()));
        let fate = if is_renewed {
            "the next mount for writing renews it"
        } else {
            "nothing renews it as long as it cannot be mounted for writing"
        };
        let stranger = self.copies.stranger();
        let names = [(CopyIndex::First, "first header copy"), (CopyIndex::Second, "second header copy")];
        for ((index, name), copy) in names.into_iter().zip(self.copies.describe()) {
            let stranger = stranger.filter(|(other, _)| *other == index);
            findings.push(match (stranger, copy.state) {
                (Some((_, uuid)), _) => Finding::error(
                    name,
                    format!("it belongs to another container ({uuid}), and is left alone: header repair --scan tells of both"),
                ),
                (None, CopyState::Current) => Finding::info(name, "whole"),
                (None, CopyState::Stale) => Finding::warning(name, format!("stale: {fate}")),
                (None, CopyState::Damaged) => Finding::warning(name, format!("damaged: {fate}")),
                (None, CopyState::Missing) => Finding::warning(name, format!("missing: {fate}")),
            });
        }
        findings.push(not_authenticated());
        findings.extend(self.findings_of_slots());
        match pieces {
            Ok(pieces) => {
                findings.extend(self.closed().map(|closed| Finding::error("keyslots", closed)));
                findings.extend(pieces.first().and_then(|piece| piece.encryption.finding()));
                let open = pieces.iter().filter(|piece| piece.segment.size.is_none());
                findings.extend(open.map(|piece| {
                    open_end(self.container_len, piece.segment.offset, piece.sector_size.bytes_u64())
                }));
            }
            Err((object, error)) => findings.push(Finding::error(object, error.reason_with_way())),
        }
        findings
    }

    /// Only the header on the medium goes with how far a re-encryption is.
    fn check_movable(&self) -> Result<()> {
        if !self.metadata().is_in_reencryption() {
            return Ok(());
        }
        let reason = "a re-encryption by cryptsetup is under way, and only its own header fits the data";
        Err(Error::new(ErrorKind::Busy, reason).with_hint(way_in::REENCRYPTION))
    }

    fn check_replaces(&self, present: &Self) -> Result<()> {
        if present.areas() == self.areas() {
            return Ok(());
        }
        let reason = "header and areas have other sizes than in the header to be restored";
        Err(Error::new(ErrorKind::Usage, reason))
    }

    /// L2-BACKUP-01: the good copy stands in both places.
    fn complete(&self, storage: &dyn Storage) -> Result<()> {
        self.copies.complete(storage)
    }

    /// L2-BACKUP-03: the areas, then both copies, under a sequence id above those that are there: with its own the restored
    /// header would be taken for the stale one after a stop half-way.
    fn write_over(&self, _: &[u8], areas: &[u8], container: &dyn Storage) -> Result<()> {
        let place = Place::of(container);
        let (there, kept) = match Copies::read(place) {
            Ok(copies) => (copies.newest_sequence(), copies.index()),
            Err(_) => (0, CopyIndex::First),
        };
        let new = self.copies.current.after(there, &OsRng)?;
        write_checked(place.storage, areas, self.areas().start)?;
        new.write_as(kept.other(), place.storage)?;
        new.write_as(kept, place.storage)
    }
}

impl Header for Luks2Header {
    fn describe(&self) -> HeaderInfo {
        let current = &self.copies.current;
        let metadata = self.metadata();
        let crypt = self.first_crypt();
        // Also of data that another program opens.
        let first = metadata.segments.iter().find(|segment| !segment.is_backup());
        let key_bits = crypt.map_or(0, |(segment, _)| self.key_len(segment.index).saturating_mul(8));
        let sector_size = crypt.map_or(512, |(_, crypt)| crypt.sector_size.bytes());
        HeaderInfo {
            format: Luks2::NAME,
            version: 2,
            uuid: Some(current.uuid.clone()).filter(|uuid| !uuid.is_empty()),
            label: Some(current.label.clone()).filter(|label| !label.is_empty()),
            cipher: crypt.map_or_else(|| "none".to_owned(), |(_, crypt)| excerpt(&crypt.encryption)),
            key_bits: u32::try_from(key_bits).unwrap_or(u32::MAX),
            sector_size: u32::try_from(sector_size).unwrap_or(u32::MAX),
            container_size: self.container_len,
            data_offset: crypt.map(|(segment, _)| segment).or(first).map_or(0, |segment| segment.offset),
            data_size: self.data_size(),
            provision: None,
            generation: None,
            reencryption: metadata.is_in_reencryption(),
            authenticated_header: false,
            headers: self.copies.describe(),
            keyslots: describe_slots(metadata),
            details: details(metadata, &current.subsystem),
        }
    }

    fn fingerprint(&self) -> Option<Fingerprint> {
        let uuid = Some(self.copies.current.uuid.clone()).filter(|uuid| !uuid.is_empty());
        let mut fingerprint = Fingerprint::of(uuid, Luks2::NAME)?;
        fingerprint::add(&mut fingerprint, self.metadata());
        Some(fingerprint)
    }

    fn keyfile_role(&self) -> KeyfileRole {
        KeyfileRole::WholeSecret
    }

    fn check_openable(&self) -> Result<()> {
        self.openable().map(drop).map_err(|(_, error)| error)
    }

    fn unlock(&self, credentials: &Credentials, attempt: &Attempt) -> Result<Unlocked> {
        let plan = self.metadata().plan()?;
        if let Some(slot) = attempt.keyslot.filter(|slot| self.metadata().is_unbound(*slot)) {
            return Err(unbound(ErrorKind::Usage, slot));
        }
        let usable = self.usable_slots(&plan, attempt.keyslot)?;
        let usable = usable.into_iter().map(|slot| (slot, plan.key));
        let opened = open_any(usable, credentials, attempt);
        let (key, slot) = opened.map_err(|error| match self.copies.stranger() {
            Some((_, uuid)) if error.kind() == ErrorKind::Credentials => error.with_hint(format!(
                "its other header copy is of another container ({uuid}), which counts for less here: header repair --scan tells of both, and chooses"
            )),
            _ => error,
        })?;
        self.accept(&plan, key, Some(slot))
    }

    fn unlock_with_key(&self, key: VolumeKey) -> Result<Unlocked> {
        let plan = self.metadata().plan()?;
        plan.key.check(&key)?;
        self.accept(&plan, key, None)
    }

    fn left_alone(&self, storage: &dyn Storage) -> Result<Option<String>> {
        self.copies.left_alone(header_of(storage))
    }

    fn warnings(&self, _: &Unlocked) -> Vec<String> {
        self.copies.doubt().into_iter().collect()
    }

    fn at_stake(&self) -> Vec<Range<u64>> {
        self.copies.at_stake().into_iter().collect()
    }

    fn prepare_writing(&self, storage: &dyn Storage, unlocked: &Unlocked) -> Result<Vec<String>> {
        for (_, crypt) in self.metadata().plan()?.segments {
            Encryption::parse(&crypt.encryption, unlocked.volume_key.len())?.check_writable()?;
        }
        let storage = header_of(storage);
        self.copies.check_place(storage)?;
        // What was read may be in a cache only: its writer may have been killed before it was synced.
        storage.sync_data()?;
        Ok(self.copies.heal(storage)?.into_iter().collect())
    }

    fn kdf_bounds(&self) -> Option<KdfBounds> {
        let key_len = self.first_crypt().map_or(0, |(segment, _)| self.key_len(segment.index));
        Some(kdf_bounds(Luks2::KDF_KINDS, HashKind::Sha256, key_len))
    }

    fn shrinkage(&self, _: &Unlocked, new_len: u64) -> Result<Box<dyn Shrinkage>> {
        let (offset, unit) = self.data_to_the_end()?;
        Ok(Box::new(CutEnd::new(self.container_len, new_len, offset, unit)?))
    }

    fn check_growth(&self, new_len: u64) -> Result<()> {
        crate::format::growth::check_larger(self.container_len, new_len)
    }

    fn can_grow(&self, _: &Unlocked) -> bool {
        self.data_to_the_end().is_ok()
    }

    /// The data end where the container does.
    fn growth(&self, _: &Unlocked, _: &Credentials, new_len: u64, _: &dyn Rng) -> Result<Box<dyn Growth>> {
        let (offset, unit) = self.data_to_the_end()?;
        Ok(Box::new(OpenEnd::new(self.container_len, new_len, offset, unit)?))
    }

    fn check_change(&self, change: &Change<'_>) -> Result<()> {
        self.metadata().plan()?;
        occupancy(self.metadata(), self.digest_in_use().map(|(number, _)| number)).check(change)
    }

    fn editor(&self, unlocked: &Unlocked) -> Result<Box<dyn Editor>> {
        let plan = self.metadata().plan()?;
        let (_, crypt) = plan.segments.first().ok_or_else(no_data)?;
        let (digest, _) = self.digest_in_use().ok_or_else(no_data)?;
        let volume_key = Arc::clone(&unlocked.volume_key);
        let encryption = Encryption::parse(&crypt.encryption, volume_key.len())?;
        encryption.check_writable()?;
        Ok(Box::new(Luks2Editor::new(&self.copies.current, encryption, digest, volume_key)?))
    }
}

fn no_data() -> Error {
    Error::new(ErrorKind::Damaged, "the header names no data")
}

/// The keyslots as `info` shows them.
pub(super) fn describe_slots(metadata: &Metadata) -> Vec<KeyslotInfo> {
    let describe = |slot: &Slot| {
        let info = slot.describe();
        let token = metadata.token_of(slot.index).map(|token| token.kind.clone());
        let kind = match &token {
            _ if metadata.is_unbound(slot.index) => "unbound",
            Some(token) if slot.usable.is_ok() => token_name(token),
            _ => info.kind,
        };
        KeyslotInfo { kind, token, ..info }
    };
    metadata.slots.iter().map(describe).collect()
}

/// What `info` calls a keyslot that a token of this type opens.
fn token_name(token: &str) -> &'static str {
    match token {
        "systemd-tpm2" => "tpm2",
        "systemd-fido2" => "fido2",
        "systemd-pkcs11" => "pkcs11",
        "clevis" => "clevis",
        _ => "token",
    }
}
