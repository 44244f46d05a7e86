//! Operator's actions: requests in KV, and who answers them with what right.
//!
//! A leader answers under its lock. Where nobody leads, whoever writes the answer first does, if
//! the action makes sense without a leader. What an answer starts is either done by the one who
//! gave it, once its write is confirmed, or by the node that the answer names, once it sees it.
//!
//! Invariant: nothing is begun for a request before its `started` is in KV, and a request has one
//! final result.

mod adopt;
mod backup;
mod failover;
mod own;
mod parting;
mod pause;
mod seen;
mod switchover;
mod told;

use super::{Demotion, Node, Owner, State};
use crate::decide::action::Action;
use crate::decide::call::{Answer, Call, StoreError, Verb};
use crate::decide::io::{Effect, Outbox};
use crate::decide::lead::{LeadIn, Leadership};
use crate::decide::mutant::{self, Mutant};
use crate::decide::reason::Reason;
use crate::decide::records::{RequestStatus, RequestValue, ResultValue, encode};
use crate::decide::time::{At, Span};
use crate::decide::types::{Epoch, Index, NodeName, OpId, SessionId};
use std::collections::BTreeMap;

/// How long a request and its result stay after it expired: ten minutes.
const KEPT_MS: u64 = 600_000;
/// After a result that could not be written.
const RESULT_AGAIN: Span = Span(200);
/// How far a watch may be behind what this node itself wrote.
const FRESH: Span = Span::secs(1);
/// What was started and has no end is forgotten after a day: a clone may take six hours.
const STARTED_MOST_MS: u64 = 86_400_000;

/// What lies under `state/requests/<id>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// None: not to be read.
    value: Option<RequestValue>,
    at: Index,
}

/// What lies under `state/requests/<id>-result`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answered {
    value: ResultValue,
    at: Index,
    /// When this node first saw it.
    since: At,
}

/// What is asked for, and how far this node is with it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Desk {
    pub requests: BTreeMap<String, Asked>,
    pub results: BTreeMap<String, Answered>,
    /// Results that cannot be read: they are written over.
    pub garbled: BTreeMap<String, Index>,
    /// After a result that could not be written.
    pub result_again: Option<At>,
    /// Candidates of a switchover are being asked until then.
    pub choosing: Option<At>,
    /// The successor of a switchover is waited for until then, to be let in by the `sync` hook.
    letting_in: Option<At>,
    /// The round of questions before a failover is answered.
    round: Option<failover::Round>,
    /// An operator's order to this node to lead.
    order: Option<failover::Order>,
    /// The request whose node this leader is taking off the list.
    parting: Option<parting::Parting>,
    reinit: Option<own::Reinit>,
    departure: Option<own::Departure>,
    /// The exit of a node that has left was asked for.
    left: bool,
}

impl Desk {
    /// Nobody asks for anything, and nothing that was asked for is under way.
    fn is_idle(&self) -> bool {
        let asked = !self.requests.is_empty() || !self.results.is_empty();
        !asked && self.order.is_none() && self.departure.is_none() && self.reinit.is_none()
    }
}

/// With what right this node answers.
enum Seat {
    Leader(SessionId),
    /// Nobody leads: the first write counts.
    Anybody,
}

/// An answer to be written.
struct Outcome {
    status: RequestStatus,
    to: Option<NodeName>,
    reason: String,
    force: bool,
}

impl Outcome {
    fn new(status: RequestStatus, to: Option<NodeName>, reason: impl Into<String>) -> Outcome {
        Outcome { status, to, reason: reason.into(), force: false }
    }

    fn done(to: Option<NodeName>, reason: impl Into<String>) -> Outcome {
        Outcome::new(RequestStatus::Done, to, reason)
    }

    fn refused(reason: impl Into<String>) -> Outcome {
        Outcome::new(RequestStatus::Refused, None, reason)
    }

    fn failed(to: Option<NodeName>, reason: impl Into<String>) -> Outcome {
        Outcome::new(RequestStatus::Failed, to, reason)
    }

    fn started(to: NodeName, reason: impl Into<String>) -> Outcome {
        Outcome::new(RequestStatus::Started, Some(to), reason)
    }
}

impl Node {
    /// An HTTP action takes the one path: it becomes a request in KV.
    pub(crate) fn action(
        &mut self,
        action: OpId,
        request_id: String,
        request: RequestValue,
        out: &mut Outbox,
    ) {
        let key = self.keys.request(&request_id);
        let call = Call::Txn(vec![Verb::Cas(key, Index(0), encode(&request))]);
        self.call(Owner::RequestWritten { action, request_id }, call, out);
    }

