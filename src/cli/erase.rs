//! `erase`: destroys all keyslots and every copy of the header.

use std::path::Path;

use serde::Serialize;
use strongroom::{
    crypto::rng::OsRng,
    error::{Error, ErrorKind, Fact, Result},
    format::{FORMATS, Format, HeaderInfo, looks_random, native::Native},
    storage::holds_zeros,
    text::in_quotes,
    unlock::HeaderFile,
    volume::{Access, Container, Stranger, by_signature, erase, recognise_data, stranger_within},
};

use super::{
    args::EraseOptions,
    ask,
    header::check_kernel_use,
    info::counted,
    interrupt,
    mounting::name_holder,
    output::Console,
    progress::spin,
    remembered,
    size::show_size,
    unlock::{attach, check_kind},
};

/// Destroys a container's keys.
pub(crate) fn run(console: Console, options: &EraseOptions) -> Result<()> {
    let path = options.container.as_path();
    check_kind(path)?;
    erase_container(console, options).map_err(|error| {
        let error = if error.kind() == ErrorKind::Busy { name_holder(error, path) } else { error };
        error.during(format!("cannot erase {}", path.display()))
    })
}

fn erase_container(console: Console, options: &EraseOptions) -> Result<()> {
    let path = options.container.as_path();
    let header = HeaderFile {
        path: options.header.as_deref(),
        format: options.format.named(),
        part: options.place.part(),
    };
    check_kernel_use(path)?;
    let mut container = interrupt::asking_at_liberty(path, || {
        let mut container = Container::open(path, Access::ReadWrite)?;
        attach(&mut container, header, |header| Container::open(header, Access::ReadWrite))?;
        Ok(container)
    })?;
    if let Some(format) = options.format.named() {
        container.assume(format);
    }
    let formats = formats_of(&container, options.force)?;
    // Not needed for the work, and in a damaged container not there.
    let header = container.header();
    if let Err(error) = &header
        && error.fact() == Some(Fact::BeginsElsewhere)
        && !options.force
    {
        return header.map(drop);
    }
    let info = header.ok().map(|header| header.describe());
    let is_opaque = formats.iter().any(|format| shows_nothing(*format));
    if is_opaque && !options.force {
        refuse_other_end(&container)?;
    }
    if let Some(info) = info.as_ref().filter(|_| !options.force) {
        refuse_behind(&container, info)?;
    }
    if container.pieces().is_some() && info.is_none() {
        let reason = "neither of its header copies is whole, so nothing tells where its keyslots are";
        return Err(Error::new(ErrorKind::Damaged, reason).with_hint(
            "all keyslots are in the files header and header.copy: shred -u does away with them",
        ));
    }
    if !options.yes {
        confirm(&options.place.name(path), info.as_ref())?;
    }
    interrupt::check()?;
    // From here on nothing stops it: half erased is worse than either.
    let storage = container.storage();
    spin(console, "erasing", || {
        for format in formats {
            let mut erasure = format.erasure(&*storage)?;
            if let Some(pieces) = container.pieces() {
                erasure = erasure.outside(&pieces.geometry().data());
            }
            erase(&*storage, &erasure, &OsRng)?;
        }
        Ok::<(), Error>(())
    })?;

    let summary = Summary { container: path, uuid: info.and_then(|info| info.uuid), erased: true };
    console.warn(ELSEWHERE);
    if is_opaque {
        console.warn(UNKNOWN_END);
    }
    remembered::remind_of_erased(console, summary.uuid.as_deref())?;
    let name = options.place.name(path);
    let opens = if is_opaque {
        "no header at its start or its end opens any more"
    } else {
        "no password will ever open it again"
    };
    console.done(&summary, |_| format!("erased {name}: {opens}"));
    Ok(())
}

#[derive(Debug, Serialize)]
struct Summary<'a> {
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    container: &'a Path,
    uuid: Option<String>,
    erased: bool,
}

/// The format of the container; where it cannot be told and the user insists, all of them.
fn formats_of(container: &Container, force: bool) -> Result<Vec<&'static dyn Format>> {
    if let Some(named) = container.assumed() {
        if !force {
            refuse_others(container, named)?;
        }
        // What shows there would open as before, whatever it is said to be, and goes first: each erasure ends with a look for it.
        let shown = by_signature(&*container.storage())?.filter(|shown| shown.name() != named.name());
        // Nobody knows which of the formats without a signature it is.
        let is_one = |format: &&dyn Format| {
            format.name() == named.name() || shows_nothing(named) && shows_nothing(*format)
        };
        let named = FORMATS.iter().copied().filter(is_one);
        return Ok(shown.into_iter().chain(named).collect());
    }
    match container.format() {
        Ok(format) => Ok(vec![format]),
        Err(error) if error.kind() == ErrorKind::NotAContainer && force => Ok(FORMATS.to_vec()),
        Err(error) if error.kind() == ErrorKind::NotAContainer => Err(error.with_hint(
            "--force overwrites the places where a header of any format would be; the data in them is lost",
        )),
        Err(error) => Err(error),
    }
}

