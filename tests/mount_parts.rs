//! Sessions on the running system: what stays, what goes, and what survives when a server, a driver or a user misbehaves.
//!
//! As root with both drivers, as an ordinary user with the userspace driver. Where FUSE cannot be used, each test says so
//! and passes, unless `STRONGROOM_REQUIRE=1`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests too")]

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Every command clears what killed servers left, so a test that kills one must be alone.
static ALONE: Mutex<()> = Mutex::new(());

struct Lab {
    directory: TempDir,
    driver: &'static str,
    _alone: MutexGuard<'static, ()>,
}

impl Lab {
    fn new(driver: &'static str, filesystem: &str) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let lab = Self { directory: tempfile::tempdir().unwrap(), driver, _alone: alone };
        fs::write(lab.path("password"), "correct horse battery staple\n").unwrap();
        fs::create_dir(lab.path("mnt")).unwrap();
        let mut create = lab.strongroom("create");
        create.arg(lab.path("v.vault")).args([
            "--size",
            "32M",
            "--provision",
            "quick",
            "--filesystem",
            filesystem,
        ]);
        create.args(["--kdf-memory", "64M", "--kdf-passes", "3", "--kdf-lanes", "1"]);
        succeed(lab.with_password(&mut create));
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn strongroom(&self, verb: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.arg(verb).stdin(Stdio::null()).current_dir(self.directory.path());
        command
    }

    fn with_password<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.arg("--password-file").arg(self.path("password"))
    }

    fn mount_command(&self) -> Command {
        let mut mount = self.strongroom("mount");
        mount.args(["v.vault", "mnt", "--driver", self.driver]);
        self.with_password(&mut mount);
        mount
    }

    /// Mounts, and returns the server's process number.
    fn mount(&self) -> i32 {
        succeed(self.mount_command().arg("--json"));
        self.server().unwrap()
    }

    fn unmount(&self, options: &[&str]) -> Output {
        self.strongroom("unmount").arg("v.vault").args(options).output().unwrap()
    }

    /// The server of this lab's volume, as `list` tells.
    fn server(&self) -> Option<i32> {
        Some(i32::try_from(self.listed()?["pid"].as_i64().unwrap()).unwrap())
    }

    /// What `list` tells of this lab's volume.
    fn listed(&self) -> Option<serde_json::Value> {
        let output = succeed(self.strongroom("list").arg("--json"));
        let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let container = self.path("v.vault");
        let mounts = list["mounts"].as_array().unwrap();
        mounts.iter().find(|mount| mount["container"].as_str().map(Path::new) == Some(&*container)).cloned()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path("mnt").join(name)
    }

    /// Writes a file that has reached the container when this returns.
    fn write_synced(&self, name: &str, content: &[u8]) {
        let mut file = File::create(self.file(name)).unwrap();
        file.write_all(content).unwrap();
        file.sync_all().unwrap();
    }

    /// A process that works in the mounted directory.
    fn holder(&self) -> Held {
        Held(Command::new("/bin/sleep").arg("60").current_dir(self.path("mnt")).spawn().unwrap())
    }

    /// Neither mount nor entry is left, and the container can be opened.
    fn assert_clean(&self) {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains(self.path("mnt").to_str().unwrap()), "{table}");
        assert_eq!(self.server(), None);
        assert_eq!(fs::read_dir(self.path("mnt")).unwrap().count(), 0);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // What a failed test leaves mounted must not keep the directory.
        let _ = self.unmount(&["--force"]);
    }
}

struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn kill(signal: &str, pid: i32) {
    succeed(Command::new("/bin/kill").arg(signal).arg(pid.to_string()));
}

fn wait_until(what: &str, is_done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(40);
    while !is_done() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        sleep(Duration::from_millis(20));
    }
}

fn is_running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, fields)| !fields.trim_start().starts_with('Z'))
}

/// The userspace driver of a server.
fn driver_of(server: i32) -> i32 {
    let tasks = fs::read_dir(format!("/proc/{server}/task")).unwrap();
    let children = tasks.flat_map(|task| fs::read_to_string(task.unwrap().path().join("children")));
    let pids: Vec<i32> = children
        .flat_map(|line| line.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    let is_driver =
        |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "fuse2fs\n");
    pids.into_iter().find(is_driver).unwrap()
}

/// The server that the process `parent` has started, once it has its session.
fn child_server(parent: u32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid: &i32| {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.starts_with("strongroom\0__serve")
    })
}

