//! Processes of others that hang in the kernel: no command of ours hangs beside them.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::geteuid,
};

use crate::{
    place::{CHEAP, Place, can_mount, is_skipped},
    world::with_vault,
};

/// A FUSE mount whose server lets everybody in and then never answers. Ended when dropped.
struct Wedge {
    path: PathBuf,
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
        let options = std::ffi::CString::new(options).unwrap();
        mount("wedge", path, "fuse.wedge", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())
            .unwrap();
        let server = thread::spawn(move || serve(device));
        Some(Self { path: path.to_path_buf(), server: Some(server) })
    }
}

impl Drop for Wedge {
    fn drop(&mut self) {
        // Forced: that ends the connection, and with it all that waits there.
        unmount(&self.path, UnmountFlags::DETACH | UnmountFlags::FORCE).unwrap();
        self.server.take().unwrap().join().unwrap();
    }
}

/// Answers the greeting (`FUSE_INIT`), and that there is nothing to ask about access (`FUSE_ACCESS`, `ENOSYS`); takes all else
/// without a word, until the connection ends.
fn serve(mut device: File) {
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
        let (error, body) = match word(4) {
            INIT => {
                let mut body = vec![0; 64];
                body[..4].copy_from_slice(&7_u32.to_le_bytes());
                body[4..8].copy_from_slice(&31_u32.to_le_bytes());
                body[20..24].copy_from_slice(&4096_u32.to_le_bytes());
                (0, body)
            }
            ACCESS => (-ENOSYS, Vec::new()),
            _ => continue,
        };
        let len = u32::try_from(16 + body.len()).unwrap();
        let answer = [&len.to_le_bytes()[..], &i32::to_le_bytes(error), &unique, &body].concat();
        device.write_all(&answer).unwrap();
    }
}

/// Longer than a look into all processes, key derivation and a busy machine take; a command that hangs takes for ever.
fn in_time<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    assert!(start.elapsed() < Duration::from_secs(60), "{what}: {:?}", start.elapsed());
    result
}

#[test]
fn a_process_in_a_file_system_that_hangs_holds_no_command_up() {
    if !can_mount() {
        return;
    }
    with_vault("--size 32M --provision quick", |world| {
        let other = Place::of_this_user();
        let Some(_wedge) = Wedge::new(&other.path("m")) else { return };
        // Somebody whose folder it is, and somebody who waits for a file there.
        let _inside = other.holder("cd m");
        let _waiting = other.shell_in_background("exec cat m/file");

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
