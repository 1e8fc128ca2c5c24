//! The journal (JBD2), written: transactions in the log, and from there to their places.
//!
//! A commit is on the medium before anything of it is written to its place, and everything is at its place, flushed, before the
//! start of the log is moved on. What files hold is written before the commit that makes it theirs.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    super::{
        Fault, Result,
        bytes::{index, put, short, u32_at},
    },
    checksum::{crc32c, crc32c_of},
    journal::{
        self, ASYNC_COMMIT, CHECKSUM, COMMIT, CSUM_V2, CSUM_V3, Checks, DESCRIPTOR, ESCAPED, Format, LAST,
        REVOKE, SAME_UUID, WIDE,
    },
    medium::{Medium, Run},
    running::Transaction,
    store::{Block, MARK},
    superblock,
    volume::Volume,
};

/// A log that is written.
#[derive(Debug)]
pub(super) struct Log {
    format: Format,
    places: Vec<u64>,
    /// The next block to write, and how many there are since the start.
    head: u32,
    used: u32,
    sequence: u32,
    superblock: Vec<u8>,
}

impl Log {
    /// The log of a volume that was replayed, or why it cannot be written.
    pub(super) fn open(volume: &Volume) -> Result<Self, &'static str> {
        let (mut format, sequence, mut superblock) = journal::written_on(volume)?;
        if format.end > LONGEST {
            return Err("its journal is too long");
        }
        let places = journal::places(volume, &format).map_err(journal::unusable)?;
        if format.end.saturating_sub(format.first) < SHORTEST {
            return Err("its journal is too short");
        }
        superblock.truncate(superblock::LEN);
        let compatible = be_at(&superblock, 0x24) & !CHECKSUM;
        let mut incompatible = be_at(&superblock, 0x28) & !ASYNC_COMMIT | REVOKES;
        // As the kernel has it: nothing is in the log that was written in another way.
        if volume.superblock.features.has(super::features::WIDE) {
            incompatible |= WIDE;
        }
        if volume.seed().is_some() {
            incompatible = incompatible & !CSUM_V2 | CSUM_V3;
            put(&mut superblock, CHECKSUM_TYPE, &[CRC32C]);
        }
        format.write_with(incompatible, &superblock);
        put(&mut superblock, 0x24, &compatible.to_be_bytes());
        put(&mut superblock, 0x28, &incompatible.to_be_bytes());
        put(&mut superblock, S_HEAD, &[0; 4]);
        let head = format.first;
        Ok(Self { format, places, head, used: 0, sequence, superblock })
    }

    /// Blocks that the log may take before they are brought to their places.
    pub(super) fn room(&self, block_len: u32) -> u32 {
        let most = MOST_KEPT / block_len.max(1);
        self.format.end.saturating_sub(self.format.first).saturating_sub(1).min(most)
    }

    /// Has the journal begin with what is written next; or be empty, where it `is_closed`.
    pub(super) fn put_start(&mut self, medium: &Medium, is_closed: bool) -> Result<()> {
        let start = if is_closed { 0 } else { self.head };
        put(&mut self.superblock, 0x18, &self.sequence.to_be_bytes());
        put(&mut self.superblock, 0x1c, &start.to_be_bytes());
        if self.format.checks.seed().is_some() {
            put(&mut self.superblock, 0xfc, &[0; 4]);
            let sum = crc32c(!0, &self.superblock);
            put(&mut self.superblock, 0xfc, &sum.to_be_bytes());
        }
        let place = self.places.first().copied().ok_or(Fault::Damaged)?;
        medium.write(&self.superblock, place.saturating_mul(medium.block_len.into()))?;
        medium.flush()?;
        self.used = 0;
        Ok(())
    }

    /// Brings what was committed to its places, and begins anew.
    pub(super) fn checkpoint(
        &mut self,
        medium: &Medium,
        committed: &BTreeMap<u64, Arc<Block>>,
        is_closed: bool,
    ) -> Result<()> {
        medium.write_blocks(committed)?;
        medium.flush()?;
        self.put_start(medium, is_closed)
    }

    /// Whether what was committed must be brought to its places before there is room for this.
    pub(super) fn is_full(&self, transaction: &Transaction, block_len: u32) -> bool {
        self.used.saturating_add(self.needed(transaction, block_len)) > self.room(block_len)
    }

    /// Blocks that a transaction takes.
    fn needed(&self, transaction: &Transaction, block_len: u32) -> u32 {
        let (blocks, revoked) = (transaction.blocks.len(), transaction.revoked.len());
        let descriptors = blocks.div_ceil(self.tags_in(block_len));
        let revocations = revoked.div_ceil(self.revoked_in(block_len));
        short(blocks.saturating_add(descriptors).saturating_add(revocations).saturating_add(1))
    }

    /// Writes a transaction. It is on the medium when this returns.
    pub(super) fn commit(&mut self, medium: &Medium, transaction: &Transaction) -> Result<()> {
        let needed = self.needed(transaction, medium.block_len);
        if needed > self.format.end.saturating_sub(self.format.first).saturating_sub(1) {
            return Err(Fault::NoSpace);
        }
        let mut run = Run::default();
        let revoked: Vec<u64> = transaction.revoked.iter().copied().collect();
        for part in revoked.chunks(self.revoked_in(medium.block_len)) {
            let block = self.revocation(part, medium.block_len);
            self.append(medium, &mut run, &block)?;
        }
        let blocks: Vec<(u64, &Block)> =
            transaction.blocks.iter().map(|(number, block)| (*number, &**block)).collect();
        for part in blocks.chunks(self.tags_in(medium.block_len)) {
            self.append_described(medium, &mut run, part)?;
        }
        // Where the commit will be: what an earlier round left there would spoil one of which only a part is written.
        let place = self.places.get(index(self.head)).copied().ok_or(Fault::Damaged)?;
        run.add(medium, place, &vec![0; index(medium.block_len)])?;
        run.write(medium)?;
        // All that this commit names is on the medium before it.
        medium.flush()?;
        let block = self.commit_block(medium.block_len);
        self.append(medium, &mut run, &block)?;
        run.write(medium)?;
        medium.flush()?;
        self.sequence = self.sequence.wrapping_add(1);
        Ok(())
    }

    fn tags_in(&self, block_len: u32) -> usize {
        let tail = if self.format.checks.seed().is_some() { 4 } else { 0 };
        (index(block_len).saturating_sub(HEADER + UUID + tail) / self.format.tag_len()).max(1)
    }

    fn revoked_in(&self, block_len: u32) -> usize {
        let entry = if self.format.is_64bit { 8 } else { 4 };
        (index(block_len).saturating_sub(HEADER + 4 + 4) / entry).max(1)
    }

    /// A descriptor, and the blocks that it describes.
    fn append_described(&mut self, medium: &Medium, run: &mut Run, blocks: &[(u64, &Block)]) -> Result<()> {
        let mut descriptor = self.header(DESCRIPTOR, medium.block_len);
        let mut contents = Vec::with_capacity(blocks.len());
        let mut at = HEADER;
        for (nth, (number, block)) in blocks.iter().enumerate() {
            let mut bytes = Cow::from(&*block.bytes);
            let mut flags = if nth == 0 { 0 } else { SAME_UUID };
            if bytes.starts_with(&MARK) {
                put(bytes.to_mut(), 0, &[0; 4]);
                flags |= ESCAPED;
            }
            if nth + 1 == blocks.len() {
                flags |= LAST;
            }
            self.put_tag(&mut descriptor, at, *number, flags, &bytes);
            at = at.saturating_add(self.format.tag_len());
            if nth == 0 {
                put(&mut descriptor, at, self.superblock.get(0x30..0x40).unwrap_or_default());
                at = at.saturating_add(UUID);
            }
            contents.push(bytes);
        }
        self.put_tail(&mut descriptor);
        self.append(medium, run, &descriptor)?;
        contents.iter().try_for_each(|bytes| self.append(medium, run, bytes))
    }

    fn put_tag(&self, descriptor: &mut [u8], at: usize, number: u64, flags: u32, bytes: &[u8]) {
        let [a, b, c, d, low @ ..] = number.to_be_bytes();
        let sum = self
            .format
            .checks
            .seed()
            .map_or(0, |seed| crc32c_of(seed, &[&self.sequence.to_be_bytes(), bytes]));
        put(descriptor, at, &low);
        let [flags_a, flags_b, flags_c, flags_d] = flags.to_be_bytes();
        let [.., sum_c, sum_d] = sum.to_be_bytes();
        if let Checks::V3(_) = self.format.checks {
            put(descriptor, at + 4, &[flags_a, flags_b, flags_c, flags_d]);
            put(descriptor, at + 8, &[a, b, c, d]);
            put(descriptor, at + 12, &sum.to_be_bytes());
            return;
        }
        put(descriptor, at + 4, &[sum_c, sum_d, flags_c, flags_d]);
        if self.format.is_64bit {
            put(descriptor, at + 8, &[a, b, c, d]);
        }
    }

    fn revocation(&self, numbers: &[u64], block_len: u32) -> Vec<u8> {
        let mut block = self.header(REVOKE, block_len);
        let mut at = HEADER + 4;
        for number in numbers {
            let [a, b, c, d, low @ ..] = number.to_be_bytes();
            if self.format.is_64bit {
                put(&mut block, at, &[a, b, c, d]);
                at = at.saturating_add(4);
            }
            put(&mut block, at, &low);
            at = at.saturating_add(4);
        }
        put(&mut block, HEADER, &short(at).to_be_bytes());
        self.put_tail(&mut block);
        block
    }

    fn commit_block(&self, block_len: u32) -> Vec<u8> {
        let mut block = self.header(COMMIT, block_len);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        put(&mut block, 0x30, &now.as_secs().to_be_bytes());
        put(&mut block, 0x38, &now.subsec_nanos().to_be_bytes());
        if let Some(seed) = self.format.checks.seed() {
            let sum = crc32c(seed, &block);
            put(&mut block, 0x10, &sum.to_be_bytes());
        }
        block
    }

    fn header(&self, kind: u32, block_len: u32) -> Vec<u8> {
        let mut block = vec![0; index(block_len)];
        put(&mut block, 0, &MARK);
        put(&mut block, 4, &kind.to_be_bytes());
        put(&mut block, 8, &self.sequence.to_be_bytes());
        block
    }

    /// The checksum in a block's last four bytes.
    fn put_tail(&self, block: &mut [u8]) {
        if let Some(seed) = self.format.checks.seed() {
            let sum = crc32c(seed, block);
            put(block, block.len().saturating_sub(4), &sum.to_be_bytes());
        }
    }

    fn append(&mut self, medium: &Medium, run: &mut Run, block: &[u8]) -> Result<()> {
        let place = self.places.get(index(self.head)).copied().ok_or(Fault::Damaged)?;
        self.head = self.head.saturating_add(1);
        if self.head >= self.format.end {
            self.head = self.format.first;
        }
        self.used = self.used.saturating_add(1);
        run.add(medium, place, block)
    }
}

fn be_at(bytes: &[u8], at: usize) -> u32 {
    u32_at(bytes, at).swap_bytes()
}

/// That there may be revocations.
const REVOKES: u32 = 0x1;
/// Which kind of checksum a journal has, and the only one.
const CHECKSUM_TYPE: usize = 0x50;
const CRC32C: u8 = 4;
/// Where a closed journal says it goes on.
const S_HEAD: usize = 0x58;
/// Bytes of a block's header, and of the identifier behind the first tag.
const HEADER: usize = 12;
const UUID: usize = 16;
/// Blocks of the shortest log that is written.
const SHORTEST: u32 = 1000;
/// Blocks of the longest: each has its place in memory.
const LONGEST: u32 = 1 << 20;
/// Bytes of metadata that wait to be brought to their places.
pub(super) const MOST_KEPT: u32 = 32 << 20;
