//! Headers of the native format that are not what they should be: what each command says of them, and what it keeps.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

mod place;
mod terminal;

use std::fs;

use place::{CHEAP, Place};
use strongroom::crypto::hash::sha256;
use terminal::Terminal;

const COPY_LEN: usize = 65_536;
/// Where copy B of [`container`] lies.
const BACKUP: usize = 3 << 20;
const SECRET: &str = "--password-file password";

/// `x`, of 4 MiB.
fn container() -> Place {
    let place = Place::of_this_user();
    create(&place, "x");
    place
}

fn create(place: &Place, name: &str) {
    place.done(&format!(
        "create {name} --size 4M --provision quick --filesystem none --label {name} {SECRET} {CHEAP} -q"
    ));
}

/// Puts the bytes of a place in one file into the same place of another.
fn put(place: &Place, from: &[u8], name: &str, at: usize) {
    let mut bytes = place.bytes(name);
    bytes[at..at + COPY_LEN].copy_from_slice(&from[at..at + COPY_LEN]);
    place.make_file(name, bytes);
}

fn change(place: &Place, name: &str, work: impl FnOnce(&mut [u8])) {
    let mut bytes = place.bytes(name);
    work(&mut bytes);
    place.make_file(name, bytes);
}

/// A password was removed; its header is put back as copy B, and copy A has a byte flipped.
fn with_a_damaged_newer_copy() -> Place {
    let place = container();
    let before = place.bytes("x");
    place.make_file("new", "clamp orbit velvet mossy tundra wagon\n");
    place.done(&format!("key change x {SECRET} --new-password-file new {CHEAP} -q"));
    put(&place, &before, "x", BACKUP);
    change(&place, "x", |bytes| bytes[4000] ^= 1);
    place
}

/// Copy B of `y` stands in `x`, which has the same password.
fn with_a_copy_of_another() -> Place {
    let place = container();
    create(&place, "y");
    let other = place.bytes("y");
    put(&place, &other, "x", BACKUP);
    place
}

/// Copy A says the highest sequence, and its MAC is wrong.
fn with_a_forged_newer_copy() -> Place {
    let place = container();
    change(&place, "x", |bytes| {
        bytes[128] = 9;
        let mac = bytes[4032..4096].to_vec();
        bytes[4000..4096].fill(0);
        let sum = sha256(&[&bytes[..COPY_LEN]]);
        bytes[4000..4032].copy_from_slice(&sum);
        bytes[4032..4096].copy_from_slice(&mac);
    });
    place
}

/// The header from before a re-encryption stands in both places again.
fn with_an_old_header() -> Place {
    let place = container();
    let before = place.bytes("x");
    place.done(&format!("reencrypt x --drop-other-keys {SECRET} -q"));
    put(&place, &before, "x", 0);
    put(&place, &before, "x", BACKUP);
    place
}

/// Two copies of one container were re-encrypted, each on its own; the first MiB of one stands in the other.
fn with_the_start_of_another_reencryption() -> Place {
    let place = container();
    place.make_file("y", place.bytes("x"));
    for name in ["x", "y"] {
        place.done(&format!("reencrypt {name} --drop-other-keys {SECRET} -q"));
    }
    let other = place.bytes("y");
    change(&place, "x", |bytes| bytes[..1 << 20].copy_from_slice(&other[..1 << 20]));
    place
}

/// The closing records of a re-encryption are not under the header's key.
fn with_records_under_another_key() -> Place {
    let place = container();
    place.done(&format!("reencrypt x --drop-other-keys {SECRET} -q"));
    for at in [COPY_LEN, BACKUP + COPY_LEN] {
        change(&place, "x", |bytes| bytes[at + 4040] ^= 1);
    }
    place
}

/// The header of the second re-encryption stands beside the data of the first.
fn with_a_header_that_is_newer_than_the_data() -> Place {
    let place = container();
    place.done(&format!("reencrypt x --drop-other-keys {SECRET} -q"));
    place.make_file("newer", place.bytes("x"));
    place.done(&format!("reencrypt newer --drop-other-keys {SECRET} -q"));
    let newer = place.bytes("newer");
    put(&place, &newer, "x", 0);
    put(&place, &newer, "x", BACKUP);
    place
}

