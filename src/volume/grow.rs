//! Making a container larger.

use super::{
    Container, Progress,
    fill::{fill_range, set_aside},
};
use crate::{
    crypto::rng::Rng,
    error::{Error, ErrorKind, Result},
    format::Growth,
    storage::Storage,
};

/// Carries out a growth: new space first, filled with random bytes, then what tells of it.
///
/// # Errors
/// `Unsupported` on a block device, `NoSpace`, `Interrupted`; the container has its old size then.
pub fn grow(container: &Container, growth: &dyn Growth, rng: &dyn Rng, progress: Progress<'_>) -> Result<()> {
    let storage = container.storage();
    let old_len = storage.size()?;
    if !storage.limits().can_resize {
        return Err(Error::new(ErrorKind::Unsupported, "a block device, or what is read-only, cannot grow")
            .with_hint("copy the files into a container on the larger device"));
    }
    let prepared = set_aside(container, growth.to_fill())
        .and_then(|()| prepare_growth(&*storage, growth, rng, progress));
    if let Err(error) = prepared {
        // No header knows of it yet. Where this fails too, the rest is in nobody's way.
        drop(storage.set_size(old_len).and_then(|()| storage.sync_data()));
        return Err(error);
    }
    growth.commit(&*storage)
}

/// As the first part of [`grow`], on any storage; sets no space aside.
///
/// # Errors
/// `Interrupted`; what writing gave.
pub fn prepare_growth(
    storage: &dyn Storage,
    growth: &dyn Growth,
    rng: &dyn Rng,
    progress: Progress<'_>,
) -> Result<()> {
    storage.set_size(growth.container_len())?;
    storage.sync_data()?;
    fill_range(storage, growth.to_fill(), rng, progress)
}
