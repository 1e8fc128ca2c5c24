//! FAT and exFAT as a user mounts them: by the server itself.

use crate::{
    place::{CHEAP, Who, is_skipped, signal, wait_for_end_of, wait_until},
    world::{World, with_vault_of},
};

/// Walks with a vault of each kind, as a user and as root who asks for it.
fn with_each_kind(walk: impl Fn(&World, &str)) {
    for (kind, program) in [("vfat", "mkfs.vfat"), ("exfat", "mkfs.exfat")] {
        let is_there =
            ["/sbin", "/usr/sbin"].iter().any(|folder| std::path::Path::new(folder).join(program).exists());
        if !is_there && !is_skipped(&format!("{program} is not installed")) {
            continue;
        }
        let options = format!("--size 48M --provision thin --filesystem {kind}");
        with_vault_of(Who::User, &options, |world| walk(world, kind));
        with_vault_of(Who::RootInServer, &options, |world| walk(world, kind));
    }
}

/// What fsck says of the volume: nothing.
pub(crate) fn assert_sound(world: &World, kind: &str) {
    world.done("mount --block --read-only v.vault m --password-file password");
    let said = world.shell(&format!("PATH=$PATH:/sbin:/usr/sbin; fsck.{kind} -n m/volume && echo sound"));
    assert!(said.ends_with("sound\n"), "{world}: {said}");
    world.done("unmount m");
}

#[test]
fn files_of_fat_and_exfat_come_back_as_they_were() {
    with_each_kind(|world, kind| {
        world.mount();
        let listed = world.listed();
        assert_eq!((&listed["driver"], &listed["block"]), (&"builtin".into(), &serde_json::Value::Null));
        world.shell(
            "cd m && mkdir -p 'Fotos vom Meer/2026' && head -c 3000000 /dev/urandom > 'Fotos vom Meer/2026/Größe 😀.jpeg'
             for number in $(seq 120); do echo $number > file-$number.txt; done
             cp -r 'Fotos vom Meer' copy && mv copy moved && rm file-1?0.txt && mv file-1.txt file-2.txt
             truncate -s 1M hole && echo end >> hole && test $(stat -c %s hole) = 1048580",
        );
        let sums = "cd m && find . -type f | sort | xargs -d '\\n' sha256sum";
        let before = world.shell(sums);
        world.done("unmount m");
        assert_sound(world, kind);
        world.mount();
        assert_eq!(world.shell(sums), before);
        world.shell(
            "cd m && ! ln file-2.txt link && ! ln -s a b && ! mkdir moved && ! rmdir moved && ! touch 'a:b'",
        );
        world.shell(
            "cd m && exec 3<>held && rm held && echo lives >&3 && test $(cat /proc/self/fd/3) = lives",
        );
        world.done("unmount m");
        assert_sound(world, kind);
    });
}

#[test]
fn ext4_is_read_by_the_server_itself_and_shows_the_owners_that_were_asked_for() {
    with_vault_of(Who::User, "--size 48M --provision thin --filesystem ext4", |world| {
        world.mount();
        world.shell("cd m && mkdir d && echo text > d/f && ln -s d/f link && ln d/f hard && chmod 640 d/f");
        world.done("unmount m");
        world.shell("sha256sum v.vault > before");
        for options in ["", "--owner me", "--owner real"] {
            world.done(&format!("{} --read-only {options}", world.mount_command()));
            let listed = world.listed();
            assert_eq!((&listed["driver"], &listed["read_only"]), (&"builtin".into(), &true.into()));
            world.shell(
                "cd m && test $(cat link) = text && test $(stat -c %a.%h d/f) = 640.2 && test $(readlink link) = d/f \\
                 && test -O d/f && test $(stat -c %u lost+found) = $(test 'OWNER' = real && echo 0 || stat -c %u .)"
                    .replace("OWNER", if options == "--owner me" { "me" } else { "real" })
                    .as_str(),
            );
            let refused = world.shell("! touch m/d/new 2>&1");
            assert!(refused.contains("Read-only file system"), "{refused}");
            world.done("unmount m");
        }
        world.shell("sha256sum --quiet -c before");
    });
}

#[test]
fn a_read_only_mount_of_fat_and_exfat_writes_nothing() {
    with_each_kind(|world, _| {
        world.mount();
        world.shell("echo kept > m/a");
        world.done("unmount m");
        let before = world.bytes("v.vault");
        world.done(&format!("{} --read-only", world.mount_command()));
        world.shell("test $(cat m/a) = kept && ! touch m/b && ! rm m/a");
        world.done("unmount m");
        assert!(world.bytes("v.vault") == before);
    });
}

