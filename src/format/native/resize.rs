//! A native container that gets another size (section 6.1, NAT-SIZE-01 to -06).
//!
//! Copy B moves to the new end. It is written there in full but for its magic while both old copies stand; then the old copy B
//! loses its magic, and the new one gets it. From that write on the container has its new size, and what is left to be done
//! is done by whoever opens it for writing.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{ops::Range, sync::Arc};

use super::{
    copies::{Copies, Found, Place},
    copy::HeaderCopy,
    keys,
    layout::{ALIGNMENT, COPY_LEN, COPY_LEN_U64, MAGIC, MAX_DATA_LEN, SUPERBLOCK_LEN_U64, TAIL_LEN},
    ledger::Ledger,
    superblock::{CopyIndex, Geometry, Superblock},
    update::make_durable,
    wipe::{clear, overwrite},
};
use crate::{
    crypto::{
        rng::{OsRng, Rng},
        secret::VolumeKey,
    },
    error::{Error, ErrorKind, Result},
    format::{
        End, Growth, Provision,
        growth::{Mark, check_larger, occupied},
    },
    storage::Storage,
    text::exact_size,
};

/// A larger native container, settled and not written yet.
#[derive(Debug)]
pub(super) struct NativeGrowth {
    /// Copy A as it is.
    base: HeaderCopy,
    /// The header as it will be.
    new: HeaderCopy,
    key: Arc<VolumeKey>,
    /// How long the file or device is.
    actual_len: u64,
}

impl NativeGrowth {
    /// Makes the header of a container of `new_len` bytes out of `good`, which is authentic under `key`.
    ///
    /// # Errors
    /// As [`check_growth`].
    pub(super) fn new(
        good: &HeaderCopy,
        key: &Arc<VolumeKey>,
        new_len: u64,
        actual_len: u64,
    ) -> Result<Self> {
        let geometry = check_growth(&good.superblock, new_len, actual_len)?;
        let base = good.for_index(CopyIndex::A, key)?;
        let is_done = geometry == base.superblock.geometry;
        let new = if is_done { base.clone() } else { base.resized(&geometry, key)? };
        Ledger::new(&new.superblock, key)?;
        Ok(Self { base, new, key: Arc::clone(key), actual_len })
    }

    fn old(&self) -> &Geometry {
        &self.base.superblock.geometry
    }

    fn geometry(&self) -> &Geometry {
        &self.new.superblock.geometry
    }

    fn is_done(&self) -> bool {
        self.old() == self.geometry()
    }

    /// What of the new data area lay behind the container's end, and must not stay as it is: in a thin container all of it reads as
    /// zeros, and a growth that was broken off left a copy B at the file's end.
    fn to_clear(&self) -> Range<u64> {
        let (start, end) = (self.old().container_len, self.geometry().backup_offset);
        match self.new.superblock.provision {
            Provision::Thin => start..end,
            Provision::Quick => self.actual_len.saturating_sub(TAIL_LEN).max(start)..self.actual_len.min(end),
            Provision::Thick => end..end,
        }
    }

    /// NAT-SIZE-08: what tells that a growth from the old end to this one was begun.
    fn mark_of(&self, container_len: u64) -> Result<Mark> {
        let lens = [self.old().container_len, container_len];
        let bytes = keys::growth_mark(&self.key, &self.new.superblock.uuid, lens)?.to_vec();
        Ok(Mark { at: container_len.saturating_sub(MARK_LEN), bytes })
    }

    /// NAT-SIZE-08: whether all of a copy B but its magic stands where it belongs in a container of this length.
    fn has_new_copy(&self, storage: &dyn Storage, container_len: u64) -> bool {
        let tail_len = self.old().container_len.saturating_sub(self.old().backup_offset);
        let mut bytes = vec![0; COPY_LEN];
        let at = container_len.saturating_sub(tail_len);
        if storage.read_exact_at(&mut bytes, at).is_err() {
            return false;
        }
        for (byte, &of_magic) in bytes.iter_mut().zip(&MAGIC) {
            *byte = of_magic;
        }
        HeaderCopy::parse(&bytes).is_ok_and(|copy| {
            copy.superblock.geometry.container_len == container_len && copy.check_mac(&self.key).is_ok()
        })
    }

    /// NAT-SIZE-03: writes the new copy B but for its magic, and what belongs behind it. The mark goes last: from then on the copy
    /// shows what it did (NAT-SIZE-08).
    fn prepare_new_end(&self, storage: &dyn Storage) -> Result<()> {
        let new = self.geometry();
        let mark = self.mark_of(new.container_len)?.place();
        clear(storage, self.to_clear())?;
        // What a growth that was broken off may have left there of a copy loses its magic before anything else.
        storage.write_all_at(&[0; MAGIC.len()], new.backup_offset)?;
        storage.sync_data()?;
        overwrite(storage, new.backup_offset..mark.start, None)?;
        storage.sync_data()?;
        self.new.for_index(CopyIndex::B, &self.key)?.write_all_but_magic(storage)?;
        overwrite(storage, mark, None)?;
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
        let new = self.old().container_len..self.geometry().backup_offset;
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
        refuse_detached(storage)
    }

