//! Where the free space at the end of a file system begins: what a hidden volume may take.
//!
//! Nothing is written, and nothing that is read is trusted: whoever made the file system may want the answer to be wrong, or
//! never to come. So each number is checked before it is used, and what is read is read in pieces of bounded size.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

mod bitmap;
mod bytes;
mod exfat;
mod ext;
mod extent;
mod fat;
mod ntfs;
#[cfg(test)]
mod tests;

use bytes::{Bytes, Fields};
pub use extent::{FileSystem, file_system};

use crate::{
    block::BlockDevice,
    error::{Error, ErrorKind, Result},
};

/// The free space at the end of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeTail {
    /// What the file system is called.
    pub filesystem: &'static str,
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
    let start = bytes.read(0, START_LEN.min(usize::try_from(bytes.len()).unwrap_or(START_LEN)))?;
    let start = Fields(&start);
    if exfat::is_one(&start) {
        let start = exfat::free_tail(&bytes, &start, limit)?;
        return Ok(FreeTail { filesystem: "exfat", start });
    }
    if ntfs::is_one(&start) {
        let start = ntfs::free_tail(&bytes, &start, limit)?;
        return Ok(FreeTail { filesystem: "ntfs", start });
    }
    if ext::is_one(&start) {
        let start = ext::free_tail(&bytes, &start, limit)?;
        return Ok(FreeTail { filesystem: "ext2/3/4", start });
    }
    if fat::is_one(&start) {
        let start = fat::free_tail(&bytes, &start, limit)?;
        return Ok(FreeTail { filesystem: "vfat", start });
    }
    let reason = match other_name(&start) {
        Some(name) => format!("the free space of {name} is not understood"),
        None => "no file system that is understood is in it".to_owned(),
    };
    Err(unsupported(reason).with_hint("a hidden volume needs FAT, exFAT, NTFS or ext2/3/4 around it"))
}

/// File systems that are only named.
fn other_name(start: &Fields<'_>) -> Option<&'static str> {
    let others: [(usize, &[u8], &str); 2] = [(0, b"XFSB", "xfs"), (0x1_0040, b"_BHRfS_M", "btrfs")];
    others.into_iter().find(|(at, magic, _)| start.bytes(*at, magic.len()).ok() == Some(magic)).map(|it| it.2)
}

fn damaged(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Damaged, what).with_hint("check the file system first")
}

fn unsupported(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, reason)
}

/// The first bytes hold all that tells file systems apart.
const START_LEN: usize = 0x1_1000;
