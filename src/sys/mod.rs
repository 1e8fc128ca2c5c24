//! What the kernel must be asked for directly: locked memory, ioctls, process hardening.
//!
//! With the SIMD module of `crypto::xts` the only place for `unsafe`: one operation a block, each with its invariant.

pub mod alloc;
pub mod available;
pub mod control_group;
pub mod descriptor;
mod fanotify;
pub mod file_uses;
pub mod freeze;
pub mod freezer;
pub mod fuse_mount;
pub mod in_use;
pub mod limits;
pub mod loopdev;
pub mod mapped_file;
pub mod memory;
pub mod mount_number;
pub mod mount_table;
pub mod process;
pub mod session_bus;
pub mod socket;
pub mod user;
pub mod writeback;
pub mod writers;
