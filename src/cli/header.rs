//! `header backup` and `header restore`; `header repair` is below.

pub(super) mod opaque;
mod refusals;
mod repair;

use std::{
    ops::Range,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::Serialize;
use strongroom::{
    crypto::rng::OsRng,
    error::{Error, ErrorKind, Result},
    format::{Format, HeaderInfo, HeaderRestore, KeyslotInfo, Unlocked, native::Native},
    sys::in_use::{KernelUse, kernel_use_of},
    text::{
        in_quotes,
        path::{command_word, shown},
    },
    volume::{
        Access, Container, Kept, Stranger, backup_header, by_signature, file_of, header_without_container,
        keep_replaced, open_for_backup, plan_restore, trace_at_start,
    },
};

use refusals::{Consent, Overwriting, known_data, needs_force, refuse_elsewhere, refuse_noise, strangers};

use super::{
    args::{HeaderBackupOptions, HeaderCommand, HeaderRestoreOptions, PlaceOptions},
    ask,
    info::describe_keyslots,
    interrupt,
    mounting::open,
    output::Console,
    pin,
    unlock::{attach, cannot_open, check_kind, settle_format, unlock},
};

/// Runs one of the `header` commands.
pub(crate) fn run(console: Console, command: &HeaderCommand) -> Result<()> {
    match command {
        HeaderCommand::Backup(options) => backup(console, options),
        HeaderCommand::Restore(options) => restore(console, options),
        HeaderCommand::Repair(options) => repair::run(console, options),
    }
}

#[derive(Debug, Serialize)]
struct BackedUp<'a> {
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    container: &'a Path,
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    header_file: &'a Path,
    uuid: Option<String>,
    left_out: Vec<String>,
}

fn backup(console: Console, options: &HeaderBackupOptions) -> Result<()> {
    let (path, file) = (options.container.as_path(), options.file.as_path());
    check_kind(path)?;
    let opened = interrupt::asking_at_liberty(path, || open_for_backup(path));
    let (mut container, is_shared) = opened.map_err(|error| cannot_open(error, path))?;
    attach(&mut container, options.unlock.header_file(), Container::peek)?;
    settle_format(console, &mut container, &options.unlock)?;
    if opaque::is_opaque(&container) {
        return opaque::backup(console, options, &container);
    }
    let backup = backup_header(&container, is_shared, file, &OsRng).map_err(|error| {
        let error =
            error.during(format!("cannot back up the header of {} to {}", path.display(), file.display()));
        // What it may be all the same.
        if error.kind() == ErrorKind::NotAContainer { cannot_open(error, path) } else { error }
    })?;
    for index in backup.left_out() {
        let what = match container.format()?.name() {
            "native" => format!("header copy {index} is not whole and was left out"),
            _ => {
                format!("the {index} header copy is not whole; the backup has the other one in its place too")
            }
        };
        console.warn(&format!("{what}; strongroom header repair {} rebuilds it", command_word(path)));
    }
    let doubt = backup.doubt().map(str::to_owned);
    if let Some(doubt) = &doubt {
        console.warn(&format!("{}: {doubt}", path.display()));
    }
    if let Some(closed) = backup.closed() {
        console.warn(&format!("{}: {closed}; the backup opens nothing either", path.display()));
    }
    let passwords = if doubt.is_some() { "the passwords of its time" } else { "today's passwords" };
    let use_of_it = match backup.closed() {
        Some(_) => "keep backups from before: they may open".to_owned(),
        None => format!("it opens with {passwords}, even if you change or remove them later: keep it safe"),
    };
    let done =
        BackedUp { container: path, header_file: file, uuid: backup.uuid(), left_out: backup.left_out() };
    console
        .done(&done, |_| format!("backed up the header of {} to {}\n{use_of_it}", shown(path), shown(file)));
    Ok(())
}

/// What was overwritten, and where it is now.
#[derive(Debug, Serialize)]
struct Replaced {
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    file: PathBuf,
    /// Where the bytes of the file were; `null` where the file is a header backup.
    offset: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Restored<'a> {
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    container: &'a Path,
    uuid: Option<String>,
    keyslots: Vec<KeyslotInfo>,
    replaced: Vec<Replaced>,
}

