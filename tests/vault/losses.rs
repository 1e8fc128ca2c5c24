//! Whatever a program was told is safe is there afterwards, however a volume ends and whoever holds it: single walks, then each
//! way to end with each holder.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    memory,
    place::{
        Background, CHEAP, Who, has_fuse2fs, is_running, leave_to_root, name_of, signal, wait_for_end_of,
        wait_until,
    },
    world::{World, with_each_driver, with_vault, with_who},
};

const OPTIONS: &str = "--size 48M --provision quick";
/// Five megabytes that nobody synced.
const WRITE: &str = "seq 700000 > m/docs/f";

/// Root's two drivers: only root can mount a folder of the volume elsewhere.
fn with_roots_drivers(walk: impl Fn(&World)) {
    for who in [Who::Root, Who::RootInServer] {
        with_who(who, OPTIONS, &walk);
    }
}

/// What a program wrote is whole after the next mount; and the volume is left unmounted.
fn assert_kept(world: &World) {
    world.mount();
    world.shell("seq 700000 | cmp - m/docs/f");
    world.done("unmount m");
}

/// A process in a mount namespace of its own that shows what is mounted here.
pub(crate) fn namespace(world: &World) -> Background {
    let elsewhere = world.shell_in_background(
        "exec unshare -m --propagation private sh -c 'touch apart; cd /; exec sleep 10000'",
    );
    wait_until("a namespace", || world.path("apart").exists());
    std::fs::remove_file(world.path("apart")).unwrap();
    wait_until("its last program", || name_of(elsewhere.process()) == "sleep");
    elsewhere
}

#[test]
fn a_folder_bound_elsewhere_is_named_and_what_is_written_there_is_kept() {
    with_roots_drivers(|world| {
        world.mount();
        world.shell("mkdir m/docs b; mount --bind m/docs b");
        world.shell(&WRITE.replace("m/docs", "b"));
        let refused = world.strongroom("unmount m");
        assert_eq!(refused.status, Some(5), "{world}: {refused:?}");
        let named = format!("in use by the mount on {}\n", world.path("b").display());
        assert!(refused.errors.contains(&named), "{world}: {refused:?}");
        assert!(world.listed()["mountpoint"].is_string(), "{world}: a refused unmount changes nothing");
        world.shell("umount b");
        world.done("unmount m");
        world.assert_clean();
        assert_kept(world);
    });
}

#[test]
fn a_folder_that_stays_bound_is_served_until_it_goes() {
    with_roots_drivers(|world| {
        world.mount();
        let server = world.server();
        world.shell("mkdir m/docs b; mount --bind m/docs b; umount m");
        wait_until("a detached volume", || world.listed()["mountpoint"].is_null());
        world.shell(&WRITE.replace("m/docs", "b"));
        let refused = world.strongroom("unmount v.vault");
        assert_eq!(refused.status, Some(5), "{world}: {refused:?}");
        let named =
            format!("here, but not everywhere: still in use by the mount on {}\n", world.path("b").display());
        assert!(refused.errors.contains(&named), "{world}: {refused:?}");
        world.shell("umount b");
        wait_for_end_of(server);
        assert_kept(world);
    });
}

/// What cannot be read has not happened: a server that takes its volume for unmounted would take it down under its users.
#[test]
fn a_volume_stays_while_nobody_can_read_what_is_mounted() {
    with_roots_drivers(|world| {
        let (mount, write) = (world.mount_command(), WRITE.replace("m/docs", "m"));
        // What other tests have mounted would stay in use by the copy.
        world.shell(&format!(
            "unshare -m --propagation private sh -euc '
                grep -o \" /[^ ]*strongroom[^ ]* \" /proc/self/mountinfo | xargs -r -n 1 umount -l 2> /dev/null || true
                ./strongroom -q {mount}
                mount -t tmpfs none /proc
                sleep 1
                umount /proc
                {write}
                ./strongroom -q unmount m'"
        ));
        world.mount();
        world.shell("seq 700000 | cmp - m/f");
        world.done("unmount m");
    });
}

#[test]
fn a_server_that_can_open_no_file_goes_on() {
    with_roots_drivers(|world| {
        world.mount();
        let server = world.server();
        world.shell(&format!(
            "mkdir m/docs b; prlimit --pid {server} --nofile=4:
            mount --bind b b; umount b; sleep 1
            {WRITE}
            prlimit --pid {server} --nofile=1024:"
        ));
        world.done("unmount m");
        assert_kept(world);
    });
}

