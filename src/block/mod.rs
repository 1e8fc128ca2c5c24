//! The data plane: plaintext sectors of an opened volume.
//!
//! [`CryptDevice`] reads and writes sectors through a [`Mapping`](crate::mapping::Mapping); [`ByteDevice`] shows any
//! [`BlockDevice`] at byte grain, for exports. While a container is re-encrypted, [`MovingDevice`] reads and writes through
//! two mappings; [`LiveDevice`] lets it take the place of the other under a running export. [`ProtectedDevice`] keeps writes
//! away from a volume that is hidden in another one. [`ShadowDevice`] keeps them in memory.

mod buffers;
mod bytes;
mod crypt;
mod live;
mod moving;
mod protected;
mod range_lock;
mod shadow;
mod transcode;

pub use buffers::{AlignedBytes, Buffer, BufferPool};
pub use bytes::ByteDevice;
pub use crypt::CryptDevice;
pub use live::LiveDevice;
pub use moving::{Fence, MovingDevice};
pub use protected::{Admission, ProtectedDevice};
pub use shadow::ShadowDevice;
pub use transcode::Transcoder;

use std::{fmt, io, ops::Range};

use crate::units::{Sector, SectorSize};

/// Plaintext sectors. What an export serves and what a file system is made on. Shared between threads.
pub trait BlockDevice: fmt::Debug + Send + Sync {
    /// Sizes and abilities; they do not change while the device lives, but for a size that grows.
    fn geometry(&self) -> Geometry;

    /// Takes up now the memory that so many requests at a time need.
    fn reserve(&self, _requests: usize) {}

    /// Fills `buf`, a whole number of sectors, from `first` on. Past the end is an error, not a short read.
    fn read(&self, buf: &mut [u8], first: Sector) -> Result<(), BlockError>;

    /// Asked before a request that takes several changes within `range`, so that nothing of it is written where a part of it
    /// must not be. Where a device comes with the answer, the changes are made to that one.
    fn admit(&self, _range: &Range<Sector>) -> Result<Option<Admission<'_>>, BlockError> {
        Ok(None)
    }

    /// Writes `buf`, a whole number of sectors, from `first` on.
    fn write(&self, buf: &[u8], first: Sector) -> Result<(), BlockError>;

    /// Returns once every write that has returned before survives a power cut.
    fn flush(&self) -> Result<(), BlockError>;

    /// Makes `range` read as zeros.
    fn write_zeroes(&self, range: Range<Sector>) -> Result<(), BlockError>;

    /// Tells the medium that `range` is unused. On a thin volume it reads as zeros then; elsewhere nothing changes.
    fn discard(&self, range: Range<Sector>) -> Result<(), BlockError>;
}

/// The shape of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// The smallest unit of reading and writing.
    pub sector_size: SectorSize,
    /// How many there are.
    pub sectors: u64,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether discard gives space back.
    pub can_discard: bool,
}

impl Geometry {
    /// The size in bytes.
    pub const fn bytes(&self) -> u64 {
        self.sectors << self.sector_size.shift()
    }
}

/// Why a block device refuses or fails.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// Sectors past the end.
    #[error("{sectors} sectors from sector {first} pass the end at {end}")]
    OutOfRange {
        /// The first sector asked for.
        first: u64,
        /// How many.
        sectors: u64,
        /// The device's number of sectors.
        end: u64,
    },
    /// A buffer that is not a whole number of sectors.
    #[error("{len} bytes are no whole number of sectors")]
    PartialSector {
        /// The buffer's length.
        len: usize,
    },
    /// A write to a read-only device.
    #[error("the volume is read-only")]
    ReadOnly,
    /// A change that would touch a protected hidden volume, and every change after it.
    #[error("a write was refused to protect the hidden volume; nothing has been written since")]
    Protected,
    /// A write that takes more memory than a shadow may keep.
    #[error("more was written than memory may keep")]
    Full,
    /// The container could not be read or written.
    #[error("container: {0}")]
    Io(#[from] io::Error),
}

impl BlockError {
    /// Whether there is no room for what was to be written, so that nothing of it was, and it may be written later.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full => true,
            Self::Io(error) => {
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}

/// A buffer's length as a 64-bit quantity, which it always fits.
const fn byte_count(len: usize) -> u64 {
    len as u64
}
