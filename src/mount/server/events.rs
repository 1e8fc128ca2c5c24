//! What a server waits for.

use std::{
    fs::File,
    io::{self, PipeReader, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{self, CreateFlags, WatchFlags},
    process::Signal,
};
use signal_hook::{
    consts::{
        SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU,
    },
    flag,
    low_level::pipe,
};

use crate::{
    error::{Error, ErrorKind, Result},
    mount::{
        mountinfo::{self, MountId, MountTable},
        protocol::{self, Command},
    },
    sys::{process::effective_user, socket::peer_user},
};

/// Something that happened.
#[derive(Debug)]
pub(super) enum Event {
    /// SIGTERM or SIGINT.
    Signal,
    /// Somebody connected to the control socket.
    Command(UnixStream),
    /// A part went away from outside: unmounted, or the owner of a private session ended.
    Gone,
    /// A write that would have touched the protected hidden volume was refused.
    Refused,
    /// The container or its header file was renamed, deleted, replaced or overwritten.
    Files,
    /// Whoever had borrowed the container has given it back.
    Returned,
    /// The container's medium is full, or is no longer.
    Room,
    /// logind or the desktop has told something.
    News,
    /// Somebody logged in or out.
    Users,
    /// A device of the machine came or went.
    Devices,
    /// Mounts changed, or a minute has passed: what lies in the file system deserves a look.
    Changed,
}

/// The signals that end a server, as a flag and as a descriptor to poll.
#[derive(Debug)]
pub(super) struct Signals {
    stop: Arc<AtomicBool>,
    pipe: UnixStream,
}

impl Signals {
    /// Catches SIGTERM, SIGINT, SIGQUIT, SIGXCPU and SIGPWR. What else ends a process that does not expect it is none of a server's
    /// business.
    pub(super) fn catch() -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (pipe, sender) = UnixStream::pair()?;
        for signal in [SIGTERM, SIGINT, SIGQUIT, SIGXCPU, Signal::POWER.as_raw()] {
            flag::register(signal, Arc::clone(&stop))?;
            pipe::register(signal, sender.try_clone()?)?;
        }
        for signal in [SIGHUP, SIGALRM, SIGUSR1, SIGUSR2, SIGIO, SIGVTALRM, SIGPROF] {
            flag::register(signal, Arc::default())?;
        }
        Ok(Self { stop, pipe })
    }

    /// Set by the first signal.
    pub(super) fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Whether one came.
    pub(super) fn came(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// The parts whose end is the session's end.
#[derive(Debug)]
pub(super) struct Watch {
    mount: Option<MountId>,
    table: File,
    export: OwnedFd,
    owner: Option<UnixStream>,
    borrower: Option<UnixStream>,
    alarm: Option<PipeReader>,
    files: Option<OwnedFd>,
    room: Option<PipeReader>,
    home: Option<OwnedFd>,
    news: Option<OwnedFd>,
    users: Option<OwnedFd>,
    devices: Option<OwnedFd>,
    is_lingering: bool,
    /// How many commands went before a signal that waits.
    passed: u32,
    /// When [`Event::Changed`] came last.
    looked: Instant,
}

impl Watch {
    /// Watches the end of the export, and the mount that the user was given.
    ///
    /// Not the block file's mount below the kernel's driver: that has the file open and does without its path.
    pub(super) fn new(export: OwnedFd, mount: Option<MountId>) -> Result<Self> {
        mountinfo::keep()?;
        Ok(Self {
            mount,
            table: File::open(mountinfo::PATH)?,
            export,
            owner: None,
            borrower: None,
            alarm: None,
            files: None,
            room: None,
            home: None,
            news: None,
            users: None,
            devices: None,
            is_lingering: false,
            passed: 0,
            looked: Instant::now(),
        })
    }

    /// Watches the process at the other end of `owner`, too: the session is for its use alone.
    pub(super) fn bind_to(&mut self, owner: UnixStream) {
        self.owner = Some(owner);
    }

    /// Watches for the end of `alarm`, once, too: a protected hidden volume stood in the way of a write.
    pub(super) fn heed(&mut self, alarm: PipeReader) {
        self.alarm = Some(alarm);
    }

    /// Watches for news of the container's files, too.
    pub(super) fn follow(&mut self, news: OwnedFd) {
        self.files = Some(news);
    }

    /// Watches for news of the room on the container's medium, too: a byte each.
    pub(super) fn mind(&mut self, news: PipeReader) {
        self.room = Some(news);
    }

    /// Watches for what logind and the desktop tell, too; for no more of that where it is `None`.
    pub(super) fn hear(&mut self, bell: Option<OwnedFd>) {
        self.news = bell;
    }

    /// Watches for users who log in or out, too.
    pub(super) fn see_users(&mut self, events: Option<OwnedFd>) {
        self.users = events;
    }

    /// Watches for devices of the machine, too.
    pub(super) fn see_devices(&mut self, events: Option<OwnedFd>) {
        self.devices = events;
    }

    /// Has [`Event::Changed`] come when something is taken out of `directory`, the session's, or that or a folder above it goes.
    pub(super) fn stay_in(&mut self, directory: &Path) {
        let watched = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).and_then(|home| {
            let losses = WatchFlags::DELETE | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
            inotify::add_watch(&home, directory, losses | WatchFlags::ONLYDIR)?;
            for above in directory.ancestors().skip(1) {
                // Of one that cannot be read a later look tells.
                let _ = inotify::add_watch(&home, above, WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR);
            }
            Ok(home)
        });
        // Without it the session looks now and then.
        self.home = watched.ok();
    }

    /// Has [`Event::Changed`] come every moment, and the mount's end be none: it has gone, and who uses it elsewhere is waited for.
    pub(super) fn linger(&mut self) {
        self.mount = None;
        self.is_lingering = true;
    }

    /// Whether the volume is served only until those let go who use it elsewhere.
    pub(super) const fn is_lingering(&self) -> bool {
        self.is_lingering
    }

    /// Whether the export has ended.
    pub(super) fn has_ended(&self) -> bool {
        is_readable(&self.export)
    }

    /// Whether the container is lent to a command.
    pub(super) const fn is_lent(&self) -> bool {
        self.borrower.is_some()
    }

    /// Takes the container as lent until the process at the other end of `borrower` closes it.
    pub(super) fn lend_to(&mut self, borrower: UnixStream) {
        self.borrower = Some(borrower);
    }

    /// Waits for the next event; after so much `patience` something is always taken for changed.
    pub(super) fn next(
        &mut self,
        signals: &Signals,
        control: &UnixListener,
        patience: Option<Duration>,
    ) -> io::Result<Event> {
        loop {
            match self.wait(signals, control, patience)? {
                // A command that is there already may be what the signal is to hurry, and says more than that.
                Ready::Signal if self.passed < MOST_PASSED && is_readable(control) => {
                    self.passed += 1;
                    return Ok(Event::Command(control.accept()?.0));
                }
                Ready::Signal => {
                    self.passed = 0;
                    let _ = (&signals.pipe).read(&mut [0; 16])?;
                    return Ok(Event::Signal);
                }
                Ready::Gone => return Ok(Event::Gone),
                _ if self.is_gone() => return Ok(Event::Gone),
                Ready::Command => return Ok(Event::Command(control.accept()?.0)),
                Ready::Changed => {
                    self.looked = Instant::now();
                    if let Some(home) = &self.home {
                        // What there is to know of it a look tells.
                        while rustix::io::read(home, &mut [0; 4096]).is_ok_and(|len| len > 0) {}
                    }
                    return Ok(Event::Changed);
                }
                Ready::Files => return Ok(Event::Files),
                Ready::News => return Ok(Event::News),
                Ready::Users => return Ok(Event::Users),
                Ready::Devices => return Ok(Event::Devices),
                Ready::Room => {
                    let read = self.room.as_mut().map(|room| room.read(&mut [0; 16])).transpose()?;
                    self.room.take_if(|_| read == Some(0));
                    return Ok(Event::Room);
                }
                Ready::Refused => {
                    self.alarm = None;
                    return Ok(Event::Refused);
                }
                Ready::Returned => {
                    self.borrower = None;
                    return Ok(Event::Returned);
                }
                Ready::Nothing => {}
            }
        }
    }

    fn wait(
        &self,
        signals: &Signals,
        control: &UnixListener,
        patience: Option<Duration>,
    ) -> io::Result<Ready> {
        let sources = [
            source(Ready::Signal, Some(signals.pipe.as_fd())),
            source(Ready::Gone, Some(self.export.as_fd())),
            source(Ready::Gone, self.owner.as_ref().map(AsFd::as_fd)),
            // Before commands: the next one may want to borrow.
            source(Ready::Returned, self.borrower.as_ref().map(AsFd::as_fd)),
            source(Ready::Refused, self.alarm.as_ref().map(AsFd::as_fd)),
            source(Ready::Files, self.files.as_ref().map(AsFd::as_fd)),
            source(Ready::Room, self.room.as_ref().map(AsFd::as_fd)),
            source(Ready::News, self.news.as_ref().map(AsFd::as_fd)),
            source(Ready::Users, self.users.as_ref().map(AsFd::as_fd)),
            source(Ready::Devices, self.devices.as_ref().map(AsFd::as_fd)),
            source(Ready::Command, Some(control.as_fd())),
            // The kernel tells of changed mounts in this way only (proc_pid_mountinfo(5)).
            (Ready::Changed, Some(self.table.as_fd()), PollFlags::PRI),
            source(Ready::Changed, self.home.as_ref().map(AsFd::as_fd)),
        ];
        let there = sources.into_iter().filter_map(|(ready, descriptor, flags)| {
            Some((ready, PollFd::from_borrowed_fd(descriptor?, flags)))
        });
        let (order, mut descriptors): (Vec<_>, Vec<_>) = there.unzip();
        let longest = if self.is_lingering { MOMENT } else { LOOK };
        let longest = patience.map_or(longest, |patience| patience.min(longest));
        let is_time = match poll(&mut descriptors, Timespec::try_from(longest).ok().as_ref()) {
            Ok(count) => count == 0,
            Err(rustix::io::Errno::INTR) => false,
            Err(error) => return Err(error.into()),
        };
        let first = order.into_iter().zip(&descriptors).find(|(_, polled)| !polled.revents().is_empty());
        // Whoever asks all the time must not keep it from its end.
        let is_overdue = self.is_lingering && self.looked.elapsed() >= OVERDUE;
        Ok(match first {
            Some((Ready::Signal, _)) => Ready::Signal,
            _ if is_overdue => Ready::Changed,
            Some((ready, _)) => ready,
            None if is_time => Ready::Changed,
            None => Ready::Nothing,
        })
    }

    /// Whether the mount that the user was given is there no longer. Where nobody can tell, it is taken to be there.
    fn is_gone(&self) -> bool {
        self.mount.is_some_and(|id| MountTable::read().is_ok_and(|table| table.find(id).is_none()))
    }
}

/// What the descriptors have to say, the most urgent first.
#[derive(Debug)]
enum Ready {
    Signal,
    Gone,
    Returned,
    Refused,
    Files,
    Room,
    News,
    Users,
    Devices,
    Command,
    Changed,
    Nothing,
}

/// What comes while only the container is left of a session.
#[derive(Debug)]
pub(super) enum HoldEvent {
    /// SIGTERM or SIGINT.
    Signal,
    /// Somebody connected to the control socket.
    Command(UnixStream),
    /// Whoever copies the container has said something, or gone.
    Saver,
    /// A minute has passed.
    Look,
}

/// Waits for the next of these.
pub(super) fn next_while_held(
    signals: &Signals,
    control: &UnixListener,
    saver: Option<&UnixStream>,
) -> io::Result<HoldEvent> {
    let mut descriptors =
        vec![PollFd::new(&signals.pipe, PollFlags::IN), PollFd::new(control, PollFlags::IN)];
    descriptors.extend(saver.map(|saver| PollFd::new(saver, PollFlags::IN)));
    match poll(&mut descriptors, Timespec::try_from(LOOK).ok().as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let fired = |index: usize| descriptors.get(index).is_some_and(|fd| !fd.revents().is_empty());
    if fired(0) {
        let _ = (&signals.pipe).read(&mut [0; 16])?;
        return Ok(HoldEvent::Signal);
    }
    if fired(2) {
        return Ok(HoldEvent::Saver);
    }
    Ok(if fired(1) { HoldEvent::Command(control.accept()?.0) } else { HoldEvent::Look })
}

/// Reads one command from somebody who may give it: the volume's owner or root.
///
/// # Errors
/// `Permission` for others; `Io` where nothing comes within a few seconds.
pub(super) fn receive_command(stream: &UnixStream) -> Result<Command> {
    let peer = peer_user(stream)?;
    if peer != 0 && peer != effective_user() {
        return Err(Error::new(ErrorKind::Permission, format!("user {peer} may not command this volume")));
    }
    stream.set_read_timeout(Some(COMMAND_LIMIT))?;
    Ok(protocol::receive(stream)?)
}

/// What is ready once the descriptor can be read, where there is one.
const fn source(
    ready: Ready,
    descriptor: Option<BorrowedFd<'_>>,
) -> (Ready, Option<BorrowedFd<'_>>, PollFlags) {
    (ready, descriptor, PollFlags::IN)
}

fn is_readable(descriptor: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(descriptor, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Whether whoever sent a command waits for its answer no longer.
pub(super) fn has_gone(stream: &UnixStream) -> bool {
    let mut polled = [PollFd::new(stream, PollFlags::empty())];
    poll(&mut polled, Some(&Timespec::default())).is_ok() && polled[0].revents().contains(PollFlags::HUP)
}

/// Waits a moment, where nobody could tell what happens: no file can be opened, say. What is not known has not happened, and a volume
/// that may be in use stays.
pub(super) fn pause() {
    sleep(MOMENT);
}

/// How long nobody looks whether the session's directory is still there, where no mount changes.
const LOOK: Duration = Duration::from_secs(60);
/// How long a volume that is free again may go on being served.
const MOMENT: Duration = Duration::from_millis(500);
/// The same where there is much else to do.
const OVERDUE: Duration = Duration::from_secs(1);
/// So many commands go before a signal at most.
const MOST_PASSED: u32 = 16;
const COMMAND_LIMIT: Duration = Duration::from_secs(5);
