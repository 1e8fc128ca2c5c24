//! Containers that grow, and are killed meanwhile.

use crate::{
    place::wait_until,
    world::{World, with_vault},
};

#[test]
fn the_same_command_ends_a_resize_that_was_killed() {
    with_vault("--size 16M --provision thin", |world| {
        for options in ["luks1 --kdf-iterations 1000", "luks2 --pbkdf pbkdf2 --kdf-iterations 1000"] {
            world.done(&format!(
                "create l --password-file password --size 40M --force --yes --format {options}"
            ));
            let resize = "resize l 800M --password-file password";
            kill_while_it_grows(world, resize);
            let len = || std::fs::metadata(world.path("l")).unwrap().len();
            let reached = len();
            assert!(reached > 40 << 20 && reached < 800 << 20, "{world}: killed at {reached}");
            // It opens, and what is there of the new space is filled.
            world.done("key test l --password-file password");
            assert_filled(world);
            world.done(resize);
            assert_eq!(len(), 800 << 20);
            assert_filled(world);
            // And where it was killed after its last write.
            world.done(resize);
            world.done("mount l m --password-file password");
            world.done("unmount m");
            let smaller = world.strongroom("resize l 700M --password-file password");
            assert_eq!(smaller.status, Some(1), "{smaller:?}");
            world.shell("rm l");
        }
    });
}

#[test]
fn a_container_grows_with_its_ext4_and_all_files() {
    with_vault("--size 16M --provision thin", |world| {
        let create = "create l --password-file password --size 40M --format luks2 --pbkdf pbkdf2 --kdf-iterations 1000";
        world.done(create);
        world.done("mount l m --password-file password");
        world.shell("head -c 8M /dev/urandom > m/big; mkdir m/d; echo word > m/d/w; sha256sum m/big > sums");
        let resize = "resize l +60M --password-file password";
        let busy = world.strongroom(resize);
        assert_eq!(busy.status, Some(5), "{world}: {busy:?}");
        world.done("unmount m");
        let resized = world.json(resize);
        assert_eq!(resized["filesystem"], "ext4", "{world}: {resized}");
        assert_eq!(resized["container_size"], 100 << 20, "{world}: {resized}");
        world.done("mount l m --password-file password");
        world.shell("sha256sum --quiet -c sums; test $(cat m/d/w) = word; head -c 50M /dev/urandom > m/more");
        world.shell("sha256sum m/big m/more > sums");
        world.done("unmount m");
        world.done("mount l m --password-file password");
        world.shell("sha256sum --quiet -c sums");
        world.done("unmount m");
        let same = world.strongroom("resize l 100M --password-file password");
        assert_eq!(same.status, Some(0), "{world}: {same:?}");
        assert!(same.errors.contains("was as large already"), "{world}: {same:?}");
        // Cut off, the file system goes beyond it: what would be filled is where the files were.
        world.shell("truncate -s 60M l");
        let refused = world.strongroom("resize l 90M --password-file password");
        assert_eq!(refused.status, Some(4), "{world}: {refused:?}");
    });
}

#[test]
fn what_cannot_grow_inside_is_told_before() {
    with_vault("--size 16M --provision thin", |world| {
        world.done("create l --password-file password --size 40M --format luks1 --kdf-iterations 1000 --filesystem exfat");
        world.shell("sha256sum l > before");
        let refused = world.strongroom("resize l +20M --password-file password");
        assert_eq!(refused.status, Some(4), "{world}: {refused:?}");
        assert!(refused.errors.contains("exfat"), "{world}: {refused:?}");
        world.shell("sha256sum --quiet -c before");
        world.done("resize l +20M --container-only --password-file password");
    });
}

fn kill_while_it_grows(world: &World, resize: &str) {
    let growing = world.shell_in_background(&format!("exec ./strongroom {resize}"));
    let len = || std::fs::metadata(world.path("l")).unwrap().len();
    wait_until("a part of the growth", || len() >= 48 << 20);
    drop(growing);
}

/// Nothing behind the old end shows that it was never written.
fn assert_filled(world: &World) {
    let zeros = world.shell("tail -c +41943041 l | tr -d '\\0' | wc -c");
    let filled: u64 = zeros.trim().parse().unwrap();
    let all = std::fs::metadata(world.path("l")).unwrap().len() - (40 << 20);
    // One byte in 256 of random ones is zero.
    assert!(filled > all - all / 200, "{world}: {filled} of {all}");
}
