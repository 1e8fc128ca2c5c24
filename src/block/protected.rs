use std::{
    fmt,
    io::{self, PipeReader, PipeWriter},
    ops::Range,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
};

use super::{BlockDevice, BlockError, Geometry, byte_count};
use crate::units::Sector;

/// A device with sectors that must not be written: another volume is hidden there (VC-PROT-01).
///
/// The first change that would touch one of them is refused whole, and from then on every change is, wherever it goes: a file
/// system that goes on after it was told to stop would damage itself. Reading goes on as before.
pub struct ProtectedDevice {
    device: Arc<dyn BlockDevice>,
    range: Range<Sector>,
    /// Whether a change was refused. A change holds it for reading as long as it takes, so that the refusal waits for those
    /// under way and none that comes after it gets through (VC-PROT-03).
    refused: RwLock<bool>,
    /// Closed by the refusal.
    alarms: Mutex<Vec<PipeWriter>>,
}

/// Leave to change some sectors of a [`ProtectedDevice`]: a refusal that comes up meanwhile waits for its end (VC-PROT-02).
#[derive(Debug)]
pub struct Admission<'a> {
    device: &'a dyn BlockDevice,
    _held: RwLockReadGuard<'a, bool>,
}

impl Admission<'_> {
    /// What the changes are to be made to.
    pub fn device(&self) -> &dyn BlockDevice {
        self.device
    }
}

impl ProtectedDevice {
    /// Shows `device`, but for changes of `range`.
    pub fn new(device: Arc<dyn BlockDevice>, range: Range<Sector>) -> Self {
        Self { device, range, refused: RwLock::new(false), alarms: Mutex::default() }
    }

    /// Whether a change was refused.
    pub fn has_refused(&self) -> bool {
        *self.refused.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Becomes readable (end of file) when a change was refused, for `poll` beside other descriptors.
    pub fn alarm(&self) -> io::Result<PipeReader> {
        let (reader, writer) = io::pipe()?;
        let refused = self.refused.read().unwrap_or_else(PoisonError::into_inner);
        if !*refused {
            self.alarms.lock().unwrap_or_else(PoisonError::into_inner).push(writer);
        }
        Ok(reader)
    }

    /// Lets changes of `range` through as long as the guard lives.
    fn hold(&self, range: &Range<Sector>) -> Result<RwLockReadGuard<'_, bool>, BlockError> {
        let refused = self.refused.read().unwrap_or_else(PoisonError::into_inner);
        if *refused {
            return Err(BlockError::Protected);
        }
        let touches = range.start < self.range.end && self.range.start < range.end && range.start < range.end;
        if touches && !self.geometry().read_only {
            drop(refused);
            return Err(self.refuse());
        }
        Ok(refused)
    }

    fn refuse(&self) -> BlockError {
        // Waits for the changes under way.
        let mut refused = self.refused.write().unwrap_or_else(PoisonError::into_inner);
        *refused = true;
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner).clear();
        BlockError::Protected
    }
}

impl BlockDevice for ProtectedDevice {
    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }

    fn reserve(&self, requests: usize) {
        self.device.reserve(requests);
    }

    fn read(&self, buf: &mut [u8], first: Sector) -> Result<(), BlockError> {
        self.device.read(buf, first)
    }

    fn admit(&self, range: &Range<Sector>) -> Result<Option<Admission<'_>>, BlockError> {
        let held = self.hold(range)?;
        Ok(Some(Admission { device: &*self.device, _held: held }))
    }

    fn write(&self, buf: &[u8], first: Sector) -> Result<(), BlockError> {
        let sectors = byte_count(buf.len()).div_ceil(self.geometry().sector_size.bytes_u64());
        let _held = self.hold(&(first..Sector(first.0.saturating_add(sectors))))?;
        self.device.write(buf, first)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.device.flush()
    }

    fn write_zeroes(&self, range: Range<Sector>) -> Result<(), BlockError> {
        let _held = self.hold(&range)?;
        self.device.write_zeroes(range)
    }

    fn discard(&self, range: Range<Sector>) -> Result<(), BlockError> {
        let _held = self.hold(&range)?;
        self.device.discard(range)
    }
}

impl fmt::Debug for ProtectedDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProtectedDevice({:?}, {}..{})", self.device, self.range.start.0, self.range.end.0)
    }
}
