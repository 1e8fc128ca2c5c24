//! `reencrypt` beside a user who writes and flushes: no sector is lost, mixed up, or older than its last flush.

use std::sync::Arc;

use strongroom::{
    Result,
    block::ByteDevice,
    format::{
        CopyState, Format,
        native::{Native, NativeHeader, Provision, StartHeader, Suite, Target},
    },
    mapping::Layout,
    storage::{SimStorage, Storage},
    units::SectorSize,
    volume::{
        Reencryption,
        reencrypt::{Step, Tuning},
    },
};

use crate::{
    container::{
        Counting, container_with, copy_states, key, open_for_writing, openers, plaintext, read_all, slot,
        unlock,
    },
    harness::{Case, Trial, with_and_without_power},
    model::{Model, UNIT},
};

/// Opens the container before.
const OLD: u8 = 0;
/// Opens it from the start of the re-encryption on.
const NEW: u8 = 1;

/// One chunk is two sectors of 4 KiB: as much as the journals hold.
const CHUNK_LEN: usize = 8192;
const TUNING: Tuning = Tuning { chunk_len: CHUNK_LEN as u64, threads: 1 };

/// A container and the header that starts its re-encryption.
struct Fixture {
    before: SimStorage,
    start: StartHeader,
}

impl Fixture {
    fn new(provision: Provision, old: SectorSize, new: SectorSize) -> Self {
        let before = container_with(OLD, provision, old);
        let (_, unlocked) = unlock(&before, OLD).unwrap();
        let header = NativeHeader::read(&before).unwrap();
        let target = Target { suite: Suite::Aes128Xts, sector_size: new };
        let new_key = key(NEW);
        let slots = [slot(None, &new_key)];
        let start = StartHeader::new(&header, &unlocked, target, &slots, &Counting::default()).unwrap();
        Self { before, start }
    }

    /// Starts, or goes on where one is under way.
    fn open(&self, storage: &Arc<SimStorage>) -> Result<Option<Reencryption>> {
        let shared = Arc::clone(storage) as Arc<dyn Storage>;
        let (_, unlocked) = open_for_writing(storage, &[OLD, NEW])?;
        if openers(storage, &[NEW]).is_empty() {
            return Reencryption::start(shared, &self.start, TUNING).map(Some);
        }
        match unlocked.layout {
            Layout::Moving(_) => Reencryption::resume(shared, unlocked.volume_key, TUNING).map(Some),
            Layout::Fixed(_) => Ok(None),
        }
    }

    /// Re-encrypts to the end, with a user who writes on both sides of the border: after every other chunk also into that
    /// chunk, for which it has to be retired. The rounds between are flushed.
    fn run(&self, storage: &Arc<SimStorage>, model: &mut Model, fill: u8) -> Result<()> {
        model.crash();
        let Some(mut work) = self.open(storage)? else { return Ok(()) };
        let device = work.device();
        let volume = ByteDevice::new(device);
        let units = usize::try_from(work.total()).unwrap() / UNIT;
        for round in 0_u8.. {
            let step = work.step()?;
            let border = usize::try_from(work.done()).unwrap() / UNIT;
            let (moved, behind) = (border.saturating_sub(3), units - 1 - usize::from(round));
            let places = if round % 2 == 0 { vec![moved, border, behind] } else { vec![border + 1] };
            for unit in places.into_iter().filter(|&unit| unit < units) {
                if unit < border {
                    work.retire()?;
                }
                model.write(&volume, unit, fill + round)?;
            }
            if round % 2 == 1 {
                model.flush(&volume)?;
            }
            if step == Step::AtTheEnd {
                break;
            }
        }
        work.finish()
    }

    /// Stops the whole at every operation, and some of what that leaves again while it goes on to the end.
    fn prove(&self, recover_every: usize) {
        let content = read_all(&self.before, unlock(&self.before, OLD).unwrap().1.layout);
        Trial {
            before: &self.before,
            model: Model::new(&content),
            command: &|storage, model| self.run(storage, model, 0x10),
            recovery: &|storage, model| self.run(storage, model, 0x80),
            recover_every,
        }
        .prove(&check);
    }
}

/// Old or new, opened and read as it is and healed; done is done.
fn check(case: &Case<Model>) {
    let how = &case.how;
    let found = openers(&case.medium, &[OLD, NEW]);
    assert!(found == [NEW] || found == [OLD] && !case.done && !case.recovered, "{found:?}: {how}");
    let (header, unlocked) = unlock(&case.medium, found[0]).unwrap();
    let is_over = found == [NEW] && matches!(unlocked.layout, Layout::Fixed(_));
    assert!(is_over || !case.done && !case.recovered, "{how}");
    if case.done && !header.describe().reencryption {
        assert_eq!(copy_states(&case.medium), [CopyState::Current; 2], "{how}");
    }
    case.model.check(&read_all(&case.medium, unlocked.layout), case.is_clean, how);

    let healed = SimStorage::clone(&case.medium);
    open_for_writing(&healed, &found).unwrap_or_else(|error| panic!("{error}: {how}"));
    for medium in with_and_without_power(healed) {
        let (_, unlocked) = unlock(&medium, found[0]).unwrap_or_else(|error| panic!("{error}: {how}"));
        case.model.check(&read_all(&medium, unlocked.layout), case.is_clean, how);
    }
}

#[test]
fn a_crash_at_any_operation_of_a_reencryption_leaves_every_sector() {
    Fixture::new(Provision::Quick, SectorSize::B4096, SectorSize::B4096).prove(80);
}

#[test]
fn a_crash_of_a_thin_reencryption_to_larger_sectors_leaves_every_sector() {
    Fixture::new(Provision::Thin, SectorSize::B512, SectorSize::B4096).prove(400);
}

#[test]
fn a_crash_of_a_thin_reencryption_to_smaller_sectors_leaves_every_sector() {
    Fixture::new(Provision::Thin, SectorSize::B4096, SectorSize::B512).prove(400);
}

/// Editing the keyslots of a container that is re-encrypted keeps what its re-encryption needs.
#[test]
fn a_crash_of_a_key_edit_while_a_reencryption_rests_leaves_every_sector() {
    let fixture = Fixture::new(Provision::Quick, SectorSize::B4096, SectorSize::B4096);
    let medium = Arc::new(fixture.before.clone());
    let mut work = fixture.open(&medium).unwrap().unwrap();
    work.step().unwrap();
    work.step().unwrap();
    drop(work);
    let add = |storage: &Arc<SimStorage>, _: &mut Model| {
        let (header, unlocked) = open_for_writing(storage, &[NEW])?;
        let mut editor = header.editor(&unlocked)?;
        editor.add(&slot(None, &key(2)), &Counting::default())?;
        editor.commit(&**storage)
    };
    let trial = Trial {
        before: &medium,
        model: Model::new(&plaintext()),
        command: &add,
        recovery: &|storage, model| fixture.run(storage, model, 0x80),
        recover_every: 40,
    };
    trial.prove(&|case| {
        let found = openers(&case.medium, &[OLD, NEW, 2]);
        assert!(found == [NEW, 2] || found == [NEW] && !case.done, "{found:?}: {}", case.how);
        let layout = unlock(&case.medium, NEW).unwrap().1.layout;
        case.model.check(&read_all(&case.medium, layout), case.is_clean, &case.how);
        let is_over = !Native.read_header(&*case.medium).unwrap().describe().reencryption;
        assert!(is_over || !case.recovered, "{}", case.how);
    });
}
