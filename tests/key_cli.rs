//! `key add`, `key change` and `key remove` with secrets from files: what opens afterwards, and what it costs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

mod place;

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path};

use place::{CHEAP, Place, ended};
use serde_json::Value;

/// A place with the container `v`, that `password` opens, and sources of other secrets.
fn with_container() -> Place {
    let place = Place::of_this_user();
    place.copy_vector("password.img", "v");
    for (name, content) in [
        ("new", &b"clamp orbit velvet mossy tundra wagon\n"[..]),
        ("third", b"basil quartz ember thimble gravel\n"),
        ("keyfile", b"first keyfile\n"),
        ("keyfile2", b"\0second\xff"),
    ] {
        place.make_file(name, content);
    }
    place
}

/// The keyslot that opens, or the exit status.
fn opens(place: &Place, secrets: &str) -> Result<u64, i32> {
    let ended = place.strongroom(&format!("key test v --json {secrets}"));
    match ended.status.unwrap() {
        0 => Ok(ended.json()["keyslot"].as_u64().unwrap()),
        status => Err(status),
    }
}

#[test]
fn each_kind_of_secret_gets_a_keyslot_that_opens_with_it_alone() {
    let place = with_container();
    let add = format!("key add v --password-file password {CHEAP}");
    let added = place.json(&format!("{add} --new-password-file new --label anna"));
    assert_eq!((&added["container"], &added["keyslot"]), (&"v".into(), &1.into()));
    assert_eq!((&added["kind"], &added["keyslots"][1]["label"]), (&"password".into(), &"anna".into()));
    let both = "--new-password-file third --new-keyfile keyfile --new-keyfile keyfile2";
    assert_eq!(place.json(&format!("{add} {both} --slot 7"))["kind"], "keyfile");
    place.json(&format!("{add} --new-keyfile keyfile2 --new-no-password"));

    assert_eq!(opens(&place, "--password-file password"), Ok(0));
    assert_eq!(opens(&place, "--password-file new"), Ok(1));
    assert_eq!(opens(&place, "--password-file third -k keyfile2 -k keyfile"), Ok(7));
    assert_eq!(opens(&place, "--no-password -k keyfile2"), Ok(2));
    for wrong in ["--password-file third", "--no-password -k keyfile", "--password-file new -k keyfile2"] {
        assert_eq!(opens(&place, wrong), Err(2), "{wrong}");
    }
}

/// What was done is not reported as a failure because nobody could be told.
#[test]
fn what_is_done_is_done_whatever_becomes_of_the_output() {
    let place = with_container();
    let change = format!("key change v {CHEAP} --json");
    let ended =
        place.strongroom(&format!("{change} --password-file password --new-password-file new > /dev/full"));
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(ended.errors.contains("warning: it is done, but cannot write to standard output"), "{ended:?}");
    assert_eq!(opens(&place, "--password-file new"), Ok(0));
    let ended = place.strongroom(&format!("{change} --password-file new --new-password-file third >&-"));
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(opens(&place, "--password-file third"), Ok(0));
    // A question whose answer cannot be given is not answered.
    assert_eq!(place.strongroom("key list v --json > /dev/full").status, Some(6));
}

/// A recovery key that nobody has seen must not stay.
#[test]
fn a_recovery_key_that_cannot_be_printed_is_not_added() {
    let place = with_container();
    let add = "key add v --recovery --password-file password";
    for output in ["--json > /dev/full", "> /dev/full", ">&-", "--json >&- 2>&-", "-q > /dev/null"] {
        let ended = place.strongroom(&format!("{add} {output}"));
        assert_eq!(ended.status, Some(6), "{ended:?}");
        assert_eq!(place.json("key list v")["keyslots"].as_array().unwrap().len(), 1, "{ended:?}");
    }
}

