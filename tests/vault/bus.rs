//! A bus of a test's own, and what stands on it for logind and for a desktop.

use std::{
    collections::HashMap,
    future::poll_fn,
    io::{self, PipeReader},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    pin::Pin,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use futures_core::Stream;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    mount::{MountFlags, mount},
    process::{Uid, geteuid},
    thread::set_thread_res_uid,
};
use zbus::{
    Connection, Fd, Message, MessageStream, OwnedObjectPath, OwnedVariant, Variant, block_on,
    connection::Builder, message::Type,
};

use crate::place::{Place, is_skipped, leave_to_root, wait_until};

/// A bus, until this is dropped.
pub(crate) struct Bus {
    daemon: Child,
    socket: PathBuf,
}

impl Bus {
    /// The system's bus, where this test's own table of mounts shows it; `None` where there can be none.
    pub(crate) fn of_system(place: &Place) -> Option<Self> {
        if !geteuid().is_root() {
            leave_to_root("be the system's bus");
            return None;
        }
        std::fs::create_dir_all("/run/dbus").unwrap();
        mount("none", "/run/dbus", "tmpfs", MountFlags::empty(), c"mode=755").unwrap();
        let command = place.command_of_this_user(DAEMON);
        // The second is for this process, whose other threads see other mounts.
        Self::start(place, command, &[Path::new("/run/dbus/system_bus_socket"), &place.path("system-bus")])
    }

    /// That of the session of the place's user.
    pub(crate) fn of_session(place: &Place) -> Option<Self> {
        Self::start(place, place.command(DAEMON), &[&place.path("run/bus")])
    }

    /// The same in this environment, which the programs have that it starts: those of the place's folder `services`.
    pub(crate) fn of_session_with(place: &Place, environment: &[(&str, PathBuf)]) -> Option<Self> {
        let mut daemon = place.command(DAEMON);
        daemon.envs(environment.iter().map(|(name, value)| (name, value)));
        Self::start(place, daemon, &[&place.path("run/bus")])
    }

    /// One that somebody else runs: the user of these tests.
    pub(crate) fn of_other(place: &Place) -> Option<Self> {
        Self::start(place, place.command_of_this_user(DAEMON), &[&place.path("other-bus")])
    }

    fn start(place: &Place, mut daemon: Command, sockets: &[&Path]) -> Option<Self> {
        if !Path::new(DAEMON).exists() {
            is_skipped(&format!("{DAEMON} is not installed"));
            return None;
        }
        let socket = sockets.last().unwrap().to_path_buf();
        let name = format!("{}.conf", socket.file_name().unwrap().to_str().unwrap());
        let services = format!("<servicedir>{}</servicedir>", place.path("services").display());
        let config = config(sockets).replace("</busconfig>", &format!("  {services}\n</busconfig>"));
        let config = place.make_file(&name, config);
        for socket in sockets {
            // Left by one that was killed.
            let _ = std::fs::remove_file(socket);
        }
        daemon.arg("--config-file").arg(config).args(["--nofork", "--nopidfile"]);
        let daemon = daemon.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("a bus", || UnixStream::connect(&socket).is_ok());
        Some(Self { daemon, socket })
    }

    pub(crate) fn address(&self) -> String {
        format!("unix:path={}", self.socket.display())
    }

    /// A connection of the place's user.
    pub(crate) fn connect_as_user_of(&self, place: &Place) -> Connection {
        let (socket, user) = (self.socket.clone(), place.user());
        // The kernel tells the bus who connected, and each thread is somebody of its own.
        let connect = move || {
            if geteuid().as_raw() != user {
                let user = Uid::from_raw(user);
                set_thread_res_uid(user, user, user).unwrap();
            }
            UnixStream::connect(socket).unwrap()
        };
        let stream = thread::spawn(connect).join().unwrap();
        block_on(async { Builder::unix_stream(stream).user_id(user).build().await }).unwrap()
    }

    /// A connection, and all that comes over it.
    pub(crate) fn connect(&self) -> (Connection, MessageStream) {
        let address = self.address();
        let bus = block_on(async { Builder::address(&*address).build().await }).unwrap();
        let stream = MessageStream::from(&bus);
        (bus, stream)
    }
}

/// The configuration of a bus on these sockets that lets everybody do everything.
pub(crate) fn config(sockets: &[&Path]) -> String {
    let listen = |socket: &&Path| format!("<listen>unix:path={}</listen>", socket.display());
    CONFIG.replace("LISTEN", &sockets.iter().map(listen).collect::<String>())
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }
}

