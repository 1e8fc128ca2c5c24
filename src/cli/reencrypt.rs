//! `reencrypt`: a new volume key for a container, mounted or not.

use std::{ops::ControlFlow, path::Path, sync::Arc, thread::sleep, time::Duration};

use serde::Serialize;
use strongroom::{
    crypto::{
        kdf::{Argon2Cost, KdfCost},
        rng::OsRng,
        secret::Credentials,
    },
    error::{Error, ErrorKind, Result},
    format::{
        Header, HeaderInfo, KeyslotInfo, NewKeyslot, Unlocked,
        native::{NativeHeader, SlotKind, Target, Trace},
    },
    mapping::Layout,
    mount::MountedReencryption,
    storage::Storage,
    text::path::command_word,
    unlock::Unlocking,
    volume::{
        Access, Container, LiveState, LiveStatus, Reencryption, StartHeader, Work,
        reencrypt::{Outcome, Pace, Tuning},
    },
};

use super::{
    args::{CipherChoice, CostOptions, ReencryptOptions},
    ask, cost,
    front::CommandLine,
    interrupt,
    mounting::{make_whole, open},
    output::Console,
    pin,
    progress::{ByteProgress, spin},
    unlock::{inspect, read_header, refuse_missing_end, settle_format, unlock_with},
};

/// Starts a re-encryption, or goes on with one; or has it rest, or tells how far it is.
pub(crate) fn run(console: Console, options: &ReencryptOptions) -> Result<()> {
    let path = options.container.as_path();
    let mounted = MountedReencryption::of(path);
    // What is mounted may be another partition of it.
    if options.unlock.place.is_any() && mounted.is_some() {
        return Err(Error::new(ErrorKind::Busy, "a part of it is mounted")
            .during(format!("cannot re-encrypt {}", path.display()))
            .with_hint(format!("strongroom unmount {}", command_word(path))));
    }
    let cannot = |error: Error| error.during(format!("cannot re-encrypt {}", path.display()));
    match (&mounted, options.stop || options.status) {
        (Some(mounted), true) => ask(console, options, mounted).map_err(cannot),
        (None, true) => Err(cannot(
            Error::new(ErrorKind::NotFound, "it is not mounted, so no re-encryption is running")
                .with_hint("strongroom info says whether a re-encryption is under way"),
        )),
        (Some(mounted), false) => online(console, options, mounted).map_err(cannot),
        (None, false) if options.background => Err(cannot(
            Error::new(ErrorKind::Usage, "it is not mounted, so nothing can work in the background")
                .with_hint("mount it first, or leave out --background"),
        )),
        (None, false) => offline(console, options).map_err(cannot),
    }
}

/// `--stop` and `--status`.
fn ask(console: Console, options: &ReencryptOptions, mounted: &MountedReencryption) -> Result<()> {
    let line = |told: &Told<'_>| format!("{}\n", told.line());
    if options.stop {
        console.done_with_result(&Told::of(&options.container, &mounted.pause()?), line);
        return Ok(());
    }
    console.result(&Told::of(&options.container, &mounted.status()?), line)
}

/// The work is done here, on a container that nobody else has open.
fn offline(console: Console, options: &ReencryptOptions) -> Result<()> {
    let path = options.container.as_path();
    let mut container = open(path, options.unlock.header_file(), Access::ReadWrite)?;
    settle_format(console, &mut container, &options.unlock)?;
    let header = read_header(&container)?;
    check_format(path, &*header)?;
    check_keys(&header.describe(), options)?;
    options.unlock.check_source_for(&*header)?;
    let (unlocked, credentials) =
        unlock_with(console, path, &*header, &options.unlock, options.keyslot.slot)?;
    let is_resumed = is_under_way(&*container.storage(), &unlocked, options)?;
    refuse_missing_end(&container, &unlocked)?;
    make_whole(console, path, &container, (&*header, &unlocked))?;
    let storage = container.storage();
    let mut work = if is_resumed {
        Reencryption::resume(Arc::clone(&storage), Arc::clone(&unlocked.volume_key), Tuning::default())?
    } else {
        let start = start_header(console, options, &container, &unlocked, credentials)?;
        interrupt::check()?;
        Reencryption::start(Arc::clone(&storage), &start, Tuning::default())?
    };
    drop(unlocked);
    work.leave(trace(options));
    pin::advance(console, &*storage, &work.volume_key());
    let progress = ByteProgress::start(console, "re-encrypting");
    let outcome = work.run(&mut Pace::new(options.max_rate), &mut |done, total| progress.step(done, total));
    drop(progress);
    pin::advance(console, &*storage, &work.volume_key());
    match outcome? {
        Outcome::Finished => finished(console, path, work.total()),
        Outcome::Paused => return Err(stopped(options, work.done(), work.total())),
    }
    Ok(())
}

