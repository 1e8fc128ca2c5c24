//! `header repair`; what it does where no header is found is below.

mod advice;
mod scan;
mod unmarked;

use std::{ops::Range, path::Path};

use serde::Serialize;
use strongroom::{
    crypto::rng::OsRng,
    error::{Error, ErrorKind, Fact, Result},
    format::{
        CopyInfo, CopyState, Format, Header, Unlocked,
        native::{CopyFault, CopyIndex, Fault, Native, NativeHeader},
        scan::rebuild,
    },
    volume::{Access, Container, check_file_system, keep_bytes},
};

use super::{
    super::{args::HeaderRepairOptions, unlock::unlock_with},
    Console, Replaced, Replacement, agree_by, cannot_open, check_terminal, keep, opaque, open,
    refusals::{Consent, needs_force},
    refuse_kernel_use, settle_format,
};

/// Rebuilds header copies from the good one, or looks for one.
pub(super) fn run(console: Console, options: &HeaderRepairOptions) -> Result<()> {
    if options.scan { scan::run(console, options) } else { repair(console, options) }
}

#[derive(Debug, Serialize)]
struct Repaired<'a> {
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    container: &'a Path,
    #[serde(rename = "repaired")]
    copies: Vec<RepairedCopy>,
    /// What was overwritten and no other copy has.
    replaced: Vec<Replaced>,
}

#[derive(Debug, Serialize)]
struct RepairedCopy {
    copy: String,
    was: String,
}

fn repair(console: Console, options: &HeaderRepairOptions) -> Result<()> {
    let path = options.container.as_path();
    let mut container = open(path, options.unlock.header_file(), Access::ReadWrite)?;
    settle_format(console, &mut container, &options.unlock)?;
    if opaque::is_opaque(&container) {
        return opaque::repair(console, options, &container);
    }
    let storage = container.storage();
    let format = container.format();
    if let Err(error) = &format
        && error.kind() == ErrorKind::NotAContainer
        && (error.fact() == Some(Fact::OtherContent) || error.hint().is_some())
    {
        // What it is, and what opens that: no header of ours is missed there.
        return format.map(drop).map_err(|error| cannot_open(error, path));
    }
    if let Some(format) = format.ok().filter(|format| format.name() != Native.name()) {
        let header = format.read_header(&*storage).map_err(|error| cannot_open(error, path))?;
        return repair_by_healing(console, options, &container, &*header);
    }
    let header = NativeHeader::read(&*storage).map_err(|error| {
        let hint =
            "strongroom header restore puts a backup back; header repair --scan looks for other copies";
        // Of what shows nothing more is told.
        let is_told = error.kind() == ErrorKind::Unsupported || error.fact() == Some(Fact::NoSignature);
        cannot_open(if is_told { error } else { error.with_hint(hint) }, path)
    })?;
    options.unlock.check_source()?;
    let (unlocked, _) = unlock_with(console, path, &header, &options.unlock, options.keyslot.slot)?;
    let cannot = |error: Error| error.during(format!("cannot repair the header of {}", path.display()));
    let faults = header.faults(&unlocked).map_err(cannot)?;
    if let Some(lost) = header.lost_work(&unlocked) {
        console.warn(&format!("{}: {lost}; no header copy mends that", path.display()));
    }
    let (lines, replaced) =
        mend(console, options, &container, &header, &unlocked, &faults).map_err(cannot)?;
    let repaired =
        faults.iter().map(|fault| RepairedCopy { copy: fault.index.to_string(), was: fault.to_string() });
    let repaired = Repaired { container: path, copies: repaired.collect(), replaced };
    console.done(&repaired, |_| match lines.as_slice() {
        [] => format!("{}: both header copies are whole and the same", path.display()),
        lines => {
            lines.iter().map(|line| format!("{}: {line}", path.display())).collect::<Vec<_>>().join("\n")
        }
    });
    Ok(())
}

