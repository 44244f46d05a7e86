//! Giving the lock back (rule 8): only when fenced, never before the wait of a first bootstrap is
//! over, and final.
//!
//! Sending it ends the term, answered or not: after it this node waits like everyone else.

use super::super::call::{Answer, Call, StoreError, Verb};
use super::super::reason::Reason;
use super::super::records::{LockState, encode};
use super::super::time::At;
use super::super::types::{NodeName, OpId};
use super::LeadOut;
use super::machine::{Lead, Pending};
use super::mutant::{self, Mutant};
use super::write::{Settled, Write};

/// A release asked for; `write` once it is decided, bound to an index.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Release {
    pub(super) to: Option<NodeName>,
    pub(super) write: Option<Write>,
    /// Counts with the attempts, so that no two values of a term are alike.
    value: Vec<u8>,
}

impl Release {
    #[cfg(test)]
    pub(super) fn value(&mut self) -> &mut Vec<u8> {
        &mut self.value
    }
}

impl Lead {
    pub(super) fn release_asked(&mut self, to: Option<NodeName>) {
        let early = mutant::on(Mutant::M04);
        let Some(term) = &mut self.term else { return };
        if !term.open && (term.fenced || early) && term.release.is_none() {
            term.again = false;
            term.release = Some(Release { to, write: None, value: Vec::new() });
        }
    }

    pub(super) fn drive_release(&mut self, now: At, out: &mut Vec<LeadOut>) {
        self.decide_release(now, out);
        let Some(term) = &mut self.term else { return };
        let Some(write) = term.release.as_mut().and_then(|release| release.write.as_mut()) else {
            return;
        };
        if !write.due(now) {
            return;
        }
        let call = write.call.clone();
        self.gave_up = Some(term.epoch);
        let op = self.call(Pending::Release, call, None, out);
        if let Some(write) = self.releasing() {
            write.sent(op);
        }
    }

    fn releasing(&mut self) -> Option<&mut Write> {
        self.term.as_mut()?.release.as_mut()?.write.as_mut()
    }

    fn decide_release(&mut self, now: At, out: &mut Vec<LeadOut>) {
        let Some(term) = &self.term else { return };
        let Some(release) = &term.release else { return };
        // An unanswered renewal or take-over of ours is settled first: no second write to a key
        // with an open one.
        let busy = term.renewal.attempt.is_some() || self.taking.is_some();
        if release.write.is_some() || busy || now < term.promote_from {
            return;
        }
        if !self.holds_lock() {
            // The session is gone: there is no lock to give back.
            self.drop_term();
            return;
        }
        let index = self.view.leader_index();
        let (epoch, session, to) = (term.epoch, term.session.clone(), release.to.clone());
        let (n, lease) = (term.renewal.n + 1, self.config.lease);
        let value = encode(&self.leader_value(epoch, n, lease, LockState::Clean, to.clone()));
        let key = self.keys.leader();
        let mut verbs = vec![Verb::CheckIndex(key.clone(), index)];
        if mutant::on(Mutant::M24) {
            verbs.clear();
        }
        verbs.push(Verb::Unlock(key, session, value.clone()));
        if let Some(term) = &mut self.term {
            term.renewal.n = n;
            let write = Some(Write::new(Call::Txn(verbs), index));
            term.release = Some(Release { to, write, value });
        }
        let why =
            Reason::new("release", format!("epoch {epoch} is fenced: the lock goes back clean"));
        self.decided(why, out);
    }

    pub(super) fn release_reply(&mut self, now: At, op: OpId, result: Result<Answer, StoreError>) {
        let Some(write) = self.releasing().filter(|write| write.is(op)) else { return };
        match result {
            Ok(answer) => {
                let value = self.term.as_ref().and_then(|term| term.release.as_ref());
                let value = value.map(|release| release.value.clone()).unwrap_or_default();
                if let Some(entry) = self.own_leader_entry(&answer, value, None) {
                    self.saw_own_leader(now, &entry);
                }
                self.drop_term();
            }
            Err(error) => {
                write.failed(&error);
                self.want_read(now);
                if mutant::on(Mutant::M24) {
                    self.gave_up = None;
                    self.spare = self.term.take().map(|term| term.session);
                }
                if mutant::on(Mutant::M25)
                    && let Some(term) = &mut self.term
                {
                    term.release = None;
                    term.open = now < term.proofs.deadline();
                    term.renewal.next = Some(now + super::super::time::Span(1));
                }
            }
        }
    }

    /// After something was seen: is the release settled?
    pub(super) fn settle_release(&mut self, now: At, read: bool) {
        let index = self.view.leader_index();
        let Some(write) = self.releasing() else { return };
        match write.look(now, index, read, false) {
            Settled::Open => {}
            Settled::Moved | Settled::Void if !self.holds_lock() => self.drop_term(),
            // Something else moved the key while our session holds it: give back what stands there
            // now.
            Settled::Moved | Settled::Void => {
                if let Some(release) = self.term.as_mut().and_then(|term| term.release.as_mut()) {
                    release.write = None;
                }
            }
        }
    }
}
