//! A volume made visible: the decrypted block file, or the files in it. Knows no key and no format.

mod files;
mod fuse;
mod negotiate;
mod refusals;
mod uses;

pub use files::{FilesExport, FilesMount, Owners, Promptness, Share};
pub use fuse::{Client, FuseExport, GrowingFile, LogSink};

pub use refusals::Refusals;
pub use uses::Uses;

pub use crate::sys::fuse_mount::{check as check_fuse, unmount as unmount_fuse};

/// The name of the one file that an export shows in its directory.
pub const VOLUME_FILE: &str = "volume";
