//! The leader's part in `reinit` and `leave`: a node that gives up its data or itself is first
//! taken off the list and out of the sync set, so that nobody counts on it. Only then it is told to
//! go on.

use super::super::{Node, State};
use super::{Outcome, Seat};
use crate::decide::action::Action;
use crate::decide::call::Verb;
use crate::decide::io::Outbox;
use crate::decide::lead::{Leadership, SyncMode};
use crate::decide::records::{MemberValue, RequestStatus, ResultValue};
use crate::decide::time::{At, Span};
use crate::decide::types::NodeName;
use std::collections::BTreeSet;

/// A node that did not answer a ping for so long can't be told anything.
const SILENT: Span = Span::secs(3);
/// The two writes, each with its retries, and the `sync` hook between them.
const PART_MOST: Span = Span::secs(20);
/// A node that leaves and is silent for so long has left.
const GONE: Span = Span::secs(10);
/// The node that is named answers by itself, if it lives; the others wait this long.
const LEAVE_TO_NAMED: Span = Span(1_500);

/// The request that this node works on; a leader takes its node off the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parting {
    id: String,
    begun: At,
}

type Answer = Option<(Outcome, Vec<Verb>)>;

fn plain(outcome: Outcome) -> Answer {
    Some((outcome, Vec::new()))
}

/// The states in which a node has no data to give up.
const EMPTY: [&str; 3] = ["joining", "wiping", "bootstrapping"];

impl Node {
    /// Nodes that nobody may count on any more.
    pub(crate) fn parting(&self) -> BTreeSet<NodeName> {
        let mut nodes = BTreeSet::new();
        for (id, asked) in &self.desk.requests {
            let started = match self.desk.results.get(id) {
                Some(result) => result.value.status == RequestStatus::Started,
                None => self.desk.parting.as_ref().is_some_and(|parting| parting.id == *id),
            };
            let node = asked.value.as_ref().filter(|_| started).and_then(|asked| {
                match Action::parse(&asked.verb, &asked.args).ok()? {
                    Action::Reinit { node } | Action::Leave { node, .. } => Some(node),
                    Action::Switchover { .. }
                    | Action::Failover(_)
                    | Action::Adopt { .. }
                    | Action::Pause { .. }
                    | Action::Resume
                    | Action::Backup(_) => None,
                }
            });
            nodes.extend(node);
        }
        nodes
    }

    pub(super) fn answer_reinit(
        &mut self,
        now: At,
        seat: &Seat,
        id: &str,
        node: &NodeName,
    ) -> Answer {
        let refused = |text: String| plain(Outcome::refused(text));
        if !matches!(seat, Seat::Leader(_)) {
            return refused("nobody leads: there is nothing to clone from".into());
        }
        if let Some((pause, _)) = &self.pause {
            return refused(format!("the cluster is paused by {}; `lictor resume`", pause.told()));
        }
        if node == self.me() {
            return refused(format!("{node} is the primary; `lictor switchover` first"));
        }
        let member = match self.member_that_answers(now, node) {
            Ok(member) => member,
            Err(why) => return refused(why),
        };
        if EMPTY.contains(&member.state.as_str()) {
            return refused(format!("{node} is {}: it makes its data anew already", member.state));
        }
        if !matches!(self.state, State::Primary) {
            return None;
        }
        match self.part_with(now, id, node, false) {
            Ok(false) => None,
            Ok(true) => {
                let text = format!("{node} is off the list; it wipes its data and clones again");
                plain(Outcome::started(node.clone(), text))
            }
            Err(why) => refused(why),
        }
    }

    pub(super) fn answer_leave(
        &mut self,
        now: At,
        seat: &Seat,
        id: &str,
        (node, force): (&NodeName, bool),
        out: &mut Outbox,
    ) -> Answer {
        let refused = |text: String| plain(Outcome::refused(text));
        if !matches!(seat, Seat::Leader(_)) {
            return self.leave_alone(now, id, node, force);
        }
        if !self.members.contains_key(node) {
            return refused(format!("{node} is not a member"));
        }
        if !matches!(self.state, State::Primary) {
            return None;
        }
        if node == self.me() {
            return self.hand_over_and_leave(now, force, out);
        }
        if let Some(why) = self.needed(node).filter(|_| !force) {
            return refused(why);
        }
        self.send_off(now, id, node, force)
    }

    /// Since when this node works on the request.
    pub(super) fn first_seen(&mut self, now: At, id: &str) -> At {
        match &self.desk.parting {
            Some(parting) if parting.id == id => parting.begun,
            Some(_) | None => {
                self.desk.parting = Some(Parting { id: id.to_owned(), begun: now });
                now
            }
        }
    }

    /// Off the list first; then it is told to go, or, silent for long, its record goes.
    fn send_off(&mut self, now: At, id: &str, node: &NodeName, force: bool) -> Answer {
        match self.part_with(now, id, node, force) {
            Ok(false) => None,
            Err(why) => plain(Outcome::refused(why)),
            Ok(true) if self.peers.silent(node, now) >= SILENT => {
                let text =
                    format!("{node} does not answer: it is off the list, its record removed");
                Some((Outcome::done(Some(node.clone()), text), self.without_record(node)))
            }
            Ok(true) => {
                let text = format!("{node} is off the list; it stops its application and leaves");
                plain(Outcome::started(node.clone(), text))
            }
        }
    }

