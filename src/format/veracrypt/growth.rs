//! A container that becomes larger.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::ops::Range;

use super::{
    Opened, Place, VolumeHeader,
    chain::Use,
    create::{HEADERS_LEN, slots_of_noise},
    layout::{SLOT_LEN, UNIT},
    seal::{Locking, Sealed},
};
use crate::{
    crypto::{
        rng::Rng,
        secret::{LockedBytes, VolumeKey},
    },
    error::{Error, ErrorKind, Result},
    format::{
        Growth,
        growth::{Mark, occupied},
    },
    storage::Storage,
    text::exact_size,
    units::{Sector, SectorSize},
};

/// A VeraCrypt container that grows, with the headers for its new size.
#[derive(Debug)]
pub(super) struct VeraCryptGrowth {
    sealed: [Sealed; 2],
    /// What will open it.
    larger: Opened,
    old_len: u64,
    new_len: u64,
    /// For the slots at the new end, and for those at the old end, which become data.
    noise: [Vec<u8>; 2],
    /// What tells of it at the new end, and at the medium's present one: an earlier one may have been meant to go so far.
    marks: [(u64, Mark); 2],
}

impl VeraCryptGrowth {
    /// Makes the headers of the larger volume. Runs the key derivation, twice; writes nothing.
    ///
    /// # Errors
    /// `Usage` for a size that is not larger, `Unsupported` where this volume cannot grow, `Damaged` where its header does not
    /// fit its container.
    pub(super) fn new(
        opened: &Opened,
        locking: &Locking<'_>,
        container_len: u64,
        new_len: u64,
        rng: &dyn Rng,
    ) -> Result<Self> {
        let unsupported = |reason: &str| Error::new(ErrorKind::Unsupported, reason);
        match opened.place {
            Place::Normal => {}
            Place::Backup => {
                return Err(unsupported("only the backup header opens")
                    .with_hint("strongroom header repair puts the header back"));
            }
            _ => return Err(unsupported("only the volume that fills the container can grow")),
        }
        opened.counterpart(container_len)?;
        opened.check_writable(container_len)?;
        if opened.header.flags != 0 {
            return Err(unsupported("it was encrypted in place"));
        }
        let data = opened.header.data(opened.place, container_len)?;
        let old_len = data.end.saturating_add(HEADERS_LEN);
        if old_len > container_len {
            let reason = format!("its data end at byte {}, and leave no room for its headers", data.end);
            return Err(Error::new(ErrorKind::Damaged, reason));
        }
        // VC-GROW-01: the slots at the old end and those at the new one have no byte in common.
        let least = old_len.saturating_add(HEADERS_LEN);
        if new_len < least || new_len < container_len || !new_len.is_multiple_of(UNIT) {
            let (now, least) = (exact_size(old_len), exact_size(least));
            let reason = format!("it has {now}, and only grows: to {least} or more, in units of 512 bytes");
            return Err(Error::new(ErrorKind::Usage, reason)
                .with_hint("to make it smaller, make a new container and copy the files"));
        }
        let header = larger(&opened.header, new_len.saturating_sub(old_len))?;
        let present_end = container_len.saturating_sub(container_len.checked_rem(UNIT).unwrap_or(0));
        let mark = opened.growth_mark(old_len, new_len)?;
        let mut new_slots = slots_of_noise(rng)?;
        // It stays there: without the key it looks like everything around it.
        let at = usize::try_from(mark.at.saturating_sub(Self::tail(new_len))).unwrap_or(usize::MAX);
        for (byte, &marking) in new_slots.iter_mut().skip(at).zip(&mark.bytes) {
            *byte = marking;
        }
        Ok(Self {
            sealed: Sealed::pair(&header, opened.encryption, locking, rng)?,
            larger: Opened {
                place: opened.place,
                offset: opened.offset,
                encryption: opened.encryption,
                prf: opened.prf,
                pim: opened.pim,
                header,
                protected: None,
                original_is_lost: false,
            },
            old_len,
            new_len,
            noise: [new_slots, slots_of_noise(rng)?],
            marks: [(new_len, mark), (present_end, opened.growth_mark(old_len, present_end)?)],
        })
    }