/// What takes a volume down are programs of the system, as a rule.
#[test]
fn a_server_that_can_start_no_program_ends_with_all_that_was_written() {
    with_roots_drivers(|world| {
        for is_told_by_signal in [true, false] {
            world.mount();
            let server = world.server();
            world.shell(&format!("mkdir -p m/docs; {WRITE}; prlimit --pid {server} --nofile=3:3"));
            if is_told_by_signal {
                signal(server, Signal::TERM);
            } else {
                // It cannot be heard, and whoever asks gives up.
                world.shell("timeout -s INT 4 ./strongroom unmount m 2> said || true");
                signal(server, Signal::TERM);
            }
            wait_for_end_of(server);
            assert_eq!(world.listed(), serde_json::Value::Null, "{world}");
            world.assert_clean();
            assert_kept(world);
        }
    });
}

#[test]
fn a_server_that_is_stopped_keeps_nobody_from_another_volume() {
    with_who(Who::Root, OPTIONS, |world| {
        world.mount();
        let server = world.server();
        world.done(&format!("create w.vault --password-file password {CHEAP} {OPTIONS}"));
        world.make_folder("n");
        signal(server, Signal::STOP);
        let mounted =
            world.shell("timeout 30 ./strongroom -q mount w.vault n --password-file password; echo $?");
        signal(server, Signal::CONT);
        assert_eq!(mounted, "0\n");
        world.done("unmount n");
        world.done("unmount m");
    });
}

/// Their writes would go on for a while, into a loop device without a volume below it.
#[test]
fn who_is_cut_off_in_another_namespace_by_a_servers_end_is_told_and_hears_of_it_at_once() {
    with_who(Who::Root, OPTIONS, |world| {
        let foreground = world.shell_in_background(
            "exec ./strongroom mount --foreground v.vault m --password-file password 2> said",
        );
        world.wait_until_mounted();
        world.shell("mkdir m/docs");
        let elsewhere = namespace(world);
        world.shell(WRITE);
        signal(foreground.process(), Signal::TERM);
        assert_eq!(foreground.wait(), Some(5));
        let said = world.shell("cat said");
        assert!(said.contains("it was still in use in another mount namespace"), "{said}");
        let late = world.path("m/docs/late");
        let (user, late) = (elsewhere.process(), late.display());
        let written =
            world.shell(&format!("nsenter -t {user} -m sh -c 'echo late > {late}' 2>&1 || echo refused"));
        assert!(written.ends_with("refused\n"), "{written}");
        drop(elsewhere);
        assert_kept(world);
    });
}

#[test]
fn what_a_killed_server_left_is_not_forgotten_for_a_command_in_another_namespace() {
    with_who(Who::Root, OPTIONS, |world| {
        world.mount();
        let server = world.server();
        world.done(&format!("create w.vault --password-file password {CHEAP} {OPTIONS}"));
        world.make_folder("n");
        signal(server, Signal::KILL);
        wait_for_end_of(server);
        world.shell(
            "unshare -m --propagation private sh -ec 'umount -l m; ./strongroom mount w.vault n --password-file password; ./strongroom unmount n'",
        );
        assert_eq!(world.listed()["dead"], true);
        assert_eq!(world.strongroom("unmount m").status, Some(6));
        world.mount();
        world.done("unmount m");
    });
}

#[test]
fn what_was_interrupted_before_the_server_heard_of_it_is_not_done() {
    with_each_driver(OPTIONS, |world| {
        world.mount();
        world.shell("mkdir m/docs");
        let server = world.server();
        signal(server, Signal::STOP);
        let said = world.shell("timeout -s INT 4 ./strongroom unmount m 2>&1 || echo $?");
        signal(server, Signal::CONT);
        assert!(said.ends_with("124\n"), "{world}: {said}");
        // It has read the command by the time that it answers another.
        world.done("list");
        sleep(Duration::from_secs(1));
        assert!(world.listed().is_object(), "{world}: {said}");
        world.shell(WRITE);
        world.done("unmount m");
        assert_kept(world);
    });
}

