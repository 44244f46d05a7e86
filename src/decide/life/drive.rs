//! The one place where states change because of what is known: `match (state, leadership)`.
//!
//! Order matters: a fence comes before everything else; then what the state itself waits for.

use super::{After, Bootstrap, Node, State};
use crate::decide::io::{Effect, Outbox};
use crate::decide::lead::{LeadIn, Leadership};
use crate::decide::reason::Reason;
use crate::decide::time::{At, Span};
use crate::decide::types::Epoch;

/// How long past two leases a crashed primary waits for its successor before it starts again
/// anyway.
const SUCCESSOR_GRACE: Span = Span::secs(1);

impl Node {
    /// One transition at the most; `true` when something changed.
    pub(crate) fn drive(&mut self, now: At, out: &mut Outbox) -> bool {
        if self.fence_if_due(now, out) {
            return true;
        }
        let leadership = self.leadership();
        if self.give_back_if_idle(now, &leadership, out) || self.drive_ailing(now, out) {
            return true;
        }
        match &self.state {
            State::Init => self.drive_init(now, out),
            State::Joining => self.drive_joining(now, &leadership, out),
            State::Bootstrapping { kind, .. } if kind.creates() => {
                self.drive_creating(now, &leadership, out)
            }
            State::Waiting { .. } | State::Pausing { .. } if self.down_in_pause => {
                self.pause.is_none() && self.up_again(now, out)
            }
            State::Waiting { not_before, until } => {
                let known = now >= *until || self.other_leader().is_some();
                let due = now >= *not_before && known;
                due && self.prepare(now, out)
            }
            State::Pausing { until } => now >= *until && self.prepare(now, out),
            State::Replica => self.drive_replica(now, &leadership, out),
            State::Draining { .. } => self.drive_draining(now, out),
            State::Parting { give_up } => self.drive_parting(now, *give_up, out),
            State::Stopping { kill_at } if now >= *kill_at => {
                self.kill(now, After::Exit { code: 137 }, out);
                true
            }
            State::Wiping
            | State::Bootstrapping { .. }
            | State::Preparing { .. }
            | State::Starting { .. }
            | State::Arming { .. }
            | State::Requiring { .. }
            | State::Promoting { .. }
            | State::Primary
            | State::Demoting { .. }
            | State::Killing { .. }
            | State::Stopping { .. }
            | State::Stopped
            | State::Failed { .. } => false,
        }
    }

    /// A leader whose application is down or starting: after one lease others may do better. And a
    /// term that is over goes back at once where nothing of this node can write.
    fn give_back_if_idle(&mut self, now: At, leadership: &Leadership, out: &mut Outbox) -> bool {
        let starting = matches!(
            self.state,
            State::Waiting { .. }
                | State::Pausing { .. }
                | State::Preparing { .. }
                | State::Starting { .. }
        );
        let useless = self.cannot_lead();
        // Nothing else may keep the lock for ever either: a floor that does not get durable, a tree
        // that does not die (its lease then runs out, for it is not fenced).
        let slow = starting || matches!(self.state, State::Replica | State::Killing { .. });
        match leadership {
            Leadership::Open { .. } if useless => {
                let text = format!("the lock was won, but the node is {}", self.state.name());
                let why = Reason::new("lead.useless", text);
                self.decided(why.clone(), out);
                self.tell_lead(now, LeadIn::Demote { why }, out);
                true
            }
            Leadership::Open { .. } if slow && self.cluster.is_some() => {
                let since = *self.idle_lead.get_or_insert(now);
                if now.since(since) < self.set.lead.lease || !self.others_may_take() {
                    return false;
                }
                let text =
                    format!("the application did not serve again within {}", now.since(since));
                let why = Reason::new("crash.slow", text).flip("a faster start");
                self.decided(why.clone(), out);
                self.hold_down(now, &why, out);
                self.tell_lead(now, LeadIn::Demote { why }, out);
                true
            }
            Leadership::Closed { fenced: false, .. } if starting || useless => {
                self.give_back(now, out)
            }
            Leadership::Open { .. }
            | Leadership::Closed { .. }
            | Leadership::Follower
            | Leadership::Taking => {
                self.idle_lead = None;
                false
            }
        }
    }

