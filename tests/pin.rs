//! Pins: a header that was changed is refused before anybody types a password.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

mod luks_image;

mod place;

use std::{
    fs,
    ops::Deref,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use luks_image::{AREA_OFFSET, KEY, luks1, luks2, luks2_of, metadata, set_metadata};
use place::CHEAP;
use serde_json::{Value, json};
use strongroom::{
    error::ErrorKind,
    volume::{Access, Container},
};

/// A place with a container `c`, that the password "secret" opens, and a home for pins.
struct Home(place::Place);

impl Deref for Home {
    type Target = place::Place;

    fn deref(&self) -> &place::Place {
        &self.0
    }
}

impl Home {
    fn with(container: &[u8]) -> Self {
        let place = place::Place::of_this_user();
        place.make_file("c", container);
        place.make_file("password", "secret");
        Self(place)
    }

    /// The same after the container was opened with `--pin`.
    fn pinned(container: &[u8]) -> Self {
        let place = Self::with(container);
        let ended = place.strongroom("key test c --pin --password-file password");
        assert_eq!(ended.status, Some(0), "{ended:?}");
        assert!(ended.errors.contains("pinned the header of c: "), "{ended:?}");
        place
    }

    fn pins(&self) -> Vec<PathBuf> {
        fs::read_dir(self.path("home/strongroom/pins")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// That the header is refused as another one than was pinned, whatever secret would come: none is read.
    #[track_caller]
    fn assert_refused(&self, what: &str) {
        let ended = self.strongroom("key test c --password-file nothing-is-here");
        assert_eq!(ended.status, Some(4), "{ended:?}");
        let line = format!(
            "strongroom: error: cannot open c: its header is not the one that was pinned: {what}\n\
             strongroom: hint: enter no password unless you know who changed it (you, with cryptsetup?); --pin=renew accepts the change\n"
        );
        assert_eq!(ended.errors, line);
    }

    #[track_caller]
    fn assert_opens(&self, options: &str) {
        let ended = self.strongroom(&format!("key test c --password-file password {options}"));
        assert_eq!((ended.status, ended.out.as_str()), (Some(0), "keyslot 0 opens\n"), "{ended:?}");
    }
}

/// A LUKS2 container of which one value of the metadata is another. `pointer` is a JSON pointer.
fn with(pointer: &str, value: Value) -> Vec<u8> {
    let mut metadata = metadata(&KEY);
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    metadata.pointer_mut(parent).unwrap()[name] = value;
    luks2_of(&metadata, &KEY, b"secret")
}

#[test]
fn a_header_that_stays_the_same_opens_ever_again() {
    for container in [luks1(b"secret"), luks2(b"secret")] {
        let place = Home::pinned(&container);
        place.assert_opens("");
        place.assert_opens("--pin");
        place.assert_opens("--pin=require");
        let info: Value = place.strongroom("info c --json").json();
        assert_eq!(info["pin"]["state"], "same");
        assert!(place.strongroom("info c").out.contains("Pin:           the header matches its pin\n"));
    }
}

#[test]
fn nothing_is_pinned_by_a_password_that_opens_nothing() {
    let place = Home::with(&luks2(b"secret"));
    place.make_file("wrong", b"other");
    let ended = place.strongroom("key test c --pin --password-file wrong");
    assert_eq!(ended.status, Some(2), "{ended:?}");
    assert!(!place.path("home").exists());
}

#[test]
fn pins_are_for_their_user_alone_and_named_by_a_hash() {
    let place = Home::pinned(&luks2(b"secret"));
    let [pin] = &place.pins()[..] else { panic!("{:?}", place.pins()) };
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(pin), mode(pin.parent().unwrap())), (0o600, 0o700));
    let name = pin.file_stem().unwrap().to_str().unwrap();
    assert!(name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
}

#[test]
fn a_uuid_that_is_a_path_names_no_file() {
    let mut container = luks1(b"secret");
    container[168..208].fill(0);
    container[168..193].copy_from_slice(b"../../../../../../etc/pwn");
    let place = Home::pinned(&container);
    assert_eq!(place.pins().len(), 1);
    place.assert_opens("--pin=require");
}

#[test]
fn a_header_under_another_volume_key_is_refused() {
    // The attacker's own container under the same UUID, as in CVE-2025-59054.
    let place = Home::pinned(&luks2(b"secret"));
    let mine = [9; 32];
    place.make_file("c", luks2_of(&metadata(&mine), &mine, b"secret"));
    place.assert_refused("digest 0: digest, keyslot 0: key material");
}

#[test]
fn a_keyslot_without_encryption_is_refused() {
    // CVE-2025-58356: any password opens it.
    let place = Home::pinned(&luks2(b"secret"));
    place.make_file("c", with("/keyslots/0/area/encryption", json!("cipher_null-ecb")));
    place.assert_refused("keyslot 0: type");
}

#[test]
fn a_segment_that_became_plaintext_is_refused() {
    let place = Home::pinned(&luks2(b"secret"));
    place.make_file(
        "c",
        with("/segments/0", json!({"type": "linear", "offset": "1048576", "size": "dynamic"})),
    );
    place.assert_refused("segment 0: type");
}

#[test]
fn each_field_that_matters_is_named() {
    let place = Home::pinned(&luks2(b"secret"));
    for (pointer, value, what) in [
        ("/segments/0/offset", json!("1052672"), "segment 0: place"),
        ("/segments/0/size", json!("4096"), "segment 0: place"),
        ("/segments/0/iv_tweak", json!("8"), "segment 0: IV"),
        ("/segments/0/sector_size", json!(512), "segment 0: sector size"),
        ("/segments/0/encryption", json!("aes-cbc-plain64"), "segment 0: encryption"),
        ("/segments/0/flags", json!(["in-reencryption"]), "segment 0: flags"),
        ("/segments/0/integrity", json!({"type": "hmac(sha256)"}), "segment 0: integrity"),
        ("/config/requirements", json!({"mandatory": ["online-reencrypt-v2"]}), "requirements"),
        ("/digests/0/iterations", json!(1001), "digest 0: digest"),
        ("/keyslots/0/kdf/iterations", json!(1), "keyslot 0: key derivation"),
        ("/keyslots/0/kdf/hash", json!("sha1"), "keyslot 0: key derivation"),
        ("/keyslots/0/kdf/salt", json!("AAAAAAAAAAAAAAAA"), "keyslot 0: salt"),
        ("/keyslots/0/area/offset", json!("163840"), "keyslot 0: area, keyslot 0: key material"),
        ("/keyslots/0/af/hash", json!("sha512"), "keyslot 0: area"),
    ] {
        place.make_file("c", with(pointer, value));
        place.assert_refused(what);
    }
    let mut container = luks2(b"secret");
    container[AREA_OFFSET + 1000] ^= 1;
    place.make_file("c", &container);
    place.assert_refused("keyslot 0: key material");
}

#[test]
fn each_field_of_luks1_that_matters_is_named() {
    let place = Home::pinned(&luks1(b"secret"));
    for (at, bytes, what) in [
        (40, &b"xts-plain\0\0"[..], "cipher, keyslot 0: area"),
        (72, b"sha512", "hash, volume key: digest, keyslot 0: key derivation, keyslot 0: area"),
        (104, &4097_u32.to_be_bytes(), "data offset"),
        (112, b"digest", "volume key: digest"),
        (164, &1_u32.to_be_bytes(), "volume key: digest"),
        (212, &1_u32.to_be_bytes(), "keyslot 0: key derivation"),
        (216, b"salt", "keyslot 0: salt"),
        (256, &0x00ac_71f3_u32.to_be_bytes(), "keyslot 1 is new"),
        (208, &0x0000_dead_u32.to_be_bytes(), "keyslot 0 is gone"),
        (5000, b"material", "keyslot 0: key material"),
    ] {
        let mut container = luks1(b"secret");
        container[260..264].copy_from_slice(&1000_u32.to_be_bytes());
        container[at..at + bytes.len()].copy_from_slice(bytes);
        place.make_file("c", &container);
        place.assert_refused(what);
    }
}

#[test]
fn a_keyslot_that_came_or_went_is_refused() {
    let place = Home::pinned(&luks2(b"secret"));
    let mut more = metadata(&KEY);
    more["keyslots"]["1"] = luks_image::keyslot(AREA_OFFSET + (128 << 10));
    more["digests"]["0"]["keyslots"] = json!(["0", "1"]);
    let mut container = luks2(b"secret");
    set_metadata(&mut container, &more);
    place.make_file("c", &container);
    place.assert_refused("keyslot 1 is new");
    place.assert_opens("--pin=renew");
    place.assert_opens("");
    place.make_file("c", luks2(b"secret"));
    place.assert_refused("keyslot 1 is gone");
}

#[test]
fn what_does_not_matter_may_change() {
    let place = Home::pinned(&luks2(b"secret"));
    for (pointer, value) in [
        ("/tokens/0", json!({"type": "systemd-tpm2", "keyslots": ["0"]})),
        ("/config/flags", json!(["allow-discards"])),
        ("/keyslots/0/priority", json!(2)),
    ] {
        place.make_file("c", with(pointer, value));
        place.assert_opens("");
    }
    // Another label, sequence id and salt, in one copy only, and the other copy damaged.
    let mut container = luks2(b"secret");
    let first = &mut container[..luks_image::COPY_LEN];
    (first[23], first[24], first[104]) = (9, b'x', 1);
    luks_image::make_checksum_right(first);
    place.make_file("c", &container);
    place.assert_opens("");
    container[..4096].fill(0);
    place.make_file("c", &container);
    place.assert_opens("");
}

#[test]
fn the_copy_of_the_header_that_counts_is_the_one_that_is_compared() {
    // A second copy with a higher sequence id.
    let place = Home::pinned(&luks2(b"secret"));
    let forged = with("/segments/0/iv_tweak", json!("8"));
    let mut container = luks2(b"secret");
    let second = luks_image::COPY_LEN..2 * luks_image::COPY_LEN;
    container[second.clone()].copy_from_slice(&forged[second.clone()]);
    place.make_file("c", &container);
    place.assert_opens("");
    container[second.start + 23] = 4;
    luks_image::make_checksum_right(&mut container[second]);
    place.make_file("c", &container);
    place.assert_refused("segment 0: IV");
}

#[test]
fn a_container_under_another_uuid_in_the_pinned_place_is_refused() {
    let place = Home::pinned(&luks1(b"secret"));
    let mut other = luks1(b"secret");
    other[168] = b'3';
    place.make_file("c", &other);
    place.assert_refused("another container was there, with the UUID 28632274-8c8a-493f-835b-da802e1c576b");
    other[168..208].fill(0);
    place.make_file("c", &other);
    place.assert_refused("another container was there, with the UUID 28632274-8c8a-493f-835b-da802e1c576b");
    let ended = place.strongroom("key test c --password-file password --pin=renew");
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(ended.errors.contains("it has no UUID to pin it by (luks1)"), "{ended:?}");
    other[168..204].copy_from_slice(b"38632274-8c8a-493f-835b-da802e1c576b");
    place.make_file("c", &other);
    place.assert_opens("--pin=renew");
    place.assert_opens("");
}

#[test]
fn a_container_that_the_user_makes_in_a_pinned_place_is_no_stranger_there() {
    let place = Home::pinned(&luks1(b"secret"));
    let create =
        "create c --size 4M --filesystem none --provision thin --password-file password --force --yes";
    place.done(&format!("{create} {CHEAP}"));
    place.assert_opens("");
    // The pin of what was there is kept, for its copies elsewhere.
    place.make_file("copy", luks1(b"secret"));
    assert!(place.strongroom("key test copy --password-file password --pin=require").status == Some(0));
}

/// Resolved, the link's path is one that no pin knows. Its name is the container's.
#[test]
fn a_link_to_another_container_in_the_pinned_place_is_refused() {
    let place = Home::pinned(&luks1(b"secret"));
    let mut other = luks1(b"secret");
    other[168] = b'3';
    place.make_file("other", &other);
    fs::remove_file(place.path("c")).unwrap();
    symlink("other", place.path("c")).unwrap();
    place.assert_refused("another container was there, with the UUID 28632274-8c8a-493f-835b-da802e1c576b");
    // Under another name of its folder it is the same place.
    let ended = place.strongroom("key test m/../c --password-file password");
    assert_eq!(ended.status, Some(4), "{ended:?}");
    // The file that it leads to was never pinned.
    let ended = place.strongroom("key test other --password-file password");
    assert_eq!(ended.status, Some(0), "{ended:?}");
    place.assert_opens("--pin=renew");
    place.assert_opens("");
}

#[test]
fn a_copy_of_the_container_is_under_the_same_pin() {
    let place = Home::pinned(&luks2(b"secret"));
    fs::rename(place.path("c"), place.path("d")).unwrap();
    let ended = place.strongroom("key test d --password-file password --pin=require");
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(place.pins().len(), 1);
    // The second place is known from then on.
    place.make_file("d", luks1(b"secret"));
    let ended = place.strongroom("key test d --password-file password");
    assert_eq!(ended.status, Some(4), "{ended:?}");
}

#[test]
fn a_pin_may_be_demanded() {
    let place = Home::with(&luks2(b"secret"));
    let ended = place.strongroom("key test c --password-file password --pin=require");
    assert_eq!(ended.status, Some(4), "{ended:?}");
    assert!(
        ended.errors.starts_with("strongroom: error: cannot open c: its header is not pinned\n"),
        "{ended:?}"
    );
    assert!(!place.path("home").exists());
}

#[test]
fn a_damaged_pin_is_no_pin_that_agrees() {
    let place = Home::pinned(&luks2(b"secret"));
    let pin = place.pins().remove(0);
    let text = fs::read_to_string(&pin).unwrap();
    for damaged in [
        &text[..text.len() / 2],
        "",
        &text.replacen("\"version\": 1", "\"version\": 2", 1),
        &text.replacen("28632274", "28632275", 1),
    ] {
        fs::write(&pin, damaged).unwrap();
        let ended = place.strongroom("key test c --password-file password");
        assert_eq!(ended.status, Some(4), "{ended:?}");
        assert!(
            ended.errors.contains("cannot read the pin") && ended.errors.contains("it is damaged"),
            "{ended:?}"
        );
    }
    place.assert_opens("--pin=renew");
    place.assert_opens("");
}

#[test]
fn errors_of_pins_are_json_as_others_are() {
    let place = Home::pinned(&luks2(b"secret"));
    place.make_file("c", with("/segments/0/iv_tweak", json!("8")));
    let ended = place.strongroom("key test c --json --password-file password");
    let answer: Value = ended.json();
    assert_eq!((&answer["error"]["code"], &answer["error"]["kind"]), (&json!(4), &json!("tampered")));
    let info: Value = place.strongroom("info c --json").json();
    assert_eq!(
        (&info["pin"]["state"], &info["pin"]["changes"]),
        (&json!("changed"), &json!(["segment 0: IV"]))
    );
    let check: Value = place.strongroom("check c --json --no-unlock").json();
    assert_eq!(check["ok"], json!(false), "{check}");
}

#[test]
fn an_old_header_of_a_native_container_is_refused() {
    let old = fs::read(place::vector("password.img")).unwrap();
    let place = Home::with(&old);
    place.make_file("password", place::PASSWORD);
    place.assert_opens("--pin");
    place.make_file("new", b"clamp orbit velvet mossy tundra wagon");
    let cheap = place::CHEAP;
    let ended =
        place.strongroom(&format!("key add c {cheap} --password-file password --new-password-file new"));
    assert_eq!(ended.status, Some(0), "{ended:?}");
    place.assert_opens("");
    place.make_file("c", &old);
    let ended = place.strongroom("key test c --password-file password");
    assert_eq!(ended.status, Some(4), "{ended:?}");
    assert!(ended.errors.contains("it is an old one: its sequence number is "), "{ended:?}");
}

#[test]
fn a_pin_follows_a_reencryption_and_refuses_what_was_before_it_or_during_it() {
    for before in ["suite-2.img", "moving.img"] {
        let old = fs::read(place::vector(before)).unwrap();
        let place = Home::with(&old);
        place.make_file("password", place::PASSWORD);
        place.assert_opens("--pin");
        let ended = place.strongroom("reencrypt c --password-file password");
        assert_eq!(ended.status, Some(0), "{before}: {ended:?}");
        // Not only from the next opening on.
        let pin: Value = serde_json::from_slice(&fs::read(&place.pins()[0]).unwrap()).unwrap();
        let header: Value = place.strongroom("info c --json").json();
        assert_eq!(pin["sequence"], header["headers"][0]["sequence"], "{before}: {pin}");
        assert_eq!(pin["generation"], header["generation"], "{before}: {pin}");
        place.assert_opens("--pin=require");
        place.make_file("c", &old);
        let ended = place.strongroom("key test c --password-file password");
        assert_eq!(ended.status, Some(4), "{before}: {ended:?}");
        assert!(ended.errors.contains("it is an old one: its sequence number is "), "{ended:?}");
    }
}

/// That the pin is where the header is, before anything opens the container again; and that `old` is refused under it.
#[track_caller]
fn assert_pin_has_followed(place: &Home, command: &str, old: &[u8]) {
    let pin: Value = serde_json::from_slice(&fs::read(&place.pins()[0]).unwrap()).unwrap();
    let header: Value = place.strongroom("info c --json").json();
    assert_eq!(pin["sequence"], header["headers"][0]["sequence"], "{command}: {pin}");
    assert_eq!(pin["generation"], header["generation"], "{command}: {pin}");
    let now = place.bytes("c");
    place.make_file("c", old);
    let ended = place.strongroom("key test c --password-file password");
    assert_eq!(ended.status, Some(4), "{command}: {ended:?}");
    assert!(ended.errors.contains("it is an old one"), "{command}: {ended:?}");
    place.make_file("c", now);
}

#[test]
fn a_pin_follows_every_command_that_writes_a_native_header() {
    let place = Home::with(&fs::read(place::vector("suite-2.img")).unwrap());
    place.make_file("password", place::PASSWORD);
    place.make_file("new", b"clamp orbit velvet mossy tundra wagon");
    place.assert_opens("--pin");
    let cheap = place::CHEAP;
    for command in [
        format!("key add c {cheap} --new-password-file new"),
        format!("key change c --slot 1 {cheap} --new-password-file new"),
        "key remove c --slot 1 --yes".to_owned(),
        "header restore c c.header --yes".to_owned(),
        "reencrypt c --drop-other-keys".to_owned(),
    ] {
        place.done("header backup c c.header -q");
        let old = place.bytes("c");
        let ended = place.strongroom(&format!("{command} --password-file password"));
        assert_eq!(ended.status, Some(0), "{command}: {ended:?}");
        assert_pin_has_followed(&place, &command, &old);
        fs::remove_file(place.path("c.header")).unwrap();
    }
    // What these write has the number that the pin has.
    for command in ["header repair c", "mount c m --block"] {
        if command.starts_with("mount") && !place::can_mount() {
            continue;
        }
        let mut damaged = place.bytes("c");
        damaged[..512].fill(0);
        place.make_file("c", damaged);
        place.done(&format!("{command} --password-file password -q"));
        if command.starts_with("mount") {
            place.done("unmount c -q");
        }
        let copies = place.json("info c")["headers"].as_array().unwrap().clone();
        assert!(copies.iter().all(|copy| copy["state"] == "current"), "{command}: {copies:?}");
        place.assert_opens("--pin=require");
    }
}

/// The command has ended long before: the server moves the pin.
#[test]
fn a_pin_follows_a_re_encryption_in_the_background() {
    if !place::can_mount() {
        return;
    }
    let place = Home::with(b"");
    fs::remove_file(place.path("c")).unwrap();
    place.make_file("password", place::PASSWORD);
    let cheap = place::CHEAP;
    place.done(&format!(
        "create c --size 4M --provision quick --filesystem none --password-file password {cheap} -q"
    ));
    let old = place.bytes("c");
    place.done("mount c m --block --pin --password-file password -q");
    place.done("reencrypt c --background --pin --drop-other-keys --password-file password -q");
    place::wait_until("the end of the work", || place.json("info c")["generation"] == 2);
    place.done("unmount c -q");
    assert_pin_has_followed(&place, "reencrypt --background", &old);
    place.assert_opens("--pin=require");
}

/// Opening for writing ends the chunk that was under way, with records of its own.
#[test]
fn a_pin_follows_a_mount_that_brings_a_re_encryption_to_rest() {
    if !place::can_mount() {
        return;
    }
    let old = fs::read(place::vector("journaled.img")).unwrap();
    let place = Home::with(&old);
    place.make_file("password", place::PASSWORD);
    place.assert_opens("--pin");
    place.done("mount c m --block --password-file password -q");
    place.done("unmount c -q");
    let at_rest = place.bytes("c");
    assert!(at_rest != old, "nothing was written");
    // The records of before undo what was written since.
    place.make_file("c", &old);
    let ended = place.strongroom("key test c --password-file password");
    assert_eq!(ended.status, Some(4), "{ended:?}");
    assert!(ended.errors.contains("it is an old one: its re-encryption record is 6, "), "{ended:?}");
    place.make_file("c", &at_rest);
    place.assert_opens("--pin=require");
}

#[test]
fn a_pin_is_good_for_a_container_that_has_grown() {
    for container in [luks1(b"secret"), luks2(b"secret")] {
        let place = Home::pinned(&container);
        let size = container.len() + (4 << 20);
        place.done(&format!("resize c {size} --password-file password -q"));
        assert_eq!(place.bytes("c").len(), size);
        place.assert_opens("--pin=require");
    }
}

/// A newer copy under another checksum passes before the password is asked for; what opens then is the old one.
#[test]
fn a_forged_newer_copy_does_not_take_the_pin_to_an_old_header() {
    let old = fs::read(place::vector("password.img")).unwrap();
    let place = Home::with(&old);
    place.make_file("password", place::PASSWORD);
    place.assert_opens("--pin");
    place.make_file("new", b"clamp orbit velvet mossy tundra wagon");
    let cheap = place::CHEAP;
    let ended =
        place.strongroom(&format!("key add c {cheap} --password-file password --new-password-file new"));
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let mut forged = old;
    forged[128] = 9;
    forged[4000..4096].fill(0);
    let sum = strongroom::crypto::hash::sha256(&[&forged[..65_536]]);
    forged[4000..4032].copy_from_slice(&sum);
    place.make_file("c", &forged);
    let ended = place.strongroom("key test c --password-file password");
    assert_eq!(ended.status, Some(4), "{ended:?}");
    assert!(ended.errors.contains("it is an old one: its sequence number is 1, and 2"), "{ended:?}");
}

#[test]
fn a_header_that_is_swapped_between_two_readings_is_refused() {
    let place = Home::with(&luks2(b"secret"));
    let container = Container::open(&place.path("c"), Access::ReadOnly).unwrap();
    let digest = container.header().unwrap().fingerprint().unwrap().digest();
    assert!(container.same_header(Some(&digest)).is_ok());
    place.make_file("c", with("/segments/0/iv_tweak", json!("8")));
    let error = container.same_header(Some(&digest)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tampered);
}

#[test]
fn a_pin_follows_changes_of_keyslots_by_this_program() {
    for container in [luks1(b"secret"), luks2(b"secret")] {
        let place = Home::pinned(&container);
        place.make_file("new", b"clamp orbit velvet mossy tundra wagon");
        for command in [
            "key add c --pbkdf pbkdf2 --kdf-iterations 1000 --slot 1",
            "key change c --pbkdf pbkdf2 --kdf-iterations 1000 --slot 1",
            "key remove c --slot 1 --yes",
        ] {
            let new = if command.contains("remove") { "" } else { "--new-password-file new" };
            let ended = place.strongroom(&format!("{command} --password-file password {new}"));
            assert_eq!(ended.status, Some(0), "{command}: {ended:?}");
            place.assert_opens("--pin=require");
        }
        // Not where the header was another one before.
        place.make_file("c", &container);
        let info: Value = place.strongroom("info c --json").json();
        assert_eq!(info["pin"]["state"], "same", "keyslot 0 alone, as at first");
    }
}
