//! The machine: its state, what each input does to it, and when it must be woken.
//!
//! Inputs only note what happened. What follows from it is found by the same sweep after every
//! input ([`Lead::step`]): no edge is the only trigger of anything. At most one call of a kind is
//! under way, so a step's outputs are bounded.

use super::super::call::{Answer, Call, Entry, StoreError};
use super::super::keys::Keys;
use super::super::reason::Reason;
use super::super::records::{LeaderValue, SyncValue, TermValue};
use super::super::time::{At, Span};
use super::super::types::{Epoch, Identity, Index, OpId, SessionId};
use super::acquire::Taking;
use super::attempt::{Prep, Step};
use super::force::Force;
use super::mutant::{self, Mutant};
use super::promise::Promise;
use super::session::Session;
use super::take::Judged;
use super::term::Term;
use super::view::{How, View, wait_for};
use super::write::RETRY;
use super::{LeadConfig, LeadIn, LeadOut, Standing};
use std::collections::BTreeMap;

/// What an answer belongs to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Pending {
    /// A consistent read, and what was known when it was sent.
    Read {
        known: Judged,
        prep: bool,
    },
    Create,
    Session(SessionId),
    Renewal,
    Take,
    Release,
    List,
    Sync,
    Cluster,
}

/// A consistent read that just came back: its number, and the index of `leader` in that very
/// snapshot.
#[derive(Clone, Copy)]
pub(super) struct Read {
    pub(super) op: OpId,
    pub(super) leader: Index,
}

/// The leadership of one node of one cluster.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Lead {
    pub(super) me: Identity,
    pub(super) keys: Keys,
    pub(super) config: LeadConfig,
    pub(super) floor: Epoch,
    pub(super) floor_asked: Epoch,
    pub(super) standing: Option<Standing>,
    pub(super) view: View,
    pub(super) term: Option<Term>,
    pub(super) prep: Option<Prep>,
    pub(super) taking: Option<Taking>,
    /// An operator's order to take.
    pub(super) force: Option<Force>,
    /// Given to another leader: nothing is taken while it runs.
    pub(super) promise: Option<Promise>,
    /// The own term for which a release was sent.
    pub(super) gave_up: Option<Epoch>,
    /// No attempt before this.
    pub(super) idle_until: At,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    /// A session left over for the next attempt; only a planted fault leaves one.
    pub(super) spare: Option<SessionId>,
    pub(super) ops: BTreeMap<OpId, Pending>,
    /// Numbers operations.
    pub(super) next: u64,
    /// A consistent read is wanted from then on.
    pub(super) read_at: Option<At>,
    /// The last decision told, so that it is told once.
    pub(super) told: Option<Reason>,
}

impl Lead {
    /// `floor`: the highest epoch that is durable on this volume.
    pub fn new(me: Identity, keys: Keys, config: LeadConfig, floor: Epoch, now: At) -> Lead {
        Lead {
            me,
            keys,
            config,
            floor,
            floor_asked: floor,
            standing: None,
            view: View::new(now),
            term: None,
            prep: None,
            taking: None,
            force: None,
            promise: None,
            gave_up: None,
            idle_until: At(0),
            sessions: BTreeMap::new(),
            spare: None,
            ops: BTreeMap::new(),
            next: 0,
            read_at: None,
            told: None,
        }
    }

    /// One input. Effects are appended to `out`; `now` is the time of sending for all of them.
    pub fn step(&mut self, now: At, input: LeadIn, out: &mut Vec<LeadOut>) {
        self.expire(now, out);
        self.promise.take_if(|promise| promise.until <= now);
        self.heed(now, input, out);
        self.expire(now, out);
        self.heed_loss(out);
        self.sweep(now, out);
    }

