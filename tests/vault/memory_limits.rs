//! Limits on memory and processes: of a control group, and of the shell (`ulimit`). Nothing hangs, and the error is one line.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    place::{CHEAP, is_skipped, wait_until},
    world::{World, with_vault},
};

/// Far more than what may be in the kernel's cache is written through a mount whose server has as little memory.
#[test]
fn a_server_in_a_small_control_group_writes_on() {
    with_vault("--size 600M --provision quick", |world| {
        if !lies_on_a_disk(world) {
            return;
        }
        let Some(group) = Group::new(world, "writes") else { return };
        group.set_limit(1 << 30);
        group.shell("exec ./strongroom --quiet mount v.vault m --password-file password 2> mount.log");
        group.set_limit(64 << 20);
        // A watchdog: a server that stands still would take every sync of the machine along.
        let writes =
            "dd if=/dev/zero of=m/big bs=1M count=400 conv=fsync 2> dd.log; cat m/big > /dev/null; sync -f m";
        let status = group.shell_for(writes, Duration::from_secs(240));
        assert_eq!(status, Some(0), "{world}: it stands still, or failed: {}", text(world, "dd.log"));
        group.set_limit(1 << 30);
        world.done("unmount m");
        drop(group);
        world.mount();
        assert_eq!(world.shell("stat -c %s m/big"), format!("{}\n", 400 << 20), "{world}");
        world.done("unmount m");
    });
}

#[test]
fn a_derivation_that_a_control_group_has_no_memory_for_is_not_begun() {
    with_vault("--size 32M --provision quick", |world| {
        let Some(group) = Group::new(world, "derives") else { return };
        group.set_limit(80 << 20);
        world.shell("rm -f new");
        group.shell("./strongroom create new --size 32M --provision quick --kdf-memory 512M --password-file password 2> told || echo $? > status");
        assert_eq!(text(world, "status"), "3\n", "{world}: {}", text(world, "told"));
        assert!(
            text(world, "told").contains("a new keyslot needs 512 MiB of memory, "),
            "{world}: {}",
            text(world, "told")
        );
        group.set_limit(48 << 20);
        group.shell("./strongroom key test v.vault --password-file password 2> told || echo $? > status");
        assert_eq!(text(world, "status"), "3\n", "{world}: {}", text(world, "told"));
        assert!(text(world, "told").contains("needs 64 MiB of memory, "), "{world}: {}", text(world, "told"));
        // The default costs keep to the limit.
        group.set_limit(200 << 20);
        group.shell("./strongroom --quiet create new --size 32M --provision quick --filesystem none --password-file password");
        let memory = world.json("info new")["keyslots"][0]["kdf"]["memory"].as_u64().unwrap();
        assert!((64 << 20..=100 << 20).contains(&memory), "{world}: {memory}");
    });
}

/// Some limits leave enough, others do not; each end is a clear one.
#[test]
fn limits_of_the_shell_end_in_a_clear_line() {
    with_vault("--size 32M --provision quick", |world| {
        for limit in [
            // Below this the kernel itself cannot load the program of the tests.
            "-v 30000",
            "-v 40000",
            "-v 80000",
            "-v 120000",
            "-v 200000",
            "-v 400000",
            "-n 6",
            "-n 12",
            "-n 20",
            "-n 60",
            "-s 64",
            "-t 20",
        ] {
            ends_clearly(world, limit);
        }
    });
}

fn ends_clearly(world: &World, limit: &str) {
    for command in [
        "mount v.vault m --password-file password".to_owned(),
        format!("create new --size 32M --provision quick {CHEAP} --password-file password"),
    ] {
        let script = format!("rm -f new; ulimit {limit}; exec ./strongroom {command}");
        let ended = crate::place::ended(world.command("/bin/sh").args(["-c", &script]));
        let told = format!("{world}: ulimit {limit}: {command}: {ended:?}");
        if ended.status == Some(0) {
            if command.starts_with("mount") {
                world.shell("echo there > m/f; rm m/f");
                world.done("unmount m");
            }
            continue;
        }
        // 126 and 127 are the shell's, which cannot start a program either; 2 is that of a shell that cannot fork.
        let is_shell = ended.errors.starts_with("/bin/sh: ")
            || ended.errors.contains("error while loading shared libraries");
        assert!(is_shell || matches!(ended.status, Some(3 | 6)), "{told}");
        assert!(!ended.errors.contains("report this line") && !ended.errors.contains("panicked"), "{told}");
        assert!(is_shell || ended.errors.starts_with("strongroom: error: "), "{told}");
        assert!(world.listed().is_null(), "{told}");
    }
}

fn text(world: &World, name: &str) -> String {
    fs::read_to_string(world.path(name)).unwrap_or_default()
}

/// A limit makes sense only where there are pages to be written.
fn lies_on_a_disk(world: &World) -> bool {
    let kind = crate::place::ended(world.command("stat").args(["-f", "-c", "%T", "."])).out;
    kind.trim() != "tmpfs"
        || is_skipped("the temporary files lie in memory: no limit on a cache can be tried")
}

/// A control group with the memory controller, of whichever version is mounted. Its processes are killed on drop.
struct Group<'a> {
    world: &'a World,
    folder: PathBuf,
    limit: &'static str,
}

impl<'a> Group<'a> {
    fn new(world: &'a World, name: &str) -> Option<Self> {
        let name = format!("strongroom-test-{name}-{}", std::process::id());
        let found = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        for (top, limit) in found {
            let folder = Path::new(top).join(&name);
            // Where the controller is not handed on, the group has no such file.
            let _ = fs::write(Path::new(top).join("cgroup.subtree_control"), "+memory");
            if fs::create_dir(&folder).is_err() {
                continue;
            }
            if folder.join(limit).exists() {
                return Some(Self { world, folder, limit });
            }
            let _ = fs::remove_dir(&folder);
        }
        is_skipped("no control group with a limit on memory can be made here");
        None
    }

    fn set_limit(&self, bytes: u64) {
        wait_until("a limit", || fs::write(self.folder.join(self.limit), bytes.to_string()).is_ok());
    }

    /// A script in the group, as the world's user. Root moves itself there, then becomes that user.
    fn command(&self, script: &str) -> Command {
        let mut command = self.world.command_of_this_user("/bin/sh");
        let procs = self.folder.join("cgroup.procs");
        let join = format!("echo $$ > '{}'; exec \"$@\"", procs.display());
        command.args(["-euc", &join, "sh"]);
        if !self.world.is_root() && rustix::process::geteuid().is_root() {
            let user = crate::place::USER;
            command.args([
                "setpriv",
                &format!("--reuid={user}"),
                &format!("--regid={user}"),
                "--clear-groups",
            ]);
        }
        command.args(["/bin/sh", "-euc", script]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn shell(&self, script: &str) {
        let status = self.command(script).status().unwrap();
        assert!(status.success(), "{}: {script}", self.world);
    }

    /// The same; `None` where it has not ended in that time. It is freed then, by taking what it writes to away.
    fn shell_for(&self, script: &str, limit: Duration) -> Option<i32> {
        let mut child = self.command(script).spawn().unwrap();
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            if Instant::now() > deadline {
                self.set_limit(8 << 30);
                let _ = self.world.strongroom("unmount m --force");
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        let _ = self.world.strongroom("unmount m --force");
        wait_until("an empty group", || !self.folder.exists() || fs::remove_dir(&self.folder).is_ok());
    }
}
