//! Containers that are renamed, deleted or replaced while they are mounted: what was written is not lost without a word.

use std::fs;

use rustix::process::Signal;

use crate::{
    losses::namespace,
    place::{Background, CHEAP, Who, is_running, is_skipped, signal, wait_for_end_of, wait_until},
    world::{World, with_each_driver, with_vault, with_who},
};

const OPTIONS: &str = "--size 32M --provision quick";
/// Three megabytes that nobody synced.
const WRITE: &str = "seq 400000 > m/written";
/// What sync clients do.
const REPLACE: &str = "cp v.vault new; mv new v.vault";

/// Waits until `list` shows the container in this state.
fn wait_for_state(world: &World, state: &str) {
    wait_until(state, || world.listed()["container_state"] == state);
}

/// What was written is in the container `name`, which opens with the same password.
fn assert_written_is_in(world: &World, name: &str) {
    world.done(&format!("mount {name} m --password-file password"));
    world.shell("seq 400000 | cmp - m/written");
    world.done("unmount m");
}

#[test]
fn a_replaced_container_is_shown_and_kept_until_it_is_saved() {
    with_each_driver(OPTIONS, |world| {
        world.mount();
        world.shell(REPLACE);
        world.shell(WRITE);
        wait_for_state(world, "replaced");
        let list = world.strongroom("list");
        assert!(list.out.contains("v.vault (replaced)"), "{list:?}");
        assert!(list.errors.contains("was replaced while it is mounted: strongroom unmount"), "{list:?}");

        let refused = world.strongroom("unmount m");
        assert_eq!(refused.status, Some(5), "{world}: {refused:?}");
        assert!(
            refused.errors.contains("v.vault was replaced: what was written to it would be lost"),
            "{refused:?}"
        );
        assert!(refused.errors.contains("--save-as FILE"), "{refused:?}");
        world.shell("cmp m/written m/written");

        let saved = world.json("unmount m --save-as saved.vault");
        assert_eq!(saved["saved"][0], "saved.vault");
        world.assert_clean();
        assert_eq!(world.shell("stat -c %a saved.vault"), "600\n");
        assert_written_is_in(world, "saved.vault");
    });
}

#[test]
fn a_deleted_container_is_saved_sparse_as_it_was() {
    with_vault("--size 256M --provision thin", |world| {
        world.mount();
        world.shell(WRITE);
        world.shell("rm v.vault");
        wait_for_state(world, "deleted");
        assert_eq!(world.strongroom("unmount v.vault").status, Some(5), "{world}");
        world.done("unmount v.vault --save-as saved.vault");
        let [size, blocks] = ["%s", "%b"].map(|what| -> u64 {
            world.shell(&format!("stat -c {what} saved.vault")).trim().parse().unwrap()
        });
        assert!(size >= 256 << 20, "{size}");
        assert!(blocks * 512 < 64 << 20, "{blocks}");
        assert_written_is_in(world, "saved.vault");
    });
}

#[test]
fn force_leaves_a_copy_of_a_lost_container_and_says_where() {
    with_each_driver(OPTIONS, |world| {
        world.mount();
        world.shell(WRITE);
        world.shell("rm v.vault");
        let server = world.server();
        let forced = world.strongroom("unmount m --force");
        assert_eq!(forced.status, Some(0), "{world}: {forced:?}");
        assert!(forced.errors.contains("v.vault was deleted: it is copied now"), "{world}: {forced:?}");
        assert!(forced.errors.contains("v.vault.rescued\n"), "{world}: {forced:?}");
        wait_for_end_of(server);
        world.assert_clean();
        assert_written_is_in(world, "v.vault.rescued");
    });
}

#[test]
fn force_says_that_a_lost_container_is_gone_where_there_is_no_room_for_a_copy() {
    with_vault(OPTIONS, |world| {
        if !world.is_root() {
            return;
        }
        world.shell("mkdir full; mount -t tmpfs -o size=40m x full; mv v.vault full/v.vault");
        let command = world.mount_command().replacen("v.vault", "full/v.vault", 1);
        let foreground = world
            .shell_in_background(&format!("export HOME=$PWD/full; exec ./strongroom {command} --foreground"));
        wait_until("a mount", || world.shell("mountpoint m || true").contains("is a mountpoint"));
        world.shell(WRITE);
        world.shell("rm full/v.vault");
        let server = world.server();
        let forced = world.strongroom("unmount m --force");
        assert_eq!(forced.status, Some(6), "{forced:?}");
        assert!(forced.errors.contains("what was written to it is gone"), "{forced:?}");
        wait_for_end_of(server);
        assert_eq!(foreground.wait(), Some(6), "{world}");
        world.shell("umount full");
    });
}