/// Only strongroom's own containers have the records that make it safe.
fn check_format(path: &Path, header: &dyn Header) -> Result<()> {
    let format = header.describe().format;
    if format == "native" {
        return Ok(());
    }
    let reason = format!("only containers of strongroom's own format are re-encrypted, not {format}");
    let in_place = if format.starts_with("luks") { "cryptsetup reencrypt does it in place; or " } else { "" };
    Err(Error::new(ErrorKind::Usage, reason)
        .during(format!("cannot re-encrypt {}", path.display()))
        .with_hint(format!("{in_place}strongroom export, then strongroom import into a new container")))
}

/// The server of the volume does the work; this watches it.
fn online(console: Console, options: &ReencryptOptions, mounted: &MountedReencryption) -> Result<()> {
    let path = options.container.as_path();
    if mounted.status()?.state == LiveState::Running {
        return Err(Error::new(ErrorKind::Busy, "it is already being re-encrypted")
            .with_hint("--status shows its progress, --stop pauses it"));
    }
    let (container, header) = inspect(console, path, &options.unlock)?;
    check_format(path, &*header)?;
    check_keys(&header.describe(), options)?;
    options.unlock.check_source_for(&*header)?;
    let (unlocked, credentials) =
        unlock_with(console, path, &*header, &options.unlock, options.keyslot.slot)?;
    if is_under_way(&*container.storage(), &unlocked, options)? {
        mounted.resume(unlocked.volume_key.expose(), ordered(options))?;
    } else {
        let start = start_header(console, options, &container, &unlocked, credentials)?;
        interrupt::check()?;
        mounted.start(&start, ordered(options))?;
    }
    drop(unlocked);
    if options.background {
        let told = Told::of(path, &mounted.status()?);
        console.done(&told, |told| format!("{}: {}", path.display(), told.line()));
        return Ok(());
    }
    watch(console, options, mounted)
}

/// What the server is to do. It runs on after this command, so the pin is its to move.
fn ordered(options: &ReencryptOptions) -> Work {
    Work { max_rate: options.max_rate, trace: trace(options), pins: pin::folder() }
}

const fn trace(options: &ReencryptOptions) -> Trace {
    if options.no_trace { Trace::Remove } else { Trace::Leave }
}

/// Shows the progress of the server until it is at the end, or Ctrl-C has it rest.
fn watch(console: Console, options: &ReencryptOptions, mounted: &MountedReencryption) -> Result<()> {
    let path = options.container.as_path();
    let progress = ByteProgress::start(console, "re-encrypting");
    loop {
        let status = mounted.status()?;
        let is_stopped = progress.step(status.done, status.total) == ControlFlow::Break(());
        match status.state {
            LiveState::Running if is_stopped => {
                let status = mounted.pause()?;
                drop(progress);
                if status.state == LiveState::Done {
                    finished(console, path, status.total);
                    return Ok(());
                }
                return Err(stopped(options, status.done, status.total));
            }
            LiveState::Running => sleep(TICK),
            LiveState::Paused | LiveState::None => {
                drop(progress);
                return Err(stopped(options, status.done, status.total));
            }
            LiveState::Done => {
                drop(progress);
                finished(console, path, status.total);
                return Ok(());
            }
            LiveState::Failed => {
                let reason = status.error.unwrap_or_else(|| "it failed".to_owned());
                return Err(Error::new(ErrorKind::Io, reason)
                    .with_hint("nothing is lost; unmount, mount and run the same command again to go on"));
            }
        }
    }
}

