//! A medium that loses power and fails, in memory: for the proof that no crash loses a container.
//!
//! What it models is what `spec/native-v1.md` (section 1) assumes of a medium, and nothing better:
//!
//! - What a successful sync followed is durable. Until then each change may be there after a crash, or not, or in part,
//!   and changes may reach the medium in any order.
//! - A change in part consists of whole atomic units (of 1, 512, 4096 bytes: the choice is the test's), any of them.
//! - Only the bytes of the change are at stake, never those beside them.
//! - After a sync that failed, what was not durable yet may be lost for good while reads still show it, and the next sync
//!   says all is well: that is what Linux does (the pages count as clean).
//!
//! Everything follows from the seeds that are passed in.

use std::{
    io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Limits, Storage};

/// A container in memory with two images: the live one, which reads see, and the durable one, which a crash leaves.
///
/// ```
/// use strongroom::storage::{Fate, Outcome, SimStorage, Storage};
///
/// let storage = SimStorage::new(vec![0; 1024]);
/// storage.write_all_at(&[1; 512], 0)?;
/// storage.sync_data()?;
/// storage.write_all_at(&[2; 1024], 0)?;
/// let after = storage.crash(&Outcome::All(Fate::Lost));
/// assert_eq!(after.live()[..512], [1; 512]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct SimStorage {
    state: Mutex<State>,
}

impl Clone for SimStorage {
    /// Another medium in the same state, with the same changes at stake and the same plan.
    fn clone(&self) -> Self {
        Self { state: Mutex::new(self.locked().clone()) }
    }
}

#[derive(Debug, Clone)]
struct State {
    /// Both images are copied when they are written, and shared until then: tests make thousands of them.
    live: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    unsynced: Vec<Change>,
    count: u64,
    plan: Plan,
    limits: Limits,
}

/// What the storage does at which operation. Writes, syncs, changes of the size and holes are operations, counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Plan {
    /// All succeed.
    #[default]
    Works,
    /// The power is gone at this operation: it has no effect, it and all later ones and all reads fail.
    StopAt(u64),
    /// One operation fails; all others succeed.
    FailAt(u64, Failure),
}

/// How one operation fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// With `EIO`. A sync: what was not durable is lost for good, though reads still show it.
    Io,
    /// With `ENOSPC`, otherwise as [`Self::Io`].
    NoSpace,
    /// With `ENOSPC` after so many bytes were written. What is not a write fails as by [`Self::NoSpace`].
    Short(usize),
    /// With `EIO`. A sync: what was not durable meets this outcome, once and for good.
    Sync(Outcome),
}

/// What becomes of one change that was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is on the medium.
    Landed,
    /// It is not.
    Lost,
    /// Some of its atomic units are: a run from its start, a run to its end, or any of them, as the seed has it. (A change
    /// of the size happens or does not.)
    Torn {
        /// The bytes of an atomic unit, a power of two.
        unit: usize,
        /// Chooses the units.
        seed: u64,
    },
}

/// What becomes of all changes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All meet the same fate.
    All(Fate),
    /// One meets a fate of its own.
    Except {
        /// Its place in the order of the changes, from 0.
        index: usize,
        /// Its fate.
        fate: Fate,
        /// The fate of the others.
        others: Fate,
    },
    /// Each meets its own, and they reach the medium in any order.
    Random {
        /// Chooses fates, atomic units and order.
        seed: u64,
    },
}

impl Outcome {
    /// The outcomes to try where `changes` are not synced: nothing landed, all, each alone, all but each, each torn among
    /// landed and among lost ones, and for each of `seeds` all torn and a random one.
    pub fn of(changes: usize, seeds: Range<u64>) -> Vec<Self> {
        if changes == 0 {
            return vec![Self::All(Fate::Lost)]; // Whatever the fates, there is nothing that could meet them.
        }
        let torn = |seed| Fate::Torn { unit: 512, seed };
        let mut outcomes = vec![Self::All(Fate::Lost), Self::All(Fate::Landed)];
        // Of a single change, the fate of the others says nothing.
        let singled_out = if changes == 1 { 0 } else { changes };
        for (index, seed) in (0..singled_out).zip(seeds.start..) {
            for (fate, others) in [
                (torn(seed), Fate::Landed),
                (torn(seed), Fate::Lost),
                (Fate::Lost, Fate::Landed),
                (Fate::Landed, Fate::Lost),
            ] {
                outcomes.push(Self::Except { index, fate, others });
            }
        }
        outcomes.extend(seeds.flat_map(|seed| [Self::All(torn(seed)), Self::Random { seed }]));
        outcomes
    }
}