#[test]
fn a_lost_container_that_another_namespace_shows_is_saved_as_was_asked_when_that_ends() {
    with_who(Who::Root, OPTIONS, |world| {
        world.mount();
        let server = world.server();
        let elsewhere = namespace(world);
        world.shell(WRITE);
        world.shell("rm v.vault");
        for name in ["first", "second"] {
            let held = world.strongroom(&format!("unmount v.vault --save-as {name}"));
            assert_eq!(held.status, Some(5), "{held:?}");
            let hint = format!(
                "wait, and it is saved as {name} when nobody uses it; or repeat with --save-as {name} --force"
            );
            assert!(held.errors.contains(&hint), "{held:?}");
        }
        let held = world.strongroom("unmount v.vault");
        assert!(!held.errors.contains("now with --force\n"), "{held:?}");
        drop(elsewhere);
        wait_for_end_of(server);
        world.assert_clean();
        assert_eq!(world.files(), ["second"]);
        assert_written_is_in(world, "second");
    });
}

/// A volume that another namespace shows, its container deleted, and a `--save-as second` that was refused for that.
fn refused_save(world: &World) -> (u64, Background) {
    world.mount();
    let server = world.server();
    let elsewhere = namespace(world);
    world.shell(WRITE);
    world.shell("rm v.vault");
    let held = world.strongroom("unmount v.vault --save-as second");
    assert_eq!(held.status, Some(5), "{world}: {held:?}");
    (server, elsewhere)
}

#[test]
fn force_after_a_refused_save_keeps_the_copy_that_was_asked_for_and_says_where() {
    for (who, options) in [
        (Who::Root, OPTIONS.to_owned()),
        (Who::RootInServer, OPTIONS.to_owned()),
        (Who::RootInServer, format!("{OPTIONS} --filesystem vfat")),
    ] {
        with_who(who, &options, |world| {
            let (server, elsewhere) = refused_save(world);
            let forced = world.strongroom("unmount m --force");
            assert_ne!(forced.status, Some(0), "who writes elsewhere is cut off: {world}: {forced:?}");
            let told = format!("a copy of it is in {}\n", world.path("second").display());
            assert!(forced.errors.contains(&told), "{world}: {forced:?}");
            drop(elsewhere);
            wait_for_end_of(server);
            world.assert_clean();
            world.done(&world.mount_command().replace("v.vault", "second"));
            world.shell("seq 400000 | cmp - m/written");
            world.done("unmount m");
        });
    }
}

/// The server ends by itself meanwhile, and answers only when it has made the copy.
#[test]
fn who_asks_while_a_lost_container_is_saved_hears_where_it_is() {
    for force in ["", " --force"] {
        with_who(Who::Root, OPTIONS, |world| {
            let (server, elsewhere) = refused_save(world);
            signal(server, Signal::STOP);
            signal(server, Signal::TERM);
            let asking =
                world.shell_in_background(&format!("exec ./strongroom unmount m{force} > out 2> errors"));
            wait_until("a command that waits", || world.path("errors").exists());
            signal(server, Signal::CONT);
            let status = asking.wait();
            let errors = fs::read_to_string(world.path("errors")).unwrap();
            assert!(matches!(status, Some(0 | 5)), "{status:?}: {errors}");
            let told = format!("a copy of it is in {}\n", world.path("second").display());
            assert!(errors.contains(&told), "{force}: {errors}");
            drop(elsewhere);
            wait_for_end_of(server);
            assert_written_is_in(world, "second");
        });
    }
}

#[test]
fn a_renamed_container_answers_to_both_names() {
    with_vault(OPTIONS, |world| {
        world.shell("mkdir a");
        for (name, now) in [("v.vault", "b/w.vault"), ("b/w.vault", "v.vault")] {
            world.mount();
            world.shell("mv v.vault a/w.vault; mv a b");
            wait_until("the new name", || {
                world.listed()["container"].as_str().is_some_and(|shown| shown.ends_with("/b/w.vault"))
            });
            assert!(world.listed()["container_state"].is_null());
            world.done(&format!("unmount {name}"));
            world.assert_clean();
            assert!(world.path("b/w.vault").exists(), "{now}");
            world.shell("mv b/w.vault v.vault; mv b a");
        }
    });
}

#[test]
fn sigterm_leaves_a_copy_of_a_lost_container_where_it_was() {
    with_each_driver(OPTIONS, |world| {
        for (how, rescued) in [("rm v.vault", "v.vault.rescued"), (REPLACE, "v.vault.rescued-2")] {
            world.mount();
            world.shell(WRITE);
            world.shell(how);
            let server = world.server();
            signal(server, Signal::TERM);
            wait_for_end_of(server);
            world.assert_clean();
            assert_written_is_in(world, rescued);
            world.shell("cp v.vault.rescued v.vault");
        }
    });
}

