//! The server: one process a volume, from the order to the last wiped key.

mod closing;
mod contact;
mod ending;
mod events;
mod files;
mod folder;
mod growing;
mod idle;
mod leaving;
mod lending;
mod loss;
mod medium;
mod notes;
mod parts;
mod place;
mod presence;
pub(in crate::mount) mod probe;
mod raising;
mod reencryption;
mod repair;
mod rescue;
mod room;
mod warden;

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::DirBuilderExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use rustix::fs::fstatvfs;

use closing::Wanted;
use contact::Contact;
use ending::{Cause, Remainder};
use events::{Event, Signals, Watch};
use files::FileWatch;
use lending::lent_already;
use loss::Held;
use medium::Medium;
use parts::Export;
use place::{Place, is_on_trigger, record};
use presence::Presence;
use probe::Probe;
use room::{fullness, remedy};

use super::{
    bookmark::Kept,
    closing::Closing,
    full::Remedy,
    idle::{Idle, Sign},
    logind::Logind,
    mountinfo::{MountId, MountTable},
    news::Ear,
    protocol::{self, Answer, Command, Failure, Order, Outcome, Reencrypt, Target},
    runtime,
    session::Session,
    undo::Log,
};
use crate::{
    error::{Error, ErrorKind, Result},
    export::{Client, FuseExport},
    sys::{
        available,
        memory::{LockedBytes, is_any_secret_unlocked},
        process::{
            ProcessId, close_inherited, harden, is_marked_as_storage_server, is_root, leave_terminal,
            mark_as_storage_server, stay_in_memory, survive_file_size_limit,
        },
        socket::receive_descriptors,
    },
    volume::{BlockDevice, Container, LiveReencryption, LiveVolume, Shortage, Volume, can_grow, free_bytes},
};

/// A server's exit status where not all that was written is kept.
pub(super) const LOSSY: u8 = 6;
/// The same where all is kept, but somebody was cut off who used it elsewhere.
pub(super) const CUT_OFF: u8 = 5;

/// The hidden first argument that makes this program a server.
pub const SERVE: &str = "__serve";

