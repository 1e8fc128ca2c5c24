//! How the volume lies in the data area: one mapping, or two and a border between them.

use super::{
    keys,
    layout::REGION_LEN,
    ledger::Ledger,
    reencryption::Binding,
    slots::{Slots, left_behind},
    suite::Suite,
    superblock::Superblock,
};
use crate::{
    crypto::secret::VolumeKey,
    error::{Error, ErrorKind, Result},
    format::Provision,
    mapping::{Holes, Journaled, Layout, Mapping, MappingError, Moving, Segment},
    units::{Sector, SectorSize},
};

/// How the volume of an authentic superblock lies in its container. `slots` are the records that stand in its work areas.
///
/// # Errors
/// `Damaged` where a re-encryption is under way and nothing tells how far it is, or the old key does not open.
pub(super) fn layout(superblock: &Superblock, key: &VolumeKey, slots: Option<&Slots>) -> Result<Layout> {
    let new = Scheme { superblock, suite: superblock.suite, sector_size: superblock.sector_size, key };
    let Some(old_volume) = &superblock.reencryption else { return Ok(Layout::Fixed(new.mapping()?)) };
    let old_key = old_key(superblock, key)?;
    let old =
        Scheme { superblock, suite: old_volume.suite, sector_size: old_volume.sector_size, key: &old_key };
    let ledger = match Ledger::open(superblock, key, slots) {
        Ok(ledger) => ledger,
        // NAT-REENC-06: the closing record says that all is under the new key since; without it, nothing tells how far it is.
        Err(_) if has_ended(superblock, key, slots) => return Ok(Layout::Fixed(new.mapping()?)),
        Err(lost) => {
            let newer = slots.and_then(|slots| slots.newer_generation(superblock));
            return Err(newer.map_or(lost, |newer| left_behind(superblock.generation, newer)));
        }
    };
    let (old, new) = (old.mapping()?, new.mapping()?);
    let mut journaled = None;
    if let Some(journal) = ledger.journal() {
        let mapping = journal.offset.map(|offset| new.relocated(&journal.range, offset));
        journaled = Some(Journaled { range: journal.range, mapping: mapping.transpose().map_err(damaged)? });
    }
    Ok(Layout::Moving(Moving { old, new, border: ledger.newest().border, journaled }))
}

/// Whether the re-encryption that this header says is under way has ended since.
pub(super) fn has_ended(superblock: &Superblock, key: &VolumeKey, slots: Option<&Slots>) -> bool {
    let ledger = Ledger::new(superblock, key).ok();
    superblock.reencryption.is_some()
        && ledger.zip(slots).is_some_and(|(ledger, slots)| ledger.is_closed_in(slots))
}

/// The volume key of what is not re-encrypted yet.
pub(super) fn old_key(superblock: &Superblock, key: &VolumeKey) -> Result<VolumeKey> {
    let old = superblock
        .reencryption
        .as_ref()
        .ok_or_else(|| Error::new(ErrorKind::Usage, "no re-encryption of this container is under way"))?;
    old.unwrap_key(Binding { uuid: &superblock.uuid, generation: superblock.generation }, key)
}

/// One way in which the data area is encrypted.
struct Scheme<'a> {
    superblock: &'a Superblock,
    suite: Suite,
    sector_size: SectorSize,
    key: &'a VolumeKey,
}

impl Scheme<'_> {
    /// The mapping of the whole data area: one segment, one key, for each region (NAT-DATA-01 to -03).
    fn mapping(&self) -> Result<Mapping> {
        let Superblock { geometry, uuid, provision, .. } = self.superblock;
        let shift = self.sector_size.shift();
        let mut segments = Vec::new();
        for region in 0..geometry.data_len.div_ceil(REGION_LEN) {
            let start = region * REGION_LEN;
            let first = Sector(start >> shift);
            let key = keys::data_key(self.key, uuid, self.suite, region)?;
            segments.push(Segment {
                first,
                sectors: REGION_LEN.min(geometry.data_len - start) >> shift,
                storage_offset: geometry.data_offset + start,
                first_tweak: first,
                cipher: self.suite.cipher(key.expose())?,
            });
        }
        let holes = match provision {
            Provision::Thin => Holes::ReadAsZeros,
            Provision::Thick | Provision::Quick => Holes::AreCiphertext,
        };
        Mapping::new(self.sector_size, segments, holes).map_err(damaged)
    }
}

fn damaged(error: MappingError) -> Error {
    Error::caused_by(ErrorKind::Damaged, error)
}
