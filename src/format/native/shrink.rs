//! A native container that becomes smaller (NAT-SIZE-07).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::sync::Arc;

use super::{
    copy::HeaderCopy,
    layout::{ALIGNMENT, MAGIC, RECORD_MAGIC},
    ledger::{Ledger, WorkAreas},
    resize::{begin, clear_end, end_of, finish, laid_out, refuse_detached},
    slots::slot_offset,
    superblock::{CopyIndex, Geometry},
    wipe::overwrite,
};
use crate::{
    crypto::secret::VolumeKey,
    error::{Error, ErrorKind, Result},
    format::{End, Shrinkage},
    storage::Storage,
    text::exact_size,
};

/// A smaller native container, settled and not written yet.
#[derive(Debug)]
pub(super) struct NativeShrinkage {
    /// Copy A as it is.
    base: HeaderCopy,
    /// The header as it will be.
    new: HeaderCopy,
    key: Arc<VolumeKey>,
}

impl NativeShrinkage {
    /// Makes the header of a container of `new_len` bytes out of `good`, which is authentic under `key`.
    ///
    /// # Errors
    /// `Usage` where that is no smaller size, or one that both places of copy B do not leave room for; `Busy` while a re-encryption
    /// is under way.
    pub(super) fn new(good: &HeaderCopy, key: &Arc<VolumeKey>, new_len: u64) -> Result<Self> {
        let geometry = settle(good, new_len)?;
        let base = good.for_index(CopyIndex::A, key)?;
        let is_done = geometry == base.superblock.geometry;
        let new = if is_done { base.clone() } else { base.resized(&geometry, key)? };
        Ledger::new(&new.superblock, key)?;
        Ok(Self { base, new, key: Arc::clone(key) })
    }

    fn old(&self) -> &Geometry {
        &self.base.superblock.geometry
    }

    fn geometry(&self) -> &Geometry {
        &self.new.superblock.geometry
    }

    /// All but the magic of the new copy B, where the volume needs nothing any more.
    fn prepare_new_end(&self, storage: &dyn Storage) -> Result<()> {
        let new = self.geometry();
        storage.write_all_at(&[0; MAGIC.len()], new.backup_offset)?;
        storage.sync_data()?;
        overwrite(storage, new.backup_offset..new.container_len, None)?;
        storage.sync_data()?;
        self.new.for_index(CopyIndex::B, &self.key)?.write_all_but_magic(storage)
    }

    /// Takes the old copy B away, its magic first: what is cut off stays on the medium that the file lies on.
    fn clear_old_end(&self, storage: &dyn Storage) -> Result<()> {
        let Geometry { backup_offset, container_len, .. } = *self.old();
        storage.write_all_at(&[0; MAGIC.len()], backup_offset)?;
        // A torn record would pass for one under another key (NAT-UPD-11), as long as copy A names this place.
        if let Some([_, tail]) = WorkAreas::of(self.old()).map(|areas| areas.starts) {
            for slot in [0, 1] {
                storage.write_all_at(&[0; RECORD_MAGIC.len()], tail.saturating_add(slot_offset(slot)))?;
            }
        }
        storage.sync_data()?;
        clear_end(storage, backup_offset..container_len, self.new.superblock.provision)
    }
}

impl Shrinkage for NativeShrinkage {
    fn container_len(&self) -> u64 {
        self.geometry().container_len
    }

    fn data_len(&self) -> u64 {
        self.geometry().data_len
    }

    fn end(&self, storage: &dyn Storage) -> Result<End> {
        begin(storage, &self.base)?;
        end_of(&self.new, &self.key)
    }

    fn commit(&self, storage: &dyn Storage) -> Result<()> {
        refuse_detached(storage)?;
        begin(storage, &self.base)?;
        let is_done = self.old() == self.geometry();
        if !is_done {
            self.prepare_new_end(storage)?;
            self.clear_old_end(storage)?;
        }
        storage.set_size(self.container_len())?;
        storage.sync_data()?;
        if is_done {
            return Ok(());
        }
        self.new.for_index(CopyIndex::B, &self.key)?.write(storage)?;
        finish(storage, &self.base, &self.new, &self.key)?;
        self.new.write(storage)
    }
}

/// The places in a container of `new_len` bytes.
fn settle(good: &HeaderCopy, new_len: u64) -> Result<Geometry> {
    let old = &good.superblock.geometry;
    let container_len = new_len.saturating_sub(new_len.checked_rem(ALIGNMENT).unwrap_or(0));
    if container_len == old.container_len {
        return Ok(*old);
    }
    let tail_len = old.container_len.saturating_sub(old.backup_offset);
    let least = old.data_offset.saturating_add(ALIGNMENT).saturating_add(tail_len);
    if container_len < least || container_len.saturating_add(tail_len) > old.container_len {
        let (now, tail_len, least) = (exact_size(old.container_len), exact_size(tail_len), exact_size(least));
        let reason = format!("it has {now}, and becomes smaller by at least {tail_len}, down to {least}");
        return Err(Error::new(ErrorKind::Usage, reason));
    }
    laid_out(&good.superblock, container_len)
}
