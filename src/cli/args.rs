//! What the command line takes. The doc comments here are the help texts and the manual.

mod check;
mod compact;
mod convert;
mod erase;
mod forget;
mod freeotfe;
mod header;
mod hidden;
mod images;
mod key;
mod mount;
mod opaque;
mod place;
mod reencrypt;
mod resize;
mod stick;

use std::{path::PathBuf, time::Duration};

use clap::{
    ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum, ValueHint,
    builder::{PossibleValuesParser, TypedValueParser},
    value_parser,
};
use clap_complete::Shell;
use strongroom::{
    crypto::{hash::HashKind, kdf::KdfKind},
    format::{
        Format, luks1, luks2, native,
        veracrypt::{self, MAX_PIM, Prf},
    },
    storage::pieces::{LEAST_PIECE_LEN, MOST_PIECE_LEN},
    sys::user::User,
    units::SectorSize,
    unlock::{self, HeaderFile},
};

pub(crate) use key::{
    KeyAddOptions, KeyChangeOptions, KeyCommand, KeyListOptions, KeyRemoveOptions, KeyTestOptions,
    NewSecretOptions, PriorityChoice,
};

pub(crate) use compact::CompactOptions;
pub(crate) use convert::{ConvertOptions, Split};
pub(crate) use freeotfe::FreeOtfeOptions;
pub(crate) use hidden::{NewSealOptions, ProtectOptions};
pub(crate) use mount::{
    BusyChoice, CloseOptions, DriverChoice, IdleTime, MountOptions, MountingOptions, OpenOptions,
    OwnersChoice, SyncOptions, UnmountOptions,
};
pub(crate) use opaque::{HintOptions, OpenFormat};
pub(crate) use place::PlaceOptions;
pub(crate) use reencrypt::{CipherChoice, ReencryptOptions};
pub(crate) use resize::ResizeOptions;
pub(crate) use stick::StickOptions;

use super::{ask::AskChoice, limits::parse_time, size::parse_size};
use check::CHECK_EXAMPLES;
use erase::ERASE_EXAMPLES;
use images::{EXPORT_EXAMPLES, IMPORT_EXAMPLES};

pub(crate) use header::{HeaderBackupOptions, HeaderCommand, HeaderRepairOptions, HeaderRestoreOptions};
pub(crate) use {
    check::CheckOptions,
    erase::EraseOptions,
    forget::ForgetOptions,
    images::{ExportOptions, ImportOptions},
};