impl SimStorage {
    /// A file that holds `bytes`, durably.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self::with_limits(bytes, Limits { read_only: false, can_punch: true, can_resize: true })
    }

    /// A block device that holds `bytes`, durably: its size is fixed.
    pub fn device(bytes: Vec<u8>) -> Self {
        Self::with_limits(bytes, Limits { read_only: false, can_punch: true, can_resize: false })
    }

    fn with_limits(bytes: Vec<u8>, limits: Limits) -> Self {
        Self::found(Arc::new(bytes), limits)
    }

    /// A medium whose live image is the durable one.
    fn found(durable: Arc<Vec<u8>>, limits: Limits) -> Self {
        let state = State {
            live: Arc::clone(&durable),
            durable,
            unsynced: Vec::new(),
            count: 0,
            plan: Plan::default(),
            limits,
        };
        Self { state: Mutex::new(state) }
    }

    /// Sets what is to fail, and counts operations from 0 again. With [`Plan::Works`] after a stop, the same storage is the
    /// medium after a process was killed: the power stayed on, the page cache still has what was not synced.
    pub fn set_plan(&self, plan: Plan) {
        let mut state = self.locked();
        state.plan = plan;
        state.count = 0;
    }

    /// How many operations there were since the plan was set. Those that failed count too.
    pub fn operations(&self) -> u64 {
        self.locked().count
    }

    /// How many changes a crash now would put at stake.
    pub fn unsynced(&self) -> usize {
        self.locked().unsynced.len()
    }

    /// What reads see.
    pub fn live(&self) -> Arc<Vec<u8>> {
        Arc::clone(&self.locked().live)
    }

    /// The medium as it is found when the power is back. This storage stays as it is, so that one run can be followed by
    /// many crashes.
    #[must_use]
    pub fn crash(&self, outcome: &Outcome) -> Self {
        let state = self.locked();
        let mut durable = Arc::clone(&state.durable);
        settle(&mut durable, &state.unsynced, outcome);
        Self::found(durable, state.limits)
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_power(&self) -> bool {
        !matches!(self.plan, Plan::StopAt(stop) if self.count > stop)
    }

    fn check_power(&self) -> io::Result<()> {
        if self.has_power() { Ok(()) } else { Err(io_error()) }
    }

    /// Counts an operation. How it is to fail, where it is not to succeed.
    fn begin(&mut self) -> Option<Failure> {
        let number = self.count;
        self.count += 1;
        match &self.plan {
            Plan::StopAt(stop) if number >= *stop => Some(Failure::Io),
            Plan::FailAt(at, failure) if number == *at => Some(failure.clone()),
            _ => None,
        }
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        match (self.begin(), change) {
            (None, change) => self.accept(change),
            (Some(Failure::Short(len)), Change::Write { offset, mut bytes }) => {
                bytes.truncate(len);
                self.accept(Change::Write { offset, bytes });
                return Err(full());
            }
            (Some(Failure::NoSpace | Failure::Short(_)), _) => return Err(full()),
            (Some(Failure::Io | Failure::Sync(_)), _) => return Err(io_error()),
        }
        Ok(())
    }

    fn accept(&mut self, change: Change) {
        change.apply(Arc::make_mut(&mut self.live), Fate::Landed);
        self.unsynced.push(change);
    }

    fn sync(&mut self) -> io::Result<()> {
        let (outcome, result) = match self.begin() {
            None => (Outcome::All(Fate::Landed), Ok(())),
            // Without power nobody waits for what comes of it: the crash decides.
            Some(_) if !self.has_power() => return Err(io_error()),
            Some(Failure::Sync(outcome)) => (outcome, Err(io_error())),
            Some(Failure::Io) => (Outcome::All(Fate::Lost), Err(io_error())),
            Some(Failure::NoSpace | Failure::Short(_)) => (Outcome::All(Fate::Lost), Err(full())),
        };
        let unsynced = std::mem::take(&mut self.unsynced);
        settle(&mut self.durable, &unsynced, &outcome);
        result
    }
}

impl Storage for SimStorage {
    fn size(&self) -> io::Result<u64> {
        let state = self.locked();
        state.check_power()?;
        u64::try_from(state.live.len()).map_err(io::Error::other)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.locked();
        state.check_power()?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = state.live.get(start..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.locked().change(Change::Write { offset, bytes: buf.to_vec() })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.locked().sync()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let size = usize::try_from(size).map_err(io::Error::other)?;
        self.locked().change(Change::Size(size))
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        let start = usize::try_from(range.start).map_err(io::Error::other)?;
        let end = usize::try_from(range.end).map_err(io::Error::other)?;
        self.locked().change(Change::Hole(start..end))
    }

    fn limits(&self) -> Limits {
        self.locked().limits
    }
}

/// A change of the bytes that is not durable before a sync.
#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Size(usize),
    Hole(Range<usize>),
}

