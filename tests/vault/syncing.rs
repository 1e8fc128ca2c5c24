//! `strongroom sync`: a copy of the container that is made while it is mounted has what was written before.

use crate::world::with_each_driver;

#[test]
fn a_copy_of_a_mounted_container_has_all_that_was_written_before_the_sync() {
    with_each_driver("--size 32M --provision quick", |world| {
        world.mount();
        for name in ["m", "v.vault"] {
            world.shell("seq 400000 > m/written; mkdir -p m/folder; echo small > m/folder/small");
            world.done(&format!("sync {name}"));
            world.shell("cp v.vault copy.vault");
            world.shell("mkdir -p c");
            // It opens as after a crash: with a journal to replay, or a file system to check.
            let command = world.mount_command().replacen("v.vault m", "copy.vault c", 1);
            world.done(&command);
            world.shell("seq 400000 | cmp - c/written; test \"$(cat c/folder/small)\" = small");
            world.done("unmount c");
            world.shell("rm copy.vault m/written");
        }
        let synced = world.json("sync m");
        assert!(synced["synced"][0]["container"].as_str().unwrap().ends_with("/v.vault"));
        world.done("unmount m");
        world.check_file_system();
        assert_eq!(world.strongroom("sync m").status, Some(4));
    });
}

#[test]
fn a_lost_container_is_not_called_synced() {
    with_each_driver("--size 32M --provision quick", |world| {
        world.mount();
        world.shell("rm v.vault");
        let refused = world.strongroom("sync m");
        assert_eq!(refused.status, Some(5), "{world}: {refused:?}");
        assert!(refused.errors.contains("was deleted: no file has it"), "{refused:?}");
        world.done("unmount m --force");
    });
}
