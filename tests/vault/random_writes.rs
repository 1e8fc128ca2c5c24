//! Data that is written at random places, in the middle of blocks and across them, and read back with checksums.

use std::path::Path;

use crate::{
    place::is_skipped,
    world::{World, with_vault},
};

/// 48 MiB of writes of 512 bytes to 64 KiB at random places, read back with checksums. Of ten seeds, this job found wrong
/// data with six where `fuse2fs` 1.47.0 wrote ext4 with extents, the first two among them.
const JOB: &str = "fio --name=v --size=48M --bsrange=512-64k --rw=randwrite --verify=crc32c --do_verify=1 \
                   --verify_fatal=1 --ioengine=psync --output=fio.log";

#[test]
fn random_writes_to_a_file_come_back_right() {
    if !has_fio() {
        return;
    }
    for seed in [1, 2] {
        with_vault("--size 130M --provision thin", |world| {
            write_and_read_again(world, "mount", &format!("{JOB} --randseed={seed} --filename=m/file"));
            world.check_file_system();
        });
    }
}

#[test]
fn random_writes_to_the_block_file_come_back_right() {
    if !has_fio() {
        return;
    }
    with_vault("--size 64M --provision thin --filesystem none", |world| {
        write_and_read_again(world, "mount --block", &format!("{JOB} --filename=m/volume"));
    });
}

/// Verifies at once, and after a new mount: what the first reads may still lie in a cache.
fn write_and_read_again(world: &World, mount: &str, job: &str) {
    for job in [job, &format!("{job} --verify_only")] {
        world.done(&format!("{mount} v.vault m --password-file password"));
        world.shell(job);
        world.done("unmount m");
    }
}

/// Whether fio is installed; without it the test is skipped, unless everything is required.
fn has_fio() -> bool {
    let has = ["/usr/bin/fio", "/usr/local/bin/fio"].into_iter().any(|path| Path::new(path).exists());
    has || is_skipped("fio is not installed")
}
