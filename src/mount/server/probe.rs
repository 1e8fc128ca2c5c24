//! Whether the medium of a container would take a write now: asked before anything is taken down, by a thread that may wait there
//! for as long as it likes.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::PathBuf,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    thread::gettid,
};

use crate::{
    error::Result,
    mount::mountinfo::{MountTable, mount_of},
};

/// Why a medium takes no write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its file system, which is mounted there, is frozen.
    Frozen(Option<PathBuf>),
    /// The file cannot be written, or its file system is read-only.
    Forbidden,
}

/// One question at a time: who is stuck with it answers it later.
#[derive(Debug, Default)]
pub(super) struct Probe(Option<(Receiver<std::io::Result<()>>, i32)>);

impl Probe {
    /// Asks what becomes of a write to the regular file `file`. `None` where it would go, where it fails for another reason, or
    /// where nobody knows.
    pub(super) fn ask(&mut self, file: &File) -> Option<Refusal> {
        let (answer, thread) = match self.0.take() {
            Some(asked) => asked,
            None => ask(file)?,
        };
        match answer.recv_timeout(PATIENCE) {
            Ok(Err(error))
                if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) =>
            {
                Some(Refusal::Forbidden)
            }
            Ok(_) | Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                let waits_in = fs::read_to_string(format!("/proc/self/task/{thread}/wchan"));
                self.0 = Some((answer, thread));
                let is_frozen = waits_in.is_ok_and(|place| place.contains("percpu_rwsem_wait"));
                is_frozen.then(|| Refusal::Frozen(place_of(file)))
            }
        }
    }
}

/// Asks for room for the first byte, which is there: nothing changes.
fn ask(file: &File) -> Option<(Receiver<std::io::Result<()>>, i32)> {
    let file = file.try_clone().ok()?;
    let (told, thread) = mpsc::channel();
    let (done, answer) = mpsc::channel();
    let probe = move || {
        // Whoever asked may wait no longer.
        let _ = told.send(gettid().as_raw_pid());
        let _ = done.send(fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 1).map_err(Into::into));
    };
    thread::Builder::new().name("probe".to_owned()).spawn(probe).ok()?;
    Some((answer, thread.recv().ok()?))
}

/// Where the file system of an open file is mounted.
fn place_of(file: &File) -> Option<PathBuf> {
    let number = mount_of(file)?;
    let table = MountTable::read().ok()?;
    table.mounts().iter().find(|mount| mount.id.number == number).map(|mount| mount.mountpoint.clone())
}

/// What `work` gives, if it gives it soon.
pub(in crate::mount) fn soon<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Option<Result<T>> {
    let (done, answer) = mpsc::channel();
    let work = move || {
        // Whoever asked may wait no longer.
        let _ = done.send(work());
    };
    thread::Builder::new().name("probe".to_owned()).spawn(work).ok()?;
    answer.recv_timeout(PATIENCE).ok()
}

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_can_be_written_is_not_refused_and_stays_as_it_is() {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"container").unwrap();
        assert_eq!(Probe::default().ask(&file), None);
        assert_eq!(file.metadata().unwrap().len(), 9);
    }

    #[test]
    fn what_does_not_come_soon_is_not_waited_for() {
        assert_eq!(soon(|| Ok(7)).unwrap().unwrap(), 7);
        let (_open, never) = mpsc::channel::<()>();
        assert!(soon(move || Ok(never.recv().is_ok())).is_none());
    }
}
