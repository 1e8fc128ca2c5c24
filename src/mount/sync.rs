//! Bringing the container file up to date while the volume stays mounted, for a backup of it say.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    asking::have_looked,
    mountinfo::MountTable,
    program,
    registry::{Entry, file_id, sessions_settled_for},
    stacked::Stack,
    unmount::{Chosen, Slow, noted},
    whereabouts::{COPY_FIRST, Lost},
};
use crate::{
    error::{Error, ErrorKind, Result},
    sys::process::shield,
    text::path::command_word,
};

/// Brings all that was written to the volume that `path` named into its container file, through the file system, its driver
/// and the block file, and returns when the medium has it.
///
/// # Errors
/// `NotFound` where its server was killed; `Busy` where the container has lost its name, so that no file has what was
/// written; `Io` or `NoSpace` where something could not be written; `Interrupted`.
pub fn sync(path: &Path, chosen: Chosen, interrupted: &AtomicBool, tell: &dyn Fn(&str)) -> Result<Entry> {
    let action = || format!("cannot sync {}", path.display());
    let alive = chosen.0.into_iter().find(|(_, record)| record.ready && record.is_alive());
    let (session, record) =
        alive.ok_or_else(|| Error::new(ErrorKind::NotFound, "it is not mounted").during(action()))?;
    if let Some(id) = record.mount {
        // By its path another file system would be synced.
        MountTable::read()?.place_of(id).map_err(|error| error.during(action()))?;
    }
    // Over what another program wrote, it would only spoil what can still be read.
    let look = || have_looked([(session.directory.as_path(), &record)], interrupted);
    look();
    if let Some(refusal) = noted(&record).find_map(|now| overwritten(&now.as_called())) {
        return Err(refusal.during(action()));
    }
    let mut slow = Slow::new();
    for step in steps(&record.entry) {
        run(step, interrupted, &mut || slow.look(&record, false, tell))
            .map_err(|error| error.during(action()))?;
    }
    // Its server may have learned of it only now.
    look();
    let mut now =
        sessions_settled_for(&record.entry.container).into_iter().filter_map(|session| session.record);
    let now = now.find(|now| now.server == record.server);
    let record = now.unwrap_or(record);
    let called = record.as_called();
    let entry = record.entry;
    if let Some(refusal) = overwritten(&called) {
        return Err(refusal.during(action()));
    }
    if let Some(lost) = entry.container_state {
        let reason = format!("{} {}: no file has it", called.lost_in_words("its"), lost.told());
        let copy = if entry.lost_pieces.is_some() { "DIR" } else { "FILE" };
        let hint = format!("strongroom unmount {} --save-as {copy} keeps what is in it", command_word(path));
        return Err(Error::new(ErrorKind::Busy, reason).during(action()).with_hint(hint));
    }
    if file_id(&entry.container) == Some(record.container_file) {
        // Its length and its times.
        let step = fsync(&entry.container);
        run(step, interrupted, &mut || ()).map_err(|error| error.during(action()))?;
    }
    Ok(entry)
}

/// Why nothing is said to be in a container, or a header file, to which another program has written.
fn overwritten(entry: &Entry) -> Option<Error> {
    let found = |what: String, state: Option<Lost>| {
        let lost = state.filter(|lost| lost.is_overwritten())?;
        Some(format!("{what} {}: it may not open again", lost.told()))
    };
    let header = entry.header.as_ref();
    let header =
        header.and_then(|path| found(format!("its header file {}", path.display()), entry.header_state));
    let reason = found(entry.lost_in_words("its"), entry.container_state).or(header)?;
    Some(Error::new(ErrorKind::Busy, reason).with_hint(COPY_FIRST))
}

/// Has the driver of a volume that is about to be unmounted write what it holds while the volume still shows: what the medium has no
/// room for is known then before it is too late. A medium that is slow is not waited for, and failures are the server's to tell.
pub(super) fn flush_before_unmount(entry: &Entry, interrupted: &AtomicBool) {
    let begun = Instant::now();
    flush(entry, || !interrupted.load(Ordering::Relaxed) && begun.elapsed() < FLUSHING);
}

/// Has all that was written to a volume brought into its container, as far as that goes while it `may_run`; also while a logout tells
/// every process to end.
pub(super) fn flush(entry: &Entry, may_run: impl Fn() -> bool) {
    for mut step in steps(entry) {
        if program::run_while(shield(&mut step), &may_run).is_err() {
            return;
        }
    }
}

/// From the top: what stands on files of the volume, what the kernel holds of the file system, what the server does, what the kernel holds of the block file. The
/// server passes the last on to the container.
fn steps(entry: &Entry) -> Vec<Command> {
    let place = entry.mountpoint.as_deref().or_else(|| entry.block.as_deref()?.parent());
    let table = MountTable::read().unwrap_or_default();
    let mut steps = place.map_or_else(Vec::new, |place| Stack::on(place, &table).flushing());
    if let Some(mountpoint) = &entry.mountpoint {
        let mut whole = program::command(SYNC);
        whole.arg("-f").arg("--").arg(mountpoint);
        steps.push(whole);
        if entry.driver == "builtin" {
            // The server, which syncs all of it for any file.
            steps.push(fsync(mountpoint));
        }
    }
    steps.extend(entry.block.as_ref().map(fsync));
    steps
}

fn fsync(path: &PathBuf) -> Command {
    let mut command = program::command(SYNC);
    command.arg("--").arg(path);
    command
}

/// Runs one step in another process, which waits for the medium; this one can be interrupted.
fn run(mut command: Command, interrupted: &AtomicBool, wait: &mut dyn FnMut()) -> Result<()> {
    let (done, finished) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&stop);
    thread::spawn(move || {
        // Nobody may wait any more.
        let _ = done.send(program::run(&mut command, &theirs));
    });
    loop {
        match finished.recv_timeout(TICK) {
            Ok(finished) => {
                let finished = finished?;
                // find(1) does not pass on that dd(1) failed.
                if finished.status == Some(0) && !finished.errors.contains("fsync failed") {
                    return Ok(());
                }
                return Err(Error::new(ErrorKind::Io, finished.reason()));
            }
            Err(RecvTimeoutError::Timeout) if !interrupted.load(Ordering::Relaxed) => wait(),
            Err(_) => {
                stop.store(true, Ordering::Relaxed);
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
        }
    }
}

/// Of the packages coreutils and findutils, which no system lacks.
const SYNC: &str = "/bin/sync";
const TICK: Duration = Duration::from_millis(50);
/// How long a volume that is to be unmounted may take to write what it holds before the server is asked all the same.
const FLUSHING: Duration = Duration::from_secs(3);
