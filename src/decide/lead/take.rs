//! May this node try, and when (rules 9 to 11, 13, 18).
//!
//! [`Lead::judge`] is one reading of the view; it answers with the case, or with what bars this
//! node.

use super::super::reason::Reason;
use super::super::records::{LeaderValue, LockState, TermValue};
use super::super::time::{At, Span};
use super::super::types::{Epoch, Index, NodeName};
use super::counted::Short;
use super::machine::Lead;
use super::mutant::{self, Mutant};
use super::view::{Body, Slot, wait_for};
use super::{Disk, Standing};
use std::collections::BTreeSet;

/// How long others leave the preferred successor alone.
const TO_GRACE: Span = Span::secs(1);

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
    pub(super) fn is_own(&self, term: &TermValue) -> bool {
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
}
