//! Whole walks with the real command and real mounts, as root and as an ordinary user.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

mod application;
mod builtin;
mod bus;
mod closing;
mod cut_short;
mod defaults;
mod errno;
mod fstab;
mod growing;
mod growth_kills;
mod headers;
mod idle;
mod images;
mod keys;
mod kills;
mod leaks;
mod limits;
mod long_names;
mod looks;
mod losses;
mod losses_matrix;
mod made_folder;
mod memory;
mod memory_limits;
mod neighbours;
mod nested;
mod opening;
mod options;
mod others;
mod pieces;
#[path = "../place/mod.rs"]
mod place;
mod random_writes;
mod reencryption;
mod refusing;
mod remembered;
mod repair;
mod replaced;
mod secret_service;
mod sessions;
mod shared;
mod slow;
mod space;
mod stacked;
mod stick;
mod syncing;
mod travelling;
mod udisks;
mod unseen;
mod veracrypt;
mod world;

use std::os::unix::fs::FileExt;

use place::{PASSWORD, wait_for_end_of};
use rustix::process::Signal;
use world::{with_each_driver, with_vault};

/// Copies some thousand real files into the mount, at most 40 MB.
const COPY_FILES: &str = "
    find /usr/share -xdev -type f -size -100k -readable | head -n 3000 > files
    tar -cf - --files-from=files 2> /dev/null | tar -xf - -C m";
const HASHES: &str = "cd m && find . -type f -print0 | sort -z | xargs -0 sha256sum";

#[test]
fn files_come_back_equal_and_nothing_of_them_stands_in_clear() {
    with_vault("--size 160M", |world| {
        world.mount();
        world.shell(COPY_FILES);
        let before = world.shell(HASHES);
        assert!(before.lines().count() > 500, "only {} files to copy", before.lines().count());
        leaks::assert_server_is_closed(world);
        leaks::assert_nothing_in_clear(world);
        world.done("unmount v.vault");
        world.assert_clean();

        world.mount();
        assert!(world.shell(HASHES) == before, "{world}: the files differ");
        world.done("unmount m");
        world.check_file_system();
        leaks::assert_nothing_in_clear(world);
    });
}

#[test]
fn every_provisioning_and_sector_size_holds_files() {
    for options in
        ["--provision thin", "--provision quick --sector-size 512", "--provision thin --sector-size 512"]
    {
        with_vault(&format!("--size 64M {options}"), |world| {
            world.mount();
            world.shell("head -c 20000000 /dev/urandom > m/a; cp m/a m/b; rm m/a; mkdir m/d; echo text > m/d/f; sync -f m");
            let before = world.shell(HASHES);
            world.done("unmount m");
            world.mount();
            assert_eq!(world.shell(HASHES), before, "{world} {options}");
            world.done("unmount m");
            world.check_file_system();
        });
    }
}

#[test]
fn a_read_only_mount_leaves_the_container_as_it_is() {
    with_each_driver("--size 32M --provision quick", |world| {
        world.mount();
        world.shell("echo kept > m/f");
        world.done("unmount m");
        let before = world.bytes("v.vault");
        world.done(&format!("{} --read-only", world.mount_command()));
        let told = world.shell("cat m/f; touch m/g 2>&1 || true");
        assert!(told.starts_with("kept\n") && told.ends_with(": Read-only file system\n"), "{world}: {told}");
        // A second reader is let in, a writer is not.
        world.shell("mkdir other");
        world.done("mount v.vault other --read-only --block --password-file password");
        let writer = world.strongroom("mount v.vault other --password-file password");
        assert_eq!(writer.status, Some(5));
        world.done("unmount other");
        world.done("unmount m");
        assert!(world.bytes("v.vault") == before, "{world}: reading wrote");
    });
}

#[test]
fn a_busy_volume_names_its_holders_and_force_takes_it_away() {
    with_vault("--size 32M --provision quick", |world| {
        world.mount();
        let holder = world.holder("exec 9> m/held");
        let busy = world.strongroom("unmount m");
        assert_eq!(busy.status, Some(5));
        let named = format!("process {} (sleep)", holder.process());
        assert!(busy.errors.contains(&named), "{}", busy.errors);
        assert_ne!(world.listed(), serde_json::Value::Null, "a refused unmount changes nothing");

        let server = world.server();
        world.done("unmount m --force");
        wait_for_end_of(server);
        world.assert_clean();
        drop(holder);
        world.mount();
        world.done("unmount v.vault");
        world.check_file_system();
    });
}

#[test]
fn a_mounted_container_is_not_erased() {
    with_vault("--size 32M --provision quick", |world| {
        world.mount();
        let output = world.strongroom("erase v.vault --yes");
        assert_eq!(output.status, Some(5), "{world}");
        assert!(output.errors.contains("cannot erase v.vault: it is mounted on"), "{output:?}");
        world.done("unmount m");
        world.check_file_system();
        world.done("erase v.vault --yes");
        assert_eq!(world.strongroom("mount v.vault m --password-file password").status, Some(4));
    });
}

#[test]
fn a_mounted_container_is_checked_and_left_as_it_is() {
    with_vault("--size 32M", |world| {
        world.mount();
        let report = world.json("check v.vault --password-file password --read-data");
        assert_eq!(report["ok"], true, "{report}");
        let findings = report["findings"].as_array().unwrap();
        let says =
            |text: &str| findings.iter().any(|finding| finding["message"].as_str().unwrap().contains(text));
        assert!(
            says("mounted on ") && says("opens") && says("authentic") && says("all of it was read"),
            "{report}"
        );
        assert!(findings.iter().all(|finding| finding["severity"] == "info"), "{report}");
        world.done("unmount m");
        let before = world.bytes("v.vault");
        world.done("check v.vault --password-file password");
        assert!(world.bytes("v.vault") == before, "{world}: checking wrote");
    });
}

#[test]
fn sigterm_ends_a_mount_cleanly() {
    with_vault("--size 32M --provision quick", |world| {
        world.mount();
        world.shell("echo kept > m/f");
        let server = world.server();
        place::signal(server, Signal::TERM);
        wait_for_end_of(server);
        world.assert_clean();
        world.check_file_system();
        world.mount();
        assert_eq!(world.shell("cat m/f"), "kept\n");
        world.done("unmount m");
    });
}

#[test]
fn a_damaged_copy_is_healed_on_the_next_mount_and_said_so() {
    with_vault("--size 32M --provision quick", |world| {
        let file = std::fs::OpenOptions::new().write(true).open(world.path("v.vault")).unwrap();
        file.write_all_at(&vec![0; 65_536], 0).unwrap();
        drop(file);
        let info = world.json("info v.vault");
        assert_eq!(info["headers"][0]["state"], "missing");
        let output = world.strongroom("mount v.vault m --password-file password");
        assert_eq!(output.status, Some(0), "{output:?}");
        assert!(output.errors.contains("header copy A was missing"), "{output:?}");
        world.done("unmount m");
        let info = world.json("info v.vault");
        assert_eq!(info["headers"][0]["state"], "current");
    });
}

#[test]
fn the_password_is_in_no_argument_and_no_environment() {
    with_vault("--size 32M --provision quick", |world| {
        world.mount();
        for name in ["cmdline", "environ"] {
            let Ok(text) = std::fs::read(format!("/proc/{}/{name}", world.server())) else { continue };
            assert!(!String::from_utf8_lossy(&text).contains(PASSWORD), "{name}");
        }
        world.done("unmount m");
    });
}
