//! The room between header copy A and the data: empty but for what a re-encryption leaves there (section 8.2).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::ops::Range;

use zerocopy::FromBytes;

use super::{
    check::is_zero,
    copies::read_what_can_be_read,
    copy::HeaderCopy,
    layout::{ALIGNMENT, COPY_LEN, COPY_LEN_U64, DATA_OFFSET, RECORD_LEN, RECORD_MAGIC, RawRecord},
    ledger::Ledger,
    remains::is_zero_or,
    slots::Slots,
};
use crate::{crypto::secret::VolumeKey, error::Result, storage::Storage};

/// What stands in that room, block by block, as far as the first MiB; zeros for what cannot be read.
pub(super) struct Front(Vec<u8>);

impl Front {
    /// Reads the front of the container that `copy` describes.
    pub(super) fn read(storage: &dyn Storage, copy: &HeaderCopy) -> Self {
        let end = copy.superblock.geometry.data_offset.min(DATA_OFFSET);
        let len = usize::try_from(end.saturating_sub(COPY_LEN_U64)).unwrap_or(0);
        let mut bytes = vec![0; len];
        read_what_can_be_read(storage, &mut bytes, COPY_LEN_U64);
        Self(bytes)
    }

    /// Where a block holds what no re-encryption of the container of `copy` leaves there: else it is zeros.
    pub(super) fn strange(&self, copy: &HeaderCopy) -> Vec<u64> {
        // One that is about to go, or about to come, has lost its magic first, or gets it last (NAT-REENC-10).
        let is_marked = |raw: &RawRecord| is_zero_or(&raw.magic, &RECORD_MAGIC);
        let is_of_this = |raw: &RawRecord| is_marked(raw) && raw.uuid == copy.superblock.uuid;
        let records: Vec<_> = self.slots().map(|raw| raw.filter(is_of_this)).collect();
        let is_under_way = copy.superblock.reencryption.is_some()
            || records.iter().flatten().any(|raw| !raw.generation.get().is_multiple_of(2));
        let is_ours = |index: usize| match records.get(index) {
            Some(record) => record.is_some(),
            None => is_under_way && records.iter().any(Option::is_some),
        };
        let blocks = self.0.chunks(RECORD_LEN).zip((COPY_LEN_U64..).step_by(RECORD_LEN)).enumerate();
        let strange =
            blocks.filter(|(index, (block, _))| !is_ours(*index) && block.iter().any(|&byte| byte != 0));
        strange.map(|(_, (_, offset))| offset).collect()
    }

    /// The same without the records of another container, which only its owner may take away (NAT-UPD-11).
    pub(super) fn litter(&self, copy: &HeaderCopy) -> Vec<u64> {
        let records: Vec<_> = self.slots().zip((COPY_LEN_U64..).step_by(RECORD_LEN)).collect();
        let is_record = |offset: &u64| {
            records.iter().any(|(raw, at)| at == offset && raw.is_some_and(|raw| raw.magic == RECORD_MAGIC))
        };
        self.strange(copy).into_iter().filter(|offset| !is_record(offset)).collect()
    }

    /// What stands in both slots, record or not.
    fn slots(&self) -> impl Iterator<Item = Option<RawRecord>> {
        self.0.chunks(RECORD_LEN).take(2).map(|slot| RawRecord::read_from_bytes(slot).ok())
    }
}

/// Makes the front what [`Front::strange`] expects, before a header is put where the container had none (NAT-HF-08). Of a container
/// whose header is elsewhere it stays as it is.
///
/// # Errors
/// What writing gave.
pub(super) fn clear_front(storage: &dyn Storage, copy: &HeaderCopy) -> Result<()> {
    if !storage.windows().is_empty() {
        return Ok(());
    }
    let litter = Front::read(storage, copy).litter(copy);
    for &offset in &litter {
        storage.write_all_at(&[0; RECORD_LEN], offset)?;
    }
    if !litter.is_empty() {
        storage.sync_data()?;
    }
    Ok(())
}

/// NAT-REENC-20: ends the closing of records that was cut off: behind an authentic closing record, both areas are zeros. Says what it
/// did. What cannot be written is left: nothing depends on it.
pub(super) fn finish_closing(storage: &dyn Storage, good: &HeaderCopy, key: &VolumeKey) -> Option<String> {
    let superblock = &good.superblock;
    if superblock.reencryption.is_some() || superblock.generation == 0 {
        return None;
    }
    let slots = Slots::read(storage, &superblock.geometry)?;
    let ledger = Ledger::new(superblock, key).ok()?;
    let areas = slots.areas().ranges().into_iter().enumerate();
    // One whose closing record a power cut tore has only its other slot to tell whose it is.
    let closed = areas.filter(|(area, _)| ledger.is_closed(*area, &slots));
    let left: Vec<_> = closed
        .map(|(area, range)| {
            (slots.slot(area, 0), range.start, range.start.saturating_add(ALIGNMENT)..range.end)
        })
        .filter(|(.., rest)| !is_zero(storage, rest).unwrap_or(false))
        .collect();
    // After a sync that failed, reads show a closing record that the medium may not have.
    for (closing, start, _) in &left {
        storage.write_all_at((*closing)?, *start).ok()?;
    }
    if !left.is_empty() {
        storage.sync_data().ok()?;
    }
    let cleared: Vec<_> = left.into_iter().map(|(.., rest)| clear(storage, rest).unwrap_or(false)).collect();
    cleared
        .contains(&true)
        .then(|| "what an ended re-encryption had left in the work areas has been cleared".to_owned())
}

/// Writes zeros where something else stands; says whether it did.
fn clear(storage: &dyn Storage, range: Range<u64>) -> Result<bool> {
    let (mut there, zeros) = (vec![0; COPY_LEN], vec![0; COPY_LEN]);
    let (mut offset, mut is_changed) = (range.start, false);
    while offset < range.end {
        let len = usize::try_from(range.end.saturating_sub(offset)).unwrap_or(COPY_LEN).min(COPY_LEN);
        let (there, zeros) = (there.get_mut(..len).unwrap_or_default(), zeros.get(..len).unwrap_or_default());
        read_what_can_be_read(storage, there, offset);
        if there != zeros {
            storage.write_all_at(zeros, offset)?;
            is_changed = true;
        }
        offset = offset.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
    }
    if is_changed {
        storage.sync_data()?;
    }
    Ok(is_changed)
}
