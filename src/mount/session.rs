//! The session that a server builds up: its directory, its record, its undo stack.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    registry::{Record, now},
    undo::{Log, Part, Undo, UndoStack},
};
use crate::error::{Error, ErrorKind, Result};

/// A session in the making, and then the running one.
#[derive(Debug)]
pub struct Session {
    /// The private directory of this session.
    pub directory: PathBuf,
    /// What is to be taken down again.
    pub parts: UndoStack,
    /// What the user should know, a sentence each.
    pub warnings: Vec<String>,
    stop: Arc<AtomicBool>,
    record: Record,
}

impl Session {
    /// Makes the session's directory, with `record` in it, and the log. `stop` is set when the server shall end.
    pub fn create(directory: PathBuf, record: Record, stop: Arc<AtomicBool>) -> Result<(Self, Log)> {
        let action = || format!("cannot use {}", directory.display());
        fs::DirBuilder::new().mode(0o700).create(&directory).map_err(|e| Error::from(e).during(action()))?;
        let log = open_log(&directory).inspect_err(|_| {
            // Without a log there is nothing in it yet.
            let _ = fs::remove_dir(&directory);
        })?;
        let mut parts = UndoStack::new(Arc::clone(&log));
        parts.push(Directory(directory.clone()));
        let session = Self { directory, parts, warnings: Vec::new(), stop, record };
        session.record.write(&session.directory)?;
        Ok((session, log))
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

/// Removes a session's directory: the files that are known and nothing else, so that no mount is ever walked into.
pub(super) fn remove_directory(directory: &Path) -> io::Result<()> {
    for name in FILES {
        ignore_missing(fs::remove_file(directory.join(name)))?;
    }
    for name in [BLOCK, ROOT] {
        ignore_missing(fs::remove_dir(directory.join(name)))?;
    }
    ignore_missing(fs::remove_dir(directory))
}

/// The directory's part of the undo stack: the lowest.
#[derive(Debug)]
struct Directory(PathBuf);

impl Part for Directory {
    fn name(&self) -> &'static str {
        "session directory"
    }

    fn undo(&mut self, _how: Undo) -> Result<()> {
        Ok(remove_directory(&self.0)?)
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn open_log(directory: &Path) -> Result<Log> {
    let file = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(directory.join(LOG))?;
    let file = Mutex::new(file);
    Ok(Arc::new(move |line: &str| {
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that cannot be written must not stop the volume.
        let _ = writeln!(file, "{} {line}", now());
    }))
}

/// The control socket's name in a session's directory.
pub(super) const CONTROL: &str = "control";
/// The directory of the block file in a session's directory.
pub(super) const BLOCK: &str = "block";
/// An empty directory that stands for the root directory of a new file system.
pub(super) const ROOT: &str = "root";
/// What the driver's process says.
pub(super) const DRIVER_LOG: &str = "driver.log";
const LOG: &str = "log";
const FILES: [&str; 5] = ["session.json", "session.json.new", CONTROL, LOG, DRIVER_LOG];

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
