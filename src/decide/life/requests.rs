//! Operator's actions: requests in KV, answered by the leader under its lock.

use super::{Demotion, Node, Owner, State};
use crate::decide::action::Action;
use crate::decide::call::{Answer, Call, Entry, StoreError, Verb};
use crate::decide::io::{Effect, Outbox};
use crate::decide::lead::{LeadIn, Leadership, SyncMode};
use crate::decide::reason::Reason;
use crate::decide::records::{
    MemberValue, RequestStatus, RequestValue, ResultValue, decode, encode,
};
use crate::decide::time::{At, Span};
use crate::decide::types::{Index, NodeName, OpId};
use std::collections::BTreeSet;

/// A candidate that did not answer a ping for this long is not switched over to.
const CANDIDATE_SILENCE: Span = Span::secs(3);
/// How long the candidates' positions are waited for; asked before anything stops.
const CHOOSE_MOST: Span = Span(500);
/// How long a request and its result stay after it expired: ten minutes.
const KEPT_MS: u64 = 600_000;
/// After a result that could not be written.
const RESULT_AGAIN: Span = Span(200);

/// What lies under `state/requests/<id>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// None: not to be read.
    value: Option<RequestValue>,
    at: Index,
}

impl Node {
    pub(crate) fn absorb_request(&mut self, id: String, entry: &Entry) {
        if let Some(request) = id.strip_suffix("-result") {
            if let Some(result) = decode::<ResultValue>(&entry.value) {
                self.results.insert(request.to_owned(), (result, entry.modify));
            }
        } else {
            let value = decode::<RequestValue>(&entry.value);
            self.requests.insert(id, Asked { value, at: entry.modify });
        }
    }

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
        let result = match result {
            Ok(_) => Ok(request_id),
            Err(error) => Err(Reason::new("request.not-written", error.to_string())),
        };
        out.push(Effect::ActionReply { id: action, result });
    }

    /// Answers open requests, one at a time, and completes those that a former leader started.
    pub(crate) fn tend_requests(&mut self, now: At, out: &mut Outbox) {
        if !matches!(self.leadership(), Leadership::Open { .. }) {
            return;
        }
        if !matches!(self.state, State::Primary) {
            return;
        }
        if self.calls.values().any(|owner| matches!(owner, Owner::Result { .. })) {
            return;
        }
        if self.result_again.is_some_and(|again| now < again) {
            return;
        }
        // A start whose write had no answer was perhaps applied: begun anew all the same.
        let begun = |result: &ResultValue| {
            let mine = result.epoch == self.lead_epoch() && result.by == *self.me();
            !(mine && result.status == RequestStatus::Started)
        };
        let answered = |id: &String| self.results.get(id).is_some_and(|(result, _)| begun(result));
        let open = self.requests.iter().find(|(id, _)| !answered(id));
        if let Some((id, asked)) = open.map(|(id, asked)| (id.clone(), asked.clone())) {
            self.answer_request(now, id, asked.value.as_ref(), out);
            return;
        }
        let me = self.me().clone();
        let started = self.results.iter().find(|(_, (result, _))| {
            result.status == RequestStatus::Started && (result.epoch < self.lead_epoch())
        });
        if let Some((id, result)) = started.map(|(id, (result, _))| (id.clone(), result.clone())) {
            let reached = result.to.as_ref() == Some(&me);
            let status = if reached { RequestStatus::Done } else { RequestStatus::Failed };
            let reason = if reached {
                format!("{me} is the primary")
            } else {
                format!("{me} became the primary instead")
            };
            self.write_result(id, status, Some(me), reason, out);
            return;
        }
        self.forget_old(out);
    }

    /// Requests are kept for a while, for whoever asks what became of them, then removed with their
    /// results.
    fn forget_old(&mut self, out: &mut Outbox) {
        // One that can't be read says no time: its refusal does.
        let old = |(id, asked): &(&String, &Asked)| {
            let refused = || self.results.get(*id).map_or(self.wall, |(result, _)| result.at);
            let until = asked.value.as_ref().map_or_else(refused, |request| request.expires);
            until.saturating_add(KEPT_MS) < self.wall
        };
        let Some((id, at)) = self.requests.iter().find(old).map(|(id, r)| (id.clone(), r.at))
        else {
            return;
        };
        let Some(session) = self.lead.session() else { return };
        let mut verbs = vec![
            Verb::CheckSession(self.keys.leader(), session),
            Verb::DeleteCas(self.keys.request(&id), at),
        ];
        if let Some((_, at)) = self.results.get(&id) {
            verbs.push(Verb::DeleteCas(self.keys.request_result(&id), *at));
        }
        self.requests.remove(&id);
        self.results.remove(&id);
        self.call(Owner::Ignored, Call::Txn(verbs), out);
    }

    fn lead_epoch(&self) -> crate::decide::types::Epoch {
        match self.leadership() {
            Leadership::Open { epoch, .. } | Leadership::Closed { epoch, .. } => epoch,
            Leadership::Follower | Leadership::Taking => Default::default(),
        }
    }

    fn answer_request(
        &mut self,
        now: At,
        id: String,
        request: Option<&RequestValue>,
        out: &mut Outbox,
    ) {
        match self.action_of(request) {
            Ok(Action::Switchover { to }) => self.answer_switchover(now, id, to, out),
            Err(reason) => self.write_result(id, RequestStatus::Refused, None, reason, out),
        }
    }

    /// What is asked for, or why nobody does it.
    fn action_of(&self, request: Option<&RequestValue>) -> Result<Action, String> {
        let request = request.ok_or(
            "this is no request: write JSON with v, verb, args, by, epoch and expires, or use the \
             command line",
        )?;
        if request.expires < self.wall {
            return Err("it expired before a leader saw it; ask again".into());
        }
        if request.epoch > self.lead_epoch() {
            return Err("it was made for a later term".into());
        }
        Action::parse(&request.verb, &request.args)
    }

    fn answer_switchover(
        &mut self,
        now: At,
        id: String,
        wanted: Option<NodeName>,
        out: &mut Outbox,
    ) {
        if wanted.as_ref() == Some(self.me()) {
            let reason = format!("{} is the primary already", self.me());
            self.write_result(id, RequestStatus::Done, wanted, reason, out);
            return;
        }
        match self.choose(wanted.as_ref()) {
            Ok(_) if wanted.is_none() && self.still_asking(now, out) => {}
            Ok(to) => {
                self.choosing = None;
                let reason = format!("switching over to {to}");
                self.write_result(id, RequestStatus::Started, Some(to), reason, out);
            }
            Err(reason) => {
                self.choosing = None;
                self.write_result(id, RequestStatus::Refused, None, reason, out);
            }
        }
    }

    /// Before a successor is chosen the candidates say how far they are; whoever is silent is
    /// chosen last.
    fn still_asking(&mut self, now: At, out: &mut Outbox) -> bool {
        let fit: Vec<NodeName> = self
            .members
            .values()
            .filter(|member| member.node != *self.me() && self.fit(member).is_ok())
            .map(|member| member.node.clone())
            .collect();
        let Some(until) = self.choosing else {
            self.choosing = Some(now + CHOOSE_MOST);
            self.peers.forget_orders();
            for node in &fit {
                self.ask_position(now, node, out);
            }
            return fit.len() > 1;
        };
        now < until && fit.iter().any(|node| self.peers.order_of(node).is_none())
    }

    fn write_result(
        &mut self,
        id: String,
        status: RequestStatus,
        to: Option<NodeName>,
        reason: String,
        out: &mut Outbox,
    ) {
        let Some(session) = self.lead.session() else { return };
        let epoch = self.lead_epoch();
        let by = self.me().clone();
        let result = ResultValue { v: 1, status, by, epoch, to, reason, at: self.wall };
        self.results.insert(id.clone(), (result.clone(), Index(0)));
        let call = Call::Txn(vec![
            Verb::CheckSession(self.keys.leader(), session),
            Verb::Set(self.keys.request_result(&id), encode(&result)),
        ]);
        self.call(Owner::Result { request_id: id }, call, out);
    }

    /// The start of a switchover is durable first; only then the demotion begins.
    pub(crate) fn result_written(
        &mut self,
        now: At,
        id: String,
        result: Result<Answer, StoreError>,
        out: &mut Outbox,
    ) {
        if result.is_err() {
            self.results.remove(&id);
            self.result_again = Some(now + RESULT_AGAIN);
            return;
        }
        let Some((started, _)) = self.results.get(&id) else { return };
        let current = started.epoch == self.lead_epoch() && started.by == *self.me();
        if started.status != RequestStatus::Started || !current {
            return;
        }
        if !matches!(self.state, State::Primary) {
            return;
        }
        let to = started.to.clone();
        let demotion = Demotion { to, planned: true, request: Some(id), leaving: false };
        self.begin_planned(now, demotion, out);
    }

    fn begin_planned(&mut self, now: At, demotion: Demotion, out: &mut Outbox) {
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

    /// lictor is asked to stop while its node is the primary.
    pub(crate) fn leave_primary(&mut self, now: At, out: &mut Outbox) {
        let to = self.choose(None).ok();
        let demotion = Demotion { to, planned: true, request: None, leaving: true };
        self.begin_planned(now, demotion, out);
    }

    /// The successor of a planned demotion, or why there is none.
    fn choose(&self, wanted: Option<&NodeName>) -> Result<NodeName, String> {
        if let Some(node) = wanted {
            let member = self.members.get(node).ok_or(format!("{node} is not a member"))?;
            return self.fit(member).map(|()| node.clone());
        }
        let mut why = Vec::new();
        let mut best: Option<&MemberValue> = None;
        for member in self.members.values().filter(|member| member.node != *self.me()) {
            match self.fit(member) {
                Ok(())
                    if best
                        .is_none_or(|best| self.standing_of(member) > self.standing_of(best)) =>
                {
                    best = Some(member);
                }
                Ok(()) => {}
                Err(reason) => why.push(reason),
            }
        }
        best.map(|member| member.node.clone()).ok_or_else(|| {
            if why.is_empty() { "there is no other member".into() } else { why.join("; ") }
        })
    }

    /// Position first, then priority.
    fn standing_of(&self, member: &MemberValue) -> (Option<u64>, u32) {
        (self.peers.order_of(&member.node), member.priority)
    }

    fn fit(&self, member: &MemberValue) -> Result<(), String> {
        let node = &member.node;
        if member.no_failover {
            return Err(format!("{node} is barred by `no_failover`"));
        }
        if !self.eligible(member) {
            return Err(format!("{node} is not eligible: its data was not admitted"));
        }
        if member.state != "replica" || !self.follows_me(member) {
            return Err(format!("{node} is {} and does not follow this term", member.state));
        }
        if self.peers.silent(node, self.now) >= CANDIDATE_SILENCE {
            return Err(format!("{node} does not answer"));
        }
        let listed = |sync: &BTreeSet<NodeName>| sync.contains(node);
        match self.set.lead.sync {
            SyncMode::Off => Ok(()),
            SyncMode::On | SyncMode::Strict(_)
                if self.sync_seen().is_some_and(|sync| listed(&sync.members)) =>
            {
                Ok(())
            }
            SyncMode::On | SyncMode::Strict(_) => {
                Err(format!("{node} is not in the sync set: it may lack acknowledged writes"))
            }
        }
    }
}
