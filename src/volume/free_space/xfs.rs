//! The log of XFS (Linux, `fs/xfs/libxfs/xfs_log_format.h`; all numbers are big-endian).

use super::{
    bytes::{Bytes, Fields},
    damaged, unsupported,
};
use crate::error::Result;

/// Whether the log ends with the record that unmounting writes: nothing is left to be replayed then.
///
/// # Errors
/// `Unsupported` where the log lies on another device, `Damaged`, what reading gave.
pub(super) fn is_clean(bytes: &Bytes<'_>, start: &Fields<'_>) -> Result<bool> {
    let log = Log::parse(bytes, start)?;
    let head = log.head()?;
    // Records of a log that was left clean are whole, so the last one begins within its longest length.
    let nearest = (1..=MOST_BLOCKS.min(log.blocks)).map(|distance| log.before(head, distance));
    for block in nearest {
        let record = log.block(block)?;
        let record = Fields(&record);
        if big(&record, 0)? != RECORD {
            continue;
        }
        let header_blocks = match (big(&record, 8)?, big(&record, 320)?) {
            (2, size) if size > HEADER_COVERS => u64::from(size.div_ceil(HEADER_COVERS)),
            _ => 1,
        };
        let operations = u64::from(big(&record, 12)?).div_ceil(BLOCK);
        let first = block.saturating_add(header_blocks);
        let end = first.saturating_add(operations);
        let is_one = big(&record, 40)? == 1 && end.checked_rem(log.blocks) == head.checked_rem(log.blocks);
        let operation = log.block(first.checked_rem(log.blocks).unwrap_or_default())?;
        return Ok(is_one && Fields(&operation).u8(9)? & UNMOUNT != 0);
    }
    Ok(false)
}

/// A log within the volume.
#[derive(Debug)]
struct Log<'a> {
    bytes: &'a Bytes<'a>,
    /// In bytes of the volume.
    start: u64,
    blocks: u64,
}

impl<'a> Log<'a> {
    fn parse(bytes: &'a Bytes<'a>, start: &Fields<'_>) -> Result<Self> {
        let no = || damaged("its superblock is not an XFS one");
        let block_len = u64::from(big(start, 4)?);
        let place = start.u64(48)?.swap_bytes();
        let (group_blocks, log_blocks) = (u64::from(big(start, 84)?), u64::from(big(start, 96)?));
        let group_shift = u32::from(start.u8(124)?);
        if place == 0 {
            return Err(unsupported("its log lies on another device"));
        }
        if !block_len.is_power_of_two() || !(512..=65536).contains(&block_len) || group_shift > 31 {
            return Err(no());
        }
        let group = place.checked_shr(group_shift).ok_or_else(no)?;
        let within = place & (1_u64.checked_shl(group_shift).ok_or_else(no)?).saturating_sub(1);
        let first = group.checked_mul(group_blocks).and_then(|block| block.checked_add(within));
        let start = first.and_then(|block| block.checked_mul(block_len)).ok_or_else(no)?;
        let len = log_blocks.checked_mul(block_len).filter(|len| *len > 0).ok_or_else(no)?;
        let end = start.checked_add(len).ok_or_else(no)?;
        if end > bytes.len() {
            return Err(damaged("its log lies past its end"));
        }
        Ok(Self { bytes, start, blocks: len / BLOCK })
    }