/// The drivers that work here.
fn drivers() -> Vec<&'static str> {
    let can_open = |path: &str| File::options().read(true).write(true).open(path).is_ok();
    let has = |program: &str| Path::new(program).exists();
    let mut drivers = Vec::new();
    if can_open("/dev/fuse") && has("/usr/sbin/mkfs.ext4") {
        if can_open("/dev/loop-control") {
            drivers.push("kernel");
        }
        if has("/usr/bin/fuse2fs") {
            drivers.push("userspace");
        }
    }
    if drivers.is_empty() {
        assert!(std::env::var_os("STRONGROOM_REQUIRE").is_none(), "neither FUSE nor a driver can be used");
        println!("skipped: FUSE, e2fsprogs or a driver cannot be used here");
    }
    drivers
}

#[test]
fn a_killed_server_is_cleared_by_unmount_and_what_was_synced_survives() {
    for driver in drivers() {
        let lab = Lab::new(driver, "ext4");
        let content: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        let server = lab.mount();
        lab.write_synced("synced", &content);
        fs::write(lab.file("unsynced"), &content).unwrap();
        kill("-9", server);
        assert_eq!(lab.server(), None, "list shows no volume whose server is dead");
        assert!(lab.unmount(&[]).status.success());
        lab.assert_clean();
        lab.mount();
        assert_eq!(fs::read(lab.file("synced")).unwrap(), content, "{driver}");
        assert!(lab.unmount(&[]).status.success());
    }
}

#[test]
fn a_killed_server_is_cleared_by_the_next_mount() {
    for driver in drivers() {
        let lab = Lab::new(driver, "ext4");
        let server = lab.mount();
        lab.write_synced("synced", b"here");
        kill("-9", server);
        wait_until("the server's end", || !is_running(server));
        if driver == "userspace" {
            // fuse2fs would go on answering with wrong data.
            let is_cut_off =
                || fs::read(lab.file("synced")).is_err_and(|error| error.raw_os_error() == Some(107));
            wait_until("the driver's end", is_cut_off);
        }
        assert_ne!(lab.mount(), server);
        assert_eq!(fs::read(lab.file("synced")).unwrap(), b"here");
        assert!(lab.unmount(&[]).status.success());
        lab.assert_clean();
    }
}

#[test]
fn a_volume_in_use_stays_and_its_user_is_named() {
    for driver in drivers() {
        let lab = Lab::new(driver, "ext4");
        let server = lab.mount();
        let holder = lab.holder();
        let output = lab.unmount(&[]);
        assert_eq!(output.status.code(), Some(5));
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(&format!("process {} (sleep)", holder.0.id())), "{message}");
        assert_eq!(lab.server(), Some(server));
        drop(holder);
        assert!(lab.unmount(&[]).status.success());
        assert!(!is_running(server));
        lab.assert_clean();
    }
}

#[test]
fn force_takes_down_a_volume_in_use_and_keeps_what_was_written() {
    for driver in drivers() {
        let lab = Lab::new(driver, "ext4");
        let server = lab.mount();
        fs::write(lab.file("written"), b"not synced").unwrap();
        let holder = lab.holder();
        assert!(lab.unmount(&["--force"]).status.success());
        assert!(!is_running(server), "the process with the keys has ended");
        lab.assert_clean();
        drop(holder);
        lab.mount();
        assert_eq!(fs::read(lab.file("written")).unwrap(), b"not synced", "{driver}");
        assert!(lab.unmount(&[]).status.success());
    }
}

#[test]
fn sigterm_takes_down_even_a_volume_in_use() {
    for driver in drivers() {
        let lab = Lab::new(driver, "ext4");
        let server = lab.mount();
        fs::write(lab.file("written"), b"not synced").unwrap();
        let holder = lab.holder();
        kill("-TERM", server);
        wait_until("the server's end", || !is_running(server));
        lab.assert_clean();
        drop(holder);
        lab.mount();
        assert_eq!(fs::read(lab.file("written")).unwrap(), b"not synced", "{driver}");
        assert!(lab.unmount(&[]).status.success());
    }
}

#[test]
fn unmounting_from_outside_ends_the_server() {
    for driver in drivers() {
        let lab = Lab::new(driver, "ext4");
        let server = lab.mount();
        let as_root = rustix::process::geteuid().is_root();
        let mut outside = if as_root { Command::new("umount") } else { Command::new("fusermount3") };
        if !as_root {
            outside.arg("-u");
        }
        succeed(outside.arg(lab.path("mnt")));
        wait_until("the server's end", || !is_running(server));
        lab.assert_clean();
    }
}

#[test]
fn a_stopped_driver_holds_up_neither_list_nor_unmount() {
    if !drivers().contains(&"userspace") {
        return;
    }
    let lab = Lab::new("userspace", "ext4");
    for options in [&[][..], &["--force"]] {
        let server = lab.mount();
        fs::write(lab.file("written"), b"not synced").unwrap();
        kill("-STOP", driver_of(server));
        let start = Instant::now();
        assert_eq!(lab.server(), Some(server));
        succeed(lab.strongroom("unmount").arg("mnt").args(options));
        assert!(start.elapsed() < Duration::from_secs(15), "{options:?} took {:?}", start.elapsed());
        lab.assert_clean();
        lab.mount();
        assert_eq!(fs::read(lab.file("written")).unwrap(), b"not synced", "{options:?}");
        assert!(lab.unmount(&[]).status.success());
    }
}

