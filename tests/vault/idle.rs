//! Volumes that close themselves.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    place::{CHEAP, Place, everybody, wait_until},
    world::with_each_driver,
};

fn is_open(place: &Place) -> bool {
    !place.listed().is_null()
}

/// Waits until the volume has closed itself.
fn closes(place: &Place) {
    wait_until("the end of a volume without use", || !is_open(place));
    place.assert_clean();
}

#[test]
fn a_volume_without_use_closes_itself_and_nothing_is_lost() {
    with_each_driver("--size 160M", |world| {
        world.done(&format!("{} --idle 2s", world.mount_command()));
        assert_eq!(world.listed()["idle"], 2, "{world}");
        assert!(world.done("list").contains(", closes after 2s without use"), "{world}");
        world.shell("head -c 20000000 /dev/urandom > m/a; cp m/a copy");
        let used = Instant::now();
        // What the kernel writes by itself meanwhile, to tables that a new ext4 leaves for later, is no use.
        closes(world);
        assert!(used.elapsed() >= Duration::from_secs(2), "{world}: too early");
        world.check_file_system();
        world.mount();
        world.shell("cmp m/a copy");
        world.done("unmount m");
    });
}

#[test]
fn whoever_holds_a_volume_keeps_it_open() {
    with_each_driver("--size 32M --provision quick", |world| {
        for held in ["cd m", "exec 9> m/held"] {
            world.done(&format!("{} --idle 1s", world.mount_command()));
            let holder = world.holder(held);
            sleep(Duration::from_secs(4));
            assert!(is_open(world), "{world}: {held}");
            drop(holder);
            closes(world);
        }
    });
}

#[test]
fn whoever_reads_now_and_then_keeps_a_volume_open() {
    for who in everybody() {
        for (filesystem, options) in [("exfat", "--driver builtin"), ("ext4", ""), ("none", "--block")] {
            let place = Place::of(who);
            place.done(&format!(
                "create v.vault --size 32M --provision quick {CHEAP} --password-file password --filesystem {filesystem}"
            ));
            place.done(&format!("mount v.vault m --password-file password --idle 5s {options}"));
            let file = if filesystem == "none" { "m/volume" } else { "m/f" };
            if filesystem != "none" {
                place.shell("echo text > m/f");
            }
            for _ in 0..8 {
                sleep(Duration::from_secs(1));
                // Each time from the medium or the cache, and with nothing left open.
                place.shell(&format!("head -c 1000 {file} > /dev/null"));
            }
            assert!(is_open(&place), "{place} {options}");
            closes(&place);
        }
    }
}

#[test]
fn a_container_within_keeps_the_outer_volume_open() {
    with_each_driver("--size 64M --provision quick", |world| {
        world.shell("mkdir inside");
        world.mount();
        world.done(&format!(
            "create m/inner.vault --size 20M --provision quick {CHEAP} --password-file password --filesystem none"
        ));
        world.done("unmount m");
        world.done(&format!("{} --idle 2s", world.mount_command()));
        world.done("mount m/inner.vault inside --block --password-file password");
        sleep(Duration::from_secs(6));
        let open = world.json("list")["mounts"].as_array().unwrap().len();
        assert_eq!(open, 2, "{world}");
        world.done("unmount inside");
        closes(world);
    });
}

#[test]
fn a_container_that_was_deleted_does_not_close_by_itself() {
    with_each_driver("--size 32M --provision quick", |world| {
        world.done(&format!("{} --idle 1s", world.mount_command()));
        world.shell("echo kept > m/f; rm v.vault");
        sleep(Duration::from_secs(4));
        assert!(is_open(world), "{world}");
        world.done("unmount m --save-as v.vault");
        world.mount();
        assert_eq!(world.shell("cat m/f"), "kept\n", "{world}");
        world.done("unmount m");
    });
}

#[test]
fn no_time_and_less_than_a_second_are_refused() {
    let place = Place::of_ordinary_user();
    for time in ["0", "0s", "1.5s", "ever", "-1m"] {
        let refused = place.strongroom(&format!("mount none.vault m --idle={time}"));
        assert!(refused.status == Some(1) && refused.errors.contains("--idle"), "{refused:?}");
    }
}
