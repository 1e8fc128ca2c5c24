//! logind, which tells when the machine goes to sleep or ends, and when a user's screen is locked.
//!
//! A thread of its own listens to it on the system's bus. The descriptor by which the machine waits for us is let go by the server
//! itself. Where there is no bus or no logind, or one of them ends, it tries again now and then.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::io::{FdFlags, fcntl_setfd};
use zbus::{
    Connection, DynamicType, Message, MessageStream, OwnedFd as BusFd, OwnedObjectPath, OwnedVariant,
    block_on, connection::Builder, wire::DynamicDeserialize,
};

use super::{
    bus::{BUS, next, owner_of},
    news::{News, Teller},
    session::locked,
};
use crate::error::{Error, ErrorKind, Result};

/// The thread that listens, as the server sees it. It holds the machine back from sleep for a moment until [`let_go`](Self::let_go), or
/// until this is dropped.
#[derive(Debug)]
pub(super) struct Logind {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The machine waits while these are open.
    brakes: Mutex<Vec<OwnedFd>>,
    is_over: AtomicBool,
    /// Whether logind is there.
    is_heard: AtomicBool,
}

impl Logind {
    /// Begins to listen. `user` is whose screen counts.
    ///
    /// # Errors
    /// That no thread could be had.
    pub(super) fn listen(user: u32, teller: Teller) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        teller.listen("logind", async move |teller: &Teller| {
            let followed = Listener { user, shared: &theirs, teller }.follow().await;
            theirs.is_heard.store(false, Ordering::Relaxed);
            followed
        })?;
        Ok(Self { shared })
    }

    /// Whether logind is there, to tell of anything.
    pub(super) fn is_heard(&self) -> bool {
        self.shared.is_heard.load(Ordering::Relaxed)
    }

    /// Lets the machine go to sleep.
    pub(super) fn let_go(&self) {
        locked(&self.shared.brakes).clear();
    }
}

impl Drop for Logind {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.let_go();
    }
}

impl Shared {
    /// Holds these in place of what was held.
    fn hold(&self, brakes: Vec<OwnedFd>) {
        let mut held = locked(&self.brakes);
        if !self.is_over.load(Ordering::Relaxed) {
            *held = brakes;
        }
    }
}

/// What the thread has.
struct Listener<'a> {
    user: u32,
    shared: &'a Shared,
    teller: &'a Teller,
}

