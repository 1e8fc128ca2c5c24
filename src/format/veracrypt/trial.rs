//! The trial: nothing in the clear says what a header was made with, so every function is tried with every chain.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    Family, Hints, Opened, Place, VolumeHeader,
    chain::{Encryption, MAX_KEY_LEN, Use, with_small_blocks},
    estimate::Estimate,
    header::HeaderError,
    layout::{HEADER_LEN, PLAIN_LEN},
    original,
    place::Slot,
    prf::{Cost, Prf},
};
use crate::{
    crypto::{
        kdf::{BETWEEN_QUESTIONS, KdfLimits, argon2id, pbkdf2_blocks},
        secret::{DerivedKey, LockedBytes},
    },
    error::{Error, ErrorKind, Result},
    format::{Attempt, Monitor},
    units::{Sector, SectorSize},
};

/// One derivation: one place's salt, one function at one cost.
#[derive(Debug)]
struct Derivation<'a> {
    slot: &'a Slot,
    family: Family,
    prf: Prf,
    cost: Cost,
    password: &'a [u8],
    /// What of the key is there, and what was tried.
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    key: LockedBytes,
    /// Which blocks of the key are there.
    blocks: Vec<bool>,
    /// Chains that take up to so many bytes were tried.
    tried: usize,
}

/// A piece of work: a block of a PBKDF2 key, or a whole Argon2id key.
#[derive(Debug, Clone, Copy)]
struct Task {
    derivation: usize,
    block: usize,
}

/// What a trial comes to.
#[derive(Debug, Default)]
struct Findings {
    opened: Option<Opened>,
    /// The password is right, but the header is not.
    damaged: Option<(Place, HeaderError)>,
    /// What was not tried for lack of memory.
    too_large: Option<Error>,
    failed: Option<Error>,
}

/// All of one trial, shared by its threads.
struct Trial<'a> {
    derivations: Vec<Derivation<'a>>,
    tasks: Vec<Task>,
    next: AtomicUsize,
    begun: Mutex<Vec<bool>>,
    is_over: AtomicBool,
    /// Held while an Argon2id runs: one is memory enough.
    large: Mutex<()>,
    findings: Mutex<Findings>,
    start: Instant,
    /// With the time when the monitor was told last.
    estimate: Mutex<(Estimate, Option<Duration>)>,
    attempt: &'a Attempt<'a>,
    /// Whose container it may be.
    families: Vec<Family>,
}

/// A password as each family derives keys of it.
pub(super) type Passwords = [(Family, LockedBytes)];

/// Tries `passwords` on `slots`, and gives what opened.
///
/// # Errors
/// `Credentials` where nothing opens, `Damaged` and `Unsupported` where the password is right, but the header is not;
/// `Interrupted` where the attempt's monitor says so.
pub(super) fn run(slots: &[Slot], passwords: &Passwords, attempt: &Attempt<'_>) -> Result<Opened> {
    original::tried(run_once(slots, passwords, attempt)?, slots, passwords, attempt)
}

/// As [`run`], without a look at the header whose copy opened.
pub(super) fn run_once(slots: &[Slot], passwords: &Passwords, attempt: &Attempt<'_>) -> Result<Opened> {
    let most = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let trial = Trial::plan(slots, passwords, attempt, most)?;
    thread::scope(|scope| {
        for _ in 1..most.min(trial.tasks.len()) {
            // Where no thread can be had, those that are there do the work.
            drop(thread::Builder::new().spawn_scoped(scope, || trial.work()));
        }
        trial.work();
    });
    trial.outcome()
}

impl<'a> Trial<'a> {
    fn plan(
        slots: &'a [Slot],
        passwords: &'a Passwords,
        attempt: &'a Attempt<'a>,
        threads: usize,
    ) -> Result<Self> {
        let mut derivations = Vec::new();
        let mut findings = Findings::default();
        for place in Place::to_try(attempt.hints) {
            let Some(slot) = slots.iter().find(|slot| slot.place == *place) else { continue };
            for (family, password) in passwords.iter().filter(|(family, _)| place.is_of(*family)) {
                for (prf, cost) in functions(*family, *place, attempt.hints)? {
                    match check_cost(&attempt.limits, prf, cost) {
                        Ok(()) => derivations.push(Derivation::new(slot, *family, prf, cost, password)?),
                        Err(error) if attempt.hints.prf.is_some() => return Err(error),
                        Err(error) => findings.too_large = Some(error),
                    }
                }
            }
        }
        if derivations.is_empty() {
            return Err(nothing_to_try(attempt.hints));
        }
        derivations.sort_by_key(Derivation::rank);
        let tasks = tasks(&derivations);
        let work = tasks.iter().filter_map(|task| derivations.get(task.derivation));
        let estimate = Estimate::new(work.map(|derivation| (derivation.prf, derivation.cost)), threads);
        Ok(Self {
            start: Instant::now(),
            estimate: Mutex::new((estimate, None)),
            begun: Mutex::new(vec![false; derivations.len()]),
            derivations,
            tasks,
            next: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            large: Mutex::new(()),
            findings: Mutex::new(findings),
            attempt,
            families: passwords.iter().map(|(family, _)| *family).collect(),
        })
    }