    /// A take-over that was under way may succeed when this node has no data any more or no
    /// application that could become the primary. None of these states can write.
    fn cannot_lead(&self) -> bool {
        match &self.state {
            State::Failed { .. } | State::Parting { .. } | State::Stopping { .. } => true,
            State::Joining | State::Wiping | State::Bootstrapping { .. } => self.cluster.is_some(),
            State::Init
            | State::Waiting { .. }
            | State::Pausing { .. }
            | State::Preparing { .. }
            | State::Starting { .. }
            | State::Replica
            | State::Arming { .. }
            | State::Requiring { .. }
            | State::Promoting { .. }
            | State::Primary
            | State::Demoting { .. }
            | State::Draining { .. }
            | State::Killing { .. }
            | State::Stopped => false,
        }
    }

    fn drive_init(&mut self, now: At, out: &mut Outbox) -> bool {
        if self.stop {
            self.to(now, State::Stopped);
            self.exit(now, 0, "stopped before it began", out);
            return true;
        }
        if !(self.seen_leader && self.seen_state) {
            return false;
        }
        if self.disk.marker && !self.bootstrap_counts() {
            self.to(now, State::Wiping);
            out.push(Effect::Wipe);
            return true;
        }
        if self.disk.marker {
            self.disk.marker = false;
            out.push(Effect::RemoveMarker);
        }
        if let (Some(own), Some(theirs)) = (&self.disk.cluster, &self.cluster) {
            if *own != theirs.id {
                let text = format!(
                    "the volume holds data of cluster {own}, but `{}` in Consul is cluster {}; \
                     mount the right volume, or empty it to join as a new node",
                    self.boot.cluster_name, theirs.id
                );
                self.refuse(now, Reason::new("start.foreign", text), out);
                return true;
            }
        }
        if !self.disk.data {
            self.to(now, State::Joining);
            return true;
        }
        if self.disk.cluster.is_none() {
            let text = "`app` holds data of no known cluster; move it away, or start \
                        with an empty volume";
            self.refuse(now, Reason::new("start.unknown-data", text), out);
            return true;
        }
        self.start_soon(now, out)
    }

    /// The hook had succeeded and its cluster is Consul's: only the marker was left to remove. A
    /// creation that Consul does not know never happened, whoever created since.
    fn bootstrap_counts(&self) -> bool {
        let theirs = self.cluster.as_ref().map(|cluster| &cluster.id);
        self.disk.cluster.is_some() && self.disk.cluster.as_ref() == theirs
    }

    /// A node that led waits for its successor first: how the application must start depends on it.
    pub(crate) fn start_soon(&mut self, now: At, out: &mut Outbox) -> bool {
        let not_before = self.crashes.quiet_until();
        let led = self.lead.leader_seen().is_some_and(|value| value.node == *self.me());
        if led && self.other_leader().is_none() && self.others_may_take() {
            let lease = self.set.lead.lease_max;
            let until = now + lease + lease + SUCCESSOR_GRACE;
            let reason = Reason::new(
                "start.wait",
                format!("this node led; waits {} for a successor", until.since(now)),
            )
            .flip("another leader");
            self.decided(reason, out);
            self.to(now, State::Waiting { not_before, until: until.max(not_before) });
            return true;
        }
        if now < not_before {
            self.to(now, State::Waiting { not_before, until: not_before });
            return true;
        }
        self.prepare(now, out)
    }

    /// The pause is over.
    fn up_again(&mut self, now: At, out: &mut Outbox) -> bool {
        self.down_in_pause = false;
        self.start_soon(now, out)
    }

