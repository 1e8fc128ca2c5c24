//! Random commands, failures and crashes against a model. Shared with `tests/fuzz_corpus.rs`.
//!
//! The medium is [`SimStorage`]; the containers are those of `tests/crash`, whose keyslots cost nothing to open.

use std::{collections::BTreeSet, sync::Arc};

use strongroom::{
    Result,
    block::{BlockDevice, ByteDevice},
    format::CopyState,
    format::native::{NativeHeader, Provision, StartHeader, Suite, Target},
    mapping::Layout,
    storage::{Failure, Fate, Outcome, Plan, SimStorage, Storage},
    units::SectorSize,
    volume::{
        self, Reencryption,
        reencrypt::{Step, Tuning},
    },
};

#[allow(dead_code, reason = "the crash tests use the rest")]
#[path = "../tests/crash/container.rs"]
mod container;
#[path = "../tests/crash/model.rs"]
mod model;

use container::{Counting, container_with, key, open_for_writing, openers, read_all, slot, unlock};
use model::{Model, UNIT};

const TUNING: Tuning = Tuning { chunk_len: 8192, threads: 1 };
/// Every key that may ever open the container.
const KEYS: [u8; 6] = [0, 1, 2, 3, 4, 5];
/// More commands than this find nothing that fewer do not.
const MAX_COMMANDS: usize = 96;

/// The first byte chooses provisioning and sector size; then each command takes two bytes.
pub(crate) fn crash_model(data: &[u8]) {
    let [shape, commands @ ..] = data else { return };
    let mut world = World::new(*shape);
    for command in commands.chunks_exact(2).take(MAX_COMMANDS) {
        world.obey(command[0], command[1]);
    }
    world.crash(Outcome::All(Fate::Lost));
    world.finish();
}

/// What a user has open.
enum Session {
    Resting(ByteDevice),
    Moving(Box<Reencryption>, ByteDevice),
}

impl Session {
    fn volume(&self) -> &ByteDevice {
        match self {
            Self::Resting(volume) | Self::Moving(_, volume) => volume,
        }
    }
}

struct World {
    medium: Arc<SimStorage>,
    model: Model,
    /// The sets of keys of which one opens the container after a crash.
    keys: Vec<BTreeSet<u8>>,
    /// Whether nothing can be torn within a sector that was written and not flushed.
    is_clean: bool,
    session: Option<Session>,
    rng: Counting,
}

impl World {
    fn new(shape: u8) -> Self {
        let provision = if shape & 1 == 0 { Provision::Quick } else { Provision::Thin };
        let medium = container_with(0, provision, sector_size(shape >> 1));
        let content = read_all(&medium, unlock(&medium, 0).expect("a new container").1.layout);
        Self {
            medium: Arc::new(medium),
            model: Model::new(&content),
            keys: vec![BTreeSet::from([0])],
            is_clean: true,
            session: None,
            rng: Counting::default(),
        }
    }

    fn obey(&mut self, command: u8, value: u8) {
        match command % 12 {
            0 | 1 => self.write(usize::from(value), command),
            2 => self.flush(),
            3 => self.edit(|editor, keys, rng| {
                let new = value % 6;
                if keys.insert(new) {
                    let credentials = key(new);
                    editor.add(&slot(None, &credentials), rng)?;
                }
                Ok(())
            }),
            4 => self.edit(|editor, keys, rng| {
                let new = value % 6;
                if keys.contains(&new) {
                    return Ok(());
                }
                let credentials = key(new);
                let number = editor.keyslots()[0].slot;
                editor.replace(number, &slot(None, &credentials), rng)?;
                // Whose slot that was, opening tells.
                keys.clear();
                keys.insert(new);
                Ok(())
            }),
            5 | 6 => self.step(value),
            7 => self.attempt(|session, _| match session {
                Session::Moving(work, _) => work.retire(),
                Session::Resting(_) => Ok(()),
            }),
            8 => self.close(),
            9 => self.crash(Outcome::Random { seed: value.into() }),
            10 => self.fail_later(value),
            _ => self.crash(match value % 4 {
                0 => Outcome::All(Fate::Lost),
                1 => Outcome::All(Fate::Landed),
                2 => Outcome::Except { index: value.into(), fate: Fate::Landed, others: Fate::Lost },
                _ => Outcome::All(Fate::Torn { unit: 512, seed: value.into() }),
            }),
        }
    }