#[test]
fn a_folder_that_is_here_is_not_a_volume_elsewhere() {
    with_vault(OPTIONS, |world| {
        world.mount();
        let refused = world.shell("mkdir -p b/m; cd b; ../strongroom unmount --force m 2>&1 || true");
        assert!(refused.contains("cannot unmount m: it is not mounted"), "{world}: {refused}");
        // Of the tests that run beside it, another volume may be named.
        assert!(refused.contains("strongroom: hint: if you mean the volume on /"), "{world}: {refused}");
        world.shell("rmdir b/m; cd b; ../strongroom unmount m");
    });
}

/// The kernel would take blocks for free that hold what was synced.
#[test]
fn what_keeps_no_journal_is_repaired_before_it_is_written_again() {
    with_who(Who::Root, "--size 64M --filesystem none", |world| {
        world.done("mount v.vault m --block --password-file password");
        world.shell("mkfs.ext2 -q -F m/volume");
        world.done("unmount m");
        world.mount();
        world.shell(
            "sync -f m
            for n in $(seq 40); do seq $n 30000 > m/$n; sync m/$n; done; sync m
            cp v.vault crashed.vault",
        );
        world.done("unmount m");
        let ended = world.strongroom("mount crashed.vault m --password-file password");
        assert_eq!(ended.status, Some(0), "{ended:?}");
        assert!(ended.errors.contains("not unmounted cleanly; e2fsck repaired it"), "{ended:?}");
        world.shell("for n in $(seq 40); do seq $n 30000 > m/new$n; done");
        world.done("unmount m");
        world.done("mount crashed.vault m --password-file password");
        world.shell("for n in $(seq 40); do seq $n 30000 | cmp - m/$n; seq $n 30000 | cmp - m/new$n; done");
        world.done("unmount m");
    });
}

/// Its subvolumes have device numbers of their own, which no table of mounts tells.
#[test]
fn who_has_a_file_open_in_a_subvolume_of_btrfs_is_named() {
    with_who(Who::Root, "--size 144M --filesystem btrfs", |world| {
        world.mount();
        world.shell("btrfs -q subvolume create m/docs");
        let user = world.shell_in_background("exec sleep 10000 4>m/docs/f");
        wait_until("an open file", || world.path("m/docs/f").exists());
        let named = format!("in use by process {} (sleep)", user.process());
        let refused = world.strongroom("unmount m");
        assert_eq!(refused.status, Some(5), "{refused:?}");
        assert!(refused.errors.contains(&named), "{refused:?}");
        // What it has open goes with the volume; that it is seen here is why nothing unseen is told of.
        world.done("unmount m --force");
        drop(user);
        world.mount();
        world.done("unmount m");
    });
}

#[test]
fn force_says_which_mounts_go_with_the_volume() {
    with_roots_drivers(|world| {
        world.mount();
        world.shell("mkdir m/docs b; mount --bind m/docs b");
        let forced = world.strongroom("unmount m --force");
        let told = format!(
            "the mount on {} has gone as well: what is written there from now on is not encrypted\n",
            world.path("b").display()
        );
        assert!(forced.errors.contains(&told), "{world}: {forced:?}");
        world.assert_clean();
        world.shell("rmdir b");
    });
}

#[test]
fn a_volume_that_another_namespace_shows_is_served_until_that_ends() {
    with_roots_drivers(|world| {
        world.mount();
        let server = world.server();
        world.shell("mkdir m/docs");
        let elsewhere = namespace(world);
        world.shell(WRITE);
        let held = world.strongroom("unmount m");
        assert_eq!(held.status, Some(5), "{world}: {held:?}");
        let named = format!(
            "here, but not everywhere: still in use in the mount namespace of process {} (sleep)",
            elsewhere.process()
        );
        assert!(held.errors.contains(&named), "{world}: {held:?}");
        assert!(world.listed()["mountpoint"].is_null(), "{world}");
        drop(elsewhere);
        wait_for_end_of(server);
        world.assert_clean();
        assert_kept(world);
    });
}

#[test]
fn who_asks_all_the_time_keeps_no_volume_that_is_free_from_its_end() {
    with_roots_drivers(|world| {
        world.mount();
        let server = world.server();
        let elsewhere = namespace(world);
        assert_eq!(world.strongroom("unmount m").status, Some(5), "{world}");
        let asking = world.shell_in_background(
            "for n in 1 2 3 4; do while :; do ./strongroom list > list-$n; done & done; wait",
        );
        drop(elsewhere);
        wait_for_end_of(server);
        drop(asking);
        world.shell("rm -f list-?");
    });
}

