//! A new volume key for a container that is mounted, in use, stopped and killed.

use rustix::process::Signal;

use crate::{
    place::{CHEAP, signal, wait_for_end_of, wait_until},
    world::{World, with_vault},
};

/// Notes the name of each file outside once it was synced, through the descriptor that wrote it: fuse2fs ignores fsync on
/// one that was opened for reading. Writes until there is a file `stop`.
fn writer(round: u32) -> String {
    format!(
        "mkdir m/{round}; i=0; until [ -e stop ]; do i=$((i+1)); head -c $((i * 97 % 9000)) /dev/urandom > content;
         dd if=content of=m/{round}/$i bs=10k conv=fsync status=none; echo \"$(sha256sum < content) m/{round}/$i\" >> noted; done"
    )
}

/// Every noted file is there as it was written; how many.
fn kept(world: &World) -> usize {
    let check = "sort -u noted | while read -r hash dash name; do [ \"$(sha256sum < $name)\" = \"$hash  $dash\" ]; echo kept; done";
    world.shell(check).lines().count()
}

fn status(world: &World) -> serde_json::Value {
    world.json("reencrypt v.vault --status")
}

fn info(world: &World) -> serde_json::Value {
    world.json("info v.vault")
}

/// Waits until so many more files were written and synced, while the work goes on.
fn wait_for_files(world: &World, count: usize) {
    let before = world.lines_of("noted");
    wait_until("files", || world.lines_of("noted") >= before + count);
    assert_eq!(status(world)["state"], "running", "{world}: it was too fast");
}

#[test]
fn a_volume_in_use_gets_another_key_and_keeps_its_files() {
    with_vault("--size 64M --provision quick", |world| {
        let before = world.bytes("v.vault");
        world.mount();
        let writer = world.shell_in_background(&writer(0));
        world.done("reencrypt v.vault --password-file password --background --max-rate 200K");
        wait_for_files(world, 6);
        world.done("reencrypt v.vault --stop");
        world.done("reencrypt v.vault --password-file password --background --max-rate 40M");
        wait_until("the end", || {
            let status = status(world);
            assert_ne!(status["state"], "failed", "{status}");
            status["state"] == "done"
        });
        world.shell("touch stop");
        writer.wait();
        assert!(kept(world) > 5, "{world}: too little was written meanwhile");
        world.done("unmount m");
        assert_eq!((&info(world)["reencryption"], &info(world)["generation"]), (&false.into(), &2.into()));

        // The old header is of no use any more: its key opens another volume.
        let after = world.bytes("v.vault");
        let same = before.chunks(4096).zip(after.chunks(4096)).skip(256).filter(|(old, new)| old == new);
        let tail = (1 << 20) / 4096 + 1;
        assert!(same.count() <= tail, "{world}: old ciphertext is left");
        world.mount();
        assert!(kept(world) > 5);
        world.done("unmount m");
        world.check_file_system();
    });
}

#[test]
fn a_server_killed_while_it_reencrypts_loses_nothing() {
    with_vault("--size 64M --provision quick", |world| {
        let mut repairs = 0;
        for round in 0..5 {
            repairs += u32::from(world.mount_or_repair());
            let writer = world.shell_in_background(&writer(round));
            world.done("reencrypt v.vault --password-file password --background --max-rate 500K");
            wait_for_files(world, 3 + usize::try_from(round).unwrap());
            let server = world.server();
            signal(server, Signal::KILL);
            wait_for_end_of(server);
            drop(writer);
        }
        assert_eq!(info(world)["reencryption"], true, "{world}: it was too fast to be killed");
        repairs += u32::from(world.mount_or_repair());
        assert!(kept(world) >= 25, "{world}");
        println!("{world}: 5 kills, repaired by hand {repairs} times");
        assert_eq!(status(world)["state"], "paused");
        world.done("reencrypt v.vault --password-file password");
        kept(world);
        world.done("unmount m");
        world.check_file_system();
        assert_eq!(info(world)["reencryption"], false);
        // What had to do with it is gone; that there was one remains.
        let area = &world.bytes("v.vault")[65_536..1 << 20];
        assert!(area.starts_with(b"SR re-encryption"), "{world}: no closing record");
        assert!(area[4096..].iter().all(|&byte| byte == 0), "{world}: the work area is not cleared");
    });
}

#[test]
fn a_reencryption_that_was_stopped_goes_on_mounted_or_not() {
    with_vault("--size 48M --provision thin --sector-size 512", |world| {
        world.mount();
        world.shell("head -c 20000000 /dev/urandom > m/f; sha256sum m/f > sum; sync");
        world.done("unmount m");
        // Not mounted, stopped by Ctrl-C.
        let work = world.shell_in_background(
            "exec ./strongroom reencrypt v.vault --password-file password --max-rate 500K \
                 --cipher aes-128-xts --sector-size 4096 2> told",
        );
        wait_until("the start", || info(world)["reencryption"] == true);
        std::thread::sleep(std::time::Duration::from_millis(500)); // Into the data, wherever that is.
        signal(work.process(), Signal::INT);
        assert_eq!(work.wait(), Some(130));
        let told = std::fs::read_to_string(world.path("told")).unwrap();
        assert!(told.contains("stopped at") && told.contains("the container is whole"), "{told}");

        // Read with both keys, for reading and for writing.
        world.done("mount v.vault m --read-only --password-file password");
        world.shell("sha256sum --quiet -c sum");
        world.done("unmount m");
        world.mount();
        world.shell("sha256sum --quiet -c sum; echo kept > m/g");
        let other = world.strongroom("reencrypt v.vault --password-file password --sector-size 512");
        assert_eq!(other.status, Some(1), "what it leads to was settled at its start");
        // Mounted, stopped by the command.
        world.done("reencrypt v.vault --password-file password --background --max-rate 500K");
        let again = world.strongroom("reencrypt v.vault --password-file password");
        assert_eq!(again.status, Some(5));
        let stopped = world.json("reencrypt v.vault --stop");
        assert_eq!(stopped["state"], "paused");
        world.shell("sha256sum --quiet -c sum; echo kept > m/h");
        world.done("unmount m");
        // The same command as at the start goes on too.
        world.done("reencrypt v.vault --password-file password --cipher aes-128-xts --sector-size 4096");
        let info = info(world);
        assert_eq!((&info["sector_size"], &info["key_bits"]), (&4096.into(), &256.into()));
        world.mount();
        world.shell("sha256sum --quiet -c sum; cat m/g m/h");
        world.done("unmount m");
        world.check_file_system();
    });
}

#[test]
fn keyslots_whose_passwords_are_not_given_go() {
    with_vault("--size 16M --provision quick --filesystem none", |world| {
        world.shell("echo another one > other");
        world.done(&format!("key add v.vault --password-file password --new-password-file other {CHEAP}"));
        // Nobody can be asked here.
        let refused = world.strongroom("reencrypt v.vault --password-file password");
        assert_eq!(refused.status, Some(1));
        assert_eq!(info(world)["generation"], 0);
        world.done("reencrypt v.vault --password-file password --drop-other-keys");
        world.done("key test v.vault --password-file password");
        assert_eq!(world.strongroom("key test v.vault --password-file other").status, Some(2));
        let info = info(world);
        assert_eq!(info["keyslots"].as_array().unwrap().len(), 1);
        assert_eq!(info["keyslots"][0]["kdf"]["memory"], 64 << 20, "opening costs what it did");
    });
}
