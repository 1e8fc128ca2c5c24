//! `create`: no container, or the old one, or the new one as it was meant to be; nothing in between.

use std::ops::ControlFlow;

use strongroom::{
    ErrorKind, Result,
    format::{
        CopyState, Format,
        native::{Native, Provision},
    },
    storage::SimStorage,
    units::SectorSize,
    volume::prepare_storage,
};

use crate::{
    container::{
        Counting, GEOMETRY, container_with, content, copy_states, new_header, open_for_writing, openers,
    },
    harness::{Case, Trial},
};

/// Opens what stood on the device before.
const OLD: u8 = 9;

fn create(storage: &SimStorage, provision: Provision) -> Result<()> {
    let mut unseen = |_, _| ControlFlow::Continue(());
    prepare_storage(storage, &(&GEOMETRY).into(), provision, &Counting::default(), &mut unseen)?;
    new_header(0, provision, SectorSize::B4096).write(storage)
}

fn check(case: &Case<()>, provision: Provision) {
    let found = openers(&case.medium, &[0, OLD]);
    if found == [0] {
        // Recognised, it is whole: its data area was prepared before.
        let bytes = content(&case.medium, 0);
        assert!(provision != Provision::Thin || bytes.iter().all(|&byte| byte == 0), "{}", case.how);
        let healed = SimStorage::clone(&case.medium);
        open_for_writing(&healed, &[0]).unwrap_or_else(|error| panic!("{error}: {}", case.how));
        assert_eq!(copy_states(&healed), [CopyState::Current; 2], "{}", case.how);
        return;
    }
    assert!(!case.done && !case.recovered, "{}", case.how);
    if found.is_empty() {
        let error = Native.read_header(&*case.medium).unwrap_err();
        let is_none = matches!(error.kind(), ErrorKind::NotAContainer | ErrorKind::Damaged);
        assert!(is_none, "{error}: {}", case.how);
    }
}

/// Creates with a crash at every operation, and creates again where that left no new container; else opens it.
fn creates_whole_or_not_at_all(before: &SimStorage, provision: Provision) {
    let again = |storage: &SimStorage| {
        if openers(storage, &[0]).is_empty() {
            return create(storage, provision);
        }
        open_for_writing(storage, &[0]).map(drop)
    };
    let trial = Trial {
        before,
        model: (),
        command: &|storage, ()| create(storage, provision),
        recovery: &|storage, ()| again(storage),
        recover_every: 3,
    };
    trial.prove(&|case| check(case, provision));
}

// proves: NAT-UPD-01
#[test]
fn a_file_in_the_making_is_no_container_or_a_whole_one() {
    for provision in [Provision::Thick, Provision::Quick, Provision::Thin] {
        creates_whole_or_not_at_all(&SimStorage::new(Vec::new()), provision);
    }
}

// proves: NAT-UPD-01
#[test]
fn a_device_in_the_making_is_no_container_or_the_old_one_or_a_whole_new_one() {
    for provision in [Provision::Thick, Provision::Quick, Provision::Thin] {
        let old = container_with(OLD, Provision::Quick, SectorSize::B4096);
        creates_whole_or_not_at_all(&SimStorage::device(old.live().to_vec()), provision);
    }
}
