//! The journal (JBD2), replayed in memory: a table of which blocks it has newer, and where.
//!
//! Nothing is copied: a transaction that was committed in whole only enters its blocks in the table, and takes from it those that it
//! revokes. The log ends where the next block does not follow.

use std::{collections::HashMap, mem};

use super::{
    super::{Fault, Result, bytes::index},
    checksum::{crc32_be, crc32c, crc32c_of},
    features::{HAS_JOURNAL, RECOVER},
    inode::Inode,
    mapping::Place,
    store::{Copied, MARK},
    volume::Volume,
};

/// What a volume's journal held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    /// Nothing that the volume does not have.
    Empty,
    /// Changes, which show now.
    Replayed,
    /// Changes that are not understood, for this reason. The volume shows as it was left.
    Unread(&'static str),
    /// There is none, and the volume was not unmounted cleanly.
    Missing,
}

/// Blocks of the volume, and where the journal has what is newer.
pub(super) type Replayed = HashMap<u64, Copied>;

/// Reads the journal of a volume, if it needs that.
pub(super) fn replay(volume: &Volume) -> Result<(Replayed, Journal)> {
    let superblock = &volume.superblock;
    if !superblock.features.has(RECOVER) {
        let journal = if superblock.is_clean { Journal::Empty } else { Journal::Missing };
        return Ok((Replayed::new(), journal));
    }
    let is_here = superblock.features.has(HAS_JOURNAL) && superblock.journal_inode != 0;
    let read = if is_here { read(volume) } else { Err(Stop::Unread("it is on another device")) };
    match read {
        Ok(Read { replayed, has_more: false, .. }) => Ok((replayed, Journal::Replayed)),
        // Everything that was committed in whole transactions shows.
        Ok(Read { replayed, .. }) => Ok((replayed, Journal::Unread("it has fast commits"))),
        Err(Stop::Unread(why)) => Ok((Replayed::new(), Journal::Unread(why))),
        Err(Stop::Fault(Fault::Io)) => Err(Fault::Io),
        Err(Stop::Fault(_)) => Ok((Replayed::new(), Journal::Unread("it is damaged"))),
    }
}

/// How the log is to be written on, in its blocks from the first one on, with which transaction next. Its own superblock comes along.
pub(super) fn written_on(volume: &Volume) -> Result<(Format, u32, Vec<u8>), &'static str> {
    let inode = volume.inode(volume.superblock.journal_inode).map_err(unusable)?;
    let head = block_of(volume, &inode, 0).map_err(unusable)?;
    let parsed = Format::parse(volume, &inode, &head);
    let (format, start, sequence) = parsed.map_err(|_| "its journal is not understood")?;
    if be32(&head, 4) != 4 {
        return Err("its journal is of the first kind");
    }
    if format.fast > 0 {
        return Err("its journal takes fast commits");
    }
    // A transaction that was not committed in whole has the number after the last, and is passed over.
    let next = if start == 0 { sequence } else { read(volume).map_err(|_| DAMAGED)?.next.wrapping_add(1) };
    Ok((format, next.max(1), head))
}

/// What is said of a journal that cannot be used.
pub(super) const fn unusable(fault: Fault) -> &'static str {
    if matches!(fault, Fault::Io) { "its journal cannot be read" } else { DAMAGED }
}

/// The places of the log's blocks, that of its superblock first.
pub(super) fn places(volume: &Volume, format: &Format) -> Result<Vec<u64>> {
    let inode = volume.inode(volume.superblock.journal_inode)?;
    (0..format.end).map(|at| place_of(volume, &inode, at)).collect()
}