    pub(crate) fn request_written(
        &mut self,
        action: OpId,
        request_id: String,
        result: Result<Answer, StoreError>,
        out: &mut Outbox,
    ) {
        out.push(Effect::ActionReply { id: action, result: result.map(|_| request_id) });
    }

    /// Answers open requests, one at a time, and completes those that a former leader started.
    pub(crate) fn tend_requests(&mut self, now: At, out: &mut Outbox) {
        if self.desk.is_idle() {
            return;
        }
        if self.calls.values().any(|owner| matches!(owner, Owner::Result { .. })) {
            return;
        }
        if self.desk.result_again.is_some_and(|again| now < again) {
            return;
        }
        self.heed_orders(now, out);
        if self.tend_own(now, out) {
            return;
        }
        let Some(seat) = self.seat(now) else { return };
        for (id, asked) in self.desk.requests.clone() {
            let outcome = match self.desk.results.get(&id).cloned() {
                None => self.first_answer(now, &seat, (&id, asked.value.as_ref()), out),
                Some(known) => self.next_answer(now, &seat, (&id, &asked), &known, out),
            };
            if let Some((outcome, beside)) = outcome {
                self.write_result(id, &seat, outcome, beside, out);
                return;
            }
        }
        if let Seat::Leader(session) = seat {
            self.forget_old(session, out);
        }
    }

    fn seat(&self, now: At) -> Option<Seat> {
        if !(self.seen_leader && self.seen_state) {
            return None;
        }
        match self.leadership() {
            Leadership::Open { .. } => self.lead.session().map(Seat::Leader),
            Leadership::Follower if !self.stop && self.lead.is_vacant(now) => Some(Seat::Anybody),
            Leadership::Follower | Leadership::Taking | Leadership::Closed { .. } => None,
        }
    }

    /// The answer to a request that has none, and what is written beside it. `None`: not yet.
    fn first_answer(
        &mut self,
        now: At,
        seat: &Seat,
        (id, request): (&str, Option<&RequestValue>),
        out: &mut Outbox,
    ) -> Option<(Outcome, Vec<Verb>)> {
        let plain = |outcome| Some((outcome, Vec::new()));
        let (request, action) = match self.action_of(request) {
            Ok(read) => read,
            Err(reason) => return plain(Outcome::refused(reason)),
        };
        match (action, seat) {
            (Action::Switchover { to }, Seat::Leader(_)) => {
                self.answer_switchover(now, to, out).and_then(plain)
            }
            (Action::Switchover { .. }, Seat::Anybody) => {
                let why = "nobody leads: there is no primary to hand over";
                plain(Outcome::refused(why))
            }
            (Action::Failover(wish), seat) => {
                self.answer_failover(now, seat, (id, request.epoch), &wish, out).and_then(plain)
            }
            (Action::Reinit { node }, seat) => self.answer_reinit(now, seat, id, &node),
            (Action::Leave { node, force }, seat) => {
                self.answer_leave(now, seat, id, (&node, force), out)
            }
            (Action::Adopt { node, accept_loss }, seat) => {
                self.answer_adopt(now, seat, id, (&node, accept_loss)).and_then(plain)
            }
            (Action::Pause { reason }, _) => Some(self.answer_pause(&request.by, reason)),
            (Action::Resume, _) => Some(self.answer_resume()),
            (Action::Backup(wanted), _) => {
                self.answer_backup(now, seat, (id, &request.by), wanted, out).and_then(plain)
            }
        }
    }

