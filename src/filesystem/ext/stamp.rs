//! Inodes, changed and written.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{
    super::{
        Fault, Result,
        bytes::{four_and_two, index, put, u16_at, u32_at},
    },
    features::HUGE_FILE,
    inode::{HUGE, Inode, OLD_LEN, sums},
    superblock::{Checksums, Superblock},
    volume::Volume,
};

/// One of the times of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Time {
    Accessed,
    Changed,
    Modified,
    Created,
}

impl Inode {
    /// A new one, of nobody, with nothing in it.
    pub(super) fn new(superblock: &Superblock, number: u32, generation: u32) -> Result<Self> {
        let mut raw = vec![0; index(superblock.inode_len)];
        if raw.len() > OLD_LEN {
            let extra = EXTRA.min(superblock.inode_len.saturating_sub(128));
            put(&mut raw, 0x80, &[u8::try_from(extra).unwrap_or_default(), 0]);
        }
        put(&mut raw, 0x64, &generation.to_le_bytes());
        Self::plain(superblock, number, &raw)
    }

    /// One whose checksum is not looked at.
    fn plain(superblock: &Superblock, number: u32, raw: &[u8]) -> Result<Self> {
        let mut raw = raw.to_vec();
        seal(superblock, number, &mut raw);
        Self::parse(superblock, number, &raw)
    }

    fn put(&mut self, at: usize, field: &[u8]) {
        put(&mut self.raw, at, field);
    }

    fn put_pair(&mut self, low: usize, high: usize, value: u32) {
        let [a, b, c, d] = value.to_le_bytes();
        self.put(low, &[a, b]);
        self.put(high, &[c, d]);
    }

    /// The kind of file and the bits of `chmod`.
    pub(super) fn set_mode(&mut self, mode: u16) {
        self.mode = mode;
        self.put(0, &mode.to_le_bytes());
    }

    pub(super) fn set_owner(&mut self, uid: u32) {
        self.uid = uid;
        self.put_pair(0x2, 0x78, uid);
    }

    pub(super) fn set_group(&mut self, gid: u32) {
        self.gid = gid;
        self.put_pair(0x18, 0x7a, gid);
    }

    pub(super) fn set_links(&mut self, links: u16) {
        self.links = links;
        self.put(0x1a, &links.to_le_bytes());
    }

    pub(super) fn set_size(&mut self, size: u64) {
        self.size = size;
        let [a, b, c, d, high @ ..] = size.to_le_bytes();
        self.put(0x4, &[a, b, c, d]);
        self.put(0x6c, &high);
    }

    pub(super) fn set_flags(&mut self, flags: u32) {
        self.flags = flags;
        self.put(0x20, &flags.to_le_bytes());
    }

    /// The sixty bytes in which its blocks begin.
    pub(super) fn set_root(&mut self, root: &[u8]) {
        self.put(0x28, root);
    }

    /// When it was deleted; or, while nothing names it, which file comes after it in the list of such.
    pub(super) fn set_deleted(&mut self, field: u32) {
        self.put(0x14, &field.to_le_bytes());
    }

    pub(super) fn deleted(&self) -> u32 {
        u32_at(&self.raw, 0x14)
    }

    pub(super) fn set_attribute_block(&mut self, block: u64) {
        self.attribute_block = block;
        let (low, high) = four_and_two(block);
        self.put(0x68, &low);
        self.put(0x76, &high);
    }

    /// Counts bytes on the medium.
    pub(super) fn set_allocated(&mut self, superblock: &Superblock, bytes: u64) -> Result<()> {
        let units = bytes / self.unit.max(1);
        let (low, high) = four_and_two(units);
        if superblock.features.has(HUGE_FILE) {
            if self.flags & HUGE == 0 && units >> 48 != 0 {
                return Err(Fault::TooLarge);
            }
            self.put(0x74, &high);
        } else if units >> 32 != 0 {
            return Err(Fault::TooLarge);
        }
        self.put(0x1c, &low);
        self.allocated = bytes;
        Ok(())
    }

