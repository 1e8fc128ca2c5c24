use std::{
    fmt,
    io::PipeReader,
    os::fd::{AsFd, BorrowedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    attributes::Owners,
    callers::Callers,
    pace::{Pace, Promptness},
    server::{Served, Server},
    share::Share,
};
use crate::{
    error::{Error, ErrorKind, Result},
    export::{
        LogSink, Refusals, Uses,
        fuse::session::{OwnMount, has_ended_within, mounting, serve},
    },
    filesystem::{Fault, FileSystem},
    sys::fuse_mount::{self, Admission, Appearance},
};

/// How the mount shows in the kernel's table.
#[derive(Debug, Clone, Copy)]
pub struct FilesMount<'a> {
    /// What `df` shows as the device. Without commas.
    pub source: &'a str,
    /// What follows `fuse.` in the type.
    pub subtype: &'a str,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whose the files are.
    pub owners: Owners,
    /// With whom it is shared.
    pub share: Option<&'a Share>,
    /// Whether no file may be run as a program, whatever its mode.
    pub forbids_programs: bool,
    /// What is on the medium when a program is answered.
    pub promptness: Promptness,
}

/// A file system that is being served. Dropping it unmounts, by force if need be.
pub struct FilesExport {
    mount: OwnMount,
    files: Arc<dyn FileSystem>,
    served: Arc<Served>,
    session: Option<JoinHandle<()>>,
    pace: Arc<Pace>,
    callers: Arc<Callers>,
    /// The thread that commits what waits.
    syncing: Option<JoinHandle<()>>,
    end: PipeReader,
    uses: Uses,
    refusals: Refusals,
}

impl FilesExport {
    /// Mounts on `dir` and serves `files` there. Returns when they can be opened. `log` hears of failures.
    ///
    /// # Errors
    /// `Missing` where FUSE or `fusermount3` is, `Permission`, `NotFound`, or what the system gave. Nothing stays mounted.
    pub fn start(files: Arc<dyn FileSystem>, dir: &Path, how: FilesMount<'_>, log: &LogSink) -> Result<Self> {
        let FilesMount { source, subtype, read_only, owners, share, forbids_programs, promptness } = how;
        // Where files have modes of their own, those say which are programs.
        let runs_programs = files.has_access_lists() && !forbids_programs;
        // Where there is a mark against writing at most, the server looks at it: the kernel would ask for a directory's modes before
        // each change in it.
        let admission = match share {
            Some(_) => Admission::AllByModes,
            None if files.has_access_lists() => Admission::OwnByModes,
            None => Admission::Own,
        };
        let appearance = Appearance { source, subtype, read_only, admission, runs_programs };
        let (mount, descriptor) = OwnMount::new(dir, &appearance)?;
        let served = Arc::new(Served::new(Arc::clone(&files)));
        let pace = Arc::new(Pace::new(promptness));
        let uses = Uses::default();
        let callers = Arc::new(Callers::default());
        let refusals = Refusals::default();
        let shared = (Arc::clone(&served), Arc::clone(&pace), Arc::clone(&callers));
        let seen = (uses.clone(), refusals.clone());
        let answering = Server::new(shared, seen, (owners, share.cloned()), Arc::clone(log));
        let started = serve(answering, true, descriptor, Arc::clone(log));
        let (session, end) = started.map_err(|error| {
            let _the_first_error_counts = mount.take_away(true);
            error.during(mounting(dir))
        })?;
        let mut export = Self {
            mount,
            files,
            served,
            session: Some(session),
            pace,
            callers,
            syncing: None,
            end,
            uses,
            refusals,
        };
        // The first answer; from here on an error drops the export, which unmounts.
        std::fs::metadata(dir).map_err(|error| Error::from(error).during(mounting(dir)))?;
        let _unchanged = fuse_mount::set_read_ahead(export.mount.device_number, fuse_mount::MAX_READ);
        let _ends_by_itself = export.callers.look_after()?;
        export.syncing =
            Some(commit_what_waits(Arc::clone(&export.files), Arc::clone(&export.pace), Arc::clone(log))?);
        Ok(export)
    }

    /// The directory that it is mounted on.
    pub fn directory(&self) -> PathBuf {
        self.mount.dir.clone()
    }

    /// What counts the uses of its files.
    pub fn uses(&self) -> Uses {
        self.uses.clone()
    }

    /// What tells whether a program found no room.
    pub fn refusals(&self) -> Refusals {
        self.refusals.clone()
    }

    /// Becomes readable (end of file) when the session ends, for `poll` beside other descriptors.
    pub fn end(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    /// Whether requests are still answered: `false` after an unmount.
    pub fn is_alive(&self) -> bool {
        self.session.is_some() && !has_ended_within(&self.end, Duration::ZERO)
    }

    /// After the unmount: waits for the threads, writes what is left, and notes on the volume that it was left clean.
    ///
    /// `forced` waits for nobody.
    ///
    /// # Errors
    /// `Busy` where somebody has it mounted elsewhere and `forced` is not set; it goes on then. `Io` where not all that was
    /// written reached the medium.
    pub fn finish(&mut self, forced: bool) -> Result<()> {
        let ended = has_ended_within(&self.end, if forced { BRIEFLY } else { PATIENCE });
        if !ended && !forced {
            return Err(Error::new(ErrorKind::Busy, "it is still in use elsewhere"));
        }
        if let Some(thread) = self.syncing.take() {
            self.pace.end();
            let _panicked = thread.join();
        }
        if let Some(session) = self.session.take_if(|_| ended) {
            let _panicked = session.join();
        }
        self.session = None;
        self.callers.end();
        // Whoever still holds a file gets errors from now on.
        self.served.retire();
        written(|| self.files.close())
    }

    /// Brings to the medium all that programs have written. Nothing is left to be done where the file system has failed before.
    ///
    /// # Errors
    /// `Io`.
    pub fn sync(&self) -> Result<()> {
        if self.files.is_whole() { written(|| self.pace.commit(&*self.files)) } else { Ok(()) }
    }
}

impl Drop for FilesExport {
    fn drop(&mut self) {
        if self.session.is_some() {
            let _as_well_as_it_goes = self.mount.take_away(true);
            let _nothing_more_to_do = self.finish(true);
        }
    }
}

impl fmt::Debug for FilesExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FilesExport({})", self.mount.dir.display())
    }
}

/// What was changed lies in memory for a moment only.
fn commit_what_waits(
    files: Arc<dyn FileSystem>,
    pace: Arc<Pace>,
    log: LogSink,
) -> std::io::Result<JoinHandle<()>> {
    let work = move || {
        let mut has_failed = false;
        while pace.wait() {
            if let Err(fault) = pace.commit(&*files)
                && !std::mem::replace(&mut has_failed, true)
            {
                log(&format!("writing the file system failed: {fault}"));
            }
        }
    };
    thread::Builder::new().name("sync".to_owned()).spawn(work)
}

/// Has the file system write. A panic there does not end the process, which has the keys.
fn written(work: impl FnOnce() -> Result<(), Fault>) -> Result<()> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Fault::Io)).map_err(|fault| {
        Error::new(ErrorKind::Io, format!("not all that was written is in the container: {fault}"))
    })
}

/// How long the threads of an unmounted session may take to notice.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same for a session that somebody may keep from ending.
const BRIEFLY: Duration = Duration::from_millis(300);