    /// Takes task after task, until none is left or something has opened.
    fn work(&self) {
        while !self.is_over() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(task) = self.tasks.get(number) else { return };
            let Some(derivation) = self.derivations.get(task.derivation) else { return };
            self.tell(task.derivation, derivation);
            if let Err(error) = self.carry_out(number, *task, derivation) {
                lock(&self.findings).failed.get_or_insert(error);
                self.is_over.store(true, Ordering::Relaxed);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) || self.attempt.monitor.is_some_and(Monitor::is_over)
    }

    /// Tells the monitor of a derivation that begins.
    fn tell(&self, index: usize, derivation: &Derivation<'_>) {
        let Some(monitor) = self.attempt.monitor else { return };
        let mut begun = lock(&self.begun);
        if begun.get(index).is_some_and(|begun| !begun) {
            if let Some(place) = begun.get_mut(index) {
                *place = true;
            }
            let number = begun.iter().filter(|begun| **begun).count();
            monitor.derives(derivation.prf.name(), number, self.derivations.len());
        }
    }

    /// Counts what was done, and tells the monitor how much is left, but not all the time.
    fn count(&self, what: impl FnOnce(&mut Estimate, Duration)) {
        let Some(monitor) = self.attempt.monitor else { return };
        let now = self.start.elapsed();
        let mut estimate = lock(&self.estimate);
        let (estimate, told) = &mut *estimate;
        what(estimate, now);
        if told.is_some_and(|told| now.saturating_sub(told) < BETWEEN_ESTIMATES) {
            return;
        }
        if let Some(left) = estimate.left(now) {
            *told = Some(now);
            monitor.expects(left);
        }
    }

    fn carry_out(&self, number: usize, task: Task, derivation: &Derivation<'_>) -> Result<()> {
        match derivation.cost {
            Cost::Argon2id(cost) => {
                let _alone = lock(&self.large);
                if self.is_over() {
                    return Ok(());
                }
                self.count(|estimate, now| estimate.begin(number, now));
                let key = argon2id(derivation.password, &derivation.slot.salt, &cost, MAX_KEY_LEN)?;
                self.count(|estimate, now| estimate.end(number, now));
                self.try_with(derivation, key.expose(), 0)
            }
            Cost::Pbkdf2 { hash, iterations } => {
                let len = hash.digest_len();
                let mut block = LockedBytes::zeroed(len)?;
                self.count(|estimate, now| estimate.begin(number, now));
                let done = pbkdf2_blocks(
                    hash,
                    derivation.password,
                    &derivation.slot.salt,
                    iterations,
                    u32::try_from(task.block).unwrap_or(u32::MAX),
                    block.as_mut_slice(),
                    &|| {
                        self.count(|estimate, now| estimate.advance(number, BETWEEN_QUESTIONS, now));
                        self.is_over()
                    },
                );
                if done.is_break() {
                    return Ok(());
                }
                self.count(|estimate, now| estimate.end(number, now));
                let mut progress = lock(&derivation.progress);
                let Some((from, to)) = progress.add(task.block, block.as_slice()) else { return Ok(()) };
                let key = DerivedKey::copy_of(progress.key.as_slice().get(..to).unwrap_or_default())?;
                drop(progress);
                self.try_with(derivation, key.expose(), from)
            }
        }
    }