#[test]
fn an_unmount_from_outside_leaves_a_copy_of_a_lost_container_where_it_was() {
    with_each_driver(OPTIONS, |world| {
        world.mount();
        world.shell(WRITE);
        world.shell("rm v.vault");
        let server = world.server();
        world.shell(if world.is_root() { "umount m" } else { "fusermount3 -u m" });
        wait_for_end_of(server);
        assert_written_is_in(world, "v.vault.rescued");
    });
}

#[test]
fn a_volume_whose_copy_has_no_room_stays_mounted_and_says_so() {
    with_vault(OPTIONS, |world| {
        if !world.is_root() {
            return;
        }
        world.shell("mkdir full; mount -t tmpfs -o size=40m x full; mv v.vault full/v.vault");
        world.done("mount full/v.vault m --password-file password");
        world.shell(WRITE);
        world.shell("rm full/v.vault");
        let server = world.server();
        let refused = world.strongroom("unmount m --save-as full/copy");
        assert_eq!(refused.status, Some(6), "{refused:?}");
        assert!(refused.errors.contains("it stays as it is"), "{refused:?}");
        world.shell("seq 400000 | cmp - m/written");
        world.done("unmount m --save-as v.vault");
        assert!(!is_running(server));
        world.shell("umount full");
        assert_written_is_in(world, "v.vault");
    });
}

#[test]
fn a_lost_container_that_finds_no_room_outlives_signals_and_the_mount() {
    with_each_driver(OPTIONS, |world| {
        if !world.is_root() {
            return;
        }
        world.shell("mkdir full; mount -t tmpfs -o size=40m x full; mv v.vault full/v.vault");
        let command = world.mount_command().replacen("v.vault", "full/v.vault", 1);
        world.shell(&format!("export HOME=$PWD/full; ./strongroom {command}"));
        world.shell(WRITE);
        world.shell("rm full/v.vault");
        let server = world.server();
        signal(server, Signal::TERM);
        std::thread::sleep(std::time::Duration::from_secs(1));
        world.shell("seq 400000 | cmp - m/written");

        world.shell("umount m");
        wait_until("the end of the mount", || world.listed()["mountpoint"].is_null());
        wait_until("a server that holds the container", || {
            world.strongroom("unmount full/v.vault").status == Some(5)
        });
        signal(server, Signal::TERM);
        world.done("unmount full/v.vault --save-as v.vault");
        wait_for_end_of(server);
        world.shell("umount full");
        assert_written_is_in(world, "v.vault");
    });
}

#[test]
fn a_lost_container_is_held_when_the_copy_is_broken_off() {
    with_vault(OPTIONS, |world| {
        world.mount();
        world.shell(WRITE);
        world.shell("rm v.vault");
        let server = world.server();
        // What comes up under the name while the copy is made stops it at its last step.
        let refused = world.strongroom("unmount m --save-as /proc/nowhere/copy");
        assert_eq!(refused.status, Some(4), "{world}: nothing is begun: {refused:?}");
        world.shell("seq 400000 | cmp - m/written; touch there");
        assert_eq!(world.strongroom("unmount m --save-as there").status, Some(5));
        assert!(is_running(server));

        let saver = world.shell_in_background("exec ./strongroom unmount m --save-as broken");
        signal(saver.process(), Signal::KILL);
        drop(saver);
        wait_until("the end of the saver", || !world.path("broken").exists());
        // Down already or not: what was written can be saved.
        let rescued = world.strongroom("unmount v.vault --save-as saved");
        assert_eq!(rescued.status, Some(0), "{world}: {rescued:?}");
        world.assert_clean();
        assert_written_is_in(world, "saved");
    });
}

#[test]
fn a_lost_header_file_is_saved_with_the_container() {
    with_vault("--size 32M --provision quick", |world| {
        world.done(&format!(
            "create d.vault --size 32M --provision quick --header d.header --password-file password {CHEAP}"
        ));
        world.done("mount d.vault m --header d.header --password-file password");
        world.shell(WRITE);
        world.shell("rm d.header");
        wait_until("the state of the header", || world.listed()["header_state"] == "deleted");
        let refused = world.strongroom("unmount m");
        assert_eq!(refused.status, Some(5), "{refused:?}");
        assert!(refused.errors.contains("its header file"), "{refused:?}");
        world.done("unmount m --save-as saved");
        world.done("mount saved m --header saved.header --password-file password");
        world.shell("seq 400000 | cmp - m/written");
        world.done("unmount m");
        assert!(fs::exists(world.path("d.vault")).unwrap());
    });
}

/// Ways to write into a file that goes on bearing its name, and so much of it that the header is gone.
const OVERWRITES: [&str; 4] = [
    "dd if=other of=v.vault conv=notrunc bs=64k status=none",
    "cat other > v.vault",
    ": > v.vault",
    "cp other v.vault",
];

