//! `header repair --scan`: headers of every format, wherever they stand, and what opens their containers.

use std::{path::Path, sync::Arc};

use serde::Serialize;
use strongroom::{
    error::{Error, ErrorKind, Result},
    format::{
        Format, HeaderRestore,
        native::{FoundCopy, Native, NativeHeader, Restore, Scan, hyphenated},
        scan::{Findings, FoundLuks, Headless, rebuild, scan},
    },
    storage::{Section, Storage},
    text::{in_quotes, path::command_word},
    unlock::HeaderFile,
    volume::{Access, Container, by_signature, range_from, trace_at_start},
};

use super::{
    super::{
        Console, Replaced, Replacement, open,
        refusals::{Consent, Overwriting, refuse_noise},
        refuse_kernel_use, shown, unlock,
    },
    advice::{Here, choice, is_whole},
    unmarked::{self, ScannedUnmarked},
};
use crate::cli::{
    args::{HeaderRepairOptions, PlaceOptions},
    ask,
    output::print,
    progress::ByteProgress,
};

#[derive(Debug, Serialize)]
struct Scanned<'a> {
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    container: &'a Path,
    copies: Vec<ScannedCopy>,
    luks: Vec<ScannedLuks>,
    broken: u64,
    unreadable: u64,
    starts_with: Option<&'static str>,
    restored_from: Option<u64>,
    /// What was overwritten, where something was restored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replaced: Vec<Replaced>,
    /// Only there where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    unmarked: Option<Vec<ScannedUnmarked>>,
}

#[derive(Debug, Serialize)]
struct ScannedCopy {
    offset: u64,
    copy: String,
    uuid: String,
    label: Option<String>,
    sequence: u64,
    container_size: u64,
    container_start: i128,
    in_place: bool,
    /// Where its container is, and what opens it.
    advice: String,
}

#[derive(Debug, Serialize)]
struct ScannedLuks {
    /// Where its container starts.
    offset: u64,
    format: &'static str,
    uuid: Option<String>,
    label: Option<String>,
    data_offset: u64,
    /// Whether what tells a LUKS header is gone from its start.
    lacks_magic: bool,
    /// Whether no more than its text is left.
    is_text_only: bool,
    /// What opens it, or gets at it.
    advice: String,
}

/// Looks for headers, tells what there is, and restores from it where that is agreed to.
pub(super) fn run(console: Console, options: &HeaderRepairOptions) -> Result<()> {
    let path = options.container.as_path();
    let place = PlaceOptions { offset: None, ..options.unlock.place };
    let all = HeaderFile { part: place.part(), ..HeaderFile::default() };
    let mut container = match open(path, all, Access::ReadWrite) {
        // Who may only read is told at least what there is.
        Err(error) if error.kind() == ErrorKind::Permission => open(path, all, Access::ReadOnly)?,
        result => result?,
    };
    let storage = container.storage();
    let progress = ByteProgress::start(console, "scanning");
    let found = scan(&storage, &mut |done, total| progress.step(done, total))
        .map_err(|error| error.during(format!("cannot scan {}", path.display())))?;
    drop(progress);

    let size = storage.size()?;
    let mut scanned = summary(path, &container, place, &found)?;
    if unmarked::is_wanted(options) {
        scanned.unmarked = Some(unmarked::scan(console, options, &storage)?);
    }
    if !console.is_json() {
        print(&describe(&scanned, &found, unmarked::tried(options)))?;
    }
    if found.native.whole.is_empty() && found.luks.found.is_empty() {
        return nothing_visible(console, &scanned, &found, size, unmarked::tried(options));
    }
    if unmarked::is_wanted(options) {
        return console.object(&scanned);
    }
    let may_restore = !container.is_read_only() && may_restore(console, options);
    if let Some(copy) = candidate(options.unlock.place.offset, &found, &*storage)? {
        if may_restore && options.yes {
            // Who agreed beforehand is not told of success where nothing is done.
            options.unlock.check_source()?;
        }
        if may_restore && options.unlock.check_source().is_ok() {
            let mut place = place;
            if let Some(start) = u64::try_from(copy.container_start()).ok().filter(|&start| start > 0) {
                let start = container.section().map_or(0, |section| section.start).saturating_add(start);
                place = PlaceOptions { partition: None, offset: Some(start) };
                // It holds the file's lock until then.
                drop((storage, container));
                container = open(
                    path,
                    HeaderFile { part: place.part(), ..HeaderFile::default() },
                    Access::ReadWrite,
                )?;
            }
            scanned.replaced = restore(console, options, (&container, place), copy)?;
            scanned.restored_from = Some(copy.offset);
        } else {
            console.note(&format!("the copy at offset {} can be restored; nothing was changed", copy.offset));
        }
    } else if let Some(luks) = luks_candidate(options.unlock.place.offset, &found, &*storage)? {
        if may_restore {
            scanned.replaced = restore_luks(console, options, &container, luks)?;
            scanned.restored_from = Some(luks.start);
        } else {
            console.note("the LUKS header can be rebuilt; nothing was changed");
        }
    } else if found.native.whole.iter().any(|copy| is_for_nothing_whole(copy, &storage)) {
        console.note("nothing was changed: --offset names the copy to restore from");
    }
    if scanned.restored_from.is_some() {
        console.done(&scanned, |_| format!("{}: the header is whole", path.display()));
        return Ok(());
    }
    console.object(&scanned)
}

