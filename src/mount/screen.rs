//! The lock of the user's screen, as his desktop tells of it on the bus of his session: for desktops whose lock logind does not hear of.
//!
//! What locks the screen has one of a few names there, and all of them tell in the same way. They do not tell a screen that is
//! only dark from one that is locked.

use std::{io, time::Duration};

use zbus::{Connection, MessageStream, connection::Builder, names::InterfaceName};

use super::{
    bus::{BUS, check_owner, next, owner_of},
    news::{News, Teller},
};

/// Has a thread listen on the bus at `address`.
///
/// # Errors
/// That no thread could be had.
pub(super) fn listen(address: String, teller: Teller) -> io::Result<()> {
    teller.listen("screen", async move |teller: &Teller| follow(&address, teller).await)
}

/// Listens until the bus ends.
async fn follow(address: &str, teller: &Teller) -> zbus::Result<()> {
    let bus = Builder::address(address).method_timeout(QUICKLY).build().await?;
    check_owner(&bus).await?;
    let mut lockers = Vec::new();
    let mut streams = Vec::new();
    for name in LOCKERS {
        let told = format!("type='signal',interface='{name}',member='{CHANGED}'");
        let moved = format!("type='signal',sender='{BUS}',interface='{BUS}',member='{MOVED}',arg0='{name}'");
        for rule in [told, moved] {
            streams.push(MessageStream::for_match_rule(&*rule, &bus, None).await?);
        }
        lockers.push(Locker::find(name, &bus).await);
    }
    while let Some(message) = next(&mut streams).await {
        if teller.is_over() {
            return Ok(());
        }
        let message = message?;
        let header = message.header();
        let Some((member, sender)) = header.member().zip(header.sender()) else { continue };
        match member.as_str() {
            MOVED if sender.as_str() == BUS => {
                let (name, _, new): (String, String, String) = message.body().deserialize()?;
                if let Some(locker) = lockers.iter_mut().find(|locker| locker.name == name) {
                    locker.owner = Some(new).filter(|new| !new.is_empty());
                }
            }
            CHANGED => {
                let interface = header.interface().map(InterfaceName::as_str);
                let is_its_own = |locker: &Locker| {
                    interface == Some(locker.name) && locker.owner.as_deref() == Some(sender.as_str())
                };
                // Anybody may send a signal: only that of whoever has the name counts.
                if lockers.iter().any(is_its_own)
                    && let Ok(is_locked) = message.body().deserialize::<bool>()
                {
                    teller.tell(if is_locked { News::Locked } else { News::Unlocked });
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A name that what locks a screen may have, and who has it.
struct Locker {
    name: &'static str,
    owner: Option<String>,
}

impl Locker {
    async fn find(name: &'static str, bus: &Connection) -> Self {
        Self { name, owner: owner_of(bus, name).await.ok() }
    }
}

/// Names on the bus, and of the interface there. KDE has the first, the others are those of GNOME, Cinnamon, MATE and Xfce.
const LOCKERS: [&str; 5] = [
    "org.freedesktop.ScreenSaver",
    "org.gnome.ScreenSaver",
    "org.cinnamon.ScreenSaver",
    "org.mate.ScreenSaver",
    "org.xfce.ScreenSaver",
];
const CHANGED: &str = "ActiveChanged";
const MOVED: &str = "NameOwnerChanged";
/// How long an answer of the bus is waited for.
const QUICKLY: Duration = Duration::from_secs(5);
