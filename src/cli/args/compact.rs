//! `compact`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{KeyslotOptions, UnlockOptions};

#[derive(Debug, Args)]
pub(crate) struct CompactOptions {
    /// The container, not mounted
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) container: PathBuf,
    #[command(flatten)]
    pub(crate) keyslot: KeyslotOptions,
    #[command(flatten)]
    pub(crate) unlock: UnlockOptions,
}

pub(crate) const EXAMPLES: &str = "\
Examples:
  strongroom compact photos.vault

Only containers made with --provision thin give space back. Under ext2, ext3, ext4, FAT and exFAT
that is what the file system has free; under others, blocks of zeros. Where the kernel has
mounted such a container, fstrim(8) does it meanwhile.";
