//! A volume made visible: the decrypted block file, or the files in it. Knows no key and no format.

mod files;
mod fuse;
mod negotiate;

pub use files::{FilesExport, FilesMount, Owners};
pub use fuse::{Client, FuseExport, LogSink};

pub use crate::sys::fuse_mount::{check as check_fuse, unmount as unmount_fuse};

/// The name of the one file that an export shows in its directory.
pub const VOLUME_FILE: &str = "volume";
