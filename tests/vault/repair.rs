//! File systems that a killed `fuse2fs`, or a killed server under it, can leave: what `create` does against them, and the
//! way out of each that the error of `mount` tells, walked as it stands there.

use crate::world::{World, with_vault};

#[test]
fn a_file_that_lost_its_name_is_repaired_as_the_error_tells() {
    with_damaged("debugfs -w -R 'unlink /named' m/volume; debugfs -w -R dirty m/volume", |world| {
        let errors = refused(world);
        assert!(errors.contains("does not make unasked: Unattached inode "), "{errors}");
        assert!(world.mount_or_repair());
        assert_eq!(world.shell("cat m/lost+found/*"), "kept\n");
    });
}

#[test]
fn a_torn_superblock_without_a_copy_is_repaired_as_the_error_tells() {
    // The time of the last write, without the checksum: a volume of 32 MiB has one group of blocks, and no second superblock.
    let tear = "printf '\\1\\2\\3' | dd of=m/volume bs=1 seek=$((1024 + 0x30)) conv=notrunc status=none";
    with_damaged(tear, |world| {
        let errors = refused(world);
        assert!(errors.contains("Superblock checksum does not match"), "{errors}");
        assert!(world.mount_or_repair());
        assert_eq!(world.shell("cat m/named"), "kept\n");
    });
}

/// Random bytes there would be taken for inodes where a server is killed before it wrote new ones.
#[test]
fn inode_tables_of_an_ordinary_user_are_zeros() {
    for provision in ["thick", "quick", "thin"] {
        with_vault(&format!("--size 32M --provision {provision}"), |world| {
            if world.is_root() {
                return; // The kernel zeroes them, after its first mount.
            }
            world.done("mount --block v.vault m --password-file password");
            let table = world.shell(
                "dumpe2fs m/volume 2> /dev/null | sed -n 's/^ *Inode table at \\([0-9]*\\)-\\([0-9]*\\).*/\\1 \\2/p'",
            );
            let (first, last) = table.trim().split_once(' ').expect("one group of blocks");
            let (first, last): (u32, u32) = (first.parse().unwrap(), last.parse().unwrap());
            // The first block has the inodes that are in use.
            let (skip, count) = (first + 1, last - first);
            assert!(count > 50, "{table}");
            world.shell(&format!(
                "dd if=m/volume bs=4096 skip={skip} count={count} status=none | cmp -n $(({count} * 4096)) - /dev/zero"
            ));
            world.done("unmount m");
        });
    }
}

/// Walks as the ordinary user with a vault whose file `named` says "kept" and to whose block file `damage` was done.
fn with_damaged(damage: &str, walk: impl Fn(&World)) {
    with_vault("--size 32M --provision quick", |world| {
        if world.is_root() {
            return; // The kernel's driver has a journal, and `e2fsck` no part in it.
        }
        world.mount();
        world.shell("echo kept > m/named");
        world.done("unmount m");
        world.done("mount --block v.vault m --password-file password");
        world.shell(damage);
        world.done("unmount m");
        walk(world);
        world.done("unmount m");
        world.check_file_system();
    });
}

/// What `mount` says as it refuses, and leaves nothing.
fn refused(world: &World) -> String {
    let output = world.strongroom("mount v.vault m --password-file password");
    assert_eq!(output.status, Some(6), "{world}: {output:?}");
    world.assert_clean();
    output.errors
}