/// Where no header shows itself: those that do not are what is left.
fn nothing_visible(
    console: Console,
    scanned: &Scanned<'_>,
    found: &Findings,
    size: u64,
    tried: (&'static str, &'static str),
) -> Result<()> {
    let cannot = |reason: String| {
        Error::new(ErrorKind::NotAContainer, reason)
            .during(format!("cannot repair {}", scanned.container.display()))
    };
    if let (Some(Headless { missing, .. }), None) = (found.luks.headless.first(), &scanned.unmarked) {
        let path = command_word(scanned.container);
        return Err(cannot(format!("the first {missing} bytes of its LUKS2 container are missing")).with_hint(format!(
            "(head -c {missing} /dev/zero; cat {path}) > NEW puts zeros in their place, and strongroom header repair --scan NEW then \
             rebuilds the header"
        )));
    }
    let whole = if scanned.broken > 0 { "whole " } else { "" };
    let reason = format!(
        "no {whole}header of strongroom's own format and none of LUKS begins in a sector (a multiple of 512) of its {size} bytes"
    );
    let (reason, hint) = match scanned.unmarked.as_deref() {
        Some([]) => {
            let (formats, places) = tried;
            (format!("{reason}, and the password opens none of {formats}"), places)
        }
        Some(_) => return console.object(scanned),
        None => (reason, NOT_LOOKED_FOR),
    };
    Err(cannot(reason).with_hint(hint))
}

/// Whether there is somebody to ask, or nothing to ask.
fn may_restore(console: Console, options: &HeaderRepairOptions) -> bool {
    options.yes || ask::is_possible() && !console.is_json()
}

/// Whether a copy is all that is left of the header of a container that is here.
fn is_for_nothing_whole(copy: &FoundCopy, storage: &Arc<dyn Storage>) -> bool {
    let range =
        u64::try_from(copy.container_start()).ok().and_then(|start| range_from(&**storage, start).ok());
    let section = range.and_then(|range| Section::new(Arc::clone(storage), range).ok());
    section.is_some_and(|section| NativeHeader::read(&section).is_err())
}

fn no_such_copy(why: &str) -> Error {
    Error::new(ErrorKind::Usage, why).during("cannot restore from that offset")
}

/// The native copy to restore from: the one that the user named, or else the newest of those that stand in their places. None
/// where the header can be read anyway.
fn candidate<'a>(
    offset: Option<u64>,
    found: &'a Findings,
    storage: &dyn Storage,
) -> Result<Option<&'a FoundCopy>> {
    let size = storage.size()?;
    let whole = &found.native.whole;
    if let Some(offset) = offset {
        let copy = whole.iter().find(|copy| copy.offset == offset);
        let is_luks = |luks: &FoundLuks| luks.start == offset || is_copy_of_first(luks, offset);
        if copy.is_none() && found.luks.found.iter().any(is_luks) {
            return Ok(None);
        }
        let copy = copy.ok_or_else(|| no_such_copy("no whole header copy was found there"))?;
        if copy.container_start() < 0 {
            return Err(no_such_copy(
                "the first bytes of its container are missing here: the rest does not lie where it says",
            ));
        }
        let end =
            copy.container_start().saturating_add(i128::from(copy.copy.superblock.geometry.container_len));
        if end > i128::from(size) {
            return Err(no_such_copy("its container is larger than what is here"));
        }
        return Ok(Some(copy));
    }
    let in_place: Vec<_> = whole.iter().filter(|copy| copy.is_in_place(size)).collect();
    let uuid = |copy: &FoundCopy| copy.copy.superblock.uuid;
    let Some(&newest) = in_place.iter().max_by_key(|copy| copy.copy.superblock.sequence) else {
        return Ok(None);
    };
    if NativeHeader::read(storage).is_ok() {
        return Ok(None);
    }
    if in_place.iter().any(|copy| uuid(copy) != uuid(newest)) {
        let error = Error::new(ErrorKind::Usage, "copies of several containers stand in their places");
        return Err(error.during("cannot choose a header copy").with_hint("name one with --offset"));
    }
    Ok(Some(newest))
}

