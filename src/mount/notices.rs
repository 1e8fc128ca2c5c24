//! Notices on the user's desktop (`org.freedesktop.Notifications`), for what a terminal would be told.
//!
//! A thread of its own shows them, each on a connection of its own. Nobody waits for it but the end of the process, and that for a
//! moment only: where the desktop does not answer, what is too much is dropped.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

use zbus::{Connection, Variant, block_on, connection::Builder};

use super::bus::check_owner;
use crate::{
    error::{Error, ErrorKind, Result},
    sys::session_bus,
    text::excerpt_within,
};

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    /// That a volume closes by itself, or does not. A newer one takes the place of the last.
    Closing,
    /// Everything else.
    Other,
}

/// How much a notice matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// It may be missed.
    Low,
    /// Something may be lost: it stays until it is seen.
    High,
}

/// The way to the desktop.
#[derive(Debug)]
pub(super) struct Notices {
    queue: Mutex<Option<SyncSender<Notice>>>,
    /// Ends with the thread.
    end: Mutex<Receiver<()>>,
}

#[derive(Debug)]
struct Notice {
    text: String,
    topic: Topic,
    urgency: Urgency,
}

impl Notices {
    /// Begins. `title` stands above each notice: the volume's name. `None` where no thread can be had.
    pub(super) fn start(address: String, title: &str) -> Option<Self> {
        let (queue, notices) = mpsc::sync_channel::<Notice>(MOST_WAITING);
        let (ended, end) = mpsc::channel();
        let title = excerpt_within(title, TITLE);
        let show = move || {
            let _ends_with_this = ended;
            let mut last = 0;
            for notice in notices {
                let replaced = if notice.topic == Topic::Closing { last } else { 0 };
                // Where there is no desktop, the terminal and the log have it.
                let shown = block_on(show(&address, &title, &notice, replaced));
                if let (Topic::Closing, Ok(number)) = (notice.topic, shown) {
                    last = number;
                }
            }
        };
        thread::Builder::new().name("notices".to_owned()).spawn(show).ok()?;
        Some(Self { queue: Mutex::new(Some(queue)), end: Mutex::new(end) })
    }

    /// Has the desktop show a line, and does not wait for it.
    pub(super) fn show(&self, line: &str, topic: Topic, urgency: Urgency) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = &*queue {
            let _too_many = queue.try_send(Notice { text: excerpt_within(line, TEXT), topic, urgency });
        }
    }

    /// Takes no more, and waits a moment until what was taken is shown.
    pub(super) fn settle(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ended = self.end.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(LAST_MOMENT);
    }
}

/// Shows a line on the user's desktop, for who has no other way to tell him.
///
/// # Errors
/// `Missing` where there is no session, `Io` where nobody shows notices there.
pub fn notify(line: &str) -> Result<()> {
    let address = session_bus::of_user()
        .ok_or_else(|| Error::new(ErrorKind::Missing, "there is no bus of a session here"))?;
    let notice = Notice { text: excerpt_within(line, TEXT), topic: Topic::Other, urgency: Urgency::High };
    let shown = block_on(show(&address, NAME, &notice, 0));
    shown.map(drop).map_err(|error| Error::caused_by(ErrorKind::Io, error))
}

/// Shows a notice, in the place of the one with the number `replaced` unless that is 0. Gives its number.
///
/// # Errors
/// That there is no bus, that it is not the user's, or that nobody shows notices there.
async fn show(address: &str, title: &str, notice: &Notice, replaced: u32) -> zbus::Result<u32> {
    let bus = Builder::address(address).method_timeout(PATIENCE).build().await?;
    check_owner(&bus).await?;
    let has_markup = capabilities(&bus).await?.iter().any(|capability| capability == "body-markup");
    let text = if has_markup { escaped(&notice.text) } else { notice.text.clone() };
    let level: u8 = match notice.urgency {
        Urgency::Low => 1,
        Urgency::High => 2,
    };
    let hints = HashMap::from([("urgency", Variant::from(level))]);
    let body = (NAME, replaced, NAME, title, text, Vec::<&str>::new(), hints, BY_ITS_OWN_RULES);
    let reply = bus.call_method(Some(SERVICE), OBJECT, Some(SERVICE), "Notify", &body).await?;
    reply.body().deserialize()
}

async fn capabilities(bus: &Connection) -> zbus::Result<Vec<String>> {
    let reply = bus.call_method(Some(SERVICE), OBJECT, Some(SERVICE), "GetCapabilities", &()).await?;
    reply.body().deserialize()
}

/// The text where `<b>` is markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const NAME: &str = "strongroom";
const SERVICE: &str = "org.freedesktop.Notifications";
const OBJECT: &str = "/org/freedesktop/Notifications";
/// How long it shows is for the desktop to say.
const BY_ITS_OWN_RULES: i32 = -1;
const MOST_WAITING: usize = 16;
/// The characters of a title, and of a text.
const TITLE: usize = 60;
const TEXT: usize = 400;
/// How long the desktop may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a process that ends waits for it.
const LAST_MOMENT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_no_markup() {
        assert_eq!(escaped("a<b>&amp;"), "a&lt;b&gt;&amp;amp;");
    }

    #[test]
    fn a_desktop_that_is_not_there_holds_nothing_up() {
        let notices = Notices::start("unix:path=/nowhere/bus".to_owned(), "v").unwrap();
        for _ in 0..100 {
            notices.show("closed", Topic::Closing, Urgency::Low);
        }
        notices.settle();
        notices.show("too late", Topic::Other, Urgency::High);
    }
}