#[test]
fn force_brings_what_another_namespace_wrote_to_the_volume_and_says_who_is_cut_off() {
    with_roots_drivers(|world| {
        world.mount();
        let server = world.server();
        world.shell("mkdir m/docs");
        let elsewhere = namespace(world);
        world.shell(WRITE);
        let forced = world.strongroom("unmount m --force");
        assert_eq!(forced.status, Some(5), "{world}: {forced:?}");
        let named = format!("in the mount namespace of process {} (sleep)", elsewhere.process());
        assert!(forced.errors.contains(&named), "{world}: {forced:?}");
        wait_for_end_of(server);
        world.assert_clean();
        drop(elsewhere);
        assert_kept(world);
    });
}

#[test]
fn an_overlay_on_a_folder_of_the_volume_is_named() {
    with_who(Who::Root, OPTIONS, |world: &World| {
        world.mount();
        world.shell("mkdir m/docs m/work low o");
        let folder = world.folder().display().to_string();
        let upper =
            |folder: &str| format!("lowerdir={folder}low,upperdir={folder}m/docs,workdir={folder}m/work");
        world.shell("ln -s m/docs linked");
        for layers in [
            upper(&format!("{folder}/")),
            upper(""),
            format!("lowerdir={folder}/linked:{folder}/low"),
            "lowerdir=m/docs:low".to_owned(),
        ] {
            world.shell(&format!("mount -t overlay -o {layers} overlay o"));
            if layers.contains("upperdir") {
                world.shell(&WRITE.replace("m/docs", "o"));
            }
            let refused = world.strongroom("unmount m");
            assert_eq!(refused.status, Some(5), "{layers}: {refused:?}");
            let named = format!("in use by the mount on {}\n", world.path("o").display());
            assert!(refused.errors.contains(&named), "{layers}: {refused:?}");
            world.shell("umount o");
        }
        world.done("unmount m");
        assert_kept(world);
    });
}

#[test]
fn a_block_file_that_stays_bound_is_served_until_it_goes() {
    with_who(Who::Root, "--size 16M --provision quick --filesystem none", |world: &World| {
        world.done("mount --block v.vault m --password-file password");
        let server = world.server();
        world.shell("mkdir b; mount --bind m b");
        let refused = world.strongroom("unmount m");
        assert_eq!(refused.status, Some(5), "{refused:?}");
        world.shell("umount m; seq 100000 | dd of=b/volume conv=notrunc bs=4k iflag=fullblock status=none");
        assert_eq!(world.strongroom("unmount v.vault").status, Some(5));
        world.shell("umount b");
        wait_for_end_of(server);
        world.done("mount --block v.vault m --password-file password");
        world.shell("seq 100000 | cmp -n 500000 - m/volume");
        world.done("unmount m");
    });
}

#[test]
fn a_mount_below_a_renamed_folder_is_listed_and_taken_down_by_either_name() {
    with_each_driver(OPTIONS, |world| {
        for (name, force) in
            [("new/m", ""), ("old/m", ""), ("v.vault", ""), ("v.vault", "--force"), ("new/m", "--force")]
        {
            world.make_folder("old");
            world.make_folder("old/m");
            world.done(&world.mount_command().replace(" m ", " old/m "));
            world.shell("seq 700000 > old/m/f; mv old new");
            let place = world.path("new/m");
            assert_eq!(world.listed()["mountpoint"].as_str(), place.to_str(), "{world}");
            let done = world.strongroom(&format!("unmount {name} {force}"));
            assert_eq!(done.status, Some(0), "{world}: {done:?}");
            assert_eq!(done.errors, format!("unmounted {}\n", place.display()), "{world}");
            world.assert_clean();
            world.shell("rmdir new/m new");
            world.mount();
            world.shell("seq 700000 | cmp - m/f; rm m/f");
            world.done("unmount m");
        }
    });
}

