//! What a node begins with, and what its volume holds: plain facts, no decisions.

use crate::decide::records::Follows;
use crate::decide::types::{ClusterId, ClusterName, Epoch, Identity};
use serde::{Deserialize, Serialize};

/// What the process found at its start.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Boot {
    pub identity: Identity,
    pub cluster_name: ClusterName,
    /// The highest epoch that is durable on the volume.
    pub floor: Epoch,
    /// The cluster the data belongs to, as the volume says.
    pub cluster: Option<ClusterId>,
    /// The application's directory is not empty.
    pub data: bool,
    /// A bootstrap was under way when the last process ended.
    pub marker: bool,
    /// The term whose primary this data last followed, as the volume says.
    pub follows: Option<Follows>,
    /// Random, for the case that this node creates the cluster.
    pub fresh_id: ClusterId,
    #[serde(with = "crate::decide::bytes")]
    pub fresh_secret: Vec<u8>,
}

/// What the volume holds now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Disk {
    pub data: bool,
    pub cluster: Option<ClusterId>,
    pub marker: bool,
    pub floor: Epoch,
}
