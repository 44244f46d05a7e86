//! Faults are carried out here, and ended.

use super::app::Data;
use super::fault::{Ask, Change, Fault, Place, Volume};
use super::world::{Event, World};
use crate::decide::action::{Action, Failover};
use crate::decide::call::{Call, Verb};
use crate::decide::hook::HookEnd;
use crate::decide::io::Input;
use crate::decide::keys::Key;
use crate::decide::lead::SyncMode;
use crate::decide::life::ConfigNews;
use crate::decide::records::RequestValue;
use crate::decide::time::{At, Span};
use crate::decide::types::{DiskId, Epoch, OpId};

/// A pause of the cluster or of failovers by an operator is taken back after this.
const TAKEN_BACK: u64 = 20_000;
/// A configuration reaches each node within this.
const CONFIG_WITHIN: u64 = 3_000;
/// How long after it was asked an operator's word that a loss is accepted may still be acted on.
const LOSS_FOR: u64 = 130_000;

impl World<'_> {
    pub(super) fn strike(&mut self, fault: Fault) {
        let t = self.t;
        let aimed = self.plan.aimed > 0 && self.pace.chance(self.plan.aimed);
        let leader = self.nodes.iter().position(|node| {
            node.process.as_ref().is_some_and(|process| process.node.deadline().is_some())
        });
        let fault = match leader {
            Some(leader) if aimed => fault.aimed_at(leader),
            Some(_) | None => fault,
        };
        *self.check.faults.entry(fault.kind()).or_default() += 1;
        self.trace.line(t, 0, "FAULT", || format!("{fault:?}"));
        match fault {
            Fault::ConsulLost { node, lost, ms } => {
                self.nodes[node].trouble.consul_lost = Some((lost, t + ms));
            }
            Fault::ConsulSlow { node, by, ms } => {
                self.nodes[node].trouble.consul_slow = (by, t + ms);
            }
            Fault::ConsulLoss { node, per_mille, ms } => {
                self.nodes[node].trouble.consul_loss = (per_mille, t + ms);
            }
            Fault::PeerCut { from, to, ms } => {
                self.nodes[from].trouble.peer_cut.insert(to, t + ms);
            }
            Fault::PeerSlow { node, by, ms } => self.nodes[node].trouble.peer_slow = (by, t + ms),
            Fault::Isolated { node, ms } => self.nodes[node].trouble.isolated = t + ms,
            Fault::ReplicationSlow { node, by, ms } => {
                self.nodes[node].trouble.replication_slow = (by, t + ms);
            }
            Fault::VolumeFails { node, ms } => self.nodes[node].volume.fails_until = t + ms,
            Fault::WallJump { node, by } => self.nodes[node].wall_ahead += by,
            Fault::HookIll { node, hook, ill, times } => {
                self.nodes[node].trouble.ills.push((hook, ill, times));
            }
            Fault::CrashLoop { node, times } => {
                self.nodes[node].trouble.crash_loop = times;
                self.app_dies(node);
            }
            Fault::AppKilled { node } => self.app_dies(node),
            Fault::SidecarPaused { .. } | Fault::AppPaused { .. } | Fault::NodePaused { .. } => {
                self.pause(fault);
            }
            Fault::SidecarKilled { node, back } => self.sidecar_dies(node, back),
            Fault::NodeCrashed { node, volume, back } => self.crash(node, volume, back),
            Fault::ConsulLeaderless { .. }
            | Fault::ConsulBehind { .. }
            | Fault::SnapshotRestored { .. }
            | Fault::LeaderGarbage
            | Fault::LeaderDeleted
            | Fault::MemberDeleted { .. }
            | Fault::MemberGarbage { .. }
            | Fault::RequestGarbage
            | Fault::SessionKilled => self.strike_consul(fault),
            Fault::Asked { node, ask } => self.asked(node, ask),
            Fault::Configured(change) => self.configured(change),
            Fault::Upgraded { node } => self.stop(node),
        }
    }

    fn pause(&mut self, fault: Fault) {
        let t = self.t;
        let (node, ms) = match fault {
            Fault::SidecarPaused { node, ms, mid: true } => {
                self.nodes[node].trouble.pause_mid = Some(ms);
                return;
            }
            Fault::SidecarPaused { node, ms, mid: false } => {
                self.nodes[node].trouble.sidecar_paused = t + ms;
                (node, ms)
            }
            Fault::AppPaused { node, ms } => {
                self.nodes[node].trouble.app_paused = t + ms;
                (node, ms)
            }
            Fault::NodePaused { node, ms } => {
                self.nodes[node].trouble.node_paused = t + ms;
                (node, ms)
            }
            other => unreachable!("{other:?} is no pause"),
        };
        self.after(ms, Event::Resume { node });
    }

    fn strike_consul(&mut self, fault: Fault) {
        let t = self.t;
        match fault {
            Fault::ConsulLeaderless { ms } => {
                self.consul.lose_leader();
                self.after(ms, Event::Elect);
            }
            Fault::ConsulBehind { ms } => {
                self.consul.fall_behind();
                self.after(ms, Event::CatchUp);
            }
            Fault::SnapshotRestored { old } => {
                let fit = self.snapshots.iter().rev().find(|(at, _)| at + old <= t);
                if let Some((_, state)) = fit.cloned() {
                    self.consul.restore(At(t), state);
                    self.check.restored();
                }
            }
            Fault::LeaderGarbage => self.edit(self.keys.leader(), Some(b"{garbage".to_vec())),
            Fault::LeaderDeleted => self.edit(self.keys.leader(), None),
            Fault::MemberDeleted { node } => {
                let key = self.keys.member(&self.nodes[node].name);
                self.edit(key, None);
            }
            Fault::MemberGarbage { node } => {
                let key = self.keys.member(&self.nodes[node].name);
                self.edit(key, Some(b"\xff\x00".to_vec()));
            }
            Fault::RequestGarbage => {
                let id = self.fresh("request");
                self.edit(self.keys.request(&id), Some(b"{\"v\":1,\"verb\":7}".to_vec()));
            }
            Fault::SessionKilled => {
                let ids: Vec<_> = self.consul.sessions().map(|it| it.id.clone()).collect();
                if !ids.is_empty() {
                    let id = ids[self.rng.index(ids.len())].clone();
                    self.consul.invalidate(At(t), &id);
                }
            }
            other => unreachable!("{other:?} is not Consul's"),
        }
        self.poll_watches();
    }

    /// As an operator does, by hand.
    fn edit(&mut self, key: Key, value: Option<Vec<u8>>) {
        let verb = match value {
            Some(value) => Verb::Set(key, value),
            None => Verb::Delete(key),
        };
        // Without a leader the hand fails too.
        drop(self.consul.call(At(self.t), "operator", &Call::Txn(vec![verb])));
        self.check_writable();
    }

    pub(super) fn fresh(&mut self, what: &str) -> String {
        self.ids += 1;
        format!("{what}-{}", self.ids)
    }

    fn app_dies(&mut self, node: Place) {
        let pid = self.nodes[node].app.as_ref().map(|app| app.pid);
        if let Some(pid) = pid {
            self.app_ends(node, pid);
        }
    }

    /// Its guard kills the tree at once, then the container ends.
    fn sidecar_dies(&mut self, node: Place, back: u64) {
        if self.nodes[node].process.take().is_none() {
            return;
        }
        let t = self.t;
        self.trace.line(t, node, "sidecar-dead", String::new);
        self.nodes[node].trouble.sidecar_paused = 0;
        self.nodes[node].hooks.clear();
        self.nodes[node].guard.armed = None;
        self.begin_kill(node, false);
        self.after(back, Event::Start { node });
    }

    fn crash(&mut self, node: Place, volume: Volume, back: u64) {
        let t = self.t;
        self.check.handover = None;
        let was_there = self.nodes[node].process.take().is_some();
        let salt = self.rng.within(1_000_000, 900_000_000);
        let disk = self.fresh("disk");
        let it = &mut self.nodes[node];
        let cut = it.app.take().and_then(|app| app.cut_from());
        it.hooks.clear();
        it.guard.armed = None;
        it.clock.offset = salt;
        it.trouble.sidecar_paused = 0;
        it.trouble.app_paused = 0;
        it.trouble.node_paused = 0;
        self.trace.line(t, node, "node-dead", || format!("volume {volume:?}"));
        if let Some(data) = &mut it.volume.data {
            data.unclean = cut.or(data.unclean);
        }
        match volume {
            Volume::Old => {}
            Volume::Partly => {
                if let Some(Data { rows, safe, .. }) = &mut it.volume.data {
                    rows.truncate(*safe);
                }
            }
            Volume::Empty => {
                it.volume.disk = DiskId::new(&disk);
                it.volume.floor = Epoch::NONE;
                it.volume.cluster = None;
                it.volume.marker = false;
                it.volume.follows = None;
                it.volume.data = None;
                self.check.disk_lost = Some(node);
            }
        }
        if was_there {
            self.after(back, Event::Start { node });
        }
    }

    fn asked(&mut self, node: Place, ask: Ask) {
        let name = |place: Place| self.nodes[place].name.clone();
        let failover = |accept_loss| {
            Action::Failover(Failover { to: None, accept_loss, primary_stopped: false })
        };
        let action = match ask {
            Ask::Switchover => Action::Switchover { to: None },
            Ask::SwitchoverTo(to) => Action::Switchover { to: Some(name(to)) },
            Ask::Failover => failover(false),
            Ask::FailoverLossy => failover(true),
            Ask::Reinit(of) => Action::Reinit { node: name(of) },
            Ask::Pause => Action::Pause { reason: None },
            Ask::Resume => Action::Resume,
        };
        if ask == Ask::FailoverLossy {
            self.check.loss_until = self.t + LOSS_FOR;
        }
        if ask == Ask::Pause {
            self.after(TAKEN_BACK, Event::Later(Fault::Asked { node, ask: Ask::Resume }));
        }
        let Some(process) = &self.nodes[node].process else { return };
        let epoch = process.node.epoch();
        let wall = self.now(node).wall;
        let (verb, args) = (action.verb().to_owned(), action.args());
        let expires = wall + action.good_for().0;
        let request = RequestValue { v: 1, verb, args, by: "operator".into(), epoch, expires };
        let request_id = self.fresh("ask");
        self.ids += 1;
        let id = OpId((1 << 50) + self.ids);
        self.give(node, Input::Action { id, request_id, request });
    }

    pub(super) fn later(&mut self, fault: Fault) {
        match fault {
            Fault::Asked { node, ask } => self.asked(node, ask),
            Fault::Configured(change) => self.configured(change),
            other => self.strike(other),
        }
    }

    fn configured(&mut self, change: Change) {
        for node in 0..self.nodes.len() {
            let names: Vec<_> = self.nodes.iter().map(|it| it.name.clone()).collect();
            let set = &mut self.nodes[node].settings;
            let stated = match change {
                Change::Lease(ms) => {
                    set.lead.lease = Span(ms);
                    ("lease", ms.to_string())
                }
                Change::Hold(hold) => {
                    set.lead.hold = hold;
                    ("on_consul_loss", hold.to_string())
                }
                Change::Sync(on) => {
                    set.lead.sync = if on { SyncMode::On } else { SyncMode::Off };
                    ("sync", on.to_string())
                }
                Change::NoFailover(place) => {
                    set.no_failover = [names[place].clone()].into();
                    ("no_failover", place.to_string())
                }
                Change::Priority(place) => {
                    set.priorities = [(names[place].clone(), 200)].into();
                    ("priorities", place.to_string())
                }
            };
            set.stated.listed.insert(stated.0.to_owned(), stated.1);
            set.stated.digest = format!("{:?}", set.stated.listed);
            let settings = Box::new(set.clone());
            let text = Some(set.stated.digest.clone());
            let input = Input::Config(ConfigNews::Good { settings, text });
            let ms = self.rng.within(0, CONFIG_WITHIN);
            let process = self.process_id(node);
            self.after(ms, Event::Input { node, process, input });
        }
    }

    /// SIGTERM, as for an upgrade.
    fn stop(&mut self, node: Place) {
        let t = self.t;
        if let Some(process) = &mut self.nodes[node].process {
            process.stop_by.get_or_insert(t);
            self.give(node, Input::Stop);
        }
    }

    /// The faults end.
    pub(super) fn calm(&mut self) {
        let t = self.t;
        self.trace.line(t, 0, "CALM", String::new);
        for node in 0..self.nodes.len() {
            let it = &mut self.nodes[node];
            it.volume.fails_until = 0;
            let trouble = std::mem::take(&mut it.trouble);
            let hung: Vec<OpId> = it
                .hooks
                .iter()
                .filter(|(_, running)| running.ill.is_some())
                .map(|(id, _)| *id)
                .collect();
            if trouble.node_paused > t {
                it.trouble.node_paused = t;
            }
            if trouble.sidecar_paused.max(trouble.app_paused).max(trouble.node_paused) > t {
                self.after(0, Event::Resume { node });
            }
            for id in hung {
                self.hook_over(node, id, HookEnd::Exit { code: 1 });
            }
        }
        // What a full disk has stopped waits for a person: who mends the disk starts it again.
        for node in 0..self.nodes.len() {
            if self.nodes[node].process.as_ref().is_some_and(|it| it.node.has_failed()) {
                self.sidecar_dies(node, 1_000);
            }
        }
        self.consul.elect(At(t));
        self.consul.catch_up();
        self.poll_watches();
        // Where clocks differ a node refuses what another one dated: an operator asks each.
        for node in 0..self.nodes.len() {
            let after = 5_000 * u64::try_from(node).expect("a few");
            self.after(after, Event::Later(Fault::Asked { node, ask: Ask::Resume }));
        }
        self.after(1_000, Event::Later(Fault::Configured(Change::Priority(0))));
        self.check.epoch_at_calm = self.check.epoch;
    }
}
