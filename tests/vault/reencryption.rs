//! A new volume key for a container that is mounted, in use, stopped and killed.

use std::{fmt::Write as _, os::unix::fs::FileExt, time::Duration};

use crate::world::{World, with_vault, with_vault_alone};

/// Notes the name of each file outside once it was synced, through the descriptor that wrote it: fuse2fs ignores fsync on
/// one that was opened for reading.
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
    serde_json::from_str(&world.done("reencrypt v.vault --status --json")).unwrap()
}

fn info(world: &World) -> serde_json::Value {
    serde_json::from_str(&world.done("info v.vault --json")).unwrap()
}

fn wait_until(world: &World, is_so: impl Fn(&serde_json::Value) -> bool) {
    for _ in 0..600 {
        let status = status(world);
        assert_ne!(status["state"], "failed", "{status}");
        if is_so(&status) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{world}: {}", status(world));
}

#[test]
fn a_volume_in_use_gets_another_key_and_keeps_its_files() {
    with_vault("--size 64M --provision quick", |world| {
        let before = std::fs::read(world.path("v.vault")).unwrap();
        world.mount();
        let mut writer = world.shell_in_background(&writer(0));
        world.done("reencrypt v.vault --password-file password --background --max-rate 40M");
        wait_until(world, |status| status["state"] == "done");
        world.shell("touch stop");
        drop(writer.wait());
        assert!(kept(world) > 5, "{world}: too little was written meanwhile");
        world.done("unmount m");
        assert_eq!((&info(world)["reencryption"], &info(world)["generation"]), (&false.into(), &2.into()));

        // The old header is of no use any more: its key opens another volume.
        let after = std::fs::read(world.path("v.vault")).unwrap();
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
    with_vault_alone("--size 64M --provision quick", |world| {
        let mut repairs = 0;
        for round in 0..5 {
            repairs += u32::from(world.mount_or_repair());
            let mut writer = world.shell_in_background(&writer(round));
            world.done("reencrypt v.vault --password-file password --background --max-rate 16M");
            std::thread::sleep(Duration::from_millis(300 + 150 * u64::from(round)));
            world.shell(&format!("kill -KILL {}", world.server()));
            std::thread::sleep(Duration::from_millis(100));
            drop(writer.kill());
            drop(writer.wait());
        }
        assert_eq!(info(world)["reencryption"], true, "{world}: it was too fast to be killed");
        repairs += u32::from(world.mount_or_repair());
        assert!(kept(world) > 10, "{world}");
        println!("{world}: 5 kills, repaired by hand {repairs} times");
        assert_eq!(status(world)["state"], "paused");
        world.done("reencrypt v.vault --password-file password");
        kept(world);
        world.done("unmount m");
        world.check_file_system();
        assert_eq!(info(world)["reencryption"], false);
        // What had to do with it is gone.
        let file = std::fs::File::open(world.path("v.vault")).unwrap();
        let mut area = vec![0; (1 << 20) - 65_536];
        file.read_exact_at(&mut area, 65_536).unwrap();
        assert!(area.iter().all(|&byte| byte == 0), "{world}: the work area is not cleared");
    });
}

#[test]
fn a_reencryption_that_was_stopped_goes_on_mounted_or_not() {
    with_vault("--size 48M --provision thin --sector-size 512", |world| {
        world.mount();
        world.shell("head -c 20000000 /dev/urandom > m/f; sha256sum m/f > sum; sync");
        world.done("unmount m");
        // Not mounted, stopped by Ctrl-C.
        let mut stopped = String::new();
        write!(stopped, "exec ./strongroom reencrypt v.vault --password-file password --max-rate 4M")
            .unwrap();
        write!(stopped, " --cipher aes-128-xts --sector-size 4096 2> told").unwrap();
        let mut work = world.shell_in_background(&stopped);
        while info(world)["reencryption"] != true {
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(500));
        world.shell(&format!("kill -INT {}", work.id()));
        assert_eq!(work.wait().unwrap().code(), Some(130));
        let told = std::fs::read_to_string(world.path("told")).unwrap();
        assert!(told.contains("stopped at") && told.contains("the container is whole"), "{told}");

        // Read with both keys, for reading and for writing.
        world.done("mount v.vault m --read-only --password-file password");
        world.shell("sha256sum --quiet -c sum");
        world.done("unmount m");
        world.mount();
        world.shell("sha256sum --quiet -c sum; echo kept > m/g");
        let other = world.strongroom("reencrypt v.vault --password-file password --sector-size 512");
        assert_eq!(other.status.code(), Some(1), "what it leads to was settled at its start");
        // Mounted, stopped by the command.
        world.done("reencrypt v.vault --password-file password --background --max-rate 4M");
        let again = world.strongroom("reencrypt v.vault --password-file password");
        assert_eq!(again.status.code(), Some(5));
        let stopped: serde_json::Value =
            serde_json::from_str(&world.done("reencrypt v.vault --stop --json")).unwrap();
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
        world.done("key add v.vault --password-file password --new-password-file other --kdf-memory 64M --kdf-passes 3");
        // Nobody can be asked here.
        let refused = world.strongroom("reencrypt v.vault --password-file password");
        assert_eq!(refused.status.code(), Some(1));
        assert_eq!(info(world)["generation"], 0);
        world.done("reencrypt v.vault --password-file password --drop-other-keys");
        world.done("key test v.vault --password-file password");
        assert_eq!(world.strongroom("key test v.vault --password-file other").status.code(), Some(2));
        let info = info(world);
        assert_eq!(info["keyslots"].as_array().unwrap().len(), 1);
        assert_eq!(info["keyslots"][0]["kdf"]["memory"], 64 << 20, "opening costs what it did");
    });
}
