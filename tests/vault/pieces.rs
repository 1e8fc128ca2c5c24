//! Containers that are folders of pieces.

use rustix::process::Signal;

use crate::{
    place::{CHEAP, Who, signal, wait_for_end_of},
    world::{World, with_each_driver, with_vault, with_vault_of, with_who},
};

const OTHER: &str = "--size 4M --filesystem none --provision thin";

fn create(world: &World, options: &str) {
    world.done(&format!("create p --password-file password {CHEAP} {options}"));
}

fn mount(world: &World, options: &str) {
    let driver = match (world.is_root(), world.driver()) {
        (true, "builtin") => "--driver builtin",
        _ => "",
    };
    world.done(&format!("mount p m --password-file password {driver} {options}"));
}

fn pieces(world: &World) -> usize {
    world.shell("cd p; ls | grep -c '^[0-9]*$' || true").trim().parse().unwrap()
}

#[test]
fn a_folder_of_pieces_holds_files_and_loses_nothing_that_was_synced() {
    with_each_driver(OTHER, |world| {
        create(world, "--size 64M --split 1M");
        let made = pieces(world);
        assert!(made < 40, "{made} pieces of an empty file system");
        assert_eq!(world.shell("stat -c %s p/0* | sort -u | head -n 1").trim(), "1048576");
        assert_eq!(world.shell("ls p | grep -v '^[0-9]*$'"), "header\nheader.copy\n");
        mount(world, "");
        assert_eq!(world.listed()["container"], world.path("p").to_str().unwrap());
        world.shell("head -c 9000000 /dev/urandom > m/a; sha256sum < m/a > sum; sync m/a");
        assert!(pieces(world) >= made + 8);
        let again = world.strongroom("mount p m --password-file password");
        assert_eq!(again.status, Some(5), "{again:?}");
        let server = world.server();
        signal(server, Signal::KILL);
        wait_for_end_of(server);
        mount(world, "");
        world.shell("sha256sum < m/a | cmp - sum; mkdir m/d; cp m/a m/d/b; sync m/d/b; rm m/a");
        world.done("unmount p");
        mount(world, "--read-only");
        world.shell("sha256sum < m/d/b | cmp - sum");
        world.done("unmount m");
        let checked = world.done("check p --password-file password");
        assert!(checked.contains("of 63 were made"), "{checked}");
        let info = world.done("info p");
        assert!(info.contains("Pieces:        63 of 1 MiB, "), "{info}");
        assert!(info.contains("On disk:       "), "{info}");
        world.done("mount --block p m --password-file password");
        world.shell("e2fsck -fn m/volume");
        world.done("unmount m");
    });
}

#[test]
fn every_piece_is_made_at_once_where_the_space_is_to_be_set_aside() {
    for provision in ["thick", "quick"] {
        with_vault(OTHER, |world| {
            create(world, &format!("--size 24M --split 4M --provision {provision} --filesystem vfat"));
            assert_eq!(pieces(world), 6);
            mount(world, "");
            world.shell("head -c 5000000 /dev/urandom > m/a; sha256sum < m/a > sum; sync m/a");
            world.done("unmount m");
            mount(world, "");
            world.shell("sha256sum < m/a | cmp - sum");
            world.done("unmount m");
            world.done("check p --password-file password");
        });
    }
}

