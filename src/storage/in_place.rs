//! Reading a container's bytes where the kernel caches them.

use std::{
    array,
    fs::File,
    io, mem,
    ops::Range,
    os::unix::fs::{FileTypeExt, MetadataExt},
    sync::{
        OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::fs::{fstat, fstatfs};

use crate::sys::mapped_file::MappedFile;

/// Mappings of the parts of a file that are read again and again.
///
/// What is read for the first time is to be copied: the kernel then reads ahead as for any file, and a failing medium is an
/// error. Pieces that were read whole once are read in place from then on. The file is mapped window by window, and the
/// oldest window goes where there are too many: so page tables stay small, whatever the size of the file.
#[derive(Debug)]
pub(super) struct InPlace {
    is_block_device: bool,
    windows: RwLock<Windows>,
}

#[derive(Debug, Default)]
struct Windows {
    open: Vec<Window>,
    /// The place of the one that was opened first.
    oldest: usize,
}

impl InPlace {
    /// For a file on which mappings are as good as copies; `None` for others, such as those on network file systems.
    pub(super) fn of(file: &File) -> io::Result<Option<Self>> {
        let metadata = file.metadata()?;
        let is_block_device = metadata.file_type().is_block_device();
        let is_good = is_block_device
            || match u64::try_from(fstatfs(file)?.f_type) {
                Ok(EXT4 | XFS | BTRFS | F2FS) => true,
                // A hole takes up memory for good once it was read through a mapping.
                Ok(TMPFS) => metadata.blocks().saturating_mul(512) >= metadata.size(),
                _ => false,
            };
        Ok(is_good.then(|| Self { is_block_device, windows: RwLock::default() }))
    }

    /// Shows the bytes of `range` to `work` where they lie. `false` where they must be copied; what `work` may have seen is
    /// worthless then.
    pub(super) fn read(&self, file: &File, range: Range<u64>, work: &mut dyn FnMut(&[u8])) -> bool {
        let index = range.start / WINDOW;
        if range.is_empty() || (range.end - 1) / WINDOW != index {
            return false;
        }
        let within = range.start % WINDOW..range.end - index * WINDOW;
        let windows = self.windows.read().unwrap_or_else(PoisonError::into_inner);
        let Some(window) = windows.open.iter().find(|window| window.index == index) else {
            drop(windows);
            self.open(index, &within);
            return false;
        };
        if !window.was_read(&within) {
            window.note(&within);
            return false;
        }
        let (Ok(start), Ok(end)) = (usize::try_from(within.start), usize::try_from(within.end)) else {
            return false;
        };
        let Some(mapping) = window.mapping(file) else { return false };
        // A file that was cut off within a page reads as zeros from there on, without a fault. Its size is asked for only where
        // it looks so: asking each time is a tenth of the work of reading 4 KiB.
        let is_whole = || self.is_block_device || reaches(file, range.end);
        mapping.read(start..end, work) && (!mapping.ends_in_zeros(end) || is_whole())
    }

    /// Begins to note what is read in this window, where a whole piece is.
    fn open(&self, index: u64, within: &Range<u64>) {
        if whole_pieces(within).is_empty() {
            return;
        }
        let window = Window::new(index);
        window.note(within);
        let mut windows = self.windows.write().unwrap_or_else(PoisonError::into_inner);
        let Windows { open, oldest } = &mut *windows;
        if open.iter().any(|window| window.index == index) {
            return;
        }
        if open.len() < MAX_WINDOWS {
            open.push(window);
            return;
        }
        let place = *oldest;
        *oldest = (place + 1) % MAX_WINDOWS;
        let closed = open.get_mut(place).map(|old| mem::replace(old, window));
        drop(windows);
        // Unmapping takes its time, which the readers of other windows need not wait.
        drop(closed);
    }
}

/// A part of the file, what was read of it, and its mapping.
#[derive(Debug)]
struct Window {
    index: u64,
    /// A bit for each piece.
    read: Box<[AtomicU64; WORDS]>,
    /// Made when something is read again; `None` where that failed.
    mapping: OnceLock<Option<MappedFile>>,
}

impl Window {
    fn new(index: u64) -> Self {
        Self { index, read: Box::new(array::from_fn(|_| AtomicU64::new(0))), mapping: OnceLock::new() }
    }

    /// Notes that the pieces that lie within are read.
    fn note(&self, within: &Range<u64>) {
        for piece in whole_pieces(within) {
            if let Some(word) = self.word(piece) {
                word.fetch_or(1 << (piece % 64), Ordering::Relaxed);
            }
        }
    }

    /// Whether all pieces that are touched were read.
    fn was_read(&self, within: &Range<u64>) -> bool {
        (within.start / PIECE..within.end.div_ceil(PIECE)).all(|piece| {
            self.word(piece).is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (piece % 64)) != 0)
        })
    }

    fn word(&self, piece: u64) -> Option<&AtomicU64> {
        self.read.get(usize::try_from(piece / 64).ok()?)
    }

    fn mapping(&self, file: &File) -> Option<&MappedFile> {
        let map = || MappedFile::new(file, self.index * WINDOW, usize::try_from(WINDOW).ok()?).ok();
        self.mapping.get_or_init(map).as_ref()
    }
}

