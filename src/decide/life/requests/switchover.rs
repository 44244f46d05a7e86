//! The planned change of the primary, and who can be its successor.

use super::super::{Node, State};
use super::Outcome;
use crate::decide::io::Outbox;
use crate::decide::records::{MemberValue, ResultValue};
use crate::decide::time::{At, Span};
use crate::decide::types::NodeName;

/// A candidate that did not answer a ping for this long is not switched over to.
const CANDIDATE_SILENCE: Span = Span::secs(3);
/// How long the candidates' positions are waited for; asked before anything stops.
const CHOOSE_MOST: Span = Span(500);
/// How long a switchover waits for the `sync` hook that lets its successor in.
const LET_IN_MOST: Span = Span::secs(2);

impl Node {
    pub(super) fn answer_switchover(
        &mut self,
        now: At,
        wanted: Option<NodeName>,
        out: &mut Outbox,
    ) -> Option<Outcome> {
        if wanted.as_ref() == Some(self.me()) {
            let reason = format!("{} is the primary already", self.me());
            return Some(Outcome::done(wanted, reason));
        }
        if !matches!(self.state, State::Primary) {
            return None;
        }
        if wanted.is_none() && self.pause.is_some() {
            return Some(Outcome::refused(
                "the cluster is paused, nobody is chosen; name the new primary with --to, or \
                 `lictor resume` first",
            ));
        }
        let outcome = match self.choose(wanted.as_ref()) {
            Ok(_) if wanted.is_none() && self.still_asking(now, out) => return None,
            Ok(to) if self.is_outside(&to) => {
                let until = *self.desk.letting_in.get_or_insert(now + LET_IN_MOST);
                if now < until {
                    return None;
                }
                Outcome::refused(format!(
                    "{to} was just counted among those who acknowledge, and the sync hook has not \
                     let it in yet; ask again"
                ))
            }
            Ok(to) => {
                let reason = format!("switching over to {to}");
                Outcome::started(to, reason)
            }
            Err(reason) => Outcome::refused(reason),
        };
        self.desk.choosing = None;
        self.desk.letting_in = None;
        Some(outcome)
    }

    /// Whether this member is counted already, and the application does not take its
    /// acknowledgements yet: a demotion now would cut the `sync` hook short that lets it in, and it
    /// could not receive the rest (MariaDB's account of it is locked until then).
    fn is_outside(&self, node: &NodeName) -> bool {
        let counted = self.sync_seen().is_some_and(|sync| sync.members.contains(node));
        counted && !self.lead.sync_in_force().members.contains(node)
    }

    /// The next leader knows what became of it.
    pub(super) fn settle_move(&self, started: &ResultValue) -> Option<Outcome> {
        if !matches!(self.state, State::Primary) || started.epoch >= self.lead_epoch() {
            return None;
        }
        let me = self.me().clone();
        if started.to.as_ref() == Some(&me) {
            let how = if started.force { &format!(", by force: {}", started.reason) } else { "" };
            let reason = format!("{me} is the primary{how}");
            return Some(Outcome::done(Some(me), reason));
        }
        let reason = format!("{me} became the primary instead");
        Some(Outcome::failed(Some(me), reason))
    }

    /// Before a successor is chosen the candidates say how far they are; whoever is silent is
    /// chosen last.
    pub(crate) fn still_asking(&mut self, now: At, out: &mut Outbox) -> bool {
        let fit: Vec<NodeName> = self
            .members
            .values()
            .filter(|member| member.node != *self.me() && self.fit(member).is_ok())
            .map(|member| member.node.clone())
            .collect();
        let Some(until) = self.desk.choosing else {
            self.desk.choosing = Some(now + CHOOSE_MOST);
            self.peers.forget_orders();
            for node in &fit {
                self.ask_position(now, node, out);
            }
            return fit.len() > 1;
        };
        now < until && fit.iter().any(|node| self.peers.order_of(node).is_none())
    }

    /// The successor of a planned demotion, or why there is none.
    pub(crate) fn choose(&self, wanted: Option<&NodeName>) -> Result<NodeName, String> {
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

    /// Who is let in and not held down first, then position, then priority.
    fn standing_of(&self, member: &MemberValue) -> (bool, bool, Option<u64>, u32) {
        let free = member.held_until.is_none_or(|until| until < self.wall);
        (!self.is_outside(&member.node), free, self.peers.order_of(&member.node), member.priority)
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
        if !self.peers.is_healthy(node) {
            return Err(format!("{node} runs, and its check fails"));
        }
        // Whether it is counted is what stands in Consul, not what the setting says since a moment.
        match self.sync_seen() {
            Some(sync) if !sync.members.contains(node) => {
                Err(format!("{node} is not in the sync set: it may lack acknowledged writes"))
            }
            Some(_) | None => Ok(()),
        }
    }
}
