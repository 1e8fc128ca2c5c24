//! Power cuts at every write and sync of a re-encryption, and what each must leave.

#![allow(clippy::cast_possible_truncation, reason = "these sizes are the tests' own")]

mod again;
mod records;

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::*;
use crate::{
    block::{BlockDevice, ByteDevice, LiveDevice},
    crypto::{
        kdf::Argon2Cost,
        rng::OsRng,
        secret::{Credentials, Password},
    },
    format::{
        Format, NewKeyslot, Priority, Unlocked, native,
        native::{
            Geometry, Label, MIN_CONTAINER_LEN, MIN_MEMORY_KIB, MIN_PASSES, Native, NativeHeader,
            NewContainer, NewHeader, Provision, Suite, Target, new_uuid,
        },
    },
    mapping::Layout,
    storage::{Limits, MemoryStorage},
    units::Sector,
    volume::device,
};

const DATA_LEN: usize = 256 << 10;
const CHUNK_LEN: usize = 32 << 10;
const TUNING: Tuning = Tuning { chunk_len: CHUNK_LEN as u64, threads: 1 };

/// What a container was and is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    thin: bool,
    old_sector: u32,
    new_sector: u32,
}

const CASES: [Case; 4] = [
    Case { thin: false, old_sector: 4096, new_sector: 4096 },
    Case { thin: true, old_sector: 512, new_sector: 4096 },
    Case { thin: true, old_sector: 4096, new_sector: 512 },
    Case { thin: false, old_sector: 512, new_sector: 512 },
];

/// A container full of known bytes, and the header that starts its re-encryption.
#[derive(Clone)]
struct Fixture {
    bytes: Vec<u8>,
    plaintext: Vec<u8>,
    old_key: Vec<u8>,
    new_key: Vec<u8>,
    start: Vec<u8>,
}

impl Fixture {
    fn start_header(&self) -> StartHeader {
        StartHeader::from_parts(&self.start, VolumeKey::copy_of(&self.new_key).unwrap()).unwrap()
    }
}

/// Each case's fixture is made once: its keyslots cost time.
fn fixture(case: Case) -> Fixture {
    static MADE: OnceLock<Mutex<BTreeMap<Case, Fixture>>> = OnceLock::new();
    MADE.get_or_init(Mutex::default).lock().unwrap().entry(case).or_insert_with(|| make(case)).clone()
}

fn make(case: Case) -> Fixture {
    let credentials =
        Credentials::Password { password: Password::copy_of(b"open sesame").unwrap(), keyfiles: Vec::new() };
    let cost = Argon2Cost { memory_kib: MIN_MEMORY_KIB, passes: MIN_PASSES, lanes: 1 };
    let sector_size = |bytes| SectorSize::try_from(bytes).unwrap();
    let new = NewContainer {
        uuid: new_uuid(&OsRng).unwrap(),
        label: Label::default(),
        suite: Suite::Aes256Xts,
        sector_size: sector_size(case.old_sector),
        provision: if case.thin { Provision::Thin } else { Provision::Thick },
        geometry: Geometry::for_container(MIN_CONTAINER_LEN - (64 << 10) + DATA_LEN as u64).unwrap(),
        cost,
    };
    let storage = Arc::new(MemoryStorage::default());
    storage.set_size(new.geometry.container_len).unwrap();
    let made = NewHeader::new(&new, &credentials, &OsRng).unwrap();
    made.write(&*storage).unwrap();
    let header = NativeHeader::read(&*storage).unwrap();
    let unlocked = unlock(&*storage, made.volume_key.expose()).unwrap();
    let volume = device(Arc::clone(&storage) as Arc<dyn Storage>, unlocked.layout.clone());
    let mut plaintext: Vec<u8> = (0..DATA_LEN).map(|i| (i * 7 + i / 4096 + 1) as u8).collect();
    // A whole chunk of holes, and some here and there.
    for hole in [CHUNK_LEN..2 * CHUNK_LEN, 5 * 4096..6 * 4096, 100 * 512..101 * 512] {
        plaintext[hole].fill(0);
    }
    for (sector, bytes) in plaintext.chunks(case.old_sector as usize).enumerate() {
        if !case.thin || bytes.iter().any(|&byte| byte != 0) {
            volume.write(bytes, Sector(sector as u64)).unwrap();
        }
    }
    let target = Target { suite: Suite::Aes128Xts, sector_size: sector_size(case.new_sector) };
    let slot = NewKeyslot {
        slot: None,
        label: None,
        priority: Priority::Normal,
        cost: cost.into(),
        credentials: &credentials,
    };
    let start = StartHeader::new(&header, &unlocked, target, &[slot], &OsRng).unwrap();
    Fixture {
        bytes: storage.to_vec(),
        plaintext,
        old_key: made.volume_key.expose().to_vec(),
        new_key: start.volume_key().expose().to_vec(),
        start: start.as_bytes().to_vec(),
    }
}