/// Encrypted vaults: create, mount and carry them, without root
#[derive(Debug, Parser)]
#[command(name = "strongroom", version, after_help = TOP_EXAMPLES, max_term_width = 100)]
#[command(subcommand_value_name = "COMMAND", subcommand_help_heading = "Commands")]
#[command(disable_help_subcommand = true, infer_long_args = false)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) output: OutputOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How results and messages are shown.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputOptions {
    /// Print one JSON object on standard output; sizes are in bytes
    #[arg(long, global = true, display_order = 900)]
    pub(crate) json: bool,
    /// Print only data, errors and warnings of data loss
    #[arg(short, long, global = true, display_order = 901, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say what is being done
    #[arg(short, long, global = true, display_order = 902)]
    pub(crate) verbose: bool,
    /// Where to ask for a password: on the terminal, in a window, or by systemd's agents [default: terminal; pinentry where there
    /// is only a display]
    #[arg(long, value_enum, value_name = "WHERE", global = true, display_order = 903)]
    pub(crate) ask: Option<AskChoice>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a container
    #[command(after_help = CREATE_EXAMPLES)]
    Create(Box<CreateOptions>),
    /// Mount a container on ~/Vaults/NAME, or say where it is mounted already
    #[command(after_help = mount::OPEN_EXAMPLES)]
    Open(Box<OpenOptions>),
    /// Unmount what you opened last, or what you name
    #[command(after_help = mount::CLOSE_EXAMPLES)]
    Close(CloseOptions),
    /// Open a container and mount what is inside
    #[command(after_help = mount::MOUNT_EXAMPLES)]
    Mount(Box<MountOptions>),
    /// Unmount a volume and wipe its keys
    #[command(visible_aliases = ["umount", "dismount"], after_help = mount::UNMOUNT_EXAMPLES)]
    Unmount(UnmountOptions),
    /// Show what is mounted
    #[command(visible_alias = "status")]
    List(ListOptions),
    /// Bring the container file of a mounted volume up to date, for a backup
    ///
    /// What programs write reaches the container file within half a minute. After this command all of it is there. You can copy the
    /// file while the volume stays mounted, as long as nobody writes to it meanwhile.
    #[command(after_help = mount::SYNC_EXAMPLES)]
    Sync(SyncOptions),
    /// Show a container's header and keyslots; only TrueCrypt and VeraCrypt need the password
    Info(Box<InfoOptions>),
    /// Work with the keyslots of a container
    #[command(subcommand, subcommand_value_name = "COMMAND", subcommand_help_heading = "Commands")]
    Key(KeyCommand),
    /// Back up, restore and repair the header of a container
    #[command(subcommand, subcommand_value_name = "COMMAND", subcommand_help_heading = "Commands")]
    Header(HeaderCommand),
    /// Give a container a new volume key, another cipher or sector size
    ///
    /// Encrypts everything again in place, even while the container is mounted and in use. You may stop it at any time; the same
    /// command continues it, and a power cut loses nothing. Afterwards old passwords and old header backups no longer open the
    /// container. Other keyslots are kept only if you give their passwords or recovery keys.
    #[command(after_help = reencrypt::EXAMPLES)]
    Reencrypt(Box<ReencryptOptions>),
    /// Make a container larger or smaller
    ///
    /// Fills new space with random bytes, then updates the header. A power cut at any moment leaves a container that opens.
    #[command(after_help = resize::EXAMPLES)]
    Resize(Box<ResizeOptions>),
    /// Give the free space of a thin container back
    ///
    /// What is deleted in a thin container keeps its room on the medium until then. A power cut at any moment loses nothing.
    #[command(after_help = compact::EXAMPLES)]
    Compact(Box<CompactOptions>),
    /// Make a folder of pieces of a container that is one file, or the other way round
    ///
    /// Copies the ciphertext, and compares what came to the medium. If it is broken off, the same command goes on.
    #[command(after_help = convert::EXAMPLES)]
    Convert(Box<ConvertOptions>),
    /// Put a vault on a mounted USB stick, with the program that opens it on other machines
    ///
    /// Writes four files: the vault, this program, the script open.sh that starts it, and READ-ME.txt. Another Linux machine opens
    /// the vault with sh open.sh, without anything installed but FUSE. Nothing on the stick is overwritten.
    #[command(after_help = stick::EXAMPLES)]
    Stick(Box<StickOptions>),
    /// Make a container from the image of a disk or a file system
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(Box<ImportOptions>),
    /// Write the content of a container to a file or a device, unencrypted
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(Box<ExportOptions>),
    /// Examine a container and report what is wrong with it
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Box<CheckOptions>),
    /// Destroy all keyslots and headers: no password will ever open the container again
    #[command(after_help = ERASE_EXAMPLES)]
    Erase(EraseOptions),
    /// Take a password out of your keyring that open --remember put there
    #[command(after_help = forget::EXAMPLES)]
    Forget(ForgetOptions),
    /// Show which ways of mounting work here, and what opens the others
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor,
    /// Measure ciphers, key derivations and memory here, in about ten seconds
    #[command(after_help = BENCHMARK_EXAMPLES)]
    Benchmark,
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsOptions),
    /// Print the manual, or the page of one command (roff)
    #[command(after_help = MAN_EXAMPLES)]
    Man(ManOptions),
    /// Show help, or the help of one command
    Help(HelpOptions),
}

#[derive(Debug, Args)]
pub(crate) struct CreateOptions {
    /// The file to make, or a block device; with --split the folder
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) container: PathBuf,
    /// Size of the container: 10G or 10GiB is 10·2^30 bytes, 10GB is 10·10^9; without it a device is used whole
    #[arg(short, long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) size: Option<u64>,
    /// File system to make inside
    #[arg(long, value_enum, default_value_t = FileSystemChoice::Ext4, value_name = "TYPE")]
    pub(crate) filesystem: FileSystemChoice,
    /// Owner of the new file system, by name or as numbers [default: you, also under sudo, pkexec and doas]
    #[arg(long, value_name = "USER|UID:GID", value_parser = User::named)]
    pub(crate) owner: Option<User>,
    /// Make a hidden VeraCrypt volume in the free space at the end of the volume in CONTAINER, which must not be mounted and holds
    /// a file system of FAT, exFAT, NTFS or ext2/3/4. The outer volume's password is asked for first, then the new one (--new-password-file and so on). Without --size it is as large as fits
    #[arg(long)]
    pub(crate) hidden: bool,
    #[command(flatten)]
    pub(crate) new: NewOptions,
    #[command(flatten)]
    pub(crate) hidden_secret: NewSecretOptions,
    #[command(flatten)]
    pub(crate) hidden_seal: NewSealOptions,
}

