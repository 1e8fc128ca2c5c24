//! What `fuse2fs` does to names of more than 255 bytes, so that it is seen once it does so no more.

use crate::world::{World, with_vault};

/// The kernel passes such names on, and `fuse2fs` writes the length of a name into one byte.
#[test]
fn names_of_more_than_255_bytes_still_damage_folders_under_fuse2fs() {
    with_vault("--size 32M --provision quick", |world| {
        let mounted = world.strongroom(&world.mount_command());
        assert_eq!(mounted.status, Some(0), "{mounted:?}");
        let is_warned =
            mounted.errors.contains("fuse2fs damages folders that hold names longer than 255 bytes");
        assert_eq!(is_warned, world.driver() == "userspace", "{mounted:?}");
        let is_damaged = damages_a_folder(world);
        if world.driver() == "kernel" {
            assert!(!is_damaged, "the kernel refuses such a name");
            world.done("unmount m");
            return;
        }
        assert!(
            is_damaged,
            "this fuse2fs refuses names of more than 255 bytes: take the warning out of mount for it, and the words out of \
             SECURITY.md and the handbook"
        );
        // What it notices of that itself, the unmount tells.
        world.shell("long=$(printf 'x%.0s' $(seq 256)); (echo > m/docs/$long; ls -l m/docs; rm -r m/docs) > said 2>&1 || true; rm said");
        let ended = world.strongroom("unmount m");
        assert_eq!(ended.status, Some(6), "{ended:?}");
        assert!(ended.errors.contains("fuse2fs noted an error in the file system"), "{ended:?}");
    });
}

#[test]
fn what_holds_of_the_driver_at_every_mount_is_told_once_and_in_each_json_object() {
    with_vault("--size 32M --provision quick", |world| {
        // Also where quiet is asked for: it tells of data that may be lost.
        let told = world.strongroom(&format!("{} --quiet", world.mount_command())).errors;
        world.done("unmount m");
        let again = world.strongroom(&world.mount_command());
        assert_eq!(
            again.errors.lines().collect::<Vec<_>>(),
            [format!("mounted v.vault on {}", world.path("m").display())]
        );
        world.done("unmount m");
        let object = world.strongroom(&format!("{} --json", world.mount_command()));
        for warning in told.lines().filter_map(|line| line.strip_prefix("strongroom: warning: ")) {
            assert!(object.out.contains(warning), "{warning}: {object:?}");
        }
        let kept = world.shell("cat state/strongroom/notices 2>/dev/null || true");
        assert!(!kept.contains("v.vault"), "{kept}");
        assert_eq!(kept.is_empty(), world.driver() == "kernel", "{kept}");
        world.done("unmount m");
    });
}

fn damages_a_folder(world: &World) -> bool {
    world.shell("mkdir m/docs; for i in 1 2 3; do echo $i > m/docs/letter$i; done; echo mine > m/docs/o");
    let told = world.shell(
        "long=$(printf 'x%.0s' $(seq 256))
         mv m/docs/o \"m/docs/letter1$long\" 2> /dev/null && echo moved || echo refused
         ls m/docs 2> /dev/null | sort | tr '\\n' ' '",
    );
    !(told.starts_with("refused") && told.contains("letter1 letter2 letter3 o"))
}
