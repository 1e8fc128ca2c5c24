//! Where a container begins, as the header at its end says.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::{
    Opened, Place,
    chain::Use,
    create::{HEADERS_LEN, RESERVE, SMALL, SMALL_RESERVE},
    header::HeaderError,
    layout::{HEADER_LEN, SLOT_LEN, UNIT},
};
use crate::{
    error::{Error, ErrorKind, Result},
    format::{
        looks_random,
        signature::{self, HEAD_LEN},
    },
    storage::Storage,
    units::{Sector, SectorSize},
};

/// What of the bytes that were looked at tells whether a container begins where they do.
#[derive(Debug)]
pub(super) struct Front {
    /// Where they lie in the file or device.
    origin: u64,
    len: u64,
    /// What stands where the data of a normal volume begin; nothing where that cannot be read.
    data: Vec<u8>,
}

impl Front {
    pub(super) fn read(storage: &dyn Storage, len: u64) -> Self {
        let data = (HEADERS_LEN < len).then(|| signature::read_head_of(storage, HEADERS_LEN..len).ok());
        Self { origin: storage.origin(), len, data: data.flatten().unwrap_or_default() }
    }
}

impl Opened {
    /// Refuses a volume that a copy at the end has opened alone and whose container begins elsewhere by that: its data would
    /// be others' bytes (VC-PLACE-04). A container that was made longer has such a copy too, so what is known in the volume
    /// counts for more.
    ///
    /// # Errors
    /// `NotAContainer`, with the place.
    pub(super) fn check_start(&self, front: &Front) -> Result<()> {
        let Some(start) = self.start(front.len).filter(|start| *start != 0) else { return Ok(()) };
        // Where a hidden volume lies is not known before it is opened: `check_place` looks at that before anything is written.
        let is_here = || self.header.area_start == HEADERS_LEN && self.knows(&front.data);
        if self.place.is_hidden() || is_here() {
            return Ok(());
        }
        Err(elsewhere(front.origin, start))
    }

    /// The same before something is written, also for hidden volumes.
    ///
    /// # Errors
    /// `NotAContainer`, with the place; what reading gave.
    pub(super) fn check_place(&self, storage: &dyn Storage) -> Result<()> {
        let start = self.start(storage.size()?).filter(|start| *start != 0);
        match start {
            Some(start) if !self.shows_data(storage)? => Err(elsewhere(storage.origin(), start)),
            _ => Ok(()),
        }
    }

    /// Refuses writing to the volume where something else stands at the container's start: what was made since may lie in the data (VC-PLACE-05).
    ///
    /// # Errors
    /// `Unsupported`; what reading gave.
    pub(super) fn check_occupant(&self, storage: &dyn Storage) -> Result<()> {
        if !self.original_is_lost && !self.place.is_hidden() {
            return Ok(());
        }
        let known = signature::recognise(&signature::read_head(storage)?);
        let name = match known {
            Some(found) => found.name,
            None if is_slot(storage)? => return Ok(()),
            None => "something that is no header",
        };
        let reason =
            format!("{name} is in the place of its header, and what belongs to that may lie in the data");
        Err(Error::new(ErrorKind::Unsupported, reason).with_hint(
            "--read-only opens it, to copy the files off; if it is this container that counts, header repair makes its header anew, after \
             asking",
        ))
    }

    /// What its owner should know where only the place is in doubt.
    pub(super) fn doubt_of_place(&self, container_len: u64) -> Option<String> {
        let is_doubtful = self.place.is_hidden() && self.start(container_len).is_some_and(|start| start != 0);
        is_doubtful.then(|| {
            "only the backup header of the hidden volume opens, and more bytes than VeraCrypt leaves lie between it and the volume: \
             the container may begin elsewhere, and what is read here be noise"
                .to_owned()
        })
    }

