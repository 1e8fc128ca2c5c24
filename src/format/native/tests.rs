//! What vectors cannot show: the order of writes, randomness, regions. (The vectors: `tests/native_vectors`.)

mod editor;
mod headers;

use std::{
    io,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use super::*;
use crate::{
    block::{BlockDevice, CryptDevice},
    crypto::{
        kdf::{Argon2Cost, KdfLimits},
        rng::Rng,
        secret::{Credentials, Password, VolumeKey},
    },
    error::ErrorKind,
    format::{Attempt, Format},
    mapping::{Holes, Mapping, Segment},
    storage::{Limits, MemoryStorage, Storage},
    units::{Sector, SectorSize},
};

const CHEAP: Argon2Cost = Argon2Cost { memory_kib: MIN_MEMORY_KIB, passes: MIN_PASSES, lanes: 1 };

/// Counts up: 0, 1, 2, ... in 8-byte steps.
#[derive(Default)]
struct Counting(AtomicU64);

impl Rng for Counting {
    fn fill(&self, buf: &mut [u8]) -> io::Result<()> {
        for chunk in buf.chunks_mut(8) {
            let next = self.0.fetch_add(1, Ordering::Relaxed).to_le_bytes();
            chunk.copy_from_slice(&next[..chunk.len()]);
        }
        Ok(())
    }
}

/// What a storage was asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    Read(u64),
    Write(u64),
    Sync,
}

/// Memory that keeps a record of what was asked of it.
#[derive(Debug)]
struct Recorded {
    memory: MemoryStorage,
    calls: Mutex<Vec<Call>>,
    /// Reads give back other bytes than were written here.
    lies: bool,
}

impl Recorded {
    fn new(len: u64, lies: bool) -> Self {
        let memory = MemoryStorage::default();
        memory.set_size(len).unwrap();
        Self { memory, calls: Mutex::default(), lies }
    }

    fn note(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }
}

impl Storage for Recorded {
    fn size(&self) -> io::Result<u64> {
        self.memory.size()
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.note(Call::Read(offset));
        self.memory.read_exact_at(buf, offset)?;
        if self.lies {
            buf[100] ^= 1;
        }
        Ok(())
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.note(Call::Write(offset));
        self.memory.write_all_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.note(Call::Sync);
        Ok(())
    }
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.memory.set_size(size)
    }
    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        self.memory.punch_hole(range)
    }
    fn limits(&self) -> Limits {
        self.memory.limits()
    }
}

fn credentials() -> Credentials {
    Credentials::Password { password: Password::copy_of(b"open sesame").unwrap(), keyfiles: Vec::new() }
}

fn new_container(cost: Argon2Cost, provision: Provision) -> NewContainer {
    NewContainer {
        suite: Suite::default(),
        uuid: new_uuid(&Counting::default()).unwrap(),
        label: Label::new("test").unwrap(),
        sector_size: SectorSize::B4096,
        provision,
        geometry: Geometry::for_container(MIN_CONTAINER_LEN + 4095).unwrap(),
        cost,
    }
}

// proves: NAT-UPD-01 NAT-UPD-02
#[test]
fn a_new_header_is_written_synced_and_read_back_copy_b_first() {
    let storage = Recorded::new(MIN_CONTAINER_LEN, false);
    let header =
        NewHeader::new(&new_container(CHEAP, Provision::Thick), &credentials(), &Counting::default())
            .unwrap();
    header.write(&storage).unwrap();
    let b = MIN_CONTAINER_LEN - (1 << 20);
    let copy = |offset| {
        // What stands there is read; then come no magic, the uuid, all but the magic, and all.
        let mut calls = vec![Call::Read(offset)];
        calls.extend((0..4).flat_map(|_| [Call::Write(offset), Call::Sync]));
        calls.push(Call::Read(offset));
        calls
    };
    assert_eq!(*storage.calls.lock().unwrap(), [copy(b), copy(0)].concat());
}

// proves: NAT-UPD-02
#[test]
fn a_medium_that_does_not_keep_copy_b_never_gets_copy_a() {
    let storage = Recorded::new(MIN_CONTAINER_LEN, true);
    let header =
        NewHeader::new(&new_container(CHEAP, Provision::Thick), &credentials(), &Counting::default())
            .unwrap();
    assert_eq!(header.write(&storage).unwrap_err().kind(), ErrorKind::Io);
    assert!(!storage.calls.lock().unwrap().contains(&Call::Write(0)));
}

// proves: NAT-KEY-01
#[test]
fn the_volume_key_is_what_the_random_generator_gave() {
    let header =
        NewHeader::new(&new_container(CHEAP, Provision::Thick), &credentials(), &Counting::default())
            .unwrap();
    let mut expected = [0; 64];
    Counting::default().fill(&mut expected).unwrap();
    assert_eq!(header.volume_key.expose(), expected);
}

// proves: NAT-KEY-09
#[test]
fn a_keyslot_below_64_mib_or_3_passes_is_not_made() {
    for cost in [Argon2Cost { memory_kib: MIN_MEMORY_KIB - 1, ..CHEAP }, Argon2Cost { passes: 2, ..CHEAP }] {
        let error =
            NewHeader::new(&new_container(cost, Provision::Thick), &credentials(), &Counting::default());
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Usage);
    }
}

