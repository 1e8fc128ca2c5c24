//! A new header: volume key, first keyslot, the places of the other seven.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::sync::Arc;

use zerocopy::{FromZeros, IntoBytes};

use super::layout::{ACTIVE, FIRST_AREA, FREE, KEYSLOTS, RawHeader, VERSION};
use crate::{
    crypto::{
        hash::HashKind,
        kdf::{KdfCost, KdfKind},
        rng::Rng,
        secret::{Credentials, VolumeKey},
    },
    error::{Error, ErrorKind, Result},
    format::{
        Blueprint, Extent, KdfBounds, KeyfileRole, NewHeader, Room, Wishes,
        luks::{
            MAGIC, UNIT, af,
            backup::write_checked_as,
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

/// What LUKS1 keyslots take.
pub(super) const KDF_KINDS: &[KdfKind] = &[KdfKind::Pbkdf2];

/// A new container of which all is settled but the secret.
#[derive(Debug)]
pub(super) struct Luks1Blueprint {
    settled: Settled,
    /// Where header and areas end, in bytes.
    header_end: u64,
}

impl Luks1Blueprint {
    /// Settles what `wishes` leave open.
    ///
    /// # Errors
    /// `Usage` for what LUKS1 does not have (L1-WRITE-02).
    pub(super) fn new(room: Room, wishes: &Wishes<'_>, rng: &dyn Rng) -> Result<Self> {
        if wishes.label.is_some_and(|label| !label.is_empty()) {
            return Err(usage("LUKS1 has no labels").with_hint("luks2 and native have them"));
        }
        if wishes.sector_size.is_some_and(|size| size != SectorSize::B512) {
            return Err(
                usage("LUKS1 has sectors of 512 bytes only").with_hint("luks2 and native have others")
            );
        }
        let encryption = Encryption::wished(wishes.cipher, wishes.key_bits)?;
        let areas = new_area_len(encryption.key_len)?.saturating_mul(SLOTS).saturating_add(FIRST_AREA);
        let header_end = areas.next_multiple_of(DATA_ALIGNMENT);
        let settled = Settled::new(room, wishes, encryption, Some(SectorSize::B512), header_end, rng)?;
        Ok(Self { settled, header_end })
    }
}

impl Blueprint for Luks1Blueprint {
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
        let cost = cost.ok_or_else(|| usage("a keyslot needs costs"))?;
        let iterations = pbkdf2_iterations(cost, settled.hash)?;
        let volume_key = settled.new_volume_key(rng)?;
        let area = NewArea {
            offset: FIRST_AREA,
            encryption: &settled.encryption,
            hash: settled.hash,
            priority: None,
        };
        let slot = Keyslot::seal(0, area, cost, new_secret(credentials)?, &volume_key, rng)?;
        let digest = KeyDigest::new(&volume_key, settled.hash, DIGEST_LEN, rng)?;
        let header = header(settled, &slot, iterations, &digest)?;
        let layout = settled.layout(&volume_key)?;
        let volume_key = Arc::new(volume_key);
        let mut noise =
            vec![0; usize::try_from(self.header_end.saturating_sub(FIRST_AREA)).unwrap_or_default()];
        rng.fill(&mut noise)?;
        Ok(Box::new(NewLuks1Header { header: Box::new(header), slot, noise, layout, volume_key }))
    }
}

/// The iterations of the one derivation that the header's hash allows (L1-WRITE-05).
///
/// # Errors
/// `Usage`.
pub(super) fn pbkdf2_iterations(cost: KdfCost, header_hash: HashKind) -> Result<u32> {
    match checked_cost(cost, KDF_KINDS)? {
        KdfCost::Pbkdf2 { hash, iterations } if hash == header_hash => Ok(iterations),
        _ => Err(usage(&format!("its keyslots take PBKDF2 with {}, the header's hash", header_hash.name()))),
    }
}

/// A header that was made and not written yet.
#[derive(Debug)]
struct NewLuks1Header {
    header: Box<RawHeader>,
    slot: Keyslot,
    /// What fills the areas before anything is in them.
    noise: Vec<u8>,
    layout: Layout,
    volume_key: Arc<VolumeKey>,
}

impl NewLuks1Header {
    /// L1-WRITE-07: first what nobody recognises, then the area of the keyslot, then the header that makes it a container.
    fn write_all(&self, storage: &dyn Storage) -> Result<()> {
        storage.write_all_at(&self.noise, FIRST_AREA)?;
        write_area(storage, &self.slot)?;
        write_header(storage, &self.header)
    }
}

impl NewHeader for NewLuks1Header {
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

/// Writes the header over what stands there, syncs and reads it back.
///
/// # Errors
/// What writing gave; `Io` where something else is read back.
pub(super) fn write_header(storage: &dyn Storage, header: &RawHeader) -> Result<()> {
    write_checked_as("the header that was written", storage, header.as_bytes(), 0)
}

fn header(settled: &Settled, slot: &Keyslot, iterations: u32, digest: &KeyDigest) -> Result<RawHeader> {
    let encryption = &settled.encryption;
    let area_units = new_area_len(encryption.key_len)? / UNIT;
    let units = |bytes: u64| u32::try_from(bytes / UNIT).map_err(|_| usage("the header is too large"));
    let (name, mode) = encryption.name.split_once('-').unwrap_or((&encryption.name, ""));

    let mut raw = RawHeader::new_zeroed();
    raw.magic = MAGIC;
    raw.version = VERSION;
    put(&mut raw.cipher_name, name.as_bytes())?;
    put(&mut raw.cipher_mode, mode.as_bytes())?;
    put(&mut raw.hash, settled.hash.name().as_bytes())?;
    raw.payload_offset.set(units(settled.extent.data.start)?);
    raw.key_len.set(u32::try_from(encryption.key_len).map_err(|_| usage("the key is too long"))?);
    put(&mut raw.digest, &digest.digest)?;
    put(&mut raw.digest_salt, &digest.salt)?;
    raw.digest_iterations.set(digest.iterations);
    put(&mut raw.uuid, settled.uuid.as_bytes())?;
    let mut next = FIRST_AREA / UNIT;
    for place in &mut raw.keyslots {
        place.state.set(FREE);
        place.area_offset.set(u32::try_from(next).map_err(|_| usage("the header is too large"))?);
        place.stripes.set(u32::try_from(af::STRIPES).unwrap_or_default());
        next = next.saturating_add(area_units);
    }
    let [first, ..] = &mut raw.keyslots;
    first.state.set(ACTIVE);
    first.iterations.set(iterations);
    put(&mut first.salt, &slot.kdf.salt)?;
    Ok(raw)
}

/// Puts bytes into a field, zeros behind them.
fn put(field: &mut [u8], bytes: &[u8]) -> Result<()> {
    let place = field.get_mut(..bytes.len()).ok_or_else(|| usage("a name is too long for the header"))?;
    place.copy_from_slice(bytes);
    Ok(())
}

fn usage(reason: &str) -> Error {
    Error::new(ErrorKind::Usage, reason)
}

const SLOTS: u64 = 8;
const _: () = assert!(KEYSLOTS == 8, "the two agree");
/// What cryptsetup aligns the data to, in bytes.
const DATA_ALIGNMENT: u64 = 1 << 20;
const DIGEST_LEN: usize = 20;