#[test]
fn an_overwritten_container_is_shown_and_not_unmounted_without_a_word() {
    with_each_driver(OPTIONS, |world| {
        world.shell("cp v.vault whole; head -c 2M /dev/urandom > other");
        for overwrite in OVERWRITES {
            world.mount();
            world.shell(WRITE);
            world.shell(overwrite);
            let refused = world.strongroom("unmount m");
            assert_eq!(refused.status, Some(5), "{world}: {overwrite}: {refused:?}");
            assert!(refused.errors.contains("v.vault was written to by another program"), "{refused:?}");
            assert!(refused.errors.contains("copy what you can still read"), "{refused:?}");
            let list = world.strongroom("list");
            assert!(list.out.contains("v.vault (overwritten)"), "{list:?}");
            assert!(
                list.errors.contains("was written to by another program while it is mounted: copy"),
                "{list:?}"
            );
            assert_eq!(world.listed()["container_state"], "overwritten");
            if world.driver() == "kernel" {
                // What lies in memory can still be read, as the hint says.
                world.shell("seq 400000 | cmp - m/written");
            }
            let _ = world.strongroom("unmount m --force");
            world.shell("cat whole > v.vault");
        }
    });
}

/// Of neither does the kernel tell who watches the container.
#[test]
fn headers_that_were_overwritten_through_a_loop_device_are_told() {
    for who in [Who::Root, Who::RootInServer] {
        with_who(who, OPTIONS, |world| {
            world.shell("cp v.vault whole");
            world.mount();
            world.shell(WRITE);
            // What the server and our commands write is no news.
            world.shell("echo other > other");
            world
                .done(&format!("key add v.vault --password-file password --new-password-file other {CHEAP}"));
            world.done("sync m");
            assert!(world.listed()["container_state"].is_null(), "{world}: {}", world.listed());
            world.shell(
                "l=$(losetup -f --show v.vault); dd if=/dev/urandom of=$l bs=1M count=2 conv=fsync status=none; losetup -d $l",
            );
            assert_eq!(world.listed()["container_state"], "overwritten", "{world}");
            let refused = world.strongroom("unmount m");
            assert_eq!(refused.status, Some(5), "{world}: {refused:?}");
            assert!(refused.errors.contains("v.vault was written to by another program"), "{refused:?}");
            let forced = world.strongroom("unmount m --force");
            assert_eq!(forced.status, Some(6), "{world}: {forced:?}");
            world.shell("cat whole > v.vault");
        });
    }
}

#[test]
fn a_device_whose_file_was_overwritten_is_told_at_unmount() {
    with_who(Who::Root, OPTIONS, |world| {
        world.shell("cp v.vault whole");
        let device = world.shell("losetup -f --show v.vault").trim().to_owned();
        world.done(&format!("mount {device} m --password-file password"));
        world.shell(WRITE);
        world.shell("sync -f m; dd if=/dev/urandom of=v.vault bs=1M count=2 conv=notrunc,fsync status=none");
        let refused = world.strongroom("unmount m");
        assert_eq!(refused.status, Some(5), "{refused:?}");
        assert!(refused.errors.contains("was written to by another program"), "{refused:?}");
        assert_eq!(world.strongroom("unmount m --force").status, Some(6));
        world.shell(&format!("losetup -d {device}; cat whole > v.vault"));
    });
}

/// The lock on a file that an overlay shows is none on the file of its layer.
#[test]
fn a_container_is_opened_for_writing_once_through_an_overlay_and_below_it() {
    with_who(Who::Root, "--size 16M --provision quick", |world| {
        world.shell("mkdir u w o n; cp v.vault u/v");
        // What the kernel was told in relative names it shows so.
        for here in ["$PWD/", ""] {
            world
                .shell(&format!("mount -t overlay o -o lowerdir={here}m,upperdir={here}u,workdir={here}w o"));
            for (first, second) in [("u/v", "o/v"), ("o/v", "u/v")] {
                world.done(&format!("mount {first} n --password-file password"));
                let refused = world.strongroom(&format!("mount {second} m --password-file password"));
                assert_eq!(refused.status, Some(5), "{here} {second}: {refused:?}");
                world.done("unmount n");
            }
            world.shell("umount o");
        }
        world.shell("rm -rf u w; rmdir o n");
    });
}