#[test]
fn pieces_that_are_missing_foreign_or_cut_are_named_and_never_read_as_zeros() {
    with_vault(OTHER, |world| {
        create(world, "--size 24M --split 1M --filesystem none");
        world.done("mount --block p m --password-file password");
        world.shell("head -c 20000000 /dev/urandom > random; dd if=random of=m/volume bs=1M conv=notrunc,fsync status=none");
        world.done("unmount m");
        let faults = [
            ("mv p/00000004 kept", "piece 00000004 is missing", "mv kept p/00000004"),
            (
                "cp p/00000004 kept; cp p/00000005 p/00000004",
                "piece 00000004 is not what was made under this name: it is piece 00000005",
                "mv kept p/00000004",
            ),
            (
                "cp p/00000004 kept; truncate -s 5000 p/00000004",
                "piece 00000004 has 5000 bytes instead of 1048576",
                "mv kept p/00000004",
            ),
        ];
        for (harm, told, heal) in faults {
            world.shell(harm);
            let refused = world.strongroom("mount --block p m --password-file password");
            assert!(refused.status == Some(4) && refused.errors.contains(told), "{harm}: {refused:?}");
            let checked = world.strongroom("check p --password-file password");
            assert!(checked.status == Some(4) && checked.out.contains(told), "{harm}: {checked:?}");
            let unlocked = world.strongroom("check p --no-unlock");
            assert!(unlocked.status == Some(4) && unlocked.out.contains(told), "{harm}: {unlocked:?}");
            let read = world.strongroom("mount --block --read-only p m --password-file password");
            assert!(read.status == Some(0) && read.errors.contains(told), "{harm}: {read:?}");
            let copied =
                world.shell("dd if=m/volume of=/dev/null bs=4k count=1 skip=1100 status=none 2>&1 || true");
            assert!(copied.contains("Input/output error"), "{harm}: {copied}");
            world.shell("cmp -n 1000000 m/volume random");
            world.done("unmount m");
            world.shell(heal);
        }
        world.shell("cp p/00000004 'p/00000004 (conflicted copy)'");
        let told = "00000004 (conflicted copy) lies beside the files of the container";
        let checked = world.strongroom("check p --password-file password");
        assert!(checked.status == Some(0) && checked.out.contains(told), "{checked:?}");
        let warned = world.strongroom("mount --block p m --password-file password");
        assert!(warned.status == Some(0) && warned.errors.contains(told), "{warned:?}");
        world.shell("cmp -n 20000000 m/volume random");
        world.done("unmount m");
    });
}

#[test]
fn a_header_file_that_is_lost_is_made_anew_from_the_other() {
    with_vault(OTHER, |world| {
        create(world, "--size 16M --split 1M");
        mount(world, "");
        world.shell("echo kept > m/f");
        world.done("unmount m");
        for harm in [
            "rm p/header",
            "rm p/header.copy",
            "truncate -s 0 p/header.copy",
            "dd if=/dev/zero of=p/header bs=4k count=1 conv=notrunc status=none",
        ] {
            world.shell(harm);
            let look = world.strongroom("info p");
            assert_ne!(look.status, Some(0), "{harm}");
            mount(world, "");
            assert_eq!(world.shell("cat m/f"), "kept\n", "{harm}");
            world.done("unmount m");
            assert!(world.done("info p").contains("current at offset 0"), "{harm}");
            world.done("check p --password-file password");
        }
        world.shell("cp p/header.copy kept; rm p/header p/header.copy");
        for command in ["info p", "mount p m --password-file password", "check p --password-file password"] {
            let lost = world.strongroom(command);
            let told = "both header files of this folder of pieces, header and header.copy, are missing";
            assert!(lost.status == Some(4) && lost.errors.contains(told), "{command}: {lost:?}");
        }
        world.shell("mv kept p/header.copy");
        mount(world, "");
        assert_eq!(world.shell("cat m/f"), "kept\n");
        world.done("unmount m");
    });
}

#[test]
fn a_header_file_that_goes_while_it_is_mounted_keeps_others_out_and_is_kept() {
    with_vault(OTHER, |world| {
        create(world, "--size 16M --split 1M");
        mount(world, "");
        world.shell("echo kept > m/f; sync -f m; rm p/header");
        let second = world.strongroom("mount p m2 --password-file password");
        assert_ne!(second.status, Some(0), "{second:?}");
        world.make_folder("m2");
        let second = world.strongroom("mount p m2 --password-file password");
        assert_eq!(second.status, Some(5), "{second:?}");
        let refused = world.strongroom("unmount m");
        assert!(
            refused.status == Some(5)
                && refused.errors.contains("its header file")
                && refused.errors.contains("--force"),
            "{refused:?}"
        );
        world.shell("echo more > m/g; sync -f m");
        world.strongroom("unmount m --force");
        world.shell("mv p/header.rescued p/header");
        mount(world, "");
        assert_eq!(world.shell("cat m/f m/g"), "kept\nmore\n");
        world.done("unmount m");
    });
}

/// What programs do that synchronise folders.
const REPLACE: &str = "for p in p/0*; do cp $p x; mv x $p; done";
const WRITE: &str = "head -c 9000000 /dev/urandom > m/b; sync m/b; sha256sum m/a m/b > sum";

fn mount_with_a_file(world: &World) {
    create(world, "--size 64M --split 8M");
    mount(world, "");
    world.shell("head -c 20000000 /dev/urandom > m/a; sync m/a");
    assert!(world.listed()["container_state"].is_null(), "{}", world.listed());
}

