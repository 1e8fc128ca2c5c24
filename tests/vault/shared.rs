//! Mounts that are shared: who is named gets in, and nobody else does.

use std::fs;

use rustix::mount::{UnmountFlags, mount_bind, unmount};

use super::place::{CHEAP, Ended, Place, Who, can_mount, ended, everybody, leave_to_root};

/// A user who is named, one who is not, and one who is in a group that is named.
const GUEST: u32 = 4711;
const STRANGER: u32 = 4712;
const MEMBER: u32 = 4713;
const GROUP: u32 = 4800;
/// The group of the place's user, which is not named.
const OWNERS_GROUP: u32 = super::place::USER;

/// A place to which everybody comes, where the administrator allows sharing or not. `None` where we are nobody else.
fn place(who: Who, is_allowed: bool) -> Option<Place> {
    if !rustix::process::geteuid().is_root() {
        leave_to_root("be several users");
        return None;
    }
    if !can_mount() {
        return None;
    }
    let place = Place::of(who);
    place.shell("chmod 711 .");
    let rules = place.make_file(
        "fuse.conf",
        if is_allowed { "# yes\n user_allow_other \n" } else { "#user_allow_other\n" },
    );
    mount_bind(rules, "/etc/fuse.conf").unwrap();
    Some(place)
}

/// Leaves the place, and the rules as they are here.
fn leave(place: &Place) {
    unmount("/etc/fuse.conf", UnmountFlags::empty()).unwrap();
    place.assert_clean();
}

fn make(place: &Place, filesystem: &str) {
    place.done(&format!(
        "create {filesystem}.vault --size 32M --provision quick {CHEAP} --password-file password --filesystem {filesystem}"
    ));
}

/// Runs a script as somebody else.
fn act(place: &Place, user: u32, group: u32, groups: &[u32], script: &str) -> Ended {
    let groups: Vec<_> = groups.iter().map(ToString::to_string).collect();
    let groups = if groups.is_empty() {
        "--clear-groups".to_owned()
    } else {
        format!("--groups={}", groups.join(","))
    };
    let mut command = place.command_of_this_user("setpriv");
    command.args([
        &*format!("--reuid={user}"),
        &format!("--regid={group}"),
        &groups,
        "/bin/sh",
        "-euc",
        script,
    ]);
    ended(&mut command)
}

/// Nobody gets in who is not named, also where the kernel has everything in its memory.
fn assert_closed(place: &Place, what: &str) {
    for (user, group, groups) in [
        (STRANGER, STRANGER, &[][..]),
        (STRANGER, OWNERS_GROUP, &[]),
        (STRANGER, STRANGER, &[OWNERS_GROUP, 0]),
        (0, 0, &[]),
    ] {
        for script in [
            "cat m/f",
            "stat -c %s m/f",
            "ls m/d",
            "test -e m/d/g",
            "echo x > m/new",
            "echo x >> m/f",
            "rm m/f",
            "mv m/f m/e",
            "mkdir m/e",
            "readlink m/l",
            "touch m/f",
            "chmod 777 m/f",
            "chmod 777 m",
        ] {
            let ended = act(place, user, group, groups, script);
            assert_ne!(ended.status, Some(0), "{what}: user {user}, group {group}, {groups:?}: {script}");
        }
    }
}

#[test]
fn who_is_named_gets_in_and_nobody_else_does_not_even_root() {
    let Some(place) = place(Who::User, true) else { return };
    for (filesystem, owner) in [("exfat", ""), ("ext4", "--owner me"), ("ext4", "--owner real")] {
        let what = format!("{filesystem} {owner}");
        make(&place, filesystem);
        let share = format!("--share user:{GUEST} --share group:{GROUP}");
        place.done(&format!("mount {filesystem}.vault m --password-file password {owner} {share}"));
        let listed = serde_json::json!({ "users": [GUEST], "groups": [GROUP] });
        assert_eq!(place.listed()["shared_with"], listed, "{what}");
        let shown = format!("read-write, shared with user:{GUEST},group:{GROUP}");
        assert!(place.done("list").contains(&shown), "{what}");
        place.shell(
            "echo mine > m/f; mkdir m/d; echo more > m/d/g; chmod 644 m/f; ls -l m m/d; cat m/f m/d/g",
        );
        let keeps_owners = owner == "--owner real";
        if filesystem == "ext4" {
            place.shell("ln -s f m/l");
        }
        for (user, groups) in [(GUEST, &[][..]), (MEMBER, &[STRANGER, GROUP])] {
            let done = |script: &str| act(&place, user, user, groups, script);
            let read = done("cat m/f m/d/g; ls -l m m/d > /dev/null; test -x m");
            assert_eq!((read.status, &*read.out), (Some(0), "mine\nmore\n"), "{what}: {read:?}");
            let made =
                done("echo theirs > m/theirs; cat m/theirs; mkdir m/e; rmdir m/e; mv m/theirs m/t; rm m/t");
            assert_eq!(made.status, Some(0), "{what}: {made:?}");
            // Further down the volume's own owners and modes count, where they are shown.
            let written = done("echo > m/d/new && rm m/d/new && echo mine > m/f");
            assert_eq!(written.status == Some(0), !keeps_owners, "{what}: {written:?}");
            let given = done("chmod 777 m/f");
            assert_ne!(given.status, Some(0), "{what}: only the owner changes modes");
            assert_closed(&place, &what);
        }
        if keeps_owners {
            place.shell("chmod 700 m/d");
            assert_ne!(act(&place, GUEST, GUEST, &[], "ls m/d").status, Some(0), "{what}");
            place.shell("chmod 755 m/d");
        } else {
            place.shell("chmod 500 m/f; cat m/f > /dev/null");
            assert_ne!(
                act(&place, GUEST, GUEST, &[], "echo x >> m/f").status,
                Some(0),
                "{what}: not even the owner may"
            );
            place.shell("chmod 700 m/f");
        }
        assert_closed(&place, &what);
        place.shell("cat m/f m/d/g > /dev/null");
        place.done("unmount m");
        // The same volume is private again.
        place.done(&format!("mount {filesystem}.vault m --password-file password {owner}"));
        for (user, groups) in [(GUEST, &[][..]), (MEMBER, &[GROUP])] {
            assert_ne!(act(&place, user, user, groups, "ls m").status, Some(0), "{what}");
        }
        assert!(place.listed()["shared_with"].is_null());
        place.done("unmount m");
        place.shell(&format!("rm {filesystem}.vault"));
    }
    leave(&place);
}

