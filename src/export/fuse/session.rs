use std::{
    fmt,
    fs::File,
    io::{self, PipeReader, PipeWriter},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Weak, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use fuser::{Config, Filesystem, Session, SessionACL};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::retry_on_intr,
};

use super::{
    Client, LogSink,
    server::{Served, Server},
};
use crate::{
    block::{BlockDevice, ByteDevice},
    error::{Error, ErrorKind, Result},
    export::{Uses, VOLUME_FILE},
    sys::{
        alloc,
        fuse_mount::{self, Appearance},
        process,
    },
};

/// A block file that is being served. Dropping it unmounts, by force if need be.
pub struct FuseExport {
    mount: OwnMount,
    served: Arc<Served>,
    session: Option<JoinHandle<()>>,
    end: PipeReader,
    /// It was unmounted, and somebody keeps it all the same.
    is_kept: bool,
    uses: Uses,
}

impl FuseExport {
    /// Mounts on `dir` and serves `device` there as one file. Returns when the file can be opened.
    ///
    /// `dir` is a directory of this process's own. `log` hears of each kind of failure once.
    ///
    /// # Errors
    /// `Missing` where FUSE or `fusermount3` is, `Permission`, `NotFound`, or what the system gave. Nothing stays mounted.
    pub fn start(device: Arc<dyn BlockDevice>, dir: &Path, client: Client, log: LogSink) -> Result<Self> {
        let (mount, descriptor) = OwnMount::new(dir, &Appearance::block_file(device.geometry().read_only))?;
        let served = Arc::new(Served::new(ByteDevice::new(device), Arc::clone(&log)));
        served.reserve(threads());
        alloc::take_up_large_blocks(LARGEST_REQUEST);
        let uses = Uses::default();
        let answering = Server::new(Arc::clone(&served), client, uses.clone());
        let started = serve(answering, client.asks_for_much(), descriptor, log);
        let (session, end) = started.map_err(|error| {
            let _the_first_error_counts = mount.take_away(true);
            error.during(mounting(dir))
        })?;
        let export = Self { mount, served, session: Some(session), end, is_kept: false, uses };
        // The first answer; from here on an error drops the export, which unmounts.
        std::fs::metadata(export.path()).map_err(|error| Error::from(error).during(mounting(dir)))?;
        // Only root may raise it; others keep the kernel's 128 KiB.
        let _unchanged = fuse_mount::set_read_ahead(export.mount.device_number, fuse_mount::MAX_READ);
        Ok(export)
    }

    /// The block file.
    pub fn path(&self) -> PathBuf {
        self.mount.dir.join(VOLUME_FILE)
    }

    /// What shows a volume that has grown in the block file.
    pub fn growing(&self) -> GrowingFile {
        GrowingFile { served: Arc::downgrade(&self.served) }
    }

    /// What counts the uses of the file.
    pub fn uses(&self) -> Uses {
        self.uses.clone()
    }

    /// Takes note of where the mount shows by now: a folder above it may have been renamed.
    pub fn follow(&mut self, dir: &Path) {
        dir.clone_into(&mut self.mount.dir);
    }

    /// Whether requests are still answered: `false` after an unmount from outside.
    pub fn is_alive(&self) -> bool {
        self.session.is_some() && !self.has_ended_within(Duration::ZERO)
    }

    /// Whether the block file can be reached by its path.
    pub fn is_mounted(&self) -> bool {
        self.mount.is_there()
    }

    /// Becomes readable (end of file) when the session ends, for `poll` beside other descriptors.
    pub fn end(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    /// Unmounts, waits for the threads, flushes, and lets go of the device. Harmless where it was unmounted from outside.
    ///
    /// `lazy` does not ask whether the file is still open: what was written is flushed, then whoever holds it gets errors.
    ///
    /// # Errors
    /// `Busy` where the file is open and `lazy` is not set; the export then goes on and `stop` may be called again. `Io`
    /// where what was written did not all reach the medium; the export is down then.
    pub fn stop(&mut self, lazy: bool) -> Result<()> {
        if lazy {
            self.flush_caches();
            self.cut_off();
        }
        self.mount.take_away(lazy)?;
        let ended = self.has_ended_within(if lazy || self.is_kept { BRIEFLY } else { PATIENCE });
        if !ended && !lazy {
            self.is_kept = true;
            return Err(
                Error::new(ErrorKind::Busy, "it is still in use elsewhere").during(self.mount.unmounting())
            );
        }
        // Its last user may have written until now, where it was detached from outside.
        let device = self.served.device().filter(|_| !lazy);
        let flushed = device.map_or(Ok(()), |device| device.flush());
        self.served.retire();
        // A holder whom the kernel cannot cut off keeps the threads alive; they own no device now and answer EIO.
        if let Some(session) = self.session.take_if(|_| ended) {
            let _panicked = session.join();
        }
        self.session = None;
        flushed.map_err(|error| Error::caused_by(ErrorKind::Io, error).during("cannot flush the volume"))?;
        match self.served.lost() {
            Some(why) => {
                Err(Error::new(ErrorKind::Io, format!("not all that was written is in the container: {why}")))
            }
            None => Ok(()),
        }
    }

    /// Makes whoever has the file open get errors from now on. Root's lazy unmount does so too; others can where fusectl is.
    fn cut_off(&self) {
        // Only while the session lives: afterwards the number may be another's.
        if self.is_alive() {
            let _where_possible = fuse_mount::abort_connection(self.mount.device_number);
        }
    }

    /// Brings what the kernel holds back in its cache to the device, and that to the medium, as well as it goes.
    fn flush_caches(&self) {
        let Some(device) = self.served.device() else { return };
        if self.is_alive() && self.mount.is_there() {
            let _best_effort = File::open(self.path()).and_then(|file| file.sync_all());
        }
        let _best_effort = device.flush();
    }

    fn has_ended_within(&self, limit: Duration) -> bool {
        has_ended_within(&self.end, limit)
    }
}

/// The block file of a volume that may grow.
#[derive(Clone)]
pub struct GrowingFile {
    served: Weak<Served>,
}

impl GrowingFile {
    /// Gives the block file, which is at `path` by now, the size that the volume has. Not for a thread that answers the kernel.
    ///
    /// # Errors
    /// What the system gave: it has its old size then to whoever has looked already.
    pub fn follow(&self, path: &Path) -> io::Result<()> {
        let size = self.served.upgrade().and_then(|served| served.follow_size());
        let size = size.ok_or(io::ErrorKind::NotConnected)?;
        // The kernel has no other way to a new size where it caches writes: it believes its own.
        File::options().write(true).open(path)?.set_len(size)
    }
}

impl fmt::Debug for GrowingFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GrowingFile")
    }
}

