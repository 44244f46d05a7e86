//! Makes states that differ in names alone one state: times relative, indexes ranked, sessions and
//! operations renamed.

use crate::decide::lead::canon::{Visit, visit_call};
use crate::decide::time::At;
use crate::decide::types::{Index, OpId, SessionId};
use crate::world::{BASE, Ground, World};
use std::mem::take;

/// How many attempts a lock's value counts.
const MARK: &[u8] = b"\"n\":";

fn n_of(value: &[u8]) -> Option<(usize, usize, u64)> {
    let start = value.windows(MARK.len()).position(|w| w == MARK)? + MARK.len();
    let digits = value[start..].iter().take_while(|b| b.is_ascii_digit()).count();
    let n = std::str::from_utf8(&value[start..start + digits]).ok()?.parse().ok()?;
    Some((start, start + digits, n))
}

#[derive(Default)]
struct Collect {
    indexes: Vec<u64>,
    numbers: Vec<u64>,
    sessions: Vec<SessionId>,
    ops: Vec<u64>,
}

impl Visit for Collect {
    fn age(&mut self, _: &mut At) {}
    fn due(&mut self, _: &mut At) {}
    fn renewed(&mut self, _: &mut At) {}
    fn index(&mut self, index: &mut Index) {
        self.indexes.push(index.0);
    }
    fn op(&mut self, op: &mut OpId) {
        self.ops.push(op.0);
    }
    fn session(&mut self, session: &mut SessionId) {
        if !self.sessions.contains(session) {
            self.sessions.push(session.clone());
        }
    }
    fn n(&mut self, n: &mut u64) {
        self.numbers.push(*n);
    }
    fn value(&mut self, value: &mut Vec<u8>) {
        self.numbers.extend(n_of(value).map(|(_, _, n)| n));
    }
}

struct Rename<'a> {
    of: &'a Collect,
    ops: &'a [u64],
    oldest: u64,
}

fn rank(sorted: &[u64], value: u64) -> u64 {
    sorted.binary_search(&value).map_or(0, |at| at as u64)
}

fn name(at: usize) -> SessionId {
    thread_local! {
        static NAMES: Vec<SessionId> =
            (1..=64).map(|i| SessionId::new(&format!("s{i}"))).collect();
    }
    NAMES.with(|names| names[at].clone())
}

impl Visit for Rename<'_> {
    fn age(&mut self, at: &mut At) {
        at.0 = at.0.max(self.oldest);
    }
    fn due(&mut self, at: &mut At) {
        at.0 = at.0.max(BASE);
    }
    fn renewed(&mut self, at: &mut At) {
        at.0 = BASE + 5_000;
    }
    fn index(&mut self, index: &mut Index) {
        index.0 = rank(&self.of.indexes, index.0);
    }
    fn op(&mut self, op: &mut OpId) {
        op.0 = rank(self.ops, op.0);
    }
    fn session(&mut self, session: &mut SessionId) {
        let at = self.of.sessions.iter().position(|known| known == session);
        *session = name(at.expect("collected before"));
    }
    fn n(&mut self, n: &mut u64) {
        *n = rank(&self.of.numbers, *n);
    }
    fn value(&mut self, value: &mut Vec<u8>) {
        if let Some((start, end, n)) = n_of(value) {
            let ranked = rank(&self.of.numbers, n).to_string();
            value.splice(start..end, ranked.into_bytes());
        }
    }
}

fn sort(numbers: &mut Vec<u64>) {
    // Zero keeps its meaning: absent, or nothing yet.
    numbers.push(0);
    numbers.sort_unstable();
    numbers.dedup();
}

impl World {
    pub fn canonical(&mut self, ground: &Ground) {
        self.prune();
        let mut all = Collect::default();
        self.visit_shared(&mut all);
        let mut ops = Vec::with_capacity(self.nodes.len());
        for i in 0..self.nodes.len() {
            self.visit_node(i, &mut all);
            let mut own = take(&mut all.ops);
            sort(&mut own);
            ops.push(own);
        }
        sort(&mut all.indexes);
        sort(&mut all.numbers);
        let oldest = BASE - 2 * ground.rules.lease.max(ground.rules.lease_max);
        let mut rename = Rename { of: &all, ops: &[], oldest };
        self.visit_shared(&mut rename);
        for (i, own) in ops.iter().enumerate() {
            let mut rename = Rename { of: &all, ops: own, oldest };
            self.visit_node(i, &mut rename);
        }
        self.store.index = all.indexes.len() as u64 - 1;
        self.store.next_session = all.sessions.len() as u32;
        for node in &mut self.nodes {
            node.app.guard.0 = node.app.guard.0.max(BASE);
            if !node.app.writable {
                node.app.guard = At(0);
                node.app.epoch = Default::default();
                node.app.requires = Default::default();
            }
        }
        self.mail.sort_by_key(|mail| (mail.from, mail.id, mail.waiting, mail.told));
        self.net.sort_by_key(|message| (message.node, message.op, message.waiting));
    }

    fn visit_shared(&mut self, v: &mut impl Visit) {
        let snapshot = self.snapshot.as_deref_mut();
        for store in [&mut self.store].into_iter().chain(snapshot) {
            for entry in store.entries.values_mut() {
                v.index(&mut entry.modify);
                v.value(&mut entry.value);
                entry.session.iter_mut().for_each(|id| v.session(id));
            }
            for mut id in take(&mut store.sessions) {
                v.session(&mut id);
                store.sessions.insert(id);
            }
        }
    }

    fn visit_node(&mut self, i: usize, v: &mut impl Visit) {
        if let Some(lead) = &mut self.nodes[i].lead {
            lead.visit(v);
        }
        self.nodes[i].hook.iter_mut().for_each(|(op, _)| v.op(op));
        self.mail.iter_mut().filter(|mail| mail.from == i).for_each(|mail| v.op(&mut mail.id));
        for message in self.net.iter_mut().filter(|message| message.node == i) {
            v.op(&mut message.op);
            visit_call(&mut message.call, v);
            if let Some(Ok(crate::decide::call::Answer::Txn(entries))) = &mut message.result {
                for entry in entries {
                    v.index(&mut entry.modify);
                    entry.session.iter_mut().for_each(|id| v.session(id));
                }
            }
        }
    }
}
