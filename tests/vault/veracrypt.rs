//! VeraCrypt containers from their making to their growth, with a hidden volume in them.

use std::time::Duration;

use crate::{
    place::{Who, comes_to_pass, is_running},
    world::{World, with_vault, with_who},
};

const OUTER: &str = "--format veracrypt --prf sha512 --pim 1 --password-file outer";
const HIDDEN: &str = "--format veracrypt --prf sha512 --pim 1 --hidden --password-file hidden";
const PROTECT: &str = "--protect-hidden --protect-password-file hidden --protect-prf sha512 --protect-pim 1";
const HIDE: &str = "--format veracrypt --hidden --prf sha512 --pim 1 --password-file outer --new-prf sha512 --new-pim 1 --new-password-file hidden";
/// Any vault: these walks make their own.
const NOTHING: &str = "--size 4M --filesystem none --provision thin";

fn passwords(world: &World) {
    for (file, password) in [
        ("outer", "the outer volume's long password"),
        ("hidden", "the hidden volume's long password"),
        ("third", "some third password, long as well"),
    ] {
        world.make_file(file, format!("{password}\n"));
    }
}

fn make(world: &World, name: &str, options: &str) {
    world.done(&format!("create {name} --format veracrypt --pim 1 --password-file outer {options}"));
}

/// The bytes of the container where a hidden volume of `size` MiB has its data.
fn hidden_data(world: &World, name: &str, size: usize) -> Vec<u8> {
    let bytes = world.bytes(name);
    let end = bytes.len() - 262_144;
    bytes[end - (size << 20)..end].to_vec()
}

#[test]
fn an_outer_ext4_that_is_filled_meets_an_error_and_the_hidden_volume_stays() {
    with_vault(NOTHING, |world| {
        passwords(world);
        make(world, "c.hc", "--size 40M");
        world.done(&format!("create c.hc {HIDE} --size 6M"));
        world.done(&format!("mount c.hc m {HIDDEN}"));
        world.shell("head -c 2000000 /dev/urandom > m/secret");
        let secret = world.shell("sha256sum m/secret");
        world.done("unmount m");
        let before = hidden_data(world, "c.hc", 6);

        world.done(&format!("mount c.hc m {OUTER} {PROTECT}"));
        assert_eq!(world.listed()["protection"], "active");
        world.shell("head -c 90000000 /dev/urandom > m/fill || true; sync; sync -f m || true");
        // The server notes it a moment later, and the kernel writes back when it likes.
        let mut listed = world.listed();
        comes_to_pass(|| {
            listed = world.listed();
            listed["protection"] == "triggered"
        });
        assert_eq!(
            (&listed["protection"], &listed["read_only"]),
            (&"triggered".into(), &true.into()),
            "{world}"
        );
        let table = world.strongroom("list").out;
        assert!(table.contains("a write hit the hidden volume"), "{table}");
        world.shell("! { echo more > m/more && sync m/more; }");
        let told = world.strongroom("unmount m");
        assert_eq!(told.status, Some(6), "{world}");
        let text = &told.errors;
        assert!(text.contains("error: unmounted ") && text.contains("/m, but not cleanly: "), "{text}");
        assert!(text.contains("to protect the hidden volume"), "{text}");
        // The server has ended, and with it its lock.
        world.done(&format!("mount --block c.hc m {HIDDEN}"));
        world.done("unmount m");

        assert!(hidden_data(world, "c.hc", 6) == before, "{world}: the hidden volume was written to");
        world.done(&format!("mount c.hc m {HIDDEN}"));
        assert_eq!(world.shell("sha256sum m/secret"), secret);
        world.done("unmount m");
        // The outer file system is as after a crash.
        world.done(&format!("mount --block c.hc m {OUTER}"));
        world.shell("e2fsck -fy m/volume || test $? -le 2");
        world.done("unmount m");
    });
}

