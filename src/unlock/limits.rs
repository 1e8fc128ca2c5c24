//! What a key derivation may cost here: memory, and the time that it takes on this machine.

use std::time::{Duration, Instant};

use super::Advice;
use crate::{
    crypto::{
        hash::HashKind,
        kdf::{Argon2Cost, KdfCost, KdfLimits, WorkLimit, derive},
    },
    error::{ErrorKind, Result},
    format::{Header, KeyslotInfo},
    sys::available,
};

/// How far the user goes to open a container.
#[derive(Debug, Clone, Copy, Default)]
pub struct Most {
    /// The most memory that a keyslot may take, in bytes.
    pub memory: Option<u64>,
    /// The longest time that a keyslot may take on this machine.
    pub time: Option<Duration>,
}

/// What a keyslot of this container may cost. This machine is measured where a keyslot is costly, or the user names a time.
///
/// # Errors
/// What measuring gave.
pub fn limits(most: Most, header: &dyn Header) -> Result<KdfLimits> {
    let usual = KdfLimits::default();
    let memory_kib = most.memory.map_or(usual.memory_kib, |bytes| bytes / 1024);
    let mut limits = KdfLimits { memory_kib, available_kib: available::memory() / 1024, ..usual };
    let keyslots = header.describe().keyslots;
    if most.time.is_some() || keyslots.iter().any(is_costly) {
        limits.work = measured(most.time.unwrap_or(USUAL_TIME), lanes(&keyslots))?;
    }
    if let Some(time) = most.time {
        limits.passes = u32::MAX;
        limits.iterations = limits.iterations.max(iterations_in(time, &keyslots)?);
    }
    Ok(limits)
}

/// Whether a keyslot is work that is worth a measurement.
pub fn is_costly(slot: &KeyslotInfo) -> bool {
    work(slot) > CHEAP_KIB
}

/// Which limit to raise, where a keyslot costs more than it may.
pub(super) fn advice(kind: ErrorKind, header: &dyn Header, limits: &KdfLimits) -> Option<Advice<'static>> {
    if kind != ErrorKind::Unsupported {
        return None;
    }
    let keyslots = header.describe().keyslots;
    let memory = limits.memory_kib.saturating_mul(1024);
    if keyslots.iter().any(|slot| slot.kdf.memory > Some(memory)) {
        return Some(Advice::AllowMemory);
    }
    let longest = keyslots.iter().map(work).max().unwrap_or_default();
    if longest > limits.work.kib {
        // A quarter more than was measured, in whole minutes.
        return Some(Advice::AllowMinutes(limits.work.seconds(longest).saturating_mul(5).div_ceil(4 * 60)));
    }
    let is_longer = |slot: &KeyslotInfo| slot.kdf.iterations > Some(limits.iterations);
    keyslots.iter().any(is_longer).then_some(Advice::AllowTime)
}

/// How long it may take: in what Argon2 fills here in that time.
fn measured(time: Duration, lanes: u32) -> Result<WorkLimit> {
    let probe = Argon2Cost { memory_kib: PROBE_KIB, passes: 1, lanes };
    let taken = timed(&KdfCost::Argon2id(probe))?;
    let kib_per_second =
        u64::try_from(u128::from(WorkLimit::of(&probe)) * NANOSECONDS / taken).unwrap_or(u64::MAX).max(1);
    Ok(WorkLimit { kib: kib_per_second.saturating_mul(time.as_secs()), kib_per_second })
}

/// The iterations of the costliest keyslot's hash that fit into a time.
fn iterations_in(time: Duration, keyslots: &[KeyslotInfo]) -> Result<u32> {
    let costliest = keyslots.iter().max_by_key(|slot| slot.kdf.iterations);
    let hash = costliest.and_then(|slot| HashKind::from_name(slot.kdf.name.strip_prefix("pbkdf2-")?));
    let Some(hash) = hash else { return Ok(0) };
    let taken = timed(&KdfCost::Pbkdf2 { hash, iterations: PROBE_ITERATIONS })?;
    let fit = u128::from(PROBE_ITERATIONS) * time.as_nanos() / taken;
    Ok(u32::try_from(fit).unwrap_or(u32::MAX))
}

/// In nanoseconds, at least one.
fn timed(cost: &KdfCost) -> Result<u128> {
    let start = Instant::now();
    derive(cost, b"measured", &[0; 32], 32)?;
    Ok(start.elapsed().as_nanos().max(1))
}

/// What Argon2 fills for a keyslot; nothing where it has another derivation.
pub fn work(slot: &KeyslotInfo) -> u64 {
    slot.kdf.argon2_cost().map_or(0, |cost| WorkLimit::of(&cost))
}

fn lanes(keyslots: &[KeyslotInfo]) -> u32 {
    let costliest = keyslots.iter().max_by_key(|slot| work(slot));
    costliest.and_then(|slot| slot.kdf.lanes).unwrap_or(1).clamp(1, 4)
}

/// What a keyslot may take where the user says nothing.
const USUAL_TIME: Duration = Duration::from_secs(5 * 60);
/// Work that is not worth a measurement, on any machine: 16 passes over 1 GiB.
const CHEAP_KIB: u64 = 16 << 20;
const PROBE_KIB: u32 = 64 << 10;
const PROBE_ITERATIONS: u32 = 20_000;
const NANOSECONDS: u128 = 1_000_000_000;