fn restore(console: Console, options: &HeaderRestoreOptions) -> Result<()> {
    let (path, file) = (options.container.as_path(), options.file.as_path());
    let mut container = open(path, options.unlock.header_file(), Access::ReadWrite)?;
    settle_format(console, &mut container, &options.unlock)?;
    refuse_kernel_use(path)?;
    // A backup that is damaged is no reason to restore the container from one.
    let with_way =
        |error: Error| if error.kind() == ErrorKind::Damaged { error.with_hint(COMPARE) } else { error };
    let cannot_read =
        |error: Error| with_way(error).during(format!("cannot open header file {}", file.display()));
    check_kind(file)?;
    let source = Container::open(file, Access::ReadOnly).map_err(cannot_read)?;
    if opaque::is_opaque(&container) {
        return opaque::restore(console, options, &container, &source);
    }
    if !options.force {
        refuse_header_alone(&container)
            .map_err(|error| error.during(format!("cannot restore the header of {}", path.display())))?;
    }
    let restore = plan_restore(&container, &source, options.force).map_err(|error| {
        with_way(error).during(format!(
            "cannot restore the header of {} from {}",
            path.display(),
            file.display()
        ))
    })?;
    if let Some(refusal) = restore.refusal().filter(|_| !options.force) {
        let error = Error::new(refusal.kind(), refusal.reason());
        return Err(error
            .during(format!("cannot restore the header of {} from {}", path.display(), file.display()))
            .with_hint(refusal.hint().unwrap_or_default()));
    }
    check_terminal(options.yes, path)?;
    let consent = Consent { is_agreed: options.yes, is_forced: options.force };
    refuse_noise(path, &container, &*restore, consent)?;
    // Also where the second copy shows that it belongs here: what took the first one's place is somebody's.
    // What is in the header file of a folder of pieces is the container's.
    if container.pieces().is_none() && !bears_its_header(&container, &*restore)? {
        let source = restore.source().describe();
        refuse_elsewhere(path, &container, options.unlock.place, source.uuid.as_deref())?;
        let overwriting = Overwriting {
            path,
            container: &container,
            format: source.format,
            ranges: &restore.places(),
            is_known: restore.is_recognised(),
        };
        overwriting.check(consent)?;
    }
    let replacement =
        Replacement { console, path, place: options.unlock.place, source: file, consent, is_part: false };
    let unlocked = if restore.takes_secret() {
        options.unlock.check_source()?;
        Some(unlock(console, file, restore.source(), &options.unlock, options.keyslot.slot)?)
    } else {
        None
    };
    replacement.carry_out(&container, &*restore, unlocked.as_ref()).map(drop)
}

/// A header about to take the place of another.
#[derive(Debug)]
struct Replacement<'a> {
    console: Console,
    path: &'a Path,
    /// Which part of that the container is.
    place: PlaceOptions,
    /// Where the new header comes from.
    source: &'a Path,
    consent: Consent,
    /// The result is part of another one, which will be printed.
    is_part: bool,
}

