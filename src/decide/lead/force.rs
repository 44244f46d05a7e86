//! A take that an operator orders: by a node that the list and the sync set would not let, or where
//! `state/term` is gone.
//!
//! It sets aside who may take (rules 9 and 18), never when (rules 10 to 13): the lease is waited
//! out, an own promise binds, and the one transaction is bound to all that was judged. So there is
//! still one writable primary; what may be lost are writes. `life` has asked the members first. The
//! order is for one term: once another is seen it is void.
//!
//! The list becomes this node alone: whoever has more data than it must follow before it may take
//! again.

use super::super::time::At;
use super::super::types::{Epoch, RunId};
use super::machine::Lead;
use super::mutant::{self, Mutant};
use super::take::{Bar, Case, Verdict};
use super::view::{Body, wait_for};
use super::{Disk, Standing};

/// An operator's order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Force {
    /// The term to be replaced; none: `state/term` is absent or unreadable.
    pub against: Option<(Epoch, RunId)>,
    /// Epochs up to this are known somewhere.
    pub above: Epoch,
    pub until: At,
}

impl Lead {
    pub(super) fn order(&mut self, force: Option<Force>) {
        self.force = force;
    }

    /// The order, as long as it is about what stands there.
    pub(super) fn forced(&self, now: At) -> Option<&Force> {
        let force = self.force.as_ref().filter(|force| now < force.until)?;
        let stands = self.view.term_value().map(|term| (term.epoch, &term.run));
        let asked = force.against.as_ref().map(|(epoch, run)| (*epoch, run));
        (stands == asked).then_some(force)
    }

    pub(super) fn judge_forced(&self, now: At, standing: &Standing) -> Verdict<Case> {
        if standing.disk != Disk::Data {
            return Err(Bar::EmptyDisk);
        }
        let (Some(leader), Some(term)) = (&self.view.leader, &self.view.term) else {
            return Err(Bar::Blind);
        };
        if mutant::on(Mutant::M50) {
            return Ok(Case::Forced);
        }
        match &term.body {
            Body::Value(term) => self.when(now, leader, term)?,
            Body::Absent | Body::Garbage => {
                if let Some(promise) = self.running_promise(now) {
                    return Err(promise.bar());
                }
                self.waited(now, wait_for(self.config.lease_max)).map(|()| Case::Forced)?
            }
        };
        Ok(Case::Forced)
    }
}