#[test]
fn paths_that_are_not_utf8_are_told_without_loss() {
    let place = with_container();
    let name = OsStr::from_bytes(b"caf\xe9.img");
    fs::copy(place.path("v"), place.folder().join(name)).unwrap();
    let shell_name = "\"$(printf 'caf\\351.img')\"";
    let secrets = "--password-file password --new-password-file new";
    let changed = place.json(&format!("key change {shell_name} {CHEAP} {secrets}"));
    let told = changed["container"].as_str().unwrap();
    assert_eq!(told, "caf\0e9.img");
    assert_eq!(strongroom::text::path::unescape(told).unwrap(), Path::new(name));
    let tested = place.json(&format!("key test {shell_name} --password-file new"));
    assert_eq!(tested["container"], "caf\0e9.img");
    let backed_up = place.json(&format!("header backup {shell_name} {shell_name}.bak"));
    assert_eq!(backed_up["header_file"], "caf\0e9.img.bak");
}

#[test]
fn a_keyfile_without_content_or_end_is_refused_for_what_is_new() {
    let place = with_container();
    place.make_file("empty", "");
    let new = "--new-no-password --new-keyfile";
    for (command, reason) in [
        (
            format!("create n --size 4M --filesystem none {CHEAP} --no-password -k empty"),
            "the keyfile is empty",
        ),
        (
            format!("create n --size 4M --filesystem none {CHEAP} --no-password -k /dev/zero"),
            "longer than 64 MiB",
        ),
        ("create n --size 20M --format luks2 --filesystem none -k empty".to_owned(), "the keyfile is empty"),
        (
            "create n --size 4M --format veracrypt --filesystem none --no-password -k empty".to_owned(),
            "the keyfile is empty",
        ),
        (format!("key add v {CHEAP} --password-file password {new} empty"), "the keyfile is empty"),
        (format!("key change v {CHEAP} --password-file password {new} empty"), "the keyfile is empty"),
        (format!("key change v {CHEAP} --password-file password {new} /dev/zero"), "longer than 64 MiB"),
    ] {
        let ended = place.strongroom(&command);
        assert_eq!(ended.status, Some(1), "{command}: {ended:?}");
        assert!(ended.errors.contains(reason), "{command}: {ended:?}");
    }
    assert!(!place.files().contains(&"n".to_owned()));
}

#[test]
fn secrets_come_over_descriptors_and_from_commands() {
    let place = with_container();
    let sources = "--password-fd 3 --new-password-fd 4 3< password 4< new";
    assert_eq!(place.json(&format!("key add v {CHEAP} {sources}"))["keyslot"], 1);
    let sources = "--password-file - --new-password-command 'cat third' < new";
    assert_eq!(place.json(&format!("key change v {CHEAP} {sources}"))["keyslot"], 1);
    assert_eq!(opens(&place, "--password-file third"), Ok(1));
    assert_eq!(opens(&place, "--password-file new"), Err(2));
}

#[test]
fn a_change_keeps_label_and_priority_and_the_data() {
    let place = with_container();
    let data = 65_536..81_920;
    let before = place.bytes("v");
    let changed = place.json(&format!(
        "key change v {CHEAP} --priority prefer --password-file password --new-password-file new"
    ));
    let slot = &changed["keyslots"][0];
    assert_eq!((&slot["label"], &slot["priority"]), (&"main".into(), &"prefer".into()));
    assert_eq!(opens(&place, "--password-file password"), Err(2));
    assert_eq!(opens(&place, "--password-file new"), Ok(0));
    assert!(place.bytes("v")[data.clone()] == before[data]);
    let renamed = place.json(&format!("key change v {CHEAP} --keep-password --label '' --password-file new"));
    let slot = &renamed["keyslots"][0];
    assert_eq!((&slot["label"], &slot["priority"]), (&Value::Null, &"prefer".into()));
    assert_eq!(opens(&place, "--password-file new"), Ok(0));
}

#[test]
fn another_keyslot_is_changed_with_the_password_of_one() {
    let place = with_container();
    place.json(&format!("key add v --password-file password --new-password-file new {CHEAP}"));
    let change = "key change v --slot 1 --password-file password --new-password-file third";
    assert_eq!(place.json(&format!("{change} {CHEAP}"))["keyslot"], 1);
    assert_eq!(opens(&place, "--password-file new"), Err(2));
    assert_eq!(opens(&place, "--password-file third"), Ok(1));
    // To keep a password it must be that keyslot's own.
    let kept = place.strongroom("key change v --slot 1 --keep-password --password-file password");
    assert_eq!(kept.status, Some(2), "{kept:?}");
}

