//! From leadership to role: arm, promote, fence, demote, drain.
//!
//! Nobody becomes writable before the guard acknowledged a deadline for this very application; from
//! deadline - D on the demote hook runs, at deadline - K the guard kills whatever this process
//! does.

use super::facts::with;
use super::{After, Demotion, Node, Side, State};
use crate::decide::hook::{Hook, HookEnd};
use crate::decide::io::{Effect, Outbox};
use crate::decide::lead::{LeadIn, Leadership, SyncMode, UNANSWERED};
use crate::decide::mutant::{self, Mutant};
use crate::decide::reason::Reason;
use crate::decide::time::{At, Span};

/// A demote hook with less time than this is not worth starting: kill.
const DEMOTE_LEAST: Span = Span(30);
/// A draining leader stops waiting this long before the guard would kill.
const DRAIN_MARGIN: Span = Span(100);

impl Node {
    fn kill_at(&self, deadline: At) -> At {
        if mutant::on(Mutant::M63) {
            return deadline + self.set.kill_budget;
        }
        deadline - self.set.kill_budget
    }

    /// From when on what may be writable is demoted.
    fn demote_at(&self, deadline: At) -> At {
        if mutant::on(Mutant::M63) {
            return deadline + self.set.demote_budget;
        }
        deadline - self.set.demote_budget
    }

    pub(crate) fn arm(&mut self, _now: At, pid: u32, out: &mut Outbox) {
        if let Leadership::Open { deadline, .. } = self.leadership() {
            let kill_at = self.kill_at(deadline);
            self.last_deadline = deadline;
            self.armed = Some((pid, kill_at));
            out.push(Effect::Arm { pid, kill_at });
        }
    }

    pub(crate) fn disarm(&mut self, out: &mut Outbox) {
        if self.armed.take().is_some() {
            out.push(Effect::Disarm);
        }
    }

    /// Tells the guard of a new deadline, longer or shorter.
    pub(crate) fn keep_deadline(&mut self, _now: At, out: &mut Outbox) {
        let (Some((pid, told)), Leadership::Open { deadline, .. }) =
            (self.armed, self.leadership())
        else {
            return;
        };
        let kill_at = self.kill_at(deadline);
        if kill_at != told && !(kill_at < told && mutant::on(Mutant::M74)) {
            self.armed = Some((pid, kill_at));
            self.last_deadline = deadline;
            out.push(Effect::Extend { kill_at });
        }
    }

    /// Rule 5: a shorter lease is on its way to be sent; the guard is cut before that.
    pub(crate) fn cut_deadline(&mut self, out: &mut Outbox) {
        let (Some((_, told)), Leadership::Open { deadline, .. }) = (self.armed, self.leadership())
        else {
            return;
        };
        if self.kill_at(deadline) < told {
            self.keep_deadline(self.now, out);
        }
    }

    /// When the own fence is due, if something may be writable.
    pub(crate) fn fence_at(&self) -> Option<At> {
        match self.leadership() {
            Leadership::Open { deadline, .. } if self.state.acts() => {
                Some(self.demote_at(deadline))
            }
            Leadership::Open { .. }
            | Leadership::Closed { .. }
            | Leadership::Follower
            | Leadership::Taking => None,
        }
    }

