use std::time::{Duration, Instant};

/// How fast a re-encryption may go: a token bucket that holds a second's worth.
#[derive(Debug)]
pub struct Pace {
    /// Bytes a second; `None` for no limit.
    limit: Option<u64>,
    /// Bytes that were spent and not earned yet.
    debt: f64,
    last: Instant,
}

impl Pace {
    /// At most `limit` bytes a second, where there is a limit. 0 is taken for 1.
    pub fn new(limit: Option<u64>) -> Self {
        Self { limit: limit.map(|limit| limit.max(1)), debt: 0.0, last: Instant::now() }
    }

    /// Takes note of work done.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.debt += to_f64(bytes);
    }

    /// How long to sleep before the next look; `None` where work may go on. Never long, so that a wish to stop is heard.
    pub(super) fn wait(&mut self) -> Option<Duration> {
        let now = Instant::now();
        self.wait_at(now)
    }

    fn wait_at(&mut self, now: Instant) -> Option<Duration> {
        let limit = to_f64(self.limit?);
        let earned = now.saturating_duration_since(self.last).as_secs_f64() * limit;
        self.last = now;
        // What is not spent within a second is lost: after a pause it does not all come at once.
        self.debt = (self.debt - earned).max(-limit);
        (self.debt > 0.0).then(|| Duration::from_secs_f64(self.debt / limit).min(LONGEST_WAIT))
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
const fn to_f64(bytes: u64) -> f64 {
    bytes as f64
}

const LONGEST_WAIT: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_waits_until_its_bytes_are_earned() {
        let mut pace = Pace::new(Some(1000));
        let start = pace.last;
        pace.spend(1500);
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(pace.wait_at(start), Some(LONGEST_WAIT));
        assert_eq!(pace.wait_at(at(1450)).map(|wait| wait.as_millis()), Some(50));
        assert_eq!(pace.wait_at(at(1500)), None);
    }

    #[test]
    fn a_long_pause_earns_one_second_only() {
        let mut pace = Pace::new(Some(1000));
        let start = pace.last;
        assert_eq!(pace.wait_at(start + Duration::from_secs(60)), None);
        pace.spend(1100);
        assert_eq!(pace.wait_at(start + Duration::from_secs(60)).map(|wait| wait.as_millis()), Some(100));
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let mut pace = Pace::new(None);
        pace.spend(u64::MAX);
        assert_eq!(pace.wait(), None);
    }
}