    fn without_record(&self, node: &NodeName) -> Vec<Verb> {
        let at = self.member_at.get(node);
        at.map(|at| Verb::DeleteCas(self.keys.member(node), *at)).into_iter().collect()
    }

    /// Nobody leads: only the node itself can leave, and only by force.
    fn leave_alone(&mut self, now: At, id: &str, node: &NodeName, force: bool) -> Answer {
        if node == self.me() && force {
            let text = format!("{node} leaves without a leader to take it off the list");
            return plain(Outcome::started(node.clone(), text));
        }
        let mine = node == self.me();
        if !mine && now < self.first_seen(now, id) + LEAVE_TO_NAMED {
            return None;
        }
        let text = format!("nobody leads, so nobody can take {node} off the list");
        let mend = if mine { "; --force leaves all the same" } else { "; `lictor failover` first" };
        plain(Outcome::refused(text + mend))
    }

    fn hand_over_and_leave(&mut self, now: At, force: bool, out: &mut Outbox) -> Answer {
        let me = self.me().clone();
        match self.choose(None) {
            Ok(_) if self.still_asking(now, out) => None,
            Ok(to) => {
                self.desk.choosing = None;
                let text = format!("{me} hands over to {to} before it leaves");
                plain(Outcome::started(to, text))
            }
            Err(_) if force => {
                let text = format!("{me} leaves, and nobody takes over");
                plain(Outcome::started(me, text))
            }
            Err(why) => plain(Outcome::refused(format!(
                "{me} is the primary and nobody can take over ({why}); --force leaves the cluster \
                 without a primary"
            ))),
        }
    }

    /// Whether this node is the last that could take over without loss.
    fn needed(&self, node: &NodeName) -> Option<String> {
        let me = self.me();
        if let Some(sync) = self.sync_seen() {
            let others: Vec<_> = sync.members.iter().filter(|other| *other != me).collect();
            if others == [node] {
                return Some(format!(
                    "{node} is the only node in sync with the primary {me}; --force leaves {me} \
                     alone with what is written"
                ));
            }
        }
        let others = self.eligible_others();
        (others.len() == 1 && others.contains(node)).then(|| {
            format!(
                "{node} is the only node that could take over from {me}; --force leaves {me} alone"
            )
        })
    }

    fn member_that_answers(&self, now: At, node: &NodeName) -> Result<&MemberValue, String> {
        let member = self.members.get(node).ok_or(format!("{node} is not a member"))?;
        if self.peers.silent(node, now) >= SILENT {
            return Err(format!("{node} does not answer; start it first"));
        }
        Ok(member)
    }

    /// Whether the node is off the list and out of the sync set, as Consul confirms; begins it.
    fn part_with(
        &mut self,
        now: At,
        id: &str,
        node: &NodeName,
        force: bool,
    ) -> Result<bool, String> {
        if let (SyncMode::Strict(acks), Some(sync)) = (self.set.lead.sync, self.sync_seen()) {
            let others = sync.members.iter().filter(|other| *other != self.me());
            let left = others.filter(|other| *other != node).count();
            if sync.members.contains(node) && left < acks as usize && !force {
                return Err(format!(
                    "sync is strict: without {node} no write would be acknowledged; add a node \
                     first"
                ));
            }
        }
        let begun = self.first_seen(now, id);
        let listed = self.members.get(node).is_some_and(|member| self.eligible(member));
        let synced = self.sync_seen().is_some_and(|sync| sync.members.contains(node));
        if !listed && (!synced || force && now.since(begun) >= SILENT) {
            return Ok(true);
        }
        if now.since(begun) >= PART_MOST {
            self.desk.parting = None;
            return Err(format!("{node} could not be taken off the list within {PART_MOST}"));
        }
        Ok(false)
    }

    /// What the leader still does for a `leave` that was started.
    pub(super) fn next_leave(
        &mut self,
        now: At,
        id: &str,
        (node, force): (&NodeName, bool),
        known: (&ResultValue, At),
    ) -> Answer {
        let (started, since) = known;
        if !self.members.contains_key(node) {
            return plain(Outcome::done(Some(node.clone()), format!("{node} has left")));
        }
        let told = started.to.as_ref() == Some(node);
        if told {
            let gone = self.peers.silent(node, now) >= GONE && now.since(since) >= GONE;
            let text = format!("{node} has left without a word; its record is removed");
            return gone
                .then(|| (Outcome::done(Some(node.clone()), text), self.without_record(node)));
        }
        if !matches!(self.state, State::Primary) || started.epoch >= self.lead_epoch() {
            return None;
        }
        if node == self.me() {
            let text = format!("{node} leads again: its successor did not take over");
            return plain(Outcome::failed(None, text));
        }
        // It has handed over to this node and is a replica by now, or will be.
        self.send_off(now, id, node, force)
    }

    /// A `reinit` whose node gives no word any more.
    pub(super) fn next_reinit(&self, now: At, node: &NodeName, since: At) -> Answer {
        let leads = matches!(self.leadership(), Leadership::Open { .. });
        let gone = leads && self.peers.silent(node, now) >= Span::secs(60);
        (gone && now.since(since) >= Span::secs(60)).then(|| {
            let text = format!("{node} gives no word any more; `lictor status` shows how it is");
            (Outcome::failed(None, text), Vec::new())
        })
    }
}
