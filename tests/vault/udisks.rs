//! The kernel's file systems for an ordinary user, by way of udisks: with a bus, polkit, udev and udisks of the test's own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::{
    mount::{MountFlags, mount},
    process::{Signal, geteuid},
};

use crate::{
    bus,
    place::{Who, comes_to_pass, is_skipped, leave_to_root, signal, wait_for_end_of, wait_until},
    world::{World, with_vault_of},
};

/// What a desktop runs, until this is dropped. The folders in which these programs keep what they know are this test's alone, as is the
/// socket of the bus.
struct Desktop {
    /// From the bottom.
    programs: Vec<Child>,
    allowed_before: Option<String>,
    _alone: MutexGuard<'static, ()>,
}

impl Desktop {
    /// Starts all of it, with a polkit that answers every question about udisks with `answer`; `None` where something is missing.
    fn start(world: &World, answer: &str) -> Option<Self> {
        let programs = [DBUS, POLKIT, UDEV, UDISKS];
        if let Some(missing) = programs.into_iter().find(|program| !Path::new(program).exists()) {
            is_skipped(&format!("{missing} is not installed, and udisks not tried"));
            return None;
        }
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        for folder in
            ["/run/dbus", "/run/udev", "/run/udisks2", "/var/lib/udisks2", RULES, "/media", "/run/media"]
        {
            fs::create_dir_all(folder).unwrap();
            mount("none", folder, "tmpfs", MountFlags::empty(), c"mode=755").unwrap();
        }
        let rule = format!(
            "polkit.addRule(function(action, subject) {{ if (action.id.indexOf('org.freedesktop.udisks2.') == 0) return polkit.Result.{answer}; }});"
        );
        fs::write(Path::new(RULES).join("10-test.rules"), rule).unwrap();
        let config = world.make_file("bus.conf", bus::config(&[Path::new(SOCKET)]));
        let allowed_before = fs::read_to_string(SEEN_BY_ROOT).ok();
        let mut desktop = Self { programs: Vec::new(), allowed_before, _alone: alone };
        desktop.show_to_root(true);
        desktop.run(Command::new(DBUS).arg("--config-file").arg(config).args(["--nofork", "--nopidfile"]));
        wait_until("a bus", || Path::new(SOCKET).exists());
        desktop.run(Command::new(POLKIT).arg("--no-debug"));
        desktop.run(&mut Command::new(UDEV));
        wait_until("udev", || Path::new("/run/udev/control").exists());
        desktop.start_udisks();
        Some(desktop)
    }

    fn run(&mut self, command: &mut Command) {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.programs.push(command.spawn().unwrap());
    }

    fn start_udisks(&mut self) {
        self.run(&mut Command::new(UDISKS));
        let is_there = || {
            let mut ping = Command::new("dbus-send");
            ping.args([
                "--system",
                "--print-reply",
                "--dest=org.freedesktop.UDisks2",
                "/org/freedesktop/UDisks2/Manager",
            ]);
            ping.arg("org.freedesktop.DBus.Peer.Ping").stdout(Stdio::null()).stderr(Stdio::null());
            ping.status().unwrap().success()
        };
        wait_until("udisks", is_there);
    }

    /// Whether root may ask for the size of a user's block file, where this kernel has a word in that.
    fn show_to_root(&self, is_shown: bool) {
        if self.allowed_before.is_some() {
            fs::write(SEEN_BY_ROOT, if is_shown { "Y" } else { "N" }).unwrap();
        }
    }

    fn kill_last(&mut self) {
        let mut last = self.programs.pop().unwrap();
        last.kill().unwrap();
        last.wait().unwrap();
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        if let Some(before) = &self.allowed_before {
            fs::write(SEEN_BY_ROOT, before.trim()).unwrap();
        }
        while !self.programs.is_empty() {
            self.kill_last();
        }
    }
}

/// Walks as an ordinary user with a vault and a desktop whose polkit gives this answer. No loop device may be left.
fn with_desktop(options: &str, answer: &str, walk: impl Fn(&World, &mut Desktop)) {
    if !geteuid().is_root() {
        return leave_to_root("start a desktop of its own");
    }
    with_vault_of(Who::User, options, |world| {
        let Some(mut desktop) = Desktop::start(world, answer) else { return };
        world.make_folder("me");
        walk(world, &mut desktop);
        assert_nothing_is_left(world);
    });
}

