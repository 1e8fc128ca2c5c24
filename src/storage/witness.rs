//! What a file held where its headers lie: whoever writes there without a word to the kernel's watchers (asynchronous I/O, a loop
//! device) is found out by it.

use std::{
    collections::hash_map::RandomState,
    fs::File,
    hash::BuildHasher,
    io,
    num::NonZeroU64,
    ops::Range,
    os::unix::fs::{FileExt, FileTypeExt},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::fs::{Advice, fadvise};

/// The areas that are watched, and what was there when this process last read or wrote them.
#[derive(Debug)]
pub(super) struct Witness {
    blocks: Vec<Range<u64>>,
    hasher: RandomState,
    /// None before the first look.
    digests: Mutex<Option<Vec<u64>>>,
}

impl Witness {
    /// Watches `areas`. What stands there at the first look is taken for right: nobody waits for that here, as a medium may be slow.
    pub(super) fn of(areas: &[Range<u64>]) -> Self {
        let blocks = areas.iter().cloned().flat_map(in_blocks).collect();
        Self { blocks, hasher: RandomState::new(), digests: Mutex::default() }
    }

    /// Runs `change`, by which this process changes bytes of `range`, and takes what stands there then for right.
    pub(super) fn during<T>(&self, file: &File, range: &Range<u64>, change: impl FnOnce() -> T) -> T {
        let is_touched = |block: &Range<u64>| block.start < range.end && range.start < block.end;
        if !self.blocks.iter().any(is_touched) {
            return change();
        }
        let mut digests = self.locked();
        let changed = change();
        let Ok(is_device) = is_device(file) else { return changed };
        for (block, known) in self.blocks.iter().zip(digests.iter_mut().flatten()) {
            if is_touched(block)
                && let Ok(found) = self.digest((file, is_device), block)
            {
                *known = found;
            }
        }
        changed
    }

    /// Takes what stands there now for right: somebody was allowed to change it.
    pub(super) fn renew(&self, file: &File) -> io::Result<()> {
        let mut digests = self.locked();
        *digests = Some(self.seen(file)?);
        Ok(())
    }

    /// What stands there now, to be taken for right once somebody has looked at it.
    pub(super) fn seen(&self, file: &File) -> io::Result<Vec<u64>> {
        let is_device = is_device(file)?;
        self.blocks.iter().map(|block| self.digest((file, is_device), block)).collect()
    }

    /// Takes what was `seen` for right. What was changed since is a change.
    pub(super) fn take(&self, seen: Vec<u64>) {
        *self.locked() = Some(seen);
    }

    /// Whether something else stands there now. Never at the first look.
    ///
    /// # Errors
    /// What reading gave. A file that was cut off has changed; a device may get its length back.
    pub(super) fn has_changed(&self, file: &File) -> io::Result<bool> {
        let digests = self.locked();
        let Some(known) = &*digests else {
            drop(digests);
            return self.renew(file).map(|()| false);
        };
        let is_device = is_device(file)?;
        for (block, known) in self.blocks.iter().zip(known) {
            match self.digest((file, is_device), block) {
                Ok(found) if found == *known => {}
                Err(error) if is_device && error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
                Ok(_) | Err(_) => return Ok(true),
            }
        }
        Ok(false)
    }

    fn digest(&self, (file, is_device): (&File, bool), block: &Range<u64>) -> io::Result<u64> {
        let len = block.end - block.start;
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        if is_device {
            // Behind a loop device the file may have changed. What cannot be forgotten is what it was.
            let _ = fadvise(file, block.start, NonZeroU64::new(len), Advice::DontNeed);
        }
        file.read_exact_at(&mut bytes, block.start)?;
        Ok(self.hasher.hash_one(&bytes))
    }

    fn locked(&self) -> MutexGuard<'_, Option<Vec<u64>>> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_blocks(area: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let starts = area.clone().step_by(BLOCK);
    starts.map(move |start| start..area.end.min(start.saturating_add(BLOCK as u64)))
}

fn is_device(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.file_type().is_block_device())
}

/// So much is read at a time.
const BLOCK: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![7; 300_000], 0).unwrap();
        file
    }

    #[test]
    fn what_others_write_to_an_area_is_a_change_and_elsewhere_it_is_none() {
        let file = file();
        let witness = Witness::of(&[0..100_000, 250_000..300_000]);
        assert!(!witness.has_changed(&file).unwrap());
        file.write_all_at(&[8; 1000], 150_000).unwrap();
        assert!(!witness.has_changed(&file).unwrap());
        for place in [0, 99_999, 250_000, 299_999] {
            file.write_all_at(&[8], place).unwrap();
            assert!(witness.has_changed(&file).unwrap(), "{place}");
            witness.renew(&file).unwrap();
            assert!(!witness.has_changed(&file).unwrap(), "{place}");
        }
        file.set_len(280_000).unwrap();
        assert!(witness.has_changed(&file).unwrap());
    }

    #[test]
    fn what_is_changed_after_it_was_seen_is_a_change() {
        let file = file();
        let witness = Witness::of(std::slice::from_ref(&(0..100_000)));
        witness.renew(&file).unwrap();
        file.write_all_at(&[8], 5).unwrap();
        let seen = witness.seen(&file).unwrap();
        witness.take(seen.clone());
        assert!(!witness.has_changed(&file).unwrap());
        file.write_all_at(&[9], 5).unwrap();
        witness.take(seen);
        assert!(witness.has_changed(&file).unwrap());
    }

    #[test]
    fn what_this_process_writes_is_none() {
        let file = file();
        let witness = Witness::of(std::slice::from_ref(&(0..100_000)));
        witness.renew(&file).unwrap();
        witness.during(&file, &(65_530..65_540), || file.write_all_at(&[9; 10], 65_530)).unwrap();
        assert!(!witness.has_changed(&file).unwrap());
        file.write_all_at(&[10], 65_535).unwrap();
        assert!(witness.has_changed(&file).unwrap());
    }
}
