//! How large a file system says that it is.

use super::{
    bytes::{Bytes, Fields},
    ext, fat,
};
use crate::{
    block::BlockDevice,
    error::Result,
    format::signature::{self, FileSystem, Signature},
};

/// How much a file system takes, by its own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Which one it is.
    pub file_system: FileSystem,
    /// The bytes that it takes.
    pub len: u64,
}

impl Extent {
    /// What is missing where a volume of `volume_len` bytes holds the file system: in so many words, as a fact.
    pub fn missing_end(&self, volume_len: u64) -> Option<String> {
        let missing = self.len.checked_sub(volume_len).filter(|missing| *missing > 0)?;
        Some(format!(
            "the end of the container is missing, {missing} bytes: the {} in it has {}, the volume {volume_len}",
            self.file_system.name(),
            self.len
        ))
    }
}

/// What the file system at the start of `device` says of its size, whatever the device's is. `None` where none is known.
///
/// # Errors
/// What reading gave.
pub fn extent(device: &dyn BlockDevice) -> Result<Option<Extent>> {
    let head = Bytes::new(device).head()?;
    let Some(file_system) = signature::recognise(&head).and_then(Signature::file_system) else {
        return Ok(None);
    };
    let len = len(file_system, &Fields(&head)).filter(|&len| len > 0);
    Ok(len.map(|len| Extent { file_system, len }))
}

fn len(file_system: FileSystem, start: &Fields<'_>) -> Option<u64> {
    let u64_at = |at| start.u64(at).ok();
    match file_system {
        FileSystem::Exfat => {
            let shift = start.u8(108).ok().filter(|shift| (9..=12).contains(shift))?;
            u64_at(72)?.checked_mul(1_u64.checked_shl(shift.into())?)
        }
        // The copy of the boot sector behind them does not count.
        FileSystem::Ntfs => u64::from(start.u16(11).ok()?).checked_mul(u64_at(40)?),
        FileSystem::Xfs => {
            // Big-endian numbers.
            let block_len = start.u32(4).ok()?.swap_bytes();
            u64_at(8)?.swap_bytes().checked_mul(block_len.into())
        }
        // What it takes of this device: it may have several.
        FileSystem::Btrfs => u64_at(BTRFS + 0xd1),
        FileSystem::Ext => ext_len(start),
        FileSystem::Fat => fat::len(start),
        // An image may be longer or shorter than it says.
        FileSystem::Iso | FileSystem::Udf => None,
    }
}

fn ext_len(start: &Fields<'_>) -> Option<u64> {
    let word = |at: usize| start.u32(ext::SUPERBLOCK.saturating_add(at)).ok();
    let shift = word(24).filter(|shift| *shift <= 6)?;
    let is_64bit = word(96)? & 0x80 != 0;
    let high = if is_64bit { u64::from(word(0x150)?) << 32 } else { 0 };
    (high | u64::from(word(4)?)).checked_mul(1024_u64.checked_shl(shift)?)
}

/// Where btrfs has its superblock, in bytes.
const BTRFS: usize = 0x1_0000;