fn unlock(storage: &dyn Storage, key: &[u8]) -> Result<Unlocked> {
    Native.read_header(storage)?.unlock_with_key(VolumeKey::copy_of(key)?)
}

/// Memory that loses power after so many writes and syncs.
#[derive(Debug)]
struct Crashing {
    state: Mutex<CrashState>,
}

#[derive(Debug)]
struct CrashState {
    durable: Vec<u8>,
    seen: Vec<u8>,
    /// Since the last sync, in order.
    pending: Vec<(usize, Vec<u8>)>,
    left: usize,
    /// Syncs that fail while the power stays: the medium keeps nothing of what they cover.
    failing_sync: Option<usize>,
}

impl Crashing {
    fn new(bytes: Vec<u8>, left: usize) -> Arc<Self> {
        let state =
            CrashState { durable: bytes.clone(), seen: bytes, pending: Vec::new(), left, failing_sync: None };
        Arc::new(Self { state: Mutex::new(state) })
    }

    fn used(&self, budget: usize) -> usize {
        budget - self.state.lock().unwrap().left
    }

    /// What the medium may hold after the power cut: each unsynced write whole, lost, or torn.
    fn image(&self, seed: u64) -> Vec<u8> {
        let state = self.state.lock().unwrap();
        let mut bytes = state.durable.clone();
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for (offset, data) in &state.pending {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let cut = (random >> 32) as usize % (data.len() + 1);
            let kept = match random % 4 {
                0 => 0..0,
                1 => 0..data.len(),
                2 => 0..cut,
                _ => cut..data.len(),
            };
            bytes[offset + kept.start..offset + kept.end].copy_from_slice(&data[kept.clone()]);
        }
        bytes
    }
}

impl CrashState {
    fn spend(&mut self) -> io::Result<()> {
        self.left = self.left.checked_sub(1).ok_or_else(|| io::Error::other("power cut"))?;
        Ok(())
    }
}

impl Storage for Crashing {
    fn size(&self) -> io::Result<u64> {
        Ok(self.state.lock().unwrap().seen.len() as u64)
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.state.lock().unwrap();
        buf.copy_from_slice(&state.seen[offset as usize..][..buf.len()]);
        Ok(())
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        // The write at which the power goes may still be half done.
        if state.left > 0 {
            state.pending.push((offset as usize, buf.to_vec()));
        }
        state.spend()?;
        state.seen[offset as usize..][..buf.len()].copy_from_slice(buf);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.spend()?;
        if let Some(countdown) = &mut state.failing_sync {
            *countdown = countdown.wrapping_sub(1);
            if *countdown == 0 {
                // The kernel tells once, and takes the pages for clean from then on.
                (state.failing_sync, state.pending) = (None, Vec::new());
                return Err(io::Error::other("sync failed"));
            }
        }
        let pending = std::mem::take(&mut state.pending);
        for (offset, data) in pending {
            state.durable[offset..offset + data.len()].copy_from_slice(&data);
        }
        Ok(())
    }
    fn set_size(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        self.write_all_at(&vec![0; (range.end - range.start) as usize], range.start)
    }
    fn limits(&self) -> Limits {
        Limits { read_only: false, can_punch: true, can_resize: false }
    }
}

