//! The member record this node writes, and what the leader makes of the others': admission and
//! removal.

use super::{Node, Owner, Settings, State};
use crate::decide::call::{Answer, Call, StoreError, Verb};
use crate::decide::io::Outbox;
use crate::decide::lead::{Disk, LeadIn, Leadership, Standing};
use crate::decide::reason::Reason;
use crate::decide::records::{MemberValue, encode};
use crate::decide::time::{At, Span};
use crate::decide::types::{Member, NodeName};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Between two writes that no transition asks for.
const REFRESH: Span = Span::secs(10);
/// A member that did not answer for this long is not admitted; well below the time that expels.
const ADMIT_SILENCE: Span = Span::secs(3);
/// After a write that failed.
const AGAIN: Span = Span::secs(1);

/// When the own record was written, and what it said.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    written: Option<MemberValue>,
    /// The settings it was written under.
    under: Option<Arc<Settings>>,
    /// What Consul shows is what was written.
    stands: bool,
    writing: bool,
    dirty: bool,
    wrote: Option<At>,
    next: Option<At>,
}

impl Record {
    /// Something others decide by has changed: write at once.
    pub fn is_writing(&self) -> bool {
        self.writing
    }

    /// What Consul shows of it, or what was written, has changed.
    fn shown(&mut self, shown: Option<&MemberValue>) {
        self.stands = self.written.is_some() && self.written.as_ref() == shown;
    }

    pub fn transition(&mut self) {
        self.dirty = true;
    }
}

impl Node {
    fn own_record(&self) -> MemberValue {
        let me = &self.boot.identity;
        MemberValue {
            v: 1,
            node: me.node.clone(),
            run: me.run.clone(),
            disk: me.disk.clone(),
            cluster: self.disk.cluster.clone().filter(|_| self.disk.data && !self.disk.marker),
            roles: self.set.roles.clone(),
            peer: self.set.lead.peer.clone(),
            tls: self.set.tls,
            app: self.set.lead.app.clone(),
            zone: self.set.zone.clone(),
            host: self.set.host.clone(),
            tags: self.set.tags.clone(),
            priority: self.set.priority(&me.node),
            no_failover: self.set.no_failover.contains(&me.node),
            state: self.state.name().to_owned(),
            floor: self.disk.floor,
            follows: self.follow.current().cloned(),
            bars_backup: self.set.backup.bar.clone(),
            version: self.set.version.clone(),
            held_until: self.held_until(),
            lease_max: Some(self.set.lead.lease_max),
            config: Some(self.config_note()),
            extra: Default::default(),
        }
    }

    /// Whether it is [`Node::own_record`], without making one: each step asks.
    fn is_own_record(&self, record: &MemberValue) -> bool {
        let MemberValue {
            v,
            node,
            run,
            disk,
            cluster,
            roles,
            peer,
            tls,
            app,
            zone,
            host,
            tags,
            priority,
            no_failover,
            state,
            floor,
            follows,
            bars_backup,
            version,
            held_until,
            lease_max,
            config,
            extra,
        } = record;
        let me = &self.boot.identity;
        let set = &self.set;
        let own_cluster =
            self.disk.cluster.as_ref().filter(|_| self.disk.data && !self.disk.marker);
        let stated = || {
            (bars_backup, tls, tags) == (&set.backup.bar, &set.tls, &set.tags)
                && (peer, app) == (&set.lead.peer, &set.lead.app)
                && (zone, host, version, roles) == (&set.zone, &set.host, &set.version, &set.roles)
                && *no_failover == set.no_failover.contains(&me.node)
                && *priority == set.priority(&me.node)
                && *lease_max == Some(set.lead.lease_max)
        };
        let under = self.record.under.as_ref();
        let noted = config.as_ref().is_some_and(|note| self.is_config_note(note));
        *v == 1
            && *state == self.state.name()
            && *floor == self.disk.floor
            && *held_until == self.held_until()
            && follows.as_ref() == self.follow.current()
            && (node, run, disk) == (&me.node, &me.run, &me.disk)
            && cluster.as_ref() == own_cluster
            && noted
            && (under.is_some_and(|under| Arc::ptr_eq(under, set)) || stated())
            && extra.is_empty()
    }

