//! Everything that can change a decision is an [`Input`]; every answer is an [`Effect`].
//!
//! The driver turns effects into acts and acts' ends into inputs. An effect that says until when it
//! is valid is checked again just before it is carried out; a dropped one comes back as the input
//! that its failure would have been.

use super::backup::{BackupAct, BackupDone};
use super::call::{Answer, Call, Entry, StoreError};
use super::hook::{HookCall, HookEnd};
use super::lead::Seen;
use super::life::ConfigNews;
use super::mutant::{self, Mutant};
use super::peer::{Ask, PeerCall, PeerError, Told};
use super::reason::Reason;
use super::records::{Follows, RequestValue};
use super::time::At;
use super::types::{ClusterId, Epoch, NodeName, OpId, RunId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The time of one step: this node's BOOTTIME, and the wall clock for records that people read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Now {
    pub at: At,
    /// Unix time in milliseconds.
    pub wall: u64,
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// What a shell would say: the code, or 128 + the signal.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// As the end of "the application ended with".
impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// What can be replaced under a running node by a change of its file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Renewed {
    ConsulToken,
    /// CA and client certificate for Consul.
    ConsulCertificates,
    /// This node's certificate and the CA of the nodes.
    NodeCertificates,
    /// The operators' token for actions over HTTP.
    ActionToken,
    /// A secret for hooks, by its name.
    Secret(String),
}

impl fmt::Display for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Renewed::ConsulToken => f.write_str("the Consul token"),
            Renewed::ConsulCertificates => f.write_str("the certificates for Consul"),
            Renewed::NodeCertificates => f.write_str("this node's certificates"),
            Renewed::ActionToken => f.write_str("the token for actions"),
            Renewed::Secret(name) => write!(f, "the secret `{name}`"),
        }
    }
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Input {
    Tick,
    Leader {
        entry: Option<Entry>,
        seen: Seen,
    },
    /// Everything under `state/`.
    State {
        entries: Vec<Entry>,
        seen: Seen,
    },
    StoreReply {
        op: OpId,
        result: Result<Answer, StoreError>,
    },
    HookEnded {
        id: OpId,
        end: HookEnd,
    },
    /// The application's process runs (exec succeeded).
    AppStarted {
        pid: u32,
    },
    AppNotStarted {
        why: String,
    },
    /// Its main process was reaped; others of its tree may still live.
    AppExited {
        pid: u32,
        exit: Exit,
    },
    /// After `KillTree`: nothing of the application or of a promote hook is left.
    TreeGone,
    /// The guard saw this deadline for this application.
    GuardArmed {
        pid: u32,
        kill_at: At,
    },
    /// The guard killed the tree.
    GuardFired,
    FloorDurable(Epoch),
    ClusterIdDurable(ClusterId),
    MarkerWritten,
    MarkerRemoved,
    Wiped,
    /// The epoch floor could not be made durable; what is said.
    FloorFailed {
        epoch: Epoch,
        what: String,
    },
    /// Whom the data follows could not be kept.
    FollowsFailed {
        what: String,
    },
    /// Something else on the volume failed; what is said.
    VolumeFailed {
        what: String,
    },
    PeerAsked {
        id: OpId,
        from: NodeName,
        from_run: RunId,
        ask: Ask,
    },
    PeerReplied {
        id: OpId,
        result: Result<Told, PeerError>,
    },
    /// An operator's action by HTTP: to become a request in KV.
    Action {
        id: OpId,
        request_id: String,
        request: RequestValue,
    },
    /// A file changed, and its content is in use now, or why not.
    Renewed {
        what: Renewed,
        result: Result<(), String>,
    },
    /// `state/config` or the own file changed, and what became of it.
    Config(ConfigNews),
    /// What came of a `Backup` effect.
    BackupActed {
        id: OpId,
        result: Result<BackupDone, String>,
    },
    /// SIGTERM or SIGINT to lictor.
    Stop,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub enum Effect {
    /// Not sent after `valid_until`: then answered `NotSent`.
    Call {
        op: OpId,
        call: Call,
        valid_until: Option<At>,
    },
    RunHook(HookCall),
    CancelHook {
        id: OpId,
    },
    StartApp,
    /// Ask the application to end (SIGTERM to its main process).
    TermApp,
    /// Kill a running promote hook's tree, then the application's whole tree; answered by
    /// `TreeGone`.
    KillTree,
    /// Answered by `GuardArmed`.
    Arm {
        pid: u32,
        kill_at: At,
    },
    Extend {
        kill_at: At,
    },
    Disarm,
    PersistFloor(Epoch),
    /// Not answered: a candidate again after a restart, no more.
    PersistFollows(Follows),
    PersistClusterId(ClusterId),
    /// The last good `state/config`; answered by `ConfigNews::NotKept` when that failed.
    PersistConfig(Option<String>),
    WriteMarker,
    RemoveMarker,
    /// Remove everything in the application's directory.
    Wipe,
    /// Work on the directory of backups; answered by `BackupActed`. One after the other.
    Backup {
        id: OpId,
        act: BackupAct,
    },
    PeerCall {
        id: OpId,
        call: PeerCall,
    },
    PeerAnswer {
        id: OpId,
        told: Told,
    },
    /// The id of the request that was written, or how the write ended.
    ActionReply {
        id: OpId,
        result: Result<String, StoreError>,
    },
    /// For the log; `status` shows the last ones.
    Decided(Reason),
    Exit {
        code: i32,
        why: String,
    },
}

/// Whether the time until which an effect is valid was over before it was carried out.
pub fn is_over(valid_until: Option<At>, now: At) -> bool {
    valid_until.is_some_and(|until| now >= until) && !mutant::on(Mutant::M67)
}

/// What a call is answered with whose time was over.
pub fn not_sent() -> StoreError {
    StoreError::NotSent("its time was over before it was sent".into())
}

/// Where a step puts its effects.
pub type Outbox = Vec<Effect>;
