//! What can happen next: the nodes' own steps, the world's accidents, and the operator's.

use crate::decide::call::{Call, StoreError, Verb};
use crate::decide::lead::{Disk, Force, LeadIn, Leadership, SyncMode};
use crate::decide::time::At;
use crate::decide::types::{Epoch, Index, NodeName};
use crate::world::{App, Fate, Ground, World};
use std::collections::BTreeSet;

/// Beyond this many calls on their way nothing more is sent astray.
const MOST_UNDER_WAY: usize = 3;

/// An order stands until it is void; far beyond any search.
const FOREVER: u64 = 1 << 40;

/// What a node does once it is fenced.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum After {
    Release,
    TakeAgain,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Act {
    Tick,
    Step(usize, Fate),
    /// The watch of `leader` returns.
    SeeLeader(usize, Fate),
    /// The watch of `state/` returns.
    See(usize, Fate),
    Demote(usize, Fate),
    /// An operator orders the node to take.
    Force(usize, Fate),
    Bootstrapped(usize, Fate),
    /// The application's whole tree is gone.
    Fenced(usize, Fate),
    /// The application was demoted and runs on.
    Demoted(usize, Fate),
    Then(usize, After, Fate),
    Applied(usize),
    Answered(usize, Fate),
    TimedOut(usize, Fate),
    EndSession(usize),
    /// Consul answers this node no more.
    Cut(usize),
    Mend(usize),
    /// A request for a promise, or its answer.
    Delivered(usize),
    Unanswered(usize),
    Crash(usize),
    Start {
        node: usize,
        old_volume: bool,
    },
    PutGarbage,
    DeleteLeader,
    DeleteEverything,
    ShorterLease(usize),
    /// The node's `sync` is switched on or off while it runs.
    FlipSync(usize, Fate),
    Admit(usize, usize, Fate),
    Expel(usize, usize),
    /// The members as a bit mask of nodes.
    SyncReady(usize, u8, Fate),
    /// The hook is in force, and so many nodes have everything before it.
    Hooked(usize, u8, Fate),
    /// A write acknowledged by these.
    Commit(usize, u8),
    Replicate(usize, usize),
    Snapshot,
    Restore,
}

fn bits(mask: u8) -> impl Iterator<Item = usize> {
    (0..8).filter(move |i| mask >> i & 1 == 1)
}

impl World {
    /// Every act that may change something here.
    pub fn acts(&self, ground: &Ground, out: &mut Vec<Act>) {
        out.clear();
        if self.ghost.epoch.0 > ground.rules.last_epoch {
            return;
        }
        out.push(Act::Tick);
        for i in 0..self.nodes.len() {
            if self.nodes[i].lead.is_some() {
                self.node_acts(ground, i, out);
            } else {
                out.push(Act::Start { node: i, old_volume: true });
                out.push(Act::Start { node: i, old_volume: false });
            }
        }
        for (m, message) in self.net.iter().enumerate() {
            match (&message.result, message.waiting) {
                (None, true) => out.extend([Act::Applied(m), Act::TimedOut(m, Fate::Fine)]),
                (None, false) => out.push(Act::Applied(m)),
                (Some(_), true) => {
                    out.extend([Act::Answered(m, Fate::Fine), Act::TimedOut(m, Fate::Fine)]);
                }
                (Some(_), false) => {}
            }
        }
        for (m, mail) in self.mail.iter().enumerate() {
            out.push(Act::Delivered(m));
            out.extend(mail.waiting.then_some(Act::Unanswered(m)));
        }
        if self.left.sessions > 0 {
            out.extend((0..self.store.sessions.len()).map(Act::EndSession));
        }
        if self.left.puts > 0 {
            out.push(Act::PutGarbage);
        }
        if self.left.deletes > 0 {
            out.push(Act::DeleteLeader);
        }
        if self.left.wipes > 0 {
            out.push(Act::DeleteEverything);
        }
        if self.left.restores > 0 {
            out.push(if self.snapshot.is_none() { Act::Snapshot } else { Act::Restore });
        }
    }

    fn fates(&self) -> impl Iterator<Item = Fate> + use<> {
        let room = self.net.len() + self.mail.len() < MOST_UNDER_WAY;
        let slow = (room && self.left.slow > 0).then_some(Fate::Slow);
        let twice = (room && self.left.dup > 0).then_some(Fate::Twice);
        let mute = (self.left.mutes > 0).then_some(Fate::Mute);
        let late = (room && self.left.asks > 0).then_some(Fate::LateAsk);
        let echo = (room && self.left.echoes > 0).then_some(Fate::EchoedAsk);
        let faults = [slow, twice, mute, late, echo];
        [Fate::Fine].into_iter().chain(faults.into_iter().flatten())
    }

