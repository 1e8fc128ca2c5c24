//! The command's side of unmounting.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    asking::have_looked,
    bystanders::Bystanders,
    in_use::{check_force, explained, unmounted_here},
    mountinfo::MountTable,
    others::{other_at, others},
    protocol::{self, Command, Failure, Outcome},
    registry::{
        Entry, Record, Session, file_id, named, sessions, sessions_anywhere, sessions_settled_for,
        settled_sessions,
    },
    session::CONTROL,
    stale,
    sync::flush_before_unmount,
    whereabouts::Lost,
};
use crate::{
    error::{Error, ErrorKind, Result},
    export::unmount_fuse,
    sys::{freezer::Freezer, fuse_mount::device_number, process::boot_id, socket::connect},
    volume::{Access, Container},
};

/// Who waits for an unmount.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    /// Set where the caller waits no longer.
    pub interrupted: &'a AtomicBool,
    /// Hears what is waited for, where that takes long.
    pub tell: &'a dyn Fn(&str),
    /// Hears what else happened that may cost data.
    pub warn: &'a dyn Fn(&str),
}

impl fmt::Debug for Patience<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Patience({:?})", self.interrupted)
    }
}

/// What to unmount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The volume of this container, mount point, block file or `--block` directory.
    One(PathBuf),
    /// Everything that the caller has mounted.
    All,
}

/// What a name, or none, stands for: what is mounted, and what killed servers left.
#[derive(Debug)]
pub struct Chosen(pub(super) Vec<(Session, Record)>);

impl Chosen {
    /// What `verb` ("unmount") is to be done to. The names of what is mounted come first; only where none is meant is the file at the
    /// path looked at, whose medium may not answer.
    ///
    /// # Errors
    /// `NotFound` where nothing mounted bears the name; `Permission` where it is somebody else's.
    pub fn find(selection: &Selection, verb: &str) -> Result<Self> {
        let chosen = choose(selection);
        match selection {
            Selection::One(path) if chosen.is_empty() => Err(not_mounted(verb, path)),
            _ => Ok(Self(chosen)),
        }
    }
}

/// What became of each volume that was to be unmounted.
#[derive(Debug, Default)]
pub struct Unmounted {
    /// What was taken down, remains of killed servers included.
    pub done: Vec<Entry>,
    /// What was not, or not cleanly, and why.
    pub failures: Vec<(Entry, Error)>,
}

/// Takes volumes down and waits until their servers have ended. Clears what killed servers left. Whatever fails, the others are still
/// taken down.
///
/// A failure is `Busy`, naming the processes, unless `force`, and also with it where a container of the caller's is mounted out of
/// the volume; `Io` where the volume is down, but something could not be written, as the error's action then says.
pub fn unmount(chosen: Chosen, force: bool, patience: Patience<'_>) -> Unmounted {
    let mut unmounted = Unmounted::default();
    for (session, record) in chosen.0 {
        let result = if record.is_alive() && !record.ready {
            Err(Error::new(ErrorKind::Busy, "another command is working on it")
                .during(format!("cannot unmount {}", record.container_named().display())))
        } else if record.is_alive() {
            take_down(&session, &record, force, patience)
        } else {
            clear_killed(&session, &record)
        };
        match result {
            Ok(()) => unmounted.done.push(record.entry),
            Err(error) => unmounted.failures.push((record.entry, error)),
        }
    }
    stale::clean();
    unmounted
}

/// Takes away what a killed server left. What nobody synced went with it.
fn clear_killed(session: &Session, record: &Record) -> Result<()> {
    let is_of_this_boot = boot_id().is_ok_and(|id| id == record.boot_id);
    stale::clear(session)?;
    if !record.ready || record.entry.read_only || !is_of_this_boot {
        return Ok(());
    }
    let error = Error::new(ErrorKind::Io, "its server was killed: what was not synced is lost");
    Err(unmounted_uncleanly(error, record))
}

fn unmounted_uncleanly(error: Error, record: &Record) -> Error {
    error.during(format!("unmounted {}, but not cleanly", record.place().display()))
}

