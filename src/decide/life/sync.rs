//! The leader's part in synchronous replication: who is ready, the `sync` hook, and the barrier
//! behind it.
//!
//! `Lead` decides the set and the order of writes (rule 17). Here an answer that it is in force is
//! worth something: the hook has succeeded *and* every acknowledging member holds all that was
//! committed before. Without the barrier a row that only a member on its way out acknowledged would
//! be missing on all that remain.

use super::{Node, Side, State};
use crate::decide::hook::{Hook, HookEnd};
use crate::decide::io::Outbox;
use crate::decide::lead::{LeadIn, Leadership, SyncMode};
use crate::decide::mutant::{self, Mutant};
use crate::decide::reason::Reason;
use crate::decide::time::{At, Span};
use crate::decide::types::{NodeName, OpId};
use std::collections::BTreeSet;

/// A member that did not answer a ping for this long is no longer asked to acknowledge.
const READY_SILENCE: Span = Span::secs(3);
/// The barrier gives up after this; `Lead` tries again.
const BARRIER_MOST: Span = Span::secs(5);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Stage {
    Hook,
    /// Waits for the own position.
    Own,
    /// Waits until each of them has this.
    Barrier {
        order: u64,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Work {
    lead: OpId,
    others: BTreeSet<NodeName>,
    acks: u32,
    stage: Stage,
    give_up: At,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SyncWork {
    work: Option<Work>,
    waiting: Option<(OpId, BTreeSet<NodeName>, u32)>,
    told: Option<BTreeSet<NodeName>>,
}

impl SyncWork {
    /// The mode changed: who is ready is news again.
    pub(crate) fn tell_again(&mut self) {
        self.told = None;
    }
}

impl Node {
    pub(crate) fn became_primary(&mut self, _now: At, _out: &mut Outbox) {
        self.sync.told = None;
    }

    pub(crate) fn sync_wanted(
        &mut self,
        now: At,
        lead: OpId,
        members: BTreeSet<NodeName>,
        acks: u32,
        out: &mut Outbox,
    ) {
        let others = members.into_iter().filter(|node| node != self.me()).collect();
        self.sync.waiting = Some((lead, others, acks));
        self.begin_sync(now, out);
    }

    fn begin_sync(&mut self, now: At, out: &mut Outbox) {
        if self.main_hook_running() || self.sync.work.is_some() {
            return;
        }
        let Some((lead, others, acks)) = self.sync.waiting.take() else { return };
        if !matches!(self.state, State::Primary) {
            self.tell_lead(now, LeadIn::SyncHooked { id: lead, ok: false }, out);
            return;
        }
        let facts = self.sync_hook_facts(&others, acks);
        let give_up = now + self.set.timeouts.sync + BARRIER_MOST;
        self.sync.work = Some(Work { lead, others, acks, stage: Stage::Hook, give_up });
        self.run_side(Side::Sync { lead }, facts, out);
    }

    pub(crate) fn sync_ended(&mut self, now: At, lead: OpId, end: HookEnd, out: &mut Outbox) {
        let Some(work) = &mut self.sync.work else { return };
        if work.lead != lead {
            return;
        }
        match end {
            HookEnd::Done { .. } if work.acks == 0 || mutant::on(Mutant::M73) => {
                self.sync_over(now, true, out);
            }
            HookEnd::Done { .. } => {
                work.stage = Stage::Own;
                self.peers.forget_orders();
                let facts = self.facts();
                self.run_side(Side::Barrier { lead }, facts, out);
            }
            end => {
                let text = format!("the {} hook ended with {end}", Hook::Sync);
                self.decided(Reason::new("sync.failed", text), out);
                self.sync_over(now, false, out);
            }
        }
    }

    pub(crate) fn barrier_ended(&mut self, now: At, lead: OpId, end: HookEnd, out: &mut Outbox) {
        let position = super::position::read_position(&end);
        // The position of an earlier barrier may lack what was committed since.
        let Some(work) = self.sync.work.as_mut().filter(|work| work.lead == lead) else { return };
        match position {
            Some(position) if work.stage == Stage::Own => {
                work.stage = Stage::Barrier { order: position.order };
            }
            Some(_) => {}
            None => self.sync_over(now, false, out),
        }
    }

    fn sync_over(&mut self, now: At, ok: bool, out: &mut Outbox) {
        if let Some(work) = self.sync.work.take() {
            self.tell_lead(now, LeadIn::SyncHooked { id: work.lead, ok }, out);
        }
    }

    /// Drives the barrier and tells `Lead` who is ready.
    pub(crate) fn tend_sync(&mut self, now: At, out: &mut Outbox) {
        if !matches!(self.state, State::Primary) {
            self.sync.told = None;
            self.sync_over(now, false, out);
            if self.sync.waiting.is_some() && !self.main_hook_running() {
                self.begin_sync(now, out);
            }
            return;
        }
        self.begin_sync(now, out);
        self.tend_barrier(now, out);
        if self.set.lead.sync == SyncMode::Off {
            return;
        }
        let ready = self.ready(now);
        if self.sync.told.as_ref() != Some(&ready) {
            self.sync.told = Some(ready.clone());
            self.tell_lead(now, LeadIn::SyncReady(ready), out);
        }
    }

    fn tend_barrier(&mut self, now: At, out: &mut Outbox) {
        let Some(work) = &self.sync.work else { return };
        if now >= work.give_up {
            let text = format!("{:?} did not catch up in time", work.others);
            self.decided(Reason::new("sync.barrier", text), out);
            self.sync_over(now, false, out);
            return;
        }
        let Stage::Barrier { order } = work.stage else { return };
        let behind: Vec<NodeName> = work
            .others
            .iter()
            .filter(|node| self.peers.order_of(node) < Some(order))
            .cloned()
            .collect();
        if behind.is_empty() {
            self.sync_over(now, true, out);
            return;
        }
        for node in behind {
            self.ask_position(now, &node, out);
        }
    }

    /// Listed members that follow this term, answer, and whose application does: a hung one would
    /// make commits wait.
    fn ready(&self, now: At) -> BTreeSet<NodeName> {
        if !matches!(self.leadership(), Leadership::Open { .. }) {
            return BTreeSet::new();
        }
        let parting = self.parting();
        self.members
            .values()
            .filter(|member| !parting.contains(&member.node))
            .filter(|member| member.node != *self.me() && self.eligible(member))
            .filter(|member| member.state == "replica" && self.follows_me(member))
            .filter(|member| self.peers.silent(&member.node, now) < READY_SILENCE)
            .filter(|member| self.peers.is_healthy(&member.node))
            .map(|member| member.node.clone())
            .collect()
    }
}
