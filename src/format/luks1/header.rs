//! The header as a whole: describing, unlocking.

use std::{io, ops::Range, sync::Arc};

use zerocopy::FromBytes;

use super::{
    Luks1,
    editor::{Luks1Editor, occupancy},
    layout::{HEADER_LEN, RawHeader},
    parse::{HeaderError, Parsed, areas},
};
use crate::{
    crypto::{
        kdf::KdfLimits,
        rng::Rng,
        secret::{Credentials, VolumeKey},
    },
    error::{Error, ErrorKind, Result},
    format::{
        Attempt, Change, CopyInfo, CopyState, CutEnd, Detail, Editor, Finding, Fingerprint, Growth, Header,
        HeaderInfo, KdfBounds, KeyfileRole, Object, OpenEnd, Shrinkage, Unlocked,
        luks::{
            self, Place, UNIT,
            backup::write_checked,
            cost::kdf_bounds,
            create::Creation,
            fingerprint::{add_digest, add_keyslot},
            header_of,
            keyslot::{Keyslot, findings_of_costs},
            unlock::open_any,
            version::{LuksHeader, Version},
        },
        no_keyslot_left,
    },
    mapping::{Holes, Layout, Mapping, Segment},
    storage::Storage,
    units::{Sector, SectorSize},
};

/// The header of a LUKS1 container, with the ciphertext of the keyslots in use.
#[derive(Debug)]
pub(in crate::format) struct Luks1Header {
    parsed: Parsed,
    raw: RawHeader,
    container_len: u64,
    is_detached: bool,
}

impl Luks1Header {
    /// The header's bytes.
    pub(super) const fn raw(&self) -> &RawHeader {
        &self.raw
    }

    /// L1-HDR-06: without its container a detached header opens nothing.
    fn check_attached(&self) -> Result<()> {
        if self.parsed.data_offset == 0 && !self.is_detached { Err(luks::detached()) } else { Ok(()) }
    }

    /// The size of the volume in sectors: to the container's end.
    fn sectors(&self) -> u64 {
        self.container_len.saturating_sub(self.parsed.data_offset) / UNIT
    }

    /// L1-DATA-02
    fn check_data(&self) -> Result<()> {
        if self.sectors() == 0 {
            return Err(Error::new(ErrorKind::Damaged, "the container ends where its data should start"));
        }
        Ok(())
    }

    /// One segment, numbered from the start of the data (L1-DATA-01).
    fn accept(&self, key: VolumeKey, keyslot: Option<u32>) -> Result<Unlocked> {
        self.check_data()?;
        let segment = Segment {
            first: Sector(0),
            sectors: self.sectors(),
            storage_offset: self.parsed.data_offset,
            first_tweak: Sector(0),
            cipher: self.parsed.encryption.spec.keyed(key.expose(), 0)?,
        };
        let mapping = Mapping::new(SectorSize::B512, vec![segment], Holes::AreCiphertext)
            .map_err(|error| Error::caused_by(ErrorKind::Damaged, error))?;
        Ok(Unlocked { layout: Layout::Fixed(mapping), volume_key: Arc::new(key), keyslot })
    }
}

/// What is wrong where the storage ends before a header would.
fn cut_off(storage: &dyn Storage) -> Error {
    match Luks1::has_magic(storage).and_then(|is_one| Ok((is_one, storage.size()?))) {
        Ok((true, len)) => HeaderError::HeaderCutOff { len }.into(),
        Ok((false, _)) => HeaderError::NoMagic.into(),
        Err(error) => error,
    }
}

impl LuksHeader for Luks1Header {
    fn read_from(place: Place<'_>, container_len: u64) -> Result<Self> {
        let Place { storage, is_detached } = place;
        let mut bytes = [0; HEADER_LEN];
        storage.read_exact_at(&mut bytes, 0).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => cut_off(storage),
            _ => Error::from(error),
        })?;
        let mut parsed = Parsed::parse(&bytes, container_len, is_detached)?;
        for slot in &mut parsed.keyslots {
            slot.area.load(storage)?;
        }
        let raw = RawHeader::read_from_bytes(&bytes).map_err(|_| HeaderError::NoMagic)?;
        Ok(Self { parsed, raw, container_len, is_detached })
    }

    fn areas(&self) -> Range<u64> {
        areas(&self.raw, self.parsed.encryption.key_len)
    }

    fn has_same_key(&self, other: &Self) -> bool {
        let digest =
            |header: &Self| (header.raw.digest, header.raw.digest_salt, header.raw.digest_iterations);
        digest(self) == digest(other)
    }

    fn closed(&self) -> Option<String> {
        Keyslot::closed(&self.parsed.keyslots)
    }

    fn examine(&self) -> Vec<Finding> {
        let mut findings = vec![Finding::info("header", "whole"), luks::not_authenticated()];
        if self.parsed.keyslots.is_empty() {
            findings.push(Finding::error("keyslots", no_keyslot_left().reason()));
        } else {
            findings.extend(self.closed().map(|closed| Finding::error("keyslots", closed)));
        }
        findings.extend(self.parsed.keyslots.iter().filter_map(Keyslot::finding));
        findings.extend(self.parsed.odd.iter().map(|(slot, state)| {
            let message = format!("its state, {state:#x}, is neither active nor free: it is not tried");
            Finding::warning(format!("keyslot {slot}"), message)
        }));
        findings.extend(findings_of_costs(&self.parsed.keyslots.iter().collect::<Vec<_>>()));
        findings.extend(self.parsed.encryption.finding());
        findings.push(
            match self.check_data().and_then(|()| self.parsed.digest.check_cost(&KdfLimits::default())) {
                Ok(()) => luks::open_end(self.container_len, self.parsed.data_offset, UNIT),
                Err(error) => Finding::error(Object::Data, error.reason_with_way()),
            },
        );
        findings
    }

    /// L1-BACKUP-03: the areas, then the header that names them.
    fn write_over(&self, front: &[u8], areas: &[u8], container: &dyn Storage) -> Result<()> {
        let storage = header_of(container);
        write_checked(storage, areas, self.areas().start)?;
        write_checked(storage, front, 0)
    }
}

