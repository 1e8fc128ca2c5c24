//! The command's side of mounting: starts a server, hands over the volume, waits until it is usable.

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::{
            net::UnixStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Resource, Signal, getrlimit},
};

use super::{
    closing::Closing,
    desktop::OnDesktop,
    driver::Driver,
    growfs::{self, GrownFilesystem},
    mkfs::NewFilesystem,
    mountpoint::MountPoint,
    program,
    protocol::{self, Answer, Order, Target, Terminal},
    registry::Entry,
    runtime,
    server::{CUT_OFF, SERVE},
    stale, unmount,
};
use crate::{
    error::{Error, ErrorKind, Result},
    export::check_fuse,
    sys::{
        fuse_mount, limits,
        process::{ProcessId, is_root},
        session_bus,
        user::caller_of_root,
    },
    volume::Container,
};

/// What to mount, and where.
#[derive(Debug)]
pub struct Request<'a> {
    /// The container, open and locked. The server keeps the lock; the caller may drop its end. Opened read-only, it
    /// makes everything above it read-only.
    pub container: &'a Container,
    /// The digest of the fingerprint of the header that was unlocked, where it has one: the server opens no other.
    pub fingerprint: Option<String>,
    /// The volume key that a keyslot gave.
    pub key: &'a [u8],
    /// Where the volume becomes visible.
    pub target: Target,
    /// How it closes by itself.
    pub closing: Closing,
    /// How the desktop tells of it.
    pub desktop: OnDesktop,
}

impl<'a> Request<'a> {
    /// For the caller alone.
    pub fn private(container: &'a Container, key: &'a [u8]) -> Self {
        let (closing, desktop) = (Closing::default(), OnDesktop::default());
        Self { container, fingerprint: None, key, target: Target::Private, closing, desktop }
    }
}

/// A volume that is mounted. Dropping this leaves it mounted, but for [`Target::Private`].
#[derive(Debug)]
pub struct Mounted {
    /// What `list` shows.
    pub entry: Entry,
    /// What the user should know, a sentence each.
    pub warnings: Vec<String>,
    /// What may be of interest, a sentence each.
    pub details: Vec<String>,
    server: Server,
    /// A private session ends when this closes, so that a killed `create` leaves nothing.
    _channel: UnixStream,
}

/// Whether `target` can be mounted on and what that takes is installed. For a word before the user is asked for a
/// password; the server looks again.
///
/// # Errors
/// As [`start`] for a bad mount point, `Permission` for a driver that only root may use, `Missing` with the package or
/// module for what the system lacks, and what making the private directory of sessions gave.
pub fn check_target(target: &Target) -> Result<()> {
    check_limits()?;
    stale::clean();
    runtime::prepare()?;
    let (mountpoint, driver) = match target {
        Target::Private => return check_fuse(),
        Target::Desktop { .. } => {
            let checked = check_fuse().and_then(|()| Driver::Udisks.check());
            return checked.map_err(|error| error.during("cannot mount by way of udisks"));
        }
        Target::Block { directory } => (MountPoint::open(directory)?, None),
        Target::FileSystem { mountpoint, driver, made, share, .. } => {
            let driver = driver.resolve()?;
            if share.is_some() {
                fuse_mount::check_sharing().map_err(|error| error.during("cannot share the mount"))?;
            }
            (place(mountpoint, *made)?, Some(driver))
        }
    };
    check_fuse()
        .and_then(|()| driver.map_or(Ok(()), Driver::check))
        .map_err(|error| error.during(format!("cannot mount on {}", mountpoint.path().display())))
}