#[test]
fn a_weak_keyslot_is_renewed_at_todays_cost() {
    let place = with_container();
    assert_eq!(place.json("info v")["keyslots"][0]["weak"], true);
    let renewed = place.json("key change v --keep-password --password-file password");
    let kdf = &renewed["keyslots"][0]["kdf"];
    assert_eq!(renewed["keyslots"][0]["weak"], false);
    assert!(kdf["memory"].as_u64() >= Some(64 << 20) && kdf["passes"].as_u64() >= Some(3), "{kdf}");
    assert!(!place.strongroom("info v").out.contains("Advice:"));
}

#[test]
fn a_change_never_lowers_the_cost() {
    let place = with_container();
    // More than a second's worth on no machine of today, as passes go.
    let dear = "--kdf-memory 64M --kdf-passes 30 --kdf-lanes 1";
    place.json(&format!("key change v {dear} --password-file password --new-password-file new"));
    let before = place.bytes("v");
    let refused =
        place.strongroom(&format!("key change v {CHEAP} --password-file new --new-password-file third"));
    assert_eq!(refused.status, Some(1));
    assert_eq!(
        refused.errors,
        "strongroom: error: cannot change a keyslot of v: the keyslot costs 64 MiB of memory, 30 passes, 1 lane now, \
         which is more than 64 MiB of memory, 3 passes, 1 lane\n\
         strongroom: hint: leave out --kdf-memory and --kdf-passes\n"
    );
    assert!(place.bytes("v") == before);
    let changed = place.json("key change v --password-file new --new-password-file third");
    let kdf = &changed["keyslots"][0]["kdf"];
    let work = kdf["memory"].as_u64().unwrap() * kdf["passes"].as_u64().unwrap();
    assert!(work >= (64 << 20) * 30, "{kdf}");
}

#[test]
fn a_keyslot_to_be_ignored_opens_by_its_number_only() {
    let place = with_container();
    let add = format!("key add v --password-file password --new-password-file new {CHEAP}");
    place.json(&format!("{add} --priority ignore"));
    assert_eq!(opens(&place, "--password-file new"), Err(2));
    assert_eq!(opens(&place, "--password-file new --slot 1"), Ok(1));
    let refused = place.strongroom("key remove v --slot 0 --yes --password-file password");
    assert_eq!(refused.status, Some(1), "{refused:?}");
    assert!(refused.errors.contains("opens only with --slot 1"), "{refused:?}");
    let removed = place.json("key remove v --slot 0 --unlock-slot 1 --password-file new");
    assert_eq!((&removed["keyslot"], &removed["keyslots"][0]["slot"]), (&0.into(), &1.into()));
    assert_eq!(opens(&place, "--password-file password"), Err(2));
}

#[test]
fn the_keyslot_that_opens_is_the_one_that_goes_when_none_is_named() {
    let place = with_container();
    place.json(&format!("key add v --password-file password --new-password-file new {CHEAP}"));
    assert_eq!(place.json("key remove v --yes --password-file new")["keyslot"], 1);
    let last = place.strongroom("key remove v --yes --password-file password");
    assert_eq!(last.status, Some(1), "{last:?}");
    assert_eq!(opens(&place, "--password-file password"), Ok(0));
    place.json("key remove v --yes --force --password-file password");
    assert_eq!(opens(&place, "--password-file password"), Err(4));
}

#[test]
fn a_failing_command_changes_no_byte() {
    let place = with_container();
    let before = place.bytes("v");
    for (arguments, status) in [
        (format!("key add v --password-file new --new-password-file third {CHEAP}"), 2),
        (format!("key add v --password-file password --new-password-command false {CHEAP}"), 1),
        (format!("key change v --password-file new --new-password-file third {CHEAP}"), 2),
        ("key remove v --slot 0 --force --password-file new".to_owned(), 2),
        ("key remove v --slot 4 --password-file password".to_owned(), 1),
    ] {
        let ended = place.strongroom(&arguments);
        assert_eq!(ended.status, Some(status), "{arguments}: {ended:?}");
        assert!(place.bytes("v") == before, "{arguments}");
    }
}

