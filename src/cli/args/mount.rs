//! What `mount`, `unmount`, `open`, `close` and `sync` take.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, ArgGroup, Args, ValueEnum, ValueHint};
use serde::Deserialize;
use strongroom::{
    export::Share,
    mount,
    sys::{process::is_root, user::caller_of_root},
};

use super::{KeyslotOptions, ProtectOptions, UnlockOptions, parse_time};

#[derive(Debug, Args)]
pub(crate) struct MountOptions {
    /// The container, or the UUID=... or LABEL=... of one that fills a device
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) container: PathBuf,
    /// An empty directory that belongs to you [default: ~/NAME, made for this mount and removed by unmount]
    #[arg(value_hint = ValueHint::DirPath, value_name = "MOUNTPOINT", required_if_eq("block", "true"))]
    pub(crate) mountpoint: Option<PathBuf>,
    /// Mount no file system; provide the decrypted volume as the file MOUNTPOINT/volume
    #[arg(long, conflicts_with_all = ["driver", "owners", "options", "share"])]
    pub(crate) block: bool,
    /// Stay in the foreground until the volume is unmounted
    #[arg(long)]
    pub(crate) foreground: bool,
    #[command(flatten)]
    pub(crate) mounting: MountingOptions,
}

#[derive(Debug, Args)]
pub(crate) struct OpenOptions {
    /// The container, or the UUID=... or LABEL=... of one that fills a device
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) container: PathBuf,
    /// Mount on this directory: an empty one of yours, or one to be made [default: ~/Vaults/NAME, made for this mount and
    /// removed by close]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) at: Option<PathBuf>,
    /// Show it in the file manager
    #[arg(long)]
    pub(crate) show: bool,
    /// Put a bookmark for it into file choosers and file managers (those of GTK) while it is open
    #[arg(long)]
    pub(crate) bookmark: bool,
    #[command(flatten)]
    pub(crate) mounting: MountingOptions,
}

/// How a container is opened and mounted, wherever that is.
#[derive(Debug, Args)]
pub(crate) struct MountingOptions {
    /// Write nothing, neither to the file system nor to the container: a journal is replayed in memory
    #[arg(short, long, alias = "readonly")]
    pub(crate) read_only: bool,
    /// How to mount the file system [default: auto]
    #[arg(long, value_enum, value_name = "DRIVER")]
    pub(crate) driver: Option<DriverChoice>,
    /// Whose the files are, under the builtin driver [default: real if the volume's root directory is yours, or you are
    /// root; else me]
    #[arg(long = "owner", value_enum, value_name = "WHO")]
    pub(crate) owners: Option<OwnersChoice>,
    /// Let these in too: user:NAME and group:NAME, with commas between them. Takes the builtin driver and, for ordinary users,
    /// the administrator's leave in /etc/fuse.conf
    #[arg(long, value_name = "WHOM", action = ArgAction::Append, value_parser = Share::parse)]
    pub(crate) share: Vec<Share>,
    /// Mount options, as mount(8) takes them: noatime, noexec, sync, compress=zstd; refused where the driver does not keep to them
    #[arg(short, long, value_name = "OPTIONS", action = ArgAction::Append, value_parser = mount::MountOptions::parse)]
    pub(crate) options: Vec<mount::MountOptions>,
    /// Close it by itself once nothing has used it for this long: 90s, 15m, 2h, or never
    #[arg(long, value_name = "TIME", value_parser = IdleTime::parse)]
    pub(crate) idle: Option<IdleTime>,
    /// Close it by itself before the machine sleeps, at your logout, or while the screen is locked: sleep, logout, lock, several
    /// with commas between them, or none [default: sleep,logout; for what root mounts by itself: none]
    #[arg(long, value_name = "WHEN", value_parser = mount::CloseAt::parse)]
    pub(crate) close_at: Option<mount::CloseAt>,
    /// What to do if it is in use when it should close by itself [default: wait]
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) when_busy: Option<BusyChoice>,
    /// Keep the password in the keyring of your desktop: from then on the container opens without it being asked for, until
    /// strongroom forget
    #[arg(long, conflicts_with_all = ["keyfile", "recovery_key", "security_key", "no_password"])]
    pub(crate) remember: bool,
    #[command(flatten)]
    pub(crate) keyslot: KeyslotOptions,
    #[command(flatten)]
    pub(crate) unlock: UnlockOptions,
    #[command(flatten)]
    pub(crate) protect: ProtectOptions,
}

impl MountingOptions {
    /// All mount options together.
    pub(crate) fn options(&self) -> mount::MountOptions {
        self.options.iter().fold(mount::MountOptions::default(), mount::MountOptions::and)
    }