impl Header for Luks1Header {
    fn describe(&self) -> HeaderInfo {
        let parsed = &self.parsed;
        let digest = &parsed.digest;
        let mut details = vec![
            Detail::new("Hash", parsed.hash.name()),
            Detail::new(
                "Key digest",
                format!("pbkdf2-{}, {} iterations", digest.hash.name(), digest.iterations),
            ),
        ];
        details.extend(parsed.keyslots.iter().map(|slot| {
            Detail::new(format!("Keyslot {}", slot.index), format!("stripes at offset {}", slot.area.offset))
        }));
        HeaderInfo {
            format: Luks1::NAME,
            version: 1,
            uuid: parsed.uuid.clone(),
            label: None,
            cipher: parsed.encryption.name.clone(),
            key_bits: u32::try_from(parsed.encryption.key_len.saturating_mul(8)).unwrap_or(u32::MAX),
            sector_size: 512,
            container_size: self.container_len,
            data_offset: parsed.data_offset,
            data_size: self.sectors().saturating_mul(UNIT),
            provision: None,
            generation: None,
            reencryption: false,
            authenticated_header: false,
            headers: vec![CopyInfo { offset: 0, state: CopyState::Current, sequence: None }],
            keyslots: parsed.describe_keyslots(),
            details,
        }
    }

    fn fingerprint(&self) -> Option<Fingerprint> {
        let parsed = &self.parsed;
        let mut fingerprint = Fingerprint::of(parsed.uuid.clone(), Luks1::NAME)?;
        fingerprint.add("", "cipher", &[parsed.encryption.name.as_bytes()]);
        fingerprint.add("", "hash", &[parsed.hash.name().as_bytes()]);
        fingerprint.add("", "data offset", &[&parsed.data_offset.to_le_bytes()]);
        add_digest(&mut fingerprint, "volume key", &parsed.digest);
        for slot in &parsed.keyslots {
            add_keyslot(&mut fingerprint, slot);
        }
        Some(fingerprint)
    }

    fn keyfile_role(&self) -> KeyfileRole {
        KeyfileRole::WholeSecret
    }

    fn check_openable(&self) -> Result<()> {
        self.check_attached()?;
        if self.parsed.keyslots.is_empty() {
            return Err(no_keyslot_left());
        }
        self.check_data()?;
        self.parsed.digest.check_cost(&KdfLimits::default())
    }

    fn unlock(&self, credentials: &Credentials, attempt: &Attempt) -> Result<Unlocked> {
        self.check_openable()?;
        let slots = self.parsed.keyslots.iter().map(|slot| (slot, &self.parsed.digest));
        let (key, slot) = open_any(slots, credentials, attempt)?;
        self.accept(key, Some(slot))
    }

    fn unlock_with_key(&self, key: VolumeKey) -> Result<Unlocked> {
        self.check_attached()?;
        self.parsed.digest.check(&key)?;
        self.accept(key, None)
    }

    fn prepare_writing(&self, storage: &dyn Storage, _: &Unlocked) -> Result<Vec<String>> {
        self.parsed.encryption.check_writable()?;
        // What was read may be in a cache only: its writer may have been killed before it was synced.
        storage.sync_data()?;
        Ok(Vec::new())
    }

    fn kdf_bounds(&self) -> Option<KdfBounds> {
        Some(kdf_bounds(Luks1::KDF_KINDS, self.parsed.hash, self.parsed.encryption.key_len))
    }

    fn check_growth(&self, new_len: u64) -> Result<()> {
        crate::format::growth::check_larger(self.container_len, new_len)
    }

    fn can_grow(&self, _: &Unlocked) -> bool {
        true
    }

    /// The data end where the container does.
    fn growth(&self, _: &Unlocked, _: &Credentials, new_len: u64, _: &dyn Rng) -> Result<Box<dyn Growth>> {
        Ok(Box::new(OpenEnd::new(self.container_len, new_len, self.parsed.data_offset, UNIT)?))
    }

    fn shrinkage(&self, _: &Unlocked, new_len: u64) -> Result<Box<dyn Shrinkage>> {
        Ok(Box::new(CutEnd::new(self.container_len, new_len, self.parsed.data_offset, UNIT)?))
    }

    fn check_change(&self, change: &Change<'_>) -> Result<()> {
        self.check_attached()?;
        self.parsed.encryption.check_writable()?;
        occupancy(&self.parsed.describe_keyslots()).check(change)
    }

    fn editor(&self, unlocked: &Unlocked) -> Result<Box<dyn Editor>> {
        self.parsed.encryption.check_writable()?;
        Ok(Box::new(Luks1Editor::new(self, &self.parsed, Arc::clone(&unlocked.volume_key))))
    }
}
