//! Limits that a server inherits from the shell that started it.

use crate::world::with_vault;

/// Runs into the limit: more than it allows, brought to the volume.
const WRITE_TOO_MUCH: &str =
    "dd if=/dev/urandom of=m/big bs=1M count=16 conv=fsync 2> dd.log || echo refused";

#[test]
fn a_limit_on_file_sizes_fails_writes_and_ends_no_server() {
    with_vault("--size 32M --provision thin", |world| {
        // In units of 512 bytes: 4 MiB.
        world.shell(
            "ulimit -f 8192; exec ./strongroom --quiet mount v.vault m --password-file password 2> mount.log",
        );
        let server = world.server();
        assert_eq!(world.shell(WRITE_TOO_MUCH), "refused\n", "{world}");
        assert_eq!(world.server(), server, "{world}: the server lives");
        // What could not be written is lost, and taking the volume down says so or not; but it goes.
        let _ = world.strongroom("unmount m --force");
        world.wait_for_end_of(server);
    });
}
