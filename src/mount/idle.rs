//! When a volume was last in use, for one that closes itself.
//!
//! In use is what somebody holds (open files, working directories, mounts, loop devices), what is lent or re-encrypted, and what
//! programs have opened, read or written since the last look. What the kernel does by itself does not count, so each driver has
//! its own sign of use: see [`Sign`].

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::{export::Uses, sys::file_uses::FileUses};

/// What tells that programs used a volume.
#[derive(Debug)]
pub(super) enum Sign {
    /// What they ask of a file system that is served here, or of the block file.
    Asked(Uses),
    /// What the kernel tells of the files of one that it mounted.
    Told(FileUses),
}

impl Sign {
    /// A number that changes with each use, but for [`Sign::Told`], which tells since the last call.
    fn look(&self, seen: u64) -> u64 {
        match self {
            Self::Asked(uses) => uses.count(),
            Self::Told(uses) => seen.wrapping_add(u64::from(uses.have_been())),
        }
    }
}

/// Looks now and then whether a volume is in use.
#[derive(Debug)]
pub(super) struct Idle {
    limit: Duration,
    sign: Sign,
    seen: u64,
    /// When programs last used it, and when it was last seen to be used or held; by the clock that goes on in suspend.
    used: Duration,
    busy: Duration,
    next: Duration,
    /// Who was said to hold it.
    told: Option<String>,
}

impl Idle {
    /// Begins now.
    pub(super) fn begin(limit: Duration, sign: Sign) -> Self {
        let now = now();
        let mut idle = Self { limit, sign, seen: 0, used: now, busy: now, next: Duration::ZERO, told: None };
        idle.seen = idle.sign.look(0);
        idle.plan(now);
        idle
    }

    /// Whether it is time for a look.
    pub(super) fn is_due(&self) -> bool {
        now() >= self.next
    }

    /// How long until then.
    pub(super) fn wait(&self) -> Duration {
        self.next.saturating_sub(now()).max(LEAST)
    }

    pub(super) const fn limit(&self) -> Duration {
        self.limit
    }

    /// Looks for signs of use, and, where there are none, has `find` look for holders.
    pub(super) fn look(&mut self, find: impl FnOnce() -> Option<String>) -> Found {
        let work = self.sign.look(self.seen);
        let is_used = work != self.seen;
        let holder = if is_used { None } else { find() };
        // What our own look had others do is no use.
        self.seen = self.sign.look(work);
        self.judge(now(), is_used, holder)
    }

    /// Whether programs have used it since the last look. Its time begins anew then.
    pub(super) fn was_used(&mut self) -> bool {
        let work = self.sign.look(self.seen);
        let is_used = std::mem::replace(&mut self.seen, work) != work;
        if is_used {
            self.judge(now(), true, None);
        }
        is_used
    }

    /// Takes what was done since the last look for our own work.
    pub(super) fn pass_over(&mut self) {
        self.seen = self.sign.look(self.seen);
    }

    fn judge(&mut self, now: Duration, is_used: bool, holder: Option<String>) -> Found {
        if is_used {
            self.used = now;
            self.told = None;
        }
        if is_used || holder.is_some() {
            self.busy = now;
        }
        self.plan(now);
        match holder {
            // Said once, and again where somebody else does.
            Some(holder)
                if now.saturating_sub(self.used) >= self.limit && self.told.as_ref() != Some(&holder) =>
            {
                self.told = Some(holder.clone());
                Found::Held(holder)
            }
            None if now.saturating_sub(self.busy) >= self.limit => Found::Idle,
            _ => Found::Used,
        }
    }

    /// It could not be closed: it is tried again when it has been idle for so long once more. Says whether `why` is news.
    pub(super) fn postpone(&mut self, why: &str) -> bool {
        let now = now();
        self.busy = now;
        self.plan(now);
        self.told.replace(why.to_owned()).as_deref() != Some(why)
    }

    fn plan(&mut self, now: Duration) {
        let end = self.busy.saturating_add(self.limit);
        let tick = (self.limit / 4).min(LONGEST);
        let next = now.saturating_add(tick);
        self.next = if end > now { next.min(end) } else { next };
    }
}

/// What a look found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is in use, or was not long ago.
    Used,
    /// It would be closed but for somebody who holds it: who, for the first time.
    Held(String),
    /// It can be closed.
    Idle,
}

/// The time since the machine started, with what it slept.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or_default(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}

/// No look waits longer: a program that opens a file between two looks and closes it shows by other signs.
const LONGEST: Duration = Duration::from_secs(60);
const LEAST: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn second(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn idle() -> Idle {
        Idle {
            limit: second(100),
            sign: Sign::Asked(Uses::default()),
            seen: 0,
            used: second(0),
            busy: second(0),
            next: second(0),
            told: None,
        }
    }

    #[test]
    fn a_volume_is_idle_once_nobody_has_used_or_held_it_for_so_long() {
        let mut idle = idle();
        let holder = || Some("process 1 (sh)".to_owned());
        assert_eq!(idle.judge(second(99), false, None), Found::Used);
        assert_eq!(idle.judge(second(100), true, None), Found::Used);
        assert_eq!(idle.judge(second(199), false, holder()), Found::Used);
        assert_eq!(idle.judge(second(298), false, None), Found::Used);
        assert_eq!(idle.judge(second(299), false, None), Found::Idle);
    }

    #[test]
    fn who_holds_an_idle_volume_is_named_once() {
        let mut idle = idle();
        let (one, other) = (|| Some("process 1 (sh)".to_owned()), || Some("process 2 (vi)".to_owned()));
        assert_eq!(idle.judge(second(100), false, one()), Found::Held("process 1 (sh)".to_owned()));
        assert_eq!(idle.judge(second(125), false, one()), Found::Used);
        assert_eq!(idle.judge(second(150), false, other()), Found::Held("process 2 (vi)".to_owned()));
        assert_eq!(idle.judge(second(249), false, None), Found::Used);
        assert_eq!(idle.judge(second(250), false, None), Found::Idle);
        assert_eq!(idle.judge(second(260), true, None), Found::Used);
        assert_eq!(idle.judge(second(360), false, other()), Found::Held("process 2 (vi)".to_owned()));
    }

    #[test]
    fn the_next_look_is_soon_enough() {
        let mut idle = idle();
        idle.judge(second(10), true, None);
        assert_eq!(idle.next, second(35));
        idle.judge(second(90), false, None);
        assert_eq!(idle.next, second(110));
        let mut long = Idle { limit: second(3600), ..self::idle() };
        long.judge(second(10), true, None);
        assert_eq!(long.next, second(70));
    }
}
