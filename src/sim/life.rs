//! Machines and processes: made, started from what the volume holds, and ended.

use super::fault::Place;
use super::node::{Clock, Guard, Process, SimNode, Trouble, Volume, Watch};
use super::world::{Event, World};
use crate::decide::backup::Keep;
use crate::decide::lead::LeadConfig;
use crate::decide::life::{BackupSettings, Boot, Node, OnCrash, Settings, Stated, Timeouts};
use crate::decide::records::Roles;
use crate::decide::time::Span;
use crate::decide::types::{ClusterId, ClusterName, DiskId, Epoch, Identity, NodeName, RunId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A container that ended is started again after this.
const AGAIN: u64 = 1_000;
/// One that refused to start, later.
const AGAIN_REFUSED: u64 = 5_000;

impl World<'_> {
    pub(super) fn machine(&mut self, place: Place) -> SimNode {
        let disk = DiskId::new(&self.fresh("disk"));
        let offset = self.rng.within(1_000_000, 900_000_000);
        SimNode {
            name: NodeName::new(&format!("n{place}")),
            clock: Clock { offset, rate: self.plan.rates[place] },
            wall_ahead: 0,
            settings: self.settings(place),
            volume: Volume {
                disk,
                floor: Epoch::NONE,
                cluster: None,
                marker: false,
                follows: None,
                data: None,
                fails_until: 0,
            },
            app: None,
            guard: Guard::default(),
            hooks: BTreeMap::new(),
            process: None,
            trouble: Trouble::default(),
            pids: u32::try_from(place).expect("few") * 1_000_000 + 100,
        }
    }

    /// A process begins with what the volume holds.
    pub(super) fn start(&mut self, node: Place) {
        let t = self.t;
        if self.nodes[node].process.is_some() {
            return;
        }
        if self.nodes[node].trouble.node_paused > t {
            let until = self.nodes[node].trouble.node_paused;
            self.at(until, Event::Start { node });
            return;
        }
        let (run, fresh_id) = (self.fresh("run"), self.fresh("cluster"));
        let now = self.now(node);
        let it = &mut self.nodes[node];
        let run = RunId::new(&run);
        let identity =
            Identity { node: it.name.clone(), run: run.clone(), disk: it.volume.disk.clone() };
        let boot = Boot {
            identity,
            cluster_name: ClusterName::new("sim"),
            floor: it.volume.floor,
            cluster: it.volume.cluster.clone(),
            data: it.volume.data.is_some(),
            marker: it.volume.marker,
            follows: it.volume.follows.clone(),
            fresh_id: ClusterId::new(&fresh_id),
            fresh_secret: b"secret".to_vec(),
        };
        let id = self.ids;
        it.app = None;
        it.hooks.clear();
        it.process = Some(Process {
            id,
            run,
            node: Node::new(boot, it.settings.clone(), now),
            inbox: VecDeque::new(),
            late: VecDeque::new(),
            settling: false,
            busy: None,
            calls: BTreeSet::new(),
            peer_calls: BTreeSet::new(),
            asked: BTreeMap::new(),
            outside: 0,
            watches: [Watch::default(), Watch::default()],
            wake: 0,
            stop_by: None,
            leaving: false,
        });
        self.trace.line(t, node, "starts", || format!("process {id}"));
        for what in 0..2 {
            self.after(0, Event::Watch { node, process: id, what, turn: 0 });
        }
        self.give(node, crate::decide::io::Input::Tick);
    }

    /// The process is gone; the guard leaves nothing behind.
    pub(super) fn left(&mut self, node: Place, process: u64) {
        if self.process(node, process).is_none() {
            return;
        }
        let it = &mut self.nodes[node];
        it.process = None;
        it.hooks.clear();
        it.guard.armed = None;
        it.app = None;
        let refused = self.check.exits.contains(&3);
        self.after(if refused { AGAIN_REFUSED } else { AGAIN }, Event::Start { node });
    }

    fn settings(&self, place: Place) -> Settings {
        let plan = self.plan;
        let long = Span::secs(60);
        Settings {
            lead: LeadConfig {
                lease: Span(plan.lease),
                lease_max: Span(plan.lease),
                request_timeout: Span(500),
                sync: plan.sync,
                hold: plan.hold,
                rank_step: Span(50),
                peer: format!("10.0.0.{place}:8500"),
                app: format!("10.0.0.{place}:3306"),
            },
            demote_budget: Span(500),
            kill_budget: Span(200),
            on_crash: if plan.seed % 3 == 0 { OnCrash::Restart } else { OnCrash::Failover },
            restart_max: 3,
            restart_window: long,
            timeouts: Timeouts {
                bootstrap: Span::secs(20),
                pre_start: Span::secs(10),
                replicate: Span::secs(10),
                promote: Span::secs(10),
                demote: Span::secs(10),
                position: Span::secs(5),
                health: Span::secs(5),
                sync: Span::secs(5),
                reload: Span::secs(10),
                backup: long,
                verify: long,
            },
            bootstrap_expect: 1,
            priorities: BTreeMap::new(),
            no_failover: BTreeSet::new(),
            health_interval: Span::secs(1),
            expel_after: Span::secs(10),
            hung_after: Span::secs(10),
            hold_down: Span::secs(10),
            hold_down_max: Span::secs(300),
            hold_down_window: Span::secs(600),
            max_lag: None,
            journal_keep: 1_000,
            stop_timeout: Span::secs(20),
            service: "db".into(),
            tls: false,
            address: format!("10.0.0.{place}"),
            app_port: 3306,
            zone: String::new(),
            host: String::new(),
            tags: Vec::new(),
            roles: Roles::default(),
            version: "1".into(),
            stated: Stated::default(),
            backup: BackupSettings {
                schedule: None,
                keep: Keep { count: 2, days: 0 },
                bar: Some("no directory".into()),
                no_verify: Some("no directory".into()),
                restore_from: None,
            },
        }
    }
}
