//! Protection of a hidden volume: what would touch it is refused whole, and everything after that.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod devices;

use std::{
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use devices::{container_size, crypt_device};
use proptest::{prelude::*, test_runner::RngSeed};
use strongroom::{
    block::{BlockDevice, BlockError, ByteDevice, ProtectedDevice},
    mapping::Holes,
    storage::MemoryStorage,
    units::{Sector, SectorSize},
};

const SECTORS: u64 = 64;
const PROTECTED: std::ops::Range<u64> = 40..56;

struct World {
    storage: Arc<MemoryStorage>,
    device: Arc<ProtectedDevice>,
    bytes: ByteDevice,
}

fn world(sector_size: SectorSize, holes: Holes) -> World {
    let size = usize::try_from(container_size(sector_size, SECTORS)).unwrap();
    let storage = Arc::new(MemoryStorage::new(vec![0; size]));
    let inner = crypt_device(storage.clone(), sector_size, SECTORS, holes);
    inner.write_zeroes(Sector(0)..Sector(SECTORS)).unwrap();
    let range = Sector(PROTECTED.start)..Sector(PROTECTED.end);
    let device = Arc::new(ProtectedDevice::new(Arc::new(inner), range));
    World { storage, bytes: ByteDevice::new(device.clone()), device }
}

#[derive(Debug, Clone)]
enum Step {
    Write { offset: u64, len: u64, fill: u8 },
    Zero { offset: u64, len: u64 },
    Discard { first: u64, sectors: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || (0..SECTORS * 512, prop_oneof![0..600_u64, 0..6_000_u64]);
    let step = prop_oneof![
        4 => (place(), 1..=255_u8).prop_map(|((offset, len), fill)| Step::Write { offset, len, fill }),
        1 => place().prop_map(|(offset, len)| Step::Zero { offset, len }),
        1 => (0..SECTORS, 0..4_u64).prop_map(|(first, sectors)| Step::Discard { first, sectors }),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    // proves: VC-PROT-01
    #[test]
    fn the_first_change_that_touches_the_range_is_refused_and_all_that_follow(steps in steps()) {
        let world = world(SectorSize::B512, Holes::AreCiphertext);
        let size = usize::try_from(world.bytes.size()).unwrap();
        let mut model = vec![0_u8; size];
        let mut is_refused = false;
        for step in steps {
            let (range, fill) = match step {
                Step::Write { offset, len, fill } => (offset..(offset + len).min(SECTORS * 512), Some(fill)),
                Step::Zero { offset, len } => (offset..(offset + len).min(SECTORS * 512), Some(0)),
                Step::Discard { first, sectors } => (first * 512..(first + sectors).min(SECTORS) * 512, None),
            };
            let touched = range.start / 512..range.end.div_ceil(512);
            let touches =
                touched.start < PROTECTED.end && PROTECTED.start < touched.end && !range.is_empty();
            is_refused |= touches;
            let done = match step {
                Step::Write { fill, .. } => {
                    let data = vec![fill; usize::try_from(range.end - range.start).unwrap()];
                    world.bytes.write_at(&data, range.start)
                }
                Step::Zero { .. } => world.bytes.zero_range(range.clone()),
                Step::Discard { .. } => world.device.discard(Sector(touched.start)..Sector(touched.end)),
            };
            if is_refused {
                prop_assert!(matches!(done, Err(BlockError::Protected)), "{done:?}");
            } else {
                done.unwrap();
                if let Some(fill) = fill {
                    model[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()].fill(fill);
                }
            }
            prop_assert_eq!(world.device.has_refused(), is_refused);
        }
        let mut found = vec![1; size];
        world.bytes.read_at(&mut found, 0).unwrap();
        prop_assert!(found == model, "the volume differs from the model");
    }
}

// proves: VC-PROT-02
#[test]
fn a_request_that_reaches_into_the_range_by_one_byte_writes_nothing_of_itself() {
    for (offset, len) in [(39 * 4096 - 5, 4096 + 6), (56 * 4096 - 1, 5000), (3, 64 * 4096 - 3)] {
        let world = world(SectorSize::B4096, Holes::AreCiphertext);
        let before = world.storage.to_vec();
        let error = world.bytes.write_at(&vec![9; len], offset).unwrap_err();
        assert!(matches!(error, BlockError::Protected), "{error}");
        assert!(world.storage.to_vec() == before, "{len} bytes at {offset} were written in part");
    }
}

#[test]
fn the_neighbours_of_the_range_can_be_written() {
    let world = world(SectorSize::B4096, Holes::AreCiphertext);
    world.bytes.write_at(&[9; 4096], 39 * 4096).unwrap();
    world.bytes.write_at(&[9; 4096], 56 * 4096).unwrap();
    assert!(!world.device.has_refused());
}

#[test]
fn a_change_of_no_bytes_touches_nothing_wherever_it_is() {
    let world = world(SectorSize::B4096, Holes::AreCiphertext);
    for offset in [45 * 4096, 45 * 4096 + 1, 46 * 4096 - 1] {
        world.bytes.write_at(&[], offset).unwrap();
        world.bytes.zero_range(offset..offset).unwrap();
    }
    assert!(!world.device.has_refused());
}

#[test]
fn a_refusal_raises_the_alarm_once_and_leaves_reading_and_flushing() {
    let world = world(SectorSize::B512, Holes::ReadAsZeros);
    let mut alarm = world.device.alarm().unwrap();
    world.device.discard(Sector(50)..Sector(51)).unwrap_err();
    let mut nothing = Vec::new();
    assert_eq!(alarm.read_to_end(&mut nothing).unwrap(), 0);
    assert_eq!(world.device.alarm().unwrap().read_to_end(&mut nothing).unwrap(), 0);
    world.bytes.read_at(&mut [0; 512], 50 * 512).unwrap();
    world.bytes.flush().unwrap();
}

/// Sixteen writers count upwards, each in sectors of its own, until one of them strays. What was refused is nowhere, what was
/// told to be done is there, and nothing that began after a refusal had been told was done.
// proves: VC-PROT-03
#[test]
fn among_many_writers_nothing_lands_after_the_first_refusal() {
    for round in 0..40_u64 {
        let world = world(SectorSize::B512, Holes::AreCiphertext);
        let clock = AtomicU64::new(0);
        let writers: Vec<Writer> = thread::scope(|scope| {
            let handles: Vec<_> = (0..8_u64)
                .map(|writer| {
                    let (world, clock) = (&world, &clock);
                    let strays_at = (writer == round % 8).then_some(50 + round * 7 % 101);
                    scope.spawn(move || write_until_refused(world, clock, writer, strays_at))
                })
                .collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect()
        });
        let refused_at = writers.iter().map(|writer| writer.refused_at).min().unwrap();
        for (writer, number) in writers.iter().zip(0_u64..) {
            assert!(writer.last_begun < refused_at, "round {round}: writer {number} got through after it");
            let mut found = [0; 700];
            world.bytes.read_at(&mut found, number * 4 * 512 + 300).unwrap();
            assert!(found == [writer.last; 700], "round {round}: writer {number} left something else");
        }
        let mut found = vec![1; 16 * 512];
        world.bytes.read_at(&mut found, PROTECTED.start * 512).unwrap();
        assert!(found.iter().all(|&byte| byte == 0));
    }
}

struct Writer {
    /// The last fill that was said to be written.
    last: u8,
    /// When that write began.
    last_begun: u64,
    /// When a write had been refused.
    refused_at: u64,
}

fn write_until_refused(world: &World, clock: &AtomicU64, writer: u64, strays_at: Option<u64>) -> Writer {
    let mut state = Writer { last: 0, last_begun: 0, refused_at: 0 };
    for count in 1.. {
        let fill = u8::try_from(count % 251).unwrap();
        let offset =
            if strays_at == Some(count) { PROTECTED.start * 512 + 77 } else { writer * 4 * 512 + 300 };
        let begun = clock.fetch_add(1, Ordering::SeqCst);
        // Two parts of sectors and a whole one: three writes below.
        if world.bytes.write_at(&[fill; 700], offset).is_err() {
            state.refused_at = clock.fetch_add(1, Ordering::SeqCst);
            break;
        }
        (state.last, state.last_begun) = (fill, begun);
    }
    state
}
