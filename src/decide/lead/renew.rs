//! Renewals: the proof, and the heartbeat that everyone watches (rules 3 to 5).
//!
//! One attempt at a time, bound to the session and to the index of `leader` as last seen; `n` grows
//! with every attempt. Only the answer to that very attempt moves the deadline, and only while the
//! term is open. Any other answer asks for a consistent read; the next attempt goes out at what
//! that shows.

use super::super::call::{Answer, Call, Entry, StoreError, Verb};
use super::super::records::{LeaderValue, LockState, encode};
use super::super::time::{At, Span};
use super::super::types::{Index, OpId};
use super::LeadOut;
use super::machine::{Lead, Pending};
use super::mutant::{self, Mutant};
use super::view::How;
use super::write::RETRY;
use super::{Seen, term::Term};

/// Renewals a lease.
const PER_LEASE: u64 = 3;
/// Failures in a row after which the next attempt waits.
const PATIENCE: u8 = 2;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Attempt {
    pub(super) op: OpId,
    pub(super) sent: At,
    lease: Span,
    value: Vec<u8>,
}

impl Attempt {
    #[cfg(test)]
    pub(super) fn value(&mut self) -> &mut Vec<u8> {
        &mut self.value
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Renewal {
    /// Of the last attempt.
    pub(super) n: u64,
    /// `None`: not before a read.
    pub(super) next: Option<At>,
    pub(super) attempt: Option<Attempt>,
    pub(super) failures: u8,
}

impl Renewal {
    pub(super) fn new(sent: At, lease: Span) -> Renewal {
        Renewal { n: 1, next: Some(sent + step(lease)), attempt: None, failures: 0 }
    }
}

pub(super) fn step(lease: Span) -> Span {
    Span(lease.0 / PER_LEASE)
}

impl Lead {
    pub(super) fn drive_renewal(&mut self, now: At, out: &mut Vec<LeadOut>) {
        let due = |term: &Term| {
            (term.open || mutant::on(Mutant::M23) && term.release.is_none())
                && term.renewal.attempt.is_none()
                && term.renewal.next.is_some_and(|at| at <= now)
        };
        if !self.term.as_ref().is_some_and(due) || !self.holds_lock() {
            return;
        }
        let lease = self.config.lease;
        let index = self.view.leader_index();
        let Some(term) = &mut self.term else { return };
        term.proofs.before_sending(now, lease);
        if !mutant::on(Mutant::M20) {
            term.renewal.n += 1;
        }
        let (epoch, n, deadline) = (term.epoch, term.renewal.n, term.proofs.deadline());
        let session = term.session.clone();
        let value = encode(&self.leader_value(epoch, n, lease, LockState::Held, None));
        let key = self.keys.leader();
        let verbs = if plain_lock() {
            vec![Verb::Lock(key, session, value.clone())]
        } else {
            vec![Verb::CheckSession(key.clone(), session), Verb::Cas(key, index, value.clone())]
        };
        let op = self.call(Pending::Renewal, Call::Txn(verbs), Some(deadline), out);
        if let Some(term) = &mut self.term {
            term.renewal.attempt = Some(Attempt { op, sent: now, lease, value });
            term.renewal.next = None;
        }
    }

    pub(super) fn renewal_reply(
        &mut self,
        now: At,
        op: OpId,
        result: Result<Answer, StoreError>,
        out: &mut Vec<LeadOut>,
    ) {
        let Some(term) = &mut self.term else { return };
        let Some(attempt) = term.renewal.attempt.take_if(|attempt| attempt.op == op) else {
            return;
        };
        match result {
            Ok(answer) => {
                if mutant::on(Mutant::M20) {
                    term.renewal.n += 1;
                }
                term.renewal.failures = 0;
                term.renewal.next = Some(attempt.sent + step(attempt.lease));
                if term.open || mutant::on(Mutant::M23) {
                    let from = if mutant::on(Mutant::M01) { now } else { attempt.sent };
                    term.proofs.confirmed(from, attempt.lease);
                    term.open = true;
                }
                let session = term.session.clone();
                self.answered(now, out);
                let entry = self.own_leader_entry(&answer, attempt.value, Some(session));
                if let Some(entry) = entry {
                    self.saw_own_leader(now, &entry);
                } else {
                    self.want_read(now);
                }
            }
            Err(_) => {
                term.renewal.failures = term.renewal.failures.saturating_add(1).min(PATIENCE + 1);
                self.want_read(now);
            }
        }
        self.expire(now, out);
    }

    /// A read came back: the next attempt may go out at what it showed.
    pub(super) fn renewal_after_read(&mut self, now: At) {
        let Some(term) = &mut self.term else { return };
        if term.renewal.attempt.is_none() && term.renewal.next.is_none() {
            let pause = if term.renewal.failures < PATIENCE { Span::ZERO } else { RETRY };
            term.renewal.next = Some(now + pause);
        }
    }

    pub(super) fn leader_value(
        &self,
        epoch: super::super::types::Epoch,
        n: u64,
        lease: Span,
        state: LockState,
        to: Option<super::super::types::NodeName>,
    ) -> LeaderValue {
        LeaderValue {
            v: 1,
            epoch,
            node: self.me.node.clone(),
            run: self.me.run.clone(),
            lease_ms: lease,
            n,
            state,
            peer: self.config.peer.clone(),
            app: self.config.app.clone(),
            to,
        }
    }

    /// What an applied write of ours left in `leader`. The answer's own value is not relied upon.
    pub(super) fn own_leader_entry(
        &self,
        answer: &Answer,
        value: Vec<u8>,
        session: Option<super::super::types::SessionId>,
    ) -> Option<Entry> {
        let key = self.keys.leader();
        let modify = index_of(answer, &key)?;
        Some(Entry { key, value, modify, session })
    }

    pub(super) fn saw_own_leader(&mut self, now: At, entry: &Entry) {
        let calm = self.calm_span();
        self.view.see_leader(now, Some(entry), How::Watch(Seen::Read), calm);
    }
}

fn plain_lock() -> bool {
    [Mutant::M19, Mutant::M21, Mutant::M22, Mutant::M23].into_iter().any(mutant::on)
}

/// The index a transaction's answer gives a key it wrote; the last one of that key.
pub(super) fn index_of(answer: &Answer, key: &super::super::keys::Key) -> Option<Index> {
    match answer {
        Answer::Txn(entries) => {
            entries.iter().rev().find(|entry| &entry.key == key).map(|entry| entry.modify)
        }
        Answer::Entries(_)
        | Answer::Session(_)
        | Answer::Known(_)
        | Answer::Passing(_)
        | Answer::Done => None,
    }
}
