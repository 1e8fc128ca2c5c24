//! Limits that a server inherits from the shell that started it.

use std::{
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    memory::can_look_into_processes,
    place::{is_running, leave_to_root, signal, wait_for_end_of, wait_until},
    world::{World, with_each_driver, with_vault},
};

/// A write in the middle of it would fail, and look like a broken disk.
#[test]
fn a_limit_on_file_sizes_below_the_container_is_raised_or_named_before_anything_is_written() {
    with_vault("--size 32M --provision thin", |world| {
        for limit in ["-Sf 8192", "-f 8192"] {
            let script =
                format!("ulimit {limit}; exec ./strongroom mount v.vault m --password-file password");
            let ended = crate::place::ended(world.command("/bin/sh").args(["-c", &script]));
            if ended.status == Some(0) {
                world.shell("seq 1500000 > m/f; sync m/f; rm m/f");
                world.done("unmount m");
                continue;
            }
            assert!(limit.starts_with("-f") && ended.status == Some(6), "{world}: {limit}: {ended:?}");
            assert!(ended.errors.contains("(ulimit -f)"), "{world}: {limit}: {ended:?}");
            assert!(world.listed().is_null(), "{world}: {limit}");
        }
    });
}

#[test]
fn a_limit_on_the_stack_is_raised_or_named() {
    with_vault("--size 32M --provision thin --filesystem none", |world| {
        for (limit, is_raised) in [("-Ss 64", true), ("-s 64", false)] {
            let script = format!("ulimit {limit}; exec ./strongroom info v.vault");
            let ended = crate::place::ended(world.command("/bin/sh").args(["-c", &script]));
            if is_raised || ended.status == Some(0) {
                assert_eq!(ended.status, Some(0), "{world}: {limit}: {ended:?}");
                continue;
            }
            assert_eq!(ended.status, Some(3), "{world}: {limit}: {ended:?}");
            assert!(ended.errors.contains("see ulimit -s"), "{world}: {limit}: {ended:?}");
        }
    });
}

/// After the first loss nothing is written, least of all that the file system is clean: the next mount has it repaired, or says
/// how.
#[test]
fn a_file_system_that_lost_writes_is_not_taken_for_a_clean_one() {
    if !rustix::process::geteuid().is_root() {
        leave_to_root("make a medium that is full");
        return;
    }
    with_vault("--size 200M --provision thin", |world| {
        let medium = Medium::with_mounted_vault(world, "20M");
        world.shell(
            "set +e; for folder in $(seq 25); do mkdir m/$folder
                 for file in $(seq 100); do head -c $((file * 200)) /dev/urandom > m/$folder/$file; done
             done 2> /dev/null || true",
        );
        assert_eq!(world.strongroom("unmount m").status, Some(5), "{world}");
        let forced = world.strongroom("unmount m --force");
        assert_eq!(forced.status, Some(6), "{world}: {forced:?}");
        medium.enlarge("400M");
        world.mount_or_repair();
        world.done("unmount m");
        world.check_file_system();
        world.shell("rm v.vault");
        drop(medium);
    });
}

/// Who wrote was told long ago that it is done: so it is, once somebody makes room.
#[test]
fn what_was_written_before_the_medium_was_full_is_whole_once_there_is_room() {
    if !rustix::process::geteuid().is_root() {
        leave_to_root("make a medium that is full");
        return;
    }
    with_each_driver("--size 64M --provision thin", |world| {
        let medium = Medium::with_mounted_vault(world, "20M");
        let writer = world.shell_in_background(
            "for file in 1 2 3 4; do seq ${file}000000 ${file}999999 > m/$file; done; sync m/4",
        );
        wait_until("the shortage", || world.listed()["unwritten"] == "waiting");
        let list = world.strongroom("list");
        assert!(list.out.contains("v.vault (its disk is full)"), "{list:?}");
        let refused = world.strongroom("unmount m");
        assert_eq!(refused.status, Some(5), "{world}: {refused:?}");
        assert!(refused.errors.contains("is full: what was written last is not saved yet"), "{refused:?}");
        medium.enlarge("400M");
        wait_until("room", || world.listed()["unwritten"].is_null());
        assert_eq!(writer.wait(), Some(0), "{world}");
        world.done("unmount m");
        world.mount();
        world.shell("for file in 1 2 3 4; do seq ${file}000000 ${file}999999 | cmp - m/$file; done");
        world.done("unmount m");
        world.check_file_system();
        world.shell("rm v.vault");
        drop(medium);
    });
}

