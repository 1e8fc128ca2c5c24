use std::{
    fs::File,
    io,
    ops::Range,
    os::{
        fd::AsFd,
        unix::fs::{FileExt, FileTypeExt},
    },
    sync::OnceLock,
};

use rustix::fs::{FallocateFlags, OFlags, SeekFrom, fallocate, fcntl_getfl, seek};

use super::{Limits, Storage, in_place::InPlace, pulse::Request};

/// A container in a regular file or on a block device.
#[derive(Debug)]
pub struct FileStorage {
    file: File,
    limits: Limits,
    in_place: OnceLock<InPlace>,
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
        Ok(Self { file, limits, in_place: OnceLock::new() })
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

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Storage for FileStorage {
    fn size(&self) -> io::Result<u64> {
        // A block device's metadata says 0; seeking to the end tells for both. No one uses the file's own position.
        let _waiting = Request::begin();
        Ok(seek(self.file.as_fd(), SeekFrom::End(0))?)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let _waiting = Request::begin();
        self.file.read_exact_at(buf, offset)
    }

    fn read_in_place(&self, range: Range<u64>, work: &mut dyn FnMut(&[u8])) -> bool {
        let _waiting = Request::begin();
        self.in_place.get().is_some_and(|in_place| in_place.read(&self.file, range, work))
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let _waiting = Request::to_change()?;
        self.file.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let _waiting = Request::begin();
        self.file.sync_data()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let _waiting = Request::to_change()?;
        self.file.set_len(size)
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        let len = range.end.checked_sub(range.start).ok_or(io::ErrorKind::InvalidInput)?;
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let _waiting = Request::to_change()?;
        Ok(fallocate(&self.file, how, range.start, len)?)
    }

    fn limits(&self) -> Limits {
        self.limits
    }
}
