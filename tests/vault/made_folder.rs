//! A mount point that strongroom makes: in the user's home, unwritable while nothing is mounted, gone with the volume.

use super::place::{CHEAP, Place, Who, everybody};

fn with_album(who: Who) -> Place {
    let place = Place::of(who);
    place.done(&format!("create album.vault --size 20M --provision quick {CHEAP} --password-file password"));
    place.make_folder("me");
    place
}

/// Mounts without a mount point, at home in the folder `me`; gives the exit status and the messages.
fn mount(place: &Place, password: &str) -> String {
    place.shell(&format!(
        "HOME=$PWD/me ./strongroom mount album.vault --password-file {password} 2>&1 && echo 0 || echo $?"
    ))
}

#[test]
fn without_a_mount_point_one_is_made_and_goes_with_the_volume() {
    for who in everybody() {
        let place = with_album(who);
        let said = mount(&place, "password");
        assert!(said.ends_with("\n0\n"), "{place}: {said}");
        place.shell("echo kept > me/album/file");
        place.done("unmount album.vault");
        assert!(!place.path("me/album").exists(), "{place}");
        mount(&place, "password");
        assert_eq!(place.shell("cat me/album/file"), "kept\n", "{place}");
        place.done("unmount me/album");
        place.assert_clean();
    }
}

#[test]
fn a_folder_that_is_there_is_taken_as_it_is() {
    for who in everybody() {
        let place = with_album(who);
        place.make_folder("me/album");
        mount(&place, "password");
        place.done("unmount album.vault");
        assert!(place.path("me/album").is_dir(), "{place}");
        place.make_file("me/album/mine", "mine");
        let said = mount(&place, "password");
        assert!(said.contains("the directory is not empty") && said.ends_with("\n5\n"), "{place}: {said}");
    }
}

#[test]
fn a_wrong_password_leaves_no_folder() {
    for who in everybody() {
        let place = with_album(who);
        place.make_file("wrong", "wrong");
        let said = mount(&place, "wrong");
        assert!(said.contains("wrong password") && said.ends_with("\n2\n"), "{place}: {said}");
        assert!(!place.path("me/album").exists(), "{place}");
    }
}