    /// NAT-SIZE-08.
    fn overwrites(&self, storage: &dyn Storage) -> Result<Option<Range<u64>>> {
        if self.is_done() {
            return Ok(None);
        }
        let (old, new) = (self.old().container_len, self.container_len());
        let actual = self.actual_len.saturating_sub(self.actual_len.checked_rem(ALIGNMENT).unwrap_or(0));
        let mut from = old;
        let mut marks = Vec::new();
        for end in [new, actual].into_iter().filter(|end| *end > old) {
            marks.push((end, self.mark_of(end)?));
            if self.has_new_copy(storage, end) {
                from = from.max(end);
            }
        }
        occupied(storage, from..new, &marks)
    }

    fn mark(&self, storage: &dyn Storage) -> Result<()> {
        if self.is_done() {
            return Ok(());
        }
        self.mark_of(self.container_len())?.put(storage)
    }

    fn end(&self, storage: &dyn Storage) -> Result<End> {
        begin(storage, &self.base)?;
        end_of(&self.new, &self.key)
    }

    fn commit(&self, storage: &dyn Storage) -> Result<()> {
        if self.is_done() {
            return Ok(());
        }
        begin(storage, &self.base)?;
        self.prepare_new_end(storage)?;
        storage.write_all_at(&[0; MAGIC.len()], self.old().backup_offset)?;
        storage.sync_data()?;
        self.new.for_index(CopyIndex::B, &self.key)?.write(storage)?;
        let finished =
            finish(storage, &self.base, &self.new, &self.key).and_then(|()| self.new.write(storage));
        finished.map_err(|error| {
            let reason = format!(
                "the container has its new size, but header copy A is not renewed: {}",
                error.reason()
            );
            Error::new(error.kind(), reason).with_hint("the same command ends it once the medium works")
        })
    }
}

/// NAT-SIZE-03: ends a change of size that was broken off, `good` being authentic under `key`: all but copy A, which is to be written
/// next, where that is still the one from before. `a` is what stands there.
///
/// # Errors
/// What writing gave.
pub(super) fn finish_begun(
    storage: &dyn Storage,
    a: &Found,
    good: &HeaderCopy,
    key: &VolumeKey,
) -> Result<()> {
    match a {
        Ok(old) if is_before(old, good, key) => finish(storage, old, good, key),
        _ => Ok(()),
    }
}

/// Whether copy A, `old`, is the header from before the change of size that copy B, `good`, has in it.
fn is_before(old: &HeaderCopy, good: &HeaderCopy, key: &VolumeKey) -> bool {
    let (before, after) = (&old.superblock, &good.superblock);
    before.index == CopyIndex::A
        && after.index == CopyIndex::B
        && good.is_update_of(old)
        && before.geometry != after.geometry
        && before.generation < after.generation
        && old.check_mac(key).is_ok()
}

/// Copy B, `new`, is whole: writes the records that make the header before it an old one, then takes away what is left of the
/// old copy B, the block by which it is known last.
pub(super) fn finish(
    storage: &dyn Storage,
    old: &HeaderCopy,
    new: &HeaderCopy,
    key: &VolumeKey,
) -> Result<()> {
    let ledger = Ledger::new(&new.superblock, key)?;
    for area in [TAIL, FRONT] {
        ledger.write_size(storage, area)?;
    }
    let left = old.for_index(CopyIndex::B, key)?;
    let Geometry { backup_offset, container_len, .. } = old.superblock.geometry;
    // No ciphertext shows a header: where none shows, data were written since.
    let end = if left.has_left(storage) {
        container_len
    } else if Place::read(storage, CopyIndex::B, backup_offset).shows_a_header(&left) {
        backup_offset.saturating_add(COPY_LEN_U64)
    } else {
        return Ok(());
    };
    clear_end(storage, backup_offset..end, new.superblock.provision)
}

/// Overwrites what a copy B without its magic left, and what follows it: the block by which it is known last, for keyslots without it
/// would pass for another header's (NAT-UPD-08).
pub(super) fn clear_end(storage: &dyn Storage, range: Range<u64>, provision: Provision) -> Result<()> {
    let rng: Option<&dyn Rng> = (provision == Provision::Thick).then_some(&OsRng);
    let sign = range.start..range.start.saturating_add(SUPERBLOCK_LEN_U64);
    overwrite(storage, sign.end..range.end, rng)?;
    storage.sync_data()?;
    overwrite(storage, sign, rng)?;
    Ok(storage.sync_data()?)
}

