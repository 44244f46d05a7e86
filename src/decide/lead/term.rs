//! A term of our own: opened once by an acquisition, closed once, given back when fenced (rule 6).
//!
//! Closing is final: no success, proof or restart opens it again; only a new acquisition makes a
//! new term.

use super::super::reason::Reason;
use super::super::time::At;
use super::super::types::{Epoch, SessionId};
use super::hold::Hold;
use super::list::List;
use super::machine::Lead;
use super::mutant::{self, Mutant};
use super::proof::Proofs;
use super::release::Release;
use super::renew::Renewal;
use super::sync::Syncing;
use super::{LeadOut, Leadership};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Term {
    pub(super) epoch: Epoch,
    pub(super) session: SessionId,
    pub(super) proofs: Proofs,
    pub(super) renewal: Renewal,
    pub(super) hold: Hold,
    pub(super) promote_from: At,
    pub(super) retaken: bool,
    pub(super) open: bool,
    pub(super) fenced: bool,
    /// Closed, fenced, and asked to be taken again under a new epoch.
    pub(super) again: bool,
    pub(super) release: Option<Release>,
    pub(super) list: List,
    pub(super) syncing: Syncing,
    pub(super) cluster: Option<super::list::ClusterWrite>,
}

impl Lead {
    pub(super) fn is_open(&self) -> bool {
        self.term.as_ref().is_some_and(|term| term.open)
    }

    /// Closes the term when its deadline has come. Runs before and after every input.
    pub(super) fn expire(&mut self, now: At, out: &mut Vec<LeadOut>) {
        let Some(term) = &self.term else { return };
        let deadline = term.proofs.deadline();
        if term.open && now >= deadline {
            let missing = self.unanswered().map(|why| format!(": {}", why.text));
            let text = missing.unwrap_or_default();
            let why = format!("the lease is over without a renewal{text}");
            let flip = "a renewal answered before the deadline";
            self.close(Reason::new("close.deadline", why).flip(flip), out);
        }
    }

    /// Over for good. What was under way for it is forgotten: it is bound to its session and its
    /// indexes.
    pub(super) fn close(&mut self, why: Reason, out: &mut Vec<LeadOut>) {
        let Some(term) = &mut self.term else { return };
        if !term.open {
            return;
        }
        term.open = false;
        term.cluster = None;
        self.drop_prep(out);
        self.decided(why, out);
        if mutant::on(Mutant::M04) {
            self.release_asked(None);
        }
    }

    /// Whether `state/term` shows another term than ours (rule 4). Absent or garbage is no loss.
    pub(super) fn is_lost(&self) -> bool {
        let (Some(term), Some(seen)) = (&self.term, self.view.term_value()) else { return false };
        (seen.epoch, &seen.run, &seen.node) != (term.epoch, &self.me.run, &self.me.node)
    }

    /// Whether the lock is held by our session, as far as seen.
    pub(super) fn holds_lock(&self) -> bool {
        let (Some(term), Some(leader)) = (&self.term, &self.view.leader) else { return false };
        if mutant::on(Mutant::M22) {
            let ours = self.view.leader_value().is_some_and(|v| v.run == self.me.run);
            return ours && leader.session.is_some();
        }
        leader.session.as_ref() == Some(&term.session)
    }

    /// After anything was seen: loss closes the term; a closed and fenced one that was lost is
    /// nothing any more.
    pub(super) fn heed_loss(&mut self, out: &mut Vec<LeadOut>) {
        if !self.is_lost() {
            return;
        }
        if self.is_open() {
            let seen = self.view.term_value().map(|term| (term.epoch, term.node.clone()));
            let (epoch, node) = seen.expect("is_lost saw a term");
            let why = Reason::new("close.lost", format!("{node} leads under epoch {epoch}"))
                .flip("nothing: only a new acquisition opens a term");
            self.close(why, out);
        }
        if self.term.as_ref().is_some_and(|term| term.fenced && !term.open) {
            self.drop_term();
        }
    }

    pub(super) fn drop_term(&mut self) {
        if let Some(term) = self.term.take() {
            self.doom(term.session);
        }
    }

    pub(super) fn demote(&mut self, why: Reason, out: &mut Vec<LeadOut>) {
        self.close(why, out);
    }

    pub(super) fn fenced(&mut self, out: &mut Vec<LeadOut>) {
        let Some(term) = &mut self.term else { return };
        if term.open {
            return;
        }
        term.fenced = true;
        self.heed_loss(out);
    }

    pub(super) fn take_again(&mut self) {
        let Some(term) = &mut self.term else { return };
        if !term.open && term.fenced && term.release.is_none() {
            term.again = true;
        }
    }

    /// What this node holds of the lock.
    pub fn leadership(&self) -> Leadership {
        match &self.term {
            Some(term) if term.open => Leadership::Open {
                epoch: term.epoch,
                deadline: term.proofs.deadline(),
                promote_from: term.promote_from,
                retaken: term.retaken,
            },
            Some(term) if !term.fenced => Leadership::Closed { epoch: term.epoch, fenced: false },
            Some(_) | None if self.taking.is_some() => Leadership::Taking,
            Some(term) => Leadership::Closed { epoch: term.epoch, fenced: true },
            None => Leadership::Follower,
        }
    }
}
