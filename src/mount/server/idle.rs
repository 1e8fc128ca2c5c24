//! A volume that closes itself once nobody uses it.

use super::{Next, Server, ending::Ending, warden::Patience};
use crate::{
    mount::{
        holders::{Holder, holders_of_mount},
        idle::Found,
    },
    units::typed_time,
    volume::LiveState,
};

impl Server {
    /// Looks whether the volume is in use, where it is time for that, and takes it down where it has not been for long enough.
    pub(super) fn look_whether_idle(&mut self) -> Next {
        let Some(mut idle) = self.idle.take_if(|idle| idle.is_due()) else { return Next::Serve };
        let found = idle.look(|| self.holder());
        let limit = typed_time(idle.limit());
        self.idle = Some(idle);
        match found {
            Found::Used => Next::Serve,
            Found::Held(holder) => {
                let place = self.session.record().place().display();
                self.tell(&format!("{place} stays open after {limit} without use: in use by {holder}"));
                Next::Serve
            }
            Found::Idle => self.close_idle(&limit),
        }
    }

    /// Somebody who holds the volume, in words.
    fn holder(&self) -> Option<String> {
        if self.watch.is_lent() {
            return Some("a command that changes the header".to_owned());
        }
        if self.reencryption.status().state == LiveState::Running {
            return Some("a re-encryption".to_owned());
        }
        if self.has_inner_sessions() {
            return Some("a container in it that is mounted".to_owned());
        }
        let record = self.session.record();
        // Whom nobody can look into is left to the kernel: it unmounts nothing that is in use.
        let holders = record.mount.or(record.block_mount).map(holders_of_mount).unwrap_or_default();
        holders.iter().find(|holder| holder.is_certain()).map(Holder::to_string)
    }

    /// Takes the volume down as a gentle `unmount` does. Where that does not go now, it is tried again later.
    fn close_idle(&mut self, limit: &str) -> Next {
        let place = self.session.record().place().display().to_string();
        if let Some(refusal) = self.refusal() {
            self.postpone(&format!("{place} stays open after {limit} without use: {}", refusal.reason()));
            return Next::Serve;
        }
        let warden = self.warden(None, Patience::Endless);
        let lossy = match self.end_cleanly(0) {
            Ending::Whole => None,
            Ending::Lossy(error) => Some(error),
            Ending::None(error) => {
                self.postpone(&format!("{place} stays open after {limit} without use: {}", error.reason()));
                return Next::Serve;
            }
            Ending::Held(error) => {
                self.tell(&format!("{place} was closed after {limit} without use, but {}", error.reason()));
                self.idle = None;
                self.watch.linger();
                return Next::Serve;
            }
        };
        warden.stay();
        self.answer_waiting(lossy.as_ref());
        match &lossy {
            None => (self.log)(&format!("{place} was closed after {limit} without use")),
            Some(error) => {
                self.tell(&format!("{place} was closed after {limit} without use, but not cleanly: {error}"));
            }
        }
        Next::End { is_whole: lossy.is_none() }
    }

    fn postpone(&mut self, why: &str) {
        if self.idle.as_mut().is_some_and(|idle| idle.postpone(why)) {
            self.tell(why);
        }
    }
}
