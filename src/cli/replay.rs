//! `lictor replay`: a recorded node once more, in the core of this very program.

use super::exit::Exit;
use super::output;
use crate::recording::replay::{Decided, Difference, Report, replay};
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

/// Replay what a node recorded (`record`), and check that this lictor decides the same
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The recording
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The report as one line of JSON alone
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Exit {
    let Args { file, json } = args;
    let opened = File::open(&file);
    let from = match opened {
        Ok(open) => BufReader::new(open),
        Err(error) => {
            return output::error(format_args!("{}: {error}", file.display()), Exit::Usage);
        }
    };
    let mut written = Exit::Done;
    let report = replay(from, |decided| {
        if !json && written == Exit::Done {
            written = output::answer(line(decided), Exit::Done);
        }
    });
    match report {
        Err(error) => output::error(format_args!("{}: {error}", file.display()), Exit::Usage),
        Ok(report) => {
            let exit = if report.difference.is_none() { written } else { Exit::Failed };
            if json { output::json(&report, exit) } else { output::answer(told(&report), exit) }
        }
    }
}

fn line(decided: &Decided) -> String {
    let Decided { at_ms, code, text, .. } = decided;
    format!("{:>6}.{:03}  {code:<18} {text}", at_ms / 1_000, at_ms % 1_000)
}

fn told(report: &Report) -> String {
    let Report { node, steps, span_ms, effects, recorded_by, replayed_by, .. } = report;
    let decided: u64 = report.reasons.values().sum();
    let end = match &report.difference {
        None => "the same, step by step".to_owned(),
        Some(difference) => differs(difference),
    };
    let cut = if report.cut_off { "; its last line is cut off" } else { "" };
    format!(
        "\n{node}: {steps} steps in {}.{:03} s, {effects} effects, {decided} decisions; recorded \
         by lictor {recorded_by}, replayed by {replayed_by}{cut}\n{end}",
        span_ms / 1_000,
        span_ms % 1_000
    )
}

fn differs(difference: &Difference) -> String {
    let Difference { line, at_ms, input, recorded, now, before } = difference;
    let list = |effects: &[serde_json::Value]| match effects {
        [] => "    nothing".to_owned(),
        some => some.iter().map(|one| format!("    {one}")).collect::<Vec<_>>().join("\n"),
    };
    format!(
        "line {line}, {at_ms} ms after the start: this lictor does something else\n  \
         told: {input}\n  decided before:\n    {}\n  recorded:\n{}\n  now:\n{}",
        before.join("\n    "),
        list(recorded),
        list(now)
    )
}
