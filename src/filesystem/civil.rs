//! Dates and times of day as moments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The moment of a year, month, day, hour, minute and second on a clock that is `ahead` of UTC by so many seconds. `None` for what is no
/// time.
pub(super) fn moment(date: [u32; 6], ahead: i64, nanoseconds: u32) -> Option<SystemTime> {
    let [year, month, day, hour, minute, second] = date;
    let is_date = year <= MOST_YEARS && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days(year.into(), month.into(), day.into())?;
    let clock = i64::from(hour).checked_mul(3600)?.checked_add(i64::from(minute).checked_mul(60)?)?;
    let local = days.checked_mul(86_400)?.checked_add(clock)?.checked_add(second.into())?;
    let seconds = local.checked_sub(ahead)?;
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let whole = if seconds < 0 { UNIX_EPOCH.checked_sub(whole)? } else { UNIX_EPOCH.checked_add(whole)? };
    whole.checked_add(Duration::from_nanos(nanoseconds.min(999_999_999).into()))
}

/// Days from 1970 to a date (Howard Hinnant, *chrono-compatible low-level date algorithms*).
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month = month.checked_add(9)?.rem_euclid(12);
    let of_year = month.checked_mul(153)?.checked_add(2)?.div_euclid(5).checked_add(day)?.checked_sub(1)?;
    let leaps = of_era.div_euclid(4).checked_sub(of_era.div_euclid(100))?;
    let of_era = of_era.checked_mul(365)?.checked_add(leaps)?.checked_add(of_year)?;
    era.checked_mul(146_097)?.checked_add(of_era)?.checked_sub(719_468)
}

const MOST_YEARS: u32 = 9999;
