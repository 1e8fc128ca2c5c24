//! LUKS1 and LUKS2: the same promises as for strongroom's own format, on small containers with cheap key derivations.

use std::{ops::ControlFlow, sync::Arc};

use strongroom::{
    Result,
    crypto::{
        hash::HashKind,
        kdf::KdfCost,
        rng::OsRng,
        secret::{Credentials, Password},
    },
    format::{
        Attempt, Blueprint, Editor, Format, NewKeyslot, Priority, Provision, Room, Wishes, luks1::Luks1,
        luks2::Luks2,
    },
    storage::{MemoryStorage, SimStorage, Storage},
    volume::{find_empty, prepare_growth, prepare_storage},
};

use crate::{
    container::{Counting, read_all},
    harness::{self, Case, Trial},
};

const COST: KdfCost = KdfCost::Pbkdf2 { hash: HashKind::Sha256, iterations: 1000 };
const DATA_LEN: u64 = 64 << 10;
/// Both, with the place of the data in the containers made here.
const FORMATS: [(&dyn Format, u64); 2] = [(&Luks1, 1 << 20), (&Luks2, (32 << 10) + KEYSLOTS_LEN)];
/// Three areas of a 128-bit key.
const KEYSLOTS_LEN: u64 = 3 * (64 << 10);

fn secret(number: u8) -> Credentials {
    Credentials::Password { password: Password::copy_of(&[b'0' + number]).unwrap(), keyfiles: Vec::new() }
}

fn blueprint(format: &dyn Format, data_offset: u64) -> Box<dyn Blueprint> {
    let wishes =
        Wishes { cipher: Some("aes-128-cbc"), keyslots_len: Some(KEYSLOTS_LEN), ..Wishes::default() };
    format.plan(Room::Container(data_offset + DATA_LEN), &wishes, &Counting::default()).unwrap()
}

/// Which of the secrets open it, each by giving the one volume key.
fn openers(format: &dyn Format, storage: &SimStorage) -> Vec<u8> {
    let Ok(header) = format.read_header(storage) else { return Vec::new() };
    (0..4).filter(|&number| header.unlock(&secret(number), &Attempt::default()).is_ok()).collect()
}

fn content(format: &dyn Format, storage: &SimStorage, number: u8) -> Vec<u8> {
    let header = format.read_header(storage).unwrap();
    read_all(storage, header.unlock(&secret(number), &Attempt::default()).unwrap().layout)
}

fn open_for_writing(format: &dyn Format, storage: &SimStorage, number: u8) -> Result<()> {
    let header = format.read_header(storage)?;
    let unlocked = header.unlock(&secret(number), &Attempt::default())?;
    header.prepare_writing(storage, &unlocked).map(drop)
}

fn create(format: &dyn Format, data_offset: u64, storage: &SimStorage) -> Result<()> {
    let blueprint = blueprint(format, data_offset);
    let mut unseen = |_, _| ControlFlow::Continue(());
    let extent = blueprint.extent();
    prepare_storage(storage, &extent, Provision::Quick, &Counting::default(), &mut unseen)?;
    blueprint.make_header(&secret(0), Some(COST), &OsRng)?.write(storage)
}

// proves: L1-WRITE-07 L2-WRITE-04
#[test]
fn a_container_in_the_making_is_none_or_a_whole_one() {
    for (format, data_offset) in FORMATS {
        for before in [SimStorage::new(Vec::new()), SimStorage::device(old_container(format, data_offset))] {
            // After an error the container is made anew, though it may open: what a failed sync lost still shows in the cache.
            let command = |storage: &Arc<SimStorage>, has_told: &mut bool| {
                let result = create(format, data_offset, storage);
                *has_told = result.is_err() && storage.size().is_ok();
                result
            };
            let again = |storage: &Arc<SimStorage>, has_told: &mut bool| {
                if !*has_told && openers(format, storage).contains(&0) {
                    return open_for_writing(format, storage, 0);
                }
                create(format, data_offset, storage)
            };
            let trial = Trial {
                before: &before,
                model: false,
                command: &command,
                recovery: &again,
                recover_every: 9,
            };
            trial.prove(&|case: &Case<bool>| {
                let found = openers(format, &case.medium);
                let is_promised = case.done || case.recovered && case.is_clean;
                assert!(found == [0] || !is_promised, "{found:?}: {}", case.how);
                if found == [0] {
                    assert_eq!(content(format, &case.medium, 0).len() as u64, DATA_LEN, "{}", case.how);
                }
            });
        }
    }
}