    fn heed(&mut self, now: At, input: LeadIn, out: &mut Vec<LeadOut>) {
        match input {
            LeadIn::Tick => {}
            LeadIn::Leader { entry, seen } => {
                let calm = self.calm_span();
                self.view.see_leader(now, entry.as_ref(), How::Watch(seen), calm);
                self.settle(now, None, out);
            }
            LeadIn::State { term, sync, cluster, seen } => {
                let calm = self.calm_span();
                self.view.cluster |= cluster;
                self.view.see_sync(sync.as_ref(), How::Watch(seen));
                self.view.see_term(now, term.as_ref(), How::Watch(seen), calm);
                self.settle(now, None, out);
            }
            LeadIn::Reply { op, result } => self.reply(now, op, result, out),
            LeadIn::Standing(standing) => self.standing = Some(standing),
            LeadIn::Surveyed { id, answers } => self.surveyed(now, id, &answers, out),
            LeadIn::FloorDurable(epoch) => self.floor = self.floor.max(epoch),
            LeadIn::Demote { why } => self.demote(why, out),
            LeadIn::Fenced => self.fenced(out),
            LeadIn::Release { to } => self.release_asked(to),
            LeadIn::TakeAgain => self.take_again(),
            LeadIn::Admit(member) => self.admit(member),
            LeadIn::Expel(member) => self.expel(member),
            LeadIn::SyncReady(ready) => self.sync_ready(ready),
            LeadIn::SyncHooked { id, ok } => self.sync_hooked(now, id, ok),
            LeadIn::WriteCluster { id, secret } => self.write_cluster(now, id, secret),
            LeadIn::Force(force) => self.order(force),
            LeadIn::PromiseAsked { id, request } => self.promise_asked(now, id, &request, out),
            LeadIn::Promised { id, result } => self.promised(now, id, result, out),
            LeadIn::Config(config) => self.configure(config, out),
            LeadIn::AppGone => self.sync_forgotten(),
        }
    }

    fn reply(
        &mut self,
        now: At,
        op: OpId,
        result: Result<Answer, StoreError>,
        out: &mut Vec<LeadOut>,
    ) {
        let Some(pending) = self.ops.remove(&op) else { return };
        let result = match result {
            Err(StoreError::Unknown(_)) if mutant::on(Mutant::M60) => Ok(Answer::Done),
            other => other,
        };
        if let Err(error) = &result {
            self.not_answered(now, error);
        }
        match pending {
            Pending::Read { known, prep } => self.read_reply(now, op, known, prep, result, out),
            Pending::Create => self.created(now, op, result, out),
            Pending::Session(id) => self.session_reply(now, op, &id, result),
            Pending::Renewal => self.renewal_reply(now, op, result, out),
            Pending::Take => self.take_reply(now, op, result, out),
            Pending::Release => self.release_reply(now, op, result),
            Pending::List => self.list_reply(now, op, result),
            Pending::Sync => self.sync_reply(now, op, result),
            Pending::Cluster => self.cluster_reply(now, op, result, out),
        }
    }

    fn created(
        &mut self,
        now: At,
        op: OpId,
        result: Result<Answer, StoreError>,
        out: &mut Vec<LeadOut>,
    ) {
        let session = match result {
            Ok(Answer::Session(id)) => id,
            Ok(_) | Err(_) => {
                if self.prep.as_ref().is_some_and(|prep| prep.session == Step::Asked(op)) {
                    self.drop_prep(out);
                    self.idle_until = now + RETRY;
                }
                return;
            }
        };
        self.adopt_session(now, session.clone());
        match self.prep.as_mut().filter(|prep| prep.session == Step::Asked(op)) {
            Some(prep) => prep.session = Step::Have(session),
            None => self.doom(session),
        }
    }

