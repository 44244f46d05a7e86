//! The world of the model: Consul, the nodes, what is on its way between them, and the little of a
//! node's life that the rules speak of. Every decision is the product's: this file only carries
//! calls and keeps the guard's promise.

use crate::decide::call::{Call, StoreError, Verb};
use crate::decide::invariants;
use crate::decide::keys::Keys;
use crate::decide::lead::fake::Fake;
use crate::decide::lead::{
    Disk, Lead, LeadConfig, LeadIn, LeadOut, Leadership, Request, Seen, Standing, Standpoint,
    SyncMode, SyncSet,
};
use crate::decide::reason::Reason;
use crate::decide::records::{Follows, SyncValue, TermValue, decode};
use crate::decide::time::{At, Span};
use crate::decide::types::{
    ClusterId, ClusterName, DiskId, Epoch, Identity, NodeName, OpId, RunId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

pub use crate::mail::Mail;
pub use crate::rules::{Budget, Rules};

/// Every node's clock stands here after each action; only differences matter.
pub const BASE: u64 = 1_000_000;
const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct App {
    pub writable: bool,
    pub epoch: Epoch,
    pub guard: At,
    /// What a commit waits for.
    pub requires: SyncSet,
    /// It stopped receiving.
    pub frozen: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    pub lead: Option<Lead>,
    pub name: NodeName,
    pub disk: Disk,
    pub floor: Epoch,
    pub runs: u8,
    /// How many volumes it has had.
    pub volume: u8,
    pub follows: Option<Follows>,
    pub app: App,
    pub hook: Option<(OpId, SyncSet)>,
    pub shorter: bool,
    /// What its configuration says now.
    pub sync: SyncMode,
    /// Consul does not answer it.
    pub deaf: bool,
    /// The application is not running; its next start may cut its end.
    pub stopped: bool,
    pub cut: Option<SyncValue>,
    /// The application that was writable runs on, demoted by its hook.
    pub kept: bool,
    /// An operator ordered it to take: the list does not bind it.
    pub ordered: bool,
}

/// A call on its way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Message {
    pub node: usize,
    pub op: OpId,
    pub call: Call,
    /// Applied: what came of it.
    pub result: Option<Result<crate::decide::call::Answer, StoreError>>,
    /// The sender has no answer yet.
    pub waiting: bool,
}

/// What only the checker knows.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Ghost {
    /// The highest epoch ever acquired.
    pub epoch: Epoch,
    /// Nodes that have the one acknowledged write.
    pub acked: Option<BTreeSet<usize>>,
    pub broken: Option<&'static str>,
    /// Every key was deleted: epochs may repeat.
    pub wiped: bool,
}

/// How the calls of one step fare.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fate {
    /// All applied and answered at once.
    Fine,
    /// The first write goes on its way, its answer too.
    Slow,
    /// The first write is applied, and a copy of it goes on its way.
    Twice,
    /// Nobody else answers a survey.
    Mute,
    /// The first request for a promise goes on its way, its answer too.
    LateAsk,
    /// The first request for a promise is answered, and a copy of it goes on its way.
    EchoedAsk,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct World {
    pub store: Fake,
    pub nodes: Vec<Node>,
    pub net: Vec<Message>,
    pub mail: Vec<Mail>,
    pub ghost: Ghost,
    pub left: Budget,
    pub snapshot: Option<Box<Fake>>,
    /// What a giver has just answered.
    pub promise: Option<bool>,
}

/// Shared by all worlds of one search, on one thread.
pub struct Ground {
    pub rules: Rules,
    pub keys: Keys,
    pub config: LeadConfig,
}

pub type Shared = Rc<Ground>;

impl Ground {
    pub fn new(rules: Rules) -> Shared {
        let keys = Keys::new(&ClusterName::new("c"));
        let config = LeadConfig {
            lease: Span(rules.lease),
            lease_max: Span(rules.lease_max),
            request_timeout: Span(500),
            sync: rules.sync,
            hold: rules.hold,
            rank_step: Span(0),
            peer: String::new(),
            app: String::new(),
        };
        Rc::new(Ground { rules, keys, config })
    }
}