/// What stood there before: it opens with secret 3.
fn old_container(format: &dyn Format, data_offset: u64) -> Vec<u8> {
    let storage = SimStorage::new(vec![0; usize::try_from(data_offset + DATA_LEN).unwrap()]);
    let blueprint = blueprint(format, data_offset);
    blueprint.make_header(&secret(3), Some(COST), &OsRng).unwrap().write(&storage).unwrap();
    storage.live().to_vec()
}

/// A small container that secrets 0 and 1 open.
fn container(format: &dyn Format, data_offset: u64) -> SimStorage {
    let storage = SimStorage::new(vec![0; usize::try_from(data_offset + DATA_LEN).unwrap()]);
    let blueprint = blueprint(format, data_offset);
    blueprint.make_header(&secret(0), Some(COST), &OsRng).unwrap().write(&storage).unwrap();
    edit(format, &storage, |editor| editor.add(&slot(&secret(1)), &OsRng).map(drop)).unwrap();
    storage
}

fn slot(credentials: &Credentials) -> NewKeyslot<'_> {
    NewKeyslot { slot: None, label: None, priority: Priority::Normal, cost: COST, credentials }
}

/// Changes keyslots as the owner of secret 0 does.
fn edit(
    format: &dyn Format,
    storage: &SimStorage,
    change: impl FnOnce(&mut dyn Editor) -> Result<()>,
) -> Result<()> {
    open_for_writing(format, storage, 0)?;
    let header = format.read_header(storage)?;
    let unlocked = header.unlock(&secret(0), &Attempt::default())?;
    let mut editor = header.editor(&unlocked)?;
    change(&mut *editor)?;
    editor.commit(storage)
}

/// Secret 0 opens at every stop; of the others those that opened before or those that are to open after. Where one takes the
/// place of another, both may for a while.
fn prove_edit(change: &dyn Fn(&mut dyn Editor) -> Result<()>, old: &[u8], new: &[u8]) {
    for (format, data_offset) in FORMATS {
        let before = container(format, data_offset);
        let expected = content(format, &before, 0);
        let heal = |storage: &SimStorage| match format.read_header(storage) {
            Ok(_) => open_for_writing(format, storage, 0),
            // Torn within a sector, see below.
            Err(_) if format.name() == "luks1" => Ok(()),
            Err(error) => Err(error),
        };
        harness::prove(&before, &|storage| edit(format, storage, change), &heal, &|case| {
            let found = openers(format, &case.medium);
            // The header of LUKS1 has no copy: it stands what a medium does that writes whole sectors, and no more.
            if format.name() == "luks1" && case.how.contains("Random") {
                return;
            }
            let has = |wanted: &[u8]| wanted.iter().all(|number| found.contains(number));
            assert!(has(old) || has(new), "opens with {found:?}: {}", case.how);
            assert!(!case.done || found == new, "opens with {found:?}: {}", case.how);
            // Where nothing is taken away, each keyslot that the header names opens.
            let named = format.read_header(&*case.medium).unwrap().describe().keyslots.len();
            assert!(named == found.len() || new.len() <= old.len(), "{named}, {found:?}: {}", case.how);
            assert!(content(format, &case.medium, 0) == expected, "{}", case.how);
        });
    }
}

// proves: L1-EDIT-01 L2-EDIT-02 L2-EDIT-04
#[test]
fn adding_a_luks_key_leaves_the_old_keys_or_the_new_at_every_stop() {
    prove_edit(&|editor| editor.add(&slot(&secret(2)), &OsRng).map(drop), &[0, 1], &[0, 1, 2]);
}

// proves: L1-EDIT-03 L2-EDIT-03
#[test]
fn changing_a_luks_key_leaves_the_old_key_or_the_new_at_every_stop() {
    prove_edit(&|editor| editor.replace(1, &slot(&secret(2)), &OsRng), &[0, 1], &[0, 2]);
}

