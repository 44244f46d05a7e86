//! This node's service in Consul: the role as tag and meta, a TTL check of one lease (a replica's:
//! two) that dies with the sidecar.
//!
//! Only the node's own agent is asked: what another writes into the catalog it would revert. Each
//! 30 s the agent is asked whether it still knows us, and as what.

use super::{Node, Owner, State};
use crate::decide::call::{Answer, Call, Registration, StoreError};
use crate::decide::io::Outbox;
use crate::decide::lead::Leadership;
use crate::decide::time::{At, Span};
use crate::decide::types::Epoch;
use std::collections::BTreeMap;

const RECONCILE: Span = Span::secs(30);
const AGAIN: Span = Span::secs(1);
/// How soon the agent is asked after a registration that may come late.
const SOON: Span = Span::secs(2);

/// What of a registration changes; the rest is settled at start.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Shown {
    role: Option<&'static str>,
    epoch: Epoch,
    ttl: Span,
    tags: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Service {
    /// The registration under way, and whether its check passes.
    wanted: Option<(Shown, bool)>,
    registered: Option<Shown>,
    passing: Option<bool>,
    busy: bool,
    next_check: Option<At>,
    next_known: Option<At>,
    retry: Option<At>,
    /// A registration had no answer: it may still be applied, over the next one.
    doubt: bool,
    gone: bool,
}

impl Service {
    pub fn registered(&mut self, now: At, result: Result<Answer, StoreError>) {
        self.busy = false;
        match result {
            Ok(_) => {
                let wanted = self.wanted.clone();
                self.passing = wanted.as_ref().map(|(_, passing)| *passing);
                self.registered = wanted.map(|(shown, _)| shown);
                let look = if self.doubt { SOON } else { RECONCILE };
                self.doubt = false;
                self.next_known = Some(now + look);
            }
            Err(error) => {
                self.registered = None;
                self.retry = Some(now + AGAIN);
                self.doubt |= !error.is_definite();
            }
        }
    }

    pub fn known(&mut self, result: Result<Answer, StoreError>) {
        if result == Ok(Answer::Known(false)) {
            self.registered = None;
        }
    }

    pub fn checked(&mut self, passing: bool, result: Result<Answer, StoreError>) {
        self.busy = false;
        match result {
            Ok(_) => self.passing = Some(passing),
            // The agent may have forgotten us: register again.
            Err(_) => self.registered = None,
        }
    }

    /// The agent keeps the token of a registration and syncs with it: it must hear of the new one.
    pub fn told_by_other_token(&mut self) {
        self.registered = None;
    }

    /// No more registrations; `true` when there was one to take back.
    pub fn forget(&mut self) -> bool {
        self.gone = true;
        self.registered.take().is_some()
    }
}

impl Node {
    pub(crate) fn service_id(&self) -> String {
        format!("{}-{}", self.set.service, self.me())
    }

    fn passing(&self) -> bool {
        self.app.is_some() && self.health.ok && self.state.serves()
    }

    /// What the check says of that.
    fn output(&self, passing: bool) -> String {
        let serves = if passing { "serving" } else { "not serving" };
        format!("{} ({serves})", self.state.name())
    }

    /// The tag that DNS answers by: `primary` only while this node's lease runs.
    pub(crate) fn role_tag(&self) -> Option<&'static str> {
        let open = matches!(self.leadership(), Leadership::Open { .. });
        let primary = (open && self.state == State::Primary).then_some("primary");
        primary.or((self.state == State::Replica).then_some("replica"))
    }

    fn shown(&self) -> Shown {
        let epoch = self.term_seen().map(|term| term.epoch).unwrap_or_default();
        Shown { role: self.role_tag(), epoch, ttl: self.ttl(), tags: self.set.tags.clone() }
    }

    fn registration(&self, shown: &Shown) -> Registration {
        let passing = self.passing();
        let mut meta = BTreeMap::new();
        meta.insert("epoch".to_owned(), shown.epoch.to_string());
        meta.insert("node".to_owned(), self.me().to_string());
        meta.insert("role".to_owned(), shown.role.unwrap_or("none").to_owned());
        let tags = shown.role.into_iter().map(str::to_owned).chain(shown.tags.iter().cloned());
        Registration {
            id: self.service_id(),
            service: self.set.service.clone(),
            address: self.set.address.clone(),
            port: self.set.app_port,
            tags: tags.collect(),
            meta,
            ttl: shown.ttl,
            passing,
            output: self.output(passing),
        }
    }

    pub(crate) fn tend_service(&mut self, now: At, out: &mut Outbox) {
        let settled = self.app.is_some() || self.service.registered.is_some();
        if self.service.busy || self.service.gone || !settled || self.set.service.is_empty() {
            return;
        }
        if self.service.retry.is_some_and(|at| now < at) {
            return;
        }
        self.service.retry = None;
        let (shown, passing) = (self.shown(), self.passing());
        if self.service.registered.as_ref() != Some(&shown) {
            let registration = self.registration(&shown);
            self.service.busy = true;
            self.service.wanted = Some((shown, passing));
            self.service.next_check = Some(now + self.check_step());
            self.call(Owner::Register, Call::Register(registration), out);
            return;
        }
        let flipped = self.service.passing != Some(passing);
        if flipped || self.service.next_check.is_none_or(|next| now >= next) {
            self.service.busy = true;
            self.service.next_check = Some(now + self.check_step());
            let (id, output) = (self.service_id(), self.output(passing));
            let call = Call::CheckUpdate { id, passing, output };
            self.call(Owner::Check { passing }, call, out);
            return;
        }
        if self.service.next_known.is_some_and(|next| now >= next) {
            self.service.next_known = Some(now + RECONCILE);
            let registration = self.registration(&shown);
            self.call(Owner::Known, Call::Registered(registration), out);
        }
    }

    /// A dead sidecar's `primary` must be gone from DNS when another node takes; its `replica` may
    /// stay a little longer, and costs half the requests for it.
    fn ttl(&self) -> Span {
        let lease = self.set.lead.lease;
        if self.role_tag() == Some("primary") { lease } else { lease + lease }
    }

    /// How often it is fed: two fifths are left for an agent that is slow.
    fn check_step(&self) -> Span {
        Span(self.ttl().0 * 3 / 5)
    }
}