/// Whether there is something to go on with. What is to become of the data was decided at its start.
fn is_under_way(storage: &dyn Storage, unlocked: &Unlocked, options: &ReencryptOptions) -> Result<bool> {
    let Layout::Moving(_) = unlocked.layout else { return Ok(false) };
    let settled = NativeHeader::read(storage)?.target();
    let suite = options.cipher.map_or(settled.suite, CipherChoice::suite);
    if suite != settled.suite || options.sector_size.is_some_and(|size| size != settled.sector_size) {
        let reason = "a re-encryption with another cipher or sector size is under way";
        return Err(Error::new(ErrorKind::Usage, reason).with_hint("finish it first, without these options"));
    }
    Ok(true)
}

/// Fails early where the format is another's, or the passwords of other keyslots would have to be asked for and cannot be.
fn check_keys(info: &HeaderInfo, options: &ReencryptOptions) -> Result<()> {
    if info.format != "native" {
        let reason = format!("it is a {} container, and only strongroom's own are re-encrypted", info.format);
        return Err(
            Error::new(ErrorKind::Usage, reason).with_hint("make a new container and copy the files over")
        );
    }
    if info.reencryption || options.drop_other_keys || info.keyslots.len() < 2 || ask::is_possible() {
        return Ok(());
    }
    let reason = format!(
        "{} keyslots are in use, and there is no terminal to ask for their passwords on",
        info.keyslots.len()
    );
    Err(Error::new(ErrorKind::Usage, reason)
        .with_hint("--drop-other-keys keeps only the one that the given password opens"))
}

/// Draws the new volume key, and seals a keyslot for each password that shall go on.
fn start_header(
    console: Console,
    options: &ReencryptOptions,
    container: &Container,
    unlocked: &Unlocked,
    credentials: Credentials,
) -> Result<StartHeader> {
    let storage: Arc<dyn Storage> = container.storage();
    let header = NativeHeader::read(&*storage)?;
    let info = header.describe();
    let kept = kept_keyslots(console, options, &header, &info, unlocked, credentials)?;
    let new: Vec<_> = kept.iter().map(Kept::new_keyslot).collect();
    let target = target(options, &header);
    if target.sector_size.bytes() > header.target().sector_size.bytes() {
        console.warn(
            "a file system made for sectors of 512 bytes may refuse to mount on larger ones: xfs, FAT, ext4 with blocks of \
             1 KiB; --sector-size 512 undoes this",
        );
    }
    interrupt::at_liberty(|| {
        spin(console, "deriving the keys", || StartHeader::new(&header, unlocked, target, &new, &OsRng))
    })
}

fn target(options: &ReencryptOptions, header: &NativeHeader) -> Target {
    let present = header.target();
    let suite = options.cipher.map_or(present.suite, CipherChoice::suite);
    Target { suite, sector_size: options.sector_size.unwrap_or(present.sector_size) }
}

/// A keyslot that goes on, with what opens it.
struct Kept {
    slot: KeyslotInfo,
    cost: KdfCost,
    credentials: Credentials,
}

impl Kept {
    /// Opening the keyslot costs what it did, unless that is less than a new one may cost.
    fn new(
        console: Console,
        header: &dyn Header,
        slot: &KeyslotInfo,
        credentials: Credentials,
    ) -> Result<Self> {
        let cost = match (slot.kdf.argon2_cost(), header.kdf_bounds()) {
            (Some(cost), _) if !slot.weak => cost.into(),
            (Some(_), Some(bounds)) => {
                interrupt::at_liberty(|| cost::settle(console, CostOptions::default(), &bounds))?
            }
            _ => Argon2Cost { memory_kib: 0, passes: 0, lanes: 0 }.into(),
        };
        Ok(Self { slot: slot.clone(), cost, credentials })
    }

    fn new_keyslot(&self) -> NewKeyslot<'_> {
        NewKeyslot {
            slot: Some(self.slot.slot),
            label: self.slot.label.as_deref(),
            priority: self.slot.priority.unwrap_or_default(),
            cost: self.cost,
            credentials: &self.credentials,
        }
    }
}

