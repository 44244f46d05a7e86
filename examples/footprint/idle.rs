//! An idle cluster of three MariaDB nodes: what lictor itself costs, hooks apart, and what it asks
//! of Consul.

use super::lab::consul::Agent;
use super::lab::net::http;
use super::lab::run::{WHOLE_LIMIT, say};
use super::lab::stop::Stop;
use super::lab::world::{Options, World};
use super::usage::{Cpu, pss_kb};
use anyhow::{Context, Result};
use nix::unistd::Pid;
use serde::Serialize;
use serde_json::Value;
use std::thread;
use std::time::{Duration, Instant};

/// Consul keeps its counts in intervals of 10 s and tells the last one that is over.
const INTERVAL_SECONDS: u64 = 10;
const INTERVAL_LIMIT: Duration = Duration::from_secs(30);
/// A sidecar gives back what only its start needed when it is 20 s old (`process::slim`); what is
/// shared with one that has not yet done so counts for the others.
const SETTLED: Duration = Duration::from_secs(25);

#[derive(Clone, Debug, Serialize)]
pub struct Node {
    pub name: String,
    pub role: &'static str,
    pub guard_pss_kb: u64,
    pub sidecar_pss_kb: u64,
    /// Guard and sidecar, in percent of one core.
    pub cpu_percent: f64,
    /// Hooks and whatever else ended below the sidecar.
    pub hooks_cpu_percent: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Idle {
    pub tls: bool,
    pub seconds: u64,
    pub nodes: Vec<Node>,
    /// Per node; a blocking query counts when it is answered.
    pub requests_per_second: f64,
    /// Of the cluster, without what Consul writes by itself.
    pub raft_writes_per_second: f64,
    /// What Consul wrote by itself before there was a cluster.
    pub raft_own_per_second: f64,
}

/// Counts of all servers since they were last asked.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    requests: u64,
    applies: u64,
}

fn metrics(agent: &Agent) -> Option<Value> {
    let (_, body) = http(agent.http, "GET", "/v1/agent/metrics")?;
    serde_json::from_str(&body).ok()
}

fn count(metrics: &Value, list: &str, is_wanted: impl Fn(&str) -> bool) -> u64 {
    let rows = metrics[list].as_array().map_or(&[][..], Vec::as_slice);
    let wanted = rows.iter().filter(|row| row["Name"].as_str().is_some_and(&is_wanted));
    wanted.filter_map(|row| row["Count"].as_u64()).sum()
}

/// What happened in one interval that begins after now, over all servers; without our own question.
fn interval(world: &World, stop: &Stop) -> Result<Counts> {
    let first = &world.consul.servers[0];
    let time = |metrics: &Value| metrics["Timestamp"].as_str().map(str::to_owned);
    let from = Instant::now();
    let before = metrics(first).as_ref().and_then(time);
    while metrics(first).as_ref().and_then(time) == before {
        stop.check()?;
        anyhow::ensure!(from.elapsed() < INTERVAL_LIMIT, "Consul's metrics stand still");
        thread::sleep(Duration::from_millis(500));
    }
    let ours = |name: &str| name.ends_with("v1.agent.metrics");
    let mut counts = Counts::default();
    for server in &world.consul.servers {
        let told = metrics(server).context("no metrics")?;
        counts.requests +=
            count(&told, "Samples", |name| name.starts_with("consul.http.") && !ours(name));
        counts.applies += count(&told, "Counters", |name| name == "consul.raft.apply");
    }
    Ok(counts)
}

fn rate(world: &World, stop: &Stop, seconds: u64) -> Result<(f64, f64)> {
    let intervals = seconds.div_ceil(INTERVAL_SECONDS).max(1);
    let mut sum = Counts::default();
    for _ in 0..intervals {
        let one = interval(world, stop)?;
        sum.requests += one.requests;
        sum.applies += one.applies;
    }
    let time = (intervals * INTERVAL_SECONDS) as f64;
    Ok((sum.requests as f64 / time, sum.applies as f64 / time))
}

fn cpu(guard: Pid, sidecar: Pid) -> Result<Cpu> {
    let (guard, sidecar) = (Cpu::of(guard)?, Cpu::of(sidecar)?);
    Ok(Cpu { own_ms: guard.own_ms + sidecar.own_ms, ended_ms: sidecar.ended_ms })
}

pub fn measure(options: Options, stop: &Stop, start: Instant, seconds: u64) -> Result<Idle> {
    let tls = options.tls;
    let mut world = World::new(options, stop.clone())?;
    say(start, &format!("Consul alone, {INTERVAL_SECONDS} s"));
    // Its own start is over.
    interval(&world, stop)?;
    let (_, own) = rate(&world, stop, INTERVAL_SECONDS)?;
    for i in 0..world.nodes.len() {
        world.start_node(i)?;
    }
    let started = Instant::now();
    world.wait_for("cluster of three counted members", WHOLE_LIMIT, World::is_whole)?;
    let primary = world.primary().context("the primary is gone again")?;
    say(start, &format!("an idle cluster, {seconds} s"));
    // What the start asked for is over.
    interval(&world, stop)?;
    let pids: Vec<(Pid, Pid)> = (0..world.nodes.len())
        .map(|i| Ok((world.guard(i)?, world.sidecar(i)?)))
        .collect::<Result<_>>()?;
    let before: Vec<Cpu> = pids.iter().map(|(g, s)| cpu(*g, *s)).collect::<Result<_>>()?;
    let begun = Instant::now();
    let (requests, applies) = rate(&world, stop, seconds)?;
    let took = begun.elapsed().as_millis() as f64;
    let used = pids.iter().zip(before).map(|((g, s), before)| Ok(cpu(*g, *s)?.since(before)));
    let used: Vec<Cpu> = used.collect::<Result<_>>()?;
    while started.elapsed() < SETTLED {
        stop.check()?;
        thread::sleep(Duration::from_millis(200));
    }
    let mut nodes = Vec::new();
    for (i, ((guard, sidecar), used)) in pids.iter().zip(used).enumerate() {
        nodes.push(Node {
            name: world.nodes[i].name.clone(),
            role: if i == primary { "primary" } else { "replica" },
            guard_pss_kb: pss_kb(*guard)?,
            sidecar_pss_kb: pss_kb(*sidecar)?,
            cpu_percent: used.own_ms as f64 * 100.0 / took,
            hooks_cpu_percent: used.ended_ms as f64 * 100.0 / took,
        });
    }
    Ok(Idle {
        tls,
        seconds,
        requests_per_second: requests / nodes.len() as f64,
        nodes,
        raft_writes_per_second: applies - own,
        raft_own_per_second: own,
    })
}
