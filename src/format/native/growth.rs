//! A native container that becomes larger (section 6.2, NAT-GROW-01 to -04).
//!
//! Copy B moves to the new end. It is written there, with the new size, before copy A says the same; until then copy A alone
//! says that the container has its old size, and from then on the search for copy B finds the new one (NAT-RD-03).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{ops::Range, sync::Arc};

use super::{
    copies::Copies,
    copy::HeaderCopy,
    layout::{ALIGNMENT, MAGIC, MAX_DATA_LEN},
    ledger::{Ledger, WorkAreas},
    slots::{SLOTS_LEN, Slots},
    superblock::{CopyIndex, Geometry, Superblock},
    update::make_durable,
};
use crate::{
    crypto::{rng::Rng, secret::VolumeKey},
    error::{Error, ErrorKind, Result},
    format::{Growth, Provision, growth::check_larger},
    storage::Storage,
};

/// A larger native container, settled and not written yet.
#[derive(Debug)]
pub(super) struct NativeGrowth {
    /// Copy A as it is.
    base: HeaderCopy,
    /// The header as it will be, one sequence number later.
    new: HeaderCopy,
    key: Arc<VolumeKey>,
    /// What takes the place of the old end, where copy B was: random bytes in a thick container, else zeros.
    over_old_end: Vec<u8>,
}

impl NativeGrowth {
    /// Makes the header of a container of `new_len` bytes out of `good`, which is authentic under `key`.
    ///
    /// # Errors
    /// `Usage` where that is no larger size, or more than the format allows; `Busy` while a re-encryption is under way.
    pub(super) fn new(
        good: &HeaderCopy,
        key: &Arc<VolumeKey>,
        new_len: u64,
        actual_len: u64,
        rng: &dyn Rng,
    ) -> Result<Self> {
        let geometry = check(&good.superblock, new_len, actual_len)?;
        let base = good.for_index(CopyIndex::A, key)?;
        let old = old_end(&base.superblock.geometry);
        let mut over_old_end =
            vec![0; usize::try_from(old.end.saturating_sub(old.start)).unwrap_or_default()];
        if base.superblock.provision == Provision::Thick {
            rng.fill(&mut over_old_end)?;
        }
        let new = base.updated(
            |raw| {
                raw.superblock.data_len = geometry.data_len.into();
                raw.superblock.container_len = geometry.container_len.into();
                raw.superblock.backup_offset = geometry.backup_offset.into();
            },
            key,
        )?;
        Ok(Self { base, new, key: Arc::clone(key), over_old_end })
    }

    fn old(&self) -> &Geometry {
        &self.base.superblock.geometry
    }

    fn geometry(&self) -> &Geometry {
        &self.new.superblock.geometry
    }

    /// What is new of the data area and lay behind the container's end before.
    fn new_data(&self) -> Range<u64> {
        self.old().container_len..self.geometry().backup_offset
    }

    fn is_done(&self) -> bool {
        self.old() == self.geometry()
    }

    /// NAT-GROW-02: takes away what an ended re-encryption left but its closing record: by the old size such records say that it
    /// came to its end, and by the new one that it did not (NAT-REENC-21).
    fn close_records(&self, storage: &dyn Storage) -> Result<()> {
        let superblock = &self.base.superblock;
        let Some(slots) = Slots::read(storage, &superblock.geometry) else { return Ok(()) };
        Ledger::new(superblock, &self.key)?.close_left(storage, &slots)
    }

    /// NAT-GROW-02: takes copy B and the records behind it away from the old end, its magic first.
    fn clear_old_end(&self, storage: &dyn Storage) -> Result<()> {
        let start = self.old().backup_offset;
        storage.write_all_at(&[0; MAGIC.len()], start)?;
        storage.sync_data()?;
        storage.write_all_at(&vec![0; self.over_old_end.len()], start)?;
        storage.sync_data()?;
        storage.write_all_at(&self.over_old_end, start)?;
        Ok(storage.sync_data()?)
    }

    /// NAT-GROW-03: what a thin container finds in its new data area reads as zeros, and the new tail has what the front has of
    /// records.
    fn prepare_new_end(&self, storage: &dyn Storage) -> Result<()> {
        let (old, new) = (self.old(), self.geometry());
        if self.new.superblock.provision == Provision::Thin {
            clear(storage, old.container_len..new.backup_offset)?;
        }
        // What a growth that was broken off may have left there of a copy loses its magic before anything else.
        storage.write_all_at(&[0; MAGIC.len()], new.backup_offset)?;
        storage.sync_data()?;
        clear(storage, new.backup_offset..new.container_len)?;
        if let Some([front, tail]) = WorkAreas::of(new).map(|areas| areas.starts) {
            let mut records = vec![0; usize::try_from(SLOTS_LEN).unwrap_or_default()];
            storage.read_exact_at(&mut records, front)?;
            storage.write_all_at(&records, tail)?;
        }
        Ok(storage.sync_data()?)
    }
}