/// No driver of NTFS is needed: its tools write to the block file.
#[test]
fn an_outer_ntfs_keeps_its_files_and_meets_an_error_where_the_hidden_volume_is() {
    let tools = ["/usr/sbin/mkfs.ntfs", "/usr/sbin/ntfscp"];
    if let Some(tool) = tools.iter().find(|tool| !std::path::Path::new(tool).exists()) {
        assert!(std::env::var_os("STRONGROOM_REQUIRE").is_none_or(|value| value != "1"), "{tool} is missing");
        println!("skipped: a hidden volume in NTFS: {tool} is missing");
        return;
    }
    with_vault(NOTHING, |world| {
        passwords(world);
        make(world, "c.hc", "--size 40M --filesystem ntfs");
        world.shell(
            "head -c 5000000 /dev/urandom > large; head -c 300 large > small; head -c 90000 large > middling",
        );
        let files = "for file in large small middling; do ntfscat -f m/volume $file | sha256sum; done; /usr/bin/ntfsfix -n m/volume >&2";
        world.done(&format!("mount --block c.hc m {OUTER}"));
        world.shell("for file in large small middling; do /usr/sbin/ntfscp -f -q m/volume $file $file; done");
        let written = world.shell(files);
        assert_eq!(written, world.shell("for file in large small middling; do sha256sum < $file; done"));
        world.done("unmount m");

        // NTFS has the copy of its first records in the middle.
        let largest = world.strongroom(&format!("create c.hc {HIDE} --size 30M"));
        let text = largest.errors;
        assert!(largest.status == Some(6) && text.contains("bytes are free at the end"), "{text}");
        let made = world.strongroom(&format!("create c.hc {HIDE}"));
        let text = made.errors;
        assert!(made.status == Some(0) && text.contains("copy of its boot sector"), "{world}: {text}");
        world.done(&format!("mount c.hc m {HIDDEN}"));
        world.shell("head -c 4000000 /dev/urandom > m/secret; sync");
        let secret = world.shell("sha256sum m/secret");
        world.done("unmount m");

        world.done(&format!("mount --block c.hc m {OUTER} {PROTECT}"));
        assert_eq!(world.shell(files), written, "{world}");
        assert_eq!(world.listed()["protection"], "active");
        world.shell("/usr/sbin/ntfscp -f -q m/volume small another && test \"$(ntfscat -f m/volume another | wc -c)\" = 300");
        // It ends with status 0 whatever it meets.
        let fails = |file: &str| {
            world.shell(&format!(
                "/usr/sbin/ntfscp -f -q m/volume {file} more-{file} 2>&1 | grep -q 'Input/output error'"
            ));
        };
        world.shell("head -c 30000000 /dev/zero > fill");
        fails("fill");
        assert_eq!(world.listed()["protection"], "triggered", "{world}");
        fails("small");
        assert_eq!(world.strongroom("unmount m").status, Some(6), "{world}");

        world.done(&format!("mount c.hc m {HIDDEN}"));
        assert_eq!(world.shell("sha256sum m/secret"), secret, "{world}");
        world.done("unmount m");
        let read = || {
            world.done(&format!("mount --block --read-only c.hc m {OUTER}"));
            let read = world.shell(files.split("; /usr/bin").next().unwrap());
            world.done("unmount m");
            read
        };
        if read() != written {
            // Sometimes the writes that failed leave the file system's log so that ntfs-3g's programs refuse it until its own
            // repair has been there.
            println!("{world}: ntfsfix is needed");
            world.done(&format!("mount --block c.hc m {OUTER} {PROTECT}"));
            world.shell("/usr/sbin/ntfsfix m/volume > fixed 2>&1 || true");
            let _ = world.strongroom("unmount m");
        }
        assert_eq!(read(), written, "{world}: {}", world.shell("cat fixed 2> /dev/null || true"));
    });
}

