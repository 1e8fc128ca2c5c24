//! What is told of keyslots that take long, and how times are typed.

use std::time::Duration;

use strongroom::{
    crypto::kdf::show_seconds,
    error::Result,
    format::{Header, KeyslotInfo},
    unlock::limits::{is_costly, limits, work},
};

use super::args::UnlockOptions;

/// What is to be known of keyslots that take long, a line each.
///
/// # Errors
/// What measuring gave.
pub(crate) fn notes(options: &UnlockOptions, header: &dyn Header) -> Result<Vec<String>> {
    let keyslots = header.describe().keyslots;
    if !keyslots.iter().any(is_costly) {
        return Ok(Vec::new());
    }
    let limits = limits(options.most(), header)?;
    let has_memory = |slot: &&KeyslotInfo| slot.kdf.memory <= Some(limits.memory_kib.saturating_mul(1024));
    let note = |slot: &KeyslotInfo| {
        let (number, time) = (slot.slot, show_seconds(limits.work.seconds(work(slot))));
        let way = if work(slot) > limits.work.kib { ", and is tried only with --max-kdf-time" } else { "" };
        format!("keyslot {number} takes about {time} on this machine{way}")
    };
    Ok(keyslots.iter().filter(|slot| is_costly(slot)).filter(has_memory).map(note).collect())
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