impl Listener<'_> {
    /// Listens until the bus ends.
    async fn follow(&self) -> zbus::Result<()> {
        // A server has a clean environment: no variable names another bus.
        let bus = Builder::system().method_timeout(QUICKLY).build().await?;
        let mut streams = Vec::new();
        for rule in RULES {
            streams.push(MessageStream::for_match_rule(rule, &bus, None).await?);
        }
        // Anybody may send anybody a signal: only those of its owner count.
        let mut owner = self.hold_back(&bus).await.ok();
        while let Some(message) = next(&mut streams).await {
            let message = message?;
            if self.teller.is_over() {
                return Ok(());
            }
            let header = message.header();
            let sender = header.sender().map(ToString::to_string);
            let Some(member) = header.member() else { continue };
            match member.as_str() {
                "NameOwnerChanged" if sender.as_deref() == Some(BUS) => {
                    let (_, _, new): (String, String, String) = message.body().deserialize()?;
                    // Whoever stopped it does not want it started.
                    owner = if new.is_empty() { None } else { self.hold_back(&bus).await.ok() };
                    self.shared.is_heard.store(owner.is_some(), Ordering::Relaxed);
                }
                _ if sender.is_none() || sender != owner => {}
                "PrepareForSleep" | "PrepareForShutdown" => self.prepare(&bus, &message).await?,
                _ => self.look_at_session(&bus, &message).await,
            }
            if self.teller.is_over() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Has logind wait for us before it lets the machine sleep or end. Gives logind's name on this run of the bus.
    async fn hold_back(&self, bus: &Connection) -> zbus::Result<String> {
        let mut brakes = Vec::new();
        // Each by itself: for both in one, logind has polkit ask for more than a user may.
        for what in ["sleep", "shutdown"] {
            // Where it refuses, what it tells is still worth hearing.
            brakes.extend(inhibit(bus, what).await.ok());
        }
        self.shared.hold(brakes);
        let owner = owner_of(bus, LOGIND).await;
        self.shared.is_heard.store(owner.is_ok(), Ordering::Relaxed);
        owner
    }

    async fn prepare(&self, bus: &Connection, message: &Message) -> zbus::Result<()> {
        let begins: bool = message.body().deserialize()?;
        let is_sleep = message.header().member().is_some_and(|member| member.as_str() == "PrepareForSleep");
        if !begins {
            // It may be let go already, and is taken again before the next time.
            let _taken = self.hold_back(bus).await;
            if is_sleep {
                self.teller.tell(News::Awake);
            }
            return Ok(());
        }
        let limit = patience(bus).await.unwrap_or(USUAL);
        self.teller.tell(if is_sleep { News::Sleep(limit) } else { News::Shutdown(limit) });
        Ok(())
    }

    /// A session was locked or unlocked, or says so by its hint.
    async fn look_at_session(&self, bus: &Connection, message: &Message) {
        let header = message.header();
        let Some((member, path)) = header.member().zip(header.path()) else { return };
        let news = match member.as_str() {
            "Lock" => Some(News::Locked),
            "Unlock" => Some(News::Unlocked),
            "PropertiesChanged" => hinted(message),
            _ => None,
        };
        if let Some(news) = news
            && is_of(bus, self.user, path.as_str()).await.unwrap_or_default()
        {
            self.teller.tell(news);
        }
    }
}

/// What the hint of a session says, where that is what changed.
fn hinted(message: &Message) -> Option<News> {
    type Changed = (String, HashMap<String, OwnedVariant>, Vec<String>);
    let body = message.body();
    let (_, changed, _) = body.deserialize::<Changed>().ok()?;
    let is_locked = bool::try_from(changed.get("LockedHint")?).ok()?;
    Some(if is_locked { News::Locked } else { News::Unlocked })
}

/// Asks for the descriptor that holds the machine back while it is open.
async fn inhibit(bus: &Connection, what: &str) -> zbus::Result<OwnedFd> {
    let brake: BusFd =
        ask(bus, MANAGER, INTERFACE, "Inhibit", &(what, "strongroom", "Close an encrypted volume", "delay"))
            .await?;
    let brake = OwnedFd::from(brake);
    // No program that is started may hold it.
    fcntl_setfd(&brake, FdFlags::CLOEXEC).map_err(io::Error::from)?;
    Ok(brake)
}

/// How long the machine waits for those who hold it back.
async fn patience(bus: &Connection) -> zbus::Result<Duration> {
    let asked = (INTERFACE, "InhibitDelayMaxUSec");
    let limit: OwnedVariant = ask(bus, MANAGER, "org.freedesktop.DBus.Properties", "Get", &asked).await?;
    Ok(Duration::from_micros(u64::try_from(limit)?))
}

/// Whether the session is the user's.
async fn is_of(bus: &Connection, user: u32, session: &str) -> zbus::Result<bool> {
    type Session = (String, u32, String, String, OwnedObjectPath);
    let sessions: Vec<Session> = ask(bus, MANAGER, INTERFACE, "ListSessions", &()).await?;
    Ok(sessions.iter().any(|(_, owner, _, _, path)| *owner == user && path.as_str() == session))
}

/// Whether logind is there.
///
/// # Errors
/// `Missing`.
pub(super) fn check() -> Result<()> {
    let found = block_on(async {
        let bus = Builder::system().method_timeout(QUICKLY).build().await?;
        owner_of(&bus, LOGIND).await
    });
    found.map(drop).map_err(|_| {
        Error::new(ErrorKind::Missing, "it is not running, so no volume hears of sleep or logout")
            .with_hint("close volumes with --idle or by hand; or install the package libpam-systemd")
    })
}

async fn ask<B, R>(bus: &Connection, path: &str, interface: &str, method: &str, body: &B) -> zbus::Result<R>
where
    B: serde::Serialize + DynamicType,
    R: for<'d> DynamicDeserialize<'d>,
{
    let reply = bus.call_method(Some(LOGIND), path, Some(interface), method, body).await?;
    reply.body().deserialize()
}

const LOGIND: &str = "org.freedesktop.login1";
const MANAGER: &str = "/org/freedesktop/login1";
const INTERFACE: &str = "org.freedesktop.login1.Manager";
/// What of all that is said on the bus is ours to hear.
const RULES: [&str; 6] = [
    "type='signal',sender='org.freedesktop.login1',interface='org.freedesktop.login1.Manager',member='PrepareForSleep'",
    "type='signal',sender='org.freedesktop.login1',interface='org.freedesktop.login1.Manager',member='PrepareForShutdown'",
    "type='signal',sender='org.freedesktop.login1',interface='org.freedesktop.login1.Session',member='Lock'",
    "type='signal',sender='org.freedesktop.login1',interface='org.freedesktop.login1.Session',member='Unlock'",
    "type='signal',sender='org.freedesktop.login1',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged',path_namespace='/org/freedesktop/login1/session'",
    "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='org.freedesktop.login1'",
];
/// How long logind waits where it does not say.
const USUAL: Duration = Duration::from_secs(5);
/// How long an answer of its is waited for.
const QUICKLY: Duration = Duration::from_secs(5);
