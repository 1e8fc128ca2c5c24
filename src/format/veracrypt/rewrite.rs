//! Headers written anew: another password, a damaged copy put back, backups in files.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

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
    /// Where they belong: the one that is written first stands first, the one that opened the volume last.
    order: [Place; 2],
    /// What stood in each place when it was read, as far as it matters.
    found: Option<Vec<u8>>,
    from_file: bool,
    /// Copies that stand elsewhere, and what is put over them.
    left_behind: Vec<(Slot, Vec<u8>)>,
}

impl NewHeaders {
    /// Seals the header of an opened volume anew. Runs the key derivation, twice; writes nothing.
    ///
    /// # Errors
    /// `Unsupported` where the container's version has no second header to fall back on, `Usage` as [`Locking::cost`].
    pub fn new(opened: &Opened, storage: &dyn Storage, locking: &Locking<'_>, rng: &dyn Rng) -> Result<Self> {
        let len = storage.size()?;
        let other = opened.counterpart(len)?;
        opened.check_end(len)?;
        opened.check_place(storage)?;
        let slot = Slot::read(storage, opened.place, opened.offset)?;
        Ok(Self {
            sealed: Sealed::pair(&opened.header, opened.encryption, locking, rng)?,
            order: [other, opened.place],
            found: Some(slot.bytes()),
            from_file: false,
            left_behind: Vec::new(),
        })
    }

    /// Seals the header that a backup file gave for `container`.
    ///
    /// # Errors
    /// `Damaged` where the volume would not lie in the container; as [`Self::new`].
    pub fn from_backup(
        opened: &Opened,
        container: &dyn Storage,
        locking: &Locking<'_>,
        rng: &dyn Rng,
    ) -> Result<Self> {
        let len = container.size()?;
        let other = opened.counterpart(len)?;
        let data = opened.header.data(opened.place, len)?;
        if data.is_cut_off() {
            return Err(HeaderError::CutOff { end: data.end, container_len: len }.into());
        }
        opened.check_end(len)?;
        Ok(Self {
            sealed: Sealed::pair(&opened.header, opened.encryption, locking, rng)?,
            order: [other, opened.place],
            found: None,
            from_file: true,
            left_behind: Vec::new(),
        })
    }

    /// The same, for a header that gets another secret than `old`. A container that was made longer since keeps a copy where it
    /// ended: it would open with the old secret, for ever, so it is overwritten too (VC-WRITE-12).
    ///
    /// # Errors
    /// `OutOfMemory`, `Interrupted`, what reading gave.
    pub fn forgetting(
        mut self,
        opened: &Opened,
        storage: &dyn Storage,
        (old, attempt): (&Credentials, &Attempt<'_>),
        rng: &dyn Rng,
    ) -> Result<Self> {
        let len = storage.size()?;
        for slot in opened.left_behind(storage, len, (old, attempt))? {
            let mut noise = vec![0; slot.bytes().len()];
            rng.fill(&mut noise)?;
            self.left_behind.push((slot, noise));
        }
        Ok(self)
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
        let [first, last] = &self.sealed;
        let [first_at, last_at] = self.order.map(|place| place.offset(len));
        let (Some(first_at), Some(last_at)) = (first_at, last_at) else {
            return Err(Error::new(ErrorKind::Damaged, "the container no longer has room for its headers"));
        };
        if let Some(found) = &self.found {
            let slot = Slot::read(storage, Place::Normal, last_at)?;
            if slot.bytes() != *found {
                return Err(Error::new(ErrorKind::Busy, "another program changed the header meanwhile"));
            }
            // What was read may be in the kernel's cache only, after a sync that failed: it is what opens the container if
            // the power goes now.
            storage.write_all_at(found, last_at)?;
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

impl Opened {
    /// The copies of this header that stand where a container of the size that it tells would end, and not where this one does.
    fn left_behind(
        &self,
        storage: &dyn Storage,
        len: u64,
        (old, attempt): (&Credentials, &Attempt<'_>),
    ) -> Result<Vec<Slot>> {
        let place = if self.place.is_hidden() { Place::HiddenBackup } else { Place::Backup };
        let Credentials::Password { password, keyfiles } = old else { return Ok(Vec::new()) };
        let hints = Hints {
            prf: Some(self.prf),
            pim: self.pim,
            hidden: place.is_hidden(),
            backup_header: true,
            system: false,
        };
        let attempt = Attempt { hints, ..*attempt };
        let mut found = Vec::new();
        for container_len in self.container_lens() {
            let Some(offset) = place.offset(container_len).filter(|_| container_len < len) else { continue };
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

const fn has_copies(header: &VolumeHeader) -> bool {
    header.version >= 4
}

const CHANGED_IN_PART: &str =
    "one of the two headers has the new secret, the other may have the old one: do it again";