/// Why a journal is not replayed.
enum Stop {
    Unread(&'static str),
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// How a log is written.
#[derive(Debug)]
pub(super) struct Format {
    /// The log's blocks: the first, and the one behind the last.
    pub(super) first: u32,
    pub(super) end: u32,
    /// Blocks behind the log that are kept for fast commits.
    fast: u32,
    pub(super) is_64bit: bool,
    pub(super) checks: Checks,
    is_async: bool,
}

/// How it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checks {
    None,
    /// The sum of a whole transaction, in its commit.
    V1,
    /// Each block, from this register on: two bytes of it, or all four.
    V2(u32),
    V3(u32),
}

impl Checks {
    pub(super) const fn seed(self) -> Option<u32> {
        match self {
            Self::V2(seed) | Self::V3(seed) => Some(seed),
            _ => None,
        }
    }
}

/// A walk along the log.
struct Walk<'a> {
    volume: &'a Volume,
    inode: Inode,
    format: Format,
    /// The next block, and how many were read.
    at: u32,
    steps: u32,
    sequence: u32,
    last_commit: u64,
    replayed: Replayed,
    pending: Pending,
}

/// What the transaction that is being read will change.
#[derive(Default)]
struct Pending {
    writes: Vec<(u64, Copied)>,
    revoked: Vec<u64>,
    /// The sum of its descriptors and blocks, where the commit tells it.
    sum: Option<u32>,
    /// A checksum was wrong: it is older than it seems, or damaged.
    is_doubtful: bool,
}

/// All changes of the log.
struct Read {
    replayed: Replayed,
    /// Whether fast commits follow.
    has_more: bool,
    /// The number of the transaction that would follow.
    next: u32,
}

fn read(volume: &Volume) -> Result<Read, Stop> {
    let inode = volume.inode(volume.superblock.journal_inode)?;
    let head = block_of(volume, &inode, 0)?;
    let (format, start, sequence) = Format::parse(volume, &inode, &head)?;
    if start == 0 {
        return Ok(Read { replayed: Replayed::new(), has_more: false, next: sequence });
    }
    if start < format.first || start >= format.end {
        return Err(Stop::Fault(Fault::Damaged));
    }
    let mut walk = Walk {
        volume,
        inode,
        format,
        at: start,
        steps: 0,
        sequence,
        last_commit: 0,
        replayed: Replayed::new(),
        pending: Pending::default(),
    };
    walk.pending.sum = Some(!0);
    while walk.step()? {}
    let has_more = walk.has_fast_commits()?;
    Ok(Read { replayed: walk.replayed, has_more, next: walk.sequence })
}

impl Format {
    /// Reads the journal's superblock: also where the log starts, and with which transaction.
    fn parse(volume: &Volume, inode: &Inode, head: &[u8]) -> Result<(Self, u32, u32), Stop> {
        let is_second = be32(head, 4) == 4;
        let is_possible = head.starts_with(&MARK)
            && (is_second || be32(head, 4) == 3)
            && be32(head, 0xc) == volume.superblock.block_len;
        if !is_possible {
            return Err(Stop::Fault(Fault::Damaged));
        }
        let (compatible, incompatible) =
            if is_second { (be32(head, 0x24), be32(head, 0x28)) } else { (0, 0) };
        if incompatible & !KNOWN != 0 {
            return Err(Stop::Unread("it has a feature that is not understood"));
        }
        let seed = crc32c(!0, head.get(0x30..0x40).unwrap_or_default());
        let checks = match () {
            () if incompatible & CSUM_V3 != 0 => Checks::V3(seed),
            () if incompatible & CSUM_V2 != 0 => Checks::V2(seed),
            () if compatible & CHECKSUM != 0 => Checks::V1,
            () => Checks::None,
        };
        let (before, after) =
            (head.get(..0xfc).unwrap_or_default(), head.get(0x100..0x400).unwrap_or_default());
        if checks.seed().is_some() && crc32c_of(!0, &[before, &[0; 4], after]) != be32(head, 0xfc) {
            return Err(Stop::Fault(Fault::Damaged));
        }
        let len = be32(head, 0x10);
        let fast = match (incompatible & FAST_COMMIT != 0, be32(head, 0x54)) {
            (false, _) => 0,
            (true, 0) => FAST_BLOCKS,
            (true, blocks) => blocks,
        };
        let (first, end) = (be32(head, 0x14), len.saturating_sub(fast));
        let most = inode.size / u64::from(volume.superblock.block_len);
        if first == 0 || first >= end || u64::from(len) > most {
            return Err(Stop::Fault(Fault::Damaged));
        }
        let is_64bit = incompatible & WIDE != 0;
        let is_async = incompatible & ASYNC_COMMIT != 0;
        let format = Self { first, end, fast, is_64bit, checks, is_async };
        Ok((format, be32(head, 0x1c), be32(head, 0x18)))
    }

