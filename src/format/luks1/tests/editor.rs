//! Changes of keyslots, backups, detached headers.

use std::sync::Arc;

use zerocopy::{FromBytes, IntoBytes};

use super::{super::layout::RawHeader, create::made, *};
use crate::{
    crypto::{
        kdf::{KdfCost, pbkdf2},
        rng::OsRng,
    },
    format::{Change, Editor, NewKeyslot, Priority, Room, Wishes},
    storage::{Apart, Storage},
};

fn new_slot(slot: Option<u32>, credentials: &Credentials) -> NewKeyslot<'_> {
    let cost = KdfCost::Pbkdf2 { hash: HashKind::Sha256, iterations: 1000 };
    NewKeyslot { slot, label: None, priority: Priority::Normal, cost, credentials }
}

fn small() -> MemoryStorage {
    made(2 << 20, &Wishes { cipher: Some("aes-128-cbc"), ..Wishes::default() })
}

fn edit(
    storage: &dyn Storage,
    change: impl FnOnce(&mut dyn Editor) -> crate::Result<()>,
) -> crate::Result<()> {
    let header = Luks1.read_header(storage)?;
    let unlocked = header.unlock(&credentials(b"secret"), &Attempt::default())?;
    let mut editor = header.editor(&unlocked)?;
    change(&mut *editor)?;
    editor.commit(storage)
}

fn opens(storage: &dyn Storage, password: &[u8]) -> Option<u32> {
    let header = Luks1.read_header(storage).unwrap();
    header.unlock(&credentials(password), &Attempt::default()).ok().and_then(|unlocked| unlocked.keyslot)
}

#[test]
fn keyslots_come_and_go_and_others_stay() {
    // proves: L1-EDIT-01 L1-EDIT-02 L1-EDIT-03
    let storage = small();
    let other = credentials(b"other");
    edit(&storage, |editor| editor.add(&new_slot(None, &other), &OsRng).map(drop)).unwrap();
    assert_eq!((opens(&storage, b"secret"), opens(&storage, b"other")), (Some(0), Some(1)));

    let third = credentials(b"third");
    edit(&storage, |editor| editor.replace(1, &new_slot(None, &third), &OsRng)).unwrap();
    assert_eq!((opens(&storage, b"other"), opens(&storage, b"third")), (None, Some(1)));
    let in_use = |storage: &MemoryStorage| {
        let info = Luks1.read_header(storage).unwrap().describe();
        info.keyslots.iter().map(|slot| slot.slot).collect::<Vec<_>>()
    };
    assert_eq!(in_use(&storage), [0, 1], "the one that helped is free again");

    let before = storage.to_vec();
    edit(&storage, |editor| editor.remove(1, false)).unwrap();
    let after = storage.to_vec();
    assert_eq!((opens(&storage, b"third"), in_use(&storage)), (None, vec![0]));
    let area = 4096 + 65536..4096 + 65536 + 64000;
    for (old, new) in before[area.clone()].chunks(512).zip(after[area].chunks(512)) {
        assert_ne!(old, new, "every unit of the area is overwritten");
    }
    assert_eq!(after[208 + 48 + 8..208 + 48 + 40], [0; 32], "the salt");
}

