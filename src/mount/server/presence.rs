//! Whether the user is still logged in: logind writes it down for everybody to read, in files whose form does not change
//! (`sd_login_monitor(3)` and `sd_uid_get_state(3)` read them, in whatever version).

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// A user who is logged in.
#[derive(Debug)]
pub(super) struct Presence {
    events: OwnedFd,
    file: PathBuf,
}

impl Presence {
    /// Begins to watch for the end of the user's last session. `None` where he has none, or nobody tells.
    pub(super) fn watch(user: u32) -> Option<Self> {
        Self::watch_in(Path::new(USERS), user)
    }

    fn watch_in(users: &Path, user: u32) -> Option<Self> {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        let changes = WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::DELETE;
        inotify::add_watch(&events, users, changes | WatchFlags::ONLYDIR).ok()?;
        let presence = Self { events, file: users.join(user.to_string()) };
        presence.is_in().then_some(presence)
    }

    /// Becomes readable when something about a user has changed.
    pub(super) fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Whether the user has left. Takes what has happened.
    pub(super) fn has_left(&self) -> bool {
        while rustix::io::read(&self.events, &mut [0; 4096]).is_ok_and(|len| len > 0) {}
        !self.is_in()
    }

    fn is_in(&self) -> bool {
        let told = fs::read_to_string(&self.file).unwrap_or_default();
        // Others are `closing`, while programs of his are left, and `lingering`.
        let state = told.lines().find_map(|line| line.strip_prefix("STATE="));
        state.is_some_and(|state| ["active", "online", "opening"].contains(&state))
    }
}

const USERS: &str = "/run/systemd/users";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_left_when_no_session_of_his_is_open() {
        let users = tempfile::tempdir().unwrap();
        let write = |state: &str| {
            let text = format!("# private\nNAME=anna\nSTATE={state}\nSTOPPING=no\n");
            fs::write(users.path().join("1000"), text).unwrap();
        };
        assert!(Presence::watch_in(users.path(), 1000).is_none());
        write("lingering");
        assert!(Presence::watch_in(users.path(), 1000).is_none());
        write("active");
        let presence = Presence::watch_in(users.path(), 1000).unwrap();
        write("online");
        assert!(!presence.has_left());
        write("closing");
        assert!(presence.has_left());
        write("active");
        assert!(!presence.has_left());
        fs::remove_file(users.path().join("1000")).unwrap();
        assert!(presence.has_left());
        assert!(Presence::watch_in(&users.path().join("none"), 1000).is_none());
    }
}