impl Change {
    /// What this change, having met its fate, makes of an image.
    fn apply(&self, image: &mut Vec<u8>, fate: Fate) {
        match self {
            Self::Write { offset, bytes } => {
                for part in fate.landed(*offset..*offset + bytes.len()) {
                    if image.len() < part.end {
                        image.resize(part.end, 0);
                    }
                    let source = part.start - offset..part.end - offset;
                    image[part].copy_from_slice(&bytes[source]);
                }
            }
            Self::Size(size) => {
                let happened = match fate {
                    Fate::Landed => true,
                    Fate::Lost => false,
                    Fate::Torn { seed, .. } => Chance(seed).one_in(2),
                };
                if happened {
                    image.resize(*size, 0);
                }
            }
            Self::Hole(range) => {
                for part in fate.landed(range.start..range.end.min(image.len())) {
                    image[part].fill(0);
                }
            }
        }
    }
}

impl Fate {
    /// The same fate for the change number `index`: torn ones are torn each in its own way.
    fn varied(self, index: usize) -> Self {
        match self {
            Self::Torn { unit, seed } => Self::Torn { unit, seed: seed.wrapping_add(index as u64) },
            whole => whole,
        }
    }

    /// The parts of `range` that reach the medium.
    fn landed(self, range: Range<usize>) -> Vec<Range<usize>> {
        let (unit, seed) = match self {
            Self::Landed => return vec![range],
            Self::Lost => return Vec::new(),
            Self::Torn { unit, seed } => (unit, seed),
        };
        let mut chance = Chance(seed);
        // Units lie where the medium has them, not where the change begins.
        let units = range.end.div_ceil(unit) - range.start / unit;
        let shape = chance.below(8);
        let border = chance.below(units.max(1));
        let is_there = |index: usize, chance: &mut Chance| match shape {
            0 => index < border,
            1 => index >= border,
            _ => chance.one_in(2),
        };
        let first = range.start / unit;
        let parts = (0..units).filter(|&index| is_there(index, &mut chance)).map(|index| {
            let start = (first + index) * unit;
            start.max(range.start)..(start + unit).min(range.end)
        });
        parts.collect()
    }
}

/// Brings the changes into an image as the outcome has it.
fn settle(image: &mut Arc<Vec<u8>>, changes: &[Change], outcome: &Outcome) {
    if changes.is_empty() || *outcome == Outcome::All(Fate::Lost) {
        return;
    }
    let image = Arc::make_mut(image);
    let mut order: Vec<usize> = (0..changes.len()).collect();
    let mut fates: Vec<Fate> = match *outcome {
        Outcome::All(fate) => vec![fate; changes.len()],
        Outcome::Except { others, .. } => vec![others; changes.len()],
        Outcome::Random { seed } => {
            let mut chance = Chance(seed);
            for last in (1..order.len()).rev() {
                order.swap(last, chance.below(last + 1));
            }
            changes.iter().map(|_| chance.fate()).collect()
        }
    };
    if let Outcome::Except { index, fate, .. } = *outcome {
        fates.iter_mut().skip(index).take(1).for_each(|place| *place = fate);
    }
    for index in order {
        changes[index].apply(image, fates[index].varied(index));
    }
}

/// Chance by seed (`SplitMix64`): the same on every machine, good enough to choose by.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`, which is not 0. The slight preference of a remainder does not matter here.
    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX);
        usize::try_from(self.next() % end).unwrap_or_default()
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn fate(&mut self) -> Fate {
        match self.below(5) {
            0 => Fate::Landed,
            1 => Fate::Lost,
            which => Fate::Torn { unit: ATOMIC_UNITS[which - 2], seed: self.next() },
        }
    }
}

fn io_error() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

fn full() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error())
}

