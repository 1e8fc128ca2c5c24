//! Headers of TrueCrypt and VeraCrypt, which show nothing: the password is tried where they stand.

use std::{ops::Range, path::Path, sync::Arc};

use serde::Serialize;
use strongroom::{
    crypto::secret::Credentials,
    error::{ErrorKind, Result},
    format::{
        Attempt, Header, KeyfileRole,
        veracrypt::{Hints, Opened},
    },
    storage::{Section, Storage},
    text::path::command_word,
    volume::partitions_of,
};

use super::super::Console;
use crate::cli::{
    args::{HeaderRepairOptions, OpenFormat, PlaceOptions},
    interrupt,
    limits::limits,
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
    matches!(options.unlock.format, OpenFormat::VeraCrypt | OpenFormat::TrueCrypt)
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
    let credentials = unlock.read(console, path, KeyfileRole::Pool)?;
    let mut found = Vec::new();
    for (place, range) in places(unlock.place, storage)? {
        let start = range.start;
        // A section that is too short for a header.
        let Ok(header) = format.read_header(&Section::new(Arc::clone(storage), range)?) else { continue };
        let Some(opened) = try_copies(console, options, &*header, &credentials)? else { continue };
        found.push(ScannedUnmarked {
            offset: start,
            format: format.name(),
            place: opened.place.name(),
            advice: advice(options, place, &opened),
        });
    }
    Ok(found)
}

/// Tries the headers, then their copies (VC-PLACE-03).
fn try_copies(
    console: Console,
    options: &HeaderRepairOptions,
    header: &dyn Header,
    credentials: &Credentials,
) -> Result<Option<Opened>> {
    let given = options.unlock.hints.hints();
    let copies = Hints { backup_header: true, ..given };
    let tried = if given.system || given == copies { vec![given] } else { vec![given, copies] };
    for hints in tried {
        let limits = limits(&options.unlock, header)?;
        let freeotfe = options.unlock.freeotfe.hints();
        let attempt = Attempt { limits, keyslot: None, hints, freeotfe, monitor: Some(&TrialProgress) };
        let unlocked = interrupt::at_liberty(|| {
            spin(console, "deriving the key", || header.unlock(credentials, &attempt))
        });
        match unlocked {
            Err(error) if error.kind() == ErrorKind::Credentials => {}
            result => return Ok(Some(Opened::of_key(&result?.volume_key)?)),
        }
    }
    Ok(None)
}

/// All of the medium, and its partitions.
fn places(place: PlaceOptions, storage: &Arc<dyn Storage>) -> Result<Vec<(PlaceOptions, Range<u64>)>> {
    let size = storage.size()?;
    let mut places = vec![(PlaceOptions { offset: None, ..place }, 0..size)];
    if size == 0 {
        places.clear();
    }
    if place.partition.is_none() {
        let unknown = partitions_of(storage)?
            .into_iter()
            .filter(|found| found.format.is_none() && found.contents.is_none());
        for found in unknown.take(MOST_PARTITIONS) {
            let place = PlaceOptions { partition: Some(found.partition.number), offset: None };
            places.extend(found.partition.range(size).map(|range| (place, range)));
        }
    }
    Ok(places)
}

/// The command that opens it.
fn advice(options: &HeaderRepairOptions, place: PlaceOptions, opened: &Opened) -> String {
    let mut command = command(&options.container, place);
    command.push_str(" --format ");
    command.push_str(options.unlock.format.named().map_or("veracrypt", |format| format.name()));
    for (is_given, option) in [
        (opened.place.is_hidden(), " --hidden"),
        (opened.place.is_backup(), " --backup-header"),
        (options.unlock.hints.system, " --system"),
    ] {
        command.push_str(if is_given { option } else { "" });
    }
    command + " opens it"
}

/// The command that mounts what lies there.
pub(super) fn command(path: &Path, place: PlaceOptions) -> String {
    let place = match (place.partition, place.offset) {
        (_, Some(offset)) => format!(" --offset {offset}"),
        (Some(number), None) => format!(" --partition {number}"),
        (None, None) => String::new(),
    };
    format!("strongroom mount {} MOUNTPOINT{place}", command_word(path))
}

/// So many are tried: each takes seconds.
const MOST_PARTITIONS: usize = 16;