    fn node_acts(&self, ground: &Ground, i: usize, out: &mut Vec<Act>) {
        let node = &self.nodes[i];
        let Some(leadership) = self.leadership(i) else { return };
        for fate in self.fates() {
            if !ground.rules.eager {
                out.push(Act::Step(i, fate));
            }
            if !node.deaf {
                out.extend([Act::SeeLeader(i, fate), Act::See(i, fate)]);
            }
        }
        if node.deaf {
            out.push(Act::Mend(i));
        } else if self.left.cuts > 0 {
            out.push(Act::Cut(i));
        }
        if self.left.forces > 0 {
            out.push(Act::Force(i, Fate::Fine));
        }
        match leadership {
            Leadership::Open { .. } => {
                let made = node.lead.as_ref().is_some_and(|lead| lead.cluster_known());
                if !made && node.disk == Disk::Empty {
                    out.extend(self.fates().map(|fate| Act::Bootstrapped(i, fate)));
                }
                if self.left.demotions > 0 {
                    out.push(Act::Demote(i, Fate::Fine));
                }
            }
            Leadership::Closed { fenced: false, .. } => {
                out.push(Act::Fenced(i, Fate::Fine));
                if node.app.writable && ground.rules.runs_on {
                    out.push(Act::Demoted(i, Fate::Fine));
                }
            }
            Leadership::Closed { fenced: true, .. } => {
                for fate in self.fates() {
                    out.push(Act::Then(i, After::Release, fate));
                    out.push(Act::Then(i, After::TakeAgain, fate));
                }
            }
            Leadership::Follower | Leadership::Taking => {}
        }
        if self.left.crashes > 0 {
            out.push(Act::Crash(i));
        }
        if self.left.shorter > 0 && !node.shorter {
            out.push(Act::ShorterLease(i));
        }
        if self.left.flips > 0 {
            out.extend(self.fates().map(|fate| Act::FlipSync(i, fate)));
        }
        if node.app.writable {
            self.primary_acts(ground, i, out);
        }
        if let Some((_, set)) = &node.hook {
            let acks = set.acks;
            for mask in self.masks(&set.members).filter(|mask| mask.count_ones() >= acks) {
                out.extend(self.fates().map(|fate| Act::Hooked(i, mask, fate)));
            }
        }
    }

    fn primary_acts(&self, ground: &Ground, i: usize, out: &mut Vec<Act>) {
        let count = self.nodes.len();
        if self.left.lists > 0 {
            for j in (0..count).filter(|j| *j != i) {
                out.extend(self.fates().map(|fate| Act::Admit(i, j, fate)));
            }
            out.extend((0..count).filter(|j| *j != i).map(|j| Act::Expel(i, j)));
        }
        if self.left.syncs > 0 {
            for mask in (0..1_u8 << count).filter(|mask| mask >> i & 1 == 0) {
                out.extend(self.fates().map(|fate| Act::SyncReady(i, mask, fate)));
            }
        }
        let requires = &self.nodes[i].app.requires;
        // What is acknowledged before anything is promised may be lost.
        let promised = self.promises(ground);
        if self.left.commits > 0 && self.ghost.acked.is_none() && promised {
            let enough = |mask: &u8| mask.count_ones() == requires.acks;
            out.extend(self.masks(&requires.members).filter(enough).map(|m| Act::Commit(i, m)));
        }
        if let Some(has) = &self.ghost.acked
            && has.contains(&i)
        {
            let gets = |j: &usize| {
                *j != i && !has.contains(j) && self.nodes[*j].lead.is_some() && self.receives(*j)
            };
            out.extend((0..count).filter(gets).map(|j| Act::Replicate(i, j)));
        }
    }

    fn receives(&self, j: usize) -> bool {
        !self.nodes[j].app.frozen && !self.nodes[j].app.writable
    }

    /// Subsets of these nodes that can receive, as masks.
    fn masks(&self, members: &BTreeSet<NodeName>) -> impl Iterator<Item = u8> + use<> {
        let all: u8 = (0..self.nodes.len())
            .filter(|j| members.contains(&self.nodes[*j].name) && self.receives(*j))
            .map(|j| 1 << j)
            .sum();
        (0..=all).filter(move |mask| mask & !all == 0)
    }

