//! Store calls and their answers. The verbs are Consul's; `store::Store` carries them out.

use super::bytes;
use super::keys::Key;
use super::time::Span;
use super::types::{Index, SessionId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One verb of a transaction. All of a transaction happen, or none.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Verb {
    /// Every key that starts with this; answers nothing when there is none (`get` of an absent key
    /// is an error).
    GetTree(Key),
    CheckIndex(Key, Index),
    CheckNotExists(Key),
    CheckSession(Key, SessionId),
    Set(Key, #[serde(with = "bytes")] Vec<u8>),
    /// Index 0: only if the key is absent.
    Cas(Key, Index, #[serde(with = "bytes")] Vec<u8>),
    Lock(Key, SessionId, #[serde(with = "bytes")] Vec<u8>),
    Unlock(Key, SessionId, #[serde(with = "bytes")] Vec<u8>),
    DeleteCas(Key, Index),
    /// Whatever stands there; that nothing does is no error.
    Delete(Key),
}

impl Verb {
    /// Whether a transaction of such verbs alone is a read, which honours `?consistent`.
    pub fn is_read(&self) -> bool {
        match self {
            Verb::GetTree(_)
            | Verb::CheckIndex(..)
            | Verb::CheckNotExists(_)
            | Verb::CheckSession(..) => true,
            Verb::Set(..)
            | Verb::Cas(..)
            | Verb::Lock(..)
            | Verb::Unlock(..)
            | Verb::DeleteCas(..)
            | Verb::Delete(_) => false,
        }
    }
}

/// What an agent registers for this node: one service a cluster, the role as tag and meta, a TTL
/// check fed by lictor.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Registration {
    /// Unique on the agent: `<service>-<node>`.
    pub id: String,
    pub service: String,
    pub address: String,
    pub port: u16,
    pub tags: Vec<String>,
    pub meta: BTreeMap<String, String>,
    /// The TTL of its check `service:<id>`.
    pub ttl: Span,
    pub passing: bool,
    pub output: String,
}

/// A call to the store. Every one has a timeout; none is repeated by the client.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Call {
    /// Reads (all verbs read) are made with `?consistent`.
    Txn(Vec<Verb>),
    /// `?consistent`; a prefix when `recurse`.
    Read {
        key: Key,
        recurse: bool,
    },
    /// Behavior `release`, lock-delay `1ms`, no checks.
    SessionCreate {
        name: String,
        ttl: Span,
    },
    SessionRenew(SessionId),
    SessionDestroy(SessionId),
    /// To the node's own agent (the first address) alone.
    Register(Registration),
    /// To the node's own agent alone.
    Deregister {
        id: String,
    },
    /// Feeds the TTL check `service:<id>` on the node's own agent.
    CheckUpdate {
        id: String,
        passing: bool,
        output: String,
    },
    /// Asks the node's own agent whether it knows the service with exactly this address, port, tags
    /// and meta: `Answer::Known`. Its check is not compared.
    Registered(Registration),
    /// Asks the catalog who of this service passes all its checks: `Answer::Passing`.
    Passing {
        service: String,
    },
}

/// One KV entry as Consul returns it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub key: Key,
    #[serde(with = "bytes")]
    pub value: Vec<u8>,
    pub modify: Index,
    /// The session that holds the lock, if any.
    pub session: Option<SessionId>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// What the transaction returned, in its order: an entry for each key written, locked, unlocked
    /// or got.
    Txn(Vec<Entry>),
    Entries(Vec<Entry>),
    Session(SessionId),
    Known(bool),
    /// Instances by the meta `node`, or by their id where there is none.
    Passing(BTreeSet<String>),
    Done,
}

/// Why a call did not succeed. A write has three outcomes: done, not done (`Conflict`, `Refused`,
/// `NotSent`), or `Unknown`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum StoreError {
    /// The transaction was rolled back (409). It may be the echo of an own success: a copy on the
    /// way may have been applied.
    #[error("rolled back at operation {op:?}: {what}")]
    Conflict { op: Option<u16>, what: String },
    /// The token may not do this (401, 403).
    #[error("permission denied: {0}")]
    Denied(String),
    /// The session is not there (404 of a renewal).
    #[error("session is gone")]
    SessionGone,
    /// Understood and refused (other 4xx): not done.
    #[error("refused: {0}")]
    Refused(String),
    /// No address took the request: certainly not done.
    #[error("not sent: {0}")]
    NotSent(String),
    /// Sent, and no definite answer came: done or not.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

impl StoreError {
    /// Whether this very request, as sent, can no longer be applied.
    pub fn is_definite(&self) -> bool {
        match self {
            StoreError::Conflict { .. }
            | StoreError::Denied(_)
            | StoreError::SessionGone
            | StoreError::Refused(_)
            | StoreError::NotSent(_) => true,
            StoreError::Unknown(_) => false,
        }
    }
}
