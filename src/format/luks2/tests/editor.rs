//! Changes of keyslots, backups, detached headers.

use std::sync::Arc;

use super::{
    create::{CHEAP, made},
    *,
};
use crate::{
    crypto::rng::OsRng,
    format::{Change, Editor, NewKeyslot, Priority, Room, Wishes},
    storage::{Apart, Storage},
};

fn new_slot(slot: Option<u32>, credentials: &Credentials) -> NewKeyslot<'_> {
    NewKeyslot { slot, label: None, priority: Priority::Normal, cost: CHEAP, credentials }
}

/// Room for three keyslots.
fn small() -> MemoryStorage {
    let storage = made(&Wishes {
        cipher: Some("aes-128-cbc"),
        keyslots_len: Some(3 * (64 << 10)),
        ..Wishes::default()
    });
    storage.set_size(1 << 20).unwrap();
    storage
}

fn edit(
    storage: &dyn Storage,
    change: impl FnOnce(&mut dyn Editor) -> crate::Result<()>,
) -> crate::Result<()> {
    let header = Luks2.read_header(storage)?;
    let unlocked = header.unlock(&secret(b"secret"), &Attempt::default())?;
    let mut editor = header.editor(&unlocked)?;
    change(&mut *editor)?;
    editor.commit(storage)
}

fn opens(storage: &dyn Storage, password: &[u8]) -> Option<u32> {
    let header = Luks2.read_header(storage).unwrap();
    header.unlock(&secret(password), &Attempt::default()).ok().and_then(|unlocked| unlocked.keyslot)
}

/// The JSON of the first copy.
fn json_of(storage: &MemoryStorage) -> Value {
    let bytes = storage.to_vec();
    let text = bytes[4096..16 << 10].split(|&byte| byte == 0).next().unwrap();
    serde_json::from_slice(text).unwrap()
}

#[test]
fn keyslots_come_and_go_and_both_copies_say_so() {
    // proves: L2-EDIT-01 L2-EDIT-02 L2-EDIT-03 L2-EDIT-04
    let storage = small();
    let salts = |storage: &MemoryStorage| storage.to_vec()[104..168].to_vec();
    let first = salts(&storage);
    edit(&storage, |editor| editor.add(&new_slot(Some(7), &secret(b"other")), &OsRng).map(drop)).unwrap();
    assert_eq!((opens(&storage, b"secret"), opens(&storage, b"other")), (Some(0), Some(7)));
    assert_ne!(salts(&storage), first);
    edit(&storage, |editor| editor.replace(7, &new_slot(None, &secret(b"third")), &OsRng)).unwrap();
    assert_eq!((opens(&storage, b"other"), opens(&storage, b"third")), (None, Some(7)));
    let place = json_of(&storage)["keyslots"]["7"]["area"]["offset"].as_str().unwrap().to_owned();
    assert_eq!(place, (32768 + 2 * 65536).to_string(), "beside the old one");

    let before = storage.to_vec();
    edit(&storage, |editor| editor.remove(7, false)).unwrap();
    let after = storage.to_vec();
    assert_eq!(opens(&storage, b"third"), None);
    let area = 32768 + 2 * 65536..32768 + 2 * 65536 + 64000;
    for (old, new) in before[area.clone()].chunks(512).zip(after[area].chunks(512)) {
        assert_ne!(old, new, "every unit of the area is overwritten");
    }
    let info = read(after).describe();
    let copies: Vec<_> = info.headers.iter().map(|copy| (copy.state, copy.sequence)).collect();
    assert_eq!(copies, [(CopyState::Current, Some(4)); 2]);
}

