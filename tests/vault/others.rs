//! Root, users, and those who are root only for themselves: who finds whose volumes, and where.

use crate::{
    place::{Place, everybody, is_skipped, wait_until},
    world::{World, with_vault},
};

const OPTIONS: &str = "--size 32M --provision quick";

/// Walks as an ordinary user alone.
fn with_users_vault(walk: impl Fn(&World)) {
    with_vault(OPTIONS, |world| {
        if !world.is_root() {
            walk(world);
        }
    });
}

#[test]
fn a_user_is_told_what_root_mounted_and_how_to_end_it() {
    if everybody().len() < 2 {
        is_skipped("root and a user are needed to look at each other's mounts");
        return;
    }
    with_vault(OPTIONS, |world| {
        if !world.is_root() {
            return;
        }
        world.mount();
        let mountpoint = world.path("m").display().to_string();
        let user = Place::of_ordinary_user();
        let list = user.json("list");
        let others = list["others"].as_array().unwrap();
        let told = others.iter().find(|other| other["mountpoint"] == mountpoint.as_str()).unwrap();
        assert_eq!(told["mounted_by"], "root");
        let command = format!("sudo strongroom unmount {mountpoint}");
        assert_eq!(told["unmount"], command.as_str());
        let refused = user.strongroom(&format!("unmount {mountpoint}"));
        assert_eq!(refused.status, Some(2), "{refused:?}");
        assert!(
            refused.errors.contains("mounted by root") && refused.errors.contains(&command),
            "{refused:?}"
        );
        world.done("unmount m");
        assert!(
            user.json("list")["others"].is_null() || !user.strongroom("list").errors.contains(&mountpoint)
        );
    });
}

#[test]
fn root_of_a_user_namespace_goes_the_way_of_a_user() {
    with_users_vault(|world| {
        if world.shell("unshare -Urm true 2> /dev/null && echo yes || true") != "yes\n" {
            is_skipped("this kernel gives users no namespaces of their own");
            return;
        }
        let walk = "./strongroom mount v.vault m --password-file password && echo kept > m/f && ./strongroom unmount m";
        for before in ["true", "mount -t tmpfs x /run"] {
            world.shell(&format!("unshare -Urm sh -euc '{before}; {walk}'"));
        }
        let kernel = "./strongroom mount v.vault m --driver kernel --password-file password";
        let refused = world.shell(&format!("unshare -Urm sh -c '{kernel} 2>&1; echo $?'"));
        assert!(
            refused.contains("only root may use the kernel driver") && refused.ends_with("\n2\n"),
            "{refused}"
        );
        world.mount();
        assert_eq!(world.shell("cat m/f"), "kept\n");
        world.done("unmount m");
    });
}

#[test]
fn a_runtime_directory_with_a_long_name_has_room_for_a_volume() {
    with_users_vault(|world| {
        let long = "x".repeat(150);
        world.shell(&format!(
            "mkdir -m 700 {long}; export XDG_RUNTIME_DIR=$PWD/{long}
             ./strongroom mount v.vault m --password-file password
             echo kept > m/f
             ./strongroom list | grep -q v.vault
             ./strongroom key list v.vault
             ./strongroom unmount m
             rmdir {long}/strongroom {long}"
        ));
    });
}

/// As after `sudo -u`, or in another login.
#[test]
fn a_volume_that_was_mounted_in_another_environment_is_listed_and_unmounted_by_name() {
    with_users_vault(|world| {
        world.mount();
        world.shell("seq 400000 > m/f; mkdir -m 700 other");
        let place = world.path("m").display().to_string();
        let other = "export XDG_RUNTIME_DIR=$PWD/other;";
        let list = world.shell(&format!("{other} ./strongroom list 2>&1"));
        assert!(
            list.contains(&format!("mounted by you, from elsewhere: {place} (strongroom unmount {place})")),
            "{list}"
        );
        let again = world.shell(&format!(
            "{other} ./strongroom mount v.vault m --password-file password 2>&1 || echo status $?"
        ));
        assert!(again.contains(&format!("mounted on {place}")) && again.ends_with("status 5\n"), "{again}");
        world.shell(&format!("{other} ./strongroom sync v.vault; ./strongroom unmount v.vault"));
        world.assert_clean();
        world.mount();
        world.shell("seq 400000 | cmp - m/f");
        world.done("unmount m");
        world.shell("rm -r other");
    });
}

#[test]
fn a_volume_whose_runtime_directory_was_emptied_is_found_again() {
    with_vault(OPTIONS, |world| {
        world.mount();
        world.shell("seq 400000 > m/f");
        let runtime = world.runtime().display().to_string();
        let server = world.server();
        world.shell(&format!("cd {runtime}/{server}-*; rm -f session.json control log"));
        wait_until("a new record", || !world.listed().is_null());
        world.done("unmount m");
        world.assert_clean();
        world.mount();
        world.shell("seq 400000 | cmp - m/f");
        world.done("unmount m");
    });
}

#[test]
fn without_proc_one_line_says_so() {
    with_vault(OPTIONS, |world| {
        if !world.is_root() {
            return;
        }
        for command in ["mount v.vault m --password-file password", "list", "unmount m"] {
            let told = world
                .shell(&format!("unshare -m sh -c 'umount -l /proc; ./strongroom {command} 2>&1; echo $?'"));
            let expected = "strongroom: error: /proc is not mounted\n\
                            strongroom: hint: as root: mount -t proc proc /proc\n7\n";
            assert_eq!(told, expected, "{command}");
        }
    });
}
