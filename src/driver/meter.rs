//! Every input and effect of the core, counted: the one place that feeds [`Metrics`].
//!
//! It looks on and changes nothing. What is under way is remembered until its answer comes, for its
//! time: as many as the driver may have under way.

use crate::decide::call::{Answer, Call, StoreError, Verb};
use crate::decide::hook::{Hook, HookEnd};
use crate::decide::io::{Effect, Exit, Input};
use crate::decide::keys::Keys;
use crate::decide::peer::{PeerError, Told};
use crate::decide::time::At;
use crate::decide::types::{Epoch, OpId};
use crate::http::Metrics;
use std::collections::BTreeMap;

pub(super) struct Meter {
    metrics: Metrics,
    keys: Keys,
    calls: BTreeMap<OpId, (&'static str, At)>,
    hooks: BTreeMap<OpId, (Hook, At)>,
    epoch: Epoch,
}

impl Meter {
    pub(super) fn new(metrics: Metrics, keys: Keys) -> Meter {
        Meter { metrics, keys, calls: BTreeMap::new(), hooks: BTreeMap::new(), epoch: Epoch::NONE }
    }

    /// Before it is stepped.
    pub(super) fn input(&mut self, at: At, input: &Input) {
        self.metrics.stepped();
        match input {
            Input::StoreReply { op, result } => {
                if let Some((kind, sent)) = self.calls.remove(op) {
                    self.metrics.called(kind, outcome(result), at.since(sent));
                }
            }
            Input::HookEnded { id, end } => {
                if let Some((hook, begun)) = self.hooks.remove(id) {
                    self.metrics.hook_ended(hook, hook_end(end), at.since(begun));
                }
            }
            Input::Leader { .. } => self.metrics.watch_answered("leader"),
            Input::State { .. } => self.metrics.watch_answered("state"),
            Input::AppStarted { .. } => self.metrics.app_started(),
            Input::AppExited { exit, .. } => self.metrics.app_ended(app_end(*exit)),
            Input::GuardFired => self.metrics.fenced("guard"),
            Input::PeerReplied { result, .. } => self.metrics.peer_replied(peer_outcome(result)),
            Input::Tick
            | Input::AppNotStarted { .. }
            | Input::TreeGone
            | Input::GuardArmed { .. }
            | Input::FloorDurable(_)
            | Input::FloorFailed { .. }
            | Input::FollowsFailed { .. }
            | Input::ClusterIdDurable(_)
            | Input::MarkerWritten
            | Input::MarkerRemoved
            | Input::Wiped
            | Input::VolumeFailed { .. }
            | Input::PeerAsked { .. }
            | Input::Action { .. }
            | Input::Renewed { .. }
            | Input::Config(_)
            | Input::BackupActed { .. }
            | Input::Stop => {}
        }
    }

    /// Before it is carried out.
    pub(super) fn effect(&mut self, at: At, effect: &Effect) {
        match effect {
            Effect::Call { op, call, .. } => {
                self.calls.insert(*op, (kind(call, &self.keys), at));
            }
            Effect::RunHook(call) => {
                if call.hook == Hook::Demote {
                    self.metrics.demoted();
                }
                self.hooks.insert(call.id, (call.hook, at));
            }
            Effect::KillTree => self.metrics.tree_killed(),
            Effect::Decided(reason) => {
                self.metrics.decided(reason.code);
                match reason.code {
                    "fence.deadline" | "hold.unanswered" => self.metrics.fenced("deadline"),
                    "fence.lost" => self.metrics.fenced("lost"),
                    _ => {}
                }
            }
            Effect::CancelHook { .. }
            | Effect::StartApp
            | Effect::TermApp
            | Effect::Arm { .. }
            | Effect::Extend { .. }
            | Effect::Disarm
            | Effect::PersistFloor(_)
            | Effect::PersistFollows(_)
            | Effect::PersistClusterId(_)
            | Effect::PersistConfig(_)
            | Effect::WriteMarker
            | Effect::RemoveMarker
            | Effect::Wipe
            | Effect::Backup { .. }
            | Effect::PeerCall { .. }
            | Effect::PeerAnswer { .. }
            | Effect::ActionReply { .. }
            | Effect::Exit { .. } => {}
        }
    }

    /// After a step: the epoch that the node now sees.
    pub(super) fn epoch(&mut self, epoch: Epoch) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.metrics.term_began();
        }
    }
}

/// One of `http::metrics::CALL_KINDS`.
fn kind(call: &Call, keys: &Keys) -> &'static str {
    match call {
        Call::Txn(verbs) => written(verbs, keys),
        Call::Read { .. } => "read",
        Call::SessionCreate { .. } => "session_create",
        Call::SessionRenew(_) => "session_renew",
        Call::SessionDestroy(_) => "session_destroy",
        Call::Register(_) | Call::Deregister { .. } => "register",
        Call::CheckUpdate { .. } => "check",
        Call::Registered(_) => "registered",
        Call::Passing { .. } => "passing",
    }
}

fn written(verbs: &[Verb], keys: &Keys) -> &'static str {
    let sets = |key: &crate::decide::keys::Key| {
        verbs.iter().any(|verb| matches!(verb, Verb::Cas(it, ..) if it == key))
    };
    if verbs.iter().all(Verb::is_read) {
        "read"
    } else if verbs.iter().any(|verb| matches!(verb, Verb::Lock(..))) {
        "take"
    } else if verbs.iter().any(|verb| matches!(verb, Verb::Unlock(..))) {
        "release"
    } else if sets(&keys.leader()) {
        "renew"
    } else if sets(&keys.term()) {
        "list"
    } else if sets(&keys.sync()) {
        "sync"
    } else {
        "write"
    }
}

/// One of `http::metrics::CALL_OUTCOMES`.
fn outcome(result: &Result<Answer, StoreError>) -> &'static str {
    match result {
        Ok(_) => "done",
        Err(StoreError::Conflict { .. }) => "conflict",
        Err(StoreError::Denied(_)) => "denied",
        Err(StoreError::SessionGone) => "session_gone",
        Err(StoreError::Refused(_)) => "refused",
        Err(StoreError::NotSent(_)) => "not_sent",
        Err(StoreError::Unknown(_)) => "unknown",
    }
}

/// One of `http::metrics::HOOK_ENDS`.
fn hook_end(end: &HookEnd) -> &'static str {
    match end {
        HookEnd::Done { .. } => "done",
        HookEnd::Exit { code: 75 } => "again",
        HookEnd::Exit { .. } => "failed",
        HookEnd::Signal { .. } => "signal",
        HookEnd::Timeout => "timeout",
        HookEnd::Cancelled => "cancelled",
        HookEnd::NotStarted { .. } => "not_started",
    }
}

/// One of `http::metrics::APP_ENDS`.
fn app_end(exit: Exit) -> &'static str {
    match exit {
        Exit::Code(0) => "clean",
        Exit::Code(_) => "code",
        Exit::Signal(_) => "signal",
    }
}

/// One of `http::metrics::PEER_OUTCOMES`.
fn peer_outcome(result: &Result<Told, PeerError>) -> &'static str {
    match result {
        Ok(Told::Refused { .. } | Told::Denied { .. }) => "declined",
        Ok(
            Told::Pong { .. }
            | Told::Position { .. }
            | Told::Promised { .. }
            | Told::Journal { .. },
        ) => "answered",
        Err(PeerError::Unreachable(_)) => "unreachable",
        Err(PeerError::Timeout(_)) => "timeout",
        Err(PeerError::Unauthenticated(_)) => "unauthenticated",
        Err(PeerError::Bad(_)) => "bad",
    }
}
