//! What backups write into KV: the lock `state/backup`, the catalog `backups/<id>`, and the wish
//! for a restore `state/restore`.

use crate::decide::records::Extra;
use crate::decide::types::{ClusterId, Epoch, NodeName, RunId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A backup's name: `20261125-031500-7`, the time it was asked for and the epoch. Sorts by time.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackupId(pub Arc<str>);

impl BackupId {
    pub fn new(text: &str) -> BackupId {
        BackupId(Arc::from(text))
    }

    /// An id from a person or from KV; it becomes a part of a key and of a path.
    pub fn parse(text: &str) -> Option<BackupId> {
        let plain = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase() || byte == b'-';
        let fits = !text.is_empty() && text.len() <= 64 && text.bytes().all(plain);
        (fits && !text.starts_with('-')).then(|| BackupId::new(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the lock is held for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Job {
    Backup,
    Verify,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Job::Backup => "backup",
            Job::Verify => "verify",
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// The leader chose a node, which has not begun.
    Asked,
    Running,
    Done,
    Failed,
}

/// The last moment of the schedule that is taken care of.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Slot {
    /// Unix time in milliseconds.
    pub at: u64,
    /// The schedule it is a moment of: another one begins anew.
    pub schedule: String,
    /// How often it was tried.
    pub attempt: u32,
    /// A backup was made since.
    pub done: bool,
}

/// `state/backup`: the lock while `asked` or `running`, else how the last job ended.
///
/// The leader writes it to ask, under its own lock; from then on the node that is named writes it,
/// each time at the index of its last write. A beat changes `n`: when none comes for a while the
/// leader takes the lock away, and the node finds that out by its next write.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct BackupValue {
    pub v: u32,
    pub job: Job,
    pub id: BackupId,
    pub node: NodeName,
    pub run: RunId,
    pub state: JobState,
    /// What the node is doing, for people.
    #[serde(default)]
    pub step: String,
    #[serde(default)]
    pub bytes: u64,
    /// Grows with each write of its node.
    pub n: u64,
    /// Of the term that asked.
    pub epoch: Epoch,
    /// When it was asked for: Unix time in milliseconds.
    pub at: u64,
    /// Who asked: `schedule`, or as the request says.
    pub by: String,
    /// The request that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Kept by every job that follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    /// How it ended.
    #[serde(default)]
    pub reason: String,
}

impl BackupValue {
    pub fn is_held(&self) -> bool {
        match self.state {
            JobState::Asked | JobState::Running => true,
            JobState::Done | JobState::Failed => false,
        }
    }
}

/// What came of a verification.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Verified {
    pub at: u64,
    pub node: NodeName,
    pub ok: bool,
    pub text: String,
}

/// `backups/<id>`: a backup that was made and is whole as far as is known.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CatalogValue {
    pub v: u32,
    pub id: BackupId,
    /// Whose directory holds it.
    pub node: NodeName,
    pub host: String,
    /// Where, on that host.
    pub dir: String,
    pub epoch: Epoch,
    pub cluster: ClusterId,
    pub at: u64,
    pub took_ms: u64,
    pub bytes: u64,
    pub files: u64,
    pub position: String,
    /// The engine and its version, as the hook says.
    #[serde(default)]
    pub engine: String,
    /// SHA-256 of the manifest, which has one for each file.
    pub manifest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    #[serde(flatten)]
    pub extra: Extra,
}

impl CatalogValue {
    /// Not found bad by a verification.
    pub fn is_good(&self) -> bool {
        self.verified.as_ref().is_none_or(|verified| verified.ok)
    }
}

/// `state/restore`: the next creation of the cluster takes this backup's data. Not a path:
/// each node looks for it in its own `backup_dir`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct RestoreValue {
    pub v: u32,
    pub id: BackupId,
    /// Of the manifest, from the catalog.
    pub manifest: String,
    pub by: String,
    pub at: u64,
}
