//! Making a container larger.

use std::sync::Arc;

use super::{
    Container, Progress, device,
    fill::{fill_empty, fill_range, set_aside_behind_end},
    free_space::{Condition, condition, extent},
};
use crate::{
    block::{BlockDevice, LiveDevice},
    crypto::rng::Rng,
    error::{Error, ErrorKind, Result},
    format::{Format, Growth, Header, Shrinkage, Unlocked, native::Native},
    mapping::Layout,
    storage::Storage,
    text::exact_size,
    units::Sector,
};

/// Whether a container can become larger, on a medium that has the room.
pub fn can_grow(container: &Container, header: &dyn Header, unlocked: &Unlocked) -> bool {
    let is_apart = container.header_file().is_some() && header.describe().format == Native.name();
    !is_apart && container.section().is_none() && header.can_grow(unlocked)
}

/// Carries out a growth: new space first, filled with random bytes, then what tells of it.
///
/// # Errors
/// `Unsupported` on a block device that is too small, `NoSpace`, `Interrupted`; the container has its old size then.
pub fn grow(container: &Container, growth: &dyn Growth, rng: &dyn Rng, progress: Progress<'_>) -> Result<()> {
    let storage = container.storage();
    let old_len = storage.size()?;
    let can_resize = storage.limits().can_resize;
    if !can_resize && growth.container_len() > old_len {
        let what =
            if container.section().is_some() { "a part of a file or device" } else { "a block device" };
        return Err(Error::new(ErrorKind::Unsupported, format!("{what} is as large as it is")).with_hint(
            "enlarge the partition first (max takes all of it), or copy the files into a container on a larger device",
        ));
    }
    growth.check(&*storage)?;
    let set_aside = || if can_resize { set_aside_behind_end(container, growth.to_reserve()) } else { Ok(()) };
    let prepared = set_aside().and_then(|()| prepare_growth(&*storage, growth, rng, progress));
    if let Err(error) = prepared {
        // No header knows of it yet. Where this fails too, the rest is in nobody's way.
        if can_resize {
            drop(storage.set_size(old_len).and_then(|()| storage.sync_data()));
        }
        return Err(error);
    }
    growth.commit(&*storage)
}

/// Carries out a shrinkage, where the file system inside ends before what goes.
///
/// # Errors
/// `Unsupported` on a block device; `Busy` where the file system inside, by its own account, needs what would be cut off, or nothing
/// known is inside and `is_known_free` is false.
pub fn shrink(
    container: &Container,
    layout: Layout,
    shrinkage: &dyn Shrinkage,
    is_known_free: bool,
) -> Result<()> {
    let storage = container.storage();
    if !storage.limits().can_resize {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "a block device, or what is read-only, keeps its size",
        ));
    }
    check_end(&storage, layout, shrinkage, is_known_free)?;
    shrinkage.commit(&*storage)
}

/// Refuses to cut off what the file system inside needs.
///
/// # Errors
/// As [`shrink`].
pub(super) fn check_end(
    storage: &Arc<dyn Storage>,
    layout: Layout,
    shrinkage: &dyn Shrinkage,
    is_known_free: bool,
) -> Result<()> {
    let (len, container_len) = (shrinkage.data_len(), shrinkage.container_len());
    let volume = device(Arc::clone(storage), layout);
    if !is_known_free && matches!(condition(&*volume), Ok(Some((_, Condition::Journal)))) {
        // It may have grown.
        let reason =
            "its file system was not unmounted cleanly, and how much it takes may stand in its journal";
        return Err(Error::new(ErrorKind::Busy, reason).with_hint("mount it once, and unmount it"));
    }
    match extent(&*volume)? {
        Some(found) if found.len > len => {
            let least = container_len.saturating_sub(len).saturating_add(found.len);
            let name = found.file_system.name();
            let reason = format!(
                "the {name} in it takes {}, so the container can have {} at least",
                exact_size(found.len),
                exact_size(least)
            );
            return Err(Error::new(ErrorKind::Busy, reason).with_hint(
                "make the file system smaller first, with a backup at hand: of ext4, mount --block, then e2fsck -f and resize2fs \
                 DIR/volume SIZE",
            ));
        }
        None if !is_known_free => {
            let reason = "nothing in it tells how much of it is in use";
            return Err(Error::new(ErrorKind::Busy, reason)
                .with_hint("--container-only cuts it all the same: what is behind the new end is lost"));
        }
        _ => {}
    }
    Ok(())
}