#[test]
fn root_shares_with_the_builtin_driver() {
    let Some(place) = place(Who::RootInServer, false) else { return };
    make(&place, "exfat");
    place.done(&format!("mount exfat.vault m --password-file password --share user:{GUEST}"));
    assert_eq!(place.listed()["driver"], "builtin");
    place.shell("echo mine > m/f; mkdir m/d; cat m/f");
    assert_eq!(act(&place, GUEST, GUEST, &[], "echo theirs >> m/f; cat m/f").out, "mine\ntheirs\n");
    for groups in [&[][..], &[0, GROUP]] {
        for script in ["cat m/f", "ls m/d", "stat m/f", "echo >> m/f"] {
            assert_ne!(act(&place, STRANGER, STRANGER, groups, script).status, Some(0), "{script}");
        }
    }
    place.done("unmount m");
    leave(&place);
}

#[test]
fn where_the_administrator_does_not_allow_it_one_line_says_what_would() {
    let Some(place) = place(Who::User, false) else { return };
    make(&place, "exfat");
    let refused = place.strongroom("mount exfat.vault m --share user:root < /dev/null");
    assert_eq!(refused.status, Some(2), "{refused:?}");
    assert!(refused.errors.contains("/etc/fuse.conf has no line user_allow_other"), "{refused:?}");
    assert!(refused.errors.contains("hint: as root: echo user_allow_other >> /etc/fuse.conf"), "{refused:?}");
    fs::set_permissions(place.path("fuse.conf"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    std::os::unix::fs::chown(place.path("fuse.conf"), Some(0), Some(0)).unwrap();
    // What we cannot read fusermount3 tells.
    let refused = place.strongroom("mount exfat.vault m --password-file password --share user:root");
    assert!(refused.errors.contains("has no line user_allow_other"), "{refused:?}");
    assert_eq!(refused.status, Some(2), "{refused:?}");
    leave(&place);
}

#[test]
fn only_the_builtin_driver_shares_and_a_block_file_stays_private() {
    for who in everybody() {
        let place = Place::of(who);
        for (arguments, told) in [
            ("mount v m --block --share user:root", "cannot be used with"),
            ("mount v m --driver kernel --share user:root", "only the builtin driver shares"),
            ("mount v m --driver udisks --share user:root", "only the builtin driver shares"),
            ("mount v m --share anna", "neither user:NAME nor group:NAME"),
            ("mount v m --share user:no-such-user", "there is no user"),
        ] {
            let refused = place.strongroom(arguments);
            assert!(refused.status == Some(1) && refused.errors.contains(told), "{arguments}: {refused:?}");
        }
    }
}

#[test]
fn a_folder_that_lets_nobody_through_is_told() {
    let Some(place) = place(Who::User, true) else { return };
    make(&place, "exfat");
    place.shell("chmod 700 .");
    let mounted = place.strongroom("mount exfat.vault m --password-file password --share user:root");
    assert!(
        mounted.status == Some(0) && mounted.errors.contains("must be able to go through"),
        "{mounted:?}"
    );
    place.done("unmount m");
    place.shell("chmod 711 .");
    let mounted = place.strongroom("mount exfat.vault m --password-file password --share user:root");
    assert!(mounted.status == Some(0) && !mounted.errors.contains("go through"), "{mounted:?}");
    // Who names root lets root in.
    place.shell("echo mine > m/f");
    assert_eq!(act(&place, 0, 0, &[], "cat m/f").out, "mine\n");
    place.done("unmount m");
    leave(&place);
}
