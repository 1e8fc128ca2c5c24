//! What opening a new keyslot shall cost.

use std::{
    thread::available_parallelism,
    time::{Duration, Instant},
};

use strongroom::{
    crypto::kdf::{Argon2Cost, KdfCost, KdfKind, calibrate, calibrate_iterations, derive},
    error::{Error, ErrorKind, Result},
    format::{KdfBounds, KdfInfo},
    sys::available,
};

use super::{args::CostOptions, info::counted, output::Console, progress::spin, size::show_size};

/// Refuses options that a format's keyslots do not take, before anything is asked for.
///
/// # Errors
/// `Usage`.
pub(crate) fn check(options: CostOptions, bounds: Option<&KdfBounds>) -> Result<()> {
    let Some(bounds) = bounds else {
        if options == CostOptions::default() {
            return Ok(());
        }
        return Err(usage("this format fixes the cost of its keyslots"));
    };
    let kind = kind(options, bounds)?;
    if let Some(hash) = options.hash
        && !bounds.takes_hash
        && hash != bounds.hash
    {
        return Err(usage(format!("its keyslots take no other hash than {}", bounds.hash.name())));
    }
    let is_pbkdf2 = kind == KdfKind::Pbkdf2;
    if is_pbkdf2 && (options.memory.is_some() || options.passes.is_some() || options.lanes.is_some()) {
        return Err(usage("pbkdf2 has no memory, passes or lanes to set")
            .with_hint("--kdf-iterations sets what it costs"));
    }
    if !is_pbkdf2 && options.iterations.is_some() {
        return Err(usage(format!("{} has no iterations", kind.name()))
            .with_hint("--kdf-memory and --kdf-passes set what it costs"));
    }
    let (least, most) = bounds.memory_kib;
    if options.memory.is_some_and(|memory| !(least..=most).contains(&memory)) {
        let show = |kib: u32| show_size(u64::from(kib) * 1024);
        return Err(usage(format!("--kdf-memory must be from {} to {}", show(least), show(most))));
    }
    for (name, value, (least, most)) in [
        ("--kdf-passes", options.passes, bounds.passes),
        ("--kdf-lanes", options.lanes, bounds.lanes),
        ("--kdf-iterations", options.iterations, bounds.iterations),
    ] {
        if value.is_some_and(|value| !(least..=most).contains(&value)) {
            return Err(usage(format!("{name} must be from {least} to {most}")));
        }
    }
    Ok(())
}

/// What the options ask for; what they leave open is measured, so that opening takes about a second here.
///
/// # Errors
/// As [`check`].
pub(crate) fn settle(console: Console, options: CostOptions, bounds: &KdfBounds) -> Result<KdfCost> {
    check(options, Some(bounds))?;
    let argon2: fn(Argon2Cost) -> KdfCost = match kind(options, bounds)? {
        KdfKind::Pbkdf2 => return settle_pbkdf2(console, options, bounds),
        KdfKind::Argon2i => KdfCost::Argon2i,
        KdfKind::Argon2id => KdfCost::Argon2id,
    };
    let lanes = options.lanes.unwrap_or_else(|| usual_lanes().min(bounds.lanes.1));
    check_memory(options.memory.unwrap_or(LEAST_MEMORY_KIB))?;
    if let (Some(memory_kib), Some(passes)) = (options.memory, options.passes) {
        return Ok(argon2(Argon2Cost { memory_kib, passes, lanes }));
    }
    let most_memory = options.memory.unwrap_or_else(most_memory);
    let measured = spin(console, "measuring this machine", || {
        calibrate(TARGET, most_memory, bounds.passes.0, lanes, &mut |cost| time(&argon2(*cost), 32))
    })?;
    Ok(argon2(adjust(measured, options, most_memory, bounds)))
}

fn settle_pbkdf2(console: Console, options: CostOptions, bounds: &KdfBounds) -> Result<KdfCost> {
    let hash = options.hash.unwrap_or(bounds.hash);
    let cost = |iterations| KdfCost::Pbkdf2 { hash, iterations };
    if let Some(iterations) = options.iterations {
        return Ok(cost(iterations));
    }
    let measured = spin(console, "measuring this machine", || {
        calibrate_iterations(TARGET, bounds.iterations.0, &mut |iterations| {
            time(&cost(iterations), bounds.key_len)
        })
    })?;
    Ok(cost(measured))
}

fn time(cost: &KdfCost, key_len: usize) -> Result<Duration> {
    let start = Instant::now();
    derive(cost, b"measured", &[0; 32], key_len)?;
    Ok(start.elapsed())
}