/// Whether the pipe that a session closes at its end is closed by then.
pub(in crate::export) fn has_ended_within(end: &PipeReader, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).ok();
    let ended = retry_on_intr(|| {
        let mut polled = [PollFd::new(end, PollFlags::IN)];
        poll(&mut polled, limit.as_ref())
    });
    ended.is_ok_and(|ready| ready > 0)
}

impl Drop for FuseExport {
    fn drop(&mut self) {
        if self.session.is_some() && self.stop(false).is_err() {
            let _nothing_more_to_do = self.stop(true);
        }
    }
}

impl fmt::Debug for FuseExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FuseExport({})", self.mount.dir.display())
    }
}

/// A mount that this process made, told from any other on the same directory by its device number.
pub(in crate::export) struct OwnMount {
    pub(in crate::export) dir: PathBuf,
    pub(in crate::export) device_number: (u32, u32),
}

impl OwnMount {
    pub(in crate::export) fn new(dir: &Path, appearance: &Appearance<'_>) -> Result<(Self, OwnedFd)> {
        let descriptor = fuse_mount::mount(dir, appearance).map_err(|error| error.during(mounting(dir)))?;
        let device_number =
            fuse_mount::device_number(dir).map_err(|error| Error::from(error).during(mounting(dir)))?;
        Ok((Self { dir: dir.to_owned(), device_number }, descriptor))
    }

    pub(in crate::export) fn is_there(&self) -> bool {
        fuse_mount::device_number(&self.dir).is_ok_and(|found| found == self.device_number)
    }

    /// Unmounts it, unless somebody already has.
    pub(in crate::export) fn take_away(&self, lazy: bool) -> Result<()> {
        if !self.is_there() {
            return Ok(());
        }
        fuse_mount::unmount(&self.dir, lazy).map_err(|error| error.during(self.unmounting()))
    }

    fn unmounting(&self) -> String {
        format!("cannot unmount {}", self.dir.display())
    }
}

pub(in crate::export) fn mounting(dir: &Path) -> String {
    format!("cannot mount FUSE on {}", dir.display())
}

/// Greets the kernel and starts the threads that answer it. The pipe closes when the last of them has ended.
pub(in crate::export) fn serve(
    server: impl Filesystem,
    asks_for_much: bool,
    descriptor: OwnedFd,
    log: LogSink,
) -> Result<(JoinHandle<()>, PipeReader)> {
    let mut config = Config::default();
    config.n_threads = Some(threads());
    config.clone_fd = fuse_mount::can_clone(&descriptor);
    // The mount lets only its owner in, and the kernel sees to it. fuser's own check on top would refuse what the kernel
    // asks on nobody's behalf, such as writeback.
    let session = Session::from_fd(server, descriptor, SessionACL::All, config)?;
    check_threads(threads() + 1)?;
    let (end, closes_at_end) = io::pipe()?;
    let answer = move || {
        if asks_for_much {
            process::let_clients_run();
        }
        run(session, &log, closes_at_end);
    };
    let thread = thread::Builder::new().name("fuse".to_owned()).spawn(answer)?;
    Ok((thread, end))
}

/// Whether so many threads can be had at once: a session that gets fewer ends, and takes what is mounted on it along.
fn check_threads(count: usize) -> io::Result<()> {
    let threads: io::Result<Vec<_>> = (0..count)
        .map(|_| {
            let (wait, go) = mpsc::channel::<()>();
            let thread = thread::Builder::new().spawn(move || go.recv())?;
            Ok((wait, thread))
        })
        .collect();
    for (wait, thread) in threads? {
        drop(wait);
        let _panicked = thread.join();
    }
    Ok(())
}

/// How many threads answer.
fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)
}

fn run(session: Session<impl Filesystem>, log: &LogSink, _closes_at_end: PipeWriter) {
    if let Err(error) = session.run() {
        log(&format!("the FUSE session ended: {error}"));
    }
}

/// The largest request, a write, with what is said before its data.
const LARGEST_REQUEST: usize = (1 << 20) + (64 << 10);

/// More threads gain nothing: the copies are the limit.
const MAX_THREADS: usize = 4;

/// How long the threads of an unmounted session may take to notice.
const PATIENCE: Duration = Duration::from_secs(2);

/// The same for a session that somebody may keep from ending.
const BRIEFLY: Duration = Duration::from_millis(300);