/// What a container is to be, however it is filled.
#[derive(Debug, Args)]
pub(crate) struct NewOptions {
    /// Container format
    #[arg(long, value_enum, default_value_t = NewFormat::Native, value_name = "FORMAT")]
    pub(crate) format: NewFormat,
    /// How disk space is allocated [default: thick, and thin with --split]
    #[arg(long, value_enum, value_name = "HOW")]
    pub(crate) provision: Option<ProvisionChoice>,
    /// Make a folder of pieces of this size (1M at least), for FAT32 and for programs that synchronise folders; each is made when
    /// something is written to it
    #[arg(long, value_name = "SIZE", value_parser = parse_piece_len, conflicts_with_all = ["force", "header"])]
    pub(crate) split: Option<u64>,
    /// A name for the container, readable without the password (64 bytes at most; LUKS2 47, LUKS1 has none)
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    /// Bytes in a sector: 512 or 4096; LUKS2 also 1024 or 2048, LUKS1 512 only [default: 4096 where the format and the size allow]
    #[arg(long, value_name = "BYTES", value_parser = any_sector_size_parser())]
    pub(crate) sector_size: Option<SectorSize>,
    /// How sectors are encrypted: aes-256-xts or aes-128-xts; LUKS also serpent-256-xts, twofish-256-xts and so on, or as
    /// cryptsetup writes it (aes-cbc-essiv:sha256); VeraCrypt a chain in encryption order (aes, twofish-aes, aes-twofish-serpent)
    /// [default: aes-256-xts; VeraCrypt aes]
    #[arg(long, value_name = "CIPHER")]
    pub(crate) cipher: Option<String>,
    /// Bits of the data key, for ciphers that take several; XTS has two keys in one
    #[arg(long, value_name = "BITS", value_parser = value_parser!(u32).range(64..=1024))]
    pub(crate) key_size: Option<u32>,
    /// Hash that derives the VeraCrypt header key from the password [default: sha512]
    #[arg(long, value_name = "NAME", value_parser = opaque::prf_parser())]
    pub(crate) prf: Option<Prf>,
    /// The PIM of a VeraCrypt header; 0 is the usual one
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(0..=i64::from(MAX_PIM)))]
    pub(crate) pim: Option<u32>,
    /// Put the header into this new file, and none into the container: without the file nobody can open it, or see what it is
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) header: Option<PathBuf>,
    /// Overwrite what is there, after asking
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not ask before overwriting (with --force)
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) cost: CostOptions,
    #[command(flatten)]
    pub(crate) secrets: SecretOptions,
}

/// What opening the new container shall cost. Measured for one second on this machine where not given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Key derivation (by default tuned on this machine to take about one second)")]
pub(crate) struct CostOptions {
    /// The key derivation: argon2id; LUKS2 also argon2i or pbkdf2, LUKS1 pbkdf2 only
    #[arg(long = "pbkdf", value_name = "NAME", value_parser = kdf_parser())]
    pub(crate) kind: Option<KdfKind>,
    /// The hash of PBKDF2 and of a new LUKS header [default: sha256]
    #[arg(long, value_name = "NAME", value_parser = hash_parser())]
    pub(crate) hash: Option<HashKind>,
    /// Argon2 memory, from 64M to 4G; LUKS2 from 32K
    #[arg(long = "kdf-memory", value_name = "SIZE", value_parser = parse_kdf_memory)]
    pub(crate) memory: Option<u32>,
    /// Argon2 passes over the memory, from 3 to 64; LUKS2 from 4
    #[arg(long = "kdf-passes", value_name = "N", value_parser = value_parser!(u32).range(3..=64))]
    pub(crate) passes: Option<u32>,
    /// Argon2 lanes, from 1 to 16; LUKS2 to 4
    #[arg(long = "kdf-lanes", value_name = "N", value_parser = value_parser!(u32).range(1..=16))]
    pub(crate) lanes: Option<u32>,
    /// PBKDF2 iterations, from 1000
    #[arg(long = "kdf-iterations", value_name = "N", value_parser = value_parser!(u32).range(1000..=1 << 28))]
    pub(crate) iterations: Option<u32>,
}

