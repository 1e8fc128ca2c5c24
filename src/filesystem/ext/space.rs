//! Blocks and inodes taken and given back.
//!
//! A block that was given back is not taken again before the medium knows of it: until then a power cut would bring back whoever had
//! it, with what somebody else wrote.

use std::{collections::HashMap, mem, ops::Range};

use super::{
    super::{
        Fault, Result,
        bytes::{index, short},
    },
    group::{Bitmap, Group, INODES_UNWRITTEN, clear, is_set, set},
    superblock::Checksums,
    volume::Volume,
};

/// What was given back in the running transaction, and in the one that is on its way to the medium.
#[derive(Debug, Default)]
pub(super) struct Freed {
    runs: Vec<(u64, u64)>,
    /// For each group, a bitmap of them.
    groups: HashMap<u64, Vec<u8>>,
    committing: HashMap<u64, Vec<u8>>,
}

impl Freed {
    /// The running transaction goes on its way.
    pub(super) fn freeze(&mut self) {
        self.runs.clear();
        self.committing = mem::take(&mut self.groups);
    }

    /// The medium knows of what was on its way.
    pub(super) fn arrive(&mut self) {
        self.committing.clear();
    }

    /// Runs that the running transaction gave back.
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether a commit makes room.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.committing.is_empty()
    }

    fn of(&self, group: u64) -> [&[u8]; 2] {
        [&self.groups, &self.committing].map(|of| of.get(&group).map(Vec::as_slice).unwrap_or_default())
    }
}

/// What a block held that is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    Content,
    Metadata,
}

impl Volume {
    /// Takes up to `want` blocks that follow each other, at `goal` or near it.
    pub(super) fn take_blocks(&mut self, goal: u64, want: u64) -> Result<(u64, u64)> {
        let superblock = &self.superblock;
        let usable = superblock.free_blocks.saturating_sub(superblock.reserved_blocks);
        if usable == 0 {
            return Err(Fault::NoSpace);
        }
        let want = want.clamp(1, usable);
        let goal = if superblock.has_blocks(goal, 1) { goal } else { superblock.first_block };
        let start = superblock.group_of(goal);
        let mut best: Option<(u64, u64, u64)> = None;
        let mut tried = 0;
        for step in 0..=superblock.groups {
            let number = start.saturating_add(step) % superblock.groups.max(1);
            // A group whose descriptor or bitmap is damaged gives nothing.
            let Ok(group) = self.group(number) else { continue };
            if group.free_blocks == 0 {
                continue;
            }
            let Ok(bits) = self.bitmap(number, &group, Bitmap::Blocks) else { continue };
            let from = if step == 0 { goal.saturating_sub(superblock.first_of(number)) } else { 0 };
            let search =
                Search { bits: &bits.bytes, freed: self.space.of(number), end: superblock.blocks_in(number) };
            let Some((at, len)) = search.run(from, want, step == 0) else { continue };
            if len >= want || step == 0 && at == from {
                return self.take_run(number, at, len.min(want));
            }
            if best.is_none_or(|(_, _, longest)| longest < len) {
                best = Some((number, at, len));
            }
            tried += 1;
            if tried >= MOST_TRIED {
                break;
            }
        }
        let (number, at, len) = best.ok_or(Fault::NoSpace)?;
        self.take_run(number, at, len.min(want))
    }

    fn take_run(&mut self, number: u64, at: u64, len: u64) -> Result<(u64, u64)> {
        let mut group = self.group(number)?;
        let end = at.saturating_add(len);
        self.change_bitmap(number, &mut group, Bitmap::Blocks, |bits| set(bits, at, end))?;
        group.free_blocks = group.free_blocks.checked_sub(short(len)).ok_or(Fault::Damaged)?;
        self.put_group(number, &group)?;
        let superblock = &mut self.superblock;
        superblock.free_blocks = superblock.free_blocks.saturating_sub(len);
        Ok((superblock.first_of(number).saturating_add(at), len))
    }

