//! What a search is given: the settings, and the faults it may use.

use crate::decide::lead::SyncMode;

/// What does not change during a search.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Rules {
    pub lease: u64,
    pub lease_max: u64,
    /// A tick on a holder's clock, and on everybody else's: 1.03 apart, all that the wait allows
    /// for.
    pub slow_tick: u64,
    pub fast_tick: u64,
    pub sync: SyncMode,
    pub hold: bool,
    /// Nodes that are not listed have the cluster's data too.
    pub cloned: bool,
    pub guard: bool,
    /// Node 2 is a second process of node 0, on the same disk.
    pub twin: bool,
    /// Nodes step by themselves at every tick.
    pub eager: bool,
    /// A demotion may leave the application running.
    pub runs_on: bool,
    /// No state beyond this epoch is looked at.
    pub last_epoch: u64,
    pub shorter: u64,
}

/// Faults and acts left.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Budget {
    pub slow: u8,
    pub dup: u8,
    pub sessions: u8,
    pub crashes: u8,
    pub puts: u8,
    pub deletes: u8,
    pub shorter: u8,
    pub demotions: u8,
    pub lists: u8,
    /// Orders of an operator to take.
    pub forces: u8,
    pub syncs: u8,
    /// Changes of one node's `sync`, off to on or back.
    pub flips: u8,
    pub commits: u8,
    pub mutes: u8,
    pub restores: u8,
    pub wipes: u8,
    /// A node and Consul lose each other, until they find each other again.
    pub cuts: u8,
    /// A request for a promise, or its answer, late or lost.
    pub asks: u8,
    /// A request for a promise that arrives a second time, later.
    pub echoes: u8,
}
