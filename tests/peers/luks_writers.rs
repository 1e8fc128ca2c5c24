//! LUKS1 and LUKS2 of strongroom, read by other programs.

use std::{fs, path::PathBuf};

use crate::{
    PASSWORD,
    combinations::{COMBINATIONS, Combination},
    guest::{Guest, assert_all_done},
    luks::DATA,
    pattern,
    place::Place,
    place_of_ordinary_user, programs,
};

/// A container of strongroom's with the data.
fn make_by_strongroom(place: &Place, combination: &Combination, plain: &[u8]) -> PathBuf {
    let name = format!("{combination}.img");
    let size = combination.container_size(u64::try_from(DATA).unwrap());
    place.done(&format!(
        "create {name} --size {size} --filesystem none --provision quick --password-file password {}",
        combination.strongroom_options()
    ));
    place.make_file("plain", plain);
    place.done(&format!("mount --block {name} m --password-file password"));
    place.shell("dd if=plain of=m/volume bs=64k conv=notrunc,fsync status=none");
    place.done("unmount m");
    place.path(&name)
}

/// Compares what `luksDump` prints with what was asked for.
fn check_dump(combination: &Combination, dump: &str) {
    let dump: String = dump.split([' ', '\t']).collect();
    for fact in combination.facts() {
        assert!(dump.contains(&fact), "{combination}: no {fact} in {dump}");
    }
}

#[test]
fn dm_crypt_and_cryptsetup_read_what_strongroom_wrote() {
    let (Some(mut guest), Some(place)) = (Guest::new(), place_of_ordinary_user()) else { return };
    let plain = pattern(DATA);
    fs::write(guest.path("plain"), &plain).unwrap();
    fs::write(guest.path("key"), PASSWORD).unwrap();
    for combination in COMBINATIONS {
        let container = make_by_strongroom(&place, &combination, &plain);
        programs::copy(&container, &guest.path(&format!("{combination}.img")));
        fs::remove_file(container).unwrap();
        let script = format!(
            "cryptsetup luksDump {combination}.img
             cryptsetup open --test-passphrase --key-file key {combination}.img
             cryptsetup open --key-file key {combination}.img volume
             head --bytes={DATA} /dev/mapper/volume | cmp - plain
             cryptsetup close volume"
        );
        guest.add(&combination.to_string(), &script);
    }
    let answers = guest.run();
    assert_all_done(&answers);
    for combination in COMBINATIONS {
        check_dump(&combination, &answers[&combination.to_string()].output);
    }
    place.assert_clean();
}

#[test]
fn cryptsetup_by_itself_decrypts_what_strongroom_wrote() {
    let Some(place) = place_of_ordinary_user() else { return };
    if !programs::is_there("cryptsetup") {
        return;
    }
    let plain = pattern(DATA);
    let key = place.path("key");
    for combination in COMBINATIONS.into_iter().filter(Combination::is_aes) {
        let container = make_by_strongroom(&place, &combination, &plain);
        let name = container.to_str().unwrap();
        programs::cryptsetup(&["open", "--test-passphrase", "--key-file", key.to_str().unwrap(), name]);
        check_dump(&combination, &programs::cryptsetup(&["luksDump", name]));
        let content = programs::read_by_cryptsetup(&container, &key, combination.version == 1);
        assert!(content[..DATA] == plain, "{combination}: other data");
        fs::remove_file(container).unwrap();
    }
}

#[test]
fn qemu_reads_what_strongroom_wrote() {
    let Some(place) = place_of_ordinary_user() else { return };
    if !programs::is_there("qemu-img") {
        return;
    }
    let plain = pattern(DATA);
    for combination in COMBINATIONS.into_iter().filter(Combination::is_of_qemu) {
        let container = make_by_strongroom(&place, &combination, &plain);
        let content = programs::read_by_qemu(&container, &place.path("key"), &place.path("decrypted"));
        assert!(content[..DATA] == plain, "{combination}: other data");
        fs::remove_file(container).unwrap();
    }
}

#[test]
fn dissect_reads_what_strongroom_wrote() {
    let (Some(place), Some(python)) = (place_of_ordinary_user(), programs::python()) else { return };
    let plain = pattern(DATA);
    for combination in COMBINATIONS.into_iter().filter(Combination::is_aes) {
        let container = make_by_strongroom(&place, &combination, &plain);
        let content = programs::read_by_dissect(&python, &container, &place.path("key"), DATA);
        assert!(content == plain, "{combination}: other data");
        fs::remove_file(container).unwrap();
    }
}
