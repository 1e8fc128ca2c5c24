//! A new header: volume key, first keyslot, and all around them that both versions have.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{fmt, marker::PhantomData, ops::Range, sync::Arc};

use super::{
    backup::write_checked_as,
    cipher::Encryption,
    cost::{checked_cost, kdf_bounds},
    digest::KeyDigest,
    keyslot::{Area, Keyslot, NewArea},
    unlock::password,
};
use crate::{
    crypto::{
        hash::HashKind,
        kdf::{KdfCost, KdfKind},
        rng::Rng,
        secret::{Credentials, LockedBytes, VolumeKey},
        sector::IvMode,
    },
    error::{Error, ErrorKind, Result},
    format::{
        Blueprint, Extent, KdfBounds, KeyfileRole, NewHeader, Priority, Provision, Room, Wishes, hyphenated,
        new_uuid,
    },
    mapping::{Holes, Layout, Mapping, Segment},
    storage::Storage,
    units::{Sector, SectorSize},
};

/// What a version of LUKS settles and writes of a new container.
pub(in crate::format) trait Creation: fmt::Debug + 'static {
    /// What the keyslots take; the first is the usual one.
    const KDF_KINDS: &'static [KdfKind];
    /// The priority of a new container's keyslot, where keyslots have one.
    const PRIORITY: Option<Priority>;

    /// A header that was made and not written yet, without areas.
    type NewHeader: fmt::Debug + 'static;

    /// Settles what `wishes` leave open.
    ///
    /// # Errors
    /// `Usage` for what this version does not have.
    fn settle(room: Room, wishes: &Wishes<'_>, rng: &dyn Rng) -> Result<Settled>;

    /// Refuses costs that a keyslot cannot have under a header with this hash.
    ///
    /// # Errors
    /// `Usage`.
    fn checked_cost(cost: KdfCost, _header_hash: HashKind) -> Result<KdfCost> {
        checked_cost(cost, Self::KDF_KINDS)
    }

    /// The bytes of the volume key's digest.
    fn digest_len(hash: HashKind) -> usize;

    /// The header around this one keyslot.
    fn new_header(
        settled: &Settled,
        slot: &Keyslot,
        digest: &KeyDigest,
        rng: &dyn Rng,
    ) -> Result<Self::NewHeader>;

    /// Writes a new header in front of its areas, synced and read back.
    fn write_header(header: &Self::NewHeader, storage: &dyn Storage) -> Result<()>;
}

/// What is settled of a new container.
#[derive(Debug)]
pub(in crate::format) struct Settled {
    pub(in crate::format) uuid: String,
    pub(in crate::format) label: String,
    pub(in crate::format) encryption: Encryption,
    /// The hash of digest and splitter, and the usual one of PBKDF2.
    pub(in crate::format) hash: HashKind,
    pub(in crate::format) sector_size: SectorSize,
    pub(in crate::format) extent: Extent,
    /// The keyslots' areas in bytes.
    pub(in crate::format) areas: Range<u64>,
}

impl Settled {
    /// Settles what `wishes` leave open. The data of a container that bears its header begin where `areas` end.
    ///
    /// # Errors
    /// `Usage` for what LUKS does not have, and for too little room.
    pub(in crate::format) fn new(
        room: Room,
        wishes: &Wishes<'_>,
        encryption: Encryption,
        sector_size: Option<SectorSize>,
        areas: Range<u64>,
        rng: &dyn Rng,
    ) -> Result<Self> {
        if wishes.provision == Provision::Thin {
            let reason = "LUKS containers are thick or quick: nothing in them says which sectors are unused";
            return Err(Error::usage(reason)); // L1-WRITE-02
        }
        let data_offset = if wishes.is_detached { 0 } else { areas.end };
        let (sector_size, extent) = extent(room, sector_size, data_offset)?;
        if encryption.spec.mode.iv() == Some(IvMode::Plain) && extent.data_len() > IVS_OF_PLAIN {
            let reason = format!("the IVs of {} repeat after 2 TiB", encryption.name);
            return Err(Error::usage(reason).with_hint("plain64 has enough of them")); // L1-WRITE-01
        }
        Ok(Self {
            uuid: hyphenated(&new_uuid(rng)?),
            label: wishes.label.unwrap_or_default().to_owned(),
            encryption,
            hash: wishes.hash.unwrap_or(HashKind::Sha256),
            sector_size,
            extent,
            areas,
        })
    }

    /// The size of the keyslots' areas in bytes.
    pub(in crate::format) const fn areas_len(&self) -> u64 {
        self.areas.end.saturating_sub(self.areas.start)
    }

    /// A volume key that the cipher takes: of XTS, with unlike halves.
    pub(in crate::format) fn new_volume_key(&self, rng: &dyn Rng) -> Result<VolumeKey> {
        let mut key = LockedBytes::zeroed(self.encryption.key_len)?;
        rng.fill(key.as_mut_slice())?;
        self.encryption.spec.keyed(key.as_slice(), 0)?; // L1-WRITE-04
        Ok(key.into())
    }

    /// How the volume will lie in the container.
    pub(in crate::format) fn layout(&self, key: &VolumeKey) -> Result<Layout> {
        let segment = Segment {
            first: Sector(0),
            sectors: self.extent.data_len() >> self.sector_size.shift(),
            storage_offset: self.extent.data.start,
            first_tweak: Sector(0),
            cipher: self.encryption.spec.keyed(key.expose(), 0)?,
        };
        let mapping = Mapping::new(self.sector_size, vec![segment], Holes::AreCiphertext)
            .map_err(|error| Error::caused_by(ErrorKind::Usage, error))?;
        Ok(Layout::Fixed(mapping))
    }
}