    /// Has it be written as these features say. The checksums begin with the journal's identifier.
    pub(super) fn write_with(&mut self, incompatible: u32, head: &[u8]) {
        let seed = crc32c(!0, head.get(0x30..0x40).unwrap_or_default());
        self.checks = match () {
            () if incompatible & CSUM_V3 != 0 => Checks::V3(seed),
            () if incompatible & CSUM_V2 != 0 => Checks::V2(seed),
            () => Checks::None,
        };
        self.is_64bit = incompatible & WIDE != 0;
        self.is_async = false;
    }

    pub(super) const fn tag_len(&self) -> usize {
        match (self.checks, self.is_64bit) {
            (Checks::V3(_), _) => 16,
            (Checks::V2(_), true) => 14,
            (Checks::V2(_), false) => 10,
            (_, true) => 12,
            (_, false) => 8,
        }
    }
}

/// A block's entry in a descriptor.
struct Tag {
    block: u64,
    flags: u32,
    sum: u32,
}

impl Walk<'_> {
    /// Reads the next block of the log and what belongs to it. False at the end.
    fn step(&mut self) -> Result<bool, Stop> {
        let Some(place) = self.next_block()? else { return Ok(false) };
        let block = self.bytes(place)?;
        if !block.starts_with(&MARK) || be32(&block, 8) != self.sequence {
            return Ok(false);
        }
        match be32(&block, 4) {
            DESCRIPTOR => self.descriptor(&block),
            REVOKE => self.revoke(&block),
            COMMIT => self.commit(&block),
            _ => Ok(false),
        }
    }

    /// The place of the log's next block. `None` once all of it was read.
    fn next_block(&mut self) -> Result<Option<u64>, Stop> {
        let len = self.format.end.saturating_sub(self.format.first);
        if self.steps >= len {
            return Ok(None);
        }
        self.steps = self.steps.saturating_add(1);
        let place = place_of(self.volume, &self.inode, self.at)?;
        self.at = self.at.saturating_add(1);
        if self.at >= self.format.end {
            self.at = self.format.first;
        }
        Ok(Some(place))
    }

    fn bytes(&self, place: u64) -> Result<Vec<u8>, Stop> {
        let mut bytes = vec![0; index(self.volume.superblock.block_len)];
        self.volume.store.read(&mut bytes, place, 0)?;
        Ok(bytes)
    }

    /// Whether the checksum in a block's last four bytes is right.
    fn is_tail_right(&self, block: &[u8]) -> bool {
        let Some(seed) = self.format.checks.seed() else { return true };
        let at = block.len().saturating_sub(4);
        crc32c_of(seed, &[block.get(..at).unwrap_or_default(), &[0; 4]]) == be32(block, at)
    }

    fn descriptor(&mut self, block: &[u8]) -> Result<bool, Stop> {
        self.pending.is_doubtful |= !self.is_tail_right(block);
        self.add_to_sum(block);
        let tag_len = self.format.tag_len();
        let tail = if self.format.checks.seed().is_some() { 4 } else { 0 };
        let block = block.get(..block.len().saturating_sub(tail)).unwrap_or_default();
        let mut at = 12;
        while let Some(raw) = block.get(at..).and_then(|rest| rest.get(..tag_len)) {
            let tag = self.tag(raw);
            let Some(place) = self.next_block()? else { return Ok(false) };
            self.add_write(&tag, place)?;
            if tag.flags & LAST != 0 {
                break;
            }
            at = at.saturating_add(tag_len);
            if tag.flags & SAME_UUID == 0 {
                at = at.saturating_add(16);
            }
        }
        Ok(true)
    }

    fn tag(&self, raw: &[u8]) -> Tag {
        let low = u64::from(be32(raw, 0));
        let (flags, sum, high) = match self.format.checks {
            Checks::V3(_) => (be32(raw, 4), be32(raw, 12), be32(raw, 8)),
            _ => (be32(raw, 4) & 0xffff, be32(raw, 4) >> 16, be32(raw, 8)),
        };
        let high = if self.format.is_64bit { u64::from(high) << 32 } else { 0 };
        Tag { block: high | low, flags, sum }
    }

    fn add_write(&mut self, tag: &Tag, place: u64) -> Result<(), Stop> {
        if self.format.checks != Checks::None {
            let data = self.bytes(place)?;
            self.add_to_sum(&data);
            let sum =
                self.format.checks.seed().map(|seed| crc32c_of(seed, &[&self.sequence.to_be_bytes(), &data]));
            let is_right = match (self.format.checks, sum) {
                (Checks::V3(_), Some(sum)) => sum == tag.sum,
                (Checks::V2(_), Some(sum)) => sum & 0xffff == tag.sum,
                _ => true,
            };
            self.pending.is_doubtful |= !is_right;
        }
        // A volume that has grown is as large as its journal says.
        let there = self.volume.store.medium.size() / u64::from(self.volume.superblock.block_len);
        if tag.block >= self.volume.superblock.blocks.max(there) {
            self.pending.is_doubtful = true;
            return Ok(());
        }
        self.check_room()?;
        self.pending.writes.push((tag.block, Copied::new(place, tag.flags & ESCAPED != 0)));
        Ok(())
    }

    fn revoke(&mut self, block: &[u8]) -> Result<bool, Stop> {
        self.pending.is_doubtful |= !self.is_tail_right(block);
        let end = index(be32(block, 12)).min(block.len());
        let entry = if self.format.is_64bit { 8 } else { 4 };
        for raw in block.get(16..end).unwrap_or_default().chunks_exact(entry) {
            let number = if self.format.is_64bit {
                u64::from(be32(raw, 0)) << 32 | u64::from(be32(raw, 4))
            } else {
                be32(raw, 0).into()
            };
            self.check_room()?;
            self.pending.revoked.push(number);
        }
        Ok(true)
    }

    fn commit(&mut self, block: &[u8]) -> Result<bool, Stop> {
        let time = u64::from(be32(block, 0x30)) << 32 | u64::from(be32(block, 0x34));
        let is_right = self.is_commit_right(block);
        if self.pending.is_doubtful || !is_right {
            // What an earlier round of the log left there is no part of it.
            let is_old = time < self.last_commit;
            return if is_old || self.format.is_async && !is_right {
                Ok(false)
            } else {
                Err(Stop::Unread("it is damaged"))
            };
        }
        self.last_commit = time;
        let Pending { writes, revoked, .. } = mem::take(&mut self.pending);
        self.pending.sum = Some(!0);
        self.replayed.extend(writes);
        for number in revoked {
            self.replayed.remove(&number);
        }
        self.sequence = self.sequence.wrapping_add(1);
        Ok(true)
    }

    fn is_commit_right(&self, block: &[u8]) -> bool {
        let found = be32(block, 16);
        match self.format.checks {
            Checks::None => true,
            Checks::V1 => {
                let [kind, len, ..] = be32(block, 12).to_be_bytes();
                let is_unused = kind == 0 && len == 0 && found == 0;
                is_unused || kind == 1 && len == 4 && self.pending.sum == Some(found)
            }
            Checks::V2(seed) | Checks::V3(seed) => {
                let before = block.get(..16).unwrap_or_default();
                let is_right = |after: &[u8]| crc32c_of(seed, &[before, &[0; 4], after]) == found;
                let after = block.get(20..).unwrap_or_default();
                if is_right(after) {
                    return true;
                }
                // Of its block perhaps only the first sector was written, which has all of it. What it commits was there before.
                let mut written = after.to_vec();
                written.iter_mut().skip(COMMIT_LEN - 20).for_each(|byte| *byte = 0);
                is_right(&written)
            }
        }
    }

    fn add_to_sum(&mut self, bytes: &[u8]) {
        if self.format.checks == Checks::V1 {
            self.pending.sum = self.pending.sum.map(|sum| crc32_be(sum, bytes));
        }
    }

    fn check_room(&self) -> Result<(), Stop> {
        let Pending { writes, revoked, .. } = &self.pending;
        let all = self.replayed.len().saturating_add(writes.len()).saturating_add(revoked.len());
        if all < MOST_KEPT { Ok(()) } else { Err(Stop::Unread("it is too long to be kept in memory")) }
    }

    /// Whether the blocks behind the log begin with a fast commit that follows its last transaction.
    fn has_fast_commits(&self) -> Result<bool, Stop> {
        if self.format.fast == 0 {
            return Ok(false);
        }
        // The kernel leaves out the first of the blocks that are kept for them.
        let first = self.format.end.checked_add(1).ok_or(Fault::Damaged)?;
        let block = self.bytes(place_of(self.volume, &self.inode, first)?)?;
        // A tag and a length of two bytes each; then, with the first tag, features and a transaction.
        let is_head = block.starts_with(&[9, 0, 8, 0]);
        let transaction = block.get(8..12).and_then(<[u8]>::first_chunk).map(|raw| u32::from_le_bytes(*raw));
        Ok(is_head && transaction == Some(self.sequence))
    }
}

