//! The `LICTOR_*` facts a hook is given beyond those its runner knows. Never a secret.

use super::Node;
use crate::decide::records::{LeaderValue, LockState};
use crate::decide::types::NodeName;
use std::collections::BTreeMap;

pub type Facts = BTreeMap<String, String>;

fn put(facts: &mut Facts, name: &str, value: impl ToString) {
    facts.insert(["LICTOR_", name].concat(), value.to_string());
}

/// `ip:port` in its two halves; an address we wrote ourselves.
fn halves(address: &str) -> (&str, &str) {
    address.rsplit_once(':').unwrap_or((address, "0"))
}

pub fn names<'a>(nodes: impl IntoIterator<Item = &'a NodeName>) -> String {
    nodes.into_iter().map(NodeName::as_str).collect::<Vec<_>>().join(",")
}

impl Node {
    /// The facts every hook gets.
    pub(crate) fn facts(&self) -> Facts {
        let mut facts = Facts::new();
        let epoch = self.term_seen().map(|term| term.epoch).unwrap_or_default();
        put(&mut facts, "EPOCH", epoch);
        let role = if self.state.may_write() { "primary" } else { "replica" };
        put(&mut facts, "ROLE", role);
        if let Some(pid) = self.app {
            put(&mut facts, "APP_PID", pid);
        }
        if let Some(leader) = self.known_primary() {
            let (addr, port) = halves(&leader.app);
            put(&mut facts, "PRIMARY_NODE", &leader.node);
            put(&mut facts, "PRIMARY_ADDR", addr);
            put(&mut facts, "PRIMARY_PORT", port);
            put(&mut facts, "PRIMARY_EPOCH", leader.epoch);
        }
        put(&mut facts, "MEMBERS", names(self.members.keys()));
        self.sync_facts(&mut facts);
        facts
    }

    /// Whoever holds the lock now, this node too.
    fn known_primary(&self) -> Option<&LeaderValue> {
        let value = self.lead.leader_seen()?;
        let term = self.term_seen()?;
        let current = value.epoch == term.epoch && value.run == term.run;
        (current && value.state == LockState::Held).then_some(value)
    }

    fn sync_facts(&self, facts: &mut Facts) {
        use crate::decide::lead::SyncMode;
        let mode = match self.set.lead.sync {
            SyncMode::Off => "off",
            SyncMode::On => "on",
            SyncMode::Strict(_) => "strict",
        };
        put(facts, "SYNC_MODE", mode);
        if let Some(sync) = self.sync_seen() {
            put(facts, "SYNC_MEMBERS", names(&sync.members));
            put(facts, "SYNC_ACKS", sync.acks);
        }
    }

    pub(crate) fn source_facts(&self, facts: &mut Facts, node: &NodeName, app: &str) {
        let (addr, port) = halves(app);
        put(facts, "SOURCE_NODE", node);
        put(facts, "SOURCE_ADDR", addr);
        put(facts, "SOURCE_PORT", port);
    }
}

pub(crate) fn with(mut facts: Facts, name: &str, value: impl ToString) -> Facts {
    put(&mut facts, name, value);
    facts
}
