//! Encrypted containers for Linux: create, unlock, export and mount them without privileges.
//!
//! The layers, from the bottom: [`sys`], [`crypto`], [`token`], [`keyring`], [`storage`], [`mapping`], [`block`] and
//! [`filesystem`], [`format`](mod@format), [`volume`], [`export`], [`mount`], [`unlock`]. A layer names only those below it; `tests/layers.rs` holds it to that.
//! `ARCHITECTURE.md` draws the picture, `spec/` holds the on-disk formats.

pub mod block;
pub mod crypto;
pub mod error;
pub mod export;
pub mod filesystem;
pub mod format;
pub mod keyring;
pub mod mapping;
pub mod mount;
pub mod storage;
pub mod sys;
pub mod text;
pub mod token;
pub mod units;
pub mod unlock;
pub mod volume;

#[cfg(test)]
extern crate self as strongroom;
#[cfg(test)]
#[path = "../tests/software_token/mod.rs"]
mod software_token;

pub use error::{Error, ErrorKind, Result};
