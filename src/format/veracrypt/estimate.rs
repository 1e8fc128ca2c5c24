//! How long the rest of a trial takes: measured while it runs, and better known the more functions have run.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::time::Duration;

use super::prf::{Cost, Prf};

/// The work of a trial, task by task, and how fast each function has turned out to be. Times count from the trial's start.
#[derive(Debug)]
pub(super) struct Estimate {
    work: Vec<Work>,
    /// In the order of [`Prf::ALL`].
    speeds: [Speed; Prf::ALL.len()],
    threads: u32,
}

/// What is left of a task.
#[derive(Debug)]
struct Work {
    prf: Prf,
    /// Iterations; of Argon2id, passes over a KiB.
    units: f64,
    /// Until when its time was counted, while it runs.
    counted: Option<Duration>,
}

/// What a function has done, and in how long.
#[derive(Debug, Clone, Copy, Default)]
struct Speed {
    units: f64,
    seconds: f64,
}

impl Estimate {
    /// Of tasks that so many threads take from the front.
    pub(super) fn new(tasks: impl Iterator<Item = (Prf, Cost)>, threads: usize) -> Self {
        let work = tasks.map(|(prf, cost)| Work { prf, units: units(cost), counted: None }).collect();
        let threads = u32::try_from(threads).unwrap_or(u32::MAX).max(1);
        Self { work, speeds: [Speed::default(); Prf::ALL.len()], threads }
    }

    /// A task begins.
    pub(super) fn begin(&mut self, task: usize, now: Duration) {
        if let Some(work) = self.work.get_mut(task) {
            work.counted = Some(now);
        }
    }

    /// So many iterations of a task are done since this was last told.
    pub(super) fn advance(&mut self, task: usize, iterations: u32, now: Duration) {
        let Some(work) = self.work.get_mut(task) else { return };
        let units = f64::from(iterations).min(work.units);
        work.units -= units;
        if let (Some(since), Some(speed)) = (work.counted.replace(now), speed_of(&mut self.speeds, work.prf))
        {
            speed.units += units;
            speed.seconds += now.saturating_sub(since).as_secs_f64();
        }
    }

    /// A task has ended.
    pub(super) fn end(&mut self, task: usize, now: Duration) {
        self.advance(task, u32::MAX, now);
        if let Some(work) = self.work.get_mut(task) {
            // What passes 32 bits is done too.
            *work = Work { prf: work.prf, units: 0.0, counted: None };
        }
    }

    /// How long it still takes where nothing opens. `None` while nothing was measured, or where that passes all bounds.
    ///
    /// A function that has not run yet is taken to be as much slower than the others as it usually is.
    pub(super) fn left(&self, now: Duration) -> Option<Duration> {
        let usual: f64 = self.each_speed().map(|(prf, speed)| speed.units * usual_weight(prf)).sum();
        let measured: f64 = self.each_speed().map(|(_, speed)| speed.seconds).sum();
        if usual <= 0.0 || measured <= 0.0 {
            return None;
        }
        let seconds_a_unit = |prf: Prf| {
            let found = self.each_speed().find(|(other, _)| *other == prf).map(|(_, speed)| speed);
            match found {
                Some(speed) if speed.units > 0.0 => speed.seconds / speed.units,
                _ => usual_weight(prf) * measured / usual,
            }
        };
        let (mut all, mut longest, mut one_at_a_time) = (0.0, 0.0_f64, 0.0);
        for work in &self.work {
            let running = work.counted.map_or(0.0, |since| now.saturating_sub(since).as_secs_f64());
            let seconds = (work.units * seconds_a_unit(work.prf) - running).max(0.0);
            all += seconds;
            longest = longest.max(seconds);
            if work.prf == Prf::Argon2id {
                one_at_a_time += seconds;
            }
        }
        let seconds = (all / f64::from(self.threads)).max(one_at_a_time).max(longest);
        Duration::try_from_secs_f64(seconds).ok()
    }

    fn each_speed(&self) -> impl Iterator<Item = (Prf, Speed)> {
        Prf::ALL.into_iter().zip(self.speeds)
    }
}

fn speed_of(speeds: &mut [Speed], prf: Prf) -> Option<&mut Speed> {
    Prf::ALL.into_iter().zip(speeds).find(|(other, _)| *other == prf).map(|(_, speed)| speed)
}

