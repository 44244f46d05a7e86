//! lictor without a cluster beside tini, in turns: starting, stopping, reaping.
//!
//! Both run as a child of this process and as subreapers (`tini -s`; lictor does so by itself), so
//! that no namespace is measured with them. The child says when it runs and when it ends.

use super::lab::figures::median;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde::Serialize;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What starts a child, and what is in front of it.
#[derive(Clone, Debug)]
pub struct Init {
    pub name: &'static str,
    pub command: Vec<String>,
}

/// Medians, in microseconds; a second in `reaped`.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub name: &'static str,
    pub start_to_exec_us: u64,
    pub term_to_exit_us: u64,
    /// From the child's own end to the init's.
    pub end_to_exit_us: u64,
    pub reaped_per_second: u64,
}

/// CLOCK_MONOTONIC in nanoseconds, as the child reads it.
pub fn now() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(u64::try_from(time.tv_sec())? * 1_000_000_000 + u64::try_from(time.tv_nsec())?)
}

/// The number behind `word` in a line of the child.
pub fn stamp(line: &str, word: &str) -> Result<u64> {
    let number = line.trim().strip_prefix(word).map(str::trim);
    let number = number.with_context(|| format!("the child said {line:?}, not {word:?}"))?;
    Ok(number.parse()?)
}

impl Init {
    fn start(&self, child: &Path, arguments: &[&str]) -> Result<Child> {
        let (program, front) = self.command.split_first().context("no init")?;
        let mut command = Command::new(program);
        command.args(front).arg(child).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().with_context(|| format!("cannot start {program}"))
    }

    fn start_to_exec(&self, child: &Path) -> Result<u64> {
        let from = now()?;
        let output = self.start(child, &["mark"])?.wait_with_output()?;
        let runs = stamp(&String::from_utf8_lossy(&output.stdout), "runs")?;
        Ok((runs - from) / 1_000)
    }

    /// SIGTERM to the init's end, and from the child's own end to it.
    fn term_to_exit(&self, child: &Path) -> Result<(u64, u64)> {
        let mut init = self.start(child, &["serve"])?;
        let mut lines = BufReader::new(init.stdout.take().context("a pipe")?);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        stamp(&line, "runs")?;
        let from = now()?;
        kill(Pid::from_raw(i32::try_from(init.id())?), Signal::SIGTERM)?;
        let status = init.wait()?;
        let gone = now()?;
        ensure!(status.success(), "{} ended with {status}", self.name);
        let mut rest = String::new();
        lines.read_to_string(&mut rest)?;
        let ends = stamp(&rest, "ends")?;
        Ok(((gone - from) / 1_000, (gone - ends) / 1_000))
    }

    fn reaped_per_second(&self, child: &Path, orphans: u64) -> Result<u64> {
        let output = self.start(child, &["orphans", &orphans.to_string()])?.wait_with_output()?;
        let took = stamp(&String::from_utf8_lossy(&output.stdout), "reaped")?;
        Ok(orphans * 1_000_000_000 / took.max(1))
    }
}

/// All of `inits` in turns, so that what else the machine does falls on each.
pub fn measure(inits: &[Init], child: &Path, times: u32, orphans: u64) -> Result<Vec<Figures>> {
    let mut starts = vec![Vec::new(); inits.len()];
    let mut terms = starts.clone();
    let mut ends = starts.clone();
    let mut reaped = starts.clone();
    for time in 0..times {
        for (i, init) in inits.iter().enumerate() {
            starts[i].push(init.start_to_exec(child)?);
            let (term, end) = init.term_to_exit(child)?;
            terms[i].push(term);
            ends[i].push(end);
            // It takes a second each.
            if time < times.div_ceil(10) {
                reaped[i].push(init.reaped_per_second(child, orphans)?);
            }
        }
    }
    let figures = |(i, init): (usize, &Init)| Figures {
        name: init.name,
        start_to_exec_us: median(&starts[i]),
        term_to_exit_us: median(&terms[i]),
        end_to_exit_us: median(&ends[i]),
        reaped_per_second: median(&reaped[i]),
    };
    Ok(inits.iter().enumerate().map(figures).collect())
}
