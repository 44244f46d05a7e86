//! The states of a node. One enum; transitions are in `drive.rs`, in one `match`, and as a table in
//! `graph.rs`.

use crate::decide::hook::Hook;
use crate::decide::reason::Reason;
use crate::decide::time::At;
use crate::decide::types::{NodeName, OpId};

/// How a data directory comes to be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Bootstrap {
    Create,
    /// As `Create`, with the data of a backup.
    Restore,
    Clone,
    Rewind,
}

impl Bootstrap {
    /// Whether the cluster comes to be with it.
    pub fn creates(self) -> bool {
        match self {
            Bootstrap::Create | Bootstrap::Restore => true,
            Bootstrap::Clone | Bootstrap::Rewind => false,
        }
    }

    /// `LICTOR_BOOTSTRAP`.
    pub fn name(self) -> &'static str {
        match self {
            Bootstrap::Create => "create",
            Bootstrap::Restore => "restore",
            Bootstrap::Clone => "clone",
            Bootstrap::Rewind => "rewind",
        }
    }
}

/// What follows once nothing of the application is left.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum After {
    /// Start again as a replica; `failover`: the term was closed, others may take it first.
    Start {
        handed_over: bool,
    },
    /// Diverged: make the data follow, or begin anew.
    Rewind,
    /// Data of a creation that never counted.
    Wipe,
    Exit {
        code: i32,
    },
    /// Stay down.
    Fail,
}

/// Why a planned or forced demotion runs, and what comes after it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Demotion {
    /// A switchover's chosen successor.
    pub to: Option<NodeName>,
    /// Wait, inside the lease, until the successor has everything.
    pub planned: bool,
    /// The request that asked for it.
    pub request: Option<String>,
    /// lictor itself is to end afterwards.
    pub leaving: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// Nothing is known yet of the cluster.
    Init,
    /// The disk is empty: waits for a source to clone from, or for the lock to create the data.
    Joining,
    /// What is on the disk is not to be trusted: everything is removed.
    Wiping,
    Bootstrapping {
        kind: Bootstrap,
        marked: bool,
        hook: Option<OpId>,
    },
    /// Waits until another leader is known, or this moment: the replica start depends on who took
    /// over.
    Waiting {
        /// The backoff after crashes.
        not_before: At,
        until: At,
    },
    /// Waits before the next start: the application died too often.
    Pausing {
        until: At,
    },
    /// `pre-start` runs.
    Preparing {
        hook: OpId,
    },
    /// The application was started and does not serve yet.
    Starting {
        since: At,
    },
    /// Runs and refuses writes.
    Replica,
    /// Holds the lock; the guard has not acknowledged yet.
    Arming {
        pid: u32,
    },
    /// `strict`: the `sync` hook comes before `promote`.
    Requiring {
        hook: OpId,
    },
    Promoting {
        hook: OpId,
    },
    Primary,
    /// The demote hook runs.
    Demoting {
        hook: OpId,
        demotion: Demotion,
    },
    /// Demoted, inside the lease: waits for the successor to report the final position.
    Draining {
        demotion: Demotion,
        order: Option<u64>,
        give_up: At,
    },
    /// The tree is being killed.
    Killing {
        after: After,
    },
    /// Asked to stop while commits wait for this replica: until it is counted no more.
    Parting {
        give_up: At,
    },
    /// The application was asked to end.
    Stopping {
        kill_at: At,
    },
    Stopped,
    Failed {
        reason: Reason,
    },
}

impl State {
    /// Every word of [`State::name`], for what shows one series or row a state.
    pub const NAMES: [&str; 16] = [
        "init",
        "joining",
        "wiping",
        "bootstrapping",
        "waiting",
        "backoff",
        "starting",
        "replica",
        "promoting",
        "primary",
        "demoting",
        "draining",
        "killing",
        "stopping",
        "stopped",
        "failed",
    ];

