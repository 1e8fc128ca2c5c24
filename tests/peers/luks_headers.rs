//! Keyslots, backups and detached headers of LUKS: changed, made and put back by strongroom and cryptsetup by turns.

use std::fs;

use crate::{
    PASSWORD,
    guest::{Guest, assert_all_done},
    luks::DATA,
    pattern,
    place::Place,
    place_of_ordinary_user, programs, read_by_strongroom,
};

const CHEAP: [(&str, &str); 2] = [
    ("luks1", "--hash sha256 --kdf-iterations 1000"),
    ("luks2", "--pbkdf argon2id --kdf-memory 32K --kdf-passes 4 --kdf-lanes 1"),
];

/// Whether cryptsetup opens the container with what is in this file of the place.
fn is_opened_by_cryptsetup(place: &Place, key: &str) -> bool {
    let script =
        format!("cryptsetup open --test-passphrase --disable-locks --key-file {key} c.img || echo no");
    place.shell(&script).is_empty()
}

/// The same for strongroom.
fn is_opened(place: &Place, key: &str) -> bool {
    let output = place.strongroom(&format!("key test c.img --password-file {key}"));
    // 4: there is no keyslot at all.
    assert!(matches!(output.status, Some(0 | 2 | 4)), "{output:?}");
    output.status == Some(0)
}

fn cryptsetup(place: &Place, arguments: &str) {
    place.shell(&format!("cryptsetup --batch-mode --disable-locks {arguments}"));
}

#[test]
fn cryptsetup_and_strongroom_change_keyslots_by_turns() {
    let Some(place) = place_of_ordinary_user() else { return };
    if !programs::is_there("cryptsetup") {
        return;
    }
    for name in ["first", "second", "third", "fourth"] {
        place.make_file(name, format!("the {name} pass phrase, long enough"));
    }
    for (format, cost) in CHEAP {
        place.done(&format!("create c.img --format {format} --size 20M --filesystem none --provision quick {cost} --password-file first"));
        place.done(&format!("key add c.img --password-file first --new-password-file second {cost}"));
        assert!(
            is_opened_by_cryptsetup(&place, "first") && is_opened_by_cryptsetup(&place, "second"),
            "{format}"
        );

        cryptsetup(
            &place,
            "luksAddKey --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file first c.img third",
        );
        assert!(["first", "second", "third"].iter().all(|key| is_opened(&place, key)), "{format}");
        // Slot 2 is cryptsetup's.
        place.done(&format!(
            "key change c.img --slot 2 --password-file third --new-password-file fourth {cost}"
        ));
        assert!(
            is_opened_by_cryptsetup(&place, "fourth") && !is_opened_by_cryptsetup(&place, "third"),
            "{format}"
        );

        cryptsetup(&place, "luksKillSlot --key-file fourth c.img 0");
        assert!(
            !is_opened(&place, "first") && is_opened(&place, "second") && is_opened(&place, "fourth"),
            "{format}"
        );
        place.done("key remove c.img --slot 1 --password-file fourth");
        assert!(
            !is_opened_by_cryptsetup(&place, "second") && is_opened_by_cryptsetup(&place, "fourth"),
            "{format}"
        );
        fs::remove_file(place.path("c.img")).unwrap();
    }
}

#[test]
fn cryptsetup_and_strongroom_restore_each_others_header_backups() {
    let Some(place) = place_of_ordinary_user() else { return };
    if !programs::is_there("cryptsetup") {
        return;
    }
    for (format, cost) in CHEAP {
        place.done(&format!("create c.img --format {format} --size 20M --filesystem none --provision quick {cost} --password-file key"));
        place.done("header backup c.img ours");
        cryptsetup(&place, "luksHeaderBackup c.img --header-backup-file theirs");

        cryptsetup(&place, "luksErase c.img");
        assert!(!is_opened(&place, "key"), "{format}");
        cryptsetup(&place, "luksHeaderRestore c.img --header-backup-file ours");
        assert!(is_opened(&place, "key") && is_opened_by_cryptsetup(&place, "key"), "{format}");

        place.done("erase c.img --yes");
        assert!(!is_opened_by_cryptsetup(&place, "key"), "{format}");
        place.done("header restore c.img theirs --yes --force --password-file key");
        assert!(is_opened(&place, "key") && is_opened_by_cryptsetup(&place, "key"), "{format}");
        place.shell("rm c.img ours theirs");
    }
}

#[test]
fn detached_headers_are_dm_crypts_both_ways() {
    let (Some(mut guest), Some(place)) = (Guest::new(), place_of_ordinary_user()) else { return };
    let plain = pattern(DATA);
    fs::write(guest.path("plain"), &plain).unwrap();
    fs::write(guest.path("key"), PASSWORD).unwrap();
    place.make_file("plain", &plain);
    for (format, cost) in CHEAP {
        let (data, header) = (format!("{format}-ours"), format!("{format}-ours.header"));
        place.done(&format!(
            "create {data} --header {header} --format {format} --size 2M --filesystem none --provision quick {cost} \
             --password-file password"
        ));
        place.done(&format!("mount --block {data} m --header {header} --password-file password"));
        place.shell("dd if=plain of=m/volume bs=64k conv=notrunc,fsync status=none");
        place.done("unmount m");
        for name in [&data, &header] {
            programs::copy(&place.path(name), &guest.path(name));
        }
        guest.add(
            &data,
            &format!(
                "cryptsetup open --header {header} --key-file key {data} volume
                 head --bytes={DATA} /dev/mapper/volume | cmp - plain
                 cryptsetup close volume"
            ),
        );
        let (data, header) = (format!("{format}-theirs"), format!("{format}-theirs.header"));
        fs::File::create(guest.path(&data)).unwrap().set_len(2 << 20).unwrap();
        guest.add(
            &data,
            &format!(
                "cryptsetup luksFormat --batch-mode --use-urandom --type {format} --cipher serpent-xts-plain64 \
                     --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --header {header} {data} key
                 cryptsetup open --header {header} --key-file key {data} volume
                 dd if=plain of=/dev/mapper/volume bs=64k conv=fsync status=none
                 cryptsetup close volume"
            ),
        );
    }
    assert_all_done(&guest.run());
    for (format, _) in CHEAP {
        let (data, header) = (format!("{format}-theirs"), format!("{format}-theirs.header"));
        for name in [&data, &header] {
            programs::copy(&guest.path(name), &place.path(name));
            place.give(&place.path(name));
        }
        let options = format!("--header {header}");
        assert!(read_by_strongroom(&place, &place.path(&data), &options, DATA) == plain, "{format}");
    }
}
