//! Zeros, or random bytes, over what a container does not need any more.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::ops::Range;

use crate::{crypto::rng::Rng, error::Result, storage::Storage};

/// Makes `range` zeros: by a hole where there are holes, as most of it is empty already.
///
/// # Errors
/// What writing gave.
pub(super) fn clear(storage: &dyn Storage, range: Range<u64>) -> Result<()> {
    if range.is_empty() || (storage.limits().can_punch && storage.punch_hole(range.clone()).is_ok()) {
        return Ok(());
    }
    overwrite(storage, range, None)
}

/// Overwrites `range` with random bytes, or with zeros.
///
/// # Errors
/// What writing gave, or the source of random bytes.
pub(super) fn overwrite(storage: &dyn Storage, range: Range<u64>, rng: Option<&dyn Rng>) -> Result<()> {
    let mut bytes = vec![0; AT_ONCE];
    let mut at = range.start;
    while at < range.end {
        let len = usize::try_from(range.end.saturating_sub(at)).map_or(AT_ONCE, |left| left.min(AT_ONCE));
        let piece = bytes.get_mut(..len).unwrap_or_default();
        if let Some(rng) = rng {
            rng.fill(piece)?;
        }
        storage.write_all_at(piece, at)?;
        at = at.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
    }
    Ok(())
}

/// Bytes.
const AT_ONCE: usize = 1 << 20;