    /// Rule 7: from deadline - D on, or when the term is over, what may be writable is demoted.
    pub(crate) fn fence_if_due(&mut self, now: At, out: &mut Outbox) -> bool {
        if !self.state.acts() {
            return false;
        }
        let why = match self.leadership() {
            Leadership::Open { deadline, .. } => {
                if now < self.demote_at(deadline) {
                    return false;
                }
                self.lead.unanswered().unwrap_or_else(|| {
                    let left = now.until(deadline);
                    let text = format!("the lease ends in {left} and was not renewed");
                    Reason::new("fence.deadline", text)
                        .flip("a renewal that Consul confirms in time")
                })
            }
            Leadership::Closed { .. } | Leadership::Follower | Leadership::Taking => {
                Reason::new("fence.lost", "the term is over").flip("none: a new term must be won")
            }
        };
        if !matches!(self.leadership(), Leadership::Open { .. }) {
            // Of an open term `Lead` says it.
            self.decided(why.clone(), out);
        }
        // Whose promises failed is not sick for that: it may be the only one that can take again.
        if why.code != UNANSWERED {
            self.hold_down(now, &why, out);
        }
        self.tell_lead(now, LeadIn::Demote { why }, out);
        self.demote_or_kill(now, out);
        true
    }

    fn demote_or_kill(&mut self, now: At, out: &mut Outbox) {
        if self.state == State::Primary {
            let demotion = Demotion { to: None, planned: false, request: None, leaving: self.stop };
            self.demote(now, demotion, out);
        } else if !mutant::on(Mutant::M71) {
            self.kill(now, After::Start { handed_over: true }, out);
        }
    }

    /// Starts the demote hook with the time that the lease has left, or kills at once where that is
    /// too little.
    pub(crate) fn demote(&mut self, now: At, demotion: Demotion, out: &mut Outbox) {
        self.cancel_main_hooks(out);
        // A killed primary tells no final position. In sync mode the heir is counted, else
        // positions choose.
        let counted = demotion.planned && self.sync_seen().is_some();
        self.heir = demotion.to.clone().filter(|_| counted);
        let kill_at = self.kill_at(self.last_deadline);
        let left = now.until(kill_at);
        if left < DEMOTE_LEAST {
            self.kill(now, After::Start { handed_over: true }, out);
            return;
        }
        let facts =
            with(self.facts(), "DEMOTE", if demotion.planned { "planned" } else { "fence" });
        let time = left.min(self.set.timeouts.demote);
        let hook = self.run_hook_for(Hook::Demote, facts, time, Some(kill_at), out);
        self.enter_with(now, Hook::Demote, State::Demoting { hook, demotion });
    }

    pub(crate) fn demote_ended(
        &mut self,
        now: At,
        demotion: Demotion,
        end: HookEnd,
        out: &mut Outbox,
    ) {
        let end = if mutant::on(Mutant::M81) { HookEnd::Done { answer: None } } else { end };
        match end {
            HookEnd::Done { .. } if demotion.planned => {
                let give_up = self.kill_at(self.last_deadline) - DRAIN_MARGIN;
                let draining = State::Draining { demotion, order: None, give_up };
                self.enter_with(now, Hook::Position, draining);
                let facts = self.facts();
                self.run_side(Side::Final, facts, out);
            }
            HookEnd::Done { .. } => {
                self.follow.reset();
                self.to(now, State::Replica);
                self.give_back(now, out);
            }
            end => {
                let text = format!("the demote hook ended with {end}: the tree is killed");
                self.decided(Reason::new("demote.kill", text), out);
                let after = if demotion.leaving {
                    After::Exit { code: 0 }
                } else {
                    After::Start { handed_over: true }
                };
                self.kill(now, after, out);
            }
        }
    }

    pub(crate) fn drive_draining(&mut self, now: At, out: &mut Outbox) -> bool {
        let State::Draining { demotion, order, give_up } = &self.state else { return false };
        let (demotion, order, give_up) = (demotion.clone(), *order, *give_up);
        let Some(to) = demotion.to.clone() else {
            self.drained(now, demotion, out);
            return true;
        };
        let caught_up = order.is_some_and(|order| self.peers.order_of(&to) >= Some(order));
        if caught_up || mutant::on(Mutant::M83) {
            self.drained(now, demotion, out);
            return true;
        }
        if now >= give_up {
            let text = format!("{to} did not report the final position {order:?} in time");
            self.decided(Reason::new("switchover.late", text), out);
            if self.stop {
                // It won't take again. Positions choose, and in sync mode they are counted.
                self.drained(now, Demotion { to: None, ..demotion }, out);
                return true;
            }
            self.disarm(out);
            self.follow.reset();
            self.to(now, State::Replica);
            self.tell_lead(now, LeadIn::Fenced, out);
            self.heir = None;
            self.tell_lead(now, LeadIn::TakeAgain, out);
            return true;
        }
        if order.is_some() {
            self.ask_position(now, &to, out);
        }
        false
    }

