//! Where tests call the real command: a folder of its own, and who calls it there.
//!
//! The runtime directory is its own too: any command of the same user clears there what killed servers left, which elsewhere
//! on the machine is none of a test's business. So root gets a table of mounts for each test, with an empty `/run/strongroom`.

#![allow(dead_code, reason = "each crate of tests uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

use std::{
    cell::OnceCell,
    ffi::OsStr,
    fmt, fs,
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::{panicking, sleep},
    time::{Duration, Instant},
};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    process::{Pid, Signal, geteuid, kill_process, kill_process_group},
};

/// What `password` holds; it opens the vectors of the native format too.
pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// The cheapest keyslot that can be made.
pub(crate) const CHEAP: &str = "--kdf-memory 64M --kdf-passes 3 --kdf-lanes 1";
/// The ordinary user where root runs the tests: `nobody`, by the numbers that all distributions give it. fusermount3 wants a
/// user with a name.
pub(crate) const USER: u32 = 65_534;

/// Who calls the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Root, with the kernel's driver.
    Root,
    /// Root, with the driver in the server itself.
    RootInServer,
    /// An ordinary user.
    User,
}

/// Says in one line what is skipped because something is missing; panics there with `STRONGROOM_REQUIRE=1`. `false`.
pub(crate) fn is_skipped(reason: &str) -> bool {
    assert_ne!(std::env::var("STRONGROOM_REQUIRE").as_deref(), Ok("1"), "{reason}");
    eprintln!("skipped: {reason}");
    false
}

/// Says what is left out because only root could do it, where nobody who runs the tests is root.
pub(crate) fn leave_to_root(what: &str) {
    if !geteuid().is_root() {
        eprintln!("skipped: only root can {what}");
    }
}

/// Whether volumes can be mounted here; where not, that is said.
pub(crate) fn can_mount() -> bool {
    let missing = ["/dev/fuse", "/usr/bin/fusermount3"].into_iter().find(|path| !Path::new(path).exists());
    if let Some(missing) = missing {
        return is_skipped(&format!("{missing} is missing, nothing can be mounted"));
    }
    if geteuid().is_root() {
        // udev gives this mode on real machines; a bare container may not have run it.
        fs::set_permissions("/dev/fuse", fs::Permissions::from_mode(0o666)).unwrap();
    }
    true
}

/// Whether there is the program that stands for media that hang, and for older versions of strongroom.
pub(crate) fn has_fuse2fs() -> bool {
    Path::new("/usr/bin/fuse2fs").exists() || is_skipped("fuse2fs is not installed")
}

/// Those as whom this process can mount: root and a user where it is root, else itself alone; nobody where nothing can be mounted.
pub(crate) fn everybody() -> Vec<Who> {
    match (can_mount(), geteuid().is_root()) {
        (false, _) => Vec::new(),
        (true, true) => vec![Who::Root, Who::User],
        (true, false) => vec![Who::User],
    }
}

