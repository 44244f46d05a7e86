//! What must hold in every state. The names are those of `docs/lease.md`.

use crate::acts::{Act, After};
use crate::decide::call::{Call, Entry, Verb};
use crate::decide::invariants::{self, Broken};
use crate::decide::lead::{Leadership, SyncMode};
use crate::decide::records::{SyncValue, TermValue, decode};
use crate::world::{Budget, Fate, Ground, World};

/// Ticks in which a leader must have come: a lease of four, the wait for it, and a second between
/// attempts.
const PATIENCE: usize = 16;

impl World {
    /// The first invariant that does not hold.
    pub fn broken(&self, ground: &Ground) -> Option<&'static str> {
        if self.ghost.broken.is_some() {
            return self.ghost.broken;
        }
        let writable = self.nodes.iter().filter(|node| node.app.writable).count();
        if let Err(broken) = invariants::one_writable(writable) {
            return Some(broken);
        }
        for i in 0..self.nodes.len() {
            // Between two steps of a stopped node only its guard acts; after a step the core must
            // know.
            let idle =
                matches!(self.leadership(i), Some(Leadership::Follower | Leadership::Taking));
            if self.nodes[i].app.writable && idle {
                return Some(invariants::WRITABLE_WITHOUT_TERM);
            }
        }
        let leader = self.store.entries.get(&ground.keys.leader())?;
        invariants::clean_is_true(&leader.value, leader.session.is_some(), writable).err()
    }

    /// S4: the faults stop and everything arrives. Whoever is left alone must come to be writable.
    pub fn comes_to_lead(&self, ground: &Ground) -> bool {
        let on = self.nodes.iter().any(|node| node.sync != SyncMode::Off);
        // Switched on and off again, with the set of the leader alone still on its way.
        let late = self.net.iter().any(|message| match &message.call {
            Call::Txn(verbs) => verbs
                .iter()
                .any(|verb| matches!(verb, Verb::Cas(key, ..) if *key == ground.keys.sync())),
            _ => false,
        });
        if ground.rules.sync != SyncMode::Off || on || late || self.promises(ground) {
            // Others must answer: all of them together.
            return self.leads_in_the_end(ground, None);
        }
        (0..self.nodes.len()).all(|i| self.leads_in_the_end(ground, Some(i)))
    }

    fn leads_in_the_end(&self, ground: &Ground, alone: Option<usize>) -> bool {
        let mut world = self.clone();
        world.left = Budget::default();
        world.nodes.iter_mut().for_each(|node| node.deaf = false);
        let here = |i: usize| alone.is_none_or(|only| only == i);
        for i in (0..world.nodes.len()).filter(|i| !here(*i)) {
            world.left.crashes = 1;
            world.act(ground, Act::Crash(i));
        }
        for _ in 0..PATIENCE {
            while !world.mail.is_empty() {
                world.act(ground, Act::Delivered(0));
            }
            while !world.net.is_empty() {
                let act = if world.net[0].result.is_some() {
                    Act::Answered(0, Fate::Fine)
                } else {
                    Act::Applied(0)
                };
                world.act(ground, act);
                world.net.retain(|message| message.waiting || message.result.is_none());
            }
            for i in (0..world.nodes.len()).filter(|i| here(*i)) {
                if world.nodes[i].lead.is_none() {
                    world.act(ground, Act::Start { node: i, old_volume: true });
                }
                world.act(ground, Act::SeeLeader(i, Fate::Fine));
                world.act(ground, Act::See(i, Fate::Fine));
                if let Some((_, set)) = world.nodes[i].hook.clone() {
                    let named = |j: &usize| set.members.contains(&world.nodes[*j].name);
                    let mask = (0..world.nodes.len()).filter(named).map(|j| 1 << j).sum();
                    world.act(ground, Act::Hooked(i, mask, Fate::Fine));
                }
                match world.leadership(i) {
                    Some(Leadership::Closed { fenced: false, .. }) => {
                        world.act(ground, Act::Fenced(i, Fate::Fine));
                    }
                    Some(Leadership::Closed { fenced: true, .. }) => {
                        world.act(ground, Act::Then(i, After::Release, Fate::Fine));
                    }
                    Some(Leadership::Open { .. } | Leadership::Follower | Leadership::Taking)
                    | None => {}
                }
            }
            if world.nodes.iter().any(|node| node.app.writable) {
                return true;
            }
            world.act(ground, Act::Tick);
            world.canonical(ground);
        }
        world.row_is_out_of_reach(ground)
    }

    /// The one known stop, on purpose: a set that shrank to its leader while that lost its tail
    /// names nobody who has the acknowledged write. To lead would lose it; it takes an operator.
    fn row_is_out_of_reach(&self, ground: &Ground) -> bool {
        let Some(has) = &self.ghost.acked else { return false };
        let Some(entry) = self.store.entries.get(&ground.keys.sync()) else { return false };
        let Some(sync) = decode::<SyncValue>(&entry.value) else { return false };
        let mut named =
            self.nodes.iter().enumerate().filter(|(_, n)| sync.members.contains(&n.name));
        named.all(|(i, node)| node.cut.is_some() && !has.contains(&i))
    }

    /// S2 and the list, at the moment an acquisition is applied.
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
        if !self.ghost.wiped {
            self.hold(invariants::epoch_grows(self.ghost.epoch, term.epoch));
        }
        self.ghost.epoch = self.ghost.epoch.max(term.epoch);
        let made = self.store.get(&ground.keys.cluster()).is_some();
        let before = before.and_then(|entry| decode::<TermValue>(&entry.value));
        // Whoever takes has it: nothing may be promised afterwards. What a node takes again
        // and is applied after its term closed is not used: it copies the set, goes back clean.
        let again = before.as_ref().is_some_and(|before| before.run == term.run);
        if !again && self.ghost.acked.as_ref().is_some_and(|has| !has.contains(&i)) {
            self.ghost.broken = Some("S8: taken without an acknowledged write");
        }
        if made && !self.nodes[i].ordered {
            self.hold(invariants::listed(before.as_ref(), &self.nodes[i].name));
        }
    }

    fn hold(&mut self, result: Result<(), Broken>) {
        if let Err(broken) = result {
            self.ghost.broken = Some(broken);
        }
    }
}