/// The sizes of atomic units that random fates choose from: none at all, a disk's sector, a page.
const ATOMIC_UNITS: [usize; 3] = [1, 512, 4096];

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 4 * 4096;

    fn storage() -> SimStorage {
        SimStorage::new(vec![0; LEN])
    }

    fn after(storage: &SimStorage, outcome: Outcome) -> Vec<u8> {
        storage.crash(&outcome).live().to_vec()
    }

    #[test]
    fn what_was_synced_survives_every_outcome() {
        let storage = storage();
        storage.write_all_at(&[1; LEN], 0).unwrap();
        storage.sync_data().unwrap();
        for outcome in Outcome::of(storage.unsynced(), 0..9) {
            assert_eq!(after(&storage, outcome), [1; LEN]);
        }
    }

    #[test]
    fn reads_see_what_a_crash_may_lose() {
        let storage = storage();
        storage.write_all_at(&[1; 512], 0).unwrap();
        let mut seen = [0; 512];
        storage.read_exact_at(&mut seen, 0).unwrap();
        assert_eq!(seen, [1; 512]);
        assert_eq!(after(&storage, Outcome::All(Fate::Lost)), [0; LEN]);
        assert_eq!(after(&storage, Outcome::All(Fate::Landed))[..512], [1; 512]);
    }

    #[test]
    fn a_torn_write_lands_in_whole_units_where_the_medium_has_them_and_nowhere_else() {
        let storage = storage();
        let (start, end) = (700, 9000);
        storage.write_all_at(&vec![1; end - start], 700).unwrap();
        let mut torn = 0;
        for seed in 0..64 {
            let found = after(&storage, Outcome::All(Fate::Torn { unit: 512, seed }));
            assert!(found[..start].iter().chain(&found[end..]).all(|&byte| byte == 0), "seed {seed}");
            for sector in found[1024..8704].chunks(512) {
                assert!(sector.iter().all(|&byte| byte == sector[0]), "seed {seed}");
            }
            torn += usize::from(found[start..end].contains(&0) && found.contains(&1));
        }
        assert!(torn > 48, "only {torn} of 64 seeds tear");
    }

    #[test]
    fn a_later_change_may_land_without_or_before_an_earlier_one() {
        let storage = storage();
        storage.write_all_at(&[1; 4096], 0).unwrap();
        storage.write_all_at(&[2; 4096], 0).unwrap();
        let alone = Outcome::Except { index: 1, fate: Fate::Landed, others: Fate::Lost };
        assert_eq!(after(&storage, alone)[..4096], [2; 4096]);
        let is_undone = |seed| after(&storage, Outcome::Random { seed })[..4096] == [1; 4096];
        assert!((0..256).any(is_undone), "no seed lands the first change last or loses the second");
    }

    #[test]
    fn a_stop_lets_nothing_through_from_then_on() {
        let storage = storage();
        storage.set_plan(Plan::StopAt(1));
        storage.write_all_at(&[1; 16], 0).unwrap();
        storage.read_exact_at(&mut [0; 16], 0).unwrap();
        assert_eq!(storage.sync_data().unwrap_err().raw_os_error(), Some(5));
        assert_eq!(storage.read_exact_at(&mut [0; 16], 0).unwrap_err().raw_os_error(), Some(5));
        assert_eq!(storage.set_size(0).unwrap_err().raw_os_error(), Some(5));
        assert_eq!((storage.unsynced(), storage.operations()), (1, 3));
    }

    #[test]
    fn a_killed_process_leaves_unsynced_changes_behind_for_the_next_sync() {
        let storage = storage();
        storage.set_plan(Plan::StopAt(1));
        storage.write_all_at(&[1; 16], 0).unwrap();
        storage.sync_data().unwrap_err();
        storage.set_plan(Plan::Works);
        storage.sync_data().unwrap();
        assert_eq!(after(&storage, Outcome::All(Fate::Lost))[..16], [1; 16]);
    }

    #[test]
    fn after_a_failed_sync_no_later_sync_makes_up_for_it() {
        let storage = storage();
        storage.set_plan(Plan::FailAt(1, Failure::Io));
        storage.write_all_at(&[1; 16], 0).unwrap();
        assert_eq!(storage.sync_data().unwrap_err().raw_os_error(), Some(5));
        storage.sync_data().unwrap();
        assert_eq!(storage.live()[..16], [1; 16]);
        assert_eq!(after(&storage, Outcome::All(Fate::Landed)), [0; LEN]);
    }

    #[test]
    fn a_short_write_leaves_its_beginning() {
        let storage = storage();
        storage.set_plan(Plan::FailAt(0, Failure::Short(3)));
        let error = storage.write_all_at(&[1; 16], 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(storage.live()[..5], [1, 1, 1, 0, 0]);
    }

    #[test]
    fn sizes_and_holes_are_lost_like_writes() {
        let storage = SimStorage::new(vec![1; LEN]);
        storage.set_size(2 * 4096).unwrap();
        storage.punch_hole(0..4096).unwrap();
        assert_eq!(after(&storage, Outcome::All(Fate::Lost)), [1; LEN]);
        assert_eq!(after(&storage, Outcome::All(Fate::Landed)), [vec![0; 4096], vec![1; 4096]].concat());
        let hole_alone = Outcome::Except { index: 0, fate: Fate::Lost, others: Fate::Landed };
        assert_eq!(after(&storage, hole_alone), [vec![0; 4096], vec![1; LEN - 4096]].concat());
    }
}
