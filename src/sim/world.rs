//! The world: virtual time, one queue of events, the nodes, and one Consul.
//!
//! What happens next is the first event of the queue; nothing else moves time. All chance comes
//! from one generator, so that a plan has one course. Must not: decide anything for a node.

use super::check::Check;
use super::fault::{Fault, Place};
use super::node::{Process, SimNode};
use super::queue::Queue;
use super::rng::Rng;
use super::swarm::Plan;
use super::trace::Trace;
use crate::decide::call::{Answer, Call, StoreError};
use crate::decide::io::{Effect, Input, Now};
use crate::decide::keys::Keys;
use crate::decide::lead::Leadership;
use crate::decide::types::{ClusterName, OpId};
use crate::store::memory::{Memory, State};

/// Steps of one input's whole answer: more is a core that never comes to rest.
const SETTLE_MOST: usize = 10_000;
/// Events of one moment: more is a world that goes round in a circle.
const STILL_MOST: usize = 100_000;
/// In so many events a node is asked once what it waits for.
const ASKED_EVERY: usize = 64;
/// Unix time at which worlds begin.
const WALL: u64 = 1_790_000_000_000;
/// How far back snapshots are kept, and how often they are taken.
const SNAPSHOTS: usize = 20;

pub enum Event {
    Fault(usize),
    /// An operator's second half of a fault.
    Later(Fault),
    Start {
        node: Place,
    },
    Wake {
        node: Place,
        process: u64,
    },
    Resume {
        node: Place,
    },
    /// An effect has taken its time.
    Carried {
        node: Place,
        process: u64,
    },
    Input {
        node: Place,
        process: u64,
        input: Input,
    },
    /// A request reaches Consul.
    Arrive {
        node: Place,
        process: u64,
        op: OpId,
        call: Call,
    },
    StoreAnswer {
        node: Place,
        process: u64,
        op: OpId,
        result: Result<Answer, StoreError>,
    },
    NoAnswer {
        node: Place,
        process: u64,
        op: OpId,
    },
    PeerArrives {
        from: Place,
        process: u64,
        op: OpId,
        call: Box<crate::decide::peer::PeerCall>,
    },
    PeerAnswer {
        node: Place,
        process: u64,
        op: OpId,
        result: Result<crate::decide::peer::Told, crate::decide::peer::PeerError>,
    },
    Watch {
        node: Place,
        process: u64,
        what: usize,
        turn: u64,
    },
    Watched {
        node: Place,
        process: u64,
        what: usize,
        turn: u64,
    },
    Volume {
        node: Place,
        process: u64,
        effect: Box<Effect>,
    },
    HookActs {
        node: Place,
        id: OpId,
    },
    HookEnds {
        node: Place,
        id: OpId,
    },
    HookKilled {
        node: Place,
        id: OpId,
    },
    Guard {
        node: Place,
    },
    Dead {
        node: Place,
        pid: u32,
        told: bool,
    },
    AppEnds {
        node: Place,
        pid: u32,
    },
    Left {
        node: Place,
        process: u64,
    },
    Write {
        node: Place,
        pid: u32,
    },
    Pull {
        node: Place,
        pid: u32,
    },
    Ack {
        node: Place,
        pid: u32,
        from: Place,
        len: usize,
    },
    Elect,
    CatchUp,
    Snapshot,
    Calm,
    Judge,
}

pub struct World<'a> {
    pub plan: &'a Plan,
    pub t: u64,
    pub rng: Rng,
    pub nodes: Vec<SimNode>,
    pub keys: Keys,
    pub consul: Memory,
    pub snapshots: Vec<(u64, State)>,
    pub check: Check,
    pub trace: Trace,
    pub rows: u64,
    pub ids: u64,
    queue: Queue,
    looks: usize,
    /// Draws what effects take, and whether a fault is aimed.
    pub pace: Rng,
}

