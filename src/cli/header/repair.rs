//! `header repair`, and what it does where no header is found.

use std::path::Path;

use serde::Serialize;
use strongroom::{
    error::{Error, ErrorKind, Result},
    format::{
        Format, Header,
        native::{CopyFault, Fault, FoundCopy, Native, NativeHeader, Restore, Scan, hyphenated, scan},
    },
    storage::Storage,
    text::in_quotes,
    volume::{Access, Container, trace_at_start},
};

use super::{
    super::{args::HeaderRepairOptions, output::print, progress::ByteProgress, prompt},
    Console, Replacement, agree, cannot_open, opaque, open, settle_format, unlock,
};

/// Rebuilds header copies from the good one, or looks for one.
pub(super) fn run(console: Console, options: &HeaderRepairOptions) -> Result<()> {
    if options.scan { scan_for_copies(console, options) } else { repair(console, options) }
}

#[derive(Debug, Serialize)]
struct Repaired<'a> {
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    container: &'a Path,
    repaired: Vec<RepairedCopy>,
}

#[derive(Debug, Serialize)]
struct RepairedCopy {
    copy: String,
    was: String,
}

fn repair(console: Console, options: &HeaderRepairOptions) -> Result<()> {
    let path = options.container.as_path();
    let mut container = open(path, options.unlock.header.as_deref(), Access::ReadWrite)?;
    settle_format(&mut container, &options.unlock)?;
    if opaque::is_opaque(&container) {
        return opaque::repair(console, options, &container);
    }
    let storage = container.storage();
    if let Some(format) = container.format().ok().filter(|format| format.name() != Native.name()) {
        let header = format.read_header(&*storage).map_err(|error| cannot_open(error, path))?;
        return repair_by_healing(console, options, &container, &*header);
    }
    let header = NativeHeader::read(&*storage).map_err(|error| {
        let hint =
            "strongroom header restore puts a backup back; header repair --scan looks for other copies";
        cannot_open(if error.kind() == ErrorKind::Unsupported { error } else { error.with_hint(hint) }, path)
    })?;
    options.unlock.check_source()?;
    let unlocked = unlock(console, path, &header, &options.unlock, options.keyslot.slot)?;
    let cannot = |error: Error| error.during(format!("cannot repair the header of {}", path.display()));

    let faults = header.faults(&unlocked).map_err(cannot)?;
    let strays = header.strays(&unlocked).map_err(cannot)?;
    let (doubtful, plain): (Vec<_>, Vec<_>) =
        faults.iter().cloned().partition(|fault| fault.needs_consent() || !strays.is_empty());
    let mut lines = header.repair(&*storage, &unlocked, &plain).map_err(cannot)?;
    if !doubtful.is_empty() {
        for stray in &strays {
            console.warn(stray);
        }
        for doubt in doubtful.iter().filter_map(doubt) {
            console.warn(&doubt);
        }
        agree(&format!("Header copies of {} will be replaced.", path.display()), options.yes)
            .map_err(cannot)?;
        lines.extend(header.repair(&*storage, &unlocked, &doubtful).map_err(cannot)?);
    }
    let repaired =
        faults.iter().map(|fault| RepairedCopy { copy: fault.index.to_string(), was: fault.to_string() });
    let repaired = Repaired { container: path, repaired: repaired.collect() };
    console.done(&repaired, |_| match lines.as_slice() {
        [] => format!("{}: both header copies are whole and the same", path.display()),
        lines => {
            lines.iter().map(|line| format!("{}: {line}", path.display())).collect::<Vec<_>>().join("\n")
        }
    });
    Ok(())
}

