//! What keeps a volume in use and shows in no table of mounts, and a server that nobody can reach.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    place::{Who, is_skipped, wait_for_end_of, wait_until},
    world::{World, with_who},
};

const OPTIONS: &str = "--size 32M --provision quick";
const WRITE: &str = "seq 400000 > m/written";

fn assert_written(world: &World) {
    world.mount();
    world.shell("seq 400000 | cmp - m/written");
    world.done("unmount m");
}

#[test]
fn who_has_the_loop_device_open_is_named_and_waited_for() {
    with_who(Who::Root, OPTIONS, |world| {
        world.mount();
        world.shell(WRITE);
        let device = world.shell("findmnt -no SOURCE m").trim().to_owned();
        let holder = world.holder(&format!("exec 9<{device}"));
        let server = world.server();
        let refused = world.strongroom("unmount m");
        assert_eq!(refused.status, Some(5), "{refused:?}");
        let named = format!("process {} (sleep)", holder.process());
        assert!(refused.errors.contains(&named), "{refused:?}");
        assert!(world.listed()["mountpoint"].is_null(), "it is served on");
        drop(holder);
        wait_for_end_of(server);
        world.assert_clean();
        assert_written(world);
    });
}

#[test]
fn force_says_that_something_unseen_goes_on_using_the_volume() {
    for who in [Who::Root, Who::RootInServer] {
        with_who(who, OPTIONS, |world| {
            world.mount();
            world.shell(WRITE);
            // Only a descriptor holds the namespace then.
            let told = world.shell(
                "unshare -m --propagation private sh -c 'touch apart; cd /; exec sleep 10000' & other=$!
                 until [ -e apart ]; do sleep 0.1; done; exec 9< /proc/$other/ns/mnt
                 kill $other; wait $other || true; rm apart
                 ./strongroom unmount m --force 2>&1 || echo status $?",
            );
            assert!(
                told.contains("something that cannot be seen from here still uses it"),
                "{world}: {told}"
            );
            assert!(told.ends_with("status 6\n"), "{world}: {told}");
            assert_written(world);
        });
    }
}

/// A mount without a place, which is open in a process that does nothing else.
const OPEN_TREE: &str = "import ctypes, time
c = ctypes.CDLL(None)
assert c.syscall(428, -100, b'm', 1 | 0o2000000) >= 0
open('apart', 'w').close()
time.sleep(10000)";

#[test]
fn force_says_that_a_mount_without_a_place_goes_on_using_the_volume() {
    with_who(Who::Root, OPTIONS, |world| {
        if world.shell("command -v python3 > /dev/null || echo none") == "none\n" {
            is_skipped("python3 makes the system call");
            return;
        }
        world.mount();
        world.shell(WRITE);
        world.make_file("open.py", OPEN_TREE);
        let holder = world.shell_in_background("exec python3 open.py");
        wait_until("a mount without a place", || world.path("apart").exists());
        let named = format!("process {} (python3)", holder.process());
        let refused = world.strongroom("unmount m");
        assert_eq!(refused.status, Some(5), "{world}: {refused:?}");
        assert!(refused.errors.contains(&named), "{world}: {refused:?}");
        let forced = world.strongroom("unmount v.vault --force");
        assert_eq!(forced.status, Some(6), "{world}: {forced:?}");
        assert!(forced.errors.contains("still uses it"), "{world}: {forced:?}");
        drop(holder);
        assert_written(world);
    });
}

/// A control group of the first version that is frozen; thawed and removed on drop.
struct Freezer(PathBuf);

impl Freezer {
    fn freeze(process: u64) -> Option<Self> {
        let group = PathBuf::from(format!("/sys/fs/cgroup/freezer/strongroom-test-{process}"));
        fs::create_dir(&group).ok()?;
        let freezer = Self(group);
        fs::write(freezer.0.join("cgroup.procs"), process.to_string()).ok()?;
        fs::write(freezer.0.join("freezer.state"), "FROZEN").ok()?;
        Some(freezer)
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
        let processes = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for process in processes.lines() {
            let _ = fs::write("/sys/fs/cgroup/freezer/cgroup.procs", process);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn force_does_not_wait_for_a_server_that_is_frozen_and_says_how_it_ends() {
    // What the kernel has for this file system goes to the server at once: nobody else's sync waits for it.
    with_who(Who::RootInServer, &format!("{OPTIONS} --filesystem exfat"), |world| {
        world.mount();
        world.shell(&format!("{WRITE}; sync m/written"));
        let server = world.server();
        let Some(freezer) = Freezer::freeze(server) else {
            is_skipped("no freezer among the control groups");
            world.done("unmount m");
            return;
        };
        let start = Instant::now();
        let refused = world.strongroom("unmount m --force");
        let waited = start.elapsed();
        let way_out = format!("echo THAWED > {}/freezer.state", freezer.0.display());
        drop(freezer);
        assert_eq!(refused.status, Some(5), "{refused:?}");
        assert!(refused.errors.contains("is frozen by its control group"), "{refused:?}");
        assert!(refused.errors.contains(&way_out), "{refused:?}");
        assert!(waited < Duration::from_secs(40), "{waited:?}");
        wait_for_end_of(server);
        wait_until("its end", || world.listed().is_null());
        assert_written(world);
    });
}
