//! Finding the cost that takes a given time on this machine.

use std::time::Duration;

use super::{Argon2Cost, KdfLimits};
use crate::{Error, ErrorKind};

/// Finds the cost at which Argon2id takes about `target`: memory first, up to `max_memory_kib` and 1 GiB, then passes.
///
/// Never under 64 MiB and `least_passes`, however slow the machine and however small `max_memory_kib`. The clock is the
/// caller's: `measure` runs a cost and says how long it took. It runs twice at most, first at the least cost, then near the
/// target.
///
/// # Errors
/// What `measure` returns; [`ErrorKind::Usage`] for a number of lanes outside [`KdfLimits::default`].
pub fn calibrate(
    target: Duration,
    max_memory_kib: u32,
    least_passes: u32,
    lanes: u32,
    measure: &mut dyn FnMut(&Argon2Cost) -> crate::Result<Duration>,
) -> crate::Result<Argon2Cost> {
    let least = Argon2Cost { memory_kib: LEAST_MEMORY_KIB, passes: least_passes, lanes };
    KdfLimits::default().check(&least).map_err(|error| Error::caused_by(ErrorKind::Usage, error))?;
    let most_memory = whole_mib(max_memory_kib.into()).clamp(LEAST_MEMORY_KIB, MOST_MEMORY_KIB);

    let guess = scale(&least, measure(&least)?, target, most_memory, least_passes);
    // A small cost runs partly in cache, so its rate promises too much: measure again where the answer lies.
    let probe = Argon2Cost { passes: least_passes, ..guess };
    if probe == least {
        return Ok(guess);
    }
    Ok(scale(&probe, measure(&probe)?, target, most_memory, least_passes))
}

/// The cost of `target`, given that `measured` took `elapsed`: time grows with memory times passes.
fn scale(
    measured: &Argon2Cost,
    elapsed: Duration,
    target: Duration,
    most_memory: u32,
    least_passes: u32,
) -> Argon2Cost {
    let work = u128::from(measured.memory_kib) * u128::from(measured.passes);
    let affordable = work.saturating_mul(target.as_nanos()) / elapsed.as_nanos().max(1);
    let memory = affordable / u128::from(least_passes);
    if memory <= u128::from(most_memory) {
        let memory_kib = whole_mib(memory).max(LEAST_MEMORY_KIB);
        return Argon2Cost { memory_kib, passes: least_passes, ..*measured };
    }
    let passes = u32::try_from(affordable / u128::from(most_memory)).unwrap_or(u32::MAX);
    let passes = passes.clamp(least_passes, KdfLimits::default().passes);
    Argon2Cost { memory_kib: most_memory, passes, ..*measured }
}

/// Finds the iterations at which PBKDF2 takes about `target`. Never under `least`, never above what
/// [`KdfLimits::default`] opens again.
///
/// `measure` runs so many iterations and says how long they took; it runs until a run is long enough to tell.
///
/// # Errors
/// What `measure` returns.
pub fn calibrate_iterations(
    target: Duration,
    least: u32,
    measure: &mut dyn FnMut(u32) -> crate::Result<Duration>,
) -> crate::Result<u32> {
    let most = KdfLimits::default().iterations;
    let mut tried = least.max(LEAST_ITERATIONS).min(most);
    loop {
        let elapsed = measure(tried)?;
        if elapsed < target / 16 && tried < most {
            tried = tried.saturating_mul(4).min(most);
            continue;
        }
        let affordable = u128::from(tried).saturating_mul(target.as_nanos()) / elapsed.as_nanos().max(1);
        return Ok(u32::try_from(affordable).unwrap_or(u32::MAX).clamp(least, most));
    }
}

/// Rounds KiB down to whole MiB, at most what a `u32` holds.
fn whole_mib(kib: u128) -> u32 {
    u32::try_from(kib).unwrap_or(u32::MAX) & !1023
}

