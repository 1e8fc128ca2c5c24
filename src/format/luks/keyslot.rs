//! A keyslot that was read: its key derivation, its area, and the ciphertext that lies there.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::{
    UNIT, af,
    cipher::Encryption,
    kdf::{Budget, Kdf},
};
use crate::{
    crypto::{
        hash::HashKind,
        kdf::{self, CostError, KdfCost, KdfLimits},
        rng::Rng,
        secret::{LockedBytes, VolumeKey},
    },
    error::{Error, ErrorKind, Result},
    format::{Finding, KeyslotInfo, Priority, looks_random},
    storage::Storage,
    units::{Sector, SectorSize},
};

/// A keyslot in use.
#[derive(Debug)]
pub(in crate::format) struct Keyslot {
    pub(in crate::format) index: u32,
    pub(in crate::format) priority: Option<Priority>,
    pub(in crate::format) kdf: Kdf,
    pub(in crate::format) area: Area,
}

/// Where a keyslot's stripes lie, and how they are encrypted.
#[derive(Debug)]
pub(in crate::format) struct Area {
    /// In bytes.
    pub(in crate::format) offset: u64,
    pub(in crate::format) encryption: Encryption,
    /// The hash of the splitter.
    pub(in crate::format) hash: HashKind,
    /// The size of the key that is split, in bytes.
    pub(in crate::format) key_len: usize,
    /// The stripes' ciphertext, read by [`Area::load`].
    pub(in crate::format) material: Vec<u8>,
}

/// Where a new keyslot's stripes go, and how they are made.
#[derive(Debug, Clone, Copy)]
pub(in crate::format) struct NewArea<'a> {
    /// In bytes.
    pub(in crate::format) offset: u64,
    pub(in crate::format) encryption: &'a Encryption,
    /// The hash of the splitter.
    pub(in crate::format) hash: HashKind,
    pub(in crate::format) priority: Option<Priority>,
}

/// The size of the stripes of a key in bytes, up to whole units. `None` for a key that no cipher has.
pub(in crate::format) fn material_len(key_len: usize) -> Option<u64> {
    let key_len = u64::try_from(key_len).ok().filter(|len| (1..=MAX_KEY_LEN).contains(len))?;
    key_len.checked_mul(u64::try_from(af::STRIPES).ok()?)?.checked_next_multiple_of(UNIT)
}

impl Area {
    /// Reads the stripes' ciphertext.
    ///
    /// # Errors
    /// `Damaged` where the container ends before it.
    pub(in crate::format) fn load(&mut self, storage: &dyn Storage) -> Result<()> {
        let damaged = |reason| Error::new(ErrorKind::Damaged, reason);
        let len = material_len(self.key_len).unwrap_or_default();
        let (end, there) = (self.offset.saturating_add(len), storage.size()?);
        if there < end {
            let reason = format!(
                "it is cut off before its data: {there} bytes are there, and a keyslot's area ends at byte {end}"
            );
            return Err(damaged(reason));
        }
        let mut material = vec![0; usize::try_from(len).unwrap_or_default()];
        storage.read_exact_at(&mut material, self.offset)?;
        self.material = material;
        Ok(())
    }
}

impl Keyslot {
    /// A keyslot that `password` opens, with a fresh salt and fresh stripes, whose ciphertext is in `area.material`. Runs the
    /// key derivation.
    ///
    /// # Errors
    /// `OutOfMemory`; `Usage` for costs that the derivation does not take.
    pub(in crate::format) fn seal(
        index: u32,
        place: NewArea<'_>,
        cost: KdfCost,
        password: &[u8],
        volume_key: &VolumeKey,
        rng: &dyn Rng,
    ) -> Result<Self> {
        let NewArea { offset, encryption, hash, priority } = place;
        let kdf = Kdf::new(cost, rng)?;
        let key = kdf::derive(&kdf.cost, password, &kdf.salt, encryption.key_len)?;
        let len = material_len(volume_key.len()).and_then(|len| usize::try_from(len).ok());
        let len = len.ok_or_else(|| Error::new(ErrorKind::Usage, "no keyslot holds a key of that length"))?;
        let mut stripes = af::split(volume_key, hash, len, rng)?;
        let cipher = encryption.spec.keyed(key.expose(), 0)?;
        cipher.encrypt(stripes.as_mut_slice(), SectorSize::B512, Sector(0));
        let area = Area {
            offset,
            encryption: encryption.clone(),
            hash,
            key_len: volume_key.len(),
            material: stripes.as_slice().to_vec(),
        };
        Ok(Self { index, priority, kdf, area })
    }

