//! Headers written anew: another password, a damaged copy put back, backups in files.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::ops::Range;

use super::{
    Hints, Opened, Place, VolumeHeader,
    create::{HEADERS_LEN, RESERVE, SMALL_RESERVE, slots_of_noise},
    header::HeaderError,
    keyfile::with_pool,
    layout::SLOT_LEN,
    place::Slot,
    seal::{Locking, Sealed},
    trial,
};
use crate::{
    crypto::{rng::Rng, secret::Credentials},
    error::{Error, ErrorKind, Result},
    format::Attempt,
    storage::Storage,
};

/// A header and its copy, sealed anew and not written yet.
#[derive(Debug)]
pub struct NewHeaders {
    sealed: [Sealed; 2],
    /// Where they belong, in bytes: the one that is written first stands first, the one that opened the volume last.
    order: [u64; 2],
    /// Where the header was read, if it is to be there still.
    read_at: u64,
    /// What stood in each place when it was read, as far as it matters.
    found: Option<Vec<u8>>,
    from_file: bool,
    /// Copies that stand elsewhere, and what is put over them.
    left_behind: Vec<(Slot, Vec<u8>)>,
}

impl NewHeaders {
    /// Seals the header of an opened volume anew. `old` opened it, and finds its copies in a container that is longer than the header
    /// says: what follows it may be another's (VC-PLACE-06). Copies beside the two that are written would open with the old secret,
    /// for ever, so they are overwritten too (VC-WRITE-12). Runs the key derivation, twice or more; writes nothing.
    ///
    /// # Errors
    /// `Unsupported` where the container's version has no second header to fall back on, or nothing tells where that belongs;
    /// `Usage` as [`Locking::cost`].
    pub fn new(
        opened: &Opened,
        storage: &dyn Storage,
        locking: &Locking<'_>,
        old: (&Credentials, &Attempt<'_>),
        rng: &dyn Rng,
    ) -> Result<Self> {
        let len = storage.size()?;
        opened.counterpart(len)?;
        opened.check_end(len)?;
        opened.check_place(storage)?;
        let slot = Slot::read(storage, opened.place, opened.offset)?;
        let copies = opened.copies_in(storage, len, old)?;
        let order = opened.order(opened.copy_at(len, &copies).ok_or_else(unknown_end)?);
        let is_stray = |copy: &Slot| order.iter().all(|at| at.abs_diff(copy.offset) >= HEADER_LEN_64);
        let mut left_behind = Vec::new();
        for copy in copies.into_iter().filter(is_stray) {
            let mut noise = vec![0; copy.bytes().len()];
            rng.fill(&mut noise)?;
            left_behind.push((copy, noise));
        }
        Ok(Self {
            sealed: Sealed::pair(&opened.header, opened.encryption, locking, rng)?,
            order,
            read_at: opened.offset,
            found: Some(slot.bytes()),
            from_file: false,
            left_behind,
        })
    }

    /// Seals the header that a backup file gave for `container`. Where nothing tells where its copy belongs, `is_whole` says that
    /// nothing follows the container.
    ///
    /// # Errors
    /// `Damaged` where the volume would not lie in the container; as [`Self::new`].
    pub fn from_backup(
        opened: &Opened,
        (container, is_whole): (&dyn Storage, bool),
        locking: &Locking<'_>,
        rng: &dyn Rng,
    ) -> Result<Self> {
        let len = container.size()?;
        opened.counterpart(len)?;
        let data = opened.header.data(opened.place, len)?;
        if data.is_cut_off() {
            return Err(HeaderError::CutOff { end: data.end, container_len: len }.into());
        }
        opened.check_end(len)?;
        let at_end = opened.copy_place().offset(len).filter(|_| is_whole);
        let copy_at = opened.copy_at(len, &[]).or(at_end);
        Ok(Self {
            sealed: Sealed::pair(&opened.header, opened.encryption, locking, rng)?,
            order: opened.order(copy_at.ok_or_else(unknown_end)?),
            read_at: opened.offset,
            found: None,
            from_file: true,
            left_behind: Vec::new(),
        })
    }

    /// Where the copy is written.
    pub fn copy_at(&self) -> u64 {
        let [first, last] = self.order;
        first.max(last)
    }

    /// The bytes around both headers that programs of this family have for nothing else.
    pub fn areas(&self) -> [Range<u64>; 2] {
        let [first, last] = self.order;
        // A hidden volume's header stands behind the other one's.
        let before = first.min(last);
        let start = self.copy_at().saturating_sub(before);
        [0..HEADERS_LEN, start..start.saturating_add(HEADERS_LEN)]
    }

    /// The bytes of the copies that are overwritten besides.
    pub fn strays(&self) -> impl Iterator<Item = Range<u64>> {
        self.left_behind().map(|start| start..start.saturating_add(HEADER_LEN_64))
    }

    /// Where the copies stand that are overwritten because the container once ended there.
    pub fn left_behind(&self) -> impl Iterator<Item = u64> {
        self.left_behind.iter().map(|(slot, _)| slot.offset)
    }

    /// Writes both, one after the other: at every moment one of them is whole (VC-WRITE-09).
    ///
    /// # Errors
    /// `Busy` where the header is another one than when it was read: nothing was written then. What writing gave.
    pub fn write(&self, storage: &dyn Storage) -> Result<()> {
        let len = storage.size()?;
        let ([first, last], [first_at, last_at]) = (&self.sealed, self.order);
        if self.copy_at().saturating_add(HEADER_LEN_64) > len {
            return Err(Error::new(ErrorKind::Damaged, "the container no longer has room for its headers"));
        }
        if let Some(found) = &self.found {
            let slot = Slot::read(storage, Place::Normal, self.read_at)?;
            if slot.bytes() != *found {
                return Err(Error::new(ErrorKind::Busy, "another program changed the header meanwhile"));
            }
            // What was read may be in the kernel's cache only, after a sync that failed: it is what opens the container if
            // the power goes now.
            storage.write_all_at(found, self.read_at)?;
            storage.sync_data()?;
        }
        first.write(storage, first_at)?;
        last.write(storage, last_at).map_err(|error| {
            let action =
                if self.from_file { "only one of the two headers is restored" } else { CHANGED_IN_PART };
            error.during(action)
        })?;
        for (slot, noise) in &self.left_behind {
            let overwritten = storage.write_all_at(noise, slot.offset).and_then(|()| storage.sync_data());
            overwritten.map_err(|error| {
                let offset = slot.offset;
                Error::from(error).during(format!(
                    "both headers have the new secret, and an old copy at byte {offset} still has the old one"
                ))
            })?;
        }
        Ok(())
    }
}

/// A backup of one volume's header in VeraCrypt's form: 128 KiB, of which one half or the other holds the header, sealed with
/// a salt of its own, and all else looks like one (VC-BACKUP-01).
///
/// # Errors
/// `Usage` as [`Locking::cost`].
pub fn backup_file(opened: &Opened, locking: &Locking<'_>, rng: &dyn Rng) -> Result<Vec<u8>> {
    let [sealed, _] = Sealed::pair(&opened.header, opened.encryption, locking, rng)?;
    let mut file = slots_of_noise(rng)?;
    let offset = if opened.place.is_hidden() { SLOT_LEN } else { 0 };
    let place = file.get_mut(usize::try_from(offset).unwrap_or(usize::MAX)..);
    for (place, &byte) in place.unwrap_or_default().iter_mut().zip(&sealed.bytes) {
        *place = byte;
    }
    Ok(file)
}

impl Opened {
    /// The place of the other copy of this header in a container of `len` bytes.
    ///
    /// # Errors
    /// `Unsupported` where there is none.
    pub(super) fn counterpart(&self, len: u64) -> Result<Place> {
        let other = match self.place {
            Place::Normal => Place::Backup,
            Place::Backup => Place::Normal,
            Place::Hidden => Place::HiddenBackup,
            Place::HiddenBackup => Place::Hidden,
            Place::OldHidden | Place::System => {
                let reason = format!("the {} has no second copy to fall back on", self.place.name());
                return Err(Error::new(ErrorKind::Unsupported, reason));
            }
        };
        // Up to version 3, data stand where the copies would.
        if !has_copies(&self.header) || other.offset(len).is_none() {
            let reason = format!(
                "containers of version {} have no second header to fall back on",
                self.header.version
            );
            return Err(Error::new(ErrorKind::Unsupported, reason));
        }
        Ok(other)
    }
}

impl Opened {
    /// Refuses to write headers where the container's end, and with it the place of the copies, lies within the data
    /// (VC-WRITE-11).
    ///
    /// # Errors
    /// `Damaged`.
    fn check_end(&self, len: u64) -> Result<()> {
        let data = self.header.data(self.place, len)?;
        if len.saturating_sub(HEADERS_LEN) >= data.end {
            return Ok(());
        }
        let reason = format!(
            "the container is cut off: its data end at byte {}, and the {HEADERS_LEN} bytes of the backup headers behind them are not all there",
            data.end
        );
        Err(Error::new(ErrorKind::Damaged, reason)
            .with_hint("copy the files to a new container; header backup keeps a copy of the header"))
    }
}

/// Where the copies belong (VC-PLACE-06).
impl Opened {
    /// Where the copy of this header belongs, `copies` being those that are there. `None` where nothing tells.
    fn copy_at(&self, len: u64, copies: &[Slot]) -> Option<u64> {
        let place = self.copy_place();
        let at_end = place.offset(len)?;
        // VeraCrypt itself looks at the very end alone.
        let copy = copies.iter().find(|copy| copy.offset == at_end).or(copies.first());
        if let Some(copy) = copy {
            return Some(copy.offset);
        }
        let lens = self.container_lens();
        let ends_here = |told: &u64| (*told..told.saturating_add(HEADERS_LEN)).contains(&len);
        match lens.as_slice() {
            [] => Some(at_end),
            lens if lens.iter().any(ends_here) => Some(at_end),
            [told] => place.offset(*told),
            _ => None,
        }
    }

