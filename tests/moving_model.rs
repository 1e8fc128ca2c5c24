//! Devices whose container is re-encrypted under them, against a `Vec<u8>`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on fails; its sizes are its own"
)]

use std::{
    io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use proptest::{prelude::*, test_runner::RngSeed};
use strongroom::{
    block::{
        BlockDevice, BlockError, ByteDevice, CryptDevice, Fence, Geometry, LiveDevice, MovingDevice,
        Transcoder,
    },
    crypto::xts::AesXts,
    mapping::{Holes, Mapping, Moving, Segment},
    storage::{Limits, MemoryStorage, Storage},
    units::{Sector, SectorSize},
};

const LEN: u64 = 256 << 10;
const DATA_OFFSET: u64 = 8192;
/// Where chunks are kept while they are replaced.
const JOURNAL: u64 = DATA_OFFSET + LEN;
const SHORT: Duration = Duration::from_millis(50);
/// Until then whoever is let through has come through, on a busy machine too.
const LONG: Duration = Duration::from_secs(60);

/// Two segments, as at the border of two regions.
fn mapping(key: u8, sector_size: SectorSize, holes: Holes) -> Mapping {
    let segment = |start: u64, len: u64, key: u8| Segment {
        first: Sector(start >> sector_size.shift()),
        sectors: len >> sector_size.shift(),
        storage_offset: DATA_OFFSET + start,
        first_tweak: Sector(start >> sector_size.shift()),
        cipher: Arc::new(AesXts::aes256(&(0..64).map(|i| i + key).collect::<Vec<u8>>()).unwrap()),
    };
    let half = LEN / 2 + 4096;
    Mapping::new(sector_size, vec![segment(0, half, key), segment(half, LEN - half, key + 1)], holes).unwrap()
}

/// A volume in motion, with what moves it.
struct Volume {
    storage: Arc<dyn Storage>,
    device: Arc<MovingDevice>,
    transcoder: Transcoder,
    new: Mapping,
}

impl Volume {
    /// Full of zeros under the old key.
    fn new(old: SectorSize, new: SectorSize, shown: SectorSize, holes: Holes) -> Self {
        let storage = Arc::new(MemoryStorage::new(vec![0; (JOURNAL + LEN) as usize]));
        Self::over(storage, old, new, shown, holes)
    }

    fn over(
        storage: Arc<dyn Storage>,
        old: SectorSize,
        new: SectorSize,
        shown: SectorSize,
        holes: Holes,
    ) -> Self {
        let (old, new) = (mapping(3, old, holes), mapping(90, new, holes));
        let transcoder = Transcoder::new(old.clone(), new.clone());
        let first = CryptDevice::new(Arc::clone(&storage), old.clone());
        first.write_zeroes(Sector(0)..Sector(first.geometry().sectors)).unwrap();
        let moving = Moving { old, new: new.clone(), border: 0, journaled: None };
        let device = Arc::new(MovingDevice::new(Arc::clone(&storage), moving, shown));
        Self { storage, device, transcoder, new }
    }

    fn bytes(&self) -> ByteDevice {
        ByteDevice::new(Arc::clone(&self.device) as Arc<dyn BlockDevice>)
    }

    fn fence(&self, len: u64) -> Fence {
        let start = self.device.border();
        self.device.fence(start..LEN.min(start + len))
    }

    /// Moves the border over the fence; the new ciphertext is in the journal first.
    fn replace(&self, fence: &mut Fence, write: bool) -> io::Result<()> {
        let Range { start, end } = fence.range().clone();
        let mut chunk = vec![0; (end - start) as usize];
        self.storage.read_exact_at(&mut chunk, DATA_OFFSET + start)?;
        self.transcoder.transcode(&mut chunk, start);
        self.storage.write_all_at(&chunk, JOURNAL + start)?;
        let journal = self.new.relocated(&(start..end), JOURNAL + start).unwrap();
        fence.replace(journal, || {
            if !write {
                // As a medium that fails half way.
                self.storage.write_all_at(&vec![0x77; chunk.len() / 2], DATA_OFFSET + start)?;
                return Err(io::Error::other("on purpose"));
            }
            self.storage.write_all_at(&chunk, DATA_OFFSET + start)
        })
    }

    fn advance(&self, len: u64) {
        let mut fence = self.fence(len);
        if !fence.range().is_empty() {
            self.replace(&mut fence, true).unwrap();
        }
        fence.lift();
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write { offset: u64, len: u64, fill: u8 },
    Read { offset: u64, len: u64 },
    Zero { offset: u64, len: u64 },
    Advance { blocks: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || (0..LEN, prop_oneof![0..600_u64, 0..40_000_u64]);
    let step = prop_oneof![
        4 => (place(), 1..=255_u8).prop_map(|((offset, len), fill)| Step::Write { offset, len, fill }),
        2 => place().prop_map(|(offset, len)| Step::Read { offset, len }),
        1 => place().prop_map(|(offset, len)| Step::Zero { offset, len }),
        3 => (1..12_u64).prop_map(|blocks| Step::Advance { blocks }),
    ];
    prop::collection::vec(step, 1..32)
}

fn pattern(fill: u8, len: u64) -> Vec<u8> {
    (0..len).map(|i| fill.wrapping_add((i % 251) as u8)).collect()
}

fn run(sizes: [SectorSize; 2], holes: Holes, steps: &[Step]) {
    let volume = Volume::new(sizes[0], sizes[1], sizes[1], holes);
    let bytes = volume.bytes();
    let mut model = vec![0_u8; LEN as usize];
    for step in steps {
        let clip = |offset: u64, len: u64| (offset as usize)..(offset + len.min(LEN - offset)) as usize;
        match *step {
            Step::Write { offset, len, fill } => {
                let range = clip(offset, len);
                let data = pattern(fill, range.len() as u64);
                bytes.write_at(&data, offset).unwrap();
                model[range].copy_from_slice(&data);
            }
            Step::Read { offset, len } => {
                let range = clip(offset, len);
                let mut found = vec![1; range.len()];
                bytes.read_at(&mut found, offset).unwrap();
                assert!(found == model[range], "read of {len} at {offset}");
            }
            Step::Zero { offset, len } => {
                let range = clip(offset, len);
                bytes.zero_range(range.start as u64..range.end as u64).unwrap();
                model[range].fill(0);
            }
            Step::Advance { blocks } => volume.advance(4096 * blocks),
        }
    }
    let mut all = vec![1; model.len()];
    bytes.read_at(&mut all, 0).unwrap();
    assert!(all == model, "the volume differs from the model");
    // To the end, and then through the new mapping alone.
    while volume.device.border() < LEN {
        volume.advance(40_960);
    }
    let device = CryptDevice::new(Arc::clone(&volume.storage), volume.new.clone());
    device.read(&mut all, Sector(0)).unwrap();
    assert!(all == model, "what was moved differs from the model");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        rng_seed: RngSeed::Fixed(13),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn thick_volumes_in_motion_follow_the_model(steps in steps()) {
        run([SectorSize::B4096, SectorSize::B4096], Holes::AreCiphertext, &steps);
        run([SectorSize::B512, SectorSize::B4096], Holes::AreCiphertext, &steps);
    }

    #[test]
    fn thin_volumes_in_motion_follow_the_model(steps in steps()) {
        run([SectorSize::B4096, SectorSize::B512], Holes::ReadAsZeros, &steps);
        run([SectorSize::B512, SectorSize::B4096], Holes::ReadAsZeros, &steps);
    }
}

#[test]
fn no_write_is_lost_and_no_read_is_garbled_while_the_border_passes() {
    for (sizes, holes) in [
        ([SectorSize::B4096, SectorSize::B4096], Holes::AreCiphertext),
        ([SectorSize::B512, SectorSize::B4096], Holes::ReadAsZeros),
    ] {
        let volume = Volume::new(sizes[0], sizes[1], SectorSize::B512, holes);
        let bytes = volume.bytes();
        let ended = AtomicBool::new(false);
        let rounds = AtomicUsize::new(0);
        thread::scope(|scope| {
            for user in 0..3_u64 {
                let (bytes, ended, rounds) = (&bytes, &ended, &rounds);
                scope.spawn(move || {
                    let mut fills = vec![0_u8; (LEN / 3000) as usize];
                    let mut round = 0_u64;
                    while !ended.load(Ordering::Acquire) {
                        round += 1;
                        let place = (round * 37 % (LEN / 3000)) as usize;
                        let at = place as u64 * 3000 + user * 1000;
                        let mut found = vec![1; 1000];
                        bytes.read_at(&mut found, at).unwrap();
                        assert!(found.iter().all(|&byte| byte == fills[place]), "user {user} at {at}");
                        fills[place] = (round % 255) as u8 + 1;
                        bytes.write_at(&vec![fills[place]; 1000], at).unwrap();
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                    for (place, fill) in fills.iter().enumerate() {
                        let mut found = vec![1; 1000];
                        bytes.read_at(&mut found, place as u64 * 3000 + user * 1000).unwrap();
                        assert!(found.iter().all(|byte| byte == fill), "user {user}, at last");
                    }
                });
            }
            while volume.device.border() < LEN {
                let before = rounds.load(Ordering::Relaxed);
                volume.advance(8192);
                while rounds.load(Ordering::Relaxed) < before + 12 && !thread::panicking() {
                    thread::yield_now();
                }
            }
            ended.store(true, Ordering::Release);
        });
    }
}

/// Whether `act` in another thread has done within `time` before the fence is lifted; it must have after.
fn passes(fence: Fence, time: Duration, act: impl FnOnce() + Send) -> bool {
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        scope.spawn(move || {
            act();
            sender.send(()).unwrap();
        });
        let passed = receiver.recv_timeout(time).is_ok();
        fence.lift();
        if !passed {
            receiver.recv().unwrap();
        }
        passed
    })
}

fn thick() -> Volume {
    Volume::new(SectorSize::B4096, SectorSize::B4096, SectorSize::B4096, Holes::AreCiphertext)
}

#[test]
fn a_fence_keeps_writers_out_and_lets_readers_in() {
    let volume = thick();
    let device = &volume.device;
    let read = |sector| device.read(&mut [0; 4096], Sector(sector)).unwrap();
    let write = |sector| device.write(&[1; 4096], Sector(sector)).unwrap();
    assert!(!passes(volume.fence(8192), SHORT, || write(1)));
    assert!(passes(volume.fence(8192), LONG, || device.discard(Sector(0)..Sector(3)).unwrap()));
    assert!(!passes(volume.fence(8192), SHORT, || device.write_zeroes(Sector(0)..Sector(9)).unwrap()));
    assert!(passes(volume.fence(8192), LONG, || read(1)));
    assert!(passes(volume.fence(8192), LONG, || write(2)));
}

fn assert_frozen(volume: &Volume, sectors: Range<u64>) {
    for sector in [sectors.start, sectors.end - 1] {
        let error = volume.device.write(&[1; 4096], Sector(sector)).unwrap_err();
        assert!(matches!(error, BlockError::Io(_)), "{error}");
    }
    volume.device.write(&[1; 4096], Sector(sectors.end)).unwrap();
}

#[test]
fn a_fence_that_is_dropped_and_not_lifted_closes_its_sectors_to_writers() {
    let volume = thick();
    drop(volume.fence(8192));
    assert_frozen(&volume, 0..2);
    volume.device.read(&mut [0; 8192], Sector(0)).unwrap();
}

#[test]
fn a_chunk_that_cannot_be_written_is_read_from_the_journal_and_not_written() {
    let volume = thick();
    let plain = pattern(9, 12_288);
    volume.device.write(&plain, Sector(0)).unwrap();
    let mut fence = volume.fence(8192);
    volume.replace(&mut fence, false).unwrap_err();
    drop(fence);
    let mut found = vec![0; 12_288];
    volume.device.read(&mut found, Sector(0)).unwrap();
    assert!(found == plain);
    assert_eq!(volume.device.border(), 0);
    assert_frozen(&volume, 0..2);
}

#[test]
fn a_lost_journal_fails_the_reads_of_its_sectors_and_no_others() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new(vec![0; (JOURNAL + LEN) as usize]));
    let (old, new) = (
        mapping(3, SectorSize::B4096, Holes::AreCiphertext),
        mapping(90, SectorSize::B4096, Holes::AreCiphertext),
    );
    let journaled = strongroom::mapping::Journaled { range: 4096..8192, mapping: None };
    let moving = Moving { old, new, border: 4096, journaled: Some(journaled) };
    let device = MovingDevice::new(storage, moving, SectorSize::B4096);
    device.read(&mut [0; 4096], Sector(0)).unwrap();
    assert!(matches!(device.read(&mut [0; 8192], Sector(0)).unwrap_err(), BlockError::Io(_)));
    device.read(&mut [0; 4096], Sector(2)).unwrap();
    assert!(matches!(device.write(&[0; 4096], Sector(1)).unwrap_err(), BlockError::Io(_)));
}