fn assert_all_is_in(world: &World, name: &str) {
    world.done(&format!("mount {name} m --password-file password"));
    world.shell("sha256sum --quiet -c sum");
    world.done("unmount m");
    world.done(&format!("check {name} --password-file password"));
}

#[test]
fn pieces_that_are_replaced_are_shown_and_a_copy_of_the_folder_keeps_what_is_written() {
    with_each_driver(OTHER, |world| {
        mount_with_a_file(world);
        world.shell(REPLACE);
        world.shell(WRITE);
        let list = world.strongroom("list");
        assert!(list.out.contains("/p (replaced)"), "{world}: {list:?}");
        assert!(list.errors.contains("piece 00000000 (one of"), "{list:?}");
        let folder = format!(" of the container {} was replaced", world.path("p").display());
        assert!(list.errors.contains(&folder), "{list:?}");
        assert!(list.errors.contains("--save-as DIR keeps it"), "{list:?}");
        assert_eq!(world.listed()["lost_pieces"]["first"], "00000000");
        let synced = world.strongroom("sync m");
        assert!(synced.status == Some(5) && synced.errors.contains("was replaced"), "{synced:?}");
        let refused = world.strongroom("unmount m");
        assert!(
            refused.status == Some(5)
                && refused.errors.contains("was replaced: what was written to it would be lost")
                && refused.errors.contains("--save-as DIR"),
            "{world}: {refused:?}"
        );
        let exists = world.strongroom("unmount m --save-as p");
        assert!(exists.status == Some(5) && exists.errors.contains("already exists"), "{exists:?}");
        world.done("unmount m --save-as saved");
        world.assert_clean();
        assert_eq!(world.shell("stat -c %a saved saved/header"), "700\n600\n");
        assert_all_is_in(world, "saved");
    });
}

#[test]
fn a_piece_that_is_deleted_is_in_the_copy_that_force_leaves() {
    with_each_driver(OTHER, |world| {
        mount_with_a_file(world);
        world.shell("rm p/00000001");
        world.shell(WRITE);
        let list = world.strongroom("list");
        assert!(list.out.contains("/p (deleted)"), "{world}: {list:?}");
        let refused = world.strongroom("unmount m");
        assert!(refused.status == Some(5) && refused.errors.contains("piece 00000001 of"), "{refused:?}");
        let forced = world.strongroom("unmount m --force");
        assert!(forced.status == Some(0) && forced.errors.contains("p.rescued\n"), "{world}: {forced:?}");
        assert_all_is_in(world, "p.rescued");
        let again = world.strongroom("mount p m --password-file password");
        assert!(again.errors.contains("p.rescued: check that, then move it"), "{world}: {again:?}");
    });
}

#[test]
fn a_whole_folder_that_is_deleted_is_copied_and_what_nobody_held_is_told_as_gone() {
    with_vault(OTHER, |world| {
        mount_with_a_file(world);
        world.shell("sha256sum m/a > sum; rm -r p");
        let refused = world.strongroom("unmount m");
        assert!(refused.status == Some(5) && refused.errors.contains("--save-as DIR"), "{refused:?}");
        let forced = world.strongroom("unmount m --force");
        assert_eq!(forced.status, Some(0), "{world}: {forced:?}");
        assert_all_is_in(world, "p.rescued");

        // More than a server has open.
        world.shell("rm -r p.rescued");
        create(world, "--size 300M --split 1M --provision quick --filesystem none");
        world.done("mount --block p m --password-file password");
        world.shell("rm p/00000280");
        let refused = world.strongroom("unmount m");
        let told = "piece 00000280 of its container";
        assert!(refused.status == Some(5) && refused.errors.contains(told), "{refused:?}");
        assert!(refused.errors.contains("was deleted: what was in it is gone"), "{refused:?}");
        let forced = world.strongroom("unmount m --force");
        assert!(forced.status == Some(6) && forced.errors.contains(told), "{forced:?}");
    });
}