impl<'a> World<'a> {
    pub fn new(plan: &'a Plan, trace: Trace) -> World<'a> {
        let keys = Keys::new(&ClusterName::new("sim"));
        let mut world = World {
            plan,
            t: 0,
            rng: Rng::new(plan.seed, 2),
            nodes: Vec::new(),
            keys,
            consul: Memory::new(0),
            snapshots: Vec::new(),
            check: Check::default(),
            trace,
            rows: 0,
            ids: 0,
            queue: Queue::default(),
            looks: 0,
            pace: Rng::new(plan.seed, 4),
        };
        for place in 0..plan.nodes {
            let node = world.machine(place);
            world.nodes.push(node);
            let at = world.rng.within(0, 2_000);
            world.at(at, Event::Start { node: place });
        }
        for (index, (at, _)) in plan.faults.iter().enumerate() {
            world.at(*at, Event::Fault(index));
        }
        if plan.faults.iter().any(|(_, fault)| matches!(fault, Fault::SnapshotRestored { .. })) {
            world.at(0, Event::Snapshot);
        }
        world.at(plan.faulty, Event::Calm);
        world.at(plan.length, Event::Judge);
        world
    }

    pub fn at(&mut self, t: u64, event: Event) {
        self.queue.push(t.max(self.t), event);
    }

    pub fn after(&mut self, ms: u64, event: Event) {
        self.at(self.t + ms, event);
    }

    /// To the end of the plan, or to the first thing that must not be.
    pub fn run(&mut self) {
        let mut still = 0;
        while let Some((t, event)) = self.queue.pop() {
            still = if t == self.t { still + 1 } else { 0 };
            assert!(still < STILL_MOST, "seed {}: time stands still at {t}", self.plan.seed);
            self.t = t;
            let judge = matches!(event, Event::Judge);
            self.happens(event);
            self.ask_why();
            if self.check.broken.is_some() || judge {
                return;
            }
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Fault(index) => self.strike(self.plan.faults[index].1),
            Event::Later(fault) => self.later(fault),
            Event::Start { node } => self.start(node),
            Event::Wake { node, process } => {
                let t = self.t;
                let due = self.process(node, process).is_some_and(|it| it.wake == t);
                if due {
                    self.give(node, Input::Tick);
                }
            }
            Event::Resume { node } => self.resume(node),
            Event::Carried { node, process } => {
                if self.process(node, process).is_some() {
                    self.settle(node);
                }
            }
            Event::Input { node, process, input } => self.give_to(node, process, input),
            Event::Arrive { node, process, op, call } => self.arrive(node, process, op, &call),
            Event::StoreAnswer { node, process, op, result } => {
                self.store_answer(node, process, op, result);
            }
            Event::NoAnswer { node, process, op } => self.no_answer(node, process, op),
            Event::PeerArrives { from, process, op, call } => {
                self.peer_arrives(from, process, op, *call);
            }
            Event::PeerAnswer { node, process, op, result } => {
                if self.process(node, process).is_some_and(|it| it.peer_calls.remove(&op)) {
                    self.give(node, Input::PeerReplied { id: op, result });
                }
            }
            Event::Watch { node, process, what, turn } => self.watch(node, process, what, turn),
            Event::Watched { node, process, what, turn } => {
                self.watch_over(node, process, what, turn);
            }
            Event::Volume { node, process, effect } => self.on_volume(node, process, *effect),
            Event::HookActs { node, id } => self.hook_acts(node, id),
            Event::HookEnds { node, id } => self.hook_ends(node, id),
            Event::HookKilled { node, id } => self.hook_timeout(node, id),
            Event::Guard { node } => self.guard_looks(node),
            Event::Dead { node, pid, told } => self.dead(node, pid, told),
            Event::AppEnds { node, pid } => self.app_ends(node, pid),
            Event::Left { node, process } => self.left(node, process),
            Event::Write { node, pid } => self.write(node, pid),
            Event::Pull { node, pid } => self.pull(node, pid),
            Event::Ack { node, pid, from, len } => self.ack(node, pid, from, len),
            Event::Elect => {
                self.consul.elect(crate::decide::time::At(self.t));
                self.poll_watches();
            }
            Event::CatchUp => {
                self.consul.catch_up();
                self.poll_watches();
            }
            Event::Snapshot => self.snapshot(),
            Event::Calm => self.calm(),
            Event::Judge => self.judge(),
        }
    }

    fn snapshot(&mut self) {
        if self.snapshots.len() == SNAPSHOTS {
            self.snapshots.remove(0);
        }
        self.snapshots.push((self.t, self.consul.snapshot()));
        self.after(1_000, Event::Snapshot);
    }

    pub fn process(&mut self, node: Place, id: u64) -> Option<&mut Process> {
        self.nodes[node].process.as_mut().filter(|process| process.id == id)
    }

    pub fn process_id(&self, node: Place) -> u64 {
        self.nodes[node].process.as_ref().map_or(0, |process| process.id)
    }

    pub fn now(&self, node: Place) -> Now {
        let it = &self.nodes[node];
        Now {
            at: it.clock.local(self.t),
            wall: (WALL + self.t).saturating_add_signed(it.wall_ahead),
        }
    }

    pub fn place(&self, name: &str) -> Option<Place> {
        self.nodes.iter().position(|node| node.name.as_str() == name)
    }

    pub fn give_to(&mut self, node: Place, process: u64, input: Input) {
        if self.process(node, process).is_some() {
            self.give(node, input);
        }
    }

    /// One more input; the sidecar takes it in when it runs.
    pub fn give(&mut self, node: Place, input: Input) {
        let Some(process) = &mut self.nodes[node].process else { return };
        process.inbox.push_back(input);
        self.settle(node);
    }

    /// As the driver's loop: one step, then its effects in their order, until nothing is left.
    pub fn settle(&mut self, node: Place) {
        match &mut self.nodes[node].process {
            Some(process) if !process.settling => process.settling = true,
            Some(_) | None => return,
        }
        let id = self.process_id(node);
        for turn in 0.. {
            assert!(turn < SETTLE_MOST, "seed {}: a core that never rests", self.plan.seed);
            if self.nodes[node].sidecar_until() > self.t {
                break;
            }
            if !self.carried(node, id) {
                break;
            }
            let now = self.now(node);
            let Some(process) = self.process(node, id) else { return };
            if let Some(effect) = process.late.pop_front() {
                self.act(node, effect);
                continue;
            }
            if process.leaving {
                break;
            }
            let Some(input) = process.inbox.pop_front() else { break };
            let mut out = Vec::new();
            process.node.step(now, input, &mut out);
            process.late.extend(out);
            self.pause_in_between(node);
            self.look(node);
        }
        if let Some(process) = self.process(node, id) {
            process.settling = false;
        }
        self.set_wake(node);
        self.tend_leader_watch(node);
    }

    fn set_wake(&mut self, node: Place) {
        let (t, clock) = (self.t, self.nodes[node].clock);
        // Stopped: its timer goes off when it goes on.
        let stopped = self.nodes[node].sidecar_until() > t;
        let Some(process) = &mut self.nodes[node].process else { return };
        if stopped {
            process.wake = 0;
            return;
        }
        let wake = clock.global(process.node.wake()).max(t + 1);
        if process.wake > t && process.wake <= wake {
            return;
        }
        process.wake = wake;
        let id = process.id;
        self.at(wake, Event::Wake { node, process: id });
    }

    pub fn resume(&mut self, node: Place) {
        // It needs no sidecar.
        self.guard_looks(node);
        if self.nodes[node].sidecar_until() <= self.t {
            self.give(node, Input::Tick);
        }
        self.check_writable();
    }

    /// What an observer sees after each step.
    fn look(&mut self, node: Place) {
        let it = &self.nodes[node];
        let Some(process) = &it.process else { return };
        let writable = it.writable(self.t);
        let idle = match process.node.leadership() {
            Leadership::Follower | Leadership::Taking => true,
            Leadership::Open { .. } | Leadership::Closed { .. } => false,
        };
        if writable && idle {
            self.broken(crate::decide::invariants::WRITABLE_WITHOUT_TERM);
        }
    }

    /// As somebody's `status` does now and then; it changes nothing.
    fn ask_why(&mut self) {
        self.looks += 1;
        if self.looks % ASKED_EVERY != 0 {
            return;
        }
        let node = self.looks / ASKED_EVERY % self.nodes.len();
        let now = self.now(node).at;
        if let Some(process) = &self.nodes[node].process {
            self.check.told.insert(process.node.last_reason().code);
            self.check.told.insert(process.node.explain(now).code);
        }
    }
}
