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
//! `examples/quickstart.sh` installs what this needs, builds and runs it.

#![allow(clippy::disallowed_methods, reason = "a demonstration has clocks and children of its own")]

mod figures;
mod stop;
mod world;
mod writers;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use figures::{AFTER_MS, BEFORE_MS, Measured};
use mysql::prelude::Queryable;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};
use stop::Stop;
use world::World;
use writers::Writers;

const NAMES: [&str; 3] = ["app_killed", "node_killed", "switchover"];
/// Building the first node, cloning the others, or coming back after a fault, on a slow machine.
const WHOLE_LIMIT: Duration = Duration::from_secs(180);

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
    #[arg(long, value_name = "FILE")]
    consul: PathBuf,
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

struct Run {
    world: World,
    writers: Writers,
    stop: Stop,
    start: Instant,
    measured: Vec<Measured>,
    /// Acknowledgements up to here are read back already.
    checked_ms: u64,
}

fn run(args: &Args) -> Result<()> {
    let (start, stop) = (Instant::now(), Stop::on_signals()?);
    let lictor = args.lictor.canonicalize().context("no lictor binary there")?;
    let consul = args.consul.canonicalize().context("no consul binary there")?;
    let repository = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    say(start, "three Consul servers start");
    let mut world = World::new(consul, lictor, &repository, stop.clone())?;
    say(start, &format!("{} has a leader; three nodes start", world.consul_version));
    for i in 0..world.nodes.len() {
        world.start_node(i)?;
    }
    world.wait_for("writable primary", WHOLE_LIMIT, || world.primary().is_some())?;
    let first = world.primary().context("the primary is gone again")?;
    say(start, &format!("{} is the primary", world.nodes[first].name));
    world.wait_for("cluster of three counted members", WHOLE_LIMIT, || world.is_whole())?;
    say(start, "the others are cloned, follow, and acknowledge each commit");
    let mut connection = world.nodes[first].target.connect().context("connect to the primary")?;
    connection.query_drop("create table w (id bigint unsigned primary key, node int not null)")?;

    let targets: Vec<_> = world.nodes.iter().map(|node| node.target.clone()).collect();
    let writers = Writers::start(&targets, start);
    let mut run = Run { world, writers, stop, start, measured: Vec::new(), checked_ms: 0 };
    run.watch(BEFORE_MS * 2)?;
    for round in 1..=args.rounds {
        run.round(round, args.rounds)?;
    }
    run.finish(args)
}

fn say(start: Instant, what: &str) {
    println!("{:8.2} s  {what}", start.elapsed().as_secs_f64());
}

impl Run {
    fn say(&self, what: &str) {
        say(self.start, what);
    }

