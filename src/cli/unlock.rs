//! From a path and what the user knows to an unlocked header.

use std::{
    fs::File,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use strongroom::{
    crypto::secret::Credentials,
    error::{Error, ErrorKind, Fact, Result},
    format::{Header, HeaderInfo, Severity, Unlocked, folder},
    text::path::command_word,
    unlock::{HeaderFile, Unlocking, opening},
    volume::{
        COPY_NAME, Container, HEADER_NAME, check_file_system, container_file, has_lost_its_headers,
        header_without_container,
    },
};

use super::{args::UnlockOptions, front::CommandLine, interrupt, output::Console};

/// Opens a container only to look at it: without a lock, so also while it is mounted.
pub(crate) fn inspect(
    console: Console,
    path: &Path,
    options: &UnlockOptions,
) -> Result<(Container, Box<dyn Header>)> {
    let mut container = open_to_look(path, options.header_file())?;
    settle_format(console, &mut container, options)?;
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
    console: Console,
    path: &Path,
    options: &UnlockOptions,
) -> Result<(Box<dyn Header>, Option<Container>)> {
    let mut container = open_to_look(path, options.header_file())?;
    settle_format(console, &mut container, options)?;
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

/// Lets a container be what the options say that it is. Where nothing in it says what it is, the user may agree to have it tried as one
/// of TrueCrypt or VeraCrypt.
///
/// # Errors
/// `Usage` for options that the container's format does not have.
pub(crate) fn settle_format(
    console: Console,
    container: &mut Container,
    options: &UnlockOptions,
) -> Result<()> {
    let front = CommandLine::asking(console);
    opening::settle_format(&front, container, &options.known()).map_err(not_for)
}

/// Options that another format has, by their names.
fn not_for(error: Error) -> Error {
    let (options, format) = match error.fact() {
        Some(Fact::VeraCryptOnly(format)) => ("--prf, --pim, --hidden, --backup-header and --system", format),
        Some(Fact::FreeOtfeOnly(format)) => ("--salt-length, --key-iterations and --no-cdb", format),
        _ => return error,
    };
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

/// Lets `container` be the part of the file that `header` names, and take its header from the file in it, where there is one,
/// which `open` opens.
pub(crate) fn attach(
    container: &mut Container,
    header: HeaderFile<'_>,
    open: impl FnOnce(&Path) -> Result<Container>,
) -> Result<()> {
    opening::narrow(container, header.part).map_err(|error| cannot_open(error, container.path()))?;
    opening::attach(container, header, |path| check_kind(path).and_then(|()| open(path)))
}

/// Refuses what can be no container whatever it holds: a directory, a socket, a terminal.
pub(crate) fn check_kind(path: &Path) -> Result<()> {
    let found = interrupt::asking_at_liberty(path, || Ok(std::fs::metadata(path)))?;
    let Ok(metadata) = found else { return Ok(()) };
    if metadata.is_file() || metadata.file_type().is_block_device() {
        return Ok(());
    }
    let error = if metadata.is_dir() {
        if interrupt::asking_at_liberty(path, || Ok(container_file(path)))?.is_some() {
            return Ok(());
        }
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
        None if has_lost_its_headers(path) => Error::new(
            ErrorKind::Damaged,
            format!("both header files of this folder of pieces, {HEADER_NAME} and {COPY_NAME}, are missing"),
        )
        .with_hint(
            "put back one of them from a copy of the folder; a header backup alone does not know its pieces",
        ),
        Some(known) => error(format!("not a container; this is {}", known.name))
            .with_hint(known.way_in.replace("FOLDER", &command_word(path))),
        None => error("it is a directory".to_owned()).with_hint("the container comes first"),
    }
}

/// Says which container could not be opened, and what may help.
pub(crate) fn cannot_open(error: Error, path: &Path) -> Error {
    let cannot = format!("cannot open {}", path.display());
    let error = error.during(&cannot);
    match error.fact() {
        Some(Fact::Zeros) => return error.with_hint(ALL_ZEROS),
        Some(Fact::NoContent) => return error.with_hint(NOTHING_LEFT),
        // It looks like no container of VeraCrypt's.
        Some(Fact::OtherContent) => return error.with_hint(OVERWRITTEN),
        Some(Fact::NoSignature) => return error.with_hint(NO_SIGNATURE),
        _ => {}
    }
    match error.kind() {
        // Of one that can be read it is the writing that is refused.
        ErrorKind::Permission if error.hint().is_none() && File::open(path).is_err() => {
            error.with_hint(way_to_rights(path))
        }
        ErrorKind::NotFound if is_address(path) => {
            let reason = "it is an address, and no file of this machine";
            Error::new(ErrorKind::NotFound, reason).with_hint("copy the container here first").during(cannot)
        }
        ErrorKind::NotFound if error.hint().is_none() => match with_ending(path) {
            Some(meant) => error.with_hint(format!("did you mean {}?", meant.display())),
            None => error,
        },
        _ => error,
    }
}

/// Whether it looks like what a file manager calls a file elsewhere: `smb://host/photos.vault`.
fn is_address(path: &Path) -> bool {
    let scheme = path.to_str().and_then(|path| Some(path.split_once("://")?.0));
    scheme.is_some_and(|scheme| !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()))
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
/// As [`Unlocking::unlock`].
pub(crate) fn unlock(
    console: Console,
    path: &Path,
    header: &dyn Header,
    options: &UnlockOptions,
    keyslot: Option<u32>,
) -> Result<Unlocked> {
    let (front, wish) = (options.front(console), options.wish(keyslot));
    Unlocking { front: &front, path, header, wish: &wish }.unlock()
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
    let (front, wish) = (options.front(console), options.wish(keyslot));
    Unlocking { front: &front, path, header, wish: &wish }.unlock_to_write()
}

const NO_SIGNATURE: &str = "VeraCrypt, TrueCrypt and FreeOTFE containers have none: try --format veracrypt or --format freeotfe; \
                            nor have plain dm-crypt and loop-AES: cryptsetup open --type plain, or loopaes; if the header is in a file of its own: --header FILE; header repair --scan looks for one that was lost";
const NOTHING_LEFT: &str = "nothing is left in it; look for a backup or another copy of it";
const ALL_ZEROS: &str = "if its header is in a file of its own: --header FILE; if it was a container once, header repair --scan looks \
                     for what is left of it; if VeraCrypt's: --format veracrypt --backup-header";
const OVERWRITTEN: &str = "if it was a container once, header repair --scan looks for what is left of it; if VeraCrypt's: \
                           --format veracrypt --backup-header";

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
