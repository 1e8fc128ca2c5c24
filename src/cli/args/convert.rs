//! `convert`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{KeyslotOptions, UnlockOptions, parse_piece_len};

#[derive(Debug, Args)]
pub(crate) struct ConvertOptions {
    /// The container, not mounted
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) container: PathBuf,
    /// What to make of it
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) new: PathBuf,
    /// Make a folder of pieces of this size, or one file of a folder of pieces
    #[arg(long, value_name = "SIZE|none", default_value = "none", value_parser = parse_split)]
    pub(crate) split: Split,
    #[command(flatten)]
    pub(crate) keyslot: KeyslotOptions,
    #[command(flatten)]
    pub(crate) unlock: UnlockOptions,
}

/// What a container becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    /// One file.
    None,
    /// A folder of pieces of so many bytes.
    Of(u64),
}

fn parse_split(text: &str) -> Result<Split, String> {
    if text == "none" { Ok(Split::None) } else { parse_piece_len(text).map(Split::Of) }
}

pub(crate) const EXAMPLES: &str = "\
Examples:
  strongroom convert photos.vault photos --split 8M
  strongroom convert photos photos.vault

Only ciphertext is copied, so it takes no password; but that of a folder in which not all pieces
are made, as only the password tells which are missing. The new one opens with the same passwords.
The old one stays: remove it when the new one opens. Use one of them alone from then on.";
