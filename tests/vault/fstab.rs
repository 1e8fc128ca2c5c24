//! Lines of fstab, by mount(8) itself.

use std::path::Path;

use super::place::{CHEAP, PASSWORD, Place, Who, can_mount, everybody, is_skipped};

/// mount(8) looks for its helpers where only root may write. So they are shown there in the test's own table of mounts alone.
fn install_helper(place: &Place) -> bool {
    let shown = place.shell(
        "mkdir helper; cp strongroom helper/mount.strongroom
         mount -t overlay none -o lowerdir=$PWD/helper:/usr/sbin /usr/sbin 2>&1 || echo failed",
    );
    if shown.is_empty() && Path::new("/sbin/mount.strongroom").exists() {
        return true;
    }
    is_skipped(&format!("no helper of mount(8) can be shown: {shown}"))
}

#[test]
fn a_line_of_fstab_is_mounted_and_unmounted() {
    if !everybody().contains(&Who::Root) {
        return;
    }
    let place = Place::of(Who::Root);
    place.done(&format!("create v.vault --size 32M --provision quick {CHEAP} --password-file password"));
    if !install_helper(&place) {
        return;
    }
    let here = place.folder().display().to_string();
    let line = |options: &str| {
        let password = format!("password-file={here}/password");
        format!(
            "{here}/v.vault {here}/m strongroom noauto,user,nofail,x-systemd.automount,{password}{options} 0 0\n"
        )
    };
    place.make_file("fstab", line(",noatime,idle=1h"));
    place.shell(&format!("mount -T fstab {here}/m"));
    let entry = place.listed();
    assert_eq!((&entry["driver"], &entry["idle"]), (&"kernel".into(), &3600.into()), "{entry}");
    let table = place.shell("cat /proc/self/mountinfo");
    let mounted = table.lines().find(|line| line.contains(&format!("{here}/m "))).unwrap();
    assert!(["noatime", "nosuid", "nodev", "noexec"].iter().all(|it| mounted.contains(it)), "{mounted}");
    place.shell("echo kept > m/f");
    place.shell(&format!("umount {here}/m"));
    super::place::wait_until("the end of the server", || place.listed().is_null());

    place.make_file("fstab", line("").replace("noauto,user,", ""));
    place.shell("mount -a -T fstab");
    assert_eq!(place.shell("cat m/f"), "kept\n");
    place.done("unmount m");

    place.make_file("fstab", line(",suid"));
    let refused = place.shell(&format!("mount -T fstab {here}/m 2>&1 && echo 0 || echo $?"));
    assert!(refused.contains("suid: a volume must not") && refused.ends_with("\n1\n"), "{refused}");
    place.shell("echo wrong > password");
    place.make_file("fstab", line(""));
    let refused = place.shell(&format!("mount -T fstab {here}/m 2>&1 && echo 0 || echo $?"));
    assert!(refused.ends_with("\n32\n"), "{refused}");
    place.shell("umount /usr/sbin");
}

#[test]
fn a_credential_of_the_service_opens_without_a_word() {
    if !can_mount() {
        return;
    }
    let place = Place::of_ordinary_user();
    place.done(&format!("create v.vault --size 32M --provision quick {CHEAP} --password-file password"));
    place.make_folder("credentials");
    place.shell("cp password credentials/strongroom.password; ln -s strongroom mount.strongroom");
    let run = |arguments: &str| {
        place.shell(&format!(
            "export CREDENTIALS_DIRECTORY=$PWD/credentials; setsid ./mount.strongroom $PWD/v.vault $PWD/m {arguments} 2>&1 && echo 0 || echo $?"
        ))
    };
    assert!(run("-o rw,user").ends_with("0\n"));
    place.done("unmount m");
    assert_eq!(run("-f"), "0\n");
    assert!(place.listed().is_null());
    assert!(run("-o password=x").contains("password: not an option"));
    place.assert_clean();
}

/// `pam_mount` calls mount(8) with the password of the login on standard input, without a newline.
#[test]
fn the_password_of_a_login_comes_over_standard_input() {
    if !can_mount() {
        return;
    }
    let place = Place::of_ordinary_user();
    place.done(&format!("create v.vault --size 32M --provision quick {CHEAP} --password-file password"));
    place.shell("ln -s strongroom mount.strongroom");
    let log_in = |password: &str| {
        place.shell(&format!(
            "printf %s '{password}' | setsid ./mount.strongroom $PWD/v.vault $PWD/m -o rw,password-file=/dev/stdin,nosuid,nodev 2>&1 && echo 0 || echo $?"
        ))
    };
    let refused = log_in("wrong");
    assert!(refused.contains("wrong password") && refused.ends_with("\n32\n"), "{refused}");
    assert_eq!(log_in(PASSWORD), "0\n");
    place.done("unmount m");
    place.assert_clean();
}