    /// Does it; false when it changed nothing worth a state.
    pub fn act(&mut self, ground: &Ground, act: Act) -> bool {
        match act {
            Act::Tick => self.tick(ground),
            Act::Step(i, fate) => {
                let done = self.step(ground, i, LeadIn::Tick, fate);
                self.spend(fate, done)
            }
            Act::SeeLeader(i, fate) => {
                let done = self.see_leader(ground, i, fate);
                self.spend(fate, done)
            }
            Act::See(i, fate) => {
                let done = self.see(ground, i, fate);
                self.spend(fate, done)
            }
            Act::Demote(i, fate) => {
                self.left.demotions -= 1;
                self.demote(ground, i, fate)
            }
            Act::Bootstrapped(i, fate) => {
                let done = self.bootstrapped(ground, i, fate);
                self.spend(fate, done)
            }
            Act::Fenced(i, fate) => self.fenced(ground, i, fate),
            Act::Force(i, fate) => self.order(ground, i, fate),
            Act::Demoted(i, fate) => self.demoted(ground, i, fate),
            Act::Then(i, After::Release, fate) => {
                let done = self.step(ground, i, LeadIn::Release { to: None }, fate);
                self.spend(fate, done)
            }
            Act::Then(i, After::TakeAgain, fate) => {
                let done = self.step(ground, i, LeadIn::TakeAgain, fate);
                self.spend(fate, done)
            }
            Act::Applied(m) => self.applied(ground, m),
            Act::Answered(m, fate) => {
                let message = self.net.remove(m);
                let result = message.result.expect("only an applied call is answered");
                self.step(ground, message.node, LeadIn::Reply { op: message.op, result }, fate)
            }
            Act::TimedOut(m, fate) => self.timed_out(ground, m, fate),
            Act::EndSession(s) => self.end_session(s),
            Act::Cut(i) | Act::Mend(i) => self.cut(i, act == Act::Cut(i)),
            Act::Delivered(m) => self.delivered(ground, m),
            Act::Unanswered(m) => self.unanswered(ground, m),
            Act::Crash(i) => self.crash(i),
            Act::Start { node, old_volume } => self.restart(ground, node, old_volume),
            Act::PutGarbage
            | Act::DeleteLeader
            | Act::DeleteEverything
            | Act::Snapshot
            | Act::Restore => self.operate(ground, act),
            Act::ShorterLease(i) => self.shorten(ground, i),
            Act::FlipSync(i, fate) => self.flip(ground, i, fate),
            Act::Admit(i, j, fate) => {
                self.left.lists -= 1;
                let member = self.identity(j).member();
                let done = self.step(ground, i, LeadIn::Admit(member), fate);
                self.spend(fate, done)
            }
            Act::Expel(i, j) => {
                self.left.lists -= 1;
                let member = self.identity(j).member();
                self.step(ground, i, LeadIn::Expel(member), Fate::Fine)
            }
            Act::SyncReady(..) | Act::Hooked(..) | Act::Commit(..) | Act::Replicate(..) => {
                self.replication(ground, act)
            }
        }
    }

    fn end_session(&mut self, place: usize) -> bool {
        self.left.sessions -= 1;
        let id = self.store.sessions.iter().nth(place).cloned().expect("listed");
        self.store.end_session(&id);
        true
    }

    /// An operator orders this node to take what it sees.
    fn order(&mut self, ground: &Ground, i: usize, fate: Fate) -> bool {
        self.left.forces -= 1;
        self.nodes[i].ordered = true;
        let seen = self.nodes[i].lead.as_ref().and_then(|lead| lead.term_seen());
        let against = seen.map(|(term, _)| (term.epoch, term.run.clone()));
        let force = Force { against, above: Epoch::NONE, until: At(FOREVER) };
        self.step(ground, i, LeadIn::Force(Some(force)), fate)
    }

    fn cut(&mut self, i: usize, deaf: bool) -> bool {
        self.left.cuts -= u8::from(deaf);
        self.nodes[i].deaf = deaf;
        true
    }

    fn spend(&mut self, fate: Fate, done: bool) -> bool {
        if !done {
            // The fate found no call to fall upon: the same as nothing.
            return false;
        }
        match fate {
            Fate::Fine => {}
            Fate::Slow => self.left.slow -= 1,
            Fate::Twice => self.left.dup -= 1,
            Fate::Mute => self.left.mutes -= 1,
            Fate::LateAsk => self.left.asks -= 1,
            Fate::EchoedAsk => self.left.echoes -= 1,
        }
        true
    }

    fn applied(&mut self, ground: &Ground, m: usize) -> bool {
        let (node, call) = (self.net[m].node, self.net[m].call.clone());
        let result = self.apply(ground, node, &call);
        if self.net[m].waiting {
            self.net[m].result = Some(result);
        } else {
            self.net.remove(m);
        }
        true
    }

    fn timed_out(&mut self, ground: &Ground, m: usize, fate: Fate) -> bool {
        let (node, op) = (self.net[m].node, self.net[m].op);
        if self.net[m].result.is_some() {
            self.net.remove(m);
        } else {
            self.net[m].waiting = false;
        }
        let result = Err(StoreError::Unknown(String::new()));
        self.step(ground, node, LeadIn::Reply { op, result }, fate)
    }

