//! A chunk shared by some threads.

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Work that can be done piece by piece, in any order and by several threads.
///
/// Nobody begins another piece once one has failed.
pub(super) struct Pieces<I, W> {
    work: W,
    state: Mutex<(I, io::Result<()>)>,
}

/// [`Pieces`] of whichever kind.
pub(super) trait Shared: Sync {
    /// Does pieces until nobody may begin another.
    fn work(&self);

    /// Has nobody begin another piece. The first error is the one that counts.
    fn fail(&self, error: io::Error);
}

impl<I: Iterator, W: Fn(I::Item) -> io::Result<()>> Pieces<I, W> {
    /// Calls `work` for each of `pieces`.
    pub(super) const fn new(pieces: I, work: W) -> Self {
        Self { work, state: Mutex::new((pieces, Ok(()))) }
    }

    /// What it came to.
    pub(super) fn finish(self) -> io::Result<()> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).1
    }

    fn next(&self) -> Option<I::Item> {
        let (pieces, result) = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if result.is_ok() { pieces.next() } else { None }
    }
}

impl<I: Iterator + Send, W: Fn(I::Item) -> io::Result<()> + Sync> Shared for Pieces<I, W> {
    fn work(&self) {
        while let Some(piece) = self.next() {
            if let Err(error) = (self.work)(piece) {
                self.fail(error);
            }
        }
    }

    fn fail(&self, error: io::Error) {
        let (_, result) = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if result.is_ok() {
            *result = Err(error);
        }
    }
}

/// The threads that share chunks. They live as long as this: starting one takes a tenth of the time that a chunk takes.
pub(super) struct Team {
    /// All but the caller's; `None` where that is the only one.
    others: Option<ThreadPool>,
}

impl Team {
    /// A team of `threads`, the caller's among them. Where no more threads can be had, the caller's does it all.
    pub(super) fn new(threads: usize) -> Self {
        let others = threads.checked_sub(1).filter(|&others| others > 0);
        Self { others: others.and_then(|others| ThreadPoolBuilder::new().num_threads(others).build().ok()) }
    }

    /// Does all of both: the caller's thread begins with `first`, and the others begin with `second`, so that one writes
    /// while another computes. Where there is one thread, everything happens in order.
    pub(super) fn run(&self, first: &dyn Shared, second: &dyn Shared) {
        let both = [first, second];
        let work_in_order = || both.iter().for_each(|pieces| pieces.work());
        let Some(others) = &self.others else { return work_in_order() };
        let work = || {
            if catch_unwind(AssertUnwindSafe(|| both.iter().rev().for_each(|pieces| pieces.work()))).is_err()
            {
                for pieces in both {
                    pieces.fail(io::Error::other("a thread of the re-encryption failed"));
                }
            }
        };
        others.in_place_scope(|scope| {
            for _ in 0..others.current_num_threads() {
                scope.spawn(|_| work());
            }
            work_in_order();
        });
    }
}

impl fmt::Debug for Team {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = self.others.as_ref().map_or(1, |others| others.current_num_threads() + 1);
        f.debug_struct("Team").field("threads", &threads).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_piece_of_both_is_done_once_whatever_the_threads() {
        for threads in 1..=5 {
            for len in [0, 1, 2, 7] {
                let (mut one, mut other) = (vec![0; len], vec![0; 3]);
                let mark = |place: &mut i32| {
                    *place += 1;
                    Ok(())
                };
                let (first, second) =
                    (Pieces::new(one.iter_mut(), mark), Pieces::new(other.iter_mut(), mark));
                Team::new(threads).run(&first, &second);
                assert!(first.finish().is_ok() && second.finish().is_ok());
                assert!(one == vec![1; len] && other == [1; 3], "{threads} threads, {len}");
            }
        }
    }

    #[test]
    fn a_piece_that_fails_ends_its_own_kind_with_its_error() {
        for threads in 1..=3 {
            let done = AtomicUsize::new(0);
            let fails = |piece: usize| {
                if piece == 3 { Err(io::Error::other("this one")) } else { Ok(()) }
            };
            let counts = |_: usize| {
                done.fetch_add(1, Ordering::Relaxed);
                Ok(())
            };
            let (first, second) = (Pieces::new(0..6, fails), Pieces::new(0..6, counts));
            Team::new(threads).run(&first, &second);
            assert_eq!(first.finish().unwrap_err().to_string(), "this one");
            assert!(second.finish().is_ok());
            assert_eq!(done.load(Ordering::Relaxed), 6);
        }
    }

    #[test]
    fn a_thread_that_panics_leaves_nothing_that_passes_for_done() {
        // The caller's thread waits in the first until another has begun the second.
        let (begun, begins) = std::sync::mpsc::channel();
        let (begun, begins) = (Mutex::new(begun), Mutex::new(begins));
        let waits = |(): ()| begins.lock().unwrap().recv().map_err(io::Error::other);
        let panics = |(): ()| {
            begun.lock().unwrap().send(()).unwrap();
            panic!("as it should");
        };
        let (first, second) =
            (Pieces::new(std::iter::once(()), waits), Pieces::new(std::iter::once(()), panics));
        Team::new(2).run(&first, &second);
        assert_eq!(second.finish().unwrap_err().to_string(), "a thread of the re-encryption failed");
    }
}