#[test]
fn pieces_that_others_write_to_or_cut_are_shown_and_force_says_that_they_may_be_damaged() {
    with_each_driver(OTHER, |world| {
        for harm in [
            "dd if=/dev/zero of=p/00000001 bs=1M count=8 conv=notrunc status=none",
            "cp old/00000000 p/00000000",
            "truncate -s 1M p/00000001",
        ] {
            create(world, "--size 64M --split 8M");
            mount(world, "");
            world.shell("cp -r p old; head -c 20000000 /dev/urandom > m/a; sync m/a");
            world.done("sync m");
            world.shell(harm);
            let list = world.strongroom("list");
            assert!(list.out.contains("/p (overwritten)"), "{world}: {harm}: {list:?}");
            let refused = world.strongroom("unmount m");
            assert!(
                refused.status == Some(5) && refused.errors.contains("copy what you can still read"),
                "{world}: {harm}: {refused:?}"
            );
            let saved = world.strongroom("unmount m --save-as saved");
            assert!(saved.status == Some(5) && saved.errors.contains("may not open"), "{saved:?}");
            let forced = world.strongroom("unmount m --force");
            assert_eq!(forced.status, Some(6), "{world}: {harm}: {forced:?}");
            world.shell("rm -r p old");
        }
    });
}

#[test]
fn what_is_done_beside_the_pieces_or_undone_is_no_alarm() {
    with_each_driver(OTHER, |world| {
        mount_with_a_file(world);
        world.shell("mv p/00000001 x; mv x p/00000001; touch p/00000000; chmod 640 p/00000000");
        world.shell("cp p/00000001 'p/00000001 (conflicted copy)'; echo new > p/.sync; cat p/* > /dev/null");
        world.shell(WRITE);
        assert!(world.listed()["container_state"].is_null(), "{world}: {}", world.listed());
        world.done("unmount m");
        assert_all_is_in(world, "p");
    });
}

#[test]
fn what_a_folder_of_pieces_cannot_do_is_refused_in_one_line() {
    with_vault_of(Who::User, OTHER, |world| {
        create(world, "--size 16M --split 1M");
        for (command, told) in [
            ("resize p +2000000M --password-file password", "too many pieces"),
            ("reencrypt p --password-file password", "strongroom convert FILE NEW --split SIZE"),
            ("reencrypt p/header --password-file password", "keeps its volume key"),
            ("mount p m --offset 4096 --password-file password", "a folder of pieces"),
            ("create p --size 4M --split 1M --password-file password", "already exists"),
            (
                "create q --size 4M --split 1M --format luks2 --password-file password",
                "strongroom's own format",
            ),
            ("create q --size 4M --split 1000K --password-file password", "from 1 MiB to 1 TiB"),
            ("create q --size 4M --split 1M --force --password-file password", "cannot be used"),
        ] {
            let refused = world.strongroom(command);
            assert!(refused.status != Some(0) && refused.errors.contains(told), "{command}: {refused:?}");
        }
        assert_eq!(world.shell("ls -A | grep -c partial || true").trim(), "0");
    });
}

#[test]
fn keyslots_and_headers_of_a_folder_are_changed_as_those_of_a_file() {
    with_vault(OTHER, |world| {
        world.shell("printf 'second password' > second");
        create(world, "--size 16M --split 1M");
        world.done("header backup p backup");
        for is_mounted in [false, true] {
            if is_mounted {
                mount(world, "");
                world.shell("echo kept > m/f");
            }
            world.done(&format!("key add p --password-file password --new-password-file second {CHEAP}"));
            world.done("key test p --password-file second");
            world.done("key remove p --slot 1 --password-file password");
            if is_mounted {
                assert!(world.listed()["container_state"].is_null(), "{}", world.listed());
                world.done("unmount m");
            }
        }
        world.done("header restore p backup --password-file password --yes");
        world.shell("dd if=/dev/zero of=p/header bs=4k seek=3 count=16 conv=notrunc status=none");
        world.done("header repair p --password-file password --yes");
        mount(world, "");
        assert_eq!(world.shell("cat m/f"), "kept\n");
        world.done("unmount m");
        world.done("export p plain --yes --password-file password");
        world.shell("e2fsck -fn plain");
        world.done(&format!("import plain q --split 2M --password-file password {CHEAP}"));
        world.done("mount q m --read-only --password-file password");
        assert_eq!(world.shell("cat m/f"), "kept\n");
        world.done("unmount m");
        world.done("erase p --yes");
        assert_eq!(world.strongroom("mount p m --password-file password").status, Some(4));
    });
}