/// What stands for logind: it has two sessions, one of the user and one of somebody else.
pub(crate) struct Logind {
    bus: Connection,
    brakes: Arc<Mutex<Vec<PipeReader>>>,
}

impl Logind {
    pub(crate) fn start(bus: &Bus, user: u32) -> Self {
        let (bus, stream) = bus.connect();
        let brakes = Arc::<Mutex<Vec<PipeReader>>>::default();
        let (theirs, held) = (bus.clone(), Arc::clone(&brakes));
        thread::spawn(move || block_on(be_logind(&theirs, stream, user, &held)));
        block_on(bus.request_name("org.freedesktop.login1")).unwrap();
        Self { bus, brakes }
    }

    /// Whether somebody keeps the machine awake.
    pub(crate) fn is_held(&self) -> bool {
        self.holds() > 0
    }

    /// Waits until so many servers do.
    pub(crate) fn wait_for_servers(&self, count: usize) {
        wait_until("holds on the machine", || self.holds() == 2 * count);
    }

    fn holds(&self) -> usize {
        let brakes = self.brakes.lock().unwrap();
        let is_held = |brake: &PipeReader| {
            let mut polled = [PollFd::new(brake, PollFlags::IN)];
            poll(&mut polled, Some(&Timespec::default())).unwrap();
            !polled[0].revents().contains(PollFlags::HUP)
        };
        brakes.iter().filter(|brake| is_held(brake)).count()
    }

    /// Says that the machine is about to sleep, or to end, or is back.
    pub(crate) fn prepare_for(&self, what: &str, begins: bool) {
        let (path, interface) = ("/org/freedesktop/login1", "org.freedesktop.login1.Manager");
        let member = format!("PrepareFor{what}");
        block_on(self.bus.emit_signal(None::<&str>, path, interface, &*member, &begins)).unwrap();
    }

    /// Locks or unlocks a session: `Lock`, `Unlock`.
    pub(crate) fn signal(&self, session: &str, member: &str) {
        let interface = "org.freedesktop.login1.Session";
        block_on(self.bus.emit_signal(None::<&str>, session, interface, member, &())).unwrap();
    }

    /// Tells what the desktop says of the user's session.
    pub(crate) fn hint_locked(&self, is_locked: bool) {
        let changed = HashMap::from([("LockedHint", Variant::from(is_locked))]);
        let body = ("org.freedesktop.login1.Session", changed, Vec::<&str>::new());
        let interface = "org.freedesktop.DBus.Properties";
        block_on(self.bus.emit_signal(None::<&str>, OWN_SESSION, interface, "PropertiesChanged", &body))
            .unwrap();
    }

    /// Ends, without a word.
    pub(crate) fn end(self) {
        block_on(self.bus.close()).unwrap();
    }
}

async fn be_logind(bus: &Connection, mut stream: MessageStream, user: u32, held: &Mutex<Vec<PipeReader>>) {
    while let Some(Ok(call)) = next_call(&mut stream).await {
        let header = call.header();
        match header.member().unwrap().as_str() {
            "Inhibit" => {
                let (what, who, _, mode): (String, String, String, String) =
                    call.body().deserialize().unwrap();
                // For both in one, logind has polkit ask whether the user may handle the lid.
                assert!(["sleep", "shutdown"].contains(&&*what), "{what}");
                assert_eq!((&*who, &*mode), ("strongroom", "delay"));
                let (brake, theirs) = io::pipe().unwrap();
                held.lock().unwrap().push(brake);
                bus.reply(&header, &Fd::from(OwnedFd::from(theirs))).await.unwrap();
            }
            "Get" => bus.reply(&header, &Variant::from(DELAY)).await.unwrap(),
            "ListSessions" => {
                let session = |id: &str, user: u32, path: &str| {
                    let path = OwnedObjectPath::try_from(path).unwrap();
                    (id.to_owned(), user, "somebody".to_owned(), "seat0".to_owned(), path)
                };
                let sessions = vec![session("1", user, OWN_SESSION), session("2", user + 1, OTHER_SESSION)];
                bus.reply(&header, &sessions).await.unwrap();
            }
            _ => {}
        }
    }
}

/// What locks the screen of a desktop, by one of the names for that; or a program without a name that says that it does.
pub(crate) struct Locker {
    bus: Connection,
    interface: String,
}

impl Locker {
    pub(crate) fn start(bus: &Bus, name: &str) -> Self {
        let locker = Self::without_name(bus, name);
        block_on(locker.bus.request_name(name)).unwrap();
        locker
    }

