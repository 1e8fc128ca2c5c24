//! Looking for header copies where they do not belong: behind a lost partition table, in a shifted image.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::ops::ControlFlow;

use super::{
    copies::{read_copy, read_what_can_be_read},
    copy::HeaderCopy,
    layout::MAGIC,
};
use crate::{
    error::{Error, ErrorKind, Result},
    storage::{Storage, next_data},
};

/// A whole header copy, wherever it was found.
#[derive(Debug, Clone)]
pub struct FoundCopy {
    /// Where it was found, in bytes.
    pub offset: u64,
    /// What it is.
    pub copy: HeaderCopy,
}

/// What a scan found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Whole copies, in the order of their places. No more than 256.
    pub whole: Vec<FoundCopy>,
    /// Places that start as a header copy does and hold none.
    pub broken: u64,
    /// Bytes that could not be read.
    pub unreadable: u64,
    /// Whether there were too many places with the signature to look at all of them.
    pub is_cut_short: bool,
}

impl FoundCopy {
    /// Where a container with this copy in its place starts, seen from the start of what was scanned: negative where its
    /// first bytes are missing.
    pub fn container_start(&self) -> i128 {
        i128::from(self.offset).saturating_sub(i128::from(self.copy.offset()))
    }

    /// Whether it stands in its own place, within a container of `size` bytes that has room for it.
    pub fn is_in_place(&self, size: u64) -> bool {
        self.container_start() == 0 && self.fits(size)
    }

    /// Whether a container of `size` bytes has room for what this copy describes.
    pub fn fits(&self, size: u64) -> bool {
        self.copy.superblock.geometry.container_len <= size
    }
}

/// Reads all of `storage` and looks for header copies at each multiple of 512 bytes. What cannot be read is passed over.
///
/// `progress` is called with the bytes done and the bytes in all.
///
/// # Errors
/// `Interrupted` where `progress` breaks off; where the storage does not tell its size.
pub fn scan(storage: &dyn Storage, progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>) -> Result<Scan> {
    let mut scan = Scan::default();
    scan.unreadable =
        each_sector(storage, progress, &mut |sector, offset| scan.look_at(storage, sector, offset))?;
    Ok(scan)
}

/// Shows each sector to `look`, with its offset; gives the number of bytes that cannot be read, which show as zeros.
///
/// # Errors
/// As [`scan`].
pub(in crate::format) fn each_sector(
    storage: &dyn Storage,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    look: &mut dyn FnMut(&[u8], u64),
) -> Result<u64> {
    let size = storage.size()?;
    let mut unreadable = 0_u64;
    let mut chunk = vec![0; CHUNK_LEN];
    let mut start = 0_u64;
    while start < size {
        // Headers are no holes, of which a thin container may have terabytes.
        let data = next_data(storage, start).min(size);
        start = (data & !WITHIN).max(start);
        let left = usize::try_from(size.saturating_sub(start)).unwrap_or(CHUNK_LEN);
        let bytes = chunk.get_mut(..left.min(CHUNK_LEN)).unwrap_or_default();
        unreadable = unreadable.saturating_add(read_what_can_be_read(storage, bytes, start));
        for (sector, offset) in bytes.chunks(SECTOR_LEN).zip((start..).step_by(SECTOR_LEN)) {
            look(sector, offset);
        }
        start = start.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if progress(start, size).is_break() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
    }
    Ok(unreadable)
}

impl Scan {
    /// Parses what starts as a copy does. Hostile bytes may hold millions of those.
    pub(in crate::format) fn look_at(&mut self, storage: &dyn Storage, sector: &[u8], offset: u64) {
        if !sector.starts_with(&MAGIC) {
            return;
        }
        let looked_at = self.broken.saturating_add(u64::try_from(self.whole.len()).unwrap_or(u64::MAX));
        if looked_at >= MAX_PLACES || self.whole.len() >= MAX_WHOLE {
            self.is_cut_short = true;
            return;
        }
        match read_copy(storage, offset) {
            Ok(copy) => self.whole.push(FoundCopy { offset, copy }),
            Err(_) => self.broken = self.broken.saturating_add(1),
        }
    }
}

const CHUNK_LEN: usize = 1 << 20;
const SECTOR_LEN: usize = 512;
/// Where in a sector an offset is.
const WITHIN: u64 = 511;
/// An honest medium has a few.
const MAX_WHOLE: usize = 256;
/// So many places with the signature are read and summed; together 256 MiB.
const MAX_PLACES: u64 = 4_096;
