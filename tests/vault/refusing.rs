//! Media that take no writes for a while: frozen file systems, files that were made immutable. Nothing is taken away before what was
//! written is safe.

use std::{path::PathBuf, process::Command};

use rustix::process::Signal;

use crate::{
    place::{Who, signal, wait_for_end_of, wait_until},
    world::{World, with_each_driver, with_who},
};

const OPTIONS: &str = "--size 32M --provision quick";
/// Three megabytes that nobody synced.
const WRITE: &str = "seq 400000 > m/written";

fn assert_written_is_in(world: &World, name: &str) {
    world.done(&world.mount_command().replacen("v.vault", name, 1));
    world.shell("seq 400000 | cmp - m/written");
    world.done("unmount m");
}

/// A frozen file system, thawed on drop: whoever writes there hangs.
struct Frozen(PathBuf);

impl Frozen {
    fn freeze(world: &World, place: &str) -> Self {
        let frozen = Self(world.path(place));
        assert!(Command::new("fsfreeze").arg("-f").arg(&frozen.0).status().unwrap().success());
        frozen
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // It may be gone.
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.0).output();
    }
}

/// A disk of its own with the container on it. Gone on drop.
struct Disk(PathBuf);

impl Disk {
    fn with_container(world: &World) -> Self {
        world.shell("mkdir disk; truncate -s 64M image; mkfs.ext4 -q image; mount -o loop image disk; mv v.vault disk");
        world.shell("chmod 777 disk; ln -s disk/v.vault v.vault");
        Self(world.path("disk"))
    }

