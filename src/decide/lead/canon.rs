//! For the model: every number of a machine, so that states which differ in names alone become one
//! state.
//!
//! Times become relative, indexes and operations are ranked, sessions renamed. What is not visited
//! stays as it is and can only make two states differ that are alike: never the reverse.

use super::super::call::{Call, Verb};
use super::super::time::At;
use super::super::types::{Index, OpId, SessionId};
use super::attempt::Step;
use super::machine::{Lead, Pending};
use super::take::Judged;
use super::term::Term;
use super::write::Write;
use std::mem::take;

pub(crate) trait Visit {
    /// A time whose age matters.
    fn age(&mut self, at: &mut At);
    /// A time of which only matters whether it has come.
    fn due(&mut self, at: &mut At);
    fn index(&mut self, index: &mut Index);
    fn op(&mut self, op: &mut OpId);
    fn session(&mut self, session: &mut SessionId);
    fn n(&mut self, n: &mut u64);
    fn value(&mut self, value: &mut Vec<u8>);
    /// Whether sessions are renewed on time; the model has them renewed always.
    fn renewed(&mut self, at: &mut At);
}

pub(crate) fn visit_call(call: &mut Call, v: &mut impl Visit) {
    match call {
        Call::Txn(verbs) => verbs.iter_mut().for_each(|verb| visit_verb(verb, v)),
        Call::SessionRenew(id) | Call::SessionDestroy(id) => v.session(id),
        Call::Read { .. }
        | Call::SessionCreate { .. }
        | Call::Register(_)
        | Call::Deregister { .. }
        | Call::CheckUpdate { .. }
        | Call::Registered(_)
        | Call::Passing { .. } => {}
    }
}

fn visit_verb(verb: &mut Verb, v: &mut impl Visit) {
    match verb {
        Verb::CheckIndex(_, index) | Verb::DeleteCas(_, index) => v.index(index),
        Verb::CheckSession(_, id) => v.session(id),
        Verb::Set(_, value) => v.value(value),
        Verb::Cas(_, index, value) => {
            v.index(index);
            v.value(value);
        }
        Verb::Lock(_, id, value) | Verb::Unlock(_, id, value) => {
            v.session(id);
            v.value(value);
        }
        Verb::GetTree(_) | Verb::CheckNotExists(_) | Verb::Delete(_) => {}
    }
}

fn visit_write(write: &mut Write, v: &mut impl Visit) {
    visit_call(&mut write.call, v);
    v.index(&mut write.index);
    let (op, times) = write.parts();
    op.into_iter().for_each(|op| v.op(op));
    times.into_iter().for_each(|at| v.due(at));
}

fn visit_judged(judged: &mut Judged, v: &mut impl Visit) {
    v.index(&mut judged.leader);
    v.index(&mut judged.term);
    v.index(&mut judged.sync);
}

impl Lead {
    pub(crate) fn visit(&mut self, v: &mut impl Visit) {
        self.told = None;
        self.visit_view(v);
        if let Some(term) = &mut self.term {
            visit_term(term, v);
        }
        self.visit_attempt(v);
        v.due(&mut self.idle_until);
        // An order stands until it is void: its end would only make fewer things happen.
        self.force.iter_mut().for_each(|force| v.renewed(&mut force.until));
        self.spare.iter_mut().for_each(|id| v.session(id));
        self.read_at.iter_mut().for_each(|at| v.due(at));
        for (mut id, mut session) in take(&mut self.sessions) {
            v.session(&mut id);
            session.op.iter_mut().for_each(|op| v.op(op));
            session.gone.iter_mut().for_each(|op| v.op(op));
            if session.is_doomed() {
                v.due(&mut session.at);
            } else {
                v.renewed(&mut session.at);
            }
            self.sessions.insert(id, session);
        }
        for (mut op, mut pending) in take(&mut self.ops) {
            v.op(&mut op);
            match &mut pending {
                Pending::Read { known, .. } => visit_judged(known, v),
                Pending::Session(id) => v.session(id),
                Pending::Create
                | Pending::Renewal
                | Pending::Take
                | Pending::Release
                | Pending::List
                | Pending::Sync
                | Pending::Cluster => {}
            }
            self.ops.insert(op, pending);
        }
        let mut next = OpId(self.next);
        v.op(&mut next);
        self.next = next.0;
    }