/// The LUKS header to rebuild: the one at the start, where it is not as it must be.
fn luks_candidate<'a>(
    offset: Option<u64>,
    found: &'a Findings,
    storage: &dyn Storage,
) -> Result<Option<&'a FoundLuks>> {
    let at_start = found.luks.found.iter().find(|luks| luks.start == 0);
    let is_copy = |offset| at_start.is_some_and(|luks| is_copy_of_first(luks, offset));
    if offset.is_some_and(|offset| !is_copy(offset)) {
        return Err(no_such_copy(
            "a container starts there that is not the first one: what is said of it above gets at it",
        ));
    }
    let opens = by_signature(storage)?.map(Format::name);
    let is_whole =
        |luks: &&FoundLuks| opens == Some(luks.info.format) && !luks.lacks_magic && is_whole(&luks.info);
    Ok(at_start.filter(|luks| offset.is_some() || !is_whole(luks)))
}

/// Whether a copy of the header at the start stands at `offset`.
fn is_copy_of_first(luks: &FoundLuks, offset: u64) -> bool {
    luks.start == 0 && luks.info.headers.iter().any(|copy| copy.offset == offset)
}

fn restore(
    console: Console,
    options: &HeaderRepairOptions,
    (container, place): (&Container, PlaceOptions),
    found: &FoundCopy,
) -> Result<Vec<Replaced>> {
    let path = options.container.as_path();
    refuse_kernel_use(path)?;
    let restore = Restore::from_copy(&*container.storage(), &found.copy)
        .map_err(|error| error.during(format!("cannot restore the header of {}", path.display())))?;
    let consent = consent(options);
    refuse_noise(path, container, &restore, consent)?;
    let ranges = &restore.places();
    Overwriting { path, container, format: Native.name(), ranges, is_known: true }.check(consent)?;
    let unlocked = unlock(console, path, restore.source(), &options.unlock, options.keyslot.slot)?;
    let source = format!("the copy at offset {}", found.offset);
    let replaced = replacement(console, options, place, Path::new(&source)).carry_out(
        container,
        &restore,
        Some(&unlocked),
    )?;
    // Records of the work areas that went with the header which was there.
    if let Some((_, said)) = restore.source().alien_work(&unlocked)? {
        console.warn(&format!(
            "{said}; strongroom header repair {} replaces them, after asking",
            command_word(path)
        ));
    }
    Ok(replaced)
}

/// No secret is asked for, as `cryptsetup repair` asks for none.
fn restore_luks(
    console: Console,
    options: &HeaderRepairOptions,
    container: &Container,
    found: &FoundLuks,
) -> Result<Vec<Replaced>> {
    let path = options.container.as_path();
    refuse_kernel_use(path)?;
    // Without one that was chosen, the newer counts.
    let chosen = options.unlock.place.offset;
    let restore = rebuild(&container.storage(), chosen).map_err(|error| {
        let error = match &found.stranger {
            Some(_) if chosen.is_none() => error.with_hint(choice(found)),
            _ => error,
        };
        error.during(format!("cannot repair the header of {}", path.display()))
    })?;
    let ranges = &restore.places();
    Overwriting { path, container, format: found.info.format, ranges, is_known: true }
        .check(consent(options))?;
    let place = PlaceOptions { offset: None, ..options.unlock.place };
    replacement(console, options, place, Path::new("what is left of it"))
        .carry_out(container, &*restore, None)
}

/// `place` is where the container begins.
fn replacement<'a>(
    console: Console,
    options: &'a HeaderRepairOptions,
    place: PlaceOptions,
    source: &'a Path,
) -> Replacement<'a> {
    Replacement { console, path: &options.container, place, source, consent: consent(options), is_part: true }
}

const fn consent(options: &HeaderRepairOptions) -> Consent {
    Consent { is_agreed: options.yes, is_forced: options.force }
}