    fn end(self, world: &World) {
        world.shell("umount disk");
        std::mem::forget(self);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(self.0.join("v.vault")).output();
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_volume_that_is_frozen_is_not_unmounted_until_it_is_thawed() {
    with_who(Who::Root, OPTIONS, |world| {
        world.mount();
        world.shell(WRITE);
        let frozen = Frozen::freeze(world, "m");
        for command in ["unmount m", "unmount m --save-as copy"] {
            let refused = world.strongroom(command);
            let hint = format!("first: fsfreeze -u {}", world.path("m").display());
            assert!(refused.status == Some(5) && refused.errors.contains(&hint), "{command}: {refused:?}");
        }
        world.shell("mountpoint m");
        drop(frozen);
        world.done("unmount m");
        assert_written_is_in(world, "v.vault");
    });
}

/// Where nobody can be asked, or nobody can thaw it any more, it is thawed.
#[test]
fn a_volume_that_is_frozen_ends_whole_by_force_by_signal_and_from_outside() {
    with_who(Who::Root, OPTIONS, |world| {
        for how in ["unmount m --force", "SIGTERM", "umount"] {
            world.mount();
            let server = world.server();
            world.shell(WRITE);
            let frozen = Frozen::freeze(world, "m");
            match how {
                "SIGTERM" => signal(server, Signal::TERM),
                "umount" => drop(world.shell("umount m")),
                force => drop(world.done(force)),
            }
            wait_for_end_of(server);
            drop(frozen);
            world.assert_clean();
            assert_written_is_in(world, "v.vault");
        }
    });
}

#[test]
fn a_volume_whose_container_is_on_a_frozen_file_system_waits_for_its_thaw() {
    with_who(Who::Root, OPTIONS, |world| {
        let disk = Disk::with_container(world);
        world.mount();
        world.shell(WRITE);
        let frozen = Frozen::freeze(world, "disk");
        let refused = world.strongroom("unmount m");
        let hint = format!("first: fsfreeze -u {}", world.path("disk").display());
        assert!(refused.status == Some(5) && refused.errors.contains(&hint), "{refused:?}");
        drop(frozen);
        world.done("unmount m");
        assert_written_is_in(world, "v.vault");
        disk.end(world);
    });
}

#[test]
fn a_container_that_was_made_immutable_keeps_its_volume_until_it_can_be_written_again() {
    for (who, options) in [
        (Who::Root, OPTIONS.to_owned()),
        (Who::RootInServer, OPTIONS.to_owned()),
        (Who::RootInServer, format!("{OPTIONS} --filesystem vfat")),
    ] {
        with_who(who, &options, |world| {
            let disk = Disk::with_container(world);
            world.mount();
            world.shell("chattr +i disk/v.vault");
            let writer = world.shell_in_background(&format!("{WRITE}; sync m/written"));
            wait_until("the refusal", || world.listed()["unwritten"] == "forbidden");
            let list = world.strongroom("list");
            assert!(list.out.contains("v.vault (it cannot be written)"), "{list:?}");
            let refused = world.strongroom("unmount m");
            assert!(
                refused.status == Some(5) && refused.errors.contains("chattr -i"),
                "{world}: {refused:?}"
            );
            assert!(refused.errors.contains("--save-as FILE"), "{world}: {refused:?}");
            world.shell("chattr -i disk/v.vault");
            assert_eq!(writer.wait(), Some(0), "{world}");
            wait_until("the writes", || world.listed()["unwritten"].is_null());
            world.done("unmount m");
            assert_written_is_in(world, "v.vault");
            disk.end(world);
        });
    }
}

#[test]
fn what_an_immutable_container_could_not_take_is_in_the_copy_that_was_asked_for() {
    with_who(Who::Root, OPTIONS, |world| {
        let disk = Disk::with_container(world);
        world.mount();
        world.shell("chattr +i disk/v.vault");
        world.shell(WRITE);
        assert_eq!(world.strongroom("unmount m").status, Some(5));
        // Once it was moved to a copy, only that has all of it.
        let holder = world.holder("cd m");
        assert_eq!(world.strongroom("unmount m --save-as busy").status, Some(5));
        drop(holder);
        world.shell("chattr -i disk/v.vault");
        let refused = world.strongroom("unmount m");
        assert!(refused.status == Some(5) && refused.errors.contains("was replaced"), "{refused:?}");
        world.done("unmount m --save-as saved.vault");
        assert_written_is_in(world, "saved.vault");
        disk.end(world);
    });
}

/// Where strongroom serves the files, whoever writes waits for room himself, and is told.
#[test]
fn what_a_full_disk_had_no_room_for_is_in_the_copy_that_was_asked_for() {
    with_who(Who::Root, "--size 48M --provision thin", |world| {
        world.shell("mkdir small; mount -t tmpfs -o size=20M none small; mv v.vault small");
        world.shell("ln -s small/v.vault v.vault");
        world.mount();
        world.shell("echo kept > m/before; sync -f m; head -c 20M /dev/zero > small/fill || true");
        world.shell(WRITE);
        let refused = world.strongroom("unmount m");
        assert!(refused.status == Some(5), "{refused:?}");
        assert!(refused.errors.contains("on another disk with --save-as FILE"), "{refused:?}");
        let full = world.strongroom("unmount m --save-as small/saved.vault");
        assert!(full.status == Some(6) && full.errors.contains("it stays as it is"), "{full:?}");
        assert!(world.listed()["mountpoint"].is_string());
        world.done("unmount m --save-as saved.vault");
        assert_written_is_in(world, "saved.vault");
        world.shell("umount small; rmdir small; rm v.vault");
    });
}

/// Whoever waits is let go after a minute, and whoever syncs as well, and is told what is not in the container.
fn wait_a_minute_for_an_immutable_container(who: Who, options: &str) {
    with_who(who, options, |world| {
        let disk = Disk::with_container(world);
        world.mount();
        world.shell("echo kept > m/before; sync m/before; chattr +i disk/v.vault");
        let writer = world.shell_in_background(&format!("{WRITE} && timeout 150 sync m/written"));
        wait_until("the refusal", || world.listed()["unwritten"] == "forbidden");
        let sync = world.shell_in_background("timeout 150 sync -f m").wait();
        assert!(sync.is_some_and(|status| status != 124), "{world}: {sync:?}");
        let status = writer.wait();
        assert!(status.is_some_and(|status| ![0, 124].contains(&status)), "{world}: {status:?}");
        assert_eq!(world.listed()["unwritten"], "lost", "{world}");
        let list = world.strongroom("list");
        assert!(list.errors.contains("not everything that was written is in /"), "{list:?}");
        let refused = world.strongroom("unmount m");
        let told = "unmount with --force and mount it again";
        assert!(refused.status == Some(5) && refused.errors.contains(told), "{world}: {refused:?}");
        world.shell("chattr -i disk/v.vault");
        let forced = world.strongroom("unmount m --force");
        assert_eq!(forced.status, Some(6), "{world}: {forced:?}");
        world.mount_or_repair();
        world.shell("grep -q kept m/before");
        world.done("unmount m");
        disk.end(world);
    });
}

#[test]
fn who_writes_to_an_immutable_container_waits_a_minute_and_hears_that_it_was_not_written() {
    wait_a_minute_for_an_immutable_container(Who::Root, OPTIONS);
}

#[test]
fn who_writes_to_an_immutable_container_without_the_kernels_driver_waits_a_minute_as_well() {
    let options = format!("{OPTIONS} --filesystem exfat");
    wait_a_minute_for_an_immutable_container(Who::RootInServer, &options);
}

/// Lets the server write no more than the first bytes of a file from now on.
fn limit(world: &World, limits: &str) {
    world.shell(&format!("prlimit --pid {} --fsize={limits}", world.server()));
}

#[test]
fn a_limit_on_file_sizes_that_a_server_may_raise_loses_nothing() {
    with_each_driver(OPTIONS, |world| {
        world.mount();
        limit(world, "4096:");
        world.shell(WRITE);
        world.done("unmount m");
        assert_written_is_in(world, "v.vault");
    });
}

#[test]
fn what_a_limit_on_file_sizes_keeps_back_waits_and_is_not_lost_without_a_word() {
    with_who(Who::User, OPTIONS, |world| {
        world.mount();
        world.shell("echo kept | dd of=m/before conv=fsync status=none");
        limit(world, "4096:4096");
        let writer = world.shell_in_background(WRITE);
        wait_until("a write", || world.strongroom("list").out.contains("(it cannot be written)"));
        let refused = world.strongroom("unmount m");
        assert_eq!(refused.status, Some(5), "{refused:?}");
        assert!(refused.errors.contains("prlimit --fsize"), "{refused:?}");
        let forced = world.strongroom("unmount m --force");
        assert_eq!(forced.status, Some(6), "{forced:?}");
        drop(writer);
        world.mount_or_repair();
        world.shell("grep -q kept m/before");
        world.done("unmount m");
    });
}

/// Behind the end of a device there is no room; it is not full.
#[test]
fn a_device_that_was_cut_off_is_told_and_takes_what_was_written_when_it_is_whole_again() {
    with_who(Who::Root, OPTIONS, |world| {
        let size = world.shell("stat -c %s v.vault").trim().to_owned();
        let device = world.shell("losetup -f --show v.vault").trim().to_owned();
        world.done(&format!("mount --block {device} m --password-file password"));
        // Nothing of it is lost: the device alone is shorter for a while.
        world.shell(&format!(
            "tail -c +10485761 v.vault > rest; truncate -s 10M v.vault; losetup -c {device}"
        ));
        let writer =
            world.shell_in_background("seq 400000 | dd of=m/volume bs=1M seek=16 conv=notrunc,fsync");
        wait_until("the lack", || world.strongroom("list").out.contains("(its device is too short)"));
        let refused = world.strongroom("unmount m");
        let told = "is shorter than the container needs";
        assert!(refused.status == Some(5) && refused.errors.contains(told), "{refused:?}");
        world
            .shell(&format!("cat rest >> v.vault; test $(stat -c %s v.vault) = {size}; losetup -c {device}"));
        assert_eq!(writer.wait(), Some(0));
        wait_until("the writes", || !world.strongroom("list").out.contains("(its device is too short)"));
        world.done("unmount m");
        world.shell(&format!("losetup -d {device}"));
    });
}
