//! The blocks of a new volume that are taken.

use std::{collections::BTreeMap, ops::Range};

/// Runs of blocks, by their starts; none touches another.
#[derive(Debug)]
pub(super) struct Taken {
    runs: BTreeMap<u64, u64>,
    /// The blocks that there are.
    all: Range<u64>,
}

impl Taken {
    /// Nothing is, of these blocks.
    pub(super) const fn new(all: Range<u64>) -> Self {
        Self { runs: BTreeMap::new(), all }
    }

    /// Takes blocks that are free.
    pub(super) fn add(&mut self, run: &Range<u64>) {
        let (mut start, mut end) = (run.start, run.end);
        if let Some((&before, _)) = self.runs.range(..start).next_back().filter(|(_, end)| **end == start) {
            self.runs.remove(&before);
            start = before;
        }
        if let Some(behind) = self.runs.remove(&end) {
            end = behind;
        }
        self.runs.insert(start, end);
    }

    /// The runs within a range.
    pub(super) fn within(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let (from, to) = (range.start, range.end);
        let first = self.runs.range(..=from).next_back().map_or(from, |(start, _)| *start);
        self.runs
            .range(first..to.max(first))
            .map(move |(start, end)| (*start).max(from)..(*end).min(to))
            .filter(|run| run.start < run.end)
    }

    /// How many blocks of a range are taken.
    pub(super) fn count(&self, range: &Range<u64>) -> u64 {
        self.within(range).map(|run| run.end - run.start).sum()
    }

    /// Takes the first run of so many blocks at `goal` or behind it.
    pub(super) fn take(&mut self, goal: u64, count: u64) -> Option<Range<u64>> {
        let mut goal = goal;
        loop {
            let free = self.free_from(goal)?;
            if free.end - free.start >= count {
                let run = free.start..free.start + count;
                self.add(&run);
                return Some(run);
            }
            goal = free.end;
        }
    }

    /// The same in several runs, none longer than `most`. Where there are not so many, the rest comes from before `goal`.
    pub(super) fn take_runs(&mut self, goal: u64, count: u64, most: u64) -> Option<Vec<Range<u64>>> {
        let (mut runs, mut left, mut next) = (Vec::new(), count, goal);
        let mut has_turned = false;
        while left > 0 {
            let Some(free) = self.free_from(next) else {
                if has_turned {
                    return None;
                }
                (has_turned, next) = (true, self.all.start);
                continue;
            };
            let run = free.start..free.end.min(free.start + left.min(most));
            self.add(&run);
            left -= run.end - run.start;
            next = run.end;
            runs.push(run);
        }
        Some(runs)
    }

    /// The first free run at a block or behind it.
    fn free_from(&self, from: u64) -> Option<Range<u64>> {
        let before = self.runs.range(..=from).next_back();
        let start = before.map_or(from, |(_, end)| from.max(*end));
        let end = self.runs.range(start..).next().map_or(self.all.end, |(start, _)| *start);
        (start < end).then_some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_touch_become_one_and_are_counted_in_parts() {
        let mut taken = Taken::new(1..100);
        for run in [10..20, 30..40, 20..25, 25..30, 60..70] {
            taken.add(&run);
        }
        assert_eq!(taken.runs, BTreeMap::from([(10, 40), (60, 70)]));
        assert_eq!(taken.within(&(15..65)).collect::<Vec<_>>(), [15..40, 60..65]);
        assert_eq!((taken.count(&(0..100)), taken.count(&(40..60)), taken.count(&(12..13))), (40, 0, 1));
    }

    #[test]
    fn what_is_taken_was_free() {
        let mut taken = Taken::new(1..100);
        taken.add(&(10..90));
        assert_eq!(taken.take(5, 11), None);
        assert_eq!(taken.take(5, 5), Some(5..10));
        assert_eq!(taken.take_runs(50, 12, 8), Some(vec![90..98, 98..100, 1..3]));
        assert_eq!(taken.take_runs(50, 4, 8), None);
    }
}