impl Command {
    /// The path of the container that exists already, of the commands that take one.
    pub(crate) fn container_mut(&mut self) -> Option<&mut PathBuf> {
        Some(match self {
            Self::Mount(options) => &mut options.container,
            Self::Open(options) => &mut options.container,
            Self::Info(options) => &mut options.container,
            Self::Key(command) => command.container_mut(),
            Self::Header(command) => command.container_mut(),
            Self::Reencrypt(options) => &mut options.container,
            Self::Resize(options) => &mut options.container,
            Self::Compact(options) => &mut options.container,
            Self::Convert(options) => &mut options.container,
            Self::Export(options) => &mut options.container,
            Self::Check(options) => &mut options.container,
            Self::Erase(options) => &mut options.container,
            Self::Unmount(options) => options.target.as_mut()?,
            Self::Close(options) => options.target.as_mut()?,
            Self::Sync(options) => &mut options.target,
            Self::Forget(options) => options.container.as_mut()?,
            _ => return None,
        })
    }
}

impl NewOptions {
    /// How disk space is allocated.
    pub(crate) fn provision(&self) -> ProvisionChoice {
        let usual = if self.split.is_some() { ProvisionChoice::Thin } else { ProvisionChoice::Thick };
        self.provision.unwrap_or(usual)
    }
}

/// Reads the size of a piece.
fn parse_piece_len(text: &str) -> Result<u64, String> {
    let len = parse_size(text).map_err(|error| error.to_string())?;
    if !(LEAST_PIECE_LEN..=MOST_PIECE_LEN).contains(&len) || !len.is_multiple_of(4096) {
        return Err("a piece has from 1 MiB to 1 TiB, in units of 4 KiB".to_owned());
    }
    Ok(len)
}

/// Which keyslot is tried.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct KeyslotOptions {
    /// Try only this keyslot, even if its priority is "ignore"
    #[arg(long, alias = "unlock-slot", value_name = "N")]
    pub(crate) slot: Option<u32>,
}

/// How far to go to open a container.
#[derive(Debug, Default, Args)]
pub(crate) struct UnlockOptions {
    /// Container format; TrueCrypt, VeraCrypt and FreeOTFE cannot be found by a signature
    #[arg(long, value_enum, default_value_t = OpenFormat::Auto, value_name = "FORMAT")]
    pub(crate) format: OpenFormat,
    /// How often to ask for the password [default: 3]
    #[arg(short = 'T', long, value_name = "N", value_parser = value_parser!(u32).range(1..=100))]
    pub(crate) tries: Option<u32>,
    /// Refuse keyslots that need more memory than this [default: 4G]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_kdf_memory: Option<u64>,
    /// Refuse keyslots that take longer than this on this machine [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) max_kdf_time: Option<Duration>,
    #[command(flatten)]
    pub(crate) place: PlaceOptions,
    /// Read the container's header from this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) header: Option<PathBuf>,
    /// Remember the header outside the container and refuse a different one from now on; =renew accepts a changed one, =require
    /// refuses one that was never remembered
    #[arg(long, value_enum, value_name = "WHEN", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "first-use", hide_possible_values = true)]
    pub(crate) pin: Option<PinChoice>,
    /// Unlock with a recovery key in place of the password
    #[arg(long, conflicts_with_all = ["security_key", "keyfile", "no_password"])]
    pub(crate) recovery_key: bool,
    /// Unlock with a FIDO2 token; its PIN, if it has one, takes the place of the password
    #[arg(long, conflicts_with_all = ["keyfile", "no_password"])]
    pub(crate) security_key: bool,
    #[command(flatten)]
    pub(crate) secrets: SecretOptions,
    #[command(flatten)]
    pub(crate) hints: HintOptions,
    #[command(flatten)]
    pub(crate) freeotfe: FreeOtfeOptions,
}

