//! Running hooks and taking in how they ended. One main hook at a time; health,
//! position, backup and verify run beside.

use super::facts::{Facts, with};
use super::{After, Node, Side, State, Work};
use crate::decide::hook::{Hook, HookCall, HookEnd};
use crate::decide::io::{Effect, Outbox};
use crate::decide::reason::Reason;
use crate::decide::time::{At, Span};
use crate::decide::types::OpId;

/// How often a starting application is asked whether it serves.
const STARTING_STEP: Span = Span(50);
/// Health failures in a row before the application counts as unhealthy.
pub(super) const UNHEALTHY_AFTER: u32 = 2;
/// A failed `pre-start` is run again after this.
const PREPARE_AGAIN: Span = Span::secs(1);

/// Whether the application serves, as the `health` hook says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Health {
    pub ok: bool,
    failures: u32,
    next: Option<At>,
    running: bool,
}

impl Health {
    pub fn reset(&mut self) {
        *self = Health { running: self.running, ..Health::default() };
    }

    pub fn wake(&self) -> Option<At> {
        if self.running { None } else { self.next }
    }
}

impl Node {
    pub(crate) fn run_hook(
        &mut self,
        hook: Hook,
        facts: Facts,
        valid_until: Option<At>,
        out: &mut Outbox,
    ) -> OpId {
        let timeout = self.timeout_of(hook);
        self.run_hook_for(hook, facts, timeout, valid_until, out)
    }

    pub(crate) fn run_hook_for(
        &mut self,
        hook: Hook,
        facts: Facts,
        timeout: Span,
        valid_until: Option<At>,
        out: &mut Outbox,
    ) -> OpId {
        let id = self.next_op();
        out.push(Effect::RunHook(HookCall { id, hook, facts, timeout, valid_until, attempt: 1 }));
        id
    }

    pub(crate) fn run_side(&mut self, side: Side, facts: Facts, out: &mut Outbox) -> OpId {
        let hook = side.hook();
        let beside = self.state.phase().place().beside;
        // A position may be asked for by `Lead` at any time.
        debug_assert!(beside.contains(&hook) || hook == Hook::Position, "{hook} {:?}", self.state);
        let id = self.run_hook(hook, facts, None, out);
        self.sides.insert(id, side);
        id
    }

    fn timeout_of(&self, hook: Hook) -> Span {
        let timeouts = &self.set.timeouts;
        match hook {
            Hook::Bootstrap => timeouts.bootstrap,
            Hook::PreStart => timeouts.pre_start,
            Hook::Replicate => timeouts.replicate,
            Hook::Promote => timeouts.promote,
            // What the lease has left bounds it too; its caller says that.
            Hook::Demote => timeouts.demote,
            Hook::Sync => timeouts.sync,
            Hook::Position => timeouts.position,
            Hook::Health => timeouts.health,
            Hook::Reload => timeouts.reload,
            Hook::Backup => timeouts.backup,
            Hook::Verify => timeouts.verify,
        }
    }

    /// Whether a hook runs that must not run beside another one.
    pub(crate) fn main_hook_running(&self) -> bool {
        self.sides.values().any(|side| match side {
            Side::Replicate | Side::Sync { .. } | Side::Reload => true,
            Side::Health
            | Side::Answer { .. }
            | Side::Freeze
            | Side::Survey { .. }
            | Side::Own
            | Side::Final
            | Side::Barrier { .. }
            | Side::Lag
            | Side::Backup
            | Side::Verify => false,
        })
    }

    pub(crate) fn cancel_where(&mut self, which: impl Fn(&Side) -> bool, out: &mut Outbox) {
        for (id, side) in &self.sides {
            if which(side) {
                out.push(Effect::CancelHook { id: *id });
            }
        }
    }

    pub(crate) fn cancel_replicate(&mut self, out: &mut Outbox) {
        self.cancel_where(|side| *side == Side::Replicate, out);
    }

    /// Demotion and fence interrupt any.
    pub(crate) fn cancel_main_hooks(&mut self, out: &mut Outbox) {
        // A backup too: its locks in the engine would be in the way of a demotion.
        let main = |side: &Side| match side {
            Side::Replicate | Side::Sync { .. } | Side::Reload | Side::Backup => true,
            Side::Health
            | Side::Answer { .. }
            | Side::Freeze
            | Side::Survey { .. }
            | Side::Final
            | Side::Barrier { .. }
            | Side::Own
            | Side::Lag
            | Side::Verify => false,
        };
        self.cancel_where(main, out);
        match self.state.work() {
            Some((id, Work::Make(_) | Work::Prepare | Work::Require | Work::Promote)) => {
                out.push(Effect::CancelHook { id });
            }
            Some((_, Work::Demote(_))) | None => {}
        }
    }

