//! Sessions on the running system: what stays, what goes, and what survives when a server, a driver or a user misbehaves.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    place::{CHEAP, Place, can_mount, children, field, is_running, signal, wait_for_end_of, wait_until},
    world::{World, with_each_driver, with_vault},
};

const OPTIONS: &str = "--size 32M --provision quick";
/// Three megabytes, in a file that nobody synced: all of it may stay in caches.
const WRITE: &str = "seq 400000 > m/written";
/// The same once more, compared.
const COMPARE: &str = "seq 400000 | cmp - m/written";

/// Writes a file that has reached the container when this returns.
fn write_synced(world: &World) {
    world.shell("seq 400000 | dd of=m/synced bs=1M iflag=fullblock conv=fsync status=none");
}

fn assert_synced_file_is_there(world: &World) {
    world.shell("seq 400000 | cmp - m/synced");
}

/// Kills the server, and waits until it is no more.
fn kill(world: &World) {
    let server = world.server();
    signal(server, Signal::KILL);
    wait_for_end_of(server);
}

/// A command that does not hang has ended by now, on a slow machine too.
fn assert_in_time(start: Instant) {
    assert!(start.elapsed() < Duration::from_secs(50), "{:?}", start.elapsed());
}

#[test]
fn a_killed_server_is_cleared_by_unmount_and_what_was_synced_survives() {
    with_each_driver(OPTIONS, |world| {
        world.mount();
        write_synced(world);
        world.shell(WRITE);
        kill(world);
        assert_eq!(world.listed()["dead"], true, "{world}: list shows what a killed server left");
        let unmounted = world.strongroom("unmount v.vault");
        assert_eq!(unmounted.status, Some(6), "{world}: {unmounted:?}");
        assert!(
            unmounted.errors.contains("its server was killed: what was not synced is lost"),
            "{unmounted:?}"
        );
        world.assert_clean();
        world.mount_or_repair();
        assert_synced_file_is_there(world);
        world.done("unmount v.vault");
    });
}

#[test]
fn no_signal_but_kill_takes_a_server_away_from_what_was_written() {
    with_each_driver(OPTIONS, |world| {
        world.mount();
        world.shell(WRITE);
        for harmless in [Signal::HUP, Signal::ALARM, Signal::USR1, Signal::USR2] {
            signal(world.server(), harmless);
        }
        world.shell(COMPARE);
        let server = world.server();
        signal(server, Signal::QUIT);
        wait_for_end_of(server);
        world.assert_clean();
        world.mount();
        world.shell(COMPARE);
        world.done("unmount v.vault");
    });
}

#[test]
fn a_killed_server_is_cleared_by_the_next_mount() {
    with_each_driver(OPTIONS, |world| {
        world.mount();
        write_synced(world);
        let server = world.server();
        kill(world);
        world.mount_or_repair();
        assert_ne!(world.server(), server);
        assert_synced_file_is_there(world);
        world.done("unmount v.vault");
    });
}

#[test]
fn a_volume_in_use_stays_and_its_user_is_named() {
    with_each_driver(OPTIONS, |world| {
        world.mount();
        let server = world.server();
        let holder = world.holder("cd m");
        let busy = world.strongroom("unmount v.vault");
        assert_eq!(busy.status, Some(5), "{world}: {busy:?}");
        assert!(busy.errors.contains(&format!("process {} (sleep)", holder.process())), "{busy:?}");
        assert_eq!(world.server(), server, "{world}: a refused unmount changes nothing");
        drop(holder);
        world.done("unmount v.vault");
        assert!(!is_running(server));
    });
}

#[test]
fn force_takes_down_a_volume_in_use_and_keeps_what_was_written() {
    with_each_driver(OPTIONS, |world| {
        world.mount();
        let server = world.server();
        world.shell(WRITE);
        let holder = world.holder("cd m; exec 9> held");
        world.done("unmount v.vault --force");
        assert!(!is_running(server), "{world}: the process with the keys has ended");
        world.assert_clean();
        drop(holder);
        world.mount();
        world.shell(COMPARE);
        world.done("unmount v.vault");
        world.check_file_system();
    });
}

#[test]
fn sigterm_takes_down_even_a_volume_in_use() {
    with_each_driver(OPTIONS, |world| {
        world.mount();
        let server = world.server();
        world.shell(WRITE);
        let holder = world.holder("cd m");
        signal(server, Signal::TERM);
        wait_for_end_of(server);
        world.assert_clean();
        drop(holder);
        world.check_file_system();
        world.mount();
        world.shell(COMPARE);
        world.done("unmount v.vault");
    });
}

