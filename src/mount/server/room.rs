//! Whether the volume's own file system is full, for `list` and for whoever mounts it.

use std::sync::Weak;

use super::{Server, probe::soon};
use crate::{
    export::Refusals,
    mount::{
        full::{Full, Host, Remedy, Room},
        mountinfo::MountTable,
        protocol::{Order, Target},
        session::Session,
    },
    volume::{Container, Volume},
};

impl Server {
    /// Has `list` show whether the file system in the volume is full.
    pub(super) fn note_fullness(&mut self) {
        // What could not be written is graver news, and whoever asks for room might wait along.
        let is_asked = self.session.record().entry.unwritten.is_none();
        let full = if is_asked { fullness(&self.session, self.remedy.as_ref()) } else { None };
        if self.session.record().entry.full != full {
            self.note(|record| record.entry.full = full);
        }
    }
}

/// What would make room in a volume; `None` where nobody fills its file system here, or that cannot be told.
pub(super) fn remedy(
    order: &Order,
    container: &Container,
    volume: &Volume,
    can_grow: impl FnOnce() -> bool,
) -> Option<Remedy> {
    if order.read_only || matches!(order.target, Target::Private | Target::Block { .. }) {
        return None;
    }
    Remedy::of(container, can_grow(), volume).ok()
}

/// How full a volume is, where that is so. One that is only read is full on purpose.
pub(super) fn fullness(session: &Session, remedy: Option<&Remedy>) -> Option<Full> {
    let record = session.record();
    let entry = &record.entry;
    let remedy = remedy.filter(|_| !entry.read_only && record.mount.is_some())?;
    let refusals = session.refusals.as_ref();
    let room = room(session)?;
    if !room.is_full(refusals.is_some_and(Refusals::any)) {
        if let Some(refusals) = refusals {
            refusals.forget();
        }
        return None;
    }
    let host = match (&record.loop_device, &session.files) {
        (Some(_), _) => Host::Kernel,
        (None, Some(_)) => Host::Server,
        (None, None) => Host::Other,
    };
    let hint = remedy.told(record.container_named(), host);
    Some(Full { available: room.available, hint })
}

/// `None` where it cannot be told soon.
fn room(session: &Session) -> Option<Room> {
    if let Some(files) = session.files.as_ref().and_then(Weak::upgrade) {
        return soon(move || Ok(Room::of(files.space())))?.ok();
    }
    let place = MountTable::read().ok()?.place_of(session.record().mount?).ok()??.to_path_buf();
    // Who asks the kernel may wait for what this process itself is to answer.
    soon(move || Room::at(&place))?.ok()
}
