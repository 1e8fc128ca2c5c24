//! From one volume key to the next: the header updates with which a re-encryption starts and ends (section 8).

use std::sync::Arc;

use zerocopy::FromZeros;

use super::{
    copy::HeaderCopy,
    create::new_volume_key,
    data,
    header::NativeHeader,
    keyslot,
    layout::{FEATURE_REENCRYPTION, KEYSLOTS, RawCopy, RawKeyslot},
    ledger::Ledger,
    record::Trace,
    reencryption::{Binding, OldVolume},
    slots::Slots,
    suite::Suite,
    update::write_update,
};
use crate::{
    crypto::{rng::Rng, secret::VolumeKey},
    error::{Error, ErrorKind, Result},
    format::{NewKeyslot, Priority, Unlocked},
    mapping::{Layout, Moving},
    storage::Storage,
    units::SectorSize,
};

/// What a re-encryption makes of the data area, besides giving it another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// How sectors will be encrypted.
    pub suite: Suite,
    /// The size of one sector: 512 or 4096.
    pub sector_size: SectorSize,
}

/// The header with which a re-encryption starts: keyslots of a new volume key, and the old volume key wrapped under it.
/// Made, and not written yet. Two parts carry it to another process: its bytes and the new volume key.
#[derive(Debug)]
pub struct StartHeader {
    copy: HeaderCopy,
    volume_key: Arc<VolumeKey>,
}

impl StartHeader {
    /// Draws the new volume key and makes its keyslots, numbered from 0 where they name no number. Runs a key derivation for
    /// each. All keyslots of the old volume key go: nobody but their owners could seal the new one for them.
    ///
    /// # Errors
    /// `Busy` where a re-encryption is under way, `Unsupported` where the container has no room for one or must not be
    /// written, `Usage` where there is no keyslot, or one is asked for twice, is too cheap, or is only opened by number.
    pub fn new(
        header: &NativeHeader,
        unlocked: &Unlocked,
        target: Target,
        keyslots: &[NewKeyslot<'_>],
        rng: &dyn Rng,
    ) -> Result<Self> {
        let base = header.authentic_for_writing(&unlocked.volume_key)?;
        let superblock = &base.superblock;
        if superblock.reencryption.is_some() {
            return Err(Error::new(
                ErrorKind::Busy,
                "a re-encryption of this container is under way already",
            ));
        }
        // The generation after the next has to be there for the end.
        let generation = superblock.generation.checked_add(1).filter(|&next| next < u32::MAX);
        let generation = generation.ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "the container was re-encrypted as often as it can be")
        })?;
        let volume_key = new_volume_key(rng)?;
        Ledger::new(superblock, &volume_key)?;
        let raw_keyslots = seal_all(base, keyslots, &volume_key, rng)?;
        let old = OldVolume::wrap(
            superblock.suite,
            superblock.sector_size,
            Binding { uuid: &superblock.uuid, generation },
            &unlocked.volume_key,
            &volume_key,
            rng,
        )?;
        let change = |raw: &mut RawCopy| {
            let features = raw.superblock.features_required.get() | FEATURE_REENCRYPTION;
            raw.superblock.features_required = features.into();
            raw.superblock.generation = generation.into();
            raw.superblock.suite = target.suite.number().into();
            raw.superblock.sector_size = u32::try_from(target.sector_size.bytes()).unwrap_or_default().into();
            raw.superblock.reencryption = OldVolume::to_raw(Some(&old));
            raw.keyslots = *raw_keyslots;
        };
        Ok(Self { copy: base.updated(change, &volume_key)?, volume_key: Arc::new(volume_key) })
    }

    /// The header whose bytes another process made, with the volume key that came with it.
    ///
    /// # Errors
    /// `Tampered` where they do not belong together, `Usage` where it is no header that starts a re-encryption.
    pub fn from_parts(bytes: &[u8], volume_key: VolumeKey) -> Result<Self> {
        let copy = HeaderCopy::parse(bytes)?;
        copy.check_mac(&volume_key)?;
        if copy.superblock.reencryption.is_none() {
            return Err(Error::new(ErrorKind::Usage, "this header starts no re-encryption"));
        }
        Ok(Self { copy, volume_key: Arc::new(volume_key) })
    }

    /// The bytes of the header, [`COPY_LEN`](super::COPY_LEN) of them. Nothing in them is secret.
    pub fn as_bytes(&self) -> &[u8] {
        self.copy.as_bytes()
    }

    /// The new volume key.
    pub const fn volume_key(&self) -> &Arc<VolumeKey> {
        &self.volume_key
    }

    /// Starts: idle records into both work areas, then the header (NAT-REENC-10). No data is touched.
    ///
    /// # Errors
    /// `Busy` where the header has changed since this one was made from it. Where the first copy of the new header was
    /// written and the second was not, the re-encryption has started all the same, and the error says so.
    pub fn write(&self, storage: &dyn Storage) -> Result<()> {
        let superblock = &self.copy.superblock;
        let old_key = data::old_key(superblock, &self.volume_key)?;
        let header = NativeHeader::read(storage)?;
        let base = header.authentic_for_writing(&old_key)?;
        let follows = superblock.uuid == base.superblock.uuid
            && superblock.geometry == base.superblock.geometry
            && base.superblock.sequence.checked_add(1) == Some(superblock.sequence)
            && base.superblock.generation.checked_add(1) == Some(superblock.generation);
        if !follows {
            let reason = "somebody else changed the header in the meantime";
            return Err(Error::new(ErrorKind::Busy, reason).with_hint("try again"));
        }
        let mut ledger = Ledger::new(superblock, &self.volume_key)?;
        if let Some(slots) = Slots::read(storage, &superblock.geometry) {
            Ledger::new(&base.superblock, &old_key)?.make_room(storage, &slots)?;
        }
        ledger.write_first(storage)?;
        storage.sync_data()?;
        let slots = Slots::read(storage, &superblock.geometry);
        let read_back = Ledger::open(superblock, &self.volume_key, slots.as_ref());
        if !read_back.is_ok_and(|read_back| read_back.is_intact() && read_back.newest() == ledger.newest()) {
            let reason = "a record of the re-encryption does not read back as it was written";
            return Err(Error::new(ErrorKind::Io, reason));
        }
        write_update(storage, base, &old_key, &self.copy, &self.volume_key)
    }
}

