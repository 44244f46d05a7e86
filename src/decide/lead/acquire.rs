//! The one transaction that takes the lock (rule 12), and what becomes of it.
//!
//! It is bound to every index that was judged. Its deadline counts from the first sending,
//! whichever copy applied. Its outcome is settled by its answer or by a read; only then may
//! anything else be decided.

use super::super::call::{Answer, Call, Entry, StoreError, Verb};
use super::super::keys::Key;
use super::super::reason::Reason;
use super::super::records::{LockState, TermValue, encode};
use super::super::time::{At, Span};
use super::super::types::{Epoch, Index, OpId, SessionId};
use super::attempt::{BACKOFF, Step};
use super::hold::Hold;
use super::list::List;
use super::machine::{Lead, Pending, Read};
use super::mutant::{self, Mutant};
use super::proof::{Proofs, Source};
use super::renew::{Renewal, index_of};
use super::sync::{SyncSet, Syncing, own_acks};
use super::take::Case;
use super::term::Term;
use super::view::{How, wait_for};
use super::write::{Settled, Write};
use super::{LeadOut, Seen, SyncMode};
use std::collections::BTreeSet;

/// An acquisition: open from its sending until it is settled.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Taking {
    pub(super) case: Case,
    pub(super) epoch: Epoch,
    pub(super) session: SessionId,
    /// Of the first copy.
    pub(super) sent: At,
    pub(super) lease: Span,
    pub(super) write: Write,
    pub(super) promote_from: At,
    pub(super) frozen: bool,
    /// Asked to end the session, so that no copy can apply any more.
    ending: bool,
    /// What each key holds if it is applied.
    values: Vec<(Key, Vec<u8>)>,
}

impl Taking {
    #[cfg(test)]
    pub(super) fn values(&mut self) -> impl Iterator<Item = &mut Vec<u8>> {
        self.values.iter_mut().map(|(_, value)| value)
    }
}

impl Lead {
    /// The read came back and nothing that was judged has moved: decide and send.
    pub(super) fn take(&mut self, now: At, out: &mut Vec<LeadOut>) {
        let Some(prep) = self.prep.take() else { return };
        let Step::Have(session) = prep.session else { return };
        let case = prep.case;
        let lease = self.config.lease;
        let epoch = self.next_epoch(case);
        let (verbs, values) = self.take_verbs(case, epoch, &session);
        let promote_from = match case {
            Case::Boot if !mutant::on(Mutant::M18) => {
                self.view.empty_since.unwrap_or(now) + wait_for(self.config.lease_max)
            }
            Case::Boot | Case::Clean | Case::Again { .. } | Case::Waited | Case::Forced => now,
        };
        if let Some(term) = self.term.as_mut().filter(|term| term.open) {
            term.proofs.before_sending(now, lease);
        }
        let text = format!("takes the lock under epoch {epoch}: {}", case.ground());
        let why = Reason::new("take", text).with("case", case.name()).with("epoch", epoch);
        self.decided(why, out);
        self.taking = Some(Taking {
            case,
            epoch,
            session,
            sent: now,
            lease,
            write: Write::new(Call::Txn(verbs), self.view.leader_index()),
            promote_from,
            frozen: prep.frozen,
            ending: false,
            values,
        });
        self.drive_taking(now, out);
    }

    fn next_epoch(&self, case: Case) -> Epoch {
        let value = self.view.leader_value().map_or(Epoch::NONE, |value| value.epoch);
        if mutant::on(Mutant::M08) {
            return value.next();
        }
        if mutant::on(Mutant::M09)
            && let (Case::Again { .. }, Some(term)) = (case, self.view.term_value())
        {
            return term.epoch;
        }
        let force = self.force.as_ref().filter(|_| case == Case::Forced);
        let above = force.map_or(Epoch::NONE, |force| force.above);
        self.view.highest_epoch().max(self.known_floor()).max(above).next()
    }

