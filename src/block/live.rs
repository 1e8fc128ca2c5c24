use std::{
    io,
    ops::Range,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use super::{BlockDevice, BlockError, ByteDevice, Geometry, byte_count};
use crate::units::{Sector, SectorSize};

/// A device behind which another can be put while it is used.
///
/// Its geometry stays what it was at first, whatever is behind it.
#[derive(Debug)]
pub struct LiveDevice {
    geometry: Geometry,
    /// Held for reading as long as a request takes, so that whoever puts another device here waits for it.
    current: RwLock<Arc<dyn BlockDevice>>,
}

impl LiveDevice {
    /// Shows `device`.
    pub fn new(device: Arc<dyn BlockDevice>) -> Self {
        Self { geometry: device.geometry(), current: RwLock::new(device) }
    }

    /// Waits until every request to the device behind is done, then puts `device`, of the same size, in its place.
    ///
    /// # Errors
    /// `InvalidInput` where it has another size.
    pub fn replace(&self, device: Arc<dyn BlockDevice>) -> io::Result<()> {
        if device.geometry().bytes() != self.geometry.bytes() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a device of another size"));
        }
        let sector_size = self.geometry.sector_size;
        let device = if device.geometry().sector_size == sector_size {
            device
        } else {
            Arc::new(Regrained { bytes: ByteDevice::new(device), sector_size })
        };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = device;
        Ok(())
    }

    fn current(&self) -> RwLockReadGuard<'_, Arc<dyn BlockDevice>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockDevice for LiveDevice {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn reserve(&self, requests: usize) {
        self.current().reserve(requests);
    }

    fn read(&self, buf: &mut [u8], first: Sector) -> Result<(), BlockError> {
        self.current().read(buf, first)
    }

    fn write(&self, buf: &[u8], first: Sector) -> Result<(), BlockError> {
        self.current().write(buf, first)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.current().flush()
    }

    fn write_zeroes(&self, range: Range<Sector>) -> Result<(), BlockError> {
        self.current().write_zeroes(range)
    }

    fn discard(&self, range: Range<Sector>) -> Result<(), BlockError> {
        self.current().discard(range)
    }
}

/// A device with sectors of another size.
#[derive(Debug)]
struct Regrained {
    bytes: ByteDevice,
    sector_size: SectorSize,
}

impl Regrained {
    /// The bytes of some sectors; those past the end of everything are past the end of the device too.
    const fn bytes_of(&self, range: &Range<Sector>) -> Range<u64> {
        let size = self.sector_size.bytes_u64();
        range.start.0.saturating_mul(size)..range.end.0.saturating_mul(size)
    }

    fn offset(&self, len: usize, first: Sector) -> Result<u64, BlockError> {
        self.sector_size.sectors_in(byte_count(len)).ok_or(BlockError::PartialSector { len })?;
        Ok(first.0.saturating_mul(self.sector_size.bytes_u64()))
    }
}

impl BlockDevice for Regrained {
    fn geometry(&self) -> Geometry {
        let inner = self.bytes.geometry();
        let sectors = inner.bytes() >> self.sector_size.shift();
        Geometry { sector_size: self.sector_size, sectors, ..inner }
    }

    fn read(&self, buf: &mut [u8], first: Sector) -> Result<(), BlockError> {
        self.bytes.read_at(buf, self.offset(buf.len(), first)?)
    }

    fn write(&self, buf: &[u8], first: Sector) -> Result<(), BlockError> {
        self.bytes.write_at(buf, self.offset(buf.len(), first)?)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.bytes.flush()
    }

    fn write_zeroes(&self, range: Range<Sector>) -> Result<(), BlockError> {
        self.bytes.zero_range(self.bytes_of(&range))
    }

    fn discard(&self, range: Range<Sector>) -> Result<(), BlockError> {
        if self.geometry().can_discard {
            return self.write_zeroes(range);
        }
        // Nothing changes; whether the device may be written and has these sectors, it says itself.
        let end = self.bytes_of(&range).end;
        self.bytes.zero_range(end..end)
    }
}
