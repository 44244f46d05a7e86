//! Promises to another leader that has lost Consul (rule 15), the giver's side.
//!
//! A promise is given only to the node, run and epoch last seen in `state/term`. It says: from its
//! receipt on nothing is taken for 1.03 of the lease asked for. It needs no disk: a giver that
//! starts anew waits a whole lease before it takes anything, and the asker counts by no lease
//! longer than any that could be read then.

use super::super::records::{LeaderValue, TermValue};
use super::super::time::{At, Span};
use super::super::types::{Epoch, NodeName, OpId, RunId};
use super::LeadOut;
use super::machine::Lead;
use super::mutant::{self, Mutant};
use super::take::Bar;
use super::view::{Slot, wait_for};

/// What a leader asks: who it is, as proven, and for how long.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Request {
    pub node: NodeName,
    pub run: RunId,
    pub epoch: Epoch,
    pub lease: Span,
}

/// Why a promise is not given.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Declined {
    #[error("this is not the node, run and epoch that this node last saw in state/term")]
    OtherTerm,
    #[error("a take-over of this node is open")]
    Taking,
    #[error("this node holds a term itself")]
    Holding,
    #[error("the lease asked for is above this node's lease_max")]
    TooLong,
}

/// Given: nothing is taken before `until`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Promise {
    epoch: Epoch,
    run: RunId,
    pub(super) until: At,
}

impl Promise {
    pub(super) fn bar(&self) -> Bar {
        Bar::Wait { until: self.until, for_what: "a promise given to the leader" }
    }
}

impl Lead {
    pub(super) fn promise_asked(
        &mut self,
        now: At,
        id: OpId,
        request: &Request,
        out: &mut Vec<LeadOut>,
    ) {
        let result = self.may_promise(request);
        if result.is_ok() {
            let until = now + wait_for(request.lease);
            // An earlier one may reach further.
            let until = self.promise.as_ref().map_or(until, |known| known.until.max(until));
            self.promise = Some(Promise { epoch: request.epoch, run: request.run.clone(), until });
            self.drop_prep(out);
        }
        out.push(LeadOut::PromiseAnswer { id, result });
    }

    fn may_promise(&self, request: &Request) -> Result<(), Declined> {
        let asked = (&request.node, &request.run, request.epoch);
        let seen = self.view.term_value().map(|term| (&term.node, &term.run, term.epoch));
        if seen != Some(asked) {
            return Err(Declined::OtherTerm);
        }
        if self.term.is_some() {
            return Err(Declined::Holding);
        }
        let open = self.taking.as_ref().is_some_and(|taking| {
            let forgotten = mutant::on(Mutant::M07) && !taking.write.is_in_flight();
            !forgotten && !mutant::on(Mutant::M06) && !mutant::on(Mutant::M33)
        });
        if open {
            return Err(Declined::Taking);
        }
        if request.lease > self.config.lease_max {
            return Err(Declined::TooLong);
        }
        Ok(())
    }

    /// A running promise bars everything but the clean end of the term that it was given to: that
    /// term is over for good, and says so itself.
    pub(super) fn promises_bar(
        &self,
        now: At,
        leader: &Slot<LeaderValue>,
        term: &TermValue,
    ) -> Result<(), Bar> {
        let Some(promise) = self.running_promise(now) else { return Ok(()) };
        let over =
            self.is_clean(leader, term) && (promise.epoch, &promise.run) == (term.epoch, &term.run);
        if over { Ok(()) } else { Err(promise.bar()) }
    }

    pub(super) fn running_promise(&self, now: At) -> Option<&Promise> {
        let bound = self.promise.as_ref().filter(|promise| now < promise.until);
        bound.filter(|_| !mutant::on(Mutant::M05))
    }

    /// Under which epoch, and for how long, this node has promised to take nothing.
    pub fn promise_given(&self, now: At) -> Option<(Epoch, Span)> {
        self.running_promise(now).map(|promise| (promise.epoch, now.until(promise.until)))
    }
}
