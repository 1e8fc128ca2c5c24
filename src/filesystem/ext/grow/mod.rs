//! Volumes that become larger, also while they are mounted: the last group is filled up, and new ones follow.
//!
//! What new groups have of their own is written behind the end of the volume, and flushed, before anything tells of it. One
//! transaction then extends the last group and has the descriptors and the superblock tell of the new ones. The copies of these come
//! last: until then they tell of the volume as it was. Growth by many groups goes in steps, each of which is a whole one.

mod extend;
mod plan;

use std::sync::{MutexGuard, PoisonError, atomic::Ordering};

use self::plan::Growth;
use super::{
    super::{Fault, Result, Ungrown},
    ExtFileSystem,
    make::Unmade,
};

impl From<Unmade> for Ungrown {
    fn from(unmade: Unmade) -> Self {
        match unmade {
            Unmade::Interrupted => Self::Interrupted,
            Unmade::Fault(fault) => Self::Fault(fault),
        }
    }
}

impl ExtFileSystem {
    /// Makes the volume as large as its device. Others go on meanwhile.
    pub(super) fn grow_to_device(&self, stop: &dyn Fn() -> bool) -> Result<(), Ungrown> {
        if self.read_only {
            return Err(Fault::ReadOnly.into());
        }
        while self.grow_by_a_step(&|| stop() || self.is_closing.load(Ordering::Relaxed))? {}
        let _alone = self.growing();
        let volume = self.reading()?;
        if !self.is_closing.load(Ordering::Relaxed) && !volume.has_right_copies()? {
            volume.put_copies()?;
        }
        Ok(())
    }

    /// Whether there was anything to gain.
    fn grow_by_a_step(&self, stop: &dyn Fn() -> bool) -> Result<bool, Ungrown> {
        let _alone = self.growing();
        let volume = self.reading()?;
        let Some(mut growth) = Growth::next(&volume.superblock, self.medium.size(), volume.room)? else {
            return Ok(false);
        };
        drop(volume);
        growth.write_groups(&self.medium, stop)?;
        if stop() {
            return Err(Ungrown::Interrupted);
        }
        self.change(|volume| {
            volume.extend(&growth)?;
            // The kernel counts groups before it replays a journal, so that must not tell of more for long.
            volume.commit()?;
            volume.checkpoint(false)
        })?;
        let overhead = self.reading()?.overhead();
        self.overhead.store(overhead, Ordering::Relaxed);
        Ok(true)
    }

    /// Whether it can become as large as a device of `len` bytes.
    ///
    /// # Errors
    /// As [`grow`](super::super::FileSystem::grow).
    pub fn check_growth(&self, len: u64) -> Result<(), Ungrown> {
        let volume = self.reading()?;
        Growth::next(&volume.superblock, len, volume.room).map(drop)
    }

    /// Nobody makes it larger while this is held.
    pub(super) fn growing(&self) -> MutexGuard<'_, ()> {
        self.growing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
