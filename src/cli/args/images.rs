use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{KeyslotOptions, NewOptions, UnlockOptions};

#[derive(Debug, Args)]
pub(crate) struct ImportOptions {
    /// The image: a file, or a block device that is not in use
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) image: PathBuf,
    /// The container to make: a file, or a block device that is large enough
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) container: PathBuf,
    /// Do not read the container back to compare it with the image
    #[arg(long)]
    pub(crate) no_verify: bool,
    #[command(flatten)]
    pub(crate) new: NewOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ExportOptions {
    /// The container
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) container: PathBuf,
    /// The file to write, or a block device (with --force)
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) image: PathBuf,
    /// Overwrite what is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not ask before writing unencrypted data
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Do not read the image back to compare it with the container
    #[arg(long)]
    pub(crate) no_verify: bool,
    #[command(flatten)]
    pub(crate) keyslot: KeyslotOptions,
    #[command(flatten)]
    pub(crate) unlock: UnlockOptions,
}

pub(crate) const IMPORT_EXAMPLES: &str = "\
Examples:
  strongroom import disk.img disk.vault
  strongroom import /dev/sdX old-stick.vault --provision thin";

pub(crate) const EXPORT_EXAMPLES: &str = "\
Examples:
  strongroom export disk.vault disk.img
  strongroom export disk.vault /dev/sdX --force";