#[test]
fn what_would_harm_or_show_a_hidden_volume_is_refused() {
    with_vault(NOTHING, |world| {
        passwords(world);
        make(world, "c.hc", "--size 12M --filesystem exfat");
        let before = world.bytes("c.hc");
        let refused = |arguments: &str, status: i32, word: &str| {
            let output = world.strongroom(arguments);
            assert_eq!(output.status, Some(status), "{world}: {arguments}: {output:?}");
            assert!(output.errors.contains(word), "{arguments}: {output:?}");
        };
        refused(&format!("create c.hc {HIDE} --size 12M"), 6, "free at the end");
        refused(
            &format!(
                "create c.hc {}",
                HIDE.replace("--new-password-file hidden", "--new-password-file outer")
            ),
            1,
            "another password",
        );
        refused(
            &format!("create c.hc {}", HIDE.replace("--password-file outer", "--password-file third")),
            2,
            "password",
        );
        refused(&format!("create c.hc {HIDE} --provision thin"), 1, "thin");
        world.done(&format!("mount --block c.hc m {OUTER} --read-only"));
        refused(&format!("create c.hc {HIDE}"), 5, "mounted");
        refused(&format!("resize c.hc 20M {OUTER}"), 5, "mounted");
        world.done("unmount m");
        refused(
            &format!("mount c.hc m {OUTER} --protect-hidden --read-only --protect-password-file hidden"),
            1,
            "nothing is written",
        );
        refused(&format!("mount c.hc m {OUTER} {PROTECT}"), 2, "password");
        refused(&format!("resize c.hc 11M {OUTER}"), 4, "do not become smaller");
        refused(&format!("key add c.hc {OUTER} --new-password-file third"), 1, "one password");
        assert!(world.bytes("c.hc") == before, "something was written");

        make(world, "quick.hc", "--size 12M --filesystem vfat --provision quick");
        refused(&format!("create quick.hc {HIDE}"), 4, "never filled");
    });
}

#[test]
fn a_container_is_changed_backed_up_repaired_and_grown() {
    with_vault(NOTHING, |world| {
        passwords(world);
        make(world, "c.hc", "--size 16M --filesystem exfat --cipher twofish-aes");
        world.done(&format!("create c.hc {HIDE} --size 4M"));
        world.done(&format!("mount c.hc m {HIDDEN}"));
        world.shell("echo kept > m/file");
        world.done("unmount m");
        world.done(&format!("header backup c.hc old.header {OUTER}"));
        assert_eq!(std::fs::metadata(world.path("old.header")).unwrap().len(), 131_072);
        world
            .done(&format!("key change c.hc {OUTER} --new-prf sha256 --new-pim 2 --new-password-file third"));
        let new = "--format veracrypt --prf sha256 --pim 2 --password-file third";
        for arguments in ["", " --backup-header"] {
            world.done(&format!("key test c.hc {new}{arguments}"));
            assert_eq!(world.strongroom(&format!("key test c.hc {OUTER}{arguments}")).status, Some(2));
        }
        world.shell("dd if=/dev/zero of=c.hc bs=512 count=1 conv=notrunc status=none");
        world.done(&format!("header repair c.hc {new} --yes"));
        world.done(&format!("key test c.hc {new}"));
        world.done(&format!("header restore c.hc old.header {OUTER} --yes"));
        world.done(&format!("key test c.hc {OUTER}"));
        world.done(&format!("resize c.hc 24M {OUTER}"));
        assert_eq!(std::fs::metadata(world.path("c.hc")).unwrap().len(), 24 << 20);
        world.done(&format!("mount --block c.hc m {OUTER}"));
        assert_eq!(world.shell("stat -c %s m/volume").trim(), ((24 << 20) - 262_144).to_string());
        world.done("unmount m");
        world.done(&format!("key test c.hc {HIDDEN} --backup-header"));
        world.done(&format!("mount c.hc m {HIDDEN}"));
        assert_eq!(world.shell("cat m/file"), "kept\n");
        world.done("unmount m");
    });
}

