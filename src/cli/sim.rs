//! `lictor sim`: the core of this very binary through seeded trouble in virtual time.

use super::exit::Exit;
use super::output;
use crate::process::clock;
use crate::sim::report::{Report, Violation};
use crate::sim::swarm::{Plan, Shape, plan};
use crate::sim::{run as simulate, shrink};
use std::sync::atomic::{AtomicU64, Ordering};

/// Violations after which a run ends: more say no more.
const VIOLATIONS_MOST: usize = 10;

/// Simulate clusters in virtual time, with faults, and check what must always hold
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Seeds, one schedule each: `1..1000`, both ends included
    #[arg(long, value_name = "A..B", value_parser = seeds, required_unless_present = "seed")]
    seeds: Option<(u64, u64)>,
    /// One schedule
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Print what happens, one line an event
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Nodes of each cluster; without it 3 to 5, by the seed
    #[arg(long, value_parser = clap::value_parser!(u64).range(3..=9))]
    nodes: Option<u64>,
    /// Virtual minutes of each schedule
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=1_440))]
    minutes: u64,
    /// Threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    jobs: u64,
    /// Restore snapshots of Consul under running nodes: breaks an assumption, is no violation alone
    #[arg(long)]
    restore: bool,
    /// A planted fault by its number in docs/lease.md, to see it caught
    #[cfg(feature = "mutants")]
    #[arg(long, value_name = "M", value_parser = planted)]
    mutant: Option<crate::decide::mutant::Mutant>,
    /// The report as one line of JSON alone
    #[arg(long)]
    json: bool,
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let wanted = "two numbers: `1..1000`";
    let (first, last) = text.split_once("..").ok_or(wanted)?;
    let number = |text: &str| text.trim_start_matches('=').parse::<u64>().map_err(|_| wanted);
    let (first, last) = (number(first)?, number(last)?);
    if first > last { Err(format!("{first} is after {last}")) } else { Ok((first, last)) }
}

#[cfg(feature = "mutants")]
fn planted(text: &str) -> Result<crate::decide::mutant::Mutant, String> {
    let number = text.parse().map_err(|_| "a number")?;
    let planted = crate::decide::mutant::Mutant::of(number);
    planted.ok_or_else(|| format!("there is no M{number:02} in docs/lease.md"))
}

pub fn run(args: Args) -> Exit {
    let nodes = args.nodes.map(|nodes| usize::try_from(nodes).expect("at most 9"));
    let shape = Shape { nodes, minutes: args.minutes, restore: args.restore };
    if let (Some(seed), true) = (args.seed, args.trace) {
        return trace(&args, &plan(seed, &shape));
    }
    let (first, last) = args.seeds.or(args.seed.map(|seed| (seed, seed))).expect("clap saw to it");
    let began = clock::now();
    let mut report = many(&args, &shape, first, last);
    report.close(clock::now().since(began).0 as f64 / 1_000.0);
    let exit = if report.is_good() { Exit::Done } else { Exit::Failed };
    if !args.json {
        for violation in &report.violations {
            output::answer(told(violation), exit);
        }
        for code in &report.beyond_reach {
            output::answer(format_args!("reached, against its excuse: {code}"), exit);
        }
        if report.schedules >= crate::sim::report::COUNTS_FROM {
            for kind in &report.never_injected {
                output::answer(format_args!("never injected: {kind}"), exit);
            }
            for code in &report.never_reached {
                output::answer(format_args!("never reached: {code}"), exit);
            }
        }
    }
    output::json(&report, exit)
}

fn many(args: &Args, shape: &Shape, first: u64, last: u64) -> Report {
    let next = AtomicU64::new(first);
    let broken = AtomicU64::new(0);
    let work = || {
        switch(args);
        let mut report = Report::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > last || broken.load(Ordering::Relaxed) >= VIOLATIONS_MOST as u64 {
                return report;
            }
            let plan = plan(seed, shape);
            let outcome = simulate(&plan, false);
            report.add(&plan, &outcome);
            if let Some((at, what, more)) = &outcome.check.broken {
                broken.fetch_add(1, Ordering::Relaxed);
                report.violations.push(violation(&plan, *at, what, more));
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.jobs).map(|_| scope.spawn(work)).collect();
        let mut sum = Report::default();
        for thread in threads {
            sum.merge(thread.join().expect("a simulation does not panic"));
        }
        sum
    })
}

#[cfg(feature = "mutants")]
fn switch(args: &Args) {
    crate::decide::mutant::set(args.mutant);
}
#[cfg(not(feature = "mutants"))]
fn switch(_: &Args) {}

fn violation(plan: &Plan, at: u64, what: &'static str, more: &str) -> Violation {
    let less = shrink::shrink(plan, what);
    Violation {
        seed: plan.seed,
        version: env!("CARGO_PKG_VERSION"),
        at_ms: at,
        what: what.to_owned(),
        more: more.to_owned(),
        faults: less.faults.iter().map(|(at, fault)| format!("{at} ms: {fault:?}")).collect(),
    }
}

fn told(violation: &Violation) -> String {
    let Violation { seed, version, at_ms, what, more, faults } = violation;
    let list = faults.join("\n    ");
    format!("seed {seed}, lictor {version}, at {at_ms} ms: {what}\n    {more}\n    {list}")
}

fn trace(args: &Args, plan: &Plan) -> Exit {
    switch(args);
    let outcome = simulate(plan, true);
    let Plan { nodes, sync, hold, cuts_off, rates, .. } = plan;
    let head = format!(
        "seed {}: {nodes} nodes, sync {sync:?}, hold {hold}, cuts off {cuts_off}, \
         clocks {rates:?}",
        plan.seed
    );
    let lines = outcome.trace.lines.unwrap_or_default().join("\n");
    let (end, exit) = match &outcome.check.broken {
        Some((at, what, more)) => (format!("{at} ms: {what}; {more}"), Exit::Failed),
        None => ("nothing is broken".to_owned(), Exit::Done),
    };
    let hash = outcome.trace.hash;
    output::answer(format_args!("{head}\n{lines}\n{end}\ntrace {hash:016x}"), exit)
}
