//! A write whose outcome may be unknown: it keeps its indexes and its session until a read settles
//! it (rule 2).
//!
//! While unsettled the *identical* request may be sent again: bound to an index, at most one copy
//! can apply. Nothing else is written to that key before.

use super::super::call::{Call, StoreError};
use super::super::time::{At, Span};
use super::super::types::{Index, OpId};

/// How long after an unsettled outcome the next look or copy follows.
pub(super) const RETRY: Span = Span(200);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Write {
    pub(super) call: Call,
    /// The index it is bound to.
    pub(super) index: Index,
    /// Some copy may still be on its way.
    unsure: bool,
    /// Sent and not answered.
    in_flight: Option<OpId>,
    /// When the next copy may be sent, after a read that showed the index unmoved.
    again: Option<At>,
}

/// What a read says of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Settled {
    /// The index has moved, by this write or by another: no copy can apply any more.
    Moved,
    /// Not applied, and no copy is on its way.
    Void,
    /// Unmoved, and a copy may still arrive.
    Open,
}

impl Write {
    pub(super) fn new(call: Call, index: Index) -> Write {
        Write { call, index, unsure: false, in_flight: None, again: None }
    }

    /// Whether a copy may be sent now.
    pub(super) fn due(&self, now: At) -> bool {
        self.wake().is_some_and(|at| at <= now)
    }

    pub(super) fn sent(&mut self, op: OpId) {
        self.in_flight = Some(op);
        self.again = None;
    }

    /// Whether this is the answer to the last copy.
    pub(super) fn is(&self, op: OpId) -> bool {
        self.in_flight == Some(op)
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// An answer other than success; a read must follow.
    pub(super) fn failed(&mut self, error: &StoreError) {
        self.in_flight = None;
        self.unsure |= !error.is_definite();
        self.again = Some(FOREVER);
    }

    /// What is seen of its key: `index` now; `read`: by a read that just came back; `dead`: one
    /// sent after the session was known to be gone.
    pub(super) fn look(&mut self, now: At, index: Index, read: bool, dead: bool) -> Settled {
        if index != self.index {
            return Settled::Moved;
        }
        if self.in_flight.is_some() || !read {
            return Settled::Open;
        }
        if dead || !self.unsure && self.waits_for_read() {
            return Settled::Void;
        }
        if self.waits_for_read() {
            self.again = Some(now + RETRY);
        }
        Settled::Open
    }

    pub(super) fn waits_for_read(&self) -> bool {
        self.again == Some(FOREVER)
    }

    pub(super) fn wake(&self) -> Option<At> {
        if self.in_flight.is_some() || self.waits_for_read() {
            return None;
        }
        Some(self.again.unwrap_or_default())
    }

    #[cfg(test)]
    pub(super) fn parts(&mut self) -> (Option<&mut OpId>, Option<&mut At>) {
        (self.in_flight.as_mut(), self.again.as_mut().filter(|at| **at != FOREVER))
    }
}

/// Not before a read has shown the index.
const FOREVER: At = At(u64::MAX);