pub fn is_write(call: &Call) -> bool {
    match call {
        Call::Txn(verbs) => !verbs.iter().all(Verb::is_read),
        _ => false,
    }
}

impl World {
    /// Empty store, `count` empty nodes that have seen nothing.
    pub fn empty(ground: &Ground, count: usize, left: Budget) -> World {
        let nodes = (0..count).map(|i| {
            let twin = ground.rules.twin && i == count - 1;
            Node {
                lead: None,
                name: NAMES[if twin { 0 } else { i }].into(),
                disk: Disk::Empty,
                floor: Epoch::NONE,
                runs: 0,
                volume: 0,
                follows: None,
                app: App::default(),
                hook: None,
                shorter: false,
                sync: ground.rules.sync,
                deaf: false,
                stopped: false,
                cut: None,
                kept: false,
                ordered: false,
            }
        });
        let mut world = World {
            store: Fake::default(),
            nodes: nodes.collect(),
            net: Vec::new(),
            mail: Vec::new(),
            ghost: Ghost::default(),
            left,
            snapshot: None,
            promise: None,
        };
        for i in 0..count {
            world.start(ground, i);
        }
        world
    }

    /// `a` leads epoch 1 and is writable; `listed` nodes are eligible and follow it.
    pub fn made(
        ground: &Ground,
        count: usize,
        listed: usize,
        required: usize,
        left: Budget,
    ) -> World {
        let mut world = World::empty(ground, count, left);
        world.see_leader(ground, 0, Fate::Fine);
        world.see(ground, 0, Fate::Fine);
        world.bootstrapped(ground, 0, Fate::Fine);
        // The first bootstrap's wait, with its renewals.
        while !world.nodes[0].app.writable {
            world.nodes[0].lead.as_mut().expect("started").shift(ground.rules.slow_tick / 2);
            world.step(ground, 0, LeadIn::Tick, Fate::Fine);
        }
        for i in 1..listed {
            let member = world.identity(i).member();
            world.step(ground, 0, LeadIn::Admit(member), Fate::Fine);
        }
        if required > 0 {
            let ready = (1..=required).map(|i| world.nodes[i].name.clone()).collect();
            world.step(ground, 0, LeadIn::SyncReady(ready), Fate::Fine);
            let (id, set) = world.nodes[0].hook.take().expect("the first is hooked, then written");
            world.nodes[0].app.requires = set;
            world.step(ground, 0, LeadIn::SyncHooked { id, ok: true }, Fate::Fine);
        }
        // Up to the very moment of a renewal.
        loop {
            world.nodes[0].lead.as_mut().expect("started").shift(ground.rules.slow_tick / 2);
            world.step(ground, 0, LeadIn::Tick, Fate::Fine);
            if world.nodes[0].app.guard == At(BASE + ground.rules.lease) {
                break;
            }
        }
        for i in 1..if ground.rules.cloned { count } else { listed } {
            world.nodes[i].disk = Disk::Data;
            world.see_leader(ground, i, Fate::Fine);
            world.see(ground, i, Fate::Fine);
        }
        world
    }

    pub fn start(&mut self, ground: &Ground, i: usize) {
        let me = Identity { run: self.run(i), ..self.identity(i) };
        let config = self.config(ground, i);
        let node = &mut self.nodes[i];
        node.lead = Some(Lead::new(me, ground.keys.clone(), config, node.floor, At(BASE)));
    }

    /// The node's own configuration: changes reach each node by itself.
    pub fn config(&self, ground: &Ground, i: usize) -> LeadConfig {
        let node = &self.nodes[i];
        let mut config = LeadConfig { sync: node.sync, ..ground.config.clone() };
        if node.shorter {
            config.lease = Span(ground.rules.shorter);
        }
        config
    }