    /// The block behind the last one that was written; the number of blocks where that is the last of all.
    ///
    /// The log is written round after round, and each block begins with the number of its round.
    fn head(&self) -> Result<u64> {
        let first = self.round(0)?;
        if self.round(self.blocks.saturating_sub(1))? == first {
            return Ok(self.blocks);
        }
        let (mut low, mut high) = (0, self.blocks.saturating_sub(1));
        // `low` is of this round, `high` of the one before.
        while high.saturating_sub(low) > 1 {
            let middle = low.midpoint(high);
            if self.round(middle)? == first {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(high)
    }

    fn round(&self, block: u64) -> Result<u32> {
        let found = self.block(block)?;
        let found = Fields(&found);
        // The header of a record has it behind its magic number.
        if big(&found, 0)? == RECORD { big(&found, 4) } else { big(&found, 0) }
    }

    /// The block so many before another, round about.
    fn before(&self, block: u64, distance: u64) -> u64 {
        let sum = block.saturating_add(self.blocks).saturating_sub(distance);
        sum.checked_rem(self.blocks).unwrap_or_default()
    }

    fn block(&self, block: u64) -> Result<Vec<u8>> {
        let offset = block.saturating_mul(BLOCK).saturating_add(self.start);
        self.bytes.read(offset, 512)
    }
}

fn big(fields: &Fields<'_>, at: usize) -> Result<u32> {
    Ok(fields.u32(at)?.swap_bytes())
}

/// The log's unit, in bytes, whatever the sectors are.
const BLOCK: u64 = 512;
/// `XLOG_HEADER_MAGIC_NUM`.
const RECORD: u32 = 0xfeed_babe;
/// `XLOG_UNMOUNT_TRANS`.
const UNMOUNT: u8 = 0x20;
/// Bytes of a record for which one block of header suffices (`XLOG_HEADER_CYCLE_SIZE`).
const HEADER_COVERS: u32 = 32 << 10;
/// The longest record, 256 KiB, with its headers.
const MOST_BLOCKS: u64 = 512 + 8;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test that panics has failed")]
mod tests {
    use super::super::tests::device;
    use super::*;

    /// A volume of 1 MiB whose log are the 32 blocks from its second group's fourth on.
    fn volume() -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        bytes[..4].copy_from_slice(b"XFSB");
        put(&mut bytes, 4, 4096);
        bytes[48..56].copy_from_slice(&(1_u64 << 7 | 4).to_be_bytes());
        put(&mut bytes, 84, 100);
        put(&mut bytes, 96, 4);
        bytes[124] = 7;
        bytes
    }

    const LOG: usize = (100 + 4) * 4096;

    fn put(bytes: &mut [u8], at: usize, value: u32) {
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// Writes a record of so many blocks, and gives where it ends.
    fn record(bytes: &mut [u8], block: usize, round: u32, (blocks, operations, flags): (usize, u32, u8)) {
        let at = LOG + block * 512;
        for (field, value) in
            [(0, RECORD), (4, round), (8, 2), (12, u32::try_from(blocks * 512).unwrap()), (40, operations)]
        {
            put(bytes, at + field, value);
        }
        put(bytes, at + 320, HEADER_COVERS);
        for data in 1..=blocks {
            put(bytes, at + data * 512, round);
        }
        bytes[at + 512 + 9] = flags;
    }

    fn is_clean(bytes: &[u8]) -> bool {
        let device = device(bytes.to_vec());
        super::is_clean(&Bytes::new(&device), &Fields(bytes)).unwrap()
    }

    #[test]
    fn a_log_is_clean_where_its_last_record_is_that_of_unmounting() {
        let mut bytes = volume();
        record(&mut bytes, 0, 1, (1, 1, UNMOUNT));
        assert!(is_clean(&bytes), "as mkfs leaves it");
        record(&mut bytes, 2, 1, (3, 4, 0));
        assert!(!is_clean(&bytes));
        record(&mut bytes, 6, 1, (1, 1, UNMOUNT));
        assert!(is_clean(&bytes));
        bytes[LOG + 7 * 512 + 9] = 0x1;
        assert!(!is_clean(&bytes), "another operation");
    }

    #[test]
    fn a_log_is_read_from_where_its_last_round_ends() {
        let mut bytes = volume();
        for block in (0..32).step_by(2) {
            record(&mut bytes, block, 1, (1, 2, 0));
        }
        record(&mut bytes, 30, 1, (1, 1, UNMOUNT));
        assert!(is_clean(&bytes), "the round is full");
        for block in (0..10).step_by(2) {
            record(&mut bytes, block, 2, (1, 2, 0));
        }
        assert!(!is_clean(&bytes));
        record(&mut bytes, 10, 2, (1, 1, UNMOUNT));
        assert!(is_clean(&bytes));
    }

    #[test]
    fn a_log_that_cannot_be_is_no_panic() {
        for (at, value) in [(4, 0), (4, 3), (84, u32::MAX), (96, 0), (96, u32::MAX), (52, 0), (52, u32::MAX)]
        {
            let mut bytes = volume();
            put(&mut bytes, at, value);
            let device = device(bytes.clone());
            assert!(super::is_clean(&Bytes::new(&device), &Fields(&bytes)).is_err(), "{at} {value}");
        }
    }
}