    /// How it closes by itself.
    pub(crate) fn closing(&self) -> mount::Closing {
        let has_user = !is_root() || caller_of_root().is_some();
        mount::Closing {
            idle: self.idle.and_then(IdleTime::limit),
            at: self.close_at.clone().unwrap_or_else(|| mount::CloseAt::usual(has_user)),
            when_busy: self.when_busy.unwrap_or(BusyChoice::Wait).into(),
        }
    }

    /// Whether nothing is written: `--read-only`, or `-o ro`.
    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only || self.options().read_only().unwrap_or_default()
    }
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["target", "all"]))]
pub(crate) struct UnmountOptions {
    /// A container or a mount point
    #[arg(value_hint = ValueHint::AnyPath, value_name = "CONTAINER|MOUNTPOINT")]
    pub(crate) target: Option<PathBuf>,
    /// Unmount everything that you mounted
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Unmount even while files are open, or after the container was deleted. Unsaved data is lost; the keys are wiped
    #[arg(short, long)]
    pub(crate) force: bool,
    /// After unmounting, copy the container to this new file; for one that was deleted or replaced while mounted
    #[arg(long, value_name = "FILE", conflicts_with = "all", value_hint = ValueHint::FilePath)]
    pub(crate) save_as: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CloseOptions {
    /// The container, its mount point, or the NAME of ~/Vaults/NAME [default: what you opened last]
    #[arg(value_hint = ValueHint::AnyPath, value_name = "NAME", conflicts_with = "all")]
    pub(crate) target: Option<PathBuf>,
    /// Close everything that you opened or mounted
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Close it even while files are open. Unsaved data is lost; the keys are wiped
    #[arg(short, long)]
    pub(crate) force: bool,
    /// After closing, copy the container to this new file; for one that was deleted or replaced while open
    #[arg(long, value_name = "FILE", conflicts_with = "all", value_hint = ValueHint::FilePath)]
    pub(crate) save_as: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SyncOptions {
    /// A container or a mount point
    #[arg(value_hint = ValueHint::AnyPath, value_name = "CONTAINER|MOUNTPOINT")]
    pub(crate) target: PathBuf,
}

/// How long a volume may go without use before it closes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct IdleTime(Option<Duration>);

impl IdleTime {
    fn parse(text: &str) -> Result<Self, String> {
        let limit = if text == "never" { None } else { Some(parse_time(text)?) };
        Ok(Self(limit))
    }

    /// `None` where it stays open.
    pub(crate) const fn limit(self) -> Option<Duration> {
        self.0
    }
}

impl TryFrom<String> for IdleTime {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

/// What becomes of a volume that is in use when it should close by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BusyChoice {
    /// Leave it open, and say who uses it
    Wait,
    /// Save what was written and close it: 30 seconds after a warning, or at once before the machine sleeps
    Force,
}

impl From<BusyChoice> for mount::WhenBusy {
    fn from(choice: BusyChoice) -> Self {
        match choice {
            BusyChoice::Wait => Self::Wait,
            BusyChoice::Force => Self::Force,
        }
    }
}

/// What mounts the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DriverChoice {
    /// The kernel for root, else builtin; without a mount point, udisks for what builtin does not write
    Auto,
    /// Loop device and the kernel's file system; needs root
    Kernel,
    /// Without root: FAT, exFAT, ext2/3/4; NTFS, ISO 9660 and UDF for reading, by strongroom
    #[value(alias = "userspace")]
    Builtin,
    /// Without root: whatever the kernel knows, where udisks likes, below /run/media or /media; name no mount point
    Udisks,
}

/// Whose the files of a volume are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OwnersChoice {
    /// Yours, whatever the volume says
    Me,
    /// Those that the volume names
    Real,
}

pub(crate) const MOUNT_EXAMPLES: &str = "\
Examples:
  strongroom mount photos.vault ~/photos
  strongroom mount photos.vault                 on ~/photos, which is made
  strongroom mount photos.vault ~/photos --read-only --password-command 'pass show photos'
  strongroom mount --block disk.vault ~/disk    then use ~/disk/volume";

pub(crate) const UNMOUNT_EXAMPLES: &str = "\
Examples:
  strongroom unmount ~/photos
  strongroom unmount photos.vault
  strongroom unmount --all --force
  strongroom unmount ~/photos --save-as rescued.vault";

pub(crate) const SYNC_EXAMPLES: &str = "\
Examples:
  strongroom sync ~/photos && cp photos.vault /media/backup/";

pub(crate) const OPEN_EXAMPLES: &str = "\
Examples:
  strongroom open photos.vault                  on ~/Vaults/photos
  strongroom open photos.vault --show           and show it in the file manager
  strongroom open photos.vault --remember       next time without a password, as long as you are logged in to your desktop
  strongroom open old.hc --format veracrypt --at ~/old";

pub(crate) const CLOSE_EXAMPLES: &str = "\
Examples:
  strongroom close                              what you opened last
  strongroom close photos
  strongroom close --all";
