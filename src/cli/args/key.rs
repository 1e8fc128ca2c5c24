//! `key ...`.

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand, ValueEnum, ValueHint, value_parser};

use super::{CostOptions, InfoOptions, KeyslotOptions, NewSealOptions, UnlockOptions};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Show the keyslots; needs no password
    List(KeyListOptions),
    /// Test whether a password opens the container
    #[command(after_help = TEST_EXAMPLES)]
    Test(KeyTestOptions),
    /// Add another password, keyfile, recovery key or FIDO2 token
    #[command(after_help = ADD_EXAMPLES)]
    Add(Box<KeyAddOptions>),
    /// Replace a password or keyfile; the data stays as it is
    ///
    /// The new keyslot costs as much as that of a new container on this machine, and never less than the old one.
    #[command(after_help = CHANGE_EXAMPLES)]
    Change(Box<KeyChangeOptions>),
    /// Remove a password or keyfile
    ///
    /// Whoever kept a copy of the header from before can still open the container with it.
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove(Box<KeyRemoveOptions>),
}

impl KeyCommand {
    pub(crate) fn container_mut(&mut self) -> &mut PathBuf {
        match self {
            Self::List(options) => &mut options.info.container,
            Self::Test(options) => &mut options.container,
            Self::Add(options) => &mut options.container,
            Self::Change(options) => &mut options.container,
            Self::Remove(options) => &mut options.container,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct KeyListOptions {
    /// Print only the number of each keyslot, and after a tab what opens it and its label, a line each: for completion scripts
    #[arg(long, hide = true, conflicts_with = "json")]
    pub(crate) names: bool,
    #[command(flatten)]
    pub(crate) info: InfoOptions,
}

#[derive(Debug, Args)]
pub(crate) struct KeyTestOptions {
    /// The container
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) container: PathBuf,
    #[command(flatten)]
    pub(crate) keyslot: KeyslotOptions,
    #[command(flatten)]
    pub(crate) unlock: UnlockOptions,
}

#[derive(Debug, Args)]
pub(crate) struct KeyAddOptions {
    /// The container; it may be mounted
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) container: PathBuf,
    /// The keyslot to fill [default: the first empty one]
    #[arg(long, value_name = "N")]
    pub(crate) slot: Option<u32>,
    /// A name for the keyslot, readable without the password (64 bytes at most)
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    /// When the keyslot is tried
    #[arg(long, value_enum, default_value_t = PriorityChoice::Normal, value_name = "WHEN")]
    pub(crate) priority: PriorityChoice,
    /// Unlock only with this keyslot
    #[arg(long, value_name = "N")]
    pub(crate) unlock_slot: Option<u32>,
    #[command(flatten)]
    pub(crate) random: RandomSecretOptions,
    #[command(flatten)]
    pub(crate) unlock: UnlockOptions,
    #[command(flatten)]
    pub(crate) new: NewSecretOptions,
    #[command(flatten)]
    pub(crate) cost: CostOptions,
}

/// A new secret that nobody has to think up.
#[derive(Debug, Args)]
pub(crate) struct RandomSecretOptions {
    /// Make a recovery key to keep on paper: 102 digits, shown once; on a terminal you type two groups back
    #[arg(long, conflicts_with_all = ["fido2", "new-password", "new_keyfile", "kind", "hash", "memory", "passes", "lanes", "iterations"])]
    pub(crate) recovery: bool,
    /// Also write the recovery key to this file as a picture for printing; the file is as secret as the key
    #[arg(long, value_name = "FILE", requires = "recovery", value_hint = ValueHint::FilePath)]
    pub(crate) svg: Option<PathBuf>,
    /// Show no QR code
    #[arg(long, requires = "recovery")]
    pub(crate) no_qr: bool,
    /// Let a FIDO2 token open the container; its PIN, if it has one, comes from where the new password would
    #[arg(long, conflicts_with_all = ["new_keyfile", "new_no_password", "kind", "hash", "memory", "passes", "lanes", "iterations"])]
    pub(crate) fido2: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KeyChangeOptions {
    /// The container; it may be mounted
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) container: PathBuf,
    /// The keyslot to replace [default: the one that the old password opens]
    #[arg(long, value_name = "N")]
    pub(crate) slot: Option<u32>,
    /// A new name for the keyslot; "" removes it
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    /// When the keyslot is tried from now on
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(crate) priority: Option<PriorityChoice>,
    /// Keep password and keyfiles; renew only label, priority and cost
    #[arg(long, conflicts_with_all = ["new-password", "new_keyfile", "unlock_slot"])]
    pub(crate) keep_password: bool,
    /// Unlock only with this keyslot
    #[arg(long, value_name = "N")]
    pub(crate) unlock_slot: Option<u32>,
    #[command(flatten)]
    pub(crate) unlock: UnlockOptions,
    #[command(flatten)]
    pub(crate) new: NewSecretOptions,
    #[command(flatten)]
    pub(crate) seal: NewSealOptions,
    #[command(flatten)]
    pub(crate) cost: CostOptions,
}

#[derive(Debug, Args)]
pub(crate) struct KeyRemoveOptions {
    /// The container; it may be mounted
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) container: PathBuf,
    /// The keyslot to empty [default: the one that the password opens]
    #[arg(long, value_name = "N")]
    pub(crate) slot: Option<u32>,
    /// Remove even the last one: nobody can open the container after that
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not ask before removing
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Unlock only with this keyslot
    #[arg(long, value_name = "N")]
    pub(crate) unlock_slot: Option<u32>,
    #[command(flatten)]
    pub(crate) unlock: UnlockOptions,
}

