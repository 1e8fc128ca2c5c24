//! Mount options: kept to, or refused.

use rustix::process::Signal;

use super::{
    place::{CHEAP, Place, Who, can_mount, everybody, signal, wait_for_end_of},
    world::with_each_driver,
};

/// What the kernel's table says of the mount on `m`.
fn mounted(place: &Place) -> String {
    let path = place.path("m");
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.split(' ').nth(4) == path.to_str());
    line.unwrap_or_default().to_owned()
}

#[test]
fn each_driver_keeps_to_an_option_or_refuses_it() {
    with_each_driver("--size 32M --provision quick", |world| {
        world.done(&format!("{} -o noexec,nodev -o nosuid", world.mount_command()));
        assert!(mounted(world).contains("noexec"), "{world}: {}", mounted(world));
        let ran =
            world.shell("cp /bin/true m/true; chmod 755 m/true; m/true 2>/dev/null && echo 0 || echo $?");
        assert_eq!(ran, "126\n", "{world}");
        world.done("unmount m");

        let timeless = world.strongroom(&format!("{} -o noatime", world.mount_command()));
        assert_eq!(timeless.status, Some(0), "{timeless:?}");
        // strongroom writes no times of access anyway.
        let is_told = mounted(world).contains("noatime");
        assert_eq!(is_told, world.driver() == "kernel", "{}", mounted(world));
        world.done("unmount m");
        world.done("mount v.vault m --password-file password --driver builtin -o noatime,sync");
        world.done("unmount m");

        let foreign = world.strongroom(&format!("{} -o compress=zstd", world.mount_command()));
        assert_eq!(foreign.status, Some(4), "{world}: {foreign:?}");
        assert!(foreign.errors.contains("-o compress=zstd: ext4 has no such option"), "{}", foreign.errors);
        // Quick containers take no space back.
        let discard = world.strongroom(&format!("{} -o discard", world.mount_command()));
        assert_eq!(discard.status, Some(4), "{world}: {discard:?}");
        world.assert_clean();
    });
}

#[test]
fn what_could_harm_is_refused_before_the_password() {
    let place = Place::of_ordinary_user();
    for (option, told) in [
        ("noatime,suid", "suid: a volume must not bring devices or setuid programs"),
        ("dev", "dev: a volume must not"),
        ("journal_path=/dev/null", "journal_path: not an option that strongroom passes on"),
        ("errors=panic", "errors=panic: not a value of errors"),
    ] {
        let refused = place.strongroom(&format!("mount none.vault m -o {option}"));
        assert_eq!(refused.status, Some(1), "{refused:?}");
        assert!(refused.errors.contains(told), "{refused:?}");
    }
    let both = place.strongroom("mount none.vault m --read-only -o rw");
    assert!(
        both.status == Some(1) && both.errors.contains("-o rw: cannot be used with --read-only"),
        "{both:?}"
    );
    let block = place.strongroom("mount none.vault m --block -o noatime");
    assert_eq!(block.status, Some(1), "{block:?}");
}

#[test]
fn ro_is_read_only_on_every_level() {
    with_each_driver("--size 32M --provision quick", |world| {
        let before = world.bytes("v.vault");
        world.done(&format!("{} -o ro", world.mount_command()));
        assert_eq!(world.listed()["read_only"], true, "{world}");
        assert!(world.shell("touch m/f 2>&1 || true").contains("Read-only"), "{world}");
        world.done("unmount m");
        assert!(world.bytes("v.vault") == before, "{world}");
    });
}

#[test]
fn with_sync_a_write_outlives_the_server() {
    for who in everybody() {
        for filesystem in ["exfat", "ext4"] {
            let place = Place::of(who);
            place.done(&format!(
                "create v.vault --size 32M --provision quick {CHEAP} --password-file password --filesystem {filesystem}"
            ));
            let mount = "mount v.vault m --password-file password --driver builtin";
            place.done(&format!("{mount} -o sync"));
            let server = place.listed()["pid"].as_u64().unwrap();
            let writer = place.shell_in_background("exec 9> m/f; echo kept >&9; : > wrote; exec sleep 60");
            super::place::wait_until("the write", || place.path("wrote").exists());
            signal(server, Signal::KILL);
            wait_for_end_of(server);
            drop(writer);
            place.done(mount);
            assert_eq!(place.shell("cat m/f"), "kept\n", "{place} {filesystem}");
            place.done("unmount m");
            place.assert_clean();
        }
    }
}

#[test]
fn options_of_a_file_system_reach_the_kernel() {
    if !everybody().contains(&Who::Root) {
        return;
    }
    let place = Place::of(Who::Root);
    place.done(&format!(
        "create v.vault --size 160M --provision thin {CHEAP} --password-file password --filesystem btrfs"
    ));
    place.done("mount v.vault m --password-file password -o compress=zstd:5,discard=async,noatime");
    let told = mounted(&place);
    assert!(["noatime", "compress=zstd:5", "discard=async"].iter().all(|it| told.contains(it)), "{told}");
    place.done("unmount m");
    let refused = place.strongroom("mount v.vault m --password-file password -o uid=1234");
    let reason = "-o uid=1234: btrfs has no such option";
    assert!(refused.status == Some(4) && refused.errors.contains(reason), "{refused:?}");
    place.assert_clean();
}

#[test]
fn without_root_nobody_gives_the_files_of_exfat_away() {
    if !can_mount() {
        return;
    }
    let place = Place::of_ordinary_user();
    place.done(&format!(
        "create v.vault --size 32M --provision quick {CHEAP} --password-file password --filesystem exfat"
    ));
    let refused = place.strongroom("mount v.vault m --password-file password -o uid=1234");
    let reason = "-o uid=1234: the builtin driver does not keep to it";
    assert!(refused.status == Some(4) && refused.errors.contains(reason), "{refused:?}");
    place.assert_clean();
}
