//! A term that goes on while Consul is silent (rule 15), the holder's side.
//!
//! Who could take is known: the list as last confirmed, and every list sent since. Each of them is
//! asked, again and again, to take nothing for a lease; what all of them have promised is a proof
//! like a renewal, from the sending of the last request that each one answered. It extends a term
//! that runs and opens none. The list and the sync set stand still meanwhile, and the first
//! renewal that is confirmed ends it.

use super::super::call::StoreError;
use super::super::reason::Reason;
use super::super::time::{At, Span};
use super::super::types::{Member, NodeName, OpId};
use super::LeadOut;
use super::machine::Lead;
use super::mutant::{self, Mutant};
use super::proof::Source;
use super::renew::step;
use super::term::Term;
use super::write::RETRY;
use std::collections::{BTreeMap, BTreeSet};

/// The code of the reason that names whose promise was missing.
pub const UNANSWERED: &str = "hold.unanswered";

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Hold {
    /// Since when Consul is silent.
    since: Option<At>,
    asked: BTreeMap<Member, Asked>,
    /// With nobody to ask: when it counts as answered again.
    alone: At,
    /// That the term goes on by promises was told.
    told: bool,
}

/// One member that could take.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Asked {
    under_way: Option<(OpId, Sent)>,
    /// The last request that it answered.
    answered: Option<Sent>,
    next: At,
    /// Why the last request had no promise for an answer.
    refusal: Option<String>,
}

/// A request: when it was sent, and the lease it asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Sent {
    at: At,
    lease: Span,
}

/// How one member stands that is asked for promises, for `status`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asking {
    pub node: NodeName,
    /// When the last request was sent that it answered.
    pub answered: Option<At>,
    pub refusal: Option<String>,
}

impl Lead {
    /// Consul is silent, and the term goes on by promises if they come: the list and the sync set
    /// stand still.
    pub(super) fn is_cut_off(&self) -> bool {
        let silent = |term: &Term| term.hold.since.is_some();
        self.config.hold && self.term.as_ref().is_some_and(silent)
    }

    /// A call had no success: that is silence, unless it is an answer about the lock itself.
    pub(super) fn not_answered(&mut self, now: At, error: &StoreError) {
        let answer = match error {
            StoreError::Conflict { .. } | StoreError::SessionGone => true,
            StoreError::Denied(_)
            | StoreError::Refused(_)
            | StoreError::NotSent(_)
            | StoreError::Unknown(_) => false,
        };
        if let Some(term) = self.term.as_mut().filter(|_| !answer) {
            term.hold.since.get_or_insert(now);
        }
    }

    /// A renewal was confirmed.
    pub(super) fn answered(&mut self, now: At, out: &mut Vec<LeadOut>) {
        let Some(term) = &mut self.term else { return };
        let hold = std::mem::take(&mut term.hold);
        if let Some(since) = hold.since.filter(|_| hold.told && term.open) {
            let text = format!("Consul answers again after {}: renews", now.since(since));
            self.decided(Reason::new("hold.over", text), out);
        }
    }

    /// Everyone who could take by a list that may stand in `state/term`, but this node.
    fn could_take(&self) -> BTreeSet<Member> {
        let mut all = self.view.term_value().map(|seen| seen.eligible.clone()).unwrap_or_default();
        if let Some(term) = self.term.as_ref().filter(|_| !mutant::on(Mutant::M15)) {
            all.extend(term.list.named.iter().cloned());
        }
        all.remove(&self.me.member());
        all
    }

    /// Before the cluster is made the list does not say who may take; nor does one that is not
    /// there.
    fn may_hold(&self) -> bool {
        let open = |term: &Term| term.open || reopens(term);
        let listed = self.view.cluster && self.view.term_value().is_some() && !self.is_lost();
        self.config.hold && listed && self.term.as_ref().is_some_and(open)
    }

    pub(super) fn drive_hold(&mut self, now: At, out: &mut Vec<LeadOut>) {
        if !self.may_hold() {
            return;
        }
        let locked = self.holds_lock();
        let Some(term) = &mut self.term else { return };
        if !locked {
            // Nothing can be renewed until the lock is taken again.
            term.hold.since.get_or_insert(now);
        }
        if term.hold.since.is_none() {
            return;
        }
        let asked = self.could_take();
        let longest = self.config.lease_max;
        let Some(term) = &mut self.term else { return };
        let lease = if mutant::on(Mutant::M35) { longest } else { term.proofs.shortest() };
        term.hold.asked.retain(|member, _| asked.contains(member));
        if asked.is_empty() && term.hold.alone <= now {
            term.hold.alone = now + step(lease);
            term.proofs.promised(now + lease);
        }
        for member in asked {
            let entry = term.hold.asked.entry(member.clone()).or_default();
            if entry.under_way.is_none() && entry.next <= now {
                let id = OpId::take(&mut self.next);
                entry.under_way = Some((id, Sent { at: now, lease }));
                out.push(LeadOut::AskPromise { id, of: member, epoch: term.epoch, lease });
            }
        }
        self.tell_hold(out);
    }