    /// Lets `ms` pass.
    fn watch(&self, ms: u64) -> Result<()> {
        let until = self.writers.now_ms() + ms;
        while self.writers.now_ms() < until {
            self.stop.check()?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn primary(&self) -> Result<usize> {
        self.world.wait_for("primary", WHOLE_LIMIT, || self.world.primary().is_some())?;
        self.world.primary().context("the primary is gone again")
    }

    fn round(&mut self, round: u32, rounds: u32) -> Result<()> {
        self.say(&format!("round {round} of {rounds}"));
        let primary = self.primary()?;
        self.say(&format!("kill -9: the application of {}", self.world.nodes[primary].name));
        let at = self.writers.now_ms();
        self.world.kill_application(primary)?;
        self.after(NAMES[0], at)?;

        let primary = self.primary()?;
        self.say(&format!("kill -9: all of {}", self.world.nodes[primary].name));
        let at = self.writers.now_ms();
        self.world.kill_node(primary)?;
        self.watch_event(at)?;
        self.say(&format!("{} starts again", self.world.nodes[primary].name));
        self.world.start_node(primary)?;
        self.after(NAMES[1], at)?;

        let primary = self.primary()?;
        self.say(&format!("lictor switchover, away from {}", self.world.nodes[primary].name));
        let at = self.writers.now_ms();
        self.world.switchover()?;
        self.after(NAMES[2], at)
    }

    /// Until the event's window is over.
    fn watch_event(&self, at: u64) -> Result<()> {
        let left = (at + AFTER_MS).saturating_sub(self.writers.now_ms());
        self.watch(left)
    }

    /// Watches, waits for the cluster to be whole, and measures.
    fn after(&mut self, name: &'static str, at: u64) -> Result<()> {
        self.watch_event(at)?;
        self.world
            .wait_for("cluster of three counted members", WHOLE_LIMIT, || self.world.is_whole())?;
        let primary = self.primary()?;
        let (from, to) = (at.saturating_sub(BEFORE_MS), at + AFTER_MS);
        let until = self.writers.now_ms();
        let acks = self.writers.acks();
        let new: Vec<_> = acks
            .iter()
            .filter(|ack| ack.done_ms >= self.checked_ms && ack.done_ms < until)
            .copied()
            .collect();
        let missing = self.missing(primary, &new)?;
        self.checked_ms = until;
        let one = Measured {
            name,
            gap_ms: figures::gap_ms(&acks, from, to),
            acked: new.len(),
            lost: missing.len(),
            dual_ms: figures::dual_ms(&acks, from, until),
        };
        self.say(&format!(
            "{} is the primary; writes stood still for {} ms; {} rows acknowledged, {} lost",
            self.world.nodes[primary].name, one.gap_ms, one.acked, one.lost
        ));
        if !missing.is_empty() || one.dual_ms > 0 {
            self.say(&format!("LOST {missing:?}, two writable for {} ms", one.dual_ms));
        }
        self.measured.push(one);
        Ok(())
    }

    /// Acknowledged ids that the primary does not have.
    fn missing(&self, primary: usize, acks: &[figures::Ack]) -> Result<Vec<u64>> {
        let target = &self.world.nodes[primary].target;
        let found: BTreeSet<u64> = writers::read_back(target, acks.iter().map(|ack| ack.id))
            .context("reading the rows back")?;
        Ok(figures::lost(acks, &found))
    }

    fn finish(mut self, args: &Args) -> Result<()> {
        self.writers.stop();
        let acks = self.writers.acks();
        let missing = self.missing(self.primary()?, &acks)?;
        let whole_dual = figures::dual_ms(&acks, 0, u64::MAX);
        let summaries = figures::summarize(&NAMES, &self.measured);
        println!();
        println!("event          median gap   worst gap   acknowledged   lost   two writable");
        for line in &summaries {
            println!(
                "{:12} {:>9} ms {:>8} ms {:>14} {:>6} {:>11} ms",
                line.name, line.gap_ms, line.gap_max_ms, line.acked, line.lost, line.dual_ms
            );
        }
        println!(
            "{} rows acknowledged in all, each read back at the end: {} missing",
            acks.len(),
            missing.len()
        );
        self.explain_what_is_missing(&acks, &missing);
        if let Some(file) = &args.json {
            let consul = self.world.consul_version.as_str();
            let value = json!({"v": 1, "mode": "sync", "consul": consul, "events": summaries});
            fs::write(file, format!("{value}\n"))
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        if args.keep {
            self.explain_what_is_left();
            self.world.keep = true;
        }
        let lost: usize = summaries.iter().map(|line| line.lost).sum::<usize>().max(missing.len());
        let dual = summaries.iter().map(|line| line.dual_ms).max().unwrap_or(0).max(whole_dual);
        ensure!(lost == 0, "{lost} acknowledged rows were lost");
        ensure!(dual == 0, "two nodes took writes at once for {dual} ms");
        Ok(())
    }

    /// For whoever has to find out why: which node acknowledged it, when, and who has it.
    fn explain_what_is_missing(&self, acks: &[figures::Ack], missing: &[u64]) {
        for ack in acks.iter().filter(|ack| missing.contains(&ack.id)) {
            let has = |target| {
                writers::read_back(target, std::iter::once(ack.id)).is_ok_and(|ids| !ids.is_empty())
            };
            let nodes = self.world.nodes.iter();
            let holders: Vec<_> = nodes.filter(|n| has(&n.target)).map(|n| &n.name).collect();
            println!(
                "  row {}: sent to {} at {:.2} s, acknowledged at {:.2} s, now on {holders:?}",
                ack.id,
                self.world.nodes[ack.node].name,
                ack.sent_ms as f64 / 1e3,
                ack.done_ms as f64 / 1e3,
            );
        }
    }

    fn explain_what_is_left(&self) {
        let world = &self.world;
        let (lictor, config) = (world.lictor.display(), world.nodes[0].config.display());
        println!("\nEverything runs on. To play with:");
        println!("  {lictor} status -c {config}");
        println!("  {lictor} switchover -c {config}");
        for node in &world.nodes {
            println!(
                "  {}: curl -s http://127.0.0.1:{}/status; mariadb -S {}; tail -f {}",
                node.name,
                node.listen,
                node.volume.join(".lictor/state/mysqld.sock").display(),
                node.log.display()
            );
        }
        println!("  Consul: http://127.0.0.1:{}", world.consul_ports[0]);
        let pids: Vec<String> = world.pids().iter().map(ToString::to_string).collect();
        println!("To end it: kill {}; then rm -rf {}", pids.join(" "), world.dir.display());
    }
}
