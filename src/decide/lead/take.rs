//! May this node try, when, and what it prepares (rules 9 to 11, 13, 18): everything before the one
//! transaction.
//!
//! [`Lead::judge`] is one reading of the view; it answers with the case, or with what bars this
//! node. An attempt then gets a session, asks positions where they decide, waits its rank, and
//! reads all it judged once more, consistently. Anything that moved in between ends the attempt.

use super::super::call::{Call, Verb};
use super::super::reason::Reason;
use super::super::records::{LeaderValue, LockState, SyncValue, TermValue};
use super::super::time::{At, Span};
use super::super::types::{Epoch, Index, NodeName, OpId, SessionId};
use super::counted::{self, Short};
use super::machine::{Lead, Pending};
use super::mutant::{self, Mutant};
use super::view::{Body, Slot, wait_for};
use super::{Disk, LeadOut, Standing, Standpoint};
use std::collections::{BTreeMap, BTreeSet};

/// How long others leave the preferred successor alone.
const TO_GRACE: Span = Span::secs(1);
/// Between two attempts.
pub(super) const BACKOFF: Span = Span::secs(1);
/// A survey without an end is given up.
const SURVEY_LIMIT: Span = Span::secs(10);

/// Under which clause of rules 11 and 13 the lock is taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Case {
    /// The first of all: both keys absent.
    Boot,
    /// (a) free and clean.
    Clean,
    /// (d) the term is ours already. `open`: it runs, and only the lock was lost.
    Again { open: bool },
    /// (b, c) the lease was waited out.
    Waited,
    /// An operator's order, when one of the others would allow it by time.
    Forced,
}

/// Why not.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Bar {
    Blind,
    NoStanding,
    Leading,
    Closing,
    Barred(Reason),
    Foreign,
    NoTerm,
    Unlisted(BTreeSet<NodeName>),
    EmptyDisk,
    NotInSync(BTreeSet<NodeName>),
    SyncGarbage,
    NotFollowing(NodeName, Epoch),
    NotToBootstrap,
    Wait { until: At, for_what: &'static str },
    Short(Short),
}

impl Bar {
    /// When time alone changes it.
    pub(super) fn until(&self) -> Option<At> {
        match self {
            Bar::Wait { until, .. } => Some(*until),
            Bar::Blind
            | Bar::NoStanding
            | Bar::Leading
            | Bar::Closing
            | Bar::Barred(_)
            | Bar::Foreign
            | Bar::NoTerm
            | Bar::Unlisted(_)
            | Bar::EmptyDisk
            | Bar::NotInSync(_)
            | Bar::SyncGarbage
            | Bar::NotFollowing(..)
            | Bar::NotToBootstrap
            | Bar::Short(_) => None,
        }
    }
}

/// The indexes an attempt has judged: if one moves, the attempt is void.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Judged {
    pub(super) leader: Index,
    pub(super) term: Index,
    pub(super) sync: Index,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Step<T> {
    Wanted,
    Asked(OpId),
    Have(T),
}

/// An attempt before its transaction.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Prep {
    pub(super) case: Case,
    pub(super) judged: Judged,
    pub(super) started: At,
    pub(super) session: Step<SessionId>,
    pub(super) survey: Option<OpId>,
    /// Nodes were frozen for it.
    pub(super) frozen: bool,
    /// The rank's wait.
    pub(super) go_at: At,
    pub(super) read: Option<OpId>,
}

pub(super) type Verdict<T> = Result<T, Bar>;

impl Lead {
    /// The highest epoch this node knows of, durable or about to be.
    pub(super) fn known_floor(&self) -> Epoch {
        self.floor.max(self.floor_asked)
    }

    pub(super) fn judge(&self, now: At) -> Verdict<Case> {
        let (Some(leader), Some(term)) = (&self.view.leader, &self.view.term) else {
            return Err(Bar::Blind);
        };
        match &self.term {
            Some(own) if own.open && self.holds_lock() => return Err(Bar::Leading),
            Some(own) if own.open => return self.calm(now).map(|()| Case::Again { open: true }),
            Some(own) if !own.again => return Err(Bar::Closing),
            Some(_) | None => {}
        }
        let standing = self.standing.as_ref().ok_or(Bar::NoStanding)?;
        if let Some(reason) = &standing.barred {
            return Err(Bar::Barred(reason.clone()));
        }
        if self.forced(now).is_some() {
            return self.judge_forced(now, standing);
        }
        if standing.disk == Disk::Foreign {
            return Err(Bar::Foreign);
        }
        match &term.body {
            Body::Absent if self.is_blank(standing) && standing.may_bootstrap => {
                self.judge_blank(now, leader)
            }
            Body::Absent if self.is_blank(standing) => Err(Bar::NotToBootstrap),
            Body::Absent | Body::Garbage => Err(Bar::NoTerm),
            Body::Value(term) => {
                if self.view.cluster {
                    self.fit(standing, term)?;
                } else {
                    self.fit_to_bootstrap(standing, term)?;
                }
                self.when(now, leader, term)
            }
        }
    }

