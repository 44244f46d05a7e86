//! Following the primary: which term `replicate` last succeeded for, and when it runs again.

use super::facts::with;
use super::{After, Node, Side, State};
use crate::decide::hook::HookEnd;
use crate::decide::io::Outbox;
use crate::decide::lead::Leadership;
use crate::decide::mutant::{self, Mutant};
use crate::decide::reason::Reason;
use crate::decide::records::Follows;
use crate::decide::time::{At, Span};

const RETRY_LEAST: Span = Span(300);
const RETRY_MOST: Span = Span::secs(5);
/// Some times what a refused question waits before it comes again.
const HOLD: Span = Span(400);
/// A freeze outlives its attempt by nothing: without a new leader `replicate` runs again after
/// this.
const FREEZE_MOST: Span = Span::secs(3);

/// `LICTOR_SYNC_SELF`: whether this replica acknowledges commits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Part {
    /// Others are counted, this node is not: a commit that it alone acknowledged would be on a node
    /// no taker asks.
    #[default]
    No,
    /// Nobody is counted yet: acknowledging does no harm, and the first members need not be told
    /// twice.
    May,
    /// Counted.
    Member,
}

impl Part {
    pub fn name(self) -> &'static str {
        match self {
            Part::No => "no",
            Part::May => "may",
            Part::Member => "member",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Follow {
    /// What `replicate` last succeeded for with the data that is there: it makes a candidate, also
    /// when the primary is dead and nobody can be followed. Nothing but another primary's term or
    /// another data directory ends it.
    pub done: Option<Follows>,
    /// It still receives by that success: no freeze and no restart of the application since.
    receives: bool,
    /// The part in the sync set it ran with.
    part: Part,
    running: Option<(Follows, Part)>,
    attempt: u32,
    retry: Option<At>,
    /// Receiving was stopped for an answer that must be final.
    pub frozen: Option<At>,
    /// The final position, as long as nothing is received since.
    pub(crate) last: Option<super::freeze::Final>,
}

impl Follow {
    /// As the last process on this volume left it.
    pub fn known(done: Option<Follows>) -> Follow {
        Follow { done, ..Follow::default() }
    }

    /// Receiving must begin again, even under the same term.
    pub fn reset(&mut self) {
        *self = Follow::known(self.done.take());
    }

    /// The data is another's, or no longer a copy of the primary's.
    pub fn forget(&mut self) {
        *self = Follow::default();
    }

    pub fn thaw(&mut self) {
        let was_frozen = self.frozen.is_some();
        self.melt();
        if was_frozen {
            self.receives = false;
            self.retry = None;
        }
    }

    /// The final position is none any more.
    fn melt(&mut self) {
        self.frozen = None;
        if !mutant::on(Mutant::M65) {
            self.last = None;
        }
    }

    /// The term under which it receives now.
    pub fn current(&self) -> Option<&Follows> {
        self.done.as_ref().filter(|_| self.receives)
    }

    pub fn wake(&self) -> Option<At> {
        [self.retry, self.frozen].into_iter().flatten().min()
    }
}

impl Node {
    pub(crate) fn freeze(&mut self, now: At) {
        self.follow.frozen = Some(now + FREEZE_MOST);
    }

    /// Whoever asks again soon is to find it stopped, not just begun anew.
    pub(crate) fn hold_replicate(&mut self, now: At) {
        self.follow.retry = Some(now + HOLD);
    }

    fn part(&self) -> Part {
        let Some(sync) = self.sync_seen() else { return Part::No };
        let current = self.term_seen().is_some_and(|term| term.epoch == sync.epoch);
        match (current, sync.members.contains(self.me()), sync.acks) {
            (false, _, _) => Part::No,
            (true, true, _) => Part::Member,
            (true, false, 0) => Part::May,
            (true, false, _) => Part::No,
        }
    }

    /// Runs `replicate` when the leader, its term or this node's part in the sync set changed.
    pub(crate) fn tend_follow(&mut self, now: At, out: &mut Outbox) {
        let Some(leader) = self.other_leader() else {
            if self.follow.frozen.is_some_and(|until| now >= until) {
                self.follow.frozen = Some(now + FREEZE_MOST);
            }
            return;
        };
        if self.follow.frozen.is_some_and(|until| now >= until) {
            self.follow.thaw();
        }
        let newer = self.follow.done.as_ref().is_none_or(|done| *done != leader);
        if self.follow.frozen.is_some() && !newer {
            return;
        }
        if newer && self.bars_joining().is_some() {
            return;
        }
        let part = self.part();
        if !newer && self.follow.receives && self.follow.part == part {
            return;
        }
        if let Some((term, _)) = &self.follow.running {
            if *term != leader {
                self.cancel_replicate(out);
            }
            return;
        }
        // A freeze under way could stop what replicate has just started.
        let busy = self.main_hook_running() || self.freezing.is_some();
        if self.follow.retry.is_some_and(|at| now < at) || busy {
            return;
        }
        self.follow.attempt += 1;
        self.follow.melt();
        self.follow.running = Some((leader, part));
        self.kept = false;
        let facts = with(self.facts(), "SYNC_SELF", part.name());
        let facts = with(facts, "ATTEMPT", self.follow.attempt);
        self.run_side(Side::Replicate, facts, out);
    }

    fn may_rewind(&self) -> bool {
        self.state == State::Replica && self.leadership() == Leadership::Follower
    }

    pub(crate) fn replicate_ended(&mut self, now: At, end: HookEnd, out: &mut Outbox) {
        let Some((term, part)) = self.follow.running.take() else { return };
        match end {
            HookEnd::Done { .. } => {
                let text = format!("follows {} (epoch {})", term.node, term.epoch);
                self.decided(Reason::new("follow.done", text), out);
                if self.follow.done.as_ref() != Some(&term) {
                    self.persist_follows(term.clone(), out);
                }
                self.follow.done = Some(term);
                self.follow.receives = true;
                self.cut_under = None;
                self.follow.part = part;
                self.follow.attempt = 0;
                self.follow.retry = None;
                self.record.transition();
            }
            // Only a replica's data is another's copy. A node that leads or is about to has the
            // data that counts, whatever the former primary's was.
            HookEnd::Exit { code: 3 } if !self.may_rewind() => self.follow.retry = None,
            HookEnd::Exit { code: 3 } if self.pause.is_some() => {
                self.follow.retry = Some(now + RETRY_MOST);
                let text = format!("the data diverged from {}: nothing is rewound", term.node);
                let reason = Reason::new("pause.diverged", text).flip("`lictor resume`");
                if self.reasons.back().is_none_or(|(_, last)| *last != reason) {
                    self.decided(reason, out);
                }
            }
            HookEnd::Exit { code: 3 } => {
                let text = format!("the data diverged from {} (epoch {})", term.node, term.epoch);
                self.decided(Reason::new("follow.diverged", text), out);
                self.kill(now, After::Rewind, out);
            }
            // At once, unless it was held back.
            HookEnd::Cancelled => {}
            HookEnd::Exit { .. }
            | HookEnd::Signal { .. }
            | HookEnd::Timeout
            | HookEnd::NotStarted { .. } => {
                let shift = self.follow.attempt.saturating_sub(1).min(5);
                let wait = Span((RETRY_LEAST.0 << shift).min(RETRY_MOST.0));
                self.follow.retry = Some(now + wait);
                let text = format!("replicate ended with {end}; again in {wait}");
                self.decided(Reason::new("follow.failed", text), out);
            }
        }
    }
}
