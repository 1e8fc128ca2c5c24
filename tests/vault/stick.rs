//! A stick that is used whole: what is on it is named, and the new file system belongs to who called root.

use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

use crate::{
    place::{CHEAP, USER, leave_to_root},
    world::with_vault,
};

const NOTHING: &str = "--size 4M --filesystem none --provision thin";
const OWNER: &str = "stat -c %u:%g m";

#[test]
fn what_is_on_a_stick_is_named_before_it_is_erased() {
    with_vault(NOTHING, |world| {
        if !world.is_root() {
            leave_to_root("make devices to look at");
            return;
        }
        let create = format!("--password-file password {CHEAP} --provision thin --label BACKUP");
        world.shell("truncate -s 40M medium; mkfs.vfat -n STICK medium > /dev/null");
        let stick = world.shell("losetup --show -f medium");
        let stick = stick.trim();
        for (verb, named) in [
            ("", "FAT file system \"STICK\""),
            ("--force --yes", ""),
            ("", "strongroom container \"BACKUP\""),
        ] {
            let ended = world.strongroom(&format!("create {stick} {create} {verb}"));
            let told = format!("cannot create {stick}: it is not empty ({named}, 40 MiB)");
            if named.is_empty() {
                assert_eq!(ended.status, Some(0), "{ended:?}");
            } else {
                assert_eq!(ended.status, Some(5), "{ended:?}");
                assert!(
                    ended.errors.contains(&told) && ended.errors.contains("--force erases all of it"),
                    "{ended:?}"
                );
            }
        }
        // Whatever the device is called by now.
        let info = world.json(&format!("info {stick}"));
        let by_uuid = format!("UUID={}", info["uuid"].as_str().unwrap());
        world.done(&format!("mount --block {by_uuid} m --password-file password"));
        assert_eq!(world.json("list")["mounts"][0]["container"], stick);
        world.done(&format!("unmount {by_uuid}"));
        let none = world.strongroom("mount LABEL=no-such-label m --password-file password");
        assert!(
            none.status == Some(4) && none.errors.contains("cannot find LABEL=no-such-label"),
            "{none:?}"
        );
        world.shell(&format!("losetup -d {stick}"));
    });
}

#[test]
fn a_device_is_taken_only_where_nothing_is_on_it_nothing_uses_it_and_its_name_is_typed() {
    with_vault(NOTHING, |world| {
        if !world.is_root() {
            leave_to_root("make devices to look at");
            return;
        }
        let create = format!("--password-file password {CHEAP} --provision thin");
        world.shell("truncate -s 40M medium");
        let stick = world.shell("losetup --show -f medium");
        let stick = stick.trim();
        let refused = |arguments: &str, told: &str| {
            let ended = world.strongroom(&format!("create {stick} {create} {arguments}"));
            assert!(ended.status == Some(5) && ended.errors.contains(told), "{ended:?}");
        };
        // What a lost partition table leaves.
        for offset in [1 << 20, 63 << 9, 20 << 20] {
            world.shell(&format!(
                "mkfs.vfat -C part 4096 > /dev/null; dd if=part of={stick} bs=512 seek={} status=none; rm part",
                offset >> 9
            ));
            refused("", "it is not empty (data of some kind, 40 MiB)");
            world.shell(&format!("blkdiscard -z {stick}"));
        }
        let over = world.shell(&format!("losetup --show -f -o 1M {stick}"));
        let over = over.trim();
        world.shell(&format!("mkfs.ext4 -q {over}; mkdir used; mount {over} used"));
        refused("--force --yes", &format!("in use by the loop device {over}"));
        world.shell(&format!("umount used; losetup -d {over}; blkdiscard -z {stick}"));
        let over = world.shell("losetup --show -f medium");
        let over = over.trim();
        world.shell(&format!("mkfs.ext4 -q {over}; mount {over} used"));
        refused("--force --yes", &format!("in use by the loop device {over}"));
        world.shell(&format!("umount used; losetup -d {over}; rmdir used"));
        world.shell(&format!("printf 'label: dos\n2048,,83\n' | sfdisk -q --no-reread {stick}"));
        let name = stick.trim_start_matches("/dev/");
        for (typed, told) in [("yes", "not confirmed"), (name, "created /dev/")] {
            let said = world.shell(&format!(
                "printf '{typed}\n\n' | script -qec './strongroom create {stick} {create} --force' /dev/null || true"
            ));
            let asked = format!("{stick} (a loop device of {}, ", world.path("medium").display());
            assert!(said.contains(&asked) && said.contains("Its partition 1 at byte 1048576 "), "{said}");
            assert!(said.contains(&format!("Type \"{name}\"")) && said.contains(told), "{said}");
        }
        world.shell(&format!("losetup -d {stick}"));
        let none = world.strongroom(&format!("create /dev/no-such-device --size 4M {create}"));
        assert!(none.status == Some(4) && none.errors.contains("there is no such device"), "{none:?}");
    });
}

