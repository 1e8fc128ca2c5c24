//! What a new container of either version is to be.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::{
    backup::write_checked_as,
    cipher::Encryption,
    keyslot::{Area, Keyslot},
};
use crate::{
    crypto::{
        hash::HashKind,
        kdf::{KdfCost, KdfKind, KdfLimits},
        rng::Rng,
        secret::{Credentials, LockedBytes, VolumeKey},
        sector::{IvMode, Mode},
    },
    error::{Error, ErrorKind, Result},
    format::{Extent, KdfBounds, Provision, Room, Wishes, hyphenated, luks::unlock::password, new_uuid},
    mapping::{Holes, Layout, Mapping, Segment},
    storage::Storage,
    units::{Sector, SectorSize},
};

/// What both versions settle of a new container.
#[derive(Debug)]
pub(in crate::format) struct Settled {
    pub(in crate::format) uuid: String,
    pub(in crate::format) encryption: Encryption,
    /// The hash of digest and splitter, and the usual one of PBKDF2.
    pub(in crate::format) hash: HashKind,
    pub(in crate::format) sector_size: SectorSize,
    pub(in crate::format) extent: Extent,
}

impl Settled {
    /// Settles what `wishes` leave open. The data of a container that bears its header begin at `data_offset`.
    ///
    /// # Errors
    /// `Usage` for what LUKS does not have, and for too little room.
    pub(in crate::format) fn new(
        room: Room,
        wishes: &Wishes<'_>,
        encryption: Encryption,
        sector_size: Option<SectorSize>,
        data_offset: u64,
        rng: &dyn Rng,
    ) -> Result<Self> {
        if wishes.provision == Provision::Thin {
            let reason = "LUKS containers are thick or quick: nothing in them says which sectors are unused";
            return Err(usage(reason)); // L1-WRITE-02
        }
        let data_offset = if wishes.is_detached { 0 } else { data_offset };
        let (sector_size, extent) = extent(room, sector_size, data_offset)?;
        let iv = match encryption.spec.mode {
            Mode::Xts(iv) | Mode::Cbc(iv) => Some(iv),
            Mode::LrwBenbi | Mode::Ecb => None,
        };
        if iv == Some(IvMode::Plain) && extent.data_len() > IVS_OF_PLAIN {
            let reason = format!("the IVs of {} repeat after 2 TiB", encryption.name);
            return Err(usage(reason).with_hint("plain64 has enough of them")); // L1-WRITE-01
        }
        Ok(Self {
            uuid: hyphenated(&new_uuid(rng)?),
            encryption,
            hash: wishes.hash.unwrap_or(HashKind::Sha256),
            sector_size,
            extent,
        })
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

/// The volume's sectors fill what is behind `data_offset`; of 4096 bytes where that is a whole number of those.
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
        return Err(usage(format!("the data area is no whole number of sectors of {bytes} bytes")));
    }
    let data_len = match room {
        Room::Container(_) => left.checked_div(bytes).unwrap_or_default().saturating_mul(bytes),
        Room::Data(_) => left.checked_next_multiple_of(bytes).unwrap_or(u64::MAX),
    };
    if data_len < LEAST_DATA {
        let least = data_offset.saturating_add(LEAST_DATA) / 1024;
        return Err(usage(format!("a container needs at least {least} KiB")));
    }
    let end = data_offset.checked_add(data_len).filter(|end| i64::try_from(*end).is_ok());
    let end = end.ok_or_else(|| usage("a container holds less than 2^63 bytes"))?;
    let container_len = match room {
        // What is left of the last 512 bytes belongs to nobody.
        Room::Container(len) => len.saturating_sub(len % 512),
        Room::Data(_) => end,
    };
    Ok((sector_size, Extent { container_len, data: data_offset..end }))
}

/// The bounds of both versions; these differ in what they take.
pub(in crate::format) fn kdf_bounds(kinds: &'static [KdfKind], hash: HashKind, key_len: usize) -> KdfBounds {
    let limits = KdfLimits::default();
    KdfBounds {
        kinds,
        hash,
        takes_hash: true,
        key_len,
        memory_kib: (LEAST_MEMORY_KIB, u32::try_from(limits.memory_kib).unwrap_or(u32::MAX)),
        passes: (LEAST_PASSES, limits.passes),
        lanes: (1, MOST_LANES),
        iterations: (LEAST_ITERATIONS, limits.iterations),
    }
}

/// Refuses costs outside the bounds, and a derivation that the format does not have (L1-WRITE-05, L2-WRITE-03).
pub(in crate::format) fn checked_cost(cost: KdfCost, kinds: &[KdfKind]) -> Result<KdfCost> {
    let kind = match cost {
        KdfCost::Argon2id(_) => KdfKind::Argon2id,
        KdfCost::Argon2i(_) => KdfKind::Argon2i,
        KdfCost::Pbkdf2 { .. } => KdfKind::Pbkdf2,
    };
    if !kinds.contains(&kind) {
        return Err(usage(format!("its keyslots do not take {}", kind.name())));
    }
    let limits = KdfLimits::default();
    let too_much = |error| Error::caused_by(ErrorKind::Usage, error);
    match cost {
        KdfCost::Argon2id(cost) | KdfCost::Argon2i(cost) => {
            if cost.memory_kib < LEAST_MEMORY_KIB
                || cost.passes < LEAST_PASSES
                || !(1..=MOST_LANES).contains(&cost.lanes)
            {
                return Err(usage("a keyslot takes at least 32 KiB and 4 passes, in 1 to 4 lanes"));
            }
            limits.check(&cost).map_err(too_much)?;
        }
        KdfCost::Pbkdf2 { iterations, .. } => {
            if iterations < LEAST_ITERATIONS {
                return Err(usage("a keyslot takes at least 1000 iterations"));
            }
            limits.check_iterations(iterations).map_err(too_much)?;
        }
    }
    Ok(cost)
}

/// The secret of a new keyslot.
///
/// # Errors
/// `Usage` for what is no password and no single keyfile, and for an empty one.
pub(in crate::format) fn new_secret(credentials: &Credentials) -> Result<&[u8]> {
    let secret = password(credentials).map_err(|error| usage(error.reason()))?;
    if secret.is_empty() { Err(usage("the password is empty")) } else { Ok(secret) }
}

/// Writes a keyslot's stripes where they belong, and reads them back.
///
/// # Errors
/// What writing gave; `Io` where something else is read back.
pub(in crate::format) fn write_area(storage: &dyn Storage, slot: &Keyslot) -> Result<()> {
    let Area { offset, material, .. } = &slot.area;
    write_checked_as("the keyslot's area that was written", storage, material, *offset)
}

fn usage(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, reason)
}

const LEAST_DATA: u64 = 64 * 1024;
/// 2^32 units of 512 bytes.
const IVS_OF_PLAIN: u64 = 1 << 41;
const LEAST_MEMORY_KIB: u32 = 32;
const LEAST_PASSES: u32 = 4;
const MOST_LANES: u32 = 4;
const LEAST_ITERATIONS: u32 = 1000;