/// A volume that is served, and can become larger meanwhile.
#[derive(Debug, Clone)]
pub struct LiveVolume {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) device: Arc<LiveDevice>,
    /// Where it begins in the container, in bytes, and with which tweak.
    pub(super) start: Option<(u64, Sector)>,
}

impl LiveVolume {
    /// Shows the volume as it lies in its container now that this has grown: whoever uses it goes on, and finds more behind the
    /// end. Gives its size in bytes.
    ///
    /// # Errors
    /// `Unsupported` where it is smaller than before, or another one.
    pub fn grow(&self, layout: Layout) -> Result<u64> {
        // VC-GROW-06: an outer and a hidden volume are in one container.
        if layout.start() != self.start {
            return Err(Error::new(ErrorKind::Unsupported, "another volume of the container is mounted"));
        }
        self.device
            .grow(device(Arc::clone(&self.storage), layout))
            .map_err(|error| Error::new(ErrorKind::Unsupported, error.to_string()))?;
        Ok(self.device.geometry().bytes())
    }
}

/// As the first part of [`grow`], on any storage; sets no space aside.
///
/// A stop half-way leaves a container that the same growth makes whole, begun anew: either its header knows of none of the new
/// bytes, or none of them is there that is not filled.
///
/// # Errors
/// `Interrupted`; what writing gave.
pub fn prepare_growth(
    storage: &dyn Storage,
    growth: &dyn Growth,
    rng: &dyn Rng,
    progress: Progress<'_>,
) -> Result<()> {
    if let Some(unsure) = growth.unsure() {
        // What a power cut left out: pages reach the medium in any order.
        fill_empty(storage, unsure, rng)?;
    } else {
        if storage.limits().can_resize {
            storage.set_size(growth.container_len())?;
            storage.sync_data()?;
        }
        growth.mark(storage)?;
    }
    fill_range(storage, growth.to_fill(), rng, progress)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::{crypto::rng::OsRng, format::OpenEnd, storage::MemoryStorage, volume::find_empty};

    const DATA_OFFSET: u64 = 4096;

    /// Grows to `new_len` bytes, up to a stop after `most` new bytes: as a kill leaves it.
    fn grow_in(storage: &MemoryStorage, new_len: u64, most: u64) -> Result<()> {
        let growth = OpenEnd::new(storage.size()?, new_len, DATA_OFFSET, 512)?;
        let mut progress =
            |done, _| if done < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
        prepare_growth(storage, &growth, &OsRng, &mut progress)?;
        growth.commit(storage)
    }

    fn empty(storage: &MemoryStorage) -> Option<u64> {
        let range = DATA_OFFSET..storage.size().unwrap();
        find_empty(storage, range, &mut |_, _| ControlFlow::Continue(())).unwrap()
    }

    #[test]
    fn a_growth_that_no_header_knows_of_goes_on_where_it_was_stopped() {
        let storage = MemoryStorage::new(vec![7; 3 << 20]);
        let stopped = grow_in(&storage, 9 << 20, 2 << 20).unwrap_err();
        assert_eq!(stopped.kind(), ErrorKind::Interrupted);
        assert_eq!((storage.size().unwrap(), empty(&storage)), (5 << 20, None));
        for _ in 0..2 {
            grow_in(&storage, 9 << 20, u64::MAX).unwrap();
            assert_eq!((storage.size().unwrap(), empty(&storage)), (9 << 20, None));
        }
        assert!(storage.to_vec()[..3 << 20].iter().all(|&byte| byte == 7));
        assert_eq!(grow_in(&storage, 8 << 20, u64::MAX).unwrap_err().kind(), ErrorKind::Usage);
    }

    #[test]
    fn what_a_power_cut_left_out_is_filled_and_nothing_before_the_data() {
        let storage = MemoryStorage::new(vec![7; 3 << 20]);
        storage.write_all_at(&[0; 512], 0).unwrap();
        storage.write_all_at(&[0; 1024], (2 << 20) + 512).unwrap();
        grow_in(&storage, 4 << 20, u64::MAX).unwrap();
        assert_eq!(empty(&storage), None);
        let bytes = storage.to_vec();
        assert!(bytes[..512].iter().all(|&byte| byte == 0));
        assert!(bytes[512..(2 << 20) + 512].iter().all(|&byte| byte == 7));
        assert!(bytes[(2 << 20) + 1536..3 << 20].iter().all(|&byte| byte == 7));
    }
}
