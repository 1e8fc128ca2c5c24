use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{KeyslotOptions, UnlockOptions};

#[derive(Debug, Args)]
pub(crate) struct CheckOptions {
    /// The container
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) container: PathBuf,
    /// Do not ask for the password: check only what can be checked without it
    #[arg(long, conflicts_with_all = ["password", "keyfile", "tries", "max_kdf_memory", "max_kdf_time", "slot"])]
    pub(crate) no_unlock: bool,
    /// Read the whole data area from the medium, not only a sample
    #[arg(long)]
    pub(crate) read_data: bool,
    #[command(flatten)]
    pub(crate) keyslot: KeyslotOptions,
    #[command(flatten)]
    pub(crate) unlock: UnlockOptions,
}

pub(crate) const CHECK_EXAMPLES: &str = "\
Examples:
  strongroom check photos.vault
  strongroom check photos.vault --no-unlock --json
  strongroom check /dev/sdX --read-data --password-file secret";
