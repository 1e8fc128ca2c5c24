//! What the command says when the machine lacks something: a tool, FUSE, space, write access. Each in a mount
//! namespace of its own, where the thing is hidden; each message frozen, each status that of the contract, nothing left.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

mod place;

use std::{
    fs,
    ops::Deref,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
};

use place::{Ended, Place, USER, can_mount, ended, is_skipped};

/// A place of an ordinary user, where root and he call strongroom on a machine that lacks something.
struct Machine(Place);

impl Deref for Machine {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.0
    }
}

impl Machine {
    /// `None`, with a line that says why, where nothing can be hidden.
    fn new() -> Option<Self> {
        let can =
            rustix::process::geteuid().is_root() || is_skipped("only root can hide parts of the machine");
        (can && can_mount()).then(|| {
            let place = Place::of_ordinary_user();
            fs::create_dir(place.path("disk")).unwrap();
            Self(place)
        })
    }

    /// Runs a shell script as root in a namespace of its own. `strongroom` is the command; `as_user` calls it as a user,
    /// and `user` any other.
    fn run(&self, script: &str) -> Ended {
        let bin = self.path("strongroom");
        let prelude = format!(
            "mount --make-rprivate /
             strongroom() {{ '{bin}' \"$@\"; }}
             user() {{ setpriv --reuid {USER} --regid {USER} --clear-groups \"$@\"; }}
             as_user() {{ user '{bin}' \"$@\"; }}
             ",
            bin = bin.display()
        );
        let mut command = self.command_of_this_user("setsid");
        ended(command.args(["--wait", "unshare", "-m", "/bin/sh", "-c"]).arg(prelude + script))
    }

    fn create(&self, name: &str) {
        let created = self.run(&format!("as_user create {name} --size 16M --provision thin {CREATE}"));
        assert_eq!(created.status, Some(0), "{created:?}");
    }

    fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }
}

/// Mounts with `command` where `hidden` is missing. No password can be had: with a terminal missing as well, asking for
/// one would be another error.
fn refusal_before_the_password(machine: &Machine, hidden: &str, command: &str) -> String {
    let said = machine.run(&format!("{hidden}\n{command} v m"));
    assert_eq!(said.status, Some(7), "{said:?}");
    let action = format!("strongroom: error: cannot mount on {}: ", machine.path("m").display());
    said.errors.strip_prefix(&action).unwrap_or_else(|| panic!("{said:?}")).to_owned()
}

fn hiding(program: &str) -> String {
    format!(
        "for d in /bin /sbin /usr/bin /usr/sbin; do
             if [ -f $d/{program} ]; then mount --bind /dev/null $d/{program}; fi
         done"
    )
}

fn not_installed(program: &str, package: &str) -> String {
    format!("{program} is not installed\nstrongroom: hint: install the package {package}\n")
}

#[test]
fn a_missing_program_is_named_before_the_password_is_asked_for() {
    let Some(machine) = Machine::new() else { return };
    machine.create("v");
    let refusal = refusal_before_the_password(&machine, &hiding("fusermount3"), "as_user mount");
    assert_eq!(refusal, not_installed("fusermount3", "fuse3 (Debian's name)"));
}

#[test]
fn without_e2fsck_ext4_is_written_and_what_takes_a_repair_is_mounted_for_reading() {
    let Some(machine) = Machine::new() else { return };
    machine.create("v");
    let hidden = ["fuse2fs", "e2fsck"].map(hiding).join("\n");
    let mount = "mkdir -p m; chown \"$(stat -c %u v)\" m; as_user mount v m --password-file password; as_user list; as_user unmount m";
    let said = machine.run(&format!("{hidden}; {mount}"));
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(!said.errors.contains("warning") && !said.out.contains("read-only"), "{said:?}");
    assert!(said.out.contains("builtin"), "{said:?}");
    let dirty =
        "mkdir -p m; strongroom mount --block v m --password-file password && debugfs -w -R dirty m/volume
        strongroom unmount m";
    let said = machine.run(&format!("{dirty}; {hidden}; {mount}"));
    assert_eq!(said.status, Some(0), "{said:?}");
    let told = "mounted read-only, as this file system takes a repair (it was not unmounted cleanly), and e2fsck is not installed: \
                install the package e2fsprogs";
    assert!(said.errors.contains(told), "{said:?}");
    assert!(said.out.contains("builtin") && said.out.contains("read-only"), "{said:?}");
}

#[test]
fn without_the_fuse_device_mounting_says_what_to_do_before_the_password() {
    let Some(machine) = Machine::new() else { return };
    machine.create("v");
    for command in ["strongroom mount", "as_user mount", "strongroom mount --block", "as_user mount --block"]
    {
        let refusal = refusal_before_the_password(&machine, NO_FUSE, command);
        let expected = "/dev/fuse cannot be opened: FUSE is not there\n\
                        strongroom: hint: as root: modprobe fuse; a container needs --device /dev/fuse\n";
        assert_eq!(refusal, expected);
    }
}

#[test]
fn without_loop_devices_the_kernel_driver_says_so_before_the_password() {
    let Some(machine) = Machine::new() else { return };
    machine.create("v");
    let hide = format!("cp -a /dev/fuse fuse; {NO_FUSE}; cp -a fuse /dev/fuse; rm fuse");
    let refusal = refusal_before_the_password(&machine, &hide, "strongroom mount --driver kernel");
    let expected = "the kernel has no loop devices\n\
                    strongroom: hint: load the module: modprobe loop; or use --driver builtin\n";
    assert_eq!(refusal, expected);
}

#[test]
fn without_the_fuse_device_create_with_a_file_system_asks_for_no_password() {
    let Some(machine) = Machine::new() else { return };
    let create = "as_user create v --size 400M --provision thin --filesystem xfs";
    let said = machine.run(&format!("{NO_FUSE}; {create}"));
    assert_eq!(said.status, Some(7));
    assert_eq!(
        said.errors,
        "strongroom: error: cannot create v: /dev/fuse cannot be opened: FUSE is not there\n\
         strongroom: hint: as root: modprobe fuse; a container needs --device /dev/fuse\n"
    );
    assert!(!machine.has("v"));
}

#[test]
fn the_root_directory_of_a_new_file_system_belongs_to_its_maker() {
    let Some(machine) = Machine::new() else { return };
    for kind in ["ext4", "xfs"] {
        if kind != "ext4" && !Path::new("/usr/sbin").join(format!("mkfs.{kind}")).exists() {
            is_skipped(&format!("mkfs.{kind} is not installed"));
            continue;
        }
        let said = machine.run(&format!(
            "as_user --quiet create {kind} --size 512M --provision thin --filesystem {kind} {CREATE}
             strongroom --quiet mount {kind} m --password-file password
             stat -c '%u:%g %a' m >&2
             strongroom --quiet unmount m"
        ));
        assert_eq!((said.status, said.errors), (Some(0), format!("{USER}:{USER} 755\n")), "{kind}");
    }
}

#[test]
fn without_mkfs_the_password_is_not_even_asked_for() {
    let Some(machine) = Machine::new() else { return };
    let hide = "for tool in /sbin/mkfs.xfs /usr/sbin/mkfs.xfs; do mount --bind /dev/null $tool; done";
    let said = machine.run(&format!("{hide}; as_user create v --size 400M --filesystem xfs"));
    assert_eq!(said.status, Some(7));
    assert_eq!(
        said.errors,
        "strongroom: error: cannot create v: mkfs.xfs is not installed\n\
         strongroom: hint: install the package xfsprogs\n"
    );
}

#[test]
fn to_create_ext4_takes_neither_a_program_nor_the_fuse_device() {
    let Some(machine) = Machine::new() else { return };
    let hide = "for tool in /sbin/mkfs.ext4 /sbin/mke2fs /usr/sbin/mkfs.ext4 /usr/sbin/mke2fs; do mount --bind /dev/null $tool; done";
    for (who, options) in [
        ("strongroom", "--provision thin"),
        ("as_user", "--provision thin"),
        ("as_user", "--provision quick"),
    ] {
        let said = machine.run(&format!(
            "mkdir -p m; rm -f v; cp -a /dev/fuse fuse; {hide}; {NO_FUSE}; {who} --quiet create v --size 64M {options} {CREATE} || exit 3
             cp -a fuse /dev/fuse; rm fuse
             strongroom --quiet mount --block v m --password-file password && e2fsck -fn m/volume > /dev/null 2>&1
             echo $? >&2; strongroom --quiet unmount m"
        ));
        assert_eq!(said.errors.lines().last(), Some("0"), "{who} {options}: {said:?}");
    }
}

#[test]
fn a_full_disk_is_told_before_the_work() {
    let Some(machine) = Machine::new() else { return };
    let said = machine
        .run(&format!("mount -t tmpfs -o size=8M none disk; strongroom create disk/v --size 64M {CREATE}"));
    assert_eq!(said.status, Some(6));
    assert_eq!(
        said.errors,
        "strongroom: error: cannot create disk/v: it needs 64 MiB, but only 8 MiB are free\n\
         strongroom: hint: choose a smaller --size\n"
    );
}

#[test]
fn a_disk_that_fills_up_under_the_work_keeps_nothing() {
    let Some(machine) = Machine::new() else { return };
    let said = machine.run(&format!(
        "mount -t tmpfs -o size=96K none disk
         strongroom create disk/v --size 64M --provision thin --filesystem none {CREATE}
         status=$?
         test -z \"$(ls -A disk)\" || exit 99
         exit $status"
    ));
    assert_eq!(said.status, Some(6), "{said:?}");
    assert_eq!(
        said.errors,
        "strongroom: warning: disk/v: it may grow to 64 MiB, and the disk has only 96 KiB free: once the disk is full, what you \
         write to the container can be lost\n\
         strongroom: error: cannot create disk/v: no space left on device\n"
    );
}

#[test]
fn a_limit_on_file_sizes_is_an_error_and_no_death_by_signal() {
    let Some(machine) = Machine::new() else { return };
    let said = machine.run(&format!("ulimit -f 1000; strongroom create v --size 64M {CREATE}"));
    assert_eq!(said.status, Some(6));
    assert_eq!(
        said.errors,
        "strongroom: error: cannot create v: file too large\nstrongroom: hint: the file system allows no larger file, or a limit of the shell: see ulimit -f\n"
    );
    assert!(!machine.has("v"));
}

#[test]
fn read_only_media_can_be_mounted_read_only() {
    let Some(machine) = Machine::new() else { return };
    machine.create("v");
    let said = machine.run(
        "mount --bind . disk; mount -o remount,bind,ro disk
         strongroom mount disk/v m --password-file password; echo \"status $?\" >&2
         strongroom mount disk/v m --password-file password --read-only; echo \"status $?\" >&2
         strongroom unmount m",
    );
    assert_eq!(said.status, Some(0), "{said:?}");
    let place = machine.path("m");
    let expected = format!(
        "strongroom: error: cannot open disk/v: read-only file system\n\
         strongroom: hint: use --read-only\n\
         status 6\n\
         mounted disk/v on {place}\n\
         status 0\n\
         unmounted {place}\n",
        place = place.display()
    );
    assert_eq!(said.errors, expected);
}

#[test]
fn nothing_is_created_on_read_only_media() {
    let Some(machine) = Machine::new() else { return };
    let said = machine.run(&format!(
        "mount --bind . disk; mount -o remount,bind,ro disk; strongroom create disk/v --size 8M {CREATE}"
    ));
    assert_eq!(said.status, Some(6));
    assert_eq!(said.errors, "strongroom: error: cannot create disk/v: read-only file system\n");
}

#[test]
fn a_container_that_others_own_is_refused_with_status_2() {
    let Some(machine) = Machine::new() else { return };
    machine.create("v");
    chown(machine.path("v"), Some(0), Some(0)).unwrap();
    fs::set_permissions(machine.path("v"), fs::Permissions::from_mode(0o600)).unwrap();
    let said = machine.run("as_user mount v m --password-file password");
    assert_eq!(said.status, Some(2));
    assert_eq!(
        said.errors,
        "strongroom: error: cannot open v: permission denied\n\
         strongroom: hint: you have no access to this file: ask its owner; ls -l shows who that is\n"
    );
    fs::set_permissions(machine.path("v"), fs::Permissions::from_mode(0o644)).unwrap();
    let said = machine.run("as_user mount v m --password-file password");
    assert_eq!(said.status, Some(2));
    assert_eq!(
        said.errors,
        "strongroom: error: cannot open v: permission denied\n\
         strongroom: hint: use --read-only\n"
    );
}

#[test]
fn a_mount_point_that_cannot_be_written_is_refused_before_the_password() {
    let Some(machine) = Machine::new() else { return };
    machine.create("v");
    fs::set_permissions(machine.path("m"), fs::Permissions::from_mode(0o500)).unwrap();
    let said = machine.run("as_user mount v m");
    assert_eq!(said.status, Some(2), "{said:?}");
    let place = machine.path("m");
    let expected = format!(
        "strongroom: error: cannot mount on m: the directory is not writable\n\
         strongroom: hint: make it writable: chmod u+w {}\n",
        place.display()
    );
    assert_eq!(said.errors, expected);
}

#[test]
fn a_second_mount_learns_where_the_first_is() {
    let Some(machine) = Machine::new() else { return };
    machine.create("v");
    let said = machine.run(
        "strongroom --quiet mount v m --password-file password
         mkdir m2; strongroom mount v m2 --password-file password; status=$?
         strongroom --quiet unmount v
         exit $status",
    );
    assert_eq!(said.status, Some(5), "{said:?}");
    let place = machine.path("m");
    let start = format!("strongroom: error: cannot open v: it is mounted on {} (process ", place.display());
    let end = format!(")\nstrongroom: hint: strongroom unmount {}\n", place.display());
    assert!(said.errors.starts_with(&start) && said.errors.ends_with(&end), "{said:?}");
}

#[test]
fn a_mounted_container_is_not_overwritten_even_by_force() {
    let Some(machine) = Machine::new() else { return };
    machine.create("v");
    let said = machine.run(&format!(
        "strongroom --quiet mount v m --password-file password
         strongroom create v --size 8M --force --yes {CREATE}; status=$?
         strongroom --quiet unmount v
         exit $status"
    ));
    assert_eq!(said.status, Some(5), "{said:?}");
    let start =
        format!("strongroom: error: cannot create v: it is mounted on {} (", machine.path("m").display());
    assert!(said.errors.starts_with(&start), "{said:?}");
}

#[test]
fn a_mounted_container_still_tells_of_itself() {
    let Some(machine) = Machine::new() else { return };
    machine.create("v");
    let said = machine.run(
        "strongroom --quiet mount v m --password-file password
         strongroom info v > info && strongroom key test v --password-file password > test; status=$?
         strongroom --quiet unmount v
         exit $status",
    );
    assert_eq!((said.status, said.errors.as_str()), (Some(0), ""));
    assert_eq!(fs::read_to_string(machine.path("test")).unwrap(), "keyslot 0 opens\n");
    assert!(
        fs::read_to_string(machine.path("info")).unwrap().starts_with("Format:        native, version 1\n")
    );
}

#[test]
fn a_mount_outlives_the_runtime_directory_of_its_login() {
    let Some(machine) = Machine::new() else { return };
    machine.create("v");
    // What systemd does with /run/user/UID at a user's last logout.
    let said = machine.run(&format!(
        "{LOGIN}
         as_user --quiet mount v m --password-file password || exit 90
         user sh -c 'echo before > m/before'
         {LOGOUT}
         user sh -c 'cat m/before; echo after > m/after; sync m/after' > read || exit 91
         as_user list --json > listed || exit 92
         as_user --quiet unmount m || exit 93
         as_user --quiet mount v m --block --password-file password && user e2fsck -fn m/volume > e2fsck || exit 94
         as_user --quiet unmount v || exit 95
         as_user --quiet mount v m --password-file password && user cat m/after >> read
         as_user --quiet unmount m"
    ));
    assert_eq!((said.status, said.errors.contains("rror:")), (Some(0), false), "{said:?}");
    assert_eq!(fs::read_to_string(machine.path("read")).unwrap(), "before\nafter\n");
    let listed = fs::read_to_string(machine.path("listed")).unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let ours =
        |mount: &&serde_json::Value| mount["container"].as_str().map(Path::new) == Some(&machine.path("v"));
    let mount = listed["mounts"].as_array().unwrap().iter().find(ours).unwrap();
    assert_eq!(mount["mountpoint"].as_str().map(Path::new), Some(&*machine.path("m")));
    assert!(mount["block"].is_null(), "{mount}");
}

#[test]
fn a_block_file_outlives_the_runtime_directory_of_its_login() {
    let Some(machine) = Machine::new() else { return };
    machine.create("v");
    let said = machine.run(&format!(
        "{LOGIN}
         as_user --quiet mount v m --block --password-file password || exit 90
         {LOGOUT}
         user e2fsck -fn m/volume > e2fsck || exit 91
         as_user --quiet unmount m || exit 92
         as_user list"
    ));
    assert_eq!((said.status, said.errors.contains("rror:")), (Some(0), false), "{said:?}");
    assert!(!said.errors.contains(machine.path("v").to_str().unwrap()), "{said:?}");
}

#[test]
fn a_runtime_directory_behind_a_link_is_used() {
    let Some(machine) = Machine::new() else { return };
    machine.create("v");
    let said = machine.run(&format!(
        "{LOGIN}
         ln -s login link; export XDG_RUNTIME_DIR=\"$PWD/link\"
         as_user --quiet mount v m --password-file password || exit 90
         user ls login/strongroom | grep -q . || exit 91
         as_user --quiet unmount m"
    ));
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.errors.is_empty(), "{said:?}");
}

#[test]
fn a_mount_in_the_foreground_ends_with_ctrl_c() {
    let Some(machine) = Machine::new() else { return };
    machine.create("v");
    // What a shell starts in the background ignores Ctrl-C. What does not heed it is killed at last.
    let said = machine.run(
        "(until mountpoint -q m; do kill -0 $$ || exit; sleep 0.1; done; sleep 3; kill -INT $$
          for i in $(seq 600); do kill -0 $$ || exit; sleep 0.1; done; kill -KILL $$) > /dev/null 2>&1 &
         exec \"$PWD/strongroom\" --quiet mount v m --foreground --password-file password",
    );
    assert_eq!((said.status, said.errors.as_str()), (Some(0), ""));
    let said = machine.run("strongroom unmount v");
    assert_eq!(said.status, Some(4));
    let expected = "strongroom: error: cannot unmount v: it is not mounted\n\
                    strongroom: hint: strongroom list shows what is mounted\n";
    assert_eq!(said.errors, expected);
}

/// What a new container costs, and what opens it.
const CREATE: &str = "--kdf-memory 64M --kdf-passes 3 --kdf-lanes 1 --password-file password";

/// A runtime directory as a login makes it, and its end as a logout makes it.
const LOGIN: &str = "mkdir login; mount -t tmpfs -o uid=65534,gid=65534,mode=700 none login
    export XDG_RUNTIME_DIR=\"$PWD/login\"";
/// The server has a new home by the end of it.
const LOGOUT: &str = "rm -rf --one-file-system login/* 2> /dev/null; umount -l login
    for i in $(seq 600); do
        grep -qsF \"\\\"$PWD/v\\\"\" /tmp/strongroom-65534*/*/session.json && break; sleep 0.1
    done";

/// A `/dev` without FUSE, and with what else is needed.
const NO_FUSE: &str = "mount -t tmpfs none disk
    for name in null zero random urandom tty; do cp -a /dev/$name disk; done
    mount --move disk /dev";
