//! The observer: sees every node and Consul at once, and holds them against `decide::invariants`.

use super::fault::Place;
use super::net::entries;
use super::world::World;
use crate::decide::call::{Call, Verb};
use crate::decide::invariants::{self, Broken};
use crate::decide::keys::Key;
use crate::decide::lead::SyncMode;
use crate::decide::records::{LeaderValue, LockState, ResultValue, SyncValue, TermValue, decode};
use crate::decide::types::{Epoch, Member};
use std::collections::{BTreeMap, BTreeSet};

/// From SIGTERM to the end at most: the stop of the application, a handover and the leases around.
const STOP_MOST: u64 = 60_000;
/// Changes of leader after the faults have ended: more is flapping.
const EPOCHS_AFTER_CALM: u64 = 8;

/// With a writable leader a commit is acknowledged within this.
const ACKNOWLEDGED_WITHIN: u64 = 15_000;

pub const NOT_CONVERGED: Broken = "S4: no healthy cluster after the faults ended";
pub const FLAPS: Broken = "S9: leaders change though nothing is wrong";
pub const STOP_TOO_LONG: Broken = "S10: asked to stop, and still there";

#[derive(Clone, Debug, Default)]
pub struct Check {
    pub broken: Option<(u64, Broken, String)>,
    /// How often each was decided.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Those that somebody who asks is told.
    pub told: BTreeSet<&'static str>,
    pub faults: BTreeMap<&'static str, u64>,
    pub exits: BTreeSet<i32>,
    pub epoch: Epoch,
    pub epoch_at_calm: Epoch,
    /// Rows that may not be lost any more, as long as there is a sync set.
    promised: Vec<u64>,
    /// The index of `state/sync` as looked at last, and whether it is a set.
    sync_set: (Option<u64>, bool),
    /// An operator's word.
    pub loss_until: u64,
    pub disk_lost: Option<Place>,
    pub handover: Option<Handover>,
    /// When a client was last told that its row is there.
    acked_at: u64,
    /// A snapshot was restored: epochs may repeat.
    restored: bool,
    pub guard_kills: u64,
    pub written: u64,
    pub acked: u64,
    pub terms: u64,
    /// It was not to be expected that the cluster heals, and why.
    pub excused: Option<&'static str>,
}

impl Check {
    pub fn restored(&mut self) {
        self.restored = true;
        self.epoch = Epoch::NONE;
        self.promised.clear();
    }
}

/// What stood before a write.
pub struct Before {
    /// If it takes.
    taken: Option<(Option<TermValue>, bool)>,
    /// If it answers a request.
    results: Vec<(Key, ResultValue)>,
}

/// A planned demotion: what the primary had, and who takes over by its word.
#[derive(Clone, Debug)]
pub struct Handover {
    from: Place,
    rows: Vec<u64>,
    to: Option<Place>,
}

/// The key that a verb writes.
fn written(verb: &Verb) -> Option<&Key> {
    match verb {
        Verb::Set(key, _) | Verb::Cas(key, ..) => Some(key),
        Verb::GetTree(_)
        | Verb::CheckIndex(..)
        | Verb::CheckNotExists(_)
        | Verb::CheckSession(..)
        | Verb::Lock(..)
        | Verb::Unlock(..)
        | Verb::DeleteCas(..)
        | Verb::Delete(_) => None,
    }
}

fn is_result(key: &Key) -> bool {
    key.as_str().ends_with("-result")
}

