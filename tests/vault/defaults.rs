//! `config.toml`: what a user wants of every vault, or of one.

use super::place::{CHEAP, Ended, Place, can_mount};

/// A user's place with a vault and this file.
fn with_config(config: &str, walk: impl Fn(&Place)) {
    if !can_mount() {
        return;
    }
    let place = Place::of_ordinary_user();
    place.done(&format!(
        "create v.vault --size 32M --provision quick {CHEAP} --password-file password --filesystem exfat"
    ));
    for folder in ["me", "me/.config", "me/.config/strongroom"] {
        place.make_folder(folder);
    }
    write(&place, config);
    walk(&place);
    place.assert_clean();
}

/// `HERE` in the file stands for the place's folder.
fn write(place: &Place, config: &str) {
    let config = config.replace("HERE", place.folder().to_str().unwrap());
    place.make_file("me/.config/strongroom/config.toml", config);
}

fn at_home(place: &Place, arguments: &str) -> Ended {
    let mut command = place.command("/bin/sh");
    let script = format!("export HOME=$PWD/me; exec ./strongroom {arguments} --password-file password");
    super::place::ended(command.args(["-euc", &script]))
}

#[test]
fn defaults_are_taken_and_the_command_line_counts_before_them() {
    let config = "[defaults]\nidle = \"1h\"\nclose-at = \"lock\"\nwhen-busy = \"force\"\noptions = \"noexec,ro\"\n[vault.\"HERE/v.vault\"]\nat = \"HERE/there\"\n";
    with_config(config, |place| {
        let opened = at_home(place, "open v.vault");
        assert_eq!(opened.status, Some(0), "{opened:?}");
        let entry = place.listed();
        assert_eq!((&entry["idle"], &entry["read_only"]), (&3600.into(), &true.into()), "{entry}");
        assert_eq!((&entry["close_at"], &entry["when_busy"]), (&["lock"][..].into(), &"force".into()));
        assert_eq!(entry["mountpoint"].as_str(), place.path("there").to_str());
        // By the name that `open` calls it, wherever it is.
        place.done("close v");
        let mounted = at_home(place, "mount v.vault m --idle never --close-at none --when-busy wait -o rw");
        assert_eq!(mounted.status, Some(0), "{mounted:?}");
        let entry = place.listed();
        assert!(entry["idle"].is_null() && entry["read_only"] == false, "{entry}");
        assert_eq!((&entry["close_at"], &entry["when_busy"]), (&serde_json::json!([]), &"wait".into()));
        place.done("unmount m");
    });
}

#[test]
fn a_vault_is_found_by_its_uuid_too_and_its_path_counts_before_that() {
    with_config("", |place| {
        let uuid = place.json("info v.vault")["uuid"].as_str().unwrap().to_owned();
        write(place, &format!("[vault.\"{}\"]\nread-only = true\nidle = \"2h\"\n", uuid.to_uppercase()));
        at_home(place, "mount v.vault m");
        assert_eq!(place.listed()["read_only"], true);
        place.done("unmount m");
        write(
            place,
            &format!(
                "[vault.\"{uuid}\"]\nread-only = true\nidle = \"2h\"\n[vault.\"HERE/v.vault\"]\nread-only = false\n"
            ),
        );
        at_home(place, "mount v.vault m");
        let entry = place.listed();
        assert!(entry["read_only"] == false && entry["idle"] == 7200, "{entry}");
        place.done("unmount m");
    });
}

#[test]
fn a_look_at_the_uuid_tells_nothing_that_the_mount_tells_again() {
    with_config("", |place| {
        let uuid = place.json("info v.vault")["uuid"].as_str().unwrap().to_owned();
        write(place, &format!("[vault.\"{uuid}\"]\nidle = \"2h\"\n"));
        // A table with one partition, at 1 MiB.
        let table = r"\0\0\0\0\203\0\0\0\0\010\0\0\0\0\001\0";
        place.shell(&format!(
            "truncate -s 34M disk; dd if=v.vault of=disk bs=1M seek=1 conv=notrunc status=none
             printf '{table}' | dd of=disk bs=1 seek=446 conv=notrunc status=none
             printf '\\125\\252' | dd of=disk bs=1 seek=510 conv=notrunc status=none"
        ));
        let mounted = at_home(place, "mount disk m");
        assert_eq!(mounted.status, Some(0), "{mounted:?}");
        assert_eq!(mounted.errors.matches("opening partition 1 of disk").count(), 1, "{mounted:?}");
        assert_eq!(place.listed()["idle"], 7200);
        place.done("unmount m");
    });
}

#[test]
fn a_file_with_a_mistake_or_of_somebody_else_mounts_nothing() {
    with_config("[defaults]\nidel = \"15m\"\n", |place| {
        let refused = at_home(place, "mount v.vault m");
        assert_eq!(refused.status, Some(1), "{refused:?}");
        assert!(refused.errors.contains("config.toml: line 2: unknown field `idel`"), "{refused:?}");
        place.shell("printf '[defaults]\\nlabel = \"\\377\"\\n' > me/.config/strongroom/config.toml");
        let refused = at_home(place, "mount v.vault m");
        assert_eq!(refused.status, Some(1), "{refused:?}");
        assert!(refused.errors.contains("config.toml: line 2: it is not UTF-8"), "{refused:?}");
        write(place, "[defaults]\nidle = \"15m\"\n");
        place.shell("chmod 666 me/.config/strongroom/config.toml");
        let refused = at_home(place, "mount v.vault m");
        assert_eq!(refused.status, Some(2), "{refused:?}");
        assert!(refused.errors.contains("others may write to it"), "{refused:?}");
        place.shell("rm me/.config/strongroom/config.toml; ln -s nowhere me/.config/strongroom/config.toml");
        let refused = at_home(place, "mount v.vault m");
        assert_eq!(refused.status, Some(4), "{refused:?}");
        assert!(refused.errors.contains("config.toml: no such file"), "{refused:?}");
        // What opens nothing asks nobody.
        assert_eq!(place.strongroom("list").status, Some(0));
    });
}
