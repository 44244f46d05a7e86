//! The fault table: three MariaDB nodes under lictor, a Consul agent beside each, three Consul
//! servers; what can happen to them, in sync and in asynchronous mode, and what it costs.
//!
//! - per mode: start, wait until all three are healthy and counted
//! - a writer per node, a row every 10 ms; a prober per node asks every 20 ms whether it is
//!   writable
//! - per round: each row of the table (rows.rs) once; then wait until the cluster is whole and
//!   read back every acknowledged row
//! - at the end a table: least, median and most of the gap, the rows lost and the time in which
//!   two nodes were writable; exit 1 if one was lost in sync mode, if two ever were writable, or,
//!   with --short, if a gap is beyond all reason
//!
//! `examples/faults.sh` installs what this needs, builds and runs it.

#![allow(clippy::disallowed_methods, reason = "a demonstration has clocks and children of its own")]

#[path = "../lab/mod.rs"]
mod lab;
mod rows;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use lab::disk::Disk;
use lab::figures::{self, Measured, Mode, Summary};
use lab::run::{Run, Verdict};
use lab::stop::Stop;
use lab::world::Options;
use rows::{ROWS, Row, Times};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

#[derive(Parser)]
#[command(name = "faults", about = "What can happen to a cluster under lictor, and what it costs")]
struct Args {
    /// How often each event happens
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Only these rows, by commas: app_killed, node_killed, switchover, ..
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    #[arg(long, value_enum, default_value_t = Modes::Both)]
    mode: Modes,
    /// Short freezes and limits on the gaps, as CI runs it
    #[arg(long)]
    short: bool,
    /// Leave everything running at the end; with both modes the last one
    #[arg(long)]
    keep: bool,
    /// Write the figures there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Copy all logs there
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
    /// The Consul binary
    #[arg(long, value_name = "FILE")]
    consul: PathBuf,
    /// The lictor binary
    #[arg(long, value_name = "FILE")]
    lictor: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Modes {
    Sync,
    Async,
    Both,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let (start, stop) = (Instant::now(), Stop::on_signals()?);
    let mut rows = chosen(&args.only)?;
    let disks = may_mount();
    if let Err(why) = &disks {
        println!("disk_full is left out, for it needs a mount: {why:#}");
        rows.retain(|row| row.name != "disk_full");
    }
    let modes = match args.mode {
        Modes::Sync => &[Mode::Sync][..],
        Modes::Async => &[Mode::Async],
        Modes::Both => &[Mode::Sync, Mode::Async],
    };
    let (mut measured, mut verdicts, mut conditions) = (Vec::new(), Vec::new(), json!({}));
    for mode in modes {
        let options = options(args, *mode, disks.is_ok())?;
        let after = times(args).after;
        let mut run = Run::start(options, stop.clone(), start, after)?;
        run.world.logs = args.logs.as_ref().map(|dir| dir.join(mode_name(*mode)));
        conditions = told(&run, args);
        for round in 1..=args.rounds {
            run.say(&format!("{}, round {round} of {}", mode_name(*mode), args.rounds));
            for row in &rows {
                (row.act)(&mut run, row.name, &times(args)).context(row.about)?;
            }
        }
        verdicts.push((*mode, run.verdict()?));
        measured.append(&mut run.measured);
        if args.keep && Some(mode) == modes.last() {
            run.explain_what_is_left();
            run.world.keep = true;
        }
    }
    finish(args, &rows, &measured, &verdicts, &conditions)
}

fn chosen(only: &[String]) -> Result<Vec<&'static Row>> {
    if let Some(unknown) = only.iter().find(|name| ROWS.iter().all(|row| row.name != *name)) {
        let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        bail!("--only {unknown}: there are {}", names.join(", "));
    }
    let wanted = |row: &&Row| only.is_empty() || only.iter().any(|name| name == row.name);
    Ok(ROWS.iter().filter(wanted).collect())
}

fn times(args: &Args) -> Times {
    if args.short { Times::SHORT } else { Times::FULL }
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Sync => "sync",
        Mode::Async => "async",
    }
}

/// Containers often may not.
fn may_mount() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (image, mount) = (dir.path().join("image"), dir.path().join("mount"));
    fs::create_dir(&mount)?;
    Disk::mount(&image, &mount).map(drop)
}

fn options(args: &Args, mode: Mode, disks: bool) -> Result<Options> {
    let hung_after = if args.short { "3s" } else { "10s" };
    // Every node fails again and again here: with all of them held down each take-over would wait.
    let settings = format!("hung_after = \"{hung_after}\"\nhold_down = \"0s\"");
    Ok(Options {
        consul: Some(args.consul.canonicalize().context("no consul binary there")?),
        lictor: args.lictor.canonicalize().context("no lictor binary there")?,
        mode,
        agents: true,
        tls: false,
        disks,
        settings,
    })
}

/// Under which conditions was measured.
fn told(run: &Run, args: &Args) -> Value {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    let consul = run.world.consul.version.as_str();
    json!({"consul": consul, "cores": cores, "load_at_start": load.join(" "),
           "rounds": args.rounds, "short": args.short, "writer_pause_ms": 10,
           "probe_pause_ms": 20})
}

fn finish(
    args: &Args,
    rows: &[&Row],
    measured: &[Measured],
    verdicts: &[(Mode, Verdict)],
    conditions: &Value,
) -> Result<()> {
    let names: Vec<&'static str> = rows.iter().map(|row| row.name).collect();
    let summaries = figures::summarize(&names, measured);
    print_table(rows, &summaries);
    if let Some(file) = &args.json {
        let mut value = conditions.clone();
        value["v"] = json!(1);
        value["events"] = json!(summaries);
        fs::write(file, format!("{value}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    for (mode, verdict) in verdicts {
        verdict.hold(*mode == Mode::Sync).context(mode_name(*mode))?;
    }
    for line in &summaries {
        let sync = line.mode == Mode::Sync;
        Verdict { lost: line.lost, dual_ms: line.dual_ms }.hold(sync).context(line.name)?;
        let limit = rows.iter().find(|row| row.name == line.name).map_or(0, |row| row.gap_limit_ms);
        ensure!(
            !args.short || line.gap_max_ms <= limit,
            "{} ({}): writes stood still for {} ms; {limit} is the limit",
            line.name,
            mode_name(line.mode),
            line.gap_max_ms
        );
    }
    Ok(())
}

fn print_table(rows: &[&Row], summaries: &[Summary]) {
    println!();
    println!(
        "{:<40} {:<5} {:>26} {:>20} {:>14}",
        "least / median / most", "", "gap ms", "rows lost", "two writable"
    );
    for line in summaries {
        let about = rows.iter().find(|row| row.name == line.name).map_or("", |row| row.about);
        let gap = format!("{} / {} / {}", line.gap_min_ms, line.gap_ms, line.gap_max_ms);
        let lost = format!("{} / {} / {}", line.lost_min, line.lost_median, line.lost_max);
        let dual = format!("{} / {} / {}", line.dual_min_ms, line.dual_median_ms, line.dual_ms);
        let mode = mode_name(line.mode);
        println!("{about:<40} {mode:<5} {gap:>26} {lost:>20} {dual:>14}");
        if !line.back_rounds.is_empty() {
            let most = line.back_rounds.iter().max().copied().unwrap_or_default();
            let median = figures::median(&line.back_rounds);
            println!("{:<40} {mode:<5} writes again {median} ms after, {most} at most", "");
        }
    }
}
