//! Leadership: the lock, its proofs, the list of those who may take it, and the sync set. Pure, and
//! runs alone.
//!
//! `Lead` knows nothing of applications or hooks: it says until when this node may act as leader
//! ([`Leadership`]); what the application may do is `life`'s business. The rules it follows are
//! numbered in `docs/lease.md`.
//!
//! ```text
//!   inputs -> view (what was seen, the timer) -> take (may I try?) -> acquire (one transaction,
//! resolved)
//!                                                                        |
//!            release <- fenced <- closed <- deadline, loss, demotion <- term (renew, list, sync,
//! cluster)
//!                                                                        |
//!                                               while Consul is silent: hold, by others' promises
//! ```
//!
//! Invariant: a term is open only while `now < deadline`, and once closed it never opens again.

mod acquire;
mod attempt;
pub mod counted;
mod explain;
mod force;
mod foresee;
mod hold;
mod list;
mod machine;
pub use super::mutant;
mod promise;
mod proof;
mod release;
mod renew;
mod session;
mod sync;
mod take;
mod term;
mod view;
mod write;

#[cfg(test)]
#[allow(dead_code, reason = "tests/lease_model alone uses it")]
pub(crate) mod canon;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

pub use attempt::rank;
pub use force::Force;
pub use foresee::Chance;
pub use hold::{Asking, UNANSWERED};
pub use machine::Lead;
pub use promise::{Declined, Request};
pub use sync::SyncSet;

use super::call::{Answer, Call, Entry, StoreError};
use super::reason::Reason;
use super::records::{Follows, SyncValue};
use super::time::{At, Span};
use super::types::{ClusterId, Epoch, Member, NodeName, OpId, RunId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum SyncMode {
    Off,
    /// The leader may shrink the members down to none.
    On,
    /// Never below this many acknowledgements: writes wait.
    Strict(u32),
}

/// What `Lead` must know of the configuration.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct LeadConfig {
    pub lease: Span,
    pub lease_max: Span,
    pub request_timeout: Span,
    pub sync: SyncMode,
    /// While Consul is silent a term goes on by the promises of all who could take.
    pub hold: bool,
    /// How long one rank waits before it tries.
    pub rank_step: Span,
    pub peer: String,
    pub app: String,
}

/// What the disk holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Disk {
    Empty,
    /// Data of this cluster (or of a cluster whose `state/cluster` is not there).
    Data,
    /// Data of another cluster: never a candidate.
    Foreign,
}

/// What `life` says of this node's fitness; sent again whenever it changes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Standing {
    pub disk: Disk,
    /// The term whose primary `replicate` last succeeded for.
    pub follows: Option<Follows>,
    /// Enough members report, and none of them has data (`bootstrap_expect`).
    pub may_bootstrap: bool,
    /// The sync set under which the application's last start may have cut the end of its data
    /// (MariaDB's `init-rpl-role=SLAVE`). Until the node follows or leads again, that set is
    /// counted too: what its other members acknowledged may be missing here even if `state/sync`
    /// names this node alone by now.
    pub cut_under: Option<SyncValue>,
    /// The application that was writable in the last term this run led runs on, and nothing was
    /// received since: it has every write that was acknowledged in that term.
    pub kept: bool,
    /// Something bars this node from taking: `no_failover`, a hold-down, an application that is
    /// down, leaving.
    pub barred: Option<Reason>,
}

/// Where a node's data stands, from `position`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Standpoint {
    pub order: u64,
    pub priority: u32,
    pub frozen: bool,
}

/// How an observation came.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Seen {
    /// An ordinary read, or a blocking query that returned with a change or at the end of its wait.
    Read,
    /// A blocking query returned before its wait was over with an unchanged or lower index: a
    /// restore, perhaps.
    Early,
}

