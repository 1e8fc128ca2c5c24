//! Images become containers and come out again.

use std::{os::unix::fs::MetadataExt, panic::AssertUnwindSafe};

use crate::{
    place::{CHEAP, leave_to_root},
    world::{World, with_vault},
};

/// An ext4 image of 24 MiB with files in it, most of it holes.
const MAKE_IMAGE: &str = "
    mkdir files; head -c 3000000 /dev/urandom > files/a; cp files/a files/b; echo text > files/c
    truncate -s 24M image; mke2fs -q -t ext4 -O ^has_journal,^extent,^64bit,^metadata_csum -d files image";
const HASHES: &str = "find . -name lost+found -prune -o -type f -print | sort | xargs sha256sum";

fn import(world: &World, arguments: &str) -> serde_json::Value {
    world.json(&format!("import {arguments} --password-file password {CHEAP}"))
}

fn sha256(world: &World, file: &str) -> String {
    world.shell(&format!("sha256sum < {file}")).split(' ').next().unwrap().to_owned()
}

#[test]
fn an_image_comes_out_as_it_went_in() {
    with_vault("--size 4M --filesystem none --provision thin", |world| {
        world.shell(MAKE_IMAGE);
        let before = sha256(world, "image");
        for options in ["--provision thick", "--provision quick --sector-size 512", "--provision thin"] {
            world.shell("rm -f new.vault out");
            let imported = import(world, &format!("image new.vault --label old {options}"));
            assert_eq!(imported["sha256"], before, "{world} {options}");
            assert_eq!(imported["image_size"], 24 << 20);
            let container = std::fs::metadata(world.path("new.vault")).unwrap();
            assert_eq!(container.mode() & 0o777, 0o600);
            assert_eq!(container.size(), 26 << 20);
            assert_eq!(container.blocks() * 512 < (16 << 20), options == "--provision thin", "{options}");

            world.done("export new.vault out --password-file password --yes");
            assert_eq!(sha256(world, "out"), before, "{world} {options}");
            let out = std::fs::metadata(world.path("out")).unwrap();
            assert_eq!(out.mode() & 0o777, 0o600);
            assert!(out.blocks() * 512 < (16 << 20), "zeros are holes");
        }
        // What went in as a file system is one.
        let files = world.shell(&format!("cd files && {HASHES}"));
        world.done("mount new.vault m --password-file password");
        assert_eq!(world.shell(&format!("cd m && {HASHES}")), files, "{world}");
        world.done("unmount m");
        if world.is_root() {
            world.shell("mount -o loop,ro out m");
            let found = world.shell(&format!("cd m && {HASHES}"));
            let refused = world.strongroom("import out other.vault --password-file password");
            world.shell("umount m");
            assert_eq!(found, files);
            assert_eq!(refused.status, Some(5), "an image in use");
        }
    });
}

#[test]
fn an_image_of_odd_size_is_padded_with_zeros() {
    with_vault("--size 4M --filesystem none --provision thin", |world| {
        for size in [1, 5000, 1_000_001] {
            world.shell(&format!("head -c {size} /dev/urandom > odd; rm -f odd.vault out"));
            import(world, "odd odd.vault");
            world.done("export odd.vault out --password-file password --yes");
            assert_eq!(world.shell(&format!("cmp -n {size} odd out && echo same")), "same\n");
            let not_zero = world.shell(&format!("tail -c +{} out | tr -d '\\0' | wc -c", size + 1));
            assert_eq!(not_zero.trim(), "0", "{world} {size}");
        }
    });
}

#[test]
fn a_mounted_container_is_not_exported() {
    with_vault("--size 32M --provision quick", |world| {
        world.mount();
        let output = world.strongroom("export v.vault out --password-file password --yes");
        assert_eq!(output.status, Some(5), "{world}");
        world.done("unmount m");
        world.done("mount v.vault m --read-only --password-file password");
        world.done("export v.vault out --password-file password --yes --quiet");
        world.done("unmount m");
        world.shell("e2fsck -fn out");
    });
}

#[test]
fn an_interrupted_copy_leaves_nothing() {
    with_vault("--size 3G --filesystem none --provision thin", |world| {
        world.shell("truncate -s 3G image; mkdir place");
        for arguments in
            [format!("import image place/new {CHEAP}"), "export v.vault place/new --yes".to_owned()]
        {
            let script = format!(
                "timeout --preserve-status -s INT 1 ./strongroom {arguments} --password-file password 2> errors || echo $?"
            );
            assert_eq!(world.shell(&script), "130\n", "{world} {arguments}: {}", world.shell("cat errors"));
            assert_eq!(world.shell("ls -A place"), "", "{world} {arguments}");
        }
    });
}

#[test]
fn devices_are_imported_and_exported() {
    with_vault("--size 4M --filesystem none --provision thin", |world| {
        if !world.is_root() {
            leave_to_root("make devices to import and export");
            return;
        }
        world.shell("head -c 6000640 /dev/urandom > content; truncate -s 8M content other");
        let attached = world.shell("losetup --show -f content; losetup --show -f other");
        let (source, target) = attached.trim().split_once('\n').unwrap();
        let walked = std::panic::catch_unwind(AssertUnwindSafe(|| into_and_out_of(world, source, target)));
        world.shell(&format!("losetup -d {source} {target}"));
        walked.unwrap();
    });
}

/// Both devices have 8 MiB; the target is empty.
fn into_and_out_of(world: &World, source: &str, target: &str) {
    let before = sha256(world, source);
    assert_eq!(import(world, &format!("{source} device.vault"))["sha256"], before);
    world.shell(&format!("head -c 1000000 /dev/urandom > {target}"));
    let export = format!("export device.vault {target} --password-file password --yes");
    assert_eq!(world.strongroom(&export).status, Some(5), "it holds something");
    world.done(&format!("{export} --force"));
    assert_eq!(sha256(world, target), before);

    // A container on a device takes all of it, and what is behind the image is the volume's too.
    world.shell("head -c 5000000 content > part");
    import(world, &format!("part {target} --force --yes --provision quick"));
    world.done(&format!("export {target} out --password-file password --yes"));
    assert_eq!(world.shell("cmp -n 5000000 part out && stat -c %s out"), "6291456\n");
}
