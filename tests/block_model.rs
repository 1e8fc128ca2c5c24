//! The data plane against a `Vec<u8>`: whatever the sequence of accesses, both hold the same bytes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod devices;

use std::{io, sync::Arc, thread};

use devices::{DATA_OFFSET, container_size, crypt_device};
use proptest::{prelude::*, test_runner::RngSeed};
use strongroom::{
    block::{BlockDevice, BlockError, ByteDevice, CryptDevice},
    mapping::Holes,
    storage::{MemoryStorage, Storage},
    units::{Sector, SectorSize},
};

const SECTORS: u64 = 24;

#[derive(Debug, Clone)]
enum Step {
    Write { offset: u64, len: u64, fill: u8 },
    Read { offset: u64, len: u64 },
    Zero { offset: u64, len: u64 },
    Discard { first: u64, sectors: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || (0..SECTORS * 4096, prop_oneof![0..600_u64, 0..30_000_u64]);
    let step = prop_oneof![
        4 => (place(), 1..=255_u8).prop_map(|((offset, len), fill)| Step::Write { offset, len, fill }),
        2 => place().prop_map(|(offset, len)| Step::Read { offset, len }),
        1 => place().prop_map(|(offset, len)| Step::Zero { offset, len }),
        1 => (0..SECTORS, 0..9_u64).prop_map(|(first, sectors)| Step::Discard { first, sectors }),
    ];
    prop::collection::vec(step, 1..24)
}

fn memory_device(sector_size: SectorSize, holes: Holes) -> (Arc<MemoryStorage>, Arc<CryptDevice>) {
    let size = usize::try_from(container_size(sector_size, SECTORS)).unwrap();
    let storage = Arc::new(MemoryStorage::new(vec![0; size]));
    let device = crypt_device(storage.clone(), sector_size, SECTORS, holes);
    (storage, Arc::new(device))
}

/// Bytes that differ from place to place, so that a shifted write shows.
fn pattern(fill: u8, len: u64) -> Vec<u8> {
    (0..len).map(|i| fill.wrapping_add(u8::try_from(i % 251).unwrap())).collect()
}

fn span(offset: u64, len: u64) -> std::ops::Range<usize> {
    usize::try_from(offset).unwrap()..usize::try_from(offset + len).unwrap()
}

fn run(sector_size: SectorSize, holes: Holes, steps: Vec<Step>) {
    let (_, device) = memory_device(sector_size, holes);
    let bytes = ByteDevice::new(device.clone());
    let mut model = vec![0_u8; usize::try_from(bytes.size()).unwrap()];
    bytes.zero_range(0..bytes.size()).unwrap();
    let clip = |offset: u64, len: u64| {
        let offset = offset % bytes.size();
        (offset, len.min(bytes.size() - offset))
    };
    for step in steps {
        match step {
            Step::Write { offset, len, fill } => {
                let (offset, len) = clip(offset, len);
                let data = pattern(fill, len);
                bytes.write_at(&data, offset).unwrap();
                model[span(offset, len)].copy_from_slice(&data);
            }
            Step::Read { offset, len } => {
                let (offset, len) = clip(offset, len);
                let mut found = pattern(0, len);
                bytes.read_at(&mut found, offset).unwrap();
                assert!(found == model[span(offset, len)], "read of {len} at {offset}");
            }
            Step::Zero { offset, len } => {
                let (offset, len) = clip(offset, len);
                bytes.zero_range(offset..offset + len).unwrap();
                model[span(offset, len)].fill(0);
            }
            Step::Discard { first, sectors } => {
                let end = (first + sectors).min(SECTORS);
                device.discard(Sector(first)..Sector(end)).unwrap();
                if holes == Holes::ReadAsZeros {
                    let unit = sector_size.bytes_u64();
                    model[span(first * unit, (end - first) * unit)].fill(0);
                }
            }
        }
    }
    let mut all = vec![1; model.len()];
    bytes.read_at(&mut all, 0).unwrap();
    assert!(all == model, "the volume differs from the model");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        rng_seed: RngSeed::Fixed(11),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn thick_volumes_of_512_byte_sectors_follow_the_model(steps in steps()) {
        run(SectorSize::B512, Holes::AreCiphertext, steps);
    }

    #[test]
    fn thick_volumes_of_4096_byte_sectors_follow_the_model(steps in steps()) {
        run(SectorSize::B4096, Holes::AreCiphertext, steps);
    }

    #[test]
    fn thin_volumes_of_512_byte_sectors_follow_the_model(steps in steps()) {
        run(SectorSize::B512, Holes::ReadAsZeros, steps);
    }

    #[test]
    fn thin_volumes_of_4096_byte_sectors_follow_the_model(steps in steps()) {
        run(SectorSize::B4096, Holes::ReadAsZeros, steps);
    }
}

#[test]
fn writes_to_parts_of_one_sector_from_many_threads_are_all_kept() {
    for holes in [Holes::AreCiphertext, Holes::ReadAsZeros] {
        let (_, device) = memory_device(SectorSize::B4096, holes);
        let bytes = ByteDevice::new(device);
        bytes.zero_range(0..bytes.size()).unwrap();
        thread::scope(|scope| {
            for writer in 0..8_u8 {
                let bytes = &bytes;
                // Writers 0 to 5 share sector 0; 6 and 7 both write the sectors on either side of the segments' border.
                let (offset, len) =
                    if writer < 6 { (u64::from(writer) * 100, 100) } else { (11 * 4096, 8192) };
                scope.spawn(move || {
                    for round in 0..500_u32 {
                        let fill = writer.wrapping_add(u8::try_from(round % 199).unwrap());
                        bytes.write_at(&vec![fill; len], offset).unwrap();
                        let mut found = vec![0; len];
                        bytes.read_at(&mut found, offset).unwrap();
                        assert!(found.iter().all(|&byte| byte == found[0]), "a read saw half a write");
                        if writer < 6 {
                            assert_eq!(found[0], fill, "a write was lost");
                        }
                    }
                });
            }
        });
    }
}

#[test]
fn a_partial_write_does_not_undo_a_whole_one_beside_it_in_time() {
    let (_, device) = memory_device(SectorSize::B4096, Holes::AreCiphertext);
    let bytes = ByteDevice::new(device);
    bytes.zero_range(0..4096).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| (1..=250_u8).for_each(|fill| bytes.write_at(&[fill; 4096], 0).unwrap()));
        scope.spawn(|| (0..250).for_each(|_| bytes.write_at(&[255], 4095).unwrap()));
    });
    let mut found = [0; 4095];
    bytes.read_at(&mut found, 0).unwrap();
    assert!(found.iter().all(|&byte| byte == 250), "the last whole write is not what is there");
}