/// The kernel gives the next mount the number of one that is gone, and the next file system its device number.
#[test]
fn a_volume_that_is_held_is_not_taken_for_one_that_was_mounted_since() {
    with_each_driver("--size 16M --provision quick", |world| {
        world.shell("cp v.vault v2; mkdir n");
        world.mount();
        world.shell("echo first > m/who; sync m/who; rm v.vault");
        wait_for_state(world, "deleted");
        world.shell("(ulimit -f 1000; ! ./strongroom unmount m --save-as x 2> /dev/null)");
        world.done(&world.mount_command().replace("v.vault m", "v2 n"));
        world.shell("echo second > n/who");
        let list = world.strongroom("list");
        let place = world.path("n").display().to_string();
        assert_eq!(list.out.matches(&format!("{place} ")).count(), 1, "{world}: {list:?}");
        let hint = format!("strongroom unmount {} --save-as FILE", world.path("v.vault").display());
        assert!(list.errors.contains(&hint), "{world}: {list:?}");
        world.done("unmount v.vault --save-as saved");
        world.shell("grep -q second n/who");
        world.done("unmount n");
        world.done(&world.mount_command().replace("v.vault m", "saved m"));
        world.shell("grep -q first m/who");
        world.done("unmount m");
        world.shell("rmdir n");
    });
}

#[test]
fn who_only_reads_or_touches_a_container_or_changes_its_header_raises_no_alarm() {
    with_each_driver(OPTIONS, |world| {
        world.mount();
        world.shell(WRITE);
        world.shell("sync -f m; touch v.vault; chmod 640 v.vault; chmod 600 v.vault; cp v.vault copy; cat v.vault | wc -c");
        world.shell("exec 3<>v.vault; exec 3>&-; ln v.vault link; rm link copy");
        world.done("info v.vault");
        world.shell("echo other > other");
        let add = format!("key add v.vault --password-file password --new-password-file other {CHEAP}");
        world.done(&add);
        world.done("key list v.vault");
        world.done("sync m");
        assert!(world.listed()["container_state"].is_null(), "{world}: {}", world.listed());
        world.done("unmount m");
        world.done("mount v.vault m --password-file other");
        world.done("unmount m");
    });
}

#[test]
fn a_volume_that_was_only_read_ends_though_its_container_was_overwritten() {
    with_vault(OPTIONS, |world| {
        world.done(&format!("{} --read-only", world.mount_command()));
        world.shell("head -c 2M /dev/urandom | dd of=v.vault conv=notrunc seek=20 bs=1M status=none");
        wait_for_state(world, "overwritten");
        world.done("unmount m");
    });
}

#[test]
fn sigterm_ends_a_volume_whose_container_was_overwritten_and_makes_no_copy() {
    with_each_driver(OPTIONS, |world| {
        world.mount();
        world.shell("head -c 1M /dev/urandom | dd of=v.vault conv=notrunc seek=20 bs=1M status=none");
        wait_for_state(world, "overwritten");
        let server = world.server();
        signal(server, Signal::TERM);
        wait_for_end_of(server);
        assert!(!world.path("v.vault.rescued").exists());
    });
}

#[test]
fn a_copy_under_the_old_name_is_not_the_container_that_was_renamed() {
    with_vault(OPTIONS, |world| {
        world.mount();
        world.shell("mkdir o");
        let ended = world
            .shell("mv v.vault o/v; cp o/v v.vault; ./strongroom unmount v.vault 2>&1 || echo status $?");
        assert!(ended.contains("it is not mounted"), "{ended}");
        world.done("unmount o/v");
        world.shell("mv o/v v.vault; rmdir o");
    });
}

#[test]
fn the_next_mount_tells_of_a_rescued_copy_also_where_it_is_quiet() {
    with_vault(OPTIONS, |world| {
        world.mount();
        world.shell(REPLACE);
        let server = world.server();
        signal(server, Signal::TERM);
        wait_for_end_of(server);
        for options in ["", "--quiet"] {
            let mounted = world.strongroom(&format!("mount v.vault m --password-file password {options}"));
            assert_eq!(mounted.status, Some(0), "{mounted:?}");
            assert!(mounted.errors.contains("its content was saved as"), "{mounted:?}");
            world.done("unmount m");
        }
        world.shell("mv v.vault.rescued looked-at");
        let mounted = world.strongroom("mount v.vault m --password-file password");
        assert!(!mounted.errors.contains("rescued"), "{mounted:?}");
        world.done("unmount m");
    });
}

#[test]
fn an_overwritten_container_is_not_said_to_be_saved_or_unmounted_without_a_word() {
    with_vault(OPTIONS, |world| {
        world.shell("cp v.vault whole");
        for (overwrite, command) in [
            (
                "dd if=/dev/urandom of=v.vault bs=1M count=1 seek=12 conv=notrunc status=none",
                "--save-as saved",
            ),
            ("truncate -s 20M v.vault", "--save-as cut"),
            ("dd if=/dev/urandom of=v.vault bs=1M count=1 seek=12 conv=notrunc status=none", ""),
        ] {
            world.mount();
            world.shell(overwrite);
            wait_for_state(world, "overwritten");
            if command.starts_with("--save-as") {
                // The copy may not open, and the only view ends with it.
                let refused = world.strongroom(&format!("unmount m {command}"));
                assert_eq!(refused.status, Some(5), "{world}: {command}: {refused:?}");
                assert!(world.listed()["mountpoint"].is_string(), "{world}");
            }
            let ended = world.strongroom(&format!("unmount m {command} --force"));
            assert_eq!(ended.status, Some(6), "{world}: {command}: {ended:?}");
            let is_told =
                ["written to by another program", "cut off"].map(|told| ended.errors.contains(told));
            assert!(is_told.contains(&true), "{world}: {ended:?}");
            world.assert_clean();
            world.shell("cat whole > v.vault");
        }
    });
}