/// NAT-SIZE-01: the places of the same container with `new_len` bytes; a rest of less than 4 KiB is left unused.
///
/// # Errors
/// `Usage` where that is no larger size, or more than the format allows; `Busy` while a re-encryption is under way.
pub(super) fn check_growth(superblock: &Superblock, new_len: u64, actual_len: u64) -> Result<Geometry> {
    let old = &superblock.geometry;
    check_larger(old.container_len, new_len)?;
    if actual_len > new_len {
        let reason = format!("{} are there, and header copy B stands at their end", exact_size(actual_len));
        return Err(Error::new(ErrorKind::Usage, reason)
            .with_hint("give at least so many, or max; cut off the rest yourself if nothing else is in it"));
    }
    let container_len = new_len.checked_div(ALIGNMENT).unwrap_or_default().saturating_mul(ALIGNMENT);
    let more = container_len.saturating_sub(old.container_len);
    let least = old.container_len.saturating_sub(old.backup_offset);
    if more > 0 && more < least {
        // Both places of copy B would overlap.
        let (now, least) = (exact_size(old.container_len), exact_size(least));
        return Err(Error::new(ErrorKind::Usage, format!("it has {now}, and grows by at least {least}")));
    }
    if more == 0 {
        return Ok(*old);
    }
    laid_out(superblock, container_len)
}

/// NAT-SIZE-01: the places in the same container where it has `container_len` bytes.
///
/// # Errors
/// `Busy` while a re-encryption is under way; `Usage` where the format does not allow it.
pub(super) fn laid_out(superblock: &Superblock, container_len: u64) -> Result<Geometry> {
    if superblock.reencryption.is_some() {
        return Err(Error::new(ErrorKind::Busy, "it is being re-encrypted, and keeps its size meanwhile")
            .with_hint("strongroom reencrypt CONTAINER goes on with that; then resize it"));
    }
    let old = &superblock.geometry;
    let tail_len = old.container_len.saturating_sub(old.backup_offset);
    let backup_offset = container_len.saturating_sub(tail_len);
    // What lay unused between the data area and copy B is used from now on.
    let data_len = backup_offset.saturating_sub(old.data_offset);
    if data_len > MAX_DATA_LEN {
        return Err(Error::new(ErrorKind::Usage, "a container holds at most 4 PiB"));
    }
    let geometry = Geometry { data_offset: old.data_offset, data_len, container_len, backup_offset };
    Ok(geometry.checked()?)
}

/// NAT-SIZE-05: the places in the same container where it has grown and ends where the file or device does.
pub(super) fn grown_to(superblock: &Superblock, actual_len: u64) -> Option<Geometry> {
    let rest = actual_len.checked_rem(ALIGNMENT)?;
    let container_len = actual_len.saturating_sub(rest);
    if container_len <= superblock.geometry.container_len {
        return None;
    }
    laid_out(superblock, container_len).ok()
}

/// NAT-SIZE-05: the places in the same container where its data area has this length.
pub(super) fn with_data(old: &Geometry, data_len: u64) -> Option<Geometry> {
    let tail_len = old.container_len.checked_sub(old.backup_offset)?;
    let backup_offset = old.data_offset.checked_add(data_len)?;
    let container_len = backup_offset.checked_add(tail_len)?;
    Geometry { data_offset: old.data_offset, data_len, container_len, backup_offset }.checked().ok()
}

/// Makes sure that both copies still say what `base` does, and that the medium has it.
///
/// # Errors
/// `Busy` where somebody has changed the header since.
pub(super) fn begin(storage: &dyn Storage, base: &HeaderCopy) -> Result<()> {
    let copies = Copies::read(storage)?;
    let is_doubled = copies.b.found.as_ref().is_ok_and(|b| b.says_the_same_as(base));
    if copies.current().as_bytes() != base.as_bytes() || !is_doubled {
        return Err(Error::new(ErrorKind::Busy, "somebody else changed the header in the meantime")
            .with_hint("try again"));
    }
    make_durable(storage, &copies, base)
}

/// What stands behind the data of a container with this header.
pub(super) fn end_of(new: &HeaderCopy, key: &VolumeKey) -> Result<End> {
    let Geometry { backup_offset, container_len, .. } = new.superblock.geometry;
    let mut bytes = new.for_index(CopyIndex::B, key)?.as_bytes().to_vec();
    let len = container_len.saturating_sub(backup_offset);
    bytes.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
    Ok(End { data_end: backup_offset, bytes })
}

/// NAT-SIZE-01.
pub(super) fn refuse_detached(storage: &dyn Storage) -> Result<()> {
    if storage.windows().is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        "a container whose header lies in a file of its own keeps its size",
    )
    .with_hint(
        "put the header into the container with strongroom header restore, resize it, and detach it again",
    ))
}

/// The mark's size in bytes.
const MARK_LEN: u64 = 64;
/// The work areas by number.
const FRONT: usize = 0;
const TAIL: usize = 1;
