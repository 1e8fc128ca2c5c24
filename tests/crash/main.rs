//! Proof by crash: every command that writes metadata, stopped at every operation.
//!
//! After each stop the container opens with the old keys or the new ones, never with neither and never with a mixture, and
//! every sector reads as it was written. The medium is [`strongroom::storage::SimStorage`].

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

mod container;
mod create;
mod erase;
mod harness;
mod heal;
mod keys;
mod luks;
mod model;
mod outgrown;
mod reencrypt;
mod resize;
mod restore;
mod veracrypt;