    pub(super) fn set_time(&mut self, which: Time, time: SystemTime) {
        let (at, more) = match which {
            Time::Accessed => (0x8, 0x8c),
            Time::Changed => (0xc, 0x84),
            Time::Modified => (0x10, 0x88),
            Time::Created => (0x90, 0x94),
        };
        let extra = if self.raw.len() > OLD_LEN { index(u16_at(&self.raw, 0x80)) } else { 0 };
        let has_more = OLD_LEN.saturating_add(extra) >= more + 4;
        let (seconds, fraction) = fields(time, has_more);
        let time = super::inode::moment(seconds, fraction);
        match which {
            Time::Accessed => self.times.accessed = time,
            Time::Changed => self.times.changed = time,
            Time::Modified => self.times.modified = time,
            Time::Created if !has_more => return,
            Time::Created => self.times.created = time,
        }
        self.put(at, &seconds.to_le_bytes());
        if has_more {
            self.put(more, &fraction.to_le_bytes());
        }
    }
}

/// A time as two fields have it: the seconds, and two bits more of them with the nanoseconds.
fn fields(time: SystemTime, has_more: bool) -> (u32, u32) {
    let (seconds, nanoseconds) = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (i64::try_from(after.as_secs()).unwrap_or(i64::MAX), after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX).saturating_neg();
            match before.subsec_nanos() {
                0 => (seconds, 0),
                some => (seconds.saturating_sub(1), 1_000_000_000 - some),
            }
        }
    };
    let most = if has_more { (1 << 34) - (1 << 31) - 1 } else { i64::from(i32::MAX) };
    let seconds = seconds.clamp(i32::MIN.into(), most);
    let [a, b, c, d, ..] = seconds.to_le_bytes();
    let low = i32::from_le_bytes([a, b, c, d]);
    let [epoch, ..] = (seconds.saturating_sub(low.into()) >> 32).to_le_bytes();
    (low.cast_unsigned(), nanoseconds << 2 | u32::from(epoch & 3))
}

/// Puts the checksum of an inode in its place.
pub(super) fn seal(superblock: &Superblock, number: u32, raw: &mut [u8]) {
    let Checksums::All(seed) = superblock.checksums else { return };
    let extra = if raw.len() > OLD_LEN { index(u16_at(raw, 0x80)) } else { 0 };
    let (low, high) = sums(seed, number, raw, extra);
    put(raw, 0x7c, &low.to_le_bytes());
    if let Some(high) = high {
        put(raw, 0x82, &high.to_le_bytes());
    }
}

impl Volume {
    /// Writes an inode to its place.
    pub(super) fn put_inode(&mut self, inode: &Inode) -> Result<()> {
        let (block, start) = self.inode_place(inode.number)?;
        let bytes = self.store.change(block)?;
        let raw =
            bytes.get_mut(start..).and_then(|rest| rest.get_mut(..inode.raw.len())).ok_or(Fault::Damaged)?;
        raw.copy_from_slice(&inode.raw);
        seal(&self.superblock, inode.number, raw);
        Ok(())
    }
}

/// Bytes that a new inode has behind the first 128.
const EXTRA: u32 = 32;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_reads_as_it_was_written() {
        let at = |seconds: u64, nanoseconds| UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        let before = |seconds, nanoseconds| UNIX_EPOCH - Duration::new(seconds, nanoseconds);
        for time in [
            at(0, 0),
            at(0x7fff_ffff, 999_999_999),
            at(0x8000_0000, 1),
            at(1 << 32, 5),
            at(0x3_7fff_ffff, 7),
            before(1, 0),
            before(0, 1),
            before(0x8000_0000, 0),
            before(5, 999_999_999),
        ] {
            let (seconds, fraction) = fields(time, true);
            assert_eq!(super::super::inode::moment(seconds, fraction), time);
        }
        assert_eq!(fields(at(1 << 40, 0), true), fields(at(0x3_7fff_ffff, 0), true));
        assert_eq!(fields(at(1 << 40, 0), false).0, 0x7fff_ffff);
    }
}