#[test]
fn a_weak_new_password_gets_one_line() {
    let place = with_container();
    place.make_file("weak", "password\n");
    let ended =
        place.strongroom(&format!("key add v --password-file password --new-password-file weak {CHEAP}"));
    assert_eq!(
        ended.errors,
        "strongroom: warning: this password is weak: this is a top-10 common password\nadded keyslot 1 to v\n"
    );
}

#[test]
fn the_same_password_once_more_is_said_to_be_the_same() {
    let place = with_container();
    for (command, said) in [
        ("change", "the new password is the same as the old one"),
        ("add", "the new password is the one that you unlocked with: it opens both keyslots now"),
    ] {
        let command = format!("key {command} v --password-file password {CHEAP} --new-password-file");
        let same = place.strongroom(&format!("{command} password"));
        assert!(same.status == Some(0) && same.errors.contains(said), "{same:?}");
        let other = place.strongroom(&format!("{command} third"));
        assert!(!other.errors.contains("the new password is"), "{other:?}");
        place.copy_vector("password.img", "v");
    }
}

#[test]
fn a_recovery_key_is_not_asked_for_where_there_is_none() {
    let place = with_container();
    let ended = place.strongroom("key test v --recovery-key --password-file none");
    assert_eq!(ended.status, Some(2), "{ended:?}");
    assert!(ended.errors.contains("cannot unlock v: it has no recovery key"), "{ended:?}");
    place.json("key add v --password-file password --recovery --no-qr");
    let ended = place.strongroom("key test v --recovery-key --password-file password");
    assert!(ended.errors.contains("cannot take the recovery key"), "{ended:?}");
}

#[test]
fn a_damaged_copy_is_whole_again_after_a_change() {
    let place = with_container();
    let mut bytes = place.bytes("v");
    bytes[..65_536].fill(0);
    place.make_file("v", bytes);
    place.json(&format!("key add v --password-file password --new-password-file new {CHEAP}"));
    let info = place.json("info v");
    for copy in info["headers"].as_array().unwrap() {
        assert_eq!((&copy["state"], &copy["sequence"]), (&"current".into(), &2.into()));
    }
}

#[test]
fn a_copy_of_another_container_is_nobodys_to_overwrite() {
    let place = with_container();
    let mut bytes = place.bytes("v");
    let foreign = fs::read(place::vector("thin.img")).unwrap();
    bytes[81_920..].copy_from_slice(&foreign[81_920..]);
    place.make_file("v", &bytes);
    let ended =
        place.strongroom(&format!("key add v --password-file password --new-password-file new {CHEAP}"));
    assert_eq!(ended.status, Some(4), "{ended:?}");
    for named in ["belong to two containers", "the one at offset 0 to ", "the one at offset 81920 to "] {
        assert!(ended.errors.contains(named), "{ended:?}");
    }
    assert!(place.bytes("v") == bytes);
}

#[test]
fn a_container_that_another_program_holds_names_it() {
    let place = with_container();
    let script =
        "exec 9<> v; flock 9; ./strongroom key add v --password-file password --new-password-file new";
    let refused = ended(place.command("/bin/sh").args(["-c", script]));
    assert_eq!(refused.status, Some(5));
    let errors = refused.errors;
    assert!(errors.starts_with("strongroom: error: cannot open v: in use by process "), "{errors}");
    assert!(errors.ends_with(" (sh)\n"), "{errors}");
}

