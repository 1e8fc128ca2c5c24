//! `reencrypt`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum, ValueHint};
use strongroom::{format::native::Suite, units::SectorSize};

use super::{KeyslotOptions, UnlockOptions, parse_size, sector_size_parser};

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("instead").multiple(false).conflicts_with_all(["cipher", "sector_size", "max_rate"]))]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct ReencryptOptions {
    /// The container; it may be mounted and in use
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) container: PathBuf,
    /// The new cipher [default: the same as now]
    #[arg(long, value_enum, value_name = "CIPHER")]
    pub(crate) cipher: Option<CipherChoice>,
    /// Bytes in a sector [default: the same as now]
    #[arg(long, value_name = "BYTES", value_parser = sector_size_parser())]
    pub(crate) sector_size: Option<SectorSize>,
    /// Limit the speed: 50M is 50 MiB a second
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_rate: Option<u64>,
    /// With --header: leave nothing in the container that shows its UUID at the end; an old header file is then not known as one
    #[arg(long, requires = "header", conflicts_with = "instead")]
    pub(crate) no_trace: bool,
    /// Do not ask for the passwords of the other keyslots: remove them
    #[arg(long)]
    pub(crate) drop_other_keys: bool,
    /// Re-encrypt a mounted volume in the background and return at once
    #[arg(long)]
    pub(crate) background: bool,
    /// Pause the re-encryption of a mounted volume
    #[arg(long, group = "instead")]
    pub(crate) stop: bool,
    /// Show how far the re-encryption of a mounted volume is
    #[arg(long, group = "instead")]
    pub(crate) status: bool,
    #[command(flatten)]
    pub(crate) keyslot: KeyslotOptions,
    #[command(flatten)]
    pub(crate) unlock: UnlockOptions,
}

/// The ciphers of strongroom's own format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CipherChoice {
    /// AES-256-XTS
    #[value(name = "aes-256-xts")]
    Aes256Xts,
    /// AES-128-XTS: faster on processors without AES instructions
    #[value(name = "aes-128-xts")]
    Aes128Xts,
}

impl CipherChoice {
    /// Its name in the format.
    pub(crate) const fn suite(self) -> Suite {
        match self {
            Self::Aes256Xts => Suite::Aes256Xts,
            Self::Aes128Xts => Suite::Aes128Xts,
        }
    }
}

pub(super) const EXAMPLES: &str = "\
Examples:
  strongroom reencrypt photos.vault                  a new volume key; goes on where it was stopped
  strongroom reencrypt photos.vault --background     while it is mounted
  strongroom reencrypt photos.vault --status
  strongroom reencrypt old.vault --sector-size 4096 --max-rate 50M";
