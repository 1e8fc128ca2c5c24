//! A folder of pieces that gets another size: pieces are made before its header files say so, and go afterwards.

use std::{io, sync::Arc};

use super::{Container, Progress, fill::fill_range, grow::check_end, pieces::of_pieces};
use crate::{
    crypto::{rng::Rng, secret::VolumeKey},
    error::{Error, ErrorKind, Result},
    format::{End, Growth, Shrinkage, native},
    mapping::Layout,
    storage::pieces::Pieces,
};

/// Carries out a growth of a container in pieces, which is unlocked. It is to be opened anew then, which ends the rest.
///
/// # Errors
/// `Usage` for more pieces than there can be, `NoSpace`, `Interrupted`; the container has its old size then.
pub fn grow_folder(
    container: &Container,
    key: &VolumeKey,
    growth: &dyn Growth,
    rng: &dyn Rng,
    progress: Progress<'_>,
) -> Result<()> {
    let (storage, old) = (container.storage(), pieces_of(container)?);
    growth.check(&*storage)?;
    old.remove_behind()?;
    if growth.container_len() <= old.geometry().container_len() {
        return Ok(old.settle_last(old.geometry())?);
    }
    let end = growth.end(&*storage)?;
    let larger = of_size(old, &end, key)?;
    let prepared = prepare_pieces(old, &larger, growth, rng, progress);
    if let Err(error) = prepared {
        // No header file knows of them yet. Where this fails too, the same command takes them away.
        drop(old.remove_behind().and_then(|()| old.settle_last(old.geometry())));
        return Err(error);
    }
    larger.put_in_force(old, &end.bytes).map_err(of_pieces)
}

/// Makes what is new of a container that grows: nothing of a thin one, whose pieces are made when they are written.
fn prepare_pieces(
    old: &Pieces,
    larger: &Pieces,
    growth: &dyn Growth,
    rng: &dyn Rng,
    progress: Progress<'_>,
) -> Result<()> {
    larger.settle_last(old.geometry()).map_err(of_pieces)?;
    if growth.to_reserve().is_empty() {
        return Ok(());
    }
    let mut is_interrupted = false;
    let made = larger.make_new(old.geometry(), &mut |_| {
        is_interrupted = progress(0, 1).is_break();
        if is_interrupted { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    });
    if is_interrupted {
        return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
    }
    made.map_err(of_pieces)?;
    if growth.to_fill().is_empty() {
        return Ok(());
    }
    // What was behind the data is not where it was: those bytes are in pieces now, too.
    fill_range(larger, old.geometry().data().end..larger.geometry().data().end, rng, progress)
}

/// Carries out a shrinkage of a container in pieces, which is unlocked. It is to be opened anew then, which ends the rest.
///
/// # Errors
/// As [`shrink`](super::shrink()).
pub fn shrink_folder(
    container: &Container,
    (key, layout): (&VolumeKey, Layout),
    shrinkage: &dyn Shrinkage,
    is_known_free: bool,
) -> Result<()> {
    let (storage, old) = (container.storage(), pieces_of(container)?);
    check_end(&storage, layout, shrinkage, is_known_free)?;
    let end = shrinkage.end(&*storage)?;
    let smaller = of_size(old, &end, key)?;
    smaller.put_in_force(old, &end.bytes).map_err(of_pieces)?;
    smaller.remove_behind()?;
    smaller.settle_last(old.geometry()).map_err(of_pieces)
}

fn pieces_of(container: &Container) -> Result<&Arc<Pieces>> {
    container.pieces().ok_or_else(|| Error::usage("it is no folder of pieces"))
}

fn of_size(old: &Pieces, end: &End, key: &VolumeKey) -> Result<Pieces> {
    let key = native::piece_map_key(key, old.geometry().uuid())?;
    let container_len = end.data_end.saturating_add(u64::try_from(end.bytes.len()).unwrap_or(u64::MAX));
    old.of_size(end.data_end, container_len, key).map_err(of_pieces)?.ok_or_else(|| {
        Error::usage("that is too many pieces").with_hint(
            "a container has at most 1048576 of them: strongroom convert CONTAINER NEW --split SIZE makes larger ones",
        )
    })
}
