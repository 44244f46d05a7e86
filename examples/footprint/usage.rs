//! What the kernel says of a process: memory, processor time.

use anyhow::{Context, Result};
use nix::unistd::{Pid, SysconfVar, sysconf};
use std::fs;

/// Proportional set size in kB: what is shared counts by its share.
pub fn pss_kb(pid: Pid) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.with_context(|| format!("no Pss in {path}"))?.parse()?)
}

/// Processor time in milliseconds: of the process, and of its children that have ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    pub own_ms: u64,
    pub ended_ms: u64,
}

impl Cpu {
    pub fn of(pid: Pid) -> Result<Cpu> {
        let path = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        let (_, fields) = text.rsplit_once(')').with_context(|| path.clone())?;
        // The third field of the file is the first here: utime is the 14th.
        let ticks: Vec<u64> = fields
            .split_whitespace()
            .skip(11)
            .take(4)
            .map(str::parse)
            .collect::<Result<_, _>>()
            .with_context(|| path.clone())?;
        let second = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100);
        let ms = |ticks: u64| ticks * 1_000 / u64::try_from(second).unwrap_or(100);
        let [user, system, children_user, children_system] = ticks[..] else {
            anyhow::bail!("{path} is too short");
        };
        Ok(Cpu { own_ms: ms(user + system), ended_ms: ms(children_user + children_system) })
    }

    pub fn since(self, before: Cpu) -> Cpu {
        Cpu { own_ms: self.own_ms - before.own_ms, ended_ms: self.ended_ms - before.ended_ms }
    }
}