fn unseen(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn read_all(storage: &Arc<dyn Storage>, layout: &Layout) -> Vec<u8> {
    let volume = device(Arc::clone(storage), layout.clone());
    let mut bytes = vec![0; DATA_LEN];
    volume.read(&mut bytes, Sector(0)).unwrap();
    bytes
}

/// Fails the `nth` sync of a run, goes on in the same process, and cuts the power `left` operations later.
fn run_with_failing_sync(case: Case, nth: usize, left: usize) -> bool {
    let fixture = fixture(case);
    let crashed = Crashing::new(fixture.bytes.clone(), usize::MAX);
    let storage: Arc<dyn Storage> = Arc::<Crashing>::clone(&crashed);
    let mut work = Reencryption::start(Arc::clone(&storage), &fixture.start_header(), TUNING).unwrap();
    crashed.state.lock().unwrap().failing_sync = Some(nth);
    let what = format!("{case:?}, sync {nth} fails, {left} operations later the power");
    if work.run(&mut Pace::new(None), &mut unseen).is_ok() {
        return false;
    }
    // Readers beside it see nothing of that.
    let mut bytes = vec![0; DATA_LEN];
    work.device().read(&mut bytes, Sector(0)).unwrap();
    assert!(bytes == fixture.plaintext, "{what}: in the same process");
    drop(work);
    check(crashed.image(nth as u64), &fixture, &fixture.plaintext, &format!("{what}: at once"));

    crashed.state.lock().unwrap().left = left;
    let key = Arc::new(VolumeKey::copy_of(&fixture.new_key).unwrap());
    let gone_on = Reencryption::resume(storage, key, TUNING)
        .and_then(|mut work| work.run(&mut Pace::new(None), &mut unseen));
    let seed = (nth * 100 + left) as u64;
    // What a sync at the very end of an earlier step covered may be lost without a trace; the volume is not.
    check(crashed.image(seed), &fixture, &fixture.plaintext, &format!("{what}, then {gone_on:?}"));
    true
}

#[test]
fn a_failed_sync_costs_nothing_though_the_kernel_tells_of_it_once() {
    for case in [CASES[0], CASES[1]] {
        for nth in 1.. {
            let left = [usize::MAX / 2, 1, 3, 4, 6, 9, 12, 17][nth % 8];
            if !run_with_failing_sync(case, nth, left) {
                assert!(nth > 15, "only {nth} syncs");
                break;
            }
        }
    }
}

/// Opens an image as the next mount would, and checks that the volume is whole. Then goes on to the end, and looks again.
fn check(image: Vec<u8>, fixture: &Fixture, plaintext: &[u8], what: &str) {
    records::check_old_header(&image, fixture, plaintext, what);
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new(image));
    let (unlocked, key) = match unlock(&*storage, &fixture.new_key) {
        Ok(unlocked) => (unlocked, &fixture.new_key),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Tampered, "{what}: {error}");
            (unlock(&*storage, &fixture.old_key).unwrap(), &fixture.old_key)
        }
    };
    assert!(
        read_all(&storage, &unlocked.layout) == plaintext,
        "{what}: read-only, before anything is healed"
    );
    let header = Native.read_header(&*storage).unwrap();
    header.prepare_writing(&*storage, &unlocked).unwrap();
    let unlocked = unlock(&*storage, key).unwrap();
    assert!(read_all(&storage, &unlocked.layout) == plaintext, "{what}: healed");
    let mut work = match (&unlocked.layout, key == &fixture.new_key) {
        (Layout::Moving(moving), _) => {
            assert!(moving.journaled.is_none(), "{what}");
            Reencryption::resume(Arc::clone(&storage), Arc::clone(&unlocked.volume_key), TUNING).unwrap()
        }
        (Layout::Fixed(_), true) => return,
        (Layout::Fixed(_), false) => {
            Reencryption::start(Arc::clone(&storage), &fixture.start_header(), TUNING).unwrap()
        }
    };
    assert_eq!(work.run(&mut Pace::new(None), &mut unseen).unwrap(), Outcome::Finished, "{what}");
    check_finished(&storage, fixture, plaintext, what);
}

fn check_finished(storage: &Arc<dyn Storage>, fixture: &Fixture, plaintext: &[u8], what: &str) {
    let unlocked = unlock(&**storage, &fixture.new_key).unwrap();
    assert!(matches!(unlocked.layout, Layout::Fixed(_)), "{what}");
    assert!(read_all(storage, &unlocked.layout) == plaintext, "{what}: finished");
    assert_eq!(unlock(&**storage, &fixture.old_key).unwrap_err().kind(), ErrorKind::Tampered, "{what}");
    records::check_closed(storage, fixture, what);
}