fn place_of(volume: &Volume, inode: &Inode, at: u32) -> Result<u64> {
    match volume.map(inode, at.into())?.place {
        Place::Data(place) => Ok(place),
        _ => Err(Fault::Damaged),
    }
}

fn block_of(volume: &Volume, inode: &Inode, at: u32) -> Result<Vec<u8>> {
    let mut bytes = vec![0; index(volume.superblock.block_len)];
    volume.store.read(&mut bytes, place_of(volume, inode, at)?, 0)?;
    Ok(bytes)
}

/// A field of the journal, whose highest byte comes first.
fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |field| u32::from_be_bytes(*field))
}

/// What is said of a journal that makes no sense.
const DAMAGED: &str = "its journal is damaged";
pub(super) const DESCRIPTOR: u32 = 1;
pub(super) const COMMIT: u32 = 2;
pub(super) const REVOKE: u32 = 5;
/// Bytes of a commit; zeros follow.
const COMMIT_LEN: usize = 60;

/// The compatible feature that sums up transactions.
pub(super) const CHECKSUM: u32 = 0x1;
pub(super) const WIDE: u32 = 0x2;
pub(super) const ASYNC_COMMIT: u32 = 0x4;
pub(super) const CSUM_V2: u32 = 0x8;
pub(super) const CSUM_V3: u32 = 0x10;
const FAST_COMMIT: u32 = 0x20;
/// The incompatible features that are known; the first one is that there may be revocations.
const KNOWN: u32 = 0x1 | WIDE | ASYNC_COMMIT | CSUM_V2 | CSUM_V3 | FAST_COMMIT;

/// Of a tag.
pub(super) const ESCAPED: u32 = 0x1;
pub(super) const SAME_UUID: u32 = 0x2;
pub(super) const LAST: u32 = 0x8;

/// How many blocks fast commits have where the journal does not say.
const FAST_BLOCKS: u32 = 256;
/// Blocks that are kept in mind: some 26 MiB.
const MOST_KEPT: usize = 1 << 19;
