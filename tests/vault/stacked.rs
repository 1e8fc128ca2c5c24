//! What stands on a volume: file systems on its block file or in it, overlays, and mounts in its folders.

use crate::{
    place::Who,
    world::{World, with_who},
};

const OPTIONS: &str = "--size 48M --provision quick";
const BLOCK: &str = "mount --block v.vault m --password-file password";

#[test]
fn a_file_system_on_the_block_file_is_named_and_synced_and_force_says_that_it_goes() {
    with_who(Who::Root, "--size 16M --provision quick --filesystem none", |world: &World| {
        world.done(BLOCK);
        world.shell("mkdir b; mkfs.ext4 -q m/volume; mount -o loop m/volume b; seq 700000 > b/f");
        let refused = world.strongroom("unmount m");
        assert_eq!(refused.status, Some(5), "{refused:?}");
        let place = world.path("b").display().to_string();
        assert!(refused.errors.contains(&format!("in use by the mount on {place}")), "{refused:?}");
        assert!(refused.errors.contains(&format!("first: umount {place}")), "{refused:?}");
        world.shell("seq 500000 > b/g");
        let forced = world.strongroom("unmount m --force");
        assert_eq!(forced.status, Some(6), "{forced:?}");
        assert!(forced.errors.contains(&format!("the file system on {place} lay in it")), "{forced:?}");
        world.shell("umount b");
        world.done(BLOCK);
        world.shell(
            "mount -o loop m/volume b; seq 700000 | cmp - b/f; seq 500000 | cmp - b/g; umount b; rmdir b",
        );
        world.done("unmount m");
    });
}

#[test]
fn force_syncs_and_names_overlays_and_what_lies_in_folders_of_the_volume() {
    for who in [Who::Root, Who::RootInServer] {
        with_who(who, OPTIONS, |world: &World| {
            world.mount();
            let is_kernel = world.driver() == "kernel";
            world.shell("mkdir m/t m/u m/w o; mount -t tmpfs x m/t; echo lost > m/t/f");
            if is_kernel {
                world.shell("mount -t overlay -o lowerdir=.,upperdir=m/u,workdir=m/w overlay o");
                world.shell("seq 700000 > o/f");
            }
            let forced = world.strongroom("unmount m --force");
            assert_eq!(forced.status, Some(6), "{world}: {forced:?}");
            let told = format!("{} (tmpfs) had its files only in memory", world.path("m/t").display());
            assert!(forced.errors.contains(&told), "{world}: {forced:?}");
            if is_kernel {
                let told = format!("the overlay on {} kept its changes in it", world.path("o").display());
                assert!(forced.errors.contains(&told), "{world}: {forced:?}");
                world.shell("umount o");
            }
            world.mount();
            if is_kernel {
                world.shell("seq 700000 | cmp - m/u/f");
            }
            world.done("unmount m");
            world.shell("rmdir o");
        });
    }
}
