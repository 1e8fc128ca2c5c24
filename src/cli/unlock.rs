//! From a path and what the user knows to an unlocked header.

use std::{
    fs::File,
    io::IsTerminal,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use strongroom::{
    crypto::{kdf::KdfLimits, secret::Credentials},
    error::{Error, ErrorKind, Result},
    format::{
        Attempt, Header, HeaderInfo, KeyfileRole, Severity, Unlocked, folder, freeotfe,
        native::{SlotKind, left_behind},
        veracrypt::Family,
    },
    sys::memory::is_any_secret_unlocked,
    text::path::command_word,
    volume::{
        Container, EMPTY, ZEROS, check_file_system, header_without_container, only_container,
        partition_range, range_from,
    },
};

use super::{
    args::{HeaderFile, OpenFormat, PlaceOptions, UnlockOptions},
    interrupt,
    limits::{advise, limits},
    oddity,
    output::Console,
    pin,
    progress::{self, TrialProgress},
    prompt, token,
};

/// Opens a container only to look at it: without a lock, so also while it is mounted.
pub(crate) fn inspect(path: &Path, options: &UnlockOptions) -> Result<(Container, Box<dyn Header>)> {
    let mut container = open_to_look(path, options.header_file())?;
    settle_format(&mut container, options)?;
    let header = read_header(&container)?;
    Ok((container, header))
}

/// The header of a container.
pub(crate) fn read_header(container: &Container) -> Result<Box<dyn Header>> {
    let path = container.path();
    interrupt::asking_at_liberty(path, || container.header()).map_err(|error| cannot_open(error, path))
}

/// The same where a header file without its container will do; with the container, where that is there.
pub(crate) fn inspect_header(
    path: &Path,
    options: &UnlockOptions,
) -> Result<(Box<dyn Header>, Option<Container>)> {
    let mut container = open_to_look(path, options.header_file())?;
    settle_format(&mut container, options)?;
    let opened = |error| cannot_open(error, path);
    match header_without_container(&container).map_err(opened)? {
        Some(header) => Ok((header, None)),
        None => Ok((container.header().map_err(opened)?, Some(container))),
    }
}

/// What is missing of a container by its header, which may be opened already: in so many words.
///
/// # Errors
/// What asking for its size gave.
pub(crate) fn missing_part(container: &Container, info: &HeaderInfo) -> Result<Option<String>> {
    let there = container.storage().size()?;
    let size = info.container_size;
    Ok((there < size).then(|| format!("the container is cut off: {there} of {size} bytes are there")))
}

/// Lets a container be what the options say that it is. Where nothing in it says what it is, the user may agree on the
/// terminal to have it tried as one of TrueCrypt or VeraCrypt.
///
/// # Errors
/// `Usage` for options that the container's format does not have.
pub(crate) fn settle_format(container: &mut Container, options: &UnlockOptions) -> Result<()> {
    let hints = options.hints;
    let named = match (options.format.named(), options.freeotfe.is_any()) {
        (None, true) if is_opaque(container)? => OpenFormat::FreeOtfe.named(),
        (named, _) => named,
    };
    if let Some(format) = named {
        if hints.is_any() && !options.format.takes_hints() {
            return Err(not_for(VERACRYPT_ONLY, format.name()));
        }
        if options.freeotfe.is_any() && format.name() != freeotfe::NAME {
            return Err(not_for(FREEOTFE_ONLY, format.name()));
        }
        container.assume(format);
        return Ok(());
    }
    if options.freeotfe.is_any() {
        return container
            .format()
            .map_or_else(|_| Ok(()), |format| Err(not_for(FREEOTFE_ONLY, format.name())));
    }
    // A drive with an encrypted system has a partition table, or what else its boot loader needs.
    let is_opaque = is_opaque(container)? || (hints.system && container.format().is_err());
    match (is_opaque, hints.is_any()) {
        (false, true) => {
            container.format().map_or_else(|_| Ok(()), |format| Err(not_for(VERACRYPT_ONLY, format.name())))
        }
        (true, true) => {
            container.assume(OpenFormat::opaque());
            Ok(())
        }
        (true, false) if prompt::has_terminal() && std::io::stdin().is_terminal() => {
            // What is left of a container is named before anything is guessed.
            if left_behind(&*container.storage())?.is_some() {
                return Ok(());
            }
            let name = container.path().display().to_string();
            let question = format!(
                "{name} shows no strongroom or LUKS header. It may be a VeraCrypt or TrueCrypt container, which cannot be recognised without its password (if its header is in a file of its own, say no and name that file with --header). Try VeraCrypt and TrueCrypt (takes some seconds)?"
            );
            if prompt::is_confirmed(&question, "yes")? {
                container.assume(OpenFormat::opaque());
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Whether nothing in the container says what it is. Reads its beginning for the first time.
pub(crate) fn is_opaque(container: &Container) -> Result<bool> {
    interrupt::asking_at_liberty(container.path(), || container.is_opaque())
}

fn not_for(options: &str, format: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("{options} do not apply to this format ({format})"))
}

/// The same without reading the header, which may be damaged.
pub(crate) fn open_to_look(path: &Path, header: HeaderFile<'_>) -> Result<Container> {
    interrupt::asking_at_liberty(path, || {
        check_kind(path)?;
        let mut container = Container::peek(path).map_err(|error| cannot_open(error, path))?;
        attach(&mut container, header, Container::peek)?;
        Ok(container)
    })
}

/// Lets a container be the part of the file that the options name.
///
/// # Errors
/// `Usage` where the file has no such part.
fn narrow(container: &mut Container, place: PlaceOptions) -> Result<()> {
    let storage = container.storage();
    let range = match (place.partition, place.offset) {
        (Some(number), _) => partition_range(&*storage, number)?,
        (None, Some(offset)) => range_from(&*storage, offset)?,
        (None, None) => return Ok(()),
    };
    container.narrow(range)
}

/// Lets a container be the one partition of it that holds a container, where nothing was said about the place, and says so.
///
/// # Errors
/// What reading gave.
pub(crate) fn find_partition(
    console: Console,
    container: &mut Container,
    options: &UnlockOptions,
) -> Result<()> {
    let Some(number) = take_only_partition(container, options)? else { return Ok(()) };
    let path = container.path().display();
    console.note(&format!(
        "strongroom: opening partition {number} of {path}, the only one that shows a container"
    ));
    Ok(())
}

/// The same without a word. Gives the partition's number.
///
/// # Errors
/// What reading gave.
pub(crate) fn take_only_partition(container: &mut Container, options: &UnlockOptions) -> Result<Option<u32>> {
    let is_settled = container.pieces().is_some()
        || options.place.is_any()
        || options.header.is_some()
        || options.format != OpenFormat::Auto
        || options.hints.is_any()
        || options.freeotfe.is_any();
    if is_settled {
        return Ok(None);
    }
    let storage = container.storage();
    let found = interrupt::asking_at_liberty(container.path(), || only_container(&storage))?;
    let Some(found) = found else { return Ok(None) };
    let Some(range) = found.partition.range(storage.size()?) else { return Ok(None) };
    container.narrow(range)?;
    Ok(Some(found.partition.number))
}

/// Lets `container` be the part of the file that `header` names, and take its header from the file in it, where there is one,
/// which `open` opens.
pub(crate) fn attach(
    container: &mut Container,
    header: HeaderFile<'_>,
    open: impl FnOnce(&Path) -> Result<Container>,
) -> Result<()> {
    narrow(container, header.place).map_err(|error| cannot_open(error, container.path()))?;
    let HeaderFile { path: Some(header), format, .. } = header else { return Ok(()) };
    if format == OpenFormat::FreeOtfe {
        // Any file could be its header: only the user knows.
        container.assume(&freeotfe::FreeOtfe);
    }
    let attached = if is_same_file(container, header) {
        Err(Error::new(ErrorKind::Usage, "it is the container itself"))
    } else {
        check_kind(header).and_then(|()| open(header)).and_then(|file| container.attach_header(&file))
    };
    attached.map_err(|error| error.during(format!("cannot open header file {}", header.display())))
}

fn is_same_file(container: &Container, path: &Path) -> bool {
    let number = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let [ours, theirs] = [container.file().metadata(), std::fs::metadata(path)].map(|it| it.map(number).ok());
    ours.is_some() && ours == theirs
}

/// Refuses what can be no container whatever it holds: a directory, a socket, a terminal.
pub(crate) fn check_kind(path: &Path) -> Result<()> {
    let found = interrupt::asking_at_liberty(path, || Ok(std::fs::metadata(path)))?;
    let Ok(metadata) = found else { return Ok(()) };
    if metadata.is_file() || metadata.file_type().is_block_device() {
        return Ok(());
    }
    let error = if metadata.is_dir() {
        is_directory(path)
    } else {
        Error::new(ErrorKind::NotAContainer, "it is neither a file nor a block device")
    };
    Err(error.during(format!("cannot open {}", path.display())))
}

fn is_directory(path: &Path) -> Error {
    let error = |reason: String| Error::new(ErrorKind::NotAContainer, reason);
    let found = interrupt::asking_at_liberty(path, || Ok(folder::recognise(path)));
    match found.ok().flatten() {
        Some(known) => error(format!("not a container; this is {}", known.name))
            .with_hint(known.way_in.replace("FOLDER", &command_word(path))),
        None => error("it is a directory".to_owned()).with_hint("the container comes first"),
    }
}

/// Says which container could not be opened, and what may help.
pub(crate) fn cannot_open(error: Error, path: &Path) -> Error {
    let error = error.during(format!("cannot open {}", path.display()));
    match error.kind() {
        // What is recognised as something else looks like no container of VeraCrypt's.
        ErrorKind::NotAContainer if error.reason().ends_with(ZEROS) => error.with_hint(ALL_ZEROS),
        ErrorKind::NotAContainer if error.reason().ends_with(EMPTY) => error.with_hint(NOTHING_LEFT),
        ErrorKind::NotAContainer if error.reason().contains("; this is ") => error.with_hint(OVERWRITTEN),
        ErrorKind::NotAContainer if error.reason().starts_with("no ") => error.with_hint(NO_SIGNATURE),
        // Of one that can be read it is the writing that is refused.
        ErrorKind::Permission if error.hint().is_none() && File::open(path).is_err() => {
            error.with_hint(way_to_rights(path))
        }
        ErrorKind::NotFound if error.hint().is_none() => match with_ending(path) {
            Some(meant) => error.with_hint(format!("did you mean {}?", meant.display())),
            None => error,
        },
        _ => error,
    }
}

/// The container that `path` names without the ending of its name.
fn with_ending(path: &Path) -> Option<PathBuf> {
    let endings = ["vault", "hc", "tc", "luks", "img", "box"];
    let named = endings.map(|ending| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{ending}"));
        PathBuf::from(name)
    });
    named.into_iter().find(|path| path.is_file())
}

/// Who can let us read and write what `path` leads to.
fn way_to_rights(path: &Path) -> String {
    match std::fs::metadata(path) {
        Ok(found) if found.file_type().is_block_device() => "use sudo".to_owned(),
        Ok(found) if found.uid() == rustix::process::geteuid().as_raw() => {
            format!("you own it: chmod u+rw {}", command_word(path))
        }
        _ => "you have no access to this file: ask its owner; ls -l shows who that is".to_owned(),
    }
}

/// Unlocks `header` with what the options name, and with the one keyslot where `keyslot` names it, and says what speaks
/// against it. A password typed wrongly may be typed again.
///
/// # Errors
/// `Tampered` where the header is not as it was pinned, before anything is asked for; `Credentials` after the last try, and
/// what [`Header::unlock`] gives.
pub(crate) fn unlock(
    console: Console,
    path: &Path,
    header: &dyn Header,
    options: &UnlockOptions,
    keyslot: Option<u32>,
) -> Result<Unlocked> {
    let (unlocked, _) = unlock_with(console, path, header, options, keyslot)?;
    for warning in header.warnings(&unlocked) {
        console.warn(&format!("{}: {warning}", path.display()));
    }
    Ok(unlocked)
}

/// The same for those who go on to write: what speaks against the header makes them refuse, so nothing is said of it here.
/// Gives the credentials as well, to be used again.
pub(crate) fn unlock_with(
    console: Console,
    path: &Path,
    header: &dyn Header,
    options: &UnlockOptions,
    keyslot: Option<u32>,
) -> Result<(Unlocked, Credentials)> {
    let pinned = pin::check(path, header, options.pin)?;
    header.check_openable().map_err(|error| error.during(format!("cannot unlock {}", path.display())))?;
    let opened = open_with(console, path, header, options, keyslot)?;
    pinned.keep(console, header, &opened.0)?;
    Ok(opened)
}

fn open_with(
    console: Console,
    path: &Path,
    header: &dyn Header,
    options: &UnlockOptions,
    keyslot: Option<u32>,
) -> Result<(Unlocked, Credentials)> {
    let watcher = TrialProgress;
    let attempt = Attempt {
        limits: limits(options, header)?,
        keyslot,
        hints: options.hints.hints(),
        freeotfe: options.freeotfe.hints(),
        monitor: Some(&watcher),
    };
    let secrets = &options.secrets;
    if options.recovery_key {
        expect_recovery_key(path, header)?;
    } else if !options.security_key {
        let checked = header.check_takes_password(secrets.has_keyfiles(), keyslot);
        checked.map_err(|error| explain(error, path, header, &attempt.limits))?;
    }
    let tries = options.tries.unwrap_or(TRIES);
    if options.security_key {
        let opened = token::unlock(console, path, header, &attempt, secrets.pin(), tries)?;
        tell_keyslot(console, &opened.0);
        return Ok(opened);
    }
    let mut credentials = options.read(console, path, header.keyfile_role())?;
    let mut tries_left = if secrets.is_prompt(header.keyfile_role()) { tries } else { 1 };
    loop {
        warn_of_swap(console);
        let unlocked = interrupt::at_liberty(|| {
            progress::spin(console, "deriving the key", || header.unlock(&credentials, &attempt))
        });
        tries_left = tries_left.saturating_sub(1);
        match unlocked {
            Err(error) if error.kind() == ErrorKind::Credentials && tries_left > 0 => {
                console.note(&format!("strongroom: {}", error.reason()));
                options.read_again(console, path, header.keyfile_role(), &mut credentials)?;
            }
            Err(error) => {
                let role = header.keyfile_role();
                let error = explain(error, path, header, &attempt.limits);
                let error = match secrets.cut_file(role) {
                    Some(path) => oddity::advise_whole_file(error, path),
                    None => error,
                };
                return Err(oddity::advise(error, &credentials, role, secrets.is_keyfile_all(role)));
            }
            Ok(unlocked) => {
                tell_keyslot(console, &unlocked);
                tell_found(console, header, &unlocked, options);
                return Ok((unlocked, credentials));
            }
        }
    }
}

/// Seventeen groups of digits are typed only where they can open something.
fn expect_recovery_key(path: &Path, header: &dyn Header) -> Result<()> {
    let keyslots = header.describe().keyslots;
    if keyslots.is_empty() || keyslots.iter().any(|keyslot| keyslot.kind == SlotKind::Recovery.name()) {
        return Ok(());
    }
    let error = Error::new(ErrorKind::Credentials, "it has no recovery key")
        .during(format!("cannot unlock {}", path.display()));
    Err(error.with_hint("omit --recovery-key; strongroom info shows what opens it"))
}

/// Says what a trial found, and how to have it faster next time.
fn tell_found(console: Console, header: &dyn Header, unlocked: &Unlocked, options: &UnlockOptions) {
    if !header.is_opaque() {
        return;
    }
    let info = header.describe_unlocked(unlocked);
    if header.keyfile_role() != KeyfileRole::Pool {
        console.detail(&format!("strongroom: {}: opened, {}", info.format, info.cipher));
        return;
    }
    let detail = |name: &str| {
        let found = info.details.iter().find(|detail| detail.name == name);
        found.map(|detail| detail.value.clone()).unwrap_or_default()
    };
    let (prf, place) = (detail("PRF"), detail("Opened by"));
    let found = format!("strongroom: {}: opened by the {place}, {prf}, {}", info.format, info.cipher);
    let mut faster = Vec::new();
    if !options.format.takes_hints() && !options.hints.is_any() {
        faster.push(format!("--format {}", info.format));
    }
    // All of TrueCrypt's functions together take no time.
    if options.hints.prf.is_none() && info.format != Family::TrueCrypt.name() {
        faster.push(format!("--prf {prf}"));
    }
    if faster.is_empty() {
        console.detail(&found);
    } else {
        console.note(&format!("{found}; add {} to open it faster next time", faster.join(" ")));
    }
    if place.starts_with("backup") && !options.hints.backup_header {
        console.warn(
            "only the backup header opened: the one at the start is damaged or has a different password",
        );
    }
}

fn tell_keyslot(console: Console, unlocked: &Unlocked) {
    if let Some(slot) = unlocked.keyslot {
        console.detail(&format!("strongroom: keyslot {slot} opens"));
    }
}

/// Says which container it was, and what may help.
fn explain(error: Error, path: &Path, header: &dyn Header, limits: &KdfLimits) -> Error {
    let error = error.during(format!("cannot unlock {}", path.display()));
    let keyslots = header.describe().keyslots;
    let token = keyslots.iter().find_map(|slot| Some((slot.slot, slot.token.as_ref()?)));
    if let (ErrorKind::Credentials, Some((slot, token))) = (error.kind(), token) {
        return error.with_hint(format!(
            "keyslot {slot} belongs to a token ({token}), which strongroom cannot use: cryptsetup open --token-only {} NAME",
            command_word(path)
        ));
    }
    advise(error, header, limits)
}

/// One line where locked memory does not suffice for the secrets.
fn warn_of_swap(console: Console) {
    if is_any_secret_unlocked() {
        console.warn_in_detail("the keys may reach swap: the limit on locked memory is too low (ulimit -l)");
    }
}

const NO_SIGNATURE: &str = "VeraCrypt, TrueCrypt and FreeOTFE containers have none: try --format veracrypt or --format freeotfe; \
                            nor have plain dm-crypt and loop-AES: cryptsetup open --type plain, or loopaes; if the header is in a file of its own: --header FILE; header repair --scan looks for one that was lost";
const NOTHING_LEFT: &str = "nothing is left in it; look for a backup or another copy of it";
const ALL_ZEROS: &str = "if its header is in a file of its own: --header FILE; if it was a container once, header repair --scan looks \
                     for what is left of it; if VeraCrypt's: --format veracrypt --backup-header";
const OVERWRITTEN: &str = "if it was a container once, header repair --scan looks for what is left of it; if VeraCrypt's: \
                           --format veracrypt --backup-header";

const VERACRYPT_ONLY: &str = "--prf, --pim, --hidden, --backup-header and --system";
const FREEOTFE_ONLY: &str = "--salt-length, --key-iterations and --no-cdb";

/// Passwords and PINs asked for. A token takes eight before it locks itself.
pub(crate) const TRIES: u32 = 3;

/// Refuses a volume that the file system in it goes beyond: its header may be from before it grew, and what lies behind the volume's
/// end would be lost.
pub(super) fn refuse_missing_end(container: &Container, unlocked: &Unlocked) -> Result<()> {
    let Some(found) =
        check_file_system(container, unlocked)?.filter(|found| found.severity == Severity::Error)
    else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Damaged, found.message)
        .with_hint("change nothing before you have a copy of the container; another header may fit it: header repair --scan"))
}
