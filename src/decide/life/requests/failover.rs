//! `failover`: the primary is dead or hangs, and an operator wants another one now.
//!
//! All members are asked for their positions first. Whoever loses nothing takes by the ordinary
//! rules, also while the cluster is paused. Where nobody can, the refusal says why of each, and
//! what `--accept-loss` would risk; with it the node that is named, or the one with most, takes by
//! force (`lead::force`), which sets aside who may take and never when.
//!
//! A live primary is killed, not demoted: it may hang. It releases clean, so that the lease need
//! not be waited out.

use super::super::{After, Node, Side, State};
use super::{Outcome, Seat};
use crate::decide::action::{Action, Failover};
use crate::decide::io::Outbox;
use crate::decide::lead::counted::{self, Short};
use crate::decide::lead::{Force, LeadIn, Leadership, Standpoint};
use crate::decide::reason::Reason;
use crate::decide::records::{LockState, MemberValue, RequestStatus, ResultValue};
use crate::decide::time::{At, Span};
use crate::decide::types::{Epoch, NodeName};
use std::collections::BTreeMap;

/// How long the members' positions are waited for: a question's own timeout, and a bit.
const ASK_MOST: Span = Span(1_200);
/// The node that is named answers by itself, if it lives; the others wait this long.
const LEAVE_TO_NAMED: Span = Span(1_500);
/// How long an order stands: the longest wait for a lease of a few seconds, a count, a promotion,
/// several times over.
const ORDER_MOST: Span = Span::secs(30);
/// A node that was ordered and gives no word for so long is dead.
const ORDER_GONE: Span = Span::secs(45);

/// What this node was told to do by a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    id: String,
    until: At,
}

/// The round of questions before an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Round {
    id: String,
    begun: At,
    asked: bool,
}

impl Node {
    pub(super) fn answer_failover(
        &mut self,
        now: At,
        seat: &Seat,
        (id, asked_in): (&str, Epoch),
        wish: &Failover,
        out: &mut Outbox,
    ) -> Option<Outcome> {
        let me = self.me().clone();
        match seat {
            Seat::Leader(_) if wish.to.is_none() || wish.to.as_ref() == Some(&me) => {
                if asked_in < self.lead_epoch() {
                    let text = format!("{me} took over already (epoch {})", self.lead_epoch());
                    return Some(Outcome::done(Some(me), text));
                }
                if wish.to.is_some() {
                    return Some(Outcome::done(Some(me.clone()), format!("{me} is the primary")));
                }
            }
            Seat::Leader(_) | Seat::Anybody => {}
        }
        if asked_in < self.epoch() {
            return Some(Outcome::refused(self.told_too_late(asked_in)));
        }
        let leads = matches!(seat, Seat::Leader(_));
        if leads && !matches!(self.state, State::Primary) || !self.all_asked(now, id, wish, out) {
            return None;
        }
        self.desk.round = None;
        Some(if leads { self.fail_over_from_me(wish) } else { self.fail_over_alone(wish) })
    }

    /// Whether every member has said how far it is, or had the time to.
    fn all_asked(&mut self, now: At, id: &str, wish: &Failover, out: &mut Outbox) -> bool {
        // One after the other: two that began each other's rounds anew ran ever more hooks.
        if self.desk.round.as_ref().is_some_and(|round| round.id != id && self.is_open(&round.id)) {
            return false;
        }
        if self.desk.round.as_ref().is_none_or(|round| round.id != id) {
            self.desk.round = Some(Round { id: id.to_owned(), begun: now, asked: false });
        }
        let me = self.me().clone();
        let leads = matches!(self.leadership(), Leadership::Open { .. });
        let mine = leads || wish.to.as_ref().is_none_or(|to| *to == me);
        let Some(round) = &mut self.desk.round else { return false };
        let begins = round.begun + if mine { Span::ZERO } else { LEAVE_TO_NAMED };
        if now < begins {
            return false;
        }
        let others: Vec<NodeName> =
            self.members.keys().filter(|node| **node != me).cloned().collect();
        if !round.asked {
            round.asked = true;
            self.peers.forget_orders();
            for node in &others {
                self.ask_position(now, node, out);
            }
            if self.app.is_some() && self.state.serves() {
                let facts = self.facts();
                self.run_side(Side::Own, facts, out);
            }
            return false;
        }
        let serves = self.app.is_some() && self.state.serves();
        let known = others.iter().chain(serves.then_some(&me));
        now >= begins + ASK_MOST || known.clone().all(|node| self.peers.order_of(node).is_some())
    }