/// See the module. Its user finds the command there, the folder `m` to mount on, and [`PASSWORD`] in the file `password`.
#[derive(Debug)]
pub(crate) struct Place {
    folder: tempfile::TempDir,
    who: Who,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` where a signal ended it.
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) errors: String,
}

impl Ended {
    /// What it printed: one value.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The object, where there is one, has the warnings of standard error, unless that is redirected.
    fn assert_warnings(&self) {
        let Ok(object) = serde_json::from_str::<serde_json::Value>(&self.out) else { return };
        let told: Vec<_> =
            self.errors.lines().filter_map(|line| line.strip_prefix("strongroom: warning: ")).collect();
        let listed = object["warnings"].as_array().unwrap_or_else(|| panic!("no warnings: {self:?}"));
        // Some are told once, and listed always.
        assert!(told.iter().all(|warning| listed.iter().any(|listed| listed == warning)), "{self:?}");
    }
}

impl Place {
    /// A place of the user who runs the tests.
    pub(crate) fn of_this_user() -> Self {
        Self::of(if geteuid().is_root() { Who::Root } else { Who::User })
    }

    /// A place of an ordinary user: another one where root runs the tests.
    pub(crate) fn of_ordinary_user() -> Self {
        Self::of(Who::User)
    }

    pub(crate) fn of(who: Who) -> Self {
        if geteuid().is_root() {
            keep_apart();
        }
        let folder = tempfile::Builder::new().prefix("strongroom-test-").tempdir_in("/tmp").unwrap();
        let place = Self { folder, who };
        place.give(place.folder());
        place.copy_program(Path::new(env!("CARGO_BIN_EXE_strongroom")), "strongroom");
        place.make_folder("run");
        place.make_folder("m");
        place.make_file("password", format!("{PASSWORD}\n"));
        place
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Whether its user is root.
    pub(crate) fn is_root(&self) -> bool {
        self.who != Who::User
    }

    /// The number of its user.
    pub(crate) fn user(&self) -> u32 {
        self.other().unwrap_or_else(|| geteuid().as_raw())
    }

    /// The driver that file systems are mounted with.
    pub(crate) fn driver(&self) -> &'static str {
        match self.who {
            Who::Root => "kernel",
            Who::RootInServer | Who::User => "builtin",
        }
    }

    /// The runtime directory.
    pub(crate) fn runtime(&self) -> PathBuf {
        if self.is_root() { ROOTS.into() } else { self.path("run/strongroom") }
    }

    /// Another user's number, where the place is not of the user who runs the tests.
    fn other(&self) -> Option<u32> {
        (!self.is_root() && geteuid().is_root()).then_some(USER)
    }

    /// Makes the user of this place the owner.
    pub(crate) fn give(&self, path: &Path) {
        if let Some(user) = self.other() {
            chown(path, Some(user), Some(user)).unwrap();
        }
    }

    /// Makes a folder of the user.
    pub(crate) fn make_folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        self.give(&path);
        path
    }

    /// Makes a file of the user, or another one of it.
    pub(crate) fn make_file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        self.give(&path);
        path
    }

    /// Copies a program so that the user can run it, wherever it was.
    pub(crate) fn copy_program(&self, program: &Path, to: &str) {
        // By another process: a copy that is open here for writing while another test forks could not be run (ETXTBSY).
        assert!(Command::new("cp").arg(program).arg(self.path(to)).status().unwrap().success());
    }

    /// Copies a file of the vectors of the native format.
    pub(crate) fn copy_vector(&self, name: &str, to: &str) -> PathBuf {
        self.make_file(to, fs::read(vector(name)).unwrap())
    }

    /// The bytes of a file.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// The names of what was not there from the start.
    pub(crate) fn files(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.into_string().unwrap());
        names.filter(|name| !["strongroom", "run", "m", "password"].contains(&&**name)).collect()
    }

    /// A command that runs here as the user, without this process's environment.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.command_of_this_user(program);
        if let Some(user) = self.other() {
            command.uid(user).gid(user);
        }
        command
    }

    /// The same as whoever runs the tests.
    pub(crate) fn command_of_this_user(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("XDG_DATA_HOME", self.path("home"))
            .env("XDG_STATE_HOME", self.path("state"));
        command
    }

    /// Runs strongroom by a shell that has no terminal. A JSON object has what standard error warns of.
    pub(crate) fn strongroom(&self, arguments: &str) -> Ended {
        let mut command = self.command("setsid");
        let ended = ended(command.args(["--wait", "/bin/sh", "-c"]).arg(format!("./strongroom {arguments}")));
        if arguments.contains("--json") && !arguments.contains("--quiet") && !panicking() {
            ended.assert_warnings();
        }
        ended
    }

    /// The same, and it must succeed.
    pub(crate) fn done(&self, arguments: &str) -> String {
        let ended = self.strongroom(arguments);
        assert_eq!(ended.status, Some(0), "{self}: strongroom {arguments}: {}", ended.errors);
        ended.out
    }

    /// The same, and it must print one JSON value.
    pub(crate) fn json(&self, arguments: &str) -> serde_json::Value {
        let out = self.done(&format!("{arguments} --json"));
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments}: {error}: {out}"))
    }

    /// Runs a shell script in the folder as the user; only he can look into his mounts. Gives its output.
    pub(crate) fn shell(&self, script: &str) -> String {
        let ended = ended(self.command("/bin/sh").args(["-euc", script]));
        assert_eq!(ended.status, Some(0), "{self}: {script}: {}", ended.errors);
        ended.out
    }

    /// Starts a shell script, in a process group of its own, and does not wait for it.
    pub(crate) fn shell_in_background(&self, script: &str) -> Background {
        let mut command = self.command("/bin/sh");
        command.args(["-euc", script]).process_group(0);
        Background(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// A process, called `sleep`, that holds what `script` opened or went to.
    pub(crate) fn holder(&self, script: &str) -> Background {
        let holder = self.shell_in_background(&format!("{script}; exec sleep 10000"));
        wait_until("a holder", || name_of(holder.process()) == "sleep");
        holder
    }

    /// The first mount in this folder that `list` shows.
    pub(crate) fn listed(&self) -> serde_json::Value {
        let mut list = self.json("list");
        let is_ours = |mount: &serde_json::Value| {
            Path::new(mount["container"].as_str().unwrap()).starts_with(self.folder())
        };
        let mounts = list["mounts"].as_array_mut().unwrap();
        mounts.iter().position(is_ours).map_or(serde_json::Value::Null, |found| mounts.swap_remove(found))
    }

    /// Nothing of this place is left on the machine.
    pub(crate) fn assert_clean(&self) {
        // That of this thread: `self` would be the first thread's.
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert!(!mounts.contains(self.folder().to_str().unwrap()), "{mounts}");
        assert_eq!(self.listed(), serde_json::Value::Null);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // After a failed assertion: nothing may hold the folder.
        let list = self.strongroom("list --json").out;
        let list: serde_json::Value = serde_json::from_str(&list).unwrap_or_default();
        let containers = list["mounts"].as_array().into_iter().flatten();
        for container in containers.filter_map(|mount| mount["container"].as_str()) {
            if Path::new(container).starts_with(self.folder()) {
                drop(self.strongroom(&format!("unmount '{container}' --force")));
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.who)
    }
}

/// A script that runs beside the test, and ends with this at the latest.
#[derive(Debug)]
pub(crate) struct Background(Child);

impl Background {
    /// The process of the shell, or of what it became by `exec`.
    pub(crate) fn process(&self) -> u64 {
        self.0.id().into()
    }

    /// Waits for its end; gives its exit status.
    pub(crate) fn wait(mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Fails where all have ended.
        let _ = kill_process_group(pid(self.process()), Signal::KILL);
        self.0.wait().unwrap();
        // What the shell started may have files open a moment longer.
        comes_to_pass(|| !processes().any(|process| field(process, 1) == Some(self.process())));
    }
}

/// A file of the vectors of the native format; `""` is their folder.
pub(crate) fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/vectors/native").join(name)
}

/// Runs a command to its end.
pub(crate) fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    let [out, errors] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ended { status: output.status.code(), out, errors }
}

/// Waits for something that will come to pass, on a slow and busy machine too.
pub(crate) fn wait_until(what: &str, is_so: impl FnMut() -> bool) {
    assert!(comes_to_pass(is_so), "still not after {PATIENCE:?}: {what}");
}

/// Whether it did in all that time.
pub(crate) fn comes_to_pass(mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        sleep(Duration::from_millis(20));
    }
    true
}

/// Waits until a process has ended; as a zombie it has no memory any more.
pub(crate) fn wait_for_end_of(process: u64) {
    wait_until(&format!("the end of process {process}"), || !is_running(process));
}

/// Whether a process has not ended.
pub(crate) fn is_running(process: u64) -> bool {
    field(process, 0).is_some()
}

/// A number that `/proc/PID/stat` has behind the state of a process, counted from 0: the parent, the group, the session, the
/// terminal. `None` where it has ended.
pub(crate) fn field(process: u64, number: usize) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    // Other threads may still have its files, and the locks on them.
    let has_threads = fields.clone().nth(16).is_some_and(|threads| !["0", "1"].contains(&threads));
    if ["Z", "X"].contains(&state) && !has_threads { None } else { fields.nth(number)?.parse().ok() }
}

/// All processes of the machine.
fn processes() -> impl Iterator<Item = u64> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The processes that a process started.
pub(crate) fn children(process: u64) -> Vec<u64> {
    processes().filter(|&child| field(child, 0) == Some(process)).collect()
}

/// The name of the program that a process runs.
pub(crate) fn name_of(process: u64) -> String {
    fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// Sends a signal to a process.
pub(crate) fn signal(process: u64, signal: Signal) {
    kill_process(pid(process), signal).unwrap();
}

fn pid(process: u64) -> Pid {
    Pid::from_raw(i32::try_from(process).unwrap()).unwrap()
}

/// Gives this thread, and all that it starts from now on, a table of mounts of its own and an empty runtime directory of root's.
#[allow(unsafe_code, reason = "one call that the standard library does not have")]
fn keep_apart() {
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    thread_local!(static APART: OnceCell<()> = const { OnceCell::new() });
    APART.with(|apart| {
        apart.get_or_init(|| {
            // SAFETY: only an unshared table of descriptors could invalidate what other threads hold.
            let unshared = unsafe { unshare_unsafe(UnshareFlags::NEWNS) };
            if unshared == Err(rustix::io::Errno::PERM) {
                return; // Such a root mounts nothing.
            }
            unshared.unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            fs::DirBuilder::new().recursive(true).mode(0o700).create(ROOTS).unwrap();
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            mount("none", ROOTS, "tmpfs", flags, c"mode=700").unwrap();
        });
    });
}

/// Root's runtime directory.
const ROOTS: &str = "/run/strongroom";
/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(120);
