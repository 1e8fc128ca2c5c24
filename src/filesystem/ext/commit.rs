//! Commits, and what the superblock says of a volume that is written.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{
    super::{
        Fault, Result,
        bytes::{index, put, short, u32_at},
    },
    checksum::crc32c,
    features::{Feature, HAS_JOURNAL, RECOVER},
    log::MOST_KEPT,
    superblock::{self, Checksums},
    volume::Volume,
};

impl Volume {
    /// Brings everything that was done to the medium.
    pub(super) fn commit(&mut self) -> Result<()> {
        self.store.check()?;
        self.store.begin();
        let running = &self.store.running;
        if running.blocks.is_empty() && running.revoked.is_empty() {
            return if running.has_data { self.store.flush() } else { Ok(()) };
        }
        self.note_counts()?;
        self.mark_in_use()?;
        let done = match self.log.take() {
            Some(mut log) => {
                let done = log.commit(&mut self.store);
                self.log = Some(log);
                done
            }
            None => self.commit_in_place(),
        };
        if done.is_err() {
            self.store.running.has_failed = true;
        }
        self.store.begin();
        self.space.forget_freed();
        done
    }

    /// Without a journal: content first, then all metadata. A power cut among those takes e2fsck.
    fn commit_in_place(&mut self) -> Result<()> {
        if self.store.running.has_data {
            self.store.flush()?;
        }
        let blocks = self.store.running.blocks.drain().collect();
        self.store.running.revoked.clear();
        self.store.running.committed = blocks;
        let blocks = self.store.running.committed.clone();
        self.store.write_blocks(&blocks)?;
        self.store.flush()?;
        self.store.settle();
        Ok(())
    }

    /// Commits where much waits, so that no transaction comes to be longer than the log.
    pub(super) fn relieve(&mut self) -> Result<()> {
        let running = &self.store.running;
        let waiting = short(running.blocks.len().saturating_add(running.revoked.len() / 64));
        if waiting < self.most_waiting() { Ok(()) } else { self.commit() }
    }

    fn most_waiting(&self) -> u32 {
        let most = MOST_KEPT / self.superblock.block_len.max(1);
        self.log.as_ref().map_or(most, |log| log.room(self.superblock.block_len)) / 4
    }

    /// What the volume says of itself while it is written.
    fn mark_in_use(&mut self) -> Result<()> {
        if self.is_marked {
            return Ok(());
        }
        if let Some(mut log) = self.log.take() {
            let done = log.put_start(&mut self.store, false);
            self.log = Some(log);
            done?;
        }
        let has_journal = self.superblock.features.has(HAS_JOURNAL);
        let mark = |raw: &mut [u8]| set_mark(raw, has_journal, true);
        self.write_superblock(&mark)?;
        self.edit_superblock(mark)?;
        self.is_marked = true;
        Ok(())
    }

    /// Commits, brings everything to its place, and marks the volume as left in order.
    pub(super) fn close(&mut self) -> Result<()> {
        self.commit()?;
        if !self.is_marked {
            return Ok(());
        }
        if let Some(mut log) = self.log.take() {
            let done = log.checkpoint(&mut self.store, true);
            self.log = Some(log);
            done?;
        }
        let has_journal = self.superblock.features.has(HAS_JOURNAL);
        self.write_superblock(&|raw| set_mark(raw, has_journal, false))?;
        self.is_marked = false;
        Ok(())
    }

    /// Changes the superblock past the journal.
    fn write_superblock(&mut self, change: &dyn Fn(&mut [u8])) -> Result<()> {
        let mut raw = vec![0; superblock::LEN];
        self.store.device.read_at(&mut raw, superblock::PLACE)?;
        change(&mut raw);
        self.superblock.seal(&mut raw);
        self.store.write(&raw, superblock::PLACE)?;
        self.store.flush()?;
        self.store.drop_cached(superblock::PLACE / u64::from(self.superblock.block_len));
        Ok(())
    }

    /// Changes the superblock.
    pub(super) fn edit_superblock(&mut self, change: impl FnOnce(&mut [u8])) -> Result<()> {
        let block_len = u64::from(self.superblock.block_len);
        let within = index(superblock::PLACE % block_len);
        let bytes = self.store.change(superblock::PLACE / block_len)?;
        let raw =
            bytes.get_mut(within..).and_then(|rest| rest.get_mut(..superblock::LEN)).ok_or(Fault::Damaged)?;
        change(raw);
        self.superblock.seal(raw);
        Ok(())
    }

    /// Has the volume have a feature that something new takes.
    pub(super) fn need(&mut self, feature: Feature) -> Result<()> {
        if self.superblock.features.has(feature) {
            return Ok(());
        }
        let at = self.superblock.features.add(feature);
        self.edit_superblock(|raw| {
            let field = u32_at(raw, at) | feature.bit();
            put(raw, at, &field.to_le_bytes());
        })
    }

    /// Has the superblock tell what is free.
    fn note_counts(&mut self) -> Result<()> {
        let (blocks, inodes) = (self.superblock.free_blocks, self.superblock.free_inodes);
        let is_wide = self.superblock.descriptor_len >= 64;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.edit_superblock(|raw| {
            let [a, b, c, d, high @ ..] = blocks.to_le_bytes();
            put(raw, 0xc, &[a, b, c, d]);
            if is_wide {
                put(raw, 0x158, &high);
            }
            put(raw, 0x10, &inodes.to_le_bytes());
            let [a, b, c, d, ..] = now.to_le_bytes();
            put(raw, 0x30, &[a, b, c, d]);
        })
    }
}

impl superblock::Superblock {
    /// Puts its checksum in place.
    pub(super) fn seal(&self, raw: &mut [u8]) {
        if let Checksums::All(_) = self.checksums {
            let sum = crc32c(!0, raw.get(..0x3fc).unwrap_or_default());
            put(raw, 0x3fc, &sum.to_le_bytes());
        }
    }
}

/// With a journal, that there may be something in it; without, that the volume is not in order.
fn set_mark(raw: &mut [u8], has_journal: bool, is_in_use: bool) {
    let (at, bit, is_set) =
        if has_journal { (0x60, RECOVER.bit(), is_in_use) } else { (0x3a, VALID, !is_in_use) };
    let field = u32_at(raw, at);
    put(raw, at, &(if is_set { field | bit } else { field & !bit }).to_le_bytes());
}

/// The state of a volume that was left in order.
const VALID: u32 = 0x1;