impl UnlockOptions {
    /// Where the header lies, if that is elsewhere.
    pub(crate) fn header_file(&self) -> HeaderFile<'_> {
        HeaderFile { path: self.header.as_deref(), format: self.format.named(), part: self.place.part() }
    }
}

#[derive(Debug, Args)]
pub(crate) struct InfoOptions {
    /// The container
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) container: PathBuf,
    #[command(flatten)]
    pub(crate) unlock: UnlockOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ListOptions {
    /// Print only the names that unmount takes, a line each: for completion scripts
    #[arg(long, hide = true)]
    pub(crate) names: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsOptions {
    /// The shell
    #[arg(value_parser = shell_parser())]
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct HelpOptions {
    /// The command, such as mount or key add
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ManOptions {
    /// Only the page of this command, such as mount or key add
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// Where the password and the keyfiles come from. Without any of these somebody is asked for the password.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Secrets (you are asked for the password where no source is given)")]
#[command(group = ArgGroup::new("password").multiple(false))]
pub(crate) struct SecretOptions {
    /// Read the password from a file; one newline at its end is dropped; - is standard input
    #[arg(long, value_name = "FILE", group = "password", value_hint = ValueHint::FilePath)]
    pub(crate) password_file: Option<PathBuf>,
    /// Read the password from an open file descriptor; one newline at its end is dropped
    #[arg(long, value_name = "N", group = "password", allow_negative_numbers = true, value_parser = value_parser!(i32).range(0..))]
    pub(crate) password_fd: Option<i32>,
    /// Use the output of a shell command as the password; one newline at its end is dropped
    #[arg(long, value_name = "CMD", group = "password", value_hint = ValueHint::CommandString)]
    pub(crate) password_command: Option<String>,
    /// Use no password: the keyfiles alone open the container
    #[arg(long, group = "password", requires = "keyfile")]
    pub(crate) no_password: bool,
    /// Also require this keyfile; repeat for several, in any order (VeraCrypt: or a folder of keyfiles)
    #[arg(short, long, alias = "key-file", value_name = "FILE", action = ArgAction::Append)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) keyfile: Vec<PathBuf>,
}

/// The formats that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NewFormat {
    /// strongroom's own
    Native,
    /// LUKS, version 1: for programs that know nothing newer
    Luks1,
    /// LUKS, version 2: what cryptsetup makes
    Luks2,
    /// VeraCrypt: nothing in it identifies it
    #[value(name = "veracrypt")]
    VeraCrypt,
    /// TrueCrypt: for its last versions; passwords are cheap to guess
    #[value(name = "truecrypt")]
    TrueCrypt,
}

impl NewFormat {
    /// The format.
    pub(crate) const fn format(self) -> &'static dyn Format {
        match self {
            Self::Native => &native::Native,
            Self::Luks1 => &luks1::Luks1,
            Self::Luks2 => &luks2::Luks2,
            Self::VeraCrypt => &veracrypt::VERACRYPT,
            Self::TrueCrypt => &veracrypt::TRUECRYPT,
        }
    }
}

/// What may be made inside a new container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileSystemChoice {
    Ext4,
    Exfat,
    #[value(alias = "fat", alias = "fat32")]
    Vfat,
    Xfs,
    Btrfs,
    Ntfs,
    /// Only the volume
    None,
}

/// How disk space is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProvisionChoice {
    /// Filled with random bytes: nobody can see how much is in use
    Thick,
    /// Set aside, but not filled
    Quick,
    /// Grows with use; shows which sectors are in use
    Thin,
}

/// When a header is pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PinChoice {
    // Documentation of values would spread every help text over twice the lines.
    FirstUse,
    Require,
    Renew,
}

impl From<PinChoice> for unlock::PinChoice {
    fn from(choice: PinChoice) -> Self {
        match choice {
            PinChoice::FirstUse => Self::FirstUse,
            PinChoice::Require => Self::Require,
            PinChoice::Renew => Self::Renew,
        }
    }
}

