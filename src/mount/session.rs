//! The session that a server builds up: its directory, its record, its undo stack.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    io::Write,
    os::unix::{
        fs::{DirBuilderExt, OpenOptionsExt, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    idle::Sign,
    registry::{RECORD, Record, now},
    undo::{Log, Part, Undo, UndoStack},
};
use crate::{
    error::{Error, ErrorKind, Result},
    export::{GrowingFile, Refusals},
    filesystem::FileSystem,
    sys::socket::listen,
};

/// A session in the making, and then the running one.
#[derive(Debug)]
pub struct Session {
    /// The private directory of this session.
    pub directory: PathBuf,
    /// What is to be taken down again.
    pub parts: UndoStack,
    /// What the user should know, a sentence each.
    pub warnings: Vec<String>,
    /// What may be of interest, a sentence each.
    pub details: Vec<String>,
    /// What tells that the volume is used.
    pub(super) sign: Option<Sign>,
    /// The block file, where there is one.
    pub(super) block: Option<GrowingFile>,
    /// What tells that a program found no room, where the file system is served in this process.
    pub(super) refusals: Option<Refusals>,
    /// The file system, where it is served in this process.
    pub(super) files: Option<Weak<dyn FileSystem>>,
    stop: Arc<AtomicBool>,
    record: Record,
    log_file: Arc<Mutex<fs::File>>,
    directories: Arc<Mutex<Vec<PathBuf>>>,
}

impl Session {
    /// Makes the session's directory, with `record` in it, and the log. `stop` is set when the server shall end.
    pub fn create(directory: PathBuf, record: Record, stop: Arc<AtomicBool>) -> Result<(Self, Log)> {
        make(&directory)?;
        let log_file = open_log(&directory).inspect_err(|_| {
            // Without a log there is nothing in it yet.
            let _ = fs::remove_dir(&directory);
        })?;
        let log_file = Arc::new(Mutex::new(log_file));
        let log = log_to(Arc::clone(&log_file));
        let mut parts = UndoStack::new(Arc::clone(&log));
        let directories = Arc::new(Mutex::new(vec![directory.clone()]));
        parts.push(Directories(Arc::clone(&directories)));
        let session = Self {
            directory,
            parts,
            warnings: Vec::new(),
            details: Vec::new(),
            sign: None,
            block: None,
            refusals: None,
            files: None,
            stop,
            record,
            log_file,
            directories,
        };
        session.record.write(&session.directory)?;
        Ok((session, log))
    }

    /// Whether commands find this session: its record and its control socket are in its directory.
    pub fn is_reachable(&self) -> bool {
        [RECORD, CONTROL].into_iter().all(|name| fs::symlink_metadata(self.directory.join(name)).is_ok())
    }

    /// Goes on in `directory`, with the record and a new log. What is left of the old one goes, now or at the end.
    pub fn move_to(&mut self, directory: PathBuf) -> Result<()> {
        if directory != self.directory {
            // The mount of the block file may still be in there.
            let _ = remove_directory(&self.directory);
        }
        if !directory.is_dir() {
            make(&directory)?;
        }
        locked(&self.directories).push(directory.clone());
        self.directory = directory;
        *locked(&self.log_file) = open_log(&self.directory)?;
        self.record.write(&self.directory)
    }

    /// Leaves a sign in `lasting`, a runtime directory that every command of the user finds, whatever its environment: where this
    /// session is. It goes with the session.
    pub fn leave_sign(&self, lasting: &Path) -> io::Result<()> {
        let Some(name) = self.directory.file_name().filter(|_| self.directory.parent() != Some(lasting))
        else {
            return Ok(());
        };
        let sign = lasting.join(sign_name(name));
        ignore_missing(fs::remove_file(&sign))?;
        symlink(&self.directory, &sign)?;
        locked(&self.directories).push(sign);
        Ok(())
    }

    /// Opens the control socket.
    pub fn listen(&self) -> Result<UnixListener> {
        let path = self.directory.join(CONTROL);
        ignore_missing(fs::remove_file(&path))?;
        Ok(listen(&path)?)
    }

    /// What is known of the session.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Changes the record, on disk first of all: whatever comes to life must be found after a crash.
    pub fn note(&mut self, change: impl FnOnce(&mut Record)) -> Result<()> {
        change(&mut self.record);
        self.record.write(&self.directory)
    }

    /// Set once the server shall end. While it does: once it shall wait for nobody any more.
    pub fn stop(&self) -> &Arc<AtomicBool> {
        &self.stop
    }

    /// # Errors
    /// `Interrupted` once the server shall end.
    pub fn check_stop(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        Ok(())
    }
}

/// The name of a sign that leads to the session directory `name`.
fn sign_name(name: &OsStr) -> OsString {
    let mut sign = OsString::from(SIGN);
    sign.push(name);
    sign
}

/// The session directories to which the signs in `lasting` lead. One that leads nowhere any more is taken away, its server's
/// directory being gone.
pub(super) fn signed(lasting: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(lasting).into_iter().flatten().flatten();
    let signs = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(SIGN.as_bytes()));
    let led = signs.filter_map(|sign| {
        let directory = fs::read_link(sign.path()).ok()?;
        if fs::symlink_metadata(&directory).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            let _ = fs::remove_file(sign.path());
            return None;
        }
        Some(directory)
    });
    led.collect()
}