/// Starts a server for the volume and returns when it is usable: visible in the kernel's table of mounts.
///
/// Remains of killed servers are cleared first. Setting `interrupted` undoes everything.
///
/// # Errors
/// `Interrupted`, or what failed in the server; everything is undone then.
pub fn start(request: &Request<'_>, interrupted: &AtomicBool) -> Result<Mounted> {
    check_limits()?;
    stale::clean();
    let order = Order {
        container: absolute(request.container.file_path())?,
        runtime: runtime::prepare()?,
        target: absolute_target(&request.target)?,
        read_only: request.container.is_read_only(),
        fingerprint: request.fingerprint.clone(),
        format: request.container.assumed().map(|format| format.name().to_owned()),
        section: request.container.section(),
        is_behind: request.container.locked_too().is_some(),
        terminal: Terminal::current(),
        closing: request.closing.clone(),
        bus: session_bus::of_user(),
        desktop: request.desktop.clone(),
        owner: is_root().then(caller_of_root).flatten(),
        home: std::env::home_dir().filter(|home| home.is_absolute() && home.to_str().is_some()),
    };
    let (channel, theirs) = UnixStream::pair()?;
    let mut server = Server::spawn(theirs)?;
    protocol::send_with_locks(&channel, request.container)
        .and_then(|()| protocol::send_order(&channel, &order, request.key))
        .map_err(|error| server.failed_early(error))?;
    match await_answer(&channel, &mut server, interrupted)? {
        Answer::Ready { entry, warnings, details } => {
            if server.has_ended()? {
                return Err(ended_without_a_word());
            }
            Ok(Mounted { entry: *entry, warnings, details, server, _channel: channel })
        }
        Answer::Failed(failure) => {
            server.wait(END_LIMIT);
            // Where it could start no program, it could not take away what it had mounted; its own place among processes is free now.
            stale::clean();
            if let Target::Block { directory: place } | Target::FileSystem { mountpoint: place, .. } =
                &order.target
            {
                stale::clean_place(place);
            }
            Err(failure.into())
        }
    }
}

/// A server that can open no more files could not take down again what it has mounted, and one that is killed for the time that it
/// has computed loses what was written. It inherits our limits.
fn check_limits() -> Result<()> {
    if !limits::allow_open_files(LEAST_OPEN_FILES) {
        return Err(Error::from(io::Error::from(Errno::MFILE)).during("cannot start a server"));
    }
    if !limits::allow_endless_work() {
        let reason = "the limit on processor time would end it while the volume is in use";
        return Err(Error::new(ErrorKind::Io, reason)
            .during("cannot start a server")
            .with_hint("raise the limit: see ulimit -t"));
    }
    Ok(())
}

impl Mounted {
    /// Makes a file system in it. For [`Target::Private`] only.
    ///
    /// # Errors
    /// As [`NewFilesystem::make`].
    pub fn make_filesystem(&self, new: &NewFilesystem<'_>, interrupted: &AtomicBool) -> Result<()> {
        let block = self.block()?;
        let session = block.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        new.make(block, session, interrupted)
    }

    /// Makes the file system in it as large as the volume. For [`Target::Private`] only.
    ///
    /// # Errors
    /// `Missing` with the package; `Io` with the tool's own reason; `Interrupted` before it was touched.
    pub fn grow_filesystem(&self, interrupted: &AtomicBool) -> Result<GrownFilesystem> {
        growfs::grow(self.block()?, interrupted)
    }

    fn block(&self) -> Result<&Path> {
        self.entry.block.as_deref().ok_or_else(|| Error::new(ErrorKind::Io, "the block file is gone"))
    }

    /// Takes the volume down and waits until its server has ended.
    ///
    /// # Errors
    /// `Busy` where it is in use; it stays mounted then, unless `force`.
    pub fn stop(mut self, force: bool) -> Result<()> {
        let patience =
            unmount::Patience { interrupted: &AtomicBool::new(false), tell: &|_| (), warn: &|_| () };
        let stopped = unmount::one(&self.entry, force, patience);
        // After a failed write it is down as well.
        if stopped.is_ok() || !self.server.id.is_alive() {
            self.server.wait(END_LIMIT);
        }
        stopped
    }

    /// Stays until the volume is taken down, by whomever. Setting `interrupted` takes it down as SIGTERM to the server
    /// does.
    ///
    /// # Errors
    /// `Io` where not all that was written is kept.
    pub fn wait(mut self, interrupted: &AtomicBool) -> Result<()> {
        let mut told = false;
        let status = loop {
            if let Some(status) = self.server.child.try_wait()? {
                break status;
            }
            if interrupted.load(Ordering::Relaxed) && !told {
                self.server.id.signal(Signal::TERM)?;
                told = true;
            }
            sleep(TICK);
        };
        let (kind, reason) = match status.signal() {
            _ if status.success() => return Ok(()),
            Some(signal) => {
                let reason =
                    format!("its server was killed (signal {signal}): what was not synced may be lost");
                (ErrorKind::Io, reason)
            }
            None if status.code() == Some(CUT_OFF.into()) => (ErrorKind::Busy, USED_ELSEWHERE.to_owned()),
            None => (ErrorKind::Io, "not everything that was written is in the container".to_owned()),
        };
        let place = self.entry.mountpoint.as_ref().unwrap_or(&self.entry.container).display();
        Err(Error::new(kind, reason).during(format!("unmounted {place}, but not cleanly")))
    }
}