    pub(crate) fn hook_ended(&mut self, now: At, id: OpId, end: HookEnd, out: &mut Outbox) {
        if let Some(side) = self.sides.remove(&id) {
            self.side_ended(now, side, end, out);
            return;
        }
        // A hook of a state that was left: its end changes nothing.
        let Some((_, work)) = self.state.work().filter(|(hook, _)| *hook == id) else { return };
        match work {
            Work::Make(kind) => self.bootstrap_ended(now, kind, end, out),
            Work::Prepare => self.prepared(now, end, out),
            Work::Require => self.required_ended(now, end, out),
            Work::Promote => self.promote_ended(now, end, out),
            Work::Demote(demotion) => self.demote_ended(now, demotion, end, out),
        }
    }

    fn side_ended(&mut self, now: At, side: Side, end: HookEnd, out: &mut Outbox) {
        match side {
            Side::Health => self.health_ended(now, end, out),
            Side::Answer { ask } => self.answer_ended(now, ask, end, out),
            Side::Freeze => self.freeze_ended(now, end, out),
            Side::Survey { survey } => self.own_survey_ended(now, survey, end, out),
            Side::Own => self.own_position_ended(end),
            Side::Final => self.final_ended(end),
            Side::Barrier { lead } => self.barrier_ended(now, lead, end, out),
            Side::Lag => self.lag_ended(now, end),
            Side::Sync { lead } => self.sync_ended(now, lead, end, out),
            Side::Replicate => self.replicate_ended(now, end, out),
            Side::Reload => self.reload_ended(end, out),
            Side::Backup => self.backup_hook_ended(end),
            Side::Verify => self.verify_hook_ended(end),
        }
    }

    fn prepared(&mut self, now: At, end: HookEnd, out: &mut Outbox) {
        match end {
            HookEnd::Done { .. } => {
                self.health.reset();
                self.to(now, State::Starting { since: now });
                out.push(Effect::StartApp);
            }
            end => {
                let text = format!("pre-start ended with {end}; again in {PREPARE_AGAIN}");
                self.decided(Reason::new("start.pre-start", text), out);
                if self.stop {
                    self.kill(now, After::Exit { code: 1 }, out);
                } else {
                    self.to(now, State::Pausing { until: now + PREPARE_AGAIN });
                }
            }
        }
    }

    fn final_ended(&mut self, end: HookEnd) {
        let position = super::position::read_position(&end);
        if let State::Draining { order, .. } = &mut self.state {
            *order = position.map(|position| position.order);
        }
    }

    pub(crate) fn tend_health(&mut self, now: At, out: &mut Outbox) {
        let starting = matches!(self.state, State::Starting { .. });
        let due = self.health.next.is_none_or(|next| now >= next);
        if self.health.running || !due || self.app.is_none() {
            return;
        }
        if !starting && !self.state.serves() {
            return;
        }
        let step = if starting { STARTING_STEP } else { self.set.health_interval };
        self.health.running = true;
        self.health.next = Some(now + step);
        let facts = self.facts();
        self.run_side(Side::Health, facts, out);
    }

    fn health_ended(&mut self, now: At, end: HookEnd, out: &mut Outbox) {
        self.health.running = false;
        if self.app.is_none() {
            return;
        }
        self.ailing.note(now, &end);
        match end {
            HookEnd::Done { .. } => {
                self.health.failures = 0;
                self.health.ok = true;
                if matches!(self.state, State::Starting { .. }) {
                    self.follow.reset();
                    self.to(now, State::Replica);
                }
            }
            HookEnd::Cancelled => {}
            HookEnd::Exit { .. }
            | HookEnd::Signal { .. }
            | HookEnd::Timeout
            | HookEnd::NotStarted { .. } => {
                self.health.failures = self.health.failures.saturating_add(1);
                if self.health.failures == UNHEALTHY_AFTER && self.health.ok {
                    self.health.ok = false;
                    let text = format!("the health hook ended with {end}");
                    self.decided(Reason::new("app.unhealthy", text), out);
                }
            }
        }
    }

    /// Facts of the `sync` hook: the others that must be able to acknowledge, and how many must.
    pub(crate) fn sync_hook_facts(
        &self,
        others: &std::collections::BTreeSet<crate::decide::types::NodeName>,
        acks: u32,
    ) -> Facts {
        let facts = with(self.facts(), "SYNC_MEMBERS", super::facts::names(others));
        with(facts, "SYNC_ACKS", acks)
    }
}
