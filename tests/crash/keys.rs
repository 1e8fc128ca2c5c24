//! `key add`, `key change`, `key remove`: the old keyslots or the new ones, at every stop.

use strongroom::{
    Result,
    format::CopyState,
    storage::{Fate, Outcome, SimStorage},
};

use crate::{
    container::{
        Counting, container, content, copy_states, edit, key, open_for_writing, openers, plaintext, slot,
    },
    harness::{self, Case, Command},
};

/// Every key that any of these tests makes.
const KEYS: [u8; 3] = [0, 1, 2];

/// The container opens with `old` or with `new`, exactly, and when the command was done with `new`, from both copies. Opening
/// it for writing changes nothing of that, makes both copies whole, and is durable when it returns.
fn check(case: &Case, old: &[u8], new: &[u8]) {
    let found = openers(&case.medium, &KEYS);
    assert!(found == new || found == old && !case.done, "opens with {found:?}: {}", case.how);
    assert!(content(&case.medium, found[0]) == plaintext(), "{}", case.how);
    if case.done {
        assert_eq!(copy_states(&case.medium), [CopyState::Current; 2], "{}", case.how);
    }

    let healed = case.medium.clone();
    open_for_writing(&healed, &KEYS).unwrap_or_else(|error| panic!("{error}: {}", case.how));
    assert_eq!(copy_states(&healed), [CopyState::Current; 2], "{}", case.how);
    for medium in [healed.crash(&Outcome::All(Fate::Lost)), healed] {
        assert_eq!(openers(&medium, &KEYS), found, "after healing: {}", case.how);
    }
}

fn prove(before: &SimStorage, command: Command<'_>, old: &[u8], new: &[u8]) {
    let heal: Command<'_> = &|storage| open_for_writing(storage, &KEYS).map(drop);
    harness::prove(before, command, heal, &|case| check(case, old, new));
}

fn add(storage: &SimStorage) -> Result<()> {
    edit(storage, |editor| {
        editor.add(&slot(None, &key(1)), &Counting::default()).unwrap();
    })
}

// proves: NAT-UPD-03
#[test]
fn adding_a_key_leaves_the_old_keys_or_the_new_at_every_stop() {
    prove(&container(), &add, &[0], &[0, 1]);
}

#[test]
fn changing_a_key_leaves_the_old_key_or_the_new_at_every_stop() {
    let change: Command<'_> = &|storage| {
        edit(storage, |editor| editor.replace(0, &slot(None, &key(2)), &Counting::default()).unwrap())
    };
    prove(&container(), change, &[0], &[2]);
}

#[test]
fn removing_a_key_leaves_the_old_keys_or_the_new_at_every_stop() {
    let before = container();
    add(&before).unwrap();
    prove(&before, &|storage| edit(storage, |editor| editor.remove(1, false).unwrap()), &[0, 1], &[0]);
}
