use std::{
    fmt,
    ops::{Deref, Range},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// Reader-writer locks on ranges of sectors or bytes. Uncontended: two short mutex holds over a handful of entries.
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

/// A held range; let go on drop. `L` is a reference to the locks, or an `Arc` of them.
pub(super) struct RangeGuard<L: Deref<Target = RangeLocks>> {
    locks: L,
    id: u64,
}

impl RangeLocks {
    /// Waits until nobody writes in `range`, then keeps writers out of it.
    pub(super) fn shared(&self, range: Range<u64>) -> RangeGuard<&Self> {
        RangeGuard::acquire(self, range, false)
    }

    /// Waits until nobody reads or writes in `range`, then keeps everybody out of it.
    pub(super) fn exclusive(&self, range: Range<u64>) -> RangeGuard<&Self> {
        RangeGuard::acquire(self, range, true)
    }

    /// Waits while somebody else's hold on `range` stands against one of this kind.
    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        own: Option<u64>,
        range: &Range<u64>,
        exclusive: bool,
    ) -> MutexGuard<'a, State> {
        while state.held.iter().any(|held| Some(held.id) != own && held.excludes(range, exclusive)) {
            state.waiting += 1;
            state = self.released.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state
    }

    fn notify(&self, state: &State) {
        if state.waiting > 0 {
            self.released.notify_all();
        }
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

impl<L: Deref<Target = RangeLocks>> RangeGuard<L> {
    pub(super) fn acquire(locks: L, range: Range<u64>, exclusive: bool) -> Self {
        let mut state = locks.wait(locks.locked(), None, &range, exclusive);
        let id = state.next_id;
        state.next_id += 1;
        state.held.push(Held { id, range, exclusive });
        drop(state);
        Self { locks, id }
    }

    /// Turns a shared hold into an exclusive one: nobody new comes in, then those within are waited for. No two holders of
    /// overlapping ranges may do so at once, or they wait for each other.
    pub(super) fn upgrade(&mut self) {
        let mut state = self.locks.locked();
        let Some(own) = state.held.iter_mut().find(|held| held.id == self.id) else { return };
        own.exclusive = true;
        let range = own.range.clone();
        drop(self.locks.wait(state, Some(self.id), &range, true));
    }

    /// Turns an exclusive hold into a shared one.
    pub(super) fn downgrade(&mut self) {
        let mut state = self.locks.locked();
        if let Some(own) = state.held.iter_mut().find(|held| held.id == self.id) {
            own.exclusive = false;
        }
        self.locks.notify(&state);
    }
}

impl<L: Deref<Target = RangeLocks>> Drop for RangeGuard<L> {
    fn drop(&mut self) {
        let mut state = self.locks.locked();
        state.held.retain(|held| held.id != self.id);
        self.locks.notify(&state);
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
    fn waits(
        locks: &RangeLocks,
        acquire: impl FnOnce(&RangeLocks) + Send,
        release: RangeGuard<&RangeLocks>,
    ) -> bool {
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
    fn an_upgraded_holder_keeps_readers_out_until_it_downgrades() {
        let locks = RangeLocks::default();
        let mut held = locks.shared(0..8);
        assert!(!waits(&locks, |locks| drop(locks.shared(0..8)), locks.shared(9..10)));
        held.upgrade();
        assert!(waits(&locks, |locks| drop(locks.shared(7..9)), held));
        let mut held = locks.exclusive(0..8);
        held.downgrade();
        assert!(!waits(&locks, |locks| drop(locks.shared(7..9)), locks.shared(9..10)));
        assert!(waits(&locks, |locks| drop(locks.exclusive(7..9)), held));
    }

    #[test]
    fn an_upgrade_waits_for_those_within() {
        let locks = RangeLocks::default();
        let upgraded = |locks: &RangeLocks| locks.shared(0..4).upgrade();
        assert!(waits(&locks, upgraded, locks.shared(3..8)));
        assert!(!waits(&locks, upgraded, locks.shared(4..8)));
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
