//! `key add`, `key change`, `key remove`: the old keyslots or the new ones, at every stop.

use strongroom::{Result, format::CopyState, storage::SimStorage};

use crate::{
    container::{
        COPY_LEN, Counting, GEOMETRY, container, content, copy_states, edit, key, open_for_writing, openers,
        plaintext, slot, unlock,
    },
    harness::{self, Case, with_and_without_power},
};

/// Every key that any of these tests makes.
const KEYS: [u8; 3] = [0, 1, 2];

/// The container opens with `old` or with `new`, exactly, and when the command was done with `new`, from both copies. Opening
/// it for writing changes nothing of that, makes both copies whole, and is durable when it returns.
fn check(case: &Case<()>, old: &[u8], new: &[u8]) {
    let found = openers(&case.medium, &KEYS);
    assert!(found == new || found == old && !case.done, "opens with {found:?}: {}", case.how);
    assert!(content(&case.medium, found[0]) == plaintext(), "{}", case.how);
    if case.done {
        assert_eq!(copy_states(&case.medium), [CopyState::Current; 2], "{}", case.how);
    }

    let healed = SimStorage::clone(&case.medium);
    open_for_writing(&healed, &KEYS).unwrap_or_else(|error| panic!("{error}: {}", case.how));
    assert_eq!(copy_states(&healed), [CopyState::Current; 2], "{}", case.how);
    for medium in with_and_without_power(healed) {
        assert_eq!(openers(&medium, &KEYS), found, "after healing: {}", case.how);
    }
}

pub(crate) fn prove(
    before: &SimStorage,
    command: &dyn Fn(&SimStorage) -> Result<()>,
    old: &[u8],
    new: &[u8],
) {
    let heal = |storage: &SimStorage| open_for_writing(storage, &KEYS).map(drop);
    harness::prove(before, command, &heal, &|case| check(case, old, new));
}

pub(crate) fn add_key(storage: &SimStorage, number: u8) -> Result<()> {
    edit(storage, |editor| {
        editor.add(&slot(None, &key(number)), &Counting::default()).unwrap();
    })
}

fn add(storage: &SimStorage) -> Result<()> {
    add_key(storage, 1)
}

// proves: NAT-UPD-03
#[test]
fn adding_a_key_leaves_the_old_keys_or_the_new_at_every_stop() {
    prove(&container(), &add, &[0], &[0, 1]);
}

#[test]
fn changing_a_key_leaves_the_old_key_or_the_new_at_every_stop() {
    let change = |storage: &SimStorage| {
        edit(storage, |editor| editor.replace(0, &slot(None, &key(2)), &Counting::default()).unwrap())
    };
    prove(&container(), &change, &[0], &[2]);
}

#[test]
fn removing_a_key_leaves_the_old_keys_or_the_new_at_every_stop() {
    let before = container();
    add(&before).unwrap();
    prove(&before, &|storage| edit(storage, |editor| editor.remove(1, false).unwrap()), &[0, 1], &[0]);
}

/// As [`edit`], by somebody who left healing out.
fn add_unhealed(storage: &SimStorage) -> Result<()> {
    let (header, unlocked) = unlock(storage, 0)?;
    let mut editor = header.editor(&unlocked)?;
    editor.add(&slot(None, &key(1)), &Counting::default())?;
    editor.commit(storage)
}

// proves: NAT-UPD-03
#[test]
fn an_update_beside_a_stale_or_damaged_copy_never_loses_the_other() {
    let older = container();
    let newer = older.clone();
    add_key(&newer, 2).unwrap();
    let (older, newer) = (older.live(), newer.live());
    let (a, b) = (0..COPY_LEN, GEOMETRY.backup_offset..GEOMETRY.backup_offset + COPY_LEN);
    for place in [a, b] {
        let place = usize::try_from(place.start).unwrap()..usize::try_from(place.end).unwrap();
        // What is more than a bad block, and not zeros, is taken for somebody else's (NAT-RD-07).
        let mut damaged = newer[place.clone()].to_vec();
        damaged[512..4096].fill(0x55);
        for bytes in [older[place.clone()].to_vec(), damaged] {
            let mut image = newer.to_vec();
            image[place.clone()].copy_from_slice(&bytes);
            prove(&SimStorage::new(image), &add_unhealed, &[0, 2], &[0, 1, 2]);
        }
    }
}

// proves: NAT-UPD-07
#[test]
fn an_update_after_one_that_failed_or_crashed_never_loses_both_copies() {
    let again = |storage: &SimStorage| {
        let missing = !openers(storage, &KEYS).contains(&2);
        edit(storage, |editor| {
            let added = missing.then(|| editor.add(&slot(Some(5), &key(2)), &Counting::default()));
            assert!(added.is_none_or(|result| result.is_ok()));
        })
    };
    harness::prove(&container(), &add, &again, &|case| {
        let found = openers(&case.medium, &KEYS);
        assert!(found.contains(&0), "opens with {found:?}: {}", case.how);
        assert!(!case.done || found.contains(&1), "opens with {found:?}: {}", case.how);
        assert!(!case.recovered || found.contains(&2), "opens with {found:?}: {}", case.how);
        assert!(content(&case.medium, 0) == plaintext(), "{}", case.how);
    });
}
