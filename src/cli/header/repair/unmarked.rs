//! Headers of TrueCrypt and VeraCrypt, which show nothing: the password is tried where they stand.

use std::{error::Error as _, ops::Range, path::Path, sync::Arc};

use serde::Serialize;
use strongroom::{
    crypto::secret::Credentials,
    error::{ErrorKind, Result},
    format::{
        Attempt, Header, KeyfileRole, Unlocked,
        veracrypt::{HeaderError, Hints, Opened, Place},
    },
    storage::{Section, Storage},
    text::path::command_word,
    unlock::credentials,
    volume::{by_signature, partitions_of, range_from, recognise_data},
};

use super::super::Console;
use crate::cli::{
    args::{HeaderRepairOptions, OpenFormat, PlaceOptions},
    interrupt,
    progress::{TrialProgress, spin},
};

/// A header that the password opened.
#[derive(Debug, Serialize)]
pub(super) struct ScannedUnmarked {
    /// Where its container starts.
    offset: u64,
    format: &'static str,
    place: &'static str,
    /// What opens it.
    advice: String,
}

impl ScannedUnmarked {
    /// Two lines of text.
    pub(super) fn describe(&self) -> [String; 2] {
        let Self { offset, format, place, advice } = self;
        [format!("offset {offset}: {format} container, opened by its {place}"), format!("  {advice}")]
    }
}

/// Whether the user asks for it.
pub(super) fn is_wanted(options: &HeaderRepairOptions) -> bool {
    matches!(options.unlock.format, OpenFormat::VeraCrypt | OpenFormat::TrueCrypt | OpenFormat::FreeOtfe)
}

/// What was looked for, and where.
pub(super) fn tried(options: &HeaderRepairOptions) -> (&'static str, &'static str) {
    match options.unlock.format {
        OpenFormat::FreeOtfe => ("FreeOTFE", AT_STARTS),
        _ => ("VeraCrypt or TrueCrypt", AT_ENDS),
    }
}

/// Tries the password at both ends of the medium, and of each partition in which nothing is known. Nothing is written.
///
/// # Errors
/// Where there is no password, and what reading gave.
pub(super) fn scan(
    console: Console,
    options: &HeaderRepairOptions,
    storage: &Arc<dyn Storage>,
) -> Result<Vec<ScannedUnmarked>> {
    let (path, unlock) = (options.container.as_path(), &options.unlock);
    let Some(format) = unlock.format.named().filter(|_| is_wanted(options)) else { return Ok(Vec::new()) };
    let of_freeotfe = unlock.format == OpenFormat::FreeOtfe;
    let role = if of_freeotfe { KeyfileRole::PartOfSecret } else { KeyfileRole::Pool };
    let credentials = credentials(&unlock.front(console), path, &unlock.means(), role)?;
    let mut found: Vec<ScannedUnmarked> = Vec::new();
    for (place, range) in places(unlock.place, storage, of_freeotfe)? {
        let section = Section::new(Arc::clone(storage), range.clone())?;
        // A section that is too short for a header.
        let Ok(header) = format.read_header(&section) else { continue };
        if of_freeotfe {
            if try_once(console, options, &*header, &credentials, options.unlock.hints.hints())?.is_some() {
                let command = command(path, place);
                let given = freeotfe_options(options) + &secret_options(options);
                let advice = format!("{command} --format freeotfe{given} opens it");
                found.push(ScannedUnmarked {
                    offset: range.start,
                    format: format.name(),
                    place: "header",
                    advice,
                });
            }
            continue;
        }
        let (offset, place, advice) = match try_copies(console, options, &*header, &credentials)? {
            Tried::Nothing => continue,
            Tried::Opened(opened) => {
                (range.start, opened.place, advice(options, place, &opened, InItsPlace::of(&section)?))
            }
            Tried::Headless(missing) => (range.start, Place::Backup, front_is_missing(path, missing)),
            Tried::Elsewhere(at) => {
                let moved = at.checked_sub(storage.origin()).map(|start| start..range.end);
                let opens = moved.clone().map(|moved| {
                    let section = Section::new(Arc::clone(storage), moved)?;
                    try_copies(console, options, &*format.read_header(&section)?, &credentials)
                });
                let start = moved.as_ref().map_or(range.start, |moved| moved.start);
                let is_reached =
                    |start| range_from(&**storage, start).is_ok_and(|found| found.end == range.end);
                match (opens.transpose()?, start) {
                    (Some(Tried::Opened(opened)), start) if is_reached(start) => {
                        let place = PlaceOptions { partition: None, offset: Some(at) };
                        let there = InItsPlace::of(&Section::new(Arc::clone(storage), start..range.end)?)?;
                        (start, opened.place, advice(options, place, &opened, there))
                    }
                    (_, start) => {
                        let end = storage.origin().saturating_add(range.end);
                        (start, Place::Backup, cut_out(path, at, end))
                    }
                }
            }
        };
        // The last partition may end with the medium.
        if found.iter().all(|found| found.offset != offset) {
            found.push(ScannedUnmarked { offset, format: format.name(), place: place.name(), advice });
        }
    }
    Ok(found)
}

