//! Erasing a container, with the power cut at every step of it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it must be"
)]

use strongroom::{
    crypto::{
        rng::OsRng,
        secret::{Credentials, Password},
    },
    error::{ErrorKind, Result},
    format::{Attempt, Format, Probe, native::Native},
    storage::{Failure, Fate, Outcome, Plan, SimStorage},
    volume::erase,
};

/// A whole container with one keyslot.
const WHOLE: &[u8] = include_bytes!("../spec/vectors/native/password.img");
const COPY_LEN: usize = 65_536;
const COPY_B: usize = 81_920;
/// Where the wrapped key lies within a copy, for keyslot 0.
const WRAPPED_KEY: std::ops::Range<usize> = 4_096 + 152..4_096 + 216;

fn erase_all(storage: &SimStorage) -> Result<()> {
    erase(storage, &Native.erasure(storage)?, &OsRng)
}

fn unlock(storage: &SimStorage) -> Result<()> {
    let password = Password::copy_of(b"correct horse battery staple").unwrap();
    let credentials = Credentials::Password { password, keyfiles: Vec::new() };
    Native.read_header(storage)?.unlock(&credentials, &Attempt::default()).map(drop)
}

/// Whether the wrapped volume key stands anywhere.
fn holds_key(image: &[u8]) -> bool {
    let key = &WHOLE[WRAPPED_KEY];
    image.windows(key.len()).any(|window| window == key)
}

#[test]
fn nothing_of_the_header_is_left() {
    let storage = SimStorage::new(WHOLE.to_vec());
    assert!(holds_key(&storage.live()), "the search is blind");
    erase_all(&storage).unwrap();
    assert_eq!(storage.live().len(), WHOLE.len());
    assert!(!holds_key(&storage.live()));
    assert_eq!(Native.probe(&storage).unwrap(), Probe::NoMatch);
    assert_eq!(unlock(&storage).unwrap_err().kind(), ErrorKind::NotAContainer);
}

// proves: NAT-ERASE-01
#[test]
fn after_a_power_cut_the_container_opens_or_shows_as_damaged_or_holds_no_key() {
    let whole = SimStorage::new(WHOLE.to_vec());
    let counted = whole.clone();
    erase_all(&counted).unwrap();
    let mut seen = [0; 3];
    for operation in 0..=counted.operations() {
        let storage = whole.clone();
        storage.set_plan(Plan::StopAt(operation));
        assert_eq!(erase_all(&storage).is_ok(), operation == counted.operations(), "done is done");
        for outcome in Outcome::of(storage.unsynced(), 0..4) {
            let after = storage.crash(&outcome);
            let state = match unlock(&after).map_err(|error| error.kind()) {
                Ok(()) => 0,
                Err(ErrorKind::Damaged) => 1,
                Err(ErrorKind::NotAContainer) => 2,
                Err(other) => panic!("{other:?} at {operation} with {outcome:?}"),
            };
            seen[state] += 1;
            assert!(state != 2 || !holds_key(&after.live()), "a key is left at {operation} with {outcome:?}");
            if state == 1 {
                erase_all(&after).unwrap();
                assert!(!holds_key(&after.live()));
            }
        }
    }
    assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
}

#[test]
fn a_failure_says_whether_the_keyslots_are_gone() {
    let counted = SimStorage::new(WHOLE.to_vec());
    erase_all(&counted).unwrap();
    let mut said = [0; 2];
    for operation in 0..counted.operations() {
        let storage = SimStorage::new(WHOLE.to_vec());
        storage.set_plan(Plan::FailAt(operation, Failure::Io));
        let error = erase_all(&storage).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        let says_gone = error.reason().starts_with("the keyslots are gone");
        said[usize::from(says_gone)] += 1;
        let after = storage.crash(&Outcome::All(Fate::Lost));
        assert!(!says_gone || !holds_key(&after.live()), "at {operation}");
    }
    assert!(said.iter().all(|&count| count > 0), "{said:?}");
}

#[test]
fn a_damaged_container_is_erased_too() {
    // Both checksums are wrong, and one magic is gone; the keyslots are as they were.
    let mut image = WHOLE.to_vec();
    image[..16].fill(0);
    image[COPY_B + 200] ^= 1;
    let storage = SimStorage::new(image);
    // What is left of copy A says whose it is.
    assert_eq!(unlock(&storage).unwrap_err().kind(), ErrorKind::Damaged);
    erase_all(&storage).unwrap();
    assert!(!holds_key(&storage.live()));
}

#[test]
fn a_copy_that_a_container_was_padded_behind_is_found() {
    let mut image = WHOLE.to_vec();
    image.resize(WHOLE.len() + (3 << 20), 0);
    image[..COPY_LEN].fill(0);
    image.truncate(WHOLE.len() + (1 << 20));
    let storage = SimStorage::new(image);
    unlock(&storage).unwrap();
    erase_all(&storage).unwrap();
    assert!(!holds_key(&storage.live()));
}