    fn read_reply(
        &mut self,
        now: At,
        op: OpId,
        known: Judged,
        prep: bool,
        result: Result<Answer, StoreError>,
        out: &mut Vec<LeadOut>,
    ) {
        let Ok(Answer::Txn(entries)) = result else {
            if prep {
                self.drop_prep(out);
                self.idle_until = now + RETRY;
            } else {
                self.want_read(now + RETRY);
            }
            return;
        };
        let calm = self.calm_span();
        let find = |key| entries.iter().find(|entry: &&Entry| entry.key == key);
        let (leader, term, sync) = (self.keys.leader(), self.keys.term(), self.keys.sync());
        if !(prep && mutant::on(Mutant::M29)) {
            self.view.see_sync(find(sync), How::Fresh(known.sync));
        }
        self.view.cluster |= find(self.keys.cluster()).is_some();
        self.view.see_term(now, find(term), How::Fresh(known.term), calm);
        if !mutant::on(Mutant::M02) {
            self.view.see_leader(now, find(leader), How::Fresh(known.leader), calm);
        }
        let leader = find(self.keys.leader()).map_or(Index(0), |entry| entry.modify);
        self.settle(now, Some(Read { op, leader }), out);
        self.prep_read(now, op, out);
    }

    /// After something was seen; `read` if by a consistent read.
    fn settle(&mut self, now: At, read: Option<Read>, out: &mut Vec<LeadOut>) {
        self.settle_taking(now, read, out);
        self.settle_release(now, read.is_some());
        self.settle_list(now, read.is_some());
        self.settle_sync(now, read.is_some());
        self.heed_loss(out);
        if read.is_some() {
            self.renewal_after_read(now);
        }
        let seen = self.view.highest_epoch();
        self.want_floor(seen, out);
    }

    fn sweep(&mut self, now: At, out: &mut Vec<LeadOut>) {
        self.drive_taking(now, out);
        self.drive_release(now, out);
        self.drive_renewal(now, out);
        self.drive_hold(now, out);
        self.drive_take(now, out);
        self.drive_list(now, out);
        self.drive_sync(now, out);
        self.drive_cluster(now, out);
        self.drive_sessions(now, out);
        self.drive_read(now, out);
    }

    fn drive_read(&mut self, now: At, out: &mut Vec<LeadOut>) {
        let busy = |pending: &Pending| matches!(pending, Pending::Read { prep: false, .. });
        if self.read_at.is_some_and(|at| at <= now) && !self.ops.values().any(busy) {
            self.read_at = None;
            let (call, pending) = (self.read_call(), self.read_pending(false));
            self.call(pending, call, None, out);
        }
    }

    fn configure(&mut self, config: LeadConfig, out: &mut Vec<LeadOut>) {
        if config.lease > config.lease_max {
            let text = format!("lease {} is above lease_max {}", config.lease, config.lease_max);
            self.decided(Reason::new("config.refused", text).flip("a shorter lease"), out);
            return;
        }
        let mode_changed = config.sync != self.config.sync;
        self.config = config;
        if mode_changed {
            self.sync_mode_changed();
        }
    }

    pub(super) fn call(
        &mut self,
        pending: Pending,
        call: Call,
        valid_until: Option<At>,
        out: &mut Vec<LeadOut>,
    ) -> OpId {
        let op = OpId::take(&mut self.next);
        self.ops.insert(op, pending);
        out.push(LeadOut::Call { op, call, valid_until });
        op
    }

    pub(super) fn want_read(&mut self, at: At) {
        if mutant::on(Mutant::M68) {
            return;
        }
        self.read_at = Some(self.read_at.map_or(at, |wanted| wanted.min(at)));
    }

    /// The floor is to be durable before promotion and admission; whoever sees a higher epoch keeps
    /// it.
    pub(super) fn want_floor(&mut self, epoch: Epoch, out: &mut Vec<LeadOut>) {
        if epoch > self.floor_asked {
            self.floor_asked = epoch;
            out.push(LeadOut::PersistFloor(epoch));
        }
    }

    pub(super) fn decided(&mut self, reason: Reason, out: &mut Vec<LeadOut>) {
        self.told = Some(reason.clone());
        out.push(LeadOut::Decided(reason));
    }