    /// Gives blocks back.
    pub(super) fn free_blocks(&mut self, first: u64, count: u64, held: Held) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        if !self.superblock.has_blocks(first, count) {
            return Err(Fault::Damaged);
        }
        let mut next = first;
        let end = first.saturating_add(count);
        while next < end {
            let number = self.superblock.group_of(next);
            let start = self.superblock.first_of(number);
            let stop = end.min(start.saturating_add(self.superblock.blocks_per_group));
            self.free_in(number, next.saturating_sub(start), stop.saturating_sub(start))?;
            next = stop;
        }
        if held == Held::Metadata {
            (first..end).for_each(|block| self.store.revoke(block));
        }
        self.space.runs.push((first, count));
        Ok(())
    }

    fn free_in(&mut self, number: u64, from: u64, to: u64) -> Result<()> {
        let mut group = self.group(number)?;
        let bits = self.bitmap(number, &group, Bitmap::Blocks)?;
        if (from..to).any(|at| !is_set(&bits.bytes, at)) {
            // Somebody else gave them back.
            return Err(Fault::Damaged);
        }
        drop(bits);
        self.change_bitmap(number, &mut group, Bitmap::Blocks, |bits| clear(bits, from, to))?;
        let count = to.saturating_sub(from);
        group.free_blocks = group.free_blocks.saturating_add(short(count));
        self.put_group(number, &group)?;
        self.superblock.free_blocks = self.superblock.free_blocks.saturating_add(count);
        let len = index(self.superblock.block_len);
        set(self.space.groups.entry(number).or_insert_with(|| vec![0; len]), from, to);
        Ok(())
    }

    /// Calls `each` with the bytes of every run of blocks that are free, and that the medium knows to be free.
    pub(super) fn free_runs(&self, each: &mut dyn FnMut(Range<u64>) -> Result<()>) -> Result<()> {
        let superblock = &self.superblock;
        for number in 0..superblock.groups {
            let group = self.group(number)?;
            let bits = self.bitmap(number, &group, Bitmap::Blocks)?;
            let end = superblock.blocks_in(number);
            let search = Search { bits: &bits.bytes, freed: self.space.of(number), end };
            let mut at = 0;
            while let Some((first, len)) = search.next_run(at) {
                at = first.saturating_add(len);
                let start = superblock.first_of(number).saturating_add(first);
                let byte = |block: u64| block.saturating_mul(superblock.block_len.into());
                each(byte(start)..byte(start.saturating_add(len)))?;
            }
        }
        Ok(())
    }

    /// Takes it that the last runs were not given back.
    pub(super) fn keep_freed(&mut self, runs: usize) {
        for (first, count) in self.space.runs.split_off(runs.min(self.space.runs.len())) {
            for block in first..first.saturating_add(count) {
                let number = self.superblock.group_of(block);
                let at = block.saturating_sub(self.superblock.first_of(number));
                if let Some(bits) = self.space.groups.get_mut(&number) {
                    clear(bits, at, at.saturating_add(1));
                }
            }
        }
    }

    /// Takes an inode: near its directory; a directory of the root somewhere where there is room.
    pub(super) fn take_inode(&mut self, parent: u32, is_directory: bool) -> Result<u32> {
        if self.superblock.free_inodes == 0 {
            return Err(Fault::NoSpace);
        }
        let home =
            u64::from(parent.saturating_sub(1).checked_div(self.superblock.inodes_per_group).unwrap_or(0));
        let start = if is_directory { self.roomy_group(home, parent) } else { home };
        let groups = self.superblock.groups;
        for step in 0..groups {
            let number = start.saturating_add(step) % groups.max(1);
            let Ok(group) = self.group(number) else { continue };
            if group.free_inodes == 0 {
                continue;
            }
            if let Some(inode) = self.take_inode_of(number, group, is_directory)? {
                return Ok(inode);
            }
        }
        Err(Fault::NoSpace)
    }

    /// Where a new directory goes: those of the root are spread, others stay near their parents while there is room.
    fn roomy_group(&self, home: u64, parent: u32) -> u64 {
        let groups = self.superblock.groups.min(MOST_COMPARED);
        if parent != super::inode::ROOT {
            let average = u64::from(self.superblock.free_inodes) / self.superblock.groups.max(1);
            let has_room = |number: &u64| {
                self.group(*number)
                    .is_ok_and(|group| u64::from(group.free_inodes) >= average / 2 && group.free_blocks > 0)
            };
            return (home..self.superblock.groups)
                .chain(0..home)
                .take(index(groups))
                .find(has_room)
                .unwrap_or(home);
        }
        let rank = |number: &u64| {
            self.group(*number).map_or((0, 0), |group| {
                let is_usable = group.free_inodes > 0 && group.free_blocks > 0;
                if is_usable { (u32::MAX - group.directories, group.free_blocks) } else { (0, 0) }
            })
        };
        (0..groups).rev().max_by_key(rank).unwrap_or(home)
    }

    fn take_inode_of(&mut self, number: u64, mut group: Group, is_directory: bool) -> Result<Option<u32>> {
        let per_group = self.superblock.inodes_per_group;
        let Ok(bits) = self.bitmap(number, &group, Bitmap::Inodes) else { return Ok(None) };
        let base = number.saturating_mul(per_group.into());
        let reserved = u64::from(self.superblock.first_inode).saturating_sub(1).saturating_sub(base);
        let left = u64::from(self.superblock.inodes).saturating_sub(base).min(per_group.into());
        let search = Search { bits: &bits.bytes, freed: [&[]; 2], end: left };
        let Some((at, _)) = search.run_in(reserved, left, 1) else { return Ok(None) };
        drop(bits);
        self.change_bitmap(number, &mut group, Bitmap::Inodes, |bits| set(bits, at, at.saturating_add(1)))?;
        group.free_inodes = group.free_inodes.saturating_sub(1);
        group.directories = group.directories.saturating_add(is_directory.into());
        if self.superblock.checksums != Checksums::None {
            let behind = u64::from(per_group).saturating_sub(at).saturating_sub(1);
            group.unused_inodes = group.unused_inodes.min(short(behind));
            group.flags &= !INODES_UNWRITTEN;
        }
        self.put_group(number, &group)?;
        self.superblock.free_inodes = self.superblock.free_inodes.saturating_sub(1);
        let inode = base.saturating_add(at).saturating_add(1);
        u32::try_from(inode).map(Some).map_err(|_| Fault::Damaged)
    }

    /// Gives an inode back.
    pub(super) fn free_inode(&mut self, inode: u32, is_directory: bool) -> Result<()> {
        let at = u64::from(inode.saturating_sub(1));
        let per_group = u64::from(self.superblock.inodes_per_group.max(1));
        let (number, at) = (at / per_group, at % per_group);
        let mut group = self.group(number)?;
        let bits = self.bitmap(number, &group, Bitmap::Inodes)?;
        if !is_set(&bits.bytes, at) {
            return Err(Fault::Damaged);
        }
        drop(bits);
        self.change_bitmap(number, &mut group, Bitmap::Inodes, |bits| clear(bits, at, at.saturating_add(1)))?;
        group.free_inodes = group.free_inodes.saturating_add(1);
        group.directories = group.directories.saturating_sub(is_directory.into());
        self.put_group(number, &group)?;
        self.superblock.free_inodes = self.superblock.free_inodes.saturating_add(1);
        Ok(())
    }
}