/// Starts and runs to the end with some user's writes between the steps; each is flushed before the next step.
fn run_with_writes(storage: &Arc<dyn Storage>, fixture: &Fixture, plaintext: &mut [u8]) -> Result<()> {
    let mut work = Reencryption::start(Arc::clone(storage), &fixture.start_header(), TUNING)?;
    let volume = work.device();
    let size = volume.geometry().sector_size.bytes();
    for round in 0_usize.. {
        let step = work.step()?;
        // Into the chunk that was moved just now, around the border, and far behind it.
        for place in [round * CHUNK_LEN + 8192, (round + 1) * CHUNK_LEN, DATA_LEN - (round + 1) * 16_384] {
            let place = place.min(DATA_LEN - size);
            if place < work.done() as usize {
                work.retire()?;
            }
            let data = vec![round as u8 + 100; size];
            volume.write(&data, Sector((place / size) as u64)).map_err(io::Error::other)?;
            volume.flush().map_err(io::Error::other)?;
            // From the flush on it must be there, whatever happens.
            plaintext[place..place + size].copy_from_slice(&data);
        }
        if step == Step::AtTheEnd {
            break;
        }
    }
    work.finish()
}

// proves: NAT-REENC-08 NAT-REENC-10 NAT-REENC-11 NAT-REENC-12 NAT-REENC-13 NAT-REENC-14
#[test]
fn a_power_cut_at_any_write_or_sync_leaves_the_whole_volume() {
    for case in CASES {
        let fixture = fixture(case);
        let whole = Crashing::new(fixture.bytes.clone(), usize::MAX);
        let storage: Arc<dyn Storage> = Arc::<Crashing>::clone(&whole);
        let mut work = Reencryption::start(Arc::clone(&storage), &fixture.start_header(), TUNING).unwrap();
        work.run(&mut Pace::new(None), &mut unseen).unwrap();
        check_finished(&storage, &fixture, &fixture.plaintext, "without a cut");
        let total = whole.used(usize::MAX);
        assert!(total > 50, "only {total} writes and syncs");
        for cut in 0..total {
            let crashed = Crashing::new(fixture.bytes.clone(), cut);
            let storage: Arc<dyn Storage> = Arc::<Crashing>::clone(&crashed);
            let ran = Reencryption::start(storage, &fixture.start_header(), TUNING)
                .and_then(|mut work| work.run(&mut Pace::new(None), &mut unseen));
            assert!(ran.is_err(), "{case:?}: cut {cut} was not noticed");
            let what = format!("{case:?}, cut {cut}");
            check(crashed.image(cut as u64), &fixture, &fixture.plaintext, &what);
            // Again while the container is healed.
            let healing = Crashing::new(crashed.image(cut as u64), cut % 11);
            let storage: Arc<dyn Storage> = Arc::<Crashing>::clone(&healing);
            let key = if cut % 2 == 0 { &fixture.old_key } else { &fixture.new_key };
            if let Ok(unlocked) = unlock(&*storage, key) {
                let header = Native.read_header(&*storage).unwrap();
                let _ = header.prepare_writing(&*storage, &unlocked);
                let what = format!("{case:?}, cut {cut}, and again at {}", cut % 11);
                check(healing.image(cut as u64 + 7), &fixture, &fixture.plaintext, &what);
            }
        }
    }
}

#[test]
fn what_users_wrote_and_flushed_beside_the_worker_survives_a_power_cut_at_any_time() {
    for case in CASES {
        let fixture = fixture(case);
        let whole = Crashing::new(fixture.bytes.clone(), usize::MAX);
        let storage: Arc<dyn Storage> = Arc::<Crashing>::clone(&whole);
        let mut plaintext = fixture.plaintext.clone();
        run_with_writes(&storage, &fixture, &mut plaintext).unwrap();
        check_finished(&storage, &fixture, &plaintext, "without a cut");
        let total = whole.used(usize::MAX);
        for cut in (0..total).step_by(3) {
            let crashed = Crashing::new(fixture.bytes.clone(), cut);
            let storage: Arc<dyn Storage> = Arc::<Crashing>::clone(&crashed);
            let mut plaintext = fixture.plaintext.clone();
            run_with_writes(&storage, &fixture, &mut plaintext).unwrap_err();
            let image = crashed.image(cut as u64);
            // The write at which the power went is there, is not, or is torn: what it covers is not looked at.
            let found = reopened(&image, &fixture);
            let torn: Vec<usize> = (0..DATA_LEN)
                .step_by(4096)
                .filter(|&at| found[at..at + 4096] != plaintext[at..at + 4096])
                .collect();
            assert!(torn.len() <= 1, "{case:?}, cut {cut}: {} blocks differ", torn.len());
            for at in torn {
                plaintext[at..at + 4096].copy_from_slice(&found[at..at + 4096]);
            }
            check(image, &fixture, &plaintext, &format!("{case:?}, cut {cut}"));
        }
    }
}