#[test]
fn what_is_not_known_stays_and_tokens_lose_the_number_only() {
    // proves: L2-EDIT-06
    let mut json = metadata();
    json["tokens"] = json!({
        "0": {"type": "systemd-tpm2", "keyslots": ["0", "1"], "tpm2-blob": "AAAA", "n": 1.5},
        "3": {"type": "note", "keyslots": ["1"], "deep": {"list": [1, {"a": null}]}},
    });
    json["keyslots"]["1"] = json["keyslots"]["0"].clone();
    json["keyslots"]["1"]["area"]["offset"] = json!((32768 + 131_072).to_string());
    json["keyslots"]["1"]["odd"] = json!("kept");
    json["digests"]["0"]["keyslots"] = json!(["0", "1"]);
    json["config"]["keyslots_size"] = json!((4 * 131_072).to_string());
    json["config"]["later"] = json!([true]);
    json["invention"] = json!({"x": "y"});
    let storage = MemoryStorage::new(container(&json));

    edit(&storage, |editor| editor.replace(1, &new_slot(None, &secret(b"new")), &OsRng)).unwrap();
    let replaced = json_of(&storage);
    assert_eq!(replaced["keyslots"]["1"]["odd"], "kept");
    assert_eq!((&replaced["tokens"], &replaced["digests"]), (&json["tokens"], &json["digests"]));
    assert_eq!(opens(&storage, b"new"), Some(1));

    edit(&storage, |editor| editor.remove(1, false)).unwrap();
    let removed = json_of(&storage);
    json["keyslots"].as_object_mut().unwrap().remove("1");
    json["digests"]["0"]["keyslots"] = json!(["0"]);
    json["tokens"]["0"]["keyslots"] = json!(["0"]);
    json["tokens"]["3"]["keyslots"] = json!([]);
    assert_eq!(removed, json);
}

#[test]
fn changes_that_cannot_be_are_refused_and_change_nothing() {
    // proves: L2-EDIT-01 L2-EDIT-05
    let storage = small();
    let other = secret(b"other");
    let refused = |change: &dyn Fn(&mut dyn Editor) -> crate::Result<()>| {
        let before = storage.to_vec();
        let error = edit(&storage, |editor| change(editor)).unwrap_err();
        assert!(storage.to_vec() == before);
        error.kind()
    };
    let labelled = NewKeyslot { label: Some("name"), ..new_slot(None, &other) };
    assert_eq!(refused(&|editor| editor.add(&labelled, &OsRng).map(drop)), ErrorKind::Usage);
    assert_eq!(refused(&|editor| editor.remove(0, false)), ErrorKind::Usage);
    assert_eq!(refused(&|editor| editor.remove(31, false)), ErrorKind::Usage);
    assert_eq!(refused(&|editor| editor.remove(32, false)), ErrorKind::Usage);
    for _ in 0..2 {
        edit(&storage, |editor| editor.add(&new_slot(None, &other), &OsRng).map(drop)).unwrap();
    }
    assert_eq!(refused(&|editor| editor.add(&new_slot(None, &other), &OsRng).map(drop)), ErrorKind::NoSpace);

    let header = Luks2.read_header(&storage).unwrap();
    let unlocked = header.unlock(&secret(b"secret"), &Attempt::default()).unwrap();
    let mut late = header.editor(&unlocked).unwrap();
    late.remove(1, false).unwrap();
    edit(&storage, |editor| editor.remove(2, false)).unwrap();
    let before = storage.to_vec();
    assert_eq!(late.commit(&storage).unwrap_err().kind(), ErrorKind::Busy);
    assert!(storage.to_vec() == before);
}

#[test]
fn where_there_is_no_room_beside_it_a_keyslot_is_replaced_in_place_and_that_is_told_before() {
    // proves: L2-EDIT-07
    let storage = small();
    for number in 1..3_u8 {
        let other = secret(&[number; 9]);
        edit(&storage, |editor| editor.add(&new_slot(None, &other), &OsRng).map(drop)).unwrap();
    }
    let new = secret(b"new");
    edit(&storage, |editor| {
        editor.replace(1, &new_slot(None, &new), &OsRng)?;
        assert!(editor.risks().iter().any(|risk| risk.contains("keyslot 1") && risk.contains("power cut")));
        Ok(())
    })
    .unwrap();
    assert_eq!((opens(&storage, b"new"), opens(&storage, &[1; 9])), (Some(1), None));
    assert_eq!((opens(&storage, b"secret"), opens(&storage, &[2; 9])), (Some(0), Some(2)));
}

