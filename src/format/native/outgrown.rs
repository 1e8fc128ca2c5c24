//! What tells a header from before a change of size that it is an old one (NAT-GEO-06, NAT-SIZE-04, -05).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use zerocopy::{FromBytes, IntoBytes};

use super::{
    copy::HeaderCopy,
    header::NativeHeader,
    layout::{ALIGNMENT, RECORD_LEN, RECORD_MAGIC, RECORD_VERSION, RawRecord},
    ledger::Ledger,
    record::{Entry, NO_CHECKSUM, Record},
    resize::with_data,
    slots::Slots,
    superblock::{CopyIndex, Geometry, Superblock},
};
use crate::{
    crypto::secret::VolumeKey,
    error::{Error, ErrorKind, Result},
    storage::Storage,
};

impl NativeHeader {
    /// NAT-SIZE-05: where the container lies now, and its generation, where records show that its size was changed since this header
    /// was made.
    pub(super) fn resized_since(&self, superblock: &Superblock, key: &VolumeKey) -> Option<(u32, Geometry)> {
        let ledger = Ledger::new(superblock, key).ok()?;
        let slots = self.slots_of(superblock).into_iter().chain(&self.behind);
        let (generation, data_len) = slots.filter_map(|slots| ledger.resized_since(slots)).max()?;
        Some((generation, with_data(&superblock.geometry, data_len)?))
    }

    /// NAT-SIZE-05: the generation and the data length of idle records that may tell of another size; their MAC is not checked.
    pub(super) fn claims(&self, superblock: &Superblock) -> impl Iterator<Item = (u32, u64)> {
        let uuid = superblock.uuid;
        let slots = self.slots_of(superblock).into_iter().chain(self.behind.as_ref());
        let records = slots.flat_map(|slots| [0, 1].into_iter().flat_map(|area| slots.raw_in(area)));
        let ours = records.filter(move |raw| raw.uuid == uuid && raw.chunk_len.get() == 0);
        ours.map(|raw| (raw.generation.get(), raw.border.get()))
    }

    /// NAT-GEO-06: refuses to write under a header whose copy B is gone without a trace, where the file or device goes on behind the
    /// container's end: it may be one from before the container grew, and copy B would be written into the data.
    pub(super) fn check_surplus(&self, good: &HeaderCopy) -> Result<()> {
        let Geometry { container_len, backup_offset, .. } = good.superblock.geometry;
        let surplus = self.actual_len.saturating_sub(container_len);
        let b = &self.copies.b;
        let stands = self.copies.backup_at(backup_offset).is_some()
            || (b.offset == backup_offset && b.shows_a_header(good));
        if self.is_detached || surplus < ALIGNMENT || good.superblock.index == CopyIndex::B || stands {
            return Ok(());
        }
        let reason = format!(
            "nothing is left of header copy B at offset {backup_offset}, and {surplus} bytes follow the container's end: if it has \
             grown since this header was made, its data are there"
        );
        Err(Error::new(ErrorKind::Damaged, reason).with_hint(
            "--read-only opens it; strongroom header repair --scan looks for a newer header, header restore puts a newer backup back",
        ))
    }
}

impl Ledger {
    /// NAT-SIZE-04: writes the record that tells an old header how large the container is now into slot 0 of an area, its magic last,
    /// so that a power cut leaves it whole or not at all. One that stands there is only written once more: after a sync that failed
    /// the medium may not have it.
    ///
    /// # Errors
    /// What writing gave.
    pub(super) fn write_size(&self, storage: &dyn Storage, area: usize) -> Result<()> {
        let Some(&start) = self.areas.starts.get(area) else { return Ok(()) };
        let whole =
            self.seal(&Record { counter: 2, border: self.data_len, entry: Entry::Rest }, self.generation);
        let mut there = vec![0; RECORD_LEN];
        let stands = storage.read_exact_at(&mut there, start).is_ok() && there == whole.as_bytes();
        if !stands {
            storage.write_all_at(&[0; RECORD_MAGIC.len()], start)?;
            storage.sync_data()?;
            let mut unmarked = whole;
            unmarked.magic = [0; RECORD_MAGIC.len()];
            storage.write_all_at(unmarked.as_bytes(), start)?;
            storage.sync_data()?;
        }
        storage.write_all_at(whole.as_bytes(), start)?;
        storage.sync_data()?;
        storage.read_exact_at(&mut there, start)?;
        if there == whole.as_bytes() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Io, "the record of the new size does not read back as it was written"))
    }

    /// NAT-SIZE-05: the generation and the data length of the newest change of size that this header is from before, where records
    /// under its own volume key tell. A re-encryption has another key.
    pub(super) fn resized_since(&self, slots: &Slots) -> Option<(u32, u64)> {
        if !self.generation.is_multiple_of(2) {
            return None;
        }
        let places = [(0, 0), (1, 0)];
        let records = places
            .into_iter()
            .filter_map(|(area, slot)| RawRecord::read_from_bytes(slots.slot(area, slot)?).ok());
        let newer = records.filter(|raw| {
            let (generation, border) = (raw.generation.get(), raw.border.get());
            let is_idle = raw.chunk_len.get() == 0 && raw.checksum == NO_CHECKSUM;
            raw.magic == RECORD_MAGIC
                && raw.version.get() == RECORD_VERSION
                && raw.uuid == self.uuid
                && generation > self.generation
                && generation.is_multiple_of(2)
                && border.is_multiple_of(ALIGNMENT)
                && is_idle
                && self.is_authentic(raw)
        });
        newer.map(|raw| (raw.generation.get(), raw.border.get())).max()
    }
}