/// Formats whose copies need no decision: what opening for writing does.
fn repair_by_healing(
    console: Console,
    options: &HeaderRepairOptions,
    container: &Container,
    header: &dyn Header,
) -> Result<()> {
    let path = options.container.as_path();
    options.unlock.check_source_for(header)?;
    let unlocked = unlock(console, path, header, &options.unlock, options.keyslot.slot)?;
    let lines = header
        .prepare_writing(&*container.storage(), &unlocked)
        .map_err(|error| error.during(format!("cannot repair the header of {}", path.display())))?;
    let repaired = lines.iter().map(|line| RepairedCopy { copy: "header".to_owned(), was: line.clone() });
    let repaired = Repaired { container: path, repaired: repaired.collect() };
    console.done(&repaired, |_| match lines.as_slice() {
        [] => format!("{}: the header is whole", path.display()),
        lines => {
            lines.iter().map(|line| format!("{}: {line}", path.display())).collect::<Vec<_>>().join("\n")
        }
    });
    Ok(())
}

/// What the owner should know before such a copy goes.
fn doubt(fault: &CopyFault) -> Option<String> {
    const LOST: &str = "changes of passwords in it, if there were any, are lost";
    let index = fault.index;
    match &fault.fault {
        Fault::Foreign(copy) => Some(format!(
            "{copy}; if that is the one whose files these are, stop: header repair --scan --offset puts its header back instead"
        )),
        Fault::DamagedNewer { sequence, whole } => Some(format!(
            "header copy {index} is damaged and newer (sequence {sequence}, the whole one has {whole}): {LOST}, and a password removed by them opens again"
        )),
        Fault::Newer => Some(format!(
            "header copy {index} passes for newer, but was changed by someone without the key: {LOST}"
        )),
        _ => None,
    }
}

#[derive(Debug, Serialize)]
struct Scanned<'a> {
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    container: &'a Path,
    copies: Vec<ScannedCopy>,
    broken: u64,
    unreadable: u64,
    starts_with: Option<&'static str>,
    restored_from: Option<u64>,
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
}

fn scan_for_copies(console: Console, options: &HeaderRepairOptions) -> Result<()> {
    let path = options.container.as_path();
    let container = match open(path, None, Access::ReadWrite) {
        // Who may only read is told at least what there is.
        Err(error) if error.kind() == ErrorKind::Permission => open(path, None, Access::ReadOnly)?,
        result => result?,
    };
    let storage = container.storage();
    let progress = ByteProgress::start(console, "scanning");
    let found = scan(&*storage, &mut |done, total| progress.step(done, total))
        .map_err(|error| error.during(format!("cannot scan {}", path.display())))?;
    drop(progress);

    let size = storage.size()?;
    let mut scanned = summary(path, &found, size, trace_at_start(&*storage));
    if !console.is_json() {
        print(&describe(&scanned, &found, size))?;
    }
    if found.whole.is_empty() {
        let error = Error::new(ErrorKind::NotAContainer, format!("no header copy is left in {size} bytes"));
        return Err(error
            .during(format!("cannot repair {}", path.display()))
            .with_hint("only a backup made with strongroom header backup can help"));
    }
    if let Some(copy) = candidate(options.offset, &found, &*storage)? {
        if !container.is_read_only() && may_restore(console, options) {
            restore(console, options, &container, copy)?;
            scanned.restored_from = Some(copy.offset);
        } else {
            console.note(&format!("the copy at offset {} can be restored; nothing was changed", copy.offset));
        }
    } else if NativeHeader::read(&*storage).is_err() {
        console.note(
            "no copy stands where it belongs; nothing was changed: --offset names the one to restore from",
        );
    }
    console.object(&scanned)
}

/// Whether there is somebody to ask, or nothing to ask.
fn may_restore(console: Console, options: &HeaderRepairOptions) -> bool {
    let can_ask = prompt::has_terminal() && !console.is_json();
    (options.yes || can_ask) && options.unlock.check_source().is_ok()
}

