//! Volumes for tests, over any storage.

use std::sync::Arc;

use strongroom::{
    block::CryptDevice,
    crypto::SectorCipher,
    mapping::{Holes, Mapping, Segment},
    storage::Storage,
    units::{Sector, SectorSize},
};

/// Where the volume starts in its container; not a multiple of the storage's block.
pub(crate) const DATA_OFFSET: u64 = 3 * 512;

/// The bytes that lie between the two segments.
pub(crate) const GAP: u64 = 1024;

/// A volume of two segments with a gap between them in the container, so that accesses have to be split.
pub(crate) fn crypt_device(
    storage: Arc<dyn Storage>,
    sector_size: SectorSize,
    sectors: u64,
    holes: Holes,
) -> CryptDevice {
    let cipher: Arc<dyn SectorCipher> = Arc::new(Toy);
    let half = sectors / 2;
    let first = Segment {
        first: Sector(0),
        sectors: half,
        storage_offset: DATA_OFFSET,
        first_tweak: Sector(0),
        cipher: Arc::clone(&cipher),
    };
    let second = Segment {
        first: Sector(half),
        sectors: sectors - half,
        storage_offset: DATA_OFFSET + half * sector_size.bytes_u64() + GAP,
        first_tweak: Sector(1 << 40),
        cipher,
    };
    CryptDevice::new(storage, Mapping::new(sector_size, vec![first, second], holes).unwrap())
}

/// How many bytes the container of [`crypt_device`] has.
pub(crate) fn container_size(sector_size: SectorSize, sectors: u64) -> u64 {
    DATA_OFFSET + sectors * sector_size.bytes_u64() + GAP
}

/// A stream that differs for each sector and byte; enough to notice a wrong tweak, offset or length.
#[derive(Debug)]
struct Toy;

impl SectorCipher for Toy {
    fn encrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        for (sector, tweak) in data.chunks_exact_mut(sector_size.bytes()).zip(first.0..) {
            let mut state = tweak.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995_1234_5678;
            for lane in sector.as_chunks_mut::<8>().0 {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                *lane = (u64::from_le_bytes(*lane) ^ state ^ (state >> 29)).to_le_bytes();
            }
        }
    }

    fn decrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        self.encrypt(data, sector_size, first);
    }
}