#[test]
fn a_block_file_below_a_renamed_folder_is_taken_down() {
    with_vault("--size 16M --provision quick --filesystem none", |world| {
        world.make_folder("old");
        world.make_folder("old/m");
        world.done("mount --block v.vault old/m --password-file password");
        world.shell(
            "seq 100000 | dd of=old/m/volume conv=notrunc bs=4k iflag=fullblock status=none; mv old new",
        );
        let block = world.path("new/m/volume");
        assert_eq!(world.listed()["block"].as_str(), block.to_str(), "{world}");
        world.done("unmount new/m/volume");
        world.assert_clean();
        world.done("mount --block v.vault m --password-file password");
        world.shell("seq 100000 | cmp -n 500000 - m/volume");
        world.done("unmount m");
    });
}

#[test]
fn a_mount_whose_folder_another_namespace_removes_is_kept_whole() {
    with_who(Who::Root, OPTIONS, |world: &World| {
        world.mount();
        let server = world.server();
        world.shell("mkdir m/docs");
        world.shell(WRITE);
        // Where it is not mounted the folder can be removed, and the kernel then detaches what is mounted on it elsewhere.
        world.shell("unshare -m --propagation private sh -c 'umount m; rmdir m'");
        wait_for_end_of(server);
        world.make_folder("m");
        assert_kept(world);
    });
}

/// As at a logout: everybody is told to end, in whatever order.
#[test]
fn nested_volumes_that_are_all_told_to_end_are_whole() {
    with_each_driver("--size 64M --provision quick", |world| {
        world.mount();
        world.make_folder("n");
        world.done(&format!(
            "create m/inner.vault --password-file password {CHEAP} --size 24M --provision quick"
        ));
        let inner = world.mount_command().replace("v.vault m ", "m/inner.vault n ");
        world.done(&inner);
        world.shell("seq 700000 > n/f; seq 700000 > m/f");
        let list = world.json("list");
        let servers: Vec<_> =
            list["mounts"].as_array().unwrap().iter().map(|mount| mount["pid"].as_u64().unwrap()).collect();
        let mut told: Vec<_> = servers.iter().flat_map(|&server| crate::place::children(server)).collect();
        told.extend(&servers);
        let start = Instant::now();
        // The outer one was mounted first.
        for process in told {
            signal(process, Signal::TERM);
        }
        for server in servers {
            wait_for_end_of(server);
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{world}: {:?}", start.elapsed());
        world.assert_clean();
        world.mount();
        world.done(&inner);
        world.shell("seq 700000 | cmp - n/f; seq 700000 | cmp - m/f");
        world.done("unmount n");
        world.done("unmount m");
    });
}

/// The medium is a file system whose driver was stopped: it answers nothing.
#[test]
fn force_gives_up_a_medium_that_hangs_within_ten_seconds_and_what_was_synced_is_kept() {
    if !has_fuse2fs() {
        return;
    }
    with_each_driver(OPTIONS, |world| {
        let keys = if memory::can_look_into_processes() { memory::keys(world) } else { Vec::new() };
        let medium = Medium::new(world);
        world.done(&world.mount_command().replace("v.vault", "medium/v.vault"));
        let server = world.server();
        assert_eq!(memory::found_in(server, &keys).is_empty(), keys.is_empty(), "{world}");
        world.shell(
            "seq 700000 | dd of=m/synced bs=1M iflag=fullblock conv=fsync status=none; seq 300000 > m/lost",
        );
        signal(medium.process(), Signal::STOP);
        wait_until("a medium that does not answer", || {
            world.done("list").contains("v.vault (its disk does not answer)")
        });
        let start = Instant::now();
        let forced = world.strongroom("unmount m --force");
        let took = start.elapsed();
        let left = memory::found_in(server, &keys);
        signal(medium.process(), Signal::CONT);
        assert!(left.is_empty(), "{world}: {left:?}");
        assert_eq!(forced.status, Some(6), "{world}: {forced:?}");
        // Ten, and some for a busy machine.
        assert!(took < Duration::from_secs(15), "{world}: {took:?}");
        let container = world.path("medium/v.vault");
        let told =
            format!("strongroom: the medium of {} has not answered for 5 seconds", container.display());
        assert!(forced.errors.contains(&told), "{world}: {forced:?}");
        wait_for_end_of(server);
        assert_eq!(world.listed(), serde_json::Value::Null, "{world}");
        assert!(
            !world.shell("cat /proc/self/mountinfo").contains(world.path("m ").to_str().unwrap()),
            "{world}"
        );
        medium.copy_back();
        world.mount_or_repair();
        world.shell("seq 700000 | cmp - m/synced");
        world.done("unmount m");
    });
}

/// A server that was stopped, or busy, hears of the command and of the signal that is to hurry it in one moment.
#[test]
fn force_gives_up_a_medium_that_hangs_also_where_its_signal_comes_with_it() {
    if !has_fuse2fs() {
        return;
    }
    for options in [OPTIONS, "--size 48M --provision quick --filesystem vfat"] {
        with_who(Who::User, options, |world| {
            let medium = Medium::new(world);
            world.done(&world.mount_command().replace("v.vault", "medium/v.vault"));
            let server = world.server();
            world.shell("seq 700000 | dd of=m/synced bs=1M iflag=fullblock conv=fsync status=none");
            signal(medium.process(), Signal::STOP);
            // Something is to be written by then that the medium does not take.
            let _writing = world.shell_in_background("seq 300000 > m/lost");
            sleep(Duration::from_secs(2));
            signal(server, Signal::STOP);
            let start = Instant::now();
            let forced = world.strongroom("unmount m --force");
            let took = start.elapsed();
            signal(medium.process(), Signal::CONT);
            assert_eq!(forced.status, Some(6), "{options}: {forced:?}");
            assert!(took < Duration::from_secs(15), "{options}: {took:?}");
            assert!(forced.errors.contains("has not answered for 5 seconds"), "{options}: {forced:?}");
            wait_for_end_of(server);
            medium.copy_back();
            world.mount_or_repair();
            world.shell("seq 700000 | cmp - m/synced");
            world.done("unmount m");
        });
    }
}

/// The kernel tells of what could not be written once, and one command alone hears of it.
#[test]
fn everybody_who_asks_for_the_end_hears_that_something_was_lost() {
    if !has_fuse2fs() {
        return;
    }
    with_each_driver(OPTIONS, |world| {
        let medium = Medium::new(world);
        world.done(&world.mount_command().replace("v.vault", "medium/v.vault"));
        let server = world.server();
        medium.kill();
        world.shell("seq 300000 > m/lost || true");
        signal(server, Signal::STOP);
        let asked = ["one", "two"].map(|name| {
            world.shell_in_background(&format!(
                "s=0; ./strongroom unmount m --force > {name}.said 2>&1 || s=$?; echo $s > {name}"
            ))
        });
        sleep(Duration::from_millis(500));
        signal(server, Signal::CONT);
        wait_for_end_of(server);
        for name in ["one", "two"] {
            wait_until("an answer", || world.lines_of(name) == 1);
            let said = world.shell(&format!("cat {name} {name}.said"));
            assert!(said.starts_with("6\n"), "{world}: {said}");
        }
        drop(asked);
    });
}

/// A `fuse2fs` of the same user, with a copy of the container in its file system.
pub(crate) struct Medium<'a> {
    world: &'a World,
    driver: Background,
}

