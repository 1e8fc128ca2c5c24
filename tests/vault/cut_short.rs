//! Containers whose file was cut short, as a copy is that was broken off: `mount` says so, and nothing is written by any repair.

use crate::world::{World, with_vault};

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