#[test]
fn a_volume_detached_by_hand_shows_no_mount_point_and_yields_to_force() {
    if !drivers().contains(&"userspace") {
        return;
    }
    let lab = Lab::new("userspace", "ext4");
    let server = lab.mount();
    let mut open = File::create(lab.file("open")).unwrap();
    let as_root = rustix::process::geteuid().is_root();
    let mut outside = Command::new(if as_root { "umount" } else { "fusermount3" });
    succeed(outside.args(if as_root { &["-l"][..] } else { &["-u", "-z"] }).arg(lab.path("mnt")));
    let listed = lab.listed().unwrap();
    assert!(listed["mountpoint"].is_null(), "{listed}");
    sleep(Duration::from_millis(300));
    open.write_all(b"late").unwrap();
    open.sync_all().unwrap();

    let busy = lab.unmount(&[]);
    assert_eq!(busy.status.code(), Some(5), "{busy:?}");
    let start = Instant::now();
    assert!(lab.unmount(&["--force"]).status.success());
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    assert!(!is_running(server));
    lab.assert_clean();
    drop(open);
    lab.mount();
    assert_eq!(fs::read(lab.file("open")).unwrap(), b"late");
    assert!(lab.unmount(&[]).status.success());
}

#[test]
fn an_interrupted_mount_leaves_nothing() {
    for driver in drivers() {
        let lab = Lab::new(driver, "ext4");
        for delay in [0, 50, 100, 150, 200, 300] {
            let mut command = lab.mount_command();
            let mut mount = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            sleep(Duration::from_millis(delay));
            // It may have ended by itself.
            let _ = Command::new("/bin/kill").args(["-INT", &mount.id().to_string()]).output();
            let status = mount.wait().unwrap();
            if status.success() {
                assert!(lab.unmount(&[]).status.success());
            }
            lab.assert_clean();
        }
    }
}

#[test]
fn a_volume_without_file_system_leaves_nothing() {
    for driver in drivers() {
        let lab = Lab::new(driver, "none");
        let output = lab.mount_command().output().unwrap();
        assert_eq!(output.status.code(), Some(4));
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("no file system that is known here"), "{message}");
        lab.assert_clean();
    }
}

#[test]
fn a_read_only_volume_refuses_writes_on_every_level() {
    for driver in drivers() {
        let lab = Lab::new(driver, "ext4");
        let before = fs::read(lab.path("v.vault")).unwrap();
        succeed(lab.mount_command().arg("--read-only"));
        let error = fs::write(lab.file("new"), b"x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        assert!(lab.unmount(&[]).status.success());
        assert!(
            fs::read(lab.path("v.vault")).unwrap() == before,
            "not one byte of the container has changed"
        );
    }
}

#[test]
fn a_killed_create_leaves_neither_container_nor_server() {
    let Some(driver) = drivers().pop() else { return };
    let lab = Lab::new(driver, "ext4");
    let mut create = lab.strongroom("create");
    create.args(["killed.vault", "--size", "8G", "--provision", "thin"]);
    create.args(["--kdf-memory", "64M", "--kdf-passes", "3", "--kdf-lanes", "1"]);
    let mut create = lab.with_password(&mut create).stderr(Stdio::null()).spawn().unwrap();
    let pid = create.id();
    wait_until("the private server's start", || child_server(pid).is_some());
    let server = child_server(pid).unwrap();
    create.kill().unwrap();
    create.wait().unwrap();
    wait_until("the private server's end", || !is_running(server));
    assert!(!lab.path("killed.vault").exists());
}

#[test]
fn the_server_has_no_terminal_no_core_and_no_foreign_descriptor() {
    let Some(driver) = drivers().pop() else { return };
    let lab = Lab::new(driver, "ext4");
    // A pipe that is handed down unasked, as a shell's `3>&1` is.
    let mut shell = Command::new("/bin/sh");
    let mount = lab.mount_command();
    let words = std::iter::once(mount.get_program()).chain(mount.get_args());
    shell.args(["-c", r#""$@" 3>&1 >/dev/null"#, "sh"]).args(words).current_dir(lab.directory.path());
    // This would wait for the server to end, if it held the pipe.
    succeed(&mut shell);
    let server = lab.server().unwrap();
    let stat = fs::read_to_string(format!("/proc/{server}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    assert_eq!(fields[3], server.to_string(), "it leads a session of its own");
    assert_eq!(fields[4], "0", "it has no terminal");
    let limits = fs::read_to_string(format!("/proc/{server}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_ascii_whitespace().nth(4), Some("0"));
    assert!(lab.unmount(&[]).status.success());
}
