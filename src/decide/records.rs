//! The values of the cluster's keys: JSON with `"v":1`; fields this version doesn't know are kept
//! and ignored.

use super::time::Span;
use super::types::{ClusterId, DiskId, Epoch, Member, NodeName, RunId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Fields of a newer version, kept when the record is written again.
pub type Extra = BTreeMap<String, serde_json::Value>;

/// What a leader says of its lock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockState {
    Held,
    /// The application was demoted or its whole tree is gone: a successor need not wait.
    Clean,
}

/// `leader`: the lock's value.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct LeaderValue {
    pub v: u32,
    pub epoch: Epoch,
    pub node: NodeName,
    pub run: RunId,
    pub lease_ms: Span,
    /// Grows by one an attempt, never reused in a term.
    pub n: u64,
    pub state: LockState,
    /// `ip:port` of the peer interface.
    pub peer: String,
    /// `ip:port` of the application.
    pub app: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<NodeName>,
}

/// `state/term`: written by every acquisition and every change of the list.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct TermValue {
    pub v: u32,
    pub epoch: Epoch,
    pub node: NodeName,
    pub run: RunId,
    pub eligible: BTreeSet<Member>,
}

/// `state/sync`: who can be promoted without loss.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct SyncValue {
    pub v: u32,
    pub epoch: Epoch,
    /// Names the leader too; *others* are these without the leader of the term being replaced.
    pub members: BTreeSet<NodeName>,
    /// A commit is acknowledged by at least so many of the others.
    pub acks: u32,
}

/// `state/cluster`: written once, together with `secrets/peer`, after the bootstrap hook succeeded.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct ClusterValue {
    pub v: u32,
    pub id: ClusterId,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Roles {
    #[serde(default)]
    pub performs: Vec<String>,
    #[serde(default)]
    pub requires: Vec<String>,
    #[serde(default)]
    pub bootstrap_needs: Vec<String>,
}

/// `state/members/<node>`: what a node says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberValue {
    pub v: u32,
    pub node: NodeName,
    pub run: RunId,
    pub disk: DiskId,
    /// The cluster its data belongs to; none while the disk is empty.
    pub cluster: Option<ClusterId>,
    pub roles: Roles,
    /// `ip:port` of the peer interface.
    pub peer: String,
    /// Whether it speaks HTTPS.
    #[serde(default)]
    pub tls: bool,
    /// `ip:port` of the application.
    pub app: String,
    pub zone: String,
    pub host: String,
    #[serde(default)]
    pub tags: Vec<String>,
    pub priority: u32,
    pub no_failover: bool,
    /// The node's state as `status` shows it.
    pub state: String,
    /// The highest epoch that is durable on its volume.
    pub floor: Epoch,
    /// The term whose primary its `replicate` last succeeded for.
    pub follows: Option<Follows>,
    /// Why it makes no backups, as the end of a sentence that begins with its name.
    #[serde(default = "says_nothing_of_backups")]
    pub bars_backup: Option<String>,
    pub version: String,
    /// Unix time in milliseconds until which it lets others lead, after a term that it lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<u64>,
    /// The longest lease it accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_max: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ConfigNote>,
    #[serde(flatten)]
    pub extra: Extra,
}

/// Which cluster configuration a node runs with.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct ConfigNote {
    /// Equal where all values are.
    pub digest: String,
    /// Cluster settings that the node sets by itself, past KV.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<String>,
    /// Why `state/config` is not what it runs with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad: Option<String>,
}

fn says_nothing_of_backups() -> Option<String> {
    Some("runs a version that makes no backups".to_owned())
}

/// The term a node's `replicate` succeeded for.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Follows {
    pub epoch: Epoch,
    pub node: NodeName,
    pub run: RunId,
}

/// A record's bytes. Serialization of our own types can't fail: string keys, no maps with other
/// keys.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("our records have string keys only")
}

/// Reads a record; `None` for garbage, which is never taken for absence by the caller.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

/// `state/pause`: while it is there, people act and lictor does not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PauseValue {
    pub v: u32,
    pub by: String,
    /// Unix time in milliseconds.
    pub at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl PauseValue {
    /// Who paused, and why if that was said.
    pub fn told(&self) -> String {
        match &self.reason {
            Some(reason) => format!("{} ({reason})", self.by),
            None => self.by.clone(),
        }
    }
}

/// `state/requests/<id>`: what an operator asks for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "RequestAsWritten")]
pub struct RequestValue {
    pub v: u32,
    pub verb: String,
    /// Read by [`super::action::Action::parse`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    pub by: String,
    /// The epoch the asker saw; a leader of an older term refuses.
    pub epoch: Epoch,
    /// Unix time in milliseconds after which nobody carries it out.
    pub expires: u64,
}

/// As earlier versions wrote it too: `to` beside the verb.
#[derive(Deserialize)]
struct RequestAsWritten {
    v: u32,
    verb: String,
    #[serde(default)]
    args: BTreeMap<String, String>,
    #[serde(default)]
    to: Option<String>,
    by: String,
    epoch: Epoch,
    expires: u64,
}

impl From<RequestAsWritten> for RequestValue {
    fn from(written: RequestAsWritten) -> RequestValue {
        let RequestAsWritten { v, verb, mut args, to, by, epoch, expires } = written;
        if let Some(to) = to {
            args.entry("to".to_owned()).or_insert(to);
        }
        RequestValue { v, verb, args, by, epoch, expires }
    }
}

/// `state/requests/<id>-result`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ResultValue {
    pub v: u32,
    pub status: RequestStatus,
    pub by: NodeName,
    pub epoch: Epoch,
    #[serde(default)]
    pub to: Option<NodeName>,
    pub reason: String,
    /// `to` is to lead even if the rules would not let it: an operator accepts the loss.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// When it was written: Unix time in milliseconds.
    #[serde(default)]
    pub at: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestStatus {
    Started,
    Done,
    Refused,
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Such a number would overflow in whoever steps above it or waits 103 % of it.
    #[test]
    fn a_number_out_of_this_world_is_garbage() {
        let leader = |epoch: u64, lease: u64| {
            let text = format!(
                r#"{{"v":1,"epoch":{epoch},"node":"a","run":"r","lease_ms":{lease},"n":1,
                    "state":"held","peer":"","app":""}}"#
            );
            decode::<LeaderValue>(text.as_bytes())
        };
        assert!(leader(7, 3_000).is_some());
        assert_eq!(leader(u64::MAX, 3_000), None);
        assert_eq!(leader(7, u64::MAX), None);
        let most = crate::decide::types::NUMBER_MAX;
        let most = leader(most, most).expect("the greatest");
        assert_eq!(most.epoch.next().0, 1 << 53);
        assert!(most.lease_ms.scaled_up(103, 100) > most.lease_ms);
    }

    #[test]
    fn a_request_of_an_earlier_version_is_understood() {
        let written = br#"{"v":1,"verb":"switchover","to":"b","by":"op","epoch":3,"expires":9}"#;
        let old: RequestValue = decode(written).expect("a request");
        assert_eq!(old.args, BTreeMap::from([("to".to_owned(), "b".to_owned())]));
        let again: RequestValue = decode(&encode(&old)).expect("a request");
        assert_eq!(again, old);
    }
}