#[test]
fn what_was_synced_survives_the_servers_death_and_the_next_mount_repairs() {
    with_each_kind(|world, kind| {
        for round in 0..4 {
            world.mount();
            world.shell(&format!(
                "cd m && head -c 900000 /dev/urandom > safe-{round} && sync safe-{round} && sha256sum safe-* > sums && sync sums
                 for number in $(seq 200); do echo $number > loose-$number; done; rm -f loose-*5 || true"
            ));
            let server = world.server();
            signal(server, rustix::process::Signal::KILL);
            wait_for_end_of(server);
            // Whether that is told as a loss depends on the moment.
            world.strongroom("unmount v.vault");
            let ended = world.strongroom(&world.mount_command());
            assert_eq!(ended.status, Some(0), "{ended:?}");
            world.shell("cd m && sha256sum -c sums");
            world.done("unmount m");
            assert_sound(world, kind);
        }
    });
}

/// What was half done would take what was whole. (Where the kernel does not know it, the mount ends after the repair.)
#[test]
fn what_another_driver_is_to_write_is_repaired_first() {
    for kind in ["vfat", "exfat"] {
        with_vault_of(
            Who::RootInServer,
            &format!("--size 48M --provision thin --filesystem {kind}"),
            |world| {
                world.mount();
                world.shell("cd m && seq 100000 > safe && sync safe && for n in $(seq 200); do echo $n > loose-$n; done");
                let server = world.server();
                signal(server, rustix::process::Signal::KILL);
                wait_for_end_of(server);
                world.strongroom("unmount v.vault");
                let before = world.strongroom("check v.vault --password-file password");
                assert!(before.out.contains("not unmounted cleanly"), "{kind}: {before:?}");
                let ended = world.strongroom("mount v.vault m --driver kernel --password-file password");
                assert!(
                    ended.status == Some(0) || ended.errors.contains("this kernel cannot read"),
                    "{kind}: {ended:?}"
                );
                world.strongroom("unmount v.vault");
                let after = world.strongroom("check v.vault --password-file password");
                assert!(!after.out.contains("not unmounted cleanly"), "{kind}: {after:?}");
                assert_sound(world, kind);
            },
        );
    }
}

/// The kernel does not ask for a sync when it unmounts: what is still in memory would go with the mount.
#[test]
fn what_a_failed_medium_does_not_take_is_told_and_stays_until_it_is_given_up() {
    for kind in ["vfat", "exfat", "ext4"] {
        for who in [Who::User, Who::RootInServer] {
            with_vault_of(who, &format!("--size 48M --provision thin --filesystem {kind}"), |world| {
                world.done(&format!(
                    "create below.vault --size 64M --filesystem ext4 {CHEAP} --password-file password"
                ));
                world.shell("mkdir below");
                let mount_below = world.mount_command().replace("v.vault m", "below.vault below");
                world.done(&mount_below);
                let below = world.listed()["pid"].as_u64().unwrap();
                world.shell("mv v.vault below/ && ln -s below/v.vault v.vault");
                world.mount();
                world.shell("echo first > m/first && sync m/first");
                signal(below, rustix::process::Signal::KILL);
                wait_for_end_of(below);
                // Whether it is the write or its end that fails depends on the moment.
                let _told = world.strongroom("list");
                world.shell("seq 1000 > m/second 2> told || true");
                let refused = world.strongroom("unmount m");
                assert!(matches!(refused.status, Some(5 | 6)), "{world}: {refused:?}");
                assert!(refused.errors.contains("--force"), "{world}: {refused:?}");
                let listed = world.strongroom("list");
                assert!(listed.out.contains("(not everything was saved)"), "{world}: {listed:?}");
                let forced = world.strongroom("unmount m --force");
                assert_eq!(forced.status, Some(6), "{world}: {forced:?}");
                world.strongroom("unmount below");
                world.done(&mount_below);
                world.mount();
                world.shell("test $(cat m/first) = first");
                world.done("unmount m");
                world.done("unmount below");
            });
        }
    }
}

