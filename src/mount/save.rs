//! Unmounting with a copy of the container: the way out where it was deleted or replaced while it was mounted.

use std::{
    ffi::OsString,
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::fs::{Access, access, makedev, statvfs};

use super::{
    bystanders::Bystanders,
    in_use::{HELD_LOST, explained},
    protocol::{self, Command, Outcome, Save},
    registry::{Entry, Record, Unwritten, file_id},
    session::CONTROL,
    unmount::{Chosen, END_LIMIT, Slow, flush_before, lossy, noted, step_out, wait_for_end},
    whereabouts::{Body, Lost},
};
use crate::{
    error::{Error, ErrorKind, Result},
    sys::socket::{connect, receive_descriptors},
    text::path::command_word,
    volume::{Container, Duplicate, Progress, free_bytes},
};

/// A volume that was unmounted, and where its container is now.
#[derive(Debug)]
pub struct Saved {
    /// What `list` showed of it.
    pub entry: Entry,
    /// The copy of the container, and that of its header file where the header is detached.
    pub files: Vec<PathBuf>,
    /// What has gone with the volume, a line each.
    pub gone: Vec<String>,
}

/// Takes down the volume that `path` named, and copies its container to the new file `target`: all that was written is in
/// it. A detached header goes to `target.header`.
///
/// The volume is down before the copy begins. Where the copy fails, a container that lost its name stays open until the
/// next attempt, or until it is given up by force.
///
/// # Errors
/// As [`unmount`](super::unmount()); `Exists` where `target` exists, `NoSpace`, `Interrupted`.
pub fn unmount_saving(
    (path, chosen): (&Path, Chosen),
    force: bool,
    target: &Path,
    progress: Progress<'_>,
    (interrupted, tell): (&AtomicBool, &dyn Fn(&str)),
) -> Result<Saved> {
    let action = || format!("cannot unmount {}", path.display());
    let Ok([(session, record)]) = <[_; 1]>::try_from(chosen.0) else {
        return Err(Error::new(ErrorKind::Usage, "several mounted volumes have this name").during(action()));
    };
    if !record.is_alive() {
        let reason = "its server was killed, so there is nothing left to save";
        return Err(Error::new(ErrorKind::Io, reason).during(action()).with_hint("leave out --save-as"));
    }
    let absolute = std::path::absolute(target)?;
    refuse_inside(&record, &absolute).map_err(|error| error.during(action()))?;
    let target = if step_out(&record) { absolute.as_path() } else { target };
    // The server makes a copy of a folder, as it has the pieces.
    let copies = match record.body {
        Body::Pieces => check_folder(target).map(|()| None)?,
        Body::Itself => Some(Copies::begin(target, &record)?),
    };
    let save = Save { free: room_at(target)?, target: std::path::absolute(target).ok() };
    let no_answer = |error: io::Error| match error.kind() {
        io::ErrorKind::Interrupted => Error::new(ErrorKind::Interrupted, "interrupted").during(action()),
        kind => Error::new(ErrorKind::Io, format!("its server does not answer ({kind})")).during(action()),
    };
    if !force {
        flush_before(&record, interrupted);
    }
    let bystanders = if force { Bystanders::of(&record) } else { Bystanders::default() };
    let stream = connect(&session.directory.join(CONTROL)).map_err(no_answer)?;
    protocol::send(&stream, &Command::Unmount { force, save: Some(save) }).map_err(no_answer)?;
    let mut slow = Slow::new();
    let waiting_for = &mut || slow.look(&record, force, tell);
    match outcome(&stream, interrupted, waiting_for).map_err(no_answer)? {
        Outcome::Lent => {}
        Outcome::Failed(failure) => return Err(waiting(explained(failure, &record, path), target)),
        Outcome::Kept(failure) => return Err(Error::from(failure).during(action())),
        Outcome::Rescued(rescued) => {
            wait_for_end(&record, END_LIMIT);
            if let Some(failure) = rescued.lossy.filter(|_| copies.is_none()) {
                return Err(lossy(failure).during(not_cleanly(&record, target)));
            }
            return rescued_instead(rescued.copies, record.entry, target);
        }
        Outcome::GivenUp(failure) => return Err(lossy(failure).during(action())),
        _ => return Err(no_answer(io::ErrorKind::InvalidData.into())),
    }
    let container = receive_descriptors(&stream)
        .map_err(Error::from)
        .and_then(|descriptors| {
            let (path, format) = (&record.entry.container, Some(record.entry.format.as_str()));
            protocol::opened(descriptors, path, format, record.section.clone())
        })
        .and_then(|container| {
            let copies = copies.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
            copies.finish(&container, progress)
        });
    let files = container.map_err(|error| not_saved(error, &record, target))?;
    let _ = protocol::send(&stream, &Command::Saved);
    let ended = outcome(&stream, &AtomicBool::new(false), &mut || ());
    wait_for_end(&record, END_LIMIT);
    let mut gone = Vec::new();
    let mut lost = bystanders.tell_of_gone(record.entry.read_only, |told| gone.push(told.to_owned()));
    if let Ok(Outcome::Lossy(failure)) = ended {
        lost.insert(0, lossy(failure).reason().to_owned());
    }
    if !lost.is_empty() {
        return Err(Error::new(ErrorKind::Io, lost.join("; ")).during(not_cleanly(&record, target)));
    }
    Ok(Saved { entry: record.entry, files, gone })
}

fn not_cleanly(record: &Record, target: &Path) -> String {
    format!("unmounted {} and saved {}, but not cleanly", record.place().display(), target.display())
}

/// Whether a folder can be made at `target`.
fn check_folder(target: &Path) -> Result<()> {
    let action = || format!("cannot write {}", target.display());
    if target.symlink_metadata().is_ok() {
        return Err(Error::new(ErrorKind::Exists, "it already exists").during(action()));
    }
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    access(parent.unwrap_or(Path::new(".")), Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| Error::from(io::Error::from(error)).during(action()))
}

/// The server ended by itself before it heard of the command, and made a copy.
fn rescued_instead(files: Vec<PathBuf>, entry: Entry, target: &Path) -> Result<Saved> {
    if std::path::absolute(target).is_ok_and(|target| files.contains(&target)) {
        return Ok(Saved { entry, files, gone: Vec::new() });
    }
    let copies: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    let reason = format!("it was unmounted meanwhile; a copy of it is in {}", copies.join(" and "));
    Err(Error::new(ErrorKind::Exists, reason).during(format!("cannot save it as {}", target.display())))
}

/// The copies to be made, as drafts: what stands in their way shows before anything is taken down.
#[derive(Debug)]
struct Copies {
    container: (Duplicate, PathBuf),
    header: Option<(Duplicate, PathBuf)>,
}

impl Copies {
    fn begin(target: &Path, record: &Record) -> Result<Self> {
        let begin = |path: PathBuf| {
            let copy = Duplicate::begin(&path)
                .map_err(|error| error.during(format!("cannot write {}", path.display())))?;
            Ok::<_, Error>((copy, path))
        };
        let container = begin(target.to_path_buf())?;
        let header = record.entry.header.as_ref().map(|_| begin(header_of(target))).transpose()?;
        Ok(Self { container, header })
    }

    /// Fills and commits them; the header first, without which the container is nothing.
    fn finish(self, container: &Container, progress: Progress<'_>) -> Result<Vec<PathBuf>> {
        if let (Some((copy, _)), Some(file)) = (&self.header, container.header_file()) {
            copy.fill(file, progress)?;
        }
        self.container.0.fill(container.file(), progress)?;
        let mut files = Vec::new();
        for (copy, path) in self.header.into_iter().chain([self.container]) {
            copy.commit()?;
            files.insert(0, path);
        }
        Ok(files)
    }
}

/// What the copy of a header file is called, of a container that is copied to `target`.
pub(super) fn header_of(target: &Path) -> PathBuf {
    let mut name = OsString::from(target);
    name.push(".header");
    name.into()
}

/// The refusal of a volume that goes on only until nobody uses it: it takes the copy's name with it.
fn waiting(error: Error, target: &Path) -> Error {
    if error.hint() != Some(HELD_LOST) {
        return error;
    }
    let target = target.display();
    let told = Error::new(error.kind(), error.reason()).with_hint(format!(
        "wait, and it is saved as {target} when nobody uses it; or repeat with --save-as {target} --force"
    ));
    match error.action() {
        Some(action) => told.during(action),
        None => told,
    }
}

/// Refuses a copy in the volume that is to go, which it would keep in use.
fn refuse_inside(record: &Record, target: &Path) -> Result<()> {
    let folder = target.parent().unwrap_or(target);
    let device = record.mount.map(|id| makedev(id.major, id.minor));
    if device.is_none() || file_id(folder).map(|(device, _)| device) != device {
        return Ok(());
    }
    let reason = format!("{} lies in the volume that is to be unmounted", folder.display());
    Err(Error::new(ErrorKind::Usage, reason).with_hint("choose a FILE elsewhere"))
}

/// The room for a copy there: without bound where the file system does not say.
fn room_at(target: &Path) -> Result<u64> {
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    let there = statvfs(folder.unwrap_or(Path::new("."))).map_err(io::Error::from)?;
    Ok(free_bytes(&there).unwrap_or(u64::MAX))
}

/// The volume is down, and the copy was not made.
fn not_saved(error: Error, record: &Record, target: &Path) -> Error {
    let error = match error.action() {
        Some(_) => error,
        None => error.during(format!("cannot write {}", target.display())),
    };
    let entry = &record.entry;
    let container = &entry.container;
    let states = [entry.container_state, entry.header_state];
    let is_moved = noted(record).any(|now| now.entry.unwritten.is_some_and(Unwritten::goes_to_a_copy));
    if !is_moved && !states.into_iter().flatten().any(Lost::is_nameless) {
        let is = if states == [None, None] { "is whole" } else { "was written to by another program" };
        return error.with_hint(format!("it is unmounted, and {} {is}", container.display()));
    }
    let container = command_word(container);
    error.with_hint(format!("it is unmounted, and still held: strongroom unmount {container} --save-as FILE"))
}

/// Waits for the server's answer: as long as flushing takes.
fn outcome(stream: &UnixStream, interrupted: &AtomicBool, wait: &mut dyn FnMut()) -> io::Result<Outcome> {
    stream.set_read_timeout(Some(TICK))?;
    loop {
        match protocol::receive(stream) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Copying waits for the medium just as well, and for a copy that is being made.
            Ok(Outcome::Waiting(_) | Outcome::Writing | Outcome::Rescuing(_)) => {}
            answer => return answer,
        }
        wait();
        if interrupted.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
}

const TICK: Duration = Duration::from_millis(200);
