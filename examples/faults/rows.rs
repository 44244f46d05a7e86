//! The rows of the table: what is done to the cluster, and when it is over.

use super::lab::figures::BEFORE_MS;
use super::lab::run::{Event, Run};
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::time::Duration;

/// How long things last, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub sidecar_stopped: u64,
    pub consul_frozen: u64,
    pub agent_frozen: u64,
    pub both_frozen: u64,
    /// After an event, or after its end.
    pub after: u64,
}

impl Times {
    pub const FULL: Times = Times {
        sidecar_stopped: 60_000,
        consul_frozen: 45_000,
        agent_frozen: 75_000,
        both_frozen: 15_000,
        after: 20_000,
    };
    /// For CI: each longer than a lease, that is what counts.
    pub const SHORT: Times = Times {
        sidecar_stopped: 5_000,
        consul_frozen: 6_000,
        agent_frozen: 6_000,
        both_frozen: 5_000,
        after: 5_000,
    };
}

/// A container's supervisor starts it again after so long.
const RESTART_MS: u64 = 5_000;
/// A killed Consul server comes back after so long.
const SERVER_BACK_MS: u64 = 10_000;
const CONSUL_LIMIT: Duration = Duration::from_secs(90);

pub struct Row {
    pub name: &'static str,
    pub about: &'static str,
    /// No gap may be longer, on however busy a machine; beside a freeze that nothing bridges.
    pub gap_limit_ms: u64,
    pub act: fn(&mut Run, &'static str, &Times) -> Result<()>,
}

pub const ROWS: [Row; 11] = [
    Row {
        name: "app_killed",
        about: "the primary's application killed -9",
        gap_limit_ms: 6_000,
        act: app_killed,
    },
    Row {
        name: "node_killed",
        about: "its whole node killed -9",
        gap_limit_ms: 10_000,
        act: node_killed,
    },
    Row { name: "switchover", about: "planned switchover", gap_limit_ms: 5_000, act: switchover },
    Row {
        name: "sidecar_stopped",
        about: "its sidecar stopped (SIGSTOP)",
        gap_limit_ms: 10_000,
        act: sidecar_stopped,
    },
    Row {
        name: "sidecar_killed",
        about: "its sidecar alone killed -9",
        gap_limit_ms: 10_000,
        act: sidecar_killed,
    },
    Row {
        name: "consul_frozen",
        about: "all Consul servers frozen",
        gap_limit_ms: 3_000,
        act: consul_frozen,
    },
    Row {
        name: "agent_frozen",
        about: "the primary's own Consul agent frozen",
        gap_limit_ms: 5_000,
        act: agent_frozen,
    },
    Row {
        name: "consul_member_frozen",
        about: "Consul and one eligible member frozen",
        gap_limit_ms: 30_000,
        act: consul_member_frozen,
    },
    Row {
        name: "raft_leader_killed",
        about: "Consul's raft leader killed -9",
        gap_limit_ms: 10_000,
        act: raft_leader_killed,
    },
    Row {
        name: "app_hung",
        about: "the application hung (SIGSTOP)",
        gap_limit_ms: 25_000,
        act: app_hung,
    },
    Row { name: "disk_full", about: "its data disk full", gap_limit_ms: 20_000, act: disk_full },
];

fn begin(run: &Run, name: &'static str, what: &str) -> Result<(usize, Event)> {
    // The silence of the event before must be out of this one's window.
    run.watch(BEFORE_MS)?;
    let primary = run.primary()?;
    run.say(&format!("{what} {}", run.name(primary)));
    Ok((primary, Event::new(name, run.writers.now_ms())))
}

fn over(run: &Run, event: &mut Event, what: &str) {
    run.say(what);
    event.over = Some(run.writers.now_ms());
}

fn app_killed(run: &mut Run, name: &'static str, _: &Times) -> Result<()> {
    let (primary, event) = begin(run, name, "kill -9: the application of")?;
    run.world.kill_application(primary)?;
    run.measure(event)
}

fn node_killed(run: &mut Run, name: &'static str, _: &Times) -> Result<()> {
    let (primary, event) = begin(run, name, "kill -9: all of")?;
    run.world.kill_node(primary)?;
    run.watch_event(&event)?;
    run.say(&format!("{} starts again", run.name(primary)));
    run.world.start_node(primary)?;
    run.measure(event)
}

fn switchover(run: &mut Run, name: &'static str, _: &Times) -> Result<()> {
    let (_, event) = begin(run, name, "lictor switchover, away from")?;
    run.world.switchover()?;
    run.measure(event)
}

fn sidecar_stopped(run: &mut Run, name: &'static str, times: &Times) -> Result<()> {
    let (primary, mut event) = begin(run, name, "SIGSTOP: the sidecar of")?;
    let sidecar = run.world.sidecar(primary)?;
    super::lab::processes::freeze(sidecar)?;
    run.watch(times.sidecar_stopped)?;
    over(run, &mut event, "it goes on");
    super::lab::processes::thaw(sidecar)?;
    run.measure(event)
}

fn sidecar_killed(run: &mut Run, name: &'static str, _: &Times) -> Result<()> {
    let (primary, event) = begin(run, name, "kill -9: the sidecar of")?;
    run.world.kill_sidecar(primary)?;
    run.watch(RESTART_MS)?;
    run.say(&format!("{} starts again", run.name(primary)));
    run.world.start_node(primary)?;
    run.measure(event)
}

fn freeze_consul(run: &Run) -> Result<()> {
    run.world.consul.servers.iter().try_for_each(|server| server.freeze())
}

fn thaw_consul(run: &Run) -> Result<()> {
    run.world.consul.servers.iter().try_for_each(|server| server.thaw())
}

fn consul_settles(run: &Run) -> Result<()> {
    run.world.consul.meet();
    run.world.wait_for("healthy Consul", CONSUL_LIMIT, |world| world.consul.is_up())
}

fn consul_frozen(run: &mut Run, name: &'static str, times: &Times) -> Result<()> {
    let (_, mut event) = begin(run, name, "SIGSTOP: all Consul servers, under the primary")?;
    freeze_consul(run)?;
    run.watch(times.consul_frozen)?;
    over(run, &mut event, "Consul goes on");
    thaw_consul(run)?;
    consul_settles(run)?;
    run.measure(event)
}

fn agent_frozen(run: &mut Run, name: &'static str, times: &Times) -> Result<()> {
    let (primary, mut event) = begin(run, name, "SIGSTOP: the own Consul agent of")?;
    run.world.consul.agents[primary].freeze()?;
    run.watch(times.agent_frozen)?;
    over(run, &mut event, "the agent goes on");
    run.world.consul.agents[primary].thaw()?;
    consul_settles(run)?;
    run.measure(event)
}

fn consul_member_frozen(run: &mut Run, name: &'static str, times: &Times) -> Result<()> {
    let (primary, mut event) = begin(run, name, "SIGSTOP: all Consul servers, and a replica of")?;
    let member = (primary + 1) % run.world.nodes.len();
    run.world.signal_node(member, Signal::SIGSTOP);
    freeze_consul(run)?;
    event.back = true;
    run.watch(times.both_frozen)?;
    over(run, &mut event, "Consul goes on, the replica does not yet");
    thaw_consul(run)?;
    run.world.consul.meet();
    run.watch(times.after)?;
    run.say(&format!("{} goes on", run.name(member)));
    run.world.signal_node(member, Signal::SIGCONT);
    consul_settles(run)?;
    run.measure(event)
}

fn raft_leader_killed(run: &mut Run, name: &'static str, times: &Times) -> Result<()> {
    let (_, event) = begin(run, name, "kill -9: Consul's raft leader, under the primary")?;
    let leader = run.world.consul.leader()?;
    run.world.consul.servers[leader].kill();
    run.watch(SERVER_BACK_MS.min(times.after))?;
    run.say(&format!("{} starts again", run.world.consul.servers[leader].name));
    run.world.consul.restart_server(leader)?;
    consul_settles(run)?;
    run.measure(event)
}

fn app_hung(run: &mut Run, name: &'static str, _: &Times) -> Result<()> {
    let (primary, mut event) = begin(run, name, "SIGSTOP: the application of")?;
    let application = run.world.application(primary)?;
    super::lab::processes::freeze(application)?;
    let gone = |world: &super::lab::world::World| {
        world.application(primary).map_or(true, |now| now != application)
    };
    run.world.wait_for("end of the hung application", CONSUL_LIMIT, gone)?;
    over(run, &mut event, "it was ended");
    run.measure(event)
}

fn disk_full(run: &mut Run, name: &'static str, times: &Times) -> Result<()> {
    let (primary, mut event) = begin(run, name, "the data disk is filled up, of")?;
    let disk = run.world.nodes[primary].disk.as_ref().context("no small disk")?;
    disk.fill()?;
    run.watch(times.after)?;
    over(run, &mut event, "there is room again");
    run.world.nodes[primary].disk.as_ref().context("no small disk")?.free()?;
    run.measure(event)
}
