//! What the node shows of itself, and the verdicts of the read endpoints over it.
//!
//! The driver publishes a snapshot after a step; handlers read it and decide nothing. The deadline
//! is compared with the clock at each request, so `/primary` turns to 503 at the deadline though no
//! step happens. Invariant: the snapshot is taken before the clock is read, so an answer is never
//! younger than its judgement.

use crate::decide::reason::Reason;
use crate::decide::time::{At, Span};
use crate::decide::types::{Epoch, NodeName};
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// `/liveness` fails when the core has not stepped for longer.
pub const STALLED: Span = Span::secs(10);

/// What the application of this node may do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Not settled yet, or fenced.
    None,
    Primary,
    Replica,
}

/// How the application fares.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum App {
    Down,
    /// It runs, and its check fails or has not passed yet.
    Failing,
    Healthy,
}

/// A node's snapshot.
#[derive(Clone, PartialEq, Debug)]
pub struct Published {
    pub node: NodeName,
    pub role: Role,
    /// The node's state as `status` shows it.
    pub state: String,
    pub epoch: Epoch,
    /// Until when a primary may act as one.
    pub deadline: Option<At>,
    /// Named in `state/sync`.
    pub sync: bool,
    /// Behind the primary; `None`: unknown.
    pub lag_seconds: Option<f64>,
    pub app: App,
    /// Whether the role is settled.
    pub ready: bool,
    pub leader: Option<NodeName>,
    /// When this node first saw what it last saw of the lock.
    pub leader_since: At,
    pub reason: Reason,
    /// The body of `/status`. Never a secret in it.
    pub status: Arc<serde_json::Value>,
    /// The body of `/config`. Never a secret in it.
    pub config: Arc<serde_json::Value>,
}

/// The snapshot's place: one writer, the driver; many readers. Clones show the same.
#[derive(Clone, Debug)]
pub struct Board(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    published: RwLock<Arc<Published>>,
    last_step: AtomicU64,
}

impl Board {
    /// `now` counts as the first step, so that a node that starts is alive.
    pub fn new(first: Published, now: At) -> Board {
        Board(Arc::new(Shown {
            published: RwLock::new(Arc::new(first)),
            last_step: AtomicU64::new(now.0),
        }))
    }

    /// Replaces the snapshot.
    pub fn publish(&self, published: Published) {
        *self.0.published.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(published);
    }

    /// Every step says so, whether it changed anything or not: `/liveness` looks at it.
    pub fn stepped(&self, now: At) {
        self.0.last_step.store(now.0, Ordering::Release);
    }

    pub fn read(&self) -> Arc<Published> {
        self.0.published.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn last_step(&self) -> At {
        At(self.0.last_step.load(Ordering::Acquire))
    }
}

/// An endpoint's answer, with a sentence of its own: the snapshot's reason speaks of the role, not
/// of the question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Yes(String),
    No(String),
}

impl Published {
    pub(super) fn primary(&self, now: At) -> Verdict {
        match (self.role, self.deadline) {
            (Role::Primary, Some(deadline)) if now < deadline => {
                Verdict::Yes(format!("primary for another {}", now.until(deadline)))
            }
            (Role::Primary, Some(deadline)) => {
                Verdict::No(format!("the deadline passed {} ago", now.since(deadline)))
            }
            (Role::Primary, None) => Verdict::No("primary without a deadline".into()),
            (Role::Replica | Role::None, _) => Verdict::No("not the primary".into()),
        }
    }

    /// `max_lag`: the most seconds the asker accepts; an unknown lag is then too much.
    pub(super) fn replica(&self, max_lag: Option<f64>) -> Verdict {
        match (self.role, self.app) {
            (Role::Primary | Role::None, _) => Verdict::No("not a replica".into()),
            (Role::Replica, App::Down) => Verdict::No("the application is down".into()),
            (Role::Replica, App::Failing | App::Healthy) => self.within(max_lag),
        }
    }

