//! File systems that take a repair: what `create` does against that, what `mount` has repaired, and the way out of what it
//! has not, which its error tells, walked as it stands there.

use rustix::process::Signal;

use crate::{
    place::{Who, has_fuse2fs, signal, wait_for_end_of, wait_until},
    world::{World, with_vault, with_vault_of},
};

#[test]
fn a_volume_that_was_left_dirty_or_is_marked_as_damaged_is_repaired_and_written() {
    for damage in ["debugfs -w -R dirty", "debugfs -w -R 'set_super_value state 3'"] {
        with_damaged(&format!("{damage} m/volume"), |world| {
            world.shell("sha256sum v.vault > before");
            let looked = world.strongroom(&format!("{} --read-only", world.mount_command()));
            assert_eq!(looked.status, Some(0), "{looked:?}");
            let told = "it was repaired in memory, and the container is unchanged";
            assert!(looked.errors.contains(told), "{looked:?}");
            world.shell("test $(cat m/named) = kept && ! touch m/new");
            world.done("unmount m");
            world.shell("sha256sum --quiet -c before");

            let mounted = world.strongroom(&world.mount_command());
            assert_eq!(mounted.status, Some(0), "{mounted:?}");
            assert_written_by_the_server(world);
            world.shell("test $(cat m/named) = kept && echo more > m/new");
            world.done("unmount m");
            let again = world.strongroom(&world.mount_command());
            assert!(again.status == Some(0) && !again.errors.contains("warning"), "{again:?}");
            world.shell("test $(cat m/new) = more");
        });
    }
}

/// As an ordinary user's `create` made it until now: no journal of its writes, block lists, no attributes.
#[test]
fn an_old_vault_that_fuse2fs_left_in_the_midst_is_repaired_and_goes_on() {
    if !has_fuse2fs() {
        return;
    }
    with_vault_of(Who::User, "--size 64M --provision thin --filesystem none", |world| {
        world.make_folder("f");
        world.done("mount --block v.vault m --password-file password");
        world.shell("mke2fs -q -F -t ext4 -b 4096 -O ^ext_attr,^extent,^64bit -E root_owner m/volume");
        let driver = world.shell_in_background("exec fuse2fs -f m/volume f -o fakeroot");
        wait_until("a file system", || world.shell("mountpoint f || true").contains("is a mountpoint"));
        world.shell("seq 300000 | dd of=f/synced bs=1M iflag=fullblock conv=fsync status=none; mkdir f/d");
        world.shell("for i in $(seq 100); do echo $i > f/d/$i; done; rm f/d/*7");
        signal(driver.process(), Signal::KILL);
        wait_for_end_of(driver.process());
        world.shell("fusermount3 -uz f");
        world.done("unmount m");

        world.mount_or_repair();
        assert_written_by_the_server(world);
        world.shell(
            "seq 300000 | cmp - m/synced; mkdir m/more; for i in $(seq 500); do echo $i > m/more/$i; done",
        );
        world.shell(
            "setfattr -n user.kind -v text m/synced 2>/dev/null || true; seq 400000 > m/large; rm -r m/d",
        );
        world.done("unmount m");
        world.check_file_system();
        world.mount();
        world.shell("seq 400000 | cmp - m/large; test $(cat m/more/* | wc -l) = 500");
        world.done("unmount m");
        world.done("mount --block --read-only v.vault m --password-file password");
        world.shell("! dumpe2fs -h m/volume 2>/dev/null | grep -w extent");
        world.done("unmount m");
    });
}

/// Without a journal nobody else knows what was left half done.
#[test]
fn an_ext2_whose_server_was_killed_is_repaired_by_the_next_mount() {
    with_vault_of(Who::User, "--size 48M --provision thin --filesystem none", |world| {
        world.done("mount --block v.vault m --password-file password");
        world.shell("mke2fs -q -F -t ext2 -b 4096 -E root_owner m/volume");
        world.done("unmount m");
        for round in 0..3 {
            let mounted = world.strongroom(&world.mount_command());
            assert_eq!(mounted.status, Some(0), "{mounted:?}");
            assert!(mounted.errors.contains("this file system has no journal"), "{mounted:?}");
            assert_eq!(mounted.errors.contains("e2fsck repaired it"), round > 0, "{mounted:?}");
            assert_written_by_the_server(world);
            world.shell(&format!(
                "seq 300000 | dd of=m/synced-{round} bs=1M iflag=fullblock conv=fsync status=none
                 for i in $(seq 0 {round}); do seq 300000 | cmp - m/synced-$i; done"
            ));
            let server = world.server();
            signal(server, Signal::KILL);
            wait_for_end_of(server);
            world.strongroom("unmount v.vault");
        }
        world.mount();
        world.done("unmount m");
        world.check_file_system();
    });
}

fn assert_written_by_the_server(world: &World) {
    let listed = world.listed();
    assert_eq!((&listed["driver"], &listed["read_only"]), (&"builtin".into(), &false.into()));
}

#[test]
fn a_file_that_lost_its_name_is_repaired_as_the_error_tells() {
    with_damaged("debugfs -w -R 'unlink /named' m/volume; debugfs -w -R dirty m/volume", |world| {
        let errors = refused(world);
        assert!(errors.contains("does not make unasked: Unattached inode "), "{errors}");
        assert!(world.mount_or_repair());
        world.done("unmount m");
        world.done(&format!("{} --owner me", world.mount_command()));
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

/// Random bytes there could be taken for inodes by a repair.
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
    with_vault_of(Who::User, "--size 32M --provision quick", |world| {
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