    /// Asked, and not answered yet.
    fn is_open(&self, id: &str) -> bool {
        self.desk.requests.contains_key(id) && !self.desk.results.contains_key(id)
    }

    /// The primary itself is asked: it still holds the lock.
    fn fail_over_from_me(&self, wish: &Failover) -> Outcome {
        let me = self.me();
        let why = match self.choose(wish.to.as_ref()) {
            Ok(to) if self.sync_seen().is_some() || wish.accept_loss => {
                return Outcome::started(to.clone(), format!("{me} is killed, {to} takes over"));
            }
            Ok(_) => {
                return Outcome::refused(format!(
                    "sync is off: what {me} has acknowledged and not shipped yet would be lost; if \
                     it still answers, `lictor switchover` loses nothing; --accept-loss kills it \
                     all the same"
                ));
            }
            Err(why) => why,
        };
        self.force_or_refuse(wish, why)
    }

    /// Nobody leads: the lease was waited out, or the lock lies there clean.
    fn fail_over_alone(&self, wish: &Failover) -> Outcome {
        if self.term_seen().is_none() || self.cluster.is_none() {
            return Outcome::refused(
                "state/term or state/cluster is not in Consul, so nobody knows who may lead; \
                 `lictor adopt --node NODE` says whose data counts",
            );
        }
        let mut best: Option<&MemberValue> = None;
        let mut why = Vec::new();
        for member in self.members.values() {
            if wish.to.as_ref().is_some_and(|to| *to != member.node) {
                continue;
            }
            match self.loses_nothing(member) {
                Ok(()) => {
                    if best.is_none_or(|best| self.rank_of(member) > self.rank_of(best)) {
                        best = Some(member);
                    }
                }
                Err(reason) => why.push(reason),
            }
        }
        if let Some(best) = best {
            let to = best.node.clone();
            return Outcome::started(to.clone(), format!("{to} takes over and loses nothing"));
        }
        let why = match &wish.to {
            Some(to) if !self.members.contains_key(to) => format!("{to} is not a member"),
            Some(_) | None => why.join("; "),
        };
        self.force_or_refuse(wish, why)
    }

    fn rank_of(&self, member: &MemberValue) -> (Option<u64>, u32) {
        (self.peers.order_of(&member.node), member.priority)
    }

    /// Whether this member can take by the rules, as far as records and positions tell.
    fn loses_nothing(&self, member: &MemberValue) -> Result<(), String> {
        let node = &member.node;
        self.can_serve(member)?;
        if member.no_failover {
            return Err(format!("{node} is barred by `no_failover`"));
        }
        if !self.eligible(member) {
            return Err(format!("{node} is not eligible: its data was not admitted"));
        }
        let Some(term) = self.term_seen() else { return Err("there is no term".into()) };
        let follows = member.follows.as_ref();
        let followed = follows.is_some_and(|f| f.node == term.node && f.run == term.run);
        if *node != term.node && !followed {
            return Err(format!("{node} did not follow {}", term.node));
        }
        let Some(sync) = self.sync_seen() else { return Ok(()) };
        let answers: BTreeMap<NodeName, Standpoint> = self
            .members
            .values()
            .filter_map(|member| {
                let order = self.peers.order_of(&member.node)?;
                let point = Standpoint { order, priority: member.priority, frozen: true };
                Some((member.node.clone(), point))
            })
            .collect();
        counted::suffices(sync, &term.node, node, &answers).map_err(|short| match short {
            Short::NotMember => {
                format!("{node} is not in the sync set: it may lack acknowledged writes")
            }
            Short::NoOwnPosition => format!("{node} gives no position"),
            Short::TooFew { need, have, missing } => format!(
                "{node} needs the positions of {need} sync members and has {have}: {} may have \
                 more",
                super::super::facts::names(&missing)
            ),
            Short::Ahead { node: ahead, order, own } => {
                format!("{ahead} is ahead of {node} ({order} against {own})")
            }
        })
    }

