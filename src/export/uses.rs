use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Counts what programs do with an export: opening, listing, reading, writing, changing. Asking for attributes or for free space is
/// no use, as file managers do so all the time.
#[derive(Debug, Clone, Default)]
pub struct Uses(Arc<AtomicU64>);

impl Uses {
    pub(super) fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