fn reopened(image: &[u8], fixture: &Fixture) -> Vec<u8> {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new(image.to_vec()));
    let unlocked =
        unlock(&*storage, &fixture.new_key).or_else(|_| unlock(&*storage, &fixture.old_key)).unwrap();
    read_all(&storage, &unlocked.layout)
}

// proves: NAT-REENC-16
#[test]
fn opening_and_healing_a_container_moves_no_border() {
    let fixture = fixture(CASES[0]);
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new(fixture.bytes.clone()));
    let mut work = Reencryption::start(Arc::clone(&storage), &fixture.start_header(), TUNING).unwrap();
    assert_eq!(work.step().unwrap(), Step::Moved);
    assert_eq!(work.step().unwrap(), Step::Moved);
    drop(work); // as a power cut: the second chunk is in the journal
    for _ in 0..3 {
        let unlocked = unlock(&*storage, &fixture.new_key).unwrap();
        let header = Native.read_header(&*storage).unwrap();
        header.prepare_writing(&*storage, &unlocked).unwrap();
    }
    let Layout::Moving(moving) = unlock(&*storage, &fixture.new_key).unwrap().layout else {
        panic!("it has ended by itself");
    };
    assert_eq!(moving.border, 2 * CHUNK_LEN as u64);
}

// proves: NAT-REENC-09
#[test]
fn going_on_writes_header_copies_and_the_newest_record_again() {
    let fixture = fixture(CASES[0]);
    let crashing = Crashing::new(fixture.bytes.clone(), usize::MAX);
    let storage: Arc<dyn Storage> = Arc::<Crashing>::clone(&crashing);
    let mut work = Reencryption::start(Arc::clone(&storage), &fixture.start_header(), TUNING).unwrap();
    let _ = work.run(&mut Pace::new(None), &mut |done, _| {
        if done == 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    // A medium that has lost what the cache shows: all of the header, and the newest record.
    let header_len = 65_536;
    let tail = fixture.bytes.len() - (1 << 20);
    let seen = crashing.state.lock().unwrap().seen.clone();
    {
        let mut state = crashing.state.lock().unwrap();
        state.durable[..header_len].fill(0);
        state.durable[header_len..header_len + 8192].fill(0);
        state.durable[tail..tail + header_len + 8192].fill(0);
    }
    let key = Arc::new(VolumeKey::copy_of(&fixture.new_key).unwrap());
    drop(Reencryption::resume(storage, key, TUNING).unwrap());
    let durable = crashing.image(1);
    assert!(durable[..header_len] == seen[..header_len], "header copy A");
    assert!(durable[tail..tail + header_len] == seen[tail..tail + header_len], "header copy B");
    check(durable, &fixture, &fixture.plaintext, "from what the medium has");
}

#[test]
fn a_run_that_is_paused_leaves_no_sector_closed() {
    let fixture = fixture(CASES[0]);
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new(fixture.bytes.clone()));
    let mut work = Reencryption::start(Arc::clone(&storage), &fixture.start_header(), TUNING).unwrap();
    let mut calls = 0;
    let outcome = work.run(&mut Pace::new(None), &mut |_, _| {
        calls += 1;
        if calls == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(outcome.unwrap(), Outcome::Paused);
    assert_eq!(work.done(), 3 * CHUNK_LEN as u64);
    let volume = work.device();
    volume.write(&vec![9; DATA_LEN], Sector(0)).unwrap();
    let mut found = vec![0; DATA_LEN];
    volume.read(&mut found, Sector(0)).unwrap();
    assert!(found.iter().all(|&byte| byte == 9));
    assert_eq!(work.run(&mut Pace::new(None), &mut unseen).unwrap(), Outcome::Finished);
    check_finished(&storage, &fixture, &found, "after a pause");
}

#[test]
fn a_container_without_room_for_a_journal_is_not_started() {
    let geometry = Geometry { data_offset: 65_536 + 8_192, ..Geometry::for_container(8 << 20).unwrap() };
    assert!(native::WorkAreas::of(&geometry).is_none());
    let geometry = Geometry { data_offset: 65_536 + 12_288, ..geometry };
    assert_eq!(native::WorkAreas::of(&geometry).unwrap().journal_len(), 4_096);
}

#[test]
fn a_start_header_that_somebody_has_overtaken_is_refused() {
    let fixture = fixture(CASES[0]);
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new(fixture.bytes.clone()));
    let mut work = Reencryption::start(Arc::clone(&storage), &fixture.start_header(), TUNING).unwrap();
    work.run(&mut Pace::new(None), &mut unseen).unwrap();
    let error = Reencryption::start(storage, &fixture.start_header(), TUNING).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tampered, "{error}");
}

#[test]
fn several_threads_leave_the_same_bytes_as_one() {
    for case in CASES {
        let fixture = fixture(case);
        let images = [1, 3].map(|threads| {
            let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new(fixture.bytes.clone()));
            let tuning = Tuning { chunk_len: 200 << 10, threads };
            let mut work =
                Reencryption::start(Arc::clone(&storage), &fixture.start_header(), tuning).unwrap();
            work.run(&mut Pace::new(None), &mut unseen).unwrap();
            check_finished(&storage, &fixture, &fixture.plaintext, "with threads");
            let mut data = vec![0; DATA_LEN];
            storage.read_exact_at(&mut data, 1 << 20).unwrap();
            data
        });
        assert!(images[0] == images[1], "{case:?}");
        if case.thin {
            assert!(images[0][CHUNK_LEN..2 * CHUNK_LEN].iter().all(|&byte| byte == 0), "holes stay holes");
        }
    }
}

