//! `erase`: the container opens as before, or shows as damaged, or is gone; and when it is gone, so are its keys.

use strongroom::{
    ErrorKind,
    format::{Format, native::Native},
    storage::SimStorage,
    volume::erase,
};

use crate::{
    container::{Counting, container, content, openers, plaintext},
    harness::{Case, Trial},
};

/// A piece of the keyslot that a container has: salt, nonce and wrapped key lie in it.
fn keyslot_of(image: &[u8]) -> Vec<u8> {
    image[4096 + 32..4096 + 216].to_vec()
}

fn check(case: &Case<()>, keyslot: &[u8]) {
    let how = &case.how;
    if openers(&case.medium, &[0]) == [0] {
        assert!(!case.done && !case.recovered, "{how}");
        assert!(content(&case.medium, 0) == plaintext(), "{how}");
        return;
    }
    // Only where it is no container to anybody may all keys be taken to be gone.
    let image = case.medium.live();
    let has_key = image.windows(keyslot.len()).step_by(8).any(|bytes| bytes == keyslot);
    let error = Native.read_header(&*case.medium).map(|header| header.describe());
    match error {
        Err(error) if error.kind() == ErrorKind::NotAContainer => assert!(!has_key, "{how}"),
        _ => assert!(!case.done && !case.recovered, "{how}"),
    }
}

#[test]
fn erasing_that_crashes_never_hides_a_key_that_is_left() {
    let before = container();
    let keyslot = keyslot_of(&before.live());
    let erase = |storage: &SimStorage| {
        let erasure = Native.erasure(storage)?;
        erase(storage, &erasure, &Counting::default())
    };
    let trial = Trial {
        before: &before,
        model: (),
        command: &|storage, ()| erase(storage),
        recovery: &|storage, ()| erase(storage),
        recover_every: 3,
    };
    trial.prove(&|case| check(case, &keyslot));
}
