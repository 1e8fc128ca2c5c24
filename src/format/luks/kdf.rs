//! From a password to the key of one keyslot's area.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use crate::{
    crypto::{
        hash::HashKind,
        kdf::{Argon2Cost, KdfLimits, argon2i, argon2id, pbkdf2, pbkdf2_name},
        secret::DerivedKey,
    },
    error::{Error, ErrorKind, Result},
    format::KdfInfo,
};

/// A keyslot's key derivation.
#[derive(Debug, Clone)]
pub(in crate::format) struct Kdf {
    pub(in crate::format) algorithm: Algorithm,
    pub(in crate::format) salt: Vec<u8>,
}

/// Which derivation, at which cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::format) enum Algorithm {
    Pbkdf2 { hash: HashKind, iterations: u32 },
    Argon2i(Argon2Cost),
    Argon2id(Argon2Cost),
}

/// What one attempt to unlock may still spend over all keyslots together.
#[derive(Debug)]
pub(in crate::format) struct Budget {
    /// KiB of memory times passes.
    filled: u64,
    iterations: u64,
}

impl Budget {
    /// As much as the costliest single keyslot within `limits`.
    pub(in crate::format) fn new(limits: &KdfLimits) -> Self {
        Self {
            filled: limits.memory_kib.saturating_mul(limits.passes.into()),
            iterations: limits.iterations.into(),
        }
    }

    /// Takes the cost of one derivation; `None` where it passes what is left.
    fn spend(&mut self, algorithm: Algorithm) -> Option<()> {
        match algorithm {
            Algorithm::Pbkdf2 { iterations, .. } => {
                self.iterations = self.iterations.checked_sub(iterations.into())?;
            }
            Algorithm::Argon2i(cost) | Algorithm::Argon2id(cost) => {
                let filled = u64::from(cost.memory_kib).saturating_mul(cost.passes.into());
                self.filled = self.filled.checked_sub(filled)?;
            }
        }
        Some(())
    }
}

impl Kdf {
    /// The key of `len` bytes that `password` gives. `slot` is the number for the errors.
    ///
    /// # Errors
    /// `Unsupported` where the costs pass `limits` or the budget, `OutOfMemory` where the machine has less to give; nothing
    /// is allocated then.
    pub(in crate::format) fn derive(
        &self,
        slot: u32,
        password: &[u8],
        len: usize,
        limits: &KdfLimits,
        budget: &mut Budget,
    ) -> Result<DerivedKey> {
        let refused = |error| Error::new(ErrorKind::Unsupported, format!("keyslot {slot} {error}"));
        match self.algorithm {
            Algorithm::Pbkdf2 { iterations, .. } => limits.check_iterations(iterations),
            Algorithm::Argon2i(cost) | Algorithm::Argon2id(cost) => limits.check(&cost),
        }
        .map_err(refused)?;
        self.check_memory(slot, limits)?;
        budget.spend(self.algorithm).ok_or_else(|| {
            let reason = "the keyslots together ask for more than one attempt to unlock may cost";
            Error::new(ErrorKind::Unsupported, reason)
        })?;
        match &self.algorithm {
            Algorithm::Pbkdf2 { hash, iterations } => pbkdf2(*hash, password, &self.salt, *iterations, len),
            Algorithm::Argon2i(cost) => argon2i(password, &self.salt, cost, len),
            Algorithm::Argon2id(cost) => argon2id(password, &self.salt, cost, len),
        }
    }

    fn check_memory(&self, slot: u32, limits: &KdfLimits) -> Result<()> {
        let (Algorithm::Argon2i(cost) | Algorithm::Argon2id(cost)) = self.algorithm else { return Ok(()) };
        let (needed, free) = (u64::from(cost.memory_kib), limits.available_kib);
        if needed <= free {
            return Ok(());
        }
        let (needed, free) = (needed >> 10, free >> 10);
        let reason = format!("keyslot {slot} needs {needed} MiB of memory, {free} MiB are free");
        Err(Error::new(ErrorKind::OutOfMemory, reason)
            .with_hint("close other programs, or open it on a machine with more memory"))
    }

    /// What `info` shows.
    pub(in crate::format) fn describe(&self) -> KdfInfo {
        let name = match self.algorithm {
            Algorithm::Pbkdf2 { hash, .. } => pbkdf2_name(hash),
            Algorithm::Argon2i(_) => "argon2i",
            Algorithm::Argon2id(_) => "argon2id",
        };
        let (memory, passes, lanes, iterations) = match self.algorithm {
            Algorithm::Pbkdf2 { iterations, .. } => (None, None, None, Some(iterations)),
            Algorithm::Argon2i(cost) | Algorithm::Argon2id(cost) => {
                let memory = u64::from(cost.memory_kib).saturating_mul(1024);
                (Some(memory), Some(cost.passes), Some(cost.lanes), None)
            }
        };
        KdfInfo { name, memory, passes, lanes, iterations }
    }

    /// Whether guessing a password costs less than with a keyslot that cryptsetup makes today: PBKDF2, which needs no memory,
    /// or Argon2 with less than 64 MiB.
    pub(in crate::format) const fn is_weak(&self) -> bool {
        match self.algorithm {
            Algorithm::Pbkdf2 { .. } => true,
            Algorithm::Argon2i(cost) | Algorithm::Argon2id(cost) => cost.memory_kib < 65_536,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(algorithm: Algorithm, limits: KdfLimits) -> Error {
        let kdf = Kdf { algorithm, salt: vec![0; 32] };
        kdf.derive(0, b"password", 32, &limits, &mut Budget::new(&limits)).unwrap_err()
    }

    #[test]
    fn costs_above_the_limits_are_refused_before_anything_runs() {
        // proves: L1-KEY-05
        let limits = KdfLimits { memory_kib: 1024, iterations: 1000, ..KdfLimits::default() };
        let pbkdf2 = Algorithm::Pbkdf2 { hash: HashKind::Sha1, iterations: u32::MAX };
        assert_eq!(refusal(pbkdf2, limits).kind(), ErrorKind::Unsupported);
        let cost = Argon2Cost { memory_kib: u32::MAX, passes: 4, lanes: 4 };
        assert_eq!(refusal(Algorithm::Argon2id(cost), limits).kind(), ErrorKind::Unsupported);
        let limits = KdfLimits { available_kib: 1024, ..KdfLimits::default() };
        let cost = Argon2Cost { memory_kib: 2048, passes: 4, lanes: 4 };
        assert_eq!(refusal(Algorithm::Argon2i(cost), limits).kind(), ErrorKind::OutOfMemory);
    }

    #[test]
    fn the_keyslots_of_one_attempt_share_one_budget() {
        // proves: L1-KEY-06
        let limits = KdfLimits { iterations: 1000, ..KdfLimits::default() };
        let mut budget = Budget::new(&limits);
        let algorithm = Algorithm::Pbkdf2 { hash: HashKind::Sha1, iterations: 400 };
        let kdf = Kdf { algorithm, salt: vec![0; 32] };
        let mut derive = || kdf.derive(0, b"password", 32, &limits, &mut budget).map(|key| key.len());
        assert_eq!(derive().unwrap(), 32);
        assert_eq!(derive().unwrap(), 32);
        assert_eq!(derive().unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
