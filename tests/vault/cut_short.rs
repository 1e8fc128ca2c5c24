//! Containers whose file was cut short, as a copy is that was broken off: `mount` says so, and nothing is written by any repair.

use crate::world::{World, with_each_driver, with_vault};

/// The formats whose header does not say where the data end, and one that says it.
const FORMATS: [(&str, &str); 3] = [
    ("luks2", "--format luks2 --pbkdf pbkdf2 --kdf-iterations 1000"),
    ("luks1", "--format luks1 --kdf-iterations 1000"),
    ("veracrypt", "--format veracrypt --prf sha512"),
];

#[test]
fn a_container_that_was_cut_short_is_not_repaired_but_told() {
    with_vault("--size 16M --provision thin", |world| {
        for (name, options) in FORMATS {
            world.done(&format!(
                "create {name} --password-file password --size 40M --provision quick {options}"
            ));
            let format = if name == "veracrypt" { "--format veracrypt --prf sha512" } else { "" };
            cut_and_refused(world, name, format);
        }
    });
}

/// Not clean either, so that a repair would write: by its superblock alone nobody can tell.
fn cut_and_refused(world: &World, name: &str, format: &str) {
    let options = format!("--password-file password {format}");
    let options = options.trim_end();
    world.done(&format!("mount --block {name} m {options}"));
    world.shell("PATH=$PATH:/usr/sbin; debugfs -w -R dirty m/volume");
    world.done("unmount m");
    world.shell(&format!("truncate -s 30M {name}; cp {name} before"));
    let missing = match name {
        "veracrypt" => 10 * 1024 * 1024 - 2 * 65_536, // The headers behind the data count for nothing.
        _ => 10 * 1024 * 1024,
    };
    let told = format!("the end of the container is missing, {missing} bytes");

    let output = world.strongroom(&format!("mount {name} m {options}"));
    let errors = output.errors;
    assert_eq!(output.status, Some(4), "{world}: {errors}");
    assert!(errors.contains(&told) && !errors.contains("e2fsck"), "{world}: {errors}");
    world.assert_clean();
    world.shell(&format!("cmp {name} before"));

    let output = world.strongroom(&format!("check {name} {options}"));
    let found = output.out;
    assert_eq!(output.status, Some(4), "{world}: {found}");
    assert!(found.contains(&told), "{world}: {found}");

    // What is left is still to be had.
    world.done(&format!("mount --block --read-only {name} m {options}"));
    world.shell("PATH=$PATH:/usr/sbin; dumpe2fs -h m/volume > superblock");
    world.done("unmount m");
    world.shell(&format!("cmp {name} before"));
}

/// A native header says where the data end, so that the kernel mounts what is left; of LUKS it sees a device too small.
#[test]
fn no_driver_shows_wrong_contents_of_what_was_cut_short() {
    with_each_driver("--size 40M --provision quick", |world| {
        world.done("create luks2 --password-file password --size 40M --provision quick --format luks2 --pbkdf pbkdf2 --kdf-iterations 1000");
        for name in ["v.vault", "luks2"] {
            let mount = world.mount_command().replace("v.vault", name);
            world.done(&mount);
            // So many that some lie behind the end that is left.
            let files = if name == "luks2" { 40 } else { 78 };
            world.shell(&format!("for i in $(seq {files}); do yes $i | head -c 400000 > m/$i; done"));
            world.done("unmount m");
            world.shell(&format!("truncate -s 30M {name}; cp {name} before"));

            let output = world.strongroom(&format!("{mount} --read-only"));
            let errors = output.errors;
            assert!(errors.contains("the end of the container is missing"), "{world}: {name}: {errors}");
            let is_shown = match world.driver() {
                "kernel" => name == "v.vault",
                _ => true,
            };
            if is_shown {
                assert_eq!(output.status, Some(0), "{world}: {name}: {errors}");
                assert!(errors.contains("cannot be read"), "{world}: {name}: {errors}");
                // What ends with status 0 is right, and something is.
                world.shell(&format!(
                    "n=0; for i in $(seq {files}); do if cat m/$i > got; then yes $i | head -c 400000 | cmp - got || exit 1; \
                     n=$((n + 1)); fi; done; test $n -gt 0 -a $n -lt {files}",
                ));
                world.done("unmount m");
            } else {
                assert_eq!(output.status, Some(4), "{world}: {name}: {errors}");
                assert!(errors.contains("mount --block --read-only"), "{world}: {name}: {errors}");
            }
            world.assert_clean();
            world.shell(&format!("cmp {name} before"));
        }
    });
}