    /// Opens the container where it is not open, checks what it holds, and takes up a re-encryption that is under way.
    fn open(&mut self) -> Result<&mut Session> {
        if self.session.is_none() {
            let found = self.look();
            let numbers: Vec<u8> = found.into_iter().collect();
            let (_, unlocked) = open_for_writing(&self.medium, &numbers)?;
            let storage = Arc::clone(&self.medium) as Arc<dyn Storage>;
            self.session = Some(match unlocked.layout {
                Layout::Fixed(_) => {
                    Session::Resting(ByteDevice::new(volume::device(storage, unlocked.layout)))
                }
                Layout::Moving(_) => {
                    let work = Reencryption::resume(storage, unlocked.volume_key, TUNING)?;
                    let volume = ByteDevice::new(work.device() as Arc<dyn BlockDevice>);
                    Session::Moving(Box::new(work), volume)
                }
            });
        }
        Ok(self.session.as_mut().expect("it was opened"))
    }

    /// Which keys open the container, reading only; they and all sectors must be as they may.
    fn look(&self) -> BTreeSet<u8> {
        let numbers = openers(&self.medium, &KEYS);
        let found: BTreeSet<u8> = numbers.iter().copied().collect();
        assert!(self.keys.contains(&found), "opens with {found:?}, not one of {:?}", self.keys);
        let (_, unlocked) = unlock(&self.medium, numbers[0]).expect("it opened");
        self.model.check(&read_all(&self.medium, unlocked.layout), self.is_clean, "read-only");
        found
    }

    /// Does something with what is open. Where it fails, the program ends and the medium works again.
    fn attempt(&mut self, act: impl FnOnce(&mut Session, &mut Model) -> Result<()>) {
        let mut model = self.model.clone();
        let result = self.open().and_then(|session| act(session, &mut model));
        self.model = model;
        if result.is_err() {
            self.kill();
            self.is_clean = false;
        }
    }

    fn write(&mut self, unit: usize, fill: u8) {
        self.attempt(|session, model| {
            let unit = unit % (usize::try_from(session.volume().size()).expect("small") / UNIT);
            if let Session::Moving(work, _) = session {
                let place = (unit * UNIT) as u64;
                if place < work.done() && place + TUNING.chunk_len >= work.done() {
                    work.retire()?;
                }
            }
            model.write(session.volume(), unit, fill)
        });
    }

    fn flush(&mut self) {
        self.attempt(|session, model| model.flush(session.volume()));
    }

    /// Moves the border on, or starts a re-encryption for one key; at the end, ends it.
    fn step(&mut self, value: u8) {
        self.attempt(|session, _| match session {
            Session::Moving(work, _) => match work.step()? {
                Step::AtTheEnd => work.finish(),
                Step::Moved => Ok(()),
            },
            Session::Resting(_) => Ok(()),
        });
        match &self.session {
            Some(Session::Moving(work, _)) if work.done() < work.total() => {}
            Some(Session::Moving(..)) => self.close(),
            Some(Session::Resting(_)) => self.start(value),
            None => {}
        }
    }

