//! What a key derivation may cost here: memory, and the time that it takes on this machine.

use std::time::{Duration, Instant};

use strongroom::{
    crypto::{
        hash::HashKind,
        kdf::{Argon2Cost, KdfCost, KdfLimits, WorkLimit, derive, show_seconds},
    },
    error::{Error, ErrorKind, Result},
    format::{Header, KeyslotInfo},
    sys::available,
};

use super::{args::UnlockOptions, cost::argon2_cost};

/// What a keyslot of this container may cost. This machine is measured where a keyslot is costly, or the user names a time.
///
/// # Errors
/// What measuring gave.
pub(crate) fn limits(options: &UnlockOptions, header: &dyn Header) -> Result<KdfLimits> {
    let usual = KdfLimits::default();
    let memory_kib = options.max_kdf_memory.map_or(usual.memory_kib, |bytes| bytes / 1024);
    let mut limits = KdfLimits { memory_kib, available_kib: available::memory() / 1024, ..usual };
    let keyslots = header.describe().keyslots;
    let asked_for = options.max_kdf_time;
    if asked_for.is_some() || keyslots.iter().any(|slot| work(slot) > CHEAP_KIB) {
        limits.work = measured(asked_for.unwrap_or(USUAL_TIME), lanes(&keyslots))?;
    }
    if let Some(time) = asked_for {
        limits.passes = u32::MAX;
        limits.iterations = limits.iterations.max(iterations_in(time, &keyslots)?);
    }
    Ok(limits)
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
fn work(slot: &KeyslotInfo) -> u64 {
    argon2_cost(&slot.kdf).map_or(0, |cost| WorkLimit::of(&cost))
}

fn lanes(keyslots: &[KeyslotInfo]) -> u32 {
    let costliest = keyslots.iter().max_by_key(|slot| work(slot));
    costliest.and_then(|slot| slot.kdf.lanes).unwrap_or(1).clamp(1, 4)
}

/// The way out where a keyslot costs more than it may.
pub(crate) fn advise(error: Error, header: &dyn Header, limits: &KdfLimits) -> Error {
    if error.kind() != ErrorKind::Unsupported {
        return error;
    }
    let keyslots = header.describe().keyslots;
    let limit = limits.memory_kib.saturating_mul(1024);
    if keyslots.iter().any(|slot| slot.kdf.memory > Some(limit)) {
        return error.with_hint("if you trust this container, raise the limit with --max-kdf-memory");
    }
    let longest = keyslots.iter().map(work).max().unwrap_or_default();
    if longest > limits.work.kib {
        // A quarter more than was measured, in whole minutes.
        let minutes = limits.work.seconds(longest).saturating_mul(5).div_ceil(4 * 60);
        return error
            .with_hint(format!("if you trust this container, wait for it: --max-kdf-time {minutes}m"));
    }
    if keyslots.iter().any(|slot| slot.kdf.iterations > Some(limits.iterations)) {
        return error.with_hint("if you trust this container, raise the limit with --max-kdf-time");
    }
    error
}

/// What is to be known of keyslots that take long, a line each.
///
/// # Errors
/// What measuring gave.
pub(crate) fn notes(options: &UnlockOptions, header: &dyn Header) -> Result<Vec<String>> {
    let keyslots = header.describe().keyslots;
    if keyslots.iter().all(|slot| work(slot) <= CHEAP_KIB) {
        return Ok(Vec::new());
    }
    let limits = limits(options, header)?;
    let has_memory = |slot: &&KeyslotInfo| slot.kdf.memory <= Some(limits.memory_kib.saturating_mul(1024));
    let note = |slot: &KeyslotInfo| {
        let (number, time) = (slot.slot, show_seconds(limits.work.seconds(work(slot))));
        let way = if work(slot) > limits.work.kib { ", and is tried only with --max-kdf-time" } else { "" };
        format!("keyslot {number} takes about {time} on this machine{way}")
    };
    Ok(keyslots.iter().filter(|slot| work(slot) > CHEAP_KIB).filter(has_memory).map(note).collect())
}

/// Reads a time: `90s`, `15m`, `2h`; a bare number is seconds.
pub(crate) fn parse_time(text: &str) -> std::result::Result<Duration, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor = match unit {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        _ => return Err("not a whole number with s, m or h, such as 15m".to_owned()),
    };
    let seconds = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(factor));
    match seconds {
        Some(seconds) if (1..=MOST_SECONDS).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        Some(_) => Err("must be from 1s to 8760h".to_owned()),
        None => Err("not a whole number with s, m or h, such as 15m".to_owned()),
    }
}

/// What a keyslot may take where the user says nothing.
const USUAL_TIME: Duration = Duration::from_secs(5 * 60);
/// Work that is not worth a measurement, on any machine: 16 passes over 1 GiB.
const CHEAP_KIB: u64 = 16 << 20;
const PROBE_KIB: u32 = 64 << 10;
const PROBE_ITERATIONS: u32 = 20_000;
const NANOSECONDS: u128 = 1_000_000_000;
/// A year.
const MOST_SECONDS: u64 = 8760 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_minutes_or_hours() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("15m", 900), ("15min", 900), ("2h", 7200)] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "m", "0", "1.5h", "-1s", "9000h", "99999999999999999999s", "3 m"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
