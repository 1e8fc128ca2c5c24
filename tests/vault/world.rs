//! A place with a container, and its walk.

use std::{fmt, ops::Deref};

use crate::place::{CHEAP, Place, Who, everybody, is_skipped, wait_until};

/// Walks as everybody with a new `v.vault` made with `options`. Nothing may be left at the end.
pub(crate) fn with_vault(options: &str, walk: impl Fn(&World)) {
    for who in everybody() {
        walk_as(who, options, &walk);
    }
}

/// The same as one of them alone.
pub(crate) fn with_vault_of(who: Who, options: &str, walk: impl Fn(&World)) {
    if everybody().contains(&who) {
        walk_as(who, options, &walk);
    }
}

/// The same as root with the driver of ordinary users too.
pub(crate) fn with_each_driver(options: &str, walk: impl Fn(&World)) {
    let everybody = everybody();
    if everybody.contains(&Who::Root) {
        walk_as(Who::RootInServer, options, &walk);
    }
    for who in everybody {
        walk_as(who, options, &walk);
    }
}

/// The same as `who` alone, where this process can mount as that.
pub(crate) fn with_who(who: Who, options: &str, walk: impl Fn(&World)) {
    let everybody = everybody();
    let needed = if who == Who::User { who } else { Who::Root };
    if everybody.contains(&needed) {
        walk_as(who, options, &walk);
    } else if !everybody.is_empty() {
        is_skipped(&format!("only root can be {who:?}"));
    }
}

fn walk_as(who: Who, options: &str, walk: impl Fn(&World)) {
    let world = World { place: Place::of(who) };
    let costs = if options.contains("--pbkdf") { "" } else { CHEAP };
    world.done(&format!("create v.vault --password-file password {costs} {options}"));
    walk(&world);
    world.assert_clean();
}

/// See the module.
pub(crate) struct World {
    place: Place,
}

impl Deref for World {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl World {
    /// The command that mounts it.
    pub(crate) fn mount_command(&self) -> String {
        let driver = match (self.is_root(), self.driver()) {
            (true, "builtin") => " --driver builtin",
            _ => "",
        };
        format!("mount v.vault m --password-file password{driver}")
    }

    pub(crate) fn mount(&self) {
        self.done(&self.mount_command());
    }

    /// Mounts it, as [`World::mount`]. Where `e2fsck` refuses to repair it unasked, the way out that the error tells is walked
    /// as it stands there. Says whether that was needed; with the kernel's driver it must not be.
    pub(crate) fn mount_or_repair(&self) -> bool {
        let ended = self.strongroom(&self.mount_command());
        if ended.status == Some(0) {
            return false;
        }
        let errors = ended.errors;
        eprintln!("{self}: {errors}");
        assert!(ended.status == Some(6) && self.driver() != "kernel", "{self}: {:?}: {errors}", ended.status);
        let hint = errors.lines().find_map(|line| line.strip_prefix("strongroom: hint: ")).unwrap();
        let first = hint.find("strongroom mount --block ").expect("the hint holds commands");
        // e2fsck ends with 1 where it repaired something. Whether all is well the next mount shows.
        let commands = hint[first..].replacen(';', " --password-file password;", 1);
        self.shell(&format!("set +e; PATH=.; {commands}"));
        self.mount();
        true
    }

    /// The server's process.
    pub(crate) fn server(&self) -> u64 {
        self.listed()["pid"].as_u64().expect("it is mounted")
    }

    /// Waits until `list` shows it as mounted.
    pub(crate) fn wait_until_mounted(&self) {
        wait_until("a mount", || !self.listed().is_null());
    }

    /// How many lines a file has; none where there is no such file.
    pub(crate) fn lines_of(&self, name: &str) -> usize {
        std::fs::read_to_string(self.path(name)).unwrap_or_default().lines().count()
    }

    /// `e2fsck -fn` of the volume through its block file.
    pub(crate) fn check_file_system(&self) {
        self.check_with("password");
    }

    /// The same with the password in another file.
    pub(crate) fn check_with(&self, password_file: &str) {
        self.done(&format!("mount --block v.vault m --password-file {password_file}"));
        self.shell("e2fsck -fn m/volume");
        self.done("unmount m");
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}