    /// What no flag can replace.
    fn can_serve(&self, member: &MemberValue) -> Result<(), String> {
        let node = &member.node;
        let ours = self.cluster.as_ref().map(|cluster| &cluster.id);
        if member.cluster.is_none() {
            return Err(format!("{node} has no data"));
        }
        if member.cluster.as_ref() != ours {
            return Err(format!("{node} has data of another cluster"));
        }
        if self.peers.order_of(node).is_none() {
            return Err(format!("{node} does not answer"));
        }
        if member.state != "replica" {
            return Err(format!("{node} is {}", member.state));
        }
        Ok(())
    }

    fn force_or_refuse(&self, wish: &Failover, why: String) -> Outcome {
        let chosen = match &wish.to {
            Some(to) => self.members.get(to).filter(|member| self.can_serve(member).is_ok()),
            None => {
                let others = self.members.values().filter(|member| member.node != *self.me());
                let alone = !matches!(self.leadership(), Leadership::Open { .. });
                let own = self.members.get(self.me()).filter(|_| alone);
                let able = others.chain(own).filter(|member| self.can_serve(member).is_ok());
                able.max_by_key(|member| self.rank_of(member))
            }
        };
        let Some(member) = chosen else { return Outcome::refused(why) };
        let (to, risk) = (member.node.clone(), self.risk_of(&member.node));
        if !wish.accept_loss {
            let text = format!("{why}. --accept-loss --to {to} would promote {to} anyway: {risk}");
            return Outcome::refused(text);
        }
        if let Some(doubt) = self.doubt_of_the_end(member).filter(|_| !wish.primary_stopped) {
            return Outcome::refused(doubt);
        }
        Outcome { force: true, ..Outcome::started(to.clone(), format!("{to} by force: {risk}")) }
    }

    /// What may be lost if this node leads next.
    fn risk_of(&self, node: &NodeName) -> String {
        let own = self.peers.order_of(node);
        let (mut ahead, mut silent) = (Vec::new(), Vec::new());
        for other in self.members.keys().filter(|other| *other != node) {
            match self.peers.order_of(other) {
                Some(order) if Some(order) > own => ahead.push(format!("{other} ({order})")),
                Some(_) => {}
                None => silent.push(other.to_string()),
            }
        }
        let mut parts = vec![format!("it has position {}", own.unwrap_or_default())];
        if !ahead.is_empty() {
            parts.push(format!("what {} has beyond that is lost", ahead.join(", ")));
        }
        if !silent.is_empty() {
            parts.push(format!("what only {} has is lost", silent.join(", ")));
        }
        if ahead.is_empty() && silent.is_empty() {
            parts.push("nobody has more".into());
        }
        parts.join(", ")
    }

    /// A primary that is cut off from Consul may live on by the promises of those that the list
    /// names. A node that is not named gave none and can't be asked for one: somebody must know
    /// that the old primary is stopped.
    fn doubt_of_the_end(&self, member: &MemberValue) -> Option<String> {
        let term = self.term_seen()?;
        let clean = self.lead.leader_seen().is_some_and(|leader| leader.state == LockState::Clean);
        let leads = matches!(self.leadership(), Leadership::Open { .. });
        // One process a data directory: an answer of the next one is the end of the last.
        let anew = self
            .members
            .get(&term.node)
            .is_some_and(|old| old.run != term.run && self.peers.order_of(&old.node).is_some());
        if clean || leads || anew || self.eligible(member) || member.node == term.node {
            return None;
        }
        Some(format!(
            "{} may still be writing, cut off from Consul, and nothing that {} knows would end \
             that; make sure that it is stopped, then repeat with --primary-stopped",
            term.node, member.node
        ))
    }

