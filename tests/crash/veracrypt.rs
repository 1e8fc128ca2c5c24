//! VeraCrypt's headers: made, sealed anew, and told of a larger container. At every stop one of them opens.

use std::{ops::ControlFlow, sync::Arc};

use strongroom::{
    Result,
    crypto::secret::{Credentials, Password},
    format::{
        Attempt, Format, Header, Provision, Room, Unlocked, Wishes,
        veracrypt::{Family, Hints, Locking, NewHeaders, Opened, Place, Prf, TRUECRYPT, VERACRYPT},
    },
    storage::{SimStorage, Storage},
    units::Sector,
    volume::{self, prepare_growth, prepare_storage},
};

use crate::{
    container::Counting,
    harness::{Case, Trial},
};

/// The smallest container there is.
const LEN: u64 = 299_008;
const HEADERS: u64 = 131_072;
const OLD: &str = "the old password of the volume";
const NEW: &str = "the new password of the volume";
const HIDDEN: &str = "the password of the hidden one";

fn secret(password: &str) -> Credentials {
    Credentials::Password { password: Password::copy_of(password.as_bytes()).unwrap(), keyfiles: Vec::new() }
}

fn unseen(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn wishes() -> Wishes<'static> {
    Wishes { prf: Some(Prf::Sha512), pim: 1, ..Wishes::default() }
}

// proves: VC-WRITE-07
#[test]
fn a_container_in_the_making_opens_only_when_it_is_whole() {
    let rng = Counting::default();
    let blueprint = VERACRYPT.plan(Room::Container(LEN), &wishes(), &rng).unwrap();
    let header = blueprint.make_header(&secret(OLD), None, &rng).unwrap();
    let create = |storage: &SimStorage| {
        let rng = Counting::default();
        prepare_storage(storage, &blueprint.extent(), Provision::Thick, &rng, &mut unseen)?;
        header.write(storage)
    };
    let whole = SimStorage::new(Vec::new());
    create(&whole).unwrap();
    let whole = whole.live();
    for before in [SimStorage::new(Vec::new()), SimStorage::device(vec![0x33; whole.len()])] {
        let trial = Trial {
            before: &before,
            model: (),
            command: &|storage, ()| create(storage),
            // Where it was there already, it is opened.
            recovery: &|storage, ()| {
                if *storage.live() == *whole {
                    storage.sync_data().map_err(Into::into)
                } else {
                    create(storage)
                }
            },
            recover_every: 5,
        };
        trial.prove(&|case: &Case<()>| {
            let found = case.medium.live();
            let has_header = found.len() >= 512 && found[..512] == whole[..512];
            assert!(!has_header || *found == *whole, "a header before all else: {}", case.how);
            assert!(!(case.done || case.recovered) || *found == *whole, "{}", case.how);
        });
    }
}

fn open(storage: &dyn Storage, password: &str, hints: Hints) -> Result<(Box<dyn Header>, Unlocked)> {
    let header = TRUECRYPT.read_header(storage)?;
    let hints = Hints { prf: Some(Prf::Sha512), ..hints };
    let unlocked = header.unlock(&secret(password), &Attempt { hints, ..Attempt::default() })?;
    Ok((header, unlocked))
}

fn opened(storage: &dyn Storage, password: &str, hints: Hints) -> Result<Opened> {
    Opened::of_key(&open(storage, password, hints)?.1.volume_key)
}

const NORMAL: Hints = Hints::NONE;
const BACKUP: Hints = Hints { backup_header: true, ..Hints::NONE };
const INNER: Hints = Hints { hidden: true, ..Hints::NONE };
const INNER_BACKUP: Hints = Hints { hidden: true, backup_header: true, ..Hints::NONE };

/// An outer and a hidden volume in TrueCrypt's form, whose few iterations let thousands of cases be opened.
fn container() -> SimStorage {
    let rng = Counting::default();
    let storage = SimStorage::new(Vec::new());
    let blueprint = VERACRYPT.plan(Room::Container(LEN), &wishes(), &rng).unwrap();
    prepare_storage(&storage, &blueprint.extent(), Provision::Thick, &rng, &mut unseen).unwrap();
    blueprint.make_header(&secret(OLD), None, &rng).unwrap().write(&storage).unwrap();
    let open = |password: &str, hidden| {
        let hints = Hints { prf: Some(Prf::Sha512), pim: 1, hidden, ..Hints::NONE };
        let header = VERACRYPT.read_header(&storage).unwrap();
        let unlocked = header.unlock(&secret(password), &Attempt { hints, ..Attempt::default() }).unwrap();
        Opened::of_key(&unlocked.volume_key).unwrap()
    };
    // A smaller hidden volume than is made, so that the container is small.
    let mut inner = open(OLD, false);
    inner.place = Place::Hidden;
    inner.offset = 65_536;
    inner.header.area_start = LEN - HEADERS - 4096;
    inner.header.area_len = 4096;
    inner.header.hidden_size = 4096;
    for (mut opened, password) in [(open(OLD, false), OLD), (inner, HIDDEN)] {
        opened.header.family = Family::TrueCrypt;
        let credentials = secret(password);
        let locking = Locking { credentials: &credentials, prf: Prf::Sha512, pim: 0 };
        let old = (&credentials, &Attempt::default());
        NewHeaders::new(&opened, &storage, &locking, old, &rng).unwrap().write(&storage).unwrap();
    }
    storage
}

