//! What must hold in every state. The names are those of `docs/lease.md`.

use crate::decide::call::{Call, Entry, Verb};
use crate::decide::lead::Leadership;
use crate::decide::records::{LeaderValue, LockState, TermValue, decode};
use crate::world::{Ground, World};

impl World {
    /// The first invariant that does not hold.
    pub fn broken(&self, ground: &Ground) -> Option<&'static str> {
        if self.ghost.broken.is_some() {
            return self.ghost.broken;
        }
        let writable = self.nodes.iter().filter(|node| node.app.writable).count();
        if writable > 1 {
            return Some("S1: two writable");
        }
        for i in 0..self.nodes.len() {
            // Between two steps of a stopped node only its guard acts; after a step the core must know.
            let idle =
                matches!(self.leadership(i), Some(Leadership::Follower | Leadership::Taking));
            if self.nodes[i].app.writable && idle {
                return Some("S0: writable without a term");
            }
        }
        let leader = self.store.entries.get(&ground.keys.leader())?;
        let value = decode::<LeaderValue>(&leader.value)?;
        if value.state == LockState::Clean && leader.session.is_none() && writable > 0 {
            return Some("S5: clean while somebody is writable");
        }
        None
    }

    /// S2, S6 and the list, at the moment an acquisition is applied.
    pub fn check_acquisition(
        &mut self,
        ground: &Ground,
        i: usize,
        call: &Call,
        before: Option<&Entry>,
    ) {
        let Call::Txn(verbs) = call else { return };
        let locks = verbs.iter().any(|verb| matches!(verb, Verb::Lock(..)));
        let term = verbs.iter().find_map(|verb| match verb {
            Verb::Cas(key, _, value) if *key == ground.keys.term() => decode::<TermValue>(value),
            _ => None,
        });
        let (true, Some(term)) = (locks, term) else { return };
        if term.epoch <= self.ghost.epoch && !self.ghost.wiped {
            self.ghost.broken = Some("S2: an epoch was given twice");
        }
        self.ghost.epoch = self.ghost.epoch.max(term.epoch);
        let made = self.store.get(&ground.keys.cluster()).is_some();
        let before = before.and_then(|entry| decode::<TermValue>(&entry.value));
        if let Some(before) = before.filter(|_| made)
            && !before.eligible.contains(&self.identity(i).member())
        {
            self.ghost.broken = Some("S7: taken by a node that the list does not name");
        }
    }
}
