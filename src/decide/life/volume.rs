//! The volume's failures. What the node could do without for a while is tried again: a full disk
//! gets room, and nobody should have to start lictor again for it. Everything else ends its part in
//! the cluster.

use super::{After, Node, State};
use crate::decide::io::{Effect, Outbox};
use crate::decide::lead::LeadIn;
use crate::decide::mutant::{self, Mutant};
use crate::decide::reason::Reason;
use crate::decide::records::Follows;
use crate::decide::time::{At, Span};
use crate::decide::types::Epoch;

/// After a floor, or a term followed, that could not be made durable.
const AGAIN: Span = Span::secs(1);

/// A floor that is to be made durable again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Floor {
    /// The highest that was asked for: a lower one must never be written over it.
    asked: Epoch,
    again: Option<At>,
    /// Said once, not each second.
    told: bool,
    /// Whom the data follows is to be written again.
    follows_again: Option<At>,
    follows_told: bool,
}

impl Floor {
    pub fn wake(&self) -> Option<At> {
        self.again.into_iter().chain(self.follows_again).min()
    }
}

impl Node {
    pub(crate) fn persist_floor(&mut self, epoch: Epoch, out: &mut Outbox) {
        self.floor.asked = self.floor.asked.max(epoch);
        if mutant::on(Mutant::M61) {
            self.floor_durable(self.now, epoch, out);
            return;
        }
        out.push(Effect::PersistFloor(epoch));
    }

    /// Whatever runs is killed first: a main process that has ended says nothing of its tree.
    pub(crate) fn volume_failed(&mut self, now: At, what: String, out: &mut Outbox) {
        let reason = Reason::new("volume.failed", format!("the volume failed: {what}"));
        self.tell_lead(now, LeadIn::Demote { why: reason.clone() }, out);
        self.decided(reason, out);
        if !matches!(self.state, State::Stopped | State::Failed { .. }) {
            self.kill(now, After::Fail, out);
        }
    }

    /// Without it nobody is promoted or admitted, and that is all: a replica replicates on. A
    /// primary, whose term is newer than what the volume says, must not go on.
    pub(crate) fn floor_failed(&mut self, now: At, epoch: Epoch, what: String, out: &mut Outbox) {
        if self.state.may_write() {
            self.volume_failed(now, what, out);
            return;
        }
        self.floor.again = Some(now + AGAIN);
        if !self.floor.told {
            self.floor.told = true;
            let text = format!("epoch {epoch} is not durable: {what}; tried again each {AGAIN}");
            self.decided(Reason::new("volume.floor", text).flip("a write that succeeds"), out);
        }
    }

    pub(crate) fn floor_durable(&mut self, now: At, epoch: Epoch, out: &mut Outbox) {
        self.disk.floor = self.disk.floor.max(epoch);
        self.floor.told = false;
        self.record.transition();
        self.tell_lead(now, LeadIn::FloorDurable(epoch), out);
    }

    /// Without it a node that is started anew follows nobody: no candidate, and its answer does not
    /// count (the simulator's seed 2831: a disk full for 7 s, then nobody could lead).
    pub(crate) fn follows_failed(&mut self, now: At, what: String, out: &mut Outbox) {
        if !std::mem::replace(&mut self.floor.follows_told, true) {
            let text = format!("{what}; tried again each {AGAIN}");
            let flip = "a write that succeeds";
            self.decided(Reason::new("volume.follows", text).flip(flip), out);
        }
        self.floor.follows_again = Some(now + AGAIN);
    }

    pub(crate) fn persist_follows(&mut self, term: Follows, out: &mut Outbox) {
        self.floor.follows_again = None;
        self.floor.follows_told = false;
        out.push(Effect::PersistFollows(term));
    }

    pub(crate) fn tend_volume(&mut self, now: At, out: &mut Outbox) {
        if self.floor.follows_again.is_some_and(|at| now >= at) {
            // No answer is an answer: one that fails comes back.
            self.floor.follows_again = None;
            if let Some(done) = self.follow.done.clone() {
                out.push(Effect::PersistFollows(done));
            }
        }
        if self.floor.again.is_some_and(|at| now >= at) {
            self.floor.again = None;
            out.push(Effect::PersistFloor(self.floor.asked));
        }
    }
}
