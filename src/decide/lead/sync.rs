//! The sync set (rule 17): what the application requires, what `state/sync` says, and the order
//! between them.
//!
//! In force: every commit, past ones included, is on at least `acks` of `members`. Written: a taker
//! asks `len(members) - acks + 1` of those. The written set is safe while `in force.acks >=
//! written.acks + |in force.members - written.members|` ([`SyncSet::covers`]); every step keeps
//! that, whatever the outcome of the write or hook under way. For sets in which every member must
//! acknowledge this gives "add: hook, then write; remove: write, then hook"; where one
//! acknowledgement of many suffices it gives the reverse.

use super::super::call::{Answer, Call, Entry, StoreError, Verb};
use super::super::records::{SyncValue, encode};
use super::super::time::{At, Span};
use super::super::types::{Epoch, NodeName, OpId};
use super::machine::{Lead, Pending};
use super::mutant::{self, Mutant};
use super::renew::index_of;
use super::view::How;
use super::write::{Settled, Write};
use super::{LeadOut, Seen, SyncMode};
use std::collections::BTreeSet;

/// How long after a failed hook the next one starts.
const HOOK_AGAIN: Span = Span::secs(1);

/// Members other than the leader, and how many of them must acknowledge a commit.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct SyncSet {
    pub members: BTreeSet<NodeName>,
    pub acks: u32,
}