    fn calm(&self, now: At) -> Verdict<()> {
        match self.view.calm_until {
            Some(until) if now < until => Err(Bar::Wait { until, for_what: "a restored key" }),
            Some(_) | None => Ok(()),
        }
    }

    /// Nothing was ever here, as far as this node can tell, and it is empty itself.
    fn is_blank(&self, standing: &Standing) -> bool {
        !self.view.cluster && self.known_floor() == Epoch::NONE && standing.disk == Disk::Empty
    }

    fn judge_blank(&self, now: At, leader: &Slot<LeaderValue>) -> Verdict<Case> {
        match leader.body {
            Body::Absent => self.calm(now).map(|()| Case::Boot),
            Body::Garbage | Body::Value(_) => {
                self.waited(now, wait_for(self.config.lease_max)).map(|()| Case::Waited)
            }
        }
    }

    /// Whether this run holds the current term.
    fn is_own(&self, term: &TermValue) -> bool {
        if mutant::on(Mutant::M22) {
            return self.view.leader_value().is_some_and(|value| value.run == self.me.run);
        }
        term.node == self.me.node && (term.run == self.me.run || mutant::on(Mutant::M28))
    }

    fn fit(&self, standing: &Standing, term: &TermValue) -> Verdict<()> {
        if !term.eligible.contains(&self.me.member()) && !mutant::on(Mutant::M10) {
            let names = term.eligible.iter().map(|member| member.node.clone()).collect();
            return Err(Bar::Unlisted(names));
        }
        if standing.disk != Disk::Data {
            return Err(Bar::EmptyDisk);
        }
        if self.view.sync.body == Body::Garbage {
            return Err(Bar::SyncGarbage);
        }
        if let Some(sync) = self.view.sync_in_force()
            && !sync.members.contains(&self.me.node)
        {
            return Err(Bar::NotInSync(sync.members.clone()));
        }
        // The node of the term has nobody to follow: its data is that term's.
        let follows = term.node == self.me.node
            || standing.follows.as_ref().is_some_and(|follows| self.view.follows_current(follows));
        if follows { Ok(()) } else { Err(Bar::NotFollowing(term.node.clone(), term.epoch)) }
    }

    /// Until `state/cluster` exists: an empty disk, or the data this very run has just made.
    fn fit_to_bootstrap(&self, standing: &Standing, term: &TermValue) -> Verdict<()> {
        let fit = match standing.disk {
            Disk::Empty => standing.may_bootstrap,
            Disk::Data => self.is_own(term),
            Disk::Foreign => false,
        };
        if fit { Ok(()) } else { Err(Bar::NotToBootstrap) }
    }

    pub(super) fn when(
        &self,
        now: At,
        leader: &Slot<LeaderValue>,
        term: &TermValue,
    ) -> Verdict<Case> {
        self.promises_bar(now, leader, term)?;
        if self.is_own(term) && self.gave_up != Some(term.epoch) {
            return self.calm(now).map(|()| Case::Again { open: false });
        }
        if self.view.cluster && self.is_clean(leader, term) {
            self.calm(now)?;
            let to = leader.body.value().and_then(|value| value.to.as_ref());
            if to.is_some_and(|to| *to != self.me.node) {
                let until = self.view.since + TO_GRACE;
                let for_what = "the preferred successor";
                return if now < until {
                    Err(Bar::Wait { until, for_what })
                } else {
                    Ok(Case::Clean)
                };
            }
            return Ok(Case::Clean);
        }
        let free = leader.session.is_none();
        let hasty = mutant::on(Mutant::M03) && free && leader.index != Index(0)
            || mutant::on(Mutant::M17) && leader.index == Index(0);
        if hasty {
            return Ok(Case::Waited);
        }
        self.waited(now, wait_for(self.lease_to_wait(leader, term))).map(|()| Case::Waited)
    }

