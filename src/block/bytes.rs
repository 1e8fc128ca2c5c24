use std::{ops::Range, sync::Arc};

use super::{
    Admission, BlockDevice, BlockError, Buffer, BufferPool, Geometry, byte_count, range_lock::RangeLocks,
};
use crate::units::{Sector, SectorSize};

/// A [`BlockDevice`] at byte grain: any offset, any length.
///
/// Writes that do not cover whole sectors are read-modify-write. Every access locks its sectors, reads shared and writes
/// exclusive, so no write is lost beside another in the same sector and no read sees one half done.
#[derive(Debug)]
pub struct ByteDevice {
    device: Arc<dyn BlockDevice>,
    sector_size: SectorSize,
    read_only: bool,
    locks: RangeLocks,
    /// For parts of sectors. Not on the stack: what is moved there leaves copies that nobody wipes.
    sector_buffers: BufferPool,
}

impl ByteDevice {
    /// A view of `device`. All writers have to use this one view: another does not know its locks.
    pub fn new(device: Arc<dyn BlockDevice>) -> Self {
        let geometry = device.geometry();
        let sector_buffers = BufferPool::new(geometry.sector_size.bytes());
        let Geometry { sector_size, read_only, .. } = geometry;
        Self { device, sector_size, read_only, locks: RangeLocks::default(), sector_buffers }
    }

    /// Takes up now the memory that so many requests at a time need.
    pub fn reserve(&self, requests: usize) {
        self.sector_buffers.reserve(requests);
        self.device.reserve(requests);
    }

    /// The device's sizes and abilities.
    pub fn geometry(&self) -> Geometry {
        self.device.geometry()
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.device.geometry().bytes()
    }

    /// Fills `buf` from byte `offset` on. Past the end is an error, not a short read.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        let range = self.checked(byte_count(buf.len()), offset)?;
        let _held = self.locks.shared(self.touched(&range));
        let mut rest = buf;
        for part in self.parts(range) {
            let (data, after) = rest.split_at_mut(part.len());
            match part {
                Part::Whole(sectors, _) => self.device.read(data, sectors.start)?,
                Part::Within(sector, bytes) => data.copy_from_slice(&self.read_sector(sector)?[bytes]),
            }
            rest = after;
        }
        Ok(())
    }

    /// Writes all of `buf` at byte `offset`. Past the end is an error, and nothing is written.
    pub fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), BlockError> {
        let range = self.checked_for_writing(byte_count(buf.len()), offset)?;
        let touched = self.touched(&range);
        let _held = self.locks.exclusive(touched.clone());
        let admission = self.device.admit(&(Sector(touched.start)..Sector(touched.end)))?;
        let device = admission.as_ref().map_or(&*self.device, Admission::device);
        let mut rest = buf;
        for part in self.parts(range) {
            let (data, after) = rest.split_at(part.len());
            match part {
                Part::Whole(sectors, _) => device.write(data, sectors.start)?,
                Part::Within(sector, bytes) => {
                    self.modify_sector(device, sector, |old| old[bytes].copy_from_slice(data))?;
                }
            }
            rest = after;
        }
        Ok(())
    }

    /// Makes the bytes of `range` read as zeros.
    pub fn zero_range(&self, range: Range<u64>) -> Result<(), BlockError> {
        let range = self.checked_for_writing(range.end.saturating_sub(range.start), range.start)?;
        let touched = self.touched(&range);
        let _held = self.locks.exclusive(touched.clone());
        let admission = self.device.admit(&(Sector(touched.start)..Sector(touched.end)))?;
        let device = admission.as_ref().map_or(&*self.device, Admission::device);
        for part in self.parts(range) {
            match part {
                Part::Whole(sectors, _) => device.write_zeroes(sectors)?,
                Part::Within(sector, bytes) => {
                    self.modify_sector(device, sector, |old| old[bytes].fill(0))?;
                }
            }
        }
        Ok(())
    }

    /// Returns once every write that has returned before survives a power cut.
    pub fn flush(&self) -> Result<(), BlockError> {
        self.device.flush()
    }

    fn checked(&self, len: u64, offset: u64) -> Result<Range<u64>, BlockError> {
        let geometry = self.device.geometry();
        let Geometry { sector_size, sectors: end, .. } = geometry;
        let past_end = BlockError::OutOfRange {
            first: offset >> sector_size.shift(),
            sectors: len.div_ceil(sector_size.bytes_u64()),
            end,
        };
        offset.checked_add(len).filter(|&end| end <= geometry.bytes()).map(|end| offset..end).ok_or(past_end)
    }

    fn checked_for_writing(&self, len: u64, offset: u64) -> Result<Range<u64>, BlockError> {
        if self.read_only {
            return Err(BlockError::ReadOnly);
        }
        self.checked(len, offset)
    }

    /// The sectors that `range` touches: none where it is empty, also within a sector.
    const fn touched(&self, range: &Range<u64>) -> Range<u64> {
        let sector_size = self.sector_size;
        let first = range.start >> sector_size.shift();
        if range.start >= range.end {
            return first..first;
        }
        first..range.end.div_ceil(sector_size.bytes_u64())
    }

    /// Splits `range` into whole sectors and parts of one: at most three parts, in order.
    fn parts(&self, range: Range<u64>) -> impl Iterator<Item = Part> + use<> {
        let (sector_size, mut next) = (self.sector_size, range.start);
        std::iter::from_fn(move || {
            let left = range.end.checked_sub(next).filter(|&left| left > 0)?;
            let (sector, skipped) = (next >> sector_size.shift(), next % sector_size.bytes_u64());
            let whole = left >> sector_size.shift();
            let part = if skipped == 0 && whole > 0 {
                Part::Whole(Sector(sector)..Sector(sector + whole), sector_size)
            } else {
                let end = (skipped + left).min(sector_size.bytes_u64());
                Part::Within(Sector(sector), to_usize(skipped)..to_usize(end))
            };
            next += byte_count(part.len());
            Some(part)
        })
    }

    /// Reads one sector into a buffer of its size. The caller holds its lock.
    fn read_sector(&self, sector: Sector) -> Result<Buffer<'_>, BlockError> {
        let mut bytes = self.sector_buffers.take();
        self.device.read(&mut bytes, sector)?;
        Ok(bytes)
    }

    /// Reads a sector, changes it and writes it back. The caller holds its lock exclusively.
    fn modify_sector(
        &self,
        device: &dyn BlockDevice,
        sector: Sector,
        change: impl FnOnce(&mut [u8]),
    ) -> Result<(), BlockError> {
        let mut bytes = self.read_sector(sector)?;
        change(&mut bytes);
        device.write(&bytes, sector)
    }
}

/// A part of a byte range.
enum Part {
    /// Whole sectors, and the size of one.
    Whole(Range<Sector>, SectorSize),
    /// Some bytes of one sector.
    Within(Sector, Range<usize>),
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Whole(sectors, size) => to_usize((sectors.end.0 - sectors.start.0) << size.shift()),
            Self::Within(_, bytes) => bytes.len(),
        }
    }
}

/// A length within a buffer or a sector, which therefore fits.
fn to_usize(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