#[test]
fn without_a_keyslot_left_that_is_said_and_the_way_out_is_named() {
    for (format, cost) in [
        ("luks1", "--hash sha256 --kdf-iterations 1000"),
        ("luks2", "--pbkdf pbkdf2 --kdf-iterations 1000"),
        ("native", CHEAP),
    ] {
        let place = with_container();
        let secret = "--password-file password";
        place.json(&format!(
            "create e --format {format} --size 20M --filesystem none --provision quick {cost} {secret}"
        ));
        place.json("header backup e e.header");
        place.json(&format!("key remove e --slot 0 --force --yes {secret}"));
        for command in ["key test e", "export e image --yes"] {
            let ended = place.strongroom(&format!("{command} {secret}"));
            assert_eq!(ended.status, Some(4), "{format}: {ended:?}");
            assert!(
                ended.errors.ends_with(
                    "cannot unlock e: it has no keyslot left: no password or keyfile can open it\n\
                     strongroom: hint: only an older backup of its header can help: strongroom header restore CONTAINER FILE\n"
                ),
                "{format}: {command}: {}",
                ended.errors
            );
        }
        let checked = place.strongroom(&format!("check e {secret}"));
        assert_eq!(checked.status, Some(4), "{format}: {checked:?}");
        let told = "error    keyslots: it has no keyslot left: no password or keyfile can open it\n";
        assert_eq!(checked.out.matches(told).count(), 1, "{format}: {checked:?}");
        assert_eq!(checked.out.matches("error ").count(), 1, "{format}: {checked:?}");

        let restored = place.strongroom(&format!("header restore e e.header --yes {secret}"));
        assert_eq!(restored.status, Some(0), "{format}: {restored:?}");
        assert_eq!(place.strongroom(&format!("key test e {secret}")).status, Some(0), "{format}");
    }
}