    pub(crate) fn without_name(bus: &Bus, interface: &str) -> Self {
        Self { bus: bus.connect().0, interface: interface.to_owned() }
    }

    /// Tells everybody, and nobody but those with these names on the bus.
    pub(crate) fn tell(&self, is_locked: bool, names: &[String]) {
        let path = format!("/{}", self.interface.replace('.', "/"));
        let names = names.iter().map(|name| Some(name.as_str()));
        for to in names.chain([None]) {
            let told = self.bus.emit_signal(to, &*path, &*self.interface, "ActiveChanged", &is_locked);
            block_on(told).unwrap();
        }
    }

    /// All who are on the bus.
    pub(crate) fn everybody(&self) -> Vec<String> {
        let names = self.bus.call_method(Some(BUS), "/", Some(BUS), "ListNames", &());
        block_on(names).unwrap().body().deserialize().unwrap()
    }
}

/// What a desktop was told to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) urgency: u8,
    /// The number of the notice whose place it took.
    pub(crate) replaced: u32,
}

/// What stands for a desktop that shows notices, or for one that hangs.
pub(crate) struct Desktop<'a> {
    bus: &'a Bus,
    shown: Arc<Mutex<Vec<Notice>>>,
}

impl<'a> Desktop<'a> {
    pub(crate) fn start(on: &'a Bus, hangs: bool) -> Self {
        let (bus, stream) = on.connect();
        let shown = Arc::<Mutex<Vec<Notice>>>::default();
        let (theirs, noted) = (bus.clone(), Arc::clone(&shown));
        thread::spawn(move || block_on(be_desktop(&theirs, stream, hangs, &noted)));
        block_on(bus.request_name("org.freedesktop.Notifications")).unwrap();
        Self { bus: on, shown }
    }

    /// The bus that it is on.
    pub(crate) fn bus(&self) -> &'a Bus {
        self.bus
    }

    pub(crate) fn shown(&self) -> Vec<Notice> {
        self.shown.lock().unwrap().clone()
    }

    /// Waits for a notice with these words in it.
    pub(crate) fn wait_for(&self, words: &str) -> Notice {
        let find = || self.shown().into_iter().find(|notice| notice.text.contains(words));
        wait_until(&format!("a notice: {words}"), || find().is_some());
        find().unwrap()
    }
}

async fn be_desktop(bus: &Connection, mut stream: MessageStream, hangs: bool, shown: &Mutex<Vec<Notice>>) {
    while let Some(Ok(call)) = next_call(&mut stream).await {
        let header = call.header();
        match header.member().unwrap().as_str() {
            _ if hangs => {}
            "GetCapabilities" => bus.reply(&header, &vec!["body", "body-markup"]).await.unwrap(),
            "Notify" => {
                type Call =
                    (String, u32, String, String, String, Vec<String>, HashMap<String, OwnedVariant>, i32);
                let (_, replaced, _, title, text, _, mut hints, _) =
                    call.body().deserialize::<Call>().unwrap();
                let urgency = u8::try_from(hints.remove("urgency").unwrap()).unwrap();
                let notice = Notice { title, text, urgency, replaced };
                let number = note(&mut shown.lock().unwrap(), notice);
                bus.reply(&header, &number).await.unwrap();
            }
            _ => {}
        }
    }
}

/// Keeps a notice, and gives its number.
fn note(shown: &mut Vec<Notice>, notice: Notice) -> u32 {
    shown.push(notice);
    u32::try_from(shown.len()).unwrap()
}

/// The next call of a method; `None` once the bus has ended.
pub(crate) async fn next_call(stream: &mut MessageStream) -> Option<zbus::Result<Message>> {
    loop {
        let next = poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await;
        match next {
            Some(Ok(message)) if message.message_type() != Type::MethodCall => {}
            next => return next,
        }
    }
}

/// The session of the user for whom [`Logind`] was started, and another one.
pub(crate) const OWN_SESSION: &str = "/org/freedesktop/login1/session/_31";
pub(crate) const OTHER_SESSION: &str = "/org/freedesktop/login1/session/_32";
/// How long the machine waits, in microseconds.
const DELAY: u64 = 20_000_000;
const BUS: &str = "org.freedesktop.DBus";
const DAEMON: &str = "/usr/bin/dbus-daemon";
const CONFIG: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  LISTEN
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow receive_sender="*" eavesdrop="true"/>
  </policy>
</busconfig>
"#;
