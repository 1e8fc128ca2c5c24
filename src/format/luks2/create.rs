//! A new header: volume key, first keyslot, both copies.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{ops::Range, sync::Arc};

use serde_json::{Value, json};

use super::{
    copy::{CopyIndex, HeaderCopy, Identity},
    edit::{digest_json, keyslot_json},
    layout::USUAL_AREAS,
    metadata::MAX_KEYSLOTS_LEN,
};
use crate::{
    crypto::{
        kdf::{KdfCost, KdfKind},
        rng::Rng,
        secret::{Credentials, VolumeKey},
    },
    error::{Error, ErrorKind, Result},
    format::{
        Blueprint, Extent, KdfBounds, KeyfileRole, NewHeader, Priority, Room, Wishes,
        luks::{
            cipher::Encryption,
            create::{Settled, checked_cost, kdf_bounds, new_secret, write_area},
            digest::KeyDigest,
            keyslot::{Keyslot, NewArea, new_area_len},
        },
    },
    mapping::Layout,
    storage::Storage,
    units::SectorSize,
};

/// What LUKS2 keyslots take.
pub(super) const KDF_KINDS: &[KdfKind] = &[KdfKind::Argon2id, KdfKind::Argon2i, KdfKind::Pbkdf2];

/// A new container of which all is settled but the secret.
#[derive(Debug)]
pub(super) struct Luks2Blueprint {
    settled: Settled,
    label: String,
    /// The keyslots' areas in bytes.
    areas: Range<u64>,
}

impl Luks2Blueprint {
    /// Settles what `wishes` leave open.
    ///
    /// # Errors
    /// `Usage` for what LUKS2 does not have (L2-WRITE-01).
    pub(super) fn new(room: Room, wishes: &Wishes<'_>, rng: &dyn Rng) -> Result<Self> {
        let label = wishes.label.unwrap_or_default();
        if label.len() > MAX_LABEL_LEN || label.chars().any(char::is_control) {
            return Err(Error::new(
                ErrorKind::Usage,
                "a LUKS2 label takes 47 bytes without control characters",
            ));
        }
        let encryption = Encryption::wished(wishes.cipher, wishes.key_bits)?;
        let least = new_area_len(encryption.key_len)?;
        let areas_len = wishes.keyslots_len.unwrap_or(USUAL_AREAS.end.saturating_sub(USUAL_AREAS.start));
        if areas_len < least || areas_len > MAX_KEYSLOTS_LEN || !areas_len.is_multiple_of(4096) {
            return Err(Error::new(
                ErrorKind::Usage,
                "the room for keyslots is a multiple of 4 KiB, for at least one, and at most 128 MiB",
            ));
        }
        let areas = USUAL_AREAS.start..USUAL_AREAS.start.saturating_add(areas_len);
        let settled = Settled::new(room, wishes, encryption, wishes.sector_size, areas.end, rng)?;
        Ok(Self { settled, label: label.to_owned(), areas })
    }

    /// The JSON of the header with this one keyslot.
    fn json(&self, slot: &Keyslot, digest: &KeyDigest) -> Result<Value> {
        let settled = &self.settled;
        Ok(json!({
            "keyslots": {"0": keyslot_json(slot, new_area_len(settled.encryption.key_len)?)},
            "tokens": {},
            "segments": {"0": {
                "type": "crypt",
                "offset": settled.extent.data.start.to_string(),
                "size": "dynamic",
                "iv_tweak": "0",
                "encryption": settled.encryption.name,
                "sector_size": settled.sector_size.bytes_u64(),
            }},
            "digests": {"0": digest_json(digest)},
            "config": {
                "json_size": (HEADER_LEN.saturating_sub(4096)).to_string(),
                "keyslots_size": self.areas.end.saturating_sub(self.areas.start).to_string(),
            },
        }))
    }
}

impl Blueprint for Luks2Blueprint {
    fn uuid(&self) -> Option<String> {
        Some(self.settled.uuid.clone())
    }

    fn extent(&self) -> Extent {
        self.settled.extent.clone()
    }

    fn sector_size(&self) -> SectorSize {
        self.settled.sector_size
    }

    fn keyfile_role(&self) -> KeyfileRole {
        KeyfileRole::WholeSecret
    }

    fn kdf_bounds(&self) -> Option<KdfBounds> {
        Some(kdf_bounds(KDF_KINDS, self.settled.hash, self.settled.encryption.key_len))
    }

    fn make_header(
        &self,
        credentials: &Credentials,
        cost: Option<KdfCost>,
        rng: &dyn Rng,
    ) -> Result<Box<dyn NewHeader>> {
        let settled = &self.settled;
        let cost = cost.ok_or_else(|| Error::new(ErrorKind::Usage, "a keyslot needs costs"))?;
        let cost = checked_cost(cost, KDF_KINDS)?;
        let volume_key = settled.new_volume_key(rng)?;
        let area = NewArea {
            offset: self.areas.start,
            encryption: &settled.encryption,
            hash: settled.hash,
            priority: Some(Priority::Normal),
        };
        let slot = Keyslot::seal(0, area, cost, new_secret(credentials)?, &volume_key, rng)?;
        let digest = KeyDigest::new(&volume_key, settled.hash, settled.hash.digest_len(), rng)?;
        let identity = Identity { label: &self.label, uuid: &settled.uuid };
        let copy = HeaderCopy::new(&identity, HEADER_LEN, &self.json(&slot, &digest)?, rng)?;
        let areas_len = self.areas.end.saturating_sub(self.areas.start);
        let mut noise = vec![0; usize::try_from(areas_len).unwrap_or_default()];
        rng.fill(&mut noise)?;
        let layout = settled.layout(&volume_key)?;
        Ok(Box::new(NewLuks2Header { copy, slot, noise, layout, volume_key: Arc::new(volume_key) }))
    }
}

/// A header that was made and not written yet.
#[derive(Debug)]
struct NewLuks2Header {
    copy: HeaderCopy,
    slot: Keyslot,
    /// What fills the areas before anything is in them.
    noise: Vec<u8>,
    layout: Layout,
    volume_key: Arc<VolumeKey>,
}

impl NewLuks2Header {
    /// L2-WRITE-04: first what nobody recognises, then the area of the keyslot, then the copies that make it a container.
    fn write_all(&self, storage: &dyn Storage) -> Result<()> {
        storage.write_all_at(&self.noise, self.slot.area.offset)?;
        write_area(storage, &self.slot)?;
        self.copy.write_as(CopyIndex::Second, storage)?;
        self.copy.write_as(CopyIndex::First, storage)
    }
}

impl NewHeader for NewLuks2Header {
    fn volume_key(&self) -> Arc<VolumeKey> {
        Arc::clone(&self.volume_key)
    }

    fn layout(&self) -> Result<Layout> {
        Ok(self.layout.clone())
    }

    fn write(&self, storage: &dyn Storage) -> Result<()> {
        self.write_all(storage)
    }

    fn write_file(&self, file: &dyn Storage) -> Result<()> {
        self.write_all(file)
    }
}

/// The size of a copy of a new header, as cryptsetup writes it, in bytes.
const HEADER_LEN: u64 = 16 << 10;
/// The field has 48 bytes, and a zero byte ends it.
const MAX_LABEL_LEN: usize = 47;