    fn drive_joining(&mut self, now: At, leadership: &Leadership, out: &mut Outbox) -> bool {
        if self.stop {
            self.let_go(now, out);
            self.to(now, State::Stopped);
            self.exit(now, 0, "stopped while joining", out);
            return true;
        }
        // What failed to come to be is not tried hot.
        let quiet = now < self.crashes.quiet_until();
        match leadership {
            Leadership::Open { .. } if quiet && self.cluster.is_none() => false,
            Leadership::Open { .. } if self.cluster.is_none() => {
                let (kind, why) = self.creation();
                self.decided(why, out);
                self.begin_bootstrap(now, kind, out);
                true
            }
            Leadership::Closed { fenced: false, .. } => self.give_back(now, out),
            Leadership::Open { .. }
            | Leadership::Follower
            | Leadership::Taking
            | Leadership::Closed { .. } => {
                let known = self.cluster.is_some() && self.bars_joining().is_none();
                let may_clone = known && !quiet && self.pause.is_none();
                if may_clone && self.clone_source().is_some() {
                    self.begin_bootstrap(now, Bootstrap::Clone, out);
                    return true;
                }
                false
            }
        }
    }

    /// Losing the lock ends a creation: somebody else may create now.
    fn drive_creating(&mut self, now: At, leadership: &Leadership, out: &mut Outbox) -> bool {
        match leadership {
            Leadership::Open { .. } => false,
            Leadership::Follower | Leadership::Taking | Leadership::Closed { .. } => {
                if let State::Bootstrapping { hook: Some(id), .. } = self.state {
                    out.push(Effect::CancelHook { id });
                    return false;
                }
                self.to(now, State::Wiping);
                out.push(Effect::Wipe);
                true
            }
        }
    }

    fn drive_replica(&mut self, now: At, leadership: &Leadership, out: &mut Outbox) -> bool {
        match leadership {
            Leadership::Closed { fenced: false, .. } => return self.give_back(now, out),
            Leadership::Open { epoch, promote_from, .. } => {
                if self.stop {
                    let why = Reason::new("stop", "lictor was asked to stop");
                    self.tell_lead(now, LeadIn::Demote { why }, out);
                    return self.give_back(now, out);
                }
                return self.toward_primary(now, *epoch, *promote_from, out);
            }
            Leadership::Follower | Leadership::Taking | Leadership::Closed { .. } => {}
        }
        if self.stop {
            self.leave_set(now, out);
            return true;
        }
        if self.created_in_vain() {
            let text = "another node has created the cluster: this node's creation is wiped";
            self.decided(Reason::new("bootstrap.in-vain", text), out);
            self.kill(now, After::Wipe, out);
            return true;
        }
        self.tend_follow(now, out);
        false
    }

    /// The marker still stands over data that this node created, and Consul knows another cluster.
    fn created_in_vain(&self) -> bool {
        self.disk.marker
            && self.wrote_cluster.is_some()
            && !self.bootstrap_counts()
            && self.cluster.is_some()
    }

    fn toward_primary(&mut self, now: At, epoch: Epoch, from: At, out: &mut Outbox) -> bool {
        if self.cluster.is_none() {
            self.write_cluster(now, epoch, out);
            return false;
        }
        if self.main_hook_running() {
            self.cancel_replicate(out);
            return false;
        }
        if self.disk.floor < epoch || now < from {
            return false;
        }
        let Some(pid) = self.app else { return false };
        self.to(now, State::Arming { pid });
        self.arm(now, pid, out);
        true
    }

    /// Nothing of this node writes: the term that is over may be given back.
    pub(crate) fn give_back(&mut self, now: At, out: &mut Outbox) -> bool {
        self.disarm(out);
        self.tell_lead(now, LeadIn::Fenced, out);
        let to = self.heir.take();
        self.tell_lead(now, LeadIn::Release { to }, out);
        true
    }

    /// A start that is refused: said once, by whoever carries out the exit.
    fn refuse(&mut self, now: At, reason: Reason, out: &mut Outbox) {
        let why = reason.text.clone();
        self.remember(reason.clone());
        self.to(now, State::Failed { reason });
        out.push(Effect::Exit { code: 3, why });
    }

    pub(crate) fn fail(&mut self, now: At, reason: Reason, out: &mut Outbox) {
        self.decided(reason.clone(), out);
        self.to(now, State::Failed { reason });
    }
}