/// The derivation that is asked for, or else the format's usual one.
fn kind(options: CostOptions, bounds: &KdfBounds) -> Result<KdfKind> {
    let takes = |kind: &KdfKind| bounds.kinds.contains(kind);
    match (options.kind, bounds.kinds.first()) {
        (Some(kind), _) if !takes(&kind) => {
            let names: Vec<_> = bounds.kinds.iter().map(|kind| kind.name()).collect();
            Err(usage(format!("its keyslots take {}, not {}", names.join(", "), kind.name())))
        }
        (Some(kind), _) | (None, Some(&kind)) => Ok(kind),
        (None, None) => Err(usage("its keyslots take no password")),
    }
}

/// The same for a keyslot that takes the place of one with the costs `old`: never below those.
///
/// # Errors
/// `Usage` where the options ask for less.
pub(crate) fn settle_anew(
    console: Console,
    options: CostOptions,
    bounds: &KdfBounds,
    old: &KdfInfo,
) -> Result<KdfCost> {
    let cost = settle(console, options, bounds)?;
    let Some(old) = same_kind(old, cost).filter(|old| is_below(&cost, old)) else { return Ok(cost) };
    if options.memory.is_none() && options.passes.is_none() && options.iterations.is_none() {
        return Ok(old);
    }
    let reason = format!("the keyslot costs {} now, which is more than {}", show(&old), show(&cost));
    Err(usage(reason).with_hint(match cost {
        KdfCost::Pbkdf2 { .. } => "leave out --kdf-iterations",
        KdfCost::Argon2id(_) | KdfCost::Argon2i(_) => "leave out --kdf-memory and --kdf-passes",
    }))
}

/// What a keyslot costs now, where its derivation is that of `new`.
fn same_kind(old: &KdfInfo, new: KdfCost) -> Option<KdfCost> {
    match new {
        KdfCost::Argon2id(_) if old.name == "argon2id" => old.argon2_cost().map(KdfCost::Argon2id),
        KdfCost::Argon2i(_) if old.name == "argon2i" => old.argon2_cost().map(KdfCost::Argon2i),
        KdfCost::Pbkdf2 { hash, .. } if old.name.strip_prefix("pbkdf2-") == Some(hash.name()) => {
            Some(KdfCost::Pbkdf2 { hash, iterations: old.iterations? })
        }
        _ => None,
    }
}

/// Whether guessing is cheaper, in memory or in work.
fn is_below(cost: &KdfCost, old: &KdfCost) -> bool {
    let work = |cost: &Argon2Cost| u64::from(cost.memory_kib) * u64::from(cost.passes);
    match (cost, old) {
        (KdfCost::Argon2id(cost), KdfCost::Argon2id(old))
        | (KdfCost::Argon2i(cost), KdfCost::Argon2i(old)) => {
            cost.memory_kib < old.memory_kib || work(cost) < work(old)
        }
        (KdfCost::Pbkdf2 { iterations, .. }, KdfCost::Pbkdf2 { iterations: old, .. }) => iterations < old,
        _ => false,
    }
}

