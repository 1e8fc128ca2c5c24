//! A volume that closes itself once nobody uses it.

use super::{
    Next, Server,
    closing::{Attempt, Use, Wanted, Why},
};
use crate::{
    mount::{closing::WhenBusy, idle::Found},
    units::typed_time,
};

impl Server {
    /// Looks whether the volume is in use, where it is time for that, and takes it down where it has not been for long enough.
    pub(super) fn look_whether_idle(&mut self) -> Next {
        let Some(mut idle) = self.idle.take_if(|idle| idle.is_due()) else { return Next::Serve };
        let found = idle.look(|| self.user().map(Use::told));
        let why = Why::Idle(typed_time(idle.limit()));
        self.idle = Some(idle);
        match found {
            Found::Used => Next::Serve,
            Found::Held(_) if self.closing.when_busy == WhenBusy::Force => {
                self.wanted.get_or_insert_with(|| Wanted::now(why));
                Next::Serve
            }
            Found::Held(holder) => {
                self.tell_of_closing(&self.stays_open(&why, &format!("in use by {holder}")));
                Next::Serve
            }
            Found::Idle => self.close_idle(&why),
        }
    }

    /// Where it does not close now, that is tried again later.
    fn close_idle(&mut self, why: &Why) -> Next {
        let refused = match self.close_gently(why) {
            Attempt::Done(next) => return next,
            Attempt::Refused(refused) => refused,
        };
        let line = self.stays_open(why, &refused.reason);
        if self.idle.as_mut().is_some_and(|idle| idle.postpone(&line)) {
            self.tell_of_closing(&line);
        }
        Next::Serve
    }
}
