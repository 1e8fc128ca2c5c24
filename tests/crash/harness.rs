//! Runs a command over and over, stopping it at another operation each time.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
    sync::Arc,
};

use strongroom::{
    Result,
    storage::{Failure, Fate, Outcome, Plan, SimStorage},
};

/// A medium as it may be found after a run, with what is known of the run.
#[derive(Debug)]
pub(crate) struct Case<M> {
    /// The medium, working again.
    pub medium: Arc<SimStorage>,
    /// What the command had noted when it ended.
    pub model: M,
    /// What happened.
    pub how: String,
    /// Whether the command had said that it is done.
    pub done: bool,
    /// Whether a recovery after it had said so.
    pub recovered: bool,
    /// Whether nothing was torn.
    pub is_clean: bool,
}

/// A command under trial: opens what it needs, writes, notes in the model what the outside may rely on, gives its result.
pub(crate) type Command<'a, M> = &'a dyn Fn(&Arc<SimStorage>, &mut M) -> Result<()>;

/// What must hold of every case.
pub(crate) type Check<'a, M> = &'a dyn Fn(&Case<M>);

/// Where a trial starts, and what runs in it.
pub(crate) struct Trial<'a, M> {
    /// The medium before.
    pub before: &'a SimStorage,
    /// What is known of it.
    pub model: M,
    /// What is stopped.
    pub command: Command<'a, M>,
    /// What follows a stop, and is stopped in its turn.
    pub recovery: Command<'a, M>,
    /// Of so many stops, one is followed by recoveries.
    pub recover_every: usize,
}

impl<M: Clone + Hash> Trial<'_, M> {
    /// Checks whatever a crash or a failure of the command can leave behind; then recovers it, and checks whatever a crash
    /// of the recovery can leave behind.
    pub(crate) fn prove(&self, check: Check<'_, M>) {
        let mut seen = HashSet::new();
        let mut cases = crashes(self.before, &self.model, self.command, seeds());
        cases.extend(failures(self.before, &self.model, self.command));
        cases.retain(|case| is_new(&mut seen, case));
        cases.iter().for_each(check);
        for first in cases.iter().step_by(self.recover_every) {
            for mut second in crashes(&first.medium, &first.model, self.recovery, 2) {
                (second.done, second.recovered) = (first.done, second.done);
                second.is_clean &= first.is_clean;
                second.how = format!("{}, then recovery {}", first.how, second.how);
                if is_new(&mut seen, &second) {
                    check(&second);
                }
            }
        }
    }
}

/// As [`Trial::prove`], of a command that notes nothing.
pub(crate) fn prove(
    before: &SimStorage,
    command: &dyn Fn(&SimStorage) -> Result<()>,
    recovery: &dyn Fn(&SimStorage) -> Result<()>,
    check: Check<'_, ()>,
) {
    let command: Command<'_, ()> = &|storage, ()| command(storage);
    let recovery: Command<'_, ()> = &|storage, ()| recovery(storage);
    let recover_every = if seeds() > USUAL_SEEDS { 1 } else { 3 };
    Trial { before, model: (), command, recovery, recover_every }.prove(check);
}

/// One run under a plan.
fn run<M: Clone>(before: &SimStorage, model: &M, command: Command<'_, M>, plan: Plan) -> Case<M> {
    let (medium, mut model) = (Arc::new(before.clone()), model.clone());
    medium.set_plan(plan);
    let result = command(&medium, &mut model);
    let how = result.as_ref().err().map(|error| format!("({error})")).unwrap_or_default();
    Case { medium, model, how, done: result.is_ok(), recovered: false, is_clean: true }
}

/// How many operations the command takes on `before` where nothing fails.
fn operations<M: Clone>(before: &SimStorage, model: &M, command: Command<'_, M>) -> u64 {
    let case = run(before, model, command, Plan::Works);
    assert!(case.done, "without any failure: {}", case.how);
    case.medium.operations()
}