/// A re-encryption that is under way, as header and records tell: what the worker goes on from.
#[derive(Debug)]
pub struct UnderWay {
    /// The records and journals. The newest record is an idle one.
    pub ledger: Ledger,
    /// Both mappings, and the border that the newest record names.
    pub moving: Moving,
    /// Where the data area starts in the container, in bytes.
    pub data_offset: u64,
    /// The data area's size, in bytes.
    pub data_len: u64,
    volume_key: Arc<VolumeKey>,
}

impl UnderWay {
    /// Reads header and records, and brings the container to a safe state where a power cut left it in another.
    ///
    /// # Errors
    /// `NotFound` where no re-encryption is under way, `Damaged` where its state was lost.
    pub fn read(storage: &dyn Storage, volume_key: Arc<VolumeKey>) -> Result<Self> {
        let header = NativeHeader::read(storage)?;
        let superblock = &header.authentic_for_writing(&volume_key)?.superblock;
        if superblock.reencryption.is_none() {
            return Err(Error::new(ErrorKind::NotFound, "no re-encryption of this container is under way"));
        }
        header.renew(storage, &volume_key)?; // NAT-REENC-09
        let slots = || Slots::read(storage, &superblock.geometry);
        Ledger::open(superblock, &volume_key, slots().as_ref())?.recover(storage)?;
        let slots = slots();
        let ledger = Ledger::open(superblock, &volume_key, slots.as_ref())?;
        let Layout::Moving(moving) = data::layout(superblock, &volume_key, slots.as_ref())? else {
            return Err(Error::new(ErrorKind::NotFound, "no re-encryption of this container is under way"));
        };
        let (data_offset, data_len) = (superblock.geometry.data_offset, superblock.geometry.data_len);
        Ok(Self { ledger, moving, data_offset, data_len, volume_key })
    }

    /// The new volume key.
    pub fn volume_key(&self) -> Arc<VolumeKey> {
        Arc::clone(&self.volume_key)
    }

    /// Ends: the header forgets the old key in both copies, then the records are closed (NAT-REENC-14, -20).
    ///
    /// # Errors
    /// `Usage` where the border is not at the end. What writing gave: then the re-encryption is still to be ended.
    pub fn finish(&self, storage: &dyn Storage, trace: Trace, rng: &dyn Rng) -> Result<()> {
        if self.ledger.newest().border != self.data_len || !self.ledger.is_retired() {
            return Err(Error::new(ErrorKind::Usage, "the re-encryption is not at its end"));
        }
        // Read anew: a keyslot may have been added meanwhile.
        let header = NativeHeader::read(storage)?;
        let base = header.authentic_for_writing(&self.volume_key)?;
        let generation = base.superblock.generation.checked_add(1).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "the container was re-encrypted as often as it can be")
        })?;
        let change = |raw: &mut RawCopy| {
            let features = raw.superblock.features_required.get() & !FEATURE_REENCRYPTION;
            raw.superblock.features_required = features.into();
            raw.superblock.generation = generation.into();
            raw.superblock.reencryption = OldVolume::to_raw(None);
        };
        let key = &*self.volume_key;
        write_update(storage, base, key, &base.updated(change, key)?, key)?;
        // Only now: while one copy still says that a re-encryption is under way, the records are needed.
        self.ledger.close(storage, generation, trace, rng)
    }
}

/// Seals every new keyslot, at its number or the first that is free. Of the keyslots of `base` none stays.
fn seal_all(
    base: &HeaderCopy,
    keyslots: &[NewKeyslot<'_>],
    volume_key: &VolumeKey,
    rng: &dyn Rng,
) -> Result<Box<[RawKeyslot; KEYSLOTS]>> {
    if !keyslots.iter().any(|slot| slot.priority != Priority::Ignore) {
        let reason = "without a keyslot nobody opens the container";
        return Err(Error::new(ErrorKind::Usage, reason));
    }
    let mut sealed = Box::new(*base.raw_keyslots());
    for (raw, index) in sealed.iter_mut().zip(0_u32..) {
        raw.zero();
        raw.index = index.into();
    }
    let mut used: Vec<u32> = keyslots.iter().filter_map(|slot| slot.slot).collect();
    for new in keyslots {
        let free =
            || (0_u32..).zip(sealed.iter()).map(|(number, _)| number).find(|number| !used.contains(number));
        let number = new.slot.or_else(free);
        let number = number.ok_or_else(|| Error::new(ErrorKind::NoSpace, "there are only 30 keyslots"))?;
        let place = usize::try_from(number).ok().and_then(|index| sealed.get_mut(index));
        let place = place.ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("there is no keyslot {number}: they are numbered 0 to 29"))
        })?;
        if place.kind.get() != 0 {
            return Err(Error::new(ErrorKind::Usage, format!("keyslot {number} is asked for twice")));
        }
        *place = keyslot::seal(number, new, &base.superblock.uuid, volume_key, rng)?;
        used.push(number);
    }
    Ok(sealed)
}