    fn take_verbs(
        &self,
        case: Case,
        epoch: Epoch,
        session: &SessionId,
    ) -> (Vec<Verb>, Vec<(Key, Vec<u8>)>) {
        let (leader, term, sync) = (self.keys.leader(), self.keys.term(), self.keys.sync());
        let value = encode(&self.leader_value(epoch, 1, self.config.lease, LockState::Held, None));
        let term_value = encode(&TermValue {
            v: 1,
            epoch,
            node: self.me.node.clone(),
            run: self.me.run.clone(),
            eligible: self.list_to_copy(case),
        });
        let judged = self.judged();
        let mut verbs = Vec::new();
        if !mutant::on(Mutant::M02) {
            verbs.push(match judged.leader {
                Index(0) => Verb::CheckNotExists(leader.clone()),
                index => Verb::CheckIndex(leader.clone(), index),
            });
        }
        if !self.view.cluster && !mutant::on(Mutant::M38) {
            verbs.push(Verb::CheckNotExists(self.keys.cluster()));
        }
        if let Some(old) = self.view.leader.as_ref().and_then(|slot| slot.session.clone()) {
            verbs.push(Verb::Unlock(leader.clone(), old, value.clone()));
        }
        verbs.push(Verb::Lock(leader.clone(), session.clone(), value.clone()));
        verbs.push(Verb::Cas(term.clone(), judged.term, term_value.clone()));
        let mut values = vec![(leader, value), (term, term_value)];
        match self.sync_to_write(case) {
            Some(set) => {
                let value = encode(&self.sync_value(epoch, &set));
                verbs.push(if mutant::on(Mutant::M29) {
                    Verb::Set(sync.clone(), value.clone())
                } else {
                    Verb::Cas(sync.clone(), judged.sync, value.clone())
                });
                values.push((sync, value));
            }
            // What was judged is checked, whoever writes it.
            None if judged.sync != Index(0) => verbs.push(Verb::CheckIndex(sync, judged.sync)),
            None => verbs.push(Verb::CheckNotExists(sync)),
        }
        (verbs, values)
    }

    fn list_to_copy(&self, case: Case) -> BTreeSet<super::super::types::Member> {
        match self.view.term_value() {
            Some(term) if self.view.cluster && case != Case::Forced => term.eligible.clone(),
            Some(_) | None => BTreeSet::from([self.me.member()]),
        }
    }

    /// A new leader starts with itself; one whose term runs on keeps the set that its application
    /// obeys.
    fn sync_to_write(&self, case: Case) -> Option<SyncSet> {
        if self.config.sync == SyncMode::Off {
            return None;
        }
        let own = SyncSet { members: BTreeSet::new(), acks: own_acks(self.config.sync) };
        let keeps = case == (Case::Again { open: true }) || mutant::on(Mutant::M30);
        match self.view.sync_in_force() {
            Some(value) if keeps => {
                Some(SyncSet { members: value.members.clone(), acks: value.acks })
            }
            Some(_) | None => Some(own),
        }
    }

    /// Sends a copy when it is time; when no lease can come of it any more, ends its session
    /// instead.
    pub(super) fn drive_taking(&mut self, now: At, out: &mut Vec<LeadOut>) {
        let Some(taking) = &mut self.taking else { return };
        if now >= taking.sent + taking.lease && !taking.ending {
            taking.ending = true;
            let session = taking.session.clone();
            self.doom(session);
            self.want_read(now);
            return;
        }
        if taking.ending || !taking.write.due(now) {
            return;
        }
        let (call, until) = (taking.write.call.clone(), taking.sent + taking.lease);
        let op = self.call(Pending::Take, call, Some(until), out);
        if let Some(taking) = &mut self.taking {
            taking.write.sent(op);
        }
    }

    pub(super) fn take_reply(
        &mut self,
        now: At,
        op: OpId,
        result: Result<Answer, StoreError>,
        out: &mut Vec<LeadOut>,
    ) {
        let Some(taking) = self.taking.as_mut().filter(|taking| taking.write.is(op)) else {
            return;
        };
        match result {
            Ok(answer) => self.taken(now, &answer, out),
            Err(error) => {
                taking.write.failed(&error);
                self.want_read(now);
            }
        }
    }

    fn taken(&mut self, now: At, answer: &Answer, out: &mut Vec<LeadOut>) {
        let Some(taking) = &self.taking else { return };
        let calm = self.calm_span();
        let how = How::Watch(Seen::Read);
        let (leader, term) = (self.keys.leader(), self.keys.term());
        for (key, value) in taking.values.clone() {
            let Some(modify) = index_of(answer, &key) else { continue };
            let session = (key == leader).then(|| taking.session.clone());
            let entry = Entry { key: key.clone(), value, modify, session };
            if key == leader {
                self.view.see_leader(now, Some(&entry), how, calm);
            } else if key == term {
                self.view.see_term(now, Some(&entry), how, calm);
            } else {
                self.view.see_sync(Some(&entry), how);
            }
        }
        self.open_term(now, out);
    }

