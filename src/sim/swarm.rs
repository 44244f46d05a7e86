//! From a seed to a schedule: how many nodes, which settings, which kinds of faults and how strong.
//!
//! Each kind is on or off for a whole schedule (swarm testing, Groce et al. 2012): a fault that is
//! everywhere hides what another one needs to happen.

use super::fault::{Ask, Change, Fault, Ill, Lost, Volume};
use super::rng::Rng;
use crate::decide::hook::Hook;
use crate::decide::lead::SyncMode;

/// Faults a schedule has at least and at most.
const FAULTS: (u64, u64) = (5, 24);
/// The cluster comes to be before the first fault.
const QUIET: u64 = 15_000;
/// Faults that come together do so within this.
const TOGETHER: u64 = 5_000;
/// Of a schedule's time, in percent, with faults; the rest is for what must come after them.
const FAULTY: u64 = 70;

/// What is asked of a range of seeds.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub nodes: Option<usize>,
    pub minutes: u64,
    /// Snapshots are restored while it runs: outside the assumptions.
    pub restore: bool,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub nodes: usize,
    /// All of it, and the part with faults, in milliseconds.
    pub length: u64,
    pub faulty: u64,
    pub lease: u64,
    pub hold: bool,
    pub sync: SyncMode,
    /// The application cannot tell whose acknowledgement counts: its `sync` hook cuts off who would
    /// acknowledge and is no member (MariaDB). Else it names those who count (PostgreSQL).
    pub cuts_off: bool,
    /// Every node's clock against the true one, in millionths, inside the assumption.
    pub rates: Vec<i64>,
    /// What one way over the network takes at most.
    pub net: u64,
    /// What a hook takes at most.
    pub hook: u64,
    /// What carrying out an effect takes at most, and what starting or killing something does,
    /// while there are faults: meanwhile the sidecar does nothing else.
    pub effects: (u64, u64),
    /// So many of a thousand faults strike the leader of that moment, not the node they name.
    pub aimed: u64,
    pub faults: Vec<(u64, Fault)>,
}

pub fn plan(seed: u64, shape: &Shape) -> Plan {
    let mut rng = Rng::new(seed, 1);
    let nodes = shape.nodes.unwrap_or_else(|| rng.pick(&[3, 3, 3, 4, 5]));
    let length = shape.minutes * 60_000;
    let faulty = length * FAULTY / 100;
    let sync = rng.pick(&[SyncMode::Off, SyncMode::On, SyncMode::On, SyncMode::Strict(1)]);
    let mut plan = Plan {
        seed,
        nodes,
        length,
        faulty,
        lease: Rng::new(seed, 7).pick(&[3_000, 3_000, 3_000, 9_000]),
        hold: rng.chance(700),
        sync,
        cuts_off: rng.chance(500),
        rates: (0..nodes).map(|_| rng.around(9_000)).collect(),
        net: rng.pick(&[1, 4, 20]),
        hook: rng.pick(&[30, 100, 600]),
        effects: effects(&mut Rng::new(seed, 3)),
        aimed: Rng::new(seed, 5).pick(&[0, 0, 600]),
        faults: Vec::new(),
    };
    let kinds: Vec<usize> = (0..Fault::KINDS.len()).filter(|_| rng.chance(350)).collect();
    let kinds = if kinds.is_empty() { vec![rng.index(Fault::KINDS.len())] } else { kinds };
    let count = rng.within(FAULTS.0, FAULTS.1);
    for _ in 0..count {
        let at = rng.within(QUIET.min(faulty / 2), faulty - 1);
        let kind = Fault::KINDS[kinds[rng.index(kinds.len())]];
        let fault = fault(kind, &plan, &mut rng);
        plan.faults.push((at, fault));
    }
    if shape.restore {
        plan.faults.push((
            rng.within(faulty / 2, faulty - 1),
            Fault::SnapshotRestored { old: rng.within(100, 20_000) },
        ));
    }
    one_disk(&mut plan, &mut rng);
    gather(&mut plan);
    plan.faults.sort_by_key(|(at, _)| *at);
    plan
}

/// From a generator of its own, so that what else a seed means does not depend on it.
fn effects(rng: &mut Rng) -> (u64, u64) {
    if rng.chance(400) { (rng.pick(&[1, 5, 25]), rng.pick(&[5, 60, 250])) } else { (0, 0) }
}

/// In some schedules faults come together, and in some they begin before the cluster stands.
fn gather(plan: &mut Plan) {
    let mut rng = Rng::new(plan.seed, 6);
    let early = rng.chance(150);
    let together = rng.chance(350);
    let first = if early { 100 } else { QUIET.min(plan.faulty / 2) };
    if !early && !together {
        return;
    }
    let moments: Vec<u64> = (0..3).map(|_| rng.within(first, plan.faulty - 1)).collect();
    for (at, _) in &mut plan.faults {
        let moment = if together { rng.pick(&moments) } else { *at };
        let moment = if early && rng.chance(300) { rng.within(first, QUIET) } else { moment };
        *at = (moment + rng.within(0, TOGETHER)).min(plan.faulty - 1);
    }
}

