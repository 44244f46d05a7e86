//! What the core must know of the configuration; made by `driver` from the checked configuration.

use crate::decide::backup::{Cron, Keep, Source};
use crate::decide::lead::LeadConfig;
use crate::decide::records::Roles;
use crate::decide::time::Span;
use crate::decide::types::NodeName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum OnCrash {
    /// Hand over at once; restart in place only where nobody else may take.
    Failover,
    /// Restart in place inside the lease, a few times, then hand over.
    Restart,
}

/// How long each hook may run.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Timeouts {
    pub bootstrap: Span,
    pub pre_start: Span,
    pub replicate: Span,
    pub promote: Span,
    /// Beside what the lease has left.
    pub demote: Span,
    pub position: Span,
    pub health: Span,
    pub sync: Span,
    pub reload: Span,
    pub backup: Span,
    pub verify: Span,
}

/// The cluster's settings as people read them, to tell what changed and who differs.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Stated {
    /// Name and value.
    pub listed: BTreeMap<String, String>,
    /// Of all of them: the same on two nodes that agree.
    pub digest: String,
    /// The names of those that this node's file, environment or flags set.
    pub own: Vec<String>,
}

/// What is said of backups.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct BackupSettings {
    pub schedule: Option<Cron>,
    pub keep: Keep,
    /// Why this node makes none.
    pub bar: Option<String>,
    /// Why this node verifies none.
    pub no_verify: Option<String>,
    /// What the cluster is created from, by this node's own configuration.
    pub restore_from: Option<Source>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub lead: LeadConfig,
    /// D: demote this long before the deadline.
    pub demote_budget: Span,
    /// K: the guard kills this long before the deadline.
    pub kill_budget: Span,
    pub on_crash: OnCrash,
    pub restart_max: u32,
    pub restart_window: Span,
    pub timeouts: Timeouts,
    pub bootstrap_expect: u32,
    pub priorities: BTreeMap<NodeName, u32>,
    pub no_failover: BTreeSet<NodeName>,
    /// A `health` hook is there; else the application's port is tried by the driver under the same
    /// name.
    pub health_interval: Span,
    pub expel_after: Span,
    /// How long no check may succeed before the application is ended; zero: for ever.
    pub hung_after: Span,
    /// Zero: no hold-down.
    pub hold_down: Span,
    pub hold_down_max: Span,
    pub hold_down_window: Span,
    /// Without sync mode.
    pub max_lag: Option<Span>,
    /// Entries the journal keeps.
    pub journal_keep: u32,
    pub stop_timeout: Span,
    /// The service's name in Consul.
    pub service: String,
    /// Whether this node's port speaks HTTPS.
    pub tls: bool,
    pub address: String,
    pub app_port: u16,
    pub zone: String,
    pub host: String,
    pub tags: Vec<String>,
    pub roles: Roles,
    pub version: String,
    pub stated: Stated,
    pub backup: BackupSettings,
}

impl Settings {
    pub fn priority(&self, node: &NodeName) -> u32 {
        self.priorities.get(node).copied().unwrap_or(100)
    }
}