/// Inputs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LeadIn {
    Tick,
    /// `leader` was read; `None`: absent.
    Leader {
        entry: Option<Entry>,
        seen: Seen,
    },
    /// `state/` was read: its term, its sync set and whether `state/cluster` exists.
    State {
        term: Option<Entry>,
        sync: Option<Entry>,
        cluster: bool,
        seen: Seen,
    },
    Reply {
        op: OpId,
        result: Result<Answer, StoreError>,
    },
    Standing(Standing),
    /// The answers to a survey; whoever did not answer is missing. The own answer is among them.
    Surveyed {
        id: OpId,
        answers: BTreeMap<NodeName, Standpoint>,
    },
    FloorDurable(Epoch),
    /// A planned demotion begins, or the application died: the term closes, no renewal is sent any
    /// more.
    Demote {
        why: Reason,
    },
    /// Nothing of the former role writes any more: the demote hook is done, or the whole tree is
    /// gone.
    Fenced,
    /// After `Fenced`: release clean.
    Release {
        to: Option<NodeName>,
    },
    /// After `Fenced`: the successor did not catch up, take again under a new epoch.
    TakeAgain,
    /// Leader only: the members whose `replicate` for this term succeeded and whose floor is
    /// durable.
    Admit(Member),
    /// Leader only: the member did not answer for long enough.
    Expel(Member),
    /// Leader only: replicas that follow this term now and can acknowledge; what the sync set
    /// should become.
    SyncReady(BTreeSet<NodeName>),
    /// The `sync` hook ended: it is in force or it is not.
    SyncHooked {
        id: OpId,
        ok: bool,
    },
    /// Leader only, first bootstrap: the hook succeeded; write `state/cluster` and `secrets/peer`.
    WriteCluster {
        id: ClusterId,
        secret: Vec<u8>,
    },
    /// An operator orders this node to take; `None`: no more.
    Force(Option<Force>),
    /// A leader asks for a promise.
    PromiseAsked {
        id: OpId,
        request: Request,
    },
    /// The answer to `AskPromise`; `Err`: there is none, or a refusal, in words.
    Promised {
        id: OpId,
        result: Result<(), String>,
    },
    Config(LeadConfig),
    /// Leader only: the application ended and is started again in place: nothing is required of its
    /// commits until a `sync` hook says so.
    AppGone,
}

/// Effects.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LeadOut {
    /// `valid_until`: not to be sent after this; the driver drops it then and answers `NotSent`.
    Call {
        op: OpId,
        call: Call,
        valid_until: Option<At>,
    },
    /// Ask these (and the own application) for their positions, frozen or not.
    Survey {
        id: OpId,
        nodes: BTreeSet<NodeName>,
        freeze: bool,
        epoch: Epoch,
        run: RunId,
    },
    PersistFloor(Epoch),
    /// Run the `sync` hook with these acknowledgers.
    SyncHook {
        id: OpId,
        members: BTreeSet<NodeName>,
        acks: u32,
    },
    /// `state/cluster` is written.
    ClusterWritten,
    /// Ask this member, by its disk, to take nothing for one such lease; answered by `Promised`
    /// within the timeout of a request. `id` is the round.
    AskPromise {
        id: OpId,
        of: Member,
        epoch: Epoch,
        lease: Span,
    },
    /// The answer to `PromiseAsked`.
    PromiseAnswer {
        id: OpId,
        result: Result<(), Declined>,
    },
    /// An attempt that had frozen nodes is over without a term: run `replicate` again.
    Thaw,
    /// A decision, for the log and for `status`.
    Decided(Reason),
}

/// What this node holds of the lock, for `life` to derive the role from.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Leadership {
    Follower,
    /// An acquisition is open: not a leader, and not to be told otherwise.
    Taking,
    /// May act as leader while now < deadline.
    Open {
        epoch: Epoch,
        deadline: At,
        /// Nothing may become writable before this (first bootstrap).
        promote_from: At,
        /// Same node and run as the term before, which was open until now: the application stays as
        /// it is, no hook runs.
        retaken: bool,
    },
    /// Over for good; the lock is given back once fenced.
    Closed {
        epoch: Epoch,
        fenced: bool,
    },
}
