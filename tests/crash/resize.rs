//! `resize` of native containers: the old size or the new one at every stop, and all of the data.

use std::ops::ControlFlow;

use strongroom::{
    Result,
    crypto::rng::OsRng,
    format::{
        CopyState, Format, Header, Unlocked,
        native::{Native, Provision},
    },
    storage::{SimStorage, Storage},
    units::SectorSize,
    volume::prepare_growth,
};

use crate::{
    container::{
        COPY_LEN, GEOMETRY, container_with, content, copy_states, edit, key, open_for_writing, openers,
    },
    harness::{Case, Command, Trial, with_and_without_power},
};

const KEYS: [u8; 2] = [0, 1];

/// What [`volume::grow`](strongroom::volume::grow) does.
pub(crate) fn grow(storage: &SimStorage, new_len: u64) -> Result<()> {
    let (header, unlocked) = open_for_writing(storage, &KEYS[..1])?;
    grow_opened(storage, &*header, &unlocked, new_len)
}

fn grow_opened(storage: &SimStorage, header: &dyn Header, unlocked: &Unlocked, new_len: u64) -> Result<()> {
    let growth = header.growth(unlocked, &key(0), new_len, &OsRng)?;
    prepare_growth(storage, &*growth, &OsRng, &mut |_, _| ControlFlow::Continue(()))?;
    growth.commit(storage)
}

/// The same where nobody else's bytes lie behind the container: what was begun and broken off is known, and ended without a question.
fn grow_alone(storage: &SimStorage, new_len: u64) -> Result<()> {
    let (header, unlocked) = open_for_writing(storage, &KEYS[..1])?;
    let growth = header.growth(&unlocked, &key(0), new_len, &OsRng)?;
    assert_eq!(growth.overwrites(storage)?, None);
    grow_opened(storage, &*header, &unlocked, new_len)
}

fn sizes(storage: &SimStorage) -> (u64, u64) {
    let info = Native.read_header(storage).unwrap().describe();
    (info.container_size, info.data_size)
}

/// It opens with its old size or its new one, and is whole once it was opened for writing.
fn check(case: &Case<()>, before: &[u8], new_len: u64) {
    let how = &case.how;
    let old = (GEOMETRY.container_len, GEOMETRY.data_len);
    let new = (new_len, GEOMETRY.data_len + new_len - GEOMETRY.container_len);
    let done = case.done || case.recovered;
    let found = sizes(&case.medium);
    assert!(found == new || found == old && !done, "{found:?}: {how}");
    assert!(content(&case.medium, 0).starts_with(before), "{how}");
    let healed = SimStorage::clone(&case.medium);
    open_for_writing(&healed, &KEYS[..1]).unwrap_or_else(|error| panic!("{error}: {how}"));
    assert_eq!(copy_states(&healed), [CopyState::Current; 2], "after healing: {how}");
    for medium in with_and_without_power(healed) {
        assert!(content(&medium, 0).starts_with(before), "after healing: {how}");
        let found = sizes(&medium);
        assert!(found == new || found == old && !done, "after healing: {found:?}: {how}");
        if found == new {
            assert_nothing_of_old_copy(&medium, how);
        }
    }
    // A password that is removed afterwards opens nothing, whatever the growth has left behind.
    let removed = SimStorage::clone(&case.medium);
    edit(&removed, |editor| editor.remove(1, false).unwrap())
        .unwrap_or_else(|error| panic!("{error}: {how}"));
    assert_eq!(openers(&removed, &KEYS), [0], "{how}");
}

/// No keyslot stands anywhere but in the two copies.
fn assert_nothing_of_old_copy(medium: &SimStorage, how: &str) {
    let bytes = medium.live();
    let salt = &bytes[4096 + 32..4096 + 64];
    let found = bytes.windows(salt.len()).filter(|window| *window == salt).count();
    assert_eq!(found, 2, "{how}");
}

pub(crate) fn before(provision: Provision) -> SimStorage {
    let storage = container_with(0, provision, SectorSize::B4096);
    crate::keys::add_key(&storage, 1).unwrap();
    storage
}

// proves: NAT-SIZE-03
// proves: NAT-SIZE-08
#[test]
fn growing_leaves_the_old_size_or_the_new_and_all_data_at_every_stop() {
    // The new end touches the old one, or lies behind it. A larger medium costs more, and is recovered less often.
    let cases = [
        (COPY_LEN + 16_384, Provision::Quick, 40),
        (COPY_LEN + 16_384, Provision::Thin, 160),
        (COPY_LEN + 16_384, Provision::Thick, 160),
        (256 << 10, Provision::Quick, 160),
    ];
    for (more, provision, recover_every) in cases {
        let before = before(provision);
        let new_len = GEOMETRY.container_len + more;
        let old = content(&before, 0);
        let again: Command<'_, ()> = &|storage, ()| grow_alone(storage, new_len);
        let check = |case: &Case<()>| check(case, &old, new_len);
        Trial { before: &before, model: (), command: again, recovery: again, recover_every }.prove(&check);
    }
}

