//! LUKS1 and LUKS2: the same promises as for strongroom's own format, on small containers with cheap key derivations.

use std::ops::ControlFlow;

use strongroom::{
    Result,
    crypto::{
        hash::HashKind,
        kdf::KdfCost,
        rng::OsRng,
        secret::{Credentials, Password},
    },
    format::{Attempt, Blueprint, Format, Provision, Room, Wishes, luks1::Luks1, luks2::Luks2},
    storage::SimStorage,
    volume::prepare_storage,
};

use crate::{
    container::{Counting, read_all},
    harness::{Case, Trial},
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
            let create = |storage: &SimStorage| create(format, data_offset, storage);
            let again = |storage: &SimStorage| {
                if openers(format, storage).contains(&0) {
                    return open_for_writing(format, storage, 0);
                }
                create(storage)
            };
            let trial = Trial {
                before: &before,
                model: (),
                command: &|storage, ()| create(storage),
                recovery: &|storage, ()| again(storage),
                recover_every: 9,
            };
            trial.prove(&|case: &Case<()>| {
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
