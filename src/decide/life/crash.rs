//! The application's end, wished or not, and what comes after it.

use super::{After, Bootstrap, Node, OnCrash, State};
use crate::decide::call::Call;
use crate::decide::hook::Hook;
use crate::decide::io::{Effect, Exit, Outbox};
use crate::decide::lead::{LeadIn, Leadership};
use crate::decide::mutant::{self, Mutant};
use crate::decide::reason::Reason;
use crate::decide::time::{At, Span};
use std::collections::VecDeque;

/// Crashes remembered: one more than the largest `restart_max` that the configuration takes.
const CRASHES_KEPT: usize = 1_001;
const BACKOFF_LEAST: Span = Span(200);
const BACKOFF_MOST: Span = Span::secs(30);
/// How long a stop waits until this node is in the sync set no more: a write in Consul, its watch,
/// and a second try.
const PARTING_MOST: Span = Span::secs(3);

/// When the application (or its bootstrap) failed lately.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Crashes {
    at: VecDeque<At>,
}

impl Crashes {
    pub fn note(&mut self, now: At, window: Span) {
        self.at.retain(|at| now.since(*at) < window);
        if self.at.len() == CRASHES_KEPT {
            self.at.pop_front();
        }
        self.at.push_back(now);
    }

    pub fn within(&self, now: At, window: Span) -> u32 {
        self.at.iter().filter(|at| now.since(**at) < window).count() as u32
    }

    /// Until when nothing is begun again that failed lately.
    pub fn quiet_until(&self) -> At {
        self.at.back().map_or(At(0), |last| *last + self.backoff())
    }

    /// 0 after the first, then 200 ms doubling up to 30 s.
    fn backoff(&self) -> Span {
        match self.at.len() {
            0 | 1 => Span::ZERO,
            n => Span((BACKOFF_LEAST.0 << (n - 2).min(10)).min(BACKOFF_MOST.0)),
        }
    }
}

impl Node {
    pub(crate) fn app_exited(&mut self, now: At, pid: u32, exit: Exit, out: &mut Outbox) {
        if self.app != Some(pid) {
            return;
        }
        self.app = None;
        self.health.reset();
        match self.state {
            State::Killing { .. } => {}
            State::Stopping { .. } => self.kill(now, After::Exit { code: exit.code() }, out),
            State::Init
            | State::Joining
            | State::Wiping
            | State::Bootstrapping { .. }
            | State::Waiting { .. }
            | State::Pausing { .. }
            | State::Preparing { .. }
            | State::Stopped
            | State::Failed { .. } => {}
            State::Starting { .. }
            | State::Replica
            | State::Arming { .. }
            | State::Requiring { .. }
            | State::Promoting { .. }
            | State::Primary
            | State::Demoting { .. }
            | State::Draining { .. }
            | State::Parting { .. } => self.crashed(now, exit, out),
        }
    }

    fn crashed(&mut self, now: At, exit: Exit, out: &mut Outbox) {
        let text = format!("the application ended with {exit} while {}", self.state.name());
        self.decided(Reason::new("app.crashed", text), out);
        self.crashes.note(now, self.set.restart_window);
        if self.stop {
            self.kill(now, After::Exit { code: exit.code() }, out);
            return;
        }
        self.stay_down_in_pause(out);
        let leads = matches!(self.leadership(), Leadership::Open { .. });
        if leads && (self.down_in_pause || !self.restart_in_place(now, self.set.restart_max, out)) {
            let why = Reason::new("app.crashed", "the primary's application died: hand over");
            self.hold_down(now, &why, out);
            self.tell_lead(now, LeadIn::Demote { why }, out);
            self.kill(now, After::Start { handed_over: true }, out);
            return;
        }
        self.kill(now, After::Start { handed_over: !leads && self.armed.is_some() }, out);
    }

    /// Paused, lictor restarts nothing that ended by itself.
    fn stay_down_in_pause(&mut self, out: &mut Outbox) {
        if self.pause.is_some() && !self.down_in_pause {
            self.down_in_pause = true;
            let text = "the cluster is paused: the application stays down";
            self.decided(Reason::new("pause.down", text).flip("`lictor resume`"), out);
        }
    }