    /// Writes the record on transitions, and at the most each 10 s when only details changed.
    pub(crate) fn tend_record(&mut self, now: At, out: &mut Outbox) {
        if !self.seen_state || self.record.writing || self.is_departing() {
            return;
        }
        let same = self.record.written.as_ref().is_some_and(|record| self.is_own_record(record));
        if same && self.record.stands {
            self.record.dirty = false;
            return;
        }
        let due = self.record.next.is_none_or(|next| now >= next);
        let failed = self.record.written.is_none() && self.record.next.is_some();
        // Somebody removed it: others go by it. Until the watch has seen the last write, it waits.
        let settled = self.record.wrote.is_none_or(|wrote| now.since(wrote) >= AGAIN);
        let lost = settled && !self.members.contains_key(self.me());
        let at_once = (self.record.dirty && !same || lost) && !failed;
        if !due && !at_once {
            return;
        }
        self.record.dirty = false;
        self.record.writing = true;
        self.record.under = Some(Arc::clone(&self.set));
        self.record.wrote = Some(now);
        self.record.next = Some(now + REFRESH);
        let record = self.own_record();
        let key = self.keys.member(self.me());
        let call = Call::Txn(vec![Verb::Set(key, encode(&record))]);
        self.call(Owner::Record(Box::new(record)), call, out);
    }

    pub(crate) fn record_shown(&mut self) {
        self.record.shown(self.members.get(&self.boot.identity.node).map(Arc::as_ref));
    }

    pub(crate) fn record_answered(
        &mut self,
        now: At,
        value: MemberValue,
        result: Result<Answer, StoreError>,
    ) {
        self.record.writing = false;
        match result {
            Ok(_) => self.record.written = Some(value),
            // Unknown is as good as failed: the same record is simply written again.
            Err(_) => {
                self.record.written = None;
                self.record.next = Some(now + AGAIN);
            }
        }
        self.record_shown();
    }

    /// Tells `Lead` how fit this node is, when that changed.
    pub(crate) fn tell_standing(&mut self, now: At, out: &mut Outbox) {
        let standing = self.fitness();
        if self.standing.as_ref() != Some(&standing) {
            self.standing = Some(standing.clone());
            self.tell_lead(now, LeadIn::Standing(standing), out);
        }
    }

    fn fitness(&self) -> Standing {
        let disk = self.disk_now();
        let reporting = self.members.len() as u32 >= self.set.bootstrap_expect;
        let none_has_data = self.members.values().all(|member| member.cluster.is_none());
        Standing {
            disk,
            follows: self.follow.done.clone(),
            may_bootstrap: reporting && none_has_data && self.bars_creating().is_none(),
            cut_under: self.cut_under.clone(),
            kept: self.kept,
            barred: self.bar(disk, self.bar_of_hold(self.now)),
        }
    }

    fn disk_now(&self) -> Disk {
        match (&self.disk.cluster, &self.cluster) {
            _ if !self.disk.data || self.disk.marker => Disk::Empty,
            (Some(own), Some(theirs)) if own != &theirs.id => Disk::Foreign,
            (None, _) => Disk::Foreign,
            (Some(_), _) => Disk::Data,
        }
    }

    /// What bars this node whatever time passes: a hold-down ends by itself.
    pub(crate) fn bar_that_lasts(&self) -> Option<Reason> {
        self.bar(self.disk_now(), None)
    }