/// No sync, and no more than the moment that the handbook names; and the first change after a pause is in the file at once, also for
/// who unmounts from outside and copies the file away.
#[test]
fn what_was_closed_a_moment_ago_survives_the_servers_death_and_an_unmount_from_outside() {
    with_vault_of(Who::RootInServer, "--size 48M --provision thin --filesystem exfat", |world| {
        world.mount();
        world.shell("cd m && for number in $(seq 100); do echo $number > file-$number; done && mkdir d && mv file-7 d && rm file-8");
        // The window, and a commit.
        std::thread::sleep(std::time::Duration::from_millis(2500));
        let server = world.server();
        signal(server, rustix::process::Signal::KILL);
        wait_for_end_of(server);
        world.strongroom("unmount v.vault");
        world.mount();
        world.shell(
            "cd m && test $(ls | wc -l) = 99 && test $(cat d/file-7) = 7 && test $(cat file-100) = 100",
        );
        std::thread::sleep(std::time::Duration::from_millis(1100));
        world.shell("seq 100000 > m/last; cp v.vault copy");
        world.done("unmount m");
        world.done("mount copy m --password-file password --driver builtin --read-only");
        world.shell("seq 100000 | cmp - m/last");
        world.done("unmount m");
        world.shell("rm copy");
    });
}

/// What the kernel would look at where there are modes.
#[test]
fn a_mark_against_writing_keeps_a_user_from_it_and_not_root() {
    for who in [Who::User, Who::Root] {
        if who == Who::Root && !rustix::process::geteuid().is_root() {
            continue;
        }
        with_vault_of(who, "--size 16M --provision thin --filesystem exfat", |world| {
            world.done(&format!("{} --driver builtin", world.mount_command()));
            world.shell(
                "cd m && echo text > f && echo text > free && exec 3>> f && chmod 400 f && echo more >&3",
            );
            let refused = "! echo new > f; ! echo new >> f; ! truncate -s 0 f; test ! -w f";
            let allowed = "test -w f; echo new >> f; truncate -s 3 f; truncate -s 9 f";
            let expected = if who == Who::Root { allowed } else { refused };
            world.shell(&format!("cd m; exec 2> /dev/null; set -e; {expected}; test $(stat -c %s f) = 9 || test $(stat -c %s f) = 10"));
            world.shell("cd m && test -r f && test -x . && test -w free && echo more >> free && touch f && mv f g && chmod 600 g && echo new > g && rm g");
            world.done("unmount m");
        });
    }
}

#[test]
fn what_a_full_volume_has_no_room_for_is_refused_by_the_right_name() {
    with_each_kind(|world, kind| {
        world.mount();
        let told = world.shell("head -c 60M /dev/zero > big; cp big m/big 2>&1 || true; rm -f big");
        assert!(told.contains("No space left on device"), "{told}");
        world.shell("rm m/big; head -c 900000 /dev/urandom > small; cp small m/small; sync m/small");
        world.done("unmount m");
        assert_sound(world, kind);
        world.mount();
        world.shell("cmp small m/small");
        world.done("unmount m");
    });
}

/// Programs that write and delete afterwards must hear of it while they write: `mv` has nothing but that to go by.
#[test]
fn what_moves_into_a_full_volume_keeps_its_source() {
    let walk = |world: &World, mount: &str| {
        world.done(mount);
        world.shell(
            "for n in 1 2 3 4 5 6 7 8; do head -c 9000000 /dev/urandom > $n; done; sha256sum [1-8] > sums",
        );
        let told = world.shell("mv [1-8] m/ 2>&1 || echo refused");
        assert!(told.contains("No space left on device") && told.ends_with("refused\n"), "{world}: {told}");
        // Whatever is not in its old place is in the new one, to the byte.
        let check = "mkdir all; cp m/[1-8] all/; cp [1-8] all/; cd all; sha256sum --quiet -c ../sums";
        world.shell(check);
        world.shell("! head -c 2000000 /dev/zero > m/more && ! python3 -c 'open(\"m/py\", \"wb\").write(b\"x\" * 2000000)'");
        world.done("unmount m");
        world.done(mount);
        world.shell(&format!("rm -r all; {check}"));
        world.done("unmount m");
        world.shell("rm -r all [1-8]");
    };
    with_each_kind(|world, _| walk(world, &world.mount_command()));
    with_vault_of(Who::User, "--size 48M --provision thin", |world| {
        walk(world, &world.mount_command());
    });
}

