//! Processes of others that hang in the kernel: no command of ours hangs beside them.

use std::{
    ffi::CString,
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::{Pid, Signal, geteuid, kill_process},
};

use crate::{
    place::{Background, CHEAP, Place, can_mount, is_skipped},
    world::{World, with_vault},
};

/// A FUSE mount whose server lets everybody in, and never answers any more once it is told to hang. Ended when dropped.
struct Wedge {
    path: PathBuf,
    hangs: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Wedge {
    /// `None` for ordinary users: that is said.
    fn new(path: &Path) -> Option<Self> {
        if !geteuid().is_root() {
            is_skipped("only root can make and end a FUSE mount that hangs");
            return None;
        }
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let options = CString::new(options).unwrap();
        mount("wedge", path, "fuse.wedge", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())
            .unwrap();
        let hangs = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&hangs);
        let server = thread::spawn(move || serve(device, &theirs));
        Some(Self { path: path.to_path_buf(), hangs, server: Some(server) })
    }
}

impl Drop for Wedge {
    fn drop(&mut self) {
        // Forced: that ends the connection, and with it all that waits there.
        unmount(&self.path, UnmountFlags::DETACH | UnmountFlags::FORCE).unwrap();
        self.server.take().unwrap().join().unwrap();
    }
}

/// Answers the greeting (`FUSE_INIT`), what is asked of the folder itself (`FUSE_GETATTR`) until it hangs, and that there is
/// nothing to ask about access (`FUSE_ACCESS`, `ENOSYS`). Takes all else without a word, until the connection ends.
fn serve(mut device: File, hangs: &AtomicBool) {
    const GETATTR: u32 = 3;
    const INIT: u32 = 26;
    const ACCESS: u32 = 34;
    const ENOSYS: i32 = 38;
    let mut request = vec![0; 1 << 17];
    while let Ok(len) = device.read(&mut request) {
        if len < 40 {
            continue;
        }
        let word = |at: usize| u32::from_le_bytes(request[at..at + 4].try_into().unwrap());
        let unique: [u8; 8] = request[8..16].try_into().unwrap();
        let mut body = Vec::new();
        let mut error = 0;
        match word(4) {
            INIT => {
                body.resize(64, 0);
                body[..4].copy_from_slice(&7_u32.to_le_bytes());
                body[4..8].copy_from_slice(&31_u32.to_le_bytes());
                body[20..24].copy_from_slice(&4096_u32.to_le_bytes());
            }
            // True for no time, so that it is asked again: inode 1, a folder with two names.
            GETATTR if !hangs.load(Ordering::SeqCst) => {
                body.resize(104, 0);
                body[16] = 1;
                body[76..80].copy_from_slice(&0o40755_u32.to_le_bytes());
                body[80] = 2;
            }
            ACCESS => error = -ENOSYS,
            _ => continue,
        }
        let len = u32::try_from(16 + body.len()).unwrap();
        let answer = [&len.to_le_bytes()[..], &error.to_le_bytes(), &unique, &body].concat();
        device.write_all(&answer).unwrap();
    }
}

/// The wedge goes before those are waited for who hang in it.
struct Scene {
    _wedge: Wedge,
    _processes: Vec<Background>,
}

impl Scene {
    /// Somebody whose folder it is, and somebody who waits for a file there.
    fn new(place: &Place) -> Option<Self> {
        let wedge = Wedge::new(&place.path("m"))?;
        let inside = place.holder("cd m");
        wedge.hangs.store(true, Ordering::SeqCst);
        let waiting = place.shell_in_background("exec cat m/file");
        Some(Self { _wedge: wedge, _processes: vec![inside, waiting] })
    }
}

/// Longer than a look into all processes, key derivation and a busy machine take; a command that hangs takes for ever.
fn in_time<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    assert!(start.elapsed() < Duration::from_secs(60), "{what}: {:?}", start.elapsed());
    result
}

/// A command that is given a path there, and what it says.
struct Waiting {
    command: String,
    process: Child,
}