#[test]
fn users_beside_a_running_worker_see_their_own_writes_and_nothing_else() {
    for case in CASES {
        let fixture = fixture(case);
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new(fixture.bytes.clone()));
        let unlocked = unlock(&*storage, &fixture.old_key).unwrap();
        let live = Arc::new(LiveDevice::new(device(Arc::clone(&storage), unlocked.layout.clone())));
        let work = LiveReencryption::new(
            Arc::clone(&storage),
            Arc::clone(&live),
            &unlocked.layout,
            Tuning { threads: 2, ..TUNING },
        );
        assert_eq!(work.status().state, LiveState::None);
        let size = live.geometry().sector_size.bytes();
        let bytes = ByteDevice::new(Arc::clone(&live) as Arc<dyn BlockDevice>);
        let model = Mutex::new(fixture.plaintext.clone());
        // Slow enough that users meet the border everywhere.
        let order = Work { max_rate: Some(512 << 10), ..Work::default() };
        work.start(&fixture.start_header(), order.clone()).unwrap();
        let again = work.start(&fixture.start_header(), Work::default());
        assert_eq!(again.unwrap_err().kind(), ErrorKind::Busy);
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for user in 0..3_usize {
                let (bytes, model, ended, plaintext) = (&bytes, &model, &ended, &fixture.plaintext);
                // Each user has every third 1000 bytes for itself: parts of sectors, across chunks.
                scope.spawn(move || {
                    let mut round = 0_usize;
                    while !ended.load(Ordering::Acquire) || round < 50 {
                        round += 1;
                        let at = (round * 7919 % (DATA_LEN / 3000)) * 3000 + user * 1000;
                        let data = vec![(round % 251) as u8; 1000];
                        bytes.write_at(&data, at as u64).unwrap();
                        let mut found = vec![0; 1000];
                        bytes.read_at(&mut found, at as u64).unwrap();
                        assert!(found == data, "user {user} at {at} lost a write");
                        model.lock().unwrap()[at..at + 1000].copy_from_slice(&data);
                        // Nobody writes behind the last 3000 bytes.
                        let tail = DATA_LEN / 3000 * 3000;
                        let mut found = vec![0; DATA_LEN - tail];
                        bytes.read_at(&mut found, tail as u64).unwrap();
                        assert!(found == plaintext[tail..], "what nobody wrote has changed");
                        if round.is_multiple_of(16) {
                            bytes.flush().unwrap();
                        }
                    }
                });
            }
            for _ in 0..3 {
                std::thread::sleep(Duration::from_millis(40));
                work.pause();
                let paused = work.status();
                assert!(matches!(paused.state, LiveState::Paused | LiveState::Done), "{paused:?}");
                if paused.state == LiveState::Paused {
                    work.resume(None, order.clone()).unwrap();
                }
            }
            while work.status().state == LiveState::Running {
                std::thread::sleep(Duration::from_millis(5));
            }
            ended.store(true, Ordering::Release);
        });
        let status = work.status();
        assert_eq!((status.state, status.done), (LiveState::Done, DATA_LEN as u64), "{status:?}");
        assert_eq!(live.geometry().sector_size.bytes(), size);
        let mut found = vec![0; DATA_LEN];
        bytes.read_at(&mut found, 0).unwrap();
        let model = model.into_inner().unwrap();
        assert!(found == model, "{case:?}");
        check_finished(&storage, &fixture, &model, "beside users");
    }
}