impl World<'_> {
    pub(super) fn broken(&mut self, what: Broken) {
        if self.check.broken.is_none() {
            let t = self.t;
            self.trace.line(t, 0, "BROKEN", || what.to_owned());
            self.check.broken = Some((t, what, String::new()));
        }
    }

    fn hold(&mut self, result: Result<(), Broken>) {
        if let Err(what) = result {
            self.broken(what);
        }
    }

    fn writable(&self) -> usize {
        self.nodes.iter().filter(|node| node.counts_as_writable(self.t)).count()
    }

    /// After whatever may make somebody writable.
    pub(super) fn check_writable(&mut self) {
        self.hold(invariants::one_writable(self.writable()));
    }

    fn stored<T: serde::de::DeserializeOwned>(&self, key: &str) -> Option<T> {
        let found = entries(self.consul.read(key, false));
        found.first().and_then(|entry| decode(&entry.value))
    }

    pub(super) fn before(&self, call: &Call) -> Option<Before> {
        let Call::Txn(verbs) = call else { return None };
        let takes = verbs.iter().any(|verb| matches!(verb, Verb::Lock(..)));
        let answers = verbs.iter().filter_map(written).filter(|key| is_result(key));
        let results: Vec<(Key, ResultValue)> =
            answers.filter_map(|key| Some((key.clone(), self.stored(key.as_str())?))).collect();
        if !takes && results.is_empty() {
            return None;
        }
        let taken = takes.then(|| {
            let made = !self.consul.read(self.keys.cluster().as_str(), false).rows.is_empty();
            (self.stored(self.keys.term().as_str()), made)
        });
        Some(Before { taken, results })
    }

    /// A transaction was applied.
    pub(super) fn check_applied(
        &mut self,
        (node, process): (Place, u64),
        call: &Call,
        before: Option<Before>,
    ) {
        let Call::Txn(verbs) = call else { return };
        if verbs.iter().filter_map(written).any(|key| *key == self.keys.journal_head()) {
            self.check_journal(node, process);
        }
        let (taken, results) = before.map_or((None, Vec::new()), |it| (it.taken, it.results));
        for (key, before) in results {
            if let Some(after) = self.stored::<ResultValue>(key.as_str()) {
                self.hold(invariants::answered_once(&before, &after));
            }
        }
        if let Some(before) = taken {
            let term = verbs.iter().find_map(|verb| match verb {
                Verb::Cas(key, _, value) if *key == self.keys.term() => decode::<TermValue>(value),
                Verb::Set(..)
                | Verb::Cas(..)
                | Verb::GetTree(_)
                | Verb::CheckIndex(..)
                | Verb::CheckNotExists(_)
                | Verb::CheckSession(..)
                | Verb::Lock(..)
                | Verb::Unlock(..)
                | Verb::DeleteCas(..)
                | Verb::Delete(_) => None,
            });
            if let Some(term) = term {
                self.check_taken(node, &term, &before);
            }
        }
        if verbs.iter().any(|verb| matches!(verb, Verb::Unlock(..))) {
            self.handed_over(node);
            let writable = self.writable();
            for entry in entries(self.consul.read(self.keys.leader().as_str(), false)) {
                let locked = entry.session.is_some();
                self.hold(invariants::clean_is_true(&entry.value, locked, writable));
            }
        }
    }

    /// Of a writer that has ended since nobody knows its run.
    fn check_journal(&mut self, node: Place, process: u64) {
        let Some(run) = self.process(node, process).map(|it| it.run.clone()) else { return };
        let term: Option<TermValue> = self.stored(self.keys.term().as_str());
        let leader = self.consul.row(self.keys.leader().as_str());
        let locked = leader.is_some_and(|row| row.session.is_some());
        self.hold(invariants::journal_under_lock(&run, term.as_ref(), locked));
    }

    /// A planned demotion is done: nothing more is committed here.
    pub(super) fn demoted_by_plan(&mut self, node: Place) {
        let rows = self.nodes[node].volume.data.as_ref().map(|data| data.rows.clone());
        self.check.handover = rows.map(|rows| Handover { from: node, rows, to: None });
    }

    /// The lock was given back: to whom?
    fn handed_over(&mut self, node: Place) {
        let value: Option<LeaderValue> = self.stored(self.keys.leader().as_str());
        let to = value.filter(|value| value.state == LockState::Clean).and_then(|value| value.to);
        let to = to.and_then(|to| self.place(to.as_str()));
        self.check.handover.take_if(|it| it.from != node || to.is_none());
        if let Some(handover) = &mut self.check.handover {
            handover.to = to;
        }
    }

    /// S11, at the moment the successor accepts writes.
    fn check_handover(&mut self, node: Place) {
        let Some(handover) = self.check.handover.take() else { return };
        if handover.to != Some(node) || self.t < self.check.loss_until {
            return;
        }
        let Some(data) = &self.nodes[node].volume.data else { return };
        let missing = handover.rows.iter().find(|row| !data.has(**row)).copied();
        if let Some(row) = missing {
            let t = self.t;
            self.trace.line(t, node, "misses", || format!("row {row}, though it was handed over"));
            self.broken(invariants::HANDOVER_LOST);
        }
    }

    fn check_taken(
        &mut self,
        node: Place,
        term: &TermValue,
        (before, made): &(Option<TermValue>, bool),
    ) {
        let t = self.t;
        self.check.terms += 1;
        self.trace.line(t, node, "TAKES", || format!("epoch {}", term.epoch));
        if !self.check.restored {
            self.hold(invariants::epoch_grows(self.check.epoch, term.epoch));
        }
        self.check.epoch = self.check.epoch.max(term.epoch);
        if *made && t >= self.check.loss_until {
            let name = self.nodes[node].name.clone();
            self.hold(invariants::listed(before.as_ref(), &name));
        }
    }

    /// Clients were told that these rows are there.
    pub(super) fn acknowledged(&mut self, node: Place, rows: &[u64]) {
        self.check.acked += rows.len() as u64;
        self.check.acked_at = self.t;
        let sync = self.nodes[node].process.as_ref().map(|it| it.node.sync_mode());
        if sync.is_some_and(|sync| sync != SyncMode::Off) && self.has_sync_set() {
            self.check.promised.extend_from_slice(rows);
        }
    }

    /// Asked for each row; what stands there changes seldom.
    fn has_sync_set(&mut self) -> bool {
        let index = self.consul.row(self.keys.sync().as_str()).map(|row| row.modify);
        if self.check.sync_set.0 != index || self.check.restored {
            let stands = self.stored::<SyncValue>(self.keys.sync().as_str()).is_some();
            self.check.sync_set = (index, stands);
        }
        self.check.sync_set.1
    }

    /// S8, at the moment the application accepts writes.
    pub(super) fn check_promoted(&mut self, node: Place) {
        self.check_handover(node);
        if self.t < self.check.loss_until || !self.has_sync_set() {
            self.check.promised.clear();
            return;
        }
        let Some(data) = &self.nodes[node].volume.data else { return };
        let missing = self.check.promised.iter().find(|row| !data.has(**row)).copied();
        if let Some(row) = missing {
            let t = self.t;
            self.trace.line(t, node, "misses", || format!("row {row}"));
            self.broken(invariants::LOST);
        }
    }

    /// At the end of it all.
    pub(super) fn judge(&mut self) {
        let t = self.t;
        let stuck = |stop: u64| t - stop > STOP_MOST;
        let late = self
            .nodes
            .iter()
            .any(|node| node.process.as_ref().is_some_and(|it| it.stop_by.is_some_and(stuck)));
        if late {
            self.broken(STOP_TOO_LONG);
        }
        if self.check.epoch.0 > self.check.epoch_at_calm.0 + EPOCHS_AFTER_CALM {
            self.broken(FLAPS);
        }
        if let Err(why) = self.converged() {
            if let Some(excuse) = self.excuse() {
                self.check.excused = Some(excuse);
                return;
            }
            self.broken(NOT_CONVERGED);
            if let Some((_, _, text)) = &mut self.check.broken {
                *text = why;
            }
        }
    }

    /// One leader, writable, and everybody else follows it.
    fn converged(&self) -> Result<(), String> {
        let t = self.t;
        let leader = self.nodes.iter().position(|node| node.writable(t));
        let Some(leader) = leader else {
            return Err(format!("nobody is writable; {}", self.states()));
        };
        for (place, node) in self.nodes.iter().enumerate() {
            let follows = node.app.as_ref().and_then(|app| app.receives);
            if place != leader && follows != Some(leader) {
                return Err(format!("n{place} does not follow n{leader}; {}", self.states()));
            }
        }
        let silent = t - self.check.acked_at;
        if silent > ACKNOWLEDGED_WITHIN {
            return Err(format!("no commit was acknowledged for {silent} ms; {}", self.states()));
        }
        Ok(())
    }

    fn states(&self) -> String {
        let state = |node: &super::node::SimNode| match &node.process {
            Some(process) => format!("{} {}", node.name, process.node.state_name()),
            None => format!("{} is down", node.name),
        };
        self.nodes.iter().map(state).collect::<Vec<_>>().join(", ")
    }

    /// Why nobody may lead by the rules until an operator decides; `None`: somebody must.
    fn excuse(&self) -> Option<&'static str> {
        if self.check.restored {
            return Some("a snapshot was restored");
        }
        let sync: Option<SyncValue> = self.stored(self.keys.sync().as_str());
        let has = |node: &super::node::SimNode| {
            node.volume
                .data
                .as_ref()
                .is_some_and(|data| self.check.promised.iter().all(|row| data.has(*row)))
        };
        if let Some(sync) = sync {
            let lost = self.check.disk_lost.map(|place| &self.nodes[place].name);
            if lost.is_some_and(|name| sync.members.contains(name)) {
                return Some("a node of the sync set lost its disk: its answer cannot be had");
            }
            let mut named = self.nodes.iter().filter(|node| sync.members.contains(&node.name));
            if !named.any(has) {
                return Some("nobody of the sync set has every acknowledged row any more");
            }
        }
        let term: Option<TermValue> = self.stored(self.keys.term().as_str());
        let eligible = term.map(|term| term.eligible).unwrap_or_default();
        let with_disk =
            |member: &&Member| self.nodes.iter().any(|node| node.volume.disk == member.disk);
        let listed: Vec<&Member> = eligible.iter().filter(with_disk).collect();
        if listed.is_empty() {
            return Some("nobody of the list has its disk any more");
        }
        let barred = &self.nodes[0].settings.no_failover;
        listed
            .iter()
            .all(|member| barred.contains(&member.node))
            .then_some("`no_failover` names everybody of the list")
    }
}