impl Waiting {
    fn start(world: &World, command: &str) -> Self {
        let arguments = command.split(' ');
        let process = world.command("./strongroom").args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        Self { command: command.to_owned(), process }
    }

    /// How it ends by a signal, and how long that takes; without a status where it does not end in time.
    fn end_by(&mut self, signal: Signal) -> (Option<i32>, Duration) {
        let start = Instant::now();
        kill_process(Pid::from_child(&self.process), signal).unwrap();
        loop {
            let ended = self.process.try_wait().unwrap();
            if ended.is_some() || start.elapsed() > Duration::from_secs(5) {
                return (ended.and_then(|ended| ended.code()), start.elapsed());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn errors(&mut self) -> String {
        let mut errors = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        errors
    }
}

#[test]
fn a_command_that_waits_for_a_medium_that_hangs_says_so_and_ends_by_a_signal() {
    with_vault("--size 32M --provision quick", |world| {
        let folder = world.make_folder("hangs");
        let Some(wedge) = Wedge::new(&folder) else { return };
        wedge.hangs.store(true, Ordering::SeqCst);
        world.make_folder("n");
        let there = folder.join("v");
        let there = there.display();
        let mut waiting = [
            format!("mount {there} n --password-file password"),
            format!("mount v.vault {there} --password-file password"),
            format!("check {there}"),
            format!("info {there}"),
            format!("create {there} --size 32M {CHEAP} --password-file password"),
            format!("import v.vault {there} {CHEAP} --password-file password"),
            format!("import {there} i.vault {CHEAP} --password-file password"),
            format!("key list {there}"),
            format!("key test {there} --password-file password"),
            format!("header backup {there} backup"),
            format!("erase {there} --yes"),
            format!("unmount {there}"),
            format!("unmount {there} --force"),
            format!("sync {there}"),
        ]
        .map(|command| Waiting::start(world, &command));
        thread::sleep(Duration::from_secs(7));
        let ended: Vec<_> = waiting
            .iter_mut()
            .enumerate()
            .map(|(number, command)| command.end_by(if number % 2 == 0 { Signal::INT } else { Signal::TERM }))
            .collect();
        in_time("list", || world.done("list"));
        // What is mounted is known by its name alone.
        in_time("mount", || world.mount());
        in_time("unmount", || world.done("unmount m"));
        drop(wedge);
        for (mut command, (status, took)) in waiting.into_iter().zip(ended) {
            let errors = command.errors();
            let told = format!("{world}: {}: {status:?}, {took:?}: {errors}", command.command);
            assert_eq!(status, Some(130), "{told}");
            let waits = "what it lies on has not answered for 5 seconds";
            assert!(told.contains(&format!("strongroom: waiting for {there}: {waits}")), "{told}");
            assert!(took < Duration::from_secs(3), "{told}");
        }
        world.shell("rmdir n hangs");
    });
}

#[test]
fn a_process_in_a_file_system_that_hangs_holds_no_command_up() {
    if !can_mount() {
        return;
    }
    with_vault("--size 32M --provision quick", |world| {
        let other = Place::of_this_user();
        let Some(_scene) = Scene::new(&other) else { return };

        in_time("check", || world.done("check v.vault --password-file password"));
        world.make_file("disk.img", vec![1; 1 << 20]);
        in_time("import", || {
            world.done(&format!("import disk.img i.vault --password-file password {CHEAP}"));
        });
        in_time("mount", || world.mount());
        let holder = world.holder("exec 9> m/held");
        let busy = in_time("unmount", || world.strongroom("unmount m"));
        assert!(busy.errors.contains(&format!("process {} (sleep)", holder.process())), "{busy:?}");
        let erase = in_time("erase", || world.strongroom("erase v.vault --yes"));
        assert_eq!(erase.status, Some(5), "{erase:?}");
        drop(holder);
        in_time("unmount", || world.done("unmount m"));
    });
}
