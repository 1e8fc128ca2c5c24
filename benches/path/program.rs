//! Other programs: found once, run with a limit, taken down again whatever happens.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// The absolute path of a program; `None` where it is not installed.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
}

/// A command that runs `name` from where the system's programs are, and nothing from `PATH`.
pub(super) fn command(name: &str) -> Command {
    Command::new(
        find(name).unwrap_or_else(|| panic!("{name} is not installed; run scripts/setup.sh --bench")),
    )
}

/// The same, as the leader of a session of its own, with `/` as its directory.
pub(super) fn server(program: &Path) -> Command {
    let mut server = command("setsid");
    server.arg(program).current_dir("/");
    server
}

/// Runs a command to its end and gives its output; stops it, and everything, where it takes longer than `limit`.
pub(super) fn run_within(command: &mut Command, limit: Duration) -> Output {
    let shown = format!("{command:?}");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{shown}: {error}"));
    // What these print fits into a pipe, so nobody has to read meanwhile.
    if !wait_within(&mut child, limit) {
        child.kill().ok();
        panic!("{shown} took longer than {} s", limit.as_secs());
    }
    child.wait_with_output().unwrap()
}

/// As [`run_within`], and it must succeed.
pub(super) fn run(command: &mut Command) -> Vec<u8> {
    let shown = format!("{command:?}");
    let output = run_within(command, LIMIT);
    assert!(output.status.success(), "{shown}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A program that stays, such as the server of a file system. Killed on drop.
pub(super) struct Running(pub(super) Child);

impl Running {
    /// Starts it in a session of its own, as our server runs: Ctrl-C is not for it, and where the kernel shares processors out
    /// among sessions, all servers get the same. Returns when `is_ready`.
    pub(super) fn start(command: &mut Command, is_ready: impl Fn() -> bool) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let mut running = Self(child);
        let start = Instant::now();
        while !is_ready() {
            assert!(running.0.try_wait().unwrap().is_none(), "{command:?} ended at once");
            assert!(start.elapsed() < LIMIT, "{command:?} does not get ready");
            sleep(TICK);
        }
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !wait_within(&mut self.0, GRACE) {
            self.0.kill().ok();
        }
        self.0.wait().ok();
    }
}

/// A mount of somebody else's making. Unmounted on drop, lazily where it is busy.
pub(super) struct Mounted(pub(super) PathBuf);

impl Mounted {
    pub(super) fn is_there(path: &Path) -> bool {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().any(|line| line.split(' ').nth(4) == path.to_str())
    }

    /// What is left mounted below a folder, the newest first.
    pub(super) fn below(folder: &Path) -> Vec<PathBuf> {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let places = table.lines().rev().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        places.filter(|place| place.starts_with(folder)).collect()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for option in [None, Some("-l")] {
            if Self::is_there(&self.0) {
                run_quietly(command("umount").args(option).arg(&self.0));
            }
        }
    }
}

/// For taking down, where a failure must not hide the first one.
pub(super) fn run_quietly(command: &mut Command) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
}

fn wait_within(child: &mut Child, limit: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < limit {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        sleep(TICK);
    }
    false
}

const LIMIT: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(2);