    /// When the lock could be, or could have been, taken by any candidate.
    pub fn free_from(&self) -> At {
        let (Some(leader), Some(term)) = (&self.view.leader, self.view.term_value()) else {
            return self.view.since + wait_for(self.config.lease_max);
        };
        let wait = match leader.body.value() {
            Some(value) if self.is_clean(leader, term) && value.to.is_none() => Span::ZERO,
            Some(_) if self.is_clean(leader, term) => TO_GRACE,
            Some(_) | None => wait_for(self.lease_to_wait(leader, term)),
        };
        (self.view.since + wait).max(self.view.calm_until.unwrap_or_default())
    }

    pub(super) fn is_clean(&self, leader: &Slot<LeaderValue>, term: &TermValue) -> bool {
        leader.body.value().is_some_and(|value| {
            let clean = value.state == LockState::Clean;
            let current = (value.epoch, &value.run) == (term.epoch, &term.run)
                && value.epoch >= self.known_floor()
                && leader.session.is_none();
            clean && (current || mutant::on(Mutant::M32))
        })
    }

    /// A value that is not the current term's says little: the longer of both.
    fn lease_to_wait(&self, leader: &Slot<LeaderValue>, term: &TermValue) -> Span {
        match leader.body.value() {
            Some(value) if (value.epoch, &value.run) == (term.epoch, &term.run) => value.lease_ms,
            Some(value) => value.lease_ms.max(self.config.lease_max),
            None => self.config.lease_max,
        }
    }

    /// From when on nobody's lease runs; the timer is rule 10's.
    pub(super) fn free_at(&self) -> Option<At> {
        let leader = self.view.leader.as_ref()?;
        let wait = match self.view.term_value() {
            Some(term) if self.is_clean(leader, term) => Span::ZERO,
            Some(term) => wait_for(self.lease_to_wait(leader, term)),
            None => wait_for(self.config.lease_max),
        };
        Some((self.view.since + wait).max(self.view.calm_until.unwrap_or_default()))
    }

    pub(super) fn waited(&self, now: At, wait: Span) -> Verdict<()> {
        let calm = self.view.calm_until.unwrap_or_default();
        let until = (self.view.since + wait).max(calm);
        if now < until { Err(Bar::Wait { until, for_what: "the lease" }) } else { Ok(()) }
    }

    pub(super) fn judged(&self) -> Judged {
        Judged {
            leader: self.view.leader_index(),
            term: self.view.term_index(),
            sync: self.view.sync.index,
        }
    }

    /// Starts, moves on or drops an attempt.
    pub(super) fn drive_take(&mut self, now: At, out: &mut Vec<LeadOut>) {
        if self.prep.as_ref().is_some_and(|prep| prep.judged != self.judged()) {
            self.drop_prep(out);
        }
        if self.prep.is_none() && self.taking.is_none() && self.idle_until <= now {
            match self.judge(now) {
                Ok(case) => self.prepare(now, case, out),
                Err(bar) => self.barred(&bar, now, out),
            }
        }
        self.drive_prep(now, out);
    }

    fn prepare(&mut self, now: At, case: Case, out: &mut Vec<LeadOut>) {
        let session = match self.spare.take() {
            Some(id) => Step::Have(id),
            None => Step::Wanted,
        };
        let mut prep = Prep {
            case,
            judged: self.judged(),
            started: now,
            session,
            survey: None,
            frozen: false,
            go_at: now,
            read: None,
        };
        if let Some((nodes, freeze)) = self.whom_to_ask(case)
            && let Some(term) = self.view.term_value()
        {
            let (epoch, run) = (term.epoch, term.run.clone());
            let id = OpId::take(&mut self.next);
            prep.survey = Some(id);
            prep.frozen = freeze;
            out.push(LeadOut::Survey { id, nodes, freeze, epoch, run });
        }
        self.prep = Some(prep);
    }

    /// Whose positions decide: the sync members frozen, else those who may take, for the rank.
    fn whom_to_ask(&self, case: Case) -> Option<(BTreeSet<NodeName>, bool)> {
        let term = self.view.term_value()?;
        let asks = !matches!(case, Case::Again { open: true } | Case::Forced);
        if !self.view.cluster || !asks {
            return None;
        }
        if self.keeps_all(term) {
            return None;
        }
        if let Some(sync) = self.view.sync_in_force() {
            let mut nodes = counted::asked(sync, &term.node, &self.me.node);
            if let Some(cut) = self.cut_under() {
                nodes.extend(counted::asked(cut, &term.node, &self.me.node));
            }
            return Some((nodes, true));
        }
        let to = self.view.leader_value().and_then(|value| value.to.as_ref());
        let mut nodes: BTreeSet<NodeName> =
            term.eligible.iter().map(|member| member.node.clone()).collect();
        match case {
            Case::Boot | Case::Again { .. } | Case::Forced => return None,
            Case::Clean if to == Some(&self.me.node) => return None,
            Case::Clean => {}
            Case::Waited => {
                nodes.remove(&term.node);
                nodes.insert(self.me.node.clone());
            }
        }
        (nodes.len() > 1).then_some((nodes, false))
    }