/// What `unmount` and `sync` say of a name that nothing of the caller's bears.
fn not_mounted(verb: &str, path: &Path) -> Error {
    let action = format!("cannot {verb} {}", path.display());
    if let Some(other) = other_at(path) {
        return other.refusal(verb).during(action);
    }
    if let Some(other) = others().first().filter(|_| is_locked(path)) {
        if other.is_own() {
            let reason = format!("it is in use, perhaps by your mount on {}", other.mountpoint.display());
            return Error::new(ErrorKind::Busy, reason).during(action).with_hint(&*other.unmount);
        }
        // Whose it is nobody tells: the sessions of others are private.
        let reason = format!("it is in use, and {} has mounted a volume", other.mounted_by);
        return Error::new(ErrorKind::Permission, reason)
            .during(action)
            .with_hint(format!("if it is that one: {}", other.command(verb, path)));
    }
    Error::new(ErrorKind::NotFound, "it is not mounted")
        .during(action)
        .with_hint("strongroom list shows what is mounted")
}

/// Whether somebody has the container at `path` locked.
fn is_locked(path: &Path) -> bool {
    let opened = Container::open(path, Access::ReadOnly);
    opened.is_err_and(|error| error.kind() == ErrorKind::Busy)
}

/// Takes down the volume of one entry.
pub(super) fn one(entry: &Entry, force: bool, patience: Patience<'_>) -> Result<()> {
    let found = sessions().into_iter().find_map(|session| {
        let record = session.record.clone()?;
        (record.entry == *entry).then_some((session, record))
    });
    match found {
        Some((session, record)) if record.is_alive() => take_down(&session, &record, force, patience),
        Some((session, _)) => stale::clear(&session),
        None => Ok(()),
    }
}

fn choose(selection: &Selection) -> Vec<(Session, Record)> {
    let table = MountTable::read().unwrap_or_default();
    let sessions = match selection {
        Selection::One(path) => sessions_settled_for(path),
        Selection::All => settled_sessions(),
    };
    let all = sessions.into_iter().filter_map(|session| {
        let record = session.record.clone()?;
        Some((session, record))
    });
    let chosen = match selection {
        // What is not ready is just being mounted, or a `create` works on it.
        Selection::All => {
            let mut chosen: Vec<_> = all.filter(|(_, record)| record.ready || !record.is_alive()).collect();
            inner_first(&mut chosen);
            chosen
        }
        Selection::One(path) => {
            let mut named = named(all.collect(), path, &table);
            // A name may fit a live session and the remains of a dead one: the live one is meant, the other goes anyway.
            if named.iter().any(|(_, record)| record.is_alive()) {
                named.retain(|(_, record)| record.is_alive());
            }
            named
        }
    };
    chosen.into_iter().map(|(session, record)| (session, record.located(&table))).collect()
}

/// A container that lies in another one was mounted after it.
fn inner_first(chosen: &mut [(Session, Record)]) {
    chosen.sort_by_key(|(_, record)| std::cmp::Reverse(record.server.started));
}