#[test]
fn who_uses_a_file_of_fat_or_exfat_keeps_it_mounted_until_forced() {
    with_each_kind(|world, kind| {
        world.mount();
        let holder = world.holder("exec 3>m/held; echo early >&3");
        let refused = world.strongroom("unmount m");
        assert_eq!(refused.status, Some(5), "{refused:?}");
        assert!(refused.errors.contains(&holder.process().to_string()), "{refused:?}");
        world.done("sync m");
        world.strongroom("unmount --force m");
        wait_until("the end", || world.listed().is_null());
        drop(holder);
        assert_sound(world, kind);
        world.mount();
        world.shell("test $(cat m/held) = early");
        world.done("unmount m");
    });
}

/// Written by the server itself, through the journal: links, owners, modes, lists, holes; nothing synced is lost with the server, and
/// e2fsck has nothing to say.
#[test]
fn ext4_is_written_by_the_server_itself_and_a_kill_takes_no_repair() {
    with_vault_of(Who::User, "--size 64M --provision thin --filesystem ext4", |world| {
        let mount = "mount v.vault m --password-file password";
        world.done(mount);
        let listed = world.listed();
        assert_eq!((&listed["driver"], &listed["read_only"]), (&"builtin".into(), &false.into()));
        world.shell(
            "cd m && mkdir -p d/e && echo text > d/f && ln -s d/f link && ln d/f hard && mkfifo pipe && chmod 2750 d
             for number in $(seq 300); do echo $number > d/e/$number; done; rm d/e/*5 && mv d/e moved && test $(ls moved | wc -l) = 270
             truncate -s 10M hole && echo end >> hole && head -c 1M /dev/urandom > kept && fallocate -p -o 4096 -l 8192 kept
             exec 3<>held && rm held && echo lives >&3 && test $(cat /proc/self/fd/3) = lives
             test $(stat -c %h d/f) = 2 && test $(cat link) = text && ! rmdir d && ! ln d/f link",
        );
        for round in 0..3 {
            world.shell(&format!("cd m && head -c 900000 /dev/urandom > safe-{round} && sync safe-{round} && sha256sum safe-* > sums && sync sums
                for number in $(seq 200); do echo $number > loose-$number; done"));
            let server = world.server();
            signal(server, rustix::process::Signal::KILL);
            wait_for_end_of(server);
            world.strongroom("unmount v.vault");
            world.done(mount);
            world.shell("cd m && sha256sum -c sums && test $(stat -c %a.%h d/f) = 644.2");
        }
        world.done("unmount m");
        world.done("mount --block --read-only v.vault m --password-file password");
        let said = world.shell("/sbin/e2fsck -fn m/volume 2>&1 && echo sound");
        assert!(said.ends_with("sound\n"), "{said}");
        world.done("unmount m");
    });
}

/// As Windows and ntfs-3g write it into a VeraCrypt container: an ordinary user reads it.
#[test]
fn ntfs_in_a_veracrypt_container_is_read_without_root_and_never_written() {
    let tools = ["/usr/sbin/mkfs.ntfs", "/usr/sbin/ntfscp"];
    if let Some(tool) = tools.iter().find(|tool| !std::path::Path::new(tool).exists()) {
        is_skipped(&format!("{tool} is not installed"));
        return;
    }
    with_vault_of(Who::User, "--size 4M --filesystem none --provision thin", |world| {
        let how = "--format veracrypt --prf sha512 --pim 1 --password-file password";
        world.done(
            "create c.hc --format veracrypt --pim 1 --password-file password --size 40M --filesystem ntfs",
        );
        world.shell(
            "head -c 9000000 /dev/urandom > large; head -c 300 large > small; head -c 90000 large > middling",
        );
        world.done(&format!("mount --block c.hc m {how}"));
        world.shell("for file in large small middling; do /usr/sbin/ntfscp -f -q m/volume $file \"$file größer\"; done");
        world.done("unmount m");
        let before = world.bytes("c.hc");
        for (options, is_told) in [("", true), ("--driver builtin --read-only", false)] {
            let mounted = world.strongroom(&format!("mount c.hc m {how} {options}"));
            assert_eq!(mounted.status, Some(0), "{mounted:?}");
            let told = mounted.errors.contains("mounted read-only, as strongroom does not write NTFS");
            assert_eq!(told, is_told, "{mounted:?}");
            let listed = world.listed();
            assert_eq!((&listed["driver"], &listed["read_only"]), (&"builtin".into(), &true.into()));
            world.shell(
                "test \"$(ls m | tr '\\n' ,)\" = 'large größer,middling größer,small größer,'
                 for file in large small middling; do cmp $file \"m/$file größer\"; done
                 test -O 'm/small größer' && ! touch m/new && ! rm 'm/small größer' && ! cat m/LARGE",
            );
            world.done("unmount m");
        }
        assert!(world.bytes("c.hc") == before, "something was written");
        // What is dirty is told, and read.
        world.done(&format!("mount --block c.hc m {how}"));
        world.make_file("soil.py", SOIL);
        world.shell("python3 soil.py m/volume");
        world.done("unmount m");
        for options in ["", "--read-only"] {
            let mounted = world.strongroom(&format!("mount c.hc m {how} {options}"));
            assert_eq!(mounted.status, Some(0), "{mounted:?}");
            assert!(mounted.errors.contains("the ntfs file system was not unmounted cleanly"), "{mounted:?}");
            world.shell("cmp small 'm/small größer'");
            world.done("unmount m");
        }
    });
}

/// Marks an NTFS as one that was not left clean: in its fourth record, in what that says of the volume.
const SOIL: &str = "import sys, struct
with open(sys.argv[1], 'r+b') as volume:
    boot = volume.read(512)
    record = struct.unpack_from('<Q', boot, 48)[0] * boot[13] * 512 + 3 * 1024
    volume.seek(record)
    raw = volume.read(1024)
    at = struct.unpack_from('<H', raw, 20)[0]
    while struct.unpack_from('<I', raw, at)[0] != 0x70:
        at += struct.unpack_from('<I', raw, at + 4)[0]
    flags = at + struct.unpack_from('<H', raw, at + 20)[0] + 10
    volume.seek(record + flags)
    volume.write(struct.pack('<H', struct.unpack_from('<H', raw, flags)[0] | 1))
";

/// Half a second before the Moon landing was not half a second earlier.
#[test]
fn times_before_1970_keep_their_fractions() {
    with_vault_of(Who::User, "--size 20M --provision thin --filesystem ext4", |world| {
        world.mount();
        for time in [
            "1969-07-20 20:17:40.500000000",
            "1969-12-31 23:59:59.900000000",
            "1970-01-01 00:00:00.100000000",
        ] {
            let told = world.shell(&format!("touch -d '{time} UTC' m/moon; TZ=UTC stat -c %y m/moon"));
            assert_eq!(told, format!("{time} +0000\n"));
        }
        world.done("unmount m");
        world.mount();
        assert_eq!(world.shell("TZ=UTC stat -c %y m/moon"), "1970-01-01 00:00:00.100000000 +0000\n");
        world.done("unmount m");
    });
}

#[test]
fn images_of_discs_are_read_by_the_server_itself() {
    let is_there = ["/usr/bin/genisoimage", "/usr/sbin/mkudffs"]
        .iter()
        .all(|program| std::path::Path::new(program).exists());
    if !is_there && !is_skipped("genisoimage or mkudffs is not installed") {
        return;
    }
    for who in [Who::User, Who::RootInServer] {
        with_vault_of(who, "--size 20M", |world| {
            world.shell(
                "mkdir -p tree/folder && seq 100000 > tree/folder/numbers && ln -s folder/numbers tree/link && chmod 640 tree/folder/numbers
                 genisoimage -quiet -R -J -o rock.iso tree && genisoimage -quiet -udf -D -o bridge.iso tree/folder
                 PATH=$PATH:/usr/sbin; truncate -s 20M plain.udf && mkudffs plain.udf > said",
            );
            for (image, check) in [
                ("rock.iso", "diff -r --no-dereference tree m && test $(stat -c %a m/folder/numbers) = 640"),
                ("bridge.iso", "diff -r tree/folder m"),
                ("plain.udf", "ls m"),
            ] {
                world.done(&format!("import {image} disc.vault --password-file password {CHEAP}"));
                let mounted = world.json("mount disc.vault m --password-file password --driver builtin");
                assert_eq!(
                    (&mounted["driver"], &mounted["read_only"]),
                    (&"builtin".into(), &true.into()),
                    "{image}"
                );
                world.shell(check);
                assert!(world.shell("! touch m/new 2>&1").contains("Read-only file system"), "{image}");
                world.done("unmount m");
                world.shell("rm disc.vault");
            }
        });
    }
}
