//! What reaches the driver over HTTP, and what it answers.
//!
//! One bounded queue carries all of it (`limits::QUEUE`). The asker waits only so long: a driver
//! drops what nobody waits for any more (`reply.is_closed()`) before it steps, so that a late
//! freeze has no effect. It may drop `reply` unanswered, which the asker sees at once.

use crate::decide::action::Action;
use crate::decide::peer::{Ask, Told};
use crate::decide::reason::Reason;
use crate::decide::types::{Epoch, NodeName, RunId};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// Numbers the questions of one process; from a counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AskId(pub u64);

/// Something that can change a decision.
#[derive(Debug)]
pub enum Incoming {
    /// From a proven peer: its node, its run and its epoch are what it said under the MAC.
    Peer {
        id: AskId,
        from: NodeName,
        run: RunId,
        epoch: Epoch,
        ask: Ask,
        reply: oneshot::Sender<Told>,
    },
    /// From an operator with the token.
    Action {
        id: AskId,
        action: Action,
        /// `http <address>`.
        by: String,
        reply: oneshot::Sender<ActionReply>,
    },
    /// From an operator with the token.
    Config { ask: ConfigAsk, reply: oneshot::Sender<ConfigReply> },
}

/// What an operator wants with the configuration.
#[derive(Clone, PartialEq, Debug)]
pub enum ConfigAsk {
    /// Merge this object into `state/config`.
    Patch(serde_json::Value),
    /// Read the node's own file again.
    Reload,
}

/// What became of it.
#[derive(Clone, PartialEq, Debug)]
pub enum ConfigReply {
    Done(serde_json::Value),
    /// Wrong in itself: nothing is changed.
    Bad(String),
    /// Understood and declined: nothing is changed.
    Refused(String),
    /// Certainly not written.
    NotWritten(String),
    /// Written or not.
    Unknown(String),
}

/// What became of an action's `state/requests/<id>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ActionReply {
    /// Written under this id; the leader's answer follows in `<id>-result`.
    Written { request: String },
    /// Understood and declined: nothing is written.
    Refused(Reason),
    /// Certainly not written.
    NotWritten(String),
    /// Written or not.
    Unknown(String),
}