fn units(cost: Cost) -> f64 {
    match cost {
        Cost::Pbkdf2 { iterations, .. } => f64::from(iterations),
        Cost::Argon2id(cost) => f64::from(cost.memory_kib) * f64::from(cost.passes),
    }
}

/// What a unit costs beside one of SHA-512, on the machines where it was measured.
const fn usual_weight(prf: Prf) -> f64 {
    match prf {
        Prf::Sha256 | Prf::Sha1 => 0.4,
        Prf::Sha512 | Prf::Blake2s | Prf::Ripemd160 => 1.0,
        Prf::Argon2id => 1.7,
        Prf::Whirlpool => 3.0,
        Prf::Streebog => 7.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{hash::HashKind, kdf::Argon2Cost};

    const ARGON2ID: Cost = Cost::Argon2id(Argon2Cost { memory_kib: 1000, passes: 1, lanes: 1 });

    const fn iterations(iterations: u32) -> Cost {
        Cost::Pbkdf2 { hash: HashKind::Sha512, iterations }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn seconds_left(estimate: &Estimate, now: u64) -> f64 {
        estimate.left(at(now)).unwrap().as_secs_f64()
    }

    #[track_caller]
    fn assert_near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }

    #[test]
    fn nothing_is_said_before_anything_was_measured() {
        let mut estimate = Estimate::new([(Prf::Sha512, iterations(1000))].into_iter(), 1);
        assert_eq!(estimate.left(at(0)), None);
        estimate.begin(0, at(0));
        assert_eq!(estimate.left(at(9)), None);
        estimate.advance(0, 250, at(10));
        assert_near(seconds_left(&estimate, 10), 30.0);
        assert_near(seconds_left(&estimate, 15), 25.0);
        assert_near(seconds_left(&estimate, 50), 0.0);
    }

    #[test]
    fn a_function_that_runs_is_measured_and_no_longer_guessed() {
        let tasks = [
            (Prf::Sha512, iterations(1000)),
            (Prf::Streebog, iterations(1000)),
            (Prf::Streebog, iterations(1000)),
        ];
        let mut estimate = Estimate::new(tasks.into_iter(), 1);
        estimate.begin(0, at(0));
        estimate.end(0, at(10));
        // Streebog is usually seven times as slow.
        assert_near(seconds_left(&estimate, 10), 140.0);
        // Here it is only twice as slow.
        estimate.begin(1, at(10));
        estimate.advance(1, 500, at(20));
        assert_near(seconds_left(&estimate, 20), 30.0);
        estimate.end(1, at(30));
        assert_near(seconds_left(&estimate, 30), 20.0);
        estimate.begin(2, at(30));
        estimate.end(2, at(50));
        assert_near(seconds_left(&estimate, 50), 0.0);
    }

    #[test]
    fn threads_share_the_work_but_argon2id_runs_one_at_a_time() {
        let tasks = [(Prf::Sha512, iterations(1000)); 5].into_iter();
        let mut estimate = Estimate::new(tasks.clone(), 2);
        estimate.begin(0, at(0));
        estimate.end(0, at(10));
        assert_near(seconds_left(&estimate, 10), 20.0);
        for task in 1..4 {
            estimate.begin(task, at(10));
            estimate.end(task, at(20));
        }
        // One is left, and takes one thread.
        assert_near(seconds_left(&estimate, 20), 10.0);

        let mut estimate = Estimate::new(tasks.chain([(Prf::Argon2id, ARGON2ID); 4]), 4);
        estimate.begin(5, at(0));
        estimate.end(5, at(17));
        // Four others of 10 seconds, and three of 17 that do not wait for them.
        assert_near(seconds_left(&estimate, 17), 51.0);
    }

    #[test]
    fn what_passes_all_bounds_is_not_said() {
        let mut estimate = Estimate::new([(Prf::Sha512, iterations(u32::MAX)); 2].into_iter(), 1);
        estimate.begin(0, at(0));
        estimate.advance(0, 1, Duration::MAX);
        assert_eq!(estimate.left(at(0)), None);
        // Nor does it go wrong.
        estimate.advance(7, 1, at(0));
        estimate.end(0, Duration::MAX);
    }
}