#[test]
fn a_header_of_veracrypt_goes_over_known_data_only_where_that_was_said_twice() {
    let place = with_container();
    let secret = "--format veracrypt --prf sha512 --pim 1 --password-file password";
    place.json(&format!("create v.hc --size 1M --filesystem none --provision quick {secret}"));
    place.json(&format!("header backup v.hc v.header {secret}"));
    let path = place.path("v.hc");
    let mut bytes = fs::read(&path).unwrap();
    bytes[..4096].fill(0);
    // Zeros are nobody's: this is a header that was wiped.
    fs::write(&path, &bytes).unwrap();
    assert_eq!(place.strongroom(&format!("header restore v.hc v.header --yes {secret}")).status, Some(0));
    assert_eq!(place.strongroom(&format!("key test v.hc {secret}")).status, Some(0));

    // The superblock of ext2.
    bytes[1080..1082].copy_from_slice(&[0x53, 0xef]);
    fs::write(&path, &bytes).unwrap();
    let refused = place.strongroom(&format!("header restore v.hc v.header --yes {secret}"));
    assert_eq!(refused.status, Some(5), "{refused:?}");
    assert!(fs::read(&path).unwrap() == bytes);
    let restored = place.strongroom(&format!("header restore v.hc v.header --yes --force {secret}"));
    assert_eq!(restored.status, Some(0), "{restored:?}");
    assert!(restored.errors.contains("warning: v.hc is an ext2 file system"), "{restored:?}");
    assert_eq!(place.strongroom(&format!("key test v.hc {secret}")).status, Some(0));

    bytes[..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
    fs::write(&path, &bytes).unwrap();
    for command in ["header restore v.hc v.header --yes --force", "header repair v.hc --yes --backup-header"]
    {
        let refused = place.strongroom(&format!("{command} {secret}"));
        assert_eq!(refused.status, Some(1), "{refused:?}");
        assert!(refused.errors.contains("it bears the header of a luks2 container"), "{refused:?}");
        assert!(fs::read(&path).unwrap() == bytes);
    }
}

#[test]
fn exit_statuses_are_those_of_the_contract() {
    for (format, cost, slots) in [
        ("luks1", "--hash sha256 --kdf-iterations 1000", 8),
        ("luks2", "--pbkdf pbkdf2 --kdf-iterations 1000", 32),
        ("native", CHEAP, 30),
    ] {
        let place = with_container();
        let secret = "--password-file password";
        place.json(&format!(
            "create e --format {format} --size 20M --filesystem none --provision quick {cost} {secret}"
        ));
        let new = format!("{secret} --new-password-file new {cost}");
        for (command, status) in [
            // A parameter that cannot be.
            (format!("key remove e --slot 3 --yes {secret}"), 1),
            (format!("key remove e --slot {slots} --yes {secret}"), 1),
            (format!("key remove e --slot 99999999999 --yes {secret}"), 1),
            (format!("key remove e --slot 0 --yes {secret}"), 1),
            (format!("key change e --slot 3 {new}"), 1),
            (format!("key add e --slot {slots} {new}"), 1),
            (format!("key test e --slot 3 {secret}"), 1),
            ("key test e --password-file nowhere".to_owned(), 1),
            ("key test e --password-file third".to_owned(), 2),
            (format!("key add e --slot 0 {new}"), 5),
            // As cryptsetup's for what is not there.
            ("key test nowhere --password-file password".to_owned(), 4),
            ("key test e/nowhere --password-file password".to_owned(), 4),
            ("mount nowhere m --password-file password".to_owned(), 4),
            ("unmount e".to_owned(), 4),
            ("unmount nowhere".to_owned(), 4),
        ] {
            let ended = place.strongroom(&command);
            assert_eq!(ended.status, Some(status), "{format}: {command}: {ended:?}");
        }
    }
}

#[test]
fn no_free_keyslot_is_no_space() {
    let place = with_container();
    let cost = "--hash sha256 --kdf-iterations 1000";
    place.json(&format!("create e --format luks1 --size 20M --filesystem none --provision quick {cost} --password-file password"));
    let add = format!("key add e --password-file password --new-password-file new {cost}");
    for slot in 1..8 {
        assert_eq!(place.json(&add)["keyslot"], slot);
    }
    let full = place.strongroom(&add);
    assert_eq!(full.status, Some(6), "{full:?}");
    assert!(full.errors.contains("all 8 keyslots are in use"), "{full:?}");
}

/// A secret whose keyslot is tried only where it is asked for by number.
#[test]
fn each_command_that_unlocks_takes_the_number_of_a_keyslot() {
    let place = with_container();
    place.json(&format!(
        "key add v --password-file password {CHEAP} --new-password-file new --priority ignore"
    ));
    assert_eq!(place.strongroom("header backup v backup").status, Some(0));
    for command in [
        "check v",
        "key test v",
        "export v image --yes --force",
        "header repair v --yes",
        "header restore v backup --yes",
    ] {
        let secret = "--password-file new";
        assert_eq!(place.strongroom(&format!("{command} {secret}")).status, Some(2), "{command}");
        let empty = place.strongroom(&format!("{command} {secret} --slot 5"));
        assert_eq!(empty.status, Some(1), "{command}: {empty:?}");
        assert!(empty.errors.contains("keyslot 5 is empty"), "{command}: {empty:?}");
        let by_number = place.strongroom(&format!("{command} {secret} --slot 1"));
        assert_eq!(by_number.status, Some(0), "{command}: {by_number:?}");
    }
    // By the name that it has beside the keyslot that is worked on.
    assert_eq!(place.strongroom("check v --password-file new --unlock-slot 1").status, Some(0));
    assert_eq!(place.strongroom("check v --no-unlock --slot 1").status, Some(1));

    let create = "create r --size 16M --provision thin --filesystem none --password-file password";
    assert_eq!(place.strongroom(&format!("{create} {CHEAP}")).status, Some(0));
    place.json(&format!("key add r --password-file password {CHEAP} --new-password-file new"));
    let reencrypt = "reencrypt r --drop-other-keys --password-file new";
    assert_eq!(place.strongroom(&format!("{reencrypt} --slot 0")).status, Some(2));
    assert_eq!(place.strongroom(&format!("{reencrypt} --slot 1")).status, Some(0));

    let create = "create l --format luks2 --pbkdf pbkdf2 --kdf-iterations 1000 --size 20M --filesystem none --provision quick";
    assert_eq!(place.strongroom(&format!("{create} --password-file password")).status, Some(0));
    assert_eq!(place.strongroom("resize l 21M --password-file password --slot 5").status, Some(1));
    assert_eq!(place.strongroom("resize l 21M --password-file password --slot 0").status, Some(0));
}