impl<'a> Medium<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        world.make_folder("medium");
        world.shell(
            "rm -f medium.img; truncate -s 400M medium.img; mke2fs -q -t ext4 -O ^extent,^64bit medium.img",
        );
        let medium = Self::again(world);
        world.shell("dd if=v.vault of=medium/v.vault bs=1M conv=fsync status=none");
        medium
    }

    /// One that was there before.
    pub(crate) fn again(world: &'a World) -> Self {
        let driver = world.shell_in_background("exec fuse2fs -f medium.img medium -o fakeroot");
        let medium = Self { world, driver };
        wait_until("a medium", || world.shell("mountpoint medium || true").contains("is a mountpoint"));
        medium
    }

    fn process(&self) -> u64 {
        self.driver.process()
    }

    /// As if it had been pulled out.
    pub(crate) fn kill(self) {
        signal(self.process(), Signal::KILL);
    }

    /// Puts the container back where it was, and takes the medium away.
    pub(crate) fn copy_back(self) {
        self.world.shell("cp medium/v.vault v.vault");
    }
}

impl Drop for Medium<'_> {
    fn drop(&mut self) {
        if is_running(self.process()) {
            signal(self.process(), Signal::CONT);
        }
        let umount = if self.world.is_root() { "umount -l" } else { "fusermount3 -uz" };
        self.world.shell(&format!("{umount} medium || true"));
    }
}