    /// Who led the term that is replaced, and whose application has run on since, needs nobody's
    /// answer: every commit that was acknowledged is in its own data first.
    fn keeps_all(&self, term: &TermValue) -> bool {
        let kept = self.standing.as_ref().is_some_and(|standing| standing.kept);
        self.is_own(term) && (kept && self.cut_under().is_none() || mutant::on(Mutant::M40))
    }

    pub(super) fn surveyed(
        &mut self,
        now: At,
        id: OpId,
        answers: &BTreeMap<NodeName, Standpoint>,
        out: &mut Vec<LeadOut>,
    ) {
        let Some(prep) = self.prep.as_mut().filter(|prep| prep.survey == Some(id)) else { return };
        prep.survey = None;
        let (case, frozen) = (prep.case, prep.frozen);
        let counts = self.view.sync_in_force().filter(|_| frozen);
        if let (Some(sync), Some(term)) = (counts, self.view.term_value())
            && let Err(short) = self.count(sync, term, answers)
        {
            self.barred(&Bar::Short(short), now, out);
            self.drop_prep(out);
            self.idle_until = now + BACKOFF;
            return;
        }
        let rank = match case {
            Case::Again { .. } | Case::Forced => 0,
            Case::Boot | Case::Clean | Case::Waited => rank(&self.me.node, answers),
        };
        if let Some(prep) = &mut self.prep {
            prep.go_at = now + Span(self.config.rank_step.0.saturating_mul(rank));
        }
    }

    fn count(
        &self,
        sync: &SyncValue,
        term: &TermValue,
        answers: &BTreeMap<NodeName, Standpoint>,
    ) -> Result<(), Short> {
        if let Some(cut) = self.cut_under() {
            counted::suffices(cut, &self.me.node, &self.me.node, answers)?;
        }
        counted::suffices(sync, &term.node, &self.me.node, answers)
    }

    fn cut_under(&self) -> Option<&SyncValue> {
        let cut = self.standing.as_ref()?.cut_under.as_ref();
        cut.filter(|_| !mutant::on(Mutant::M37))
    }

    fn drive_prep(&mut self, now: At, out: &mut Vec<LeadOut>) {
        let Some(prep) = &self.prep else { return };
        if now.since(prep.started) > SURVEY_LIMIT {
            self.drop_prep(out);
            self.idle_until = now + BACKOFF;
            return;
        }
        let ready = prep.survey.is_none() && prep.go_at <= now && prep.read.is_none();
        match prep.session {
            Step::Wanted => {
                let op = self.create_session(out);
                if let Some(prep) = &mut self.prep {
                    prep.session = Step::Asked(op);
                }
            }
            Step::Asked(_) => {}
            Step::Have(_) if ready => {
                let read = self.read_call();
                let pending = self.read_pending(true);
                let op = self.call(pending, read, None, out);
                if let Some(prep) = &mut self.prep {
                    prep.read = Some(op);
                }
            }
            Step::Have(_) => {}
        }
    }

    pub(super) fn read_call(&self) -> Call {
        Call::Txn(vec![
            Verb::GetTree(self.keys.leader()),
            Verb::GetTree(self.keys.term()),
            Verb::GetTree(self.keys.sync()),
            Verb::GetTree(self.keys.cluster()),
        ])
    }

    pub(super) fn read_pending(&self, prep: bool) -> Pending {
        Pending::Read { known: self.judged(), prep }
    }

    /// The attempt is over before anything was sent. Whoever was frozen for it is told.
    pub(super) fn drop_prep(&mut self, out: &mut Vec<LeadOut>) {
        let Some(prep) = self.prep.take() else { return };
        if let Step::Have(session) = prep.session {
            self.doom(session);
        }
        if prep.frozen {
            out.push(LeadOut::Thaw);
        }
    }
}

/// How many of those who answered go first: position, priority, then name.
fn rank(me: &NodeName, answers: &BTreeMap<NodeName, Standpoint>) -> u64 {
    let key = |node: &NodeName, at: &Standpoint| {
        (std::cmp::Reverse(at.order), std::cmp::Reverse(at.priority), node.clone())
    };
    let Some(own) = answers.get(me).map(|at| key(me, at)) else { return answers.len() as u64 };
    answers.iter().filter(|(node, at)| key(node, at) < own).count() as u64
}