#[test]
fn changes_that_cannot_be_are_refused_and_change_nothing() {
    // proves: L1-EDIT-03 L1-EDIT-04
    let storage = small();
    let other = credentials(b"other");
    let refused = |change: &dyn Fn(&mut dyn Editor) -> crate::Result<()>| {
        let before = storage.to_vec();
        let error = edit(&storage, |editor| change(editor)).unwrap_err();
        assert!(storage.to_vec() == before);
        error.kind()
    };
    let slot = new_slot(None, &other);
    let labelled = NewKeyslot { label: Some("name"), ..new_slot(None, &other) };
    let preferred = NewKeyslot { priority: Priority::Prefer, ..new_slot(None, &other) };
    assert_eq!(refused(&|editor| editor.add(&labelled, &OsRng).map(drop)), ErrorKind::Usage);
    assert_eq!(refused(&|editor| editor.add(&preferred, &OsRng).map(drop)), ErrorKind::Usage);
    assert_eq!(refused(&|editor| editor.remove(0, false)), ErrorKind::Usage);
    assert_eq!(refused(&|editor| editor.remove(3, false)), ErrorKind::Usage);
    assert_eq!(refused(&|editor| editor.remove(8, false)), ErrorKind::Usage);
    assert_eq!(
        refused(&|editor| editor.add(&new_slot(Some(0), &other), &OsRng).map(drop)),
        ErrorKind::Exists
    );
    for _ in 1..8 {
        edit(&storage, |editor| editor.add(&slot, &OsRng).map(drop)).unwrap();
    }
    assert_eq!(refused(&|editor| editor.add(&slot, &OsRng).map(drop)), ErrorKind::NoSpace);
    let header = Luks1.read_header(&storage).unwrap();
    let full = header.check_change(&Change::Add { slot: None, label: None }).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::NoSpace);

    let unlocked = header.unlock(&credentials(b"secret"), &Attempt::default()).unwrap();
    let mut late = header.editor(&unlocked).unwrap();
    late.remove(5, false).unwrap();
    edit(&storage, |editor| editor.remove(6, false)).unwrap();
    let before = storage.to_vec();
    assert_eq!(late.commit(&storage).unwrap_err().kind(), ErrorKind::Busy);
    assert!(storage.to_vec() == before);
}

#[test]
fn where_all_are_in_use_one_is_replaced_in_place_and_that_is_told_before() {
    // proves: L1-EDIT-05
    let storage = small();
    for number in 1..8_u8 {
        let other = credentials(&[number; 9]);
        edit(&storage, |editor| {
            editor.add(&new_slot(None, &other), &OsRng)?;
            assert_eq!(editor.risks(), Vec::<String>::new());
            Ok(())
        })
        .unwrap();
    }
    let new = credentials(b"new");
    edit(&storage, |editor| {
        editor.replace(3, &new_slot(None, &new), &OsRng)?;
        assert!(editor.risks().iter().any(|risk| risk.contains("keyslot 3") && risk.contains("power cut")));
        Ok(())
    })
    .unwrap();
    assert_eq!((opens(&storage, b"new"), opens(&storage, &[3; 9])), (Some(3), None));
    assert_eq!((opens(&storage, b"secret"), opens(&storage, &[7; 9])), (Some(0), Some(7)));
}

#[test]
fn the_last_keyslot_goes_only_by_force() {
    let storage = small();
    edit(&storage, |editor| editor.remove(0, true)).unwrap();
    assert_eq!(opens(&storage, b"secret"), None);
    assert!(Luks1.read_header(&storage).unwrap().describe().keyslots.is_empty());
}