/// There is no room for a new area beside the old one.
// proves: L2-EDIT-03
#[test]
fn a_change_in_place_says_that_it_risks_its_keyslot_and_no_stop_takes_another() {
    let (keyslots_len, data_offset) = (2 * (64 << 10), (32 << 10) + 2 * (64 << 10));
    let before = SimStorage::new(vec![0; usize::try_from(data_offset + DATA_LEN).unwrap()]);
    let wishes =
        Wishes { cipher: Some("aes-128-cbc"), keyslots_len: Some(keyslots_len), ..Wishes::default() };
    let room = Room::Container(data_offset + DATA_LEN);
    let blueprint = Luks2.plan(room, &wishes, &Counting::default()).unwrap();
    blueprint.make_header(&secret(0), Some(COST), &OsRng).unwrap().write(&before).unwrap();
    edit(&Luks2, &before, |editor| editor.add(&slot(&secret(1)), &OsRng).map(drop)).unwrap();
    let expected = content(&Luks2, &before, 0);
    let change = |storage: &SimStorage| {
        edit(&Luks2, storage, |editor| {
            editor.replace(1, &slot(&secret(2)), &OsRng)?;
            assert_eq!(editor.risks().len(), 1, "{:?}", editor.risks());
            Ok(())
        })
    };
    let heal = |storage: &SimStorage| open_for_writing(&Luks2, storage, 0);
    harness::prove(&before, &change, &heal, &|case| {
        let found = openers(&Luks2, &case.medium);
        assert!(found.contains(&0), "opens with {found:?}: {}", case.how);
        assert!(!case.done || found == [0, 2], "opens with {found:?}: {}", case.how);
        assert!(content(&Luks2, &case.medium, 0) == expected, "{}", case.how);
    });
}

// proves: L1-EDIT-02 L2-EDIT-03
#[test]
fn removing_a_luks_key_leaves_the_old_keys_or_the_new_at_every_stop() {
    prove_edit(&|editor| editor.remove(1, false), &[0, 1], &[0]);
}

// proves: L1-BACKUP-03 L2-BACKUP-03
#[test]
fn restoring_a_luks_header_can_be_repeated_after_every_stop() {
    for (format, data_offset) in FORMATS {
        let (before, file) = (container(format, data_offset), MemoryStorage::default());
        format.take_backup(&before).unwrap().write(&file).unwrap();
        edit(format, &before, |editor| editor.replace(1, &slot(&secret(2)), &OsRng)).unwrap();
        let restore = |storage: &SimStorage| {
            format.restore(storage, &file)?.map_or(Ok(()), |restore| restore.write(storage, None))
        };
        harness::prove(&before, &restore, &restore, &|case| {
            let found = openers(format, &case.medium);
            assert!(found == [0, 1] || !case.done, "opens with {found:?}: {}", case.how);
            let again = SimStorage::clone(&case.medium);
            restore(&again).unwrap_or_else(|error| panic!("{error}: {}", case.how));
            assert_eq!(openers(format, &again), [0, 1], "{}", case.how);
        });
    }
}

#[test]
fn a_growing_luks_container_opens_at_every_stop_and_the_same_command_ends_it() {
    for (format, data_offset) in FORMATS {
        let before = container(format, data_offset);
        // What was written is no zeros.
        let written = vec![0x5a; usize::try_from(DATA_LEN).unwrap()];
        before.write_all_at(&written, data_offset).unwrap();
        before.sync_data().unwrap();
        let expected = content(format, &before, 0);
        let new_len = data_offset + DATA_LEN + 4096;
        let grow = |storage: &SimStorage| {
            let rng = Counting::default();
            let header = format.read_header(storage)?;
            let unlocked = header.unlock(&secret(0), &Attempt::default())?;
            let growth = header.growth(&unlocked, &secret(0), new_len, &rng)?;
            prepare_growth(storage, &*growth, &rng, &mut |_, _| ControlFlow::Continue(()))?;
            growth.commit(storage)
        };
        let trial = Trial {
            before: &before,
            model: (),
            command: &|storage, ()| grow(storage),
            recovery: &|storage, ()| grow(storage),
            recover_every: 9,
        };
        trial.prove(&|case: &Case<()>| {
            let found = content(format, &case.medium, 0);
            assert!(found[..expected.len()] == expected, "{}", case.how);
            // Whoever runs it again after a stop has it whole; a failed sync may hide from him what the medium lacks.
            let is_stopped = case.how.starts_with("stopped");
            if case.done || case.recovered && (case.is_clean || is_stopped) {
                assert_eq!(case.medium.size().unwrap(), new_len, "{}", case.how);
                let all = &mut |_, _| ControlFlow::Continue(());
                let empty = find_empty(&*case.medium, data_offset..new_len, all).unwrap();
                assert_eq!(empty, None, "{}", case.how);
            }
        });
    }
}
