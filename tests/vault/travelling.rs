//! A vault on a mounted stick with the program that opens it: `stick`. One of our own FAT volumes stands for the stick, as not every
//! kernel mounts FAT.

use crate::{
    place::{CHEAP, Ended},
    world::{World, with_vault},
};

const STICK: &str = "--size 160M --filesystem vfat --provision thin";
const FILES: &str = "READ-ME.txt\nopen.sh\nprivate.vault\nstrongroom\n";

/// The same program without what only a debugger needs, as a stick has not that much room.
fn with_stick(walk: impl Fn(&World)) {
    with_vault(STICK, |world| {
        world.shell("strip -o slim strongroom; mkdir home");
        // Programs are not run from many sticks.
        world.done("mount v.vault m --password-file password --driver builtin -o noexec");
        walk(world);
        world.done("unmount v.vault");
    });
}

fn prepare(world: &World, more: &str) -> Ended {
    // VeraCrypt's headers have costs of their own.
    let costs = if more.contains("veracrypt") { "" } else { CHEAP };
    world.strongroom(&format!("stick m --program slim --password-file password {costs} {more}"))
}

#[test]
fn what_is_on_a_stick_opens_its_vault_on_a_machine_without_strongroom() {
    with_stick(|world| {
        let prepared = prepare(world, "--size 16M");
        assert_eq!(prepared.status, Some(0), "{prepared:?}");
        assert!(prepared.errors.contains("private.vault, 14 MiB for data, exfat"), "{prepared:?}");
        assert_eq!(world.shell("ls m"), FILES);
        let text = world.shell("cat m/READ-ME.txt");
        assert!(text.contains("asks for the password. Your files"), "{text}");
        assert!(text.contains("sh open.sh close") && text.contains("on Linux only"), "{text}");
        assert!(!text.contains('@') && !world.shell("cat m/open.sh").contains("@VAULT@"), "{text}");
        // Whether it needs something, its user hears when the stick is made.
        let is_static = world.shell("readelf -lW slim | grep -c INTERP || true").trim() == "0";
        assert_eq!(!is_static, prepared.errors.contains("the program is not static"), "{prepared:?}");

        let open = "HOME=$PWD/home sh m/open.sh";
        world.shell(&format!("{open} --password-file password 2>&1"));
        world.shell("echo hello > home/Vaults/private/file; sync -f home/Vaults/private");
        assert_eq!(
            world.shell("ls run"),
            if world.is_root() { "" } else { "strongroom\n" },
            "a copy is left"
        );
        world.shell(&format!("{open} close"));
        world.shell(&format!("{open} --password-file password --read-only --at seen"));
        assert_eq!(world.shell("cat seen/file"), "hello\n");
        world.shell(&format!("{open} close"));
        world.done("check m/private.vault --password-file password");
    });
}

#[test]
fn a_stick_for_windows_holds_what_veracrypt_opens() {
    with_stick(|world| {
        let made = prepare(world, "--size 16M --format veracrypt --pim 486 --name photos --json").json();
        assert!(made["container"].as_str().unwrap().ends_with("m/photos.hc"), "{made}");
        assert_eq!((&made["format"], &made["filesystem"]), (&"veracrypt".into(), &"exfat".into()), "{made}");
        let text = world.shell("cat m/READ-ME.txt");
        assert!(text.contains("veracrypt.fr") && text.contains("password and for the PIM"), "{text}");
        let open = "HOME=$PWD/home sh m/open.sh --password-file password --prf sha512";
        let refused = world.shell(&format!("echo none | {open} 2>&1 || true"));
        assert!(refused.ends_with("open.sh: the PIM is a number\n"), "{refused}");
        world.shell(&format!("echo 486 | {open}"));
        world.shell("echo hello > home/Vaults/photos/file");
        world.shell("HOME=$PWD/home sh m/open.sh close");
    });
}

#[test]
fn nothing_on_a_stick_is_overwritten_and_nothing_stays_of_what_failed() {
    with_stick(|world| {
        for (there, status) in [("open.sh", 5), ("strongroom", 5), ("READ-ME.txt", 5), ("private.vault", 5)] {
            world.shell(&format!("echo mine > m/{there}"));
            let refused = prepare(world, "--size 16M");
            assert!(refused.status == Some(status) && refused.errors.contains(there), "{refused:?}");
            assert_eq!(world.shell("ls m; cat m/*"), format!("{there}\nmine\n"));
            world.shell(&format!("rm m/{there}"));
        }
        // Too large, without a password, and for want of a file system.
        for (options, status) in
            [("--size 300M", 6), ("--size 16M --password-file none", 1), ("--size 64K", 1)]
        {
            let failed = world.strongroom(&format!(
                "stick m --program slim {CHEAP} {} {options}",
                if options.contains("password") { "" } else { "--password-file password" }
            ));
            assert_eq!(failed.status, Some(status), "{options}: {failed:?}");
            assert_eq!(world.shell("ls -A m"), "", "{options}");
        }
        // As a power cut before the vault leaves it.
        assert_eq!(prepare(world, "--size 16M").status, Some(0));
        world.shell("rm m/private.vault");
        assert_eq!(prepare(world, "--size max --provision quick").status, Some(0));
        assert_eq!(world.shell("ls m"), FILES);
        let size: u64 = world.shell("stat -c %s m/private.vault").trim().parse().unwrap();
        assert!(size > 64 << 20, "{size}");
    });
}

#[test]
fn a_folder_on_which_no_stick_is_mounted_is_not_filled() {
    with_vault("--size 4M --filesystem none --provision thin", |world| {
        let refused = world.strongroom("stick m --size max --password-file password");
        assert!(
            refused.status == Some(1) && refused.errors.contains("nothing is mounted there"),
            "{refused:?}"
        );
        assert_eq!(world.shell("ls -A m"), "");
    });
}