    /// The key that the area gives for `password`: the volume key, or noise where the password is another. The digest tells.
    ///
    /// # Errors
    /// As [`Kdf::derive`].
    pub(in crate::format) fn open(
        &self,
        password: &[u8],
        limits: &KdfLimits,
        budget: &mut Budget,
    ) -> Result<VolumeKey> {
        let encryption = &self.area.encryption;
        let key = self.kdf.derive(self.index, password, encryption.key_len, limits, budget)?;
        let cipher = encryption.spec.keyed(key.expose(), 0)?;
        let mut stripes = LockedBytes::zeroed(self.area.material.len())?;
        stripes.as_mut_slice().copy_from_slice(&self.area.material);
        cipher.decrypt(stripes.as_mut_slice(), SectorSize::B512, Sector(0));
        af::merge(stripes.as_slice(), self.area.key_len, self.area.hash)
    }

    /// Whether a part of its area is no ciphertext: most likely something was written over it (L1-KEY-07).
    ///
    /// No reason to refuse it: images for tests exist whose volume key is what an area of zeros happens to give.
    pub(in crate::format) fn is_overwritten(&self) -> bool {
        let len = self.area.key_len.saturating_mul(af::STRIPES);
        let stripes = self.area.material.get(..len).unwrap_or_default();
        stripes.chunks_exact(SECTOR).any(|sector| !looks_random(sector))
    }

    /// What an examination says of an area that was written over.
    pub(in crate::format) fn finding(&self) -> Option<Finding> {
        let object = format!("keyslot {}", self.index);
        self.is_overwritten().then(|| Finding::warning(object, self.overwritten()))
    }

    /// Why none of `slots`, which are all that lead to the volume key, gives it.
    pub(in crate::format) fn closed<'a>(slots: impl IntoIterator<Item = &'a Self>) -> Option<String> {
        let mut slots = slots.into_iter().peekable();
        let is_bare = slots.peek().is_none();
        let reason = if is_bare {
            "no keyslot is left that holds its volume key"
        } else if slots.all(Self::is_overwritten) {
            "the key material of every keyslot looks overwritten"
        } else {
            return None;
        };
        Some(format!("{reason}: no password or keyfile can open it"))
    }

    /// What is said of such an area.
    pub(in crate::format) fn overwritten(&self) -> String {
        format!("the key material of keyslot {} looks overwritten", self.index)
    }

    /// The same keyslot with its stripes at another offset.
    pub(in crate::format) fn at(&self, offset: u64) -> Self {
        let Area { encryption, hash, key_len, material, .. } = &self.area;
        Self {
            index: self.index,
            priority: self.priority,
            kdf: self.kdf.clone(),
            area: Area {
                offset,
                encryption: encryption.clone(),
                hash: *hash,
                key_len: *key_len,
                material: material.clone(),
            },
        }
    }

    /// What `info` shows.
    pub(in crate::format) fn describe(&self) -> KeyslotInfo {
        KeyslotInfo {
            slot: self.index,
            kind: "password",
            token: None,
            label: None,
            priority: self.priority,
            weak: self.kdf.is_weak(),
            kdf: self.kdf.describe(),
        }
    }
}

/// What an examination says of keyslots whose costs are not paid: an error where no other one is left to be tried.
pub(in crate::format) fn findings_of_costs(slots: &[&Keyslot]) -> Vec<Finding> {
    let limits = KdfLimits::default();
    let refused = slots.iter().filter_map(|slot| Some((slot.index, slot.kdf.check_cost(&limits).err()?)));
    let refused: Vec<_> = refused.collect();
    let is_last = refused.len() == slots.len();
    let finding = |(index, error): &(u32, CostError)| {
        let (object, message) = (format!("keyslot {index}"), format!("{error}: it is not tried"));
        if is_last { Finding::error(object, message) } else { Finding::warning(object, message) }
    };
    refused.iter().map(finding).collect()
}

/// What a new keyslot's area takes in bytes: as cryptsetup, whole units of 4096.
///
/// # Errors
/// `Usage` for a key that no cipher has.
pub(in crate::format) fn new_area_len(key_len: usize) -> Result<u64> {
    let len = material_len(key_len).and_then(|len| len.checked_next_multiple_of(AREA_ALIGNMENT));
    len.ok_or_else(|| Error::new(ErrorKind::Usage, "no keyslot holds a key of that length"))
}

/// In bytes.
const AREA_ALIGNMENT: u64 = 4096;

const SECTOR: usize = 512;
/// The longest key of any cipher used, in bytes: AES-256-XTS.
const MAX_KEY_LEN: u64 = 64;
