//! Direct questions between nodes: pings of a leader, positions for a survey, a barrier or a
//! switchover.

use super::freeze::Asker;
use super::lag::Lag;
use super::position::read_position;
use super::promises::Promising;
use super::{Node, Side};
use crate::decide::hook::HookEnd;
use crate::decide::io::{Effect, Outbox};
use crate::decide::lead::{LeadIn, Leadership, Standpoint};
use crate::decide::mutant::{self, Mutant};
use crate::decide::peer::{Ask, PeerCall, PeerError, Told};
use crate::decide::time::{At, Span};
use crate::decide::types::{Epoch, NodeName, OpId, RunId};
use std::collections::{BTreeMap, BTreeSet};

const PING_STEP: Span = Span::secs(1);
const PING_TIMEOUT: Span = Span::secs(1);
/// A position is a hook's work on the other side; more than its usual 30 ms is a busy machine.
const POSITION_TIMEOUT: Span = Span(1_000);
/// A survey for the rank ends with whoever answered by then.
const SURVEY_MOST: Span = Span(1_200);
/// To stop receiving from a primary that hangs takes MariaDB a second (measured: 1.03 s).
const FREEZE_TIMEOUT: Span = Span(2_500);
/// The same for a survey whose answers are counted.
const COUNT_MOST: Span = Span(2_700);
/// Hooks beside the main one, above which others' questions are declined: each member and this
/// node have one of a kind under way.
const SIDES_MAX: usize = 64;
/// A node that can't freeze at this moment (a hook is being stopped) is asked again so soon, until
/// a survey for the rank would be over.
const ASK_AGAIN: Span = Span(50);