#[test]
fn a_container_that_was_overwritten_is_not_said_to_have_all_that_was_written() {
    with_who(Who::Root, OPTIONS, |world| {
        world.shell("cp v.vault whole");
        for overwrite in [
            "dd if=/dev/urandom of=v.vault bs=1M count=1 seek=12 conv=notrunc status=none",
            // Of this the kernel tells nobody.
            "l=$(losetup -f --show v.vault); dd if=/dev/urandom of=$l bs=1M count=2 conv=fsync status=none; losetup -d $l",
        ] {
            world.mount();
            world.shell(WRITE);
            world.done("sync m");
            world.shell(overwrite);
            let refused = world.strongroom("sync m");
            assert_eq!(refused.status, Some(5), "{world}: {overwrite}: {refused:?}");
            assert!(refused.errors.contains("compare it with a backup"), "{refused:?}");
            assert_eq!(world.strongroom("unmount m --force").status, Some(6), "{world}");
            world.shell("cat whole > v.vault");
        }
    });
}

/// Of cryptsetup, as cheap as it goes.
const CHEAP_KDF: &str = "--pbkdf pbkdf2 --pbkdf-force-iterations 1000";

/// The header is in nobody's way while the volume is mounted.
#[test]
fn keyslots_that_cryptsetup_changes_under_a_mount_raise_no_alarm() {
    with_who(Who::Root, "--size 16M --provision quick", |world| {
        if !world.shell("PATH=$PATH:/sbin:/usr/sbin; command -v cryptsetup || true").contains("cryptsetup") {
            is_skipped("cryptsetup is not installed");
            return;
        }
        // A line feed would be a part of the key for cryptsetup.
        world.shell("for key in second third; do printf %s $key > bare-$key; done; printf %s \"$(cat password)\" > bare-password");
        for (format, is_device) in [
            ("luks1 --kdf-iterations 1000", false),
            ("luks1 --kdf-iterations 1000", true),
            ("luks2 --pbkdf pbkdf2 --kdf-iterations 1000", true),
        ] {
            world.done(&format!(
                "create l --password-file password --size 40M --provision quick --format {format}"
            ));
            let device =
                if is_device { world.shell("losetup -f --show l").trim().to_owned() } else { "l".to_owned() };
            let cryptsetup = |arguments: &str| {
                world.shell(&format!("PATH=$PATH:/sbin:/usr/sbin; cryptsetup --batch-mode {arguments}"));
            };
            let state = || {
                let list = world.json("list");
                let place = world.path("m");
                let is_ours = |mount: &&serde_json::Value| mount["mountpoint"].as_str() == place.to_str();
                list["mounts"].as_array().unwrap().iter().find(is_ours).unwrap()["container_state"].clone()
            };
            world.done(&format!("mount {device} m --password-file password"));
            world.shell(WRITE);
            for change in [
                format!("luksAddKey {CHEAP_KDF} --key-file bare-password {device} bare-second"),
                format!("luksChangeKey {CHEAP_KDF} --key-file bare-second {device} bare-third"),
                format!("luksAddKey {CHEAP_KDF} --key-file bare-password {device} bare-second"),
                format!("luksKillSlot --key-file bare-password {device} 1"),
            ] {
                cryptsetup(&change);
                std::thread::sleep(std::time::Duration::from_millis(2500));
                assert!(state().is_null(), "{format}: {change}: {}", state());
                world.done("sync m");
            }
            world.done("unmount m");

            // The header is whole, and the key material of a keyslot is not.
            world.done(&format!("mount {device} m --password-file password"));
            world.shell("seq 400000 | cmp - m/written");
            world.shell(&format!(
                "dd if=/dev/urandom of={device} bs=4k seek=9 count=8 conv=notrunc,fsync status=none"
            ));
            wait_until("the alarm", || state() == "overwritten");
            assert_eq!(world.strongroom("unmount m").status, Some(5), "{format}");
            assert_eq!(world.strongroom("unmount m --force").status, Some(6), "{format}");
            if is_device {
                world.shell(&format!("losetup -d {device}"));
            }
            world.shell("rm l");
        }
    });
}

