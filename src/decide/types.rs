//! Identities: every id is a type of its own, so that a run can't be passed for a node.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Arc<str>);

        impl $name {
            pub fn new(text: &str) -> $name {
                $name(Arc::from(text))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> $name {
                $name::new(text)
            }
        }
    };
}

name!(
    /// A cluster's name: `[a-z0-9-]`, part of every key.
    ClusterName
);
name!(
    /// A node's name inside its cluster: `[a-z0-9-]`.
    NodeName
);
name!(
    /// Drawn at random at process start; tells two processes of one name apart. Never the machine's
    /// boot id.
    RunId
);
name!(
    /// Stored on the volume at its first use; tells a node with a new disk from the node it
    /// replaces.
    DiskId
);
name!(
    /// The identity of a cluster's data, written once to `state/cluster` by the node that
    /// bootstrapped.
    ClusterId
);
name!(
    /// A Consul session.
    SessionId
);

/// The number of a leadership term. It only grows; 0 is "none seen yet". Compared together with
/// [`RunId`].
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(try_from = "u64", into = "u64")]
pub struct Epoch(pub u64);

/// The greatest number taken from a key or a message: far above any that occurs, and far enough
/// below the type's own end that a step above it, or 103 % of it, is a number still. A record with
/// a greater one is garbage, not an overflow in whoever reads it.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

/// Takes a number from outside.
pub(super) fn bounded(number: u64) -> Result<u64, String> {
    if number <= NUMBER_MAX {
        return Ok(number);
    }
    Err(format!("{number} is more than {NUMBER_MAX}"))
}

impl TryFrom<u64> for Epoch {
    type Error = String;
    fn try_from(number: u64) -> Result<Epoch, String> {
        bounded(number).map(Epoch)
    }
}

impl From<Epoch> for u64 {
    fn from(epoch: Epoch) -> u64 {
        epoch.0
    }
}

impl Epoch {
    pub const NONE: Epoch = Epoch(0);

    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Consul's ModifyIndex of a key.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Index(pub u64);

/// Numbers effects whose answer comes back as an input; from a counter, never random.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct OpId(pub u64);

impl OpId {
    /// Takes the next number from a counter.
    pub fn take(counter: &mut u64) -> OpId {
        *counter += 1;
        OpId(*counter)
    }
}

/// A member as `state/term` lists it: a name with a fresh disk is not that member.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Member {
    pub node: NodeName,
    pub disk: DiskId,
}

/// One process of one node on one disk.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Identity {
    pub node: NodeName,
    pub run: RunId,
    pub disk: DiskId,
}

impl Identity {
    pub fn member(&self) -> Member {
        Member { node: self.node.clone(), disk: self.disk.clone() }
    }
}