    /// Whether a leader's application is started again in place, and says why. In sync mode the
    /// counted rule must hold without asking: the own position alone counts only where the members
    /// are this node.
    pub(crate) fn restart_in_place(&mut self, now: At, most: u32, out: &mut Outbox) -> bool {
        let alone = !self.others_may_take();
        let crashes = self.crashes.within(now, self.set.restart_window);
        let may = self.may_restart(crashes, most);
        if may {
            let text = format!(
                "restart in place, {crashes} of {most} within {}{}",
                self.set.restart_window,
                if alone { "; nobody else may take" } else { "" }
            );
            self.decided(Reason::new("crash.restart", text), out);
            self.tell_lead(now, LeadIn::AppGone, out);
        }
        may
    }

    fn may_restart(&self, crashes: u32, most: u32) -> bool {
        let wanted = !self.others_may_take() || self.set.on_crash == OnCrash::Restart;
        self.lead.sync_allows_restart() && wanted && crashes <= most
    }

    /// Whether this leader's application would be started again in place if it ended now.
    pub(crate) fn would_restart(&self, now: At) -> bool {
        let crashes = self.crashes.within(now, self.set.restart_window).saturating_add(1);
        self.pause.is_none() && self.may_restart(crashes, self.set.restart_max)
    }

    /// Whether the list and the sync set name another node that could take now. While they promise
    /// not to, and Consul is silent, nobody can.
    pub(crate) fn others_may_take(&self) -> bool {
        let others = !self.eligible_others().is_empty() && !self.lead.lives_on_promises();
        others && !self.sync_is_self()
    }

    pub(crate) fn sync_is_self(&self) -> bool {
        self.sync_seen().is_some_and(|sync| sync.members.iter().all(|node| node == self.me()))
    }

    pub(crate) fn app_not_started(&mut self, now: At, why: String, out: &mut Outbox) {
        self.app = None;
        self.crashes.note(now, self.set.restart_window);
        self.decided(Reason::new("app.not-started", why), out);
        self.stay_down_in_pause(out);
        self.kill(now, After::Start { handed_over: false }, out);
    }

    pub(crate) fn guard_fired(&mut self, now: At, out: &mut Outbox) {
        let why = Reason::new("guard.fired", "the guard killed the application at its deadline");
        self.decided(why.clone(), out);
        self.armed = None;
        self.stay_down_in_pause(out);
        self.hold_down(now, &why, out);
        self.tell_lead(now, LeadIn::Demote { why }, out);
        match self.state {
            // Nothing of an application runs that a deadline was armed for; what else was killed
            // tells its end itself.
            State::Init
            | State::Joining
            | State::Wiping
            | State::Bootstrapping { .. }
            | State::Waiting { .. }
            | State::Pausing { .. }
            | State::Preparing { .. }
            | State::Killing { .. }
            | State::Stopped
            | State::Failed { .. } => {}
            State::Starting { .. }
            | State::Replica
            | State::Arming { .. }
            | State::Requiring { .. }
            | State::Promoting { .. }
            | State::Primary
            | State::Demoting { .. }
            | State::Draining { .. }
            | State::Parting { .. }
            | State::Stopping { .. } => self.kill(now, After::Start { handed_over: true }, out),
        }
    }

    pub(crate) fn tree_gone(&mut self, now: At, out: &mut Outbox) {
        let State::Killing { after } = self.state.clone() else { return };
        self.app = None;
        self.health.reset();
        self.disarm(out);
        match after {
            After::Rewind | After::Wipe if !mutant::on(Mutant::M77) => self.follow.forget(),
            After::Rewind | After::Wipe => self.follow.reset(),
            After::Start { .. } | After::Exit { .. } | After::Fail => self.follow.reset(),
        }
        if matches!(self.leadership(), Leadership::Closed { .. }) {
            self.give_back(now, out);
        }
        match after {
            After::Exit { code } => self.leave(now, code, out),
            After::Fail if self.stop => self.leave(now, 1, out),
            After::Rewind | After::Wipe if self.stop => self.leave(now, 0, out),
            After::Rewind => self.begin_bootstrap(now, Bootstrap::Rewind, out),
            After::Wipe => {
                self.to(now, State::Wiping);
                out.push(Effect::Wipe);
            }
            After::Fail => {
                let reason = Reason::new("app.down", "the application stays down");
                self.fail(now, reason, out);
            }
            After::Start { .. } if self.stop => self.leave(now, 0, out),
            After::Start { .. } if self.down_in_pause => {
                self.to(now, State::Waiting { not_before: now, until: now });
            }
            After::Start { handed_over: true } => {
                self.start_soon(now, out);
            }
            After::Start { handed_over: false } => {
                let backoff = self.crashes.backoff();
                if backoff == Span::ZERO {
                    self.prepare(now, out);
                } else {
                    self.to(now, State::Pausing { until: now + backoff });
                }
            }
        }
    }