impl Replacement<'_> {
    /// Shows both headers, asks, and writes; gives what was overwritten.
    fn carry_out(
        &self,
        container: &Container,
        restore: &dyn HeaderRestore,
        unlocked: Option<&Unlocked>,
    ) -> Result<Vec<Replaced>> {
        if let Some(loss) = restore.loses(unlocked).filter(|_| self.consent.is_short()) {
            return Err(needs_force(self.path, loss));
        }
        let cannot_restore =
            |error: Error| error.during(format!("cannot restore the header of {}", self.path.display()));
        restore.check(unlocked).map_err(cannot_restore)?;
        let source = restore.source().describe();
        self.console.note(&show("The header to be restored", Some(&source)));
        self.console.note(&show("The header that is there now", restore.present().as_ref()));
        for warning in self.warnings(container, restore, unlocked) {
            self.console.warn(&warning);
        }
        let question = format!("The header of {} will be replaced.", self.place.name(self.path));
        agree(&question, self.consent.is_agreed)?;
        let replaced = self.keep(|folders| keep_replaced(container, restore, folders, &OsRng))?;
        restore.write(&*container.storage(), unlocked).map_err(cannot_restore)?;
        if let Some(unlocked) = unlocked.filter(|_| source.format == Native.name()) {
            pin::advance(self.console, &*container.storage(), &unlocked.volume_key);
        }
        let line =
            format!("restored the header of {} from {}", self.place.name(self.path), shown(self.source));
        if self.is_part {
            self.console.note(&line);
            return Ok(replaced);
        }
        let restored =
            Restored { container: self.path, uuid: source.uuid, keyslots: source.keyslots, replaced };
        self.console.done(&restored, |_| line);
        Ok(restored.replaced)
    }

    /// Keeps what will be overwritten, and says where.
    fn keep(&self, take: impl FnOnce(&[PathBuf]) -> Result<Vec<Kept>>) -> Result<Vec<Replaced>> {
        let way = self.place.option();
        keep(self.console, (self.path, &way), Some(self.source), self.consent.is_forced, take)
    }

    /// What speaks against it.
    fn warnings(
        &self,
        container: &Container,
        restore: &dyn HeaderRestore,
        unlocked: Option<&Unlocked>,
    ) -> Vec<String> {
        let mut warnings = restore.warnings(unlocked);
        if restore.present().is_none() && !self.is_part {
            let shows_nothing = container.shows_nothing().unwrap_or(true);
            let loss = if shows_nothing { LOSS } else { "" };
            let is_recognised = restore.is_recognised();
            let left = if is_recognised {
                "no header is left that opens; what is left of one, or of its work areas, is of the same container as this one"
            } else {
                "no header is left to show that this one belongs here"
            };
            let places = written(&restore.places());
            warnings.push(format!("{left}; {places} will be overwritten{loss}"));
            let trace = trace_at_start(&*container.storage());
            warnings.extend(trace.map(|trace| format!("{} starts with {trace}", self.path.display())));
            let stranger = strangers(container, &restore.places(), is_recognised).ok().flatten();
            warnings.extend(stranger.map(|Stranger { what, option }| {
                let way = option.map(|option| format!("; if this header belongs there: {option}"));
                format!("{what}, and will be overwritten{}", way.unwrap_or_default())
            }));
        } else if !bears_its_header(container, restore).unwrap_or(false)
            && let Ok(Some(lost)) = known_data(&*container.storage(), restore.source().describe().format)
        {
            warnings.push(format!("{} starts with {lost}, which will be overwritten", self.path.display()));
        }
        warnings
    }
}

/// Keeps what will be overwritten in the container at `path`, beside it or beside the `source` of what takes its place, and
/// says where. `way` is the option that names the container's place.
fn keep(
    console: Console,
    (path, way): (&Path, &str),
    source: Option<&Path>,
    is_forced: bool,
    take: impl FnOnce(&[PathBuf]) -> Result<Vec<Kept>>,
) -> Result<Vec<Replaced>> {
    let parent = |path: &Path| path.parent().map(Path::to_path_buf);
    // Beside a device there is no room.
    let beside = parent(path).filter(|_| path.is_file() || path.is_dir());
    let folders = [beside, source.and_then(parent), Some(PathBuf::new())];
    let folders: Vec<_> = folders.into_iter().flatten().collect();
    let kept = match take(&folders) {
        Ok(kept) => kept,
        Err(error) if is_forced => {
            console.warn(&format!("no copy is kept of what is overwritten: {}", error.reason()));
            Vec::new()
        }
        Err(error) => {
            let reason = format!("cannot save a copy of what is there now: {}", error.reason());
            return Err(Error::new(error.kind(), reason)
                .during(format!("cannot replace the header of {}", path.display()))
                .with_hint("run it from a folder that you can write to"));
        }
    };
    for Kept { file, offset, of } in &kept {
        console.note(&match offset {
            None => {
                format!(
                    "the header that was there is kept in {}; strongroom header restore{way} puts it back",
                    shown(file)
                )
            }
            Some(offset) => format!(
                "what was there is kept in {}; dd if={} of={} bs=1M seek={offset} oflag=seek_bytes conv=notrunc puts it back",
                shown(file),
                command_word(file),
                command_word(of)
            ),
        });
    }
    Ok(kept.into_iter().map(|Kept { file, offset, .. }| Replaced { file, offset }).collect())
}

