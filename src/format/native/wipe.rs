//! Zeros, or random bytes, over what a container does not need any more.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::ops::Range;

use crate::{
    crypto::rng::Rng,
    error::Result,
    storage::{CHUNK_LEN, Storage, chunks, write_zeros},
};

/// Makes `range` zeros: by a hole where there are holes, as most of it is empty already.
///
/// # Errors
/// What writing gave.
pub(super) fn clear(storage: &dyn Storage, range: Range<u64>) -> Result<()> {
    if range.is_empty() || (storage.limits().can_punch && storage.punch_hole(range.clone()).is_ok()) {
        return Ok(());
    }
    Ok(write_zeros(storage, range)?)
}

/// Overwrites `range` with random bytes, or with zeros.
///
/// # Errors
/// What writing gave, or the source of random bytes.
pub(super) fn overwrite(storage: &dyn Storage, range: Range<u64>, rng: Option<&dyn Rng>) -> Result<()> {
    let Some(rng) = rng else { return Ok(write_zeros(storage, range)?) };
    let mut bytes = vec![0; CHUNK_LEN];
    for (offset, len) in chunks(range) {
        let chunk = bytes.get_mut(..len).unwrap_or_default();
        rng.fill(chunk)?;
        storage.write_all_at(chunk, offset)?;
    }
    Ok(())
}
