//! Keyslots of a container that is mounted and in use.

use crate::{
    place::{CHEAP, leave_to_root, wait_until},
    world::{World, with_vault},
};

const OPTIONS: &str = "--size 32M --provision quick";

fn write_password(world: &World, name: &str, password: &str) {
    // By the user, who is the one to read it.
    world.shell(&format!("echo '{password}' > {name}"));
}

fn cheaply(arguments: &str) -> String {
    format!("{arguments} {CHEAP}")
}

fn slots(world: &World) -> Vec<u64> {
    world.json("key list v.vault")["keyslots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|slot| slot["slot"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_password_is_changed_under_a_mounted_volume() {
    with_vault(OPTIONS, |world| {
        write_password(world, "new", "another rather long phrase 8");
        world.mount();
        world.shell("echo before > m/before");
        world.done(&cheaply("key change v.vault --password-file password --new-password-file new"));
        world.shell("echo after > m/after; cat m/before");
        world.done("unmount m");

        let old = world.strongroom("mount v.vault m --password-file password");
        assert_eq!(old.status, Some(2), "{world}: {old:?}");
        world.done("mount v.vault m --password-file new");
        assert_eq!(world.shell("cat m/before m/after"), "before\nafter\n", "{world}");
        world.done("unmount m");
        world.check_with("new");
    });
}

#[test]
fn keyslots_come_and_go_under_a_mounted_volume() {
    with_vault(OPTIONS, |world| {
        write_password(world, "new", "another rather long phrase 8");
        world.mount();
        let add = "key add v.vault --password-file password --new-password-file new --label bank";
        let added = world.json(&cheaply(add));
        assert_eq!((&added["keyslot"], &added["kind"]), (&1.into(), &"password".into()));
        assert_eq!(added["keyslots"][1]["label"], "bank");
        assert_eq!(world.done("key test v.vault --password-file new"), "keyslot 1 opens\n");
        world.done("key remove v.vault --slot 0 --yes --password-file new");
        assert_eq!(slots(world), [1]);
        world.done("unmount m");
        assert_eq!(world.strongroom("key test v.vault --password-file password").status, Some(2), "{world}");
        world.check_with("new");
    });
}

#[test]
fn commands_that_change_keyslots_at_once_do_not_undo_each_other() {
    with_vault(OPTIONS, |world| {
        write_password(world, "new", "another rather long phrase 8");
        for is_mounted in [true, false] {
            if is_mounted {
                world.mount();
            }
            let before = slots(world).len();
            let add = cheaply("key add v.vault --password-file password --new-password-file new");
            let statuses: Vec<_> = std::thread::scope(|scope| {
                let started: Vec<_> = (0..4).map(|_| scope.spawn(|| world.strongroom(&add).status)).collect();
                started.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let done = statuses.iter().filter(|&&status| status == Some(0)).count();
            assert!(
                done > 0 && statuses.iter().all(|status| [Some(0), Some(5)].contains(status)),
                "{statuses:?}"
            );
            assert_eq!(slots(world).len(), before + done, "{world}: {statuses:?}");
            if is_mounted {
                world.done("unmount m");
            }
        }
        world.check_file_system();
    });
}

#[test]
fn a_volume_that_is_mounted_read_only_keeps_its_keyslots() {
    with_vault(OPTIONS, |world| {
        world.done("mount v.vault m --read-only --password-file password");
        // Before any password is asked for: there is no terminal to ask on.
        let refused = world.strongroom("key remove v.vault --slot 0 --force");
        assert_eq!(refused.status, Some(5), "{world}: {refused:?}");
        let place = world.path("m");
        let expected = format!(
            "strongroom: error: cannot open v.vault: it is mounted read-only on {place}\n\
             strongroom: hint: strongroom unmount {place}\n",
            place = place.display()
        );
        assert_eq!(refused.errors, expected);
        world.done("unmount m");
        assert_eq!(slots(world), [0]);
    });
}

#[test]
fn a_loan_keeps_nobody_from_unmounting_and_the_lock_until_it_ends() {
    with_vault(OPTIONS, |world| {
        world.mount();
        if !world.is_root() {
            leave_to_root("borrow from a server in this process, whose runtime directory is root's");
            world.done("unmount m");
            return;
        }
        let loan = strongroom::mount::borrow(&world.path("v.vault"), None).unwrap().unwrap();
        let busy = strongroom::mount::borrow(&world.path("v.vault"), None).unwrap_err();
        assert_eq!(busy.kind(), strongroom::ErrorKind::Busy);
        world.shell("echo meanwhile > m/f; sync -f m");
        world.done("unmount m");
        let locked = world.strongroom("mount v.vault m --password-file password");
        assert_eq!(locked.status, Some(5), "{locked:?}");
        drop(loan);
        // What another test starts has the files of this process, and so the loan, until it is another program.
        wait_until("the lock", || world.strongroom(&world.mount_command()).status == Some(0));
        assert_eq!(world.shell("cat m/f"), "meanwhile\n");

        // A loan that ended lets the next one in.
        for _ in 0..2 {
            wait_until("a loan", || {
                strongroom::mount::borrow(&world.path("v.vault"), None).is_ok_and(|loan| loan.is_some())
            });
        }
        world.done("unmount m");
    });
}

#[test]
fn a_keyslot_is_added_while_a_reencryption_rests_and_not_while_it_runs() {
    with_vault(OPTIONS, |world| {
        write_password(world, "new", "another rather long phrase 8");
        world.mount();
        world.shell("echo kept > m/f");
        world.done("reencrypt v.vault --password-file password --background --max-rate 200K");
        let add = cheaply("key add v.vault --password-file password --new-password-file new");
        let refused = world.strongroom(&add);
        assert_eq!(refused.status, Some(5), "{world}: {refused:?}");
        assert_eq!(
            refused.errors,
            "strongroom: error: cannot add a keyslot to v.vault: it is being re-encrypted\n\
             strongroom: hint: wait until it is done, or use strongroom reencrypt --stop\n"
        );

        world.done("reencrypt v.vault --stop");
        world.done(&add);
        world.done("unmount m");
        // Offline, in the middle of it, as well.
        let removed = world.json("key remove v.vault --slot 0 --yes --password-file new");
        assert_eq!(removed["keyslot"], 0, "{removed}");
        world.done("mount v.vault m --password-file new");
        assert_eq!(world.shell("cat m/f"), "kept\n", "{world}");
        world.done("reencrypt v.vault --password-file new");
        world.done("unmount m");
        world.check_with("new");
        let old = world.strongroom("key test v.vault --password-file password");
        assert_eq!(old.status, Some(2), "{world}: {old:?}");
    });
}
