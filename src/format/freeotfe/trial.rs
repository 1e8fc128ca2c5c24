//! The trial: nothing says what a header was made with, so every hash is tried with every cipher.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use super::{CDB_LEN, Cipher, DetailsError, Hints, cipher::MAX_KEY_LEN, opened::Opened};
use crate::{
    crypto::{
        hash::{HashKind, equal},
        kdf::pbkdf2_blocks,
        secret::LockedBytes,
    },
    error::{Error, ErrorKind, Result},
    format::{Attempt, Monitor},
    units::{Sector, SectorSize},
};

/// A critical data block, divided as the user says.
#[derive(Debug)]
pub(super) struct Cdb<'a> {
    salt: &'a [u8],
    encrypted: &'a [u8],
    hints: Hints,
}

impl<'a> Cdb<'a> {
    /// FO-CDB-02.
    ///
    /// # Errors
    /// `Usage` for a salt that there cannot be, or no iterations at all.
    pub(super) fn new(bytes: &'a [u8; CDB_LEN], hints: Hints) -> Result<Self> {
        let bits = hints.salt_bits;
        let salt_len =
            usize::try_from(bits / 8).ok().filter(|_| bits.is_multiple_of(8) && bits <= MAX_SALT_BITS);
        let split = salt_len.and_then(|len| bytes.split_at_checked(len));
        let (salt, encrypted) = split.ok_or_else(|| {
            Error::usage(format!("a salt has whole bytes, and {MAX_SALT_BITS} bits at most"))
        })?;
        if hints.iterations == 0 {
            return Err(Error::usage("the key derivation has one iteration at least"));
        }
        Ok(Self { salt, encrypted, hints })
    }
}

/// How a header's key and check are made of the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// PBKDF2 and HMAC: layouts 2 to 5 (FO-KDF-01).
    Pbkdf2,
    /// The hash alone: layout 1 (FO-KDF-02).
    Plain,
}

/// A piece of work.
#[derive(Debug, Clone, Copy)]
struct Task {
    hash: HashKind,
    scheme: Scheme,
    /// Whether it is the ciphers with long keys that are tried, for which a derivation takes longer.
    has_long_keys: bool,
}

/// What a trial comes to.
#[derive(Debug, Default)]
struct Findings {
    opened: Option<Opened>,
    /// The password is right, but the header is not.
    damaged: Option<DetailsError>,
    failed: Option<Error>,
}

struct Trial<'a> {
    cdb: &'a Cdb<'a>,
    password: &'a [u8],
    tasks: Vec<Task>,
    next: AtomicUsize,
    is_over: AtomicBool,
    findings: Mutex<Findings>,
    monitor: Option<&'a dyn Monitor>,
}

/// Tries a password, and gives what opened.
///
/// # Errors
/// `Credentials` where nothing opens, `Damaged` and `Unsupported` where the password is right, but the header is not;
/// `Interrupted` where the attempt's monitor says so.
pub(super) fn run(cdb: &Cdb<'_>, password: &[u8], attempt: &Attempt<'_>) -> Result<Opened> {
    let trial = Trial {
        cdb,
        password,
        tasks: tasks(),
        next: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
        findings: Mutex::new(Findings::default()),
        monitor: attempt.monitor,
    };
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| {
        for _ in 1..threads.min(trial.tasks.len()) {
            // Where no thread can be had, those that are there do the work.
            drop(thread::Builder::new().spawn_scoped(scope, || trial.work()));
        }
        trial.work();
    });
    trial.outcome()
}

/// FO-TRIAL-01. Long keys come last: only RC6 of 1024 bits has them.
fn tasks() -> Vec<Task> {
    let of = |scheme, has_long_keys| HASHES.map(|hash| Task { hash, scheme, has_long_keys });
    [(Scheme::Pbkdf2, false), (Scheme::Plain, false), (Scheme::Plain, true), (Scheme::Pbkdf2, true)]
        .into_iter()
        .flat_map(|(scheme, has_long_keys)| of(scheme, has_long_keys))
        .collect()
}

