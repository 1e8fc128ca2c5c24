//! `open` and `close`: folders in `~/Vaults` that strongroom makes and takes away.

use rustix::process::Signal;

use super::place::{CHEAP, Place, everybody, signal, wait_for_end_of};

/// Runs a command at home in the folder `me`; gives its exit status under what it printed.
fn at_home(place: &Place, command: &str) -> String {
    place.shell(&format!("export HOME=$PWD/me; ./strongroom {command} 2>&1 && echo 0 || echo $?"))
}

fn with_albums(walk: impl Fn(&Place)) {
    for who in everybody() {
        let place = Place::of(who);
        place.make_folder("me");
        place.make_folder("old");
        for vault in ["album.vault", "old/album.vault"] {
            place.done(&format!(
                "create {vault} --size 20M --provision quick {CHEAP} --password-file password"
            ));
        }
        walk(&place);
        place.assert_clean();
    }
}

#[test]
fn open_makes_a_folder_in_vaults_and_close_takes_it_away() {
    with_albums(|place| {
        let said = at_home(place, "open album.vault --password-file password");
        assert!(said.contains("/me/Vaults/album\n") && said.ends_with("\n0\n"), "{place}: {said}");
        place.shell("echo kept > me/Vaults/album/file");
        // Nobody types a password for what is open already.
        let said = at_home(place, "open album.vault </dev/null");
        assert!(said.contains("is already open on /") && said.ends_with("\n0\n"), "{place}: {said}");
        let said = at_home(place, "close album");
        assert!(said.contains("/me/Vaults/album\n") && said.ends_with("\n0\n"), "{place}: {said}");
        assert!(!place.path("me/Vaults/album").exists(), "{place}");
        at_home(place, "open album.vault --password-file password");
        // Where the photos come from is often called as the vault is.
        place.shell("mkdir album");
        assert!(at_home(place, "close album").contains("/me/Vaults/album\n"), "{place}");
        place.shell("rmdir album");
        at_home(place, "open album.vault --password-file password");
        place.shell("mv me/Vaults me/renamed");
        assert!(at_home(place, "close album").contains("/me/renamed/album\n"), "{place}");
        assert_eq!(place.shell("ls me/renamed; mv me/renamed me/Vaults"), "", "{place}");
        at_home(place, "open album.vault --password-file password --at here");
        assert_eq!(place.shell("cat here/file"), "kept\n", "{place}");
        at_home(place, "close album.vault");
        assert!(!place.path("here").exists(), "{place}");
        // What a killed server left is not in the way.
        at_home(place, "open album.vault --password-file password");
        let server = place.listed()["pid"].as_u64().unwrap();
        signal(server, Signal::KILL);
        wait_for_end_of(server);
        let said = at_home(place, "open album.vault --password-file password");
        assert!(said.contains("/me/Vaults/album\n"), "{place}: {said}");
        at_home(place, "close album");
    });
}

/// A double click starts two of them.
#[test]
fn of_two_that_open_a_container_at_once_the_second_says_where_it_is() {
    with_albums(|place| {
        for _ in 0..3 {
            let open = "./strongroom open album.vault --password-file password >";
            let said = place.shell(&format!(
                "export HOME=$PWD/me; for n in 1 2 3; do {{ {open} said-$n 2>&1; echo $? > status-$n; }} & done; wait; cat status-? said-?"
            ));
            assert!(said.starts_with("0\n0\n0\n"), "{place}: {said}");
            assert_eq!(said.matches("/me/Vaults/album\n").count(), 3, "{place}: {said}");
            assert_eq!(said.matches("is already open on").count(), 2, "{place}: {said}");
            place.shell("rm status-? said-?");
            assert!(at_home(place, "close").ends_with("album\n0\n"), "{place}");
        }
    });
}

#[test]
fn vaults_of_one_name_get_folders_of_their_own_and_the_last_closes_first() {
    with_albums(|place| {
        at_home(place, "open old/album.vault --password-file password");
        at_home(place, "open album.vault --password-file password");
        assert_eq!(place.shell("ls me/Vaults"), "album\nalbum-2\n", "{place}");
        assert!(at_home(place, "close").ends_with("album-2\n0\n"), "{place}");
        assert!(at_home(place, "close").ends_with("album\n0\n"), "{place}");
        // Where other tests run as the same user, there is a hint to theirs.
        let said = at_home(place, "close");
        assert!(said.contains("nothing is mounted") && said.ends_with("\n0\n"), "{place}: {said}");
        assert!(at_home(place, "close album").ends_with("\n4\n"), "{place}");
    });
}

#[test]
fn what_is_in_the_way_is_neither_hidden_nor_removed() {
    with_albums(|place| {
        place.make_folder("me/Vaults");
        place.make_folder("me/Vaults/album");
        place.make_file("me/Vaults/album/mine", "mine");
        let said = at_home(place, "open album.vault --password-file password");
        assert!(said.contains("the directory is not empty") && said.ends_with("\n5\n"), "{place}: {said}");
        let said = at_home(place, "open album.vault --password-file password --read-only --at me/other");
        assert!(said.ends_with("\n0\n"), "{place}: {said}");
        // Who wants to write is not told that it is open.
        let said = at_home(place, "open album.vault --password-file password");
        assert!(said.contains("mounted on ") && said.ends_with("\n5\n"), "{place}: {said}");
        at_home(place, "close --all");
        assert_eq!(place.shell("cat me/Vaults/album/mine"), "mine", "{place}");
    });
}

#[test]
fn a_folder_of_pieces_is_called_by_its_own_name() {
    for who in everybody() {
        let place = Place::of(who);
        place.make_folder("me");
        place.done(&format!("create album.vault --size 20M --split 4M {CHEAP} --password-file password"));
        let said = at_home(&place, "open album.vault --password-file password");
        assert!(said.contains("mounted album.vault on /"), "{place}: {said}");
        assert!(said.contains("/me/Vaults/album\n"), "{place}: {said}");
        let said = at_home(&place, "open album.vault </dev/null");
        assert!(said.contains("album.vault is already open on /"), "{place}: {said}");
        let said = at_home(&place, "mount album.vault m --password-file password");
        assert!(said.contains("cannot open album.vault: ") && said.ends_with("\n5\n"), "{place}: {said}");
        assert!(at_home(&place, "list").contains("/album.vault "), "{place}");
        let said = at_home(&place, "close album");
        assert!(said.ends_with("\n0\n"), "{place}: {said}");
        for command in [
            "check album.vault --password-file password",
            "resize album.vault 30M --password-file password",
            "key add album.vault --password-file password --new-password-file password",
            "header backup album.vault backup",
            "header repair album.vault --password-file password",
            "compact album.vault --password-file password",
            "convert album.vault one.vault --password-file password",
            "export album.vault image --yes --password-file password",
        ] {
            let said = at_home(&place, command);
            assert!(said.contains("album.vault") && !said.contains("/header"), "{place}: {command}: {said}");
        }
        place.assert_clean();
    }
}