#[test]
fn accesses_past_the_end_are_refused_and_change_nothing() {
    let (storage, device) = memory_device(SectorSize::B512, Holes::AreCiphertext);
    let before = storage.to_vec();
    let error = device.write(&[1; 1024], Sector(SECTORS - 1)).unwrap_err();
    assert!(matches!(error, BlockError::OutOfRange { first: 23, sectors: 2, end: 24 }), "{error}");
    let error = device.read(&mut [0; 512], Sector(u64::MAX)).unwrap_err();
    assert!(matches!(error, BlockError::OutOfRange { .. }), "{error}");
    let error = device.write_zeroes(Sector(0)..Sector(25)).unwrap_err();
    assert!(matches!(error, BlockError::OutOfRange { .. }), "{error}");
    let bytes = ByteDevice::new(device);
    let error = bytes.write_at(&[1; 2], bytes.size() - 1).unwrap_err();
    assert!(matches!(error, BlockError::OutOfRange { .. }), "{error}");
    let error = bytes.read_at(&mut [1; 2], u64::MAX).unwrap_err();
    assert!(matches!(error, BlockError::OutOfRange { .. }), "{error}");
    assert_eq!(storage.to_vec(), before);
}

#[test]
fn a_buffer_of_half_a_sector_is_refused() {
    let (_, device) = memory_device(SectorSize::B512, Holes::AreCiphertext);
    let error = device.read(&mut [0; 700], Sector(0)).unwrap_err();
    assert!(matches!(error, BlockError::PartialSector { len: 700 }), "{error}");
}

#[test]
fn a_truncated_container_gives_an_error_beyond_its_end_and_data_before_it() {
    let (storage, device) = memory_device(SectorSize::B512, Holes::AreCiphertext);
    device.write(&[7; 512], Sector(2)).unwrap();
    storage.set_size(DATA_OFFSET + 3 * 512 + 100).unwrap();
    let mut sector = [0; 512];
    device.read(&mut sector, Sector(2)).unwrap();
    assert_eq!(sector, [7; 512]);
    let error = device.read(&mut sector, Sector(3)).unwrap_err();
    assert!(
        matches!(&error, BlockError::Io(source) if source.kind() == io::ErrorKind::UnexpectedEof),
        "{error}"
    );
}

#[test]
fn discard_on_a_thick_volume_changes_nothing_and_zeroing_leaves_no_zeros_at_rest() {
    let (storage, device) = memory_device(SectorSize::B4096, Holes::AreCiphertext);
    device.write(&[7; 4096], Sector(1)).unwrap();
    let before = storage.to_vec();
    device.discard(Sector(0)..Sector(4)).unwrap();
    assert_eq!(storage.to_vec(), before);
    device.write_zeroes(Sector(0)..Sector(SECTORS)).unwrap();
    let mut sector = [1; 4096];
    device.read(&mut sector, Sector(1)).unwrap();
    assert_eq!(sector, [0; 4096]);
    let start = usize::try_from(DATA_OFFSET).unwrap();
    assert!(storage.to_vec()[start..start + 4096].chunks(64).all(|run| run.iter().any(|&byte| byte != 0)));
}

#[test]
fn discard_on_a_thin_volume_leaves_zeros_at_rest_and_only_there() {
    let (storage, device) = memory_device(SectorSize::B512, Holes::ReadAsZeros);
    let plain = vec![9; 24 * 512];
    device.write(&plain, Sector(0)).unwrap();
    let before = storage.to_vec();
    device.discard(Sector(1)..Sector(11)).unwrap();
    let cleared = span(DATA_OFFSET + 512, 10 * 512);
    let mut expected = before;
    expected[cleared].fill(0);
    assert!(storage.to_vec() == expected, "other bytes than those of the sectors discarded have changed");
    let mut sector = [1; 512];
    device.read(&mut sector, Sector(5)).unwrap();
    assert_eq!(sector, [0; 512]);
}