/// Memory whose next sync fails, once.
#[derive(Debug)]
struct Failing(MemoryStorage, AtomicBool);

impl Storage for Failing {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        if self.1.swap(false, Ordering::AcqRel) {
            return Err(io::Error::other("a write was lost"));
        }
        Ok(())
    }
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.set_size(size)
    }
    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        self.0.punch_hole(range)
    }
    fn limits(&self) -> Limits {
        self.0.limits()
    }
}

#[test]
fn a_sync_that_a_user_was_told_of_is_not_forgotten() {
    let memory = MemoryStorage::new(vec![0; (JOURNAL + LEN) as usize]);
    let storage = Arc::new(Failing(memory, AtomicBool::new(false)));
    let size = SectorSize::B4096;
    let shared = Arc::clone(&storage) as Arc<dyn Storage>;
    let volume = Volume::over(shared, size, size, size, Holes::AreCiphertext);
    volume.device.sync().unwrap();
    storage.1.store(true, Ordering::Release);
    assert!(matches!(volume.device.flush().unwrap_err(), BlockError::Io(_)));
    // The kernel would say nothing any more.
    volume.device.sync().unwrap_err();
    volume.device.sync().unwrap_err();
}

#[test]
fn a_live_device_changes_behind_its_users_and_keeps_its_shape() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new(vec![0; (JOURNAL + LEN) as usize]));
    let device =
        |sector_size, holes| Arc::new(CryptDevice::new(Arc::clone(&storage), mapping(3, sector_size, holes)));
    let live = LiveDevice::new(device(SectorSize::B512, Holes::AreCiphertext));
    let shape: Geometry = live.geometry();
    live.replace(device(SectorSize::B4096, Holes::AreCiphertext)).unwrap();
    assert_eq!(live.geometry(), shape);
    // Parts of the sectors behind.
    live.write(&[5; 512], Sector(9)).unwrap();
    live.write_zeroes(Sector(10)..Sector(11)).unwrap();
    let mut found = [1; 1024];
    live.read(&mut found, Sector(9)).unwrap();
    assert_eq!((found[0], found[511], found[512], found[1023]), (5, 5, 0, 0));
    let past = live.discard(Sector(shape.sectors)..Sector(shape.sectors + 1)).unwrap_err();
    assert!(matches!(past, BlockError::OutOfRange { .. }), "{past}");
    let half = Mapping::new(
        SectorSize::B512,
        mapping(3, SectorSize::B512, Holes::AreCiphertext).segments()[..1].to_vec(),
        Holes::AreCiphertext,
    );
    let other = Arc::new(CryptDevice::new(Arc::clone(&storage), half.unwrap()));
    assert_eq!(live.replace(other).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}