/// The server process, a child until its parent ends.
#[derive(Debug)]
struct Server {
    child: Child,
    id: ProcessId,
}

impl Server {
    /// Starts this program again as a server, with one end of the socket as its standard input and nothing else of ours.
    fn spawn(theirs: UnixStream) -> Result<Self> {
        let mut command = program::command("/proc/self/exe");
        if getrlimit(Resource::As).current.is_some() {
            // The C library sets 64 MiB of addresses aside for each thread that allocates, which may be all that there are.
            command.env("MALLOC_ARENA_MAX", "1");
        }
        let mut child = command
            .arg0("strongroom")
            .arg(SERVE)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Error::from(error).during("cannot start the server"))?;
        let Some(id) = i32::try_from(child.id()).ok().and_then(ProcessId::of) else {
            child.wait()?;
            return Err(Error::new(ErrorKind::Io, "it ended at once").during("cannot start the server"));
        };
        Ok(Self { child, id })
    }

    fn failed_early(&mut self, error: io::Error) -> Error {
        self.wait(END_LIMIT);
        Error::from(error).during("cannot start the server")
    }

    fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for the end, so that neither a zombie nor a lock on the container is left.
    fn wait(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while matches!(self.has_ended(), Ok(false)) && Instant::now() < deadline {
            sleep(TICK);
        }
    }
}

/// Waits for the server's answer. An interrupt is passed on once; the server then undoes what it did and says so.
fn await_answer(channel: &UnixStream, server: &mut Server, interrupted: &AtomicBool) -> Result<Answer> {
    channel.set_read_timeout(Some(TICK))?;
    let mut told = false;
    loop {
        if interrupted.load(Ordering::Relaxed) && !told {
            server.id.signal(Signal::TERM)?;
            told = true;
        }
        match wait_readable(channel) {
            Ok(false) => continue,
            Ok(true) => channel.set_read_timeout(Some(ANSWER_LIMIT))?,
            Err(error) => return Err(server.failed_early(error)),
        }
        return match protocol::receive(channel) {
            Ok(Answer::Ready { .. }) if told => {
                // It was ready before the signal came, and ends by the signal.
                server.wait(END_LIMIT);
                Err(Error::new(ErrorKind::Interrupted, "interrupted"))
            }
            Ok(answer) => Ok(answer),
            Err(_) if told => {
                server.wait(END_LIMIT);
                Err(Error::new(ErrorKind::Interrupted, "interrupted"))
            }
            Err(_) => {
                server.wait(END_LIMIT);
                stale::clean();
                Err(ended_without_a_word())
            }
        };
    }
}

fn ended_without_a_word() -> Error {
    Error::new(ErrorKind::Io, "the server ended without a word")
        .with_hint("it may lack memory or threads: see ulimit -a, and dmesg")
        .during("cannot mount")
}

/// Whether the other end has written or closed, within one tick.
fn wait_readable(channel: &UnixStream) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let tick = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    match poll(&mut [PollFd::new(channel, PollFlags::IN)], Some(&tick)) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn absolute(path: &Path) -> io::Result<PathBuf> {
    std::fs::canonicalize(path).or_else(|_| std::path::absolute(path))
}

/// The target with absolute paths: the server lives in `/`.
fn absolute_target(target: &Target) -> Result<Target> {
    Ok(match target {
        Target::Private => Target::Private,
        Target::Block { directory } => {
            Target::Block { directory: place(directory, false)?.path().to_path_buf() }
        }
        Target::Desktop { .. } => target.clone(),
        Target::FileSystem { mountpoint, driver, made, free, owners, share, options } => {
            let mountpoint = place(mountpoint, *made)?.path().to_path_buf();
            let (driver, made, free, owners) = (*driver, *made, *free, *owners);
            let (share, options) = (share.clone(), options.clone());
            Target::FileSystem { mountpoint, driver, made, free, owners, share, options }
        }
    })
}

/// The place of a mount to be, looked at and left as it is.
fn place(path: &Path, made: bool) -> Result<MountPoint> {
    if !made {
        return MountPoint::open(path);
    }
    let place = MountPoint::open_made(path)?;
    place.seal()?;
    Ok(place)
}

const USED_ELSEWHERE: &str = "it was still in use in another mount namespace; what was written there until then is in the container, and nothing from now on";
/// Several times as many as a server has open on a machine with many processors: descriptors of FUSE, a thread each.
const LEAST_OPEN_FILES: u64 = 128;
const TICK: Duration = Duration::from_millis(20);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const END_LIMIT: Duration = Duration::from_secs(60);
