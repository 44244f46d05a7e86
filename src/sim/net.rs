//! The network: requests to Consul and their answers, blocking queries, and what nodes ask each
//! other. Each half of an exchange is delayed and lost by itself.

use super::fault::{Lost, Place};
use super::world::{Event, World};
use crate::decide::call::{Answer, Call, Entry, StoreError};
use crate::decide::io::{self, Input};
use crate::decide::keys::Key;
use crate::decide::lead::Seen;
use crate::decide::peer::{PeerCall, PeerError, Told};
use crate::decide::time::At;
use crate::decide::types::{Index, OpId};
use crate::store::memory;
use std::collections::BTreeSet;

/// As the driver's watches wait.
const WAITS: [u64; 2] = [5_000, 30_000];
/// A watch that failed begins again after this.
const WATCH_AGAIN: u64 = 200;
/// As the driver numbers what comes from outside.
const OUTSIDE: u64 = 1 << 48;

/// Before the end of its wait by more than a tenth, a return without news is the sign of a restore.
fn nearly(wait: u64) -> u64 {
    wait * 9 / 10
}

impl World<'_> {
    /// One way, in milliseconds.
    fn way(&mut self) -> u64 {
        self.rng.within(0, self.plan.net)
    }

    fn consul_way(&mut self, node: Place) -> u64 {
        let (by, until) = self.nodes[node].trouble.consul_slow;
        let slow = if until > self.t { self.rng.within(0, by) } else { 0 };
        self.way() + slow
    }

    fn consul_loses(&mut self, node: Place, half: Lost) -> bool {
        let (t, trouble) = (self.t, &self.nodes[node].trouble);
        let lost = trouble.consul_lost.filter(|(_, until)| *until > t);
        let cut = lost.is_some_and(|(lost, _)| lost == half || lost == Lost::Both);
        let (per_mille, until) = trouble.consul_loss;
        cut || trouble.isolated > t || (until > t && self.rng.chance(per_mille))
    }

    fn consul_refuses(&self, node: Place) -> bool {
        let lost = self.nodes[node].trouble.consul_lost;
        lost.is_some_and(|(lost, until)| lost == Lost::Refused && until > self.t)
    }

    pub(super) fn call(&mut self, node: Place, op: OpId, call: Call, valid_until: Option<At>) {
        let now = self.now(node).at;
        let id = self.process_id(node);
        if io::is_over(valid_until, now) {
            let result = Err(io::not_sent());
            self.give(node, Input::StoreReply { op, result });
            return;
        }
        if self.consul_refuses(node) {
            let result = Err(StoreError::NotSent("nobody listens".into()));
            self.after(
                1,
                Event::Input { node, process: id, input: Input::StoreReply { op, result } },
            );
            return;
        }
        if let Some(process) = self.process(node, id) {
            process.calls.insert(op);
        }
        let limit = self.nodes[node].settings.lead.request_timeout;
        let over = self.nodes[node].clock.global(now + limit);
        self.at(over, Event::NoAnswer { node, process: id, op });
        if !self.consul_loses(node, Lost::Requests) {
            let way = self.consul_way(node);
            self.after(way, Event::Arrive { node, process: id, op, call });
        }
    }

    pub(super) fn arrive(&mut self, node: Place, process: u64, op: OpId, call: &Call) {
        let result = match call {
            Call::Register(_) | Call::Deregister { .. } | Call::CheckUpdate { .. } => {
                Ok(Answer::Done)
            }
            Call::Registered(_) => Ok(Answer::Known(true)),
            Call::Passing { .. } => Ok(Answer::Passing(BTreeSet::new())),
            Call::Txn(_)
            | Call::Read { .. }
            | Call::SessionCreate { .. }
            | Call::SessionRenew(_)
            | Call::SessionDestroy(_) => self.applied((node, process), call),
        };
        if !self.consul_loses(node, Lost::Replies) {
            let way = self.consul_way(node);
            self.after(way, Event::StoreAnswer { node, process, op, result });
        }
    }

    fn applied(
        &mut self,
        (node, process): (Place, u64),
        call: &Call,
    ) -> Result<Answer, StoreError> {
        let before = self.before(call);
        let name = self.nodes[node].name.clone();
        let result = self.consul.call(At(self.t), name.as_str(), call);
        if result.is_ok() {
            self.check_applied((node, process), call, before);
        }
        self.poll_watches();
        result
    }

    pub(super) fn store_answer(
        &mut self,
        node: Place,
        process: u64,
        op: OpId,
        result: Result<Answer, StoreError>,
    ) {
        if self.process(node, process).is_some_and(|it| it.calls.remove(&op)) {
            self.give(node, Input::StoreReply { op, result });
        }
    }

    pub(super) fn no_answer(&mut self, node: Place, process: u64, op: OpId) {
        let limit = self.nodes[node].settings.lead.request_timeout;
        if self.process(node, process).is_some_and(|it| it.calls.remove(&op)) {
            let result = Err(StoreError::Unknown(format!("no answer within {limit}")));
            self.give(node, Input::StoreReply { op, result });
        }
    }

    /// A blocking query begins.
    pub(super) fn watch(&mut self, node: Place, process: u64, what: usize, turn: u64) {
        let t = self.t;
        let key = if what == 0 { self.keys.leader() } else { self.keys.state() };
        let refused = self.consul_refuses(node);
        let lost =
            self.consul_loses(node, Lost::Requests) || self.consul_loses(node, Lost::Replies);
        let Some(it) = self.process(node, process) else { return };
        let watch = &mut it.watches[what];
        if watch.turn != turn || watch.rests {
            return;
        }
        if refused || lost {
            watch.after = None;
            let again = if refused { WATCH_AGAIN } else { 1_000 };
            self.after(again, Event::Watch { node, process, what, turn });
            return;
        }
        let wait = if watch.after.is_some() { WAITS[what] } else { 0 };
        let after = watch.after.unwrap_or(0);
        watch.nearly_over = t + nearly(wait);
        let query = self.consul.query(key.as_str(), what == 1, after, At(t + wait));
        if let Some(it) = self.process(node, process) {
            it.watches[what].waits = Some(query);
        }
        self.poll(node, what);
        self.after(wait, Event::Watched { node, process, what, turn });
    }

    /// The end of its wait.
    pub(super) fn watch_over(&mut self, node: Place, process: u64, what: usize, turn: u64) {
        if self.process(node, process).is_some_and(|it| it.watches[what].turn == turn) {
            self.poll(node, what);
        }
    }

    pub(super) fn poll_watches(&mut self) {
        for node in 0..self.nodes.len() {
            for what in 0..WAITS.len() {
                self.poll(node, what);
            }
        }
    }

    fn poll(&mut self, node: Place, what: usize) {
        let t = self.t;
        let Some(process) = &self.nodes[node].process else { return };
        let watch = &process.watches[what];
        let Some(query) = &watch.waits else { return };
        if !self.consul.is_over(At(t), query) {
            return;
        }
        let Some(mut seen) = self.consul.poll(At(t), query) else { return };
        let (id, after) = (process.id, watch.after);
        let early = after.is_some_and(|after| {
            seen.index < after || (seen.index == after && t < watch.nearly_over)
        });
        if early {
            let key = if what == 0 { self.keys.leader() } else { self.keys.state() };
            seen = self.consul.read_plain(key.as_str(), what == 1);
        }
        let lost = self.consul_loses(node, Lost::Replies);
        let way = self.consul_way(node);
        let Some(process) = self.process(node, id) else { return };
        let watch = &mut process.watches[what];
        watch.waits = None;
        watch.turn += 1;
        let turn = watch.turn;
        if lost {
            watch.after = None;
            self.after(1_000, Event::Watch { node, process: id, what, turn });
            return;
        }
        watch.after = (!early).then_some(seen.index.max(1));
        let entries = entries(seen);
        let seen = if early { Seen::Early } else { Seen::Read };
        let input = match what {
            0 => Input::Leader { entry: entries.into_iter().next(), seen },
            _ => Input::State { entries, seen },
        };
        self.after(way, Event::Input { node, process: id, input });
        self.after(way, Event::Watch { node, process: id, what, turn });
    }

    /// The holder does not watch `leader`; afterwards it begins anew.
    pub(super) fn tend_leader_watch(&mut self, node: Place) {
        let Some(process) = &mut self.nodes[node].process else { return };
        let leads = process.node.deadline().is_some();
        let watch = &mut process.watches[0];
        if watch.rests == leads {
            return;
        }
        watch.rests = leads;
        watch.waits = None;
        watch.after = None;
        watch.turn += 1;
        let (id, turn) = (process.id, watch.turn);
        if !leads {
            self.after(0, Event::Watch { node, process: id, what: 0, turn });
        }
    }

    pub(super) fn is_cut(&self, from: Place, to: Place) -> bool {
        let (t, from_it, to_it) = (self.t, &self.nodes[from].trouble, &self.nodes[to].trouble);
        let cut = from_it.peer_cut.get(&to).is_some_and(|until| *until > t);
        cut || from_it.isolated > t || to_it.isolated > t
    }

    fn peer_way(&mut self, from: Place, to: Place) -> u64 {
        let mut way = self.way();
        for node in [from, to] {
            let (by, until) = self.nodes[node].trouble.peer_slow;
            way += if until > self.t { self.rng.within(0, by) } else { 0 };
        }
        way
    }

    pub(super) fn peer_call(&mut self, node: Place, op: OpId, call: PeerCall) {
        let id = self.process_id(node);
        let over = self.nodes[node].clock.global(self.now(node).at + call.timeout);
        if let Some(process) = self.process(node, id) {
            process.peer_calls.insert(op);
        }
        let result = Err(PeerError::Timeout(call.timeout));
        self.at(over, Event::PeerAnswer { node, process: id, op, result });
        let Some(to) = self.place(call.to.as_str()) else { return };
        if !self.is_cut(node, to) {
            let way = self.peer_way(node, to);
            let call = Box::new(call);
            self.after(way, Event::PeerArrives { from: node, process: id, op, call });
        }
    }

    pub(super) fn peer_arrives(&mut self, from: Place, process: u64, op: OpId, call: PeerCall) {
        let Some(to) = self.place(call.to.as_str()) else { return };
        let from_run = self.process(from, process).map(|it| it.run.clone());
        let name = self.nodes[from].name.clone();
        let Some(it) = &mut self.nodes[to].process else {
            let result = Err(PeerError::Unreachable("refused".into()));
            self.peer_back(to, from, process, op, result);
            return;
        };
        let Some(from_run) = from_run else { return };
        if it.run != call.run {
            let result = Err(PeerError::Unauthenticated("another run".into()));
            self.peer_back(to, from, process, op, result);
            return;
        }
        it.outside += 1;
        let id = OpId(OUTSIDE + it.outside);
        it.asked.insert(id, (from, process, op));
        self.give(to, Input::PeerAsked { id, from: name, from_run, ask: call.ask });
    }

    pub(super) fn peer_answer(&mut self, node: Place, id: OpId, told: Told) {
        let Some(process) = &mut self.nodes[node].process else { return };
        if let Some((to, process, op)) = process.asked.remove(&id) {
            self.peer_back(node, to, process, op, Ok(told));
        }
    }

    fn peer_back(
        &mut self,
        from: Place,
        to: Place,
        process: u64,
        op: OpId,
        result: Result<Told, PeerError>,
    ) {
        if !self.is_cut(from, to) {
            let way = self.peer_way(from, to);
            self.after(way, Event::PeerAnswer { node: to, process, op, result });
        }
    }
}

pub(super) fn entries(seen: memory::Seen) -> Vec<Entry> {
    let entry = |(key, row): (String, memory::Row)| Entry {
        key: Key::new(&key),
        value: row.value,
        modify: Index(row.modify),
        session: row.session,
    };
    seen.rows.into_iter().map(entry).collect()
}
