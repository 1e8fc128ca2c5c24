//! One block file over FUSE: `DIR/volume`.
//!
//! `fuser` speaks the protocol; mounting and unmounting are ours ([`sys::fuse_mount`](crate::sys::fuse_mount)), so that
//! the helper's environment is clean and only this mount is ever taken away.

mod attributes;
mod requests;
mod server;
mod session;

pub use session::FuseExport;

use std::sync::Arc;

/// Takes one line about a failure; never a secret, never plaintext.
pub type LogSink = Arc<dyn Fn(&str) + Send + Sync>;

/// Who keeps the block file's plaintext in the kernel's page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheMode {
    /// Nobody: each read and write comes here at once. For a loop device, which has the file system's cache above it.
    Direct,
    /// The kernel, and it gathers small writes. For `fuse2fs` and programs, which read and write a block at a time.
    ///
    /// The kernel then believes its own file size: a write past the end succeeds at first and fails at `fsync`.
    Writeback,
}
