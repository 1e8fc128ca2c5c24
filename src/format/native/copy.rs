//! One whole header copy: its sums, its superblock, its keyslots.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::fmt;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::{
    data,
    error::HeaderError,
    keys,
    keyslot::Keyslot,
    layout::{COPY_LEN, KEYSLOTS, MAGIC, RawCopy, RawKeyslot, RawSuperblock, SUPERBLOCK_LEN, VOLUME_KEY_LEN},
    remains::is_zero_or,
    superblock::{CopyIndex, Geometry, Superblock},
};
use crate::{
    crypto::{hash, secret::VolumeKey},
    error::{Error, ErrorKind, Result},
    storage::Storage,
};

/// A header copy that is whole: checksum, superblock and keyslots are right. Its MAC is not checked yet.
#[derive(Clone)]
pub struct HeaderCopy {
    raw: Box<RawCopy>,
    /// The superblock.
    pub superblock: Superblock,
    /// The keyslots in use.
    pub keyslots: Vec<Keyslot>,
}

impl HeaderCopy {
    /// Parses a copy of [`COPY_LEN`] bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let raw = RawCopy::read_from_bytes(bytes).map_err(|_| HeaderError::CutOff)?;
        if raw.superblock.magic != MAGIC {
            return Err(HeaderError::NoMagic); // NAT-SB-01
        }
        if raw.superblock.checksum != checksum(&raw) {
            return Err(HeaderError::Checksum); // NAT-SUM-01
        }
        let superblock = Superblock::parse(&raw.superblock)?;
        let mut keyslots = Vec::new();
        for (slot, index) in raw.keyslots.iter().zip(0_u32..) {
            keyslots.extend(Keyslot::parse(slot, index)?);
        }
        Ok(Self { raw: Box::new(raw), superblock, keyslots })
    }

    /// A new copy with its sums, of a superblock and the keyslots in use.
    pub(super) fn seal(
        superblock: &Superblock,
        keyslots: &[RawKeyslot],
        volume_key: &VolumeKey,
    ) -> Result<Self> {
        let mut raw = superblock.to_raw();
        for slot in keyslots {
            let index = usize::try_from(slot.index.get()).unwrap_or(usize::MAX);
            let place = raw.keyslots.get_mut(index).ok_or_else(|| {
                Error::new(ErrorKind::Usage, format!("there is no keyslot {}", slot.index.get()))
            })?;
            *place = *slot;
        }
        sum(&mut raw, volume_key)?;
        Ok(Self::parse(raw.as_bytes())?)
    }

    /// The header with the changes that `change` makes, under the next sequence number. What it does not touch stays byte
    /// for byte, also what this version does not know.
    ///
    /// # Errors
    /// `Unsupported` where the sequence number is the last one (NAT-UPD-03).
    pub(super) fn updated(&self, change: impl FnOnce(&mut RawCopy), volume_key: &VolumeKey) -> Result<Self> {
        let mut raw = *self.raw;
        let sequence = raw.superblock.sequence.get().checked_add(1);
        let last = || Error::new(ErrorKind::Unsupported, "the header's sequence number is at its end");
        raw.superblock.sequence = sequence.ok_or_else(last)?.into();
        change(&mut raw);
        sum(&mut raw, volume_key)?;
        Ok(Self::parse(raw.as_bytes())?)
    }

    /// The same header, with the changes that `change` makes, as a later state than any up to the sequence number `newest`.
    ///
    /// # Errors
    /// `Unsupported` where there is no higher number.
    pub(super) fn after(
        &self,
        newest: u64,
        change: impl FnOnce(&mut RawCopy),
        volume_key: &VolumeKey,
    ) -> Result<Self> {
        let mut base = self.clone();
        base.raw.superblock.sequence = newest.max(self.superblock.sequence).into();
        base.updated(change, volume_key)
    }

    /// The bits of features that may be ignored; this version knows none of them (NAT-SB-05).
    pub(super) fn ignorable_features(&self) -> u64 {
        self.raw.superblock.features_ignorable.get()
    }

    /// The bytes of the keyslots, empty ones included.
    pub(super) fn raw_keyslots(&self) -> &[RawKeyslot; KEYSLOTS] {
        &self.raw.keyslots
    }

    /// The bytes of one keyslot.
    pub(super) fn raw_keyslot(&self, index: u32) -> Option<&RawKeyslot> {
        self.raw.keyslots.get(usize::try_from(index).ok()?)
    }

    /// The same header as the other copy: only the index and the sums differ.
    pub fn for_index(&self, index: CopyIndex, volume_key: &VolumeKey) -> Result<Self> {
        let mut raw = *self.raw;
        raw.superblock.copy_index = index.number().into();
        sum(&mut raw, volume_key)?;
        Ok(Self::parse(raw.as_bytes())?)
    }

    /// The bytes of this header as copy `index`, as far as they are known without the volume key: the MAC is left zero.
    pub(super) fn without_mac(&self, index: CopyIndex) -> RawCopy {
        let mut raw = *self.raw;
        raw.superblock.copy_index = index.number().into();
        raw.superblock.checksum = checksum(&raw);
        raw.superblock.mac.zero();
        raw
    }

    /// NAT-SUM-02: whether the MAC is that of this volume key.
    ///
    /// # Errors
    /// `Tampered` where it is not.
    pub fn check_mac(&self, volume_key: &VolumeKey) -> Result<()> {
        if volume_key.len() != VOLUME_KEY_LEN {
            return Err(Error::new(ErrorKind::Usage, format!("a volume key has {VOLUME_KEY_LEN} bytes")));
        }
        let expected = mac(&self.raw, volume_key)?;
        if hash::equal(&expected, &self.raw.superblock.mac) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Tampered,
            "the header is damaged, or was changed by someone without the key",
        ))
    }

    /// Whether both copies say the same, index and sums aside.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        body(&self.raw).as_bytes() == body(&other.raw).as_bytes()
    }

    /// Whether the same credentials open both: uuid and keyslots are the same.
    pub(super) fn has_keyslots_of(&self, other: &Self) -> bool {
        self.is_of_same_container(other) && self.raw.keyslots.as_bytes() == other.raw.keyslots.as_bytes()
    }

    /// Whether both bear the same uuid.
    pub fn is_of_same_container(&self, other: &Self) -> bool {
        self.superblock.uuid == other.superblock.uuid
    }

    /// Whether this is a later state of the same header (NAT-RD-04).
    pub fn is_update_of(&self, other: &Self) -> bool {
        self.is_of_same_container(other) && self.superblock.sequence > other.superblock.sequence
    }

    /// NAT-UPD-10: whether this copy is known to be of the same container state as `good`, which is authentic under `key`, or
    /// of the one just before or after it: under the same volume key, or under the old one that `good` wraps.
    pub(super) fn is_linked_to(&self, good: &Self, key: &VolumeKey) -> bool {
        let is_under_old_key =
            || data::old_key(&good.superblock, key).is_ok_and(|old_key| self.check_mac(&old_key).is_ok());
        // Of a copy that says the same nothing is lost.
        self.says_the_same_as(good)
            || self.is_near(good) && (self.check_mac(key).is_ok() || is_under_old_key())
    }

    /// NAT-UPD-10: whether the generations of both let them be neighbours: one start or one end of a re-encryption lies between
    /// them, or one change of size.
    pub(super) fn is_near(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.superblock, &other.superblock);
        let is_resized =
            ours.reencryption.is_none() && theirs.reencryption.is_none() && ours.geometry != theirs.geometry;
        ours.generation.abs_diff(theirs.generation) <= if is_resized { RESIZED } else { 1 }
    }

    /// The same header of a container that lies otherwise, two generations later (NAT-SIZE-02).
    ///
    /// # Errors
    /// `Unsupported` where the generation or the sequence number is at its end.
    pub(super) fn resized(&self, geometry: &Geometry, volume_key: &VolumeKey) -> Result<Self> {
        let generation = self.superblock.generation.checked_add(RESIZED).filter(|&next| next < u32::MAX);
        let generation = generation.ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "the container was changed in size as often as it can be")
        })?;
        self.updated(|raw| lay_out(raw, geometry, generation), volume_key)
    }

    /// Where this copy belongs.
    pub const fn offset(&self) -> u64 {
        self.superblock.index.offset_in(&self.superblock.geometry)
    }

    /// The bytes of the copy.
    pub fn as_bytes(&self) -> &[u8] {
        self.raw.as_bytes()
    }

    /// Whether the copy stands in its place, byte for byte.
    pub(super) fn stands_in(&self, storage: &dyn Storage) -> bool {
        self.standing_in(storage) == Standing::Whole
    }

    fn standing_in(&self, storage: &dyn Storage) -> Standing {
        let mut there = vec![0; COPY_LEN];
        if storage.read_exact_at(&mut there, self.offset()).is_err() {
            return Standing::No;
        }
        if there == self.as_bytes() {
            return Standing::Whole;
        }
        let Some((magic, rest)) = there.split_first_chunk::<{ MAGIC.len() }>() else { return Standing::No };
        let has_rest = self.as_bytes().get(MAGIC.len()..) == Some(rest);
        if is_zero_or(magic, &MAGIC) && has_rest { Standing::WithoutMagic } else { Standing::No }
    }

    /// Writes the copy where it belongs, its magic last, and compares what is read back (NAT-UPD-02).
    ///
    /// A power cut leaves nothing that has the magic and is not whole: what looks so was damaged otherwise (NAT-UPD-08).
    pub fn write(&self, storage: &dyn Storage) -> Result<()> {
        self.write_all_but_magic(storage)?;
        let offset = self.offset();
        storage.write_all_at(self.as_bytes(), offset)?;
        storage.sync_data()?;
        let mut back = vec![0; COPY_LEN];
        storage.read_exact_at(&mut back, offset)?;
        if back == self.as_bytes() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Io, "a header copy does not read back as it was written"))
    }

    /// All steps of [`Self::write`] but the last. A copy that stands there whole stays so.
    pub(super) fn write_all_but_magic(&self, storage: &dyn Storage) -> Result<()> {
        let offset = self.offset();
        let mut without_magic = self.raw.clone();
        without_magic.superblock.magic.zero();
        let mut sign = RawSuperblock::new_zeroed();
        sign.uuid = self.raw.superblock.uuid;
        // The magic goes before anything else does, whatever is read there: that may be in a cache only.
        let steps = [&[0; MAGIC.len()], sign.as_bytes(), without_magic.as_bytes()];
        // What stands there already is the same while it is written again, however that is torn. Of one that only lacks its magic
        // nothing may be lost: it may be the newer one (NAT-RD-08).
        let begin = match self.standing_in(storage) {
            Standing::Whole => steps.len(),
            Standing::WithoutMagic => steps.len().saturating_sub(1),
            Standing::No => 0,
        };
        for bytes in steps.into_iter().skip(begin) {
            storage.write_all_at(bytes, offset)?;
            storage.sync_data()?;
        }
        Ok(())
    }

    /// Whether the superblock of this copy stands in its place, and has lost its magic: so a copy is left that moves elsewhere
    /// (NAT-SIZE-03), until its place is cleared.
    pub(super) fn has_left(&self, storage: &dyn Storage) -> bool {
        let mut there = vec![0; SUPERBLOCK_LEN];
        storage.read_exact_at(&mut there, self.offset()).is_ok()
            && there.get(..MAGIC.len()) == Some(&[0; MAGIC.len()])
            && there.get(MAGIC.len()..) == self.as_bytes().get(MAGIC.len()..SUPERBLOCK_LEN)
    }
}