/// The numbers of the pieces that lie within.
fn whole_pieces(within: &Range<u64>) -> Range<u64> {
    within.start.div_ceil(PIECE)..within.end / PIECE
}

fn reaches(file: &File, end: u64) -> bool {
    fstat(file).is_ok_and(|found| u64::try_from(found.st_size).is_ok_and(|size| size >= end))
}

/// Small enough for page tables of 2 MiB each, large enough that a whole container is often one.
const WINDOW: u64 = 1 << 30;
const MAX_WINDOWS: usize = 8;
/// Large requests are made of these, and programs that read 4 KiB here and there leave none.
const PIECE: u64 = 64 << 10;
const WORDS: usize = 256;
const _: () = assert!(WINDOW / PIECE == 64 * WORDS as u64, "a bit for each piece");

// linux/magic.h
const EXT4: u64 = 0xEF53;
const XFS: u64 = 0x5846_5342;
const BTRFS: u64 = 0x9123_683E;
const F2FS: u64 = 0xF2F5_2010;
const TMPFS: u64 = 0x0102_1994;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn in_place() -> InPlace {
        InPlace { is_block_device: false, windows: RwLock::default() }
    }

    fn read(in_place: &InPlace, file: &File, range: Range<u64>) -> Option<Vec<u8>> {
        let mut seen = Vec::new();
        in_place.read(file, range, &mut |bytes| seen = bytes.to_vec()).then_some(seen)
    }

    fn file_of(pieces: u8) -> File {
        let file = tempfile::tempfile().unwrap();
        for piece in 0..pieces {
            file.write_all_at(&vec![piece; 64 << 10], u64::from(piece) * PIECE).unwrap();
        }
        file
    }

    #[test]
    fn what_was_read_whole_is_read_in_place_the_next_time() {
        let (file, in_place) = (file_of(4), in_place());
        assert_eq!(read(&in_place, &file, 0..2 * PIECE), None);
        assert_eq!(read(&in_place, &file, PIECE - 1..PIECE + 1), Some(vec![0, 1]));
        assert_eq!(read(&in_place, &file, 2 * PIECE - 1..2 * PIECE + 1), None, "a part was never read");
        assert_eq!(read(&in_place, &file, 2 * PIECE..3 * PIECE - 1), None);
        assert_eq!(read(&in_place, &file, 2 * PIECE..3 * PIECE - 1), None, "never whole");
    }

    #[test]
    fn what_is_written_is_seen() {
        let (file, in_place) = (file_of(1), in_place());
        assert_eq!(read(&in_place, &file, 0..PIECE), None);
        assert!(read(&in_place, &file, 0..PIECE).is_some());
        file.write_all_at(&[9], 77).unwrap();
        assert_eq!(read(&in_place, &file, 76..79), Some(vec![0, 9, 0]));
    }

    #[test]
    fn a_file_that_was_cut_off_within_a_page_is_noticed() {
        let (file, in_place) = (file_of(1), in_place());
        assert_eq!(read(&in_place, &file, 0..PIECE), None);
        file.set_len(100).unwrap();
        assert_eq!(read(&in_place, &file, 99..101), None);
        assert_eq!(read(&in_place, &file, 0..100), Some(vec![0; 100]));
        assert_eq!(read(&in_place, &file, 0..PIECE), None);
    }

    #[test]
    fn far_apart_reads_keep_few_windows() {
        let (file, in_place) = (file_of(1), in_place());
        for index in 0..3 * MAX_WINDOWS as u64 {
            assert_eq!(read(&in_place, &file, index * WINDOW..index * WINDOW + PIECE), None);
        }
        assert_eq!(in_place.windows.read().unwrap().open.len(), MAX_WINDOWS);
        assert_eq!(read(&in_place, &file, WINDOW - 1..WINDOW + 1), None, "two windows at once");
    }
}