    /// Where the slots at the end of a container of this size begin.
    const fn tail(len: u64) -> u64 {
        len.saturating_sub(HEADERS_LEN)
    }
}

impl Growth for VeraCryptGrowth {
    fn container_len(&self) -> u64 {
        self.new_len
    }

    fn data_len(&self) -> u64 {
        self.new_len.saturating_sub(HEADERS_LEN.saturating_mul(2))
    }

    /// The slots at the new end come later.
    fn to_fill(&self) -> Range<u64> {
        self.old_len..Self::tail(self.new_len)
    }

    fn to_reserve(&self) -> Range<u64> {
        self.old_len..self.new_len
    }

    fn overwrites(&self, storage: &dyn Storage) -> Result<Option<Range<u64>>> {
        occupied(storage, self.old_len..self.new_len, &self.marks)
    }

    /// VC-GROW-04.
    fn mark(&self, storage: &dyn Storage) -> Result<()> {
        let [(_, mark), _] = &self.marks;
        mark.put(storage)
    }

    fn volume_key(&self) -> Result<Option<VolumeKey>> {
        self.larger.to_key().map(Some)
    }

    /// VC-GROW-02: the copies at the new end, then the header, and only then the copies at the old end go.
    fn commit(&self, storage: &dyn Storage) -> Result<()> {
        let [header, backup] = &self.sealed;
        let [new_slots, old_slots] = &self.noise;
        let (old_tail, new_tail) = (Self::tail(self.old_len), Self::tail(self.new_len));
        // VC-GROW-03: a hidden volume's header says where its data are, wherever it stands itself. So its copy moves as it is,
        // and nobody has to know whether there is one.
        let mut hidden = vec![0; usize::try_from(SLOT_LEN).unwrap_or_default()];
        storage.read_exact_at(&mut hidden, old_tail.saturating_add(SLOT_LEN))?;
        storage.write_all_at(new_slots, new_tail)?;
        storage.write_all_at(&hidden, new_tail.saturating_add(SLOT_LEN))?;
        storage.sync_data()?;
        backup.write(storage, new_tail)?;
        header.write(storage, 0)?;
        // What still stood there opens with today's password, for ever, where it is not overwritten.
        storage.write_all_at(old_slots, old_tail)?;
        Ok(storage.sync_data()?)
    }
}

impl Opened {
    /// What tells that a growth from `old_len` bytes to `new_len` was begun (VC-GROW-04): a sector behind the backup header's, under the
    /// volume's own keys.
    ///
    /// # Errors
    /// `Unsupported` for keys that are not used.
    pub(super) fn growth_mark(&self, old_len: u64, new_len: u64) -> Result<Mark> {
        let at = new_len.saturating_sub(SLOT_LEN).saturating_sub(UNIT);
        let mut bytes = [MARK, &old_len.to_le_bytes(), &new_len.to_le_bytes()].concat();
        bytes.resize(usize::try_from(UNIT).unwrap_or_default(), 0);
        let cipher = self.encryption.keyed(self.header.keys.as_slice(), Use::Data)?;
        cipher.encrypt(&mut bytes, SectorSize::B512, Sector(at.div_euclid(UNIT)));
        Ok(Mark { at, bytes })
    }
}

/// What a mark says before the two sizes.
const MARK: &[u8] = b"strongroom/growth";

/// The same header for a volume of `more` bytes more.
fn larger(header: &VolumeHeader, more: u64) -> Result<VolumeHeader> {
    let mut keys = LockedBytes::zeroed(header.keys.len())?;
    keys.as_mut_slice().copy_from_slice(header.keys.as_slice());
    let too_large = || Error::new(ErrorKind::Usage, "that is too large");
    Ok(VolumeHeader {
        family: header.family,
        version: header.version,
        minimum: header.minimum,
        times: header.times,
        hidden_size: 0,
        volume_size: header.volume_size.checked_add(more).ok_or_else(too_large)?,
        area_start: header.area_start,
        area_len: header.area_len.checked_add(more).ok_or_else(too_large)?,
        flags: header.flags,
        sector_size: header.sector_size,
        keys,
    })
}