    fn drained(&mut self, now: At, demotion: Demotion, out: &mut Outbox) {
        self.heir = None;
        self.disarm(out);
        self.follow.reset();
        self.to(now, State::Replica);
        self.tell_lead(now, LeadIn::Fenced, out);
        self.tell_lead(now, LeadIn::Release { to: demotion.to }, out);
    }

    pub(crate) fn guard_armed(&mut self, now: At, pid: u32, _kill_at: At, out: &mut Outbox) {
        let State::Arming { pid: waiting } = self.state else { return };
        if waiting != pid {
            return;
        }
        if let SyncMode::Strict(acks) = self.set.lead.sync {
            let others = self.eligible_others();
            let facts = self.sync_hook_facts(&others, acks);
            let hook = self.run_hook(Hook::Sync, facts, None, out);
            self.enter_with(now, Hook::Sync, State::Requiring { hook });
        } else {
            self.promote(now, out);
        }
    }

    fn promote(&mut self, now: At, out: &mut Outbox) {
        let Leadership::Open { deadline, .. } = self.leadership() else { return };
        let valid = self.demote_at(deadline);
        let facts = self.facts();
        let hook = self.run_hook_for(Hook::Promote, facts, self.set.timeouts.promote, None, out);
        if let Some(Effect::RunHook(call)) = out.last_mut() {
            // It may run longer than this lease, which is renewed meanwhile; it may not start after
            // it.
            call.valid_until = Some(valid);
        }
        self.enter_with(now, Hook::Promote, State::Promoting { hook });
    }

    pub(crate) fn required_ended(&mut self, now: At, end: HookEnd, out: &mut Outbox) {
        match end {
            HookEnd::Done { .. } => self.promote(now, out),
            end => self.promotion_failed(now, Hook::Sync, end, out),
        }
    }

    pub(crate) fn promote_ended(&mut self, now: At, end: HookEnd, out: &mut Outbox) {
        match end {
            HookEnd::Done { .. } => {
                self.follow.forget();
                self.cut_under = None;
                self.kept = true;
                self.decided(Reason::new("promote.done", "this node is the primary"), out);
                self.hold.over();
                self.to(now, State::Primary);
                self.became_primary(now, out);
            }
            end => self.promotion_failed(now, Hook::Promote, end, out),
        }
    }

    fn promotion_failed(&mut self, now: At, hook: Hook, end: HookEnd, out: &mut Outbox) {
        let why = Reason::new("promote.failed", format!("the {hook} hook ended with {end}"));
        self.decided(why.clone(), out);
        self.hold_down(now, &why, out);
        self.tell_lead(now, LeadIn::Demote { why }, out);
        self.crashes.note(now, self.set.restart_window);
        self.kill(now, After::Start { handed_over: true }, out);
    }

    pub(crate) fn kill(&mut self, now: At, after: After, out: &mut Outbox) {
        // One kill at a time, so that each `TreeGone` answers the last: nothing was started since.
        if let State::Killing { after: before } = &self.state {
            let final_already = matches!(before, After::Exit { .. } | After::Fail);
            let goes_on = matches!(after, After::Start { .. } | After::Rewind | After::Wipe);
            if !(final_already && goes_on) {
                self.to(now, State::Killing { after });
            }
            return;
        }
        self.cancel_main_hooks(out);
        self.to(now, State::Killing { after });
        out.push(Effect::KillTree);
    }
}
