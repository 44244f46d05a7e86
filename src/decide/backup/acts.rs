//! What a node does with its backup directory, and what came of it: effects and inputs.

use super::records::BackupId;
use crate::decide::types::{ClusterId, Epoch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What the backup hook answers with its last line.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Deserialize)]
pub struct HookAnswer {
    /// Which id it wrote; must be the one it was given.
    pub id: String,
    #[serde(default)]
    pub bytes: u64,
    pub position: String,
    /// The engine and its version.
    #[serde(default)]
    pub engine: String,
}

/// What the manifest says beside its files: enough to restore when Consul is lost.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Origin {
    pub id: BackupId,
    pub cluster_name: String,
    pub cluster: ClusterId,
    pub node: String,
    pub epoch: Epoch,
    pub at: u64,
    pub position: String,
    #[serde(default)]
    pub engine: String,
}

/// Where a restore takes its data from.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Source {
    /// This one below `backup_dir`; the manifest's SHA-256 where the catalog told it.
    Id { id: BackupId, manifest: Option<String> },
    /// The newest below `backup_dir`.
    Latest,
    /// A backup's directory; from this node's own configuration alone.
    Path(String),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum BackupAct {
    /// Makes the directory the hook writes to.
    Begin { id: BackupId },
    /// How much is in it by now.
    Measure { id: BackupId },
    /// Writes the manifest over all there is, durably.
    Seal { origin: Origin },
    /// Compares every file with the manifest, and the manifest with the catalog's word.
    Check { source: Source },
    /// An empty directory for the verify hook's copy.
    Scratch { id: BackupId },
    /// What is finished and listed gets its name; what was left half-done goes, but for the job
    /// under way.
    Sweep { listed: BTreeSet<BackupId>, but: Option<BackupId> },
    /// Removes one that is finished; another node's only if it is here.
    Delete { id: BackupId, own: bool },
    /// Looks whether it is here.
    Find { source: Source },
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum BackupDone {
    /// The directory that was made.
    Dir(String),
    Measured(u64),
    Sealed {
        bytes: u64,
        files: u64,
        manifest: String,
        dir: String,
    },
    /// It is whole: where, what it says of itself, and its size.
    Whole {
        dir: String,
        origin: Origin,
        bytes: u64,
        files: u64,
    },
    /// It differs from its manifest or from the catalog: what is wrong.
    Corrupt(String),
    Found {
        dir: String,
        origin: Origin,
    },
    Done,
}
