//! What is whole and not for strongroom to open, and what is not whole: each command says so, and who opens it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

mod luks_image;
mod place;

use luks_image::{KEY, luks1, luks2_of, metadata};
use place::{CHEAP, PASSWORD, Place};
use serde_json::{Value, json};

/// Whatever is asked about `name`, the answer contains `program`, and calls nothing damaged that is whole.
#[track_caller]
fn assert_named(place: &Place, name: &str, program: &str) {
    for command in ["key test NAME --password-file password", "mount NAME m --block --password-file password"]
    {
        let refused = place.strongroom(&command.replace("NAME", name));
        assert_eq!(refused.status, Some(4), "{name}: {refused:?}");
        assert!(refused.errors.contains(program), "{name}: {refused:?}");
        let is_wrong =
            ["damaged", "header restore", "cut short"].iter().any(|no| refused.errors.contains(no));
        assert!(!is_wrong, "{name}: {refused:?}");
    }
    let checked = place.strongroom(&format!("check {name} --password-file password"));
    assert!(checked.status == Some(4) && checked.out.contains(program), "{name}: {checked:?}");
}

#[test]
fn whatever_luks_can_say_and_strongroom_does_not_open_is_told_with_the_program_that_does() {
    let place = Place::of_this_user();
    let segment = |name: &str, value: Value| {
        let mut changed = metadata(&KEY);
        changed["segments"]["0"][name] = value;
        changed
    };
    let required = |name: &str| {
        let mut changed = metadata(&KEY);
        changed["config"]["requirements"] = json!({"mandatory": [name]});
        changed
    };
    let keyslot = |pointer: &str, value: Value| {
        let mut changed = metadata(&KEY);
        *changed["keyslots"]["0"].pointer_mut(pointer).unwrap() = value;
        changed
    };
    let integrity =
        json!({"type": "hmac(sha256)", "journal_encryption": "none", "journal_integrity": "none"});
    for (changed, program) in [
        (segment("integrity", integrity), "cryptsetup open CONTAINER NAME opens it"),
        (segment("type", json!("hw-opal")), "cryptsetup 2.7 or newer"),
        (segment("type", json!("new")), "a newer cryptsetup"),
        (segment("encryption", json!("aes-ctr-plain64")), "cryptsetup open CONTAINER NAME opens it"),
        (segment("encryption", json!("aes-cbc-eboiv")), "cryptsetup open CONTAINER NAME opens it"),
        (segment("encryption", json!("aes-cbc-lmk")), "cryptsetup open CONTAINER NAME opens it"),
        (segment("encryption", json!("cipher_null-ecb")), "copy its files to a new container"),
        (required("opal"), "cryptsetup 2.7 or newer"),
        (required("inline-hw-tags"), "cryptsetup 2.8 or newer"),
        (required("online-reencrypt-v3"), "cryptsetup reencrypt --resume-only"),
        (required("time-travel"), "a newer cryptsetup"),
        (keyslot("/type", json!("new")), "a newer cryptsetup"),
        (keyslot("/kdf/type", json!("balloon")), "a newer cryptsetup"),
    ] {
        place.make_file("c", luks2_of(&changed, &KEY, PASSWORD.as_bytes()));
        assert_named(&place, "c", program);
        let info = place.strongroom("info c");
        assert!(info.status == Some(0) && info.out.contains(program), "{info:?}");
        assert!(!info.out.contains("Advice:") && !info.out.contains("Header file:"), "{info:?}");
    }
}