/// Its ext4 included, with a hidden volume in what that has free.
// proves: VC-GROW-05
// proves: VC-GROW-06
#[test]
fn an_outer_volume_grows_with_its_ext4_mounted_or_not_and_the_hidden_one_stays() {
    // The kernel puts its files where a hidden volume would be.
    with_who(Who::RootInServer, NOTHING, |world| {
        passwords(world);
        make(world, "c.hc", "--size 40M --filesystem ext4");
        let mount = world.mount_command().replace("v.vault", "c.hc");
        let with = |command: &str, secret: &str| command.replace("--password-file password", secret);
        world.done(&with(&mount, OUTER));
        world.shell("head -c 3M /dev/urandom > m/file; sha256sum m/file > sums");
        world.done("unmount m");
        world.done(&format!("create c.hc {HIDE} --size 8M"));
        let hidden = |world: &World| {
            world.done(&format!("mount c.hc m {HIDDEN}"));
            world.shell("if test -e inner; then cmp inner m/inner; else head -c 2M /dev/urandom > inner; cp inner m/inner; fi");
            world.done("unmount m");
        };
        hidden(world);
        let resized = world.json(&format!("resize c.hc 60M {OUTER}"));
        assert_eq!(resized["filesystem"], "ext4", "{world}: {resized}");
        hidden(world);
        world.done(&with(&mount, OUTER));
        let resized = world.json(&format!("resize c.hc 100M {OUTER}"));
        assert_eq!(resized["data_size"], (100 << 20) - 262_144, "{world}: {resized}");
        if world.driver() == "builtin" {
            assert_eq!(resized["filesystem"], "ext4", "{world}: {resized}");
            world.shell("test $(df --output=size m | tail -1) -gt 80000");
        }
        world.shell("sha256sum --quiet -c sums");
        world.done("unmount m");
        hidden(world);
        world.done(&with(&mount, OUTER));
        world.shell("sha256sum --quiet -c sums");
        world.done("unmount m");
        // Another volume of the container is no larger than it was.
        world.done(&with(&mount, HIDDEN));
        let refused = world.strongroom(&format!("resize c.hc 120M {OUTER}"));
        assert_eq!(refused.status, Some(4), "{world}: {refused:?}");
        world.shell("cmp inner m/inner");
        world.done("unmount m");
        world.done(&format!("mount c.hc m {OUTER} {PROTECT}"));
        let refused = world.strongroom(&format!("resize c.hc 140M {OUTER}"));
        assert_eq!(refused.status, Some(5), "{world}: {refused:?}");
        world.done("unmount m");
        world.done(&with(&mount, OUTER));
        world.shell("sha256sum --quiet -c sums");
        world.done("unmount m");
        hidden(world);
    });
}

/// Killed at whatever moment, a command leaves a container that opens as before, or as it was meant to be.
#[test]
fn a_command_that_is_killed_leaves_a_container_that_opens() {
    with_vault(NOTHING, |world| {
        passwords(world);
        make(world, "c.hc", "--size 64M --filesystem exfat");
        let mut killed = 0;
        for (delay, arguments) in (0..8_u64).flat_map(|step| {
            [
                (step, format!("create c.hc {HIDE} --filesystem none")),
                (step, format!("resize c.hc {}M {OUTER}", 80 + step * 16)),
                (step, format!("create new{step}.hc --format veracrypt --pim 1 --size 64M --filesystem none --password-file outer")),
            ]
        }) {
            let command = world.shell_in_background(&format!("exec ./strongroom {arguments}"));
            std::thread::sleep(Duration::from_millis(20 + delay * 40));
            killed += u32::from(is_running(command.process()));
            drop(command);
            world.done(&format!("key test c.hc {OUTER}"));
            world.done(&format!("mount --block c.hc m {OUTER}"));
            world.shell("/usr/sbin/fsck.exfat -n m/volume");
            world.done("unmount m");
        }
        assert!(killed > 0, "{world}: all were too fast to be killed");
        println!("{world}: killed {killed}");
        let names = world.files();
        assert!(!names.iter().any(|name| name.contains("partial")), "{names:?}");
    });
}