// proves: NAT-UPD-11 NAT-HF-08
#[test]
fn a_header_that_is_newer_than_the_data_is_an_error_and_is_restored_only_by_force() {
    let place = with_a_header_that_is_newer_than_the_data();
    let before = place.bytes("x");
    let said = "of generation 2, and it is of generation 4";
    let checked = place.strongroom(&format!("check x {SECRET}"));
    assert_eq!(checked.status, Some(4), "{checked:?}");
    assert!(checked.out.contains(said), "{checked:?}");

    place.done("header backup newer file -q");
    change(&place, "x", |bytes| {
        bytes[..COPY_LEN].fill(0);
        bytes[BACKUP..BACKUP + COPY_LEN].fill(0);
    });
    let refused = place.strongroom(&format!("header restore x file --yes {SECRET}"));
    assert_eq!(refused.status, Some(5), "{refused:?}");
    assert!(refused.errors.contains(said), "{refused:?}");
    place.done(&format!("header restore x file --yes --force {SECRET} -q"));
    assert_eq!(place.bytes("x").len(), before.len());
    assert_eq!(
        place.strongroom(&format!("key change x {SECRET} --new-password-file password {CHEAP}")).status,
        Some(4)
    );
}

/// Every state that speaks against a header that opens, with the words for it.
fn doubtful() -> [(Place, &'static str); 6] {
    [
        (with_a_damaged_newer_copy(), "header copy A is damaged, and newer than the one that is whole"),
        (with_a_copy_of_another(), "its header copies belong to two containers"),
        (with_a_forged_newer_copy(), "the newer header copy was changed by someone without the key"),
        (with_an_old_header(), "its header is out of date: the container was re-encrypted since"),
        (
            with_the_start_of_another_reencryption(),
            "its header copies do not belong together: copy B (offset 3145728",
        ),
        (
            with_records_under_another_key(),
            "the records in the work area at offset 65536 do not belong to this header",
        ),
    ]
}

// proves: NAT-UPD-10 NAT-UPD-11 NAT-HF-10
#[test]
fn repairing_what_is_under_another_key_asks_keeps_it_and_ends_in_a_container_that_can_be_written() {
    for (place, kept, answer) in [
        (with_the_start_of_another_reencryption(), &[BACKUP, BACKUP + COPY_LEN][..], "replace B"),
        (with_records_under_another_key(), &[COPY_LEN, BACKUP + COPY_LEN], "replace"),
    ] {
        let before = place.bytes("x");
        let asked = place.strongroom(&format!("header repair x --yes {SECRET}"));
        assert_eq!(asked.status, Some(5), "{asked:?}");
        assert!(asked.errors.contains("the re-encryption records at offset"), "{asked:?}");
        assert!(place.bytes("x") == before);

        // The records may be right, and the header wrong: nothing here shows that it fits the data.
        let refused = place.strongroom(&format!("header repair x --yes --force {SECRET}"));
        assert_eq!(refused.status, Some(5), "{refused:?}");
        assert!(refused.errors.contains("no file system is known in the volume"), "{refused:?}");
        assert!(place.bytes("x") == before);

        let mut asked = Terminal::start_in(place, &format!("header repair x {SECRET}"));
        asked.answer(&format!("Type \"{answer}\" to continue: "), answer);
        asked.expect("have been replaced");
        let place = std::mem::replace(&mut asked.place, Place::of_this_user());
        asked.end(0);
        for at in kept {
            let bytes = place.bytes(&format!("x.replaced-at-{at}"));
            assert!(before[*at..*at + bytes.len()] == bytes[..], "what was at {at} is not kept");
        }
        place.done(&format!("key change x {SECRET} --new-password-file password {CHEAP} -q"));
        assert_eq!(place.json(&format!("check x {SECRET}"))["ok"], true);
    }
}

// proves: NAT-UPD-11 NAT-HF-10
#[test]
fn records_are_replaced_by_force_where_a_file_system_shows_that_the_header_fits() {
    let place = Place::of_this_user();
    place.done(&format!("create x --size 4M --provision quick {SECRET} {CHEAP} -q"));
    place.done(&format!("reencrypt x --drop-other-keys {SECRET} -q"));
    change(&place, "x", |bytes| bytes[COPY_LEN + 4040] ^= 1);
    place.done(&format!("header repair x --yes --force {SECRET} -q"));
    assert_eq!(place.json(&format!("check x {SECRET}"))["ok"], true);
}

// proves: NAT-UPD-11
#[test]
fn what_only_the_password_tells_is_said_without_it() {
    let place = with_records_under_another_key();
    let checked = place.strongroom("check x --no-unlock");
    assert!(checked.out.contains("whether the records in its work areas are its own"), "{checked:?}");
    assert!(!checked.out.contains("not empty"), "{checked:?}");
    let checked = place.strongroom(&format!("check x {SECRET}"));
    assert_eq!(checked.out.matches("work area").count(), 1, "{checked:?}");
    assert!(!container().strongroom("check x --no-unlock").out.contains("records"));
}

#[test]
fn a_scan_says_what_mounting_would_say() {
    for (place, doubt) in doubtful() {
        let scanned = place.strongroom("header repair x --scan");
        let said = [
            "--read-only opens it, and nothing may be written",
            "opens it, for writing only if the password",
        ];
        let is_known = said.iter().any(|said| scanned.out.contains(said));
        // That the closing record of its own generation is forged, or a MAC, only the key tells.
        let takes_key = [
            "was changed by someone without the key",
            "its header copies do not belong together",
            "at offset 65536 do not belong to this header",
        ];
        assert!(is_known || takes_key.iter().any(|said| doubt.contains(said)), "{doubt}: {scanned:?}");
    }
}

// proves: NAT-RD-06 NAT-UPD-08 NAT-UPD-09 NAT-REENC-17
#[test]
fn whatever_unlocks_says_what_speaks_against_the_header() {
    for (place, doubt) in doubtful() {
        let before = place.bytes("x");
        let tested = place.strongroom(&format!("key test x {SECRET}"));
        assert_eq!(tested.out, "keyslot 0 opens\n", "{doubt}: {tested:?}");
        assert!(tested.errors.contains(&format!("strongroom: warning: x: {doubt}")), "{tested:?}");
        let warnings = place.json(&format!("key test x {SECRET}"))["warnings"].to_string();
        assert!(warnings.contains(doubt), "{doubt}: {warnings}");

        let exported = place.strongroom(&format!("export x image --yes {SECRET} --json"));
        assert_eq!(exported.status, Some(0), "{exported:?}");
        assert!(exported.errors.contains(&format!("strongroom: warning: x: {doubt}")), "{exported:?}");
        assert!(exported.json()["warnings"].to_string().contains(doubt), "{exported:?}");

        // Whoever would write says it once, as the reason why not.
        for command in ["key change x --new-password-file password", "reencrypt x --drop-other-keys"] {
            let refused = place.strongroom(&format!("{command} {SECRET}"));
            assert_eq!(refused.status, Some(4), "{refused:?}");
            assert_eq!(refused.errors.matches(doubt).count(), 1, "{refused:?}");
        }
        assert!(place.bytes("x") == before, "{doubt}: something was written");
    }
    let quiet = container();
    assert_eq!(quiet.json(&format!("key test x {SECRET}"))["warnings"], serde_json::json!([]));
    assert_eq!(quiet.strongroom(&format!("key test x {SECRET}")).errors, "");
}

// proves: NAT-HF-10
#[test]
fn a_repair_that_only_its_owner_can_decide_takes_force_and_keeps_what_it_replaces() {
    for ((place, _), (copy, at)) in doubtful().into_iter().zip([("A", 0), ("B", BACKUP), ("A", 0)]) {
        let before = place.bytes("x");
        let refused = place.strongroom(&format!("header repair x --yes {SECRET}"));
        assert_eq!(refused.status, Some(5), "{refused:?}");
        assert!(refused.errors.contains(&format!("it would replace header copy {copy} (")), "{refused:?}");
        assert!(refused.errors.contains(") with that of container "), "{refused:?}");
        assert!(refused.errors.contains("--force with --yes"), "{refused:?}");
        assert!(place.bytes("x") == before);
        assert!(!place.files().iter().any(|name| name.contains("replaced")));

        let repaired = place.strongroom(&format!("header repair x --yes --force {SECRET} --json"));
        assert_eq!(repaired.status, Some(0), "{repaired:?}");
        let told = repaired.json();
        let kept = format!("x.replaced-at-{at}");
        assert_eq!(told["replaced"][0]["file"], kept, "{told}");
        assert!(place.bytes(&kept) == before[at..at + COPY_LEN]);
        assert_eq!(place.json(&format!("key test x {SECRET}"))["warnings"], serde_json::json!([]));
        // The command that was told puts it back.
        let back = repaired.errors.split_once("; dd ").unwrap().1.split_once(" puts it back").unwrap().0;
        place.shell(&format!("dd {back} status=none"));
        assert!(place.bytes("x")[at..at + COPY_LEN] == before[at..at + COPY_LEN]);
    }
}

// proves: NAT-HF-10
#[test]
fn who_is_asked_types_what_goes() {
    let place = with_a_copy_of_another();
    let uuids =
        ["x", "y"].map(|name| place.json(&format!("info {name}"))["uuid"].as_str().unwrap().to_owned());
    let before = place.bytes("x");
    let mut asked = Terminal::start_in(place, &format!("header repair x {SECRET}"));
    asked.answer("Type \"replace B\" to continue: ", "yes");
    let seen = asked.seen.clone();
    for uuid in uuids {
        let question = seen.rsplit_once("This replaces").unwrap().1;
        assert!(question.contains(&uuid), "{seen}");
    }
    asked.expect("not confirmed; nothing was changed");
    assert!(asked.place.bytes("x") == before);
    asked.end(1);

    let mut asked = Terminal::start_in(with_a_damaged_newer_copy(), &format!("header repair x {SECRET}"));
    asked.answer("Type \"replace A\" to continue: ", "replace A");
    asked.expect("is kept in");
    assert!(asked.end(0).contains("damaged, sequence 2"));
}

// proves: NAT-HF-05
#[test]
fn what_a_repair_replaces_in_a_header_file_is_kept_with_the_way_back_into_that_file() {
    let place = Place::of_this_user();
    place.done(&format!(
        "create x --size 4M --header h --filesystem none --provision quick {SECRET} {CHEAP} -q"
    ));
    change(&place, "h", |bytes| bytes[4096 + 300] ^= 1);
    let before = place.bytes("h");
    let repaired = place.strongroom(&format!("header repair x --header h {SECRET}"));
    assert_eq!(repaired.status, Some(0), "{repaired:?}");
    assert!(repaired.errors.contains("of=h bs=1M seek=4096 "), "{repaired:?}");
    assert!(place.bytes("x.replaced-at-0") == before[4096..4096 + COPY_LEN]);
}

// proves: NAT-HF-06
#[test]
fn a_header_file_from_before_a_re_encryption_says_so_and_names_the_way_out() {
    let place = container();
    place.done("header backup x h -q");
    place.done(&format!("reencrypt x --drop-other-keys {SECRET} -q"));
    for command in [
        format!("key test x --header h {SECRET}"),
        format!("mount x m --block --read-only --header h {SECRET}"),
    ] {
        let refused = place.strongroom(&command);
        assert_eq!(refused.status, Some(1), "{refused:?}");
        let reason = "the container was re-encrypted since the header file was made (generation 0 in the file, 2 in the container)";
        assert!(refused.errors.contains(reason), "{refused:?}");
        assert!(refused.errors.contains("leave --header out"), "{refused:?}");
    }
    place.done(&format!("key test x {SECRET}"));
    // Where the container's own copies are lost, the old header shows what it fits.
    change(&place, "x", |bytes| {
        bytes[..COPY_LEN].fill(0);
        bytes[BACKUP..BACKUP + COPY_LEN].fill(0);
    });
    let tested = place.strongroom(&format!("key test x --header h {SECRET}"));
    assert!(tested.errors.contains("its header is out of date"), "{tested:?}");
}

#[test]
fn a_backup_of_an_old_header_says_so_and_promises_no_passwords_of_today() {
    for (place, doubt) in [
        (with_an_old_header(), "its header is out of date"),
        (with_a_damaged_newer_copy(), "header copy A is damaged, and newer"),
    ] {
        let made = place.strongroom("header backup x h");
        assert_eq!(made.status, Some(0), "{made:?}");
        assert!(made.errors.contains(doubt), "{made:?}");
        assert!(
            made.errors.contains("the passwords of its time") && !made.errors.contains("today"),
            "{made:?}"
        );
        fs::remove_file(place.path("h")).unwrap();
        assert!(place.json("header backup x h")["warnings"].to_string().contains(doubt));
    }
}

#[test]
fn check_promises_no_renewal_that_mount_refuses() {
    for (place, doubt) in doubtful() {
        let checked = place.strongroom(&format!("check x {SECRET}"));
        let told = "the next writable mount renews it";
        let promised = checked.out.replace(&format!("{told}, if the other one is authentic"), "");
        assert!(!promised.contains(told), "{doubt}: {checked:?}");
        assert!(!checked.out.contains("work area:"), "{doubt}: {checked:?}");
    }
    // An old copy A without the newer copy B.
    let place = with_an_old_header();
    change(&place, "x", |bytes| bytes[BACKUP..BACKUP + COPY_LEN].fill(0));
    let checked = place.strongroom(&format!("check x {SECRET}"));
    assert!(checked.out.contains("nothing renews it"), "{checked:?}");
    assert!(!checked.out.contains("work area:"), "{checked:?}");
}

#[test]
fn a_re_encrypted_or_detached_container_has_no_odd_work_areas() {
    let place = container();
    place.done(&format!("reencrypt x --drop-other-keys {SECRET} -q"));
    place.done(&format!("create d --size 4M --header h --filesystem none {SECRET} {CHEAP} -q"));
    for arguments in ["check x", "check d --header h"] {
        let checked = place.strongroom(&format!("{arguments} {SECRET}"));
        assert_eq!(checked.status, Some(0), "{checked:?}");
        assert!(!checked.out.contains("work area:"), "{checked:?}");
    }
}

#[test]
fn bytes_behind_a_container_whose_copy_a_is_damaged_are_named_with_the_way_out() {
    let place = container();
    change(&place, "x", |bytes| bytes[300] ^= 1);
    place.make_file("x", [place.bytes("x"), vec![0; 5 << 20]].concat());
    let refused = place.strongroom(&format!("mount x m --block {SECRET}"));
    assert_eq!(refused.status, Some(4), "{refused:?}");
    assert!(refused.errors.contains(&format!("copy B is whole at offset {BACKUP}")), "{refused:?}");
    assert!(refused.errors.contains("5242880 bytes follow the container"), "{refused:?}");
    assert!(refused.errors.contains("header repair --scan"), "{refused:?}");
    place.done(&format!("header repair --scan x --yes {SECRET} -q"));
    place.done(&format!("key test x {SECRET}"));
}

// proves: NAT-RD-07
#[test]
fn a_second_copy_that_was_left_behind_is_named() {
    let place = container();
    let uuid = place.json("info x")["uuid"].as_str().unwrap().to_owned();
    let noise: Vec<u8> =
        (1_u32..).take(COPY_LEN).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    let mut ext = vec![0; COPY_LEN];
    ext[1080..1082].copy_from_slice(&[0x53, 0xef]);
    for start in [noise, ext] {
        change(&place, "x", |bytes| bytes[..COPY_LEN].copy_from_slice(&start));
        for command in ["info x", "mount x m --block --password-file password"] {
            let refused = place.strongroom(command);
            assert_eq!(refused.status, Some(4), "{refused:?}");
            assert!(refused.errors.contains(&format!("header copy B of container {uuid}")), "{refused:?}");
            assert!(refused.errors.contains("header repair --scan x"), "{refused:?}");
        }
    }
}

// proves: NAT-HF-08
#[test]
fn a_header_whose_journal_is_lost_is_refused_before_anything_is_kept_or_written() {
    let place = Place::of_this_user();
    place.copy_vector("journaled.img", "x");
    place.make_file("secret", "correct horse battery staple");
    // A header file from the middle of the re-encryption, which `header backup` makes none of: no preamble, both copies.
    let whole = place.bytes("x");
    let last = whole.len() - COPY_LEN;
    place.make_file("h", [&[0; 4096], &whole[..COPY_LEN], &whole[last..]].concat());
    // Copy A is lost, so that there is something to restore; of record 6 the journal, and its chunk was never in its place.
    change(&place, "x", |bytes| {
        bytes[..COPY_LEN].fill(0);
        bytes[73_728..73_744].fill(0x5a);
    });
    let (before, files) = (place.bytes("x"), place.files());
    let refused = place.strongroom("header restore x h --yes --force --password-file secret");
    assert_eq!(refused.status, Some(4), "{refused:?}");
    assert!(!refused.errors.contains("kept in"), "{refused:?}");
    assert_eq!(place.files(), files, "{refused:?}");
    assert!(place.bytes("x") == before, "{refused:?}");
}