/// Has a live server take its volume down.
fn take_down(session: &Session, record: &Record, force: bool, patience: Patience<'_>) -> Result<()> {
    let directory = &session.directory;
    let shown = record.place();
    let action = || format!("cannot unmount {}", shown.display());
    let uncleanly = |error| unmounted_uncleanly(error, record);
    step_out(record);
    let mut slow = Slow::new();
    if force {
        check_force(record, shown).map_err(|error| error.during(action()))?;
    }
    have_looked([(directory.as_path(), record)], patience.interrupted);
    if !force {
        flush_before(record, patience.interrupted);
    }
    let bystanders = if force { Bystanders::of(record) } else { Bystanders::default() };
    if record.server.is_ending() {
        return clear_ending(session, record, force);
    }
    let outcome = ask(&directory.join(CONTROL), record, force, (patience, &mut slow));
    let lost = bystanders.tell_of_gone(record.entry.read_only, patience.warn);
    // A server that ends by itself closes the connection a moment before it has ended.
    if outcome.as_ref().is_err_and(|error| LOST.contains(&error.kind())) {
        wait_for_end(record, if record.server.is_ending() { MOMENT } else { LAST_MOMENT });
    }
    if force && outcome.is_err() && record.server.is_ending() {
        // A gentler command was waiting for the medium: told to hurry, the server gave it up, and could not tell us.
        let reason = "its medium does not answer: what was not written yet is lost";
        let error = clear_given_up(session, record, Error::new(ErrorKind::Io, reason), KEYS_WIPED);
        return Err(uncleanly(error));
    }
    match outcome {
        Ok(Outcome::Done) => {
            wait_for_end(record, END_LIMIT);
            tell_of_strangers(record, patience);
            tell_where_unreached(record, patience);
            let lost = (!lost.is_empty()).then(|| Error::new(ErrorKind::Io, lost.join("; ")));
            lost.map_or(Ok(()), |error| Err(uncleanly(error)))
        }
        Ok(Outcome::Lossy(failure)) => {
            clear_after(session, record);
            for lost in &lost {
                (patience.warn)(lost);
            }
            Err(uncleanly(lossy(failure)))
        }
        Ok(Outcome::Rescued(rescued)) => {
            wait_for_end(record, END_LIMIT);
            for copy in &rescued.copies {
                (patience.warn)(&format!("a copy of it is in {}", copy.display()));
            }
            rescued.lossy.map_or(Ok(()), |failure| Err(uncleanly(lossy(failure))))
        }
        Ok(Outcome::Failed(failure)) => Err(explained(failure, record, shown)),
        Ok(Outcome::Kept(failure)) => Err(Error::from(failure).during(action())),
        Ok(Outcome::GivenUp(failure)) => {
            let error = clear_given_up(session, record, lossy(failure), KEYS_WIPED);
            Err(uncleanly(error))
        }
        Ok(_) => Err(Error::new(ErrorKind::Io, "its server answers something else").during(action())),
        // It ended before it could answer, and took its directory with it.
        Err(_) if !record.is_alive() && !directory.exists() => {
            let reason = "its server ended by itself before it could say whether all was written; mount it again, and look";
            Err(Error::new(ErrorKind::Io, reason).during(unmounted_here(shown)))
        }
        Err(_) if !record.is_alive() => {
            let reason = "its server was killed before it was done; what was not synced may be lost";
            Err(Error::new(ErrorKind::Io, reason).during(action()))
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            Err(Error::new(ErrorKind::Interrupted, "interrupted; what its server has begun goes on")
                .during(action()))
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut && !force => {
            // One that waits for who uses it answers.
            let container = record.container_named().display();
            let reason = format!("its server still writes what it holds to {container}");
            Err(Error::new(ErrorKind::Busy, reason).during(unmounted_here(shown)).with_hint(
                "wait, and look with strongroom list; unmount --force gives up a medium that hangs",
            ))
        }
        Err(_)
            if force
                && let Some(freezer) =
                    Freezer::of(record.server.pid).filter(|freezer| !freezer.lets_kill) =>
        {
            Err(frozen(record, &freezer).during(action()))
        }
        Err(_) if force && is_held(record) => {
            let error = Error::new(ErrorKind::Busy, "its container was lost, and only its server holds it");
            Err(error.during(action()).with_hint("wait until it has copied it, or use --save-as FILE"))
        }
        Err(_) if force => {
            let reason = if is_lost(record) { KILLED_LOST } else { KILLED };
            kill(record).map_err(|error| error.during(action()))?;
            let error = Error::new(ErrorKind::Io, reason);
            Err(uncleanly(error))
        }
        Err(error) => {
            Err(Error::new(ErrorKind::Io, format!("its server does not answer ({})", error.kind()))
                .during(action())
                .with_hint("unmount --force ends it"))
        }
    }
}

/// Waits for the end of a server, and takes away what it may have left, as one does that can start no program.
fn clear_after(session: &Session, record: &Record) {
    wait_for_end(record, END_LIMIT);
    if !record.server.is_alive() {
        let _as_far_as_it_goes = stale::clear(session);
    }
}

/// Takes away what a server leaves that was ended, and may not have gone yet.
fn clear_ending(session: &Session, record: &Record, force: bool) -> Result<()> {
    // Its last threads may only need a moment.
    wait_for_end(record, LAST_MOMENT);
    if !record.server.is_alive() {
        return if session.directory.exists() { clear_killed(session, record) } else { Ok(()) };
    }
    // It was killed, and its medium keeps it: nobody answers any more.
    let reason = "its server was ended while its medium did not answer: what was not written is lost";
    let error = Error::new(ErrorKind::Io, reason);
    if !force {
        let action = format!("cannot unmount {}", record.place().display());
        return Err(error.during(action).with_hint("unmount --force clears what is left"));
    }
    let error = clear_given_up(session, record, error, "");
    Err(unmounted_uncleanly(error, record))
}

/// Why force ends no server that nobody can kill.
fn frozen(record: &Record, freezer: &Freezer) -> Error {
    let reason = format!(
        "its server, process {}, is frozen by its control group: it ends, and its keys with it, when it is thawed",
        record.server.pid
    );
    Error::new(ErrorKind::Busy, reason).with_hint(freezer.way_out())
}

/// Leaves the volume where this process works in it: it would be in use by its own unmount.
///
/// True where it has left: relative paths lead elsewhere from then on.
pub(super) fn step_out(record: &Record) -> bool {
    let Some(id) = record.mount.or(record.block_mount) else { return false };
    let is_in = device_number(Path::new(".")).is_ok_and(|device| device == (id.major, id.minor))
        || std::env::current_dir().is_ok_and(|folder| folder.starts_with(record.place()));
    // If that fails, the unmount says that it is in use.
    is_in && std::env::set_current_dir("/").is_ok()
}

/// Says which former names of the container lead to other files now.
fn tell_of_strangers(record: &Record, patience: Patience<'_>) {
    let strangers = record
        .former_names
        .iter()
        .filter(|name| file_id(name).is_some_and(|file| file != record.container_file));
    for name in strangers {
        let (name, container) = (name.display(), record.container_named().display());
        (patience.warn)(&format!("{name} is another file now: the container of this volume is {container}"));
    }
}

/// Says where the container of a volume is that could not be reached.
fn tell_where_unreached(record: &Record, patience: Patience<'_>) {
    if record.entry.container_state == Some(Lost::Unreachable) {
        let container = record.container_named().display();
        (patience.warn)(&format!(
            "what was written is on the file system that held {container}, which is not to be seen there now"
        ));
    }
}

/// Sends the command and waits for the outcome: as long as flushing takes.
///
/// With `force`, and where the server already waits for the users of a detached volume, only so long.
fn ask(
    control: &Path,
    record: &Record,
    force: bool,
    (patience, slow): (Patience<'_>, &mut Slow),
) -> io::Result<Outcome> {
    let is_detached = MountTable::read().is_ok_and(|table| record.is_detached(&table));
    let mut limit = match (force, is_detached) {
        (true, _) => Some(FORCE_LIMIT),
        (false, true) => Some(DETACHED_LIMIT),
        (false, false) => None,
    };
    let (mut is_hurried, mut rescuing) = (false, None);
    let stream = connect(control)?;
    protocol::send(&stream, &Command::Unmount { force, save: None })?;
    stream.set_read_timeout(Some(TICK))?;
    let start = Instant::now();
    let mut heard = start;
    loop {
        // Before its last answer is looked for: that is there when it has ended.
        let is_ending = record.server.is_ending();
        match protocol::receive(&stream) {
            // Its threads hold the connection open as long as the medium keeps them.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && is_ending => {
                return broken(rescuing, io::ErrorKind::ConnectionReset.into());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(Outcome::Waiting(what)) => {
                let way_out = if force { "it is given up" } else { "unmount --force gives it up" };
                (patience.tell)(&format!("{what}; {way_out}"));
                slow.is_told = true;
            }
            // Force is patient with a medium that is only slow.
            Ok(Outcome::Writing) if force => heard = Instant::now(),
            Ok(Outcome::Writing) => {}
            Ok(Outcome::Rescuing(lost)) => {
                // The volume is down; copying takes as long as it takes.
                (patience.warn)(&format!("{lost}: it is copied now"));
                (slow.is_told, is_hurried, limit) = (true, true, None);
                rescuing = Some(lost);
            }
            Err(error) => return broken(rescuing, error),
            other => return other,
        }
        slow.look(record, force, patience.tell);
        if patience.interrupted.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let is_frozen =
            || force && start.elapsed() > FROZEN_LIMIT && Freezer::of(record.server.pid).is_some();
        if limit.is_some_and(|limit| heard.elapsed() > limit) || is_frozen() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if force && !is_hurried && start.elapsed() > HURRY {
            // It may be waiting for its driver, after a gentler command: a signal cuts that short. Or somebody has stopped it.
            record.server.signal(Signal::TERM)?;
            record.server.signal(Signal::CONT)?;
            is_hurried = true;
        }
    }
}

/// Has the driver write what it holds, so that what the medium has no room for is known before anything is taken down.
pub(super) fn flush_before(record: &Record, interrupted: &AtomicBool) {
    // Over what another program wrote, it would only spoil what can still be read.
    if !record.entry.read_only && !is_overwritten(record) {
        flush_before_unmount(&record.entry, interrupted);
    }
}

/// A wait for a server that may be long.
#[derive(Debug)]
pub(super) struct Slow {
    begun: Instant,
    is_told: bool,
}

impl Slow {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), is_told: false }
    }

    /// Says once what is waited for, and what can be done.
    pub(super) fn look(&mut self, record: &Record, force: bool, tell: &dyn Fn(&str)) {
        if self.is_told || self.begun.elapsed() < SILENCE {
            return;
        }
        self.is_told = true;
        let server = record.server.pid;
        let what = if let Some(freezer) = Freezer::of(server) {
            format!(
                "its server, process {server}, is frozen by its control group: {} thaws it",
                freezer.way_out()
            )
        } else if record.server.is_stopped() {
            format!("its server, process {server}, is stopped: kill -CONT {server} lets it go on")
        } else {
            let container = record.container_named().display();
            let silent = noted(record).any(|now| now.entry.silent);
            let does = if silent { "whose medium does not answer:" } else { "which writes to" };
            format!("waiting for its server, process {server}, {does} {container}")
        };
        let way_out = if force { "" } else { "; unmount --force ends it" };
        tell(&format!("{what}{way_out}"));
    }
}