const LEAST_MEMORY_KIB: u32 = 64 << 10;
const MOST_MEMORY_KIB: u32 = 1 << 20;
/// What is measured first: a few milliseconds on any machine.
const LEAST_ITERATIONS: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NO_CAP: u32 = u32::MAX;

    /// Calibrates on a machine that fills `kib_per_ms`; returns the cost and all the time measured.
    fn on_machine(kib_per_ms: u64, max_memory_kib: u32) -> (Argon2Cost, Duration) {
        let mut spent = Duration::ZERO;
        let mut clock = |cost: &Argon2Cost| {
            let work = u64::from(cost.memory_kib) * u64::from(cost.passes);
            let elapsed = Duration::from_micros(work * 1000 / kib_per_ms);
            spent += elapsed;
            Ok(elapsed)
        };
        let cost = calibrate(SECOND, max_memory_kib, 3, 4, &mut clock).unwrap();
        (cost, spent)
    }

    #[test]
    fn a_slow_machine_gets_the_least_cost() {
        let (cost, _) = on_machine(10, NO_CAP);
        assert_eq!(cost, Argon2Cost { memory_kib: 64 << 10, passes: 3, lanes: 4 });
    }

    #[test]
    fn a_middling_machine_gets_memory_and_three_passes() {
        let (cost, spent) = on_machine(3 * 512, NO_CAP);
        assert_eq!(cost, Argon2Cost { memory_kib: 500 << 10, passes: 3, lanes: 4 });
        assert!(spent < 2 * SECOND, "{spent:?}");
    }

    #[test]
    fn a_fast_machine_gets_all_memory_and_more_passes() {
        let (cost, spent) = on_machine(12 << 10, NO_CAP);
        assert_eq!(cost, Argon2Cost { memory_kib: 1 << 20, passes: 11, lanes: 4 });
        assert!(spent < 2 * SECOND, "{spent:?}");
    }

    #[test]
    fn memory_stays_under_the_cap_and_passes_take_the_rest() {
        let (cost, spent) = on_machine(3 * 512, 256 << 10);
        assert_eq!(cost, Argon2Cost { memory_kib: 256 << 10, passes: 5, lanes: 4 });
        assert!(spent < 2 * SECOND, "{spent:?}");
    }

    #[test]
    fn a_cap_below_the_least_memory_does_not_lower_it() {
        assert_eq!(on_machine(3 * 512, 1024).0.memory_kib, 64 << 10);
    }

    #[test]
    fn a_clock_that_stands_still_ends_at_the_limits() {
        let cost = calibrate(SECOND, NO_CAP, 3, 1, &mut |_| Ok(Duration::ZERO)).unwrap();
        assert_eq!(cost, Argon2Cost { memory_kib: 1 << 20, passes: 64, lanes: 1 });
    }

    #[test]
    fn a_probe_that_promised_too_much_is_corrected() {
        // 64 MiB in 10 ms; anything larger at a third of that rate.
        let mut clock = |cost: &Argon2Cost| {
            let least = u64::from(cost.memory_kib) * u64::from(cost.passes) / (3 * 65536);
            Ok(Duration::from_millis(if least == 1 { 100 } else { 300 * least / 2 }))
        };
        let cost = calibrate(SECOND, NO_CAP, 3, 1, &mut clock).unwrap();
        assert_eq!(cost.passes, 3);
        assert!((400 << 10..450 << 10).contains(&cost.memory_kib), "{cost:?}");
    }

    #[test]
    fn passes_are_never_fewer_than_the_least() {
        let mut clock = |_: &Argon2Cost| Ok(60 * SECOND);
        let cost = calibrate(SECOND, NO_CAP, 4, 1, &mut clock).unwrap();
        assert_eq!(cost, Argon2Cost { memory_kib: 64 << 10, passes: 4, lanes: 1 });
    }

    #[test]
    fn iterations_fill_the_time_between_their_bounds() {
        let on_machine = |a_second: u64| {
            let mut clock =
                |count: u32| Ok(Duration::from_nanos(u64::from(count) * 1_000_000_000 / a_second));
            calibrate_iterations(SECOND, 1000, &mut clock).unwrap()
        };
        let usual = on_machine(2_000_000);
        assert!((1_999_000..=2_001_000).contains(&usual), "{usual}");
        assert_eq!(on_machine(10), 1000);
        assert_eq!(on_machine(1 << 40), 1 << 28);
    }

    #[test]
    fn lanes_outside_the_limits_are_refused() {
        let refused = calibrate(SECOND, NO_CAP, 3, 0, &mut |_| Ok(SECOND)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Usage);
    }

    #[test]
    fn a_failing_measurement_is_the_callers_error() {
        let failed =
            calibrate(SECOND, NO_CAP, 3, 1, &mut |_| Err(Error::new(ErrorKind::OutOfMemory, "none")));
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::OutOfMemory);
    }
}