    /// The original's place and the copy's, the one last that opened the volume.
    fn order(&self, copy_at: u64) -> [u64; 2] {
        let original_at = if self.place.is_hidden() { SLOT_LEN } else { 0 };
        if self.place.is_backup() { [original_at, copy_at] } else { [copy_at, original_at] }
    }

    const fn copy_place(&self) -> Place {
        if self.place.is_hidden() { Place::HiddenBackup } else { Place::Backup }
    }

    /// The copies of this header that open with `old`, where a container that is as long as this one, or as the header tells, has them.
    fn copies_in(
        &self,
        storage: &dyn Storage,
        len: u64,
        (old, attempt): (&Credentials, &Attempt<'_>),
    ) -> Result<Vec<Slot>> {
        let place = self.copy_place();
        let mut lens = self.container_lens();
        lens.retain(|told| *told < len);
        let Credentials::Password { password, keyfiles } = old else { return Ok(Vec::new()) };
        if lens.is_empty() {
            return Ok(Vec::new());
        }
        let hints = Hints {
            prf: Some(self.prf),
            pim: self.pim,
            hidden: place.is_hidden(),
            backup_header: true,
            system: false,
        };
        let attempt = Attempt { hints, ..*attempt };
        let mut found = Vec::new();
        for offset in lens.into_iter().chain([len]).filter_map(|len| place.offset(len)) {
            let slot = Slot::read(storage, place, offset)?;
            let password = with_pool(password, keyfiles, self.family())?;
            match trial::run_once(std::slice::from_ref(&slot), &[(self.family(), password)], &attempt) {
                Ok(copy) if copy.has_same_keys(self) => found.push(slot),
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::OutOfMemory) => {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// The sizes that the container may have had when the header was written.
    fn container_lens(&self) -> Vec<u64> {
        if !self.place.is_hidden() {
            return self.container_len().into_iter().collect();
        }
        let end = self.header.area_start.saturating_add(self.header.area_len);
        // What lies between a hidden volume and the copies behind it.
        let behind = [0, SMALL_RESERVE, RESERVE].map(|reserve| end.saturating_add(reserve));
        behind.map(|end| end.saturating_add(HEADERS_LEN)).to_vec()
    }
}

/// Only where a container ends is known where the copy of a hidden volume's header belongs, and that header does not say it.
fn unknown_end() -> Error {
    let reason = "no copy of the hidden volume's header opens, and nothing tells where its container ends, so where the copy belongs";
    Error::new(ErrorKind::Unsupported, reason)
        .with_hint("if more than the container lies in it: --partition or --offset names the place, or cut a copy to its length")
}

const fn has_copies(header: &VolumeHeader) -> bool {
    header.version >= 4
}

const HEADER_LEN_64: u64 = 512;
const CHANGED_IN_PART: &str =
    "one of the two headers has the new secret, the other may have the old one: do it again";