/// A copy of it does not open, whoever makes it.
#[test]
fn a_container_that_was_overwritten_and_then_lost_its_name_is_told_as_both() {
    with_each_driver(OPTIONS, |world| {
        world.shell("cp v.vault whole");
        let overwrite = "dd if=/dev/urandom of=v.vault bs=1M count=2 conv=notrunc status=none";
        for (lose, state) in [
            ("rm v.vault", "overwritten and deleted"),
            ("cp whole w; mv w v.vault", "overwritten and replaced"),
        ] {
            for by_signal in [false, true] {
                world.mount();
                world.shell(WRITE);
                world.shell(&format!("{overwrite}; {lose}"));
                let shown = state.replace(' ', "-");
                wait_for_state(world, &shown);
                let list = world.strongroom("list");
                assert!(list.out.contains(&format!("v.vault ({state})")), "{world}: {list:?}");
                assert!(list.errors.contains("copy what you can still read"), "{world}: {list:?}");
                for command in ["unmount m", "unmount m --save-as saved"] {
                    let refused = world.strongroom(command);
                    assert_eq!(refused.status, Some(5), "{world}: {command}: {refused:?}");
                    assert!(refused.errors.contains("copy what you can still read"), "{refused:?}");
                    assert!(!refused.errors.contains("opens with"), "{refused:?}");
                }
                world.shell("seq 400000 | cmp - m/written; test ! -e saved");
                let server = world.server();
                if by_signal {
                    signal(server, Signal::TERM);
                } else {
                    let forced = world.strongroom("unmount m --force");
                    assert_eq!(forced.status, Some(6), "{world}: {forced:?}");
                    assert!(forced.errors.contains("may be damaged, and not open again"), "{forced:?}");
                }
                wait_for_end_of(server);
                world.assert_clean();
                world.shell("test -e v.vault.rescued; rm -f v.vault.rescued; cp whole v.vault");
            }
        }
        world.mount();
        world.shell(&format!("{overwrite}; rm v.vault"));
        let saved = world.strongroom("unmount m --save-as saved --force");
        assert_eq!(saved.status, Some(6), "{world}: {saved:?}");
        world.shell("test -e saved; cp whole v.vault");
    });
}

#[test]
fn the_name_of_a_renamed_container_that_leads_to_a_copy_is_told_at_its_end() {
    with_vault(OPTIONS, |world| {
        world.mount();
        world.shell("mv v.vault old; cp old v.vault");
        wait_until("the new name", || {
            world.listed()["container"].as_str().is_some_and(|shown| shown.ends_with("/old"))
        });
        let ended = world.strongroom("unmount m");
        assert_eq!(ended.status, Some(0), "{ended:?}");
        assert!(ended.errors.contains("v.vault is another file now"), "{ended:?}");
    });
}

#[test]
fn a_deleted_container_with_another_name_is_not_said_to_be_lost() {
    with_vault(OPTIONS, |world| {
        world.mount();
        world.shell("ln v.vault link; rm v.vault");
        wait_for_state(world, "deleted");
        let refused = world.strongroom("unmount m");
        assert_eq!(refused.status, Some(5), "{refused:?}");
        assert!(refused.errors.contains("the file has another name"), "{refused:?}");
        assert!(!refused.errors.contains("would be lost"), "{refused:?}");
        world.done("unmount m --save-as saved");
    });
}

/// The name of the file behind it is what counts.
#[test]
fn a_container_on_a_loop_device_whose_file_is_lost_is_shown_and_kept_until_it_is_saved() {
    with_who(Who::Root, OPTIONS, |world| {
        for (lose, state) in [(REPLACE, "replaced"), ("rm v.vault", "deleted")] {
            let device = world.shell("losetup -f --show v.vault").trim().to_owned();
            world.done(&format!("mount {device} m --password-file password"));
            world.shell(WRITE);
            world.shell(lose);
            wait_until(state, || world.strongroom("list").out.contains(&format!("{device} ({state})")));
            let refused = world.strongroom("unmount m");
            let told = format!("v.vault, which {device} shows, was {state}");
            assert!(refused.status == Some(5) && refused.errors.contains(&told), "{refused:?}");
            assert!(refused.errors.contains("--save-as FILE"), "{refused:?}");
            world.done("unmount m --save-as saved.vault");
            world.shell(&format!("losetup -d {device}"));
            assert_written_is_in(world, "saved.vault");
            world.shell("mv -f saved.vault v.vault");
        }
    });
}

#[test]
fn force_copies_a_lost_file_behind_a_loop_device_to_where_it_was() {
    with_who(Who::Root, OPTIONS, |world| {
        let device = world.shell("losetup -f --show v.vault").trim().to_owned();
        world.done(&format!("mount {device} m --password-file password"));
        world.shell(WRITE);
        world.shell("rm v.vault");
        world.done("unmount m --force");
        world.shell(&format!("losetup -d {device}"));
        assert_written_is_in(world, "v.vault.rescued");
    });
}