    fn crash(&mut self, i: usize) -> bool {
        self.left.crashes -= 1;
        self.stop(i);
        self.nodes[i].lead = None;
        self.nodes[i].app = App::default();
        self.nodes[i].hook = None;
        self.nodes[i].follows = None;
        self.net.iter_mut().filter(|m| m.node == i).for_each(|m| m.waiting = false);
        self.net.retain(|m| m.waiting || m.result.is_none());
        // Its own requests may arrive yet; those to it name a run that is no more.
        let gone = self.identity(i).member();
        self.mail.iter_mut().filter(|mail| mail.from == i).for_each(|mail| mail.waiting = false);
        self.mail.retain(|mail| match mail.told {
            Some(_) => mail.waiting,
            None => mail.of != gone,
        });
        true
    }

    fn restart(&mut self, ground: &Ground, i: usize, old_volume: bool) -> bool {
        let node = &mut self.nodes[i];
        node.runs += 1;
        if !old_volume {
            node.volume += 1;
            node.floor = Epoch::NONE;
            node.disk = Disk::Empty;
            node.stopped = false;
            node.cut = None;
            if let Some(has) = &mut self.ghost.acked {
                has.remove(&i);
            }
        }
        self.start(ground, i);
        true
    }

    fn operate(&mut self, ground: &Ground, act: Act) -> bool {
        let leader = ground.keys.leader();
        match act {
            Act::PutGarbage => {
                self.left.puts -= 1;
                self.store.put(&leader, b"garbage");
            }
            Act::DeleteLeader => {
                self.left.deletes -= 1;
                self.store.delete(&leader);
            }
            Act::DeleteEverything => {
                self.left.wipes -= 1;
                self.ghost.wiped = true;
                for key in self.store.entries.keys().cloned().collect::<Vec<_>>() {
                    self.store.delete(&key);
                }
            }
            Act::Snapshot => self.snapshot = Some(Box::new(self.store.clone())),
            Act::Restore => {
                self.left.restores -= 1;
                let index = self.store.index;
                self.store = *self.snapshot.take().expect("taken before");
                self.store.index = index;
            }
            _ => return false,
        }
        true
    }

    fn shorten(&mut self, ground: &Ground, i: usize) -> bool {
        self.left.shorter -= 1;
        self.nodes[i].shorter = true;
        let config = self.config(ground, i);
        self.step(ground, i, LeadIn::Config(config), Fate::Fine);
        true
    }

    fn flip(&mut self, ground: &Ground, i: usize, fate: Fate) -> bool {
        self.left.flips -= 1;
        let node = &mut self.nodes[i];
        node.sync = match node.sync {
            SyncMode::Off => SyncMode::On,
            SyncMode::On | SyncMode::Strict(_) => SyncMode::Off,
        };
        let config = self.config(ground, i);
        let done = self.step(ground, i, LeadIn::Config(config), fate);
        self.spend(fate, done)
    }

    fn replication(&mut self, ground: &Ground, act: Act) -> bool {
        match act {
            Act::SyncReady(i, mask, fate) => {
                self.left.syncs -= 1;
                let ready = bits(mask).map(|j| self.nodes[j].name.clone()).collect();
                let done = self.step(ground, i, LeadIn::SyncReady(ready), fate);
                return self.spend(fate, done);
            }
            Act::Hooked(i, mask, fate) => {
                let Some((id, set)) = self.nodes[i].hook.take() else { return false };
                if let Some(has) = &mut self.ghost.acked
                    && has.contains(&i)
                {
                    has.extend(bits(mask));
                }
                self.nodes[i].app.requires = set;
                let done = self.step(ground, i, LeadIn::SyncHooked { id, ok: true }, fate);
                return self.spend(fate, done);
            }
            Act::Commit(i, mask) => {
                self.left.commits -= 1;
                self.ghost.acked = Some(bits(mask).chain([i]).collect());
            }
            Act::Replicate(_, j) => {
                if let Some(has) = &mut self.ghost.acked {
                    has.insert(j);
                }
            }
            _ => return false,
        }
        true
    }

    /// Calls that can never be applied any more are gone.
    pub fn prune(&mut self) {
        let store = &self.store;
        let stale = |call: &Call| match call {
            Call::Txn(verbs) => verbs.iter().any(|verb| match verb {
                // A key's index never comes back, but for a restore.
                Verb::CheckIndex(key, index) | Verb::Cas(key, index, _) => {
                    let stands = store.entries.get(key).map_or(Index(0), |entry| entry.modify);
                    *index != Index(0) && *index != stands
                }
                Verb::CheckSession(_, id) | Verb::Lock(_, id, _) | Verb::Unlock(_, id, _) => {
                    !store.sessions.contains(id)
                }
                _ => false,
            }),
            _ => false,
        };
        if self.left.restores == 0 {
            self.net.retain(|m| m.waiting || !stale(&m.call));
        }
    }
}
