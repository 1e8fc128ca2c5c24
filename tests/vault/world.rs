//! A place for one walk: a folder of its own, the command, and the user who runs it.

use std::{
    fmt,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{PoisonError, RwLock},
};

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
    let missing = ["/dev/fuse", "/usr/bin/fusermount3", "/usr/bin/fuse2fs"]
        .into_iter()
        .find(|path| !Path::new(path).exists());
    if let Some(missing) = missing {
        assert!(
            std::env::var_os("STRONGROOM_REQUIRE").is_none(),
            "{missing} is missing, and mount tests are required"
        );
        eprintln!("skipped: {missing} is missing, nothing can be mounted");
        return Vec::new();
    }
    if !rustix::process::geteuid().is_root() {
        return vec![Who::User];
    }
    // udev gives this mode on real machines; a bare container may not have run it.
    std::fs::set_permissions("/dev/fuse", std::fs::Permissions::from_mode(0o666)).unwrap();
    vec![Who::Root, Who::User]
}

/// The ordinary user of these tests, made where there is none.
fn ordinary_user() -> (u32, u32) {
    let id = |flag: &str| Command::new("id").args([flag, "strongroom-test"]).output().unwrap();
    if !id("-u").status.success() {
        let made =
            Command::new("/usr/sbin/useradd").args(["--no-create-home", "strongroom-test"]).status().unwrap();
        // Another test may have been faster.
        assert!(made.success() || id("-u").status.success(), "useradd failed");
    }
    let number = |flag| String::from_utf8(id(flag).stdout).unwrap().trim().parse().unwrap();
    (number("-u"), number("-g"))
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
    folder: tempfile::TempDir,
    ids: Option<(u32, u32)>,
}

impl World {
    fn new(who: Who) -> Self {
        let folder = tempfile::Builder::new().prefix("strongroom-test-").tempdir_in("/tmp").unwrap();
        let is_other = who == Who::User && rustix::process::geteuid().is_root();
        let world = Self { who, folder, ids: is_other.then(ordinary_user) };
        // By another process: a copy that is open here for writing while another test forks could not be run (ETXTBSY).
        let copied =
            Command::new("cp").arg(env!("CARGO_BIN_EXE_strongroom")).arg(world.path("strongroom")).status();
        assert!(copied.unwrap().success());
        std::fs::create_dir(world.path("m")).unwrap();
        std::fs::write(world.path("password"), format!("{PASSWORD}\n")).unwrap();
        if let Some((uid, gid)) = world.ids {
            for path in [world.folder.path().to_path_buf(), world.path("m"), world.path("password")] {
                std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
            }
        }
        world
    }

    /// Whether this is root's walk.
    pub(crate) fn is_root(&self) -> bool {
        self.who == Who::Root
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Runs strongroom with these arguments, split at spaces.
    pub(crate) fn strongroom(&self, arguments: &str) -> Output {
        self.command(&self.path("strongroom")).args(arguments.split(' ')).output().unwrap()
    }

    /// The same, and it must succeed.
    pub(crate) fn done(&self, arguments: &str) -> String {
        let output = self.strongroom(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "strongroom {arguments}: {:?}: {errors}", output.status.code());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Makes `v.vault`.
    fn create(&self, options: &str) {
        self.done(&format!("create v.vault --password-file password {} {options}", CHEAP.join(" ")));
    }

    pub(crate) fn mount(&self) {
        self.done("mount v.vault m --password-file password");
    }

    /// Runs a shell script in the folder as the user; only he can look into his mount. Gives its output.
    pub(crate) fn shell(&self, script: &str) -> String {
        let output = self.command(Path::new("/bin/sh")).args(["-euc", script]).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{script}: {errors}");
        String::from_utf8(output.stdout).unwrap()
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

    /// The one mount that `list` shows.
    pub(crate) fn listed(&self) -> serde_json::Value {
        let list: serde_json::Value = serde_json::from_str(&self.done("list --json")).unwrap();
        let mounts = list["mounts"].as_array().unwrap();
        let ours = mounts.iter().find(|mount| {
            mount["container"].as_str().unwrap().starts_with(self.folder.path().to_str().unwrap())
        });
        ours.cloned().unwrap_or(serde_json::Value::Null)
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
        panic!("process {process} of {} has not ended", self.folder.path().display());
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

    /// Nothing of this walk is left on the machine.
    pub(crate) fn assert_clean(&self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.folder.path().to_str().unwrap()), "{mounts}");
        assert_eq!(self.listed(), serde_json::Value::Null);
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.who)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // After a failed assertion: nothing may hold the folder.
        drop(self.strongroom("unmount v.vault --force"));
    }
}
