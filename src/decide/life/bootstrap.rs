//! How the data directory comes to be: create, restore, clone, rewind; and the marker that says one
//! of them was under way.
//!
//! The marker is durable before the hook starts and stays until the data counts: after a clone when
//! the hook is done, after a creation when `state/cluster` is written. Found at a start it means:
//! wipe and begin again.

use super::facts::with;
use super::{Bootstrap, Node, State};
use crate::decide::hook::{Hook, HookEnd};
use crate::decide::io::{Effect, Outbox};
use crate::decide::lead::LeadIn;
use crate::decide::mutant::{self, Mutant};
use crate::decide::reason::Reason;
use crate::decide::records::ClusterValue;
use crate::decide::time::At;
use crate::decide::types::{ClusterId, Epoch, NodeName};

impl Node {
    pub(crate) fn begin_bootstrap(&mut self, now: At, kind: Bootstrap, out: &mut Outbox) {
        self.to(now, State::Bootstrapping { kind, marked: false, hook: None });
        out.push(Effect::WriteMarker);
    }

    pub(crate) fn marker_written(&mut self, now: At, out: &mut Outbox) {
        self.disk.marker = true;
        // The volume forgot it with the marker: known again once the hook has succeeded.
        self.disk.cluster = None;
        self.marked_for_reinit(now, out);
        let State::Bootstrapping { kind, .. } = self.state else { return };
        let mut facts = with(self.facts(), "BOOTSTRAP", kind.name());
        if kind == Bootstrap::Clone {
            let Some((node, app)) = self.clone_source() else {
                self.to(now, State::Joining);
                return;
            };
            self.source_facts(&mut facts, &node, &app);
        }
        self.disk.data = true;
        if kind == Bootstrap::Restore {
            self.check_restored(out);
            return;
        }
        let hook = self.run_hook(Hook::Bootstrap, facts, None, out);
        let made = State::Bootstrapping { kind, marked: true, hook: Some(hook) };
        self.enter_with(now, Hook::Bootstrap, made);
    }

    /// From a replica of the current term if there is one, else from the primary.
    pub(crate) fn clone_source(&self) -> Option<(NodeName, String)> {
        let leader = self.other_leader()?;
        let primary = self.members.get(&leader.node)?;
        if primary.state != "primary" {
            return None;
        }
        let replica = self.members.values().find(|member| {
            member.node != *self.me()
                && member.state == "replica"
                && member.follows.as_ref() == Some(&leader)
                && self.eligible(member)
        });
        let source = replica.unwrap_or(primary);
        Some((source.node.clone(), source.app.clone()))
    }

    pub(crate) fn bootstrap_ended(
        &mut self,
        now: At,
        kind: Bootstrap,
        end: HookEnd,
        out: &mut Outbox,
    ) {
        match (kind, end) {
            (_, HookEnd::Done { .. }) => {
                let id = match &self.cluster {
                    Some(cluster) if !kind.creates() => cluster.id.clone(),
                    Some(_) | None => self.boot.fresh_id.clone(),
                };
                self.to(now, State::Bootstrapping { kind, marked: true, hook: None });
                out.push(Effect::PersistClusterId(id));
            }
            (Bootstrap::Rewind, end) => {
                let text = format!("the data can't be rewound ({end}): wiped, then cloned");
                self.decided(Reason::new("bootstrap.wipe", text), out);
                self.to(now, State::Wiping);
                out.push(Effect::Wipe);
            }
            (Bootstrap::Create | Bootstrap::Restore | Bootstrap::Clone, end) => {
                let text = format!("bootstrap={} failed ({end}): wiped, then again", kind.name());
                self.decided(Reason::new("bootstrap.failed", text), out);
                if kind.creates() {
                    let why = Reason::new("bootstrap.failed", "the data could not be created");
                    self.tell_lead(now, LeadIn::Demote { why }, out);
                }
                self.crashes.note(now, self.set.restart_window);
                self.to(now, State::Wiping);
                out.push(Effect::Wipe);
            }
        }
    }

    pub(crate) fn cluster_id_durable(&mut self, now: At, id: ClusterId, out: &mut Outbox) {
        self.disk.cluster = Some(id);
        if let State::Bootstrapping { kind, .. } = self.state {
            if !kind.creates() {
                out.push(Effect::RemoveMarker);
            }
            self.prepare(now, out);
        }
    }

    pub(crate) fn wiped(&mut self, now: At, out: &mut Outbox) {
        self.disk.data = false;
        self.disk.cluster = None;
        self.disk.marker = false;
        if !mutant::on(Mutant::M77) {
            self.follow.forget();
        }
        self.wiped_for_reinit();
        if self.state == State::Wiping {
            self.decided(Reason::new("disk.wiped", "the application's directory is empty"), out);
            self.to(now, State::Joining);
        }
    }

    /// First bootstrap: after the hook succeeded and before `promote`; or data that was adopted.
    pub(crate) fn write_cluster(&mut self, now: At, epoch: Epoch, out: &mut Outbox) {
        // A term that ended has forgotten the write.
        if self.wrote_cluster == Some(epoch) {
            return;
        }
        self.wrote_cluster = Some(epoch);
        let (id, secret) = (self.birth_id(), self.boot.fresh_secret.clone());
        self.tell_lead(now, LeadIn::WriteCluster { id, secret }, out);
    }

    pub(crate) fn cluster_written(&mut self, out: &mut Outbox) {
        let id = self.birth_id();
        self.cluster = Some(ClusterValue { v: 1, id });
        out.push(Effect::RemoveMarker);
    }

    /// The write of `state/cluster` was applied and its answer lost.
    pub(crate) fn cluster_seen(&mut self, out: &mut Outbox) {
        let theirs = self.cluster.as_ref().map(|cluster| &cluster.id);
        let created = self.wrote_cluster.is_some() && self.disk.marker;
        if created && theirs == Some(&self.boot.fresh_id) && self.disk.cluster.as_ref() == theirs {
            self.disk.marker = false;
            out.push(Effect::RemoveMarker);
        }
    }
}
