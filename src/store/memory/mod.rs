//! Consul's semantics as a pure state machine with injected time: what the simulator and the tests
//! run against, and held against the real Consul by `tests/consul_differential`.
//!
//! ```text
//!   Memory: one raft log's state, as its leader applies it
//!     kv        rows with Create-, Modify- and LockIndex, tombstones
//!     session   TTLs, behaviours, lock-delay
//!     txn       all verbs, all or nothing
//!     query     blocking queries, polled
//!     agent     agents, their services and checks, the catalog
//!     text      Consul's HTTP in and out
//!     call      `decide::call` in and out
//! ```
//!
//! Time comes with every act; nothing expires but by [`Memory::tick`]. Where Consul may choose
//! (when
//! within [TTL, 2 TTL] a session ends, whether a query wakes for nothing) the owner chooses. Not in
//! it: ACL, sessions bound to checks, several servers that lag. Must not: read a clock, draw
//! numbers, keep anything.

mod agent;
mod call;
mod kv;
mod query;
mod session;
#[cfg(test)]
mod tests;
mod text;
mod txn;

pub use kv::{Mode, Row};
pub use query::{Query, Seen};
pub use session::{Behavior, Session, Spec};
pub use text::{Answered, Asked, BYTES_MOST, Body, Reply, Waiting, too_large};
pub use txn::{Op, TxnError};

use crate::decide::time::At;
use crate::decide::types::SessionId;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Why a request was not carried out, as Consul says it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Fault {
    pub status: u16,
    pub text: String,
}

impl Fault {
    fn new(status: u16, text: impl Into<String>) -> Fault {
        Fault { status, text: text.into() }
    }
}

/// What raft replicates: a snapshot is this, and nothing of [`Memory`] beside it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct State {
    /// Of the last entry applied.
    index: u64,
    kv: kv::Kv,
    sessions: BTreeMap<SessionId, Session>,
    sessions_index: u64,
    catalog: agent::Catalog,
}

/// One Consul as its clients see it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Memory {
    state: State,
    /// Of the leader's memory: when a session that nobody renews ends at the latest, and since when
    /// it may.
    timers: BTreeMap<SessionId, Timer>,
    /// Until when a key can't be locked. In memory, tested before raft.
    delays: BTreeMap<String, At>,
    /// No leader: writes and consistent reads fail.
    leaderless: bool,
    /// What a server that is behind, or was deposed and does not know it, still answers from.
    behind: Option<Rc<State>>,
    /// How often a snapshot was restored, and the state that was replaced last: a query that waited
    /// then returns what it saw there.
    restores: u64,
    abandoned: Option<Rc<State>>,
    /// By their nodes' names; not raft's.
    agents: BTreeMap<String, agent::Agent>,
    /// Tells the sessions of one instance from another's.
    salt: u32,
    born: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Timer {
    may: At,
    must: At,
}

impl Memory {
    /// Empty. `salt` becomes part of session ids.
    pub fn new(salt: u32) -> Memory {
        Memory {
            state: State::default(),
            timers: BTreeMap::new(),
            delays: BTreeMap::new(),
            leaderless: false,
            behind: None,
            restores: 0,
            abandoned: None,
            agents: BTreeMap::new(),
            salt,
            born: 0,
        }
    }

    /// What time alone does: ends sessions whose second TTL is over.
    pub fn tick(&mut self, now: At) {
        self.delays.retain(|_, until| now < *until);
        if self.leaderless {
            // Agents go on without one.
            if !self.agents.is_empty() {
                self.tick_agents(now);
            }
            return;
        }
        let over: Vec<SessionId> = self
            .timers
            .iter()
            .filter(|(_, timer)| timer.must <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            self.invalidate(now, &id);
        }
        if !self.agents.is_empty() {
            self.tick_agents(now);
        }
    }

    /// Of the last entry applied: whatever changed, it did.
    pub fn index(&self) -> u64 {
        self.state.index
    }

    /// When [`Memory::tick`] has something to do next.
    pub fn wake(&self) -> Option<At> {
        let session = self.timers.values().map(|timer| timer.must).min();
        session.into_iter().chain(self.agents_wake()).min()
    }

    /// The leader is gone: until the next one, nothing is written and no session ends.
    pub fn lose_leader(&mut self) {
        self.leaderless = true;
    }

    /// A new leader knows sessions, not for how long they have been silent: it waits for each anew.
    pub fn elect(&mut self, now: At) {
        self.leaderless = false;
        let sessions: Vec<Session> = self.state.sessions.values().cloned().collect();
        for session in sessions {
            self.arm(now, &session);
        }
    }

    /// From now on plain and stale reads see what there is now, and no more, until
    /// [`Memory::catch_up`]. Consistent ones and transactions are not fooled.
    pub fn fall_behind(&mut self) {
        self.behind = Some(Rc::new(self.state.clone()));
    }

    pub fn catch_up(&mut self) {
        self.behind = None;
    }

    /// What a snapshot holds: keys and sessions with their indexes; no lock-delay, no timers.
    pub fn snapshot(&self) -> State {
        self.state.clone()
    }

    /// Brings back an older state, its indexes too; everybody who waits is woken.
    pub fn restore(&mut self, now: At, snapshot: State) {
        let index = self.state.index;
        self.abandoned = Some(Rc::new(std::mem::replace(&mut self.state, snapshot)));
        // Raft's own log goes on: what is written next is above all that ever was.
        self.state.index = self.state.index.max(index);
        self.restores += 1;
        self.timers.clear();
        self.agents_differ();
        self.elect(now);
    }

    /// The index of the next raft entry.
    fn next(&mut self) -> Result<u64, Fault> {
        self.leads()?;
        self.state.index += 1;
        Ok(self.state.index)
    }

    fn leads(&self) -> Result<(), Fault> {
        match self.leaderless {
            true => Err(Fault::new(500, "No cluster leader")),
            false => Ok(()),
        }
    }
}
