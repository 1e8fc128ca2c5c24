//! Changing a header that is in use (NAT-UPD-03).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::{copies::Copies, copy::HeaderCopy, superblock::CopyIndex};
use crate::{
    crypto::secret::VolumeKey,
    error::{Error, ErrorKind, Result},
    storage::Storage,
};

/// Replaces the header `base` by `new` in both copies. `key` is the volume key of `new`.
///
/// At every moment one whole copy is on the medium: the one in use is touched only after the other was written, synced
/// and read back.
///
/// # Errors
/// `Busy` where the medium no longer holds `base`. What writing gave: the error says whether the change is in force.
pub(super) fn write_update(
    storage: &dyn Storage,
    base: &HeaderCopy,
    new: &HeaderCopy,
    key: &VolumeKey,
) -> Result<()> {
    let copies = Copies::read(storage)?;
    if !copies.current().says_the_same_as(base) {
        return Err(Error::new(ErrorKind::Busy, "the header was changed meanwhile by somebody else")
            .with_hint("try again"));
    }
    refuse_foreign_copy(&copies, base)?;
    let a_is_good = copies.a.found.as_ref().is_ok_and(|copy| copy.says_the_same_as(base));
    let (first, second) = if a_is_good { (CopyIndex::B, CopyIndex::A) } else { (CopyIndex::A, CopyIndex::B) };
    new.for_index(first, key)?.write(storage)?;
    new.for_index(second, key)?.write(storage).map_err(|error| {
        let reason =
            format!("the change is in force, but header copy {second} is not renewed: {}", error.reason());
        Error::new(error.kind(), reason)
            .with_hint("what was to be taken away may still be there: repeat it when the medium works")
    })
}

/// A copy with another uuid may be the last header of another container: it is nobody's to overwrite in passing.
fn refuse_foreign_copy(copies: &Copies, base: &HeaderCopy) -> Result<()> {
    for (place, index) in [(&copies.a, CopyIndex::A), (&copies.b, CopyIndex::B)] {
        if place.found.as_ref().is_ok_and(|copy| !copy.is_of_same_container(base)) {
            let reason = format!("header copy {index} belongs to another container");
            return Err(Error::new(ErrorKind::Exists, reason)
                .with_hint("strongroom header repair puts this container's own header there, after asking"));
        }
    }
    Ok(())
}
