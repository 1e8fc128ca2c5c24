//! A volume that closes by itself: unused, before the machine sleeps, while the screen is locked. And what becomes of one that is in
//! use then.

use std::{
    io,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    Next, Server,
    ending::{Ending, Remainder},
    events::Watch,
    presence::Presence,
    warden::{Patience, Warden},
};
use crate::{
    error::{Error, ErrorKind},
    mount::{
        closing::{Occasion, WhenBusy},
        holders::{Holder, holders_of_mount},
        idle::Idle,
        logind::Logind,
        news::{Ear, News},
        protocol::{Order, Target},
        screen,
        sync::flush,
    },
    sys::process::effective_user,
    volume::{LiveState, while_moving},
};

/// Begins to listen for what a volume closes by that closes by itself: to logind, and where the screen's lock counts, to the user's
/// desktop. Without a thread it does without.
///
/// # Errors
/// That no pipe could be had.
pub(super) fn listen(order: &Order, watch: &mut Watch) -> io::Result<Option<(Ear, Option<Logind>)>> {
    if matches!(order.target, Target::Private) || order.closing.at.is_none() {
        return Ok(None);
    }
    let (ear, teller) = Ear::open()?;
    watch.hear(Some(ear.bell().try_clone_to_owned()?));
    if let Some(bus) = order.bus.clone().filter(|_| order.closing.at.has(Occasion::Lock)) {
        let _without = screen::listen(bus, teller.clone());
    }
    Ok(Some((ear, Logind::listen(user_of(order), teller).ok())))
}

/// Begins to watch for the logout of the user whose volume closes with it.
pub(super) fn watch_user(order: &Order) -> Option<Presence> {
    order.closing.at.has(Occasion::Logout).then(|| Presence::watch(user_of(order)))?
}

/// Whose sessions count.
fn user_of(order: &Order) -> u32 {
    order.owner.map_or_else(effective_user, |user| user.uid)
}

/// Why a volume closes by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// Nobody used it for so long.
    Idle(String),
    /// The machine goes to sleep.
    Sleep,
    /// The machine ends.
    Shutdown,
    /// The user has logged out.
    Logout,
    /// The screen is locked.
    Locked,
}

impl Why {
    fn told(&self) -> String {
        match self {
            Self::Idle(limit) => format!("after {limit} without use"),
            Self::Sleep => "before the machine sleeps".to_owned(),
            Self::Shutdown => "before the machine shuts down".to_owned(),
            Self::Logout => "at logout".to_owned(),
            Self::Locked => "while the screen is locked".to_owned(),
        }
    }

    /// The same of a volume that does not.
    fn told_of_open(&self) -> String {
        match self {
            Self::Sleep => "while the machine sleeps".to_owned(),
            why => why.told(),
        }
    }
}

/// A volume that is to close and is in use.
#[derive(Debug)]
pub(super) struct Wanted {
    why: Why,
    /// When it is tried the next time, and how long after that.
    next: Instant,
    pause: Duration,
    /// When it closes all the same.
    forced: Option<Instant>,
    /// When it is given up.
    end: Option<Instant>,
    /// What was said last.
    told: Option<String>,
}

impl Wanted {
    /// Now.
    pub(super) fn now(why: Why) -> Self {
        Self { why, next: Instant::now(), pause: SHORTEST, forced: None, end: None, told: None }
    }

    /// The same at logout, when programs may take a moment to end, and nobody is there to be warned.
    fn at_logout(when_busy: WhenBusy) -> Self {
        let end = Some(Instant::now() + WARNING);
        match when_busy {
            WhenBusy::Wait => Self { end, ..Self::now(Why::Logout) },
            WhenBusy::Force => Self { forced: end, ..Self::now(Why::Logout) },
        }
    }

    fn wait(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    fn is_forced(&self) -> bool {
        self.forced.is_some_and(|at| Instant::now() >= at)
    }

    fn is_over(&self) -> bool {
        self.end.is_some_and(|at| Instant::now() >= at)
    }

    fn plan(&mut self) {
        self.next = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST);
        if let Some(at) = self.forced.or(self.end) {
            self.next = self.next.min(at);
        }
    }
}

/// What came of an attempt to close a volume.
pub(super) enum Attempt {
    /// It is closed, or nothing is left to close here.
    Done(Next),
    /// It stays as it is.
    Refused(Refused),
}

/// Why a volume was not closed.
pub(super) struct Refused {
    /// In words.
    pub reason: String,
    /// Whether only programs are in the way, that use it.
    pub may_be_forced: bool,
}

