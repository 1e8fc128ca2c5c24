//! Where the free space at the end of a file system begins: what a hidden volume may take.
//!
//! Nothing is written, and nothing that is read is trusted: whoever made the file system may want the answer to be wrong, or
//! never to come. So each number is checked before it is used, and what is read is read in pieces of bounded size.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

mod bitmap;
mod bytes;
mod condition;
mod exfat;
mod ext;
mod extent;
mod fat;
mod ntfs;
#[cfg(test)]
mod tests;
mod xfs;

use bytes::{Bytes, Fields};
pub use condition::{Condition, condition};
pub use extent::{Extent, extent};

use crate::{
    block::BlockDevice,
    error::{Error, ErrorKind, Result},
    format::signature::{self, FileSystem, Signature},
};

/// The free space at the end of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeTail {
    /// Which file system it is.
    pub file_system: FileSystem,
    /// The byte of the volume from which on nothing is in use; `limit` where the last byte before it is.
    pub start: u64,
}

/// Finds where the file system on `device` stops using bytes before byte `limit` (VC-HID-02, -04).
///
/// # Errors
/// `Unsupported` where there is no file system that is understood, or it needs repair first; `Damaged` where it contradicts
/// itself or the device.
pub fn free_tail(device: &dyn BlockDevice, limit: u64) -> Result<FreeTail> {
    let bytes = Bytes::new(device);
    let limit = limit.min(bytes.len());
    let head = bytes.head()?;
    let found = signature::recognise(&head);
    let Some(file_system) = found.and_then(Signature::file_system) else { return Err(not_understood(found)) };
    let start = Fields(&head);
    let start = match file_system {
        FileSystem::Exfat => exfat::free_tail(&bytes, &start, limit)?,
        FileSystem::Ntfs => ntfs::free_tail(&bytes, &start, limit)?,
        FileSystem::Ext => ext::free_tail(&bytes, &start, limit)?,
        FileSystem::Fat => fat::free_tail(&bytes, &start, limit)?,
        FileSystem::Xfs | FileSystem::Btrfs | FileSystem::Iso | FileSystem::Udf => {
            return Err(not_understood(found));
        }
    };
    Ok(FreeTail { file_system, start })
}

fn not_understood(found: Option<&Signature>) -> Error {
    let reason = match found {
        Some(found) => format!("{} is in it, whose free space is not understood", found.name),
        None => "no file system that is understood is in it".to_owned(),
    };
    unsupported(reason).with_hint("a hidden volume needs FAT, exFAT, NTFS or ext2/3/4 around it")
}

fn damaged(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Damaged, what).with_hint("check the file system first")
}

/// What was changed last may not be in the tables yet.
fn unclean(hint: &str) -> Error {
    unsupported("its file system was not unmounted cleanly").with_hint(hint)
}

fn unsupported(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, reason)
}
