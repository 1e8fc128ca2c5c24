use std::{
    fs::File,
    io,
    ops::Range,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::{FileExt, FileTypeExt, OpenOptionsExt},
    },
    sync::{Arc, OnceLock},
};

use rustix::{
    fs::{FallocateFlags, OFlags, SeekFrom, fallocate, fcntl_getfl, seek},
    io::Errno,
};

use super::{Limits, Storage, in_place::InPlace, pulse::Request, shortage::Shortage, witness::Witness};
use crate::sys::limits;

/// A container in a regular file or on a block device.
#[derive(Debug)]
pub struct FileStorage {
    file: File,
    limits: Limits,
    in_place: OnceLock<InPlace>,
    /// The same file, opened so that the kernel caches nothing.
    uncached: OnceLock<File>,
    shortage: OnceLock<Arc<Shortage>>,
    witness: OnceLock<Witness>,
    /// What is read and written instead from some moment on.
    moved: OnceLock<File>,
}

impl FileStorage {
    /// Takes over an open descriptor. Its access mode decides whether the storage is read-only.
    ///
    /// # Errors
    /// `InvalidInput` where it is neither a regular file nor a block device.
    pub fn new(file: File) -> io::Result<Self> {
        let kind = file.metadata()?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "neither a regular file nor a block device",
            ));
        }
        let read_only = fcntl_getfl(&file)?.intersection(OFlags::ACCMODE) == OFlags::RDONLY;
        let limits = Limits { read_only, can_punch: !read_only, can_resize: kind.is_file() && !read_only };
        let (in_place, uncached, shortage) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let (witness, moved) = (OnceLock::new(), OnceLock::new());
        Ok(Self { file, limits, in_place, uncached, shortage, witness, moved })
    }

    /// Has what is read again be read in place from now on, where the file lies on a file system on which that is as good.
    ///
    /// A file that is cut off, or a medium that fails, is a bus error then, which is contained for the whole process.
    pub fn allow_in_place(&self) -> io::Result<()> {
        if let Some(in_place) = InPlace::of(&self.file)? {
            self.in_place.get_or_init(|| in_place);
        }
        Ok(())
    }

    /// Has whole blocks be read and written past the kernel's cache from now on, for which it takes memory while it must not
    /// wait for any.
    ///
    /// # Errors
    /// Where the file system, or the user's rights, do not allow it; nothing changes then.
    pub fn go_past_cache(&self) -> io::Result<()> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let flags = (OFlags::DIRECT | OFlags::CLOEXEC).bits().cast_signed();
        let uncached =
            File::options().read(true).write(!self.limits.read_only).custom_flags(flags).open(path)?;
        self.uncached.get_or_init(|| uncached);
        Ok(())
    }

    /// Has writes for which the medium has no room wait for some from now on.
    pub fn endure(&self, shortage: Arc<Shortage>) {
        self.shortage.get_or_init(|| shortage);
    }

    /// Has `areas` be watched: [`has_changed`](Self::has_changed) tells whether others have written there since it was asked first.
    /// What is written through this storage is right.
    pub fn watch_areas(&self, areas: &[Range<u64>]) {
        self.witness.get_or_init(|| Witness::of(areas));
    }

    /// Whether others have written to the areas that are watched, where some are.
    ///
    /// # Errors
    /// What reading gave.
    pub fn has_changed(&self) -> io::Result<bool> {
        let witness = self.witness.get().filter(|_| self.moved.get().is_none());
        witness.map_or(Ok(false), |witness| witness.has_changed(&self.file))
    }

    /// Takes what stands in the areas now for right.
    ///
    /// # Errors
    /// What reading gave.
    pub fn allow_changes(&self) -> io::Result<()> {
        self.witness.get().map_or(Ok(()), |witness| witness.renew(&self.file))
    }

    /// What stands in the areas now, for [`take_seen`](Self::take_seen).
    ///
    /// # Errors
    /// What reading gave.
    pub fn seen(&self) -> io::Result<Vec<u64>> {
        self.witness.get().map_or(Ok(Vec::new()), |witness| witness.seen(&self.file))
    }

    /// Takes what was seen for right.
    pub fn take_seen(&self, seen: Vec<u64>) {
        if let Some(witness) = self.witness.get() {
            witness.take(seen);
        }
    }

    /// Changes bytes of `range` by `change`.
    fn change<T>(&self, range: &Range<u64>, change: impl FnOnce() -> T) -> T {
        match self.witness.get().filter(|_| self.moved.get().is_none()) {
            Some(witness) => witness.during(&self.file, range, change),
            None => change(),
        }
    }

    fn write_once(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let end = u64::try_from(buf.len()).ok().and_then(|len| offset.checked_add(len));
        let write = || self.change(&(offset..end.unwrap_or(u64::MAX)), || self.write_now(buf, offset));
        let mut done = write();
        let is_limited = done.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::FileTooLarge);
        if is_limited && end.is_some_and(limits::allow_file) {
            done = write();
        }
        // Behind the end of a device there is no room either.
        let is_behind_end = !self.limits.can_resize
            && done.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull)
            && self.size().is_ok_and(|size| end.is_none_or(|end| end > size));
        if is_behind_end { Err(io::ErrorKind::UnexpectedEof.into()) } else { done }
    }

    fn write_now(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let _waiting = Request::to_change()?;
        let uncached = self.uncached(buf.as_ptr(), buf.len(), offset);
        match uncached.map(|file| file.write_all_at(buf, offset)) {
            Some(done) if !is_misaligned(&done) => done,
            _ => self.file().write_all_at(buf, offset),
        }
    }

    /// The file past the cache, for a request that begins and ends where blocks do.
    fn uncached(&self, start: *const u8, len: usize, offset: u64) -> Option<&File> {
        let is_whole = start.addr().is_multiple_of(LEAST_BLOCK)
            && len.is_multiple_of(LEAST_BLOCK)
            && offset.is_multiple_of(LEAST_BLOCK as u64);
        self.uncached.get().filter(|_| is_whole && self.moved.get().is_none())
    }

    /// The open file.
    pub fn file(&self) -> &File {
        self.moved.get().unwrap_or(&self.file)
    }

    /// Has `copy`, which has the same bytes, be read and written instead from now on. Once; nobody may write meanwhile.
    pub fn move_to(&self, copy: File) {
        self.moved.get_or_init(|| copy);
    }
}