/// How much of a copy stands in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// All of it.
    Whole,
    /// All but bytes of its magic, which are zeros.
    WithoutMagic,
    /// Something else.
    No,
}

impl fmt::Debug for HeaderCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderCopy").field("superblock", &self.superblock).finish_non_exhaustive()
    }
}

/// Puts these places and this generation into a copy.
pub(super) fn lay_out(raw: &mut RawCopy, geometry: &Geometry, generation: u32) {
    let superblock = &mut raw.superblock;
    superblock.data_offset = geometry.data_offset.into();
    superblock.data_len = geometry.data_len.into();
    superblock.container_len = geometry.container_len.into();
    superblock.backup_offset = geometry.backup_offset.into();
    superblock.generation = generation.into();
}

/// NAT-SUM-01: SHA-256 of the copy with zeros for checksum and MAC.
pub(super) fn checksum(raw: &RawCopy) -> [u8; 32] {
    let mut copy = *raw;
    copy.superblock.checksum.zero();
    copy.superblock.mac.zero();
    hash::sha256(&[copy.as_bytes()])
}

/// NAT-SUM-02: HMAC-SHA-512 of the copy, checksum included, with zeros for the MAC.
fn mac(raw: &RawCopy, volume_key: &VolumeKey) -> Result<[u8; 64]> {
    let mut copy = *raw;
    copy.superblock.mac.zero();
    keys::copy_mac(volume_key, &raw.superblock.uuid, copy.as_bytes())
}

/// Fills in both sums, in the order in which they depend on each other.
fn sum(raw: &mut RawCopy, volume_key: &VolumeKey) -> Result<()> {
    raw.superblock.checksum = checksum(raw);
    raw.superblock.mac = mac(raw, volume_key)?;
    Ok(())
}

/// The copy without what differs between A and B.
pub(super) fn body(raw: &RawCopy) -> RawCopy {
    let mut body = *raw;
    body.superblock.copy_index = 0.into();
    body.superblock.checksum.zero();
    body.superblock.mac.zero();
    body
}

/// NAT-REENC-01: how many generations a change of size takes, as a re-encryption does that starts and ends.
const RESIZED: u32 = 2;
