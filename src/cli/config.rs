//! What a user wants of every vault, or of one, without saying so each time: `config.toml`.
//!
//! The system's file comes first, then the user's own. It chooses among what the command line could say, and what that says counts
//! before it. A vault is found by its path, or by the UUID in its header: nothing else of a container is looked at.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use rustix::{fs::OFlags, process::geteuid};
use serde::Deserialize;
use strongroom::{
    error::{Error, ErrorKind, Result},
    mount::{CloseAt, MountOptions},
    sys::process::is_root,
    text::in_one_line,
    unlock::opening::{is_opaque, take_only_partition},
    volume::Access,
};
use toml::Spanned;

use super::{
    args::{BusyChoice, Command, DriverChoice, IdleTime, MountingOptions, OwnersChoice},
    ask::AskChoice,
    folders, interrupt, mounting,
    output::Console,
    unlock::{read_header, settle_format},
};

/// Gives `mount` and `open` what they were not told.
///
/// # Errors
/// `Usage` where a file has a mistake, naming the line; `Permission` where somebody else could have written it.
pub(crate) fn apply(console: Console, command: &mut Command) -> Result<()> {
    let (container, mounting, open) = match command {
        Command::Mount(options) => (&options.container, &mut options.mounting, None),
        Command::Open(options) => {
            let open = (&mut options.at, &mut options.bookmark);
            (&options.container, &mut options.mounting, Some(open))
        }
        _ => return Ok(()),
    };
    if mounting.read_only && mounting.options().read_only() == Some(false) {
        return Err(Error::new(ErrorKind::Usage, "cannot be used with --read-only").during("-o rw"));
    }
    let files = files()?;
    if files.is_empty() {
        return Ok(());
    }
    let names = Names::of(console, container, mounting, &files);
    // The best first: what a user says of a vault, the system of it, the user of all, the system of all.
    let wishes: Vec<_> = files
        .iter()
        .rev()
        .flat_map(|file| names.find(&file.vault))
        .chain(files.iter().rev().map(|file| &file.defaults))
        .collect();
    let folder = wishes.iter().find_map(|wishes| wishes.at.as_ref());
    if let Some((at, bookmark)) = open {
        *at = at.take().or_else(|| Some(folder?.get_ref().0.clone()));
        *bookmark |= wishes.iter().find_map(|wishes| wishes.bookmark).unwrap_or_default();
    }
    mounting.remember |=
        wishes.iter().find_map(|wishes| wishes.remember.as_ref()).is_some_and(|it| *it.get_ref());
    for wishes in wishes {
        wishes.fill(mounting);
    }
    Ok(())
}

/// Where a user wants to be asked.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    pub(crate) ask: Option<AskChoice>,
    /// The program that stands for `pinentry`.
    pub(crate) pinentry: Option<PathBuf>,
}

/// What the files say of that.
///
/// # Errors
/// As [`apply`].
pub(crate) fn asking() -> Result<Asking> {
    let mut asking = Asking::default();
    for file in files()? {
        asking.ask = file.ask.map(|ask| ask.0).or(asking.ask);
        asking.pinentry = file.pinentry.map(|program| program.0).or(asking.pinentry);
    }
    Ok(asking)
}

/// The files that there are, the system's first.
fn files() -> Result<Vec<Choices>> {
    let mut files = Vec::new();
    for path in places() {
        files.extend(
            interrupt::asking_at_liberty(&path, || read(&path))
                .map_err(|error| error.during(format!("cannot use {}", path.display())))?,
        );
    }
    Ok(files)
}

/// Where such files may be. Root has the system's alone: whatever home `sudo` names is somebody else's.
fn places() -> Vec<PathBuf> {
    let own = if is_root() { None } else { folders::of_user("XDG_CONFIG_HOME", ".config") };
    let own = own.map(|folder| folder.join("strongroom/config.toml"));
    [Some(PathBuf::from(SYSTEM)), own].into_iter().flatten().collect()
}

/// What a file says; `None` where there is none.
fn read(path: &Path) -> Result<Option<Choices>> {
    let flags = (OFlags::CLOEXEC | OFlags::NONBLOCK).bits().cast_signed();
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        // A link that leads nowhere is a mistake of whoever made it.
        Err(error)
            if [std::io::ErrorKind::NotFound, std::io::ErrorKind::NotADirectory].contains(&error.kind())
                && !path.is_symlink() =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(Error::new(ErrorKind::Usage, "it is not a file"));
    }
    if ![0, geteuid().as_raw()].contains(&found.uid()) {
        return Err(Error::new(ErrorKind::Permission, "it belongs to somebody else"));
    }
    if found.mode() & 0o022 != 0 {
        return Err(Error::new(ErrorKind::Permission, "others may write to it").with_hint("chmod go-w it"));
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).map_or(true, |len| len > MOST_BYTES) {
        return Err(Error::new(ErrorKind::Usage, "it is longer than 64 KiB"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = String::from_utf8_lossy(before).matches('\n').count() + 1;
        Error::new(ErrorKind::Usage, format!("line {line}: it is not UTF-8"))
    })?;
    parse(text).map(Some)
}