    /// `state/sync` counts for the term that `state/term` names: what is acknowledged now must not
    /// be lost.
    pub fn promises(&self, ground: &Ground) -> bool {
        let sync = self.store.entries.get(&ground.keys.sync());
        let sync = sync.and_then(|entry| decode::<SyncValue>(&entry.value));
        let term = self.store.entries.get(&ground.keys.term());
        let term = term.and_then(|entry| decode::<TermValue>(&entry.value));
        sync.zip(term).is_some_and(|(sync, term)| sync.epoch == term.epoch)
    }

    pub fn run(&self, i: usize) -> RunId {
        RunId::new(&format!("r{i}{}", self.nodes[i].runs))
    }

    pub fn identity(&self, i: usize) -> Identity {
        let node = &self.nodes[i];
        let disk = DiskId::new(&format!("{}{}", node.name, node.volume));
        Identity { node: node.name.clone(), run: self.run(i), disk }
    }

    pub fn leadership(&self, i: usize) -> Option<Leadership> {
        self.nodes[i].lead.as_ref().map(Lead::leadership)
    }

    /// One input to one node, and everything that follows at once.
    pub fn step(&mut self, ground: &Ground, i: usize, input: LeadIn, fate: Fate) -> bool {
        let mut fate = fate;
        self.feed(ground, i, input, &mut fate);
        self.live(i);
        fate == Fate::Fine
    }

    /// The watch of `leader` returns.
    pub fn see_leader(&mut self, ground: &Ground, i: usize, fate: Fate) -> bool {
        let entry = self.store.get(&ground.keys.leader());
        self.step(ground, i, LeadIn::Leader { entry, seen: Seen::Read }, fate)
    }

    /// The watch of `state/` returns: the node follows what it shows, and starts its application if
    /// that is down.
    pub fn see(&mut self, ground: &Ground, i: usize, fate: Fate) -> bool {
        let mut fate = fate;
        let (term, sync) =
            (self.store.get(&ground.keys.term()), self.store.get(&ground.keys.sync()));
        let cluster = self.store.get(&ground.keys.cluster()).is_some();
        self.follow(i, term.as_ref().and_then(|entry| decode(&entry.value)), cluster);
        if self.nodes[i].stopped {
            let barred = Some(Reason::new("model", "starting"));
            let bars = Standing { barred, ..self.standing(i) };
            self.feed(ground, i, LeadIn::Standing(bars), &mut fate);
        }
        self.feed(ground, i, LeadIn::State { term, sync, cluster, seen: Seen::Read }, &mut fate);
        self.start_application(i);
        let standing = self.standing(i);
        self.feed(ground, i, LeadIn::Standing(standing), &mut fate);
        self.live(i);
        fate == Fate::Fine
    }

    fn standing(&self, i: usize) -> Standing {
        let node = &self.nodes[i];
        Standing {
            disk: node.disk,
            follows: node.follows.clone(),
            may_bootstrap: true,
            cut_under: node.cut.clone(),
            kept: node.kept,
            barred: None,
        }
    }

    /// A node that sees another's term replicates from it, at once and with success.
    fn follow(&mut self, i: usize, term: Option<TermValue>, cluster: bool) {
        let own = self.run(i);
        let node = &mut self.nodes[i];
        let Some(term) = term.filter(|term| term.run != own && cluster && !node.app.writable)
        else {
            return;
        };
        if node.disk == Disk::Data
            && !matches!(node.lead.as_ref().map(Lead::leadership), Some(Leadership::Open { .. }))
        {
            let follows = Follows { epoch: term.epoch, node: term.node, run: term.run };
            if node.follows.as_ref() != Some(&follows) {
                node.app.frozen = false;
                node.cut = None;
                node.kept = false;
                node.follows = Some(follows);
            }
        }
    }