impl SyncSet {
    /// Whether nobody can be promoted by `written` without a commit acknowledged under `self`.
    pub fn covers(&self, written: &SyncSet) -> bool {
        // An empty set: the leader alone may be promoted, and it has its own commits.
        if written.members.is_empty() {
            return true;
        }
        let acks = if self.members.is_empty() { 0 } else { self.acks as usize };
        let strangers = self.members.difference(&written.members).count();
        acks >= written.acks as usize + strangers
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Syncing {
    pub(super) in_force: SyncSet,
    /// A hook for this failed: it may be in force or not.
    doubt: Option<SyncSet>,
    /// The hook under way.
    hook: Option<(OpId, SyncSet)>,
    hook_at: At,
    target: Option<SyncSet>,
    write: Option<(Write, SyncSet)>,
    value: Vec<u8>,
}

impl Syncing {
    /// Nobody acknowledges, but under `strict` writes wait for them.
    pub(super) fn new(mode: SyncMode) -> Syncing {
        Syncing {
            in_force: SyncSet { members: BTreeSet::new(), acks: own_acks(mode) },
            doubt: None,
            hook: None,
            hook_at: At(0),
            target: None,
            write: None,
            value: Vec::new(),
        }
    }

    /// The application goes on under a new epoch; a write under way is void with its session.
    pub(super) fn carried(self) -> Syncing {
        Syncing { write: None, ..self }
    }

    #[cfg(test)]
    pub(super) fn parts(&mut self) -> (&mut At, Option<&mut Write>, Option<&mut OpId>) {
        let write = self.write.as_mut().map(|(write, _)| write);
        (&mut self.hook_at, write, self.hook.as_mut().map(|(op, _)| op))
    }

    pub(super) fn wake(&self) -> Option<At> {
        let write = self.write.as_ref().and_then(|(write, _)| write.wake());
        let hook = (self.hook.is_none() && self.target.is_some()).then_some(self.hook_at);
        write.into_iter().chain(hook).min()
    }
}

/// The `acks` of a set that names the leader alone.
pub(super) fn own_acks(mode: SyncMode) -> u32 {
    match mode {
        SyncMode::Off | SyncMode::On => 0,
        SyncMode::Strict(acks) => acks,
    }
}

impl Lead {
    /// What the application must require now: the others, and how many of them acknowledge.
    pub fn sync_in_force(&self) -> SyncSet {
        match &self.term {
            Some(term) => term.syncing.in_force.clone(),
            None => Syncing::new(self.config.sync).in_force,
        }
    }

    /// Whether a restarted application, of whose commits nothing is required, fits what stands in
    /// `state/sync`: nobody else may be promoted by it, and no write that says otherwise is on its
    /// way.
    pub fn sync_allows_restart(&self) -> bool {
        let idle = |term: &super::term::Term| term.syncing.write.is_none();
        match self.sync_written() {
            Some(set) => set.members.is_empty() && self.term.as_ref().is_some_and(idle),
            // What was switched on a moment ago may be on its way.
            None => self.config.sync == SyncMode::Off && self.term.as_ref().is_none_or(idle),
        }
    }

    /// What was aimed at under another mode is nothing any more; `life` tells who is ready anew.
    pub(super) fn sync_mode_changed(&mut self) {
        if let Some(term) = &mut self.term {
            term.syncing.target = None;
        }
    }

    /// What was in force ended with the application. A hook under way ends without effect.
    pub(super) fn sync_forgotten(&mut self) {
        let fresh = Syncing::new(self.config.sync);
        if let Some(term) = &mut self.term {
            let write = term.syncing.write.take();
            let value = std::mem::take(&mut term.syncing.value);
            term.syncing = Syncing { write, value, ..fresh };
        }
    }

    pub(super) fn sync_ready(&mut self, mut ready: BTreeSet<NodeName>) {
        ready.remove(&self.me.node);
        let acks = match self.config.sync {
            SyncMode::Off => return,
            SyncMode::On => u32::from(!ready.is_empty()),
            // Never fewer than required: the set stays, and writes wait.
            SyncMode::Strict(acks) if ready.len() < acks as usize => return,
            SyncMode::Strict(acks) => acks,
        };
        if let Some(term) = self.term.as_mut().filter(|term| term.open) {
            term.syncing.target = Some(SyncSet { members: ready, acks });
        }
    }

    fn sync_written(&self) -> Option<SyncSet> {
        let value = self.view.sync_in_force()?;
        let members = value.members.iter().filter(|node| **node != self.me.node).cloned().collect();
        Some(SyncSet { members, acks: value.acks })
    }

    pub(super) fn drive_sync(&mut self, now: At, out: &mut Vec<LeadOut>) {
        self.decide_sync(now, out);
        let Some(term) = self.term.as_mut().filter(|term| term.open) else { return };
        let Some((write, _)) = term.syncing.write.as_mut().filter(|(write, _)| write.due(now))
        else {
            return;
        };
        let (call, deadline) = (write.call.clone(), term.proofs.deadline());
        let op = self.call(Pending::Sync, call, Some(deadline), out);
        if let Some((write, _)) = self.term.as_mut().and_then(|t| t.syncing.write.as_mut()) {
            write.sent(op);
        }
    }

    fn decide_sync(&mut self, now: At, out: &mut Vec<LeadOut>) {
        let frozen = self.is_cut_off();
        if !self.holds_lock() || self.taking.is_some() || frozen || now < self.promoted_from() {
            return;
        }
        let (mode, stands) = (self.config.sync, self.sync_written());
        let Some(term) = self.term.as_mut().filter(|term| term.open) else { return };
        let syncing = &mut term.syncing;
        if syncing.write.is_some() || syncing.hook.is_some() {
            return;
        }
        let written = match (mode, stands) {
            (SyncMode::Off, Some(_))
                if !mutant::on(Mutant::M47) || syncing.in_force == SyncSet::default() =>
            {
                return self.decide_sync_end();
            }
            (SyncMode::Off, _) => {
                // Nobody counts any more: now nothing need be required either.
                let nobody = SyncSet::default();
                let off = syncing.in_force == nobody && syncing.doubt.is_none();
                syncing.target = (!off).then(|| nobody.clone());
                nobody
            }
            // Switched on in a running term: whatever is in force covers the leader alone.
            (SyncMode::On | SyncMode::Strict(_), None) => {
                return self.decide_sync_write(SyncSet::default());
            }
            (SyncMode::On | SyncMode::Strict(_), Some(set)) => set,
        };
        let Some(target) = syncing.target.clone() else { return };
        let in_force = syncing.in_force.clone();
        let settled = in_force == target && syncing.doubt.is_none();
        if settled && written == target {
            syncing.target = None;
            return;
        }
        let safe = |set: &SyncSet| {
            in_force.covers(set) && syncing.doubt.as_ref().is_none_or(|doubt| doubt.covers(set))
        };
        let hook_first =
            target.covers(&written) || mutant::on(Mutant::M36) && grows(&written, &target);
        let hook_first = hook_first || mutant::on(Mutant::M31);
        if !settled && hook_first {
            if syncing.hook_at <= now {
                let id = OpId::take(&mut self.next);
                syncing.hook = Some((id, target.clone()));
                out.push(LeadOut::SyncHook { id, members: target.members, acks: target.acks });
            }
            return;
        }
        let step = if safe(&target) {
            target
        } else {
            // The union with the fewest acknowledgements is covered by all of them.
            let mut union = SyncSet { acks: in_force.acks.min(target.acks), ..target.clone() };
            union.members.extend(in_force.members.iter().cloned());
            if let Some(doubt) = &syncing.doubt {
                union.members.extend(doubt.members.iter().cloned());
                union.acks = union.acks.min(doubt.acks);
            }
            if !safe(&union) { SyncSet::default() } else { union }
        };
        if step != written {
            self.decide_sync_write(step);
        }
    }

    fn decide_sync_write(&mut self, set: SyncSet) {
        let Some(epoch) = self.term.as_ref().map(|term| term.epoch) else { return };
        let value = encode(&self.sync_value(epoch, &set));
        let (leader, sync, index) = (self.keys.leader(), self.keys.sync(), self.view.sync.index);
        let Some(term) = &mut self.term else { return };
        let call = Call::Txn(vec![
            Verb::CheckSession(leader, term.session.clone()),
            Verb::Cas(sync, index, value.clone()),
        ]);
        term.syncing.value = value;
        term.syncing.write = Some((Write::new(call, index), set));
    }

    /// Switched off in a running term: first nobody is counted any more, then nothing is required.
    fn decide_sync_end(&mut self) {
        let (leader, sync, index) = (self.keys.leader(), self.keys.sync(), self.view.sync.index);
        let Some(term) = &mut self.term else { return };
        let call = Call::Txn(vec![
            Verb::CheckSession(leader, term.session.clone()),
            Verb::DeleteCas(sync, index),
        ]);
        term.syncing.value = Vec::new();
        term.syncing.write = Some((Write::new(call, index), SyncSet::default()));
    }

    pub(super) fn sync_value(&self, epoch: Epoch, set: &SyncSet) -> SyncValue {
        let mut members = set.members.clone();
        members.insert(self.me.node.clone());
        SyncValue { v: 1, epoch, members, acks: set.acks }
    }

    pub(super) fn sync_hooked(&mut self, now: At, id: OpId, ok: bool) {
        let Some(term) = &mut self.term else { return };
        let Some((_, set)) = term.syncing.hook.take_if(|(hook, _)| *hook == id) else { return };
        if ok {
            term.syncing.in_force = set;
            term.syncing.doubt = None;
        } else {
            term.syncing.doubt = Some(set);
            term.syncing.hook_at = now + HOOK_AGAIN;
        }
    }

    pub(super) fn sync_reply(&mut self, now: At, op: OpId, result: Result<Answer, StoreError>) {
        let key = self.keys.sync();
        let Some(term) = &mut self.term else { return };
        let Some((write, _)) = term.syncing.write.as_mut().filter(|(write, _)| write.is(op)) else {
            return;
        };
        match result {
            Ok(answer) => {
                let value = term.syncing.value.clone();
                let how = How::Watch(Seen::Read);
                match index_of(&answer, &key) {
                    Some(modify) => {
                        let entry = Entry { key, value, modify, session: None };
                        self.view.see_sync(Some(&entry), how);
                    }
                    // An applied deletion tells no index.
                    None if value.is_empty() => self.view.see_sync(None, how),
                    None => {}
                }
                self.settle_sync(now, false);
            }
            Err(error) => {
                write.failed(&error);
                self.want_read(now);
            }
        }
    }

    pub(super) fn settle_sync(&mut self, now: At, read: bool) {
        let index = self.view.sync.index;
        let Some(term) = &mut self.term else { return };
        let Some((write, _)) = &mut term.syncing.write else { return };
        match write.look(now, index, read, false) {
            Settled::Open => {}
            Settled::Moved | Settled::Void => term.syncing.write = None,
        }
    }
}

fn grows(written: &SyncSet, target: &SyncSet) -> bool {
    target.members.is_superset(&written.members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(members: u32, acks: u32) -> SyncSet {
        let members = (0..4).filter(|i| members >> i & 1 == 1);
        SyncSet { members: members.map(|i| NodeName::new(&format!("n{i}"))).collect(), acks }
    }

    /// `covers` is exactly: no commit on `acks` members in force is missed by every quorum of the
    /// written set.
    #[test]
    fn covers_is_what_the_counted_rule_needs() {
        for force in 1_u32..16 {
            for acks in 1..=force.count_ones() {
                for written in 1_u32..16 {
                    for wanted in 1..=written.count_ones() {
                        // The worst commit avoids the written members as far as it can.
                        let outside = (force & !written).count_ones();
                        let inside = acks.saturating_sub(outside);
                        let safe = inside >= wanted;
                        let covers = set(force, acks).covers(&set(written, wanted));
                        assert_eq!(covers, safe, "{force:b}/{acks} {written:b}/{wanted}");
                    }
                }
            }
        }
    }
}