/// A volume with something else mounted on it: the file that nobody synced is under that.
fn cover(world: &World) {
    world.mount();
    world.shell("mkdir m/docs");
    world.shell(WRITE);
    world.shell("mount -t tmpfs x m");
}

#[test]
fn a_volume_that_something_is_mounted_over_says_what_to_unmount_first() {
    with_roots_drivers(|world| {
        cover(world);
        let first = format!("first: umount {}", world.path("m").display());
        for command in ["unmount m", "unmount v.vault", "sync m"] {
            let refused = world.strongroom(command);
            assert_eq!(refused.status, Some(5), "{world}: {command}: {refused:?}");
            assert!(refused.errors.contains("something else is mounted over"), "{world}: {refused:?}");
            assert!(refused.errors.contains(&first), "{world}: {refused:?}");
        }
        world.shell("umount m");
        world.done("unmount m");
        assert_kept(world);
    });
}

#[test]
fn force_and_sigterm_keep_what_was_written_under_another_mount() {
    with_roots_drivers(|world| {
        cover(world);
        let forced = world.strongroom("unmount m --force");
        assert_eq!(forced.status, Some(0), "{world}: {forced:?}");
        assert!(forced.errors.contains("(tmpfs) has been unmounted as well"), "{world}: {forced:?}");
        world.assert_clean();
        assert_kept(world);

        world.mount();
        world.shell("seq 700000 | tac > m/docs/f; mount -t tmpfs x m; mount -t tmpfs y m");
        let server = world.server();
        signal(server, Signal::TERM);
        wait_for_end_of(server);
        world.assert_clean();
        world.mount();
        world.shell("seq 700000 | tac | cmp - m/docs/f");
        world.done("unmount m");
    });
}

#[test]
fn a_volume_under_a_covered_folder_ends_with_all_that_was_written() {
    with_who(Who::Root, OPTIONS, |world| {
        world.shell("mkdir -p p/m");
        let mount = world.mount_command().replacen(" m ", " p/m ", 1);
        world.done(&mount);
        world.shell("seq 700000 > p/m/f; mount -t tmpfs x p");
        let refused = world.strongroom("unmount v.vault");
        assert_eq!(refused.status, Some(5), "{refused:?}");
        let first = format!("first: umount {}", world.path("p").display());
        assert!(refused.errors.contains(&first), "{refused:?}");
        let server = world.server();
        world.done("unmount v.vault --force");
        assert!(!is_running(server));
        // What lies over the folder above is somebody else's.
        world.shell("umount p");
        world.assert_clean();
        world.done(&mount);
        world.shell("seq 700000 | cmp - p/m/f");
        world.done("unmount p/m");
        world.shell("rm -r p");
    });
}

#[test]
fn a_deleted_container_is_saved_from_under_another_mount() {
    with_who(Who::Root, OPTIONS, |world| {
        cover(world);
        world.shell("rm v.vault");
        let server = world.server();
        signal(server, Signal::TERM);
        wait_for_end_of(server);
        world.shell("mv v.vault.rescued v.vault");
        assert_kept(world);

        world.mount();
        world.shell("seq 700000 | tac > m/docs/f; mount -t tmpfs x m; rm v.vault");
        world.done("unmount m --force --save-as v.vault");
        world.mount();
        world.shell("seq 700000 | tac | cmp - m/docs/f");
        world.done("unmount m");
    });
}