/// Rewrites the copies that are not as good as the authentic one, and after asking what only the owner can say may go. Gives a
/// line for each, and where it is kept.
fn mend(
    console: Console,
    options: &HeaderRepairOptions,
    container: &Container,
    header: &NativeHeader,
    unlocked: &Unlocked,
    faults: &[CopyFault],
) -> Result<(Vec<String>, Vec<Replaced>)> {
    let (path, storage) = (options.container.as_path(), container.storage());
    let (strays, alien) = (header.strays(unlocked)?, header.alien_work(unlocked)?);
    let is_uncertain = !strays.is_empty() || alien.is_some();
    let (doubtful, plain): (Vec<_>, Vec<_>) =
        faults.iter().cloned().partition(|fault| fault.needs_consent() || is_uncertain);
    let keep = |lost: &[Range<u64>]| {
        keep(console, (path, ""), None, options.force, |folders| keep_bytes(container, lost, folders, &OsRng))
    };
    let rewrite = |faults: &[CopyFault]| -> Result<_> {
        let kept = keep(&faults.iter().filter_map(CopyFault::lost).collect::<Vec<_>>())?;
        Ok((header.repair(&*storage, unlocked, faults)?, kept))
    };
    let (mut lines, mut replaced) = rewrite(&plain)?;
    if doubtful.is_empty() && alien.is_none() {
        return Ok((lines, replaced));
    }
    let said = alien.iter().map(|(_, said)| said.clone());
    for doubt in strays.into_iter().chain(doubtful.iter().filter_map(doubt)).chain(said) {
        console.warn(&doubt);
    }
    let slots = alien.map(|(slots, _)| slots).unwrap_or_default();
    let copies = doubtful.iter().map(|fault| header.describe_rewriting(unlocked, fault));
    let records = slots.iter().map(|slots| {
        Ok(format!("the re-encryption records at offset {} with those of this header", slots.start))
    });
    let what = copies.chain(records).collect::<Result<Vec<_>>>()?.join(", and ");
    if options.yes && !options.force {
        return Err(needs_force(path, format!("it would replace {what}")));
    }
    // The records may be right, and the header wrong: then the data are noise under it, and go with them.
    if options.yes && !slots.is_empty() && check_file_system(container, unlocked)?.is_none() {
        let reason =
            format!("it would replace {what}, and no file system is known in the volume under this header");
        return Err(Error::new(ErrorKind::Exists, reason).with_hint(
            "look with mount --read-only: if it reads as noise, another header fits the data; else leave --yes out, and you are asked",
        ));
    }
    let question = format!("This replaces {what}.");
    agree_by(&question, answer(&doubtful), options.yes, "--yes with --force skips the question")?;
    let (more, kept) = rewrite(&doubtful)?;
    lines.extend(more);
    replaced.extend(kept);
    if !slots.is_empty() {
        replaced.extend(keep(&slots)?);
        lines.extend(header.replace_alien_work(&*storage, unlocked)?);
    }
    Ok((lines, replaced))
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
    let (unlocked, _) = unlock_with(console, path, header, &options.unlock, options.keyslot.slot)?;
    refuse_kernel_use(path)?;
    if options.force {
        return repair_by_force(console, options, container, header);
    }
    if let Some(left) = header.left_alone(&*container.storage())? {
        if options.yes {
            return Err(needs_force(path, left));
        }
        console.warn(&format!("{}: {left}", path.display()));
        return repair_by_force(console, options, container, header);
    }
    let replaced = keep_damaged(console, container, header)?;
    let lines = header
        .prepare_writing(&*container.storage(), &unlocked)
        .map_err(|error| error.during(format!("cannot repair the header of {}", path.display())))?;
    let repaired = lines.iter().map(|line| RepairedCopy { copy: "header".to_owned(), was: line.clone() });
    let repaired = Repaired { container: path, copies: repaired.collect(), replaced };
    console.done(&repaired, |_| match lines.as_slice() {
        [] => format!("{}: the header is whole", path.display()),
        lines => {
            lines.iter().map(|line| format!("{}: {line}", path.display())).collect::<Vec<_>>().join("\n")
        }
    });
    Ok(())
}

/// Keeps what stands in the place of a copy that is none, as it may be somebody's.
fn keep_damaged(console: Console, container: &Container, header: &dyn Header) -> Result<Vec<Replaced>> {
    let copies = header.describe().headers;
    let [first, second] = copies.as_slice() else { return Ok(Vec::new()) };
    let len = second.offset.saturating_sub(first.offset);
    let is_none = |copy: &&CopyInfo| matches!(copy.state, CopyState::Damaged | CopyState::Missing);
    let places: Vec<_> =
        copies.iter().filter(is_none).map(|copy| copy.offset..copy.offset.saturating_add(len)).collect();
    keep(console, (container.path(), ""), None, false, |folders| {
        keep_bytes(container, &places, folders, &OsRng)
    })
}

/// Writes both copies anew as the one that was unlocked, whatever stands in their places.
fn repair_by_force(
    console: Console,
    options: &HeaderRepairOptions,
    container: &Container,
    header: &dyn Header,
) -> Result<()> {
    let path = options.container.as_path();
    check_terminal(options.yes, path)?;
    let is_current = |copy: &&CopyInfo| copy.state == CopyState::Current;
    let chosen = header.describe().headers.iter().find(is_current).map(|copy| copy.offset);
    let restore = rebuild(&container.storage(), chosen)
        .map_err(|error| error.during(format!("cannot repair the header of {}", path.display())))?;
    let replacement = Replacement {
        console,
        path,
        place: options.unlock.place,
        source: path,
        consent: Consent { is_agreed: options.yes, is_forced: true },
        is_part: true,
    };
    let replaced = replacement.carry_out(container, &*restore, None)?;
    let was = "written anew".to_owned();
    let copies = vec![RepairedCopy { copy: "header".to_owned(), was }];
    console.done(&Repaired { container: path, copies, replaced }, |_| {
        format!("{}: the header is whole", path.display())
    });
    Ok(())
}

/// What has to be typed to agree: what goes.
fn answer(doubtful: &[CopyFault]) -> &'static str {
    match doubtful {
        [] => "replace",
        [only] if only.index == CopyIndex::A => "replace A",
        [_] => "replace B",
        _ => "replace both",
    }
}

/// What the owner should know before such a copy goes.
fn doubt(fault: &CopyFault) -> Option<String> {
    const LOST: &str = "password changes in it, if any, are lost";
    let index = fault.index;
    match &fault.fault {
        Fault::Foreign(copy) => Some(format!(
            "{copy}; if that is the one whose files these are, stop: header repair --scan --offset puts its header back instead"
        )),
        Fault::DamagedOther(other) if other.is_foreign() => Some(format!(
            "{other}; if that is the one whose files these are, stop: header restore --force puts a backup of its header there instead"
        )),
        Fault::DamagedOther(other) => Some(format!("{other}: {LOST}, and removed passwords work again")),
        Fault::Newer => Some(format!(
            "header copy {index} claims to be newer, but was changed by someone without the key: {LOST}"
        )),
        Fault::Unlinked => Some(format!(
            "header copy {index} was made under another volume key, or changed by someone without the key; if the files \
             read as noise, stop: it may hold the only key to them, and header repair --scan --offset {} puts it back \
             instead",
            fault.offset
        )),
        _ => None,
    }
}
