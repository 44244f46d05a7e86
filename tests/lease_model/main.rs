//! The lease model: the product's own `decide::lead`, every interleaving of it, under named faults.
//!
//! `cargo test --profile model --features mutants --test lease_model [-- NAME..]`;
//! `LICTOR_MODEL_DEEP=600` searches each scenario for so many seconds, `LICTOR_MODEL_EPOCHS=3` one
//! take-over further. Without `--features mutants` only the product itself is searched. In an
//! unoptimised build each search stops early: a smoke test. `-- M36` alone shows that fault with
//! its trace.

#![allow(clippy::disallowed_methods, reason = "a search has its own time limit and exit code")]
#![allow(dead_code, unused_imports, reason = "decide is compiled in whole, its own tests left out")]

mod acts;
mod canonical;
#[path = "../../src/decide/mod.rs"]
mod decide;
mod invariants;
mod mail;
mod rules;
mod scenarios;
mod search;
mod world;

use decide::lead::mutant::Mutant;
use scenarios::{EQUIVALENT, MUTANTS};
use search::{Limits, Outcome, search};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The machines this runs on have two cores.
const WORKERS: usize = 2;

#[cfg(feature = "mutants")]
fn switch(mutant: Option<Mutant>) {
    decide::lead::mutant::set(mutant);
}
#[cfg(not(feature = "mutants"))]
fn switch(_: Option<Mutant>) {}

/// What is off in one search.
#[derive(Clone, Copy)]
enum Off {
    Nothing,
    Rule(Mutant),
    /// A rule that others cover: nothing is to be found.
    Spare(Mutant),
    /// M11: no guard kills at the deadline.
    Guard,
}

struct Job {
    scenario: &'static str,
    off: Off,
}

fn run(job: &Job, deep: Option<u64>) -> Outcome {
    let mut scenario = scenarios::all(epochs())
        .into_iter()
        .find(|scenario| scenario.name == job.scenario)
        .expect("jobs name scenarios");
    match job.off {
        Off::Nothing => {}
        Off::Rule(mutant) => {
            switch(Some(mutant));
            if !scenario.rules.eager {
                scenario.rules.last_epoch = scenario.rules.last_epoch.max(3);
            }
        }
        Off::Spare(mutant) => switch(Some(mutant)),
        Off::Guard => scenario.rules.guard = false,
    }
    let (ground, world) = scenario.start();
    let outcome = search(&ground, world, scenario.progress, limits(deep, job.off));
    switch(None);
    outcome
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// How many epochs are looked at; `quiet` and `retake` look at one more.
fn epochs() -> u64 {
    number("LICTOR_MODEL_EPOCHS").unwrap_or(2)
}

fn limits(deep: Option<u64>, off: Off) -> Limits {
    let secs = Duration::from_secs;
    match (cfg!(debug_assertions), deep, off) {
        (true, ..) => Limits { states: 3_000, time: secs(5) },
        (false, Some(seconds), _) => Limits { states: 20_000_000, time: secs(seconds) },
        (false, None, Off::Nothing | Off::Spare(_)) => Limits { states: 150_000, time: secs(9) },
        (false, None, Off::Rule(_) | Off::Guard) => Limits { states: 600_000, time: secs(90) },
    }
}

fn name(off: Off) -> String {
    match off {
        Off::Nothing => "-".into(),
        Off::Rule(mutant) | Off::Spare(mutant) => format!("{mutant:?}"),
        Off::Guard => "M11".into(),
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let deep = number("LICTOR_MODEL_DEEP");
    let wanted = |name: &str| args.is_empty() || args.iter().any(|arg| arg == name);
    let mut jobs: Vec<Job> = scenarios::all(epochs())
        .iter()
        .filter(|scenario| wanted(scenario.name))
        .map(|scenario| Job { scenario: scenario.name, off: Off::Nothing })
        .collect();
    if cfg!(feature = "mutants") && !cfg!(debug_assertions) {
        let chosen = MUTANTS.iter().filter(|(mutant, _)| wanted(&format!("{mutant:?}")));
        jobs.extend(chosen.map(|(m, scenario)| Job { scenario, off: Off::Rule(*m) }));
        let chosen = EQUIVALENT.iter().filter(|(mutant, _)| wanted(&format!("{mutant:?}")));
        jobs.extend(chosen.map(|(m, scenario)| Job { scenario, off: Off::Spare(*m) }));
    }
    if wanted("M11") {
        jobs.push(Job { scenario: "sess", off: Off::Guard });
    }
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    println!(
        "{:<9} {:<5} {:>9} {:>6} {:>6} {:>7}  result",
        "scenario", "off", "states", "depth", "epochs", "s"
    );
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = run(job, deep);
                    let told = tell(job, &outcome, args.len() == 1);
                    if let Some(failure) = told {
                        failures.lock().expect("no panic under it").push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic under it");
    if !failures.is_empty() {
        println!("\n{}", failures.join("\n"));
        std::process::exit(1);
    }
}

/// Prints one line; a trace where one is unexpected or asked for. The failure, if it is one.
fn tell(job: &Job, outcome: &Outcome, traces: bool) -> Option<String> {
    let expected = !matches!(job.off, Off::Nothing | Off::Spare(_));
    let result = match &outcome.violation {
        Some((what, trace)) => format!("{what}, {} steps", trace.len()),
        None if outcome.complete => "exhausted, nothing found".into(),
        None => format!("stopped, nothing found to depth {}", outcome.depth),
    };
    let mut text = format!(
        "{:<9} {:<5} {:>9} {:>6} {:>6} {:>7.1}  {result}",
        job.scenario,
        name(job.off),
        outcome.states,
        outcome.depth,
        outcome.epoch,
        outcome.took.as_secs_f64(),
    );
    if let Some((_, trace)) = &outcome.violation
        && (!expected || traces)
    {
        for (at, act) in trace.iter().enumerate() {
            text.push_str(&format!("\n    {:>2}. {act:?}", at + 1));
        }
    }
    println!("{text}");
    (outcome.violation.is_some() != expected)
        .then(|| format!("FAILED: {} with {}: {result}", job.scenario, name(job.off)))
}
