//! `resize`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{KeyslotOptions, UnlockOptions, parse_size};

#[derive(Debug, Args)]
pub(crate) struct ResizeOptions {
    /// The container, a file; not mounted
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) container: PathBuf,
    /// Its new size: 20G or 20GiB is 20·2^30 bytes, 20GB is 20·10^9; larger than the old one
    #[arg(value_name = "SIZE", value_parser = parse_size)]
    pub(crate) size: u64,
    #[command(flatten)]
    pub(crate) keyslot: KeyslotOptions,
    #[command(flatten)]
    pub(crate) unlock: UnlockOptions,
}

pub(crate) const EXAMPLES: &str = "\
Examples:
  strongroom resize photos.hc 20G --format veracrypt
  strongroom resize work.luks 100G

The file system inside keeps its size until it is told, too: mount --block, then e2fsck -f and resize2fs on DIR/volume.";