/// What a broken connection means: where a lost container was being copied, nobody knows of a copy.
fn broken(rescuing: Option<String>, error: io::Error) -> io::Result<Outcome> {
    let Some(lost) = rescuing else { return Err(error) };
    let reason = format!("{lost}, and its server ended while it copied it");
    Ok(Outcome::Lossy(Failure::from(&Error::new(ErrorKind::Io, reason))))
}

/// Takes away what a server left that had to give up its medium, and says what became of it.
fn clear_given_up(session: &Session, record: &Record, error: Error, keys: &str) -> Error {
    // By root this also fails what the kernel still waits for.
    let table = MountTable::read().unwrap_or_default();
    if let Some(mount) = record.block_mount.and_then(|id| table.find(id)) {
        let _as_far_as_it_goes = unmount_fuse(&mount.mountpoint, true);
    }
    wait_for_end(record, MOMENT);
    let _as_far_as_it_goes = stale::clear(session);
    if !record.server.is_alive() {
        return error;
    }
    let pid = record.server.pid;
    let rest = format!("{}; {keys}process {pid} ends when the kernel lets it", error.reason());
    Error::new(error.kind(), rest)
}

/// What went wrong on the way down, without an action: the volume is down.
pub(super) fn lossy(failure: Failure) -> Error {
    let error = Error::from(failure);
    let reason = match error.action() {
        Some(action) => format!("{action}: {}", error.reason()),
        None => error.reason().to_owned(),
    };
    Error::new(error.kind(), reason)
}

