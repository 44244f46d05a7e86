//! What a node says of itself: one JSON value for `/status`, `lictor status` and the log.

use super::{Node, State};
use crate::decide::keys::Keys;
use crate::decide::lead::Leadership;
use crate::decide::reason::Reason;
use crate::decide::records::MemberValue;
use crate::decide::time::At;
use crate::decide::types::{ClusterId, Epoch, Index, NodeName};
use serde_json::{Value, json};

/// The facts that the HTTP paths answer by.
#[derive(Clone, PartialEq, Debug)]
pub struct Snapshot {
    pub role: &'static str,
    pub state: &'static str,
    pub epoch: Epoch,
    /// Until when a primary may act.
    pub deadline: Option<At>,
    pub in_sync: bool,
    pub app_running: bool,
    pub healthy: bool,
    pub ready: bool,
    pub leader: Option<String>,
    /// When this node first saw the last renewal, or whatever else changed of the lock.
    pub leader_since: At,
    pub lag_seconds: Option<f64>,
    pub reason: Reason,
    pub status: Value,
}

impl Node {
    pub fn name(&self) -> &NodeName {
        self.me()
    }

    /// The sync mode this node goes by.
    pub fn sync_mode(&self) -> crate::decide::lead::SyncMode {
        self.set.lead.sync
    }

    /// Of [`super::State::NAMES`].
    pub fn state_name(&self) -> &'static str {
        self.state.name()
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The epoch of the term this node last saw.
    pub fn epoch(&self) -> Epoch {
        self.term_seen().map(|term| term.epoch).unwrap_or_default()
    }

    /// The members as last read.
    pub fn members(&self) -> impl Iterator<Item = &MemberValue> {
        self.members.values().map(AsRef::as_ref)
    }