impl Trial<'_> {
    fn work(&self) {
        while !self.is_over() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(task) = self.tasks.get(number) else { return };
            if let Some(monitor) = self.monitor {
                monitor.derives(task.hash.name(), number.saturating_add(1), self.tasks.len());
            }
            match self.carry_out(*task) {
                Ok(None) => {}
                Ok(Some(found)) => {
                    let mut findings = lock(&self.findings);
                    match found {
                        Ok(opened) => drop(findings.opened.get_or_insert(opened)),
                        Err(error) => drop(findings.damaged.get_or_insert(error)),
                    }
                    self.is_over.store(true, Ordering::Relaxed);
                }
                Err(error) => {
                    lock(&self.findings).failed.get_or_insert(error);
                    self.is_over.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) || self.monitor.is_some_and(Monitor::is_over)
    }

    fn carry_out(&self, task: Task) -> Result<Option<Result<Opened, DetailsError>>> {
        let range = if task.has_long_keys { SHORT_KEY_LEN..MAX_KEY_LEN } else { 0..SHORT_KEY_LEN };
        let mut key = LockedBytes::zeroed(range.end)?;
        match task.scheme {
            Scheme::Pbkdf2 => {
                let (salt, iterations) = (self.cdb.salt, self.cdb.hints.iterations);
                let out = key.as_mut_slice();
                let derived =
                    pbkdf2_blocks(task.hash, self.password, salt, iterations, 0, out, &|| self.is_over());
                if derived.is_break() {
                    return Ok(None);
                }
            }
            Scheme::Plain => {
                // What a digest lacks of a key is zeros.
                let digest = task.hash.digest(&[self.password, self.cdb.salt]);
                for (byte, value) in key.as_mut_slice().iter_mut().zip(digest.iter()) {
                    *byte = *value;
                }
            }
        }
        for (index, cipher) in (0..).zip(Cipher::all()) {
            let len = cipher.key_len();
            if len <= range.start || len > range.end || self.is_over() {
                continue;
            }
            let key = key.as_slice().get(..len).unwrap_or_default();
            let Some(details) = self.decrypted(task, cipher, key)? else { continue };
            let how = (task.scheme, task.hash, index);
            return Ok(Some(Opened::new(how, self.cdb.hints, details)));
        }
        Ok(None)
    }

    /// The volume details block, where the check before it is right (FO-CDB-03, FO-MAC-01, FO-MAC-02).
    fn decrypted(&self, task: Task, cipher: Cipher, key: &[u8]) -> Result<Option<LockedBytes>> {
        let Ok(keyed) = cipher.for_header(key) else {
            // Halves that are the same come from no derivation; what lacks memory shows elsewhere too.
            return Ok(None);
        };
        let whole = self.cdb.encrypted.len() / cipher.block_len() * cipher.block_len();
        let mut unit = LockedBytes::zeroed(CDB_LEN)?;
        let place = unit.as_mut_slice();
        place[..whole].copy_from_slice(&self.cdb.encrypted[..whole]);
        keyed.decrypt(place, SectorSize::B512, Sector(0));
        let len = task.hash.digest_len();
        let (check, block, computed) = match task.scheme {
            Scheme::Pbkdf2 => {
                let (check, block) = unit.as_slice()[..whole].split_at(MAC_FIELD_LEN);
                (check, block, task.hash.hmac(key, &[block]))
            }
            Scheme::Plain => {
                let (check, block) = unit.as_slice()[..whole].split_at(len);
                (check, block, task.hash.digest(&[block]))
            }
        };
        if !equal(&check[..len], &computed[..len]) {
            return Ok(None);
        }
        let mut details = LockedBytes::zeroed(block.len())?;
        details.as_mut_slice().copy_from_slice(block);
        Ok(Some(details))
    }

    fn outcome(self) -> Result<Opened> {
        let findings = self.findings.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = findings.opened {
            return Ok(opened);
        }
        if self.monitor.is_some_and(Monitor::is_over) {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        if let Some(error) = findings.failed {
            return Err(error);
        }
        if let Some(error) = findings.damaged {
            return Err(error.into());
        }
        Err(wrong_password(self.cdb.hints))
    }
}

/// FO-TRIAL-02. A wrong password cannot be told from another salt, other iterations, a cipher that is not there, or damage.
fn wrong_password(hints: Hints) -> Error {
    let Hints { salt_bits, iterations, .. } = hints;
    let reason = format!(
        "no header opens with this password, a salt of {salt_bits} bits and {iterations} key iterations"
    );
    Error::new(ErrorKind::Credentials, reason).with_hint(
        "if the volume was made with others, --salt-length and --key-iterations name them; one that is encrypted with MARS opens in LibreCrypt on Windows",
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every hash that the programs have, the likeliest first (FO-KDF-03).
pub(super) const HASHES: [HashKind; 15] = [
    HashKind::Sha512,
    HashKind::Sha256,
    HashKind::Sha1,
    HashKind::Whirlpool,
    HashKind::Sha384,
    HashKind::Ripemd160,
    HashKind::Ripemd256,
    HashKind::Ripemd320,
    HashKind::Tiger,
    HashKind::Md5,
    HashKind::Sha224,
    HashKind::Ripemd128,
    HashKind::TwiceRipemd160,
    HashKind::Md4,
    HashKind::Md2,
];

/// The longest salt in bits.
const MAX_SALT_BITS: u32 = 512;
/// The room for the check of a header, in bytes.
const MAC_FIELD_LEN: usize = 64;
/// What all but the longest keys need, in bytes.
const SHORT_KEY_LEN: usize = 64;
