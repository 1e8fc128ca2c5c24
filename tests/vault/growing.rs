//! Containers that grow, and are killed meanwhile.

use crate::{
    place::{CHEAP, Who, leave_to_root, wait_until},
    world::{World, with_each_driver, with_vault, with_vault_of},
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
            assert_eq!(smaller.status, Some(5), "{smaller:?}");
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

const NATIVE: &str = "resize v.vault +60M --password-file password";

#[test]
fn a_vault_grows_with_its_ext4_and_all_files_and_takes_an_old_backup() {
    for provision in ["thin", "thick"] {
        with_vault(&format!("--size 40M --provision {provision}"), |world| {
            world.mount();
            world.shell(
                "head -c 8M /dev/urandom > m/big; mkdir m/d; echo word > m/d/w; sha256sum m/big > sums",
            );
            world.done("unmount m");
            world.done("header backup v.vault before.hdr");
            let resized = world.json(NATIVE);
            assert_eq!(resized["filesystem"], "ext4", "{world}: {resized}");
            assert_eq!(resized["container_size"], 100 << 20, "{world}: {resized}");
            world.mount();
            world.shell(
                "sha256sum --quiet -c sums; test \"$(cat m/d/w)\" = word; head -c 50M /dev/urandom > m/more",
            );
            world.shell("sha256sum m/big m/more > sums");
            world.done("unmount m");
            let report = world.json("check v.vault --password-file password");
            assert_eq!(report["ok"], true, "{world}: {report}");
            // Both header copies are lost, and the backup is from before.
            world.shell("dd if=/dev/zero of=v.vault bs=64K count=1 conv=notrunc status=none");
            world.shell("dd if=/dev/zero of=v.vault bs=64K seek=1584 count=1 conv=notrunc status=none");
            world.done("header restore v.vault before.hdr --yes --force --password-file password");
            world.mount();
            world.shell("sha256sum --quiet -c sums");
            world.done("unmount m");
            let smaller = world.strongroom("resize v.vault 40M --password-file password");
            assert_eq!(smaller.status, Some(5), "{world}: {smaller:?}");
            assert!(smaller.errors.contains("the container can have"), "{world}: {smaller:?}");
        });
    }
}

#[test]
fn a_vault_whose_growth_is_killed_opens_and_the_same_command_ends_it() {
    with_vault("--size 40M --provision thick", |world| {
        world.mount();
        world.shell("head -c 8M /dev/urandom > m/big; sha256sum m/big > sums");
        world.done("unmount m");
        let resize = "resize v.vault 400M --password-file password";
        let growing = world.shell_in_background(&format!("exec ./strongroom {resize}"));
        let len = || std::fs::metadata(world.path("v.vault")).unwrap().len();
        wait_until("a part of the growth", || len() >= 400 << 20);
        drop(growing);
        world.mount();
        world.shell("sha256sum --quiet -c sums");
        world.done("unmount m");
        world.done(resize);
        world.mount();
        world.shell("sha256sum --quiet -c sums; test $(df --output=size m | tail -1) -gt 300000");
        world.done("unmount m");
    });
}

#[test]
fn a_vault_on_a_device_grows_to_its_end() {
    with_vault_of(Who::Root, "--size 40M --filesystem none", |world| {
        world.shell("truncate -s 48M disk; losetup -f --show disk > device; chmod 600 disk");
        let device = std::fs::read_to_string(world.path("device")).unwrap();
        let device = device.trim();
        world.done(&format!(
            "create {device} --yes --force --password-file password {CHEAP} --provision quick"
        ));
        world.shell(&format!("losetup -d {device}; truncate -s 96M disk; losetup {device} disk"));
        let resized = world.json(&format!("resize {device} max --password-file password"));
        assert_eq!(resized["container_size"], 96 << 20, "{resized}");
        assert_eq!(resized["filesystem"], "ext4", "{resized}");
        world.done(&format!("mount {device} m --password-file password"));
        world.shell("test $(df --output=size m | tail -1) -gt 80000");
        world.done("unmount m");
        let larger = world.strongroom(&format!("resize {device} +8M --password-file password"));
        assert_eq!(larger.status, Some(4), "{larger:?}");
        world.shell(&format!("losetup -d {device}"));
    });
}

#[test]
fn a_mounted_volume_grows_under_its_users() {
    with_each_driver("--size 64M", |world| {
        let create = "create l --password-file password --size 64M --format luks2 --pbkdf pbkdf2 --kdf-iterations 1000";
        world.done(create);
        for name in ["v.vault", "l"] {
            let mount = world.mount_command().replace("v.vault", name);
            world.done(&mount);
            world.shell("head -c 20M /dev/urandom > m/big; sha256sum m/big > sums");
            // Somebody writes all the time.
            let writing = world.shell_in_background(
                "i=0; while test ! -e stop; do echo $i > m/n; sync m/n; i=$((i + 1)); done; cp m/n new; mv new last",
            );
            let resize = format!("resize {name} 128M --password-file password");
            let resized = world.json(&resize);
            assert_eq!(resized["container_size"], 128 << 20, "{world}: {resized}");
            if world.driver() == "builtin" {
                assert_eq!(resized["filesystem"], "ext4", "{world}: {resized}");
                world.shell("test $(df --output=size m | tail -1) -gt 100000; head -c 70M /dev/urandom > m/more; sha256sum m/more >> sums");
            }
            world.shell("touch stop");
            wait_until("the writer's end", || world.path("last").exists());
            drop(writing);
            world.shell("sha256sum --quiet -c sums; cmp m/n last");
            world.done("unmount m");
            // Where its driver could not, the same command ends it.
            let ended = world.json(&resize);
            assert_eq!(ended["filesystem"], "ext4", "{world}: {ended}");
            world.done(&mount);
            world.shell(
                "sha256sum --quiet -c sums; cmp m/n last; test $(df --output=size m | tail -1) -gt 100000",
            );
            world.done("unmount m");
            let report = world.json(&format!("check {name} --password-file password"));
            assert_eq!(report["ok"], true, "{world}: {report}");
            world.shell("rm stop last");
        }
    });
}

#[test]
fn a_container_becomes_as_small_as_its_file_system_and_no_smaller() {
    with_vault("--size 96M", |world| {
        let create = "create l --password-file password --size 96M --format luks1 --kdf-iterations 1000";
        world.done(create);
        world.shell("mkdir -p b");
        for name in ["v.vault", "l"] {
            let mount = world.mount_command().replace("v.vault", name);
            world.done(&mount);
            world.shell("head -c 8M /dev/urandom > m/big; sha256sum m/big > sums");
            world.done("unmount m");
            world.shell(&format!("sha256sum {name} > before"));
            let refused = world.strongroom(&format!("resize {name} 64M --password-file password"));
            assert_eq!(refused.status, Some(5), "{world}: {refused:?}");
            assert!(refused.errors.contains("resize2fs"), "{world}: {refused:?}");
            world.shell("sha256sum --quiet -c before");
            world.done(&format!("mount --block {name} b --password-file password"));
            world.shell("PATH=$PATH:/usr/sbin:/sbin; e2fsck -fp b/volume; resize2fs b/volume 48M");
            world.done("unmount b");
            let resized = world.json(&format!("resize {name} 64M --password-file password"));
            assert_eq!(resized["container_size"], 64 << 20, "{world}: {resized}");
            assert_eq!(std::fs::metadata(world.path(name)).unwrap().len(), 64 << 20, "{world}");
            world.done(&mount);
            world.shell("sha256sum --quiet -c sums");
            world.done("unmount m");
            let report = world.json(&format!("check {name} --password-file password"));
            assert_eq!(report["ok"], true, "{world}: {report}");
        }
    });
}

#[test]
fn a_block_file_grows_while_it_is_open() {
    with_vault("--size 40M --filesystem none", |world| {
        world.shell("mkdir -p b");
        world.done("mount --block v.vault b --password-file password");
        world.shell("head -c 1M /dev/urandom > start; dd if=start of=b/volume conv=notrunc status=none");
        let resized = world.json("resize v.vault 60M --password-file password");
        let size = resized["data_size"].as_u64().unwrap();
        assert_eq!(std::fs::metadata(world.path("b/volume")).unwrap().len(), size, "{world}");
        let last = size / (1 << 20) - 1;
        world.shell(&format!("dd if=start of=b/volume bs=1M seek={last} conv=notrunc,fsync status=none"));
        world.done("unmount b");
        world.done("mount --block v.vault b --password-file password");
        world.shell(&format!("dd if=b/volume bs=1M count=1 status=none | cmp - start; dd if=b/volume bs=1M skip={last} status=none | cmp - start"));
        world.done("unmount b");
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

#[test]
fn max_is_what_the_disk_has_room_for_however_often_it_is_asked_for() {
    with_vault("--size 16M --provision thin", |world| {
        if !world.is_root() {
            leave_to_root("mount a small disk");
            return;
        }
        world.shell("mkdir small; mount -t tmpfs -o size=200M none small");
        for options in ["", "--split 4M"] {
            world.done(&format!(
                "create small/v --password-file password --size 40M --provision thin {options} {CHEAP}"
            ));
            let size = || {
                let resized = world.json("resize small/v max --password-file password");
                resized["container_size"].as_u64().unwrap()
            };
            let first = size();
            assert!(first > 100 << 20 && first < 200 << 20, "{options}: {first}");
            let second = size();
            assert!(second <= first + (4 << 20), "{options}: {first}, then {second}");
            world.shell("rm -r small/v");
        }
        world.shell("umount small; rmdir small");
    });
}
