//! What lictor costs, beside tini in the same run:
//!
//! - start to the child's exec, SIGTERM to exit, orphans reaped a second: in turns with tini
//! - a crash until the application runs again, with hooks that do nothing
//! - memory (PSS) and processor time of sidecar and guard in an idle cluster of three MariaDB
//!   nodes, hooks apart; what is asked of Consul and written into its raft; then the same with TLS
//!   to Consul
//!
//! `examples/footprint.sh` installs what this needs, builds and runs it. With --check it fails if
//! memory or requests are beyond their limits; times it only tells, for machines differ.

#![allow(clippy::disallowed_methods, reason = "a measurement has clocks and children of its own")]

mod crash;
mod idle;
mod inits;
#[path = "../lab/mod.rs"]
mod lab;
mod usage;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use crash::Crash;
use idle::Idle;
use inits::{Figures, Init};
use lab::figures::Mode;
use lab::run::say;
use lab::stop::Stop;
use lab::world::{Options, World};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// The limits of --check: twice what is aimed at, for shared pages differ between machines.
const PLAIN_KB: u64 = 12_000;
const TLS_KB: u64 = 18_000;
const REQUESTS_PER_SECOND: f64 = 3.0;
const WRITES_PER_SECOND: f64 = 2.6;

#[derive(Parser)]
#[command(name = "footprint", about = "What lictor costs, beside tini")]
struct Args {
    /// How long an idle cluster is watched
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How often each start, stop and crash is measured
    #[arg(long, default_value_t = 50)]
    times: u32,
    /// Orphans made at once
    #[arg(long, default_value_t = 20_000)]
    orphans: u64,
    /// Fail if memory or requests are far beyond what is aimed at
    #[arg(long)]
    check: bool,
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
            eprintln!("footprint: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let (start, stop) = (Instant::now(), Stop::on_signals()?);
    let dir = tempfile::tempdir()?;
    let child = compiled(dir.path())?;
    let options = Options {
        consul: Some(args.consul.canonicalize().context("no consul binary there")?),
        lictor: args.lictor.canonicalize().context("no lictor binary there")?,
        mode: Mode::Sync,
        agents: false,
        disks: false,
        tls: false,
        settings: String::new(),
    };
    say(start, "lictor and tini in turns");
    let lictor = options.lictor.display().to_string();
    let inits = [
        Init { name: "tini", command: vec!["tini".into(), "-s".into(), "--".into()] },
        Init { name: "lictor", command: vec![lictor, "run".into(), "--".into()] },
    ];
    let figures = inits::measure(&inits, &child, args.times, args.orphans)?;
    say(start, "an application that crashes");
    let world = World::new(options.clone(), stop.clone())?;
    let crash = crash::measure(&world, &child, args.times.min(20))?;
    drop(world);
    print_inits(&figures, &crash);
    let plain = idle::measure(options.clone(), &stop, start, args.seconds)?;
    print_idle(&plain);
    let options = Options { tls: true, ..options };
    let tls = idle::measure(options, &stop, start, args.seconds.min(20))?;
    print_idle(&tls);
    if let Some(file) = &args.json {
        let value = json!({"v": 1, "inits": figures, "crash": crash, "idle": [plain, tls]});
        fs::write(file, format!("{value}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    if args.check { check(&plain).and_then(|()| check(&tls)) } else { Ok(()) }
}

fn compiled(dir: &Path) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/footprint/child.c");
    let child = dir.join("child");
    let output = Command::new("cc").arg("-O2").arg("-o").arg(&child).arg(source).output()?;
    ensure!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
    Ok(child)
}

fn ms(us: u64) -> String {
    format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10)
}

fn print_inits(figures: &[Figures], crash: &Crash) {
    println!(
        "\n{:<8} {:>14} {:>16} {:>22} {:>10}",
        "", "start to exec", "SIGTERM to exit", "child's end to exit", "reaped/s"
    );
    for line in figures {
        println!(
            "{:<8} {:>14} {:>16} {:>22} {:>10}",
            line.name,
            ms(line.start_to_exec_us),
            ms(line.term_to_exit_us),
            ms(line.end_to_exit_us),
            line.reaped_per_second
        );
    }
    if let [tini, lictor] = figures {
        let ratio = |a: u64, b: u64| a as f64 / b.max(1) as f64;
        println!(
            "ratio    {:>14.2} {:>16.2} {:>22.2} {:>10.2}",
            ratio(lictor.start_to_exec_us, tini.start_to_exec_us),
            ratio(lictor.term_to_exit_us, tini.term_to_exit_us),
            ratio(lictor.end_to_exit_us, tini.end_to_exit_us),
            ratio(lictor.reaped_per_second, tini.reaped_per_second)
        );
    }
    println!(
        "crash to restarted, through pre-start: {}; PSS sidecar {} kB, guard {} kB",
        ms(crash.crash_to_restart_us),
        crash.sidecar_pss_kb,
        crash.guard_pss_kb
    );
}

fn print_idle(idle: &Idle) {
    let how = if idle.tls { "TLS" } else { "plain HTTP" };
    println!("\nan idle cluster of {} nodes, {how} to Consul:", idle.nodes.len());
    for node in &idle.nodes {
        println!(
            "  {} {:<8} PSS sidecar {:>5} kB, guard {:>4} kB; CPU {:.2} %, hooks {:.2} %",
            node.name,
            node.role,
            node.sidecar_pss_kb,
            node.guard_pss_kb,
            node.cpu_percent,
            node.hooks_cpu_percent
        );
    }
    println!(
        "  {:.2} requests to Consul a node and second; {:.2} raft writes a second, and {:.2} of \
         Consul's own",
        idle.requests_per_second, idle.raft_writes_per_second, idle.raft_own_per_second
    );
}

fn check(idle: &Idle) -> Result<()> {
    let limit = if idle.tls { TLS_KB } else { PLAIN_KB };
    for node in &idle.nodes {
        let both = node.guard_pss_kb + node.sidecar_pss_kb;
        ensure!(both <= limit, "{} takes {both} kB; {limit} is the limit", node.name);
    }
    let (requests, writes) = (idle.requests_per_second, idle.raft_writes_per_second);
    ensure!(requests <= REQUESTS_PER_SECOND, "{requests:.2} requests a node and second");
    ensure!(writes <= WRITES_PER_SECOND, "{writes:.2} raft writes a second");
    Ok(())
}
