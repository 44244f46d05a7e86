//! Processes: what runs on this machine, which of it is ours, and signals to it.
//!
//! A process belongs to us if an argument names a path under our directory, which is new and ours
//! alone, or if it descends from one that does. Pids of others are never touched.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// How often is looked for what is left, or for a thread that still runs.
const LOOKS: u32 = 200;
const LOOK_STEP: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub struct Process {
    pub parent: i32,
    pub args: String,
    pub zombie: bool,
}

/// In a process group of its own, so that Ctrl-C reaches us alone and we end it in order.
pub fn start(command: &mut Command, log: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))
}

/// Every process of the machine.
pub fn all() -> BTreeMap<i32, Process> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let read = |part: &str| fs::read(entry.path().join(part)).unwrap_or_default();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        // The name in brackets may hold anything; the fields follow its last bracket.
        let Some((_, fields)) = stat.rsplit_once(')') else { continue };
        let mut fields = fields.split_whitespace();
        let zombie = fields.next().is_some_and(|state| state == "Z" || state == "X");
        let parent = fields.next().and_then(|field| field.parse().ok()).unwrap_or(0);
        let args = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        all.insert(pid, Process { parent, args, zombie });
    }
    all
}

/// Those that name one of `paths` in their arguments, those in `ours`, and all their descendants.
fn family(paths: &[PathBuf], ours: &mut BTreeSet<i32>) {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let all = all();
    ours.retain(|pid| all.get(pid).is_some_and(|process| !process.zombie));
    let named = |process: &Process| names.iter().any(|name| process.args.contains(name));
    ours.extend(all.iter().filter(|(pid, p)| **pid != own && named(p)).map(|(pid, _)| *pid));
    loop {
        let more: Vec<i32> = all
            .iter()
            .filter(|(pid, p)| ours.contains(&p.parent) && !ours.contains(*pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            break;
        }
        ours.extend(more);
    }
    ours.retain(|pid| !all[pid].zombie);
}

/// Kills what names one of `paths` in its arguments, `root`, and all their descendants, until a
/// look finds none.
pub fn kill_all(paths: &[PathBuf], root: Option<u32>) -> bool {
    // A descendant whose parent died between two looks belongs to somebody else then: remember it.
    let mut ours: BTreeSet<i32> =
        root.and_then(|pid| i32::try_from(pid).ok()).into_iter().collect();
    for _ in 0..LOOKS {
        family(paths, &mut ours);
        if ours.is_empty() {
            return true;
        }
        for pid in &ours {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        thread::sleep(LOOK_STEP);
    }
    false
}

/// Sends a signal to all of a node.
pub fn signal_all(paths: &[PathBuf], signal: Signal) {
    let mut ours = BTreeSet::new();
    family(paths, &mut ours);
    for pid in ours {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// SIGSTOP, and waits until every thread has stopped: one that runs on another core goes on for a
/// moment.
pub fn freeze(pid: Pid) -> Result<()> {
    kill(pid, Signal::SIGSTOP).context("SIGSTOP")?;
    for _ in 0..LOOKS {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"))?;
        let stopped = |task: fs::DirEntry| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        };
        if tasks.flatten().all(stopped) {
            return Ok(());
        }
        thread::sleep(LOOK_STEP);
    }
    ensure!(false, "process {pid} does not stop");
    Ok(())
}

pub fn thaw(pid: Pid) -> Result<()> {
    kill(pid, Signal::SIGCONT).context("SIGCONT")
}
