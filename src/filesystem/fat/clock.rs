//! Times on the medium. FAT's know no zone: they are taken for UTC, as the Linux kernel does where it was told none.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::units::civil_date;

/// A date and time as FAT and exFAT pack it, with hundredths of a second beyond the two seconds that it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stamp {
    pub(super) date: u16,
    pub(super) time: u16,
    pub(super) hundredths: u8,
}

impl Stamp {
    /// Of a moment; the nearest that can be said, of those outside 1980 to 2107.
    pub(super) fn of(moment: SystemTime) -> Self {
        let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since.as_secs().clamp(EPOCH_1980, LAST);
        let (days, second) = (seconds / DAY, seconds % DAY);
        let (year, month, day) = civil_date(days);
        let date = (year - 1980) << 9 | month << 5 | day;
        let time = (second / 3600) << 11 | (second / 60 % 60) << 5 | (second % 60 / 2);
        let hundredths = second % 2 * 100 + u64::from(since.subsec_millis()) / 10;
        Self {
            date: u16::try_from(date).unwrap_or(0x21),
            time: u16::try_from(time).unwrap_or_default(),
            hundredths: u8::try_from(hundredths).unwrap_or_default(),
        }
    }

    /// The moment, where the clock is so many seconds ahead of UTC. Fields that make no sense are brought into their bounds.
    pub(super) fn moment(self, ahead: i64) -> SystemTime {
        let (date, time) = (u64::from(self.date), u64::from(self.time));
        let year = 1980 + (date >> 9);
        let month = (date >> 5 & 0xf).clamp(1, 12);
        let day = (date & 0x1f).max(1);
        let second =
            (time >> 11).min(23) * 3600 + (time >> 5 & 0x3f).min(59) * 60 + (time & 0x1f).min(29) * 2;
        let seconds = days(year, month, day) * DAY + second;
        let seconds = i64::try_from(seconds).unwrap_or_default().saturating_sub(ahead);
        let moment = UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        moment + Duration::from_millis(u64::from(self.hundredths.min(199)) * 10)
    }
}

/// Days since 1970 of a date (Howard Hinnant, *chrono-compatible low-level date algorithms*).
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

const DAY: u64 = 86_400;
const EPOCH_1980: u64 = 315_532_800;
/// The last second of 2107.
const LAST: u64 = 4_354_819_199;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_what_other_programs_read() {
        // 2026-11-29 03:51:27.35 UTC.
        let moment = UNIX_EPOCH + Duration::from_millis(1_795_924_287_350);
        let stamp = Stamp::of(moment);
        assert_eq!((stamp.date >> 9, stamp.date >> 5 & 15, stamp.date & 31), (46, 11, 29));
        assert_eq!((stamp.time >> 11, stamp.time >> 5 & 63, stamp.time & 31), (3, 51, 13));
        assert_eq!(stamp.hundredths, 135);
        assert_eq!(stamp.moment(0), moment);
        assert_eq!(stamp.moment(3600), moment - Duration::from_secs(3600));
    }

    #[test]
    fn every_day_goes_there_and_back() {
        for day in (3652..50_000).step_by(7) {
            let moment = UNIX_EPOCH + Duration::from_secs(day * DAY + 86_398);
            assert_eq!(Stamp::of(moment).moment(0), moment);
        }
        assert_eq!(Stamp::of(UNIX_EPOCH).moment(0), UNIX_EPOCH + Duration::from_secs(EPOCH_1980));
        let _any_bytes = Stamp { date: u16::MAX, time: u16::MAX, hundredths: u8::MAX }.moment(-86_400);
    }
}
