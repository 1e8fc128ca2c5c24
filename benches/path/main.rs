//! The data path beside its peers: every bar with its ratio, spread and verdict, `benches/RESULTS.md` and a chart.
//!
//! Everything lies on tmpfs and takes turns, so that what else the machine does falls on all; only ratios count.
//! On a busy machine there are fewer rounds than five, which the table says: it ends within a quarter of an hour all the same.
//! `--only GROUP` (a part of its name) and `--rounds N` are for work on one thing, and write no results.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops at the first surprise"
)]

mod bars;
mod jobs;
mod machine;
mod null;
mod program;
mod report;
mod small;
mod targets;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use bars::{ARGON2ID, ARGON2ID_LIMIT, GROUPS, Group, LIMIT, Outcome, Samples};
use jobs::{Job, Tree, libargon2, our_argon2id};
use machine::Machine;
use targets::{Who, Workshop};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [null, directory, size] = &arguments[..]
        && null == "--null"
    {
        return null::serve(Path::new(directory), size.parse().unwrap());
    }
    if let [small, what, directory] = &arguments[..]
        && small == small::SMALL
    {
        return small::work(what, Path::new(directory));
    }
    let value =
        |name| arguments.iter().position(|argument| argument == name).map(|at| arguments[at + 1].as_str());
    let (only, rounds) =
        (value("--only"), value("--rounds").map_or(ROUNDS, |rounds| rounds.parse().unwrap()));
    assert!(rustix::process::geteuid().is_root(), "mounting loop devices takes root: sudo make bench");

    let interrupted = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&interrupted)).unwrap();
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&interrupted)).unwrap();
    let (machine, start) = (Machine::examine(), Instant::now());
    let (mut outcomes, mut all) = (Vec::new(), Vec::new());
    for group in GROUPS.iter().filter(|group| only.is_none_or(|only| group.name.contains(only))) {
        println!("{}: {} rounds ({} s)", group.name, rounds, start.elapsed().as_secs());
        let samples = measure(group, rounds, &interrupted);
        let ours = group_leader(group, &samples);
        outcomes.extend(
            group
                .bars
                .iter()
                .map(|bar| Outcome::new(bar, &samples[&(ours, bar.job)], &samples[&(bar.peer, bar.job)])),
        );
        all.push((group.name, samples));
    }
    if only.is_none_or(|only| "argon2id".contains(only)) {
        println!("argon2id: {} rounds ({} s)", rounds, start.elapsed().as_secs());
        outcomes.push(argon2id(rounds, &interrupted));
    }
    println!("\n{}", report::table(&outcomes));
    if only.is_none() && rounds >= ROUNDS {
        report::write(&machine, &outcomes, &all, start.elapsed());
    }
}

/// All jobs on all targets, in turn; who begins changes from round to round. What no bar asks of a peer is left out.
fn measure(group: &Group, rounds: usize, interrupted: &AtomicBool) -> Samples {
    let workshop = Workshop::new();
    let tree = Tree::new(&workshop.store);
    let targets = (group.targets)(&workshop);
    let mut samples = Samples::new();
    let (start, mut memory) = (Instant::now(), 0.0_f64);
    for round in 0..rounds {
        if round > 0 && start.elapsed() > group.limit {
            println!("  only {round} rounds: the time is up");
            break;
        }
        for job in group.jobs {
            for turn in 0..targets.len() {
                assert!(!interrupted.load(Ordering::Relaxed), "interrupted");
                let target = &targets[(turn + round) % targets.len()];
                if !group.asks(target.name, *job) {
                    continue;
                }
                let value = job.run(target, &tree);
                samples.entry((target.name, *job)).or_default().push(value);
                if group.memory.is_some() {
                    memory = memory.max(workshop.memory(Who::User));
                }
            }
        }
    }
    if let Some(limit) = group.memory {
        samples.insert((targets[0].name, Job::Memory), vec![memory]);
        samples.insert((LIMIT, Job::Memory), vec![limit]);
    }
    for job in group.jobs.iter().chain(&[Job::Memory]) {
        for target in &targets {
            let Some(values) = samples.get(&(target.name, *job)) else { continue };
            println!("  {job:?} {}: {:.1} {}", target.name, bars::median(values), job.unit());
        }
    }
    samples
}

/// The name of ours, which no bar is against.
fn group_leader(group: &Group, samples: &Samples) -> &'static str {
    let is_peer = |name: &str| group.bars.iter().any(|bar| bar.peer == name);
    samples.keys().map(|(name, _)| *name).find(|name| !is_peer(name)).unwrap()
}

fn argon2id(rounds: usize, interrupted: &AtomicBool) -> Outcome {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let start = Instant::now();
    for round in 0..rounds {
        if round > 0 && start.elapsed() > ARGON2ID_LIMIT {
            println!("  only {round} rounds: the time is up");
            break;
        }
        assert!(!interrupted.load(Ordering::Relaxed), "interrupted");
        if round % 2 == 0 {
            ours.push(our_argon2id());
            theirs.push(libargon2());
        } else {
            theirs.push(libargon2());
            ours.push(our_argon2id());
        }
    }
    Outcome::new(&ARGON2ID, &ours, &theirs)
}

const ROUNDS: usize = 5;