    /// The leader's part: its `started` is durable.
    pub(super) fn hand_over_by_force(&mut self, now: At, to: Option<NodeName>, out: &mut Outbox) {
        let text =
            format!("failover: killed, so that {} leads", to.as_ref().map_or("-", |n| n.as_str()));
        let why = Reason::new("demote.failover", text);
        self.decided(why.clone(), out);
        self.heir = to;
        self.tell_lead(now, LeadIn::Demote { why }, out);
        self.kill(now, After::Start { handed_over: true }, out);
    }

    /// Takes up an order that a result gives to this node, and drops one that is over.
    pub(super) fn heed_orders(&mut self, now: At, out: &mut Outbox) {
        let me = self.me().clone();
        let epoch = self.epoch();
        let follower =
            matches!(self.leadership(), Leadership::Follower | Leadership::Taking) && !self.stop;
        let found = self.desk.requests.iter().find_map(|(id, asked)| {
            let asked = asked.value.as_ref()?;
            let result = &self.desk.results.get(id)?.value;
            let mine = result.status == RequestStatus::Started && result.to.as_ref() == Some(&me);
            let forced = match Action::parse(&asked.verb, &asked.args).ok()? {
                Action::Failover(wish) => Some(result.force && wish.accept_loss),
                Action::Adopt { node, .. } => (node == me).then_some(true),
                Action::Switchover { .. }
                | Action::Reinit { .. }
                | Action::Leave { .. }
                | Action::Pause { .. }
                | Action::Resume
                | Action::Backup(_) => None,
            }?;
            (follower && mine && result.epoch == epoch).then(|| (id.clone(), forced))
        });
        match (found, &self.desk.order) {
            (Some((id, _)), Some(order)) if order.id == id => {}
            (Some((id, forced)), _) => {
                let until = now + ORDER_MOST;
                self.begin_order(now, Order { id, until }, forced, out);
            }
            (None, Some(_)) => {
                self.desk.order = None;
                self.tell_lead(now, LeadIn::Force(None), out);
            }
            (None, None) => {}
        }
    }

    fn begin_order(&mut self, now: At, order: Order, forced: bool, out: &mut Outbox) {
        let said = self.desk.results.get(&order.id).map(|result| result.value.reason.clone());
        let code = if forced { "failover.forced" } else { "failover.ordered" };
        let text = format!("an operator orders this node to lead: {}", said.unwrap_or_default());
        self.decided(Reason::new(code, text), out);
        let until = order.until;
        self.desk.order = Some(order);
        if forced {
            let against = self.term_seen().map(|term| (term.epoch, term.run.clone()));
            let force = Force { against, above: self.highest_floor(), until };
            self.tell_lead(now, LeadIn::Force(Some(force)), out);
        }
    }

    /// Whether an operator's order stands: what only keeps lictor from acting does not count then.
    pub(crate) fn is_ordered(&self) -> bool {
        self.desk.order.as_ref().is_some_and(|order| self.now < order.until)
    }

    /// Nobody leads, and the order came to nothing.
    pub(super) fn order_over(
        &self,
        now: At,
        id: &str,
        started: &ResultValue,
        since: At,
    ) -> Option<Outcome> {
        let to = started.to.as_ref()?;
        if to == self.me() {
            let order = self.desk.order.as_ref().filter(|order| order.id == id)?;
            let why = self.lead.explain(now).text;
            let text = format!("{to} did not get to lead within {ORDER_MOST}: {why}");
            return (now >= order.until).then(|| Outcome::failed(None, text));
        }
        let text = format!("{to} was to lead and gave no more word");
        (now.since(since) >= ORDER_GONE).then(|| Outcome::failed(None, text))
    }
}