    fn visit_view(&mut self, v: &mut impl Visit) {
        if let Some(leader) = &mut self.view.leader {
            leader.session.iter_mut().for_each(|id| v.session(id));
            if let super::view::Body::Value(value) = &mut leader.body {
                v.n(&mut value.n);
            }
        }
        self.view.indexes().for_each(|index| v.index(index));
        v.age(&mut self.view.since);
        self.view.calm_until.iter_mut().for_each(|at| v.due(at));
        self.view.empty_since.iter_mut().for_each(|at| v.age(at));
    }

    fn visit_attempt(&mut self, v: &mut impl Visit) {
        if let Some(prep) = &mut self.prep {
            visit_judged(&mut prep.judged, v);
            v.age(&mut prep.started);
            v.due(&mut prep.go_at);
            if let Step::Asked(op) = &mut prep.look {
                v.op(op);
            }
            match &mut prep.session {
                Step::Wanted => {}
                Step::Asked(op) => v.op(op),
                Step::Have(id) => v.session(id),
            }
            prep.survey.iter_mut().for_each(|op| v.op(op));
            prep.read.iter_mut().for_each(|op| v.op(op));
        }
        self.promise.iter_mut().for_each(|promise| v.due(&mut promise.until));
        if let Some(taking) = &mut self.taking {
            v.session(&mut taking.session);
            v.age(&mut taking.sent);
            v.due(&mut taking.promote_from);
            visit_write(&mut taking.write, v);
            taking.values().for_each(|value| v.value(value));
        }
    }
}

fn visit_term(term: &mut Term, v: &mut impl Visit) {
    v.session(&mut term.session);
    term.proofs.times().for_each(|at| v.due(at));
    v.n(&mut term.renewal.n);
    term.renewal.next.iter_mut().for_each(|at| v.due(at));
    if let Some(attempt) = &mut term.renewal.attempt {
        v.op(&mut attempt.op);
        v.age(&mut attempt.sent);
        v.value(attempt.value());
    }
    term.hold.visit(v);
    v.due(&mut term.promote_from);
    if let Some(release) = &mut term.release {
        release.write.iter_mut().for_each(|write| visit_write(write, v));
        v.value(release.value());
    }
    term.list.write.iter_mut().for_each(|write| visit_write(write, v));
    let (at, write, hook) = term.syncing.parts();
    v.due(at);
    write.into_iter().for_each(|write| visit_write(write, v));
    hook.into_iter().for_each(|op| v.op(op));
    if let Some(cluster) = &mut term.cluster {
        v.index(&mut cluster.secret_index);
        v.due(&mut cluster.next);
        cluster.op.iter_mut().for_each(|op| v.op(op));
    }
}

/// Shifts every time into the past: the clock itself stays where it is.
struct Shift(u64);

impl Visit for Shift {
    fn age(&mut self, at: &mut At) {
        at.0 = at.0.saturating_sub(self.0);
    }
    fn due(&mut self, at: &mut At) {
        self.age(at);
    }
    fn renewed(&mut self, _: &mut At) {}
    fn index(&mut self, _: &mut Index) {}
    fn op(&mut self, _: &mut OpId) {}
    fn session(&mut self, _: &mut SessionId) {}
    fn n(&mut self, _: &mut u64) {}
    fn value(&mut self, _: &mut Vec<u8>) {}
}

impl Lead {
    /// `ms` pass on this node's clock.
    pub(crate) fn shift(&mut self, ms: u64) {
        self.visit(&mut Shift(ms));
    }
}
