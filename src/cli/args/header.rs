//! The options of the `header` commands.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::{KeyslotOptions, UnlockOptions};

#[derive(Debug, Subcommand)]
pub(crate) enum HeaderCommand {
    /// Copy the header to a new file; needs no password, but for TrueCrypt and VeraCrypt
    #[command(after_help = BACKUP_EXAMPLES)]
    Backup(Box<HeaderBackupOptions>),
    /// Put a backed-up header back, after showing what it replaces
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(Box<HeaderRestoreOptions>),
    /// Rebuild header copies that are damaged, missing or stale from the good one
    #[command(after_help = REPAIR_EXAMPLES)]
    Repair(Box<HeaderRepairOptions>),
}

impl HeaderCommand {
    pub(crate) fn container_mut(&mut self) -> &mut PathBuf {
        match self {
            Self::Backup(options) => &mut options.container,
            Self::Restore(options) => &mut options.container,
            Self::Repair(options) => &mut options.container,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct HeaderBackupOptions {
    /// The container
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) container: PathBuf,
    /// The file to make
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) unlock: UnlockOptions,
}

#[derive(Debug, Args)]
pub(crate) struct HeaderRestoreOptions {
    /// The container
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) container: PathBuf,
    /// What header backup made
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Do not ask before replacing
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// With --yes: also over the header of another container, over a file system, a partition table or other known
    /// data, and over what could be a container of VeraCrypt or TrueCrypt, which shows no header
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) keyslot: KeyslotOptions,
    #[command(flatten)]
    pub(crate) unlock: UnlockOptions,
}

#[derive(Debug, Args)]
pub(crate) struct HeaderRepairOptions {
    /// The container, or what is left of it
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) container: PathBuf,
    /// Look for header copies in every sector, report them, and restore from one
    #[arg(long)]
    pub(crate) scan: bool,
    /// Do not ask before replacing
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// With --yes: also over a file system, a partition table or other known data, over headers of others, and over a
    /// copy that was newer
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) keyslot: KeyslotOptions,
    #[command(flatten)]
    pub(crate) unlock: UnlockOptions,
}

const BACKUP_EXAMPLES: &str = "\
Examples:
  strongroom header backup photos.vault photos.header
  strongroom header backup /dev/sdX1 ~/safe/stick.header

A backup opens with today's passwords, even if you change or remove them later.";

const RESTORE_EXAMPLES: &str = "\
Examples:
  strongroom header restore photos.vault photos.header
  strongroom header restore photos.vault photos.header --yes --password-file ~/.photos

--yes alone overwrites neither the header of another container, nor a file system, a partition table or other known data, nor what could be a
container of VeraCrypt or TrueCrypt, which shows no header. What is replaced is kept in a file beside the container, whose name is told.";

const REPAIR_EXAMPLES: &str = "\
Examples:
  strongroom header repair photos.vault
  strongroom header repair --scan /dev/sdX
  strongroom header repair --scan old.img --format veracrypt

--scan looks at all of the file or device, or of one partition. With it, --offset names the header copy to restore from.
Headers of VeraCrypt and TrueCrypt show nothing: with --format it tries the password at the places where they stand.

What is replaced and no other copy has is kept in a file, whose name is told.";
