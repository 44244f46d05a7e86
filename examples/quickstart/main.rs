//! Three MariaDB nodes under lictor on three Consul servers, in sync mode, and what they go
//! through:
//!
//! - start, and wait until all three are healthy and counted for sync
//! - a writer per node, a row every 10 ms
//! - per round: kill the primary's application, kill a whole node (the primary's), switch over
//! - after each: 20 s of watching, then wait until the cluster is whole, then read back every
//!   acknowledged row
//! - a timeline as it happens and a table at the end; exit 1 if a row was lost or two nodes took
//!   writes at once
//!
//! `examples/quickstart.sh` installs what this needs, builds and runs it. `examples/faults.sh` has
//! more of what can happen.

#![allow(clippy::disallowed_methods, reason = "a demonstration has clocks and children of its own")]

#[path = "../lab/mod.rs"]
mod lab;

use anyhow::{Context, Result};
use clap::Parser;
use lab::figures::{self, Mode};
use lab::run::{Event, Run};
use lab::stop::Stop;
use lab::world::Options;
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

const NAMES: [&str; 3] = ["app_killed", "node_killed", "switchover"];
/// How long after each event is watched.
const AFTER_MS: u64 = 20_000;

#[derive(Parser)]
#[command(name = "quickstart", about = "Three MariaDB nodes under lictor, and what they survive")]
struct Args {
    /// How often each event happens
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Leave everything running at the end
    #[arg(long)]
    keep: bool,
    /// Write the figures there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The Consul binary
    #[arg(long, value_name = "FILE", required_unless_present = "dev")]
    consul: Option<PathBuf>,
    /// `lictor dev` stands in for Consul
    #[arg(long)]
    dev: bool,
    /// The lictor binary
    #[arg(long, value_name = "FILE")]
    lictor: PathBuf,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let consul = args.consul.as_ref().filter(|_| !args.dev).map(|path| path.canonicalize());
    let options = Options {
        consul: consul.transpose().context("no consul binary there")?,
        lictor: args.lictor.canonicalize().context("no lictor binary there")?,
        mode: Mode::Sync,
        agents: false,
        tls: false,
        disks: false,
        settings: String::new(),
    };
    let mut run = Run::start(options, Stop::on_signals()?, Instant::now(), AFTER_MS)?;
    for number in 1..=args.rounds {
        run.say(&format!("round {number} of {}", args.rounds));
        round(&mut run)?;
    }
    finish(run, args)
}

fn round(run: &mut Run) -> Result<()> {
    let primary = run.primary()?;
    run.say(&format!("kill -9: the application of {}", run.name(primary)));
    let event = Event::new(NAMES[0], run.writers.now_ms());
    run.world.kill_application(primary)?;
    run.measure(event)?;

    let primary = run.primary()?;
    run.say(&format!("kill -9: all of {}", run.name(primary)));
    let event = Event::new(NAMES[1], run.writers.now_ms());
    run.world.kill_node(primary)?;
    run.watch_event(&event)?;
    run.say(&format!("{} starts again", run.name(primary)));
    run.world.start_node(primary)?;
    run.measure(event)?;

    let primary = run.primary()?;
    run.say(&format!("lictor switchover, away from {}", run.name(primary)));
    let event = Event::new(NAMES[2], run.writers.now_ms());
    run.world.switchover()?;
    run.measure(event)
}

fn finish(mut run: Run, args: &Args) -> Result<()> {
    let verdict = run.verdict()?;
    let summaries = figures::summarize(&NAMES, &run.measured);
    println!();
    println!("event          median gap   worst gap   acknowledged   lost   two writable");
    for line in &summaries {
        println!(
            "{:12} {:>9} ms {:>8} ms {:>14} {:>6} {:>11} ms",
            line.name, line.gap_ms, line.gap_max_ms, line.acked, line.lost, line.dual_ms
        );
    }
    if let Some(file) = &args.json {
        let consul = run.world.consul.version.as_str();
        let value = json!({"v": 1, "mode": "sync", "consul": consul, "events": summaries});
        fs::write(file, format!("{value}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    if args.keep {
        run.explain_what_is_left();
        run.world.keep = true;
    }
    verdict.hold(true)
}
