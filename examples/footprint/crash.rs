//! A cluster of one node whose application and hooks do nothing: from a crash until it runs again.
//!
//! That is the whole way: what is left of its tree is looked for and killed, `pre-start` runs, it
//! is started. A supervisor without hooks and trees has less to do.

use super::inits::{now, stamp};
use super::lab::figures::median;
use super::lab::processes;
use super::lab::world::World;
use super::usage::pss_kb;
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

const HOOKS: [&str; 8] =
    ["bootstrap", "pre-start", "replicate", "promote", "demote", "position", "sync", "health"];
const LIMIT: Duration = Duration::from_secs(30);
/// More than lictor starts again within the window.
const RESTARTS: u32 = 1_000;

#[derive(Clone, Debug, Serialize)]
pub struct Crash {
    pub crash_to_restart_us: u64,
    pub guard_pss_kb: u64,
    pub sidecar_pss_kb: u64,
}

struct Single {
    log: PathBuf,
    volume: PathBuf,
    guard: Child,
}

impl Single {
    /// A node of a cluster of its own, beside those of `world`.
    fn start(world: &World, child: &Path) -> Result<Single> {
        let dir = world.dir.join("single");
        let (hooks, volume) = (dir.join("hooks"), dir.join("volume"));
        fs::create_dir_all(&hooks)?;
        fs::create_dir_all(&volume)?;
        for name in HOOKS {
            fs::copy(child, hooks.join(name))?;
            fs::set_permissions(hooks.join(name), fs::Permissions::from_mode(0o755))?;
        }
        let config = dir.join("single.toml");
        let node = world.nodes.first().context("no node")?;
        let text = format!(
            "cluster = \"single\"\nnode = \"one\"\naddress = \"127.0.0.1\"\n\
             listen = \"127.0.0.1:{listen}\"\nvolume = \"{volume}\"\nhooks = \"{hooks}\"\n\
             app_port = {port}\ncommand = [\"{child}\", \"serve\"]\nrestart_max = {RESTARTS}\n\
             restart_window = \"1s\"\n[consul]\naddresses = {consul:?}\n",
            listen = node.listen,
            port = node.target.port,
            volume = volume.display(),
            hooks = hooks.display(),
            child = child.display(),
            consul = world.consul.addresses(0),
        );
        fs::write(&config, text)?;
        let log = dir.join("log");
        let mut command = Command::new(&world.options.lictor);
        command.arg("run").arg("-c").arg(&config);
        let guard = processes::start(&mut command, &log)?;
        Ok(Single { log, volume, guard })
    }

    /// When the application said that it runs, each time so far.
    fn runs(&self) -> Vec<u64> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().filter_map(|line| stamp(line, "runs").ok()).collect()
    }

    fn wait(&self, what: &str, done: impl Fn(&Single) -> bool) -> Result<()> {
        let from = Instant::now();
        while !done(self) {
            let told = fs::read_to_string(&self.log).unwrap_or_default();
            anyhow::ensure!(from.elapsed() < LIMIT, "no {what}:\n{told}");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn application(&self) -> Result<Pid> {
        let all = processes::all();
        let serves = |p: &&processes::Process| p.args.contains(" serve") && !p.zombie;
        let sidecar = self.sidecar()?.as_raw();
        let found = all.iter().find(|(_, p)| p.parent == sidecar && serves(p));
        Ok(Pid::from_raw(*found.context("no application")?.0))
    }

    fn guard(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.guard.id())?))
    }

    fn sidecar(&self) -> Result<Pid> {
        let guard = self.guard()?.as_raw();
        let all = processes::all();
        let found = all.iter().find(|(_, p)| p.parent == guard);
        Ok(Pid::from_raw(*found.context("no sidecar")?.0))
    }
}

impl Drop for Single {
    fn drop(&mut self) {
        processes::kill_all(std::slice::from_ref(&self.volume), Some(self.guard.id()));
        let _ = self.guard.wait();
    }
}

pub fn measure(world: &World, child: &Path, times: u32) -> Result<Crash> {
    let single = Single::start(world, child)?;
    let leads = |single: &Single| {
        let text = fs::read_to_string(&single.log).unwrap_or_default();
        text.contains("promote.done")
    };
    single.wait("primary", leads)?;
    let mut took = Vec::new();
    for _ in 0..times {
        let before = single.runs().len();
        let application = single.application()?;
        let from = now()?;
        kill(application, Signal::SIGKILL)?;
        single.wait("restart", |single| single.runs().len() > before)?;
        let runs = single.runs().last().copied().unwrap_or_default();
        took.push((runs - from) / 1_000);
        // A second crash within the window would be waited for.
        thread::sleep(Duration::from_millis(1_100));
    }
    Ok(Crash {
        crash_to_restart_us: median(&took),
        guard_pss_kb: pss_kb(single.guard()?)?,
        sidecar_pss_kb: pss_kb(single.sidecar()?)?,
    })
}
