//! From a password to the key of one keyslot's area.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use crate::{
    crypto::{
        kdf::{self, CostError, KdfCost, KdfLimits, WorkLimit},
        rng::Rng,
        secret::DerivedKey,
    },
    error::{Error, ErrorKind, Result},
    format::KdfInfo,
};

/// A keyslot's key derivation.
#[derive(Debug, Clone)]
pub(in crate::format) struct Kdf {
    pub(in crate::format) cost: KdfCost,
    pub(in crate::format) salt: Vec<u8>,
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
        Self { filled: limits.work.kib, iterations: limits.iterations.into() }
    }

    /// Takes the cost of one derivation; `None` where it passes what is left.
    fn spend(&mut self, cost: KdfCost) -> Option<()> {
        match cost {
            KdfCost::Pbkdf2 { iterations, .. } => {
                self.iterations = self.iterations.checked_sub(iterations.into())?;
            }
            KdfCost::Argon2i(cost) | KdfCost::Argon2id(cost) => {
                self.filled = self.filled.checked_sub(WorkLimit::of(&cost))?;
            }
        }
        Some(())
    }
}

impl Kdf {
    /// A new derivation with a fresh salt.
    pub(in crate::format) fn new(cost: KdfCost, rng: &dyn Rng) -> Result<Self> {
        let mut salt = vec![0; SALT_LEN];
        rng.fill(&mut salt)?;
        Ok(Self { cost, salt })
    }

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
        self.check_cost(limits)
            .map_err(|error| Error::new(ErrorKind::Unsupported, format!("keyslot {slot} {error}")))?;
        self.check_memory(slot, limits)?;
        budget.spend(self.cost).ok_or_else(|| {
            let reason = "the keyslots together ask for more than one attempt to unlock may cost";
            Error::new(ErrorKind::Unsupported, reason).with_hint("--slot N tries keyslot N alone")
        })?;
        kdf::derive(&self.cost, password, &self.salt, len)
    }

    /// Whether it is run at all, whatever the machine has to give.
    pub(in crate::format) fn check_cost(&self, limits: &KdfLimits) -> Result<(), CostError> {
        match self.cost {
            KdfCost::Pbkdf2 { iterations, .. } => limits.check_iterations(iterations),
            KdfCost::Argon2i(cost) | KdfCost::Argon2id(cost) => limits.check_time(&cost),
        }
    }

    fn check_memory(&self, slot: u32, limits: &KdfLimits) -> Result<()> {
        let (KdfCost::Argon2i(cost) | KdfCost::Argon2id(cost)) = self.cost else { return Ok(()) };
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
        let name = match self.cost {
            KdfCost::Pbkdf2 { hash, .. } => hash.pbkdf2_name(),
            KdfCost::Argon2i(_) => "argon2i",
            KdfCost::Argon2id(_) => "argon2id",
        };
        let (memory, passes, lanes, iterations) = match self.cost {
            KdfCost::Pbkdf2 { iterations, .. } => (None, None, None, Some(iterations)),
            KdfCost::Argon2i(cost) | KdfCost::Argon2id(cost) => {
                let memory = u64::from(cost.memory_kib).saturating_mul(1024);
                (Some(memory), Some(cost.passes), Some(cost.lanes), None)
            }
        };
        KdfInfo { name, memory, passes, lanes, iterations }
    }

    /// Whether guessing a password costs less than with a keyslot that cryptsetup makes today: PBKDF2, which needs no memory,
    /// or Argon2 with less than 64 MiB.
    pub(in crate::format) const fn is_weak(&self) -> bool {
        match self.cost {
            KdfCost::Pbkdf2 { .. } => true,
            KdfCost::Argon2i(cost) | KdfCost::Argon2id(cost) => cost.memory_kib < 65_536,
        }
    }
}

/// The size of a new salt in bytes.
const SALT_LEN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{hash::HashKind, kdf::Argon2Cost};

    fn refusal(cost: KdfCost, limits: KdfLimits) -> Error {
        let kdf = Kdf { cost, salt: vec![0; 32] };
        kdf.derive(0, b"password", 32, &limits, &mut Budget::new(&limits)).unwrap_err()
    }

    #[test]
    fn costs_above_the_limits_are_refused_before_anything_runs() {
        // proves: L1-KEY-05
        let limits = KdfLimits { memory_kib: 1024, iterations: 1000, ..KdfLimits::default() };
        let pbkdf2 = KdfCost::Pbkdf2 { hash: HashKind::Sha1, iterations: u32::MAX };
        assert_eq!(refusal(pbkdf2, limits).kind(), ErrorKind::Unsupported);
        let cost = Argon2Cost { memory_kib: u32::MAX, passes: 4, lanes: 4 };
        assert_eq!(refusal(KdfCost::Argon2id(cost), limits).kind(), ErrorKind::Unsupported);
        let limits = KdfLimits { available_kib: 1024, ..KdfLimits::default() };
        let cost = Argon2Cost { memory_kib: 2048, passes: 4, lanes: 4 };
        assert_eq!(refusal(KdfCost::Argon2i(cost), limits).kind(), ErrorKind::OutOfMemory);
    }

    #[test]
    fn the_keyslots_of_one_attempt_share_one_budget() {
        // proves: L1-KEY-06
        let limits = KdfLimits { iterations: 1000, ..KdfLimits::default() };
        let mut budget = Budget::new(&limits);
        let cost = KdfCost::Pbkdf2 { hash: HashKind::Sha1, iterations: 400 };
        let kdf = Kdf { cost, salt: vec![0; 32] };
        let mut derive = || kdf.derive(0, b"password", 32, &limits, &mut budget).map(|key| key.len());
        assert_eq!(derive().unwrap(), 32);
        assert_eq!(derive().unwrap(), 32);
        assert_eq!(derive().unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
