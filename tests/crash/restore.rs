//! `header restore`: the header that was there or the restored one, at every stop.

use std::ops::ControlFlow;

use strongroom::{
    ErrorKind, Result,
    format::{
        Attempt, CopyState, Format, Header,
        native::{Backup, Native, Restore, scan},
    },
    storage::{MemoryStorage, SimStorage, Storage},
};

use crate::{
    container::{
        COPY_LEN, Counting, GEOMETRY, container, content, copy_states, edit, key, openers, plaintext, slot,
    },
    harness::{self, Case},
    keys,
};

fn backup(container: &SimStorage) -> MemoryStorage {
    let file = MemoryStorage::default();
    Backup::take(container).unwrap().write(&file).unwrap();
    file
}

fn restore(container: &SimStorage, file: &MemoryStorage) -> Result<()> {
    let restore = Restore::from_file(container, file)?;
    let unlocked = restore.source().unlock(&key(0), &Attempt::default())?;
    restore.write(container, &unlocked)
}

// proves: NAT-HF-08
#[test]
fn restoring_leaves_the_present_header_or_the_restored_one_at_every_stop() {
    let before = container();
    let file = backup(&before);
    edit(&before, |editor| editor.replace(0, &slot(None, &key(2)), &Counting::default()).unwrap()).unwrap();
    keys::prove(&before, &|storage| restore(storage, &file), &[2], &[0]);
}

#[test]
fn restoring_over_a_stale_copy_keeps_the_current_one_until_the_other_is_whole() {
    let before = container();
    let file = backup(&before);
    let stale = before.live()[..65_536].to_vec();
    edit(&before, |editor| editor.replace(0, &slot(None, &key(2)), &Counting::default()).unwrap()).unwrap();
    before.write_all_at(&stale, 0).unwrap();
    before.sync_data().unwrap();
    assert_eq!(copy_states(&before), [CopyState::Stale, CopyState::Current]);
    keys::prove(&before, &|storage| restore(storage, &file), &[2], &[0]);
}

// proves: NAT-RD-07 NAT-HF-08
#[test]
fn putting_the_last_copy_back_over_something_else_can_be_repeated_after_every_stop() {
    let before = container();
    before.write_all_at(b"LUKS\xba\xbe\0\x02", 0).unwrap();
    before.sync_data().unwrap();
    assert_eq!(Native.read_header(&before).unwrap_err().kind(), ErrorKind::NotAContainer);
    let put_back = |storage: &SimStorage| {
        let found = scan(storage, &mut |_, _| ControlFlow::Continue(()))?;
        let newest = found.whole.iter().max_by_key(|found| found.copy.superblock.sequence).unwrap();
        let restore = Restore::from_copy(storage, &newest.copy)?;
        let unlocked = restore.source().unlock(&key(0), &Attempt::default())?;
        restore.write(storage, &unlocked)
    };
    let check = |case: &Case<()>| {
        let medium = SimStorage::clone(&case.medium);
        assert!(!case.done || openers(&medium, &[0]) == [0], "{}", case.how);
        put_back(&medium).unwrap_or_else(|error| panic!("{error}: {}", case.how));
        assert!(content(&medium, 0) == plaintext(), "{}", case.how);
        assert_eq!(copy_states(&medium), [CopyState::Current; 2], "{}", case.how);
    };
    harness::prove(&before, &put_back, &put_back, &check);
}

#[test]
fn restoring_where_no_header_is_left_can_be_repeated_after_every_stop() {
    let before = container();
    let file = backup(&before);
    for offset in [0, GEOMETRY.backup_offset] {
        before.write_all_at(&vec![0; usize::try_from(COPY_LEN).unwrap()], offset).unwrap();
    }
    before.sync_data().unwrap();
    prove_repeatable(&before, &file);
}

// proves: NAT-HF-08
#[test]
fn restoring_into_what_was_a_detached_thick_container_can_be_repeated_after_every_stop() {
    let before = container();
    let file = backup(&before);
    let places = [0..GEOMETRY.data_offset, GEOMETRY.backup_offset..GEOMETRY.backup_offset + COPY_LEN];
    for place in places {
        let noise = vec![0xe1; usize::try_from(place.end - place.start).unwrap()];
        before.write_all_at(&noise, place.start).unwrap();
    }
    before.sync_data().unwrap();
    prove_repeatable(&before, &file);
}

fn prove_repeatable(before: &SimStorage, file: &MemoryStorage) {
    let again: &dyn Fn(&SimStorage) -> Result<()> = &|storage| restore(storage, file);
    let check = |case: &Case<()>| {
        let found = openers(&case.medium, &[0]);
        assert!(found == [0] || found.is_empty() && !case.done, "{}", case.how);
        let medium = SimStorage::clone(&case.medium);
        restore(&medium, file).unwrap_or_else(|error| panic!("{error}: {}", case.how));
        assert!(content(&medium, 0) == plaintext(), "{}", case.how);
        assert_eq!(copy_states(&medium), [CopyState::Current; 2], "{}", case.how);
    };
    harness::prove(before, again, again, &check);
}