/// A logout, or the end of a service, is no reason to lose what only lacks room.
#[test]
fn a_signal_does_not_end_a_volume_while_its_disk_is_full() {
    if !rustix::process::geteuid().is_root() {
        leave_to_root("make a medium that is full");
        return;
    }
    with_each_driver("--size 64M --provision thin", |world| {
        let medium = Medium::with_mounted_vault(world, "20M");
        let write = "for file in 1 2 3 4; do seq ${file}000000 ${file}999999 > m/$file; done";
        let mut writer = None;
        if world.driver() == "kernel" {
            // It takes all of it, and knows of no lack before it writes back.
            world.shell(write);
        } else {
            writer = Some(world.shell_in_background(&format!("{write}; sync m/4")));
            wait_until("the shortage", || world.listed()["unwritten"] == "waiting");
        }
        let server = world.server();
        for _ in 0..2 {
            signal(server, Signal::TERM);
            wait_until("the shortage", || world.listed()["unwritten"] == "waiting");
            sleep(Duration::from_secs(5));
            assert!(is_running(server), "{world}");
        }
        medium.enlarge("400M");
        wait_until("room", || world.listed()["unwritten"].is_null());
        assert!(writer.is_none_or(|writer| writer.wait() == Some(0)), "{world}");
        signal(server, Signal::TERM);
        wait_for_end_of(server);
        world.mount();
        world.shell("for file in 1 2 3 4; do seq ${file}000000 ${file}999999 | cmp - m/$file; done");
        world.done("unmount m");
        world.check_file_system();
        world.shell("rm v.vault");
        drop(medium);
    });
}

/// The kernel lets go of a program that is killed only when it is answered.
#[test]
fn a_program_that_is_killed_while_it_waits_for_room_ends_where_strongroom_serves_the_files() {
    if !rustix::process::geteuid().is_root() {
        leave_to_root("make a medium that is full");
        return;
    }
    with_each_driver("--size 64M --provision thin", |world| {
        if world.driver() == "kernel" {
            return; // The kernel itself waits there.
        }
        let medium = Medium::with_mounted_vault(world, "20M");
        world.shell("seq 100000 > m/kept; sync m/kept");
        let writer = world.shell_in_background("exec dd if=/dev/urandom of=m/big bs=1M count=40 2> dd.log");
        wait_until("the shortage", || world.listed()["unwritten"] == "waiting");
        let start = Instant::now();
        signal(writer.process(), Signal::TERM);
        writer.wait();
        assert!(start.elapsed() < Duration::from_secs(15), "{world}: {:?}", start.elapsed());
        medium.enlarge("400M");
        wait_until("room", || world.listed()["unwritten"].is_null());
        world.shell("seq 100000 | cmp - m/kept; echo more > m/more");
        world.done("unmount m");
        world.check_file_system();
        world.shell("rm v.vault dd.log");
        drop(medium);
    });
}

/// Whoever mounts is there, and can make room: nobody waits.
#[test]
fn a_mount_that_a_full_disk_keeps_from_replaying_a_journal_says_so_at_once() {
    if !rustix::process::geteuid().is_root() {
        leave_to_root("make a medium that is full");
        return;
    }
    with_each_driver("--size 200M --provision thin", |world| {
        let medium = Medium::with_mounted_vault(world, "30M");
        world.shell(
            "seq 100000 > m/kept; sync m/kept; for file in 1 2 3; do echo $file > m/$file; done; sync -f m",
        );
        let server = world.server();
        signal(server, Signal::KILL);
        wait_for_end_of(server);
        world.shell("head -c 40M /dev/zero > full/filler || true");
        let start = Instant::now();
        let refused = world.strongroom("mount v.vault m --password-file password");
        assert!(start.elapsed() < Duration::from_secs(30), "{world}: {refused:?}");
        if refused.status != Some(0) {
            assert_eq!(refused.status, Some(6), "{world}: {refused:?}");
            assert!(
                refused.errors.contains("/v.vault is full") && refused.errors.contains("make room there"),
                "{world}: {refused:?}"
            );
            world.shell("rm full/filler");
            world.mount();
        }
        world.shell("seq 100000 | cmp - m/kept; rm -f full/filler");
        world.done("unmount m");
        world.check_file_system();
        world.shell("rm v.vault");
        drop(medium);
    });
}

/// A file system in memory that the test fills. Unmounted on drop.
struct Medium(std::path::PathBuf);

impl Medium {
    /// One that has the world's vault, which is mounted.
    fn with_mounted_vault(world: &World, size: &str) -> Self {
        let medium = Self::mount(world, size);
        world.shell("cp --sparse=always v.vault full; rm v.vault; ln -s full/v.vault v.vault");
        world.mount();
        medium
    }

    fn mount(world: &World, size: &str) -> Self {
        let medium = Self(world.make_folder("full"));
        medium.run(&["-t", "tmpfs", "-o", &format!("size={size},mode=777"), "none"]);
        medium
    }

    fn enlarge(&self, size: &str) {
        self.run(&["-o", &format!("remount,size={size}")]);
    }