    /// Tries every chain that takes more than `tried` bytes of key, and no more than there are.
    fn try_with(&self, derivation: &Derivation<'_>, key: &[u8], tried: usize) -> Result<()> {
        let slot = derivation.slot;
        for encryption in Encryption::all(derivation.family) {
            let needed = encryption.key_len();
            if needed <= tried || needed > key.len() {
                continue;
            }
            let Some(found) = decrypted(slot, encryption, key)? else { continue };
            match found {
                Ok(header) if header.family == derivation.family => {
                    let opened = Opened {
                        place: slot.place,
                        offset: slot.offset,
                        encryption,
                        prf: derivation.prf,
                        pim: self.attempt.hints.pim,
                        header,
                        protected: None,
                        original_is_lost: false,
                    };
                    lock(&self.findings).opened.get_or_insert(opened);
                    self.is_over.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) => {
                    lock(&self.findings).damaged.get_or_insert((slot.place, error));
                }
            }
        }
        if derivation.family == Family::TrueCrypt
            && (tried..key.len()).contains(&SMALL_KEY_LEN)
            && let Some(name) = with_small_blocks(key, &slot.ciphertext)
        {
            lock(&self.findings).damaged.get_or_insert((slot.place, HeaderError::SmallBlocks(name)));
        }
        Ok(())
    }

    fn outcome(self) -> Result<Opened> {
        let findings = self.findings.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = findings.opened {
            return Ok(opened);
        }
        if self.attempt.monitor.is_some_and(Monitor::is_over) {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        if let Some(error) = findings.failed {
            return Err(error);
        }
        if let Some((place, error)) = findings.damaged {
            let error = Error::from(error);
            return Err(if place.is_backup() || error.kind() != ErrorKind::Damaged {
                error
            } else {
                error.with_hint("--backup-header takes the copy at the container's end")
            });
        }
        Err(wrong_password(self.attempt.hints, &self.families, findings.too_large))
    }
}

impl<'a> Derivation<'a> {
    fn new(slot: &'a Slot, family: Family, prf: Prf, cost: Cost, password: &'a LockedBytes) -> Result<Self> {
        let needed = Encryption::all(family).map(Encryption::key_len).max().unwrap_or(MAX_KEY_LEN);
        let blocks = match cost {
            Cost::Pbkdf2 { hash, .. } => needed.div_ceil(hash.digest_len()),
            Cost::Argon2id(_) => 1,
        };
        let len = match cost {
            Cost::Pbkdf2 { hash, .. } => blocks * hash.digest_len(),
            Cost::Argon2id(_) => 0,
        };
        let progress = Progress { key: LockedBytes::zeroed(len)?, blocks: vec![false; blocks], tried: 0 };
        Ok(Self { slot, family, prf, cost, password: password.as_slice(), progress: Mutex::new(progress) })
    }

    /// The lower, the earlier: what costs next to nothing, then the likely places, and there the likely functions. Argon2id
    /// comes last in its place.
    fn rank(&self) -> (bool, usize, Prf) {
        let is_slow = !matches!(self.cost, Cost::Pbkdf2 { iterations, .. } if iterations <= QUICK);
        let places = Place::ALL.iter().position(|place| *place == self.slot.place).unwrap_or_default();
        (is_slow, places, self.prf)
    }

    /// What is begun together.
    fn group(&self) -> (bool, usize) {
        let (is_slow, place, _) = self.rank();
        (is_slow, place)
    }

