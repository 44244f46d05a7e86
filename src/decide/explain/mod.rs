//! Answers for people: what would happen if the primary died now, why a node may or may not take
//! over, why the last change of leader came about, and the one fact that would flip each.
//!
//! ```text
//!   each node: its own verdict (`Would`, from the core) in `/status`  ┐
//!   Consul: lock, term, sync set, members                             ├─> Facts ─> answers ─> text
//!   the journal: what was decided                                     ┘
//! ```
//!
//! Every node judges for itself, by the code that would act; here the verdicts are put side by
//! side. What a silent node would do is not known, and is said so. Must not: judge, or ask anybody.

mod foretell;
mod history;
mod lock;
mod member;
pub mod text;

#[cfg(test)]
mod tests;

pub use foretell::{Foretold, Outcome, Row, foretell};
pub use history::{Change, Noted, Past, past};
pub use lock::{Lock, lock};
pub use member::{Member, member};

use super::journal::Entry;
use super::reason::Reason;
use super::records::{Follows, LeaderValue, LockState, SyncValue, TermValue};
use super::time::Span;
use super::types::{Epoch, NodeName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A reason as it is told between processes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    pub code: String,
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flip: Option<String>,
}

impl From<Reason> for Told {
    fn from(reason: Reason) -> Told {
        Told { code: reason.code.to_owned(), text: reason.text, flip: reason.flip }
    }
}

/// What a node would do if the lock's holder fell silent now, as it judges itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum Would {
    /// It is the holder.
    Leads {
        /// Its application, should that alone end, is started again in place.
        restarts: bool,
    },
    /// It would try to take the lock.
    Takes {
        /// From when on: until then the lease, or a hold-down, bars it. Milliseconds.
        in_ms: Span,
        /// On what ground; the journal's word.
        case: String,
        /// Whose positions it would ask for.
        asks: BTreeSet<NodeName>,
        /// Too few answers keep it from taking.
        counted: bool,
        /// It lets others go first that long.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        held: Option<Told>,
    },
    Barred {
        #[serde(flatten)]
        reason: Told,
    },
}

/// What is read of a node's `/status`; fields that an older one does not send are empty.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Said {
    pub state: String,
    pub role: String,
    pub leadership: Leads,
    pub waits_for: Told,
    pub would: Option<Would>,
    pub lag_seconds: Option<f64>,
    pub position: Option<Position>,
    pub follows: Option<Follows>,
    pub app: App,
    pub reasons: Vec<Decided>,
}

#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Leads {
    /// `follower`, `taking`, `open`, `closed`.
    pub is: String,
    pub epoch: Option<Epoch>,
    pub lease_left_ms: Option<Span>,
    /// `renewals` or `promises`.
    pub lease_source: Option<String>,
    pub promises: Vec<Promised>,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Promised {
    pub node: NodeName,
    #[serde(default)]
    pub age_ms: Option<Span>,
    #[serde(default)]
    pub refusal: Option<String>,
}

/// Where a replica's data stood, and how long ago that was.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
pub struct Position {
    pub order: u64,
    pub age_ms: Span,
}

#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct App {
    pub pid: Option<u32>,
    pub healthy: bool,
}

/// One of a node's last decisions.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Decided {
    /// Unix time in milliseconds.
    pub at: u64,
    #[serde(flatten)]
    pub told: Told,
}

/// A member, and what it said when it was asked just now.
#[derive(Clone, PartialEq, Debug)]
pub struct Seat {
    pub node: NodeName,
    /// `state/term` names it with its present disk.
    pub listed: bool,
    pub priority: u32,
    /// As its record says.
    pub state: String,
    /// Why nothing is known of it, as the end of a sentence that begins with its name.
    pub said: Result<Box<Said>, String>,
}

impl Seat {
    fn said(&self) -> Option<&Said> {
        self.said.as_deref().ok()
    }

    /// It holds an open term, as it says itself.
    fn leads(&self) -> bool {
        self.said().is_some_and(|said| said.leadership.is == "open")
    }

    fn would(&self) -> Option<&Would> {
        self.said().and_then(|said| said.would.as_ref())
    }
}

/// All that could be learned.
#[derive(Clone, PartialEq, Debug)]
pub struct Facts {
    pub cluster: String,
    /// Why Consul did not answer; the keys are then as `by` last read them.
    pub consul: Option<String>,
    pub by: Option<NodeName>,
    pub leader: Option<LeaderValue>,
    /// Whether a session holds the lock; not known without Consul.
    pub locked: Option<bool>,
    pub term: Option<TermValue>,
    pub sync: Option<SyncValue>,
    /// Who paused the cluster, and why.
    pub paused: Option<String>,
    pub seats: Vec<Seat>,
    /// Or why it could not be read.
    pub journal: Result<Vec<Entry>, String>,
}

impl Facts {
    /// Who has the lock by its value, dead or alive.
    fn holder(&self) -> Option<&LeaderValue> {
        let leader = self.leader.as_ref()?;
        (leader.state == LockState::Held && self.locked != Some(false)).then_some(leader)
    }

    /// Who leads, as it says itself.
    fn acting(&self) -> Option<&Seat> {
        self.seats.iter().find(|seat| seat.leads())
    }

    fn seat(&self, node: &NodeName) -> Option<&Seat> {
        self.seats.iter().find(|seat| seat.node == *node)
    }

    /// Whose term a taker would replace.
    fn replaced(&self) -> Option<&NodeName> {
        self.term.as_ref().map(|term| &term.node)
    }
}

fn join<'a>(names: impl IntoIterator<Item = &'a NodeName>) -> String {
    names.into_iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ")
}
