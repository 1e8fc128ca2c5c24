use std::{
    io,
    ops::Range,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::{Limits, Storage};

/// A container held in memory: vectors, fuzzing, tests.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    bytes: RwLock<Vec<u8>>,
}

impl MemoryStorage {
    /// A storage that holds `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: RwLock::new(bytes) }
    }

    /// A copy of all bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        self.locked().clone()
    }

    fn locked(&self) -> RwLockReadGuard<'_, Vec<u8>> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked_mut(&self) -> RwLockWriteGuard<'_, Vec<u8>> {
        self.bytes.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for MemoryStorage {
    fn size(&self) -> io::Result<u64> {
        u64::try_from(self.locked().len()).map_err(io::Error::other)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = self.locked();
        let range = byte_range(offset, buf.len())?;
        let found = bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(found);
        Ok(())
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let range = byte_range(offset, buf.len())?;
        let mut bytes = self.locked_mut();
        if bytes.len() < range.end {
            bytes.resize(range.end, 0);
        }
        bytes.get_mut(range).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(buf);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.locked_mut().resize(usize::try_from(size).map_err(io::Error::other)?, 0);
        Ok(())
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        let start = usize::try_from(range.start).map_err(io::Error::other)?;
        let end = usize::try_from(range.end).map_err(io::Error::other)?;
        self.locked_mut().get_mut(start..end).ok_or(io::ErrorKind::InvalidInput)?.fill(0);
        Ok(())
    }

    fn limits(&self) -> Limits {
        Limits { read_only: false, can_punch: true, can_resize: true }
    }
}

fn byte_range(offset: u64, len: usize) -> io::Result<Range<usize>> {
    let start = usize::try_from(offset).map_err(io::Error::other)?;
    let end = start.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(start..end)
}