    pub fn feed(&mut self, ground: &Ground, i: usize, input: LeadIn, fate: &mut Fate) {
        let Some(lead) = &mut self.nodes[i].lead else { return };
        let mut out = Vec::new();
        lead.step(At(BASE), input, &mut out);
        for effect in out {
            match effect {
                LeadOut::Call { op, call, .. } => self.call(ground, i, op, call, fate),
                LeadOut::Survey { id, nodes, freeze, .. } => {
                    let answers = self.survey(i, &nodes, freeze, fate);
                    self.feed(ground, i, LeadIn::Surveyed { id, answers }, fate);
                }
                LeadOut::PersistFloor(epoch) => {
                    self.nodes[i].floor = self.nodes[i].floor.max(epoch);
                    self.feed(ground, i, LeadIn::FloorDurable(epoch), fate);
                }
                LeadOut::SyncHook { id, members, acks } => {
                    self.nodes[i].hook = Some((id, SyncSet { members, acks }));
                }
                LeadOut::Thaw => self.nodes[i].app.frozen = false,
                LeadOut::AskPromise { id, of, epoch, lease } => {
                    let (node, run) = (self.nodes[i].name.clone(), self.run(i));
                    let request = Request { node, run, epoch, lease };
                    self.ask(ground, Mail::new(i, id, of, request), fate);
                }
                LeadOut::PromiseAnswer { result, .. } => self.promise = Some(result.is_ok()),
                LeadOut::ClusterWritten | LeadOut::Decided(_) => {}
            }
        }
    }

    fn call(&mut self, ground: &Ground, i: usize, op: OpId, call: Call, fate: &mut Fate) {
        let write = is_write(&call);
        if write && *fate == Fate::Slow {
            *fate = Fate::Fine;
            self.net.push(Message { node: i, op, call, result: None, waiting: true });
            return;
        }
        if self.nodes[i].deaf {
            let result = Err(StoreError::Unknown(String::new()));
            self.feed(ground, i, LeadIn::Reply { op, result }, fate);
            return;
        }
        let result = self.apply(ground, i, &call);
        if write && *fate == Fate::Twice {
            *fate = Fate::Fine;
            self.net.push(Message { node: i, op, call, result: None, waiting: false });
        }
        self.feed(ground, i, LeadIn::Reply { op, result }, fate);
    }

    fn survey(
        &mut self,
        i: usize,
        nodes: &BTreeSet<NodeName>,
        freeze: bool,
        fate: &mut Fate,
    ) -> BTreeMap<NodeName, Standpoint> {
        let mute = *fate == Fate::Mute;
        if mute {
            *fate = Fate::Fine;
        }
        let mut answers = BTreeMap::new();
        for j in 0..self.nodes.len() {
            let up = self.nodes[j].lead.is_some() && nodes.contains(&self.nodes[j].name);
            if !up || mute && j != i || self.nodes[j].app.writable {
                continue;
            }
            self.nodes[j].app.frozen |= freeze;
            let order = self.ghost.acked.as_ref().map_or(0, |has| u64::from(has.contains(&j)));
            let standpoint = Standpoint { order, priority: 1, frozen: freeze };
            answers.insert(self.nodes[j].name.clone(), standpoint);
        }
        answers
    }

    /// What the rules ask of a node's life: promote under an open term, keep the guard's deadline,
    /// tell it is fenced.
    pub fn live(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        let Some(lead) = &node.lead else { return };
        let Leadership::Open { epoch, deadline, promote_from, .. } = lead.leadership() else {
            return;
        };
        if node.app.writable || At(BASE) >= promote_from && lead.cluster_known() {
            if !node.app.writable {
                node.app.requires = lead.sync_in_force();
                node.app.frozen = false;
                node.cut = None;
                node.stopped = false;
                node.kept = true;
                let lost = self.ghost.acked.as_ref().is_some_and(|has| !has.contains(&i));
                if lost {
                    self.ghost.broken = Some(invariants::LOST);
                }
            }
            node.app.writable = true;
            node.app.epoch = epoch;
            node.app.guard = deadline;
        }
    }