#[test]
fn an_old_luks_header_that_strongroom_does_not_open_names_the_program_that_does() {
    let place = Place::of_this_user();
    let changed = |at: usize, bytes: &[u8]| {
        let mut container = luks1(PASSWORD.as_bytes());
        container[at..at + 32].fill(0);
        container[at..at + bytes.len()].copy_from_slice(bytes);
        container
    };
    for (container, program) in [
        (changed(40, b"ctr-plain64"), "cryptsetup open CONTAINER NAME opens it"),
        (changed(40, b"cbc-tcw"), "cryptsetup open CONTAINER NAME opens it"),
        (changed(8, b"mars"), "cryptsetup open CONTAINER NAME opens it"),
        (changed(8, b"cast5"), "copy its files to a new container"),
        (changed(72, b"snefru"), "cryptsetup open CONTAINER NAME opens it"),
    ] {
        place.make_file("c", container);
        assert_named(&place, "c", program);
        // What is there is shown all the same, with what is not supported of it.
        let shown = place.done("info c");
        assert!(shown.contains(luks_image::UUID) && shown.contains("Not supported:"), "{shown}");
        assert_eq!(place.json("info c")["keyslots"][0]["slot"], 0);
    }
    let mut begun = luks1(PASSWORD.as_bytes());
    begun[..6].copy_from_slice(b"LUKS\xde\xad");
    place.make_file("c", begun);
    assert_named(&place, "c", "cryptsetup reencrypt CONTAINER");
    let mut newer = luks1(PASSWORD.as_bytes());
    newer[7] = 3;
    place.make_file("c", newer);
    assert_named(&place, "c", "a newer cryptsetup");
}

#[test]
fn a_container_that_was_cut_short_opens_with_no_command_that_does_not_say_so() {
    let place = Place::of_this_user();
    place.done(&format!(
        "create whole --size 8M --provision quick --filesystem exfat {CHEAP} --password-file password"
    ));
    place.done("key test whole --password-file password");
    for len in [300_000, 4 << 20, (8 << 20) - 512] {
        place.shell(&format!("head -c {len} whole > cut"));
        let told = format!("the container is cut off: {len} of {} bytes are there", 8 << 20);
        let tested = place.strongroom("key test cut --password-file password");
        assert_eq!(tested.status, Some(4), "{tested:?}");
        assert!(tested.errors.contains(&format!("keyslot 0 opens, but {told}")), "{tested:?}");
        let info = place.strongroom("info cut");
        assert!(info.status == Some(0) && info.errors.contains(&told), "{info:?}");
        let checked = place.strongroom("check cut --no-unlock");
        assert!(checked.status == Some(4) && checked.out.contains("cut off"), "{checked:?}");
    }

    // Nothing in this header says how long it is, but the file system in it does.
    place.done(
        "create luks --format luks2 --size 24M --provision quick --filesystem exfat --pbkdf pbkdf2 --kdf-iterations 1000 \
         --password-file password",
    );
    place.done("key test luks --password-file password");
    place.shell("truncate -s 20M luks");
    let tested = place.strongroom("key test luks --password-file password");
    assert!(tested.status == Some(4) && tested.errors.contains("keyslot 0 opens, but"), "{tested:?}");

    // Nothing at all says it but a sector of which a part is there.
    place.done(
        "create bare --format luks2 --size 24M --provision quick --filesystem none --pbkdf pbkdf2 --kdf-iterations 1000 \
         --password-file password",
    );
    place.shell("truncate -s -100 bare");
    let tested = place.strongroom("key test bare --password-file password");
    assert!(tested.status == Some(0) && tested.errors.contains("may have been cut short"), "{tested:?}");
}

#[test]
fn what_a_new_container_would_take_the_place_of_is_named_and_kept_without_force() {
    let place = Place::of_this_user();
    place.make_file("known", luks1(PASSWORD.as_bytes()));
    let before = place.bytes("known");
    let create = format!("create known --size 4M --filesystem none {CHEAP} --password-file password");
    for agreed in ["", " --yes"] {
        let refused = place.strongroom(&format!("{create}{agreed}"));
        assert_eq!(refused.status, Some(5), "{refused:?}");
        assert!(refused.errors.contains("it already exists (LUKS1 header, "), "{refused:?}");
        assert!(refused.errors.contains("--force"), "{refused:?}");
    }
    assert!(place.bytes("known") == before);
    place.done(&format!("{create} --yes --force"));
    place.make_file("noise", vec![0x5a; 100]);
    let refused = place.strongroom(&create.replace("known", "noise"));
    assert!(refused.errors.contains("(a file of 100 bytes)"), "{refused:?}");
    // Where nothing is in the way there is nothing to agree to.
    place.done(&format!("{} --yes", create.replace("known", "new")));
}