#[test]
fn each_volume_of_all_is_told_and_the_others_go_down() {
    with_vault(OPTIONS, |world| {
        world.make_folder("n");
        world.make_folder("o");
        world.shell("cp v.vault w.vault; cp v.vault x.vault");
        for (container, folder) in [("v.vault", "m"), ("w.vault", "n"), ("x.vault", "o")] {
            world.done(&world.mount_command().replace("v.vault m ", &format!("{container} {folder} ")));
        }
        let holders = [world.holder("cd m"), world.holder("exec 9> n/held")];
        let left = world.strongroom("unmount --all --json");
        assert_eq!(left.status, Some(5), "{world}: {left:?}");
        let object = left.json();
        assert_eq!(object["unmounted"][0]["mountpoint"], world.path("o").display().to_string(), "{world}");
        let failures = object["failures"].as_array().unwrap();
        assert_eq!((failures.len(), &object["error"]["code"]), (2, &5.into()), "{world}: {object}");
        for (container, folder, holder) in [("v.vault", "m", &holders[0]), ("w.vault", "n", &holders[1])] {
            let path = world.path(folder).display().to_string();
            let failure = failures.iter().find(|failure| failure["mountpoint"] == path).unwrap();
            assert_eq!(failure["container"], world.path(container).display().to_string(), "{world}");
            let told = format!("cannot unmount {path}: in use by process {} (sleep)", holder.process());
            assert_eq!(failure["error"]["message"], told, "{world}");
            assert!(left.errors.contains(&format!("strongroom: error: {told}\n")), "{world}: {left:?}");
        }
        drop(holders);
        world.done("unmount --all");
    });
}

#[test]
fn a_command_that_works_in_the_volume_is_not_in_its_own_way() {
    with_each_driver(OPTIONS, |world| {
        world.mount();
        world.shell("cd m; exec ../strongroom unmount .");
        world.assert_clean();
        world.mount();
        world.shell("rm v.vault; cd m; exec ../strongroom unmount . --save-as ../v.vault");
    });
}

#[test]
fn a_process_of_root_in_another_namespace_is_named_to_a_user() {
    if !rustix::process::geteuid().is_root() {
        return leave_to_root("be root beside the user");
    }
    with_who(Who::User, OPTIONS, |world| {
        world.mount();
        let server = world.server();
        let mut elsewhere = world.command_of_this_user("unshare");
        elsewhere.args(["-m", "--propagation", "private", "sleep", "10000"]);
        let mut elsewhere = elsewhere.spawn().unwrap();
        let comm = format!("/proc/{}/comm", elsewhere.id());
        wait_until("a namespace", || std::fs::read(&comm).is_ok_and(|name| name == b"sleep\n"));
        let held = world.strongroom("unmount m");
        elsewhere.kill().unwrap();
        elsewhere.wait().unwrap();
        assert_eq!(held.status, Some(5), "{held:?}");
        let named = format!(
            "here, but not everywhere: still in use in the mount namespace of process {} (sleep)",
            elsewhere.id()
        );
        assert!(held.errors.contains(&named), "{held:?}");
        wait_for_end_of(server);
    });
}

#[test]
fn an_overlay_that_stays_after_an_unmount_from_outside_is_named() {
    with_who(Who::Root, OPTIONS, |world: &World| {
        world.mount();
        let server = world.server();
        world.shell("mkdir m/docs m/work low o");
        let folder = world.folder().display().to_string();
        world.shell(&format!(
            "mount -t overlay -o lowerdir={folder}/low,upperdir={folder}/m/docs,workdir={folder}/m/work overlay o"
        ));
        world.shell(&format!("{}; umount m", WRITE.replace("m/docs", "o")));
        let held = world.strongroom("unmount m");
        assert_eq!(held.status, Some(5), "{held:?}");
        let named =
            format!("here, but not everywhere: still in use by the mount on {}\n", world.path("o").display());
        assert!(held.errors.contains(&named), "{held:?}");
        world.shell("umount o");
        wait_for_end_of(server);
        assert_kept(world);
    });
}

#[test]
fn force_ends_a_server_that_was_stopped_within_ten_seconds_and_loses_nothing() {
    with_each_driver(OPTIONS, |world| {
        world.mount();
        let server = world.server();
        world.shell("mkdir m/docs");
        world.shell(WRITE);
        signal(server, Signal::STOP);
        if world.driver() == "kernel" {
            // Without it nobody waits without a word.
            let said = world.shell("timeout 8 ./strongroom unmount m 2>&1 || true");
            let told = format!(
                "its server, process {server}, is stopped: kill -CONT {server} lets it go on; unmount --force ends it"
            );
            assert!(said.contains(&told), "{world}: {said}");
        }
        let start = Instant::now();
        let forced = world.strongroom("unmount m --force");
        let took = start.elapsed();
        assert_eq!(forced.status, Some(0), "{world}: {forced:?}");
        assert!(took < Duration::from_secs(10), "{world}: {took:?}");
        wait_for_end_of(server);
        assert_kept(world);
    });
}
