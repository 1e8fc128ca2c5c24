//! Headers outside their containers, with real mounts.

use crate::{
    place::CHEAP,
    world::{World, with_vault},
};

/// How often the magic of a header stands in the container.
fn headers_in(world: &World) -> usize {
    world.bytes("v.vault").windows(10).filter(|window| window == b"STRONGROOM").count()
}

// proves: NAT-HF-05 NAT-HF-09
#[test]
fn a_container_with_a_detached_header_is_used_like_any_other_and_bears_none() {
    with_vault("--size 32M --provision thick --header v.header", |world| {
        world.shell("echo 'another rather long phrase 8' > new");
        let without = world.strongroom("mount v.vault m --password-file password");
        assert_eq!(without.status, Some(4), "{world}: {without:?}");

        let mount = "mount v.vault m --header v.header --password-file";
        world.done(&format!("{mount} password"));
        world.shell("echo kept > m/f");
        let second = world.strongroom("header restore v.vault v.header --yes --password-file password");
        assert_eq!(second.status, Some(5), "{world}: {second:?}");
        let add = "key add v.vault --header v.header --password-file password --new-password-file new";
        world.done(&format!("{add} {CHEAP}"));
        world.done("unmount m");
        assert_eq!(headers_in(world), 0, "{world}");

        world.done(&format!("{mount} new"));
        assert_eq!(world.shell("cat m/f"), "kept\n", "{world}");
        world.done("unmount m");
        let reencrypt = "reencrypt v.vault --header v.header --drop-other-keys --password-file new";
        world.done(reencrypt);
        assert_eq!(headers_in(world), 0, "{world}");
        world.done(&format!("{mount} new"));
        assert_eq!(world.shell("cat m/f"), "kept\n", "{world}");
        world.done("unmount m");
        let old = world.strongroom("key test v.vault --header v.header --password-file password");
        assert_eq!(old.status, Some(2), "{world}: {old:?}");
    });
}

#[test]
fn a_lost_header_comes_back_from_its_backup_with_all_files() {
    with_vault("--size 32M --provision quick", |world| {
        world.mount();
        world.shell("head -c 3000000 /dev/urandom > m/f; sha256sum < m/f > sum");
        world.done("header backup v.vault v.header");
        world.done("unmount m");
        // What a partitioning and formatting tool does to a stick, and worse.
        world.shell(
            "for at in 0 31; do dd if=/dev/zero of=v.vault bs=1M count=1 seek=$at conv=notrunc status=none; done",
        );
        assert_eq!(world.strongroom("info v.vault").status, Some(4));
        world.done("header restore v.vault v.header --yes --password-file password");
        world.mount();
        assert_eq!(world.shell("sha256sum < m/f | cmp - sum && echo same"), "same\n", "{world}");
        world.done("unmount m");
        world.check_file_system();
    });
}

#[test]
fn a_backup_from_before_a_re_encryption_is_refused() {
    with_vault("--size 16M --provision quick --filesystem none", |world| {
        world.done("header backup v.vault v.header");
        world.done("reencrypt v.vault --drop-other-keys --password-file password");
        let restore = ("header restore v.vault v.header --yes", "its header is out of date", 4);
        let open =
            ("key test v.vault --header v.header", "was re-encrypted since the header file was made", 1);
        for (command, reason, status) in [restore, open] {
            let refused = world.strongroom(&format!("{command} --password-file password"));
            assert_eq!(refused.status, Some(status), "{world}: {refused:?}");
            assert!(refused.errors.contains(reason), "{world}: {refused:?}");
        }
        world.done("key test v.vault --password-file password");
    });
}