fn parse(text: &str) -> Result<Choices> {
    let wrong = |at: Option<usize>, why: &str| {
        let line = at.and_then(|at| text.get(..at)).map(|before| before.matches('\n').count() + 1);
        let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        Error::new(ErrorKind::Usage, in_one_line(&format!("{line}{why}")))
    };
    let choices: Choices =
        toml::from_str(text).map_err(|error| wrong(error.span().map(|span| span.start), error.message()))?;
    let Wishes { at, remember, .. } = &choices.defaults;
    if let Some(at) = at {
        let why = "at: each vault has a place of its own; name it in [vault.\"FILE\"]";
        return Err(wrong(Some(at.span().start), why));
    }
    if let Some(remember) = remember {
        let why = "remember: say it of each vault, in [vault.\"FILE\"]";
        return Err(wrong(Some(remember.span().start), why));
    }
    Ok(choices)
}

/// A whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Choices {
    ask: Option<Ask>,
    pinentry: Option<Program>,
    #[serde(default)]
    defaults: Wishes,
    #[serde(default)]
    vault: BTreeMap<VaultName, Wishes>,
}

/// What is wanted of a vault, or of all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Wishes {
    idle: Option<IdleTime>,
    close_at: Option<Occasions>,
    when_busy: Option<Busy>,
    options: Option<MountOptions>,
    at: Option<Spanned<Folder>>,
    bookmark: Option<bool>,
    remember: Option<Spanned<bool>>,
    read_only: Option<bool>,
    driver: Option<Driver>,
    owner: Option<Owner>,
}

impl Wishes {
    /// Fills in what is not there yet. Mount options are put before those that are.
    fn fill(&self, mounting: &mut MountingOptions) {
        mounting.idle = mounting.idle.or(self.idle);
        mounting.close_at = mounting.close_at.take().or_else(|| Some(self.close_at.as_ref()?.0.clone()));
        mounting.when_busy = mounting.when_busy.or(self.when_busy.map(|busy| busy.0));
        mounting.driver = mounting.driver.or(self.driver.map(|driver| driver.0));
        mounting.owners = mounting.owners.or(self.owner.map(|owner| owner.0));
        let is_said = mounting.read_only || mounting.options().read_only().is_some();
        let access = self.read_only.filter(|_| !is_said);
        let access = access.map(|read_only| if read_only { "ro" } else { "rw" });
        mounting.options.splice(0..0, access.and_then(|access| MountOptions::parse(access).ok()));
        mounting.options.splice(0..0, self.options.clone());
    }
}

/// A vault's path, or its UUID.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
enum VaultName {
    Path(PathBuf),
    Uuid(String),
}

impl TryFrom<String> for VaultName {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        if text.contains('/') {
            return Folder::try_from(text).map(|Folder(path)| Self::Path(path));
        }
        if is_uuid(&text) {
            Ok(Self::Uuid(text.to_ascii_lowercase()))
        } else {
            Err(format!("{text:?} is neither a whole path nor a UUID"))
        }
    }
}

/// Whether it looks like a UUID.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// A whole path; `~/` is the home.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Folder(PathBuf);

impl TryFrom<String> for Folder {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let path = match text.strip_prefix("~/") {
            Some(rest) => folders::home().ok_or("there is no home")?.join(rest),
            None => PathBuf::from(&text),
        };
        if path.is_absolute() { Ok(Self(path)) } else { Err(format!("{text:?} is not a whole path")) }
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Occasions(CloseAt);

impl TryFrom<String> for Occasions {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        CloseAt::parse(&text).map(Self)
    }
}

/// The whole path of a program.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Program(PathBuf);