/// Who uses a volume.
pub(super) enum Use {
    /// Programs, each in words of its own.
    Programs(String),
    /// What must come to its own end.
    Work(&'static str),
}

impl Use {
    /// In words.
    pub(super) fn told(self) -> String {
        match self {
            Self::Programs(told) => told,
            Self::Work(told) => told.to_owned(),
        }
    }
}

impl Server {
    /// Has `list` show whether the volume hears of sleep and logout.
    pub(super) fn note_hearing(&mut self) {
        let at = &self.session.record().entry.close_at;
        let is_told_of = at.has(Occasion::Sleep) || at.has(Occasion::Logout);
        let unheard = is_told_of && !self.logind.as_ref().is_some_and(Logind::is_heard);
        if self.session.record().entry.unheard != unheard {
            self.note(|record| record.entry.unheard = unheard);
        }
    }

    /// How long it may wait for events.
    pub(super) fn patience(&self) -> Option<Duration> {
        let wanted = self.wanted.as_ref().map(Wanted::wait);
        let idle = self.idle.as_ref().filter(|_| !self.is_found_idle()).map(Idle::wait);
        idle.into_iter().chain(wanted).min()
    }

    /// Whether it is to close because nobody has used it, and somebody holds it.
    fn is_found_idle(&self) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| matches!(wanted.why, Why::Idle(_)))
    }

    /// Does what news asks for.
    pub(super) fn heed_news(&mut self) -> Next {
        let Some(news) = self.ear.as_mut().and_then(Ear::next) else {
            // The threads have ended, for whatever reason.
            (self.ear, self.logind) = (None, None);
            self.watch.hear(None);
            return Next::Serve;
        };
        match news {
            News::Sleep(limit) => return self.close_within(&Why::Sleep, limit),
            News::Shutdown(limit) => return self.close_within(&Why::Shutdown, limit),
            News::Locked if self.closing.at.has(Occasion::Lock) => {
                let is_wanted = self.wanted.as_ref().is_some_and(|wanted| wanted.why == Why::Locked);
                if !is_wanted {
                    self.wanted = Some(Wanted::now(Why::Locked));
                }
            }
            News::Unlocked => drop(self.wanted.take_if(|wanted| wanted.why == Why::Locked)),
            News::Locked | News::Awake => {}
        }
        Next::Serve
    }

    /// Closes the volume where its user has logged out.
    pub(super) fn heed_users(&mut self) -> Next {
        if self.presence.as_ref().is_some_and(Presence::has_left) {
            let is_wanted = self.wanted.as_ref().is_some_and(|wanted| wanted.why == Why::Logout);
            if !is_wanted {
                self.wanted = Some(Wanted::at_logout(self.closing.when_busy));
            }
        } else {
            self.wanted.take_if(|wanted| wanted.why == Why::Logout);
        }
        Next::Serve
    }

    /// Closes the volume while the machine waits for that. What stays open is at least saved.
    fn close_within(&mut self, why: &Why, limit: Duration) -> Next {
        // A part of it is for those whom the kernel wakes late.
        let end = Instant::now() + limit.saturating_sub(limit / 4);
        let closes = *why == Why::Shutdown || self.closing.at.has(Occasion::Sleep);
        if closes && !self.watch.is_lingering() {
            match self.close_by(why, end) {
                Attempt::Done(Next::Serve) => {}
                Attempt::Done(next) => return next,
                // Whoever is told to end soon ends it.
                Attempt::Refused(_) if *why == Why::Shutdown => {}
                Attempt::Refused(refused) => self.tell_of_closing(&self.stays_open(why, &refused.reason)),
            }
        }
        flush(&self.session.record().entry, || Instant::now() < end);
        if let Some(logind) = &self.logind {
            logind.let_go();
        }
        Next::Serve
    }

    /// Tries again for a moment, as who uses it may just be letting go, too.
    fn close_by(&mut self, why: &Why, end: Instant) -> Attempt {
        let begun = Instant::now();
        loop {
            let refused = match self.close_gently(why) {
                Attempt::Refused(refused) => refused,
                done @ Attempt::Done(_) => return done,
            };
            let patience = if self.has_inner_sessions() { end } else { end.min(begun + GRACE) };
            if Instant::now() < patience {
                sleep(TICK);
            } else if refused.may_be_forced && self.closing.when_busy == WhenBusy::Force {
                return self.close_by_force(why);
            } else {
                return Attempt::Refused(refused);
            }
        }
    }

    /// Looks whether the volume is to close, where it is time for that.
    pub(super) fn look_whether_to_close(&mut self) -> Next {
        let Some(mut wanted) = self.wanted.take_if(|wanted| wanted.wait().is_zero()) else {
            return if self.is_found_idle() { Next::Serve } else { self.look_whether_idle() };
        };
        let was_idle = matches!(wanted.why, Why::Idle(_));
        if was_idle && self.idle.as_mut().is_some_and(Idle::was_used) {
            // Its time begins anew.
            return Next::Serve;
        }
        let attempt = if wanted.is_forced() {
            self.close_by_force(&wanted.why)
        } else {
            self.close_gently(&wanted.why)
        };
        let refused = match attempt {
            Attempt::Done(next) => return next,
            Attempt::Refused(refused) => refused,
        };
        if let Some(idle) = self.idle.as_mut().filter(|_| was_idle) {
            // What our own look had others do is no use.
            idle.pass_over();
        }
        let is_warned = wanted.forced.is_some();
        let line = if refused.may_be_forced && self.closing.when_busy == WhenBusy::Force && !is_warned {
            wanted.forced = Some(Instant::now() + WARNING);
            Some(self.closes_soon(&wanted.why, &refused.reason))
        } else if is_warned && refused.may_be_forced {
            None
        } else {
            wanted.forced = None;
            Some(self.stays_open(&wanted.why, &refused.reason))
        };
        if wanted.is_over() {
            return Next::Serve;
        }
        if let Some(line) = line.filter(|line| wanted.told.as_ref() != Some(line)) {
            self.tell_of_closing(&line);
            wanted.told = Some(line);
        }
        wanted.plan();
        self.wanted = Some(wanted);
        Next::Serve
    }

    /// Who uses the volume.
    pub(super) fn user(&self) -> Option<Use> {
        if self.watch.is_lent() {
            return Some(Use::Work("a command that changes the header"));
        }
        if self.reencryption.status().state == LiveState::Running {
            return Some(Use::Work("a re-encryption"));
        }
        if self.has_inner_sessions() {
            return Some(Use::Work("a container in it that is mounted"));
        }
        let record = self.session.record();
        // Whom nobody can look into is left to the kernel: it unmounts nothing that is in use.
        let holders = record.mount.or(record.block_mount).map(holders_of_mount).unwrap_or_default();
        let mut holders = holders.iter().filter(|holder| holder.is_certain()).map(Holder::to_string);
        let first = holders.next()?;
        let told = holders.take(MOST_NAMED).fold(first, |told, holder| format!("{told}, {holder}"));
        Some(Use::Programs(told))
    }

    /// Takes the volume down as a gentle `unmount` does, with its refusals.
    pub(super) fn close_gently(&mut self, why: &Why) -> Attempt {
        if let Some(user) = self.user() {
            let may_be_forced = matches!(user, Use::Programs(_));
            return Attempt::Refused(Refused { reason: format!("in use by {}", user.told()), may_be_forced });
        }
        if let Some(refusal) = self.refusal() {
            return Attempt::Refused(Refused { reason: refusal.reason().to_owned(), may_be_forced: false });
        }
        let warden = self.warden(None, Patience::Endless);
        match self.end_cleanly(0) {
            Ending::Whole => self.closed(why, None, warden),
            Ending::Lossy(error) => self.closed(why, Some(&error), warden),
            Ending::None(error) => Attempt::Refused(Refused {
                reason: error.reason().to_owned(),
                may_be_forced: error.kind() == ErrorKind::Busy,
            }),
            Ending::Held(error) => {
                let place = self.place();
                self.tell_of_closing(&format!("{place} was closed {}, but {}", why.told(), error.reason()));
                self.idle = None;
                self.wanted = None;
                self.watch.linger();
                Attempt::Done(Next::Serve)
            }
        }
    }

    /// Takes it down under its users: what they wrote so far is saved first, and what would be lost keeps it open.
    fn close_by_force(&mut self, why: &Why) -> Attempt {
        if let Some(refusal) = self.refusal() {
            return Attempt::Refused(Refused { reason: refusal.reason().to_owned(), may_be_forced: false });
        }
        flush(&self.session.record().entry, while_moving(FLUSHING));
        let warden = self.warden(None, Patience::Endless);
        let lossy = self.end_by_force(0).lossy();
        self.closed(why, lossy.as_ref(), warden)
    }

    fn closed(&self, why: &Why, lossy: Option<&Error>, warden: Warden) -> Attempt {
        warden.stay();
        self.answer_waiting(lossy);
        let told = format!("{} was closed {}", self.place(), why.told());
        match lossy {
            None => self.inform(&told),
            Some(error) => self.tell_of_closing(&format!("{told}, but not cleanly: {error}")),
        }
        Attempt::Done(Next::End(Remainder::after(lossy)))
    }

    pub(super) fn stays_open(&self, why: &Why, reason: &str) -> String {
        format!("{} stays open {}: {reason}", self.place(), why.told_of_open())
    }

    fn closes_soon(&self, why: &Why, reason: &str) -> String {
        let (place, why, soon) = (self.place(), why.told(), WARNING.as_secs());
        format!("{place} closes in {soon} seconds {why}: {reason}; save what you have open there")
    }

    fn place(&self) -> String {
        self.session.record().place().display().to_string()
    }
}

/// How long before it closes under its users they hear of that.
const WARNING: Duration = Duration::from_secs(30);
/// How long before sleep somebody who uses it may take to let go.
const GRACE: Duration = Duration::from_secs(1);
/// How long what was written may take to reach the container before a forced end, where nothing comes forward.
const FLUSHING: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(200);
/// How soon it is tried again where it was in use.
const SHORTEST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(60);
/// How many more than one who use it are named.
const MOST_NAMED: usize = 2;
