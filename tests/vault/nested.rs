//! A container in a mounted container.

use rustix::process::Signal;

use crate::{
    place::{CHEAP, Who, signal, wait_for_end_of},
    world::{with_vault, with_who},
};

#[test]
fn an_outer_volume_that_is_busy_names_the_inner_container_and_its_unmounting() {
    with_vault("--size 48M --provision quick", |world| {
        world.mount();
        world.make_folder("n");
        world.done(&format!(
            "create m/inner.vault --password-file password {CHEAP} --size 16M --provision quick"
        ));
        for block in ["", " --block"] {
            world.done(&format!("mount m/inner.vault n --password-file password{block}"));
            let refused = world.strongroom("unmount m");
            assert_eq!(refused.status, Some(5), "{world}: {refused:?}");
            let (outer, inner) = (world.path("m"), world.path("n"));
            let told = format!(
                "in use by {}, which is mounted on {}\nstrongroom: hint: first: strongroom unmount {}\n",
                outer.join("inner.vault").display(),
                inner.display(),
                inner.display()
            );
            assert!(refused.errors.ends_with(&told), "{world}: {refused:?}");
            let refused = world.strongroom("unmount m --force");
            assert_eq!(refused.status, Some(5), "{world}: {refused:?}");
            let told = told.strip_suffix('\n').unwrap();
            assert!(refused.errors.contains(told), "{world}: {refused:?}");
            // The hint, as it stands there.
            world.done(&format!("unmount {}", inner.display()));
        }
        world.done("unmount m");
    });
}

/// The kernel holds it, and whoever ends alone is the outer server: later there is nothing to write to.
#[test]
fn what_an_inner_volume_holds_is_written_before_the_outer_one_goes_alone() {
    with_who(Who::Root, "--size 48M --provision quick", |world| {
        world.mount();
        world.make_folder("n");
        world.done(&format!(
            "create m/inner.vault --password-file password {CHEAP} --size 24M --provision quick --filesystem ext4"
        ));
        let outer = world.server();
        world.done("mount m/inner.vault n --password-file password");
        world.shell("seq 100000 > n/f");
        signal(outer, Signal::TERM);
        wait_for_end_of(outer);
        world.strongroom("unmount n --force");
        world.mount();
        world.done("mount m/inner.vault n --password-file password");
        world.shell("seq 100000 | cmp - n/f");
        world.done("unmount n");
        world.done("unmount m");
    });
}