    fn start(&mut self, value: u8) {
        self.close();
        let found = self.look();
        let Some(&first) = found.first() else { return };
        let new = value % 6;
        self.keys = vec![found, BTreeSet::from([new])];
        let suite = if value & 64 == 0 { Suite::Aes128Xts } else { Suite::Aes256Xts };
        let target = Target { suite, sector_size: sector_size(value >> 7) };
        let started = open_for_writing(&self.medium, &[first]).and_then(|(_, unlocked)| {
            let header = NativeHeader::read(&*self.medium)?;
            let credentials = key(new);
            let slots = [slot(None, &credentials)];
            let start = StartHeader::new(&header, &unlocked, target, &slots, &self.rng)?;
            Reencryption::start(Arc::clone(&self.medium) as Arc<dyn Storage>, &start, TUNING).map(drop)
        });
        if started.is_ok() {
            self.keys.remove(0);
        }
        self.kill();
    }

    /// Changes keyslots; the volume is closed meanwhile.
    fn edit(
        &mut self,
        change: impl FnOnce(&mut dyn strongroom::format::Editor, &mut BTreeSet<u8>, &Counting) -> Result<()>,
    ) {
        self.close();
        let found = self.look();
        let Some(&first) = found.first() else { return };
        let mut keys = found.clone();
        let done = open_for_writing(&self.medium, &[first]).and_then(|(header, unlocked)| {
            let mut editor = header.editor(&unlocked)?;
            let in_use = editor.keyslots().len();
            change(&mut *editor, &mut keys, &self.rng)?;
            // A replaced slot takes one key away: without the others it is easier to say which are left.
            if editor.keyslots().len() == in_use && keys != found {
                for other in editor.keyslots().into_iter().skip(1) {
                    editor.remove(other.slot, false)?;
                }
            }
            editor.commit(&*self.medium)
        });
        self.keys = if done.is_ok() { vec![keys] } else { [self.keys.clone(), vec![keys]].concat() };
        self.kill();
    }

    /// The user is done for now: what was written stays in the kernel's cache.
    fn close(&mut self) {
        self.attempt(|session, _| match session {
            Session::Moving(work, _) => work.retire(),
            Session::Resting(_) => Ok(()),
        });
        self.kill();
    }

    /// The program is gone, the power is not.
    fn kill(&mut self) {
        self.session = None;
        self.model.crash();
        self.medium.set_plan(Plan::Works);
    }

    /// The power is gone; what is found when it is back is what there is.
    fn crash(&mut self, outcome: Outcome) {
        self.kill();
        self.medium = Arc::new(self.medium.crash(&outcome));
        self.is_clean &= match outcome {
            Outcome::All(fate) | Outcome::Except { fate, .. } => !matches!(fate, Fate::Torn { .. }),
            Outcome::Random { .. } => false,
        };
        let found = self.look();
        let number = *found.first().expect("never without a key");
        let (_, unlocked) = unlock(&self.medium, number).expect("it opened");
        self.model = Model::new(&read_all(&self.medium, unlocked.layout));
        self.keys = vec![found];
        self.is_clean = true;
    }

    /// One of the next operations will fail.
    fn fail_later(&mut self, value: u8) {
        let failure = match value % 5 {
            0 => Failure::Io,
            1 => Failure::NoSpace,
            2 => Failure::Short(usize::from(value) * 32),
            3 => Failure::Sync(Outcome::All(Fate::Landed)),
            _ => Failure::Sync(Outcome::Random { seed: value.into() }),
        };
        self.is_clean = false;
        self.medium.set_plan(Plan::FailAt(u64::from(value / 5 % 16), failure));
    }

    /// Goes on to the end of whatever is under way: everything is there, and nothing is left to heal.
    fn finish(&mut self) {
        let chunks = 64;
        for _ in 0..chunks {
            match self.open().expect("nothing fails") {
                Session::Resting(_) => break,
                Session::Moving(work, _) => {
                    if work.step().expect("nothing fails") == Step::AtTheEnd {
                        work.finish().expect("nothing fails");
                        self.kill();
                    }
                }
            }
        }
        self.kill();
        self.look();
        assert!(container::copy_states(&self.medium).iter().all(|&state| state == CopyState::Current));
    }
}

fn sector_size(choice: u8) -> SectorSize {
    if choice & 1 == 0 { SectorSize::B4096 } else { SectorSize::B512 }
}