/// What `Lead` wants to know of whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub id: OpId,
    pub nodes: BTreeSet<NodeName>,
    pub freeze: bool,
    pub epoch: Epoch,
    pub run: RunId,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Survey {
    lead: OpId,
    waiting: BTreeSet<NodeName>,
    answers: BTreeMap<NodeName, Standpoint>,
    ask: Ask,
    /// Who declined, and when it is asked again.
    again: BTreeMap<NodeName, At>,
    started: At,
    give_up: At,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    Ping(NodeName),
    Journal {
        node: NodeName,
        run: RunId,
    },
    Survey {
        survey: OpId,
        node: NodeName,
    },
    Position(NodeName),
    /// Of `Lead`'s round.
    Promise(OpId),
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Pinged {
    last: At,
    asked: Option<OpId>,
    heard: Option<Heard>,
}

/// What a member last said of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heard {
    pub state: String,
    /// Its application's check passes.
    pub healthy: bool,
    pub lag: Option<Span>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Peers {
    pub(super) calls: BTreeMap<OpId, Asked>,
    surveys: BTreeMap<OpId, Survey>,
    pings: BTreeMap<NodeName, Pinged>,
    next_ping: Option<At>,
    /// Positions reported since they were last asked for.
    orders: BTreeMap<NodeName, u64>,
    /// Their lags, where they said one.
    lags: BTreeMap<NodeName, Span>,
    /// Whoever gave no position is not asked again before this.
    quiet: BTreeMap<NodeName, At>,
}

impl Peers {
    pub fn wake(&self, now: At) -> Option<At> {
        let ends = self.surveys.values().map(|survey| survey.give_up);
        let again = self.surveys.values().flat_map(|survey| survey.again.values().copied());
        let quiet = self.quiet.values().copied();
        ends.chain(again).chain(self.next_ping).chain(quiet).filter(|at| *at > now).min()
    }

    pub fn order_of(&self, node: &NodeName) -> Option<u64> {
        self.orders.get(node).copied()
    }

    pub fn lag_of(&self, node: &NodeName) -> Option<Span> {
        self.lags.get(node).copied()
    }

    pub fn forget_orders(&mut self) {
        self.orders.clear();
        self.lags.clear();
    }

    /// How long this member has not answered.
    pub fn silent(&self, node: &NodeName, now: At) -> Span {
        if mutant::on(Mutant::M84) {
            return Span::ZERO;
        }
        self.pings.get(node).map_or(Span::ZERO, |pinged| now.since(pinged.last))
    }

    /// Since when this member has not answered, and its last answer; `None`: nobody asks it.
    pub fn heard(&self, node: &NodeName, now: At) -> Option<(Span, Option<&Heard>)> {
        let pinged = self.pings.get(node)?;
        Some((now.since(pinged.last), pinged.heard.as_ref()))
    }

    /// Of one that has not answered yet nothing bad is known.
    pub fn is_healthy(&self, node: &NodeName) -> bool {
        let heard = self.pings.get(node).and_then(|pinged| pinged.heard.as_ref());
        // What it said while it was starting says nothing of the replica it has become since.
        heard.is_none_or(|heard| heard.healthy || heard.state != "replica")
    }

    pub(crate) fn is_asked(&self, what: &Asked) -> bool {
        self.calls.values().any(|asked| asked == what)
    }

    pub(crate) fn ask(&mut self, id: OpId, what: Asked) {
        self.calls.insert(id, what);
    }
}

impl Node {
    pub(crate) fn peer_call(
        &mut self,
        node: &NodeName,
        ask: Ask,
        timeout: Span,
        out: &mut Outbox,
    ) -> Option<OpId> {
        let member = self.members.get(node)?;
        let (run, addr, tls) = (member.run.clone(), member.peer.clone(), member.tls);
        let id = self.next_op();
        out.push(Effect::PeerCall {
            id,
            call: PeerCall { to: node.clone(), run, addr, tls, ask, timeout },
        });
        Some(id)
    }

    pub(crate) fn survey(&mut self, now: At, wanted: Wanted, out: &mut Outbox) {
        let survey = self.next_op();
        let most = if wanted.freeze { COUNT_MOST } else { SURVEY_MOST };
        let (epoch, run) = (wanted.epoch, wanted.run);
        let ask = Ask::Position { freeze: wanted.freeze, epoch, run: run.clone() };
        let me = self.me().clone();
        let mut waiting = BTreeSet::new();
        for node in wanted.nodes.iter().filter(|node| **node != me) {
            if self.ask_for_survey(survey, node, ask.clone(), out) {
                waiting.insert(node.clone());
            }
        }
        waiting.insert(me);
        let entry = Survey {
            lead: wanted.id,
            waiting,
            answers: BTreeMap::new(),
            ask,
            again: BTreeMap::new(),
            started: now,
            give_up: now + most,
        };
        self.peers.surveys.insert(survey, entry);
        if wanted.freeze {
            self.frozen_wanted(now, (epoch, run), Asker::Survey(survey), out);
        } else {
            let facts = self.facts();
            self.run_side(Side::Survey { survey }, facts, out);
        }
    }

    /// Whether it could be asked.
    fn ask_for_survey(
        &mut self,
        survey: OpId,
        node: &NodeName,
        ask: Ask,
        out: &mut Outbox,
    ) -> bool {
        let freeze = matches!(ask, Ask::Position { freeze: true, .. });
        let timeout = if freeze { FREEZE_TIMEOUT } else { POSITION_TIMEOUT };
        let Some(id) = self.peer_call(node, ask, timeout, out) else { return false };
        self.peers.calls.insert(id, Asked::Survey { survey, node: node.clone() });
        true
    }

    /// A refusal of a final answer, the own one too, is not its last word; of another it is.
    pub(crate) fn survey_refused(
        &mut self,
        now: At,
        survey: OpId,
        node: NodeName,
        out: &mut Outbox,
    ) {
        if let Some(entry) = self.peers.surveys.get_mut(&survey)
            && matches!(entry.ask, Ask::Position { freeze: true, .. })
            && now.since(entry.started) < SURVEY_MOST
        {
            entry.again.insert(node, now + ASK_AGAIN);
            return;
        }
        self.survey_answered(now, survey, node, None, out);
    }

    pub(crate) fn own_position_ended(&mut self, end: HookEnd) {
        if let Some(position) = read_position(&end) {
            let me = self.me().clone();
            self.peers.orders.insert(me, position.order);
        }
    }

    fn tend_surveys(&mut self, now: At, out: &mut Outbox) {
        let mut due = Vec::new();
        for (survey, entry) in &mut self.peers.surveys {
            entry.again.retain(|node, at| {
                let wait = now < *at;
                if !wait {
                    due.push((*survey, node.clone(), entry.ask.clone()));
                }
                wait
            });
        }
        for (survey, node, ask) in due {
            if node == *self.me() {
                if let Ask::Position { epoch, run, .. } = ask {
                    self.frozen_wanted(now, (epoch, run), Asker::Survey(survey), out);
                }
            } else if !self.ask_for_survey(survey, &node, ask, out) {
                self.survey_answered(now, survey, node, None, out);
            }
        }
        let late = self.peers.surveys.iter().filter(|(_, survey)| now >= survey.give_up);
        for survey in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.survey_over(now, survey, out);
        }
    }

    pub(crate) fn own_survey_ended(
        &mut self,
        now: At,
        survey: OpId,
        end: HookEnd,
        out: &mut Outbox,
    ) {
        let me = self.me().clone();
        let priority = self.set.priority(&me);
        let point = read_position(&end).map(|position| Standpoint {
            order: position.order,
            priority,
            frozen: false,
        });
        self.survey_answered(now, survey, me, point, out);
    }

    pub(crate) fn survey_answered(
        &mut self,
        now: At,
        survey: OpId,
        node: NodeName,
        point: Option<Standpoint>,
        out: &mut Outbox,
    ) {
        let Some(entry) = self.peers.surveys.get_mut(&survey) else { return };
        entry.waiting.remove(&node);
        if let Some(point) = point {
            entry.answers.insert(node, point);
        }
        if entry.waiting.is_empty() {
            self.survey_over(now, survey, out);
        }
    }

    fn survey_over(&mut self, now: At, survey: OpId, out: &mut Outbox) {
        if let Some(entry) = self.peers.surveys.remove(&survey) {
            let (id, answers) = (entry.lead, entry.answers);
            let positions = answers.iter().map(|(node, at)| format!("{node}={}", at.order));
            self.journal.positions = Some(positions.collect::<Vec<_>>().join(" "));
            self.tell_lead(now, LeadIn::Surveyed { id, answers }, out);
        }
    }

    pub(crate) fn ask_position(&mut self, now: At, node: &NodeName, out: &mut Outbox) {
        self.peers.quiet.retain(|_, until| now < *until);
        if self.peers.is_asked(&Asked::Position(node.clone()))
            || self.peers.quiet.contains_key(node)
        {
            return;
        }
        let Some(term) = self.term_seen() else { return };
        let ask = Ask::Position { freeze: false, epoch: term.epoch, run: term.run.clone() };
        if let Some(id) = self.peer_call(node, ask, POSITION_TIMEOUT, out) {
            self.peers.calls.insert(id, Asked::Position(node.clone()));
        }
    }

    pub(crate) fn peer_asked(
        &mut self,
        now: At,
        id: OpId,
        from: (NodeName, RunId),
        ask: Ask,
        out: &mut Outbox,
    ) {
        match ask {
            Ask::Promise { epoch, run, round, lease } => {
                self.promise_asked(now, id, from, Promising { epoch, run, round, lease }, out);
            }
            Ask::Ping => {
                let epoch = self.term_seen().map(|term| term.epoch).unwrap_or_default();
                let lag_seconds = self.lag.seconds(now);
                let state = self.state.name().to_owned();
                let notes = self.journal.notes.last();
                let healthy = self.health.ok;
                let told = Told::Pong { epoch, state, lag_seconds, healthy, notes };
                out.push(Effect::PeerAnswer { id, told });
            }
            Ask::Journal { after } => {
                let told = self.lines_after(after);
                out.push(Effect::PeerAnswer { id, told });
            }
            Ask::Position { freeze, epoch, run } => match self.may_answer(freeze, epoch, &run) {
                Ok(()) if freeze => {
                    self.frozen_wanted(now, (epoch, run), Asker::Peer(id), out);
                }
                Ok(()) if self.sides.len() >= SIDES_MAX => {
                    let reason = format!("{SIDES_MAX} hooks run here already; ask again");
                    out.push(Effect::PeerAnswer { id, told: Told::Refused { reason } });
                }
                Ok(()) => {
                    let facts = self.facts();
                    self.run_side(Side::Answer { ask: id }, facts, out);
                }
                Err(reason) => {
                    let told = Told::Refused { reason };
                    out.push(Effect::PeerAnswer { id, told });
                }
            },
        }
    }

    pub(crate) fn peer_replied(
        &mut self,
        now: At,
        id: OpId,
        result: Result<Told, PeerError>,
        out: &mut Outbox,
    ) {
        let Some(asked) = self.peers.calls.remove(&id) else { return };
        match asked {
            Asked::Ping(node) => {
                if let Some(pinged) = self.peers.pings.get_mut(&node) {
                    pinged.asked = None;
                    if result.is_ok() {
                        pinged.last = now;
                    }
                    if let Ok(Told::Pong { state, lag_seconds, healthy, notes, .. }) = result {
                        let lag = lag_seconds.map(Lag::millis);
                        pinged.heard = Some(Heard { state, healthy, lag });
                        self.news_of(&node, notes, out);
                    }
                }
            }
            Asked::Journal { node, run } => {
                if let Ok(Told::Journal { lines }) = result {
                    self.lines_told(node, run, lines);
                }
            }
            Asked::Survey { survey, node } => {
                let point = match result {
                    Ok(Told::Refused { .. }) => {
                        self.survey_refused(now, survey, node, out);
                        return;
                    }
                    Ok(Told::Position { order, priority, frozen, .. }) => {
                        Some(Standpoint { order, priority, frozen })
                    }
                    Ok(
                        Told::Pong { .. }
                        | Told::Promised { .. }
                        | Told::Denied { .. }
                        | Told::Journal { .. },
                    )
                    | Err(_) => None,
                };
                self.survey_answered(now, survey, node, point, out);
            }
            Asked::Promise(round) => self.promise_replied(now, round, result, out),
            Asked::Position(node) => {
                if let Ok(Told::Position { order, lag_seconds, .. }) = result {
                    if let Some(lag) = lag_seconds {
                        self.peers.lags.insert(node.clone(), Lag::millis(lag));
                    }
                    self.peers.orders.insert(node, order);
                } else {
                    // A refused connection is answered at once: never ask in a circle.
                    self.peers.quiet.insert(node, now + ASK_AGAIN);
                }
            }
        }
    }

    /// Surveys that are over by time, and a leader's pings.
    pub(crate) fn tend_peers(&mut self, now: At, out: &mut Outbox) {
        self.tend_surveys(now, out);
        if !matches!(self.leadership(), Leadership::Open { .. }) {
            self.peers.pings.clear();
            self.peers.next_ping = None;
            return;
        }
        self.tend_list(now, out);
        if self.peers.next_ping.is_some_and(|next| now < next) {
            return;
        }
        self.peers.next_ping = Some(now + PING_STEP);
        // A listed node whose record is gone can't be asked; its silence counts all the same.
        let mut names = self.eligible_others();
        names.extend(self.members.keys().filter(|node| *node != self.me()).cloned());
        self.peers.pings.retain(|node, _| names.contains(node));
        for node in names {
            let pinged = self.peers.pings.entry(node.clone()).or_insert(Pinged {
                last: now,
                asked: None,
                heard: None,
            });
            if pinged.asked.is_some() {
                continue;
            }
            let asked = self.peer_call(&node, Ask::Ping, PING_TIMEOUT, out);
            if let Some(id) = asked {
                self.peers.calls.insert(id, Asked::Ping(node.clone()));
            }
            if let Some(pinged) = self.peers.pings.get_mut(&node) {
                pinged.asked = asked;
            }
        }
    }
}