/// The same work with what the options fix.
fn adjust(measured: Argon2Cost, options: CostOptions, most_memory: u32, bounds: &KdfBounds) -> Argon2Cost {
    let work = u64::from(measured.memory_kib) * u64::from(measured.passes);
    match (options.memory, options.passes) {
        (None, None) | (Some(_), Some(_)) => measured,
        (Some(memory_kib), None) => {
            let (least, most) = bounds.passes;
            let passes = u32::try_from(work / u64::from(memory_kib)).unwrap_or(most);
            Argon2Cost { memory_kib, passes: passes.clamp(least, most), ..measured }
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

/// Half of the memory that this process may have, in KiB, and no more than what is free now.
fn most_memory() -> u32 {
    let most = (available::whole_memory() / 2).min(available::memory());
    u32::try_from(most / 1024).unwrap_or(u32::MAX)
}

/// Refuses a derivation for which there is no memory now: the kernel would end the process, not the derivation.
fn check_memory(memory_kib: u32) -> Result<()> {
    let (needed, free) = (u64::from(memory_kib), available::memory() / 1024);
    if needed <= free {
        return Ok(());
    }
    let reason = format!("a new keyslot needs {} MiB of memory, {} MiB are free", needed >> 10, free >> 10);
    let hint = if memory_kib > LEAST_MEMORY_KIB {
        "--kdf-memory sets what it needs"
    } else {
        "close other programs, or raise the limit"
    };
    Err(Error::new(ErrorKind::OutOfMemory, reason).with_hint(hint))
}

/// The costs in words.
pub(crate) fn show(cost: &KdfCost) -> String {
    match cost {
        KdfCost::Argon2id(cost) => show_argon2(cost),
        KdfCost::Argon2i(cost) => format!("{} (argon2i)", show_argon2(cost)),
        KdfCost::Pbkdf2 { hash, iterations } => {
            format!("{} of pbkdf2-{}", counted(*iterations, "iteration", "iterations"), hash.name())
        }
    }
}

fn show_argon2(cost: &Argon2Cost) -> String {
    let memory = show_size(u64::from(cost.memory_kib) * 1024);
    let (passes, lanes) = (counted(cost.passes, "pass", "passes"), counted(cost.lanes, "lane", "lanes"));
    format!("{memory} of memory, {passes}, {lanes}")
}

fn usage(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, reason)
}

/// How long opening shall take on the machine that makes the keyslot.
const TARGET: Duration = Duration::from_secs(1);
const LEAST_MEMORY_KIB: u32 = 64 << 10;

#[cfg(test)]
mod tests {
    use strongroom::crypto::hash::HashKind;

    use super::*;

    const MEASURED: Argon2Cost = Argon2Cost { memory_kib: 1 << 20, passes: 4, lanes: 4 };

    fn bounds() -> KdfBounds {
        KdfBounds {
            kinds: &[KdfKind::Argon2id, KdfKind::Pbkdf2],
            hash: HashKind::Sha256,
            takes_hash: false,
            key_len: 64,
            memory_kib: (64 << 10, 4 << 20),
            passes: (3, 64),
            lanes: (1, 16),
            iterations: (1000, 1 << 28),
        }
    }

    fn adjusted(options: CostOptions, measured: Argon2Cost, most_memory: u32) -> Argon2Cost {
        adjust(measured, options, most_memory, &bounds())
    }

    #[test]
    fn less_memory_is_made_up_for_by_passes() {
        let options = CostOptions { memory: Some(256 << 10), ..CostOptions::default() };
        let expected = Argon2Cost { memory_kib: 256 << 10, passes: 16, lanes: 4 };
        assert_eq!(adjusted(options, MEASURED, 256 << 10), expected);
    }

    #[test]
    fn more_passes_are_made_up_for_by_less_memory() {
        let options = CostOptions { passes: Some(16), ..CostOptions::default() };
        let expected = Argon2Cost { memory_kib: 256 << 10, passes: 16, lanes: 4 };
        assert_eq!(adjusted(options, MEASURED, 1 << 20), expected);
    }

    #[test]
    fn memory_never_falls_below_the_least() {
        let options = CostOptions { passes: Some(64), ..CostOptions::default() };
        let slow = Argon2Cost { memory_kib: 64 << 10, passes: 3, lanes: 1 };
        assert_eq!(adjusted(options, slow, 1 << 20).memory_kib, LEAST_MEMORY_KIB);
    }

    #[test]
    fn less_memory_or_less_work_is_below() {
        let is_below = |cost: Argon2Cost| is_below(&cost.into(), &MEASURED.into());
        assert!(!is_below(MEASURED));
        assert!(is_below(Argon2Cost { passes: 3, ..MEASURED }));
        assert!(is_below(Argon2Cost { memory_kib: 1 << 19, passes: 64, lanes: 4 }));
        assert!(!is_below(Argon2Cost { passes: 5, lanes: 1, ..MEASURED }));
    }

    #[test]
    fn options_that_the_derivation_does_not_have_are_refused() {
        let is_refused =
            |options| check(options, Some(&bounds())).is_err_and(|it| it.kind() == ErrorKind::Usage);
        let open = CostOptions::default();
        assert!(!is_refused(open));
        assert!(is_refused(CostOptions { iterations: Some(5000), ..open }));
        let pbkdf2 = CostOptions { kind: Some(KdfKind::Pbkdf2), ..open };
        assert!(!is_refused(CostOptions { iterations: Some(5000), ..pbkdf2 }));
        assert!(is_refused(CostOptions { iterations: Some(999), ..pbkdf2 }));
        assert!(is_refused(CostOptions { memory: Some(64 << 10), ..pbkdf2 }));
        assert!(is_refused(CostOptions { kind: Some(KdfKind::Argon2i), ..open }));
        assert!(is_refused(CostOptions { memory: Some(32), ..open }));
        assert!(is_refused(CostOptions { passes: Some(2), ..open }));
        assert!(is_refused(CostOptions { hash: Some(HashKind::Sha512), ..open }));
        assert!(check(CostOptions { passes: Some(4), ..open }, None).is_err());
    }
}
