use std::{
    fmt,
    ops::Range,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// Reader-writer locks on ranges of sectors. Uncontended: two short mutex holds over a handful of entries.
#[derive(Default)]
pub(super) struct RangeLocks {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Default)]
struct State {
    held: Vec<Held>,
    next_id: u64,
    waiting: usize,
}

struct Held {
    id: u64,
    range: Range<u64>,
    exclusive: bool,
}

/// A held range; let go on drop.
pub(super) struct RangeGuard<'locks> {
    locks: &'locks RangeLocks,
    id: u64,
}

impl RangeLocks {
    /// Waits until nobody writes in `range`, then keeps writers out of it.
    pub(super) fn shared(&self, range: Range<u64>) -> RangeGuard<'_> {
        self.acquire(range, false)
    }

    /// Waits until nobody reads or writes in `range`, then keeps everybody out of it.
    pub(super) fn exclusive(&self, range: Range<u64>) -> RangeGuard<'_> {
        self.acquire(range, true)
    }

    fn acquire(&self, range: Range<u64>, exclusive: bool) -> RangeGuard<'_> {
        let mut state = self.locked();
        while state.held.iter().any(|held| held.excludes(&range, exclusive)) {
            state.waiting += 1;
            state = self.released.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.held.push(Held { id, range, exclusive });
        RangeGuard { locks: self, id }
    }

    /// A panicking holder leaves a whole list: each change to it is one push or one removal.
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    const fn excludes(&self, range: &Range<u64>, exclusive: bool) -> bool {
        let overlaps = self.range.start < range.end && range.start < self.range.end;
        overlaps && (self.exclusive || exclusive)
    }
}

impl Drop for RangeGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.locks.locked();
        state.held.retain(|held| held.id != self.id);
        if state.waiting > 0 {
            self.locks.released.notify_all();
        }
    }
}

impl fmt::Debug for RangeLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RangeLocks")
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    /// Whether `acquire` in another thread has to wait for what is held here.
    fn waits(locks: &RangeLocks, acquire: impl FnOnce(&RangeLocks) + Send, release: RangeGuard<'_>) -> bool {
        thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            scope.spawn(move || {
                acquire(locks);
                sender.send(()).unwrap();
            });
            let waited = receiver.recv_timeout(SHORT).is_err();
            drop(release);
            if waited {
                receiver.recv().unwrap();
            }
            waited
        })
    }

    #[test]
    fn a_writer_waits_for_an_overlapping_writer_and_reader() {
        let locks = RangeLocks::default();
        assert!(waits(&locks, |locks| drop(locks.exclusive(7..9)), locks.exclusive(0..8)));
        assert!(waits(&locks, |locks| drop(locks.exclusive(7..9)), locks.shared(0..8)));
        assert!(waits(&locks, |locks| drop(locks.shared(7..9)), locks.exclusive(0..8)));
    }

    #[test]
    fn neighbours_and_readers_do_not_wait() {
        let locks = RangeLocks::default();
        assert!(!waits(&locks, |locks| drop(locks.exclusive(8..9)), locks.exclusive(0..8)));
        assert!(!waits(&locks, |locks| drop(locks.shared(7..9)), locks.shared(0..8)));
    }

    #[test]
    fn a_panicking_holder_lets_go() {
        let locks = RangeLocks::default();
        let panicked = thread::scope(|scope| {
            let holder = scope.spawn(|| {
                let _held = locks.exclusive(0..8);
                panic!("on purpose");
            });
            holder.join().is_err()
        });
        assert!(panicked);
        drop(locks.exclusive(0..8));
        assert!(locks.locked().held.is_empty());
    }
}