    /// After something was seen: was it applied, can it be no more, or is it open still?
    pub(super) fn settle_taking(&mut self, now: At, read: Option<Read>, out: &mut Vec<LeadOut>) {
        let Some(taking) = &self.taking else { return };
        let ours = self.view.term_value().is_some_and(|term| {
            (term.epoch, &term.node, &term.run) == (taking.epoch, &self.me.node, &self.me.run)
        });
        if ours && !(mutant::on(Mutant::M09) && read.is_none()) {
            self.open_term(now, out);
            return;
        }
        if self.term_moved() {
            self.not_taken(now, out);
            return;
        }
        let Some(read) = read else {
            // The lock alone may have moved by this very transaction, with the other watch behind:
            // one snapshot of both keys tells.
            if self.view.leader_index() != taking.write.index {
                self.want_read(now);
            }
            return;
        };
        let dead = self.was_gone(&taking.session, Some(read.op));
        let Some(taking) = &mut self.taking else { return };
        match taking.write.look(now, read.leader, true, dead) {
            Settled::Open if taking.write.waits_for_read() || taking.ending => {
                self.want_read(now + super::write::RETRY);
            }
            Settled::Open => {}
            Settled::Moved | Settled::Void => self.not_taken(now, out),
        }
    }

    /// Whether `state/term` moved away from what the transaction is bound to.
    fn term_moved(&self) -> bool {
        let Some(taking) = &self.taking else { return false };
        let Call::Txn(verbs) = &taking.write.call else { return false };
        let key = self.keys.term();
        verbs.iter().any(|verb| match verb {
            Verb::Cas(of, index, _) => *of == key && *index != self.view.term_index(),
            Verb::GetTree(_)
            | Verb::CheckIndex(..)
            | Verb::CheckNotExists(_)
            | Verb::CheckSession(..)
            | Verb::Set(..)
            | Verb::Lock(..)
            | Verb::Unlock(..)
            | Verb::DeleteCas(..)
            | Verb::Delete(_) => false,
        })
    }

    fn not_taken(&mut self, now: At, out: &mut Vec<LeadOut>) {
        if mutant::on(Mutant::M39) {
            return;
        }
        let Some(taking) = self.taking.take() else { return };
        self.doom(taking.session);
        if taking.frozen {
            out.push(LeadOut::Thaw);
        }
        self.idle_until = now
            + if taking.case == (Case::Again { open: true }) {
                super::write::RETRY
            } else {
                BACKOFF
            };
        let why = Reason::new("take.lost", "what was judged has changed before it was applied")
            .flip("a key that stands still until the transaction arrives");
        self.decided(why, out);
    }

    fn open_term(&mut self, now: At, out: &mut Vec<LeadOut>) {
        let Some(taking) = self.taking.take() else { return };
        self.force = None;
        self.expire(now, out);
        self.answered(now, out);
        let old = self.term.take();
        let deadline = taking.sent + taking.lease;
        let was_open = old.as_ref().is_some_and(|term| term.open);
        let again = taking.case == (Case::Again { open: true });
        // Decided while the term ran, applied after it closed: the application was fenced
        // meanwhile, and what a take-over then asks was not asked.
        let open = now < deadline && (was_open || !again);
        let fenced = old.as_ref().is_none_or(|term| !term.open && term.fenced);
        let syncing = match &old {
            Some(term) if was_open => term.syncing.clone().carried(),
            Some(_) | None => Syncing::new(self.config.sync),
        };
        if let Some(session) = old.map(|term| term.session).filter(|id| *id != taking.session) {
            self.doom(session);
        }
        let (epoch, promote_from) = (taking.epoch, taking.promote_from);
        self.term = Some(Term {
            epoch,
            session: taking.session,
            proofs: Proofs::new(Source::Renewal, deadline, taking.lease),
            renewal: Renewal::new(taking.sent, taking.lease),
            hold: Hold::default(),
            promote_from,
            retaken: was_open && again,
            open,
            fenced: fenced && !open,
            again: false,
            release: None,
            list: List::default(),
            syncing,
            cluster: None,
        });
        self.want_floor(epoch, out);
        if open {
            let why = Reason::new("open", format!("leads under epoch {epoch}"));
            self.decided(why, out);
            return;
        }
        let why = Reason::new("open.late", "applied too late to be of use: it goes back");
        self.decided(why, out);
        if taking.frozen {
            out.push(LeadOut::Thaw);
        }
        self.release_asked(None);
    }
}