#[test]
fn a_container_that_cannot_be_reached_any_more_is_shown_and_kept_until_it_is_saved() {
    with_who(Who::Root, OPTIONS, |world| {
        world.shell("mkdir medium; mount -t tmpfs -o size=80m x medium; mv v.vault medium/v.vault");
        world.done("mount medium/v.vault m --password-file password");
        world.shell(WRITE);
        world.shell("mount -t tmpfs -o size=1m y medium");
        wait_for_state(world, "unreachable");
        world.shell("umount medium");
        wait_until("a way to it", || world.listed()["container_state"].is_null());
        world.shell("umount -l medium");
        wait_for_state(world, "unreachable");
        let list = world.strongroom("list");
        assert!(list.out.contains("v.vault (unreachable)"), "{list:?}");
        let refused = world.strongroom("unmount m");
        assert!(refused.status == Some(5) && refused.errors.contains("--save-as FILE"), "{refused:?}");
        world.done("unmount m --save-as saved.vault");
        assert_written_is_in(world, "saved.vault");
    });
}

/// What was written stays on the disk, whether that is mounted or not.
#[test]
fn a_container_on_a_disk_that_was_unmounted_lazily_is_found_where_that_is_mounted_again() {
    with_who(Who::Root, OPTIONS, |world| {
        world.shell("mkdir medium other; truncate -s 64M disk; mkfs.ext4 -q disk; mount -o loop disk medium");
        let disk = world.shell("findmnt -no SOURCE medium").trim().to_owned();
        world.shell("mv v.vault medium/v.vault");
        world.done("mount medium/v.vault m --password-file password");
        world.shell("umount -l medium");
        wait_for_state(world, "unreachable");
        world.shell(&format!("mount {disk} other"));
        wait_until("the other place", || {
            world.listed()["container"].as_str().is_some_and(|shown| shown.ends_with("/other/v.vault"))
        });
        assert!(world.listed()["container_state"].is_null());
        world.shell(WRITE);
        world.shell("umount -l other");
        wait_for_state(world, "unreachable");
        assert_eq!(world.strongroom("unmount m").status, Some(5));
        let forced = world.strongroom("unmount m --force");
        let told = "what was written is on the file system that held";
        assert!(forced.status == Some(0) && forced.errors.contains(told), "{forced:?}");
        wait_until("the end of the disk", || world.shell("losetup -j disk").is_empty());
        world.shell("mount -o loop disk medium");
        assert_written_is_in(world, "medium/v.vault");
        world.shell("umount medium");
    });
}

/// A folder shown once more, as a network drive may show it: no lock on one side is seen on the other.
#[test]
fn one_file_is_not_written_to_by_two_paths_and_what_becomes_of_it_below_a_fuse_mount_is_noticed() {
    with_vault("--size 32M --provision quick", |world| {
        world.shell("mkdir real view other; mv v.vault real; bindfs --no-allow-other real view");
        let mount = |path: &str, mountpoint: &str| {
            world.strongroom(&format!("mount {path}/v.vault {mountpoint} --password-file password"))
        };
        for (first, second) in [("real", "view"), ("view", "real")] {
            assert_eq!(mount(first, "m").status, Some(0), "{world}");
            world.shell("seq 100000 > m/f; sync m/f");
            let refused = mount(second, "other");
            assert_eq!(refused.status, Some(5), "{world}: {refused:?}");
            assert!(refused.errors.contains("it is the same file as"), "{world}: {refused:?}");
            // A copy is another file, whatever its UUID and its times say.
            world.shell("cp -p real/v.vault real/w.vault");
            world.done("mount real/w.vault other --password-file password");
            world.done("unmount other");
            world.done("unmount m");
        }
        for (change, state) in [("rm real/v.vault", "deleted"), ("mv real/w.vault real/v.vault", "replaced")]
        {
            world.shell("cp -p real/w.vault real/v.vault");
            assert_eq!(mount("view", "m").status, Some(0), "{world}");
            world.shell(&format!("seq 200000 > m/g; sync m/g; {change}"));
            // The kernel asks for a file's attributes again after a second.
            wait_until(state, || world.listed()["container_state"] == state);
            assert_eq!(world.strongroom("unmount m").status, Some(5), "{world}: {change}");
            let inside = world.strongroom("unmount m --save-as m/saved");
            assert_eq!(inside.status, Some(1), "{world}: {inside:?}");
            assert!(inside.errors.contains("lies in the volume that is to be unmounted"), "{inside:?}");
            world.done("unmount m --save-as saved");
            world.done("mount saved m --password-file password");
            world.shell("seq 200000 | cmp - m/g");
            world.done("unmount m");
            world.shell("rm -f saved real/v.vault");
        }
        let end = if world.is_root() { "umount" } else { "fusermount3 -u" };
        world.shell(&format!("{end} view; rm -rf real view other"));
    });
}
