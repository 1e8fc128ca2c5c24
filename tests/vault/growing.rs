//! LUKS containers that grow, and are killed meanwhile.

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