/// What stands in the place of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InItsPlace {
    Nothing,
    Data,
    /// The header of another format.
    Container,
}

impl InItsPlace {
    fn of(section: &Section) -> Result<Self> {
        Ok(match (by_signature(section)?, recognise_data(section)?) {
            (Some(_), _) => Self::Container,
            (None, Some(_)) => Self::Data,
            (None, None) => Self::Nothing,
        })
    }
}

/// What comes of the password in one place.
#[derive(Debug)]
enum Tried {
    Nothing,
    Opened(Opened),
    /// A copy opens, and its container begins at this byte of the file.
    Elsewhere(u64),
    /// A copy opens, and so many bytes of its container are missing at the start.
    Headless(u64),
}

/// Tries the headers, then their copies (VC-PLACE-03).
fn try_copies(
    console: Console,
    options: &HeaderRepairOptions,
    header: &dyn Header,
    credentials: &Credentials,
) -> Result<Tried> {
    let given = options.unlock.hints.hints();
    let copies = Hints { backup_header: true, ..given };
    let tried = if given.system || given == copies { vec![given] } else { vec![given, copies] };
    let mut damaged = None;
    for hints in tried {
        match try_once(console, options, header, credentials, hints) {
            Ok(None) => {}
            Err(error) => {
                return match error.source().and_then(|source| source.downcast_ref()) {
                    Some(HeaderError::Elsewhere { at }) => Ok(Tried::Elsewhere(*at)),
                    Some(HeaderError::Headless { missing }) => Ok(Tried::Headless(*missing)),
                    // What took its place left a part of it; the copy may be whole.
                    _ if error.kind() == ErrorKind::Damaged && damaged.is_none() => {
                        damaged = Some(error);
                        continue;
                    }
                    _ => Err(error),
                };
            }
            Ok(Some(unlocked)) => return Ok(Tried::Opened(Opened::of_key(&unlocked.volume_key)?)),
        }
    }
    damaged.map_or(Ok(Tried::Nothing), Err)
}

/// What the secret opens in one place; `None` where it is wrong there.
fn try_once(
    console: Console,
    options: &HeaderRepairOptions,
    header: &dyn Header,
    credentials: &Credentials,
    hints: Hints,
) -> Result<Option<Unlocked>> {
    let limits = options.unlock.limits(header)?;
    let freeotfe = options.unlock.freeotfe.hints();
    let attempt = Attempt { limits, keyslot: None, hints, freeotfe, monitor: Some(&TrialProgress) };
    let unlocked =
        interrupt::at_liberty(|| spin(console, "deriving the key", || header.unlock(credentials, &attempt)));
    match unlocked {
        Err(error) if error.kind() == ErrorKind::Credentials => Ok(None),
        unlocked => unlocked.map(Some),
    }
}

/// The options that its header needed, to be given again.
fn freeotfe_options(options: &HeaderRepairOptions) -> String {
    let given = options.unlock.freeotfe;
    let salt = given.salt_length.map(|bits| format!(" --salt-length {bits}"));
    let iterations = given.key_iterations.map(|count| format!(" --key-iterations {count}"));
    let bare = given.no_cdb.then(|| " --no-cdb".to_owned());
    salt.into_iter().chain(iterations).chain(bare).collect()
}