/// Whether the short help of `create`, `mount` and `open`, which has one page, leaves this option to the long one: hidden volumes, and
/// what has a good default.
pub(crate) fn is_rare(id: &str) -> bool {
    const BEGINNINGS: [&str; 2] = ["protect_", "new_"];
    const NAMES: [&str; 32] = [
        "backup_header",
        "bookmark",
        "cipher",
        "hash",
        "header",
        "hidden",
        "iterations",
        "key_iterations",
        "key_size",
        "kind",
        "lanes",
        "max_kdf_memory",
        "max_kdf_time",
        "owners",
        "memory",
        "no_cdb",
        "no_password",
        "offset",
        "partition",
        "passes",
        "password_fd",
        "pim",
        "pin",
        "prf",
        "recovery_key",
        "salt_length",
        "sector_size",
        "security_key",
        "slot",
        "system",
        "tries",
        "when_busy",
    ];
    BEGINNINGS.iter().any(|beginning| id.starts_with(beginning)) || NAMES.contains(&id)
}

/// Reads Argon2id's memory into KiB, within what a new keyslot may have.
fn parse_kdf_memory(text: &str) -> Result<u32, String> {
    let bytes = parse_size(text).map_err(|error| error.to_string())?;
    if !(32 << 10..=4 << 30).contains(&bytes) {
        return Err("must be from 32K to 4G".to_owned());
    }
    if !bytes.is_multiple_of(1024) {
        return Err("must be a multiple of 1K".to_owned());
    }
    u32::try_from(bytes / 1024).map_err(|error| error.to_string())
}

/// The sector sizes that a new container may have.
fn sector_size_parser() -> impl TypedValueParser<Value = SectorSize> {
    PossibleValuesParser::new(["512", "4096"])
        .try_map(|bytes| bytes.parse::<u32>().map_err(|error| error.to_string()))
        .try_map(SectorSize::try_from)
}

/// The same with those that only foreign formats have.
fn any_sector_size_parser() -> impl TypedValueParser<Value = SectorSize> {
    PossibleValuesParser::new(["512", "1024", "2048", "4096"])
        .try_map(|bytes| bytes.parse::<u32>().map_err(|error| error.to_string()))
        .try_map(SectorSize::try_from)
}

fn kdf_parser() -> impl TypedValueParser<Value = KdfKind> {
    let kinds = [KdfKind::Argon2id, KdfKind::Argon2i, KdfKind::Pbkdf2];
    PossibleValuesParser::new(kinds.map(KdfKind::name)).try_map(move |name| {
        kinds.into_iter().find(|kind| kind.name() == name).ok_or("no such key derivation")
    })
}

fn hash_parser() -> impl TypedValueParser<Value = HashKind> {
    PossibleValuesParser::new(HashKind::USUAL.map(HashKind::name))
        .try_map(|name| HashKind::from_name(&name).ok_or("no such hash"))
}

/// The shells that the manual promises.
fn shell_parser() -> impl TypedValueParser<Value = Shell> {
    PossibleValuesParser::new(["bash", "zsh", "fish", "elvish"]).try_map(|name| name.parse::<Shell>())
}

const TOP_EXAMPLES: &str = "\
Examples:
  strongroom create photos.vault --size 10G     create a vault
  strongroom open photos.vault                  open it, on ~/Vaults/photos
  strongroom close photos                       close it
  strongroom help mount                         all about one command
  strongroom man | man -l -                     read the manual";

const CREATE_EXAMPLES: &str = "\
Examples:
  strongroom create photos.vault --size 10G
  strongroom create work.vault --size 100G --provision thin --keyfile ~/.keys/work
  strongroom create shared.img --size 10G --format luks2
  strongroom create /dev/sdX --force --label backup
  strongroom create old.hc --size 10G --format veracrypt --filesystem exfat
  strongroom create old.hc --format veracrypt --hidden --size 2G";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  strongroom doctor
  strongroom doctor --json | jq -r '.filesystems[] | select(.mount.ok).filesystem'";

const BENCHMARK_EXAMPLES: &str = "\
Examples:
  strongroom benchmark
  strongroom benchmark --json | jq '.xts[] | select(.sector_size == 4096)'";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  strongroom completions bash > ~/.local/share/bash-completion/completions/strongroom
  strongroom completions zsh > ~/.zfunc/_strongroom
  strongroom completions fish > ~/.config/fish/completions/strongroom.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  strongroom man | man -l -
  strongroom man mount | man -l -
  strongroom man > ~/.local/share/man/man1/strongroom.1";
