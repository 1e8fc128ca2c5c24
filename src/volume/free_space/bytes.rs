use super::damaged;
use crate::{block::BlockDevice, error::Result, format::signature::HEAD_LEN, units::Sector};

/// The bytes of a volume.
#[derive(Debug)]
pub(super) struct Bytes<'a> {
    device: &'a dyn BlockDevice,
}

impl<'a> Bytes<'a> {
    pub(super) fn new(device: &'a dyn BlockDevice) -> Self {
        Self { device }
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.device.geometry().bytes()
    }

    /// The first ones, which tell what they are.
    ///
    /// # Errors
    /// What reading gave.
    pub(super) fn head(&self) -> Result<Vec<u8>> {
        self.read(0, HEAD_LEN.min(usize::try_from(self.len()).unwrap_or(HEAD_LEN)))
    }

    /// Some of them, at most [`MAX_READ`].
    ///
    /// # Errors
    /// `Damaged` where the device ends before they do.
    pub(super) fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let sector_size = self.device.geometry().sector_size;
        let count = u64::try_from(len).unwrap_or(u64::MAX);
        let end = offset.checked_add(count).filter(|&end| end <= self.len() && len <= MAX_READ);
        let end = end.ok_or_else(|| damaged("it names bytes that are not there"))?;
        let first = offset >> sector_size.shift();
        let start = first << sector_size.shift();
        let aligned = end.next_multiple_of(sector_size.bytes_u64()).saturating_sub(start);
        let mut bytes = vec![0; usize::try_from(aligned).map_err(|_| damaged("it names too many bytes"))?];
        self.device
            .read(&mut bytes, Sector(first))
            .map_err(|error| crate::Error::caused_by(crate::ErrorKind::Io, error))?;
        let skipped = usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX);
        bytes.drain(..skipped.min(bytes.len()));
        bytes.truncate(len);
        Ok(bytes)
    }
}

/// Little-endian numbers in some bytes. What lies outside is `Damaged`.
#[derive(Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    pub(super) fn bytes(&self, at: usize, len: usize) -> Result<&[u8]> {
        let end = at.checked_add(len);
        let found = end.and_then(|end| self.0.get(at..end));
        found.ok_or_else(|| damaged("it ends within a structure"))
    }

    pub(super) fn u8(&self, at: usize) -> Result<u8> {
        self.array::<1>(at).map(u8::from_le_bytes)
    }

    pub(super) fn u16(&self, at: usize) -> Result<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&self, at: usize) -> Result<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&self, at: usize) -> Result<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N]> {
        let found = self.bytes(at, N)?;
        found.try_into().map_err(|_| damaged("it ends within a structure"))
    }
}

/// The most that is read at a time, in bytes.
pub(super) const MAX_READ: usize = 1 << 20;