/// The keyslot that was opened, and each other whose password the user knows. The new volume key cannot be sealed for the
/// rest: they go, once the user has agreed.
fn kept_keyslots(
    console: Console,
    options: &ReencryptOptions,
    header: &dyn Header,
    info: &HeaderInfo,
    unlocked: &Unlocked,
    credentials: Credentials,
) -> Result<Vec<Kept>> {
    let opened = info.keyslots.iter().find(|slot| Some(slot.slot) == unlocked.keyslot);
    let opened = opened
        .ok_or_else(|| Error::new(ErrorKind::Busy, "somebody else changed the header in the meantime"))?;
    let mut kept = vec![Kept::new(console, header, opened, credentials)?];
    let mut lost = Vec::new();
    for slot in info.keyslots.iter().filter(|slot| slot.slot != opened.slot) {
        let is_asked = !options.drop_other_keys
            && [SlotKind::Password.name(), SlotKind::Recovery.name()].contains(&slot.kind);
        match if is_asked { ask_for(console, header, slot, options)? } else { None } {
            Some(credentials) => kept.push(Kept::new(console, header, slot, credentials)?),
            None => lost.push(format!("the {} in {}", slot.kind.replace('-', " "), slot.name())),
        }
    }
    if !lost.is_empty() && !options.drop_other_keys {
        let question = format!(
            "These keyslots will be removed. This will no longer open the container: {}.",
            lost.join(", ")
        );
        ask::confirm(&question)?;
    }
    Ok(kept)
}

/// Asks for the password or recovery key of a keyslot. `None` where the user has none to give.
fn ask_for(
    console: Console,
    header: &dyn Header,
    slot: &KeyslotInfo,
    options: &ReencryptOptions,
) -> Result<Option<Credentials>> {
    let (front, wish) = (CommandLine::asking(console), options.unlock.wish(None));
    let unlocking = Unlocking { front: &front, path: &options.container, header, wish: &wish };
    unlocking
        .unlock_kept(slot)
        .map_err(|error| error.with_hint("--drop-other-keys continues without the other keyslots"))
}

fn finished(console: Console, path: &Path, total: u64) {
    let told = Told { container: path, state: LiveState::Done, done: total, total, rate: 0, error: None };
    console.done(&told, |_| {
        format!("re-encrypted {}: backups of the old header no longer work", path.display())
    });
}

fn stopped(options: &ReencryptOptions, done: u64, total: u64) -> Error {
    let header = options.unlock.header.as_ref().map(|file| format!(" --header {}", command_word(file)));
    let (path, header) = (command_word(&options.container), header.unwrap_or_default());
    Error::new(ErrorKind::Interrupted, format!("stopped at {}; the container is whole", percent(done, total)))
        .with_hint(format!("strongroom reencrypt {path}{header} goes on"))
}

fn percent(done: u64, total: u64) -> String {
    let tenths = u128::from(done) * 1000 / u128::from(total.max(1));
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// What is told of a re-encryption. Sizes in bytes, the rate in bytes a second.
#[derive(Debug, Serialize)]
struct Told<'a> {
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    container: &'a Path,
    state: LiveState,
    done: u64,
    total: u64,
    rate: u64,
    error: Option<String>,
}

impl<'a> Told<'a> {
    fn of(container: &'a Path, status: &LiveStatus) -> Self {
        let LiveStatus { state, done, total, rate, error } = status.clone();
        Self { container, state, done, total, rate, error }
    }

    fn line(&self) -> String {
        let at = percent(self.done, self.total);
        match self.state {
            LiveState::None => "no re-encryption is under way".to_owned(),
            LiveState::Running => {
                let left = (self.total - self.done).checked_div(self.rate);
                let left = left.map_or_else(String::new, |seconds| format!(", {} left", time(seconds)));
                format!("re-encrypting, at {at}, {} a second{left}", super::size::show_size(self.rate))
            }
            LiveState::Paused => format!("the re-encryption is paused at {at}"),
            LiveState::Done => "the re-encryption is done".to_owned(),
            LiveState::Failed => {
                format!("the re-encryption stopped at {at}: {}", self.error.as_deref().unwrap_or("it failed"))
            }
        }
    }
}

/// `1:02:03`
fn time(seconds: u64) -> String {
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

const TICK: Duration = Duration::from_millis(200);
