//! Faults as data: what is done to whom, and for how long. A schedule is a list of them, which can
//! be printed, shortened and run again.

use crate::decide::hook::Hook;

/// A node, by its place.
pub type Place = usize;

/// Which half of a request to Consul is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    Requests,
    /// Applied, and nobody hears of it.
    Replies,
    Both,
    /// Nobody listens: certainly not sent.
    Refused,
}

/// What a crash leaves of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Volume {
    /// All that was written.
    Old,
    /// What was under way is there or not, and the end of what was never synced is gone.
    Partly,
    Empty,
}

/// How a hook misbehaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ill {
    Slow(u64),
    /// It does nothing and never ends.
    Hang,
    /// It does what it should and never ends.
    HangAfter,
    Fail,
    /// It does what it should and says that it failed.
    HalfDone,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    Switchover,
    SwitchoverTo(Place),
    Failover,
    FailoverLossy,
    Reinit(Place),
    Pause,
    Resume,
}

/// A change of the cluster's configuration while it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    Lease(u64),
    Hold(bool),
    Sync(bool),
    NoFailover(Place),
    Priority(Place),
}

/// Times are milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    ConsulLost {
        node: Place,
        lost: Lost,
        ms: u64,
    },
    ConsulSlow {
        node: Place,
        by: u64,
        ms: u64,
    },
    ConsulLoss {
        node: Place,
        per_mille: u64,
        ms: u64,
    },
    /// One way only.
    PeerCut {
        from: Place,
        to: Place,
        ms: u64,
    },
    PeerSlow {
        node: Place,
        by: u64,
        ms: u64,
    },
    /// Cut off from everybody, Consul too.
    Isolated {
        node: Place,
        ms: u64,
    },
    /// `mid`: between a step and its effects.
    SidecarPaused {
        node: Place,
        ms: u64,
        mid: bool,
    },
    AppPaused {
        node: Place,
        ms: u64,
    },
    NodePaused {
        node: Place,
        ms: u64,
    },
    SidecarKilled {
        node: Place,
        back: u64,
    },
    AppKilled {
        node: Place,
    },
    CrashLoop {
        node: Place,
        times: u64,
    },
    NodeCrashed {
        node: Place,
        volume: Volume,
        back: u64,
    },
    VolumeFails {
        node: Place,
        ms: u64,
    },
    WallJump {
        node: Place,
        by: i64,
    },
    HookIll {
        node: Place,
        hook: Hook,
        ill: Ill,
        times: u64,
    },
    ReplicationSlow {
        node: Place,
        by: u64,
        ms: u64,
    },
    LeaderGarbage,
    LeaderDeleted,
    MemberDeleted {
        node: Place,
    },
    MemberGarbage {
        node: Place,
    },
    RequestGarbage,
    SessionKilled,
    ConsulLeaderless {
        ms: u64,
    },
    ConsulBehind {
        ms: u64,
    },
    /// Breaks an assumption of the safety argument; only when asked for.
    SnapshotRestored {
        old: u64,
    },
    Asked {
        node: Place,
        ask: Ask,
    },
    Configured(Change),
    Upgraded {
        node: Place,
    },
}

impl Fault {
    /// The same, done to this node. A disk is not lost there: each schedule has its own for that.
    pub fn aimed_at(mut self, place: Place) -> Fault {
        match &mut self {
            Fault::ConsulLost { node, .. }
            | Fault::ConsulSlow { node, .. }
            | Fault::ConsulLoss { node, .. }
            | Fault::PeerCut { from: node, .. }
            | Fault::PeerSlow { node, .. }
            | Fault::Isolated { node, .. }
            | Fault::SidecarPaused { node, .. }
            | Fault::AppPaused { node, .. }
            | Fault::NodePaused { node, .. }
            | Fault::SidecarKilled { node, .. }
            | Fault::AppKilled { node }
            | Fault::CrashLoop { node, .. }
            | Fault::VolumeFails { node, .. }
            | Fault::HookIll { node, .. }
            | Fault::ReplicationSlow { node, .. }
            | Fault::MemberDeleted { node }
            | Fault::MemberGarbage { node }
            | Fault::Upgraded { node } => *node = place,
            Fault::NodeCrashed { volume: Volume::Empty, .. }
            | Fault::WallJump { .. }
            | Fault::LeaderGarbage
            | Fault::LeaderDeleted
            | Fault::RequestGarbage
            | Fault::SessionKilled
            | Fault::ConsulLeaderless { .. }
            | Fault::ConsulBehind { .. }
            | Fault::SnapshotRestored { .. }
            | Fault::Asked { .. }
            | Fault::Configured(_) => {}
            Fault::NodeCrashed { node, .. } => *node = place,
        }
        self
    }

    /// Every kind, as reports name it.
    pub const KINDS: [&str; 28] = [
        "consul-lost",
        "consul-slow",
        "consul-loss",
        "peer-cut",
        "peer-slow",
        "isolated",
        "sidecar-paused",
        "app-paused",
        "node-paused",
        "sidecar-killed",
        "app-killed",
        "crash-loop",
        "node-crashed",
        "volume-fails",
        "wall-jump",
        "hook-ill",
        "replication-slow",
        "leader-garbage",
        "leader-deleted",
        "member-deleted",
        "member-garbage",
        "request-garbage",
        "session-killed",
        "consul-leaderless",
        "consul-behind",
        "asked",
        "configured",
        "upgraded",
    ];

    pub fn kind(&self) -> &'static str {
        match self {
            Fault::ConsulLost { .. } => "consul-lost",
            Fault::ConsulSlow { .. } => "consul-slow",
            Fault::ConsulLoss { .. } => "consul-loss",
            Fault::PeerCut { .. } => "peer-cut",
            Fault::PeerSlow { .. } => "peer-slow",
            Fault::Isolated { .. } => "isolated",
            Fault::SidecarPaused { .. } => "sidecar-paused",
            Fault::AppPaused { .. } => "app-paused",
            Fault::NodePaused { .. } => "node-paused",
            Fault::SidecarKilled { .. } => "sidecar-killed",
            Fault::AppKilled { .. } => "app-killed",
            Fault::CrashLoop { .. } => "crash-loop",
            Fault::NodeCrashed { .. } => "node-crashed",
            Fault::VolumeFails { .. } => "volume-fails",
            Fault::WallJump { .. } => "wall-jump",
            Fault::HookIll { .. } => "hook-ill",
            Fault::ReplicationSlow { .. } => "replication-slow",
            Fault::LeaderGarbage => "leader-garbage",
            Fault::LeaderDeleted => "leader-deleted",
            Fault::MemberDeleted { .. } => "member-deleted",
            Fault::MemberGarbage { .. } => "member-garbage",
            Fault::RequestGarbage => "request-garbage",
            Fault::SessionKilled => "session-killed",
            Fault::ConsulLeaderless { .. } => "consul-leaderless",
            Fault::ConsulBehind { .. } => "consul-behind",
            Fault::SnapshotRestored { .. } => "snapshot-restored",
            Fault::Asked { .. } => "asked",
            Fault::Configured(_) => "configured",
            Fault::Upgraded { .. } => "upgraded",
        }
    }
}