    /// The first block that single ciphers do not need.
    fn blocks_of_one_cipher(&self) -> usize {
        match self.cost {
            Cost::Pbkdf2 { hash, .. } => SINGLE_KEY_LEN.div_ceil(hash.digest_len()),
            Cost::Argon2id(_) => 1,
        }
    }
}

impl Progress {
    /// Puts a block in its place. Where the key reaches further now, gives how far chains were tried before, and how far they
    /// can be tried now.
    fn add(&mut self, index: usize, block: &[u8]) -> Option<(usize, usize)> {
        let start = index.checked_mul(block.len())?;
        self.key.as_mut_slice().get_mut(start..start + block.len())?.copy_from_slice(block);
        *self.blocks.get_mut(index)? = true;
        let there = self.blocks.iter().take_while(|there| **there).count() * block.len();
        (there > self.tried).then(|| (std::mem::replace(&mut self.tried, there), there))
    }
}

/// The work of all derivations, in the order in which it is begun: in each place first what single ciphers need of every
/// key, then what cascades need.
fn tasks(derivations: &[Derivation<'_>]) -> Vec<Task> {
    let mut tasks = Vec::new();
    let indexed: Vec<_> = derivations.iter().enumerate().collect();
    for same_place in indexed.chunk_by(|(_, a), (_, b)| a.group() == b.group()) {
        for is_for_cascades in [false, true] {
            for (index, derivation) in same_place {
                let blocks = lock(&derivation.progress).blocks.len();
                let single = derivation.blocks_of_one_cipher().min(blocks);
                let range = if is_for_cascades { single..blocks } else { 0..single };
                tasks.extend(range.map(|block| Task { derivation: *index, block }));
            }
        }
    }
    tasks
}

/// The functions to try in a place, with their costs.
fn functions(family: Family, place: Place, hints: Hints) -> Result<Vec<(Prf, Cost)>> {
    let mut functions = Vec::new();
    for prf in Prf::ALL {
        // VC-TRIAL-03: a user's PIM can make Argon2id last very long.
        let is_asked_for = hints.prf.map_or(prf != Prf::Argon2id || hints.pim == 0, |only| only == prf);
        if is_asked_for {
            let cost = prf.cost(family, place == Place::System, hints.pim)?;
            functions.extend(cost.map(|cost| (prf, cost)));
        }
    }
    Ok(functions)
}

/// Holds Argon2id's memory against the limits. Passes and iterations are the program's and the user's own, not the header's.
fn check_cost(limits: &KdfLimits, prf: Prf, cost: Cost) -> Result<()> {
    let Cost::Argon2id(cost) = cost else { return Ok(()) };
    let needed = u64::from(cost.memory_kib);
    let (kind, most, of) = if needed > limits.memory_kib {
        (ErrorKind::Unsupported, limits.memory_kib, "are allowed")
    } else if needed > limits.available_kib {
        (ErrorKind::OutOfMemory, limits.available_kib, "are free")
    } else {
        return Ok(());
    };
    let reason = format!("{} needs {} MiB of memory, {} MiB {of}", prf.name(), needed >> 10, most >> 10);
    let error = Error::new(kind, reason);
    Err(if kind == ErrorKind::Unsupported {
        error.with_hint("--max-kdf-memory raises the limit")
    } else {
        error
    })
}

/// What stands in a slot, decrypted under the start of `key`; `None` where it is no header.
pub(super) fn decrypted(
    slot: &Slot,
    encryption: Encryption,
    key: &[u8],
) -> Result<Option<Result<VolumeHeader, HeaderError>>> {
    let Ok(cipher) = encryption.keyed(key, Use::Header) else {
        // Halves that are the same come from no derivation; what lacks memory shows elsewhere too.
        return Ok(None);
    };
    let mut unit = LockedBytes::zeroed(HEADER_LEN)?;
    let place = unit.as_mut_slice();
    place[..PLAIN_LEN].copy_from_slice(&slot.ciphertext);
    cipher.decrypt(place, SectorSize::B512, Sector(0));
    let plain = unit.as_slice().first_chunk();
    Ok(plain.and_then(|plain| VolumeHeader::parse(plain).transpose()))
}

fn nothing_to_try(hints: Hints) -> Error {
    if let Some(prf) = hints.prf {
        let reason = format!("{} is not used for such headers", prf.name());
        return Error::new(ErrorKind::Usage, reason);
    }
    Error::new(ErrorKind::NotAContainer, "the container is too small for a header in that place")
}

/// VC-TRIAL-05. A wrong password cannot be told from a header that is damaged in its salt or first block.
fn wrong_password(hints: Hints, families: &[Family], too_large: Option<Error>) -> Error {
    let [tries_truecrypt, tries_veracrypt] =
        [Family::TrueCrypt, Family::VeraCrypt].map(|family| families.contains(&family));
    let mut reason = "no header opens with this password".to_owned();
    if tries_truecrypt {
        reason.push_str("; cascades with Blowfish, CAST5 or Triple DES are not supported");
    }
    if let Some(error) = too_large {
        reason = format!("{reason}; not all was tried: {}", error.reason());
    }
    let mut ways = Vec::new();
    match (hints.prf, hints.pim) {
        (Some(_), _) => ways.push("without --prf every function is tried"),
        (None, 0) if tries_veracrypt => ways.push("a PIM is given with --pim"),
        (None, 0) => {}
        (None, _) => ways.push("with a PIM, Argon2id is tried with --prf argon2id only"),
    }
    if !hints.backup_header && !hints.system && hints.prf.is_none() {
        ways.push("a damaged header may have a good copy: --backup-header");
    }
    let error = Error::new(ErrorKind::Credentials, reason);
    if ways.is_empty() { error } else { error.with_hint(ways.join("; ")) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The least time between two estimates that the monitor is told.
const BETWEEN_ESTIMATES: Duration = Duration::from_millis(200);
/// Iterations that take no time to speak of: TrueCrypt's.
const QUICK: u32 = 2000;
/// What the largest key of a cipher with small blocks takes, seeds included, in bytes.
const SMALL_KEY_LEN: usize = 88;
/// What a chain of one cipher takes of the key, in bytes.
const SINGLE_KEY_LEN: usize = 64;