    /// Every start goes through `pre-start`, so that it refuses writes.
    pub(crate) fn prepare(&mut self, now: At, out: &mut Outbox) -> bool {
        let led = self.term_seen().is_some_and(|term| term.node == *self.me());
        if let Some(sync) = self.sync_seen().filter(|sync| led && sync.acks > 0) {
            self.cut_under = Some(sync.clone());
        }
        self.kept = false;
        let facts = self.facts();
        let hook = self.run_hook(Hook::PreStart, facts, None, out);
        self.enter_with(now, Hook::PreStart, State::Preparing { hook });
        true
    }

    pub(crate) fn begin_stop(&mut self, now: At, out: &mut Outbox) {
        if self.stop {
            return;
        }
        self.stop = true;
        self.decided(Reason::new("stop", "lictor was asked to stop"), out);
        match &self.state {
            State::Primary => self.leave_primary(now, out),
            State::Bootstrapping { .. }
            | State::Waiting { .. }
            | State::Pausing { .. }
            | State::Preparing { .. }
            | State::Starting { .. }
            | State::Wiping
            | State::Arming { .. }
            | State::Requiring { .. }
            | State::Promoting { .. } => {
                let why = Reason::new("stop", "lictor was asked to stop");
                self.tell_lead(now, LeadIn::Demote { why }, out);
                self.kill(now, After::Exit { code: 0 }, out);
            }
            State::Failed { .. } => self.leave(now, 1, out),
            State::Init
            | State::Joining
            | State::Replica
            | State::Demoting { .. }
            | State::Draining { .. }
            | State::Killing { .. }
            | State::Parting { .. }
            | State::Stopping { .. }
            | State::Stopped => {}
        }
    }

    /// A replica that acknowledges commits says that it leaves, and goes once it is not counted:
    /// were it gone first, commits would wait for the leader's write and hook.
    pub(crate) fn leave_set(&mut self, now: At, out: &mut Outbox) {
        if !self.is_counted() {
            self.stop_app(now, out);
            return;
        }
        self.to(now, State::Parting { give_up: now + PARTING_MOST });
    }

    /// Whether commits of a running term may wait for this node.
    fn is_counted(&self) -> bool {
        let led = self.other_leader().is_some();
        led && self.sync_seen().is_some_and(|sync| sync.members.contains(self.me()))
    }

    pub(crate) fn drive_parting(&mut self, now: At, give_up: At, out: &mut Outbox) -> bool {
        if self.is_counted() && now < give_up {
            return false;
        }
        if self.is_counted() {
            let text = format!("still in the sync set after {PARTING_MOST}: the stop goes on");
            self.decided(Reason::new("stop.counted", text), out);
        }
        self.stop_app(now, out);
        true
    }

    pub(crate) fn stop_app(&mut self, now: At, out: &mut Outbox) {
        self.cancel_main_hooks(out);
        self.deregister(out);
        if self.app.is_none() {
            self.kill(now, After::Exit { code: 0 }, out);
            return;
        }
        out.push(Effect::TermApp);
        self.to(now, State::Stopping { kill_at: now + self.set.stop_timeout });
    }

    /// Called where nothing of this node writes: what it holds of the lock goes back.
    pub(crate) fn let_go(&mut self, now: At, out: &mut Outbox) {
        if matches!(self.leadership(), Leadership::Open { .. }) {
            let why = Reason::new("stop", "lictor leaves");
            self.tell_lead(now, LeadIn::Demote { why }, out);
        }
        if matches!(self.leadership(), Leadership::Closed { fenced: false, .. }) {
            self.give_back(now, out);
        }
    }

    fn leave(&mut self, now: At, code: i32, out: &mut Outbox) {
        self.let_go(now, out);
        self.deregister(out);
        self.to(now, State::Stopped);
        self.exit(now, code, "the application ended", out);
    }

    /// The end of the process; a node that leaves for good has a last word first.
    pub(crate) fn exit(&mut self, now: At, code: i32, why: &str, out: &mut Outbox) {
        if !self.has_last_word(now) {
            out.push(Effect::Exit { code, why: why.into() });
        }
    }

    fn deregister(&mut self, out: &mut Outbox) {
        if self.service.forget() {
            let id = self.service_id();
            self.call(super::Owner::Ignored, Call::Deregister { id }, out);
        }
    }
}
