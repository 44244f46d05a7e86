//! What nodes say to each other directly. `http::peer` authenticates and carries it.

use super::journal::Line;
use super::time::Span;
use super::types::{Epoch, NodeName, RunId};
use serde::{Deserialize, Serialize};

/// A question to another node.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Ask {
    Ping,
    /// Its notes for the journal after this number, by the leader.
    Journal {
        after: u64,
    },
    /// With `freeze` the application first stops receiving, so that the answer is final for the
    /// term `(epoch, run)`.
    Position {
        freeze: bool,
        epoch: Epoch,
        run: RunId,
    },
    /// To take nothing for one such lease: a leader asks that has lost Consul.
    Promise {
        epoch: Epoch,
        run: RunId,
        round: u64,
        #[serde(rename = "lease_ms")]
        lease: Span,
    },
}

/// A node's answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "lowercase")]
pub enum Told {
    Pong {
        epoch: Epoch,
        state: String,
        /// How far the application is behind; none: unknown, or the answer of an older version.
        #[serde(default)]
        lag_seconds: Option<f64>,
        /// The application's check passes. An older version does not say: nothing bad is known.
        #[serde(default = "well")]
        healthy: bool,
        /// The number of its last note for the journal.
        #[serde(default)]
        notes: u64,
    },
    Journal {
        lines: Vec<Line>,
    },
    Position {
        order: u64,
        text: String,
        lag_seconds: Option<f64>,
        priority: u32,
        frozen: bool,
    },
    /// Given, in this round.
    Promised {
        round: u64,
    },
    /// Not to this asker: its proof of being who it says is not enough.
    Denied {
        reason: String,
    },
    /// The peer understood and declined, with its reason.
    Refused {
        reason: String,
    },
}

fn well() -> bool {
    true
}

/// A question to be sent.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct PeerCall {
    pub to: NodeName,
    /// The run of the receiver, as its member record says: a former process must not answer for it.
    pub run: RunId,
    /// `ip:port`.
    pub addr: String,
    /// By HTTPS, as its member record says.
    pub tls: bool,
    pub ask: Ask,
    pub timeout: Span,
}

/// Why a peer gave no answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum PeerError {
    #[error("unreachable: {0}")]
    Unreachable(String),
    #[error("no answer within {0}")]
    Timeout(Span),
    #[error("not authenticated: {0}")]
    Unauthenticated(String),
    #[error("bad answer: {0}")]
    Bad(String),
}