#[test]
fn a_new_container_opens_with_its_password_and_with_its_volume_key() {
    let storage = MemoryStorage::default();
    storage.set_size(MIN_CONTAINER_LEN).unwrap();
    let new = new_container(CHEAP, Provision::Thin);
    let made = NewHeader::new(&new, &credentials(), &Counting::default()).unwrap();
    made.write(&storage).unwrap();

    let header = Native.read_header(&storage).unwrap();
    let unlocked = header.unlock(&credentials(), &Attempt::default()).unwrap();
    assert_eq!(unlocked.keyslot, Some(0));
    assert_eq!(unlocked.layout.current().holes(), Holes::ReadAsZeros);
    let key = VolumeKey::copy_of(made.volume_key.expose()).unwrap();
    assert_eq!(header.unlock_with_key(key).unwrap().layout.current().sectors(), 16);

    let info = header.describe();
    assert_eq!((info.provision, info.label.as_deref()), (Some("thin"), Some("test")));
    assert_eq!(info.uuid.unwrap().len(), 36);
}

#[test]
fn a_keyslot_that_needs_more_memory_than_is_free_is_not_derived() {
    let storage = MemoryStorage::default();
    storage.set_size(MIN_CONTAINER_LEN).unwrap();
    let made = NewHeader::new(&new_container(CHEAP, Provision::Thick), &credentials(), &Counting::default())
        .unwrap();
    made.write(&storage).unwrap();
    let limits = KdfLimits { available_kib: 1024, ..KdfLimits::default() };
    let attempt = Attempt { limits, ..Attempt::default() };
    let error = Native.read_header(&storage).unwrap().unlock(&credentials(), &attempt).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
}

#[test]
fn a_container_of_64_kib_of_data_is_the_smallest() {
    let error = Geometry::for_container(MIN_CONTAINER_LEN - 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(Geometry::for_container(MIN_CONTAINER_LEN).unwrap().data_len, 64 * 1024);
}

/// One byte of storage behind each 4 KiB; enough to look at sectors 1 TiB apart.
#[derive(Debug, Default)]
struct Sparse(Mutex<std::collections::BTreeMap<u64, Vec<u8>>>);

impl Storage for Sparse {
    fn size(&self) -> io::Result<u64> {
        Ok(1 << 50)
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let blocks = self.0.lock().unwrap();
        for (index, chunk) in buf.chunks_mut(4096).enumerate() {
            match blocks.get(&(offset + 4096 * index as u64)) {
                Some(block) => chunk.copy_from_slice(block),
                None => chunk.fill(0),
            }
        }
        Ok(())
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        for (index, chunk) in buf.chunks(4096).enumerate() {
            self.0.lock().unwrap().insert(offset + 4096 * index as u64, chunk.to_vec());
        }
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn set_size(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn punch_hole(&self, _: Range<u64>) -> io::Result<()> {
        Ok(())
    }
    fn limits(&self) -> Limits {
        Limits { read_only: false, can_punch: true, can_resize: true }
    }
}

// proves: NAT-DATA-02 NAT-DATA-03
#[test]
fn each_tebibyte_has_its_own_key_and_the_tweak_counts_on() {
    let key = VolumeKey::copy_of(&[7; 64]).unwrap();
    let uuid = [9; 16];
    let region_sectors = 1_u64 << (40 - 12);
    let superblock = Superblock {
        index: CopyIndex::A,
        uuid,
        label: Label::default(),
        sequence: 1,
        suite: Suite::default(),
        sector_size: SectorSize::B4096,
        provision: Provision::Thick,
        geometry: Geometry::for_container((1 << 40) + (3 << 20)).unwrap(),
        generation: 0,
        reencryption: None,
        unknown_writing_features: 0,
    };
    let layout = data::layout(&superblock, &key, None).unwrap();
    let mapping = layout.current().clone();
    assert_eq!(mapping.segments().len(), 2);
    let storage = Arc::new(Sparse::default());
    let device = CryptDevice::new(Arc::clone(&storage) as Arc<dyn Storage>, mapping);
    // Two sectors across the border in one write.
    device.write(&[0x5a; 8192], Sector(region_sectors - 1)).unwrap();

    let blocks = storage.0.lock().unwrap();
    for (region, sector) in [(0, region_sectors - 1), (1, region_sectors)] {
        let data_key = data_key(&key, &uuid, Suite::Aes256Xts, region).unwrap();
        let cipher = crate::crypto::xts::AesXts::aes256(data_key.expose()).unwrap();
        let mut block = blocks[&((1 << 20) + sector * 4096)].clone();
        cipher.decrypt_unit(&mut block, u128::from(sector));
        assert!(block.iter().all(|&byte| byte == 0x5a), "region {region}");
    }
}

// proves: NAT-DATA-05
#[test]
fn discarding_on_a_thin_mapping_leaves_zeros_and_on_a_thick_one_changes_nothing() {
    for (holes, expected) in [(Holes::ReadAsZeros, 0), (Holes::AreCiphertext, 0x5a)] {
        let key = data_key(&VolumeKey::copy_of(&[7; 64]).unwrap(), &[9; 16], Suite::Aes256Xts, 0).unwrap();
        let cipher = Arc::new(crate::crypto::xts::AesXts::aes256(key.expose()).unwrap());
        let segment =
            Segment { first: Sector(0), sectors: 64, storage_offset: 0, first_tweak: Sector(0), cipher };
        let storage = Arc::new(MemoryStorage::new(vec![0; 64 * 512]));
        let mapping = Mapping::new(SectorSize::B512, vec![segment], holes).unwrap();
        let device = CryptDevice::new(storage, mapping);
        device.write(&vec![0x5a; 64 * 512], Sector(0)).unwrap();
        // Neither end on a 4 KiB border.
        device.discard(Sector(3)..Sector(43)).unwrap();
        let mut bytes = vec![1; 64 * 512];
        device.read(&mut bytes, Sector(0)).unwrap();
        assert!(bytes[3 * 512..43 * 512].iter().all(|&byte| byte == expected), "{holes:?}");
        assert!(bytes[..3 * 512].iter().chain(&bytes[43 * 512..]).all(|&byte| byte == 0x5a), "{holes:?}");
    }
}