    /// A member answered, or did not.
    pub(super) fn promised(
        &mut self,
        now: At,
        id: OpId,
        result: Result<(), String>,
        out: &mut Vec<LeadOut>,
    ) {
        let Some(term) = &mut self.term else { return };
        let of_round = |asked: &&mut Asked| asked.under_way.is_some_and(|(round, _)| round == id);
        let Some(asked) = term.hold.asked.values_mut().find(of_round) else { return };
        let Some((_, sent)) = asked.under_way.take() else { return };
        asked.next = now + RETRY;
        match result {
            Ok(()) => {
                asked.next = asked.next.max(sent.at + step(sent.lease));
                let at = if mutant::on(Mutant::M13) { now } else { sent.at };
                asked.answered = Some(Sent { at, ..sent });
                asked.refusal = None;
                self.count_promises(now, out);
            }
            Err(why) => asked.refusal = Some(why),
        }
    }

    fn count_promises(&mut self, now: At, out: &mut Vec<LeadOut>) {
        if !self.may_hold() {
            return;
        }
        let all = self.could_take();
        let Some(term) = &mut self.term else { return };
        let shortest = term.proofs.shortest();
        let until = |sent: Sent| match mutant::on(Mutant::M35) {
            true => sent.at + sent.lease,
            false => sent.at + sent.lease.min(shortest),
        };
        let answered = |member: &Member| term.hold.asked.get(member)?.answered.map(until);
        let promised: Option<Vec<At>> = all.iter().map(answered).collect();
        let Some(until) = promised.and_then(|times| times.into_iter().min()) else { return };
        term.proofs.promised(until);
        if reopens(term) {
            term.open = now < term.proofs.deadline();
        }
        self.tell_hold(out);
    }

    /// Once, when the deadline is the promises' for the first time.
    fn tell_hold(&mut self, out: &mut Vec<LeadOut>) {
        let Some(term) = &mut self.term else { return };
        if term.hold.told || term.hold.since.is_none() || term.proofs.source() != Source::Promises {
            return;
        }
        term.hold.told = true;
        let text = format!("Consul is silent: leads on by {}", self.promisers());
        let flip = "Consul's answer, or the silence of one of them until the lease ends";
        self.decided(Reason::new("hold", text).flip(flip), out);
    }

    fn promisers(&self) -> String {
        let names: Vec<String> =
            self.could_take().iter().map(|member| member.node.to_string()).collect();
        match names.is_empty() {
            true => "its own word, for nobody else could take".into(),
            false => format!("the promises of {}", names.join(", ")),
        }
    }

    /// What the term goes on by, for `explain`.
    pub(super) fn held_by(&self) -> Option<String> {
        let term = self.term.as_ref().filter(|term| term.open && term.hold.since.is_some())?;
        (term.proofs.source() == Source::Promises).then(|| self.promisers())
    }

    /// Whether Consul is silent and the deadline comes from promises.
    pub fn lives_on_promises(&self) -> bool {
        self.held_by().is_some()
    }

    /// Why promises do not carry the term on: Consul is silent, and not it alone.
    pub fn unanswered(&self) -> Option<Reason> {
        let term = self.term.as_ref().filter(|_| self.is_cut_off() && self.view.cluster)?;
        // The others' last answers are younger: only who answered first of all is named.
        let answered = |asked: &Asked| asked.answered.map(|sent| sent.at);
        let oldest = term.hold.asked.values().map(answered).min()?;
        let late = term.hold.asked.iter().filter(|(_, asked)| {
            answered(asked) == oldest && (asked.refusal.is_some() || asked.under_way.is_some())
        });
        let late: Vec<String> = late
            .map(|(member, asked)| match &asked.refusal {
                Some(why) => format!("{} ({why})", member.node),
                None => member.node.to_string(),
            })
            .collect();
        if late.is_empty() {
            return None;
        }
        let text = format!("Consul is silent, and there is no promise of {}", late.join(", "));
        Some(Reason::new(UNANSWERED, text).flip("its answer or Consul's, before the deadline"))
    }

    /// Whether the deadline comes from promises, and how those who are asked for them stand.
    pub fn promises(&self) -> Option<(bool, Vec<Asking>)> {
        let term = self.term.as_ref().filter(|term| term.open)?;
        let asking = term.hold.asked.iter().map(|(member, asked)| Asking {
            node: member.node.clone(),
            answered: asked.answered.map(|sent| sent.at),
            refusal: asked.refusal.clone(),
        });
        Some((term.proofs.source() == Source::Promises, asking.collect()))
    }

    pub(super) fn hold_wake(&self) -> Option<At> {
        let term = self.term.as_ref().filter(|term| term.hold.since.is_some())?;
        if !self.may_hold() {
            return None;
        }
        let hold = &term.hold;
        let idle = hold.asked.values().filter(|asked| asked.under_way.is_none());
        let alone = hold.asked.is_empty().then_some(hold.alone);
        idle.map(|asked| asked.next).chain(alone).min()
    }
}

/// Only a planted fault opens a term again.
fn reopens(term: &Term) -> bool {
    (mutant::on(Mutant::M33) || mutant::on(Mutant::M34)) && !term.open && term.release.is_none()
}

#[cfg(test)]
impl Hold {
    pub(super) fn visit(&mut self, v: &mut impl super::canon::Visit) {
        // Only for what is told.
        self.since.iter_mut().for_each(|at| *at = At(0));
        self.told = self.since.is_some();
        v.due(&mut self.alone);
        for asked in self.asked.values_mut() {
            asked.refusal = None;
            v.due(&mut asked.next);
            if let Some((id, sent)) = &mut asked.under_way {
                v.op(id);
                v.age(&mut sent.at);
            }
            asked.answered.iter_mut().for_each(|sent| v.age(&mut sent.at));
        }
    }
}