/// Whether a file of the container has lost its name, as its server has noted by now.
pub(super) fn is_lost(record: &Record) -> bool {
    states(record).any(|state| state.is_nameless() && !state.is_unreachable())
}

/// Whether another program has written to the container, as its server has noted by now.
fn is_overwritten(record: &Record) -> bool {
    states(record).any(Lost::is_overwritten)
}

/// How its files were lost, as its server has noted by now.
fn states(record: &Record) -> impl Iterator<Item = Lost> {
    noted(record).flat_map(|now| [now.entry.container_state, now.entry.header_state]).flatten()
}

/// Whether only its server still holds the container.
fn is_held(record: &Record) -> bool {
    noted(record).any(|now| now.is_held)
}

/// What a server has noted by now.
pub(super) fn noted(record: &Record) -> impl Iterator<Item = Record> {
    let now = sessions_anywhere().into_iter().filter_map(|session| session.record);
    now.filter(|now| now.server == record.server)
}

const KEYS_WIPED: &str = "its keys are wiped, and ";
const KILLED: &str = "its server did not answer and was killed: what was not synced may be lost";
const KILLED_LOST: &str =
    "its server did not answer and was killed: its container has no name any more, and no copy was kept";

/// Ends a server that does not answer; then its remains are cleared.
fn kill(record: &Record) -> Result<()> {
    record.server.signal(Signal::KILL)?;
    wait_for_end(record, LAST_MOMENT);
    if record.server.is_alive() {
        // It waits in the kernel for writes that its own threads, dead by now, were to serve. By root, a forced unmount
        // of the block file fails them.
        let table = MountTable::read()?;
        if let Some(mount) = record.block_mount.and_then(|id| table.find(id)) {
            unmount_fuse(&mount.mountpoint, true)?;
        }
        wait_for_end(record, END_LIMIT);
    }
    stale::clean();
    if record.server.is_alive() {
        return Err(Error::new(
            ErrorKind::Busy,
            format!("its server, process {}, does not end", record.server.pid),
        ));
    }
    Ok(())
}

