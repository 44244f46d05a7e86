//! The hold-down after a lost term: a node that failed as leader lets others lead for a while, so
//! that a sick node and a healthy one do not take turns.
//!
//! It is a courtesy, not a rule of safety: it bars nobody who is the only candidate, whether by the
//! list, because all others are held down too, or because no other has taken a lock that was free
//! for all for some time; an operator's
//! switchover or failover to the node goes before it. It is this process's memory: whoever starts
//! anew has followed another leader before it can be a candidate.

use super::{Node, Settings};
use crate::decide::io::Outbox;
use crate::decide::lead::{Leadership, SyncMode};
use crate::decide::reason::Reason;
use crate::decide::records::LockState;
use crate::decide::time::{At, Span};
use crate::decide::types::Epoch;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// How long a lock may be free for all before a held node takes it: others stop receiving, count
/// each other (2.7 s at the most) and wait their rank.
const OTHERS_GO_FIRST: Span = Span::secs(4);
/// Failures remembered: 2^30 times the shortest hold-down is above every longest one.
const FAILURES_KEPT: usize = 32;

/// Failures as a leader, and what follows from them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hold {
    failures: VecDeque<At>,
    /// The term the last one ended: one term fails once.
    epoch: Option<Epoch>,
    until: Option<At>,
    why: String,
}

impl Hold {
    /// A term failed; whether it had not failed before.
    pub fn again(&mut self, now: At, epoch: Epoch, why: &Reason, set: &Settings) -> bool {
        if self.epoch == Some(epoch) {
            return false;
        }
        self.failures.retain(|at| now.since(*at) < set.hold_down_window);
        if self.failures.len() == FAILURES_KEPT {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        self.epoch = Some(epoch);
        self.why = why.text.clone();
        self.until = Some(now + self.length(set));
        true
    }

    /// `hold_down`, doubled with each failure within the window before, up to `hold_down_max`.
    fn length(&self, set: &Settings) -> Span {
        let before = self.failures.len().saturating_sub(1);
        let long = set.hold_down.0.saturating_mul(1 << before.min(30));
        Span(long.min(set.hold_down_max.0))
    }

    /// It leads again: taken as the only candidate, or by an operator's wish.
    pub fn over(&mut self) {
        self.until = None;
    }

    fn until(&self, now: At) -> Option<At> {
        self.until.filter(|until| now < *until)
    }
}

impl Node {
    /// A term of this node ended by a failure, or is about to.
    pub(crate) fn hold_down(&mut self, now: At, why: &Reason, out: &mut Outbox) {
        let (Leadership::Open { epoch, .. } | Leadership::Closed { epoch, .. }) = self.leadership()
        else {
            return;
        };
        let off = self.set.hold_down == Span::ZERO || self.cluster.is_none();
        if off || !self.hold.again(now, epoch, why, &self.set) {
            return;
        }
        self.record.transition();
        let reason = self.held(now, true);
        if let Some(reason) = reason.filter(|_| !self.stop) {
            self.decided(reason, out);
        }
    }

    /// What bars this node; its text does not change with time unless `left` is asked for.
    fn held(&self, now: At, left: bool) -> Option<Reason> {
        let until = self.hold.until(now)?;
        let count = self.hold.failures.len();
        let time = match left {
            true => format!("for {} more", now.until(until)),
            false => format!("for {}", self.hold.length(&self.set)),
        };
        let text = format!(
            "held down {time}: it lost its term ({}), failure {count} within {}",
            self.hold.why, self.set.hold_down_window
        );
        let flip = format!(
            "the end of that time, a lock that no other takes for {OTHERS_GO_FIRST}, \
             or `lictor switchover --to {}`",
            self.me()
        );
        Some(Reason::new("bar.hold-down", text).flip(flip))
    }

    pub(crate) fn bar_of_hold(&self, now: At) -> Option<Reason> {
        self.hold_ends(now).and_then(|_| self.held(now, false))
    }

    /// Until when a hold-down would make this node wait if the lock's holder fell silent now.
    pub(crate) fn hold_delay(&self, now: At) -> Option<(At, Reason)> {
        let until = self.hold_ends(now).filter(|_| !self.is_ordered())?;
        Some((until, self.held(now, true)?))
    }

    /// When it bars no more: by itself, or because others had their turn. `None`: it does not bar.
    fn hold_ends(&self, now: At) -> Option<At> {
        let until = self.hold.until(now)?.min(self.others_had_it());
        (self.has_rivals() && !self.is_named() && now < until).then_some(until)
    }

    /// The lock was released to this node.
    fn is_named(&self) -> bool {
        let value = self.lead.leader_seen();
        value.is_some_and(|value| {
            value.state == LockState::Clean && value.to.as_ref() == Some(self.me())
        })
    }

    /// Until when others may take first.
    fn others_had_it(&self) -> At {
        self.lead.free_from() + OTHERS_GO_FIRST
    }

    /// Whether the list and the sync set name another node than this one and the leader that is
    /// replaced. Whoever is held down itself is none: where all failed lately, nobody waits.
    fn has_rivals(&self) -> bool {
        let sync = self.sync_seen().filter(|_| self.set.lead.sync != SyncMode::Off);
        self.eligible_others().iter().any(|node| {
            let replaced = self.term_seen().is_some_and(|term| term.node == *node);
            let counted = sync.is_none_or(|sync| sync.members.contains(node));
            let barred = self.members.get(node).is_some_and(|member| {
                let held = member.held_until.is_some_and(|until| self.wall < until);
                member.no_failover || held
            });
            !replaced && counted && !barred
        })
    }

    /// When the hold-down ends by itself or because others had their turn.
    pub(crate) fn hold_wake(&self, now: At) -> Option<At> {
        let until = self.hold.until(now)?;
        [until, self.others_had_it()].into_iter().filter(|at| *at > now).min()
    }

    /// Unix time in milliseconds, for the member record.
    pub(crate) fn held_until(&self) -> Option<u64> {
        let until = self.hold.until(self.now)?;
        Some(self.wall.saturating_add(self.now.until(until).0) / 1_000 * 1_000)
    }

    pub(crate) fn hold_json(&self, now: At) -> Value {
        match (self.hold.until(now), self.held(now, true)) {
            (Some(until), Some(reason)) => json!({
                "left_ms": now.until(until), "until": self.held_until(),
                "failures": self.hold.failures.len(), "reason": reason,
            }),
            (_, _) => Value::Null,
        }
    }

    /// A bar as `explain` tells it, with the time that is left.
    pub(crate) fn hold_explained(&self, now: At, reason: Reason) -> Reason {
        if reason.code != "bar.hold-down" {
            return reason;
        }
        self.held(now, true).unwrap_or(reason)
    }
}