    /// The application is gone.
    pub fn stop(&mut self, i: usize) {
        self.nodes[i].stopped |= self.nodes[i].app.writable || self.nodes[i].kept;
        self.nodes[i].kept = false;
        self.nodes[i].app.writable = false;
    }

    /// Through `pre-start`: where others acknowledge, what this node alone may have is cut,
    /// acknowledged or not.
    fn start_application(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        let leads = matches!(
            node.lead.as_ref().map(Lead::leadership),
            Some(Leadership::Open { .. } | Leadership::Closed { fenced: false, .. })
        );
        if !node.stopped || leads {
            return;
        }
        let seen =
            node.lead.as_ref().and_then(|lead| lead.sync_seen()).map(|(sync, _)| sync.clone());
        if let Some(sync) = seen.filter(|sync| sync.members.iter().any(|name| *name != node.name)) {
            node.cut = Some(sync);
            if let Some(has) = &mut self.ghost.acked {
                has.remove(&i);
            }
        }
        self.nodes[i].stopped = false;
    }

    /// Time passes: slow for who holds, fast for who waits. Guards fire.
    /// Always worth a state.
    pub fn tick(&mut self, ground: &Ground) -> bool {
        for i in 0..self.nodes.len() {
            let holds = |lead: &Lead| lead.leadership() != Leadership::Follower;
            let node = &mut self.nodes[i];
            let slow = node.app.writable || node.lead.as_ref().is_some_and(holds);
            let ms = if slow { ground.rules.slow_tick } else { ground.rules.fast_tick };
            if let Some(lead) = &mut node.lead {
                lead.shift(ms);
            }
            node.app.guard = node.app.guard - Span(ms);
            if ground.rules.guard && node.app.writable && At(BASE) >= node.app.guard {
                self.stop(i);
            }
        }
        if ground.rules.eager {
            // The holder is silent; its guard is not.
            for i in 1..self.nodes.len() {
                self.step(ground, i, LeadIn::Tick, Fate::Fine);
            }
        }
        true
    }

    pub fn apply(
        &mut self,
        ground: &Ground,
        i: usize,
        call: &Call,
    ) -> Result<crate::decide::call::Answer, StoreError> {
        let before = self.store.get(&ground.keys.term());
        let promised = self.promises(ground);
        let result = self.store.apply(call);
        if result.is_ok() {
            self.check_acquisition(ground, i, call, before.as_ref());
            if promised && !self.promises(ground) {
                // Switched off, or taken by a node for which it is off: from now on rows may go.
                self.ghost.acked = None;
            }
        }
        result
    }

    /// The bootstrap hook is done.
    pub fn bootstrapped(&mut self, ground: &Ground, i: usize, fate: Fate) -> bool {
        self.nodes[i].disk = Disk::Data;
        let id = ClusterId::new(&format!("{i}{}", self.nodes[i].runs));
        let standing = self.standing(i);
        self.step(ground, i, LeadIn::Standing(standing), Fate::Fine);
        self.step(ground, i, LeadIn::WriteCluster { id, secret: vec![] }, fate)
    }

    pub fn fenced(&mut self, ground: &Ground, i: usize, fate: Fate) -> bool {
        self.stop(i);
        let done = self.step(ground, i, LeadIn::Fenced, fate);
        self.start_application(i);
        let standing = self.standing(i);
        self.step(ground, i, LeadIn::Standing(standing), Fate::Fine);
        done
    }

    /// By its hook: the application runs on.
    pub fn demoted(&mut self, ground: &Ground, i: usize, fate: Fate) -> bool {
        self.nodes[i].app.writable = false;
        let done = self.step(ground, i, LeadIn::Fenced, fate);
        let standing = self.standing(i);
        self.step(ground, i, LeadIn::Standing(standing), Fate::Fine);
        done
    }

    pub fn demote(&mut self, ground: &Ground, i: usize, fate: Fate) -> bool {
        let why = Reason::new("model", "asked");
        self.step(ground, i, LeadIn::Demote { why }, fate)
    }
}