/// The copy to restore from: the one that the user named, or else the newest of those that stand in their places. None where
/// the header can be read anyway.
fn candidate<'a>(
    offset: Option<u64>,
    found: &'a Scan,
    storage: &dyn Storage,
) -> Result<Option<&'a FoundCopy>> {
    let size = storage.size()?;
    let no_such_copy =
        |why: &str| Error::new(ErrorKind::Usage, why).during("cannot restore from that offset");
    if let Some(offset) = offset {
        let copy = found.whole.iter().find(|copy| copy.offset == offset);
        let copy = copy.ok_or_else(|| no_such_copy("no whole header copy was found there"))?;
        if !copy.fits(size) {
            return Err(no_such_copy("its container is larger than what is here"));
        }
        return Ok(Some(copy));
    }
    let in_place: Vec<_> = found.whole.iter().filter(|copy| copy.is_in_place(size)).collect();
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

fn restore(
    console: Console,
    options: &HeaderRepairOptions,
    container: &Container,
    found: &FoundCopy,
) -> Result<()> {
    let path = options.container.as_path();
    let restore = Restore::from_copy(&*container.storage(), &found.copy)
        .map_err(|error| error.during(format!("cannot restore the header of {}", path.display())))?;
    let unlocked = unlock(console, path, restore.source(), &options.unlock, options.keyslot.slot)?;
    let source = format!("the copy at offset {}", found.offset);
    let replacement =
        Replacement { console, path, source: Path::new(&source), is_agreed: options.yes, is_part: true };
    replacement.carry_out(container, &restore, Some(&unlocked))
}

fn summary<'a>(path: &'a Path, found: &Scan, size: u64, trace: Option<&'static str>) -> Scanned<'a> {
    let copies = found.whole.iter().map(|found| {
        let superblock = &found.copy.superblock;
        ScannedCopy {
            offset: found.offset,
            copy: superblock.index.to_string(),
            uuid: hyphenated(&superblock.uuid),
            label: superblock.label.text().map(str::to_owned),
            sequence: superblock.sequence,
            container_size: superblock.geometry.container_len,
            container_start: found.container_start(),
            in_place: found.is_in_place(size),
        }
    });
    Scanned {
        container: path,
        copies: copies.collect(),
        broken: found.broken,
        unreadable: found.unreadable,
        starts_with: trace,
        restored_from: None,
    }
}

fn describe(scanned: &Scanned<'_>, found: &Scan, size: u64) -> String {
    let mut lines = Vec::new();
    let name = scanned.container.display();
    lines.extend(scanned.starts_with.map(|trace| format!("{name} starts with {trace}")));
    for copy in &scanned.copies {
        let label =
            copy.label.as_ref().map(|label| format!(", label {}", in_quotes(label))).unwrap_or_default();
        lines.push(format!(
            "offset {}: header copy {} of container {}{label}, sequence {}",
            copy.offset, copy.copy, copy.uuid, copy.sequence
        ));
        lines.push(format!("  {}", where_it_belongs(copy, scanned.container, size)));
    }
    if scanned.broken > 0 {
        lines.push(format!("{} other places start as a header copy does and are damaged", scanned.broken));
    }
    if scanned.unreadable > 0 {
        lines.push(format!("{} bytes cannot be read", scanned.unreadable));
    }
    if found.is_cut_short {
        lines.push("there are more places that look like header copies; they were not looked at".to_owned());
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

fn where_it_belongs(copy: &ScannedCopy, path: &Path, size: u64) -> String {
    let (start, len) = (copy.container_start, copy.container_size);
    if copy.in_place {
        return "it stands in its place, and its container fits here".to_owned();
    }
    if start == 0 {
        return format!(
            "it stands in its place, but {} bytes at the end are missing",
            len.saturating_sub(size)
        );
    }
    if start < 0 {
        return format!("the first {} bytes of its container are missing here", start.unsigned_abs());
    }
    let path = path.display();
    let end = start.saturating_add(i128::from(len));
    let short = end.saturating_sub(i128::from(size));
    if short > 0 {
        return format!("its container starts at byte {start}, and its last {short} bytes are missing here");
    }
    format!(
        "its container starts at byte {start}: tail -c +{} {path} | head -c {len} > NEW cuts it out",
        start.saturating_add(1)
    )
}