impl Growth for NativeGrowth {
    fn container_len(&self) -> u64 {
        self.geometry().container_len
    }

    fn data_len(&self) -> u64 {
        self.geometry().data_len
    }

    fn to_fill(&self) -> Range<u64> {
        let new = self.new_data();
        if self.new.superblock.provision == Provision::Thick && !self.is_done() {
            new
        } else {
            new.end..new.end
        }
    }

    fn to_reserve(&self) -> Range<u64> {
        let old = self.old().container_len;
        if self.new.superblock.provision == Provision::Thin { old..old } else { old..self.container_len() }
    }

    fn check(&self, storage: &dyn Storage) -> Result<()> {
        if storage.windows().is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unsupported, "a container whose header lies in a file of its own cannot grow")
            .with_hint("put the header into the container with strongroom header restore, resize it, and detach it again"))
    }

    fn commit(&self, storage: &dyn Storage) -> Result<()> {
        if self.is_done() {
            return Ok(());
        }
        let copies = Copies::read(storage)?;
        let is_doubled = copies.b.found.as_ref().is_ok_and(|b| b.says_the_same_as(&self.base));
        if copies.current().as_bytes() != self.base.as_bytes() || !is_doubled {
            return Err(Error::new(ErrorKind::Busy, "somebody else changed the header in the meantime")
                .with_hint("try again"));
        }
        make_durable(storage, &copies, &self.base)?;
        self.close_records(storage)?;
        self.clear_old_end(storage)?;
        self.prepare_new_end(storage)?;
        self.new.for_index(CopyIndex::B, &self.key)?.write(storage)?;
        self.new.write(storage).map_err(|error| {
            let reason = format!(
                "the container has its new size, but header copy A is not renewed: {}",
                error.reason()
            );
            Error::new(error.kind(), reason).with_hint("the same command ends it once the medium works")
        })
    }
}

/// NAT-GROW-01: the geometry of the same container with `new_len` bytes; a rest of less than 4 KiB is left unused.
///
/// # Errors
/// As [`NativeGrowth::new`].
pub(super) fn check(superblock: &Superblock, new_len: u64, actual_len: u64) -> Result<Geometry> {
    if superblock.reencryption.is_some() {
        return Err(Error::new(ErrorKind::Busy, "it is being re-encrypted, and cannot grow meanwhile")
            .with_hint("strongroom reencrypt CONTAINER goes on with that; then resize it"));
    }
    let old = &superblock.geometry;
    check_larger(old.container_len, new_len)?;
    if actual_len > new_len {
        let reason = format!("{actual_len} bytes are there, and the search for a header begins at their end");
        return Err(Error::new(ErrorKind::Usage, reason)
            .with_hint("give at least so many, or max; cut off the rest yourself if nothing else is in it"));
    }
    let container_len = new_len.checked_div(ALIGNMENT).unwrap_or_default().saturating_mul(ALIGNMENT);
    let more = container_len.saturating_sub(old.container_len);
    let too_large = || Error::new(ErrorKind::Usage, "a container holds at most 4 PiB");
    let backup_offset = old.backup_offset.checked_add(more).ok_or_else(too_large)?;
    if more > 0 && backup_offset < old.container_len {
        // Both places of copy B would overlap.
        let least = old_end(old);
        let reason = format!(
            "it has {} bytes, and grows by at least {}",
            old.container_len,
            least.end.saturating_sub(least.start)
        );
        return Err(Error::new(ErrorKind::Usage, reason));
    }
    // What lay unused between the data area and copy B is used from now on.
    let data_len = if more == 0 { old.data_len } else { backup_offset.saturating_sub(old.data_offset) };
    if data_len > MAX_DATA_LEN {
        return Err(too_large());
    }
    Ok(Geometry { data_offset: old.data_offset, data_len, container_len, backup_offset })
}

/// Where copy B and the tail's records are.
fn old_end(geometry: &Geometry) -> Range<u64> {
    geometry.backup_offset..geometry.container_len
}

/// Makes `range` zeros: by a hole where there are holes, as most of it is empty already.
fn clear(storage: &dyn Storage, range: Range<u64>) -> Result<()> {
    if range.is_empty() || (storage.limits().can_punch && storage.punch_hole(range.clone()).is_ok()) {
        return Ok(());
    }
    let zeros = vec![0; CLEARED_AT_ONCE];
    let mut at = range.start;
    while at < range.end {
        let len = usize::try_from(range.end.saturating_sub(at))
            .map_or(CLEARED_AT_ONCE, |left| left.min(CLEARED_AT_ONCE));
        storage.write_all_at(zeros.get(..len).unwrap_or_default(), at)?;
        at = at.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
    }
    Ok(())
}

/// Bytes.
const CLEARED_AT_ONCE: usize = 1 << 20;