/// Refuses to overwrite what shows that it is no container of the format that was named.
fn refuse_others(container: &Container, named: &dyn Format) -> Result<()> {
    let storage = container.storage();
    let place = storage.header().unwrap_or(&*storage);
    let (kind, what) = match (by_signature(place)?, recognise_data(place)?) {
        (Some(other), _) if other.name() == named.name() => return Ok(()),
        (Some(other), _) => (ErrorKind::Usage, format!("a {} header", other.name())),
        (None, Some(data)) => (ErrorKind::NotAContainer, data.to_owned()),
        (None, None) if shows_nothing(named) => return Ok(()),
        (None, None) => {
            let reason = format!("nothing shows a container of the format {}", named.name());
            return Err(Error::new(ErrorKind::NotAContainer, reason).with_hint(
                "if it is one of VeraCrypt, TrueCrypt or FreeOTFE: --format; --force overwrites the places of its header nevertheless",
            ));
        }
    };
    let reason = format!("this is {what}, and no container of the format {}", named.name());
    Err(Error::new(kind, reason).with_hint("leave --format out; --force overwrites it nevertheless"))
}

/// Whether containers of a format look like random bytes.
fn shows_nothing(format: &dyn Format) -> bool {
    matches!(format.name(), "veracrypt" | "truecrypt" | "freeotfe")
}

/// Refuses to overwrite what lies behind a container of our own: copies of its header are looked for at the end of the medium.
fn refuse_behind(container: &Container, info: &HeaderInfo) -> Result<()> {
    if info.format != Native.name() || container.pieces().is_some() || container.header_path().is_some() {
        return Ok(());
    }
    let storage = container.storage();
    let size = storage.size()?;
    if info.container_size >= size || holds_zeros(&*storage, info.container_size..size)? {
        return Ok(());
    }
    let behind = size.saturating_sub(info.container_size);
    let reason =
        format!("{behind} bytes lie behind the container, and the last of them would be overwritten");
    Err(Error::new(ErrorKind::Exists, reason).with_hint(
        "if they belong to it, or to nobody: --force; else take them away first, or name its partition",
    ))
}

/// Refuses to overwrite the end of what does not look like a container of a format that shows nothing: it ends before, and has another
/// header there, or is none.
fn refuse_other_end(container: &Container) -> Result<()> {
    let storage = container.storage();
    let size = storage.size()?;
    let mut end = vec![0; usize::try_from(size.min(LAST_LEN)).unwrap_or_default()];
    storage.read_exact_at(&mut end, size.saturating_sub(LAST_LEN))?;
    let range = size.saturating_sub(LAST_LEN)..size;
    let stranger = stranger_within(&storage, std::slice::from_ref(&range), false)?;
    let reason = match stranger.filter(|stranger| stranger.option.is_some()) {
        Some(Stranger { what, .. }) => format!("{what}, and would be overwritten at its end"),
        None if end.chunks_exact(SECTOR).all(looks_random) => return Ok(()),
        None => "its last 128 KiB are not what such a container has at its end: it ends before, where a header is that opens it, and \
                 what follows may be somebody's"
            .to_owned(),
    };
    Err(Error::new(ErrorKind::Exists, reason).with_hint(
        "take away what follows it, or name its partition; --force overwrites the first and the last 128 KiB of all of it nevertheless",
    ))
}

fn confirm(name: &str, info: Option<&HeaderInfo>) -> Result<()> {
    if !ask::is_possible() {
        let error = Error::new(ErrorKind::Usage, "there is no terminal to ask on");
        return Err(error.with_hint("--yes skips the question"));
    }
    let what = match info {
        Some(info) => describe(info),
        None => "no whole header".to_owned(),
    };
    let question = format!("{name} ({what}) will be erased. No password will ever open it again.");
    ask::confirm_by(&question, "erase")
}

fn describe(info: &HeaderInfo) -> String {
    let keyslots = u32::try_from(info.keyslots.len()).unwrap_or(u32::MAX);
    let label = info.label.as_ref().map(|label| format!("label {}, ", in_quotes(label))).unwrap_or_default();
    format!("{label}{}, {}", show_size(info.container_size), counted(keyslots, "keyslot", "keyslots"))
}

/// What stands at the end of a container of VeraCrypt, in bytes.
const LAST_LEN: u64 = 128 << 10;
const SECTOR: usize = 512;
const UNKNOWN_END: &str = "where such a container ends only its password tells: if it ended before the file or device does, the \
                           backup header there still opens it, and all of it must be overwritten";
const ELSEWHERE: &str = "copies elsewhere still open with their passwords: header backups, copies and snapshots \
                         of the container, old blocks on flash media";
