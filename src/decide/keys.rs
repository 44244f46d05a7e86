//! The keys of one cluster under `lictor/<cluster>/`: `[a-z0-9/_-]` only (newer Consul refuses
//! more).

use super::backup::BackupId;
use super::types::{ClusterName, Epoch, NodeName};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A full KV key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(pub Arc<str>);

impl Key {
    pub fn new(text: &str) -> Key {
        Key(Arc::from(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Builds the keys of one cluster.
#[derive(Clone, Debug)]
pub struct Keys {
    base: Arc<str>,
    /// Those that each step asks for.
    leader: Key,
    state: Key,
    term: Key,
    sync: Key,
    cluster: Key,
    members: Key,
    requests: Key,
}

/// All else follows from the base.
impl PartialEq for Keys {
    fn eq(&self, other: &Keys) -> bool {
        self.base == other.base
    }
}

impl Eq for Keys {}

impl Hash for Keys {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.base.hash(state);
    }
}

impl Keys {
    pub fn new(cluster: &ClusterName) -> Keys {
        let base = format!("lictor/{cluster}");
        let at = |rest: &str| Key::new(&format!("{base}/{rest}"));
        Keys {
            leader: at("leader"),
            state: at("state/"),
            term: at("state/term"),
            sync: at("state/sync"),
            cluster: at("state/cluster"),
            members: at("state/members/"),
            requests: at("state/requests/"),
            base: Arc::from(base),
        }
    }

    fn at(&self, rest: &str) -> Key {
        Key::new(&format!("{}/{rest}", self.base))
    }

    /// The lock, watched alone.
    pub fn leader(&self) -> Key {
        self.leader.clone()
    }

    /// The one watched prefix.
    pub fn state(&self) -> Key {
        self.state.clone()
    }

    pub fn term(&self) -> Key {
        self.term.clone()
    }

    pub fn sync(&self) -> Key {
        self.sync.clone()
    }

    pub fn cluster(&self) -> Key {
        self.cluster.clone()
    }

    pub fn config(&self) -> Key {
        self.at("state/config")
    }

    /// There while the cluster is paused.
    pub fn pause(&self) -> Key {
        self.at("state/pause")
    }

    pub fn members(&self) -> Key {
        self.members.clone()
    }

    pub fn member(&self, node: &NodeName) -> Key {
        self.at(&format!("state/members/{node}"))
    }

    pub fn requests(&self) -> Key {
        self.requests.clone()
    }

    pub fn request(&self, id: &str) -> Key {
        self.at(&format!("state/requests/{id}"))
    }

    /// The answer to a request; `-result`, for keys carry no dots.
    pub fn request_result(&self, id: &str) -> Key {
        self.at(&format!("state/requests/{id}-result"))
    }

    /// The lock of backups, and how the last one ended.
    pub fn backup(&self) -> Key {
        self.at("state/backup")
    }

    /// What the next creation takes its data from.
    pub fn restore(&self) -> Key {
        self.at("state/restore")
    }

    /// The catalog, not watched.
    pub fn catalog(&self) -> Key {
        self.at("backups/")
    }

    pub fn catalog_of(&self, id: &BackupId) -> Key {
        self.at(&format!("backups/{id}"))
    }

    pub fn secret(&self, name: &str) -> Key {
        self.at(&format!("secrets/{name}"))
    }

    /// Everything of the journal; outside the watched prefix.
    pub fn journal(&self) -> Key {
        self.at("journal/")
    }

    pub fn journal_head(&self) -> Key {
        self.at("journal/head")
    }

    /// Zero-padded, so that the keys' order is the entries'.
    pub fn journal_entry(&self, epoch: Epoch, seq: u64) -> Key {
        self.at(&format!("journal/{:010}-{seq:010}", epoch.0))
    }
}