    /// As `status`, the member record and the metrics name it.
    pub fn name(&self) -> &'static str {
        match self {
            State::Init => "init",
            State::Joining => "joining",
            State::Wiping => "wiping",
            State::Bootstrapping { .. } => "bootstrapping",
            State::Waiting { .. } => "waiting",
            State::Pausing { .. } => "backoff",
            State::Preparing { .. } | State::Starting { .. } => "starting",
            State::Replica => "replica",
            State::Arming { .. } | State::Requiring { .. } | State::Promoting { .. } => "promoting",
            State::Primary => "primary",
            State::Demoting { .. } => "demoting",
            State::Draining { .. } => "draining",
            State::Killing { .. } => "killing",
            State::Parting { .. } => "leaving",
            State::Stopping { .. } => "stopping",
            State::Stopped => "stopped",
            State::Failed { .. } => "failed",
        }
    }

    /// Whether the application's process is there to be asked things.
    pub fn serves(&self) -> bool {
        match self {
            State::Replica
            | State::Arming { .. }
            | State::Requiring { .. }
            | State::Promoting { .. }
            | State::Primary
            | State::Demoting { .. }
            | State::Draining { .. }
            | State::Parting { .. } => true,
            State::Init
            | State::Joining
            | State::Wiping
            | State::Bootstrapping { .. }
            | State::Waiting { .. }
            | State::Pausing { .. }
            | State::Preparing { .. }
            | State::Starting { .. }
            | State::Killing { .. }
            | State::Stopping { .. }
            | State::Stopped
            | State::Failed { .. } => false,
        }
    }

    /// Whether the guard holds a deadline for it, and the own fence must come before that.
    pub fn acts(&self) -> bool {
        match self {
            State::Arming { .. }
            | State::Requiring { .. }
            | State::Promoting { .. }
            | State::Primary => true,
            State::Init
            | State::Joining
            | State::Wiping
            | State::Bootstrapping { .. }
            | State::Waiting { .. }
            | State::Pausing { .. }
            | State::Preparing { .. }
            | State::Starting { .. }
            | State::Replica
            | State::Demoting { .. }
            | State::Draining { .. }
            | State::Killing { .. }
            | State::Parting { .. }
            | State::Stopping { .. }
            | State::Stopped
            | State::Failed { .. } => false,
        }
    }

    /// The moment it waits for by itself.
    pub fn waits_until(&self, now: At) -> Option<At> {
        match self {
            State::Waiting { not_before, until } if now >= *not_before => Some(*until),
            State::Waiting { not_before, .. } => Some(*not_before),
            State::Pausing { until } => Some(*until),
            State::Draining { give_up, .. } => Some(*give_up),
            State::Parting { give_up } => Some(*give_up),
            State::Stopping { kill_at } => Some(*kill_at),
            State::Init
            | State::Joining
            | State::Wiping
            | State::Bootstrapping { .. }
            | State::Preparing { .. }
            | State::Starting { .. }
            | State::Replica
            | State::Arming { .. }
            | State::Requiring { .. }
            | State::Promoting { .. }
            | State::Primary
            | State::Demoting { .. }
            | State::Killing { .. }
            | State::Stopped
            | State::Failed { .. } => None,
        }
    }

    /// The hook it waits for, and what that hook's end is taken for.
    pub fn work(&self) -> Option<(OpId, Work)> {
        match self {
            State::Bootstrapping { kind, hook, .. } => hook.map(|id| (id, Work::Make(*kind))),
            State::Preparing { hook } => Some((*hook, Work::Prepare)),
            State::Requiring { hook } => Some((*hook, Work::Require)),
            State::Promoting { hook } => Some((*hook, Work::Promote)),
            State::Demoting { hook, demotion } => Some((*hook, Work::Demote(demotion.clone()))),
            State::Init
            | State::Joining
            | State::Wiping
            | State::Waiting { .. }
            | State::Pausing { .. }
            | State::Starting { .. }
            | State::Replica
            | State::Arming { .. }
            | State::Primary
            | State::Draining { .. }
            | State::Killing { .. }
            | State::Parting { .. }
            | State::Stopping { .. }
            | State::Stopped
            | State::Failed { .. } => None,
        }
    }

    /// Whether something of this node may be writable: what a fence must end.
    pub fn may_write(&self) -> bool {
        match self {
            State::Promoting { .. } | State::Primary | State::Demoting { .. } => true,
            State::Arming { .. }
            | State::Requiring { .. }
            | State::Draining { .. }
            | State::Init
            | State::Joining
            | State::Wiping
            | State::Bootstrapping { .. }
            | State::Waiting { .. }
            | State::Pausing { .. }
            | State::Preparing { .. }
            | State::Starting { .. }
            | State::Replica
            | State::Killing { .. }
            | State::Parting { .. }
            | State::Stopping { .. }
            | State::Stopped
            | State::Failed { .. } => false,
        }
    }
}

/// What a state's own hook is for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Work {
    Make(Bootstrap),
    Prepare,
    Require,
    Promote,
    Demote(Demotion),
}

/// A hook that is under way outside the state machine: any number of these, one a kind.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    Health,
    /// `position` for a peer.
    Answer {
        ask: OpId,
    },
    /// `position` that first stops receiving, for whoever asked.
    Freeze,
    /// The own part of a survey.
    Survey {
        survey: OpId,
    },
    /// The own position, before a failover is answered.
    Own,
    /// The final position of a planned demotion.
    Final,
    /// The barrier of this `sync` hook.
    Barrier {
        lead: OpId,
    },
    /// How far behind a replica is, now and then.
    Lag,
    /// `sync` for `Lead`.
    Sync {
        lead: OpId,
    },
    Replicate,
    /// The configuration changed.
    Reload,
    Backup,
    Verify,
}

impl Side {
    pub fn hook(&self) -> Hook {
        match self {
            Side::Health => Hook::Health,
            Side::Answer { .. }
            | Side::Freeze
            | Side::Survey { .. }
            | Side::Own
            | Side::Final
            | Side::Barrier { .. }
            | Side::Lag => Hook::Position,
            Side::Sync { .. } => Hook::Sync,
            Side::Replicate => Hook::Replicate,
            Side::Reload => Hook::Reload,
            Side::Backup => Hook::Backup,
            Side::Verify => Hook::Verify,
        }
    }
}
