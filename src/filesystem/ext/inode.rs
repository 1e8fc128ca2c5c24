//! Inodes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{
    super::{
        Fault, Kind, Result,
        bytes::{index, u16_at, u32_at},
    },
    checksum::crc32c_of,
    features::{HUGE_FILE, LARGE_DIR},
    superblock::{Checksums, Superblock},
};

/// A file.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub(super) number: u32,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u16,
    pub(super) size: u64,
    /// Bytes on the medium.
    pub(super) allocated: u64,
    /// The unit in which the medium counts those.
    pub(super) unit: u64,
    pub(super) flags: u32,
    pub(super) generation: u32,
    /// The block of its extended attributes, or 0.
    pub(super) attribute_block: u64,
    pub(super) times: Times,
    /// All of it.
    pub(super) raw: Box<[u8]>,
}

/// When something happened to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) accessed: SystemTime,
    pub(super) changed: SystemTime,
    pub(super) modified: SystemTime,
    pub(super) created: SystemTime,
}

impl Inode {
    /// Reads it from its place in the table.
    pub(super) fn parse(superblock: &Superblock, number: u32, raw: &[u8]) -> Result<Self> {
        let extra = if raw.len() > OLD_LEN { index(u16_at(raw, 0x80)) } else { 0 };
        let extra =
            if extra.is_multiple_of(4) && extra <= raw.len().saturating_sub(OLD_LEN) { extra } else { 0 };
        if !is_right(superblock, number, raw, extra) {
            return Err(Fault::Damaged);
        }
        let flags = u32_at(raw, 0x20);
        let mode = u16_at(raw, 0);
        let is_long = mode & 0xf000 != 0x4000 || superblock.features.has(LARGE_DIR);
        let size_high = if is_long { u64::from(u32_at(raw, 0x6c)) << 32 } else { 0 };
        let size = size_high | u64::from(u32_at(raw, 0x4));
        if i64::try_from(size).is_err() {
            return Err(Fault::Damaged);
        }
        let is_huge = superblock.features.has(HUGE_FILE);
        let high = if is_huge { u64::from(u16_at(raw, 0x74)) << 32 } else { 0 };
        let unit = if is_huge && flags & HUGE != 0 { u64::from(superblock.block_len) } else { 512 };
        let pair = |low: usize, high: usize| u32::from(u16_at(raw, high)) << 16 | u32::from(u16_at(raw, low));
        // The second field counts where the extra space of the inode reaches so far.
        let moment = |at: usize, more: usize| {
            let has_more = OLD_LEN.saturating_add(extra) >= more.saturating_add(4);
            moment(u32_at(raw, at), if has_more { u32_at(raw, more) } else { 0 })
        };
        let times = Times {
            accessed: moment(0x8, 0x8c),
            changed: moment(0xc, 0x84),
            modified: moment(0x10, 0x88),
            created: if extra >= 0x18 { moment(0x90, 0x94) } else { UNIX_EPOCH },
        };
        Ok(Self {
            number,
            mode,
            uid: pair(0x2, 0x78),
            gid: pair(0x18, 0x7a),
            links: u16_at(raw, 0x1a),
            size,
            allocated: (high | u64::from(u32_at(raw, 0x1c))).saturating_mul(unit),
            unit,
            flags,
            generation: u32_at(raw, 0x64),
            attribute_block: u64::from(u16_at(raw, 0x76)) << 32 | u64::from(u32_at(raw, 0x68)),
            times,
            raw: raw.into(),
        })
    }

    /// What it is; none of the known is damage.
    pub(super) fn kind(&self) -> Result<Kind> {
        Ok(match self.mode & 0xf000 {
            0x1000 => Kind::Pipe,
            0x2000 => Kind::CharacterDevice,
            0x4000 => Kind::Directory,
            0x6000 => Kind::BlockDevice,
            0x8000 => Kind::File,
            0xa000 => Kind::Link,
            0xc000 => Kind::Socket,
            _ => return Err(Fault::Damaged),
        })
    }

    pub(super) const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The sixty bytes in which the file's blocks, or the file itself, begin.
    pub(super) fn root(&self) -> &[u8] {
        self.raw.get(0x28..0x64).unwrap_or_default()
    }

    /// What lies behind its fields: extended attributes.
    pub(super) fn rest(&self) -> &[u8] {
        if self.raw.len() <= OLD_LEN {
            return &[];
        }
        self.raw.get(OLD_LEN.saturating_add(index(u16_at(&self.raw, 0x80)))..).unwrap_or_default()
    }