fn summary<'a>(
    path: &'a Path,
    container: &Container,
    place: PlaceOptions,
    found: &Findings,
) -> Result<Scanned<'a>> {
    let storage = container.storage();
    let (here, size) = (Here::new(container, place, &storage, found)?, storage.size()?);
    let mut copies = Vec::new();
    for found in &found.native.whole {
        let superblock = &found.copy.superblock;
        copies.push(ScannedCopy {
            offset: found.offset,
            copy: superblock.index.to_string(),
            uuid: hyphenated(&superblock.uuid),
            label: superblock.label.text().map(str::to_owned),
            sequence: superblock.sequence,
            container_size: superblock.geometry.container_len,
            container_start: found.container_start(),
            in_place: found.is_in_place(size),
            advice: here.native_advice(found)?,
        });
    }
    let mut luks = Vec::new();
    for found in &found.luks.found {
        luks.push(ScannedLuks {
            offset: found.start,
            format: found.info.format,
            uuid: found.info.uuid.clone(),
            label: found.info.label.clone(),
            data_offset: found.info.data_offset,
            lacks_magic: found.lacks_magic,
            is_text_only: found.is_text_only,
            advice: here.luks_advice(found)?,
        });
    }
    Ok(Scanned {
        container: path,
        copies,
        luks,
        broken: found.native.broken.saturating_add(found.luks.broken),
        unreadable: found.native.unreadable,
        starts_with: trace_at_start(&*storage),
        restored_from: None,
        replaced: Vec::new(),
        unmarked: None,
    })
}

fn describe(scanned: &Scanned<'_>, found: &Findings, tried: (&str, &str)) -> String {
    let mut lines = Vec::new();
    let name = shown(scanned.container);
    lines.extend(scanned.starts_with.map(|trace| format!("{name} starts with {trace}")));
    for copy in &scanned.copies {
        lines.push(format!(
            "offset {}: header copy {} of container {}{}, sequence {}",
            copy.offset,
            copy.copy,
            copy.uuid,
            label(copy.label.as_ref()),
            copy.sequence
        ));
        lines.push(format!("  {}", copy.advice));
    }
    for luks in &scanned.luks {
        let magic = match luks {
            ScannedLuks { is_text_only: true, .. } => TEXT_ONLY,
            ScannedLuks { lacks_magic: true, .. } => ", without the bytes that tell it",
            _ => "",
        };
        let uuid = luks.uuid.as_deref().unwrap_or("without a UUID");
        lines.push(format!(
            "offset {}: {} header of container {uuid}{}{magic}",
            luks.offset,
            luks.format,
            label(luks.label.as_ref())
        ));
        lines.push(format!("  {}", luks.advice));
    }
    for Headless { offset, missing } in &found.luks.headless {
        lines.push(format!("offset {offset}: the second copy of a luks2 header"));
        lines.push(format!("  the first {missing} bytes of its container are missing here"));
    }
    lines.extend(scanned.unmarked.iter().flatten().flat_map(ScannedUnmarked::describe));
    lines.extend(remarks(scanned, &found.native, found.luks.is_cut_short, tried));
    lines.into_iter().map(|line| line + "\n").collect()
}

/// What was not looked at, and what could not be read.
fn remarks(scanned: &Scanned<'_>, native: &Scan, is_cut_short: bool, tried: (&str, &str)) -> Vec<String> {
    let mut lines = Vec::new();
    if scanned.broken > 0 {
        lines.push(format!("{} other places start as a header copy does and are damaged", scanned.broken));
    }
    if scanned.unreadable > 0 {
        lines.push(format!("{} bytes cannot be read", scanned.unreadable));
    }
    // Where nothing else was found either, the error says it.
    let is_all = scanned.copies.is_empty() && scanned.luks.is_empty();
    if !is_all && scanned.unmarked.as_ref().is_some_and(Vec::is_empty) {
        let (formats, places) = tried;
        lines.push(format!("the password opens no header of {formats}: {places}"));
    }
    if native.is_cut_short || is_cut_short {
        lines.push("there are more places that look like header copies; they were not looked at".to_owned());
    }
    lines
}

fn label(label: Option<&String>) -> String {
    label.map(|label| format!(", label {}", in_quotes(label))).unwrap_or_default()
}

const TEXT_ONLY: &str = ", of which only the text is left: where its UUID is gone, this one is new";
const NOT_LOOKED_FOR: &str = "headers of VeraCrypt, TrueCrypt and FreeOTFE show nothing and were not looked for: --format veracrypt, or \
                              freeotfe, tries the password at the places where they stand; else a header backup helps";