fn assert_nothing_is_left(world: &World) {
    wait_until("an end of the loop devices", || devices(world).is_empty());
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    assert!(!mounts.contains("/media/nobody/"), "{mounts}");
    assert!(!world.path("me/v").exists());
}

/// The loop devices on the block file of this place.
fn devices(world: &World) -> Vec<PathBuf> {
    let devices = fs::read_dir("/sys/block").unwrap().map(|device| device.unwrap());
    let is_its = |name: &Path| {
        let behind = fs::read_to_string(name.join("loop/backing_file")).unwrap_or_default();
        Path::new(&behind).starts_with(world.folder())
    };
    let found = devices.filter(|device| is_its(&device.path()));
    found.map(|device| Path::new("/dev").join(device.file_name())).collect()
}

/// Mounts without a mount point, and gives the entry of `list`.
fn mount_anywhere(world: &World, options: &str) -> serde_json::Value {
    world.shell(&format!("HOME=$PWD/me ./strongroom mount v.vault --password-file password {options}"));
    world.listed()
}

fn place_of(entry: &serde_json::Value) -> &str {
    entry["mountpoint"].as_str().unwrap()
}

/// What `mount` says and its status, where it fails.
fn refusal(world: &World, arguments: &str) -> String {
    world.shell(&format!("HOME=$PWD/me ./strongroom mount v.vault --password-file password {arguments} 2>&1 && echo 0 || echo $?"))
}