impl Storage for FileStorage {
    fn size(&self) -> io::Result<u64> {
        // A block device's metadata says 0; seeking to the end tells for both. No one uses the file's own position.
        let _waiting = Request::begin();
        Ok(seek(self.file().as_fd(), SeekFrom::End(0))?)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let _waiting = Request::begin();
        let uncached = self.uncached(buf.as_ptr(), buf.len(), offset);
        match uncached.map(|file| file.read_exact_at(buf, offset)) {
            Some(done) if !is_misaligned(&done) => done,
            _ => self.file().read_exact_at(buf, offset),
        }
    }

    fn read_in_place(&self, range: Range<u64>, work: &mut dyn FnMut(&[u8])) -> bool {
        let _waiting = Request::begin();
        let in_place = self.in_place.get().filter(|_| self.moved.get().is_none());
        in_place.is_some_and(|in_place| in_place.read(&self.file, range, work))
    }

    fn descriptor(&self) -> Option<&File> {
        Some(self.file())
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        match self.shortage.get() {
            Some(shortage) => shortage.endure(|| self.write_once(buf, offset)),
            None => self.write_once(buf, offset),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let _waiting = Request::begin();
        let synced = self.file().sync_data();
        if let (Err(_), Some(shortage)) = (&synced, self.shortage.get()) {
            // The kernel tells of what it could not write once.
            shortage.fail();
        }
        synced
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let _waiting = Request::to_change()?;
        self.file().set_len(size)
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        let len = range.end.checked_sub(range.start).ok_or(io::ErrorKind::InvalidInput)?;
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let _waiting = Request::to_change()?;
        Ok(self.change(&range, || fallocate(self.file(), how, range.start, len))?)
    }

    fn limits(&self) -> Limits {
        self.limits
    }
}

/// Where the next bytes from `start` on are that lie in no hole; `u64::MAX` where none follow, and `start` where nobody knows.
pub fn next_data(storage: &dyn Storage, start: u64) -> u64 {
    match storage.descriptor().map(|file| seek(file, SeekFrom::Data(start))) {
        Some(Ok(data)) => data,
        Some(Err(Errno::NXIO)) => u64::MAX,
        _ => start,
    }
}

/// Whether the limit on file sizes lets this process write all of a file; it is raised where that goes. It is none on devices.
pub fn is_allowed_whole(file: &File) -> io::Result<bool> {
    let metadata = file.metadata()?;
    Ok(!metadata.is_file() || limits::allow_file(metadata.len()))
}

/// The medium has larger blocks than the request.
fn is_misaligned(done: &io::Result<()>) -> bool {
    done.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidInput)
}

/// The smallest block of any medium, in bytes.
const LEAST_BLOCK: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of which `of` gives those from a block's start on.
    struct Aligned(Vec<u8>);

    impl Aligned {
        fn of(&mut self, len: usize) -> &mut [u8] {
            let start = self.0.as_ptr().align_offset(4096);
            &mut self.0[start..start + len]
        }
    }

    #[test]
    fn past_the_cache_the_same_bytes_are_read_and_written() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, vec![1; 65_536]).unwrap();
        let storage = FileStorage::new(File::options().read(true).write(true).open(&path).unwrap()).unwrap();
        if storage.go_past_cache().is_err() {
            return println!("skipped: this file system has no direct I/O");
        }
        let mut bytes = Aligned(vec![0; 4 * 4096]);
        bytes.of(8192).fill(7);
        storage.write_all_at(bytes.of(8192), 4096).unwrap();
        // These begin or end within a block, or lie at no block's start in memory.
        storage.write_all_at(&bytes.of(8192)[1..4097], 8192 + 5).unwrap();
        storage.write_all_at(&[9; 3], 100).unwrap();
        let mut model = vec![1; 65_536];
        model[4096..8192 + 5 + 4096].fill(7);
        model[100..103].fill(9);
        assert!(std::fs::read(&path).unwrap() == model);
        for (offset, len) in [(0, 8192), (4096, 4096), (8000, 8192), (512, 512), (65_535, 1), (65_024, 512)] {
            storage.read_exact_at(bytes.of(len), offset).unwrap();
            let from = usize::try_from(offset).unwrap();
            assert!(*bytes.of(len) == model[from..from + len], "{offset} {len}");
        }
        let past = storage.read_exact_at(bytes.of(8192), 65_536 - 4096).unwrap_err();
        assert_eq!(past.kind(), io::ErrorKind::UnexpectedEof);
    }
}
