//! Each command's JSON object has the warnings that standard error shows: `Place::strongroom` compares them wherever a test asks
//! for JSON. Here every command answers, and those warn that can.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

mod place;

use place::{CHEAP, Place, can_mount};
use serde_json::{Value, json};

/// What a command that succeeds warns of.
fn warnings(place: &Place, arguments: &str) -> Vec<String> {
    let object = place.json(arguments);
    let warnings = object["warnings"].as_array().unwrap_or_else(|| panic!("{arguments}: {object}"));
    warnings.iter().map(|warning| warning.as_str().unwrap().to_owned()).collect()
}

fn assert_warns(place: &Place, arguments: &str, expected: &str) {
    let warnings = warnings(place, arguments);
    assert!(warnings.iter().any(|warning| warning.contains(expected)), "{arguments}: {warnings:?}");
}

#[test]
fn every_command_lists_its_warnings() {
    let place = Place::of_this_user();
    let secret = "--password-file password";
    place.make_file("new", "clamp orbit velvet mossy tundra wagon\n");
    place.make_file("image", vec![7; 100_000]);
    place.make_file("same", "x\n");
    assert_warns(&place, &format!("import image imported {secret} {CHEAP}"), "zero bytes");
    let create = format!("create v --size 8M --filesystem none --sector-size 512 {CHEAP}");
    assert_warns(&place, &format!("{create} --password-file same"), "weak");
    assert_eq!(warnings(&place, &format!("{create} --force --yes {secret}")), [""; 0]);

    for quiet in [
        "info v",
        "key list v",
        "list",
        &format!("key test v {secret}"),
        &format!("check v {secret}"),
        &format!("key add v {secret} --new-password-file new {CHEAP}"),
        "header backup v v.header",
        &format!("header repair v {secret}"),
        "header repair --scan v",
        &format!("export v v.image {secret} --yes"),
        &format!("key remove v --slot 1 {secret}"),
    ] {
        assert_eq!(warnings(&place, quiet), [""; 0], "{quiet}");
    }
    assert_warns(&place, &format!("key change v {secret} --new-password-file same {CHEAP}"), "weak");
    assert_warns(
        &place,
        "header restore v v.header --yes --password-file password --force",
        "changed or removed",
    );
    assert_warns(&place, &format!("reencrypt v {secret} --sector-size 4096 --drop-other-keys"), "512");
    assert_warns(&place, "erase v --yes", "header backups");
}

#[test]
fn volumes_are_mounted_synced_and_unmounted_with_warnings() {
    if !can_mount() {
        return;
    }
    let place = Place::of_this_user();
    let create = format!("create v --size 8M --password-file password {CHEAP}");
    let no_label = "--filesystem vfat --sector-size 512 --label Über";
    assert_warns(&place, &format!("{create} {no_label}"), "label");
    place.done(&format!("{create} --force --yes"));
    for command in ["mount v m --password-file password", "sync m", "list"] {
        drop(warnings(&place, command));
    }
    place.shell("mv v w; cp w v; rm w");
    assert_warns(&place, "list", "while it is mounted");
    drop(place.strongroom("unmount m --force --json"));
}

/// What was warned of before something went wrong stands beside the error, whether or not it was shown.
#[test]
fn errors_have_the_warnings_before_them() {
    let place = Place::of_this_user();
    place.make_file("image", [7; 1000]);
    for quiet in ["", "--quiet"] {
        let ended =
            place.strongroom(&format!("import image v --password-file nowhere {CHEAP} --json {quiet}"));
        let object = ended.json();
        assert_eq!(object["error"]["code"], 1, "{object}");
        assert!(object["warnings"][0].as_str().unwrap().contains("zero bytes"), "{object}");
        assert_eq!(ended.errors.contains("warning"), quiet.is_empty(), "{ended:?}");
    }
    let wrong: Value = place.strongroom("frobnicate --json").json();
    assert_eq!((&wrong["error"]["code"], &wrong["warnings"]), (&json!(1), &json!([])));
}