/// The file system of a stick, mounted by our own driver.
#[test]
fn a_folder_of_pieces_lies_on_fat32_as_well() {
    with_vault("--size 100M --provision thin --filesystem vfat", |world| {
        let driver = if world.is_root() { "--driver builtin" } else { "" };
        world.done(&format!("mount v.vault m --password-file password {driver}"));
        world.make_folder("n");
        world.done(&format!("create m/p --size 40M --split 1M --password-file password {CHEAP}"));
        world.done(&format!("mount m/p n --password-file password {driver}"));
        world.shell("head -c 9000000 /dev/urandom > n/a; sha256sum < n/a > sum; sync n/a");
        let server = world.json("list")["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["container"].as_str().unwrap().ends_with("m/p"))
            .unwrap()["pid"]
            .as_u64()
            .unwrap();
        signal(server, Signal::KILL);
        wait_for_end_of(server);
        world.done(&format!("mount m/p n --password-file password {driver}"));
        world.shell("sha256sum < n/a | cmp - sum; cp n/a n/b; sync n/b");
        world.done("unmount n");
        world.done("check m/p --password-file password");
        world.done("unmount m");
        world.done("mount --block v.vault m --password-file password");
        world.shell("fsck.vfat -n m/volume");
        world.done("unmount m");
    });
}

/// Where the medium is full, writes wait for room, and go on.
#[test]
fn a_medium_that_is_full_takes_the_pieces_once_there_is_room() {
    with_who(Who::Root, OTHER, |world| {
        world.shell(
            "mkdir disk; mount -t tmpfs -o size=24m tmpfs disk; head -c 10000000 /dev/zero > disk/ballast",
        );
        world.done(&format!("create disk/p --size 64M --split 1M --password-file password {CHEAP}"));
        world.done("mount disk/p m --password-file password --driver builtin");
        let load =
            world.shell_in_background("head -c 20000000 /dev/urandom > m/a; sha256sum < m/a > sum; sync m/a");
        crate::place::wait_until("a full disk", || {
            world.json("list")["mounts"].as_array().unwrap().iter().any(|entry| !entry["unwritten"].is_null())
        });
        world.shell("rm disk/ballast");
        assert_eq!(load.wait(), Some(0));
        world.done("unmount m");
        world.done("mount disk/p m --password-file password --driver builtin");
        world.shell("sha256sum < m/a | cmp - sum");
        world.done("unmount m");
        world.shell("umount disk");
    });
}

#[test]
fn a_container_changes_its_form_without_its_password_and_goes_on_where_it_was_killed() {
    with_vault_of(Who::User, "--size 40M --provision thick", |world| {
        world.mount();
        world.shell("echo kept > m/f");
        let busy = world.strongroom("convert v.vault p --split 1M");
        assert_eq!(busy.status, Some(5), "{busy:?}");
        world.done("unmount m");
        let converting = world.shell_in_background("exec ./strongroom convert v.vault p --split 1M");
        crate::place::wait_until("some pieces", || {
            world.shell("ls -A .p.strongroom-convert 2> /dev/null | wc -l").trim().parse::<u32>().unwrap() > 5
        });
        signal(converting.process(), Signal::KILL);
        converting.wait();
        assert_eq!(world.shell("ls -d p 2> /dev/null || true"), "");
        let other = world.strongroom("convert v.vault p --split 2M");
        assert!(other.status == Some(5) && other.errors.contains("in another way"), "{other:?}");
        world.done("convert v.vault p --split 1M");
        assert_eq!(pieces(world), 39);
        mount(world, "");
        assert_eq!(world.shell("cat m/f; echo more > m/g"), "kept\n");
        world.done("unmount m");
        world.done("convert p again --split 3M");
        world.done("convert again whole.vault");
        world.done("mount whole.vault m --password-file password");
        assert_eq!(world.shell("cat m/f m/g"), "kept\nmore\n");
        world.done("unmount m");
        assert_eq!(world.shell("stat -c %s whole.vault"), world.shell("stat -c %s v.vault"));
        assert_eq!(world.strongroom("convert v.vault n").status, Some(1));
        assert_eq!(world.strongroom("convert v.vault p --split 1M").status, Some(5));
        assert_eq!(world.shell("ls -A | grep -c strongroom-convert || true").trim(), "0");
    });
}

#[test]
fn only_the_password_tells_which_pieces_were_never_made() {
    with_vault_of(Who::User, OTHER, |world| {
        create(world, "--size 24M --split 1M");
        mount(world, "");
        world.shell("echo kept > m/f");
        world.done("unmount m");
        let refused = world.strongroom("convert p whole.vault");
        assert_ne!(refused.status, Some(0), "{refused:?}");
        world.done("convert p whole.vault --password-file password");
        let blocks = world.shell("stat -c %b whole.vault").trim().parse::<u64>().unwrap();
        assert!(blocks * 512 < 20 << 20, "what was never made stays a hole");
        world.done("mount whole.vault m --password-file password");
        assert_eq!(world.shell("cat m/f"), "kept\n");
        world.done("unmount m");
        world.shell("rm p/00000000");
        let missing = world.strongroom("convert p other.vault --password-file password");
        assert!(
            missing.status == Some(4) && missing.errors.contains("piece 00000000 is missing"),
            "{missing:?}"
        );
    });
}

#[test]
fn a_folder_of_pieces_grows_with_its_files_and_becomes_smaller_again() {
    for provision in ["thin", "quick", "thick"] {
        with_vault(OTHER, |world| {
            create(world, &format!("--size 40M --split 1M --provision {provision}"));
            mount(world, "");
            world.shell("head -c 9M /dev/urandom > m/a; sha256sum m/a > sums");
            let mounted = world.strongroom("resize p +24M --password-file password");
            assert_eq!(mounted.status, Some(5), "{world}: {mounted:?}");
            world.done("unmount m");
            let resized = world.json("resize p +24M --password-file password");
            assert_eq!(resized["container_size"], 64 << 20, "{world}: {resized}");
            assert_eq!(resized["filesystem"], "ext4", "{world}: {resized}");
            assert_eq!(pieces(world) == 63, provision != "thin", "{world}: {provision}");
            let same = world.strongroom("resize p 64M --password-file password");
            assert!(same.errors.contains("was as large already"), "{world}: {same:?}");
            mount(world, "");
            world
                .shell("sha256sum --quiet -c sums; head -c 30M /dev/urandom > m/b; sha256sum m/a m/b > sums");
            world.done("unmount m");
            assert_eq!(world.json("check p --password-file password")["ok"], true, "{world}");
            let refused = world.strongroom("resize p 40M --password-file password");
            assert_eq!(refused.status, Some(5), "{world}: {refused:?}");
            mount(world, "");
            world.shell("rm m/b; sha256sum m/a > sums");
            world.done("unmount m");
            world.done("mount --block p m --password-file password");
            world.shell("PATH=$PATH:/usr/sbin:/sbin; e2fsck -fp m/volume; resize2fs m/volume 30M");
            world.done("unmount m");
            let resized = world.json("resize p 40M --password-file password");
            assert_eq!(resized["container_size"], 40 << 20, "{world}: {resized}");
            assert!(pieces(world) <= 39, "{world}");
            mount(world, "");
            world.shell("sha256sum --quiet -c sums");
            world.done("unmount m");
            let checked = world.json("check p --password-file password");
            assert_eq!(checked["ok"], true, "{world}: {checked}");
            // The form without pieces is the same container.
            world.done("convert p one --password-file password");
            world.done("mount one m --password-file password");
            world.shell("sha256sum --quiet -c sums");
            world.done("unmount m");
        });
    }
}

#[test]
fn compact_takes_pieces_away_that_hold_nothing_any_more() {
    with_vault_of(Who::User, OTHER, |world| {
        create(world, "--size 64M --split 1M");
        mount(world, "");
        world.shell("seq 900000 > m/kept; head -c 20M /dev/urandom > m/gone; sync -f m; rm m/gone");
        world.done("unmount m");
        let before = pieces(world);
        let told = world.json("compact p --password-file password");
        assert!(pieces(world) + 15 < before, "{} of {before}", pieces(world));
        let takes = world.shell("stat -c %b p/* | awk '{ all += $1 } END { print all }'");
        let takes: u64 = takes.trim().parse().unwrap();
        assert_eq!(told["allocated"], takes * 512, "{told}");
        let again = world.strongroom("compact p --password-file password");
        assert!(again.errors.contains("nothing to give back"), "{again:?}");
        assert_eq!(world.json("check p --password-file password")["ok"], true);
        mount(world, "");
        world.shell("seq 900000 | cmp - m/kept; head -c 20M /dev/urandom > m/new; sha256sum m/new > sums");
        world.done("unmount m");
        mount(world, "");
        world.shell("sha256sum --quiet -c sums");
        world.done("unmount m");
    });
}
