//! How large a file system says that it is.

use super::{
    START_LEN,
    bytes::{Bytes, Fields},
    exfat, ext, fat,
};
use crate::{block::BlockDevice, error::Result};

/// A file system, by its own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    /// What it is called.
    pub name: &'static str,
    /// The bytes that it takes.
    pub len: u64,
}

impl FileSystem {
    /// What is missing where a volume of `volume_len` bytes holds the file system: in so many words, as a fact.
    pub fn missing_end(&self, volume_len: u64) -> Option<String> {
        let missing = self.len.checked_sub(volume_len).filter(|missing| *missing > 0)?;
        Some(format!(
            "the end of the container is missing, {missing} bytes: the {} in it has {}, the volume {volume_len}",
            self.name, self.len
        ))
    }
}

/// What the file system at the start of `device` says of its size, whatever the device's is. `None` where none is known.
///
/// # Errors
/// What reading gave.
pub fn file_system(device: &dyn BlockDevice) -> Result<Option<FileSystem>> {
    let bytes = Bytes::new(device);
    let len = START_LEN.min(usize::try_from(bytes.len()).unwrap_or(START_LEN));
    Ok(by_superblock(&Fields(&bytes.read(0, len)?)))
}

fn by_superblock(start: &Fields<'_>) -> Option<FileSystem> {
    let has = |at: usize, magic: &[u8]| start.bytes(at, magic.len()).ok() == Some(magic);
    let u64_at = |at| start.u64(at).ok();
    let (name, len) = if exfat::is_one(start) {
        let shift = start.u8(108).ok().filter(|shift| (9..=12).contains(shift))?;
        ("exfat", u64_at(72)?.checked_mul(1_u64.checked_shl(shift.into())?)?)
    } else if has(3, b"NTFS    ") {
        // The copy of the boot sector behind them does not count.
        ("ntfs", u64::from(start.u16(11).ok()?).checked_mul(u64_at(40)?)?)
    } else if has(0, b"XFSB") {
        // Big-endian numbers.
        let block_len = start.u32(4).ok()?.swap_bytes();
        ("xfs", u64_at(8)?.swap_bytes().checked_mul(block_len.into())?)
    } else if has(BTRFS + 64, b"_BHRfS_M") {
        // What it takes of this device: it may have several.
        ("btrfs", u64_at(BTRFS + 0xd1)?)
    } else if ext::is_one(start) {
        ("ext2/3/4", ext_len(start)?)
    } else if fat::is_one(start) {
        let sectors =
            start.u16(19).ok().filter(|sectors| *sectors > 0).map(u32::from).or(start.u32(32).ok())?;
        ("vfat", u64::from(start.u16(11).ok()?).checked_mul(sectors.into())?)
    } else {
        return None;
    };
    Some(FileSystem { name, len }).filter(|found| found.len > 0)
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