impl TryFrom<String> for Program {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        if text.starts_with('/') {
            Ok(Self(text.into()))
        } else {
            Err(format!("{text:?} is not a whole path"))
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Busy(BusyChoice);

impl TryFrom<String> for Busy {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        BusyChoice::from_str(&text, false)
            .map(Self)
            .map_err(|_| format!("{text:?} is neither wait nor force"))
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Ask(AskChoice);

impl TryFrom<String> for Ask {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        AskChoice::from_str(&text, false)
            .map(Self)
            .map_err(|_| format!("{text:?} is neither terminal, pinentry nor systemd"))
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Driver(DriverChoice);

impl TryFrom<String> for Driver {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        DriverChoice::from_str(&text, false).map(Self).map_err(|_| format!("{text:?} is not a driver"))
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Owner(OwnersChoice);

impl TryFrom<String> for Owner {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        OwnersChoice::from_str(&text, false).map(Self).map_err(|_| format!("{text:?} is neither me nor real"))
    }
}

/// By what names a container may be found. None of those in the files is looked at: it may lie on a medium that hangs.
struct Names {
    paths: Vec<PathBuf>,
    uuid: Option<String>,
}

impl Names {
    fn of(console: Console, container: &Path, mounting: &MountingOptions, files: &[Choices]) -> Self {
        let canonical = interrupt::asking_at_liberty(container, || Ok(container.canonicalize()?)).ok();
        let paths = std::path::absolute(container).into_iter().chain(canonical).collect();
        let is_uuid = |name: &VaultName| matches!(name, VaultName::Uuid(_));
        let asks_uuid = files.iter().any(|file| file.vault.keys().any(is_uuid));
        // What is wrong with it is told when it is opened.
        let uuid = if asks_uuid { uuid_of(console, container, mounting).ok().flatten() } else { None };
        Self { paths, uuid: uuid.map(|uuid| uuid.to_ascii_lowercase()) }
    }

    /// What is said of it by its path, then by its UUID.
    fn find<'a>(&'a self, vaults: &'a BTreeMap<VaultName, Wishes>) -> impl Iterator<Item = &'a Wishes> {
        let by_path = self.paths.iter().find_map(|path| vaults.get(&VaultName::Path(path.clone())));
        let by_uuid = self.uuid.clone().and_then(|uuid| vaults.get(&VaultName::Uuid(uuid)));
        by_path.into_iter().chain(by_uuid)
    }
}

/// What the mount will tell and ask is neither told nor asked here.
fn uuid_of(console: Console, path: &Path, mounting: &MountingOptions) -> Result<Option<String>> {
    let unlock = &mounting.unlock;
    let mut container = mounting::open(path, unlock.header_file(), Access::ReadOnly)?;
    let (front, known) = (unlock.front(console), unlock.known());
    take_only_partition(&front, &mut container, &known)?;
    if unlock.format.named().is_none() && is_opaque(&front, &container)? {
        // No format that may be in it has a UUID.
        return Ok(None);
    }
    settle_format(console, &mut container, unlock)?;
    Ok(read_header(&container)?.describe().uuid)
}

const SYSTEM: &str = "/etc/strongroom/config.toml";
const MOST_BYTES: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_mistake_is_told_with_its_line() {
        for (text, told) in [
            ("[defaults]\nidel = \"15m\"\n", "line 2: unknown field `idel`"),
            ("[defaults]\n\nidle = \"soon\"\n", "line 3: "),
            ("[defaults]\noptions = \"suid\"\n", "line 2: suid: a volume must not"),
            ("[defaults]\nclose-at = \"dusk\"\n", "line 2: \"dusk\" is none of sleep, logout, lock and none"),
            ("[defaults]\nwhen-busy = \"ask\"\n", "line 2: \"ask\" is neither wait nor force"),
            ("[defaults]\ndriver = \"fast\"\n", "line 2: \"fast\" is not a driver"),
            ("[defaults]\nremember = true\n", "line 2: remember: say it of each vault"),
            ("[defaults]\nat = \"/mnt\"\n", "line 2: at: each vault has a place of its own"),
            ("[vault.photos]\nidle = \"1h\"\n", "\"photos\" is neither a whole path nor a UUID"),
            ("[vault.\"/a\"]\nat = \"b\"\n", "line 2: \"b\" is not a whole path"),
            ("pinentry = \"pinentry-qt\"\n", "line 1: \"pinentry-qt\" is not a whole path"),
            ("ask = \"dialog\"\n", "line 1: \"dialog\" is neither terminal"),
            ("[defaults\n", "line 1: "),
            ("[defaults]\npassword = \"x\"\n", "line 2: unknown field `password`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.kind() == ErrorKind::Usage && error.reason().contains(told), "{text}: {error}");
            assert!(!error.reason().contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_file_is_read_only_if_nobody_else_could_have_written_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        assert!(read(&path).unwrap().is_none());
        assert!(read(Path::new("/dev/null/config.toml")).unwrap().is_none());
        fs::write(&path, "[defaults]\nidle = \"15m\"\n").unwrap();
        for mode in [0o600, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(read(&path).unwrap().is_some());
        }
        for mode in [0o664, 0o646] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::Permission, "{mode:o}");
        }
        assert!(read(folder.path()).is_err() && read(Path::new("/dev/zero")).is_err());
        fs::write(&path, "# long\n".repeat(20_000)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(read(&path).unwrap_err().reason().contains("64 KiB"));
    }

    #[test]
    fn a_vault_is_found_by_its_path_before_its_uuid() {
        let uuid = "6B3A0F1C-0000-4000-8000-00000000000a";
        let text = format!("[vault.\"/a/v\"]\nread-only = true\n[vault.\"{uuid}\"]\nread-only = false\n");
        let choices = parse(&text).unwrap();
        let names = Names { paths: vec!["/b".into(), "/a/v".into()], uuid: Some(uuid.to_ascii_lowercase()) };
        let found: Vec<_> = names.find(&choices.vault).map(|wishes| wishes.read_only).collect();
        assert_eq!(found, [Some(true), Some(false)]);
        let none = Names { paths: vec!["/b".into()], uuid: None };
        assert_eq!(none.find(&choices.vault).count(), 0);
    }
}
