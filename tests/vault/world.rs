//! A place for one walk: a folder of its own, the command, and the user who runs it.

use std::{
    fmt,
    ops::Deref,
    os::unix::process::CommandExt,
    path::Path,
    process::Stdio,
    sync::{PoisonError, RwLock},
};

use crate::place::{Place, can_mount};

pub(crate) const PASSWORD: &str = "a rather long pass phrase 7";
/// The cheapest keyslot that `create` makes.
pub(crate) const CHEAP: [&str; 6] = ["--kdf-memory", "64M", "--kdf-passes", "3", "--kdf-lanes", "1"];

/// Who runs the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Root,
    User,
}

/// Those as whom this test process can run things: root and a user where it is root, else itself alone.
/// Empty, with a line that says why, where nothing can be mounted at all.
fn everybody() -> Vec<Who> {
    if !can_mount() {
        return Vec::new();
    }
    if rustix::process::geteuid().is_root() { vec![Who::Root, Who::User] } else { vec![Who::User] }
}

/// Remains of a killed server are cleaned by whichever command of the same user comes first: a test that leaves some is
/// alone.
static REMAINS: RwLock<()> = RwLock::new(());

/// Walks as everybody with a new `v.vault` made with `options`. Nothing may be left at the end.
pub(crate) fn with_vault(options: &str, walk: impl Fn(&World)) {
    let _others = REMAINS.read().unwrap_or_else(PoisonError::into_inner);
    walk_as_everybody(options, walk);
}

/// The same, while no other test of this file runs.
pub(crate) fn with_vault_alone(options: &str, walk: impl Fn(&World)) {
    let _alone = REMAINS.write().unwrap_or_else(PoisonError::into_inner);
    walk_as_everybody(options, walk);
}

fn walk_as_everybody(options: &str, walk: impl Fn(&World)) {
    for who in everybody() {
        let world = World::new(who);
        world.create(options);
        walk(&world);
        world.assert_clean();
    }
}

/// See the module.
pub(crate) struct World {
    who: Who,
    place: Place,
}

impl Deref for World {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl World {
    fn new(who: Who) -> Self {
        let place = if who == Who::User { Place::of_ordinary_user() } else { Place::of_this_user() };
        place.make_folder("m");
        place.make_file("password", format!("{PASSWORD}\n"));
        Self { who, place }
    }

    /// Whether this is root's walk.
    pub(crate) fn is_root(&self) -> bool {
        self.who == Who::Root
    }

    /// Makes `v.vault`.
    fn create(&self, options: &str) {
        self.done(&format!("create v.vault --password-file password {} {options}", CHEAP.join(" ")));
    }

    pub(crate) fn mount(&self) {
        self.done("mount v.vault m --password-file password");
    }

    /// Mounts it, as [`World::mount`]. Where `e2fsck` refuses to repair it unasked, the way out that the error tells is walked
    /// as it stands there. Says whether that was needed; with the kernel's driver, which has a journal, it must not be.
    pub(crate) fn mount_or_repair(&self) -> bool {
        let output = self.strongroom("mount v.vault m --password-file password");
        if output.status.success() {
            return false;
        }
        let errors = String::from_utf8(output.stderr).unwrap();
        eprintln!("{self}: {errors}");
        assert!(output.status.code() == Some(6) && !self.is_root(), "{self}: {:?}: {errors}", output.status);
        let hint = errors.lines().find_map(|line| line.strip_prefix("strongroom: hint: ")).unwrap();
        let first = hint.find("strongroom mount --block ").expect("the hint holds commands");
        // e2fsck ends with 1 where it repaired something. Whether all is well the next mount shows.
        let commands = hint[first..].replacen(';', " --password-file password;", 1);
        self.shell(&format!("set +e; PATH=.; {commands}"));
        self.mount();
        true
    }

    /// Starts a shell script, in a process group of its own, and does not wait for it.
    pub(crate) fn shell_in_background(&self, script: &str) -> std::process::Child {
        let mut command = self.command(Path::new("/bin/sh"));
        command
            .process_group(0)
            .args(["-euc", script])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// The server's process.
    pub(crate) fn server(&self) -> u64 {
        self.listed()["pid"].as_u64().expect("it is mounted")
    }

    /// Waits until the process has ended; as a zombie it has no memory any more.
    pub(crate) fn wait_for_end_of(&self, process: u64) {
        for _ in 0..100 {
            let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            if status.is_empty() || status.contains("State:\tZ") {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("process {process} of {} has not ended", self.folder().display());
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
        write!(f, "{:?}", self.who)
    }
}
