//! Changing a header that is in use (NAT-UPD-03).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::{copies::Copies, copy::HeaderCopy, resize::finish_begun, superblock::CopyIndex};
use crate::{
    crypto::secret::VolumeKey,
    error::{Error, ErrorKind, Result},
    storage::Storage,
};

/// Replaces the header `base`, as it was read, by `new` in both copies. `base_key` and `key` are their volume keys.
///
/// At every moment one whole copy is on the medium: `base` itself is touched only after the other copy was written, synced
/// and read back. Copy A is only ever written as what copy B says already, so that no power cut leaves a newer one in pieces
/// beside an older copy B (NAT-UPD-03).
///
/// # Errors
/// `Busy` where the medium no longer holds `base`, `Exists` where a copy is another container's; nothing was written then.
/// What writing gave: the error says whether the change is in force.
pub(super) fn write_update(
    storage: &dyn Storage,
    base: &HeaderCopy,
    base_key: &VolumeKey,
    new: &HeaderCopy,
    key: &VolumeKey,
) -> Result<()> {
    let copies = Copies::read(storage)?;
    check_still_there(&copies, base)?;
    make_durable(storage, &copies, base)?;
    bring_up_a(storage, Some(&copies), base, base_key)?;
    write_both(storage, new, key)
}

/// Makes copy A what `base` says, where that is copy B: it is in use only where copy A is not as good. `copies` are what is there,
/// where any is whole.
///
/// # Errors
/// What writing gave; `base` is as it was.
pub(super) fn bring_up_a(
    storage: &dyn Storage,
    copies: Option<&Copies>,
    base: &HeaderCopy,
    key: &VolumeKey,
) -> Result<()> {
    if base.superblock.index == CopyIndex::A {
        return Ok(());
    }
    let finished = copies.map_or(Ok(()), |copies| finish_begun(storage, &copies.a.found, base, key));
    finished.and_then(|()| base.for_index(CopyIndex::A, key)?.write(storage)).map_err(|error| {
        let reason = format!("header copy A cannot be written: {}", error.reason());
        Error::new(error.kind(), reason).with_hint("copy B is as it was; nothing was changed")
    })
}

/// Writes both copies of `new`, copy B before copy A is touched.
///
/// # Errors
/// What writing gave: the error says whether the new header is in force.
pub(super) fn write_both(storage: &dyn Storage, new: &HeaderCopy, key: &VolumeKey) -> Result<()> {
    let (first, second) = (CopyIndex::B, CopyIndex::A);
    new.for_index(first, key)?.write(storage).map_err(|error| {
        let reason = format!("header copy {first} cannot be written: {}", error.reason());
        Error::new(error.kind(), reason)
            .with_hint("the old keyslots are still there, and the new ones too if the medium kept the write")
    })?;
    new.for_index(second, key)?.write(storage).map_err(|error| {
        let reason =
            format!("the change is in force, but header copy {second} is not renewed: {}", error.reason());
        Error::new(error.kind(), reason)
            .with_hint("what you removed may still be there: do it again once the medium works")
    })
}

/// NAT-UPD-07: makes sure that the copy in use is on the medium before the other is touched.
///
/// What was read may be in a cache only: its writer was killed before the sync, or was told that the sync failed. In the
/// latter case only writing it again helps, which is done where another whole copy stands by.
pub(super) fn make_durable(storage: &dyn Storage, copies: &Copies, in_use: &HeaderCopy) -> Result<()> {
    let stands_by = |copy: &HeaderCopy| copy.offset() != in_use.offset() && copy.is_of_same_container(in_use);
    if copies.whole().any(stands_by) { in_use.write(storage) } else { Ok(storage.sync_data()?) }
}

/// NAT-UPD-06: nobody wrote a header since `base` was read, and no place holds what is not ours.
fn check_still_there(copies: &Copies, base: &HeaderCopy) -> Result<()> {
    let is_there = copies.whole().any(|copy| copy.as_bytes() == base.as_bytes());
    let is_newer_there =
        copies.whole().any(|copy| copy.is_update_of(base)) || copies.damaged_other(base).is_some();
    if !is_there || is_newer_there || copies.unsupported().is_some() {
        return Err(Error::new(ErrorKind::Busy, "somebody else changed the header in the meantime")
            .with_hint("try again"));
    }
    // A copy with another uuid may be the last header of another container: it is nobody's to overwrite in passing.
    for (place, index) in [(&copies.a, CopyIndex::A), (&copies.b, CopyIndex::B)] {
        if place.found.as_ref().is_ok_and(|copy| !copy.is_of_same_container(base)) {
            let reason = format!("header copy {index} belongs to another container");
            return Err(Error::new(ErrorKind::Exists, reason)
                .with_hint("strongroom header repair puts this container's own header there, after asking"));
        }
    }
    Ok(())
}
