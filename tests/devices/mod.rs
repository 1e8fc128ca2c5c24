//! Volumes for tests, over any storage.

use std::sync::Arc;

use strongroom::{
    block::CryptDevice,
    crypto::{SectorCipher, xts::AesXts},
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
    let cipher: Arc<dyn SectorCipher> = Arc::new(AesXts::aes256(&(0..64).collect::<Vec<u8>>()).unwrap());
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