#[test]
fn a_backup_brings_the_old_keyslots_back() {
    // proves: L1-BACKUP-01 L1-BACKUP-02 L1-BACKUP-03
    let (storage, file) = (small(), MemoryStorage::default());
    Luks1.take_backup(&storage).unwrap().write(&file).unwrap();
    assert_eq!(file.to_vec().len(), 4096 + 8 * 65536);
    let alone = Luks1.read_header(&file).unwrap();
    assert_eq!(alone.describe().keyslots.len(), 1);
    let error = alone.unlock(&credentials(b"secret"), &Attempt::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    edit(&storage, |editor| editor.replace(0, &new_slot(None, &credentials(b"other")), &OsRng)).unwrap();
    let restore = Luks1.restore(&storage, &file).unwrap().unwrap();
    assert_eq!(restore.warnings(None).len(), 1);
    restore.write(&storage, None).unwrap();
    assert_eq!((opens(&storage, b"secret"), opens(&storage, b"other")), (Some(0), None));

    let foreign = small();
    assert_eq!(Luks1.restore(&foreign, &file).unwrap().unwrap().warnings(None).len(), 2);
    let elsewhere = made(4 << 20, &Wishes::default());
    assert_eq!(Luks1.restore(&elsewhere, &file).unwrap_err().kind(), ErrorKind::Usage);
    assert!(Luks1.restore(&storage, &MemoryStorage::new(vec![0; 4096])).unwrap().is_none());
}

#[test]
fn a_detached_header_opens_its_container_and_takes_changes() {
    // proves: L1-HDR-06
    let wishes = Wishes { is_detached: true, cipher: Some("aes-128-cbc"), ..Wishes::default() };
    let blueprint = Luks1.plan(Room::Container(1 << 20), &wishes, &OsRng).unwrap();
    assert_eq!(blueprint.extent().data, 0..1 << 20);
    let cost = KdfCost::Pbkdf2 { hash: HashKind::Sha256, iterations: 1000 };
    let header = blueprint.make_header(&credentials(b"secret"), Some(cost), &OsRng).unwrap();
    let (file, data) = (Arc::new(MemoryStorage::default()), Arc::new(MemoryStorage::new(vec![7; 1 << 20])));
    header.write_file(&*file).unwrap();
    let storage = Apart::new(Arc::clone(&data) as Arc<dyn Storage>, Arc::clone(&file) as Arc<dyn Storage>);
    edit(&storage, |editor| editor.add(&new_slot(None, &credentials(b"other")), &OsRng).map(drop)).unwrap();
    assert_eq!(opens(&storage, b"other"), Some(1));
    let header = Luks1.read_header(&storage).unwrap();
    let Layout::Fixed(mapping) = header.unlock(&credentials(b"secret"), &Attempt::default()).unwrap().layout
    else {
        panic!("a layout that moves")
    };
    assert_eq!((mapping.segments()[0].storage_offset, mapping.sectors()), (0, 2048));
    assert!(data.to_vec() == vec![7; 1 << 20], "nothing was written to the data");

    let attached = Luks1.attach(Arc::new(small()), file).unwrap_err();
    assert_eq!(attached.kind(), ErrorKind::Usage);
}

/// A container as the first cryptsetups made them: areas right behind the header, data right behind the areas, ten iterations
/// of the digest. Its volume key is that of [`small`].
fn early() -> MemoryStorage {
    let bytes = small().to_vec();
    let mut header = RawHeader::read_from_bytes(&bytes[..HEADER_LEN]).unwrap();
    let mut early = vec![0; EARLY_DATA + (1 << 20)];
    for (slot, index) in header.keyslots.iter_mut().zip(0_usize..) {
        let (old, new) = (8 + 128 * index, 2 + 125 * index);
        early[new * 512..][..64_000].copy_from_slice(&bytes[old * 512..][..64_000]);
        slot.area_offset.set(u32::try_from(new).unwrap());
    }
    header.payload_offset.set(u32::try_from(EARLY_DATA / 512).unwrap());
    let volume_key = {
        let storage = MemoryStorage::new(bytes);
        Luks1.read_header(&storage).unwrap().unlock(&credentials(b"secret"), &Attempt::default()).unwrap()
    };
    let digest =
        pbkdf2(HashKind::Sha256, volume_key.volume_key.expose(), &header.digest_salt, 10, 20).unwrap();
    header.digest_iterations.set(10);
    header.digest.copy_from_slice(digest.expose());
    early[..HEADER_LEN].copy_from_slice(header.as_bytes());
    MemoryStorage::new(early)
}

const EARLY_DATA: usize = (2 + 8 * 125) * 512;

#[test]
fn containers_of_the_first_cryptsetups_open_and_no_change_or_backup_touches_their_data() {
    // proves: L1-SLOT-04 L1-BACKUP-01
    let (storage, file) = (early(), MemoryStorage::default());
    assert_eq!(opens(&storage, b"secret"), Some(0));
    Luks1.take_backup(&storage).unwrap().write(&file).unwrap();
    assert_eq!(file.to_vec().len(), EARLY_DATA, "no byte of the data is in it");
    storage.write_all_at(&[0x5a; 4096], u64::try_from(EARLY_DATA).unwrap()).unwrap();

    let other = credentials(b"other");
    edit(&storage, |editor| editor.add(&new_slot(Some(7), &other), &OsRng).map(drop)).unwrap();
    assert_eq!(opens(&storage, b"other"), Some(7));
    edit(&storage, |editor| editor.remove(7, false)).unwrap();
    Luks1.restore(&storage, &file).unwrap().unwrap().write(&storage, None).unwrap();
    assert_eq!(opens(&storage, b"secret"), Some(0));
    assert_eq!(storage.to_vec()[EARLY_DATA..][..4096], [0x5a; 4096]);
    assert!(Luks1.erasure(&storage).unwrap().last.end <= u64::try_from(EARLY_DATA).unwrap());
}
