use std::{
    collections::HashMap,
    fmt,
    ops::Range,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{BlockDevice, BlockError, Geometry, byte_count};
use crate::{crypto::secret::LockedBytes, units::Sector};

/// A device that takes writes and keeps them in memory; the one below it is only read.
///
/// It lets the journal of a file system be replayed that must not be written. What is kept is plaintext: the memory is
/// locked where the limit allows, and wiped on drop. There is a limit to it, behind which writes fail.
pub struct ShadowDevice {
    base: Arc<dyn BlockDevice>,
    geometry: Geometry,
    kept: RwLock<Kept>,
    is_full: AtomicBool,
    is_sealed: AtomicBool,
}

impl ShadowDevice {
    /// A shadow of `base` that keeps at most so many bytes.
    pub fn new(base: Arc<dyn BlockDevice>, most_bytes: u64) -> Self {
        let geometry = Geometry { read_only: false, can_discard: false, ..base.geometry() };
        let most = usize::try_from(most_bytes / byte_count(BLOCK)).unwrap_or(usize::MAX);
        Self {
            base,
            geometry,
            kept: RwLock::new(Kept::new(most)),
            is_full: AtomicBool::new(false),
            is_sealed: AtomicBool::new(false),
        }
    }

    /// The bytes that it keeps at most.
    pub fn limit(&self) -> u64 {
        let most = self.kept.read().unwrap_or_else(PoisonError::into_inner).most;
        byte_count(most).saturating_mul(byte_count(BLOCK))
    }

    /// Whether anything was written that the device below does not hold.
    pub fn is_changed(&self) -> bool {
        !self.kept.read().unwrap_or_else(PoisonError::into_inner).places.is_empty()
    }

    /// Whether a write failed because the limit was reached, or memory ran out.
    pub fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Refuses writes from now on, or takes them again.
    ///
    /// Once a journal is replayed, nothing is to be written that would be lost at the end.
    pub fn seal(&self, is_sealed: bool) {
        self.is_sealed.store(is_sealed, Ordering::Relaxed);
    }

    fn check_writable_range(&self, first: Sector, sectors: u64) -> Result<(), BlockError> {
        if self.is_sealed.load(Ordering::Relaxed) {
            return Err(BlockError::ReadOnly);
        }
        self.check_range(first, sectors)
    }

    fn check_range(&self, first: Sector, sectors: u64) -> Result<(), BlockError> {
        let end = self.geometry.sectors;
        match first.0.checked_add(sectors) {
            Some(last) if last <= end => Ok(()),
            _ => Err(BlockError::OutOfRange { first: first.0, sectors, end }),
        }
    }

    fn sectors_in(&self, len: usize) -> Result<u64, BlockError> {
        self.geometry.sector_size.sectors_in(byte_count(len)).ok_or(BlockError::PartialSector { len })
    }

    /// The blocks that a request of `len` bytes from `first` on touches, each with what of its bytes.
    fn blocks(&self, first: Sector, len: usize) -> impl Iterator<Item = Touched> + use<> {
        let start = first.0 << self.geometry.sector_size.shift();
        let mut done = 0;
        std::iter::from_fn(move || {
            let left = len.checked_sub(done).filter(|&left| left > 0)?;
            let at = start + byte_count(done);
            let within = usize::try_from(at % byte_count(BLOCK)).ok()?;
            let count = left.min(BLOCK - within);
            let touched = Touched { block: at / byte_count(BLOCK), within: within..within + count, at: done };
            done += count;
            Some(touched)
        })
    }

    /// What lies below at a block, into the start of `buf`; the last block of a device may be shorter.
    fn read_base(&self, block: u64, buf: &mut [u8; BLOCK]) -> Result<(), BlockError> {
        let start = block * byte_count(BLOCK);
        let len = usize::try_from(self.geometry.bytes() - start).map_or(BLOCK, |left| left.min(BLOCK));
        let first = Sector(start >> self.geometry.sector_size.shift());
        self.base.read(&mut buf[..len], first)
    }

    fn full(&self) -> BlockError {
        self.is_full.store(true, Ordering::Relaxed);
        BlockError::Full
    }
}

impl BlockDevice for ShadowDevice {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn reserve(&self, requests: usize) {
        self.base.reserve(requests);
    }

    fn read(&self, buf: &mut [u8], first: Sector) -> Result<(), BlockError> {
        self.check_range(first, self.sectors_in(buf.len())?)?;
        self.base.read(buf, first)?;
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        for touched in self.blocks(first, buf.len()) {
            let part = &mut buf[touched.at..][..touched.within.len()];
            match kept.places.get(&touched.block) {
                None => {}
                Some(Place::Zeros) => part.fill(0),
                Some(Place::At(slot)) => part.copy_from_slice(&kept.block(*slot)[touched.within]),
            }
        }
        Ok(())
    }

    fn write(&self, buf: &[u8], first: Sector) -> Result<(), BlockError> {
        self.check_writable_range(first, self.sectors_in(buf.len())?)?;
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        for touched in self.blocks(first, buf.len()) {
            let slot = match kept.places.get(&touched.block).copied() {
                Some(Place::At(slot)) => slot,
                known => {
                    let slot = kept.take_slot().ok_or_else(|| self.full())?;
                    let block = kept.block_mut(slot);
                    if known.is_some() {
                        block.fill(0);
                    } else if touched.within.len() < BLOCK {
                        let read = self.read_base(touched.block, block);
                        if read.is_err() {
                            kept.spare.push(slot);
                        }
                        read?;
                    }
                    kept.places.insert(touched.block, Place::At(slot));
                    slot
                }
            };
            let data = &buf[touched.at..][..touched.within.len()];
            kept.block_mut(slot)[touched.within].copy_from_slice(data);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn write_zeroes(&self, range: Range<Sector>) -> Result<(), BlockError> {
        self.check_writable_range(range.start, range.end.0.saturating_sub(range.start.0))?;
        let sector_size = self.geometry.sector_size;
        let zeros = [0; BLOCK];
        let mut next = range.start.0;
        while next < range.end.0 {
            let at = next << sector_size.shift();
            let left = (range.end.0 - next) << sector_size.shift();
            if !at.is_multiple_of(byte_count(BLOCK)) || left < byte_count(BLOCK) {
                self.write(&zeros[..sector_size.bytes()], Sector(next))?;
                next += 1;
                continue;
            }
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            if kept.places.len() >= kept.most.saturating_mul(ZEROS_PER_BLOCK) {
                return Err(self.full());
            }
            if let Some(Place::At(slot)) = kept.places.insert(at / byte_count(BLOCK), Place::Zeros) {
                kept.spare.push(slot);
            }
            next += byte_count(BLOCK) >> sector_size.shift();
        }
        Ok(())
    }

    fn discard(&self, _: Range<Sector>) -> Result<(), BlockError> {
        Ok(())
    }
}

impl fmt::Debug for ShadowDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShadowDevice({:?})", self.base)
    }
}

/// A part of a request that lies in one block.
struct Touched {
    block: u64,
    within: Range<usize>,
    /// Where in the request.
    at: usize,
}

/// Where a block that was written lies.
#[derive(Debug, Clone, Copy)]
enum Place {
    Zeros,
    At(usize),
}

/// What was written. Memory is taken as it is needed, and never given back before the end.
struct Kept {
    places: HashMap<u64, Place>,
    chunks: Vec<LockedBytes>,
    /// Slots that are free again.
    spare: Vec<usize>,
    used: usize,
    /// Blocks that there may be.
    most: usize,
}

impl Kept {
    fn new(most: usize) -> Self {
        Self { places: HashMap::new(), chunks: Vec::new(), spare: Vec::new(), used: 0, most }
    }

    /// A place for a block, whatever is in it; `None` where there may be no more.
    fn take_slot(&mut self) -> Option<usize> {
        if let Some(slot) = self.spare.pop() {
            return Some(slot);
        }
        if self.used >= self.most {
            return None;
        }
        if self.used / BLOCKS_PER_CHUNK == self.chunks.len() {
            self.chunks.push(LockedBytes::zeroed(BLOCKS_PER_CHUNK * BLOCK).ok()?);
        }
        self.used += 1;
        Some(self.used - 1)
    }

    fn block(&self, slot: usize) -> &[u8; BLOCK] {
        let (blocks, _) = self.chunks[slot / BLOCKS_PER_CHUNK].as_slice().as_chunks();
        &blocks[slot % BLOCKS_PER_CHUNK]
    }

    fn block_mut(&mut self, slot: usize) -> &mut [u8; BLOCK] {
        let (blocks, _) = self.chunks[slot / BLOCKS_PER_CHUNK].as_mut_slice().as_chunks_mut();
        &mut blocks[slot % BLOCKS_PER_CHUNK]
    }
}

/// What is kept as one: a whole number of sectors of any size.
const BLOCK: usize = 4096;
/// Memory is taken in pieces of 1 MiB.
const BLOCKS_PER_CHUNK: usize = 256;
/// Blocks of zeros take no memory but for the note of it.
const ZEROS_PER_BLOCK: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        block::CryptDevice,
        crypto::SectorCipher,
        mapping::{Holes, Mapping, Segment},
        storage::MemoryStorage,
        units::SectorSize,
    };

    #[derive(Debug)]
    struct NoCipher;

    impl SectorCipher for NoCipher {
        fn encrypt(&self, _: &mut [u8], _: SectorSize, _: Sector) {}
        fn decrypt(&self, _: &mut [u8], _: SectorSize, _: Sector) {}
    }

    /// Five and a half blocks, each byte its number, below a shadow of so many bytes.
    fn shadow(most_bytes: u64) -> (Arc<MemoryStorage>, Vec<u8>, ShadowDevice) {
        let bytes: Vec<u8> = (0..44 * 512_usize).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let storage = Arc::new(MemoryStorage::new(bytes.clone()));
        let segment = Segment {
            first: Sector(0),
            sectors: 44,
            storage_offset: 0,
            first_tweak: Sector(0),
            cipher: Arc::new(NoCipher),
        };
        let mapping = Mapping::new(SectorSize::B512, vec![segment], Holes::AreCiphertext).unwrap();
        let base = CryptDevice::new(Arc::clone(&storage) as Arc<_>, mapping);
        (storage, bytes, ShadowDevice::new(Arc::new(base), most_bytes))
    }

    fn all(device: &ShadowDevice) -> Vec<u8> {
        let mut bytes = vec![0; 44 * 512];
        device.read(&mut bytes, Sector(0)).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_shows_and_the_device_below_stays_as_it_was() {
        let (storage, mut model, device) = shadow(1 << 20);
        assert!(!device.is_changed());
        for (first, sectors, value) in [(0, 1, 1), (7, 3, 2), (8, 8, 3), (43, 1, 4), (30, 14, 5), (9, 1, 6)] {
            let data = vec![value; sectors * 512];
            device.write(&data, Sector(first)).unwrap();
            let at = usize::try_from(first).unwrap() * 512;
            model[at..at + data.len()].copy_from_slice(&data);
            assert_eq!(all(&device), model);
        }
        for (first, end) in [(1, 2), (3, 25), (24, 32), (40, 44)] {
            device.write_zeroes(Sector(first)..Sector(end)).unwrap();
            let bytes = usize::try_from(first).unwrap() * 512..usize::try_from(end).unwrap() * 512;
            model[bytes].fill(0);
            assert_eq!(all(&device), model);
        }
        device.write(&[9; 512], Sector(12)).unwrap();
        model[12 * 512..13 * 512].fill(9);
        assert_eq!(all(&device), model);
        device.flush().unwrap();
        assert!(device.is_changed());
        let below: Vec<u8> = (0..44 * 512_usize).map(|at| u8::try_from(at % 251).unwrap()).collect();
        assert_eq!(storage.to_vec(), below);
    }

    #[test]
    fn behind_the_limit_a_write_fails_and_what_was_kept_stays() {
        let (_storage, _, device) = shadow(2 * 4096);
        device.write(&[1; 8192], Sector(0)).unwrap();
        assert!(!device.is_full());
        assert!(matches!(device.write(&[2; 512], Sector(16)), Err(BlockError::Full)));
        assert!(device.is_full());
        // What has a place is written, and what became zeros makes room.
        device.write(&[3; 512], Sector(15)).unwrap();
        device.write_zeroes(Sector(0)..Sector(8)).unwrap();
        device.write(&[2; 512], Sector(16)).unwrap();
        let found = all(&device);
        assert_eq!((found[0], found[14 * 512], found[15 * 512], found[16 * 512]), (0, 1, 3, 2));
    }

    #[test]
    fn a_sealed_shadow_takes_no_writes_until_it_is_opened_again() {
        let (_storage, model, device) = shadow(1 << 20);
        device.seal(true);
        assert!(matches!(device.write(&[1; 512], Sector(0)), Err(BlockError::ReadOnly)));
        assert!(matches!(device.write_zeroes(Sector(0)..Sector(8)), Err(BlockError::ReadOnly)));
        assert_eq!(all(&device), model);
        device.seal(false);
        device.write(&[1; 512], Sector(0)).unwrap();
        assert_eq!(all(&device)[..512], [1; 512]);
    }

    #[test]
    fn requests_past_the_end_are_refused() {
        let (_storage, _, device) = shadow(1 << 20);
        let past = |result| matches!(result, Err(BlockError::OutOfRange { .. }));
        assert!(past(device.write(&[0; 1024], Sector(43))));
        assert!(past(device.read(&mut [0; 512], Sector(44))));
        assert!(matches!(device.write(&[0; 100], Sector(0)), Err(BlockError::PartialSector { len: 100 })));
    }
}