    fn run(&self, options: &[&str]) {
        assert!(Command::new("mount").args(options).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Medium {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().unwrap();
    }
}

#[test]
fn a_container_that_is_cut_off_under_a_mount_syncs_nothing_any_more() {
    with_vault("--size 32M --provision quick", |world| {
        world.mount();
        let server = world.server();
        world.shell("truncate -s 12M v.vault");
        let wrote =
            world.shell("dd if=/dev/urandom of=m/big bs=1M count=4 conv=fsync 2> dd.log || echo refused");
        assert_eq!(wrote, "refused\n", "{world}");
        // Another program wrote into the container: that is told first.
        assert_eq!(world.strongroom("unmount m").status, Some(5), "{world}");
        assert_eq!(world.strongroom("unmount m --force").status, Some(6), "{world}");
        wait_for_end_of(server);
    });
}

/// What was read twice lies in a mapping of the container: cutting that off must cost the reader an error, not the server.
#[test]
fn a_container_that_is_cut_off_under_a_mount_is_an_error_to_readers() {
    with_vault("--size 32M --provision quick --filesystem none", |world| {
        world.done("mount --block v.vault m --password-file password");
        let server = world.server();
        let read = "dd if=m/volume of=/dev/null bs=1M iflag=direct 2> dd.log && echo whole || echo refused";
        for _ in 0..2 {
            assert_eq!(world.shell(read), "whole\n", "{world}");
        }
        if can_look_into_processes() {
            let maps = std::fs::read_to_string(format!("/proc/{server}/maps")).unwrap();
            let is_mapped = maps.lines().any(|line| line.ends_with("/v.vault"));
            let known = ["ext2/ext3", "tmpfs", "xfs", "btrfs"];
            let file_system = world.shell("stat -f -c %T v.vault");
            assert!(is_mapped || !known.contains(&file_system.trim()), "{world}: {file_system} {maps}");
        }
        // In the middle of a page, of a sector and of a request.
        for size in ["20000001", "9437184", "6M"] {
            world.shell(&format!("truncate -s {size} v.vault"));
            assert_eq!(world.shell(read), "refused\n", "{world}: {size}");
            assert_eq!(world.server(), server, "{world}: the server lives");
        }
        // Its own memory: what the kernel caches of the container is the kernel's, also where it is mapped.
        let own = status_kib(server, "RssAnon:") + status_kib(server, "VmPTE:");
        assert!(own < 64 << 10, "{world}: {own} KiB");
        let _ = world.strongroom("unmount m --force");
        wait_for_end_of(server);
    });
}

/// Requests of 1 MiB in all threads at once, then all of it in small ones.
const HEAVY: &str = "
    for part in 0 1 2 3 4 5 6 7; do
        dd if=/dev/zero of=m/volume bs=1M count=7 seek=$((7 * part)) conv=notrunc,fsync 2> dd.log &
    done
    wait
    dd if=m/volume of=/dev/null bs=1M count=56 2> dd.log
    dd if=m/volume of=/dev/null bs=4k count=14336 2> dd.log";

#[test]
fn a_server_stays_small_and_opens_at_once_whatever_the_size_of_the_volume() {
    // The file systems under the tests end at 16 TiB.
    for size in ["64M", "15T"] {
        with_vault(&format!("--size {size} --provision thin --filesystem none"), |world| {
            world.shell("exec ./strongroom --quiet mount --block v.vault m --password-file password");
            let server = world.server();
            let opening = processor_seconds(server);
            assert!(opening < 1.0, "{world}: opening {size} took {opening} s of a processor");
            world.shell(HEAVY);
            let peak = status_kib(server, "VmHWM:"); // The most that it ever had.
            assert!(peak < 64 << 10, "{world}: {peak} KiB for {size}");
            world.done("unmount m");
            wait_for_end_of(server);
        });
    }
}

/// A line of a process's `status`, in KiB.
fn status_kib(process: u64, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What a process has computed up to now: utime and stime of proc(5), in hundredths of a second.
fn processor_seconds(process: u64) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

#[test]
fn an_error_that_the_kernel_noted_in_a_file_system_is_told_at_its_end_and_repaired_at_the_next_mount() {
    with_vault("--size 32M", |world| {
        if !world.is_root() {
            leave_to_root("have ext4 note an error");
            return;
        }
        world.done("mount v.vault m --password-file password");
        world.shell("echo 1 > /sys/fs/ext4/$(basename $(findmnt -no SOURCE m))/trigger_fs_error");
        let ended = world.strongroom("unmount m");
        let told = "noted an error in the file system";
        assert!(ended.status == Some(6) && ended.errors.contains(told), "{world}: {ended:?}");
        let again = world.strongroom("mount v.vault m --password-file password");
        assert!(again.status == Some(0) && !again.errors.contains("noted errors"), "{world}: {again:?}");
        world.done("unmount m");
    });
}