    /// What follows on an answer: the completion of what was started.
    fn next_answer(
        &mut self,
        now: At,
        seat: &Seat,
        (id, asked): (&str, &Asked),
        known: &Answered,
        out: &mut Outbox,
    ) -> Option<(Outcome, Vec<Verb>)> {
        let plain = |outcome| Some((outcome, Vec::new()));
        let answered = &known.value;
        if answered.status != RequestStatus::Started {
            return None;
        }
        let request = asked.value.as_ref()?;
        let action = Action::parse(&request.verb, &request.args).ok()?;
        let mine = answered.epoch == self.lead_epoch() && answered.by == *self.me();
        match (action, seat) {
            // A start whose write had no answer was perhaps applied: begun anew all the same.
            (Action::Switchover { to }, Seat::Leader(_)) if mine => {
                self.answer_switchover(now, to, out).and_then(plain)
            }
            (Action::Failover(wish), Seat::Leader(_)) if mine => {
                let asked_in = (id, request.epoch);
                self.answer_failover(now, seat, asked_in, &wish, out).and_then(plain)
            }
            (Action::Switchover { .. } | Action::Failover(_), Seat::Leader(_)) => {
                self.settle_move(answered).and_then(plain)
            }
            (Action::Adopt { node, .. }, Seat::Leader(_)) => {
                self.next_adopt(now, &node, out).and_then(plain)
            }
            (Action::Failover(_) | Action::Adopt { .. }, Seat::Anybody) => {
                self.order_over(now, id, answered, known.since).and_then(plain)
            }
            (Action::Leave { node, force }, Seat::Leader(_)) if mine => {
                // The hand-over of a leader that leaves; from then on it is next_leave's.
                if node == *self.me() && answered.to.as_ref() != Some(&node) {
                    return self.answer_leave(now, seat, id, (&node, force), out);
                }
                self.next_leave(now, id, (&node, force), (answered, known.since))
            }
            (Action::Leave { node, force }, Seat::Leader(_)) => {
                self.next_leave(now, id, (&node, force), (answered, known.since))
            }
            (Action::Reinit { node }, Seat::Leader(_)) => self.next_reinit(now, &node, known.since),
            (
                Action::Switchover { .. } | Action::Leave { .. } | Action::Reinit { .. },
                Seat::Anybody,
            )
            | (Action::Pause { .. } | Action::Resume | Action::Backup(_), _) => None,
        }
    }

