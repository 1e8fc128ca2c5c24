//! What opening a new keyslot shall cost.

use std::{
    thread::available_parallelism,
    time::{Duration, Instant},
};

use rustix::system::sysinfo;
use strongroom::{
    crypto::kdf::{Argon2Cost, argon2id, calibrate},
    error::{Error, ErrorKind, Result},
    format::KdfInfo,
};

use super::{args::CostOptions, info::counted, output::Console, progress::spin, size::show_size};

/// What the options ask for; what they leave open is measured, so that opening takes about a second here.
pub(crate) fn settle(console: Console, options: CostOptions) -> Result<Argon2Cost> {
    let lanes = options.lanes.unwrap_or_else(usual_lanes);
    if let (Some(memory_kib), Some(passes)) = (options.memory, options.passes) {
        return Ok(Argon2Cost { memory_kib, passes, lanes });
    }
    let most_memory = options.memory.unwrap_or_else(usual_memory);
    let measured = spin(console, "measuring this machine", || {
        calibrate(TARGET, most_memory, lanes, &mut |cost| {
            let start = Instant::now();
            argon2id(b"measured", &[0; 32], cost, 32)?;
            Ok(start.elapsed())
        })
    })?;
    Ok(adjust(measured, options, most_memory))
}

/// The same for a keyslot that takes the place of one with the costs `old`: never below those.
///
/// # Errors
/// `Usage` where the options ask for less.
pub(crate) fn settle_anew(console: Console, options: CostOptions, old: &KdfInfo) -> Result<Argon2Cost> {
    let cost = settle(console, options)?;
    let Some(old) = argon2_cost(old).filter(|old| is_below(&cost, old)) else { return Ok(cost) };
    if options.memory.is_none() && options.passes.is_none() {
        return Ok(old);
    }
    let reason = format!("the keyslot costs {} now, which is more than {}", show(&old), show(&cost));
    Err(Error::new(ErrorKind::Usage, reason).with_hint("leave out --kdf-memory and --kdf-passes"))
}

/// The costs that a keyslot names, where it has some.
pub(crate) fn argon2_cost(kdf: &KdfInfo) -> Option<Argon2Cost> {
    let memory_kib = u32::try_from(kdf.memory? / 1024).ok()?;
    Some(Argon2Cost { memory_kib, passes: kdf.passes?, lanes: kdf.lanes? })
}

/// Whether guessing is cheaper, in memory or in work.
fn is_below(cost: &Argon2Cost, old: &Argon2Cost) -> bool {
    let work = |cost: &Argon2Cost| u64::from(cost.memory_kib) * u64::from(cost.passes);
    cost.memory_kib < old.memory_kib || work(cost) < work(old)
}

/// The same work with what the options fix.
fn adjust(measured: Argon2Cost, options: CostOptions, most_memory: u32) -> Argon2Cost {
    let work = u64::from(measured.memory_kib) * u64::from(measured.passes);
    match (options.memory, options.passes) {
        (None, None) | (Some(_), Some(_)) => measured,
        (Some(memory_kib), None) => {
            let passes = (work / u64::from(memory_kib)).clamp(3, 64);
            Argon2Cost { memory_kib, passes: u32::try_from(passes).unwrap_or(3), ..measured }
        }
        (None, Some(passes)) => {
            let memory_kib = u32::try_from(work / u64::from(passes)).unwrap_or(u32::MAX) & !1023;
            let memory_kib = memory_kib.clamp(LEAST_MEMORY_KIB, most_memory.max(LEAST_MEMORY_KIB));
            Argon2Cost { memory_kib, passes, ..measured }
        }
    }
}

/// As many lanes as processors, and at most four: more help a thief more than the owner.
fn usual_lanes() -> u32 {
    available_parallelism()
        .ok()
        .and_then(|count| u32::try_from(count.get()).ok())
        .map_or(1, |count| count.min(4))
}

/// Half of the machine's memory, in KiB.
fn usual_memory() -> u32 {
    let system = sysinfo();
    let bytes = system.totalram.saturating_mul(system.mem_unit.into());
    u32::try_from(bytes / 2 / 1024).unwrap_or(u32::MAX)
}

/// The costs in words.
pub(crate) fn show(cost: &Argon2Cost) -> String {
    let memory = show_size(u64::from(cost.memory_kib) * 1024);
    let (passes, lanes) = (counted(cost.passes, "pass", "passes"), counted(cost.lanes, "lane", "lanes"));
    format!("{memory} of memory, {passes}, {lanes}")
}

/// How long opening shall take on the machine that makes the keyslot.
const TARGET: Duration = Duration::from_secs(1);
const LEAST_MEMORY_KIB: u32 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    const MEASURED: Argon2Cost = Argon2Cost { memory_kib: 1 << 20, passes: 4, lanes: 4 };
    const OPEN: CostOptions = CostOptions { memory: None, passes: None, lanes: None };

    #[test]
    fn less_memory_is_made_up_for_by_passes() {
        let options = CostOptions { memory: Some(256 << 10), ..OPEN };
        let expected = Argon2Cost { memory_kib: 256 << 10, passes: 16, lanes: 4 };
        assert_eq!(adjust(MEASURED, options, 256 << 10), expected);
    }

    #[test]
    fn more_passes_are_made_up_for_by_less_memory() {
        let options = CostOptions { passes: Some(16), ..OPEN };
        let expected = Argon2Cost { memory_kib: 256 << 10, passes: 16, lanes: 4 };
        assert_eq!(adjust(MEASURED, options, 1 << 20), expected);
    }

    #[test]
    fn memory_never_falls_below_the_least() {
        let options = CostOptions { passes: Some(64), ..OPEN };
        let slow = Argon2Cost { memory_kib: 64 << 10, passes: 3, lanes: 1 };
        assert_eq!(adjust(slow, options, 1 << 20).memory_kib, LEAST_MEMORY_KIB);
    }

    #[test]
    fn less_memory_or_less_work_is_below() {
        assert!(!is_below(&MEASURED, &MEASURED));
        assert!(is_below(&Argon2Cost { passes: 3, ..MEASURED }, &MEASURED));
        assert!(is_below(&Argon2Cost { memory_kib: 1 << 19, passes: 64, lanes: 4 }, &MEASURED));
        assert!(!is_below(&Argon2Cost { passes: 5, lanes: 1, ..MEASURED }, &MEASURED));
    }
}
