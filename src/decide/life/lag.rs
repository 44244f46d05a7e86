//! How far behind a replica is: for `/replica?lag=`, and for `max_lag`, which keeps a replica that
//! lagged too much from being a candidate.
//!
//! Only the lag of a replica that still receives means anything: the last one measured before the
//! primary was last seen counts after its death. It must not: bar in sync mode, where
//! acknowledgements are counted.

use super::{Node, Side, State};
use crate::decide::hook::HookEnd;
use crate::decide::io::Outbox;
use crate::decide::lead::SyncMode;
use crate::decide::reason::Reason;
use crate::decide::records::LeaderValue;
use crate::decide::time::{At, Span};
use crate::decide::types::Epoch;

/// How often a replica's lag is asked for, and how long the answer is good.
const STEP: Span = Span::secs(5);
const GOOD: Span = Span::secs(15);

/// How far behind this replica is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lag {
    known: Option<(At, Span)>,
    /// The last known one, however old, and the term it was measured under.
    last: Option<(Epoch, At, Span)>,
    /// When the primary renewed last, and what it said then.
    primary: Option<(Epoch, u64, At)>,
    next: Option<At>,
    running: bool,
    /// Where the data stood when the lag was last asked for.
    order: Option<(At, u64)>,
}

impl Lag {
    pub fn millis(seconds: f64) -> Span {
        // A negative or absurd number of seconds saturates.
        Span((seconds * 1_000.0) as u64)
    }

    /// A renewal was received.
    pub fn primary_seen(&mut self, now: At, leader: Option<&LeaderValue>) {
        let Some(LeaderValue { epoch, n, .. }) = leader else { return };
        if self.primary.is_none_or(|(old, last, _)| (old, last) != (*epoch, *n)) {
            self.primary = Some((*epoch, *n, now));
        }
    }

    /// Where this replica's data stood when it was last asked.
    pub fn order(&self) -> Option<(At, u64)> {
        self.order
    }

    /// The lag as last reported, if that is recent.
    pub fn seconds(&self, now: At) -> Option<f64> {
        let recent = |(at, _): &(At, Span)| now.since(*at) < GOOD;
        self.known.filter(recent).map(|(_, lag)| lag.0 as f64 / 1_000.0)
    }
}

impl Node {
    /// Asked at once when following begins, then every few seconds; forgotten when it gets old.
    pub(crate) fn tend_lag(&mut self, now: At, out: &mut Outbox) {
        let settled = self.state == State::Replica && self.follow.current().is_some();
        if !settled {
            self.lag.known = None;
            self.lag.order = None;
            self.lag.next = None;
            return;
        }
        if self.lag.running || self.lag.next.is_some_and(|next| now < next) {
            return;
        }
        self.lag.running = true;
        self.lag.next = Some(now + STEP);
        let facts = self.facts();
        self.run_side(Side::Lag, facts, out);
    }

    pub(crate) fn lag_ended(&mut self, now: At, end: HookEnd) {
        self.lag.running = false;
        let position = super::position::read_position(&end);
        self.lag.order = position.as_ref().map(|position| (now, position.order));
        let lag = position.and_then(|position| position.lag_seconds);
        self.lag.known = lag.map(|lag| (now, Lag::millis(lag)));
        if let (Some((at, lag)), Some(term)) = (self.lag.known, self.follow.current()) {
            self.lag.last = Some((term.epoch, at, lag));
        }
    }

    /// Without sync mode: a replica that lagged more than `max_lag` when the primary was last seen
    /// would lose that much. A lag that nobody knows is not within it.
    pub(crate) fn bar_of_lag(&self) -> Option<Reason> {
        let most = self.set.max_lag?;
        let term = self.term_seen()?;
        if self.set.lead.sync != SyncMode::Off || term.node == *self.me() {
            return None;
        }
        // Whoever did not follow this term is no candidate for that.
        self.follow.done.as_ref().filter(|done| done.epoch == term.epoch)?;
        let of = &term.node;
        let seen = self.lag.primary.map_or(At(0), |(_, _, at)| at);
        let flip = format!("a lag of {most} or less, a larger max_lag, or an operator's failover");
        let bar = |text| Some(Reason::new("bar.max-lag", text).flip(flip));
        match self.lag.last.filter(|(epoch, ..)| *epoch == term.epoch) {
            Some((_, at, _)) if at + GOOD < seen => bar(format!(
                "the lag behind {of} was not told within {GOOD} before that was last seen; \
                 max_lag is {most}"
            )),
            Some((_, _, lag)) if lag > most => {
                bar(format!("lagged {lag} behind {of} when that was last seen; max_lag is {most}"))
            }
            Some(_) => None,
            None => bar(format!("the lag behind {of} is not known; max_lag is {most}")),
        }
    }
}