#[test]
fn unmounting_from_outside_ends_the_server() {
    with_each_driver(OPTIONS, |world| {
        world.mount();
        let server = world.server();
        world.shell(if world.is_root() { "umount m" } else { "fusermount3 -u m" });
        wait_for_end_of(server);
    });
}

#[test]
fn a_volume_detached_by_hand_shows_no_mount_point_and_yields_to_force() {
    with_each_driver(OPTIONS, |world| {
        if world.driver() == "kernel" {
            return;
        }
        world.mount();
        let server = world.server();
        // Writes late, once it is told to.
        let user = world.shell_in_background(
            "exec 9> m/open; touch opened; until [ -e late ]; do sleep 0.05; done
             echo late | dd conv=fsync status=none >&9; touch written; exec sleep 10000",
        );
        wait_until("an open file", || world.path("opened").exists());
        world.shell(if world.is_root() { "umount -l m" } else { "fusermount3 -u -z m" });
        let listed = world.listed();
        assert!(listed["mountpoint"].is_null(), "{listed}");
        // The server may not go by itself.
        sleep(Duration::from_millis(300));
        world.shell("touch late");
        wait_until("a write", || world.path("written").exists());

        let busy = world.strongroom("unmount v.vault");
        assert_eq!(busy.status, Some(5), "{world}: {busy:?}");
        let start = Instant::now();
        world.done("unmount v.vault --force");
        assert_in_time(start);
        assert!(!is_running(server));
        world.assert_clean();
        drop(user);
        world.mount();
        assert_eq!(world.shell("cat m/open"), "late\n");
        world.done("unmount v.vault");
    });
}

#[test]
fn an_interrupted_mount_leaves_nothing() {
    with_each_driver(OPTIONS, |world| {
        let mut interrupted = 0;
        for delay in [0, 50, 100, 150, 200, 300] {
            let mount = world.shell_in_background(&format!("exec ./strongroom {}", world.mount_command()));
            sleep(Duration::from_millis(delay));
            // It may have ended by itself.
            if is_running(mount.process()) {
                signal(mount.process(), Signal::INT);
            }
            match mount.wait() {
                Some(0) => drop(world.done("unmount v.vault")),
                _ => interrupted += 1,
            }
            world.assert_clean();
        }
        assert!(interrupted > 0, "{world}: it was too fast");
    });
}

#[test]
fn a_volume_without_file_system_leaves_nothing() {
    with_each_driver("--size 32M --provision quick --filesystem none", |world| {
        let refused = world.strongroom(&world.mount_command());
        assert_eq!(refused.status, Some(4), "{world}: {refused:?}");
        assert!(refused.errors.contains("no file system that strongroom knows"), "{refused:?}");
    });
}

#[test]
fn a_killed_create_leaves_neither_container_nor_server() {
    if !can_mount() {
        return;
    }
    let place = Place::of_this_user();
    // Of a kind that a program makes, which needs a server; large, so that it takes a while.
    let create = place.shell_in_background(&format!(
        "exec ./strongroom create killed.vault --size 64G --provision thin --filesystem xfs {CHEAP} --password-file password"
    ));
    let mut server = None;
    wait_until("the private server's start", || {
        let is_server = |&child: &u64| {
            let command = std::fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
            command.starts_with("strongroom\0__serve")
        };
        server = children(create.process()).into_iter().find(is_server);
        server.is_some()
    });
    drop(create);
    wait_for_end_of(server.unwrap());
    assert!(!place.path("killed.vault").exists());
    place.assert_clean();
}

#[test]
fn the_server_has_no_terminal_no_core_and_no_foreign_descriptor() {
    with_vault(OPTIONS, |world| {
        // A pipe that is handed down unasked. The shell would wait for the server to end, if it held that.
        world.shell(&format!("./strongroom {} 3>&1 > mounted", world.mount_command()));
        let server = world.server();
        assert_eq!(field(server, 2), Some(server), "it leads a session of its own");
        assert_eq!(field(server, 3), Some(0), "it has no terminal");
        let limits = std::fs::read_to_string(format!("/proc/{server}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_ascii_whitespace().nth(4), Some("0"));
        world.done("unmount v.vault");
    });
}