    /// After a key went back: how long nothing is taken at once.
    pub(super) fn calm_span(&self) -> Span {
        wait_for(self.config.lease_max)
    }

    pub(super) fn promoted_from(&self) -> At {
        self.term.as_ref().map_or(At(0), |term| term.promote_from)
    }

    /// When `Tick` is needed next, if nothing else comes.
    pub fn wake(&self, now: At) -> Option<At> {
        let mut times: Vec<At> = self.read_at.into_iter().collect();
        if let Some(term) = &self.term {
            let open = term.open.then(|| term.proofs.deadline());
            let renewal = term
                .renewal
                .next
                .filter(|_| term.open && term.renewal.attempt.is_none() && self.holds_lock());
            let list = term.list.write.as_ref().and_then(|write| write.wake());
            let cluster = term.cluster.as_ref().filter(|c| c.op.is_none()).map(|c| c.next);
            times.extend(open);
            times.extend(renewal);
            times.extend(self.hold_wake());
            if term.open {
                times.extend(list.into_iter().chain(term.syncing.wake()).chain(cluster));
            }
            if let Some(release) = &term.release {
                let write = release.write.as_ref().and_then(|write| write.wake());
                times.extend(write);
                times.extend(release.write.is_none().then_some(term.promote_from));
            }
        }
        if let Some(taking) = &self.taking {
            times.extend(taking.write.wake());
            times.extend([taking.sent + taking.lease]);
        }
        match &self.prep {
            Some(prep) => times.extend([prep.go_at, prep.started + Span::secs(11)]),
            None if self.taking.is_none() => {
                let until = match self.judge(now) {
                    Ok(_) => Some(self.idle_until),
                    Err(bar) => bar.until(),
                };
                times.extend(until);
            }
            None => {}
        }
        let idle = self.sessions.values().filter(|s| s.op.is_none() && s.gone.is_none());
        times.extend(idle.map(|session| session.at));
        // What is due already was done by this step's sweep, or waits for an input.
        times.into_iter().filter(|at| *at > now).min()
    }

    /// The session that holds the lock for the own term: other writes are bound to it.
    pub fn session(&self) -> Option<SessionId> {
        self.term.as_ref().map(|term| term.session.clone())
    }

    /// Whether no lease can run any more, as far as this node has seen: what stands there was
    /// released, or was waited out, and this node has promised nothing to anybody.
    pub fn is_vacant(&self, now: At) -> bool {
        let promised = self.running_promise(now).is_some();
        self.has_seen() && !promised && self.free_at().is_some_and(|at| at <= now)
    }

    /// Whether the own term is over and to be taken again: its planned successor did not catch up.
    pub fn takes_again(&self) -> bool {
        self.term.as_ref().is_some_and(|term| term.again)
    }

    pub fn floor(&self) -> Epoch {
        self.floor
    }

    pub fn identity(&self) -> &Identity {
        &self.me
    }

    /// `leader` as last seen.
    pub fn leader_seen(&self) -> Option<&LeaderValue> {
        self.view.leader_value()
    }

    /// The first receipt of `leader` and `state/term` as last seen: a follower's clock of the
    /// lease.
    pub fn leader_since(&self) -> At {
        self.view.since
    }

    /// `state/term` as last seen, with its index.
    pub fn term_seen(&self) -> Option<(&TermValue, Index)> {
        self.view.term_value().map(|term| (term, self.view.term_index()))
    }

    /// `state/sync` of the current term as last seen, with its index.
    pub fn sync_seen(&self) -> Option<(&SyncValue, Index)> {
        self.view.sync_in_force().map(|sync| (sync, self.view.sync.index))
    }

    /// Whether `state/cluster` exists.
    pub fn cluster_known(&self) -> bool {
        self.view.cluster
    }

    /// Whether both watches have answered since the start.
    pub fn has_seen(&self) -> bool {
        self.view.leader.is_some() && self.view.term.is_some()
    }
}