    /// What is asked for, or why nobody does it.
    fn action_of<'a>(
        &self,
        request: Option<&'a RequestValue>,
    ) -> Result<(&'a RequestValue, Action), String> {
        let request = request.ok_or(
            "this is no request: write JSON with v, verb, args, by, epoch and expires, or use the \
             command line",
        )?;
        if request.expires < self.wall {
            return Err(format!(
                "it expired before anybody could answer it, {} ago by the clock of {}; ask again, \
                 and at that node if nobody waited so long: clocks differ",
                Span(self.wall - request.expires),
                self.me()
            ));
        }
        let action = Action::parse(&request.verb, &request.args)?;
        let seen = self.epoch();
        if request.epoch > seen {
            let asked = request.epoch;
            return Err(format!("it was made for epoch {asked}, and this is {seen}; ask again"));
        }
        if action.is_of_one_term() && request.epoch < seen {
            return Err(self.told_too_late(request.epoch));
        }
        Ok((request, action))
    }

    fn told_too_late(&self, asked_in: Epoch) -> String {
        format!(
            "the primary changed since it was asked for (epoch {asked_in} then, {} now); look at \
             `lictor status`, then ask again",
            self.epoch()
        )
    }

    fn lead_epoch(&self) -> Epoch {
        match self.leadership() {
            Leadership::Open { epoch, .. } | Leadership::Closed { epoch, .. } => epoch,
            Leadership::Follower | Leadership::Taking => Default::default(),
        }
    }

    /// Requests are kept for a while, for whoever asks what became of them, then removed with their
    /// results.
    fn forget_old(&mut self, session: SessionId, out: &mut Outbox) {
        // One that can't be read says no time: its refusal does.
        let old = |(id, asked): &(&String, &Asked)| {
            let refused = || self.desk.results.get(*id).map_or(self.wall, |result| result.value.at);
            let until = asked.value.as_ref().map_or_else(refused, |request| request.expires);
            let under_way = |result: &Answered| {
                result.value.status == RequestStatus::Started
                    && result.value.at.saturating_add(STARTED_MOST_MS) > self.wall
            };
            until.saturating_add(KEPT_MS) < self.wall
                && !self.desk.results.get(*id).is_some_and(under_way)
        };
        let orphan = |(id, _): &(&String, &Answered)| !self.desk.requests.contains_key(*id);
        let mut verbs = vec![Verb::CheckSession(self.keys.leader(), session)];
        if let Some((id, at)) =
            self.desk.requests.iter().find(old).map(|(id, r)| (id.clone(), r.at))
        {
            verbs.push(Verb::DeleteCas(self.keys.request(&id), at));
            if let Some(result) = self.desk.results.remove(&id) {
                verbs.push(Verb::DeleteCas(self.keys.request_result(&id), result.at));
            }
            self.desk.requests.remove(&id);
        } else if let Some((id, result)) = self.desk.results.iter().find(orphan) {
            let id = id.clone();
            verbs.push(Verb::DeleteCas(self.keys.request_result(&id), result.at));
            self.desk.results.remove(&id);
        } else {
            return;
        }
        self.call(Owner::Ignored, Call::Txn(verbs), out);
    }

    fn write_result(
        &mut self,
        id: String,
        seat: &Seat,
        outcome: Outcome,
        beside: Vec<Verb>,
        out: &mut Outbox,
    ) {
        let key = self.keys.request_result(&id);
        let Outcome { status, to, reason, force } = outcome;
        let (by, epoch, at) = (self.me().clone(), self.epoch(), self.wall);
        let value = ResultValue { v: 1, status, by, epoch, to, reason, force, at };
        let mut verbs = beside;
        // Over what is known alone: whoever thinks that nobody leads may have answered.
        let result = self.desk.results.get(&id).map(|result| result.at);
        let known = result.or(self.desk.garbled.get(&id).copied()).unwrap_or_default();
        match seat {
            Seat::Leader(_) | Seat::Anybody if mutant::on(Mutant::M76) => {
                verbs.push(Verb::Set(key, encode(&value)));
            }
            Seat::Leader(session) => {
                verbs.insert(0, Verb::CheckSession(self.keys.leader(), session.clone()));
                verbs.push(Verb::Cas(key, known, encode(&value)));
            }
            Seat::Anybody => verbs.push(Verb::Cas(key, known, encode(&value))),
        }
        let value = Box::new(value);
        self.call(Owner::Result { request_id: id, value }, Call::Txn(verbs), out);
    }

    /// What a durable start begins.
    pub(crate) fn result_written(
        &mut self,
        now: At,
        id: String,
        value: ResultValue,
        result: Result<Answer, StoreError>,
        out: &mut Outbox,
    ) {
        let Ok(answer) = result else {
            self.desk.result_again = Some(now + RESULT_AGAIN);
            return;
        };
        let key = self.keys.request_result(&id);
        if let Answer::Txn(entries) = answer
            && let Some(entry) = entries.iter().find(|entry| entry.key == key)
        {
            let known = Answered { value: value.clone(), at: entry.modify, since: now };
            self.desk.results.insert(id.clone(), known);
        }
        self.tell_result(&id, &value, out);
        self.begin_reinit(&id, out);
        let current = value.epoch == self.lead_epoch() && value.by == *self.me();
        if value.status != RequestStatus::Started || !current {
            return;
        }
        let asked = self.desk.requests.get(&id).and_then(|asked| asked.value.as_ref());
        let action = asked.and_then(|asked| Action::parse(&asked.verb, &asked.args).ok());
        match action {
            Some(Action::Switchover { .. }) if matches!(self.state, State::Primary) => {
                let demotion =
                    Demotion { to: value.to, planned: true, request: Some(id), leaving: false };
                self.begin_planned(now, demotion, out);
            }
            Some(Action::Failover(_)) if matches!(self.state, State::Primary) => {
                self.hand_over_by_force(now, value.to, out);
            }
            Some(Action::Leave { node, .. })
                if matches!(self.state, State::Primary)
                    && node == *self.me()
                    && value.to.as_ref() != Some(&node) =>
            {
                let demotion =
                    Demotion { to: value.to, planned: true, request: Some(id), leaving: false };
                self.begin_planned(now, demotion, out);
            }
            Some(
                Action::Switchover { .. }
                | Action::Failover(_)
                | Action::Reinit { .. }
                | Action::Leave { .. }
                | Action::Adopt { .. }
                | Action::Pause { .. }
                | Action::Resume
                | Action::Backup(_),
            )
            | None => {}
        }
    }

    pub(crate) fn begin_planned(&mut self, now: At, demotion: Demotion, out: &mut Outbox) {
        let text = match &demotion.to {
            Some(to) => format!("planned: {to} is to lead"),
            None => "planned: this node leaves and nobody can take over".to_owned(),
        };
        let why = Reason::new("demote.planned", text);
        self.decided(why.clone(), out);
        if let Leadership::Open { deadline, .. } = self.leadership() {
            self.last_deadline = deadline;
        }
        self.peers.forget_orders();
        self.tell_lead(now, LeadIn::Demote { why }, out);
        self.demote(now, demotion, out);
    }

    /// lictor is asked to stop while its node is the primary. Paused, nobody is to take over.
    pub(crate) fn leave_primary(&mut self, now: At, out: &mut Outbox) {
        let to = self.choose(None).ok().filter(|_| self.pause.is_none());
        let demotion = Demotion { to, planned: true, request: None, leaving: true };
        self.begin_planned(now, demotion, out);
    }
}