/// Removes a session's directory: the files that are known and nothing else, so that no mount is ever walked into; or a sign to one.
pub(super) fn remove_directory(directory: &Path) -> io::Result<()> {
    if fs::symlink_metadata(directory).is_ok_and(|found| found.is_symlink()) {
        return ignore_missing(fs::remove_file(directory));
    }
    for name in FILES {
        ignore_missing(fs::remove_file(directory.join(name)))?;
    }
    for name in [BLOCK, ROOT] {
        ignore_missing(fs::remove_dir(directory.join(name)))?;
    }
    ignore_missing(fs::remove_dir(directory))
}

/// The lowest part of the undo stack: the session's directory, and those that it had before.
#[derive(Debug)]
struct Directories(Arc<Mutex<Vec<PathBuf>>>);

impl Part for Directories {
    fn name(&self) -> &'static str {
        "session directory"
    }

    fn undo(&mut self, _how: Undo) -> Result<()> {
        locked(&self.0).iter().try_for_each(|directory| Ok(remove_directory(directory)?))
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn make(directory: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().mode(0o700).create(directory);
    made.map_err(|error| Error::from(error).during(format!("cannot use {}", directory.display())))
}

fn open_log(directory: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().create(true).append(true).mode(0o600).open(directory.join(LOG))
}

fn log_to(file: Arc<Mutex<fs::File>>) -> Log {
    Arc::new(move |line: &str| {
        // A log that cannot be written must not stop the volume.
        let _ = writeln!(locked(&file), "{} {line}", now());
    })
}

/// Also where a thread that held it has panicked.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lowest part of a session: its directory, with the record and the control socket.
pub(super) const DIRECTORY_PART: usize = 1;
/// The control socket's name in a session's directory.
pub(super) const CONTROL: &str = "control";
/// The directory of the block file in a session's directory.
pub(super) const BLOCK: &str = "block";
/// What stands before the container's name in what `df` and `mount` show.
pub(super) const SOURCE: &str = "strongroom";
/// An empty directory that stands for the root directory of a new file system.
pub(super) const ROOT: &str = "root";
/// What the name of a sign begins with.
const SIGN: &str = ".";
const LOG: &str = "log";
const FILES: [&str; 4] = [RECORD, "session.json.new", CONTROL, LOG];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_directory_goes_with_its_known_files() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("1-2");
        fs::create_dir_all(directory.join(BLOCK)).unwrap();
        fs::create_dir(directory.join(ROOT)).unwrap();
        fs::write(directory.join("session.json"), "{}").unwrap();
        remove_directory(&directory).unwrap();
        assert!(!directory.exists());
        remove_directory(&directory).unwrap();
    }

    #[test]
    fn a_session_directory_with_an_unknown_file_stays() {
        let parent = tempfile::tempdir().unwrap();
        let block = parent.path().join(BLOCK);
        fs::create_dir(&block).unwrap();
        fs::write(block.join("photo"), "mine").unwrap();
        assert_eq!(remove_directory(parent.path()).unwrap_err().kind(), io::ErrorKind::DirectoryNotEmpty);
        assert!(block.join("photo").exists());
    }
}
