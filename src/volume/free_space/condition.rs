//! Whether a file system was left clean.

use super::{
    bytes::{Bytes, Fields},
    exfat, ext, fat, ntfs, xfs,
};
use crate::{
    block::BlockDevice,
    error::Result,
    format::signature::{self, FileSystem, Signature},
};

/// How the last use of a file system ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing is left to do.
    Clean,
    /// What was written last stands in its journal alone, and shows once that was replayed.
    Journal,
    /// Something was under way, and no journal tells what, or errors were found.
    Unclean,
}

/// How the last use of the file system at the start of `device` ended. `None` where none is known.
///
/// # Errors
/// What reading gave, and what is not understood.
pub fn condition(device: &dyn BlockDevice) -> Result<Option<(FileSystem, Condition)>> {
    let bytes = Bytes::new(device);
    let head = bytes.head()?;
    let Some(file_system) = signature::recognise(&head).and_then(Signature::file_system) else {
        return Ok(None);
    };
    let start = Fields(&head);
    let clean_or = |is_clean: bool, other: Condition| if is_clean { Condition::Clean } else { other };
    let condition = match file_system {
        FileSystem::Ext => ext::condition(&start)?,
        FileSystem::Xfs => clean_or(xfs::is_clean(&bytes, &start)?, Condition::Journal),
        FileSystem::Btrfs => clean_or(start.u64(BTRFS_LOG_ROOT)? == 0, Condition::Journal),
        FileSystem::Ntfs => clean_or(ntfs::is_clean(&bytes, &start)?, Condition::Journal),
        // Nothing is under way in what is written as a whole; and what UDF marks nobody here repairs.
        FileSystem::Iso | FileSystem::Udf => Condition::Clean,
        FileSystem::Exfat => clean_or(exfat::is_clean(&start)?, Condition::Unclean),
        FileSystem::Fat => clean_or(fat::is_clean(&bytes, &start)?, Condition::Unclean),
    };
    Ok(Some((file_system, condition)))
}

/// Where the superblock of btrfs keeps the root of its log tree, in bytes of the volume; 0 where there is none.
const BTRFS_LOG_ROOT: usize = 0x1_0060;