#[test]
fn what_is_not_written_here_goes_to_udisks_where_no_mount_point_is_named() {
    for (options, kind) in
        [("--size 340M --filesystem xfs", "xfs"), ("--size 140M --filesystem btrfs", "btrfs")]
    {
        with_desktop(options, "YES", |world, _| {
            let entry = mount_anywhere(world, "");
            assert_eq!((&entry["driver"], &entry["read_only"]), (&"udisks".into(), &false.into()));
            let place = place_of(&entry);
            assert!(
                place.starts_with("/media/nobody/") || place.starts_with("/run/media/nobody/"),
                "{place}"
            );
            assert!(!world.path("me/v").exists());
            let type_of = world.shell(&format!("stat -f -c %T '{place}'"));
            assert_eq!(type_of.trim(), kind);
            if kind == "btrfs" {
                // Its root directory may be root's.
                fs::set_permissions(place, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
            }
            world.shell(&format!(
                "cd '{place}' && head -c 5000000 /dev/urandom > random && sha256sum random > sums"
            ));
            world.done("unmount v.vault");
            assert_nothing_is_left(world);

            let entry = mount_anywhere(world, "--read-only");
            let place = place_of(&entry);
            assert_eq!((&entry["driver"], &entry["read_only"]), (&"udisks".into(), &true.into()));
            world.shell(&format!("cd '{place}' && sha256sum --quiet -c sums && ! touch new"));
            world.done(&format!("unmount '{place}'"));

            let said = refusal(world, "m");
            assert!(said.contains("leave out the mount point") && said.ends_with("\n7\n"), "{said}");
        });
    }
}

#[test]
fn whoever_asks_for_udisks_names_no_mount_point() {
    with_desktop("--size 48M --filesystem ext4", "YES", |world, _| {
        let entry = mount_anywhere(world, "--driver udisks -o noatime,noexec");
        let place = place_of(&entry);
        let shown = world.shell(&format!("grep ' {place} ' /proc/self/mountinfo"));
        assert!(shown.contains("noatime") && shown.contains("noexec") && shown.contains("nosuid"), "{shown}");
        world.shell(&format!("echo kept > '{place}/file' && ./strongroom sync '{place}'"));
        world.done("close v.vault");
        // What strongroom writes itself it mounts itself.
        let entry = mount_anywhere(world, "");
        assert_eq!(entry["driver"], "builtin");
        assert_eq!(world.shell("cat me/v/file"), "kept\n");
        world.done("unmount v.vault");
        let said = refusal(world, "m --driver udisks");
        assert!(said.contains("udisks mounts where it likes") && said.ends_with("\n1\n"), "{said}");
        let said = refusal(world, "--driver udisks -o commit=9");
        assert!(said.contains("mount option") && said.ends_with("\n4\n"), "{said}");
    });
}

#[test]
fn ext_without_a_journal_is_repaired_before_the_kernel_writes_on_it() {
    with_desktop("--size 48M --filesystem none", "YES", |world, _| {
        world.done("mount v.vault m --block --password-file password");
        world.shell(
            "PATH=/usr/sbin:/sbin:$PATH; mkfs.ext2 -q -F -E root_owner=$(id -u):$(id -g) m/volume
            debugfs -w -R 'ssv free_blocks_count 5' m/volume 2> /dev/null
            debugfs -w -R 'ssv state 0' m/volume 2> /dev/null",
        );
        world.done("unmount m");
        let said = refusal(world, "--driver udisks");
        assert!(
            said.contains("not unmounted cleanly; e2fsck repaired it") && said.ends_with("\n0\n"),
            "{said}"
        );
        let entry = world.listed();
        assert_eq!((&entry["driver"], &entry["read_only"]), (&"udisks".into(), &false.into()));
        world.shell(&format!("echo kept > '{}/file'", place_of(&entry)));
        world.done("unmount v.vault");
        assert_nothing_is_left(world);
    });
}

#[test]
fn an_unmount_by_others_ends_the_server() {
    with_desktop("--size 48M --filesystem ext4", "YES", |world, _| {
        for by_root in [false, true] {
            let entry = mount_anywhere(world, "--driver udisks");
            let (server, place) = (world.server(), place_of(&entry).to_owned());
            world.shell(&format!("seq 10000 > '{place}/numbers'"));
            if by_root {
                assert!(Command::new("umount").arg(&place).status().unwrap().success());
            } else {
                let device = devices(world).pop().unwrap();
                world.shell(&format!("udisksctl unmount -b {}", device.display()));
            }
            wait_for_end_of(server);
            assert_nothing_is_left(world);
        }
        let entry = mount_anywhere(world, "--driver udisks");
        world.shell(&format!("seq 10000 | cmp - '{}/numbers'", place_of(&entry)));
        world.done("unmount v.vault");
    });
}

#[test]
fn a_volume_in_use_is_not_unmounted_and_its_holder_is_named() {
    with_desktop("--size 48M --filesystem ext4", "YES", |world, _| {
        let entry = mount_anywhere(world, "--driver udisks");
        let place = place_of(&entry);
        let holder = world.holder(&format!("exec 3> '{place}/held'; echo written >&3"));
        let ended = world.strongroom("unmount v.vault");
        assert_eq!(ended.status, Some(5), "{ended:?}");
        assert!(ended.errors.contains(&format!("process {} (sleep)", holder.process())), "{ended:?}");
        assert_eq!(place_of(&world.listed()), place);
        world.done("unmount v.vault --force");
        drop(holder);
        assert_nothing_is_left(world);
        let entry = mount_anywhere(world, "--driver udisks --read-only");
        assert_eq!(world.shell(&format!("cat '{}/held'", place_of(&entry))), "written\n");
        world.done("unmount v.vault");
    });
}

#[test]
fn what_a_killed_server_leaves_is_taken_away() {
    with_desktop("--size 340M --filesystem xfs", "YES", |world, _| {
        for next in ["unmount v.vault", "list"] {
            let entry = mount_anywhere(world, "");
            let place = place_of(&entry).to_owned();
            world.shell(&format!("cd '{place}' && seq 10000 > safe && sync safe && seq 20000 > loose"));
            let server = world.server();
            signal(server, Signal::KILL);
            wait_for_end_of(server);
            world.strongroom(next);
            let before = world.bytes("v.vault");
            // The journal is replayed in memory.
            let entry = mount_anywhere(world, "--read-only");
            world.shell(&format!("seq 10000 | cmp - '{}/safe'", place_of(&entry)));
            world.done("unmount v.vault");
            assert!(world.bytes("v.vault") == before);
            assert_nothing_is_left(world);
        }
    });
}

#[test]
fn a_killed_udisks_leaves_nothing() {
    with_desktop("--size 48M --filesystem ext4", "YES", |world, desktop| {
        let entry = mount_anywhere(world, "--driver udisks");
        world.shell(&format!("seq 1000 > '{}/numbers'", place_of(&entry)));
        desktop.kill_last();
        let ended = world.strongroom("unmount v.vault");
        assert_eq!(ended.status, Some(7), "{ended:?}");
        assert!(ended.errors.contains("udisks") && ended.errors.contains("umount"), "{ended:?}");
        assert_eq!(world.listed()["driver"], "udisks");
        desktop.start_udisks();
        world.done("unmount v.vault");
        assert_nothing_is_left(world);

        // Without it root still can, and the server ends.
        let entry = mount_anywhere(world, "--driver udisks");
        let server = world.server();
        desktop.kill_last();
        assert!(Command::new("umount").arg(place_of(&entry)).status().unwrap().success());
        wait_for_end_of(server);
        assert_nothing_is_left(world);
        desktop.start_udisks();
    });
}

#[test]
fn a_medium_that_is_gone_leaves_nothing() {
    with_desktop("--size 48M --filesystem ext4", "YES", |world, _| {
        if !crate::place::has_fuse2fs() {
            return;
        }
        world.shell(
            "PATH=$PATH:/sbin:/usr/sbin; mkfs.ext4 -q stick 100M && mkdir s && fuse2fs stick s -o fakeroot,rw && mv v.vault s/",
        );
        let mounted = world.shell(
            "HOME=$PWD/me ./strongroom mount s/v.vault --driver udisks --password-file password --json",
        );
        let mounted: serde_json::Value = serde_json::from_str(&mounted).unwrap();
        let place = place_of(&mounted).to_owned();
        world.shell(&format!("seq 1000 > '{place}/synced' && sync '{place}/synced'"));
        let stick = world.shell("pgrep -f \"^fuse2fs $PWD/stick\" || pgrep -u $(id -u) -n fuse2fs");
        signal(stick.lines().next().unwrap().trim().parse().unwrap(), Signal::KILL);
        world.shell(&format!("seq 100000 > '{place}/lost' 2>/dev/null || true"));
        let ended = world.strongroom(&format!("unmount '{place}' --force"));
        assert_eq!(ended.status, Some(6), "{ended:?}");
        assert_nothing_is_left(world);
        world.shell("fusermount3 -u s; rmdir s");
    });
}

#[test]
fn polkit_and_the_kernel_are_named_where_they_refuse() {
    with_desktop("--size 340M --filesystem xfs", "NO", |world, _| {
        for options in ["", "--driver udisks"] {
            let said = refusal(world, options);
            assert!(said.contains("polkit") && said.contains("as root") && said.ends_with("\n2\n"), "{said}");
            assert_nothing_is_left(world);
        }
    });
    with_desktop("--size 340M --filesystem xfs", "YES", |world, desktop| {
        if desktop.allowed_before.is_none() {
            return;
        }
        desktop.show_to_root(false);
        for options in ["", "--driver udisks"] {
            let said = refusal(world, options);
            let way = "echo Y | sudo tee /sys/module/fuse/parameters/allow_sys_admin_access";
            // Older kernels show the size to everybody.
            if said.ends_with("\n0\n") {
                world.done("unmount v.vault");
            } else {
                assert!(said.contains(way) && said.ends_with("\n4\n"), "{said}");
                let doctor = world.json("doctor");
                assert_eq!(doctor["udisks"]["fix"], way);
            }
            assert_nothing_is_left(world);
        }
    });
}

#[test]
fn without_udisks_its_package_is_named() {
    with_vault_of(Who::User, "--size 48M --filesystem ext4", |world| {
        world.make_folder("me");
        if !geteuid().is_root() || Path::new(SOCKET).exists() {
            return leave_to_root("be without a bus");
        }
        let said = refusal(world, "--driver udisks");
        assert!(said.contains("udisks is not running") && said.ends_with("\n7\n"), "{said}");
        assert!(comes_to_pass(|| !world.path("me/v").exists()));
    });
}

/// One desktop at a time: the kernel's word on who sees a user's files is one for all.
static ALONE: Mutex<()> = Mutex::new(());
const DBUS: &str = "/usr/bin/dbus-daemon";
const POLKIT: &str = "/usr/lib/polkit-1/polkitd";
const UDEV: &str = "/lib/systemd/systemd-udevd";
const UDISKS: &str = "/usr/libexec/udisks2/udisksd";
const RULES: &str = "/etc/polkit-1/rules.d";
const SEEN_BY_ROOT: &str = "/sys/module/fuse/parameters/allow_sys_admin_access";
const SOCKET: &str = "/run/dbus/system_bus_socket";