#[test]
fn advice_to_remove_a_keyslot_is_not_given_where_one_is_left() {
    let storage =
        made(&Wishes { cipher: Some("aes-128-cbc"), keyslots_len: Some(64 << 10), ..Wishes::default() });
    let other = secret(b"other");
    let error = edit(&storage, |editor| editor.add(&new_slot(None, &other), &OsRng).map(drop)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(!error.hint().unwrap().contains("key remove"), "{error:?}");
    edit(&storage, |editor| editor.replace(0, &new_slot(None, &other), &OsRng)).unwrap();
    assert_eq!((opens(&storage, b"secret"), opens(&storage, b"other")), (None, Some(0)));
}

/// A second keyslot, that this token names, or that holds another key where it is none.
fn with_second(token: Option<&str>) -> MemoryStorage {
    let mut json = metadata();
    json["keyslots"]["1"] = json["keyslots"]["0"].clone();
    json["keyslots"]["1"]["area"]["offset"] = json!((32768 + 131_072).to_string());
    json["config"]["keyslots_size"] = json!((4 * 131_072).to_string());
    if let Some(token) = token {
        json["digests"]["0"]["keyslots"] = json!(["0", "1"]);
        json["tokens"] = json!({"0": {"type": token, "keyslots": ["1"]}});
    } else {
        json["digests"]["1"] = json["digests"]["0"].clone();
        json["digests"]["1"]["keyslots"] = json!(["1"]);
        json["digests"]["1"]["segments"] = json!([]);
    }
    MemoryStorage::new(container(&json))
}

#[test]
fn a_keyslot_of_a_token_is_called_so_and_is_no_way_in_for_people() {
    // proves: L2-TOKEN-01
    for (token, kind) in [
        ("systemd-tpm2", "tpm2"),
        ("systemd-fido2", "fido2"),
        ("systemd-pkcs11", "pkcs11"),
        ("clevis", "clevis"),
        ("of-somebody", "token"),
    ] {
        let storage = with_second(Some(token));
        let slots = Luks2.read_header(&storage).unwrap().describe().keyslots;
        assert_eq!((slots[0].kind, slots[0].token.as_deref()), ("password", None));
        assert_eq!((slots[1].kind, slots[1].token.as_deref()), (kind, Some(token)));
        let error = edit(&storage, |editor| editor.remove(0, false)).unwrap_err();
        assert!(error.reason().contains("the last one that people can open"), "{error}");
        assert!(error.reason().contains(token), "{error}");
        edit(&storage, |editor| editor.remove(1, false)).unwrap();
        edit(&with_second(Some(token)), |editor| editor.remove(0, true)).unwrap();
    }
    for (token, is_taken_for_typed) in [("systemd-recovery", true), ("luks2-keyring", false)] {
        let storage = with_second(Some(token));
        assert_eq!(Luks2.read_header(&storage).unwrap().describe().keyslots[1].kind, "password");
        assert_eq!(edit(&storage, |editor| editor.remove(0, false)).is_ok(), is_taken_for_typed, "{token}");
    }
}

#[test]
fn a_keyslot_of_another_key_is_unbound_whoever_asks() {
    let storage = with_second(None);
    let header = Luks2.read_header(&storage).unwrap();
    assert_eq!(header.describe().keyslots[1].kind, "unbound");
    let attempt = Attempt { keyslot: Some(1), ..Attempt::default() };
    let tested = header.unlock(&secret(b"secret"), &attempt).unwrap_err();
    let added = header.check_change(&Change::Add { slot: Some(1), label: None }).unwrap_err();
    let changed = header.check_change(&Change::Replace { slot: 1, label: None }).unwrap_err();
    for error in [&tested, &added, &changed] {
        assert!(error.reason().starts_with("keyslot 1 is unbound"), "{error}");
    }
    assert_eq!((tested.kind(), added.kind()), (ErrorKind::Usage, ErrorKind::Exists));
    header.check_change(&Change::Remove { slot: 1, lock_out: false }).unwrap();
}

#[test]
fn thirty_two_keyslots_fit_and_no_more() {
    let storage = made(&Wishes { cipher: Some("aes-128-cbc"), ..Wishes::default() });
    let other = secret(b"other");
    edit(&storage, |editor| {
        for expected in 1..24 {
            assert_eq!(editor.add(&new_slot(None, &other), &OsRng).unwrap(), expected);
        }
        Ok(())
    })
    .unwrap();
    let full = edit(&storage, |editor| {
        while editor.add(&new_slot(None, &other), &OsRng)? < 31 {}
        editor.add(&new_slot(None, &other), &OsRng).map(drop)
    });
    let error = full.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
}

#[test]
fn priorities_are_kept_and_unbound_keys_are_named() {
    let storage = small();
    let other = secret(b"other");
    let preferred = NewKeyslot { priority: Priority::Prefer, ..new_slot(None, &other) };
    edit(&storage, |editor| editor.add(&preferred, &OsRng).map(drop)).unwrap();
    let priority = |storage: &MemoryStorage| {
        Luks2.read_header(storage).unwrap().describe().keyslots[1].priority.unwrap()
    };
    assert_eq!(priority(&storage), Priority::Prefer);
    edit(&storage, |editor| editor.replace(1, &new_slot(None, &other), &OsRng)).unwrap();
    assert_eq!(priority(&storage), Priority::Normal);

    let mut json = metadata();
    json["keyslots"]["1"] = json["keyslots"]["0"].clone();
    json["keyslots"]["1"]["area"]["offset"] = json!((32768 + 131_072).to_string());
    json["config"]["keyslots_size"] = json!((2 * 131_072).to_string());
    json["digests"]["1"] = json["digests"]["0"].clone();
    json["digests"]["1"]["keyslots"] = json!(["1"]);
    json["digests"]["1"]["segments"] = json!([]);
    let storage = MemoryStorage::new(container(&json));
    let kinds: Vec<_> = read(storage.to_vec()).describe().keyslots.iter().map(|slot| slot.kind).collect();
    assert_eq!(kinds, ["password", "unbound"]);
    let error = edit(&storage, |editor| editor.remove(0, false)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "an unbound key is no way in");
    edit(&storage, |editor| editor.remove(1, false)).unwrap();
}

#[test]
fn a_backup_brings_the_old_keyslots_back() {
    // proves: L2-BACKUP-01 L2-BACKUP-02 L2-BACKUP-03
    let (storage, file) = (small(), MemoryStorage::default());
    Luks2.take_backup(&storage).unwrap().write(&file).unwrap();
    assert_eq!(file.to_vec().len(), 32768 + 3 * 65536);
    edit(&storage, |editor| editor.replace(0, &new_slot(None, &secret(b"other")), &OsRng)).unwrap();
    let restore = Luks2.restore(&storage, &file).unwrap().unwrap();
    assert_eq!(restore.warnings(None).len(), 1);
    restore.write(&storage, None).unwrap();
    assert_eq!((opens(&storage, b"secret"), opens(&storage, b"other")), (Some(0), None));
    let info = read(storage.to_vec()).describe();
    assert!(info.headers.iter().all(|copy| (copy.state, copy.sequence) == (CopyState::Current, Some(3))));

    assert_eq!(Luks2.restore(&small(), &file).unwrap().unwrap().warnings(None).len(), 2);
    let elsewhere = made(&Wishes { cipher: Some("aes-128-cbc"), ..Wishes::default() });
    assert_eq!(Luks2.restore(&elsewhere, &file).unwrap_err().kind(), ErrorKind::Usage);
    assert!(Luks2.restore(&storage, &MemoryStorage::new(vec![0; 4096])).unwrap().is_none());
}

#[test]
fn a_detached_header_opens_its_container_and_takes_changes() {
    // proves: L2-OPEN-06
    let wishes = Wishes { is_detached: true, keyslots_len: Some(1 << 20), ..Wishes::default() };
    let blueprint = Luks2.plan(Room::Container(1 << 20), &wishes, &OsRng).unwrap();
    assert_eq!(blueprint.extent().data, 0..1 << 20);
    let header = blueprint.make_header(&secret(b"secret"), Some(CHEAP), &OsRng).unwrap();
    let (file, data) = (Arc::new(MemoryStorage::default()), Arc::new(MemoryStorage::new(vec![7; 1 << 20])));
    header.write_file(&*file).unwrap();
    let storage = Apart::new(Arc::clone(&data) as Arc<dyn Storage>, Arc::clone(&file) as Arc<dyn Storage>);
    edit(&storage, |editor| editor.add(&new_slot(None, &secret(b"other")), &OsRng).map(drop)).unwrap();
    assert_eq!(opens(&storage, b"other"), Some(1));
    let header = Luks2.read_header(&storage).unwrap();
    let Layout::Fixed(mapping) = header.unlock(&secret(b"secret"), &Attempt::default()).unwrap().layout
    else {
        panic!("a layout that moves")
    };
    assert_eq!((mapping.segments()[0].storage_offset, mapping.sectors()), (0, 256));
    assert!(data.to_vec() == vec![7; 1 << 20], "nothing was written to the data");
    assert_eq!(Luks2.attach(Arc::new(small()), file).unwrap_err().kind(), ErrorKind::Usage);
}