// proves: NAT-SIZE-03
#[test]
fn what_a_thin_container_gains_reads_as_zeros_and_what_a_thick_one_gains_shows_no_zeros() {
    let new_len = GEOMETRY.container_len + (3 << 20);
    for provision in [Provision::Thin, Provision::Thick] {
        let storage = before(provision);
        // Something else was appended to the file.
        storage.set_size(GEOMETRY.container_len + (1 << 20)).unwrap();
        storage.write_all_at(&vec![0xa5; 1 << 20], GEOMETRY.container_len).unwrap();
        let (header, unlocked) = open_for_writing(&storage, &KEYS[..1]).unwrap();
        let growth = header.growth(&unlocked, &key(0), new_len, &OsRng).unwrap();
        let there = GEOMETRY.container_len..GEOMETRY.container_len + (1 << 20);
        assert_eq!(growth.overwrites(&storage).unwrap(), Some(there));
        grow(&storage, new_len).unwrap();
        let gained = usize::try_from(GEOMETRY.data_len).unwrap();
        if provision == Provision::Thin {
            assert!(content(&storage, 0)[gained..].iter().all(|&byte| byte == 0));
        } else {
            let bytes = storage.live();
            let data = usize::try_from(GEOMETRY.backup_offset).unwrap()..bytes.len() - (96 << 10);
            assert!(bytes[data].chunks(512).all(|sector| sector.iter().any(|&byte| byte != 0)));
        }
    }
}

// proves: NAT-SIZE-01
#[test]
fn a_container_grows_by_no_less_than_what_is_there_and_not_while_it_is_re_encrypted() {
    let storage = before(Provision::Quick);
    let len = GEOMETRY.container_len;
    let refused = |len| Native.read_header(&storage).unwrap().check_growth(len).unwrap_err();
    assert!(refused(len - 4096).reason().contains("only grows"));
    assert!(refused(len + 4096).reason().contains("at least"));
    let more = COPY_LEN + 32_768;
    storage.set_size(len + more).unwrap();
    assert!(refused(len + more - 4096).reason().contains("header copy B stands at their end"));
    grow(&storage, len + more).unwrap();
    assert_eq!(sizes(&storage), (len + more, GEOMETRY.data_len + more));
    // The same once more changes nothing.
    let there = storage.live();
    grow(&storage, len + more).unwrap();
    assert!(*there == *storage.live());
    assert_eq!(openers(&storage, &KEYS), KEYS);
}

fn shrink(storage: &SimStorage, new_len: u64) -> Result<()> {
    let (header, unlocked) = open_for_writing(storage, &KEYS[..1])?;
    header.shrinkage(&unlocked, new_len)?.commit(storage)
}

// proves: NAT-SIZE-07
#[test]
fn shrinking_leaves_the_old_size_or_the_new_and_all_data_before_the_cut_at_every_stop() {
    let small = GEOMETRY.container_len;
    // The new end touches the old one, or lies before it, far enough that no search finds it beside the old one.
    for (more, provision, recover_every) in [
        (COPY_LEN + 16_384, Provision::Quick, 40),
        (COPY_LEN + 16_384, Provision::Thick, 160),
        (3 << 20, Provision::Thin, 400),
    ] {
        let before = before(provision);
        let kept = content(&before, 0);
        grow(&before, small + more).unwrap();
        let large = sizes(&before);
        let again: Command<'_, ()> = &|storage, ()| shrink(storage, small);
        let check = |case: &Case<()>| {
            let how = &case.how;
            let done = case.done || case.recovered;
            let healed = SimStorage::clone(&case.medium);
            for medium in [&*case.medium, &healed] {
                let found = sizes(medium);
                assert!(found == (small, GEOMETRY.data_len) || found == large && !done, "{found:?}: {how}");
                assert!(content(medium, 0).starts_with(&kept), "{how}");
                open_for_writing(&healed, &KEYS[..1]).unwrap_or_else(|error| panic!("{error}: {how}"));
                assert_eq!(copy_states(&healed), [CopyState::Current; 2], "after healing: {how}");
            }
            if done {
                assert_eq!(case.medium.size().unwrap(), small, "{how}");
                assert_nothing_of_old_copy(&healed, how);
            }
        };
        Trial { before: &before, model: (), command: again, recovery: again, recover_every }.prove(&check);
    }
}