fn first_sector(medium: &Arc<SimStorage>, unlocked: &Unlocked) -> Vec<u8> {
    let device = volume::device(Arc::clone(medium) as Arc<dyn Storage>, unlocked.layout.clone());
    let mut sector = vec![0; 512];
    device.read(&mut sector, Sector(0)).unwrap();
    sector
}

/// Which of the two passwords opens the header, and which the backup header.
fn openers(storage: &SimStorage) -> [Option<&'static str>; 2] {
    [NORMAL, BACKUP].map(|hints| {
        let opens = |password: &&str| {
            let found = opened(storage, password, hints);
            found.is_ok_and(|found| found.place.is_backup() == hints.backup_header)
        };
        [OLD, NEW].into_iter().find(opens)
    })
}

// proves: VC-WRITE-03
// proves: VC-WRITE-09
#[test]
fn a_change_of_the_password_leaves_a_header_that_opens_at_every_stop() {
    let before = container();
    let data = first_sector(&Arc::new(before.clone()), &open(&before, OLD, NORMAL).unwrap().1);
    let new = secret(NEW);
    let locking = Locking { credentials: &new, prf: Prf::Sha512, pim: 0 };
    let change = |storage: &SimStorage, password: &str, hints| {
        let found = opened(storage, password, hints)?;
        let old = secret(password);
        let old = (&old, &Attempt::default());
        NewHeaders::new(&found, storage, &locking, old, &Counting::default())?.write(storage)
    };
    // What was begun is done again with whatever opens.
    let again = |storage: &SimStorage| match openers(storage) {
        [Some(password), _] => change(storage, password, NORMAL),
        [None, Some(password)] => change(storage, password, BACKUP),
        [None, None] => panic!("nothing opens"),
    };
    for hints in [NORMAL, BACKUP] {
        let trial = Trial {
            before: &before,
            model: (),
            command: &|storage, ()| change(storage, OLD, hints),
            recovery: &|storage, ()| again(storage),
            recover_every: 5,
        };
        trial.prove(&|case: &Case<()>| {
            let found = openers(&case.medium);
            assert!(found != [None, None], "nothing opens: {}", case.how);
            let is_done = case.done || case.recovered;
            assert!(!is_done || found == [Some(NEW), Some(NEW)], "{found:?}: {}", case.how);
            let (hints, password) = match found {
                [Some(password), _] => (NORMAL, password),
                [_, password] => (BACKUP, password.unwrap()),
            };
            let (_, unlocked) = open(&*case.medium, password, hints).unwrap();
            assert!(first_sector(&case.medium, &unlocked) == data, "{}", case.how);
            // The hidden volume's slots are none of its business.
            let (old, new) = (before.live(), case.medium.live());
            assert!(old[65_536..131_072] == new[65_536..131_072], "{}", case.how);
        });
    }
}

// proves: VC-GROW-02
// proves: VC-GROW-04
#[test]
fn a_growing_container_opens_at_every_stop_and_so_does_the_hidden_volume() {
    let before = container();
    let new_len = LEN + HEADERS + 4096;
    let outer = first_sector(&Arc::new(before.clone()), &open(&before, OLD, NORMAL).unwrap().1);
    let inner = first_sector(&Arc::new(before.clone()), &open(&before, HIDDEN, INNER).unwrap().1);
    let grow = |storage: &SimStorage| {
        let rng = Counting::default();
        let (header, unlocked) = open(storage, OLD, NORMAL)?;
        if Opened::of_key(&unlocked.volume_key)?.header.area_len == new_len - 2 * HEADERS {
            return Ok(());
        }
        let growth = header.growth(&unlocked, &secret(OLD), new_len, &rng)?;
        // What was begun and broken off is known, and ended without a question.
        assert_eq!(growth.overwrites(storage)?, None);
        prepare_growth(storage, &*growth, &rng, &mut unseen)?;
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
        let hints = if opened(&*case.medium, OLD, NORMAL).is_ok() { NORMAL } else { BACKUP };
        let (header, unlocked) =
            open(&*case.medium, OLD, hints).unwrap_or_else(|error| panic!("{error}: {}", case.how));
        assert!(first_sector(&case.medium, &unlocked) == outer, "{}", case.how);
        header
            .prepare_writing(&*case.medium, &unlocked)
            .unwrap_or_else(|error| panic!("{error}: {}", case.how));
        let (_, unlocked) = open(&*case.medium, HIDDEN, INNER)
            .unwrap_or_else(|error| panic!("hidden: {error}: {}", case.how));
        assert!(first_sector(&case.medium, &unlocked) == inner, "{}", case.how);
        if case.done {
            assert_eq!(case.medium.size().unwrap(), new_len, "{}", case.how);
            for (password, hints) in [(OLD, NORMAL), (OLD, BACKUP), (HIDDEN, INNER_BACKUP)] {
                let found = opened(&*case.medium, password, hints)
                    .unwrap_or_else(|error| panic!("{error}: {}", case.how));
                assert_eq!(found.place.is_backup(), hints.backup_header, "{}", case.how);
            }
        }
    });
}
