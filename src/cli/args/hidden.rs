//! Options for hidden volumes, and for what makes the keys of VeraCrypt's headers.

use std::path::PathBuf;

use clap::{ArgAction, ArgGroup, Args, ValueHint, value_parser};
use strongroom::format::veracrypt::{MAX_PIM, Prf};

use super::opaque::prf_parser;

/// The secret of a hidden volume that is to be protected.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Protection of a hidden volume (TrueCrypt and VeraCrypt)")]
#[command(group = ArgGroup::new("protect-password").multiple(false))]
#[allow(clippy::struct_field_names, reason = "clap tells options apart by their names")]
pub(crate) struct ProtectOptions {
    /// Protect the hidden volume from being overwritten; you are asked for its password too
    #[arg(long)]
    pub(crate) protect_hidden: bool,
    /// Read the hidden volume's password from a file; - is standard input
    #[arg(long, value_name = "FILE", group = "protect-password", requires = "protect_hidden", value_hint = ValueHint::FilePath)]
    pub(crate) protect_password_file: Option<PathBuf>,
    /// Read the hidden volume's password from an open file descriptor
    #[arg(long, value_name = "N", group = "protect-password", requires = "protect_hidden", allow_negative_numbers = true, value_parser = value_parser!(i32).range(0..))]
    pub(crate) protect_password_fd: Option<i32>,
    /// Use the output of a shell command as the hidden volume's password
    #[arg(long, value_name = "CMD", group = "protect-password", requires = "protect_hidden", value_hint = ValueHint::CommandString)]
    pub(crate) protect_password_command: Option<String>,
    /// The hidden volume has no password: its keyfiles alone open it
    #[arg(long, group = "protect-password", requires = "protect_keyfile")]
    pub(crate) protect_no_password: bool,
    /// A keyfile of the hidden volume; repeat for several
    #[arg(long, value_name = "FILE", action = ArgAction::Append, requires = "protect_hidden", value_hint = ValueHint::FilePath)]
    pub(crate) protect_keyfile: Vec<PathBuf>,
    /// The hidden volume's PIM
    #[arg(long, value_name = "N", requires = "protect_hidden", value_parser = value_parser!(u32).range(0..=i64::from(MAX_PIM)))]
    pub(crate) protect_pim: Option<u32>,
    /// Try only this hash on the hidden volume
    #[arg(long, value_name = "NAME", requires = "protect_hidden", value_parser = prf_parser())]
    pub(crate) protect_prf: Option<Prf>,
}

/// What makes a new header's key, beside an old one.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "VeraCrypt")]
pub(crate) struct NewSealOptions {
    /// Hash that derives the new header's key from the password [default: the old one; sha512 for a new hidden volume]
    #[arg(long, value_name = "NAME", value_parser = prf_parser())]
    pub(crate) new_prf: Option<Prf>,
    /// The new PIM; 0 is the usual one [default: the old one; 0 for a new hidden volume]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(0..=i64::from(MAX_PIM)))]
    pub(crate) new_pim: Option<u32>,
}

impl NewSealOptions {
    /// Whether any is given.
    pub(crate) const fn is_any(self) -> bool {
        self.new_prf.is_some() || self.new_pim.is_some()
    }
}