/// Every medium that a crash of the command can leave: killed, and without power in each outcome, before each of its
/// operations and after the last. Each stop has so many seeds of its own.
fn crashes<M: Clone>(before: &SimStorage, model: &M, command: Command<'_, M>, seeds: u64) -> Vec<Case<M>> {
    let operations = operations(before, model, command);
    let stop = |stop| {
        let mut case = run(before, model, command, Plan::StopAt(stop));
        case.how = format!("stopped at operation {stop}");
        assert_eq!(case.done, stop == operations, "{} of {operations}", case.how);
        let first = 1 + stop * seeds;
        aftermath(case, first..first + seeds)
    };
    (0..=operations).flat_map(stop).collect()
}

/// Every medium that is left where one operation of the command fails, by the error alone and by a crash after it.
fn failures<M: Clone>(before: &SimStorage, model: &M, command: Command<'_, M>) -> Vec<Case<M>> {
    let mut cases = Vec::new();
    for at in 0..operations(before, model, command) {
        for failure in FAILURES {
            // Where the command knows another way it is done: then what it did must last.
            let mut case = run(before, model, command, Plan::FailAt(at, failure.clone()));
            case.how = format!("operation {at} failed: {failure:?} {}", case.how);
            case.is_clean = !matches!(&failure, Failure::Sync(outcome) if !is_clean(outcome));
            cases.extend(aftermath(case, 1..2));
        }
    }
    cases
}

/// Whether no such case was seen yet: many outcomes come to the same. Those with changes at stake count as new.
fn is_new<M: Hash>(seen: &mut HashSet<u64>, case: &Case<M>) -> bool {
    let durable = case.medium.crash(&Outcome::All(Fate::Lost)).live();
    let mut hasher = DefaultHasher::new();
    // Most are the same as they are live; then once is enough.
    let live = Some(case.medium.live()).filter(|live| !Arc::ptr_eq(live, &durable));
    (live.map(|live| sum(&live)), sum(&durable), &case.model, case.done, case.recovered).hash(&mut hasher);
    case.medium.unsynced() > 0 || seen.insert(hasher.finish())
}

/// A quick sum of the bytes of a medium: they are most of what is hashed, and nobody chooses them.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    let add = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let sum = words.iter().fold(bytes.len() as u64, |sum, word| add(sum, u64::from_le_bytes(*word)));
    rest.iter().fold(sum, |sum, &byte| add(sum, byte.into()))
}

/// The medium where the process is gone and the power is not, and what is left of it without power.
fn aftermath<M: Clone>(run: Case<M>, seeds: Range<u64>) -> Vec<Case<M>> {
    run.medium.set_plan(Plan::Works);
    let outcomes = Outcome::of(run.medium.unsynced(), seeds);
    let mut cases: Vec<Case<M>> = outcomes
        .into_iter()
        .map(|outcome| Case {
            medium: Arc::new(run.medium.crash(&outcome)),
            model: run.model.clone(),
            how: format!("{}, {outcome:?}", run.how),
            is_clean: run.is_clean && is_clean(&outcome),
            ..run
        })
        .collect();
    cases.push(Case { how: format!("{}, killed", run.how), ..run });
    cases
}

/// The medium, and where a crash now would change something, what is left of it then.
pub(crate) fn with_and_without_power(medium: SimStorage) -> Vec<SimStorage> {
    let without = medium.crash(&Outcome::All(Fate::Lost));
    if *without.live() == *medium.live() { vec![medium] } else { vec![medium, without] }
}

fn is_clean(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::All(fate) | Outcome::Except { fate, .. } => !matches!(fate, Fate::Torn { .. }),
        Outcome::Random { .. } => false,
    }
}

/// How many random outcomes of each kind there are of a first crash at each stop.
fn seeds() -> u64 {
    std::env::var("STRONGROOM_CRASH_SEEDS").map_or(USUAL_SEEDS, |seeds| seeds.parse().unwrap())
}

const USUAL_SEEDS: u64 = 3;

const FAILURES: [Failure; 6] = [
    Failure::Io,
    Failure::NoSpace,
    Failure::Short(0),
    Failure::Short(5000),
    Failure::Sync(Outcome::All(Fate::Landed)),
    Failure::Sync(Outcome::All(Fate::Torn { unit: 512, seed: 2 })),
];