/// One disk is lost in a schedule at most: what a cluster must survive.
fn one_disk(plan: &mut Plan, rng: &mut Rng) {
    let lost = rng.index(plan.nodes);
    let mut left = 1;
    for (_, fault) in &mut plan.faults {
        if let Fault::NodeCrashed { node, volume, .. } = fault
            && *volume == Volume::Empty
        {
            if left == 0 {
                *volume = Volume::Partly;
            } else {
                left -= 1;
                *node = lost;
            }
        }
    }
}

/// Short ones are common, some last longer than any lease.
fn time(rng: &mut Rng) -> u64 {
    match rng.below(4) {
        0 => rng.within(20, 400),
        1 => rng.within(400, 3_500),
        2 => rng.within(2_500, 8_000),
        _ => rng.within(5_000, 40_000),
    }
}

fn hook(rng: &mut Rng) -> Hook {
    rng.pick(&[
        Hook::Bootstrap,
        Hook::PreStart,
        Hook::Replicate,
        Hook::Replicate,
        Hook::Promote,
        Hook::Promote,
        Hook::Demote,
        Hook::Demote,
        Hook::Sync,
        Hook::Position,
        Hook::Health,
        Hook::Reload,
    ])
}

fn ask(node: usize, nodes: usize, rng: &mut Rng) -> Ask {
    let other = rng.index(nodes);
    match rng.below(9) {
        0..=2 => Ask::Switchover,
        3 => Ask::SwitchoverTo(other),
        4 => Ask::Failover,
        5 => Ask::FailoverLossy,
        6 => Ask::Reinit(node),
        7 => Ask::Pause,
        _ => Ask::Resume,
    }
}

fn change(nodes: usize, rng: &mut Rng) -> Change {
    match rng.below(5) {
        0 => Change::Lease(rng.pick(&[2_200, 2_500, 3_000])),
        1 => Change::Hold(rng.chance(500)),
        2 => Change::Sync(rng.chance(500)),
        3 => Change::NoFailover(rng.index(nodes)),
        _ => Change::Priority(rng.index(nodes)),
    }
}

fn fault(kind: &str, plan: &Plan, rng: &mut Rng) -> Fault {
    let node = rng.index(plan.nodes);
    let ms = time(rng);
    let by = rng.within(50, 2_500);
    let back = rng.within(200, 20_000);
    match kind {
        "consul-lost" => {
            let lost = rng.pick(&[Lost::Requests, Lost::Replies, Lost::Both, Lost::Refused]);
            Fault::ConsulLost { node, lost, ms }
        }
        "consul-slow" => Fault::ConsulSlow { node, by, ms },
        "consul-loss" => Fault::ConsulLoss { node, per_mille: rng.within(50, 600), ms },
        "peer-cut" => Fault::PeerCut { from: node, to: rng.index(plan.nodes), ms },
        "peer-slow" => Fault::PeerSlow { node, by, ms },
        "isolated" => Fault::Isolated { node, ms },
        "sidecar-paused" => Fault::SidecarPaused { node, ms, mid: rng.chance(500) },
        "app-paused" => Fault::AppPaused { node, ms },
        "node-paused" => Fault::NodePaused { node, ms },
        "sidecar-killed" => Fault::SidecarKilled { node, back },
        "app-killed" => Fault::AppKilled { node },
        "crash-loop" => Fault::CrashLoop { node, times: rng.within(2, 6) },
        "node-crashed" => {
            let volume = rng.pick(&[Volume::Old, Volume::Partly, Volume::Partly, Volume::Empty]);
            Fault::NodeCrashed { node, volume, back }
        }
        "volume-fails" => Fault::VolumeFails { node, ms },
        "wall-jump" => Fault::WallJump { node, by: rng.around(3_600_000) },
        "hook-ill" => {
            let ills = [Ill::Slow(by), Ill::Hang, Ill::HangAfter, Ill::Fail, Ill::HalfDone];
            let ill = rng.pick(&ills);
            Fault::HookIll { node, hook: hook(rng), ill, times: rng.within(1, 4) }
        }
        "replication-slow" => Fault::ReplicationSlow { node, by, ms },
        "leader-garbage" => Fault::LeaderGarbage,
        "leader-deleted" => Fault::LeaderDeleted,
        "member-deleted" => Fault::MemberDeleted { node },
        "member-garbage" => Fault::MemberGarbage { node },
        "request-garbage" => Fault::RequestGarbage,
        "session-killed" => Fault::SessionKilled,
        "consul-leaderless" => Fault::ConsulLeaderless { ms },
        "consul-behind" => Fault::ConsulBehind { ms },
        "asked" => Fault::Asked { node, ask: ask(node, plan.nodes, rng) },
        "configured" => Fault::Configured(change(plan.nodes, rng)),
        "upgraded" => Fault::Upgraded { node },
        other => unreachable!("{other} is no kind of fault"),
    }
}