    /// Of a device, its number in the newer way of packing it. Small ones are the same in both.
    pub(super) fn device(&self) -> u32 {
        match u32_at(self.root(), 0) {
            0 => u32_at(self.root(), 4),
            old => old & 0xffff,
        }
    }
}

fn is_right(superblock: &Superblock, number: u32, raw: &[u8], extra: usize) -> bool {
    let Checksums::All(seed) = superblock.checksums else { return true };
    let (low, high) = sums(seed, number, raw, extra);
    u16_at(raw, 0x7c) == low && high.is_none_or(|high| u16_at(raw, 0x82) == high)
        // A table that was never written: nothing in it is a file.
        || raw.iter().all(|byte| *byte == 0)
}

/// Both halves of an inode's checksum; small inodes have the first alone.
pub(super) fn sums(seed: u32, number: u32, raw: &[u8], extra: usize) -> (u16, Option<u16>) {
    let part = |from: usize, to: usize| raw.get(from..to).unwrap_or_default();
    let has_high = extra >= 4;
    let (number, generation) = (number.to_le_bytes(), part(0x64, 0x68));
    let start = [&number[..], generation, part(0, 0x7c), &[0; 2], part(0x7e, OLD_LEN)];
    let sum = crc32c_of(seed, &start);
    let sum = if has_high {
        crc32c_of(sum, &[part(0x80, 0x82), &[0; 2], part(0x84, raw.len())])
    } else {
        crc32c_of(sum, &[part(OLD_LEN, raw.len())])
    };
    let [a, b, c, d] = sum.to_le_bytes();
    (u16::from_le_bytes([a, b]), has_high.then(|| u16::from_le_bytes([c, d])))
}

/// 32 bits of seconds, with a sign, then two bits of epoch and thirty of nanoseconds.
pub(super) fn moment(seconds: u32, more: u32) -> SystemTime {
    let epoch = u64::from(more & 3) << 32;
    let nanoseconds = u64::from(more >> 2).min(999_999_999);
    let after = if seconds >> 31 == 0 {
        UNIX_EPOCH.checked_add(Duration::from_secs(epoch | u64::from(seconds)))
    } else {
        let before = u64::from(seconds.wrapping_neg());
        match epoch.checked_sub(before) {
            Some(after) => UNIX_EPOCH.checked_add(Duration::from_secs(after)),
            None => UNIX_EPOCH.checked_sub(Duration::from_secs(before.saturating_sub(epoch))),
        }
    };
    after.and_then(|time| time.checked_add(Duration::from_nanos(nanoseconds))).unwrap_or(UNIX_EPOCH)
}

/// Whether a number is that of a file that a name may lead to: the root directory, or none of those kept for the file system.
pub(super) const fn is_nameable(superblock: &Superblock, number: u32) -> bool {
    number == ROOT || number >= superblock.first_inode && number <= superblock.inodes
}

/// The root directory.
pub(super) const ROOT: u32 = 2;
/// What an inode had before there was more.
pub(super) const OLD_LEN: usize = 128;

/// A directory with an index.
pub(super) const INDEXED: u32 = 0x1000;
/// Its blocks are counted in blocks.
pub(super) const HUGE: u32 = 0x4_0000;
/// Mapped by extents.
pub(super) const EXTENTS: u32 = 0x8_0000;
/// It holds the value of an extended attribute.
pub(super) const ATTRIBUTE_VALUE: u32 = 0x20_0000;
/// The content is in the inode.
pub(super) const INLINE: u32 = 0x1000_0000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_34_bits_and_a_sign() {
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(moment(0x7fff_ffff, 0), at(0x7fff_ffff));
        assert_eq!(moment(0x8000_0000, 0), UNIX_EPOCH - Duration::from_secs(0x8000_0000));
        assert_eq!(moment(0xffff_ffff, 4), UNIX_EPOCH - Duration::from_secs(1) + Duration::from_nanos(1));
        assert_eq!(moment(0x8000_0000, 1), at(0x8000_0000));
        assert_eq!(moment(0, 1), at(1 << 32));
        assert_eq!(moment(0x7fff_ffff, 3), at(0x3_7fff_ffff));
        let late = moment(5, 999_999_999 << 2);
        assert_eq!(late, at(5) + Duration::from_nanos(999_999_999));
    }
}
