//! Times of records: local, with their distance from UTC in quarters of an hour.

use std::time::SystemTime;

use super::super::{bytes::u8_at, civil::moment};

/// Seven bytes (ECMA-119, 9.1.5). `None` where they tell none.
pub(super) fn short(bytes: [u8; 7]) -> Option<SystemTime> {
    let [year, month, day, hour, minute, second, zone] = bytes;
    let year = 1900_u32.saturating_add(year.into());
    moment([year, month.into(), day.into(), hour.into(), minute.into(), second.into()], ahead(zone), 0)
}

/// Seventeen bytes, most of them digits (ECMA-119, 8.4.26.1).
pub(super) fn long(bytes: &[u8]) -> Option<SystemTime> {
    let number = |from: usize, len: usize| {
        let digits = bytes.get(from..from.checked_add(len)?)?;
        str::from_utf8(digits).ok()?.parse::<u32>().ok()
    };
    let date = [number(0, 4)?, number(4, 2)?, number(6, 2)?, number(8, 2)?, number(10, 2)?, number(12, 2)?];
    moment(date, ahead(u8_at(bytes, 16)), number(14, 2)?.saturating_mul(10_000_000))
}

/// In seconds.
fn ahead(zone: u8) -> i64 {
    i64::from(i8::from_le_bytes([zone])).saturating_mul(900)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn seconds(time: Option<SystemTime>) -> u64 {
        time.unwrap().duration_since(UNIX_EPOCH).unwrap().as_secs()
    }

    #[test]
    fn a_time_is_told_from_utc() {
        assert_eq!(seconds(short([126, 11, 30, 7, 15, 0, 0])), 1_796_022_900);
        assert_eq!(seconds(short([126, 11, 30, 7, 15, 0, 4])), 1_796_022_900 - 3600);
        assert_eq!(seconds(short([126, 11, 30, 7, 15, 0, 0xfc])), 1_796_022_900 + 3600);
        assert_eq!(seconds(long(b"2026113007150050\x04")), 1_796_022_900 - 3600);
        let before = short([60, 1, 1, 0, 0, 0, 0]).unwrap();
        assert_eq!(UNIX_EPOCH.duration_since(before).unwrap().as_secs(), 315_619_200);
    }

    #[test]
    fn what_is_no_time_tells_none() {
        assert!(short([0; 7]).is_none() && short([126, 13, 1, 0, 0, 0, 0]).is_none());
        assert!(long(b"0000000000000000\x00").is_none() && long(b"2026").is_none());
    }
}
