//! NTFS, for reading (Microsoft, *Master File Table* in the developer notes of Win32; the Linux-NTFS project's documentation).
//!
//! Nothing is written, not even in memory: a log that was not emptied is not replayed. Names are told apart by case, as POSIX has it, and
//! second names for DOS do not show. What cannot be read for what it is (encrypted, kept elsewhere, compressed by a filter) is refused.
//!
//! Every walk is bounded by what it walks through: a list of attributes by its length, runs by their record, a tree of names by levels.
//! What does not fit is [`Damaged`](Fault::Damaged), and only the file that it belongs to cannot be read.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "a test that panics has failed"
    )
)]

mod compression;
mod directory;
mod file;
mod geometry;
mod link;
mod names;
mod record;
mod runs;
mod stream;
mod volume;

use std::{
    cmp::Ordering,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    sync::{Arc, OnceLock},
};

pub(super) use self::names::text;
use self::{
    file::{Nature, ROOT, number},
    record::DATA,
    stream::Stream,
    volume::Volume,
};
use super::{
    Attributes, Fault, FileSystem, Found, Listed, NodeId, Result, Seek, Space,
    bytes::{index, long, short},
};
use crate::block::ByteDevice;

/// A volume that was opened, for reading.
#[derive(Debug)]
pub struct NtfsFileSystem {
    volume: Volume,
    free: OnceLock<u64>,
}

impl NtfsFileSystem {
    /// Opens the volume on `device`. Nothing is written.
    ///
    /// The volume may be longer than the device where that `is_cut_short`: what lies behind the end cannot be read then.
    pub fn open(device: &Arc<ByteDevice>, is_cut_short: bool) -> Result<Self> {
        let opened =
            Volume::open(device, if is_cut_short { u64::MAX } else { device.size() }).and_then(|volume| {
                volume.file(ROOT)?.directory()?;
                Ok(Self { volume, free: OnceLock::new() })
            });
        // What the volume itself needs cannot have gone.
        opened.map_err(|fault| if fault == Fault::Io { fault } else { Fault::Damaged })
    }

    /// Whether Windows sleeps on this volume: it has the newest of it in memory, and will write that.
    pub fn is_hibernated(&self) -> bool {
        self.hibernation().is_ok_and(|start| SLEEPING.contains(&start.as_slice()))
    }

    /// How the file begins in which Windows keeps its memory.
    fn hibernation(&self) -> Result<Vec<u8>> {
        let root = self.volume.file(ROOT)?;
        let name: Vec<u16> = HIBERNATION.encode_utf16().collect();
        let order = |other: &[u8]| self.volume.case.folded(&name, other);
        let (file, _) = self.volume.find(root.directory()?, &order)?;
        let content = file.content()?.ok_or(Fault::NotFound)?;
        let mut start = vec![0; 4];
        let len = self.volume.read(content, 0, &mut start)?;
        start.truncate(len);
        Ok(start)
    }

    /// Counts the clusters that the bitmap does not have in use.
    fn count_free(&self) -> Result<u64> {
        let volume = &self.volume;
        let record = volume.record(BITMAP_FILE)?;
        let pieces = volume.survey(BITMAP_FILE, &record)?;
        let bitmap = Stream::open(volume, BITMAP_FILE, DATA, pieces.data)?.ok_or(Fault::Damaged)?;
        let bytes = volume.geometry.clusters.div_ceil(8);
        if !bitmap.is_plain() || bitmap.size() < bytes {
            return Err(Fault::Damaged);
        }
        let (mut buffer, mut at, mut used) = (vec![0; BITMAP_PART], 0_u64, 0_u64);
        while at < bytes {
            let len = index(bytes.saturating_sub(at)).min(BITMAP_PART);
            let part = buffer.get_mut(..len).ok_or(Fault::Damaged)?;
            volume.read(&bitmap, at, part)?;
            at = at.saturating_add(long(len));
            let spare = at.saturating_mul(8).saturating_sub(volume.geometry.clusters);
            if let Some(last) = part.last_mut().filter(|_| spare > 0) {
                // Bits behind the last cluster are set.
                *last &= 0xff_u8.checked_shr(short(spare)).unwrap_or_default();
            }
            used = used.saturating_add(part.iter().map(|byte| u64::from(byte.count_ones())).sum());
        }
        Ok(volume.geometry.clusters.saturating_sub(used))
    }
}

impl FileSystem for NtfsFileSystem {
    fn name(&self) -> &'static str {
        "NTFS"
    }

    fn lookup(&self, parent: NodeId, name: &OsStr) -> Result<Found> {
        let volume = &self.volume;
        let folder = volume.file(number(parent)?)?;
        let index = folder.directory()?;
        let name = names::wanted(name.as_bytes()).ok_or(Fault::NotFound)?;
        if name.len() > names::LONGEST {
            return Err(Fault::NameTooLong);
        }
        let order = |other: &[u8]| -> Ordering { volume.case.sorted(&name, other) };
        let (file, _) = volume.find(index, &order)?;
        Ok(Found { attributes: volume.describe(&file), is_exact: true })
    }

    fn forget(&self, _: NodeId, _: u64) {}

    fn attributes(&self, node: NodeId) -> Result<Attributes> {
        Ok(self.volume.describe(&*self.volume.file(number(node)?)?))
    }

    fn open(&self, node: NodeId) -> Result<()> {
        self.volume.file(number(node)?).map(|_| ())
    }

    fn release(&self, _: NodeId) {}

    fn read(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let file = self.volume.file(number(node)?)?;
        file.content()?.map_or(Ok(0), |content| self.volume.read(content, offset, buf))
    }

    fn target(&self, node: NodeId) -> Result<Vec<u8>> {
        let file = self.volume.file(number(node)?)?;
        match &file.nature {
            Nature::Link(link) => Ok(self.volume.target(&file, link)),
            _ => Err(Fault::Invalid),
        }
    }

    fn list(&self, node: NodeId, cursor: u64, take: &mut dyn FnMut(&Listed<'_>) -> bool) -> Result<()> {
        let file = self.volume.file(number(node)?)?;
        self.volume.list(file.directory()?, cursor, take)
    }

    fn seek(&self, node: NodeId, offset: u64, what: Seek) -> Result<u64> {
        let file = self.volume.file(number(node)?)?;
        self.volume.seek(file.content()?.ok_or(Fault::PastEnd)?, offset, what)
    }

    fn space(&self) -> Space {
        // A bitmap that cannot be read leaves nothing free.
        let free = *self.free.get_or_init(|| self.count_free().unwrap_or_default());
        Space {
            unit: short(self.volume.geometry.cluster_len),
            total: self.volume.geometry.clusters,
            free,
            available: free,
            nodes: 0,
            free_nodes: 0,
            name_max: short(names::LONGEST),
        }
    }
}

const BITMAP_FILE: u64 = 6;
const BITMAP_PART: usize = 1 << 18;
const HIBERNATION: &str = "hiberfil.sys";
const SLEEPING: [&[u8]; 2] = [b"hibr", b"HIBR"];
