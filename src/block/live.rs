use std::{
    io,
    ops::Range,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{BlockDevice, BlockError, ByteDevice, Geometry, byte_count};
use crate::units::{Sector, SectorSize};

/// A device behind which another can be put while it is used.
///
/// Its geometry stays what it was at first, whatever is behind it, but for the number of sectors once it has grown.
#[derive(Debug)]
pub struct LiveDevice {
    geometry: Geometry,
    sectors: AtomicU64,
    /// Held for reading as long as a request takes, so that whoever puts another device here waits for it.
    current: RwLock<Arc<dyn BlockDevice>>,
}

impl LiveDevice {
    /// Shows `device`.
    pub fn new(device: Arc<dyn BlockDevice>) -> Self {
        let geometry = device.geometry();
        Self { geometry, sectors: AtomicU64::new(geometry.sectors), current: RwLock::new(device) }
    }

    /// Waits until every request to the device behind is done, then puts `device`, of the same size, in its place.
    ///
    /// # Errors
    /// `InvalidInput` where it has another size.
    pub fn replace(&self, device: Arc<dyn BlockDevice>) -> io::Result<()> {
        if device.geometry().bytes() != self.geometry().bytes() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a device of another size"));
        }
        self.put(device);
        Ok(())
    }

    /// The same with a device that goes on behind the end: that shows from then on.
    ///
    /// # Errors
    /// `InvalidInput` where it is smaller.
    pub fn grow(&self, device: Arc<dyn BlockDevice>) -> io::Result<()> {
        let bytes = device.geometry().bytes();
        if bytes < self.geometry().bytes() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a smaller device"));
        }
        self.put(device);
        self.sectors.store(bytes >> self.geometry.sector_size.shift(), Ordering::Release);
        Ok(())
    }

    fn put(&self, device: Arc<dyn BlockDevice>) {
        let sector_size = self.geometry.sector_size;
        let device = if device.geometry().sector_size == sector_size {
            device
        } else {
            Arc::new(Regrained { bytes: ByteDevice::new(device), sector_size })
        };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = device;
    }

    fn current(&self) -> RwLockReadGuard<'_, Arc<dyn BlockDevice>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockDevice for LiveDevice {
    fn geometry(&self) -> Geometry {
        Geometry { sectors: self.sectors.load(Ordering::Acquire), ..self.geometry }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Blank(u64);

    impl BlockDevice for Blank {
        fn geometry(&self) -> Geometry {
            let sector_size = SectorSize::B512;
            Geometry { sector_size, sectors: self.0, read_only: false, can_discard: false }
        }

        fn read(&self, buf: &mut [u8], _: Sector) -> Result<(), BlockError> {
            buf.fill(u8::try_from(self.0).unwrap());
            Ok(())
        }

        fn write(&self, _: &[u8], _: Sector) -> Result<(), BlockError> {
            Ok(())
        }

        fn flush(&self) -> Result<(), BlockError> {
            Ok(())
        }

        fn write_zeroes(&self, _: Range<Sector>) -> Result<(), BlockError> {
            Ok(())
        }

        fn discard(&self, _: Range<Sector>) -> Result<(), BlockError> {
            Ok(())
        }
    }

    #[test]
    fn what_goes_on_behind_the_end_shows_to_who_looks_from_above_and_nothing_smaller_takes_its_place() {
        let live = Arc::new(LiveDevice::new(Arc::new(Blank(8))));
        let bytes = ByteDevice::new(Arc::clone(&live) as Arc<dyn BlockDevice>);
        let mut sector = [0; 512];
        assert!(matches!(bytes.read_at(&mut sector, 4096), Err(BlockError::OutOfRange { end: 8, .. })));
        live.grow(Arc::new(Blank(9))).unwrap();
        bytes.read_at(&mut sector, 4096).unwrap();
        assert_eq!((sector[0], bytes.size()), (9, 9 * 512));
        for other in [8, 10] {
            assert_eq!(live.replace(Arc::new(Blank(other))).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(live.grow(Arc::new(Blank(8))).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(live.geometry().sectors, 9);
    }
}
