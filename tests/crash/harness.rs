//! Runs a command over and over, stopping it at another operation each time.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
};

use strongroom::{
    Result,
    storage::{Failure, Fate, Outcome, Plan, SimStorage},
};

/// A medium as it may be found after a run.
#[derive(Debug)]
pub(crate) struct Case {
    /// The medium, working again.
    pub medium: SimStorage,
    /// What happened to it.
    pub how: String,
    /// Whether the command had said that it is done.
    pub done: bool,
}

/// A command under trial: opens what it needs, writes, and gives its result.
pub(crate) type Command<'a> = &'a dyn Fn(&SimStorage) -> Result<()>;

/// What must hold of every case.
pub(crate) type Check<'a> = &'a dyn Fn(&Case);

/// Seeds of the random outcomes of a first crash.
const SEEDS: Range<u64> = 1..9;

/// How many operations the command takes on `before` where nothing fails.
fn operations(before: &SimStorage, command: Command<'_>) -> u64 {
    let medium = before.clone();
    medium.set_plan(Plan::Works);
    command(&medium).unwrap();
    medium.operations()
}

/// Every medium that a crash of the command can leave: killed, and without power in each outcome, before each of its
/// operations and after the last.
fn crashes(before: &SimStorage, command: Command<'_>, seeds: Range<u64>) -> Vec<Case> {
    let operations = operations(before, command);
    let mut cases = Vec::new();
    for stop in 0..=operations {
        let medium = before.clone();
        medium.set_plan(Plan::StopAt(stop));
        let result = command(&medium);
        assert_eq!(result.is_ok(), stop == operations, "stopped at operation {stop}: {result:?}");
        cases.extend(aftermath(
            &medium,
            &format!("stopped at operation {stop}"),
            result.is_ok(),
            seeds.clone(),
        ));
    }
    cases
}

/// Every medium that is left where one operation of the command fails, by the error alone and by a crash after it.
fn failures(before: &SimStorage, command: Command<'_>) -> Vec<Case> {
    let mut cases = Vec::new();
    for at in 0..operations(before, command) {
        for failure in FAILURES {
            let medium = before.clone();
            medium.set_plan(Plan::FailAt(at, failure.clone()));
            let result = command(&medium);
            assert!(result.is_err(), "{failure:?} of operation {at} passed for a success");
            cases.extend(aftermath(&medium, &format!("operation {at} failed: {failure:?}"), false, 1..3));
        }
    }
    cases
}

/// Checks whatever a crash or a failure of the command can leave behind; then recovers it, and whatever a crash of the
/// recovery can leave behind too.
pub(crate) fn prove(before: &SimStorage, command: Command<'_>, recovery: Command<'_>, check: Check<'_>) {
    let mut seen = HashSet::new();
    let mut cases = crashes(before, command, SEEDS);
    cases.extend(failures(before, command));
    cases.retain(|case| is_new(&mut seen, case));
    cases.iter().for_each(check);
    for first in &cases {
        for mut second in crashes(&first.medium, recovery, 1..3) {
            second.done = first.done;
            second.how = format!("{}, then recovery {}", first.how, second.how);
            if is_new(&mut seen, &second) {
                check(&second);
            }
        }
    }
}

/// Whether no such medium was seen yet. Many outcomes come to the same; those with changes at stake count as new.
fn is_new(seen: &mut HashSet<u64>, case: &Case) -> bool {
    let mut hasher = DefaultHasher::new();
    (case.medium.live(), case.done).hash(&mut hasher);
    case.medium.unsynced() > 0 || seen.insert(hasher.finish())
}

/// The medium where the process is gone and the power is not, and what is left of it without power.
fn aftermath(medium: &SimStorage, how: &str, done: bool, seeds: Range<u64>) -> Vec<Case> {
    medium.set_plan(Plan::Works);
    let mut cases = vec![Case { medium: medium.clone(), how: format!("{how}, killed"), done }];
    for outcome in Outcome::of(medium.unsynced(), seeds) {
        cases.push(Case { medium: medium.crash(&outcome), how: format!("{how}, {outcome:?}"), done });
    }
    cases
}

const FAILURES: [Failure; 6] = [
    Failure::Io,
    Failure::NoSpace,
    Failure::Short(0),
    Failure::Short(5000),
    Failure::Sync(Outcome::All(Fate::Landed)),
    Failure::Sync(Outcome::Random { seed: 7 }),
];
