//! Space and permissions of a vault: all of it can be filled, files keep their modes, and it bears its name.

use crate::{
    builtin::assert_sound,
    place::Who,
    world::{World, with_each_driver, with_vault, with_vault_of},
};

/// What `df` says is free for its user, in KiB, and what is in use by nobody.
fn free(world: &World) -> (u64, u64) {
    let out = world.shell("stat -f -c '%a %f %S' m");
    let mut numbers = out.split_whitespace().map(|number| number.parse::<u64>().unwrap());
    let mut next = || numbers.next().unwrap();
    let (available, free, unit) = (next(), next(), next() / 1024);
    (available * unit, free * unit)
}

#[test]
fn all_of_a_vault_can_be_filled_by_its_owner() {
    with_each_driver("--size 64M --provision thin", |world| {
        world.mount();
        let (available, free) = free(world);
        // The kernel keeps 2 % of all blocks for itself.
        let kept = if world.driver() == "kernel" { (64 << 10) / 50 } else { 0 };
        assert!(available + kept >= free, "{world}: {available} of {free} KiB");
        world.done("unmount m");
    });
}

#[test]
fn files_that_are_moved_or_copied_into_a_vault_keep_their_modes() {
    with_vault("--size 64M --provision thin", |world| {
        world.shell("mkdir -m 700 out; for mode in 600 644 755 444; do echo $mode > out/$mode; chmod $mode out/$mode; done");
        world.mount();
        world.shell("cp -p out/* m/; mkdir m/all; cp -a out/. m/all/; mv out m/moved");
        for folder in ["m", "m/all", "m/moved"] {
            let modes = world.shell(&format!("cd {folder}; stat -c '%a %A' 444 600 644 755"));
            let expected = "444 -r--r--r--\n600 -rw-------\n644 -rw-r--r--\n755 -rwxr-xr-x\n";
            assert_eq!(modes, expected, "{world}: {folder}");
            let lists = world.shell(&format!("ls -l {folder} | cut -c 11"));
            assert!(!lists.contains('+'), "{world}: {folder}");
        }
        world.done("unmount m");
    });
}

#[test]
fn a_mounted_vault_bears_the_name_of_its_container() {
    with_each_driver("--size 32M --provision thin", |world| {
        if world.driver() == "kernel" {
            return; // A loop device is what mounts there.
        }
        world.shell("mv v.vault 'my, photos,suid.vault'");
        let driver = if world.is_root() { "--driver builtin" } else { "" };
        world.done(&format!("mount 'my, photos,suid.vault' m --password-file password {driver}"));
        assert_eq!(world.shell("findmnt -n -o SOURCE m"), "strongroom/my__photos_suid.vault\n", "{world}");
        assert!(!world.shell("findmnt -n -o OPTIONS m").split(',').any(|option| option == "suid"), "{world}");
        world.done("unmount m");
        world.shell("mv 'my, photos,suid.vault' v.vault");
    });
}

/// What was deleted keeps its room on the medium until `compact`, which leaves the files as they are.
#[test]
fn a_thin_container_gives_back_what_was_deleted() {
    for kind in ["ext4", "exfat", "vfat"] {
        with_vault_of(Who::User, &format!("--size 64M --provision thin --filesystem {kind}"), |world| {
            world.mount();
            world.shell("mkdir m/d; seq 900000 > m/d/kept; seq 3000000 > m/gone; seq 5000 > m/small; sync -f m; rm m/gone");
            let held = world.strongroom("compact v.vault --password-file password");
            assert_eq!(held.status, Some(5), "{kind}: {held:?}");
            world.done("unmount m");
            let taken = || world.shell("stat -c %b v.vault").trim().parse::<u64>().unwrap() / 2;
            let before = taken();
            let told = world.json("compact v.vault --password-file password");
            let given = before - taken();
            assert!(given > 18_000, "{kind}: {given} of {before} KiB");
            assert_eq!(told["allocated"], taken() * 1024, "{kind}");
            let again = world.strongroom("compact v.vault --password-file password");
            assert!(again.errors.contains("nothing to give back"), "{kind}: {again:?}");
            assert_sound(world, kind);
            world.mount();
            world.shell("seq 900000 | cmp - m/d/kept; seq 5000 | cmp - m/small; test \"$(ls m | grep -vx lost+found | tr '\\n' ' ')\" = 'd small '");
            world.done("unmount m");
        });
    }
}

#[test]
fn only_thin_containers_give_space_back() {
    with_vault("--size 20M --provision quick", |world| {
        let refused = world.strongroom("compact v.vault --password-file password");
        assert!(refused.errors.contains("only a thin container gives space back"), "{world}: {refused:?}");
        assert_eq!(refused.status, Some(4), "{world}");
    });
}

/// A program that finds no room is answered by its volume; `list` and the next mount say what makes some.
#[test]
fn a_full_vault_names_the_command_that_makes_it_larger() {
    with_each_driver("--size 64M --provision thin", |world| {
        world.mount();
        assert!(world.listed()["full"].is_null(), "{world}: {}", world.listed());
        world.shell("seq 30000000 > m/too-much 2> /dev/null || true");
        let full = world.listed()["full"].clone();
        assert!(full["available"].as_u64().unwrap() < 3 << 20, "{world}: {full}");
        let container = world.path("v.vault");
        let command = format!("strongroom resize {} +SIZE makes it larger", container.display());
        assert!(full["hint"].as_str().unwrap().ends_with(&command), "{world}: {full}");
        let listed = world.strongroom("list");
        let line = format!("{} is full: ", world.path("m").display());
        assert!(listed.errors.starts_with(&line) && listed.errors.contains(&command), "{world}: {listed:?}");
        assert!(listed.out.contains("v.vault (full)"), "{world}: {listed:?}");
        world.done("unmount m");
        let mounted = world.strongroom(&world.mount_command());
        assert!(mounted.errors.contains(&line) && mounted.errors.contains(&command), "{world}: {mounted:?}");
        world.done("unmount m");
        let viewed = world.strongroom(&format!("{} --read-only", world.mount_command()));
        assert!(!viewed.errors.contains("is full"), "{world}: {viewed:?}");
        assert!(world.listed()["full"].is_null(), "{world}");
        world.done("unmount m");
        world.mount();
        world.shell("rm m/too-much");
        assert!(world.listed()["full"].is_null(), "{world}: {}", world.listed());
        world.done("unmount m");
        // The command that was named, as it stands there.
        world.done("resize v.vault +32M --password-file password");
    });
}

#[test]
fn a_small_vault_is_full_only_where_a_program_was_refused() {
    with_vault_of(Who::User, "--size 12M --provision thin --filesystem vfat", |world| {
        world.mount();
        let free = free(world).0;
        world.shell(&format!("head -c {free}K /dev/urandom > m/exact"));
        assert!(world.listed()["full"].is_null(), "{}", world.listed());
        world.shell("head -c 1M /dev/zero > m/more 2> /dev/null || true");
        let full = world.listed()["full"].clone();
        assert!(full["hint"].as_str().unwrap().contains("make a larger container"), "{full}");
        world.shell("rm m/exact m/more");
        assert!(world.listed()["full"].is_null(), "{}", world.listed());
        world.done("unmount m");
    });
}