    fn bar(&self, disk: Disk, hold: Option<Reason>) -> Option<Reason> {
        if self.stop {
            return Some(Reason::new("bar.stop", "lictor was asked to stop"));
        }
        if self.set.no_failover.contains(self.me()) && !self.is_ordered() {
            let flip = "its name taken out of `no_failover`, or an operator's failover to it";
            let reason = Reason::new("bar.no-failover", "`no_failover` names this node");
            return Some(reason.flip(flip));
        }
        if let Some(reason) = self.bar_of_pause() {
            return Some(reason);
        }
        if let Some(reason) = self.restore_bar() {
            return Some(reason);
        }
        let held = hold.or_else(|| self.bar_of_lag());
        if let Some(reason) = held.filter(|_| !self.is_ordered()) {
            return Some(reason);
        }
        let ready = match &self.state {
            State::Replica => self.health.ok,
            State::Joining => disk == Disk::Empty,
            // A running term may be taken again under a new epoch whatever the application does.
            State::Arming { .. }
            | State::Requiring { .. }
            | State::Promoting { .. }
            | State::Primary => true,
            State::Bootstrapping { .. } => disk == Disk::Empty,
            State::Init
            | State::Wiping
            | State::Waiting { .. }
            | State::Pausing { .. }
            | State::Preparing { .. }
            | State::Starting { .. }
            | State::Demoting { .. }
            | State::Draining { .. }
            | State::Killing { .. }
            | State::Parting { .. }
            | State::Stopping { .. }
            | State::Stopped
            | State::Failed { .. } => false,
        };
        (!ready).then(|| {
            let text = match &self.state {
                State::Replica => "its application's check fails".to_owned(),
                other => format!("the node is {}", other.name()),
            };
            Reason::new("bar.state", text).flip("the application runs and serves")
        })
    }

    pub(crate) fn eligible(&self, member: &MemberValue) -> bool {
        let entry = Member { node: member.node.clone(), disk: member.disk.clone() };
        self.term_seen().is_some_and(|term| term.eligible.contains(&entry))
    }

    /// The listed members beside this node.
    pub(crate) fn eligible_others(&self) -> BTreeSet<NodeName> {
        let Some(term) = self.term_seen() else { return BTreeSet::new() };
        let others = term.eligible.iter().map(|member| member.node.clone());
        others.filter(|node| node != self.me()).collect()
    }

    /// Whether this member's `replicate` succeeded for the running term of this leader.
    pub(crate) fn follows_me(&self, member: &MemberValue) -> bool {
        let Leadership::Open { epoch, .. } = self.leadership() else { return false };
        member.follows.as_ref().is_some_and(|follows| {
            follows.epoch == epoch
                && follows.node == *self.me()
                && follows.run == self.boot.identity.run
        })
    }

    /// Rule 16, the leader's side.
    pub(crate) fn tend_list(&mut self, now: At, out: &mut Outbox) {
        let Leadership::Open { epoch, .. } = self.leadership() else { return };
        let Some(cluster) = self.cluster.clone() else { return };
        let (mut admit, mut expel) = (Vec::new(), Vec::new());
        let parting = self.parting();
        for member in self.members.values() {
            if member.node == *self.me() {
                continue;
            }
            let ours = member.cluster.as_ref() == Some(&cluster.id);
            let listed = self.eligible(member);
            // A record outlives its node: who was expelled for silence comes back when it answers.
            let answers = self.peers.silent(&member.node, now) < ADMIT_SILENCE;
            let answers = answers && !parting.contains(&member.node);
            if !listed && ours && answers && member.floor >= epoch && self.follows_me(member) {
                admit.push(Member { node: member.node.clone(), disk: member.disk.clone() });
            }
        }
        if let Some(term) = self.term_seen() {
            for member in &term.eligible {
                let silent = self.peers.silent(&member.node, now) >= self.set.expel_after;
                if member.node != *self.me() && (silent || parting.contains(&member.node)) {
                    expel.push(member.clone());
                }
            }
        }
        for member in admit {
            self.tell_lead(now, LeadIn::Admit(member), out);
        }
        for member in expel {
            self.tell_lead(now, LeadIn::Expel(member), out);
        }
    }
}