    fn within(&self, max_lag: Option<f64>) -> Verdict {
        match (max_lag, self.lag_seconds) {
            (None, _) => Verdict::Yes("a running replica".into()),
            (Some(_), None) => Verdict::No("the lag is unknown".into()),
            (Some(max), Some(lag)) if lag <= max => {
                Verdict::Yes(format!("a replica {lag} s behind, {max} s allowed"))
            }
            (Some(max), Some(lag)) => {
                Verdict::No(format!("a replica {lag} s behind, {max} s allowed"))
            }
        }
    }

    pub(super) fn read_only(&self, now: At, max_lag: Option<f64>) -> Verdict {
        match self.role {
            Role::Primary => self.primary(now),
            Role::Replica | Role::None => self.replica(max_lag),
        }
    }

    /// In `state/sync`, and fit to be read from: a dead member is no place for a client.
    pub(super) fn in_sync(&self, now: At) -> Verdict {
        if !self.sync {
            return Verdict::No("not in state/sync".into());
        }
        match self.read_only(now, None) {
            Verdict::Yes(_) => Verdict::Yes("in state/sync".into()),
            Verdict::No(why) => Verdict::No(format!("in state/sync, but {why}")),
        }
    }

    pub(super) fn health(&self) -> Verdict {
        match self.app {
            App::Healthy => Verdict::Yes("the application runs and its check passes".into()),
            App::Failing => Verdict::No("the application's check does not pass".into()),
            App::Down => Verdict::No("the application is down".into()),
        }
    }

    pub(super) fn readiness(&self) -> Verdict {
        if self.ready {
            return Verdict::Yes("the role is settled".into());
        }
        Verdict::No("the role is not settled yet".into())
    }
}

/// Alive as long as the core steps; nothing about Consul.
pub(super) fn liveness(last_step: At, now: At) -> Verdict {
    let idle = now.since(last_step);
    if idle <= STALLED {
        return Verdict::Yes(format!("the core stepped {idle} ago"));
    }
    Verdict::No(format!("the core has not stepped for {idle}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(role: Role, app: App, lag_seconds: Option<f64>) -> Published {
        Published {
            node: NodeName::new("a"),
            role,
            state: "running".into(),
            epoch: Epoch(3),
            deadline: Some(At(1_000)),
            sync: true,
            lag_seconds,
            app,
            ready: true,
            leader: None,
            leader_since: At(0),
            reason: Reason::new("test", "a test"),
            status: Arc::new(serde_json::json!({})),
            config: Arc::new(serde_json::json!({})),
        }
    }

    fn yes(verdict: Verdict) -> bool {
        matches!(verdict, Verdict::Yes(_))
    }

    #[test]
    fn a_primary_is_one_until_its_deadline_and_not_at_it() {
        let node = shown(Role::Primary, App::Healthy, None);
        assert!(yes(node.primary(At(999))) && yes(node.read_only(At(999), Some(0.0))));
        for verdict in [node.primary(At(1_000)), node.read_only(At(1_000), None)] {
            assert_eq!(verdict, Verdict::No("the deadline passed 0 ms ago".into()));
        }
        assert!(!yes(node.in_sync(At(1_000))));
        let without = Published { deadline: None, ..node };
        assert!(!yes(without.primary(At(0))));
    }

    #[test]
    fn only_a_replica_whose_lag_is_known_passes_a_lag() {
        let table = [
            (App::Healthy, None, None, true),
            (App::Failing, Some(9.0), None, true),
            (App::Down, Some(0.0), None, false),
            (App::Healthy, None, Some(5.0), false),
            (App::Healthy, Some(5.0), Some(5.0), true),
            (App::Healthy, Some(5.1), Some(5.0), false),
        ];
        for (app, lag, max, expected) in table {
            let node = shown(Role::Replica, app, lag);
            assert_eq!(yes(node.replica(max)), expected, "{app:?} {lag:?} {max:?}");
        }
        assert!(!yes(shown(Role::Primary, App::Healthy, Some(0.0)).replica(None)));
        assert!(!yes(shown(Role::None, App::Healthy, Some(0.0)).read_only(At(0), None)));
    }

    #[test]
    fn a_core_is_alive_for_ten_seconds_after_a_step() {
        assert!(yes(liveness(At(5), At(10_005))));
        assert!(!yes(liveness(At(5), At(10_006))));
    }
}