/// A new container of which all is settled but the secret.
#[derive(Debug)]
pub(in crate::format) struct LuksBlueprint<V> {
    settled: Settled,
    version: PhantomData<V>,
}

impl<V> LuksBlueprint<V> {
    pub(in crate::format) const fn new(settled: Settled) -> Self {
        Self { settled, version: PhantomData }
    }
}

impl<V: Creation> Blueprint for LuksBlueprint<V> {
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
        Some(kdf_bounds(V::KDF_KINDS, self.settled.hash, self.settled.encryption.key_len))
    }

    fn make_header(
        &self,
        credentials: &Credentials,
        cost: Option<KdfCost>,
        rng: &dyn Rng,
    ) -> Result<Box<dyn NewHeader>> {
        let settled = &self.settled;
        let hash = settled.hash;
        let cost = V::checked_cost(cost.ok_or_else(|| Error::usage("a keyslot needs costs"))?, hash)?;
        let volume_key = settled.new_volume_key(rng)?;
        let offset = settled.areas.start;
        let area = NewArea { offset, encryption: &settled.encryption, hash, priority: V::PRIORITY };
        let slot = Keyslot::seal(0, area, cost, new_secret(credentials)?, &volume_key, rng)?;
        let digest = KeyDigest::new(&volume_key, hash, V::digest_len(hash), rng)?;
        let header = V::new_header(settled, &slot, &digest, rng)?;
        let mut noise = vec![0; usize::try_from(settled.areas_len()).unwrap_or_default()];
        rng.fill(&mut noise)?;
        let layout = settled.layout(&volume_key)?;
        Ok(Box::new(NewLuks::<V> { header, slot, noise, layout, volume_key: Arc::new(volume_key) }))
    }
}

/// A header that was made and not written yet, with its areas.
#[derive(Debug)]
struct NewLuks<V: Creation> {
    header: V::NewHeader,
    slot: Keyslot,
    /// What fills the areas before anything is in them.
    noise: Vec<u8>,
    layout: Layout,
    volume_key: Arc<VolumeKey>,
}

impl<V: Creation> NewHeader for NewLuks<V> {
    fn volume_key(&self) -> Arc<VolumeKey> {
        Arc::clone(&self.volume_key)
    }

    fn layout(&self) -> Result<Layout> {
        Ok(self.layout.clone())
    }

    /// L1-WRITE-07, L2-WRITE-04: first what nobody recognises, then the area of the keyslot, then the header that makes it a
    /// container.
    fn write(&self, storage: &dyn Storage) -> Result<()> {
        storage.write_all_at(&self.noise, self.slot.area.offset)?;
        write_area(storage, &self.slot)?;
        V::write_header(&self.header, storage)
    }

    fn write_file(&self, file: &dyn Storage) -> Result<()> {
        self.write(file)
    }
}

/// The volume's sectors fill what follows `data_offset`; of 4096 bytes where that is a whole number of those.
fn extent(room: Room, wanted: Option<SectorSize>, data_offset: u64) -> Result<(SectorSize, Extent)> {
    let left = match room {
        Room::Container(len) => len.saturating_sub(data_offset),
        Room::Data(len) => len,
    };
    let is_whole = |size: SectorSize| left.is_multiple_of(size.bytes_u64());
    let usual = if is_whole(SectorSize::B4096) { SectorSize::B4096 } else { SectorSize::B512 };
    let sector_size = wanted.unwrap_or(usual);
    let bytes = sector_size.bytes_u64();
    if matches!(room, Room::Container(_)) && sector_size != SectorSize::B512 && !is_whole(sector_size) {
        return Err(Error::usage(format!("the data area is no whole number of sectors of {bytes} bytes")));
    }
    let data_len = match room {
        Room::Container(_) => left.checked_div(bytes).unwrap_or_default().saturating_mul(bytes),
        Room::Data(_) => left.checked_next_multiple_of(bytes).unwrap_or(u64::MAX),
    };
    if data_len < LEAST_DATA {
        let least = data_offset.saturating_add(LEAST_DATA) / 1024;
        return Err(Error::usage(format!("a container needs at least {least} KiB")));
    }
    let end = data_offset.checked_add(data_len).filter(|end| i64::try_from(*end).is_ok());
    let end = end.ok_or_else(|| Error::usage("a container holds less than 2^63 bytes"))?;
    let container_len = match room {
        // What is left of the last 512 bytes belongs to nobody.
        Room::Container(len) => len.saturating_sub(len % 512),
        Room::Data(_) => end,
    };
    Ok((sector_size, Extent { container_len, data: data_offset..end }))
}

/// The secret of a new keyslot.
///
/// # Errors
/// `Usage` for what is no password and no single keyfile, and for an empty one.
pub(in crate::format) fn new_secret(credentials: &Credentials) -> Result<&[u8]> {
    let secret = password(credentials).map_err(|error| Error::usage(error.reason()))?;
    if secret.is_empty() { Err(Error::usage("the password is empty")) } else { Ok(secret) }
}

/// Writes a keyslot's stripes where they belong, and reads them back.
///
/// # Errors
/// What writing gave; `Io` where something else is read back.
pub(in crate::format) fn write_area(storage: &dyn Storage, slot: &Keyslot) -> Result<()> {
    let Area { offset, material, .. } = &slot.area;
    write_checked_as("the keyslot's area that was written", storage, material, *offset)
}

const LEAST_DATA: u64 = 64 * 1024;
/// 2^32 units of 512 bytes.
const IVS_OF_PLAIN: u64 = 1 << 41;
