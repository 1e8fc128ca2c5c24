//! A look at a volume that was not unmounted cleanly: all that was synced shows, and not a byte of the container changes.

use std::os::unix::fs::PermissionsExt;

use crate::{
    place::Who,
    world::{World, with_vault, with_vault_of},
};

const TOLD: &str = "in memory, and the container is unchanged";

/// Fifty files, each brought to the volume by whoever wrote it; then a copy of the container as a power cut would have left it, `crashed`, which nobody
/// may write.
const CRASH: &str = "
    sync -f m
    for i in $(seq 50); do dd if=/dev/urandom of=m/f$i bs=20000 count=1 conv=fsync status=none; done
    cd m; sha256sum f* > ../sums; cd ..
    cp --sparse=always v.vault crashed; chmod 400 crashed; sha256sum crashed > before";

#[test]
fn a_read_only_mount_of_a_crashed_volume_shows_all_that_was_synced_and_writes_nothing() {
    for filesystem in ["ext4", "xfs", "btrfs"] {
        let options = format!("--size 400M --provision thin --filesystem {filesystem}");
        let walk = |world: &World| {
            crash(world);
            look(world, "");
            let report = world.json("check crashed --password-file password");
            let told = report["findings"].to_string();
            assert!(told.contains("it was not unmounted cleanly: what was written last"), "{world}: {told}");
            if world.is_root() && filesystem == "ext4" {
                look(world, "--driver builtin");
            }
            // What was left clean is neither warned of nor replayed.
            let clean = world.strongroom("mount --read-only v.vault m --password-file password");
            assert_eq!(clean.status, Some(0), "{world}: {clean:?}");
            assert!(!clean.errors.contains("warning"), "{world}: {clean:?}");
            world.done("unmount m");
            let report = world.json("check v.vault --password-file password");
            assert!(!report["findings"].to_string().contains("not unmounted cleanly"), "{world}: {report}");
        };
        if filesystem == "ext4" {
            with_vault(&options, walk);
        } else {
            with_vault_of(Who::Root, &options, walk);
        }
    }
}

fn crash(world: &World) {
    world.mount();
    world.shell(CRASH);
    world.done("unmount m");
}

fn look(world: &World, options: &str) {
    let looked = world.strongroom(&format!("mount --read-only crashed m --password-file password {options}"));
    assert_eq!(looked.status, Some(0), "{world}: {looked:?}");
    assert!(looked.errors.contains(TOLD), "{world}: {looked:?}");
    world.shell("cd m; sha256sum --quiet -c ../sums; ! touch f1 2> ../touched");
    assert!(std::fs::read_to_string(world.path("touched")).unwrap().contains("Read-only file system"));
    if options.is_empty() {
        let checked = world.done("check crashed --password-file password");
        assert!(checked.contains("it was not unmounted cleanly"), "{world}: {checked}");
    }
    world.done("unmount m");
    world.shell("sha256sum --quiet -c before");
}

/// XFS and btrfs tell a copy by its UUID.
#[test]
fn a_copy_of_a_crashed_volume_mounts_beside_its_original() {
    with_vault_of(Who::Root, "--size 400M --provision thin --filesystem xfs", |world| {
        world.mount();
        world.shell(CRASH);
        world.shell("mkdir other");
        world.done("mount --read-only crashed other --password-file password");
        world.shell("cd other; sha256sum --quiet -c ../sums");
        world.done("unmount other");
        std::fs::set_permissions(world.path("crashed"), std::fs::Permissions::from_mode(0o600)).unwrap();
        world.done("mount crashed other --password-file password");
        world.shell("cd other; sha256sum --quiet -c ../sums; echo more > more");
        world.done("unmount other");
        world.done("unmount m");
    });
}

/// Root can make a mount writable that was not; what would be written then lies in memory alone.
#[test]
fn a_look_cannot_be_made_writable() {
    for filesystem in ["ext4", "xfs", "btrfs"] {
        let options = format!("--size 400M --provision thin --filesystem {filesystem}");
        with_vault_of(Who::Root, &options, |world| {
            crash(world);
            world.done("mount --read-only crashed m --password-file password");
            let told = world.shell(
                "mount -o remount,rw \"$PWD/m\" 2> /dev/null || true
                 (echo lost > m/lost && sync m/lost) 2> /dev/null && echo taken || echo refused",
            );
            assert_eq!(told, "refused\n", "{filesystem}");
            // What root tried to write is lost, and taking it down says so or not.
            let _ = world.strongroom("unmount m --force");
            world.shell("sha256sum --quiet -c before");
        });
    }
}

/// The journal is longer than what may be kept in memory.
#[test]
fn a_journal_too_long_for_memory_is_left_and_said_so() {
    with_vault_of(Who::Root, "--size 1400M --provision thin --filesystem none", |world| {
        world.done("mount --block v.vault m --password-file password");
        world.shell("mkfs.ext4 -q -J size=600 m/volume; tune2fs -o journal_data m/volume > /dev/null");
        world.done("unmount m");
        world.mount();
        world.shell(
            "echo first > m/first; sync -f m; head -c 300M /dev/urandom > m/big; sync -f m
             cp --sparse=always v.vault crashed; sha256sum crashed > before",
        );
        world.done("unmount m");
        let looked = world.strongroom("mount --read-only crashed m --password-file password");
        assert_eq!(looked.status, Some(0), "{looked:?}");
        let told = "its journal could not be replayed in memory (it needs more than 256 MiB): the latest changes do not show";
        assert!(looked.errors.contains(told) && !looked.errors.contains(TOLD), "{looked:?}");
        world.done("unmount m");
        world.shell("sha256sum --quiet -c before");
    });
}
