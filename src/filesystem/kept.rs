//! What was read lately, kept up to a number of bytes.

use std::{
    collections::HashMap,
    hash::Hash,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

/// Things by their keys: those since the last turn, and those of the turn before.
#[derive(Debug)]
pub(super) struct Kept<K, V: ?Sized> {
    turns: Mutex<Turns<K, V>>,
    /// In each turn, in bytes.
    most: usize,
}

#[derive(Debug)]
struct Turns<K, V: ?Sized> {
    young: HashMap<K, (Arc<V>, usize)>,
    old: HashMap<K, (Arc<V>, usize)>,
    len: usize,
}

impl<K: Hash + Eq, V: ?Sized> Kept<K, V> {
    /// One that keeps `most` bytes in all.
    pub(super) fn new(most: usize) -> Self {
        let turns = Turns { young: HashMap::new(), old: HashMap::new(), len: 0 };
        Self { turns: Mutex::new(turns), most: most / 2 }
    }

    pub(super) fn find(&self, key: K) -> Option<Arc<V>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((found, _)) = turns.young.get(&key) {
            return Some(Arc::clone(found));
        }
        let (found, len) = turns.old.remove(&key)?;
        turns.keep(key, Arc::clone(&found), len, self.most);
        Some(found)
    }

    /// Keeps what takes `len` bytes.
    pub(super) fn keep(&self, key: K, value: Arc<V>, len: usize) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.keep(key, value, len, self.most);
    }
}

impl<K: Hash + Eq, V: ?Sized> Turns<K, V> {
    fn keep(&mut self, key: K, value: Arc<V>, len: usize, most: usize) {
        let len = len.saturating_add(OVERHEAD);
        if self.len.saturating_add(len) > most {
            self.old = mem::take(&mut self.young);
            self.len = 0;
        }
        self.len = self.len.saturating_add(len);
        self.young.insert(key, (value, len.saturating_sub(OVERHEAD)));
    }
}

/// What an entry takes besides.
const OVERHEAD: usize = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let kept = Kept::<u64, [u8]>::new(20 * (1000 + OVERHEAD));
        for key in 0..1000 {
            kept.keep(key, Arc::from([0; 1000]), 1000);
            assert!(kept.find(0).is_some(), "{key}");
        }
        assert!(kept.find(999).is_some() && kept.find(500).is_none());
        let turns = kept.turns.lock().unwrap();
        assert!(turns.young.len() <= 10 && turns.old.len() <= 10);
    }
}
