use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Whether a program that wrote to an export was told that there is no room in the file system.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<AtomicBool>);

impl Refusals {
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether one was, since [`forget`](Self::forget).
    pub fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes note that there is room again.
    pub fn forget(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
