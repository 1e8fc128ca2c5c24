//! One block file over FUSE: `DIR/volume`.
//!
//! `fuser` speaks the protocol; mounting and unmounting are ours ([`sys::fuse_mount`](crate::sys::fuse_mount)), so that
//! the helper's environment is clean and only this mount is ever taken away.

mod attributes;
mod requests;
mod server;
pub(super) mod session;

pub use session::{FuseExport, GrowingFile};

use std::sync::Arc;

/// Takes one line about a failure; never a secret, never plaintext.
pub type LogSink = Arc<dyn Fn(&str) + Send + Sync>;

/// Who uses the block file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// A loop device of ours, with the file system's cache above it: each read and write comes here at once, and the loop
    /// device's worker is interrupted to have it answered.
    LoopDevice,
    /// Programs that see to their cache themselves, and ask for much at a time.
    Direct,
    /// Programs, which read and write a little at a time: the kernel caches, and gathers small writes.
    ///
    /// It then believes its own file size: a write past the end succeeds at first and fails at `fsync`.
    Cached,
}

impl Client {
    /// Whether the block file's plaintext is kept in the kernel's page cache.
    pub(super) const fn is_cached(self) -> bool {
        matches!(self, Self::Cached)
    }

    /// Whether it is given time to ask for more before it is answered.
    pub(super) const fn asks_for_much(self) -> bool {
        !matches!(self, Self::LoopDevice)
    }
}