/// What is free in a group: neither in use, nor given back a moment ago.
struct Search<'a> {
    bits: &'a [u8],
    freed: [&'a [u8]; 2],
    end: u64,
}

impl Search<'_> {
    /// What is in use of 64 blocks or inodes.
    fn word(&self, at: u64) -> u64 {
        let word = |bits: &[u8]| {
            let bytes = bits.get(index(at.saturating_mul(8))..).unwrap_or_default();
            bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
        };
        self.freed
            .iter()
            .fold(word(self.bits).unwrap_or(u64::MAX), |bits, freed| bits | word(freed).unwrap_or(0))
    }

    fn is_free(&self, at: u64) -> bool {
        at < self.end && self.word(at / 64) >> (at % 64) & 1 == 0
    }

    /// The first that is free from `from` on and before `to`.
    fn next_free(&self, from: u64, to: u64) -> Option<u64> {
        let mut at = from;
        while at < to.min(self.end) {
            let used = self.word(at / 64) >> (at % 64);
            let skipped = u64::from(used.trailing_ones());
            let left = 64 - at % 64;
            if skipped < left {
                return Some(at.saturating_add(skipped)).filter(|found| *found < to.min(self.end));
            }
            at = at.saturating_add(left);
        }
        None
    }

    /// The first run of `want`, else the longest: behind `from`, then before it. One at `from` is taken as it is where that
    /// `may_go_on`.
    fn run(&self, from: u64, want: u64, may_go_on: bool) -> Option<(u64, u64)> {
        if may_go_on && self.is_free(from) {
            return Some((from, self.len_at(from, want)));
        }
        let behind = self.run_in(from, self.end, want);
        match behind {
            Some((_, len)) if len >= want => behind,
            _ => [behind, self.run_in(0, from.min(self.end), want)]
                .into_iter()
                .flatten()
                .max_by_key(|(_, len)| *len),
        }
    }

    /// The first run at `from` or behind it, whole.
    fn next_run(&self, from: u64) -> Option<(u64, u64)> {
        let first = self.next_free(from, self.end)?;
        Some((first, self.len_at(first, self.end)))
    }

    /// How many are free from `at` on, as far as `want` goes.
    fn len_at(&self, at: u64, want: u64) -> u64 {
        let end = at.saturating_add(want).min(self.end);
        let mut next = at;
        while next < end {
            let left = 64 - next % 64;
            let free = u64::from((self.word(next / 64) >> (next % 64)).trailing_zeros()).min(left);
            next = next.saturating_add(free);
            if free < left {
                break;
            }
        }
        next.min(end).saturating_sub(at)
    }

    fn run_in(&self, from: u64, to: u64, want: u64) -> Option<(u64, u64)> {
        let mut longest: Option<(u64, u64)> = None;
        let mut at = from;
        while let Some(first) = self.next_free(at, to) {
            let len = self.len_at(first, want);
            if len >= want {
                return Some((first, len));
            }
            if longest.is_none_or(|(_, other)| other < len) {
                longest = Some((first, len));
            }
            at = first.saturating_add(len.max(1));
        }
        longest
    }
}