/// The server's whole life. The order comes over standard input, which is a socket.
pub fn serve() -> ExitCode {
    match prepare() {
        Ok((channel, signals)) => run(channel, signals),
        // Nobody listens: the other end sees the socket close.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Hardens the process before any secret comes in, and takes the socket off standard input.
fn prepare() -> Result<(UnixStream, Signals)> {
    close_inherited();
    harden()?;
    survive_file_size_limit();
    mark_as_storage_server();
    // Only a name in process lists; the file that was started is called /proc/self/exe.
    let _ = rustix::thread::set_name(c"strongroom");
    let signals = Signals::catch()?;
    let channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null).map_err(io::Error::from)?;
    Ok((channel, signals))
}

fn run(channel: UnixStream, signals: Signals) -> ExitCode {
    let started = receive(&channel).and_then(|received| {
        // The kernel has everybody wait for what is to be mounted on a trigger, but for the group of the process that pulled it.
        let is_awaited = is_on_trigger(&received.order.target);
        if !is_awaited {
            leave_terminal()?;
        }
        let server = Server::start(received, signals).and_then(Server::check)?;
        if is_awaited {
            leave_terminal()?;
        }
        Ok(server)
    });
    let mut server = match started {
        Ok(server) => server,
        Err(error) => {
            // Whoever gave the order may be gone; everything is undone already.
            let _ = protocol::send(&channel, &Answer::Failed(Failure::from(&error)));
            return ExitCode::FAILURE;
        }
    };
    let entry = server.session.record().entry.clone();
    let answer = Answer::Ready {
        entry: Box::new(entry),
        warnings: server.session.warnings.clone(),
        details: server.session.details.clone(),
    };
    if protocol::send(&channel, &answer).is_err() {
        // The command was killed meanwhile: nobody knows of this volume, so it must not stay.
        drop(server);
        return ExitCode::FAILURE;
    }
    if server.is_private {
        server.watch.bind_to(channel);
    } else {
        drop(channel);
    }
    let notices = server.contact.notices.clone();
    let kept = server.serve();
    // The keys are gone, and nobody is held up any more.
    if let Some(notices) = notices {
        notices.settle();
    }
    match kept {
        Remainder::All => ExitCode::SUCCESS,
        Remainder::AllUntilNow => ExitCode::from(CUT_OFF),
        Remainder::NotAll => ExitCode::from(LOSSY),
    }
}

/// An order with the container and the key that came with it.
struct Received {
    container: Vec<OwnedFd>,
    order: Order,
    key: LockedBytes,
}

fn receive(channel: &UnixStream) -> Result<Received> {
    let container = receive_descriptors(channel)?;
    let (order, key) = protocol::receive_order(channel)?;
    Ok(Received { container, order, key })
}

/// A volume that is being served.
struct Server {
    session: Session,
    log: Log,
    signals: Signals,
    control: UnixListener,
    watch: Watch,
    is_private: bool,
    /// To be lent.
    container: Container,
    files: FileWatch,
    shortage: Arc<Shortage>,
    probe: Probe,
    contact: Contact,
    /// What goes with the volume.
    _bookmark: Option<Kept>,
    /// The disks that the container lies on.
    medium: Medium,
    /// Dropped before the process ends, it comes to rest.
    reencryption: Arc<LiveReencryption>,
    /// How it closes by itself.
    closing: Closing,
    /// Where the volume can grow.
    live: Option<LiveVolume>,
    /// What makes room in it; none where that is not told.
    remedy: Option<Remedy>,
    /// Where it closes itself once nobody uses it.
    idle: Option<Idle>,
    /// Where it closes when its user logs out.
    presence: Option<Presence>,
    /// Where it is to close, and is in use.
    wanted: Option<Wanted>,
    /// Where it hears of the machine and of its user.
    ear: Option<Ear>,
    /// Dropped last: the machine must not sleep before the keys are gone.
    logind: Option<Logind>,
}

impl Server {
    /// Builds the session up. Where a step fails, the undo stack takes down what was built.
    fn start(received: Received, signals: Signals) -> Result<Self> {
        let Received { mut container, order, key } = received;
        let behind = if order.is_behind { container.pop() } else { None };
        let (format, section) = (order.format.as_deref(), order.section.clone());
        let mut container = protocol::opened(container, &order.container, format, section)?;
        if let Some(behind) = behind {
            container.hold(behind);
        }
        if available::is_limited() {
            // The pages that the kernel waits for count against the limit that a request would wait for.
            container.go_past_cache();
            stay_in_memory();
        } else {
            container.allow_in_place();
        }
        let (shortage, news) = Shortage::watch()?;
        let header = container.same_header(order.fingerprint.as_deref())?;
        let unlocked = header.unlock_with_key(key.into())?;
        let info = header.describe_unlocked(&unlocked);
        container.unlock_pieces(&info, &unlocked)?;
        let volume = Volume::open(&container, info, &unlocked);
        let remedy = remedy(&order, &container, &volume, || can_grow(&container, &*header, &unlocked));
        drop(unlocked);
        if !matches!(order.target, Target::Private) {
            // Where they cannot be read, nobody is told of such a change.
            let _ = container.watch_headers(volume.info(), header.fingerprint());
        }

        let place = Place::check(&order.target)?;
        let process = ProcessId::current()?;
        let directory = order.runtime.join(directory_name(process));
        let record = record(&order, &place, &directory, &container, &volume, process)?;
        let (mut session, log) = Session::create(directory, record, signals.stop())?;
        warn_of_swap(&mut session);
        if place.is_below_a_driver() && !is_marked_as_storage_server() {
            session.details.push(UNMARKED.to_owned());
        }
        if !matches!(place, Place::Private) {
            leave_sign(&session, &log);
        }
        let mut watch = Self::build(&order, &place, (&container, &volume), &mut session, &log)
            .map_err(|error| or_full(error, &order.container, &container))?;
        // What was written so far, by the replay of a journal, waited for no room: somebody waits for that, and can make some.
        if !matches!(order.target, Target::Private) {
            container.endure(Arc::clone(&shortage));
        }
        watch.stay_in(&session.directory);
        if let Some(alarm) = volume.alarm() {
            watch.heed(alarm?);
        }
        watch.mind(news);
        // From here on the keys are the export's and the re-encryption's, and go with them.
        let (reencryption, live) = (volume.reencryption(), volume.live());
        drop(volume);
        let control = session.listen()?;
        session.check_stop()?;
        let is_private = matches!(place, Place::Private);
        let mut files = FileWatch::start(&container, &order.container)?;
        watch.follow(files.news().try_clone_to_owned()?);
        // From here on a change of the headers shows.
        let found = files.look();
        let full = fullness(&session, remedy.as_ref());
        session.note(|record| {
            record.ready = !is_private;
            record.entry.header = found.header.map(|header| header.path);
            record.entry.full = full;
        })?;
        let limit = order.closing.idle;
        let idle = limit.zip(session.sign.take()).map(|(limit, sign)| Idle::begin(limit, sign));
        let contact = Contact::of(&order);
        let medium = Medium::of(&container);
        let events = medium.events().map(|events| events.try_clone_to_owned());
        watch.see_devices(events.transpose()?);
        let (ear, logind) = closing::listen(&order, &mut watch)?.unzip();
        let presence = closing::watch_user(&order);
        let events = presence.as_ref().map(|presence| presence.events().try_clone_to_owned());
        watch.see_users(events.transpose()?);
        let bookmark = Kept::put(order.desktop.bookmarks.as_deref(), &mut session)?;
        if order.desktop.is_announced {
            let place = session.record().place().display();
            contact.inform(&log, &format!("it is open on {place}"));
        }
        Ok(Self {
            session,
            log,
            signals,
            control,
            watch,
            is_private,
            container,
            files,
            shortage,
            probe: Probe::default(),
            contact,
            _bookmark: bookmark,
            medium,
            reencryption,
            closing: order.closing,
            live,
            remedy,
            idle,
            presence,
            wanted: None,
            ear,
            logind: logind.flatten(),
        })
    }

    /// Whether all that was started still runs: nobody may be told of a volume that has gone.
    fn check(self) -> Result<Self> {
        if self.watch.has_ended() {
            let gone = Error::new(ErrorKind::Io, "a part of the server ended while it was starting");
            return Err(gone
                .with_hint("it may lack memory or threads: see ulimit -a, and dmesg")
                .during("cannot mount"));
        }
        Ok(self)
    }

    /// Makes the volume visible, up to where the order says.
    fn build(
        order: &Order,
        place: &Place,
        (container, volume): (&Container, &Volume),
        session: &mut Session,
        log: &Log,
    ) -> Result<Watch> {
        if !matches!(place, Place::Block(_)) {
            fs::DirBuilder::new().mode(0o700).create(&session.record().block_directory)?;
        }
        let end = match place {
            Place::FileSystem(..) | Place::Desktop => {
                Self::raise(order, place, (container, volume), session, log)?
            }
            Place::Private | Place::Block(_) => {
                Self::export(place, place.client(), volume.device(), session, log)?
            }
        };
        let record = session.record();
        Watch::new(end, record.mount.or(record.block_mount))
    }

    /// Makes the block file. Gives what tells of its end.
    fn export(
        place: &Place,
        client: Client,
        device: Arc<dyn BlockDevice>,
        session: &mut Session,
        log: &Log,
    ) -> Result<OwnedFd> {
        let directory = session.record().block_directory.clone();
        let mut export = FuseExport::start(device, &directory, client, Arc::clone(log))?;
        let end = export.end().try_clone_to_owned();
        let id = mount_at(&directory);
        if end.is_err() || id.is_err() {
            export.stop(true)?;
        }
        let (end, id) = (end?, id?);
        let is_internal = !matches!(place, Place::Block(_));
        session.sign = Some(Sign::Asked(export.uses()));
        session.block = Some(export.growing());
        session.parts.push(Export {
            block: export,
            id,
            read_only: session.record().entry.read_only,
            is_internal,
        });
        session.note(|record| record.block_mount = Some(id))?;
        session.check_stop()?;
        Ok(end)
    }

    /// Serves until the volume is taken down, by whomever. Says what is kept.
    fn serve(mut self) -> Remainder {
        let mut is_deaf = false;
        loop {
            let event = match self.watch.next(&self.signals, &self.control, self.patience()) {
                Ok(event) => event,
                Err(error) => {
                    if !is_deaf {
                        (self.log)(&format!("cannot wait for events: {error}"));
                    }
                    is_deaf = true;
                    events::pause();
                    if !self.signals.came() {
                        continue;
                    }
                    Event::Signal
                }
            };
            is_deaf = false;
            let next = match event {
                Event::Signal => self.end_by_itself(Cause::Signal),
                Event::Gone => self.end_by_itself(Cause::Gone),
                Event::Changed if self.is_private && !self.session.is_reachable() => {
                    self.end_at_any_rate(0);
                    return Remainder::All;
                }
                Event::Changed => {
                    self.files.nudge();
                    self.stay_reachable();
                    if self.watch.is_lingering() { self.end_by_itself(Cause::Gone) } else { Next::Serve }
                }
                Event::Refused => {
                    self.note_refusal();
                    Next::Serve
                }
                Event::Files => {
                    self.note_files();
                    Next::Serve
                }
                Event::Returned => {
                    self.files.take_back();
                    Next::Serve
                }
                Event::Room => {
                    self.note_room();
                    Next::Serve
                }
                Event::News => self.heed_news(),
                Event::Users => self.heed_users(),
                Event::Devices => {
                    self.medium.drain();
                    Next::Serve
                }
                Event::Command(stream) => self.obey(stream),
            };
            let next = if let Next::Serve = next { self.look_for_medium() } else { next };
            let next = if let Next::Serve = next { self.look_whether_to_close() } else { next };
            match next {
                Next::Serve => {}
                Next::End(kept) => return kept,
                Next::Hold { saver, lossy } => {
                    let mut held = Held::new(self, saver, lossy);
                    held.lend();
                    return if held.serve() { Remainder::All } else { Remainder::NotAll };
                }
            }
        }
    }

    fn stay_reachable(&mut self) {
        if self.session.is_reachable() {
            return;
        }
        match move_home(&mut self.session) {
            Ok(control) => {
                self.control = control;
                self.watch.stay_in(&self.session.directory);
            }
            // The volume stays as it is; the next look tries again.
            Err(error) => (self.log)(&format!("cannot make a new session directory: {error}")),
        }
    }

    /// Carries out one command.
    fn obey(&mut self, stream: UnixStream) -> Next {
        let command = match events::receive_command(&stream) {
            Ok(command) => command,
            Err(error) => {
                (self.log)(&format!("a command was not understood: {error}"));
                return Next::Serve;
            }
        };
        match command {
            // A server that was stopped, or busy, reads it late: a command that was interrupted has asked for nothing.
            Command::Unmount { force: false, .. } if events::has_gone(&stream) => {}
            Command::Unmount { force, save } => return self.unmount(stream, force, save),
            Command::Saved => {}
            Command::Look => {
                self.files.look();
                self.note_silence();
                self.note_files();
                self.note_room();
                self.note_fullness();
                self.note_hearing();
                // Whoever asked may wait no longer.
                let _ = protocol::send(&stream, &Outcome::Looked);
            }
            Command::Lend => {
                if let Err(error) = self.lend(&stream) {
                    let _ = protocol::send(&stream, &Outcome::Failed(Failure::from(&error)));
                }
            }
            Command::Reencrypt(Reencrypt::Start(_) | Reencrypt::Resume(_)) if self.watch.is_lent() => {
                let _ = protocol::send(&stream, &Outcome::Failed(Failure::from(&lent_already())));
            }
            Command::Reencrypt(order) => {
                let done = reencryption::obey(order, &self.reencryption, &stream);
                let outcome = done.unwrap_or_else(|error| Outcome::Failed(Failure::from(&error)));
                // Whoever asked may have gone; the status can be asked for again.
                let _ = protocol::send(&stream, &outcome);
            }
            Command::Grow => {
                let outcome =
                    self.grow(&stream).unwrap_or_else(|error| Outcome::Failed(Failure::from(&error)));
                let _ = protocol::send(&stream, &outcome);
            }
            Command::GrowFiles => self.grow_files(stream),
        }
        Next::Serve
    }
}

const UNMARKED: &str = "without CAP_SYS_RESOURCE the kernel cannot be told that writing waits for this server: when memory is short, it may be slow";

/// Has commands in another environment find the session, too. Root's are all in one place.
fn leave_sign(session: &Session, log: &Log) {
    let left = if is_root() {
        Ok(())
    } else {
        runtime::prepare_lasting().and_then(|lasting| Ok(session.leave_sign(&lasting)?))
    };
    if let Err(error) = left {
        // It is found where it is.
        log(&format!("no sign leads to this session: {error}"));
    }
}

/// Goes on in a new session directory, where the old one was removed: systemd clears `/run/user/UID` at a user's last
/// logout. The driver has the block file open, so the volume does not depend on the path. Gives the new control socket.
fn move_home(session: &mut Session) -> Result<UnixListener> {
    let name = directory_name(session.record().server);
    session.move_to(runtime::prepare_lasting()?.join(name))?;
    session.listen()
}

/// What a server does after an event.
enum Next {
    /// It goes on.
    Serve,
    /// All is down.
    End(Remainder),
    /// All is down but for the session's directory, and the container waits to be copied.
    Hold {
        /// By this command.
        saver: Option<UnixStream>,
        /// What went wrong on the way down.
        lossy: Option<Error>,
    },
}

/// The name by which others know a directory that a living server has not written a record to yet.
fn directory_name(server: ProcessId) -> String {
    format!("{}-{}", server.pid, server.started)
}

fn mount_at(directory: &Path) -> Result<MountId> {
    let table = MountTable::read()?;
    let mount = table.at(directory).ok_or_else(|| {
        Error::new(ErrorKind::Io, format!("the mount on {} does not show", directory.display()))
    })?;
    Ok(mount.id.for_good(directory))
}

/// Says so where keys may reach a disk by way of swap.
fn warn_of_swap(session: &mut Session) {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    if is_any_secret_unlocked() && has_disk_swap(&swaps) {
        session.warnings.push(
            "the keys could not be locked in memory (ulimit -l) and swap is on: they may be written to disk"
                .to_owned(),
        );
    }
}

/// Whether `/proc/swaps` lists anything but compressed memory.
fn has_disk_swap(swaps: &str) -> bool {
    swaps.lines().skip(1).any(|line| !line.trim().is_empty() && !line.starts_with("/dev/zram"))
}

/// The same error, which names a disk that has no room, where that is so.
fn or_full(error: Error, path: &Path, container: &Container) -> Error {
    let file = container.file();
    let has_room = || fstatvfs(file).is_ok_and(|found| free_bytes(&found).is_none_or(|free| free > LITTLE));
    let is_file = || file.metadata().is_ok_and(|found| found.is_file());
    if error.kind() != ErrorKind::Io || !is_file() || has_room() {
        return error;
    }
    let reason = format!("{}; the disk that holds {} is full", error.reason(), path.display());
    let full = Error::new(ErrorKind::Io, reason).with_hint("make room there, or use --read-only");
    match error.action() {
        Some(action) => full.during(action),
        None => full,
    }
}

/// So little room is none.
const LITTLE: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_memory_is_no_disk_swap() {
        let header = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert!(!has_disk_swap(header));
        assert!(!has_disk_swap(&format!("{header}/dev/zram0 partition 8388604 0 100\n")));
        assert!(has_disk_swap(&format!("{header}/dev/zram0 partition 1 0 100\n/swapfile file 2 0 -2\n")));
    }
}