#[test]
fn a_file_and_a_loop_device_that_shows_it_are_one_container() {
    with_vault(NOTHING, |world| {
        if !world.is_root() {
            leave_to_root("make loop devices");
            return;
        }
        world.make_folder("b");
        let device = world.shell("losetup --show -f v.vault");
        let device = device.trim();
        for (first, second) in [("v.vault", device), (device, "v.vault")] {
            world.done(&format!("mount --block {first} m --password-file password"));
            let again = world.strongroom(&format!("mount --block {second} b --password-file password"));
            assert!(
                again.status == Some(5) && again.errors.contains("in use"),
                "{first} {second}: {again:?}"
            );
            world.done("unmount m");
        }
        // A file system, or another device, is made of it.
        let claim = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::EXCL.bits().cast_signed())
            .open(device)
            .unwrap();
        let refused = world.strongroom("mount --block v.vault m --password-file password");
        let told = format!("in use by the loop device {device}");
        assert!(refused.status == Some(5) && refused.errors.contains(&told), "{refused:?}");
        drop(claim);
        world.shell(&format!("losetup -d {device}"));
    });
}

#[test]
fn a_file_system_that_root_makes_for_somebody_belongs_to_them() {
    with_vault(NOTHING, |world| {
        let this = if world.is_root() {
            "0:0".to_owned()
        } else {
            world.shell("echo $(id -u):$(id -g)").trim().to_owned()
        };
        let user = format!("{USER}:{USER}");
        let by_root = |them: &str| if world.is_root() { them.to_owned() } else { this.clone() };
        let as_sudo = format!("export SUDO_UID={USER} SUDO_GID={USER};");
        for (environment, option, expected) in [
            ("", "", this.clone()),
            (&*as_sudo, "", by_root(&user)),
            ("export SUDO_UID=-1 SUDO_GID=0;", "", this.clone()),
            ("export DOAS_USER=nobody;", "", by_root(&user)),
            (&*as_sudo, "--owner 12:34", "12:34".to_owned()),
        ] {
            let create = format!(
                "create new.vault --size 16M --provision thin --password-file password {CHEAP} --force --yes"
            );
            world.shell(&format!("{environment} ./strongroom --quiet {create} {option}"));
            world.done("mount new.vault m --password-file password --owner real");
            assert_eq!(world.shell(OWNER).trim(), expected, "{world}: {environment} {option}");
            world.done("unmount m");
        }
        let refused = world
            .strongroom("create x.vault --size 16M --filesystem exfat --owner 1:2 --password-file password");
        assert!(refused.status == Some(1) && refused.errors.contains("know owners"), "{refused:?}");
    });
}

#[test]
fn what_sudo_makes_in_a_users_folder_belongs_to_the_user() {
    with_vault(NOTHING, |world| {
        if !world.is_root() {
            leave_to_root("make files for others");
            return;
        }
        world.shell(&format!("mkdir theirs ours; chown {USER}:{USER} theirs"));
        for (folder, owner) in [("theirs", USER), ("ours", 0)] {
            let make = format!(
                "export SUDO_UID={USER} SUDO_GID={USER}; set -e
                ./strongroom -q create {folder}/v --header {folder}/h {NOTHING} --password-file password {CHEAP}
                ./strongroom -q header backup {folder}/v --header {folder}/h {folder}/backup
                ./strongroom -q create {folder}/v --force --yes {NOTHING} --password-file password {CHEAP}
                ./strongroom -q export {folder}/v {folder}/plain --yes --password-file password"
            );
            world.shell(&make);
            let owners = world.shell(&format!("stat -c %u:%g {folder}/*"));
            assert_eq!(owners, format!("{owner}:{owner}\n").repeat(4), "{folder}");
        }
        // Whose file is replaced, theirs is the new one.
        world.shell(&format!("chown {USER}:{USER} ours/v"));
        world.shell(&format!(
            "./strongroom -q create ours/v --force --yes {NOTHING} --password-file password {CHEAP}"
        ));
        assert_eq!(world.shell("stat -c %u ours/v").trim(), USER.to_string());
    });
}