/// Groups that are searched for a run of the length that is wanted.
const MOST_TRIED: u32 = 16;
/// Groups that are compared for a new directory.
const MOST_COMPARED: u64 = 1 << 12;

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit by bit, what is done 64 or eight at a time.
    #[test]
    fn runs_are_those_that_the_bits_say() {
        let mut state = 1_u64;
        for round in 0..400 {
            let mut bits = [[0_u8; 24]; 3];
            for byte in bits.as_flattened_mut() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = if state >> 61 > round % 7 { 0 } else { state.to_le_bytes()[5] };
            }
            let [used, freed, committing] = &bits;
            let end = 150 + round % 43;
            let is_free =
                |at: u64| at < end && [used, freed, committing].iter().all(|bits| !is_set(*bits, at));
            let search = Search { bits: used, freed: [freed, committing], end };
            for from in [0, 1, 63, 64, 100, round % 150] {
                let first = (from..end).find(|at| is_free(*at));
                let len = |at: u64| (at..end).find(|at| !is_free(*at)).unwrap_or(end) - at;
                assert_eq!(search.next_run(from), first.map(|at| (at, len(at))));
                assert_eq!(search.run_in(from, end, 1), first.map(|at| (at, 1)));
                assert_eq!(search.is_free(from), is_free(from));
            }
        }
    }

    #[test]
    fn ranges_of_bits_are_set_and_cleared_and_no_others() {
        for (from, to) in [(0, 0), (0, 1), (3, 7), (5, 8), (7, 9), (8, 16), (1, 24), (9, 40), (16, 400)] {
            let mut bits = [0_u8; 5];
            set(&mut bits, from, to);
            assert!((0..40).all(|at| is_set(&bits, at) == (from..to).contains(&at)), "{from} {to}");
            let mut bits = [0xff_u8; 5];
            clear(&mut bits, from, to);
            assert!((0..40).all(|at| is_set(&bits, at) != (from..to).contains(&at)), "{from} {to}");
        }
    }
}