/// Where the new password and the new keyfiles come from.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "New secret (you are asked for the password, twice, where no source is given)")]
#[command(group = clap::ArgGroup::new("new-password").multiple(false))]
#[allow(
    clippy::struct_field_names,
    reason = "clap tells options apart by their names; those without the prefix exist"
)]
pub(crate) struct NewSecretOptions {
    /// Read the new password from a file; one newline at its end is dropped; - is standard input
    #[arg(long, value_name = "FILE", group = "new-password", value_hint = ValueHint::FilePath)]
    pub(crate) new_password_file: Option<PathBuf>,
    /// Read the new password from an open file descriptor; one newline at its end is dropped
    #[arg(long, value_name = "N", group = "new-password", allow_negative_numbers = true, value_parser = value_parser!(i32).range(0..))]
    pub(crate) new_password_fd: Option<i32>,
    /// Use the output of a shell command as the new password; one newline at its end is dropped
    #[arg(long, value_name = "CMD", group = "new-password", value_hint = ValueHint::CommandString)]
    pub(crate) new_password_command: Option<String>,
    /// Use no new password: the new keyfiles alone open the container
    #[arg(long, group = "new-password", requires = "new_keyfile")]
    pub(crate) new_no_password: bool,
    /// Also require this new keyfile; repeat for several, in any order
    #[arg(long, alias = "new-key-file", value_name = "FILE", action = ArgAction::Append)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) new_keyfile: Vec<PathBuf>,
}

/// When a keyslot is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PriorityChoice {
    /// Before the others
    Prefer,
    /// In numerical order
    Normal,
    /// Only with --slot or --unlock-slot
    Ignore,
}

const TEST_EXAMPLES: &str = "\
Examples:
  strongroom key test photos.vault
  strongroom key test photos.vault --keyfile ~/.keys/work --no-password";

const ADD_EXAMPLES: &str = "\
Examples:
  strongroom key add photos.vault --label anna
  strongroom key add photos.vault --new-keyfile /media/stick/key --new-no-password
  strongroom key add photos.vault --recovery --label paper
  strongroom key add photos.vault --fido2 --label stick
  strongroom key add photos.vault --password-file old --new-password-file new";

const CHANGE_EXAMPLES: &str = "\
Examples:
  strongroom key change photos.vault
  strongroom key change photos.vault --slot 2 --unlock-slot 0
  strongroom key change photos.vault --keep-password --label anna
  strongroom key change old.hc --format veracrypt --keep-password --new-prf argon2id";

const REMOVE_EXAMPLES: &str = "\
Examples:
  strongroom key list photos.vault
  strongroom key remove photos.vault --slot 2";