#[test]
fn what_is_left_of_a_partition_table_is_told_as_what_it_is() {
    let place = Place::of_this_user();
    let mut disk = vec![0; 8 << 20];
    disk[446 + 4] = 0xee;
    disk[446 + 8] = 1;
    disk[446 + 12..446 + 16].copy_from_slice(&[0xff; 4]);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let container = luks1(PASSWORD.as_bytes());
    disk[2 << 20..][..container.len()].copy_from_slice(&container);
    place.make_file("protective", &disk);
    disk[512..520].copy_from_slice(b"EFI PART");
    place.make_file("damaged", &disk);
    for (name, told) in [
        ("protective", "this is a partition table that shows no partition"),
        ("damaged", "this is a GPT partition table of which both copies are damaged"),
    ] {
        for command in ["info", "info --partition 1", "mount --block m"] {
            let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
            let rest = rest.strip_suffix(" m").map_or_else(|| rest.to_owned(), |rest| format!("m {rest}"));
            let refused = place.strongroom(&format!("{verb} {name} {rest}"));
            assert_eq!(refused.status, Some(4), "{command}: {refused:?}");
            assert!(refused.errors.contains(told), "{command}: {refused:?}");
            assert!(refused.errors.contains("header repair --scan"), "{command}: {refused:?}");
        }
        let found = place.strongroom(&format!("header repair --scan {name}"));
        assert!(found.out.contains("--offset 2097152"), "{found:?}");
    }
    let mut image = b"conectix".to_vec();
    image.resize(1 << 20, 7);
    place.make_file("vhd", image);
    let refused = place.strongroom("info vhd --partition 1");
    assert!(refused.errors.contains("it has no partition table; this is a VHD disk image"), "{refused:?}");
}

#[test]
fn one_part_of_a_file_is_open_for_writing_at_a_time_and_which_is_told() {
    let place = Place::of_this_user();
    if !place::can_mount() {
        return;
    }
    let container = luks1(PASSWORD.as_bytes());
    let len = container.len().next_multiple_of(1 << 20);
    let mut disk = vec![0; (1 << 20) + 2 * len];
    for (number, start) in [1 << 20, (1 << 20) + len].into_iter().enumerate() {
        let entry = &mut disk[446 + 16 * number..][..16];
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&u32::try_from(start / 512).unwrap().to_le_bytes());
        entry[12..].copy_from_slice(&u32::try_from(len / 512).unwrap().to_le_bytes());
        disk[start..][..container.len()].copy_from_slice(&container);
    }
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    place.make_file("disk", disk);
    place.make_folder("n");
    let mount = |number: u32, at: &str, how: &str| {
        place.strongroom(&format!(
            "mount disk {at} --block --partition {number} --password-file password {how}"
        ))
    };
    assert_eq!(mount(1, "m", "").status, Some(0));
    assert_eq!(place.listed()["offset"], 1 << 20);
    for how in ["", "--read-only"] {
        let refused = mount(2, "n", how);
        assert_eq!(refused.status, Some(5), "{refused:?}");
        let told = format!("its part at byte 1048576 is mounted on {}", place.path("m").display());
        assert!(refused.errors.contains(&told) && refused.errors.contains("--read-only"), "{refused:?}");
    }
    place.done("unmount m");
    assert_eq!(mount(1, "m", "--read-only").status, Some(0));
    assert_eq!(mount(2, "n", "--read-only").status, Some(0));
    place.shell("cmp m/volume n/volume");
    place.done("unmount n");
    place.done("unmount m");
    place.assert_clean();
}