pub(super) fn wait_for_end(record: &Record, limit: Duration) {
    let deadline = Instant::now() + limit;
    while record.server.is_alive() && Instant::now() < deadline {
        sleep(Duration::from_millis(10));
    }
}

/// How long nothing is said.
const SILENCE: Duration = Duration::from_millis(5500);
const MOMENT: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(200);
/// When a server that does not answer a forced unmount is told again, by a signal.
const HURRY: Duration = Duration::from_secs(1);
/// Longer than a server is silent in a forced unmount, whatever its driver does.
const FORCE_LIMIT: Duration = Duration::from_secs(60);
/// The same for one that is frozen.
const FROZEN_LIMIT: Duration = Duration::from_secs(6);
const DETACHED_LIMIT: Duration = Duration::from_secs(10);
/// What a connection says whose server went away.
const LOST: [io::ErrorKind; 5] = [
    io::ErrorKind::NotFound,
    io::ErrorKind::UnexpectedEof,
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::ConnectionRefused,
    io::ErrorKind::BrokenPipe,
];
const LAST_MOMENT: Duration = Duration::from_secs(5);
/// How long a server may take from its answer to its end.
pub(super) const END_LIMIT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_mounted_last_goes_first() {
        let session = |started: u64| {
            let record = serde_json::json!({
                "container": "/c", "mountpoint": null, "block": null, "driver": "none", "format": "native",
                "read_only": false, "pid": 7, "uuid": null, "mounted_at": "", "ready": true, "boot_id": "",
                "server": {"pid": 7, "started": started}, "container_file": [1, 2], "block_directory": "/b",
                "block_mount": null, "mount": null, "loop_device": null,
            });
            (Session { directory: "/d".into(), record: None }, serde_json::from_value(record).unwrap())
        };
        let mut chosen = [5, 9, 7].map(session);
        inner_first(&mut chosen);
        assert_eq!(chosen.map(|(_, record)| record.server.started), [9, 7, 5]);
    }
}