/// The partitions of the medium, and all of it; without any, also where the first one usually starts.
fn places(
    place: PlaceOptions,
    storage: &Arc<dyn Storage>,
    with_usual_starts: bool,
) -> Result<Vec<(PlaceOptions, Range<u64>)>> {
    let size = storage.size()?;
    let mut places = Vec::new();
    if place.partition.is_none() {
        let unknown = partitions_of(storage)?
            .into_iter()
            .filter(|found| found.format.is_none() && found.contents.is_none());
        for found in unknown.take(MOST_PARTITIONS) {
            let place = PlaceOptions { partition: Some(found.partition.number), offset: None };
            places.extend(found.partition.range(size).map(|range| (place, range)));
        }
    }
    if size > 0 {
        places.push((PlaceOptions { offset: None, ..place }, 0..size));
    }
    // Where the table is lost.
    let is_whole = place.partition.is_none() && places.len() == 1;
    for start in USUAL_STARTS.into_iter().filter(|start| with_usual_starts && is_whole && *start < size) {
        places.push((PlaceOptions { partition: None, offset: Some(start) }, start..size));
    }
    Ok(places)
}

/// What gets at a container of which no option says where it ends.
fn cut_out(path: &Path, start: u64, end: u64) -> String {
    let (first, len) = (start.saturating_add(1), end.saturating_sub(start));
    let path = command_word(path);
    format!("its container starts at byte {start}: tail -c +{first} {path} | head -c {len} > NEW cuts it out")
}

/// What gets at one whose first bytes are gone.
fn front_is_missing(path: &Path, missing: u64) -> String {
    let path = command_word(path);
    format!(
        "the first {missing} bytes of its container are missing here: (head -c {missing} /dev/zero; cat {path}) > NEW puts zeros in \
         their place, and --backup-header opens NEW"
    )
}

/// The command that opens it, and the one that makes its header anew from the copy, where only that opens. Where something else
/// `there` by now, nothing may be written.
fn advice(options: &HeaderRepairOptions, place: PlaceOptions, opened: &Opened, there: InItsPlace) -> String {
    let mut given = String::from(" --format ");
    given.push_str(options.unlock.format.named().map_or("veracrypt", |format| format.name()));
    for (is_given, option) in [
        (opened.place.is_hidden(), " --hidden"),
        (opened.place.is_backup(), " --backup-header"),
        (options.unlock.hints.system, " --system"),
    ] {
        given.push_str(if is_given { option } else { "" });
    }
    given.push_str(&secret_options(options));
    let read_only = if there == InItsPlace::Nothing { "" } else { " --read-only" };
    let opens = format!("{}{given}{read_only} opens it", command(&options.container, place));
    if !opened.place.is_backup() || there == InItsPlace::Container {
        return opens;
    }
    let (path, place) = (command_word(&options.container), place.option());
    format!("{opens}; strongroom header repair {path}{place}{given} makes its header anew from that copy")
}

/// What belongs to the password, to be given again.
fn secret_options(options: &HeaderRepairOptions) -> String {
    let secrets = &options.unlock.secrets;
    let pim = options.unlock.hints.pim.map(|pim| format!(" --pim {pim}"));
    let bare = secrets.no_password.then(|| " --no-password".to_owned());
    let keyfiles = secrets.keyfile.iter().map(|keyfile| format!(" --keyfile {}", command_word(keyfile)));
    pim.into_iter().chain(bare).chain(keyfiles).collect()
}

/// The command that mounts what lies there.
pub(super) fn command(path: &Path, place: PlaceOptions) -> String {
    format!("strongroom mount {} MOUNTPOINT{}", command_word(path), place.option())
}

const AT_ENDS: &str = "it was tried at both ends of what was looked at, and of each partition in which nothing else is known; mount \
                       --offset BYTES tries it elsewhere";
const AT_STARTS: &str = "it was tried at the start of what was looked at, and where partitions start in which nothing else is known; mount \
                         --offset BYTES --format freeotfe tries it elsewhere";
/// Where the first partition of a disk starts, today and before 2010: bytes.
const USUAL_STARTS: [u64; 2] = [1 << 20, 63 * 512];
/// So many are tried: each takes seconds.
const MOST_PARTITIONS: usize = 16;