    /// Whether something known stands in the volume, where it lies in `container` by this header.
    ///
    /// # Errors
    /// What reading gave.
    pub fn shows_data(&self, container: &dyn Storage) -> Result<bool> {
        let Ok(data) = self.header.data(self.place, container.size()?) else { return Ok(false) };
        let end = data.start.saturating_add(data.len);
        Ok(self.knows(&signature::read_head_of(container, data.start..end)?))
    }

    /// Whether what is enciphered here is the beginning of something known.
    fn knows(&self, ciphertext: &[u8]) -> bool {
        let whole = ciphertext.len().min(HEAD_LEN);
        let mut head = ciphertext.get(..whole.saturating_sub(whole & 511)).unwrap_or_default().to_vec();
        let Ok(cipher) = self.encryption.keyed(self.header.keys.as_slice(), Use::Data) else { return false };
        let first = match self.encryption.mode {
            super::Mode::Xts => self.header.area_start.div_euclid(UNIT),
            super::Mode::Lrw | super::Mode::Cbc => 0,
        };
        cipher.decrypt(&mut head, SectorSize::B512, Sector(first));
        let is_known = signature::recognise(&head).is_some();
        zeroize::Zeroize::zeroize(&mut head);
        is_known
    }

    /// How far behind the start of `len` bytes the container begins whose last ones these are; before it, where that is
    /// negative. `None` where the header is no copy, or not the only one that opens.
    fn start(&self, len: u64) -> Option<i128> {
        if !self.original_is_lost || self.header.version < 4 {
            return None;
        }
        let end = i128::from(self.header.area_start).saturating_add(self.header.area_len.into());
        match self.place {
            Place::Backup => {
                let container = self.container_len()?;
                Some(i128::from(len).saturating_sub(container.into()))
            }
            Place::HiddenBackup => {
                let gap = i128::from(len).saturating_sub(HEADERS_LEN.into()).saturating_sub(end);
                let reserve = if self.header.hidden_size < SMALL { SMALL_RESERVE } else { RESERVE };
                let is_usual = [0, SMALL_RESERVE, RESERVE].iter().any(|usual| gap == i128::from(*usual));
                Some(if is_usual { 0 } else { gap.saturating_sub(reserve.into()) })
            }
            _ => None,
        }
    }

    /// The size of the container, as the header of its normal volume has it (VC-DATA-08). `None` where it does not say.
    pub fn container_len(&self) -> Option<u64> {
        if self.place.is_hidden() || self.place == Place::System || self.header.version < 4 {
            return None;
        }
        let end = match self.header.volume_size {
            0 => self.header.area_start.checked_add(self.header.area_len)?,
            // While a volume is encrypted in place, the area is a part of it.
            size => HEADERS_LEN.checked_add(size)?,
        };
        end.checked_add(HEADERS_LEN)
    }
}

/// Whether the first slot looks as one does, or is empty: without its key a header is random bytes, as all around it.
fn is_slot(storage: &dyn Storage) -> Result<bool> {
    let mut slot = vec![0; usize::try_from(storage.size()?.min(SLOT_LEN)).unwrap_or_default()];
    storage.read_exact_at(&mut slot, 0)?;
    let is_usual = |sector: &[u8]| looks_random(sector) || sector.iter().all(|&byte| byte == 0);
    Ok(slot.chunks(HEADER_LEN).all(is_usual))
}

/// Why nothing opens here, and what does.
fn elsewhere(origin: u64, start: i128) -> Error {
    let at = i128::from(origin).saturating_add(start);
    if let Ok(at) = u64::try_from(at) {
        return Error::from(HeaderError::Elsewhere { at }).with_hint(format!("--offset {at} opens it there"));
    }
    let missing = u64::try_from(at.unsigned_abs()).unwrap_or(u64::MAX);
    Error::from(HeaderError::Headless { missing }).with_hint(format!(
        "in a copy, put as many zeros in front: (head -c {missing} /dev/zero; cat FILE) > NEW; --backup-header opens NEW"
    ))
}