fn show(title: &str, header: Option<&HeaderInfo>) -> String {
    let Some(header) = header else { return format!("{title}: none") };
    let sequence = header.headers.iter().filter_map(|copy| copy.sequence).max();
    let mut facts = vec![format!("container {}", header.uuid.as_deref().unwrap_or("unknown"))];
    facts.extend(header.label.as_ref().map(|label| format!("label {}", in_quotes(label))));
    facts.extend(sequence.map(|number| format!("sequence {number}")));
    format!("{title}: {}\n{}", facts.join(", "), describe_keyslots(&header.keyslots).trim_end())
}

/// Refuses a file that the kernel has behind a loop device or as swap space: no lock shows that, and what it writes would
/// meet what is written here.
fn refuse_kernel_use(path: &Path) -> Result<()> {
    check_kernel_use(path)
        .map_err(|error| error.during(format!("cannot replace the header of {}", path.display())))
}

/// The same, whatever is to be done to it.
pub(crate) fn check_kernel_use(path: &Path) -> Result<()> {
    let Ok(metadata) = std::fs::metadata(file_of(path)) else { return Ok(()) };
    let found = metadata.is_file().then(|| kernel_use_of((metadata.dev(), metadata.ino()))).flatten();
    let (reason, hint) = match found {
        None => return Ok(()),
        Some(KernelUse::Loop(device)) => {
            let device = device.display();
            (
                format!("loop device {device} has it open"),
                format!("unmount what is on it, and take it away: losetup -d {device}"),
            )
        }
        Some(KernelUse::Swap) => ("it is in use as swap space".to_owned(), "swapoff it first".to_owned()),
    };
    Err(Error::new(ErrorKind::Busy, reason).with_hint(hint))
}

/// Places in words: `its first 65536 bytes, and 65536 from byte 1048576`.
fn written(places: &[Range<u64>]) -> String {
    let mut sorted = places.to_vec();
    sorted.sort_by_key(|place| place.start);
    let mut places: Vec<Range<u64>> = Vec::new();
    for place in sorted {
        match places.last_mut().filter(|last| last.end >= place.start) {
            Some(last) => last.end = last.end.max(place.end),
            None => places.push(place),
        }
    }
    let mut words = Vec::new();
    for place in places {
        let len = place.end.saturating_sub(place.start);
        words.push(match place.start {
            0 => format!("its first {len} bytes"),
            start => format!("{len} from byte {start}"),
        });
    }
    words.join(", and ")
}

/// Refuses what is a header without its container: where the two files were exchanged, the backup would be lost.
fn refuse_header_alone(container: &Container) -> Result<()> {
    // What cannot be read is no backup to be lost.
    if !header_without_container(container).is_ok_and(|found| found.is_some()) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Usage, "it is a header without its container").with_hint(
        "the container comes first, then the file with its header; a detached header is restored with --header; --force overwrites \
         this file nevertheless",
    ))
}

/// Whether what stands in the first copy's place is the header that `restore` replaces.
fn bears_its_header(container: &Container, restore: &dyn HeaderRestore) -> Result<bool> {
    let storage = container.storage();
    let found = by_signature(storage.header().unwrap_or(&*storage))?.map(Format::name);
    Ok(restore.present().is_some() && found == Some(restore.source().describe().format))
}

/// Fails early where a question will have to be asked and nobody can answer.
fn check_terminal(is_agreed: bool, path: &Path) -> Result<()> {
    if is_agreed || ask::is_possible() {
        return Ok(());
    }
    let error =
        Error::new(ErrorKind::Usage, "it is replaced only if you agree, and there is no terminal to ask on");
    Err(error
        .during(format!("cannot replace the header of {}", path.display()))
        .with_hint("--yes skips the question"))
}

/// Asks, unless the user agreed beforehand.
fn agree(question: &str, is_agreed: bool) -> Result<()> {
    agree_by(question, "yes", is_agreed, "--yes skips the question")
}

/// The same with another answer than `yes`, and another way to agree beforehand.
fn agree_by(question: &str, answer: &str, is_agreed: bool, hint: &str) -> Result<()> {
    if is_agreed {
        return Ok(());
    }
    ask::confirm_by(question, answer).map_err(|error| error.with_hint(hint))
}

/// What gets on where a header file cannot be restored.
const COMPARE: &str = "nothing was written; strongroom check on both says what is wrong with which; another backup may be whole";
/// What a container without a header may be.
const LOSS: &str = "; a VeraCrypt or TrueCrypt container, which shows no header, would be lost";