    /// Moves when `state/cluster` is written, and the peers' key with it.
    pub fn cluster_index(&self) -> Option<Index> {
        self.cluster_at
    }

    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster.as_ref().map(|cluster| cluster.id.clone())
    }

    /// Whether it stays down; its last reason says why.
    pub fn has_failed(&self) -> bool {
        matches!(self.state, State::Failed { .. })
    }

    /// Until when this node may act as leader.
    pub fn deadline(&self) -> Option<At> {
        match self.leadership() {
            Leadership::Open { deadline, .. } => Some(deadline),
            Leadership::Follower | Leadership::Taking | Leadership::Closed { .. } => None,
        }
    }

    pub fn role(&self) -> &'static str {
        self.role_tag().unwrap_or("none")
    }

    /// The last decision.
    pub(crate) fn last_reason(&self) -> Reason {
        let begun = || Reason::new("start", "nothing was decided yet");
        self.reasons.back().map(|(_, reason)| reason.clone()).unwrap_or_else(begun)
    }

    pub fn snapshot(&self, now: At) -> Snapshot {
        let deadline = match self.leadership() {
            Leadership::Open { deadline, .. } => Some(deadline),
            Leadership::Follower | Leadership::Taking | Leadership::Closed { .. } => None,
        };
        let epoch = self.term_seen().map(|term| term.epoch).unwrap_or_default();
        let sync = self.sync_seen();
        Snapshot {
            role: self.role(),
            state: self.state.name(),
            epoch,
            deadline,
            in_sync: sync.is_some_and(|sync| sync.members.contains(self.me())),
            app_running: self.app.is_some(),
            healthy: self.app.is_some() && self.health.ok,
            ready: matches!(self.state, State::Primary)
                || (self.state == State::Replica && self.follow.current().is_some()),
            leader: self.lead.leader_seen().map(|leader| leader.node.to_string()),
            leader_since: self.lead.leader_since(),
            lag_seconds: self.lag.seconds(now),
            reason: self.last_reason(),
            status: self.status(now),
        }
    }

    fn status(&self, now: At) -> Value {
        let me = &self.boot.identity;
        let leader = self.lead.leader_seen();
        let members: Vec<Value> =
            self.members.values().map(|member| self.row(now, member)).collect();
        let reasons: Vec<Value> = self
            .reasons
            .iter()
            .map(|(wall, reason)| {
                let (code, text, flip) = (reason.code, &reason.text, &reason.flip);
                json!({"at": wall, "code": code, "text": text, "flip": flip})
            })
            .collect();
        json!({
            "v": 1,
            "cluster": self.boot.cluster_name,
            "cluster_id": self.cluster.as_ref().map(|cluster| &cluster.id),
            "node": me.node,
            "run": me.run,
            "disk": me.disk,
            "version": self.set.version,
            "state": self.state.name(),
            "role": self.role(),
            "since_ms": now.since(self.since),
            "leadership": self.leadership_json(now),
            "leader": leader,
            "term": self.term_seen(),
            "sync": self.sync_seen(),
            "floor": self.disk.floor,
            "follows": self.follow.current(),
            "lag_seconds": self.lag.seconds(now),
            "frozen": self.follow.frozen.is_some(),
            "app": {"pid": self.app, "healthy": self.health.ok},
            "paused": self.pause.as_ref().map(|(pause, _)| pause),
            "waits_for": self.explain(now),
            "would": self.would(now),
            "position": self.lag.order().map(|(at, order)| {
                json!({"order": order, "age_ms": now.since(at)})
            }),
            "promised": self.promised_json(now),
            "needs": self.needs_json(),
            "hold_down": self.hold_json(now),
            "config": self.config_note(),
            "backup": self.backup_json(now),
            "members": members,
            "reasons": reasons,
            "requests": self.requests_json(),
        })
    }

    fn leadership_json(&self, now: At) -> Value {
        match self.leadership() {
            Leadership::Follower => json!({"is": "follower"}),
            Leadership::Taking => json!({"is": "taking"}),
            Leadership::Open { epoch, deadline, .. } => {
                let (by_promises, asking) = self.lead.promises().unwrap_or_default();
                let promises: Vec<Value> = asking
                    .iter()
                    .map(|asking| {
                        let age = asking.answered.map(|at| now.since(at));
                        json!({"node": asking.node, "age_ms": age, "refusal": asking.refusal})
                    })
                    .collect();
                json!({
                    "is": "open",
                    "epoch": epoch,
                    "lease_left_ms": now.until(deadline),
                    "lease_source": if by_promises { "promises" } else { "renewals" },
                    "promises": promises,
                })
            }
            Leadership::Closed { epoch, fenced } => {
                json!({"is": "closed", "epoch": epoch, "fenced": fenced})
            }
        }
    }

    fn row(&self, now: At, member: &MemberValue) -> Value {
        let own = member.node == *self.me();
        let heard = self.peers.heard(&member.node, now);
        let told = heard.and_then(|(_, told)| told);
        let (state, lag) = match told {
            _ if own => (self.state.name(), self.lag.seconds(now)),
            Some(told) => (told.state.as_str(), told.lag.map(|lag| lag.0 as f64 / 1_000.0)),
            None => (member.state.as_str(), None),
        };
        let leads = self.lead.leader_seen().is_some_and(|leader| leader.node == member.node);
        let sync = self.sync_seen().is_some_and(|sync| sync.members.contains(&member.node));
        json!({
            "node": member.node,
            "state": state,
            "silent_ms": heard.map(|(silent, _)| silent),
            "lag_seconds": lag,
            "leader": leads,
            "eligible": self.eligible(member),
            "sync": sync,
            "follows": member.follows,
            "app": member.app,
            "peer": member.peer,
            "tls": member.tls,
            "zone": member.zone,
            "host": member.host,
            "tags": member.tags,
            "priority": member.priority,
            "no_failover": member.no_failover,
            "version": member.version,
            "performs": member.roles.performs,
            "held_until": member.held_until,
            "config": member.config,
            "config_differs": self.config_differs(member),
        })
    }
}
